//! A session: display, RFB server and browser as one thing that a viewer can be let into.
//!
//! **Invariant:** [`Manager`] alone starts and stops sessions; everybody else holds a [`Session`] and watches. A viewer
//! is served through a [`ViewerTicket`] and never learns what is behind it.

pub mod config;
mod external;
mod launch;
mod manager;
mod places;
#[cfg(test)]
pub(crate) mod stand_in;
mod status;
mod viewer;

pub use config::{Config, HostConfig};
pub use launch::Error as LaunchError;
pub use manager::{Error, Manager, ManagerHandle, Unresponsive};
pub use status::{Component, ComponentStatus, SessionState, SessionStatus};
pub use viewer::{Facts, NotReady, Session, Sessions, ViewerEnd, ViewerTicket, Viewers};
