//! An agent that loses something it can't do without. Its relay is nowhere, its Codex a switch.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reachback_relay::vital::Gone;
use tokio::sync::watch;

use super::*;
use crate::codex::permissions::Profiles;
use crate::codex::{Adapter, Allowance, CodexBackend, CodexConnection, ConnectError, Instance};
use crate::disk::Surroundings;
use crate::firewall::ceiling::Ceiling;
use crate::link::transports::TransportChoice;

const PATIENCE: Duration = Duration::from_secs(60);

/// A Codex whose supervisor ends when it is told to.
struct Supervised(watch::Receiver<CodexState>);

impl CodexBackend for Supervised {
    fn adapter(&self) -> Adapter {
        Adapter::AppServer
    }
    fn state(&self) -> watch::Receiver<CodexState> {
        self.0.clone()
    }
    fn connect(&self, _: Allowance) -> BoxFuture<'_, Result<CodexConnection, ConnectError>> {
        async { panic!("no connection was expected") }.boxed()
    }
    fn stop(&self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}

async fn start(home: &Path) -> (Agent, watch::Sender<CodexState>) {
    let (supervisor, state) = watch::channel(CodexState::Starting);
    let config = AgentConfig {
        ssh: None,
        ssh_rest: Rest::default(),
        home: home.into(),
        runtime: None,
        name: "lonely".into(),
        relay: "http://127.0.0.1:1".parse().unwrap(),
        public_relay: None,
        web_origin: None,
        new_relay: false,
        transports: Transports::new(TransportChoice::Wss),
        enroll_key: None,
        local: LocalEnvironment {
            redirect: None,
            codex: Arc::new(Supervised(state)),
            ceiling: Ceiling::default(),
            profiles: Arc::new(Profiles::new(&SystemRandom::new(), Vec::new(), None).unwrap()),
            ground: None,
            surroundings: Surroundings::default(),
            open: Vec::new(),
        },
        backoff: BackoffConfig::default(),
        session_limits: SessionLimits::default(),
        outbox_limits: OutboxLimits::default(),
    };
    (Agent::start(config).await.unwrap(), supervisor)
}

#[test]
fn a_relay_is_known_by_its_key_however_its_address_is_spelled() {
    let pin = RelayPin { url: "http://127.0.0.1:7420".into(), key: reachback_proto::ids::PublicKey([7; 32]) };
    let trust = |url: &str, enrols| trust(Some(&pin), &url.parse().unwrap(), enrols);
    let pinned = RelayTrust::Pinned(pin.id());
    for other in ["http://127.0.0.1:7420", "http://localhost:7420", "http://[::1]:7420", "https://relay.example"] {
        assert_eq!(trust(other, false), pinned, "{other}");
    }
    // A one-time key for another relay is the owner's word; for the same address it is not.
    assert_eq!(trust("https://relay.example", true), RelayTrust::Learn);
    assert_eq!(trust("http://127.0.0.1:7420", true), pinned);
    assert_eq!(super::trust(None, &"https://relay.example".parse().unwrap(), false), RelayTrust::Learn);
}

async fn gone(agent: &Agent) -> Gone {
    timeout(PATIENCE, agent.vital().failed()).await.expect("the agent goes on as if nothing were missing")
}

#[tokio::test]
async fn an_agent_whose_codex_nobody_supervises_any_more_says_so_and_can_end_in_order() {
    let home = tempfile::tempdir().unwrap();
    let (agent, supervisor) = start(home.path()).await;
    drop(supervisor);
    assert_eq!(gone(&agent).await, Gone::Ended { task: "the supervisor of Codex" });
    timeout(PATIENCE, agent.shutdown()).await.expect("it does not end");
}

#[tokio::test]
async fn a_panic_in_a_task_of_the_agent_is_not_lost() {
    let home = tempfile::tempdir().unwrap();
    let (agent, supervisor) = start(home.path()).await;
    // Its keeper connects then, and that panics.
    supervisor.send_replace(CodexState::Ready {
        version: None,
        started_by: StartedBy::Agent,
        instance: Instance::random(&SystemRandom::new()).unwrap(),
    });
    let wanted = "the keeper of Codex's threads panicked, which is a bug: no connection was expected";
    assert_eq!(gone(&agent).await.to_string(), wanted);
    timeout(PATIENCE, agent.shutdown()).await.expect("it does not end");
}

#[tokio::test]
async fn an_agent_that_is_stopped_misses_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (agent, _supervisor) = start(home.path()).await;
    let vital = agent.vital().clone();
    timeout(PATIENCE, agent.shutdown()).await.expect("it does not end");
    assert_eq!(vital.failure(), None);
}

#[test]
fn what_went_wrong_is_remembered_once_the_newest_first_and_no_more_than_five() {
    let events = AgentEvents::from(broadcast::Sender::new(1));
    let failed = |word: &str| events.send(Event::Error(Failure::new("x", word)));
    (0..7).for_each(|number| failed(&number.to_string()));
    failed("5");
    let lost = |state, reason: Option<&str>| {
        let reason = reason.map(str::to_owned);
        events.send(Event::Tunnel(TunnelStatus { state, transport: None, reason }));
    };
    lost(TunnelWord::Reconnecting, Some("no network"));
    // No trouble of anybody's.
    lost(TunnelWord::Connected, Some("through the proxy"));
    lost(TunnelWord::Reconnecting, None);
    events.send(Event::Notice(Failure::new("x", "a notice")));
    let told: Vec<_> = events.past().into_iter().map(|past| past.failure.message).collect();
    assert_eq!(told, ["no network", "5", "6", "4", "3"]);
}
