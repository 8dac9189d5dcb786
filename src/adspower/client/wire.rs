//! One request to AdsPower over HTTP: to loopback alone, by no proxy, with no redirect, and its answer of a bounded size.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Body, Client, redirect};

use super::answer;
use super::call::Call;
use super::error::{Error, SetupError};
use super::request::{Content, Request};
use crate::http::{TextError, text};
use crate::secret::Secret;

/// Over loopback.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// Largest answer taken; a hundred profiles have about 200 KiB.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// An answer as it came.
pub(super) struct Heard {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: String,
}

/// The HTTP client, with the API key.
#[derive(Debug)]
pub(super) struct Wire {
    client: Client,
    key: Option<Secret<String>>,
    authorization: Option<HeaderValue>,
}

impl Wire {
    /// # Errors
    /// When the key cannot stand in a header.
    pub(super) fn new(key: Option<Secret<String>>) -> Result<Self, SetupError> {
        let authorization = key.as_ref().map(authorization).transpose()?;
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_DEADLINE)
            // A connection that is kept may lead to an app that is gone; a new one costs nothing here.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(SetupError::Http)?;
        Ok(Self { client, key, authorization })
    }

    /// The key, to take it out of what AdsPower says.
    pub(super) fn key(&self) -> Option<&str> {
        self.key.as_ref().map(|key| key.expose().as_str())
    }

    /// Asks the app on `port`. The caller sets the deadline; dropping the future drops the connection.
    ///
    /// # Errors
    /// [`Error::Unreachable`] and [`Error::Unreadable`].
    pub(super) async fn exchange(&self, port: u16, call: Call, request: &Request) -> Result<Heard, Error> {
        // A URL may hold what a browser's command line does.
        let failed = |error: reqwest::Error| Error::Unreachable { call, source: error.without_url() };
        let url = format!("http://127.0.0.1:{port}{}", request.path);
        let mut prepared = match &request.content {
            Content::Query(query) => {
                let mut prepared = self.client.get(url).build().map_err(failed)?;
                if !query.is_empty() {
                    prepared.url_mut().query_pairs_mut().extend_pairs(query);
                }
                prepared
            }
            Content::Body(body) => {
                let mut prepared = self.client.post(url).build().map_err(failed)?;
                *prepared.body_mut() = Some(Body::from(body.to_string()));
                prepared.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                prepared
            }
        };
        if let Some(authorization) = &self.authorization {
            prepared.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        let response = self.client.execute(prepared).await.map_err(failed)?;
        let status = response.status().as_u16();
        let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = header.and_then(answer::retry_after);
        let body = if answer::has_body(status) {
            text(response, MAX_ANSWER_BYTES)
                .await
                .map_err(|error| Error::Unreadable { call, source: without_url(error) })?
        } else {
            String::new()
        };
        Ok(Heard { status, retry_after, body })
    }
}

fn authorization(key: &Secret<String>) -> Result<HeaderValue, SetupError> {
    let key = key.expose();
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(SetupError::ApiKey);
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| SetupError::ApiKey)?;
    value.set_sensitive(true);
    Ok(value)
}

fn without_url(error: TextError) -> TextError {
    match error {
        TextError::Http(error) => TextError::Http(error.without_url()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_word_and_is_never_shown() {
        let wire = Wire::new(Some(Secret::new("canary-1".to_owned()))).unwrap();
        assert!(!format!("{wire:?}").contains("canary"), "{wire:?}");
        for bad in ["", "two words", "a\nb", "größe"] {
            let error = Wire::new(Some(Secret::new(bad.to_owned()))).unwrap_err();
            assert!(matches!(error, SetupError::ApiKey), "{bad:?}");
        }
    }
}
