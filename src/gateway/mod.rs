//! The public listener: who may enter, and RFB and CDP over WebSocket for those who may.
//!
//! A request goes through [`routes`], a proof from `gate`, and only then a handler. **Invariants:** a handler of a private
//! route takes a proof and nothing else makes one; nothing that a client sends goes to a session before our own 101; the
//! gateway never learns how a session shows its picture.

mod assets;
mod cdp;
mod close;
pub mod config;
mod credential;
mod forwarded;
mod gate;
mod handoffs;
mod metrics;
mod origin;
mod refused;
pub mod routes;
mod screenshot;
mod server;
mod socket;
#[cfg(test)]
mod tests;
pub mod upgrade;
mod viewer;
mod wire;

pub use config::Config;
pub use gate::ViewerCounts;
pub use server::{Error, Gateway, GatewayHandle};
