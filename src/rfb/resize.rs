//! What a viewer asks for with SetDesktopSize, and how that is answered (rfbproto, ExtendedDesktopSize). Pure.

use super::client_message::Screen;

/// What came of a wish for another size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeStatus {
    /// The screen has that size.
    Done,
    /// Nobody may have another size.
    Prohibited,
    /// It cannot be had. Where it is too large or too small, the screen has the nearest size that can.
    NoResources,
    /// It is no layout of one screen.
    BadLayout,
    /// Another one took its place before it was its turn.
    Superseded,
}

impl SizeStatus {
    /// As rfbproto numbers them; 4 is "forwarded", which may or may not be heard of again.
    pub(super) fn code(self) -> u16 {
        match self {
            Self::Done => 0,
            Self::Prohibited => 1,
            Self::NoResources => 2,
            Self::BadLayout => 3,
            Self::Superseded => 4,
        }
    }
}

/// Who brought about the size that a viewer is told, as rfbproto numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Server,
    ThisViewer,
    OtherViewer,
}

impl Reason {
    pub(super) fn code(self) -> u16 {
        match self {
            Self::Server => 0,
            Self::ThisViewer => 1,
            Self::OtherViewer => 2,
        }
    }
}

/// Where a viewer's wish is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Wish {
    #[default]
    None,
    /// Being seen to.
    Pending,
    /// Done; the viewer has not been told yet.
    Granted,
}

/// Whether `screens` is one screen that is all there is.
pub(super) fn is_one_screen((width, height): (u16, u16), screens: &[Screen]) -> bool {
    let [Screen { area, .. }] = screens else { return false };
    width > 0 && height > 0 && (area.x, area.y, area.width, area.height) == (0, 0, width, height)
}
