//! What pages are fetched through, checked once where it enters.

use std::fmt;
use std::str::FromStr;

/// Longest address of a proxy, in bytes: a host name has 253 at most.
const MAX_PROXY_BYTES: usize = 300;
/// What Chromium takes as the scheme of a proxy.
const PROXY_SCHEMES: [&str; 4] = ["http", "https", "socks4", "socks5"];

/// A proxy, as `scheme://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy(String);

/// Why a text is no proxy that a browser can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadProxy {
    /// Arguments can be seen by every process, and Chromium takes no credentials there anyway.
    #[error("must not hold a user name or password")]
    Credentials,
    /// It is something else.
    #[error("must be scheme://host:port with one of the schemes {}", PROXY_SCHEMES.join(", "))]
    Form,
}

impl FromStr for Proxy {
    type Err = BadProxy;

    fn from_str(text: &str) -> Result<Self, BadProxy> {
        let (scheme, rest) = text.split_once("://").ok_or(BadProxy::Form)?;
        if rest.contains('@') {
            return Err(BadProxy::Credentials);
        }
        let (host, port) = rest.trim_end_matches('/').rsplit_once(':').ok_or(BadProxy::Form)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host_is_good = match bracketed {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            // Chromium reads a list with different meanings where there is one of `,;=`.
            None => {
                !host.is_empty()
                    && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
            }
        };
        let port_is_good = port.parse::<u16>().is_ok_and(|port| port > 0);
        if host_is_good && port_is_good && PROXY_SCHEMES.contains(&scheme) && text.len() <= MAX_PROXY_BYTES {
            return Ok(Self(text.trim_end_matches('/').to_owned()));
        }
        Err(BadProxy::Form)
    }
}

impl Proxy {
    /// Scheme, host and port. An IPv6 address is in brackets.
    pub fn parts(&self) -> (&str, &str, u16) {
        let (scheme, rest) = self.0.split_once("://").unwrap_or_default();
        let (host, port) = rest.rsplit_once(':').unwrap_or_default();
        (scheme, host, port.parse().unwrap_or_default())
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_one_server_without_credentials() {
        for good in ["http://proxy.example.org:8080", "socks5://10.0.0.1:1080", "https://[2001:db8::1]:443"] {
            assert_eq!(good.parse::<Proxy>().unwrap().to_string(), good);
        }
        let parts = |text: &str| {
            let proxy: Proxy = text.parse().unwrap();
            let (scheme, host, port) = proxy.parts();
            format!("{scheme} {host} {port}")
        };
        assert_eq!(parts("socks5://10.0.0.1:1080/"), "socks5 10.0.0.1 1080");
        assert_eq!(parts("https://[2001:db8::1]:443"), "https [2001:db8::1] 443");
        assert_eq!("http://u:p@h:1".parse::<Proxy>(), Err(BadProxy::Credentials));
        for bad in [
            "",
            "proxy:8080",
            "ftp://h:1",
            "http://h",
            "http://h:0",
            "http://h:65536",
            "http://:1",
            "http://a;https=b:1",
            "http://a,b:1",
            "http://h:1 --no-sandbox:1",
            "http://[::1:1",
            "direct://",
        ] {
            assert_eq!(bad.parse::<Proxy>(), Err(BadProxy::Form), "{bad}");
        }
    }
}
