//! Settings of a session, already checked.

use std::path::PathBuf;

use crate::ids::{SessionId, UserId};
use crate::vnc::RfbSource;
use crate::{browser, display};

/// One session, as the configuration describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
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
}
