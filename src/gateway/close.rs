//! Why a viewer's or an automation's connection ended, and its close code: one table.

use crate::session::ViewerEnd;

/// The end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    /// It went.
    Left,
    /// It sent text.
    NotBinary,
    /// It broke a protocol or a limit.
    Misbehaved,
    /// It did not take the picture.
    TooSlow,
    /// It did not answer a ping.
    NoPong,
    /// Its token's time is over.
    Expired,
    /// It did nothing for too long.
    Idle,
    /// The daemon is going.
    Draining,
    /// The display is being started again.
    DisplayRestarting,
    /// The display is gone for good.
    DisplayLost,
    /// The session is over.
    SessionEnded,
    /// The browser ended the connection; what that means is to be found out.
    BrowserLeft,
    /// The browser is being started again, at the same address.
    BrowserRestarting,
    /// The browser takes nothing, or does not speak the protocol.
    BrowserStuck,
    /// The page that it was connected to is gone.
    TargetClosed,
}

impl From<ViewerEnd> for Close {
    fn from(end: ViewerEnd) -> Self {
        match end {
            ViewerEnd::Left => Self::Left,
            ViewerEnd::Misbehaved(_) => Self::Misbehaved,
            ViewerEnd::TooSlow => Self::TooSlow,
            ViewerEnd::DisplayRestarting => Self::DisplayRestarting,
            ViewerEnd::DisplayLost => Self::DisplayLost,
            ViewerEnd::SessionEnded => Self::SessionEnded,
        }
    }
}

impl Close {
    /// Close code, reason for the client, metric label.
    fn outside(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::Left => (1000, "goodbye", "left"),
            Self::NotBinary => (1003, "only binary messages", "not_binary"),
            Self::Misbehaved => (1008, "protocol violation", "misbehaved"),
            Self::TooSlow => (1008, "too slow", "too_slow"),
            Self::NoPong => (1008, "no answer to a ping", "no_pong"),
            Self::Expired => (4401, "token expired", "expired"),
            Self::Idle => (4408, "idle", "idle"),
            Self::Draining => (1001, "host is going away", "draining"),
            Self::DisplayRestarting => (1012, "display restarting", "display_restarting"),
            Self::DisplayLost => (1011, "display lost", "display_lost"),
            Self::SessionEnded => (4410, "session ended", "session_ended"),
            Self::BrowserLeft | Self::BrowserRestarting => (1012, "browser restarting", "browser_restarting"),
            Self::BrowserStuck => (1011, "browser does not answer", "browser_stuck"),
            Self::TargetClosed => (1000, "target closed", "target_closed"),
        }
    }

    /// RFC 6455 section 7.4, and ours from 4000 on.
    pub(super) fn code(self) -> u16 {
        self.outside().0
    }

    /// A few words for the client.
    pub(super) fn reason(self) -> &'static str {
        self.outside().1
    }

    /// Label of the counter.
    pub(super) fn label(self) -> &'static str {
        self.outside().2
    }
}
