//! Devices at the door, and others in their way. The relay is a queue of pipes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::{Sink, Stream};
use reachback_proto::crypto::handshake::Ephemeral;
use reachback_proto::crypto::keys::{Identity, Secret};
use reachback_proto::ids::{BootId, PublicKey};
use reachback_proto::pairing::Name;
use reachback_proto::scope::Scope;
use reachback_proto::wire::Reader;
use reachback_relay::vital::Vital;
use tempfile::TempDir;
use tokio::sync::{broadcast, watch};
use tokio_util::task::AbortOnDropHandle;

use super::super::AgentEvents;
use super::super::api::{ApiContext, Disk, Notices};
use super::super::changes::DeviceChanges;
use super::super::pairing::HostIntroduction;
use super::super::tunnel::{Tunnel, TunnelConfig};
use super::*;
use crate::agent::awake::KeepAwake;
use crate::agent::environments::Environments;
use crate::agent::environments::LocalEnvironment;
use crate::agent::outbox::{OutboxLimits, Outboxes};
use crate::agent::pages::Readers;
use crate::agent::prompts::Prompts;
use crate::agent::ssh_hosts::SshHosts;
use crate::audit::AuditLog;
use crate::backoff::BackoffConfig;
use crate::codex::permissions::Profiles;
use crate::codex::{Adapter, Allowance, CodexBackend, CodexConnection, CodexState, ConnectError};
use crate::disk::Surroundings;
use crate::firewall::ceiling::Ceiling;
use crate::link::relay::{RelayAddress, RelayTrust};
use crate::link::testing::{Pipe, pipes};
use crate::link::transports::{TransportChoice, Transports};
use crate::platform::awake::Machine;
use crate::state::answers::Answers;
use crate::state::devices::Device;
use crate::state::journal::Journal;
use crate::state::work::WorkStore;
use crate::state::workspaces::WorkspaceStore;

const PATIENCE: Duration = Duration::from_secs(30);

/// A Codex that is never there.
struct NoCodex(watch::Sender<CodexState>);

impl CodexBackend for NoCodex {
    fn adapter(&self) -> Adapter {
        Adapter::AppServer
    }
    fn state(&self) -> watch::Receiver<CodexState> {
        self.0.subscribe()
    }
    fn connect(&self, _: Allowance) -> BoxFuture<'_, Result<CodexConnection, ConnectError>> {
        async { Err(ConnectError::Stopped) }.boxed()
    }
    fn stop(&self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}

struct Door {
    circuits: mpsc::Sender<IncomingCircuit>,
    devices: Arc<DeviceStore>,
    sessions: Arc<Sessions>,
    host_static: PublicKey,
    task: AbortOnDropHandle<()>,
    _home: TempDir,
}

const HOST: HostId = HostId([7; 16]);

impl Door {
    fn open() -> Self {
        let rng = SystemRandom::new();
        let home = tempfile::tempdir().unwrap();
        let devices = Arc::new(DeviceStore::open(home.path(), Timestamp::now()).unwrap());
        let static_key = StaticKey::generate(&rng).unwrap();
        let host_static = static_key.public();
        let identity = Identity::generate(&rng).unwrap();
        let name = Name::new("door").unwrap();
        let relay: reachback_proto::pairing::Origin = "http://127.0.0.1:1".parse().unwrap();
        let introduction = HostIntroduction {
            identity: identity.public(),
            static_key: static_key.clone(),
            name: name.clone(),
            relay: relay.clone(),
            web: None,
        };
        let tunnel = Arc::new(Tunnel::start(TunnelConfig {
            vital: Vital::default(),
            relay: RelayAddress {
                origin: relay,
                trust: RelayTrust::Learn,
                transports: Transports::new(TransportChoice::Wss),
            },
            identity: Arc::new(identity),
            boot: BootId([0; 16]),
            enroll_key: None,
            devices: devices.subscribe(),
            circuits: mpsc::channel(1).0,
            sessions: Arc::default(),
            backoff: BackoffConfig::default(),
        }));
        let codex: Arc<dyn CodexBackend> = Arc::new(NoCodex(watch::Sender::new(CodexState::Stopped)));
        let local = LocalEnvironment {
            redirect: None,
            codex,
            ceiling: Ceiling::default(),
            profiles: Arc::new(Profiles::new(&SystemRandom::new(), Vec::new(), None).unwrap()),
            ground: None,
            surroundings: Surroundings::default(),
            open: Vec::new(),
        };
        let store = Arc::new(WorkspaceStore::open(home.path()).unwrap());
        let work = Arc::new(WorkStore::open(home.path(), 0).unwrap());
        let environments = Arc::new(Environments::local(local, &store, work));
        let sessions = Arc::new(Sessions::default());
        let audit = Arc::new(AuditLog::open(home.path()).unwrap());
        let events = AgentEvents::from(broadcast::channel(16).0);
        let journal = Journal::open(home.path(), &SystemRandom::new(), 0).unwrap();
        let (prompts, _) = Prompts::new(journal, Arc::clone(&environments), Arc::clone(&devices), Arc::clone(&audit));
        let readers = Readers::new(Arc::clone(&environments), Arc::clone(&devices), Arc::clone(&audit));
        let changes = DeviceChanges {
            devices: Arc::clone(&devices),
            sessions: Arc::clone(&sessions),
            audit: Arc::clone(&audit),
            events: events.clone(),
        };
        let api = Arc::new(ApiContext {
            ssh_hosts: SshHosts::none(home.path(), &environments, &changes),
            relay_url: "https://relay.example:443".into(),
            relay_key: tunnel.relay_key(),
            host: HOST,
            name: name.as_str().into(),
            environments: Arc::clone(&environments),
            changes,
            disk: Disk::default(),
            awake: Arc::new(KeepAwake::open(home.path(), Machine::this()).unwrap()),
            notices: Notices::default(),
            answers: Arc::new(Answers::open(home.path(), 0).unwrap()),
            prompts,
            readers,
        });
        let context = SessionContext {
            sessions: Arc::clone(&sessions),
            devices: Arc::clone(&devices),
            environments,
            outboxes: Arc::new(Outboxes::new(OutboxLimits::default(), home.path().into())),
            audit: Arc::clone(&audit),
            api,
            tunnel: Arc::clone(&tunnel),
            events,
        };
        let acceptor = Acceptor {
            host: HOST,
            static_key,
            devices: Arc::clone(&devices),
            sessions: Arc::clone(&sessions),
            pairings: Pairings::new(introduction, tunnel, Arc::clone(&devices), audit),
            session_limits: SessionLimits::default(),
            context,
        };
        let (circuits, incoming) = mpsc::channel(1);
        let task = AbortOnDropHandle::new(tokio::spawn(acceptor.run(incoming)));
        Self { circuits, devices, sessions, host_static, task, _home: home }
    }

    /// A circuit from whoever the relay says it is.
    async fn circuit(&self, key: PublicKey) -> Pipe {
        let (ours, theirs) = pipes();
        let circuit = IncomingCircuit { circuit: Box::new(theirs), origin: CircuitOrigin::Device { key }, number: 1 };
        timeout(PATIENCE, self.circuits.send(circuit)).await.expect("nobody takes circuits").unwrap();
        ours
    }

    fn pair(&self) -> Paired {
        let rng = SystemRandom::new();
        let identity = Identity::generate(&rng).unwrap().public();
        let (static_key, psk) = (StaticKey::generate(&rng).unwrap(), Secret::new([9; 32]));
        let now = Timestamp::now();
        let device = Device {
            device_id: DeviceId::of(&identity),
            identity,
            static_key: static_key.public(),
            psk,
            name: "phone".into(),
            platform: "test".into(),
            scope: Scope::View,
            paused: false,
            expired: false,
            revoked_at_relay: false,
            unseen_hours: 0,
            added_at: now,
            last_seen: now,
        };
        self.devices.add(device.clone(), now).unwrap();
        Paired { device, static_key }
    }

    async fn link(&self, paired: &Paired) -> SecureLink {
        let circuit = Box::new(self.circuit(paired.device.identity).await);
        let psk = &paired.device.psk;
        handshake::initiate(circuit, HOST, &self.host_static, &paired.static_key, psk).await.unwrap()
    }
}

struct Paired {
    device: Device,
    static_key: StaticKey,
}

async fn say(link: &mut SecureLink, frames: &[Frame<'_>]) {
    let mut record = Vec::new();
    frames.iter().for_each(|frame| frame.encode(&mut record));
    link.start_send(&mut record).unwrap();
    link.flush().await.unwrap();
}

/// Reads until a frame is `wanted`; whether it came before the link ended.
async fn hears(link: &mut SecureLink, mut wanted: impl FnMut(&Frame<'_>) -> bool) -> bool {
    let reading = async {
        while let Ok(record) = link.record().await {
            let mut frames = Reader::new(&record);
            while let Some(frame) = Frame::decode(&mut frames).unwrap() {
                if wanted(&frame) {
                    return true;
                }
            }
        }
        false
    };
    timeout(PATIENCE, reading).await.expect("the host neither answers nor ends the link")
}

const ASK: &[u8] = br#"{"id":1,"method":"host/read"}"#;

#[tokio::test]
async fn circuits_that_stay_silent_do_not_hold_up_a_device_that_is_let_in() {
    let door = Door::open();
    let paired = door.pair();
    let mut link = door.link(&paired).await;
    // Everyone else at the door says nothing; the last ones wait at the relay.
    let silent: Vec<_> =
        (0..MAX_ACCEPTING as u8).map_while(|n| door.circuit(PublicKey([n; 32])).now_or_never()).collect();
    tokio::task::yield_now().await;
    say(&mut link, &[Frame::Open]).await;
    assert!(hears(&mut link, |frame| matches!(frame, Frame::Opened { .. })).await);
    let ask = Frame::Data { channel: 0, seq: 0, first: Some(ASK.len() as u64), last: true, bytes: ASK };
    say(&mut link, &[ask]).await;
    let soon = timeout(HANDSHAKE_TIMEOUT / 2, hears(&mut link, |frame| matches!(frame, Frame::Data { .. })));
    assert!(soon.await.expect("the session waits for the silent to go"), "the API does not answer");
    drop(silent);
}

#[tokio::test]
async fn one_devices_circuits_leave_room_for_anothers() {
    let door = Door::open();
    let loud = PublicKey([1; 32]);
    let mut silent = Vec::new();
    for _ in 0..2 * MAX_ACCEPTING {
        silent.push(door.circuit(loud).await);
    }
    let paired = door.pair();
    let mut link = timeout(HANDSHAKE_TIMEOUT / 2, door.link(&paired)).await.expect("no room at the door");
    say(&mut link, &[Frame::Open]).await;
    assert!(hears(&mut link, |frame| matches!(frame, Frame::Opened { .. })).await);
}

#[tokio::test]
async fn a_device_revoked_between_handshake_and_session_gets_no_session() {
    let door = Door::open();
    let paired = door.pair();
    let mut link = door.link(&paired).await;
    door.devices.remove(paired.device.device_id, Timestamp::now()).unwrap();
    say(&mut link, &[Frame::Open]).await;
    let revoked = |frame: &Frame<'_>| matches!(frame, Frame::Bye { reason: ByeReason::Revoked, .. });
    assert!(hears(&mut link, revoked).await, "a revoked device is not told");
    let gone = async {
        while !door.sessions.presence().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("a revoked device keeps a session");
}

#[tokio::test]
async fn a_paused_device_is_told_so_gets_no_session_and_counts_as_not_seen() {
    let door = Door::open();
    let paired = door.pair();
    let id = paired.device.device_id;
    door.devices.set_paused(Some(id), true, Timestamp::now()).unwrap();
    let seen = || door.devices.current().device(id).unwrap().last_seen;
    let before = seen();
    for first in [Frame::Open, Frame::Resume { session: SessionId([1; 16]), received: Vec::new() }] {
        let mut link = door.link(&paired).await;
        say(&mut link, &[first]).await;
        let paused = |frame: &Frame<'_>| matches!(frame, Frame::Bye { reason: ByeReason::Paused, .. });
        assert!(hears(&mut link, paused).await, "a paused device is not told");
    }
    assert!(door.sessions.presence().is_empty(), "a paused device has a session");
    assert_eq!(seen(), before, "a paused device counts as seen");
    door.devices.set_paused(Some(id), false, Timestamp::now()).unwrap();
    let mut link = door.link(&paired).await;
    say(&mut link, &[Frame::Open]).await;
    assert!(hears(&mut link, |frame| matches!(frame, Frame::Opened { .. })).await, "it is not let in again");
}

#[tokio::test]
async fn a_session_of_another_device_is_unknown_to_who_names_it() {
    let door = Door::open();
    let (owner, thief) = (door.pair(), door.pair());
    let mut link = door.link(&owner).await;
    say(&mut link, &[Frame::Open]).await;
    let mut opened = None;
    let hears_id = hears(&mut link, |frame| {
        if let Frame::Opened { session, .. } = frame {
            opened = Some(*session);
        }
        matches!(frame, Frame::Opened { .. })
    });
    assert!(hears_id.await);
    let session = opened.unwrap();

    // A key of its own, and the id of somebody else's session: it hears what it would of an id that nobody has.
    for named in [session, SessionId([1; 16])] {
        let mut other = door.link(&thief).await;
        say(&mut other, &[Frame::Resume { session: named, received: Vec::new() }]).await;
        let gap = |frame: &Frame<'_>| matches!(frame, Frame::Gap { reason: GapReason::Unknown });
        assert!(hears(&mut other, gap).await, "another device's session was resumed");
    }
    assert!(door.sessions.find(thief.device.device_id, session).is_none());
    let ask = Frame::Data { channel: 0, seq: 0, first: Some(ASK.len() as u64), last: true, bytes: ASK };
    say(&mut link, &[ask]).await;
    assert!(hears(&mut link, |frame| matches!(frame, Frame::Data { .. })).await, "its owner lost the session");
}

#[tokio::test]
async fn a_replayed_first_message_changes_nothing() {
    let door = Door::open();
    let paired = door.pair();
    let rng = SystemRandom::new();
    let (_, hello) = reachback_proto::crypto::handshake::LinkInitiator::start(
        HOST,
        &door.host_static,
        &paired.static_key,
        &paired.device.psk,
        reachback_proto::version::SUPPORTED,
        Ephemeral::generate(&rng).unwrap(),
    )
    .unwrap();
    for _ in 0..2 {
        let mut stream = BlockStream::new(Box::new(door.circuit(paired.device.identity).await));
        stream.write(&hello).await.unwrap();
        timeout(PATIENCE, stream.block()).await.expect("the host does not answer").unwrap();
    }
    assert!(door.sessions.presence().is_empty());
}

/// A circuit with a bug behind it.
struct Broken;

impl Stream for Broken {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        panic!("a bug")
    }
}

impl Sink<Bytes> for Broken {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
    fn start_send(self: Pin<&mut Self>, _: Bytes) -> io::Result<()> {
        Ok(())
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

#[tokio::test]
async fn a_panic_of_a_circuits_task_comes_up_to_the_acceptor() {
    let door = Door::open();
    let origin = CircuitOrigin::Device { key: PublicKey([1; 32]) };
    let circuit = IncomingCircuit { circuit: Box::new(Broken), origin, number: 1 };
    door.circuits.send(circuit).await.unwrap();
    let ended = timeout(PATIENCE, door.task).await.expect("the panic is lost");
    assert!(ended.unwrap_err().is_panic());
}
