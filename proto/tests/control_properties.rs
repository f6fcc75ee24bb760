//! Frames of the relay's link and of pairing, as properties: what is written is read back, and no bytes panic.

use proptest::prelude::*;
use reachback_proto::control::{CircuitOrigin, EnrollKey, MAX_DEVICES, PeerToRelay, RelayToPeer};
use reachback_proto::crypto::blocks::BlockDecoder;
use reachback_proto::crypto::handshake::Preamble;
use reachback_proto::crypto::keys::Secret;
use reachback_proto::ids::{BootId, HostId, PublicKey, RendezvousId};
use reachback_proto::pairing::{
    Digits, Label, MAX_RELAYS, Origin, PairingMessage, PairingUrl, Refusal, RelayEntry, TypedCode,
};
use reachback_proto::scope::Scope;
use reachback_proto::version::VersionRange;

fn key() -> impl Strategy<Value = PublicKey> {
    any::<[u8; 32]>().prop_map(PublicKey)
}

fn rendezvous() -> impl Strategy<Value = RendezvousId> {
    any::<[u8; 16]>().prop_map(RendezvousId)
}

/// Any text of at most `limit` bytes.
fn text(limit: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(any::<char>(), 0..limit / 4).prop_map(String::from_iter)
}

fn label<const MAX: usize>() -> impl Strategy<Value = Label<MAX>> {
    text(4 * MAX).prop_filter_map("nothing visible", |text| Label::cleaned(&text))
}

fn origin() -> impl Strategy<Value = Origin> {
    (any::<bool>(), 0..9u8, any::<u16>()).prop_map(|(secure, host, port)| {
        let scheme = if secure { "https" } else { "http" };
        format!("{scheme}://relay{host}.example:{port}").parse().expect("an origin")
    })
}

fn relay_frame() -> impl Strategy<Value = RelayToPeer> {
    let circuit_origin = prop_oneof![
        key().prop_map(|key| CircuitOrigin::Device { key }),
        rendezvous().prop_map(|rendezvous| CircuitOrigin::Pairing { rendezvous }),
    ];
    prop_oneof![
        (any::<(u8, u8)>(), key(), any::<[u8; 32]>()).prop_map(|((min, max), relay_key, nonce)| {
            RelayToPeer::Challenge { versions: VersionRange { min, max }, relay_key, nonce }
        }),
        (any::<u8>(), any::<[u8; 64]>()).prop_map(|(version, signature)| RelayToPeer::Welcome { version, signature }),
        (any::<u16>(), any::<u32>(), text(400))
            .prop_map(|(code, retry_after_ms, message)| { RelayToPeer::Refused { code, retry_after_ms, message } }),
        any::<u32>().prop_map(|reconnect_in_ms| RelayToPeer::Restarting { reconnect_in_ms }),
        any::<u64>().prop_map(|id| RelayToPeer::Ping { id }),
        any::<u64>().prop_map(|id| RelayToPeer::Pong { id }),
        Just(RelayToPeer::CircuitWanted),
        rendezvous().prop_map(|rendezvous| RelayToPeer::PairingOpened { rendezvous }),
        (rendezvous(), any::<u16>()).prop_map(|(rendezvous, code)| RelayToPeer::PairingClosed { rendezvous, code }),
        any::<u64>().prop_map(|version| RelayToPeer::DeviceListStored { version }),
        Just(RelayToPeer::Conflict),
        proptest::collection::vec(key(), 0..20).prop_map(|keys| RelayToPeer::DevicesRevoked { keys }),
        (any::<u64>(), circuit_origin).prop_map(|(circuit, origin)| RelayToPeer::CircuitStart { circuit, origin }),
        any::<(bool, u64)>().prop_map(|(online, since)| RelayToPeer::Presence { online, since }),
        any::<u64>().prop_map(|circuit| RelayToPeer::Attached { circuit }),
    ]
}

fn peer_frame() -> impl Strategy<Value = PeerToRelay> {
    let who = || (any::<u8>(), key(), any::<[u8; 32]>(), text(1024));
    let boot = || any::<[u8; 16]>().prop_map(BootId);
    let enroll_key = prop_oneof![Just(None), text(120).prop_map(|text| Some(EnrollKey(format!("k{text}"))))];
    prop_oneof![
        (who(), boot(), enroll_key).prop_map(|((version, key, peer_nonce, proof), boot, enroll_key)| {
            PeerToRelay::HostHello { version, key, peer_nonce, boot, proof, enroll_key }
        }),
        (who(), boot()).prop_map(|((version, key, peer_nonce, proof), boot)| PeerToRelay::HostDataHello {
            version,
            key,
            peer_nonce,
            boot,
            proof
        }),
        (who(), any::<[u8; 16]>(), any::<bool>()).prop_map(|((version, key, peer_nonce, proof), host, watch_only)| {
            PeerToRelay::DeviceHello { version, key, peer_nonce, host: HostId(host), watch_only, proof }
        }),
        (any::<u8>(), any::<[u8; 32]>(), rendezvous()).prop_map(|(version, peer_nonce, rendezvous)| {
            PeerToRelay::PairHello { version, peer_nonce, rendezvous }
        }),
        any::<u64>().prop_map(|id| PeerToRelay::Ping { id }),
        any::<u64>().prop_map(|id| PeerToRelay::Pong { id }),
        (any::<u64>(), prop::collection::vec(key(), 0..=MAX_DEVICES))
            .prop_map(|(version, keys)| PeerToRelay::DeviceList { version, keys }),
        (rendezvous(), any::<u32>()).prop_map(|(rendezvous, seconds)| PeerToRelay::PairingOpen { rendezvous, seconds }),
        rendezvous().prop_map(|rendezvous| PeerToRelay::PairingClose { rendezvous }),
    ]
}

fn relays() -> impl Strategy<Value = Vec<RelayEntry>> {
    prop::collection::vec((key(), origin()).prop_map(|(key, origin)| RelayEntry { key, origin }), 1..=MAX_RELAYS)
}

fn pairing_message() -> impl Strategy<Value = PairingMessage> {
    let contribution = || any::<[u8; 32]>().prop_map(Secret::new);
    prop_oneof![
        any::<[u8; 32]>().prop_map(|nonce| PairingMessage::Reveal { nonce }),
        (key(), contribution(), label(), label()).prop_map(|(identity, contribution, name, platform)| {
            PairingMessage::DeviceIntro { identity, contribution, name, platform }
        }),
        (key(), contribution(), prop::sample::select(&Scope::ALL[..]), label(), relays()).prop_map(
            |(identity, contribution, scope, name, relays)| PairingMessage::HostIntro {
                identity,
                contribution,
                scope,
                name,
                relays
            }
        ),
        Just(PairingMessage::Done),
        Just(PairingMessage::Waiting),
        any::<u8>().prop_map(|number| PairingMessage::Refused { code: Refusal::from_number(number) }),
    ]
}

/// Bytes that start like a frame more often than chance would have it.
fn wire_bytes() -> impl Strategy<Value = Vec<u8>> {
    let tag = prop::sample::select(vec![
        0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x10, 0x11, 0x12, 0x13, 0x14, 0x20, 0x30, 0x31, 0x41, 0x42, 0x43, 0x44,
        0x45, 0x46, 0x50, 0x51, 0x52, 0xff,
    ]);
    (tag, prop::collection::vec(any::<u8>(), 0..400)).prop_map(|(tag, mut bytes)| {
        bytes.insert(0, tag);
        bytes
    })
}

proptest! {
    #[test]
    fn frames_of_the_relay_are_read_back(frame in relay_frame()) {
        prop_assert_eq!(RelayToPeer::decode(&frame.encode()), Ok(frame));
    }

    #[test]
    fn frames_of_hosts_and_devices_are_read_back(frame in peer_frame()) {
        prop_assert_eq!(PeerToRelay::decode(&frame.encode()), Ok(frame));
    }

    #[test]
    fn pairing_messages_are_read_back_with_their_padding(message in pairing_message(), padding in 0..300usize) {
        let mut bytes = message.encode();
        bytes.resize(bytes.len() + padding, 0);
        prop_assert_eq!(PairingMessage::decode(&bytes), Ok(message));
    }

    #[test]
    fn a_cut_frame_is_refused(frame in relay_frame(), other in peer_frame(), cut in any::<prop::sample::Index>()) {
        let (bytes, others) = (frame.encode(), other.encode());
        prop_assert!(RelayToPeer::decode(&bytes[..cut.index(bytes.len())]).is_err());
        prop_assert!(PeerToRelay::decode(&others[..cut.index(others.len())]).is_err());
    }

    #[test]
    fn a_frame_with_more_behind_it_is_refused(frame in relay_frame(), other in peer_frame(), more in any::<u8>()) {
        prop_assert!(RelayToPeer::decode(&[frame.encode(), vec![more]].concat()).is_err());
        prop_assert!(PeerToRelay::decode(&[other.encode(), vec![more]].concat()).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_read_back_what_they_were(bytes in wire_bytes()) {
        if let Ok(frame) = RelayToPeer::decode(&bytes) {
            prop_assert_eq!(RelayToPeer::decode(&frame.encode()), Ok(frame));
        }
        if let Ok(frame) = PeerToRelay::decode(&bytes) {
            prop_assert_eq!(PeerToRelay::decode(&frame.encode()), Ok(frame));
        }
        if let Ok(message) = PairingMessage::decode(&bytes) {
            prop_assert_eq!(PairingMessage::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn arbitrary_streams_never_panic(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..9)) {
        let mut decoder = BlockDecoder::new();
        for chunk in chunks {
            decoder.push(chunk.into());
            while let Ok(Some(block)) = decoder.next_block() {
                prop_assert!(block.len() >= 16);
            }
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in text(800), preamble in any::<[u8; 4]>()) {
        prop_assert!(Label::<64>::cleaned(&text).is_none_or(|label| label.as_str().len() <= 64));
        let _ = PairingUrl::parse(&text);
        let _ = PairingUrl::parse(&format!("https://relay.example/#{text}"));
        let _ = TypedCode::parse(&text);
        let _ = Digits::parse(&text);
        let _ = Preamble::parse(preamble);
        if let Ok(origin) = format!("https://{text}").parse::<Origin>() {
            prop_assert_eq!(origin.to_string().parse(), Ok(origin));
        }
    }
}
