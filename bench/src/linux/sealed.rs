//! A process that seals what it copies, as often as Reachback does on the same way: the limit of a tunnel of this kind.
//!
//! Between a client and Codex each byte is sealed by the laptop's agent for the host, and again for the relay; opened and
//! sealed by the relay; and opened twice by the host's agent. Three of these processes in a row do that and nothing else:
//! one thread each, plain sockets (TCP to the second and from it, as to a relay and from it), records sealed in place, no
//! handshake, no framing besides a length, no firewall. What Reachback costs above them is its own; what they cost above
//! processes that only copy, over Unix sockets, is the price of being sealed and on a network.

use std::io;

use anyhow::{Context, ensure};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::carrying::{self, Carry, Place, Socket};

/// Seal what is copied between a socket and another.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How often it is sealed on the socket that is listened on: 0, 1 or 2
    near: usize,
    /// How often on the other one
    far: usize,
    /// Where to listen: a path, or an address.
    from: Place,
    /// Where to connect to for each connection.
    to: Place,
}

/// As large as a message of the measurements.
const BUFFER: usize = 64 << 10;

/// The most bytes of one record, by how often what is in it was sealed: as for TLS (RFC 8446, 5.1), and as for the session
/// layer, which seals a message at once.
const MOST: [usize; 2] = [16 << 10, WHOLE];

/// A message of the measurements at once, and more.
pub(super) const WHOLE: usize = 80 << 10;

/// Before each record: how long it is with its tag.
const LENGTH: usize = 4;

/// What authenticates a record.
const TAG: usize = 16;

/// One direction of one seal. All processes have the same key: nothing here is secret.
pub(super) struct Seal {
    key: LessSafeKey,
    count: u64,
    most: usize,
}

impl Seal {
    pub(super) fn new(most: usize) -> anyhow::Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).ok().context("a key of this length")?;
        Ok(Self { key: LessSafeKey::new(key), count: 0, most })
    }

    fn nonce(&mut self) -> Nonce {
        self.count += 1;
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.count.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }

    /// Appends `plain` as records.
    pub(super) fn seal(&mut self, plain: &[u8], to: &mut Vec<u8>) -> anyhow::Result<()> {
        for piece in plain.chunks(self.most) {
            let length = u32::try_from(piece.len() + TAG)?;
            to.extend_from_slice(&length.to_be_bytes());
            let begin = to.len();
            to.extend_from_slice(piece);
            let nonce = self.nonce();
            let tag = self.key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut to[begin..]);
            to.extend_from_slice(tag.ok().context("it can be sealed")?.as_ref());
        }
        Ok(())
    }

    /// Appends what is in the records that `from` has whole, and takes them off.
    pub(super) fn open(&mut self, from: &mut Vec<u8>, to: &mut Vec<u8>) -> anyhow::Result<()> {
        let mut begin = 0;
        while let Some(length) = from.get(begin..begin + LENGTH) {
            let length = u32::from_be_bytes(length.try_into()?) as usize;
            ensure!(length <= self.most + TAG, "a record of {length} bytes");
            let record = begin + LENGTH..begin + LENGTH + length;
            if from.len() < record.end {
                break;
            }
            begin = record.end;
            let nonce = self.nonce();
            let plain =
                self.key.open_in_place(nonce, Aad::empty(), &mut from[record]).ok().context("it can be opened")?;
            to.extend_from_slice(plain);
        }
        from.drain(..begin);
        Ok(())
    }
}

/// One way of a connection.
struct Way {
    buffer: Box<[u8]>,
    /// What came and is not opened: one more than there are seals, the last one all open.
    opening: Vec<Vec<u8>>,
    openers: Vec<Seal>,
    sealers: Vec<Seal>,
    /// What is to be written, from where on.
    sealed: Vec<u8>,
    written: usize,
    /// For what is sealed once more.
    spare: Vec<u8>,
    is_over: bool,
}

impl Way {
    /// From an end that is sealed so often to one that is sealed so often.
    fn new(from: usize, to: usize) -> anyhow::Result<Self> {
        let seals = |count: usize| MOST.iter().take(count).map(|most| Seal::new(*most)).collect::<anyhow::Result<_>>();
        let (openers, sealers): (Vec<_>, Vec<_>) = (seals(from)?, seals(to)?);
        let opening = vec![Vec::new(); openers.len() + 1];
        let buffer = vec![0; BUFFER].into();
        Ok(Self {
            buffer,
            opening,
            openers,
            sealers,
            sealed: Vec::new(),
            written: 0,
            spare: Vec::new(),
            is_over: false,
        })
    }

    /// Copies until one of the two would wait.
    fn copy(&mut self, from: &mut dyn Socket, to: &mut dyn Socket) -> anyhow::Result<()> {
        loop {
            while self.written < self.sealed.len() {
                match to.write(&self.sealed[self.written..]) {
                    Ok(written) => self.written += written,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
            }
            self.written = 0;
            self.sealed.clear();
            if self.is_over {
                return Ok(());
            }
            match from.read(&mut self.buffer) {
                Ok(0) => {
                    self.is_over = true;
                    return Ok(to.end()?);
                }
                Ok(read) => self.pass(read)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Opens what was read, and seals what is open.
    fn pass(&mut self, read: usize) -> anyhow::Result<()> {
        self.opening[0].extend_from_slice(&self.buffer[..read]);
        // The outer seal is opened first.
        for (at, opener) in self.openers.iter_mut().enumerate() {
            let (from, to) = self.opening.split_at_mut(at + 1);
            opener.open(&mut from[at], &mut to[0])?;
        }
        if let Some(plain) = self.opening.last_mut() {
            std::mem::swap(plain, &mut self.sealed);
        }
        for sealer in self.sealers.iter_mut().rev() {
            self.spare.clear();
            sealer.seal(&self.sealed, &mut self.spare)?;
            std::mem::swap(&mut self.sealed, &mut self.spare);
        }
        Ok(())
    }
}

struct Ways {
    up: Way,
    down: Way,
}

impl Carry for Ways {
    fn carry(&mut self, near: &mut dyn Socket, far: &mut dyn Socket) -> anyhow::Result<bool> {
        self.up.copy(near, far)?;
        self.down.copy(far, near)?;
        Ok(self.up.is_over && self.down.is_over)
    }
}

/// Copies until it is killed; says when it listens, with a line.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(args.near.max(args.far) <= MOST.len(), "nothing is sealed more than twice");
    let (near, far) = (args.near, args.far);
    carrying::serve(&args.from, &args.to, || Ok(Ways { up: Way::new(near, far)?, down: Way::new(far, near)? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out of ways in a row, of what is written in pieces of this size.
    fn through(ways: &mut [Way], plain: &[u8], piece: usize) -> Vec<u8> {
        let mut came = Vec::new();
        for piece in plain.chunks(piece) {
            let mut carried = piece.to_vec();
            for way in ways.iter_mut() {
                let mut passed = Vec::new();
                // As it may come from a socket.
                for part in carried.chunks(1_000) {
                    way.buffer[..part.len()].copy_from_slice(part);
                    way.pass(part.len()).unwrap();
                    passed.append(&mut way.sealed);
                }
                carried = passed;
            }
            came.extend(carried);
        }
        came
    }

    #[test]
    fn three_in_a_row_give_what_was_written_and_what_is_between_is_sealed() {
        let plain: Vec<u8> = (0..3 * BUFFER).map(|at| at as u8).collect();
        let ways = |seals: &[(usize, usize)]| -> Vec<Way> {
            seals.iter().map(|(from, to)| Way::new(*from, *to).unwrap()).collect()
        };
        for piece in [1, 200, 16 << 10, BUFFER] {
            let plain = &plain[..plain.len().min(500 * piece)];
            assert_eq!(through(&mut ways(&[(0, 2), (1, 1), (2, 0)]), plain, piece), plain);
            let between = through(&mut ways(&[(0, 2), (1, 1)]), plain, piece);
            assert!(between.len() > plain.len() && !between.windows(64).any(|part| plain.starts_with(part)));
        }
    }

    #[test]
    fn what_was_changed_on_the_way_does_not_pass() {
        let mut sealed = through(&mut [Way::new(0, 1).unwrap()], b"a message", 9);
        sealed[LENGTH] ^= 1;
        let mut way = Way::new(1, 0).unwrap();
        way.buffer[..sealed.len()].copy_from_slice(&sealed);
        assert!(way.pass(sealed.len()).is_err());
    }
}
