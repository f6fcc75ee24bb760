//! A host whose computer goes to sleep, and is awake again, and one that devices keep awake. logind is a stand-in, on a real
//! bus; nothing here sleeps.

use e2e::PATIENCE;
use e2e::codex;
use e2e::process::{Home, Process};
use e2e::stage::TestDevice;
use reachback_host::connect::join::Invitation;
use reachback_host::connect::remote::RemoteState;
use reachback_proto::pairing::PairingUrl;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::api::{api, reason};
use crate::logind::{Logind, Rules};

/// logind waits with the sleep for what is to be said to devices.
const DELAY: usize = 1;
/// What keeps a computer awake: one lock against sleep, and one against what logind does when nobody is there.
const KEPT: usize = 2;

/// The agent of a demo, on a machine with this logind.
fn up(home: &Home, logind: &Logind) -> Process {
    let codex = codex::program();
    let args = ["up", "--demo", "--listen", "127.0.0.1:0", "--codex-program", codex.to_str().unwrap(), "--json"];
    let mut command = home.command(&args);
    command.env("DBUS_SYSTEM_BUS_ADDRESS", logind.address());
    Process::spawn("reachback up", command)
}

#[tokio::test]
async fn a_host_that_goes_to_sleep_says_so_and_its_sessions_go_on_where_they_were() {
    let (logind, home) = (Logind::start(Rules::Everything).await, Home::new());
    let mut up = up(&home, &logind);
    let url = PairingUrl::parse(up.event("pairing").await["url"].as_str().unwrap()).unwrap();
    let device = TestDevice::join(&Invitation::Url(url)).await;
    let remote = device.connect().await;
    let (mut api, mut state) = (api(&remote).await, remote.state());
    logind.holds(DELAY).await;
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
        logind.holds(DELAY).await;
    }
    remote.end().await;
    assert_eq!(up.stop().await, Some(0));
    logind.holds(0).await;
}

/// A device that was paired with this scope.
async fn paired(home: &Home, scope: &str) -> TestDevice {
    let mut pairing = home.start(&["pair", "--yes", "--scope", scope]);
    let url = PairingUrl::parse(pairing.event("pairing").await["url"].as_str().unwrap()).unwrap();
    TestDevice::join(&Invitation::Url(url)).await
}

#[tokio::test]
async fn a_device_keeps_the_computer_awake_from_afar_also_after_a_restart_of_the_agent() {
    let (logind, home) = (Logind::start(Rules::Everything).await, Home::new());
    let mut agent = up(&home, &logind);
    agent.event("ready").await;
    let (admin, desk, phone) =
        (paired(&home, "admin").await, paired(&home, "admin").await, paired(&home, "approve").await);
    let (at_admin, at_desk, at_phone) = (admin.connect().await, desk.connect().await, phone.connect().await);
    let (mut admin_api, mut desk_api, mut phone_api) =
        (api(&at_admin).await, api(&at_desk).await, api(&at_phone).await);
    let host = admin_api.request("host/read", json!({})).await.unwrap();
    assert!(host["features"].as_array().unwrap().contains(&json!("keepAwake")), "{host}");
    let needed = json!({ "method": "host/keepAwake", "needed": "admin", "scope": "approve" });
    assert_eq!(reason(phone_api.request("host/keepAwake", json!({ "on": true })).await), ("scope".into(), needed));
    logind.holds(DELAY).await;

    let off = json!({ "on": false, "state": "off" });
    assert_eq!(admin_api.request("host/keepAwake", json!({})).await.unwrap(), off);
    let on = admin_api.request("host/keepAwake", json!({ "on": true })).await.unwrap();
    let changed = |message: &Value| message["method"] == "keepAwake/changed" && message["params"]["on"] == true;
    assert_eq!(desk_api.until("that it is on", changed).await["params"], on);
    let said = agent.event("awake").await;
    // Or the machine that this runs on is on its battery.
    let is_kept = said["state"] != "on_battery";
    if is_kept {
        assert_eq!((&on, &said["state"]), (&json!({ "on": true, "state": "held" }), &json!("held")));
        logind.holds(DELAY + KEPT).await;
    }
    phone_api.request("host/read", json!({})).await.unwrap();
    assert_eq!(phone_api.take("keepAwake/changed"), Vec::<Value>::new());
    let log = home.json(&["audit", "--device", &admin.id().to_string()]).await.ok().event("keep_awake_on");
    assert_eq!(log["by"], json!(admin.id()), "{log}");
    let words = home.run(&["audit"]).await.ok().out;
    assert!(words.contains("This computer is kept awake for devices from then on, by "), "{words}");
    for remote in [at_admin, at_desk, at_phone] {
        remote.end().await;
    }
    assert_eq!(agent.stop().await, Some(0));
    logind.holds(0).await;

    let mut agent = up(&home, &logind);
    assert_eq!(agent.event("awake").await["on"], true);
    if is_kept {
        logind.holds(DELAY + KEPT).await;
    }
    home.run(&["awake", "off"]).await.ok();
    logind.holds(DELAY).await;
    assert_eq!(agent.stop().await, Some(0));
}
