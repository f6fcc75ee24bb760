//! TLS that somebody else ends: what a certificate is worth, and what the relay's key is.

use std::path::Path;

use e2e::eventually;
use e2e::middleman::Middleman;
use e2e::process::{Finished, Home, Process, finished};
use e2e::recorder::Recorder;
use e2e::stage::TestRelay;

const HOST: &str = "a host that nobody else knows";
const DEVICE: &str = "a device that nobody else knows";

/// Runs a command that trusts these authorities and no others.
async fn run(home: &Home, roots: &Path, args: &[&str]) -> Finished {
    let mut command = home.command(args);
    command.arg("--json").env("SSL_CERT_FILE", roots);
    finished(command, "").await
}

/// Everything that a recorder saw of connections.
fn seen(recorder: &Recorder) -> Vec<u8> {
    recorder.kept().iter().flat_map(|kept| kept.up.iter().chain(&kept.down)).flatten().copied().collect()
}

#[tokio::test]
async fn a_middleman_with_an_authoritys_certificate_sees_what_a_relay_sees_and_can_not_be_the_relay() {
    let (relay, other) = (TestRelay::start().await, TestRelay::start().await);
    let (honest, forged) = (Recorder::start(relay.addr).await, Recorder::start(other.addr).await);
    let middleman = Middleman::start(honest.addr()).await;
    let url = format!("https://localhost:{}", middleman.addr.port());
    let roots = middleman.roots();

    // In front of the real relay: what is inside stays sealed.
    let (host, device) = (Home::new(), Home::new());
    let enroll = relay.ready["enroll_file"].as_str().unwrap();
    let args = [
        "host",
        "--relay",
        &url,
        "--enroll-file",
        enroll,
        "--name",
        HOST,
        "--codex-program",
        "no-such-codex",
        "--json",
    ];
    let mut command = host.command(&args);
    command.env("SSL_CERT_FILE", &roots);
    let mut agent = Process::spawn("reachback host", command);
    agent.event("ready").await;
    let mut pair = host.start(&["pair", "--yes", "--scope", "view"]);
    let pairing = pair.event("pairing").await;
    let code = pairing["url"].as_str().unwrap().to_owned();
    run(&device, &roots, &["join", "--name", DEVICE, &code]).await.ok();
    assert_eq!(pair.exit().await, Some(0));
    let hosts = run(&device, &roots, &["hosts"]).await.ok();
    assert_eq!(hosts.event("host")["state"], "online", "{hosts:?}");
    let heard = seen(&honest);
    for secret in [HOST, DEVICE, &code[code.len() - 60..]] {
        assert!(!heard.windows(secret.len()).any(|part| part == secret.as_bytes()), "the middleman heard {secret:?}");
    }
    assert!(heard.len() > 5000, "only {} bytes went by", heard.len());

    // In front of a relay of its own: nobody says a word to it, the host neither.
    middleman.lead_to(forged.addr());
    let hosts = run(&device, &roots, &["hosts"]).await;
    assert!(hosts.out.contains("not the relay that was paired with"), "{hosts:?}");
    let pairing = run(&Home::new(), &roots, &["join", &code]).await;
    assert!(pairing.code == 1 && pairing.out.contains("not the relay that was paired with"), "{pairing:?}");
    let mut tunnel = agent.line("the host's refusal", |line| line["state"] == "down").await;
    assert!(tunnel["reason"].take().as_str().unwrap().contains("not the relay that was paired with"));
    let told: usize = forged.kept().iter().map(|kept| kept.up.len()).sum();
    assert!(forged.kept().len() >= 3 && told == 0, "a relay with another key heard {told} messages");

    // Where those who are trusted can't be read, not even that; which file that is, is said.
    middleman.lead_to(honest.addr());
    let before = honest.kept().len();
    let none = device.path().join("none.pem");
    let hosts = run(&device, &none, &["hosts"]).await;
    assert!(hosts.out.contains("SSL_CERT_FILE names"), "{hosts:?}");
    eventually("the host is back", || honest.kept().len() > before).await;
    assert!(honest.kept()[before..].iter().all(|kept| kept.path.starts_with("/v1/host")), "a device came through");
    assert_eq!(agent.stop().await, Some(0));
}
