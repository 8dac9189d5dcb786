//! What is done for a profile when its session is over, before anybody else gets it. Off the manager's task, which keeps the
//! lease meanwhile.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::super::handle::Request;
use super::super::places;
use super::super::profiles::ProfileRequest;
use super::actor::Actor;
use crate::browser::{Care, Condition, look_after};
use crate::errors::chain;
use crate::ids::ProfileName;
use crate::profile::{Kind, Lease, Outcome};
use crate::store::SessionKey;
use crate::tasks::Blocking;

/// For reading and copying a profile; after it, that is said. Nobody gets the profile before it is done.
const UPKEEP_DEADLINE: Duration = Duration::from_secs(60);

/// A profile that is being looked after.
pub(super) struct Tended {
    pub(super) fence: u64,
    /// The session that had it, which is over.
    pub(super) holder: SessionKey,
    /// How that went.
    pub(super) outcome: Outcome,
}

impl Actor {
    /// What is to be done for a profile after a session that went so. A daemon that is going away has no time for it, and a
    /// profile that does not rest has none in which to be copied.
    pub(super) fn care_for(&self, kind: Kind, outcome: &Outcome) -> Option<Care> {
        let settings = self.pool.settings();
        let (quota, snapshot) = (settings.quota, *outcome == Outcome::Fine && !settings.cooldown.is_zero());
        let is_worth_it = kind == Kind::Chromium && *outcome != Outcome::Unused && !self.draining;
        (is_worth_it && (quota.is_some() || snapshot)).then_some(Care { quota, snapshot })
    }

    pub(super) fn look_after(&mut self, lease: &Lease, tended: Tended, care: Care) {
        let name = lease.profile.clone();
        self.tended.insert(name.clone(), tended);
        let (host, desk) = (Arc::clone(&self.host), self.desk.clone());
        self.scope.spawn("profile upkeep", async move {
            let (at, over) = (name.clone(), CancellationToken::new());
            // The thread ends with this task, which ends with the manager.
            let is_over = over.clone();
            let _over = over.drop_guard();
            let work = Blocking::start(move || {
                let parent = places::profiles(&host).map_err(io::Error::other)?;
                let wanted = || !is_over.is_cancelled();
                look_after(&parent, at.as_str(), care, &wanted).map_err(io::Error::other)
            });
            let done = match work.within(UPKEEP_DEADLINE).await {
                Ok(done) => done,
                Err(unfinished) => {
                    tracing::warn!(profile = %name, "looking after a profile takes long: it is lent to nobody meanwhile");
                    unfinished.done().await
                }
            };
            let looked = ProfileRequest::LookedAfter { name, condition: done.flatten() };
            desk.tell(Request::Profiles(looked)).await;
        });
    }

    pub(super) fn looked_after(&mut self, name: &ProfileName, condition: io::Result<Condition>) {
        let Some(Tended { fence, outcome, .. }) = self.tended.remove(name) else { return };
        let outcome = match condition {
            Ok(Condition::Good) => outcome,
            Ok(Condition::TooLarge { bytes }) => {
                let quota = self.pool.settings().quota.unwrap_or_default();
                Outcome::Unfit(format!(
                    "it holds {} MiB without its caches, and may hold {} MiB",
                    bytes >> 20,
                    quota >> 20
                ))
            }
            Err(error) => {
                tracing::warn!(profile = %name, error = %chain(&error), "a profile could not be looked after");
                outcome
            }
        };
        self.given_back(name, fence, outcome);
    }

    /// The manager ends: what is being looked after is given back as it is.
    pub(super) fn stop_tending(&mut self) {
        for (name, Tended { fence, outcome, .. }) in std::mem::take(&mut self.tended) {
            self.given_back(&name, fence, outcome);
        }
        self.write_profiles();
    }
}
