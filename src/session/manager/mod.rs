//! The one actor that owns all sessions of the host: it admits, orders, keeps spares, and lets go. Each session's own task
//! does the rest ([`super::life`]).

mod actor;
mod admit;
mod dismiss;
mod handoffs;
mod place;
mod profiles;
mod queue;
mod start;
mod upkeep;

pub use start::{Autostart, Manager, Params};
