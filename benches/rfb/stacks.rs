//! What is compared: an X server, an RFB server and a way in over WebSocket, four times.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use tempfile::TempDir;

use crate::procstat::{self, Tree, pss_kib};
use crate::support::daemon::{self, Daemon};
use crate::support::process::Process;
use crate::support::{home, rest};
use crate::token::token;
use crate::viewer::Viewer;
use crate::wire::Door;
use crate::{Outcome, SCREEN};

const SESSION: &str = "s1";
/// For a program to come up on a loaded machine.
const READY: Duration = Duration::from_secs(30);

/// A way to serve a screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// The daemon with `rfb = "native"`.
    Valetd,
    /// x11vnc on Xvfb, behind websockify: the stack that the daemon takes the place of.
    X11vnc,
    /// TigerVNC's x0vncserver on Xvfb, behind websockify.
    X0vncserver,
    /// TigerVNC's Xvnc, which is its own X server, behind websockify.
    Xvnc,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Valetd, Self::X11vnc, Self::X0vncserver, Self::Xvnc];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Valetd => "valetd",
            Self::X11vnc => "x11vnc",
            Self::X0vncserver => "x0vncserver",
            Self::Xvnc => "Xvnc",
        }
    }

    /// What it needs and this machine lacks.
    pub(crate) fn missing(self) -> Option<&'static str> {
        let needed: &[&str] = match self {
            Self::Valetd => &["Xvfb"],
            Self::X11vnc => &["Xvfb", "x11vnc", "websockify"],
            Self::X0vncserver => &["Xvfb", "X0tigervnc", "websockify"],
            Self::Xvnc => &["Xtigervnc", "websockify"],
        };
        needed.iter().copied().find(|program| !Path::new("/usr/bin").join(program).exists())
    }
}

/// An X server to draw on.
#[derive(Debug, Clone)]
pub(crate) struct Display {
    pub(crate) number: u16,
    pub(crate) cookie: Option<Vec<u8>>,
}

/// One that runs, until it is dropped.
pub(crate) struct Stack {
    pub(crate) kind: Kind,
    pub(crate) door: Door,
    pub(crate) display: Display,
    daemon: Option<(Daemon, TempDir)>,
    /// The last one is to go first.
    processes: Vec<Process>,
}

impl Stack {
    pub(crate) fn start(kind: Kind) -> Outcome<Self> {
        match kind {
            Kind::Valetd => Self::valetd(),
            Kind::X11vnc => {
                let (server, number) = xvfb()?;
                let port = free_port()?;
                let (display, port_text) = (format!(":{number}"), port.port().to_string());
                let args = [
                    "-display",
                    &display,
                    "-forever",
                    "-nopw",
                    "-shared",
                    "-rfbport",
                    &port_text,
                    "-localhost",
                    "-xdamage",
                    "-noxrecord",
                    "-cursor",
                    "most",
                    "-noscr",
                    "-nowait_bog",
                    "-threads",
                    "-noxfixes",
                    "-quiet",
                ];
                Self::bridged(kind, vec![server, quiet("x11vnc", &args)?], number, port)
            }
            Kind::X0vncserver => {
                let (server, number) = xvfb()?;
                let port = free_port()?;
                let (display, port_text) = (format!(":{number}"), port.port().to_string());
                let args =
                    ["-display", &display, "-SecurityTypes", "None", "-rfbport", &port_text, "-localhost"];
                Self::bridged(kind, vec![server, quiet("X0tigervnc", &args)?], number, port)
            }
            Kind::Xvnc => {
                let port = free_port()?;
                let port_text = port.port().to_string();
                let args = [
                    "-displayfd",
                    "3",
                    "-geometry",
                    SCREEN,
                    "-depth",
                    "24",
                    "-SecurityTypes",
                    "None",
                    "-rfbport",
                    &port_text,
                    "-localhost",
                ];
                let (server, number) = numbered("Xtigervnc", &args)?;
                Self::bridged(kind, vec![server], number, port)
            }
        }
    }

    /// The daemon, with a session of a display and no browser. Its limits are out of the way.
    fn valetd() -> Outcome<Self> {
        let dir = home::directory()?;
        let mut daemon = Daemon::start(&format!(
            r#"
            [host]
            runtime_dir = "{dir}/run"
            [session]
            id = "{SESSION}"
            [display]
            rfb = "native"
            size = "{SCREEN}"
            [browser]
            enabled = false
            [gateway.limits]
            max_viewers_per_session = 100
            max_connections_per_address = 1000
            [api]
            socket = "{dir}/control.sock"
            [log]
            level = "info"
            "#,
            dir = dir.path().display()
        ))?;
        let door = Door {
            address: daemon::address(&daemon.listening("gateway")?)?,
            path: format!("/sessions/{SESSION}/vnc"),
            protocols: format!("binary, jwt.{}", token(SESSION, "controller")?),
        };
        let display = display_of(dir.path())?;
        Ok(Self { kind: Kind::Valetd, door, display, daemon: Some((daemon, dir)), processes: Vec::new() })
    }

    /// `processes` with a websockify before the RFB server at `port`.
    fn bridged(kind: Kind, mut processes: Vec<Process>, number: u16, port: SocketAddr) -> Outcome<Self> {
        wait_for(kind, &mut processes, || Ok(TcpStream::connect(port).map(drop)?))?;
        let address = free_port()?;
        processes.push(quiet("websockify", &[&address.to_string(), &port.to_string()])?);
        let door = Door { address, path: "/".into(), protocols: "binary".into() };
        wait_for(kind, &mut processes, || Viewer::connect(&door, true).map(drop))?;
        Ok(Self { kind, door, display: Display { number, cookie: None }, daemon: None, processes })
    }

    /// CPU time of all of it until now, the X server included, in seconds.
    pub(crate) fn cpu_seconds(&self) -> Outcome<f64> {
        self.trees().map(Tree::cpu_seconds).sum()
    }

    /// Waits until what it had for earlier viewers is gone.
    pub(crate) fn settle(&self) -> Outcome<()> {
        self.trees().try_for_each(|tree| tree.settled_cpu_seconds().map(drop))
    }

    /// Memory of all of it, shared pages by share, in MiB.
    pub(crate) fn memory_mib(&self) -> Outcome<f64> {
        let kib: f64 = self.trees().map(Tree::pss_kib).sum::<Outcome<f64>>()?;
        Ok(kib / 1024.0)
    }

    /// The daemon itself, without what it supervises.
    pub(crate) fn daemon_pids(&self) -> Vec<u32> {
        self.daemon
            .iter()
            .flat_map(|(daemon, _)| Tree { root: daemon.process.pid() }.same_program())
            .collect()
    }

    /// Memory of the daemon itself, in MiB.
    pub(crate) fn daemon_mib(&self) -> Outcome<f64> {
        let kib: f64 = self.daemon_pids().into_iter().map(pss_kib).sum::<Outcome<f64>>()?;
        Ok(kib / 1024.0)
    }

    /// What it consists of, by name.
    pub(crate) fn programs(&self) -> String {
        let of = |tree: Tree| [tree.same_program(), procstat::others(tree)].concat();
        let names: Vec<_> = self.trees().flat_map(of).map(procstat::name).collect();
        names.join(", ")
    }

    fn trees(&self) -> impl Iterator<Item = Tree> {
        let daemon = self.daemon.iter().map(|(daemon, _)| &daemon.process);
        daemon.chain(&self.processes).map(|process| Tree { root: process.pid() })
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        while let Some(process) = self.processes.pop() {
            drop(process);
        }
    }
}

fn xvfb() -> Outcome<(Process, u16)> {
    let screen = format!("{SCREEN}x24");
    numbered("Xvfb", &["-displayfd", "3", "-screen", "0", &screen, "-nolisten", "tcp", "-noreset"])
}

/// An X server that writes the number of its display to its descriptor 3, which is its standard error once more: it closes
/// what it wrote the number to, and what it says later would go to whoever has that descriptor next.
fn numbered(program: &str, args: &[&str]) -> Outcome<(Process, u16)> {
    let mut process = Process::start("sh", &[&["-c", "exec \"$@\" 3>&2", "sh", program], args].concat())?;
    let stderr = process.take_stderr().ok_or("no standard error")?;
    let (found, number) = mpsc::sync_channel(1);
    // Nobody joins it: it ends when the server does.
    thread::Builder::new().name("X server log".into()).spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if let Ok(number) = line.trim().parse::<u16>() {
                // It is asked for once.
                let _told = found.try_send(number);
            }
        }
    })?;
    let number = number.recv_timeout(READY).map_err(|_| format!("{program} did not say its display"))?;
    Ok((process, number))
}

/// A program whose words nobody needs.
fn quiet(program: &str, args: &[&str]) -> Outcome<Process> {
    let mut process = Process::start(program, args)?;
    if let Some(stderr) = process.take_stderr() {
        thread::Builder::new().name("program log".into()).spawn(move || {
            let _bytes = io::copy(&mut BufReader::new(stderr), &mut io::sink());
        })?;
    }
    Ok(process)
}

/// None of the programs can choose a port itself. Another program could take this one first; then the wait behind it fails.
fn free_port() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn wait_for(kind: Kind, processes: &mut [Process], mut works: impl FnMut() -> Outcome<()>) -> Outcome<()> {
    let deadline = Instant::now() + READY;
    while let Err(error) = works() {
        if processes.iter_mut().any(Process::ended) || Instant::now() > deadline {
            return Err(format!("{} does not serve: {error}", kind.name()).into());
        }
        rest(Duration::from_millis(50));
    }
    Ok(())
}

/// The display of the daemon's session, as the socket in `dir` tells, and the cookie from the end of its authority file.
fn display_of(dir: &Path) -> Outcome<Display> {
    let mut control = UnixStream::connect(dir.join("control.sock"))?;
    control.set_read_timeout(Some(READY))?;
    write!(control, "GET /v1/sessions/{SESSION} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    control.read_to_string(&mut answer)?;
    let (_head, body) = answer.split_once("\r\n\r\n").ok_or("no answer from the socket")?;
    let session: serde_json::Value = serde_json::from_str(body)?;
    let number = session["display"].as_str().and_then(|display| display.strip_prefix(':'));
    let authority = std::fs::read(dir.join("run/s0/xauthority"))?;
    let cookie = authority.last_chunk::<16>().ok_or("an authority file without a cookie")?;
    Ok(Display {
        number: number.ok_or("a session without a display")?.parse()?,
        cookie: Some(cookie.to_vec()),
    })
}
