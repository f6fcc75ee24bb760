use ring::rand::SystemRandom;
use serde_json::{json, value::to_raw_value};
use tokio::sync::broadcast::error::TryRecvError;

use super::*;
use crate::platform::files;

const COMMAND: &str = "item/commandExecution/requestApproval";

/// A board whose Codex a test plays.
struct Play {
    requests: Requests,
    instance: Instance,
    to_codex: mpsc::Receiver<Bytes>,
    changes: broadcast::Receiver<Change>,
    answers: Arc<Answers>,
    home: tempfile::TempDir,
}

fn raw(value: &Value) -> Box<RawValue> {
    to_raw_value(value).unwrap()
}

fn who(n: u8) -> Who {
    Who { device_id: DeviceId([n; 16]), name: format!("device {n}") }
}

fn instance() -> Instance {
    Instance::random(&SystemRandom::new()).unwrap()
}

impl Play {
    fn new() -> Self {
        let requests = Requests::new("local", changes());
        let (instance, changes) = (instance(), requests.changes());
        let to_codex = requests.connected(instance);
        let home = tempfile::tempdir().unwrap();
        files::private_dir(&home.path().join("host")).unwrap();
        let answers = Arc::new(Answers::open(home.path(), 0).unwrap());
        Self { requests, instance, to_codex, changes, answers, home }
    }

    fn asks(&self, id: u64, method: &str, params: &Value) -> Option<String> {
        self.requests.asked(&raw(&json!(id)), method, Some(&raw(params)), 9)
    }

    fn command(&self, id: u64) -> Asked {
        let params =
            json!({ "threadId": "t", "turnId": "u", "itemId": "i", "startedAtMs": 5, "command": format!("echo {id}") });
        assert_eq!(self.asks(id, COMMAND, &params), None);
        self.find(id).unwrap()
    }

    fn key(&self, id: u64) -> Key {
        let id = RequestId::Number(i64::try_from(id).unwrap());
        Key { environment: "local".into(), instance: self.instance, id }
    }

    fn find(&self, id: u64) -> Option<Asked> {
        self.requests.find(&self.key(id))
    }

    fn resolve(&self, id: u64) {
        let params = raw(&json!({ "threadId": "t", "requestId": id }));
        self.requests.notified("serverRequest/resolved", Some(&params));
    }

    fn changes_to(&self, item: &str, diff: &str) {
        let change = json!({ "path": "/w/a", "kind": { "type": "add" }, "diff": diff });
        let item = json!({ "type": "fileChange", "id": item, "changes": [change] });
        self.requests.notified("item/started", Some(&raw(&json!({ "threadId": "t", "turnId": "u", "item": item }))));
    }

    /// What all sessions were told since: what, and the number of which request.
    fn told(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        loop {
            let id = |id: &RequestId| serde_json::to_string(id).unwrap();
            told.push(match self.changes.try_recv() {
                Ok(Change::Opened(key)) => format!("opened {}", id(&key.id)),
                Ok(Change::ShownTo(key)) => format!("shown {}", id(&key.id)),
                Ok(Change::Closed(Closed { key, outcome, .. })) => {
                    let by = outcome.by.map_or_else(|| "nobody".to_owned(), |who| who.name);
                    format!("closed {} by {by}", id(&key.id))
                }
                Err(TryRecvError::Empty) => return told,
                Err(error) => panic!("{error}"),
            });
        }
    }

    /// A device answers what it was shown.
    async fn answer(&self, asked: &Asked, n: u8, scope: Scope, result: &Value) -> Result<Answered, AnswerRefusal> {
        let (instance, result) = (asked.key.instance.to_string(), raw(result));
        let attempt = attempt(asked, &instance, &result);
        self.requests.answer(&attempt, &who(n), (scope, false), &self.answers, |_| true).await
    }

    /// Answers, while Codex takes what comes and says that it did.
    async fn answered(&mut self, asked: &Asked, n: u8, result: &Value) -> (Result<Answered, AnswerRefusal>, Value) {
        let (instance, result) = (asked.key.instance.to_string(), raw(result));
        let attempt = attempt(asked, &instance, &result);
        let codex = async {
            let bytes = timeout(PATIENCE, self.to_codex.recv()).await.expect("nothing goes to codex").unwrap();
            let params = raw(&json!({ "threadId": "t", "requestId": asked.key.id }));
            self.requests.notified("serverRequest/resolved", Some(&params));
            serde_json::from_slice(&bytes).unwrap()
        };
        let who = who(n);
        tokio::join!(self.requests.answer(&attempt, &who, (Scope::Approve, false), &self.answers, |_| true), codex)
    }
}

fn attempt<'a>(asked: &'a Asked, instance: &'a str, result: &'a RawValue) -> Attempt<'a> {
    Attempt {
        instance,
        id: asked.key.id.clone(),
        thread: &asked.thread,
        turn: asked.turn.as_deref(),
        item: asked.item.as_deref(),
        digest: &asked.digest,
        age: Duration::ZERO,
        said: Said::Result(result),
    }
}

fn decision(word: &str) -> Value {
    json!({ "decision": word })
}

#[tokio::test]
async fn an_answer_goes_to_codex_once_and_everybody_hears_whose_it_was() {
    let mut play = Play::new();
    let asked = play.command(3);
    play.requests.shown_to(play.instance, &asked.key.id, &who(1));
    play.requests.shown_to(play.instance, &asked.key.id, &who(1));
    let (answered, to_codex) = play.answered(&asked, 1, &decision("acceptForSession")).await;
    let Answered { choice, lessened } = answered.unwrap();
    assert_eq!((choice, to_codex), (Choice::Accept, json!({ "id": 3, "result": { "decision": "accept" } })));
    assert!(lessened.is_some(), "nothing that lasts, without the flag");
    assert_eq!(play.told(), ["opened 3", "shown 3", "closed 3 by device 1"]);
    let outcome = Outcome { by: Some(who(1)), choice: Some(Choice::Accept) };
    let late = play.answer(&asked, 2, Scope::Approve, &decision("decline")).await;
    assert_eq!(late, Err(AnswerRefusal::Answered(outcome)));
    assert_eq!(late.unwrap_err().to_string(), "device 1 was faster, and accepted");
    // Codex sends what is open again after a resume; this was on its way then.
    play.asks(3, COMMAND, &json!({ "threadId": "t", "command": "echo 3" }));
    assert!(play.find(3).is_none());
}

#[tokio::test]
async fn an_answer_to_something_else_than_is_asked_is_refused_and_leaves_it_open() {
    let mut play = Play::new();
    let asked = play.command(3);
    let instance = play.instance.to_string();
    let (accept, decline) = (raw(&decision("accept")), raw(&decision("decline")));
    let error = raw(&json!({ "code": 1, "message": "no" }));
    let old = MAX_AGE + Duration::from_millis(1);
    type Bend<'a> = Box<dyn Fn(&mut Attempt<'a>) + 'a>;
    let cases: Vec<(Bend<'_>, AnswerRefusal)> = vec![
        (Box::new(|a| a.instance = "0000000000000000"), AnswerRefusal::Instance),
        (Box::new(|a| a.digest = "00"), AnswerRefusal::Digest),
        (Box::new(|a| a.thread = "other"), AnswerRefusal::Digest),
        (Box::new(|a| a.turn = Some("other")), AnswerRefusal::Digest),
        (Box::new(|a| a.item = Some("other")), AnswerRefusal::Digest),
        (Box::new(|a| a.age = old), AnswerRefusal::Age),
        (Box::new(|a| a.id = RequestId::Number(4)), AnswerRefusal::Answered(Outcome::default())),
        (Box::new(|a| a.said = Said::Result(&error)), AnswerRefusal::Answer(AnswerError::Unfit)),
    ];
    let mut lines = 0;
    for (bend, wanted) in cases {
        let mut attempt = attempt(&asked, &instance, &accept);
        bend(&mut attempt);
        let recorded = Mutex::new(Vec::new());
        let record = |audit: &Audit| {
            recorded.lock().unwrap().push(audit.decision.clone());
            true
        };
        let refused = play.requests.answer(&attempt, &who(1), (Scope::Approve, false), &play.answers, record).await;
        assert_eq!(refused, Err(wanted.clone()));
        let recorded = recorded.into_inner().unwrap();
        assert!(matches!(recorded[..], [Decision::Refused(_)]), "{wanted:?}: {recorded:?}");
        lines += recorded.len();
    }
    assert_eq!(lines, 8);
    let scope = play.answer(&asked, 1, Scope::Steer, &decision("decline")).await;
    assert!(
        matches!(scope, Err(AnswerRefusal::Answer(AnswerError::Scope { needed: Scope::Approve, .. }))),
        "{scope:?}"
    );
    assert!(play.find(3).is_some() && play.to_codex.try_recv().is_err());

    // Keeping something from happening may take long.
    for said in [Said::Result(&decline), Said::Error(&error)] {
        let asked = play.command(match said {
            Said::Result(_) => 5,
            Said::Error(_) => 6,
        });
        let attempt = Attempt { age: old, said, ..attempt(&asked, &instance, &accept) };
        play.requests.pass(&attempt, &who(1), (Scope::Approve, false), |_| true).unwrap();
    }
}

#[tokio::test]
async fn nothing_passes_that_is_not_in_the_audit_log() {
    let mut play = Play::new();
    let asked = play.command(3);
    let (instance, accept) = (play.instance.to_string(), raw(&decision("accept")));
    let attempt = attempt(&asked, &instance, &accept);
    let refused = play.requests.answer(&attempt, &who(1), (Scope::Approve, false), &play.answers, |_| false).await;
    assert_eq!(refused, Err(AnswerRefusal::Unrecorded));
    assert!(play.to_codex.try_recv().is_err());
    assert!(play.answered(&asked, 2, &decision("accept")).await.0.is_ok(), "it is still open");
}

#[tokio::test]
async fn nothing_passes_that_is_not_written_down() {
    let mut play = Play::new();
    let asked = play.command(3);
    let well = std::mem::replace(&mut play.answers, on_a_full_disk());
    let recorded = Mutex::new(0);
    let (instance, accept) = (play.instance.to_string(), raw(&decision("accept")));
    let attempt = attempt(&asked, &instance, &accept);
    let record = |_: &Audit| {
        *recorded.lock().unwrap() += 1;
        true
    };
    let refused = play.requests.answer(&attempt, &who(1), (Scope::Approve, false), &play.answers, record).await;
    assert_eq!(refused, Err(AnswerRefusal::Unkept));
    assert_eq!(*recorded.lock().unwrap(), 0, "nothing passed, and the audit log says nothing else");
    assert!(play.to_codex.try_recv().is_err());
    play.answers = well;
    assert!(play.answered(&asked, 2, &decision("accept")).await.0.is_ok(), "it is still open");
}

#[tokio::test]
async fn an_answer_that_comes_again_gets_what_became_of_the_first_from_the_next_agent_too() {
    let mut play = Play::new();
    let asked = play.command(3);
    let (first, _) = play.answered(&asked, 1, &decision("accept")).await;
    let first = first.unwrap();
    let next = Play { answers: Arc::new(Answers::open(play.home.path(), now_ms()).unwrap()), ..Play::new() };
    for play in [&play, &next] {
        // Whatever it says this time: Codex gets nothing.
        for said in ["accept", "decline"] {
            assert_eq!(play.answer(&asked, 1, Scope::Approve, &decision(said)).await, Ok(first.clone()), "{said}");
        }
        let other = play.answer(&asked, 2, Scope::Approve, &decision("accept")).await;
        let outcome = Outcome { by: Some(who(1)), choice: Some(Choice::Accept) };
        assert_eq!(other, Err(AnswerRefusal::Answered(outcome.clone())));
        let shown = Asked { digest: "of something else".into(), ..asked.clone() };
        let other = play.answer(&shown, 1, Scope::Approve, &decision("accept")).await;
        assert_eq!(other, Err(AnswerRefusal::Answered(outcome)), "it is no answer to what it showed");
    }
}

#[tokio::test]
async fn of_an_answer_that_codex_may_have_the_next_agent_says_that_it_is_not_known() {
    let mut play = Play::new();
    let asked = play.command(3);
    let (instance, accept) = (play.instance.to_string(), raw(&decision("accept")));
    let attempt = attempt(&asked, &instance, &accept);
    // The agent ends when Codex has it, and has said nothing.
    let phone = who(1);
    let answering = play.requests.answer(&attempt, &phone, (Scope::Approve, false), &play.answers, |_| true);
    tokio::select! {
        answered = answering => panic!("Codex said nothing: {answered:?}"),
        _ = play.to_codex.recv() => {}
    }
    // The board still knows whose it is.
    let again = play.answer(&asked, 1, Scope::Approve, &decision("accept")).await;
    assert_eq!(again, Err(AnswerRefusal::Answered(Outcome { by: Some(who(1)), choice: Some(Choice::Accept) })));
    let next = Play { answers: Arc::new(Answers::open(play.home.path(), now_ms()).unwrap()), ..Play::new() };
    assert_eq!(next.answer(&asked, 1, Scope::Approve, &decision("accept")).await, Err(AnswerRefusal::Lost));
    assert_eq!(next.answer(&asked, 2, Scope::Approve, &decision("accept")).await, Err(AnswerRefusal::Instance));
}

/// A home whose disk takes no answer.
fn on_a_full_disk() -> Arc<Answers> {
    let Play { answers, home, .. } = Play::new();
    answers.is_full();
    drop(home);
    answers
}

#[tokio::test]
async fn a_diff_that_changes_after_it_was_shown_is_another_question() {
    let mut play = Play::new();
    play.changes_to("i", "one");
    let params = json!({ "threadId": "t", "turnId": "u", "itemId": "i", "startedAtMs": 5 });
    assert_eq!(play.asks(3, FILES, &params), None, "it is known");
    let asked = play.find(3).unwrap();
    assert!(asked.shown.contains(&"one".to_owned()));
    play.changes_to("another", "two");
    assert_eq!(play.told(), ["opened 3"]);
    let change = json!({ "path": "/w/a", "kind": { "type": "add" }, "diff": "two" });
    let updated = raw(&json!({ "threadId": "t", "turnId": "u", "itemId": "i", "changes": [change] }));
    play.requests.notified("item/fileChange/patchUpdated", Some(&updated));
    assert_eq!(play.told(), ["opened 3"], "all are shown it anew");
    assert_eq!(play.answer(&asked, 1, Scope::Approve, &decision("accept")).await, Err(AnswerRefusal::Digest));
    let now = play.find(3).unwrap();
    assert!(play.answered(&now, 1, &decision("accept")).await.0.is_ok());
}

#[tokio::test]
async fn what_is_not_shown_whole_is_declined_or_left_to_the_host() {
    let mut play = Play::new();
    let params = json!({ "threadId": "t", "turnId": "u", "itemId": "i", "startedAtMs": 5 });
    assert_eq!(play.asks(3, FILES, &params), Some("t".to_owned()), "it has to be looked up");
    let asked = play.find(3).unwrap();
    assert_eq!(asked.choices, [Choice::Decline, Choice::Cancel]);
    assert_eq!(play.answer(&asked, 1, Scope::Admin, &decision("accept")).await, Err(AnswerRefusal::AtTheHost));
    assert!(play.answered(&asked, 1, &decision("decline")).await.0.is_ok());
    // An install is for the host's terminal alone.
    let install = json!({ "threadId": "t", "questions": [{ "id": "skill_mcp_dependency_install", "question": "?" }] });
    play.asks(4, "item/tool/requestUserInput", &install);
    let asked = play.find(4).unwrap();
    assert_eq!((asked.needed, asked.choices.len()), (None, 0));
    let answers = json!({ "answers": {} });
    assert_eq!(play.answer(&asked, 1, Scope::Admin, &answers).await, Err(AnswerRefusal::AtTheHost));
    // And a client's own tool is that client's.
    play.asks(
        5,
        "item/tool/call",
        &json!({ "threadId": "t", "turnId": "u", "callId": "c", "tool": "x", "arguments": {} }),
    );
    assert!(play.find(5).is_none());
}

#[tokio::test]
async fn the_first_answer_counts_whichever_way_it_comes() {
    let mut play = Play::new();
    let asked = play.command(3);
    let id = &asked.key.id;
    assert!(play.requests.take(play.instance, id, &who(1), Choice::Decline));
    assert!(!play.requests.take(play.instance, id, &who(2), Choice::Accept));
    let late = play.answer(&asked, 2, Scope::Approve, &decision("accept")).await;
    assert!(matches!(late, Err(AnswerRefusal::Answered(Outcome { by: Some(_), .. }))), "{late:?}");
    // It never reached Codex.
    play.requests.give_back(play.instance, id);
    assert!(play.requests.take(play.instance, id, &who(2), Choice::Accept));
    play.requests.handed(play.instance, id);
    play.requests.give_back(play.instance, id);
    assert!(!play.requests.take(play.instance, id, &who(1), Choice::Accept), "Codex has it");
    play.told();
    play.resolve(3);
    assert_eq!(play.told(), ["closed 3 by device 2"]);
    // Of another run nothing is known.
    assert!(play.requests.take(instance(), id, &who(1), Choice::Accept));
    // At the host.
    let asked = play.command(4);
    play.resolve(4);
    assert_eq!(play.told(), ["opened 4", "closed 4 by nobody"]);
    let late = play.answer(&asked, 1, Scope::Approve, &decision("accept")).await;
    assert_eq!(late, Err(AnswerRefusal::Answered(Outcome::default())));
}

#[tokio::test]
async fn an_answer_that_the_connection_lost_is_not_counted_and_one_to_another_run_does_not_pass() {
    let mut play = Play::new();
    let asked = play.command(3);
    let accept = decision("accept");
    let answering = play.answer(&asked, 1, Scope::Approve, &accept);
    let ending = async { play.requests.disconnected() };
    let (lost, ()) = tokio::join!(answering, ending);
    assert_eq!(lost, Err(AnswerRefusal::Lost));
    assert_eq!(play.told(), ["opened 3", "closed 3 by nobody"]);
    // The same run of Codex asks again.
    play.to_codex = play.requests.connected(play.instance);
    let again = play.command(3);
    assert_eq!(again.digest, asked.digest);
    assert!(play.answered(&again, 2, &accept).await.0.is_ok());
    let open = play.command(4);
    // Another run uses the numbers anew.
    play.requests.disconnected();
    play.instance = instance();
    play.to_codex = play.requests.connected(play.instance);
    play.command(3);
    play.command(4);
    assert_eq!(play.answer(&open, 1, Scope::Approve, &accept).await, Err(AnswerRefusal::Instance));
    let late = play.answer(&again, 1, Scope::Approve, &accept).await;
    assert_eq!(late, Err(AnswerRefusal::Answered(Outcome { by: Some(who(2)), choice: Some(Choice::Accept) })));
    assert!(play.to_codex.try_recv().is_err());
}

#[test]
fn a_board_is_bounded_in_number_and_in_bytes() {
    let play = Play::new();
    for id in 0..2 * MAX_OPEN as u64 {
        let command = "x".repeat(1 << 10);
        play.asks(id, COMMAND, &json!({ "threadId": "t", "command": command }));
    }
    assert_eq!(play.requests.list().len(), MAX_OPEN);
    play.requests.forget("t");
    assert!(play.requests.list().is_empty());
    for id in 1000..1100 {
        play.asks(id, COMMAND, &json!({ "threadId": "t", "command": "x".repeat(700 << 10) }));
    }
    assert!(play.requests.lock().bytes() < MAX_BYTES + (1 << 20));
    for n in 0..2 * MAX_ITEMS {
        play.changes_to(&format!("i{n}"), &"x".repeat(100 << 10));
    }
    let board = play.requests.lock();
    assert!(board.changes.len() <= MAX_ITEMS);
    assert!(board.changes.iter().map(|item| item.changes.kept()).sum::<usize>() <= MAX_CHANGES);
    assert_eq!(board.changes.back().unwrap().item, format!("i{}", 2 * MAX_ITEMS - 1), "the newest are kept");
    drop(board);
    for id in 2000..2000 + 2 * MAX_OUTCOMES as u64 {
        play.resolve(id);
    }
    assert_eq!(play.requests.lock().outcomes.len(), MAX_OUTCOMES);
}

#[test]
fn what_a_thread_may_reach_follows_its_settings() {
    let mut play = Play::new();
    play.command(3);
    let settings = json!({ "threadId": "t", "threadSettings": { "sandboxPolicy": { "type": "dangerFullAccess" } } });
    play.requests.notified("thread/settings/updated", Some(&raw(&settings)));
    play.requests.notified("thread/settings/updated", Some(&raw(&settings)));
    assert_eq!(play.told(), ["opened 3", "opened 3"]);
    assert!(play.find(3).unwrap().reach.unwrap().sandbox.starts_with("no sandbox"));
    // One that comes later has it, too.
    assert!(play.command(4).reach.is_some());
}
