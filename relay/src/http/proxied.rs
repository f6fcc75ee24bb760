//! Where a request that came through a proxy comes from.
//!
//! Anybody can write the headers that say so. They count only where the connection is that of a proxy that the
//! operator trusts, and then from the end: each proxy adds the address that it saw behind what it was given.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;

use crate::config::Config;

/// Addresses in a header that are looked at. Chains have two or three.
const MAX_HOPS: usize = 16;

/// The last address on the way that is not a trusted proxy's; that of the connection where nothing says another, or what
/// says so can't be read.
pub(super) fn origin(config: &Config, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let mut origin = peer;
    // Each hop is read by itself: a client could else, by bytes that are no text, have all of its proxy's line left out.
    let values = headers.get_all("x-forwarded-for").into_iter();
    let hops: Vec<_> = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).collect();
    for hop in hops.into_iter().rev().take(MAX_HOPS) {
        if !config.is_trusted_proxy(origin) {
            break;
        }
        let Some(before) = std::str::from_utf8(hop).ok().and_then(|hop| address(hop.trim())) else { break };
        origin = before;
    }
    origin
}

/// An address as proxies write it: bare, in brackets, or with a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let parsed =
        bare.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|with_port| with_port.ip()));
    parsed.map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed_and_from_the_end() {
        let trusted_proxies = ["127.0.0.1/32", "10.0.0.0/8"].map(|net| net.parse().unwrap()).to_vec();
        let config = Config { trusted_proxies, ..Config::default() };
        let origin = |peer: &str, lines: &[&str]| {
            let lines = lines.iter().map(|line| {
                let name = axum::http::HeaderName::from_static("x-forwarded-for");
                (name, axum::http::HeaderValue::from_bytes(line.as_bytes()).unwrap())
            });
            origin(&config, peer.parse().unwrap(), &lines.collect()).to_string()
        };
        assert_eq!(origin("192.0.2.9", &["198.51.100.1"]), "192.0.2.9", "a stranger writes what it likes");
        assert_eq!(origin("127.0.0.1", &[]), "127.0.0.1");
        assert_eq!(origin("127.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(
            origin("127.0.0.1", &["1.1.1.1, 198.51.100.1"]),
            "198.51.100.1",
            "what the client wrote is not believed"
        );
        assert_eq!(origin("127.0.0.1", &["1.1.1.1", "198.51.100.1, 10.1.1.1"]), "198.51.100.1");
        assert_eq!(origin("127.0.0.1", &["198.51.100.1, 10.1.1.1, nonsense"]), "127.0.0.1");
        assert_eq!(origin("127.0.0.1", &["198.51.100.1:4711"]), "198.51.100.1");
        assert_eq!(origin("127.0.0.1", &["[2001:db8::1]:4711"]), "2001:db8::1");
        assert_eq!(origin("127.0.0.1", &["[2001:db8::1]"]), "2001:db8::1");
        assert_eq!(origin("127.0.0.1", &["::ffff:198.51.100.1"]), "198.51.100.1");
        assert_eq!(origin("127.0.0.1", &["ü, 198.51.100.1"]), "198.51.100.1", "what is no text hides nothing");
        assert_eq!(origin("127.0.0.1", &["198.51.100.1, ü"]), "127.0.0.1");
        assert_eq!(origin("127.0.0.1", &[&"10.0.0.1, ".repeat(1000)]), "127.0.0.1", "an empty hop ends it");
    }
}
