//! The RFB server behind both bridges: RFC 6143 with security None and nothing but Raw. It answers a full request with as
//! many updates of that rectangle as it was told to, and an incremental one never: its picture does not change.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::Outcome;

/// The framebuffer, in pixels.
pub(crate) const WIDTH: u16 = 1920;
pub(crate) const HEIGHT: u16 = 1080;
/// Connections served at once: the idle viewers, probes, and those that are about to end. As many threads wait to accept, so
/// that no connection pays for a thread.
const PLACES: usize = 128;
/// Little-endian true colour, 32 bits (RFC 6143 section 7.4).
const PIXEL_FORMAT: [u8; 16] = [32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0];
const NAME: &[u8] = b"bench";

/// A rectangle, from the top left corner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Area {
    pub(crate) width: u16,
    pub(crate) height: u16,
}

impl Area {
    pub(crate) const PIXEL: Self = Self { width: 1, height: 1 };
    pub(crate) const SCREEN: Self = Self { width: WIDTH, height: HEIGHT };
}

/// A server that runs until the process ends.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    repeat: Arc<AtomicUsize>,
}

impl Backend {
    pub(crate) fn start() -> Outcome<Self> {
        let listener = Arc::new(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
        let address = listener.local_addr()?;
        let repeat = Arc::new(AtomicUsize::new(1));
        for _place in 0..PLACES {
            let (listener, repeat) = (Arc::clone(&listener), Arc::clone(&repeat));
            // Nobody joins it: it ends with the process.
            thread::Builder::new().name("rfb server".into()).spawn(move || {
                while let Ok((stream, _peer)) = listener.accept() {
                    // A viewer that leaves is an error here, and how every connection ends.
                    let _left = serve(&stream, &repeat);
                }
            })?;
        }
        Ok(Self { address, repeat })
    }

    /// How many updates answer each full request from now on.
    pub(crate) fn answer_with(&self, updates: usize) {
        self.repeat.store(updates, Ordering::Relaxed);
    }
}

/// One update of one Raw rectangle, as it goes over the wire.
pub(crate) fn update(area: Area) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 1, 0, 0, 0, 0];
    bytes.extend(area.width.to_be_bytes());
    bytes.extend(area.height.to_be_bytes());
    bytes.extend(0_u32.to_be_bytes());
    let mut noise = 0x9e37_79b9_u32;
    for _pixel in 0..u32::from(area.width) * u32::from(area.height) {
        noise ^= noise << 13;
        noise ^= noise >> 17;
        noise ^= noise << 5;
        bytes.extend(noise.to_le_bytes());
    }
    bytes
}

fn serve(mut stream: &TcpStream, repeat: &AtomicUsize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BufReader::new(stream);
    stream.write_all(b"RFB 003.008\n")?;
    skip(&mut input, 12)?;
    stream.write_all(&[1, 1])?;
    skip(&mut input, 1)?;
    stream.write_all(&[0; 4])?;
    skip(&mut input, 1)?;
    stream.write_all(&server_init())?;
    let mut drawn = Area::PIXEL;
    let mut answer = update(drawn);
    loop {
        let [kind] = take(&mut input)?;
        match kind {
            0 => skip(&mut input, 19)?,
            2 => {
                let [_padding, high, low] = take(&mut input)?;
                skip(&mut input, 4 * usize::from(u16::from_be_bytes([high, low])))?;
            }
            3 => {
                let [incremental, _, _, _, _, w1, w2, h1, h2] = take(&mut input)?;
                let area = Area { width: u16::from_be_bytes([w1, w2]), height: u16::from_be_bytes([h1, h2]) };
                if incremental != 0 {
                    continue;
                }
                if area != drawn {
                    (drawn, answer) = (area, update(area));
                }
                for _update in 0..repeat.load(Ordering::Relaxed) {
                    stream.write_all(&answer)?;
                }
            }
            4 => skip(&mut input, 7)?,
            5 => skip(&mut input, 5)?,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

fn server_init() -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(WIDTH.to_be_bytes());
    bytes.extend(HEIGHT.to_be_bytes());
    bytes.extend(PIXEL_FORMAT);
    bytes.extend([0, 0, 0, 5]);
    bytes.extend(NAME);
    bytes
}

fn take<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn skip(input: &mut impl BufRead, mut count: usize) -> io::Result<()> {
    while count > 0 {
        let taken = input.fill_buf()?.len().min(count);
        if taken == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        input.consume(taken);
        count -= taken;
    }
    Ok(())
}
