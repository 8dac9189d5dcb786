//! Settings of sessions, already checked.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::ids::{SessionId, UserId};
use crate::sys::{Destination, Limits};
use crate::vnc::RfbSource;
use crate::{browser, display};

/// The session that the configuration describes. What it is made of is also what requested sessions are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Whether it runs for as long as the daemon does; otherwise there are only sessions that somebody asks for.
    pub autostart: bool,
    /// Whether the daemon is there for it alone, and ends with it. Only where it runs at all.
    pub exit_when_ended: bool,
    /// Its id; a viewer's token must name it.
    pub id: SessionId,
    /// Whose it is; a token must name this user too, where it is given.
    pub user: Option<UserId>,
    /// The X server.
    pub display: display::Config,
    /// Where the picture comes from.
    pub rfb: RfbSource,
    /// The browser; none where only an external RFB server is to be shown.
    pub browser: Option<browser::Config>,
}

/// What the host gives to sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    /// Profiles and other state that outlives the daemon; `/var/lib/valetd`.
    pub state_dir: PathBuf,
    /// Sockets and cookies, gone after a reboot; `/run/valetd`.
    pub runtime_dir: PathBuf,
    /// First uid (and gid) of the range reserved for sessions, and how many there are. Unused when the daemon is not root.
    pub first_uid: u32,
    /// Length of that range.
    pub uid_count: u32,
    /// What keeps sessions from each other and from the host.
    pub isolation: Isolation,
}

/// What keeps sessions from each other and from the host, where the daemon is root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Isolation {
    /// Whether connections of sessions are filtered.
    pub network: Network,
    /// What they may reach although it is not the public internet.
    pub allow: Vec<Destination>,
    /// Loopback ports for the browsers' DevTools.
    pub devtools_ports: RangeInclusive<u16>,
    /// Size of each session's `/dev/shm`, in bytes.
    pub shm_bytes: u64,
    /// Whether a session sees its own processes only.
    pub hide_processes: bool,
    /// Path of the program that sets packet filter rules.
    pub nft: PathBuf,
}

/// Whether connections of sessions are filtered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Where the daemon is root.
    Auto,
    /// Yes, and without rules no session starts.
    Filtered,
    /// No.
    Open,
}

impl Isolation {
    /// Whether this daemon has to set rules.
    pub fn filters(&self) -> bool {
        match self.network {
            Network::Auto => nix::unistd::geteuid().is_root(),
            Network::Filtered => true,
            Network::Open => false,
        }
    }
}

/// How many sessions there may be, and what each may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Sessions at a time.
    pub capacity: Capacity,
    /// Requests that may wait for a place; 0: a full host refuses at once.
    pub queue_length: usize,
    /// For how long.
    pub queue_deadline: Duration,
    /// Displays kept ready for sessions that are not asked for yet.
    pub spare_displays: usize,
    /// Displays with a blank browser kept ready.
    pub spare_browsers: usize,
    /// From its creation until everything of a session has answered; it is ended then.
    pub start_deadline: Duration,
    /// Ends a session that nobody uses for so long, unless its request says otherwise; `None`: never.
    pub idle_timeout: Option<Duration>,
    /// The longest life of a session, and the one of those whose request does not say; `None`: endless.
    pub max_duration: Option<Duration>,
    /// Limits on each session's processes; a request may ask for less.
    pub limits: Limits,
    /// Names of variables that a request may set for its browser.
    pub allowed_env: Vec<String>,
}

/// How the number of sessions is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capacity {
    /// As many as fit into memory, at so many bytes each.
    Derived {
        /// What one session is reckoned with.
        memory_per_session: u64,
    },
    /// So many.
    Fixed(usize),
}

/// Memory that is not given to sessions, in bytes: the system, the daemon and its viewers.
const RESERVED_MEMORY: u64 = 512 << 20;

impl Capacity {
    /// The number for a host with so many bytes of memory; at least one.
    pub fn resolve(self, memory_bytes: u64) -> usize {
        match self {
            Self::Fixed(count) => count,
            Self::Derived { memory_per_session } => {
                let fits = memory_bytes.saturating_sub(RESERVED_MEMORY) / memory_per_session.max(1);
                usize::try_from(fits).unwrap_or(usize::MAX).max(1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_of_4_gib_takes_two_or_three_browsers() {
        let derived = Capacity::Derived { memory_per_session: 1280 << 20 };
        // What a t3.medium shows of its 4 GiB.
        assert_eq!(derived.resolve(3_980_000_000), 2);
        assert_eq!(Capacity::Derived { memory_per_session: 1 << 30 }.resolve(3_980_000_000), 3);
        assert_eq!(derived.resolve(24 << 30), 18);
        assert_eq!(derived.resolve(1 << 20), 1, "a host that takes nobody is no host");
        assert_eq!(Capacity::Fixed(7).resolve(0), 7);
    }
}
