//! Wire protocol 1 is frozen: what two builds of it say to each other stays as it is, and so does what an older or a
//! newer one hears.
//!
//! A second implementation speaks it. A change of these bytes needs version 2, and then both are spoken for a while;
//! new members of JSON, new features, new reasons and new vectors need none.

use std::path::Path;

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use reachback_proto::close::CloseCode;
use reachback_proto::control::RelayToPeer;
use reachback_proto::crypto::handshake::{Preamble, Purpose};
use reachback_proto::frame::{ByeReason, ChannelCloseReason, Frame, GapReason};
use reachback_proto::pairing::{PairingMessage, PairingUrl, PairingUrlError, Refusal};
use reachback_proto::version::{SUPPORTED, VersionRange, WITH_RELAY};
use reachback_proto::wire::{DecodeError, Reader};
use ring::digest::{SHA256, digest};
use serde_json::Value;

/// The start of the SHA-256 of each part of each file of vectors, as it was on the day that froze it (2026-11-26). The
/// exchanges in `link`, `pairing` and `session` are whole conversations: every byte that the two ends of that day sent.
const FROZEN: &[(&str, &str, &str)] = &[
    ("claims.json", "ids", "646f747431e7f296"),
    ("claims.json", "nonce", "0edc0d492e67091a"),
    ("claims.json", "nonce_text", "3eb76571d179fba5"),
    ("claims.json", "proofs", "0208f259d88ddb9c"),
    ("control.json", "peer_to_relay", "68c201c5f3bef14e"),
    ("control.json", "refused", "0926f830de73947b"),
    ("control.json", "relay_to_peer", "d0a2e8b0e2b7aaf8"),
    ("control.json", "relay_to_peer_2", "bbbfd01318bc3968"),
    ("control.json", "welcomes", "16f0b52597934c71"),
    ("link.json", "device_ephemeral", "e616eccecadc645d"),
    ("link.json", "device_static", "738f0766b3da90d5"),
    ("link.json", "handshake_hash", "9932630fe49df69c"),
    ("link.json", "host_ephemeral", "776bf62b52ca27c1"),
    ("link.json", "host_id", "1a8c05a8f8cdb05d"),
    ("link.json", "host_static", "73535425377b833b"),
    ("link.json", "message1", "839e0e39fd177359"),
    ("link.json", "message2", "7ba7cc7b62061aa4"),
    ("link.json", "message2_payload", "699cc6e015a59c04"),
    ("link.json", "pattern", "77d7818fb41b1a2a"),
    ("link.json", "preamble", "30dbea3c07992723"),
    ("link.json", "prologue", "40f3020e62864831"),
    ("link.json", "psk", "d58d778c900f4065"),
    ("link.json", "records", "27703a9ddd3ae0cf"),
    ("pairing.json", "codes", "1e49e348aa123318"),
    ("pairing.json", "exchange", "f646219741154ad3"),
    ("pairing.json", "messages", "d7b51b3d87d4da92"),
    ("pairing.json", "refused_codes", "7fc8500a83fb23e3"),
    ("pairing.json", "refused_messages", "66ad55eb2128cbfb"),
    ("pairing.json", "relay_key", "05103093836f7b01"),
    ("pairing.json", "secrets", "4af0fd0d0a59101d"),
    ("pairing.json", "urls", "b1a04f7f74c7e8d9"),
    ("records.json", "fill", "ed6a97451af5843d"),
    ("records.json", "from_device", "e0c3c2649a3b0425"),
    ("records.json", "padding", "ac3448e3d09c79ad"),
    ("records.json", "too_long", "ec84f8c176937e4d"),
    ("session.json", "exchange", "beebf34b2a000b3b"),
    ("session.json", "frames", "c93e3038ec7bfd92"),
    ("session.json", "refused", "5e3212170df9017d"),
    ("shown.json", "digests", "cbbf961e33e86747"),
    ("shown.json", "label", "8437ae6b18904ccd"),
];

#[test]
fn the_bytes_of_version_1_are_those_of_the_day_that_froze_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    for (file, part, frozen) in FROZEN {
        let text = std::fs::read_to_string(folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let vectors: Value = serde_json::from_str(&text).unwrap();
        let part_of = vectors.get(*part).unwrap_or_else(|| panic!("`{part}` of {file} is gone"));
        // Maps of this type are sorted: the text does not depend on how the file is laid out.
        let found = HEXLOWER.encode(&digest(&SHA256, part_of.to_string().as_bytes()).as_ref()[..8]);
        assert_eq!(
            found, *frozen,
            "`{part}` of {file} is another: wire protocol 1 is frozen (docs/protocol.md). What peers of today say \
             would no longer be understood; a change needs version 2. New vectors go into a part of their own"
        );
    }
}

/// Frames that a record holds.
fn frames(record: &[u8]) -> Result<Vec<Frame<'_>>, DecodeError> {
    let mut reader = Reader::new(record);
    let mut frames = Vec::new();
    while let Some(frame) = Frame::decode(&mut reader)? {
        frames.push(frame);
    }
    Ok(frames)
}

#[test]
fn a_relay_of_more_versions_is_spoken_to_in_the_newest_that_both_know() {
    let challenge = |min: u8, max: u8| {
        let frame = [&[0x01, min, max][..], &[0xaa; 32], &[0xbb; 32]].concat();
        match RelayToPeer::decode(&frame) {
            Ok(RelayToPeer::Challenge { versions, .. }) => WITH_RELAY.agree(versions),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!([challenge(1, 1), challenge(0, 1)], [Some(1); 2]);
    assert_eq!([challenge(1, 2), challenge(1, 9), challenge(2, 9)], [Some(2); 3]);
    assert_eq!(challenge(3, 9), None, "one that has forgotten version 2 is not guessed at");
    assert_eq!(SUPPORTED, VersionRange { min: 1, max: 1 });
    assert_eq!(WITH_RELAY, VersionRange { min: 1, max: 2 });
}

#[test]
fn a_device_of_more_versions_gets_version_1_on_its_circuit() {
    for (purpose, byte) in [(Purpose::Link, 0x01), (Purpose::Pairing, 0x02)] {
        let agree = |min, max| {
            let preamble = Preamble::parse([0x52, byte, min, max]).unwrap();
            assert_eq!(preamble.purpose, purpose);
            SUPPORTED.agree(preamble.versions)
        };
        assert_eq!([agree(1, 1), agree(1, 9), agree(2, 9)], [Some(1), Some(1), None]);
    }
}

#[test]
fn a_reason_of_a_newer_peer_is_no_reason_to_break_off() {
    let frame = |record: &[u8]| format!("{:?}", frames(record).unwrap());
    assert_eq!(frame(&[0x05, 0x63]), format!("{:?}", [Frame::Gap { reason: GapReason::Other(99) }]));
    let bye = Frame::Bye { reason: ByeReason::Other(99), reconnect_in_ms: 5 };
    assert_eq!(frame(&[0x06, 0x63, 0x05]), format!("{:?}", [bye]));
    let close = Frame::ChannelClose { channel: 1, seq: 2, reason: ChannelCloseReason::Other(99), text: "x" };
    assert_eq!(frame(&[0x11, 0x01, 0x02, 0x63, 0x01, b'x']), format!("{:?}", [close]));
    assert_eq!(PairingMessage::decode(&[0x05, 0x63]), Ok(PairingMessage::Refused { code: Refusal::Other(99) }));
    assert_eq!(CloseCode::from_number(4999), CloseCode::Other(4999));
}

#[test]
fn what_version_1_does_not_have_is_an_error_and_no_guess() {
    assert_eq!(frames(&[0x30, 0x00]), Err(DecodeError::UnknownTag { tag: 0x30 }));
    assert_eq!(RelayToPeer::decode(&[0x7f]), Err(DecodeError::UnknownTag { tag: 0x7f }));
    assert_eq!(PairingMessage::decode(&[0x07]), Err(DecodeError::UnknownTag { tag: 0x07 }));
    // A field behind the last one.
    assert!(RelayToPeer::decode(&[0x10, 0x00]).is_err());
}

#[test]
fn a_code_of_a_newer_host_says_that_this_program_is_old() {
    let url = |version: u8, more: usize| {
        let fields = [vec![version], vec![1; 32 + 20 + more]].concat();
        PairingUrl::parse(&format!("https://relay.example/#{}", BASE32_NOPAD.encode(&fields)))
    };
    assert!(url(1, 0).is_ok());
    for more in [0, 40] {
        assert_eq!(url(3, more), Err(PairingUrlError::Version { found: 3 }));
    }
}
