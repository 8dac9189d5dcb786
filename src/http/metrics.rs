//! Counts of a listener, under its owner's prefix.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Seconds; a handshake is over in milliseconds or runs into its deadline.
const HANDSHAKE_BUCKETS: [f64; 9] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 5.0];

/// The metrics of one listener. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(super) connections: IntGauge,
    pub(super) dropped: IntCounterVec,
    pub(super) panics: IntCounter,
    pub(super) handshake: Histogram,
}

/// Why a connection ended without a request of its own being answered.
#[derive(Debug, Clone, Copy)]
pub(super) enum Dropped {
    Connections,
    Address,
    Evicted,
    Deadline,
    Tls,
    Accept,
}

impl From<super::caps::Full> for Dropped {
    fn from(full: super::caps::Full) -> Self {
        match full {
            super::caps::Full::Connections => Self::Connections,
            super::caps::Full::Address => Self::Address,
        }
    }
}

impl Dropped {
    fn label(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Address => "address",
            Self::Evicted => "evicted",
            Self::Deadline => "deadline",
            Self::Tls => "tls",
            Self::Accept => "accept",
        }
    }
}

impl Metrics {
    /// Registers `<prefix>_connections`, `_dropped_total{reason}`, `_panics_total` and `_handshake_seconds`.
    ///
    /// # Errors
    /// When the names are taken.
    pub fn register(registry: &Registry, prefix: &str) -> Result<Self, prometheus::Error> {
        let connections = IntGauge::new(format!("{prefix}_connections"), "Open connections.")?;
        let dropped = IntCounterVec::new(
            Opts::new(format!("{prefix}_dropped_total"), "Connections ended before a request was answered."),
            &["reason"],
        )?;
        let panics = IntCounter::new(format!("{prefix}_panics_total"), "Connection tasks that panicked.")?;
        let handshake = Histogram::with_opts(
            HistogramOpts::new(
                format!("{prefix}_handshake_seconds"),
                "From accept to the end of the first request's head, TLS included.",
            )
            .buckets(HANDSHAKE_BUCKETS.to_vec()),
        )?;
        registry.register(Box::new(connections.clone()))?;
        registry.register(Box::new(dropped.clone()))?;
        registry.register(Box::new(panics.clone()))?;
        registry.register(Box::new(handshake.clone()))?;
        Ok(Self { connections, dropped, panics, handshake })
    }

    pub(super) fn dropped(&self, why: Dropped) {
        self.dropped.with_label_values(&[why.label()]).inc();
    }
}
