//! Rectangles with and without each other.

use super::client_message::Area;
use super::frame::intersection;

/// `areas` and all of `whole`, without overlaps.
pub(super) fn with(areas: Vec<Area>, whole: Option<Area>) -> Vec<Area> {
    let Some(whole) = whole else { return areas };
    let outside = areas.into_iter().flat_map(|area| without(area, whole));
    std::iter::once(whole).chain(outside).collect()
}

/// What of `area` is not in `hole`: above, below, left and right of it.
pub(super) fn without(area: Area, hole: Area) -> Vec<Area> {
    let Some(middle) = intersection(area, hole) else { return vec![area] };
    let (right, bottom) = (area.x + area.width, area.y + area.height);
    let (middle_right, middle_bottom) = (middle.x + middle.width, middle.y + middle.height);
    let parts = [
        Area { height: middle.y - area.y, ..area },
        Area { y: middle_bottom, height: bottom - middle_bottom, ..area },
        Area { y: middle.y, width: middle.x - area.x, height: middle.height, ..area },
        Area { x: middle_right, y: middle.y, width: right - middle_right, height: middle.height },
    ];
    parts.into_iter().filter(|part| part.width > 0 && part.height > 0).collect()
}

/// The smallest area with both in it; a viewer's may reach beyond any screen.
pub fn around(one: Area, other: Area) -> Area {
    let end = |from: u16, length: u16| from.saturating_add(length);
    let (x, y) = (one.x.min(other.x), one.y.min(other.y));
    let right = end(one.x, one.width).max(end(other.x, other.width));
    let bottom = end(one.y, one.height).max(end(other.y, other.height));
    Area { x, y, width: right - x, height: bottom - y }
}

/// How many pixels `areas` have, which do not overlap.
pub(super) fn pixels(areas: &[Area]) -> u64 {
    areas.iter().map(|area| u64::from(area.width) * u64::from(area.height)).sum()
}
