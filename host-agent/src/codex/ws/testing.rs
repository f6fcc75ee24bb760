//! The server's end of a WebSocket, for tests.

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message;

/// Answers every message of a client with `{}` until it leaves; what comes while `answers` says no has to wait.
pub(in crate::codex) async fn answer_while(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    mut answers: watch::Receiver<bool>,
) {
    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
    while let Some(Ok(_)) = socket.next().await {
        // Who changes it may be gone.
        let _ = answers.wait_for(|answers| *answers).await;
        if socket.send(Message::text("{}")).await.is_err() {
            return;
        }
    }
}
