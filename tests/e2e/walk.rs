//! The newcomer's walk with the programs themselves: what they print, for people and programs, and how they end.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::codex::{self, TestCodex};
use e2e::eventually;
use e2e::process::{Finished, Home, Process, Up, binary, finished, free_port, processes_with};
use e2e::rpc::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// An object has the members that programs rely on, and no others.
#[track_caller]
fn has(object: &Value, members: &[&str]) {
    let found: BTreeSet<_> =
        object.as_object().unwrap_or_else(|| panic!("{object}")).keys().map(String::as_str).collect();
    let wanted: BTreeSet<_> = members.iter().copied().chain(["event"]).collect();
    assert_eq!(found, wanted, "{object}");
}

/// A command failed as it should: with this exit code and these words.
#[track_caller]
fn failed(finished: &Finished, code: i32, words: &[&str]) {
    assert_eq!(finished.code, code, "{finished:?}");
    for word in words {
        assert!(finished.err.contains(word), "`{word}` is not in: {}", finished.err);
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// A WebSocket to `path`, as the stock terminal UI asks for it, with one more header.
async fn upgrade(path: &Path, header: &'static str, value: &str) -> Result<WebSocketStream<UnixStream>, Error> {
    let stream = UnixStream::connect(path).await.unwrap();
    let mut request = "ws://localhost/".into_client_request().unwrap();
    request.headers_mut().insert(header, value.parse().unwrap());
    let (socket, response) = tokio_tungstenite::client_async(request, stream).await?;
    assert!(!response.headers().contains_key(header), "it echoes {header}");
    Ok(socket)
}

/// `connect --socket`, and where it listens.
pub(super) async fn socket(device: &Home) -> (Process, TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("codex.sock");
    let mut process = device.start(&["connect", "--socket", path.to_str().unwrap()]);
    let line = process.event("socket").await;
    has(&line, &["path", "host_name"]);
    assert_eq!(line["path"], path.to_str().unwrap());
    (process, folder, path)
}

/// An app-server client of a socket.
pub(super) async fn client(path: &Path) -> Client {
    let socket = upgrade(path, "x-codex-app-server-compression", "zstd-stream-v1").await.unwrap();
    let initialized = tokio::time::timeout(Duration::from_secs(10), Client::over(socket));
    initialized.await.expect("`initialize` was not answered within 10 s, which the terminal UI does not wait for")
}

#[tokio::test]
async fn up_tells_programs_each_event_with_its_fields() {
    let home = Home::new();
    let (codex, listen) = (codex::program(), free_port().to_string());
    let mut up = home.start(&[
        "up",
        "--demo",
        "--listen",
        &listen,
        "--codex-program",
        codex.to_str().unwrap(),
        "--name",
        "tower",
    ]);
    let ready = up.event("ready").await;
    has(&ready, &["relay_url", "host_id", "host_name", "fingerprint", "home"]);
    assert_eq!(text(&ready["home"]), home.path().to_str().unwrap());
    assert_eq!((text(&ready["relay_url"]), text(&ready["host_name"])), (&*format!("http://{listen}"), "tower"));
    assert_eq!(
        (text(&ready["host_id"]).len(), text(&ready["fingerprint"]).len()),
        (26, 52),
        "base32 of 16 and 32 bytes"
    );
    let tunnel =
        up.line("the tunnel connected", |line| line["event"] == "tunnel" && line["state"] == "connected").await;
    has(&tunnel, &["state", "transport", "reason"]);
    assert_eq!((text(&tunnel["transport"]), &tunnel["reason"]), ("wss", &Value::Null));
    let codex = up.line("codex ready", |line| line["event"] == "codex" && line["state"] == "ready").await;
    has(
        &codex,
        &[
            "environment",
            "state",
            "adapter",
            "address",
            "version",
            "joined",
            "keys",
            "keys_reason",
            "chatgpt_remote",
            "troubles",
            "reason",
            "fix",
        ],
    );
    assert_eq!((text(&codex["adapter"]), text(&codex["version"])), ("app-server", "0.169.0"));
    let pairing = up.event("pairing").await;
    has(&pairing, &["url", "code", "expires_at"]);
    let url = text(&pairing["url"]);
    assert!(
        url.starts_with(&format!("HTTP://{listen}/#")) && url.to_ascii_uppercase() == url && url.len() <= 150,
        "{url}"
    );
    assert!(text(&pairing["code"]).len() == 19 && text(&pairing["expires_at"]).ends_with('Z'), "{pairing}");

    let device = Home::new();
    let joining = device.json(&["join", url, "--name", "laptop"]).await.ok();
    let (digits, joined) = (joining.event("digits"), joining.event("joined"));
    has(&digits, &["digits"]);
    assert!(text(&digits["digits"]).len() == 6, "{digits}");
    has(&joined, &["host_id", "host_name", "device_id", "scope", "relay_url"]);
    let paired = up.event("paired").await;
    has(&paired, &["device_id", "name", "scope"]);
    assert_eq!(
        (&paired["device_id"], text(&paired["name"]), text(&paired["scope"])),
        (&joined["device_id"], "laptop", "approve")
    );
    assert_eq!((&joined["host_id"], text(&joined["scope"])), (&ready["host_id"], "approve"));

    let (connected, _folder, _) = socket(&device).await;
    let here = up.event("device").await;
    has(&here, &["device_id", "state"]);
    assert_eq!((&here["device_id"], text(&here["state"])), (&joined["device_id"], "connected"));
    connected.signal_and_wait("-INT", 0).await;
    assert_eq!(up.event("device").await["state"], "disconnected");

    // The code worked once.
    let again = Home::new().json(&["join", url]).await;
    assert_eq!(again.code, 1, "{again:?}");
    let error = again.event("error");
    has(&error, &["code", "message", "fix"]);
    assert!(text(&error["fix"]).contains("`reachback pair`"), "no next step in {error}");
    assert_eq!(up.stop().await, Some(0));
}

/// Every file and folder below `folder`, with what is in the files.
fn everything_in(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(everything_in(&path));
            found.insert(path, Vec::new());
        } else {
            let content = std::fs::read(&path).unwrap();
            found.insert(path, content);
        }
    }
    found
}

#[tokio::test]
async fn a_demo_and_the_real_codex_refuse_each_others_homes() {
    let codex = codex::program();
    let demo = ["up", "--demo", "--listen", "127.0.0.1:0", "--codex-program", codex.to_str().unwrap()];
    let real = Home::new();
    let mut command = real.command(&["up", "--listen", "127.0.0.1:0", "--json"]);
    // It is a real host without a Codex as well.
    command.env("PATH", "/nonexistent");
    let mut up = Process::spawn("reachback up", command);
    assert_eq!(text(&up.event("ready").await["home"]), real.path().to_str().unwrap());
    let usual = real.path().with_file_name("reachback-demo");
    let words = [
        &*format!("“{}” is the home of a real host", real.path().display()),
        &format!("reachback up --demo --home {}", usual.display()),
    ];
    failed(&real.run(&demo).await, 1, &words);
    assert_eq!(up.stop().await, Some(0));
    let before = everything_in(&real.path());
    let refused = real.json(&demo).await;
    assert_eq!((refused.code, text(&refused.event("error")["code"])), (1, "not_a_demo_home"), "{refused:?}");
    assert_eq!(everything_in(&real.path()), before, "the refused home was changed");
    assert!(!real.project().exists() && !usual.exists(), "a refused demo left something");

    let mut up = Up::start().await;
    assert_eq!(up.process.stop().await, Some(0));
    let before = everything_in(&up.home.path());
    let usual = up.home.path().with_file_name("reachback");
    let words = [
        &*format!("“{}” is a demo's home", up.home.path().display()),
        "must not reach the real Codex",
        &format!("--home {}", usual.display()),
        "reachback up --demo",
    ];
    for args in [&["up", "--listen", "127.0.0.1:0"][..], &["host"]] {
        failed(&up.home.run(args).await, 1, &words);
        let refused = up.home.json(args).await;
        assert_eq!((refused.code, text(&refused.event("error")["code"])), (1, "demo_home"), "{refused:?}");
    }
    assert_eq!(everything_in(&up.home.path()), before, "the refused home was changed");
    up.restart().await;
    up.stop().await;
}

#[tokio::test]
async fn a_demo_without_a_chosen_home_has_its_own_and_says_how_to_find_it() {
    let person = Home::new();
    let codex = codex::program();
    let unchosen = |args: &[&str]| {
        let mut command = person.command(args);
        command.env_remove("REACHBACK_HOME");
        command
    };
    let (usual, own) = (person.path().with_file_name("reachback"), person.path().with_file_name("reachback-demo"));
    let up = unchosen(&["up", "--demo", "--listen", "127.0.0.1:0", "--codex-program", codex.to_str().unwrap()]);
    let mut up = Process::spawn("reachback up", up);
    let says = |line: &Value, words: &str| line.as_str().is_some_and(|line| line.trim() == words);
    let pointer = format!("export REACHBACK_HOME={}", own.display());
    up.line("how to find it", |line| says(line, &pointer)).await;
    up.line("that codex is ready", |line| says(line, "Codex 0.169.0 is ready.")).await;
    assert!(person.path().with_file_name("reachback-demo-project").join("README.md").exists());
    assert!(!own.join("demo/project").exists(), "devices work in the home");

    // With the line that was printed, the others find it.
    let pointed = |args: &[&str]| {
        let mut command = person.command(args);
        command.env("REACHBACK_HOME", &own);
        command
    };
    let mut pair = Process::spawn("reachback pair", pointed(&["pair", "--yes", "--json"]));
    let device = Home::new();
    device.json(&["join", text(&pair.event("pairing").await["url"]), "--name", "laptop"]).await.ok();
    assert_eq!(pair.exit().await, Some(0));
    let list = finished(pointed(&["devices"]), "").await.ok();
    assert!(list.out.contains("laptop") && list.err.is_empty(), "{list:?}");
    assert!(finished(pointed(&["audit"]), "").await.ok().out.contains("paired, scope approve"));

    // Without it they speak of the usual home, and name the other.
    let list = finished(unchosen(&["devices"]), "").await.ok();
    assert!(list.out.contains("No devices.") && list.err.contains(&pointer), "{list:?}");
    let audit = finished(unchosen(&["audit"]), "").await.ok();
    assert!(audit.out.contains("Nothing, so far.") && audit.err.contains(&pointer), "{audit:?}");
    failed(&finished(unchosen(&["devices", "revoke", "laptop"]), "").await, 1, &["there is no device yet", &pointer]);
    let wrong = finished(unchosen(&["pair", "--yes"]), "").await;
    failed(&wrong, 1, &[&format!("no agent runs on “{}”", usual.display()), "reachback up", &pointer]);
    let wrong = finished(unchosen(&["pair", "--yes", "--json"]), "").await.event("error");
    assert!(text(&wrong["fix"]).contains(&pointer), "{wrong}");
    assert!(!usual.join("host/host.json").exists(), "the demo made the usual home a host's");

    assert_eq!(up.stop().await, Some(0));
    let list = finished(unchosen(&["devices"]), "").await.ok();
    assert!(list.err.is_empty(), "a demo that ended is named: {list:?}");
}

#[tokio::test]
async fn a_typed_code_pairs_and_lists_tell_programs_what_there_is() {
    let mut up = Up::start().await;
    let pairing = up.process.event("pairing").await;
    let relay = format!("http://{}", up.addr);
    let device = Home::new();
    let typing = |home: &Home, code: &str| {
        let command = home.command(&["join", &relay, "--json", "--name", "desk top"]);
        let input = format!("{code}\n");
        async move { finished(command, &input).await }
    };
    let wrong = typing(&device, "0000-0000-0000-0000").await;
    assert_eq!((wrong.code, text(&wrong.event("error")["code"])), (1, "pairing_code"), "{wrong:?}");
    let short = typing(&device, "ABCD").await;
    assert_eq!((short.code, text(&short.event("error")["code"])), (1, "typed_code"), "{short:?}");
    assert!(!device.path().join("controller/hosts").exists(), "a refused pairing left something");

    let joined = typing(&device, &text(&pairing["code"]).to_lowercase().replace('-', " ")).await.ok().event("joined");
    assert_eq!(joined["scope"], "steer");
    let paired = up.process.event("paired").await;
    assert_eq!((text(&paired["name"]), text(&paired["scope"])), ("desk top", "steer"));

    let hosts = device.json(&["hosts"]).await.ok().event("host");
    let codex = ["codex", "codex_version", "codex_reason"];
    let host = ["host_id", "host_name", "state", "since", "reason", "scope", "relay_url", "device_id"];
    has(&hosts, &[&host[..], &codex].concat());
    assert_eq!(codex.map(|member| hosts[member].as_str()), [Some("ready"), Some("0.169.0"), None]);
    assert_eq!((text(&hosts["state"]), text(&hosts["relay_url"])), ("online", &*relay));
    let list = up.home.json(&["devices"]).await.ok().event("device");
    let kept_out = ["paused", "expired", "revoked_at_relay"];
    let device_members = ["device_id", "state", "name", "platform", "scope", "added_at", "last_seen"];
    has(&list, &[&device_members[..], &kept_out].concat());
    assert_eq!((&list["device_id"], text(&list["state"])), (&joined["device_id"], "disconnected"));
    let people = device.run(&["hosts"]).await.ok().out;
    assert!(people.starts_with("ID ") && people.contains("online"), "{people}");

    assert_eq!(up.process.stop().await, Some(0));
    let offline = device.json(&["hosts"]).await.ok().event("host");
    assert_eq!(offline["state"], "unreachable");
    assert!(text(&offline["reason"]).contains("cannot reach the relay"), "{offline}");
    failed(&device.run(&["hosts", "forget", "nobody"]).await, 1, &["no host is called “nobody”"]);
    device.run(&["hosts", "forget", text(&joined["host_id"])]).await.ok();
    assert_eq!(device.json(&["hosts"]).await.ok().out, "");
}

#[tokio::test]
async fn scope_pause_and_revoke_take_hold_at_once() {
    let mut up = Up::start().await;
    let device = up.device("laptop").await;
    let (mut connect, _folder, path) = socket(&device).await;
    let mut rpc = client(&path).await;
    rpc.request("thread/start", json!({})).await.unwrap();

    let changed = up.home.json(&["devices", "scope", "laptop", "view"]).await.ok().event("device");
    assert_eq!((text(&changed["state"]), text(&changed["scope"])), ("scope_changed", "view"));
    let refused = rpc.request("thread/start", json!({})).await.unwrap_err();
    assert_eq!((&refused["code"], &refused["data"]["reason"]), (&json!(-32010), &json!("scope")), "{refused}");
    let message = text(&refused["message"]);
    assert!(message.contains("view") && message.contains("steer"), "the message names no scopes: {message}");

    up.home.run(&["devices", "pause", "laptop"]).await.ok();
    rpc.ended().await;
    assert_eq!(connect.exit().await, Some(1), "reachback connect of a paused device");
    let list = up.home.json(&["devices"]).await.ok().event("device");
    assert_eq!((text(&list["state"]), &list["paused"]), ("paused", &json!(true)));
    up.home.run(&["devices", "resume", "laptop"]).await.ok();
    let (mut connect, _folder, path) = socket(&device).await;
    let rpc = client(&path).await;

    let revoked = up.home.json(&["devices", "revoke", "laptop"]).await.ok().event("device");
    assert_eq!(revoked["state"], "revoked");
    rpc.ended().await;
    let error = connect.event("error").await;
    assert_eq!((connect.exit().await, text(&error["code"])), (Some(1), "revoked"), "{error}");
    assert_eq!(up.home.json(&["devices"]).await.ok().out, "");
    let unknown = up.home.run(&["devices", "revoke", "laptop"]).await;
    failed(&unknown, 1, &["there is no device yet", "`reachback devices` lists them"]);
    up.stop().await;
}

#[tokio::test]
async fn the_socket_speaks_what_the_terminal_ui_expects_and_turns_web_pages_away() {
    let mut up = Up::start().await;
    let device = up.device("laptop").await;
    let (_connect, folder, path) = socket(&device).await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut rpc = client(&path).await;
    assert!(rpc.request("model/list", json!({})).await.unwrap()["data"].is_array());
    for origin in ["http://localhost", "null", "https://evil.example"] {
        match upgrade(&path, "origin", origin).await {
            Err(Error::Http(response)) => assert_eq!(response.status(), 403, "{response:?}"),
            other => panic!("a page of {origin} was let in: {other:?}"),
        }
    }
    // Whoever was in before is still there.
    rpc.request("model/list", json!({})).await.unwrap();

    let busy = device.run(&["connect", "--socket", path.to_str().unwrap()]).await;
    failed(&busy, 1, &["another process listens on", "choose another path"]);
    let notes = folder.path().join("notes.txt");
    std::fs::write(&notes, "mine").unwrap();
    let occupied = device.run(&["connect", "--socket", notes.to_str().unwrap()]).await;
    failed(&occupied, 1, &["notes.txt", "is not a socket"]);
    assert_eq!(std::fs::read_to_string(&notes).unwrap(), "mine");
    up.stop().await;
}

#[tokio::test]
async fn relay_host_and_client_live_in_three_homes_of_one_machine() {
    let relay_data = tempfile::tempdir().unwrap();
    let data = relay_data.path().join("relay");
    let serve = ["serve", "--json", "--data", data.to_str().unwrap(), "--listen", "127.0.0.1:0"];
    let mut relay = Process::start("reachback-relay", &serve, &[]);
    let ready = relay.event("ready").await;
    has(&ready, &["url", "fingerprint", "enroll_file"]);
    let (url, enroll_file) = (text(&ready["url"]), text(&ready["enroll_file"]));
    assert_eq!(std::fs::metadata(enroll_file).unwrap().permissions().mode() & 0o777, 0o600);
    // Kept: the relay takes its own away once the key is used.
    let kept = relay_data.path().join("kept");
    std::fs::copy(enroll_file, &kept).unwrap();

    let (home, codex) = (Home::new(), TestCodex::prepare().await);
    let config = codex.config();
    let folders = [config.program, config.home.unwrap(), codex.home.project().into()];
    let [program, codex_home, workdir] = folders.each_ref().map(|path| path.to_str().unwrap());
    let agent = |home: &Home, more: &[&str]| {
        let args = ["host", "--codex-program", program, "--codex-home", codex_home, "--workdir", workdir];
        home.start(&[&args[..], more].concat())
    };
    let nowhere = home.run(&["host"]).await;
    failed(&nowhere, 1, &["this host has no relay yet", "reachback host --relay URL --enroll-file FILE"]);
    let mut host = agent(&home, &["--relay", url, "--enroll-file", enroll_file]);
    let enrolled = host.event("ready").await;
    assert_eq!((&enrolled["relay_url"], &enrolled["fingerprint"]), (&ready["url"], &ready["fingerprint"]));
    host.line("codex ready", |line| line["event"] == "codex" && line["state"] == "ready").await;

    let mut pair = home.start(&["pair", "--yes", "--scope", "view"]);
    let pairing = pair.event("pairing").await;
    let device = Home::new();
    device.json(&["join", text(&pairing["url"]), "--name", "watcher"]).await.ok();
    let paired = pair.event("paired").await;
    assert_eq!((text(&paired["name"]), text(&paired["scope"])), ("watcher", "view"));
    assert_eq!(pair.exit().await, Some(0));
    let (connect, _folder, path) = socket(&device).await;
    let mut rpc = client(&path).await;
    rpc.request("thread/list", json!({})).await.unwrap();
    assert_eq!(rpc.request("thread/start", json!({})).await.unwrap_err()["code"], -32010);
    connect.signal_and_wait("-INT", 0).await;

    // It knows its relay now, and the key is used up for any other host.
    assert_eq!(host.stop().await, Some(0));
    // Who asks for it meanwhile is told that it is waited for, and since when it is away.
    let mut waiting = device.start(&["connect", "--socket", path.to_str().unwrap()]);
    let waits = waiting.event("waiting").await;
    has(&waits, &["host_id", "host_name", "state", "since", "reason"]);
    assert_eq!((&waits["host_id"], &waits["state"]), (&enrolled["host_id"], &json!("offline")));
    assert!(waits["since"].is_string() && waits["reason"].is_null(), "{waits}");
    let mut host = agent(&home, &[]);
    assert_eq!(host.event("ready").await["host_id"], enrolled["host_id"]);
    waiting.event("socket").await;
    waiting.signal_and_wait("-INT", 0).await;
    let second = Home::new();
    let mut stranger = agent(&second, &["--relay", url, "--enroll-file", kept.to_str().unwrap()]);
    let error = stranger.event("error").await;
    has(&error, &["code", "message", "fix"]);
    assert!(text(&error["fix"]).contains("reachback-relay enroll"), "{error}");
    assert_eq!(stranger.stop().await, Some(0));
    let mut command = Command::new(binary("reachback-relay"));
    command.args(["enroll", "--data", data.to_str().unwrap()]);
    let another = finished(command, "").await.ok();
    let mut stranger = agent(&second, &["--relay", url, "--enroll-file", another.out.lines().next().unwrap().trim()]);
    assert_ne!(stranger.event("ready").await["host_id"], enrolled["host_id"]);
    for mut process in [stranger, host, relay] {
        assert_eq!(process.stop().await, Some(0));
    }
    let mut waiting = device.start(&["connect", "--socket", path.to_str().unwrap()]);
    let waits = waiting.line("why", |line| line["event"] == "waiting" && line["reason"].is_string()).await;
    assert_eq!((&waits["state"], &waits["since"]), (&json!("connecting"), &Value::Null), "{waits}");
    drop(waiting);
}

#[tokio::test]
async fn digits_typed_at_the_host_let_the_right_device_in() {
    let mut up = Up::start().await;
    up.device("first").await;
    let pair = up.home.sized_terminal((110, 70), &["pair"]);
    pair.shows("reachback join 'HTTP://").await;
    let screen = pair.screen();
    let rows = screen.lines().filter(|line| line.starts_with(['█', '▀', '▄'])).count();
    assert!((15..=24).contains(&rows), "a QR code of {rows} rows:\n{screen}");
    let everything = pair.everything();
    let url = everything.split('\'').nth(1).unwrap().to_owned();

    let device = Home::new();
    let mut joining = device.start(&["join", &url, "--name", "mine"]);
    let digits = text(&joining.event("digits").await["digits"]).to_owned();
    pair.shows("“mine” (“").await;
    pair.type_text("12");
    pair.press(&["Enter"]);
    pair.until("it asks again after too few digits", |screen| screen.matches("wants to pair").count() == 2).await;
    let wrong: String =
        digits.chars().map(|digit| if digit == '9' { '0' } else { (digit as u8 + 1) as char }).collect();
    pair.type_text(&wrong);
    pair.press(&["Enter"]);
    pair.shows("the digits typed here are not the ones on the device").await;
    let error = joining.event("error").await;
    assert!(text(&error["message"]).contains("digits"), "{error}");
    assert_eq!(joining.exit().await, Some(1));

    // One that gives up takes its question with it; what was typed of its digits is no answer about the next one.
    let mut joining = device.start(&["join", &url, "--name", "mine"]);
    let digits = text(&joining.event("digits").await["digits"]).to_owned();
    pair.until("it asks for this device", |screen| screen.matches("wants to pair").count() == 3).await;
    pair.type_text(&digits[..3]);
    joining.kill().await;
    pair.shows("the device gave up").await;

    // The code still works, for a device that shows what is typed. What was entered before is no answer to it.
    pair.type_text("early\r");
    pair.shows("early").await;
    let mut joining = device.start(&["join", &url, "--name", "mine"]);
    let digits = text(&joining.event("digits").await["digits"]).to_owned();
    pair.until("it asks for the new device", |screen| screen.matches("wants to pair").count() == 4).await;
    // A scope behind the digits is the one that it gets; what is no scope is said, and nothing is sent.
    pair.type_text(&format!("{digits} look"));
    pair.press(&["Enter"]);
    pair.shows("There is no scope “look”. Type the digits again").await;
    pair.type_text(&format!("{} {} view", &digits[..3], &digits[3..]));
    pair.press(&["Enter"]);
    pair.shows("Paired: “mine”").await;
    pair.shows(", scope view.").await;
    assert_eq!(joining.event("joined").await["scope"], "view");
    assert_eq!((pair.exit().await, joining.exit().await), (0, Some(0)));

    // Just Enter refuses.
    let pair = up.home.sized_terminal((110, 44), &["pair"]);
    pair.shows("reachback join 'HTTP://").await;
    let everything = pair.everything();
    let other = Home::new();
    let mut joining = other.start(&["join", everything.split('\'').nth(1).unwrap(), "--name", "oth`er”"]);
    pair.shows("“oth'er'” (“").await;
    pair.press(&["Enter"]);
    pair.shows("declined").await;
    assert_eq!(joining.exit().await, Some(1));
    pair.press(&["C-c"]);
    up.stop().await;
}

#[tokio::test]
async fn a_list_has_columns_where_there_is_room_for_them() {
    let mut up = Up::start().await;
    up.device("laptop").await;
    let wide = up.home.sized_terminal((110, 30), &["devices"]);
    wide.shows("ID        NAME    PLATFORM").await;
    let narrow = up.home.sized_terminal((60, 30), &["devices"]);
    narrow.shows("LAST SEEN  20").await;
    let screen = narrow.screen();
    for line in ["NAME       laptop", "SCOPE      approve", "STATE      disconnected"] {
        assert!(screen.lines().any(|shown| shown == line), "no line `{line}` in\n{screen}");
    }
    up.stop().await;
}

#[tokio::test]
async fn up_in_a_terminal_shows_a_code_and_ends_in_order_when_the_terminal_is_closed() {
    let home = Home::new();
    let (codex, listen) = (codex::program(), free_port().to_string());
    let args = ["up", "--demo", "--listen", &listen, "--codex-program", codex.to_str().unwrap()];
    let up = home.sized_terminal((110, 44), &args);
    // Codex and the code come in either order.
    up.shows("Codex 0.169.0 is ready.").await;
    up.shows("and type").await;
    let screen = up.screen();
    for words in ["Reachback is up. Ctrl-C stops it.", "this computer only", "reachback join 'HTTP://"] {
        assert!(screen.contains(words), "no `{words}` in\n{screen}");
    }
    let demo = home.path().join("demo/codex-home");
    assert!(!processes_with(&demo).is_empty(), "Codex runs in its home");
    drop(up);
    eventually("up and codex end with the terminal", || processes_with(&home.path()).is_empty()).await;

    let up = home.sized_terminal((110, 44), &args);
    up.shows("Codex 0.169.0 is ready.").await;
    up.press(&["C-c"]);
    assert_eq!(up.exit().await, 0);
    assert!(processes_with(&demo).is_empty(), "codex outlived Ctrl-C");
}

#[tokio::test]
async fn a_second_up_on_the_home_is_refused_and_sigterm_leaves_nothing_running() {
    let mut up = Up::start().await;
    let (pid, codex) = (up.process.pid().to_string(), codex::program());
    let again = ["up", "--demo", "--listen", "127.0.0.1:0", "--codex-program", codex.to_str().unwrap()];
    let second = up.home.run(&again).await;
    failed(&second, 1, &["an agent already runs on", &format!("(pid {pid})"), "REACHBACK_HOME"]);
    let second = up.home.json(&again).await;
    assert_eq!(second.code, 1, "{second:?}");
    has(&second.event("error"), &["code", "message", "fix"]);
    let relay = up.home.path().join("relay");
    let mut command = Command::new(binary("reachback-relay"));
    command.args(["serve", "--data", relay.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    failed(&finished(command, "").await, 1, &["another relay runs on data directory", "choose another directory"]);

    // The first one is untouched by all that.
    up.home.json(&["devices"]).await.ok();
    let demo = up.home.path().join("demo/codex-home");
    assert!(!processes_with(&demo).is_empty(), "Codex runs in its home");
    assert_eq!(up.process.stop().await, Some(0));
    assert_eq!(processes_with(&demo), [], "codex outlived the agent");
    failed(&up.home.run(&["pair", "--yes"]).await, 1, &["no agent runs on", "reachback up"]);
}

#[tokio::test]
async fn without_codex_the_command_that_installs_it_is_named() {
    let home = Home::new();
    let bare = |home: &Home, args: &[&str]| {
        let mut command = home.command(args);
        command.env("PATH", "/nonexistent");
        command
    };
    let demo = finished(bare(&home, &["up", "--demo", "--listen", "127.0.0.1:0"]), "").await;
    failed(&demo, 1, &["no `codex` on the search path", "npm install -g @openai/codex@0.169.0"]);
    let mut up = Process::spawn("reachback up", bare(&home, &["up", "--json", "--listen", "127.0.0.1:0"]));
    let error = up.event("error").await;
    assert_eq!(
        (text(&error["code"]), text(&error["fix"])),
        ("codex_failed", "npm install -g @openai/codex@0.169.0"),
        "{error}"
    );
    let state = up.line("codex failed", |line| line["event"] == "codex" && line["state"] == "failed").await;
    has(
        &state,
        &[
            "environment",
            "state",
            "adapter",
            "address",
            "version",
            "joined",
            "keys",
            "keys_reason",
            "chatgpt_remote",
            "troubles",
            "reason",
            "fix",
        ],
    );

    // The host is there all the same, and says so to whoever connects.
    let device = Home::new();
    device.json(&["join", text(&up.event("pairing").await["url"])]).await.ok();
    let connect = finished(bare(&device, &["connect"]), "").await;
    failed(&connect, 1, &["no `codex` on this computer's search path", "npm install -g @openai/codex"]);
    assert_eq!(up.stop().await, Some(0));
}

#[tokio::test]
async fn a_network_address_has_tls_that_is_pinned_and_plain_http_is_refused() {
    let port = free_port().port();
    let public = format!("https://127.0.0.1:{port}");
    let everywhere = format!("0.0.0.0:{port}");
    let mut up = Up::start_at(everywhere.parse().unwrap(), &["--public-url", &public]).await;
    assert_eq!(text(&up.ready["relay_url"]), public);
    let pairing = up.process.event("pairing").await;
    let url = text(&pairing["url"]).to_owned();
    let (address, fragment) = url.split_once('#').unwrap();
    assert_eq!(address, format!("HTTPS://127.0.0.1:{port}/"));

    // The last 32 characters are the fingerprint.
    let forged = format!("{address}#{}{}", &fragment[..fragment.len() - 32], "A".repeat(32));
    let refused = Home::new().run(&["join", &forged]).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("certificate") || refused.err.contains("fingerprint"), "{}", refused.err);
    let plain = format!("HTTP://127.0.0.1:{port}/#{fragment}");
    assert_eq!(Home::new().run(&["join", &plain]).await.code, 1, "plain HTTP towards TLS");

    let device = Home::new();
    device.json(&["join", &url]).await.ok();
    let (_connect, _folder, path) = socket(&device).await;
    client(&path).await.request("thread/list", json!({})).await.unwrap();
    up.stop().await;

    let data = tempfile::tempdir().unwrap();
    let serve = |args: &[&str]| {
        let mut command = Command::new(binary("reachback-relay"));
        command.args(["serve", "--data", data.path().join("relay").to_str().unwrap()]).args(args);
        finished(command, "")
    };
    failed(&serve(&["--listen", &everywhere, "--tls", "off"]).await, 2, &["plain HTTP", "--tls-cert"]);
    failed(
        &serve(&["--listen", &everywhere, "--public-url", "http://relay.example"]).await,
        2,
        &["plain HTTP", "https://"],
    );
    failed(&serve(&["--listen", &everywhere]).await, 2, &["--public-url https://HOST:PORT"]);
    let home = Home::new();
    let codex = codex::program();
    let up = home.run(&["up", "--demo", "--codex-program", codex.to_str().unwrap(), "--listen", &everywhere]).await;
    failed(&up, 1, &["--public-url https://HOST:PORT"]);
}

#[tokio::test]
async fn help_and_errors_name_the_next_step() {
    let home = Home::new();
    let all = home.run(&["--help"]).await.ok().out;
    for (command, words) in [
        ("up", "Without --listen the relay is for this computer only."),
        ("host", "one-time enrolment key; it is needed once."),
        ("pair", "type them here."),
        ("devices", "A device is named by its name, its id, or the start of its id."),
        ("status", "Keys are protected when commands that Codex runs can't read them"),
        ("workspace", "cd ~/src/shop && reachback workspace add"),
        ("join", "it asks for the typed code."),
        ("hosts", "whether they are online"),
        ("connect", "after longer ones the terminal UI reconnects by itself"),
        ("connect", "  reachback connect HOST --stdio\n"),
    ] {
        assert!(all.contains(&format!("\n  {command} ")), "{command} is not in\n{all}");
        let help = home.run(&[command, "--help"]).await.ok().out;
        assert!(help.contains(words), "no `{words}` in\n{help}");
        assert!(help.contains("Options of every command:"), "{help}");
    }
    for wrong in [
        &["bogus"][..],
        &["devices", "scope", "x", "everything"],
        &["up", "--listen", "nowhere"],
        &["connect", "--socket", "x", "--", "y"],
    ] {
        failed(&home.run(wrong).await, 2, &["--help"]);
    }
    for (args, words) in [
        (&["connect"][..], &["not paired with a host yet", "reachback join URL"][..]),
        (&["connect", "vm"], &["there is no host yet"]),
        (&["pair", "--yes"], &["no agent runs on", "reachback up"]),
        (&["join", "relay.example"], &["https://relay.example.com"]),
        (&["join", "https://relay.example/#ABC"], &["copy the whole link"]),
        (&["join", "http://127.0.0.1:9/#"], &["copy"]),
        (
            &["host", "--relay", "https://r.example", "--enroll-file", "/nonexistent"],
            &["/nonexistent", "reachback-relay enroll"],
        ),
        (&["host", "--relay", "http://127.0.0.1:9", "--transport", "quic"], &["plain HTTP", "leave --transport out"]),
    ] {
        failed(&home.run(args).await, 1, words);
    }
    let up = Up::start().await;
    failed(&up.home.run(&["pair"]).await, 1, &["no terminal", "--yes"]);
    failed(&up.home.json(&["pair"]).await, 1, &[]);
    up.stop().await;
}
