//! One-time tickets: what a page puts into a WebSocket's URL in place of its token.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::replay::fingerprint;
use super::{Grant, Refusal};
use crate::ids::SessionId;
use crate::secret::Secret;

/// How long a ticket is good.
pub const TICKET_TTL: Duration = Duration::from_secs(15);

/// Randomness of a ticket, in bytes.
pub const TICKET_BYTES: usize = 32;

/// Most live tickets of one session, so that one user cannot take everybody's.
const MAX_PER_SESSION: usize = 64;

/// The tickets not used yet. Bounded; a full store refuses.
#[derive(Debug)]
pub struct Tickets {
    capacity: usize,
    live: HashMap<[u8; 32], (Instant, Grant)>,
    by_age: VecDeque<(Instant, [u8; 32])>,
}

impl Tickets {
    /// Holds up to `capacity` tickets, used ones counted until they are too old.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, live: HashMap::new(), by_age: VecDeque::new() }
    }

    /// Makes a ticket for what `grant` allows out of fresh `random` bytes. Gives its text: 43 characters, safe in a URL.
    ///
    /// # Errors
    /// [`Refusal::Exhausted`] when too many are live.
    pub fn issue(
        &mut self,
        grant: &Grant,
        random: [u8; TICKET_BYTES],
        now: Instant,
    ) -> Result<Secret<String>, Refusal> {
        self.forget_old(now);
        let of_session = self.live.values().filter(|(_, other)| other.session == grant.session).count();
        if self.by_age.len() >= self.capacity || of_session >= MAX_PER_SESSION {
            return Err(Refusal::Exhausted);
        }
        let text = URL_SAFE_NO_PAD.encode(random);
        let key = fingerprint(text.as_bytes());
        self.live.insert(key, (now, grant.clone()));
        self.by_age.push_back((now, key));
        Ok(Secret::new(text))
    }

    /// Uses a ticket up, whatever comes of it. Without a `session` the ticket's own is meant.
    ///
    /// # Errors
    /// [`Refusal::Replayed`] when it is unknown, used or too old, [`Refusal::WrongSession`] for another session's,
    /// [`Refusal::Expired`] when the token behind it has expired since.
    pub fn redeem(
        &mut self,
        text: &str,
        session: Option<&SessionId>,
        now: Instant,
        now_unix: u64,
    ) -> Result<Grant, Refusal> {
        self.forget_old(now);
        let (_, grant) = self.live.remove(&fingerprint(text.as_bytes())).ok_or(Refusal::Replayed)?;
        if session.is_some_and(|session| grant.session != *session) {
            return Err(Refusal::WrongSession);
        }
        if now_unix >= grant.expires_at {
            return Err(Refusal::Expired);
        }
        Ok(grant)
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some((made, key)) = self.by_age.front() {
            if now.saturating_duration_since(*made) < TICKET_TTL {
                break;
            }
            self.live.remove(key);
            self.by_age.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Role;

    fn grant(session: &str) -> Grant {
        Grant {
            session: session.parse().unwrap(),
            user: "u".parse().unwrap(),
            role: Role::Spectator,
            expires_at: 1000,
            token_id: None,
        }
    }

    #[test]
    fn a_ticket_is_good_once_for_its_session_and_role() {
        let mut tickets = Tickets::new(8);
        let now = Instant::now();
        let text = tickets.issue(&grant("s1"), [7; 32], now).unwrap();
        assert_eq!(text.expose(), "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc");
        let session = "s1".parse().unwrap();
        assert_eq!(tickets.redeem(text.expose(), Some(&session), now, 10), Ok(grant("s1")));
        assert_eq!(tickets.redeem(text.expose(), Some(&session), now, 10), Err(Refusal::Replayed));
    }

    #[test]
    fn a_ticket_lives_fifteen_seconds_and_no_longer_than_its_token() {
        let mut tickets = Tickets::new(8);
        let now = Instant::now();
        let session = "s1".parse().unwrap();
        let late = tickets.issue(&grant("s1"), [1; 32], now).unwrap();
        let almost = tickets.issue(&grant("s1"), [2; 32], now).unwrap();
        let outlived = tickets.issue(&grant("s1"), [3; 32], now).unwrap();
        let before = now + Duration::from_millis(14_999);
        assert!(tickets.redeem(almost.expose(), Some(&session), before, 10).is_ok());
        assert_eq!(tickets.redeem(outlived.expose(), Some(&session), before, 1000), Err(Refusal::Expired));
        assert_eq!(
            tickets.redeem(late.expose(), Some(&session), now + Duration::from_secs(15), 10),
            Err(Refusal::Replayed)
        );
    }

    #[test]
    fn trying_a_ticket_on_another_session_uses_it_up() {
        let mut tickets = Tickets::new(8);
        let now = Instant::now();
        let text = tickets.issue(&grant("s1"), [1; 32], now).unwrap();
        assert_eq!(
            tickets.redeem(text.expose(), Some(&"s2".parse().unwrap()), now, 10),
            Err(Refusal::WrongSession)
        );
        assert_eq!(
            tickets.redeem(text.expose(), Some(&"s1".parse().unwrap()), now, 10),
            Err(Refusal::Replayed)
        );
    }

    #[test]
    fn a_full_store_refuses_and_one_session_cannot_fill_it() {
        let mut tickets = Tickets::new(65);
        let now = Instant::now();
        for n in 0..64 {
            tickets.issue(&grant("s1"), [n; 32], now).unwrap();
        }
        assert_eq!(tickets.issue(&grant("s1"), [64; 32], now).unwrap_err(), Refusal::Exhausted);
        tickets.issue(&grant("s2"), [65; 32], now).unwrap();
        assert_eq!(tickets.issue(&grant("s3"), [66; 32], now).unwrap_err(), Refusal::Exhausted);
        assert!(tickets.issue(&grant("s3"), [67; 32], now + TICKET_TTL).is_ok());
    }
}
