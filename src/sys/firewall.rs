//! Packet filter rules by uid, in a table of the daemon's own: a session reaches the public internet, and neither this
//! host nor its private networks.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::child::Exit;
use super::command::{Command, Confinement, Identity};
use super::containment::Limits;
use super::host::{Host, SpawnError};
use super::probe;
use super::ruleset::{AppFilter, Filter, removal};
use super::spawn::Spawner;
use super::tool::{Tool, ToolProgram};

/// For one transaction, which takes milliseconds.
const NFT_DEADLINE: Duration = Duration::from_secs(10);
/// For a probe to have tried, its own deadline included.
const PROBE_DEADLINE: Duration = Duration::from_secs(5);
/// No session can have this name: theirs begin with a letter or a digit.
const PROBE_GROUP: &str = "_probe";
/// The probe opens one socket.
const PROBE_OPEN_FILES: u64 = 32;

/// Why there are no rules, or why they cannot be relied on.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// The program could not be run.
    #[error("cannot run {}", program.display())]
    Run {
        /// Which.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It did not take the rules.
    #[error("{} {exit}: {complaint}", program.display())]
    Refused {
        /// Which.
        program: PathBuf,
        /// How it ended.
        exit: Exit,
        /// What it said.
        complaint: String,
    },
    /// There is no listener to try the rules on.
    #[error("cannot try the packet filter")]
    Listen(#[source] io::Error),
    /// The process that tries the rules could not be run.
    #[error("cannot run the packet filter's probe")]
    Spawn(#[from] SpawnError),
    /// It ended in a way that says nothing.
    #[error("the packet filter's probe {0}")]
    Probe(Exit),
    /// A session's uid could connect.
    #[error("the packet filter is not in force: uid {uid} could connect to {address}")]
    Open {
        /// Which uid.
        uid: u32,
        /// Where it got to.
        address: SocketAddr,
    },
}

/// Rules in force.
pub struct Firewall {
    spawner: Arc<Spawner>,
    nft: PathBuf,
    table: String,
}

impl Firewall {
    pub(super) async fn install(
        spawner: Arc<Spawner>,
        nft: &Path,
        table: String,
        filter: &Filter,
    ) -> Result<Self, FirewallError> {
        let firewall = Self { spawner, nft: nft.to_owned(), table };
        firewall.transact(&filter.ruleset(&firewall.table)).await?;
        Ok(firewall)
    }

    /// Name of the table, in the family `inet`.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Takes the rules out of force, once no session runs any more.
    ///
    /// # Errors
    /// [`FirewallError`]; they stay in force then.
    pub async fn remove(self) -> Result<(), FirewallError> {
        self.transact(&removal(&self.table)).await
    }

    async fn transact(&self, script: &str) -> Result<(), FirewallError> {
        let run = |source| FirewallError::Run { program: self.nft.clone(), source };
        let program = ToolProgram::Other(self.nft.clone(), vec!["-f".into(), "-".into()]);
        let mut tool = Tool::start(&self.spawner, program).await.map_err(run)?;
        match tool.write(script) {
            // One that ends before it has read all says why below.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(run(error)),
            _written => {}
        }
        match tool.finish(NFT_DEADLINE).await.map_err(run)? {
            (Exit::Status(0), _) => Ok(()),
            (exit, complaint) => {
                let complaint = complaint.lines().next().unwrap_or_default().to_owned();
                Err(FirewallError::Refused { program: self.nft.clone(), exit, complaint })
            }
        }
    }
}

/// Proves that rules are in force: a process with the last of the sessions' uids tries to connect to listeners of this process
/// on loopback, and must fail, where this process can; and so must one with the app's at the ports that are closed to it.
///
/// # Errors
/// [`FirewallError::Open`] when one got through.
pub async fn prove(host: &Host, filter: &Filter) -> Result<(), FirewallError> {
    let of = |uid| Identity { uid, gid: uid };
    prove_session(host, of(*filter.uids.end())).await?;
    if let Some(AppFilter { uid, closed_ports }) = &filter.app {
        for port in closed_ports {
            prove_closed(host, of(*uid), SocketAddr::from((Ipv4Addr::LOCALHOST, *port))).await?;
        }
    }
    Ok(())
}

async fn prove_session(host: &Host, identity: Identity) -> Result<(), FirewallError> {
    let mut tried = 0;
    for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let listener = match TcpListener::bind((ip, 0)).await {
            Ok(listener) => listener,
            // A host may be without IPv6.
            Err(error) if ip.is_ipv6() => {
                tracing::debug!(%error, "no IPv6 loopback to try the packet filter on");
                continue;
            }
            Err(error) => return Err(FirewallError::Listen(error)),
        };
        let address = listener.local_addr().map_err(FirewallError::Listen)?;
        // Were the listener deaf, a refusal would prove nothing.
        TcpStream::connect(address).await.map_err(FirewallError::Listen)?;
        match connects(host, identity, address).await? {
            true => return Err(FirewallError::Open { uid: identity.uid, address }),
            false => tried += 1,
        }
    }
    tracing::debug!(tried, uid = identity.uid, "the packet filter holds");
    Ok(())
}

/// Where even this process cannot connect there is nothing to prove.
async fn prove_closed(host: &Host, identity: Identity, address: SocketAddr) -> Result<(), FirewallError> {
    if TcpStream::connect(address).await.is_err() {
        return Ok(());
    }
    match connects(host, identity, address).await? {
        true => Err(FirewallError::Open { uid: identity.uid, address }),
        false => Ok(()),
    }
}

/// Whether a process with this uid can connect to `address`.
async fn connects(host: &Host, identity: Identity, address: SocketAddr) -> Result<bool, FirewallError> {
    let command = Command {
        // Whatever its file is called by now, and wherever it lies.
        program: "/proc/self/exe".into(),
        args: vec!["probe".into(), address.to_string().into()],
        env: std::collections::BTreeMap::new(),
        cwd: "/".into(),
        confinement: Confinement { identity: Some(identity), space: None },
        max_open_files: PROBE_OPEN_FILES,
        ready_fd: false,
    };
    let cell = host.cell(PROBE_GROUP, "probe", Limits::default()).map_err(SpawnError::Fork)?;
    let spawned = host.spawn(&command, &cell).await?;
    let exit = timeout(PROBE_DEADLINE, spawned.child.wait()).await;
    let exit = exit.map_err(|_elapsed| SpawnError::Deadline)?.map_err(SpawnError::Fork)?;
    let removed = cell.remove().and_then(|()| host.containment().remove_group(PROBE_GROUP));
    removed.map_err(SpawnError::Fork)?;
    match exit {
        Exit::Status(code) if code == i32::from(probe::CONNECTED) => Ok(true),
        Exit::Status(code) if code == i32::from(probe::REFUSED) => Ok(false),
        exit => Err(FirewallError::Probe(exit)),
    }
}

/// For the keeper, which is alone and has nobody to wait with.
#[expect(clippy::disallowed_methods, reason = "the keeper has no spawner: the daemon is gone")]
pub(super) fn remove_now(nft: &Path, table: &str) -> io::Result<()> {
    let mut child = std::process::Command::new(nft)
        .args(["-f", "-"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(removal(table).as_bytes()));
    let status = child.wait()?;
    written?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{} {status}", nft.display()))) }
}
