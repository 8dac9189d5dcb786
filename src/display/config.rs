//! Settings of a display, already checked.

use std::path::PathBuf;

/// Chromium makes no narrower window, and tells pages that it is wider than the screen then.
const LEAST: (u16, u16) = (500, 300);

/// Settings of the X server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Path of Xvfb.
    pub xvfb: PathBuf,
    /// Width in pixels.
    pub width: u16,
    /// Height in pixels.
    pub height: u16,
    /// Width and height up to which viewers may resize it; `None`: not at all.
    pub max_size: Option<(u16, u16)>,
    /// Bits per pixel that carry colour: 16 or 24.
    pub depth: u8,
}

impl Config {
    /// Width and height that it begins with.
    pub fn size(&self) -> (u16, u16) {
        (self.width, self.height)
    }

    /// The bounds of its size.
    pub fn bounds(&self) -> Bounds {
        let (width, height) = self.size();
        let Some((most_width, most_height)) = self.max_size else {
            return Bounds { least: self.size(), most: self.size() };
        };
        Bounds {
            least: (width.min(LEAST.0), height.min(LEAST.1)),
            most: (width.max(most_width), height.max(most_height)),
        }
    }
}

/// Between which widths and heights a screen is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The smallest.
    pub least: (u16, u16),
    /// The largest.
    pub most: (u16, u16),
}

impl Bounds {
    /// Whether it can have but one size.
    pub fn is_fixed(self) -> bool {
        self.least == self.most
    }

    /// The size within them that is nearest to the one given.
    pub fn nearest(self, (width, height): (u16, u16)) -> (u16, u16) {
        (width.max(self.least.0).min(self.most.0), height.max(self.least.1).min(self.most.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(size: (u16, u16), max_size: Option<(u16, u16)>) -> Bounds {
        let (width, height) = size;
        Config { xvfb: "/usr/bin/Xvfb".into(), width, height, max_size, depth: 24 }.bounds()
    }

    #[test]
    fn a_screen_has_its_size_alone_unless_more_is_configured() {
        let fixed = bounds((800, 600), None);
        assert!(fixed.is_fixed());
        assert_eq!(fixed.nearest((1, 9999)), (800, 600));
        let free = bounds((800, 600), Some((1600, 900)));
        assert!(!free.is_fixed());
        assert_eq!(
            [(65535, 65535), (1, 1), (1234, 567)].map(|size| free.nearest(size)),
            [(1600, 900), (500, 300), (1234, 567)]
        );
        // A session that was asked for with a larger or smaller one has that in any case.
        assert_eq!(bounds((320, 2000), Some((1600, 900))), Bounds { least: (320, 300), most: (1600, 2000) });
    }
}
