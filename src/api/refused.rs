//! Every way in which the host API says no: one table.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Response, StatusCode};

use crate::auth::{MintError, Refusal};
use crate::errors::chain;
use crate::http::{Mistake, Place, Problem, RequestId};
use crate::profile::{ChangeError, Unavailable};
use crate::session::{
    AmendError, Cause, CreateError, Denial, End, HandoffDenial, HandoffError, ProfileError,
};

/// When a full host may have a place again: somebody has to leave first.
const FULL_RETRY: Duration = Duration::from_secs(5);
/// How long a drained daemon is likely to be away, or a stuck one until it was restarted.
const AWAY_RETRY: Duration = Duration::from_secs(5);

/// What is wrong, of a closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No such path.
    NotFound,
    /// The path is there, not for this method.
    MethodNotAllowed,
    /// A peer on the Unix socket that is no operator.
    Forbidden,
    /// A web page asks.
    Origin,
    /// The credential.
    Credential(Refusal),
    /// The body is no JSON.
    NotJson,
    /// Something in the body, the query or a header is wrong.
    Invalid,
    /// Nothing but the proxy is wrong.
    BadProxy,
    TooLarge,
    MediaType,
    BodyTimeout,
    UnknownSession,
    SessionEnding,
    SessionOver,
    SessionExists,
    UnknownHandoff,
    HandoffExists,
    HandoffOver,
    TooManyHandoffs,
    ProfileBusy,
    UnknownProfile,
    ProfilesCooling,
    ProfilesInUse,
    ProfileQuarantined,
    ProfileExists,
    ProfileLeaving,
    ProfileNotRemoved,
    TooManyProfiles,
    KindUnavailable,
    VariableNotAllowed,
    OverLimit,
    KeyReused,
    OverCapacity,
    Draining,
    HostRefused,
    SingleSession,
    StartFailed,
    NotKept,
    Unresponsive,
    NoSigningKey,
    TooManyListeners,
    Internal,
}

impl Trouble {
    /// One of each, for the description and for tests.
    pub(super) const ALL: [Self; 47] = [
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Forbidden,
        Self::Origin,
        Self::Credential(Refusal::Missing),
        Self::Credential(Refusal::Malformed),
        Self::Credential(Refusal::Expired),
        Self::Credential(Refusal::NotYetValid),
        Self::Credential(Refusal::Replayed),
        Self::Credential(Refusal::Exhausted),
        Self::Credential(Refusal::WrongRole),
        Self::NotJson,
        Self::Invalid,
        Self::BadProxy,
        Self::TooLarge,
        Self::MediaType,
        Self::BodyTimeout,
        Self::UnknownSession,
        Self::SessionEnding,
        Self::SessionOver,
        Self::SessionExists,
        Self::UnknownHandoff,
        Self::HandoffExists,
        Self::HandoffOver,
        Self::TooManyHandoffs,
        Self::ProfileBusy,
        Self::UnknownProfile,
        Self::ProfilesCooling,
        Self::ProfilesInUse,
        Self::ProfileQuarantined,
        Self::ProfileExists,
        Self::ProfileLeaving,
        Self::ProfileNotRemoved,
        Self::TooManyProfiles,
        Self::KindUnavailable,
        Self::VariableNotAllowed,
        Self::OverLimit,
        Self::KeyReused,
        Self::OverCapacity,
        Self::Draining,
        Self::HostRefused,
        Self::SingleSession,
        Self::StartFailed,
        Self::NotKept,
        Self::Unresponsive,
        Self::NoSigningKey,
        Self::TooManyListeners,
    ];

    /// Status, name in the problem's type, sentence.
    pub(super) fn outside(self) -> (StatusCode, &'static str, &'static str) {
        const INVALID: (&str, &str) = ("invalid-request", "The request is not valid.");
        const OVER: (&str, &str) = ("session-over", "The session is over, or about to be.");
        let (status, (name, title)) = match self {
            Self::NotFound => (404, ("not-found", "There is nothing here.")),
            Self::MethodNotAllowed => (405, ("method-not-allowed", "This method is not answered here.")),
            Self::Forbidden => (403, ("forbidden", "Only root and the valetd group may ask here.")),
            Self::Origin => (403, ("origin-not-allowed", "Web pages may not use this API.")),
            Self::Credential(refusal) => {
                let title = match refusal.status() {
                    403 => "The credential does not allow this.",
                    429 => "Too many credentials are in use.",
                    _ => "A valid credential is needed.",
                };
                (refusal.status(), (refusal.problem(), title))
            }
            Self::NotJson => (400, INVALID),
            Self::Invalid => (422, INVALID),
            Self::BadProxy => (422, ("bad-proxy", "The proxy cannot be used.")),
            Self::TooLarge => (413, ("body-too-large", "The body is larger than it may be.")),
            Self::MediaType => (415, ("unsupported-media-type", "The body must be application/json.")),
            Self::BodyTimeout => (408, ("body-timeout", "The body did not come in time.")),
            Self::UnknownSession => (404, ("unknown-session", "The session is not on this host.")),
            Self::SessionEnding => (409, OVER),
            Self::SessionOver => (410, OVER),
            Self::SessionExists => (409, ("session-exists", "A session of this id is there already.")),
            Self::UnknownHandoff => (404, ("unknown-handoff", "The session has no such handoff.")),
            Self::HandoffExists => (409, ("handoff-exists", "Another handoff of the session has this id.")),
            Self::HandoffOver => (409, ("handoff-over", "The handoff is over, and otherwise.")),
            Self::TooManyHandoffs => {
                (429, ("too-many-handoffs", "Too many handoffs of the session wait for a human."))
            }
            Self::ProfileBusy => (409, ("profile-busy", "The profile is in use by another session.")),
            Self::UnknownProfile => (404, ("unknown-profile", "The user has no such profile.")),
            Self::ProfilesCooling => (503, ("profiles-cooling", "No profile has rested long enough.")),
            Self::ProfilesInUse => (409, ("profiles-in-use", "Every profile of the user is in use.")),
            Self::ProfileQuarantined => (409, ("profile-quarantined", "The profile waits for an operator.")),
            Self::ProfileExists => (409, ("profile-exists", "The pool has this profile already.")),
            Self::ProfileLeaving => (409, ("profile-leaving", "The profile is being removed.")),
            Self::ProfileNotRemoved => (503, ("profile-not-removed", "The profile could not be removed.")),
            Self::TooManyProfiles => (429, ("too-many-profiles", "There may be no more profiles.")),
            Self::KindUnavailable => (422, ("kind-unavailable", "This host has no browser of this kind.")),
            Self::VariableNotAllowed => {
                (422, ("variable-not-allowed", "This variable may not be set by a request."))
            }
            Self::OverLimit => (422, ("over-limit", "This is more than the host allows.")),
            Self::KeyReused => {
                (422, ("idempotency-key-reused", "The idempotency key was used for another request."))
            }
            Self::OverCapacity => (503, ("over-capacity", "Every place for a session is taken.")),
            Self::Draining => (503, ("draining", "The host is going away.")),
            Self::HostRefused => {
                (503, ("host-refused", "The control plane does not know this host: it takes no sessions."))
            }
            Self::SingleSession => (503, ("single-session", "This host is there for one session alone.")),
            Self::StartFailed => (503, ("start-failed", "The session did not start.")),
            Self::NotKept => (
                503,
                ("not-kept", "It is so, and not on disk yet: ask again, with its handoff_id, until it is."),
            ),
            Self::Unresponsive => (503, ("unresponsive", "The session manager does not answer.")),
            Self::NoSigningKey => (409, ("no-signing-key", "This host has no key to sign tokens with.")),
            Self::TooManyListeners => (429, ("too-many-listeners", "Too many listen to events already.")),
            Self::Internal => (500, ("internal", "The answer cannot be made.")),
        };
        (StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), name, title)
    }

    fn retry_after(self) -> Option<Duration> {
        match self {
            Self::OverCapacity | Self::TooManyListeners | Self::Credential(Refusal::Exhausted) => {
                Some(FULL_RETRY)
            }
            Self::Draining | Self::HostRefused | Self::Unresponsive | Self::StartFailed | Self::NotKept => {
                Some(AWAY_RETRY)
            }
            _ => None,
        }
    }
}

/// A refusal with what is particular to it. Boxed in results: it is large and rare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) trouble: Trouble,
    detail: Option<String>,
    mistakes: Vec<Mistake>,
    /// For 405.
    allow: Option<String>,
    /// When it may go better, where that is known better than the trouble tells.
    retry_after: Option<Duration>,
}

impl From<Trouble> for Box<Refused> {
    fn from(trouble: Trouble) -> Self {
        Box::new(Refused { trouble, detail: None, mistakes: Vec::new(), allow: None, retry_after: None })
    }
}

impl From<Refusal> for Box<Refused> {
    fn from(refusal: Refusal) -> Self {
        Trouble::Credential(refusal).into()
    }
}

impl Refused {
    /// With what is particular to this time.
    pub(super) fn because(trouble: Trouble, detail: impl Into<String>) -> Box<Self> {
        Box::new(Self { detail: Some(detail.into()), ..*Box::<Self>::from(trouble) })
    }

    /// All that is wrong with a request.
    pub(super) fn invalid(mistakes: Vec<Mistake>) -> Box<Self> {
        let of_proxy =
            |mistake: &Mistake| matches!(&mistake.place, Place::Body(at) if at.starts_with("/proxy"));
        let trouble = if mistakes.iter().all(of_proxy) { Trouble::BadProxy } else { Trouble::Invalid };
        Box::new(Self { mistakes, ..*Box::<Self>::from(trouble) })
    }

    /// A method that the path is not there for.
    pub(super) fn method(allow: String) -> Box<Self> {
        Box::new(Self { allow: Some(allow), ..*Box::<Self>::from(Trouble::MethodNotAllowed) })
    }

    /// Why a session was not created.
    pub(super) fn denied(denial: &Denial) -> Box<Self> {
        let (trouble, pointer) = match denial {
            Denial::Draining => (Trouble::Draining, None),
            Denial::HostRefused => (Trouble::HostRefused, None),
            Denial::SingleSession(_) => (Trouble::SingleSession, None),
            Denial::OverCapacity { .. } => (Trouble::OverCapacity, None),
            Denial::IdInUse => (Trouble::SessionExists, Some("/session_id".to_owned())),
            Denial::ProfileBusy { .. } => (Trouble::ProfileBusy, Some("/profile".to_owned())),
            Denial::NoProfile(refusal) => return Self::no_profile(refusal),
            Denial::KindUnavailable(_) => (Trouble::KindUnavailable, Some("/kind".to_owned())),
            Denial::ProfileNeeded => (Trouble::Invalid, Some("/profile".to_owned())),
            Denial::OfTheProfile { what } => (Trouble::Invalid, Some(format!("/{what}"))),
            Denial::KeyReused => (Trouble::KeyReused, None),
            Denial::VariableNotAllowed(name) => (Trouble::VariableNotAllowed, Some(format!("/env/{name}"))),
            Denial::OverLimit { what } => (Trouble::OverLimit, Some(format!("/{}", what.replace('.', "/")))),
        };
        let mut refused = Self::because(trouble, denial.to_string());
        let mistake = |at| Mistake { place: Place::Body(at), detail: denial.to_string() };
        refused.mistakes = pointer.map(mistake).into_iter().collect();
        refused
    }

    fn no_profile(refusal: &Unavailable) -> Box<Self> {
        let trouble = match refusal {
            Unavailable::Unknown(_) | Unavailable::None(_) => Trouble::UnknownProfile,
            Unavailable::Busy { .. } => Trouble::ProfileBusy,
            Unavailable::Cooling { .. } => Trouble::ProfilesCooling,
            Unavailable::InUse { .. } => Trouble::ProfilesInUse,
            Unavailable::Quarantined { .. } => Trouble::ProfileQuarantined,
            Unavailable::Full => Trouble::TooManyProfiles,
        };
        let mut refused = Self::because(trouble, refusal.to_string());
        if let Unavailable::Cooling { left, .. } = refusal {
            refused.retry_after = Some(*left);
        }
        refused
    }

    /// A session that ended before it was what somebody waited for.
    pub(super) fn ended(end: &End) -> Box<Self> {
        let trouble = match end.cause {
            Cause::StartFailed | Cause::HostDied => Trouble::StartFailed,
            Cause::HostDraining => Trouble::Draining,
            Cause::Requested | Cause::Expired | Cause::Idle => Trouble::SessionOver,
        };
        let reason = end.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        Self::because(trouble, format!("{}{reason}", end.cause.as_str()))
    }

    /// What the client gets.
    pub(super) fn response(self, request_id: &RequestId) -> Response<Full<Bytes>> {
        let (status, name, title) = self.trouble.outside();
        let mut problem = Problem::new(status, name, title).mistakes(self.mistakes);
        if let Some(detail) = self.detail {
            problem = problem.detail(detail);
        }
        if let Some(after) = self.retry_after.or(self.trouble.retry_after()) {
            problem = problem.retry_after(after);
        }
        let mut response = problem.response(request_id);
        if let Some(allow) = self.allow.and_then(|allow| HeaderValue::from_str(&allow).ok()) {
            response.headers_mut().insert(ALLOW, allow);
        }
        response
    }
}

impl From<CreateError> for Box<Refused> {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Denied(denial) => Refused::denied(&denial),
            CreateError::Failed(error) => Refused::because(Trouble::StartFailed, chain(&error)),
            CreateError::Over(_) | CreateError::Cancelled(_) => {
                Refused::because(Trouble::SessionOver, error.to_string())
            }
            CreateError::Unresponsive(_) => Trouble::Unresponsive.into(),
        }
    }
}

impl From<HandoffError> for Box<Refused> {
    fn from(error: HandoffError) -> Self {
        let trouble = match &error {
            HandoffError::Unknown => return Trouble::UnknownSession.into(),
            HandoffError::Ending => return Trouble::SessionEnding.into(),
            HandoffError::Unresponsive(_) => return Trouble::Unresponsive.into(),
            HandoffError::NotKept => return Trouble::NotKept.into(),
            HandoffError::Denied(HandoffDenial::Unknown) => return Trouble::UnknownHandoff.into(),
            HandoffError::Denied(HandoffDenial::IdInUse) => return Trouble::HandoffExists.into(),
            HandoffError::Denied(HandoffDenial::TooMany) => Trouble::TooManyHandoffs,
            HandoffError::Denied(HandoffDenial::Over(_)) => Trouble::HandoffOver,
        };
        Refused::because(trouble, error.to_string())
    }
}

impl From<ProfileError> for Box<Refused> {
    fn from(error: ProfileError) -> Self {
        let trouble = match &error {
            ProfileError::Unresponsive(_) => return Trouble::Unresponsive.into(),
            ProfileError::NotRemoved(_) => {
                return Refused::because(Trouble::ProfileNotRemoved, chain(&error));
            }
            ProfileError::Denied(ChangeError::Unknown) => return Trouble::UnknownProfile.into(),
            ProfileError::Denied(ChangeError::InUse(_)) => Trouble::ProfileBusy,
            ProfileError::Denied(ChangeError::Leaving) => return Trouble::ProfileLeaving.into(),
            ProfileError::Denied(ChangeError::Taken(_)) => Trouble::ProfileExists,
            ProfileError::Denied(ChangeError::Limit(_) | ChangeError::Full) => Trouble::TooManyProfiles,
        };
        Refused::because(trouble, error.to_string())
    }
}

impl From<AmendError> for Box<Refused> {
    fn from(error: AmendError) -> Self {
        match error {
            AmendError::Unknown => Trouble::UnknownSession.into(),
            AmendError::Ending => Trouble::SessionEnding.into(),
            AmendError::Denied(denial) => Refused::denied(&denial),
            AmendError::Unresponsive(_) => Trouble::Unresponsive.into(),
        }
    }
}

impl From<MintError> for Box<Refused> {
    fn from(error: MintError) -> Self {
        match error {
            MintError::NoKey => Refused::because(Trouble::NoSigningKey, error.to_string()),
            MintError::TooLong | MintError::Sign(_) => Refused::because(Trouble::Internal, chain(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_type_has_one_title_and_none_is_a_success() {
        let mut titles = BTreeMap::new();
        for trouble in Trouble::ALL {
            let (status, name, title) = trouble.outside();
            assert!(status.is_client_error() || status == StatusCode::SERVICE_UNAVAILABLE, "{name}");
            assert_eq!(*titles.entry(name).or_insert(title), title, "{name}");
        }
        assert!(titles.len() > 25, "{}", titles.len());
    }

    #[test]
    fn a_denial_says_which_field_it_is_about() {
        let refused = Refused::denied(&Denial::OverLimit { what: "limits.memory_bytes" });
        assert_eq!(refused.mistakes[0].place, Place::Body("/limits/memory_bytes".to_owned()));
        let refused = Refused::denied(&Denial::OverCapacity { capacity: 3 });
        assert_eq!((refused.trouble, refused.mistakes.len()), (Trouble::OverCapacity, 0));
        assert_eq!(refused.detail.as_deref(), Some("all 3 places for sessions are taken"));
        let left = Duration::from_millis(1_739_500);
        let refused = Refused::denied(&Denial::NoProfile(Unavailable::Cooling { of: 2, left }));
        let response = refused.response(&RequestId::from_random([0; 16]));
        assert_eq!(
            (response.status().as_u16(), &response.headers()["retry-after"]),
            (503, &HeaderValue::from(1740))
        );
    }

    #[test]
    fn a_wrong_proxy_alone_has_a_type_of_its_own() {
        let mistake = |at: &str| Mistake { place: Place::Body(at.to_owned()), detail: String::new() };
        assert_eq!(Refused::invalid(vec![mistake("/proxy/server")]).trouble, Trouble::BadProxy);
        let both = vec![mistake("/proxy/server"), mistake("/kind")];
        assert_eq!(Refused::invalid(both).trouble, Trouble::Invalid);
    }
}
