//! Ending a browser: AdsPower is asked first, then the browser itself, then it is signalled. AdsPower never is.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::super::client::Error;
use super::super::ids::ProfileId;
use super::super::service::AdsPower;
use super::super::site::{Accepted, pause};
use crate::browser::Client;
use crate::errors::chain;
use crate::sys::leftover::{self, Outcome, Recorded};
use crate::sys::procfs::{Stat, boot_id};
use crate::tasks::blocking;

/// For AdsPower to close it; it saves the profile to its cloud. The call's own deadline is 10 s.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// For the browser to end once it was asked to.
const END_DEADLINE: Duration = Duration::from_secs(3);
/// From TERM to its end, at least.
const SIGNAL_BUDGET: Duration = Duration::from_secs(2);

/// Ends the browser of a profile by `deadline` or a little later.
pub(super) async fn close(
    adspower: &AdsPower,
    profile: &ProfileId,
    open: Option<Accepted>,
    deadline: Instant,
) {
    let left = || deadline.saturating_duration_since(Instant::now());
    let stopped = timeout(STOP_DEADLINE.min(left() / 2), adspower.client().stop(profile)).await;
    let refused = match stopped {
        Ok(Ok(())) => None,
        // It is not open, as far as AdsPower knows.
        Ok(Err(Error::Refused(refusal))) => Some(chain(&refusal)),
        Ok(Err(error)) => Some(chain(&error)),
        Err(_elapsed) => Some("it took too long".to_owned()),
    };
    let Some(Accepted { endpoint, main: Some(main) }) = open else {
        if let Some(error) = refused {
            tracing::debug!(%profile, error, "AdsPower did not close a browser");
        }
        return;
    };
    if has_ended(main, END_DEADLINE.min(left() / 3)).await {
        return;
    }
    tracing::warn!(%profile, error = refused, "AdsPower did not close a browser: it is asked itself");
    let ask = async {
        let mut client = Client::connect(endpoint).await?;
        client.close_browser().await
    };
    match timeout(END_DEADLINE.min(left() / 3), ask).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%profile, error = %chain(&error), "it cannot be asked"),
        Err(_elapsed) => tracing::debug!(%profile, "it does not answer"),
    }
    if has_ended(main, END_DEADLINE.min(left() / 3)).await {
        return;
    }
    signal(adspower, profile, main, left().max(SIGNAL_BUDGET)).await;
}

async fn signal(adspower: &AdsPower, profile: &ProfileId, main: Stat, budget: Duration) {
    let cgroup = adspower.site().and_then(|site| site.cell.dir().map(ToOwned::to_owned));
    let budget = budget.min(2 * SIGNAL_BUDGET);
    let ended = blocking(budget + SIGNAL_BUDGET, move || {
        let boot_id = boot_id()?;
        let recorded =
            Recorded { pid: main.pid, start_time: main.start_time, boot_id: boot_id.clone(), cgroup };
        leftover::end(&recorded, &boot_id, budget)
    });
    match ended.await.and_then(|outcome| outcome) {
        Ok(Outcome::Survives) => {
            tracing::error!(%profile, pid = main.pid, "a browser of AdsPower's survives SIGKILL")
        }
        Ok(_gone) => tracing::warn!(%profile, pid = main.pid, "ended a browser of AdsPower's by signal"),
        Err(error) => tracing::error!(%profile, pid = main.pid, %error, "cannot end a browser of AdsPower's"),
    }
}

/// Whether the process ends within `limit`.
async fn has_ended(process: Stat, limit: Duration) -> bool {
    let lives =
        || Stat::of(process.pid).is_ok_and(|now| now.start_time == process.start_time && !now.is_zombie());
    let ended = async {
        while lives() {
            pause().await;
        }
    };
    timeout(limit, ended).await.is_ok()
}
