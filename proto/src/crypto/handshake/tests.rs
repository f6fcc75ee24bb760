use super::*;
use crate::crypto::records::RecordError;
use proptest::prelude::*;
use ring::rand::SystemRandom;

const HOST: HostId = HostId([9; 16]);

struct Ends {
    host: StaticKey,
    device: StaticKey,
    psk: Secret,
}

fn ends() -> Ends {
    let key = |byte| StaticKey::from_private(Secret::new([byte; 32])).unwrap();
    Ends { host: key(1), device: key(2), psk: Secret::new([3; 32]) }
}

fn fresh() -> Ephemeral {
    Ephemeral::generate(&SystemRandom::new()).unwrap()
}

/// The device's first bytes, as preamble and message 1.
fn start(ends: &Ends, versions: VersionRange) -> (LinkInitiator, [u8; 4], Vec<u8>) {
    let (initiator, out) =
        LinkInitiator::start(HOST, &ends.host.public(), &ends.device, &ends.psk, versions, fresh()).unwrap();
    (initiator, *out.first_chunk().unwrap(), out[6..].to_vec())
}

fn read(ends: &Ends, preamble: [u8; 4], message1: &[u8]) -> Result<(LinkResponder, PublicKey), HandshakeError> {
    LinkResponder::read(preamble, HOST, &ends.host, message1, fresh())
}

/// Device's and host's end of a finished link.
pub(crate) fn linked() -> (Records, Records) {
    let ends = ends();
    let (initiator, preamble, message1) = start(&ends, SUPPORTED);
    let (responder, _) = read(&ends, preamble, &message1).unwrap();
    let (host, message2) = responder.accept(&ends.psk).unwrap();
    let (device, _) = initiator.finish(&message2[2..]).unwrap();
    (device, host)
}

#[test]
fn a_link_names_the_device_and_the_version_at_both_ends() {
    let ends = ends();
    let (initiator, preamble, message1) = start(&ends, VersionRange { min: 1, max: 9 });
    assert_eq!((preamble, message1.len()), ([0x52, 1, 1, 9], LINK_MESSAGE_1));
    let (responder, device) = read(&ends, preamble, &message1).unwrap();
    assert_eq!((device, responder.version()), (ends.device.public(), 1));
    let (host, message2) = responder.accept(&ends.psk).unwrap();
    assert_eq!(message2.len(), 2 + LINK_MESSAGE_2);
    let (device, version) = initiator.finish(&message2[2..]).unwrap();
    assert_eq!((version, device.handshake_hash()), (1, host.handshake_hash()));
}

#[test]
fn another_psk_does_not_link() {
    let ends = ends();
    let (initiator, preamble, message1) = start(&ends, SUPPORTED);
    let (_, message2) = read(&ends, preamble, &message1).unwrap().0.accept(&Secret::new([8; 32])).unwrap();
    assert_eq!(initiator.finish(&message2[2..]).unwrap_err(), HandshakeError::Unopened);
}

#[test]
fn another_host_key_host_id_or_preamble_does_not_open_message_1() {
    let ends = ends();
    let (_, preamble, message1) = start(&ends, SUPPORTED);
    let other = StaticKey::generate(&SystemRandom::new()).unwrap();
    let refused = |result: Result<_, HandshakeError>| result.map(|_| ()).unwrap_err();
    assert_eq!(
        refused(LinkResponder::read(preamble, HOST, &other, &message1, fresh())),
        HandshakeError::Unopened,
        "another host's key"
    );
    assert_eq!(
        refused(LinkResponder::read(preamble, HostId([8; 16]), &ends.host, &message1, fresh())),
        HandshakeError::Unopened,
        "another host id"
    );
    assert_eq!(refused(read(&ends, [0x52, 1, 1, 2], &message1)), HandshakeError::Unopened, "versions altered");
}

#[test]
fn a_replayed_message_1_names_a_device_but_makes_no_link() {
    let ends = ends();
    let (_, preamble, message1) = start(&ends, SUPPORTED);
    let (_first, device) = read(&ends, preamble, &message1).unwrap();
    let (replayed, again) = read(&ends, preamble, &message1).unwrap();
    assert_eq!(device, again);
    // The host answers as always; whoever replayed has no key that opens it, so no record of theirs opens either.
    let (records, message2) = replayed.accept(&ends.psk).unwrap();
    let (_, mut opener) = records.split();
    let (attacker, ..) = start(&Ends { psk: Secret::new([0; 32]), ..ends }, SUPPORTED);
    assert_eq!(attacker.finish(&message2[2..]).unwrap_err(), HandshakeError::Unopened);
    assert_eq!(opener.open(&[7; 144], &mut Vec::new()), Err(RecordError::Unopened));
}

#[test]
fn altered_messages_do_not_open() {
    let ends = ends();
    let (_, preamble, message1) = start(&ends, SUPPORTED);
    for at in (0..message1.len()).step_by(5) {
        let mut bad = message1.clone();
        bad[at] ^= 1;
        assert!(read(&ends, preamble, &bad).is_err(), "byte {at} of message 1");
    }
    for at in (0..LINK_MESSAGE_2).step_by(5) {
        let (initiator, preamble, message1) = start(&ends, SUPPORTED);
        let (_, mut message2) = read(&ends, preamble, &message1).unwrap().0.accept(&ends.psk).unwrap();
        message2[2 + at] ^= 1;
        assert!(initiator.finish(&message2[2..]).is_err(), "byte {at} of message 2");
    }
}

#[test]
fn messages_of_another_length_are_refused_before_any_computation() {
    let ends = ends();
    let (_, preamble, message1) = start(&ends, SUPPORTED);
    for length in [0, 16, LINK_MESSAGE_1 - 1, LINK_MESSAGE_1 + 1, 16_400] {
        let mut bad = message1.clone();
        bad.resize(length, 0);
        assert_eq!(read(&ends, preamble, &bad).unwrap_err(), HandshakeError::Length { length });
        let (initiator, ..) = start(&ends, SUPPORTED);
        assert_eq!(initiator.finish(&bad).unwrap_err(), HandshakeError::Length { length });
    }
}

#[test]
fn preambles_of_another_kind_are_refused() {
    let ends = ends();
    let (.., message1) = start(&ends, SUPPORTED);
    let refused = |preamble| read(&ends, preamble, &message1).map(|_| ()).unwrap_err();
    assert_eq!(refused(*b"GET "), HandshakeError::Preamble);
    assert_eq!(refused([0x52, 0, 1, 1]), HandshakeError::Preamble);
    assert_eq!(refused([0x52, 3, 1, 1]), HandshakeError::Preamble);
    assert_eq!(refused([0x52, 2, 1, 1]), HandshakeError::Purpose);
    for (min, max) in [(2, 9), (0, 0), (9, 1)] {
        assert_eq!(refused([0x52, 1, min, max]), HandshakeError::Version { min, max });
    }
    for purpose in [Purpose::Link, Purpose::Pairing] {
        let preamble = Preamble { purpose, versions: SUPPORTED };
        assert_eq!(Preamble::parse(preamble.to_bytes()), Ok(preamble));
    }
}

#[test]
fn a_version_that_was_not_offered_is_refused() {
    let ends = ends();
    for version in [0, 2, 255] {
        let (initiator, preamble, message1) = start(&ends, SUPPORTED);
        let (mut responder, _) = read(&ends, preamble, &message1).unwrap();
        responder.version = version;
        let (_, message2) = responder.accept(&ends.psk).unwrap();
        let refused = initiator.finish(&message2[2..]).unwrap_err();
        assert_eq!(refused, HandshakeError::Version { min: version, max: version });
    }
}

#[test]
fn static_keys_of_low_order_are_refused_on_both_sides() {
    let ends = ends();
    let weak = PublicKey([0; 32]);
    let start = LinkInitiator::start(HOST, &weak, &ends.device, &ends.psk, SUPPORTED, fresh());
    assert_eq!(start.map(|_| ()).unwrap_err(), HandshakeError::WeakKey);

    // A device whose static key is zero: both sides compute the same zero for `ss`, so message 1 opens.
    let preamble = Preamble { purpose: Purpose::Link, versions: SUPPORTED }.to_bytes();
    let prologue = link_prologue(preamble, HOST);
    let (params, host_static) = (LINK_PATTERN.parse().unwrap(), ends.host.public());
    let mut device = Builder::with_resolver(params, Box::new(ZeroStatic(DefaultResolver)))
        .prologue(&prologue)
        .and_then(|builder| builder.local_private_key(&[0; 32]))
        .and_then(|builder| builder.remote_public_key(&host_static.0))
        .and_then(|builder| builder.psk(LINK_PSK, ends.psk.expose()))
        .and_then(Builder::build_initiator)
        .unwrap();
    let mut message1 = [0; LINK_MESSAGE_1];
    device.write_message(&[], &mut message1).unwrap();
    assert_eq!(read(&ends, preamble, &message1).map(|_| ()).unwrap_err(), HandshakeError::WeakKey);
}

/// X25519 for which the private key zero has the public key zero, as an attacker would have it.
struct ZeroStatic(DefaultResolver);
struct ZeroDh(Box<dyn Dh>, bool);

impl CryptoResolver for ZeroStatic {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        self.0.resolve_rng()
    }
    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::new(ZeroDh(self.0.resolve_dh(choice)?, false)))
    }
    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        self.0.resolve_hash(choice)
    }
    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        self.0.resolve_cipher(choice)
    }
}

impl Dh for ZeroDh {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn pub_len(&self) -> usize {
        32
    }
    fn priv_len(&self) -> usize {
        32
    }
    fn set(&mut self, private: &[u8]) {
        self.1 = private == [0; 32];
        self.0.set(private);
    }
    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        self.0.generate(rng)
    }
    fn pubkey(&self) -> &[u8] {
        if self.1 { &[0; 32] } else { self.0.pubkey() }
    }
    fn privkey(&self) -> &[u8] {
        self.0.privkey()
    }
    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        if self.1 {
            out[..32].fill(0);
            return Ok(());
        }
        self.0.dh(public, out)
    }
}

#[test]
fn an_ephemeral_key_is_given_out_once() {
    let mut rng = OneKey(Some(fresh()));
    assert!(rng.try_fill_bytes(&mut [0; 32]).is_ok());
    assert_eq!(rng.try_fill_bytes(&mut [0; 32]), Err(snow::Error::Rng));
    assert_eq!(OneKey(Some(fresh())).try_fill_bytes(&mut [0; 16]), Err(snow::Error::Rng));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_messages_never_panic(
        preamble in any::<[u8; 4]>(),
        message1 in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), prop::collection::vec(any::<u8>(), LINK_MESSAGE_1)],
        message2 in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), prop::collection::vec(any::<u8>(), LINK_MESSAGE_2)],
    ) {
        let ends = ends();
        prop_assert!(read(&ends, preamble, &message1).is_err());
        prop_assert!(read(&ends, [0x52, 1, 1, 1], &message1).is_err());
        let (initiator, ..) = start(&ends, SUPPORTED);
        prop_assert!(initiator.finish(&message2).is_err());
    }
}
