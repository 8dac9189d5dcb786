//! The operators' side: health, readiness and metrics for anybody, and the host API for operators, who show a token on TCP
//! and their credentials on a Unix socket.
//!
//! A request goes through [`routes`], a proof from `access`, and only then a handler. **Invariants:** what anybody may read on
//! the TCP listener holds nothing secret; a handler of a private route takes an `Operator`, which nothing else makes.

mod access;
mod answer;
pub mod config;
mod connection;
mod create;
mod describe;
mod docs;
mod handoffs;
mod host;
mod metrics;
mod operations;
mod profiles;
mod read;
mod refused;
pub mod routes;
mod server;
mod sessions;
mod stream;
mod view;
mod watching;

pub use config::Config;
pub use server::{Api, Error, Params};
