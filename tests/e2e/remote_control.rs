//! The address that a real `codex remote-control` finds the agent at, and who else is let in there.

use std::path::Path;

use e2e::PATIENCE;
use e2e::codex::{TestCodex, ready};
use e2e::rpc::Client;
use reachback_host::codex::CodexBackend;
use reachback_host::codex::remote_control::{RemoteControl, RemoteControlConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The port, and an enrolment as Codex asks for it, with the secret path.
fn enrolment(home: &Path) -> (u16, String) {
    let kept = std::fs::read(home.join("host/remote_control.json")).unwrap();
    let kept: Value = serde_json::from_slice(&kept).unwrap();
    let port = kept["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
    let path = format!("/{}/backend-api/wham/remote/control/server/enroll", kept["prefix"].as_str().expect("a secret"));
    let body = r#"{"installation_id":"7c3b2f6e-0000-4000-8000-000000000001"}"#;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer x\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    (port, head + body)
}

/// Commands of Codex can read the secret in its state, and may have the network.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn whoever_knows_the_secret_is_not_let_in_beside_codex() {
    let codex = TestCodex::prepare().await;
    codex.home.sign_in().unwrap();
    let agent = tempfile::tempdir().unwrap();
    let home = agent.path().to_owned();
    let backend = RemoteControl::start(RemoteControlConfig { codex: codex.config(), home, redirect: None }).unwrap();
    ready(&backend).await;
    let (port, request) = enrolment(agent.path());

    // A program of this user, as what was left behind by an earlier Codex would be.
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    // Either may end with a reset, as what was sent is not read.
    let _sent = stream.write_all(request.as_bytes()).await;
    let mut answer = String::new();
    let ended = timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
    assert!(ended.is_ok() && answer.is_empty(), "a program of this user was let in: {answer}");

    // A command of this Codex, which has the network.
    let mut client = Client::connect(&backend).await;
    let script = format!("trap '' PIPE; exec 3<>/dev/tcp/127.0.0.1/{port}; printf %s \"$0\" >&3; cat <&3; echo over");
    let command = json!({
        "command": ["bash", "-c", script, request],
        "cwd": codex.home.project(),
        "sandboxPolicy": {"type": "dangerFullAccess"},
    });
    let said = client.request("command/exec", command).await.unwrap();
    assert_eq!(said["stdout"], "over\n", "a command of codex was let in: {said}");

    // Codex itself is, again and again.
    let mut another = Client::connect(&backend).await;
    another.request("thread/loaded/list", json!({})).await.unwrap();
    backend.stop().await;
}
