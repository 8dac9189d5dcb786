//! The keys that tokens are judged by: from the configuration and, where one is named, from a JWK set that is fetched and
//! kept fresh. Both listeners judge by the same ones.

mod jwks;
mod keys;

pub use jwks::run as keep_fresh;
pub use keys::{Current, Keys};
