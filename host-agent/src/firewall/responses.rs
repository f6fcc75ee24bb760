//! What Codex asks, and which answers a device may give.
//!
//! An approval is a response: it names no method, only the number of a request
//! that Codex counted from 0. So this module remembers what is open on one
//! channel, and an answer passes only when its number is open here, the scope
//! covers what was asked, and the result fits the type of what was asked. Each
//! request is answered once; `serverRequest/resolved` closes it as well.
//!
//! Some questions are approvals in disguise: Codex asks for consent to a tool
//! call of an MCP server through an elicitation, or (older) a question to the
//! user. Those need what an approval needs.
//!
//! What outlives the item (`acceptForSession`, rule amendments, granted roots
//! and permissions) needs a flag of its own. Without it such answers are not
//! offered, and one that comes anyway is turned into the nearest that does not
//! last, because a device's dialog closes when it has answered: swallowing the
//! answer would leave the turn waiting and nobody knowing why.

use std::collections::HashMap;

use reachback_proto::scope::Scope;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::Reason;
use super::parse::{ParseError, RequestId, transcode};

/// Most requests open on one channel. Codex asks for a thread one at a time; a hundred threads are far below.
const MAX_OPEN: usize = 1024;

/// What becomes of a kind of request from Codex.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Devices with this scope see and answer it (or a wider one, where the request is an approval in disguise).
    Device(Scope),
    /// The agent answers.
    Agent,
    /// Neither: it is for the client on the host that can answer it.
    Withheld,
}

/// One kind of request that Codex sends to its clients.
#[derive(Debug)]
pub struct ServerRequest {
    /// Its name on the wire.
    pub name: &'static str,
    /// Where it goes.
    pub route: Route,
    /// The members that an answer may have.
    pub result: &'static [&'static str],
    /// Why.
    pub why: &'static str,
}

/// Every request that Codex sends, in the schema's order.
pub static SERVER_REQUESTS: &[ServerRequest] = &[
    ServerRequest {
        name: "item/commandExecution/requestApproval",
        route: Route::Device(Scope::Approve),
        result: &["decision"],
        why: "an approval",
    },
    ServerRequest {
        name: "item/fileChange/requestApproval",
        route: Route::Device(Scope::Approve),
        result: &["decision"],
        why: "an approval",
    },
    ServerRequest {
        name: "item/tool/requestUserInput",
        route: Route::Device(Scope::Steer),
        result: &["answers"],
        why: "a question; as good as a prompt",
    },
    ServerRequest {
        name: "mcpServer/elicitation/request",
        route: Route::Device(Scope::Steer),
        result: &["action", "content", "_meta"],
        why: "a form; as good as a prompt",
    },
    ServerRequest {
        name: "item/permissions/requestApproval",
        route: Route::Device(Scope::Approve),
        result: &["permissions", "scope", "strictAutoReview"],
        why: "an approval",
    },
    ServerRequest {
        name: "item/tool/call",
        route: Route::Device(Scope::Steer),
        result: &["contentItems", "success"],
        why: "calls a tool of the client's own; as good as a prompt",
    },
    ServerRequest {
        name: "account/chatgptAuthTokens/refresh",
        route: Route::Withheld,
        result: &["accessToken", "chatgptAccountId", "chatgptPlanType"],
        why: "for the client that signed in; the first answer counts, so even a refusal would spoil it",
    },
    ServerRequest {
        name: "attestation/generate",
        route: Route::Withheld,
        result: &["token"],
        why: "about the client that declared it; the first answer counts, so even a refusal would spoil it",
    },
    ServerRequest {
        name: "currentTime/read",
        route: Route::Agent,
        result: &["currentTimeAt"],
        why: "the host's clock",
    },
    ServerRequest {
        name: "applyPatchApproval",
        route: Route::Device(Scope::Approve),
        result: &["decision"],
        why: "an approval, by its old name",
    },
    ServerRequest {
        name: "execCommandApproval",
        route: Route::Device(Scope::Approve),
        result: &["decision"],
        why: "an approval, by its old name",
    },
];

/// The kind of request of this name.
pub fn server_request(name: &str) -> Option<&'static ServerRequest> {
    SERVER_REQUESTS.iter().find(|request| request.name == name)
}

/// Why an answer does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// Nothing of this number is open on this channel.
    #[error("nothing of this number is open here: it was answered, or never asked")]
    NotOpen,
    /// The device's scope does not cover it.
    #[error("answering this needs scope `{needed}`; this device has `{scope}`")]
    Scope {
        /// The scope it has.
        scope: Scope,
        /// The scope it would need.
        needed: Scope,
    },
    /// Not well formed.
    #[error(transparent)]
    Malformed(#[from] ParseError),
    /// Not a result of the kind asked for, or more than was asked for.
    #[error("the answer does not fit what was asked")]
    Unfit,
}

impl AnswerError {
    /// The same in one word.
    pub(crate) fn reason(self) -> Reason {
        match self {
            Self::NotOpen => Reason::NotOpen,
            Self::Scope { .. } => Reason::Scope,
            Self::Malformed(_) => Reason::Malformed,
            Self::Unfit => Reason::Params,
        }
    }
}

/// What an answer says, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub enum Choice {
    /// Yes, this once.
    Accept,
    /// Yes, and something lasts.
    AcceptForLonger,
    /// No; the turn goes on.
    Decline,
    /// No, and the turn ends.
    Cancel,
    /// What was asked for, in words.
    Answer,
}

impl Choice {
    /// The word on the wire and in the audit log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::AcceptForLonger => "acceptForLonger",
            Self::Decline => "decline",
            Self::Cancel => "cancel",
            Self::Answer => "answer",
        }
    }

    /// Whether it keeps something from happening.
    pub fn declines(self) -> bool {
        matches!(self, Self::Decline | Self::Cancel)
    }
}

/// An answer that passes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PassedAnswer {
    /// What goes to Codex, written anew.
    pub(crate) body: Vec<u8>,
    /// The request that it answers.
    pub(crate) method: &'static str,
    /// The thread that was asked about.
    pub(crate) thread: Option<String>,
    /// What goes to Codex, in one word.
    pub(crate) choice: Choice,
    /// It is less than what the device said; in words, for the person.
    pub(crate) lessened: Option<&'static str>,
}

/// A request as the device gets to see it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Goes to the device as it is.
    AsIs,
    /// Goes to the device without what it may not choose.
    Without(Map<String, Value>),
    /// Needs a wider scope than the device's.
    Above(Scope),
    /// Is for the host's own terminal, whatever the scope; in words, what waits.
    AtTheHost(&'static str),
}

#[derive(Debug)]
struct Open {
    request: &'static ServerRequest,
    needed: Scope,
    thread: Option<String>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Command { human_only: bool, rule: Option<Vec<String>>, network: Vec<NetworkRule> },
    FileChange { grants_root: bool },
    Questions { ids: Vec<String>, approval: bool },
    Elicitation { approval: bool },
    Permissions { asked: Box<Granted> },
    ToolCall,
    Legacy { grants_root: bool },
}

/// The requests open on one channel.
#[derive(Debug, Default)]
pub(crate) struct OpenRequests(HashMap<RequestId, Open>);

const SHORTER: &str = "accepted once: this device may not accept for longer";
const NOT_ROOT: &str = "declined: accepting would open a folder for longer, which this device may not do";
const NOT_GRANTED: &str = "nothing granted: this device may not grant permissions that last";

/// The id of Codex's question whether to install what a skill needs: "Install" writes a command that it then runs, outside its
/// sandbox, into the owner's configuration.
const INSTALL_QUESTION: &str = "skill_mcp_dependency_install";
const INSTALL: &str = "a skill wants MCP servers installed into this host's Codex configuration. That is answered in a \
    terminal on the host; interrupt the turn to go on without";

impl OpenRequests {
    /// Remembers a request of Codex; `None` when its parameters are not what this version understands, or too much is open.
    pub(crate) fn open(
        &mut self,
        id: RequestId,
        request: &'static ServerRequest,
        params: Map<String, Value>,
        scope: Scope,
        lasting_grants: bool,
    ) -> Option<Asked> {
        let Route::Device(least) = request.route else { return None };
        if self.0.len() >= MAX_OPEN && !self.0.contains_key(&id) {
            return None;
        }
        if installs(&params) {
            return Some(Asked::AtTheHost(INSTALL));
        }
        let kind = Kind::of(request.name, &params)?;
        let needed = if kind.is_approval() { Scope::Approve.max(least) } else { least };
        let thread = params.get("threadId").or(params.get("conversationId")).and_then(Value::as_str).map(str::to_owned);
        self.0.insert(id, Open { request, needed, thread, kind });
        if scope < needed {
            return Some(Asked::Above(needed));
        }
        Some(if lasting_grants { Asked::AsIs } else { without_lasting(params) })
    }

    /// Codex says that a request needs no answer any more.
    pub(crate) fn close(&mut self, id: &RequestId) {
        self.0.remove(id);
    }

    /// How many requests are open.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The request of this number: what it is, and the thread that it is about.
    pub(super) fn about(&self, id: &RequestId) -> Option<(&'static str, Option<String>)> {
        self.0.get(id).map(|open| (open.request.name, open.thread.clone()))
    }

    /// The scope that an answer to it needs.
    pub(crate) fn needed(&self, id: &RequestId) -> Option<Scope> {
        self.0.get(id).map(|open| open.needed)
    }

    /// What may be answered to it.
    pub(crate) fn choices(&self, id: &RequestId, lasting: bool) -> &'static [Choice] {
        self.0.get(id).map_or(&[], |open| open.kind.choices(lasting))
    }

    /// Checks a device's result. One that passes closes the request; one that does not leaves it open.
    pub(super) fn result(
        &mut self,
        id: &RequestId,
        raw: &RawValue,
        scope: Scope,
        lasting: bool,
    ) -> Result<PassedAnswer, AnswerError> {
        let answer = self.check_result(id, raw, scope, lasting)?;
        self.close(id);
        Ok(answer)
    }

    /// Checks a device's result, and leaves the request open.
    pub(crate) fn check_result(
        &self,
        id: &RequestId,
        raw: &RawValue,
        scope: Scope,
        lasting: bool,
    ) -> Result<PassedAnswer, AnswerError> {
        let open = self.permitted(id, scope)?;
        let mut bytes = Vec::new();
        transcode(raw, &mut bytes)?;
        let (value, lessened) = open.kind.fit(&bytes, lasting).ok_or(AnswerError::Unfit)?;
        let choice = open.kind.choice(&value);
        let mut body = Vec::new();
        body.extend_from_slice(br#"{"id":"#);
        write(&mut body, id)?;
        body.extend_from_slice(br#","result":"#);
        write(&mut body, &value)?;
        body.push(b'}');
        Ok(open.answer(body, choice, lessened))
    }

    /// Checks a device's error: it also ends the request, so it needs the same.
    pub(super) fn error(&mut self, id: &RequestId, raw: &RawValue, scope: Scope) -> Result<PassedAnswer, AnswerError> {
        let answer = self.check_error(id, raw, scope)?;
        self.close(id);
        Ok(answer)
    }

    /// Checks a device's error, and leaves the request open. Codex takes every error for a no.
    pub(crate) fn check_error(
        &self,
        id: &RequestId,
        raw: &RawValue,
        scope: Scope,
    ) -> Result<PassedAnswer, AnswerError> {
        #[derive(Deserialize, Serialize)]
        #[serde(deny_unknown_fields)]
        struct Said<'a> {
            code: i64,
            message: String,
            #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
            data: Option<&'a RawValue>,
        }
        let open = self.permitted(id, scope)?;
        let mut bytes = Vec::new();
        transcode(raw, &mut bytes)?;
        let said: Said<'_> = serde_json::from_slice(&bytes).map_err(|_| AnswerError::Unfit)?;
        let mut body = Vec::new();
        body.extend_from_slice(br#"{"id":"#);
        write(&mut body, id)?;
        body.extend_from_slice(br#","error":"#);
        write(&mut body, &said)?;
        body.push(b'}');
        Ok(open.answer(body, Choice::Decline, None))
    }

    fn permitted(&self, id: &RequestId, scope: Scope) -> Result<&Open, AnswerError> {
        let open = self.0.get(id).ok_or(AnswerError::NotOpen)?;
        // Asked now, not when the request came: the scope may have changed since.
        if scope < open.needed {
            return Err(AnswerError::Scope { scope, needed: open.needed });
        }
        Ok(open)
    }
}

impl Open {
    fn answer(&self, body: Vec<u8>, choice: Choice, lessened: Option<&'static str>) -> PassedAnswer {
        PassedAnswer { body, method: self.request.name, thread: self.thread.clone(), choice, lessened }
    }
}

fn write<T: Serialize>(out: &mut Vec<u8>, value: &T) -> Result<(), AnswerError> {
    serde_json::to_writer(out, value).map_err(|_| AnswerError::Unfit)
}

fn installs(params: &Map<String, Value>) -> bool {
    let questions = params.get("questions").and_then(Value::as_array);
    questions.into_iter().flatten().any(|question| question.get("id").is_some_and(|id| id == INSTALL_QUESTION))
}

/// Takes out of a request what a device without lasting grants could only choose in vain.
fn without_lasting(mut params: Map<String, Value>) -> Asked {
    let mut changed = false;
    for proposal in ["proposedExecpolicyAmendment", "proposedNetworkPolicyAmendments"] {
        changed |= params.get(proposal).is_some_and(|value| !value.is_null());
        params.remove(proposal);
    }
    if let Some(Value::Array(decisions)) = params.get_mut("availableDecisions") {
        let before = decisions.len();
        decisions.retain(|decision| matches!(decision.as_str(), Some("accept" | "decline" | "cancel")));
        changed |= decisions.len() != before;
    }
    // Which lasting answers an MCP server's consent offers.
    if let Some(Value::Object(meta)) = params.get_mut("_meta") {
        changed |= meta.remove("persist").is_some();
    }
    if changed { Asked::Without(params) } else { Asked::AsIs }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct NetworkRule {
    action: NetworkAction,
    host: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum NetworkAction {
    Allow,
    Deny,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Decided<D> {
    decision: D,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum CommandDecision {
    Accept,
    AcceptForSession,
    AcceptWithExecpolicyAmendment { execpolicy_amendment: Vec<String> },
    ApplyNetworkPolicyAmendment { network_policy_amendment: NetworkRule },
    Decline,
    Cancel,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
enum FileDecision {
    Accept,
    AcceptForSession,
    Decline,
    Cancel,
}

/// The old names' decisions; the lasting ones in parts are not among them.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum LegacyDecision {
    Approved,
    ApprovedForSession,
    Denied { rejection: String },
    TimedOut,
    Abort,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Answers {
    answers: HashMap<String, AnswerTexts>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct AnswerTexts {
    answers: Vec<String>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Elicited {
    action: Action,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    content: Value,
    #[serde(default, rename = "_meta", skip_serializing_if = "Value::is_null")]
    meta: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Accept,
    Decline,
    Cancel,
}

/// Permissions, as asked for and as granted.
#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Granted {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file_system: Option<FileAccess>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network: Option<NetworkAccess>,
}

#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileAccess {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    entries: Option<Vec<Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    glob_scan_max_depth: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    read: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    write: Option<Vec<String>>,
}

#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct NetworkAccess {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
}

impl Granted {
    /// Whether all of this was asked for.
    fn within(&self, asked: &Self) -> bool {
        fn subset<T: PartialEq>(part: &Option<Vec<T>>, whole: &Option<Vec<T>>) -> bool {
            let whole = whole.as_deref().unwrap_or_default();
            part.iter().flatten().all(|entry| whole.contains(entry))
        }
        let network = |granted: &Self| granted.network.as_ref().and_then(|n| n.enabled) == Some(true);
        let nothing = FileAccess::default();
        let (mine, theirs) =
            (self.file_system.as_ref().unwrap_or(&nothing), asked.file_system.as_ref().unwrap_or(&nothing));
        (!network(self) || network(asked))
            && subset(&mine.entries, &theirs.entries)
            && subset(&mine.read, &theirs.read)
            && subset(&mine.write, &theirs.write)
            && (mine.glob_scan_max_depth.is_none() || mine.glob_scan_max_depth == theirs.glob_scan_max_depth)
            // Leaving out what denies would grant more than was asked for.
            && (mine.entries.is_none() || theirs.entries.iter().flatten().filter(|e| e["access"] == "deny").all(|e| mine.entries.iter().flatten().any(|m| m == e)))
    }
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GrantAnswer {
    permissions: Granted,
    #[serde(default)]
    scope: GrantScope,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    strict_auto_review: Option<bool>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum GrantScope {
    #[default]
    Turn,
    Session,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ToolOutput {
    content_items: Vec<ToolContent>,
    success: bool,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "type", rename_all_fields = "camelCase", deny_unknown_fields)]
enum ToolContent {
    #[serde(rename = "inputText")]
    Text { text: String },
    #[serde(rename = "inputImage")]
    Image { image_url: String },
    #[serde(rename = "inputAudio")]
    Audio { audio_url: String },
}

impl Kind {
    fn of(name: &str, params: &Map<String, Value>) -> Option<Self> {
        let given = |key: &str| params.get(key).filter(|value| !value.is_null());
        let typed = |key: &str| given(key).cloned();
        Some(match name {
            "item/commandExecution/requestApproval" => Self::Command {
                human_only: given("kind").is_some_and(|kind| kind == "humanCommand"),
                rule: typed("proposedExecpolicyAmendment").map(serde_json::from_value).transpose().ok()?,
                network: typed("proposedNetworkPolicyAmendments")
                    .map_or(Ok(Vec::new()), serde_json::from_value)
                    .ok()?,
            },
            "item/fileChange/requestApproval" => Self::FileChange { grants_root: given("grantRoot").is_some() },
            "item/tool/requestUserInput" => {
                let questions = given("questions")?.as_array()?;
                let ids: Vec<String> =
                    questions.iter().map(|q| q["id"].as_str().map(str::to_owned)).collect::<Option<_>>()?;
                let approval = ids.iter().any(|id| id.starts_with("mcp_tool_call_approval"));
                Self::Questions { ids, approval }
            }
            "mcpServer/elicitation/request" => {
                let form = given("mode").is_some_and(|mode| mode == "form");
                let fields = given("requestedSchema").and_then(|schema| schema["properties"].as_object());
                let marked = given("_meta").is_some_and(|meta| {
                    meta.as_object()
                        .is_none_or(|meta| meta.keys().any(|key| key.starts_with("codex") || key == "persist"))
                });
                // Only a plain form with something to fill in is a question; whatever else is accepted is consent.
                Self::Elicitation { approval: !form || marked || fields.is_none_or(Map::is_empty) }
            }
            "item/permissions/requestApproval" => {
                Self::Permissions { asked: Box::new(serde_json::from_value(typed("permissions")?).ok()?) }
            }
            "item/tool/call" => Self::ToolCall,
            "applyPatchApproval" | "execCommandApproval" => Self::Legacy { grants_root: given("grantRoot").is_some() },
            _ => return None,
        })
    }

    fn is_approval(&self) -> bool {
        match self {
            Self::Command { .. } | Self::FileChange { .. } | Self::Permissions { .. } | Self::Legacy { .. } => true,
            Self::Questions { approval, .. } | Self::Elicitation { approval } => *approval,
            Self::ToolCall => false,
        }
    }

    /// What may be answered, where nothing that lasts may be or everything.
    fn choices(&self, lasting: bool) -> &'static [Choice] {
        use Choice as C;
        match self {
            Self::FileChange { grants_root: true } | Self::Legacy { grants_root: true } if !lasting => {
                &[C::Decline, C::Cancel]
            }
            Self::Command { human_only: true, .. } => &[C::Accept, C::Decline, C::Cancel],
            Self::Command { .. } | Self::FileChange { .. } | Self::Legacy { .. } if lasting => {
                &[C::Accept, C::AcceptForLonger, C::Decline, C::Cancel]
            }
            Self::Command { .. } | Self::FileChange { .. } | Self::Legacy { .. } => &[C::Accept, C::Decline, C::Cancel],
            Self::Questions { approval: true, .. } => &[C::Accept, C::Decline],
            Self::Questions { .. } | Self::ToolCall => &[C::Answer],
            Self::Elicitation { approval: true } => &[C::Accept, C::Decline, C::Cancel],
            Self::Elicitation { .. } => &[C::Answer, C::Decline, C::Cancel],
            Self::Permissions { .. } if lasting => &[C::AcceptForLonger, C::Decline],
            Self::Permissions { .. } => &[C::Decline],
        }
    }

    /// What a result that fits says.
    fn choice(&self, result: &Value) -> Choice {
        let word = |member: &str| result[member].as_str().unwrap_or_default();
        match self {
            Self::Command { .. } | Self::FileChange { .. } | Self::Legacy { .. } => match word("decision") {
                "accept" | "approved" => Choice::Accept,
                "decline" | "timed_out" => Choice::Decline,
                "cancel" | "abort" => Choice::Cancel,
                _ if result["decision"].get("denied").is_some() => Choice::Decline,
                _ => Choice::AcceptForLonger,
            },
            Self::Questions { approval, .. } => {
                let answers = result["answers"].as_object().into_iter().flat_map(Map::values);
                let mut texts =
                    answers.flat_map(|answer| answer["answers"].as_array().into_iter().flatten()).peekable();
                match approval {
                    false => Choice::Answer,
                    true if texts.peek().is_some() && texts.all(|text| text == "Deny" || text == "Cancel") => {
                        Choice::Decline
                    }
                    true => Choice::Accept,
                }
            }
            Self::Elicitation { approval } => match word("action") {
                "decline" => Choice::Decline,
                "cancel" => Choice::Cancel,
                _ if *approval => Choice::Accept,
                _ => Choice::Answer,
            },
            Self::Permissions { .. } => match result["permissions"].as_object().is_none_or(Map::is_empty) {
                true => Choice::Decline,
                false => Choice::AcceptForLonger,
            },
            Self::ToolCall => Choice::Answer,
        }
    }

    /// The result to pass on, and what was taken from it; `None` when it does not fit.
    fn fit(&self, bytes: &[u8], lasting: bool) -> Option<(Value, Option<&'static str>)> {
        fn typed<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
            serde_json::from_slice(bytes).ok()
        }
        fn value<T: Serialize>(value: T) -> Option<Value> {
            serde_json::to_value(value).ok()
        }
        let (result, lessened) = match self {
            Self::Command { human_only, rule, network } => {
                let Decided { decision } = typed(bytes)?;
                let (decision, lessened) = command(decision, *human_only, rule.as_deref(), network, lasting)?;
                (value(Decided { decision })?, lessened)
            }
            Self::FileChange { grants_root } => {
                let Decided { decision } = typed(bytes)?;
                let (decision, lessened) = match decision {
                    FileDecision::Accept | FileDecision::AcceptForSession if *grants_root && !lasting => {
                        (FileDecision::Decline, Some(NOT_ROOT))
                    }
                    FileDecision::AcceptForSession if !lasting => (FileDecision::Accept, Some(SHORTER)),
                    decision => (decision, None),
                };
                (value(Decided { decision })?, lessened)
            }
            Self::Legacy { grants_root } => {
                let Decided { decision } = typed(bytes)?;
                let (decision, lessened) = match decision {
                    LegacyDecision::Approved | LegacyDecision::ApprovedForSession if *grants_root && !lasting => {
                        (LegacyDecision::Denied { rejection: NOT_ROOT.to_owned() }, Some(NOT_ROOT))
                    }
                    LegacyDecision::ApprovedForSession if !lasting => (LegacyDecision::Approved, Some(SHORTER)),
                    decision => (decision, None),
                };
                (value(Decided { decision })?, lessened)
            }
            Self::Questions { ids, approval } => {
                let mut said: Answers = typed(bytes)?;
                if said.answers.keys().any(|id| !ids.contains(id)) {
                    return None;
                }
                let lessened = if *approval && !lasting { shorten(&mut said)? } else { None };
                (value(said)?, lessened)
            }
            Self::Elicitation { approval } => {
                let mut said: Elicited = typed(bytes)?;
                let asks = said.meta.get("persist").is_some();
                if *approval && !lasting {
                    said.meta = Value::Null;
                }
                (value(said)?, (asks && *approval && !lasting).then_some(SHORTER))
            }
            Self::Permissions { asked } => {
                let said: GrantAnswer = typed(bytes)?;
                if !said.permissions.within(asked) {
                    return None;
                }
                if lasting || said.permissions == Granted::default() {
                    (value(said)?, None)
                } else {
                    (json!({ "permissions": {}, "scope": "turn" }), Some(NOT_GRANTED))
                }
            }
            Self::ToolCall => (value(typed::<ToolOutput>(bytes)?)?, None),
        };
        Some((result, lessened))
    }
}

fn command(
    decision: CommandDecision,
    human_only: bool,
    rule: Option<&[String]>,
    network: &[NetworkRule],
    lasting: bool,
) -> Option<(CommandDecision, Option<&'static str>)> {
    use CommandDecision as D;
    let lasts = !matches!(decision, D::Accept | D::Decline | D::Cancel);
    // A checkpoint that wants a person's fresh decision takes no lasting one, whatever the flag.
    if human_only && lasts {
        return None;
    }
    match decision {
        D::AcceptWithExecpolicyAmendment { ref execpolicy_amendment } if rule != Some(execpolicy_amendment) => None,
        D::ApplyNetworkPolicyAmendment { ref network_policy_amendment }
            if !network.contains(network_policy_amendment) =>
        {
            None
        }
        D::ApplyNetworkPolicyAmendment { network_policy_amendment } if !lasting => {
            Some(match network_policy_amendment.action {
                NetworkAction::Allow => (D::Accept, Some(SHORTER)),
                NetworkAction::Deny => (D::Decline, Some("declined once: this device may not set rules that last")),
            })
        }
        _ if lasts && !lasting => Some((D::Accept, Some(SHORTER))),
        decision => Some((decision, None)),
    }
}

/// Turns lasting consent to a tool call into consent to this one; `None` for words that this version does not know.
fn shorten(said: &mut Answers) -> Option<Option<&'static str>> {
    let mut lessened = None;
    for answer in said.answers.values_mut().flat_map(|texts| &mut texts.answers) {
        match answer.as_str() {
            "Allow" | "Approve Once" | "Deny" | "Cancel" => {}
            "Allow for this session" | "Allow and don't ask me again" => {
                *answer = "Allow".to_owned();
                lessened = Some(SHORTER);
            }
            "Approve this Session" => {
                *answer = "Approve Once".to_owned();
                lessened = Some(SHORTER);
            }
            _ => return None,
        }
    }
    Some(lessened)
}
