//! Machines that ask for a code after a key, and devices that are asked for it: real sshd and PAM.

use std::sync::Arc;

use e2e::process::Home;
use e2e::rpc::Client;
use e2e::sshd::Ssh;
use e2e::stage::{Stage, TestDevice};
use futures_util::future::BoxFuture;
use reachback_host::audit::{self, Line, What};
use reachback_host::connect::join::Invitation;
use reachback_host::connect::remote::RemoteHost;
use reachback_host::local_api::{Answer, Event, Exchange, Handler, Request, Response, Shown};
use reachback_host::ssh::{Person, Question, Secret, UnknownKey};
use reachback_proto::pairing::PairingUrl;
use reachback_proto::scope::Scope;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::ssh_hosts::{ENVIRONMENT, Machine, api, listed};
use crate::ssh_login::{Pam, SESAME, asking, up};

/// A key, then a code; or a code alone.
const WAYS: &str = "publickey,keyboard-interactive keyboard-interactive";
/// The same machine under other names, each of which counts its failures by itself.
const OTHERS: [&str; 2] = ["second", "third"];

/// A host that has added a machine which asks for a code after a key.
struct Scene {
    machine: Machine,
    stage: Stage,
    _pam: Pam,
}

impl Scene {
    /// `None` where there is no PAM for tests.
    async fn start() -> Option<Self> {
        let (machine, _pam) = asking(WAYS).await?;
        let (port, key) = (machine.link.addr().port(), machine.ssh.at("one"));
        let others = OTHERS.map(|name| format!("Host {name}\n  Port {port}\n  IdentityFile {key}\n"));
        machine.configure(&others.concat());
        let stage = machine.host().await;
        for alias in ["devbox"].into_iter().chain(OTHERS) {
            stage.ask(Request::AddSshHost { alias: alias.into() }).await;
        }
        Some(Self { machine, stage, _pam })
    }

    async fn device(&self, scope: Scope) -> Phone {
        Phone::connect(self.stage.pair(scope).await).await
    }

    /// Has devices asked, or not.
    async fn ask_devices(&self, alias: &str, on: bool) {
        self.stage.ask(Request::AskDevices { alias: alias.into(), on }).await;
    }

    /// The methods that the audit log has of this device, with what was decided and why.
    fn audit(&self, phone: &Phone) -> Vec<(String, String, Option<String>)> {
        let (lines, _) = audit::read(self.stage.home()).unwrap();
        let told = lines.into_iter().filter_map(|line| match line {
            Line::Device(entry) if entry.device_id == phone.device.id() => match entry.what {
                What::Action { method: Some(method), decision, reason, environment, .. }
                    if environment == ENVIRONMENT =>
                {
                    method.starts_with("ssh/").then_some((method, decision, reason))
                }
                _ => None,
            },
            _ => None,
        });
        told.collect()
    }

    /// The owner logs in at the host's terminal.
    async fn owner_logs_in(&self) {
        let (events, mut heard) = mpsc::channel(8);
        let (type_in, answers) = mpsc::channel(1);
        let typing = AbortOnDropHandle::new(tokio::spawn(async move {
            while let Some(event) = heard.recv().await {
                if matches!(event, Event::SshAsked(_)) {
                    type_in.send(Answer::Typed { text: Shown(SESAME.into()) }).await.unwrap();
                }
            }
        }));
        let request = Request::LoginSshHost { alias: "devbox".into() };
        let done = self.stage.agent.control().handle(request, Exchange { events, answers }).await;
        assert!(matches!(done, Ok(Response::SshConnected(_))), "{done:?}");
        drop(typing);
    }

    /// Ends all of it; nothing wrote down what was typed.
    async fn stop(self, connected: bool) {
        let log = String::from_utf8(self.stage.log.kept()).unwrap();
        assert!(log.contains("session is up") && !log.contains("sesame"), "{log}");
        assert!(!String::from_utf8_lossy(&self.stage.relay.log()).contains("sesame"));
        let files = std::process::Command::new("grep").args(["-rl", "sesame"]).arg(self.stage.home()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&files.stdout), "", "it is in a file of the host");
        if connected {
            end_server(&self.machine).await;
        }
        self.stage.stop().await;
    }
}

/// Ends the app-server there, over a connection that is let in with the code.
async fn end_server(machine: &Machine) {
    let person: Arc<dyn Person> = Arc::new(Knows);
    let connection = machine.discovery().connect("devbox", &person).await.unwrap().unwrap();
    connection.stop().await.unwrap();
}

/// Somebody who knows the code.
struct Knows;

impl Person for Knows {
    fn trusts(&self, _: UnknownKey) -> BoxFuture<'_, bool> {
        Box::pin(async { false })
    }

    fn answers(&self, _: Question) -> BoxFuture<'_, Option<Secret>> {
        Box::pin(async { Some(Secret::new(SESAME.to_owned())) })
    }
}

/// A device with one session.
struct Phone {
    device: TestDevice,
    remote: RemoteHost,
    api: Client,
}

impl Phone {
    async fn connect(device: TestDevice) -> Self {
        let remote = device.connect().await;
        let api = api(&remote).await;
        Self { device, remote, api }
    }

    /// Has the host log in, without waiting for what comes of it.
    async fn begin(&mut self, alias: &str) {
        self.api.send(&json!({ "id": "login", "method": "ssh/login", "params": { "alias": alias } })).await;
    }

    /// The same, to where the machine asks for a code.
    async fn asked(&mut self, alias: &str) -> Value {
        self.begin(alias).await;
        let heard =
            self.api.until("a question", |message| message["method"] == "ssh/asked" || message["id"] == "login");
        let heard = heard.await;
        assert_eq!(heard["method"], "ssh/asked", "{heard}");
        heard["params"].clone()
    }

    /// Answers nothing, and has the login end.
    async fn decline(&mut self, asked: &Value) -> Result<Value, Value> {
        self.api.request("ssh/answer", json!({ "id": asked["id"] })).await
    }

    async fn answer(&mut self, asked: &Value, code: &str) -> Result<Value, Value> {
        self.api.request("ssh/answer", json!({ "id": asked["id"], "answers": [code] })).await
    }

    /// What came of it.
    async fn login(&mut self) -> Value {
        self.api.until("the end of the login", |message| message["id"] == "login").await
    }

    /// Why the host does not log in.
    async fn refused(&mut self, alias: &str) -> Value {
        self.begin(alias).await;
        let error = self.login().await["error"].clone();
        assert!(self.api.take("ssh/asked").is_empty(), "the device was asked: {error}");
        error
    }
}

/// In how many seconds the next login may begin.
fn seconds(error: &Value) -> u64 {
    error["data"]["params"]["seconds"].as_u64().unwrap_or_else(|| panic!("it does not say when: {error}"))
}

fn reason(error: &Value) -> &str {
    error["data"]["reason"].as_str().unwrap_or_else(|| panic!("no refusal: {error}"))
}

#[tokio::test]
async fn a_device_with_admin_is_asked_for_a_machines_code_where_the_owner_said_so() {
    let Some(scene) = Scene::start().await else { return };
    let (mut phone, mut tablet) = (scene.device(Scope::Admin).await, scene.device(Scope::Approve).await);
    let dials = || scene.machine.link.dials().len();
    let before = dials();
    let error = phone.refused("devbox").await;
    assert_eq!((reason(&error), &error["data"]["params"]["code"]), ("at_the_host", &json!("ssh_devices_not_asked")));
    let words = error["message"].as_str().unwrap();
    assert!(
        words.contains("reachback ssh login devbox") && words.contains("reachback ssh ask-devices devbox on"),
        "{words}"
    );
    assert_eq!(dials(), before, "it was connected to");

    scene.ask_devices("devbox", true).await;
    assert_eq!(reason(&tablet.refused("devbox").await), "scope");
    let list = phone.api.request("ssh/list", json!({})).await.unwrap();
    let asks = list["data"].as_array().unwrap().iter().map(|host| (host["alias"].clone(), host["asksDevices"].clone()));
    assert_eq!(
        asks.collect::<Vec<_>>(),
        [(json!("devbox"), json!(true)), (json!("second"), Value::Null), (json!("third"), Value::Null)]
    );

    let mut other = Phone::connect(scene.stage.pair(Scope::Admin).await).await;
    let asked = phone.asked("devbox").await;
    let at = format!("{}@devbox", scene.machine.ssh.user());
    let says = json!({ "name": "", "instruction": "", "prompts": [{ "words": "Password:", "echo": false }] });
    assert_eq!((&asked["environment"], &asked["at"], &asked["says"]), (&json!(ENVIRONMENT), &json!(at), &says));
    assert!((60..=100).contains(&asked["seconds"].as_u64().unwrap()), "{asked}");
    // It is this session's alone.
    assert_eq!(reason(&other.answer(&asked, SESAME).await.unwrap_err()), "answered");
    assert_eq!(reason(&other.refused("devbox").await), "busy");
    assert_eq!(reason(&tablet.answer(&asked, SESAME).await.unwrap_err()), "scope");
    for wrong in [json!([]), json!([SESAME, SESAME]), json!(SESAME), json!(["x".repeat(2000)])] {
        let wrong = phone.api.request("ssh/answer", json!({ "id": asked["id"], "answers": wrong })).await.unwrap_err();
        assert!(reason(&wrong) == "params" && !wrong.to_string().contains("sesame"), "{wrong}");
    }
    phone.answer(&asked, SESAME).await.unwrap();
    assert_eq!(reason(&phone.answer(&asked, SESAME).await.unwrap_err()), "answered");
    let done = phone.login().await;
    assert_eq!((&done["result"]["name"], &done["result"]["state"]), (&json!(ENVIRONMENT), &json!("ready")), "{done}");
    let threads = tablet.api.request("thread/list", json!({ "environment": ENVIRONMENT })).await.unwrap();
    assert!(threads["data"].is_array(), "{threads}");
    // Who asks again while it is connected types nothing.
    phone.begin("devbox").await;
    assert_eq!(phone.login().await["result"]["state"], "ready");

    let line = |method: &str, decision: &str, reason: Option<&str>| {
        (method.to_owned(), decision.to_owned(), reason.map(str::to_owned))
    };
    let mut expected = vec![
        line("ssh/login", "refused", Some("at_the_host")),
        line("ssh/login", "passed", None),
        line("ssh/asked", "passed", None),
        line("ssh/answer", "passed", None),
    ];
    let mut written = scene.audit(&phone);
    expected.sort();
    written.sort();
    assert_eq!(written, expected);
    assert_eq!(scene.audit(&other), [line("ssh/login", "refused", Some("busy"))]);
    scene.stop(true).await;
}

#[tokio::test]
async fn a_code_that_was_wrong_is_a_refused_login_and_the_device_waits() {
    let Some(scene) = Scene::start().await else { return };
    let mut phone = scene.device(Scope::Admin).await;
    scene.ask_devices("devbox", true).await;
    let asked = phone.asked("devbox").await;
    phone.answer(&asked, "wrong").await.unwrap();
    let error = phone.login().await["error"].clone();
    assert_eq!((reason(&error), &error["data"]["params"]["code"]), ("login", &json!("ssh_auth")), "{error}");
    assert!((25..=30).contains(&seconds(&error)), "{error}");
    assert!(phone.api.take("ssh/asked").is_empty(), "one code a login");

    // Whoever asks on any session: nothing is tried.
    let dials = scene.machine.link.dials().len();
    let mut other = Phone::connect(scene.stage.pair(Scope::Admin).await).await;
    for waits in [&mut phone, &mut other] {
        let error = waits.refused("devbox").await;
        assert!(reason(&error) == "busy" && (1..=30).contains(&seconds(&error)), "{error}");
    }
    assert_eq!(scene.machine.link.dials().len(), dials);

    // The owner does not wait, and what they typed counts for the devices, too.
    scene.owner_logs_in().await;
    assert_eq!(listed(&mut phone.api).await.unwrap()["state"], "ready");
    scene.machine.link.reset();
    let lost = async {
        while listed(&mut phone.api).await.unwrap()["state"] != "failed" {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(e2e::PATIENCE, lost)
        .await
        .expect("a machine that asks for a code is not had back without one");
    assert_eq!(listed(&mut phone.api).await.unwrap()["code"], "login");
    let asked = phone.asked("devbox").await;
    phone.answer(&asked, SESAME).await.unwrap();
    assert_eq!(phone.login().await["result"]["state"], "ready");
    scene.stop(true).await;
}

#[tokio::test]
async fn what_no_device_may_answer_stays_at_the_hosts_terminal() {
    let Some((machine, _pam)) = asking(WAYS).await else { return };
    machine.ssh.key("locked", "ed25519", SESAME);
    machine.ssh.lets_in(&["locked"]);
    let port = machine.link.addr().port();
    let block = |name: &str, more: &str| format!("Host {name}\n  Port {port}\n{more}\n");
    let (locked, one) = (machine.ssh.at("locked"), machine.ssh.at("one"));
    machine.configure(
        &[
            // Nobody knows it by that name.
            block("stranger", &format!("  HostKeyAlias stranger\n  IdentityFile {one}")),
            // A key that has to be opened, without a code instead.
            block("sealed", &format!("  IdentityFile {locked}\n  KbdInteractiveAuthentication no")),
            // A code alone.
            block("keyless", "  IdentitiesOnly yes"),
        ]
        .concat(),
    );
    let stage = machine.host().await;
    let mut phone = Phone::connect(stage.pair(Scope::Admin).await).await;
    for (alias, code, says) in [
        ("stranger", "ssh_host_unknown", "reachback ssh check stranger"),
        ("sealed", "ssh_auth", "reachback ssh login sealed"),
        ("keyless", "ssh_auth", "reachback ssh login keyless"),
    ] {
        stage.ask(Request::AddSshHost { alias: alias.into() }).await;
        stage.ask(Request::AskDevices { alias: alias.into(), on: true }).await;
        let error = phone.refused(alias).await;
        assert_eq!(
            (reason(&error), &error["data"]["params"]["code"]),
            ("at_the_host", &json!(code)),
            "{alias}: {error}"
        );
        assert!(error["message"].as_str().unwrap().contains(says), "{alias}: {error}");
    }
    assert!(!machine.ssh.text("known_hosts").contains("stranger"), "its key was taken for good");
    // A client offers no login where a device can't do it.
    for alias in ["stranger", "sealed", "keyless"] {
        let name = format!("ssh:{alias}");
        phone.api.request("thread/list", json!({ "environment": name })).await.unwrap_err();
        let all = phone.api.request("environment/list", json!({})).await.unwrap();
        let told = all["data"].as_array().unwrap().iter().find(|told| told["name"] == name).unwrap();
        assert_eq!((&told["state"], &told["code"]), (&json!("failed"), &Value::Null), "{told}");
    }
    stage.stop().await;
}

#[tokio::test]
async fn a_login_ends_with_the_session_of_the_device_its_scope_and_the_owners_word() {
    let Some(scene) = Scene::start().await else { return };
    let mut phone = scene.device(Scope::Admin).await;
    for alias in ["devbox", "second", "third"] {
        scene.ask_devices(alias, true).await;
    }
    // The owner takes it back.
    let asked = phone.asked("devbox").await;
    scene.ask_devices("devbox", false).await;
    let error = phone.login().await["error"].clone();
    assert_eq!((reason(&error), &error["data"]["params"]["code"]), ("at_the_host", &json!("ssh_devices_not_asked")));
    assert_eq!(reason(&phone.answer(&asked, SESAME).await.unwrap_err()), "answered");

    // The device may less.
    phone.asked("second").await;
    let device = phone.device.id().to_string();
    scene.stage.ask(Request::SetScope { device: device.clone(), scope: Scope::Approve }).await;
    assert_eq!(reason(&phone.login().await["error"]), "login");
    scene.stage.ask(Request::SetScope { device, scope: Scope::Admin }).await;

    // It leaves.
    let closed = || scene.machine.log().matches("Connection closed by authenticating user").count();
    e2e::eventually("both connections are closed", || closed() == 2).await;
    let mut gone = scene.device(Scope::Admin).await;
    gone.asked("third").await;
    gone.remote.end().await;
    e2e::eventually("the connection is closed", || closed() == 3).await;
    let error = phone.refused("third").await;
    assert!(reason(&error) == "busy" && seconds(&error) > 0, "it counts: {error}");
    scene.stop(false).await;
}

#[tokio::test]
async fn a_device_ends_a_login_that_waits_for_its_code_and_it_counts_as_one_that_failed() {
    let Some(scene) = Scene::start().await else { return };
    scene.ask_devices("devbox", true).await;
    let (mut phone, mut tablet) = (scene.device(Scope::Admin).await, scene.device(Scope::Admin).await);
    let asked = phone.asked("devbox").await;
    assert_eq!(reason(&tablet.decline(&asked).await.unwrap_err()), "answered", "it is another device's");
    assert_eq!(phone.decline(&asked).await, Ok(json!({})));
    let error = phone.login().await["error"].clone();
    assert_eq!((reason(&error), &error["data"]["params"]["code"]), ("login", &json!("ssh_auth")), "{error}");
    assert!((25..=30).contains(&seconds(&error)), "{error}");
    for late in [phone.decline(&asked).await, phone.answer(&asked, SESAME).await] {
        assert_eq!(reason(&late.unwrap_err()), "answered");
    }
    e2e::eventually("the connection is closed", || {
        scene.machine.log().contains("Connection closed by authenticating user")
    })
    .await;
    let dials = scene.machine.link.dials().len();
    for waits in [&mut phone, &mut tablet] {
        assert_eq!(reason(&waits.refused("devbox").await), "busy");
    }
    assert_eq!(scene.machine.link.dials().len(), dials, "it was connected to");
    let of_login: Vec<_> = scene.audit(&phone).into_iter().take(4).collect();
    let line = |method: &str, reason: Option<&str>| {
        let decision = if reason.is_some() { "refused" } else { "passed" };
        (method.to_owned(), decision.to_owned(), reason.map(str::to_owned))
    };
    assert_eq!(
        of_login,
        [
            line("ssh/login", None),
            line("ssh/asked", None),
            line("ssh/declined", None),
            line("ssh/login", Some("login"))
        ]
    );
    scene.stop(false).await;
}

#[tokio::test]
async fn the_programs_of_a_host_write_a_code_down_nowhere_however_much_they_log() {
    let Some((machine, _pam)) = asking(WAYS).await else { return };
    let home = Home::new();
    let mut up = up(&home, &machine).await;
    let config = machine.ssh.at("config");
    let run = async |args: &[&str]| home.json(&[&["ssh", "--ssh-config", &config], args].concat()).await.ok();
    run(&["add", "--unchecked", "devbox"]).await;
    run(&["ask-devices", "devbox", "on"]).await;
    let mut pair = home.start(&["pair", "--yes", "--scope", "admin"]);
    let url = PairingUrl::parse(pair.event("pairing").await["url"].as_str().unwrap()).unwrap();
    let device = TestDevice::join(&Invitation::Url(url)).await;
    pair.event("paired").await;
    let mut phone = Phone::connect(device).await;
    let asked = phone.asked("devbox").await;
    phone.answer(&asked, SESAME).await.unwrap();
    let done = phone.login().await;
    assert_eq!(done["result"]["state"], "ready", "{done}");
    let audit = home.run(&["audit"]).await.ok();
    for sentence in [
        "Devices may be asked for the codes of ssh:devbox from then on.",
        "had the host log in (ssh/login) at ssh:devbox.",
        "was asked for a code (ssh/asked) at ssh:devbox.",
        "answered with a code (ssh/answer) at ssh:devbox.",
    ] {
        assert!(audit.out.contains(sentence), "{audit:?}");
    }
    drop(phone);
    assert_eq!(up.stop().await, Some(0));
    let log = std::fs::read_to_string(home.folder("logs").join("up")).unwrap();
    assert!(log.contains("DEBUG") && log.contains("devbox") && !log.contains("sesame"), "{log}");
    end_server(&machine).await;
}

#[tokio::test]
async fn the_owner_says_whether_devices_are_asked_without_an_agent_and_it_is_recorded() {
    let (home, ssh) = (Home::new(), Ssh::prepare());
    ssh.configure("Host devbox\nHost other\n");
    let config = ssh.at("config");
    let run = async |args: &[&str]| home.json(&[&["ssh", "--ssh-config", &config], args].concat()).await;
    let refused = run(&["ask-devices", "devbox", "on"]).await;
    assert_eq!((refused.code, &refused.event("error")["code"]), (1, &json!("ssh_unknown_name")), "{refused:?}");
    run(&["add", "--unchecked", "devbox"]).await.ok();
    let asks = async || {
        let listed = run(&["list"]).await.ok();
        listed.lines().iter().map(|line| line["asks_devices"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(asks().await, [json!(false), json!(false)]);
    let said = run(&["ask-devices", "devbox", "on"]).await.ok().event("ssh_asks_devices");
    assert_eq!((&said["environment"], &said["on"]), (&json!(ENVIRONMENT), &json!(true)));
    assert_eq!(asks().await, [json!(true), json!(false)]);
    assert_eq!(run(&["ask-devices", "devbox", "off"]).await.ok().event("ssh_asks_devices")["on"], false);
    assert_eq!(asks().await, [json!(false), json!(false)]);
    let audit = home.json(&["audit"]).await.ok();
    let events: Vec<_> = audit.lines().iter().map(|line| line["event"].clone()).collect();
    assert_eq!(events, ["ssh_host_added", "ssh_codes_on", "ssh_codes_off"]);
}
