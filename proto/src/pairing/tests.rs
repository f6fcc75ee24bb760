use proptest::prelude::*;
use ring::rand::SystemRandom;

use super::*;
use crate::crypto::handshake::{Ephemeral, HandshakeError, LinkInitiator, LinkResponder};
use crate::crypto::keys::{Identity, Secret, StaticKey};
use crate::crypto::records::RecordError;
use crate::ids::PublicKey;
use crate::scope::Scope;
use crate::version::{SUPPORTED, VersionRange};

fn secret() -> PairingSecret {
    PairingSecret::new(Secret::new([1; 32]))
}

fn identity(byte: u8) -> PublicKey {
    Identity::from_seed(Secret::new([byte; 32])).public()
}

fn static_key(byte: u8) -> StaticKey {
    StaticKey::from_private(Secret::new([byte; 32])).unwrap()
}

fn device_side() -> DeviceSide {
    DeviceSide {
        identity: identity(2),
        static_key: static_key(3),
        name: Name::new("Phone").unwrap(),
        platform: Platform::new("Android").unwrap(),
    }
}

fn relay(seed: u8) -> RelayEntry {
    RelayEntry { key: identity(seed), origin: format!("https://relay{seed}.example").parse().unwrap() }
}

fn host_side() -> HostSide {
    HostSide {
        identity: identity(4),
        static_key: static_key(5),
        name: Name::new("laptop").unwrap(),
        relays: vec![relay(6), relay(8)],
        scope: Scope::Steer,
    }
}

fn fresh() -> Fresh {
    Fresh::generate(&SystemRandom::new()).unwrap()
}

/// A pairing that has come as far as `Reveal`'s place: both sides, and the host's next bytes.
struct Pair {
    device: PairingInitiator,
    host: PairingResponder,
    /// The host's or the device's last bytes, not yet delivered.
    wire: Vec<u8>,
}

/// The only block in `bytes`.
fn block(bytes: &[u8]) -> &[u8] {
    let (length, block) = bytes.split_first_chunk().expect("a block to deliver");
    assert_eq!(usize::from(u16::from_be_bytes(*length)), block.len(), "one block");
    block
}

impl Pair {
    fn new(device: DeviceSide, host: HostSide) -> Self {
        let (device, bytes) = PairingInitiator::start(secret(), device, identity(6), SUPPORTED, fresh()).unwrap();
        let (preamble, message1) = bytes.split_first_chunk().unwrap();
        let host = PairingResponder::start(secret(), *preamble, host, fresh()).unwrap();
        Self { device, host, wire: message1.to_vec() }
    }

    fn host_hears(&mut self) -> Result<Option<ResponderEvent>, PairingError> {
        let step = self.host.receive(block(&self.wire))?;
        self.wire = step.send;
        Ok(step.event)
    }

    fn device_hears(&mut self) -> Result<Option<InitiatorEvent>, PairingError> {
        let step = self.device.receive(block(&self.wire))?;
        self.wire = step.send;
        Ok(step.event)
    }

    /// Both handshake messages and the host's `Reveal`, undelivered.
    fn handshaken() -> Self {
        let mut pair = Self::new(device_side(), host_side());
        assert_eq!(pair.host_hears(), Ok(None));
        assert_eq!(pair.device_hears(), Ok(None));
        assert_eq!(pair.host_hears(), Ok(None));
        pair
    }

    /// As far as the question at the host; the digits are the device's.
    fn asking() -> (Self, String) {
        let mut pair = Self::handshaken();
        let Ok(Some(InitiatorEvent::Digits(digits))) = pair.device_hears() else { panic!("no digits after Reveal") };
        let Ok(Some(ResponderEvent::DeviceWaits { .. })) = pair.host_hears() else { panic!("nobody asks") };
        (pair, digits.to_string())
    }

    /// Delivers a record that a real host would not send here.
    fn host_says(&mut self, message: &PairingMessage) -> Result<Option<InitiatorEvent>, PairingError> {
        self.wire = self.host.messages.as_mut().unwrap().seal(message).unwrap();
        self.device_hears()
    }

    /// Delivers a record that a real device would not send here.
    fn device_says(&mut self, message: &PairingMessage) -> Result<Option<ResponderEvent>, PairingError> {
        self.wire = self.device.messages.as_mut().unwrap().seal(message).unwrap();
        self.host_hears()
    }
}

#[test]
fn the_person_may_give_another_scope_until_the_digits_are_right() {
    let (mut pair, digits) = Pair::asking();
    pair.host.grant(Scope::Admin).unwrap();
    assert_eq!(pair.host.confirm("12"), Err(PairingError::NotSixDigits));
    pair.host.grant(Scope::View).unwrap();
    pair.wire = pair.host.confirm(&digits).unwrap().send;
    assert_eq!(pair.host.grant(Scope::Admin), Err(PairingError::Unexpected), "it was told already");
    let Ok(Some(InitiatorEvent::Paired(host))) = pair.device_hears() else { panic!("device did not pair") };
    let Ok(Some(ResponderEvent::Paired(device))) = pair.host_hears() else { panic!("host did not pair") };
    assert_eq!((host.scope, device.scope), (Scope::View, Scope::View));
}

fn other_digits(digits: &str) -> String {
    format!("{:06}", (digits.parse::<u32>().unwrap() + 1) % 1_000_000)
}

#[test]
fn a_pairing_gives_both_sides_what_a_link_needs() {
    let (mut pair, digits) = Pair::asking();
    assert!(pair.wire.is_empty(), "the host waits for the person");
    for _ in 0..3 {
        pair.wire = pair.host.waiting().unwrap();
        assert_eq!(pair.device_hears(), Ok(None), "the person thinks");
    }
    let step = pair.host.confirm(&format!(" {}-{} ", &digits[..3], &digits[3..])).unwrap();
    assert_eq!(step.event, None, "the host keeps nothing before Done");
    pair.wire = step.send;
    let Ok(Some(InitiatorEvent::Paired(host))) = pair.device_hears() else { panic!("device did not pair") };
    let Ok(Some(ResponderEvent::Paired(device))) = pair.host_hears() else { panic!("host did not pair") };

    let (wanted_host, wanted_device) = (host_side(), device_side());
    assert_eq!((host.identity, host.static_key), (wanted_host.identity, wanted_host.static_key.public()));
    assert_eq!((&host.name, host.scope), (&wanted_host.name, Scope::Steer));
    assert_eq!(host.relays, wanted_host.relays);
    assert_eq!((device.identity, device.static_key), (wanted_device.identity, wanted_device.static_key.public()));
    assert_eq!(
        (&device.name, &device.platform, device.scope),
        (&wanted_device.name, &wanted_device.platform, Scope::Steer)
    );
    assert_eq!(device.psk, host.psk);

    let rng = SystemRandom::new();
    let ephemeral = || Ephemeral::generate(&rng).unwrap();
    let (link, bytes) =
        LinkInitiator::start(host.id(), &host.static_key, &wanted_device.static_key, &host.psk, SUPPORTED, ephemeral())
            .unwrap();
    let (preamble, message1) = bytes.split_first_chunk().unwrap();
    let (responder, caller) =
        LinkResponder::read(*preamble, host.id(), &wanted_host.static_key, block(message1), ephemeral()).unwrap();
    assert_eq!(caller, device.static_key);
    let (_, message2) = responder.accept(&device.psk).unwrap();
    link.finish(block(&message2)).unwrap();
}

#[test]
fn programs_may_confirm_without_digits() {
    let (mut pair, _) = Pair::asking();
    pair.wire = pair.host.confirm_without_digits().unwrap().send;
    assert!(matches!(pair.device_hears(), Ok(Some(InitiatorEvent::Paired(_)))));
    assert!(matches!(pair.host_hears(), Ok(Some(ResponderEvent::Paired(_)))));
}

#[test]
fn wrong_digits_end_the_pairing_on_both_sides() {
    let (mut pair, digits) = Pair::asking();
    let step = pair.host.confirm(&other_digits(&digits)).unwrap();
    assert_eq!(step.event, Some(ResponderEvent::WrongDigits));
    pair.wire = step.send;
    assert_eq!(pair.device_hears(), Err(PairingError::Refused(Refusal::WrongDigits)));
    assert_eq!(pair.host.confirm(&digits), Err(PairingError::Unexpected), "there is one guess");
    assert_eq!(pair.host.confirm_without_digits(), Err(PairingError::Unexpected));
    assert_eq!(pair.host.refuse(Refusal::Declined), None, "said once");
}

#[test]
fn a_slip_that_is_not_six_digits_is_asked_again() {
    let (mut pair, digits) = Pair::asking();
    for typed in ["", "12345", "yes", &digits[1..]] {
        assert_eq!(pair.host.confirm(typed), Err(PairingError::NotSixDigits));
    }
    assert!(pair.host.confirm(&digits).is_ok());
}

#[test]
fn nothing_is_confirmed_before_a_device_asks() {
    let mut pair = Pair::handshaken();
    assert_eq!(pair.host.confirm("123456"), Err(PairingError::Unexpected));
    assert_eq!(pair.host.confirm_without_digits(), Err(PairingError::Unexpected));
    // The mistake of the caller costs the pairing nothing.
    assert!(matches!(pair.device_hears(), Ok(Some(InitiatorEvent::Digits(_)))));
    assert!(matches!(pair.host_hears(), Ok(Some(ResponderEvent::DeviceWaits { .. }))));
}

#[test]
fn either_side_can_refuse_with_a_reason() {
    for code in [Refusal::Declined, Refusal::Expired, Refusal::TooManyDevices] {
        let (mut pair, _) = Pair::asking();
        pair.wire = pair.host.refuse(code).unwrap();
        assert_eq!(pair.device_hears(), Err(PairingError::Refused(code)));
    }
    let (mut pair, digits) = Pair::asking();
    pair.wire = pair.device.refuse(Refusal::Declined).unwrap();
    assert_eq!(pair.host_hears(), Err(PairingError::Refused(Refusal::Declined)), "while the person is asked");
    assert_eq!(pair.host.confirm(&digits), Err(PairingError::Unexpected));

    let mut pair = Pair::new(device_side(), host_side());
    assert_eq!(pair.host.refuse(Refusal::Expired), None, "before there is a channel, there is no way to say it");
    assert_eq!(pair.host_hears(), Err(PairingError::Unexpected));
    assert_eq!(pair.device.refuse(Refusal::Expired), None);
}

#[test]
fn another_secret_is_told_from_other_failures() {
    let other = PairingSecret::new(Secret::new([9; 32]));
    let (_, bytes) = PairingInitiator::start(other, device_side(), identity(6), SUPPORTED, fresh()).unwrap();
    let (preamble, message1) = bytes.split_first_chunk().unwrap();
    let mut host = PairingResponder::start(secret(), *preamble, host_side(), fresh()).unwrap();
    assert_eq!(host.receive(block(message1)), Err(PairingError::WrongSecret));
    assert_eq!(host.receive(block(message1)), Err(PairingError::Unexpected));
}

#[test]
fn a_commitment_that_is_not_kept_shows_no_digits() {
    let mut pair = Pair::new(device_side(), host_side());
    pair.host_hears().unwrap();
    let responder::State::Message3 { nonce, .. } = &mut pair.host.state else { panic!("host is not at message 3") };
    *nonce = [7; 32];
    pair.device_hears().unwrap();
    pair.host_hears().unwrap();
    assert_eq!(pair.device_hears(), Err(PairingError::Commitment));
    let refusal = pair.device.refuse(Refusal::Malformed);
    assert!(refusal.is_some(), "the device can still say why it ends");
}

#[test]
fn weak_keys_and_another_relay_are_refused() {
    let weak = PublicKey([0; 32]);
    let mut pair = Pair::new(DeviceSide { identity: weak, ..device_side() }, host_side());
    let events = [pair.host_hears().map(|_| ()), pair.device_hears().map(|_| ()), pair.host_hears().map(|_| ())];
    assert_eq!(events, [Ok(()); 3]);
    pair.device_hears().unwrap();
    assert_eq!(pair.host_hears(), Err(PairingError::WeakKey));

    for (host, err) in [
        (HostSide { identity: weak, ..host_side() }, PairingError::WeakKey),
        (HostSide { relays: vec![RelayEntry { key: weak, ..relay(6) }], ..host_side() }, PairingError::OtherRelay),
        (HostSide { relays: vec![relay(7)], ..host_side() }, PairingError::OtherRelay),
        (
            HostSide { relays: vec![relay(6), RelayEntry { key: weak, ..relay(7) }], ..host_side() },
            PairingError::WeakKey,
        ),
    ] {
        let mut pair = Pair::new(device_side(), host);
        pair.host_hears().unwrap();
        pair.device_hears().unwrap();
        pair.host_hears().unwrap();
        pair.device_hears().unwrap();
        pair.host_hears().unwrap();
        pair.wire = pair.host.confirm_without_digits().unwrap().send;
        assert_eq!(pair.device_hears(), Err(err));
    }
}

#[test]
fn messages_out_of_their_place_are_refused() {
    let device_intro = PairingMessage::DeviceIntro {
        identity: identity(2),
        contribution: Secret::new([0; 32]),
        name: Name::new("Phone").unwrap(),
        platform: Platform::new("Android").unwrap(),
    };
    let reveal = PairingMessage::Reveal { nonce: [0; 32] };
    for message in [&reveal, &device_intro, &PairingMessage::Done] {
        let (mut pair, digits) = Pair::asking();
        assert_eq!(pair.device_says(message), Err(PairingError::Unexpected), "{message:?} before the person agreed");
        assert_eq!(pair.host.confirm(&digits), Err(PairingError::Unexpected), "the pairing is over");
        let (mut pair, _) = Pair::asking();
        assert_eq!(pair.host_says(message), Err(PairingError::Unexpected), "{message:?} instead of HostIntro");
    }
    for message in [&reveal, &PairingMessage::Done] {
        let mut pair = Pair::handshaken();
        let refused = pair.device_says(message);
        assert_eq!(refused, Err(PairingError::Unexpected), "{message:?} instead of DeviceIntro");
    }
    let (mut pair, digits) = Pair::asking();
    pair.wire = pair.host.confirm(&digits).unwrap().send;
    assert_eq!(pair.device_says(&reveal), Err(PairingError::Unexpected), "Reveal instead of Done");
}

#[test]
fn versions_and_circuits_of_another_kind_are_refused() {
    let refused = |preamble| PairingResponder::start(secret(), preamble, host_side(), fresh()).map(|_| ()).unwrap_err();
    assert_eq!(refused(*b"GET "), PairingError::Handshake(HandshakeError::Preamble));
    assert_eq!(refused([0x52, 1, 1, 1]), PairingError::Handshake(HandshakeError::Purpose));
    assert_eq!(refused([0x52, 2, 7, 9]), PairingError::Handshake(HandshakeError::Version { min: 7, max: 9 }));

    // The versions are in the prologue: who changes them on the way ends the handshake.
    let versions = VersionRange { min: 1, max: 9 };
    let (_, bytes) = PairingInitiator::start(secret(), device_side(), identity(6), versions, fresh()).unwrap();
    let mut host = PairingResponder::start(secret(), [0x52, 2, 1, 1], host_side(), fresh()).unwrap();
    assert_eq!(host.receive(block(&bytes[4..])), Err(PairingError::WrongSecret));
}

#[test]
fn altered_repeated_and_cut_blocks_end_the_pairing() {
    // Every block of a pairing in turn, the even ones for the host.
    for at in 0..7 {
        for fault in ["altered", "cut", "empty"] {
            let (mut pair, mut step) = (Pair::new(device_side(), host_side()), 0);
            let err = loop {
                if step == at {
                    match fault {
                        "altered" => *pair.wire.last_mut().unwrap() ^= 1,
                        "cut" => drop(pair.wire.pop()),
                        _ => pair.wire.truncate(2),
                    }
                    let length = (pair.wire.len() - 2) as u16;
                    pair.wire[..2].copy_from_slice(&length.to_be_bytes());
                }
                let result =
                    if step % 2 == 0 { pair.host_hears().map(|_| ()) } else { pair.device_hears().map(|_| ()) };
                match result {
                    Err(err) => break err,
                    Ok(()) if step == 4 => pair.wire = pair.host.confirm_without_digits().unwrap().send,
                    Ok(()) => {}
                }
                step += 1;
            };
            assert_eq!(step, at, "{fault} block {at} must be the one that fails");
            let right = match err {
                PairingError::Handshake(HandshakeError::Unopened | HandshakeError::Length { .. }) => at < 3,
                PairingError::WrongSecret => at == 0,
                PairingError::Record(RecordError::Unopened) => at >= 3,
                _ => false,
            };
            assert!(right, "{fault} block {at}: {err:?}");
        }
    }
    let mut pair = Pair::handshaken();
    let reveal = pair.wire.clone();
    pair.device_hears().unwrap();
    pair.wire = reveal;
    assert_eq!(pair.device_hears(), Err(PairingError::Record(RecordError::Unopened)), "repeated");
}

#[test]
fn a_malformed_message_ends_the_pairing_and_can_be_answered() {
    let (mut pair, _) = Pair::asking();
    pair.wire.clear();
    let messages = pair.host.messages.as_mut().unwrap();
    messages.sealer.seal(&mut vec![0xff; 20], &mut pair.wire).unwrap();
    assert!(matches!(pair.device_hears(), Err(PairingError::Message(_))));
    pair.wire = pair.device.refuse(Refusal::Malformed).unwrap();
    assert_eq!(pair.host_hears(), Err(PairingError::Refused(Refusal::Malformed)));
}

#[test]
fn secrets_are_not_printed() {
    let (pair, _) = Pair::asking();
    let text = format!("{:?} {:?} {:?}", pair.device, pair.host, fresh());
    for hidden in ["psk", "nonce", "Secret(["] {
        assert!(!text.contains(hidden), "{hidden} in {text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn arbitrary_blocks_never_panic_at_any_step(step in 0..7usize, block in any_block()) {
        let mut pair = Pair::new(device_side(), host_side());
        for at in 0..step {
            if at % 2 == 0 { pair.host_hears().unwrap(); } else { pair.device_hears().unwrap(); }
            if at == 4 {
                pair.wire = pair.host.confirm_without_digits().unwrap().send;
            }
        }
        prop_assert!(pair.host.receive(&block).is_err());
        prop_assert!(pair.device.receive(&block).is_err());
    }
}

/// Bytes of any length, and of the lengths that blocks of a pairing have.
fn any_block() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![0..600usize, Just(48), Just(96), Just(128), Just(144), Just(272)]
        .prop_flat_map(|length| prop::collection::vec(any::<u8>(), length))
}
