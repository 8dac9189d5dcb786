//! Which profiles the sessions of this host have, and what AdsPower says of that.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::ids::ProfileId;

/// The profiles that sessions have. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Holds {
    /// A mutex, since sessions come and go on tasks of their own; held for one look.
    held: Arc<Mutex<BTreeMap<ProfileId, Held>>>,
}

#[derive(Debug)]
struct Held {
    /// Since when its browser is open, as far as its session knows.
    open_since: Option<Instant>,
    lost: Arc<Notify>,
}

/// A profile that a session has, until this is dropped.
#[derive(Debug)]
pub(super) struct Hold {
    profile: ProfileId,
    holds: Holds,
    lost: Arc<Notify>,
}

impl Holds {
    /// None where another session has it.
    pub(super) fn hold(&self, profile: &ProfileId) -> Option<Hold> {
        let lost = Arc::new(Notify::new());
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.contains_key(profile) {
            return None;
        }
        held.insert(profile.clone(), Held { open_since: None, lost: Arc::clone(&lost) });
        Some(Hold { profile: profile.clone(), holds: self.clone(), lost })
    }

    /// Whether a session has it.
    pub(super) fn is_held(&self, profile: &ProfileId) -> bool {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).contains_key(profile)
    }

    /// Those of `open`, which AdsPower lists, that no session has. Sessions whose browser was open before `asked` and is not
    /// among them are told; how many.
    pub(super) fn compare(&self, open: &[ProfileId], asked: Instant) -> (Vec<ProfileId>, usize) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let strays = open.iter().filter(|profile| !held.contains_key(profile)).cloned().collect();
        let lost = held.iter().filter(|(profile, held)| {
            held.open_since.is_some_and(|since| since <= asked) && !open.contains(profile)
        });
        let count = lost.map(|(_, held)| held.lost.notify_one()).count();
        (strays, count)
    }
}

impl Hold {
    /// Its browser is open from now on, or is not.
    pub(super) fn set_open(&self, is_open: bool) {
        let mut held = self.holds.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = held.get_mut(&self.profile) {
            held.open_since = is_open.then(|| held.open_since.unwrap_or_else(Instant::now));
        }
    }

    /// Ends when AdsPower does not list it though it should be open. Cancel safe.
    pub(super) async fn lost(&self) {
        self.lost.notified().await;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.holds.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.profile);
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
