//! Whether a session may be created now. Pure: the situation comes in as a value, and the answer explains itself.

use super::request::Kind;
use crate::ids::{ProfileName, SessionId};
use crate::profile::Unavailable;

/// What the host is like when somebody asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Situation<'a> {
    /// Whether the daemon is going away.
    pub(super) draining: bool,
    /// Whether the control plane does not know this host.
    pub(super) refusing: bool,
    /// The session that the daemon is there for, where it is for no other.
    pub(super) alone: Option<&'a SessionId>,
    /// Sessions that the host takes at a time.
    pub(super) capacity: usize,
    /// Those that are there: starting, running and ending ones.
    pub(super) occupied: usize,
    /// Requests that wait for a place.
    pub(super) queued: usize,
    /// Requests that may wait.
    pub(super) queue_length: usize,
    /// Whether a session of the id that is asked for is there.
    pub(super) id_in_use: bool,
    /// The session that has the profile that is asked for.
    pub(super) profile_holder: Option<&'a SessionId>,
    /// Why the pool has no profile for it now, where it is to have one of the pool's.
    pub(super) no_profile: Option<&'a Unavailable>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Admission {
    /// It may start.
    Accepted,
    /// It may wait for a place.
    Queued,
    /// It may not.
    Denied(Denial),
}

/// Why a session is not created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The daemon is going away.
    #[error("the host is going away")]
    Draining,
    /// The control plane has refused this host.
    #[error("the control plane does not know this host")]
    HostRefused,
    /// The daemon is there for one session, and ends with it.
    #[error("this host is there for session {0} alone")]
    SingleSession(SessionId),
    /// Every place is taken, and nobody may wait (any longer).
    #[error("all {capacity} places for sessions are taken")]
    OverCapacity {
        /// Sessions at a time.
        capacity: usize,
    },
    /// A session of that id is there, and it is not the one that is asked for.
    #[error("there is a session of this id already")]
    IdInUse,
    /// The profile is lent to another session.
    #[error("profile {profile} is in use by session {holder}")]
    ProfileBusy {
        /// Which profile.
        profile: ProfileName,
        /// Who has it.
        holder: SessionId,
    },
    /// The pool has no profile for it.
    #[error("{0}")]
    NoProfile(Unavailable),
    /// This host has no such browser.
    #[error("this host has no browser of kind {}", .0.as_str())]
    KindUnavailable(Kind),
    /// AdsPower opens profiles, and none was named.
    #[error("a session of kind adspower needs the id of a profile of AdsPower's")]
    ProfileNeeded,
    /// AdsPower has its own way for that.
    #[error("{what} cannot be set for a session of kind adspower: it belongs to its profile in AdsPower")]
    OfTheProfile {
        /// Which field.
        what: &'static str,
    },
    /// The key was used for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// The variable is not on the list of those that requests may set.
    #[error("the variable {0} may not be set")]
    VariableNotAllowed(String),
    /// More than the host allows.
    #[error("{what} is more than this host allows")]
    OverLimit {
        /// Which field.
        what: &'static str,
    },
}

/// Judges a request. What is wrong with the request comes before what is wrong with the moment, so that nobody waits for a
/// place in vain.
pub(super) fn judge(profile: Option<&ProfileName>, situation: &Situation<'_>) -> Admission {
    let denied = |denial| Admission::Denied(denial);
    if situation.draining {
        return denied(Denial::Draining);
    }
    if situation.refusing {
        return denied(Denial::HostRefused);
    }
    if let Some(id) = situation.alone {
        return denied(Denial::SingleSession(id.clone()));
    }
    if situation.id_in_use {
        return denied(Denial::IdInUse);
    }
    if let (Some(profile), Some(holder)) = (profile, situation.profile_holder) {
        return denied(Denial::ProfileBusy { profile: profile.clone(), holder: holder.clone() });
    }
    if let Some(refusal) = situation.no_profile {
        return denied(refusal.clone().into());
    }
    if situation.occupied < situation.capacity && situation.queued == 0 {
        return Admission::Accepted;
    }
    if situation.queued < situation.queue_length {
        return Admission::Queued;
    }
    denied(Denial::OverCapacity { capacity: situation.capacity })
}

impl From<Unavailable> for Denial {
    fn from(refusal: Unavailable) -> Self {
        match refusal {
            Unavailable::Busy { profile, holder } => Self::ProfileBusy { profile, holder },
            refusal => Self::NoProfile(refusal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Situation<'_> = Situation {
        draining: false,
        refusing: false,
        alone: None,
        capacity: 2,
        occupied: 1,
        queued: 0,
        queue_length: 1,
        id_in_use: false,
        profile_holder: None,
        no_profile: None,
    };

    #[test]
    fn a_free_place_is_taken_and_a_full_host_makes_wait_or_refuses() {
        assert_eq!(judge(None, &FREE), Admission::Accepted);
        let full = Situation { occupied: 2, ..FREE };
        assert_eq!(judge(None, &full), Admission::Queued);
        let crowded = Situation { queued: 1, ..full };
        assert_eq!(judge(None, &crowded), Admission::Denied(Denial::OverCapacity { capacity: 2 }));
        let prompt = Situation { queue_length: 0, ..full };
        assert_eq!(judge(None, &prompt), Admission::Denied(Denial::OverCapacity { capacity: 2 }));
    }

    #[test]
    fn nobody_overtakes_those_who_wait() {
        let waiting = Situation { queued: 1, queue_length: 4, ..FREE };
        assert_eq!(judge(None, &waiting), Admission::Queued);
    }

    #[test]
    fn what_waiting_would_not_mend_is_said_at_once() {
        let full = Situation { occupied: 2, ..FREE };
        assert_eq!(judge(None, &Situation { id_in_use: true, ..full }), Admission::Denied(Denial::IdInUse));
        let holder: SessionId = "other".parse().unwrap();
        let profile: ProfileName = "p".parse().unwrap();
        let busy = Situation { profile_holder: Some(&holder), ..full };
        let denial = Denial::ProfileBusy { profile: profile.clone(), holder: holder.clone() };
        assert_eq!(denial.to_string(), "profile p is in use by session other");
        assert_eq!(judge(Some(&profile), &busy), Admission::Denied(denial));
        let refusal = Unavailable::InUse { of: 3 };
        let poor = Situation { no_profile: Some(&refusal), ..full };
        assert_eq!(judge(None, &poor), Admission::Denied(Denial::NoProfile(refusal.clone())));
        let draining = Situation { draining: true, id_in_use: true, ..FREE };
        assert_eq!(judge(None, &draining), Admission::Denied(Denial::Draining));
        let refused = Situation { refusing: true, ..FREE };
        assert_eq!(judge(None, &refused), Admission::Denied(Denial::HostRefused));
        // Also when its place is free again, in the moment between its end and the daemon's.
        let alone = Situation { alone: Some(&holder), occupied: 0, ..FREE };
        assert_eq!(judge(None, &alone), Admission::Denied(Denial::SingleSession(holder.clone())));
    }
}
