//! Counts of the store.

use super::handle::Inner;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// The store's metrics. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    pending: IntGauge,
    pub(super) failures: IntCounter,
    pub(super) set_aside: IntCounter,
    dropped: IntCounterVec,
}

/// Why a row never came to be on disk.
#[derive(Debug, Clone, Copy)]
pub(super) enum Dropped {
    /// Too many others waited.
    Full,
    /// The file takes no such row.
    Rejected,
    /// Too many events waited for the control plane.
    Outbox,
    /// The daemon ended before the disk took it.
    Shutdown,
}

impl Dropped {
    fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Rejected => "rejected",
            Self::Outbox => "outbox",
            Self::Shutdown => "shutdown",
        }
    }
}

impl Metrics {
    /// Registers `valetd_store_pending_rows`, `valetd_store_write_failures_total`, `valetd_store_set_aside_total` and
    /// `valetd_store_dropped_rows_total{reason}`.
    ///
    /// # Errors
    /// When the names are taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let pending = IntGauge::new("valetd_store_pending_rows", "Rows that are not on disk yet.")?;
        let failures = IntCounter::new(
            "valetd_store_write_failures_total",
            "Tries to write to the state file that failed, and were or will be repeated.",
        )?;
        let set_aside = IntCounter::new(
            "valetd_store_set_aside_total",
            "State files that could not be used and were renamed aside.",
        )?;
        let dropped = IntCounterVec::new(
            Opts::new("valetd_store_dropped_rows_total", "Rows that never came to be on disk."),
            &["reason"],
        )?;
        registry.register(Box::new(pending.clone()))?;
        registry.register(Box::new(failures.clone()))?;
        registry.register(Box::new(set_aside.clone()))?;
        registry.register(Box::new(dropped.clone()))?;
        Ok(Self { pending, failures, set_aside, dropped })
    }

    /// Shows how many rows are not on disk yet, and gives their number. Takes what is locked, so that the last one who changed
    /// it is also the last one who shows it.
    pub(super) fn pending(&self, inner: &Inner) -> usize {
        let waiting = inner.pending.waiting();
        self.pending.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        waiting
    }

    pub(super) fn dropped(&self, why: Dropped, count: usize) {
        self.dropped.with_label_values(&[why.label()]).inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }
}
