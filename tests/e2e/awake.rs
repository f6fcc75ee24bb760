//! `reachback awake`: keeping the host awake. What logind makes of it is in `soak/services.rs`, and in tests of the agent's own.

use e2e::codex;
use e2e::process::{Home, Process};
use serde_json::{Value, json};

#[track_caller]
fn is(line: &Value, on: bool, state: &str) {
    assert_eq!((&line["event"], &line["on"], &line["state"]), (&json!("awake"), &json!(on), &json!(state)), "{line}");
    let mut members: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(members, ["event", "fix", "on", "reason", "state"]);
}

/// The agent of a demo, on a machine that has no logind.
async fn up(home: &Home) -> Process {
    let codex = codex::program();
    let args = ["up", "--demo", "--listen", "127.0.0.1:0", "--codex-program", codex.to_str().unwrap(), "--json"];
    let mut command = home.command(&args);
    command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere/bus");
    let mut up = Process::spawn("reachback up", command);
    up.event("ready").await;
    up
}

#[tokio::test]
async fn a_host_says_why_it_is_not_kept_awake_and_keeps_in_mind_that_it_is_to_be() {
    let (home, device) = (Home::new(), Home::new());
    let mut agent = up(&home).await;
    is(&home.json(&["awake"]).await.ok().event("awake"), false, "off");
    assert!(!home.run(&["status"]).await.ok().out.contains("Awake"), "who did not ask for it hears nothing of it");
    let on = home.json(&["awake", "on"]).await.ok().event("awake");
    is(&on, true, "no_access");
    assert_eq!(agent.event("awake").await, on);
    assert_eq!(home.json(&["status"]).await.ok().event("awake"), on);
    let status = home.run(&["status"]).await.ok().out;
    assert!(
        status.contains("\nAwake    not kept awake now: no device is paired; pair one: reachback pair"),
        "{status}"
    );

    let url = agent.event("pairing").await["url"].clone();
    device.json(&["join", url.as_str().unwrap()]).await.ok();
    let failed = agent.event("awake").await;
    // Or the machine that this runs on is on its battery.
    if failed["state"] != "on_battery" {
        is(&failed, true, "not_offered");
        let words = home.run(&["awake"]).await.ok().out;
        for part in ["This computer is not kept awake now", "systemd-logind", "Reachback keeps a Linux computer awake"]
        {
            assert!(words.contains(part), "no `{part}` in {words}");
        }
    }
    assert_eq!(agent.stop().await, Some(0));

    is(&home.json(&["awake"]).await.ok().event("awake"), true, "no_agent");
    is(&home.json(&["status"]).await.ok().event("awake"), true, "no_agent");
    let mut agent = up(&home).await;
    is(&home.json(&["awake", "off"]).await.ok().event("awake"), false, "off");
    assert_eq!(agent.stop().await, Some(0));
    is(&home.json(&["awake"]).await.ok().event("awake"), false, "off");
    assert_eq!(home.run(&["awake", "maybe"]).await.code, 2);
}
