//! What a link to the relay is opened for, and how that is said before its first frame.
//!
//! A WebSocket says it with the path of its request. A QUIC stream says it with its first byte; what follows are the
//! messages of a WebSocket (RFC 6455 from §5 on) without a request, as if it had been answered already.

/// The application protocol of a QUIC connection to a relay (ALPN, RFC 7301).
pub const QUIC_ALPN: &[u8] = b"reachback/1";

/// What a link is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A host's control connection.
    Host,
    /// A host's data connection.
    HostData,
    /// A device, or one that wants to pair.
    Device,
}

impl Endpoint {
    /// The path of a WebSocket's request.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Host => "/v1/host",
            Self::HostData => "/v1/host/data",
            Self::Device => "/v1/device",
        }
    }

    /// The first byte of a QUIC stream.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Host => 1,
            Self::HostData => 2,
            Self::Device => 3,
        }
    }

    /// The endpoint with this byte.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Host),
            2 => Some(Self::HostData),
            3 => Some(Self::Device),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_stands_for_one_endpoint_or_for_none() {
        for endpoint in [Endpoint::Host, Endpoint::HostData, Endpoint::Device] {
            assert_eq!(Endpoint::from_byte(endpoint.byte()), Some(endpoint));
        }
        assert_eq!((0..=u8::MAX).filter_map(Endpoint::from_byte).count(), 3);
    }
}
