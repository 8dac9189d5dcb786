//! What an attacker tries, one thing at a time; done in this process, or in another under a session's uid and in its
//! namespaces.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::seat::Seat;

/// The variable that makes [`attack_as_told`] an attacker, holding its attempts.
const ORDER: &str = "VALETD_TEST_ATTACK";
/// A line of its answer begins so; libtest prints around it.
const ANSWER: &str = "attempt:";
/// An impostor that nobody ends gives up.
const IMPOSTURE: Duration = Duration::from_secs(60);
/// Ends an impostor.
pub(super) const ENOUGH: &[u8] = b"enough";
/// What came of an impostor that nobody told anything.
pub(super) const HEARD_NOTHING: &str = "heard nothing";
/// A firewall that drops in silence keeps an attempt waiting for so long.
const PATIENCE: Duration = Duration::from_secs(3);

/// One attempt. It has worked when it gives no error.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Attempt {
    Unix(PathBuf),
    Abstract(String),
    Tcp(SocketAddr),
    Read(PathBuf),
    Write(PathBuf),
    List(PathBuf),
    /// Opens a process's memory, which takes the right to trace it.
    Trace(i32),
    /// Takes a descriptor of another process, which takes the same.
    Steal(i32),
    /// Signal 0: may it be signalled at all?
    Touch(i32),
    Terminate(i32),
    /// Whether System V shared memory of this uid can be seen.
    SysvShm(u32),
    /// Listens on a loopback port in a browser's stead, until it is told [`ENOUGH`]. Has worked when it heard anything else.
    Impersonate(u16),
}

impl Attempt {
    pub(crate) fn make(&self) -> io::Result<()> {
        match self {
            Self::Unix(path) => UnixStream::connect(path).map(drop),
            Self::Abstract(name) => {
                UnixStream::connect_addr(&UnixAddress::from_abstract_name(name)?).map(drop)
            }
            Self::Tcp(address) => TcpStream::connect_timeout(address, PATIENCE).map(drop),
            Self::Read(path) => File::open(path)?.read(&mut [0; 16]).map(drop),
            Self::Write(path) => {
                let mut file =
                    OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(path)?;
                file.write_all(b"attacker")
            }
            Self::List(path) => std::fs::read_dir(path)?.next().map_or(Ok(()), |first| first.map(drop)),
            Self::Trace(pid) => {
                OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem")).map(drop)
            }
            Self::Steal(pid) => {
                let pidfd = pidfd_open(process(*pid)?, PidfdFlags::empty())?;
                pidfd_getfd(&pidfd, 0, PidfdGetfdFlags::empty())?;
                Ok(())
            }
            Self::Touch(pid) => Ok(rustix::process::test_kill_process(process(*pid)?)?),
            Self::Terminate(pid) => {
                let pidfd = pidfd_open(process(*pid)?, PidfdFlags::empty())?;
                Ok(pidfd_send_signal(&pidfd, Signal::TERM)?)
            }
            Self::SysvShm(uid) => {
                let table = std::fs::read_to_string("/proc/sysvipc/shm")?;
                // key shmid perms size cpid lpid nattch uid …
                let of =
                    |line: &str| line.split_ascii_whitespace().nth(7).and_then(|uid| uid.parse::<u32>().ok());
                match table.lines().skip(1).any(|line| of(line) == Some(*uid)) {
                    true => Ok(()),
                    false => Err(io::ErrorKind::NotFound.into()),
                }
            }
            Self::Impersonate(port) => impersonate(*port),
        }
    }
}

fn impersonate(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    listener.set_nonblocking(true)?;
    let end = Instant::now() + IMPOSTURE;
    let mut heard = None;
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _from)) => stream,
            Err(_none_yet) if Instant::now() < end => {
                std::thread::park_timeout(Duration::from_millis(5));
                continue;
            }
            Err(error) => return Err(error),
        };
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut bytes = [0; 256];
        // Whoever says nothing has told nothing.
        let length = stream.read(&mut bytes).unwrap_or(0);
        match &bytes[..length] {
            b"" => {}
            text if text == ENOUGH => break,
            text => heard = Some(String::from_utf8_lossy(text).into_owned()),
        }
    }
    match heard {
        Some(_) => Ok(()),
        None => Err(io::Error::other(HEARD_NOTHING)),
    }
}

fn process(pid: i32) -> io::Result<Pid> {
    Pid::from_raw(pid).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// Makes the attempts as a process of that session would, and says for each what came of it: `None` when it worked.
#[expect(clippy::disallowed_methods, reason = "the attacker is no child of the daemon")]
pub(crate) fn attempt_in(seat: &Seat, attempts: &[Attempt]) -> Vec<Option<String>> {
    let id = seat.uid.to_string();
    let pid = seat.xvfb.to_string();
    // The program is this one, by descriptor: the session's uid may not enter the directory that it lies in.
    let program = File::open(std::env::current_exe().unwrap()).unwrap();
    let output = Command::new("nsenter")
        .args(["--mount", "--ipc", "--target", &pid, "setpriv"])
        .args([format!("--reuid={id}"), format!("--regid={id}")])
        .args(["--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"])
        .args([
            "/proc/self/fd/0",
            "--exact",
            "isolation::attacker::attack_as_told",
            "--ignored",
            "--nocapture",
        ])
        .env(ORDER, serde_json::to_string(attempts).unwrap())
        .current_dir("/")
        .stdin(Stdio::from(program))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let answers: Vec<Option<String>> = text
        .lines()
        .filter_map(|line| line.split_once(ANSWER).map(|(_, json)| serde_json::from_str(json).unwrap()))
        .collect();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(answers.len(), attempts.len(), "the attacker did not try all: {text}\n{complaint}");
    answers
}

/// Not a test: an attacker.
#[test]
#[ignore = "an attacker, started by other tests"]
fn attack_as_told() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let attempts: Vec<Attempt> = serde_json::from_str(&order).unwrap();
    for attempt in attempts {
        let outcome = attempt.make().err().map(|error| error.to_string());
        println!("\n{ANSWER}{}", serde_json::to_string(&outcome).unwrap());
    }
}
