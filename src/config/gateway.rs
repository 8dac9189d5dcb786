//! `[gateway]` and `[gateway.limits]`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::document::{Document, Section, Show};
use super::host::listener;
use super::values::{absolute_path, origin, public_url};
use crate::gateway::Config;
use crate::gateway::config::{BadNetwork, Limits, Network, TlsFiles};

/// Where noVNC and its users look, since websockify.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 6080);
/// Most origins; each WebSocket's is compared with all.
const MAX_ORIGINS: usize = 64;
/// Most ranges of proxies; the published ranges of large ones are below.
const MAX_PROXIES: usize = 64;

/// A thousand viewers are far more than a host can draw for, and far fewer than its file descriptors.
const DEFAULT_MAX_CONNECTIONS: usize = 1024;
/// An office behind one address, with a few tabs each.
const DEFAULT_MAX_PER_ADDRESS: usize = 64;
/// Lets nobody fill the host with connections that never present a token.
const DEFAULT_MAX_UNAUTHENTICATED: usize = 256;
const DEFAULT_MAX_VIEWERS: usize = 20;
/// A client opens one, and perhaps one for each page.
const DEFAULT_MAX_CDP_CONNECTIONS: usize = 16;
/// A token of 4 KiB and a browser's own headers.
const DEFAULT_MAX_HEADER_BYTES: usize = 8192;
/// Several round trips on a bad mobile link.
const DEFAULT_HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// Below the 30 to 60 s after which proxies and NATs drop a silent connection.
const DEFAULT_PING_INTERVAL: Duration = Duration::from_secs(10);
const DEFAULT_PONG_DEADLINE: Duration = Duration::from_secs(10);
/// 64 KiB in 10 s is slower than a picture can be of use, and x11vnc serves nobody else meanwhile.
const DEFAULT_SEND_DEADLINE: Duration = Duration::from_secs(10);

pub(super) fn gateway(document: &mut Document, cdp: crate::cdp::Settings) -> Config {
    let mut section = document.section("gateway");
    let listen = section.parsed("listen", listener).unwrap_or(DEFAULT_LISTEN);
    let public_url = section.parsed("public_url", public_url);
    let tls = tls(&mut section);
    let allowed_origins = origins(&mut section);
    let trusted_proxies = proxies(&mut section);
    let static_dir = section.parsed("static_dir", absolute_path);
    let limits = limits(section.section("limits").0);
    section.finish();
    Config { listen, public_url, tls, allowed_origins, trusted_proxies, static_dir, limits, cdp }
}

fn tls(section: &mut Section<'_>) -> Option<TlsFiles> {
    let given = [section.has("tls_certificate"), section.has("tls_private_key")];
    let certificate = section.parsed("tls_certificate", absolute_path);
    let private_key = section.parsed("tls_private_key", absolute_path);
    match given {
        [true, false] => section.refuse("tls_private_key", "must be given when tls_certificate is"),
        [false, true] => section.refuse("tls_certificate", "must be given when tls_private_key is"),
        _ => {}
    }
    Some(TlsFiles { certificate: certificate?, private_key: private_key? })
}

fn origins(section: &mut Section<'_>) -> Vec<String> {
    let mut refused = Vec::new();
    let given = section.checked("allowed_origins", Show::Value, |texts: Vec<String>| {
        if texts.len() > MAX_ORIGINS {
            return Err(format!("must be {MAX_ORIGINS} at most"));
        }
        let mut good = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            match origin(text) {
                Ok(origin) => good.push(origin),
                Err(problem) => refused.push((index, text.clone(), problem)),
            }
        }
        Ok(good)
    });
    for (index, text, problem) in refused {
        section.refuse_item("allowed_origins", index, Some(&text), problem);
    }
    given.unwrap_or_default()
}

fn proxies(section: &mut Section<'_>) -> Vec<Network> {
    let mut refused = Vec::new();
    let given = section.checked("trusted_proxies", Show::Value, |texts: Vec<String>| {
        if texts.len() > MAX_PROXIES {
            return Err(format!("must be {MAX_PROXIES} at most"));
        }
        let mut good = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            match text.parse() {
                Ok(network) => good.push(network),
                Err(BadNetwork) => refused.push((index, text.clone())),
            }
        }
        Ok(good)
    });
    for (index, text) in refused {
        section.refuse_item("trusted_proxies", index, Some(&text), BadNetwork.to_string());
    }
    given.unwrap_or_default()
}

fn limits(mut section: Section<'_>) -> Limits {
    const SHORTEST: Duration = Duration::from_millis(100);
    const MINUTE: Duration = Duration::from_secs(60);
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let limits = Limits {
        max_connections: section.number("max_connections", DEFAULT_MAX_CONNECTIONS, 1..=65_535),
        max_connections_per_address: section.number(
            "max_connections_per_address",
            DEFAULT_MAX_PER_ADDRESS,
            1..=65_535,
        ),
        max_unauthenticated: section.number("max_unauthenticated", DEFAULT_MAX_UNAUTHENTICATED, 1..=65_535),
        max_viewers_per_session: section.number("max_viewers_per_session", DEFAULT_MAX_VIEWERS, 1..=1_000),
        max_cdp_connections_per_session: section.number(
            "max_cdp_connections_per_session",
            DEFAULT_MAX_CDP_CONNECTIONS,
            1..=1_000,
        ),
        max_header_bytes: section.number("max_header_bytes", DEFAULT_MAX_HEADER_BYTES, 8_192..=65_536),
        handshake_deadline: section.duration(
            "handshake_deadline",
            DEFAULT_HANDSHAKE_DEADLINE,
            SHORTEST..=MINUTE,
        ),
        ping_interval: section.duration("ping_interval", DEFAULT_PING_INTERVAL, SHORTEST..=5 * MINUTE),
        pong_deadline: section.duration("pong_deadline", DEFAULT_PONG_DEADLINE, SHORTEST..=5 * MINUTE),
        send_deadline: section.duration("send_deadline", DEFAULT_SEND_DEADLINE, SHORTEST..=5 * MINUTE),
        idle_timeout: section.optional_duration("idle_timeout", None, SHORTEST..=DAY),
    };
    section.finish();
    limits
}
