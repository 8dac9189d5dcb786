//! Counts of the CDP proxy. Labels come from closed sets only.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::cdp::Reason;
use crate::gateway::close::Close;

/// The metrics of all CDP connections.
#[derive(Debug, Clone)]
pub(in crate::gateway) struct Metrics {
    pub(super) connections: IntGauge,
    denied: IntCounterVec,
    closes: IntCounterVec,
    pub(super) received: IntCounter,
    pub(super) sent: IntCounter,
}

impl Metrics {
    pub(in crate::gateway) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            connections: IntGauge::new("valetd_gateway_cdp_connections", "Live CDP connections.")?,
            denied: IntCounterVec::new(
                Opts::new(
                    "valetd_gateway_cdp_denied_total",
                    "CDP messages answered with an error, by reason.",
                ),
                &["reason"],
            )?,
            closes: IntCounterVec::new(
                Opts::new("valetd_gateway_cdp_closes_total", "CDP connections that ended, by reason."),
                &["reason"],
            )?,
            received: IntCounter::new(
                "valetd_gateway_cdp_received_bytes_total",
                "Bytes of CDP messages from clients.",
            )?,
            sent: IntCounter::new("valetd_gateway_cdp_sent_bytes_total", "Bytes of CDP frames to clients.")?,
        };
        for reason in Reason::ALL {
            metrics.denied.with_label_values(&[reason.label()]);
        }
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.denied.clone()))?;
        registry.register(Box::new(metrics.closes.clone()))?;
        registry.register(Box::new(metrics.received.clone()))?;
        registry.register(Box::new(metrics.sent.clone()))?;
        Ok(metrics)
    }

    pub(super) fn denied(&self, why: Reason) {
        self.denied.with_label_values(&[why.label()]).inc();
    }

    pub(super) fn closed(&self, why: Close) {
        self.closes.with_label_values(&[why.label()]).inc();
    }
}
