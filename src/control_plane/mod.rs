//! The line to the control plane: registration, heartbeats and events, sent by this host and never asked for by remote input.
//!
//! [`line`] decides, the task in `actor` carries out. Events wait in the store, from the transaction that wrote down what they
//! tell of until they are acknowledged. **Invariants:** an event is sent when it is on disk and not before, and of a session
//! not before the one ahead of it was acknowledged; a control plane that cannot be reached changes nothing for anybody; one
//! that refuses this host keeps it from taking sessions, and touches none that is there; nothing that it answers sets an
//! argument, a uid or a path.

mod actor;
mod client;
pub mod config;
mod credential;
mod describe;
mod intake;
mod line;
mod mark;
mod metrics;
mod payload;
mod reply;
mod report;
pub mod stand_in;

pub use actor::{ControlPlane, Error, LineHandle, Renewal};
pub use client::usable;
pub use config::{Auth, Config};
pub use describe::document;
pub use payload::{Backlog, Event, Events, Heartbeat, Origin, Receipt, Registration, ReportedSession, Taken};
pub use report::Subject;
