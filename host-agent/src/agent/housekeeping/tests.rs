//! Days pass at once here: the timer's clock is a test's, and so is the wall clock.

use std::sync::Mutex;

use reachback_proto::scope::Scope;
use tokio::sync::broadcast;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::audit::{self, Line};
use crate::link::transports::TransportKind;
use crate::state::devices::Device;

const DAY: Duration = Duration::from_secs(24 * 3600);
const START: u64 = 1_795_413_540;

/// A home with two devices, one of which is connected, and a wall clock.
struct House {
    home: tempfile::TempDir,
    devices: Arc<DeviceStore>,
    tunnel: watch::Sender<TunnelState>,
    /// What the wall clock is wrong by, in seconds.
    wrong: Arc<Mutex<i64>>,
    connected: DeviceId,
    away: DeviceId,
    events: broadcast::Receiver<Event>,
    _task: AbortOnDropHandle<()>,
}

fn device(name: &str, unseen_days: u32) -> Device {
    let device = Device::for_test(name, Scope::Approve, Timestamp::from_unix(START));
    Device { unseen_hours: unseen_days * 24, ..device }
}

fn with_relay() -> TunnelState {
    TunnelState::Connected { transport: TransportKind::Wss, without_quic: None }
}

impl House {
    /// Neither was seen for so many days.
    fn unseen_for(days: u32) -> Self {
        let home = tempfile::tempdir().unwrap();
        let start = Timestamp::from_unix(START);
        let devices = Arc::new(DeviceStore::open(home.path(), start).unwrap());
        let [connected, away] = ["connected", "away"].map(|name| {
            let device = device(name, days);
            let id = device.device_id;
            devices.add(device, start).unwrap();
            id
        });
        let (tunnel, state) = watch::channel(with_relay());
        let (events, listener) = broadcast::channel(16);
        let housekeeping = Housekeeping {
            devices: Arc::clone(&devices),
            sessions: Arc::default(),
            tunnel: state,
            audit: Arc::new(AuditLog::open(home.path()).unwrap()),
            events: AgentEvents::from(events),
        };
        let (began, wrong) = (Instant::now(), Arc::new(Mutex::new(0)));
        let offset = Arc::clone(&wrong);
        let clock = move || {
            let now = (START + began.elapsed().as_secs()).saturating_add_signed(*offset.lock().unwrap());
            Timestamp::from_unix(now)
        };
        let task = tokio::spawn(housekeeping.run(move || HashMap::from([(connected, true)]), clock));
        let task = AbortOnDropHandle::new(task);
        Self { home, devices, tunnel, wrong, connected, away, events: listener, _task: task }
    }

    /// The timer goes on by so many days. A paused clock of tokio's jumps from one timer to the next.
    async fn days(&self, days: u32) {
        tokio::time::sleep(DAY * days).await;
    }

    fn wrong(&self, by: i64) {
        *self.wrong.lock().unwrap() = by;
    }

    /// Whether the device is kept out as expired.
    fn expired(&self, id: DeviceId) -> bool {
        let list = self.devices.current();
        let device = list.device(id).expect("a device was taken off the list");
        assert_eq!(device.paused, device.expired, "nobody else pauses here");
        device.expired
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_unseen_in_90_days_of_running_is_paused_and_one_that_is_connected_never() {
    let mut house = House::unseen_for(79);
    house.days(10).await;
    assert!(!house.expired(house.away));
    house.days(2).await;
    assert!(house.expired(house.away));
    let told = house.events.try_recv().unwrap();
    assert!(matches!(told, Event::Device { device_id, state: DeviceState::Paused } if device_id == house.away));
    let (lines, _) = audit::read(house.home.path()).unwrap();
    let [Line::Device(Entry { device_id, what, .. })] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((*device_id, what), (house.away, &What::Paused { reason: Some("expired".into()) }));

    house.days(9).await;
    assert!(!house.expired(house.connected), "it is connected");
    let seen = house.devices.current().device(house.connected).unwrap().last_seen;
    assert!(seen >= Timestamp::from_unix(START).after(DAY * 20), "{seen}");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_ahead_and_back_pauses_nobody() {
    let house = House::unseen_for(80);
    for days in [0, 400, 0, 4000, -20_000, 0] {
        house.wrong(days * 24 * 3600);
        house.days(1).await;
        assert!(!house.expired(house.away) && !house.expired(house.connected), "{days} days wrong");
    }
    // The list's own version never falls behind, or the relay would ignore it.
    let before = house.devices.current().version;
    house.devices.outgrow(before + 1, Timestamp::EPOCH).unwrap();
    assert!(house.devices.current().version > before);
}

#[tokio::test(start_paused = true)]
async fn a_time_before_the_last_one_changes_nothing() {
    let house = House::unseen_for(80);
    house.days(1).await;
    let seen = || house.devices.current().device(house.connected).unwrap().last_seen;
    let before = seen();
    // As before a clock is set from the network.
    house.wrong(-(START as i64));
    house.days(1).await;
    assert_eq!(seen(), before);
    assert!(!house.expired(house.away));
}

#[tokio::test(start_paused = true)]
async fn time_in_which_no_device_could_be_seen_does_not_count() {
    let house = House::unseen_for(80);
    house.tunnel.send_replace(TunnelState::Reconnecting { reason: "the relay is gone".into() });
    house.days(100).await;
    assert!(!house.expired(house.away));
    house.tunnel.send_replace(with_relay());
    house.days(11).await;
    assert!(house.expired(house.away));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_was_off_or_frozen_for_long_expires_nobody_when_it_is_back() {
    let mut house = House::unseen_for(80);
    // As a stopped process: its timers all fire at once, and the wall clock is ahead.
    house.wrong(400 * 24 * 3600);
    tokio::time::advance(DAY * 400).await;
    house.days(1).await;
    assert!(!house.expired(house.away));
    house.devices.flush().unwrap();
    // As one that was off.
    let later = Timestamp::from_unix(START).after(DAY * 2000);
    house.devices = Arc::new(DeviceStore::open(house.home.path(), later).unwrap());
    assert!(!house.expired(house.away));
    let hours = house.devices.current().device(house.away).unwrap().unseen_hours;
    assert!((80 * 24..82 * 24).contains(&hours), "{hours}");
}
