//! SSH hosts as environments of a host: real servers, and the real Codex behind them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use e2e::codex::{TestCodex, ready, until};
use e2e::cutter::Cutter;
use e2e::process::{Finished, Home, signal};
use e2e::rpc::{Client, End};
use e2e::sshd::{Account, Ssh, Sshd};
use e2e::stage::{Stage, Tuning};
use reachback_host::agent::ssh_hosts::Rest;
use reachback_host::codex::app_server::AppServer;
use reachback_host::codex::{Allowance, CodexBackend, CodexState, Instance, Silence, StartedBy};
use reachback_host::connect::remote::RemoteHost;
use reachback_host::local_api::{Request, Response};
use reachback_host::ssh::{Discovery, Nobody, Person, SshBackend};
use reachback_proto::frame::ChannelCloseReason;
use reachback_proto::scope::Scope;
use serde_json::{Value, json};

use crate::reasons;

pub(crate) const ENVIRONMENT: &str = "ssh:devbox";

/// A machine called `devbox`, behind a cutter.
pub(crate) struct Machine {
    pub(crate) codex: TestCodex,
    pub(crate) ssh: Ssh,
    account: Account,
    pub(crate) link: Cutter,
    server: Sshd,
}

/// The same, whose Codex runs already.
pub(crate) struct Devbox {
    machine: Machine,
    pub(crate) running: AppServer,
}

impl std::ops::Deref for Devbox {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.machine
    }
}

impl Machine {
    /// With Codex's model of the tests.
    pub(crate) async fn prepare() -> Self {
        Self::with_files("$HOME/bin/files").await
    }

    /// The same, whose SFTP server is this command.
    pub(crate) async fn with_files(command: &str) -> Self {
        Self::made(|codex| format!("export CODEX_HOME='{}'", codex.home.codex_home().display()), command).await
    }

    /// Whose login shell does `first` before all else.
    async fn with(first: impl FnOnce(&TestCodex) -> String) -> Self {
        Self::made(first, "$HOME/bin/files").await
    }

    /// With Codex's model of the tests, which asks for a password through PAM, under this name for it: one of these ways lets one in.
    pub(crate) async fn asking(name: &str, ways: &str) -> Self {
        let (codex, ssh) = (TestCodex::prepare().await, Ssh::prepare());
        let first = format!("export CODEX_HOME='{}'", codex.home.codex_home().display());
        let account = Account::prepare(codex.user_home().join("account"), "bash", &first);
        let asks =
            format!("UsePAM yes\nKbdInteractiveAuthentication yes\nAuthenticationMethods {ways}\nPermitRootLogin yes");
        let server = ssh.server_under(name, &format!("{asks}\n{}", account.sessions())).await;
        Self::behind(codex, ssh, account, server).await
    }

    async fn made(first: impl FnOnce(&TestCodex) -> String, files: &str) -> Self {
        let (codex, ssh) = (TestCodex::prepare().await, Ssh::prepare());
        let account = Account::prepare(codex.user_home().join("account"), "bash", &first(&codex));
        let server = ssh.server(&format!("{}\nSubsystem sftp {files}", account.sessions())).await;
        Self::behind(codex, ssh, account, server).await
    }

    async fn behind(codex: TestCodex, ssh: Ssh, account: Account, server: Sshd) -> Self {
        let link = Cutter::start(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port))).await;
        let machine = Self { codex, ssh, account, link, server };
        machine.is_known();
        machine.configure("");
        machine
    }

    /// What its server has logged.
    pub(crate) fn log(&self) -> String {
        self.ssh.text(&format!("sshd-{}.log", self.server.port))
    }

    /// Whoever one is there.
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    pub(crate) fn is_known(&self) {
        let known = format!("[127.0.0.1]:{} {}\n", self.link.addr().port(), self.ssh.public("host"));
        self.ssh.write("known_hosts", &known);
    }

    /// With more lines about it.
    pub(crate) fn configure(&self, more: &str) {
        let (port, key) = (self.link.addr().port(), self.ssh.at("one"));
        self.ssh.configure(&format!("Host devbox\n  Port {port}\n  IdentityFile {key}\n{more}"));
    }

    /// The same behind another machine, which `link` leads to.
    fn goes_through(&self, link: &Cutter) {
        let (near, far, key) = (link.addr().port(), self.server.port, self.ssh.at("one"));
        let lines: String =
            [near, far].iter().map(|port| format!("[127.0.0.1]:{port} {}\n", self.ssh.public("host"))).collect();
        self.ssh.write("known_hosts", &lines);
        self.ssh.configure(&format!(
            "Host devbox\n  Port {far}\n  IdentityFile {key}\n  ProxyJump jump\nHost jump\n  Port {near}\n  \
             IdentityFile {key}\n  ConnectTimeout 1\n"
        ));
    }

    /// What the owner's own check says.
    async fn check(&self) -> Finished {
        Home::new().json(&["ssh", "--ssh-config", &self.ssh.at("config"), "check", "devbox"]).await
    }

    /// Ends the server that was started there.
    pub(crate) async fn stop_server(&self) {
        let nobody: Arc<dyn Person> = Arc::new(Nobody);
        let connection = self.discovery().connect("devbox", &nobody).await.unwrap().unwrap();
        let found = connection.inspect().await.unwrap();
        assert!(found.is_ours(), "{found:?}");
        let stopped = connection.stop().await.unwrap();
        assert_eq!(stopped.pid, found.record.map(|record| record.pid));
        assert!(!connection.inspect().await.unwrap().is_listening);
    }

    /// A host that knows it by its SSH configuration.
    pub(crate) async fn host(&self) -> Stage {
        Stage::with(Tuning { ssh: Some(self.ssh.path("config")), ..Tuning::default() }).await
    }

    /// What reaches Codex there.
    pub(crate) fn backend(&self, silence: Silence) -> SshBackend {
        SshBackend::new(Arc::new(self.discovery()), "devbox", Vec::new(), silence)
    }

    pub(crate) fn discovery(&self) -> Discovery {
        Discovery::new(None, Some(self.ssh.path("config"))).unwrap()
    }
}

impl Devbox {
    pub(crate) async fn start() -> Self {
        let machine = Machine::prepare().await;
        let running = machine.codex.backend();
        ready(&running).await;
        Self { machine, running }
    }

    pub(crate) async fn stop(self) {
        self.running.stop().await;
    }
}

/// A device that may look, at a host that has added the machine; nothing is connected yet.
struct Scene {
    devbox: Devbox,
    stage: Stage,
    remote: RemoteHost,
    api: Client,
}

impl Scene {
    async fn start() -> Self {
        let devbox = Devbox::start().await;
        let stage = devbox.host().await;
        let remote = stage.pair(Scope::View).await.connect().await;
        let api = api(&remote).await;
        add(&stage).await;
        Self { devbox, stage, remote, api }
    }
}

async fn stop_both(stage: Stage, devbox: Devbox) {
    stage.stop().await;
    devbox.stop().await;
}

pub(crate) async fn add(stage: &Stage) {
    let added = stage.ask(Request::AddSshHost { alias: "devbox".into() }).await;
    assert!(matches!(&added, Response::SshHost(host) if host.environment == ENVIRONMENT), "{added:?}");
}

/// A computer that may look.
async fn laptop(stage: &Stage) -> Home {
    let ((url, _), device) = (stage.offer(Scope::View).await, Home::new());
    device.json(&["join", &url.expose(), "--name", "laptop"]).await.ok();
    device
}

pub(crate) async fn api(remote: &RemoteHost) -> Client {
    Client::raw(remote.api().await.unwrap())
}

/// Waits until the machine is in this state, without wanting it to be.
pub(crate) async fn until_listed(api: &mut Client, state: &str) -> Value {
    let waiting = async {
        loop {
            let now = listed(api).await.unwrap();
            if now["state"] == state {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(e2e::PATIENCE, waiting).await.unwrap_or_else(|_| panic!("it is never {state}"))
}

async fn refused(remote: &RemoteHost) {
    let refused = Client::raw(remote.open_channel(ENVIRONMENT).await.unwrap());
    assert_eq!(refused.ended().await.1, End::Closed(ChannelCloseReason::BackendGone));
}

pub(crate) async fn channel(remote: &RemoteHost) -> Client {
    Client::over(remote.open_channel(ENVIRONMENT).await.unwrap()).await
}

/// How the machine is, by the host's word.
pub(crate) async fn listed(api: &mut Client) -> Option<Value> {
    let list = api.request("environment/list", json!({})).await.unwrap();
    let all = list["data"].as_array().unwrap();
    assert_eq!(all[0]["name"], "local", "{list}");
    all.iter().find(|environment| environment["name"] == ENVIRONMENT).cloned()
}

#[tokio::test]
async fn devices_see_a_machine_that_was_added_and_look_at_its_threads() {
    let devbox = Devbox::start().await;
    let mut there = Client::connect(&devbox.running).await;
    let thread = there.thread(&devbox.codex).await;
    there.turn(&thread, "@text N=3").await;
    let stage = devbox.host().await;
    let remote = stage.pair(Scope::Admin).await.connect().await;
    let mut api = api(&remote).await;
    assert_eq!(listed(&mut api).await, None);

    add(&stage).await;
    assert_eq!(listed(&mut api).await, Some(json!({ "name": ENVIRONMENT, "state": "idle" })));
    assert!(devbox.link.dials().is_empty(), "it was connected before anybody wanted it");
    let told = api.until("the machine", |message| message["params"]["name"] == ENVIRONMENT).await;
    assert_eq!(told["method"], "environment/changed");

    // What is asked for connects it.
    let page = api.request("thread/list", json!({ "environment": ENVIRONMENT })).await.unwrap();
    assert_eq!(page["data"][0]["id"], *thread, "{page}");
    let ready = listed(&mut api).await.unwrap();
    assert_eq!(
        (&ready["state"], &ready["version"], &ready["adapter"]),
        (&json!("ready"), &json!("0.169.0"), &json!("attached"))
    );

    let mut client = channel(&remote).await;
    assert_eq!(client.read_completed(&thread).await["thread"]["id"], *thread);
    there.prompt(&thread, "@wait").await;
    // It was idle before: the agent follows it once it hears of the turn.
    let joining = async {
        while client.request("thread/resume", json!({ "threadId": thread })).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(e2e::PATIENCE, joining).await.expect("the thread can be followed");
    let other = there.thread(&devbox.codex).await;
    there.prompt(&other, "@go").await;
    client.event("turn/completed").await;
    assert_eq!(devbox.link.dials().len(), 1, "one connection carries all of it");

    stop_both(stage, devbox).await;
}

#[tokio::test]
async fn a_machine_that_is_taken_back_is_gone_for_devices_and_its_codex_goes_on() {
    let Scene { devbox, stage, remote, mut api } = Scene::start().await;
    let client = channel(&remote).await;
    let removed = stage.ask(Request::RemoveSshHost { alias: "devbox".into() }).await;
    assert!(matches!(removed, Response::SshHost(_)), "{removed:?}");
    let told = api.event("environment/removed").await;
    assert_eq!(told["params"], json!({ "name": ENVIRONMENT }));
    let (_, end) = client.ended().await;
    assert_eq!(end, End::Closed(ChannelCloseReason::BackendGone));
    assert_eq!(listed(&mut api).await, None);
    let again = Client::raw(remote.open_channel(ENVIRONMENT).await.unwrap());
    assert_eq!(again.ended().await.1, End::Closed(ChannelCloseReason::Refused));

    // What was asked of the one before does not stay with one of the same name.
    add(&stage).await;
    api.request("thread/list", json!({ "environment": ENVIRONMENT })).await.unwrap();
    stage.ask(Request::RemoveSshHost { alias: "devbox".into() }).await;
    add(&stage).await;
    api.request("thread/list", json!({ "environment": ENVIRONMENT })).await.unwrap();
    Client::connect(&devbox.running).await.echo().await;
    stop_both(stage, devbox).await;
}

/// The text of an answer in what a channel told, as far as it was told in pieces.
pub(crate) fn text_in_pieces<'a>(messages: impl IntoIterator<Item = &'a Value>) -> String {
    let pieces = messages.into_iter().filter(|message| message["method"] == "item/agentMessage/delta");
    pieces.map(|piece| piece["params"]["delta"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_link_that_is_lost_twenty_times_in_a_turn_costs_no_word_and_doubles_none() {
    const PIECES: usize = 5000;
    const CUTS: usize = 20;
    let Scene { devbox, stage, remote, .. } = Scene::start().await;
    let mut there = Client::connect(&devbox.running).await;
    let thread = there.thread(&devbox.codex).await;
    there.prompt(&thread, &format!("@text N={PIECES} size=6 ms=5")).await;
    there.event("item/agentMessage/delta").await;

    let is_over = |message: &Value| message["method"] == "turn/completed";
    let (mut seen, mut cuts) = (Vec::new(), 0);
    let told = loop {
        // It waits for the link.
        let mut client = channel(&remote).await;
        let resumed = client.request("thread/resume", json!({ "threadId": thread })).await;
        assert_eq!(devbox.link.dials().len(), cuts + 1, "another try than was needed");
        if let Err(refused) = resumed {
            assert!(cuts > CUTS / 2, "the turn ended after {cuts} cuts: {refused}");
            break Vec::new();
        }
        if cuts == CUTS {
            break client.until_or_end("the end of the turn", is_over).await.0;
        }
        if !client.take("turn/completed").is_empty() {
            assert!(cuts > CUTS / 2, "the turn ended after {cuts} cuts: this machine is too slow for the test");
            break Vec::new();
        }
        let is_told = |message: &Value| message["method"] == "item/agentMessage/delta" || is_over(message);
        let (mut told, _) = client.until_or_end("text", is_told).await;
        devbox.link.reset();
        cuts += 1;
        let (rest, end) = client.ended().await;
        assert_eq!(end, End::Closed(ChannelCloseReason::BackendGone));
        told.extend(rest);
        if told.iter().any(is_over) {
            assert!(cuts > CUTS / 2, "the turn ended after {cuts} cuts: this machine is too slow for the test");
            break told;
        }
        seen.push(text_in_pieces(&told));
    };
    let completed =
        |message: &&Value| message["method"] == "item/completed" && message["params"]["item"]["type"] == "agentMessage";
    let whole: Vec<_> = told.iter().filter(completed).collect();
    assert!(whole.len() <= 1, "the answer came {} times", whole.len());
    let read = channel(&remote).await.read_completed(&thread).await;
    let items = read["thread"]["turns"][0]["items"].as_array().unwrap();
    let text = items.iter().find(|item| item["type"] == "agentMessage").unwrap()["text"].as_str().unwrap();
    assert_eq!((text.len(), text.split_whitespace().count()), (PIECES * 6, PIECES));
    if let [item] = whole[..] {
        assert_eq!(item["params"]["item"]["text"], text);
        assert!(text.ends_with(&text_in_pieces(&told)));
    }
    for (channel, part) in seen.iter().enumerate() {
        assert!(!part.is_empty(), "channel {channel} was told nothing");
        assert!(
            text.contains(part.as_str()),
            "channel {channel} was told “{part}”, which does not stand in the answer so"
        );
    }
    stop_both(stage, devbox).await;
}

#[tokio::test]
async fn what_waits_for_an_answer_is_heard_of_again_after_a_cut_and_can_be_followed() {
    let Scene { devbox, stage, remote, mut api } = Scene::start().await;
    let mut there = Client::connect(&devbox.running).await;
    let thread = there.thread(&devbox.codex).await;
    there.prompt(&thread, "@esc true").await;
    let asked = there.event("item/commandExecution/requestApproval").await;

    let mut client = channel(&remote).await;
    client.resume(&thread).await;
    let about = |message: &Value| message["method"] == "request/opened" && message["params"]["threadId"] == *thread;
    let before = api.until("the request", about).await;
    assert_eq!(before["params"]["environment"], ENVIRONMENT, "{before}");
    assert_eq!(before["params"]["answers"], json!([]), "a device that may only look answers nothing: {before}");

    devbox.link.reset();
    assert_eq!(client.ended().await.1, End::Closed(ChannelCloseReason::BackendGone));
    let mut client = channel(&remote).await;
    client.resume(&thread).await;
    let after = api.until("the request again", about).await;
    assert_ne!(before["params"]["instance"], after["params"]["instance"]);
    there.decide(&asked, "accept").await;
    client.event("turn/completed").await;
    stop_both(stage, devbox).await;
}

#[tokio::test]
async fn a_machine_out_of_reach_is_said_to_be_with_what_helps_and_tried_again_for_who_wants_it() {
    let Scene { devbox, stage, remote, mut api } = Scene::start().await;
    devbox.ssh.write("known_hosts", "");
    for _ in 0..5 {
        refused(&remote).await;
    }
    let failed = listed(&mut api).await.unwrap();
    assert_eq!(failed["state"], "failed", "{failed}");
    assert!(failed["reason"].as_str().unwrap().contains("“devbox”"), "{failed}");
    assert!(failed["fix"].as_str().unwrap().ends_with("reachback ssh check devbox"), "{failed}");
    assert_eq!(devbox.link.dials().len(), 1, "it is told from memory");

    // What the owner mends counts before long, and nobody needs to do more.
    devbox.is_known();
    let answered = async {
        while api.request("thread/list", json!({ "environment": ENVIRONMENT })).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(e2e::PATIENCE, answered).await.expect("it is tried again");
    stop_both(stage, devbox).await;
}

#[tokio::test]
async fn a_login_that_is_refused_is_not_tried_unasked_and_is_told_from_memory_to_who_asks() {
    let Scene { devbox, stage, remote, mut api } = Scene::start().await;
    channel(&remote).await.echo().await;
    // This host's key is taken off there, and the link is cut.
    devbox.ssh.lets_in(&["two"]);
    devbox.link.reset();
    let failed = until_listed(&mut api, "failed").await;
    assert!(failed["reason"].as_str().unwrap().contains("does not let this computer in"), "{failed}");
    for checks in 1..4 {
        for _ in 0..5 {
            refused(&remote).await;
            api.request("thread/list", json!({ "environment": ENVIRONMENT })).await.unwrap_err();
        }
        // The owner's own check asks the machine, and takes longer than the agent ever waited between tries of its own.
        let checked = devbox.check().await;
        assert_eq!(checked.event("error")["code"], "ssh_auth", "{checked:?}");
        assert_eq!(devbox.link.dials().len(), 2 + checks, "connected, made anew in vain, checked {checks} times");
    }

    // Once it is mended, the owner need not wait.
    devbox.ssh.lets_in(&["one"]);
    stage.ask(Request::RemoveSshHost { alias: "devbox".into() }).await;
    add(&stage).await;
    api.request("thread/list", json!({ "environment": ENVIRONMENT })).await.unwrap();
    stop_both(stage, devbox).await;
}

#[tokio::test]
async fn a_machine_that_was_lost_is_tried_until_it_is_there_again() {
    let Scene { devbox, stage, remote, mut api } = Scene::start().await;
    devbox.configure("  ConnectTimeout 1\n");
    channel(&remote).await.echo().await;
    devbox.link.offline();
    until_listed(&mut api, "failed").await;
    e2e::eventually("it is tried unasked", || devbox.link.dials().len() >= 4).await;
    devbox.link.online();
    until_listed(&mut api, "ready").await;
    stop_both(stage, devbox).await;
}

#[tokio::test]
async fn a_jump_host_that_goes_away_in_mid_turn_and_comes_back_is_gone_through_again() {
    let devbox = Devbox::start().await;
    let jump = devbox.ssh.server("").await;
    let link = Cutter::start(SocketAddr::from((Ipv4Addr::LOCALHOST, jump.port))).await;
    devbox.goes_through(&link);
    let stage = devbox.host().await;
    let remote = stage.pair(Scope::View).await.connect().await;
    let mut api = api(&remote).await;
    add(&stage).await;
    let mut there = Client::connect(&devbox.running).await;
    let thread = there.thread(&devbox.codex).await;
    there.prompt(&thread, "@text N=300 ms=20").await;
    let mut client = channel(&remote).await;
    assert_eq!((link.dials().len(), devbox.link.dials().len()), (1, 0), "the way leads through the jump host");
    client.resume(&thread).await;
    client.event("item/agentMessage/delta").await;

    link.offline();
    assert_eq!(client.ended().await.1, End::Closed(ChannelCloseReason::BackendGone));
    until_listed(&mut api, "failed").await;
    there.event("turn/completed").await;
    link.online();
    until_listed(&mut api, "ready").await;
    let read = channel(&remote).await.read_completed(&thread).await;
    assert!(read.to_string().contains("completed"), "{read}");
    stop_both(stage, devbox).await;
}

#[tokio::test]
async fn who_connects_to_a_machine_that_is_not_connected_hears_what_is_in_the_way_before_anything_starts() {
    // Codex's own model there, and no account.
    let machine = Machine::with(|_| String::new()).await;
    let stage = machine.host().await;
    add(&stage).await;
    let device = laptop(&stage).await;
    let connect = || reasons::connect(&device, &e2e::codex::program(), &["--env", ENVIRONMENT]);

    machine.ssh.lets_in(&["two"]);
    let out_of_reach = ["out of reach on “ssh:devbox” of “a host of the tests”", "does not let this computer in"];
    reasons::refuses(&connect(), &out_of_reach).await;
    // From memory, too.
    reasons::refuses(&connect(), &out_of_reach).await;
    assert_eq!(machine.link.dials().len(), 1);

    machine.ssh.lets_in(&["one"]);
    stage.ask(Request::RemoveSshHost { alias: "devbox".into() }).await;
    add(&stage).await;
    let login = r#"ssh -t devbox 'exec "$SHELL" -lc "codex login --device-auth"'; then: reachback connect"#;
    reasons::refuses(&connect(), &["on “ssh:devbox” of “a host of the tests” is not signed in", login]).await;
    stage.stop().await;
    machine.stop_server().await;

    // One that needs none.
    let devbox = Devbox::start().await;
    let stage = devbox.host().await;
    add(&stage).await;
    let device = laptop(&stage).await;
    let terminal = reasons::connect(&device, &e2e::codex::program(), &["--env", ENVIRONMENT]);
    reasons::refuses(&terminal, &["this computer may only look"]).await;
    assert_eq!(devbox.link.dials().len(), 1, "it was connected first");
    stop_both(stage, devbox).await;
}

#[tokio::test]
async fn a_machine_that_nobody_needs_is_let_go_and_comes_back_for_the_next() {
    let devbox = Devbox::start().await;
    let backend = devbox.backend(Silence::default());
    assert_eq!(*backend.state().borrow(), CodexState::Idle);
    let mut client = Client::connect(&backend).await;
    client.echo().await;
    assert_eq!(backend.clients(), 1);
    let state = backend.state().borrow().clone();
    assert!(matches!(state, CodexState::Ready { started_by: StartedBy::Others, .. }), "{state:?}");

    backend.rest();
    until(&backend, "idle", |state| *state == CodexState::Idle).await;
    assert_eq!(client.ended().await.1, End::Silent);
    assert_eq!(backend.clients(), 0);
    Client::connect(&backend).await.echo().await;
    assert_eq!(devbox.link.dials().len(), 2);
    backend.stop().await;
    assert_eq!(*backend.state().borrow(), CodexState::Stopped);
    devbox.stop().await;
}

/// Watches the machine for longer than it may stay without being needed.
async fn stays(api: &mut Client, rest: Rest) {
    let begin = tokio::time::Instant::now();
    while begin.elapsed() < 2 * rest.after {
        assert_eq!(listed(api).await.unwrap()["state"], "ready", "it was let go after {:?}", begin.elapsed());
        tokio::time::sleep(rest.look).await;
    }
}

#[tokio::test]
async fn a_machine_rests_once_nobody_has_wanted_it_for_a_while_and_nothing_runs_there() {
    let devbox = Devbox::start().await;
    let rest = Rest { after: Duration::from_secs(3), look: Duration::from_millis(50) };
    let tuning = Tuning { ssh: Some(devbox.ssh.path("config")), ssh_rest: rest, ..Tuning::default() };
    let stage = Stage::with(tuning).await;
    let remote = stage.pair(Scope::Approve).await.connect().await;
    let mut api = api(&remote).await;
    add(&stage).await;

    // A channel that is open needs it, whether it says something or not.
    let opened = remote.open_channel(ENVIRONMENT).await.unwrap();
    let sender = opened.sender.clone();
    let mut client = Client::over(opened).await;
    stays(&mut api, rest).await;
    assert_eq!(devbox.link.dials().len(), 1);
    // So does a turn that the agent has heard of.
    let mut there = Client::connect(&devbox.running).await;
    let thread = there.thread(&devbox.codex).await;
    there.prompt(&thread, "@wait").await;
    let joining = async {
        while client.request("thread/resume", json!({ "threadId": thread })).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(e2e::PATIENCE, joining).await.expect("the thread can be followed");
    sender.close(ChannelCloseReason::Done, "").await.unwrap();
    drop(client);
    stays(&mut api, rest).await;

    let other = there.thread(&devbox.codex).await;
    there.prompt(&other, "@go").await;
    until_listed(&mut api, "idle").await;
    assert_eq!(devbox.link.dials().len(), 1, "it was connected again meanwhile");
    // Codex there goes on, and the next one who wants it has it connected.
    there.echo().await;
    channel(&remote).await.echo().await;
    assert_eq!(devbox.link.dials().len(), 2);
    stop_both(stage, devbox).await;
}

#[tokio::test]
async fn where_no_server_runs_one_is_started_that_outlives_the_agent_and_is_ended_by_the_owner() {
    let machine = Machine::prepare().await;
    let stage = machine.host().await;
    let remote = stage.pair(Scope::View).await.connect().await;
    let mut api = api(&remote).await;
    add(&stage).await;
    channel(&remote).await.echo().await;
    assert_eq!(listed(&mut api).await.unwrap()["adapter"], "started");
    stage.stop().await;

    machine.stop_server().await;
}

#[tokio::test]
async fn a_device_with_admin_adds_and_takes_back_machines_that_the_configuration_names() {
    let devbox = Devbox::start().await;
    let stage = devbox.host().await;
    let (boss, other) = (stage.pair(Scope::Admin).await, stage.pair(Scope::Approve).await);
    let (boss_remote, other_remote) = (boss.connect().await, other.connect().await);
    let (mut boss_api, mut other_api) = (api(&boss_remote).await, api(&other_remote).await);
    let alias = |name: &str| json!({ "alias": name });
    for (method, params) in [("ssh/list", json!({})), ("ssh/add", alias("devbox")), ("ssh/remove", alias("devbox"))] {
        let refused = other_api.request(method, params).await.unwrap_err();
        assert_eq!(refused["data"]["reason"], "scope", "{method}: {refused}");
    }
    let list = boss_api.request("ssh/list", json!({})).await.unwrap();
    let (user, port) = (devbox.ssh.user(), devbox.link.addr().port());
    let machine = json!({ "alias": "devbox", "user": user, "hostName": "127.0.0.1", "port": port, "added": false });
    assert_eq!(list, json!({ "data": [machine] }));
    // A file that is included and can't be read may name more of them.
    let folder = devbox.ssh.path("lab");
    std::fs::create_dir(&folder).unwrap();
    let read = devbox.ssh.text("config");
    devbox.ssh.write("config", &format!("Include {}\n{read}", folder.display()));
    let some = boss_api.request("ssh/list", json!({})).await.unwrap();
    assert_eq!(some["data"].as_array().unwrap().len(), 1, "{some}");
    assert_eq!(some["unread"], json!([format!("“{}”: not a file", folder.display())]));
    devbox.ssh.write("config", &read);
    // What could be an option, a command or an address is no name.
    for name in ["other", "", "-oProxyCommand=touch /tmp/x", "127.0.0.1", "devbox other", "*", "../devbox"] {
        let refused = boss_api.request("ssh/add", alias(name)).await.unwrap_err();
        assert_eq!(refused["data"]["reason"], "environment", "{name}: {refused}");
    }

    let added = boss_api.request("ssh/add", alias("devbox")).await.unwrap();
    assert_eq!(added, json!({ "name": ENVIRONMENT, "state": "idle" }));
    assert_eq!(
        boss_api.request("ssh/add", alias("devbox")).await.unwrap(),
        added,
        "asked again, as after a lost answer"
    );
    other_api.until("the machine", |message| message["params"]["name"] == ENVIRONMENT).await;
    assert_eq!(boss_api.request("ssh/list", json!({})).await.unwrap()["data"][0]["added"], true);
    assert!(devbox.link.dials().is_empty(), "it was connected before anybody wanted it");
    channel(&other_remote).await.echo().await;

    for _ in 0..2 {
        assert_eq!(boss_api.request("ssh/remove", alias("devbox")).await.unwrap(), json!({}));
    }
    other_api.event("environment/removed").await;
    assert_eq!(listed(&mut boss_api).await, None);
    let audit = format!("{:?}", reachback_host::audit::read(stage.home()).unwrap());
    let by = format!("SshHostAdded, environment: \"{ENVIRONMENT}\", by: Some({:?})", boss.id());
    assert_eq!(audit.matches(&by).count(), 1, "{audit}");
    assert_eq!(audit.matches("SshHostRemoved").count(), 1, "{audit}");
    stop_both(stage, devbox).await;
}

#[tokio::test]
async fn the_owner_adds_and_takes_back_machines_without_an_agent_and_it_is_recorded() {
    let (home, ssh) = (Home::new(), Ssh::prepare());
    ssh.configure("Host devbox\nHost other\n");
    let config = ssh.at("config");
    let run = async |args: &[&str]| home.json(&[&["ssh", "--ssh-config", &config], args].concat()).await;
    let added = run(&["add", "--unchecked", "devbox"]).await.ok();
    assert_eq!(added.event("ssh_added")["environment"], ENVIRONMENT);
    let listed = run(&["list"]).await.ok();
    let added: Vec<_> = listed.lines().iter().map(|line| (line["alias"].clone(), line["added"].clone())).collect();
    assert_eq!(added, [(json!("devbox"), json!(true)), (json!("other"), json!(false))]);
    for (args, code) in
        [(["add", "--unchecked", "devbox"], "ssh_already"), (["add", "--unchecked", "nowhere"], "ssh_unknown_name")]
    {
        let refused = run(&args).await;
        assert_eq!((refused.code, &refused.event("error")["code"]), (1, &json!(code)), "{refused:?}");
    }
    // One that can't be reached is not added.
    let unreachable = run(&["add", "other"]).await;
    assert_eq!(unreachable.code, 1, "{unreachable:?}");

    let removed = run(&["remove", "devbox"]).await.ok();
    assert_eq!(removed.event("ssh_removed")["alias"], "devbox");
    assert_eq!(run(&["remove", "devbox"]).await.event("error")["code"], "ssh_unknown_name");
    let audit = home.json(&["audit"]).await.ok();
    let lines: Vec<_> = audit.lines().iter().map(|line| (line["event"].clone(), line["environment"].clone())).collect();
    assert_eq!(lines, [(json!("ssh_host_added"), json!(ENVIRONMENT)), (json!("ssh_host_removed"), json!(ENVIRONMENT))]);
}

/// Shorter than a person has, and longer than a machine that runs tests needs.
pub(crate) const SILENCE: Silence = Silence {
    ask_after: Duration::from_secs(2),
    told_after: Duration::from_secs(8),
    ended_after: Duration::from_secs(4),
};

/// Stops a process until it is told; gives what helps.
async fn hangs(backend: &SshBackend, server: i32) -> String {
    signal("-STOP", server);
    match until(backend, "told to hang", |state| matches!(state, CodexState::Failed { .. })).await {
        CodexState::Failed { reason, fix, .. } if reason.contains("does not answer") => fix.expect("what helps"),
        other => panic!("wanted a Codex that hangs, got {other:?}"),
    }
}

pub(crate) fn instance(state: &CodexState) -> Option<(Instance, StartedBy)> {
    match state {
        CodexState::Ready { instance, started_by, .. } => Some((*instance, *started_by)),
        _ => None,
    }
}

#[tokio::test]
async fn a_codex_there_that_hangs_is_told_and_answers_again_or_is_started_anew_where_it_is_reachbacks() {
    let devbox = Devbox::start().await;
    let backend = devbox.backend(SILENCE);
    let mut client = Client::connect(&backend).await;
    let first = instance(&backend.state().borrow());
    let server = devbox.codex.server().await;
    let fix = hangs(&backend, server).await;
    assert!(fix.contains("ssh devbox codex app-server daemon restart"), "{fix}");
    assert!(backend.connect(Allowance::default()).await.is_err());
    signal("-CONT", server);
    let again = until(&backend, "well again", |state| instance(state).is_some()).await;
    assert_eq!(instance(&again), first, "it is the same run");
    client.echo().await;
    backend.stop().await;
    devbox.stop().await;

    let machine = Machine::prepare().await;
    let backend = machine.backend(SILENCE);
    let client = Client::connect(&backend).await;
    let (first, started_by) = instance(&backend.state().borrow()).unwrap();
    assert_eq!(started_by, StartedBy::Agent);
    let server = machine.codex.server().await;
    let fix = hangs(&backend, server).await;
    assert!(fix.contains("started anew"), "{fix}");
    until(&backend, "started anew", |state| instance(state).is_some_and(|(now, _)| now != first)).await;
    client.ended().await;
    assert_ne!(machine.codex.server().await, server);
    Client::connect(&backend).await.echo().await;

    backend.stop().await;
    machine.stop_server().await;
}

#[tokio::test]
async fn a_codex_of_reachbacks_that_hung_before_anybody_came_is_started_anew() {
    let machine = Machine::prepare().await;
    let backend = machine.backend(SILENCE);
    Client::connect(&backend).await.echo().await;
    backend.stop().await;
    let server = machine.codex.server().await;
    signal("-STOP", server);
    let backend = machine.backend(SILENCE);
    // Who wants it may hear that it starts: it takes longer than they wait.
    drop(backend.connect(Allowance::default()).await);
    until(&backend, "started anew", |state| instance(state).is_some()).await;
    Client::connect(&backend).await.echo().await;
    assert_ne!(machine.codex.server().await, server);
    backend.stop().await;
    machine.stop_server().await;
}
