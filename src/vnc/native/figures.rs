//! What serving viewers comes to: of each viewer for those who ask, of all together for `/metrics`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};
use tokio::sync::watch;

use crate::display::screen::CaptureMetrics;
use crate::rfb::encode::{Encoded, RectangleKind};
use crate::rfb::figures::{Rate, Usual};
use crate::rfb::flow::Flow;

const KINDS: usize = RectangleKind::ALL.len();
/// Of a rectangle that is a move: its header, and where it comes from.
const COPY_RECT_BYTES: usize = 16;
/// Seconds from an update to its being drawn, and back: a machine in the next room, or over a phone.
const ROUND_TRIPS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];
/// Seconds for the pixels of an update.
const ENCODING: [f64; 10] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1];

/// Those of all viewers together. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<All>);

#[derive(Debug)]
struct All {
    capture: CaptureMetrics,
    updates: IntCounter,
    rectangles: [IntCounter; KINDS],
    bytes: [IntCounter; KINDS],
    round_trip: Histogram,
    encoding: Histogram,
}

impl Metrics {
    /// Registers `valetd_vnc_updates_total`, `_rectangles_total{encoding}`, `_pixel_bytes_total{encoding}`, `_round_trip_seconds`
    /// and `_encode_seconds`, and those of displays.
    ///
    /// # Errors
    /// When the names are taken.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let by_kind = |name, help| -> prometheus::Result<[IntCounter; KINDS]> {
            let counters = IntCounterVec::new(Opts::new(name, help), &["encoding"])?;
            registry.register(Box::new(counters.clone()))?;
            Ok(RectangleKind::ALL.map(|kind| counters.with_label_values(&[kind.as_str()])))
        };
        let histogram = |name, help, buckets: &[f64]| -> prometheus::Result<Histogram> {
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok(histogram)
        };
        let updates = IntCounter::new("valetd_vnc_updates_total", "Updates that viewers have drawn")?;
        registry.register(Box::new(updates.clone()))?;
        Ok(Self(Arc::new(All {
            capture: CaptureMetrics::register(registry)?,
            updates,
            rectangles: by_kind("valetd_vnc_rectangles_total", "Rectangles sent to viewers")?,
            bytes: by_kind("valetd_vnc_pixel_bytes_total", "Bytes of rectangles sent to viewers")?,
            round_trip: histogram(
                "valetd_vnc_round_trip_seconds",
                "From an update to its being drawn, and back",
                &ROUND_TRIPS,
            )?,
            encoding: histogram(
                "valetd_vnc_encode_seconds",
                "For the pixels of an update, a wait for the encoder included",
                &ENCODING,
            )?,
        })))
    }

    /// Those of their displays.
    pub fn capture(&self) -> CaptureMetrics {
        self.0.capture.clone()
    }
}

/// Those of one viewer.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Updates that it has drawn; of a viewer that does not say so, those that were sent.
    pub updates: u64,
    update_rate: Rate,
    /// Bytes of updates that were sent.
    pub bytes: u64,
    byte_rate: Rate,
    /// From an update to its being drawn, and back.
    round_trip: Usual,
    /// Bytes that it has not drawn yet, and how many there may be. None where it does not say.
    pub queue: Option<(usize, usize)>,
    encoding: Usual,
    /// JPEG quality level, 0 to 9, of what was sent last with loss.
    pub quality: Option<u8>,
    rectangles: [u64; KINDS],
}

impl Figures {
    fn new(now: Instant) -> Self {
        Self {
            updates: 0,
            update_rate: Rate::new(now),
            bytes: 0,
            byte_rate: Rate::new(now),
            round_trip: Usual::default(),
            queue: None,
            encoding: Usual::default(),
            quality: None,
            rectangles: [0; KINDS],
        }
    }

    /// Updates in the last second.
    pub fn updates_per_second(&self, now: Instant) -> u64 {
        self.update_rate.per_second(now)
    }

    /// Bytes in the last second.
    pub fn bytes_per_second(&self, now: Instant) -> u64 {
        self.byte_rate.per_second(now)
    }

    /// As a rule.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip.get()
    }

    /// For the pixels of an update as a rule, a wait for the encoder included.
    pub fn encoding(&self) -> Option<Duration> {
        self.encoding.get()
    }

    /// Rectangles of each kind that was sent.
    pub fn rectangles(&self) -> impl Iterator<Item = (RectangleKind, u64)> {
        RectangleKind::ALL.into_iter().zip(self.rectangles).filter(|(_, count)| *count > 0)
    }

    fn drawn(&mut self, now: Instant) {
        self.updates += 1;
        self.update_rate.add(1, now);
    }
}

/// Takes the figures down, of one viewer and of all.
#[derive(Debug, Clone)]
pub struct Meter {
    metrics: Metrics,
    figures: Arc<watch::Sender<Figures>>,
}

/// An update that leaves.
pub(super) struct Update<'a> {
    /// Rectangles that are moves of what the viewer has.
    pub(super) moves: usize,
    pub(super) pixels: &'a [Encoded],
    /// All of it.
    pub(super) bytes: usize,
    /// When its pixels were asked for.
    pub(super) began: Instant,
    pub(super) quality: Option<u8>,
}

impl Meter {
    /// One for a viewer, and what it says.
    pub fn new(metrics: Metrics) -> (Self, watch::Receiver<Figures>) {
        let (figures, seen) = watch::channel(Figures::new(Instant::now()));
        (Self { metrics, figures: Arc::new(figures) }, seen)
    }

    /// An update has left; `flow` where the viewer says when it has drawn it.
    pub(super) fn sent(&self, update: &Update<'_>, flow: Option<&Flow>, now: Instant) {
        let took = now.saturating_duration_since(update.began);
        self.metrics.0.encoding.observe(took.as_secs_f64());
        self.metrics.0.updates.inc_by(flow.is_none().into());
        self.figures.send_modify(|figures| {
            figures.encoding.add(took);
            let bytes = u64::try_from(update.bytes).unwrap_or(u64::MAX);
            figures.bytes = figures.bytes.saturating_add(bytes);
            figures.byte_rate.add(bytes, now);
            figures.quality = update.quality.or(figures.quality);
            let moves = std::iter::repeat_n((RectangleKind::CopyRect, COPY_RECT_BYTES), update.moves);
            let pixels = update.pixels.iter().map(|it| (RectangleKind::of(&it.bytes), it.bytes.len()));
            for (kind, length) in moves.chain(pixels) {
                let each = RectangleKind::ALL.iter().zip(&mut figures.rectangles);
                let counters = self.metrics.0.rectangles.iter().zip(&self.metrics.0.bytes);
                for ((_, count), (rectangles, bytes)) in
                    each.zip(counters).filter(|((it, _), _)| **it == kind)
                {
                    *count += 1;
                    rectangles.inc();
                    bytes.inc_by(u64::try_from(length).unwrap_or_default());
                }
            }
            match flow {
                Some(flow) => figures.queue = Some((flow.in_flight(), flow.window())),
                None => figures.drawn(now),
            }
        });
    }

    /// The viewer has drawn an update.
    pub(super) fn drawn(&self, flow: &Flow, now: Instant) {
        self.metrics.0.updates.inc();
        if let Some(round_trip) = flow.round_trip() {
            self.metrics.0.round_trip.observe(round_trip.as_secs_f64());
        }
        self.figures.send_modify(|figures| {
            figures.drawn(now);
            figures.queue = Some((flow.in_flight(), flow.window()));
            flow.round_trip().into_iter().for_each(|round_trip| figures.round_trip.add(round_trip));
        });
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::rfb::client_message::Area;

    const MS: Duration = Duration::from_millis(1);

    fn encoded(encoding: u8, control: u8, length: usize) -> Encoded {
        let mut bytes = vec![0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, encoding, control];
        bytes.resize(length, 0);
        Encoded { area: Area::default(), bytes: Bytes::from(bytes), exact: true }
    }

    #[test]
    fn a_viewer_s_figures_are_those_of_what_it_was_sent_and_has_drawn() {
        let registry = Registry::new();
        let (meter, figures) = Meter::new(Metrics::register(&registry).unwrap());
        let mut flow = Flow::default();
        let start = Instant::now();
        let pixels = [encoded(7, 0x90, 900), encoded(7, 0x80, 16), encoded(7, 0x90, 84)];
        let update = Update { moves: 0, pixels: &pixels, bytes: 1004, began: start, quality: Some(6) };
        let numbers: Vec<u32> = (0..3).map(|_| flow.sent(1004, start)).collect();
        (0..3).for_each(|_| meter.sent(&update, Some(&flow), start + 2 * MS));
        for number in &numbers[..2] {
            flow.acknowledged(*number, start + 10 * MS);
            meter.drawn(&flow, start + 10 * MS);
        }
        // A refresh has no quality, and takes none away.
        let exact = Update { quality: None, pixels: &pixels[1..2], ..update };
        meter.sent(&exact, Some(&flow), start + 10 * MS);
        let seen = *figures.borrow();
        assert_eq!((seen.updates, seen.bytes, seen.quality), (2, 4 * 1004, Some(6)));
        assert_eq!((seen.round_trip(), seen.encoding()), (Some(10 * MS), Some(3 * MS)));
        assert_eq!(seen.queue, Some((1004, flow.window())));
        let kinds: Vec<_> = seen.rectangles().map(|(kind, count)| (kind.as_str(), count)).collect();
        assert_eq!(kinds, [("tight_fill", 4), ("tight_jpeg", 6)]);
        let later = start + Duration::from_millis(1500);
        assert_eq!((seen.updates_per_second(later), seen.bytes_per_second(later)), (2, 4016));
        let text = crate::metrics::render(&registry).unwrap();
        for line in [
            "valetd_vnc_updates_total 2\n",
            "valetd_vnc_rectangles_total{encoding=\"tight_jpeg\"} 6\n",
            "valetd_vnc_pixel_bytes_total{encoding=\"tight_jpeg\"} 2952\n",
            "valetd_vnc_round_trip_seconds_bucket{le=\"0.01\"} 2\n",
            "valetd_vnc_encode_seconds_count 4\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }

    #[test]
    fn of_a_viewer_that_never_says_what_it_has_drawn_what_was_sent_counts() {
        let (meter, figures) = Meter::new(Metrics::register(&Registry::new()).unwrap());
        let now = Instant::now();
        let update = Update { moves: 2, pixels: &[encoded(0, 0, 20)], bytes: 56, began: now, quality: None };
        meter.sent(&update, None, now);
        let seen = *figures.borrow();
        assert_eq!((seen.updates, seen.bytes, seen.queue, seen.round_trip()), (1, 56, None, None));
        let kinds = RectangleKind::ALL.into_iter().zip(seen.rectangles).filter(|(_, count)| *count > 0);
        assert_eq!(kinds.collect::<Vec<_>>(), [(RectangleKind::Raw, 1), (RectangleKind::CopyRect, 2)]);
    }
}
