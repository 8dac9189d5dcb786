//! Sessions: display, RFB server and browser as one thing that people and automations can be let into.
//!
//! **Invariant:** the [`Manager`]'s task alone decides which sessions there are, and each session's own task alone starts
//! and stops what is in it; everybody else asks, or holds a [`Session`] and watches. A viewer is served through a
//! [`ViewerTicket`] and never learns what is behind it.

mod admission;
mod adspower;
mod cdp;
pub mod config;
mod directory;
mod ends;
mod events;
mod external;
mod handle;
mod handoff;
mod launch;
mod ledger;
mod life;
mod manager;
mod places;
mod profiles;
mod publish;
mod record;
mod repeats;
mod request;
mod roster;
mod screenshot;
mod slots;
mod spares;
mod spec;
#[cfg(test)]
pub(crate) mod stand_in;
mod status;
mod telling;
mod viewer;

pub use admission::Denial;
pub use adspower::{adspower, adspower_component, start_adspower};
pub use cdp::{AutomationCount, BrowserEnd, CdpPaths};
pub use config::{Capacity, Config, HostConfig, Isolation, Network, Rules};
pub use directory::{Occupancy, Sessions};
pub use events::{Batch, Event, Events, Happening};
pub use handle::{AmendError, CreateError, Created, HandoffError, ManagerHandle, Stopped, Unresponsive};
pub use handoff::{
    Answer, Closing, Decision, Handoff, HandoffDenial, HandoffKind, Handoffs, MAX_NOTE_BYTES,
    MAX_REASON_BYTES, NewHandoff, Outcome, check_words,
};
pub use launch::Error as LaunchError;
pub use ledger::Ledger;
pub use life::Error;
pub use manager::{Autostart, Manager, Params};
pub use places::Error as PlacesError;
pub use profiles::{ProfileError, ProfileStatus};
pub use record::{Cause, End, SessionRecord, Warmth};
pub use request::{Amendment, CreateRequest, Idempotency, Kind, MOST_LABELS};
pub use roster::{ScreenFigures, ViewerFigures, ViewerRecord};
pub use screenshot::ScreenshotError;
pub use status::{Component, ComponentStatus, SessionState, SessionStatus};
pub use viewer::{Facts, NotReady, Session, ViewerEnd, ViewerTicket, Viewers};
