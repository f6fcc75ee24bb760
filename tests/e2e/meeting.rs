//! Builds of different age meet: what each says of itself, and what it makes of what it does not know.

use std::sync::Arc;

use e2e::eventually;
use e2e::rpc::Client;
use e2e::stage::{HOST_NAME, Stage, client};
use reachback_host::connect::host_info;
use reachback_proto::scope::Scope;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

#[tokio::test]
async fn a_host_says_what_it_can_and_a_newer_device_gets_an_answer() {
    let stage = Stage::start().await;
    let device = stage.pair(Scope::Approve).await;
    let remote = device.connect().await;
    let mut api = Client::raw(remote.api().await.unwrap());
    // Members of a newer device are no reason to refuse it.
    let wishes = json!({ "features": ["prompts"], "client": { "name": "web", "apiVersion": 7 } });
    let host = api.request("host/read", wishes).await.unwrap();
    assert_eq!(host["apiVersion"], 1, "{host}");
    // Which there are, the API's reference says; a client looks for those that it knows.
    let features = host["features"].as_array().unwrap();
    assert!(["devices", "environments", "largestMessage"].iter().all(|name| features.contains(&json!(name))), "{host}");
    let relay = &device.host.relays[0];
    assert_eq!(host["relays"], json!([{ "url": relay.url, "key": relay.key }]), "{host}");
    assert_eq!(host["limits"]["messageToHost"], 64 << 20, "{host}");
    assert_eq!(host["limits"]["messageToDevice"], 160 << 20, "{host}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    assert!(u128::from(host["now"].as_u64().unwrap()).abs_diff(now) < 60_000, "{host}");
    // What only a newer host has is refused by name, and nothing else happens.
    let refused = api.request("no/such", json!({})).await.unwrap_err();
    assert_eq!((&refused["code"], &refused["data"]["reason"]), (&json!(-32601), &json!("method")), "{refused}");
    stage.stop().await;
}

#[tokio::test]
async fn a_device_that_takes_less_is_sent_less() {
    let stage = Stage::start().await;
    let remote = stage.pair(Scope::Approve).await.connect().await;
    let mut api = Client::raw(remote.api().await.unwrap());
    let mut far = client(&remote).await;
    let thread = far.thread(&stage.codex).await;
    far.turn(&thread, "@text N=200 size=16000").await;
    let read = json!({ "threadId": thread, "includeTurns": true });
    far.request("thread/read", read.clone()).await.unwrap();
    let refused = api.request("host/read", json!({ "largestMessage": "2 MiB" })).await.unwrap_err();
    assert_eq!(refused["data"]["reason"], "params", "{refused}");
    let host = api.request("host/read", json!({ "largestMessage": 2 << 20 })).await.unwrap();
    assert_eq!(host["limits"]["messageToDevice"], 2 << 20, "{host}");
    // For the channel that is open, too.
    let refused = far.request("thread/read", read).await.unwrap_err();
    assert_eq!(refused["code"], -32011, "{refused}");
    far.echo().await;
    stage.stop().await;
}

#[tokio::test]
async fn a_host_that_has_another_name_is_known_by_it_once_it_says_so() {
    let stage = Stage::start().await;
    let device = stage.pair(Scope::Steer).await;
    let (store, id) = (device.store(), device.host.host_id());
    let mut known = store.load(id).unwrap().unwrap();
    known.name = "its name of last year".into();
    store.save(&known).unwrap();
    let remote = Arc::new(device.connect().await);
    let following = host_info::follow(Arc::clone(&remote), device.store(), id, device.id(), watch::Sender::default());
    let _following = AbortOnDropHandle::new(tokio::spawn(following));
    eventually("the name is the host's", || store.load(id).unwrap().unwrap().name == HOST_NAME).await;
    // A change while it is connected comes by itself.
    let scope = reachback_host::local_api::Request::SetScope { device: device.id().to_string(), scope: Scope::View };
    stage.ask(scope).await;
    eventually("the scope is the host's", || store.load(id).unwrap().unwrap().scope == Scope::View).await;
    stage.stop().await;
}
