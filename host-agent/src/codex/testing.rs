//! An app-server that a test plays, without anything between it and its client.

use futures_util::{SinkExt, stream};
use ring::rand::SystemRandom;
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use super::{CodexConnection, Instance, SendError, Text};

/// The server's end of a connection; the connection ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    to_client: mpsc::Sender<Text>,
    from_client: mpsc::Receiver<Text>,
}

/// A connection and its server. So many messages fit between the two, each way.
pub(crate) fn connection(room: usize) -> (CodexConnection, Server) {
    let (to_server, from_client) = mpsc::channel(room);
    let (to_client, mut from_server) = mpsc::channel(room);
    let sink = PollSender::new(to_server).sink_map_err(|_| SendError::Closed);
    let stream = stream::poll_fn(move |cx| from_server.poll_recv(cx).map(|text| text.map(Ok)));
    let instance = Instance::random(&SystemRandom::new()).expect("the system has randomness");
    (CodexConnection::new(sink, stream, instance), Server { to_client, from_client })
}

impl Server {
    /// Says something, once there is room; an error when the client is gone.
    pub(crate) async fn send(&self, text: impl Into<Text>) -> Result<(), SendError> {
        self.to_client.send(text.into()).await.map_err(|_| SendError::Closed)
    }

    /// What the client says next; `None` when it is gone.
    pub(crate) async fn next(&mut self) -> Option<Text> {
        self.from_client.recv().await
    }
}
