//! The bytes of every frame, spelled out, and the vectors that other implementations read.
//!
//! The bytes here are written by hand from `docs/protocol.md`, not taken from
//! the code, so a change that breaks peers fails even if it breaks both ends
//! alike.

#[path = "shared/vectors.rs"]
mod vectors;

use std::path::Path;

use data_encoding::HEXLOWER;
use reachback_proto::control::{PeerToRelay, RelayToPeer};
use reachback_proto::crypto::keys::Secret;
use reachback_proto::frame::Frame;
use reachback_proto::ids::RelayId;
use reachback_proto::pairing::{PairingMessage, PairingSecret, PairingUrl, TypedCode};
use reachback_proto::wire::Reader;

/// Hex with spaces between fields; `aa*32` is a byte 32 times, `'text'` is text.
fn bytes(golden: &str) -> Vec<u8> {
    let field = |field: &str| -> Vec<u8> {
        if let Some(text) = field.strip_prefix('\'') {
            return text.trim_end_matches('\'').into();
        }
        let (hex, times) = field.split_once('*').unwrap_or((field, "1"));
        let hex = HEXLOWER.decode(hex.as_bytes()).unwrap_or_else(|err| panic!("`{field}`: {err}"));
        hex.repeat(times.parse().expect("a count"))
    };
    golden.split_whitespace().flat_map(field).collect()
}

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

const RELAY: [&str; 16] = [
    /* Challenge        */ "01 01 03 aa*32 bb*32",
    /* Welcome          */ "02 01 cc*64",
    /* Refused          */ "03 1131 00011170 0b 'unknown' 20 'key'",
    /* Restarting       */ "04 000005dc",
    /* Ping             */ "05 0000000000000007",
    /* Pong             */ "06 ffffffffffffffff",
    /* CircuitWanted    */ "10",
    /* PairingOpened    */ "11 dd*16",
    /* PairingClosed    */ "12 dd*16 1134",
    /* DeviceListStored */ "13 0000000000000102",
    /* Conflict         */ "14",
    /* CircuitStart     */ "20 0000000000000009 00 aa*32",
    /* CircuitStart     */ "20 000000000000000a 01 dd*16",
    /* Presence         */ "30 01 000000006b49d200",
    /* Presence         */ "30 00 0000000000000000",
    /* Attached         */ "31 000000000000000b",
];

/// What version 2 has besides.
const RELAY_2: [&str; 2] = [/* DevicesRevoked   */ "15 0000", /* DevicesRevoked   */ "15 0002 aa*32 ab*32"];

const PEER: [&str; 12] = [
    /* HostHello     */ "41 01 aa*32 bb*32 cc*16 05 'a.b.c' 00",
    /* HostHello     */ "41 01 aa*32 bb*32 cc*16 05 'a.b.c' 08 'enrol-me'",
    /* HostDataHello */ "42 01 aa*32 bb*32 cc*16 05 'a.b.c'",
    /* DeviceHello   */ "43 01 aa*32 bb*32 ee*16 00 05 'a.b.c'",
    /* DeviceHello   */ "43 01 aa*32 bb*32 ee*16 01 05 'a.b.c'",
    /* PairHello     */ "44 01 bb*32 dd*16",
    /* Ping          */ "45 0000000000000007",
    /* Pong          */ "46 ffffffffffffffff",
    /* DeviceList    */ "50 0000000000000001 0000",
    /* DeviceList    */ "50 0000000000000102 0002 aa*32 ab*32",
    /* PairingOpen   */ "51 dd*16 0000012c",
    /* PairingClose  */ "52 dd*16",
];

const PAIRING: [&str; 7] = [
    /* Reveal      */ "01 cc*32",
    /* DeviceIntro */ "02 aa*32 bb*32 05 42c3bc726f 07 'Android'",
    /* HostIntro   */
    "03 aa*32 bb*32 03 06 'laptop' 02 dd*32 19 'https://relay.example:443' de*32 1a 'https://[2001:db8::1]:8443'",
    /* Done        */ "04",
    /* Refused     */ "05 01",
    /* Refused     */ "05 05",
    /* Waiting     */ "06",
];

#[test]
fn frames_of_the_relay_have_their_bytes() {
    let (frames, more) = (vectors::relay_frames(), vectors::relay_frames_2());
    assert_eq!((frames.len(), more.len()), (RELAY.len(), RELAY_2.len()));
    for ((frame, _), golden) in frames.into_iter().chain(more).zip(RELAY.into_iter().chain(RELAY_2)) {
        assert_eq!(hex(&frame.encode()), hex(&bytes(golden)), "{frame:?}");
        assert_eq!(RelayToPeer::decode(&bytes(golden)), Ok(frame));
    }
}

#[test]
fn frames_of_hosts_and_devices_have_their_bytes() {
    let frames = vectors::peer_frames();
    assert_eq!(frames.len(), PEER.len());
    for ((frame, _), golden) in frames.into_iter().zip(PEER) {
        assert_eq!(hex(&frame.encode()), hex(&bytes(golden)), "{frame:?}");
        assert_eq!(PeerToRelay::decode(&bytes(golden)), Ok(frame));
    }
}

#[test]
fn pairing_messages_have_their_bytes() {
    let messages = vectors::pairing_messages();
    assert_eq!(messages.len(), PAIRING.len());
    for ((message, _), golden) in messages.into_iter().zip(PAIRING) {
        assert_eq!(hex(&message.encode()), hex(&bytes(golden)), "{message:?}");
        assert_eq!(PairingMessage::decode(&bytes(golden)), Ok(message));
    }
}

#[test]
fn what_vectors_call_refused_is_refused() {
    for (why, golden) in vectors::REFUSED_FROM_RELAY {
        assert!(RelayToPeer::decode(&bytes(golden)).is_err(), "{why}");
    }
    for (why, golden) in vectors::REFUSED_FROM_PEER {
        assert!(PeerToRelay::decode(&bytes(golden)).is_err(), "{why}");
    }
    for (why, entry) in vectors::REFUSED_MESSAGES {
        assert!(PairingMessage::decode(&bytes(&vectors::refused_message(entry))).is_err(), "{why}");
    }
}

const SESSION: [&str; 14] = [
    /* Open         */ "01",
    /* Opened       */ "02 5e*16",
    /* Resume       */ "03 5e*16 02 00 03 01 80011170",
    /* Resumed      */ "04 02 00 03 01 80011170",
    /* Gap          */ "05 01",
    /* Gap          */ "05 02",
    /* Bye          */ "06 03 45dc",
    /* ChannelOpen  */ "10 01 00 0a 'ssh:devbox'",
    /* ChannelClose */ "11 01 09 02 04 'lost'",
    /* Data         */ "12 01 01 03 02 02 '{}'",
    /* Data         */ "12 412c 80011170 00 03 'mid'",
    /* Ack          */ "20 01 4040",
    /* Ping         */ "21 05",
    /* Pong         */ "22 05",
];

#[test]
fn every_session_frame_has_its_bytes() {
    let frames = vectors::session_vectors::frames();
    assert_eq!(frames.len(), SESSION.len());
    for ((frame, _), golden) in frames.iter().zip(SESSION) {
        let mut encoded = Vec::new();
        frame.encode(&mut encoded);
        assert_eq!(hex(&encoded), hex(&bytes(golden)), "{frame:?}");
        encoded.extend([0; 5]);
        let mut reader = Reader::new(&encoded);
        assert_eq!(Frame::decode(&mut reader).as_ref(), Ok(&Some(frame.clone())));
        assert_eq!(Frame::decode(&mut reader), Ok(None), "padding after {frame:?}");
    }
}

#[test]
fn records_that_no_frames_are_in_are_refused() {
    for (why, golden) in vectors::session_vectors::REFUSED {
        let plaintext = bytes(golden);
        let mut reader = Reader::new(&plaintext);
        let refused = loop {
            match Frame::decode(&mut reader) {
                Ok(Some(_)) => {}
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        assert!(refused, "{why} was taken");
    }
}

#[test]
fn a_qr_url_has_its_characters() {
    let (secret, id) = (PairingSecret::new(Secret::new([0x01; 32])), RelayId([0x02; 32]));
    let relay = "https://relay.example.com".parse().expect("an origin");
    let url = PairingUrl::new(relay, None, secret, id).expect("a short URL");
    // base32 of 01, 32 times 01, 20 times 02.
    let fragment = "AEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAE";
    assert_eq!(*url.expose(), format!("HTTPS://RELAY.EXAMPLE.COM:443/#{fragment}"));
    assert_eq!(PairingUrl::parse(&url.expose()), Ok(url));
}

/// The secrets were computed with another implementation of PBKDF2 and HKDF (Python's hashlib and hmac).
#[test]
fn a_typed_code_has_its_secret() {
    let code = TypedCode::parse("0123-4567-89AB-CDEF").expect("a code");
    let secret = PairingSecret::from_code(&code, &"https://relay.example.com".parse().expect("an origin"));
    assert_eq!(hex(secret.expose()), "009794cf194edb135f0c6c0b159fc182c1e144650e973bf1649999dd56d90395");
    assert_eq!(hex(&secret.rendezvous().0), "fd9c1e830846d6150a08022082850d04");
    assert_eq!(hex(secret.psk0().expose()), "1b45a05e9b0ad6d2bb999463f1a776b6d9c140ecc7f5db5d8f84e87e4433df4f");
}

#[test]
fn the_vectors_on_disk_are_what_the_code_makes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let again = "if the change is meant, and every peer changes too: cargo run -p reachback-proto --example vectors";
    for (name, made) in vectors::files() {
        let text = std::fs::read_to_string(folder.join(name)).unwrap_or_else(|err| panic!("{name}: {err}; {again}"));
        let kept: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|err| panic!("{name}: {err}"));
        for (key, value) in made.as_object().expect("an object") {
            assert_eq!(kept.get(key), Some(value), "`{key}` of {name} differs; {again}");
        }
        assert_eq!(kept, made, "{name} differs; {again}");
    }
}
