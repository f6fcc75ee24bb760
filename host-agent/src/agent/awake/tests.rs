//! A machine that is made of a folder of power supplies and a stand-in for logind.

use reachback_proto::scope::Scope;
use tempfile::TempDir;
use tokio::sync::broadcast;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::audit::Line;
use crate::link::transports::TransportKind;
use crate::platform::awake::testing::{Logind, Rules};
use crate::state::devices::Device;
use crate::state::timestamp::Timestamp;

const PATIENCE: Duration = Duration::from_secs(30);
/// What a lock is to logind: one against sleep, and one against what it does when nobody is there.
const LOCK: usize = 2;

struct Stage {
    home: TempDir,
    power: TempDir,
    logind: Logind,
    awake: Arc<KeepAwake>,
    audit: AuditLog,
    devices: watch::Sender<Arc<DeviceList>>,
    tunnel: watch::Sender<TunnelState>,
    events: broadcast::Receiver<Event>,
    runs: AbortOnDropHandle<()>,
}

impl Stage {
    /// A machine on mains, with one device and a relay.
    async fn set(rules: Rules) -> Self {
        Self::on(Logind::start(rules).await)
    }

    /// The same with this one on its bus.
    fn on(logind: Logind) -> Self {
        let (home, power) = (tempfile::tempdir().expect("there is room"), tempfile::tempdir().expect("there is room"));
        let machine = Machine::of(power.path(), logind.address());
        let awake =
            KeepAwake { looks: Duration::from_millis(10), ..KeepAwake::open(home.path(), machine).expect("new") };
        let awake = Arc::new(awake);
        let devices = watch::Sender::new(list(false, &[false]));
        let tunnel = watch::Sender::new(connected());
        let (events, heard) = broadcast::channel(64);
        let run = Arc::clone(&awake).run(devices.subscribe(), tunnel.subscribe(), AgentEvents::from(events));
        let runs = AbortOnDropHandle::new(tokio::spawn(run));
        let audit = AuditLog::open(home.path()).expect("new");
        Self { home, power, logind, awake, audit, devices, tunnel, events: heard, runs }
    }

    /// Plugs the machine in, or not.
    fn plug(&self, is_in: bool) {
        for (supply, name, content) in [
            ("AC", "type", "Mains"),
            ("AC", "online", if is_in { "1" } else { "0" }),
            ("BAT0", "type", "Battery"),
            ("BAT0", "status", if is_in { "Charging" } else { "Discharging" }),
        ] {
            let folder = self.power.path().join(supply);
            std::fs::create_dir_all(&folder).expect("there is room");
            std::fs::write(folder.join(name), content).expect("there is room");
        }
    }

    async fn is(&self, state: AwakeState) -> AwakeStatus {
        let mut seen = self.awake.seen.subscribe();
        let waited = timeout(PATIENCE, seen.wait_for(|seen| seen.status.state == state)).await;
        match waited {
            Ok(seen) => seen.expect("it runs").status.clone(),
            Err(_) => panic!("{state:?} was waited for, and it is {:?}", self.awake.last_seen()),
        }
    }

    async fn turned_on(&self) -> AwakeStatus {
        self.turn(true).await.expect("it can be written")
    }

    async fn turn(&self, on: bool) -> Result<AwakeStatus, AwakeChangeError> {
        self.awake.set(on, None, &self.audit).await
    }
}

fn connected() -> TunnelState {
    TunnelState::Connected { transport: TransportKind::Wss, without_quic: None }
}

/// A list with a device each that is paused or not.
fn list(all_paused: bool, paused: &[bool]) -> Arc<DeviceList> {
    let device = |(n, paused): (usize, &bool)| Device {
        paused: *paused,
        ..Device::for_test(&n.to_string(), Scope::View, Timestamp::from_unix(0))
    };
    Arc::new(DeviceList { version: 1, paused: all_paused, devices: paused.iter().enumerate().map(device).collect() })
}

#[tokio::test]
async fn nothing_is_asked_of_a_machine_until_the_owner_wants_it() {
    let mut stage = Stage::set(Rules::Everything).await;
    assert_eq!(stage.awake.look().await, AwakeStatus { on: false, state: AwakeState::Off, reason: None, fix: None });
    stage.logind.holds(0).await;
    assert_eq!(stage.turned_on().await, AwakeStatus { on: true, state: AwakeState::Held, reason: None, fix: None });
    stage.logind.holds(LOCK).await;
    assert!(matches!(stage.events.recv().await, Ok(Event::Awake(status)) if status.state == AwakeState::Held));
    // It is the same lock at every look.
    let held = stage.logind.held().await;
    stage.awake.look().await;
    assert_eq!(stage.logind.held().await, held);
    assert_eq!(stage.turn(false).await.unwrap().state, AwakeState::Off);
    stage.logind.holds(0).await;
}

#[tokio::test]
async fn a_machine_is_kept_awake_while_it_is_plugged_in() {
    let stage = Stage::set(Rules::Everything).await;
    stage.plug(false);
    let status = stage.turned_on().await;
    assert_eq!((status.state, status.fix.as_deref()), (AwakeState::OnBattery, Some("plug it in")));
    for _ in 0..3 {
        stage.logind.holds(0).await;
        stage.plug(true);
        stage.is(AwakeState::Held).await;
        stage.logind.holds(LOCK).await;
        stage.plug(false);
        stage.is(AwakeState::OnBattery).await;
    }
    stage.logind.holds(0).await;
}

#[tokio::test]
async fn a_machine_that_no_device_can_reach_may_sleep() {
    let stage = Stage::set(Rules::Everything).await;
    stage.turned_on().await;
    for (devices, words) in [
        (list(true, &[false, false]), "all devices are paused"),
        (list(false, &[]), "no device is paired"),
        (list(false, &[true, true]), "every device is paused"),
    ] {
        stage.devices.send_replace(devices);
        let status = stage.is(AwakeState::NoAccess).await;
        assert_eq!(status.reason.as_deref(), Some(words));
        assert!(status.fix.unwrap().contains("reachback"));
        stage.logind.holds(0).await;
        stage.devices.send_replace(list(false, &[true, false]));
        stage.is(AwakeState::Held).await;
        stage.logind.holds(LOCK).await;
    }
    stage.tunnel.send_replace(TunnelState::Down { reason: "unknown key".into(), fix: "enrol".into() });
    let status = stage.is(AwakeState::NoAccess).await;
    assert_eq!(
        (status.reason.unwrap(), status.fix.as_deref()),
        ("the relay refuses this host: unknown key".into(), Some("enrol"))
    );
    stage.logind.holds(0).await;
}

#[tokio::test]
async fn a_relay_that_is_away_for_a_while_lets_no_machine_sleep() {
    let stage = Stage::set(Rules::Everything).await;
    stage.turned_on().await;
    let held = stage.logind.held().await;
    stage.tunnel.send_replace(TunnelState::Reconnecting { reason: "no network".into() });
    assert_eq!(stage.awake.look().await.state, AwakeState::Held);
    assert_eq!(stage.logind.held().await, held);
}

#[tokio::test]
async fn what_the_owner_said_holds_after_a_restart_and_the_lock_ends_with_the_agent() {
    let stage = Stage::set(Rules::Everything).await;
    stage.turned_on().await;
    let Stage { home, logind, tunnel, runs, devices, .. } = stage;
    logind.holds(LOCK).await;
    drop(tunnel);
    timeout(PATIENCE, runs).await.expect("it goes on without a tunnel").unwrap();
    logind.holds(0).await;

    let machine = Machine::of(home.path(), logind.address());
    let again = Arc::new(KeepAwake::open(home.path(), machine).unwrap());
    let tunnel = watch::Sender::new(connected());
    let run =
        Arc::clone(&again).run(devices.subscribe(), tunnel.subscribe(), AgentEvents::from(broadcast::channel(8).0));
    let runs = AbortOnDropHandle::new(tokio::spawn(run));
    logind.holds(LOCK).await;
    drop(runs);
    logind.holds(0).await;
}

#[tokio::test]
async fn a_wish_that_can_not_be_kept_is_refused_and_its_end_is_not() {
    let stage = Stage::set(Rules::Everything).await;
    let file = stage.home.path().join("host/awake.json");
    // For root too.
    std::fs::create_dir_all(file.join("in the way")).unwrap();
    assert!(stage.turn(true).await.is_err());
    assert_eq!(stage.awake.look().await.state, AwakeState::Off);
    std::fs::remove_dir_all(&file).unwrap();
    stage.turned_on().await;
    stage.logind.holds(LOCK).await;
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir_all(file.join("in the way")).unwrap();
    assert!(stage.turn(false).await.is_err());
    stage.logind.holds(0).await;
    assert_eq!(stage.awake.last_seen().state, AwakeState::Off);
}

#[tokio::test]
async fn what_is_turned_is_recorded_and_is_not_turned_on_without_that() {
    let stage = Stage::set(Rules::Everything).await;
    let lines = || {
        let (lines, _) = crate::audit::read(stage.home.path()).expect("it can be read");
        let change = |line| match line {
            Line::Awake(AwakeEntry { event, by: None, .. }) => event,
            line => panic!("{line:?}"),
        };
        lines.into_iter().map(change).collect::<Vec<_>>()
    };
    for on in [false, true, true, false, false] {
        stage.turn(on).await.unwrap();
    }
    assert_eq!(lines(), [AwakeChange::KeepAwakeOn, AwakeChange::KeepAwakeOff], "what stays as it is has no line");
    let log = stage.home.path().join("host/audit/owner.jsonl");
    std::fs::remove_file(&log).unwrap();
    std::fs::create_dir(&log).unwrap();
    assert!(matches!(stage.turn(true).await, Err(AwakeChangeError::Audit(_))));
    assert_eq!(stage.awake.look().await.state, AwakeState::Off);
    std::fs::remove_dir(&log).unwrap();
    stage.turned_on().await;
    stage.logind.holds(LOCK).await;
    std::fs::remove_file(&log).unwrap();
    std::fs::create_dir(&log).unwrap();
    assert_eq!(stage.turn(false).await.unwrap().state, AwakeState::Off);
    stage.logind.holds(0).await;
}

#[tokio::test]
async fn it_is_offered_once_somebody_is_there_who_does_it() {
    let mut stage = Stage::on(Logind::only_a_bus().await);
    assert_eq!(stage.turned_on().await.state, AwakeState::NotOffered);
    assert!(!*stage.awake.offered().borrow());
    stage.logind.appears(Rules::Everything).await;
    stage.is(AwakeState::Held).await;
    assert!(*stage.awake.offered().borrow(), "it is held, and was not found");
}

#[tokio::test]
async fn what_logind_does_not_allow_is_said_with_what_allows_it() {
    let stage = Stage::set(Rules::Nothing).await;
    let status = stage.turned_on().await;
    assert_eq!(status.state, AwakeState::Failed);
    let (reason, fix) = (status.reason.unwrap(), status.fix.unwrap());
    assert!(reason.contains("does not let this user") && fix.contains("docs/operations.md"), "{reason}; {fix}");

    let stage = Stage::set(Rules::IdleOnly).await;
    let status = stage.turned_on().await;
    assert_eq!(status.state, AwakeState::Partly);
    assert!(status.fix.unwrap().contains("docs/operations.md"));
    stage.logind.holds(1).await;
}
