//! Places on the host. Each has a number, from which a session's uid and the name of its directory follow.

use std::collections::VecDeque;

/// The places. One that was never used comes first, then the one that was given back longest ago: whatever a session
/// managed to leave behind under its uid is old by the time somebody else gets that uid.
#[derive(Debug)]
pub(super) struct Slots {
    count: u32,
    next: u32,
    returned: VecDeque<u32>,
}

impl Slots {
    pub(super) fn new(count: u32) -> Self {
        Self { count, next: 0, returned: VecDeque::new() }
    }

    pub(super) fn take(&mut self) -> Option<u32> {
        if self.next < self.count {
            self.next += 1;
            return Some(self.next - 1);
        }
        self.returned.pop_front()
    }

    /// To be called once for each that was taken, when nothing of its session is left.
    pub(super) fn give_back(&mut self, slot: u32) {
        self.returned.push_back(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::Slots;

    #[test]
    fn a_place_rests_for_as_long_as_there_are_others() {
        let mut slots = Slots::new(3);
        assert_eq!((slots.take(), slots.take()), (Some(0), Some(1)));
        slots.give_back(1);
        slots.give_back(0);
        let rest: Vec<_> = std::iter::from_fn(|| slots.take()).collect();
        assert_eq!(rest, [2, 1, 0]);
    }
}
