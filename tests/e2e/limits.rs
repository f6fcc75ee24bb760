//! Programs without a file descriptor left: nothing ends, and all goes on when there is one again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::process::{Home, Process, Up};
use e2e::stage::TestRelay;
use e2e::{PATIENCE, codex, eventually};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Descriptors that a program may have besides those it has already: enough to serve one connection.
const SPARE: u64 = 6;
/// Connections that wait in the listening socket when there is no room for more: those that take what is free for a moment.
const WAITING: usize = 20;

/// The open files of a process.
fn open_files(process: &Process) -> Vec<u64> {
    let files = std::fs::read_dir(format!("/proc/{}/fd", process.pid())).unwrap().flatten();
    files.filter_map(|file| file.file_name().to_str()?.parse().ok()).collect()
}

/// Lets a process that runs have a few more files than it has open, and no more.
fn limit_files(process: &Process) {
    let highest = open_files(process).into_iter().max().unwrap();
    let pid = Pid::from_raw(i32::try_from(process.pid()).unwrap());
    let limit = Rlimit { current: Some(highest + 1 + SPARE), maximum: getrlimit(Resource::Nofile).maximum };
    prlimit(pid, Resource::Nofile, limit).unwrap();
}

/// How often the log says that `whose` connections can't be accepted.
fn troubles(log: &Path, whose: &str) -> usize {
    let log = std::fs::read_to_string(log).unwrap();
    let whose = format!("\"{whose}\"");
    log.lines().filter(|line| line.contains("no connection can be accepted") && line.contains(&whose)).count()
}

/// Opens connections until the log says that no more can be accepted, and some that wait.
async fn fill<S>(log: &Path, whose: &str, connect: impl AsyncFn() -> std::io::Result<S>) -> Vec<S> {
    let mut held = Vec::new();
    let filling = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        while troubles(log, whose) == 0 {
            held.push(connect().await.unwrap());
            ticks.tick().await;
        }
        for _ in 0..WAITING {
            held.push(connect().await.unwrap());
        }
    };
    timeout(PATIENCE, filling).await.expect("the program does not run out of files");
    held
}

/// Starts `reachback` with its log in a file.
fn logged(home: &Home, args: &[&str]) -> (Process, PathBuf) {
    let log = home.folder("logs").join("limits.log");
    let mut command = home.command(args);
    command.arg("--json").stderr(File::create(&log).unwrap());
    (Process::spawn("reachback", command), log)
}

async fn is_healthy(relay: std::net::SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(relay).await?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map(|_| answer)
    };
    matches!(timeout(PATIENCE, ask).await, Ok(Ok(answer)) if answer.starts_with("HTTP/1.1 200"))
}

#[tokio::test]
async fn a_relay_without_files_waits_and_serves_again() {
    let mut relay = TestRelay::start().await;
    let log = relay.log_file();
    assert!(is_healthy(relay.addr).await);
    limit_files(&relay.process);
    let held = fill(&log, "peers", async || TcpStream::connect(relay.addr).await).await;
    drop(held);
    assert!(is_healthy(relay.addr).await, "the relay does not serve again");
    assert_eq!(troubles(&log, "peers"), 1, "the log says it once");
    assert_eq!(relay.process.stop().await, Some(0));
}

#[tokio::test]
async fn an_agent_without_files_answers_commands_when_it_has_some_again() {
    let (home, codex, addr) = (Home::new(), codex::program(), e2e::process::free_port());
    let (mut up, log) =
        logged(&home, &["up", "--demo", "--listen", &addr.to_string(), "--codex-program", codex.to_str().unwrap()]);
    up.line("codex ready", |line| line["event"] == "codex" && line["state"] == "ready").await;
    home.json(&["status"]).await.ok();
    limit_files(&up);
    // The relay that it embeds takes what there is.
    let held = fill(&log, "peers", async || TcpStream::connect(addr).await).await;
    let waiting = home.start(&["status"]);
    eventually("the agent lacks a file for a command", || troubles(&log, "local commands") == 1).await;
    drop((held, waiting));
    let status = home.json(&["status"]).await.ok();
    assert_eq!(status.event("status")["running"], true, "{status:?}");
    assert!(is_healthy(addr).await);
    assert_eq!(up.stop().await, Some(0));
}

#[tokio::test]
async fn a_socket_of_connect_without_files_takes_clients_when_it_has_some_again() {
    let mut up = Up::start().await;
    let device = up.device("laptop").await;
    let path = device.folder("sockets").join("codex.sock");
    let (mut connect, log) = logged(&device, &["connect", "--socket", path.to_str().unwrap()]);
    connect.event("socket").await;
    limit_files(&connect);
    let held = fill(&log, "clients", async || UnixStream::connect(&path).await).await;
    drop(held);
    let ask = async {
        let stream = UnixStream::connect(&path).await.unwrap();
        tokio_tungstenite::client_async("ws://localhost/", stream).await.unwrap()
    };
    timeout(PATIENCE, ask).await.expect("no client is served again");
    assert_eq!(troubles(&log, "clients"), 1, "the log says it once");
    assert_eq!(connect.stop().await, Some(0));
    up.stop().await;
}
