//! Who may do what: tokens, keys, tickets. Pure: the time and the randomness are passed in.

pub mod config;
mod role;

pub use config::{Algorithm, Config, JwksUrl, KeyConfig};
pub use role::{Role, UnknownRole};
