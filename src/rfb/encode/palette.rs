//! The colours of a rectangle.

use super::super::frame::PIXEL;
use super::pixels::colour;

/// Colours that an index of one byte can tell apart.
pub(super) const MOST: usize = 256;
/// Four times as many, so that a search ends after a step or two.
const SLOTS: usize = 1024;
const FREE: u16 = u16::MAX;

/// What a rectangle consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// One colour, `0xRRGGBB`.
    Solid(u32),
    /// So many colours as the palette has, with an index for each pixel.
    Few,
    /// More than was allowed.
    Many,
}

/// The colours that were found, in the order in which they came, and where each pixel has which.
#[derive(Debug)]
pub(super) struct Palette {
    colours: Vec<u32>,
    /// Places in `colours`, by a hash of the colour.
    slots: Box<[u16; SLOTS]>,
    indices: Vec<u8>,
}

impl Default for Palette {
    fn default() -> Self {
        Self { colours: Vec::with_capacity(MOST), slots: Box::new([FREE; SLOTS]), indices: Vec::new() }
    }
}

impl Palette {
    pub(super) fn colours(&self) -> &[u32] {
        &self.colours
    }

    /// One for each pixel, after [`Content::Few`].
    pub(super) fn indices(&self) -> &[u8] {
        &self.indices
    }

    /// Looks at the pixels of a rectangle until there are more than `most` colours, at most 256.
    pub(super) fn analyse(&mut self, pixels: &[u8], most: usize) -> Content {
        let most = most.min(MOST);
        self.colours.clear();
        self.slots.fill(FREE);
        self.indices.clear();
        self.indices.reserve(pixels.len() / PIXEL);
        // Most pixels are as the one before.
        let (mut last, mut index) = (None, 0);
        for pixel in pixels.chunks_exact(PIXEL) {
            let colour = colour(pixel);
            if last != Some(colour) {
                match self.index_of(colour, most) {
                    Some(found) => index = found,
                    None => return Content::Many,
                }
                last = Some(colour);
            }
            self.indices.push(index);
        }
        match self.colours.as_slice() {
            [colour] => Content::Solid(*colour),
            _ => Content::Few,
        }
    }

    fn index_of(&mut self, colour: u32, most: usize) -> Option<u8> {
        // Fibonacci hashing: the upper ten bits of the product are well mixed.
        let mut slot = usize::try_from(colour.wrapping_mul(0x9e37_79b1) >> 22).unwrap_or_default();
        loop {
            let place = self.slots.get_mut(slot)?;
            match self.colours.get(usize::from(*place)) {
                Some(known) if *known == colour => return u8::try_from(*place).ok(),
                Some(_other) => slot = (slot + 1) % SLOTS,
                None => {
                    let count = self.colours.len();
                    if count >= most {
                        return None;
                    }
                    *place = u16::try_from(count).ok()?;
                    self.colours.push(colour);
                    return u8::try_from(count).ok();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bgrx(colours: &[u32]) -> Vec<u8> {
        // The fourth byte means nothing.
        colours
            .iter()
            .zip((0..=255).cycle())
            .flat_map(|(colour, at)| (colour | at << 24).to_le_bytes())
            .collect()
    }

    #[test]
    fn colours_are_told_apart_by_their_three_bytes() {
        let mut palette = Palette::default();
        assert_eq!(palette.analyse(&bgrx(&[0x12_34_56; 9]), 256), Content::Solid(0x12_34_56));
        assert_eq!(palette.analyse(&bgrx(&[1, 2, 2, 1, 3]), 3), Content::Few);
        assert_eq!((palette.colours(), palette.indices()), (&[1, 2, 3][..], &[0, 1, 1, 0, 2][..]));
        assert_eq!(palette.analyse(&bgrx(&[1, 2, 2, 1, 3]), 2), Content::Many);
    }

    #[test]
    fn two_hundred_and_fifty_six_colours_have_an_index_each_and_one_more_is_too_many() {
        let mut palette = Palette::default();
        let colours: Vec<u32> = (0..257).map(|number| number * 0x01_02_03).collect();
        assert_eq!(palette.analyse(&bgrx(&colours[..256]), 256), Content::Few);
        let expected: Vec<u8> = (0..=255).collect();
        assert_eq!(palette.indices(), expected);
        assert_eq!(palette.analyse(&bgrx(&colours), 1000), Content::Many);
    }
}
