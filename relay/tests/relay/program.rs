//! The program itself.

use std::path::Path;
use std::process::Stdio;

use reachback_proto::words::is_unseen;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::common::within;

fn program(args: &[&str], data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reachback-relay"));
    command.args(args).arg("--data").arg(data).kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn first_line(child: &mut Child) -> String {
    let output = child.stdout.take().expect("stdout is piped");
    let line = within("the first line", BufReader::new(output).lines().next_line()).await;
    line.expect("readable output").expect("a line")
}

#[tokio::test]
async fn serve_says_when_it_is_ready_and_stops_at_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut relay = program(&["serve", "--listen", "127.0.0.1:0", "--json"], &data).spawn().unwrap();
    let ready: serde_json::Value = serde_json::from_str(&first_line(&mut relay).await).unwrap();
    assert_eq!(ready["event"], "ready");
    assert!(ready["url"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{ready}");
    assert_eq!(ready["fingerprint"].as_str().unwrap().len(), 52);
    let key_file = Path::new(ready["enroll_file"].as_str().unwrap());
    assert_eq!(std::fs::read_to_string(key_file).unwrap().trim().len(), 52);

    // A key for another host can be made while the relay runs.
    let enroll = within("enroll", program(&["enroll"], &data).output()).await.unwrap();
    assert!(enroll.status.success(), "{enroll:?}");
    let path = String::from_utf8(enroll.stdout).unwrap();
    assert_eq!(std::fs::read_to_string(path.trim()).unwrap().trim().len(), 52);

    let id = relay.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    assert!(within("the program to stop", relay.wait()).await.unwrap().success());
}

#[tokio::test]
async fn what_cannot_start_says_why_and_fails() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let plain = program(&["serve", "--listen", "192.0.2.1:80", "--tls", "off"], &data).output().await.unwrap();
    assert_eq!(plain.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&plain.stderr).contains("plain HTTP"), "{plain:?}");

    let nowhere = program(&["enroll"], &data).output().await.unwrap();
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("no relay"), "{nowhere:?}");
}

/// What `reachback-relay health` prints about the relay of a configuration, and whether that is well.
async fn health(args: &[&str], data: &Path) -> (Option<i32>, String) {
    let args = [&["health"], args].concat();
    let output = within("health", program(&args, data).output()).await.expect("the program runs");
    let text = |bytes| String::from_utf8(bytes).expect("it prints text");
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert_eq!(out.is_empty(), !err.is_empty(), "{out:?} {err:?}");
    (output.status.code(), out + &err)
}

#[tokio::test]
async fn health_finds_the_relay_of_the_same_configuration_and_misses_it_when_it_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let toml = dir.path().join("relay.toml");
    let introduced = "proxy_protocol = true\ntrusted_proxies = ['127.0.0.1']\n";
    for (tls, rest) in [("off", ""), ("generated", ""), ("generated", introduced)] {
        let data = dir.path().join(format!("{tls}{}", rest.len()));
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = free.local_addr().unwrap();
        drop(free);
        std::fs::write(&toml, format!("listen = '{listen}'\ntls = '{tls}'\n{rest}")).unwrap();
        let args = ["--config", toml.to_str().unwrap()];
        let scheme = if tls == "off" { "http" } else { "https" };
        let asked = format!("{scheme}://{listen}/healthz");

        let (code, said) = health(&args, &data).await;
        assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
        assert!(said.starts_with(&format!("reachback-relay: no relay answers at {asked}")), "{said}");

        let mut relay = program(&[&["serve", "--json"], &args[..]].concat(), &data).spawn().unwrap();
        first_line(&mut relay).await;
        let (code, said) = health(&args, &data).await;
        assert_eq!((code, said), (Some(0), format!("{asked} answers: the relay is there\n")));
        if rest.is_empty() {
            let (code, said) = health(&["--url", &format!("{scheme}://{listen}")], &data).await;
            assert_eq!(code, Some(0), "{said}");
        }
        relay.kill().await.unwrap();
        assert_eq!(health(&args, &data).await.0, Some(1));
    }
    let (code, said) = health(&["--listen", "0.0.0.0:443"], dir.path()).await;
    assert_eq!(code, Some(1), "Docker keeps 2 for itself: {said}");
}

#[tokio::test]
async fn no_output_of_the_program_steers_a_terminal_or_forges_a_sentence() {
    const HOSTILE: &str = "there”\r\nRelay ready\u{1b}[2J\u{202e}\u{200b}";
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join(HOSTILE);
    let toml = dir.path().join(format!("{HOSTILE}.toml"));
    std::fs::write(&toml, format!("{} = 1\n", toml::Value::from(HOSTILE))).unwrap();
    let toml = toml.to_str().unwrap();
    let missing = dir.path().join(format!("{HOSTILE}.none"));
    let missing = missing.to_str().unwrap();
    let told = "there'??Relay ready?[2J??";
    for (args, says) in [
        (&["serve", "--config", missing][..], Some(told)),
        (&["serve", "--config", toml], Some(told)),
        (&["enroll"], Some(told)),
        (&["serve", "--listen", "127.0.0.1:0", "--public-url", HOSTILE], None),
        (&["serve", "--listen", HOSTILE], None),
        (&[HOSTILE], None),
    ] {
        let output = within("the program to fail", program(args, &data).output()).await.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{args:?}");
        assert!(!text.contains(|c| c != '\n' && is_unseen(c)), "{args:?}: {text:?}");
        assert!(says.is_none_or(|words| text.contains(words)), "{args:?}: {text:?}");
        assert!(!text.lines().any(|line| line.starts_with("Relay ready")), "{args:?}: {text:?}");
    }

    let mut relay = program(&["serve", "--listen", "127.0.0.1:0"], &data).spawn().unwrap();
    let output = relay.stdout.take().expect("stdout is piped");
    let mut lines = BufReader::new(output).lines();
    let mut enrol = String::new();
    while !enrol.contains("The key is in") {
        enrol = within("a line", lines.next_line()).await.expect("readable output").expect("a line");
        assert!(!enrol.contains(is_unseen), "{enrol:?}");
    }
    assert!(enrol.contains(told), "{enrol:?}");
}
