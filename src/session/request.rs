//! What somebody asks for: a session, checked field by field, and changes to one.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::{ProfileName, SessionId, UserId};
pub use crate::profile::Kind;
use crate::proxy::Proxy;
use crate::sys::Limits;

/// Labels that a session may have.
pub const MOST_LABELS: usize = 32;

/// A session as it is asked for. What is `None` or empty is as the host's configuration has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateRequest {
    /// Its id; without one, the host makes it up.
    pub id: Option<SessionId>,
    /// Whose it is. A token for it must name this user.
    pub user: UserId,
    /// What browser.
    pub kind: Kind,
    /// A profile that outlives it. Without one, the browser starts blank and leaves nothing. Of kind AdsPower, its id there.
    pub profile: Option<ProfileName>,
    /// Has the pool choose a profile of the user's; not together with one that is named.
    pub pool: bool,
    /// Width and height of the display, in pixels.
    pub display_size: Option<(u16, u16)>,
    /// The page to open.
    pub start_url: Option<String>,
    /// What pages are fetched through.
    pub proxy: Option<Proxy>,
    /// Variables for the browser; only names that the configuration allows.
    pub env: BTreeMap<String, String>,
    /// Limits on its processes, within those of the host.
    pub limits: Limits,
    /// Ends it when nobody has used it for so long.
    pub idle_timeout: Option<Duration>,
    /// Ends it so long after its creation, used or not.
    pub max_duration: Option<Duration>,
    /// Words of the caller's, given back and put into events: `task_id`, `workflow_run_id`.
    pub labels: BTreeMap<String, String>,
}

/// The name under which a request may be sent again without being carried out again, and what it asked for: digests, so
/// that neither is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idempotency {
    /// SHA-256 of the caller's key.
    pub key: [u8; 32],
    /// SHA-256 of the request's body.
    pub fingerprint: [u8; 32],
}

/// A change to a session that runs. What is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Amendment {
    /// From now until its end.
    pub expires_in: Option<Duration>,
    /// Ends it when nobody has used it for so long; `Some(None)`: never.
    pub idle_timeout: Option<Option<Duration>>,
    /// Set or replaced; the others stay.
    pub labels: BTreeMap<String, String>,
}
