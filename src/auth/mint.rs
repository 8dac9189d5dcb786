//! Making tokens that this host lets in itself: for `valetd token`, `valetd dev` and the host API.

use std::time::Duration;

use super::{Audience, Claims, Config, KeyConfig, Role, SignError, SigningKey, sign};
use crate::ids::{SessionId, UserId};

/// Longest life of a token made here. A live connection ends with its token, and a token cannot be taken back.
pub const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// What a new token is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// The session it is for.
    pub session: SessionId,
    /// Whom it is for.
    pub user: UserId,
    /// What it allows; none: what the gateway's default is.
    pub role: Option<Role>,
    /// How long it is good, in whole seconds.
    pub ttl: Duration,
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// Only public keys are configured.
    #[error("nothing to sign with: give auth.signing_key, or a shared secret in auth.keys")]
    NoKey,
    /// Its end is beyond what fits.
    #[error("the token would end after the end of time")]
    TooLong,
    /// The key does not sign.
    #[error("cannot sign with this key")]
    Sign(#[source] SignError),
}

/// A token for the gateway with these settings, good from `now_unix`. It is signed with `own`, where there is such a key, or
/// else with the first shared secret. `random` becomes its `jti`.
///
/// # Errors
/// See [`MintError`].
pub fn mint(
    token: &NewToken,
    config: &Config,
    own: Option<&SigningKey>,
    now_unix: u64,
    random: [u8; 16],
) -> Result<String, MintError> {
    let claims = Claims {
        session_id: token.session.clone(),
        user_id: token.user.clone(),
        exp: now_unix.checked_add(token.ttl.as_secs()).ok_or(MintError::TooLong)?,
        role: token.role,
        iss: config.issuer.clone(),
        aud: config.audience.clone().map(Audience::One),
        nbf: None,
        iat: Some(now_unix),
        jti: Some(format!("{:032x}", u128::from_be_bytes(random))),
    };
    let shared = match own {
        Some(_) => None,
        None => Some(first_secret(config)?),
    };
    let key = own.or(shared.as_ref()).ok_or(MintError::NoKey)?;
    sign(&claims, key).map_err(MintError::Sign)
}

fn first_secret(config: &Config) -> Result<SigningKey, MintError> {
    let secret = config.keys.iter().find_map(|key| match key {
        KeyConfig::SharedSecret { kid, secret } => Some((kid.clone(), secret)),
        KeyConfig::PublicKey { .. } | KeyConfig::JwkSet { .. } => None,
    });
    let (kid, secret) = secret.ok_or(MintError::NoKey)?;
    SigningKey::from_secret(kid, secret.expose()).map_err(MintError::Sign)
}
