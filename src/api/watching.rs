//! Who watches a session and what its display comes to, as the API shows it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Role;
use crate::clock::unix_seconds;
use crate::rfb::Access;
use crate::session::{ScreenFigures, ViewerFigures, ViewerRecord};

/// One who watches.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Viewer)]
pub(super) struct ViewerView {
    /// Its name in the log, the first 8 digits of its request's id.
    viewer: String,
    /// `spectator` or `controller`.
    role: &'static str,
    /// Since when it is there.
    since: f64,
    /// What it is sent, where the display is served natively.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    figures: Option<FiguresView>,
}

/// What a viewer is sent. Times are usual ones: each counts for an eighth.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = ViewerFigures)]
struct FiguresView {
    /// Updates that it drew in the last second.
    fps: u64,
    /// Those that it drew in all.
    updates: u64,
    /// Bytes of updates that it was sent in the last second.
    bytes_per_second: u64,
    /// Those in all.
    bytes: u64,
    /// From an update to its being drawn, and back.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    round_trip_ms: Option<f64>,
    /// For the pixels of an update, a wait for the encoder included.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    encode_ms: Option<f64>,
    /// Bytes that it has not drawn yet, where it says what it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    in_flight_bytes: Option<usize>,
    /// How many there may be before it waits for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    window_bytes: Option<usize>,
    /// JPEG quality level, 0 to 9, of what was sent last with loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    quality: Option<u8>,
    /// How many rectangles it got, by what they were encoded as.
    #[schema(value_type = BTreeMap<String, u64>)]
    rectangles: BTreeMap<&'static str, u64>,
}

/// What looking at a display comes to, while somebody does.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = ScreenFigures)]
pub(super) struct ScreenView {
    /// New pictures in the last second.
    fps: u64,
    /// Those in all.
    frames: u64,
    /// How long it takes to look at what was drawn; each time counts for an eighth.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    capture_ms: Option<f64>,
}

impl From<ViewerRecord> for ViewerView {
    fn from(record: ViewerRecord) -> Self {
        let role = match record.access {
            Access::ViewOnly => Role::Spectator,
            Access::Full => Role::Controller,
        };
        Self {
            viewer: record.name,
            role: role.as_str(),
            since: unix_seconds(record.since),
            figures: record.figures.map(FiguresView::from),
        }
    }
}

impl From<ViewerFigures> for FiguresView {
    fn from(figures: ViewerFigures) -> Self {
        Self {
            fps: figures.updates_per_second,
            updates: figures.updates,
            bytes_per_second: figures.bytes_per_second,
            bytes: figures.bytes,
            round_trip_ms: figures.round_trip.map(ms),
            encode_ms: figures.encoding.map(ms),
            in_flight_bytes: figures.queue.map(|(in_flight, _)| in_flight),
            window_bytes: figures.queue.map(|(_, window)| window),
            quality: figures.quality,
            rectangles: figures.rectangles,
        }
    }
}

impl From<ScreenFigures> for ScreenView {
    fn from(figures: ScreenFigures) -> Self {
        Self { fps: figures.frames_per_second, frames: figures.frames, capture_ms: figures.capture.map(ms) }
    }
}

/// Milliseconds, to a microsecond.
fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
