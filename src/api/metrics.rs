//! Metrics of sessions and their services. Gauges are read from the published state at each scrape, counts are kept of what
//! happens.

use std::collections::HashSet;
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::refused::Trouble;
use crate::adspower::AdsPower;
use crate::ids::SessionId;
use crate::profile::StateWord;
use crate::session::{
    Cause, Component, ComponentStatus, Event, HandoffKind, Happening, SessionState, Sessions, Warmth,
    adspower_component,
};

/// Seconds from a request to a session that is ready: a warm one in milliseconds, a cold browser in a second, a loaded host
/// in many.
const START_BUCKETS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// For a session that has just been put together to be among those that are there.
const SEEN_DEADLINE: Duration = Duration::from_secs(1);

/// Collects `valetd_service_up` and `_starts`, summed over sessions, and how many sessions there are and may be.
pub(super) struct SessionMetrics {
    sessions: Sessions,
    adspower: Option<AdsPower>,
    up: IntGaugeVec,
    starts: IntGaugeVec,
    count: IntGaugeVec,
    capacity: IntGauge,
    queued: IntGauge,
    spares: IntGaugeVec,
    profiles: IntGaugeVec,
    in_flight: IntGauge,
    window: IntGauge,
}

impl SessionMetrics {
    pub(super) fn new(sessions: Sessions, adspower: Option<AdsPower>) -> prometheus::Result<Self> {
        let by = |label, name, help| IntGaugeVec::new(Opts::new(name, help), &[label]);
        Ok(Self {
            sessions,
            adspower,
            up: by("service", "valetd_service_up", "Services that answered their last probe")?,
            starts: by(
                "service",
                "valetd_service_starts",
                "How often the services of the present sessions were started",
            )?,
            count: by("state", "valetd_session_count", "Sessions that are there")?,
            capacity: IntGauge::new("valetd_session_capacity", "Sessions that the host takes at a time")?,
            queued: IntGauge::new("valetd_session_queued", "Requests that wait for a place")?,
            spares: by("kind", "valetd_session_spares", "What is ready for sessions to come")?,
            profiles: by("state", "valetd_profile_count", "Profiles in the pool")?,
            in_flight: IntGauge::new(
                "valetd_vnc_in_flight_bytes",
                "Bytes of updates that viewers have not drawn yet",
            )?,
            window: IntGauge::new("valetd_vnc_window_bytes", "Bytes of updates that may be on their way")?,
        })
    }

    fn count(&self, component: &Component) {
        let up = i64::from(component.status == ComponentStatus::Ok);
        self.up.with_label_values(&[component.name]).add(up);
        self.starts.with_label_values(&[component.name]).add(component.starts.into());
    }

    fn parts(&self) -> [&dyn Collector; 9] {
        [
            &self.up,
            &self.starts,
            &self.count,
            &self.capacity,
            &self.queued,
            &self.spares,
            &self.profiles,
            &self.in_flight,
            &self.window,
        ]
    }
}

impl Collector for SessionMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.parts().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.up.reset();
        self.starts.reset();
        self.count.reset();
        for state in [
            SessionState::Starting,
            SessionState::Ready,
            SessionState::Degraded,
            SessionState::Draining,
            SessionState::Stopped,
        ] {
            self.count.with_label_values(&[state.as_str()]).set(0);
        }
        let (mut in_flight, mut window) = (0_usize, 0_usize);
        for session in self.sessions.all() {
            for (bytes, most) in session.watching().into_iter().filter_map(|it| it.figures?.queue) {
                (in_flight, window) = (in_flight.saturating_add(bytes), window.saturating_add(most));
            }
            let status = session.status();
            self.count.with_label_values(&[status.state.as_str()]).inc();
            status.components.iter().for_each(|component| self.count(component));
        }
        if let Some(adspower) = &self.adspower {
            self.count(&adspower_component(adspower));
        }
        let occupancy = self.sessions.occupancy();
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.in_flight.set(number(in_flight));
        self.window.set(number(window));
        self.capacity.set(number(occupancy.capacity));
        self.queued.set(number(occupancy.queued));
        self.spares.with_label_values(&["display"]).set(number(occupancy.spare_displays));
        self.spares.with_label_values(&["browser"]).set(number(occupancy.spare_browsers));
        for (state, count) in StateWord::ALL.into_iter().zip(self.sessions.profile_counts()) {
            self.profiles.with_label_values(&[state.as_str()]).set(number(count));
        }
        self.parts().into_iter().flat_map(Collector::collect).collect()
    }
}

/// Counts of what happened to sessions. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    created: IntCounterVec,
    ended: IntCounterVec,
    denied: IntCounterVec,
    tab_crashes: IntCounter,
    handoffs: IntCounterVec,
    start: HistogramVec,
}

impl Tally {
    /// Registers `valetd_session_created_total{warmth}`, `_ended_total{cause}`, `_denied_total{reason}`,
    /// `_tab_crashes_total` and `_start_seconds{warmth}`, and `valetd_handoffs_total{kind,outcome}`.
    ///
    /// # Errors
    /// When the names are taken.
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let by = |label, name, help| IntCounterVec::new(Opts::new(name, help), &[label]);
        let tally = Self {
            created: by(
                "warmth",
                "valetd_session_created_total",
                "Sessions created, by what was ready before",
            )?,
            ended: by("cause", "valetd_session_ended_total", "Sessions ended")?,
            denied: by("reason", "valetd_session_denied_total", "Requests for a session that were refused")?,
            tab_crashes: IntCounter::new("valetd_session_tab_crashes_total", "Tabs that crashed")?,
            handoffs: IntCounterVec::new(
                Opts::new("valetd_handoffs_total", "Requests for a human, and what came of them"),
                &["kind", "outcome"],
            )?,
            start: HistogramVec::new(
                HistogramOpts::new(
                    "valetd_session_start_seconds",
                    "From a request to a session that is ready",
                )
                .buckets(START_BUCKETS.to_vec()),
                &["warmth"],
            )?,
        };
        for warmth in [Warmth::Cold, Warmth::Display, Warmth::Browser] {
            tally.created.with_label_values(&[warmth.as_str()]);
            tally.start.with_label_values(&[warmth.as_str()]);
        }
        for kind in HandoffKind::ALL {
            tally.handoffs.with_label_values(&[kind.as_str(), "requested"]);
        }
        for cause in Cause::ALL {
            tally.ended.with_label_values(&[cause.as_str()]);
        }
        registry.register(Box::new(tally.created.clone()))?;
        registry.register(Box::new(tally.ended.clone()))?;
        registry.register(Box::new(tally.denied.clone()))?;
        registry.register(Box::new(tally.tab_crashes.clone()))?;
        registry.register(Box::new(tally.handoffs.clone()))?;
        registry.register(Box::new(tally.start.clone()))?;
        Ok(tally)
    }

    /// Somebody asked in vain, and why: a name of the table of problems.
    pub(super) fn denied(&self, trouble: Trouble) {
        self.denied.with_label_values(&[trouble.outside().1]).inc();
    }

    /// Counts what happens until `over`.
    pub(super) async fn follow(&self, sessions: &Sessions, over: &CancellationToken) {
        let mut events = sessions.events();
        let (mut after, mut starting) = (0, HashSet::new());
        while over.run_until_cancelled(events.wait_past(after)).await.is_some() {
            let batch = events.since(after);
            if batch.missed {
                tracing::warn!("events came faster than they were counted; some are not");
            }
            for event in batch.events {
                after = event.number;
                self.count(&event, sessions, &mut starting).await;
            }
        }
    }

    async fn count(&self, event: &Event, sessions: &Sessions, starting: &mut HashSet<SessionId>) {
        match &event.what {
            Happening::Created(warmth) => {
                self.created.with_label_values(&[warmth.as_str()]).inc();
                starting.insert(event.session.clone());
            }
            Happening::State(SessionState::Ready) if starting.remove(&event.session) => {
                // A warm one is ready before everybody can see it.
                let seen = timeout(SEEN_DEADLINE, sessions.wait_for(&event.session)).await;
                let Ok(record) = seen.map(|session| session.record()) else { return };
                // The clock may have been set meanwhile.
                let took = event.at.duration_since(record.created).unwrap_or_default();
                self.start.with_label_values(&[record.warmth.as_str()]).observe(took.as_secs_f64());
            }
            Happening::Ended(end) => {
                self.ended.with_label_values(&[end.cause.as_str()]).inc();
                starting.remove(&event.session);
            }
            Happening::TabCrashed(_) => self.tab_crashes.inc(),
            Happening::Human(_, handoff) => {
                let closing = handoff.closing.as_ref();
                let outcome = closing.map_or("requested", |closing| closing.outcome.as_str());
                self.handoffs.with_label_values(&[handoff.kind.as_str(), outcome]).inc();
            }
            Happening::State(_) | Happening::ServiceFailed { .. } | Happening::ProfileReset => {}
        }
    }
}
