//! The firewall between a device and the Codex app-server: what a device may do.
//!
//! Any client of the app-server is a shell on the host; an approval is a
//! response without a method; parameters run programs. So nothing that a
//! device sends reaches Codex unread, and nothing passes that the table does
//! not name. One [`Firewall`] stands in one channel, that is, one app-server
//! connection of one device; it holds no socket, file or clock.
//!
//! ```text
//!   device ──▶ parse ──▶ table + params ─────────────▶ Codex     requests
//!                  └───▶ responses: open here? scope? fits? ──▶ Codex     answers
//!   device ◀────── answers, media ◀─ notifications, responses ── Codex
//!                  ┌──── responses: remembered, lasting choices taken out
//!   device ◀───────┴────── requests (approvals, questions) ──── Codex
//! ```
//!
//! - [`parse`] reads strictly and writes anew what it read.
//! - [`table`] says for every method and parameter who may and why; `params`
//!   applies it below the owner's [`ceiling`].
//! - [`responses`] knows what is open and which answers fit.
//! - `threads` writes the folder, its trust and the permission profile into what opens a thread, and knows which profile holds.
//!   For a thread that was recorded earlier it has to ask Codex first: [`FromDevice::Ask`].
//! - `media` and `answers` take out of what Codex says what is not for devices: file bytes, quotations of files, tokens.
//!
//! A refused request is answered in words that a terminal shows to a person,
//! with code [`REFUSED`]. An answer can't be answered, so a refused one becomes
//! a `warning` notification, which every client shows. `stock` knows the few
//! refusals that the stock terminal UI needs to be told in another way, and
//! `unread` whom to tell about a message that can't be parsed. `took` says which
//! prompts Codex took into a turn, for whoever has to know whose a turn is. `withheld`
//! has the texts that `answers` took out, for the host's owner.

pub mod ceiling;
pub(crate) mod folders;
pub(crate) mod kept;
pub(crate) mod parse;
pub mod responses;
pub mod table;

mod answers;
mod media;
mod params;
pub(crate) mod providers;
mod stock;
#[cfg(test)]
mod tests;
pub(crate) mod threads;
mod took;
pub(crate) mod unread;
pub(crate) mod withheld;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use reachback_proto::scope::Scope;
use reachback_proto::words::{self, quote};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use answers::Awaited;
use ceiling::Ceiling;
use folders::{Folders, Place};
use kept::Kept;
use params::{Filter, ParamsError};
use parse::{Message, ParseError, RequestId};
use providers::Providers;
use responses::{AnswerError, Asked, Choice, OpenRequests, PassedAnswer, Route, server_request};
use stock::Manner;
use table::{Access, Method, ThreadUse};
use threads::{Opening, Threads};
use took::Asking;
pub use took::Took;
use unread::Unread;
use withheld::{Texts, Withheld};

use crate::codex::permissions::Profiles;

/// The JSON-RPC error code of a refusal.
pub const REFUSED: i32 = -32010;

/// How the ids of the agent's own requests to Codex begin; a device's may not.
const OWN_ID: &str = "reachback:";

/// Requests of a connection whose answers are looked at and not there yet; a terminal has some ten at its start.
const MAX_AWAITED: usize = 256;

/// What one device may do at one app-server.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The device's scope.
    pub scope: Scope,
    /// Whether it may give answers that outlive the item: for the session, rules, roots, permissions. Default policy: no.
    pub lasting_grants: bool,
    /// The most that any device may choose at this host.
    pub ceiling: Arc<Ceiling>,
    /// Which folders devices may work in there.
    pub folders: Arc<dyn Folders>,
    /// What threads of devices may read and write.
    pub profiles: Arc<Profiles>,
    /// Which threads stay loaded.
    pub kept: Arc<Kept>,
    /// Where prompts may go.
    pub providers: Arc<Providers>,
    /// Whether the agent started the app-server, with what keeps folders from running things.
    pub is_own_codex: bool,
}

/// Why something did not pass, as `data.reason` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The device's scope does not cover it.
    Scope,
    /// No device may call this method at this host.
    Method,
    /// A parameter is not for devices to choose, or not of its type.
    Params,
    /// Not one well-formed message, or out of order.
    Malformed,
    /// An answer to nothing that is open on this channel.
    NotOpen,
    /// An answer to something else than what is asked.
    Digest,
    /// An answer that was held for too long.
    Age,
}

impl Reason {
    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scope => "scope",
            Self::Method => "method",
            Self::Params => "params",
            Self::Malformed => "malformed",
            Self::NotOpen => "not_open",
            Self::Digest => "digest",
            Self::Age => "age",
        }
    }
}

/// What was decided about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It passed.
    Passed,
    /// It passed without these parameters; the second number counts those that the table does not know.
    Trimmed {
        /// Parameters of the table that were not passed on.
        dropped: Vec<&'static str>,
        /// How many parameters were not in the table.
        unknown: usize,
    },
    /// It passed as less than what the device said.
    Lessened,
    /// It was refused.
    Refused(Reason),
    /// It was kept from the device.
    Withheld,
    /// The agent answers it itself.
    Answered,
}

impl Decision {
    /// A stable word for the audit log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Trimmed { .. } => "trimmed",
            Self::Lessened => "lessened",
            Self::Refused(_) => "refused",
            Self::Withheld => "withheld",
            Self::Answered => "answered",
        }
    }
}

/// What a line of the audit log says about a message. Holds no text of a device's but ids that Codex made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// The method, or that of the request that was answered; `None` for what the table does not know.
    pub method: Option<&'static str>,
    /// The thread that it is about.
    pub thread: Option<String>,
    /// What was decided.
    pub decision: Decision,
    /// Whether it would change something: worth a line even when it passed.
    pub changing: bool,
    /// Whether the model was let act in a thread that is not under the agent's own permission profile.
    pub unguarded: bool,
    /// What was answered, where it is an answer that passes.
    pub answer: Option<Choice>,
    /// The folder that a request named, or that a thread is opened in, where it passes.
    pub folder: Option<String>,
}

/// What is to be done with a message from a device.
#[derive(Debug)]
pub enum FromDevice {
    /// This.
    Verdict(DeviceVerdict),
    /// It depends on something that Codex knows: ask, and go on with [`Firewall::answered`]. Messages after it wait.
    Ask(Box<Question>),
}

/// What the agent asks Codex before it lets a device's request through.
#[derive(Debug)]
pub struct Question {
    /// The agent's own request, for Codex.
    pub to_codex: Bytes,
    number: u64,
    request: Request,
    thread: String,
}

/// A device's request whose parameters are in order.
#[derive(Debug)]
struct Request {
    id: RequestId,
    /// The number that it goes to Codex under in place of its id, where the answer is looked at: a device could use an id twice,
    /// and have the wrong answer looked at.
    own: Option<u64>,
    method: &'static Method,
    /// The folder that the answer is about, as the device wrote it.
    folder: Option<String>,
    /// The prompt in it that may get into a turn.
    asking: Option<Asking>,
    seen: params::Seen,
    /// The message as it goes on, without its last brace.
    body: Vec<u8>,
}

impl Question {
    /// Whether a message of Codex, which was for the agent, answers this. One that came too late answers an earlier one.
    pub fn is_answered_by(&self, message: &[u8]) -> bool {
        let id = json!(own_id(self.number)).to_string();
        serde_json::from_slice::<Look<'_>>(message).is_ok_and(|look| look.id.is_some_and(|found| found.get() == id))
    }
}

/// What to do about a message from a device.
#[derive(Debug, PartialEq, Eq)]
pub struct DeviceVerdict {
    /// Goes to Codex.
    pub to_codex: Option<Bytes>,
    /// Goes back to the device, in this order: a refusal, a warning, or both.
    pub to_device: Vec<Bytes>,
    /// For the audit log, written before `to_codex` goes.
    pub audit: Audit,
    /// The request of Codex that `to_codex` answers.
    pub answers: Option<RequestId>,
    /// Whether it is no JSON-RPC message at all: who sends that is not worth listening to.
    pub is_garbage: bool,
}

impl DeviceVerdict {
    /// What becomes of an answer when another was faster: nobody is told but by Codex, like whoever comes too late.
    pub fn too_late(self) -> Self {
        let audit = Audit { decision: Decision::Refused(Reason::NotOpen), answer: None, ..self.audit };
        Self { to_codex: None, to_device: Vec::new(), audit, answers: None, is_garbage: false }
    }
}

/// What to do about a message from Codex.
#[derive(Debug, PartialEq, Eq)]
pub enum CodexVerdict {
    /// Goes to the device.
    Forward(Bytes),
    /// A request that the device may answer.
    Request(Bytes, RequestId),
    /// Goes to the device in place of a request that it may not answer: a warning that names what waits.
    Instead(Bytes, Audit),
    /// The agent answers Codex itself, with [`AgentAnswer::message`].
    AnswerInAgent(AgentAnswer, Audit),
    /// Goes nowhere.
    Drop(Audit),
    /// The answer to the agent's own [`Question`].
    Own(Bytes),
}

/// An answer that the agent owes Codex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentAnswer {
    id: RequestId,
}

impl AgentAnswer {
    /// The message for Codex, which asked for the time: `now` in whole seconds since 1970.
    pub fn message(&self, now: u64) -> Bytes {
        json!({ "id": self.id, "result": { "currentTimeAt": now } }).to_string().into()
    }
}

/// Stands between one device and one app-server connection.
#[derive(Debug)]
pub struct Firewall {
    policy: Policy,
    greeted: bool,
    stock: bool,
    open: OpenRequests,
    threads: Threads,
    awaited: HashMap<u64, Awaited>,
    /// The last number of the agent's own.
    numbers: u64,
    /// The thread that the last message of Codex joined this connection to.
    joined: Option<String>,
    /// The prompt that the last message of Codex says it took.
    took: Option<Took>,
    /// What the device was not told of the last message of Codex of which it was not told something.
    withheld: Option<Withheld>,
    /// Notifications that this connection does not want.
    unwanted: Vec<String>,
}

impl Firewall {
    /// For a new app-server connection.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            greeted: false,
            stock: false,
            open: OpenRequests::default(),
            threads: Threads::default(),
            awaited: HashMap::new(),
            numbers: 0,
            joined: None,
            took: None,
            withheld: None,
            unwanted: Vec::new(),
        }
    }

    /// The policy in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Changes the policy from the next message on; what is open stays open and is judged anew when it is answered.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// Changes the scope from the next message on.
    pub fn set_scope(&mut self, scope: Scope) {
        self.policy.scope = scope;
    }

    /// Whether this connection opened the thread, and it is still open.
    pub fn has_open(&self, thread: &str) -> bool {
        self.threads.get(thread).is_some()
    }

    /// The thread that the message which [`Self::from_codex`] just judged joined this connection to. Told once.
    pub fn joined(&mut self) -> Option<String> {
        self.joined.take()
    }

    /// The device's prompt that Codex took, as the message says which [`Self::from_codex`] just judged. Told once.
    pub fn took(&mut self) -> Option<Took> {
        self.took.take()
    }

    /// What the device is not told of the message that [`Self::from_codex`] just judged, for the owner. Told once.
    pub(crate) fn withheld(&mut self) -> Option<Withheld> {
        self.withheld.take()
    }

    /// The notifications that this connection does not want, by name.
    pub fn unwanted(&self) -> &[String] {
        &self.unwanted
    }

    /// Judges one message of the device.
    pub fn from_device(&mut self, bytes: &[u8]) -> FromDevice {
        FromDevice::Verdict(match parse::parse(bytes) {
            Ok(Message::Request { id, method, params }) => return self.request(id, &method, params),
            Ok(Message::Notification { method, params }) => self.notification(&method, params),
            Ok(Message::Response { id, result }) => {
                let Policy { scope, lasting_grants, .. } = self.policy;
                let about = self.open.about(&id);
                let answer = self.open.result(&id, result, scope, lasting_grants);
                self.answer(id, about, answer)
            }
            Ok(Message::Error { id, error }) => {
                let about = self.open.about(&id);
                let answer = self.open.error(&id, error, self.policy.scope);
                self.answer(id, about, answer)
            }
            Err(error) => self.unread(bytes, error),
        })
    }

    /// Refuses what can't be parsed, and answers whoever asked.
    fn unread(&self, bytes: &[u8], error: ParseError) -> DeviceVerdict {
        let words = error.to_string();
        let mut verdicts = unread::requests(bytes).into_iter().map(|Unread { id, method, fault }| {
            let message = format!("this host can't read the request: {}", fault.as_ref().unwrap_or(&words));
            let refusal = Refusal { reason: Reason::Malformed, message, needed: None };
            let known = method.as_deref().and_then(table::method);
            self.refusal(&id, method.as_deref().unwrap_or_default(), known, None, refusal)
        });
        let silent = || refused(None, None, Reason::Malformed, true, Vec::new());
        let Some(mut first) = verdicts.next() else {
            return DeviceVerdict { is_garbage: !unread::is_message(bytes), ..silent() };
        };
        let rest: Vec<Bytes> = verdicts.flat_map(|verdict| verdict.to_device).collect();
        if !rest.is_empty() {
            // A batch is one line in the audit log, about no method.
            first.to_device.extend(rest);
            return DeviceVerdict { to_device: first.to_device, ..silent() };
        }
        first
    }

    fn request(&mut self, id: RequestId, name: &str, raw: Option<&RawValue>) -> FromDevice {
        let Some(method) = table::method(name) else {
            let message = format!("this host does not open {} to devices", quote(name));
            let refusal = Refusal { reason: Reason::Method, message, needed: None };
            return FromDevice::Verdict(self.refusal(&id, name, None, None, refusal));
        };
        let asking = raw.and_then(|raw| Asking::read(method.name, raw));
        let is_looked_at = asking.is_some() || method.answer != table::AnswerContent::Plain;
        let own = is_looked_at.then(|| self.next_number());
        let mut filter = Filter { policy: &self.policy, threads: &self.threads, seen: params::Seen::default() };
        let mut body = Vec::with_capacity(raw.map_or(0, |raw| raw.get().len()) + name.len() + 512);
        let checked = self.admitted(method).and_then(|()| {
            if name == "initialized" {
                return Err(Refusal::malformed("`initialized` is a notification"));
            }
            if id.as_text().is_some_and(|id| id.starts_with(OWN_ID)) {
                return Err(Refusal::malformed("ids that begin with `reachback:` are the agent's own"));
            }
            head(&mut body, own.map(|number| RequestId::Text(own_id(number))).as_ref().unwrap_or(&id), method.name)?;
            match raw {
                Some(raw) if method.thread == ThreadUse::Any || raw.get() != "null" => {
                    body.extend_from_slice(br#","params":"#);
                    filter.params(method.params, raw, &mut body)?;
                }
                _ if method.thread == ThreadUse::Any => {}
                _ => body.extend_from_slice(br#","params":{}"#),
            }
            Ok(())
        });
        let seen = filter.seen;
        if let Err(refusal) = checked {
            let thread = seen.thread.or_else(|| raw.and_then(params::thread));
            return FromDevice::Verdict(self.refusal(&id, name, Some(method), thread, refusal));
        }
        let folder = raw.filter(|_| method.answer == table::AnswerContent::Configuration).and_then(params::folder);
        let request = Request { id, own, method, folder, asking, seen, body };
        match (method.thread, request.seen.thread.clone()) {
            (ThreadUse::Resumes | ThreadUse::Forks, Some(thread)) => {
                let number = self.next_number();
                let ask = json!({
                    "id": own_id(number),
                    "method": "thread/read",
                    "params": { "threadId": thread, "includeTurns": false },
                });
                let to_codex = ask.to_string().into();
                FromDevice::Ask(Box::new(Question { to_codex, number, request, thread }))
            }
            _ => FromDevice::Verdict(self.passes(request)),
        }
    }

    fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Goes on with a request once Codex has answered what it depends on; `None` when it did not in time.
    pub fn answered(&mut self, question: Question, answer: Option<&[u8]>) -> DeviceVerdict {
        let answer = answer.filter(|answer| question.is_answered_by(answer));
        let Question { mut request, thread, .. } = question;
        let look = answer.and_then(|answer| serde_json::from_slice::<Look<'_>>(answer).ok());
        let recorded = look.map(|look| look.result.and_then(|result| threads::recorded(result.get())));
        let judged = match recorded {
            None => Err(Refusal::params("Codex did not say in time where this thread works: try again")),
            Some(None) => Err(Refusal::params("this host has no such thread, or none that can be opened")),
            Some(Some(recorded)) => {
                let admitted = self.admitted(request.method);
                admitted.and_then(|()| self.opening(request.method, &thread, &recorded, &mut request.seen))
            }
        };
        match judged {
            Ok((opening, is_cold)) => {
                let mut verdict = self.opens(request, &opening);
                verdict.audit.changing |= is_cold;
                verdict
            }
            Err(refusal) => self.refused(&request, Some(thread), refusal),
        }
    }

    /// How a thread that was recorded earlier is opened, and whether that loads something.
    fn opening(
        &self,
        method: &'static Method,
        thread: &str,
        recorded: &threads::Recorded,
        seen: &mut params::Seen,
    ) -> Result<(Opening, bool), Refusal> {
        let policy = &self.policy;
        let named = seen.place.take();
        let place = named.map_or_else(|| policy.folders.place(&recorded.cwd), Ok);
        let joins = method.thread == ThreadUse::Resumes && recorded.is_loaded;
        let is_followed = joins && (recorded.is_active || policy.kept.holds(thread));
        if policy.scope < Scope::Steer && !is_followed {
            let state = if recorded.is_loaded {
                "nobody follows this thread at the moment"
            } else {
                "this thread is not loaded"
            };
            let message = format!(
                "{state}: opening it needs scope `steer`, this device has `{}`. Reading it does not",
                policy.scope
            );
            return Err(Refusal { reason: Reason::Scope, message, needed: Some(Scope::Steer) });
        }
        match place {
            Ok(place) if policy.scope >= Scope::Steer && threads::admits(&place, policy) => {
                Ok((Opening::at(&place, policy, seen.without_tools), !is_followed))
            }
            _ if is_followed => Ok((Opening::watching(&recorded.cwd, &policy.profiles), false)),
            other => Err(Refusal::params(&threads::not_here(
                Some(Path::new(&recorded.cwd)),
                other.err().as_ref(),
                &*policy.folders,
            ))),
        }
    }

    /// What becomes of a request whose parameters are in order.
    fn passes(&mut self, request: Request) -> DeviceVerdict {
        let method = request.method;
        match method.thread {
            ThreadUse::Any => {
                if method.name == "thread/unsubscribe"
                    && let Some(thread) = &request.seen.thread
                {
                    self.threads.forget(thread);
                }
                let mut verdict = self.forwarded(request);
                if method.name == "initialize" {
                    self.greeted = true;
                    self.stock = verdict.to_codex.as_deref().is_some_and(stock::is_stock);
                    self.unwanted = verdict.to_codex.as_deref().map(opted_out).unwrap_or_default();
                    verdict.to_codex = verdict.to_codex.map(with_experimental_api);
                }
                verdict
            }
            ThreadUse::Runs => self.runs(request),
            ThreadUse::Starts => {
                let place =
                    request.seen.place.clone().map_or_else(|| self.policy.folders.unnamed().map(Place::Workspace), Ok);
                match place {
                    Ok(place) => {
                        let opening = Opening::at(&place, &self.policy, request.seen.without_tools);
                        self.opens(request, &opening)
                    }
                    Err(why) => self.refused(
                        &request,
                        None,
                        Refusal::params(&threads::not_here(None, Some(&why), &*self.policy.folders)),
                    ),
                }
            }
            ThreadUse::Resumes | ThreadUse::Forks => {
                self.refused(&request, None, Refusal::params("`threadId` is missing"))
            }
            ThreadUse::Prompts | ThreadUse::PromptsUnder => self.prompts(request),
        }
    }

    /// A request that opens a thread, with what the agent adds to it.
    fn opens(&mut self, mut request: Request, opening: &Opening) -> DeviceVerdict {
        let kept = std::mem::take(&mut request.seen.config);
        request.seen.folder = opening.folder().to_str().map(str::to_owned);
        add(&mut request.body, &opening.params(kept, &*self.policy.folders));
        self.forwarded(request)
    }

    /// A command outside of threads: under the profile that reads, which only a server that the agent started knows.
    fn runs(&mut self, mut request: Request) -> DeviceVerdict {
        if !self.policy.is_own_codex {
            let words = "this host's Codex was running before the agent joined it, and does not know the permission profile that a \
                 command from afar needs: `/diff` works where the agent itself starts Codex";
            return self.refused(&request, None, Refusal::params(words));
        }
        add(&mut request.body, &self.policy.profiles.for_command());
        self.forwarded(request)
    }

    /// A request that lets the model act: under the agent's own profile, or from `approve` on.
    fn prompts(&mut self, mut request: Request) -> DeviceVerdict {
        let Policy { scope, profiles, .. } = &self.policy;
        let Some(thread) = &request.seen.thread else {
            return self.refused(&request, None, Refusal::params("`threadId` is missing"));
        };
        let known = self.threads.get(thread);
        let profile = known.and_then(|thread| thread.profile.as_deref()).filter(|id| profiles.guards(id));
        // Without a sandbox there is no profile that could be another one.
        let is_guarded = profile.is_some() || profiles.writing().is_none();
        if !is_guarded && *scope < Scope::Approve {
            let message = match known {
                Some(_) => format!(
                    "this thread runs under a permission profile that is not the agent's, and is for watching: prompting it \
                     needs scope `approve`; this device has `{scope}`"
                ),
                None => "this connection has not opened the thread: resume it first".to_owned(),
            };
            let refusal = Refusal { reason: Reason::Scope, message, needed: Some(Scope::Approve) };
            return self.refused(&request, None, refusal);
        }
        if let (ThreadUse::PromptsUnder, Some(profile)) = (request.method.thread, profile) {
            add(&mut request.body, &Map::from_iter([("permissions".to_owned(), json!(profile))]));
        }
        let mut verdict = self.forwarded(request);
        verdict.audit.unguarded = !is_guarded;
        verdict
    }

    /// Lets a request through, and remembers that its answer is to be looked at.
    fn forwarded(&mut self, request: Request) -> DeviceVerdict {
        if request.own.is_some() && self.awaited.len() >= MAX_AWAITED {
            let refusal = Refusal::params("too many requests of this kind at once: wait for the answers");
            return self.refused(&request, None, refusal);
        }
        let Request { id, own, method, folder, asking, seen, body } = request;
        if let Some(own) = own {
            let thread = seen.thread.clone();
            self.awaited.insert(own, Awaited { id, method, thread, folder, asking });
        }
        passed(method, seen, body)
    }

    /// Refuses a request whose parameters are in order; `thread` is the one that it is about, where it does not say so itself.
    fn refused(&self, request: &Request, thread: Option<String>, refusal: Refusal) -> DeviceVerdict {
        let thread = thread.or_else(|| request.seen.thread.clone());
        self.refusal(&request.id, request.method.name, Some(request.method), thread, refusal)
    }

    fn notification(&mut self, name: &str, raw: Option<&RawValue>) -> DeviceVerdict {
        // The only one there is; it has no parameters, so none are passed on.
        let method = table::method(name).filter(|method| method.name == "initialized");
        let (Some(method), true) = (method, self.greeted) else {
            return refused(
                None,
                None,
                if self.greeted { Reason::Method } else { Reason::Malformed },
                true,
                Vec::new(),
            );
        };
        if raw.is_some_and(|raw| parse::transcode(raw, &mut Vec::new()).is_err()) {
            return refused(Some(method.name), None, Reason::Malformed, false, Vec::new());
        }
        passed(method, params::Seen::default(), format!(r#"{{"method":"{}""#, method.name).into())
    }

    /// Whether this device may call the method at all, now.
    fn admitted(&self, method: &Method) -> Result<(), Refusal> {
        let scope = self.policy.scope;
        let needed = match method.access {
            Access::From(needed) => needed,
            Access::Outside if self.policy.ceiling.outside_sandbox => Scope::Approve,
            Access::Outside | Access::Never => {
                let message = format!("this host does not open `{}` to devices: {}", method.name, method.why);
                return Err(Refusal { reason: Reason::Method, message, needed: None });
            }
        };
        if scope < needed {
            let message = format!("this needs scope `{needed}`; this device has `{scope}`");
            return Err(Refusal { reason: Reason::Scope, message, needed: Some(needed) });
        }
        if !self.greeted && method.name != "initialize" {
            return Err(Refusal::malformed("Not initialized: the first request of a connection is `initialize`"));
        }
        Ok(())
    }

    fn answer(
        &self,
        id: RequestId,
        about: Option<(&'static str, Option<String>)>,
        answer: Result<PassedAnswer, AnswerError>,
    ) -> DeviceVerdict {
        match answer {
            Ok(PassedAnswer { body, method, thread, choice, lessened }) => DeviceVerdict {
                to_codex: Some(body.into()),
                to_device: lessened.map(|words| warning(thread.as_deref(), words)).into_iter().collect(),
                audit: Audit {
                    method: Some(method),
                    thread,
                    decision: if lessened.is_some() { Decision::Lessened } else { Decision::Passed },
                    changing: true,
                    unguarded: false,
                    answer: Some(choice),
                    folder: None,
                },
                answers: Some(id),
                is_garbage: false,
            },
            Err(e) => {
                let (method, thread) = about.unzip();
                let thread = thread.flatten();
                let reason = e.reason();
                // A late answer is no fault: someone else was faster, and the client hears so from Codex.
                let words = (reason != Reason::NotOpen).then(|| warning(thread.as_deref(), &e.to_string()));
                refused(method, thread, reason, true, words.into_iter().collect())
            }
        }
    }

    fn refusal(
        &self,
        id: &impl Serialize,
        name: &str,
        method: Option<&'static Method>,
        thread: Option<String>,
        refusal: Refusal,
    ) -> DeviceVerdict {
        let Refusal { reason, message, needed } = refusal;
        let data = json!({
            "reason": reason.name(),
            "method": shown(name),
            "needed": needed.map(Scope::name),
            "scope": self.policy.scope.name(),
        });
        let error = || reply(id, "error", json!({ "code": REFUSED, "message": message, "data": data }));
        let replies = match if self.stock { stock::manner(method) } else { Manner::Error } {
            Manner::Error => vec![error()],
            Manner::WarningAndError => {
                vec![warning(thread.as_deref(), &format!("{} was refused: {message}", shown(name))), error()]
            }
            Manner::ResultAndNotice => {
                vec![reply(id, "result", json!({})), stock::notice(thread.as_deref(), &message)]
            }
        };
        refused(method.map(|method| method.name), thread, reason, method.is_none_or(changes), replies)
    }

    /// Judges one message of Codex. Notifications and responses are only looked at, and go on as they came.
    pub fn from_codex(&mut self, bytes: Bytes) -> CodexVerdict {
        let Ok(Look { id, method, params, result, error }) = serde_json::from_slice::<Look<'_>>(&bytes) else {
            return withheld(None, None);
        };
        match (method.as_ref().map(|name| name.0.as_ref()), id) {
            (None, Some(id)) => {
                let Ok(id) = serde_json::from_str::<RequestId>(id.get()) else { return withheld(None, None) };
                let Some(number) = id.as_text().and_then(|id| id.strip_prefix(OWN_ID)) else {
                    return CodexVerdict::Forward(media::without_bytes(bytes));
                };
                let Some(awaited) = number.parse().ok().and_then(|number| self.awaited.remove(&number)) else {
                    return CodexVerdict::Own(bytes);
                };
                if let Some(result) = result
                    && awaited.method.thread.opens()
                    && let Some((id, thread)) = threads::opened(result.get())
                {
                    let is_new = self.threads.get(&id).is_none();
                    self.joined = (is_new && awaited.method.thread == ThreadUse::Resumes).then(|| id.clone());
                    self.threads.remember(id, thread);
                }
                self.took = awaited.asking.as_ref().and_then(|asking| asking.answered(result?));
                let mut texts = Texts::default();
                let answer = match error {
                    Some(error) => answers::error(&awaited, error, &mut texts),
                    None => answers::result(&awaited, result.unwrap_or(RawValue::NULL), &self.policy, &mut texts),
                };
                self.withheld = texts.of(awaited.method.name, || awaited.thread);
                match answer {
                    Some(answer) => CodexVerdict::Forward(media::without_bytes(answer)),
                    None => withheld(Some(awaited.method.name), None),
                }
            }
            (Some(name), None) => {
                let Some(name) = self.codex_notification(name, params) else { return withheld(None, None) };
                let mut texts = Texts::default();
                let shorter = answers::notification(name, &bytes, &mut texts);
                self.withheld = texts.of(name, || params.and_then(params::thread));
                CodexVerdict::Forward(shorter.unwrap_or_else(|| media::without_bytes(bytes.clone())))
            }
            (Some(name), Some(id)) => self.codex_request(name, id, params, &bytes),
            (None, None) => withheld(None, None),
        }
    }

    /// The notification's name, where it is for devices.
    fn codex_notification(&mut self, name: &str, params: Option<&RawValue>) -> Option<&'static str> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Resolved {
            request_id: RequestId,
        }
        let known = table::NOTIFICATIONS[table::NOTIFICATIONS.binary_search(&name).ok()?];
        self.threads.notice(name, params.map_or("", RawValue::get));
        if name == "serverRequest/resolved" {
            let resolved: Resolved = serde_json::from_str(params?.get()).ok()?;
            self.open.close(&resolved.request_id);
        }
        Some(known)
    }

    fn codex_request(&mut self, name: &str, id: &RawValue, params: Option<&RawValue>, bytes: &Bytes) -> CodexVerdict {
        let (Some(request), Ok(id)) = (server_request(name), serde_json::from_str::<RequestId>(id.get())) else {
            return withheld(None, None);
        };
        match request.route {
            Route::Withheld => return withheld(Some(request.name), None),
            Route::Agent => {
                let audit = Audit {
                    method: Some(request.name),
                    thread: None,
                    decision: Decision::Answered,
                    changing: false,
                    unguarded: false,
                    answer: None,
                    folder: None,
                };
                return CodexVerdict::AnswerInAgent(AgentAnswer { id }, audit);
            }
            Route::Device(_) => {}
        }
        let members = params.map_or(Ok(Map::new()), |raw| serde_json::from_str(raw.get()));
        let asked = members.ok().and_then(|params: Map<String, Value>| {
            self.open.open(id.clone(), request, params, self.policy.scope, self.policy.lasting_grants)
        });
        match asked {
            Some(Asked::AsIs) => CodexVerdict::Request(bytes.clone(), id),
            Some(Asked::Without(params)) => {
                let message = json!({ "method": request.name, "id": id, "params": params });
                CodexVerdict::Request(message.to_string().into(), id)
            }
            Some(Asked::AtTheHost(words)) => {
                let thread = params.and_then(params::thread);
                instead(request.name, thread, words)
            }
            Some(Asked::Above(needed)) => {
                let thread = self.open.about(&id).and_then(|(_, thread)| thread);
                let scope = self.policy.scope;
                let words = format!("Codex waits for an answer that needs scope `{needed}`; this device has `{scope}`");
                instead(request.name, thread, &words)
            }
            None => withheld(Some(request.name), None),
        }
    }
}

/// What is looked at in a message of Codex; the rest is skipped over.
#[derive(Deserialize)]
struct Look<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<Name<'a>>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// A text that is borrowed where it can be; a bare `Option<Cow>` would always be copied.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Why a request does not pass, and the scope that would let it.
struct Refusal {
    reason: Reason,
    message: String,
    needed: Option<Scope>,
}

impl Refusal {
    fn malformed(message: &str) -> Self {
        Self { reason: Reason::Malformed, message: message.to_owned(), needed: None }
    }

    fn params(message: &str) -> Self {
        Self { reason: Reason::Params, message: message.to_owned(), needed: None }
    }
}

impl From<ParamsError> for Refusal {
    fn from(e: ParamsError) -> Self {
        let reason = match e {
            ParamsError::Malformed(_) => Reason::Malformed,
            ParamsError::Refused { .. } | ParamsError::Folder { .. } => Reason::Params,
            ParamsError::Outside => Reason::Method,
        };
        Self { reason, message: e.to_string(), needed: None }
    }
}

impl From<serde_json::Error> for Refusal {
    fn from(e: serde_json::Error) -> Self {
        ParamsError::from(ParseError::Value { line: e.line(), column: e.column() }).into()
    }
}

/// The start of a message, up to its parameters.
fn head(out: &mut Vec<u8>, id: &RequestId, method: &str) -> Result<(), serde_json::Error> {
    out.extend_from_slice(br#"{"method":"#);
    serde_json::to_writer(&mut *out, method)?;
    out.extend_from_slice(br#","id":"#);
    serde_json::to_writer(out, id)
}

/// The id of the agent's own request with this number, as it is on the wire.
fn own_id(number: u64) -> String {
    format!("{OWN_ID}{number}")
}

/// Adds members to the parameters that `body` ends with, which are an object.
fn add(body: &mut Vec<u8>, members: &Map<String, Value>) {
    let closing = body.pop();
    debug_assert_eq!(closing, Some(b'}'));
    for (name, value) in members {
        if body.last() != Some(&b'{') {
            body.push(b',');
        }
        body.extend_from_slice(json!(name).to_string().as_bytes());
        body.push(b':');
        body.extend_from_slice(value.to_string().as_bytes());
    }
    body.push(b'}');
}

/// An `initialize` of a connection that may use all of Codex's API: only there does it take the profile and the roots that
/// the agent adds.
fn with_experimental_api(initialize: Bytes) -> Bytes {
    let Ok(mut message) = serde_json::from_slice::<Value>(&initialize) else { return initialize };
    let Some(params) = message.get_mut("params").and_then(Value::as_object_mut) else { return initialize };
    let capabilities = params.entry("capabilities").or_insert(Value::Null);
    if capabilities.is_null() {
        *capabilities = json!({});
    }
    if let Some(capabilities) = capabilities.as_object_mut() {
        capabilities.insert("experimentalApi".to_owned(), json!(true));
    }
    message.to_string().into()
}

/// The notifications that an `initialize` does not want, as far as there are such.
fn opted_out(initialize: &[u8]) -> Vec<String> {
    #[derive(Default, Deserialize)]
    struct Message {
        params: Params,
    }
    #[derive(Default, Deserialize)]
    struct Params {
        #[serde(default)]
        capabilities: Option<Capabilities>,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Capabilities {
        #[serde(default)]
        opt_out_notification_methods: Option<Vec<String>>,
    }
    let Message { params } = serde_json::from_slice(initialize).unwrap_or_default();
    let mut names = params.capabilities.unwrap_or_default().opt_out_notification_methods.unwrap_or_default();
    names.retain(|name| table::NOTIFICATIONS.binary_search(&name.as_str()).is_ok());
    names.sort_unstable();
    names.dedup();
    names
}

/// An answer to a device's request, under its id as it was.
fn reply(id: &impl Serialize, kind: &str, value: Value) -> Bytes {
    let id = serde_json::to_string(id).expect("an id is a text, a number or null");
    format!(r#"{{"id":{id},"{kind}":{value}}}"#).into()
}

/// Whether it is written down: all that more than looking is needed for. A search for files is, with its folders, when it
/// begins; what it is told for each letter that somebody types changes nothing.
fn changes(method: &Method) -> bool {
    let goes_on = matches!(method.name, "fuzzyFileSearch/sessionUpdate" | "fuzzyFileSearch/sessionStop");
    method.access != Access::From(Scope::View) && !goes_on
}

/// Lets a message through whose `body` lacks nothing but its end.
fn passed(method: &'static Method, seen: params::Seen, mut body: Vec<u8>) -> DeviceVerdict {
    body.push(b'}');
    let params::Seen { thread, folder, dropped, unknown, .. } = seen;
    let whole = dropped.is_empty() && unknown == 0;
    let decision = if whole { Decision::Passed } else { Decision::Trimmed { dropped, unknown } };
    DeviceVerdict {
        to_codex: Some(body.into()),
        to_device: Vec::new(),
        audit: Audit {
            method: Some(method.name),
            thread,
            decision,
            changing: changes(method),
            unguarded: false,
            answer: None,
            folder,
        },
        answers: None,
        is_garbage: false,
    }
}

fn refused(
    method: Option<&'static str>,
    thread: Option<String>,
    reason: Reason,
    changing: bool,
    to_device: Vec<Bytes>,
) -> DeviceVerdict {
    let decision = Decision::Refused(reason);
    let audit = Audit { method, thread, decision, changing, unguarded: false, answer: None, folder: None };
    DeviceVerdict { to_codex: None, to_device, audit, answers: None, is_garbage: false }
}

/// Keeps a request of Codex from the device, which hears why.
fn instead(method: &'static str, thread: Option<String>, words: &str) -> CodexVerdict {
    let notice = warning(thread.as_deref(), words);
    let audit = Audit {
        method: Some(method),
        thread,
        decision: Decision::Withheld,
        changing: false,
        unguarded: false,
        answer: None,
        folder: None,
    };
    CodexVerdict::Instead(notice, audit)
}

fn withheld(method: Option<&'static str>, thread: Option<String>) -> CodexVerdict {
    CodexVerdict::Drop(Audit {
        method,
        thread,
        decision: Decision::Withheld,
        changing: false,
        unguarded: false,
        answer: None,
        folder: None,
    })
}

/// A notification that every client shows to its person.
fn warning(thread: Option<&str>, words: &str) -> Bytes {
    json!({ "method": "warning", "params": { "threadId": thread, "message": format!("Reachback: {words}") } })
        .to_string()
        .into()
}

/// A method's name as a device sent it, for that device.
fn shown(name: &str) -> String {
    name.chars().take(64).map(words::shown).collect()
}
