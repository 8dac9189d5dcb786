//! Input of an automation that waits until no human is wanted at its session any more.

use std::collections::VecDeque;

use bytes::Bytes;

/// Messages that wait at most: a form's worth of keys.
const MOST: usize = 512;
/// And their bytes: pasted text is in one message.
const MOST_BYTES: usize = 1024 * 1024;

/// What waits, in its order.
#[derive(Debug, Default)]
pub(super) struct Held {
    messages: VecDeque<Bytes>,
    bytes: usize,
}

impl Held {
    /// Takes a message, where there is room; whether there was.
    pub(super) fn push(&mut self, message: &[u8]) -> bool {
        let fits = self.messages.len() < MOST && self.bytes.saturating_add(message.len()) <= MOST_BYTES;
        if fits {
            self.bytes += message.len();
            // A copy: what was read shares its memory with all that was read beside it.
            self.messages.push_back(Bytes::copy_from_slice(message));
        }
        fits
    }

    /// The one that has waited longest.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.len();
        Some(message)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_the_order_and_has_a_bound() {
        let mut held = Held::default();
        for number in 0..MOST {
            assert!(held.push(number.to_string().as_bytes()));
        }
        assert!(!held.push(b"more"));
        assert_eq!(held.pop().unwrap(), "0");
        assert!(held.push(b"last"));
        let rest: Vec<_> = std::iter::from_fn(|| held.pop()).collect();
        assert_eq!((rest.len(), &rest[0][..], &rest[MOST - 1][..]), (MOST, &b"1"[..], &b"last"[..]));
        assert!(held.is_empty() && held.bytes == 0);
        assert!(held.push(&vec![0; MOST_BYTES]));
        assert!(!held.push(b"x"));
    }
}
