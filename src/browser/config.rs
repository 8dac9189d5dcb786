//! Settings of the browser, already checked.

use std::path::PathBuf;

/// Settings of Chromium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Path of Chromium.
    pub program: PathBuf,
    /// The page to open at start.
    pub start_url: String,
    /// Further arguments. Configuration refuses those that would take the sandbox away or open the DevTools port.
    pub extra_args: Vec<String>,
}
