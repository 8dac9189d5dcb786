//! What the bench's viewer makes of rectangles: Raw, CopyRect and Tight (RFC 6143 section 7.7, rfbproto) in 32-bit true
//! colour, into pixels. None of the daemon's own code is in it.

use flate2::{Decompress, FlushDecompress};
use turbojpeg::{Decompressor, Image, PixelFormat};

use crate::Outcome;
use crate::wire::Wire;

/// Red, green, blue.
pub(crate) type Pixel = [u8; 3];

/// A rectangle of the screen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rect {
    pub(crate) x: usize,
    pub(crate) y: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

/// What a viewer sees.
pub(crate) struct Picture {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pixels: Vec<Pixel>,
}

impl Picture {
    pub(crate) fn new(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![[0; 3]; width * height] }
    }

    pub(crate) fn at(&self, x: usize, y: usize) -> Pixel {
        self.pixels.get(y * self.width + x).copied().unwrap_or_default()
    }

    pub(crate) fn contains(&self, rect: Rect) -> bool {
        rect.x + rect.width <= self.width && rect.y + rect.height <= self.height
    }

    /// The pixels of row `row` of `rect`.
    fn row(&mut self, rect: Rect, row: usize) -> &mut [Pixel] {
        let start = (rect.y + row) * self.width + rect.x;
        self.pixels.get_mut(start..start + rect.width).unwrap_or_default()
    }

    fn copy(&mut self, from: (usize, usize), rect: Rect) {
        let source = Rect { x: from.0, y: from.1, ..rect };
        let copied: Vec<Vec<Pixel>> = (0..rect.height).map(|row| self.row(source, row).to_vec()).collect();
        for (row, pixels) in copied.iter().enumerate() {
            self.row(rect, row).copy_from_slice(pixels);
        }
    }
}

/// The state of one connection's encodings.
pub(crate) struct Decoder {
    /// Walk over what has a length instead of decoding it: for viewers that are only there to be served.
    skim: bool,
    streams: [Decompress; 4],
    jpeg: Decompressor,
    data: Vec<u8>,
}

impl Decoder {
    pub(crate) fn new(skim: bool) -> Outcome<Self> {
        Ok(Self {
            skim,
            streams: std::array::from_fn(|_| Decompress::new(true)),
            jpeg: Decompressor::new()?,
            data: Vec::new(),
        })
    }

    /// One rectangle of pixels; `false` where the encoding is none of those.
    pub(crate) fn rectangle(
        &mut self,
        encoding: i32,
        rect: Rect,
        wire: &mut Wire,
        picture: &mut Picture,
    ) -> Outcome<bool> {
        if !picture.contains(rect) {
            return Err(format!("{rect:?} is not on the screen").into());
        }
        match encoding {
            0 => {
                for row in 0..rect.height {
                    let bytes = wire.take(rect.width * 4)?;
                    for (to, from) in picture.row(rect, row).iter_mut().zip(bytes.chunks_exact(4)) {
                        to.copy_from_slice(from.get(..3).unwrap_or_default());
                    }
                }
            }
            1 => {
                let from = (usize::from(wire.u16()?), usize::from(wire.u16()?));
                if !picture.contains(Rect { x: from.0, y: from.1, ..rect }) {
                    return Err("a copy from off the screen".into());
                }
                picture.copy(from, rect);
            }
            7 => self.tight(rect, wire, picture)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn tight(&mut self, rect: Rect, wire: &mut Wire, picture: &mut Picture) -> Outcome<()> {
        let control = wire.u8()?;
        for (number, stream) in self.streams.iter_mut().enumerate() {
            if control >> number & 1 != 0 {
                stream.reset(true);
            }
        }
        match control >> 4 {
            8 => {
                let colour = wire.array::<3>()?;
                (0..rect.height).for_each(|row| picture.row(rect, row).fill(colour));
                Ok(())
            }
            9 => {
                let length = compact(wire)?;
                let file = wire.take(length)?;
                if self.skim {
                    return Ok(());
                }
                self.data.resize(rect.width * rect.height * 3, 0);
                let image = Image {
                    pixels: self.data.as_mut_slice(),
                    width: rect.width,
                    pitch: rect.width * 3,
                    height: rect.height,
                    format: PixelFormat::RGB,
                };
                self.jpeg.decompress(file, image)?;
                self.put(rect, picture);
                Ok(())
            }
            kind @ 0..=7 => self.basic(kind, rect, wire, picture),
            kind => Err(format!("Tight of kind {kind}").into()),
        }
    }

    fn basic(&mut self, kind: u8, rect: Rect, wire: &mut Wire, picture: &mut Picture) -> Outcome<()> {
        let filter = if kind & 4 != 0 { wire.u8()? } else { 0 };
        let stream = usize::from(kind & 3);
        match filter {
            0 => {
                self.inflate(stream, rect.width * rect.height * 3, wire)?;
                self.put(rect, picture);
            }
            1 => {
                let count = usize::from(wire.u8()?) + 1;
                let palette: Vec<Pixel> = wire.take(count * 3)?.chunks_exact(3).map(pixel).collect();
                let stride = if count == 2 { rect.width.div_ceil(8) } else { rect.width };
                self.inflate(stream, stride * rect.height, wire)?;
                for (row, bytes) in self.data.chunks_exact(stride.max(1)).take(rect.height).enumerate() {
                    for (column, to) in picture.row(rect, row).iter_mut().enumerate() {
                        let index = if count == 2 {
                            bytes.get(column / 8).copied().unwrap_or_default() >> (7 - column % 8) & 1
                        } else {
                            bytes.get(column).copied().unwrap_or_default()
                        };
                        *to = palette.get(usize::from(index)).copied().ok_or("an index off the palette")?;
                    }
                }
            }
            // Gradient: no server sends it beside JPEG.
            filter => return Err(format!("Tight with filter {filter}").into()),
        }
        Ok(())
    }

    /// `count` bytes of basic compression, into `data`; zeroes where nothing is decoded.
    fn inflate(&mut self, stream: usize, count: usize, wire: &mut Wire) -> Outcome<()> {
        self.data.clear();
        if count < 12 {
            self.data.extend_from_slice(wire.take(count)?);
            return Ok(());
        }
        let length = compact(wire)?;
        let body = wire.take(length)?;
        self.data.resize(count, 0);
        if self.skim {
            return Ok(());
        }
        let stream = self.streams.get_mut(stream).ok_or("a stream of four")?;
        let before = stream.total_out();
        stream.decompress(body, &mut self.data, FlushDecompress::Sync)?;
        if stream.total_out() - before != u64::try_from(count)? {
            return Err("a rectangle with fewer pixels than it has".into());
        }
        Ok(())
    }

    fn put(&self, rect: Rect, picture: &mut Picture) {
        if self.skim {
            return;
        }
        for (row, bytes) in self.data.chunks_exact(rect.width * 3).take(rect.height).enumerate() {
            for (to, from) in picture.row(rect, row).iter_mut().zip(bytes.chunks_exact(3)) {
                *to = pixel(from);
            }
        }
    }
}

fn pixel(bytes: &[u8]) -> Pixel {
    match bytes {
        [red, green, blue, ..] => [*red, *green, *blue],
        _ => [0; 3],
    }
}

/// A length in one to three bytes, seven bits each and the lowest first.
fn compact(wire: &mut Wire) -> Outcome<usize> {
    let mut length = 0;
    for shift in [0, 7, 14] {
        let byte = wire.u8()?;
        let bits = if shift == 14 { byte } else { byte & 0x7f };
        length |= usize::from(bits) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    Ok(length)
}
