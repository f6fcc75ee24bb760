//! An app-server that a test plays, without anything between it and its client.

use futures_util::{SinkExt, stream};
use ring::rand::SystemRandom;
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use super::{CodexConnection, Instance, ReceiveError, SendError, Text};

/// The server's end of a connection; the connection ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    to_client: mpsc::Sender<Result<Text, ReceiveError>>,
    from_client: mpsc::Receiver<Text>,
}

/// A connection and its server. So many messages fit between the two, each way.
pub(crate) fn connection(room: usize) -> (CodexConnection, Server) {
    let (to_server, from_client) = mpsc::channel(room);
    let (to_client, mut from_server) = mpsc::channel(room);
    let sink = PollSender::new(to_server).sink_map_err(|_| SendError::Closed);
    let stream = stream::poll_fn(move |cx| from_server.poll_recv(cx));
    let instance = Instance::random(&SystemRandom::new()).expect("the system has randomness");
    (CodexConnection::new(sink, stream, instance), Server { to_client, from_client })
}

impl Server {
    /// Says something, once there is room; an error when the client is gone.
    pub(crate) async fn send(&self, text: impl Into<Text>) -> Result<(), SendError> {
        self.to_client.send(Ok(text.into())).await.map_err(|_| SendError::Closed)
    }

    /// Ends the connection with an error, behind what was said.
    pub(crate) async fn fail(self, error: ReceiveError) {
        // One that is gone hears nothing of it.
        let _ = self.to_client.send(Err(error)).await;
    }

    /// What the client says next; `None` when it is gone.
    pub(crate) async fn next(&mut self) -> Option<Text> {
        self.from_client.recv().await
    }
}
