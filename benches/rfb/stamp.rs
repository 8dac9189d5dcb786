//! A moment, drawn: 64 squares of black and white, 48 of them the microseconds since the bench began and 16 to know a
//! stamp by. Read by the middle of each square, so that loss at the edges does no harm.

use crate::decode::{Picture, Pixel};

/// Edge in pixels, at the top left corner of the screen.
pub(crate) const EDGE: u16 = 64;
const CELL: usize = 8;
const MOST: u64 = (1 << 48) - 1;

/// Its pixels as an X server of depth 24 takes them.
pub(crate) fn draw(microseconds: u64) -> Vec<u8> {
    let code = (microseconds & MOST) << 16 | check(microseconds & MOST);
    let edge = usize::from(EDGE);
    let white = |x: usize, y: usize| code >> (y / CELL * 8 + x / CELL) & 1 != 0;
    (0..edge * edge).flat_map(|at| if white(at % edge, at / edge) { [255; 4] } else { [0; 4] }).collect()
}

/// The moment that `picture` shows, if it shows one.
pub(crate) fn read(picture: &Picture) -> Option<u64> {
    let is_white = |cell: usize| {
        let (left, top) = (cell % 8 * CELL + 2, cell / 8 * CELL + 2);
        let middle = (0..16).map(|at| picture.at(left + at % 4, top + at / 4));
        middle.map(brightness).sum::<u32>() > 16 * 3 * 128
    };
    let code = (0..64).filter(|cell| is_white(*cell)).fold(0, |code, cell| code | 1 << cell);
    (code & 0xffff == check(code >> 16)).then_some(code >> 16)
}

/// All three parts of a pixel.
pub(crate) fn brightness(pixel: Pixel) -> u32 {
    pixel.into_iter().map(u32::from).sum()
}

/// 16 bits that follow from the others, and are seldom right by chance.
fn check(microseconds: u64) -> u64 {
    (microseconds ^ 0x5bd1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48
}
