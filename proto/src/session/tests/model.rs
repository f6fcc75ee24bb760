//! A model of what may happen to a session: cuts, restarts of the host, overflow, timers, consumers that stall
//! and acknowledge out of turn. Whatever happens, nothing is doubled or out of order, and nothing is lost in silence.

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Send {
        from_host: bool,
        channel: usize,
        len: usize,
    },
    Open,
    Close {
        by_host: bool,
        channel: usize,
    },
    Move {
        to_host: usize,
        to_device: usize,
    },
    Cut,
    /// The link is gone and does not come back yet.
    Away,
    Restart,
    Wait(u64),
    Consume(bool),
    Handle(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (any::<bool>(), 0..5usize, prop_oneof![0..300usize, 0..60_000usize])
            .prop_map(|(from_host, channel, len)| Step::Send { from_host, channel, len }),
        3 => Just(Step::Open),
        1 => (any::<bool>(), 1..5usize).prop_map(|(by_host, channel)| Step::Close { by_host, channel }),
        8 => (0..12usize, 0..12usize).prop_map(|(to_host, to_device)| Step::Move { to_host, to_device }),
        2 => Just(Step::Cut),
        1 => Just(Step::Away),
        1 => Just(Step::Restart),
        3 => prop_oneof![0..30u64, 0..12_000u64].prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::Consume),
        3 => any::<usize>().prop_map(Step::Handle),
    ]
}

fn limits() -> impl Strategy<Value = SessionLimits> {
    let small =
        SessionLimits { channels: 3, channel_queue: 60_000, session_queue: 150_000, ..SessionLimits::default() };
    prop_oneof![Just(SessionLimits::default()), Just(small)]
}

/// A message as sent: its number in the whole run, and its length.
type Sent = (usize, usize);

struct Model {
    pair: Pair,
    channels: Vec<ChannelNumber>,
    sent: BTreeMap<(Side, ChannelNumber), Vec<Sent>>,
    n: usize,
    /// What a side sent up to this number may be lost, and the device was told.
    lost_before: BTreeMap<Side, usize>,
    hosts: u8,
}

impl Model {
    fn new(limits: SessionLimits) -> Self {
        let mut pair = Pair::with_limits(limits);
        pair.connect();
        let (sent, lost_before) = (BTreeMap::new(), BTreeMap::from([(Side::Device, 0), (Side::Host, 0)]));
        Self { pair, channels: vec![API_CHANNEL], sent, n: 0, lost_before, hosts: 1 }
    }

    fn session(&mut self, side: Side) -> &mut Session {
        match side {
            Side::Device => &mut self.pair.device,
            Side::Host => &mut self.pair.host,
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Open => self.channels.extend(self.pair.device.open_channel("local")),
            Step::Send { from_host, channel, len } => {
                let side = if from_host { Side::Host } else { Side::Device };
                let channel = self.channels[channel % self.channels.len()];
                self.n += 1;
                let n = self.n;
                if self.session(side).send(channel, message(n, len)).is_ok() {
                    self.sent.entry((side, channel)).or_default().push((n, len));
                }
            }
            Step::Close { by_host, channel } => {
                let channel = self.channels[channel % self.channels.len()];
                let session = self.session(if by_host { Side::Host } else { Side::Device });
                if channel != API_CHANNEL && session.channels.contains_key(&channel) {
                    session.close_channel(channel, ChannelCloseReason::Done, "");
                }
            }
            Step::Move { to_host, to_device } => {
                self.pair.transmit();
                (0..to_host).take_while(|_| self.pair.deliver_to_host()).for_each(drop);
                (0..to_device).take_while(|_| self.pair.deliver_to_device()).for_each(drop);
                self.note_loss();
            }
            Step::Cut => self.pair.connect(),
            Step::Away => self.pair.cut(),
            Step::Restart => {
                self.hosts += 1;
                let limits = self.pair.host.limits.clone();
                self.pair.host = Session::host(SessionId([self.hosts; 16]), limits, self.pair.now);
                self.pair.pending.retain(|(side, ..)| *side == Side::Device);
                self.lost_before.insert(Side::Host, self.n);
                self.pair.connect();
            }
            Step::Wait(ms) => {
                self.pair.now += Duration::from_millis(ms);
                let now = self.pair.now;
                self.pair.device.handle_timeout(now);
                self.pair.host.handle_timeout(now);
                self.pair.drain();
            }
            Step::Consume(yes) => self.pair.consume = yes,
            Step::Handle(which) => {
                if !self.pair.pending.is_empty() {
                    let (side, channel, seq) = self.pair.pending.swap_remove(which % self.pair.pending.len());
                    let now = self.pair.now;
                    self.session(side).handled(channel, seq, now);
                }
            }
        }
    }

    /// What the device had sent when it heard that its session is gone may be lost.
    fn note_loss(&mut self) {
        let lost = |(_, event): &(Side, Event)| matches!(event, Event::SessionLost { .. });
        if self.pair.events.iter().any(lost) {
            self.lost_before.insert(Side::Device, self.n);
            self.pair.pending.retain(|(side, ..)| *side == Side::Host);
        }
        self.pair.events.clear();
    }

    /// Lets everything through, and has everything taken.
    fn settle(&mut self) {
        self.pair.consume = true;
        self.pair.connect();
        self.pair.run();
        self.note_loss();
        for (side, channel, seq) in std::mem::take(&mut self.pair.pending) {
            let now = self.pair.now;
            self.session(side).handled(channel, seq, now);
        }
        self.pair.run();
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let pair = &self.pair;
        for ((side, channel), sent) in &self.sent {
            let taken = if *side == Side::Host { &pair.at_device } else { &pair.at_host };
            let taken: Vec<_> = taken.iter().filter(|(c, _)| c == channel).map(|(_, bytes)| bytes).collect();
            let numbers: Vec<_> =
                taken.iter().map(|b| u64::from_be_bytes(*b.first_chunk().unwrap()) as usize).collect();
            prop_assert!(
                numbers.is_sorted_by(|a, b| a < b),
                "{side:?} {channel}: doubled or out of order: {numbers:?}"
            );
            for (number, bytes) in numbers.iter().zip(taken) {
                let (n, len) = sent.iter().find(|(n, _)| n == number).copied().unwrap_or_default();
                prop_assert!(*bytes == message(n, len), "{side:?} {channel}: message {number} is not what was sent");
            }
            // A channel that is open at both ends has lost nothing.
            let open = |session: &Session| session.channels.get(channel).is_some_and(|c| !c.is_closing());
            if open(&pair.device) && open(&pair.host) {
                let after = self.lost_before[side];
                let missing: Vec<_> = sent.iter().filter(|(n, _)| *n > after && !numbers.contains(n)).collect();
                prop_assert!(missing.is_empty(), "{side:?} {channel}: lost in silence: {missing:?}");
            }
        }
        for session in [&pair.device, &pair.host] {
            prop_assert_eq!(session.received_bytes, 0, "{:?} counts bytes that nobody holds", session.side);
            prop_assert!(session.acks.is_empty() && session.stale_acks.is_empty());
            for (number, channel) in &session.channels {
                prop_assert!(*number == API_CHANNEL || !channel.is_closing(), "{:?} keeps {}", session.side, number);
                prop_assert_eq!((channel.in_flight(), channel.queued_bytes()), (0, 0));
            }
        }
        prop_assert!(pair.device.channels.keys().eq(pair.host.channels.keys()), "the ends know different channels");
        Ok(())
    }
}

proptest! {
    #![proptest_config(Config { cases: 250, ..Config::default() })]

    #[test]
    fn nothing_is_doubled_reordered_or_lost_in_silence(
        limits in limits(),
        steps in proptest::collection::vec(step(), 1..150),
    ) {
        let mut model = Model::new(limits);
        steps.into_iter().for_each(|step| model.apply(step));
        model.settle();
        model.check()?;
    }
}
