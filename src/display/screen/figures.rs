//! What looking at a display comes to.

use std::time::{Duration, Instant};

use prometheus::{Histogram, HistogramOpts, IntCounter, Registry};
use tokio::sync::watch;

use crate::rfb::figures::{Rate, Usual};

/// Seconds of one look: a few changed pixels in microseconds, a whole large screen in milliseconds.
const BUCKETS: [f64; 9] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1];

/// Those of all displays together. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CaptureMetrics {
    frames: IntCounter,
    took: Histogram,
}

impl CaptureMetrics {
    /// Registers `valetd_display_frames_total` and `valetd_display_capture_seconds`.
    ///
    /// # Errors
    /// When the names are taken.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let took =
            HistogramOpts::new("valetd_display_capture_seconds", "Looks at what was drawn on displays");
        let metrics = Self {
            frames: IntCounter::new("valetd_display_frames_total", "New pictures of displays")?,
            took: Histogram::with_opts(took.buckets(BUCKETS.to_vec()))?,
        };
        registry.register(Box::new(metrics.frames.clone()))?;
        registry.register(Box::new(metrics.took.clone()))?;
        Ok(metrics)
    }
}

/// Those of one display, while somebody looks on.
#[derive(Debug, Clone, Copy)]
pub struct CaptureFigures {
    /// New pictures.
    pub frames: u64,
    rate: Rate,
    took: Usual,
}

impl CaptureFigures {
    pub(super) fn new(now: Instant) -> Self {
        Self { frames: 0, rate: Rate::new(now), took: Usual::default() }
    }

    /// New pictures in the last second.
    pub fn frames_per_second(&self, now: Instant) -> u64 {
        self.rate.per_second(now)
    }

    /// How long a look takes as a rule, comparison with the last picture included.
    pub fn capture(&self) -> Option<Duration> {
        self.took.get()
    }
}

/// Takes the figures down, of one display and of all.
pub(super) struct CaptureMeter {
    metrics: CaptureMetrics,
    figures: watch::Sender<CaptureFigures>,
}

impl CaptureMeter {
    pub(super) fn new(metrics: CaptureMetrics) -> (Self, watch::Receiver<CaptureFigures>) {
        let (figures, seen) = watch::channel(CaptureFigures::new(Instant::now()));
        (Self { metrics, figures }, seen)
    }

    /// A look that began then is over, and brought a new picture or none.
    pub(super) fn looked(&self, began: Instant, is_new: bool) {
        let now = Instant::now();
        let took = now.saturating_duration_since(began);
        self.metrics.took.observe(took.as_secs_f64());
        self.metrics.frames.inc_by(is_new.into());
        self.figures.send_modify(|figures| {
            figures.took.add(took);
            if is_new {
                figures.frames += 1;
                figures.rate.add(1, now);
            }
        });
    }
}
