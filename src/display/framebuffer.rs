//! The file into which Xvfb draws its screen (`-fbdir`): an XWD dump whose pixels are the screen's own memory.
//!
//! It is read and not mapped. The server runs as the session, which can cut the file short at any time: a mapping would be a
//! SIGBUS then, and a read is an error. A read also copies, so that nobody changes pixels while they are compared.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::rfb::client_message::Area;
use crate::rfb::frame::{PIXEL, Strip};

/// Name of the file of screen 0.
pub(super) const FILE: &str = "Xvfb_screen0";
/// Fields of the header (X11/XWDFile.h), 4 bytes each, big-endian.
const FIELDS: usize = 25;
const VERSION: u32 = 7;
/// ZPixmap: a pixel's bits lie together.
const Z_PIXMAP: u32 = 2;
/// Bytes of an entry of the colour map behind the header.
const COLOUR: u64 = 12;
/// Rows of pixels that are read in one go where they are at least this part of their rows; else row by row.
const WORTH_WHOLE_ROWS: usize = 2;

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The file is not there, or ends too early.
    #[error("cannot read the X server's screen")]
    Io(#[from] io::Error),
    /// It is somebody else's, or no file.
    #[error("the X server's screen is not a file of uid {0}")]
    Stranger(u32),
    /// Something else than 32-bit pixels of a little-endian server.
    #[error("the X server's screen is in a form that is not understood: {0}")]
    Form(&'static str),
}

/// An open screen.
#[derive(Debug)]
pub(super) struct Framebuffer {
    file: File,
    width: u16,
    height: u16,
    /// Where the pixels begin, and bytes of a row.
    start: u64,
    stride: usize,
}

/// Rows that were read; kept for its memory.
#[derive(Debug, Default)]
pub(super) struct Rows {
    bytes: Vec<u8>,
}

impl Framebuffer {
    /// Opens the screen of `size` beneath `dir`, which a server of `owner` wrote, where one is given. The file says how large
    /// it is as well, but whoever is the session can write it, and would have the daemon hold and look through gigabytes.
    pub(super) fn open(dir: &Path, owner: Option<u32>, (width, height): (u16, u16)) -> Result<Self, Error> {
        let no_follow = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(no_follow.bits()).open(dir.join(FILE))?;
        let about = file.metadata()?;
        if !about.is_file() || owner.is_some_and(|owner| owner != about.uid()) {
            return Err(Error::Stranger(owner.unwrap_or_default()));
        }
        let mut head = [0; FIELDS * 4];
        file.read_exact_at(&mut head, 0)?;
        let field = |at: usize| {
            let bytes = head.get(at * 4..).and_then(<[u8]>::first_chunk);
            bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes))
        };
        let header_size = field(0);
        let (byte_order, bits_per_pixel, bytes_per_line, colours) =
            (field(7), field(11), field(12), field(19));
        let masks = [field(14), field(15), field(16)];
        match (field(1), field(2), byte_order, bits_per_pixel) {
            (VERSION, Z_PIXMAP, 0, 32) if masks == [0xff_0000, 0xff00, 0xff] => {}
            (VERSION, Z_PIXMAP, 0, _) => {
                return Err(Error::Form("not 8 bits each of red, green and blue in 32"));
            }
            (VERSION, Z_PIXMAP, ..) => return Err(Error::Form("not little-endian")),
            _ => return Err(Error::Form("no XWD of version 7")),
        }
        if (field(4), field(5)) != (u32::from(width), u32::from(height)) {
            return Err(Error::Form("not of the size that the server was started with"));
        }
        let stride = usize::try_from(bytes_per_line).unwrap_or_default();
        if stride < usize::from(width) * PIXEL {
            return Err(Error::Form("rows shorter than the screen is wide"));
        }
        let start = u64::from(header_size) + u64::from(colours) * COLOUR;
        Ok(Self { file, width, height, start, stride })
    }

    pub(super) fn size(&self) -> (u16, u16) {
        (self.width, self.height)
    }

    /// The pixels of `area`, which lies on the screen, as they are now.
    pub(super) fn read<'a>(&self, area: Area, rows: &'a mut Rows) -> io::Result<Strip<'a>> {
        let length = usize::from(area.width) * PIXEL;
        let at = |row: u16| {
            let line = u64::from(area.y + row) * u64::try_from(self.stride).unwrap_or_default();
            self.start + line + u64::from(area.x) * 4
        };
        let count = usize::from(area.height);
        if length * WORTH_WHOLE_ROWS >= self.stride && count > 0 {
            rows.bytes.resize(self.stride * (count - 1) + length, 0);
            self.file.read_exact_at(&mut rows.bytes, at(0))?;
            return Ok(Strip { area, stride: self.stride, bytes: &rows.bytes });
        }
        rows.bytes.resize(length * count, 0);
        for (row, line) in (0..area.height).zip(rows.bytes.chunks_exact_mut(length.max(1))) {
            self.file.read_exact_at(line, at(row))?;
        }
        Ok(Strip { area, stride: length, bytes: &rows.bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A screen of 3×2 pixels with rows of 16 bytes and one colour in the map.
    fn screen(change: impl Fn(&mut Vec<u8>)) -> tempfile::TempDir {
        let mut bytes: Vec<u8> = Vec::new();
        let fields = [
            104,
            7,
            2,
            24,
            3,
            2,
            0,
            0,
            32,
            0,
            32,
            32,
            16,
            4,
            0xff_0000,
            0xff00,
            0xff,
            8,
            256,
            1,
            3,
            2,
            0,
            0,
            0,
            0x61_00_00_00,
        ];
        fields.into_iter().for_each(|field: u32| bytes.extend(field.to_be_bytes()));
        bytes.extend([0; 12]);
        for row in 0u8..2 {
            bytes.extend((0..16).map(|at| row * 16 + at));
        }
        change(&mut bytes);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), bytes).unwrap();
        dir
    }

    const SIZE: (u16, u16) = (3, 2);

    fn own_uid() -> u32 {
        nix::unistd::geteuid().as_raw()
    }

    #[test]
    fn rows_are_read_from_where_they_lie_whole_or_in_parts() {
        let dir = screen(|_| {});
        let screen = Framebuffer::open(dir.path(), Some(own_uid()), SIZE).unwrap();
        assert_eq!(screen.size(), (3, 2));
        let mut rows = Rows::default();
        let one = screen.read(Area { x: 1, y: 0, width: 1, height: 2 }, &mut rows).unwrap();
        assert_eq!((one.stride, one.bytes), (4, &[4, 5, 6, 7, 20, 21, 22, 23][..]));
        let wide = screen.read(Area { x: 0, y: 0, width: 3, height: 2 }, &mut rows).unwrap();
        assert_eq!((wide.stride, wide.bytes.len()), (16, 28));
        assert_eq!((wide.bytes[0], wide.bytes[16], wide.bytes[27]), (0, 16, 27));
    }

    #[test]
    fn a_file_that_is_cut_short_is_an_error_and_not_a_signal() {
        let dir = screen(|bytes| bytes.truncate(130));
        let screen = Framebuffer::open(dir.path(), None, SIZE).unwrap();
        let error = screen.read(Area { x: 0, y: 0, width: 3, height: 2 }, &mut Rows::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_no_screen_of_the_session_is_refused() {
        let dir = screen(|_| {});
        assert!(matches!(Framebuffer::open(dir.path(), Some(own_uid() + 1), SIZE), Err(Error::Stranger(_))));
        let link = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(dir.path().join(FILE), link.path().join(FILE)).unwrap();
        assert!(matches!(Framebuffer::open(link.path(), None, SIZE), Err(Error::Io(_))));
        // Version, byte order, bits of a pixel; narrower, wider and higher than it was started.
        let cases: [(usize, u8); 6] = [(7, 6), (31, 1), (47, 24), (19, 2), (18, 1), (22, 0xff)];
        for (at, value) in cases {
            let dir = screen(|bytes| bytes[at] = value);
            assert!(matches!(Framebuffer::open(dir.path(), None, SIZE), Err(Error::Form(_))), "byte {at}");
        }
    }
}
