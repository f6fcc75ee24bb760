//! What a line says.

use reachback_proto::frame::LOCAL_ENVIRONMENT;
use reachback_proto::ids::DeviceId;
use reachback_proto::scope::Scope;
use serde::{Deserialize, Serialize};

use crate::state::timestamp::Timestamp;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// About a device.
    Device(Entry),
    /// About a folder.
    Folder(FolderEntry),
    /// About an environment's Codex.
    Codex(CodexEntry),
    /// About the computer's sleep. What every line has is all that it has: so it comes last.
    Awake(AwakeEntry),
}

/// What a device did, or what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// Which device acted, or was changed.
    pub device_id: DeviceId,
    /// The device by whose word it was changed; none where it acted itself, or the owner changed it at the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<DeviceId>,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// The device asked Codex for something, or answered it.
    Action {
        /// The environment that it worked in. Lines of before there were several name none: that was `local`.
        #[serde(default = "local")]
        environment: String,
        /// Codex's method, or that of the request that was answered.
        method: Option<String>,
        /// The thread.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        thread: Option<String>,
        /// `passed`, `trimmed`, `lessened`, `refused`, `withheld` or `answered`.
        decision: String,
        /// For a refusal: `scope`, `method`, `params`, `malformed`, `not_open`, `digest` or `age`; `other` where
        /// refusals of many kinds are counted together. For what passed, `unguarded`: the model was let act in a thread under
        /// another permission profile than the agent's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// For an answer that passed: `accept`, `acceptForLonger`, `decline`, `cancel` or `answer`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answer: Option<String>,
        /// For what passed: the folder that was named, or that the thread was opened in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        folder: Option<String>,
        /// What the device was allowed at the time.
        scope: Scope,
        /// For refusals that repeat one in an earlier line: how many there were from `at` on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<u64>,
        /// When the last of them came.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
    /// The device was paired.
    Paired {
        /// What it may do.
        scope: Scope,
    },
    /// The device may do something else from now on.
    ScopeChanged {
        /// What it may do.
        scope: Scope,
    },
    /// The device was taken off the list.
    Revoked,
    /// The device is kept out.
    Paused {
        /// Where nobody asked for it: `expired`, the device was not seen for 90 days, or `revoked_at_relay`, the relay
        /// knows it as revoked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The device is let in again.
    Resumed,
    /// The agent ended what the device had begun in a thread, as the device may begin nothing any more.
    WorkEnded {
        /// The environment that it worked in.
        environment: String,
        /// The thread.
        thread: String,
        /// Whether its goal was paused.
        goal: bool,
        /// Prompts that were taken out of the queue.
        queued: usize,
        /// Turns that were interrupted: its own, and those of its sub-agents.
        turns: usize,
    },
}

/// The host's owner opened or closed a folder to devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderEntry {
    /// When.
    pub at: Timestamp,
    /// What happened to it.
    pub event: FolderChange,
    /// The environment that it is in.
    pub environment: String,
    /// The folder.
    pub path: String,
}

/// What happened to a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FolderChange {
    /// It was opened.
    WorkspaceAdded,
    /// It was closed.
    WorkspaceRemoved,
}

/// The host's owner changed how an environment's Codex is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodexEntry {
    /// When.
    pub at: Timestamp,
    /// What happened to it.
    pub event: CodexChange,
    /// The environment.
    pub environment: String,
    /// The device that did it; nothing where the owner did at the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<DeviceId>,
}

/// What happened to a Codex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CodexChange {
    /// OpenAI's own remote control was turned on there.
    ChatgptRemoteOn,
    /// It was turned off.
    ChatgptRemoteOff,
    /// A machine that is reached over SSH became an environment.
    SshHostAdded,
    /// It is none any more.
    SshHostRemoved,
    /// Devices may be asked what such a machine asks for beside a key.
    SshCodesOn,
    /// They may not any more.
    SshCodesOff,
}

/// The computer is to be kept awake while devices may come, or no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwakeEntry {
    /// When.
    pub at: Timestamp,
    /// What was turned.
    pub event: AwakeChange,
    /// The device that did it; nothing where the owner did at the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<DeviceId>,
}

/// What was turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AwakeChange {
    /// It was turned on.
    KeepAwakeOn,
    /// It was turned off.
    KeepAwakeOff,
}

impl Line {
    /// When it was written.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Device(entry) => entry.at,
            Self::Folder(entry) => entry.at,
            Self::Codex(entry) => entry.at,
            Self::Awake(entry) => entry.at,
        }
    }

    /// Whether it says how often something was refused again.
    pub(super) fn counts_repeats(&self) -> bool {
        matches!(self, Self::Device(Entry { what: What::Action { count: Some(_), .. }, .. }))
    }
}

pub(super) fn local() -> String {
    LOCAL_ENVIRONMENT.to_owned()
}
