//! Finds what only moved between one frame and the next: a page that scrolled, a window that was dragged. By content, since
//! that is all that frames have. Pure.
//!
//! A few short rows of pixels of the new picture are looked for in the old one; where several were found at the same distance,
//! all of the picture is compared at that distance, and what is equal is a move. So what is found is always true, and what it
//! costs where nothing moved is bounded: a picture in which nothing was found is looked at less often.

use std::collections::HashMap;

use memchr::memmem::Finder;

use super::client_message::Area;
use super::frame::{Frame, PIXEL, intersection};
use super::history::Move;
use super::region::{around, pixels, without};

/// Pixels below which a change is as well sent anew.
const WORTH: u64 = 16 << 10;
/// Of how many parts of what changed one has to have moved.
const WORTH_PART: usize = 4;
/// Pixels around what changed from where something may have come.
const MARGIN: u16 = 64;
/// Edge of the squares in which pictures are compared.
const CELL: u16 = 16;
/// Pixels of a row that is looked for, and how often the colour changes in it at least: what is plain is found everywhere.
const PROBE: u16 = 32;
const PROBE_BYTES: usize = PROBE as usize * PIXEL;
const BUSY: usize = 6;
/// Places where such rows are taken from: rows and columns, and how far down each looks for one that is busy.
const PROBE_ROWS: u16 = 8;
const PROBE_COLUMNS: u16 = 4;
const PROBE_DEPTH: u16 = 24;
/// Rows that have to be found at the same distance.
const VOTES: usize = 3;
/// Places at which one row is found that count: with more it is a pattern.
const MOST_FOUND: usize = 32;
/// Pixels in which rows are looked for in every direction.
const MOST_SEARCHED: usize = 1 << 20;
/// Rectangles that moves are told as.
const MOST_MOVES: usize = 4;
/// So often in a row nothing may be found, as on another page each time, before frames are not looked at: so many at the most.
const FORGIVEN: u32 = 3;
const MOST_SKIPPED: u32 = 15;

/// Columns and rows, from where pixels are to where they were.
type Distance = (isize, isize);

/// Follows the frames of a screen. Kept for its memory, and for what it has learnt.
#[derive(Debug, Default)]
pub struct Motion {
    old: Vec<u8>,
    new: Vec<u8>,
    failures: u32,
    skips: u32,
}

impl Motion {
    /// `after`, which knows then what of `before` only moved to become it.
    pub fn follow(&mut self, before: &Frame, after: Frame) -> Frame {
        let changed = after.since(before.serial());
        let moves = if pixels(&changed) >= WORTH && before.area() == after.area() {
            self.moves(before, &after, &changed)
        } else {
            Vec::new()
        };
        after.following(before, moves, changed)
    }

    /// Whether the next frame is looked at.
    pub(super) fn looks_next(&self) -> bool {
        self.skips == 0
    }

    fn moves(&mut self, before: &Frame, after: &Frame, changed: &[Area]) -> Vec<Move> {
        if !self.looks_next() {
            self.skips -= 1;
            return Vec::new();
        }
        let Self { old, new, .. } = self;
        let mut pictures = Pictures { before, after, old, new, changed: largest(changed, after.area()) };
        let distance = pictures.distance();
        let moves = distance.map(|distance| pictures.moves(distance, changed)).unwrap_or_default();
        self.failures = if moves.is_empty() { self.failures.saturating_add(1) } else { 0 };
        let doubled = 2_u32.saturating_pow(self.failures.saturating_sub(FORGIVEN));
        self.skips = doubled.saturating_sub(1).min(MOST_SKIPPED);
        moves
    }
}

/// Around those of `areas` that lie near each other and have the most pixels: a clock in a corner is none of a window's business.
pub(super) fn largest(areas: &[Area], screen: Area) -> Area {
    let mut groups: Vec<(Area, u64)> = Vec::new();
    for area in areas {
        let (mut whole, mut count) = (*area, pixels(&[*area]));
        let near = widely(*area, screen);
        groups.retain(|(group, more)| {
            let is_apart = intersection(*group, near).is_none();
            if !is_apart {
                (whole, count) = (around(whole, *group), count + more);
            }
            is_apart
        });
        groups.push((whole, count));
    }
    groups.into_iter().max_by_key(|(_, count)| *count).map(|(group, _)| group).unwrap_or_default()
}

/// `area` with a margin, as far as there is one: what came from beyond its edge is found there.
fn widely(area: Area, screen: Area) -> Area {
    let (x, y) = (area.x.saturating_sub(MARGIN), area.y.saturating_sub(MARGIN));
    let (width, height) = (area.x - x + area.width + MARGIN, area.y - y + area.height + MARGIN);
    Area { x, y, width: width.min(screen.width - x), height: height.min(screen.height - y) }
}

fn source(area: Area, (across, down): Distance) -> Option<Area> {
    let moved = |from: u16, by: isize| from.checked_add_signed(i16::try_from(by).ok()?);
    Some(Area { x: moved(area.x, across)?, y: moved(area.y, down)?, ..area })
}

/// Two frames, with memory for parts of them.
struct Pictures<'a> {
    before: &'a Frame,
    after: &'a Frame,
    old: &'a mut Vec<u8>,
    new: &'a mut Vec<u8>,
    /// Around most of what changed.
    changed: Area,
}

/// A short row of the new picture, and where it is.
struct Probe {
    x: u16,
    y: u16,
    row: Vec<u8>,
}

impl Pictures<'_> {
    /// How far most of what moved has come from, where anything did.
    fn distance(&mut self) -> Option<Distance> {
        let area = widely(self.changed, self.after.area());
        let mut probes = Vec::new();
        let mut votes = Votes::default();
        for column in 0..PROBE_COLUMNS {
            let room = self.changed.width.checked_sub(PROBE)?;
            let x = self.changed.x + share(room, 2 * column + 1, 2 * PROBE_COLUMNS);
            let strip = Area { x, width: PROBE, ..area };
            self.before.copy(strip, self.old);
            self.after.copy(strip, self.new);
            let found = self.probes(x, area.y);
            for probe in &found {
                let rows = (area.y..).zip(self.old.chunks_exact(PROBE_BYTES));
                let same = rows.filter(|(_, row)| *row == probe.row);
                votes.add(same.map(|(y, _)| (x, y)), probe);
            }
            probes.push(found);
        }
        votes.winner().or_else(|| {
            let is_small = usize::from(area.width) * usize::from(area.height) <= MOST_SEARCHED;
            if is_small { self.anywhere(area, &probes) } else { None }
        })
    }

    /// Rows of pixels of the strip in column `x` that are new where they are, and not plain.
    fn probes(&self, x: u16, top: u16) -> Vec<Probe> {
        let at = |picture: &'_ [u8], y: u16| {
            let start = usize::from(y - top) * PROBE_BYTES;
            picture.get(start..start + PROBE_BYTES).map(<[u8]>::to_vec)
        };
        let bottom = self.changed.y + self.changed.height;
        let first = |row| self.changed.y + share(self.changed.height, 2 * row + 1, 2 * PROBE_ROWS);
        let found = (0..PROBE_ROWS).filter_map(|row| {
            (first(row)..bottom.min(first(row) + PROBE_DEPTH)).find_map(|y| {
                let (old, new) = (at(self.old, y)?, at(self.new, y)?);
                (old != new && is_busy(&new)).then_some(Probe { x, y, row: new })
            })
        });
        found.collect()
    }

    /// The same for what moved to the side as well.
    fn anywhere(&mut self, area: Area, probes: &[Vec<Probe>]) -> Option<Distance> {
        self.before.copy(area, self.old);
        let width = usize::from(area.width);
        let place = |at: usize| {
            let (x, y) = (u16::try_from(at / PIXEL % width).ok()?, u16::try_from(at / PIXEL / width).ok()?);
            at.is_multiple_of(PIXEL).then_some((area.x + x, area.y + y))
        };
        let mut votes = Votes::default();
        // One after another from another column.
        let chosen = (0..PROBE_ROWS).filter_map(|row| {
            let column = probes.get(usize::from(row) % probes.len().max(1))?;
            column.get(usize::from(row))
        });
        for probe in chosen {
            votes.add(Finder::new(&probe.row).find_iter(self.old).filter_map(place), probe);
            if votes.is_decided() {
                break;
            }
        }
        votes.winner()
    }

    /// What of the new picture is the old one at `distance`, as rectangles.
    fn moves(&mut self, distance: Distance, changed: &[Area]) -> Vec<Move> {
        let Some(mut cells) = Cells::compare(self, distance) else { return Vec::new() };
        cells.count(changed);
        let all = cells.changed_in(0..cells.columns, 0..cells.rows);
        let worth = usize::try_from(WORTH).unwrap_or(usize::MAX) / (usize::from(CELL) * usize::from(CELL));
        let mut found: Vec<Move> = Vec::new();
        let mut moved = 0;
        for _ in 0..MOST_MOVES {
            let Some((block, changed)) = cells.best() else { break };
            if changed < worth {
                break;
            }
            cells.forget(&block);
            // What a neighbour has taken beyond its cells is its own.
            let mut to = vec![self.widened(cells.area_of(&block), distance)];
            for known in &found {
                to = to.into_iter().flat_map(|area| without(area, known.to)).collect();
            }
            let largest = to.into_iter().max_by_key(|area| pixels(&[*area]));
            let next =
                largest.and_then(|to| source(to, distance).map(|from| Move { to, from: (from.x, from.y) }));
            if let Some(next) = next
                && put_in_order(&mut found, next)
            {
                moved += changed;
            }
        }
        if moved * WORTH_PART < all { Vec::new() } else { found }
    }

    /// Whether the new picture has in `area` what the old one has at `distance`.
    fn is_same(&mut self, area: Area, distance: Distance) -> bool {
        let screen = self.after.area();
        let lies_inside = |area: Area| intersection(area, screen) == Some(area);
        let Some(from) = source(area, distance).filter(|from| lies_inside(area) && lies_inside(*from)) else {
            return false;
        };
        self.before.copy(from, self.old);
        self.after.copy(area, self.new);
        self.old == self.new
    }

    /// `area` and what is the same around it, less than a cell on each side.
    fn widened(&mut self, mut area: Area, distance: Distance) -> Area {
        for _ in 1..CELL {
            if area.y > 0 && self.is_same(Area { y: area.y - 1, height: 1, ..area }, distance) {
                area = Area { y: area.y - 1, height: area.height + 1, ..area };
            }
            if self.is_same(Area { y: area.y + area.height, height: 1, ..area }, distance) {
                area.height += 1;
            }
        }
        for _ in 1..CELL {
            if area.x > 0 && self.is_same(Area { x: area.x - 1, width: 1, ..area }, distance) {
                area = Area { x: area.x - 1, width: area.width + 1, ..area };
            }
            if self.is_same(Area { x: area.x + area.width, width: 1, ..area }, distance) {
                area.width += 1;
            }
        }
        area
    }
}

/// So many parts of `length` of so many.
fn share(length: u16, part: u16, of: u16) -> u16 {
    u16::try_from(u32::from(length) * u32::from(part) / u32::from(of)).unwrap_or(length)
}

fn is_busy(row: &[u8]) -> bool {
    row.chunks_exact(PIXEL).zip(row.chunks_exact(PIXEL).skip(1)).filter(|(one, next)| one != next).count()
        >= BUSY
}

/// Puts `next` where it neither spoils what another one moves nor has its own spoilt; whether there is such a place.
fn put_in_order(moves: &mut Vec<Move>, next: Move) -> bool {
    let meet = |one: Area, other: Area| intersection(one, other).is_some();
    if moves.iter().all(|known| !meet(known.to, next.source())) {
        moves.push(next);
        return true;
    }
    if moves.iter().all(|known| !meet(next.to, known.source())) {
        moves.insert(0, next);
        return true;
    }
    false
}

/// Where rows were found.
#[derive(Default)]
struct Votes(HashMap<Distance, usize>);

impl Votes {
    fn add(&mut self, found: impl Iterator<Item = (u16, u16)>, probe: &Probe) {
        let found: Vec<_> = found.take(MOST_FOUND + 1).collect();
        if found.len() > MOST_FOUND {
            return;
        }
        let distance = |from: u16, to: u16| usize::from(from).cast_signed() - usize::from(to).cast_signed();
        for (x, y) in found {
            *self.0.entry((distance(x, probe.x), distance(y, probe.y))).or_default() += 1;
        }
    }

    fn is_decided(&self) -> bool {
        self.0.iter().any(|(distance, votes)| *distance != (0, 0) && *votes >= VOTES)
    }

    fn winner(self) -> Option<Distance> {
        let most = self.0.into_iter().filter(|(distance, votes)| *distance != (0, 0) && *votes >= VOTES);
        // Of equals the nearest.
        let rank = |((across, down), votes): &(Distance, usize)| {
            (*votes, std::cmp::Reverse((across.unsigned_abs() + down.unsigned_abs(), *across, *down)))
        };
        most.max_by_key(rank).map(|(distance, _)| distance)
    }
}

/// Squares of the new picture, where the old one has something at the distance.
struct Cells {
    columns: usize,
    rows: usize,
    /// All of them.
    area: Area,
    /// Which are the old picture's at the distance.
    same: Vec<bool>,
    /// How many above and left of each corner lie in what changed.
    changed: Vec<usize>,
}

/// Columns and rows of cells.
struct Block {
    columns: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
}

impl Cells {
    fn compare(pictures: &mut Pictures<'_>, distance: Distance) -> Option<Self> {
        let screen = pictures.after.area();
        // Where the source lies on the screen.
        let reach = |size: u16, by: isize| {
            let by = i16::try_from(by).ok()?;
            let first = by.min(0).unsigned_abs();
            Some((first, size.checked_sub(first)?.checked_sub(by.max(0).unsigned_abs())?))
        };
        let ((x, width), (y, height)) = (reach(screen.width, distance.0)?, reach(screen.height, distance.1)?);
        let area = intersection(pictures.changed, Area { x, y, width, height })?;
        let (columns, rows) =
            (usize::from(area.width.div_ceil(CELL)), usize::from(area.height.div_ceil(CELL)));
        let mut same = vec![true; columns * rows];
        let Pictures { before, after, old, new, .. } = pictures;
        let stride = usize::from(area.width) * PIXEL;
        let bands = (area.y..area.y + area.height).step_by(usize::from(CELL));
        for (top, cells) in bands.zip(same.chunks_exact_mut(columns)) {
            // A band at a time, which stays in the cache.
            let band = Area { y: top, height: CELL.min(area.y + area.height - top), ..area };
            before.copy(source(band, distance)?, old);
            after.copy(band, new);
            for (old, new) in old.chunks_exact(stride).zip(new.chunks_exact(stride)) {
                if old == new {
                    continue;
                }
                let width = usize::from(CELL) * PIXEL;
                for ((old, new), is_same) in old.chunks(width).zip(new.chunks(width)).zip(cells.iter_mut()) {
                    *is_same = *is_same && old == new;
                }
            }
        }
        Some(Self { columns, rows, area, same, changed: Vec::new() })
    }

    /// Notes what changed.
    fn count(&mut self, areas: &[Area]) {
        let mut changed = vec![false; self.columns * self.rows];
        for part in areas.iter().filter_map(|area| intersection(*area, self.area)) {
            let range = |from: u16, length: u16| {
                usize::from(from / CELL)..usize::from((from + length).div_ceil(CELL))
            };
            let columns = range(part.x - self.area.x, part.width);
            for row in range(part.y - self.area.y, part.height) {
                let line = changed.iter_mut().skip(row * self.columns);
                line.take(columns.end).skip(columns.start).for_each(|changed| *changed = true);
            }
        }
        let stride = self.columns + 1;
        let mut sums = vec![0; stride * (self.rows + 1)];
        for (row, line) in changed.chunks(self.columns.max(1)).enumerate() {
            let mut sum = 0;
            for (column, is_changed) in line.iter().enumerate() {
                sum += usize::from(*is_changed);
                let above = sums.get(row * stride + column + 1).copied().unwrap_or(0);
                if let Some(place) = sums.get_mut((row + 1) * stride + column + 1) {
                    *place = above + sum;
                }
            }
        }
        self.changed = sums;
    }

    fn changed_in(&self, columns: std::ops::Range<usize>, rows: std::ops::Range<usize>) -> usize {
        let sum = |column: usize, row: usize| {
            self.changed.get(row * (self.columns + 1) + column).copied().unwrap_or(0)
        };
        sum(columns.end, rows.end) + sum(columns.start, rows.start)
            - sum(columns.start, rows.end)
            - sum(columns.end, rows.start)
    }

    /// Of all rectangles of cells that are the same at the distance, the one with the most that changed in place.
    fn best(&self) -> Option<(Block, usize)> {
        let mut best: Option<(Block, usize)> = None;
        // Of each column, how many cells down to the present row are the same.
        let mut heights = vec![0_usize; self.columns];
        for (row, line) in self.same.chunks(self.columns.max(1)).enumerate() {
            for (height, is_same) in heights.iter_mut().zip(line) {
                *height = if *is_same { *height + 1 } else { 0 };
            }
            // Columns from which rectangles reach here, each higher than the one before it.
            let mut open: Vec<(usize, usize)> = Vec::new();
            for (column, height) in heights.iter().copied().chain([0]).enumerate() {
                let mut start = column;
                while let Some((from, high)) = open.pop_if(|(_, high)| *high >= height) {
                    let block = Block { columns: from..column, rows: row + 1 - high..row + 1 };
                    let changed = self.changed_in(block.columns.clone(), block.rows.clone());
                    if changed > best.as_ref().map_or(0, |(_, most)| *most) {
                        best = Some((block, changed));
                    }
                    start = from;
                }
                if height > 0 {
                    open.push((start, height));
                }
            }
        }
        best
    }

    fn forget(&mut self, block: &Block) {
        for row in block.rows.clone() {
            let line = self.same.iter_mut().skip(row * self.columns);
            line.take(block.columns.end).skip(block.columns.start).for_each(|same| *same = false);
        }
    }

    fn area_of(&self, block: &Block) -> Area {
        let edges = |range: &std::ops::Range<usize>| {
            let edge = |at: usize| u16::try_from(at).unwrap_or(u16::MAX).saturating_mul(CELL);
            (edge(range.start), edge(range.end) - edge(range.start))
        };
        let ((x, width), (y, height)) = (edges(&block.columns), edges(&block.rows));
        let cells = Area { x: self.area.x + x, y: self.area.y + y, width, height };
        intersection(cells, self.area).unwrap_or_default()
    }
}
