//! Which threads run, want somebody or have ended, as devices are told that look at none of them.

use e2e::rpc::Client;
use e2e::stage::{Stage, client};
use reachback_proto::scope::Scope;
use serde_json::{Value, json};

/// The next change of a thread to this state.
async fn told(api: &mut Client, thread: &str, state: &str) -> Value {
    let is = |message: &Value| {
        let params = &message["params"];
        message["method"] == "attention/changed" && params["threadId"] == thread && params["state"] == state
    };
    api.until(state, is).await["params"].clone()
}

#[tokio::test]
async fn a_device_that_looks_at_no_thread_is_told_which_run_which_wait_and_how_they_end() {
    let stage = Stage::start().await;
    let (writer, watcher) = (stage.pair(Scope::Approve).await, stage.pair(Scope::View).await);
    let (remote, remote_of_watcher) = (writer.connect().await, watcher.connect().await);
    let mut inbox = Client::raw(remote_of_watcher.api().await.unwrap());
    let list = json!({ "environment": "local" });
    let listed = inbox.request("attention/list", list.clone()).await.unwrap();
    assert_eq!(listed, json!({ "data": [] }));

    let mut codex = client(&remote).await;
    let thread = codex.thread(&stage.codex).await;
    let turn = codex.prompt(&thread, "run touch x").await;
    let asked = codex.event("item/commandExecution/requestApproval").await;
    let is_asked = |message: &Value| {
        let params = &message["params"];
        params["state"] == "waitingOnApproval" && params["requestIds"] == json!([asked["id"]])
    };
    let waits = inbox.until("the request to be known", is_asked).await["params"].clone();
    assert_eq!((&waits["threadId"], &waits["turnId"]), (&json!(thread), &json!(turn)), "{waits}");
    assert_eq!(waits["folder"], json!(stage.codex.home.project()), "{waits}");
    assert!(!waits.to_string().contains("touch"), "{waits}");
    let listed = inbox.request("attention/list", list.clone()).await.unwrap();
    assert_eq!(listed["data"], json!([waits]));
    codex.decide(&asked, "decline").await;
    let done = told(&mut inbox, &thread, "done").await;
    assert_eq!((&done["turnId"], done.get("requestIds")), (&json!(turn), None), "{done}");

    let turn = codex.prompt(&thread, "@text N=2").await;
    told(&mut inbox, &thread, "running").await;
    let of_turn = |message: &Value| message["params"]["turnId"] == turn && message["params"]["state"] == "done";
    inbox.until("the second turn's end", of_turn).await;

    codex.prompt(&thread, "@fail 500").await;
    let failed = told(&mut inbox, &thread, "failed").await;
    assert!(failed["error"].is_string(), "{failed}");

    // A thread's first turn may be over before the agent follows it.
    let mut listed = Vec::new();
    for (prompt, state) in [("@fail 400", "failed"), ("@text N=2", "done")] {
        let first = codex.thread(&stage.codex).await;
        codex.prompt(&first, prompt).await;
        listed.insert(0, told(&mut inbox, &first, state).await);
    }
    listed.push(failed);
    assert_eq!(inbox.request("attention/list", list).await.unwrap()["data"], json!(listed));
    stage.stop().await;
}
