//! The picture that viewers are sent, as tiles that are shared between one frame and the next.
//!
//! A frame never changes; the next one has new tiles where something changed and the same ones elsewhere. So whoever
//! encodes needs no lock, and a viewer needs to remember no region: the number of the frame that it has seen says which
//! tiles it lacks.

use std::sync::Arc;

use super::client_message::Area;
use super::history::{History, Lacking, Move};
use super::painted::Painted;

/// Edge of a tile, in pixels. A tile of 4-byte pixels is 16 KiB and stays in the first cache while it is looked at.
pub const TILE: u16 = 64;
/// Bytes of a pixel: blue, green, red and one that means nothing, as an X server of depth 24 on a little-endian machine
/// has them.
pub const PIXEL: usize = 4;
const TILE_STRIDE: usize = TILE as usize * PIXEL;
const TILE_BYTES: usize = TILE_STRIDE * TILE as usize;

/// A picture at one instant.
#[derive(Debug, Clone)]
pub struct Frame {
    width: u16,
    height: u16,
    serial: u64,
    is_wished: bool,
    /// Row by row.
    tiles: Vec<Tile>,
    pub(super) painted: Painted,
    history: History,
}

#[derive(Debug, Clone)]
struct Tile {
    /// `TILE` rows of `TILE` pixels; what lies outside the picture is zero.
    pixels: Arc<[u8]>,
    /// The frame that changed it last, and the one before that did.
    changed: u64,
    before: u64,
    /// What the last change reached, within the tile.
    part: Part,
}

/// Columns and rows within a tile, the last ones exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    left: u8,
    top: u8,
    right: u8,
    bottom: u8,
}

/// Rows of pixels that were read from a screen.
#[derive(Debug, Clone, Copy)]
pub struct Strip<'a> {
    /// Where they lie on the screen.
    pub area: Area,
    /// From one row to the next, in bytes.
    pub stride: usize,
    /// The rows.
    pub bytes: &'a [u8],
}

impl Strip<'_> {
    /// The pixels from column `x` of the screen's row `y` on, `width` of them.
    fn row(&self, x: u16, y: u16, width: u16) -> Option<&[u8]> {
        let line = usize::from(y.checked_sub(self.area.y)?) * self.stride;
        let start = line + usize::from(x.checked_sub(self.area.x)?) * PIXEL;
        self.bytes.get(start..start + usize::from(width) * PIXEL)
    }
}

impl Frame {
    /// A black picture, as the frame before the first.
    pub fn blank(width: u16, height: u16) -> Self {
        Self::blank_after(width, height, 0)
    }

    /// A black picture of another size, as the frame after `serial`: nobody has seen any of it.
    pub fn blank_after(width: u16, height: u16, serial: u64) -> Self {
        let black: Arc<[u8]> = vec![0; TILE_BYTES].into();
        let count = usize::from(width.div_ceil(TILE)) * usize::from(height.div_ceil(TILE));
        let tile = Tile { pixels: black, changed: serial + 1, before: 0, part: Part::WHOLE };
        let (tiles, history) = (vec![tile; count], History::default());
        Self {
            width,
            height,
            serial: serial + 1,
            is_wished: false,
            tiles,
            history,
            painted: Painted::default(),
        }
    }

    /// The same picture, of a size that a viewer wished for.
    pub fn wished(self) -> Self {
        Self { is_wished: true, ..self }
    }

    /// Whether a viewer wished for its size.
    pub fn is_wished(&self) -> bool {
        self.is_wished
    }

    /// In pixels.
    pub fn width(&self) -> u16 {
        self.width
    }

    /// In pixels.
    pub fn height(&self) -> u16 {
        self.height
    }

    /// All of it.
    pub fn area(&self) -> Area {
        Area { x: 0, y: 0, width: self.width, height: self.height }
    }

    /// Counts up with every frame.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    fn across(&self) -> usize {
        usize::from(self.width.div_ceil(TILE))
    }

    /// The frame in which this picture has `strips` in their places; `None` where it has them already. What of a strip lies
    /// outside the picture counts for nothing.
    pub fn with(&self, strips: &[Strip<'_>]) -> Option<Self> {
        let mut next: Option<Self> = None;
        for strip in strips {
            let Some(area) = intersection(strip.area, self.area()) else { continue };
            for (index, tile_area) in tiles_of(area, self.across()) {
                let Some(overlap) = intersection(area, tile_area) else { continue };
                let current = next.as_ref().unwrap_or(self);
                let Some(tile) = current.tiles.get(index) else { continue };
                let Some(part) = tile.difference(strip, overlap, tile_area) else { continue };
                let next = next.get_or_insert_with(|| Self { serial: self.serial + 1, ..self.clone() });
                let serial = next.serial;
                if let Some(tile) = next.tiles.get_mut(index) {
                    tile.take(strip, part, tile_area, serial);
                }
            }
        }
        next
    }

    /// What somebody lacks who has seen the frame `seen`; 0: has seen nothing. Few rectangles that do not overlap, row by
    /// row.
    pub fn since(&self, seen: u64) -> Vec<Area> {
        let mut areas: Vec<Area> = Vec::new();
        // Those of the row of tiles above, as places in `areas`: what lies right below one of them is joined to it.
        let mut above: Vec<usize> = Vec::new();
        for (row, tiles) in self.tiles.chunks(self.across().max(1)).enumerate() {
            let mut found: Vec<Area> = Vec::new();
            for (column, tile) in tiles.iter().enumerate().filter(|(_, tile)| tile.changed > seen) {
                let part = if tile.before <= seen { tile.part } else { Part::WHOLE };
                let Some(area) = intersection(part.on(tile_area(row, column)), self.area()) else { continue };
                match found.last_mut() {
                    Some(left) if joins_right(*left, area) => left.width += area.width,
                    _ => found.push(area),
                }
            }
            let mut these = Vec::with_capacity(found.len());
            for area in found {
                let up =
                    above.iter().copied().find(|at| areas.get(*at).is_some_and(|up| joins_below(*up, area)));
                match up.and_then(|at| areas.get_mut(at).map(|up| (at, up))) {
                    Some((at, up)) => {
                        up.height += area.height;
                        these.push(at);
                    }
                    None => {
                        these.push(areas.len());
                        areas.push(area);
                    }
                }
            }
            above = these;
        }
        areas
    }

    /// The same frame, which knows that it came about from `before` by `moves` and beyond them differs in `changed` only.
    pub(super) fn following(mut self, before: &Self, moves: Vec<Move>, changed: Vec<Area>) -> Self {
        self.history.note((before.serial, self.serial), moves, changed);
        self
    }

    /// What somebody lacks who has the frame `seen` and can move what they have.
    pub fn lacking(&self, seen: u64) -> Lacking {
        let areas = self.since(seen);
        self.history.shortcut(seen, self.serial, &areas).unwrap_or(Lacking { moves: Vec::new(), areas })
    }

    /// Names the pixels of `area`: any two frames of a screen that have the same version of it have the same pixels there.
    pub fn version(&self, area: Area) -> u64 {
        let tiles = tiles_of(area, self.across());
        let newest = tiles.filter_map(|(index, _)| self.tiles.get(index)).map(|tile| tile.changed).max();
        self.painted.version(area, newest.unwrap_or(0))
    }

    /// The same pixels in a frame of its own.
    pub(super) fn again(&self) -> Self {
        Self { serial: self.serial + 1, ..self.clone() }
    }

    /// Puts `row` over what is there, from `x`, `y` on: `blend` is given what is there and what comes over it.
    pub(super) fn blend<T>(&mut self, (x, y): (u16, u16), row: &[T], blend: impl Fn(&mut [u8], &T)) {
        let across = self.across();
        for (column, pixel) in (x..self.width).zip(row).filter(|_| y < self.height) {
            let index = usize::from(y / TILE) * across + usize::from(column / TILE);
            let at = offset(column % TILE, y % TILE);
            let tile = self.tiles.get_mut(index).map(|tile| Arc::make_mut(&mut tile.pixels));
            if let Some(below) = tile.and_then(|pixels| pixels.get_mut(at..at + PIXEL)) {
                blend(below, pixel);
            }
        }
    }

    /// Copies the pixels of `area`, row by row without gaps, over what is in `out`. What lies outside is left out.
    pub fn copy(&self, area: Area, out: &mut Vec<u8>) {
        out.clear();
        let Some(area) = intersection(area, self.area()) else { return };
        let stride = usize::from(area.width) * PIXEL;
        out.resize(stride * usize::from(area.height), 0);
        for (index, tile_area) in tiles_of(area, self.across()) {
            let (Some(tile), Some(overlap)) = (self.tiles.get(index), intersection(area, tile_area)) else {
                continue;
            };
            let length = usize::from(overlap.width) * PIXEL;
            for y in overlap.y..overlap.y + overlap.height {
                let to = usize::from(y - area.y) * stride + usize::from(overlap.x - area.x) * PIXEL;
                let from = offset(overlap.x - tile_area.x, y - tile_area.y);
                if let (Some(to), Some(from)) =
                    (out.get_mut(to..to + length), tile.pixels.get(from..from + length))
                {
                    to.copy_from_slice(from);
                }
            }
        }
    }
}

impl Tile {
    /// Where `strip` differs from this tile within `overlap` of the screen.
    fn difference(&self, strip: &Strip<'_>, overlap: Area, tile: Area) -> Option<Part> {
        let length = usize::from(overlap.width) * PIXEL;
        let mut found: Option<(usize, usize, u16, u16)> = None;
        for y in overlap.y..overlap.y + overlap.height {
            let from = offset(overlap.x - tile.x, y - tile.y);
            let (Some(old), Some(new)) =
                (self.pixels.get(from..from + length), strip.row(overlap.x, y, overlap.width))
            else {
                continue;
            };
            if old == new {
                continue;
            }
            let differs = |(old, new): (&u8, &u8)| old != new;
            let first = old.iter().zip(new).position(differs).unwrap_or(0) / PIXEL;
            let last = old.iter().zip(new).rposition(differs).unwrap_or(0) / PIXEL;
            found = Some(match found {
                None => (first, last, y, y),
                Some((left, right, top, _)) => (left.min(first), right.max(last), top, y),
            });
        }
        let (first, last, top, bottom) = found?;
        let x = usize::from(overlap.x - tile.x);
        Some(Part {
            left: small(x + first),
            right: small(x + last + 1),
            top: small(usize::from(top - tile.y)),
            bottom: small(usize::from(bottom - tile.y) + 1),
        })
    }

    fn take(&mut self, strip: &Strip<'_>, part: Part, tile: Area, serial: u64) {
        // Shared with the frame before, so that this copies it once.
        let pixels = Arc::make_mut(&mut self.pixels);
        let area = part.on(tile);
        let length = usize::from(area.width) * PIXEL;
        for y in area.y..area.y + area.height {
            let to = offset(area.x - tile.x, y - tile.y);
            if let (Some(to), Some(from)) =
                (pixels.get_mut(to..to + length), strip.row(area.x, y, area.width))
            {
                to.copy_from_slice(from);
            }
        }
        if self.changed == serial {
            self.part = self.part.joined(part);
        } else {
            (self.before, self.changed, self.part) = (self.changed, serial, part);
        }
    }
}

impl Part {
    const WHOLE: Self = Self { left: 0, top: 0, right: 64, bottom: 64 };

    fn on(self, tile: Area) -> Area {
        Area {
            x: tile.x + u16::from(self.left),
            y: tile.y + u16::from(self.top),
            width: u16::from(self.right - self.left),
            height: u16::from(self.bottom - self.top),
        }
    }

    fn joined(self, other: Self) -> Self {
        Self {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
        }
    }
}

/// Within a tile, at most 64.
fn small(value: usize) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

fn offset(x: u16, y: u16) -> usize {
    usize::from(y) * TILE_STRIDE + usize::from(x) * PIXEL
}

fn tile_area(row: usize, column: usize) -> Area {
    let edge = |index: usize| u16::try_from(index).unwrap_or(u16::MAX).saturating_mul(TILE);
    Area { x: edge(column), y: edge(row), width: TILE, height: TILE }
}

/// The tiles that `area` touches, by their place in a picture that is `across` of them wide.
pub(super) fn tiles_of(area: Area, across: usize) -> impl Iterator<Item = (usize, Area)> {
    let last = |from: u16, length: u16| usize::from(from.saturating_add(length).saturating_sub(1) / TILE);
    let columns = usize::from(area.x / TILE)..=last(area.x, area.width);
    let rows = usize::from(area.y / TILE)..=last(area.y, area.height);
    rows.flat_map(move |row| {
        columns.clone().map(move |column| (row * across + column, tile_area(row, column)))
    })
}

/// What both have, if anything.
pub fn intersection(one: Area, other: Area) -> Option<Area> {
    let end = |from: u16, length: u16| from.saturating_add(length);
    let (x, y) = (one.x.max(other.x), one.y.max(other.y));
    let right = end(one.x, one.width).min(end(other.x, other.width));
    let bottom = end(one.y, one.height).min(end(other.y, other.height));
    let (width, height) = (right.checked_sub(x)?, bottom.checked_sub(y)?);
    (width > 0 && height > 0).then_some(Area { x, y, width, height })
}

fn joins_right(left: Area, right: Area) -> bool {
    left.y == right.y && left.height == right.height && left.x + left.width == right.x
}

fn joins_below(above: Area, below: Area) -> bool {
    above.x == below.x && above.width == below.width && above.y + above.height == below.y
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn area(x: u16, y: u16, width: u16, height: u16) -> Area {
        Area { x, y, width, height }
    }

    /// The frame with a rectangle of one colour.
    fn filled(frame: &Frame, area: Area, value: u8) -> Option<Frame> {
        let stride = usize::from(area.width) * PIXEL;
        let bytes = vec![value; stride * usize::from(area.height)];
        frame.with(&[Strip { area, stride, bytes: &bytes }])
    }

    fn pixels(frame: &Frame) -> Vec<u8> {
        let mut out = Vec::new();
        frame.copy(frame.area(), &mut out);
        out
    }

    #[test]
    fn a_newcomer_lacks_all_of_it_as_one_rectangle_and_then_nothing() {
        let frame = Frame::blank(200, 130);
        assert_eq!(frame.since(0), [area(0, 0, 200, 130)]);
        assert_eq!(frame.since(frame.serial()), []);
    }

    #[test]
    fn only_what_really_differs_is_damage() {
        let first = Frame::blank(200, 130);
        let second = filled(&first, area(60, 10, 10, 5), 7).unwrap();
        assert_eq!(second.serial(), first.serial() + 1);
        // Over the seam of two tiles, as one.
        assert_eq!(second.since(first.serial()), [area(60, 10, 10, 5)]);
        assert!(filled(&second, area(60, 10, 10, 5), 7).is_none(), "nothing new");
        // A larger rectangle of which a part was there already.
        let third = filled(&second, area(60, 10, 10, 6), 7).unwrap();
        assert_eq!(third.since(second.serial()), [area(60, 15, 10, 1)]);
    }

    #[test]
    fn who_missed_a_frame_gets_the_whole_tile() {
        let first = Frame::blank(64, 64);
        let second = filled(&first, area(1, 1, 2, 2), 7).unwrap();
        let third = filled(&second, area(40, 40, 2, 2), 8).unwrap();
        assert_eq!(third.since(second.serial()), [area(40, 40, 2, 2)]);
        assert_eq!(third.since(first.serial()), [area(0, 0, 64, 64)]);
    }

    #[test]
    fn a_change_leaves_the_frame_before_as_it_was_and_shares_what_did_not_change() {
        let first = Frame::blank(128, 64);
        let before = pixels(&first);
        let second = filled(&first, area(0, 0, 1, 1), 9).unwrap();
        assert_eq!(pixels(&first), before);
        assert!(!Arc::ptr_eq(&first.tiles[0].pixels, &second.tiles[0].pixels));
        assert!(Arc::ptr_eq(&first.tiles[1].pixels, &second.tiles[1].pixels));
        assert_eq!((second.version(area(0, 0, 64, 64)), second.version(area(64, 0, 64, 64))), (2, 1));
    }

    proptest! {
        /// Whoever applies what it lacks, at whatever pace, has the picture.
        #[test]
        fn what_somebody_lacks_makes_the_picture_whole(
            (width, height) in (1u16..200, 1u16..200),
            changes in prop::collection::vec((0u16..220, 0u16..220, 1u16..120, 1u16..120, any::<u8>(), any::<bool>()), 1..24),
        ) {
            let mut frame = Frame::blank(width, height);
            let mut truth = pixels(&frame);
            let (mut seen, mut view) = (0, vec![1; truth.len()]);
            for (x, y, w, h, value, look) in changes {
                if let Some(next) = filled(&frame, area(x, y, w, h), value) {
                    frame = next;
                }
                let stride = usize::from(width) * PIXEL;
                for row in y..y.saturating_add(h).min(height) {
                    for column in x..x.saturating_add(w).min(width) {
                        let at = usize::from(row) * stride + usize::from(column) * PIXEL;
                        truth[at..at + PIXEL].fill(value);
                    }
                }
                prop_assert_eq!(&pixels(&frame), &truth);
                if !look {
                    continue;
                }
                let mut covered = vec![false; usize::from(width) * usize::from(height)];
                for lacking in frame.since(seen) {
                    let mut part = Vec::new();
                    frame.copy(lacking, &mut part);
                    for (row, line) in part.chunks(usize::from(lacking.width) * PIXEL).enumerate() {
                        let y = usize::from(lacking.y) + row;
                        let at = y * stride + usize::from(lacking.x) * PIXEL;
                        view[at..at + line.len()].copy_from_slice(line);
                        for x in lacking.x..lacking.x + lacking.width {
                            let was = std::mem::replace(&mut covered[y * usize::from(width) + usize::from(x)], true);
                            prop_assert!(!was, "two rectangles overlap");
                        }
                    }
                }
                seen = frame.serial();
                prop_assert_eq!(&view, &truth);
            }
        }
    }
}
