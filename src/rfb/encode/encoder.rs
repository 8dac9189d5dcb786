//! One rectangle, from a frame to its bytes.

use bytes::Bytes;
use turbojpeg::{Image, PixelFormat as JpegFormat, Subsamp};

use super::super::client_message::Area;
use super::super::frame::{Frame, PIXEL};
use super::class::{Class, Method};
use super::hextile;
use super::palette::{Content, Palette};
use super::pixels::put_raw;
use super::tight::{self, Deflate, Error, LONGEST};
use super::zrle;

/// JPEG quality and chroma subsampling by a viewer's quality level, as TigerVNC's server has them.
const JPEG: [(i32, Subsamp); 10] = [
    (15, Subsamp::Sub2x2),
    (29, Subsamp::Sub2x2),
    (41, Subsamp::Sub2x2),
    (42, Subsamp::Sub2x1),
    (62, Subsamp::Sub2x1),
    (77, Subsamp::Sub2x1),
    (79, Subsamp::None),
    (86, Subsamp::None),
    (92, Subsamp::None),
    (100, Subsamp::None),
];
/// More colours than this are a picture, and smaller as JPEG; as TigerVNC's server has it.
const MOST_COLOURS_BESIDE_JPEG: usize = 96;
/// Pixels below which a JPEG's own head is most of it.
const SMALLEST_JPEG: usize = 256;

/// A rectangle's bytes, its header included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Which part of the screen it is.
    pub area: Area,
    /// As they go to the viewer; by way of its [`super::ZrleStream`] where they may be ZRLE.
    pub bytes: Bytes,
    /// Whether the viewer has the very pixels then.
    pub exact: bool,
}

/// Encodes; kept for its buffers and tables.
pub struct Encoder {
    palette: Palette,
    deflate: Deflate,
    jpeg: turbojpeg::Compressor,
    pixels: Vec<u8>,
    packed: Vec<u8>,
    picture: Vec<u8>,
}

impl Encoder {
    /// An encoder without a history.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new() -> Result<Self, Error> {
        Ok(Self {
            palette: Palette::default(),
            deflate: Deflate::new(),
            jpeg: turbojpeg::Compressor::new()?,
            pixels: Vec::new(),
            packed: Vec::new(),
            picture: Vec::new(),
        })
    }

    /// `area` of `frame` for viewers of `class`. The area lies in the frame, and is no wider than 2048 pixels.
    ///
    /// # Errors
    /// When a compressor fails, which takes a lack of memory; nothing is to be sent then.
    pub fn encode(&mut self, frame: &Frame, area: Area, class: Class) -> Result<Encoded, Error> {
        frame.copy(area, &mut self.pixels);
        let mut out = Vec::with_capacity(64);
        out.extend([area.x, area.y, area.width, area.height].into_iter().flat_map(u16::to_be_bytes));
        out.extend(class.method.number().to_be_bytes());
        let exact = match class.method {
            Method::Raw => {
                put_raw(class.format, &self.pixels, &mut out);
                true
            }
            Method::Hextile => {
                let Self { palette, pixels, packed, .. } = self;
                hextile::put(class.format, (pixels, area.width), palette, packed, &mut out);
                true
            }
            Method::Zrle => {
                let Self { palette, deflate, pixels, packed, .. } = self;
                deflate.set(class.compression);
                packed.clear();
                zrle::put_tiles(class.format, (pixels, area.width), palette, packed);
                zrle::put(packed, deflate, &mut out)?;
                true
            }
            Method::Tight => self.tight(area, class, &mut out)?,
        };
        // Some are kept.
        out.shrink_to_fit();
        Ok(Encoded { area, bytes: out.into(), exact })
    }

    fn tight(&mut self, area: Area, class: Class, out: &mut Vec<u8>) -> Result<bool, Error> {
        let Self { palette, deflate, pixels, packed, .. } = self;
        let quality = class.quality.filter(|_| pixels.len() / PIXEL >= SMALLEST_JPEG);
        let most = if quality.is_some() { MOST_COLOURS_BESIDE_JPEG } else { super::palette::MOST };
        deflate.set(class.compression);
        match (palette.analyse(pixels, most), quality) {
            (Content::Solid(colour), _) => tight::fill(class.format, colour, out),
            (Content::Few, _) => tight::indexed(class.format, palette, area.width, deflate, packed, out)?,
            (Content::Many, None) => tight::full_colour(class.format, pixels, deflate, packed, out)?,
            (Content::Many, Some(level)) => return self.jpeg(area, level, out).map(|()| false),
        }
        Ok(true)
    }

    fn jpeg(&mut self, area: Area, level: u8, out: &mut Vec<u8>) -> Result<(), Error> {
        let (quality, subsampling) = JPEG.get(usize::from(level)).copied().unwrap_or((100, Subsamp::None));
        let (width, height) = (usize::from(area.width), usize::from(area.height));
        self.jpeg.set_quality(quality)?;
        self.jpeg.set_subsamp(subsampling)?;
        self.picture.resize(turbojpeg::compressed_buf_len(width, height, subsampling)?, 0);
        let image = Image {
            pixels: self.pixels.as_slice(),
            width,
            pitch: width * PIXEL,
            height,
            format: JpegFormat::BGRX,
        };
        let length = self.jpeg.compress_to_slice(image, &mut self.picture)?;
        let picture = self.picture.get(..length).filter(|picture| picture.len() <= LONGEST);
        tight::jpeg(picture.ok_or(Error::Deflate(length))?, out);
        Ok(())
    }
}
