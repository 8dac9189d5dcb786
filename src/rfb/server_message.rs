//! The server messages that we make ourselves.

use super::client_message::Screen;
use super::encoding::EXTENDED_DESKTOP_SIZE;
use super::server_handshake::ServerInit;

/// ServerInit (RFC 6143 §7.3.2) with a name of ours.
pub fn server_init(init: &ServerInit, name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(24 + name.len());
    out.extend([init.width, init.height].into_iter().flat_map(u16::to_be_bytes));
    out.extend(init.pixel_format.to_bytes());
    out.extend(u32::try_from(name.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(name.as_bytes());
    out
}

/// A framebuffer update of one ExtendedDesktopSize rectangle: reason 1 (this viewer asked), status 1 (resize is
/// administratively prohibited), and the size as it is.
pub fn resize_prohibited(screen: &Screen) -> Vec<u8> {
    let size = [screen.area.width, screen.area.height];
    let mut out = Vec::with_capacity(36);
    out.extend([0, 0, 0, 1]);
    out.extend([1, 1, size[0], size[1]].into_iter().flat_map(u16::to_be_bytes));
    out.extend(EXTENDED_DESKTOP_SIZE.to_be_bytes());
    out.extend([1, 0, 0, 0]);
    out.extend(screen.id.to_be_bytes());
    out.extend([0, 0, size[0], size[1]].into_iter().flat_map(u16::to_be_bytes));
    out.extend(screen.flags.to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::super::client_message::Area;
    use super::*;

    #[test]
    fn the_refusal_is_one_rectangle_with_the_present_size() {
        let area = Area { x: 0, y: 0, width: 640, height: 480 };
        let expected = [
            0, 0, 0, 1, 0, 1, 0, 1, 2, 128, 1, 224, 255, 255, 254, 204, 1, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0,
            2, 128, 1, 224, 0, 0, 0, 0,
        ];
        assert_eq!(resize_prohibited(&Screen { id: 7, area, flags: 0 }), expected);
    }
}
