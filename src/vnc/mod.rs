//! Being built.

pub mod config;

pub use config::{RfbAddress, RfbSource};
