//! The running agent, for other commands of this user.
//!
//! The agent listens on a socket in its private runtime directory; the uid of
//! the peer is checked at both ends ([`crate::platform::socket`]). `reachback
//! pair`, `devices`, `doctor` and scripts talk to it in lines of JSON:
//!
//! ```text
//!   command → agent   {"request":"pair","scope":"approve",…}       one request per connection
//!   agent → command   {"event":{"event":"pairing","url":…}}        any number of events
//!   command → agent   {"answer":"digits","digits":"042137"}        where an event asks for it
//!   agent → command   {"done":{…}} or {"failed":{…}}               then the agent closes
//! ```
//!
//! A command that goes away takes its request with it: the agent drops the
//! work, and a pairing that was open is closed. Lines are bounded: [`MAX_REQUEST`]
//! to the agent, [`MAX_REPLY`] from it.
//!
//! [`events`] are the same ones that `--json` prints, and are a public format.

use reachback_proto::ids::{DeviceId, HostId, RelayId};
use reachback_proto::scope::Scope;
use serde::{Deserialize, Serialize};

use crate::state::devices::Device;
use crate::state::timestamp::Timestamp;

pub(crate) mod client;
pub(crate) mod events;
pub(crate) mod server;

pub use client::{Client, ClientError};
pub use events::{
    AwakeState, AwakeStatus, ChatgptDevice, ChatgptRemote, CodexStatus, CodexUse, Event, Failure, Shown, SshAsked,
    SshAsksDevices, SshChecked, SshCodex, SshEnvironment, SshHost, SshInstalled, SshInstalling, SshStopped, SshSwept,
    TunnelState, TunnelStatus, TunnelTransport, WithheldText, WorkspaceStatus,
};
pub use server::{Exchange, Handler, serve};

/// Longest line to the agent, in bytes. Requests are under 1 KiB; the rest is room for settings to come.
pub const MAX_REQUEST: usize = 64 * 1024;
/// Longest line from the agent, in bytes: 256 devices at under 700 B are 175 KiB.
pub const MAX_REPLY: usize = 256 * 1024;
/// The socket's name in the runtime directory.
pub const SOCKET: &str = "agent.sock";

/// What a command asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// How the agent is: [`Response::Status`].
    Status,
    /// What devices were not told lately: an event `withheld` each, the newest first, then [`Response::Done`].
    Withheld,
    /// The devices of this host: [`Response::Devices`].
    Devices,
    /// Take a device off the list: [`Response::Device`].
    Revoke {
        /// Its name, id, or the start of its id.
        device: String,
    },
    /// Change what a device may do: [`Response::Device`].
    SetScope {
        /// Its name, id, or the start of its id.
        device: String,
        /// What it may do from now on.
        scope: Scope,
    },
    /// Keep one device or all of them out, or let them in again: [`Response::Done`].
    Pause {
        /// A name, id, or the start of an id; without it, all.
        device: Option<String>,
        /// Out or in.
        on: bool,
    },
    /// Folders that somebody opened to devices: an event `workspace` each, then [`Response::Done`].
    Workspaces,
    /// Open a folder to devices: [`Response::Workspace`].
    AddWorkspace {
        /// The environment that it is in; without it, the host's own.
        #[serde(default)]
        environment: Option<String>,
        /// Its absolute path; on another machine, one below the home folder there will do.
        path: String,
    },
    /// Close a folder to devices: [`Response::Workspace`].
    RemoveWorkspace {
        /// The environment that it is in; without it, the host's own.
        #[serde(default)]
        environment: Option<String>,
        /// Its absolute path; on another machine, one below the home folder there will do.
        path: String,
    },
    /// Make a machine of the SSH configuration an environment of this host: [`Response::SshHost`].
    AddSshHost {
        /// Its name there.
        alias: String,
    },
    /// Take one back: [`Response::SshHost`].
    RemoveSshHost {
        /// Its name.
        alias: String,
    },
    /// Have devices asked what one asks for beside a key, or not: [`Response::SshAsksDevices`].
    AskDevices {
        /// Its name.
        alias: String,
        /// Whether they may be.
        on: bool,
    },
    /// Connect to one, whatever a person is asked on the way: events `ssh_asked`, each answered by [`Answer::Typed`],
    /// [`Answer::Trusted`] or [`Answer::Decline`], then [`Response::SshConnected`].
    LoginSshHost {
        /// Its name.
        alias: String,
    },
    /// Pair a device: events `pairing`, `pairing_digits_wanted`, `paired`, then [`Response::Device`].
    Pair {
        /// What it may do; without it, what the agent's configuration says.
        scope: Option<Scope>,
        /// How the person confirms it.
        confirm: Confirm,
        /// How long to wait for it, in seconds; codes are renewed meanwhile.
        ttl_seconds: u32,
    },
    /// Pair the device that takes the code that Codex shows: events as for [`Self::Pair`], then [`Response::Device`].
    PairWaiting,
    /// Have Codex's configuration lead here while the agent runs, and wait for whom that brings: [`Response::CodexUse`].
    UseCodex {
        /// The `CODEX_HOME`; without it, the agent's.
        codex_home: Option<String>,
    },
    /// End that, and put back what was there before: [`Response::CodexUse`].
    RestoreCodex,
    /// Turn OpenAI's own remote control on at Codex, and pair a device with it there: events `chatgpt_pairing`, then
    /// [`Response::ChatgptPaired`].
    ChatgptPair {
        /// How long to wait for it, in seconds; codes are renewed meanwhile.
        ttl_seconds: u32,
    },
    /// The devices that were paired there: an event `chatgpt_device` each, then [`Response::Done`].
    ChatgptDevices,
    /// Have one of them revoked there: [`Response::ChatgptRevoked`].
    ChatgptRevoke {
        /// Its name, id, or the start of its id.
        device: String,
    },
    /// Turn it off: [`Response::ChatgptOff`].
    ChatgptOff,
    /// Keep this computer awake while devices may come, or not; or only say how it is: [`Response::Awake`].
    Awake {
        /// On or off; without it, as it is.
        on: Option<bool>,
    },
    /// Stop the agent: [`Response::Done`].
    Stop,
}

/// How a pairing is confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confirm {
    /// The person types the digits that the device shows.
    Digits,
    /// Not at all: whoever has the code is let in. For programs (`--yes`).
    None,
}

/// What a command says while its request runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// The digits that the device shows. When they are not six, the agent asks again.
    Digits {
        /// As typed; spaces and dashes don't matter.
        digits: Shown,
        /// What the device may do, where that is chosen here: in place of the scope that the event tells.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scope: Option<Scope>,
    },
    /// What a person typed for a machine.
    Typed {
        /// A passphrase, a password or a code.
        text: Shown,
    },
    /// The machine with this key is the one that is meant.
    Trusted,
    /// This is not the device, or the machine; or nothing was typed.
    Decline,
}

/// How a request ended well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Response {
    /// How the agent is.
    Status(Box<Status>),
    /// The devices of this host.
    Devices {
        /// Whether all of them are kept out.
        paused: bool,
        /// Oldest first.
        devices: Vec<DeviceInfo>,
    },
    /// The device that was paired, changed or revoked.
    Device(DeviceInfo),
    /// The folder that was opened or closed.
    Workspace(WorkspaceStatus),
    /// The machine that was added or taken back.
    SshHost(SshEnvironment),
    /// Whether devices may be asked what a machine asks for.
    SshAsksDevices(SshAsksDevices),
    /// How a machine was reached that is connected now.
    SshConnected(SshChecked),
    /// Whether Codex's configuration leads here, and what should be known about that.
    CodexUse {
        /// How it is now.
        now: CodexUse,
        /// What is in the way, or was.
        but: Option<Failure>,
    },
    /// Whether this computer is kept awake.
    Awake(AwakeStatus),
    /// A device was paired with OpenAI's own remote control.
    ChatgptPaired,
    /// The device that was revoked there.
    ChatgptRevoked(ChatgptDevice),
    /// OpenAI's own remote control is off.
    ChatgptOff {
        /// Whether it was on before.
        was_on: bool,
    },
    /// It is done.
    Done,
}

/// How the agent is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// This build of Reachback.
    pub version: String,
    /// The agent's process.
    pub pid: u32,
    /// When it started.
    pub started_at: Timestamp,
    /// The host.
    pub host_id: HostId,
    /// What people call it.
    pub host_name: String,
    /// Its relay.
    pub relay_url: Option<String>,
    /// The relay's id.
    pub fingerprint: Option<RelayId>,
    /// The connection to the relay.
    pub tunnel: TunnelStatus,
    /// Codex, as far as it was started.
    pub codex: Option<CodexStatus>,
    /// The same on each machine that is reached over SSH.
    #[serde(default)]
    pub ssh_hosts: Vec<CodexStatus>,
    /// Whether Codex's configuration leads here; `None` where nobody asked for it.
    #[serde(default)]
    pub codex_use: Option<CodexUse>,
    /// Whether this computer is kept awake; `None` where nobody wants it.
    #[serde(default)]
    pub awake: Option<AwakeStatus>,
    /// How many devices are paired.
    pub devices: usize,
    /// Which of them are connected.
    pub connected: Vec<DeviceId>,
    /// Whether all of them are kept out.
    pub paused: bool,
    /// How long the relay took to answer just now, in microseconds.
    #[serde(default)]
    pub round_trip_us: Option<u64>,
    /// What Codex does, in all environments.
    #[serde(default)]
    pub threads: Threads,
    /// What went wrong last, the newest first.
    #[serde(default)]
    pub last_errors: Vec<Past>,
    /// How many texts that devices were not told can be read: [`Request::Withheld`].
    #[serde(default)]
    pub withheld: usize,
}

/// How many threads there are that somebody may want to look at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Threads {
    /// In a turn.
    pub running: usize,
    /// In a turn that waits for an approval or an answer.
    pub waiting: usize,
}

/// Something that went wrong, and may be over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Past {
    /// When it was told last.
    #[cfg_attr(test, schemars(with = "String"))]
    pub at: Timestamp,
    /// What it was.
    #[serde(flatten)]
    pub failure: Failure,
}

/// A device, without its keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// Its id.
    pub device_id: DeviceId,
    /// What people call it.
    pub name: String,
    /// What it said it is.
    pub platform: String,
    /// What it may do.
    pub scope: Scope,
    /// Whether it is kept out.
    pub paused: bool,
    /// Whether that is because it was not seen for long.
    #[serde(default)]
    pub expired: bool,
    /// Whether that is because the relay knows it as revoked.
    #[serde(default)]
    pub revoked_at_relay: bool,
    /// Whether it is here now.
    pub connected: bool,
    /// When it was paired.
    pub added_at: Timestamp,
    /// When it was last connected.
    pub last_seen: Timestamp,
}

impl DeviceInfo {
    /// What may be told about a device.
    pub fn new(device: &Device, connected: bool) -> Self {
        Self {
            device_id: device.device_id,
            name: device.name.clone(),
            platform: device.platform.clone(),
            scope: device.scope,
            paused: device.paused,
            expired: device.expired,
            revoked_at_relay: device.revoked_at_relay,
            connected,
            added_at: device.added_at,
            last_seen: device.last_seen,
        }
    }
}

/// What the agent says on a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Something happened; the request goes on.
    Event(Event),
    /// The request is done.
    Done(Response),
    /// The request could not be done.
    Failed(Failure),
}

#[cfg(test)]
mod tests;
