//! What a device began ends with what it may do: turns, queued prompts, goals, sub-agents; and nothing of anybody else.

use std::time::Duration;

use e2e::PATIENCE;
use e2e::rpc::Client;
use e2e::stage::{Stage, TestDevice, client};
use reachback_host::audit::{self, Line, What};
use reachback_host::local_api::{Event, Request};
use reachback_host::state::devices::DeviceStore;
use reachback_host::state::timestamp::Timestamp;
use reachback_proto::scope::Scope;
use serde_json::{Value, json};
use tokio::time::{interval, timeout};

fn said(text: &str) -> Value {
    json!([{ "type": "text", "text": text, "text_elements": [] }])
}

/// Asks until there is an answer.
async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        let mut ticks = interval(Duration::from_millis(20));
        loop {
            ticks.tick().await;
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    };
    timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// A thread with a turn that has ended, so that it is recorded.
async fn thread(client: &mut Client, stage: &Stage) -> String {
    let thread = client.thread(&stage.codex).await;
    client.turn(&thread, "@text N=1").await;
    thread
}

/// Begins a turn that never ends by itself.
async fn hang(client: &mut Client, thread: &str, id: &str) -> String {
    let params = json!({ "threadId": thread, "clientUserMessageId": id, "input": said("@hang") });
    let turn = client.request("turn/start", params).await.unwrap();
    turn["turn"]["id"].as_str().unwrap().to_owned()
}

async fn queue(client: &mut Client, thread: &str, id: &str) {
    let params = json!({ "threadId": thread, "clientUserMessageId": id, "input": said("@text N=1") });
    client.request("thread/queue/add", params).await.unwrap();
}

async fn queued(owner: &mut Client, thread: &str) -> Vec<String> {
    let list = owner.request("thread/queue/list", json!({ "threadId": thread })).await.unwrap();
    let ids = list["data"].as_array().unwrap().iter().map(|queued| queued["clientUserMessageId"].as_str().unwrap());
    ids.map(str::to_owned).collect()
}

/// How the newest turn of a thread is.
async fn newest(owner: &mut Client, thread: &str) -> Value {
    let params = json!({ "threadId": thread, "limit": 1, "sortDirection": "desc" });
    owner.request("thread/turns/list", params).await.unwrap()["data"][0].clone()
}

/// Waits until a message stands in its thread: what is not recorded yet, nobody can have steered.
async fn stands(owner: &mut Client, thread: &str, id: &str) {
    let wanted = json!(id);
    eventually(&format!("{id} stands in the thread"), async || {
        let items = owner.request("thread/items/list", json!({ "threadId": thread })).await.unwrap();
        items["data"].as_array().unwrap().iter().any(|item| item["item"]["clientId"] == wanted).then_some(())
    })
    .await;
}

/// Takes a device off the list, and gives what was told of its work.
async fn revoke(stage: &Stage, device: &TestDevice) -> Vec<Event> {
    stage.ask_for_events(Request::Revoke { device: device.id().to_string() }).await
}

#[tokio::test]
async fn what_a_revoked_device_began_ends_and_what_others_did_goes_on() {
    let stage = Stage::start().await;
    let (phone, laptop) = (stage.pair(Scope::Approve).await, stage.pair(Scope::Approve).await);
    let (phone_remote, laptop_remote) = (phone.connect().await, laptop.connect().await);
    let (mut far, mut other) = (client(&phone_remote).await, client(&laptop_remote).await);
    let mut owner = Client::connect(&*stage.backend).await;

    // Its turn, and a queue behind it of which one entry is somebody else's.
    let own = thread(&mut far, &stage).await;
    other.resume(&own).await;
    hang(&mut far, &own, "p1").await;
    queue(&mut far, &own, "p2").await;
    queue(&mut other, &own, "l1").await;
    queue(&mut far, &own, "p3").await;
    // Its turn, steered by another device.
    let shared = thread(&mut far, &stage).await;
    let turn = hang(&mut far, &shared, "p4").await;
    other.resume(&shared).await;
    let steer = json!({
        "threadId": shared, "expectedTurnId": turn, "clientUserMessageId": "l2", "input": said("@hang"),
    });
    stands(&mut owner, &shared, "p4").await;
    other.request("turn/steer", steer).await.unwrap();
    // Its thread, with a turn of the owner's.
    let others = thread(&mut far, &stage).await;
    owner.resume(&others).await;
    hang(&mut owner, &others, "o1").await;
    stands(&mut owner, &others, "o1").await;

    let events = revoke(&stage, &phone).await;
    let ended: Vec<_> = events.iter().filter(|event| matches!(event, Event::WorkEnded { .. })).collect();
    let [Event::WorkEnded { device_id, environment, thread_id, goal, queued: gone, turns }] = ended[..] else {
        panic!("{events:?}")
    };
    assert_eq!((*device_id, &**environment, thread_id, *goal), (phone.id(), "local", &own, false));
    assert_eq!((*gone, *turns), (2, 1));
    assert_eq!(queued(&mut owner, &own).await, ["l1"]);
    assert_eq!(newest(&mut owner, &own).await["status"], "interrupted");
    for thread in [&shared, &others] {
        assert_eq!(newest(&mut owner, thread).await["status"], "inProgress", "somebody else's turn was ended");
    }
    let notices: Vec<_> =
        events.iter().filter(|event| matches!(event, Event::Notice(it) if it.code == "work_goes_on")).collect();
    assert_eq!(notices.len(), 1, "{events:?}");

    let lines = audit::read(stage.home()).unwrap().0;
    let recorded = lines.iter().any(|line| match line {
        Line::Device(entry) => {
            entry.device_id == phone.id()
                && matches!(&entry.what, What::WorkEnded { thread, queued: 2, turns: 1, .. } if *thread == own)
        }
        Line::Folder(_) | Line::Codex(_) | Line::Awake(_) => false,
    });
    assert!(recorded, "{lines:?}");
    stage.stop().await;
}

#[tokio::test]
async fn a_turn_that_codex_is_still_to_give_another_devices_words_goes_on_until_that_one_is_revoked_too() {
    let stage = Stage::start().await;
    let (phone, laptop) = (stage.pair(Scope::Approve).await, stage.pair(Scope::Approve).await);
    let (phone_remote, laptop_remote) = (phone.connect().await, laptop.connect().await);
    let (mut far, mut other) = (client(&phone_remote).await, client(&laptop_remote).await);
    let mut owner = Client::connect(&*stage.backend).await;
    // For as long as a command waits for leave, Codex keeps what it is told to itself.
    let mut asking = async |id: &str| {
        let thread = thread(&mut far, &stage).await;
        let params = json!({ "threadId": thread, "clientUserMessageId": id, "input": said("@esc true") });
        let turn = far.request("turn/start", params).await.unwrap()["turn"]["id"].as_str().unwrap().to_owned();
        far.until("Codex asks", |message| message["method"] == "item/commandExecution/requestApproval").await;
        (thread, turn)
    };
    let (shared, turn) = asking("p1").await;
    let (own, _) = asking("p2").await;
    let mut steer = async |thread: &str, turn: &str, id: &str| {
        other.resume(thread).await;
        let params = json!({
            "threadId": thread, "expectedTurnId": turn, "clientUserMessageId": id, "input": said("@hang"),
        });
        other.request("turn/steer", params).await
    };
    steer(&shared, &turn, "l1").await.unwrap();
    steer(&own, &turn, "l2").await.unwrap_err();
    let list = json!({ "threadId": shared });
    let items = owner.request("thread/items/list", list).await.unwrap().to_string();
    assert!(items.contains("p1") && !items.contains("l1"), "Codex shows it at once, so this proves nothing: {items}");

    let ended = |events: &[Event]| -> Vec<_> {
        let ended = events.iter().filter_map(|event| match event {
            Event::WorkEnded { device_id, thread_id, turns, .. } => Some((*device_id, thread_id.clone(), *turns)),
            _ => None,
        });
        ended.collect()
    };
    let events = revoke(&stage, &phone).await;
    assert_eq!(ended(&events), [(phone.id(), own.clone(), 1)], "{events:?}");
    assert!(events.iter().any(|event| matches!(event, Event::Notice(it) if it.code == "work_goes_on")), "{events:?}");
    assert_eq!(newest(&mut owner, &own).await["status"], "interrupted");
    assert_eq!(newest(&mut owner, &shared).await["status"], "inProgress", "the laptop takes part in it");

    let events = stage.ask_for_events(Request::Pause { device: None, on: true }).await;
    assert_eq!(ended(&events), [(laptop.id(), shared.clone(), 1)], "{events:?}");
    assert_eq!(newest(&mut owner, &shared).await["status"], "interrupted");
    stage.stop().await;
}

#[tokio::test]
async fn a_goal_of_a_paused_device_begins_no_more_turns() {
    let stage = Stage::start().await;
    let phone = stage.pair(Scope::Steer).await;
    let remote = phone.connect().await;
    let mut far = client(&remote).await;
    let mut owner = Client::connect(&*stage.backend).await;
    let goal = thread(&mut far, &stage).await;
    far.request("thread/goal/set", json!({ "threadId": goal, "objective": "go on and on" })).await.unwrap();
    for _ in 0..2 {
        far.event("turn/completed").await;
    }
    let of_owner = thread(&mut owner, &stage).await;
    owner.request("thread/goal/set", json!({ "threadId": of_owner, "objective": "the owner's" })).await.unwrap();

    let events = stage.ask_for_events(Request::Pause { device: Some(phone.id().to_string()), on: true }).await;
    let told = events
        .iter()
        .any(|event| matches!(event, Event::WorkEnded { thread_id, goal: true, .. } if *thread_id == goal));
    assert!(told, "{events:?}");
    let read = async |owner: &mut Client, thread: &str| {
        owner.request("thread/goal/get", json!({ "threadId": thread })).await.unwrap()["goal"]["status"].clone()
    };
    assert_eq!(read(&mut owner, &goal).await, "paused");
    let last = newest(&mut owner, &goal).await;
    assert_ne!(last["status"], "inProgress");
    assert_eq!(read(&mut owner, &of_owner).await, "active", "the owner's goal was paused");
    // As many turns of the owner's goal as there were of the device's: its own would have come in between.
    owner.resume(&of_owner).await;
    for _ in 0..3 {
        owner.event("turn/completed").await;
    }
    assert_eq!(newest(&mut owner, &goal).await["id"], last["id"], "the goal goes on");
    owner.request("thread/goal/clear", json!({ "threadId": of_owner })).await.unwrap();
    stage.stop().await;
}

#[tokio::test]
async fn a_sub_agent_ends_with_the_turn_that_began_it() {
    let stage = Stage::start().await;
    let phone = stage.pair(Scope::Approve).await;
    let remote = phone.connect().await;
    let mut far = client(&remote).await;
    let parent = thread(&mut far, &stage).await;
    let params = json!({ "threadId": parent, "clientUserMessageId": "p1", "input": said("@spawn @hang") });
    far.request("turn/start", params).await.unwrap();
    let mut owner = Client::connect(&*stage.backend).await;
    let child = eventually("a sub-agent runs", async || {
        let loaded = owner.request("thread/loaded/list", json!({})).await.unwrap();
        for id in loaded["data"].as_array().unwrap() {
            // One that is being made can't be read yet.
            let read = owner.request("thread/read", json!({ "threadId": id, "includeTurns": false })).await;
            let thread = &read.unwrap_or_default()["thread"];
            if thread["parentThreadId"] == parent.as_str() && thread["status"]["type"] == "active" {
                return Some(id.as_str().unwrap().to_owned());
            }
        }
        None
    })
    .await;
    revoke(&stage, &phone).await;
    for thread in [&parent, &child] {
        assert_ne!(newest(&mut owner, thread).await["status"], "inProgress", "it goes on");
    }
    stage.stop().await;
}

#[tokio::test]
async fn a_device_that_was_revoked_while_no_agent_ran_has_nothing_left_once_one_does() {
    let stage = Stage::start().await;
    let phone = stage.pair(Scope::Approve).await;
    let remote = phone.connect().await;
    let mut far = client(&remote).await;
    let mut owner = Client::connect(&*stage.backend).await;
    let waiting = thread(&mut far, &stage).await;
    hang(&mut far, &waiting, "p1").await;
    queue(&mut far, &waiting, "p2").await;
    owner.resume(&waiting).await;
    queue(&mut owner, &waiting, "o1").await;
    let goal = thread(&mut far, &stage).await;
    far.request("thread/goal/set", json!({ "threadId": goal, "objective": "@hang" })).await.unwrap();
    far.event("turn/started").await;
    drop((far, remote, owner));

    let id = phone.id();
    let home = stage.home().to_owned();
    let (stage, ()) = stage
        .restart_agent_after(async |_| {
            let devices = DeviceStore::open(&home, Timestamp::now()).unwrap();
            devices.remove(id, Timestamp::now()).unwrap();
        })
        .await;
    let mut owner = Client::connect(&*stage.backend).await;
    eventually("its prompt leaves the queue", async || (queued(&mut owner, &waiting).await == ["o1"]).then_some(()))
        .await;
    eventually("its goal is paused", async || {
        let read = owner.request("thread/goal/get", json!({ "threadId": goal })).await.unwrap();
        (read["goal"]["status"] == "paused").then_some(())
    })
    .await;
    stage.stop().await;
}
