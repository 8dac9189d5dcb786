//! The daemon as a whole: build (bind, nothing served yet), run, drain.

mod daemon;
mod drain;
mod error;
mod ground;
mod listeners;
mod reload;
mod wait;

pub use daemon::{Addresses, App};
pub use error::Error;
pub use ground::filter;
pub use listeners::{Listeners, ListenersError};
pub use reload::{ReadAgain, Reload, SetLevel};
