//! A host whose computer goes to sleep, and is awake again. logind is a stand-in, on a real bus; nothing here sleeps.

use e2e::PATIENCE;
use e2e::codex;
use e2e::process::{Home, Process};
use e2e::stage::TestDevice;
use reachback_host::connect::join::Invitation;
use reachback_host::connect::remote::RemoteState;
use reachback_proto::pairing::PairingUrl;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::api::api;
use crate::logind::{Logind, Rules};

#[tokio::test]
async fn a_host_that_goes_to_sleep_says_so_and_its_sessions_go_on_where_they_were() {
    let (logind, home, codex) = (Logind::start(Rules::Everything).await, Home::new(), codex::program());
    let args = ["up", "--demo", "--listen", "127.0.0.1:0", "--codex-program", codex.to_str().unwrap(), "--json"];
    let mut command = home.command(&args);
    command.env("DBUS_SYSTEM_BUS_ADDRESS", logind.address());
    let mut up = Process::spawn("reachback up", command);
    let url = PairingUrl::parse(up.event("pairing").await["url"].as_str().unwrap()).unwrap();
    let device = TestDevice::join(&Invitation::Url(url)).await;
    let remote = device.connect().await;
    let (mut api, mut state) = (api(&remote).await, remote.state());
    // logind waits with the sleep for what is to be said.
    logind.holds(1).await;
    for id in [701, 702] {
        // Nobody but logind is believed.
        logind.stranger_says(true).await;
        api.request("host/read", json!({})).await.unwrap();
        assert_eq!(api.take("host/asleep"), Vec::<Value>::new());

        logind.says(true).await;
        api.until("the host says that it sleeps", |message| message["method"] == "host/asleep").await;
        let offline = state.wait_for(|state| matches!(state, RemoteState::HostOffline { .. }));
        timeout(PATIENCE, offline).await.expect("the relay does not know that nobody is there").unwrap();
        logind.holds(0).await;
        // Asked meanwhile, it answers once it is awake, in the session that there was.
        api.send(&json!({ "id": id, "method": "host/read", "params": {} })).await;
        logind.says(false).await;
        let answer = api.until("the host is awake", |message| message["id"] == id).await;
        assert!(answer["result"]["hostId"].is_string(), "{answer}");
        logind.holds(1).await;
    }
    remote.end().await;
    assert_eq!(up.stop().await, Some(0));
    logind.holds(0).await;
}
