//! Who is connected, and who of them has not proved a key yet.
//!
//! A connection costs a stranger nothing, and a relay has so many. So strangers have a share of them
//! ([`Limits::unproven`](crate::limits::Limits::unproven)), an address has a share of that, and none stays for long.
//! When a share is full, a newcomer takes a place in it: of the oldest stranger of its own address, or, where all are too
//! many, of the address that has most of them. It needs a few round trips to prove itself, and whoever has filled the
//! share pays with connections of their own. Nobody is turned away for the sake of strangers: behind one address (an
//! office, a proxy that nobody named) there may be somebody else.
//! Peers that have proved a key, and devices that a host waits for (pairing), are not counted here any more, and
//! never make room.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::attempts::bucket;
use crate::limits::{Limit, Limits};
use crate::metrics::Metrics;

/// See the module's header.
pub(crate) struct Door {
    connections: usize,
    unproven: usize,
    per_address: usize,
    metrics: Arc<Metrics>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// All connections.
    open: usize,
    /// Those of strangers.
    strangers: usize,
    /// By address, from the oldest on, what puts each out. No address is without one.
    addresses: HashMap<IpAddr, BTreeMap<u64, CancellationToken>>,
    /// Addresses by how many they have, and among equals by how old the oldest is: the last one has to make room.
    crowded: BTreeSet<(usize, Reverse<u64>, IpAddr)>,
    /// Number of the next connection.
    next: u64,
}

/// A connection. It counts for as long as this lives.
pub(crate) struct Place {
    door: Arc<Door>,
    /// Whose share it counts in.
    address: Mutex<IpAddr>,
    number: u64,
    put_out: CancellationToken,
}

impl Door {
    pub(crate) fn new(limits: &Limits, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            connections: limits.connections,
            unproven: limits.unproven.min(limits.connections),
            per_address: limits.unproven_per_address,
            metrics,
            table: Mutex::default(),
        })
    }

    /// Takes in a stranger. `is_proxy`: many come from this address, and it has no share of its own to keep to.
    pub(crate) fn enter(self: &Arc<Self>, from: IpAddr, is_proxy: bool) -> Result<Place, Limit> {
        let address = bucket(from);
        let mut table = self.table();
        if !is_proxy {
            self.keep_to_share(&mut table, address);
        }
        if table.strangers >= self.unproven || table.open >= self.connections {
            if !table.make_room() {
                return Err(Limit::Connections);
            }
            self.metrics.limit(Limit::Unproven);
        }
        let put_out = CancellationToken::new();
        let number = table.add(address, put_out.clone());
        Ok(Place { door: self.clone(), address: Mutex::new(address), number, put_out })
    }

    /// Makes room for one more stranger of an address.
    fn keep_to_share(&self, table: &mut Table, address: IpAddr) {
        let oldest = table.addresses.get(&address).filter(|there| there.len() >= self.per_address);
        if let Some(oldest) = oldest.and_then(|there| there.first_key_value()).map(|(number, _)| *number) {
            table.put_out(address, oldest);
            self.metrics.limit(Limit::UnprovenPerAddress);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The stranger behind a proxy comes from this address, and counts there.
    pub(crate) fn comes_from(&self, from: IpAddr) {
        let (mut table, mut address, real) = (self.door.table(), self.address(), bucket(from));
        if real == *address || !table.forget(*address, self.number) {
            return;
        }
        *address = real;
        self.door.keep_to_share(&mut table, real);
        table.remember(real, self.number, self.put_out.clone());
    }

    /// The peer is no stranger any more: it keeps its place whoever comes, for as long as it likes.
    pub(crate) fn keep(&self) {
        self.door.table().forget(*self.address(), self.number);
    }

    /// Always taken after the table.
    fn address(&self) -> MutexGuard<'_, IpAddr> {
        self.address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancelled when a newcomer has taken the place, and never once it is kept.
    pub(crate) fn put_out(&self) -> &CancellationToken {
        &self.put_out
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.door.table();
        table.forget(*self.address(), self.number);
        // Who was put out was counted off then.
        if !self.put_out.is_cancelled() {
            table.open -= 1;
        }
    }
}

impl Table {
    fn add(&mut self, address: IpAddr, put_out: CancellationToken) -> u64 {
        let number = self.next;
        self.next += 1;
        self.open += 1;
        self.remember(address, number, put_out);
        number
    }

    /// A connection is a stranger's.
    fn remember(&mut self, address: IpAddr, number: u64, put_out: CancellationToken) {
        self.strangers += 1;
        self.change(address, |connections| drop(connections.insert(number, put_out)));
    }

    /// A connection is no stranger's any more; false where it was none's before.
    fn forget(&mut self, address: IpAddr, number: u64) -> bool {
        let mut was_there = false;
        self.change(address, |connections| was_there = connections.remove(&number).is_some());
        self.strangers -= usize::from(was_there);
        was_there
    }

    /// Puts out the oldest stranger of the most crowded address; false where there is none.
    fn make_room(&mut self) -> bool {
        let Some(&(_, Reverse(oldest), address)) = self.crowded.last() else { return false };
        self.put_out(address, oldest)
    }

    /// Puts a stranger out; false where there is no such one.
    fn put_out(&mut self, address: IpAddr, number: u64) -> bool {
        let mut put_out = None;
        self.change(address, |connections| put_out = connections.remove(&number));
        let Some(put_out) = put_out else { return false };
        put_out.cancel();
        self.strangers -= 1;
        self.open -= 1;
        true
    }

    /// Changes what an address has, and where it stands among the others.
    fn change(&mut self, address: IpAddr, edit: impl FnOnce(&mut BTreeMap<u64, CancellationToken>)) {
        let connections = self.addresses.entry(address).or_default();
        if let Some(rank) = rank(address, connections) {
            self.crowded.remove(&rank);
        }
        edit(connections);
        match rank(address, connections) {
            Some(rank) => drop(self.crowded.insert(rank)),
            None => drop(self.addresses.remove(&address)),
        }
    }
}

fn rank(address: IpAddr, connections: &BTreeMap<u64, CancellationToken>) -> Option<(usize, Reverse<u64>, IpAddr)> {
    let (oldest, _) = connections.first_key_value()?;
    Some((connections.len(), Reverse(*oldest), address))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn door(connections: usize, unproven: usize, per_address: usize) -> Arc<Door> {
        let limits = Limits { connections, unproven, unproven_per_address: per_address, ..Limits::default() };
        Door::new(&limits, Arc::new(Metrics::new()))
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn is_out(place: &Place) -> bool {
        place.put_out().is_cancelled()
    }

    #[test]
    fn a_newcomer_takes_the_oldest_place_of_whoever_has_most() {
        let door = door(8, 4, 3);
        let greedy: Vec<_> = (0..3).map(|_| door.enter(address(1), false).unwrap()).collect();
        let quiet = door.enter(address(2), false).unwrap();
        let new = door.enter(address(3), false).unwrap();
        assert_eq!(greedy.iter().map(is_out).collect::<Vec<_>>(), [true, false, false]);
        // Of those that have as many, the one who has been there longest.
        drop(greedy);
        let [a, b] = [4, 5].map(|last| door.enter(address(last), false).unwrap());
        let c = door.enter(address(6), false).unwrap();
        assert!(is_out(&quiet) && ![&new, &a, &b, &c].into_iter().any(is_out));
    }

    #[test]
    fn a_newcomer_of_an_address_that_has_its_share_takes_the_oldest_place_of_it() {
        let door = door(100, 50, 3);
        let greedy: Vec<_> = (0..3).map(|_| door.enter(address(1), false).unwrap()).collect();
        let other = door.enter(address(2), false).unwrap();
        let new = door.enter(address(1), false).unwrap();
        assert_eq!(greedy.iter().map(is_out).collect::<Vec<_>>(), [true, false, false]);
        assert!(!is_out(&other) && !is_out(&new));
        // Who has proved a key leaves the share, and makes no room.
        new.keep();
        let newer: Vec<_> = (0..3).map(|_| door.enter(address(1), false).unwrap()).collect();
        assert!(greedy.iter().all(is_out) && !is_out(&new) && !newer.iter().any(is_out));
    }

    #[test]
    fn who_has_proved_a_key_makes_room_for_nobody_and_leaves_the_share() {
        let door = door(4, 2, 2);
        let kept: Vec<_> = (0..4)
            .map(|last| {
                let place = door.enter(address(last), false).unwrap();
                place.keep();
                place
            })
            .collect();
        assert_eq!(door.enter(address(9), false).err(), Some(Limit::Connections), "all places are kept");
        assert!(!kept.iter().any(is_out));
        drop(kept);
        assert!(door.enter(address(9), false).is_ok());
    }

    #[test]
    fn a_proxys_address_has_no_share_to_keep_to() {
        let door = door(100, 50, 2);
        let places: Vec<_> = (0..60).map(|_| door.enter(address(1), true).unwrap()).collect();
        assert_eq!(places.iter().filter(|place| is_out(place)).count(), 10);
    }

    #[test]
    fn who_comes_through_a_proxy_counts_where_it_comes_from() {
        let door = door(100, 4, 2);
        let proxied = |from: u8| {
            let place = door.enter(address(1), true).unwrap();
            place.comes_from(address(from));
            place
        };
        let (first, second, third) = (proxied(7), proxied(7), proxied(7));
        assert_eq!([&first, &second, &third].map(is_out), [true, false, false], "the address has its share");
        let (_b, _c) = (proxied(8), door.enter(address(9), false).unwrap());
        assert!(!is_out(&second));
        let _d = door.enter(address(9), false).unwrap();
        assert!(is_out(&second), "the one with most is not the proxy");
        // One that is kept or put out counts nowhere.
        first.comes_from(address(9));
        assert_eq!(door.table().strangers, 4);
    }

    proptest! {
        #[test]
        fn counts_stay_true_whatever_comes_and_goes(steps in proptest::collection::vec((0u8..4, 0u8..5), 1..200)) {
            let door = door(12, 6, 4);
            let mut places: Vec<Place> = Vec::new();
            for (what, which) in steps {
                let at = usize::from(which) % places.len().max(1);
                match what {
                    0 if !places.is_empty() => places[at].comes_from(address(which + 2)),
                    0 | 1 => places.extend(door.enter(address(which), false)),
                    2 if !places.is_empty() => drop(places.swap_remove(at)),
                    _ => if let Some(place) = places.get(at) { place.keep() },
                }
                let table = door.table();
                let strangers: usize = table.addresses.values().map(BTreeMap::len).sum();
                prop_assert_eq!(table.strangers, strangers);
                prop_assert!(strangers <= 6 && table.open <= 12);
                prop_assert!(table.addresses.values().all(|there| there.len() <= 4));
                prop_assert_eq!(table.open, places.iter().filter(|place| !is_out(place)).count());
                prop_assert_eq!(table.crowded.len(), table.addresses.len());
            }
            drop(places);
            let table = door.table();
            prop_assert_eq!((table.open, table.strangers, table.addresses.len()), (0, 0, 0));
        }
    }
}
