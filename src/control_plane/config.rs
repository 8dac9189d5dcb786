//! Settings of `[control_plane]`, already checked.

use std::path::PathBuf;
use std::time::Duration;

use crate::secret::Secret;

/// Where Fly's machines have their own API.
pub const FLY_SOCKET: &str = "/.fly/api";

/// The control plane, and how to talk to it.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it is, without a slash at its end: https, or http on loopback.
    pub url: String,
    /// What this host shows.
    pub auth: Auth,
    /// Certificates in PEM that its own must come from, in place of the system's.
    pub ca: Option<Vec<u8>>,
    /// How often it hears of this host when nothing happens.
    pub heartbeat: Duration,
}

/// What a host shows to say who it is.
#[derive(Debug, Clone)]
pub enum Auth {
    /// A credential of its own.
    Bearer(Secret<String>),
    /// A token that Fly signs for its machine.
    FlyOidc {
        /// Whom the token is for.
        audience: String,
        /// The machine's own API.
        socket: PathBuf,
    },
    /// A certificate, in the TLS handshake.
    Mtls {
        /// The certificate and those above it, in PEM.
        certificate: Vec<u8>,
        /// Its key, in PEM.
        key: Secret<Vec<u8>>,
    },
}

impl Auth {
    /// The kind as the configuration writes it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Bearer(_) => "bearer",
            Self::FlyOidc { .. } => "fly_oidc",
            Self::Mtls { .. } => "mtls",
        }
    }
}

/// What is not secret, compared by value, and what is, likewise: both are this host's own.
impl PartialEq for Auth {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bearer(own), Self::Bearer(other)) => own.expose() == other.expose(),
            (
                Self::FlyOidc { audience, socket },
                Self::FlyOidc { audience: other_audience, socket: other_socket },
            ) => (audience, socket) == (other_audience, other_socket),
            (
                Self::Mtls { certificate, key },
                Self::Mtls { certificate: other_certificate, key: other_key },
            ) => certificate == other_certificate && key.expose() == other_key.expose(),
            _ => false,
        }
    }
}
