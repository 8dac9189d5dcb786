//! AdsPower, an app that opens browsers with identities of its own: how it is run, how it is asked, and the browsers that
//! sessions have of it.
//!
//! **Invariant:** a browser of it is connected to only after it was seen that one of AdsPower's own processes listens there.

mod app;
pub mod browser;
pub mod client;
pub mod config;
mod files;
mod ground;
mod holds;
mod ids;
mod metrics;
mod service;
mod site;
pub mod stand_in;
mod version;

pub use client::proxy;
pub use config::Config;
pub use files::Files;
pub use ground::GroundError;
pub use ids::{BadProfileId, ProfileId};
pub use service::{AdsPower, Params, Running, SERVICE, SetupError, StartError};
pub use version::{BadVersion, Version};
