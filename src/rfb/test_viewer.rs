//! A viewer that judges our server's stream: written from the specifications (RFC 6143, rfbproto), it has nothing in common
//! with the encoders but the vocabulary, and takes nothing that a strict viewer would not. For tests and fuzz targets.

use std::collections::BTreeMap;

use flate2::{Decompress, FlushDecompress, Status};

use super::client_message::Area;
use super::pixel_format::PixelFormat;

/// Red, green and blue, each on the scale of the viewer's pixel format.
pub type Colour = [u16; 3];

/// Why a stream is not good; the rest of it is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Not yet: more has to come.
    Short,
    /// Wrong.
    Bad(String),
}

/// A viewer of a screen of one size, which begins to read after ServerInit.
#[derive(Debug)]
pub struct TestViewer {
    format: PixelFormat,
    /// The one that holds from the answer to a fence with this payload on.
    next_format: Option<(Vec<u8>, PixelFormat)>,
    size: (u16, u16),
    canvas: Vec<Colour>,
    pending: Vec<u8>,
    rectangles: u16,
    tight: [Option<Inflate>; 4],
    zrle: Option<Inflate>,
    /// How many rectangles of each kind came.
    pub kinds: BTreeMap<&'static str, usize>,
    /// Payloads of the fences that want an answer.
    pub fences: Vec<Vec<u8>>,
}

fn bad<T>(what: impl std::fmt::Display) -> Result<T, Fault> {
    Err(Fault::Bad(what.to_string()))
}

fn demand(holds: bool, what: &str) -> Result<(), Fault> {
    if holds { Ok(()) } else { bad(what) }
}

impl TestViewer {
    /// One that has seen nothing; its canvas is black.
    pub fn new(format: PixelFormat, size: (u16, u16)) -> Self {
        Self {
            format,
            next_format: None,
            size,
            canvas: vec![[0; 3]; usize::from(size.0) * usize::from(size.1)],
            pending: Vec::new(),
            rectangles: 0,
            tight: [None, None, None, None],
            zrle: None,
            kinds: BTreeMap::new(),
            fences: Vec::new(),
        }
    }

    /// The pixels that it asks for from now on.
    pub fn set_format(&mut self, format: PixelFormat) {
        self.format = format;
    }

    /// The pixels that it asks for behind a fence with `payload`: they hold once that is answered (rfbproto, Fence).
    pub fn set_format_behind(&mut self, payload: &[u8], format: PixelFormat) {
        self.next_format = Some((payload.to_vec(), format));
    }

    /// How pixels come now.
    pub fn format(&self) -> PixelFormat {
        self.format
    }

    /// Width and height.
    pub fn size(&self) -> (u16, u16) {
        self.size
    }

    /// Row by row.
    pub fn canvas(&self) -> &[Colour] {
        &self.canvas
    }

    /// Whether all that came was whole messages.
    pub fn is_between_messages(&self) -> bool {
        self.pending.is_empty() && self.rectangles == 0
    }

    /// Reads what the server sent next.
    ///
    /// # Errors
    /// Where it is wrong, which more bytes do not mend.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.pending.extend_from_slice(bytes);
        let pending = std::mem::take(&mut self.pending);
        let mut input = Input(&pending);
        let end = loop {
            let before = input;
            let step =
                if self.rectangles > 0 { self.rectangle(&mut input) } else { self.message(&mut input) };
            if let Err(fault) = step {
                break (fault, before);
            }
        };
        match end {
            (Fault::Short, rest) => {
                self.pending = rest.0.to_vec();
                Ok(())
            }
            (Fault::Bad(what), _) => Err(what),
        }
    }

    fn message(&mut self, input: &mut Input<'_>) -> Result<(), Fault> {
        match input.byte()? {
            0 => {
                input.take(1)?;
                self.rectangles = input.number()?;
            }
            2 | 150 => {}
            3 => {
                input.take(3)?;
                let length = i32::from_be_bytes(input.array()?).unsigned_abs();
                input.take(length.try_into().unwrap_or(usize::MAX))?;
            }
            248 => {
                input.take(3)?;
                let flags = u32::from_be_bytes(input.array()?);
                let length = input.byte()?;
                demand(length <= 64, "a fence of more than 64 bytes")?;
                let payload = input.take(length.into())?;
                if flags >> 31 == 1 {
                    self.fences.push(payload.to_vec());
                } else if let Some((_, format)) = self.next_format.take_if(|(next, _)| next == payload) {
                    self.format = format;
                }
            }
            other => return bad(format_args!("a message of type {other}")),
        }
        Ok(())
    }

    fn rectangle(&mut self, input: &mut Input<'_>) -> Result<(), Fault> {
        let [x, y, width, height] = [input.number()?, input.number()?, input.number()?, input.number()?];
        let place = Area { x, y, width, height };
        let pixel = usize::from(self.format.pixel_bytes());
        let mask = usize::from(width).div_ceil(8) * usize::from(height);
        let kind = match i32::from_be_bytes(input.array()?) {
            0 => {
                let colours = input.take(count(place) * pixel)?.chunks(pixel).map(|pixel| self.colour(pixel));
                let colours = colours.collect();
                self.paint(place, colours)?;
                "raw"
            }
            1 => {
                let from = Area { x: input.number()?, y: input.number()?, ..place };
                let colours =
                    self.on_canvas(from)?.map(|at| self.canvas.get(at).copied().unwrap_or_default());
                let colours = colours.collect();
                self.paint(place, colours)?;
                "copy"
            }
            5 => self.hextile(place, input)?,
            7 => self.tight(place, input)?,
            16 => self.zrle(place, input)?,
            -223 => self.resize(width, height),
            -224 => {
                self.rectangles = 1;
                "last"
            }
            -239 => {
                input.take(count(place) * pixel + mask)?;
                "cursor"
            }
            -314 => {
                input.take(4 + count(place) * 4)?;
                "cursor"
            }
            0x574d_5664 => {
                demand(input.array::<2>()? == [1, 0], "a cursor of another kind")?;
                input.take(count(place) * 4)?;
                "cursor"
            }
            -258 | -316 => "announcement",
            -261 => {
                input.take(1)?;
                "lights"
            }
            -307 => {
                let length = u32::from_be_bytes(input.array()?);
                input.take(length.try_into().unwrap_or(usize::MAX))?;
                "name"
            }
            -308 => {
                let [screens, ..] = input.array::<4>()?;
                input.take(usize::from(screens) * 16)?;
                if x == 1 && y != 0 { "refusal" } else { self.resize(width, height) }
            }
            other => return bad(format_args!("an encoding {other}")),
        };
        self.rectangles -= 1;
        *self.kinds.entry(kind).or_default() += 1;
        Ok(())
    }

    fn resize(&mut self, width: u16, height: u16) -> &'static str {
        if self.size != (width, height) {
            self.size = (width, height);
            self.canvas = vec![[0; 3]; usize::from(width) * usize::from(height)];
        }
        "size"
    }

    fn on_canvas(&self, place: Area) -> Result<impl Iterator<Item = usize> + use<>, Fault> {
        let (right, bottom) =
            (u32::from(place.x) + u32::from(place.width), u32::from(place.y) + u32::from(place.height));
        let fits = right <= u32::from(self.size.0) && bottom <= u32::from(self.size.1);
        demand(fits, "a rectangle outside the screen")?;
        demand(count(place) > 0, "a rectangle without pixels")?;
        let stride = usize::from(self.size.0);
        let (left, width) = (usize::from(place.x), usize::from(place.width));
        let rows = usize::from(place.y)..usize::from(place.y) + usize::from(place.height);
        Ok(rows.flat_map(move |row| (row * stride + left)..(row * stride + left + width)))
    }

    fn paint(&mut self, place: Area, colours: Vec<Colour>) -> Result<(), Fault> {
        demand(colours.len() == count(place), "pixels that do not fill their rectangle")?;
        for (at, colour) in self.on_canvas(place)?.zip(colours) {
            if let Some(pixel) = self.canvas.get_mut(at) {
                *pixel = colour;
            }
        }
        Ok(())
    }

    /// A PIXEL, or one that lacks bytes without colour.
    fn colour(&self, bytes: &[u8]) -> Colour {
        let fold = |value: u32, byte: &u8| value << 8 | u32::from(*byte);
        let value = if self.format.big_endian {
            bytes.iter().fold(0, fold)
        } else {
            bytes.iter().rev().fold(0, fold)
        };
        let part = |at: usize| {
            let (max, shift) = (self.format.max.get(at), self.format.shift.get(at));
            let shifted = value.checked_shr(shift.copied().unwrap_or(0).into()).unwrap_or(0);
            u16::try_from(shifted & u32::from(max.copied().unwrap_or(0))).unwrap_or(u16::MAX)
        };
        [part(0), part(1), part(2)]
    }

    fn hextile(&mut self, place: Area, input: &mut Input<'_>) -> Result<&'static str, Fault> {
        let pixel = usize::from(self.format.pixel_bytes());
        let (mut background, mut foreground) = (None, None);
        for tile in tiles(place, 16) {
            let mask = input.byte()?;
            demand(mask < 32, "a hextile mask with unknown bits")?;
            if mask & 1 != 0 {
                let bytes = input.take(count(tile) * pixel)?;
                let colours = bytes.chunks(pixel).map(|pixel| self.colour(pixel)).collect();
                self.paint(tile, colours)?;
                (background, foreground) = (None, None);
                continue;
            }
            if mask & 2 != 0 {
                background = Some(self.colour(input.take(pixel)?));
            }
            let Some(background) = background else { return bad("a hextile without background") };
            self.paint(tile, vec![background; count(tile)])?;
            if mask & 4 != 0 {
                demand(mask & 16 == 0, "a foreground beside colours of their own")?;
                foreground = Some(self.colour(input.take(pixel)?));
            }
            if mask & 8 == 0 {
                continue;
            }
            for _ in 0..input.byte()? {
                let colour = if mask & 16 != 0 { Some(self.colour(input.take(pixel)?)) } else { foreground };
                let Some(colour) = colour else { return bad("a subrectangle without colour") };
                let [position, size] = input.array()?;
                let part = Area {
                    x: tile.x + u16::from(position >> 4),
                    y: tile.y + u16::from(position & 15),
                    width: u16::from(size >> 4) + 1,
                    height: u16::from(size & 15) + 1,
                };
                let is_inside = part.x + part.width <= tile.x + tile.width
                    && part.y + part.height <= tile.y + tile.height;
                demand(is_inside, "a subrectangle beyond its tile")?;
                self.paint(part, vec![colour; count(part)])?;
            }
            if mask & 16 != 0 {
                foreground = None;
            }
        }
        Ok("hextile")
    }

    fn zrle(&mut self, place: Area, input: &mut Input<'_>) -> Result<&'static str, Fault> {
        let length = u32::from_be_bytes(input.array()?);
        let data = input.take(length.try_into().unwrap_or(usize::MAX))?;
        let plain = self.zrle.get_or_insert_with(Inflate::new).all(data)?;
        let mut input = Input(&plain);
        // From here on the rectangle is whole.
        let read = tiles(place, 64).try_for_each(|tile| {
            let colours = self.zrle_tile(tile, &mut input)?;
            self.paint(tile, colours)
        });
        match read {
            Err(Fault::Short) => bad("ZRLE data that end too soon"),
            Err(fault) => Err(fault),
            Ok(()) if !input.0.is_empty() => bad("ZRLE data behind the last tile"),
            Ok(()) => Ok("zrle"),
        }
    }

    fn zrle_tile(&self, tile: Area, input: &mut Input<'_>) -> Result<Vec<Colour>, Fault> {
        let (pixels, width) = (count(tile), usize::from(tile.width));
        let kind = input.byte()?;
        let size = usize::from(kind & 127);
        demand(size != 1 || kind == 1, "runs of a palette of one")?;
        let palette = (0..size).map(|_| self.compact(input)).collect::<Result<Vec<_>, _>>()?;
        let of = |index: u8| {
            palette.get(usize::from(index)).copied().ok_or_else(|| Fault::Bad("an index too high".into()))
        };
        let mut colours = Vec::with_capacity(pixels);
        match (kind & 128 != 0, size) {
            (false, 0) => return (0..pixels).map(|_| self.compact(input)).collect(),
            (false, 1) => return Ok(vec![of(0)?; pixels]),
            (false, 2..=16) => {
                let bits = [(2, 1), (4, 2), (16, 4)].into_iter().find(|(most, _)| size <= *most);
                let bits = bits.map_or(4, |(_, bits)| bits);
                for _ in 0..tile.height {
                    let row = input.take((width * bits).div_ceil(8))?;
                    for column in 0..width {
                        let byte = row.get(column * bits / 8).copied().unwrap_or_default();
                        let shift = 8 - bits - column * bits % 8;
                        colours.push(of(byte >> shift & ((1 << bits) - 1))?);
                    }
                }
            }
            (false, _) => return bad("a packed palette of more than 16"),
            (true, _) => {
                while colours.len() < pixels {
                    let (colour, is_run) = if size == 0 {
                        (self.compact(input)?, true)
                    } else {
                        let index = input.byte()?;
                        (of(index & 127)?, index & 128 != 0)
                    };
                    let length = if is_run { input.run_length()? } else { 1 };
                    demand(length <= pixels - colours.len(), "a run beyond its tile")?;
                    colours.extend(std::iter::repeat_n(colour, length));
                }
            }
        }
        Ok(colours)
    }

    /// A CPIXEL: three bytes of a pixel whose colours lie in its first or last three.
    fn compact(&self, input: &mut Input<'_>) -> Result<Colour, Fault> {
        let PixelFormat { bits_per_pixel, depth, big_endian, max, shift, .. } = self.format;
        let whole = max.into_iter().zip(shift).fold(0_u64, |all, (max, shift)| all | u64::from(max) << shift);
        // The byte that is left out, as it would stand on the wire.
        let spare = match (whole.to_be_bytes(), big_endian) {
            _ if bits_per_pixel != 32 || depth > 24 => None,
            ([.., high, _, _, 0], true) if high != 0 || whole & 0xff == 0 => Some(3),
            ([.., 0, _, _, _], true) => Some(0),
            ([.., 0, _, _, _], false) => Some(3),
            ([.., _, _, _, 0], false) => Some(0),
            _ => None,
        };
        let Some(spare) = spare else {
            return Ok(self.colour(input.take(self.format.pixel_bytes().into())?));
        };
        let mut bytes = input.take(3)?.to_vec();
        bytes.insert(spare, 0);
        Ok(self.colour(&bytes))
    }

    fn tight(&mut self, place: Area, input: &mut Input<'_>) -> Result<&'static str, Fault> {
        demand(place.width <= 2048, "Tight wider than 2048")?;
        let control = input.byte()?;
        let pixels = count(place);
        let packed =
            self.format.bits_per_pixel == 32 && self.format.depth == 24 && self.format.max == [255; 3];
        let pixel = if packed { 3 } else { usize::from(self.format.pixel_bytes()) };
        let colour = |viewer: &Self, bytes: &[u8]| match bytes {
            [red, green, blue] if packed => [*red, *green, *blue].map(u16::from),
            _ => viewer.colour(bytes),
        };
        match control >> 4 {
            8 => {
                self.reset(control);
                let fill = colour(self, input.take(pixel)?);
                self.paint(place, vec![fill; pixels])?;
                Ok("fill")
            }
            9 => {
                demand(self.format.bits_per_pixel >= 16, "a JPEG for 8-bit pixels")?;
                let length = input.compact_length()?;
                let colours = self.jpeg(place, input.take(length)?)?;
                self.reset(control);
                self.paint(place, colours)?;
                Ok("jpeg")
            }
            kind @ 0..=7 => {
                let mut palette = Vec::new();
                if kind & 4 != 0 {
                    match input.byte()? {
                        0 => {}
                        1 => {
                            let size = usize::from(input.byte()?) + 1;
                            demand(size > 1, "a palette of one")?;
                            palette = input
                                .take(size * pixel)?
                                .chunks(pixel)
                                .map(|bytes| colour(self, bytes))
                                .collect();
                        }
                        other => return bad(format_args!("a filter {other}")),
                    }
                }
                let (name, size) = match palette.len() {
                    0 => ("full", pixels * pixel),
                    2 => ("mono", usize::from(place.width).div_ceil(8) * usize::from(place.height)),
                    _ => ("indexed", pixels),
                };
                let length = if size < 12 { size } else { input.compact_length()? };
                let data = input.take(length)?;
                self.reset(control);
                let plain = match self.tight.get_mut(usize::from(kind & 3)) {
                    Some(stream) if size >= 12 => {
                        stream.get_or_insert_with(Inflate::new).exactly(data, size)?
                    }
                    _ => data.to_vec(),
                };
                let of = |index: u8| palette.get(usize::from(index)).copied();
                let colours: Option<Vec<Colour>> = match name {
                    "full" => Some(plain.chunks(pixel).map(|bytes| colour(self, bytes)).collect()),
                    "mono" => plain
                        .chunks(usize::from(place.width).div_ceil(8))
                        .flat_map(|row| {
                            (0..usize::from(place.width)).map(|at| of(row.get(at / 8)? >> (7 - at % 8) & 1))
                        })
                        .collect(),
                    _ => plain.into_iter().map(of).collect(),
                };
                let Some(colours) = colours else { return bad("an index too high") };
                self.paint(place, colours)?;
                Ok(name)
            }
            other => bad(format_args!("a Tight rectangle of kind {other}")),
        }
    }

    fn reset(&mut self, control: u8) {
        for (number, stream) in self.tight.iter_mut().enumerate() {
            if control >> number & 1 == 1 {
                *stream = None;
            }
        }
    }

    fn jpeg(&self, place: Area, data: &[u8]) -> Result<Vec<Colour>, Fault> {
        let image = match turbojpeg::decompress(data, turbojpeg::PixelFormat::RGB) {
            Ok(image) => image,
            Err(error) => return bad(format_args!("a JPEG that cannot be read: {error}")),
        };
        let is_right = (image.width, image.height) == (place.width.into(), place.height.into());
        demand(is_right, "a JPEG of another size than its rectangle")?;
        let rows = image.pixels.chunks(image.pitch).map(|row| row.get(..image.width * 3).unwrap_or(row));
        let scaled =
            |(part, max): (&u8, u16)| u16::try_from(u32::from(*part) * u32::from(max) / 255).unwrap_or(max);
        Ok(rows
            .flat_map(|row| row.chunks_exact(3))
            .map(|pixel| {
                let mut parts = pixel.iter().zip(self.format.max).map(scaled);
                [0; 3].map(|_: u16| parts.next().unwrap_or_default())
            })
            .collect())
    }
}

fn count(area: Area) -> usize {
    usize::from(area.width) * usize::from(area.height)
}

/// The tiles of a rectangle, row by row.
fn tiles(place: Area, edge: u16) -> impl Iterator<Item = Area> {
    let starts = move |length: u16| (0..length).step_by(edge.into());
    starts(place.height).flat_map(move |y| {
        starts(place.width).map(move |x| Area {
            x: place.x.saturating_add(x),
            y: place.y.saturating_add(y),
            width: edge.min(place.width - x),
            height: edge.min(place.height - y),
        })
    })
}

#[derive(Debug, Clone, Copy)]
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Fault::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Fault::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        self.array().map(|[byte]| byte)
    }

    fn number(&mut self) -> Result<u16, Fault> {
        self.array().map(u16::from_be_bytes)
    }

    /// Of ZRLE: one and the sum of bytes, of which the last is not 255.
    fn run_length(&mut self) -> Result<usize, Fault> {
        let mut length = 1;
        loop {
            let byte = self.byte()?;
            length += usize::from(byte);
            if byte != 255 {
                return Ok(length);
            }
        }
    }

    fn compact_length(&mut self) -> Result<usize, Fault> {
        let mut length = 0;
        for shift in [0, 7, 14] {
            let byte = usize::from(self.byte()?);
            let is_last = shift == 14 || byte < 128;
            length |= if shift == 14 { byte << shift } else { (byte & 127) << shift };
            if is_last {
                break;
            }
        }
        Ok(length)
    }
}

#[derive(Debug)]
struct Inflate(Decompress);

impl Inflate {
    fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// All that `data` hold, which do not end the stream.
    fn all(&mut self, data: &[u8]) -> Result<Vec<u8>, Fault> {
        let (before, mut out) = (self.0.total_in(), Vec::with_capacity(data.len() * 4 + 64));
        loop {
            let used = usize::try_from(self.0.total_in() - before).unwrap_or(usize::MAX);
            let rest = data.get(used..).unwrap_or_default();
            let had = out.len();
            match self.0.decompress_vec(rest, &mut out, FlushDecompress::Sync) {
                Ok(Status::Ok | Status::BufError) if out.len() == out.capacity() => out.reserve(had + 64),
                Ok(Status::Ok | Status::BufError) if self.0.total_in() - before == data.len() as u64 => {
                    return Ok(out);
                }
                Ok(Status::Ok) => {}
                Ok(Status::BufError) => return bad("compressed data that end too soon"),
                Ok(Status::StreamEnd) => return bad("a stream that ends"),
                Err(error) => return bad(format_args!("compressed data: {error}")),
            }
        }
    }

    fn exactly(&mut self, data: &[u8], size: usize) -> Result<Vec<u8>, Fault> {
        let plain = self.all(data)?;
        demand(plain.len() == size, "compressed data of another length")?;
        Ok(plain)
    }
}
