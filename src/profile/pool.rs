//! The pool: who may use which profile, and what becomes of it afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};

use super::PREFIX;
use super::choice::{Choice, Unavailable, Wanted};
use super::kind::Kind;
use super::record::{Fingerprint, Lease, Profile, State, StateWord, reason};
use super::row::signed;
use super::settings::{Rotation, Settings};
use super::time::{Moment, Rest};
use crate::hex;
use crate::ids::{ProfileName, SessionId, UserId};
use crate::proxy::Proxy;
use crate::store::{ProfileRow, SessionKey};

/// Profiles on a host. Each costs memory, mostly a directory, and a row that the store keeps in memory as well, which has room
/// for twice as many. Those that nobody uses any more are removed by an operator.
pub(super) const MOST_PROFILES: usize = 2048;
/// A lease that nobody renews for so long has lost its holder. Renewed several times in it.
const LEASE_MS: i64 = 60_000;
/// More leases than a host gives in a second, and few enough that the number stays one that JSON can carry (2^53).
const FENCES_IN_A_SECOND: u64 = 1 << 20;

/// How a session went, for the profile that it had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Fine,
    /// The profile may be the reason that it did not.
    Failed(String),
    /// It was cut off, which says nothing about the profile.
    Cut,
    /// It never began.
    Unused,
    /// The profile cannot be used as it is.
    Unfit(String),
}

/// A lease that is not the newest of its profile, or was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lease is over")]
pub struct Stale;

/// Why the pool was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// There is no such profile.
    #[error("there is no profile of this name")]
    Unknown,
    /// A session has it.
    #[error("session {0} has the profile")]
    InUse(SessionId),
    /// The user has as many of that kind as there may be.
    #[error("the user has {0} profiles of this kind, and may have no more")]
    Limit(usize),
    /// The host has as many as there may be.
    #[error("this host has {MOST_PROFILES} profiles and makes no more")]
    Full,
    /// Another one stands for that profile of AdsPower's.
    #[error("profile {0} stands for it already")]
    Taken(ProfileName),
    /// It is on its way out.
    #[error("the profile is being removed")]
    Leaving,
}

/// A profile to be added.
#[derive(Debug, Clone, PartialEq)]
pub struct NewProfile {
    /// Whose.
    pub user: UserId,
    /// What opens it.
    pub kind: Kind,
    /// What AdsPower calls it.
    pub external: Option<ProfileName>,
    /// What its pages are fetched through; none: as the rotation has it, and in AdsPower's case as AdsPower has it.
    pub proxy: Option<Proxy>,
    /// How it looks to pages.
    pub fingerprint: Option<Fingerprint>,
}

/// What is to be written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A profile as it is now.
    Put(Box<ProfileRow>),
    /// One that is no more.
    Gone(ProfileName),
    /// Leases so far are numbered up to this, although no profile may tell.
    Fence(i64),
}

/// How many there are in each state, in the order of [`StateWord::ALL`].
pub type Counts = [usize; StateWord::ALL.len()];

/// The pool.
#[derive(Debug)]
pub struct Pool {
    pub(super) settings: Settings,
    profiles: BTreeMap<ProfileName, Profile>,
    /// Of the newest lease.
    pub(super) fence: u64,
    /// Of the next proxy, where each session gets another.
    turn: usize,
    changed: BTreeSet<ProfileName>,
    /// Whether the profile that knew the newest lease may be gone.
    fence_changed: bool,
}

impl Pool {
    /// An empty pool. Leases are numbered from the clock on: should the row of a lease be lost with the daemon, the next run's
    /// are above it all the same.
    pub(super) fn empty(settings: Settings, now: &Moment) -> Self {
        let seconds = u64::try_from(now.wall_ms / 1000).unwrap_or_default();
        let fence = seconds.saturating_mul(FENCES_IN_A_SECOND);
        Self {
            settings,
            profiles: BTreeMap::new(),
            fence,
            turn: 0,
            changed: BTreeSet::new(),
            fence_changed: false,
        }
    }

    /// How it works.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether a session could have a profile now.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, wanted: &Wanted<'_>, now: &Moment) -> Result<(), Unavailable> {
        self.choose(wanted, now).map(drop)
    }

    /// Lends a profile to `holder`, one that is made for it where the user may have more.
    ///
    /// # Errors
    /// Why there is none. Nothing has changed then.
    pub fn take(
        &mut self,
        wanted: &Wanted<'_>,
        holder: SessionKey,
        now: &Moment,
    ) -> Result<Lease, Unavailable> {
        let name = match self.choose(wanted, now)? {
            Choice::Known(name) => name,
            Choice::Fresh => {
                let (user, kind) = (wanted.user.clone(), wanted.kind);
                let new = NewProfile { user, kind, external: None, proxy: None, fingerprint: None };
                self.insert(new, now).ok_or(Unavailable::Full)?
            }
        };
        // One of AdsPower's has its own there.
        let takes_turn = self.settings.rotation == Rotation::Session && wanted.kind == Kind::Chromium;
        let next = takes_turn.then(|| self.next_proxy()).flatten();
        let until_ms = now.boottime_ms.saturating_add(LEASE_MS);
        let Some(profile) = self.profiles.get_mut(&name) else { return Err(Unavailable::Unknown(name)) };
        self.fence = self.fence.saturating_add(1);
        profile.fence = self.fence;
        profile.uses = profile.uses.saturating_add(1);
        profile.last_used_ms = Some(now.wall_ms);
        profile.state = State::Active { holder, until_ms, condemned: None };
        let proxy = profile.proxy.clone().or(next);
        let lease = profile.lease(proxy);
        self.changed.insert(name);
        Ok(lease)
    }

    /// Its holder is still there.
    ///
    /// # Errors
    /// When it is over.
    pub fn renew(&mut self, name: &ProfileName, fence: u64, now: &Moment) -> Result<(), Stale> {
        let State::Active { until_ms, .. } = &mut self.leased(name, fence)?.state else { return Err(Stale) };
        *until_ms = now.boottime_ms.saturating_add(LEASE_MS);
        Ok(())
    }

    /// The session is over. `random` is uniform in `0.0..1.0`.
    ///
    /// # Errors
    /// When the lease was over before. Nothing has changed then.
    pub fn give_back(
        &mut self,
        name: &ProfileName,
        fence: u64,
        outcome: Outcome,
        random: f64,
        now: &Moment,
    ) -> Result<(), Stale> {
        let most = self.settings.quarantine_after;
        let rest = Rest { from: now.clone(), length: self.settings.rest(random) };
        let profile = self.leased(name, fence)?;
        let State::Active { condemned, .. } = &mut profile.state else { return Err(Stale) };
        let mut quarantine = condemned.take();
        let is_tired = outcome != Outcome::Unused && !rest.length.is_zero();
        match outcome {
            Outcome::Fine => profile.failures = 0,
            Outcome::Failed(why) => {
                profile.failures = profile.failures.saturating_add(1);
                if profile.failures >= most {
                    let count = profile.failures;
                    quarantine =
                        quarantine.or(Some(format!("{count} sessions in a row failed with it: {why}")));
                }
            }
            Outcome::Unfit(why) => quarantine = quarantine.or(Some(why)),
            Outcome::Cut => {}
            Outcome::Unused => profile.uses = profile.uses.saturating_sub(1),
        }
        profile.state = match quarantine {
            Some(why) => State::Quarantined { reason: reason(&why), since_ms: now.wall_ms },
            None if is_tired => State::Cooldown(rest),
            None => State::Idle,
        };
        self.changed.insert(name.clone());
        Ok(())
    }

    /// Takes back leases that nobody renewed and whose holder has no place any more; their profiles rest. `random` as in
    /// [`Self::give_back`].
    pub fn expire(
        &mut self,
        has_place: impl Fn(&SessionKey) -> bool,
        random: f64,
        now: &Moment,
    ) -> Vec<ProfileName> {
        let lost = |profile: &&Profile| match &profile.state {
            State::Active { holder, until_ms, .. } => *until_ms <= now.boottime_ms && !has_place(holder),
            _ => false,
        };
        let lost: Vec<_> =
            self.all().filter(lost).map(|profile| (profile.name.clone(), profile.fence)).collect();
        lost.into_iter()
            .filter(|(name, fence)| self.give_back(name, *fence, Outcome::Cut, random, now).is_ok())
            .map(|(name, _fence)| name)
            .collect()
    }

    /// Makes those idle whose rest is over.
    pub fn settle(&mut self, now: &Moment) {
        for profile in self.profiles.values_mut() {
            if let State::Cooldown(rest) = &profile.state
                && rest.left(now).is_zero()
            {
                profile.state = State::Idle;
                self.changed.insert(profile.name.clone());
            }
        }
    }

    /// Until a rest is over, if there is one.
    pub fn next_idle(&self, now: &Moment) -> Option<Duration> {
        let rests = self.profiles.values().filter_map(|profile| match &profile.state {
            State::Cooldown(rest) => Some(rest.left(now)),
            _ => None,
        });
        rests.min()
    }

    /// Adds a profile.
    ///
    /// # Errors
    /// When there may be no more, or there is one for the same profile of AdsPower's.
    pub fn add(&mut self, new: NewProfile, now: &Moment) -> Result<Profile, ChangeError> {
        if let Some(external) = &new.external
            && let Some(known) = self.all().find(|profile| profile.external.as_ref() == Some(external))
        {
            return Err(ChangeError::Taken(known.name.clone()));
        }
        if self.of(&new.user, new.kind).count() >= self.settings.per_user {
            return Err(ChangeError::Limit(self.settings.per_user));
        }
        let name = self.insert(new, now).ok_or(ChangeError::Full)?;
        self.get(&name).cloned().ok_or(ChangeError::Unknown)
    }

    /// An operator has it used again at once. One that is in use is not to be quarantined any more.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn release(&mut self, name: &ProfileName) -> Result<Profile, ChangeError> {
        let profile = self.profiles.get_mut(name).ok_or(ChangeError::Unknown)?;
        match &mut profile.state {
            State::Active { condemned, .. } => *condemned = None,
            State::Idle | State::Cooldown(_) | State::Quarantined { .. } => {
                profile.state = State::Idle;
            }
        }
        profile.failures = 0;
        self.changed.insert(name.clone());
        Ok(profile.clone())
    }

    /// An operator has it used no more; one that is in use, as soon as it comes back.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn quarantine(
        &mut self,
        name: &ProfileName,
        why: &str,
        now: &Moment,
    ) -> Result<Profile, ChangeError> {
        let profile = self.profiles.get_mut(name).ok_or(ChangeError::Unknown)?;
        let reason = reason(why);
        match &mut profile.state {
            State::Active { condemned, .. } => *condemned = Some(reason),
            State::Idle | State::Cooldown(_) | State::Quarantined { .. } => {
                profile.state = State::Quarantined { reason, since_ms: now.wall_ms };
            }
        }
        self.changed.insert(name.clone());
        Ok(profile.clone())
    }

    /// Takes it out of the pool.
    ///
    /// # Errors
    /// While a session has it, and when there is none of that name.
    pub fn remove(&mut self, name: &ProfileName) -> Result<Profile, ChangeError> {
        let profile = self.get(name).ok_or(ChangeError::Unknown)?;
        if let State::Active { holder, .. } = &profile.state {
            return Err(ChangeError::InUse(holder.id.clone()));
        }
        self.changed.insert(name.clone());
        self.fence_changed = true;
        self.profiles.remove(name).ok_or(ChangeError::Unknown)
    }

    /// What has changed since this was asked last, for whoever writes it down.
    pub fn changes(&mut self) -> Vec<Change> {
        let changed = std::mem::take(&mut self.changed);
        let change = |name: ProfileName| match self.profiles.get(&name) {
            Some(profile) => Change::Put(Box::new(profile.row())),
            None => Change::Gone(name),
        };
        let mut changes: Vec<_> = changed.into_iter().map(change).collect();
        if std::mem::take(&mut self.fence_changed) {
            changes.push(Change::Fence(signed(self.fence)));
        }
        changes
    }

    /// The profile of that name.
    pub fn get(&self, name: &ProfileName) -> Option<&Profile> {
        self.profiles.get(name)
    }

    /// Whether the name, by us or by AdsPower, is one of the pool's, or could become one.
    pub fn governs(&self, name: &ProfileName, kind: Kind) -> bool {
        (kind == Kind::Chromium && name.as_str().starts_with(PREFIX)) || self.named(name, kind).is_some()
    }

    /// All of them, by their names.
    pub fn all(&self) -> impl Iterator<Item = &Profile> {
        self.profiles.values()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.profiles.len()
    }

    /// How many there are in each state.
    pub fn counts(&self) -> Counts {
        StateWord::ALL.map(|word| self.all().filter(|profile| profile.state.word() == word).count())
    }

    pub(super) fn of(&self, user: &UserId, kind: Kind) -> impl Iterator<Item = &Profile> {
        self.all().filter(move |profile| profile.kind == kind && profile.user == *user)
    }

    /// The profile, where that is its newest lease and it was not given back.
    fn leased(&mut self, name: &ProfileName, fence: u64) -> Result<&mut Profile, Stale> {
        let is_it =
            |profile: &&mut Profile| profile.fence == fence && matches!(profile.state, State::Active { .. });
        self.profiles.get_mut(name).filter(is_it).ok_or(Stale)
    }

    /// `None`: there may be no more on this host.
    fn insert(&mut self, new: NewProfile, now: &Moment) -> Option<ProfileName> {
        if self.len() >= MOST_PROFILES {
            return None;
        }
        let name = self.free_name(&new.user, new.kind)?;
        let NewProfile { user, kind, external, proxy, fingerprint } = new;
        let proxy = match self.settings.rotation {
            Rotation::Profile if kind == Kind::Chromium => proxy.or_else(|| self.least_used_proxy()),
            Rotation::Off | Rotation::Profile | Rotation::Session => proxy,
        };
        let profile = Profile {
            name: name.clone(),
            user,
            kind,
            external,
            proxy,
            fingerprint,
            state: State::Idle,
            failures: 0,
            uses: 0,
            fence: 0,
            last_used_ms: None,
            created_ms: now.wall_ms,
        };
        self.restored(profile);
        self.changed.insert(name.clone());
        Some(name)
    }

    /// It is to be written down, although nothing was done to it.
    pub(super) fn note_change(&mut self, name: ProfileName) {
        self.changed.insert(name);
    }

    /// Takes a profile as it is.
    pub(super) fn restored(&mut self, profile: Profile) {
        self.profiles.insert(profile.name.clone(), profile);
    }

    /// The first name of the user's that is free. A lost file of profiles gives each user the same names again.
    fn free_name(&self, user: &UserId, kind: Kind) -> Option<ProfileName> {
        (1..=MOST_PROFILES)
            .filter_map(|number| name_of(user, kind, number))
            .find(|name| self.get(name).is_none())
    }

    /// The proxy that the fewest profiles have; of several, the first in the settings.
    fn least_used_proxy(&self) -> Option<Proxy> {
        let users =
            |proxy: &&Proxy| self.all().filter(|profile| profile.proxy.as_ref() == Some(*proxy)).count();
        self.settings.proxies.iter().min_by_key(users).cloned()
    }

    fn next_proxy(&mut self) -> Option<Proxy> {
        let count = self.settings.proxies.len();
        let proxy = self.settings.proxies.get(self.turn.checked_rem(count)?).cloned();
        self.turn = self.turn.wrapping_add(1) % count;
        proxy
    }
}

/// A name that tells nothing of the user: 64 bits of a digest. With that many, no two users of a host share one.
fn name_of(user: &UserId, kind: Kind, number: usize) -> Option<ProfileName> {
    let text = format!("{}\0{}\0{number}", user.as_str(), kind.as_str());
    let digest = digest(&SHA256, text.as_bytes());
    format!("{PREFIX}{}", hex::encode(digest.as_ref().get(..8)?)).parse().ok()
}
