//! A JSON-RPC client for tests, over whatever carries the messages.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{SinkExt, StreamExt};
use reachback_host::codex::{Allowance, CodexBackend, CodexConnection, ReceiveError, Text};
use reachback_host::session::{ChannelHandle, Incoming};
use reachback_proto::frame::ChannelCloseReason;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::PATIENCE;
use crate::codex::TestCodex;

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Without a word, as sockets do.
    Silent,
    /// After messages that were lost.
    Gap,
    /// A channel that was closed.
    Closed(ChannelCloseReason),
}

/// What carries one message each way.
pub trait Pipe: Send {
    /// Sends one message.
    fn send(&mut self, message: String) -> BoxFuture<'_, ()>;
    /// The next message, or how the connection ended. Safe to cancel.
    fn next(&mut self) -> BoxFuture<'_, Result<Value, End>>;
}

impl Pipe for CodexConnection {
    fn send(&mut self, message: String) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.sender.send(Text::from(message)).await.unwrap() })
    }
    fn next(&mut self) -> BoxFuture<'_, Result<Value, End>> {
        Box::pin(async move {
            let text = match self.receiver.next().await.ok_or(End::Silent)? {
                Err(ReceiveError::Gap) => return Err(End::Gap),
                text => text.unwrap(),
            };
            Ok(serde_json::from_str(&text).unwrap())
        })
    }
}

impl Pipe for ChannelHandle {
    fn send(&mut self, message: String) -> BoxFuture<'_, ()> {
        // A session that has ended shows at the next message that does not come.
        Box::pin(async move {
            let _ = self.sender.send(Bytes::from(message)).await;
        })
    }
    fn next(&mut self) -> BoxFuture<'_, Result<Value, End>> {
        Box::pin(async move {
            match self.incoming.recv().await.ok_or(End::Silent)? {
                Incoming::Message { seq, bytes } => {
                    let _ = self.sender.handled(seq);
                    Ok(serde_json::from_slice(&bytes).unwrap())
                }
                Incoming::Closed { reason, .. } => Err(End::Closed(reason)),
            }
        })
    }
}

/// Messages over a socket of an app-server, or of `connect --socket`.
impl Pipe for WebSocketStream<UnixStream> {
    fn send(&mut self, message: String) -> BoxFuture<'_, ()> {
        Box::pin(async move { SinkExt::send(self, Message::text(message)).await.unwrap() })
    }
    fn next(&mut self) -> BoxFuture<'_, Result<Value, End>> {
        Box::pin(async move {
            match StreamExt::next(self).await {
                Some(Ok(Message::Text(text))) => Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => Err(End::Silent),
                Some(Ok(other)) => panic!("{other:?} is not for this client"),
            }
        })
    }
}

/// A JSON-RPC client on one connection, as simple as a test wants it.
pub struct Client {
    pipe: Box<dyn Pipe>,
    next_id: u64,
    patience: Duration,
    /// What came while something else was waited for.
    unread: VecDeque<Value>,
}

impl Client {
    /// Connects to Codex itself and initializes, with all of its API: a device's connection has that, too.
    pub async fn connect(backend: &dyn CodexBackend) -> Self {
        Self::initialized(backend.connect(Allowance::default()).await.unwrap(), json!({ "experimentalApi": true }))
            .await
    }

    /// Initializes on a connection of any kind.
    pub async fn over(pipe: impl Pipe + 'static) -> Self {
        Self::initialized(pipe, Value::Null).await
    }

    /// Initializes with these capabilities.
    pub async fn initialized(pipe: impl Pipe + 'static, capabilities: Value) -> Self {
        let mut client = Self::raw(pipe);
        let params = json!({ "clientInfo": { "name": "reachback_e2e", "version": "0" }, "capabilities": capabilities });
        client.request("initialize", params).await.unwrap();
        client.send(&json!({ "method": "initialized" })).await;
        client
    }

    /// Sends nothing by itself.
    pub fn raw(pipe: impl Pipe + 'static) -> Self {
        Self { pipe: Box::new(pipe), next_id: 1, patience: PATIENCE, unread: VecDeque::new() }
    }

    /// Waits this long for anything, where [`PATIENCE`] does not fit.
    pub fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sends one message.
    pub async fn send(&mut self, message: &Value) {
        self.pipe.send(message.to_string()).await;
    }

    /// Calls `method` and waits for its result or its error.
    pub async fn request(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&json!({ "id": id, "method": method, "params": params })).await;
        let answer = self.until(method, |message| message["id"] == id && message.get("method").is_none()).await;
        match answer.get("error") {
            Some(error) => Err(error.clone()),
            None => Ok(answer["result"].clone()),
        }
    }

    /// A thread in `test`'s project.
    pub async fn thread(&mut self, test: &TestCodex) -> String {
        let started = self.request("thread/start", json!({ "cwd": test.home.project() })).await.unwrap();
        started["thread"]["id"].as_str().unwrap().to_owned()
    }

    /// Starts a turn; what happens in it comes from [`until`](Self::until).
    pub async fn prompt(&mut self, thread: &str, text: &str) -> String {
        let input = json!([{ "type": "text", "text": text }]);
        let started = self.request("turn/start", json!({ "threadId": thread, "input": input })).await.unwrap();
        started["turn"]["id"].as_str().unwrap().to_owned()
    }

    /// Has a turn run to its end; gives its items, and answers every approval that it asks for with yes.
    pub async fn turn(&mut self, thread: &str, text: &str) -> Vec<Value> {
        let turn = self.prompt(thread, text).await;
        loop {
            let of_turn = |message: &Value| message["params"]["turnId"] == turn && message.get("id").is_some();
            let over =
                |message: &Value| message["params"]["turn"]["id"] == turn && message["method"] == "turn/completed";
            let message = self.until("the turn's end", |message| of_turn(message) || over(message)).await;
            if over(&message) {
                break;
            }
            self.decide(&message, "accept").await;
        }
        let of_turn = |message: &Value| message["method"] == "item/completed" && message["params"]["turnId"] == turn;
        let (items, rest) = self.unread.drain(..).partition(of_turn);
        self.unread = rest;
        Vec::from_iter::<VecDeque<Value>>(items).into_iter().map(|message| message["params"]["item"].clone()).collect()
    }

    /// The next message that is `wanted`; others are kept for later calls.
    pub async fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.unread.iter().position(&wanted) {
            return self.unread.remove(at).unwrap();
        }
        let pipe = &mut self.pipe;
        let unread = &mut self.unread;
        let waiting = async {
            loop {
                let message = pipe.next().await?;
                if wanted(&message) {
                    return Ok(message);
                }
                unread.push_back(message);
            }
        };
        let found = tokio::time::timeout(self.patience, waiting).await;
        let seen = || {
            let names = self.unread.iter().map(|m| m["method"].as_str().unwrap_or("an answer"));
            names.rev().take(20).collect::<Vec<_>>()
        };
        match found {
            Ok(Ok(message)) => message,
            Ok(Err::<_, End>(end)) => panic!("{end:?} while we waited for {what}; last came {:?}", seen()),
            Err(_) => panic!("waited for {what}; last came {:?}", seen()),
        }
    }

    /// What comes up to the message that is `wanted`, with that, or up to the connection's end, and which end that was.
    pub async fn until_or_end(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> (Vec<Value>, Option<End>) {
        let mut heard: Vec<Value> = self.unread.drain(..).collect();
        let pipe = &mut self.pipe;
        let waiting = async {
            loop {
                match pipe.next().await {
                    Ok(message) => heard.push(message),
                    Err(end) => return Some(end),
                }
                if heard.last().is_some_and(&wanted) {
                    return None;
                }
            }
        };
        let end = tokio::time::timeout(self.patience, waiting).await.unwrap_or_else(|_| panic!("waited for {what}"));
        (heard, end)
    }

    /// The next notification or server request with this method.
    pub async fn event(&mut self, method: &str) -> Value {
        self.until(method, |message| message["method"] == method).await
    }

    /// Takes what came so far with this method.
    pub fn take(&mut self, method: &str) -> Vec<Value> {
        let (taken, rest) = self.unread.drain(..).partition(|message| message["method"] == method);
        self.unread = rest;
        Vec::from_iter::<VecDeque<_>>(taken)
    }

    /// Takes the answer with this id, if it came.
    pub fn take_answer(&mut self, id: u64) -> Option<Value> {
        let at = self.unread.iter().position(|message| message["id"] == id && message.get("method").is_none())?;
        self.unread.remove(at)
    }

    /// Takes all notifications of a thread that came so far.
    pub fn take_thread(&mut self, thread: &str) -> Vec<Value> {
        let of_thread = |message: &Value| {
            let params = &message["params"];
            message.get("id").is_none() && (params["threadId"] == thread || params["thread"]["id"] == thread)
        };
        let (taken, rest) = self.unread.drain(..).partition(of_thread);
        self.unread = rest;
        Vec::from_iter::<VecDeque<_>>(taken)
    }

    /// Joins a thread that another client started.
    pub async fn resume(&mut self, thread: &str) -> Value {
        self.request("thread/resume", json!({ "threadId": thread })).await.unwrap()
    }

    /// A thread as it is once its last turn is completed. It is not listened to: Codex may drop whoever listens at full speed.
    pub async fn read_completed(&mut self, thread: &str) -> Value {
        let patience = self.patience;
        let reading = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(50));
            loop {
                ticks.tick().await;
                let params = json!({ "threadId": thread, "includeTurns": true });
                let read = self.request("thread/read", params).await.unwrap();
                let last = read["thread"]["turns"].as_array().and_then(|turns| turns.last());
                if last.is_some_and(|turn| turn["status"] == "completed") {
                    return read;
                }
            }
        };
        tokio::time::timeout(patience, reading).await.expect("the turn is not completed")
    }

    /// A round trip to Codex, short as they come.
    pub async fn echo(&mut self) {
        self.request("thread/loaded/list", json!({})).await.unwrap();
    }

    /// Answers an approval request.
    pub async fn decide(&mut self, asked: &Value, decision: &str) {
        self.send(&json!({ "id": asked["id"], "result": { "decision": decision } })).await;
    }

    /// Waits until the server ends the connection: what came before, and how it ended.
    pub async fn ended(mut self) -> (Vec<Value>, End) {
        let end = async {
            loop {
                match self.pipe.next().await {
                    Ok(message) => self.unread.push_back(message),
                    Err(end) => return end,
                }
            }
        };
        let end = tokio::time::timeout(self.patience, end).await.expect("the connection was kept open");
        (self.unread.into(), end)
    }
}
