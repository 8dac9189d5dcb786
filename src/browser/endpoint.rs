//! Where a browser's DevTools are reached: a port that is chosen for it, and the proof that the browser is what answers
//! there. Anybody on the host may listen on a free port of the range, and DevTools have no password, so that whoever is
//! reached in a browser's stead would be handed what is meant for it.

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpStream;

use crate::sys::{Listener, connect_to_known};

/// The DevTools of one run of a browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    port: u16,
    uid: u32,
    /// The very socket, where it was looked at who holds it.
    socket: Option<Listener>,
}

impl Endpoint {
    /// Those on `port` of loopback, of a browser that runs as `uid`.
    pub fn new(port: u16, uid: u32) -> Self {
        Self { port, uid, socket: None }
    }

    /// Those that are served through this socket, of a browser that others share a uid with: who holds it was found out.
    pub fn pinned(port: u16, socket: Listener) -> Self {
        Self { port, uid: socket.uid, socket: Some(socket) }
    }

    /// The port.
    pub fn port(self) -> u16 {
        self.port
    }

    /// What to connect to, and what to name as `Host`: Chromium refuses names that it does not know.
    pub fn address(self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Connects to the browser and to nobody else.
    ///
    /// # Errors
    /// When nobody listens, or somebody else does: then `PermissionDenied`, with whom in its text.
    pub async fn connect(self) -> io::Result<TcpStream> {
        connect_to_known(self.port, |found| self.check(found)).await
    }

    fn check(self, found: Option<Listener>) -> io::Result<Listener> {
        match found {
            Some(listener) if self.socket.is_some_and(|socket| socket != listener) => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("DevTools port {} is served by another socket than the browser's", self.port),
            )),
            Some(listener) if listener.uid == self.uid => Ok(listener),
            Some(Listener { uid, .. }) => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "DevTools port {} is served by uid {uid}, not by the browser of uid {}",
                    self.port, self.uid
                ),
            )),
            None => Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                format!("nobody listens on DevTools port {}", self.port),
            )),
        }
    }
}

/// The loopback ports that the browsers of a host share.
#[derive(Debug)]
pub struct Ports {
    range: RangeInclusive<u16>,
    /// Of browsers that run or start. Between our choice and Chromium's bind a port looks free to everybody.
    taken: Mutex<HashSet<u16>>,
}

impl Ports {
    /// All of `range`, for one daemon.
    pub fn new(range: RangeInclusive<u16>) -> Arc<Self> {
        Arc::new(Self { range, taken: Mutex::default() })
    }

    /// A port that was free a moment ago, kept from our other browsers for as long as what this gives. Chromium is given a
    /// number of our choice, since with port 0 it would show `navigator.webdriver` to every page. The search begins at
    /// random: nobody can tell which port to lie in wait on.
    ///
    /// # Errors
    /// `AddrInUse` when none is free.
    pub(super) fn choose(self: &Arc<Self>) -> io::Result<Port> {
        let mut random = [0; 2];
        aws_lc_rs::rand::fill(&mut random).map_err(io::Error::other)?;
        let (first, count) = (*self.range.start(), u32::from(self.range.end() - self.range.start()) + 1);
        let random = u32::from(u16::from_be_bytes(random));
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        for step in 0..count {
            let number = first + u16::try_from((random + step) % count).unwrap_or_default();
            // Closed again before anybody connected: no TIME_WAIT is left behind.
            if !taken.contains(&number) && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                taken.insert(number);
                return Ok(Port { number, ports: Arc::clone(self) });
            }
        }
        Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("all of {}-{} are in use", self.range.start(), self.range.end()),
        ))
    }
}

/// A port that no other browser of ours gets.
#[derive(Debug)]
pub(super) struct Port {
    number: u16,
    ports: Arc<Ports>,
}

impl Port {
    pub(super) fn number(&self) -> u16 {
        self.number
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.ports.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::listener;

    fn own_uid() -> u32 {
        nix::unistd::geteuid().as_raw()
    }

    #[tokio::test]
    async fn it_connects_to_the_browsers_uid_only() {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        Endpoint::new(port, own_uid()).connect().await.unwrap();
        let error = Endpoint::new(port, own_uid() + 1).connect().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let expected = format!("DevTools port {port} is served by uid {}", own_uid());
        assert!(error.to_string().starts_with(&expected), "{error}");
        drop(socket);
        let error = Endpoint::new(port, own_uid()).connect().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn f26_it_connects_to_a_pinned_socket_and_to_no_other_on_its_port() {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let endpoint = Endpoint::pinned(port, listener(port).unwrap().unwrap());
        drop(endpoint.connect().await.unwrap());
        drop(socket.accept().unwrap());
        drop(socket);
        assert_eq!(endpoint.connect().await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let _another = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let error = endpoint.connect().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
    }

    #[test]
    fn a_port_is_given_to_one_browser_and_comes_back() {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let ports = Ports::new(port..=port);
        let error = ports.choose().unwrap_err();
        assert_eq!(error.to_string(), format!("all of {port}-{port} are in use"));
        drop(socket);
        let chosen = ports.choose().unwrap();
        assert_eq!(chosen.number(), port);
        assert_eq!(ports.choose().unwrap_err().kind(), io::ErrorKind::AddrInUse, "though nobody listens");
        drop(chosen);
        assert_eq!(ports.choose().unwrap().number(), port);
    }
}
