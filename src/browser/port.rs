//! The DevTools port: choosing a free one, and telling whose it is.

use std::net::{Ipv4Addr, TcpListener};

/// In `/proc/net/tcp`, `st` of a listening socket.
const TCP_LISTEN: &str = "0A";

/// A loopback port that was free a moment ago. Chromium is given a number of our choice, since with port 0 it would show
/// `navigator.webdriver` to every page.
///
/// # Errors
/// When no port is left.
pub(super) fn choose_free() -> std::io::Result<u16> {
    // Bound without listening and closed again: no TIME_WAIT is left behind.
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr().map(|address| address.port())
}

/// The uid that owns the socket listening on `127.0.0.1:port`, read from `/proc/net/tcp` (proc(5)).
///
/// # Errors
/// When the table cannot be read.
pub(super) fn listener_uid(port: u16) -> std::io::Result<Option<u32>> {
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
        drop(listener);
        assert_ne!(choose_free().unwrap(), 0);
    }
}
