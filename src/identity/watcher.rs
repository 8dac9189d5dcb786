//! Asks who this machine is, at the start and every few minutes, and publishes what is known.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::config::{Choice, Config};
use super::facts::Facts;
use super::fly::{FlyError, Variables};
use super::imds::{Imds, ImdsError};
use super::local::LocalError;
use super::metrics::{Lookup, Metrics};
use super::notices::Announced;
use super::{ec2, local, poll};
use crate::backoff::{Backoff, random_fraction};
use crate::errors::chain;

/// For EC2 to show that it is there, where nobody has said so.
const PROBE_DEADLINE: Duration = Duration::from_secs(1);
/// For a whole lookup: some ten questions, and one for each tag.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(15);
/// Addresses and tags may change.
const REFRESH: Duration = Duration::from_secs(300);
/// After failures.
const RETRY: Backoff = Backoff { first: Duration::from_secs(2), max: REFRESH };

/// Why nothing new is known.
#[derive(Debug, thiserror::Error)]
enum LookupError {
    #[error(transparent)]
    Ec2(#[from] ec2::LookupError),
    #[error("the metadata service takes over {} s", LOOKUP_DEADLINE.as_secs())]
    Slow,
    #[error("not a machine of Fly")]
    Fly(#[source] FlyError),
    #[error("the machine does not know itself")]
    Local(#[from] LocalError),
}

/// Who says who this machine is.
enum Source {
    Ec2(Box<Imds>),
    Fly(Variables),
    Local,
}

/// What is known of this machine, and what keeps it up to date.
pub struct Identity {
    config: Config,
    fly: Variables,
    facts: watch::Sender<Option<Arc<Facts>>>,
    announced: watch::Sender<Announced>,
    metrics: Metrics,
}

impl Identity {
    /// Nothing is known yet, and nobody asked.
    ///
    /// # Errors
    /// When a metric was registered twice, which would be a bug.
    pub fn new(config: Config, fly: Variables, registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            config,
            fly,
            facts: watch::Sender::new(None),
            announced: watch::Sender::default(),
            metrics: Metrics::register(registry)?,
        })
    }

    /// Who this machine is; `None` until it is known.
    pub fn facts(&self) -> watch::Receiver<Option<Arc<Facts>>> {
        self.facts.subscribe()
    }

    /// What is announced about it.
    pub fn announced(&self) -> watch::Receiver<Announced> {
        self.announced.subscribe()
    }

    /// Asks until `stop`.
    pub async fn keep_fresh(self, stop: CancellationToken) {
        stop.run_until_cancelled(Box::pin(self.work())).await;
    }

    async fn work(self) {
        let Self { config, fly, facts, announced, metrics } = self;
        let source = match source(&config, fly).await {
            Ok(source) => source,
            Err(error) => {
                tracing::error!(error = %chain(&error), "nobody can be asked who this machine is");
                return std::future::pending().await;
            }
        };
        // The announcements have a client of their own: they must not wait for a lookup.
        if let Source::Ec2(imds) = &source {
            let poll = poll::run((**imds).clone(), config.drain_on_rebalance, announced, metrics.clone());
            tokio::join!(refresh(source, &facts, &metrics), poll);
        } else {
            refresh(source, &facts, &metrics).await;
        }
    }
}

/// Whom to ask. Where nobody has said so, Fly's environment speaks for itself, EC2 is asked once, and else it is nobody.
async fn source(config: &Config, fly: Variables) -> Result<Source, ImdsError> {
    let ec2 = || Imds::new(&config.ec2_endpoint).map(Box::new);
    Ok(match config.provider {
        Choice::Ec2 => Source::Ec2(ec2()?),
        Choice::Fly => Source::Fly(fly),
        Choice::Local => Source::Local,
        Choice::Auto if fly.are_there() => Source::Fly(fly),
        Choice::Auto => {
            let mut imds = ec2()?;
            let answers = matches!(timeout(PROBE_DEADLINE, ec2::id(&mut imds)).await, Ok(Ok(_id)));
            // A network that is up later than we are must not make a stranger of a machine of EC2.
            let mut is_ec2 = answers;
            for file in ec2::VENDOR_FILES {
                is_ec2 |= tokio::fs::read_to_string(file).await.is_ok_and(|text| ec2::is_vendor(&text));
            }
            if is_ec2 { Source::Ec2(imds) } else { Source::Local }
        }
    })
}

async fn refresh(mut source: Source, published: &watch::Sender<Option<Arc<Facts>>>, metrics: &Metrics) {
    let mut failures: u32 = 0;
    loop {
        let wait = match look_up(&mut source).await {
            Ok(facts) => {
                if failures > 0 {
                    tracing::info!("who this machine is can be asked again");
                }
                failures = 0;
                publish(facts, published, metrics);
                REFRESH
            }
            Err(error) => {
                metrics.failed(Lookup::Identity);
                let error = chain(&error);
                // Said once, and once more when it is over: there is a counter for the rest.
                match failures {
                    0 => tracing::warn!(error, "cannot learn who this machine is, the last known stays"),
                    _ => tracing::debug!(error, "cannot learn who this machine is"),
                }
                failures = failures.saturating_add(1);
                RETRY.delay(failures - 1, random_fraction())
            }
        };
        sleep(wait).await;
    }
}

async fn look_up(source: &mut Source) -> Result<Facts, LookupError> {
    match source {
        Source::Ec2(imds) => {
            let answer = timeout(LOOKUP_DEADLINE, ec2::look_up(imds)).await;
            Ok(answer.map_err(|_elapsed| LookupError::Slow)??)
        }
        Source::Fly(variables) => variables.facts().map_err(LookupError::Fly),
        Source::Local => Ok(local::facts().await?),
    }
}

fn publish(facts: Facts, published: &watch::Sender<Option<Arc<Facts>>>, metrics: &Metrics) {
    let known = published.borrow().clone();
    if known.as_deref() == Some(&facts) {
        return;
    }
    metrics.known(&facts);
    let address = facts.address.map(|address| address.to_string());
    // Without its tags: they may hold anything.
    tracing::info!(
        provider = facts.provider.as_str(),
        id = facts.id,
        name = facts.name,
        machine_type = facts.machine_type,
        life_cycle = facts.life_cycle,
        region = facts.region,
        zone = facts.zone,
        address,
        "{}",
        if known.is_none() { "this machine is known" } else { "this machine has changed" }
    );
    published.send_replace(Some(Arc::new(facts)));
}
