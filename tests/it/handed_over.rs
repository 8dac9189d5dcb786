//! Listeners that whoever starts the daemon keeps open over its restarts, as systemd does with socket units.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::daemon::{Daemon, Home, READY};
use crate::support::sockets::tcp_listeners;
use crate::support::tokens::token;
use crate::support::viewer::{Viewer, get};
use crate::support::{leaks, wait_for};

const PATIENCE: Duration = Duration::from_secs(60);

/// Starts a daemon with descriptors 3 and 4, and says that the first `names.len()` of them are handed over. A shell gives them
/// their numbers, and becomes the daemon.
fn start(home: &Home, names: &[&str], third: impl Into<OwnedFd>, fourth: impl Into<OwnedFd>) -> Daemon {
    let script = "exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_PID=$$ exec \"$0\" run --config \"$1\"";
    #[expect(clippy::disallowed_methods, reason = "the test is the daemon's parent, as systemd would be")]
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_valetd")]).arg(home.0.path().join("valetd.toml"));
    command
        .env_remove("NOTIFY_SOCKET")
        .env("LISTEN_FDS", names.len().to_string())
        .env("LISTEN_FDNAMES", names.join(":"));
    home.start_by(command.stdin(Stdio::from(third.into())).stdout(Stdio::from(fourth.into())))
}

fn configure(home: &Home, gateway: SocketAddr, api: SocketAddr) {
    let native = "[browser]\nenabled = false\n[display]\nrfb = \"native\"\n";
    home.configure(&format!("{native}[gateway]\nlisten = \"{gateway}\"\n[api]\nlisten = \"{api}\"\n"));
}

#[test]
fn a_restart_refuses_nobody() {
    let home = Home::new();
    let [gateway, api] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [at_gateway, at_api] = [&gateway, &api].map(|listener| listener.local_addr().unwrap());
    configure(&home, at_gateway, at_api);
    let start = || {
        let listeners = [&api, &gateway].map(|listener| listener.try_clone().unwrap());
        let [third, fourth] = listeners;
        start(&home, &["api", "gateway"], third, fourth)
    };
    let mut daemon = start();
    daemon.wait_ready();
    assert_eq!((daemon.gateway(), daemon.api()), (at_gateway, at_api));
    assert!(Viewer::connect(at_gateway, "s1", &token("spectator", 60)).is_ok());
    let children: Vec<_> = leaks::processes(&daemon.dir)
        .into_iter()
        .map(|(pid, _command)| pid)
        .filter(|pid| *pid != daemon.pid().cast_signed())
        .collect();
    assert!(!children.is_empty());
    assert_eq!(tcp_listeners(&children), [].into(), "the daemon's alone");
    daemon.stop(PATIENCE);

    // There is no daemon. Whoever comes now waits.
    let mut early = TcpStream::connect(at_api).unwrap();
    early.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    early.set_read_timeout(Some(READY)).unwrap();
    let mut next = start();
    let mut answer = String::new();
    early.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    next.wait_ready();
    next.stop(PATIENCE);
}

#[test]
fn what_is_not_handed_over_the_daemon_opens() {
    let home = Home::new();
    let gateway = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = gateway.local_addr().unwrap();
    configure(&home, at, "127.0.0.1:0".parse().unwrap());
    let devnull = std::fs::File::open("/dev/null").unwrap();
    let mut daemon = start(&home, &["gateway"], gateway, devnull);
    daemon.wait_ready();
    assert_eq!(daemon.gateway(), at);
    assert_eq!(get(daemon.api(), "/livez").0, 200);
    daemon.stop(PATIENCE);
}

#[test]
fn listeners_that_do_not_fit_are_a_mistake_of_the_configuration() {
    let home = Home::new();
    let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
    let free: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let refused = |names: &[&str], third: OwnedFd, fourth: OwnedFd, says: &str| {
        let mut daemon = start(&home, names, third, fourth);
        let status = daemon.wait_exit(PATIENCE);
        assert_eq!(status.code(), Some(78), "{names:?}: {}", daemon.log_text());
        assert!(daemon.log_text().contains(says), "{names:?}: {}", daemon.log_text());
    };
    configure(&home, free, free);
    let other = listener();
    let at = other.local_addr().unwrap();
    let says = format!("gateway.listen = {free}, and the listener that is handed over is at {at}");
    refused(&["gateway"], other.into(), listener().into(), &says);
    refused(&["web"], listener().into(), listener().into(), "FileDescriptorName= must be gateway or api");
    refused(&["api"], UdpSocket::bind(free).unwrap().into(), listener().into(), "is no TCP socket");
    let one = listener();
    configure(&home, one.local_addr().unwrap(), free);
    let same = one.try_clone().unwrap();
    refused(&["gateway", "gateway"], one.into(), same.into(), "two listeners called");
    wait_for("nothing to be left", PATIENCE, || leaks::processes(home.0.path()).is_empty().then_some(()));
}
