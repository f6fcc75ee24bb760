//! A port before an app-server that has too much to do for some requests: it answers them as Codex does then, and hands on all
//! others.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_tungstenite::tungstenite::Message;

/// What it refuses still, and what it has refused, by method.
#[derive(Default)]
struct Counts {
    left: HashMap<String, usize>,
    refused: HashMap<String, usize>,
}

/// See the module's header. Ends when dropped.
pub struct Busy {
    addr: SocketAddr,
    counts: Arc<Mutex<Counts>>,
    serving: AbortHandle,
}

impl Busy {
    /// Before the server of this socket.
    pub async fn before(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let counts = Arc::<Mutex<Counts>>::default();
        let of_server = Arc::clone(&counts);
        let serving = tokio::spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                clients.spawn(serve(stream, socket.clone(), Arc::clone(&of_server)));
            }
        });
        Self { addr, counts, serving: serving.abort_handle() }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Has it too busy for the next so many requests of this method.
    pub fn refuse(&self, method: &str, times: usize) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.left.insert(method.to_owned(), times);
        counts.refused.remove(method);
    }

    /// How many of this method it has refused since.
    pub fn refused(&self, method: &str) -> usize {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.refused.get(method).copied().unwrap_or_default()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(stream: TcpStream, socket: PathBuf, counts: Arc<Mutex<Counts>>) {
    let Ok(mut client) = tokio_tungstenite::accept_async(stream).await else { return };
    let Ok(stream) = UnixStream::connect(socket.canonicalize().unwrap()).await else { return };
    let Ok((mut server, _)) = tokio_tungstenite::client_async("ws://localhost/", stream).await else { return };
    loop {
        let sent = tokio::select! {
            message = client.next() => match message {
                Some(Ok(message)) => match refusal(&message, &counts) {
                    Some(answer) => client.send(answer).await,
                    None => server.send(message).await,
                },
                Some(Err(_)) | None => return,
            },
            message = server.next() => match message {
                Some(Ok(message)) => client.send(message).await,
                Some(Err(_)) | None => return,
            },
        };
        if sent.is_err() {
            return;
        }
    }
}

/// What is answered in Codex's place.
fn refusal(message: &Message, counts: &Mutex<Counts>) -> Option<Message> {
    let asked: Value = serde_json::from_str(message.to_text().ok()?).ok()?;
    let (method, id) = (asked["method"].as_str()?, asked.get("id")?);
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    let left = counts.left.get_mut(method)?;
    *left = left.checked_sub(1)?;
    *counts.refused.entry(method.to_owned()).or_default() += 1;
    let error = json!({ "code": -32001, "message": "Server overloaded; retry later." });
    Some(Message::text(json!({ "id": id, "error": error }).to_string()))
}
