//! The server's end of a WebSocket, for tests.

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::Message;

/// Answers every message of a client with `{}` until it leaves.
pub(in crate::codex) async fn answer_all(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
    while let Some(Ok(_)) = socket.next().await {
        if socket.send(Message::text("{}")).await.is_err() {
            return;
        }
    }
}
