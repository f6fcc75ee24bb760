//! A host that stands still (a process that is stopped, a computer that hangs) while somebody has just sent a prompt.
//!
//! A client is let go once its host is out of reach for [`HOLD`]. What it had sent by then was taken by the host, and is in the
//! thread that it reloads, or never will be: only so can a person, or a client, who sends it again know that it runs once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::codex;
use e2e::dice::Dice;
use e2e::process::{Home, Process, Up, processes_with};
use futures_util::{SinkExt, StreamExt};
use reachback_host::connect::bridge::HOLD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// A silent link is dead after this long, so a client is let go `HOLD` later.
const NOTICED: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(120);
/// As long as the stock terminal UI waits for `initialize`.
const GREETING: Duration = Duration::from_secs(10);

/// A client that reconnects, as simple as that can be.
struct Client(WebSocketStream<UnixStream>);

/// The socket was closed.
#[derive(Debug)]
struct Closed;

impl Client {
    async fn connect(path: &Path) -> Result<Self, Closed> {
        let stream = UnixStream::connect(path).await.map_err(|_| Closed)?;
        let (socket, _) = tokio_tungstenite::client_async("ws://localhost/", stream).await.map_err(|_| Closed)?;
        let mut client = Self(socket);
        let params = json!({ "clientInfo": { "name": "reachback_e2e", "version": "0" }, "capabilities": null });
        client.request(0, "initialize", params).await?;
        client.send(json!({ "method": "initialized" })).await?;
        Ok(client)
    }

    /// Connects until it works.
    async fn reconnect(path: &Path) -> Self {
        let connecting = async {
            loop {
                if let Ok(Ok(client)) = timeout(GREETING, Self::connect(path)).await {
                    return client;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, connecting).await.expect("the host does not come back")
    }

    async fn send(&mut self, message: Value) -> Result<(), Closed> {
        self.0.send(Message::text(message.to_string())).await.map_err(|_| Closed)
    }

    /// Calls a method; what comes meanwhile is nobody's.
    async fn request(&mut self, id: u64, method: &str, params: Value) -> Result<Value, Closed> {
        self.send(json!({ "id": id, "method": method, "params": params })).await?;
        self.until(|message| message["id"] == id && message.get("method").is_none()).await
    }

    async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<Value, Closed> {
        loop {
            let Some(Ok(Message::Text(text))) = self.0.next().await else { return Err(Closed) };
            let message: Value = serde_json::from_str(&text).unwrap();
            if wanted(&message) {
                return Ok(message);
            }
        }
    }

    async fn read(&mut self, id: u64, thread: &str) -> Value {
        self.request(id, "thread/read", json!({ "threadId": thread, "includeTurns": true })).await.unwrap()
    }

    /// Has a turn run to its end.
    async fn prompt(&mut self, id: u64, thread: &str, text: &str) -> Result<Value, Closed> {
        let input = json!([{ "type": "text", "text": text }]);
        self.request(id, "turn/start", json!({ "threadId": thread, "input": input })).await?;
        self.until(|message| message["method"] == "turn/completed").await
    }
}

async fn socket(device: &Home) -> (Process, TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("codex.sock");
    let mut process = device.start(&["connect", "--socket", path.to_str().unwrap()]);
    process.event("socket").await;
    (process, folder, path)
}

/// How often a thread holds a prompt.
fn count(thread: &Value, prompt: &str) -> usize {
    let turns = thread["result"]["thread"]["turns"].as_array().unwrap_or_else(|| panic!("{thread}"));
    let items = turns.iter().flat_map(|turn| turn["items"].as_array().unwrap());
    items.filter(|item| item["type"] == "userMessage" && item.to_string().contains(prompt)).count()
}

/// What stands still.
#[derive(Debug, Clone, Copy)]
enum Still {
    /// The relay and the agent, in one process.
    Host,
    /// The app-server.
    Codex,
}

impl Still {
    fn signal(self, up: &Up, signal: &str) {
        match self {
            Self::Host => up.process.signal(signal),
            Self::Codex => {
                let servers = processes_with(&up.home.path());
                let servers = servers.into_iter().filter(|(_, line)| line.contains(" app-server "));
                let pids: Vec<String> = servers.map(|(pid, _)| pid.to_string()).collect();
                assert!(!pids.is_empty(), "no Codex runs");
                let status = std::process::Command::new("kill").arg(signal).args(&pids).status().unwrap();
                assert!(status.success(), "kill {signal} {pids:?}: {status}");
            }
        }
    }
}

/// Stops `still`; sends a prompt `sent` later; lets it go on `thawed` after it was stopped. A client that is let go
/// comes again, and sends the prompt again: at once, or where the thread does not hold it.
async fn freeze(still: Still, sent: Duration, thawed: Duration, looks: bool) {
    let mut up = Up::start().await;
    let device = up.device("laptop").await;
    let (_connect, _folder, path) = socket(&device).await;
    let mut client = Client::reconnect(&path).await;
    let started = client.request(1, "thread/start", json!({ "cwd": up.home.project() })).await.unwrap();
    let thread = started["result"]["thread"]["id"].as_str().unwrap().to_owned();
    client.prompt(2, &thread, "@text N=2").await.unwrap();

    let prompt = "@text N=9 size=9";
    still.signal(&up, "-STOP");
    let start = Instant::now();
    let thaw = async {
        sleep_until(start + thawed).await;
        still.signal(&up, "-CONT");
    };
    let talk = async {
        sleep_until(start + sent).await;
        if client.prompt(3, &thread, prompt).await.is_ok() {
            return "answered";
        }
        let mut client = Client::reconnect(&path).await;
        client.request(4, "thread/resume", json!({ "threadId": thread })).await.unwrap();
        if looks {
            // Codex takes prompts in turn, so after this one it shows what it had before; a person takes longer to look.
            client.prompt(5, &thread, "@text N=1").await.unwrap();
            if count(&client.read(6, &thread).await, prompt) > 0 {
                return "found in the thread";
            }
        }
        client.prompt(7, &thread, prompt).await.unwrap();
        "sent again"
    };
    let ((), outcome) = timeout(PATIENCE, async { tokio::join!(thaw, talk) }).await.expect("the client hangs");
    // A second one would be before this one, or be steered into it.
    let mut client = Client::reconnect(&path).await;
    client.request(8, "thread/resume", json!({ "threadId": thread })).await.unwrap();
    client.prompt(9, &thread, "@text N=4").await.unwrap();
    let count = count(&client.read(10, &thread).await, prompt);
    assert_eq!(count, 1, "{still:?}: sent after {sent:?}, thawed after {thawed:?}: {outcome}");
    up.stop().await;
}

#[tokio::test]
async fn a_prompt_to_a_host_that_stands_still_is_in_the_thread_once_also_when_it_is_sent_again() {
    let mut dice = Dice::new(Dice::seed());
    let let_go = NOTICED + HOLD;
    let mut runs = Vec::new();
    for (still, sent, thawed, looks) in [
        // Over the link that dies, where the host may read it once it goes on.
        (Still::Host, dice.between(0, 200), let_go + dice.between(1000, 5000), true),
        // Without a link; the host goes on about when the client is let go, or long after.
        (Still::Host, NOTICED + dice.between(2000, 15_000), let_go + dice.between(0, 3000), true),
        (Still::Host, NOTICED + dice.between(2000, 15_000), let_go + dice.between(3000, 10_000), false),
        // The link lives: nobody is let go, and Codex takes it once it goes on.
        (Still::Codex, dice.between(0, 200), let_go + dice.between(0, 5000), true),
    ] {
        runs.push(tokio::spawn(freeze(still, sent, thawed, looks)));
    }
    for run in runs {
        run.await.expect("a run failed");
    }
}

#[tokio::test]
async fn a_prompt_typed_to_a_host_that_stands_still_is_taken_back_and_runs_when_it_is_typed_again() {
    let mut up = Up::start().await;
    let device = up.device("laptop").await;
    let codex = codex::program();
    let terminal = device.terminal(&["connect", "--codex-program", codex.to_str().unwrap()]);
    terminal.shows("Scripted demo").await;
    terminal.prompt("@text N=3", "Enter").await;
    terminal.shows("xx2").await;
    terminal.shows("Worked for").await;

    let prompt = "@text N=9 size=9";
    up.process.signal("-STOP");
    sleep_until(Instant::now() + NOTICED + Duration::from_secs(5)).await;
    terminal.prompt(prompt, "Enter").await;
    terminal.within(PATIENCE, "it says that it reconnects", |screen| screen.contains("Reconnecting")).await;
    up.process.signal("-CONT");
    // It leaves it to the person, who finds it in the thread or does not.
    terminal.shows("It hasn't been resent.").await;
    terminal.prompt("@text N=4", "Enter").await;
    terminal.shows("xx3").await;
    assert!(!terminal.everything().contains("xxxxxxx8"), "what was taken back ran:\n{}", terminal.everything());
    terminal.prompt(prompt, "Enter").await;
    terminal.shows("xxxxxxx8").await;
    terminal.prompt("@text N=5", "Enter").await;
    terminal.shows("xx4").await;
    let everything = terminal.everything();
    assert_eq!(everything.matches("xxxxxxx8").count(), 1, "{everything}");
    up.stop().await;
}
