//! A model that is a script: it speaks the Responses API to Codex on loopback, and the prompt chooses the answer.
//!
//! For people, a short tour that says what to type next:
//!
//! | prompt | answer |
//! |---|---|
//! | `run CMD` | asks for approval, then runs CMD |
//! | `edit` | changes a file in the project |
//! | `long` | a minute of text, to interrupt |
//! | anything else | the tour, word by word |
//!
//! For tests, exact answers:
//!
//! | prompt | answer |
//! |---|---|
//! | `@text N=100 ms=0 size=4 after=0` | N deltas of `size` bytes, `ms` apart, after so many ms of silence |
//! | `@say TEXT` | TEXT itself, a few letters at a time |
//! | `@shell CMD` | runs CMD in the sandbox |
//! | `@esc CMD` | asks for approval, then runs CMD |
//! | `@patch FILE` | adds FILE |
//! | `@call TOOL JSON` | calls a tool with these arguments; `SPACE/NAME` is the tool NAME of a namespace |
//! | `@spawn PROMPT` | has a sub-agent work on PROMPT |
//! | `@multi K CMD` | runs CMD K times, one call after the other |
//! | `@seen` | what came with the prompt: for each picture its kind, its length as a `data:` URL, and that URL's SHA-256 |
//! | `@hang` | begins, and never goes on |
//! | `@wait` | says a word, and goes on once somebody prompts `@go`, in any thread, before or after |
//! | `@go` | lets one `@wait` go on |
//! | `@fail CODE` | an HTTP error |
//!
//! After a tool call Codex asks again with the call's output; the answer then quotes its beginning.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures_util::future::Either;
use futures_util::{StreamExt, stream};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

/// A request holds the whole thread, and a thread of tests can be long; Codex's own messages end at 64 MiB.
const MAX_REQUEST: usize = 64 << 20;

/// What one `@text` may make, so that a typing error does not fill the memory: more deltas than Codex keeps for a
/// slow reader, pieces as large as formatting can pad, and half of Codex's largest message in all.
const MAX_PIECES: usize = 200_000;
const MAX_PIECE: usize = u16::MAX as usize;
const MAX_TEXT: usize = 32 << 20;

/// Slow enough to read along and to interrupt, fast enough not to bore.
const WORD_PAUSE: Duration = Duration::from_millis(40);

/// About a minute of [`WORD_PAUSE`]s.
const LONG_WORDS: usize = 1500;

/// Letters of a piece of `@say`: no word, no line and no mark of Markdown is sure to come whole.
const SAID: usize = 6;
const SAID_PAUSE: Duration = Duration::from_millis(10);

/// Tool output quoted in an answer.
const MAX_QUOTE: usize = 200;

const TOUR: &str = "Hello! You are talking to the real Codex on this machine, with a small script in place of its \
    model: no account is needed, and nothing leaves the machine. Three things to try, just type the word:\n\n\
    - `run ls` \u{2013} I ask for your approval before I run a command\n\
    - `edit` \u{2013} I change a file in the project and show the difference\n\
    - `long` \u{2013} I talk for a minute, so that you can interrupt me\n\n\
    With a real model you would now simply say what you want done.";

const EDIT_FILE: &str = "hello.md";

/// What `@wait` says before and after it waits, and `@go`.
const WAITED: [&str; 2] = ["Waiting for the word. ", "There it is."];
const GONE: &str = "Go.";

/// The event of a piece of text.
const DELTA: &str = "response.output_text.delta";

/// The server; it ends when this is dropped.
#[derive(Debug)]
pub struct ScriptedModel {
    addr: SocketAddr,
    /// First, so that answers end before their server.
    _stop: DropGuard,
    _server: AbortOnDropHandle<()>,
}

impl ScriptedModel {
    /// Starts on a free loopback port.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let stop = CancellationToken::new();
        let model = Arc::new(Model { ids: AtomicU64::new(1), gone: Semaphore::new(0), stop: stop.clone() });
        let routes = Router::new()
            .route("/v1/responses", post(respond))
            .layer(DefaultBodyLimit::max(MAX_REQUEST))
            .with_state(model);
        let serving = axum::serve(listener, routes).with_graceful_shutdown(stop.clone().cancelled_owned());
        let _server = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the scripted model ended");
            }
        }));
        Ok(Self { addr, _stop: stop.drop_guard(), _server })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

struct Model {
    /// Numbers responses, messages and calls; Codex keeps call ids apart by them.
    ids: AtomicU64,
    /// How often `@go` was said, and no `@wait` went on yet.
    gone: Semaphore,
    stop: CancellationToken,
}

async fn respond(State(model): State<Arc<Model>>, Json(request): Json<Value>) -> Response {
    let answer = answer(&Request::read(&request));
    if let Scene::Fail(status) = answer {
        return (status, Json(json!({ "error": { "message": "the script says so" } }))).into_response();
    }
    if answer == Scene::Go {
        model.gone.add_permits(1);
    }
    let hangs = matches!(answer, Scene::Hang);
    let steps = Script::new(&model.ids).play(answer);
    let stop = model.stop.clone().cancelled_owned();
    let steps = stream::iter(steps).then(move |step| {
        let model = Arc::clone(&model);
        async move {
            match step.pause {
                Pause::None => {}
                Pause::For(time) => tokio::time::sleep(time).await,
                Pause::UntilGo => model.gone.acquire().await.map_err(axum::Error::new)?.forget(),
            }
            Event::default().event(step.kind).json_data(step.data)
        }
    });
    let tail = if hangs { Either::Left(stream::pending()) } else { Either::Right(stream::empty()) };
    Sse::new(steps.chain(tail).take_until(stop)).into_response()
}

/// What the script looks at in a request.
#[derive(Debug, Default)]
struct Request<'a> {
    /// The last thing a person said.
    prompt: &'a str,
    /// Addresses of the pictures that came with it.
    pictures: Vec<&'a str>,
    /// What tools answered since.
    outputs: Vec<&'a Value>,
    /// Whether Codex offers to run commands; it does not where it only wants a title.
    runs_commands: bool,
    /// Codex wants JSON with these members, e.g. a title for the thread.
    wants: Vec<&'a str>,
}

impl<'a> Request<'a> {
    fn read(body: &'a Value) -> Self {
        let items = body["input"].as_array().map(Vec::as_slice).unwrap_or_default();
        let said = items.iter().enumerate().rev().find_map(|(at, item)| Some((at, typed(item)?)));
        let (at, prompt) = said.map_or((0, ""), |(at, prompt)| (at + 1, prompt));
        let is_output = |item: &&Value| item["type"].as_str().is_some_and(|kind| kind.ends_with("_call_output"));
        let wants = body["text"]["format"]["schema"]["properties"].as_object();
        let parts = at.checked_sub(1).and_then(|at| items[at]["content"].as_array());
        Self {
            prompt,
            pictures: parts.into_iter().flatten().filter_map(|part| part["image_url"].as_str()).collect(),
            outputs: items[at..].iter().filter(is_output).map(|item| &item["output"]).collect(),
            runs_commands: body["tools"].as_array().into_iter().flatten().any(|tool| tool["name"] == "exec_command"),
            wants: wants.map(|members| members.keys().map(String::as_str).collect()).unwrap_or_default(),
        }
    }
}

/// The text of a message that a person typed.
fn typed(item: &Value) -> Option<&str> {
    if item["role"] != "user" || item.get("type").is_some_and(|kind| kind != "message") {
        return None;
    }
    let content = &item["content"];
    let text = content.as_str().or_else(|| content.as_array()?.iter().find_map(|part| part["text"].as_str()))?.trim();
    // Codex tells the model about folders and instructions in the user's name.
    let told = text.is_empty() || text.starts_with('<') || text.starts_with("# AGENTS.md");
    (!told).then_some(text)
}

/// What the script says to a request.
#[derive(Debug, PartialEq)]
enum Scene {
    /// Text in pieces, a pause before each, and silence before it begins.
    Text {
        pieces: Vec<String>,
        pause: Duration,
        silence: Duration,
    },
    /// Text whose last piece waits for [`Scene::Go`].
    Wait,
    Go,
    /// A command to run; `why` asks the user first.
    Run {
        command: String,
        why: Option<&'static str>,
    },
    /// A call of a tool that Codex offers.
    Call {
        tool: String,
        namespace: Option<String>,
        arguments: Value,
    },
    Hang,
    Fail(StatusCode),
}

impl Scene {
    fn words(text: &str, pause: Duration) -> Self {
        let pieces = text.split_inclusive(' ').map(str::to_owned).collect();
        Self::Text { pieces, pause, silence: Duration::ZERO }
    }

    fn call(tool: &str, arguments: Value) -> Self {
        let (namespace, tool) = tool.rsplit_once('/').map_or((None, tool), |(space, tool)| (Some(space), tool));
        Self::Call { tool: tool.to_owned(), namespace: namespace.map(str::to_owned), arguments }
    }
}

fn answer(request: &Request<'_>) -> Scene {
    if !request.wants.is_empty() {
        return Scene::words(&wanted(request), Duration::ZERO);
    }
    let (verb, rest) = request.prompt.split_once(char::is_whitespace).unwrap_or((request.prompt, ""));
    let rest = rest.trim();
    let run = |calls: usize, command: String, why| match (request.outputs.len() < calls, request.outputs.last()) {
        (true, _) if !request.runs_commands => {
            Scene::words("Codex did not offer the script a way to run commands.", Duration::ZERO)
        }
        (true, _) => Scene::Run { command, why },
        (false, output) => Scene::words(&quote(output.copied()), Duration::ZERO),
    };
    let call = |tool: &str, arguments| match request.outputs.last() {
        None => Scene::call(tool, arguments),
        Some(output) => Scene::words(&quote(Some(output)), Duration::ZERO),
    };
    match verb.to_ascii_lowercase().as_str() {
        "@text" => text(rest),
        "@say" => say(rest),
        "@shell" => run(1, rest.to_owned(), None),
        "@esc" => run(1, rest.to_owned(), Some("the script was told to ask")),
        "@patch" => run(1, patch(rest, "first line\n+second line"), None),
        "@multi" => {
            let (count, command) = rest.split_once(' ').unwrap_or((rest, "true"));
            run(count.parse().unwrap_or(1), command.to_owned(), None)
        }
        "@spawn" => call("multi_agent_v1/spawn_agent", json!({ "message": rest })),
        "@call" => {
            let (tool, arguments) = rest.split_once(' ').unwrap_or((rest, "{}"));
            call(tool, serde_json::from_str(arguments).unwrap_or_default())
        }
        "@seen" => seen(&request.pictures),
        "@hang" => Scene::Hang,
        "@wait" => Scene::Wait,
        "@go" => Scene::Go,
        "@fail" => {
            let status = rest.parse().ok().and_then(|code| StatusCode::from_u16(code).ok());
            Scene::Fail(
                status.filter(|s| s.is_client_error() || s.is_server_error()).unwrap_or(StatusCode::BAD_GATEWAY),
            )
        }
        "run" if !rest.is_empty() => {
            run(1, rest.to_owned(), Some("The demo always asks before it runs something. Do you allow it?"))
        }
        "edit" => run(1, patch(EDIT_FILE, "Hello!\n+\n+Codex wrote this file because you typed `edit`."), None),
        "long" => long(),
        _ => Scene::words(TOUR, WORD_PAUSE),
    }
}

/// JSON with the members that the request's schema names, all of them the prompt's beginning.
fn wanted(request: &Request<'_>) -> String {
    // Codex asks for a title with instructions and, at the end, what the user typed.
    let about = request.prompt.rsplit("User prompt:").next().unwrap_or_default().trim();
    let line = about.lines().next().unwrap_or_default();
    let mut title = String::new();
    for word in line.split_whitespace().take(5) {
        // 36 characters are what Codex takes.
        if title.chars().count() + word.chars().count() > 34 {
            break;
        }
        title = format!("{title} {word}");
    }
    let title = if title.is_empty() { "Demo" } else { title.trim() };
    let members: serde_json::Map<_, _> = request.wants.iter().map(|name| ((*name).to_owned(), title.into())).collect();
    Value::Object(members).to_string()
}

fn text(options: &str) -> Scene {
    let option = |name: &str, default: usize| {
        let value = options.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        value.and_then(|value| value.parse().ok()).unwrap_or(default)
    };
    let size = option("size", 4).clamp(1, MAX_PIECE);
    let count = option("N", 100).min(MAX_PIECES).min(MAX_TEXT / size);
    // Numbered, so that a missing piece is seen.
    let piece = |n: usize| {
        let padded = format!("{:x>size$}", format!("{n} "));
        padded[padded.len() - size..].to_owned()
    };
    let time = |name| Duration::from_millis(option(name, 0).min(60_000) as u64);
    Scene::Text { pieces: (0..count).map(piece).collect(), pause: time("ms"), silence: time("after") }
}

fn say(text: &str) -> Scene {
    let letters: Vec<char> = text.chars().collect();
    let pieces = letters.chunks(SAID).map(|piece| piece.iter().collect()).collect();
    Scene::Text { pieces, pause: SAID_PAUSE, silence: Duration::ZERO }
}

/// A line for each picture.
fn seen(pictures: &[&str]) -> Scene {
    let line = |url: &&str| {
        let kind = url.split_once(';').map_or("no data", |(kind, _)| kind.trim_start_matches("data:"));
        let digest = ring::digest::digest(&ring::digest::SHA256, url.as_bytes());
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("- {kind} {} {hex}\n", url.len())
    };
    let lines: String = pictures.iter().map(line).collect();
    Scene::words(&format!("Pictures: {}\n\n{lines}", pictures.len()), Duration::ZERO)
}

fn long() -> Scene {
    let words = (1..=LONG_WORDS).map(|n| match n {
        1 => "I count until you interrupt me: ".to_owned(),
        n if n == LONG_WORDS => format!("{n}. You let me finish!"),
        n if n % 20 == 0 => format!("{n},\n"),
        n => format!("{n}, "),
    });
    Scene::Text { pieces: words.collect(), pause: WORD_PAUSE, silence: Duration::ZERO }
}

/// A shell command that Codex takes for a file change.
fn patch(file: &str, lines: &str) -> String {
    let file = file.lines().next().unwrap_or_default();
    format!("apply_patch <<'EOF'\n*** Begin Patch\n*** Add File: {file}\n+{lines}\n*** End Patch\nEOF")
}

/// An answer that quotes what a tool said.
fn quote(output: Option<&Value>) -> String {
    let said = match output {
        Some(Value::String(text)) => text.clone(),
        Some(parts @ Value::Array(_)) => {
            let texts = parts.as_array().into_iter().flatten().filter_map(|part| part["text"].as_str());
            texts.collect::<Vec<_>>().join("\n")
        }
        other => other.map(Value::to_string).unwrap_or_default(),
    };
    // Codex puts times and counts above what the command wrote.
    let written = said.split_once("Output:\n").map_or(&*said, |(_, written)| written);
    let quoted: String = written.chars().take(MAX_QUOTE).collect();
    format!("Done. The tool said:\n\n{quoted}\n\nType `run ls`, `edit` or `long` to go on.")
}

/// One server-sent event.
#[derive(Debug)]
struct Step {
    pause: Pause,
    kind: &'static str,
    data: Value,
}

/// What an event waits for before it is sent.
#[derive(Clone, Copy, Debug)]
enum Pause {
    None,
    For(Duration),
    UntilGo,
}

impl Pause {
    fn of(time: Duration) -> Self {
        if time.is_zero() { Self::None } else { Self::For(time) }
    }
}

/// Writes an answer as the events of one response.
struct Script<'a> {
    ids: &'a AtomicU64,
    steps: Vec<Step>,
}

impl<'a> Script<'a> {
    fn new(ids: &'a AtomicU64) -> Self {
        Self { ids, steps: Vec::new() }
    }

    fn play(mut self, answer: Scene) -> Vec<Step> {
        let response = self.id("resp");
        self.step("response.created", json!({ "response": { "id": response } }));
        let tokens = match answer {
            Scene::Hang | Scene::Fail(_) => return self.steps,
            Scene::Text { pieces, pause, silence } => {
                self.message(&pieces, Pause::of(silence), Pause::of(pause));
                pieces.len()
            }
            Scene::Wait => {
                let pieces = WAITED.map(str::to_owned);
                self.message(&pieces, Pause::None, Pause::None);
                if let Some(step) = self.steps.iter_mut().rfind(|step| step.kind == DELTA) {
                    step.pause = Pause::UntilGo;
                }
                pieces.len()
            }
            Scene::Go => {
                self.message(&[GONE.to_owned()], Pause::None, Pause::None);
                1
            }
            Scene::Run { command, why } => {
                self.run(&command, why);
                10
            }
            Scene::Call { tool, namespace, arguments } => {
                self.call(&tool, &arguments, namespace.as_deref());
                10
            }
        };
        let usage = json!({
            "input_tokens": 100, "input_tokens_details": null,
            "output_tokens": tokens, "output_tokens_details": null,
            "total_tokens": 100 + tokens,
        });
        self.step("response.completed", json!({ "response": { "id": response, "usage": usage } }));
        self.steps
    }

    fn message(&mut self, pieces: &[String], first: Pause, each: Pause) {
        let id = self.id("msg");
        let item = |status: &str, content: Value| {
            json!({
                "output_index": 0,
                "item": { "type": "message", "role": "assistant", "id": id, "status": status, "content": content },
            })
        };
        self.step("response.output_item.added", item("in_progress", json!([])));
        if let Some(step) = self.steps.last_mut() {
            step.pause = first;
        }
        for piece in pieces {
            let data = json!({ "item_id": id, "output_index": 0, "content_index": 0, "delta": piece });
            self.step(DELTA, data);
            if let Some(step) = self.steps.last_mut() {
                step.pause = each;
            }
        }
        let text = json!([{ "type": "output_text", "text": pieces.concat(), "annotations": [] }]);
        self.step("response.output_item.done", item("completed", text));
    }

    fn run(&mut self, command: &str, why: Option<&str>) {
        let mut arguments = json!({ "cmd": command });
        if let Some(why) = why {
            arguments["sandbox_permissions"] = "require_escalated".into();
            arguments["justification"] = why.into();
        }
        self.call("exec_command", &arguments, None);
    }

    fn call(&mut self, tool: &str, arguments: &Value, namespace: Option<&str>) {
        let (id, call_id) = (self.id("fc"), self.id("call"));
        let mut item = json!({
            "type": "function_call", "id": id, "call_id": call_id, "name": tool, "status": "completed",
            "arguments": arguments.to_string(),
        });
        if let Some(namespace) = namespace {
            item["namespace"] = namespace.into();
        }
        self.step("response.output_item.done", json!({ "output_index": 0, "item": item }));
    }

    fn step(&mut self, kind: &'static str, mut data: Value) {
        data["type"] = kind.into();
        self.steps.push(Step { pause: Pause::None, kind, data });
    }

    fn id(&self, kind: &str) -> String {
        format!("{kind}_{}", self.ids.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests;
