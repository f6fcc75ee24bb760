//! What Codex asks is shown to every device, and answered by the digest of what was shown, once.

use std::time::Duration;

use data_encoding::HEXLOWER;
use e2e::PATIENCE;
use e2e::codex::{TestCodex, ready};
use e2e::rpc::Client;
use e2e::stage::{Stage, TestDevice, client};
use reachback_host::audit::{self, Line, What};
use reachback_host::codex::CodexBackend;
use reachback_host::connect::remote::RemoteHost;
use reachback_proto::scope::Scope;
use reachback_proto::shown;
use serde_json::{Value, json};
use tokio::time::{interval, timeout};

/// A device with its session, and what the agent's API tells it.
pub(super) struct Party {
    device: TestDevice,
    pub(super) remote: RemoteHost,
    api: Client,
}

impl Party {
    pub(super) async fn new(stage: &Stage, scope: Scope) -> Self {
        let device = stage.pair(scope).await;
        Self::back(device).await
    }

    /// A device in a new session.
    async fn back(device: TestDevice) -> Self {
        let remote = device.connect().await;
        let mut api = Client::raw(remote.api().await.unwrap());
        // It is told of what comes from here on.
        api.request("request/list", json!({})).await.unwrap();
        Self { device, remote, api }
    }

    fn id(&self) -> Value {
        json!(self.device.id())
    }

    /// The next request that this device may answer so, as it was told of it last.
    async fn asked(&mut self, answer: &str) -> Value {
        let may = |asked: &Value| asked["answers"].as_array().is_some_and(|all| all.iter().any(|one| one == answer));
        self.opened("a request", may).await
    }

    /// The next request that is `wanted`, as this device was told of it last.
    pub(super) async fn opened(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let is_it = |message: &Value| message["method"] == "request/opened" && wanted(&message["params"]);
        let opened = self.api.until(what, is_it).await["params"].clone();
        let texts: Vec<_> = opened["shown"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
        assert_eq!(opened["digest"], HEXLOWER.encode(&shown::digest(texts)), "{opened}");
        opened
    }

    /// Every request that it was told of and did not look at yet.
    pub(super) async fn told(&mut self) -> Vec<Value> {
        let open = self.api.request("request/list", json!({})).await.unwrap();
        assert_eq!(open["data"], json!([]), "something is open");
        self.api.take("request/opened")
    }

    pub(super) async fn send(&mut self, answer: Value) -> Result<Value, Value> {
        self.api.request("answer/send", answer).await
    }

    pub(super) async fn refused(&mut self, answer: Value) -> Value {
        self.send(answer).await.expect_err("it was taken")["data"].clone()
    }

    async fn closed(&mut self) -> Value {
        self.api.event("request/closed").await["params"].clone()
    }
}

/// The answer that a device's person gives to what it showed.
fn answer(asked: &Value, decision: &str) -> Value {
    let member = |name: &str| asked[name].clone();
    json!({
        "environment": member("environment"), "instance": member("instance"), "requestId": member("requestId"),
        "threadId": member("threadId"), "turnId": member("turnId"), "itemId": member("itemId"), "digest": member("digest"),
        "age": 0, "result": { "decision": decision },
    })
}

/// The same with one member of another value.
fn with(mut answer: Value, member: &str, value: Value) -> Value {
    answer[member] = value;
    answer
}

/// What is shown under a label.
pub(super) fn labelled<'a>(asked: &'a Value, label: &str) -> Vec<&'a str> {
    let texts = asked["shown"].as_array().unwrap();
    texts.chunks(2).filter(|pair| pair[0] == label).map(|pair| pair[1].as_str().unwrap()).collect()
}

#[tokio::test]
async fn what_is_asked_is_shown_to_all_and_one_answer_to_exactly_that_counts() {
    let stage = Stage::start().await;
    let mut phone = Party::new(&stage, Scope::Approve).await;
    let mut tablet = Party::new(&stage, Scope::Approve).await;
    let mut watch = Party::new(&stage, Scope::Steer).await;
    let mut codex = client(&phone.remote).await;
    let thread = codex.thread(&stage.codex).await;
    // What a person can't see must be in what is shown.
    let command = "echo \u{202e}yas\u{200b} > out.txt";
    codex.prompt(&thread, &format!("@esc {command}")).await;

    let asked = phone.asked("accept").await;
    assert!(labelled(&asked, "command")[0].contains(command), "{asked}");
    assert_eq!(labelled(&asked, "folder"), [stage.codex.home.project().to_str().unwrap()]);
    assert_eq!(labelled(&asked, "claim").len(), 1);
    assert_eq!(asked["needed"], "approve");
    assert!(asked["reach"]["sandbox"].is_string(), "{asked}");
    assert_eq!(tablet.asked("accept").await["digest"], asked["digest"]);
    let seen = watch.api.event("request/opened").await;
    assert_eq!(seen["params"]["answers"], json!([]), "who may not answer may look: {seen}");
    let all = |message: &Value| {
        message["method"] == "request/shown" && message["params"]["shownTo"].as_array().unwrap().len() == 3
    };
    phone.api.until("all three to have been shown it", all).await;

    let accept = answer(&asked, "accept");
    let refused = watch.refused(accept.clone()).await;
    assert_eq!((&refused["reason"], &refused["params"]["needed"]), (&json!("scope"), &json!("approve")));
    let now = phone.api.request("host/read", json!({})).await.unwrap()["now"].as_u64().unwrap();
    for (member, value, reason) in [
        ("digest", json!("00".repeat(32)), "digest"),
        ("threadId", json!("another"), "digest"),
        ("turnId", json!("another"), "digest"),
        ("itemId", json!("another"), "digest"),
        ("instance", json!("0000000000000000"), "instance"),
        ("age", json!(60_001), "age"),
        ("decidedAt", json!(now - 60_001), "age"),
        ("environment", json!("elsewhere"), "environment"),
        ("requestId", json!(4711), "answered"),
        ("result", json!({ "decision": "something" }), "params"),
    ] {
        assert_eq!(phone.refused(with(accept.clone(), member, value)).await["reason"], reason, "{member}");
    }
    let listed = phone.api.request("request/list", json!({ "environment": "local" })).await.unwrap();
    assert_eq!(listed["data"][0]["digest"], asked["digest"], "a refused answer leaves it open");
    // Exactly so old it may be.
    let taken = phone.send(with(accept.clone(), "age", json!(60_000))).await.unwrap();
    assert_eq!(taken, json!({ "decision": "accept" }));
    codex.event("turn/completed").await;
    assert!(stage.codex.home.project().join("out.txt").exists());

    let closed = tablet.closed().await;
    assert_eq!((&closed["by"]["deviceId"], &closed["decision"]), (&phone.id(), &json!("accept")), "{closed}");
    let late = tablet.refused(answer(&asked, "decline")).await;
    assert_eq!(late["reason"], "answered");
    assert_eq!((&late["params"]["deviceId"], &late["params"]["decision"]), (&phone.id(), &json!("accept")));
    // The owner can read who accepted what.
    let (lines, _) = audit::read(stage.home()).unwrap();
    let answers = lines.iter().filter_map(|line| match line {
        Line::Device(entry) => match &entry.what {
            What::Action { decision, reason, answer, .. } => answer
                .as_ref()
                .or(reason.as_ref())
                .map(|word| (entry.device_id == phone.device.id(), decision.as_str(), word.as_str())),
            _ => None,
        },
        Line::Folder(_) | Line::Codex(_) | Line::Awake(_) => None,
    });
    let answers: Vec<_> = answers.collect();
    for line in
        [(true, "passed", "accept"), (true, "refused", "digest"), (true, "refused", "age"), (false, "refused", "scope")]
    {
        assert!(answers.contains(&line), "{line:?} is not in {answers:?}");
    }
    stage.stop().await;
}

#[tokio::test]
async fn an_answer_to_a_change_is_an_answer_to_its_diff() {
    let stage = Stage::start().await;
    let mut phone = Party::new(&stage, Scope::Approve).await;
    let mut terminal = Client::connect(&*stage.backend).await;
    let params = json!({ "cwd": stage.codex.home.project(), "sandbox": "read-only", "approvalPolicy": "on-request" });
    let started = terminal.request("thread/start", params).await.unwrap();
    let thread = started["thread"]["id"].as_str().unwrap().to_owned();
    terminal.prompt(&thread, "@patch one.txt").await;
    let one = phone.asked("accept").await;
    assert!(labelled(&one, "file")[0].ends_with("/one.txt"), "{one}");
    assert_eq!(labelled(&one, "diff").len(), 1);
    assert_eq!(phone.send(answer(&one, "decline")).await.unwrap()["decision"], "decline");
    terminal.event("turn/completed").await;
    assert!(!stage.codex.home.project().join("one.txt").exists());

    terminal.prompt(&thread, "@patch two.txt").await;
    let two = phone.asked("accept").await;
    let swapped = with(answer(&two, "accept"), "digest", one["digest"].clone());
    assert_eq!(phone.refused(swapped).await["reason"], "digest");
    assert_eq!(phone.send(answer(&two, "accept")).await.unwrap()["decision"], "accept");
    terminal.event("turn/completed").await;
    assert!(stage.codex.home.project().join("two.txt").exists());
    stage.stop().await;
}

#[tokio::test]
async fn a_change_that_was_asked_for_before_the_agent_came_is_shown_with_its_diff() {
    let stage = Stage::start().await;
    let phone = stage.pair(Scope::Approve).await;
    // A Codex that runs without the agent, which joins it.
    let begun = async |codex: &TestCodex| {
        let outside = codex.backend();
        ready(&outside).await;
        let mut terminal = Client::connect(&outside).await;
        let params = json!({ "cwd": codex.home.project(), "sandbox": "read-only", "approvalPolicy": "on-request" });
        let started = terminal.request("thread/start", params).await.unwrap();
        terminal.prompt(started["thread"]["id"].as_str().unwrap(), "@patch early.txt").await;
        terminal.event("item/fileChange/requestApproval").await;
        (outside, terminal)
    };
    let (stage, (outside, mut terminal)) = stage.restart_agent_after(begun).await;
    let mut phone = Party::back(phone).await;
    let known = async {
        let mut tries = interval(Duration::from_millis(20));
        loop {
            tries.tick().await;
            let listed = phone.api.request("request/list", json!({})).await.unwrap();
            if listed["data"][0]["answers"][0] == "accept" {
                return listed["data"][0].clone();
            }
        }
    };
    let asked = timeout(PATIENCE, known).await.expect("the diff is not looked up");
    assert!(labelled(&asked, "file")[0].ends_with("/early.txt"), "{asked}");
    phone.send(answer(&asked, "accept")).await.unwrap();
    terminal.event("turn/completed").await;
    assert!(stage.codex.home.project().join("early.txt").exists());
    stage.stop().await;
    outside.stop().await;
}

/// Opens a thread on a channel of a device's own, as soon as that can be.
async fn joined(party: &Party, thread: &str) -> Client {
    let mut client = client(&party.remote).await;
    let joining = async {
        let mut tries = interval(Duration::from_millis(20));
        while client.request("thread/resume", json!({ "threadId": thread })).await.is_err() {
            tries.tick().await;
        }
    };
    timeout(PATIENCE, joining).await.expect("the thread can't be joined");
    client
}

#[tokio::test]
async fn an_answer_on_a_channel_is_told_to_the_others_and_is_the_first_or_none() {
    let stage = Stage::start().await;
    let mut phone = Party::new(&stage, Scope::Approve).await;
    let mut tablet = Party::new(&stage, Scope::Approve).await;
    let mut watch = Party::new(&stage, Scope::View).await;
    let mut codex = client(&phone.remote).await;
    let thread = codex.thread(&stage.codex).await;
    codex.turn(&thread, "@text N=1").await;
    let mut stock = joined(&tablet, &thread).await;

    codex.prompt(&thread, "@esc echo one").await;
    let asked = phone.asked("accept").await;
    tablet.asked("accept").await;
    watch.api.event("request/opened").await;
    let request = stock.event("item/commandExecution/requestApproval").await;
    stock.decide(&request, "decline").await;
    for other in [&mut phone, &mut watch] {
        let closed = other.closed().await;
        assert_eq!((&closed["by"]["deviceId"], &closed["decision"]), (&tablet.id(), &json!("decline")), "{closed}");
    }
    assert_eq!(phone.refused(answer(&asked, "accept")).await["params"]["deviceId"], tablet.id());
    codex.event("turn/completed").await;
    tablet.closed().await;

    // At once: whichever is first is what everybody hears, and the other is told so.
    for round in 0..5 {
        codex.prompt(&thread, &format!("@esc touch round{round}")).await;
        let asked = phone.asked("accept").await;
        tablet.asked("accept").await;
        let request = stock.event("item/commandExecution/requestApproval").await;
        let (sent, ()) = tokio::join!(phone.send(answer(&asked, "accept")), stock.decide(&request, "decline"));
        let closed = watch.closed().await;
        let wanted = match &sent {
            Ok(_) => (phone.id(), "accept"),
            Err(error) => {
                assert_eq!(error["data"]["params"]["deviceId"], tablet.id(), "{error}");
                (tablet.id(), "decline")
            }
        };
        assert_eq!((closed["by"]["deviceId"].clone(), closed["decision"].as_str().unwrap()), wanted, "{closed}");
        codex.event("turn/completed").await;
        let has_run = stage.codex.home.project().join(format!("round{round}")).exists();
        assert_eq!(has_run, sent.is_ok(), "what everybody heard is not what Codex did");
    }

    // At the host: nobody is named.
    let mut terminal = Client::connect(&*stage.backend).await;
    terminal.resume(&thread).await;
    terminal.prompt(&thread, "@esc echo two").await;
    let request = terminal.event("item/commandExecution/requestApproval").await;
    let asked = phone.asked("accept").await;
    terminal.decide(&request, "accept").await;
    let closed = watch.closed().await;
    assert_eq!((&closed["by"], closed.get("decision")), (&Value::Null, None));
    let late = phone.refused(answer(&asked, "accept")).await;
    assert_eq!((&late["reason"], &late["params"]), (&json!("answered"), &json!({})));
    stage.stop().await;
}

#[tokio::test]
async fn of_two_devices_that_answer_at_once_the_second_hears_of_the_first() {
    let stage = Stage::start().await;
    let mut phone = Party::new(&stage, Scope::Approve).await;
    let mut tablet = Party::new(&stage, Scope::Approve).await;
    let mut codex = client(&phone.remote).await;
    let thread = codex.thread(&stage.codex).await;
    codex.prompt(&thread, "@esc touch made").await;
    let asked = phone.asked("accept").await;
    tablet.asked("accept").await;
    let (accept, decline) = (answer(&asked, "accept"), answer(&asked, "decline"));
    let (accepted, declined) = tokio::join!(phone.send(accept), tablet.send(decline));
    let late = match (&accepted, &declined) {
        (Ok(_), Err(late)) => (late, phone.id(), "accept"),
        (Err(late), Ok(_)) => (late, tablet.id(), "decline"),
        other => panic!("not one of them counts: {other:?}"),
    };
    let (error, first, said) = late;
    assert_eq!(error["data"]["reason"], "answered");
    assert_eq!(error["data"]["params"]["deviceId"], first);
    assert_eq!(error["data"]["params"]["decision"], said);
    codex.event("turn/completed").await;
    assert_eq!(stage.codex.home.project().join("made").exists(), accepted.is_ok());
    stage.stop().await;
}

#[tokio::test]
async fn an_answer_from_before_a_restart_meets_no_question_of_after_it() {
    let stage = Stage::start().await;
    let mut phone = Party::new(&stage, Scope::Approve).await;
    let mut codex = client(&phone.remote).await;
    let thread = codex.thread(&stage.codex).await;
    codex.prompt(&thread, "@esc touch made").await;
    let before = phone.asked("accept").await;
    drop(codex);
    let stage = stage.restart_agent().await;
    let mut phone = Party::back(phone.device).await;
    let mut codex = client(&phone.remote).await;
    codex.resume(&thread).await;
    // The numbers begin anew, and it is even the same command.
    codex.prompt(&thread, "@esc touch made").await;
    let after = phone.asked("accept").await;
    assert_eq!(before["requestId"], after["requestId"]);
    assert_ne!(before["instance"], after["instance"]);
    assert_eq!(phone.refused(answer(&before, "accept")).await["reason"], "instance");
    assert!(!stage.codex.home.project().join("made").exists());
    phone.send(answer(&after, "cancel")).await.unwrap();
    codex.event("turn/completed").await;
    stage.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_sent_again_after_a_restart_gets_what_became_of_it() {
    let stage = Stage::start().await;
    let mut phone = Party::new(&stage, Scope::Approve).await;
    let tablet = Party::new(&stage, Scope::Approve).await;
    let mut codex = client(&phone.remote).await;
    let thread = codex.thread(&stage.codex).await;
    codex.prompt(&thread, "@esc touch made").await;
    let accept = answer(&phone.asked("accept").await, "accept");
    let first = phone.send(accept.clone()).await.unwrap();
    codex.event("turn/completed").await;
    std::fs::remove_file(stage.codex.home.project().join("made")).unwrap();
    drop(codex);

    let stage = stage.restart_agent().await;
    let mut phone = Party::back(phone.device).await;
    let mut tablet = Party::back(tablet.device).await;
    assert_eq!(phone.send(accept.clone()).await, Ok(first));
    let refused = tablet.refused(accept.clone()).await;
    assert_eq!((&refused["reason"], &refused["params"]["deviceId"]), (&json!("answered"), &phone.id()));
    // Only what was answered is known.
    let other = with(accept, "requestId", json!(4711));
    assert_eq!(phone.refused(other).await["reason"], "instance");
    assert!(!stage.codex.home.project().join("made").exists(), "it ran again");
    stage.stop().await;
}
