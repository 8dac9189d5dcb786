//! Values that are written as strings: what they mean, and what is allowed. The errors complete "key = value: …".

use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::document::{Section, Show};
use crate::durations::parse_within;
use crate::vnc::RfbAddress;

/// Longest path of a Unix socket, in bytes (`sun_path` less its NUL).
const MAX_SOCKET_PATH: usize = 107;
/// Smallest and largest side of a display, in pixels: below, a browser has no room; above, a frame has 256 MiB.
const DISPLAY_SIDE: RangeInclusive<u16> = 64..=8192;

/// Largest first.
const SIZES: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl Section<'_> {
    /// A string that `parse` understands.
    pub(super) fn parsed<U>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<U, String>,
    ) -> Option<U> {
        self.checked(key, Show::Value, |text: String| parse(&text))
    }

    /// A whole number in a range.
    pub(super) fn number<N>(&mut self, key: &str, default: N, range: RangeInclusive<N>) -> N
    where
        N: TryFrom<i64> + PartialOrd + std::fmt::Display,
    {
        let refusal = || format!("must be {} to {}", range.start(), range.end());
        let parse = |number: i64| match N::try_from(number) {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(refusal()),
        };
        self.checked(key, Show::Value, parse).unwrap_or(default)
    }

    /// A length of time in a range.
    pub(super) fn duration(
        &mut self,
        key: &str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        self.parsed(key, |text| parse_within(text, &range)).unwrap_or(default)
    }

    /// A length of time in a range, or `"none"`.
    pub(super) fn optional_duration(
        &mut self,
        key: &str,
        default: Option<Duration>,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let parse = |text: &str| match text {
            "none" => Ok(None),
            text => parse_within(text, &range).map(Some).map_err(|problem| format!("{problem}, or \"none\"")),
        };
        self.parsed(key, parse).unwrap_or(default)
    }

    /// True or false.
    pub(super) fn boolean(&mut self, key: &str, default: bool) -> bool {
        self.checked(key, Show::Value, Ok).unwrap_or(default)
    }

    /// An absolute path.
    pub(super) fn path(&mut self, key: &str, default: &str) -> PathBuf {
        self.parsed(key, absolute_path).unwrap_or_else(|| PathBuf::from(default))
    }

    /// A short text, without control characters.
    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        self.parsed(key, |text| {
            if text.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
                return Err("must be 1 to 256 bytes without control characters".to_owned());
            }
            Ok(text.to_owned())
        })
    }
}

/// A number of bytes: `"64KiB"`, `"512MiB"`, `"1GiB"`.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let refusal = || "must be a whole number with a unit: \"64KiB\", \"512MiB\" or \"1GiB\"".to_owned();
    for (name, bytes) in SIZES {
        let Some(digits) = text.strip_suffix(name) else { continue };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refusal());
        }
        let number: u64 = digits.parse().map_err(|_| refusal())?;
        return number.checked_mul(bytes).ok_or_else(refusal);
    }
    Err(refusal())
}

/// The shortest way to write a number of bytes that [`parse_size`] understands; they are whole KiB.
pub(super) fn write_size(bytes: u64) -> String {
    let unit = SIZES.iter().find(|(_, unit)| bytes != 0 && bytes.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{}KiB", bytes >> 10), |(name, unit)| format!("{}{name}", bytes / unit))
}

/// A number of bytes in a range.
pub(super) fn size_within(text: &str, range: &RangeInclusive<u64>) -> Result<u64, String> {
    let bytes = parse_size(text)?;
    if range.contains(&bytes) {
        return Ok(bytes);
    }
    Err(format!("must be {} to {}", write_size(*range.start()), write_size(*range.end())))
}

/// A path from the root, without `..`.
pub(super) fn absolute_path(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !plain || text.chars().any(char::is_control) {
        return Err("must be an absolute path without \"..\"".to_owned());
    }
    Ok(path.to_owned())
}

/// Path of a Unix socket.
pub(super) fn socket_path(text: &str) -> Result<PathBuf, String> {
    if text.len() > MAX_SOCKET_PATH {
        return Err(format!("must be at most {MAX_SOCKET_PATH} bytes, the limit of a Unix socket's path"));
    }
    absolute_path(text)
}

/// `1920x1080`.
pub(super) fn display_size(text: &str) -> Result<(u16, u16), String> {
    let side = |text: &str| text.parse().ok().filter(|side| DISPLAY_SIDE.contains(side));
    text.split_once('x').and_then(|(width, height)| Some((side(width)?, side(height)?))).ok_or_else(|| {
        format!(
            "must be WIDTHxHEIGHT in pixels, each {} to {}: \"1920x1080\"",
            DISPLAY_SIDE.start(),
            DISPLAY_SIDE.end()
        )
    })
}

/// `unix:/path` or `tcp:host:port`.
pub(super) fn rfb_address(text: &str) -> Result<RfbAddress, String> {
    let refusal = || "must be \"unix:/path\" or \"tcp:host:port\" (an IPv6 address in brackets)".to_owned();
    if let Some(path) = text.strip_prefix("unix:") {
        return socket_path(path).map(RfbAddress::Unix);
    }
    let (host, port) =
        text.strip_prefix("tcp:").and_then(|rest| rest.rsplit_once(':')).ok_or_else(refusal)?;
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(refusal)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            !host.is_empty() && host.bytes().all(allowed)
        }
    };
    if good { Ok(RfbAddress::Tcp(bare.unwrap_or(host).to_owned(), port)) } else { Err(refusal()) }
}

/// An origin exactly as browsers send it: scheme, host in lower case, port where it is not the scheme's own.
pub(super) fn origin(text: &str) -> Result<String, String> {
    if text == "*" || text == "null" {
        return Err("would let every page on the web open a viewer's session: name each origin".to_owned());
    }
    let url = reqwest::Url::parse(text);
    let url = url.ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some());
    let Some(url) = url else {
        return Err("must be an origin like \"https://app.example.org\"".to_owned());
    };
    let canonical = url.origin().ascii_serialization();
    if canonical == text {
        return Ok(canonical);
    }
    Err(format!("must be an origin as browsers send it, without a path: \"{canonical}\""))
}

/// Where browsers reach the gateway: a scheme, a host, and a path where something in front of it adds one.
pub(super) fn public_url(text: &str) -> Result<String, String> {
    let url = reqwest::Url::parse(text);
    let good = |url: &reqwest::Url| {
        let bare = url.query().is_none() && url.fragment().is_none();
        let anonymous = url.username().is_empty() && url.password().is_none();
        matches!(url.scheme(), "http" | "https") && url.host().is_some() && bare && anonymous
    };
    match url.ok().filter(good) {
        Some(url) => Ok(url.as_str().trim_end_matches('/').to_owned()),
        None => Err("must be an http or https URL like \"https://host-7.sandbox.example.org\"".to_owned()),
    }
}

/// `https://…`, or `http://` on loopback; without a user name in it, since it is logged.
pub(super) fn key_set_url(text: &str) -> Result<String, String> {
    let refusal = || "must be an https URL, or http on a loopback address".to_owned();
    let url = reqwest::Url::parse(text).map_err(|_| refusal())?;
    let loopback = match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
            address.is_ok_and(|address| address.is_loopback())
        }
        None => false,
    };
    match url.scheme() {
        _ if !url.username().is_empty() || url.password().is_some() => {
            Err("must have no user name or password".to_owned())
        }
        "https" => Ok(url.into()),
        "http" if loopback => Ok(url.into()),
        _ => Err(refusal()),
    }
}

/// Where reports are sent: as [`key_set_url`], and without what would stand behind the path.
pub(super) fn control_plane_url(text: &str) -> Result<String, String> {
    let url = key_set_url(text)?;
    if url.contains(['?', '#']) {
        return Err("must have no query and no fragment: paths are added to it".to_owned());
    }
    Ok(url.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_a_whole_number_and_a_binary_unit() {
        for (text, bytes) in
            [("64KiB", 64 << 10), ("512MiB", 512 << 20), ("1GiB", 1 << 30), ("3GiB", 3 << 30)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
            assert_eq!(write_size(bytes), text);
        }
        for bad in ["", "1", "1G", "1GB", "GiB", "-1GiB", "1.5GiB", "99999999999GiB", "1 GiB"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_rfb_address_is_a_socket_or_a_host_and_port() {
        assert_eq!(rfb_address("unix:/run/x/rfb.sock"), Ok(RfbAddress::Unix("/run/x/rfb.sock".into())));
        assert_eq!(rfb_address("tcp:vnc.local:5900"), Ok(RfbAddress::Tcp("vnc.local".into(), 5900)));
        assert_eq!(rfb_address("tcp:[::1]:5901"), Ok(RfbAddress::Tcp("::1".into(), 5901)));
        for bad in [
            "",
            "unix:",
            "unix:rel",
            "tcp:host",
            "tcp::5900",
            "tcp:host:0",
            "tcp:host:65536",
            "tcp:::1:5900",
            "host:5900",
        ] {
            assert!(rfb_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_origin_must_be_what_a_browser_would_send() {
        for good in ["https://app.example.org", "http://localhost:3000", "https://[::1]:8443"] {
            assert_eq!(origin(good).as_deref(), Ok(good));
        }
        for bad in [
            "*",
            "null",
            "",
            "app.example.org",
            "https://app.example.org/",
            "https://App.example.org",
            "https://a:443",
            "ftp://a",
            "https://u@a",
        ] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_public_url_has_a_host_and_nothing_after_its_path() {
        for (text, kept) in [
            ("https://host-7.sandbox.example.org", "https://host-7.sandbox.example.org"),
            ("https://example.org/host-7/", "https://example.org/host-7"),
            ("http://10.0.0.1:6080/", "http://10.0.0.1:6080"),
        ] {
            assert_eq!(public_url(text).as_deref(), Ok(kept));
        }
        for bad in ["", "example.org", "wss://a", "https://u@a/", "https://a/?b", "https://a/#b"] {
            assert!(public_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_are_fetched_over_tls_or_from_loopback_only() {
        for good in [
            "https://id.example.org/jwks",
            "http://127.0.0.1:9000/jwks",
            "http://localhost/jwks",
            "http://[::1]:1/",
        ] {
            assert!(key_set_url(good).is_ok(), "{good}");
        }
        for bad in [
            "http://id.example.org/jwks",
            "http://127.0.0.1.example.org/",
            "ftp://a",
            "jwks",
            "https://u:p@a/",
            "http://10.0.0.1/",
        ] {
            assert!(key_set_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_have_two_sides_in_range() {
        assert_eq!(display_size("1280x720"), Ok((1280, 720)));
        for bad in ["", "1280", "1280x", "x720", "63x720", "1280x8193", "1280x720x24", "70000x70000", "-1x5"]
        {
            assert!(display_size(bad).is_err(), "{bad}");
        }
    }
}
