//! Reading and writing the fields that every frame is made of.
//!
//! Integers are big-endian. A `varint` is QUIC's (RFC 9000 §16): the two top
//! bits of the first byte give the length, 1, 2, 4 or 8 bytes. Byte strings and
//! texts carry their length in front. Every read is bounded by the buffer and
//! by the limit its caller names; nothing allocates from a claimed length.

/// The largest value a varint can hold, 2^62 - 1.
pub const MAX_VARINT: u64 = (1 << 62) - 1;

/// Why bytes from the network were not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The buffer ended in the middle of a field.
    #[error("frame ends in the middle of a field")]
    Truncated,
    /// Bytes were left after the last field.
    #[error("{extra} bytes after the last field")]
    Trailing {
        /// How many bytes were left.
        extra: usize,
    },
    /// A tag that this version does not know.
    #[error("unknown tag {tag:#04x}")]
    UnknownTag {
        /// The tag that was read.
        tag: u8,
    },
    /// A field was longer than its limit.
    #[error("{field} is {length} long, the limit is {limit}")]
    TooLong {
        /// The field's name.
        field: &'static str,
        /// The length claimed by the peer.
        length: u64,
        /// The limit that it broke.
        limit: u64,
    },
    /// A field held a value that it may not hold.
    #[error("{field} is not valid")]
    Invalid {
        /// The field's name.
        field: &'static str,
    },
}

/// A cursor over received bytes.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything that is left, consumed.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Exactly `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.rest.split_at_checked(n).ok_or(DecodeError::Truncated)?;
        self.rest = tail;
        Ok(head)
    }

    /// An array of `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.rest = tail;
        Ok(*head)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two bytes, big-endian.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four bytes, big-endian.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// Eight bytes, big-endian.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A QUIC varint. Longer encodings than needed are accepted, as in QUIC.
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let first = *self.rest.first().ok_or(DecodeError::Truncated)?;
        match first >> 6 {
            0 => self.u8().map(u64::from),
            1 => self.u16().map(|v| u64::from(v & 0x3fff)),
            2 => self.u32().map(|v| u64::from(v & 0x3fff_ffff)),
            _ => self.u64().map(|v| v & MAX_VARINT),
        }
    }

    /// A byte string of at most `limit` bytes behind a varint length.
    pub fn bytes(&mut self, field: &'static str, limit: usize) -> Result<&'a [u8], DecodeError> {
        let length = self.varint()?;
        if length > limit as u64 {
            return Err(DecodeError::TooLong { field, length, limit: limit as u64 });
        }
        self.take(length as usize)
    }

    /// UTF-8 text of at most `limit` bytes behind a varint length.
    pub fn text(&mut self, field: &'static str, limit: usize) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes(field, limit)?).map_err(|_| DecodeError::Invalid { field })
    }

    /// Refuses bytes after the last field.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(DecodeError::Trailing { extra }),
        }
    }
}

/// Writing the same fields. Implemented for `Vec<u8>`.
pub trait Write {
    /// One byte.
    fn put_u8(&mut self, value: u8);
    /// Raw bytes, no length.
    fn put(&mut self, bytes: &[u8]);

    /// Two bytes, big-endian.
    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }
    /// Four bytes, big-endian.
    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }
    /// Eight bytes, big-endian.
    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_be_bytes());
    }
    /// The shortest QUIC varint. Values above [`MAX_VARINT`] are a bug of the caller.
    fn put_varint(&mut self, value: u64) {
        debug_assert!(value <= MAX_VARINT);
        match varint_len(value) {
            1 => self.put_u8(value as u8),
            2 => self.put_u16(value as u16 | 0x4000),
            4 => self.put_u32(value as u32 | 0x8000_0000),
            _ => self.put_u64(value | 0xc000_0000_0000_0000),
        }
    }
    /// A byte string behind a varint length.
    fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_varint(bytes.len() as u64);
        self.put(bytes);
    }
}

impl Write for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// How many bytes `put_varint` writes for `value`.
pub const fn varint_len(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_match_the_examples_of_rfc_9000() {
        for (value, hex) in
            [(151_288_809_941_952_652, "c2197c5eff14e88c"), (494_878_333, "9d7f3e7d"), (15_293, "7bbd"), (37, "25")]
        {
            let mut out = Vec::new();
            out.put_varint(value);
            assert_eq!(data_encoding::HEXLOWER.encode(&out), hex);
            assert_eq!(Reader::new(&out).varint(), Ok(value));
        }
        assert_eq!(Reader::new(&[0x40, 0x25]).varint(), Ok(37));
    }

    #[test]
    fn a_claimed_length_beyond_the_buffer_or_the_limit_is_refused() {
        assert_eq!(Reader::new(&[5, 1, 2]).bytes("x", 10), Err(DecodeError::Truncated));
        let over = Reader::new(&[5, 1, 2, 3, 4, 5]).bytes("x", 4);
        assert_eq!(over, Err(DecodeError::TooLong { field: "x", length: 5, limit: 4 }));
    }
}
