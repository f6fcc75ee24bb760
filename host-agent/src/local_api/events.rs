//! What happens in an agent, for programs: `--json` prints one of these per line.
//!
//! This is a public format: fields are added, never renamed or removed, and a
//! field that has nothing to say is `null`. `pairing` holds a secret, so it is
//! shown on request only and its `Debug` says nothing.

use std::fmt;

use reachback_proto::ids::{DeviceId, HostId, RelayId};
use reachback_proto::scope::Scope;
use serde::{Deserialize, Serialize};

use crate::agent::environments::workspaces::OpenedBy;
use crate::codex::keys::Keys;
use crate::state::timestamp::Timestamp;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The host is enrolled and reachable.
    Ready {
        /// Its relay.
        relay_url: String,
        /// Its id.
        #[cfg_attr(test, schemars(with = "String"))]
        host_id: HostId,
        /// What people call it.
        host_name: String,
        /// The relay's id, to compare with what the relay's operator says.
        #[cfg_attr(test, schemars(with = "String"))]
        fingerprint: RelayId,
        /// Where its state is: the other commands' REACHBACK_HOME.
        home: String,
    },
    /// A device can be paired; a later one of these replaces it. A secret.
    Pairing {
        /// What the QR code says.
        #[cfg_attr(test, schemars(with = "String"))]
        url: Shown,
        /// What is typed where there is no camera.
        #[cfg_attr(test, schemars(with = "String"))]
        code: Shown,
        /// When both stop working.
        #[cfg_attr(test, schemars(with = "String"))]
        expires_at: Timestamp,
    },
    /// A device knows the code and shows six digits; they are to be typed here.
    PairingDigitsWanted {
        /// What the device calls itself.
        name: String,
        /// What it says it is.
        platform: String,
        /// What it may do once it is paired, unless another scope is typed behind the digits.
        #[cfg_attr(test, schemars(with = "String"))]
        scope: Scope,
    },
    /// A device was paired.
    Paired {
        /// Its id.
        #[cfg_attr(test, schemars(with = "String"))]
        device_id: DeviceId,
        /// What people call it.
        name: String,
        /// What it may do.
        #[cfg_attr(test, schemars(with = "String"))]
        scope: Scope,
    },
    /// The connection to the relay changed.
    Tunnel(TunnelStatus),
    /// A device came, went, or was changed.
    Device {
        /// Its id.
        #[cfg_attr(test, schemars(with = "String"))]
        device_id: DeviceId,
        /// What it is now.
        state: DeviceState,
    },
    /// What a device had begun in a thread was ended, as the device may begin nothing any more.
    WorkEnded {
        /// The device.
        #[cfg_attr(test, schemars(with = "String"))]
        device_id: DeviceId,
        /// The environment that it worked in.
        environment: String,
        /// The thread.
        thread_id: String,
        /// Whether its goal was paused.
        goal: bool,
        /// Prompts that were taken out of the queue.
        queued: usize,
        /// Turns that were interrupted: its own, and those of its sub-agents.
        turns: usize,
    },
    /// A device was not told what Codex said, as that may quote files of this host.
    Withheld(WithheldText),
    /// Codex changed. `status` prints one for each SSH host, too.
    Codex(CodexStatus),
    /// Whether Codex's configuration leads to this agent, for a Codex that somebody else starts.
    CodexUse(CodexUse),
    /// Whether this computer is kept awake is another matter than before, or why it is not.
    Awake(AwakeStatus),
    /// OpenAI's own remote control shows a pairing; a later one of these replaces it.
    ChatgptPairing {
        /// What is typed in its app.
        #[cfg_attr(test, schemars(with = "Option<String>"))]
        code: Option<Shown>,
        /// What a QR code says, where the pairing is a link.
        #[cfg_attr(test, schemars(with = "Option<String>"))]
        url: Option<Shown>,
        /// When both stop working.
        #[cfg_attr(test, schemars(with = "String"))]
        expires_at: Timestamp,
    },
    /// A device that was paired with OpenAI's own remote control.
    ChatgptDevice(ChatgptDevice),
    /// A folder that devices may work in, or would if something were not in the way.
    Workspace(WorkspaceStatus),
    /// A folder was opened to devices.
    WorkspaceAdded(WorkspaceStatus),
    /// A folder was closed to devices.
    WorkspaceRemoved(WorkspaceStatus),
    /// A machine that this one may reach over SSH.
    SshHost(SshHost),
    /// A machine was reached over SSH, and let this one in.
    SshChecked(SshChecked),
    /// On the way to such a machine a person is asked for something.
    SshAsked(SshAsked),
    /// A Codex was found on such a machine.
    SshCodex(SshCodex),
    /// A Codex is being installed on such a machine.
    SshInstalling(SshInstalling),
    /// A Codex was installed on such a machine.
    SshInstalled(SshInstalled),
    /// Versions of Codex that Reachback had put there before were looked at; said where there are some.
    SshSwept(SshSwept),
    /// What Reachback had started on such a machine was ended.
    SshStopped(SshStopped),
    /// A machine that is reached over SSH is an environment of this host from now on.
    SshAdded(SshEnvironment),
    /// It is none any more.
    SshRemoved(SshEnvironment),
    /// Devices may be asked what such a machine asks for from now on, or no more.
    SshAsksDevices(SshAsksDevices),
    /// Nothing is wrong, but someone should know. Codes are `no_workspace`, `work_goes_on`, `work_not_ended`,
    /// `waiting_for_codex`, `codex_way` (the agent has to be started otherwise), `codex_use_late`, `codex_config_changed`,
    /// `pairing_opened_by_codex` and `pairing_waits` (for `pair --waiting`), `codex_config`, `codex_signed_out`, `withheld_left_out` (so many `withheld` came at once that some were not told), and `ssh_config_unread` (machines of the SSH configuration may be missing).
    Notice(Failure),
    /// Something went wrong. The code is `usage` where a command was asked wrongly.
    Error(Failure),
}

impl Event {
    /// The event as one line of JSON, without a newline.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("events have string keys and no fallible values")
    }
}

/// What Codex said, and a device was not told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WithheldText {
    /// When Codex said it last.
    #[cfg_attr(test, schemars(with = "String"))]
    pub at: Timestamp,
    /// The device.
    #[cfg_attr(test, schemars(with = "String"))]
    pub device_id: DeviceId,
    /// The environment that it works in.
    pub environment: String,
    /// The method that Codex answered so, or its notification.
    pub method: String,
    /// The thread that it is about, where it is about one.
    pub thread_id: Option<String>,
    /// What it said, as far as it is printable: the first 500 characters.
    #[cfg_attr(test, schemars(with = "String"))]
    pub text: Shown,
    /// How many characters more it had.
    pub cut: usize,
}

/// The connection to the relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TunnelStatus {
    /// Whether it is there.
    pub state: TunnelState,
    /// What carries it.
    pub transport: Option<TunnelTransport>,
    /// Why it is not there, or why not over QUIC, such as the proxy that it goes through.
    pub reason: Option<String>,
}

/// Whether the relay is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TunnelState {
    /// It is.
    Connected,
    /// It was, and is tried again.
    Reconnecting,
    /// It is not, and won't be without a person.
    Down,
}

/// What carries a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TunnelTransport {
    /// WebSocket over TLS.
    Wss,
    /// A stream of a QUIC connection.
    Quic,
}

/// What became of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// It is here.
    Connected,
    /// It is not here.
    Disconnected,
    /// It is kept out.
    Paused,
    /// It is let in again.
    Resumed,
    /// It may do something else than before.
    ScopeChanged,
    /// It was taken off the list.
    Revoked,
    /// It was not seen for too long, and is off the list.
    Expired,
}

/// Codex at this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CodexStatus {
    /// The environment that it works in: `local`, the host itself.
    pub environment: String,
    /// Whether it runs.
    pub state: CodexState,
    /// How the agent reaches it: `app-server`, `remote-control`, `attach` or `ssh`.
    pub adapter: String,
    /// Where it listens, as the owner named it; with `attach`.
    #[serde(default)]
    pub address: Option<String>,
    /// Its version, once it said so.
    pub version: Option<String>,
    /// Whether it was running already, and was joined; while it is ready.
    pub joined: Option<bool>,
    /// How far Reachback's keys are kept from what it runs; while it is ready.
    pub keys: Option<Keys>,
    /// Why no further.
    pub keys_reason: Option<String>,
    /// OpenAI's own remote control of it, which leads past this agent; while it is known.
    #[serde(default)]
    pub chatgpt_remote: Option<ChatgptRemote>,
    /// What is wrong with it although it answers, for the owner to see to.
    #[serde(default)]
    pub troubles: Vec<Failure>,
    /// Why it does not answer, while it has failed.
    #[serde(default)]
    pub reason: Option<String>,
    /// What the owner does about that, where it is known.
    #[serde(default)]
    pub fix: Option<String>,
}

/// OpenAI's own remote control of a Codex, in Codex's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ChatgptRemote {
    /// Nobody reaches it from there.
    Disabled,
    /// It is on, and Codex is not connected yet.
    Connecting,
    /// It is on, and Codex is connected.
    Connected,
    /// It is on, and Codex does not get through.
    Errored,
}

impl ChatgptRemote {
    /// Whether devices reach Codex from there, now or once it gets through.
    pub fn is_on(self) -> bool {
        self != Self::Disabled
    }
}

/// A device that was paired with OpenAI's own remote control, as that tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ChatgptDevice {
    /// Its id there.
    pub id: String,
    /// What people call it.
    pub name: Option<String>,
    /// What it says it is.
    pub platform: Option<String>,
    /// When it was last there.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub last_seen: Option<Timestamp>,
}

/// Whether Codex runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CodexState {
    /// It is on a machine that is not connected: it is when a device wants to work there.
    Idle,
    /// Not yet.
    Starting,
    /// It does.
    Ready,
    /// It does not, and the agent starts none: it comes when somebody else starts it, which a `notice` event says how to do.
    Waiting,
    /// It does not answer, and is tried again from time to time; an `error` event says why.
    Failed,
    /// It ended, for good.
    Stopped,
}

/// Whether Codex's configuration leads to this agent (`reachback codex use`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CodexUse {
    /// Whether the owner wishes it: then it does while an agent runs with `--codex remote-control`.
    pub wanted: bool,
    /// The configuration.
    pub config: Option<String>,
    /// Whether it does now.
    pub leads_here: bool,
    /// What it was before the first time, where it was there.
    pub backup: Option<String>,
    /// What to know about it, for a person.
    pub notes: Vec<String>,
}

/// Whether this computer is kept awake while devices may come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AwakeStatus {
    /// Whether it is to be.
    pub on: bool,
    /// Whether it is.
    pub state: AwakeState,
    /// Why it is not, or not altogether.
    pub reason: Option<String>,
    /// What the owner does about that.
    pub fix: Option<String>,
}

/// Whether a computer is kept awake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AwakeState {
    /// Nobody wants it.
    Off,
    /// It is.
    Held,
    /// Only from what the system does by itself when nobody is there; a desktop may have it sleep all the same.
    Partly,
    /// It is not plugged in.
    OnBattery,
    /// No device could come.
    NoAccess,
    /// Nothing on this system would do it.
    NotOffered,
    /// The system does not do it.
    Failed,
    /// No agent runs that would keep it awake.
    NoAgent,
}

/// A folder that somebody opened to devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WorkspaceStatus {
    /// The environment that it is in.
    pub environment: String,
    /// Where it is.
    pub path: String,
    /// Who opened it.
    pub by: OpenedBy,
    /// Whether devices may work in it.
    pub open: bool,
    /// Why they may not.
    pub reason: Option<String>,
}

/// A machine that an SSH configuration names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SshHost {
    /// Its name there, for `ssh` and for Reachback.
    pub alias: String,
    /// Who one is there; `null`, as the next two, when `ssh` does not take the name.
    pub user: Option<String>,
    /// Its name or address in the network.
    pub host_name: Option<String>,
    /// Its port.
    pub port: Option<u16>,
    /// Machines on the way there, `[user@]host[:port]`, the first one first.
    pub jumps: Vec<String>,
    /// Whether a command of the configuration carries the connection.
    pub proxy_command: bool,
    /// The file that names it first.
    pub file: String,
    /// The line there, from 1.
    pub line: usize,
    /// Why `ssh` does not take it.
    pub error: Option<String>,
    /// Whether it is an environment of this host.
    pub added: bool,
    /// Whether devices may be asked what it asks for beside a key.
    pub asks_devices: bool,
}

/// A machine that is reached over SSH, as an environment of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SshEnvironment {
    /// Its name in the SSH configuration.
    pub alias: String,
    /// What devices, channels and the audit log call it.
    pub environment: String,
}

/// Whether devices may be asked what a machine asks for that is reached over SSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SshAsksDevices {
    /// Its name in the SSH configuration.
    pub alias: String,
    /// What devices, channels and the audit log call it.
    pub environment: String,
    /// Whether they may be.
    pub on: bool,
}

/// How a machine was reached over SSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SshChecked {
    /// Its name in the SSH configuration.
    pub alias: String,
    /// Who one is there.
    pub user: String,
    /// SHA-256 of its key.
    pub fingerprint: Option<String>,
    /// What let one in, for people.
    pub by: String,
}

/// What a person is asked on the way to a machine that is reached over SSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "for", rename_all = "snake_case")]
pub enum SshAsked {
    /// Whether a machine that nobody knows is the one that is meant.
    Trust {
        /// The machine, as `known_hosts` spells it.
        host: String,
        /// The kind of its key, `ssh-ed25519`.
        kind: String,
        /// SHA-256 of it, as `ssh-keygen -l` shows it.
        fingerprint: String,
        /// Where the machine is known by a key of another kind.
        other: Option<String>,
    },
    /// What opens a key.
    Passphrase {
        /// The key's file.
        file: String,
    },
    /// A password of the machine's user.
    Password {
        /// `user@machine`.
        at: String,
    },
    /// What the machine wants to know.
    Answer {
        /// `user@machine`.
        at: String,
        /// Its own words, which may say anything.
        words: String,
        /// Whether the answer may be seen while it is typed.
        echo: bool,
    },
}

/// The Codex of a machine that is reached over SSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SshCodex {
    /// The machine's name in the SSH configuration.
    pub alias: String,
    /// The file of its program.
    pub program: String,
    /// Its version, where it says one.
    pub version: Option<String>,
    /// Where it has its state.
    pub codex_home: String,
    /// The machine's system and processor.
    pub system: String,
    /// Whether somebody has signed in, where it says that.
    pub signed_in: Option<bool>,
    /// Whether an app-server runs there.
    pub running: bool,
    /// Whether that was started by Reachback.
    pub started_here: bool,
    /// How it is reached: `socket` or `proxy`.
    pub reached_by: Option<String>,
}

/// A step of an install on a machine that is reached over SSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SshInstalling {
    /// The machine's name in the SSH configuration.
    pub alias: String,
    /// `npm` (it installs there), `fetch` (npm fetches the package here), `send` (it is sent there), or `unpack`.
    pub step: String,
    /// Of `send`: how many bytes are there.
    pub done: Option<u64>,
    /// Of `send`: how many there will be.
    pub total: Option<u64>,
}

/// A Codex that was installed on a machine that is reached over SSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SshInstalled {
    /// The machine's name in the SSH configuration.
    pub alias: String,
    /// The version.
    pub version: String,
    /// How: `npm` there, or the `package` that was sent there.
    pub by: String,
    /// The file there that should have one more line, where a person's own shell does not find it.
    pub path_file: Option<String>,
    /// That line.
    pub path_line: Option<String>,
}

/// Versions of Codex that older installs had left on a machine that is reached over SSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SshSwept {
    /// The machine's name in the SSH configuration.
    pub alias: String,
    /// Those that were removed.
    pub removed: Vec<String>,
    /// Those that are still there, as something runs from them, or nobody can say whether it does.
    pub kept: Vec<String>,
}

/// What was ended on a machine that is reached over SSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SshStopped {
    /// The machine's name in the SSH configuration.
    pub alias: String,
    /// The process there that Reachback had started; `null` where none ran.
    pub pid: Option<u32>,
    /// Whether an app-server that somebody else started goes on there.
    pub others: bool,
}

/// The `code` of the failure of a Codex that does not start; its `codex` event says the same.
pub(crate) const CODEX_FAILED: &str = "codex_failed";

/// What went wrong, or what to know, for a program and a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[error("{message}")]
pub struct Failure {
    /// A stable word.
    pub code: String,
    /// What went wrong.
    pub message: String,
    /// What to do about it.
    pub fix: Option<String>,
}

impl Failure {
    /// A failure.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), fix: None }
    }

    /// The same, with what to do about it.
    pub fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }
}

/// Text that lets a device in, or quotes what devices may not see: shown to the person or typed by them, never for a log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shown(pub String);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown(…)")
    }
}

#[cfg(test)]
mod tests {
    use reachback_proto::ids::PublicKey;

    use super::*;

    #[test]
    fn each_event_is_the_line_that_programs_rely_on() {
        let key = PublicKey([7; 32]);
        let (host_id, device_id, fingerprint) = (HostId::of(&key), DeviceId::of(&key), RelayId::of(&key));
        let cases = [
            (
                Event::Ready {
                    relay_url: "https://r".into(),
                    host_id,
                    host_name: "tower".into(),
                    fingerprint,
                    home: "/srv/rb".into(),
                },
                format!(
                    r#"{{"event":"ready","relay_url":"https://r","host_id":"{host_id}","host_name":"tower","fingerprint":"{fingerprint}","home":"/srv/rb"}}"#
                ),
            ),
            (
                Event::Pairing {
                    url: Shown("HTTPS://R/#X".into()),
                    code: Shown("ABCD-EFGH".into()),
                    expires_at: Timestamp::from_unix(1_795_413_540),
                },
                r#"{"event":"pairing","url":"HTTPS://R/#X","code":"ABCD-EFGH","expires_at":"2026-11-23T05:59:00Z"}"#
                    .into(),
            ),
            (
                Event::PairingDigitsWanted { name: "phone".into(), platform: "iOS".into(), scope: Scope::Steer },
                r#"{"event":"pairing_digits_wanted","name":"phone","platform":"iOS","scope":"steer"}"#.into(),
            ),
            (
                Event::Paired { device_id, name: "phone".into(), scope: Scope::Approve },
                format!(r#"{{"event":"paired","device_id":"{device_id}","name":"phone","scope":"approve"}}"#),
            ),
            (
                Event::Tunnel(TunnelStatus {
                    state: TunnelState::Connected,
                    transport: Some(TunnelTransport::Quic),
                    reason: None,
                }),
                r#"{"event":"tunnel","state":"connected","transport":"quic","reason":null}"#.into(),
            ),
            (
                Event::Device { device_id, state: DeviceState::ScopeChanged },
                format!(r#"{{"event":"device","device_id":"{device_id}","state":"scope_changed"}}"#),
            ),
            (
                Event::Withheld(WithheldText {
                    at: Timestamp::from_unix(1_795_413_540),
                    device_id,
                    environment: "local".into(),
                    method: "config/read".into(),
                    thread_id: None,
                    text: Shown("api_key = oops".into()),
                    cut: 7,
                }),
                format!(
                    r#"{{"event":"withheld","at":"2026-11-23T05:59:00Z","device_id":"{device_id}","environment":"local","method":"config/read","thread_id":null,"text":"api_key = oops","cut":7}}"#
                ),
            ),
            (
                Event::Codex(CodexStatus {
                    environment: "local".into(),
                    state: CodexState::Ready,
                    adapter: "app-server".into(),
                    address: None,
                    version: None,
                    joined: Some(false),
                    keys: Some(Keys::Partly),
                    keys_reason: Some("why".into()),
                    chatgpt_remote: Some(ChatgptRemote::Connected),
                    troubles: vec![Failure::new("disk_full", "full").fix("make room")],
                    reason: None,
                    fix: None,
                }),
                r#"{"event":"codex","environment":"local","state":"ready","adapter":"app-server","address":null,"version":null,"joined":false,"keys":"partly","keys_reason":"why","chatgpt_remote":"connected","troubles":[{"code":"disk_full","message":"full","fix":"make room"}],"reason":null,"fix":null}"#
                    .into(),
            ),
            (
                Event::CodexUse(CodexUse {
                    wanted: true,
                    config: Some("/c/config.toml".into()),
                    leads_here: false,
                    backup: None,
                    notes: vec!["a note".into()],
                }),
                r#"{"event":"codex_use","wanted":true,"config":"/c/config.toml","leads_here":false,"backup":null,"notes":["a note"]}"#
                    .into(),
            ),
            (
                Event::Awake(AwakeStatus {
                    on: true,
                    state: AwakeState::OnBattery,
                    reason: Some("why".into()),
                    fix: Some("plug it in".into()),
                }),
                r#"{"event":"awake","on":true,"state":"on_battery","reason":"why","fix":"plug it in"}"#.into(),
            ),
            (
                Event::ChatgptPairing {
                    code: Some(Shown("LAB4-2345".into())),
                    url: None,
                    expires_at: Timestamp::from_unix(1_795_413_540),
                },
                r#"{"event":"chatgpt_pairing","code":"LAB4-2345","url":null,"expires_at":"2026-11-23T05:59:00Z"}"#
                    .into(),
            ),
            (
                Event::ChatgptDevice(ChatgptDevice {
                    id: "cl-1".into(),
                    name: Some("phone".into()),
                    platform: None,
                    last_seen: None,
                }),
                r#"{"event":"chatgpt_device","id":"cl-1","name":"phone","platform":null,"last_seen":null}"#.into(),
            ),
            (
                Event::WorkspaceAdded(WorkspaceStatus {
                    environment: "local".into(),
                    path: "/srv/project".into(),
                    by: OpenedBy::Owner,
                    open: true,
                    reason: None,
                }),
                r#"{"event":"workspace_added","environment":"local","path":"/srv/project","by":"owner","open":true,"reason":null}"#
                    .into(),
            ),
            (
                Event::Workspace(WorkspaceStatus {
                    environment: "local".into(),
                    path: "/srv".into(),
                    by: OpenedBy::Codex,
                    open: false,
                    reason: Some("it is a link".into()),
                }),
                r#"{"event":"workspace","environment":"local","path":"/srv","by":"codex","open":false,"reason":"it is a link"}"#
                    .into(),
            ),
            (
                Event::SshHost(SshHost {
                    alias: "devbox".into(),
                    user: Some("ada".into()),
                    host_name: Some("192.0.2.7".into()),
                    port: Some(22),
                    jumps: vec!["jump".into()],
                    proxy_command: false,
                    file: "/home/ada/.ssh/config".into(),
                    line: 3,
                    error: None,
                    added: true,
                    asks_devices: false,
                }),
                r#"{"event":"ssh_host","alias":"devbox","user":"ada","host_name":"192.0.2.7","port":22,"jumps":["jump"],"proxy_command":false,"file":"/home/ada/.ssh/config","line":3,"error":null,"added":true,"asks_devices":false}"#
                    .into(),
            ),
            (
                Event::SshChecked(SshChecked {
                    alias: "devbox".into(),
                    user: "ada".into(),
                    fingerprint: Some("SHA256:x".into()),
                    by: "a password".into(),
                }),
                r#"{"event":"ssh_checked","alias":"devbox","user":"ada","fingerprint":"SHA256:x","by":"a password"}"#.into(),
            ),
            (
                Event::SshAsked(SshAsked::Trust {
                    host: "[192.0.2.7]:22".into(),
                    kind: "ssh-ed25519".into(),
                    fingerprint: "SHA256:x".into(),
                    other: None,
                }),
                r#"{"event":"ssh_asked","for":"trust","host":"[192.0.2.7]:22","kind":"ssh-ed25519","fingerprint":"SHA256:x","other":null}"#.into(),
            ),
            (
                Event::SshAsked(SshAsked::Passphrase { file: "/home/ada/.ssh/id".into() }),
                r#"{"event":"ssh_asked","for":"passphrase","file":"/home/ada/.ssh/id"}"#.into(),
            ),
            (
                Event::SshAsked(SshAsked::Password { at: "ada@devbox".into() }),
                r#"{"event":"ssh_asked","for":"password","at":"ada@devbox"}"#.into(),
            ),
            (
                Event::SshAsked(SshAsked::Answer { at: "ada@devbox".into(), words: "Code:".into(), echo: true }),
                r#"{"event":"ssh_asked","for":"answer","at":"ada@devbox","words":"Code:","echo":true}"#.into(),
            ),
            (
                Event::SshCodex(SshCodex {
                    alias: "devbox".into(),
                    program: "/usr/bin/codex".into(),
                    version: Some("0.169.0".into()),
                    codex_home: "/home/ada/.codex".into(),
                    system: "Linux x86_64".into(),
                    signed_in: Some(false),
                    running: true,
                    started_here: true,
                    reached_by: Some("socket".into()),
                }),
                r#"{"event":"ssh_codex","alias":"devbox","program":"/usr/bin/codex","version":"0.169.0","codex_home":"/home/ada/.codex","system":"Linux x86_64","signed_in":false,"running":true,"started_here":true,"reached_by":"socket"}"#
                    .into(),
            ),
            (
                Event::SshInstalling(SshInstalling {
                    alias: "devbox".into(),
                    step: "send".into(),
                    done: Some(1),
                    total: Some(2),
                }),
                r#"{"event":"ssh_installing","alias":"devbox","step":"send","done":1,"total":2}"#.into(),
            ),
            (
                Event::SshInstalled(SshInstalled {
                    alias: "devbox".into(),
                    version: "0.169.0".into(),
                    by: "npm".into(),
                    path_file: None,
                    path_line: None,
                }),
                r#"{"event":"ssh_installed","alias":"devbox","version":"0.169.0","by":"npm","path_file":null,"path_line":null}"#
                    .into(),
            ),
            (
                Event::SshSwept(SshSwept {
                    alias: "devbox".into(),
                    removed: vec!["0.167.0".into()],
                    kept: vec!["0.168.0".into()],
                }),
                r#"{"event":"ssh_swept","alias":"devbox","removed":["0.167.0"],"kept":["0.168.0"]}"#.into(),
            ),
            (
                Event::SshStopped(SshStopped { alias: "devbox".into(), pid: Some(7), others: false }),
                r#"{"event":"ssh_stopped","alias":"devbox","pid":7,"others":false}"#.into(),
            ),
            (
                Event::SshAdded(SshEnvironment { alias: "devbox".into(), environment: "ssh:devbox".into() }),
                r#"{"event":"ssh_added","alias":"devbox","environment":"ssh:devbox"}"#.into(),
            ),
            (
                Event::SshRemoved(SshEnvironment { alias: "devbox".into(), environment: "ssh:devbox".into() }),
                r#"{"event":"ssh_removed","alias":"devbox","environment":"ssh:devbox"}"#.into(),
            ),
            (
                Event::SshAsksDevices(SshAsksDevices {
                    alias: "devbox".into(),
                    environment: "ssh:devbox".into(),
                    on: true,
                }),
                r#"{"event":"ssh_asks_devices","alias":"devbox","environment":"ssh:devbox","on":true}"#.into(),
            ),
            (
                Event::Notice(Failure::new("no_workspace", "no folder").fix("add one")),
                r#"{"event":"notice","code":"no_workspace","message":"no folder","fix":"add one"}"#.into(),
            ),
            (
                Event::Error(Failure::new("no_relay", "the relay does not answer").fix("start it")),
                r#"{"event":"error","code":"no_relay","message":"the relay does not answer","fix":"start it"}"#.into(),
            ),
        ];
        for (event, line) in cases {
            assert_eq!(event.to_line(), line);
            assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
        }
    }

    #[test]
    fn pairing_secrets_do_not_print() {
        let shown = Shown("HTTPS://R/#SECRET".into());
        let event = Event::Pairing { url: shown.clone(), code: shown, expires_at: Timestamp::from_unix(0) };
        assert!(!format!("{event:?}").contains("SECRET"));
    }
}
