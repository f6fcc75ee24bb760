//! `connect --stdio`: the host's Codex for who starts an app-server and speaks JSON lines with it.

use std::process::Stdio;
use std::sync::Arc;

use e2e::PATIENCE;
use e2e::cutter::Cutter;
use e2e::process::{Home, Up, finished, free_port, signal};
use e2e::rpc::{Client, End, Pipe};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// The most that one message to a host may have.
const MOST: usize = 64 << 20;

/// A `reachback connect --stdio`, its input, and what it says on standard error.
struct Program {
    child: Child,
    input: Arc<Mutex<Option<ChildStdin>>>,
    err: Lines<BufReader<ChildStderr>>,
}

/// Its standard input and output, where nothing but JSON may be.
struct Ends {
    input: Arc<Mutex<Option<ChildStdin>>>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Pipe for Ends {
    fn send(&mut self, message: String) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let line = format!("{message}\n");
            self.input.lock().await.as_mut().expect("its input is open").write_all(line.as_bytes()).await.unwrap();
        })
    }
    fn next(&mut self) -> BoxFuture<'_, Result<Value, End>> {
        Box::pin(async move {
            let line = self.output.next_line().await.unwrap().ok_or(End::Silent)?;
            Ok(serde_json::from_str(&line).unwrap_or_else(|_| panic!("`{line}` is on standard output")))
        })
    }
}

/// How it ended: its exit code, and what it said on standard error.
type Ended = (Option<i32>, String);

impl Program {
    fn start(device: &Home, more: &[&str]) -> (Self, Ends) {
        let mut command = device.command(&[&["connect", "--stdio"], more].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let input = Arc::new(Mutex::new(child.stdin.take()));
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let err = BufReader::new(child.stderr.take().unwrap()).lines();
        (Self { child, input: Arc::clone(&input), err }, Ends { input, output })
    }

    fn signal(&self, name: &str) {
        signal(name, i32::try_from(self.child.id().expect("it runs")).unwrap());
    }

    /// Says these bytes as they are, as far as they are taken.
    async fn say(&self, bytes: &[u8]) -> std::io::Result<()> {
        self.input.lock().await.as_mut().expect("its input is open").write_all(bytes).await
    }

    async fn close_input(&self) {
        self.input.lock().await.take();
    }

    /// The next line that it says on standard error.
    async fn told(&mut self) -> Option<String> {
        timeout(PATIENCE, self.err.next_line()).await.expect("it says nothing").unwrap()
    }

    async fn ended(mut self) -> Ended {
        let code = timeout(PATIENCE, self.child.wait()).await.expect("it does not end").unwrap().code();
        let mut words = String::new();
        while let Some(line) = self.told().await {
            words += &line;
        }
        (code, words)
    }
}

#[track_caller]
fn failed((code, err): Ended, words: &[&str]) {
    assert_eq!(code, Some(1), "{err}");
    for word in words {
        assert!(err.contains(word), "no `{word}` in {err}");
    }
}

fn quiet() -> Ended {
    (Some(0), String::new())
}

/// A thread in the demo's project.
async fn thread(client: &mut Client, up: &Up) -> String {
    let started = client.request("thread/start", json!({ "cwd": up.home.project() })).await.unwrap();
    started["thread"]["id"].as_str().unwrap().to_owned()
}

fn prompt(thread: &str, text: &str) -> Value {
    let params = json!({ "threadId": thread, "input": [{ "type": "text", "text": text }] });
    json!({ "id": "prompt", "method": "turn/start", "params": params })
}

/// A host whose devices come through a cutter, and one of them.
async fn behind_a_cutter() -> (Up, Cutter, Home) {
    let addr = free_port();
    let cutter = Cutter::start(addr).await;
    let mut up = Up::start_at(addr, &["--public-url", &format!("http://{}", cutter.addr())]).await;
    let device = up.device("laptop").await;
    (up, cutter, device)
}

#[tokio::test]
async fn an_editor_works_by_json_lines_and_a_cut_loses_nothing() {
    let (up, cutter, device) = behind_a_cutter().await;
    let (program, ends) = Program::start(&device, &[]);
    let mut client = Client::over(ends).await;
    let thread = thread(&mut client, &up).await;
    client.prompt(&thread, "@text N=300 ms=5").await;
    for _ in 0..3 {
        client.event("item/agentMessage/delta").await;
        cutter.reset();
    }
    // What is asked while there is no link is answered, too, and what Codex says comes once and in order.
    assert!(client.request("model/list", json!({})).await.unwrap()["data"].is_array());
    client.event("turn/completed").await;
    let complete = client
        .until("the answer", |message| {
            message["method"] == "item/completed" && message["params"]["item"]["type"] == "agentMessage"
        })
        .await;
    let complete = complete["params"]["item"]["text"].as_str().unwrap();
    let read = client.read_completed(&thread).await;
    assert!(complete.len() == 4 * 300 && read.to_string().contains(complete), "{complete}");
    program.signal("-TERM");
    assert_eq!(program.ended().await, quiet());
    up.stop().await;
}

#[tokio::test]
async fn at_the_end_of_input_what_was_said_reaches_the_host_also_where_the_link_is_cut() {
    let (up, cutter, device) = behind_a_cutter().await;
    let mut threads = Vec::new();
    for is_cut in [false, true] {
        let (program, ends) = Program::start(&device, &[]);
        let mut client = Client::over(ends).await;
        let thread = thread(&mut client, &up).await;
        if is_cut {
            cutter.offline();
        }
        // The last line needs no end.
        program.say(prompt(&thread, "@text N=2").to_string().as_bytes()).await.unwrap();
        program.close_input().await;
        cutter.online();
        let (_, end) = client.ended().await;
        assert_eq!((end, program.ended().await), (End::Silent, quiet()));
        threads.push(thread);
    }
    let (program, ends) = Program::start(&device, &[]);
    let mut client = Client::over(ends).await;
    for thread in threads {
        // A thread that has just been begun can't be read yet.
        let params = json!({ "threadId": thread, "includeTurns": true });
        let ran = async {
            while client.request("thread/read", params.clone()).await.is_err() {}
            client.read_completed(&thread).await
        };
        let read = timeout(PATIENCE, ran).await.expect("what was said does not run");
        assert!(read.to_string().contains("@text N=2"), "{read}");
    }
    program.close_input().await;
    assert_eq!(program.ended().await, quiet());
    up.stop().await;
}

#[tokio::test]
async fn what_is_no_message_ends_it_with_a_sentence() {
    let mut up = Up::start().await;
    let device = up.device("laptop").await;
    let again = "reachback connect ";
    for (line, words) in [
        (&b"\"\xff\"\n"[..], &["a line of standard input is not valid text (UTF-8)", again, " --stdio"][..]),
        (b"hello\n", &["refused: ", "something that is no message of Codex's protocol", again, " --stdio"]),
    ] {
        let (program, ends) = Program::start(&device, &[]);
        let client = Client::over(ends).await;
        program.say(line).await.unwrap();
        assert_eq!(client.ended().await.1, End::Silent);
        failed(program.ended().await, words);
    }

    // A line without an end is read as far as a message may go, and no further.
    let (program, ends) = Program::start(&device, &[]);
    let client = Client::over(ends).await;
    let (mut said, piece) = (0, vec![b'x'; 1 << 20]);
    while said <= 2 * MOST && program.say(&piece).await.is_ok() {
        said += piece.len();
    }
    assert!((MOST..MOST + (4 << 20)).contains(&said), "it took {said} bytes");
    assert_eq!(client.ended().await.1, End::Silent);
    failed(program.ended().await, &["a line of standard input has more than 67108864 bytes", again, " --stdio"]);
    up.stop().await;
}

#[tokio::test]
async fn who_hears_no_more_ends_it_without_a_word() {
    let mut up = Up::start().await;
    let device = up.device("laptop").await;
    let (program, ends) = Program::start(&device, &[]);
    let client = Client::over(ends).await;
    drop(client);
    program.say(b"\n{\"id\":7,\"method\":\"model/list\",\"params\":{}}\n").await.unwrap();
    assert_eq!(program.ended().await, quiet());

    let (program, ends) = Program::start(&device, &[]);
    let client = Client::over(ends).await;
    program.signal("-INT");
    assert_eq!(program.ended().await, quiet());
    drop(client);
    up.stop().await;
}

#[tokio::test]
async fn it_waits_for_the_host_and_ends_where_the_host_ends_it() {
    let mut up = Up::start().await;
    let device = up.device("laptop").await;
    let (program, ends) = Program::start(&device, &["--env", "ssh:nowhere"]);
    let (heard, _) = Client::raw(ends).ended().await;
    assert!(heard.is_empty(), "{heard:?}");
    failed(program.ended().await, &["refused: “this host has no such environment", "--env ssh:nowhere --stdio"]);

    assert_eq!(up.process.stop().await, Some(0));
    let (mut program, ends) = Program::start(&device, &[]);
    // What is said before the host is there is answered when it is.
    let initializing = tokio::spawn(Client::over(ends));
    let told = program.told().await.expect("it ends");
    assert!(told.contains("Not connected to"), "{told}");
    up.restart().await;
    let client = timeout(PATIENCE, initializing).await.expect("the host is not reached").unwrap();
    up.home.run(&["devices", "pause", "laptop"]).await.ok();
    assert_eq!(client.ended().await.1, End::Silent);
    failed(program.ended().await, &["has paused this computer", "reachback devices resume"]);
    up.stop().await;
}

#[tokio::test]
async fn what_it_does_not_go_with_is_refused() {
    let home = Home::new();
    for (args, words) in [
        (&["connect", "--stdio", "--socket", "x"][..], &["'--stdio'", "'--socket <PATH>'"][..]),
        (&["connect", "--stdio", "-C", "x"], &["'--stdio'", "'--cd <DIR>'"]),
        (&["connect", "--stdio", "--any-codex"], &["'--stdio'", "'--any-codex'"]),
        (&["connect", "--stdio", "--", "resume"], &["'--stdio'", "[CODEX ARGS]"]),
    ] {
        let refused = home.run(args).await;
        assert_eq!((refused.code, &*refused.out), (2, ""), "{refused:?}");
        for word in words.iter().chain(&["cannot be used with", "--help"]) {
            assert!(refused.err.contains(word), "no `{word}` in {refused:?}");
        }
    }
    for args in [["--json", "connect", "--stdio"], ["connect", "--stdio", "--json"]] {
        let refused = finished(home.command(&args), "").await;
        assert_eq!(refused.code, 2, "{refused:?}");
        let error = refused.event("error");
        assert_eq!(error["code"], "usage", "{error}");
        assert!(error["message"].as_str().unwrap().contains("--stdio"), "{error}");
    }
}
