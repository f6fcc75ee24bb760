//! Prompts by id, on channel 0: each runs once, and what became of it can be asked, whatever is lost on the way.

use std::time::Duration;

use e2e::PATIENCE;
use e2e::process::{Home, Process, free_port, processes_with};
use e2e::rpc::Client;
use e2e::stage::{Stage, TestDevice};
use e2e::{codex, eventually};
use reachback_host::connect::join::Invitation;
use reachback_host::connect::remote::RemoteHost;
use reachback_proto::pairing::PairingUrl;
use reachback_proto::scope::Scope;
use serde_json::{Value, json};
use tokio::time::timeout;

async fn api(remote: &RemoteHost) -> Client {
    Client::raw(remote.api().await.unwrap())
}

fn said(text: &str) -> Value {
    json!([{ "type": "text", "text": text }])
}

/// What `prompt/send` takes for a thread that there is.
fn prompt(id: &str, thread: &str, text: &str) -> Value {
    json!({ "id": id, "environment": "local", "threadId": thread, "input": said(text) })
}

fn with(mut params: Value, name: &str, value: Value) -> Value {
    params[name] = value;
    params
}

/// Waits until a prompt is in this state; gives its receipt.
async fn becomes(api: &mut Client, id: &str, state: &str) -> Value {
    let is_it = |message: &Value| {
        let receipt = &message["params"];
        message["method"] == "prompt/changed" && receipt["id"] == id && receipt["state"] == state
    };
    api.until(&format!("prompt {id} {state}"), is_it).await["params"].clone()
}

/// What is known of a prompt now.
async fn receipt(api: &mut Client, id: &str) -> Value {
    api.request("prompt/read", json!({ "ids": [id] })).await.unwrap()["data"][0].clone()
}

/// A new thread, with a first prompt that has run.
async fn thread(api: &mut Client, stage: &Stage, id: &str) -> String {
    let start = json!({ "cwd": stage.codex.home.project() });
    let params = json!({ "id": id, "environment": "local", "start": start, "input": said("@text N=2") });
    let taken = api.request("prompt/send", params).await.unwrap();
    assert_eq!(taken["state"], "taken", "{taken}");
    let started = becomes(api, id, "started").await;
    assert_eq!(started["steered"], false, "{started}");
    started["threadId"].as_str().unwrap().to_owned()
}

/// The ids of all messages of a person in a thread, in order, as soon as `last` is one of them: Codex writes a message a
/// moment after it took it.
async fn in_thread(client: &mut Client, thread: &str, last: &str) -> Vec<String> {
    let looking = async {
        loop {
            let params = json!({ "threadId": thread, "limit": 1000, "sortDirection": "asc" });
            let page = client.request("thread/items/list", params).await.unwrap();
            let items = page["data"].as_array().unwrap().iter().map(|item| &item["item"]);
            let messages = items.filter(|item| item["type"] == "userMessage");
            let ids: Vec<_> = messages.map(|item| item["clientId"].as_str().unwrap_or_default().to_owned()).collect();
            if ids.iter().any(|id| id == last) {
                return ids;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("{last} never came to the thread"))
}

#[tokio::test]
async fn a_prompt_starts_steers_and_waits_and_one_that_comes_twice_runs_once() {
    let stage = Stage::start().await;
    let (device, other) = (stage.pair(Scope::Steer).await, stage.pair(Scope::Approve).await);
    let (remote, remote_of_other) = (device.connect().await, other.connect().await);
    let (mut api, mut api_of_other) = (api(&remote).await, api(&remote_of_other).await);
    let host = api.request("host/read", json!({})).await.unwrap();
    assert!(host["features"].as_array().unwrap().contains(&json!("prompts")), "{host}");
    let thread = thread(&mut api, &stage, "first").await;
    let journal = api.request("prompt/read", json!({ "ids": [] })).await.unwrap()["journal"].clone();
    assert_eq!(host["journal"], journal);

    let long = prompt("long", &thread, "@text N=20000 ms=5");
    api.request("prompt/send", long.clone()).await.unwrap();
    let running = becomes(&mut api, "long", "started").await;
    let again = api.request("prompt/send", long).await.unwrap();
    assert_eq!((&again["state"], &again["turnId"]), (&running["state"], &running["turnId"]));

    // While a turn runs, nothing joins it that does not say so; and ids of one device are not those of another.
    api_of_other.request("prompt/send", prompt("first", &thread, "@text N=3")).await.unwrap();
    let queued = becomes(&mut api_of_other, "first", "queued").await;
    assert!(queued["queuedId"].is_string(), "{queued}");
    api.request("prompt/send", with(prompt("back", &thread, "@text N=3"), "delivery", json!("queue"))).await.unwrap();
    becomes(&mut api, "back", "queued").await;
    let withdrawn = api.request("prompt/withdraw", json!({ "id": "back", "environment": "local" })).await.unwrap();
    assert_eq!(withdrawn["state"], "withdrawn");
    let wrong = with(with(prompt("wrong", &thread, "no"), "delivery", json!("steer")), "turnId", json!("another"));
    api.request("prompt/send", wrong).await.unwrap();
    assert_eq!(becomes(&mut api, "wrong", "refused").await["reason"], "turn");
    api.request("prompt/send", with(prompt("steer", &thread, "@text N=4"), "delivery", json!("steer"))).await.unwrap();
    let steered = becomes(&mut api, "steer", "started").await;
    assert_eq!((&steered["steered"], &steered["turnId"]), (&json!(true), &running["turnId"]));

    // The steered turn ends, and what waited comes up.
    becomes(&mut api_of_other, "first", "started").await;
    api.request("prompt/send", prompt("last", &thread, "@text N=1")).await.unwrap();
    let mut direct = Client::connect(&*stage.backend).await;
    assert_eq!(in_thread(&mut direct, &thread, "last").await, ["first", "long", "steer", "first", "last"]);
    assert_eq!(receipt(&mut api, "back").await["state"], "withdrawn");
    stage.stop().await;
}

#[tokio::test]
async fn what_may_not_be_sent_is_refused_in_words_and_what_was_withdrawn_first_never_runs() {
    let stage = Stage::start().await;
    let (device, viewer) = (stage.pair(Scope::Steer).await, stage.pair(Scope::View).await);
    let (remote, remote_of_viewer) = (device.connect().await, viewer.connect().await);
    let (mut api, mut api_of_viewer) = (api(&remote).await, api(&remote_of_viewer).await);
    let thread = thread(&mut api, &stage, "first").await;

    for (method, params) in
        [("prompt/send", prompt("a", &thread, "no")), ("prompt/withdraw", json!({ "id": "a", "environment": "local" }))]
    {
        let refused = api_of_viewer.request(method, params).await.unwrap_err();
        assert_eq!(refused["data"]["params"]["needed"], "steer", "{refused}");
    }
    assert_eq!(receipt(&mut api_of_viewer, "first").await["state"], "never", "another device's prompt");

    for (what, params, reason) in [
        ("another text under the same id", prompt("first", &thread, "other"), "conflict"),
        ("no such environment", with(prompt("b", &thread, "x"), "environment", json!("mars")), "environment"),
        ("an id that is none", prompt("a b", &thread, "x"), "params"),
        ("a place twice", with(prompt("b", &thread, "x"), "start", json!({})), "params"),
        ("no place", with(prompt("b", &thread, "x"), "threadId", Value::Null), "params"),
    ] {
        let refused = api.request("prompt/send", params).await.unwrap_err();
        assert_eq!(refused["data"]["reason"], reason, "{what}: {refused}");
    }
    // What Codex or the firewall refuses is said by the receipt.
    let outside = json!({ "id": "home", "environment": "local", "start": { "cwd": "/" }, "input": said("x") });
    api.request("prompt/send", outside).await.unwrap();
    let refused = becomes(&mut api, "home", "refused").await;
    assert!(refused["message"].as_str().unwrap().contains("not open to devices"), "{refused}");
    let file = json!([{ "type": "localImage", "path": "/etc/passwd" }]);
    api.request("prompt/send", with(prompt("file", &thread, ""), "input", file)).await.unwrap();
    assert_eq!(becomes(&mut api, "file", "refused").await["reason"], "params");
    let gone = "0198f000-0000-7000-8000-000000000001";
    api.request("prompt/send", prompt("gone", gone, "x")).await.unwrap();
    becomes(&mut api, "gone", "refused").await;

    let early = api.request("prompt/withdraw", json!({ "id": "early", "environment": "local" })).await.unwrap();
    assert_eq!(early["state"], "withdrawn");
    let sent = api.request("prompt/send", prompt("early", &thread, "@text N=1")).await.unwrap();
    assert_eq!(sent["state"], "withdrawn");
    let late = api.request("prompt/withdraw", json!({ "id": "first", "environment": "local" })).await.unwrap_err();
    assert_eq!(late["data"]["reason"], "too_late", "{late}");
    api.request("prompt/send", prompt("last", &thread, "@text N=1")).await.unwrap();
    let mut direct = Client::connect(&*stage.backend).await;
    assert_eq!(in_thread(&mut direct, &thread, "last").await, ["first", "last"]);
    stage.stop().await;
}

/// Writes a line into the journal of an agent that does not run, as one that was killed would have left it.
fn note(stage: &Stage, device: &TestDevice, id: &str, thread: &str, state: &str) {
    use std::io::Write;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let line = json!({
        "deviceId": device.id(), "id": id, "environment": "local", "threadId": thread, "digest": "",
        "takenAt": now as u64, "changedAt": now as u64, "state": state,
    });
    let path = stage.home().join("host/journal.jsonl");
    let mut file = std::fs::File::options().append(true).open(path).unwrap();
    writeln!(file, "{line}").unwrap();
}

#[tokio::test]
async fn an_agent_that_was_killed_between_any_two_steps_finds_out_or_says_that_it_can_t() {
    let stage = Stage::start().await;
    let device = stage.pair(Scope::Steer).await;
    let remote = device.connect().await;
    let mut before = api(&remote).await;
    let thread = thread(&mut before, &stage, "first").await;
    let journal = before.request("host/read", json!({})).await.unwrap()["journal"].clone();
    // Codex got this one, and the agent did not hear so.
    let mut direct = Client::connect(&*stage.backend).await;
    direct.resume(&thread).await;
    let params = json!({ "threadId": thread, "input": said("@text N=1"), "clientUserMessageId": "got" });
    let turn = direct.request("turn/start", params).await.unwrap()["turn"]["id"].clone();
    direct.event("turn/completed").await;
    drop((direct, before, remote));

    let stage = {
        let stage = stage.restart_agent().await;
        // Between two agents, as far as the journal is concerned: it is read when the next one starts.
        note(&stage, &device, "taken", &thread, "taken");
        note(&stage, &device, "got", &thread, "handed");
        note(&stage, &device, "lost", &thread, "handed");
        stage.restart_agent().await
    };
    let remote = device.connect().await;
    let mut api = api(&remote).await;
    assert_eq!(api.request("host/read", json!({})).await.unwrap()["journal"], journal);
    let first = receipt(&mut api, "first").await;
    assert_eq!((&first["state"], first["threadId"].as_str()), (&json!("started"), Some(&*thread)));
    let got = receipt(&mut api, "got").await;
    assert_eq!((&got["state"], &got["turnId"]), (&json!("started"), &turn), "{got}");
    assert_eq!(receipt(&mut api, "lost").await["state"], "unknown");
    assert_eq!(receipt(&mut api, "taken").await["state"], "never");

    // Sent again, as a client does that does not know: what may have run does not run again.
    for (id, state) in [("got", "started"), ("lost", "unknown"), ("taken", "taken")] {
        let sent = api.request("prompt/send", prompt(id, &thread, "@text N=1")).await.unwrap();
        assert_eq!(sent["state"], state, "{id}: {sent}");
    }
    becomes(&mut api, "taken", "started").await;
    let mut direct = Client::connect(&*stage.backend).await;
    assert_eq!(in_thread(&mut direct, &thread, "taken").await, ["first", "got", "taken"]);
    stage.stop().await;
}

/// `reachback up --demo`, as a process.
struct Demo {
    home: Home,
    args: Vec<String>,
}

impl Demo {
    fn new() -> Self {
        let (addr, codex) = (free_port().to_string(), codex::program());
        let args =
            ["up", "--demo", "--listen", &addr, "--codex-program", codex.to_str().unwrap()].map(str::to_owned).to_vec();
        Self { home: Home::new(), args }
    }

    async fn start(&self) -> (Process, Value) {
        let args: Vec<_> = self.args.iter().map(String::as_str).collect();
        let mut up = self.home.start(&args);
        up.event("ready").await;
        let pairing = up.event("pairing").await;
        (up, pairing)
    }
}

#[tokio::test]
async fn each_prompt_runs_once_or_is_unknown_when_the_agent_is_killed_while_it_takes_it() {
    let demo = Demo::new();
    let (mut up, pairing) = demo.start().await;
    let url = PairingUrl::parse(pairing["url"].as_str().unwrap()).unwrap();
    let device = TestDevice::join(&Invitation::Url(url)).await;
    let remote = device.connect().await;
    let mut first = api(&remote).await;
    let start = json!({ "id": "first", "environment": "local", "start": {}, "input": said("@text N=1") });
    first.request("prompt/send", start).await.unwrap();
    let thread = becomes(&mut first, "first", "started").await["threadId"].as_str().unwrap().to_owned();
    drop((first, remote));

    // From before the first line is written to after the answer; what is hit differs from run to run, the rule does not.
    for (round, wait) in [0, 1, 3, 6, 12, 25].into_iter().enumerate() {
        let id = format!("round-{round}");
        let sent = prompt(&id, &thread, "@text N=1");
        {
            let remote = device.connect().await;
            let mut api = api(&remote).await;
            api.request("host/read", json!({})).await.unwrap();
            api.send(&json!({ "id": 1000, "method": "prompt/send", "params": sent })).await;
            tokio::time::sleep(Duration::from_millis(wait)).await;
            up.kill().await;
        }
        up = demo.start().await.0;
        let remote = device.connect().await;
        let mut api = api(&remote).await;
        // As a client does that heard nothing.
        let known = api.request("prompt/send", sent.clone()).await.unwrap();
        if known["state"] != "unknown" && known["state"] != "started" {
            becomes(&mut api, &id, "started").await;
        }
        let state = receipt(&mut api, &id).await["state"].clone();
        // The next one marks the end: what came before it and is not there will not come.
        let end = format!("end-{round}");
        api.request("prompt/send", prompt(&end, &thread, "@text N=1")).await.unwrap();
        let mut client = Client::over(remote.open_channel("local").await.unwrap()).await;
        let ids = in_thread(&mut client, &thread, &end).await;
        let times = ids.iter().filter(|known| **known == id).count();
        match state.as_str() {
            Some("started") => assert_eq!(times, 1, "round {round}: {ids:?}"),
            Some("unknown") => assert_eq!(times, 0, "round {round}: {ids:?}"),
            _ => panic!("round {round}: {state}"),
        }
    }
    assert_eq!(timeout(PATIENCE, up.stop()).await.unwrap(), Some(0));
    let is_server = |(_, line): &(u32, String)| line.contains(" app-server ");
    eventually("no Codex runs", || !processes_with(&demo.home.path()).iter().any(is_server)).await;
}
