//! A frame as a file, for whoever wants one moment and not a stream.

use std::fmt;

use turbojpeg::{Image, PixelFormat as JpegFormat, Subsamp};

use super::frame::{Frame, PIXEL};

/// What kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StillFormat {
    /// PNG, without loss.
    Png,
    /// JPEG, with full chroma: most of a screen is text.
    Jpeg(JpegQuality),
}

/// A JPEG's quality on libjpeg's scale, 1 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JpegQuality(u8);

impl JpegQuality {
    /// `None` for a number off the scale.
    pub fn new(quality: u8) -> Option<Self> {
        (1..=100).contains(&quality).then_some(Self(quality))
    }
}

impl Default for JpegQuality {
    /// Text is easy to read, and a picture not much larger than it must be.
    fn default() -> Self {
        Self(80)
    }
}

impl StillFormat {
    /// The media type of such a file.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg(_) => "image/jpeg",
        }
    }
}

impl fmt::Display for StillFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Png => f.write_str("png"),
            Self::Jpeg(JpegQuality(quality)) => write!(f, "jpeg of quality {quality}"),
        }
    }
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The PNG encoder refused.
    #[error("cannot make a PNG")]
    Png(#[from] png::EncodingError),
    /// The JPEG encoder refused.
    #[error("cannot make a JPEG")]
    Jpeg(#[from] turbojpeg::Error),
}

/// The file. Takes tens of milliseconds for a large screen.
///
/// # Errors
/// When the encoder refuses, for lack of memory.
pub fn still(frame: &Frame, format: StillFormat) -> Result<Vec<u8>, Error> {
    let mut pixels = Vec::new();
    frame.copy(frame.area(), &mut pixels);
    match format {
        StillFormat::Png => png(frame, pixels),
        StillFormat::Jpeg(quality) => jpeg(frame, &pixels, quality),
    }
}

fn png(frame: &Frame, pixels: Vec<u8>) -> Result<Vec<u8>, Error> {
    let rgb: Vec<u8> = pixels
        .chunks_exact(PIXEL)
        .flat_map(|pixel| match pixel {
            [blue, green, red, ..] => [*red, *green, *blue],
            _ => [0; 3],
        })
        .collect();
    drop(pixels);
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, frame.width().into(), frame.height().into());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&rgb)?;
    writer.finish()?;
    Ok(file)
}

fn jpeg(frame: &Frame, pixels: &[u8], JpegQuality(quality): JpegQuality) -> Result<Vec<u8>, Error> {
    let (width, height) = (usize::from(frame.width()), usize::from(frame.height()));
    let mut compressor = turbojpeg::Compressor::new()?;
    compressor.set_quality(quality.into())?;
    compressor.set_subsamp(Subsamp::None)?;
    let image = Image { pixels, width, pitch: width * PIXEL, height, format: JpegFormat::BGRX };
    Ok(compressor.compress_to_vec(image)?)
}

#[cfg(test)]
mod tests {
    use zune_jpeg::JpegDecoder;
    use zune_jpeg::zune_core::bytestream::ZCursor;

    use super::super::client_message::Area;
    use super::super::frame::Strip;
    use super::*;

    /// 70 by 3, over the seam of two tiles: blue, green and red in turn on grey.
    fn frame() -> Frame {
        let bytes: Vec<u8> = [[200, 0, 0, 9], [0, 150, 0, 9], [0, 0, 100, 9]].concat().repeat(2);
        let strip = Strip { area: Area { x: 62, y: 1, width: 6, height: 1 }, stride: 24, bytes: &bytes };
        Frame::blank(70, 3).with(&[strip]).unwrap()
    }

    #[test]
    fn a_png_has_the_very_pixels_and_no_pointer_s_alpha() {
        let file = still(&frame(), StillFormat::Png).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height, info.color_type), (70, 3, png::ColorType::Rgb));
        let mut expected = vec![0; 70 * 3 * 3];
        let row = [[0, 0, 200], [0, 150, 0], [100, 0, 0]].concat().repeat(2);
        expected[(70 + 62) * 3..(70 + 68) * 3].copy_from_slice(&row);
        assert_eq!(pixels, expected);
    }

    #[test]
    fn a_jpeg_has_the_size_and_nearly_the_colours_and_is_smaller_with_less_quality() {
        let best = still(&frame(), StillFormat::Jpeg(JpegQuality::new(100).unwrap())).unwrap();
        let mut decoder = JpegDecoder::new(ZCursor::new(&best));
        let pixels = decoder.decode().unwrap();
        assert_eq!(decoder.dimensions(), Some((70, 3)));
        let at = |x: usize| &pixels[(70 + x) * 3..(70 + x) * 3 + 3];
        for (x, colour) in [(62, [0, 0, 200]), (63, [0, 150, 0]), (64, [100, 0, 0]), (60, [0; 3])] {
            let apart = at(x).iter().zip(colour).map(|(is, should)| is.abs_diff(should)).max();
            assert!(apart < Some(8), "{:?} instead of {colour:?} at {x}", at(x));
        }
        let worst = still(&frame(), StillFormat::Jpeg(JpegQuality::new(1).unwrap())).unwrap();
        assert!(worst.len() < best.len(), "{} and {} bytes", worst.len(), best.len());
    }

    #[test]
    fn the_scale_of_quality_has_two_ends() {
        assert_eq!(
            [0, 1, 100, 101].map(|quality| JpegQuality::new(quality).is_some()),
            [false, true, true, false]
        );
    }
}
