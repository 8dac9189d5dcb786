//! How this gateway is called from outside: by the request itself, or by a proxy in front of us that we know. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use hyper::header::{FORWARDED, HOST, HeaderMap};

/// Longest prefix under which a proxy may show us, in bytes.
const MAX_PREFIX: usize = 256;
/// Longest name of a host with its port, in bytes (RFC 1035 section 2.3.4, and five digits).
const MAX_HOST: usize = 261;

/// A range of addresses: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// The text is no range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be an address or ADDRESS/BITS with no address bit set behind BITS: \"10.0.0.0/8\", \"fd00::/8\""
)]
pub struct BadNetwork;

impl Network {
    /// Whether it has the address; an IPv4 address in IPv6 form counts as what it is.
    pub fn has(&self, address: IpAddr) -> bool {
        let (ours, theirs) = (self.address, address.to_canonical());
        ours.is_ipv4() == theirs.is_ipv4() && as_bits(theirs) & mask(self.bits, ours) == as_bits(ours)
    }
}

fn as_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn mask(bits: u8, address: IpAddr) -> u128 {
    let bits = if address.is_ipv4() { u32::from(bits) + 96 } else { u32::from(bits) };
    u128::MAX.checked_shl(128_u32.saturating_sub(bits)).unwrap_or(0)
}

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| BadNetwork)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().map_err(|_| BadNetwork)?
            }
            Some(_) => return Err(BadNetwork),
            None => most,
        };
        let mapped = matches!(address, IpAddr::V6(v6) if Ipv6Addr::to_ipv4_mapped(&v6).is_some());
        if bits > most || mapped || as_bits(address) & !mask(bits, address) != 0 {
            return Err(BadNetwork);
        }
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// The gateway's address as a client knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Public {
    tls: bool,
    host: String,
    prefix: String,
}

impl Public {
    /// The beginning of WebSocket URLs for `path`.
    pub(super) fn websocket(&self, path: &str) -> String {
        let scheme = if self.tls { "wss" } else { "ws" };
        format!("{scheme}://{}{}{path}", self.host, self.prefix)
    }
}

/// From the request's own `Host` and whether we end TLS; with `trusted`, from `Forwarded` (RFC 7239) or `X-Forwarded-*` where
/// they say more. Each proxy adds to these lists at their end, so the last entry is the one that our own peer wrote. What is
/// malformed is as if it were not there. `None` without any good host.
pub(super) fn public(headers: &HeaderMap, tls: bool, trusted: bool) -> Option<Public> {
    let own = single(headers, HOST.as_str()).filter(|host| is_host(host));
    let (mut proto, mut host, mut prefix) = (None, None, None);
    if trusted {
        (proto, host) = forwarded(headers);
        proto = proto.or_else(|| last(headers, "x-forwarded-proto").and_then(scheme));
        host = host.or_else(|| last(headers, "x-forwarded-host").filter(|host| is_host(host)));
        prefix = last(headers, "x-forwarded-prefix").filter(|prefix| is_prefix(prefix));
    }
    Some(Public {
        tls: proto.unwrap_or(tls),
        host: host.or(own)?.to_owned(),
        prefix: prefix.unwrap_or_default().trim_end_matches('/').to_owned(),
    })
}

/// `proto` and `host` of the last element of `Forwarded`.
fn forwarded(headers: &HeaderMap) -> (Option<bool>, Option<&str>) {
    let Some(element) = last(headers, FORWARDED.as_str()) else { return (None, None) };
    let value_of = |name: &str| {
        let mut values = element.split(';').filter_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            let value = value.trim();
            let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
            key.trim().eq_ignore_ascii_case(name).then_some(bare)
        });
        // Each at most once (section 4).
        values.next().filter(|_| values.next().is_none())
    };
    (value_of("proto").and_then(scheme), value_of("host").filter(|host| is_host(host)))
}

fn single<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())?.to_str().ok()
}

fn last<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let list = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    list.rsplit(',').next().map(str::trim)
}

fn scheme(proto: &str) -> Option<bool> {
    ["http", "https", "ws", "wss"]
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(proto))
        .map(|known| known.ends_with('s') && known != "ws")
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) if address.parse::<Ipv6Addr>().is_ok() => (None, port),
        Some(_) => return false,
        None => {
            let end = host.find(':').unwrap_or(host.len());
            let (name, port) = host.split_at(end);
            (Some(name), port)
        }
    };
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let good_name = name.is_none_or(|name| !name.is_empty() && name.bytes().all(letters));
    let digits = |digits: &str| {
        digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok_and(|port| port > 0)
    };
    host.len() <= MAX_HOST && good_name && (port.is_empty() || port.strip_prefix(':').is_some_and(digits))
}

fn is_prefix(prefix: &str) -> bool {
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_' | b'~');
    prefix.len() <= MAX_PREFIX
        && prefix.starts_with('/')
        && prefix.bytes().all(letters)
        && !prefix.contains("//")
        && !prefix.split('/').any(|part| part == "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(headers: &[(&'static str, &str)], tls: bool, trusted: bool) -> Option<String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        public(&map, tls, trusted).map(|public| public.websocket("/s"))
    }

    #[test]
    fn without_a_known_proxy_only_the_request_itself_counts() {
        let lies = [
            ("host", "h.example:6080"),
            ("forwarded", "proto=https;host=evil.example"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-prefix", "/x"),
        ];
        assert_eq!(url(&lies, false, false).as_deref(), Some("ws://h.example:6080/s"));
        assert_eq!(url(&lies, true, false).as_deref(), Some("wss://h.example:6080/s"));
        assert_eq!(url(&[("host", "[::1]:6080")], false, false).as_deref(), Some("ws://[::1]:6080/s"));
        assert_eq!(url(&[], false, false), None);
        assert_eq!(url(&[("host", "a"), ("host", "b")], false, false), None);
    }

    #[test]
    fn a_known_proxy_says_scheme_host_and_prefix_and_its_own_word_is_the_last() {
        let host = ("host", "10.0.0.2:6080");
        let cases = [
            (vec![("forwarded", "for=1.2.3.4;proto=https;host=h.example")], "wss://h.example/s"),
            (
                vec![(
                    "forwarded",
                    "host=evil.example;proto=http, For=\"[::1]\";Host=\"h.example:8443\";Proto=HTTPS",
                )],
                "wss://h.example:8443/s",
            ),
            (vec![("forwarded", "host=evil.example"), ("forwarded", "host=h.example")], "ws://h.example/s"),
            (
                vec![("x-forwarded-proto", "http, https"), ("x-forwarded-host", "evil.example,h.example")],
                "wss://h.example/s",
            ),
            (vec![("x-forwarded-prefix", "/edge/a/")], "ws://10.0.0.2:6080/edge/a/s"),
            (vec![("forwarded", "for=1.2.3.4"), ("x-forwarded-proto", "wss")], "wss://10.0.0.2:6080/s"),
        ];
        for (mut headers, expected) in cases {
            headers.push(host);
            assert_eq!(url(&headers, false, true).as_deref(), Some(expected), "{headers:?}");
        }
    }

    #[test]
    fn what_is_malformed_is_as_if_it_were_not_there() {
        for header in [
            ("forwarded", "host=h/../x"),
            ("forwarded", "host=a.example;host=b.example"),
            ("forwarded", "proto=javascript"),
            ("x-forwarded-host", "h.example/path"),
            ("x-forwarded-host", "user@h.example"),
            ("x-forwarded-host", "h.example:99999"),
            ("x-forwarded-host", "[::g]"),
            ("x-forwarded-host", ""),
            ("x-forwarded-proto", "gopher"),
            ("x-forwarded-prefix", "//evil.example"),
            ("x-forwarded-prefix", "/a/../b"),
            ("x-forwarded-prefix", "a"),
            ("x-forwarded-prefix", "/a?b"),
        ] {
            let given = url(&[("host", "h.example"), header], true, true);
            assert_eq!(given.as_deref(), Some("wss://h.example/s"), "{header:?}");
        }
    }

    #[test]
    fn networks_are_written_strictly_and_have_what_they_say() {
        let network = |text: &str| text.parse::<Network>();
        let has = |text: &str, address: &str| network(text).unwrap().has(address.parse().unwrap());
        assert!(has("10.0.0.0/8", "10.255.0.1") && has("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(!has("10.0.0.0/8", "11.0.0.1") && !has("10.0.0.0/8", "::a00:1"));
        assert!(has("10.1.2.3", "10.1.2.3") && !has("10.1.2.3", "10.1.2.4"));
        assert!(has("0.0.0.0/0", "203.0.113.9") && !has("0.0.0.0/0", "fd00::1"));
        assert!(has("fd00::/8", "fdaa::1") && !has("fd00::/8", "fe80::1") && !has("::/0", "10.0.0.1"));
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0/8",
            "fd00::/129",
            "::ffff:10.0.0.0/104",
            "any",
            "10.0.0.0/8 ",
        ] {
            assert_eq!(network(bad), Err(BadNetwork), "{bad}");
        }
        assert_eq!(network("10.0.0.0/8").unwrap().to_string(), "10.0.0.0/8");
    }
}
