//! The ids that peers put on the packets of their connections (RFC 9000 §5.1), and by which a relay that was started again
//! knows those of the one before.
//!
//! quinn has such ids, too, of which 24 bits are random. One is drawn for each Retry without a look at those in use, and a
//! peer that got one of another connection is never answered: with 2,000 hosts and their devices at a relay that is one of
//! a thousand. Here it is 64 bits.

use std::sync::Arc;

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

const RANDOM: usize = 8;
const TAG: usize = 4;

/// Makes ids, and knows them. Each connection has one: they share the key.
pub(super) struct ConnectionIds {
    key: Arc<hmac::Key>,
    rng: SystemRandom,
}

impl ConnectionIds {
    pub(super) fn new(key: Arc<hmac::Key>) -> Self {
        Self { key, rng: SystemRandom::new() }
    }
}

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; RANDOM + TAG];
        let (random, tag) = id.split_at_mut(RANDOM);
        self.rng.fill(random).expect("the system has random numbers");
        tag.copy_from_slice(&hmac::sign(&self.key, random).as_ref()[..TAG]);
        ConnectionId::new(&id)
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        let (random, tag) = id.split_at_checked(RANDOM).ok_or(InvalidCid)?;
        match hmac::sign(&self.key, random).as_ref().starts_with(tag) && tag.len() == TAG {
            true => Ok(()),
            false => Err(InvalidCid),
        }
    }

    fn cid_len(&self) -> usize {
        RANDOM + TAG
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn ids(key: u8) -> ConnectionIds {
        ConnectionIds::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &[key; 32])))
    }

    #[test]
    fn ids_are_not_drawn_twice() {
        let mut ids = ids(1);
        let drawn: HashSet<_> = (0..100_000).map(|_| ids.generate_cid().to_vec()).collect();
        assert_eq!(drawn.len(), 100_000);
    }

    #[test]
    fn ids_of_the_same_key_are_known_and_no_others() {
        let id = ids(1).generate_cid();
        assert_eq!(id.len(), ids(1).cid_len());
        assert!(ids(1).validate(&id).is_ok(), "one that was started again does not know it");
        assert!(ids(2).validate(&id).is_err(), "another one knows it");
        for part in 0..id.len() {
            let mut other = id.to_vec();
            other[part] ^= 1;
            assert!(ids(1).validate(&ConnectionId::new(&other)).is_err(), "byte {part} does not count");
            assert!(ids(1).validate(&ConnectionId::new(&id[..part])).is_err(), "{part} bytes are enough");
        }
        let long = [&id[..], &[0]].concat();
        assert!(ids(1).validate(&ConnectionId::new(&long)).is_err(), "one that is too long is known");
    }
}
