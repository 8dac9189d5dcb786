//! What this host shows to say who it is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode};
use reqwest::header::HeaderValue;
use serde::Deserialize;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::config::Auth;
use crate::clock::unix_now;
use crate::http::{GetError, send};
use crate::secret::Secret;

/// For the machine's own API, which is on this host.
const FLY_DEADLINE: Duration = Duration::from_secs(3);
/// A token has one or two kilobytes.
const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// Before a token ends, another is asked for: clocks differ, and requests take their time.
const MARGIN_SECONDS: u64 = 60;
/// A token whose end cannot be read is used for so long.
const UNKNOWN_LIFE_SECONDS: u64 = 60;

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub(super) enum CredentialError {
    #[error("the credential cannot stand in a header")]
    NoHeader,
    #[error("cannot connect to {path}")]
    Connect {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("Fly's machine API gives no token")]
    Fly(#[from] GetError),
    #[error("the machine API takes over {} s", FLY_DEADLINE.as_secs())]
    Slow,
    #[error("what the machine API gives is no token")]
    NoToken,
}

/// A token of Fly's, and until when it is shown.
#[derive(Debug, Clone)]
struct Granted {
    token: Secret<String>,
    until: u64,
}

/// What is shown, and what was granted for it.
#[derive(Debug)]
pub(super) struct Credential {
    auth: Auth,
    granted: Option<Granted>,
}

impl Credential {
    pub(super) fn new(auth: Auth) -> Self {
        Self { auth, granted: None }
    }

    pub(super) fn auth(&self) -> &Auth {
        &self.auth
    }

    /// What was granted is of no use; whether anything was.
    pub(super) fn forget(&mut self) -> bool {
        self.granted.take().is_some()
    }

    /// For `Authorization`; none where TLS has shown who we are.
    ///
    /// # Errors
    /// See [`CredentialError`].
    pub(super) async fn header(&mut self) -> Result<Option<HeaderValue>, CredentialError> {
        let token = match &self.auth {
            Auth::Mtls { .. } => return Ok(None),
            Auth::Bearer(token) => token.clone(),
            Auth::FlyOidc { audience, socket } => match &self.granted {
                Some(granted) if granted.until > unix_now() => granted.token.clone(),
                _ => {
                    let asked = timeout(FLY_DEADLINE, ask_fly(socket, audience)).await;
                    let granted = asked.map_err(|_elapsed| CredentialError::Slow)??;
                    let token = granted.token.clone();
                    self.granted = Some(granted);
                    token
                }
            },
        };
        let mut header = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            .map_err(|_| CredentialError::NoHeader)?;
        header.set_sensitive(true);
        Ok(Some(header))
    }
}

async fn ask_fly(socket: &Path, audience: &str) -> Result<Granted, CredentialError> {
    let connect = |source| CredentialError::Connect { path: socket.to_owned(), source };
    let stream = UnixStream::connect(socket).await.map_err(connect)?;
    let body = serde_json::json!({ "aud": audience }).to_string();
    let request = Request::post("/v1/tokens/oidc")
        .header("Host", "localhost")
        .header("Content-Type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(GetError::Request)?;
    let response = send(stream, request, MAX_TOKEN_BYTES).await?;
    if response.status() != StatusCode::OK {
        return Err(GetError::Status(response.status()).into());
    }
    let text = std::str::from_utf8(response.body()).map_err(|_| CredentialError::NoToken)?.trim();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if text.is_empty() || !text.bytes().all(plain) {
        return Err(CredentialError::NoToken);
    }
    Ok(Granted { token: Secret::new(text.to_owned()), until: good_until(text, unix_now()) })
}

#[derive(Deserialize)]
struct Claims {
    exp: u64,
}

/// Until when a token is shown. It is the receiver's to verify; here only its end is looked at.
fn good_until(token: &str, now: u64) -> u64 {
    let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims = claims.and_then(|json| serde_json::from_slice::<Claims>(&json).ok());
    claims.map_or(now + UNKNOWN_LIFE_SECONDS, |claims| claims.exp.saturating_sub(MARGIN_SECONDS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_until_a_minute_before_its_end() {
        // {"alg":"none"} and {"exp":2000}, by `base64`.
        assert_eq!(good_until("eyJhbGciOiJub25lIn0.eyJleHAiOjIwMDB9.x", 5), 1940);
        for odd in ["", "x", "a.b.c", "a.e30.c"] {
            assert_eq!(good_until(odd, 5), 65, "{odd}");
        }
    }

    #[tokio::test]
    async fn a_bearer_is_marked_so_that_it_is_shown_nowhere_else() {
        let mut credential = Credential::new(Auth::Bearer(Secret::new("canary".to_owned())));
        let header = credential.header().await.unwrap().unwrap();
        assert!(header.is_sensitive() && header == "Bearer canary");
        assert!(!format!("{credential:?} {header:?}").contains("canary"));
        let mut bad = Credential::new(Auth::Bearer(Secret::new("a\nb".to_owned())));
        assert!(matches!(bad.header().await, Err(CredentialError::NoHeader)));
    }
}
