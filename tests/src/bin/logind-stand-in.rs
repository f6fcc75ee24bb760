//! A stand-in for systemd-logind on a bus of its own, for tests of the web app: says in a line of JSON where that bus is, and
//! serves it until it is told to end. Its one argument says what it allows: `everything`, or `idle-only`.

#[cfg(target_os = "linux")]
#[expect(dead_code, reason = "tests of the agent use more of it")]
#[path = "../../../host-agent/src/platform/awake/testing.rs"]
mod logind;

#[cfg(target_os = "linux")]
#[tokio::main(flavor = "current_thread")]
async fn main() {
    use logind::{Logind, Rules};
    use tokio::signal::unix::{SignalKind, signal};

    let mut end = signal(SignalKind::terminate()).expect("signals can be heard");
    let rules = match std::env::args().nth(1).as_deref() {
        Some("everything") => Rules::Everything,
        Some("idle-only") => Rules::IdleOnly,
        other => panic!("`everything` or `idle-only`, and not {other:?}"),
    };
    let logind = Logind::start(rules).await;
    println!("{}", serde_json::json!({ "event": "bus", "address": logind.address() }));
    // The bus ends with it.
    end.recv().await;
}

#[cfg(not(target_os = "linux"))]
fn main() {}
