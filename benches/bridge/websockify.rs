//! Debian's websockify.

use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Door, Viewer};
use crate::procstat::Tree;
use crate::support::process::Process;
use crate::{Bridge, Outcome, rest};

/// For Python to start.
const READY: Duration = Duration::from_secs(20);

/// A websockify that leads to the server.
pub(crate) struct Websockify {
    process: Process,
    address: SocketAddr,
}

impl Websockify {
    /// `None` where it is not installed.
    pub(crate) fn start(backend: SocketAddr) -> Outcome<Option<Self>> {
        // It cannot choose a port itself. Another program could take this one first; then the wait below fails.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut process = match Process::start("websockify", &[address.to_string(), backend.to_string()]) {
            Ok(process) => process,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if let Some(mut stderr) = process.take_stderr() {
            // Nobody joins it: it ends when websockify does.
            thread::Builder::new().name("websockify log".into()).spawn(move || {
                let mut dropped = [0; 4096];
                while matches!(stderr.read(&mut dropped), Ok(1..)) {}
            })?;
        }
        let mut found = Self { process, address };
        let deadline = Instant::now() + READY;
        while let Err(error) = Viewer::connect(&found.door()).and_then(Viewer::leave) {
            if found.process.ended() || Instant::now() > deadline {
                return Err(format!("websockify does not serve: {error}").into());
            }
            rest(Duration::from_millis(50));
        }
        Ok(Some(found))
    }

    pub(crate) fn bridge(&self) -> Bridge {
        Bridge { door: self.door(), tree: Tree { root: self.process.pid() } }
    }

    fn door(&self) -> Door {
        Door::WebSocket { address: self.address, path: "/".to_owned(), protocols: "binary".to_owned() }
    }
}
