//! A viewer that asks for what noVNC 1.7 asks for, and answers as it does.

use std::time::{Duration, Instant};

use crate::Outcome;
use crate::decode::{Decoder, Picture, Rect};
use crate::wire::{Door, Wire};

/// Those of noVNC's list that the servers here choose from, in its order, with its default quality 6 and compression 2.
const ENCODINGS: [i32; 11] = [1, 7, 0, -26, -254, -223, -224, -308, -312, -313, VMWARE_CURSOR];
const VMWARE_CURSOR: i32 = 0x574d_5664;
const CURSOR: i32 = -239;
/// 32 bits, little-endian, bytes R, G, B and one that means nothing.
const PIXEL_FORMAT: [u8; 16] = [32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16, 0, 0, 0];
/// For the first picture.
const FIRST: Duration = Duration::from_secs(20);

/// One viewer in RFB's normal phase.
pub(crate) struct Viewer {
    wire: Wire,
    decoder: Decoder,
    pub(crate) picture: Picture,
    continuous: bool,
    /// Updates with pixels that came.
    pub(crate) updates: u64,
}

impl Viewer {
    /// Connects, and waits for the first picture.
    pub(crate) fn connect(door: &Door, skim: bool) -> Outcome<Self> {
        let mut wire = Wire::open(door)?;
        let (width, height) = shake_hands(&mut wire)?;
        let picture = Picture::new(width.into(), height.into());
        let mut viewer = Self { wire, decoder: Decoder::new(skim)?, picture, continuous: false, updates: 0 };
        let mut hello = vec![0, 0, 0, 0];
        hello.extend(PIXEL_FORMAT);
        hello.extend([2, 0]);
        hello.extend(u16::try_from(ENCODINGS.len() + 1)?.to_be_bytes());
        hello.extend(ENCODINGS.iter().chain(&[CURSOR]).flat_map(|encoding| encoding.to_be_bytes()));
        viewer.wire.send(&hello)?;
        viewer.request(false)?;
        let end = Instant::now() + FIRST;
        while viewer.updates == 0 {
            if !viewer.next(end)? && Instant::now() >= end {
                return Err("no first picture".into());
            }
        }
        Ok(viewer)
    }

    /// RFB bytes that came until now.
    pub(crate) fn received(&self) -> u64 {
        self.wire.received
    }

    /// Moves the pointer there, with button 1 or none.
    pub(crate) fn pointer(&mut self, pressed: bool, x: u16, y: u16) -> Outcome<()> {
        let ([x1, x2], [y1, y2]) = (x.to_be_bytes(), y.to_be_bytes());
        self.wire.send(&[5, u8::from(pressed), x1, x2, y1, y2])
    }

    /// Deals with the next message of the server, if one begins before `end`. Whether it brought pixels.
    pub(crate) fn next(&mut self, end: Instant) -> Outcome<bool> {
        if !self.wire.wait(end)? {
            return Ok(false);
        }
        match self.wire.u8()? {
            0 => return self.update(),
            1 => {
                let [_, _, _, high, low] = self.wire.array()?;
                self.wire.take(6 * usize::from(u16::from_be_bytes([high, low])))?;
            }
            2 => {}
            3 => {
                self.wire.take(3)?;
                let length = self.wire.i32()?.unsigned_abs();
                self.wire.take(usize::try_from(length)?)?;
            }
            150 if !self.continuous => {
                self.continuous = true;
                let mut message = vec![150, 1, 0, 0, 0, 0];
                message.extend(self.size()?);
                self.wire.send(&message)?;
            }
            150 => {}
            248 => self.fence()?,
            kind => return Err(format!("a message of type {kind}").into()),
        }
        Ok(false)
    }

    /// Deals with messages until `end`, and with each that brought pixels as `seen` says, until that is content.
    pub(crate) fn run(&mut self, end: Instant, mut seen: impl FnMut(&Picture) -> bool) -> Outcome<bool> {
        while Instant::now() < end {
            if self.next(end)? && seen(&self.picture) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn fence(&mut self) -> Outcome<()> {
        self.wire.take(3)?;
        let flags = self.wire.u32()?;
        let length = self.wire.u8()?;
        let payload = self.wire.take(length.into())?.to_vec();
        if flags & 1 << 31 == 0 {
            return Ok(());
        }
        let mut answer = vec![248, 0, 0, 0];
        // What is done here in any case: everything in order.
        answer.extend((flags & 3).to_be_bytes());
        answer.push(length);
        answer.extend(payload);
        self.wire.send(&answer)
    }

    fn update(&mut self) -> Outcome<bool> {
        self.wire.take(1)?;
        let mut has_pixels = false;
        for _rectangle in 0..self.wire.u16()? {
            let [x, y, width, height] = {
                let bytes = self.wire.array::<8>()?;
                let [a, b, c, d, e, f, g, h] = bytes;
                [[a, b], [c, d], [e, f], [g, h]].map(|pair| usize::from(u16::from_be_bytes(pair)))
            };
            let rect = Rect { x, y, width, height };
            match self.wire.i32()? {
                -224 => break,
                -223 => self.resize(rect)?,
                -308 => {
                    let count = usize::from(self.wire.u8()?);
                    self.wire.take(3 + 16 * count)?;
                    // A refusal of a request tells no size.
                    if x != 1 || y == 0 {
                        self.resize(rect)?;
                    }
                }
                CURSOR => {
                    self.wire.take(width * height * 4 + width.div_ceil(8) * height)?;
                }
                VMWARE_CURSOR => {
                    let kind = self.wire.u8()?;
                    self.wire.take(1 + width * height * if kind == 0 { 8 } else { 4 })?;
                }
                encoding => {
                    has_pixels = true;
                    if !self.decoder.rectangle(encoding, rect, &mut self.wire, &mut self.picture)? {
                        return Err(format!("a rectangle of encoding {encoding}").into());
                    }
                }
            }
        }
        self.updates += u64::from(has_pixels);
        if !self.continuous {
            self.request(true)?;
        }
        Ok(has_pixels)
    }

    fn resize(&mut self, rect: Rect) -> Outcome<()> {
        if (rect.width, rect.height) == (self.picture.width, self.picture.height) {
            return Ok(());
        }
        self.picture = Picture::new(rect.width, rect.height);
        self.request(false)
    }

    fn request(&mut self, incremental: bool) -> Outcome<()> {
        let mut message = vec![3, u8::from(incremental), 0, 0, 0, 0];
        message.extend(self.size()?);
        self.wire.send(&message)
    }

    fn size(&self) -> Outcome<[u8; 4]> {
        let ([w1, w2], [h1, h2]) = (
            u16::try_from(self.picture.width)?.to_be_bytes(),
            u16::try_from(self.picture.height)?.to_be_bytes(),
        );
        Ok([w1, w2, h1, h2])
    }
}

/// Up to ServerInit; the size of the screen.
fn shake_hands(wire: &mut Wire) -> Outcome<(u16, u16)> {
    wire.take(12)?;
    wire.send(b"RFB 003.008\n")?;
    let count = wire.u8()?;
    if count == 0 {
        let length = usize::try_from(wire.u32()?)?;
        let reason = String::from_utf8_lossy(wire.take(length)?).into_owned();
        return Err(format!("the server refused: {reason}").into());
    }
    if !wire.take(count.into())?.contains(&1) {
        return Err("the server wants a password".into());
    }
    wire.send(&[1])?;
    if wire.u32()? != 0 {
        return Err("the server refused".into());
    }
    wire.send(&[1])?;
    let size = (wire.u16()?, wire.u16()?);
    wire.take(16)?;
    let length = wire.u32()?;
    wire.take(usize::try_from(length)?)?;
    Ok(size)
}
