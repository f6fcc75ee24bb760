//! What the firewall keeps of Codex's words from a device: the host's owner reads it, and nobody else.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use e2e::process::{Home, Process, free_port};
use e2e::rpc::Client;
use e2e::{PATIENCE, codex, eventually};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// What Codex says of a line that it can't read has all of it.
const SECRET: &str = "sk-SWORDFISH";
/// Where the owner reads it, as the device is told.
const READ: &str = "`reachback status --withheld` there shows what was kept last";

/// The arguments of `up` with the real Codex and a scripted model.
fn up<'a>(listen: &'a str, codex: &'a Path) -> [&'a str; 6] {
    ["up", "--demo", "--listen", listen, "--codex-program", codex.to_str().unwrap()]
}

/// A project whose configuration Codex can't read, and says why.
fn break_configuration(project: &Path) {
    std::fs::create_dir_all(project.join(".codex")).unwrap();
    std::fs::write(project.join(".codex/config.toml"), format!("model = \"x\"\napi_key = \"{SECRET}\" oops\n"))
        .unwrap();
}

/// A client of a device, which its process leads to the host.
async fn client(device: &Home) -> (Process, Client) {
    let socket = device.folder("socket").join("codex.sock");
    let mut connect = device.start(&["connect", "--socket", socket.to_str().unwrap()]);
    connect.event("socket").await;
    let stream = UnixStream::connect(&socket).await.unwrap();
    let (socket, _) = tokio_tungstenite::client_async("ws://localhost/", stream).await.unwrap();
    (connect, Client::over(socket).await)
}

/// What a device is told of a thread that can't begin.
async fn fails(client: &mut Client, project: &Path) -> String {
    let error = client.request("thread/start", json!({ "cwd": project })).await.unwrap_err();
    assert!(!error.to_string().contains(SECRET), "the device was told: {error}");
    let said = error["message"].as_str().unwrap().to_owned();
    assert!(said.contains("at line 2, column") && said.contains(READ), "{said}");
    said
}

/// What is written below a folder, and in which files it is.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            found.extend(files(&path));
        } else if kind.is_file() {
            // Some are gone by now.
            found.extend(std::fs::read(&path).ok().map(|bytes| (path, bytes)));
        }
    }
    found
}

fn holds(bytes: &[u8], words: &str) -> bool {
    bytes.windows(words.len()).any(|part| part == words.as_bytes())
}

#[tokio::test]
async fn what_an_error_quotes_is_told_the_owner_and_no_device_and_no_log() {
    let (home, device) = (Home::new(), Home::new());
    let (listen, codex) = (free_port().to_string(), codex::program());
    let log = home.folder("log").join("up.log");
    let mut command = home.command(&up(&listen, &codex));
    command.args(["--json", "--log", "trace"]).stderr(File::create(&log).unwrap());
    let mut process = Process::spawn("reachback up", command);
    let url = process.event("pairing").await["url"].as_str().unwrap().to_owned();
    device.json(&["join", &url, "--name", "laptop"]).await.ok();
    let id = process.event("paired").await["device_id"].clone();
    process.line("codex ready", |line| line["event"] == "codex" && line["state"] == "ready").await;
    let none = home.run(&["status", "--withheld"]).await.ok().out;
    assert!(none.starts_with("Nothing that Codex said was kept"), "{none}");
    assert!(!home.run(&["status"]).await.ok().out.contains("Withheld"));

    break_configuration(&home.project());
    let (mut connect, mut client) = client(&device).await;
    fails(&mut client, &home.project()).await;
    let told = process.event("withheld").await;
    assert_eq!((&told["device_id"], &told["environment"]), (&id, &json!("local")), "{told}");
    assert_eq!((&told["method"], &told["cut"]), (&json!("thread/start"), &json!(0)), "{told}");
    assert!(told["text"].as_str().unwrap().contains(SECRET), "the owner was not told: {told}");
    // The same a moment later is not told again.
    fails(&mut client, &home.project()).await;

    let status = home.run(&["status"]).await.ok().out;
    assert!(status.contains("reachback status --withheld") && !status.contains(SECRET), "{status}");
    assert_eq!(home.json(&["status"]).await.ok().event("status")["withheld"], 1);
    let read = home.run(&["status", "--withheld"]).await.ok().out;
    assert!(read.contains(SECRET) && read.contains("kept from device “laptop” (local, thread/start):\n  | "), "{read}");
    let [listed] = &home.json(&["status", "--withheld"]).await.ok().lines()[..] else { panic!("one: {read}") };
    assert_eq!((&listed["event"], &listed["text"]), (&json!("withheld"), &told["text"]));

    connect.stop().await;
    assert_eq!(process.stop().await, Some(0));
    let again: Vec<Value> = process.rest().await.into_iter().filter(|line| line["event"] == "withheld").collect();
    assert_eq!(again, [] as [Value; 0], "told twice");
    let traced = std::fs::read(&log).unwrap();
    assert!(holds(&traced, " DEBUG "), "nothing was traced, so this shows nothing");
    // Codex's own files may have it, as its project has.
    let written = [files(&home.path().join("host")), files(&home.path().join("relay")), files(&device.path())].concat();
    assert!(!written.is_empty());
    let traced = (log, traced);
    let leaked = written.iter().chain([&traced]).filter(|(_, bytes)| holds(bytes, SECRET));
    let leaked: Vec<_> = leaked.map(|(path, _)| path).collect();
    assert!(leaked.is_empty(), "it is in {leaked:?}");
}

/// Waits until the agent is there that has `said` this, and has Codex.
async fn runs(home: &Home, said: impl Fn() -> String) {
    // Before that, `status` would look at files that the agent wants for itself when it starts.
    eventually("the agent is there", || said().contains("Add one: reachback pair")).await;
    let mut status = String::new();
    let looking = async {
        while !status.contains("started by the agent") {
            let found = home.run(&["status"]).await;
            status = found.out + &found.err;
        }
    };
    let is_there = timeout(PATIENCE, looking).await.is_ok();
    assert!(is_there, "no agent with a Codex runs:\n{status}\nit said:\n{}", said());
}

#[tokio::test]
async fn a_terminal_shows_what_was_kept_and_what_is_no_terminal_only_that_something_was() {
    let (home, device) = (Home::new(), Home::new());
    let (listen, codex) = (free_port().to_string(), codex::program());
    let args = up(&listen, &codex);
    let mut process = home.start(&args);
    let url = process.event("pairing").await["url"].as_str().unwrap().to_owned();
    device.json(&["join", &url, "--name", "laptop"]).await.ok();
    process.event("paired").await;
    // A Codex that is ended while it makes its files keeps the next one waiting for them.
    process.line("codex ready", |line| line["event"] == "codex" && line["state"] == "ready").await;
    assert_eq!(process.stop().await, Some(0));
    break_configuration(&home.project());
    let out = home.folder("log").join("up.out");

    let terminal = home.terminal(&args);
    runs(&home, || terminal.everything()).await;
    let (mut connect, mut client) = self::client(&device).await;
    fails(&mut client, &home.project()).await;
    terminal.until("the owner is told", |screen| screen.contains("Kept from device ") && screen.contains(SECRET)).await;
    home.json(&["stop"]).await.ok();
    terminal.shows("[exit code 0]").await;
    assert_eq!(connect.stop().await, Some(0));

    let mut command = home.command(&args);
    let mut service =
        command.stdin(Stdio::null()).stdout(File::create(&out).unwrap()).kill_on_drop(true).spawn().unwrap();
    let said = || std::fs::read_to_string(&out).unwrap();
    runs(&home, said).await;
    let (mut connect, mut client) = self::client(&device).await;
    fails(&mut client, &home.project()).await;
    eventually("the owner is told", || said().contains("Kept something from device ")).await;
    assert!(said().contains("reachback status --withheld shows it") && !said().contains(SECRET), "{}", said());
    assert!(home.run(&["status", "--withheld"]).await.ok().out.contains(SECRET));
    home.json(&["stop"]).await.ok();
    let ended = timeout(PATIENCE, service.wait()).await.expect("it does not end").unwrap();
    assert!(ended.success(), "{ended}");
    assert_eq!(connect.stop().await, Some(0));
}
