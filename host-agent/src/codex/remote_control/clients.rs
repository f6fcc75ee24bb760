//! Many connections to one Codex, all of them in the one socket that it opens.
//!
//! ```text
//! CodexConnection ── Sender ─→ Outbox ─┐             ┌─ writer: acknowledgements, messages, pings
//!        …                             ├─ Clients ─ serve(socket)
//! CodexConnection ─ Taker ←─ Inbox ────┘             └─ reader: never waits for anybody
//! ```
//!
//! The socket comes and goes; connections live on between two of them, for a
//! while. Three things that Codex does shape this file. It sends at most 128
//! envelopes that are not acknowledged, over all connections, and drops a
//! connection whose messages then pile up: so an envelope is acknowledged as it
//! is read. It drops a connection without a word: so each is pinged, soon after
//! it fell silent and then less and less often. And it
//! sends again what was not acknowledged: so what comes twice is told apart by
//! its number, and a number left out is a loss.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::stream::SplitSink;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use ring::rand::SecureRandom;
use serde_json::value::RawValue;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::envelope::{self, Address, Body, Incoming, Mark};
use super::inbox::{Inbox, Taker};
use super::joining::{self, Joining};
use super::outbox::Outbox;
use crate::codex::{Allowance, CodexConnection, Instance, MAX_MESSAGE, ReceiveError, SendError, Text};

/// How long connections outlive their socket. Codex waits up to 30 s between two attempts.
pub(super) const GRACE: Duration = Duration::from_secs(90);

/// How often each connection is pinged at least. Codex ends one that was silent for 10 minutes; a ping counts.
const PING_EVERY: Duration = Duration::from_secs(15);

/// How long a connection may be silent before it is asked whether Codex still has it: somebody may wait for what was lost.
const FIRST_PING: Duration = Duration::from_secs(1);

/// How long a write may take: Codex reads on also when it may not send.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);

/// What a connection may have to send before its sender has to wait.
const MAX_UNSENT: usize = 1 << 20;

/// Streams that may wait for an acknowledgement, and strangers that are told apart. Codex has 128 envelopes under way.
const MAX_STREAMS: usize = 4096;

/// All connections to one Codex. A clone is the same ones.
#[derive(Debug, Clone)]
pub(super) struct Clients {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Random, in streams and cursors: a Codex that outlives an agent tells the next one's from those that it knows.
    prefix: String,
    state: Mutex<State>,
    /// Which socket is the last one, from 1.
    socket: watch::Sender<u64>,
    connected: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    socket: u64,
    /// Wakes the writer of that socket.
    work: Arc<Notify>,
    /// Wakes whoever pings on it: a ping is due earlier than it was.
    sooner: Arc<Notify>,
    opened: u64,
    clients: HashMap<Arc<str>, Client>,
    acks: Acks,
    outbox: Outbox,
    pings: VecDeque<Arc<str>>,
    /// Streams that Codex has and nobody here, and which it was told to end, on this socket.
    strangers: HashSet<Address>,
}

#[derive(Debug)]
struct Client {
    id: String,
    address: Address,
    allowance: Allowance,
    inbox: Arc<Inbox>,
    /// The last message to Codex.
    seq: u64,
    /// Bytes of messages to Codex that were not sent yet.
    unsent: usize,
    /// Waits for less of them.
    sender: Option<Waker>,
    /// Up to where Codex was heard.
    heard: Mark,
    joining: Option<Joining>,
    pace: Pace,
}

/// When a connection is pinged: once a second after the last word, then after twice as long each time, up to [`PING_EVERY`].
#[derive(Debug)]
struct Pace {
    due: Instant,
    /// How long after the next ping the one behind it is due.
    pause: Duration,
    /// When the last one was.
    last: Instant,
}

impl Pace {
    /// The first one is due then.
    fn new(due: Instant) -> Self {
        Self { due, pause: FIRST_PING, last: due }
    }

    /// A word came, and more may. Whether a ping is due earlier than it was.
    fn heard(&mut self) -> bool {
        let before = self.due;
        self.pause = FIRST_PING;
        self.due = (Instant::now() + FIRST_PING).min(self.last + PING_EVERY);
        self.due < before
    }

    /// A word went, and an answer may come. Whether a ping is due earlier than it was.
    fn said(&mut self) -> bool {
        let before = self.due;
        self.pause = FIRST_PING;
        self.due = before.min(Instant::now() + FIRST_PING);
        self.due < before
    }

    /// Whether it is time for one, which then counts as sent.
    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.due <= now;
        if is_due {
            (self.last, self.pause) = (now, (2 * self.pause).min(PING_EVERY));
            self.due = now + self.pause;
        }
        is_due
    }
}

/// What is to be acknowledged: the last mark of each stream stands for those before.
#[derive(Debug, Default)]
struct Acks {
    marks: HashMap<Address, Mark>,
    order: VecDeque<Address>,
}

impl Acks {
    fn add(&mut self, address: &Address, mark: Mark) {
        if self.marks.insert(address.clone(), mark).is_none() {
            self.order.push_back(address.clone());
        }
    }

    fn next(&mut self) -> Option<Text> {
        let address = self.order.pop_front()?;
        let mark = self.marks.remove(&address)?;
        Some(envelope::ack(&address, mark))
    }
}

/// One socket's turn.
struct Turn {
    socket: u64,
    work: Arc<Notify>,
    sooner: Arc<Notify>,
}

/// What a socket's writer does next.
enum Next {
    Write(Text),
    Wait,
    /// There is a newer socket.
    Leave,
}

impl Clients {
    /// No connections yet. `None` when the operating system gives no randomness.
    pub(super) fn new(rng: &dyn SecureRandom) -> Option<Self> {
        let random: [u8; 8] = reachback_proto::crypto::keys::random(rng).ok()?;
        let prefix = data_encoding::HEXLOWER.encode(&random);
        let (socket, connected) = (watch::Sender::new(0), watch::Sender::new(false));
        Some(Self { shared: Arc::new(Shared { prefix, state: Mutex::default(), socket, connected }) })
    }

    /// Whether there is a socket; the receiver sees every later change too.
    pub(super) fn connected(&self) -> watch::Receiver<bool> {
        self.shared.connected.subscribe()
    }

    /// A new connection for a client of this name; it begins with the caller's `initialize`.
    ///
    /// It is there at once. What is sent waits for a socket.
    pub(super) fn open(&self, client_id: &str, allowance: Allowance, instance: Instance) -> CodexConnection {
        let mut state = self.shared.lock();
        state.opened += 1;
        let stream: Arc<str> = format!("{}-{}", self.shared.prefix, state.opened).into();
        let inbox = Arc::new(Inbox::default());
        let client = Client {
            id: client_id.to_owned(),
            address: Address::new(client_id, &stream),
            allowance,
            inbox: Arc::clone(&inbox),
            seq: 0,
            unsent: 0,
            sender: None,
            heard: Mark::NOTHING,
            joining: None,
            pace: Pace::new(Instant::now()),
        };
        state.clients.insert(Arc::clone(&stream), client);
        let open = Arc::new(Open { shared: Arc::clone(&self.shared), stream });
        CodexConnection::new(Sender(Arc::clone(&open)), Taker::new(inbox, open), instance)
    }

    /// Ends all connections: the Codex that had them is gone.
    pub(super) fn forget_all(&self) {
        self.shared.lock().forget_all();
    }

    /// Carries all connections over a socket that Codex has opened, until that ends; then waits for a newer one, and
    /// ends the connections where none comes.
    ///
    /// May be dropped: the socket has ended then. A socket that is there already is left for this one. `cursor` is what Codex told when it opened it
    /// (`x-codex-subscribe-cursor`).
    pub(super) async fn serve<S, E>(&self, socket: S, cursor: Option<&str>)
    where
        S: Stream<Item = Result<Text, E>> + Sink<Text> + Unpin,
    {
        let mut latest = self.shared.socket.subscribe();
        let turn = self.shared.begin(cursor);
        tracing::info!(socket = turn.socket, "codex opened its socket");
        let present = Present { shared: &self.shared, turn: &turn };
        let replaced = async {
            // The sender lives as long as what this borrows.
            let _ = latest.wait_for(|socket| *socket != turn.socket).await;
        };
        tokio::pin!(replaced);
        tokio::select! {
            biased;
            () = &mut replaced => return,
            () = self.shared.carry(&turn, socket) => {}
        }
        drop(present);
        tracing::info!(socket = turn.socket, "codex's socket ended");
        if timeout(GRACE, replaced).await.is_err() {
            self.shared.give_up(&turn);
        }
    }
}

/// A socket that is there, until it is dropped.
struct Present<'a> {
    shared: &'a Shared,
    turn: &'a Turn,
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.shared.end(self.turn);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, cursor: Option<&str>) -> Turn {
        // One of another agent's counts as none.
        let ours = cursor.and_then(|cursor| cursor.strip_prefix(&*self.prefix)?.strip_prefix('-')?.parse().ok());
        let mut state = self.lock();
        let turn = state.begin(ours.unwrap_or(0));
        self.socket.send_replace(turn.socket);
        self.connected.send_replace(true);
        turn
    }

    fn end(&self, turn: &Turn) {
        let state = self.lock();
        if state.socket == turn.socket {
            self.connected.send_replace(false);
        }
    }

    fn give_up(&self, turn: &Turn) {
        let mut state = self.lock();
        if state.socket == turn.socket {
            state.forget_all();
        }
    }

    /// Reads and writes until the socket ends or is no longer the last one.
    async fn carry<S, E>(&self, turn: &Turn, socket: S)
    where
        S: Stream<Item = Result<Text, E>> + Sink<Text> + Unpin,
    {
        let (sink, mut envelopes) = socket.split();
        let writing = self.write(turn, sink);
        tokio::pin!(writing);
        let pings = sleep_until(Instant::now());
        tokio::pin!(pings);
        loop {
            // In this order, an acknowledgement leaves before the next envelope is read, and is joined with the next
            // where the socket takes none.
            tokio::select! {
                biased;
                () = &mut writing => return,
                () = &mut pings => pings.as_mut().reset(self.ping(turn)),
                () = turn.sooner.notified() => pings.as_mut().reset(self.ping(turn)),
                envelope = envelopes.next() => match envelope {
                    Some(Ok(envelope)) if self.read(turn, &envelope) => {}
                    _ => return,
                },
            }
        }
    }

    /// Writes whatever there is to write, until that fails.
    async fn write<S: Sink<Text> + Unpin>(&self, turn: &Turn, mut sink: SplitSink<S, Text>) {
        loop {
            let next = self.next(turn);
            let written = match next {
                Next::Write(envelope) => timeout(WRITE_DEADLINE, sink.feed(envelope)).await,
                Next::Wait => match timeout(WRITE_DEADLINE, sink.flush()).await {
                    Ok(Ok(())) => {
                        turn.work.notified().await;
                        continue;
                    }
                    failed => failed,
                },
                Next::Leave => return,
            };
            match written {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => {
                    tracing::warn!("codex does not read from its socket, which is closed");
                    return;
                }
            }
        }
    }

    fn next(&self, turn: &Turn) -> Next {
        let mut state = self.lock();
        if state.socket != turn.socket {
            return Next::Leave;
        }
        state.next(&self.prefix).map_or(Next::Wait, Next::Write)
    }

    /// Takes an envelope; whether the socket is worth reading on.
    fn read(&self, turn: &Turn, envelope: &str) -> bool {
        let Some(incoming) = Incoming::parse(envelope) else {
            tracing::warn!(bytes = envelope.len(), "codex sent what is no envelope; it is passed over");
            return true;
        };
        let mut state = self.lock();
        if state.socket != turn.socket {
            return false;
        }
        state.take(incoming);
        let within = state.acks.order.len() <= MAX_STREAMS;
        if !within {
            tracing::warn!("codex sends more than it may; its socket is closed");
        }
        within
    }

    /// Has those pinged that are due, and says when the next ones will be.
    fn ping(&self, turn: &Turn) -> Instant {
        let now = Instant::now();
        let mut next = now + PING_EVERY;
        let mut state = self.lock();
        if state.socket != turn.socket {
            return next;
        }
        let State { clients, pings, work, .. } = &mut *state;
        // One that was not begun is not known to Codex.
        for (stream, client) in clients.iter_mut().filter(|(_, client)| client.seq > 0) {
            // One that waits to be written is enough.
            if client.pace.is_due(now) && !pings.contains(stream) {
                pings.push_back(Arc::clone(stream));
                work.notify_one();
            }
            next = next.min(client.pace.due);
        }
        next
    }
}

impl State {
    fn begin(&mut self, taken: u64) -> Turn {
        self.socket += 1;
        (self.work, self.sooner) = (Arc::default(), Arc::default());
        self.acks = Acks::default();
        self.pings.clear();
        // What happened to it meanwhile is not known.
        let now = Instant::now();
        for client in self.clients.values_mut() {
            client.pace = Pace::new(now);
        }
        self.strangers.clear();
        let Self { outbox, clients, .. } = self;
        let lost = outbox.rewind(taken, |stream| clients.get(stream).is_some_and(|client| client.heard.seq > 0));
        for stream in lost {
            self.end(&stream, Some(ReceiveError::Gap));
        }
        Turn { socket: self.socket, work: Arc::clone(&self.work), sooner: Arc::clone(&self.sooner) }
    }

    /// The next envelope to write. Acknowledgements come first, for without them everything stops; a ping comes when
    /// Codex has all that went before, so that it can't be asked about a connection before that has begun.
    fn next(&mut self, prefix: &str) -> Option<Text> {
        if let Some(ack) = self.acks.next() {
            return Some(ack);
        }
        if let Some(outgoing) = self.outbox.next(prefix) {
            if let Some((client, bytes)) =
                outgoing.sent.and_then(|(stream, bytes)| Some((self.clients.get_mut(&stream)?, bytes)))
            {
                client.unsent -= bytes;
                if let Some(sender) = client.sender.take() {
                    sender.wake();
                }
            }
            return Some(outgoing.envelope);
        }
        while let Some(stream) = self.pings.pop_front() {
            if let Some(client) = self.clients.get(&stream) {
                return Some(envelope::ping(&client.address));
            }
        }
        None
    }

    fn take(&mut self, incoming: Incoming<'_>) {
        let Incoming { client_id, stream_id, mark, body } = incoming;
        let Some(client) = self.clients.get_mut(&*stream_id).filter(|client| client.id == client_id) else {
            self.stranger(client_id, stream_id, mark, matches!(body, Body::Pong { known: false }));
            return;
        };
        // Of whatever number: a Codex that was started anew counts from 1 again.
        let is_unknown = matches!(body, Body::Pong { known: false });
        let is_old = !is_unknown && mark.is_within(client.heard);
        let follows = mark.follows(client.heard, client.joining.is_some());
        if !is_old {
            client.heard = mark;
        }
        // An answer to a ping says that there is no more than that.
        if !matches!(body, Body::Pong { .. }) && client.pace.heard() {
            self.sooner.notify_one();
        }
        self.acks.add(&client.address, client.heard);
        self.work.notify_one();
        if is_old {
            return;
        }
        let taken = if follows { client.take(body) } else { Err(ReceiveError::Gap) };
        if let Err(error) = taken {
            tracing::warn!(client = client.id, %error, "a connection through codex's socket is given up");
            self.end(&stream_id, Some(error));
        }
    }

    /// Acknowledges what belongs to nobody here, and ends where it comes from.
    fn stranger(&mut self, client_id: Cow<'_, str>, stream_id: Cow<'_, str>, mark: Mark, is_gone: bool) {
        let address = Address::new(&client_id, &stream_id);
        self.acks.add(&address, mark);
        if !is_gone && self.strangers.len() < MAX_STREAMS && self.strangers.insert(address.clone()) {
            self.outbox.close(&stream_id.into(), &address);
        }
        self.work.notify_one();
    }

    /// Ends a connection here and in Codex.
    fn end(&mut self, stream: &str, error: Option<ReceiveError>) {
        let Some((stream, client)) = self.clients.remove_entry(stream) else { return };
        client.end(error);
        if client.seq > 0 {
            if self.strangers.len() < MAX_STREAMS {
                self.strangers.insert(client.address.clone());
            }
            self.outbox.close(&stream, &client.address);
            self.work.notify_one();
        }
    }

    fn forget_all(&mut self) {
        for (_, client) in self.clients.drain() {
            client.end(None);
        }
        self.outbox.clear();
        self.pings.clear();
    }
}

impl Client {
    /// Takes what the next envelope brings; after an error the connection is over.
    fn take(&mut self, body: Body<'_>) -> Result<(), ReceiveError> {
        let arrived = match body {
            Body::Message(message) => Some(joining::whole(message, &self.allowance)?),
            Body::Piece(piece) => Joining::take(&mut self.joining, &piece, &self.allowance)?,
            Body::Pong { known: true } | Body::Other => None,
            Body::Pong { known: false } => return Err(ReceiveError::Gap),
            Body::Broken => return Err(ReceiveError::Protocol),
        };
        arrived.map_or(Ok(()), |arrived| self.inbox.push(arrived))
    }

    fn end(&self, error: Option<ReceiveError>) {
        self.inbox.end(error);
        if let Some(sender) = &self.sender {
            sender.wake_by_ref();
        }
    }
}

/// Keeps a connection open; shared by its two halves.
#[derive(Debug)]
struct Open {
    shared: Arc<Shared>,
    stream: Arc<str>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.lock().end(&self.stream, None);
    }
}

/// Sends on one connection. A message is sent when it waits for its turn: how many bytes may is bounded.
struct Sender(Arc<Open>);

impl Sink<Text> for Sender {
    type Error = SendError;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let mut state = self.0.shared.lock();
        let Some(client) = state.clients.get_mut(&self.0.stream) else { return Poll::Ready(Err(SendError::Closed)) };
        if client.unsent >= MAX_UNSENT {
            client.sender = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, text: Text) -> Result<(), SendError> {
        let length = text.len();
        if length > MAX_MESSAGE {
            return Err(SendError::TooLong { length, limit: MAX_MESSAGE });
        }
        // It becomes a part of the envelope, and must be nothing but a part.
        if serde_json::from_str::<&RawValue>(&text).is_err() {
            tracing::warn!(length, "a message to codex is no JSON, and dropped as codex would");
            return Ok(());
        }
        let mut state = self.0.shared.lock();
        let State { clients, outbox, work, sooner, .. } = &mut *state;
        let Some(client) = clients.get_mut(&self.0.stream) else { return Err(SendError::Closed) };
        if client.seq == 0 {
            client.pace = Pace::new(Instant::now() + FIRST_PING);
            sooner.notify_one();
        } else if client.pace.said() {
            sooner.notify_one();
        }
        client.seq += 1;
        client.unsent += length;
        outbox.push(&self.0.stream, &client.address, client.seq, text);
        work.notify_one();
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
