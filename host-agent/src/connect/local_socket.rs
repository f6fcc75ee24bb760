//! A private local socket that speaks what `codex --remote` expects.
//!
//! Each client of the socket is one channel to the host's app-server, by a [`bridge`]. One that is let go sees its
//! socket close; the terminal UI then connects again and resumes by itself.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::StatusCode;
use http::header::{HeaderName, HeaderValue, ORIGIN};
use reachback_proto::frame::ChannelCloseReason;
use reachback_proto::session::MAX_MESSAGE_TO_HOST;
use reachback_relay::accepting::Accepting;
use reachback_relay::vital;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::bridge::{End, EndKind, FromClient, HOLD, ToClient, bridge};
use super::outcome::Outcome;
use super::remote::{RemoteHost, RemoteState};
use crate::codex::{MAX_FRAME, Text, feed_text};
use crate::link::ByteStream;
use crate::local_api::server::next_connection;
use crate::platform::socket::LocalListener;

/// The upgrade.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// The terminal UI shows a notice in its own time, and none that its connection's end overtakes.
const NOTICED: Duration = Duration::from_millis(300);
/// Bytes for a client that gather before they are written, where nothing flushes them sooner.
const WRITE_BUFFER: usize = 16 << 10;
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

fn halves(socket: Socket) -> (FromSocket, ToSocket) {
    let (to_client, from_client) = socket.split();
    (FromSocket(from_client), ToSocket(to_client))
}

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
        .write_buffer_size(WRITE_BUFFER)
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
    bridge(halves(socket), channel, remote.state(), outcome).await;
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

/// What a client of the socket says: one message in each text frame.
struct FromSocket(SplitStream<Socket>);

impl FromClient for FromSocket {
    const IS_ALONE: bool = false;

    async fn next(&mut self) -> Result<Bytes, End> {
        loop {
            return match self.0.next().await {
                Some(Ok(Message::Text(text))) => Ok(Bytes::from(text)),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                // Codex ignores binary messages too; forwarding one would only be refused at the host.
                Some(Ok(Message::Binary(_) | Message::Frame(_))) => continue,
                Some(Ok(Message::Close(_)) | Err(_)) | None => Err(End::gone("the client closed its socket")),
            };
        }
    }
}

/// What it hears.
struct ToSocket(SplitSink<Socket, Message>);

impl ToClient for ToSocket {
    async fn feed(&mut self, text: Text) -> Result<(), End> {
        feed_text(&mut self.0, text).await.map_err(|_| End::gone("the client closed its socket"))
    }

    async fn flush(&mut self) -> Result<(), End> {
        self.0.flush().await.map_err(|_| End::gone("the client closed its socket"))
    }

    async fn goodbye(self, end: &End, has_answered: bool) {
        let _ = say_goodbye(self.0, end, has_answered).await;
    }
}

/// What a client's socket is closed with.
fn close_code(end: &End) -> CloseCode {
    match end.kind {
        EndKind::Gone | EndKind::Broken => CloseCode::Normal,
        EndKind::OutOfReach | EndKind::Ended => CloseCode::Away,
        EndKind::Closed { reason, .. } => match reason {
            ChannelCloseReason::Done => CloseCode::Normal,
            ChannelCloseReason::Gap => CloseCode::Restart,
            ChannelCloseReason::BackendGone => CloseCode::Error,
            ChannelCloseReason::Limit => CloseCode::Again,
            ChannelCloseReason::Refused | ChannelCloseReason::Other(_) => CloseCode::Policy,
        },
    }
}

/// Tells a client why, as far as it can hear it, and closes its socket.
async fn say_goodbye(mut to_client: SplitSink<Socket, Message>, end: &End, has_answered: bool) -> Result<(), Error> {
    let words = format!("Reachback: {}", end.why);
    if end.is_failure() && has_answered {
        let warning = json!({ "method": "warning", "params": { "threadId": null, "message": words } });
        to_client.send(Message::text(warning.to_string())).await?;
        sleep(NOTICED).await;
    }
    let reason = words[..words.floor_char_boundary(MAX_REASON)].into();
    to_client.send(Message::Close(Some(CloseFrame { code: close_code(end), reason }))).await?;
    to_client.close().await
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;
    use tokio::sync::watch;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;
    use crate::link::testing::links;
    use crate::session::{ChannelHandle, Incoming, SessionState, StartedSession, testing};

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
        tokio::spawn(async move { bridge(halves(socket), channel, state, &Outcome::default()).await });
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
        let bridge = tokio::spawn(async move { bridge(halves(socket), channel, state, &Outcome::default()).await });
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
}
