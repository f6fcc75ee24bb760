//! Applying the table's rules to the parameters of one message.
//!
//! Objects with rules inside are taken apart one level at a time, by borrowing
//! their members; everything else goes through
//! [`transcode`](super::parse::transcode). What is written to `out` is what
//! was checked, and nothing else.

use std::borrow::Cow;
use std::fmt;

use reachback_proto::scope::Scope;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Policy;
use super::ceiling::Approval;
use super::folders::Place;
use super::media;
use super::parse::{Keys, MAX_MEMBERS, ParseError, Text, transcode, write_text};
use super::table::{Else, Params, Rule, rule_for};
use super::threads::{Threads, admits, is_thread_id, not_here};

/// Notifications that the firewall itself goes by: which requests are open, and under which profile a thread runs.
const HEARD: [&str; 4] = ["item/completed", "serverRequest/resolved", "thread/closed", "thread/settings/updated"];

/// Longest folder that is kept until an answer about it comes, in bytes: PATH_MAX of Linux.
const MAX_FOLDER: usize = 4096;

// Why a member is refused.
const NO_WORKSPACE: &str =
    "not a workspace of this host; its owner opens a folder with: reachback workspace add FOLDER";
const KEPT: &str = "this host keeps its own value; its owner decides what devices may choose";
const NO_MODEL: &str = "neither in the host's list of models nor in its configuration; its owner decides that";
const FILE: &str = "Codex opens no file of the host for a device: send the file itself, as a `data:` URL";
const IMAGE: &str = "an image is sent as a `data:` URL: image/png, jpeg, gif or webp, in base64, up to 8 MiB";
const AUDIO: &str = "sound is sent as a `data:` URL: audio/…, in base64, up to 8 MiB";

/// Why parameters do not pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ParamsError {
    /// Not well formed.
    #[error(transparent)]
    Malformed(#[from] ParseError),
    /// A parameter's value is not for devices to choose.
    #[error("`{name}`: {why}")]
    Refused { name: &'static str, why: &'static str },
    /// A folder that the device may not work in.
    #[error("`{name}`: {why}")]
    Folder { name: &'static str, why: String },
    /// What is asked runs outside the sandbox, and the ceiling is closed for that.
    #[error("this runs outside Codex's sandbox and approvals, which this host does not open to devices")]
    Outside,
}

/// What was seen while the rules were applied.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The thread that the message is about.
    pub(super) thread: Option<String>,
    /// The folder that the message names, if one may.
    pub(super) folder: Option<String>,
    /// Where a thread is to be opened.
    pub(super) place: Option<Place>,
    /// What remains of the device's own configuration for a thread.
    pub(super) config: Map<String, Value>,
    /// Whether that makes a thread without tools.
    pub(super) without_tools: bool,
    /// Parameters that chose something, and were not passed on.
    pub(super) dropped: Vec<&'static str>,
    /// Parameters that the table does not know.
    pub(super) unknown: usize,
}

/// Applies rules for one device, once.
pub(super) struct Filter<'a> {
    pub(super) policy: &'a Policy,
    pub(super) threads: &'a Threads,
    pub(super) seen: Seen,
}

enum Fate {
    Keep,
    Leave,
    /// Looked at, and for the agent to write.
    Taken,
}

impl Filter<'_> {
    /// Appends the parameters that pass to `out`.
    pub(super) fn params(
        &mut self,
        rules: &'static Params,
        raw: &RawValue,
        out: &mut Vec<u8>,
    ) -> Result<(), ParamsError> {
        if is_null(raw) {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        let members = members(raw)?;
        self.seen.thread = thread_among(&members);
        let is_named = members.iter().any(|(key, value)| key == "threadId" && !is_null(value));
        if is_named && self.seen.thread.is_none() {
            let why = "not a thread's id as Codex writes it";
            return Err(ParamsError::Refused { name: "threadId", why });
        }
        self.object(rules, members, out)
    }

    fn object(
        &mut self,
        rules: &'static Params,
        members: Vec<(Cow<'_, str>, &RawValue)>,
        out: &mut Vec<u8>,
    ) -> Result<(), ParamsError> {
        out.push(b'{');
        let start = out.len();
        for (key, value) in members {
            let Some((rule, name)) = rule_for(rules, &key) else {
                check(value)?;
                self.seen.unknown += 1;
                continue;
            };
            let before = out.len();
            if before > start {
                out.push(b',');
            }
            write_text::<serde_json::Error>(out, name).map_err(not_a_value)?;
            out.push(b':');
            let fate = self.value(rule, name, value, out)?;
            if !matches!(fate, Fate::Keep) {
                out.truncate(before);
            }
            if matches!(fate, Fate::Leave) && !matches!(value.get(), "null" | "false" | "[]") {
                self.seen.dropped.push(name);
            }
        }
        out.push(b'}');
        Ok(())
    }

    fn value(
        &mut self,
        rule: Rule,
        name: &'static str,
        raw: &RawValue,
        out: &mut Vec<u8>,
    ) -> Result<Fate, ParamsError> {
        let passes = match rule {
            Rule::Pass => true,
            Rule::From(scope) => self.policy.scope >= scope,
            Rule::Outside => self.policy.ceiling.outside_sandbox,
            Rule::Drop => false,
            _ if is_null(raw) => true,
            _ => return self.judged(rule, name, raw, out),
        };
        if passes {
            transcode(raw, out)?;
            Ok(Fate::Keep)
        } else {
            check(raw)?;
            Ok(Fate::Leave)
        }
    }

    /// A value that is there, under a rule that looks at it.
    fn judged(
        &mut self,
        rule: Rule,
        name: &'static str,
        raw: &RawValue,
        out: &mut Vec<u8>,
    ) -> Result<Fate, ParamsError> {
        let malformed = ParamsError::Refused { name, why: "not of the type that Codex expects" };
        if !matches!(rule, Rule::Object(_) | Rule::Each(_) | Rule::ByType(_)) {
            check(raw)?;
        }
        match rule {
            Rule::Object(rules) => {
                self.object(rules, members(raw).map_err(|_| malformed)?, out)?;
                Ok(Fate::Keep)
            }
            Rule::Each(rule) => {
                self.each(*rule, name, items(raw).map_err(|_| malformed)?, out)?;
                Ok(Fate::Keep)
            }
            Rule::ByType(types) => self.by_type(types, members(raw).map_err(|_| malformed.clone())?, malformed, out),
            Rule::File => Err(ParamsError::Refused { name, why: FILE }),
            Rule::Image => {
                let is_image = text(raw).is_ok_and(|url| media::is_image(&url));
                keep_if(is_image, raw, out, Else::Refuse, name, IMAGE)
            }
            Rule::Audio => {
                let is_audio = text(raw).is_ok_and(|url| media::is_audio(&url));
                keep_if(is_audio, raw, out, Else::Refuse, name, AUDIO)
            }
            Rule::Opens => self.opens(name, &text(raw).map_err(|_| malformed)?),
            Rule::Workspace(otherwise) => match text(raw).ok().and_then(|wish| self.workspace(&wish)) {
                Some(folder) => self.names(folder, out),
                None => refuse_or_leave(otherwise, name, NO_WORKSPACE),
            },
            Rule::Workspaces(otherwise) => {
                self.workspaces(&typed::<Vec<String>>(raw).ok_or(malformed)?, otherwise, name, out)
            }
            Rule::Folders(otherwise) => self.places(&typed::<Vec<String>>(raw).ok_or(malformed)?, otherwise, name, out),
            Rule::Moves => self.moves(name, &text(raw).map_err(|_| malformed)?, out),
            Rule::Approval(otherwise) => {
                let wish = typed(raw).unwrap_or(Approval::Never);
                keep_if(self.policy.ceiling.approval.is_some_and(|most| wish <= most), raw, out, otherwise, name, KEPT)
            }
            Rule::Reviewer(otherwise) => {
                let person = text(raw).is_ok_and(|who| who == "user");
                let allowed = person || self.policy.ceiling.approval == Some(Approval::Never);
                keep_if(allowed, raw, out, otherwise, name, KEPT)
            }
            Rule::Provider => {
                let wish = text(raw).map_err(|_| malformed)?;
                let allowed = self.policy.scope >= Scope::Steer && self.policy.providers.has(&wish);
                keep_if(allowed, raw, out, Else::Drop, name, KEPT)
            }
            Rule::Model(otherwise) => self.model(name, &text(raw).map_err(|_| malformed)?, otherwise, out),
            Rule::Config => self.config(members(raw).map_err(|_| malformed)?),
            Rule::OptOut => {
                let mut names: Vec<String> = typed(raw).ok_or(malformed)?;
                names.retain(|name| !HEARD.contains(&name.as_str()));
                self.write(&names, out)
            }
            Rule::ReadOnlyGit => {
                let command: Vec<String> = typed(raw).ok_or(malformed)?;
                if self.policy.ceiling.outside_sandbox || reads_a_repository(&command) {
                    self.write(&command, out)
                } else {
                    Err(ParamsError::Outside)
                }
            }
            Rule::Refuse => Err(ParamsError::Refused { name, why: "not for devices to choose" }),
            Rule::Pass | Rule::From(_) | Rule::Drop | Rule::Outside => Ok(Fate::Leave),
        }
    }

    /// The rules of an object are those of its `type`.
    fn by_type(
        &mut self,
        types: &'static [(&'static str, &'static Params)],
        members: Vec<(Cow<'_, str>, &RawValue)>,
        malformed: ParamsError,
        out: &mut Vec<u8>,
    ) -> Result<Fate, ParamsError> {
        let tag = members.iter().find(|(key, _)| key == "type").and_then(|(_, value)| text(value).ok());
        let known = tag.and_then(|tag| types.iter().find(|(name, _)| *name == tag));
        let (_, rules) = known.ok_or(malformed)?;
        self.object(rules, members, out)?;
        Ok(Fate::Keep)
    }

    fn opens(&mut self, name: &'static str, wish: &str) -> Result<Fate, ParamsError> {
        match self.policy.folders.place(wish) {
            Ok(place) if admits(&place, self.policy) => self.seen.place = Some(place),
            other => {
                return Err(ParamsError::Folder {
                    name,
                    why: not_here(None, other.err().as_ref(), &*self.policy.folders),
                });
            }
        }
        Ok(Fate::Taken)
    }

    fn workspaces(
        &self,
        wishes: &[String],
        otherwise: Else,
        name: &'static str,
        out: &mut Vec<u8>,
    ) -> Result<Fate, ParamsError> {
        match wishes.iter().map(|wish| self.workspace(wish)).collect::<Option<Vec<_>>>() {
            Some(folders) => self.write(&folders, out),
            None => refuse_or_leave(otherwise, name, NO_WORKSPACE),
        }
    }

    fn places(
        &self,
        wishes: &[String],
        otherwise: Else,
        name: &'static str,
        out: &mut Vec<u8>,
    ) -> Result<Fate, ParamsError> {
        let place = |wish: &String| {
            let place = self.policy.folders.place(wish).ok().filter(|place| admits(place, self.policy))?;
            place.path().to_str().map(str::to_owned)
        };
        match wishes.iter().map(place).collect::<Option<Vec<_>>>() {
            Some(folders) => self.write(&folders, out),
            None => refuse_or_leave(otherwise, name, NO_WORKSPACE),
        }
    }

    fn moves(&mut self, name: &'static str, wish: &str, out: &mut Vec<u8>) -> Result<Fate, ParamsError> {
        let own = self.seen.thread.as_ref().and_then(|id| self.threads.get(id)?.folder.as_deref());
        match self.workspace(wish) {
            Some(folder) => self.names(folder, out),
            None if own.is_some_and(|own| own == std::path::Path::new(wish)) => Ok(Fate::Leave),
            None => Err(ParamsError::Refused { name, why: NO_WORKSPACE }),
        }
    }

    fn model(
        &mut self,
        name: &'static str,
        wish: &str,
        otherwise: Else,
        out: &mut Vec<u8>,
    ) -> Result<Fate, ParamsError> {
        let own = self.seen.thread.as_ref().and_then(|id| self.threads.get(id)?.model.as_deref());
        if self.policy.scope >= Scope::Steer && (self.policy.providers.has_model(wish) || own == Some(wish)) {
            return self.write(&wish, out);
        }
        match (otherwise, own) {
            // Clients repeat the thread's model with every prompt, and Codex insists on it there.
            (Else::Refuse, Some(own)) => {
                self.seen.dropped.push(name);
                self.write(&own, out)
            }
            _ => refuse_or_leave(otherwise, name, NO_MODEL),
        }
    }

    fn each(
        &mut self,
        rule: Rule,
        name: &'static str,
        items: Vec<&RawValue>,
        out: &mut Vec<u8>,
    ) -> Result<(), ParamsError> {
        out.push(b'[');
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            match self.value(rule, name, item, out)? {
                Fate::Keep => {}
                // An item can't be left out without changing what the others mean.
                Fate::Leave | Fate::Taken => {
                    return Err(ParamsError::Refused { name, why: "not for devices to choose" });
                }
            }
        }
        out.push(b']');
        Ok(())
    }

    /// The workspace that a device named.
    fn workspace(&self, wish: &str) -> Option<String> {
        match self.policy.folders.place(wish) {
            Ok(Place::Workspace(folder)) => folder.into_os_string().into_string().ok(),
            _ => None,
        }
    }

    /// Keeps reasoning effort, and what makes the stock client's title thread one without tools.
    fn config(&mut self, members: Vec<(Cow<'_, str>, &RawValue)>) -> Result<Fate, ParamsError> {
        let given = |key: &str| members.iter().find(|(name, _)| name == key).map(|(_, value)| value.get());
        let without_tools = WITHOUT_TOOLS.iter().all(|(key, value)| given(key) == Some(*value));
        let keep = |key: &str, value: &RawValue| match key {
            "model_reasoning_effort" => text(value).is_ok_and(|effort| effort.len() <= 32),
            // The agent's own profile, which reads only, takes its place.
            "default_permissions" => false,
            _ => {
                without_tools
                    && (WITHOUT_TOOLS.contains(&(key, value.get()))
                        || SWITCHED_OFF.contains(&key) && value.get() == "false")
            }
        };
        let mut left = false;
        for (key, value) in &members {
            if keep(key, value) {
                self.seen.config.insert(key.clone().into_owned(), typed(value).unwrap_or_default());
            } else {
                left |= !(without_tools && key == "default_permissions");
            }
        }
        self.seen.without_tools = without_tools;
        Ok(if left { Fate::Leave } else { Fate::Taken })
    }

    /// Writes a folder, which goes into the audit log, too.
    fn names(&mut self, folder: String, out: &mut Vec<u8>) -> Result<Fate, ParamsError> {
        let fate = self.write(&folder, out);
        self.seen.folder = Some(folder);
        fate
    }

    fn write<T: serde::Serialize>(&self, value: &T, out: &mut Vec<u8>) -> Result<Fate, ParamsError> {
        serde_json::to_writer(out, value).map_err(not_a_value)?;
        Ok(Fate::Keep)
    }
}

/// Without these a thread may still run something, and then the others are not its client's to switch off: hooks, for one,
/// may be how the owner guards commands.
const WITHOUT_TOOLS: [(&str, &str); 5] = [
    ("features.shell_tool", "false"),
    ("features.unified_exec", "false"),
    ("mcp_servers", "{}"),
    ("default_permissions", "\":read-only\""),
    ("web_search", "\"disabled\""),
];

/// What else the stock client switches off for the thread that finds a title.
const SWITCHED_OFF: [&str; 24] = [
    "cloud.skills.enabled",
    "features.apps",
    "features.code_mode",
    "features.code_mode_only",
    "features.context_management",
    "features.current_time_reminder",
    "features.deferred_executor",
    "features.enable_fanout",
    "features.goals",
    "features.hooks",
    "features.image_generation",
    "features.memories",
    "features.multi_agent",
    "features.multi_agent_v2",
    "features.plugins",
    "features.request_permissions_tool",
    "features.shell_snapshot",
    "features.standalone_web_search",
    "features.token_budget",
    "features.tool_suggest",
    "features.view_image",
    "skills.include_instructions",
    "tools.experimental_request_user_input.enabled",
    "tools.update_plan.enabled",
];

/// Whether a command is one of those that the stock client's `/diff` runs: git, with hooks, helpers and filters switched off.
fn reads_a_repository(command: &[String]) -> bool {
    const SAFE: [&str; 3] = ["git", "-c", "safe.bareRepository=explicit"];
    const QUIET: [&str; 4] = ["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"];
    const FSMONITOR: [&str; 4] = ["config", "--null", "--get", "core.fsmonitor"];
    const DIFF: [&str; 6] =
        ["diff", "--no-textconv", "--no-ext-diff", "--submodule=short", "--ignore-submodules=dirty", "--color"];
    const READS: [&[&str]; 4] = [
        &["rev-parse", "--is-inside-work-tree"],
        &["config", "--null", "--name-only", "--get-regexp", "^filter\\..*\\.(clean|process)$"],
        &["ls-files", "--others", "--exclude-standard"],
        &DIFF,
    ];
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let Some(rest) = words.strip_prefix(&SAFE) else { return false };
    if *rest == FSMONITOR {
        return true;
    }
    let Some(rest) = rest.strip_prefix(&QUIET) else { return false };
    if READS.contains(&rest) {
        return true;
    }
    // A file that git does not know yet, compared with nothing: named relative to the folder, and inside it.
    match rest.strip_prefix(&DIFF) {
        Some(["--no-index", "--", "/dev/null", file]) => {
            let file = std::path::Path::new(file);
            file.components().all(|part| matches!(part, std::path::Component::Normal(_)))
        }
        _ => false,
    }
}

/// The thread that a refused message is about, as far as it says so.
pub(super) fn thread(raw: &RawValue) -> Option<String> {
    thread_among(&members(raw).ok()?)
}

/// The id that a device gave the prompt which a message brings.
pub(super) fn prompt_id(raw: &RawValue) -> Option<String> {
    let members = members(raw).ok()?;
    let (_, id) = members.iter().find(|(key, _)| key == "clientUserMessageId")?;
    text(id).ok().map(Cow::into_owned)
}

/// The folder that a message names as its `cwd`, as it is written there.
pub(super) fn folder(raw: &RawValue) -> Option<String> {
    let members = members(raw).ok()?;
    let (_, folder) = members.iter().find(|(key, _)| key == "cwd")?;
    text(folder).ok().filter(|folder| folder.len() <= MAX_FOLDER).map(Cow::into_owned)
}

fn thread_among(members: &[(Cow<'_, str>, &RawValue)]) -> Option<String> {
    let (_, value) = members.iter().find(|(key, _)| key == "threadId")?;
    // Only what Codex itself would write: this goes to the audit log, and one thread must not have two names here.
    text(value).ok().filter(|id| is_thread_id(id)).map(Cow::into_owned)
}

fn keep_if(
    allowed: bool,
    raw: &RawValue,
    out: &mut Vec<u8>,
    otherwise: Else,
    name: &'static str,
    why: &'static str,
) -> Result<Fate, ParamsError> {
    if !allowed {
        return refuse_or_leave(otherwise, name, why);
    }
    transcode(raw, out)?;
    Ok(Fate::Keep)
}

fn refuse_or_leave(otherwise: Else, name: &'static str, why: &'static str) -> Result<Fate, ParamsError> {
    match otherwise {
        Else::Drop => Ok(Fate::Leave),
        Else::Refuse => Err(ParamsError::Refused { name, why }),
    }
}

fn is_null(raw: &RawValue) -> bool {
    raw.get() == "null"
}

/// Checks a value that is not passed on: what hides a duplicate key is refused even there.
fn check(raw: &RawValue) -> Result<(), ParseError> {
    transcode(raw, &mut Vec::new())
}

fn text(raw: &RawValue) -> Result<Cow<'_, str>, serde_json::Error> {
    serde::de::DeserializeSeed::deserialize(Text, &mut serde_json::Deserializer::from_str(raw.get()))
}

fn typed<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

fn not_a_value(e: serde_json::Error) -> ParseError {
    ParseError::Value { line: e.line(), column: e.column() }
}

/// The members of an object, each once.
pub(super) fn members(raw: &RawValue) -> Result<Vec<(Cow<'_, str>, &RawValue)>, ParseError> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut keys = Keys::default();
            let mut members = Vec::new();
            while let Some(key) = map.next_key_seed(Text)? {
                keys.insert(key.clone())?;
                members.push((key, map.next_value()?));
            }
            Ok(members)
        }
    }
    serde_json::Deserializer::from_str(raw.get()).deserialize_map(Members).map_err(not_a_value)
}

/// The items of a list, at most [`MAX_MEMBERS`].
fn items(raw: &RawValue) -> Result<Vec<&RawValue>, ParseError> {
    struct Items;
    impl<'de> Visitor<'de> for Items {
        type Value = Vec<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = seq.next_element()? {
                if items.len() >= MAX_MEMBERS {
                    return Err(A::Error::custom("a list has too many items"));
                }
                items.push(item);
            }
            Ok(items)
        }
    }
    serde_json::Deserializer::from_str(raw.get()).deserialize_seq(Items).map_err(not_a_value)
}
