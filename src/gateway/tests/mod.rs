//! The gateway over real sockets.

mod entry;
mod flood;
mod keys;
mod live;
mod support;
