//! Where a connection comes from that a proxy passes on as it is, TLS and all: the PROXY protocol.
//!
//! The proxy puts a header in front of the connection, as text (version 1) or as bytes (version 2). It is read before TLS,
//! to its last byte and not beyond, and only from proxies that the operator trusts. Reading is here; what the bytes
//! mean is the library's.

use std::io;
use std::net::SocketAddr;

use ppp::{HeaderResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest header of version 1, its end included (specification, section 2.1).
const MAX_V1: usize = 107;
/// What every header of version 2 starts with, and the length of the rest after it (section 2.2).
const PREFIX_V2: usize = 16;
/// Longest header of version 2 that is taken: addresses have up to 216 bytes, and proxies may add a few notes.
const MAX_V2: usize = 2048;

/// Reads a header; the address that it names, and `None` where the proxy speaks for itself or does not know.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut header = vec![stream.read_u8().await?];
    match header.first() {
        Some(b'P') => {
            while !header.ends_with(b"\r\n") {
                if header.len() >= MAX_V1 {
                    return Err(malformed());
                }
                header.push(stream.read_u8().await?);
            }
        }
        Some(b'\r') => {
            header.resize(PREFIX_V2, 0);
            stream.read_exact(&mut header[1..]).await?;
            let rest = usize::from(u16::from_be_bytes([header[PREFIX_V2 - 2], header[PREFIX_V2 - 1]]));
            if !header.starts_with(v2::PROTOCOL_PREFIX) || PREFIX_V2 + rest > MAX_V2 {
                return Err(malformed());
            }
            header.resize(PREFIX_V2 + rest, 0);
            stream.read_exact(&mut header[PREFIX_V2..]).await?;
        }
        _ => return Err(malformed()),
    }
    match HeaderResult::parse(&header) {
        HeaderResult::V1(Ok(header)) => Ok(match header.addresses {
            v1::Addresses::Unknown => None,
            v1::Addresses::Tcp4(ip) => Some(SocketAddr::from((ip.source_address, ip.source_port))),
            v1::Addresses::Tcp6(ip) => Some(SocketAddr::from((ip.source_address, ip.source_port))),
        }),
        HeaderResult::V2(Ok(header)) if header.command == v2::Command::Local => Ok(None),
        HeaderResult::V2(Ok(header)) => Ok(match header.addresses {
            v2::Addresses::IPv4(ip) => Some(SocketAddr::from((ip.source_address, ip.source_port))),
            v2::Addresses::IPv6(ip) => Some(SocketAddr::from((ip.source_address, ip.source_port))),
            v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
        }),
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => Err(malformed()),
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no header of the PROXY protocol")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [v2::PROTOCOL_PREFIX, &[0x20 | command, family], &length, rest].concat()
    }

    /// What a header says, and what is left to read behind it.
    async fn read_from(bytes: &[u8]) -> (io::Result<Option<SocketAddr>>, usize) {
        let mut rest = bytes;
        let read = read(&mut rest).await;
        (read, rest.len())
    }

    #[tokio::test]
    async fn both_versions_are_read_to_their_end_and_not_beyond() {
        let hello = b"\x16\x03\x01 and so on";
        let v4 = [&[192, 0, 2, 1, 127, 0, 0, 1][..], &4711u16.to_be_bytes(), &443u16.to_be_bytes()].concat();
        let v6 =
            [&[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..], &[0; 16], &[0x12, 0x67, 1, 0xbb]].concat();
        let noted = [&v4[..], &[4, 0, 2, 7, 7]].concat();
        let v4_name = "192.0.2.1:4711";
        let headers: [(Vec<u8>, Option<&str>); 9] = [
            (b"PROXY TCP4 192.0.2.1 127.0.0.1 4711 443\r\n".to_vec(), Some(v4_name)),
            (b"PROXY TCP6 2001:db8::1 ::1 4711 443\r\n".to_vec(), Some("[2001:db8::1]:4711")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ff:: ff:: 1 1\r\n".to_vec(), None),
            (v2(1, 0x11, &v4), Some(v4_name)),
            (v2(1, 0x21, &v6), Some("[2001:db8::1]:4711")),
            (v2(1, 0x11, &noted), Some(v4_name)),
            (v2(0, 0x00, &[]), None),
            (v2(1, 0x00, &[]), None),
        ];
        for (header, wanted) in headers {
            let (read, rest) = read_from(&[&header[..], hello].concat()).await;
            let wanted = wanted.map(|text| text.parse::<SocketAddr>().unwrap());
            assert_eq!((read.unwrap(), rest), (wanted, hello.len()), "{header:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused_before_much_of_it_is_read() {
        let endless = b"PROXY TCP4 ".iter().copied().chain(std::iter::repeat_n(b'1', 1 << 20)).collect::<Vec<_>>();
        let large = [&v2(1, 0x11, &[])[..14], &[0xff, 0xff], &[0; 70_000]].concat();
        for (what, bytes) in [
            ("TLS", b"\x16\x03\x01\x02\x00 and so on".to_vec()),
            ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
            ("POST", b"POST / HTTP/1.1\r\n\r\n".to_vec()),
            ("a line without end", endless),
            ("a header of 64 KiB", large),
            ("addresses cut short", v2(1, 0x11, &[1, 2, 3])),
            ("an address that is none", b"PROXY TCP4 300.0.2.1 127.0.0.1 4711 443\r\n".to_vec()),
            ("nothing", Vec::new()),
        ] {
            let (read, rest) = read_from(&bytes).await;
            assert!(read.is_err(), "{what}: {read:?}");
            assert!(bytes.len() - rest <= MAX_V2, "{what}: {} bytes were read", bytes.len() - rest);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_headers_never_panic(start in 0usize..3, bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let bytes = [[&b"PROXY TCP4 "[..], v2::PROTOCOL_PREFIX, b""][start], &bytes].concat();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _ = runtime.block_on(read_from(&bytes));
        }
    }
}
