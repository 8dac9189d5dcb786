//! The verifier in use: made from the configuration, with a fetched JWK set besides, replaced whole.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use crate::auth::{Config, Grant, KeyError, Refusal, Verifier};

/// Between two fetches that unknown keys ask for.
pub(super) const MIN_REFRESH: Duration = Duration::from_secs(30);

/// For a request to wait for a fetch that may bring its key.
const REFRESH_WAIT: Duration = Duration::from_millis(3500);

/// What tokens are judged by at one moment.
#[derive(Debug)]
pub struct Current {
    /// The configuration it was made from.
    pub config: Config,
    verifier: Verifier,
    /// The last good set, and where it came from.
    fetched: Option<(String, Arc<str>)>,
}

/// The state of fetching, as requests see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rounds {
    /// Fetches that have ended.
    pub(super) done: u64,
    /// One is under way, or about to be.
    pub(super) in_flight: bool,
    /// No request may ask for one before.
    pub(super) next_allowed: Instant,
}

/// The holder of [`Current`]. Reloads and fetches change it; requests read it.
#[derive(Debug)]
pub struct Keys {
    current: watch::Sender<Arc<Current>>,
    /// Asks the fetcher for a round.
    pub(super) wanted: Notify,
    pub(super) rounds: watch::Sender<Rounds>,
}

impl Keys {
    /// Keys from the configuration alone, until a set is fetched.
    ///
    /// # Errors
    /// When a key is not usable.
    pub fn new(config: Config) -> Result<Self, KeyError> {
        let verifier = Verifier::new(&config)?;
        Ok(Self {
            current: watch::Sender::new(Arc::new(Current { config, verifier, fetched: None })),
            wanted: Notify::new(),
            rounds: watch::Sender::new(Rounds { done: 0, in_flight: true, next_allowed: Instant::now() }),
        })
    }

    /// What is in use now.
    pub fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.borrow())
    }

    pub(super) fn changes(&self) -> watch::Receiver<Arc<Current>> {
        self.current.subscribe()
    }

    /// Makes ready what [`Keys::take`] puts to use. A set fetched from the same URL stays in it.
    ///
    /// # Errors
    /// When a key is not usable.
    pub fn prepare(&self, config: Config) -> Result<Current, KeyError> {
        let base = Verifier::new(&config)?;
        let url = config.jwks_url.as_ref().map(|source| source.url.clone());
        let fetched = self.current().fetched.clone().filter(|(from, _)| url.as_ref() == Some(from));
        let verifier = match &fetched {
            Some((_, json)) => base.with_fetched(json)?,
            None => base,
        };
        Ok(Current { config, verifier, fetched })
    }

    /// Puts a new configuration to use, whole.
    pub fn take(&self, prepared: Current) {
        self.current.send_replace(Arc::new(prepared));
    }

    /// Takes a fetched set; what is in use stays when the set is no good. A set from a URL that was reloaded away
    /// meanwhile is dropped.
    pub(super) fn fetched(&self, url: &str, json: &str) -> Result<(), KeyError> {
        let current = self.current();
        if current.config.jwks_url.as_ref().is_none_or(|source| source.url != url) {
            return Ok(());
        }
        if current.fetched.as_ref().is_some_and(|(_, known)| **known == *json) {
            return Ok(());
        }
        let verifier = Verifier::new(&current.config)?.with_fetched(json)?;
        let fetched = Some((url.to_owned(), Arc::from(json)));
        self.current.send_replace(Arc::new(Current { config: current.config.clone(), verifier, fetched }));
        Ok(())
    }

    /// Judges a token. One by a key that we do not know may be by a new one: a fetch is asked for, at most one per
    /// half a minute, and waited for.
    ///
    /// # Errors
    /// [`Refusal`], as [`Verifier::verify`] gives it.
    pub async fn verify(&self, token: &str, now_unix: u64) -> Result<Grant, Refusal> {
        let current = self.current();
        let first = current.verifier.verify(token, now_unix);
        if first != Err(Refusal::UnknownKey) || current.config.jwks_url.is_none() {
            return first;
        }
        let mut rounds = self.rounds.subscribe();
        let mut result = first;
        // A fetch that is under way may have begun before the key was published, so one more may follow it.
        for _ in 0..2 {
            let round = *rounds.borrow_and_update();
            if !round.in_flight {
                if Instant::now() < round.next_allowed {
                    break;
                }
                self.wanted.notify_one();
            }
            let fetched = rounds.wait_for(|now| now.done > round.done);
            if timeout(REFRESH_WAIT, fetched).await.is_err() {
                tracing::debug!("the JWK set did not come in time for a token with an unknown key");
                break;
            }
            result = self.current().verifier.verify(token, now_unix);
            if result != Err(Refusal::UnknownKey) || !round.in_flight {
                break;
            }
        }
        result
    }
}
