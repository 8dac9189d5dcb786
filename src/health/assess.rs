//! How the host is, as everybody may know it.

use std::net::IpAddr;

use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::unix_seconds;
use crate::identity::{Facts, Notice};
use crate::ids::SessionId;
use crate::session::{Component, ComponentStatus, Occupancy, SessionState, SessionStatus};

/// The answer of `GET /health`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Health {
    /// The whole of it in one word.
    pub status: HealthStatus,
    /// Version of the daemon.
    pub version: &'static str,
    /// The same as long as the daemon runs. Events of another run may have been missed.
    pub run_id: String,
    /// Where viewers and automations get in: below it, each session is at `/sessions/{id}/vnc` and `/sessions/{id}/cdp`.
    #[schema(example = "https://host-7.sandbox.example.org")]
    pub gateway_url: String,
    /// Whether it takes no new viewers and sessions, because it is about to end or its machine is.
    pub draining: bool,
    /// Who this machine is. Not there while nobody has said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub host: Option<HealthHost>,
    /// What its cloud has announced about it, the gravest where there is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub notice: Option<HealthNotice>,
    /// How many sessions there are.
    pub sessions: SessionCounts,
    /// Its parts.
    pub components: Vec<HealthComponent>,
}

/// A machine, as its network may know it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct HealthHost {
    /// Who says so: `ec2`, `fly` or `local`.
    pub provider: &'static str,
    /// The provider's name for it; with `local`, a digest that stays the same.
    #[schema(example = "i-0123456789abcdef0")]
    pub id: String,
    /// Host name, or Fly's app.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub name: Option<String>,
    /// Type of the instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "m7i.large")]
    pub r#type: Option<String>,
    /// `spot`, `on-demand` and the like.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub life_cycle: Option<String>,
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "eu-central-1")]
    pub region: Option<String>,
    /// Where in the region.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "eu-central-1a")]
    pub zone: Option<String>,
    /// Where its own network reaches it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = String, required = false)]
    pub address: Option<IpAddr>,
    /// Where the world reaches it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = String, required = false)]
    pub public_address: Option<IpAddr>,
}

impl From<&Facts> for HealthHost {
    fn from(facts: &Facts) -> Self {
        // Taken apart by name: what is new must be thought of here, since anybody reads this.
        let Facts {
            provider,
            id,
            name,
            machine_type,
            life_cycle,
            region,
            zone,
            address,
            public_address,
            tags: _,
        } = facts;
        Self {
            provider: provider.as_str(),
            id: id.clone(),
            name: name.clone(),
            r#type: machine_type.clone(),
            life_cycle: life_cycle.clone(),
            region: region.clone(),
            zone: zone.clone(),
            address: *address,
            public_address: *public_address,
        }
    }
}

/// Something that was announced about a machine. Times are Unix times in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct HealthNotice {
    /// `spot_interruption` and `leaving_group`: the host ends its sessions and takes no more. `rebalance`: it may be
    /// interrupted soon.
    pub kind: &'static str,
    /// What happens to it: `terminate`, `stop` or `hibernate`, or the state that its group wants it in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "terminate")]
    pub what: Option<String>,
    /// When that happens, where it is announced.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub at: Option<f64>,
    /// When the notice was given or, where that is not said, first seen.
    pub since: f64,
}

impl From<&Notice> for HealthNotice {
    fn from(notice: &Notice) -> Self {
        Self {
            kind: notice.kind.as_str(),
            what: notice.what.clone(),
            at: notice.at.map(unix_seconds),
            since: unix_seconds(notice.since),
        }
    }
}

/// Sessions in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct SessionCounts {
    /// Those that are there.
    pub count: usize,
    /// Those that the host takes at a time.
    pub capacity: usize,
    /// Requests that wait for a place.
    pub queued: usize,
    /// What is ready for sessions to come.
    pub spares: Spares,
}

/// What is ready for sessions to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Spares {
    /// Displays.
    pub displays: usize,
    /// Displays with a blank browser.
    pub browsers: usize,
}

impl Spares {
    /// Those of an occupancy.
    pub fn of(occupancy: &Occupancy) -> Self {
        Self { displays: occupancy.spare_displays, browsers: occupancy.spare_browsers }
    }
}

/// A host or a session in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// Everything answers.
    Ok,
    /// Something does not, or is not up yet; people can still be served, or will soon.
    Degraded,
    /// Nobody can be served.
    Failing,
}

/// One part of a host.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct HealthComponent {
    /// The session it belongs to; none for the daemon's own parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub session: Option<SessionId>,
    /// What it is, how it is, since when and why.
    #[serde(flatten)]
    pub component: Component,
}

/// A session in one word, for its own users.
pub fn of_session(status: &SessionStatus) -> HealthStatus {
    match status.state {
        SessionState::Ready => HealthStatus::Ok,
        SessionState::Stopped => HealthStatus::Failing,
        SessionState::Degraded if !status.has_picture() => HealthStatus::Failing,
        SessionState::Starting | SessionState::Degraded | SessionState::Draining => HealthStatus::Degraded,
    }
}

/// What the host is like besides its sessions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Situation<'a> {
    /// The configuration's own session, where it has one.
    pub(super) fixed: Option<&'a SessionId>,
    pub(super) draining: bool,
    pub(super) occupancy: Occupancy,
    pub(super) run_id: &'a str,
    pub(super) gateway_url: &'a str,
    pub(super) host: Option<&'a Facts>,
    pub(super) notice: Option<&'a Notice>,
}

/// The daemon's own parts.
#[derive(Debug, Clone)]
pub(super) struct OwnParts {
    /// Found by a round trip through the session manager.
    pub(super) manager: Component,
    /// The others, each of which the host can do without for a while.
    pub(super) others: Vec<Component>,
}

/// Puts the answer together.
///
/// A session that somebody asked for may be starting or ending: that is its life, and no fault of the host's. Nor is a full
/// host a sick one.
pub(super) fn assess(
    own: OwnParts,
    sessions: &[(SessionId, SessionStatus)],
    situation: &Situation<'_>,
) -> Health {
    let manager_ok = own.manager.status == ComponentStatus::Ok;
    let others_ok = own.others.iter().all(|part| part.status != ComponentStatus::Failing);
    let broken = |status: &SessionStatus| status.state == SessionState::Degraded && !status.has_picture();
    let all_broken = !sessions.is_empty() && sessions.iter().all(|(_id, status)| broken(status));
    let any_degraded = sessions.iter().any(|(_id, status)| status.state == SessionState::Degraded);
    let fixed = situation.fixed.map(|fixed| {
        let status = sessions.iter().find(|(id, _status)| id == fixed).map(|(_id, status)| status);
        // One that is not there is being put together, or has ended, which it should not.
        (status.is_some_and(broken), status.is_some_and(|status| status.state == SessionState::Ready))
    });
    let (fixed_broken, fixed_ready) = fixed.unwrap_or((false, true));
    let status = if !manager_ok || all_broken || fixed_broken {
        HealthStatus::Failing
    } else if any_degraded || !fixed_ready || !others_ok || situation.draining {
        HealthStatus::Degraded
    } else {
        HealthStatus::Ok
    };
    let own = std::iter::once(own.manager)
        .chain(own.others)
        .map(|component| HealthComponent { session: None, component: without_details(&component) });
    let parts = sessions.iter().flat_map(|(id, status)| {
        status.components.iter().map(|component| HealthComponent {
            session: Some(id.clone()),
            component: without_details(component),
        })
    });
    Health {
        status,
        version: env!("CARGO_PKG_VERSION"),
        run_id: situation.run_id.to_owned(),
        gateway_url: situation.gateway_url.to_owned(),
        draining: situation.draining,
        host: situation.host.map(HealthHost::from),
        notice: situation.notice.map(HealthNotice::from),
        sessions: SessionCounts {
            count: situation.occupancy.occupied,
            capacity: situation.occupancy.capacity,
            queued: situation.occupancy.queued,
            spares: Spares::of(&situation.occupancy),
        },
        components: own.chain(parts).collect(),
    }
}

/// Reasons may end in what a program said last, after a colon. That may name pages, and anybody may ask for health.
pub fn without_details(component: &Component) -> Component {
    let mut component = component.clone();
    if let Some(reason) = &mut component.reason
        && let Some(colon) = reason.find(": ")
    {
        reason.truncate(colon);
    }
    component
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn component(name: &'static str, status: ComponentStatus, reason: Option<&str>) -> Component {
        Component {
            name,
            status,
            since: SystemTime::UNIX_EPOCH,
            reason: reason.map(str::to_owned),
            pid: None,
            starts: 1,
        }
    }

    fn session(id: &str, state: SessionState, components: Vec<Component>) -> (SessionId, SessionStatus) {
        (id.parse().unwrap(), SessionStatus { state, ready: None, end: None, components })
    }

    fn own(manager: ComponentStatus, store: ComponentStatus) -> OwnParts {
        let others = vec![component("store", store, None)];
        OwnParts { manager: component("manager", manager, None), others }
    }

    fn well() -> OwnParts {
        own(ComponentStatus::Ok, ComponentStatus::Ok)
    }

    fn situation() -> Situation<'static> {
        let occupancy = Occupancy::default();
        let (run_id, gateway_url) = ("r", "http://127.0.0.1:6080");
        Situation { fixed: None, draining: false, occupancy, run_id, gateway_url, host: None, notice: None }
    }

    /// The host's word with the configuration's own session `own`, if it has one.
    fn word(sessions: &[(SessionId, SessionStatus)], own: Option<&str>, draining: bool) -> HealthStatus {
        let fixed = own.map(|own| own.parse().unwrap());
        let occupancy = Occupancy { capacity: 1, occupied: 1, ..Occupancy::default() };
        let situation = Situation { fixed: fixed.as_ref(), draining, occupancy, ..situation() };
        assess(well(), sessions, &situation).status
    }

    #[test]
    fn a_dead_browser_degrades_and_a_dead_display_fails() {
        let ok = component("xvfb", ComponentStatus::Ok, None);
        let browser = component(
            "browser",
            ComponentStatus::Failing,
            Some("exited with status 1: https://secret.example/"),
        );
        assert_eq!(without_details(&browser).reason.as_deref(), Some("exited with status 1"));
        let degraded = [session("s", SessionState::Degraded, vec![ok.clone(), browser])];
        assert_eq!(word(&degraded, Some("s"), false), HealthStatus::Degraded);
        assert_eq!(of_session(&degraded[0].1), HealthStatus::Degraded);

        let dead = vec![component("xvfb", ComponentStatus::Failing, None)];
        let failing = [session("s", SessionState::Degraded, dead.clone())];
        assert_eq!(word(&failing, Some("s"), false), HealthStatus::Failing);
        assert_eq!(of_session(&failing[0].1), HealthStatus::Failing);
        let beside = [failing[0].clone(), session("t", SessionState::Ready, vec![ok])];
        assert_eq!(word(&beside, Some("s"), false), HealthStatus::Failing, "the host's own");
        assert_eq!(word(&beside, None, false), HealthStatus::Degraded, "somebody's");
        let all = [failing[0].clone(), session("t", SessionState::Degraded, dead)];
        assert_eq!(word(&all, None, false), HealthStatus::Failing, "everybody's");
    }

    #[test]
    fn sessions_come_and_go_without_the_host_being_ill() {
        assert_eq!(word(&[], None, false), HealthStatus::Ok, "nobody has asked for one");
        assert_eq!(word(&[], Some("s"), false), HealthStatus::Degraded, "its own is missing");
        let starting = [session("s", SessionState::Starting, vec![])];
        assert_eq!(word(&starting, None, false), HealthStatus::Ok);
        assert_eq!(word(&starting, Some("s"), false), HealthStatus::Degraded);
        let ready = [session("s", SessionState::Ready, vec![]), session("t", SessionState::Draining, vec![])];
        assert_eq!(word(&ready, Some("s"), false), HealthStatus::Ok);
        assert_eq!(word(&ready, Some("s"), true), HealthStatus::Degraded);
        let situation = situation();
        let hung = own(ComponentStatus::Failing, ComponentStatus::Ok);
        assert_eq!(assess(hung, &ready, &situation).status, HealthStatus::Failing);
        for (status, word) in [
            (ComponentStatus::Starting, HealthStatus::Ok),
            (ComponentStatus::Failing, HealthStatus::Degraded),
            (ComponentStatus::Ok, HealthStatus::Ok),
        ] {
            let adspower = component("adspower", status, Some("killed by signal 9: its last words"));
            let mut own = well();
            own.others.push(adspower);
            let health = assess(own, &ready, &situation);
            assert_eq!(health.status, word, "{status:?}");
            assert_eq!(health.components[2].component.reason.as_deref(), Some("killed by signal 9"));
        }
        let disk_full = own(ComponentStatus::Ok, ComponentStatus::Failing);
        assert_eq!(assess(disk_full, &ready, &situation).status, HealthStatus::Degraded);
    }

    #[test]
    fn the_json_has_the_fields_that_pollers_read() {
        let occupancy =
            Occupancy { capacity: 3, occupied: 2, queued: 1, spare_displays: 1, ..Occupancy::default() };
        let situation = Situation { draining: true, occupancy, ..situation() };
        let health = assess(well(), &[session("s", SessionState::Starting, vec![])], &situation);
        let json = serde_json::to_value(&health).unwrap();
        assert_eq!(json["status"], "degraded");
        assert_eq!(json["components"][0]["name"], "manager");
        assert_eq!(json["components"][0]["status"], "ok");
        assert_eq!(json["components"][0]["since"], 0.0);
        assert!(json["components"][0].get("reason").is_none());
        let sessions = serde_json::json!(
            { "count": 2, "capacity": 3, "queued": 1, "spares": { "displays": 1, "browsers": 0 } }
        );
        assert_eq!(json["sessions"], sessions);
    }
}
