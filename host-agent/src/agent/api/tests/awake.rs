//! `host/keepAwake`, on a machine that is made of a folder of power supplies and a stand-in for logind.

use super::*;
use crate::agent::tunnel::TunnelState;
use crate::audit::{AwakeChange, AwakeEntry};
use crate::link::transports::TransportKind;
use crate::platform::awake::testing::{Logind, Rules};

/// What a lock is to logind.
const LOCK: usize = 2;

/// A host that keeps its machine awake when it is told to, and a device with scope `admin`.
struct Stage {
    host: Host,
    admin: DeviceId,
    power: TempDir,
    logind: Logind,
    _tunnel: watch::Sender<TunnelState>,
    _runs: [AbortOnDropHandle<()>; 2],
}

impl Stage {
    async fn with(logind: Logind) -> Self {
        let power = tempfile::tempdir().expect("there is room");
        let host = Host::on(Machine::of(power.path(), logind.address()));
        let admin = host.pair(Scope::Admin);
        let (context, events) = (Arc::clone(&host.context), host.context.changes.events.clone());
        let (tunnel, state) =
            watch::channel(TunnelState::Connected { transport: TransportKind::Wss, without_quic: None });
        let awake = Arc::clone(&context.awake).run(context.changes.devices.subscribe(), state, events.clone());
        let heard = events.subscribe();
        let telling = async move { context.tell_of_devices(heard).await };
        let runs = [AbortOnDropHandle::new(tokio::spawn(awake)), AbortOnDropHandle::new(tokio::spawn(telling))];
        // Once it has answered, it has looked around.
        host.context.awake.look().await;
        Self { host, admin, power, logind, _tunnel: tunnel, _runs: runs }
    }

    /// What the device hears that wants it so, or asks how it is.
    async fn says(&self, on: Option<bool>) -> Value {
        let params = on.map_or_else(|| json!({}), |on| json!({ "on": on }));
        self.host.answer_to_admin(self.admin, "host/keepAwake", params).await
    }

    /// The lines about it: what was turned, and by whom.
    fn lines(&self) -> Vec<(AwakeChange, Option<DeviceId>)> {
        let (lines, _) = crate::audit::read(self.host.home.path()).expect("it can be read");
        let of_it = |line| match line {
            Line::Awake(AwakeEntry { event, by, .. }) => (event, by),
            other => panic!("{other:?}"),
        };
        lines.into_iter().map(of_it).collect()
    }

    /// Nothing more is written there, for root too.
    fn blocks(&self, file: &str) {
        let file = self.host.home.path().join(file);
        if file.is_file() {
            std::fs::remove_file(&file).expect("it is there");
        }
        std::fs::create_dir_all(file.join("in the way")).expect("there is room");
    }
}

fn off() -> Value {
    json!({ "on": false, "state": "off" })
}

fn held() -> Value {
    json!({ "on": true, "state": "held" })
}

#[tokio::test]
async fn a_device_with_admin_keeps_the_computer_awake_and_others_hear_it_and_the_log_names_it() {
    let stage = Stage::with(Logind::start(Rules::Everything).await).await;
    let mut other = stage.host.serve(METHODS, Scope::Admin).await;
    let mut below = Vec::new();
    for scope in [Scope::View, Scope::Steer, Scope::Approve] {
        below.push(stage.host.serve(METHODS, scope).await);
    }
    assert_eq!(stage.says(None).await["result"], off());
    for (on, wanted, locks) in [(true, held(), LOCK), (false, off(), 0), (true, held(), LOCK)] {
        assert_eq!(stage.says(Some(on)).await["result"], wanted);
        stage.logind.holds(locks).await;
        assert_eq!(other.hear().await, json!({ "method": "keepAwake/changed", "params": wanted }));
        assert_eq!(stage.says(Some(on)).await["result"], wanted, "said twice");
        assert_eq!(stage.says(None).await["result"], wanted);
    }
    let by = Some(stage.admin);
    let wanted = [(AwakeChange::KeepAwakeOn, by), (AwakeChange::KeepAwakeOff, by), (AwakeChange::KeepAwakeOn, by)];
    assert_eq!(stage.lines(), wanted);
    let log = |whose: &str| std::fs::read_to_string(stage.host.home.path().join(format!("host/audit/{whose}.jsonl")));
    assert!(log(&format!("changes.{}", stage.admin)).unwrap().contains("keep_awake_on"));
    assert!(!log("owner").unwrap_or_default().contains("keep_awake"), "a device wrote among the owner's lines");

    // Whoever may not ask for it does not hear of it either.
    stage.host.context.notices.tell(Notice::HostAsleep {});
    for device in &mut below {
        assert_eq!(device.hear().await["method"], "host/asleep");
    }
    assert_eq!(other.hear().await["method"], "host/asleep", "what was said twice was told twice");
}

#[tokio::test]
async fn what_the_owner_turns_at_the_host_is_told_to_devices_too() {
    let stage = Stage::with(Logind::start(Rules::Everything).await).await;
    let mut device = stage.host.serve(METHODS, Scope::Admin).await;
    let ApiContext { awake, changes, .. } = &*stage.host.context;
    awake.set(true, None, &changes.audit).await.unwrap();
    assert_eq!(device.hear().await, json!({ "method": "keepAwake/changed", "params": held() }));
    assert_eq!(stage.lines(), [(AwakeChange::KeepAwakeOn, None)]);
}

#[tokio::test]
async fn why_the_computer_is_not_kept_awake_is_told_by_a_word_and_what_helps() {
    let stage = Stage::with(Logind::start(Rules::Everything).await).await;
    for (name, content) in [("type", "Battery"), ("status", "Discharging")] {
        let folder = stage.power.path().join("BAT0");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), content).unwrap();
    }
    let wanted = json!({ "on": true, "state": "onBattery", "reason": "it runs on its battery", "fix": "plug it in" });
    assert_eq!(stage.says(Some(true)).await["result"], wanted);
    stage.logind.holds(0).await;
    std::fs::remove_dir_all(stage.power.path().join("BAT0")).unwrap();
    assert_eq!(stage.says(None).await["result"], held());

    stage.host.context.changes.pause(None, true, None).await.unwrap();
    let paused = stage.says(None).await;
    assert_eq!((&paused["result"]["on"], &paused["result"]["state"]), (&json!(true), &json!("noAccess")), "{paused}");
    stage.logind.holds(0).await;

    for (rules, state) in [(Rules::IdleOnly, "partly"), (Rules::Nothing, "failed"), (Rules::Broken, "failed")] {
        let stage = Stage::with(Logind::start(rules).await).await;
        let told = stage.says(Some(true)).await;
        assert_eq!((&told["result"]["on"], &told["result"]["state"]), (&json!(true), &json!(state)), "{told}");
        assert!(told["result"]["reason"].is_string() && told["result"]["fix"].is_string(), "{told}");
    }
}

#[tokio::test]
async fn the_feature_is_there_where_something_keeps_the_computer_awake() {
    let has_it = |host: &Value| host["features"].as_array().expect("a list").contains(&json!("keepAwake"));
    let mut stage = Stage::with(Logind::only_a_bus().await).await;
    let read = r#"{ "id": 1, "method": "host/read" }"#;
    assert!(!has_it(&stage.host.answer(Scope::View, read).await["result"]));
    let mut device = stage.host.serve(METHODS, Scope::View).await;
    let told = stage.says(Some(true)).await;
    assert_eq!((&told["result"]["on"], &told["result"]["state"]), (&json!(true), &json!("notOffered")), "{told}");

    stage.logind.appears(Rules::Everything).await;
    assert_eq!(stage.says(None).await["result"], held());
    let changed = device.hear().await;
    assert!(changed["method"] == "host/changed" && has_it(&changed["params"]), "{changed}");
    assert!(has_it(&stage.host.answer(Scope::View, read).await["result"]));
}

#[tokio::test]
async fn a_device_keeps_nothing_awake_without_a_line_and_ends_it_also_without_one() {
    let stage = Stage::with(Logind::start(Rules::Everything).await).await;
    let ApiContext { awake, changes, .. } = &*stage.host.context;
    let refused = |answer: &Value| answer["error"]["data"]["reason"] == "disk";
    stage.blocks(&format!("host/audit/changes.{}.jsonl", stage.admin));
    let answer = stage.says(Some(true)).await;
    assert!(refused(&answer), "{answer}");
    assert_eq!(stage.says(None).await["result"], off());
    awake.set(true, None, &changes.audit).await.unwrap();
    stage.logind.holds(LOCK).await;
    assert_eq!(stage.says(Some(false)).await["result"], off());
    stage.logind.holds(0).await;

    // What can't be kept is not turned on, and off it is all the same.
    let stage = Stage::with(Logind::start(Rules::Everything).await).await;
    assert_eq!(stage.says(Some(true)).await["result"], held());
    stage.blocks("host/awake.json");
    let answer = stage.says(Some(false)).await;
    assert!(refused(&answer) && answer["error"]["message"].as_str().unwrap().contains("it is off"), "{answer}");
    stage.logind.holds(0).await;
    let answer = stage.says(Some(true)).await;
    assert!(refused(&answer) && answer["error"]["message"].as_str().unwrap().contains("not turned on"), "{answer}");
    assert_eq!(stage.says(None).await["result"], off());
}
