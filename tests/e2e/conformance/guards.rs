//! The cases of the table in which an agent stands before Codex: what devices may do holds however Codex is reached.

use e2e::rpc::{Client, End};
use e2e::stage::{Stage, client};
use reachback_host::audit::{self, Line, What};
use reachback_host::firewall::REFUSED;
use reachback_host::local_api::Request;
use reachback_proto::frame::ByeReason;
use reachback_proto::scope::Scope;
use serde_json::{Value, json};

use super::Place;
use crate::revoke::end;

fn said(text: &str) -> Value {
    json!([{ "type": "text", "text": text }])
}

/// Why the firewall let a request not pass.
async fn refused(client: &mut Client, method: &str, params: Value) -> Value {
    let error = client.request(method, params).await.expect_err("it reached Codex");
    assert_eq!(error["code"], REFUSED, "{method}: {error}");
    error["data"]["reason"].clone()
}

/// What Codex has of a thread.
async fn turns(stage: &Stage, thread: &str) -> Vec<Value> {
    let mut owner = Client::connect(&*stage.backend).await;
    let read = owner.request("thread/turns/list", json!({ "threadId": thread })).await.unwrap();
    read["data"].as_array().unwrap().clone()
}

pub(super) async fn a_scope_holds_for_every_request(place: Place) {
    let place = place.behind_an_agent().await;
    let stage = &place.stage;
    let (viewer, writer) = (stage.pair(Scope::View).await, stage.pair(Scope::Steer).await);
    let (viewing, writing) = (viewer.connect().await, writer.connect().await);
    let (mut view, mut steer) = (client(&viewing).await, client(&writing).await);
    let thread = steer.thread(&stage.codex).await;
    steer.turn(&thread, "@text N=1").await;
    view.resume(&thread).await;
    let prompt = json!({ "threadId": thread, "input": said("@esc true") });
    assert_eq!(refused(&mut view, "turn/start", prompt.clone()).await, "scope");
    assert_eq!(refused(&mut view, "thread/start", json!({ "cwd": stage.codex.home.project() })).await, "scope");
    assert_eq!(turns(stage, &thread).await.len(), 1, "a device that may only look began a turn");

    // Who may not approve is not asked; who is asked decides.
    steer.request("turn/start", prompt).await.unwrap();
    let mut owner = Client::connect(&*stage.backend).await;
    owner.resume(&thread).await;
    let open = owner.event("item/commandExecution/requestApproval").await;
    owner.decide(&open, "cancel").await;
    steer.event("turn/completed").await;
    assert!(steer.take("item/commandExecution/requestApproval").is_empty(), "a device that may not approve was asked");
    // What lets others in, and what writes the owner's configuration, is for no device.
    for method in ["remoteControl/pairing/start", "config/value/write", "account/logout"] {
        refused(&mut steer, method, json!({})).await;
    }
    place.stop().await;
}

pub(super) async fn a_device_works_in_workspaces_under_the_agents_profile(place: Place) {
    let place = place.behind_an_agent().await;
    let stage = &place.stage;
    let device = stage.pair(Scope::Steer).await;
    let remote = device.connect().await;
    let mut far = client(&remote).await;
    let elsewhere = stage.codex.user_home().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    refused(&mut far, "thread/start", json!({ "cwd": elsewhere })).await;
    // What a device asks for itself is replaced by what its owner allows.
    let wish =
        json!({ "cwd": stage.codex.home.project(), "approvalPolicy": "never", "permissions": ":danger-full-access" });
    let thread = match far.request("thread/start", wish).await {
        Ok(started) => started,
        Err(error) => {
            assert_eq!(error["code"], REFUSED, "{error}");
            far.request("thread/start", json!({ "cwd": stage.codex.home.project() })).await.unwrap()
        }
    };
    let profile = thread["activePermissionProfile"]["id"].as_str().unwrap_or_default();
    assert!(profile.starts_with("reachback-"), "{thread}");
    assert_eq!(thread["approvalPolicy"], "on-request", "{thread}");
    let id = thread["thread"]["id"].as_str().unwrap().to_owned();

    // The agent's keys are closed to what the model runs there.
    let key = stage.home().join("host/key-of-the-test");
    std::fs::write(&key, "secret-of-the-test").unwrap();
    let items = far.turn(&id, &format!("@shell cat '{}'; echo over", key.display())).await;
    let output = json!(items).to_string();
    assert!(output.contains("over") && !output.contains("secret-of-the-test"), "{output}");
    place.stop().await;
}

pub(super) async fn a_prompt_of_one_id_runs_once(place: Place) {
    let place = place.behind_an_agent().await;
    let stage = &place.stage;
    let device = stage.pair(Scope::Steer).await;
    let remote = device.connect().await;
    let mut api = Client::raw(remote.api().await.unwrap());
    let start = json!({ "cwd": stage.codex.home.project() });
    let prompt = json!({ "id": "one", "environment": "local", "start": start, "input": said("@text N=2") });
    for _ in 0..2 {
        api.request("prompt/send", prompt.clone()).await.unwrap();
    }
    let started = api
        .until("the prompt runs", |message| {
            message["method"] == "prompt/changed" && message["params"]["state"] == "started"
        })
        .await;
    let thread = started["params"]["threadId"].as_str().unwrap().to_owned();
    let again = api.request("prompt/send", prompt).await.unwrap();
    assert_eq!((&again["state"], &again["threadId"]), (&json!("started"), &json!(thread)), "{again}");
    assert_eq!(turns(stage, &thread).await.len(), 1, "one prompt ran twice");
    place.stop().await;
}

pub(super) async fn a_revoked_device_is_out_and_its_turn_ends(place: Place) {
    let place = place.behind_an_agent().await;
    let stage = &place.stage;
    let device = stage.pair(Scope::Approve).await;
    let remote = device.connect().await;
    let mut far = client(&remote).await;
    let thread = far.thread(&stage.codex).await;
    far.turn(&thread, "@text N=1").await;
    far.prompt(&thread, "@hang").await;
    far.event("turn/started").await;
    stage.ask(Request::Revoke { device: device.id().to_string() }).await;
    assert_eq!(end(&remote).await, Some(ByeReason::Revoked));
    assert!(matches!(far.ended().await.1, End::Closed(_)));
    let turns = turns(stage, &thread).await;
    assert!(turns.iter().all(|turn| turn["status"] != "inProgress"), "its turn goes on: {turns:?}");

    // Everything of it is in the log.
    let lines = audit::read(stage.home()).unwrap().0;
    let of_device = lines.iter().filter_map(|line| match line {
        Line::Device(entry) if entry.device_id == device.id() => Some(&entry.what),
        _ => None,
    });
    let of_device: Vec<_> = of_device.collect();
    assert!(of_device.iter().any(|what| matches!(what, What::Revoked)), "{of_device:?}");
    assert!(of_device.iter().any(|what| matches!(what, What::WorkEnded { turns: 1, .. })), "{of_device:?}");
    place.stop().await;
}
