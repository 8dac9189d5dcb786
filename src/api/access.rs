//! Who may ask, and who it was.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use hyper::header::{AUTHORIZATION, HeaderMap, ORIGIN};
use nix::unistd::{Gid, Group, Uid, User, geteuid};

use super::refused::{Refused, Trouble};
use super::routes::Proof;
use crate::auth::{Refusal, Replay, Role};
use crate::clock::unix_now;
use crate::http::{Peer, PeerAddress};
use crate::ids::UserId;
use crate::keyring::Keys;
use crate::secret::Secret;

/// Members of this group may operate the host, besides root and the daemon's own user.
pub(super) const OPERATORS: &str = "valetd";
/// Single-use tokens of operators that have not expired.
pub(super) const MAX_REMEMBERED_TOKENS: usize = 4096;

/// Whoever may do what is asked for. Handlers of private routes take one, and nothing but [`admit`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operator {
    /// The user of a token.
    Token(UserId),
    /// A process on this host.
    Peer {
        /// Its uid.
        uid: u32,
    },
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(user) => write!(f, "user {user}"),
            Self::Peer { uid } => write!(f, "uid {uid}"),
        }
    }
}

/// What a request may do.
pub(super) enum Admitted {
    /// What anybody may.
    Anybody,
    /// What operators may.
    Operator(Operator),
}

/// Judges a request by the proof that its route asks for.
pub(super) async fn admit(
    proof: Proof,
    headers: &HeaderMap,
    peer: &Peer,
    keys: &Keys,
    used: &Mutex<Replay>,
) -> Result<Admitted, Box<Refused>> {
    let local = match peer.address {
        PeerAddress::Unix { uid, gid } if may_operate(uid, gid) => Some(uid),
        // Not even what anybody may know: whoever gets past the socket's mode has no business here.
        PeerAddress::Unix { .. } => return Err(Trouble::Forbidden.into()),
        PeerAddress::Ip(_) => None,
    };
    if proof == Proof::Nothing {
        peer.authenticated();
        return Ok(Admitted::Anybody);
    }
    // Programs send no Origin. A page that does must not get as far as its token, whatever it says its origin is.
    if headers.contains_key(ORIGIN) {
        return Err(Trouble::Origin.into());
    }
    let operator = match local {
        Some(uid) => Operator::Peer { uid },
        None => Operator::Token(by_token(headers, keys, used).await?),
    };
    peer.authenticated();
    Ok(Admitted::Operator(operator))
}

/// An operator's token is good for the whole host, whatever session it names.
async fn by_token(headers: &HeaderMap, keys: &Keys, used: &Mutex<Replay>) -> Result<UserId, Refusal> {
    let token = bearer(headers)?;
    let grant = keys.verify(token.expose(), unix_now()).await?;
    if grant.role != Role::Operator {
        return Err(Refusal::WrongRole);
    }
    if let Some(id) = &grant.token_id
        && keys.current().config.single_use
    {
        // A mutex, since requests run side by side; held for one map operation.
        let mut used = used.lock().unwrap_or_else(PoisonError::into_inner);
        used.admit(id, grant.expires_at, unix_now())?;
    }
    Ok(grant.user)
}

fn bearer(headers: &HeaderMap) -> Result<Secret<String>, Refusal> {
    let mut found = headers.get_all(AUTHORIZATION).iter().filter_map(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| Secret::new(token.trim().to_owned()))
    });
    match (found.next(), found.next()) {
        (Some(token), None) => Ok(token),
        (Some(_), Some(_)) => Err(Refusal::Malformed),
        (None, _) => Err(Refusal::Missing),
    }
}

/// Whether a process with these credentials (of `SO_PEERCRED`) may operate the host. The socket's mode says the same to
/// the kernel; this is the second lock.
fn may_operate(uid: u32, gid: u32) -> bool {
    let uid = Uid::from_raw(uid);
    uid.is_root() || uid == geteuid() || is_operator(uid, Gid::from_raw(gid))
}

fn is_operator(uid: Uid, gid: Gid) -> bool {
    let Ok(Some(group)) = Group::from_name(OPERATORS) else { return false };
    group.gid == gid
        || matches!(User::from_uid(uid), Ok(Some(user)) if user.gid == group.gid || group.mem.contains(&user.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_ourselves_may_and_a_session_may_not() {
        assert!(may_operate(0, 0));
        assert!(may_operate(geteuid().as_raw(), 65534));
        assert!(!may_operate(20007, 20007));
    }

    #[test]
    fn one_bearer_token_is_taken_and_nothing_else() {
        let found = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            bearer(&headers).map(|token| token.expose().clone())
        };
        assert_eq!(found(&["bearer a"]), Ok("a".to_owned()));
        assert_eq!(found(&["Basic a"]), Err(Refusal::Missing));
        assert_eq!(found(&[]), Err(Refusal::Missing));
        assert_eq!(found(&["Bearer a", "Bearer a"]), Err(Refusal::Malformed));
    }
}
