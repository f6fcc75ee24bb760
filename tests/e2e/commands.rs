//! The commands around the others: stop, completions, manual pages, and what is said to who asks wrongly.

use std::net::TcpListener;

use e2e::process::{Finished, Home, Up, binary, finished};
use serde_json::{Value, json};
use tokio::process::Command;

/// The relay's program with these arguments, in no environment of ours.
async fn relay(args: &[&str]) -> Finished {
    let mut command = Command::new(binary("reachback-relay"));
    command.args(args).env_remove("REACHBACK_RELAY_DATA");
    finished(command, "").await
}

#[tokio::test]
async fn stop_ends_agent_relay_and_codex_and_is_no_failure_where_none_runs() {
    let mut up = Up::start().await;
    let pid = up.process.pid();
    let stopped = up.home.json(&["stop"]).await.ok();
    assert_eq!(stopped.event("stopped")["pid"], json!(pid));
    // It is over when the command is: another agent may have the home.
    let again = up.home.json(&["stop"]).await.ok();
    assert_eq!(again.event("stopped")["pid"], Value::Null);
    assert_eq!(up.process.exit().await, Some(0));
    let words = up.home.run(&["stop"]).await.ok().out;
    assert!(words.starts_with("No agent runs on "), "{words}");
    up.restart().await;
    let words = up.home.run(&["stop"]).await.ok().out;
    assert!(words.contains(&format!("The agent has stopped (it was process {}).", up.process.pid())), "{words}");
}

#[tokio::test]
async fn both_programs_complete_and_have_pages() {
    let home = Home::new();
    let script = home.run(&["completions", "bash"]).await.ok().out;
    assert!(script.contains("complete -F _reachback") && script.contains("workspace"), "{script}");
    // A shell takes it.
    let mut bash = Command::new("bash");
    bash.args(["-c", "eval \"$1\" && complete -p reachback", "bash", &script]);
    let known = finished(bash, "").await.ok().out;
    assert!(known.contains("_reachback"), "{known}");
    let script = relay(&["completions", "zsh"]).await.ok().out;
    assert!(script.starts_with("#compdef reachback-relay"), "{script}");

    let man = home.folder("man1");
    let written = home.run(&["man", "--dir", man.to_str().unwrap()]).await.ok().out;
    for name in ["reachback.1", "reachback-devices-revoke.1", "reachback-host-install.1", "reachback-stop.1"] {
        let path = man.join(name);
        assert!(written.lines().any(|line| line == path.display().to_string()), "no {name} in\n{written}");
        assert!(std::fs::read_to_string(&path).unwrap().contains(".SH SYNOPSIS"), "{name}");
    }
    let page = relay(&["man"]).await.ok().out;
    assert!(page.contains("reachback\\-relay") && page.contains("reachback\\-relay\\-serve"), "{page}");
    let refused = home.run(&["man", "--dir", "/dev/null/man"]).await;
    assert!(refused.code == 1 && refused.err.contains("pages can't be written"), "{refused:?}");
}

#[tokio::test]
async fn who_asks_wrongly_as_a_program_gets_a_line() {
    let home = Home::new();
    for args in [&["devices", "foo"][..], &["hosts", "--al"], &["join", "a", "b", "c"], &["up", "--listen", "nowhere"]]
    {
        let refused = home.json(args).await;
        assert_eq!(refused.code, 2, "{args:?}: {refused:?}");
        let error = refused.event("error");
        assert_eq!((&error["code"], refused.err.as_str()), (&json!("usage"), ""), "{error}");
        assert!(error["message"].is_string() && error.get("fix").is_some(), "{error}");
    }
    let refused = relay(&["serve", "--json", "--data"]).await;
    assert_eq!((refused.code, &refused.event("error")["code"]), (2, &json!("usage")));
}

#[tokio::test]
async fn a_port_that_is_taken_names_the_way_to_a_free_one() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let home = Home::new();
    let codex = e2e::codex::program();
    let up = home.json(&["up", "--listen", &listen, "--codex-program", codex.to_str().unwrap()]).await;
    let error = up.event("error");
    assert_eq!((up.code, &error["code"]), (1, &json!("relay")), "{error}");
    assert!(error["fix"].as_str().unwrap().contains("--listen 127.0.0.1:0 takes a free port"), "{error}");
    let data = home.path().join("relay-data");
    let alone = relay(&["serve", "--listen", &listen, "--data", data.to_str().unwrap()]).await;
    assert!(alone.code == 1 && alone.err.contains("--listen 127.0.0.1:0 takes a free port"), "{alone:?}");
}

#[tokio::test]
async fn a_codex_that_fails_again_and_again_is_told_once() {
    let home = Home::new();
    let mut up = home.start(&["up", "--listen", "127.0.0.1:0", "--codex-program", "no-such-codex"]);
    let error = up.event("error").await;
    assert_eq!(error["code"], "codex_failed", "{error}");
    for _ in 0..3 {
        up.line("codex failed", |line| line["event"] == "codex" && line["state"] == "failed").await;
    }
    up.signal("-TERM");
    let code = up.exit().await;
    let printed = up.rest().await;
    assert_eq!(code, Some(0), "{printed:?}");
    assert!(!printed.iter().any(|line| line["event"] == "error"), "it was told with each try: {printed:?}");

    // The code may come before or after; with its picture it is 30 rows, and what was said has to stay in sight.
    let args = ["up", "--listen", "127.0.0.1:0", "--codex-program", "no-such-codex"];
    let terminal = home.sized_terminal((110, 80), &args);
    terminal.shows("[Y/n]").await;
    terminal.press(&["n", "Enter"]);
    terminal.shows("Codex is not running: “no-such-codex” was not found").await;
    terminal.shows("reachback join").await;
    terminal.press(&["C-c"]);
    let code = terminal.exit().await;
    let said = terminal.everything();
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.matches("was not found").count(), 1, "{said}");
    assert!(!said.contains("WARN"), "{said}");
}

#[tokio::test]
async fn a_pause_by_name_says_its_way_back_and_both_are_in_the_list_and_the_audit_log_with_and_without_an_agent() {
    let mut up = Up::start().await;
    let _device = up.device("laptop").await;
    for is_running in [true, false] {
        if !is_running {
            assert_eq!(up.process.stop().await, Some(0));
        }
        let said = up.home.run(&["devices", "pause", "laptop"]).await.ok().out;
        assert!(said.contains("“laptop” is kept out until `reachback devices resume laptop`."), "{said}");
        let listed = up.home.json(&["devices"]).await.ok().event("device");
        assert_eq!((&listed["state"], &listed["paused"]), (&json!("paused"), &json!(true)));
        let paused = up.home.json(&["devices", "pause"]).await.ok().event("paused");
        assert_eq!(paused, json!({ "event": "paused", "on": true, "device": null }));
        let said = up.home.run(&["devices", "resume", "laptop"]).await.ok().out;
        assert!(said.contains("“laptop” is let in again when all are: `reachback devices resume`"), "{said}");
        let listed = up.home.run(&["devices"]).await.ok().out;
        assert!(listed.contains("paused (as all are)"), "{listed}");
        let said = up.home.run(&["devices", "resume"]).await.ok().out;
        assert!(said.contains("Devices are let in again"), "{said}");
        let said = up.home.run(&["devices", "resume", "laptop"]).await.ok().out;
        assert_eq!(said.trim(), "“laptop” is let in again.");
    }
    let audit = up.home.json(&["audit"]).await.ok().lines();
    let changes: Vec<_> = audit.iter().filter_map(|line| line["event"].as_str()).collect();
    let one = ["paused", "paused", "resumed", "resumed", "resumed"];
    assert_eq!(changes, [&["paired"], &one[..], &one[..]].concat(), "{audit:?}");
}

#[tokio::test]
async fn what_cannot_be_recorded_is_revoked_all_the_same_where_no_agent_runs() {
    let mut up = Up::start().await;
    let _device = up.device("laptop").await;
    assert_eq!(up.process.stop().await, Some(0));
    // Nobody can write a log there, not root either.
    let audit = up.home.path().join("host").join("audit");
    let _ = std::fs::remove_dir_all(&audit);
    std::fs::write(&audit, "").unwrap();
    let refused = up.home.run(&["devices", "scope", "laptop", "admin"]).await;
    assert_eq!(refused.code, 1, "what gives is not done where it can't be recorded: {refused:?}");
    let revoked = up.home.run(&["devices", "revoke", "laptop"]).await.ok();
    assert!(revoked.err.contains("not recorded"), "{revoked:?}");
    assert!(up.home.run(&["devices"]).await.ok().out.contains("No devices"));
}
