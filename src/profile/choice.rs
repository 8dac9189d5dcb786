//! Which profile a session gets, or why it gets none.

use std::fmt;
use std::time::Duration;

use super::kind::Kind;
use super::pool::{MOST_PROFILES, Pool};
use super::record::{Profile, State};
use super::time::Moment;
use crate::ids::{ProfileName, SessionId, UserId};

/// What somebody wants.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// For whom.
    pub user: &'a UserId,
    /// For what browser.
    pub kind: Kind,
    /// This one and no other; none: whichever was used longest ago.
    pub name: Option<&'a ProfileName>,
}

/// Why there is no profile for somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unavailable {
    /// There is none of that name for this user and browser; it may be somebody else's.
    Unknown(ProfileName),
    /// The one that is named is in use.
    Busy {
        /// Which.
        profile: ProfileName,
        /// Who has it.
        holder: SessionId,
    },
    /// Nothing can be had before a rest is over.
    Cooling {
        /// How many were looked at.
        of: usize,
        /// Until the first is over.
        left: Duration,
    },
    /// All are in use, but for those that are quarantined.
    InUse {
        /// How many were looked at.
        of: usize,
    },
    /// All wait for an operator.
    Quarantined {
        /// How many were looked at.
        of: usize,
        /// Why, of one of them.
        reason: String,
    },
    /// The user has none, and one of this kind is only there when somebody adds it.
    None(Kind),
    /// The host has so many that it takes no more.
    Full,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "the user has no profile {name} of this kind"),
            Self::Busy { profile, holder } => write!(f, "profile {profile} is in use by session {holder}"),
            Self::Cooling { of: 1, left } => {
                write!(f, "the profile cools down for another {} s", seconds(*left))
            }
            Self::Cooling { of, left } => {
                write!(
                    f,
                    "of {of} profiles none is idle, and the first cools down for another {} s",
                    seconds(*left)
                )
            }
            Self::InUse { of } => write!(f, "all {of} profiles of the user are in use or quarantined"),
            Self::Quarantined { of: 1, reason } => write!(f, "the profile is quarantined: {reason}"),
            Self::Quarantined { of, reason } => {
                write!(f, "all {of} profiles are quarantined, one of them: {reason}")
            }
            Self::None(kind) => {
                write!(f, "the user has no profile of kind {}, and none is made here", kind.as_str())
            }
            Self::Full => write!(f, "this host has {MOST_PROFILES} profiles and makes no more"),
        }
    }
}

impl std::error::Error for Unavailable {}

/// Whole seconds, so that whoever comes back then is not too early.
fn seconds(left: Duration) -> u64 {
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}

/// What can be lent.
pub(super) enum Choice {
    Known(ProfileName),
    /// One that is still to be made.
    Fresh,
}

impl Pool {
    pub(super) fn choose(&self, wanted: &Wanted<'_>, now: &Moment) -> Result<Choice, Unavailable> {
        match wanted.name {
            Some(name) => {
                let found = self.named(name, wanted.kind);
                let own = found.filter(|profile| profile.kind == wanted.kind && profile.user == *wanted.user);
                let profile = own.ok_or_else(|| Unavailable::Unknown(name.clone()))?;
                if let State::Active { holder, .. } = &profile.state {
                    return Err(Unavailable::Busy {
                        profile: profile.name.clone(),
                        holder: holder.id.clone(),
                    });
                }
                available(profile, now)
                    .then(|| Choice::Known(profile.name.clone()))
                    .ok_or_else(|| why_none(&[profile], now))
            }
            None => self.least_recently_used(wanted, now),
        }
    }

    fn least_recently_used(&self, wanted: &Wanted<'_>, now: &Moment) -> Result<Choice, Unavailable> {
        let own: Vec<&Profile> = self.of(wanted.user, wanted.kind).collect();
        let idle = own.iter().filter(|profile| available(profile, now));
        if let Some(profile) = idle.min_by_key(|profile| profile.fence) {
            return Ok(Choice::Known(profile.name.clone()));
        }
        if wanted.kind == Kind::Chromium && own.len() < self.settings.per_user {
            return if self.len() < MOST_PROFILES { Ok(Choice::Fresh) } else { Err(Unavailable::Full) };
        }
        if own.is_empty() { Err(Unavailable::None(wanted.kind)) } else { Err(why_none(&own, now)) }
    }

    /// The profile that is called so, by us or by AdsPower.
    pub(super) fn named(&self, name: &ProfileName, kind: Kind) -> Option<&Profile> {
        let external =
            || self.all().find(|profile| profile.kind == kind && profile.external.as_ref() == Some(name));
        self.get(name).or_else(external)
    }
}

fn available(profile: &Profile, now: &Moment) -> bool {
    match &profile.state {
        State::Idle => true,
        State::Cooldown(rest) => rest.left(now).is_zero(),
        State::Active { .. } | State::Quarantined { .. } => false,
    }
}

/// Why none of these can be had now. The first that will be by itself counts, then those that their users give back.
fn why_none(profiles: &[&Profile], now: &Moment) -> Unavailable {
    let of = profiles.len();
    let cooling = profiles.iter().filter_map(|profile| match &profile.state {
        State::Cooldown(rest) => Some(rest.left(now)),
        _ => None,
    });
    if let Some(left) = cooling.min() {
        return Unavailable::Cooling { of, left };
    }
    let reason = profiles.iter().map(|profile| match &profile.state {
        State::Quarantined { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    match reason.collect::<Option<Vec<_>>>().and_then(|reasons| reasons.into_iter().next()) {
        Some(reason) => Unavailable::Quarantined { of, reason },
        None => Unavailable::InUse { of },
    }
}
