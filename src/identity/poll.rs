//! Asking EC2, every few seconds, whether the machine is to go.

use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::docket::{Docket, News, Observation, Seen};
use super::facts::{Odd, word};
use super::imds::{Imds, ImdsError};
use super::metrics::{Lookup, Metrics};
use super::notices::{Announced, Kind, Notice, interruption, recommendation};
use crate::backoff::{Backoff, random_fraction};
use crate::errors::chain;

/// What AWS recommends. Of two minutes' notice, that much is lost at most.
const INTERVAL: Duration = Duration::from_secs(5);
/// After rounds that brought nothing. No longer: an announcement would be missed meanwhile.
const RETRY: Backoff = Backoff { first: INTERVAL, max: Duration::from_secs(30) };

const SPOT: &str = "spot/instance-action";
const GROUP: &str = "autoscaling/target-lifecycle-state";
const REBALANCE: &str = "events/recommendations/rebalance";

/// Why a round brought less than it should have.
#[derive(Debug, thiserror::Error)]
enum PollError {
    #[error(transparent)]
    Imds(#[from] ImdsError),
    #[error("the metadata service's {item} cannot be used")]
    Odd {
        item: &'static str,
        #[source]
        source: Odd,
    },
}

/// Polls for ever.
pub(super) async fn run(
    mut imds: Imds,
    drain_on_rebalance: bool,
    published: watch::Sender<Announced>,
    metrics: Metrics,
) {
    let mut docket = Docket::new(drain_on_rebalance);
    let (mut blind_rounds, mut failing) = (0_u32, false);
    loop {
        let began = Instant::now();
        let (seen, failure) = round(&mut imds).await;
        match &failure {
            Some(error) => {
                metrics.failed(Lookup::Notices);
                let error = chain(error);
                // Said once, and once more when it is over: there is a counter for the rest.
                match failing {
                    false => tracing::warn!(error, "cannot see what EC2 announces, what is known stays"),
                    true => tracing::debug!(error, "cannot see what EC2 announces"),
                }
            }
            None if failing => tracing::info!("EC2's announcements can be seen again"),
            None => {}
        }
        failing = failure.is_some();
        let news = docket.observe(&seen, SystemTime::now());
        if !news.is_empty() {
            metrics.announced(docket.announced());
        }
        news.iter().for_each(tell);
        published.send_if_modified(|announced| {
            let changed = announced != docket.announced();
            announced.clone_from(docket.announced());
            changed
        });
        let wait = if seen == Observation::default() {
            blind_rounds += 1;
            RETRY.delay(blind_rounds - 1, random_fraction())
        } else {
            blind_rounds = 0;
            INTERVAL
        };
        sleep_until(began + wait).await;
    }
}

/// Asks for everything once. What one item lacks does not keep the others from being seen; when nobody answers, asking on
/// would only take longer.
async fn round(imds: &mut Imds) -> (Observation, Option<PollError>) {
    let mut seen = Observation::default();
    let mut failure = None;
    let outcome = async {
        seen.spot = ask(imds, SPOT, interruption, &mut failure).await?;
        seen.group = ask(imds, GROUP, word, &mut failure).await?;
        seen.rebalance = ask(imds, REBALANCE, recommendation, &mut failure).await?;
        Ok::<_, ImdsError>(())
    }
    .await;
    if let Err(error) = outcome {
        failure = Some(error.into());
    }
    (seen, failure)
}

async fn ask<T>(
    imds: &mut Imds,
    item: &'static str,
    parse: fn(&str) -> Result<T, Odd>,
    failure: &mut Option<PollError>,
) -> Result<Seen<T>, ImdsError> {
    match imds.get(item).await {
        Ok(None) => Ok(Seen::Absent),
        Ok(Some(text)) => match parse(&text) {
            Ok(value) => Ok(Seen::There(value)),
            Err(source) => {
                *failure = Some(PollError::Odd { item, source });
                Ok(Seen::Unknown)
            }
        },
        Err(error @ ImdsError::Http(_)) => Err(error),
        Err(error) => {
            *failure = Some(error.into());
            Ok(Seen::Unknown)
        }
    }
}

fn tell(news: &News) {
    match news {
        News::Given(Notice { kind, what, at, .. }) => {
            let seconds =
                at.and_then(|at| at.duration_since(SystemTime::now()).ok()).map(|left| left.as_secs());
            let (notice, what) = (kind.as_str(), what.as_deref());
            match kind {
                Kind::SpotInterruption => {
                    tracing::warn!(notice, what, seconds, "EC2 takes this machine back")
                }
                Kind::LeavingGroup => tracing::warn!(notice, what, "its group lets go of this machine"),
                Kind::Rebalance => tracing::warn!(notice, "EC2 may take this machine back soon"),
            }
        }
        News::Withdrawn(Notice { kind, .. }) => {
            tracing::info!(notice = kind.as_str(), "a notice stands no more");
        }
        News::Wanted => tracing::warn!("this machine is wanted again"),
    }
}
