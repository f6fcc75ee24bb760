//! Who opens a thread in mid-turn gets the text so far, then what follows.

use std::time::Duration;

use e2e::PATIENCE;
use e2e::rpc::Client;
use e2e::stage::{Stage, client, every_piece};
use reachback_proto::scope::Scope;
use serde_json::{Value, json};
use tokio::time::{interval, timeout};

/// Joins a thread as soon as the agent follows it.
async fn join(device: &mut Client, thread: &str) -> Value {
    let joining = async {
        let mut tries = interval(Duration::from_millis(20));
        loop {
            tries.tick().await;
            if let Ok(resumed) = device.request("thread/resume", json!({ "threadId": thread })).await {
                return resumed;
            }
        }
    };
    timeout(PATIENCE, joining).await.expect("the agent does not follow the thread")
}

/// The text of the turn's message in pieces as a device got them, how often it began, and the whole as it ended.
async fn text(device: &mut Client) -> (String, usize, String) {
    device.event("turn/completed").await;
    let deltas = device.take("item/agentMessage/delta");
    let pieces = deltas.iter().map(|delta| delta["params"]["delta"].as_str().unwrap()).collect();
    let is_message = |message: &&Value| message["params"]["item"]["type"] == "agentMessage";
    let begun = device.take("item/started").iter().filter(is_message).count();
    let ended = device.take("item/completed");
    let whole = ended.iter().find(is_message).expect("the message ended")["params"]["item"]["text"].clone();
    (pieces, begun, whole.as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_thread_that_is_opened_in_mid_turn_has_its_text_from_the_beginning() {
    let stage = Stage::start().await;
    let (first, second) = (stage.pair(Scope::Approve).await, stage.pair(Scope::View).await);
    let (remote, remote_of_second) = (first.connect().await, second.connect().await);
    let mut writer = client(&remote).await;
    let thread = writer.thread(&stage.codex).await;
    writer.prompt(&thread, "@text N=1").await;
    writer.event("turn/completed").await;
    writer.take_thread(&thread);
    // The agent follows the thread: a device that loads nothing may open it.
    let mut watcher = client(&remote_of_second).await;
    join(&mut watcher, &thread).await;
    watcher.request("thread/unsubscribe", json!({ "threadId": thread })).await.unwrap();

    let third = stage.pair(Scope::Steer).await;
    let remote_of_third = third.connect().await;
    every_piece(&remote_of_third).await;
    for round in 0..3 {
        writer.prompt(&thread, "@text N=1500 ms=1 size=6").await;
        writer.event("item/agentMessage/delta").await;
        let mut joined = Vec::new();
        for (pause, remote) in [(0, &remote_of_second), (50, &remote_of_third), (250, &remote_of_second)] {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let mut device = client(remote).await;
            join(&mut device, &thread).await;
            joined.push(device);
        }
        for (number, mut device) in joined.into_iter().enumerate() {
            let (pieces, begun, whole) = text(&mut device).await;
            // From the beginning, without a gap or a repeat; the end of the item may overtake the last of it.
            assert!(
                whole.starts_with(&pieces),
                "round {round}, device {number}: {pieces}\nis not how this begins: {whole}"
            );
            assert!(!pieces.is_empty(), "round {round}, device {number}: no text came before the item's end");
            assert_eq!((whole.len(), begun), (9000, 1), "round {round}, device {number}");
        }
        writer.event("turn/completed").await;
        writer.take_thread(&thread);
    }
    stage.stop().await;
}

#[tokio::test]
async fn a_thread_that_is_opened_in_its_very_first_turn_has_its_text_from_the_beginning() {
    let stage = Stage::start().await;
    let (first, second) = (stage.pair(Scope::Approve).await, stage.pair(Scope::View).await);
    let (remote, remote_of_second) = (first.connect().await, second.connect().await);
    let mut writer = client(&remote).await;
    let thread = writer.thread(&stage.codex).await;
    // Models think before they speak.
    writer.prompt(&thread, "@text N=1500 ms=1 size=6 after=2000").await;
    // The agent follows while they do: a device that loads nothing may open the thread.
    let mut early = client(&remote_of_second).await;
    join(&mut early, &thread).await;
    writer.event("item/agentMessage/delta").await;
    let mut late = client(&remote_of_second).await;
    join(&mut late, &thread).await;
    for (device, mut joined) in [("early", early), ("late", late)] {
        let (pieces, begun, whole) = text(&mut joined).await;
        assert!(whole.starts_with(&pieces), "{device}: {pieces}\nis not how this begins: {whole}");
        assert!(!pieces.is_empty(), "{device}: no text came before the item's end");
        assert_eq!((whole.len(), begun), (9000, 1), "{device}");
    }
    stage.stop().await;
}
