//! Sealed, padded records over a finished handshake.
//!
//! A record is a block with one Noise transport message. Nonces are counters
//! that never travel: a record that was lost, repeated, moved or altered does
//! not open, and nothing after it is trusted. So the first error is also the
//! last: both halves refuse to work on, and the link is dropped.
//!
//! Lengths are padded, because the length of a token betrays the token.

use std::sync::Arc;

use snow::{HandshakeState, StatelessTransportState};

use super::blocks::{BLOCK_HEADER, MAX_BLOCK, TAG_LEN};
use crate::wire::Write;

/// Largest plaintext of a record, in bytes, padding included: the unit in which channels take turns.
pub const MAX_RECORD_PLAINTEXT: usize = 16 * 1024;
/// Padding up to 1 KiB: multiples of this, in bytes.
const SMALL_STEP: usize = 128;
/// Padding above 1 KiB: multiples of this, in bytes.
const LARGE_STEP: usize = 1024;

/// Why a record was not sealed or not opened. The link is dead afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// More than fits a record.
    #[error("a record of {length} bytes, the limit is {MAX_RECORD_PLAINTEXT}")]
    TooLong {
        /// The plaintext's length.
        length: usize,
    },
    /// Altered, repeated, out of order, or sealed with another key.
    #[error("record does not open")]
    Unopened,
    /// It opened, but its length is not one of a padded record.
    #[error("a record of {length} bytes is not padded")]
    Unpadded {
        /// The plaintext's length.
        length: usize,
    },
    /// All nonces of this link are used.
    #[error("all nonces of the link are used")]
    Exhausted,
    /// An error before this one ended the link.
    #[error("the link has failed before")]
    Dead,
}

/// The length that `length` bytes are padded to; `None` if they don't fit a record.
///
/// At least 128, even for nothing; multiples of 128 up to 1 KiB, of 1 KiB up to 16 KiB.
pub const fn padded_len(length: usize) -> Option<usize> {
    match length {
        0 => Some(SMALL_STEP),
        1..=LARGE_STEP => Some(length.next_multiple_of(SMALL_STEP)),
        _ if length <= MAX_RECORD_PLAINTEXT => Some(length.next_multiple_of(LARGE_STEP)),
        _ => None,
    }
}

/// What a finished handshake leaves: the records of a link, both ways.
pub struct Records {
    keys: Arc<StatelessTransportState>,
    handshake_hash: [u8; 32],
}

impl Records {
    pub(super) fn new(handshake: HandshakeState) -> Result<Self, snow::Error> {
        let mut handshake_hash = [0; 32];
        handshake_hash.copy_from_slice(handshake.get_handshake_hash());
        let keys = Arc::new(handshake.into_stateless_transport_mode()?);
        Ok(Self { keys, handshake_hash })
    }

    /// Noise's hash of the whole handshake: the same at both ends, and nowhere else.
    pub fn handshake_hash(&self) -> &[u8; 32] {
        &self.handshake_hash
    }

    /// The two directions, for a writing and a reading task.
    pub fn split(self) -> (Sealer, Opener) {
        let sealer = Sealer { keys: self.keys.clone(), nonce: 0, dead: false };
        let opener = Opener { keys: self.keys, nonce: 0, dead: false };
        (sealer, opener)
    }
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Records(…)")
    }
}

/// The sending half of a [`Records`].
pub struct Sealer {
    keys: Arc<StatelessTransportState>,
    nonce: u64,
    dead: bool,
}

impl Sealer {
    /// Pads `plaintext` in place and appends the sealed block, length included, to `out`.
    ///
    /// With the same buffers again, it allocates nothing once they have grown.
    pub fn seal(&mut self, plaintext: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), RecordError> {
        if self.dead {
            return Err(RecordError::Dead);
        }
        let start = out.len();
        self.try_seal(plaintext, out).inspect_err(|_| {
            self.dead = true;
            out.truncate(start);
        })
    }

    fn try_seal(&mut self, plaintext: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), RecordError> {
        let length = plaintext.len();
        let padded = padded_len(length).ok_or(RecordError::TooLong { length })?;
        plaintext.resize(padded, 0);
        out.put_u16((padded + TAG_LEN) as u16);
        let start = out.len();
        out.resize(start + padded + TAG_LEN, 0);
        // The lengths are right, so only a used-up counter is left to fail.
        self.keys.write_message(self.nonce, plaintext, &mut out[start..]).map_err(|_| RecordError::Exhausted)?;
        self.nonce += 1;
        Ok(())
    }

    /// The size of the block that [`seal`](Self::seal) makes of `length` bytes, its header included.
    pub fn sealed_len(length: usize) -> Option<usize> {
        padded_len(length).map(|padded| BLOCK_HEADER + padded + TAG_LEN)
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("sealed", &self.nonce).field("dead", &self.dead).finish()
    }
}

/// The receiving half of a [`Records`].
pub struct Opener {
    keys: Arc<StatelessTransportState>,
    nonce: u64,
    dead: bool,
}

impl Opener {
    /// Replaces `out` by the plaintext of `block`, padding included; leaves it empty on error.
    ///
    /// With the same buffer again, it allocates nothing once it has grown.
    pub fn open(&mut self, block: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
        let opened = if self.dead { Err(RecordError::Dead) } else { self.try_open(block, out) };
        opened.inspect_err(|_| {
            self.dead = true;
            out.clear();
        })
    }

    fn try_open(&mut self, block: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
        if block.len() > MAX_BLOCK {
            return Err(RecordError::TooLong { length: block.len() - TAG_LEN });
        }
        // Room for the tag as well: with less, snow opens into a new buffer and copies. What was there before is written over.
        out.resize(block.len(), 0);
        let length = self.keys.read_message(self.nonce, block, out).map_err(|err| match err {
            snow::Error::State(_) => RecordError::Exhausted,
            _ => RecordError::Unopened,
        })?;
        if padded_len(length) != Some(length) {
            return Err(RecordError::Unpadded { length });
        }
        self.nonce += 1;
        out.truncate(length);
        Ok(())
    }
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").field("opened", &self.nonce).field("dead", &self.dead).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::handshake::tests::linked;

    /// One record's block, without its length.
    fn sealed(sealer: &mut Sealer, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        sealer.seal(&mut text.to_vec(), &mut out).unwrap();
        assert_eq!(usize::from(u16::from_be_bytes([out[0], out[1]])), out.len() - BLOCK_HEADER);
        out.split_off(BLOCK_HEADER)
    }

    /// Device's sealer, host's opener.
    fn pair() -> (Sealer, Opener) {
        let (device, host) = linked();
        (device.split().0, host.split().1)
    }

    #[test]
    fn every_boundary_of_the_padding_rule() {
        for (length, padded) in [
            (0, 128),
            (1, 128),
            (127, 128),
            (128, 128),
            (129, 256),
            (896, 896),
            (897, 1024),
            (1023, 1024),
            (1024, 1024),
            (1025, 2048),
            (2048, 2048),
            (2049, 3072),
            (15 * 1024, 15 * 1024),
            (15 * 1024 + 1, 16 * 1024),
            (16 * 1024, 16 * 1024),
        ] {
            assert_eq!(padded_len(length), Some(padded), "{length}");
            assert_eq!(padded_len(padded), Some(padded), "{padded} is padded already");
            assert_eq!(Sealer::sealed_len(length), Some(padded + 18));
        }
        assert_eq!(padded_len(16 * 1024 + 1), None);
        assert_eq!(padded_len(usize::MAX), None);
    }

    #[test]
    fn records_open_both_ways_in_order_padded_with_zeros() {
        let (device, host) = linked();
        assert_eq!(device.handshake_hash(), host.handshake_hash());
        let ((mut to_host, mut from_host), (mut to_device, mut from_device)) = (device.split(), host.split());
        let mut out = vec![1, 2, 3];
        for text in [&b"one"[..], b"", &[7; MAX_RECORD_PLAINTEXT]] {
            for (sealer, opener) in [(&mut to_host, &mut from_device), (&mut to_device, &mut from_host)] {
                opener.open(&sealed(sealer, text), &mut out).unwrap();
                assert_eq!(out.len(), padded_len(text.len()).unwrap());
                assert!(out.starts_with(text) && out[text.len()..].iter().all(|byte| *byte == 0));
            }
        }
    }

    #[test]
    fn an_altered_record_kills_the_link() {
        let (mut sealer, mut opener) = pair();
        let good = sealed(&mut sealer, b"hello");
        for at in [0, good.len() / 2, good.len() - 1] {
            let (mut sealer, mut opener) = pair();
            let mut bad = sealed(&mut sealer, b"hello");
            bad[at] ^= 1;
            let mut out = vec![1];
            assert_eq!(opener.open(&bad, &mut out), Err(RecordError::Unopened));
            assert!(out.is_empty(), "nothing of a bad record is handed out");
            bad[at] ^= 1;
            assert_eq!(opener.open(&bad, &mut out), Err(RecordError::Dead));
        }
        assert_eq!(opener.open(&good[..good.len() - 1], &mut Vec::new()), Err(RecordError::Unopened));
    }

    #[test]
    fn repeated_reordered_lost_and_reflected_records_do_not_open() {
        let mut out = Vec::new();
        let (mut sealer, mut opener) = pair();
        let first = sealed(&mut sealer, b"1");
        opener.open(&first, &mut out).unwrap();
        assert_eq!(opener.open(&first, &mut out), Err(RecordError::Unopened), "repeated");

        let (mut sealer, mut opener) = pair();
        let _lost = sealed(&mut sealer, b"1");
        let second = sealed(&mut sealer, b"2");
        assert_eq!(opener.open(&second, &mut out), Err(RecordError::Unopened), "reordered or lost");

        let (mut sealer, mut own) = linked().0.split();
        assert_eq!(own.open(&sealed(&mut sealer, b"1"), &mut out), Err(RecordError::Unopened), "reflected");

        let (mut sealer, _) = pair();
        let (_, mut opener) = pair();
        assert_eq!(opener.open(&sealed(&mut sealer, b"1"), &mut out), Err(RecordError::Unopened), "another link's");
    }

    #[test]
    fn over_the_limit_nothing_is_sealed_or_opened() {
        let (mut sealer, mut opener) = pair();
        let mut out = vec![9];
        let length = MAX_RECORD_PLAINTEXT + 1;
        assert_eq!(sealer.seal(&mut vec![0; length], &mut out), Err(RecordError::TooLong { length }));
        assert_eq!(out, [9]);
        assert_eq!(sealer.seal(&mut vec![0], &mut out), Err(RecordError::Dead));
        let over = opener.open(&vec![0; MAX_BLOCK + 1], &mut out);
        assert_eq!(over, Err(RecordError::TooLong { length }));
        assert_eq!(pair().1.open(&[], &mut out), Err(RecordError::Unopened));
    }

    #[test]
    fn a_record_without_padding_is_refused() {
        let (sealer, mut opener) = pair();
        let mut block = vec![0; 100 + TAG_LEN];
        sealer.keys.write_message(0, &[0; 100], &mut block).unwrap();
        let mut out = Vec::new();
        assert_eq!(opener.open(&block, &mut out), Err(RecordError::Unpadded { length: 100 }));
        assert!(out.is_empty());
    }

    #[test]
    fn the_last_nonce_is_never_used() {
        let (mut sealer, mut opener) = pair();
        (sealer.nonce, opener.nonce) = (u64::MAX - 1, u64::MAX - 1);
        let mut out = Vec::new();
        opener.open(&sealed(&mut sealer, b"last"), &mut out).unwrap();
        assert_eq!(sealer.seal(&mut vec![1], &mut out), Err(RecordError::Exhausted));
        assert_eq!(sealer.seal(&mut vec![1], &mut out), Err(RecordError::Dead));
        assert_eq!(opener.open(&[0; 144], &mut out), Err(RecordError::Exhausted));
    }

    #[test]
    fn buffers_are_reused() {
        let (mut sealer, mut opener) = pair();
        let (mut plain, mut out, mut opened) = (Vec::new(), Vec::new(), Vec::new());
        let mut addresses = std::collections::HashSet::new();
        for round in 0..10 {
            plain.clear();
            plain.resize(MAX_RECORD_PLAINTEXT - 1, 7);
            out.clear();
            sealer.seal(&mut plain, &mut out).unwrap();
            opener.open(&out[BLOCK_HEADER..], &mut opened).unwrap();
            if round > 0 {
                addresses.insert((plain.as_ptr(), out.as_ptr(), opened.as_ptr()));
            }
        }
        assert_eq!(addresses.len(), 1, "a buffer grew again in the steady state");
    }
}
