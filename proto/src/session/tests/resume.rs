//! What a new link owes the one before, and what may stand in a link's way.

use super::*;
use crate::wire::MAX_VARINT;

#[test]
fn acknowledgements_lost_with_a_link_are_said_again_at_once_on_the_next() {
    let mut pair = Pair::connected();
    let channel = pair.channel();
    for n in 0..20 {
        pair.host.send(channel, message(n, 50_000)).unwrap();
    }
    // The device takes what the window lets through, and the link dies with its acknowledgements.
    let mut record = Vec::new();
    while pair.host.poll_transmit(&mut record, pair.now) {
        pair.device.handle_record(&record, pair.now).unwrap();
        pair.drain();
    }
    assert!(pair.host.backlog(channel) > window::INITIAL);
    pair.connect();
    let start = pair.now;
    pair.run();
    assert_eq!(pair.at_device.len(), 20, "the rest waits for acknowledgements that were lost");
    assert_eq!(pair.host.backlog(channel), 0);
    assert!(pair.now - start < liveness::PROBE_AFTER, "it took a probe");
}

#[test]
fn an_answer_that_does_not_come_ends_the_link_and_nothing_is_said_before_it() {
    let mut pair = Pair::connected();
    pair.device.send(API_CHANNEL, message(1, 10)).unwrap();
    let mut record = Vec::new();
    assert!(pair.device.poll_transmit(&mut record, pair.now));
    for has_session in [true, false] {
        if !has_session {
            pair.device = Session::device(SessionLimits::default(), pair.now);
        }
        pair.device.link_up(pair.now);
        assert!(pair.device.poll_transmit(&mut record, pair.now), "Open or Resume");
        let start = pair.now;
        while pair.device.poll_event() != Some(Event::LinkDead) {
            pair.now = pair.device.poll_timeout().expect("a link that attaches has a timeout");
            pair.device.handle_timeout(pair.now);
            assert!(!pair.device.poll_transmit(&mut record, pair.now), "the host waits for one record only");
        }
        assert_eq!(pair.now - start, ATTACH_LIMIT);
    }
}

#[test]
fn the_last_number_there_is_does_not_break_the_acknowledgement_of_a_channel_that_is_over() {
    let mut pair = Pair::connected();
    let channel = pair.channel();
    pair.device.close_channel(channel, ChannelCloseReason::Done, "");
    pair.run();
    let mut record = Vec::new();
    Frame::Data { channel, seq: MAX_VARINT, first: Some(1), last: true, bytes: b"x" }.encode(&mut record);
    pair.host.handle_record(&record, pair.now).unwrap();
    pair.now += ACK_DELAY;
    let mut out = Vec::new();
    assert!(pair.host.poll_transmit(&mut out, pair.now));
    let ack = Frame::decode(&mut Reader::new(&out)).unwrap();
    assert_eq!(ack, Some(Frame::Ack { channel, next: MAX_VARINT }));
}

#[test]
fn nothing_counts_after_the_last_word() {
    let mut pair = Pair::connected();
    let mut record = Vec::new();
    for _ in 0..1000 {
        Frame::Bye { reason: ByeReason::Normal, reconnect_in_ms: 0 }.encode(&mut record);
    }
    // As a peer may, which had more to say when it decided to leave.
    Frame::Ack { channel: 0, next: 0 }.encode(&mut record);
    pair.host.handle_record(&record, pair.now).unwrap();
    pair.host.handle_record(&record, pair.now).unwrap();
    pair.drain();
    let byes = pair.events.iter().filter(|(_, event)| matches!(event, Event::Bye { .. })).count();
    assert_eq!(byes, 1, "each is an event that somebody has to hold");
    assert!(!pair.host.is_up());
}

#[test]
fn what_is_taken_back_before_it_is_sent_never_arrives() {
    let mut pair = Pair::connected();
    let channel = pair.channel();
    pair.device.send(channel, message(1, 10)).unwrap();
    pair.run();
    pair.cut();
    pair.device.send(channel, message(2, 10)).unwrap();
    pair.device.withdraw_channel(channel, ChannelCloseReason::Gap, "out of reach");
    assert_eq!(pair.device.send(channel, message(3, 10)), Err(SendError::Closed));
    pair.connect();
    pair.run();
    assert_eq!(pair.at_host, [(channel, message(1, 10))]);
    assert!(pair.saw(|event| matches!(event, Event::ChannelClosed { reason: ChannelCloseReason::Gap, .. })));
}

proptest! {
    #[test]
    fn what_is_taken_back_was_there_by_the_next_link_or_never_is(
        sent in proptest::collection::vec(1usize..60_000, 0..12), taken in 0usize..12, answered in 0usize..12,
        dark in proptest::collection::vec(1usize..60_000, 0..4), is_up in any::<bool>(), again in 0usize..4, consume in any::<bool>(),
    ) {
        let mut pair = Pair::connected();
        let channel = pair.channel();
        pair.consume = consume;
        for (n, size) in sent.iter().enumerate() {
            pair.device.send(channel, message(n, *size)).unwrap();
        }
        pair.transmit();
        for _ in 0..taken {
            pair.deliver_to_host();
        }
        pair.transmit();
        for _ in 0..answered {
            pair.deliver_to_device();
        }
        if !is_up {
            pair.cut();
        }
        for (n, size) in dark.iter().enumerate() {
            pair.device.send(channel, message(sent.len() + n, *size)).unwrap();
        }
        pair.device.withdraw_channel(channel, ChannelCloseReason::Gap, "out of reach");
        pair.transmit();
        let arrived = pair.at_host.len();
        for _ in 0..2 {
            pair.connect();
            for _ in 0..again {
                pair.transmit();
                pair.deliver_one();
            }
        }
        pair.run();
        prop_assert_eq!(pair.at_host.len(), arrived, "something arrived after it was taken back");
        for (n, (at, bytes)) in pair.at_host.iter().enumerate() {
            let size = sent.iter().chain(&dark).nth(n).unwrap();
            prop_assert_eq!((*at, bytes), (channel, &message(n, *size)));
        }
        let closed = pair.events.iter().filter(|(side, event)| *side == Side::Host && matches!(event, Event::ChannelClosed { .. }));
        prop_assert_eq!(closed.count(), 1);
        pair.consume = true;
        pair.run();
        prop_assert_eq!((pair.device.channels.len(), pair.host.channels.len()), (1, 1), "the channel is not over");
        let channel = pair.channel();
        pair.device.send(channel, message(99, 70_000)).unwrap();
        pair.run();
        prop_assert_eq!(pair.at_host.last(), Some(&(channel, message(99, 70_000))));
    }
}
