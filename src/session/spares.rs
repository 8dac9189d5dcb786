//! Spares: sessions that nobody has asked for yet. Pure; which there are, which are ready, and when to make another.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::life::Order;
use super::record::Warmth;
use crate::backoff::Backoff;

/// Before another spare is made in place of one that failed.
const RETRY: Backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(60) };

/// One spare. Dropping `assign` tells it that nobody wants it.
pub(super) struct Spare {
    pub(super) slot: u32,
    pub(super) warmth: Warmth,
    pub(super) assign: Assign,
}

pub(super) type Assign = oneshot::Sender<Order>;

/// All spares.
pub(super) struct Shelf {
    displays: usize,
    browsers: usize,
    spares: Vec<(Spare, bool)>,
    failures: u32,
    not_before: Option<Instant>,
}

impl Shelf {
    /// A shelf that wants so many of each kind.
    pub(super) fn new(displays: usize, browsers: usize) -> Self {
        Self { displays, browsers, spares: Vec::new(), failures: 0, not_before: None }
    }

    pub(super) fn add(&mut self, spare: Spare) {
        self.spares.push((spare, false));
    }

    /// It is up.
    pub(super) fn ready(&mut self, slot: u32) {
        for (spare, ready) in &mut self.spares {
            if spare.slot == slot {
                *ready = true;
                self.failures = 0;
            }
        }
    }

    /// Whatever was in this slot is over. A spare that nobody took has failed.
    pub(super) fn gone(&mut self, slot: u32, now: Instant) {
        let before = self.spares.len();
        self.spares.retain(|(spare, _)| spare.slot != slot);
        if self.spares.len() < before {
            self.not_before = Some(now + RETRY.delay(self.failures, 1.0));
            self.failures = self.failures.saturating_add(1);
        }
    }

    /// A spare that is ready: with a browser where one will do, the longest-waiting first.
    pub(super) fn take(&mut self, with_browser: bool) -> Option<(u32, Assign)> {
        let of = |wanted| self.spares.iter().position(|(spare, ready)| *ready && spare.warmth == wanted);
        let index = with_browser.then(|| of(Warmth::Browser)).flatten().or_else(|| of(Warmth::Display))?;
        let (Spare { slot, assign, .. }, _) = self.spares.remove(index);
        Some((slot, assign))
    }

    /// A spare that has to go, the youngest first.
    pub(super) fn give_up(&mut self) -> Option<u32> {
        self.spares.pop().map(|(spare, _)| spare.slot)
    }

    /// What kind to make next.
    pub(super) fn wants(&self, now: Instant) -> Option<Warmth> {
        if self.not_before.is_some_and(|until| now < until) {
            return None;
        }
        let lacks = |warmth, wanted| self.count(warmth, false) < wanted;
        if lacks(Warmth::Browser, self.browsers) {
            return Some(Warmth::Browser);
        }
        lacks(Warmth::Display, self.displays).then_some(Warmth::Display)
    }

    /// When it will want one again after a failure.
    pub(super) fn next_try(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|until| *until > now)
    }

    pub(super) fn ready_count(&self, warmth: Warmth) -> usize {
        self.count(warmth, true)
    }

    fn count(&self, warmth: Warmth, only_ready: bool) -> usize {
        self.spares.iter().filter(|(spare, ready)| spare.warmth == warmth && (*ready || !only_ready)).count()
    }

    /// Lets all of them go, and wants no more.
    pub(super) fn close(&mut self) {
        (self.displays, self.browsers) = (0, 0);
        self.spares.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spare(slot: u32, warmth: Warmth) -> (Spare, oneshot::Receiver<Order>) {
        let (assign, assigned) = oneshot::channel();
        (Spare { slot, warmth, assign }, assigned)
    }

    #[test]
    fn a_spare_is_taken_when_it_is_ready_and_its_browser_only_by_whom_it_serves() {
        let mut shelf = Shelf::new(1, 1);
        let now = Instant::now();
        assert_eq!(shelf.wants(now), Some(Warmth::Browser));
        let (browser, _a) = spare(0, Warmth::Browser);
        shelf.add(browser);
        assert_eq!(shelf.wants(now), Some(Warmth::Display));
        let (display, _b) = spare(1, Warmth::Display);
        shelf.add(display);
        assert_eq!(shelf.wants(now), None);
        assert!(shelf.take(true).is_none(), "neither is ready");
        shelf.ready(0);
        assert!(shelf.take(false).is_none(), "its browser has other settings");
        shelf.ready(1);
        assert_eq!((shelf.ready_count(Warmth::Display), shelf.ready_count(Warmth::Browser)), (1, 1));
        assert_eq!(shelf.take(true).map(|(slot, _)| slot), Some(0));
        assert_eq!(shelf.take(true).map(|(slot, _)| slot), Some(1), "a display is better than nothing");
        assert_eq!(shelf.wants(now), Some(Warmth::Browser), "another in its place");
    }

    #[test]
    fn spares_that_fail_are_not_made_in_a_frenzy() {
        let mut shelf = Shelf::new(1, 0);
        let now = Instant::now();
        for (round, wait) in [(0, 1), (1, 2), (2, 4)] {
            let (failing, _a) = spare(round, Warmth::Display);
            shelf.add(failing);
            shelf.gone(round, now);
            assert_eq!(shelf.wants(now), None);
            assert_eq!(shelf.next_try(now), Some(now + Duration::from_secs(wait)));
            assert_eq!(shelf.wants(now + Duration::from_secs(wait)), Some(Warmth::Display));
        }
        let (taken, _b) = spare(9, Warmth::Display);
        shelf.add(taken);
        shelf.ready(9);
        assert!(shelf.take(false).is_some());
        shelf.gone(9, now + Duration::from_secs(60));
        assert_eq!(
            shelf.wants(now + Duration::from_secs(60)),
            Some(Warmth::Display),
            "a session's end is no failure"
        );
    }

    #[test]
    fn a_closed_shelf_lets_go_of_all() {
        let mut shelf = Shelf::new(2, 0);
        let (waiting, mut assigned) = spare(0, Warmth::Display);
        shelf.add(waiting);
        shelf.close();
        assert!(matches!(assigned.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        assert_eq!(shelf.wants(Instant::now()), None);
    }
}
