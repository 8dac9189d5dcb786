//! Who watches a session, each with the figures of what it is sent.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use crate::display::screen::CaptureFigures;
use crate::rfb::Access;
use crate::vnc::native::Figures;

/// Those who watch, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// Held to add, to remove or to look, and never across an await.
    entries: Mutex<BTreeMap<u64, Entry>>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    access: Access,
    since: SystemTime,
    figures: Option<watch::Receiver<Figures>>,
}

/// An entry; removed when dropped.
pub(super) struct Watching<'a> {
    roster: &'a Roster,
    number: u64,
}

/// One who watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewerRecord {
    /// Its name in the log: the first digits of its request's id.
    pub name: String,
    /// Whether it may act.
    pub access: Access,
    /// Since when it is there.
    pub since: SystemTime,
    /// What it is sent, where the display is served natively.
    pub figures: Option<ViewerFigures>,
}

/// What a viewer is sent, at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewerFigures {
    /// Updates that it has drawn, in all and in the last second.
    pub updates: u64,
    /// See `updates`.
    pub updates_per_second: u64,
    /// Bytes that it was sent, in all and in the last second.
    pub bytes: u64,
    /// See `bytes`.
    pub bytes_per_second: u64,
    /// From an update to its being drawn, and back.
    pub round_trip: Option<Duration>,
    /// For the pixels of an update.
    pub encoding: Option<Duration>,
    /// Bytes that are on their way, and that may be; none where it does not say what has come.
    pub queue: Option<(usize, usize)>,
    /// JPEG quality level of what was sent last with loss.
    pub quality: Option<u8>,
    /// How many rectangles it got, by what they were encoded as.
    pub rectangles: BTreeMap<&'static str, u64>,
}

/// What looking at the display comes to, at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScreenFigures {
    /// New pictures in all and in the last second, while somebody looked.
    pub frames: u64,
    /// See `frames`.
    pub frames_per_second: u64,
    /// How long a look takes.
    pub capture: Option<Duration>,
}

impl Roster {
    /// Enters one.
    pub(super) fn enter(
        &self,
        name: String,
        access: Access,
        figures: Option<watch::Receiver<Figures>>,
    ) -> Watching<'_> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let number = entries.last_key_value().map_or(0, |(last, _)| last + 1);
        entries.insert(number, Entry { name, access, since: SystemTime::now(), figures });
        Watching { roster: self, number }
    }

    pub(super) fn records(&self) -> Vec<ViewerRecord> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let record = |entry: &Entry| ViewerRecord {
            name: entry.name.clone(),
            access: entry.access,
            since: entry.since,
            figures: entry.figures.as_ref().map(|figures| ViewerFigures::of(&figures.borrow(), now)),
        };
        entries.values().map(record).collect()
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.roster.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

impl ViewerFigures {
    fn of(figures: &Figures, now: Instant) -> Self {
        Self {
            updates: figures.updates,
            updates_per_second: figures.updates_per_second(now),
            bytes: figures.bytes,
            bytes_per_second: figures.bytes_per_second(now),
            round_trip: figures.round_trip(),
            encoding: figures.encoding(),
            queue: figures.queue,
            quality: figures.quality,
            rectangles: figures.rectangles().map(|(kind, count)| (kind.as_str(), count)).collect(),
        }
    }
}

impl ScreenFigures {
    pub(super) fn of(figures: &CaptureFigures) -> Self {
        Self {
            frames: figures.frames,
            frames_per_second: figures.frames_per_second(Instant::now()),
            capture: figures.capture(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_left_is_told_of_no_more() {
        let roster = Roster::default();
        let first = roster.enter("aaaa".into(), Access::Full, None);
        let _second = roster.enter("bbbb".into(), Access::ViewOnly, None);
        drop(first);
        let _third = roster.enter("cccc".into(), Access::Full, None);
        let records = roster.records();
        let names: Vec<_> = records.iter().map(|record| (record.name.as_str(), record.access)).collect();
        assert_eq!(names, [("bbbb", Access::ViewOnly), ("cccc", Access::Full)]);
    }
}
