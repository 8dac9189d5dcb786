//! Encoding numbers (RFC 6143 §7.7, rfbproto), and which of them a viewer may ask a server for through us.

use super::policy::Access;

pub(crate) const RAW: i32 = 0;
pub(crate) const COPY_RECT: i32 = 1;
pub(crate) const RRE: i32 = 2;
pub(crate) const HEXTILE: i32 = 5;
pub(crate) const ZLIB: i32 = 6;
pub(crate) const TIGHT: i32 = 7;
pub(crate) const ZRLE: i32 = 16;
pub(crate) const TIGHT_PNG: i32 = -260;

pub(crate) const DESKTOP_SIZE: i32 = -223;
pub(crate) const LAST_RECT: i32 = -224;
pub(crate) const CURSOR: i32 = -239;
pub(crate) const X_CURSOR: i32 = -240;
pub(crate) const QEMU_KEY: i32 = -258;
pub(crate) const LED_STATE: i32 = -261;
pub(crate) const DESKTOP_NAME: i32 = -307;
pub(crate) const EXTENDED_DESKTOP_SIZE: i32 = -308;
pub(crate) const FENCE: i32 = -312;
pub(crate) const CONTINUOUS_UPDATES: i32 = -313;
pub(crate) const CURSOR_WITH_ALPHA: i32 = -314;
pub(crate) const EXTENDED_MOUSE_BUTTONS: i32 = -316;
pub(crate) const VMWARE_CURSOR: i32 = 0x574d_5664;
/// The wire has 0xC0A1E5CE, read as a signed number.
pub(crate) const EXTENDED_CLIPBOARD: i32 = i32::from_be_bytes([0xc0, 0xa1, 0xe5, 0xce]);

/// Whether a viewer may ask the server for this. The list is what [`super::Skimmer`] can follow, plus hints without
/// data of their own; JPEG (21) and H.264 (50) have no length on the wire or state that cannot be followed.
pub fn allowed(encoding: i32, access: Access) -> bool {
    match encoding {
        RAW | COPY_RECT | RRE | HEXTILE | ZLIB | TIGHT | ZRLE | TIGHT_PNG => true,
        DESKTOP_SIZE | LAST_RECT | CURSOR | X_CURSOR | QEMU_KEY | LED_STATE | DESKTOP_NAME => true,
        EXTENDED_DESKTOP_SIZE | FENCE | CONTINUOUS_UPDATES => true,
        CURSOR_WITH_ALPHA | EXTENDED_MOUSE_BUTTONS | VMWARE_CURSOR => true,
        // JPEG quality, compression level, fine-grained quality, chroma subsampling.
        -32..=-23 | -256..=-247 | -512..=-412 | -768..=-763 => true,
        EXTENDED_CLIPBOARD => access == Access::Full,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What noVNC 1.7 sends from Chromium, in its order.
    const NOVNC: [i32; 25] = [
        1,
        50,
        7,
        -260,
        16,
        21,
        5,
        2,
        6,
        0,
        -26,
        -254,
        -223,
        -224,
        -258,
        -261,
        -308,
        -309,
        -312,
        -313,
        -307,
        -1_063_131_698,
        -316,
        0x574d_5664,
        -239,
    ];

    fn kept(access: Access) -> Vec<i32> {
        NOVNC.into_iter().filter(|encoding| allowed(*encoding, access)).collect()
    }

    #[test]
    fn a_spectator_keeps_what_can_be_followed_and_no_clipboard() {
        let expected = [
            1,
            7,
            -260,
            16,
            5,
            2,
            6,
            0,
            -26,
            -254,
            -223,
            -224,
            -258,
            -261,
            -308,
            -312,
            -313,
            -307,
            -316,
            0x574d_5664,
            -239,
        ];
        assert_eq!(kept(Access::ViewOnly), expected);
    }

    #[test]
    fn a_controller_keeps_the_extended_clipboard_too() {
        assert_eq!(kept(Access::Full).len(), kept(Access::ViewOnly).len() + 1);
        assert!(kept(Access::Full).contains(&-1_063_131_698));
    }
}
