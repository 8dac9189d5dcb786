//! Tokens, made by the library that checks them in other people's systems too, not by our own code.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::home::SECRET;

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// A token for session `s1` with `role`, good for `ttl` seconds.
pub(crate) fn token(role: &str, ttl: u64) -> String {
    sign(&json!({ "session_id": "s1", "user_id": "u1", "role": role, "exp": now() + ttl }))
}

/// A token with any claims.
pub(crate) fn sign(claims: &Value) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}
