//! `reachback status`, and what it and others say about the keys.

use e2e::codex;
use e2e::eventually;
use e2e::process::{Home, Process, Up};
use reachback_host::codex::CodexConfig;
use serde_json::{Value, json};
use tokio::process::Command;

/// The members of a `status` line.
const MEMBERS: [&str; 17] = [
    "event",
    "running",
    "home",
    "version",
    "pid",
    "started_at",
    "host_id",
    "host_name",
    "relay_url",
    "fingerprint",
    "devices",
    "connected",
    "paused",
    "round_trip_us",
    "threads",
    "last_errors",
    "withheld",
];

#[track_caller]
fn has_members(line: &Value) {
    let mut found: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
    let mut wanted = MEMBERS;
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted, "{line}");
}

/// `up` with a real Codex whose configuration ends in `config`; waits until it is ready, and gives that line.
async fn up_with(home: &Home, config: &str) -> (Process, Value) {
    std::fs::write(home.codex_home().join("config.toml"), format!("check_for_update_on_startup = false\n{config}\n"))
        .unwrap();
    let codex = codex::program();
    let mut up = home.start(&["up", "--listen", "127.0.0.1:0", "--codex-program", codex.to_str().unwrap()]);
    let ready = up.line("codex ready", |line| line["event"] == "codex" && line["state"] == "ready").await;
    (up, ready)
}

#[tokio::test]
async fn status_tells_what_there_is_with_and_without_an_agent() {
    let mut up = Up::start().await;
    let _device = up.device("laptop").await;
    let status = up.home.json(&["status"]).await.ok();
    let line = status.event("status");
    has_members(&line);
    for member in ["host_id", "host_name", "relay_url", "fingerprint"] {
        assert_eq!(line[member], up.ready[member], "{line}");
    }
    assert_eq!((&line["running"], &line["pid"]), (&json!(true), &json!(up.process.pid())));
    assert_eq!((&line["devices"], &line["connected"], &line["paused"]), (&json!(1), &json!(0), &json!(false)));
    assert!(line["round_trip_us"].as_u64().is_some_and(|time| time > 0), "{line}");
    assert_eq!((&line["threads"], &line["last_errors"]), (&json!({ "running": 0, "waiting": 0 }), &json!([])));
    let names: Vec<_> = status.lines().iter().map(|line| line["event"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, ["status", "tunnel", "codex", "workspace"]);
    assert_eq!(status.event("tunnel")["state"], "connected");
    let codex = status.event("codex");
    assert_eq!((&codex["version"], &codex["joined"]), (&json!("0.169.0"), &json!(false)));
    assert_eq!((&codex["keys"], &codex["keys_reason"]), (&json!("protected"), &Value::Null));
    let workspace = status.event("workspace");
    assert_eq!((&workspace["path"], &workspace["open"]), (&json!(up.home.project()), &json!(true)));

    let pid = up.process.pid();
    let project = up.home.project().display().to_string();
    let running = up.home.run(&["status"]).await.ok().out;
    for words in [
        &*format!("process {pid}"),
        "connected",
        "0.169.0, app-server, started by the agent",
        "protected: commands that Codex runs can't",
        "1 paired",
        &project,
    ] {
        assert!(running.contains(words), "no `{words}` in\n{running}");
    }
    let devices = up.home.run(&["devices"]).await.ok().out;
    assert!(devices.contains("Reachback's keys are protected: commands that Codex runs can't read them."), "{devices}");

    assert_eq!(up.process.stop().await, Some(0));
    let status = up.home.json(&["status"]).await.ok();
    let line = status.event("status");
    has_members(&line);
    assert_eq!((&line["running"], &line["devices"]), (&json!(false), &json!(1)));
    assert_eq!(
        (&line["round_trip_us"], &line["threads"], &line["last_errors"]),
        (&json!(null), &json!(null), &json!([]))
    );
    for member in ["host_id", "host_name", "relay_url", "fingerprint"] {
        assert_eq!(line[member].is_string(), up.ready[member].is_string(), "{line}");
    }
    assert_eq!(status.event("workspace")["path"], json!(up.home.project()));
    let stopped = up.home.run(&["status"]).await.ok().out;
    for words in ["not running; start it: reachback up", "1 paired", &project] {
        assert!(stopped.contains(words), "no `{words}` in\n{stopped}");
    }
    let devices = up.home.run(&["devices"]).await.ok().out;
    assert!(!devices.contains("keys are"), "nothing can be said while no agent runs: {devices}");
}

#[tokio::test]
async fn status_that_is_watched_follows_the_agent() {
    let mut up = Up::start().await;
    let watching = up.home.terminal(&["status", "--watch"]);
    watching
        .until("the relay is there", |screen| screen.contains(", connected, ") && screen.contains(" ms away"))
        .await;
    assert_eq!(up.process.stop().await, Some(0));
    watching.until("it has stopped", |screen| screen.contains("not running; start it: reachback up")).await;
    let screen = watching.screen();
    assert_eq!(screen.matches("Folders").count(), 1, "what was before is still there:\n{screen}");
    watching.press(&["C-c"]);
    assert_eq!(watching.exit().await, 0);
}

#[tokio::test]
async fn what_could_not_be_recorded_is_said_in_words_with_and_without_an_agent() {
    let mut up = Up::start().await;
    let _device = up.device("laptop").await;
    let owner = up.home.path().join("host/audit/owner.jsonl");
    std::fs::remove_file(&owner).unwrap();
    std::fs::create_dir(&owner).unwrap();
    up.home.run(&["devices", "pause", "laptop"]).await.ok();
    let error = up.process.event("error").await;
    assert_eq!(error["code"], "unrecorded", "{error}");
    for words in ["not recorded: the audit log", "owner.jsonl"] {
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
    }
    assert!(error["fix"].as_str().unwrap().starts_with("make room on the disk"), "{error}");
    let line = up.home.json(&["status"]).await.ok().event("status");
    assert_eq!(line["last_errors"][0]["message"], error["message"], "{line}");
    assert_eq!(up.process.stop().await, Some(0));

    let done = up.home.run(&["devices", "revoke", "laptop"]).await.ok();
    assert!(done.err.starts_with("This is not recorded: the audit log"), "{done:?}");
    assert!(!done.err.contains("ERROR"), "{done:?}");
}

#[tokio::test]
async fn keys_that_codex_is_not_kept_from_are_spoken_of_everywhere() {
    let home = Home::new();
    for (config, keys, word, why) in [
        ("", "partly", "partly protected", "chooses no sandbox for other threads"),
        ("sandbox_mode = 'danger-full-access'", "unprotected", "not protected", "danger-full-access"),
    ] {
        let (mut up, ready) = up_with(&home, config).await;
        assert_eq!((ready["keys"].as_str(), &ready["joined"]), (Some(keys), &json!(false)), "{ready}");
        let reason = ready["keys_reason"].as_str().unwrap();
        assert!(reason.contains(why) && reason.contains("workspace-write"), "no way out in: {reason}");
        let mut known = home.json(&["status"]).await.ok().event("codex");
        // Codex says it on a connection of the agent's, soon after it is ready.
        known["chatgpt_remote"] = ready["chatgpt_remote"].clone();
        assert_eq!(known, ready);
        let (status, devices) = (home.run(&["status"]).await.ok().out, home.run(&["devices"]).await.ok().out);
        assert!(status.contains(&format!("Keys     {word}: {reason}")), "{status}");
        assert!(devices.contains(&format!("Reachback's keys are {word}: {reason}.")), "{devices}");
        assert_eq!(up.stop().await, Some(0));
    }
    let codex = codex::program();
    let folder = home.folder("shop");
    let terminal =
        home.terminal_in(&folder, &["up", "--listen", "127.0.0.1:0", "--codex-program", codex.to_str().unwrap()]);
    terminal.until("the folder is offered", |screen| screen.contains("[Y/n]")).await;
    terminal.press(&["n", "Enter"]);
    terminal.shows("Reachback's keys are not protected: Codex's configuration chooses danger-full-access").await;
    terminal.press(&["C-c"]);
    assert_eq!(terminal.exit().await, 0);
}

#[tokio::test]
async fn a_codex_that_was_joined_is_named_as_one_that_may_read_the_keys() {
    let home = Home::new();
    let sandbox = "sandbox_mode = 'workspace-write'";
    std::fs::write(home.codex_home().join("config.toml"), sandbox).unwrap();
    let mut server = Command::new(codex::program());
    server.args(["app-server", "--listen", "unix://"]).env("CODEX_HOME", home.codex_home());
    let mut server = Process::spawn("codex app-server", server);
    let config = CodexConfig { home: Some(home.codex_home()), ..CodexConfig::default() };
    let socket = config.control_socket().unwrap();
    eventually("codex listens", || socket.exists()).await;
    let (mut up, ready) = up_with(&home, sandbox).await;
    assert_eq!((&ready["keys"], &ready["joined"]), (&json!("unprotected"), &json!(true)), "{ready}");
    let status = home.run(&["status"]).await.ok().out;
    for words in ["running before and joined", "not protected: this Codex was running already and was joined"] {
        assert!(status.contains(words), "no `{words}` in\n{status}");
    }
    assert_eq!(up.stop().await, Some(0));
    server.stop().await;
}
