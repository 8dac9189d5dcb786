//! What a token says, in strict types: a claim of the wrong type refuses the token, it is never skipped.

use serde::{Deserialize, Deserializer, Serialize};

use super::{Algorithm, Refusal, Role};
use crate::ids::{SessionId, UserId};

/// Latest time a claim may name: the end of the year 9999, so that sums with it cannot overflow.
const MAX_UNIX: u64 = 253_402_300_799;

/// Longest `jti`, in bytes.
const MAX_TOKEN_ID_BYTES: usize = 256;

/// Longest `kid`, in bytes.
const MAX_KEY_ID_BYTES: usize = 64;

/// The claims of a token (RFC 7519 section 4.1 and ours). Times are whole seconds since 1970; `null` is no value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The one session it is for.
    pub session_id: SessionId,
    /// Whom it was minted for.
    pub user_id: UserId,
    /// Not good from here on.
    pub exp: u64,
    /// What it allows.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Who minted it.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// Whom it is meant for.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub aud: Option<Audience>,
    /// Not good before.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// When it was minted.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub iat: Option<u64>,
    /// Its own name, for single use.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
}

/// `aud`: one string or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Audience {
    /// Whether `name` is among them.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::Many(many) => many.iter().any(|one| one == name),
        }
    }
}

impl Claims {
    /// Reads a decoded payload. Unknown claims are left alone, a known one given twice is refused.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, Refusal> {
        let claims: Self = serde_json::from_slice(payload).map_err(|_| Refusal::Malformed)?;
        let times = [Some(claims.exp), claims.nbf, claims.iat];
        let token_id_fits = claims.jti.as_ref().is_none_or(|id| (1..=MAX_TOKEN_ID_BYTES).contains(&id.len()));
        if !token_id_fits || times.into_iter().flatten().any(|time| time > MAX_UNIX) {
            return Err(Refusal::Malformed);
        }
        Ok(claims)
    }
}

/// The header fields that decide (RFC 7515 section 4.1). Keys inside a token (`jwk`, `jku`, `x5u`, `x5c`) are not even read.
#[derive(Debug)]
pub(super) struct Header {
    /// As the token names it; `None` for one that we do not know, `none` among them.
    pub(super) algorithm: Option<Algorithm>,
    pub(super) key_id: Option<String>,
}

#[derive(Deserialize)]
struct RawHeader {
    alg: String,
    #[serde(default, deserialize_with = "present")]
    kid: Option<String>,
    #[serde(default, deserialize_with = "present", rename = "typ")]
    _typ: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: Option<serde_json::Value>,
}

impl Header {
    /// Reads a decoded header.
    pub(super) fn parse(header: &[u8]) -> Result<Self, Refusal> {
        let raw: RawHeader = serde_json::from_slice(header).map_err(|_| Refusal::Malformed)?;
        // We understand no extension, so each critical one refuses the token (RFC 7515 section 4.1.11).
        if raw.crit.is_some() || raw.kid.as_deref().is_some_and(|kid| !is_key_id(kid)) {
            return Err(Refusal::Malformed);
        }
        let algorithm = match raw.alg.as_str() {
            "HS256" => Some(Algorithm::Hs256),
            "ES256" => Some(Algorithm::Es256),
            "EdDSA" => Some(Algorithm::EdDsa),
            "RS256" => Some(Algorithm::Rs256),
            _ => None,
        };
        Ok(Self { algorithm, key_id: raw.kid })
    }
}

/// Whether `text` may name a key: `[A-Za-z0-9_-]{1,64}`. A kid is looked up in memory and nowhere else.
pub(super) fn is_key_id(text: &str) -> bool {
    (1..=MAX_KEY_ID_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// For optional fields: absent is `None`, `null` is an error like every other wrong type.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl Serialize for Role {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Role {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
