//! The pool of profiles: lent with a place, given back with it, tended in between.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::ledger::Ledger;
use super::super::profiles::{ProfileError, ProfileRequest, ProfileStatus, REMOVAL_DEADLINE, Reply};
use super::super::record::{Cause, SessionRecord};
use super::super::spec::Spec;
use super::super::status::BROWSER;
use super::super::viewer::Inner;
use super::super::{LaunchError, life, places};
use super::actor::Actor;
use super::place::{Phase, Place};
use super::upkeep::Tended;
use crate::backoff::random_fraction;
use crate::browser::ProfileDir;
use crate::errors::chain;
use crate::ids::ProfileName;
use crate::profile::{
    ChangeError, Kind, Moment, NewProfile, Outcome, Pool, Profile, Settings, State, Unavailable, Wanted,
};
use crate::store::{ProcessRow, SessionKey};
use crate::tasks::Blocking;

/// Between renewals of leases; some of them fit into the life of one.
const RENEW_INTERVAL_MS: i64 = 20_000;
const RENEW_INTERVAL: Duration = Duration::from_millis(RENEW_INTERVAL_MS.unsigned_abs());
/// What stands at a profile for as long as it takes to remove its directory, and for good where the daemon ends meanwhile.
const LEAVING: &str = "its removal has begun";

/// The pool as an earlier run left it. Leases of its sessions, which are no more, are given back; where one of the `processes`
/// that it wrote down could not be ended, the profile is quarantined.
pub(super) async fn restore_pool(settings: Settings, ledger: &Ledger, processes: &[ProcessRow]) -> Pool {
    let now = ledger.now();
    let (mut pool, bad) = Pool::restore(settings, ledger.profiles().await, &now);
    for row in bad {
        tracing::warn!(error = %row, "a profile is left out of the pool");
    }
    for process in processes.iter().filter(|process| ledger.is_there(process)) {
        let of_it = |profile: &&Profile| matches!(&profile.state, State::Active { holder, .. } if *holder == process.session);
        let Some((name, fence)) = pool.all().find(of_it).map(|profile| (profile.name.clone(), profile.fence))
        else {
            continue;
        };
        let why =
            format!("process {} ({}) of its last session cannot be ended", process.pid, process.service);
        tracing::error!(profile = %name, why, "a profile is quarantined");
        // Nobody else has touched it since it was found.
        let _given_back = pool.give_back(&name, fence, Outcome::Unfit(why), 0.0, &now);
    }
    for profile in pool.expire(|_gone| false, random_fraction(), &now) {
        tracing::info!(%profile, "a profile's session ended with the daemon that had it");
    }
    pool
}

impl Actor {
    /// Why the session cannot have the profile that it wants of the pool.
    pub(super) fn pool_refusal(&self, spec: &Spec) -> Option<Unavailable> {
        self.pool.check(&self.wanted(spec)?, &self.ledger.now()).err()
    }

    /// Gives a session that is to start the profile that it wants of the pool.
    pub(super) fn lend(&mut self, spec: &mut Spec) -> Result<(), Unavailable> {
        let Some(wanted) = self.wanted(spec) else { return Ok(()) };
        let lease = self.pool.take(&wanted, spec.key(), &self.ledger.now())?;
        tracing::info!(session = %spec.id, profile = %lease.profile, fence = lease.fence, "a profile was lent");
        spec.lend(lease);
        Ok(())
    }

    /// What a session wants of the pool: any profile, or one that is the pool's to give.
    fn wanted<'a>(&self, spec: &'a Spec) -> Option<Wanted<'a>> {
        let name = spec.profile.as_ref().filter(|name| self.pool.governs(name, spec.kind));
        let wants = spec.pooled || name.is_some();
        spec.user.as_ref().filter(|_| wants).map(|user| Wanted { user, kind: spec.kind, name })
    }

    /// The session gets no place after all.
    pub(super) fn unlend(&mut self, spec: &Spec) {
        if let Some(lease) = &spec.profile_lease {
            self.given_back(&lease.profile, lease.fence, Outcome::Unused);
        }
    }

    /// Nothing is left of the session in this place.
    pub(super) fn give_back_profile(
        &mut self,
        place: &Place,
        over: &Result<Option<Box<SessionRecord>>, life::Error>,
    ) {
        let has_started = has_started(&place.phase, over);
        if has_started == Some(true) {
            self.doubt.started();
        }
        let Some((lease, holder)) = place.lease.as_ref().zip(place.phase.key()) else { return };
        let outcome = match outcome(&place.phase, over) {
            Outcome::Failed(why) if has_started == Some(false) => self.doubt.not_started(&lease.profile, why),
            outcome => outcome,
        };
        match self.care_for(lease.kind, &outcome) {
            Some(care) => self.look_after(lease, Tended { fence: lease.fence, holder, outcome }, care),
            None => self.given_back(&lease.profile, lease.fence, outcome),
        }
    }

    pub(super) fn given_back(&mut self, name: &ProfileName, fence: u64, outcome: Outcome) {
        let now = self.ledger.now();
        tracing::debug!(profile = %name, fence, ?outcome, "a profile is given back");
        if let Err(error) = self.pool.give_back(name, fence, outcome, random_fraction(), &now) {
            tracing::error!(profile = %name, fence, %error, "a profile cannot be given back");
        }
        if let Some(Profile { state: State::Quarantined { reason, .. }, .. }) = self.pool.get(name) {
            tracing::warn!(profile = %name, reason, "a profile is quarantined");
        }
    }

    /// Renews what is used, takes back what is not, and writes down what has changed.
    pub(super) fn tend_profiles(&mut self) {
        let now = self.ledger.now();
        if now.boottime_ms >= self.renew_at_ms {
            self.renew_at_ms = now.boottime_ms.saturating_add(RENEW_INTERVAL_MS);
            for lease in self.places.values().filter_map(|place| place.lease.as_ref()) {
                if self.pool.renew(&lease.profile, lease.fence, &now).is_err() {
                    tracing::error!(profile = %lease.profile, fence = lease.fence, "a session has a profile that is not lent to it");
                }
            }
        }
        let (places, tended) = (&self.places, &self.tended);
        let has_place = |holder: &SessionKey| {
            places.values().any(|place| place.phase.key().as_ref() == Some(holder))
                || tended.values().any(|tended| tended.holder == *holder)
        };
        for profile in self.pool.expire(has_place, random_fraction(), &now) {
            tracing::error!(%profile, "a profile was lent to a session that is not there");
        }
        self.pool.settle(&now);
        self.write_profiles();
    }

    pub(super) fn write_profiles(&mut self) {
        for change in self.pool.changes() {
            self.ledger.profile(change);
        }
    }

    /// When a rest is over or leases are to be renewed.
    pub(super) fn next_profile_care(&self) -> Option<Instant> {
        let renewal = self.places.values().any(|place| place.lease.is_some()).then_some(RENEW_INTERVAL);
        let idle = self.pool.next_idle(&self.ledger.now());
        idle.into_iter().chain(renewal).min().map(|left| Instant::now() + left)
    }

    pub(super) fn profile_request(&mut self, request: ProfileRequest) {
        let now = self.ledger.now();
        self.pool.settle(&now);
        let shown = |found: Result<Profile, ChangeError>| {
            found.map(|profile| status(profile, &now)).map_err(ProfileError::from)
        };
        match request {
            ProfileRequest::List { user, reply } => {
                let wanted = |profile: &&Profile| user.as_ref().is_none_or(|user| profile.user == *user);
                let found = self.pool.all().filter(wanted).map(|profile| status(profile.clone(), &now));
                let _gave_up = reply.send(found.collect());
            }
            ProfileRequest::Show { name, reply } => {
                answer(reply, shown(self.pool.get(&name).cloned().ok_or(ChangeError::Unknown)));
            }
            ProfileRequest::Add { new, reply } => answer(reply, shown(self.add_profile(new, &now))),
            ProfileRequest::Release { name, reply } => {
                let released = self.staying(&name).and_then(|()| self.pool.release(&name));
                answer(reply, shown(released));
            }
            ProfileRequest::Quarantine { name, reason, reply } => {
                let done = self.staying(&name).and_then(|()| self.pool.quarantine(&name, &reason, &now));
                answer(reply, shown(done));
            }
            ProfileRequest::Remove { name, reply } => self.remove_profile(name, &now, reply),
            ProfileRequest::LookedAfter { name, condition } => self.looked_after(&name, condition),
            ProfileRequest::Removed { name, outcome, reply } => {
                self.profile_removed(&name, outcome, &now, reply)
            }
        }
    }

    fn add_profile(&mut self, new: NewProfile, now: &Moment) -> Result<Profile, ChangeError> {
        if let Some(external) = &new.external {
            let of_it = |place: &&Place| {
                place.phase.kind() == Some(new.kind) && place.phase.profile() == Some(external)
            };
            // It was named when the pool did not know it.
            if let Some(id) = self.places.values().find(of_it).and_then(|place| place.phase.id()) {
                return Err(ChangeError::InUse(id.clone()));
            }
        }
        self.pool.add(new, now)
    }

    fn staying(&self, name: &ProfileName) -> Result<(), ChangeError> {
        if self.leaving.contains(name) { Err(ChangeError::Leaving) } else { Ok(()) }
    }

    /// Nobody gets it from here on, and it is in the pool until its directory is gone, so that nobody gets its name either.
    fn remove_profile(&mut self, name: ProfileName, now: &Moment, reply: Reply<ProfileStatus>) {
        let found = self.staying(&name).and_then(|()| self.pool.get(&name).ok_or(ChangeError::Unknown));
        let profile = match found {
            Ok(Profile { state: State::Active { holder, .. }, .. }) => {
                return answer(reply, Err(ChangeError::InUse(holder.id.clone()).into()));
            }
            Ok(profile) => profile,
            Err(error) => return answer(reply, Err(error.into())),
        };
        if profile.kind != Kind::Chromium {
            let removed = self.pool.remove(&name).map(|profile| status(profile, now));
            return answer(reply, removed.map_err(ProfileError::from));
        }
        if let Err(error) = self.pool.quarantine(&name, LEAVING, now) {
            return answer(reply, Err(error.into()));
        }
        self.leaving.insert(name.clone());
        let (host, desk) = (Arc::clone(&self.host), self.desk.clone());
        self.scope.spawn("profile removal", async move {
            let at = name.clone();
            let work = move || {
                let parent = places::profiles(&host).map_err(io::Error::other)?;
                ProfileDir::remove(&parent, at.as_str()).map_err(io::Error::other)
            };
            let (outcome, reply) = removed(Blocking::start(work), REMOVAL_DEADLINE, reply).await;
            let removed = ProfileRequest::Removed { name, outcome, reply };
            desk.tell(super::super::handle::Request::Profiles(removed)).await;
        });
    }

    fn profile_removed(
        &mut self,
        name: &ProfileName,
        outcome: io::Result<()>,
        now: &Moment,
        reply: Option<Reply<ProfileStatus>>,
    ) {
        self.leaving.remove(name);
        let removed = match outcome {
            Ok(()) => self.pool.remove(name).map(|profile| status(profile, now)).map_err(ProfileError::from),
            Err(error) => {
                tracing::error!(profile = %name, error = %chain(&error), "the directory of a profile cannot be removed");
                Err(ProfileError::NotRemoved(error))
            }
        };
        // Otherwise whoever asked was told that it takes long.
        if let Some(reply) = reply {
            answer(reply, removed);
        }
    }
}

/// Waits for a directory to be gone. Whoever asked for it is answered after `limit`, and it goes on: nobody gets the profile's name
/// before.
async fn removed(
    work: Blocking<io::Result<()>>,
    limit: Duration,
    reply: Reply<ProfileStatus>,
) -> (io::Result<()>, Option<Reply<ProfileStatus>>) {
    match work.within(limit).await {
        Ok(outcome) => (outcome.flatten(), Some(reply)),
        Err(unfinished) => {
            let late = io::Error::new(io::ErrorKind::TimedOut, "it takes long, and goes on");
            answer(reply, Err(ProfileError::NotRemoved(late)));
            (unfinished.done().await.flatten(), None)
        }
    }
}

fn status(profile: Profile, now: &Moment) -> ProfileStatus {
    let left = match &profile.state {
        State::Cooldown(rest) => Some(rest.left(now)),
        State::Idle | State::Active { .. } | State::Quarantined { .. } => None,
    };
    ProfileStatus { profile, left }
}

fn answer(reply: Reply<ProfileStatus>, outcome: Result<ProfileStatus, ProfileError>) {
    // Whoever asked may have stopped waiting.
    let _gave_up = reply.send(outcome);
}

/// What a session's end says about its profile.
fn outcome(phase: &Phase, over: &Result<Option<Box<SessionRecord>>, life::Error>) -> Outcome {
    let record = match over {
        Ok(Some(record)) => record,
        Ok(None) => return Outcome::Cut,
        Err(error @ life::Error::Assemble(LaunchError::Profile(_))) => return Outcome::Failed(chain(error)),
        Err(life::Error::Slow | life::Error::Thread(_) | life::Error::Panicked(_)) => return Outcome::Cut,
        // Its browser was never started.
        Err(_) => return Outcome::Unused,
    };
    let session = match phase {
        Phase::Live { session, .. } => Some(&*session.inner),
        Phase::Spare | Phase::Reserved { .. } => None,
    };
    if session.is_some_and(was_reset) {
        return Outcome::Failed("its browser did not start with what was in it".to_owned());
    }
    match &record.end {
        Some(end) if end.cause == Cause::StartFailed => {
            let unstarted = (0, false);
            let (starts, failed) = session.map_or(unstarted, |session| tries(session, record));
            if starts == 0 {
                return Outcome::Unused;
            }
            // Its display, say, or AdsPower as a whole: that says nothing of the profile.
            if !(session.is_some_and(is_browsers_fault) && failed) {
                return Outcome::Cut;
            }
            let reason = end.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
            Outcome::Failed(format!("{}{reason}", end.cause.as_str()))
        }
        _ if record.ready.is_some() => Outcome::Fine,
        _ => Outcome::Cut,
    }
}

/// Whether a browser that this host runs itself has started for a session that is over, as far as that can be told.
fn has_started(phase: &Phase, over: &Result<Option<Box<SessionRecord>>, life::Error>) -> Option<bool> {
    let (Phase::Live { session, .. }, Ok(Some(record))) = (phase, over) else { return None };
    if record.kind != Kind::Chromium {
        return None;
    }
    // Without what was in the profile, it did.
    if record.ready.is_some() || was_reset(&session.inner) {
        return Some(true);
    }
    let has_failed = record.end.as_ref().is_some_and(|end| end.cause == Cause::StartFailed);
    (is_browsers_fault(&session.inner) && has_failed).then_some(false)
}

/// Whether its browser was given an empty profile, since it did not start with what was in it.
fn was_reset(session: &Inner) -> bool {
    session.facts.profile_resets.as_ref().is_some_and(|resets| *resets.borrow() > 0)
}

/// Whether it was its browser that ended it.
fn is_browsers_fault(session: &Inner) -> bool {
    session.culprit.get() == Some(&BROWSER)
}

/// How often a session's browser was started, and whether what went wrong with it may be its profile's fault.
fn tries(session: &Inner, record: &SessionRecord) -> (u32, bool) {
    if let Some(status) = &session.facts.adspower {
        let view = &status.borrow().view;
        return (view.starts, view.failed);
    }
    let browser = record.components.iter().find(|component| component.name == BROWSER);
    browser.map_or((0, false), |browser| (browser.starts, true))
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::super::super::record::End;
    use super::super::super::stand_in;
    use super::super::super::status::{Component, ComponentStatus, SessionState, SessionStatus};
    use super::super::place::Controls;
    use super::*;
    use crate::adspower::browser::machine::View;
    use crate::adspower::browser::{State as BrowserState, Status};
    use crate::profile::{Rotation, StateWord};
    use crate::store::{Metrics, Store};
    use crate::sys::procfs::Stat;

    /// What stands in for a process that survives SIGKILL is this test's own parent, which nobody signals.
    #[tokio::test]
    async fn a_profile_whose_session_left_a_process_that_cannot_be_ended_is_quarantined() {
        let dir = tempfile::tempdir().unwrap();
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let store = Store::open(&dir.path().join("state.db"), metrics).unwrap().store;
        let ledger = Ledger::new(store, "boot".to_owned(), "run".to_owned());
        let settings = Settings {
            per_user: 2,
            cooldown: Duration::from_secs(60),
            quarantine_after: 3,
            proxies: Vec::new(),
            rotation: Rotation::Off,
            quota: None,
        };
        let mut before = restore_pool(settings.clone(), &ledger, &[]).await;
        let user = "u".parse().unwrap();
        let wanted = Wanted { user: &user, kind: Kind::Chromium, name: None };
        let mut lend = |id: &str| {
            let holder = SessionKey { id: id.parse().unwrap(), created_ms: 1 };
            (holder.clone(), before.take(&wanted, holder, &ledger.now()).unwrap().profile)
        };
        let (stuck, kept) = lend("stuck");
        let (ended, free) = lend("ended");
        before.changes().into_iter().for_each(|change| ledger.profile(change));

        let parent = nix::unistd::getppid().as_raw().cast_unsigned();
        let start_time = Stat::of(parent).unwrap().start_time;
        let process = |session: SessionKey, start_time| ProcessRow {
            session,
            service: "browser".into(),
            pid: parent,
            start_time,
            cgroup: None,
            boot_id: "boot".into(),
        };
        let processes = [process(stuck, start_time), process(ended, start_time + 1)];
        let pool = restore_pool(settings, &ledger, &processes).await;
        let state = |name| pool.get(name).map(|profile| profile.state.word());
        assert_eq!(state(&kept), Some(StateWord::Quarantined));
        assert_eq!(state(&free), Some(StateWord::Cooldown), "its pid is somebody else's by now");
    }

    #[tokio::test]
    async fn a_removal_that_takes_long_is_said_to_and_is_seen_when_it_is_done() {
        let (go, wait) = std::sync::mpsc::sync_channel::<()>(1);
        let work = Blocking::start(move || wait.recv().map_err(io::Error::other));
        let (reply, answer) = tokio::sync::oneshot::channel();
        let mut removal = Box::pin(removed(work, Duration::ZERO, reply));
        let told = tokio::select! {
            told = answer => told.unwrap().unwrap_err(),
            _done = &mut removal => panic!("nothing is done"),
        };
        assert!(matches!(told, ProfileError::NotRemoved(_)), "{told}");
        go.send(()).unwrap();
        let (outcome, reply) = removal.await;
        assert!(outcome.is_ok() && reply.is_none());
    }

    /// What becomes of the profile of a session that did not start for this part.
    fn of_start(culprit: &'static str, starts: u32, adspower: Option<bool>) -> Outcome {
        let browser = Component {
            name: BROWSER,
            status: ComponentStatus::Stopped,
            since: std::time::SystemTime::now(),
            reason: None,
            pid: None,
            starts,
        };
        let end = End { cause: Cause::StartFailed, reason: Some(format!("{culprit}: no")) };
        let status = SessionStatus {
            state: SessionState::Stopped,
            ready: None,
            end: Some(end),
            components: vec![browser],
        };
        let status = tokio::sync::watch::Sender::new(status).subscribe();
        let nowhere = tokio::sync::watch::Sender::new(None).subscribe();
        let mut session = stand_in::session_with_browser("s", nowhere, status);
        let inner = Arc::get_mut(&mut session.inner).unwrap();
        inner.culprit.set(culprit).unwrap();
        inner.facts.adspower = adspower.map(|failed| {
            let view = View { state: BrowserState::Stopped, reason: None, starts, failed };
            tokio::sync::watch::Sender::new(Status { view, pid: None }).subscribe()
        });
        let record = session.record();
        let controls = Controls {
            terms: tokio::sync::watch::Sender::default(),
            handoffs: tokio::sync::watch::Sender::default(),
        };
        outcome(&Phase::Live { session, controls }, &Ok(Some(Box::new(record))))
    }

    #[test]
    fn a_start_that_failed_counts_against_the_profile_where_the_browser_itself_did() {
        let failed = Outcome::Failed("start_failed: browser: no".to_owned());
        assert_eq!(of_start(BROWSER, 2, None), failed);
        assert_eq!(of_start("x11vnc", 2, None), Outcome::Cut);
        assert_eq!(of_start("xvfb", 0, None), Outcome::Unused, "its browser was never started");
        assert_eq!(of_start(BROWSER, 2, Some(true)), failed, "AdsPower refused it");
        assert_eq!(of_start(BROWSER, 2, Some(false)), Outcome::Cut, "AdsPower did not answer");
        assert_eq!(of_start(BROWSER, 0, Some(false)), Outcome::Unused, "AdsPower was not up");
        assert_eq!(of_start("xvfb", 2, Some(true)), Outcome::Cut);
    }
}
