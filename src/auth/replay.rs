//! Which single-use tokens have been used. Bounded: when it is full, tokens are refused, not forgotten.

use std::collections::{BTreeSet, HashSet};

use aws_lc_rs::digest;

use super::Refusal;

type Fingerprint = [u8; 32];

/// Memory of used `jti`s, each kept until its token has expired.
#[derive(Debug)]
pub struct Replay {
    capacity: usize,
    seen: HashSet<Fingerprint>,
    by_expiry: BTreeSet<(u64, Fingerprint)>,
}

impl Replay {
    /// Remembers up to `capacity` tokens (72 bytes each and the sets' own).
    pub fn new(capacity: usize) -> Self {
        Self { capacity, seen: HashSet::new(), by_expiry: BTreeSet::new() }
    }

    /// Uses the token up.
    ///
    /// # Errors
    /// [`Refusal::Replayed`] when it was used before, [`Refusal::Exhausted`] when that could not be remembered.
    pub fn admit(&mut self, token_id: &str, expires_at: u64, now_unix: u64) -> Result<(), Refusal> {
        self.forget_expired(now_unix);
        let fingerprint = fingerprint(token_id.as_bytes());
        if self.seen.contains(&fingerprint) {
            return Err(Refusal::Replayed);
        }
        if self.seen.len() >= self.capacity {
            return Err(Refusal::Exhausted);
        }
        self.seen.insert(fingerprint);
        self.by_expiry.insert((expires_at, fingerprint));
        Ok(())
    }

    fn forget_expired(&mut self, now_unix: u64) {
        while let Some((expires_at, fingerprint)) = self.by_expiry.first().copied() {
            // The verifier refuses from `exp` on, so nothing is let in again by being forgotten then.
            if expires_at > now_unix {
                break;
            }
            self.by_expiry.pop_first();
            self.seen.remove(&fingerprint);
        }
    }
}

/// SHA-256: secrets and names are looked up by it, so the time of a lookup says nothing about the text.
pub(super) fn fingerprint(text: &[u8]) -> Fingerprint {
    let mut out = Fingerprint::default();
    out.copy_from_slice(digest::digest(&digest::SHA256, text).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_once_and_forgotten_only_when_expired() {
        let mut replay = Replay::new(2);
        assert_eq!(replay.admit("a", 100, 50), Ok(()));
        assert_eq!(replay.admit("a", 100, 99), Err(Refusal::Replayed));
        assert_eq!(replay.admit("b", 200, 60), Ok(()));
        assert_eq!(replay.admit("c", 200, 60), Err(Refusal::Exhausted));
        assert_eq!(replay.admit("c", 200, 100), Ok(()), "the place of a is free once it has expired");
        assert_eq!(replay.admit("b", 200, 100), Err(Refusal::Replayed));
    }
}
