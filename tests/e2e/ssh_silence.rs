//! A link to an SSH host that falls silent: nothing passes any more, and nobody says so. A laptop that sleeps, or comes to another
//! network, has such links.

use std::time::{Duration, Instant};

use e2e::eventually;
use e2e::rpc::{Client, End};
use reachback_host::codex::{CodexBackend, CodexState};
use reachback_proto::frame::ChannelCloseReason;
use reachback_proto::scope::Scope;
use serde_json::Value;

use crate::ssh_hosts::{Devbox, SILENCE, add, api, channel, instance, text_in_pieces, until_listed};

/// What notices nothing in the time of a test.
const NEVER: &str = "  ServerAliveInterval 1000\n";

#[tokio::test]
async fn a_link_that_falls_silent_in_mid_turn_is_made_anew_and_costs_no_word_and_doubles_none() {
    const PIECES: usize = 1500;
    let devbox = Devbox::start().await;
    // 3 s, where the first second is without a word.
    devbox.configure("  ServerAliveInterval 1\n  ServerAliveCountMax 2\n");
    let stage = devbox.host().await;
    let remote = stage.pair(Scope::View).await.connect().await;
    let mut api = api(&remote).await;
    add(&stage).await;
    let mut there = Client::connect(&devbox.running).await;
    let thread = there.thread(&devbox.codex).await;
    there.prompt(&thread, &format!("@text N={PIECES} size=6 ms=10")).await;
    there.event("item/agentMessage/delta").await;
    let mut client = channel(&remote).await;
    client.resume(&thread).await;
    let is_delta = |message: &Value| message["method"] == "item/agentMessage/delta";
    let (mut before, _) = client.until_or_end("text", is_delta).await;

    devbox.link.lose();
    let lost = Instant::now();
    let (rest, end) = client.ended().await;
    assert_eq!(end, End::Closed(ChannelCloseReason::BackendGone));
    assert!(lost.elapsed() < Duration::from_secs(20), "it was noticed after {:?}", lost.elapsed());
    before.extend(rest);
    // Nobody asks for it.
    eventually("it is connected anew", || devbox.link.dials().len() == 2).await;
    until_listed(&mut api, "ready").await;

    let mut client = channel(&remote).await;
    client.resume(&thread).await;
    let is_over = |message: &Value| message["method"] == "turn/completed";
    let (after, _) = client.until_or_end("the end of the turn", is_over).await;
    let answers = |messages: &[Value]| {
        let is_answer = |message: &&Value| {
            message["method"] == "item/completed" && message["params"]["item"]["type"] == "agentMessage"
        };
        messages.iter().filter(is_answer).count()
    };
    assert_eq!((answers(&before), answers(&after)), (0, 1));
    let read = client.read_completed(&thread).await;
    let items = read["thread"]["turns"][0]["items"].as_array().unwrap();
    let text = items.iter().find(|item| item["type"] == "agentMessage").unwrap()["text"].as_str().unwrap();
    assert_eq!((text.len(), text.split_whitespace().count()), (PIECES * 6, PIECES));
    let (first, second) = (text_in_pieces(&before), text_in_pieces(&after));
    assert!(!first.is_empty() && text.contains(&first), "“{first}” does not stand in the answer so");
    assert!(!second.is_empty() && text.ends_with(&second), "the answer does not end with “{second}”");
    stage.stop().await;
    devbox.stop().await;
}

#[tokio::test]
async fn a_silent_link_is_told_from_a_codex_that_hangs_and_made_anew() {
    let devbox = Devbox::start().await;
    devbox.configure(NEVER);
    let backend = devbox.backend(SILENCE);
    let client = Client::connect(&backend).await;
    let mut state = backend.state();
    let first = instance(&state.borrow_and_update()).unwrap();
    devbox.link.lose();
    let made_anew = async {
        loop {
            state.changed().await.unwrap();
            let now = state.borrow_and_update().clone();
            assert!(!matches!(now, CodexState::Failed { .. }), "a silent link was taken for this: {now:?}");
            if instance(&now).is_some_and(|now| now != first) {
                return;
            }
        }
    };
    tokio::time::timeout(e2e::PATIENCE, made_anew).await.expect("it is made anew");
    assert_eq!(client.ended().await.1, End::Silent);
    Client::connect(&backend).await.echo().await;
    assert_eq!(devbox.link.dials().len(), 2);
    backend.stop().await;
    devbox.stop().await;
}

#[tokio::test]
async fn a_host_that_had_to_find_its_relay_again_asks_its_machines_whether_they_are_there() {
    let devbox = Devbox::start().await;
    devbox.configure(NEVER);
    let stage = devbox.host().await;
    let remote = stage.pair(Scope::View).await.connect().await;
    let mut api = api(&remote).await;
    add(&stage).await;
    let mut client = channel(&remote).await;
    // A link that is good stays.
    for _ in 0..3 {
        stage.host_side.reset();
        api.request("host/read", serde_json::json!({})).await.unwrap();
        client.echo().await;
    }
    assert_eq!(devbox.link.dials().len(), 1);

    devbox.link.lose();
    let lost = Instant::now();
    stage.host_side.reset();
    assert_eq!(client.ended().await.1, End::Closed(ChannelCloseReason::BackendGone));
    eventually("it is connected anew", || devbox.link.dials().len() == 2).await;
    until_listed(&mut api, "ready").await;
    channel(&remote).await.echo().await;
    // Unasked it would take 20 s at least.
    assert!(lost.elapsed() < Duration::from_secs(15), "it was noticed after {:?}", lost.elapsed());
    assert_eq!(devbox.link.dials().len(), 2);
    stage.stop().await;
    devbox.stop().await;
}
