//! Viewers' wishes for another size of the screen: one at a time, and not too often.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::rfb::SizeStatus;

/// Between two sizes. A window that is dragged asks for many each second, and programs draw everything anew for each.
const INTERVAL: Duration = Duration::from_millis(500);

/// A viewer's wish. Dropped, it is answered with [`SizeStatus::NoResources`].
#[derive(Debug)]
pub(super) struct Wish {
    /// Width and height.
    pub(super) size: (u16, u16),
    pub(super) answer: oneshot::Sender<SizeStatus>,
}

impl Wish {
    pub(super) fn answered(self, status: SizeStatus) {
        // A viewer that has gone is not told.
        let _gone = self.answer.send(status);
    }
}

/// Where the wish waits whose turn is next: the latest.
#[derive(Debug, Clone, Default)]
pub(super) struct Wishes(Arc<watch::Sender<Option<Wish>>>);

impl Wishes {
    /// Puts a wish in the place of the one that waits.
    pub(super) fn put(&self, wish: Wish) {
        if let Some(superseded) = self.0.send_replace(Some(wish)) {
            superseded.answered(SizeStatus::Superseded);
        }
    }

    /// Tells of each that is put there.
    pub(super) fn watch(&self) -> watch::Receiver<Option<Wish>> {
        self.0.subscribe()
    }

    fn take(&self) -> Option<Wish> {
        let mut taken = None;
        self.0.send_if_modified(|wish| {
            taken = wish.take();
            false
        });
        taken
    }
}

/// When which wish is seen to.
#[derive(Debug)]
pub(super) struct Resizing {
    wishes: Wishes,
    /// No earlier than this.
    due: Option<Instant>,
}

impl Resizing {
    pub(super) fn new(wishes: Wishes) -> Self {
        Self { wishes, due: None }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Option<Wish>> {
        self.wishes.watch()
    }

    /// When there is one to be seen to.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        self.wishes.0.borrow().as_ref().map(|_| self.due.unwrap_or(now))
    }

    /// The wish whose turn is now.
    pub(super) fn take(&mut self, now: Instant) -> Option<Wish> {
        if self.due.is_some_and(|due| due > now) {
            return None;
        }
        let wish = self.wishes.take()?;
        self.due = Some(now + INTERVAL);
        Some(wish)
    }

    /// Drops the one that waits.
    pub(super) fn forget(&self) {
        drop(self.wishes.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(width: u16) -> (Wish, oneshot::Receiver<SizeStatus>) {
        let (answer, told) = oneshot::channel();
        (Wish { size: (width, 100), answer }, told)
    }

    #[test]
    fn the_first_wish_is_seen_to_at_once_and_then_the_latest_of_each_half_second() {
        let wishes = Wishes::default();
        let mut resizing = Resizing::new(wishes.clone());
        let start = Instant::now();
        let after = |milliseconds| start + Duration::from_millis(milliseconds);
        assert_eq!(resizing.due(start), None);
        wishes.put(wish(1).0);
        assert_eq!(resizing.due(start), Some(start));
        assert_eq!(resizing.take(start).unwrap().size.0, 1);
        let (second, mut told) = wish(2);
        wishes.put(second);
        assert_eq!(resizing.due(after(10)), Some(after(500)));
        assert!(resizing.take(after(499)).is_none());
        (3..100).for_each(|width| wishes.put(wish(width).0));
        assert_eq!(told.try_recv(), Ok(SizeStatus::Superseded));
        assert_eq!(resizing.take(after(500)).unwrap().size.0, 99);
        assert!(resizing.take(after(2000)).is_none());
        assert_eq!(resizing.due(after(2000)), None, "no timer without a wish");
        wishes.put(wish(4).0);
        resizing.forget();
        assert_eq!(resizing.due(after(2000)), None);
    }
}
