//! Pages by bytes, on channel 0: of a long thread, and of the list of threads.

use std::process::Stdio;
use std::time::Instant;

use e2e::codex::{TestCodex, program};
use e2e::recordings::write_thread;
use e2e::rpc::Client;
use e2e::stage::{Stage, Tuning};
use reachback_host::connect::remote::RemoteHost;
use reachback_proto::scope::Scope;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

const ITEMS: usize = 20_000;

async fn api(remote: &RemoteHost) -> Client {
    Client::raw(remote.api().await.unwrap())
}

/// A stage with a thread of so many turns of 100 items; and its id. Codex knows its items once it has loaded it.
async fn with_thread(turns: u64) -> (Stage, String) {
    let codex = TestCodex::prepare().await;
    let thread = write_thread(&codex, 7, turns, 99, 400);
    let stage = Stage::on(codex, Tuning::default()).await;
    let mut terminal = Client::connect(&*stage.backend).await;
    let resume = json!({ "threadId": thread, "excludeTurns": true });
    terminal.request("thread/resume", resume).await.unwrap();
    (stage, thread)
}

/// The rest of the pages of a method, as one list.
async fn pages(api: &mut Client, method: &str, list: &str, mut params: Value) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        let page = api.request(method, params.clone()).await.unwrap();
        let entries = page[list].as_array().unwrap();
        assert!(!entries.is_empty() || page["nextCursor"].is_null(), "{page}");
        all.extend(entries.clone());
        if page["nextCursor"].is_null() {
            return all;
        }
        params["cursor"] = page["nextCursor"].clone();
    }
}

fn turn_and_id(entry: &Value) -> (String, String) {
    (entry["turnId"].as_str().unwrap().to_owned(), entry["item"]["id"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn the_pages_of_a_thread_are_codexs_own_list_while_new_items_come() {
    let (stage, thread) = with_thread(5).await;
    let remote = stage.pair(Scope::View).await.connect().await;
    let mut api = api(&remote).await;
    let mut terminal = Client::connect(&*stage.backend).await;
    terminal.resume(&thread).await;
    let of_codex = json!({ "threadId": thread, "sortDirection": "desc", "limit": 100 });
    let whole = pages(&mut terminal, "thread/items/list", "data", of_codex.clone()).await;
    assert_eq!(whole.len(), 500);

    let mut params = json!({ "environment": "local", "threadId": thread, "bytes": 20_000 });
    let (mut seen, mut turns) = (Vec::new(), Vec::new());
    loop {
        let page = api.request("thread/page", params.clone()).await.unwrap();
        let size = page.to_string().len();
        assert!(size < 20_500, "{size} bytes");
        seen.extend(page["items"].as_array().unwrap().clone());
        turns.extend(page["turns"].as_array().unwrap().clone());
        if page["nextCursor"].is_null() {
            break;
        }
        assert!(size > 14_000, "{size} bytes");
        params["cursor"] = page["nextCursor"].clone();
        if seen.len() < 100 {
            terminal.turn(&thread, "@text N=2").await;
        }
    }
    assert_eq!(seen.iter().map(turn_and_id).collect::<Vec<_>>(), whole.iter().map(turn_and_id).collect::<Vec<_>>());
    let items = |entries: &[Value]| entries.iter().map(|entry| entry["item"].clone()).collect::<Vec<_>>();
    assert_eq!(items(&seen), items(&whole));
    turns.dedup();
    assert_eq!(turns.len(), 5, "{turns:?}");
    assert!(turns.iter().all(|turn| turn["status"] == "completed" && turn["startedAt"].is_u64()), "{turns:?}");

    // What came meanwhile is on top now.
    params["cursor"] = Value::Null;
    let newest = api.request("thread/page", params).await.unwrap();
    let of_codex = terminal.request("thread/items/list", of_codex).await.unwrap();
    let (newest, of_codex) = (&newest["items"].as_array().unwrap()[..4], &of_codex["data"].as_array().unwrap()[..4]);
    assert_eq!(items(newest), items(of_codex));
    assert_eq!(newest[0]["item"]["type"], "agentMessage");
    stage.stop().await;
}

#[tokio::test]
async fn the_first_page_of_20_000_items_is_a_page_and_loads_nothing() {
    let (stage, thread) = with_thread(ITEMS as u64 / 100).await;
    let viewer = stage.pair(Scope::View).await;
    // Cold: Codex has not opened it since it started.
    let stage = stage.restart_agent().await;
    let remote = viewer.connect().await;
    let mut api = api(&remote).await;
    let params = json!({ "environment": "local", "threadId": thread });
    let page = api.request("thread/page", params).await.unwrap();
    let (size, count) = (page.to_string().len(), page["items"].as_array().unwrap().len());
    assert!((50_000..66_000).contains(&size) && count > 50, "{count} items, {size} bytes");
    assert_eq!(page["items"][0]["item"]["id"], "agent-199-98");
    let mut terminal = Client::connect(&*stage.backend).await;
    let loaded = terminal.request("thread/loaded/list", json!({})).await.unwrap();
    assert_eq!(loaded["data"], json!([]), "reading loaded a thread");
    stage.stop().await;
}

#[tokio::test]
async fn older_threads_large_items_and_output_come_as_well_as_they_can() {
    let stage = Stage::start().await;
    let remote = stage.pair(Scope::View).await.connect().await;
    let mut api = api(&remote).await;
    let mut terminal = Client::connect(&*stage.backend).await;
    for mode in ["legacy", "paginated"] {
        let start = json!({ "cwd": stage.codex.home.project(), "historyMode": mode });
        let started = terminal.request("thread/start", start).await.unwrap();
        let thread = started["thread"]["id"].as_str().unwrap().to_owned();
        let params = json!({ "environment": "local", "threadId": thread, "bytes": 4096, "deferOutput": true });
        let refused = api.request("thread/page", params.clone()).await.unwrap_err();
        assert_eq!(refused["data"]["reason"], "codex", "nothing was recorded yet: {refused}");
        terminal.turn(&thread, "@text N=1").await;
        terminal.turn(&thread, "@shell seq 1 300").await;
        for text in ["@text N=100 size=100", "@text N=2 size=1000", "@text N=3"] {
            terminal.turn(&thread, text).await;
        }
        let full = json!({ "threadId": thread, "itemsView": "full" });
        let turns = pages(&mut terminal, "thread/turns/list", "data", full).await;
        let whole = turns.iter().flat_map(|turn| turn["items"].as_array().unwrap().iter().rev());
        let seen = pages(&mut api, "thread/page", "items", params).await;
        let ids = |items: Vec<&Value>| items.iter().map(|item| item["id"].clone()).collect::<Vec<_>>();
        let of_seen = ids(seen.iter().map(|entry| &entry["item"]).collect());
        assert_eq!(of_seen, ids(whole.clone().collect()), "{mode}");
        for (entry, item) in seen.iter().zip(whole) {
            let is_deferred = entry["outputDeferred"] == true;
            if let Some(size) = entry["size"].as_u64() {
                assert!(size >= 10_000, "{entry}");
                let text = entry["item"]["text"].as_str().unwrap();
                assert!(text.len() > 3000 && item["text"].as_str().unwrap().starts_with(text), "{entry}");
            } else if is_deferred {
                assert!(item["aggregatedOutput"].as_str().unwrap().contains("300"), "{item}");
                let ids = json!({ "threadId": thread, "turnId": entry["turnId"], "itemIds": [item["id"]] });
                let read = terminal.request("thread/items/read", ids).await.unwrap();
                assert_eq!(read["data"][0]["item"]["aggregatedOutput"], item["aggregatedOutput"]);
            } else {
                assert_eq!(entry["item"], *item, "{mode}");
            }
        }
        let count = |member: &str| seen.iter().filter(|entry| !entry[member].is_null()).count();
        assert_eq!((count("size"), count("outputDeferred")), (1, usize::from(mode == "paginated")), "{mode}");
    }
    stage.stop().await;
}

#[tokio::test]
async fn the_list_of_threads_is_codexs_own_in_pages() {
    let codex = TestCodex::prepare().await;
    for number in 0..150 {
        write_thread(&codex, number, 1, 1, 10);
    }
    let stage = Stage::on(codex, Tuning::default()).await;
    let remote = stage.pair(Scope::View).await.connect().await;
    let mut api = api(&remote).await;
    let mut terminal = Client::connect(&*stage.backend).await;
    let own = terminal.thread(&stage.codex).await;
    terminal.turn(&own, "@text N=1").await;
    terminal.request("thread/archive", json!({ "threadId": "018c0000-0000-7000-8000-000000000100" })).await.unwrap();
    // Codex's own list looks at everything: what the database says is no less.
    let of_codex = json!({ "sortKey": "recency_at", "limit": 100 });
    let whole = pages(&mut terminal, "thread/list", "data", of_codex).await;
    let params = json!({ "environment": "local", "bytes": 10_000 });
    let page = api.request("thread/list", params.clone()).await.unwrap();
    assert!((7_500..10_500).contains(&page.to_string().len()), "{}", page.to_string().len());
    assert_eq!((&page["data"][0]["id"], &page["data"][0]["status"]), (&json!(own), &json!("idle")), "{page}");
    assert_eq!((&page["data"][0]["title"], &page["data"][0]["unread"]), (&json!("@text N=1"), &json!(true)), "{page}");
    let seen = pages(&mut api, "thread/list", "data", params.clone()).await;
    let ids = |threads: &[Value]| threads.iter().map(|thread| thread["id"].clone()).collect::<Vec<_>>();
    assert_eq!((ids(&seen), seen.len()), (ids(&whole), 150));

    let folder = stage.codex.home.project().to_str().unwrap();
    for (wish, value, count) in [
        ("archived", json!(true), 1),
        ("search", json!("thread 14, prompt"), 1),
        ("folder", json!(folder), 150),
        ("folder", json!("/nowhere"), 0),
    ] {
        let mut params = params.clone();
        params[wish] = value;
        assert_eq!(pages(&mut api, "thread/list", "data", params).await.len(), count, "{wish}");
    }
    for (method, params, reason) in [
        ("thread/list", json!({ "environment": "mars" }), "environment"),
        ("thread/page", json!({ "environment": "local", "threadId": own, "cursor": "zz" }), "params"),
        ("thread/page", json!({ "environment": "local", "threadId": "none" }), "codex"),
        ("thread/list", json!({ "environment": "local", "cursor": "zz" }), "codex"),
    ] {
        let refused = api.request(method, params).await.unwrap_err();
        assert_eq!(refused["data"]["reason"], reason, "{refused}");
    }
    stage.stop().await;
}

/// What a request takes, in milliseconds: the first time, and the middle of ten more.
async fn timed(api: &mut Client, method: &str, params: &Value) -> (f64, f64, usize) {
    let mut times = Vec::new();
    let mut bytes = 0;
    for _ in 0..11 {
        let begin = Instant::now();
        let answer = api.request(method, params.clone()).await.unwrap();
        times.push(begin.elapsed().as_secs_f64() * 1000.0);
        bytes = answer.to_string().len();
    }
    let first = times.remove(0);
    times.sort_by(f64::total_cmp);
    (first, times[5], bytes)
}

/// Lets Codex take in the recordings that it finds, however long that is: the agent would not wait.
async fn index(codex: &TestCodex) {
    let mut command = Command::new(program());
    command.arg("app-server").env("CODEX_HOME", codex.home.codex_home()).env("HOME", codex.user_home());
    let mut server = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let hello =
        json!({ "id": 1, "method": "initialize", "params": { "clientInfo": { "name": "e2e", "version": "0" } } });
    let mut stdin = server.stdin.take().unwrap();
    stdin.write_all(format!("{hello}\n").as_bytes()).await.unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    assert!(lines.next_line().await.unwrap().is_some_and(|line| line.contains("\"id\":1")));
    drop(stdin);
    server.wait().await.unwrap();
}

#[tokio::test]
#[ignore = "measures, for docs/api.md: cargo test -p e2e --test e2e pages::figures -- --ignored --nocapture"]
async fn figures() {
    let (stage, thread) = with_thread(ITEMS as u64 / 100).await;
    let viewer = stage.pair(Scope::View).await;
    let stage = stage.restart_agent().await;
    let remote = viewer.connect().await;
    let page = json!({ "environment": "local", "threadId": thread });
    let (first, then, bytes) = timed(&mut api(&remote).await, "thread/page", &page).await;
    println!("thread/page of {ITEMS} items: cold {first:.1} ms, then {then:.1} ms, {bytes} bytes");
    stage.stop().await;

    for threads in [10_000, 70_000] {
        let codex = TestCodex::prepare().await;
        for number in 0..threads {
            write_thread(&codex, number, 1, 1, 100);
        }
        let begin = Instant::now();
        index(&codex).await;
        println!("{threads} threads: Codex is ready for the first time after {:.1} s", begin.elapsed().as_secs_f64());
        let stage = Stage::on(codex, Tuning::default()).await;
        let remote = stage.pair(Scope::View).await.connect().await;
        let mut api = api(&remote).await;
        for (what, more) in [("all", json!({})), ("a search", json!({ "search": "thread 77" }))] {
            let mut params = json!({ "environment": "local" });
            params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let (first, then, bytes) = timed(&mut api, "thread/list", &params).await;
            println!("{threads} threads, {what}: first {first:.1} ms, then {then:.1} ms, {bytes} bytes");
        }
        let mut terminal = Client::connect(&*stage.backend).await;
        let of_codex = json!({ "sortKey": "recency_at", "limit": 100 });
        let (first, then, bytes) = timed(&mut terminal, "thread/list", &of_codex).await;
        println!("{threads} threads, Codex's own list: first {first:.1} ms, then {then:.1} ms, {bytes} bytes");
        stage.stop().await;
    }
}
