//! `[isolation]`.

use std::ops::RangeInclusive;

use super::document::{Document, Section, Show};
use super::values::{parse_size, write_size};
use crate::session::{Isolation, Network};
use crate::sys::Destination;

/// Below the ports that systems give out by themselves (32768 and up), and above well-known services.
const DEFAULT_DEVTOOLS_PORTS: RangeInclusive<u16> = 21_000..=21_999;
/// Ports below need a privilege that sessions do not have.
const LEAST_PORT: u16 = 1_024;
/// Fewer than this, and a few browsers that restart at once find none.
const MIN_PORTS: u16 = 16;
/// Twice what a browser needs to keep shared memory in memory (512 MiB). It is a bound, not a reservation: what is used
/// counts as the session's memory.
const DEFAULT_SHM_BYTES: u64 = 1 << 30;
const SHM_BYTES: RangeInclusive<u64> = (16 << 20)..=(64 << 30);
const DEFAULT_NFT: &str = "/usr/sbin/nft";
/// Most further destinations: their rules are looked at one after the other for each connection.
const MAX_ALLOWED: usize = 256;

pub(super) fn isolation(document: &mut Document) -> Isolation {
    let mut section = document.section("isolation");
    let network = section.parsed("network", |text| match text {
        "auto" => Ok(Network::Auto),
        "filtered" => Ok(Network::Filtered),
        "open" => Ok(Network::Open),
        _ => Err("must be auto, filtered or open".to_owned()),
    });
    let isolation = Isolation {
        network: network.unwrap_or(Network::Auto),
        allow: allow(&mut section),
        devtools_ports: section.parsed("devtools_ports", ports).unwrap_or(DEFAULT_DEVTOOLS_PORTS),
        shm_bytes: section.parsed("shm_size", shm_size).unwrap_or(DEFAULT_SHM_BYTES),
        hide_processes: section.boolean("hide_processes", true),
        nft: section.path("nft", DEFAULT_NFT),
    };
    section.finish();
    isolation
}

fn allow(section: &mut Section<'_>) -> Vec<Destination> {
    let mut refused = Vec::new();
    let given = section.checked("allow", Show::Value, |texts: Vec<String>| {
        if texts.len() > MAX_ALLOWED {
            return Err(format!("must be {MAX_ALLOWED} at most"));
        }
        let mut good = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            match text.parse::<Destination>() {
                Ok(destination) => good.push(destination),
                Err(problem) => refused.push((index, text.clone(), problem.to_string())),
            }
        }
        Ok(good)
    });
    for (index, text, problem) in refused {
        section.refuse_item("allow", index, Some(&text), problem);
    }
    given.unwrap_or_default()
}

/// `21000-21999`.
fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port >= LEAST_PORT);
    let range = text.split_once('-').and_then(|(first, last)| Some((number(first)?, number(last)?)));
    match range {
        Some((first, last)) if last.checked_sub(first).is_some_and(|more| more >= MIN_PORTS - 1) => {
            Ok(first..=last)
        }
        _ => Err(format!(
            "must be FIRST-LAST with {MIN_PORTS} ports or more, none below {LEAST_PORT}: \"21000-21999\""
        )),
    }
}

fn shm_size(text: &str) -> Result<u64, String> {
    let bytes = parse_size(text)?;
    if SHM_BYTES.contains(&bytes) {
        return Ok(bytes);
    }
    Err(format!("must be {} to {}", write_size(*SHM_BYTES.start()), write_size(*SHM_BYTES.end())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_range_has_room_and_needs_no_privilege() {
        assert_eq!(ports("21000-21999"), Ok(21_000..=21_999));
        assert_eq!(ports("65520-65535"), Ok(65_520..=65_535));
        for bad in ["", "21000", "21000-", "21999-21000", "21000-21010", "80-200", "21000-70000", "a-b"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }
}
