//! AdsPower, an app that opens browsers with identities of its own: what is known of it, and how it is asked.

pub mod client;
mod ids;

pub use ids::{BadProfileId, ProfileId};
