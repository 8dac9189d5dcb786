//! Requests that were carried out, so that one that is sent again is not carried out again. Pure; holds digests only.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::request::Idempotency;
use crate::store::SessionKey;

/// How long a key is remembered: longer than anybody retries.
const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// Keys remembered. A host creates some dozens of sessions an hour; beyond this the oldest is forgotten.
const MOST: usize = 10_000;

/// What is known of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It was not seen before.
    New,
    /// It created this session, and no later one of that id.
    Of(SessionKey),
    /// Its key came with another request.
    Other,
}

/// The memory.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    known: HashMap<[u8; 32], ([u8; 32], SessionKey)>,
    by_age: VecDeque<(Instant, [u8; 32])>,
}

impl Repeats {
    pub(super) fn find(&mut self, request: Idempotency, now: Instant) -> Repeat {
        while let Some((since, key)) = self.by_age.front()
            && (now.saturating_duration_since(*since) >= REMEMBERED_FOR || self.by_age.len() > MOST)
        {
            self.known.remove(key);
            self.by_age.pop_front();
        }
        match self.known.get(&request.key) {
            None => Repeat::New,
            Some((fingerprint, session)) if *fingerprint == request.fingerprint => {
                Repeat::Of(session.clone())
            }
            Some(_) => Repeat::Other,
        }
    }

    pub(super) fn remember(&mut self, request: Idempotency, session: SessionKey, now: Instant) {
        if self.known.insert(request.key, (request.fingerprint, session)).is_none() {
            self.by_age.push_back((now, request.key));
        }
    }

    /// The request came to nothing: it may be tried again.
    pub(super) fn forget(&mut self, request: Idempotency) {
        self.known.remove(&request.key);
        self.by_age.retain(|(_since, key)| *key != request.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(key: u8, fingerprint: u8) -> Idempotency {
        Idempotency { key: [key; 32], fingerprint: [fingerprint; 32] }
    }

    fn session(id: &str) -> SessionKey {
        SessionKey { id: id.parse().unwrap(), created_ms: 1 }
    }

    #[test]
    fn the_same_request_is_known_for_a_day_and_another_with_its_key_is_told_apart() {
        let mut repeats = Repeats::default();
        let now = Instant::now();
        let session = session("s1");
        assert_eq!(repeats.find(request(1, 1), now), Repeat::New);
        repeats.remember(request(1, 1), session.clone(), now);
        let almost = now + REMEMBERED_FOR - Duration::from_millis(1);
        assert_eq!(repeats.find(request(1, 1), almost), Repeat::Of(session.clone()));
        assert_eq!(repeats.find(request(1, 2), almost), Repeat::Other);
        assert_eq!(repeats.find(request(2, 1), almost), Repeat::New);
        assert_eq!(repeats.find(request(1, 2), now + REMEMBERED_FOR), Repeat::New);
        repeats.remember(request(3, 3), session, now);
        repeats.forget(request(3, 3));
        assert_eq!(repeats.find(request(3, 3), now), Repeat::New);
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let mut repeats = Repeats::default();
        let now = Instant::now();
        for number in 0..=MOST {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_be_bytes());
            repeats.remember(Idempotency { key, fingerprint: [0; 32] }, session("s"), now);
        }
        assert_eq!(repeats.find(Idempotency { key: [0; 32], fingerprint: [0; 32] }, now), Repeat::New);
        assert_eq!(repeats.by_age.len(), MOST);
    }
}
