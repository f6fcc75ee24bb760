//! The control connection of a host to a relay that does as it likes.

use futures_util::{SinkExt, StreamExt};
use reachback_proto::ids::{DeviceId, RelayId, SessionId};
use reachback_proto::session::{Session, SessionLimits};
use tokio::io::{DuplexStream, duplex};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::link::relay::RelayConnection;
use crate::link::transports::{TransportChoice, Transports};
use crate::link::ws::WebSocket;
use crate::session::start;

/// The host's end of a control connection, let in, and the relay's. Little fits between them.
async fn connected(
    devices: watch::Receiver<Arc<DeviceList>>,
) -> (ControlConnection, RelayConnection, WebSocketStream<DuplexStream>) {
    let (ours, theirs) = duplex(4096);
    let socket = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
    let connection =
        RelayConnection::new(Box::new(WebSocket(socket)), PublicKey([7; 32]), Carrier::Wss { without_quic: None });
    let relay = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
    let config = TunnelConfig {
        relay: RelayAddress {
            origin: "http://127.0.0.1:1".parse().unwrap(),
            trust: RelayTrust::Pinned(RelayId([7; 32])),
            transports: Transports::new(TransportChoice::Wss),
        },
        identity: Arc::new(Identity::generate(&SystemRandom::new()).unwrap()),
        boot: BootId([7; 16]),
        enroll_key: None,
        devices,
        circuits: mpsc::channel(1).0,
        sessions: Arc::default(),
        backoff: BackoffConfig::default(),
        vital: Vital::new(CancellationToken::new()),
    };
    let control = ControlConnection {
        config: Arc::new(config),
        inbox: mpsc::channel(1).1,
        state: watch::Sender::new(TunnelState::Reconnecting { reason: String::new() }),
        relay_key: watch::Sender::new(None),
        stored: watch::Sender::new(0),
        revoked: watch::Sender::new(Vec::new()),
        rests: watch::Sender::new(false),
        pairings: HashMap::new(),
        dials: JoinSet::new(),
        pings: Pings::default(),
        wanted: RateLimiter::direct(WANTED),
        has_worked: false,
    };
    (control, connection, relay)
}

fn nobody() -> (watch::Sender<Arc<DeviceList>>, watch::Receiver<Arc<DeviceList>>) {
    watch::channel(Arc::new(DeviceList { version: 1, paused: false, devices: Vec::new() }))
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_asks_and_does_not_listen_is_left() {
    let (_devices, list) = nobody();
    let (mut control, mut connection, mut relay) = connected(list).await;
    let (_commands, inbox) = mpsc::channel(1);
    control.inbox = inbox;
    let asking = async {
        let ping = Message::binary(RelayToPeer::Ping { id: 7 }.encode());
        while relay.send(ping.clone()).await.is_ok() {}
        std::future::pending::<()>().await
    };
    let started = tokio::time::Instant::now();
    tokio::select! {
        ended = control.serve(&mut connection) => assert!(matches!(ended, Err(RelayError::TimedOut(_))), "{ended:?}"),
        () = asking => unreachable!("it asks for ever"),
        () = sleep(SILENCE_LIMIT * 10) => panic!("the host still waits for the relay to listen"),
    }
    assert!(started.elapsed() <= HEARTBEAT + WRITE_LIMIT, "{:?}", started.elapsed());
}

#[tokio::test]
async fn circuits_that_a_relay_wants_are_dialled_so_often_and_no_more() {
    let (_devices, list) = nobody();
    let (mut control, ..) = connected(list).await;
    let mut dialled = 0;
    for _ in 0..10_000 {
        control.handle(RelayToPeer::CircuitWanted, &Carrier::Wss { without_quic: None }).unwrap();
        dialled += control.dials.len();
        // Each is over at once.
        control.dials.shutdown().await;
    }
    assert!((256..300).contains(&dialled), "{dialled} of 10,000 were dialled");
}

#[tokio::test]
async fn a_relay_that_says_what_is_not_for_a_host_is_left() {
    let (_devices, list) = nobody();
    let (mut control, mut connection, mut relay) = connected(list).await;
    let (_commands, inbox) = mpsc::channel(1);
    control.inbox = inbox;
    let frames = [
        RelayToPeer::Welcome { version: 1, signature: [0; 64] }.encode(),
        RelayToPeer::Attached { circuit: 1 }.encode(),
        RelayToPeer::Presence { online: true, since: 0 }.encode(),
        b"noise".to_vec(),
        Vec::new(),
    ];
    for frame in frames {
        relay.send(Message::binary(frame.clone())).await.unwrap();
        let ended = timeout(Duration::from_secs(60), control.serve(&mut connection)).await.expect("it is listened to");
        assert!(matches!(ended, Err(RelayError::Protocol(_))), "{frame:?}: {ended:?}");
        relay.next().await.unwrap().unwrap();
    }
}

/// What the relay hears next.
async fn heard(relay: &mut WebSocketStream<DuplexStream>) -> PeerToRelay {
    let message = relay.next().await.unwrap().unwrap();
    PeerToRelay::decode(&message.into_data()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_device_hears_its_last_word_before_the_relay_hears_that_it_is_out() {
    let (devices, list) = nobody();
    let (mut control, mut connection, mut relay) = connected(list).await;
    let (_commands, inbox) = mpsc::channel(1);
    control.inbox = inbox;
    let sessions = Arc::clone(&control.config.sessions);
    let session = |n| start(Session::host(SessionId([n; 16]), SessionLimits::default(), Instant::now()));
    let (first, second) = (session(1), session(2));
    let version = |version| Arc::new(DeviceList { version, paused: false, devices: Vec::new() });
    let sent = |version| PeerToRelay::DeviceList { version, keys: Vec::new() };
    let scenario = async {
        assert_eq!(heard(&mut relay).await, sent(1));
        // Nobody who is out has a session: at once.
        let begin = tokio::time::Instant::now();
        devices.send_replace(version(2));
        assert_eq!(heard(&mut relay).await, sent(2));
        assert_eq!(begin.elapsed(), Duration::ZERO, "nobody was waited for");

        // Two have one: once both have ended.
        sessions.insert(DeviceId([1; 16]), SessionId([1; 16]), first.handle.clone());
        sessions.insert(DeviceId([2; 16]), SessionId([2; 16]), second.handle.clone());
        devices.send_replace(version(3));
        sleep(Duration::from_secs(1)).await;
        sessions.remove(DeviceId([1; 16]), SessionId([1; 16]));
        let early = timeout(Duration::from_millis(500), heard(&mut relay)).await;
        assert!(early.is_err(), "the relay cuts off a device that has not heard why: {early:?}");
        sessions.remove(DeviceId([2; 16]), SessionId([2; 16]));
        assert_eq!(heard(&mut relay).await, sent(3));
        assert_eq!(begin.elapsed(), Duration::from_millis(1500), "once they have ended, at once");

        // One that does not end is not waited for for ever, also not when the list goes on changing.
        sessions.insert(DeviceId([1; 16]), SessionId([1; 16]), first.handle.clone());
        let begin = tokio::time::Instant::now();
        devices.send_replace(version(4));
        sleep(LAST_WORDS / 2).await;
        devices.send_replace(version(5));
        assert_eq!(heard(&mut relay).await, sent(5));
        assert_eq!(begin.elapsed(), LAST_WORDS);
    };
    tokio::select! {
        ended = control.serve(&mut connection) => panic!("the connection ended: {ended:?}"),
        () = scenario => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_rests_until_it_is_woken_and_not_for_ever_on_a_machine_that_does_not_sleep() {
    let (_devices, list) = nobody();
    let (mut control, ..) = connected(list).await;
    let rests = control.rests.clone();
    for (woken_after, lasts) in [(Some(Duration::from_secs(1)), Duration::from_secs(1)), (None, REST_LIMIT)] {
        rests.send_replace(true);
        let begin = tokio::time::Instant::now();
        let wake = async {
            if let Some(after) = woken_after {
                sleep(after).await;
                rests.send_replace(false);
            }
        };
        tokio::join!(control.rest(), wake);
        assert_eq!(begin.elapsed(), lasts);
        assert!(!*rests.borrow(), "it would rest again at once");
    }
}

#[tokio::test]
async fn a_ping_is_answered_by_its_number_and_old_ones_make_room() {
    let mut pings = Pings::default();
    let mut sent: Vec<_> = (0..Pings::MOST + 2)
        .map(|_| {
            let (answer, answered) = oneshot::channel();
            (pings.sent(answer), answered)
        })
        .collect();
    assert!(sent.iter().all(|(id, _)| *id > 0), "0 is for those that only show that the connection lives");
    pings.answered(0);
    let (last, answered) = sent.pop().unwrap();
    pings.answered(last + 1);
    pings.answered(last);
    pings.answered(last);
    assert!(answered.await.is_ok());
    let (first, answered) = sent.remove(0);
    pings.answered(first);
    assert!(answered.await.is_err(), "more than {} wait", Pings::MOST);
}
