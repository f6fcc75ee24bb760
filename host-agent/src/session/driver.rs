//! The task that owns a session and its link.

use std::collections::HashMap;
use std::future::{pending, poll_fn};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reachback_proto::frame::{ByeReason, ChannelCloseReason, ChannelNumber};
use reachback_proto::session::{ACK_DELAY, API_CHANNEL, Event, SendError, Session, SessionError};
use reachback_relay::link_waker::LinkWaker;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Sleep, sleep, sleep_until, timeout};

use super::channel::{Backlog, ChannelHandle, ChannelSender, Handed, Incoming};
use super::handled::{HandledList, HandledMessage};

use super::{SessionEvent, SessionState};
use crate::link::{LinkError, SecureLink};

/// Commands taken in one turn before the link gets one: many small messages share a record.
const BATCH: usize = 64;
/// Where as much or less waits to be handled, it is looked for in time instead of waking the task. With that and what an
/// acknowledgement waits for ([`ACK_BYTES`]) less is unacknowledged than the smallest window holds, so no sender stops.
///
/// [`ACK_BYTES`]: reachback_proto::session::ACK_BYTES
const EXPECTED: usize = 16 * 1024;
/// How long a link that takes no more is read: what it has brought is here already, or its end is.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// How long a last word may take.
const BYE_TIMEOUT: Duration = Duration::from_secs(2);

/// What the task can be asked to do.
#[derive(Debug)]
pub(super) enum Command {
    Attach {
        link: Box<SecureLink>,
        record: Option<Vec<u8>>,
        taken: oneshot::Sender<()>,
    },
    OpenChannel {
        environment: String,
        reply: oneshot::Sender<ChannelHandle>,
    },
    Send {
        channel: ChannelNumber,
        generation: u64,
        bytes: Bytes,
        handed: Handed,
    },
    /// Something was handled: see [`HandledList`].
    Look,
    CloseChannel {
        channel: ChannelNumber,
        generation: u64,
        reason: ChannelCloseReason,
        text: String,
    },
    WithdrawChannel {
        channel: ChannelNumber,
        generation: u64,
        text: String,
    },
    Part {
        done: oneshot::Sender<()>,
    },
    End {
        reason: ByeReason,
        done: oneshot::Sender<()>,
    },
}

struct ChannelEnd {
    incoming: mpsc::UnboundedSender<Incoming>,
    backlog: Arc<Backlog>,
}

impl Drop for ChannelEnd {
    /// However the channel ends, nobody waits for room on it any more.
    fn drop(&mut self) {
        self.backlog.set(0);
    }
}

pub(super) struct Driver {
    session: Session,
    link: Option<SecureLink>,
    inbox: mpsc::Receiver<Command>,
    /// For handles of channels that the other side opens; weak, so that it does not keep the task alive.
    commands: mpsc::WeakSender<Command>,
    channels: HashMap<ChannelNumber, ChannelEnd>,
    /// Counts sessions lost: a handle of an earlier one must not touch a channel of the same number.
    generation: u64,
    events: mpsc::UnboundedSender<SessionEvent>,
    state: watch::Sender<SessionState>,
    /// What the session holds, for who bounds several of them.
    held: Arc<AtomicUsize>,
    handled: Arc<HandledList>,
    /// When to look what was handled, at the latest.
    look: Option<Instant>,
    /// Something was delivered since the last look.
    has_delivered: bool,
    /// When the latest record came.
    heard: Instant,
    /// Whether the link is to be polled for what it brings, or takes.
    link_waker: LinkWaker,
    flushing: bool,
    /// Something was just given to the link.
    has_sealed: bool,
    /// Since when the link takes no more, and why: what has arrived on it is still read.
    unwritable: Option<Unwritable>,
    /// Whether the link has carried the session.
    carried: bool,
    plaintext: Vec<u8>,
    record: Vec<u8>,
    taken: Vec<HandledMessage>,
}

/// See [`Driver::unwritable`].
struct Unwritable {
    until: Instant,
    why: String,
    reconnect_in: Option<Duration>,
}

enum Turn {
    Commands(usize),
    Record(Result<(), LinkError>),
    Flushed(Result<(), LinkError>),
    /// A link that takes no more has nothing more to say either.
    Unwritable,
    Timeout,
}

impl Driver {
    pub(super) fn new(
        session: Session,
        inbox: mpsc::Receiver<Command>,
        commands: mpsc::WeakSender<Command>,
        events: mpsc::UnboundedSender<SessionEvent>,
        state: watch::Sender<SessionState>,
        held: Arc<AtomicUsize>,
    ) -> Self {
        Self {
            session,
            link: None,
            inbox,
            commands,
            channels: HashMap::new(),
            generation: 0,
            events,
            state,
            held,
            handled: Arc::default(),
            look: None,
            has_delivered: false,
            heard: Instant::now(),
            link_waker: LinkWaker::default(),
            flushing: false,
            has_sealed: false,
            unwritable: None,
            carried: false,
            plaintext: Vec::new(),
            record: Vec::new(),
            taken: Vec::new(),
        }
    }

    /// Makes the handle of a channel.
    pub(super) fn channel(&mut self, number: ChannelNumber, commands: mpsc::Sender<Command>) -> ChannelHandle {
        let (incoming_out, incoming) = mpsc::unbounded_channel();
        let backlog = Arc::new(Backlog::default());
        self.channels.insert(number, ChannelEnd { incoming: incoming_out, backlog: Arc::clone(&backlog) });
        let handled = Arc::clone(&self.handled);
        let sender = ChannelSender { number, generation: self.generation, commands, backlog, handled };
        ChannelHandle { sender, incoming }
    }

    pub(super) async fn run(mut self) {
        let mut commands = Vec::with_capacity(BATCH);
        let timer = sleep(Duration::ZERO);
        tokio::pin!(timer);
        let mut is_due = false;
        loop {
            self.dispatch();
            self.look(mem::take(&mut is_due));
            // Before anything else: the link ends right behind a last word, and its end must not take the place of that.
            if self.has_ended() {
                return;
            }
            self.transmit();
            match self.turn(&mut commands, timer.as_mut()).await {
                Turn::Commands(0) => break,
                Turn::Commands(_) => {
                    for command in commands.drain(..) {
                        match command {
                            Command::End { reason, done } => {
                                self.end(reason).await;
                                let _ = done.send(());
                                return;
                            }
                            Command::Part { done } => {
                                self.part().await;
                                let _ = done.send(());
                            }
                            Command::Attach { link, record, taken } => {
                                if let Err(error) = self.attach(*link, record) {
                                    self.broken(&error).await;
                                    return;
                                }
                                let _ = taken.send(());
                            }
                            command => self.command(command),
                        }
                    }
                }
                Turn::Record(Ok(())) => {
                    if let Err(error) = self.records() {
                        self.broken(&error).await;
                    }
                }
                Turn::Flushed(Ok(())) => self.flushing = false,
                Turn::Flushed(Err(error)) => {
                    let until = Instant::now() + LAST_WORDS;
                    let (why, reconnect_in) = (error.to_string(), error.reconnect_in());
                    self.flushing = false;
                    self.unwritable = Some(Unwritable { until, why, reconnect_in });
                    self.link_waker.set();
                }
                Turn::Unwritable => {
                    if let Some(Unwritable { why, reconnect_in, .. }) = self.unwritable.take() {
                        self.lose_link(&why, reconnect_in);
                    }
                }
                Turn::Record(Err(error)) => self.lose_link(&error.to_string(), error.reconnect_in()),
                Turn::Timeout => {
                    let now = Instant::now();
                    is_due = self.look.is_some_and(|look| look <= now);
                    self.session.handle_timeout(now);
                }
            }
            if self.has_ended() {
                return;
            }
        }
        // Nobody holds the session any more.
        self.end(ByeReason::Normal).await;
    }

    fn has_ended(&self) -> bool {
        matches!(*self.state.borrow(), SessionState::Ended { .. })
    }

    /// Waits for the next thing to do. Nothing is lost when an arm is dropped: all are polls of what `self` keeps.
    async fn turn(&mut self, commands: &mut Vec<Command>, timer: Pin<&mut Sleep>) -> Turn {
        let deadline = [self.session.poll_timeout(), self.look].into_iter().flatten().min();
        let unwritable = self.unwritable.as_ref().map(|unwritable| unwritable.until);
        let (link, record, waker) = (&mut self.link, &mut self.record, &self.link_waker);
        let (flushing, has_sealed) = (self.flushing, &mut self.has_sealed);
        let io = poll_fn(|cx| match link {
            Some(link) => poll_link(link, record, flushing.then_some(&mut *has_sealed), waker, cx),
            None => Poll::Pending,
        });
        let over = async {
            match deadline {
                Some(deadline) => until(deadline.into(), timer).await,
                None => pending().await,
            }
        };
        let last_words = async {
            match unwritable {
                Some(until) => sleep_until(until.into()).await,
                None => pending().await,
            }
        };
        tokio::select! {
            taken = self.inbox.recv_many(commands, BATCH) => Turn::Commands(taken),
            turn = io => turn,
            () = last_words => Turn::Unwritable,
            () = over => Turn::Timeout,
        }
    }

    /// Takes the record just read, and those behind it that are already here.
    fn records(&mut self) -> Result<(), SessionError> {
        self.heard = Instant::now();
        let waker = self.link_waker.waker().clone();
        for left in (0..BATCH).rev() {
            self.session.handle_record(&self.record, self.heard)?;
            // What is read must be handled: the next turn reads over it.
            if left == 0 {
                break;
            }
            self.link_waker.take();
            let mut cx = Context::from_waker(&waker);
            match self.link.as_mut().map(|link| link.poll_record(&mut cx, &mut self.record)) {
                Some(Poll::Ready(Ok(()))) => {}
                Some(Poll::Ready(Err(error))) => {
                    self.lose_link(&error.to_string(), error.reconnect_in());
                    return Ok(());
                }
                // It wakes the task for more.
                Some(Poll::Pending) | None => return Ok(()),
            }
        }
        self.link_waker.set();
        Ok(())
    }

    /// Acknowledges what was handled, and says whether more is looked for in time: not where it is that time.
    fn look(&mut self, is_due: bool) {
        let is_little = (1..=EXPECTED).contains(&self.session.unhandled_bytes());
        let was_expected = self.look.is_some();
        let is_expected = is_little && !is_due && (was_expected || self.has_delivered);
        self.has_delivered = false;
        self.handled.take(&mut self.taken, is_expected);
        if !self.taken.is_empty() {
            // As if it had been when it came: its acknowledgement is not later for being looked for.
            let at = if was_expected { self.heard } else { Instant::now() };
            for HandledMessage { channel, generation, seq } in self.taken.drain(..) {
                if generation == self.generation {
                    self.session.handled(channel, seq, at);
                }
            }
        }
        let is_left = is_expected && self.session.unhandled_bytes() > 0;
        self.look = is_left.then(|| self.look.unwrap_or(self.heard + ACK_DELAY));
    }

    /// The other side broke the protocol: it hears so, and the session is over.
    async fn broken(&mut self, error: &SessionError) {
        tracing::warn!(%error, "session ends: the other side broke the protocol");
        self.end(ByeReason::ProtocolError).await;
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::OpenChannel { environment, reply } => match self.session.open_channel(&environment) {
                Ok(number) => {
                    if let Some(commands) = self.commands.upgrade() {
                        let handle = self.channel(number, commands);
                        let _ = reply.send(handle);
                    }
                }
                // Who asked hears it from the reply that does not come.
                Err(error) => tracing::warn!(%error, "a channel was not opened"),
            },
            Command::Send { channel, generation, bytes, handed } if generation == self.generation => {
                match self.session.send(channel, bytes) {
                    Ok(()) => self.update_backlog(channel),
                    Err(error @ (SendError::Overflow | SendError::TooLong { .. })) => {
                        tracing::warn!(channel, %error, "channel is given up");
                        self.session.close_channel(channel, ChannelCloseReason::Gap, &error.to_string());
                        self.close_incoming(channel, ChannelCloseReason::Gap, error.to_string());
                    }
                    // The consumer hears of the close through its incoming half.
                    Err(_) => {}
                }
                // From here on the session counts them.
                drop(handed);
            }
            Command::CloseChannel { channel, generation, reason, text } if generation == self.generation => {
                self.session.close_channel(channel, reason, &text);
                self.channels.remove(&channel);
            }
            Command::WithdrawChannel { channel, generation, text } if generation == self.generation => {
                self.session.withdraw_channel(channel, ChannelCloseReason::Gap, &text);
                self.channels.remove(&channel);
            }
            Command::Send { .. } | Command::Look => {}
            Command::CloseChannel { .. } | Command::WithdrawChannel { .. } => {}
            Command::Attach { .. } | Command::Part { .. } | Command::End { .. } => unreachable!("taken by run"),
        }
    }

    fn attach(&mut self, link: SecureLink, record: Option<Vec<u8>>) -> Result<(), SessionError> {
        // The old link is fenced before anything is computed for the new one.
        self.link = Some(link);
        self.link_waker.set();
        self.flushing = false;
        self.has_sealed = false;
        self.unwritable = None;
        self.carried = false;
        self.session.link_up(Instant::now());
        self.state.send_replace(SessionState::Attaching);
        match record {
            Some(record) => {
                self.record = record;
                self.records()
            }
            None => Ok(()),
        }
    }

    /// Hands what happened to whom it concerns.
    fn dispatch(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Message { channel, seq, bytes } => self.deliver(channel, seq, bytes),
                Event::Established { session, resumed } => {
                    tracing::debug!(session = %session.short(), resumed, "session is up");
                    self.carried = true;
                    // The link's end may have been read together with this: then nobody would dial again.
                    if self.link.is_some() {
                        self.state.send_replace(SessionState::Up);
                    }
                }
                Event::ChannelOpened { channel, environment } => {
                    if let Some(commands) = self.commands.upgrade() {
                        let channel = self.channel(channel, commands);
                        let _ = self.events.send(SessionEvent::ChannelOpened { channel, environment });
                    }
                }
                Event::ChannelClosed { channel, reason, text } => self.close_incoming(channel, reason, text),
                Event::SessionLost { reason } => {
                    self.generation += 1;
                    self.close_incoming(API_CHANNEL, ChannelCloseReason::Gap, "the session is lost".into());
                    if let Some(commands) = self.commands.upgrade() {
                        let api = self.channel(API_CHANNEL, commands);
                        let _ = self.events.send(SessionEvent::Lost { reason, api });
                    }
                }
                Event::Bye { reason: ByeReason::ShuttingDown, reconnect_in } => {
                    // Its sessions end with it: what is said from here on would be lost, so nobody is kept waiting.
                    for number in self.channels.keys().copied().filter(|n| *n != API_CHANNEL).collect::<Vec<_>>() {
                        self.close_incoming(number, ChannelCloseReason::Gap, "the host shuts down".into());
                    }
                    self.lose_link("the other side shuts down", Some(reconnect_in));
                }
                Event::Bye { reason, .. } => self.finish(Some(reason)),
                Event::LinkDead => {
                    tracing::debug!("nothing heard for too long");
                    self.down(None, true);
                }
            }
        }
        for (number, end) in &self.channels {
            end.backlog.set(self.session.backlog(*number));
            end.backlog.set_delay(self.session.delay(*number));
        }
        self.held.store(self.session.held_bytes(), Ordering::Relaxed);
    }

    fn deliver(&mut self, channel: ChannelNumber, seq: u64, bytes: Bytes) {
        let taken =
            self.channels.get(&channel).is_some_and(|end| end.incoming.send(Incoming::Message { seq, bytes }).is_ok());
        self.has_delivered |= taken;
        if !taken {
            // Its consumer is gone: what arrives for it counts as handled.
            self.session.handled(channel, seq, Instant::now());
        }
    }

    fn transmit(&mut self) {
        let Some(link) = self.link.as_mut().filter(|_| self.unwritable.is_none()) else { return };
        let now = Instant::now();
        let mut failed = None;
        while !link.is_batch_full() && self.session.poll_transmit(&mut self.plaintext, now) {
            if let Err(error) = link.start_send(&mut self.plaintext) {
                failed = Some(error.to_string());
                break;
            }
            self.flushing = true;
            self.has_sealed = true;
        }
        if let Some(error) = failed {
            self.lose_link(&error, None);
        }
    }

    fn lose_link(&mut self, why: &str, reconnect_in: Option<Duration>) {
        tracing::debug!(why, "link is down");
        self.down(reconnect_in, false);
    }

    fn down(&mut self, reconnect_in: Option<Duration>, silent: bool) {
        self.link = None;
        self.flushing = false;
        let unwritable = self.unwritable.take();
        let reconnect_in = reconnect_in.or_else(|| unwritable.and_then(|unwritable| unwritable.reconnect_in));
        self.session.link_down();
        let carried = mem::take(&mut self.carried);
        self.state.send_replace(SessionState::Down { reconnect_in, carried, silent });
    }

    async fn end(&mut self, reason: ByeReason) {
        let _ = timeout(BYE_TIMEOUT, self.say_bye(reason)).await;
        self.finish(Some(reason));
    }

    /// Ends the link behind what was said before; the session goes on without one.
    async fn part(&mut self) {
        self.transmit();
        let parting = async {
            if let Some(mut link) = self.link.take() {
                let _ = link.flush().await;
                link.close().await;
            }
        };
        let _ = timeout(BYE_TIMEOUT, parting).await;
        self.lose_link("it was ended here", None);
    }

    async fn say_bye(&mut self, reason: ByeReason) {
        // What was sealed before goes first: with a batch that is full there is no room for the last word.
        if let Some(link) = &mut self.link {
            let _ = link.flush().await;
        }
        self.session.bye(reason, Duration::ZERO);
        self.transmit();
        if let Some(mut link) = self.link.take() {
            let _ = link.flush().await;
            link.close().await;
        }
    }

    fn finish(&mut self, reason: Option<ByeReason>) {
        self.session.link_down();
        for number in self.channels.keys().copied().collect::<Vec<_>>() {
            self.close_incoming(number, ChannelCloseReason::Gap, super::ENDED.into());
        }
        self.state.send_replace(SessionState::Ended { reason });
    }

    fn close_incoming(&mut self, channel: ChannelNumber, reason: ChannelCloseReason, text: String) {
        if let Some(end) = self.channels.remove(&channel) {
            let _ = end.incoming.send(Incoming::Closed { reason, text });
        }
    }

    fn update_backlog(&mut self, channel: ChannelNumber) {
        if let Some(end) = self.channels.get(&channel) {
            end.backlog.set(self.session.backlog(channel));
        }
    }
}

/// Waits for a deadline with a timer that may be set to an earlier one, and is left as it is then: most deadlines are put off
/// before they are met, and a timer that is set to an earlier time again and again costs a system call each time.
async fn until(deadline: tokio::time::Instant, mut timer: Pin<&mut Sleep>) {
    while tokio::time::Instant::now() < deadline {
        if timer.is_elapsed() || timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().await;
    }
}

/// Polls a link where it has woken the task, and where there is something new to flush, which `has_sealed` says while it flushes.
fn poll_link(
    link: &mut SecureLink,
    record: &mut Vec<u8>,
    has_sealed: Option<&mut bool>,
    waker: &LinkWaker,
    cx: &mut Context<'_>,
) -> Poll<Turn> {
    waker.wakes(cx.waker());
    let is_woken = waker.take();
    let mut cx = Context::from_waker(waker.waker());
    if let Some(has_sealed) = has_sealed
        && (mem::take(has_sealed) || is_woken)
        && let Poll::Ready(result) = link.poll_flush(&mut cx)
    {
        if is_woken {
            waker.set();
        }
        return Poll::Ready(Turn::Flushed(result));
    }
    if !is_woken {
        return Poll::Pending;
    }
    link.poll_record(&mut cx, record).map(Turn::Record)
}
