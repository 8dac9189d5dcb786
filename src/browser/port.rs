//! The DevTools port: choosing a free one, and telling whose it is.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;

/// In `/proc/net/tcp`, `st` of a listening socket.
const TCP_LISTEN: &str = "0A";

/// A loopback port of `range` that was free a moment ago. Chromium is given a number of our choice, since with port 0 it
/// would show `navigator.webdriver` to every page. The search begins at random, so that two browsers that start at once
/// rarely meet.
///
/// # Errors
/// When none is free.
pub(super) fn choose_free(range: &RangeInclusive<u16>) -> io::Result<u16> {
    let mut random = [0; 2];
    aws_lc_rs::rand::fill(&mut random).map_err(io::Error::other)?;
    let (first, count) = (*range.start(), u32::from(range.end() - range.start()) + 1);
    let random = u32::from(u16::from_be_bytes(random));
    let mut last_error = io::Error::from(io::ErrorKind::AddrInUse);
    for step in 0..count {
        let offset = u16::try_from((random + step) % count).unwrap_or_default();
        // Closed again before anybody connected: no TIME_WAIT is left behind.
        match TcpListener::bind((Ipv4Addr::LOCALHOST, first + offset)) {
            Ok(_free) => return Ok(first + offset),
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}

/// The uid that owns the socket listening on `127.0.0.1:port`, read from `/proc/net/tcp` (proc(5)).
///
/// # Errors
/// When the table cannot be read.
pub(super) fn listener_uid(port: u16) -> io::Result<Option<u32>> {
    std::fs::read_to_string("/proc/net/tcp").map(|table| find_listener(&table, port))
}

fn find_listener(table: &str, port: u16) -> Option<u32> {
    let local = format!("0100007F:{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let matches = fields.next()? == local && fields.nth(1)? == TCP_LISTEN;
        // After `st`: tx:rx queues, timer, retransmits, uid.
        if matches { fields.nth(3)?.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2406 00000000:0000 0A 00000000:00000000 00:00000000 00000000 20007        0 12345 1 0000000000000000 100 0 0 10 0
   1: 0100007F:2406 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 12346 1 0000000000000000 20 4 30 10 -1
";

    #[test]
    fn the_listener_counts_not_its_connections() {
        assert_eq!(find_listener(TABLE, 0x2406), Some(20007));
        assert_eq!(find_listener(TABLE, 9223), None);
    }

    #[test]
    fn our_own_listener_is_ours() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(listener_uid(port).unwrap(), Some(nix::unistd::geteuid().as_raw()));
        let error = choose_free(&(port..=port)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "the only one is taken");
        drop(listener);
        assert_eq!(choose_free(&(port..=port)).unwrap(), port);
    }
}
