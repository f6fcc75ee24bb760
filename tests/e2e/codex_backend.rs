//! `CodexBackend` with the real Codex: start, share, survive; turns, approvals, interrupts.

use e2e::codex::{self, TestCodex, ready, until};
use e2e::process::{Home, Process, signal};
use e2e::rpc::Client;
use e2e::sshd::is_private;
use e2e::stage::TestRelay;
use reachback_host::codex::app_server::AppServer;
use reachback_host::codex::{CodexBackend, CodexConfig, CodexState, Instance, StartedBy};
use serde_json::json;

fn instance(state: CodexState) -> (Instance, StartedBy, Option<String>) {
    match state {
        CodexState::Ready { instance, started_by, version } => (instance, started_by, version),
        other => panic!("wanted a Codex that is ready, got {other:?}"),
    }
}

#[tokio::test]
async fn the_scripted_model_is_known_and_the_only_one() {
    let test = TestCodex::prepare().await;
    let backend = test.backend();
    let mut client = Client::connect(&backend).await;
    let models = client.request("model/list", json!({ "includeHidden": true })).await.unwrap();
    let names: Vec<_> = models["data"].as_array().unwrap().iter().map(|model| &model["model"]).collect();
    assert_eq!(names, ["reachback-demo"], "{models}");
    let thread = client.thread(&test).await;
    client.prompt(&thread, "@text N=1").await;
    client.event("turn/completed").await;
    let warnings = client.take("warning");
    assert!(!warnings.iter().any(|warning| warning.to_string().contains("metadata")), "{warnings:?}");
    backend.stop().await;
}

#[tokio::test]
async fn the_tour_edits_a_file() {
    let test = TestCodex::prepare().await;
    let backend = test.backend();
    let mut client = Client::connect(&backend).await;
    let thread = client.thread(&test).await;
    client.prompt(&thread, "edit").await;
    let change = |message: &serde_json::Value| {
        message["method"] == "item/completed" && message["params"]["item"]["type"] == "fileChange"
    };
    let changed = client.until("a file change", change).await;
    assert_eq!(changed["params"]["item"]["status"], "completed", "{changed}");
    client.event("turn/completed").await;
    let written = std::fs::read_to_string(test.home.project().join("hello.md")).unwrap();
    assert!(written.starts_with("Hello!"), "{written}");
    backend.stop().await;
}

#[tokio::test]
async fn a_denied_folder_stays_closed_even_to_an_approved_command() {
    let test = TestCodex::prepare().await;
    let keys = test.home.codex_home().parent().unwrap().join("the keys");
    std::fs::create_dir(&keys).unwrap();
    std::fs::write(keys.join("key"), "SECRET").unwrap();
    let backend = AppServer::start(CodexConfig { profiles: Some(test.profiles(vec![keys.clone()])), ..test.config() });
    let mut client = Client::connect(&backend).await;
    let thread = client.thread(&test).await;
    let read = format!("cat '{}'; touch allowed", keys.join("key").display());
    for (prompt, asks) in [(format!("@shell {read}"), false), (format!("@esc {read}"), true)] {
        client.prompt(&thread, &prompt).await;
        if asks {
            let asked = client.event("item/commandExecution/requestApproval").await;
            client.send(&json!({ "id": asked["id"], "result": { "decision": "accept" } })).await;
        }
        client.event("turn/completed").await;
        let items = client.take("item/completed");
        let is_command = |item: &&serde_json::Value| item["params"]["item"]["type"] == "commandExecution";
        let output = &items.iter().find(is_command).expect("no command ran")["params"]["item"]["aggregatedOutput"];
        assert!(!output.to_string().contains("SECRET"), "{prompt} read the key: {output}");
        assert!(output.to_string().contains("denied"), "{prompt}: {output}");
        assert!(test.home.project().join("allowed").exists(), "{prompt} could not write in the project");
        std::fs::remove_file(test.home.project().join("allowed")).unwrap();
    }
    backend.stop().await;
}

#[tokio::test]
async fn a_second_agent_joins_and_shares_the_threads() {
    let test = TestCodex::prepare().await;
    let first = test.backend();
    ready(&first).await;
    let second = test.backend();
    assert_eq!(instance(ready(&second).await).1, StartedBy::Others);

    let mut here = Client::connect(&first).await;
    let thread = here.thread(&test).await;
    here.prompt(&thread, "@text N=3").await;
    here.event("turn/completed").await;

    let mut there = Client::connect(&second).await;
    let resumed = there.request("thread/resume", json!({ "threadId": thread })).await.unwrap();
    assert_eq!(resumed["thread"]["turns"][0]["status"], "completed", "{resumed}");
    there.prompt(&thread, "@esc true").await;
    let asked = here.event("item/commandExecution/requestApproval").await;
    there.event("item/commandExecution/requestApproval").await;
    here.send(&json!({ "id": asked["id"], "result": { "decision": "accept" } })).await;
    there.event("serverRequest/resolved").await;
    there.event("turn/completed").await;

    second.stop().await;
    here.request("thread/loaded/list", json!({})).await.expect("stopping the second agent ended Codex");
    first.stop().await;
}

#[tokio::test]
async fn a_wrapper_killed_alone_takes_its_server_along() {
    let test = TestCodex::prepare().await;
    let backend = test.backend();
    let (before, ..) = instance(ready(&backend).await);
    let server = test.server().await;
    let parent = std::process::Command::new("ps").args(["-o", "ppid=", "-p", &server.to_string()]).output().unwrap();
    let wrapper = String::from_utf8(parent.stdout).unwrap().trim().parse().unwrap();
    signal("-KILL", wrapper);
    let again = until(&backend, "started again", |state| match state {
        CodexState::Ready { instance, .. } => *instance != before,
        _ => false,
    });
    // Joining the orphan instead would leave it behind when the agent stops.
    assert_eq!(instance(again.await).1, StartedBy::Agent);
    assert_ne!(test.server().await, server);
    backend.stop().await;
}

#[tokio::test]
async fn when_the_joined_codex_ends_the_agent_starts_its_own() {
    let test = TestCodex::prepare().await;
    let owner = test.backend();
    ready(&owner).await;
    let guest = test.backend();
    assert_eq!(instance(ready(&guest).await).1, StartedBy::Others);
    owner.stop().await;
    let own = |state: &CodexState| matches!(state, CodexState::Ready { started_by: StartedBy::Agent, .. });
    until(&guest, "started", own).await;
    Client::connect(&guest).await;
    guest.stop().await;
}

#[tokio::test]
async fn who_never_ran_codex_gets_its_folder_and_one_that_is_named_and_missing_is_said_to_be() {
    let (relay, home) = (TestRelay::start().await, Home::new());
    let (url, enroll) = (format!("http://{}", relay.addr), relay.ready["enroll_file"].as_str().unwrap());
    let codex = codex::program();
    // Below the temporary folder Codex makes none by itself.
    let user = tempfile::tempdir().unwrap();
    let args = ["host", "--json", "--relay", &url, "--enroll-file", enroll, "--codex-program", codex.to_str().unwrap()];
    let mut command = home.command(&args);
    command.env_remove("CODEX_HOME").env("HOME", user.path());
    let mut host = Process::spawn("reachback host", command);
    host.line("codex ready", |line| line["event"] == "codex" && line["state"] == "ready").await;
    assert!(is_private(&user.path().join(".codex")));
    assert_eq!(host.stop().await, Some(0));

    let missing = home.path().join("gone");
    let named = ["host", "--codex-home", missing.to_str().unwrap(), "--codex-program", codex.to_str().unwrap()];
    let mut host = home.start(&named);
    let error = host.line("that there is no folder", |line| line["event"] == "error").await;
    assert!(error["message"].as_str().unwrap().contains("there is no folder “"), "{error}");
    assert!(error["fix"].as_str().unwrap().starts_with("make it: mkdir -p /"), "{error}");
    assert!(!missing.exists());
    assert_eq!(host.stop().await, Some(0));
}
