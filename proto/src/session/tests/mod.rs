//! Two sessions, a lossy link between them, and virtual time.

mod limits;
mod model;
mod resume;

use super::*;
use crate::control::CIRCUIT_BATCH;
use crate::crypto::records::Sealer;
use crate::frame::Frame;
use proptest::prelude::*;
use proptest::test_runner::Config;

/// A device's and a host's session, records in flight between them, and what each side's consumer took.
struct Pair {
    now: Instant,
    device: Session,
    host: Session,
    to_host: VecDeque<Vec<u8>>,
    to_device: VecDeque<Vec<u8>>,
    at_host: Vec<(ChannelNumber, Bytes)>,
    at_device: Vec<(ChannelNumber, Bytes)>,
    events: Vec<(Side, Event)>,
    /// Messages taken while nobody handled them.
    pending: Vec<(Side, ChannelNumber, u64)>,
    /// Whether the host waits for a link's first record.
    greeting: bool,
    /// Whether consumers take messages as they come.
    consume: bool,
    bytes_to_host: usize,
}

impl Pair {
    fn new() -> Self {
        Self::bounded(SessionLimits::device(), SessionLimits::default())
    }

    fn with_limits(limits: SessionLimits) -> Self {
        Self::bounded(limits.clone(), limits)
    }

    fn bounded(at_device: SessionLimits, at_host: SessionLimits) -> Self {
        let now = Instant::now();
        let device = Session::device(at_device, now);
        let host = Session::host(SessionId([1; 16]), at_host, now);
        Self {
            now,
            device,
            host,
            to_host: VecDeque::new(),
            to_device: VecDeque::new(),
            at_host: Vec::new(),
            at_device: Vec::new(),
            events: Vec::new(),
            pending: Vec::new(),
            greeting: false,
            consume: true,
            bytes_to_host: 0,
        }
    }

    fn connected() -> Self {
        let mut pair = Self::new();
        pair.connect();
        pair.run();
        pair
    }

    fn connect(&mut self) {
        self.cut();
        self.greeting = true;
        self.host.link_up(self.now);
        self.device.link_up(self.now);
    }

    /// Loses the link and everything on it.
    fn cut(&mut self) {
        self.device.link_down();
        self.host.link_down();
        self.to_host.clear();
        self.to_device.clear();
    }

    fn transmit(&mut self) -> bool {
        let mut record = Vec::new();
        let mut any = false;
        while self.device.poll_transmit(&mut record, self.now) {
            assert!(record.len() <= MAX_RECORD_PLAINTEXT);
            self.bytes_to_host += record.len();
            self.to_host.push_back(record.clone());
            any = true;
        }
        while self.host.poll_transmit(&mut record, self.now) {
            assert!(record.len() <= MAX_RECORD_PLAINTEXT);
            self.to_device.push_back(record.clone());
            any = true;
        }
        any
    }

    /// Delivers one record in each direction.
    fn deliver_one(&mut self) -> bool {
        self.deliver_to_host() | self.deliver_to_device()
    }

    /// Delivers one record; a link's first one finds the session, as the acceptor does.
    fn deliver_to_host(&mut self) -> bool {
        let Some(record) = self.to_host.pop_front() else { return false };
        if std::mem::take(&mut self.greeting)
            && let Attach::Resume(id) = Attach::peek(&record).expect("a link begins with Open or Resume")
            && Some(id) != self.host.id()
        {
            let mut answer = Vec::new();
            Frame::Gap { reason: GapReason::Unknown }.encode(&mut answer);
            self.to_device.push_back(answer);
            self.greeting = true;
        } else {
            self.host.handle_record(&record, self.now).expect("host takes the record");
        }
        self.drain();
        true
    }

    fn deliver_to_device(&mut self) -> bool {
        let Some(record) = self.to_device.pop_front() else { return false };
        self.device.handle_record(&record, self.now).expect("device takes the record");
        self.drain();
        true
    }

    fn drain(&mut self) {
        for side in [Side::Device, Side::Host] {
            let (session, taken) = match side {
                Side::Device => (&mut self.device, &mut self.at_device),
                Side::Host => (&mut self.host, &mut self.at_host),
            };
            while let Some(event) = session.poll_event() {
                if let Event::Message { channel, seq, bytes } = &event {
                    taken.push((*channel, bytes.clone()));
                    if self.consume {
                        session.handled(*channel, *seq, self.now);
                    } else {
                        self.pending.push((side, *channel, *seq));
                    }
                }
                self.events.push((side, event));
            }
        }
    }

    /// Until both sides have nothing more to say, acknowledgements included.
    fn run(&mut self) {
        for _ in 0..100_000 {
            let moved = self.transmit() | self.deliver_one();
            if !moved {
                if self.device.ack_due.is_none() && self.host.ack_due.is_none() {
                    return;
                }
                self.now += ACK_DELAY;
            }
        }
        panic!("the pair does not come to rest");
    }

    fn channel(&mut self) -> ChannelNumber {
        let channel = self.device.open_channel("local").unwrap();
        self.run();
        channel
    }

    fn saw(&self, wanted: impl Fn(&Event) -> bool) -> bool {
        self.events.iter().any(|(_, event)| wanted(event))
    }
}

fn message(n: usize, len: usize) -> Bytes {
    let mut bytes = vec![b'.'; len.max(8)];
    bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
    bytes.into()
}

#[test]
fn messages_arrive_in_order_both_ways_and_are_acknowledged() {
    let mut pair = Pair::connected();
    let channel = pair.channel();
    for n in 0..100 {
        pair.device.send(channel, message(n, n * 50)).unwrap();
        pair.host.send(channel, message(n, 20_000)).unwrap();
    }
    pair.run();
    assert_eq!(pair.at_host, (0..100).map(|n| (channel, message(n, n * 50))).collect::<Vec<_>>());
    assert_eq!(pair.at_device, (0..100).map(|n| (channel, message(n, 20_000))).collect::<Vec<_>>());
    assert_eq!(pair.device.backlog(channel), 0);
    assert_eq!(pair.host.backlog(channel), 0);
    assert_eq!((pair.host.received_bytes, pair.device.received_bytes), (0, 0));
}

#[test]
fn so_many_handled_bytes_are_acknowledged_at_once_and_fewer_in_time() {
    let mut pair = Pair::connected();
    let channel = pair.channel();
    let acknowledged = |pair: &mut Pair, messages: usize| {
        for n in 0..messages {
            pair.host.send(channel, message(n, ACK_BYTES / 4)).unwrap();
        }
        pair.transmit();
        while pair.deliver_to_device() {}
        pair.transmit() && pair.deliver_to_host() && pair.host.backlog(channel) == 0
    };
    assert!(!acknowledged(&mut pair, 3), "three quarters do not wait for more");
    pair.run();
    assert!(acknowledged(&mut pair, 4), "the sender is kept waiting");
}

#[test]
fn a_trickle_is_acknowledged_four_times_a_second_and_its_end_at_once() {
    let mut pair = Pair::connected();
    let channel = pair.channel();
    let start = pair.now;
    let mut acks = 0;
    let mut listen = |pair: &mut Pair, until: Instant| {
        let mut record = Vec::new();
        while let Some(due) = pair.device.ack_due.filter(|due| *due <= until) {
            pair.now = pair.now.max(due);
            assert!(pair.device.poll_transmit(&mut record, pair.now));
            pair.host.handle_record(&record, pair.now).unwrap();
            acks += 1;
        }
    };
    for number in 1..=100 {
        pair.host.send(channel, message(number, 75)).unwrap();
        pair.transmit();
        while pair.deliver_to_device() {}
        let next = start + Duration::from_millis(60) * u32::try_from(number).unwrap();
        listen(&mut pair, next);
        pair.now = next;
    }
    let end = pair.now + TRICKLE_ACK_DELAY;
    listen(&mut pair, end);
    assert_eq!(pair.host.backlog(channel), 0);
    assert!((24..=27).contains(&acks), "{acks} in six seconds");

    pair.host.send(channel, message(0, 75)).unwrap();
    pair.host.close_channel(channel, ChannelCloseReason::Done, "");
    pair.transmit();
    while pair.deliver_to_device() {}
    assert_eq!(pair.device.ack_due, Some(pair.now + ACK_DELAY));
}

#[test]
fn who_acknowledges_a_trickle_late_has_no_slow_link() {
    let start = Instant::now();
    let ms = Duration::from_millis;
    let limit = |is_trickle: bool, late: u64| {
        let mut window = window::Window::default();
        for round in 0..20 {
            let sent = start + ms(1000 * round);
            window.acknowledged(100, sent, (false, is_trickle), sent + ms(if round == 0 { 10 } else { late }));
        }
        window.limit()
    };
    assert_eq!(limit(true, 250 + 100), window::INITIAL);
    assert_eq!(limit(false, 250 + 100), window::MIN);
    assert_eq!(limit(true, 250 + 120), window::MIN, "a slow link is not seen");
}

#[test]
fn an_empty_message_is_a_message() {
    let mut pair = Pair::connected();
    pair.device.send(API_CHANNEL, Bytes::new()).unwrap();
    pair.run();
    assert_eq!(pair.at_host, [(API_CHANNEL, Bytes::new())]);
}

#[test]
fn a_session_that_never_heard_its_opened_does_not_send_twice() {
    let mut pair = Pair::new();
    let channel = pair.device.open_channel("local").unwrap();
    pair.device.send(channel, message(1, 10)).unwrap();
    pair.connect();
    pair.transmit();
    let record = pair.to_host.pop_front().unwrap();
    pair.host.handle_record(&record, pair.now).unwrap();
    pair.drain();
    assert!(pair.at_host.is_empty(), "nothing sequenced goes out before the host has answered");
    pair.cut();
    // The answer was lost; another session takes its place.
    pair.host = Session::host(SessionId([2; 16]), SessionLimits::default(), pair.now);
    pair.connect();
    pair.run();
    assert_eq!(pair.at_host, [(channel, message(1, 10))]);
}

#[test]
fn a_large_message_delays_a_keystroke_by_one_record_at_most() {
    let mut pair = Pair::connected();
    let (bulk, keys) = (pair.channel(), pair.channel());
    pair.device.send(bulk, message(0, 60 << 20)).unwrap();
    let mut record = Vec::new();
    assert!(pair.device.poll_transmit(&mut record, pair.now));
    pair.device.send(keys, message(1, 10)).unwrap();
    let mut waited = 0;
    loop {
        assert!(pair.device.poll_transmit(&mut record, pair.now), "the keystroke is never sent");
        let mut r = Reader::new(&record);
        let mut found = false;
        while let Some(frame) = Frame::decode(&mut r).unwrap() {
            found |= matches!(frame, Frame::Data { channel, .. } if channel == keys);
        }
        if found {
            break;
        }
        waited += 1;
    }
    assert!(waited <= 1, "waited {waited} records");
}

#[test]
fn a_message_of_64_kib_and_what_is_around_it_fit_one_batch_of_a_circuit() {
    let mut pair = Pair::connected();
    let channel = pair.channel();
    pair.device.send(channel, message(0, 64 << 10)).unwrap();
    let (mut record, mut records) = (Vec::new(), Vec::new());
    while pair.device.poll_transmit(&mut record, pair.now) {
        records.push(Sealer::sealed_len(record.len()).unwrap());
    }
    assert!(records.iter().sum::<usize>() <= CIRCUIT_BATCH, "{records:?}");
}

#[test]
fn a_flood_of_small_messages_does_not_starve_another_channel() {
    let mut pair = Pair::connected();
    let (flood, keys) = (pair.channel(), pair.channel());
    for n in 0..20_000 {
        pair.device.send(flood, message(n, 100)).unwrap();
    }
    let mut record = Vec::new();
    assert!(pair.device.poll_transmit(&mut record, pair.now));
    pair.device.send(keys, message(1, 10)).unwrap();
    assert!(pair.device.poll_transmit(&mut record, pair.now));
    assert!(pair.device.poll_transmit(&mut record, pair.now));
    assert!(!pair.device.turn.contains(&keys), "the keystroke is still waiting after two records");
}

#[test]
fn a_60_mib_message_goes_on_after_cuts_instead_of_starting_over() {
    let mut pair = Pair::connected();
    let channel = pair.channel();
    let size = 60 << 20;
    pair.device.send(channel, message(7, size)).unwrap();
    pair.bytes_to_host = 0;
    let mut cuts = 0;
    while pair.at_host.is_empty() {
        for _ in 0..400 {
            pair.transmit();
            if !pair.deliver_one() {
                pair.now += ACK_DELAY;
            }
        }
        if pair.at_host.is_empty() && cuts < 8 {
            cuts += 1;
            pair.connect();
        }
    }
    assert_eq!(pair.at_host, [(channel, message(7, size))]);
    assert_eq!(cuts, 8, "the message was through before the cuts");
    // Each cut costs at most what was in flight: the window.
    let again = pair.bytes_to_host - size;
    assert!(again < cuts * (window::MAX + (1 << 20)), "{again} bytes were sent again");
}

#[test]
fn resuming_sends_again_only_what_the_other_side_lacks() {
    let mut pair = Pair::connected();
    pair.consume = false;
    for n in 0..10 {
        pair.device.send(API_CHANNEL, message(n, 1000)).unwrap();
    }
    pair.run();
    assert_eq!(pair.at_host.len(), 10);
    // Received but not handled: kept by the device, and not sent again.
    assert!(pair.device.backlog(API_CHANNEL) > 10_000);
    pair.bytes_to_host = 0;
    pair.connect();
    pair.run();
    assert_eq!(pair.at_host.len(), 10);
    assert!(pair.bytes_to_host < 200, "{} bytes were sent to resume", pair.bytes_to_host);
    for seq in 0..10 {
        pair.host.handled(API_CHANNEL, seq, pair.now);
    }
    pair.run();
    assert_eq!(pair.device.backlog(API_CHANNEL), 0);
}

#[test]
fn messages_handled_out_of_turn_are_acknowledged_in_turn() {
    let mut pair = Pair::connected();
    pair.consume = false;
    for n in 0..3 {
        pair.device.send(API_CHANNEL, message(n, 10)).unwrap();
    }
    pair.run();
    pair.host.handled(API_CHANNEL, 2, pair.now);
    pair.host.handled(API_CHANNEL, 2, pair.now);
    pair.run();
    assert_eq!(pair.device.channels[&API_CHANNEL].in_flight(), 3 * (10 + 64));
    pair.host.handled(API_CHANNEL, 0, pair.now);
    pair.host.handled(API_CHANNEL, 1, pair.now);
    pair.run();
    assert_eq!(pair.device.backlog(API_CHANNEL), 0);
}

#[test]
fn a_stalled_consumer_holds_up_its_own_channel_only() {
    let mut pair = Pair::connected();
    let (stalled, other) = (pair.channel(), pair.channel());
    pair.consume = false;
    for n in 0..100 {
        pair.device.send(stalled, message(n, 100_000)).unwrap();
    }
    pair.run();
    let in_flight = pair.device.channels[&stalled].in_flight();
    assert!(in_flight < 2 * window::INITIAL, "{in_flight} bytes in flight");
    pair.device.send(other, message(1, 10)).unwrap();
    pair.run();
    assert_eq!(pair.at_host.last(), Some(&(other, message(1, 10))));
}

#[test]
fn an_absent_device_costs_a_bounded_queue_and_hears_a_gap() {
    let limits = SessionLimits { channel_queue: 100_000, ..SessionLimits::default() };
    let mut pair = Pair::with_limits(limits);
    pair.connect();
    pair.run();
    let (lost, kept) = (pair.channel(), pair.channel());
    pair.host.send(kept, message(1, 10)).unwrap();
    pair.cut();
    let failed = (0..1000).find_map(|n| pair.host.send(lost, message(n, 1000)).err());
    assert_eq!(failed, Some(SendError::Overflow));
    assert!(pair.host.queued_bytes() < 110_000);
    assert_eq!(pair.host.send(lost, message(0, 1)), Err(SendError::Closed));
    pair.connect();
    pair.run();
    assert_eq!(pair.at_device, [(kept, message(1, 10))]);
    let gap = |event: &Event| matches!(event, Event::ChannelClosed { channel, reason: ChannelCloseReason::Gap, .. } if *channel == lost);
    assert!(pair.saw(gap));
    assert!(!pair.device.channels.contains_key(&lost) && !pair.host.channels.contains_key(&lost));
}

#[test]
fn over_the_session_queue_the_largest_channel_pays() {
    let limits = SessionLimits { session_queue: 100_000, ..SessionLimits::default() };
    let mut pair = Pair::with_limits(limits);
    pair.connect();
    pair.run();
    let (large, small) = (pair.channel(), pair.channel());
    pair.cut();
    pair.host.send(large, message(0, 99_000)).unwrap();
    assert_eq!(pair.host.send(small, message(1, 2_000)), Ok(()));
    assert_eq!(pair.host.send(large, message(1, 1)), Err(SendError::Closed));
    pair.drain();
    assert!(pair.saw(|event| matches!(event, Event::ChannelClosed { channel, .. } if *channel == large)));
    pair.connect();
    pair.run();
    assert_eq!(pair.at_device, [(small, message(1, 2_000))]);
}

#[test]
fn a_host_that_lost_the_session_says_so_and_a_new_one_works() {
    let mut pair = Pair::connected();
    let channel = pair.channel();
    pair.cut();
    // The acceptor answers for a session that it does not find.
    pair.device.send(channel, message(1, 10)).unwrap();
    pair.device.link_up(pair.now);
    let mut record = Vec::new();
    assert!(pair.device.poll_transmit(&mut record, pair.now));
    assert_eq!(Attach::peek(&record), Ok(Attach::Resume(SessionId([1; 16]))));
    let mut answer = Vec::new();
    Frame::Gap { reason: GapReason::Unknown }.encode(&mut answer);
    pair.device.handle_record(&answer, pair.now).unwrap();
    pair.drain();
    assert!(pair.saw(|event| matches!(event, Event::SessionLost { reason: GapReason::Unknown })));
    assert!(pair.saw(|event| matches!(
        event,
        Event::ChannelClosed { channel: c, reason: ChannelCloseReason::Gap, .. } if *c == channel
    )));
    pair.host = Session::host(SessionId([2; 16]), SessionLimits::default(), pair.now);
    pair.host.link_up(pair.now);
    pair.run();
    let channel = pair.channel();
    pair.device.send(channel, message(2, 10)).unwrap();
    pair.run();
    assert_eq!(pair.at_host, [(channel, message(2, 10))]);
}

#[test]
fn a_session_is_resumed_only_under_its_own_id() {
    let mut pair = Pair::connected();
    pair.connect();
    let mut record = Vec::new();
    Frame::Resume { session: SessionId([9; 16]), received: vec![] }.encode(&mut record);
    assert_eq!(pair.host.handle_record(&record, pair.now), Err(SessionError::Unexpected("Resume")));
}

#[test]
fn closing_is_graceful_both_ways_and_leaves_nothing_behind() {
    for closer in [Side::Device, Side::Host] {
        let mut pair = Pair::connected();
        let channel = pair.channel();
        let session = if closer == Side::Device { &mut pair.device } else { &mut pair.host };
        session.send(channel, message(1, 50_000)).unwrap();
        session.close_channel(channel, ChannelCloseReason::Done, "bye");
        assert_eq!(session.send(channel, message(2, 1)), Err(SendError::Closed));
        pair.run();
        let taken = if closer == Side::Device { &pair.at_host } else { &pair.at_device };
        assert_eq!(taken.len(), 1, "what was queued before the close arrives");
        let closed = pair.events.iter().filter(|(_, e)| matches!(e, Event::ChannelClosed { .. })).count();
        assert_eq!(closed, 1, "only the other side is told");
        assert_eq!((pair.device.channels.len(), pair.host.channels.len()), (1, 1));
        assert_eq!((pair.device.received_bytes, pair.host.received_bytes), (0, 0));
    }
}

#[test]
fn a_channel_over_the_limit_is_closed_and_the_others_live() {
    let limits = SessionLimits { channels: 2, ..SessionLimits::default() };
    let mut pair = Pair::with_limits(limits);
    pair.connect();
    pair.run();
    let first = pair.channel();
    let _second = pair.channel();
    let third = pair.channel();
    assert!(pair.saw(|event| matches!(
        event,
        Event::ChannelClosed { channel, reason: ChannelCloseReason::Limit, .. } if *channel == third
    )));
    pair.device.send(first, message(1, 10)).unwrap();
    pair.run();
    assert_eq!(pair.at_host.len(), 1);
}

#[test]
fn silence_is_probed_and_then_dead() {
    let mut pair = Pair::connected();
    let step = |pair: &mut Pair| {
        let next = pair.device.poll_timeout().expect("a link that is up has a timeout");
        assert!(next > pair.now, "time has to move");
        let waited = next - pair.now;
        pair.now = next;
        pair.device.handle_timeout(pair.now);
        waited
    };
    // Idle: a ping after 15 s, dead at 45 s.
    let mut record = Vec::new();
    while pair.device.poll_transmit(&mut record, pair.now) {}
    assert_eq!(step(&mut pair), liveness::HEARTBEAT);
    assert!(pair.device.poll_transmit(&mut record, pair.now));
    assert_eq!(step(&mut pair), liveness::SILENCE_LIMIT - liveness::HEARTBEAT);
    assert_eq!(pair.device.poll_event(), Some(Event::LinkDead));
    assert!(!pair.device.is_up());

    // Something unacknowledged: probed after 5 s, dead at 10 s.
    pair.connect();
    pair.run();
    pair.device.send(API_CHANNEL, message(1, 10)).unwrap();
    assert!(pair.device.poll_transmit(&mut record, pair.now));
    assert_eq!(step(&mut pair), liveness::PROBE_AFTER);
    assert!(pair.device.poll_transmit(&mut record, pair.now), "the probe");
    assert_eq!(step(&mut pair), liveness::PROBE_LIMIT);
    assert_eq!(pair.device.poll_event(), Some(Event::LinkDead));
}

#[test]
fn messages_that_stop_coming_are_asked_after_once() {
    let mut pair = Pair::connected();
    pair.host.send(API_CHANNEL, message(1, 10)).unwrap();
    pair.run();
    let mut record = Vec::new();
    let at = pair.device.poll_timeout().unwrap();
    assert!(at <= pair.now + liveness::PROBE_AFTER, "the listener waits for longer than a probe");
    pair.now = at;
    pair.device.handle_timeout(pair.now);
    assert!(pair.device.poll_transmit(&mut record, pair.now), "the probe");
    // Answered: from here on only the heartbeat.
    pair.host.handle_record(&record, pair.now).unwrap();
    assert!(pair.host.poll_transmit(&mut record, pair.now));
    pair.device.handle_record(&record, pair.now).unwrap();
    assert_eq!(pair.device.poll_timeout(), Some(pair.now + liveness::HEARTBEAT));

    // Not answered: dead.
    pair.host.send(API_CHANNEL, message(2, 10)).unwrap();
    pair.run();
    for _ in 0..2 {
        pair.now = pair.device.poll_timeout().unwrap();
        pair.device.handle_timeout(pair.now);
        pair.device.poll_transmit(&mut record, pair.now);
    }
    assert_eq!(pair.device.poll_event(), Some(Event::LinkDead));
}

#[test]
fn a_slow_peer_that_answers_probes_is_not_dead() {
    let mut pair = Pair::connected();
    pair.consume = false;
    pair.device.send(API_CHANNEL, message(1, 10)).unwrap();
    for _ in 0..100 {
        pair.transmit();
        while pair.deliver_one() {}
        pair.now += Duration::from_secs(1);
        pair.device.handle_timeout(pair.now);
        pair.host.handle_timeout(pair.now);
    }
    assert!(!pair.saw(|event| *event == Event::LinkDead));
}

#[test]
fn a_flood_of_pings_costs_one_pong() {
    let mut pair = Pair::connected();
    let mut record = Vec::new();
    for id in 0..5000 {
        Frame::Ping { id }.encode(&mut record);
    }
    pair.host.handle_record(&record, pair.now).unwrap();
    let mut out = Vec::new();
    assert!(pair.host.poll_transmit(&mut out, pair.now));
    assert!(out.len() < 32, "{} bytes of answers", out.len());
}

#[test]
fn what_breaks_the_protocol_is_refused() {
    let data = |channel, seq, first, last, bytes| Frame::Data { channel, seq, first, last, bytes };
    let cases: Vec<(&str, Vec<Frame<'_>>)> = vec![
        ("a number skipped", vec![data(0, 1, Some(1), true, b"x")]),
        ("an unknown channel", vec![data(9, 0, Some(1), true, b"x")]),
        ("a length that does not fit", vec![data(0, 0, Some(2), true, b"x")]),
        ("a message over the limit", vec![data(0, 0, Some(MAX_MESSAGE_TO_HOST as u64 + 1), false, b"x")]),
        ("a fragment without a first", vec![data(0, 0, None, true, b"x")]),
        ("more bytes than announced", vec![data(0, 0, Some(3), false, b"xx"), data(0, 1, None, true, b"xx")]),
        ("a message within a message", vec![data(0, 0, Some(3), false, b"xx"), data(0, 1, Some(1), true, b"x")]),
        ("an empty fragment", vec![data(0, 0, Some(3), false, b"")]),
        ("an acknowledgement of what was not sent", vec![Frame::Ack { channel: 0, next: 1 }]),
        ("a second Open", vec![Frame::Open]),
        ("a host's frame from a device", vec![Frame::Opened { session: SessionId([0; 16]) }]),
        ("the API channel opened", vec![Frame::ChannelOpen { channel: 0, seq: 0, environment: "local" }]),
        (
            "data after a close",
            vec![
                Frame::ChannelOpen { channel: 1, seq: 0, environment: "local" },
                Frame::ChannelClose { channel: 1, seq: 1, reason: ChannelCloseReason::Done, text: "" },
                data(1, 2, Some(1), true, b"x"),
            ],
        ),
    ];
    for (what, frames) in cases {
        let mut pair = Pair::connected();
        let mut record = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut record));
        assert!(pair.host.handle_record(&record, pair.now).is_err(), "{what} was taken");
    }
}

#[test]
fn what_is_held_for_a_peer_is_bounded() {
    let limits = SessionLimits { receive_buffer: 100_000, ..SessionLimits::default() };
    let mut pair = Pair::with_limits(limits);
    pair.connect();
    pair.run();
    let refused = (0..10_000).find_map(|seq| {
        let mut record = Vec::new();
        Frame::Data { channel: 0, seq, first: Some(0), last: true, bytes: b"" }.encode(&mut record);
        pair.host.handle_record(&record, pair.now).err()
    });
    assert!(matches!(refused, Some(SessionError::ReceiveBuffer(_))), "empty messages count too: {refused:?}");
}

#[test]
fn the_window_shrinks_when_acknowledgements_come_late_and_grows_again() {
    let start = Instant::now();
    let mut window = window::Window::default();
    let ms = Duration::from_millis;
    window.acknowledged(1000, start, (true, false), start + ms(10));
    for round in 1..20 {
        let sent = start + ms(1000 * round);
        window.acknowledged(1000, sent, (true, false), sent + ms(500));
    }
    assert_eq!(window.limit(), window::MIN);
    for round in 0..10_000 {
        let sent = start + ms(100_000 + round);
        window.acknowledged(1000, sent, (true, false), sent + ms(15));
    }
    assert_eq!(window.limit(), window::MAX);
    assert_eq!(window.delay(), Some(ms(15)));
}

#[test]
fn the_delay_is_the_latest_acknowledgements_and_of_this_link() {
    let mut pair = Pair::connected();
    let channel = pair.channel();
    pair.run();
    pair.host.send(channel, message(1, 10)).unwrap();
    pair.run();
    let delay = pair.host.delay(channel).unwrap();
    assert!(delay <= ACK_DELAY, "{delay:?}");
    pair.cut();
    pair.connect();
    pair.run();
    assert_eq!(pair.host.delay(channel), None, "it is of the link before");
}

#[derive(Debug, Clone)]
enum Step {
    Send { from_host: bool, channel: usize, len: usize },
    Open,
    Close { by_host: bool, channel: usize },
    Move(usize),
    Cut,
    Wait(u64),
    Consume(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<bool>(), 0..4usize, prop_oneof![0..300usize, 0..60_000usize])
            .prop_map(|(from_host, channel, len)| Step::Send { from_host, channel, len }),
        2 => Just(Step::Open),
        1 => (any::<bool>(), 1..4usize).prop_map(|(by_host, channel)| Step::Close { by_host, channel }),
        6 => (0..12usize).prop_map(Step::Move),
        2 => Just(Step::Cut),
        2 => (0..30u64).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::Consume),
    ]
}

proptest! {
    #![proptest_config(Config { cases: 400, ..Config::default() })]

    /// Whatever is cut and whenever: what arrives on a channel is what was sent on it, once, in order;
    /// all of it unless the channel was closed from the other side.
    #[test]
    fn exactly_once_in_order_over_any_number_of_cuts(steps in proptest::collection::vec(step(), 1..120)) {
        let mut pair = Pair::connected();
        let mut channels = vec![API_CHANNEL];
        let mut sent: BTreeMap<(bool, ChannelNumber), Vec<Bytes>> = BTreeMap::new();
        let mut closed = BTreeSet::new();
        let mut n = 0;
        for step in steps {
            match step {
                Step::Open => channels.push(pair.device.open_channel("local").unwrap()),
                Step::Send { from_host, channel, len } => {
                    let channel = channels[channel % channels.len()];
                    n += 1;
                    let session = if from_host { &mut pair.host } else { &mut pair.device };
                    if session.send(channel, message(n, len)).is_ok() {
                        sent.entry((from_host, channel)).or_default().push(message(n, len));
                    }
                }
                Step::Close { by_host, channel } => {
                    let channel = channels[channel % channels.len()];
                    let session = if by_host { &mut pair.host } else { &mut pair.device };
                    if channel != API_CHANNEL && session.channels.contains_key(&channel) {
                        session.close_channel(channel, ChannelCloseReason::Done, "");
                        closed.insert(channel);
                    }
                }
                Step::Move(records) => {
                    pair.transmit();
                    for _ in 0..records {
                        pair.deliver_one();
                    }
                }
                Step::Cut => pair.connect(),
                Step::Wait(ms) => pair.now += Duration::from_millis(ms),
                Step::Consume(yes) => {
                    pair.consume = yes;
                }
            }
        }
        // Let everything through; what was taken without being handled is handled now.
        pair.consume = true;
        pair.connect();
        for session in [&mut pair.host, &mut pair.device] {
            for number in channels.clone() {
                for seq in 0..10_000 {
                    if !session.channels.contains_key(&number) {
                        break;
                    }
                    session.handled(number, seq, pair.now);
                }
            }
        }
        pair.run();
        for (from_host, taken) in [(false, &pair.at_host), (true, &pair.at_device)] {
            for channel in &channels {
                let got: Vec<_> = taken.iter().filter(|(c, _)| c == channel).map(|(_, b)| b.clone()).collect();
                let want = sent.get(&(from_host, *channel)).cloned().unwrap_or_default();
                if closed.contains(channel) {
                    prop_assert!(want.starts_with(&got), "channel {}: out of order or doubled", channel);
                } else {
                    prop_assert_eq!(&got, &want);
                }
            }
        }
        prop_assert_eq!((pair.host.received_bytes, pair.device.received_bytes), (0, 0));
        for channel in closed {
            prop_assert!(!pair.host.channels.contains_key(&channel), "host keeps closed channel {}", channel);
            prop_assert!(!pair.device.channels.contains_key(&channel), "device keeps closed channel {}", channel);
        }
    }

    #[test]
    fn arbitrary_records_never_panic(records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..20)) {
        let mut pair = Pair::connected();
        for record in &records {
            let _ = Attach::peek(record);
            let _ = pair.host.handle_record(record, pair.now);
            let _ = pair.device.handle_record(record, pair.now);
            let mut out = Vec::new();
            while pair.host.poll_transmit(&mut out, pair.now) {}
            while pair.device.poll_transmit(&mut out, pair.now) {}
        }
    }

    #[test]
    fn arbitrary_frames_never_panic(frames in proptest::collection::vec((0u8..0x24, 0u64..4, 0u64..4, proptest::collection::vec(any::<u8>(), 0..20)), 1..60)) {
        let mut pair = Pair::connected();
        pair.channel();
        for (tag, a, b, tail) in frames {
            let mut record = vec![tag, a as u8, b as u8];
            record.extend(tail);
            let _ = pair.host.handle_record(&record, pair.now);
            let _ = pair.device.handle_record(&record, pair.now);
            let mut out = Vec::new();
            while pair.host.poll_transmit(&mut out, pair.now) {}
            while pair.device.poll_transmit(&mut out, pair.now) {}
        }
    }
}
