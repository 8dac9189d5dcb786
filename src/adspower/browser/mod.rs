//! A session's browser, which AdsPower opens and which draws on the session's own display. [`machine`] decides, `driver`
//! carries out, `open` has one opened, `close` ends one.

mod close;
mod driver;
pub mod machine;
mod open;

pub use driver::{Browser, Order, Status};
pub use machine::State;
