//! Settings of the browser, already checked.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::proxy::Proxy;

/// Longest address of a page, in bytes; it becomes one argument.
const MAX_URL_BYTES: usize = 2048;

/// Settings of Chromium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Path of Chromium.
    pub program: PathBuf,
    /// The page to open at start.
    pub start_url: String,
    /// Further arguments. Configuration refuses those that would take the sandbox away or open the DevTools port.
    pub extra_args: Vec<String>,
    /// What pages are fetched through; none: directly.
    pub proxy: Option<Proxy>,
    /// Further variables of its environment. Those that it needs to find its display and its directories win.
    pub env: BTreeMap<String, String>,
}

/// Checks the address of a page that is to be opened: one of these schemes, no spaces, not endless. `javascript:` and
/// `chrome:` act on the browser and are never among them.
///
/// # Errors
/// What it must be, to complete "key = value: …".
pub fn check_page(url: &str, schemes: &[&str]) -> Result<(), String> {
    let scheme = url.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    let known = scheme.is_some_and(|scheme| schemes.contains(&scheme.as_str()));
    if known && url.len() <= MAX_URL_BYTES && !url.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Ok(());
    }
    Err(format!(
        "must be a URL of {MAX_URL_BYTES} bytes at most with one of the schemes {}",
        schemes.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_one_of_the_schemes_and_no_spaces() {
        assert!(check_page("HTTPS://example.org/?a=b#c", &["https"]).is_ok());
        for bad in ["", "--no-sandbox", "example.org", "javascript:alert(1)", "https://a b", "https://a\n"] {
            assert!(check_page(bad, &["https", "about"]).is_err(), "{bad}");
        }
        assert!(check_page(&format!("https://{}", "a".repeat(2048)), &["https"]).is_err());
    }
}
