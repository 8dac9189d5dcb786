//! A session as it is told to others, while it lives and after.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::handoff::Handoff;
use super::request::Kind;
use super::roster::{ScreenFigures, ViewerRecord};
use super::status::{BROWSER, Component, SessionState};
use super::viewer::Viewers;
use crate::ids::{ProfileName, SessionId, UserId};

/// A session at one instant.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionRecord {
    /// Its id.
    pub id: SessionId,
    /// Whose it is; none for the configuration's own session where it names nobody.
    pub user: Option<UserId>,
    /// What browser.
    pub kind: Kind,
    /// The profile that outlives it.
    pub profile: Option<ProfileName>,
    /// What it can do.
    pub state: SessionState,
    /// When it was asked for.
    pub created: SystemTime,
    /// When everything of it answered for the first time.
    pub ready: Option<SystemTime>,
    /// When it ends at the latest.
    pub expires: Option<SystemTime>,
    /// Seconds without use after which it ends.
    pub idle_timeout_seconds: Option<u64>,
    /// When it was gone.
    pub ended: Option<SystemTime>,
    /// Why it ended, or is ending.
    pub end: Option<End>,
    /// What of it was ready before it was asked for.
    pub warmth: Warmth,
    /// The caller's words.
    pub labels: BTreeMap<String, String>,
    /// Requests for a human and what came of them, the oldest first.
    pub handoffs: Vec<Arc<Handoff>>,
    /// Its parts, in the order in which they start.
    pub components: Vec<Component>,
    /// Who is looking.
    pub viewers: Viewers,
    /// The same one by one, those who came first first.
    pub watching: Vec<ViewerRecord>,
    /// What looking at its display comes to, where that is served natively.
    pub screen: Option<ScreenFigures>,
    /// How many automations are connected.
    pub automations: usize,
    /// Tabs that crashed and were left as they were.
    pub tab_crashes: u64,
    /// The X display, `:N`, while one is up.
    pub display: Option<String>,
    /// Its width and height in pixels.
    pub display_size: Option<(u16, u16)>,
    /// The DevTools port on loopback, while a browser is up.
    pub devtools_port: Option<u16>,
}

impl SessionRecord {
    /// Whether a browser of it can be driven, now or when it is up again.
    pub fn has_browser(&self) -> bool {
        self.kind == Kind::AdsPower || self.components.iter().any(|component| component.name == BROWSER)
    }
}

/// Why a session ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The cause, of a closed set.
    pub cause: Cause,
    /// In words: who asked, or what failed.
    pub reason: Option<String>,
}

/// Causes of an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Somebody asked for it.
    Requested,
    /// Its time was over.
    Expired,
    /// Nobody used it.
    Idle,
    /// It did not become ready in time.
    StartFailed,
    /// The daemon stops.
    HostDraining,
    /// The daemon was killed, and the next one found it.
    HostDied,
}

impl Cause {
    /// All of them, for tables and metrics.
    pub const ALL: [Self; 6] =
        [Self::Requested, Self::Expired, Self::Idle, Self::StartFailed, Self::HostDraining, Self::HostDied];

    /// The cause as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Expired => "expired",
            Self::Idle => "idle",
            Self::StartFailed => "start_failed",
            Self::HostDraining => "host_draining",
            Self::HostDied => "host_died",
        }
    }
}

/// What of a session was ready before it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Warmth {
    /// Nothing.
    Cold,
    /// Its display.
    Display,
    /// Its display and a blank browser.
    Browser,
}

impl Warmth {
    /// The warmth as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Display => "display",
            Self::Browser => "browser",
        }
    }
}
