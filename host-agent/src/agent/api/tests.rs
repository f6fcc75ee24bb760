//! The API of an agent that has no relay, and of which Codex is a switch.

#[cfg(target_os = "linux")]
mod awake;

use std::time::Duration;

use futures_util::FutureExt;
use reachback_proto::crypto::keys::{Identity, Secret, StaticKey};
use reachback_proto::session::MAX_MESSAGE_TO_DEVICE;
use ring::rand::SystemRandom;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::broadcast;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::agent::AgentEvents;
use crate::agent::environments::LocalEnvironment;
use crate::agent::requests::Requests;
use crate::audit::{AuditLog, Entry, Line, What};
use crate::codex::permissions::Profiles;
use crate::codex::{
    Adapter, Allowance, CodexBackend, CodexConnection, CodexState, ConnectError, FailureCode, Instance, StartedBy,
};
use crate::disk::Surroundings;
use crate::firewall::ceiling::Ceiling;
use crate::platform::awake::Machine;
use crate::session::StartedSession;
use crate::session::testing::channel;
use crate::state::answers::Answers;
use crate::state::devices::{self, DeviceStore};
use crate::state::journal::Journal;
use crate::state::timestamp::Timestamp;
use crate::state::work::WorkStore;
use crate::state::workspaces::WorkspaceStore;

const PATIENCE: Duration = Duration::from_secs(30);

struct Switch(watch::Receiver<CodexState>);

impl CodexBackend for Switch {
    fn adapter(&self) -> Adapter {
        Adapter::AppServer
    }
    fn state(&self) -> watch::Receiver<CodexState> {
        self.0.clone()
    }
    fn connect(&self, _: Allowance) -> BoxFuture<'_, Result<CodexConnection, ConnectError>> {
        async { Err(ConnectError::Stopped) }.boxed()
    }
    fn stop(&self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}

struct Host {
    context: Arc<ApiContext>,
    codex: watch::Sender<CodexState>,
    _relay: watch::Sender<Option<PublicKey>>,
    home: TempDir,
}

impl Host {
    fn new() -> Self {
        // Nothing looks at it: what keeps it awake does not run.
        Self::on(Machine::this())
    }

    fn on(machine: Machine) -> Self {
        let home = tempfile::tempdir().unwrap();
        let (codex, state) = watch::channel(CodexState::Starting);
        let local = LocalEnvironment {
            redirect: None,
            codex: Arc::new(Switch(state)),
            ceiling: Ceiling::default(),
            profiles: Arc::new(Profiles::new(&SystemRandom::new(), Vec::new(), None).unwrap()),
            ground: None,
            surroundings: Surroundings::default(),
            open: Vec::new(),
        };
        let store = Arc::new(WorkspaceStore::open(home.path()).unwrap());
        let (relay, relay_key) = watch::channel(Some(PublicKey([5; 32])));
        let work = Arc::new(WorkStore::open(home.path(), 0).unwrap());
        let environments = Arc::new(Environments::local(local, &store, work));
        let devices = Arc::new(DeviceStore::open(home.path(), Timestamp::now()).unwrap());
        let journal = Journal::open(home.path(), &SystemRandom::new(), 0).unwrap();
        let audit = Arc::new(AuditLog::open(home.path()).unwrap());
        let (prompts, _) = Prompts::new(journal, Arc::clone(&environments), Arc::clone(&devices), Arc::clone(&audit));
        let readers = Readers::new(Arc::clone(&environments), Arc::clone(&devices), Arc::clone(&audit));
        let changes = DeviceChanges {
            devices,
            sessions: Arc::default(),
            audit,
            events: AgentEvents::from(broadcast::channel(16).0),
        };
        let context = ApiContext {
            ssh_hosts: SshHosts::none(home.path(), &environments, &changes),
            host: HostId([7; 16]),
            name: "lonely".into(),
            relay_url: "https://relay.example:443".into(),
            relay_key,
            environments,
            changes,
            disk: Disk::default(),
            awake: Arc::new(KeepAwake::open(home.path(), machine).unwrap()),
            notices: Notices::default(),
            answers: Arc::new(Answers::open(home.path(), 0).unwrap()),
            prompts,
            readers,
        };
        Self { context: Arc::new(context), codex, _relay: relay, home }
    }

    /// A device that was paired.
    fn pair(&self, scope: Scope) -> DeviceId {
        let rng = SystemRandom::new();
        let (identity, now) = (Identity::generate(&rng).unwrap().public(), Timestamp::now());
        let device = devices::Device {
            device_id: DeviceId::of(&identity),
            identity,
            static_key: StaticKey::generate(&rng).unwrap().public(),
            psk: Secret::random(&rng).unwrap(),
            name: "phone".into(),
            platform: "test".into(),
            scope,
            paused: false,
            expired: false,
            revoked_at_relay: false,
            unseen_hours: 0,
            added_at: now,
            last_seen: now,
        };
        let id = device.device_id;
        self.context.changes.devices.add(device, now).unwrap();
        id
    }

    fn scope(&self, device: DeviceId) -> Option<Scope> {
        self.context.changes.devices.current().device(device).map(|device| device.scope)
    }

    /// What a device with this scope hears.
    async fn answer(&self, scope: Scope, message: &str) -> Value {
        self.answer_to(caller(), scope, message).await
    }

    /// What a device hears whose session still has scope `admin`.
    async fn answer_to_admin(&self, device: DeviceId, method: &str, params: Value) -> Value {
        let message = json!({ "id": 1, "method": method, "params": params }).to_string();
        self.answer_to(Caller { device, ..caller() }, Scope::Admin, &message).await
    }

    async fn answer_to(&self, caller: Caller, scope: Scope, message: &str) -> Value {
        let call = Call { context: Arc::clone(&self.context), caller, scope, asking: Asking::new().0 };
        let answer = answer(METHODS, call, Bytes::copy_from_slice(message.as_bytes()), false).await;
        serde_json::to_value(answer).unwrap()
    }

    /// A device's end of channel 0, and what keeps it open.
    async fn serve(&self, methods: &'static [Method], scope: Scope) -> Device {
        let (near, far, sessions) = channel().await;
        let (scope, scope_in) = watch::channel(scope);
        let serving = serve_methods(methods, Arc::clone(&self.context), caller(), scope_in, far);
        Device { channel: near, scope, _sessions: sessions, _serving: AbortOnDropHandle::new(tokio::spawn(serving)) }
    }
}

fn caller() -> Caller {
    let largest = Arc::new(AtomicUsize::new(MAX_MESSAGE_TO_DEVICE));
    Caller { device: DeviceId([1; 16]), largest, wishes: Arc::default() }
}

struct Device {
    channel: ChannelHandle,
    scope: watch::Sender<Scope>,
    _sessions: [StartedSession; 2],
    _serving: AbortOnDropHandle<()>,
}

impl Device {
    async fn ask(&self, id: usize, method: &str) {
        let request = json!({ "id": id, "method": method }).to_string();
        self.channel.sender.send(Bytes::from(request)).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        let incoming = timeout(PATIENCE, self.channel.incoming.recv()).await.expect("the API says nothing");
        let Some(Incoming::Message { seq, bytes }) = incoming else { panic!("the API ends: {incoming:?}") };
        self.channel.sender.handled(seq).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }
}

#[tokio::test]
async fn the_agents_own_api_answers_by_id_what_it_can_not_read() {
    let host = Host::new();
    let long = "i".repeat(200);
    let longest = format!(r#"{{"id":"{long}","method":"host/read"}}"#);
    let too_long = format!(r#"{{"id":7,"method":"host/read","params":{{"x":"{}"}}}}"#, "x".repeat(MAX_REQUEST));
    for (message, id) in [
        (r#"{"id":7,"method":"host/read","extra":1}"#, json!(7)),
        (r#"{"jsonrpc":"2.0","id":7,"method":"host/read","params":[]}"#, json!(7)),
        (r#"{"id":-7,"method":"host/read"}"#, json!(-7)),
        (r#"[{"id":"a","method":"host/read"}]"#, json!("a")),
        (&longest, json!(long)),
        (r#"{"id":1e999,"method":"host/read"}"#, Value::Null),
        (r#"{"id":7}"#, Value::Null),
        ("{", Value::Null),
        (&too_long, json!(7)),
    ] {
        let answer = host.answer(Scope::Admin, message).await;
        assert_eq!((&answer["id"], &answer["error"]["data"]["reason"]), (&id, &json!("malformed")), "{message}");
        assert_eq!(answer["error"]["code"], -32600, "{message}");
    }
}

#[tokio::test]
async fn a_refusal_of_the_api_says_why_to_people_and_to_programs() {
    let host = Host::new();
    let answer = host.answer(Scope::Steer, r#"{"id":1,"method":"device/list"}"#).await;
    let wanted = json!({
        "code": -32010,
        "message": "`device/list` needs scope `admin`; this device has `steer`",
        "data": { "reason": "scope", "params": { "method": "device/list", "needed": "admin", "scope": "steer" } },
    });
    assert_eq!(answer["error"], wanted);
    let answer = host.answer(Scope::Admin, r#"{"id":"a","method":"device/forget"}"#).await;
    let wanted = json!({
        "code": -32601,
        "message": "this host's API has no such method",
        "data": { "reason": "method", "params": {} },
    });
    assert_eq!((&answer["id"], &answer["error"]), (&json!("a"), &wanted));
}

#[tokio::test]
async fn a_member_that_is_not_what_a_method_takes_is_named_and_an_unknown_one_is_left_alone() {
    let host = Host::new();
    for value in [json!("2 MiB"), json!(-1), json!(1.5), json!([])] {
        let request = json!({ "id": 1, "method": "host/read", "params": { "largestMessage": value } });
        let answer = host.answer(Scope::View, &request.to_string()).await;
        let data = json!({ "reason": "params", "params": { "method": "host/read", "member": "largestMessage" } });
        assert_eq!(answer["error"]["data"], data, "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains("“largestMessage”"), "{answer}");
    }
    for params in [json!({ "largestMessage": 2 << 20 }), json!({ "largestMessage": 2 << 20, "newer": [1] })] {
        let request = json!({ "id": 1, "method": "host/read", "params": params });
        let answer = host.answer(Scope::View, &request.to_string()).await;
        assert_eq!(answer["result"]["limits"]["messageToDevice"], 2 << 20, "{answer}");
    }
}

#[derive(serde::Deserialize)]
struct Needs {
    #[serde(rename = "path")]
    _path: String,
}

#[test]
fn a_member_that_is_missing_is_named() {
    let refusal = read::<Needs>("folder/list", None).err().unwrap();
    let wanted = json!({
        "code": -32010,
        "message": "`folder/list` needs the member `path`",
        "data": { "reason": "params", "params": { "method": "folder/list", "member": "path" } },
    });
    assert_eq!(serde_json::to_value(refusal).unwrap(), wanted);
}

#[tokio::test]
async fn environments_are_told_with_the_reason_and_what_to_do() {
    let host = Host::new();
    let list = r#"{"id":1,"method":"environment/list"}"#;
    let failed = |code| CodexState::Failed { reason: "no codex".into(), fix: Some("install it".into()), code };
    host.codex.send_replace(failed(None));
    let mut wanted = json!([{ "name": "local", "state": "failed", "reason": "no codex", "fix": "install it" }]);
    assert_eq!(host.answer(Scope::View, list).await["result"]["data"], wanted);
    host.codex.send_replace(failed(Some(FailureCode::Login)));
    wanted[0]["code"] = json!("login");
    assert_eq!(host.answer(Scope::View, list).await["result"]["data"], wanted);
}

#[tokio::test]
async fn who_started_codex_is_told_by_the_words_that_clients_know() {
    let host = Host::new();
    for (started_by, word) in [(StartedBy::Agent, "started"), (StartedBy::Others, "attached")] {
        let instance = Instance::random(&SystemRandom::new()).unwrap();
        host.codex.send_replace(CodexState::Ready { version: None, started_by, instance });
        let answer = host.answer(Scope::View, r#"{"id":1,"method":"environment/list"}"#).await;
        assert_eq!(answer["result"]["data"], json!([{ "name": "local", "state": "ready", "adapter": word }]));
    }
}

#[tokio::test]
async fn every_method_is_refused_below_its_scope() {
    let host = Host::new();
    for Method { name, needed, .. } in METHODS {
        for scope in Scope::ALL.into_iter().filter(|scope| scope < needed) {
            let answer = host.answer(scope, &json!({ "id": 1, "method": name }).to_string()).await;
            assert_eq!(answer["error"]["data"]["reason"], "scope", "{name} with {scope}: {answer}");
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_refused_by_its_reason() {
    let host = Host::new();
    let admin = host.pair(Scope::Admin);
    let nobody = DeviceId([9; 16]);
    for (method, params, reason) in [
        ("workspace/list", json!({ "environment": "ssh:devbox" }), "environment"),
        ("folder/list", json!({ "environment": "ssh:devbox" }), "environment"),
        ("folder/list", json!({ "environment": "local", "path": "/etc" }), "folder"),
        ("folder/list", json!({ "environment": "local", "path": ["/"] }), "params"),
        ("device/scope", json!({ "deviceId": nobody, "scope": "view" }), "device"),
        ("device/pause", json!({ "deviceId": nobody, "paused": true }), "device"),
        ("device/revoke", json!({ "deviceId": nobody }), "device"),
        ("device/revoke", json!({ "deviceId": "phone" }), "params"),
        ("device/scope", json!({ "deviceId": admin, "scope": "root" }), "params"),
        ("device/pause", json!({ "deviceId": admin }), "params"),
        ("host/allowDevices", json!({ "allowed": "no" }), "params"),
        ("host/keepAwake", json!({ "on": "yes" }), "params"),
    ] {
        let answer = host.answer_to_admin(admin, method, params.clone()).await;
        assert_eq!(answer["error"]["data"]["reason"], reason, "{method} {params}: {answer}");
    }
    assert_eq!(host.scope(admin), Some(Scope::Admin));
}

#[tokio::test]
async fn a_device_changes_others_and_the_log_names_both() {
    let host = Host::new();
    let (admin, other) = (host.pair(Scope::Admin), host.pair(Scope::View));
    let answer = host.answer_to_admin(admin, "device/scope", json!({ "deviceId": other, "scope": "approve" })).await;
    assert_eq!(answer["result"]["device"]["scope"], "approve", "{answer}");
    let answer = host.answer_to_admin(admin, "device/pause", json!({ "deviceId": other, "paused": true })).await;
    assert_eq!(answer["result"]["device"]["paused"], true, "{answer}");
    host.answer_to_admin(admin, "device/pause", json!({ "deviceId": other, "paused": false })).await;
    let answer = host.answer_to_admin(admin, "device/revoke", json!({ "deviceId": other })).await;
    assert_eq!(answer["result"], json!({ "deviceId": other, "device": null, "allowed": true }), "{answer}");
    assert_eq!(host.scope(other), None);

    let (lines, _) = crate::audit::read(host.home.path()).unwrap();
    let what = lines.into_iter().map(|line| {
        let Line::Device(Entry { device_id, by, what, .. }) = line else { panic!("{line:?}") };
        assert_eq!((device_id, by), (other, Some(admin)), "{what:?}");
        what
    });
    let wanted =
        [What::ScopeChanged { scope: Scope::Approve }, What::Paused { reason: None }, What::Resumed, What::Revoked];
    assert_eq!(what.collect::<Vec<_>>(), wanted);
}

#[tokio::test]
async fn what_gives_power_is_not_done_without_a_line_and_what_takes_it_is() {
    let host = Host::new();
    let (admin, other) = (host.pair(Scope::Admin), host.pair(Scope::Steer));
    std::fs::create_dir(host.home.path().join(format!("host/audit/changes.{admin}.jsonl"))).unwrap();
    for (method, params) in [
        ("device/scope", json!({ "deviceId": other, "scope": "approve" })),
        ("device/pause", json!({ "deviceId": other, "paused": false })),
    ] {
        let answer = host.answer_to_admin(admin, method, params).await;
        assert!(answer["error"].is_object(), "{method}: {answer}");
    }
    assert_eq!(host.scope(other), Some(Scope::Steer));
    let answer = host.answer_to_admin(admin, "device/scope", json!({ "deviceId": other, "scope": "view" })).await;
    assert_eq!((&answer["error"], host.scope(other)), (&Value::Null, Some(Scope::View)), "{answer}");
    let answer = host.answer_to_admin(admin, "device/revoke", json!({ "deviceId": other })).await;
    assert_eq!((&answer["error"], host.scope(other)), (&Value::Null, None), "{answer}");
}

#[tokio::test]
async fn a_device_that_is_admin_no_more_changes_nothing_by_a_request_on_its_way() {
    let host = Host::new();
    let (was_admin, other) = (host.pair(Scope::Steer), host.pair(Scope::View));
    for (method, params) in [
        ("device/scope", json!({ "deviceId": was_admin, "scope": "admin" })),
        ("device/scope", json!({ "deviceId": other, "scope": "admin" })),
        ("device/pause", json!({ "deviceId": other, "paused": true })),
        ("device/revoke", json!({ "deviceId": other })),
        ("host/allowDevices", json!({ "allowed": false })),
        ("host/keepAwake", json!({ "on": true })),
    ] {
        let answer = host.answer_to_admin(was_admin, method, params).await;
        assert_eq!(answer["error"]["data"]["reason"], "scope", "{method}: {answer}");
    }
    assert_eq!((host.scope(was_admin), host.scope(other)), (Some(Scope::Steer), Some(Scope::View)));
    assert!(!host.context.changes.devices.current().paused);
    assert!(!host.home.path().join("host/awake.json").exists());
}

/// Methods for the loop alone: one that never ends, one that does at once.
const SLOW_AND_QUICK: &[Method] = &[
    Method { name: "test/slow", needed: Scope::View, run: |_, _| std::future::pending().boxed() },
    Method { name: "test/quick", needed: Scope::View, run: |_, _| async { written(&"quick") }.boxed() },
];

#[tokio::test]
async fn a_slow_method_holds_up_neither_others_nor_notifications() {
    let host = Host::new();
    let mut device = host.serve(SLOW_AND_QUICK, Scope::View).await;
    device.ask(1, "test/slow").await;
    device.ask(2, "test/quick").await;
    assert_eq!(device.hear().await, json!({ "id": 2, "result": "quick" }));
    device.scope.send_replace(Scope::Steer);
    let changed = device.hear().await;
    assert_eq!((&changed["method"], &changed["params"]["scope"]), (&json!("host/changed"), &json!("steer")));
}

#[tokio::test]
async fn a_session_that_asks_for_too_much_at_once_is_told_so() {
    let host = Host::new();
    let mut device = host.serve(SLOW_AND_QUICK, Scope::View).await;
    for id in 0..MAX_IN_FLIGHT {
        device.ask(id, "test/slow").await;
    }
    device.ask(MAX_IN_FLIGHT, "test/quick").await;
    let answer = device.hear().await;
    assert_eq!(answer["id"], MAX_IN_FLIGHT, "{answer}");
    assert_eq!(answer["error"]["data"], json!({ "reason": "busy", "params": { "most": MAX_IN_FLIGHT } }));
    // Other sessions are not concerned.
    let mut other = host.serve(SLOW_AND_QUICK, Scope::View).await;
    other.ask(1, "test/quick").await;
    assert_eq!(other.hear().await["result"], "quick");
}

/// A notice of so many bytes.
fn notice(bytes: usize) -> Notice {
    let environments = Host::new();
    let state = CodexState::Failed { reason: "x".repeat(bytes), fix: None, code: None };
    Notice::EnvironmentChanged(EnvironmentInfo::new(environments.context.environments.own(), &state))
}

#[tokio::test]
async fn every_session_hears_of_an_environment_that_changed() {
    let host = Host::new();
    let mut devices = [host.serve(METHODS, Scope::View).await, host.serve(METHODS, Scope::Admin).await];
    for device in &mut devices {
        // It listens once it answers.
        device.ask(1, "environment/list").await;
        assert_eq!(device.hear().await["id"], 1);
    }
    host.context.notices.tell(notice(3));
    for device in &mut devices {
        let wanted = json!({ "name": "local", "state": "failed", "reason": "xxx" });
        assert_eq!(device.hear().await, json!({ "method": "environment/changed", "params": wanted }));
    }
}

#[tokio::test]
async fn a_device_that_is_behind_hears_that_it_missed_something_and_nothing_half() {
    let host = Host::new();
    let mut device = host.serve(METHODS, Scope::View).await;
    device.ask(1, "environment/list").await;
    assert_eq!(device.hear().await["id"], 1);
    // Nobody takes these: what is not handled stays in the sessions, which have room for more than `BEHIND`.
    const SIZE: usize = 300 << 10;
    for _ in 0..40 {
        host.context.notices.tell(notice(SIZE));
        tokio::task::yield_now().await;
    }
    let mut heard = 0;
    while device.hear().await["method"] != "notices/missed" {
        heard += 1;
    }
    assert!(heard < 40, "all {heard} of them waited for a device that does not read");
    // It is told of what comes from then on.
    host.context.notices.tell(notice(3));
    assert_eq!(device.hear().await["params"]["reason"], "xxx");
}

/// Codex asks for this command, as the keeper of threads hears it.
fn asks(requests: &Requests, id: u64, command: &str) {
    let raw = |value: Value| serde_json::value::to_raw_value(&value).unwrap();
    let params = json!({ "threadId": "t", "turnId": "u", "itemId": "i", "startedAtMs": id, "command": command });
    requests.asked(&raw(json!(id)), "item/commandExecution/requestApproval", Some(&raw(params)), 0);
}

#[tokio::test]
async fn what_is_asked_fits_the_session_that_lists_it_and_says_what_the_device_may_answer() {
    let host = Host::new();
    let requests = Arc::clone(&host.context.environments.own().requests);
    let _to_codex = requests.connected(Instance::random(&SystemRandom::new()).unwrap());
    for id in 0..3 {
        asks(&requests, id, &"x".repeat(600 << 10));
    }
    let caller = Caller { largest: Arc::new(AtomicUsize::new(1 << 20)), ..caller() };
    let list = async |scope, params: Value| {
        let request = json!({ "id": 1, "method": "request/list", "params": params }).to_string();
        host.answer_to(caller.clone(), scope, &request).await
    };
    let all = list(Scope::Approve, json!({ "environment": "local" })).await;
    assert!(all.to_string().len() < 1 << 20, "more than the session takes");
    let whole: Vec<_> =
        all["result"]["data"].as_array().unwrap().iter().map(|one| one.get("shown").is_some()).collect();
    assert_eq!(whole, [true, false, false]);
    let seen = |id: usize| all["result"]["data"][id]["shownTo"].as_array().unwrap().len();
    assert_eq!([seen(0), seen(1)], [0, 0], "those that were shown it before");
    let one = list(Scope::View, json!({ "requestId": 2 })).await;
    let one = &one["result"]["data"][0];
    assert_eq!((&one["requestId"], one.get("shown").is_some(), &one["answers"]), (&json!(2), true, &json!([])));
    let shown_to: Vec<_> = requests.list().iter().map(|asked| asked.shown_to.len()).collect();
    assert_eq!(shown_to, [1, 0, 1], "what was left out was not shown");
    assert_eq!(list(Scope::View, json!({ "environment": "x" })).await["error"]["data"]["reason"], "environment");
}

#[tokio::test]
async fn an_answer_is_one_thing_and_about_one_environment() {
    let host = Host::new();
    let answer = async |scope, bend: Value| {
        let mut params = json!({
            "environment": "local", "instance": "i", "requestId": "a text", "threadId": "t", "digest": "d", "age": 0, "result": {},
        });
        params.as_object_mut().unwrap().extend(bend.as_object().unwrap().clone());
        let request = json!({ "id": 1, "method": "answer/send", "params": params }).to_string();
        host.answer(scope, &request).await["error"]["data"].clone()
    };
    for (scope, bend, reason) in [
        (Scope::View, json!({}), "scope"),
        (Scope::Steer, json!({}), "instance"),
        (Scope::Steer, json!({ "environment": "x" }), "environment"),
        (Scope::Steer, json!({ "error": {} }), "params"),
        (Scope::Steer, json!({ "result": null }), "params"),
        (Scope::Steer, json!({ "age": -1 }), "params"),
        (Scope::Steer, json!({ "decidedAt": "now" }), "params"),
        (Scope::Steer, json!({ "requestId": [] }), "params"),
    ] {
        assert_eq!(answer(scope, bend.clone()).await["reason"], reason, "{bend}");
    }
}

#[tokio::test(start_paused = true)]
async fn pages_wait_for_codex_in_a_short_line_and_their_reader_goes_when_nobody_asks() {
    let host = Host::new();
    let device = host.pair(Scope::View);
    let asked = |method: &str, environment: &str| {
        let params = json!({ "environment": environment, "threadId": "t" });
        let message = json!({ "id": 1, "method": method, "params": params }).to_string();
        let host = &host;
        async move { host.answer_to(Caller { device, ..caller() }, Scope::View, &message).await }
    };
    assert_eq!(asked("thread/list", "mars").await["error"]["data"]["reason"], "environment");
    // Each reader has one.
    let held = || Arc::strong_count(&host.context.environments);
    let before = held();
    // Codex starts, and is never ready: each page is waited for, and nothing else is held up by it.
    let mut line = FuturesUnordered::new();
    line.extend((0..40).map(|_| asked("thread/page", "local")));
    assert!(line.next().now_or_never().flatten().is_some_and(|answer| answer["error"]["data"]["reason"] == "busy"));
    assert!(host.answer(Scope::View, r#"{ "id": 2, "method": "host/read" }"#).await.get("result").is_some());
    assert_eq!(held(), before + 1);
    let mut answers: Vec<_> = line.collect().await;
    answers.iter_mut().for_each(|answer| *answer = answer["error"]["data"]["reason"].take());
    let count = |reason: &str| answers.iter().filter(|answer| *answer == reason).count();
    assert_eq!((count("busy"), count("codex")), (7, 32), "{answers:?}");
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(held(), before, "a reader that nobody asks is still there");
    assert_eq!(asked("thread/list", "local").await["error"]["data"]["reason"], "codex");
}

#[test]
fn the_reference_names_every_method_and_every_notification_and_every_reason() {
    let page = include_str!("../../../../docs/api.md");
    for Method { name, needed, .. } in METHODS {
        let section = page.split("\n### ").find(|section| section.starts_with(&format!("`{name}`")));
        let section = section.unwrap_or_else(|| panic!("docs/api.md has no section `{name}`"));
        assert!(section.contains(&format!("Scope: `{needed}`")), "docs/api.md names another scope for `{name}`");
    }
    let types = types::Types::new().text();
    let (notices, reasons) = (declaration(&types, "Notification"), declaration(&types, "ApiErrorReason"));
    let notices = notices.filter(|word| word.contains('/'));
    let (notices, reasons) = (notices.collect::<Vec<_>>(), reasons.collect::<Vec<_>>());
    assert!(notices.contains(&"host/changed") && reasons.contains(&"scope"), "{notices:?} {reasons:?}");
    for notice in notices {
        assert!(page.contains(&format!("\n### `{notice}`")), "docs/api.md has no section `{notice}`");
    }
    for reason in reasons {
        assert!(page.contains(&format!("\n| `{reason}` |")), "docs/api.md does not explain the reason `{reason}`");
    }
}

/// The texts in quotes in a declaration for TypeScript.
fn declaration<'a>(types: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (_, rest) = types.split_once(&format!("export type {name} =")).expect("the type is generated");
    rest.split("\n\n").next().unwrap_or_default().split('"').skip(1).step_by(2)
}
