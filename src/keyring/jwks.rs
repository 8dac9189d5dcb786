//! Fetching the JWK set from its pinned URL. A host that hands out sets decides who may enter, so nothing but that URL
//! is asked: no redirects, no proxies, TLS unless it is on loopback.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Url, redirect};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::keys::{Current, Keys, MIN_REFRESH};
use crate::auth::{JwksUrl, KeyError};
use crate::backoff::{Backoff, random_fraction};
use crate::errors::chain;
use crate::http::{Names, TextError, text};

/// Largest set taken.
const MAX_SET_BYTES: usize = 64 * 1024;

/// For the whole exchange.
const FETCH_DEADLINE: Duration = Duration::from_secs(3);

/// After failures.
const RETRY: Backoff = Backoff { first: Duration::from_secs(2), max: Duration::from_secs(300) };

/// Why a set was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// Neither `https` nor loopback.
    #[error("the URL of the JWK set is neither https nor on loopback")]
    Insecure,
    /// The exchange failed.
    #[error("cannot fetch the JWK set")]
    Http(#[source] reqwest::Error),
    /// Not 200.
    #[error("the JWK set's server answers {0}")]
    Status(u16),
    /// Too big, or not text.
    #[error("the JWK set cannot be read")]
    Text(#[from] TextError),
    /// No set that we can use.
    #[error("the JWK set cannot be used")]
    Unusable(#[source] KeyError),
}

/// Keeps the set fresh until `stop`. Sleeps while the configuration names no URL. `count` hears of each fetch whether it
/// went well.
pub async fn run(keys: Arc<Keys>, count: impl Fn(bool) + Send, stop: CancellationToken) {
    let mut changes = keys.changes();
    let work = async {
        let (names, mut failures) = (Names::default(), 0);
        let mut demanded = false;
        loop {
            let source = changes.borrow_and_update().config.jwks_url.clone();
            let Some(source) = source else {
                if changes.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let result = round(&keys, &names, &source, demanded).await;
            count(result.is_ok());
            let wait = match result {
                Ok(()) => {
                    failures = 0;
                    source.refresh
                }
                Err(error) => {
                    let wait = RETRY.delay(failures, random_fraction());
                    failures = failures.saturating_add(1);
                    tracing::warn!(error = %chain(&error), "JWK set not refreshed, the last good one stays");
                    wait
                }
            };
            demanded = wait_for_next(&keys, &mut changes, &source, wait).await;
        }
    };
    stop.run_until_cancelled(Box::pin(work)).await;
}

async fn round(keys: &Keys, names: &Names, source: &JwksUrl, demanded: bool) -> Result<(), FetchError> {
    keys.rounds.send_modify(|rounds| rounds.in_flight = true);
    let result = match fetch(&source.url, names).await {
        Ok(json) => keys.fetched(&source.url, &json).map_err(FetchError::Unusable),
        Err(error) => Err(error),
    };
    keys.rounds.send_modify(|rounds| {
        rounds.done += 1;
        rounds.in_flight = false;
        if demanded {
            rounds.next_allowed = Instant::now() + MIN_REFRESH;
        }
    });
    result
}

/// Until it is time, a request wants a new key, or the configuration names another URL. True when a request
/// was it.
async fn wait_for_next(
    keys: &Keys,
    changes: &mut watch::Receiver<Arc<Current>>,
    source: &JwksUrl,
    wait: Duration,
) -> bool {
    let deadline = Instant::now() + wait;
    loop {
        let moved = changes.wait_for(|current| current.config.jwks_url.as_ref() != Some(source));
        tokio::select! {
            () = sleep_until(deadline) => return false,
            _ = moved => return false,
            () = keys.wanted.notified() => {
                // Wishes that came in during a round are answered by it.
                if Instant::now() >= keys.rounds.borrow().next_allowed {
                    return true;
                }
            }
        }
    }
}

async fn fetch(url: &str, names: &Names) -> Result<String, FetchError> {
    let url = Url::parse(url).map_err(|_| FetchError::Insecure)?;
    if !is_trustworthy(&url) {
        return Err(FetchError::Insecure);
    }
    let client = Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .dns_resolver(names.clone())
        .timeout(FETCH_DEADLINE)
        .build()
        .map_err(FetchError::Http)?;
    let response = client.get(url).send().await.map_err(FetchError::Http)?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(FetchError::Status(response.status().as_u16()));
    }
    Ok(text(response, MAX_SET_BYTES).await?)
}

fn is_trustworthy(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let loopback = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    url.scheme() == "https" || (url.scheme() == "http" && loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_literal_loopback_are_asked() {
        for (url, trusted) in [
            ("https://id.example/jwks", true),
            ("http://127.0.0.1:8000/jwks", true),
            ("http://[::1]/jwks", true),
            ("http://id.example/jwks", false),
            ("http://localhost/jwks", false),
            ("http://127.0.0.1.evil.example/", false),
            ("file:///etc/passwd", false),
        ] {
            assert_eq!(is_trustworthy(&Url::parse(url).unwrap()), trusted, "{url}");
        }
    }
}
