//! The pointer's image, for viewers that draw it themselves.

use super::client_message::Area;
use super::connection::CursorForm;
use super::encode::put_pixel;
use super::encoding as enc;
use super::pixel_format::PixelFormat;
use super::server_message as message;

/// VMware's kind with alpha; the other has masks.
const VMWARE_ALPHA: u8 = 1;
/// From here on a pixel counts as solid where a viewer knows no alpha.
const SOLID: u8 = 128;

/// An image, row by row; of 0×0 pixels while there is no pointer to be seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cursor {
    /// In pixels.
    pub width: u16,
    /// In pixels.
    pub height: u16,
    /// The pixel that points.
    pub hotspot: (u16, u16),
    /// Red, green, blue and alpha; the colours are multiplied with alpha, as X has them.
    pub premultiplied: Vec<[u8; 4]>,
}

impl Cursor {
    /// Colours as they are where alpha is full.
    pub fn straight(&self) -> impl Iterator<Item = [u8; 4]> {
        self.premultiplied.iter().map(|[red, green, blue, alpha]| {
            let whole = |part: u8| match u16::from(*alpha) {
                0 => 0,
                alpha => u8::try_from((u16::from(part) * 255 + alpha / 2) / alpha).unwrap_or(u8::MAX),
            };
            [whole(*red), whole(*green), whole(*blue), *alpha]
        })
    }

    /// An update that brings this image, in a form that the viewer knows; `format` is that of its pixels.
    pub fn update(&self, form: CursorForm, format: PixelFormat) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + self.premultiplied.len() * 4);
        let (x, y) = self.hotspot;
        let area = Area { x, y, width: self.width, height: self.height };
        message::update(1, &mut out);
        match form {
            CursorForm::Vmware => {
                message::rectangle(area, enc::VMWARE_CURSOR, &mut out);
                out.extend([VMWARE_ALPHA, 0]);
                out.extend(self.straight().flatten());
            }
            CursorForm::WithAlpha => {
                message::rectangle(area, enc::CURSOR_WITH_ALPHA, &mut out);
                out.extend(enc::RAW.to_be_bytes());
                out.extend(self.premultiplied.iter().flatten());
            }
            CursorForm::Masked => {
                message::rectangle(area, enc::CURSOR, &mut out);
                self.straight().for_each(|[red, green, blue, _]| {
                    put_pixel(format, u32::from_be_bytes([0, red, green, blue]), &mut out);
                });
                for row in self.premultiplied.chunks(usize::from(self.width).max(1)) {
                    out.extend(row.chunks(8).map(|eight| {
                        let bits = eight.iter().zip((0..8).rev());
                        bits.fold(0, |byte, ([.., alpha], bit)| byte | u8::from(*alpha >= SOLID) << bit)
                    }));
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::connection::NATIVE;
    use super::*;

    fn cursor() -> Cursor {
        // Half red, and solid blue.
        Cursor {
            width: 2,
            height: 1,
            hotspot: (1, 0),
            premultiplied: vec![[0x40, 0, 0, 0x80], [0, 0, 255, 255]],
        }
    }

    #[test]
    fn each_form_has_the_bytes_that_its_viewers_read() {
        let head = [0, 0, 0, 1, 0, 1, 0, 0, 0, 2, 0, 1];
        let bytes = |form| cursor().update(form, NATIVE);
        let expected = [&head[..], b"WMVd", &[1, 0, 128, 0, 0, 128, 0, 0, 255, 255]].concat();
        assert_eq!(bytes(CursorForm::Vmware), expected);
        let expected =
            [&head[..], &(-314_i32).to_be_bytes(), &[0; 4], &[0x40, 0, 0, 0x80, 0, 0, 255, 255]].concat();
        assert_eq!(bytes(CursorForm::WithAlpha), expected);
        let expected =
            [&head[..], &(-239_i32).to_be_bytes(), &[0, 0, 128, 0, 255, 0, 0, 0, 0b1100_0000]].concat();
        assert_eq!(bytes(CursorForm::Masked), expected);
    }

    #[test]
    fn no_pointer_is_an_image_without_pixels() {
        assert_eq!(Cursor::default().update(CursorForm::Vmware, NATIVE).len(), 4 + 12 + 2);
    }
}
