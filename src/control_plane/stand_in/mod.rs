//! A control plane to try things out with: it takes what hosts report, shows it on a page, and does nothing with it. `valetd dev`
//! runs one, and so do tests, which can have it fail on purpose: only whoever makes it can, nobody by asking it.

mod book;
mod page;
mod server;

pub use book::{Book, Conduct, Taken};
pub use server::{StandIn, StandInError};
