//! What an encoder needs to know of a viewer.

use super::super::encoding::TIGHT;
use super::super::pixel_format::PixelFormat;

/// Viewers of the same class can be sent the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Class {
    /// How it wants its pixels.
    pub format: PixelFormat,
    /// How rectangles are written.
    pub method: Method,
    /// JPEG quality level, 0 to 9, where the viewer takes JPEG at all.
    pub quality: Option<u8>,
    /// Compression level, 0 to 9.
    pub compression: u8,
}

/// How rectangles are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// As they are: what every viewer understands.
    Raw,
    /// Tight.
    Tight,
}

/// Where a viewer names none; noVNC's own default.
const COMPRESSION: u8 = 2;

impl Class {
    /// Of a viewer that asks for `encodings`, in its order of preference, with pixels in `format`.
    pub fn new(format: PixelFormat, encodings: &[i32]) -> Self {
        let method = if encodings.contains(&TIGHT) { Method::Tight } else { Method::Raw };
        let level = |base: i32| {
            let levels = encodings.iter().map(|encoding| encoding.saturating_sub(base));
            levels.filter(|level| (0..=9).contains(level)).find_map(|level| u8::try_from(level).ok())
        };
        // JPEG is for viewers that name a quality, and for pixels that have more than a map of colours.
        let quality = level(-32).filter(|_| method == Method::Tight && format.bits_per_pixel >= 16);
        Self { format, method, quality, compression: level(-256).unwrap_or(COMPRESSION) }
    }

    /// The same without loss.
    pub fn lossless(self) -> Self {
        Self { quality: None, ..self }
    }
}
