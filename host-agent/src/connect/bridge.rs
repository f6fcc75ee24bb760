//! What lies between a client of this computer and its channel to the host's app-server.
//!
//! A client is whatever speaks one JSON-RPC message after the other: [`local_socket`](super::local_socket) has those of a
//! socket, [`stdio`](super::stdio) is the one of standard input and output. The stock terminal UI sends no keep-alives and
//! types happily into a dead link, so this end does the watching: an interruption of up to [`HOLD`] is bridged (messages
//! wait in the session); after that, or when the session says `gap`, the client is let go. What the host has by then is in
//! the thread that it resumes; the rest is taken back, so that what is said again does not run twice.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use reachback_proto::frame::{ByeReason, ChannelCloseReason};
use reachback_proto::words::printable;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep_until, timeout};

use super::outcome::{Outcome, Refused, last_word};
use super::remote::RemoteState;
use crate::codex::Text;
use crate::first_of::first_of;
use crate::session::{ChannelHandle, ChannelSender, ENDED, Incoming};

/// An interruption of the link that clients don't notice. Beyond it a person should see that it is down.
pub const HOLD: Duration = Duration::from_secs(30);
/// Bytes of a client that wait for the host before the client itself has to.
const BACKLOG: usize = 4 << 20;
/// Bytes of the host that are handed to a client together, where they are here already: each flush is a system call, and
/// wakes the client.
const TOGETHER: usize = 64 << 10;
/// A client that does not take what it is handed within this time is let go.
const UNREAD: Duration = Duration::from_secs(60);
/// A channel that is served for so long is not refused any more: the terminal UI has loaded its thread again by then.
const MENDED: Duration = Duration::from_secs(60);
/// A session that has ended is known to have after this.
const SETTLED: Duration = Duration::from_secs(5);
/// What a client may take to hear why it is let go.
const GOODBYE: Duration = Duration::from_secs(1);

/// What a client says.
pub(super) trait FromClient: Send {
    /// Whether the session ends with this client: what it said is then delivered before it counts as gone.
    const IS_ALONE: bool;

    /// Its next message, or why none follows. Not to be cancelled.
    fn next(&mut self) -> impl Future<Output = Result<Bytes, End>> + Send;
}

/// What a client hears.
pub(super) trait ToClient: Send {
    /// Takes a message of the host's, which is on its way once [`Self::flush`] returns. Not to be cancelled.
    fn feed(&mut self, text: Text) -> impl Future<Output = Result<(), End>> + Send;

    /// Sees off what was fed. Not to be cancelled.
    fn flush(&mut self) -> impl Future<Output = Result<(), End>> + Send;

    /// Tells it why it is let go, as far as it can hear that. `has_answered`: whether it has got a message.
    fn goodbye(self, end: &End, has_answered: bool) -> impl Future<Output = ()> + Send;
}

/// How a client's connection ends.
#[derive(Debug)]
pub struct End {
    /// For a person.
    pub why: String,
    /// How it came to that.
    pub kind: EndKind,
}

/// How a client's connection came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndKind {
    /// The client went by itself.
    Gone,
    /// One of both sides does what can't be carried.
    Broken,
    /// The host closed the channel.
    Closed {
        /// Why.
        reason: ChannelCloseReason,
        /// Whether a person should hear of it.
        is_refused: bool,
    },
    /// There was no link for [`HOLD`].
    OutOfReach,
    /// The host ended the session, with a last word.
    Ended,
}

impl End {
    /// The client went by itself.
    pub(super) fn gone(why: &str) -> Self {
        Self { why: why.to_owned(), kind: EndKind::Gone }
    }

    /// One of both sides does what can't be carried.
    pub(super) fn broken(why: impl Into<String>) -> Self {
        Self { why: why.into(), kind: EndKind::Broken }
    }

    /// The host closed the channel. `refused` is what a person should hear of that.
    fn closed(reason: ChannelCloseReason, text: &str, refused: Option<&Refused>) -> Self {
        let why = refused.map_or_else(|| printable(text), |refused| refused.text.clone());
        Self { why, kind: EndKind::Closed { reason, is_refused: refused.is_some() } }
    }

    /// There was no link for [`HOLD`].
    fn out_of_reach() -> Self {
        Self { why: "the host was out of reach for too long".into(), kind: EndKind::OutOfReach }
    }

    /// Whether the client is told of a failure.
    pub(super) fn is_failure(&self) -> bool {
        match self.kind {
            EndKind::OutOfReach | EndKind::Ended => true,
            EndKind::Closed { is_refused, .. } => is_refused,
            EndKind::Gone | EndKind::Broken => false,
        }
    }

    /// Whether what has not reached the host by now must not run later: the client may say it again.
    fn takes_back(&self) -> bool {
        self.kind == EndKind::OutOfReach
    }
}

/// Carries messages both ways until the client is gone, or the channel; says which.
pub(super) async fn bridge(
    (mut from_client, mut to_client): (impl FromClient, impl ToClient),
    channel: ChannelHandle,
    state: watch::Receiver<RemoteState>,
    outcome: &Outcome,
) -> End {
    let ChannelHandle { sender, incoming } = channel;
    let mut answered = None;
    let end = first_of([
        up(&mut from_client, &sender, outcome).boxed(),
        down(&mut to_client, incoming, &sender, (outcome, &mut answered)).boxed(),
        out_of_reach(state.clone()).map(|()| End::out_of_reach()).boxed(),
    ])
    .await;
    let end = if end.why == ENDED { last_said(state).await.unwrap_or(end) } else { end };
    tracing::debug!(why = %end.why, "client disconnected");
    let _ = match end.takes_back() {
        true => sender.withdraw(&end.why).await,
        false => sender.close(ChannelCloseReason::Done, &end.why).await,
    };
    let _ = timeout(GOODBYE, to_client.goodbye(&end, answered.is_some())).await;
    end
}

/// Until the client is gone, or the session.
async fn up<C: FromClient>(from_client: &mut C, sender: &ChannelSender, outcome: &Outcome) -> End {
    loop {
        sender.writable(BACKLOG).await;
        let bytes = match from_client.next().await {
            Ok(bytes) => bytes,
            Err(end) => {
                if C::IS_ALONE {
                    // The session's last word would overtake it.
                    sender.writable(1).await;
                }
                return end;
            }
        };
        outcome.said(&bytes);
        if sender.send(bytes).await.is_err() {
            // What the host said last comes the other way.
            std::future::pending::<()>().await;
        }
    }
}

/// Until the channel is closed. What came before that has been handed to the client.
async fn down(
    to_client: &mut impl ToClient,
    mut incoming: mpsc::UnboundedReceiver<Incoming>,
    sender: &ChannelSender,
    (outcome, answered): (&Outcome, &mut Option<Instant>),
) -> End {
    let mut is_mended = false;
    let mut handed = Vec::new();
    while let Some(first) = incoming.recv().await {
        let closed = match timeout(UNREAD, hand(first, &mut incoming, to_client, &mut handed)).await {
            Ok(Ok(closed)) => closed,
            Ok(Err(end)) => return end,
            Err(_) => return End::broken("the client does not read"),
        };
        match answered {
            None if handed.is_empty() => {}
            None => {
                *answered = Some(Instant::now());
                outcome.answered();
            }
            Some(since) if !is_mended && since.elapsed() >= MENDED => {
                is_mended = true;
                outcome.mended();
            }
            Some(_) => {}
        }
        for seq in handed.drain(..) {
            // In vain where the session has ended: the channel says so next.
            let _ = sender.handled(seq);
        }
        if let Some((reason, text)) = closed {
            tracing::info!(?reason, text = printable(&text), "the host closed the channel");
            let refused = Refused::of(reason, &text);
            if let Some(refused) = &refused {
                outcome.refuse(refused.clone(), Instant::now());
            }
            return End::closed(reason, &text, refused.as_ref());
        }
    }
    End::closed(ChannelCloseReason::Gap, ENDED, None)
}

/// Hands a client a message, and those behind it that are here already, up to [`TOGETHER`] bytes; their numbers are added to
/// `handed`. Gives what the host closed the channel with, where that comes next.
async fn hand(
    first: Incoming,
    incoming: &mut mpsc::UnboundedReceiver<Incoming>,
    to_client: &mut impl ToClient,
    handed: &mut Vec<u64>,
) -> Result<Option<(ChannelCloseReason, String)>, End> {
    let mut bytes_left = TOGETHER;
    let mut next = Some(first);
    let fed = loop {
        let (seq, bytes) = match next {
            Some(Incoming::Message { seq, bytes }) => (seq, bytes),
            Some(Incoming::Closed { reason, text }) => break Ok(Some((reason, text))),
            None => break Ok(None),
        };
        // Never trust the other end to have sent text.
        let Ok(text) = Text::try_from(bytes) else {
            break Err(End::broken("the host sent something that is not text"));
        };
        bytes_left = bytes_left.saturating_sub(text.len());
        if let Err(end) = to_client.feed(text).await {
            break Err(end);
        }
        handed.push(seq);
        next = if bytes_left > 0 { incoming.try_recv().ok() } else { None };
    };
    // Also what came before something that ends it.
    to_client.flush().await.and(fed)
}

/// The host's last word, if the session is over; who follows it may not know yet.
async fn last_said(mut state: watch::Receiver<RemoteState>) -> Option<End> {
    let ended = state.wait_for(|state| matches!(state, RemoteState::Ended { .. }));
    match &*timeout(SETTLED, ended).await.ok()?.ok()? {
        // By this side's own word there is nothing to tell.
        RemoteState::Ended { reason: None | Some(ByeReason::Normal) } => None,
        RemoteState::Ended { reason: Some(reason) } => {
            Some(End { why: last_word(*reason).to_owned(), kind: EndKind::Ended })
        }
        _ => None,
    }
}

/// Waits until there was no link for [`HOLD`]. When the session is over, its channels say so, after what is queued on them.
async fn out_of_reach(mut state: watch::Receiver<RemoteState>) {
    loop {
        let since = match &*state.borrow_and_update() {
            RemoteState::Up => None,
            RemoteState::Connecting { since, .. } | RemoteState::HostOffline { since, .. } => Some(*since),
            RemoteState::Ended { .. } => None,
        };
        tokio::select! {
            changed = state.changed() => if changed.is_err() { std::future::pending().await },
            () = async {
                match since {
                    Some(since) => sleep_until((since + HOLD).into()).await,
                    None => std::future::pending().await,
                }
            } => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// What a client was fed, an empty text for each flush.
    #[derive(Default)]
    struct Fed(Vec<String>);

    impl ToClient for Fed {
        async fn feed(&mut self, text: Text) -> Result<(), End> {
            self.0.push(text.to_string());
            Ok(())
        }

        async fn flush(&mut self) -> Result<(), End> {
            self.0.push(String::new());
            Ok(())
        }

        async fn goodbye(self, _: &End, _: bool) {}
    }

    /// Hands a client the first of these and what belongs to it: what it was fed, the numbers handed, and what came of it.
    async fn handed(messages: &[&'static [u8]], is_closed: bool) -> (Vec<String>, Vec<u64>, Result<bool, String>) {
        let (out, mut incoming) = mpsc::unbounded_channel();
        for (seq, bytes) in (0..).zip(messages) {
            out.send(Incoming::Message { seq, bytes: Bytes::from_static(bytes) }).unwrap();
        }
        if is_closed {
            out.send(Incoming::Closed { reason: ChannelCloseReason::Done, text: String::new() }).unwrap();
        }
        let (mut client, mut numbers) = (Fed::default(), Vec::new());
        let first = incoming.recv().await.unwrap();
        let closed = hand(first, &mut incoming, &mut client, &mut numbers).await;
        (client.0, numbers, closed.map(|closed| closed.is_some()).map_err(|end| end.why))
    }

    #[tokio::test]
    async fn what_is_here_already_is_handed_over_together() {
        static LARGE: [u8; TOGETHER] = [b'.'; TOGETHER];
        let large = str::from_utf8(&LARGE).unwrap();
        let (fed, numbers, closed) = handed(&[b"one", b"two", &LARGE, b"three"], true).await;
        assert!(fed == ["one", "two", large, ""], "{} fed", fed.len());
        assert_eq!((numbers, closed), (vec![0, 1, 2], Ok(false)), "what is large is not waited behind");
        assert_eq!(handed(&[b"one"], false).await, (vec!["one".into(), String::new()], vec![0], Ok(false)));
        assert_eq!(handed(&[b"one"], true).await, (vec!["one".into(), String::new()], vec![0], Ok(true)));
    }

    #[tokio::test]
    async fn what_came_before_something_that_is_no_text_reaches_the_client() {
        let (fed, numbers, closed) = handed(&[b"one", b"\xff", b"two"], false).await;
        assert_eq!((fed, numbers), (vec!["one".into(), String::new()], vec![0]));
        assert_eq!(closed, Err("the host sent something that is not text".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_interruption_is_bridged_and_then_the_client_is_let_go() {
        let since = Instant::now();
        let (state_out, state) = watch::channel(RemoteState::Connecting { since, reason: String::new() });
        let gone = tokio::spawn(out_of_reach(state));
        tokio::time::sleep(HOLD - Duration::from_secs(1)).await;
        state_out.send_replace(RemoteState::HostOffline { since, last_seen: 0 });
        assert!(!gone.is_finished(), "let go within the time that is bridged");
        tokio::time::sleep(Duration::from_secs(2)).await;
        timeout(PATIENCE, gone).await.expect("never let go").unwrap();
    }
}
