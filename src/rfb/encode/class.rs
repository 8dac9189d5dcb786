//! What an encoder needs to know of a viewer.

use super::super::encoding::{HEXTILE, RAW, TIGHT, ZRLE};
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
    /// Hextile.
    Hextile,
    /// ZRLE.
    Zrle,
    /// Tight.
    Tight,
}

impl Method {
    const ALL: [Self; 4] = [Self::Raw, Self::Hextile, Self::Zrle, Self::Tight];

    /// As encodings are numbered (RFC 6143 §7.7).
    pub(super) fn number(self) -> i32 {
        match self {
            Self::Raw => RAW,
            Self::Hextile => HEXTILE,
            Self::Zrle => ZRLE,
            Self::Tight => TIGHT,
        }
    }

    /// The first of ours that a viewer lists: it names them in its order of preference.
    fn preferred(encodings: &[i32]) -> Self {
        let ours = |number: &i32| Self::ALL.into_iter().find(|method| method.number() == *number);
        encodings.iter().find_map(ours).unwrap_or(Self::Raw)
    }
}

/// Where a viewer names none; noVNC's own default.
const COMPRESSION: u8 = 2;

impl Class {
    /// Of a viewer that asks for `encodings`, in its order of preference, with pixels in `format`.
    pub fn new(format: PixelFormat, encodings: &[i32]) -> Self {
        let method = Method::preferred(encodings);
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
