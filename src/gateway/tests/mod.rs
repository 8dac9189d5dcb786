//! The gateway over real sockets.

mod browser;
mod cdp;
mod entry;
mod flood;
mod keys;
mod live;
mod support;
