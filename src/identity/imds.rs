//! A client of EC2's instance metadata service, version 2 only: each question shows a token that was asked for before. The
//! token is a secret of a kind: with it, the machine's role can be had.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, Response, redirect};
use tokio::time::Instant;

use crate::http::{TextError, text};

/// The service is a hop away, and answers in a millisecond or not at all.
const CONNECT_DEADLINE: Duration = Duration::from_secs(1);
/// Between two pieces of an answer.
const READ_DEADLINE: Duration = Duration::from_secs(1);
/// For one question in all.
const DEADLINE: Duration = Duration::from_secs(2);
/// What is asked for in a token: the longest there is.
const TOKEN_TTL: Duration = Duration::from_secs(21_600);
/// A token is replaced before it ends.
const RENEW_EARLY: Duration = Duration::from_secs(120);
/// Tokens have 56 characters.
const MAX_TOKEN_BYTES: usize = 1024;
/// Largest answer taken: 50 names of tags.
const MAX_ANSWER_BYTES: usize = 8 * 1024;

const TOKEN: &str = "x-aws-ec2-metadata-token";
const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ImdsError {
    #[error("cannot ask the metadata service")]
    Http(#[source] reqwest::Error),
    #[error("the metadata service answers {0}")]
    Status(u16),
    #[error("the metadata service gives no usable token")]
    Token,
    #[error("the metadata service's answer cannot be read")]
    Text(#[source] TextError),
}

#[derive(Clone)]
struct Token {
    value: HeaderValue,
    renew: Instant,
}

/// The client, with the token that is good now. A clone goes on with a token of its own.
#[derive(Clone)]
pub(super) struct Imds {
    client: Client,
    endpoint: String,
    token: Option<Token>,
}

impl Imds {
    /// Asks nobody yet.
    ///
    /// # Errors
    /// When no client can be made, which would be a bug.
    pub(super) fn new(endpoint: &str) -> Result<Self, ImdsError> {
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_DEADLINE)
            .read_timeout(READ_DEADLINE)
            .timeout(DEADLINE)
            // A connection that is kept would be found dead at the next question, which is seconds or minutes away.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(ImdsError::Http)?;
        Ok(Self { client, endpoint: endpoint.to_owned(), token: None })
    }

    /// The item at `path` below `/latest/meta-data/`; `None` where there is none. A token that is not good any more (a machine
    /// that slept does not notice how long) is replaced once.
    pub(super) async fn get(&mut self, path: &str) -> Result<Option<String>, ImdsError> {
        let mut renewed = false;
        loop {
            let token = self.token().await?;
            let url = format!("{}/latest/meta-data/{path}", self.endpoint);
            let response = self.client.get(url).header(TOKEN, token).send().await.map_err(ImdsError::Http)?;
            match response.status().as_u16() {
                200 => return read(response, MAX_ANSWER_BYTES).await.map(Some),
                404 => return Ok(None),
                401 if !renewed => {
                    renewed = true;
                    self.token = None;
                }
                status => return Err(ImdsError::Status(status)),
            }
        }
    }

    async fn token(&mut self) -> Result<HeaderValue, ImdsError> {
        if let Some(token) = &self.token
            && Instant::now() < token.renew
        {
            return Ok(token.value.clone());
        }
        let asked = Instant::now();
        let url = format!("{}/latest/api/token", self.endpoint);
        let request = self.client.put(url).header(TTL, TOKEN_TTL.as_secs());
        let response = request.send().await.map_err(ImdsError::Http)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(ImdsError::Status(response.status().as_u16()));
        }
        let life = granted(response.headers());
        let text = read(response, MAX_TOKEN_BYTES).await?;
        let value = token_value(&text).ok_or(ImdsError::Token)?;
        self.token = Some(Token { value: value.clone(), renew: asked + life.saturating_sub(RENEW_EARLY) });
        Ok(value)
    }
}

/// How long a token is good. The service says so; it never gives more than was asked for.
fn granted(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(TTL).and_then(|value| value.to_str().ok()?.parse().ok());
    seconds.map_or(TOKEN_TTL, Duration::from_secs).min(TOKEN_TTL)
}

fn token_value(text: &str) -> Option<HeaderValue> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

async fn read(response: Response, limit: usize) -> Result<String, ImdsError> {
    match text(response, limit).await {
        Ok(text) => Ok(text.trim().to_owned()),
        // One that breaks off is one that cannot be asked.
        Err(TextError::Http(error)) => Err(ImdsError::Http(error)),
        Err(error) => Err(ImdsError::Text(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_word_and_is_never_shown() {
        let token = token_value("AQAEAcanary==").unwrap();
        assert!(!format!("{token:?}").contains("canary"));
        for bad in ["", "two words", "a\nb", "größe"] {
            assert!(token_value(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_token_lives_as_long_as_is_said_and_never_longer_than_asked_for() {
        let with = |text: &'static str| {
            HeaderMap::from_iter([(TTL.parse().unwrap(), HeaderValue::from_static(text))])
        };
        assert_eq!(granted(&with("300")), Duration::from_secs(300));
        for other in ["999999999", "soon", "-1"] {
            assert_eq!(granted(&with(other)), TOKEN_TTL, "{other}");
        }
        assert_eq!(granted(&HeaderMap::new()), TOKEN_TTL);
    }
}
