//! Much at once: a device that is there and reading gets all of it, and costs the host a bounded amount.

use std::time::Duration;

use e2e::rpc::Client;
use e2e::stage::{Stage, Tuning, client};
use reachback_host::agent::outbox::OutboxLimits;
use reachback_proto::scope::Scope;
use serde_json::{Value, json};

use super::links::{first_difference, story};

/// A device and a client of Codex itself, both of which follow one thread.
async fn together(stage: &Stage, far: &mut Client, near: &mut Client) -> String {
    let thread = near.thread(&stage.codex).await;
    near.prompt(&thread, "@text N=1").await;
    near.event("turn/completed").await;
    far.resume(&thread).await;
    near.take_thread(&thread);
    far.take_thread(&thread);
    thread
}

#[tokio::test]
async fn sixty_megabytes_of_deltas_at_full_speed_reach_a_device_that_reads() {
    let stage = Stage::start().await;
    let remote = stage.pair(Scope::Approve).await.connect().await;
    let patience = Duration::from_secs(120);
    let mut far = client(&remote).await.patient(patience);
    let mut near = Client::connect(&*stage.backend).await.patient(patience);
    let thread = together(&stage, &mut far, &mut near).await;
    for _ in 0..2 {
        // Twice 32 MB of text, which comes once more in the item that is complete.
        far.prompt(&thread, "@text N=2000 size=16000").await;
        let (here, there) = tokio::join!(near.event("turn/completed"), far.event("turn/completed"));
        assert_eq!(here, there);
    }
    let (near, far) = (story(&mut near, &thread), story(&mut far, &thread));
    assert!(near == far, "{}", first_difference(&near, &far));
    stage.stop().await;
}

#[tokio::test]
async fn a_flood_on_a_link_of_one_megabit_arrives_from_the_disk() {
    let outbox = OutboxLimits { session: 256 << 10, memory: 128 << 10, segment: 64 << 10, ..OutboxLimits::default() };
    let stage = Stage::with(Tuning { outbox, ..Tuning::default() }).await;
    let device = stage.pair(Scope::Approve).await;
    stage.device_side.slow(125_000);
    let remote = device.connect().await;
    let patience = Duration::from_secs(120);
    let mut far = client(&remote).await.patient(patience);
    let mut near = Client::connect(&*stage.backend).await.patient(patience);
    let thread = together(&stage, &mut far, &mut near).await;
    // 1.3 MB of text twice, then whole answers of as much: half a minute.
    far.prompt(&thread, "@text N=80 size=16000").await;
    let (here, there) = tokio::join!(near.event("turn/completed"), far.event("turn/completed"));
    assert_eq!(here, there);
    let read = json!({ "threadId": thread, "includeTurns": true });
    for _ in 0..2 {
        let there = far.request("thread/read", read.clone()).await.unwrap();
        assert_eq!(
            there["thread"]["turns"],
            near.request("thread/read", read.clone()).await.unwrap()["thread"]["turns"]
        );
    }
    let (near, far) = (story(&mut near, &thread), story(&mut far, &thread));
    assert!(near == far, "{}", first_difference(&near, &far));
    stage.stop().await;
}

/// An image of so many MiB, as a client of Codex itself may send it.
fn image(mib: usize) -> Value {
    json!({ "type": "image", "url": format!("data:image/png;base64,{}", "A".repeat(mib << 20)) })
}

#[tokio::test]
async fn a_thread_larger_than_codex_takes_opens_and_one_larger_than_that_is_refused_in_words() {
    let stage = Stage::start().await;
    let remote = stage.pair(Scope::Approve).await.connect().await;
    let patience = Duration::from_secs(120);
    let mut far = client(&remote).await.patient(patience);
    let mut near = Client::connect(&*stage.backend).await.patient(patience);
    let thread = together(&stage, &mut far, &mut near).await;
    let read = json!({ "threadId": thread, "includeTurns": true });
    let add = async |near: &mut Client| {
        // The model has no use for it: what counts is that the thread holds it.
        near.request("turn/start", json!({ "threadId": thread, "input": [image(55)] })).await.unwrap();
        near.event("turn/completed").await;
    };
    for _ in 0..2 {
        add(&mut near).await;
    }
    let opened = far.request("thread/read", read.clone()).await.unwrap();
    assert_eq!(opened["thread"]["turns"].as_array().unwrap().len(), 3, "{opened}");
    assert_eq!(far.resume(&thread).await["thread"]["turns"].as_array().unwrap().len(), 3);

    add(&mut near).await;
    let refused = far.request("thread/read", read.clone()).await.unwrap_err();
    assert_eq!(refused["code"], -32011, "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("more than the 160 MiB"), "{refused}");
    let resume = json!({ "threadId": thread });
    let refused = far.request("thread/resume", resume.clone()).await.unwrap_err();
    assert_eq!(refused["code"], -32011, "{refused}");
    // Nothing else has suffered, and a part of it can still be had.
    let part = json!({ "threadId": thread, "limit": 1 });
    far.request("thread/turns/list", part).await.unwrap();
    stage.stop().await;
}
