//! A private local socket that speaks what `codex --remote` expects.
//!
//! Each client of the socket is one channel to the host's app-server. The stock
//! terminal UI sends no keep-alives and types happily into a dead link, so this
//! end does the watching: an interruption of up to [`HOLD`] is bridged (messages
//! wait in the session); after that, or when the session says `gap`, the client's
//! socket is closed, and the terminal UI connects again and resumes by itself. What
//! the host has by then is in the thread that it resumes; the rest is taken back, so
//! that what is typed again does not run twice.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::StatusCode;
use http::header::{HeaderName, HeaderValue, ORIGIN};
use reachback_proto::frame::{ByeReason, ChannelCloseReason};
use reachback_proto::session::MAX_MESSAGE_TO_HOST;
use reachback_proto::words::printable;
use reachback_relay::accepting::Accepting;
use reachback_relay::vital;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::outcome::{Outcome, Refused, last_word};
use super::remote::{RemoteHost, RemoteState};
use crate::codex::{MAX_FRAME, send_text};
use crate::link::ByteStream;
use crate::local_api::server::next_connection;
use crate::platform::socket::LocalListener;
use crate::session::{ChannelHandle, ChannelSender, ENDED, Incoming};

/// An interruption of the link that clients don't notice. Beyond it a person should see that it is down.
pub const HOLD: Duration = Duration::from_secs(30);
/// Bytes of a client that wait for the host before the client itself has to.
const BACKLOG: usize = 4 << 20;
/// The upgrade and each write to a client that does not read.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// The terminal UI shows a notice in its own time, and none that its connection's end overtakes.
const NOTICED: Duration = Duration::from_millis(300);
/// A channel that is served for so long is not refused any more: the terminal UI has loaded its thread again by then.
const MENDED: Duration = Duration::from_secs(60);
/// A session that has ended is known to have after this.
const SETTLED: Duration = Duration::from_secs(5);
/// Longest reason of a WebSocket's close, in bytes (RFC 6455, 5.5).
const MAX_REASON: usize = 123;

/// Serves clients at `listener` until the session ends. `environment` is what their channels reach.
pub async fn serve(listener: LocalListener, remote: Arc<RemoteHost>, environment: &str, outcome: Arc<Outcome>) {
    let mut clients = JoinSet::new();
    let mut accepting = Accepting::new("clients");
    let mut state = remote.state();
    loop {
        tokio::select! {
            stream = next_connection(&listener, &mut accepting) => {
                let (remote, outcome, environment) = (Arc::clone(&remote), Arc::clone(&outcome), environment.to_owned());
                clients.spawn(async move { client(Box::new(stream), &remote, &environment, &outcome).await });
            }
            Some(ended) = clients.join_next() => vital::raise(ended),
            changed = state.changed() => {
                if changed.is_err() || matches!(*state.borrow(), RemoteState::Ended { .. }) {
                    // Let clients read what is queued for them before their sockets close.
                    while let Some(ended) = clients.join_next().await {
                        vital::raise(ended);
                    }
                    return;
                }
            }
        }
    }
}

/// The path as `codex --remote` takes it.
pub fn remote_url(path: &Path) -> String {
    format!("unix://{}", path.display())
}

type Socket = WebSocketStream<Box<dyn ByteStream>>;

async fn client(stream: Box<dyn ByteStream>, remote: &RemoteHost, environment: &str, outcome: &Outcome) {
    // Also one that is turned away: it will come again, and hopes for a link by then.
    let _waits = remote.waits();
    if remote.state().borrow().down_for(Instant::now()).is_some_and(|down| down >= HOLD) {
        // Closed at once rather than left without an answer to `initialize`: the client tries again.
        tracing::debug!("a client came while the host is out of reach");
        return;
    }
    let config = WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .write_buffer_size(0)
        .max_message_size(Some(MAX_MESSAGE_TO_HOST))
        .max_frame_size(Some(MAX_FRAME));
    // No header of the client's is echoed: with its compression header back it would switch to zstd frames.
    let upgrade = tokio_tungstenite::accept_hdr_async_with_config(stream, answer_upgrade, Some(config));
    let Ok(Ok(socket)) = timeout(CLIENT_TIMEOUT, upgrade).await else {
        tracing::debug!("a client did not upgrade to a WebSocket");
        return;
    };
    outcome.pause().await;
    let Ok(channel) = remote.open_channel(environment).await else { return };
    tracing::debug!(channel = channel.sender.number(), "client connected");
    bridge(socket, channel, remote.state(), outcome).await;
}

/// How Codex says to its clients what it takes in one frame, in bytes: they cut larger messages.
const MAX_UNFRAGMENTED: HeaderName = HeaderName::from_static("x-codex-websocket-max-unfragmented-message-bytes");

/// Answers as Codex does.
///
/// Only browsers send `Origin`, and a page has no business here, whatever led it to this socket. Codex refuses it too.
#[expect(clippy::result_large_err, reason = "the type is the callback's")]
fn answer_upgrade(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    if !request.headers().contains_key(ORIGIN) {
        response.headers_mut().insert(MAX_UNFRAGMENTED, HeaderValue::from(MAX_FRAME));
        return Ok(response);
    }
    let mut refusal = ErrorResponse::new(Some("web pages can't use this socket".into()));
    *refusal.status_mut() = StatusCode::FORBIDDEN;
    Err(refusal)
}

/// How a client's connection ends.
struct End {
    why: String,
    /// What its socket is closed with.
    code: CloseCode,
    /// Whether it is told of a failure.
    is_failure: bool,
    /// Whether what has not reached the host by now must not run later: the client may say it again.
    takes_back: bool,
}

impl End {
    fn quiet(why: &str) -> Self {
        Self { why: printable(why), code: CloseCode::Normal, is_failure: false, takes_back: false }
    }

    /// The host closed the channel. `refused` is what a person should hear of that.
    fn closed(reason: ChannelCloseReason, text: &str, refused: Option<&Refused>) -> Self {
        let code = match reason {
            ChannelCloseReason::Done => CloseCode::Normal,
            ChannelCloseReason::Gap => CloseCode::Restart,
            ChannelCloseReason::BackendGone => CloseCode::Error,
            ChannelCloseReason::Limit => CloseCode::Again,
            ChannelCloseReason::Refused | ChannelCloseReason::Other(_) => CloseCode::Policy,
        };
        match refused {
            Some(refused) => Self { code, ..Self::failure(refused.text.clone()) },
            None => Self { code, ..Self::quiet(text) },
        }
    }

    fn failure(why: impl Into<String>) -> Self {
        Self { why: why.into(), code: CloseCode::Away, is_failure: true, takes_back: false }
    }
}

async fn bridge(socket: Socket, channel: ChannelHandle, state: watch::Receiver<RemoteState>, outcome: &Outcome) {
    let (mut to_client, mut from_client) = socket.split();
    let ChannelHandle { sender, incoming } = channel;
    let mut answered = None;
    let up = up(&mut from_client, &sender, outcome);
    let end = tokio::select! {
        end = up => end,
        end = down(&mut to_client, incoming, &sender, (outcome, &mut answered)) => end,
        () = out_of_reach(state.clone()) => {
            End { takes_back: true, ..End::failure("the host was out of reach for too long") }
        }
    };
    let end = if end.why == ENDED { last_said(state).await.unwrap_or(end) } else { end };
    tracing::debug!(why = %end.why, "client disconnected");
    let _ = match end.takes_back {
        true => sender.withdraw(&end.why).await,
        false => sender.close(ChannelCloseReason::Done, &end.why).await,
    };
    let _ = timeout(Duration::from_secs(1), say_goodbye(to_client, &end, answered.is_some())).await;
}

/// Until the client is gone, or the session.
async fn up(from_client: &mut SplitStream<Socket>, sender: &ChannelSender, outcome: &Outcome) -> End {
    loop {
        sender.writable(BACKLOG).await;
        let bytes = match from_client.next().await {
            Some(Ok(Message::Text(text))) => Bytes::from(text),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            // Codex ignores binary messages too; forwarding one would only be refused at the host.
            Some(Ok(Message::Binary(_) | Message::Frame(_))) => continue,
            Some(Ok(Message::Close(_)) | Err(_)) | None => return End::quiet("the client closed its socket"),
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
    to_client: &mut SplitSink<Socket, Message>,
    mut incoming: mpsc::UnboundedReceiver<Incoming>,
    sender: &ChannelSender,
    (outcome, answered): (&Outcome, &mut Option<Instant>),
) -> End {
    let mut is_mended = false;
    while let Some(message) = incoming.recv().await {
        match message {
            Incoming::Message { seq, bytes } => {
                // Never trust the other end to have sent text.
                let Ok(text) = Utf8Bytes::try_from(bytes) else {
                    return End::quiet("the host sent something that is not text");
                };
                if !matches!(timeout(CLIENT_TIMEOUT * 6, send_text(to_client, text)).await, Ok(Ok(()))) {
                    return End::quiet("the client does not read");
                }
                match answered {
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
                // In vain where the session has ended: the channel says so next.
                let _ = sender.handled(seq).await;
            }
            Incoming::Closed { reason, text } => {
                tracing::info!(?reason, text = printable(&text), "the host closed the channel");
                let refused = Refused::of(reason, &text);
                if let Some(refused) = &refused {
                    outcome.refuse(refused.clone(), Instant::now());
                }
                return End::closed(reason, &text, refused.as_ref());
            }
        }
    }
    End::closed(ChannelCloseReason::Gap, ENDED, None)
}

/// The host's last word, if the session is over; who follows it may not know yet.
async fn last_said(mut state: watch::Receiver<RemoteState>) -> Option<End> {
    let ended = state.wait_for(|state| matches!(state, RemoteState::Ended { .. }));
    match &*timeout(SETTLED, ended).await.ok()?.ok()? {
        // By this side's own word there is nothing to tell.
        RemoteState::Ended { reason: None | Some(ByeReason::Normal) } => None,
        RemoteState::Ended { reason: Some(reason) } => Some(End::failure(last_word(*reason))),
        _ => None,
    }
}

/// Tells a client why, as far as it can hear it, and closes its socket.
async fn say_goodbye(mut to_client: SplitSink<Socket, Message>, end: &End, has_answered: bool) -> Result<(), Error> {
    let words = format!("Reachback: {}", end.why);
    if end.is_failure && has_answered {
        let warning = json!({ "method": "warning", "params": { "threadId": null, "message": words } });
        to_client.send(Message::text(warning.to_string())).await?;
        sleep(NOTICED).await;
    }
    let reason = words[..words.floor_char_boundary(MAX_REASON)].into();
    to_client.send(Message::Close(Some(CloseFrame { code: end.code, reason }))).await?;
    to_client.close().await
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
    use tokio::io::DuplexStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;
    use crate::link::testing::links;
    use crate::session::{SessionState, StartedSession, testing};

    const PATIENCE: Duration = Duration::from_secs(60);

    /// A client of the socket, the host's end of its channel, and what keeps them going.
    async fn bridged(
        state: RemoteState,
        first: &'static [Bytes],
    ) -> (WebSocketStream<DuplexStream>, ChannelHandle, [StartedSession; 2]) {
        let (channel, far, sessions) = testing::channel().await;
        for message in first {
            far.sender.send(message.clone()).await.unwrap();
        }
        // All of it is here before the client's bridge starts.
        timeout(PATIENCE, async {
            while channel.incoming.len() < first.len() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the messages do not arrive");
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let as_codex =
            WebSocketConfig::default().max_frame_size(Some(MAX_FRAME)).max_message_size(Some(MAX_MESSAGE_TO_HOST));
        let client = WebSocketStream::from_raw_socket(theirs, Role::Client, Some(as_codex)).await;
        let socket = WebSocketStream::from_raw_socket(Box::new(ours) as Box<dyn ByteStream>, Role::Server, None).await;
        let state = watch::Sender::new(state).subscribe();
        tokio::spawn(async move { bridge(socket, channel, state, &Outcome::default()).await });
        (client, far, sessions)
    }

    async fn next(client: &mut WebSocketStream<DuplexStream>) -> Option<Message> {
        timeout(PATIENCE, client.next()).await.expect("nothing comes").map(|message| message.expect("a message"))
    }

    #[tokio::test]
    async fn a_message_above_a_frame_reaches_a_client_that_takes_frames_as_codex_does() {
        let (mut client, far, _sessions) = bridged(RemoteState::Up, &[]).await;
        far.sender.send(Bytes::from(vec![b'.'; MAX_FRAME + 1])).await.unwrap();
        let Some(Message::Text(text)) = next(&mut client).await else { panic!("not a text message") };
        assert_eq!(text.len(), MAX_FRAME + 1);
    }

    #[tokio::test]
    async fn a_client_is_told_what_codex_would_tell_it_of_its_frames() {
        let (ours, theirs) = tokio::io::duplex(4096);
        let (accepted, opened) = tokio::join!(
            tokio_tungstenite::accept_hdr_async(theirs, answer_upgrade),
            tokio_tungstenite::client_async("ws://localhost/", ours)
        );
        accepted.unwrap();
        let (_, response) = opened.unwrap();
        assert_eq!(response.headers().get(MAX_UNFRAGMENTED).unwrap(), "16777216");
    }

    #[tokio::test]
    async fn a_client_reads_what_came_before_the_session_ended() {
        static MESSAGES: [Bytes; 3] =
            [Bytes::from_static(b"one"), Bytes::from_static(b"two"), Bytes::from_static(b"three")];
        let (mut client, _far, sessions) = bridged(RemoteState::Ended { reason: None }, &MESSAGES).await;
        for wanted in &MESSAGES {
            let Some(Message::Text(text)) = next(&mut client).await else { panic!("closed before {wanted:?}") };
            assert_eq!(text.as_bytes(), wanted);
        }
        drop(sessions);
        assert!(!matches!(next(&mut client).await, Some(Message::Text(_))), "nothing more comes");
    }

    #[tokio::test]
    async fn what_did_not_reach_the_host_when_its_client_is_let_go_never_does() {
        let (channel, mut far, sessions) = testing::channel().await;
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let mut client = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
        let socket = WebSocketStream::from_raw_socket(Box::new(ours) as Box<dyn ByteStream>, Role::Server, None).await;
        let (state_out, state) = watch::channel(RemoteState::Up);
        let bridge = tokio::spawn(async move { bridge(socket, channel, state, &Outcome::default()).await });
        let [device, host] = &sessions;
        // A link whose other end nobody reads, and which ends.
        let (dead, _) = links().await;
        device.handle.attach(dead, None).await.unwrap();
        let down = |state: &SessionState| matches!(state, SessionState::Down { .. });
        timeout(PATIENCE, device.handle.state().wait_for(down)).await.expect("the link lives").unwrap();
        client.send(Message::text("a prompt")).await.unwrap();
        let waits = async {
            while device.handle.held_bytes() == 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, waits).await.expect("the prompt is not queued");

        let since = Instant::now() - HOLD;
        state_out.send_replace(RemoteState::Connecting { since, reason: String::new() });
        assert!(!matches!(next(&mut client).await, Some(Message::Text(_))), "the client is not let go");
        timeout(PATIENCE, bridge).await.expect("the bridge goes on").unwrap();
        let (device_link, host_link) = links().await;
        host.handle.attach(host_link, None).await.unwrap();
        device.handle.attach(device_link, None).await.unwrap();
        let closed = timeout(PATIENCE, far.incoming.recv()).await.expect("the host hears nothing").unwrap();
        assert!(matches!(closed, Incoming::Closed { reason: ChannelCloseReason::Gap, .. }), "{closed:?}");
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
