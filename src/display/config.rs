//! Settings of a display, already checked.

use std::path::PathBuf;

/// Settings of the X server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Path of Xvfb.
    pub xvfb: PathBuf,
    /// Width in pixels.
    pub width: u16,
    /// Height in pixels.
    pub height: u16,
    /// Bits per pixel that carry colour: 16 or 24.
    pub depth: u8,
}
