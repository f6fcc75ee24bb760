//! Opening and prompting threads: the folder and the profile are the host's.
//!
//! A thread that is started, forked or loaded again takes what its folder
//! configures, runs its MCP servers outside the sandbox, and falls back to
//! Codex's own profiles unless it is told otherwise, every time (measured on
//! Codex 0.152 to 0.169). So the firewall writes three things into every such
//! request: the folder, whether it is trusted, and the agent's own permission
//! profile with its definition. Nothing is left to the host's files, and nothing
//! is written to them.
//!
//! - `thread/start` names its folder, or gets the one that is meant.
//! - `thread/resume` and `thread/fork` do not: the folder that the thread was
//!   recorded with is looked up first, with a request of the agent's own
//!   ([`Question`]). A thread that is not loaded is opened only where a new one
//!   could be started. One that is loaded may be watched by all.
//! - What prompts the model needs a thread that this connection opened, because
//!   its answer said which profile holds. Under another profile than the
//!   agent's, prompting needs `approve`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use reachback_proto::scope::Scope;
use reachback_proto::words::{quote, shell_word};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Policy;
use super::folders::{Folders, NoPlace, Place};
use crate::codex::permissions::{Profile, Profiles};

/// Threads of one connection that are remembered. A terminal opens a few; over this, the device opens its thread again.
const MAX_THREADS: usize = 4096;

/// Below this file every folder of a Linux machine lies, so the top becomes the project's root, and with it untrusted what
/// nobody trusts by name. Where it does not exist, each folder is its own root.
const TOP: &str = "proc/self/exe";

/// Whether this is the id of a thread as Codex writes it: a UUID in its usual form, in lower case. Codex reads other forms,
/// too, and would take them for the same thread.
pub(super) fn is_thread_id(text: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
    text.len() == 36
        && text
            .bytes()
            .enumerate()
            .all(|(at, byte)| if matches!(at, 8 | 13 | 18 | 23) { byte == b'-' } else { is_digit(byte) })
}

/// What is known of a thread that this connection opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Thread {
    /// Where it works.
    pub(super) folder: Option<PathBuf>,
    /// The profile that its turns run under.
    pub(super) profile: Option<String>,
    /// The model that it uses, as the host itself says.
    pub(super) model: Option<String>,
}

/// The threads of one connection.
#[derive(Debug, Default)]
pub(super) struct Threads {
    known: HashMap<String, Thread>,
}

impl Threads {
    pub(super) fn get(&self, id: &str) -> Option<&Thread> {
        self.known.get(id)
    }

    pub(super) fn remember(&mut self, id: String, thread: Thread) {
        if self.known.len() >= MAX_THREADS && !self.known.contains_key(&id) {
            self.known.clear();
        }
        self.known.insert(id, thread);
    }

    pub(super) fn forget(&mut self, id: &str) {
        self.known.remove(id);
    }

    /// Follows what Codex says about threads that are known here.
    pub(super) fn notice(&mut self, method: &str, params: &str) {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Settings {
            thread_id: String,
            thread_settings: Options,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Options {
            #[serde(default)]
            cwd: Option<PathBuf>,
            #[serde(default)]
            active_permission_profile: Option<Active>,
            #[serde(default)]
            model: Option<String>,
        }
        #[derive(Deserialize)]
        struct Completed {
            item: Item,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Item {
            r#type: String,
            #[serde(default)]
            sender_thread_id: Option<String>,
            #[serde(default)]
            receiver_thread_ids: Vec<String>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Closed {
            thread_id: String,
        }
        match method {
            "thread/settings/updated" => {
                let Ok(Settings { thread_id, thread_settings }) = serde_json::from_str(params) else {
                    // It may have been any of them.
                    self.known.clear();
                    return;
                };
                if let Some(thread) = self.known.get_mut(&thread_id) {
                    thread.profile = thread_settings.active_permission_profile.map(|active| active.id);
                    thread.folder = thread_settings.cwd.or(thread.folder.take());
                    thread.model = thread_settings.model.or(thread.model.take());
                }
            }
            // A sub-agent inherits its parent's profile, every connection hears of it, and no notification says that it began.
            "item/completed" => {
                let Ok(Completed { item }) = serde_json::from_str(params) else { return };
                if item.r#type != "collabAgentToolCall" {
                    return;
                }
                let parent = item.sender_thread_id.and_then(|parent| self.known.get(&parent).cloned());
                for child in item.receiver_thread_ids {
                    if let Some(parent) = &parent
                        && !self.known.contains_key(&child)
                    {
                        self.remember(child, parent.clone());
                    }
                }
            }
            "thread/closed" => match serde_json::from_str(params) {
                Ok(Closed { thread_id }) => self.forget(&thread_id),
                Err(_) => self.known.clear(),
            },
            _ => {}
        }
    }
}

#[derive(Debug, Deserialize)]
struct Active {
    id: String,
}

/// A thread as the answer to its opening describes it.
pub(super) fn opened(result: &str) -> Option<(String, Thread)> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Opened {
        thread: Id,
        #[serde(default)]
        cwd: Option<PathBuf>,
        #[serde(default)]
        active_permission_profile: Option<Active>,
        #[serde(default)]
        model: Option<String>,
    }
    #[derive(Deserialize)]
    struct Id {
        id: String,
    }
    let Opened { thread, cwd, active_permission_profile, model } = serde_json::from_str(result).ok()?;
    Some((thread.id, Thread { folder: cwd, profile: active_permission_profile.map(|active| active.id), model }))
}

/// What `thread/read` says about a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// Where it works, or did when it was last loaded.
    pub(crate) cwd: String,
    /// Whether it is loaded now.
    pub(crate) is_loaded: bool,
    /// Whether it is in the middle of a turn.
    pub(crate) is_active: bool,
}

/// Reads the result of `thread/read`; `None` when it is not one.
pub(crate) fn recorded(result: &str) -> Option<Recorded> {
    #[derive(Deserialize)]
    struct Read {
        thread: Thread,
    }
    #[derive(Deserialize)]
    struct Thread {
        cwd: String,
        status: Status,
    }
    #[derive(Deserialize)]
    struct Status {
        r#type: String,
    }
    let Read { thread: Thread { cwd, status } } = serde_json::from_str(result).ok()?;
    let (is_loaded, is_active) = (status.r#type != "notLoaded", status.r#type == "active");
    Some(Recorded { cwd, is_loaded, is_active })
}

/// How a thread is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opening {
    folder: PathBuf,
    /// Whether what it configures runs.
    trusted: bool,
    /// The profile that is asked for; `None` where the owner chose no sandbox.
    profile: Option<Profile>,
}

impl Opening {
    /// In a place that the device may work in.
    pub(super) fn at(place: &Place, policy: &Policy, without_tools: bool) -> Self {
        let trusted = matches!(place, Place::Workspace(_));
        let profile = match trusted && !without_tools {
            true => policy.profiles.writing(),
            false => Some(policy.profiles.reading()),
        };
        Self { folder: place.path().to_owned(), trusted, profile }
    }

    /// For a thread that is loaded and followed, wherever it works: Codex does not look at this then. Should it have been
    /// unloaded in the meantime, nothing of its folder runs.
    pub(crate) fn watching(folder: &str, profiles: &Profiles) -> Self {
        Self { folder: folder.into(), trusted: false, profile: Some(profiles.reading()) }
    }

    /// Where the thread works.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The parameters that the agent adds to a request, with what is `kept` of the device's own configuration.
    pub(crate) fn params(&self, kept: Map<String, Value>, folders: &dyn Folders) -> Map<String, Value> {
        let mut config = kept;
        let trust = |level: &str| json!({ "trust_level": level });
        let folder = self.folder.to_string_lossy().into_owned();
        let mut projects = Map::new();
        // Were the folder swapped for a link before Codex opens it, what it leads to is not trusted either.
        for named in folders.named() {
            projects.insert(named.to_string_lossy().into_owned(), trust("untrusted"));
        }
        if self.trusted {
            projects.insert(folder.clone(), trust("trusted"));
        } else {
            projects.insert("/".to_owned(), trust("untrusted"));
            projects.insert(folder.clone(), trust("untrusted"));
            config.insert("project_root_markers".to_owned(), json!([TOP]));
        }
        config.insert("projects".to_owned(), projects.into());
        let mut params = Map::new();
        if let Some(Profile { id, definition }) = &self.profile {
            let definition = match self.trusted {
                true => reading_elsewhere(definition.clone(), &self.folder, &folders.named()),
                false => definition.clone(),
            };
            config.insert("permissions".to_owned(), json!({ id.as_str(): definition }));
            config.insert("default_permissions".to_owned(), json!(id));
            params.insert("permissions".to_owned(), json!(id));
        }
        params.insert("config".to_owned(), config.into());
        params.insert("cwd".to_owned(), json!(folder));
        // A thread may have been recorded with more roots than its folder.
        params.insert("runtimeWorkspaceRoots".to_owned(), json!([folder]));
        params
    }
}

/// The profile, without leave to write in other folders that run what they configure: one may lie in the temporary folder, or
/// in one that the owner's configuration makes writable. What is denied stays so.
fn reading_elsewhere(mut definition: Value, own: &Path, named: &[PathBuf]) -> Value {
    let Some(filesystem) = definition.get_mut("filesystem").and_then(Value::as_object_mut) else { return definition };
    let denied: Vec<String> =
        filesystem.iter().filter(|(_, access)| *access == "deny").map(|(path, _)| path.clone()).collect();
    for named in named {
        let is_elsewhere = !own.starts_with(named) && !named.starts_with(own);
        if is_elsewhere && !denied.iter().any(|denied| named.starts_with(denied)) {
            filesystem.insert(named.to_string_lossy().into_owned(), json!("read"));
        }
    }
    definition
}

/// Whether a device may have a thread loaded or started in a place.
pub(super) fn admits(place: &Place, policy: &Policy) -> bool {
    match place {
        Place::Workspace(_) => true,
        // In a server that the agent did not start, too little keeps such a folder from running things.
        Place::Below(_) if !policy.is_own_codex => policy.scope >= Scope::Admin,
        Place::Below(_) => policy.scope >= Scope::Approve,
    }
}

/// Why a folder is refused, in words for the person at the device. The folder is named when the host knows it already.
pub(super) fn not_here(folder: Option<&Path>, why: Option<&NoPlace>, folders: &dyn Folders) -> String {
    let option = folders.option();
    let place = folder.map_or_else(|| "this folder".to_owned(), |folder| quote(folder.display()));
    let shown = folder.map_or_else(|| "FOLDER".to_owned(), |folder| shell_word(folder.display()));
    match why {
        None | Some(NoPlace::Outside) => {
            format!(
                "{place} is not a workspace of this host. Its owner opens it there with: reachback workspace add{option} {shown}"
            )
        }
        Some(NoPlace::Unnamed(_)) => {
            format!(
                "{}. Its owner opens one there with: reachback workspace add{option} FOLDER",
                why.map(ToString::to_string).unwrap_or_default()
            )
        }
        Some(why) => format!("{place} is not open to devices: {why}"),
    }
}
