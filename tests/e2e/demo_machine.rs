//! `up --demo --ssh`: a machine of the demo's own, over a real SSH server, as a person tries it.

use std::path::Path;

use e2e::codex;
use e2e::process::Home;
use e2e::rpc::Client;
use reachback_proto::words::quote;
use serde_json::json;
use tokio::net::UnixStream;

/// Processes that run a program of this folder.
fn running(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let line = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    all.filter(|line| line.contains(folder)).collect()
}

#[tokio::test]
async fn a_machine_of_the_demos_own_is_worked_on_and_nothing_of_it_runs_on() {
    let (home, device) = (Home::new(), Home::new());
    let codex = codex::program();
    let args = [
        "up",
        "--demo",
        "--ssh",
        "--listen",
        "127.0.0.1:0",
        "--codex-program",
        codex.to_str().unwrap(),
        "--name",
        "tower",
    ];
    let mut up = home.start(&args);
    let url = up.event("pairing").await["url"].as_str().unwrap().to_owned();
    device.json(&["join", &url]).await.ok();
    let listed = home.json(&["ssh", "list"]).await.ok();
    let machine = listed.event("ssh_host");
    assert_eq!((&machine["alias"], &machine["added"]), (&json!("devbox"), &json!(true)), "{machine}");

    let account = home.path().with_file_name("state-machine");
    let project = account.join("project").canonicalize().unwrap();
    let folder = home.folder("socket");
    let socket = folder.join("codex.sock");
    let mut connect = device.start(&["connect", "--env", "ssh:devbox", "--socket", socket.to_str().unwrap()]);
    connect.event("socket").await;
    let stream = UnixStream::connect(&socket).await.unwrap();
    let (socket, _) = tokio_tungstenite::client_async("ws://localhost/", stream).await.unwrap();
    let mut client = Client::over(socket).await;
    let started = client.request("thread/start", json!({ "cwd": project })).await.unwrap();
    let thread = started["thread"]["id"].as_str().unwrap().to_owned();
    client.prompt(&thread, "@esc touch made-there").await;
    let asked = client.event("item/commandExecution/requestApproval").await;
    client.decide(&asked, "accept").await;
    client.event("turn/completed").await;
    assert!(project.join("made-there").exists());
    let there = running(&account);
    assert!(!there.is_empty(), "no Codex of {} runs, so this shows nothing", quote(account.display()));

    connect.stop().await;
    assert_eq!(up.stop().await, Some(0));
    assert_eq!(running(&account), [] as [String; 0], "left behind");

    // Without it, nothing of it is seen.
    let mut up = home.start(&args.iter().copied().filter(|arg| *arg != "--ssh").collect::<Vec<_>>());
    up.event("ready").await;
    let listed = home.json(&["ssh", "list"]).await.ok();
    assert!(listed.lines().iter().all(|line| line["event"] != "ssh_host"), "{listed:?}");
    assert_eq!(up.stop().await, Some(0));
}
