//! How AdsPower's API is used, and how it is.

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry, exponential_buckets,
};

use super::breaker::Position;
use super::call::Call;

/// The outcome of a call that brought what was asked for; the others are the words of [`super::Error`], and this one.
pub(super) const OK: &str = "ok";
/// The outcome of a call whose caller went.
pub(super) const CANCELLED: &str = "cancelled";

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    calls: IntCounterVec,
    too_often: IntCounter,
    wait: Histogram,
    breaker: IntGaugeVec,
}

impl Metrics {
    /// Registers `valetd_adspower_calls_total{call,outcome}`, `valetd_adspower_too_often_total`,
    /// `valetd_adspower_wait_seconds` and `valetd_adspower_breaker{state}`.
    ///
    /// # Errors
    /// When the names are taken.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let calls =
            Opts::new("valetd_adspower_calls_total", "Calls of AdsPower's API, and what came of them");
        let breaker = Opts::new("valetd_adspower_breaker", "1 for what the circuit breaker does");
        let wait = HistogramOpts::new("valetd_adspower_wait_seconds", "From a call to its being sent")
            // 10 ms to 41 s.
            .buckets(exponential_buckets(0.01, 4.0, 7)?);
        let metrics = Self {
            calls: IntCounterVec::new(calls, &["call", "outcome"])?,
            too_often: IntCounter::new(
                "valetd_adspower_too_often_total",
                "Answers of AdsPower that it is asked too often",
            )?,
            wait: Histogram::with_opts(wait)?,
            breaker: IntGaugeVec::new(breaker, &["state"])?,
        };
        for call in Call::ALL {
            metrics.calls.with_label_values(&[call.as_str(), OK]);
        }
        metrics.breaker(Position::Closed);
        registry.register(Box::new(metrics.calls.clone()))?;
        registry.register(Box::new(metrics.too_often.clone()))?;
        registry.register(Box::new(metrics.wait.clone()))?;
        registry.register(Box::new(metrics.breaker.clone()))?;
        Ok(metrics)
    }

    pub(super) fn call(&self, call: Call, outcome: &'static str) {
        self.calls.with_label_values(&[call.as_str(), outcome]).inc();
    }

    pub(super) fn too_often(&self) {
        self.too_often.inc();
    }

    pub(super) fn waited(&self, wait: Duration) {
        self.wait.observe(wait.as_secs_f64());
    }

    pub(super) fn breaker(&self, position: Position) {
        for other in Position::ALL {
            self.breaker.with_label_values(&[other.as_str()]).set(i64::from(other == position));
        }
    }
}
