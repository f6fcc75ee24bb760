//! Cutting a circuit's byte stream into blocks: length\[2\] and that many bytes.
//!
//! A block is one Noise message, of the handshake or a record. The relay may
//! merge and split what it carries, so blocks arrive in arbitrary pieces.

use std::mem;

use bytes::{Buf, Bytes, BytesMut};

use super::records::MAX_RECORD_PLAINTEXT;
use crate::wire::Write;

/// What a Noise message adds to its payload: AES-GCM's tag.
pub const TAG_LEN: usize = 16;
/// Largest block, in bytes: a full record and its tag. Handshake messages are far smaller.
pub const MAX_BLOCK: usize = MAX_RECORD_PLAINTEXT + TAG_LEN;
/// Bytes of a block's length.
pub const BLOCK_HEADER: usize = 2;

/// A length that no block has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a block of {length} bytes: wanted {TAG_LEN} to {MAX_BLOCK}")]
pub struct BlockError {
    /// The length claimed by the peer.
    pub length: usize,
}

/// Appends `message` as a block. Messages above [`MAX_BLOCK`] are a bug of the caller.
pub fn put_block(out: &mut Vec<u8>, message: &[u8]) {
    debug_assert!((TAG_LEN..=MAX_BLOCK).contains(&message.len()));
    out.put_u16(message.len() as u16);
    out.put(message);
}

/// Collects the bytes of a circuit, hands out whole blocks.
///
/// It holds at most what was pushed since the last call of [`next_block`] that
/// returned `None`, and one unfinished block; a claimed length allocates
/// nothing. Whoever reads a circuit takes all blocks before it reads on.
///
/// [`next_block`]: Self::next_block
#[derive(Debug, Default)]
pub struct BlockDecoder {
    /// The last chunk, as it came; blocks are slices of it. Empty while there is something in `cut`.
    chunk: Bytes,
    /// From the start of a block that was not whole in its chunk on.
    cut: BytesMut,
}

impl BlockDecoder {
    /// With nothing received yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// More bytes of the circuit. Whole blocks in it are not copied.
    pub fn push(&mut self, chunk: Bytes) {
        self.keep_rest();
        if self.cut.is_empty() {
            self.chunk = chunk;
        } else {
            self.cut.extend_from_slice(&chunk);
        }
    }

    /// The preamble in front of the first block; `None` until all of it is here.
    pub fn take_preamble(&mut self) -> Option<[u8; 4]> {
        let preamble = *self.unread().first_chunk()?;
        self.advance(preamble.len());
        Some(preamble)
    }

    /// The next whole block, without its length; `None` until more bytes are pushed.
    ///
    /// After an error the stream has no known boundary any more: drop the link.
    pub fn next_block(&mut self) -> Result<Option<Bytes>, BlockError> {
        let Some(header) = self.unread().first_chunk() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes(*header));
        if !(TAG_LEN..=MAX_BLOCK).contains(&length) {
            return Err(BlockError { length });
        }
        if self.unread().len() < BLOCK_HEADER + length {
            return Ok(None);
        }
        self.advance(BLOCK_HEADER);
        Ok(Some(if self.cut.is_empty() { self.chunk.split_to(length) } else { self.cut.split_to(length).freeze() }))
    }

    fn unread(&self) -> &[u8] {
        if self.cut.is_empty() { &self.chunk } else { &self.cut }
    }

    fn advance(&mut self, by: usize) {
        if self.cut.is_empty() { self.chunk.advance(by) } else { self.cut.advance(by) }
    }

    /// What is left of the last chunk begins a block that the next one goes on with.
    fn keep_rest(&mut self) {
        if !self.chunk.is_empty() {
            self.cut.extend_from_slice(&mem::take(&mut self.chunk));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_out_whole_however_the_stream_is_cut() {
        let mut stream = vec![0x52, 1, 1, 1];
        let blocks: Vec<_> = [16, 17, 300, MAX_BLOCK].into_iter().map(|n| vec![n as u8; n]).collect();
        blocks.iter().for_each(|block| put_block(&mut stream, block));
        for piece in [1, 2, 3, 7, 1000, stream.len()] {
            let mut decoder = BlockDecoder::new();
            let (mut preamble, mut seen) = (None, Vec::new());
            for chunk in stream.chunks(piece) {
                decoder.push(Bytes::copy_from_slice(chunk));
                if preamble.is_none() {
                    preamble = decoder.take_preamble();
                }
                while preamble.is_some()
                    && let Some(block) = decoder.next_block().unwrap()
                {
                    seen.push(block.to_vec());
                }
            }
            assert_eq!((preamble, &seen), (Some([0x52, 1, 1, 1]), &blocks), "in pieces of {piece}");
        }
    }

    #[test]
    fn a_length_that_no_block_has_is_refused_before_its_bytes_arrive() {
        for length in [0, 15, MAX_BLOCK + 1, 0xffff] {
            let mut decoder = BlockDecoder::new();
            decoder.push(Bytes::copy_from_slice(&(length as u16).to_be_bytes()));
            assert_eq!(decoder.next_block(), Err(BlockError { length }));
        }
    }

    #[test]
    fn an_unfinished_block_waits() {
        let mut decoder = BlockDecoder::new();
        assert_eq!(decoder.next_block(), Ok(None));
        decoder.push(Bytes::from_static(&[0]));
        assert_eq!(decoder.next_block(), Ok(None));
        decoder.push(Bytes::from_static(&[16]));
        decoder.push(Bytes::from_static(&[7; 15]));
        assert_eq!(decoder.next_block(), Ok(None));
        decoder.push(Bytes::from_static(&[7]));
        assert_eq!(decoder.next_block().unwrap().as_deref(), Some(&[7; 16][..]));
        assert_eq!(decoder.next_block(), Ok(None));
    }
}
