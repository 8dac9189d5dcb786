//! The server messages that we make ourselves.

use super::client_message::{Area, FENCE, MAX_FENCE, Screen};
use super::encoding::{COPY_RECT, EXTENDED_DESKTOP_SIZE};
use super::history::Move;
use super::resize::{Reason, SizeStatus};
use super::server_handshake::ServerInit;

/// EndOfContinuousUpdates (rfbproto), which is nothing but its type.
pub(super) const END_OF_CONTINUOUS_UPDATES: u8 = 150;
/// Flags of a fence (rfbproto): to be answered; what came before is to be done with first.
pub(super) const FENCE_REQUEST: u32 = 1 << 31;
pub(super) const FENCE_BLOCK_BEFORE: u32 = 1;
/// The message behind it takes effect exactly where the answer stands in our stream.
pub(super) const FENCE_SYNC_NEXT: u32 = 4;
/// BlockBefore and BlockAfter, which whoever does one thing after the other always does, and SyncNext.
pub(super) const FENCE_FLAGS: u32 = 0b111;

/// The head of a FramebufferUpdate of so many rectangles (RFC 6143 §7.6.1). A screen has far fewer pieces than 65535.
pub(super) fn update(rectangles: usize, out: &mut Vec<u8>) {
    out.extend([0, 0]);
    out.extend(u16::try_from(rectangles).unwrap_or(u16::MAX).to_be_bytes());
}

/// The head of a rectangle.
pub(super) fn rectangle(area: Area, encoding: i32, out: &mut Vec<u8>) {
    out.extend([area.x, area.y, area.width, area.height].into_iter().flat_map(u16::to_be_bytes));
    out.extend(encoding.to_be_bytes());
}

/// A CopyRect rectangle (RFC 6143 §7.7.2).
pub(super) fn copy(done: &Move, out: &mut Vec<u8>) {
    rectangle(done.to, COPY_RECT, out);
    out.extend([done.from.0, done.from.1].into_iter().flat_map(u16::to_be_bytes));
}

/// A fence with a payload of at most 64 bytes.
pub(super) fn fence(flags: u32, payload: &[u8], out: &mut Vec<u8>) {
    let payload = payload.get(..usize::from(MAX_FENCE)).unwrap_or(payload);
    out.extend([FENCE, 0, 0, 0]);
    out.extend(flags.to_be_bytes());
    out.push(u8::try_from(payload.len()).unwrap_or(MAX_FENCE));
    out.extend(payload);
}

/// A framebuffer update of one ExtendedDesktopSize rectangle: what size there is, and why.
pub(super) fn desktop_size(screen: &Screen, reason: Reason, out: &mut Vec<u8>) {
    size_rectangle(screen, reason, SizeStatus::Done, out);
}

/// The same as an answer to this viewer, with the size as it is.
pub(super) fn resize_answer(screen: &Screen, status: SizeStatus, out: &mut Vec<u8>) {
    size_rectangle(screen, Reason::ThisViewer, status, out);
}

fn size_rectangle(screen: &Screen, reason: Reason, status: SizeStatus, out: &mut Vec<u8>) {
    let (width, height) = (screen.area.width, screen.area.height);
    update(1, out);
    rectangle(Area { x: reason.code(), y: status.code(), width, height }, EXTENDED_DESKTOP_SIZE, out);
    out.extend([1, 0, 0, 0]);
    out.extend(screen.id.to_be_bytes());
    out.extend([0, 0, width, height].into_iter().flat_map(u16::to_be_bytes));
    out.extend(screen.flags.to_be_bytes());
}

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
    let mut out = Vec::with_capacity(36);
    resize_answer(screen, SizeStatus::Prohibited, &mut out);
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
