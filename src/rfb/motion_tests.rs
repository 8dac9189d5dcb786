//! What moved is told as that, and whoever follows what they are told has the picture.

use proptest::prelude::*;

use super::client_message::Area;
use super::frame::{Frame, PIXEL, Strip};
use super::history::{Lacking, Move};
use super::motion::{Motion, largest};
use super::region::pixels;

const WIDTH: u16 = 320;
const HEIGHT: u16 = 240;

fn area(x: u16, y: u16, width: u16, height: u16) -> Area {
    Area { x, y, width, height }
}

const ALL: Area = Area { x: 0, y: 0, width: WIDTH, height: HEIGHT };

/// Pixels, drawn on as an X server draws.
#[derive(Clone, PartialEq, Eq)]
struct Canvas(Vec<u32>);

impl Canvas {
    fn new() -> Self {
        Self(vec![0; usize::from(WIDTH) * usize::from(HEIGHT)])
    }

    fn at(x: u16, y: u16) -> usize {
        usize::from(y) * usize::from(WIDTH) + usize::from(x)
    }

    /// Noise in so many colours.
    fn draw(&mut self, area: Area, seed: u32, colours: u32) {
        for y in area.y..area.y + area.height {
            for x in area.x..area.x + area.width {
                let mixed =
                    (u32::from(x) ^ seed).wrapping_mul(0x85eb_ca6b) ^ u32::from(y).wrapping_mul(0xc2b2_ae35);
                self.0[Self::at(x, y)] = (mixed.wrapping_mul(0x9e37_79b1) >> 8) % colours;
            }
        }
    }

    /// As CopyRect does: as if by way of another picture.
    fn shift(&mut self, Move { to, from }: Move) {
        let before = self.0.clone();
        for y in 0..to.height {
            for x in 0..to.width {
                self.0[Self::at(to.x + x, to.y + y)] = before[Self::at(from.0 + x, from.1 + y)];
            }
        }
    }

    fn put(&mut self, frame: &Frame, area: Area) {
        let mut bytes = Vec::new();
        frame.copy(area, &mut bytes);
        for (row, line) in bytes.chunks(usize::from(area.width) * PIXEL).enumerate() {
            let at = Self::at(area.x, area.y) + row * usize::from(WIDTH);
            for (pixel, bytes) in self.0[at..].iter_mut().zip(line.chunks(PIXEL)) {
                *pixel = u32::from_le_bytes(bytes.try_into().unwrap());
            }
        }
    }

    fn follow(&mut self, frame: &Frame, Lacking { moves, areas }: Lacking) {
        moves.into_iter().for_each(|done| self.shift(done));
        areas.into_iter().for_each(|area| self.put(frame, area));
    }
}

/// A screen whose frames are followed.
struct Shown {
    motion: Motion,
    frame: Frame,
}

impl Shown {
    fn new(canvas: &Canvas) -> Self {
        let mut shown = Self { motion: Motion::default(), frame: Frame::blank(WIDTH, HEIGHT) };
        shown.show(canvas);
        shown
    }

    fn show(&mut self, canvas: &Canvas) {
        let bytes: Vec<u8> = canvas.0.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
        let strip = Strip { area: ALL, stride: usize::from(WIDTH) * PIXEL, bytes: &bytes };
        if let Some(next) = self.frame.with(&[strip]) {
            self.frame = self.motion.follow(&self.frame, next);
        }
    }
}

/// A page of text, nearly: in few colours, with blank lines.
fn page() -> Canvas {
    let mut canvas = Canvas::new();
    for line in (0..HEIGHT).step_by(16) {
        canvas.draw(area(0, line, WIDTH, 11), u32::from(line), 3);
    }
    canvas
}

fn scroll(canvas: &mut Canvas, seed: u32) {
    canvas.shift(Move { to: area(0, 0, WIDTH, HEIGHT - 16), from: (0, 16) });
    canvas.draw(area(0, HEIGHT - 16, WIDTH, 11), seed, 3);
}

#[test]
fn a_page_that_scrolls_is_moved_and_its_last_line_drawn() {
    let mut canvas = page();
    let mut shown = Shown::new(&canvas);
    let seen = shown.frame.serial();
    scroll(&mut canvas, 77);
    shown.show(&canvas);
    let lacking = shown.frame.lacking(seen);
    assert_eq!(lacking.moves, [Move { to: area(0, 0, WIDTH, HEIGHT - 16), from: (0, 16) }]);
    // The blank rows behind the last line are as they were before.
    assert_eq!(pixels(&lacking.areas), u64::from(WIDTH) * 11);
    // Somebody who has not seen what was moved is told of nothing.
    assert_eq!(shown.frame.lacking(0), Lacking { moves: vec![], areas: vec![ALL] });
}

#[test]
fn who_missed_some_frames_follows_one_move_after_the_other() {
    let mut canvas = page();
    let mut shown = Shown::new(&canvas);
    let (seen, mut view) = (shown.frame.serial(), canvas.clone());
    for seed in 0..3 {
        scroll(&mut canvas, 1000 + seed);
        shown.show(&canvas);
    }
    let lacking = shown.frame.lacking(seen);
    assert_eq!((lacking.moves.len(), pixels(&lacking.areas)), (3, u64::from(WIDTH) * 33));
    view.follow(&shown.frame, lacking);
    assert!(view == canvas);
    // Too far behind.
    for seed in 0..6 {
        scroll(&mut canvas, 2000 + seed);
        shown.show(&canvas);
    }
    assert_eq!(shown.frame.lacking(seen).moves, []);
}

#[test]
fn a_window_that_is_dragged_is_moved_in_any_direction() {
    let mut background = Canvas::new();
    background.draw(ALL, 5, 1 << 24);
    let with_window = |x, y| {
        let mut canvas = background.clone();
        // A clock in the corner.
        canvas.draw(area(300, 225, 20, 15), u32::from(x), 2);
        let mut window = Canvas::new();
        window.draw(area(0, 0, 180, 130), 9, 3);
        for row in 0..130 {
            for column in 0..180 {
                canvas.0[Canvas::at(x + column, y + row)] = window.0[Canvas::at(column, row)];
            }
        }
        canvas
    };
    let mut shown = Shown::new(&with_window(20, 30));
    let seen = shown.frame.serial();
    shown.show(&with_window(33, 23));
    let lacking = shown.frame.lacking(seen);
    assert_eq!(lacking.moves, [Move { to: area(33, 23, 180, 130), from: (20, 30) }]);
    let mut view = with_window(20, 30);
    view.follow(&shown.frame, lacking);
    assert!(view == with_window(33, 23));
}

#[test]
fn what_changes_far_from_a_window_is_not_looked_at_with_it() {
    let parts = [area(0, 0, 40, 20), area(300, 225, 20, 15), area(40, 70, 60, 60)];
    assert_eq!(largest(&parts, ALL), area(0, 0, 100, 130));
    assert_eq!(largest(&[], ALL), Area::default());
}

#[test]
fn around_what_stays_a_page_is_moved_in_several_parts() {
    let mut canvas = page();
    let notice = area(130, 90, 50, 40);
    canvas.draw(notice, 3, 1 << 24);
    let (mut shown, mut view) = (Shown::new(&canvas), canvas.clone());
    let seen = shown.frame.serial();
    scroll(&mut canvas, 77);
    canvas.draw(notice, 3, 1 << 24);
    canvas.draw(area(130, 74, 50, 16), 4, 3);
    shown.show(&canvas);
    let lacking = shown.frame.lacking(seen);
    assert!(lacking.moves.len() > 1, "{lacking:?}");
    assert!(pixels(&lacking.areas) < pixels(&[ALL]) / 4, "{lacking:?}");
    view.follow(&shown.frame, lacking);
    assert!(view == canvas);
}

#[test]
fn a_film_is_looked_at_less_often_and_a_page_after_it_is_found_again() {
    let mut canvas = page();
    let mut shown = Shown::new(&canvas);
    let mut looks = 0;
    for seed in 0..100 {
        canvas.draw(ALL, seed, 1 << 24);
        looks += u32::from(shown.motion.looks_next());
        shown.show(&canvas);
    }
    assert!(looks < 16, "{looks}");
    canvas = page();
    shown.show(&canvas);
    let found = (0..16).find(|seed| {
        let seen = shown.frame.serial();
        scroll(&mut canvas, 500 + seed);
        shown.show(&canvas);
        !shown.frame.lacking(seen).moves.is_empty()
    });
    assert!(found.is_some());
}

#[derive(Debug, Clone)]
enum Drawing {
    Noise(Area, u32, u32),
    Shift(Move),
}

fn within() -> impl Strategy<Value = Area> {
    (1..WIDTH, 1..HEIGHT).prop_flat_map(|(width, height)| {
        (0..=WIDTH - width, 0..=HEIGHT - height).prop_map(move |(x, y)| area(x, y, width, height))
    })
}

fn drawing() -> impl Strategy<Value = Drawing> {
    let noise = (within(), any::<u32>(), prop_oneof![Just(2), Just(5), Just(1 << 24)])
        .prop_map(|(area, seed, colours)| Drawing::Noise(area, seed, colours));
    let shift = within().prop_flat_map(|to| {
        (0..=WIDTH - to.width, 0..=HEIGHT - to.height).prop_map(move |from| Drawing::Shift(Move { to, from }))
    });
    let scroll = (within(), 1..20_u16).prop_map(|(area, by)| {
        let to = Area { height: area.height.saturating_sub(by).max(1), ..area };
        Drawing::Shift(Move { to, from: (to.x, (to.y + by).min(HEIGHT - to.height)) })
    });
    prop_oneof![1 => noise, 1 => shift, 3 => scroll]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whoever_follows_what_they_are_told_has_the_picture(
        steps in prop::collection::vec((prop::collection::vec(drawing(), 1..3), any::<bool>()), 1..10),
    ) {
        let mut canvas = page();
        let mut shown = Shown::new(&canvas);
        let (mut often, mut seldom) = ((canvas.clone(), shown.frame.serial()), (canvas.clone(), shown.frame.serial()));
        for (drawings, looks) in steps {
            for drawing in drawings {
                match drawing {
                    Drawing::Noise(area, seed, colours) => canvas.draw(area, seed, colours),
                    Drawing::Shift(done) => canvas.shift(done),
                }
            }
            // Every frame is looked at.
            shown.motion = Motion::default();
            shown.show(&canvas);
            for (view, seen) in std::iter::once(&mut often).chain(looks.then_some(&mut seldom)) {
                let lacking = shown.frame.lacking(*seen);
                for (at, one) in lacking.areas.iter().enumerate() {
                    let meets = |other: &Area| super::frame::intersection(*one, *other).is_some();
                    prop_assert!(!lacking.areas.iter().skip(at + 1).any(meets), "two rectangles overlap");
                }
                view.follow(&shown.frame, lacking);
                *seen = shown.frame.serial();
                prop_assert!(*view == canvas);
            }
        }
    }
}
