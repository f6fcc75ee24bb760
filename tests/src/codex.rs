//! The real Codex, pinned in `tests/codex`, with the scripted model and a home of its own.
//!
//! Homes are below `target/e2e`: Codex warns about homes in the temporary folder, and does less there.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use reachback_host::codex::app_server::{AppServer, CodexConfig};
use reachback_host::codex::{CodexBackend, CodexConnection, CodexState};
use reachback_host::demo::{DemoHome, ScriptedModel};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything may take here; a cold start of Codex on a busy machine is the slowest.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The pinned Codex. Panics with the command that installs it.
pub fn program() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("codex");
    let program = folder.join("node_modules/.bin/codex");
    assert!(program.exists(), "no Codex to test with; run: npm ci --prefix {}", folder.display());
    program
}

/// A home, a project and a model for one test's Codex. Removed when dropped.
pub struct TestCodex {
    /// Its folders.
    pub home: DemoHome,
    /// Its model.
    pub model: ScriptedModel,
    _folder: TempDir,
}

impl TestCodex {
    /// Prepares everything; nothing runs yet but the model.
    pub async fn prepare() -> Self {
        let e2e = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/e2e");
        std::fs::create_dir_all(&e2e).unwrap();
        let folder = tempfile::Builder::new().prefix("codex-").tempdir_in(e2e).unwrap();
        let model = ScriptedModel::start().await.unwrap();
        let home = DemoHome::prepare(folder.path(), model.addr()).unwrap();
        Self { home, model, _folder: folder }
    }

    /// How to run it.
    pub fn config(&self) -> CodexConfig {
        self.home.codex(program())
    }

    /// A backend on it; wait with [`ready`]. Stop it at the end of the test.
    pub fn backend(&self) -> AppServer {
        AppServer::start(self.config())
    }
}

/// Waits until `backend` is ready, and gives that state.
pub async fn ready(backend: &dyn CodexBackend) -> CodexState {
    until(backend, "ready", |state| matches!(state, CodexState::Ready { .. })).await
}

/// Waits for a state.
pub async fn until(backend: &dyn CodexBackend, what: &str, wanted: impl FnMut(&CodexState) -> bool) -> CodexState {
    let mut state = backend.state();
    let seen = tokio::time::timeout(PATIENCE, state.wait_for(wanted)).await;
    let last = || backend.state().borrow().clone();
    seen.unwrap_or_else(|_| panic!("Codex was never {what}; it is {:?}", last())).unwrap().clone()
}

/// A JSON-RPC client on one connection, as simple as a test wants it.
pub struct Client {
    connection: CodexConnection,
    next_id: u64,
    /// What came while something else was waited for.
    unread: VecDeque<Value>,
}

impl Client {
    /// Connects and initializes.
    pub async fn connect(backend: &dyn CodexBackend) -> Self {
        let connection = backend.connect().await.unwrap();
        let mut client = Self { connection, next_id: 1, unread: VecDeque::new() };
        let params = json!({ "clientInfo": { "name": "reachback_e2e", "version": "0" } });
        client.request("initialize", params).await.unwrap();
        client.send(&json!({ "method": "initialized" })).await;
        client
    }

    /// Sends one message.
    pub async fn send(&mut self, message: &Value) {
        self.connection.sender.send(message.to_string()).await.unwrap();
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

    /// The next message that is `wanted`; others are kept for later calls.
    pub async fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.unread.iter().position(&wanted) {
            return self.unread.remove(at).unwrap();
        }
        let receiver = &mut self.connection.receiver;
        let unread = &mut self.unread;
        let waiting = async {
            while let Some(message) = receiver.next().await {
                let message: Value = serde_json::from_str(&message.unwrap()).unwrap();
                if wanted(&message) {
                    return Some(message);
                }
                unread.push_back(message);
            }
            None
        };
        let found = tokio::time::timeout(PATIENCE, waiting).await;
        let seen = || {
            let names = self.unread.iter().map(|m| m["method"].as_str().unwrap_or("an answer"));
            names.rev().take(20).collect::<Vec<_>>()
        };
        match found {
            Ok(Some(message)) => message,
            Ok(None) => panic!("Codex ended the connection while we waited for {what}; last came {:?}", seen()),
            Err(_) => panic!("waited for {what}; last came {:?}", seen()),
        }
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

    /// Waits until the server ends the connection.
    pub async fn ended(mut self) {
        let end = async { while let Some(Ok(_)) = self.connection.receiver.next().await {} };
        tokio::time::timeout(PATIENCE, end).await.expect("Codex kept the connection open");
    }
}
