//! The operators' side: health, readiness, metrics, and on a Unix socket the details.
//!
//! **Invariant:** what anybody may read on the TCP listener holds nothing secret; everything else needs peer credentials.

mod access;
pub mod config;
mod health;
mod metrics;
mod routes;
mod server;

pub use config::Config;
pub use health::{Health, HealthComponent, HealthStatus};
pub use server::{Api, Error};
