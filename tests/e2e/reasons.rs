//! Why a host does not let a computer work there: it reaches the person who sits at the other computer.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::PATIENCE;
use e2e::codex;
use e2e::process::{Home, Process, Up, free_port, processes_with};
use e2e::tmux::Terminal;
use futures_util::{SinkExt, StreamExt};
use reachback_proto::words::is_unseen;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::time::{interval, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// A program that the shell runs in place of the real Codex, which is `$CODEX` in it.
fn stand_in(home: &Home, name: &str, script: &str) -> PathBuf {
    let path = home.folder("stand-ins").join(name);
    let real = codex::program();
    std::fs::write(&path, format!("#!/bin/sh\nCODEX='{}'\n{script}\nexec \"$CODEX\" \"$@\"\n", real.display()))
        .unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// `up --demo` with this Codex, and a device of it. It need not be ready.
async fn up_with(home: &Home, codex: &Path) -> (Process, Home) {
    let listen = free_port().to_string();
    let args = ["up", "--demo", "--listen", &listen, "--codex-program", codex.to_str().unwrap(), "--name", "tower"];
    let mut up = home.start_after("trap '' XFSZ", &args);
    let url = up.event("pairing").await["url"].as_str().unwrap().to_owned();
    let device = Home::new();
    device.json(&["join", &url, "--name", "laptop"]).await.ok();
    up.event("paired").await;
    (up, device)
}

/// `connect` in a terminal, with this Codex on the laptop.
pub(crate) fn connect(device: &Home, codex: &Path, more: &[&str]) -> Terminal {
    device.terminal(&[&["connect", "--codex-program", codex.to_str().unwrap()], more].concat())
}

/// `connect` ended with 1, and said this; nothing of Codex was ever on the screen.
pub(crate) async fn refuses(terminal: &Terminal, words: &[&str]) {
    assert_eq!(terminal.exit().await, 1, "{}", terminal.everything());
    says(terminal, words);
    let all = terminal.everything();
    assert!(!all.contains("Scripted demo"), "Codex was started:\n{all}");
}

#[track_caller]
fn says(terminal: &Terminal, words: &[&str]) {
    let all = terminal.everything();
    // The terminal's own line ends are not the sentence's.
    let joined = all.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in words {
        assert!(joined.contains(word), "no `{word}` in\n{all}");
    }
}

/// Presses Ctrl-C until the terminal UI ends: a draft takes the first one, and what it says about quitting another.
async fn quit(terminal: &Terminal) {
    let has_ended = || terminal.screen().contains("[exit code ");
    let pressing = async {
        while !has_ended() {
            terminal.press(&["C-c"]);
            let _ = timeout(Duration::from_secs(3), async {
                let mut looks = interval(Duration::from_millis(50));
                while !has_ended() {
                    looks.tick().await;
                }
            })
            .await;
        }
    };
    timeout(PATIENCE, pressing).await.expect("the terminal UI does not end");
}

/// What `hosts` says, to programs.
async fn host(device: &Home) -> Value {
    device.json(&["hosts"]).await.ok().event("host")
}

#[tokio::test]
async fn a_codex_that_does_not_run_at_the_host_is_named_before_anything_starts() {
    let home = Home::new();
    let broken = stand_in(&home, "codex", "printf 'the disk \\033[2Jis \\342\\200\\256full\\n' >&2; exit 1");
    let (mut up, device) = up_with(&home, &broken).await;
    up.line("codex failed", |line| line["event"] == "codex" && line["state"] == "failed").await;

    let terminal = connect(&device, &codex::program(), &[]);
    refuses(
        &terminal,
        &["reachback: Codex is not running on “tower”: “codex ended while starting", "is ?full'”", "at “tower”:"],
    )
    .await;
    // It is tried again meanwhile, and `starting` then.
    let told = timeout(PATIENCE, async {
        loop {
            let told = host(&device).await;
            if (&told["state"], &told["codex"]) == (&json!("online"), &json!("failed")) {
                break told;
            }
        }
    })
    .await
    .expect("`hosts` says that it failed");
    let reason = told["codex_reason"].as_str().unwrap();
    assert!(reason.contains("the disk") && !reason.contains(['\u{1b}', '\u{202e}']), "{reason:?}");
    let people = timeout(PATIENCE, async {
        loop {
            let people = device.run(&["hosts"]).await.ok().out;
            if people.contains("Codex failed: “") {
                break people;
            }
        }
    })
    .await
    .expect("`hosts` says so to people");
    assert!(!people.contains(['\u{1b}', '\u{202e}']), "{people:?}");
    assert_eq!(up.stop().await, Some(0));
}

#[tokio::test]
async fn no_command_passes_on_what_steers_a_terminal_or_forges_a_sentence() {
    const HOSTILE: &str = "den\u{1b}[2J\u{202e}\u{2028}\u{9b}2J";
    let home = Home::new();
    let broken = stand_in(&home, "codex", "printf 'gone \\033[2J\\r\\342\\200\\256\\n' >&2; exit 1");
    let (mut up, device) = up_with(&home, &broken).await;
    up.line("codex failed", |line| line["event"] == "codex" && line["state"] == "failed").await;
    let mut pair = home.start(&["pair", "--yes"]);
    let url = pair.event("pairing").await["url"].as_str().unwrap().to_owned();
    let joined = Home::new().run(&["join", &url, "--name", "pad`” (scope view)"]).await.ok();
    assert!(joined.out.contains("Paired with “tower” ("), "{joined:?}");
    assert_eq!(pair.exit().await, Some(0));

    let folder = home.folder(HOSTILE);
    let mut printed = vec![joined];
    for args in [
        &["devices"][..],
        &["devices", "scope", "pad`” (scope view)", "view"],
        &["devices", "revoke", HOSTILE],
        &["devices", "revoke", "pad`” (scope view)"],
        &["workspace", "add", folder.to_str().unwrap()],
        &["workspace", "list"],
        &["status"],
        &["audit"],
    ] {
        printed.push(home.run(args).await);
    }
    for args in [
        &["hosts"][..],
        &["connect"],
        &["connect", HOSTILE],
        &["hosts", "forget", HOSTILE],
        &["join", HOSTILE],
        &["join", "http://127.0.0.1:9/#there”\u{202e}"],
        &["devices", "scope", "laptop", HOSTILE],
        &["audit", "--since", HOSTILE],
        &[HOSTILE],
        &["--log", HOSTILE, "hosts"],
        &["workspace", "add", HOSTILE],
    ] {
        printed.push(device.run(args).await);
    }
    assert_eq!(up.stop().await, Some(0));
    printed.push(device.run(&["hosts"]).await);
    for one in &printed {
        let unfit = |c: char| c != '\n' && is_unseen(c);
        assert!(!one.out.contains(unfit) && !one.err.contains(unfit), "{one:?}");
    }
    let all: String = printed.iter().map(|one| one.out.as_str()).collect();
    for words in ["“pad'' (scope view)” (", "Revoked: “pad'' (scope view)” ("] {
        assert!(all.contains(words), "no {words} in\n{all}");
    }
}

#[tokio::test]
async fn a_codex_that_is_not_signed_in_is_not_offered_to_a_computer_that_cannot_sign_it_in() {
    let home = Home::new();
    let account =
        "case \" $* \" in *' app-server '*) set -- -c model_providers.scripted.requires_openai_auth=true \"$@\";; esac";
    let (mut up, device) = up_with(&home, &stand_in(&home, "codex", account)).await;
    up.line("codex ready", |line| line["event"] == "codex" && line["state"] == "ready").await;
    let terminal = connect(&device, &codex::program(), &[]);
    refuses(&terminal, &["reachback: Codex on “tower” is not signed in", "at “tower”: `codex login`"]).await;
    assert_eq!(up.stop().await, Some(0));
}

#[tokio::test]
async fn a_codex_that_is_starting_is_waited_for_and_the_wait_can_be_ended() {
    let home = Home::new();
    let gate = home.folder("gate").join("open");
    let slow = stand_in(
        &home,
        "codex",
        &format!("if [ \"$1\" != --version ]; then until [ -e '{}' ]; do sleep 0.1; done; fi", gate.display()),
    );
    let (mut up, device) = up_with(&home, &slow).await;
    let waiting = "Codex on “tower” is starting; waiting for it.";
    let terminal = connect(&device, &codex::program(), &[]);
    terminal.shows(waiting).await;
    assert_eq!(host(&device).await["codex"], "starting");
    terminal.press(&["C-c"]);
    assert_eq!(terminal.exit().await, 130);

    let terminal = connect(&device, &codex::program(), &[]);
    terminal.shows(waiting).await;
    std::fs::write(&gate, "").unwrap();
    terminal.shows("Scripted demo").await;
    let told = host(&device).await;
    assert_eq!((&told["codex"], &told["codex_version"]), (&json!("ready"), &json!("0.169.0")), "{told}");
    terminal.prompt("/quit", "Enter").await;
    assert_eq!(terminal.exit().await, 0);
    assert_eq!(up.stop().await, Some(0));
}

#[tokio::test]
async fn an_older_codex_on_the_laptop_is_not_started_unless_it_is_wanted() {
    let mut up = Up::start().await;
    let device = up.device("laptop").await;
    let old = |version| {
        stand_in(&device, version, &format!("if [ \"$1\" = --version ]; then echo codex-cli {version}; exit; fi"))
    };
    let terminal = connect(&device, &old("0.142.0"), &[]);
    let words = ["Codex on this computer is 0.142.0, older than 0.169.0 on", "npm install -g @openai/codex@0.169.0"];
    refuses(&terminal, &[&words[..], &["--any-codex"]].concat()).await;

    for (version, more) in [("0.142.0", &["--any-codex"][..]), ("0.170.0", &[]), ("nonsense", &[])] {
        let terminal = connect(&device, &old(version), more);
        terminal.shows("Scripted demo").await;
        terminal.prompt("/quit", "Enter").await;
        assert_eq!(terminal.exit().await, 0, "{version}");
    }
    up.stop().await;
}

#[tokio::test]
async fn paused_and_revoked_are_told_apart_while_it_runs_and_after() {
    let mut up = Up::start().await;
    let (device, codex) = (up.device("laptop").await, codex::program());
    let listed = up.home.json(&["devices"]).await.ok().event("device");
    let resume = format!("`reachback devices resume {}`", &listed["device_id"].as_str().unwrap()[..8]);
    let paused = ["has paused this computer: it is still paired", &resume, "`reachback devices resume`"];
    let terminal = connect(&device, &codex, &[]);
    terminal.shows("Scripted demo").await;
    up.home.run(&["devices", "pause", "laptop"]).await.ok();
    assert_eq!(terminal.exit().await, 1);
    says(&terminal, &paused);

    refuses(&connect(&device, &codex, &[]), &paused).await;
    let told = host(&device).await;
    assert_eq!(told["state"], "paused", "{told}");
    up.home.run(&["devices", "resume", "laptop"]).await.ok();
    assert_eq!(host(&device).await["state"], "online");

    let terminal = connect(&device, &codex, &[]);
    terminal.shows("Scripted demo").await;
    up.home.run(&["devices", "revoke", "laptop"]).await.ok();
    assert_eq!(terminal.exit().await, 1);
    says(&terminal, &["no longer lets this computer in", "`reachback pair` there"]);
    assert!(!terminal.everything().contains("paused"), "{}", terminal.everything());
    assert_eq!(host(&device).await["state"], "refused");
    up.stop().await;
}

#[tokio::test]
async fn a_client_of_the_socket_reads_why_it_is_closed() {
    let mut up = Up::start().await;
    let device = up.device("laptop").await;
    let (nowhere, path) = socket(&device, &["--env", "ssh:nowhere"]).await;
    let (_, closed) = closed(open(&path).await).await;
    assert_eq!(u16::from(closed.code), 1008, "{closed:?}");
    assert!(closed.reason.starts_with("Reachback: this host has no such environment"), "{closed:?}");
    nowhere.signal_and_wait("-INT", 0).await;

    let (mut here, path) = socket(&device, &[]).await;
    let mut client = open(&path).await;
    initialize(&mut client).await;
    up.home.run(&["devices", "pause", "laptop"]).await.ok();
    let (heard, closed) = self::closed(client).await;
    let told =
        heard.iter().find(|message| message["method"] == "warning").unwrap_or_else(|| panic!("{closed:?} {heard:?}"));
    assert!(told["params"]["message"].as_str().unwrap().starts_with("Reachback: the host has paused"), "{told}");
    assert_eq!(u16::from(closed.code), 1001, "{closed:?}");
    assert!(closed.reason.starts_with("Reachback: the host has paused this computer"), "{closed:?}");
    assert_eq!((here.event("error").await["code"].clone(), here.exit().await), (json!("paused"), Some(1)));
    up.stop().await;
}

/// `connect --socket`, and where it listens.
async fn socket(device: &Home, more: &[&str]) -> (Process, PathBuf) {
    let path = device.folder("sockets").join("codex.sock");
    let mut process = device.start(&[&["connect", "--socket", path.to_str().unwrap()], more].concat());
    process.event("socket").await;
    (process, path)
}

type Socket = WebSocketStream<UnixStream>;

/// A client of the socket at `path`.
async fn open(path: &Path) -> Socket {
    let stream = UnixStream::connect(path).await.unwrap();
    tokio_tungstenite::client_async("ws://localhost/", stream).await.unwrap().0
}

async fn say(socket: &mut Socket, message: Value) {
    socket.send(Message::text(message.to_string())).await.unwrap();
}

/// Begins as clients of an app-server do, and waits for the answer.
async fn initialize(socket: &mut Socket) {
    let client = json!({ "clientInfo": { "name": "test", "version": "1" } });
    say(socket, json!({ "id": 1, "method": "initialize", "params": client })).await;
    let answer = timeout(PATIENCE, socket.next()).await.expect("no answer").unwrap().unwrap();
    assert!(answer.is_text(), "{answer:?}");
    say(socket, json!({ "method": "initialized" })).await;
}

/// What a client hears until it is closed, and what it is closed with.
async fn closed(mut socket: Socket) -> (Vec<Value>, CloseFrame) {
    let mut heard = Vec::new();
    let closing = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(Some(frame)))) => return frame,
                Some(Ok(Message::Text(text))) => heard.push(serde_json::from_str(&text).unwrap()),
                Some(Ok(_)) => {}
                other => panic!("closed without a word: {other:?}"),
            }
        }
    };
    let frame = timeout(PATIENCE, closing).await.expect("the socket stays open");
    (heard, frame)
}

#[tokio::test]
async fn an_environment_that_is_not_there_is_refused_with_those_that_are() {
    let mut up = Up::start().await;
    let device = up.device("laptop").await;
    let terminal = connect(&device, &codex::program(), &["--env", "ssh:nowhere"]);
    refuses(&terminal, &["has no environment “ssh:nowhere”; it has: “local”", "--env NAME"]).await;
    up.stop().await;
}

#[tokio::test]
async fn a_full_audit_log_is_said_when_the_terminal_is_free_again() {
    let home = Home::new();
    let (mut up, device) = up_with(&home, &codex::program()).await;
    let terminal = connect(&device, &codex::program(), &[]);
    terminal.shows("Scripted demo").await;
    terminal.prompt("hello", "Enter").await;
    terminal.shows("With a real model you would now").await;
    // The largest file, of what passed for the device.
    let logs = std::fs::read_dir(home.path().join("host/audit")).unwrap();
    let size = logs.map(|log| log.unwrap().metadata().unwrap().len()).max().unwrap();
    limit_files(&up, &size.to_string());
    let (_connect, path) = socket(&device, &[]).await;
    let mut client = open(&path).await;
    initialize(&mut client).await;
    say(&mut client, json!({ "id": 2, "method": "thread/start", "params": {} })).await;
    let (heard, closed) = self::closed(client).await;
    let told = heard.iter().find(|message| message["method"] == "warning").unwrap_or_else(|| panic!("{heard:?}"));
    assert!(told["params"]["message"].as_str().unwrap().starts_with("Reachback: the host's audit log"), "{told}");
    assert!(heard.iter().all(|message| message["id"] != 2), "what can't be written passed: {heard:?}");
    assert_eq!(u16::from(closed.code), 1008, "{closed:?}");
    assert!(closed.reason.starts_with("Reachback: the host's audit log"), "{closed:?}");

    // It may lose its connection before, over what it asks by itself.
    terminal.type_text("run ls");
    terminal.shows("run ls").await;
    terminal.press(&["Enter"]);
    let words = "the host's audit log can't be written, so nothing passes";
    terminal.shows("Reconnecting").await;
    quit(&terminal).await;
    says(&terminal, &["reachback: “tower” refused:", words, "when that is mended at “tower”: reachback connect tower"]);
    limit_files(&up, "unlimited");
    assert_eq!(up.stop().await, Some(0));
}

/// How far into a file the process may write, as when the disk is full.
fn limit_files(process: &Process, bytes: &str) {
    let mut prlimit = std::process::Command::new("prlimit");
    prlimit.args(["--pid", &process.pid().to_string(), &format!("--fsize={bytes}:")]);
    let status = prlimit.status().expect("prlimit is not installed; run: apt-get install util-linux");
    assert!(status.success(), "prlimit: {status}");
}

#[tokio::test]
async fn a_codex_that_goes_away_for_good_is_named_at_the_end() {
    let home = Home::new();
    let gone = home.folder("gone").join("gone");
    let mortal =
        stand_in(&home, "codex", &format!("if [ -e '{}' ]; then echo gone for good >&2; exit 1; fi", gone.display()));
    let (mut up, device) = up_with(&home, &mortal).await;
    let terminal = connect(&device, &codex::program(), &[]);
    terminal.shows("Scripted demo").await;
    terminal.prompt("hello", "Enter").await;
    terminal.shows("With a real model you would now").await;
    std::fs::write(&gone, "").unwrap();
    // With its helpers, which would stay.
    for (pid, _) in processes_with(&home.path()).into_iter().filter(|(pid, _)| *pid != up.pid()) {
        let _ = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).output();
    }
    let is_gone = |line: &Value| line["message"].as_str().is_some_and(|message| message.contains("gone for good"));
    up.line("that codex does not start", is_gone).await;
    terminal.shows("Reconnect").await;
    quit(&terminal).await;
    says(
        &terminal,
        &["reachback: Codex is not running on “tower”:", "gone for good", "To go on: reachback connect tower"],
    );
    assert_eq!(up.stop().await, Some(0));
}

#[tokio::test]
async fn the_last_line_says_how_to_go_on() {
    let mut up = Up::start().await;
    let device = up.device("laptop").await;
    let terminal = connect(&device, &codex::program(), &[]);
    terminal.shows("Scripted demo").await;
    terminal.prompt("@text N=12 size=7", "Enter").await;
    terminal.shows("xxxx11").await;
    terminal.prompt("/quit", "Enter").await;
    assert_eq!(terminal.exit().await, 0);
    let all = terminal.everything();
    let line =
        all.lines().rfind(|line| line.starts_with("To go on: ")).unwrap_or_else(|| panic!("no last line in\n{all}"));
    let words: Vec<_> = line.trim_start_matches("To go on: reachback connect ").split(' ').collect();
    let [host, "--", "resume", thread] = words[..] else { panic!("{line}") };
    let codex = codex::program();
    let again = device.terminal(&["connect", "--codex-program", codex.to_str().unwrap(), host, "--", "resume", thread]);
    again.shows("xxxx11").await;
    up.stop().await;
}

/// A thread that nobody wrote in is in no list, and Codex's own advice names a socket that is gone.
#[tokio::test]
async fn the_last_line_is_ours_where_nobody_wrote_anything() {
    let mut up = Up::start().await;
    let device = up.device("laptop").await;
    let name = host(&device).await["host_name"].as_str().unwrap().to_owned();
    let terminal = connect(&device, &codex::program(), &[]);
    terminal.shows("Scripted demo").await;
    terminal.prompt("/quit", "Enter").await;
    assert_eq!(terminal.exit().await, 0);
    let all = terminal.everything();
    let last = all.lines().rfind(|line| !line.trim().is_empty() && !line.starts_with("[exit code "));
    assert_eq!(last, Some(format!("To connect again: reachback connect {name}").as_str()), "{all}");
    up.stop().await;
}

#[tokio::test]
async fn hosts_that_are_not_meant_are_listed_and_no_terminal_is_said() {
    let mut up = Up::start().await;
    let device = up.device("laptop").await;
    let name = host(&device).await["host_name"].as_str().unwrap().to_owned();
    let codex = codex::program();
    let codex = ["--codex-program", codex.to_str().unwrap()];
    let failed = async |args: &[&str], words: &[&str]| {
        let finished = device.run(&[&["connect"], args, &codex].concat()).await;
        assert_eq!(finished.code, 1, "{finished:?}");
        for word in words {
            assert!(finished.err.contains(word), "no `{word}` in {}", finished.err);
        }
    };
    failed(&["cellar"], &["no host is called “cellar”; there is", &name, "`reachback hosts`"]).await;
    failed(&[&name], &["this is no terminal", "--stdio in the place of `codex app-server`", "--socket PATH"]).await;
    let other = Up::start_at(free_port(), &["--name", "attic"]).await;
    let mut pair = other.home.start(&["pair", "--yes"]);
    let url = pair.event("pairing").await["url"].as_str().unwrap().to_owned();
    device.json(&["join", &url]).await.ok();
    assert_eq!(pair.exit().await, Some(0));
    failed(&[], &["paired with several hosts: ", "“attic” (", &name, "say which"]).await;
    other.stop().await;
    up.stop().await;
}

#[tokio::test]
async fn who_may_only_look_is_told_before_and_after() {
    let mut up = Up::start().await;
    let device = up.device("laptop").await;
    let terminal = connect(&device, &codex::program(), &[]);
    terminal.shows("Scripted demo").await;
    terminal.prompt("@text N=12 size=7", "Enter").await;
    terminal.shows("xxxx11").await;
    up.home.run(&["devices", "scope", "laptop", "view"]).await.ok();
    terminal.prompt("hello", "Enter").await;
    terminal.shows("Submission could not be confirmed").await;
    quit(&terminal).await;
    says(&terminal, &["lets this computer do less than before: its scope is `view` now, and was `approve`"]);

    let terminal = connect(&device, &codex::program(), &[]);
    refuses(&terminal, &["may only look (scope `view`)", "-- resume", "reachback devices scope"]).await;
    assert_eq!(host(&device).await["scope"], "view");
    up.stop().await;
}

#[tokio::test]
async fn who_may_prompt_and_not_approve_is_told_before_codex_starts() {
    let mut up = Up::start().await;
    let device = up.device("laptop").await;
    let told = "this computer may prompt and not approve (scope `steer`)";
    let terminal = connect(&device, &codex::program(), &[]);
    terminal.shows("Scripted demo").await;
    quit(&terminal).await;
    assert!(!terminal.everything().contains("may prompt"), "who may approve is told that they may not");

    up.home.run(&["devices", "scope", "laptop", "steer"]).await.ok();
    let terminal = connect(&device, &codex::program(), &[]);
    terminal.shows("Scripted demo").await;
    quit(&terminal).await;
    let id = host(&device).await["device_id"].as_str().unwrap().to_owned();
    let raise = format!("reachback devices scope {} approve", &id[..8]);
    says(&terminal, &[told, &raise]);
    // The command that is named is one that can be typed.
    let words: Vec<_> = raise.split(' ').skip(1).collect();
    up.home.run(&words).await.ok();
    assert_eq!(host(&device).await["scope"], "approve");
    up.stop().await;
}
