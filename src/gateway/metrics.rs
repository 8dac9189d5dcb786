//! Counts of the gateway. Labels come from closed sets only.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::close::Close;
use super::refused::Refused;
use crate::auth::Role;

/// The gateway's own metrics; those of its listener are [`crate::http::Metrics`].
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    refusals: IntCounterVec,
    viewers: IntGaugeVec,
    closes: IntCounterVec,
    pub(super) received: IntCounter,
    pub(super) sent: IntCounter,
    jwks: IntCounterVec,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            refusals: IntCounterVec::new(
                Opts::new("valetd_gateway_refusals_total", "Requests refused, by reason."),
                &["reason"],
            )?,
            viewers: IntGaugeVec::new(Opts::new("valetd_gateway_viewers", "Live viewers."), &["role"])?,
            closes: IntCounterVec::new(
                Opts::new("valetd_gateway_closes_total", "Viewers that ended, by reason."),
                &["reason"],
            )?,
            received: IntCounter::new("valetd_gateway_received_bytes_total", "RFB bytes from viewers.")?,
            sent: IntCounter::new("valetd_gateway_sent_bytes_total", "RFB bytes to viewers.")?,
            jwks: IntCounterVec::new(
                Opts::new("valetd_gateway_jwks_fetches_total", "Fetches of the JWK set."),
                &["result"],
            )?,
        };
        registry.register(Box::new(metrics.refusals.clone()))?;
        registry.register(Box::new(metrics.viewers.clone()))?;
        registry.register(Box::new(metrics.closes.clone()))?;
        registry.register(Box::new(metrics.received.clone()))?;
        registry.register(Box::new(metrics.sent.clone()))?;
        registry.register(Box::new(metrics.jwks.clone()))?;
        Ok(metrics)
    }

    pub(super) fn refused(&self, why: Refused) {
        self.refusals.with_label_values(&[why.label()]).inc();
    }

    pub(super) fn closed(&self, why: Close) {
        self.closes.with_label_values(&[why.label()]).inc();
    }

    pub(super) fn viewers(&self, role: Role) -> IntGauge {
        self.viewers.with_label_values(&[role.as_str()])
    }

    pub(super) fn jwks(&self, fetched: bool) {
        self.jwks.with_label_values(&[if fetched { "ok" } else { "failed" }]).inc();
    }
}
