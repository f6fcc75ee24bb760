//! Being asked to stop by a signal, or not: `nohup reachback up &`.

use e2e::process::{Home, Process, after, binary, free_port};
use e2e::{codex, eventually};
use tokio::process::Command;

const HUP: u32 = 1;
const INT: u32 = 2;

/// What `process` does at a signal, by the masks of the system.
#[derive(Debug, PartialEq, Eq)]
enum Disposition {
    Ignored,
    Caught,
    Usual,
}

fn disposition(process: &Process, signal: u32) -> Disposition {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let is_in = |mask: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(mask)).unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap() & (1 << (signal - 1)) != 0
    };
    match (is_in("SigIgn:"), is_in("SigCgt:")) {
        (true, false) => Disposition::Ignored,
        (false, true) => Disposition::Caught,
        _ => Disposition::Usual,
    }
}

fn relay(home: &Home, first: &str) -> Process {
    let data = home.folder("relay");
    std::fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let mut command = Command::new(binary("reachback-relay"));
    command.args(["serve", "--json", "--listen", "127.0.0.1:0", "--data"]).arg(data);
    Process::spawn("reachback-relay serve", after(first, command))
}

async fn up(home: &Home, first: &str) -> Process {
    let (addr, codex) = (free_port().to_string(), codex::program());
    let args = ["up", "--demo", "--listen", &addr, "--codex-program", codex.to_str().unwrap()];
    let mut up = home.start_after(first, &args);
    up.event("ready").await;
    up
}

#[tokio::test]
async fn signals_that_a_program_was_started_to_ignore_stay_ignored() {
    let home = Home::new();
    let mut up = up(&home, "trap '' HUP INT").await;
    let mut relay = relay(&home, "trap '' HUP INT");
    relay.event("ready").await;
    for (signal, name) in [(HUP, "-HUP"), (INT, "-INT")] {
        for process in [&up, &relay] {
            // What is ignored is never delivered, so there is nothing to wait for.
            assert_eq!(disposition(process, signal), Disposition::Ignored, "{name}");
            process.signal(name);
        }
    }
    assert_eq!(home.json(&["status"]).await.ok().event("status")["running"], true);
    assert_eq!(up.stop().await, Some(0), "SIGTERM ends it all the same");
    assert_eq!(relay.stop().await, Some(0), "SIGTERM ends it all the same");
}

#[tokio::test]
async fn a_hang_up_ends_in_order_what_was_not_started_to_ignore_it() {
    let home = Home::new();
    let up = up(&home, "true").await;
    let mut relay = relay(&home, "true");
    relay.event("ready").await;
    eventually("a hang-up is listened for", || disposition(&up, HUP) == Disposition::Caught).await;
    up.signal_and_wait("-HUP", 0).await;
    relay.signal_and_wait("-HUP", 0).await;
}
