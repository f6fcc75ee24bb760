use ring::rand::SystemRandom;
use serde_json::{Value, json};

use super::*;
use crate::agent::requests::{self, Requests};
use crate::codex::Instance;

/// What a test plays: Codex, and the keeper.
struct Play {
    attention: Attention,
    requests: Requests,
    changes: broadcast::Receiver<Change>,
    now: u64,
}

fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}

impl Play {
    fn new() -> Self {
        let attention = Attention::new("local", changes());
        let requests = Requests::new("local", requests::changes());
        let _to_codex = requests.connected(Instance::random(&SystemRandom::new()).unwrap());
        let changes = attention.changes();
        Self { attention, requests, changes, now: 1_000_000 }
    }

    fn hear(&mut self, method: &str, params: &Value) {
        self.now += 1;
        self.requests.notified(method, Some(&raw(params)));
        self.attention.notified(method, Some(&raw(params)), self.now);
        self.attention.asked(self.requests.list(), self.now);
    }

    fn record(&mut self, thread: &str, status: &Value) {
        let recorded = json!({ "thread": { "id": thread, "cwd": "/w", "name": null, "status": status } });
        self.attention.recorded(&raw(&recorded), self.now);
    }

    fn is(&mut self, thread: &str, status: &Value) {
        self.hear("thread/status/changed", &json!({ "threadId": thread, "status": status }));
    }

    fn runs(&mut self, thread: &str) {
        self.is(thread, &active(&[]));
        self.record(thread, &active(&[]));
        self.hear("turn/started", &json!({ "threadId": thread, "turn": { "id": "u", "status": "inProgress" } }));
    }

    fn ends(&mut self, thread: &str, status: &str, error: &Value) {
        self.is(thread, &json!({ "type": "idle" }));
        let turn = json!({ "id": "u", "status": status, "error": error });
        self.hear("turn/completed", &json!({ "threadId": thread, "turn": turn }));
    }

    fn asks(&mut self, id: u64, method: &str, thread: &str) {
        self.now += 1;
        let params = json!({ "threadId": thread, "turnId": "u", "itemId": "i", "command": "secret", "questions": [] });
        self.requests.asked(&raw(&json!(id)), method, Some(&raw(&params)), self.now);
        self.attention.asked(self.requests.list(), self.now);
    }

    /// What was told since the last time, of how many requests.
    fn told(&mut self) -> Vec<Option<(State, usize)>> {
        let mut told = Vec::new();
        while let Ok(change) = self.changes.try_recv() {
            told.push(change.entry.map(|entry| (entry.state, entry.requests.len())));
        }
        told
    }

    fn listed(&self) -> Vec<(String, State)> {
        self.attention.list(self.now).into_iter().map(|entry| (entry.thread, entry.state)).collect()
    }
}

fn active(flags: &[&str]) -> Value {
    json!({ "type": "active", "activeFlags": flags })
}

fn idle() -> Value {
    json!({ "type": "idle" })
}

#[test]
fn a_turn_runs_waits_and_is_done_and_each_is_told_once() {
    let mut play = Play::new();
    play.is("t", &active(&[]));
    assert!(play.told().is_empty() && play.listed().is_empty(), "its folder is not known");
    play.record("t", &active(&[]));
    play.hear("turn/started", &json!({ "threadId": "t", "turn": { "id": "u", "status": "inProgress" } }));
    let begun = play.attention.list(play.now).remove(0);
    assert_eq!((begun.folder.as_str(), begun.turn.as_deref()), ("/w", Some("u")));
    play.hear("item/started", &json!({ "threadId": "t", "turnId": "u", "item": { "id": "i", "type": "x" } }));
    assert_eq!(play.told(), [Some((State::Running, 0)); 2], "with its folder, then with its turn");

    // Codex may say first that it waits, or what it asks.
    play.is("t", &active(&["waitingOnApproval"]));
    play.asks(1, "item/commandExecution/requestApproval", "t");
    let waits = play.attention.list(play.now).remove(0);
    assert_eq!((waits.requests.as_slice(), waits.since), (&[RequestId::Number(1)][..], play.now - 1));
    assert!(!format!("{waits:?}").contains("secret"));
    play.hear("serverRequest/resolved", &json!({ "threadId": "t", "requestId": 1 }));
    play.is("t", &active(&[]));
    let approval = |asked| Some((State::WaitingOnApproval, asked));
    assert_eq!(play.told(), [approval(0), approval(1), approval(0), Some((State::Running, 0))]);
    for (id, method) in [(2, "item/tool/requestUserInput"), (3, "mcpServer/elicitation/request")] {
        play.asks(id, method, "t");
        play.is("t", &active(&["waitingOnApproval"]));
        assert_eq!(play.listed(), [("t".into(), State::WaitingOnAnswer)], "{method}: the board knows better");
        play.is("t", &active(&[]));
        play.hear("serverRequest/resolved", &json!({ "threadId": "t", "requestId": id }));
    }
    play.told();
    play.is("t", &idle());
    assert!(play.told().is_empty() && play.attention.is_settling());
    play.ends("t", "completed", &Value::Null);
    assert_eq!(play.told(), [Some((State::Done, 0))]);
    assert!(!play.attention.is_settling());
    // The next turn.
    play.runs("t");
    assert_eq!(play.told(), [Some((State::Running, 0)); 2]);
}

#[test]
fn how_a_turn_ended_is_said_with_the_failure_and_settled_where_nobody_tells() {
    let mut play = Play::new();
    for (status, error, state) in [
        ("failed", json!({ "message": "no model \u{e4}".repeat(100) }), State::Failed),
        ("interrupted", json!({ "message": "x" }), State::Interrupted),
        ("completed", Value::Null, State::Done),
    ] {
        play.runs("t");
        play.ends("t", status, &error);
        let entry = play.attention.list(play.now).remove(0);
        assert_eq!(entry.state, state);
        assert_eq!(entry.error.is_some(), state == State::Failed);
        assert!(entry.error.is_none_or(|error| error.starts_with("no model") && error.len() <= MAX_TEXT));
    }
    for (kind, state) in [("idle", State::Done), ("systemError", State::Failed)] {
        play.runs("t");
        play.is("t", &json!({ "type": kind }));
        assert_eq!(play.listed(), [("t".into(), State::Running)]);
        play.now += 1000;
        assert_eq!(play.listed(), [("t".into(), state)]);
    }
    // The end of a turn that another one has followed says nothing of that.
    play.runs("t");
    let turn = json!({ "id": "before", "status": "completed", "error": null });
    play.hear("turn/completed", &json!({ "threadId": "t", "turn": turn }));
    assert_eq!(play.listed(), [("t".into(), State::Running)]);
}

#[test]
fn what_codex_answers_about_a_thread_is_no_newer_than_what_it_told() {
    let mut play = Play::new();
    play.record("before", &active(&["waitingOnUserInput"]));
    assert_eq!(play.listed(), [("before".into(), State::WaitingOnAnswer)]);
    play.is("t", &idle());
    play.record("t", &active(&[]));
    assert_eq!(play.listed().len(), 1);
    play.hear("thread/name/updated", &json!({ "threadId": "before", "threadName": "a name" }));
    assert_eq!(play.attention.list(play.now)[0].name.as_deref(), Some("a name"));
}

#[test]
fn the_end_of_codex_clears_what_runs_and_waits_and_keeps_what_ended() {
    let mut play = Play::new();
    for thread in ["runs", "waits", "done", "failed"] {
        play.runs(thread);
    }
    play.asks(1, "item/fileChange/requestApproval", "waits");
    play.ends("done", "completed", &Value::Null);
    play.ends("failed", "failed", &json!({ "message": "x" }));
    let order: Vec<_> = play.listed().into_iter().map(|(thread, _)| thread).collect();
    assert_eq!(order, ["failed", "done", "waits", "runs"], "newest first");
    play.told();
    play.requests.disconnected();
    play.attention.disconnected(play.now);
    assert_eq!(play.listed(), [("failed".into(), State::Failed), ("done".into(), State::Done)]);
    assert_eq!(play.told(), [None, None]);
    // So does a thread's.
    play.runs("runs");
    play.hear("thread/closed", &json!({ "threadId": "runs" }));
    play.is("done", &json!({ "type": "notLoaded" }));
    assert_eq!(play.listed().len(), 2);
}

#[test]
fn what_ended_goes_after_a_day_or_when_there_is_too_much_of_it() {
    let mut play = Play::new();
    for number in 0..=MAX_ENDED {
        let thread = format!("t{number}");
        play.runs(&thread);
        play.ends(&thread, "completed", &Value::Null);
    }
    let listed = play.listed();
    assert_eq!((listed.len(), &*listed[MAX_ENDED - 1].0), (MAX_ENDED, "t1"));
    assert_eq!(play.told().iter().filter(|entry| entry.is_none()).count(), 1);
    play.now += 24 * 60 * 60 * 1000 - 1;
    assert_eq!(play.listed().len(), 1);
    play.now += 1;
    assert!(play.listed().is_empty());
    assert_eq!(play.told(), [None; MAX_ENDED]);
}

#[test]
fn threads_are_remembered_within_bounds() {
    let mut play = Play::new();
    for number in 0..MAX_THREADS {
        play.record(&format!("quiet{number}"), &idle());
    }
    play.runs("t");
    play.runs(&"x".repeat(MAX_ID + 1));
    assert_eq!(play.attention.lock().len(), MAX_THREADS);
    assert_eq!(play.listed(), [("t".into(), State::Running)], "what is quiet makes room");
    for number in 0..MAX_THREADS {
        play.is(&format!("busy{number}"), &active(&[]));
    }
    assert_eq!(play.attention.lock().len(), MAX_THREADS);
    assert_eq!(play.listed().len(), 1);
}
