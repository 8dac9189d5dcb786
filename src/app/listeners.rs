//! Listeners that were open before the daemon: which of them is whose.

use std::net::{SocketAddr, TcpListener};

use crate::config::Config;
use crate::sys::Handed;

/// What a socket unit of the gateway calls its descriptor.
const GATEWAY: &str = "gateway";
/// The operators' side.
const API: &str = "api";

/// Listeners that a service manager keeps over restarts; what is not there, the daemon opens.
#[derive(Debug, Default)]
pub struct Listeners {
    pub(super) gateway: Option<TcpListener>,
    pub(super) api: Option<TcpListener>,
}

/// Why a listener that is handed over is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ListenersError {
    /// No part of the daemon is called so.
    #[error("a listener called {0:?} is handed over: FileDescriptorName= must be gateway or api")]
    Unknown(String),
    /// Each has one.
    #[error("two listeners called {0:?} are handed over: a socket unit of valetd has one ListenStream=")]
    Twice(String),
    /// The configuration says otherwise.
    #[error(
        "{name}.listen = {configured}, and the listener that is handed over is at {open}: they must be alike"
    )]
    Elsewhere {
        /// Whose.
        name: &'static str,
        /// Where it should be.
        configured: SocketAddr,
        /// Where it is.
        open: SocketAddr,
    },
    /// It cannot be asked where it is.
    #[error("cannot tell where a listener is that is handed over")]
    Address(#[source] std::io::Error),
}

impl Listeners {
    /// Gives each that is handed over to whom it is called after, where the configuration has them listen.
    ///
    /// # Errors
    /// See [`ListenersError`].
    pub fn assign(handed: Vec<Handed>, config: &Config) -> Result<Self, ListenersError> {
        let mut listeners = Self::default();
        for Handed { name, listener } in handed {
            let (whose, place, configured) = match name.as_str() {
                GATEWAY => (GATEWAY, &mut listeners.gateway, config.gateway.listen),
                API => (API, &mut listeners.api, config.api.listen),
                _ => return Err(ListenersError::Unknown(name)),
            };
            let open = listener.local_addr().map_err(ListenersError::Address)?;
            if open != configured {
                return Err(ListenersError::Elsewhere { name: whose, configured, open });
            }
            if place.replace(listener).is_some() {
                return Err(ListenersError::Twice(name));
            }
        }
        Ok(listeners)
    }
}
