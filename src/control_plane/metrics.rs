//! Counts of the line.

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::line::Task;
use super::payload::Backlog;
use super::reply::Reply;

/// The line's metrics. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    requests: IntCounterVec,
    connected: IntGauge,
    refused: IntGauge,
    waiting: IntGauge,
    oldest: Gauge,
    sent: IntCounter,
    set_aside: IntCounter,
    skew: Gauge,
}

const REPORTS: [&str; 3] = ["registration", "heartbeat", "events"];
const RESULTS: [&str; 4] = ["taken", "refused", "rejected", "failed"];

impl Metrics {
    /// Registers `valetd_control_plane_…`; see ARCHITECTURE.md.
    ///
    /// # Errors
    /// When the names are taken.
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            requests: IntCounterVec::new(
                Opts::new("valetd_control_plane_requests_total", "Reports sent, and what came of them"),
                &["report", "result"],
            )?,
            connected: IntGauge::new("valetd_control_plane_connected", "Whether the last report was taken")?,
            refused: IntGauge::new(
                "valetd_control_plane_refused",
                "Whether the control plane does not know this host",
            )?,
            waiting: IntGauge::new(
                "valetd_control_plane_waiting_events",
                "Events that the control plane has not taken",
            )?,
            oldest: Gauge::new(
                "valetd_control_plane_oldest_event_seconds",
                "How long the oldest of them has waited",
            )?,
            sent: IntCounter::new("valetd_control_plane_events_total", "Events that were acknowledged")?,
            set_aside: IntCounter::new(
                "valetd_control_plane_set_aside_events_total",
                "Events that the control plane would not take, and that are kept",
            )?,
            skew: Gauge::new(
                "valetd_control_plane_clock_skew_seconds",
                "How far the control plane's clock is ahead of this host's",
            )?,
        };
        for report in REPORTS {
            for result in RESULTS {
                metrics.requests.with_label_values(&[report, result]);
            }
        }
        registry.register(Box::new(metrics.requests.clone()))?;
        for gauge in [&metrics.connected, &metrics.refused, &metrics.waiting] {
            registry.register(Box::new(gauge.clone()))?;
        }
        for gauge in [&metrics.oldest, &metrics.skew] {
            registry.register(Box::new(gauge.clone()))?;
        }
        for counter in [&metrics.sent, &metrics.set_aside] {
            registry.register(Box::new(counter.clone()))?;
        }
        Ok(metrics)
    }

    pub(super) fn exchanged(&self, task: Task, reply: &Reply) {
        let [registration, heartbeat, events] = REPORTS;
        let report = match task {
            Task::Register { .. } => registration,
            Task::Heartbeat => heartbeat,
            _ => events,
        };
        let [taken, refused, rejected, failed] = RESULTS;
        let result = match reply {
            Reply::Taken(_) => taken,
            Reply::Refused(_) => refused,
            Reply::Rejected(_) => rejected,
            Reply::Failed { .. } => failed,
        };
        self.requests.with_label_values(&[report, result]).inc();
        self.connected.set(i64::from(result == taken));
        if let (Task::Send(sent), Reply::Taken(accepted)) = (task, reply) {
            self.sent.inc_by(u64::try_from(*accepted.min(&sent)).unwrap_or_default());
        }
    }

    pub(super) fn refused(&self, refused: bool) {
        self.refused.set(i64::from(refused));
    }

    pub(super) fn backlog(&self, backlog: &Backlog) {
        self.waiting.set(i64::try_from(backlog.waiting).unwrap_or(i64::MAX));
        self.oldest.set(backlog.oldest_age_seconds.unwrap_or_default());
    }

    pub(super) fn set_aside(&self) {
        self.set_aside.inc();
    }

    pub(super) fn skew(&self, seconds: f64) {
        self.skew.set(seconds);
    }
}
