//! Who listens on a TCP port of loopback, as the kernel tells it.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use tokio::net::TcpStream;

use super::procfs::Stat;

/// In `/proc/net/tcp`, `st` of a listening socket.
const TCP_LISTEN: &str = "0A";
/// An answer without the attributes that we do not ask for is 88 bytes.
const MAX_ANSWER: usize = 4096;
/// Any cookie: the addresses name the socket (`INET_DIAG_NOCOOKIE`).
const ANY_COOKIE: [u8; 8] = [0xff; 8];

/// A socket that listens. Two that are equal are the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// Whose it is.
    pub uid: u32,
    /// Numbers of sockets come again after 2³² of them.
    inode: u32,
}

impl Listener {
    /// The oldest of these processes that holds it open; none where it is somebody else's.
    pub fn holder(self, processes: &[Stat]) -> Option<Stat> {
        let name = format!("socket:[{}]", self.inode);
        let holds = |stat: &&Stat| {
            // One that has ended meanwhile, or that may not be looked at, holds nothing that we could know of.
            let Ok(entries) = std::fs::read_dir(format!("/proc/{}/fd", stat.pid)) else { return false };
            let mut links = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
            links.any(|link| link.as_os_str() == name.as_str())
        };
        processes.iter().filter(holds).min_by_key(|stat| stat.start_time).copied()
    }
}

/// Whether this kernel tells of single sockets: one without that says of each that there is none.
static TELLS: AtomicBool = AtomicBool::new(false);

/// The socket that takes connections to `127.0.0.1:port`, if any. Asks the kernel for this one socket (sock_diag(7)); until
/// that has told of one, a "none" may mean that it was built without, and the whole table of proc(5) is read, which takes
/// milliseconds on a host with much memory.
///
/// # Errors
/// When the kernel tells neither way.
pub fn listener(port: u16) -> io::Result<Option<Listener>> {
    match ask(port) {
        Ok(Some(listener)) => {
            TELLS.store(true, Ordering::Relaxed);
            Ok(Some(listener))
        }
        Ok(None) if TELLS.load(Ordering::Relaxed) => Ok(None),
        Ok(None) | Err(_) => read(port),
    }
}

/// Connects to `port` of loopback where `look` takes who listens there: before and after, and the same socket both times, so that
/// there was no other in between. The caller sets the deadline.
///
/// # Errors
/// Those of `look`, and when it is another socket afterwards or none can be connected to.
pub async fn connect_to_known(
    port: u16,
    look: impl Fn(Option<Listener>) -> io::Result<Listener>,
) -> io::Result<TcpStream> {
    let before = look(listener(port)?)?;
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    if look(listener(port)?)? != before {
        return Err(io::Error::other(format!("port {port} changed hands")));
    }
    Ok(stream)
}

fn ask(port: u16) -> io::Result<Option<Listener>> {
    let request = InetRequest {
        family: AF_INET,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::LISTEN,
        socket_id: SocketId {
            source_port: port,
            source_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            cookie: ANY_COOKIE,
            ..SocketId::new_v4()
        },
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
    send(socket.as_raw_fd(), &bytes, MsgFlags::empty())?;
    let mut answer = vec![0; MAX_ANSWER];
    // The kernel has answered before `send` returns.
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT)?;
    answer.truncate(length);
    let answer = NetlinkMessage::<SockDiagMessage>::deserialize(&answer).map_err(io::Error::other)?;
    match answer.payload {
        NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
            let header = &response.header;
            Ok(Some(Listener { uid: header.uid, inode: header.inode }))
        }
        _not_found => Ok(None),
    }
}

fn read(port: u16) -> io::Result<Option<Listener>> {
    std::fs::read_to_string("/proc/net/tcp").map(|table| find(&table, port))
}

fn find(table: &str, port: u16) -> Option<Listener> {
    let local = format!("0100007F:{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        if fields.next()? != local || fields.nth(1)? != TCP_LISTEN {
            return None;
        }
        // After `st`: tx:rx queues, timer, retransmits, uid, timeout, inode.
        let uid = fields.nth(3)?.parse().ok()?;
        Some(Listener { uid, inode: fields.nth(1)?.parse().ok()? })
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2406 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 12346 1 0000000000000000 20 4 30 10 -1
   1: 0100007F:2406 00000000:0000 0A 00000000:00000000 00:00000000 00000000 20007        0 12345 1 0000000000000000 100 0 0 10 0
";

    #[test]
    fn the_listener_counts_not_its_connections() {
        assert_eq!(find(TABLE, 0x2406), Some(Listener { uid: 20007, inode: 12345 }));
        assert_eq!(find(TABLE, 9223), None);
    }

    #[test]
    fn a_listener_is_held_by_whoever_has_it_open_and_nobody_else() {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let told = listener(socket.local_addr().unwrap().port()).unwrap().unwrap();
        let own = Stat::of(std::process::id()).unwrap();
        let parent = Stat::of(own.ppid).unwrap();
        assert_eq!(told.holder(&[parent, own]), Some(own));
        assert_eq!(told.holder(&[parent]), None);
    }

    #[test]
    fn both_ways_tell_the_same_of_a_real_one() {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let _connection = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let told = listener(port).unwrap().unwrap();
        assert_eq!(told.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(read(port).unwrap(), Some(told));
        assert_eq!(ask(port).unwrap(), Some(told), "control: this kernel tells of single sockets");
        drop(socket);
        assert_eq!(listener(port).unwrap(), None);
        let another = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert_ne!(listener(port).unwrap(), Some(told), "another socket on the same port is another");
        drop(another);
    }
}
