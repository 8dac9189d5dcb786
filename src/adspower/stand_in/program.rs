//! The program: its arguments, its life, and how it starts itself anew.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::net::TcpListener;

use super::behaviour::Behaviour;
use super::server::{End, Server};
use super::state::Places;
use crate::secret::Secret;

/// The subcommand, and the name of a copy of this program that needs none.
pub const WORD: &str = "adspower-stand-in";

/// What it was started with.
#[derive(Debug, Clone)]
pub struct Args {
    /// Its `HOME`.
    pub home: PathBuf,
    /// What every call must show.
    pub api_key: Secret<String>,
    /// Where to listen, if that is free.
    pub port: u16,
    /// The browser that profiles are opened in.
    pub chromium: PathBuf,
    /// Further arguments of every browser.
    pub chromium_args: Vec<String>,
    /// Profiles that are to be there.
    pub profiles: Vec<String>,
    /// How it behaves from the start.
    pub behaviour: Behaviour,
}

/// Why it ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its directory cannot be used.
    #[error("the stand-in cannot use its HOME")]
    Home(#[source] io::Error),
    /// It cannot listen anywhere.
    #[error("the stand-in cannot listen")]
    Listen(#[source] io::Error),
    /// It cannot hear of signals.
    #[error("the stand-in cannot listen for signals")]
    Signals(#[source] io::Error),
    /// It cannot start itself anew.
    #[error("the stand-in cannot start itself anew")]
    Respawn(#[source] io::Error),
}

/// Serves until TERM, or until a test has it end.
///
/// # Errors
/// See [`Error`].
pub async fn run(args: Args) -> Result<(), Error> {
    tracing::warn!("this is valetd's stand-in for AdsPower, not AdsPower: it opens plain Chromium");
    let places = Places::beneath(&args.home).map_err(Error::Home)?;
    let mut state = places.read();
    for id in &args.profiles {
        if !state.profiles.contains_key(id) {
            state.create(id, serde_json::Map::new());
        }
    }
    places.write(&state).map_err(Error::Home)?;
    let listener = listen(args.port).await.map_err(Error::Listen)?;
    let port = listener.local_addr().map_err(Error::Listen)?.port();
    places.write_port(port).map_err(Error::Home)?;
    tracing::info!(port, asked = args.port, "the stand-in listens");
    let server = Server::new(args.clone(), places, state).map_err(Error::Signals)?;
    match server.serve(listener).await {
        End::Stop => Ok(()),
        End::Respawn { elsewhere } => {
            respawn(&args, if elsewhere { 0 } else { port }).map_err(Error::Respawn)
        }
    }
}

/// The port that is wanted, or another one where that is taken.
async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind(("127.0.0.1", port)).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => TcpListener::bind(("127.0.0.1", 0)).await,
        outcome => outcome,
    }
}

/// Starts this program again in a session of its own, as AdsPower's wrapper does, and leaves it to itself.
#[expect(
    clippy::disallowed_methods,
    reason = "this program is no daemon: it starts itself anew as AdsPower does"
)]
fn respawn(args: &Args, port: u16) -> io::Result<()> {
    tracing::warn!("the stand-in starts itself anew, and its first process ends");
    let mut command = std::process::Command::new("/proc/self/exe");
    command.arg(WORD);
    command.arg("--headless=true").arg(format!("--api-key={}", args.api_key.expose()));
    command.arg(format!("--api-port={port}"));
    command.arg(format!("--chromium={}", args.chromium.display()));
    command.args(args.chromium_args.iter().map(|arg| format!("--chromium-arg={arg}")));
    command.stdin(Stdio::null());
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn().map(drop)
}
