//! Which profiles the sessions of this host have, and what AdsPower says of that.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::ids::ProfileId;

/// The profiles that sessions have. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Holds {
    /// A mutex, since sessions come and go on tasks of their own; held for one look.
    held: Arc<Mutex<BTreeMap<ProfileId, Held>>>,
    /// Told of each that is abandoned.
    abandoned: Arc<Notify>,
}

#[derive(Debug)]
enum Held {
    /// A session has it.
    Taken {
        /// Since when its browser is open, as far as its session knows.
        open_since: Option<Instant>,
        lost: Arc<Notify>,
    },
    /// Its session has ended while AdsPower was opening its browser. That may still come until then, and nobody else gets the
    /// profile before it was closed.
    Abandoned { until: Instant },
}

impl Held {
    fn is_over(&self, now: Instant) -> bool {
        matches!(self, Self::Abandoned { until } if *until <= now)
    }
}

/// A profile that a session has, until this is dropped.
#[derive(Debug)]
pub(super) struct Hold {
    profile: ProfileId,
    holds: Holds,
    lost: Arc<Notify>,
    /// Whether it stands when this is dropped.
    is_kept: bool,
}

impl Holds {
    /// None where another session has it.
    pub(super) fn hold(&self, profile: &ProfileId) -> Option<Hold> {
        let lost = Arc::new(Notify::new());
        let mut held = self.held();
        if held.get(profile).is_some_and(|held| !held.is_over(Instant::now())) {
            return None;
        }
        held.insert(profile.clone(), Held::Taken { open_since: None, lost: Arc::clone(&lost) });
        Some(Hold { profile: profile.clone(), holds: self.clone(), lost, is_kept: false })
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<ProfileId, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a session has it.
    pub(super) fn is_held(&self, profile: &ProfileId) -> bool {
        matches!(self.held().get(profile), Some(Held::Taken { .. }))
    }

    /// Those of `open`, which AdsPower lists, that no session has. Sessions whose browser was open before `asked` and is not
    /// among them are told; how many.
    pub(super) fn compare(&self, open: &[ProfileId], asked: Instant) -> (Vec<ProfileId>, usize) {
        let held = self.held();
        let is_taken = |profile: &&ProfileId| matches!(held.get(*profile), Some(Held::Taken { .. }));
        let strays = open.iter().filter(|profile| !is_taken(profile)).cloned().collect();
        let lost = held.iter().filter_map(|(profile, held)| match held {
            Held::Taken { open_since: Some(since), lost } if *since <= asked => {
                (!open.contains(profile)).then_some(lost)
            }
            Held::Taken { .. } | Held::Abandoned { .. } => None,
        });
        let count = lost.map(|lost| lost.notify_one()).count();
        (strays, count)
    }

    /// A browser that no session has was closed: the next may have its profile.
    pub(super) fn closed(&self, profile: &ProfileId) {
        let mut held = self.held();
        if matches!(held.get(profile), Some(Held::Abandoned { .. })) {
            held.remove(profile);
        }
    }

    /// Whether a browser may still come that nobody wants.
    pub(super) fn has_abandoned(&self) -> bool {
        let now = Instant::now();
        let mut held = self.held();
        held.retain(|_, held| !held.is_over(now));
        held.values().any(|held| matches!(held, Held::Abandoned { .. }))
    }

    /// Ends when another is abandoned. Cancel safe.
    pub(super) async fn abandoned(&self) {
        self.abandoned.notified().await;
    }
}

impl Hold {
    /// Its browser is open from now on, or is not.
    pub(super) fn set_open(&self, is_open: bool) {
        if let Some(Held::Taken { open_since, .. }) = self.holds.held().get_mut(&self.profile) {
            *open_since = is_open.then(|| open_since.unwrap_or_else(Instant::now));
        }
    }

    /// Its session has no time to wait for a browser that AdsPower may still open, until then at the latest.
    pub(super) fn abandon(mut self, until: Instant) {
        self.is_kept = true;
        self.holds.held().insert(self.profile.clone(), Held::Abandoned { until });
        self.holds.abandoned.notify_one();
    }

    /// Ends when AdsPower does not list it though it should be open. Cancel safe.
    pub(super) async fn lost(&self) {
        self.lost.notified().await;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.is_kept {
            self.holds.held().remove(&self.profile);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;

    fn id(text: &str) -> ProfileId {
        text.parse().unwrap()
    }

    #[test]
    fn a_profile_is_one_sessions_until_it_lets_go() {
        let holds = Holds::default();
        let hold = holds.hold(&id("k1")).unwrap();
        assert!(holds.hold(&id("k1")).is_none());
        assert!(holds.is_held(&id("k1")) && !holds.is_held(&id("k2")));
        drop(hold);
        assert!(holds.hold(&id("k1")).is_some());
    }

    #[test]
    fn a_browser_that_may_still_come_keeps_its_profile_from_others_until_it_was_closed_or_is_late() {
        let holds = Holds::default();
        let soon = Instant::now() + Duration::from_secs(60);
        holds.hold(&id("k1")).unwrap().abandon(soon);
        assert_eq!(holds.abandoned().now_or_never(), Some(()));
        assert!(holds.hold(&id("k1")).is_none() && holds.has_abandoned());
        // It comes, and is nobody's.
        assert_eq!(holds.compare(&[id("k1")], Instant::now()), (vec![id("k1")], 0));
        assert!(!holds.is_held(&id("k1")));
        holds.closed(&id("k1"));
        let hold = holds.hold(&id("k1")).unwrap();
        holds.closed(&id("k1"));
        assert!(holds.is_held(&id("k1")) && !holds.has_abandoned(), "that is another session's by now");
        hold.abandon(Instant::now());
        assert!(holds.hold(&id("k1")).is_some(), "it does not come any more");
    }

    #[test]
    fn browsers_that_nobody_has_are_strays_and_those_that_are_not_listed_are_lost() {
        let holds = Holds::default();
        let (one, two) = (holds.hold(&id("k1")).unwrap(), holds.hold(&id("k2")).unwrap());
        one.set_open(true);
        let asked = Instant::now();
        // Said again, it is not news.
        one.set_open(true);
        assert_eq!(holds.compare(&[id("k1"), id("k9")], asked), (vec![id("k9")], 0));
        assert_eq!(one.lost().now_or_never(), None);
        assert_eq!(holds.compare(&[], asked), (vec![], 1), "the second one was not open yet");
        assert_eq!(one.lost().now_or_never(), Some(()));
        assert_eq!(two.lost().now_or_never(), None);
        // Opened after the question: the list may be older.
        two.set_open(true);
        assert_eq!(holds.compare(&[id("k1")], asked - Duration::from_secs(1)), (vec![], 0));
        one.set_open(false);
        assert_eq!(holds.compare(&[id("k2")], Instant::now()), (vec![], 0));
    }
}
