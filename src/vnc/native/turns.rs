//! In which order work is done that several displays and viewers wait for. Pure.

use std::collections::VecDeque;

/// Updates in pieces, each taken by itself: displays take turns, and so do the updates of one display. So a large picture holds
/// up nobody for longer than a piece takes, and many viewers of one display not those of another.
#[derive(Debug)]
pub(super) struct Turns<T> {
    /// None is empty, and no update of one.
    displays: VecDeque<(usize, VecDeque<VecDeque<T>>)>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { displays: VecDeque::new() }
    }
}

impl<T> Turns<T> {
    /// Adds an update of `display`.
    pub(super) fn add(&mut self, display: usize, pieces: VecDeque<T>) {
        if pieces.is_empty() {
            return;
        }
        match self.displays.iter_mut().find(|(known, _)| *known == display) {
            Some((_, updates)) => updates.push_back(pieces),
            None => self.displays.push_back((display, VecDeque::from([pieces]))),
        }
    }

    /// Takes the piece whose turn it is.
    pub(super) fn next(&mut self) -> Option<T> {
        let (display, mut updates) = self.displays.pop_front()?;
        let mut pieces = updates.pop_front()?;
        let piece = pieces.pop_front();
        if !pieces.is_empty() {
            updates.push_back(pieces);
        }
        if !updates.is_empty() {
            self.displays.push_back((display, updates));
        }
        piece
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_take_turns_and_so_do_the_updates_of_each() {
        let mut turns = Turns::default();
        turns.add(1, VecDeque::from(["a1", "a2", "a3"]));
        turns.add(1, VecDeque::from(["b1", "b2"]));
        turns.add(1, VecDeque::new());
        turns.add(2, VecDeque::from(["c1", "c2", "c3"]));
        let order: Vec<_> = std::iter::from_fn(|| turns.next()).collect();
        assert_eq!(order, ["a1", "c1", "b1", "c2", "a2", "c3", "b2", "a3"]);
        assert_eq!(turns.next(), None);
    }
}
