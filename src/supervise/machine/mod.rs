//! What to do with a group of services: decided here, carried out by the [actor](super::actor).
//!
//! Pure: events, `Instant`s and random numbers come in, actions go out. Each service has what is wanted of it (`desired`)
//! and what it is (`actual`), and each run of it has a number, so that a late answer is not taken for a new one.
//!
//! ```text
//! Stopped ─► Waiting ─► Launching ─► Starting ─► Up ⇄ Up with misses
//!              ▲  ▲          │           │        │
//!              │  │          │           └──►  Ending: Asking ► Terminating ► Killing ► CleaningUp
//!              │  └─ BackingOff ◄────────────────┤ failure
//!              └─────────────────────────────────┤ a requirement went, or a restart was asked for
//!            Stopped ◄───────────────────────────┘ not wanted any more
//! ```
//!
//! A run ends one way only, whatever the reason: all of its cell is killed, seen empty, and cleaned up after.

mod group;
mod run_events;
mod service;
mod settle;
mod vocabulary;

#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod tests;

pub use group::Machine;
pub use vocabulary::{Action, Event, GraphError, Illegal, Node, Report, RunEvent, RunId, Todo, View};
