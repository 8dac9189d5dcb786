//! Settings of the operators' side, already checked.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Where health, metrics and the host API are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// TCP listener.
    pub listen: SocketAddr,
    /// Unix socket for `valetd status` and its kin; callers are known by their peer credentials.
    pub socket: PathBuf,
}
