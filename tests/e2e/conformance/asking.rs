//! The cases of the table for what Codex asks: every kind of request is shown to a device in its words, and what the
//! device says to it, yes or no, is what the model hears. Nobody with less scope may answer.

use e2e::rpc::Client;
use e2e::stage::{Stage, client};
use reachback_host::codex::Allowance;
use reachback_proto::scope::Scope;
use serde_json::{Value, json};

use super::{Guarded, Place};
use crate::answers::{Party, labelled};

/// A tool of the model with which it asks for more than the sandbox gives.
pub(super) const PERMISSIONS: &str = "[features]\nrequest_permissions_tool = true\nexec_permission_approvals = true\n";
/// Every turn begins with the time, which Codex asks its clients for.
pub(super) const CLOCK: &str = "[features.current_time_reminder]\nenabled = true\nclock_source = \"external\"\n";
/// An MCP server with tools that ask.
pub(super) const ASKER: &str = concat!(
    "[mcp_servers.asker]\ncommand = \"node\"\nargs = [\"",
    env!("CARGO_MANIFEST_DIR"),
    "/e2e/conformance/asker.mjs\"]\n"
);

/// A provider that wants an account, and nothing else that would ask the account's service.
pub(super) const ACCOUNT: &str = "[features]\napps = false\nplugins = false\n\n[model_providers.account]\n\
    name = \"an account's\"\nbase_url = \"http://MODEL/v1\"\nwire_api = \"responses\"\nrequires_openai_auth = true\n\
    request_max_retries = 0\nstream_max_retries = 0\n";

const COMMAND: &str = "item/commandExecution/requestApproval";
const ELICITATION: &str = "mcpServer/elicitation/request";

/// A request, and what is said to it.
struct Shape {
    /// Has the model ask.
    prompt: String,
    /// Members of the turn, besides the prompt.
    turn: Value,
    /// Members of the thread, besides its folder.
    thread: Value,
    method: &'static str,
    needed: Scope,
    /// What may be answered, in a word each.
    answers: &'static [&'static str],
    /// Labels, and what is in the text behind them.
    shown: &'static [[&'static str; 2]],
    /// What is answered, as a member of the answer.
    yes: Value,
    no: Value,
    /// What the model hears then.
    heard: [&'static str; 2],
}

/// Has the model call a tool.
fn call(tool: &str, arguments: Value) -> String {
    format!("@call {tool} {arguments}")
}

fn result(result: Value) -> Value {
    json!({ "result": result })
}

fn error() -> Value {
    json!({ "error": { "code": -32000, "message": "not now" } })
}

fn joined(mut one: Value, other: &Value) -> Value {
    one.as_object_mut().expect("members").extend(other.as_object().expect("members").clone());
    one
}

/// An answer to what was shown.
fn answer(asked: &Value, said: &Value) -> Value {
    let same = ["environment", "instance", "requestId", "threadId", "turnId", "itemId", "digest"];
    let members = same.map(|name| (name.to_owned(), asked[name].clone()));
    joined(joined(Value::Object(members.into_iter().collect()), &json!({ "age": 0 })), said)
}

/// What the model says at the end of the turn: it quotes what it heard.
async fn the_model_heard(far: &mut Client) -> String {
    let done = far.event("turn/completed").await;
    assert_eq!(done["params"]["turn"]["status"], "completed", "{done}");
    let items = far.take("item/completed");
    let texts = items.iter().map(|message| &message["params"]["item"]).filter(|item| item["type"] == "agentMessage");
    texts.filter_map(|item| item["text"].as_str()).collect()
}

impl Shape {
    /// Whether a request on the board is this one.
    fn is_shown(&self, asked: &Value) -> bool {
        asked["method"] == self.method
            && self.shown.iter().all(|[label, text]| labelled(asked, label).iter().any(|shown| shown.contains(text)))
    }

    /// Begins a turn in which it is asked. Gives the request as it came on the channel.
    async fn ask(&self, far: &mut Client, thread: &str) -> Value {
        let input = json!([{ "type": "text", "text": self.prompt }]);
        far.request("turn/start", joined(json!({ "threadId": thread, "input": input }), &self.turn)).await.unwrap();
        let is_it = |message: &Value| message["method"] == self.method || message["method"] == "turn/completed";
        let asked = far.until("the request, or the turn's end", is_it).await;
        assert_eq!(asked["method"], self.method, "it was not asked: {:?}", far.take("item/completed"));
        asked
    }

    /// It is asked, and answered on a channel.
    async fn is_answered_by(&self, far: &mut Client, thread: &str, said: &Value, wanted: &str) {
        let asked = self.ask(far, thread).await;
        far.send(&joined(json!({ "id": asked["id"] }), said)).await;
        let heard = the_model_heard(far).await;
        assert!(heard.contains(wanted), "said {said}, the model heard {heard}");
    }

    /// One is answered by what is shown of it, the next with a no on a channel. Gives the thread.
    async fn is_answered_and_refused(&self, place: &Guarded) -> String {
        let stage = &place.stage;
        let less = if self.needed == Scope::Approve { Scope::Steer } else { Scope::View };
        let (mut onlooker, mut phone) = (Party::new(stage, less).await, Party::new(stage, self.needed).await);
        let mut far = client(&phone.remote).await;
        let thread = self.thread_of(&mut far, stage).await;
        self.ask(&mut far, &thread).await;
        let asked = phone.opened("the request", |asked| self.is_shown(asked)).await;
        assert_eq!((&asked["needed"], &asked["answers"]), (&json!(self.needed), &json!(self.answers)), "{asked}");
        let seen = onlooker.opened("the request, to look at", |asked| self.is_shown(asked)).await;
        assert_eq!(seen["answers"], json!([]), "{seen}");
        assert_eq!(onlooker.refused(answer(&seen, &self.yes)).await["reason"], "scope");
        phone.send(answer(&asked, &self.yes)).await.unwrap();
        let heard = the_model_heard(&mut far).await;
        assert!(heard.contains(self.heard[0]), "said {}, the model heard {heard}", self.yes);
        self.is_answered_by(&mut far, &thread, &self.no, self.heard[1]).await;
        thread
    }

    async fn thread_of(&self, far: &mut Client, stage: &Stage) -> String {
        let params = joined(json!({ "cwd": stage.codex.home.project() }), &self.thread);
        let started = far.request("thread/start", params).await.unwrap();
        started["thread"]["id"].as_str().unwrap().to_owned()
    }
}

pub(super) async fn a_question_is_answered_or_refused(place: Place) {
    let questions = json!([{
        "id": "color", "header": "Color", "question": "Which color?",
        "options": [{ "label": "Red", "description": "warm" }, { "label": "Blue", "description": "cold" }],
    }]);
    let settings = json!({ "model": "reachback-demo", "reasoning_effort": null, "developer_instructions": null });
    let question = Shape {
        prompt: call("request_user_input", json!({ "questions": questions })),
        turn: json!({ "collaborationMode": { "mode": "plan", "settings": settings } }),
        thread: json!({}),
        method: "item/tool/requestUserInput",
        needed: Scope::Steer,
        answers: &["answer"],
        shown: &[["header", "Color"], ["question", "Which color?"], ["option", "Blue"], ["explanation", "cold"]],
        yes: result(json!({ "answers": { "color": { "answers": ["Blue"] } } })),
        no: error(),
        heard: [r#"{"color":{"answers":["Blue"]}}"#, r#"{"answers":{}}"#],
    };
    let place = place.behind_an_agent().await;
    question.is_answered_and_refused(&place).await;
    place.stop().await;
}

pub(super) async fn permissions_are_granted_at_the_host_only(place: Place) {
    let permissions = json!({ "network": { "enabled": true } });
    let wish = Shape {
        prompt: call("request_permissions", json!({ "reason": "to look something up", "permissions": permissions })),
        turn: json!({}),
        thread: json!({}),
        method: "item/permissions/requestApproval",
        needed: Scope::Approve,
        answers: &["decline"],
        shown: &[["claim", "to look something up"], ["permissions", r#""network":{"enabled":true}"#]],
        yes: result(json!({ "permissions": permissions, "scope": "session" })),
        no: error(),
        heard: [r#""network":null"#; 2],
    };
    let place = place.behind_an_agent().await;
    let thread = wish.is_answered_and_refused(&place).await;
    let mut owner = Client::connect(&*place.stage.backend).await;
    owner.resume(&thread).await;
    wish.is_answered_by(&mut owner, &thread, &wish.yes, r#""network":{"enabled":true}"#).await;
    place.stop().await;
}

pub(super) async fn a_command_with_more_permissions_is_approved_or_declined(place: Place) {
    let elsewhere = place.codex.user_home().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let file = elsewhere.join("made");
    let command = Shape {
        prompt: call(
            "exec_command",
            json!({
                "cmd": format!("echo it is >> '{}' && echo over", file.display()), "justification": "to keep it there",
                "sandbox_permissions": "with_additional_permissions",
                "additional_permissions": { "file_system": { "write": [elsewhere] } },
            }),
        ),
        turn: json!({}),
        thread: json!({}),
        method: COMMAND,
        needed: Scope::Approve,
        answers: &["accept", "decline", "cancel"],
        shown: &[
            ["kind", "command"],
            ["claim", "to keep it"],
            ["permissions", "/elsewhere\""],
            ["command", "echo it is"],
        ],
        yes: result(json!({ "decision": "accept" })),
        no: result(json!({ "decision": "decline" })),
        heard: ["over", "rejected by user"],
    };
    let place = place.behind_an_agent().await;
    command.is_answered_and_refused(&place).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "it is\n", "it ran once, and where it was let");
    place.stop().await;
}

/// What an MCP server asks by a tool, without the answers.
fn elicitation(tool: &str, needed: Scope) -> Shape {
    Shape {
        prompt: call(&format!("mcp__asker/{tool}"), json!({})),
        turn: json!({}),
        thread: json!({}),
        method: ELICITATION,
        needed,
        answers: &["accept", "decline", "cancel"],
        shown: &[],
        yes: result(json!({ "action": "accept" })),
        no: result(json!({ "action": "decline" })),
        heard: ["accept", "decline"],
    }
}

pub(super) async fn a_form_of_an_mcp_server_is_filled_in_or_declined(place: Place) {
    let form = Shape {
        answers: &["answer", "decline", "cancel"],
        shown: &[
            ["server", "asker"],
            ["mode", "form"],
            ["message", "Who are you?"],
            ["form", r#""required":["name"]"#],
        ],
        yes: result(json!({ "action": "accept", "content": { "name": "Ada" } })),
        heard: [r#"{"action":"accept","content":{"name":"Ada"}}"#, r#"{"action":"decline"}"#],
        ..elicitation("form", Scope::Steer)
    };
    let place = place.behind_an_agent().await;
    form.is_answered_and_refused(&place).await;
    place.stop().await;
}

pub(super) async fn a_link_of_an_mcp_server_is_accepted_or_declined(place: Place) {
    let link = Shape {
        shown: &[
            ["server", "asker"],
            ["mode", "url"],
            ["message", "Sign in there."],
            ["link", "https://example.com/sign-in"],
        ],
        heard: [r#"{"action":"accept""#, r#"{"action":"decline"}"#],
        ..elicitation("link", Scope::Approve)
    };
    let place = place.behind_an_agent().await;
    link.is_answered_and_refused(&place).await;
    place.stop().await;
}

pub(super) async fn a_call_of_an_mcp_tool_is_consented_to_once_or_declined(place: Place) {
    let consent = Shape {
        shown: &[["server", "asker"], ["message", "\"act\""]],
        // A device's consent is for this call; the next one is asked about again.
        yes: result(json!({ "action": "accept", "_meta": { "persist": "session" } })),
        heard: ["it was done", "user rejected MCP tool call"],
        ..elicitation("act", Scope::Approve)
    };
    let place = place.behind_an_agent().await;
    consent.is_answered_and_refused(&place).await;
    place.stop().await;
}

pub(super) async fn a_tool_of_the_client_is_called_and_answers(place: Place) {
    let tool = json!({
        "type": "function", "name": "look_up", "description": "looks a key up",
        "inputSchema": { "type": "object", "properties": { "key": { "type": "string" } } },
    });
    let called = Shape {
        prompt: call("look_up", json!({ "key": "door" })),
        turn: json!({}),
        thread: json!({ "dynamicTools": [tool] }),
        method: "item/tool/call",
        needed: Scope::Steer,
        answers: &["answer"],
        shown: &[],
        yes: result(json!({ "contentItems": [{ "type": "inputText", "text": "it is open" }], "success": true })),
        no: error(),
        heard: ["it is open", "dynamic tool request failed"],
    };
    let place = place.behind_an_agent().await;
    let (mut other, phone) =
        (Party::new(&place.stage, called.needed).await, Party::new(&place.stage, called.needed).await);
    let mut far = client(&phone.remote).await;
    let thread = called.thread_of(&mut far, &place.stage).await;
    called.is_answered_by(&mut far, &thread, &called.yes, called.heard[0]).await;
    called.is_answered_by(&mut far, &thread, &called.no, called.heard[1]).await;
    assert!(other.told().await.is_empty(), "a tool of one device's is no question to another");
    place.stop().await;
}

/// Answers what is asked up to the turn's end: what that was, and the turn.
async fn answered_to_the_end(client: &mut Client, answer: impl Fn(&str) -> Value) -> (Vec<String>, Value) {
    let mut asked = Vec::new();
    loop {
        let is_it = |message: &Value| {
            message["method"] == "turn/completed" || (message.get("id").is_some() && message.get("method").is_some())
        };
        let message = client.until("a request, or the turn's end", is_it).await;
        let method = message["method"].as_str().unwrap();
        if method == "turn/completed" {
            return (asked, message["params"]["turn"].clone());
        }
        client.send(&joined(json!({ "id": message["id"] }), &result(answer(method)))).await;
        asked.push(method.to_owned());
    }
}

pub(super) async fn the_time_is_asked_of_the_only_client(place: Place) {
    let mut only = place.client().await;
    let thread = only.thread(&place.codex).await;
    only.prompt(&thread, &call("clock/curr_time", json!({}))).await;
    let (asked, done) = answered_to_the_end(&mut only, |method| match method {
        "currentTime/read" => json!({ "currentTimeAt": 1_800_000_000 }),
        other => panic!("it was asked {other}"),
    })
    .await;
    assert_eq!((asked.is_empty(), &done["status"]), (false, &json!("completed")), "{done}");
    let items = only.take("item/completed");
    assert!(json!(items).to_string().contains("It is 2027-01-15 08:00:00 UTC"), "{items:?}");
    drop(only);

    // The agent is a client of every thread, and a device is one more.
    let place = place.behind_an_agent().await;
    let phone = Party::new(&place.stage, Scope::Approve).await;
    let mut far = client(&phone.remote).await;
    let thread = far.thread(&place.stage.codex).await;
    far.prompt(&thread, "@text N=1").await;
    let done = far.event("turn/completed").await;
    let why = done["params"]["turn"]["error"]["message"].as_str().unwrap_or_default();
    assert!(why.contains("expected exactly one client subscribed to the thread"), "{done}");
    assert!(far.take("currentTime/read").is_empty(), "a device was asked for the time");
    place.stop().await;
}

pub(super) async fn a_sign_in_is_asked_of_who_signed_in(place: Place) {
    const ATTESTATION: &str = "attestation/generate";
    const REFRESH: &str = "account/chatgptAuthTokens/refresh";
    // Remote control is signed in already, and goes away with that account.
    let signs_in = place.can();
    place.codex.home.sign_in().unwrap();
    let auth = std::fs::read_to_string(place.codex.home.codex_home().join("auth.json")).unwrap();
    let auth: Value = serde_json::from_str(&auth).unwrap();
    let token = &auth["tokens"]["access_token"];
    let place = place.behind_an_agent().await;
    let stage = &place.stage;
    let connection = stage.backend.connect(Allowance::default()).await.unwrap();
    let mut owner =
        Client::initialized(connection, json!({ "experimentalApi": true, "requestAttestation": true })).await;
    let account = json!({ "accessToken": token, "chatgptAccountId": "reachback-demo", "chatgptPlanType": "pro" });
    let login = joined(json!({ "type": "chatgptAuthTokens" }), &account);
    if signs_in {
        owner.request("account/login/start", login).await.unwrap();
    }
    let start = json!({ "cwd": stage.codex.home.project(), "modelProvider": "account" });
    let started = owner.request("thread/start", start).await.unwrap();
    let thread = started["thread"]["id"].as_str().unwrap();
    let answer = |method: &str| match method {
        ATTESTATION => json!({ "token": "v1.attested" }),
        REFRESH => account.clone(),
        other => panic!("it was asked {other}"),
    };
    owner.prompt(thread, "@text N=1").await;
    let (asked, done) = answered_to_the_end(&mut owner, answer).await;
    assert_eq!((asked, &done["status"]), (vec![ATTESTATION.to_owned()], &json!("completed")), "{done}");

    let phone = Party::new(stage, Scope::Approve).await;
    let mut far = client(&phone.remote).await;
    far.resume(thread).await;
    let (prompt, wanted, status) = match signs_in {
        true => ("@fail 401", vec![REFRESH, ATTESTATION], "failed"),
        false => ("@text N=1", vec![ATTESTATION], "completed"),
    };
    owner.prompt(thread, prompt).await;
    let (mut asked, done) = answered_to_the_end(&mut owner, answer).await;
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked, wanted);
    assert_eq!(done["status"], status, "{done}");
    far.event("turn/completed").await;
    for method in [ATTESTATION, REFRESH] {
        assert!(far.take(method).is_empty(), "a device was asked {method}");
    }
    place.stop().await;
}
