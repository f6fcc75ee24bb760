//! The cases of the table, each over a [`Place`] that is ready.

use std::time::Duration;

use e2e::codex::until;
use e2e::eventually;
use e2e::process::signal;
use e2e::rpc::{Client, End};
use reachback_host::codex::{Allowance, CodexState, Instance, MAX_MESSAGE, SendError};
use serde_json::{Value, json};

use super::{Adapter, Place};

/// The end of a turn, which has to be this.
async fn ends(client: &mut Client, status: &str) -> Value {
    let done = client.event("turn/completed").await;
    assert_eq!(done["params"]["turn"]["status"], status, "{done}");
    done
}

/// Has a turn go on that was told to `@wait`, with a thread of its own.
async fn lets(client: &mut Client, place: &Place) {
    let thread = client.thread(&place.codex).await;
    client.prompt(&thread, "@go").await;
}

/// Waits for the end of this turn, whichever others end before.
async fn until_over(client: &mut Client, turn: &str) -> Value {
    let is_over = |message: &Value| message["method"] == "turn/completed" && message["params"]["turn"]["id"] == *turn;
    client.until("the turn's end", is_over).await
}

/// Whether it answers over a new connection, and does not end that instead.
async fn answers(place: &Place) -> bool {
    let Ok(mut connection) = place.backend.connect(Allowance::default()).await else { return false };
    let params = json!({ "clientInfo": { "name": "reachback_e2e", "version": "0" } });
    let ask = json!({ "id": 1, "method": "initialize", "params": params }).to_string();
    connection.sender.send(ask).await.is_ok() && matches!(connection.receiver.next().await, Some(Ok(_)))
}

/// Whether a process still runs.
fn runs(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

pub(super) async fn nothing_is_answered_before_initialize(place: Place) {
    let mut client = Client::raw(place.backend.connect(Allowance::default()).await.unwrap());
    let early = json!({ "id": 900, "method": "thread/loaded/list", "params": {} });
    client.send(&early).await;
    let params = json!({ "clientInfo": { "name": "reachback_e2e", "version": "0" } });
    let answer = client.request("initialize", params).await.unwrap();
    assert!(answer["userAgent"].as_str().unwrap().contains("0.169.0"), "{answer}");
    client.send(&json!({ "method": "initialized" })).await;
    client.echo().await;
    let early = client.take_answer(900);
    assert!(early.is_none_or(|answer| answer.get("result").is_none()), "answered before initialize");
    place.stop().await;
}

pub(super) async fn threads_are_started_named_listed_and_archived(place: Place) {
    let mut client = place.client().await;
    let thread = client.thread(&place.codex).await;
    client.prompt(&thread, "@text N=3").await;
    ends(&mut client, "completed").await;
    client.request("thread/name/set", json!({ "threadId": thread, "name": "kept" })).await.unwrap();
    let listed = client.request("thread/list", json!({})).await.unwrap();
    let row = listed["data"].as_array().unwrap().iter().find(|row| row["id"] == *thread).expect("listed").clone();
    assert_eq!(row["name"], "kept", "{row}");
    let read = client.request("thread/read", json!({ "threadId": thread, "includeTurns": true })).await.unwrap();
    assert_eq!(read["thread"]["turns"][0]["status"], "completed", "{read}");
    client.request("thread/archive", json!({ "threadId": thread })).await.unwrap();
    let listed = client.request("thread/list", json!({})).await.unwrap();
    assert!(listed["data"].as_array().unwrap().iter().all(|row| row["id"] != *thread), "{listed}");
    place.stop().await;
}

/// One of the script's pieces of text.
fn piece(n: usize) -> String {
    format!("{:x>6}", format!("{n} "))
}

pub(super) async fn every_delta_of_a_long_turn_arrives_in_order(place: Place) {
    let mut client = place.client().await;
    let thread = client.thread(&place.codex).await;
    let (pieces, prompt) = if place.can() { (5000, "@text N=5000 size=6") } else { (2000, "@text N=2000 size=6 ms=1") };
    client.prompt(&thread, prompt).await;
    ends(&mut client, "completed").await;
    let deltas = client.take("item/agentMessage/delta");
    assert_eq!(deltas.len(), pieces);
    for (n, delta) in deltas.iter().enumerate() {
        assert_eq!(delta["params"]["delta"], piece(n), "delta {n}");
    }
    if !place.can() {
        whole_or_a_gap_and_the_whole_after_it(&place).await;
    }
    place.stop().await;
}

/// A turn at full speed arrives in order up to its end or up to a gap; behind that, the thread has all of it.
async fn whole_or_a_gap_and_the_whole_after_it(place: &Place) {
    let mut client = place.client().await;
    let thread = client.thread(&place.codex).await;
    client
        .send(&json!({ "id": 900, "method": "turn/start", "params": {
        "threadId": thread, "input": [{ "type": "text", "text": "@text N=5000 size=6" }],
    } }))
        .await;
    let is_over = |message: &Value| message["method"] == "turn/completed";
    let (heard, end) = client.until_or_end("the turn's end or a gap", is_over).await;
    assert!(matches!(end, None | Some(End::Gap)), "{end:?}");
    let deltas = heard.iter().filter(|message| message["method"] == "item/agentMessage/delta");
    for (n, delta) in deltas.enumerate() {
        assert_eq!(delta["params"]["delta"], piece(n), "delta {n}");
    }
    let read = place.client().await.read_completed(&thread).await;
    let text: String = (0..5000).map(piece).collect();
    assert!(read.to_string().contains(text.trim_end()), "the thread has not all of the text");
}

pub(super) async fn a_command_is_approved_or_cancelled(place: Place) {
    let mut client = place.client().await;
    let thread = client.thread(&place.codex).await;
    for (decision, status) in [("accept", "completed"), ("cancel", "interrupted")] {
        let file = place.project().join(decision);
        client.prompt(&thread, &format!("run touch {}", file.display())).await;
        let asked = client.event("item/commandExecution/requestApproval").await;
        assert!(asked["params"]["command"].as_str().unwrap().contains("touch"), "{asked}");
        assert!(!file.exists(), "it ran before it was approved");
        client.decide(&asked, decision).await;
        ends(&mut client, status).await;
        assert_eq!(file.exists(), decision == "accept", "{decision}");
    }
    place.stop().await;
}

pub(super) async fn a_file_change_is_approved_or_declined(place: Place) {
    let mut client = place.client().await;
    let params = json!({ "cwd": place.project(), "sandbox": "read-only", "approvalPolicy": "on-request" });
    let started = client.request("thread/start", params).await.unwrap();
    let thread = started["thread"]["id"].as_str().unwrap().to_owned();
    for decision in ["accept", "decline"] {
        client.prompt(&thread, &format!("@patch {decision}.txt")).await;
        let asked = client.event("item/fileChange/requestApproval").await;
        assert!(!place.project().join(format!("{decision}.txt")).exists(), "written before it was approved");
        client.decide(&asked, decision).await;
        client.event("turn/completed").await;
        let written = place.project().join(format!("{decision}.txt")).exists();
        assert_eq!(written, decision == "accept", "{decision}");
    }
    place.stop().await;
}

pub(super) async fn a_running_turn_is_steered(place: Place) {
    let mut client = place.client().await;
    let thread = client.thread(&place.codex).await;
    let turn = client.prompt(&thread, "@wait").await;
    client.event("item/agentMessage/delta").await;
    let input = json!([{ "type": "text", "text": "long" }]);
    let steer = json!({ "threadId": thread, "expectedTurnId": turn, "clientUserMessageId": "steered", "input": input });
    client.request("turn/steer", steer).await.unwrap();
    lets(&mut client, &place).await;
    let steered =
        |message: &Value| message["method"] == "item/completed" && message["params"]["item"]["clientId"] == "steered";
    let item = client.until("the message that steers", steered).await;
    assert_eq!(item["params"]["turnId"], *turn, "{item}");
    client.request("turn/interrupt", json!({ "threadId": thread, "turnId": turn })).await.unwrap();
    until_over(&mut client, &turn).await;
    place.stop().await;
}

pub(super) async fn a_running_turn_is_interrupted(place: Place) {
    let mut client = place.client().await;
    let thread = client.thread(&place.codex).await;
    let turn = client.prompt(&thread, "long").await;
    client.event("item/agentMessage/delta").await;
    client.request("turn/interrupt", json!({ "threadId": thread, "turnId": turn })).await.unwrap();
    ends(&mut client, "interrupted").await;
    place.stop().await;
}

pub(super) async fn several_clients_share_a_thread(place: Place) {
    let (mut here, mut there) = (place.client().await, place.client().await);
    let thread = here.thread(&place.codex).await;
    here.prompt(&thread, "@text N=1").await;
    ends(&mut here, "completed").await;
    there.resume(&thread).await;
    there.prompt(&thread, "@esc true").await;
    let asked = here.event("item/commandExecution/requestApproval").await;
    there.event("item/commandExecution/requestApproval").await;
    here.decide(&asked, "accept").await;
    there.event("serverRequest/resolved").await;
    for client in [&mut here, &mut there] {
        ends(client, "completed").await;
    }
    place.stop().await;
}

pub(super) async fn a_client_that_drops_in_mid_turn_leaves_the_turn_running(place: Place) {
    let (mut gone, mut stays) = (place.client().await, place.client().await);
    let thread = gone.thread(&place.codex).await;
    let turn = gone.prompt(&thread, "@wait").await;
    gone.event("item/agentMessage/delta").await;
    drop(gone);
    stays.resume(&thread).await;
    lets(&mut stays, &place).await;
    let done = until_over(&mut stays, &turn).await;
    assert_eq!(done["params"]["turn"]["status"], "completed", "{done}");
    place.stop().await;
}

pub(super) async fn an_open_question_waits_for_the_next_client(place: Place) {
    let mut first = place.client().await;
    let thread = first.thread(&place.codex).await;
    first.prompt(&thread, "@esc true").await;
    first.event("item/commandExecution/requestApproval").await;
    drop(first);
    let mut next = place.client().await;
    next.resume(&thread).await;
    let asked = next.event("item/commandExecution/requestApproval").await;
    next.decide(&asked, "accept").await;
    ends(&mut next, "completed").await;
    place.stop().await;
}

pub(super) async fn a_failed_turn_leaves_the_connection_whole(place: Place) {
    let mut client = place.client().await;
    let thread = client.thread(&place.codex).await;
    client.prompt(&thread, "@fail 400").await;
    ends(&mut client, "failed").await;
    client.prompt(&thread, "@text N=1").await;
    ends(&mut client, "completed").await;
    place.stop().await;
}

pub(super) async fn a_message_of_60_mib_passes(place: Place) {
    let mut client = place.client().await;
    let thread = client.thread(&place.codex).await;
    let params = json!({ "threadId": thread, "name": "kept", "padding": "x".repeat(60 << 20) });
    client.request("thread/name/set", params).await.unwrap();
    let read = client.request("thread/read", json!({ "threadId": thread })).await.unwrap();
    assert_eq!(read["thread"]["name"], "kept", "{read}");
    place.stop().await;
}

pub(super) async fn a_message_over_the_limit_is_refused_and_nothing_else(place: Place) {
    let mut connection = place.backend.connect(Allowance::default()).await.unwrap();
    let sent = connection.sender.send("x".repeat(MAX_MESSAGE + 1)).await;
    assert!(matches!(sent, Err(SendError::TooLong { length, limit }) if length == limit + 1), "{sent:?}");
    Client::over(connection).await.echo().await;
    place.stop().await;
}

pub(super) async fn a_killed_codex_comes_back_and_remembers(place: Place) {
    let before = place.instance().await;
    let mut client = place.client().await;
    let thread = client.thread(&place.codex).await;
    client.prompt(&thread, "@text N=3").await;
    ends(&mut client, "completed").await;
    // Not the package's wrapper but the server itself, which leaves a stale socket behind.
    signal("-KILL", place.server().await);
    client.ended().await;
    until(&*place.backend, "back", |state| match state {
        CodexState::Ready { instance, .. } => *instance != before,
        _ => false,
    })
    .await;
    let mut client = place.client().await;
    let read = client.request("thread/read", json!({ "threadId": thread, "includeTurns": true })).await.unwrap();
    assert_eq!(read["thread"]["turns"][0]["status"], "completed", "{read}");
    place.stop().await;
}

/// Has the server hang, and waits until that is told.
async fn hangs(place: &Place, server: i32) {
    signal("-STOP", server);
    match until(&*place.backend, "told to hang", |state| matches!(state, CodexState::Failed { .. })).await {
        CodexState::Failed { reason, fix, .. } => {
            assert!(reason.contains("does not answer") && fix.is_some(), "{reason}")
        }
        other => panic!("waited for a failure, got {other:?}"),
    }
}

/// Waits until a run of Codex that is wanted answers.
async fn is_well(place: &Place, wanted: impl Fn(&Instance) -> bool) {
    let is_it = |state: &CodexState| match state {
        CodexState::Ready { instance, .. } => wanted(instance),
        _ => false,
    };
    // A Codex that was stopped for so long may take its own connection for dead as it goes on, and make another: who was
    // the first to come over it comes again.
    let answered = async {
        loop {
            until(&*place.backend, "well again", is_it).await;
            // A question that was on its way over the connection that is given up may get no answer.
            if tokio::time::timeout(Duration::from_secs(10), answers(place)).await.unwrap_or_else(|_| {
                println!("nobody was answered in 10 s");
                false
            }) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let well = tokio::time::timeout(e2e::PATIENCE, answered).await;
    assert!(well.is_ok(), "it answers nobody, or is another run: {:?}", place.backend.state().borrow());
}

pub(super) async fn a_codex_that_hangs_is_told_and_is_well_again_once_it_goes_on(place: Place) {
    let (first, server) = (place.instance().await, place.server().await);
    hangs(&place, server).await;
    signal("-CONT", server);
    // `codex remote-control` now and then ends by itself as it goes on (seen on 0.169.0, and not why), and is started
    // anew. Everywhere else it is the same run of the same process.
    let may_end = place.adapter == Adapter::RemoteControl;
    is_well(&place, |now| *now == first || may_end).await;
    assert!(may_end || runs(server), "it was ended, and is another one");
    place.stop().await;
}

pub(super) async fn a_codex_that_hangs_for_good_is_started_anew(place: Place) {
    let (first, server) = (place.instance().await, place.server().await);
    hangs(&place, server).await;
    if place.can() {
        is_well(&place, |now| *now != first).await;
        eventually("the one that hung is ended", || !runs(server)).await;
    } else {
        signal("-CONT", server);
        is_well(&place, |now| *now == first).await;
    }
    place.stop().await;
}

pub(super) async fn the_agents_settings_hold(place: Place) {
    std::fs::write(place.closed.join("key"), "SECRET").unwrap();
    let mut client = place.client().await;
    let thread = client.thread(&place.codex).await;
    client.turn(&thread, &format!("@shell cat '{}'", place.closed.join("key").display())).await;
    let read = client.request("thread/read", json!({ "threadId": thread, "includeTurns": true })).await.unwrap();
    assert_eq!(!read.to_string().contains("SECRET"), place.can(), "{read}");
    place.stop().await;
}

pub(super) async fn codex_ends_with_the_agent(place: Place) {
    let (server, client) = (place.server().await, place.client().await);
    place.backend.stop().await;
    assert_eq!(*place.backend.state().borrow(), CodexState::Stopped);
    if place.can() {
        client.ended().await;
        assert!(!runs(server), "Codex outlived the agent");
    } else {
        assert!(runs(server), "somebody else's Codex was ended");
        let mut client = client.patient(Duration::from_secs(20));
        client.echo().await;
    }
    place.stop().await;
}
