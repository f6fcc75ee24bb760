//! Agent and command over a real socket, with a handler that does little.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reachback_proto::ids::PublicKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::events::TunnelState;
use super::server::{ServeError, converse};
use super::*;
use crate::agent::environments::workspaces::OpenedBy;
use crate::platform::socket::{self, LocalListener};
use crate::state::atomic::FileError;
use crate::state::lock::HomeLock;

const PATIENCE: Duration = Duration::from_secs(10);

/// Pairs whoever has the digits 042137; counts the pairings that are open.
#[derive(Clone)]
struct Fake {
    open: watch::Sender<usize>,
    stop: CancellationToken,
    calls: Arc<AtomicUsize>,
}

struct OpenPairing(watch::Sender<usize>);

impl Drop for OpenPairing {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

impl Handler for Fake {
    async fn handle(&self, request: Request, exchange: Exchange) -> Result<Response, Failure> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        match request {
            Request::Devices => Ok(Response::Devices { paused: false, devices: vec![device(); 256] }),
            Request::Revoke { device } => Err(Failure::new("unknown_device", format!("no {device}")).fix("look")),
            Request::Stop => {
                self.stop.cancel();
                Ok(Response::Done)
            }
            Request::Pair { .. } => self.pair(exchange).await,
            _ => Ok(Response::Done),
        }
    }
}

impl Fake {
    fn new() -> Self {
        Self { open: watch::Sender::new(0), stop: CancellationToken::new(), calls: Arc::default() }
    }

    async fn pair(&self, mut exchange: Exchange) -> Result<Response, Failure> {
        self.open.send_modify(|open| *open += 1);
        let _open = OpenPairing(self.open.clone());
        let lost = |_| Failure::new("gone", "the command went away");
        let secret = || Shown("HTTPS://R/#X".into());
        let expires_at = Timestamp::from_unix(0);
        exchange.events.send(Event::Pairing { url: secret(), code: secret(), expires_at }).await.map_err(lost)?;
        let wanted = Event::PairingDigitsWanted { name: "phone".into(), platform: "iOS".into(), scope: Scope::Steer };
        exchange.events.send(wanted).await.map_err(lost)?;
        match exchange.answers.recv().await {
            Some(Answer::Digits { digits, .. }) if digits.0 == "042137" => {
                let DeviceInfo { device_id, name, scope, .. } = device();
                exchange.events.send(Event::Paired { device_id, name, scope }).await.map_err(lost)?;
                Ok(Response::Device(device()))
            }
            Some(_) => Err(Failure::new("declined", "the digits differ")),
            None => Err(Failure::new("gone", "the command went away")),
        }
    }
}

/// As large as a device gets.
fn device() -> DeviceInfo {
    DeviceInfo {
        device_id: DeviceId::of(&PublicKey([7; 32])),
        name: "\"".repeat(crate::state::MAX_NAME),
        platform: "\"".repeat(crate::state::MAX_NAME),
        scope: Scope::Approve,
        paused: false,
        expired: false,
        revoked_at_relay: false,
        connected: true,
        added_at: Timestamp::from_unix(1_795_413_540),
        last_seen: Timestamp::from_unix(1_795_413_540),
    }
}

fn workspace() -> WorkspaceStatus {
    WorkspaceStatus {
        environment: "local".into(),
        path: "/srv/project".into(),
        by: OpenedBy::Owner,
        open: true,
        reason: None,
    }
}

struct TestAgent {
    fake: Fake,
    socket: PathBuf,
    task: JoinHandle<()>,
    _temp: tempfile::TempDir,
}

impl TestAgent {
    fn start() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let socket = temp.path().join(SOCKET);
        let listener = LocalListener::bind(&socket).unwrap();
        let fake = Fake::new();
        let task = tokio::spawn(serve(listener, Arc::new(fake.clone()), fake.stop.clone()));
        Self { fake, socket, task, _temp: temp }
    }

    async fn ask(&self, request: Request) -> Client {
        Client::connect(&self.socket, &request).await.unwrap()
    }

    async fn finish(&self, request: Request) -> Result<Response, ClientError> {
        timeout(PATIENCE, self.ask(request).await.finish()).await.expect("the agent did not answer")
    }

    /// Sends raw bytes and reads until the agent closes.
    async fn raw(&self, bytes: &[u8]) -> String {
        let (mut read, mut write) = tokio::io::split(socket::connect(&self.socket).await.unwrap());
        write.write_all(bytes).await.unwrap();
        let mut text = String::new();
        timeout(PATIENCE, read.read_to_string(&mut text)).await.expect("the agent did not close").unwrap();
        text
    }

    async fn open_pairings(&self, wanted: usize) {
        let mut open = self.fake.open.subscribe();
        let reached = timeout(PATIENCE, open.wait_for(|open| *open == wanted)).await;
        assert!(reached.is_ok(), "open pairings stay at {}, not {wanted}", *self.fake.open.borrow());
    }
}

async fn next(client: &mut Client) -> Reply {
    timeout(PATIENCE, client.next()).await.expect("the agent said nothing").unwrap()
}

fn pair() -> Request {
    Request::Pair { scope: Some(Scope::Approve), confirm: Confirm::Digits, ttl_seconds: 300 }
}

fn digits(text: &str) -> Answer {
    Answer::Digits { digits: Shown(text.into()), scope: None }
}

#[tokio::test]
async fn requests_are_answered_and_failures_keep_their_fix() {
    let agent = TestAgent::start();
    let pause = Request::Pause { device: None, on: true };
    assert_eq!(agent.finish(pause).await.unwrap(), Response::Done);
    let error = agent.finish(Request::Revoke { device: "phone".into() }).await.unwrap_err();
    let ClientError::Failed(failure) = error else { panic!("{error}") };
    assert_eq!((failure.code.as_str(), failure.fix.as_deref()), ("unknown_device", Some("look")));
}

#[tokio::test]
async fn a_full_list_of_devices_fits_a_reply() {
    let agent = TestAgent::start();
    let Response::Devices { devices, .. } = agent.finish(Request::Devices).await.unwrap() else { panic!("not a list") };
    assert_eq!(devices.len(), 256);
}

#[tokio::test]
async fn pairing_tells_events_in_order_and_takes_digits() {
    let agent = TestAgent::start();
    let mut client = agent.ask(pair()).await;
    assert!(matches!(next(&mut client).await, Reply::Event(Event::Pairing { .. })));
    assert!(matches!(next(&mut client).await, Reply::Event(Event::PairingDigitsWanted { .. })));
    client.answer(&digits("042137")).await.unwrap();
    assert!(matches!(next(&mut client).await, Reply::Event(Event::Paired { .. })));
    assert_eq!(next(&mut client).await, Reply::Done(Response::Device(device())));
    assert!(matches!(client.next().await, Err(ClientError::Gone)));
}

#[tokio::test]
async fn wrong_digits_and_a_decline_end_a_pairing() {
    let agent = TestAgent::start();
    for answer in [digits("000000"), Answer::Decline] {
        let mut client = agent.ask(pair()).await;
        client.answer(&answer).await.unwrap();
        let error = timeout(PATIENCE, client.finish()).await.unwrap().unwrap_err();
        assert!(matches!(error, ClientError::Failed(Failure { ref code, .. }) if code == "declined"), "{error}");
    }
}

#[tokio::test]
async fn a_command_that_goes_away_takes_its_pairing_with_it() {
    let agent = TestAgent::start();
    let client = agent.ask(pair()).await;
    agent.open_pairings(1).await;
    drop(client);
    agent.open_pairings(0).await;
}

#[tokio::test]
async fn an_oversized_line_is_refused() {
    let agent = TestAgent::start();
    let said = agent.raw(&vec![b' '; MAX_REQUEST + 1]).await;
    assert!(said.contains(r#"{"failed":{"code":"too_large""#), "{said}");
    assert_eq!(agent.fake.calls.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_is_no_request_is_refused_without_repeating_it() {
    let agent = TestAgent::start();
    for bad in [
        &b"hello secret\n"[..],
        b"{\"request\":\"secret\"}\n",
        b"{\"request\":\"set_scope\",\"device\":\"x\",\"scope\":\"secret\"}\n",
        b"{\"answer\":\"decline\"}\n",
        b"\xff\xfe\n",
    ] {
        let said = agent.raw(bad).await;
        assert!(said.contains(r#""code":"malformed""#) && !said.contains("secret"), "{said}");
    }
    assert_eq!(agent.fake.calls.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_second_request_on_a_connection_is_refused_and_ends_the_first() {
    let agent = TestAgent::start();
    let pair = serde_json::to_string(&pair()).unwrap();
    let said = agent.raw(format!("{pair}\n{{\"request\":\"status\"}}\n").as_bytes()).await;
    assert!(said.trim_end().lines().last().is_some_and(|line| line.contains("malformed")), "{said}");
    agent.open_pairings(0).await;
}

#[tokio::test(start_paused = true)]
async fn a_command_that_says_nothing_or_does_not_read_is_put_out() {
    let fake = Fake::new();
    let (_silent, ours) = tokio::io::duplex(1024);
    assert!(matches!(converse(ours, &fake).await, Err(ServeError::Silent)));

    let (mut deaf, ours) = tokio::io::duplex(1024);
    deaf.write_all(b"{\"request\":\"devices\"}\n").await.unwrap();
    assert!(matches!(converse(ours, &fake).await, Err(ServeError::Slow)));
}

#[tokio::test]
async fn stop_is_answered_and_ends_the_server_with_its_socket() {
    let agent = TestAgent::start();
    assert_eq!(agent.finish(Request::Stop).await.unwrap(), Response::Done);
    timeout(PATIENCE, agent.task).await.expect("the server did not stop").unwrap();
    assert!(!agent.socket.exists());
    let error = Client::connect(&agent.socket, &Request::Status).await.unwrap_err();
    assert!(matches!(error, ClientError::Socket(_)), "{error}");
}

#[tokio::test]
async fn a_pairing_that_is_open_does_not_keep_the_agent_from_stopping() {
    let agent = TestAgent::start();
    let mut client = agent.ask(pair()).await;
    agent.open_pairings(1).await;
    agent.fake.stop.cancel();
    timeout(PATIENCE, agent.task).await.expect("the server did not stop").unwrap();
    assert_eq!(*agent.fake.open.borrow(), 0);
    let end = async { while client.next().await.is_ok() {} };
    timeout(PATIENCE, end).await.expect("the connection stays open");
}

#[tokio::test]
async fn the_agent_is_found_through_its_home_or_said_not_to_run() {
    let temp = tempfile::tempdir().unwrap();
    let home = temp.path().join("home");
    let ask = async || Client::open(&home, &Request::Status).await;
    assert!(matches!(ask().await, Err(ClientError::NotRunning { .. })), "no home yet");

    let agent = TestAgent::start();
    let lock = HomeLock::acquire(&home).unwrap();
    assert!(matches!(ask().await, Err(ClientError::NotRunning { .. })), "not listening yet");
    lock.announce(Some(&agent.socket)).unwrap();
    assert_eq!(ask().await.unwrap().finish().await.unwrap(), Response::Done);

    agent.fake.stop.cancel();
    timeout(PATIENCE, agent.task).await.expect("the server did not stop").unwrap();
    assert!(matches!(ask().await, Err(ClientError::NotRunning { .. })), "left by a crash");
    std::fs::write(home.join("agent.json"), "{").unwrap();
    assert!(matches!(ask().await, Err(ClientError::File(FileError::Damaged { .. }))));
}

#[test]
fn every_message_survives_its_line() {
    let tunnel = TunnelStatus { state: TunnelState::Down, transport: None, reason: Some("no network".into()) };
    let status = Status {
        version: "0.1.0".into(),
        pid: 7,
        started_at: Timestamp::from_unix(0),
        host_id: HostId::of(&PublicKey([7; 32])),
        host_name: "tower".into(),
        relay_url: None,
        fingerprint: None,
        tunnel: tunnel.clone(),
        codex: None,
        ssh_hosts: Vec::new(),
        codex_use: None,
        awake: Some(AwakeStatus { on: true, state: AwakeState::Held, reason: None, fix: None }),
        devices: 1,
        connected: vec![device().device_id],
        paused: true,
        round_trip_us: Some(1_234),
        threads: Threads { running: 2, waiting: 1 },
        last_errors: vec![Past { at: Timestamp::from_unix(7), failure: Failure::new("x", "y").fix("z") }],
        withheld: 3,
    };
    for reply in [
        Reply::Event(Event::Tunnel(tunnel)),
        Reply::Done(Response::Status(Box::new(status))),
        Reply::Done(Response::Devices { paused: true, devices: vec![device()] }),
        Reply::Done(Response::Device(device())),
        Reply::Done(Response::Workspace(workspace())),
        Reply::Done(Response::Done),
        Reply::Failed(Failure::new("x", "y")),
    ] {
        let line = serde_json::to_string(&reply).unwrap();
        assert_eq!(serde_json::from_str::<Reply>(&line).unwrap(), reply, "{line}");
    }
    for answer in [digits("042137"), Answer::Decline] {
        let line = serde_json::to_string(&answer).unwrap();
        assert_eq!(serde_json::from_str::<Answer>(&line).unwrap(), answer, "{line}");
        assert!(!format!("{answer:?}").contains("42137"));
    }
    for request in [
        Request::Status,
        Request::Devices,
        Request::SetScope { device: "phone".into(), scope: Scope::View },
        Request::Pause { device: Some("phone".into()), on: false },
        Request::Pair { scope: None, confirm: Confirm::None, ttl_seconds: 60 },
        Request::Workspaces,
        Request::Awake { on: Some(true) },
        Request::Awake { on: None },
        Request::AddWorkspace { environment: None, path: "/srv/project".into() },
        Request::RemoveWorkspace { environment: Some("ssh:devbox".into()), path: "/srv/project".into() },
        Request::Stop,
    ] {
        let line = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request, "{line}");
    }
}
