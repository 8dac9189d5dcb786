//! The calls.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::call::Call;
use super::data::{self, Kernel, Listed, Opened};
use super::error::{Error, SetupError};
use super::line::{Limits, Line};
use super::metrics::Metrics;
use super::place::Place;
use super::request::{ListQuery, NewProfile, Request, StartOptions, Ways};
use super::wire::Wire;
use super::{v1, v2};
use crate::adspower::ProfileId;
use crate::secret::Secret;

/// Profiles asked for at a time; every version of the API takes so many.
const PAGE_SIZE: u64 = 100;
/// Pages of a list: 6000 profiles, so that every rate can become known.
const MAX_PAGES: u64 = 60;
/// For all pages of a list; each has the deadline of a call beside. The pace grows with the pages, so that 60 take 15 s.
const LIST_DEADLINE: Duration = Duration::from_secs(60);
/// Profiles removed by one call.
const MAX_DELETED: usize = 100;

/// What a client is made from.
#[derive(Debug)]
pub struct Params {
    /// Shown with every call, where there is one.
    pub api_key: Option<Secret<String>>,
    /// Between two calls. Without one it depends on how many profiles the account has, once that is known.
    pub pace: Option<Duration>,
    /// Where calls are counted.
    pub metrics: Metrics,
}

/// A client of AdsPower's API. Cheap to clone; all clones stand in one queue. Dropping a call's future gives its place and
/// its turn back; what AdsPower was told already it may do all the same.
#[derive(Debug, Clone)]
pub struct Client(Arc<Line>);

impl Client {
    /// A client of an app that is not up yet.
    ///
    /// # Errors
    /// When the key cannot be one.
    pub fn new(params: Params) -> Result<Self, SetupError> {
        Self::with_limits(params, Limits::default())
    }

    pub(super) fn with_limits(params: Params, limits: Limits) -> Result<Self, SetupError> {
        let wire = Wire::new(params.api_key)?;
        Ok(Self(Arc::new(Line::new(wire, params.pace, params.metrics, limits))))
    }

    /// Where the API is now; `None` while the app is down: calls fail at once then, also those that wait or are under way.
    ///
    /// Whoever holds that socket is shown the API key, so that the caller has to know that it is AdsPower.
    pub fn set_place(&self, place: Option<Place>) {
        self.0.set_place(place);
    }

    /// Whether the API is there and takes the key.
    ///
    /// # Errors
    /// See [`Error`], here and below.
    pub async fn status(&self) -> Result<(), Error> {
        self.0.call(Call::Status, &v1::status().into(), |_| Ok(())).await
    }

    /// Opens a profile's browser. One that is open already stays as it is.
    pub async fn start(&self, profile: &ProfileId, options: &StartOptions) -> Result<Opened, Error> {
        let ways = both(v2::start(profile, options), v1::start(profile, options));
        self.0.call(Call::Start, &ways, data::opened).await
    }

    /// Closes a profile's browser.
    pub async fn stop(&self, profile: &ProfileId) -> Result<(), Error> {
        let ways = both(v2::stop(profile), v1::stop(profile));
        self.0.call(Call::Stop, &ways, |_| Ok(())).await
    }

    /// A profile's browser; `None` when it is not open.
    pub async fn active(&self, profile: &ProfileId) -> Result<Option<Opened>, Error> {
        let ways = both(v2::active(profile), v1::active(profile));
        self.0.call(Call::Active, &ways, data::active).await
    }

    /// The browsers that are open on this machine. Those without DevTools on loopback are left out, with a warning.
    pub async fn local_active(&self) -> Result<Vec<(ProfileId, Opened)>, Error> {
        let (open, others) =
            self.0.call(Call::LocalActive, &v1::local_active().into(), data::local_active).await?;
        if others > 0 {
            tracing::warn!(others, "AdsPower has browsers open that have no DevTools on loopback");
        }
        Ok(open)
    }

    /// The profiles that there are: the first 6000 of them, with a warning when there are more.
    pub async fn list(&self, query: &ListQuery) -> Result<Vec<Listed>, Error> {
        match timeout(LIST_DEADLINE, self.pages(query)).await {
            Ok(listed) => listed,
            Err(_elapsed) => Err(Error::TimedOut { call: Call::List, deadline: LIST_DEADLINE }),
        }
    }

    async fn pages(&self, query: &ListQuery) -> Result<Vec<Listed>, Error> {
        let wanted: HashSet<&ProfileId> = query.profiles.iter().collect();
        let (mut seen, mut listed) = (HashSet::new(), Vec::new());
        for number in 1..=MAX_PAGES {
            let ways = both(v2::list(query, number, PAGE_SIZE), v1::list(query, number, PAGE_SIZE));
            let page = self.0.call(Call::List, &ways, data::page).await?;
            // An app that gives fewer at a time says so.
            let size = page.size.filter(|size| *size > 0).unwrap_or(PAGE_SIZE);
            let short = u64::try_from(page.profiles.len()).is_ok_and(|count| count < size);
            let before = seen.len();
            for profile in page.profiles {
                let asked_for = wanted.is_empty() || wanted.contains(&profile.profile);
                if seen.insert(profile.profile.clone()) && asked_for {
                    listed.push(profile);
                }
            }
            // One that brings nothing new is the last one again.
            let all_found = !wanted.is_empty() && listed.len() == wanted.len();
            let whole = short || all_found || seen.len() == before;
            if query.is_all() {
                self.0.known(seen.len(), whole);
            }
            if whole {
                return Ok(listed);
            }
        }
        tracing::warn!(profiles = listed.len(), "AdsPower has more profiles than are listed");
        Ok(listed)
    }

    /// A new profile. Never tried again after it may have been created, which [`Error::may_have_happened`] tells.
    pub async fn create(&self, new: &NewProfile) -> Result<ProfileId, Error> {
        self.0.call(Call::Create, &both(v2::create(new), v1::create(new)), data::created).await
    }

    /// Other settings for a profile.
    pub async fn update(&self, profile: &ProfileId, change: &NewProfile) -> Result<(), Error> {
        let ways = both(v2::update(profile, change), v1::update(profile, change));
        self.0.call(Call::Update, &ways, |_| Ok(())).await
    }

    /// Removes profiles, a hundred at a time: after an error some may be gone.
    pub async fn delete(&self, profiles: &[ProfileId]) -> Result<(), Error> {
        for some in profiles.chunks(MAX_DELETED) {
            let ways = both(v2::delete(some), v1::delete(some));
            self.0.call(Call::Delete, &ways, |_| Ok(())).await?;
        }
        Ok(())
    }

    /// The Chromium browsers that AdsPower has or could fetch. Older apps do not know the call.
    pub async fn kernels(&self) -> Result<Vec<Kernel>, Error> {
        self.0.call(Call::Kernels, &v2::kernels().into(), data::kernels).await
    }
}

fn both(second: Request, first: Request) -> Ways {
    Ways { first: second, older: Some(first) }
}
