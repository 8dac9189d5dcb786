//! The pointer's image, from what the X server tells.

use x11rb_protocol::protocol::xfixes::GetCursorImageReply;

use crate::rfb::Cursor;

/// Larger images are not worth their bytes, and no viewer can show them.
const LARGEST: u16 = 256;

/// What the X server told; nothing of an image that says two things at a time, or of which nothing is to be seen.
pub(super) fn cursor(reply: &GetCursorImageReply) -> Cursor {
    let (width, height) = (reply.width, reply.height);
    let count = usize::from(width) * usize::from(height);
    let is_seen = reply.cursor_image.iter().any(|argb| argb >> 24 != 0);
    if width > LARGEST || height > LARGEST || reply.cursor_image.len() != count || !is_seen {
        return Cursor::default();
    }
    let rgba = |argb: &u32| {
        let [alpha, red, green, blue] = argb.to_be_bytes();
        [red, green, blue, alpha]
    };
    Cursor {
        width,
        height,
        hotspot: (reply.xhot.min(width.saturating_sub(1)), reply.yhot.min(height.saturating_sub(1))),
        premultiplied: reply.cursor_image.iter().map(rgba).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(width: u16, height: u16, cursor_image: Vec<u32>) -> GetCursorImageReply {
        GetCursorImageReply {
            sequence: 0,
            length: 0,
            x: 0,
            y: 0,
            width,
            height,
            xhot: 9,
            yhot: 0,
            cursor_serial: 0,
            cursor_image,
        }
    }

    #[test]
    fn colours_are_given_back_what_alpha_took() {
        let found = cursor(&reply(2, 1, vec![0x80_40_20_00, 0xff_01_02_03]));
        assert_eq!((found.width, found.height, found.hotspot), (2, 1, (1, 0)));
        assert_eq!(found.premultiplied, [[0x40, 0x20, 0, 0x80], [1, 2, 3, 255]]);
        assert_eq!(found.straight().collect::<Vec<_>>(), [[128, 64, 0, 128], [1, 2, 3, 255]]);
    }

    #[test]
    fn an_image_of_another_size_than_it_says_is_none() {
        assert_eq!(cursor(&reply(2, 2, vec![!0; 3])), Cursor::default());
        assert_eq!(cursor(&reply(300, 1, vec![!0; 300])), Cursor::default());
    }

    #[test]
    fn an_image_of_which_nothing_is_to_be_seen_is_none() {
        assert_eq!(cursor(&reply(2, 1, vec![0x00_ff_ff_ff; 2])), Cursor::default());
    }
}
