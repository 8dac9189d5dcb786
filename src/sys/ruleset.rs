//! What a session may open a connection to, as text for `nft`. Pure.
//!
//! Only what opens a connection is judged: a TCP segment with SYN and without ACK, and every packet that is not TCP. All
//! other segments pass, so that a session's server (DevTools) can answer whom it serves. Connection tracking would say the
//! same at the price of tracking all of the host's loopback, and of a table that a page can fill.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

/// IPv4 that is not the public internet: this host, private and shared networks, link-local with the clouds' metadata
/// services, protocol assignments, benchmarks, multicast, and what is reserved with broadcast.
const CLOSED_V4: [(Ipv4Addr, u8); 11] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];
/// The same for IPv6. `::/96` holds `::` and `::1`; `fc00::/7` holds Fly's private network (`fdaa::/16`) and EC2's metadata
/// (`fd00:ec2::254`); `64:ff9b:1::/48` is for translation to networks that are not public.
const CLOSED_V6: [(Ipv6Addr, u8); 7] = [
    (Ipv6Addr::UNSPECIFIED, 96),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];
/// In front of an IPv4 address, for a translator (RFC 6052): the closed ones are closed this way round as well.
const TRANSLATED: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];
const DNS_PORT: u16 = 53;

/// What a session may reach although it is not the public internet: an address or a network, on one port or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination {
    address: IpAddr,
    prefix: u8,
    port: Option<u16>,
}

/// Not a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be an address or a network, with a port or without: \"10.1.2.3:8080\", \"10.0.0.0/24\", \"[fd00::1]:443\", \"fd00::/64\""
)]
pub struct BadDestination;

impl FromStr for Destination {
    type Err = BadDestination;

    fn from_str(text: &str) -> Result<Self, BadDestination> {
        let (network, port) = split_port(text)?;
        let (address, prefix) = match network.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (network, None),
        };
        let address: IpAddr = address.parse().map_err(|_| BadDestination)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().ok().filter(|prefix| *prefix <= most).ok_or(BadDestination)?
            }
            Some(_) => return Err(BadDestination),
            None => most,
        };
        // A network with host bits is a slip: /24 for /32, or the other way round.
        if masked(address, prefix) != address {
            return Err(BadDestination);
        }
        Ok(Self { address, prefix, port })
    }
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), BadDestination> {
    let port = |text: &str| match text.parse() {
        Ok(port) if port != 0 && !text.starts_with('+') => Ok(Some(port)),
        _ => Err(BadDestination),
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (network, rest) = rest.split_once(']').ok_or(BadDestination)?;
        return Ok((network, port(rest.strip_prefix(':').ok_or(BadDestination)?)?));
    }
    match text.split_once(':') {
        // Two colons are an IPv6 address.
        Some((network, rest)) if !rest.contains(':') => Ok((network, port(rest)?)),
        _ => Ok((text, None)),
    }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            Ipv4Addr::from(u32::from(address) & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            Ipv6Addr::from(u128::from(address) & mask).into()
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let single = self.prefix == if self.address.is_ipv4() { 32 } else { 128 };
        let network =
            if single { self.address.to_string() } else { format!("{}/{}", self.address, self.prefix) };
        match (self.port, self.address.is_ipv6()) {
            (Some(port), true) => write!(f, "[{network}]:{port}"),
            (Some(port), false) => write!(f, "{network}:{port}"),
            (None, _) => f.write_str(&network),
        }
    }
}

/// The rules for the sessions of one daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Uids of sessions.
    pub uids: RangeInclusive<u32>,
    /// Whose connections the browsers' DevTools ports take: the daemon's.
    pub daemon_uid: u32,
    /// The ports that browsers listen on.
    pub devtools_ports: RangeInclusive<u16>,
    /// Name servers, which often are in a closed range.
    pub resolvers: Vec<IpAddr>,
    /// Further destinations that sessions may reach.
    pub allow: Vec<Destination>,
    /// An app whose own servers listen on loopback.
    pub app: Option<AppFilter>,
}

/// A uid that may reach what sessions may, and loopback but for some ports: it talks to itself there. What else listens on
/// loopback cannot be told from its own by a rule, but for privileged ports, which are never its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppFilter {
    /// Its uid, which is no session's.
    pub uid: u32,
    /// Ports of loopback that stay closed to it: the daemon's.
    pub closed_ports: Vec<u16>,
}

/// The least port that needs no privilege.
const LEAST_OWN_PORT: u16 = 1024;

impl Filter {
    /// The transaction that puts these rules in force under `table`, in place of what stands there, or changes nothing.
    pub fn ruleset(&self, table: &str) -> String {
        let (first, last) = (self.devtools_ports.start(), self.devtools_ports.end());
        let mut text = removal(table);
        let mut line = |line: &str| {
            text.push_str(line);
            text.push('\n');
        };
        line(&format!("table inet {table} {{"));
        line("  chain output {");
        line("    type filter hook output priority 0; policy accept;");
        line(&format!(
            "    {OPENS} tcp dport {first}-{last} fib daddr type local meta skuid != {} counter reject with tcp reset",
            self.daemon_uid
        ));
        line(&format!("    meta skuid {}-{} jump session", self.uids.start(), self.uids.end()));
        if let Some(app) = &self.app {
            line(&format!("    meta skuid {} jump app", app.uid));
        }
        line("  }");
        if let Some(app) = &self.app {
            line("  chain app {");
            line(&format!("    meta l4proto tcp {} accept", OPENS.replace("==", "!=")));
            let closed: Vec<String> = app.closed_ports.iter().map(u16::to_string).collect();
            for loopback in ["ip daddr 127.0.0.1", "ip6 daddr ::1"] {
                if !closed.is_empty() {
                    line(&format!(
                        "    {loopback} tcp dport {{ {} }} counter jump refuse",
                        closed.join(", ")
                    ));
                }
                line(&format!("    {loopback} tcp dport {LEAST_OWN_PORT}-65535 accept"));
            }
            line("    jump session");
            line("  }");
        }
        line("  chain session {");
        line(&format!("    meta l4proto tcp {} accept", OPENS.replace("==", "!=")));
        for resolver in &self.resolvers {
            let family = family(*resolver);
            line(&format!(
                "    {family} daddr {resolver} meta l4proto {{ tcp, udp }} th dport {DNS_PORT} accept"
            ));
        }
        for Destination { address, prefix, port } in &self.allow {
            let port = port.map(|port| format!("meta l4proto {{ tcp, udp }} th dport {port} "));
            let port = port.unwrap_or_default();
            line(&format!("    {} daddr {address}/{prefix} {port}accept", family(*address)));
        }
        line("    fib daddr type { local, broadcast, anycast, multicast } counter jump refuse");
        line(&format!("    ip daddr {{ {} }} counter jump refuse", listed(CLOSED_V4)));
        line(&format!("    ip6 daddr {{ {} }} counter jump refuse", listed(CLOSED_V6)));
        line(&format!("    ip6 daddr {{ {} }} counter jump refuse", listed(CLOSED_V4.map(translated))));
        line("  }");
        line("  chain refuse {");
        line("    meta l4proto tcp reject with tcp reset");
        line("    reject with icmpx admin-prohibited");
        line("  }");
        line("}");
        text
    }
}

/// A segment that opens a TCP connection.
const OPENS: &str = "tcp flags & (syn | ack) == syn";

/// The transaction that removes `table`, whether it is there or not.
pub fn removal(table: &str) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _infallible = writeln!(text, "table inet {table}\ndelete table inet {table}");
    text
}

/// The name servers in the text of `/etc/resolv.conf`. One with a zone (`fe80::1%eth0`) is given without it.
pub fn resolvers(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let address = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
            address.split('%').next()?.parse().ok()
        })
        .collect()
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip6" }
}

fn translated((address, prefix): (Ipv4Addr, u8)) -> (Ipv6Addr, u8) {
    let [a, b, c, d] = address.octets();
    let [p0, p1, p2, p3, p4, p5] = TRANSLATED;
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    (Ipv6Addr::new(p0, p1, p2, p3, p4, p5, high, low), 96 + prefix)
}

fn listed<A: fmt::Display, const N: usize>(ranges: [(A, u8); N]) -> String {
    ranges.map(|(address, prefix)| format!("{address}/{prefix}")).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter() -> Filter {
        Filter {
            uids: 20_000..=29_999,
            daemon_uid: 0,
            devtools_ports: 21_000..=21_999,
            resolvers: resolvers(
                "# a comment\nnameserver 10.0.0.2\noptions ndots:1\nnameserver fe80::1%eth0\n",
            ),
            allow: vec!["10.1.2.3:8080".parse().unwrap(), "fd00::/64".parse().unwrap()],
            app: Some(AppFilter { uid: 19_999, closed_ports: vec![6080, 8089] }),
        }
    }

    #[test]
    fn destinations_are_addresses_or_networks_and_read_back_as_written() {
        for good in [
            "10.1.2.3",
            "10.1.2.3:8080",
            "10.0.0.0/24",
            "10.0.0.0/24:443",
            "0.0.0.0/0",
            "fd00::1",
            "[fd00::1]:443",
            "fd00::/64",
            "[fd00::/64]:443",
            "::/0",
        ] {
            assert_eq!(good.parse::<Destination>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "host",
            "10.1.2",
            "10.1.2.3:0",
            "10.1.2.3:65536",
            "10.1.2.3/33",
            "10.1.2.3/24",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "[fd00::1]",
            "[fd00::1",
            "fd00::1/64",
            "fd00::/129",
            "10.1.2.3; accept",
            "10.1.2.3:+80",
        ] {
            assert_eq!(bad.parse::<Destination>(), Err(BadDestination), "{bad}");
        }
    }

    #[test]
    fn what_may_pass_comes_before_what_is_refused_and_answers_before_both() {
        let text = filter().ruleset("valetd_0badcafe");
        let at = |needle: &str| text.find(needle).unwrap_or_else(|| panic!("{needle} in\n{text}"));
        let order = [
            "delete table inet valetd_0badcafe",
            "tcp flags & (syn | ack) == syn tcp dport 21000-21999 fib daddr type local meta skuid != 0 counter reject",
            "meta skuid 20000-29999 jump session",
            "meta l4proto tcp tcp flags & (syn | ack) != syn accept",
            "ip daddr 10.0.0.2 meta l4proto { tcp, udp } th dport 53 accept",
            "ip6 daddr fe80::1 meta l4proto { tcp, udp } th dport 53 accept",
            "ip daddr 10.1.2.3/32 meta l4proto { tcp, udp } th dport 8080 accept",
            "ip6 daddr fd00::/64 accept",
            "fib daddr type { local, broadcast, anycast, multicast } counter jump refuse",
            "127.0.0.0/8",
            "fc00::/7",
            "64:ff9b::a9fe:0/112",
        ];
        let found: Vec<usize> = order.into_iter().map(at).collect();
        assert!(found.is_sorted(), "{found:?}\n{text}");
        assert_eq!(text.matches("policy accept").count(), 1, "other traffic of the host is not judged");
    }

    #[test]
    fn an_app_reaches_its_own_loopback_and_no_port_of_the_daemons() {
        let text = filter().ruleset("t");
        let at = |needle: &str| text.find(needle).unwrap_or_else(|| panic!("{needle} in\n{text}"));
        let order = [
            "tcp dport 21000-21999 fib daddr type local meta skuid != 0 counter reject",
            "meta skuid 19999 jump app",
            "chain app {",
            "ip daddr 127.0.0.1 tcp dport { 6080, 8089 } counter jump refuse",
            "ip daddr 127.0.0.1 tcp dport 1024-65535 accept",
            "ip6 daddr ::1 tcp dport { 6080, 8089 } counter jump refuse",
            "ip6 daddr ::1 tcp dport 1024-65535 accept",
            "jump session\n  }\n  chain session {",
        ];
        let found: Vec<usize> = order.into_iter().map(at).collect();
        assert!(found.is_sorted(), "{found:?}\n{text}");
        let none = Filter { app: None, ..filter() }.ruleset("t");
        assert!(!none.contains("app"), "{none}");
    }

    #[test]
    fn translated_addresses_are_as_closed_as_the_plain_ones() {
        let metadata = translated((Ipv4Addr::new(169, 254, 0, 0), 16));
        assert_eq!(metadata, ("64:ff9b::a9fe:0".parse().unwrap(), 112));
    }
}
