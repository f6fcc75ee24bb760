//! The contents of `proto/vectors/*.json`: what another implementation checks itself against.
//!
//! Everything comes from fixed keys. Bytes are lower-case hex; numbers of 64
//! bits are decimal strings, which JavaScript can read as BigInt.

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD, HEXLOWER};
use reachback_proto::claims::{ProofRole, prove};
use reachback_proto::control::{CircuitOrigin, EnrollKey, PeerToRelay, RelayToPeer, welcome_transcript};
use reachback_proto::crypto::handshake::{Ephemeral, LinkInitiator, LinkResponder};
use reachback_proto::crypto::keys::{Identity, Secret, StaticKey};
use reachback_proto::crypto::records::{Opener, Records, Sealer, padded_len};
use reachback_proto::ids::{BootId, DeviceId, HostId, PublicKey, RelayId, RendezvousId};
use reachback_proto::pairing::{
    DeviceSide, Fresh, HostSide, InitiatorEvent, Name, PairingInitiator, PairingMessage, PairingResponder,
    PairingSecret, PairingUrl, Platform, Refusal, RelayEntry, ResponderEvent, TypedCode,
};
use reachback_proto::scope::Scope;
use reachback_proto::shown;
use reachback_proto::version::{SUPPORTED, VersionRange};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

#[path = "session_vectors.rs"]
pub(crate) mod session_vectors;

/// Every file, by name.
pub(crate) fn files() -> Vec<(&'static str, Value)> {
    vec![
        ("claims.json", claims()),
        ("control.json", control()),
        ("link.json", link()),
        ("pairing.json", pairing()),
        ("records.json", records()),
        ("session.json", session_vectors::session()),
        ("shown.json", shown()),
    ]
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    HEXLOWER.encode(bytes.as_ref())
}

fn secret(byte: u8) -> Secret {
    Secret::new([byte; 32])
}

fn identity(byte: u8) -> Identity {
    Identity::from_seed(secret(byte))
}

fn static_key(byte: u8) -> StaticKey {
    StaticKey::from_private(secret(byte)).expect("a good key")
}

fn static_json(key: &StaticKey) -> Value {
    json!({"private": hex(key.private().expose()), "public": hex(key.public().0)})
}

/// The message in the only block of `bytes`.
fn message(bytes: &[u8]) -> &[u8] {
    &bytes[2..]
}

// Who takes part, by the byte that their keys are made of.
const HOST_IDENTITY: u8 = 0x11;
const DEVICE_IDENTITY: u8 = 0x12;
const RELAY_IDENTITY: u8 = 0x13;
const HOST_STATIC: u8 = 0x21;
const DEVICE_STATIC: u8 = 0x22;
const HOST_EPHEMERAL: u8 = 0x31;
const DEVICE_EPHEMERAL: u8 = 0x32;
const LINK_PSK: u8 = 0x41;

fn shown() -> Value {
    let lists: [&[&str]; 8] = [
        &[],
        &[""],
        &["", ""],
        &["ab", "c"],
        &["a", "bc"],
        &["a command", "rm -rf build\u{202e}txt.exe", "/home/me/project", "\u{200b}\u{a0} \t\r\n\u{0}"],
        &["\u{e9}", "e\u{301}", "\u{1f600}"],
        &["changes to files", "/home/me/project/a.txt\n@@ -1 +1 @@\n-old\n+new\n"],
    ];
    let digests = lists.map(|shown| json!({"shown": shown, "digest": hex(shown::digest(shown))}));
    json!({"label": shown::LABEL, "digests": digests})
}

fn claims() -> Value {
    let (host, device, relay) = (identity(HOST_IDENTITY), identity(DEVICE_IDENTITY), identity(RELAY_IDENTITY));
    let (host_id, relay_id) = (HostId::of(&host.public()), RelayId::of(&relay.public()));
    let nonce = [0x55; 32];
    let proof = |identity: &Identity, role: ProofRole, host: Option<HostId>| {
        let token = prove(identity, relay_id, &nonce, role, host).expect("a proof");
        let part = |at: usize| -> Value {
            let text = token.split('.').nth(at).expect("three parts");
            let json = BASE64URL_NOPAD.decode(text.as_bytes()).expect("base64url");
            serde_json::from_slice(&json).expect("JSON")
        };
        json!({
            "role": role.name(),
            "seed": hex(identity.seed().expose()),
            "header": part(0),
            "claims": part(1),
            "token": token,
        })
    };
    let named = |name: &str, identity: &Identity, id: String| {
        let key = identity.public();
        json!({
            "name": name,
            "seed": hex(identity.seed().expose()),
            "key": hex(key.0),
            "key_text": key.to_string(),
            "id_text": id,
        })
    };
    json!({
        "about": "ids, and proofs of identity keys: docs/protocol.md, sections 1 and 2. The order of members in a token is free.",
        "ids": [
            named("host", &host, host_id.to_string()),
            named("device", &device, DeviceId::of(&device.public()).to_string()),
            named("relay", &relay, relay_id.to_string()),
        ],
        "nonce": hex(nonce),
        "nonce_text": BASE32_NOPAD.encode(&nonce).to_ascii_lowercase(),
        "proofs": [
            proof(&host, ProofRole::Host, None),
            proof(&host, ProofRole::HostData, None),
            proof(&device, ProofRole::Device, Some(host_id)),
        ],
    })
}

/// Every frame that the relay sends, with its fields.
pub(crate) fn relay_frames() -> Vec<(RelayToPeer, Value)> {
    let rendezvous = RendezvousId([0xdd; 16]);
    let versions = VersionRange { min: 1, max: 3 };
    let (key, nonce, signature) = (PublicKey([0xaa; 32]), [0xbb; 32], [0xcc; 64]);
    vec![
        (
            RelayToPeer::Challenge { versions, relay_key: key, nonce },
            json!({"min": 1, "max": 3, "relay_key": hex(key.0), "nonce": hex(nonce)}),
        ),
        (RelayToPeer::Welcome { version: 1, signature }, json!({"version": 1, "signature": hex(signature)})),
        (
            RelayToPeer::Refused { code: 4401, retry_after_ms: 70_000, message: "unknown key".to_owned() },
            json!({"code": 4401, "retry_after_ms": 70_000, "message": "unknown key"}),
        ),
        (RelayToPeer::Restarting { reconnect_in_ms: 1500 }, json!({"reconnect_in_ms": 1500})),
        (RelayToPeer::Ping { id: 7 }, json!({"id": "7"})),
        (RelayToPeer::Pong { id: u64::MAX }, json!({"id": u64::MAX.to_string()})),
        (RelayToPeer::CircuitWanted, json!({})),
        (RelayToPeer::PairingOpened { rendezvous }, json!({"rendezvous": hex(rendezvous.0)})),
        (RelayToPeer::PairingClosed { rendezvous, code: 4404 }, json!({"rendezvous": hex(rendezvous.0), "code": 4404})),
        (RelayToPeer::DeviceListStored { version: 258 }, json!({"version": "258"})),
        (RelayToPeer::Conflict, json!({})),
        (
            RelayToPeer::CircuitStart { circuit: 9, origin: CircuitOrigin::Device { key } },
            json!({"circuit": "9", "device": hex(key.0)}),
        ),
        (
            RelayToPeer::CircuitStart { circuit: 10, origin: CircuitOrigin::Pairing { rendezvous } },
            json!({"circuit": "10", "rendezvous": hex(rendezvous.0)}),
        ),
        (RelayToPeer::Presence { online: true, since: 1_800_000_000 }, json!({"online": true, "since": "1800000000"})),
        (RelayToPeer::Presence { online: false, since: 0 }, json!({"online": false, "since": "0"})),
        (RelayToPeer::Attached { circuit: 11 }, json!({"circuit": "11"})),
    ]
}

/// The frames that version 2 has besides.
pub(crate) fn relay_frames_2() -> Vec<(RelayToPeer, Value)> {
    let keys = vec![PublicKey([0xaa; 32]), PublicKey([0xab; 32])];
    vec![
        (RelayToPeer::DevicesRevoked { keys: Vec::new() }, json!({"keys": []})),
        (
            RelayToPeer::DevicesRevoked { keys: keys.clone() },
            json!({"keys": keys.iter().map(|key| hex(key.0)).collect::<Vec<_>>()}),
        ),
    ]
}

/// Every frame that a host or a device sends, with its fields.
pub(crate) fn peer_frames() -> Vec<(PeerToRelay, Value)> {
    let rendezvous = RendezvousId([0xdd; 16]);
    let (key, peer_nonce, boot, host) = (PublicKey([0xaa; 32]), [0xbb; 32], BootId([0xcc; 16]), HostId([0xee; 16]));
    let hello = json!({"version": 1, "key": hex(key.0), "peer_nonce": hex(peer_nonce), "proof": "a.b.c"});
    let and = |more: Value| {
        let mut fields = hello.clone();
        let more = more.as_object().expect("an object").clone();
        fields.as_object_mut().expect("an object").extend(more);
        fields
    };
    let proof = || "a.b.c".to_owned();
    let enroll_key = Some(EnrollKey("enrol-me".to_owned()));
    vec![
        (
            PeerToRelay::HostHello { version: 1, key, peer_nonce, boot, proof: proof(), enroll_key: None },
            and(json!({"boot": hex(boot.0), "enroll_key": null})),
        ),
        (
            PeerToRelay::HostHello { version: 1, key, peer_nonce, boot, proof: proof(), enroll_key },
            and(json!({"boot": hex(boot.0), "enroll_key": "enrol-me"})),
        ),
        (
            PeerToRelay::HostDataHello { version: 1, key, peer_nonce, boot, proof: proof() },
            and(json!({"boot": hex(boot.0)})),
        ),
        (
            PeerToRelay::DeviceHello { version: 1, key, peer_nonce, host, watch_only: false, proof: proof() },
            and(json!({"host": hex(host.0), "watch_only": false})),
        ),
        (
            PeerToRelay::DeviceHello { version: 1, key, peer_nonce, host, watch_only: true, proof: proof() },
            and(json!({"host": hex(host.0), "watch_only": true})),
        ),
        (
            PeerToRelay::PairHello { version: 1, peer_nonce, rendezvous },
            json!({"version": 1, "peer_nonce": hex(peer_nonce), "rendezvous": hex(rendezvous.0)}),
        ),
        (PeerToRelay::Ping { id: 7 }, json!({"id": "7"})),
        (PeerToRelay::Pong { id: u64::MAX }, json!({"id": u64::MAX.to_string()})),
        (PeerToRelay::DeviceList { version: 1, keys: vec![] }, json!({"version": "1", "keys": []})),
        (
            PeerToRelay::DeviceList { version: 258, keys: vec![key, PublicKey([0xab; 32])] },
            json!({"version": "258", "keys": [hex(key.0), hex([0xab; 32])]}),
        ),
        (
            PeerToRelay::PairingOpen { rendezvous, seconds: 300 },
            json!({"rendezvous": hex(rendezvous.0), "seconds": 300}),
        ),
        (PeerToRelay::PairingClose { rendezvous }, json!({"rendezvous": hex(rendezvous.0)})),
    ]
}

/// The name of a variant, from what its `Debug` starts with.
fn variant(frame: &impl std::fmt::Debug) -> String {
    format!("{frame:?}").chars().take_while(char::is_ascii_alphanumeric).collect()
}

fn control() -> Value {
    let relay = |frames: Vec<(RelayToPeer, Value)>| -> Vec<_> {
        let described = |(frame, fields)| json!({"name": variant(&frame), "fields": fields, "hex": hex(RelayToPeer::encode(&frame))});
        frames.into_iter().map(described).collect()
    };
    let peer = peer_frames().into_iter();
    let peer: Vec<_> = peer
        .map(|(frame, fields)| json!({"name": variant(&frame), "fields": fields, "hex": hex(frame.encode())}))
        .collect();

    let (signer, device) = (identity(RELAY_IDENTITY), identity(DEVICE_IDENTITY).public());
    let welcome = |key: &PublicKey| {
        let transcript = welcome_transcript(&[0x55; 32], &[0x56; 32], key);
        json!({
            "nonce": hex([0x55; 32]),
            "peer_nonce": hex([0x56; 32]),
            "peer_key": hex(key.0),
            "relay_key": hex(signer.public().0),
            "transcript": hex(&transcript),
            "signature": hex(signer.sign(&transcript)),
        })
    };
    json!({
        "about": "frames between a peer and its relay: docs/protocol.md, section 2",
        "relay_to_peer": relay(relay_frames()),
        "relay_to_peer_2": relay(relay_frames_2()),
        "peer_to_relay": peer,
        "welcomes": [welcome(&device), welcome(&PublicKey([0; 32]))],
        "refused": {
            "relay_to_peer": REFUSED_FROM_RELAY.map(|(why, hex)| json!({"why": why, "hex": hex})),
            "peer_to_relay": REFUSED_FROM_PEER.map(|(why, hex)| json!({"why": why, "hex": hex})),
        },
    })
}

/// Bytes that are no frame of the relay's.
pub(crate) const REFUSED_FROM_RELAY: [(&str, &str); 8] = [
    ("empty", ""),
    ("tag of another direction", "41"),
    ("unknown tag", "7f"),
    ("ends in a field", "050000000000"),
    ("bytes after the last field", "1000"),
    ("a flag that is neither 0 nor 1", "30020000000000000000"),
    ("a text longer than the frame", "0311310000000005616263"),
    ("a text that is not UTF-8", "0311310000000001ff"),
];

/// Bytes that are no frame of a peer's.
pub(crate) const REFUSED_FROM_PEER: [(&str, &str); 6] = [
    ("empty", ""),
    ("tag of another direction", "01"),
    ("ends in a field", "45000000"),
    ("bytes after the last field", "45000000000000000700"),
    ("more keys than there are bytes", "5000000000000000010001"),
    ("more devices than a host may have", "5000000000000000010101"),
];

/// The link of `link.json`: its two ends, and what went over the wire.
fn linked() -> (Records, Records, Value) {
    let (host, device, psk) = (static_key(HOST_STATIC), static_key(DEVICE_STATIC), secret(LINK_PSK));
    let host_id = HostId::of(&identity(HOST_IDENTITY).public());
    let ephemeral = |byte| Ephemeral::for_vectors(secret(byte));
    let (initiator, bytes) =
        LinkInitiator::start(host_id, &host.public(), &device, &psk, SUPPORTED, ephemeral(DEVICE_EPHEMERAL))
            .expect("message 1");
    let (preamble, message1) = bytes.split_first_chunk().expect("a preamble");
    let (responder, _) = LinkResponder::read(*preamble, host_id, &host, message(message1), ephemeral(HOST_EPHEMERAL))
        .expect("message 1 opens");
    let (host_end, message2) = responder.accept(&psk).expect("message 2");
    let (device_end, version) = initiator.finish(message(&message2)).expect("message 2 opens");
    let description = json!({
        "about": "a link's handshake: docs/protocol.md, section 3. A `message` is without its block's two bytes of length, a `block` with them.",
        "pattern": "Noise_IKpsk2_25519_AESGCM_SHA256",
        "host_id": hex(host_id.0),
        "host_static": static_json(&host),
        "device_static": static_json(&device),
        "host_ephemeral": static_json(&static_key(HOST_EPHEMERAL)),
        "device_ephemeral": static_json(&static_key(DEVICE_EPHEMERAL)),
        "psk": hex(psk.expose()),
        "preamble": hex(preamble),
        "prologue": hex([b"reachback link v1", &preamble[..], &host_id.0].concat()),
        "message1": hex(message(message1)),
        "message2": hex(message(&message2)),
        "message2_payload": hex([version]),
        "handshake_hash": hex(device_end.handshake_hash()),
    });
    (device_end, host_end, description)
}

fn seal(sealer: &mut Sealer, text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    sealer.seal(&mut text.to_vec(), &mut out).expect("a record");
    out
}

fn open(opener: &mut Opener, block: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    opener.open(message(block), &mut out).expect("the record opens");
    out
}

fn link() -> Value {
    let (device, host, mut description) = linked();
    let (mut device, mut host) = (device.split(), host.split());
    let records: Vec<_> = [("device", "hello"), ("host", "welcome"), ("device", "more"), ("host", "and more")]
        .into_iter()
        .map(|(from, text)| {
            let (sealer, opener) =
                if from == "device" { (&mut device.0, &mut host.1) } else { (&mut host.0, &mut device.1) };
            let block = seal(sealer, text.as_bytes());
            open(opener, &block);
            json!({"from": from, "plaintext": hex(text), "block": hex(block)})
        })
        .collect();
    description["records"] = json!(records);
    description
}

fn records() -> Value {
    let (device, host, _) = linked();
    let ((mut sealer, _), (_, mut opener)) = (device.split(), host.split());
    let sealed: Vec<_> = [0, 1, 128, 129, 1024, 1025, 16 * 1024]
        .into_iter()
        .map(|length: usize| {
            let block = seal(&mut sealer, &vec![0x5a; length]);
            let padded = open(&mut opener, &block).len();
            let mut record = json!({
                "length": length,
                "padded": padded,
                "block_length": block.len(),
                "block_sha256": hex(digest(&SHA256, &block)),
            });
            if length <= 129 {
                record["block"] = json!(hex(&block));
            }
            record
        })
        .collect();
    let lengths = [0, 1, 127, 128, 129, 256, 257, 896, 897, 1023, 1024, 1025, 2047, 2048, 2049, 15_360, 15_361, 16_384];
    let padding: Vec<_> = lengths.into_iter().map(|length| json!([length, padded_len(length)])).collect();
    json!({
        "about": "records from the device over the link of link.json, each `length` bytes of 5a; and what lengths are padded to",
        "fill": "5a",
        "padding": padding,
        "too_long": [16_385],
        "from_device": sealed,
    })
}

/// Every message of a pairing, with its fields.
pub(crate) fn pairing_messages() -> Vec<(PairingMessage, Value)> {
    let (key, contribution) = (PublicKey([0xaa; 32]), secret(0xbb));
    vec![
        (PairingMessage::Reveal { nonce: [0xcc; 32] }, json!({"nonce": hex([0xcc; 32])})),
        (
            PairingMessage::DeviceIntro {
                identity: key,
                contribution: contribution.clone(),
                name: Name::new("Büro").expect("a name"),
                platform: Platform::new("Android").expect("a platform"),
            },
            json!({
                "identity": hex(key.0),
                "contribution": hex(contribution.expose()),
                "name": "Büro",
                "platform": "Android",
            }),
        ),
        (
            PairingMessage::HostIntro {
                identity: key,
                contribution: contribution.clone(),
                scope: Scope::Approve,
                name: Name::new("laptop").expect("a name"),
                relays: vec![
                    RelayEntry {
                        key: PublicKey([0xdd; 32]),
                        origin: "https://relay.example".parse().expect("an origin"),
                    },
                    RelayEntry {
                        key: PublicKey([0xde; 32]),
                        origin: "https://[2001:db8::1]:8443".parse().expect("an origin"),
                    },
                ],
            },
            json!({
                "identity": hex(key.0),
                "contribution": hex(contribution.expose()),
                "scope": "approve",
                "name": "laptop",
                "relays": [
                    {"key": hex([0xdd; 32]), "url": "https://relay.example:443"},
                    {"key": hex([0xde; 32]), "url": "https://[2001:db8::1]:8443"},
                ],
            }),
        ),
        (PairingMessage::Done, json!({})),
        (PairingMessage::Refused { code: Refusal::WrongDigits }, json!({"code": 1})),
        (PairingMessage::Refused { code: Refusal::Malformed }, json!({"code": 5})),
        (PairingMessage::Waiting, json!({})),
    ]
}

/// Records that hold no message of a pairing.
pub(crate) const REFUSED_MESSAGES: [(&str, &str); 6] = [
    ("only padding", "0000"),
    ("unknown tag", "07"),
    ("ends in a field", "01cccc"),
    ("bytes after the last field that are not padding", "040001"),
    ("a name with an escape character", "NAME:1b5b324a"),
    ("a name that turns the direction of text", "NAME:e280ae656e6f6850"),
];

/// The bytes of an entry of [`REFUSED_MESSAGES`], in hex; `NAME:` stands for the fields in front of a device's name.
pub(crate) fn refused_message(entry: &str) -> String {
    match entry.strip_prefix("NAME:") {
        Some(name) => format!("02{}{:02x}{name}054c696e7578", "aa".repeat(64), name.len() / 2),
        None => entry.to_owned(),
    }
}

/// What people type and paste, beside what is meant: a code as it is shown, or a pairing URL.
fn spellings(url: &str) -> Value {
    let code = "0123-4567-89AB-CDEF";
    let (left, right) = url.split_at(40);
    let codes = [
        "0123 4567\n89ab\tcdef",
        "0123\u{2013}4567\u{2014}89AB\u{2212}CDEF",
        "\u{feff}0123\u{200b}4567\u{ad}89AB\u{2060}CDEF\u{202c}",
        "\u{ff10}\u{ff11}23\u{ff0d}4567\u{3000}89\u{ff21}b\u{ff43}def",
    ];
    let urls = [format!("{left}\r\n  {right}"), format!("\u{200e}{left}\u{200b}{right}\u{feff}")];
    for typed in codes {
        assert_eq!(*TypedCode::parse(typed).expect("a code").expose(), code, "{typed:?}");
    }
    for copied in &urls {
        assert_eq!(*PairingUrl::parse(copied).expect("a URL").expose(), url, "{copied:?}");
    }
    json!({
        "codes": codes.map(|typed| json!({ "typed": typed, "shown": code })),
        "urls": urls.map(|copied| json!({ "copied": copied, "url": url })),
    })
}

fn pairing() -> Value {
    let secrets: Vec<_> = [0x01, 0xfe]
        .into_iter()
        .map(|byte| {
            let secret = PairingSecret::new(secret(byte));
            json!({
                "secret": hex(secret.expose()),
                "rendezvous": hex(secret.rendezvous().0),
                "psk0": hex(secret.psk0().expose()),
            })
        })
        .collect();
    let codes: Vec<_> = [
        ("0123-4567-89AB-CDEF", "https://relay.example.com"),
        ("o123 4567 89ab ilO1", "HTTPS://Relay.Example.com:8443/"),
        ("zyxw-vtsr-qpnm-kjhg", "http://[::1]:8080"),
    ]
    .into_iter()
    .map(|(typed, relay)| {
        let code = TypedCode::parse(typed).expect("a code");
        let origin = relay.parse().expect("an origin");
        let secret = PairingSecret::from_code(&code, &origin);
        json!({
            "typed": typed,
            "shown": *code.expose(),
            "relay": relay,
            "origin": origin.to_string(),
            "secret": hex(secret.expose()),
        })
    })
    .collect();
    let relay_id = RelayId::of(&identity(RELAY_IDENTITY).public());
    let urls: Vec<_> = [
        ("https://relay.example.com", None),
        ("http://127.0.0.1:8080", None),
        ("https://[2001:db8::1]:8443", None),
        ("https://relay.example.com:8443", Some("https://app.example.com")),
    ]
    .into_iter()
    .map(|(relay, web): (&str, Option<&str>)| {
        let relay = relay.parse().expect("an origin");
        let web = web.map(|web| web.parse().expect("an origin"));
        let url = PairingUrl::new(relay, web, PairingSecret::new(secret(0x01)), relay_id).expect("a short URL");
        json!({
            "origin": url.relay.to_string(),
            "web": url.web.as_ref().map(ToString::to_string),
            "secret": hex(url.secret.expose()),
            "fingerprint": hex(url.fingerprint),
            "url": *url.expose(),
        })
    })
    .collect();
    let messages: Vec<_> = pairing_messages()
        .into_iter()
        .map(|(message, fields)| json!({"name": variant(&message), "fields": fields, "hex": hex(message.encode())}))
        .collect();
    json!({
        "about": "pairing: docs/protocol.md, section 5. Messages are shown before padding, a `block` with its two bytes of length.",
        "secrets": secrets,
        "codes": codes,
        "spellings": spellings(urls[0]["url"].as_str().expect("a URL")),
        "refused_codes": ["", "0123-4567-89AB-CDE", "0123-4567-89AB-CDEFG", "0123-4567-89AB-CDEU"],
        "relay_key": hex(identity(RELAY_IDENTITY).public().0),
        "urls": urls,
        "messages": messages,
        "refused_messages": REFUSED_MESSAGES.map(|(why, entry)| json!({"why": why, "hex": refused_message(entry)})),
        "exchange": exchange(),
    })
}

/// One whole pairing, both sides' inputs and everything on the wire.
fn exchange() -> Value {
    let fresh = |ephemeral, nonce, contribution| Fresh {
        ephemeral: Ephemeral::for_vectors(secret(ephemeral)),
        nonce: [nonce; 32],
        contribution: secret(contribution),
    };
    let device = DeviceSide {
        identity: identity(DEVICE_IDENTITY).public(),
        static_key: static_key(DEVICE_STATIC),
        name: Name::new("Phone").expect("a name"),
        platform: Platform::new("Android").expect("a platform"),
    };
    let host = HostSide {
        identity: identity(HOST_IDENTITY).public(),
        static_key: static_key(HOST_STATIC),
        name: Name::new("laptop").expect("a name"),
        relays: vec![RelayEntry {
            key: identity(RELAY_IDENTITY).public(),
            origin: "https://relay.example.com".parse().expect("an origin"),
        }],
        scope: Scope::Approve,
    };
    let secret_s = PairingSecret::new(secret(0x01));
    let sides = json!({
        "secret": hex(secret_s.expose()),
        "device": {
            "identity": hex(device.identity.0),
            "static": static_json(&device.static_key),
            "ephemeral": static_json(&static_key(DEVICE_EPHEMERAL)),
            "nonce": hex([0x62; 32]),
            "contribution": hex([0x72; 32]),
            "name": device.name.as_str(),
            "platform": device.platform.as_str(),
        },
        "host": {
            "identity": hex(host.identity.0),
            "static": static_json(&host.static_key),
            "ephemeral": static_json(&static_key(HOST_EPHEMERAL)),
            "nonce": hex([0x61; 32]),
            "contribution": hex([0x71; 32]),
            "name": host.name.as_str(),
            "relays": [{"key": hex(host.relays[0].key.0), "url": host.relays[0].origin.to_string()}],
            "scope": host.scope.name(),
        },
    });

    let relay_key = host.relays[0].key;
    let (mut initiator, start) =
        PairingInitiator::start(secret_s.clone(), device, relay_key, SUPPORTED, fresh(DEVICE_EPHEMERAL, 0x62, 0x72))
            .expect("message 1");
    let (preamble, message1) = start.split_first_chunk().expect("a preamble");
    let mut responder = PairingResponder::start(secret_s.clone(), *preamble, host, fresh(HOST_EPHEMERAL, 0x61, 0x71))
        .expect("a pairing circuit");
    let message2 = responder.receive(message(message1)).expect("message 1 opens").send;
    let message3 = initiator.receive(message(&message2)).expect("message 2 opens").send;
    let handshake_hash = hex(initiator.handshake_hash().expect("a channel"));
    let reveal = responder.receive(message(&message3)).expect("message 3 opens").send;
    let shown = initiator.receive(message(&reveal)).expect("the commitment holds");
    let Some(InitiatorEvent::Digits(digits)) = shown.event else { panic!("no digits") };
    responder.receive(message(&shown.send)).expect("the device introduces itself");
    let waiting = responder.waiting().expect("the person has not decided");
    assert_eq!(initiator.receive(message(&waiting)).expect("the host waits").event, None);
    let host_intro = responder.confirm(&digits.to_string()).expect("the digits are right").send;
    let paired = initiator.receive(message(&host_intro)).expect("the host introduces itself");
    let Some(InitiatorEvent::Paired(paired_host)) = paired.event else { panic!("device not paired") };
    let done = responder.receive(message(&paired.send)).expect("done");
    let Some(ResponderEvent::Paired(_)) = done.event else { panic!("host not paired") };

    let block = |from: &str, what: &str, bytes: &[u8]| json!({"from": from, "what": what, "block": hex(bytes)});
    let rendezvous = secret_s.rendezvous().0;
    json!({
        "pattern": "Noise_XXpsk0_25519_AESGCM_SHA256",
        "sides": sides,
        "preamble": hex(preamble),
        "prologue": hex([b"reachback pairing v1", &preamble[..], &rendezvous].concat()),
        "commitment": hex(digest(&SHA256, &[&b"reachback commit v1"[..], &[0x61; 32]].concat())),
        "handshake_hash": handshake_hash,
        "digits": digits.to_string(),
        "psk": hex(paired_host.psk.expose()),
        "blocks": [
            block("device", "message1", message1),
            block("host", "message2", &message2),
            block("device", "message3", &message3),
            block("host", "Reveal", &reveal),
            block("device", "DeviceIntro", &shown.send),
            block("host", "Waiting", &waiting),
            block("host", "HostIntro", &host_intro),
            block("device", "Done", &paired.send),
        ],
    })
}
