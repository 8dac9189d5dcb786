//! From a token to what it allows. The cheap checks come first, the signature after them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::claims::{Claims, Header};
use super::keys::{KeyError, KeySet};
use super::{Config, Refusal, Role};
use crate::ids::{SessionId, UserId};

/// Longest token looked at, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Most leeway, in seconds, whatever the configuration says.
const MAX_LEEWAY_SECS: u64 = 5;

/// What a good credential allows, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The one session.
    pub session: SessionId,
    /// The user.
    pub user: UserId,
    /// What they may do.
    pub role: Role,
    /// Unix seconds; a connection made with it ends then.
    pub expires_at: u64,
    /// `jti`, where the token has one.
    pub token_id: Option<String>,
}

/// Checks tokens against keys and expectations. Cheap to share, never changed: a new configuration is a new verifier.
#[derive(Debug, Clone)]
pub struct Verifier {
    keys: KeySet,
    issuer: Option<String>,
    audience: Option<String>,
    leeway_secs: u64,
    default_role: Role,
    single_use: bool,
}

impl Verifier {
    /// A verifier with the keys of the configuration.
    ///
    /// # Errors
    /// The first key that cannot be used.
    pub fn new(config: &Config) -> Result<Self, KeyError> {
        Ok(Self {
            keys: KeySet::from_config(&config.keys)?,
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            leeway_secs: config.leeway.as_secs().min(MAX_LEEWAY_SECS),
            default_role: config.default_role,
            single_use: config.single_use,
        })
    }

    /// This verifier with the keys of a fetched JWK set besides its own.
    ///
    /// # Errors
    /// When the set cannot be used; the verifier at hand stays as it is.
    pub fn with_fetched(&self, json: &str) -> Result<Self, KeyError> {
        Ok(Self { keys: self.keys.with_public_set(json)?, ..self.clone() })
    }

    /// Checks a token at `now_unix`. Whether its `jti` was used before is asked of [`super::Replay`], last of all.
    ///
    /// `exp` has no leeway: connections end at that second, so a token let in after it would be closed at once.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn verify(&self, token: &str, now_unix: u64) -> Result<Grant, Refusal> {
        if token.is_empty() {
            return Err(Refusal::Missing);
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::Malformed);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Refusal::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(Refusal::Malformed)?;
        // Strict decoding: a second dot, padding, foreign characters and stray trailing bits all end here.
        decode(signature)?;
        let header = Header::parse(&decode(header)?)?;
        let candidates = self.keys.candidates(&header)?;
        let claims = Claims::parse(&decode(payload)?)?;
        self.check_times(&claims, now_unix)?;
        if !candidates.iter().any(|key| key.verifies(message.as_bytes(), signature)) {
            return Err(Refusal::BadSignature);
        }
        self.check_expectations(claims)
    }

    fn check_times(&self, claims: &Claims, now_unix: u64) -> Result<(), Refusal> {
        if now_unix >= claims.exp {
            return Err(Refusal::Expired);
        }
        let latest_start = now_unix.saturating_add(self.leeway_secs);
        if claims.nbf.into_iter().chain(claims.iat).any(|start| start > latest_start) {
            return Err(Refusal::NotYetValid);
        }
        Ok(())
    }

    fn check_expectations(&self, claims: Claims) -> Result<Grant, Refusal> {
        if self.issuer.is_some() && claims.iss != self.issuer {
            return Err(Refusal::WrongIssuer);
        }
        if let Some(audience) = &self.audience
            && !claims.aud.as_ref().is_some_and(|aud| aud.contains(audience))
        {
            return Err(Refusal::WrongAudience);
        }
        if self.single_use && claims.jti.is_none() {
            return Err(Refusal::Malformed);
        }
        Ok(Grant {
            session: claims.session_id,
            user: claims.user_id,
            role: claims.role.unwrap_or(self.default_role),
            expires_at: claims.exp,
            token_id: claims.jti,
        })
    }
}

fn decode(part: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed)
}
