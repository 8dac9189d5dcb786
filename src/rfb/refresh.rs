//! What a viewer has only a likeness of, and when it is sent the very pixels. Pure.

use std::time::{Duration, Instant};

use super::client_message::Area;
use super::frame::{TILE, intersection, tiles_of};
use super::history::Move;

/// What has not changed for so long is sent without loss. A picture that moves at 10 frames a second or more never is.
const REST: Duration = Duration::from_millis(100);
/// What has rested for so much longer waits no more for a picture that moves elsewhere.
const PATIENCE: Duration = Duration::from_millis(100);

/// So many pixels take as much with loss as one does without.
const WITH_LOSS: usize = 4;

/// How near to the picture it is what a viewer was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Likeness {
    /// The very pixels.
    Exact,
    /// As near as the viewer asks for.
    AsAsked,
    /// Less near, since its line carried no more.
    Poor,
}

/// What is sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Again {
    /// As near as the viewer asks for, else the very pixels.
    pub as_asked: bool,
    /// Rectangles that do not overlap.
    pub areas: Vec<Area>,
}

/// Tiles that were sent with loss, when, and how near they are.
#[derive(Debug, Default)]
pub struct Refresh {
    size: (u16, u16),
    tiles: Vec<Option<(Instant, Likeness)>>,
    /// Whether the last update was of what is owed: then it is the turn of what is new.
    had_its_turn: bool,
}

impl Refresh {
    /// Nothing is owed any more: the screen has this size now, and none of it was sent.
    pub fn reset(&mut self, width: u16, height: u16) {
        self.size = (width, height);
        let count = usize::from(width.div_ceil(TILE)) * usize::from(height.div_ceil(TILE));
        self.tiles.clear();
        self.tiles.resize(count, None);
    }

    /// Notes that `area` was sent.
    pub fn sent(&mut self, area: Area, likeness: Likeness, now: Instant) {
        let (screen, across) = (self.screen(), self.across());
        for (index, tile) in self.tiles.iter_mut().enumerate() {
            let place = place(index, across);
            let (Some(overlap), Some(whole)) = (intersection(place, area), intersection(place, screen))
            else {
                continue;
            };
            // A part that is nearer leaves the rest as it was.
            let worst = tile.filter(|_| overlap != whole).map(|(_, known)| known.max(likeness));
            match worst.unwrap_or(likeness) {
                Likeness::Exact => *tile = None,
                _ if likeness == Likeness::Exact => {}
                worst => *tile = Some((now, worst)),
            }
        }
    }

    /// Notes that pixels were moved: what was owed there is owed where they are now.
    pub fn moved(&mut self, done: &Move, now: Instant) {
        let (screen, across) = (self.screen(), self.across());
        let before = self.tiles.clone();
        for (index, tile) in self.tiles.iter_mut().enumerate() {
            let Some(whole) = intersection(place(index, across), screen) else { continue };
            let Some(part) = intersection(whole, done.to) else { continue };
            let (x, y) = (done.from.0 + (part.x - done.to.x), done.from.1 + (part.y - done.to.y));
            let source = Area { x, y, ..part };
            let owed = tiles_of(source, across).filter_map(|(from, _)| before.get(from).copied().flatten());
            let known = tile.filter(|_| part != whole).map(|(_, known)| known);
            match owed.map(|(_, likeness)| likeness).max() {
                Some(likeness) => *tile = Some((now, known.map_or(likeness, |known| known.max(likeness)))),
                None if part == whole => *tile = None,
                None => {}
            }
        }
    }

    /// When something is to be sent again, if anything is owed.
    pub fn due(&self) -> Option<Instant> {
        self.tiles.iter().flatten().map(|(sent, _)| *sent + REST).min()
    }

    /// Notes that an update is made, of what is owed or of what is new.
    pub fn turn(&mut self, is_owed: bool) {
        self.had_its_turn = is_owed;
    }

    /// What is to be sent again now: `most` pixels or a little more (of what is poor, more), what has rested longest first, but before it what is poor. They stay owed until they are noted as sent. What the viewer lacks altogether, `lacking`, is not made exact.
    /// Where that is to be sent as well, the two take turns once something has waited for long.
    pub fn now(&self, most: usize, now: Instant, lacking: &[Area]) -> Again {
        let (screen, across) = (self.screen(), self.across());
        let rests = |index: usize| {
            let whole = intersection(place(index, across), screen);
            whole.is_some_and(|whole| lacking.iter().all(|area| intersection(*area, whole).is_none()))
        };
        let rested = |sent: Instant, by: Duration| now.saturating_duration_since(sent) >= by;
        let tiles = self.tiles.iter().enumerate().filter_map(|(index, tile)| Some((index, (*tile)?)));
        let mut owed: Vec<_> =
            tiles.filter(|(index, (sent, _))| rested(*sent, REST) && rests(*index)).collect();
        let is_overdue = owed.iter().any(|(_, (sent, _))| rested(*sent, REST + PATIENCE));
        if !lacking.is_empty() && (self.had_its_turn || !is_overdue) {
            owed.clear();
        }
        let as_asked = owed.iter().any(|(_, (_, likeness))| *likeness == Likeness::Poor);
        if as_asked {
            owed.retain(|(_, (_, likeness))| *likeness == Likeness::Poor);
        }
        owed.sort_unstable_by_key(|(index, (sent, _))| (*sent, *index));
        let most = if as_asked { most.saturating_mul(WITH_LOSS) } else { most };
        let count = (most / (usize::from(TILE) * usize::from(TILE))).max(1);
        let mut chosen: Vec<usize> = owed.into_iter().take(count).map(|(index, _)| index).collect();
        chosen.sort_unstable();
        let mut areas: Vec<Area> = Vec::new();
        for index in chosen {
            let Some(area) = intersection(place(index, across), screen) else { continue };
            match areas.last_mut() {
                Some(left) if left.y == area.y && left.x + left.width == area.x => left.width += area.width,
                _ => areas.push(area),
            }
        }
        Again { as_asked, areas }
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

    /// What is sent again as it is.
    fn exact(refresh: &Refresh, most: usize, now: Instant, lacking: &[Area]) -> Vec<Area> {
        let again = refresh.now(most, now, lacking);
        assert!(!again.as_asked, "{again:?}");
        again.areas
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
        refresh.sent(area(0, 0, 200, 100), Likeness::Exact, start);
        assert_eq!(refresh.due(), None);
        refresh.sent(area(60, 10, 10, 10), Likeness::AsAsked, start);
        assert_eq!(refresh.due(), Some(start + REST));
        assert_eq!(exact(&refresh, 1 << 20, start + 99 * MS, &[]), []);
        assert_eq!(exact(&refresh, 1 << 20, start + REST, &[]), [area(0, 0, 128, 64)]);
        // It moves on: not yet.
        refresh.sent(area(60, 10, 10, 10), Likeness::AsAsked, start + 50 * MS);
        assert_eq!(exact(&refresh, 1 << 20, start + REST, &[]), []);
    }

    #[test]
    fn a_tile_is_owed_until_all_of_it_was_sent_as_it_is() {
        let (mut refresh, start) = refresh();
        refresh.sent(area(130, 70, 5, 5), Likeness::AsAsked, start);
        refresh.sent(area(128, 64, 60, 36), Likeness::Exact, start);
        assert_eq!(exact(&refresh, 1, start + REST, &[]), [area(128, 64, 64, 36)]);
        refresh.sent(area(128, 64, 64, 36), Likeness::Exact, start + REST);
        assert_eq!(refresh.due(), None);
    }

    #[test]
    fn only_so_much_is_sent_at_a_time_the_longest_owed_first() {
        let (mut refresh, start) = refresh();
        refresh.sent(area(0, 0, 64, 64), Likeness::AsAsked, start + MS);
        refresh.sent(area(128, 0, 64, 64), Likeness::AsAsked, start);
        assert_eq!(exact(&refresh, 4096, start + 200 * MS, &[]), [area(128, 0, 64, 64)]);
        assert_eq!(exact(&refresh, 8192, start + 200 * MS, &[]), [area(0, 0, 64, 64), area(128, 0, 64, 64)]);
    }

    #[test]
    fn what_is_moved_is_owed_where_it_goes() {
        let (mut refresh, start) = refresh();
        refresh.sent(area(0, 64, 64, 36), Likeness::AsAsked, start);
        // From the tile below, which stays owed, and from one that is exact.
        refresh.moved(&Move { to: area(0, 0, 128, 40), from: (0, 60) }, start + 50 * MS);
        assert_eq!(exact(&refresh, 1 << 20, start + REST, &[]), [area(0, 64, 64, 36)]);
        assert_eq!(
            exact(&refresh, 1 << 20, start + REST + 50 * MS, &[]),
            [area(0, 0, 64, 64), area(0, 64, 64, 36)]
        );
        // All of a tile from where nothing is owed.
        refresh.moved(&Move { to: area(0, 0, 64, 64), from: (64, 0) }, start + 60 * MS);
        assert_eq!(exact(&refresh, 1 << 20, start + 200 * MS, &[]), [area(0, 64, 64, 36)]);
    }

    /// A picture moves in one place and is at rest in others, as beside a viewer that has new frames taken again and again.
    /// Gives when the rest was exact, and how often what moves was sent.
    fn beside_a_moving_picture(interval: Duration) -> (Option<Duration>, u32) {
        let (mut refresh, start) = refresh();
        refresh.sent(area(0, 0, 200, 100), Likeness::AsAsked, start);
        let moving = area(70, 10, 20, 20);
        let mut pictures = 0;
        for number in 1..100 {
            let now = start + interval * number;
            let areas = exact(&refresh, 8192, now, &[moving]);
            refresh.turn(!areas.is_empty());
            if areas.is_empty() {
                pictures += 1;
                refresh.sent(moving, Likeness::AsAsked, now);
            }
            for area in areas {
                assert_eq!(intersection(area, moving), None, "what moves is not made exact");
                refresh.sent(area, Likeness::Exact, now);
            }
            if refresh.tiles.iter().flatten().count() == 1 {
                return (Some(now - start), pictures);
            }
        }
        (None, pictures)
    }

    #[test]
    fn what_rests_is_made_exact_beside_a_picture_that_moves_and_they_take_turns() {
        // Seven tiles, two at a time, every second update from 200 ms on.
        assert_eq!(beside_a_moving_picture(20 * MS), (Some(320 * MS), 12));
        // A slow line has an update every 150 ms: what moves there has not rested.
        assert_eq!(beside_a_moving_picture(150 * MS), (Some(1200 * MS), 4));
    }

    #[test]
    fn what_is_poor_is_first_sent_as_near_as_was_asked_for() {
        let (mut refresh, start) = refresh();
        refresh.sent(area(0, 0, 64, 64), Likeness::AsAsked, start);
        refresh.sent(area(64, 0, 70, 64), Likeness::Poor, start + MS);
        // A part of a poor tile that is nearer makes it none.
        refresh.sent(area(64, 0, 20, 20), Likeness::AsAsked, start + MS);
        refresh.sent(area(128, 0, 20, 20), Likeness::Exact, start + MS);
        let again = Again { as_asked: true, areas: vec![area(64, 0, 128, 64)] };
        assert_eq!(refresh.now(1 << 20, start + 101 * MS, &[]), again);
        refresh.sent(area(64, 0, 128, 64), Likeness::AsAsked, start + 110 * MS);
        assert_eq!(exact(&refresh, 1 << 20, start + 111 * MS, &[]), [area(0, 0, 64, 64)]);
        assert_eq!(exact(&refresh, 1 << 20, start + 210 * MS, &[]), [area(0, 0, 192, 64)]);
    }
}
