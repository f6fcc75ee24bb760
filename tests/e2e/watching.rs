//! What a device sees that may only look: threads that are loaded stay so for it, and nothing is loaded for it.

use std::time::Duration;

use e2e::PATIENCE;
use e2e::rpc::Client;
use e2e::stage::{Stage, client};
use reachback_proto::scope::Scope;
use serde_json::{Value, json};
use tokio::time::{interval, timeout};

/// Joins a thread as soon as that is possible; the agent follows a new one a moment after its first turn began.
async fn joined(device: &mut Client, thread: &str) -> Value {
    let joining = async {
        let mut tries = interval(Duration::from_millis(20));
        loop {
            tries.tick().await;
            match device.request("thread/resume", json!({ "threadId": thread })).await {
                Ok(resumed) => return resumed,
                Err(error) => assert_eq!(error["data"]["needed"], "steer", "{error}"),
            }
        }
    };
    timeout(PATIENCE, joining).await.expect("the agent does not follow the thread")
}

#[tokio::test]
async fn a_thread_stays_for_viewers_after_its_terminal_left_and_as_it_was() {
    let stage = Stage::start().await;
    let viewer = stage.pair(Scope::View).await;
    let remote = viewer.connect().await;
    let mut terminal = Client::connect(&*stage.backend).await;
    let started = terminal.request("thread/start", json!({ "cwd": stage.codex.home.project() })).await.unwrap();
    let (thread, profile) = (started["thread"]["id"].as_str().unwrap().to_owned(), &started["activePermissionProfile"]);
    terminal.prompt(&thread, "@text N=1").await;
    terminal.event("turn/completed").await;
    let mut device = client(&remote).await;
    assert_eq!(joined(&mut device, &thread).await["activePermissionProfile"], *profile);

    // Nobody else follows it then, and what a resume says would count.
    drop(terminal);
    device.request("thread/unsubscribe", json!({ "threadId": thread })).await.unwrap();
    drop(device);
    let mut again = client(&remote).await;
    let resumed = again.request("thread/resume", json!({ "threadId": thread })).await.unwrap();
    assert_eq!(resumed["activePermissionProfile"], *profile, "the viewer changed what the thread may do");
    stage.stop().await;
}

#[tokio::test]
async fn the_agent_names_the_server_and_not_its_first_device() {
    let stage = Stage::start().await;
    let device = stage.pair(Scope::Steer).await;
    let remote = device.connect().await;
    let mut device = client(&remote).await;
    let started = device.request("thread/start", json!({})).await.unwrap();
    assert_eq!(started["thread"]["originator"], "reachback", "{started}");
    stage.stop().await;
}
