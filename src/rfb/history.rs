//! How the last frames came about, for viewers that can be told to move what they have (CopyRect, RFC 6143 §7.7.2).

use std::collections::VecDeque;
use std::sync::Arc;

use super::client_message::Area;
use super::frame::intersection;
use super::region::{pixels, without};

/// Frames that a viewer may be behind and still be told of moves: 130 ms of a picture that changes all the time.
const STEPS: usize = 8;
/// Beyond so many rectangles moves save nothing.
const MOST_AREAS: usize = 128;

/// Pixels that are now in another place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// Where they are now.
    pub to: Area,
    /// Column and row from which the uppermost left one came.
    pub from: (u16, u16),
}

impl Move {
    /// Where they were.
    pub fn source(self) -> Area {
        Area { x: self.from.0, y: self.from.1, ..self.to }
    }

    /// Where that of `area` is now which was in the source.
    fn carried(self, area: Area) -> Option<Area> {
        let part = intersection(area, self.source())?;
        let (x, y) = (self.to.x + (part.x - self.from.0), self.to.y + (part.y - self.from.1));
        Some(Area { x, y, ..part })
    }
}

/// What somebody lacks of a frame.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lacking {
    /// What of it they have in another place: to be moved first, in this order.
    pub moves: Vec<Move>,
    /// What of it is new: rectangles that do not overlap.
    pub areas: Vec<Area>,
}

/// From one frame to the next: with the pixels moved, in this order, all else that differs lies in `changed`.
#[derive(Debug)]
struct Step {
    before: u64,
    after: u64,
    moves: Vec<Move>,
    changed: Vec<Area>,
}

/// The newest steps, each from where the one before it led.
#[derive(Debug, Clone, Default)]
pub(super) struct History(VecDeque<Arc<Step>>);

impl History {
    /// Notes the step from the frame `before` to the frame `after`. `changed`: what differs between the two in place.
    pub(super) fn note(&mut self, (before, after): (u64, u64), moves: Vec<Move>, mut changed: Vec<Area>) {
        if self.0.back().is_some_and(|last| last.after != before) {
            self.0.clear();
        }
        for done in &moves {
            changed = changed.into_iter().flat_map(|area| without(area, done.to)).collect();
        }
        if changed.len() > MOST_AREAS {
            return self.0.clear();
        }
        if self.0.len() == STEPS {
            self.0.pop_front();
        }
        self.0.push_back(Arc::new(Step { before, after, moves, changed }));
    }

    /// How somebody who has the frame `seen` comes to the frame `now`, where moves are a part of it and save something beside
    /// `areas`, which differ in place.
    pub(super) fn shortcut(&self, seen: u64, now: u64, areas: &[Area]) -> Option<Lacking> {
        let steps = self.0.iter().skip_while(|step| step.before != seen);
        let leads_here = self.0.back().is_some_and(|last| last.after == now);
        if !leads_here || steps.clone().all(|step| step.moves.is_empty()) {
            return None;
        }
        let mut lacking = Lacking::default();
        for step in steps {
            lacking.follow(step);
            if lacking.areas.len() > MOST_AREAS {
                return None;
            }
        }
        (pixels(&lacking.areas) < pixels(areas)).then_some(lacking)
    }
}

impl Lacking {
    fn follow(&mut self, step: &Step) {
        for done in &step.moves {
            // What was not there yet is moved along as if it were.
            let carried: Vec<Area> = self.areas.iter().filter_map(|area| done.carried(*area)).collect();
            let left = self.areas.iter().flat_map(|area| without(*area, done.to));
            self.areas = left.chain(carried).collect();
            self.moves.push(*done);
        }
        for area in &step.changed {
            self.areas = self.areas.iter().flat_map(|known| without(*known, *area)).collect();
            self.areas.push(*area);
        }
    }
}
