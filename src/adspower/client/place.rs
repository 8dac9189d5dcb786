//! Where the API is.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpStream;

use crate::sys::{Listener, connect_to_known};

/// A port and the very socket that AdsPower listens on there. Anybody on the host may listen on the port once that is closed,
/// and whoever is asked is shown the API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    port: u16,
    socket: Listener,
}

impl Place {
    /// One of which it was looked at who holds the socket.
    pub fn new(port: u16, socket: Listener) -> Self {
        Self { port, socket }
    }

    /// The port.
    pub fn port(self) -> u16 {
        self.port
    }

    /// What to connect to, and what to name as `Host`.
    pub fn address(self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Connects to AdsPower and to nobody else. The caller sets the deadline.
    ///
    /// # Errors
    /// When nobody listens; when somebody else does, `PermissionDenied`.
    pub async fn connect(self) -> io::Result<TcpStream> {
        connect_to_known(self.port, |found| self.check(found)).await
    }

    fn check(self, found: Option<Listener>) -> io::Result<Listener> {
        let port = self.port;
        match found {
            Some(found) if found == self.socket => Ok(found),
            Some(found) => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("port {port} changed hands: uid {} listens there", found.uid),
            )),
            None => Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                format!("nobody listens on port {port} any more"),
            )),
        }
    }
}
