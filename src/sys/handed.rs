//! Listeners that a service manager has opened and hands over (sd_listen_fds(3)).

use std::io;
use std::net::TcpListener;

use nix::sys::socket::{SockType, getsockopt, sockopt};
use rustix::fd::{FromRawFd as _, OwnedFd};

/// A TCP socket that listens.
#[derive(Debug)]
pub struct Handed {
    /// What it is called: `FileDescriptorName=` of its socket unit.
    pub name: String,
    /// It. Waits for nothing, and is closed on exec.
    pub listener: TcpListener,
}

/// Why what is handed over cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum HandedError {
    /// The variables do not fit together or to what is open, or it was asked too late.
    #[error("what LISTEN_FDS tells of listeners does not hold")]
    Told(#[source] io::Error),
    /// Something else than a TCP socket that listens.
    #[error("what is handed over as {name:?} is no TCP socket that listens")]
    Other {
        /// What it is called.
        name: String,
    },
    /// It cannot be prepared.
    #[error("cannot take the listener {name:?}")]
    Listener {
        /// What it is called.
        name: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Takes what is handed over to this process: nothing where the variables are not there, or another's. They are gone afterwards.
/// To be called once, before there is another thread.
///
/// # Errors
/// See [`HandedError`].
pub fn handed_over() -> Result<Vec<Handed>, HandedError> {
    if std::env::var_os("LISTEN_PID").is_none() {
        return Ok(Vec::new());
    }
    let threads = std::fs::read_dir("/proc/self/task").map_err(HandedError::Told)?.count();
    if threads != 1 {
        return Err(HandedError::Told(io::Error::other("other threads run already")));
    }
    #[expect(unsafe_code, reason = "the environment has no safe way to lose a variable")]
    // SAFETY: this is the only thread, so that nobody else reads the environment.
    let told = unsafe { sd_notify::listen_fds_with_names_and_unset_env() }.map_err(HandedError::Told)?;
    told.map(|(number, name)| {
        #[expect(unsafe_code, reason = "a descriptor that was inherited is known by its number alone")]
        // SAFETY: the number was just found open, and made close-on-exec. The variables said that it is for this process, which
        // has opened nothing that it kept; and they are gone, so that nobody takes it a second time.
        let fd = unsafe { OwnedFd::from_raw_fd(number) };
        take(fd, name)
    })
    .collect()
}

fn take(fd: OwnedFd, name: String) -> Result<Handed, HandedError> {
    let listens = getsockopt(&fd, sockopt::SockType) == Ok(SockType::Stream)
        && getsockopt(&fd, sockopt::AcceptConn) == Ok(true);
    let listener = TcpListener::from(fd);
    // One of another family has no such address.
    if !listens || listener.local_addr().is_err() {
        return Err(HandedError::Other { name });
    }
    match listener.set_nonblocking(true) {
        Ok(()) => Ok(Handed { name, listener }),
        Err(source) => Err(HandedError::Listener { name, source }),
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn only_a_tcp_socket_that_listens_is_taken() {
        let good = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = good.local_addr().unwrap();
        let taken = take(good.into(), "gateway".into()).unwrap();
        assert_eq!((taken.name.as_str(), taken.listener.local_addr().unwrap()), ("gateway", address));
        let connected = std::net::TcpStream::connect(address).unwrap();
        assert!(taken.listener.accept().is_ok());
        assert_eq!(taken.listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let dir = tempfile::tempdir().unwrap();
        let others: [OwnedFd; 5] = [
            connected.into(),
            UdpSocket::bind("127.0.0.1:0").unwrap().into(),
            UnixListener::bind(dir.path().join("socket")).unwrap().into(),
            UnixStream::pair().unwrap().0.into(),
            std::fs::File::open("/dev/null").unwrap().into(),
        ];
        for other in others {
            let refused = take(other, "api".into()).unwrap_err();
            assert!(matches!(&refused, HandedError::Other { name } if name == "api"), "{refused}");
        }
    }
}
