//! The X server of a session: Xvfb as a service, and its access control.
//!
//! **Invariant:** no display runs without a cookie, and only its session's uid and the daemon can read that cookie.

mod auth;
mod authority;
mod client;
pub mod config;
mod connection;
mod framebuffer;
mod number;
mod randr;
pub mod screen;
mod xvfb;

pub use auth::Cookie;
pub use authority::Authority;
pub use config::{Bounds, Config};
pub use connection::{Connection, Error};
pub use number::{Reservation, ReserveError};
pub use xvfb::{Address, Display, Xvfb};
