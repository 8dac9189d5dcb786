//! What happens to each message of a viewer. Types that are not in the table do not get this far: the parser refuses
//! them, and the connection ends.

use super::client_message::ClientMessage;
use super::encoding;

/// What a viewer may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Look. Nothing that it sends reaches keyboard, pointer, clipboard or screen size.
    ViewOnly,
    /// Look and act.
    Full,
}

/// What to do with one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send it on, encoded anew.
    Forward,
    /// Forget it.
    Drop,
    /// Answer a SetDesktopSize with "resize is administratively prohibited".
    AnswerProhibited,
}

/// The table.
pub fn decide(access: Access, message: &ClientMessage) -> Verdict {
    match (message, access) {
        (
            ClientMessage::SetPixelFormat(_)
            | ClientMessage::SetEncodings(_)
            | ClientMessage::UpdateRequest { .. }
            | ClientMessage::EnableContinuousUpdates { .. }
            | ClientMessage::Fence { .. },
            _,
        ) => Verdict::Forward,
        (
            ClientMessage::Key { .. }
            | ClientMessage::Pointer { .. }
            | ClientMessage::CutText(_)
            | ClientMessage::ExtendedCutText(_)
            | ClientMessage::QemuKey { .. },
            Access::Full,
        ) => Verdict::Forward,
        (
            ClientMessage::Key { .. }
            | ClientMessage::Pointer { .. }
            | ClientMessage::CutText(_)
            | ClientMessage::ExtendedCutText(_)
            | ClientMessage::QemuKey { .. },
            Access::ViewOnly,
        ) => Verdict::Drop,
        (ClientMessage::SetDesktopSize { .. }, Access::Full) => Verdict::Forward,
        (ClientMessage::SetDesktopSize { .. }, Access::ViewOnly) => Verdict::AnswerProhibited,
        // Shutting down or rebooting the display, and sound, are nobody's through us.
        (ClientMessage::Xvp { .. } | ClientMessage::QemuAudio, _) => Verdict::Drop,
    }
}

/// Removes the encodings that this viewer may not have, in place, order kept.
pub fn filter_encodings(access: Access, encodings: &mut Vec<i32>) {
    encodings.retain(|number| encoding::allowed(*number, access));
}
