//! Tokens for the daemon of a bench.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use crate::Outcome;
use crate::support::home::SECRET;

/// Longer than any run.
const TOKEN_SECONDS: u64 = 3600;

/// One for `session` with `role`.
pub(crate) fn token(session: &str, role: &str) -> Outcome<String> {
    let expires = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + TOKEN_SECONDS;
    let claims = json!({ "session_id": session, "user_id": "bench", "role": role, "exp": expires });
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)?)
}
