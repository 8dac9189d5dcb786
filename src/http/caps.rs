//! How many connections there may be, counted before anything is read from them.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::Limits;

/// Which limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// Connections in all.
    Connections,
    /// Connections from this address.
    Address,
}

/// The counts. A mutex, because places are given back by destructors; it is held for a few map operations.
#[derive(Debug)]
pub(super) struct Caps {
    max_connections: usize,
    max_per_address: usize,
    max_unauthenticated: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    total: usize,
    per_address: HashMap<IpAddr, usize>,
    /// Connections that have not shown a credential, oldest first.
    unauthenticated: BTreeMap<u64, CancellationToken>,
    next_id: u64,
}

impl Caps {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            max_connections: limits.max_connections,
            max_per_address: limits.max_per_address,
            max_unauthenticated: limits.max_unauthenticated,
            state: Mutex::default(),
        }
    }

    /// Gives a place to a new connection. Where too many wait without a credential, the oldest of them loses its own:
    /// a flood of silent connections pushes itself out, and somebody honest gets in.
    pub(super) fn admit(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Slot, Full> {
        let address = address.map(network);
        let mut state = self.lock();
        if state.total >= self.max_connections {
            return Err(Full::Connections);
        }
        if let Some(address) = address {
            let of_address = state.per_address.entry(address).or_default();
            if *of_address >= self.max_per_address {
                return Err(Full::Address);
            }
            *of_address += 1;
        }
        state.total += 1;
        if state.unauthenticated.len() >= self.max_unauthenticated
            && let Some((_, oldest)) = state.unauthenticated.pop_first()
        {
            oldest.cancel();
        }
        let id = state.next_id;
        state.next_id += 1;
        let evicted = CancellationToken::new();
        state.unauthenticated.insert(id, evicted.clone());
        drop(state);
        Ok(Slot { caps: Arc::clone(self), id, address, evicted })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The counts are whole between statements, so a panic elsewhere does not spoil them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    caps: Arc<Caps>,
    id: u64,
    address: Option<IpAddr>,
    evicted: CancellationToken,
}

impl Slot {
    /// The connection has shown a good credential and cannot be pushed out any more.
    pub(super) fn authenticated(&self) {
        self.caps.lock().unauthenticated.remove(&self.id);
    }

    /// Ends when a newer connection needs the place.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.caps.lock();
        state.total -= 1;
        state.unauthenticated.remove(&self.id);
        if let Some(address) = self.address
            && let Some(count) = state.per_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                state.per_address.remove(&address);
            }
        }
    }
}

/// What counts as one address: an IPv4 address, or the /64 that an IPv6 host has to itself.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn caps(total: usize, per_address: usize, unauthenticated: usize) -> Arc<Caps> {
        Arc::new(Caps::new(&Limits {
            max_connections: total,
            max_per_address: per_address,
            max_unauthenticated: unauthenticated,
            max_header_bytes: 8192,
            handshake_deadline: Duration::from_secs(5),
            connection_lifetime: Duration::from_secs(60),
        }))
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn one_address_cannot_take_all_places_and_gives_them_back() {
        let caps = caps(3, 2, 9);
        let a = caps.admit(ip("192.0.2.1")).unwrap();
        let _b = caps.admit(ip("::ffff:192.0.2.1")).unwrap();
        assert_eq!(caps.admit(ip("192.0.2.1")).unwrap_err(), Full::Address);
        drop(a);
        let _c = caps.admit(ip("192.0.2.1")).unwrap();
        let _d = caps.admit(ip("192.0.2.2")).unwrap();
        assert_eq!(caps.admit(ip("192.0.2.3")).unwrap_err(), Full::Connections);
    }

    #[test]
    fn an_ipv6_host_is_its_64_bit_network() {
        let caps = caps(9, 1, 9);
        let _a = caps.admit(ip("2001:db8:1:2::1")).unwrap();
        assert_eq!(caps.admit(ip("2001:db8:1:2:ffff::9")).unwrap_err(), Full::Address);
        assert!(caps.admit(ip("2001:db8:1:3::1")).is_ok());
    }

    #[test]
    fn the_oldest_without_a_credential_makes_room() {
        let caps = caps(9, 9, 2);
        let a = caps.admit(ip("192.0.2.1")).unwrap();
        let b = caps.admit(ip("192.0.2.1")).unwrap();
        let c = caps.admit(ip("192.0.2.1")).unwrap();
        assert!(a.evicted.is_cancelled());
        b.authenticated();
        let d = caps.admit(ip("192.0.2.1")).unwrap();
        let _e = caps.admit(ip("192.0.2.1")).unwrap();
        assert!(!b.evicted.is_cancelled());
        assert!(c.evicted.is_cancelled());
        assert!(!d.evicted.is_cancelled());
    }
}
