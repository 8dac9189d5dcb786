//! What was drawn on since somebody last looked. Pure.

use x11rb_protocol::protocol::xproto::Rectangle;

use crate::rfb::client_message::Area;
use crate::rfb::frame::{TILE, intersection};
use crate::rfb::region::around;

/// A box around all that was drawn in each row of tiles: few enough to look at, and close enough not to look at much else.
#[derive(Debug, Default)]
pub(in crate::display) struct Damage {
    bands: Vec<Option<Area>>,
    screen: Option<Area>,
}

impl Damage {
    /// For a screen of that size, of which everything is to be looked at.
    pub(in crate::display) fn all(width: u16, height: u16) -> Self {
        let screen = Area { x: 0, y: 0, width, height };
        let mut damage = Self { bands: vec![None; usize::from(height.div_ceil(TILE))], screen: Some(screen) };
        damage.add(screen);
        damage
    }

    pub(in crate::display) fn is_empty(&self) -> bool {
        self.bands.iter().all(Option::is_none)
    }

    /// Notes that something was drawn there; what lies off the screen counts for nothing.
    pub(in crate::display) fn add(&mut self, area: Area) {
        let Some(area) = self.screen.and_then(|screen| intersection(screen, area)) else { return };
        let rows = (0_u16..).step_by(usize::from(TILE)).zip(&mut self.bands);
        for (top, band) in rows {
            let row = Area { x: 0, y: top, width: u16::MAX, height: TILE };
            if let Some(part) = intersection(area, row) {
                *band = Some(band.map_or(part, |known| around(known, part)));
            }
        }
    }

    /// Takes it all.
    pub(in crate::display) fn take(&mut self) -> impl Iterator<Item = Area> {
        self.bands.iter_mut().filter_map(Option::take)
    }
}

/// Negative edges lie off the screen.
pub(in crate::display) fn area_of(rectangle: Rectangle) -> Area {
    let cut = |from: i16, length: u16| {
        let off = from.min(0).unsigned_abs();
        (from.max(0).unsigned_abs(), length.saturating_sub(off))
    };
    let ((x, width), (y, height)) = (cut(rectangle.x, rectangle.width), cut(rectangle.y, rectangle.height));
    Area { x, y, width, height }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(x: u16, y: u16, width: u16, height: u16) -> Area {
        Area { x, y, width, height }
    }

    fn taken(damage: &mut Damage) -> Vec<Area> {
        damage.take().collect()
    }

    #[test]
    fn at_first_all_is_new_and_then_only_what_was_drawn_on() {
        let mut damage = Damage::all(100, 130);
        assert_eq!(taken(&mut damage), [area(0, 0, 100, 64), area(0, 64, 100, 64), area(0, 128, 100, 2)]);
        assert!(damage.is_empty());
        damage.add(area(10, 60, 5, 10));
        damage.add(area(20, 2, 1, 1));
        damage.add(area(90, 120, 50, 50));
        damage.add(area(200, 0, 5, 5));
        assert!(!damage.is_empty());
        assert_eq!(taken(&mut damage), [area(10, 2, 11, 62), area(10, 64, 90, 64), area(90, 128, 10, 2)]);
    }
}
