//! A relay, hosts and devices for tests.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use reachback_proto::claims::{ProofRole, prove};
use reachback_proto::close::CloseCode;
use reachback_proto::control::{EnrollKey, PeerToRelay, RelayToPeer, welcome_transcript};
use reachback_proto::crypto::keys::{Identity, verify};
use reachback_proto::endpoint::Endpoint;
use reachback_proto::ids::{BootId, HostId, PublicKey, RelayId, RendezvousId};
use reachback_relay::{Config, Relay};
use ring::rand::SystemRandom;
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::{tls, transport};

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for `what`, and says so when it does not come.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"))
}

/// A relay on loopback with its own data directory.
pub(crate) struct TestRelay {
    pub(crate) relay: Relay,
    pub(crate) dir: TempDir,
}

impl TestRelay {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A relay with another configuration than the default.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::on(tempfile::tempdir().expect("a temporary directory"), change).await
    }

    /// A relay on a directory that another one may have used.
    pub(crate) async fn on(dir: TempDir, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config { data: dir.path().join("data"), listen: loopback(), ..Config::default() };
        // All of a test comes from one address, and asks for metrics all the time.
        config.limits.accepts_burst = std::num::NonZeroU32::MAX;
        transport::configure(&mut config);
        change(&mut config);
        Self { relay: Relay::start(config).await.expect("the relay starts"), dir }
    }

    /// Stops the relay in order and returns its directory.
    pub(crate) async fn stop(self) -> TempDir {
        within("the relay to stop", self.relay.shutdown()).await;
        self.dir
    }

    /// A value of `/metrics`; 0 for a series that is not there yet.
    pub(crate) async fn metric(&self, series: &str) -> u64 {
        let text = self.get("/metrics").await.1;
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().expect("a number"))
    }

    /// Waits until a metric has reached `least`.
    pub(crate) async fn metric_reaches(&self, series: &str, least: u64) {
        within(&format!("{series} to reach {least}"), async {
            while self.metric(series).await < least {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Status and body of a GET.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let (status, head, body) = self.request(path, "").await;
        let _ = head;
        (status, body)
    }

    /// Status, head and body of a GET with more headers (`Name: value\r\n` each); a `Host` replaces the usual one.
    pub(crate) async fn request(&self, path: &str, headers: &str) -> (u16, String, String) {
        let host =
            if headers.contains("Host:") { String::new() } else { format!("Host: {}\r\n", self.relay.local_addr()) };
        let request = format!("GET {path} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\r\n");
        let stream = TcpStream::connect(self.relay.local_addr()).await.expect("the relay accepts");
        let mut stream: Box<dyn Carrier> = match self.relay.url().scheme() {
            "https" => {
                let name = ServerName::try_from("localhost").expect("a name");
                Box::new(within("TLS", tls::connector().connect(name, stream)).await.expect("TLS"))
            }
            _ => Box::new(stream),
        };
        stream.write_all(request.as_bytes()).await.expect("the relay reads");
        let mut answer = String::new();
        within("the answer", stream.read_to_string(&mut answer)).await.expect("an HTTP answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, head.to_lowercase(), body.to_owned())
    }

    /// A host that is enrolled and connected.
    pub(crate) async fn host(&self) -> (TestHost, Client) {
        let host = TestHost::new();
        let key = self.relay.create_enroll_key().await.expect("an enrolment key");
        let control = host.control_with(self, Some(key)).await;
        (host, control)
    }

    /// A host, connected, that lists a device.
    pub(crate) async fn host_and_device(&self) -> (TestHost, Client, TestDevice) {
        let (host, mut control) = self.host().await;
        let device = TestDevice::of(&host);
        control.list_devices(1, &[&device]).await;
        (host, control, device)
    }

    /// A circuit between a device and its host: the device's end, the host's end.
    pub(crate) async fn circuit(&self, host: &TestHost, control: &mut Client, device: &TestDevice) -> (Client, Client) {
        let mut ours = device.open(self).await;
        ours.expect_presence(true).await;
        control.expect(RelayToPeer::CircuitWanted).await;
        let mut theirs = host.data(self).await;
        let RelayToPeer::CircuitStart { circuit, .. } = theirs.next().await else { panic!("not a CircuitStart") };
        ours.expect(RelayToPeer::Attached { circuit }).await;
        (ours, theirs)
    }
}

fn loopback() -> std::net::SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

pub(crate) fn identity() -> Identity {
    Identity::generate(&SystemRandom::new()).expect("randomness")
}

/// A host's keys and its run.
pub(crate) struct TestHost {
    pub(crate) identity: Identity,
    pub(crate) boot: BootId,
}

/// A device's key at one host.
pub(crate) struct TestDevice {
    pub(crate) identity: Identity,
    pub(crate) host: HostId,
}

/// What a challenge said.
pub(crate) struct Challenge {
    pub(crate) relay_key: PublicKey,
    pub(crate) nonce: [u8; 32],
}

pub(crate) const PEER_NONCE: [u8; 32] = [7; 32];

impl TestHost {
    pub(crate) fn new() -> Self {
        Self { identity: identity(), boot: BootId([1; 16]) }
    }

    /// The same host, started again (or its clone on another machine).
    pub(crate) fn another_run(&self) -> Self {
        Self { identity: Identity::from_seed(self.identity.seed().clone()), boot: BootId([2; 16]) }
    }

    pub(crate) fn id(&self) -> HostId {
        HostId::of(&self.identity.public())
    }

    /// The hello of a control connection.
    pub(crate) fn hello(&self, challenge: &Challenge, enroll_key: Option<EnrollKey>) -> PeerToRelay {
        let proof = proof(&self.identity, challenge, ProofRole::Host, None);
        let (key, boot) = (self.identity.public(), self.boot);
        PeerToRelay::HostHello { version: 1, key, peer_nonce: PEER_NONCE, boot, proof, enroll_key }
    }

    /// A control connection that was welcomed.
    pub(crate) async fn control(&self, relay: &TestRelay) -> Client {
        self.control_with(relay, None).await
    }

    pub(crate) async fn control_with(&self, relay: &TestRelay, enroll_key: Option<EnrollKey>) -> Client {
        let mut client = self.knock(relay, enroll_key).await;
        client.expect_welcome().await;
        client
    }

    /// A control connection that was welcomed in another version than the first.
    pub(crate) async fn control_of_version(&self, wanted: u8, relay: &TestRelay) -> Client {
        let mut client = Client::open(relay, Endpoint::Host).await;
        let challenge = client.challenge().await;
        let mut hello = self.hello(&challenge, None);
        if let PeerToRelay::HostHello { version, .. } = &mut hello {
            *version = wanted;
        }
        client.greet(&challenge, &hello, self.identity.public()).await;
        client.expect_welcome_in(wanted).await;
        client
    }

    /// A control connection that has said hello.
    pub(crate) async fn knock(&self, relay: &TestRelay, enroll_key: Option<EnrollKey>) -> Client {
        let mut client = Client::open(relay, Endpoint::Host).await;
        let challenge = client.challenge().await;
        client.greet(&challenge, &self.hello(&challenge, enroll_key), self.identity.public()).await;
        client
    }

    /// A data connection that was welcomed.
    pub(crate) async fn data(&self, relay: &TestRelay) -> Client {
        let mut client = Client::open(relay, Endpoint::HostData).await;
        self.greet_as_data(&mut client).await;
        client
    }

    /// Makes a connection a data connection that was welcomed.
    pub(crate) async fn greet_as_data(&self, client: &mut Client) {
        let challenge = client.challenge().await;
        let proof = proof(&self.identity, &challenge, ProofRole::HostData, None);
        let (key, boot) = (self.identity.public(), self.boot);
        let hello = PeerToRelay::HostDataHello { version: 1, key, peer_nonce: PEER_NONCE, boot, proof };
        client.greet(&challenge, &hello, key).await;
        client.expect_welcome().await;
    }

    /// A data connection that waits as a spare.
    pub(crate) async fn spare(&self, relay: &TestRelay) -> Client {
        let before = relay.metric("reachback_relay_links_opened_total{role=\"host_data\"}").await;
        let client = self.data(relay).await;
        relay.metric_reaches("reachback_relay_links_opened_total{role=\"host_data\"}", before + 1).await;
        client
    }
}

impl TestDevice {
    pub(crate) fn of(host: &TestHost) -> Self {
        Self { identity: identity(), host: host.id() }
    }

    /// A link that has said hello.
    pub(crate) async fn knock(&self, relay: &TestRelay, watch_only: bool) -> Client {
        let mut client = Client::open(relay, Endpoint::Device).await;
        self.greet(&mut client, watch_only).await;
        client
    }

    /// Says hello on a connection.
    pub(crate) async fn greet(&self, client: &mut Client, watch_only: bool) {
        let challenge = client.challenge().await;
        self.answer(client, &challenge, watch_only).await;
    }

    /// Answers a challenge.
    pub(crate) async fn answer(&self, client: &mut Client, challenge: &Challenge, watch_only: bool) {
        let proof = proof(&self.identity, challenge, ProofRole::Device, Some(self.host));
        let (key, host) = (self.identity.public(), self.host);
        let hello = PeerToRelay::DeviceHello { version: 1, key, peer_nonce: PEER_NONCE, host, watch_only, proof };
        client.greet(challenge, &hello, key).await;
    }

    /// A link that was welcomed and wants a circuit.
    pub(crate) async fn open(&self, relay: &TestRelay) -> Client {
        let mut client = self.knock(relay, false).await;
        client.expect_welcome().await;
        client
    }

    /// A link that was welcomed and only watches.
    pub(crate) async fn watch(&self, relay: &TestRelay) -> Client {
        let mut client = self.knock(relay, true).await;
        client.expect_welcome().await;
        client
    }
}

/// A device without a key that has named a rendezvous.
pub(crate) async fn pair(relay: &TestRelay, rendezvous: RendezvousId) -> Client {
    let mut client = Client::open(relay, Endpoint::Device).await;
    let challenge = client.challenge().await;
    let hello = PeerToRelay::PairHello { version: 1, peer_nonce: PEER_NONCE, rendezvous };
    client.greet(&challenge, &hello, PublicKey([0; 32])).await;
    client
}

pub(crate) fn proof(identity: &Identity, challenge: &Challenge, role: ProofRole, host: Option<HostId>) -> String {
    prove(identity, RelayId::of(&challenge.relay_key), &challenge.nonce, role, host).expect("a proof")
}

/// What a link runs over.
pub(crate) trait Carrier: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Carrier for T {}

/// The messages of a link.
pub(crate) type Socket = WebSocketStream<Box<dyn Carrier>>;

/// One link to the relay.
pub(crate) struct Client {
    pub(crate) socket: Socket,
    /// What the welcome must be signed over, and by whom.
    welcome: Option<(PublicKey, Vec<u8>)>,
}

impl Client {
    pub(crate) async fn open(relay: &TestRelay, endpoint: Endpoint) -> Self {
        Self::over(transport::open(relay, endpoint).await)
    }

    pub(crate) fn over(socket: Socket) -> Self {
        Self { socket, welcome: None }
    }

    pub(crate) async fn challenge(&mut self) -> Challenge {
        match self.next().await {
            RelayToPeer::Challenge { relay_key, nonce, .. } => Challenge { relay_key, nonce },
            other => panic!("wanted a challenge, got {other:?}"),
        }
    }

    /// Sends a hello, and remembers what its welcome must prove.
    pub(crate) async fn greet(&mut self, challenge: &Challenge, hello: &PeerToRelay, key: PublicKey) {
        self.welcome = Some((challenge.relay_key, welcome_transcript(&challenge.nonce, &PEER_NONCE, &key)));
        self.send(hello).await;
    }

    /// Expects a welcome that proves the relay's key.
    pub(crate) async fn expect_welcome(&mut self) {
        self.expect_welcome_in(1).await;
    }

    /// The same, in this version.
    pub(crate) async fn expect_welcome_in(&mut self, wanted: u8) {
        let (key, transcript) = self.welcome.take().expect("a hello went out");
        match self.next().await {
            RelayToPeer::Welcome { version, signature } if version == wanted => {
                verify(&key, &transcript, &signature).expect("the welcome is signed by the relay's key");
            }
            other => panic!("wanted a welcome, got {other:?}"),
        }
    }

    pub(crate) async fn send(&mut self, frame: &PeerToRelay) {
        self.send_bytes(frame.encode()).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: Vec<u8>) {
        self.socket.send(Message::Binary(bytes.into())).await.expect("the relay reads");
    }

    /// The next message that is not a ping or a pong of the transport.
    pub(crate) async fn message(&mut self) -> Option<Message> {
        within("a message", async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(message)) => return Some(message),
                    None | Some(Err(_)) => return None,
                }
            }
        })
        .await
    }

    pub(crate) async fn bytes(&mut self) -> Vec<u8> {
        match self.message().await {
            Some(Message::Binary(bytes)) => bytes.into(),
            other => panic!("wanted bytes, got {other:?}"),
        }
    }

    /// `length` bytes of a circuit, however they are cut into messages.
    pub(crate) async fn read(&mut self, length: usize) -> Vec<u8> {
        let mut all = Vec::with_capacity(length);
        while all.len() < length {
            all.extend(self.bytes().await);
        }
        all
    }

    pub(crate) async fn next(&mut self) -> RelayToPeer {
        RelayToPeer::decode(&self.bytes().await).expect("a frame")
    }

    pub(crate) async fn expect(&mut self, frame: RelayToPeer) {
        assert_eq!(self.next().await, frame);
    }

    pub(crate) async fn expect_presence(&mut self, wanted: bool) -> u64 {
        match self.next().await {
            RelayToPeer::Presence { online, since } if online == wanted => since,
            other => panic!("wanted presence {wanted}, got {other:?}"),
        }
    }

    /// The close code that ends the connection. Anything else that comes first is a failure.
    pub(crate) async fn closed(&mut self) -> CloseCode {
        self.close_frame().await.0
    }

    pub(crate) async fn close_frame(&mut self) -> (CloseCode, String) {
        match self.message().await {
            Some(Message::Close(Some(frame))) => {
                (CloseCode::from_number(frame.code.into()), frame.reason.as_str().to_owned())
            }
            other => panic!("wanted a close, got {other:?}"),
        }
    }

    /// The message of a refusal, whose code must be this one, in the frame and in the close.
    pub(crate) async fn expect_refused(&mut self, wanted: CloseCode) -> String {
        match self.next().await {
            RelayToPeer::Refused { code, message, .. } => {
                assert_eq!(CloseCode::from_number(code), wanted, "{message}");
                assert_eq!(self.closed().await, wanted, "the close has another code than the refusal");
                message
            }
            other => panic!("wanted {wanted:?}, got {other:?}"),
        }
    }

    /// Sends a device list and waits until it is in force.
    pub(crate) async fn list_devices(&mut self, version: u64, devices: &[&TestDevice]) {
        let keys = devices.iter().map(|device| device.identity.public()).collect();
        self.send(&PeerToRelay::DeviceList { version, keys }).await;
        self.expect(RelayToPeer::DeviceListStored { version }).await;
    }
}
