//! Settings of the gateway, already checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use super::forwarded::{BadNetwork, Network};

/// Settings of the public listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where browsers reach it, without a slash at its end; none: at the address that it listens on.
    pub public_url: Option<String>,
    /// TLS, where a certificate is configured; otherwise something in front of us ends it.
    pub tls: Option<TlsFiles>,
    /// Origins that may open a WebSocket, exactly as browsers send them (`https://app.example.org`). Empty: our own only.
    pub allowed_origins: Vec<String>,
    /// Proxies in front of us, whose `Forwarded` and `X-Forwarded-*` say how the gateway is called from outside.
    pub trusted_proxies: Vec<Network>,
    /// A noVNC tree to serve under `/novnc/` in place of the embedded one.
    pub static_dir: Option<PathBuf>,
    /// Bounds and deadlines.
    pub limits: Limits,
    /// What automations may not do.
    pub cdp: crate::cdp::Settings,
}

/// A certificate chain and its key, both PEM. Read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain, leaf first.
    pub certificate: PathBuf,
    /// PKCS #8, SEC1 or PKCS #1 key.
    pub private_key: PathBuf,
}

/// Bounds of the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all, viewers included.
    pub max_connections: usize,
    /// Connections from one address (IPv4 address or IPv6 /64).
    pub max_connections_per_address: usize,
    /// Connections that have not presented a good credential yet.
    pub max_unauthenticated: usize,
    /// Viewers of one session.
    pub max_viewers_per_session: usize,
    /// CDP connections of one session.
    pub max_cdp_connections_per_session: usize,
    /// Size of a request's head, in bytes.
    pub max_header_bytes: usize,
    /// From accept to the end of the request's head, TLS handshake included; and for each further request.
    pub handshake_deadline: Duration,
    /// Between our pings.
    pub ping_interval: Duration,
    /// For the pong.
    pub pong_deadline: Duration,
    /// For a viewer to take one chunk of the picture (at most 64 KiB), or an automation anything; then it is too slow.
    pub send_deadline: Duration,
    /// A viewer that sends no input for so long is closed with 4408; `None`: never.
    pub idle_timeout: Option<Duration>,
}
