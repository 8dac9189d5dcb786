//! How the host is, as everybody may know it.

use serde::Serialize;

use crate::ids::SessionId;
use crate::session::{Component, ComponentStatus, SessionState, SessionStatus};

/// The answer of `GET /health`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Health {
    /// The whole of it in one word.
    pub status: HealthStatus,
    /// Version of the daemon.
    pub version: &'static str,
    /// Whether it takes no new viewers because it is about to end.
    pub draining: bool,
    /// Its parts.
    pub components: Vec<HealthComponent>,
}

/// A host in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HealthComponent {
    /// The session it belongs to; none for the daemon's own parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// What it is, how it is, since when and why.
    #[serde(flatten)]
    pub component: Component,
}

/// Puts the answer together. `manager` is the daemon's own part, found by a round trip through the session manager.
pub(super) fn assess(manager: Component, sessions: &[(SessionId, SessionStatus)], draining: bool) -> Health {
    let manager_ok = manager.status == ComponentStatus::Ok;
    let all_ok = sessions.iter().all(|(_id, status)| status.state == SessionState::Ready);
    let broken = |status: &SessionStatus| status.state == SessionState::Degraded && !status.has_picture();
    let all_broken = !sessions.is_empty() && sessions.iter().all(|(_id, status)| broken(status));
    let status = if !manager_ok || all_broken {
        HealthStatus::Failing
    } else if all_ok && !draining {
        HealthStatus::Ok
    } else {
        HealthStatus::Degraded
    };
    let own = HealthComponent { session: None, component: manager };
    let parts = sessions.iter().flat_map(|(id, status)| {
        status.components.iter().map(|component| HealthComponent {
            session: Some(id.clone()),
            component: without_details(component),
        })
    });
    Health {
        status,
        version: env!("CARGO_PKG_VERSION"),
        draining,
        components: std::iter::once(own).chain(parts).collect(),
    }
}

/// Reasons may end in what a program said last, after a colon. That may name pages, and anybody may ask for health.
fn without_details(component: &Component) -> Component {
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

    fn session(state: SessionState, components: Vec<Component>) -> Vec<(SessionId, SessionStatus)> {
        vec![("s".parse().unwrap(), SessionStatus { state, ready: None, end: None, components })]
    }

    fn manager() -> Component {
        component("manager", ComponentStatus::Ok, None)
    }

    #[test]
    fn a_dead_browser_degrades_and_a_dead_display_fails() {
        let ok = component("xvfb", ComponentStatus::Ok, None);
        let browser = component(
            "browser",
            ComponentStatus::Failing,
            Some("exited with status 1: https://secret.example/"),
        );
        let degraded = assess(manager(), &session(SessionState::Degraded, vec![ok, browser]), false);
        assert_eq!(degraded.status, HealthStatus::Degraded);
        assert_eq!(degraded.components[2].component.reason.as_deref(), Some("exited with status 1"));

        let display = component("xvfb", ComponentStatus::Failing, None);
        let failing = assess(manager(), &session(SessionState::Degraded, vec![display]), false);
        assert_eq!(failing.status, HealthStatus::Failing);
    }

    #[test]
    fn ok_needs_everything_ready_and_nothing_ending() {
        let ready = session(SessionState::Ready, vec![component("xvfb", ComponentStatus::Ok, None)]);
        assert_eq!(assess(manager(), &ready, false).status, HealthStatus::Ok);
        assert_eq!(assess(manager(), &ready, true).status, HealthStatus::Degraded);
        let hung = component("manager", ComponentStatus::Failing, None);
        assert_eq!(assess(hung, &ready, false).status, HealthStatus::Failing);
    }

    #[test]
    fn the_json_has_the_fields_that_pollers_read() {
        let health = assess(manager(), &session(SessionState::Starting, vec![]), false);
        let json = serde_json::to_value(&health).unwrap();
        assert_eq!(json["status"], "degraded");
        assert_eq!(json["components"][0]["name"], "manager");
        assert_eq!(json["components"][0]["status"], "ok");
        assert_eq!(json["components"][0]["since"], 0.0);
        assert!(json["components"][0].get("reason").is_none());
    }
}
