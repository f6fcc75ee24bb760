//! Who may be at the door at once.
//!
//! A circuit costs the host a task and up to two timeouts before it is known to
//! be anybody. So a device gets few of them, however many it or the relay opens,
//! and pairings, which wait for a person, cannot take the place of links.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use reachback_proto::control::CircuitOrigin;
use reachback_proto::ids::DeviceId;

/// Circuits of one device that are not links yet: one, and a few that it gave up unseen by the relay.
const PER_DEVICE: usize = 4;
/// Circuits for pairing: a device in front of the person, and some that hear they are not it.
const PAIRINGS: usize = 4;

/// Counts circuits that are not links yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<Party, usize>>>);

/// Who the relay says a circuit is from. If it lies, it only crowds itself out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Party {
    Device(DeviceId),
    Pairing,
}

/// A circuit's place; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    party: Party,
}

impl Turns {
    /// A place for one more circuit, unless there are too many of its kind.
    pub(super) fn take(&self, origin: &CircuitOrigin) -> Option<Turn> {
        let (party, most) = match origin {
            CircuitOrigin::Device { key } => (Party::Device(DeviceId::of(key)), PER_DEVICE),
            CircuitOrigin::Pairing { .. } => (Party::Pairing, PAIRINGS),
        };
        let mut counts = self.lock();
        let count = counts.entry(party).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Turn { turns: self.clone(), party })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Party, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut counts = self.turns.lock();
        if let Some(count) = counts.get_mut(&self.party) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.party);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reachback_proto::ids::{PublicKey, RendezvousId};

    #[test]
    fn one_party_at_the_door_leaves_room_for_others_and_gives_its_own_back() {
        let turns = Turns::default();
        let device = |n| CircuitOrigin::Device { key: PublicKey([n; 32]) };
        let pairing = |n| CircuitOrigin::Pairing { rendezvous: RendezvousId([n; 16]) };
        let held: Vec<_> = std::iter::from_fn(|| turns.take(&device(1))).collect();
        assert_eq!(held.len(), PER_DEVICE);
        let other = turns.take(&device(2));
        assert!(other.is_some(), "another device is crowded out");
        let pairings: Vec<_> = (0..).map_while(|n| turns.take(&pairing(n))).collect();
        assert_eq!(pairings.len(), PAIRINGS, "another rendezvous is no other party: the relay may name any");
        drop(held);
        assert!(turns.take(&device(1)).is_some());
        drop((other, pairings));
        assert!(turns.lock().is_empty(), "who left is still counted");
    }
}
