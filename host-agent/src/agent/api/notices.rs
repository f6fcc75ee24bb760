//! Notifications: what sessions are told without having asked.
//!
//! Any part of the agent tells all sessions through [`Notices`]; each session
//! leaves out what its device's scope does not allow. A session that can't keep
//! up, or whose device is away, gets [`Notice::Missed`] in place of what it
//! missed. So a notice has to be something that can be read anew, and the last
//! one of a kind is the one that holds.

use std::sync::Arc;

use reachback_proto::scope::Scope;
use serde::Serialize;
use tokio::sync::broadcast;

use super::asking::SshAsked;
use super::attention::AttentionChanged;
use super::awake::KeepAwakeInfo;
use super::devices::DeviceChanged;
use super::environments::{EnvironmentInfo, EnvironmentRemoved};
use super::folders::WorkspacesChanged;
use super::host::HostInfo;
use super::prompts::Receipt;
use super::requests::{RequestClosed, RequestInfo, RequestShown};

/// Notices that wait for a session's task, which hands them on at once.
const WAITING: usize = 256;

/// A notification.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "Notification"))]
#[serde(tag = "method", content = "params")]
pub(crate) enum Notice {
    /// A member of `host/read`'s result is another now.
    #[serde(rename = "host/changed")]
    HostChanged(Box<HostInfo>),
    /// The host's computer goes to sleep, and the link ends.
    #[serde(rename = "host/asleep")]
    HostAsleep {},
    /// Codex is in another state in one environment.
    #[serde(rename = "environment/changed")]
    EnvironmentChanged(EnvironmentInfo),
    /// There is no environment of this name any more.
    #[serde(rename = "environment/removed")]
    EnvironmentRemoved(EnvironmentRemoved),
    /// Other folders of an environment are open to devices.
    #[serde(rename = "workspace/changed")]
    WorkspacesChanged(WorkspacesChanged),
    /// A device was paired, changed or revoked, or came or went.
    #[serde(rename = "device/changed")]
    DeviceChanged(DeviceChanged),
    /// Whether the host's computer is kept awake is another matter than before, or why it is not.
    #[serde(rename = "keepAwake/changed")]
    KeepAwakeChanged(KeepAwakeInfo),
    /// Something came of a prompt of this device.
    #[serde(rename = "prompt/changed")]
    PromptChanged(Receipt),
    /// Codex asks something, or something else than before.
    #[serde(rename = "request/opened")]
    RequestOpened(Box<RequestInfo>),
    /// One more device was shown a request.
    #[serde(rename = "request/shown")]
    RequestShown(RequestShown),
    /// A request needs no answer any more.
    #[serde(rename = "request/closed")]
    RequestClosed(RequestClosed),
    /// A thread runs, wants somebody or has ended, or there is nothing to be said of it any more.
    #[serde(rename = "attention/changed")]
    AttentionChanged(Box<AttentionChanged>),
    /// A machine that is reached over SSH asks something of the person at this device, which had the host log in there.
    #[serde(rename = "ssh/asked")]
    SshAsked(Box<SshAsked>),
    /// Notifications were left out: read anew what is shown.
    #[serde(rename = "notices/missed")]
    Missed {},
}

impl Notice {
    /// The scope of those who hear it.
    pub(super) fn needed(&self) -> Scope {
        match self {
            Self::DeviceChanged(_) | Self::KeepAwakeChanged(_) | Self::SshAsked(_) => Scope::Admin,
            Self::HostChanged(_)
            | Self::HostAsleep {}
            | Self::EnvironmentChanged(_)
            | Self::EnvironmentRemoved(_)
            | Self::WorkspacesChanged(_)
            | Self::PromptChanged(_)
            | Self::RequestOpened(_)
            | Self::RequestShown(_)
            | Self::RequestClosed(_)
            | Self::AttentionChanged(_)
            | Self::Missed {} => Scope::View,
        }
    }
}

/// The way to all sessions; cheap to clone.
#[derive(Clone)]
pub(crate) struct Notices(broadcast::Sender<Arc<Notice>>);

impl Default for Notices {
    fn default() -> Self {
        Self(broadcast::Sender::new(WAITING))
    }
}

impl Notices {
    /// Tells all sessions.
    pub(crate) fn tell(&self, notice: Notice) {
        // Nobody listening is fine.
        let _ = self.0.send(Arc::new(notice));
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Arc<Notice>> {
        self.0.subscribe()
    }
}
