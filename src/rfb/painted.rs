//! The pointer as a part of the picture, for viewers that do not see it otherwise.

use std::sync::{Arc, OnceLock};

use super::client_message::Area;
use super::cursor::Cursor;
use super::frame::{Frame, intersection};

/// In the version of pixels that have the pointer on them; no frame has a number so large.
const PAINTED: u64 = 1 << 63;

/// Where the pointer is, and what it looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    /// The pixel that it points at.
    pub at: (u16, u16),
    /// Its image.
    pub image: Arc<Cursor>,
    /// Who moved it there, by a number of the display's; nobody, or no viewer.
    pub mover: Option<u64>,
}

/// Which pixels of a picture the pointer is painted on: where, and by which frame it came to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overlay {
    pub(super) area: Area,
    serial: u64,
}

/// What a frame knows of the pointer.
#[derive(Debug, Clone, Default)]
pub(super) struct Painted {
    pointer: Option<Pointer>,
    /// The frame that told of it.
    serial: u64,
    /// Only in a picture that has it.
    overlay: Option<Overlay>,
    picture: Picture,
}

/// The picture with the pointer, once somebody needs it: made once for all of them. Another frame has another one.
#[derive(Debug, Default)]
struct Picture(OnceLock<Arc<Frame>>);

impl Clone for Picture {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Painted {
    /// The version of `area` whose newest change is of the frame `newest`. With the pointer on it, it is newer where the pointer
    /// is, and never the same as without.
    pub(super) fn version(&self, area: Area, newest: u64) -> u64 {
        match self.overlay.filter(|overlay| intersection(overlay.area, area).is_some()) {
            Some(overlay) => newest.max(overlay.serial) | PAINTED,
            None => newest,
        }
    }
}

impl Frame {
    /// The pointer, where it was ever told.
    pub fn pointer(&self) -> Option<&Pointer> {
        self.painted.pointer.as_ref()
    }

    /// Who moved it last, where that was a viewer.
    pub fn mover(&self) -> Option<u64> {
        self.pointer().and_then(|pointer| pointer.mover)
    }

    /// The next frame, with the same pixels, which tells of another pointer.
    pub fn with_pointer(&self, pointer: Pointer) -> Self {
        let mut next = self.again();
        let serial = next.serial();
        // Whoever has it painted has it still where only another one moved it there.
        let is_same =
            self.pointer().is_some_and(|known| (known.at, &known.image) == (pointer.at, &pointer.image));
        let serial = if is_same { self.painted.serial } else { serial };
        next.painted = Painted { pointer: Some(pointer), serial, ..Painted::default() };
        // Whoever comes to it can be told of moves all the same.
        next.following(self, Vec::new(), Vec::new())
    }

    /// This picture with the pointer in it.
    pub fn painted(&self) -> Arc<Self> {
        Arc::clone(self.painted.picture.0.get_or_init(|| Arc::new(self.paint())))
    }

    /// What of this picture is the pointer.
    pub(super) fn overlay(&self) -> Option<Overlay> {
        self.painted.overlay
    }

    fn paint(&self) -> Self {
        let mut picture = self.clone();
        let Painted { pointer: Some(pointer), serial, .. } = &self.painted else { return picture };
        let Pointer { at, image, .. } = pointer;
        // Of an image that hangs over the left or upper edge, the rest.
        let cut = |at: u16, hot: u16| (at.saturating_sub(hot), hot.saturating_sub(at));
        let ((x, left), (y, top)) = (cut(at.0, image.hotspot.0), cut(at.1, image.hotspot.1));
        let (width, height) = (image.width.saturating_sub(left), image.height.saturating_sub(top));
        let area = intersection(Area { x, y, width, height }, self.area());
        picture.painted.overlay = area.map(|area| Overlay { area, serial: *serial });
        let rows = image.premultiplied.chunks(usize::from(image.width).max(1)).skip(usize::from(top));
        for (y, row) in (y..).zip(rows) {
            picture.blend((x, y), row.get(usize::from(left)..).unwrap_or_default(), over);
        }
        picture
    }
}

/// A pixel whose colours are multiplied with its alpha, over one of a frame.
fn over(below: &mut [u8], [red, green, blue, alpha]: &[u8; 4]) {
    for (below, colour) in below.iter_mut().zip([blue, green, red]) {
        let rest = u16::from(*below) * (255 - u16::from(*alpha));
        *below = u8::try_from(u16::from(*colour) + (rest + 127) / 255).unwrap_or(u8::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{PIXEL, Strip};
    use super::*;

    fn pointer(x: u16, y: u16) -> Pointer {
        // Half red, and solid blue; it points with the second pixel.
        let premultiplied = vec![[0x80, 0, 0, 0x80], [0, 0, 255, 255]];
        let image = Arc::new(Cursor { width: 2, height: 1, hotspot: (1, 0), premultiplied });
        Pointer { at: (x, y), image, mover: Some(7) }
    }

    fn pixels(frame: &Frame, x: u16, y: u16, width: u16) -> Vec<[u8; 3]> {
        let mut out = Vec::new();
        frame.copy(Area { x, y, width, height: 1 }, &mut out);
        out.chunks(4).map(|pixel| [pixel[2], pixel[1], pixel[0]]).collect()
    }

    fn white(frame: &Frame, area: Area) -> Frame {
        let bytes = vec![255; usize::from(area.width) * usize::from(area.height) * PIXEL];
        frame.with(&[Strip { area, stride: usize::from(area.width) * PIXEL, bytes: &bytes }]).unwrap()
    }

    #[test]
    fn the_pointer_lies_over_the_picture_and_the_picture_without_it_stays() {
        let frame = Frame::blank(200, 100);
        let frame = white(&frame, frame.area()).with_pointer(pointer(64, 9));
        let painted = frame.painted();
        assert_eq!(pixels(&painted, 62, 9, 4), [[255; 3], [255, 127, 127], [0, 0, 255], [255; 3]]);
        assert_eq!(pixels(&frame, 62, 9, 4), [[255; 3]; 4]);
        assert_eq!(painted.overlay().unwrap().area, Area { x: 63, y: 9, width: 2, height: 1 });
        assert!(Arc::ptr_eq(&painted, &frame.painted()), "made once");
        assert_eq!((painted.serial(), frame.mover(), painted.since(frame.serial())), (3, Some(7), vec![]));
    }

    #[test]
    fn what_hangs_over_an_edge_is_cut_off() {
        let frame = Frame::blank(200, 100);
        let at = |x, y| frame.with_pointer(pointer(x, y)).painted();
        assert_eq!(pixels(&at(0, 0), 0, 0, 2), [[0, 0, 255], [0; 3]]);
        assert_eq!(pixels(&at(200, 99), 198, 99, 2), [[0; 3], [0x80, 0, 0]]);
        assert_eq!(at(200, 99).overlay().unwrap().area, Area { x: 199, y: 99, width: 1, height: 1 });
        assert_eq!(at(5000, 5000).overlay(), None);
        assert_eq!(Frame::blank(200, 100).painted().overlay(), None);
    }

    #[test]
    fn a_version_names_the_pixels_with_and_without_the_pointer() {
        let (whole, far) =
            (Area { x: 0, y: 0, width: 128, height: 64 }, Area { x: 128, y: 0, width: 72, height: 64 });
        let first = Frame::blank(200, 100).with_pointer(pointer(10, 10));
        let moved = first.with_pointer(pointer(20, 10));
        let drawn = white(&moved, Area { x: 100, y: 0, width: 1, height: 1 });
        let taken_over = drawn.with_pointer(Pointer { mover: None, ..pointer(20, 10) });
        let frames = [&first, &moved, &drawn, &taken_over];
        let versions = frames.map(|frame| (frame.version(whole), frame.painted().version(whole)));
        assert_eq!(versions[0].0, versions[1].0, "nothing was drawn");
        assert_ne!(versions[0].1, versions[1].1, "it moved");
        assert_ne!((versions[1].0, versions[1].1), (versions[2].0, versions[2].1));
        assert_eq!(versions[2], versions[3], "another one has it at the same place");
        let all = versions.iter().flat_map(|(plain, painted)| [*plain, *painted]);
        assert_eq!(all.collect::<std::collections::BTreeSet<_>>().len(), 5);
        for frame in frames {
            assert_eq!(frame.version(far), frame.painted().version(far), "shared where the pointer is not");
        }
    }
}
