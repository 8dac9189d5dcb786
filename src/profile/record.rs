//! A profile in the pool, and what whoever uses it holds.

use serde_json::{Map, Value};

use super::kind::Kind;
use super::time::Rest;
use crate::ids::{ProfileName, UserId};
use crate::proxy::Proxy;
use crate::store::SessionKey;

/// Longest fingerprint settings, in bytes of JSON. AdsPower's own have some hundreds.
pub const MAX_FINGERPRINT_BYTES: usize = 4096;
/// Longest reason, in bytes.
const MAX_REASON_BYTES: usize = 256;

/// A profile.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Its name, which tells nothing of the user.
    pub name: ProfileName,
    /// Whose.
    pub user: UserId,
    /// What opens it.
    pub kind: Kind,
    /// What AdsPower calls it, where it is AdsPower's.
    pub external: Option<ProfileName>,
    /// What its pages are fetched through.
    pub proxy: Option<Proxy>,
    /// How it looks to pages, for those who can make it so.
    pub fingerprint: Option<Fingerprint>,
    /// Where it is in its rotation.
    pub state: State,
    /// Sessions that failed with it in a row.
    pub failures: u32,
    /// Sessions that had it.
    pub uses: u64,
    /// Number of its newest lease; 0 before the first. Also its age among the others: the lowest was used longest ago.
    pub fence: u64,
    /// When it was lent last, by the wall clock.
    pub last_used_ms: Option<i64>,
    /// When it was made, by the wall clock.
    pub created_ms: i64,
}

/// Where a profile is in its rotation.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// It can be had.
    Idle,
    /// A session has it.
    Active {
        /// Which.
        holder: SessionKey,
        /// When the lease ends if nobody renews it, in milliseconds of this boot.
        until_ms: i64,
        /// Why it is to be quarantined when it comes back, where somebody said so.
        condemned: Option<String>,
    },
    /// It rests.
    Cooldown(Rest),
    /// It waits for an operator.
    Quarantined {
        /// Why.
        reason: String,
        /// Since when, by the wall clock.
        since_ms: i64,
    },
}

/// A state without what belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StateWord {
    /// It can be had.
    Idle,
    /// A session has it.
    Active,
    /// It rests.
    Cooldown,
    /// It waits for an operator.
    Quarantined,
}

impl StateWord {
    /// All of them, for messages and metrics.
    pub const ALL: [Self; 4] = [Self::Idle, Self::Active, Self::Cooldown, Self::Quarantined];

    /// The state as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Active => "active",
            Self::Cooldown => "cooldown",
            Self::Quarantined => "quarantined",
        }
    }

    /// The state that a word means.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

impl State {
    /// The state alone.
    pub fn word(&self) -> StateWord {
        match self {
            Self::Idle => StateWord::Idle,
            Self::Active { .. } => StateWord::Active,
            Self::Cooldown(_) => StateWord::Cooldown,
            Self::Quarantined { .. } => StateWord::Quarantined,
        }
    }
}

impl Profile {
    /// What whoever has it now holds.
    pub(super) fn lease(&self, proxy: Option<Proxy>) -> Lease {
        Lease {
            profile: self.name.clone(),
            fence: self.fence,
            kind: self.kind,
            external: self.external.clone(),
            proxy,
            fingerprint: self.fingerprint.clone(),
        }
    }
}

/// The right to use a profile, until it is given back. A newer one of the same profile has a higher number.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    /// Of which profile.
    pub profile: ProfileName,
    /// Its number, which no other lease of this host ever had.
    pub fence: u64,
    /// What opens the profile.
    pub kind: Kind,
    /// What AdsPower calls it, where it is AdsPower's.
    pub external: Option<ProfileName>,
    /// What pages are to be fetched through.
    pub proxy: Option<Proxy>,
    /// How it is to look to pages.
    pub fingerprint: Option<Fingerprint>,
}

/// Settings of how a browser looks to pages: an object that this daemon passes on and does not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(Map<String, Value>);

/// Why a value is no such settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an object of {MAX_FINGERPRINT_BYTES} bytes of JSON at most")]
pub struct BadFingerprint;

impl TryFrom<Value> for Fingerprint {
    type Error = BadFingerprint;

    fn try_from(value: Value) -> Result<Self, BadFingerprint> {
        match value {
            Value::Object(object)
                if Value::Object(object.clone()).to_string().len() <= MAX_FINGERPRINT_BYTES =>
            {
                Ok(Self(object))
            }
            _ => Err(BadFingerprint),
        }
    }
}

impl From<Fingerprint> for Map<String, Value> {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.0
    }
}

impl From<Fingerprint> for Value {
    fn from(fingerprint: Fingerprint) -> Self {
        Self::Object(fingerprint.0)
    }
}

/// A reason as it is kept: of a bounded length, on one line.
pub(super) fn reason(text: &str) -> String {
    let mut kept = String::new();
    for c in text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if kept.len() + c.len_utf8() > MAX_REASON_BYTES {
            break;
        }
        kept.push(c);
    }
    kept
}
