//! Which rectangles a change is sent as.

use super::super::client_message::Area;

/// Edge of a piece: large enough that a viewer has few to draw, small enough that a picture beside text does not make all
/// of it many-coloured.
const EDGE: u16 = 256;

/// One rectangle of an update. Pieces lie on a fixed grid, so that viewers with different histories need the same ones.
pub type Piece = Area;

/// `areas` in pieces, in their order. None is wider than Tight allows (2048 pixels).
pub fn pieces(areas: &[Area]) -> impl Iterator<Item = Piece> {
    areas.iter().flat_map(|area| {
        cuts(area.y, area.height).flat_map(move |(y, height)| {
            cuts(area.x, area.width).map(move |(x, width)| Area { x, y, width, height })
        })
    })
}

/// A stretch cut at the lines of the grid: beginnings and lengths.
fn cuts(from: u16, length: u16) -> impl Iterator<Item = (u16, u16)> {
    let end = from.saturating_add(length);
    let mut at = from;
    std::iter::from_fn(move || {
        let begin = at;
        at = (begin / EDGE + 1).saturating_mul(EDGE).min(end);
        (begin < end).then(|| (begin, at - begin))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_cut_at_the_lines_of_the_grid() {
        let area = |x, y, width, height| Area { x, y, width, height };
        let cut: Vec<Piece> = pieces(&[area(250, 3, 12, 5), area(0, 512, 10, 300)]).collect();
        assert_eq!(
            cut,
            [area(250, 3, 6, 5), area(256, 3, 6, 5), area(0, 512, 10, 256), area(0, 768, 10, 44)]
        );
        assert_eq!(pieces(&[area(5, 5, 0, 7)]).count(), 0);
        let edge = pieces(&[area(65_530, 0, 100, 1)]).collect::<Vec<_>>();
        assert_eq!(edge, [area(65_530, 0, 5, 1)], "no further than a coordinate goes");
    }
}
