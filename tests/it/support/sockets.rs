//! Which processes listen where, read from /proc as `ss -lp` does.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn inodes(pids: &[i32]) -> HashSet<u64> {
    pids.iter()
        .flat_map(|pid| std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten())
        .filter_map(|entry| {
            let target = std::fs::read_link(entry.ok()?.path()).ok()?;
            target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
        })
        .collect()
}

/// Addresses on which these processes listen with TCP.
pub(crate) fn tcp_listeners(pids: &[i32]) -> BTreeSet<String> {
    let ours = inodes(pids);
    let mut found = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in std::fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            let (local, state, inode) = (fields[1], fields[3], fields[9]);
            if state == "0A" && ours.contains(&inode.parse().unwrap()) {
                found.insert(address(local));
            }
        }
    }
    found
}

fn address(text: &str) -> String {
    let (host, port) = text.split_once(':').unwrap();
    let words: Vec<u32> =
        (0..host.len() / 8).map(|at| u32::from_str_radix(&host[at * 8..at * 8 + 8], 16).unwrap()).collect();
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let ip = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(four) => IpAddr::V4(Ipv4Addr::from(four)),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).unwrap())),
    };
    std::net::SocketAddr::new(ip, u16::from_str_radix(port, 16).unwrap()).to_string()
}

/// Abstract Unix sockets on which these processes listen.
pub(crate) fn abstract_listeners(pids: &[i32]) -> BTreeSet<String> {
    const ACCEPTING: u32 = 0x1_0000;
    let ours = inodes(pids);
    let table = std::fs::read_to_string("/proc/net/unix").unwrap();
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let listening = u32::from_str_radix(fields[3], 16).unwrap() & ACCEPTING != 0;
            let name = fields.get(7)?;
            let ours = ours.contains(&fields[6].parse().unwrap());
            (listening && ours && name.starts_with('@')).then(|| (*name).to_owned())
        })
        .collect()
}
