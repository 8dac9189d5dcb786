//! A session's browser where AdsPower opens it, and AdsPower itself as a part of the host.

use std::time::{Duration, Instant, SystemTime};

use prometheus::Registry;
use tokio::sync::watch;

use super::cdp::CdpPaths;
use super::config::{Config, HostConfig};
use super::ends::{Ending, hurried};
use super::status::{BROWSER, Component, ComponentStatus};
use super::viewer::Facts;
use crate::adspower::browser::{Browser, Order, State, Status};
use crate::adspower::{AdsPower, Files, Params, ProfileId, Running, SERVICE, SetupError, StartError};
use crate::profile::Fingerprint;
use crate::proxy::Proxy;
use crate::supervise::GroupStatus;
use crate::sys::Host;
use crate::tasks::Scope;

/// Of the time that a session has to end, for its display and RFB server, which come after its browser.
const REST_BUDGET: Duration = Duration::from_secs(6);

/// What AdsPower is to open for a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// None until the pool has lent one.
    pub(super) profile: Option<ProfileId>,
    pub(super) start_url: String,
    /// What the pool has for that profile; what it has not is as AdsPower has it.
    pub(super) proxy: Option<Proxy>,
    pub(super) fingerprint: Option<Fingerprint>,
}

/// Has it opened on the session's display, and shows where. None where the session has no display or no profile.
pub(super) fn open(
    scope: &mut Scope,
    adspower: &AdsPower,
    wanted: &Wanted,
    facts: &mut Facts,
    (services, size, session): (watch::Receiver<GroupStatus>, (u16, u16), &str),
) -> Option<Browser> {
    let profile = wanted.profile.clone()?;
    let Files { home, downloads, tmp } = adspower.files(&profile);
    let order = Order {
        profile,
        display: facts.display.clone()?,
        services,
        size,
        start_url: wanted.start_url.clone(),
        proxy: wanted.proxy.clone(),
        fingerprint: wanted.fingerprint.clone().map(Into::into),
        session: session.to_owned(),
    };
    let browser = Browser::spawn(scope, adspower, order);
    facts.devtools = Some(browser.devtools());
    facts.adspower = Some(browser.status());
    facts.cdp_paths = Some(CdpPaths { downloads, home, tmp });
    Some(browser)
}

/// The browser as a component, as it changes.
pub(super) fn follow(scope: &mut Scope, browser: &Browser) -> watch::Receiver<Component> {
    let mut status = browser.status();
    let component = watch::Sender::new(component_of(&status.borrow(), SystemTime::now()));
    let receiver = component.subscribe();
    scope.spawn("adspower component", async move {
        while status.changed().await.is_ok() {
            let now = component_of(&status.borrow_and_update(), SystemTime::now());
            component.send_modify(|known| {
                let since = if known.status == now.status { known.since } else { now.since };
                *known = Component { since, ..now };
            });
        }
    });
    receiver
}

fn component_of(status: &Status, since: SystemTime) -> Component {
    let word = match status.view.state {
        State::Starting => ComponentStatus::Starting,
        State::Up => ComponentStatus::Ok,
        State::Failing => ComponentStatus::Failing,
        State::Stopped => ComponentStatus::Stopped,
    };
    Component {
        name: BROWSER,
        status: word,
        since,
        reason: status.view.reason.clone(),
        pid: status.pid,
        starts: status.view.starts,
    }
}

/// Closes it while there is time left for the rest of the session. `told` may say that there is less.
pub(super) async fn close(browser: &Browser, ending: &Ending, mut told: watch::Receiver<Option<Ending>>) {
    let by = |deadline: Instant| {
        let left = deadline.saturating_duration_since(Instant::now());
        Instant::now() + left.saturating_sub(REST_BUDGET).max(left / 2)
    };
    let mut deadline = ending.deadline;
    loop {
        tokio::select! {
            () = browser.close(by(deadline)) => return,
            sooner = hurried(&mut told, deadline) => deadline = sooner.deadline,
        }
    }
}

/// AdsPower on this host, not started yet.
///
/// # Errors
/// See [`SetupError`].
pub fn adspower(
    config: crate::adspower::Config,
    host: &HostConfig,
    template: &Config,
    registry: &Registry,
) -> Result<AdsPower, SetupError> {
    AdsPower::new(Params {
        config,
        // Nobody looks at it; so it is as all the others are.
        display: template.display.clone(),
        state_dir: host.state_dir.clone(),
        runtime_dir: host.runtime_dir.clone(),
        shm_bytes: host.isolation.shm_bytes,
        hide_processes: host.isolation.hide_processes,
        registry,
    })
}

/// Starts it, where the host has it.
///
/// # Errors
/// When it cannot be given a place.
pub async fn start_adspower(
    adspower: Option<AdsPower>,
    scope: &mut Scope,
    system: &Host,
) -> Result<Option<Running>, StartError> {
    match adspower {
        // Boxed, so that the future of a whole daemon does not grow by what few have.
        Some(adspower) => Box::pin(adspower.start(scope, system)).await.map(Some),
        None => Ok(None),
    }
}

/// AdsPower as a component of the host. What it waits for is its own display.
pub fn adspower_component(adspower: &AdsPower) -> Component {
    let group = adspower.status();
    let group = group.borrow();
    let parts: Vec<Component> =
        group.iter().flat_map(|group| &group.services).map(Component::of_service).collect();
    let display = parts.iter().find(|part| part.name != SERVICE && part.status == ComponentStatus::Failing);
    match (parts.iter().find(|part| part.name == SERVICE), display) {
        (Some(app), Some(display)) if app.status != ComponentStatus::Ok => {
            let reason = display.reason.as_deref().unwrap_or("not up");
            let status = ComponentStatus::Failing;
            Component { status, reason: Some(format!("its display, {reason}")), ..app.clone() }
        }
        (Some(app), _) => app.clone(),
        (None, _) => Component {
            name: SERVICE,
            status: ComponentStatus::Starting,
            since: SystemTime::now(),
            reason: None,
            pid: None,
            starts: 0,
        },
    }
}
