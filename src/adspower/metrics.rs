//! What becomes of AdsPower's browsers.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    opens: IntCounterVec,
    pub(super) strays: IntCounter,
    pub(super) lost: IntCounter,
}

impl Metrics {
    /// Registers `valetd_adspower_opens_total{outcome}`, `valetd_adspower_strays_total` and `valetd_adspower_lost_total`.
    ///
    /// # Errors
    /// When the names are taken.
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let opens =
            Opts::new("valetd_adspower_opens_total", "Browsers that were to be opened through AdsPower");
        let metrics = Self {
            opens: IntCounterVec::new(opens, &["outcome"])?,
            strays: IntCounter::new(
                "valetd_adspower_strays_total",
                "Browsers of AdsPower's that no session had, and that were closed",
            )?,
            lost: IntCounter::new(
                "valetd_adspower_lost_total",
                "Browsers of sessions that AdsPower did not list any more",
            )?,
        };
        for outcome in ["ok", "failed"] {
            metrics.opens.with_label_values(&[outcome]);
        }
        registry.register(Box::new(metrics.opens.clone()))?;
        registry.register(Box::new(metrics.strays.clone()))?;
        registry.register(Box::new(metrics.lost.clone()))?;
        Ok(metrics)
    }

    pub(super) fn opened(&self, is_good: bool) {
        self.opens.with_label_values(&[if is_good { "ok" } else { "failed" }]).inc();
    }
}
