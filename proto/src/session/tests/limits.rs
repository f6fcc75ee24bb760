//! Bounds: what they let through, and what they don't.

use super::*;

#[test]
fn the_largest_message_fits_the_queue() {
    let mut pair = Pair::connected();
    let (to_device, to_host) = (MAX_MESSAGE_TO_DEVICE, MAX_MESSAGE_TO_HOST);
    let too_long = |limit| Err(SendError::TooLong { length: limit + 1, limit });
    let long = |length| Bytes::from(vec![b'.'; length]);
    assert_eq!(pair.host.send(API_CHANNEL, long(to_device)), Ok(()));
    assert_eq!(pair.device.send(API_CHANNEL, long(to_host)), Ok(()));
    assert_eq!(pair.host.send(API_CHANNEL, long(to_device + 1)), too_long(to_device));
    assert_eq!(pair.device.send(API_CHANNEL, long(to_host + 1)), too_long(to_host));
    pair.run();
    assert_eq!(pair.at_device, [(API_CHANNEL, long(to_device))]);
    assert_eq!(pair.at_host, [(API_CHANNEL, long(to_host))]);
}

#[test]
fn what_follows_a_large_message_on_its_way_is_no_overflow() {
    let mut pair = Pair::connected();
    let channel = pair.channel();
    pair.host.send(channel, message(0, 60 << 20)).unwrap();
    // As when a thread is loaded while a turn is running.
    for n in 1..1000 {
        assert_eq!(pair.host.send(channel, message(n, 200)), Ok(()), "message {n}");
    }
    pair.run();
    assert_eq!(pair.at_device.len(), 1000);
}

#[test]
fn behind_a_large_message_the_queue_is_bounded_still() {
    let limits = SessionLimits { channel_queue: 100_000, ..SessionLimits::default() };
    let mut pair = Pair::with_limits(limits);
    pair.host.send(API_CHANNEL, message(0, 1_000_000)).unwrap();
    let failed = (0..1000).find_map(|n| pair.host.send(API_CHANNEL, message(n, 1000)).err());
    assert_eq!(failed, Some(SendError::Overflow));
    assert!(pair.host.queued_bytes() < 1000, "what can't arrive any more is dropped");
}

#[test]
fn a_device_opens_no_more_channels_than_a_host_takes() {
    let mut pair = Pair::connected();
    pair.cut();
    let opened = (0..1000).filter(|_| pair.device.open_channel("local").is_ok()).count();
    assert_eq!(pair.device.open_channel("local"), Err(OpenError::TooMany));
    assert_eq!(pair.device.open_channel(&"x".repeat(MAX_ENVIRONMENT + 1)), Err(OpenError::Environment));
    assert!(opened >= 64, "only {opened} channels");
    pair.connect();
    pair.run();
    // The host closed those over its own limit; the session and the others live.
    assert!(pair.device.is_up() && pair.host.is_up());
    assert!(pair.device.open_channel("local").is_ok());
}

#[test]
fn what_a_session_holds_is_what_it_queued_sent_and_took() {
    let mut pair = Pair::connected();
    pair.consume = false;
    pair.host.send(API_CHANNEL, message(0, 100_000)).unwrap();
    assert!(pair.host.held_bytes() >= 100_000, "queued");
    pair.run();
    assert!(pair.device.held_bytes() >= 100_000, "received");
    assert!(pair.host.held_bytes() > 0, "in flight until it is handled");
    for (_, channel, seq) in std::mem::take(&mut pair.pending) {
        pair.device.handled(channel, seq, pair.now);
    }
    pair.run();
    assert_eq!((pair.host.held_bytes(), pair.device.held_bytes()), (0, 0));
}
