//! What a session says about itself.

use std::time::SystemTime;

use serde::Serialize;
use utoipa::ToSchema;

use super::record::End;
use crate::clock;
use crate::supervise::{GroupStatus, ServiceState, ServiceStatus};

/// The browser's component name: the only part without which there is still a picture.
pub(super) const BROWSER: &str = "browser";

/// A session at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionStatus {
    /// What it can do.
    pub state: SessionState,
    /// When everything of it answered for the first time.
    pub ready: Option<SystemTime>,
    /// Why it ends, once it does.
    pub end: Option<End>,
    /// Its parts, in the order in which they start.
    pub components: Vec<Component>,
}

/// What a session can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// Not everything has been up yet.
    Starting,
    /// Everything answers.
    Ready,
    /// Something does not answer; it is being restarted.
    Degraded,
    /// Being taken down.
    Draining,
    /// Gone.
    Stopped,
}

impl SessionState {
    /// The state as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }

    /// Whether it is being taken down, or gone.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Draining | Self::Stopped)
    }
}

/// One part of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Component {
    /// `xvfb`, `x11vnc` or (an external one) `rfb`, `browser`; of the daemon itself `manager`, `store`, `control_plane`, `adspower`.
    pub name: &'static str,
    /// How it is.
    pub status: ComponentStatus,
    /// Since when, as a Unix time in seconds.
    #[serde(serialize_with = "unix_seconds")]
    #[schema(value_type = f64)]
    pub since: SystemTime,
    /// Why it is not well.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub reason: Option<String>,
    /// Main process, while there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub pid: Option<u32>,
    /// How often it was started.
    pub starts: u32,
}

/// How a component is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ComponentStatus {
    /// It answered its last end-to-end probe.
    Ok,
    /// On its way up for the first time.
    Starting,
    /// It does not work, and is being restarted.
    Failing,
    /// Not wanted (any more).
    Stopped,
}

fn unix_seconds<S: serde::Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(clock::unix_seconds(*time))
}

impl Component {
    pub(super) fn of_service(service: &ServiceStatus) -> Self {
        let status = match service.state {
            ServiceState::Up => ComponentStatus::Ok,
            ServiceState::Stopped => ComponentStatus::Stopped,
            // Probes that fail before the first success are how a start looks.
            ServiceState::Waiting if service.starts == 0 => ComponentStatus::Starting,
            ServiceState::Starting if service.starts <= 1 => ComponentStatus::Starting,
            ServiceState::Waiting
            | ServiceState::Starting
            | ServiceState::Unresponsive
            | ServiceState::Stopping
            | ServiceState::BackingOff => ComponentStatus::Failing,
        };
        let reason = (status == ComponentStatus::Failing).then(|| service.reason.clone()).flatten();
        let reason = match reason {
            Some(reason) if service.crash_loop => Some(format!("crash loop, {reason}")),
            reason => reason,
        };
        Self {
            name: service.name,
            status,
            since: service.since,
            reason,
            pid: service.pid,
            starts: service.starts,
        }
    }
}

impl SessionStatus {
    /// What follows from the services' states, and of what is beside them: an external RFB server, or a browser that AdsPower
    /// opened.
    /// `ready` is when it was ready for the first time, if it was.
    pub(super) fn derive(
        group: &GroupStatus,
        beside: Option<&Component>,
        end: Option<End>,
        ready: Option<SystemTime>,
    ) -> Self {
        let components: Vec<_> =
            group.services.iter().map(Component::of_service).chain(beside.cloned()).collect();
        let all = |wanted| components.iter().all(|component| component.status == wanted);
        let any = |wanted| components.iter().any(|component| component.status == wanted);
        let state = if end.is_some() {
            if all(ComponentStatus::Stopped) { SessionState::Stopped } else { SessionState::Draining }
        } else if all(ComponentStatus::Ok) {
            SessionState::Ready
        } else if any(ComponentStatus::Failing) {
            SessionState::Degraded
        } else {
            SessionState::Starting
        };
        let ready = ready.or_else(|| (state == SessionState::Ready).then(SystemTime::now));
        Self { state, ready, end, components }
    }

    /// Whether it is being taken down, or gone.
    pub fn is_over(&self) -> bool {
        self.state.is_over()
    }

    /// Whether a viewer can be shown a picture now.
    pub fn has_picture(&self) -> bool {
        let up = |component: &Component| component.name == BROWSER || component.status == ComponentStatus::Ok;
        !self.is_over() && self.components.iter().all(up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Cause;

    fn service(name: &'static str, state: ServiceState, reason: Option<&str>) -> ServiceStatus {
        ServiceStatus {
            name,
            state,
            since: SystemTime::UNIX_EPOCH,
            pid: None,
            starts: 1,
            crash_loop: false,
            reason: reason.map(str::to_owned),
        }
    }

    fn derive(services: Vec<ServiceStatus>, draining: bool) -> SessionStatus {
        let end = draining.then_some(End { cause: Cause::Requested, reason: None });
        SessionStatus::derive(&GroupStatus { generation: 1, services }, None, end, None)
    }

    #[test]
    fn ready_means_that_everything_answers() {
        let up = |name| service(name, ServiceState::Up, None);
        assert_eq!(derive(vec![up("xvfb"), up("x11vnc")], false).state, SessionState::Ready);
        let hung = service("x11vnc", ServiceState::Unresponsive, Some("did not answer"));
        let status = derive(vec![up("xvfb"), hung], false);
        assert_eq!(status.state, SessionState::Degraded);
        assert!(!status.has_picture());
    }

    #[test]
    fn a_first_start_is_no_fault_and_a_restart_is() {
        let first = derive(vec![service("xvfb", ServiceState::Starting, None)], false);
        assert_eq!(first.state, SessionState::Starting);
        let second = ServiceStatus {
            starts: 2,
            ..service("xvfb", ServiceState::Starting, Some("killed by signal 9"))
        };
        let again = derive(vec![second], false);
        assert_eq!(again.state, SessionState::Degraded);
        assert_eq!(again.components[0].reason.as_deref(), Some("killed by signal 9"));
    }

    #[test]
    fn without_its_browser_a_session_still_has_a_picture() {
        let status = derive(
            vec![
                service("xvfb", ServiceState::Up, None),
                service("x11vnc", ServiceState::Up, None),
                service("browser", ServiceState::BackingOff, Some("exited with status 1")),
            ],
            false,
        );
        assert!(status.has_picture());
        assert_eq!(status.state, SessionState::Degraded);
    }

    #[test]
    fn a_drained_session_is_stopped_when_its_services_are() {
        let stopping = derive(vec![service("xvfb", ServiceState::Stopping, None)], true);
        assert_eq!(stopping.state, SessionState::Draining);
        let stopped = derive(vec![service("xvfb", ServiceState::Stopped, None)], true);
        assert_eq!(stopped.state, SessionState::Stopped);
    }
}
