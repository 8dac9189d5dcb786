//! Where the picture comes from, already checked.

use std::fmt;
use std::path::PathBuf;

/// The RFB server behind the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RfbSource {
    /// The display itself, served by us.
    Native,
    /// x11vnc under our supervision, on a Unix socket.
    X11vnc {
        /// Path of x11vnc.
        program: PathBuf,
    },
    /// A server that somebody else runs.
    External(RfbAddress),
}

/// Where an RFB server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RfbAddress {
    /// A Unix socket.
    Unix(PathBuf),
    /// A Unix socket of a server that runs as this uid. Its directory is the server's own, so a link could stand there to
    /// another session's: whoever listens must have this uid.
    Owned {
        /// Where.
        socket: PathBuf,
        /// Whose.
        uid: u32,
    },
    /// A TCP host and port, resolved at each connection.
    Tcp(String, u16),
}

impl fmt::Display for RfbAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) | Self::Owned { socket: path, .. } => write!(f, "unix:{}", path.display()),
            Self::Tcp(host, port) if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "tcp:{host}:{port}"),
        }
    }
}
