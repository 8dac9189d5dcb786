//! What a viewer has only a likeness of, and when it is sent the very pixels. Pure.

use std::time::{Duration, Instant};

use super::client_message::Area;
use super::frame::{TILE, intersection};

/// What has not changed for so long is sent without loss. A picture that moves at 10 frames a second or more never is.
const REST: Duration = Duration::from_millis(100);

/// Tiles that were sent with loss, and when.
#[derive(Debug, Default)]
pub struct Refresh {
    size: (u16, u16),
    tiles: Vec<Option<Instant>>,
}

impl Refresh {
    /// Nothing is owed any more: the screen has this size now, and none of it was sent.
    pub fn reset(&mut self, width: u16, height: u16) {
        self.size = (width, height);
        let count = usize::from(width.div_ceil(TILE)) * usize::from(height.div_ceil(TILE));
        self.tiles.clear();
        self.tiles.resize(count, None);
    }

    /// Notes that `area` was sent, as it is or with loss.
    pub fn sent(&mut self, area: Area, exact: bool, now: Instant) {
        let (screen, across) = (self.screen(), self.across());
        for (index, tile) in self.tiles.iter_mut().enumerate() {
            let place = place(index, across);
            let (Some(overlap), Some(whole)) = (intersection(place, area), intersection(place, screen))
            else {
                continue;
            };
            if !exact {
                *tile = Some(now);
            } else if overlap == whole {
                *tile = None;
            }
        }
    }

    /// When something is to be sent again, if anything is owed.
    pub fn due(&self) -> Option<Instant> {
        self.tiles.iter().flatten().min().map(|sent| *sent + REST)
    }

    /// What is to be sent again now: rectangles that do not overlap, of `most` pixels or a little more, those that have rested
    /// longest first. They stay owed until they are noted as sent.
    pub fn now(&self, most: usize, now: Instant) -> Vec<Area> {
        let rested = |sent: &Instant| now.saturating_duration_since(*sent) >= REST;
        let owed = self.tiles.iter().enumerate().filter_map(|(index, tile)| tile.map(|sent| (sent, index)));
        let mut owed: Vec<(Instant, usize)> = owed.filter(|(sent, _)| rested(sent)).collect();
        owed.sort_unstable();
        let count = (most / (usize::from(TILE) * usize::from(TILE))).max(1);
        let mut chosen: Vec<usize> = owed.into_iter().take(count).map(|(_, index)| index).collect();
        chosen.sort_unstable();
        let mut areas: Vec<Area> = Vec::new();
        for index in chosen {
            let Some(area) = intersection(place(index, self.across()), self.screen()) else { continue };
            match areas.last_mut() {
                Some(left) if left.y == area.y && left.x + left.width == area.x => left.width += area.width,
                _ => areas.push(area),
            }
        }
        areas
    }

    fn screen(&self) -> Area {
        Area { x: 0, y: 0, width: self.size.0, height: self.size.1 }
    }

    fn across(&self) -> usize {
        usize::from(self.size.0.div_ceil(TILE)).max(1)
    }
}

fn place(index: usize, across: usize) -> Area {
    let edge = |at: usize| u16::try_from(at).unwrap_or(u16::MAX).saturating_mul(TILE);
    Area { x: edge(index % across), y: edge(index / across), width: TILE, height: TILE }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn area(x: u16, y: u16, width: u16, height: u16) -> Area {
        Area { x, y, width, height }
    }

    fn refresh() -> (Refresh, Instant) {
        let mut refresh = Refresh::default();
        refresh.reset(200, 100);
        (refresh, Instant::now())
    }

    #[test]
    fn what_was_sent_with_loss_is_owed_once_it_has_rested() {
        let (mut refresh, start) = refresh();
        assert_eq!(refresh.due(), None);
        refresh.sent(area(0, 0, 200, 100), true, start);
        assert_eq!(refresh.due(), None);
        refresh.sent(area(60, 10, 10, 10), false, start);
        assert_eq!(refresh.due(), Some(start + REST));
        assert_eq!(refresh.now(1 << 20, start + 99 * MS), []);
        assert_eq!(refresh.now(1 << 20, start + REST), [area(0, 0, 128, 64)]);
        // It moves on: not yet.
        refresh.sent(area(60, 10, 10, 10), false, start + 50 * MS);
        assert_eq!(refresh.now(1 << 20, start + REST), []);
    }

    #[test]
    fn a_tile_is_owed_until_all_of_it_was_sent_as_it_is() {
        let (mut refresh, start) = refresh();
        refresh.sent(area(130, 70, 5, 5), false, start);
        refresh.sent(area(128, 64, 60, 36), true, start);
        assert_eq!(refresh.now(1, start + REST), [area(128, 64, 64, 36)]);
        refresh.sent(area(128, 64, 64, 36), true, start + REST);
        assert_eq!(refresh.due(), None);
    }

    #[test]
    fn only_so_much_is_sent_at_a_time_the_longest_owed_first() {
        let (mut refresh, start) = refresh();
        refresh.sent(area(0, 0, 64, 64), false, start + MS);
        refresh.sent(area(128, 0, 64, 64), false, start);
        assert_eq!(refresh.now(4096, start + 200 * MS), [area(128, 0, 64, 64)]);
        assert_eq!(refresh.now(8192, start + 200 * MS), [area(0, 0, 64, 64), area(128, 0, 64, 64)]);
    }
}
