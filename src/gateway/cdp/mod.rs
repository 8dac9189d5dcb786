//! CDP for automations: discovery over HTTP, and the protocol itself over WebSocket.
//!
//! **Invariant:** the browser is reached at the port that its supervisor names and nowhere else; nothing that a client sends
//! goes there before our own 101, and nothing of a filtered role that the policy has not judged.

mod connect;
mod discover;
mod down;
mod held;
mod live;
mod metrics;
mod survey;
mod up;

pub(super) use connect::connect;
pub(super) use discover::discover;
pub(super) use live::{Live, run};
pub(super) use metrics::Metrics;
