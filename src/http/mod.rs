//! What both listeners share: accepting within limits, TLS, HTTP/1.1, request ids, problem details, graceful drain. And a
//! client for servers on this host.
//!
//! Knows no routes and no credentials. **Invariant:** a connection is bounded in number, size and time before anybody has
//! looked at a credential; one deadline covers the TLS handshake and the first request's head.

pub mod body;
mod caps;
mod client;
mod connection;
mod io;
mod metrics;
mod names;
mod problem;
mod request;
mod server;
#[cfg(test)]
mod tests;
mod text;
mod tls;

pub use body::Body;
pub use client::{GetError, OpenError, get, open_websocket, send, send_for};
pub use io::{Io, Listener, Peer, PeerAddress, listen};
pub use metrics::Metrics;
pub use names::Names;
pub use problem::{Mistake, Place, Problem};
pub use request::RequestId;
pub use server::{Limits, Reply, Server, Upgrade, Upgraded, serve};
pub use text::{TextError, text};
pub use tls::{Tls, TlsError};
