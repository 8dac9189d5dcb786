//! Why there is no daemon, or no more.

use crate::ids::SessionId;
use crate::store::StoreError;
use crate::sys::{FirewallError, HostError, LockError};
use crate::tasks::Outcome;
use crate::{adspower, api, control_plane, gateway, session};

/// Why the daemon could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another daemon works on this state directory.
    #[error("cannot start a second daemon")]
    Locked(#[from] LockError),
    /// Processes cannot be supervised here.
    #[error("cannot supervise processes on this host")]
    Host(#[from] HostError),
    /// The gateway cannot be had.
    #[error("cannot set up the gateway")]
    Gateway(#[from] gateway::Error),
    /// The operators' side cannot be had.
    #[error("cannot set up the host API")]
    Api(#[from] api::Error),
    /// The control plane cannot be talked to.
    #[error("cannot set up the line to the control plane")]
    ControlPlane(#[from] control_plane::Error),
    /// The session of the configuration cannot be started.
    #[error("cannot start session {id}")]
    Session {
        /// Which.
        id: SessionId,
        /// Why not.
        #[source]
        source: session::Error,
    },
    /// The session that the daemon is there for has failed.
    #[error("session {id} failed ({}): {}", .end.cause.as_str(), .end.reason.as_deref().unwrap_or("no reason given"))]
    SessionFailed {
        /// Which.
        id: SessionId,
        /// How.
        end: session::End,
    },
    /// What an earlier run left cannot be put in order.
    #[error("cannot put in order what earlier sessions left")]
    Places(#[from] session::PlacesError),
    /// The kernel does not tell of itself.
    #[error("cannot learn about this host from /proc")]
    Proc(#[source] std::io::Error),
    /// The file of sessions is not there in time.
    #[error("cannot open the state file in time")]
    Slow(#[source] std::io::Error),
    /// The file of sessions cannot be looked after.
    #[error("cannot open the state file")]
    Store(#[from] StoreError),
    /// There is no AdsPower to be had.
    #[error("cannot set up AdsPower")]
    AdsPowerSetup(#[from] adspower::SetupError),
    /// It cannot be run.
    #[error("cannot run AdsPower")]
    AdsPower(#[from] adspower::StartError),
    /// Sessions would not be kept from the host.
    #[error("cannot filter what sessions connect to (isolation.network)")]
    Firewall(#[from] FirewallError),
    /// Rules are wanted, and there are no uids to make them for.
    #[error("isolation.network = \"filtered\" needs a daemon that runs as root")]
    NotRoot,
    /// A metric was registered twice, which would be a bug.
    #[error("cannot set up metrics")]
    Metrics(#[from] prometheus::Error),
    /// Signals cannot be received.
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    /// The machine was given up, and is wanted again: whoever starts daemons is to start the next one.
    #[error("this machine is wanted again, and a fresh daemon has to serve it")]
    CalledBack,
    /// A task that must not end has ended.
    #[error("{name} ended unexpectedly: {outcome:?}")]
    TaskEnded {
        /// Its name.
        name: &'static str,
        /// How.
        outcome: Outcome,
    },
}
