//! What commands print for programs, beside what happens in an agent ([`Event`](crate::local_api::Event)).
//!
//! The table in README.md is made of these types and of the events, with what stands here above each member
//! (`cargo xtask gen`). It is a public format: members are added, never renamed, and one that has nothing to say is
//! `null`.

use reachback_proto::ids::{DeviceId, HostId, RelayId};
use reachback_proto::scope::Scope;
use serde::Serialize;

use crate::connect::host_info::CodexWord;
use crate::local_api::{Past, Threads};
use crate::state::timestamp::Timestamp;

/// A line of a command's own.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Line<'a> {
    /// What a person types at the host, to say that it is this computer that is paired there.
    Digits {
        /// Six digits.
        digits: String,
    },
    /// This computer was paired.
    Joined {
        /// The host's id.
        #[cfg_attr(test, schemars(with = "String"))]
        host_id: HostId,
        /// What people call it.
        host_name: &'a str,
        /// This computer's id there.
        #[cfg_attr(test, schemars(with = "String"))]
        device_id: DeviceId,
        /// What this computer may do there: `view`, `steer`, `approve` or `admin`.
        #[cfg_attr(test, schemars(with = "String"))]
        scope: Scope,
        /// Where its relay is.
        relay_url: &'a str,
    },
    /// A host that this computer is paired with.
    Host(HostLine<'a>),
    /// A host that this computer is no longer paired with.
    Forgotten {
        /// Its id.
        #[cfg_attr(test, schemars(with = "String"))]
        host_id: HostId,
        /// What people call it.
        host_name: &'a str,
    },
    /// The host is not there yet, and is waited for. The same words come again after a minute.
    Waiting {
        /// Its id.
        #[cfg_attr(test, schemars(with = "String"))]
        host_id: HostId,
        /// What people call it.
        host_name: &'a str,
        /// What is the matter.
        state: Waits,
        /// Since when it is offline, where that is known.
        #[cfg_attr(test, schemars(with = "Option<String>"))]
        since: Option<Timestamp>,
        /// Why there is no connection.
        reason: Option<&'a str>,
    },
    /// Where clients of Codex's app-server find the host's.
    Socket {
        /// The socket.
        path: String,
        /// What people call the host.
        host_name: &'a str,
    },
    /// A device, as it is now.
    Device(DeviceLine<'a>),
    /// Devices are kept out, or let in again.
    Paused {
        /// Whether they are kept out.
        on: bool,
        /// Which, as it was named; `null` for all.
        device: Option<&'a str>,
    },
    /// The agent has ended.
    Stopped {
        /// Its process; `null` where none ran.
        pid: Option<u32>,
    },
    /// How the host is; further lines say how its parts are.
    Status(&'a StatusLine),
    /// OpenAI's own app was paired.
    ChatgptPaired,
    /// OpenAI's own remote control is off.
    ChatgptOff {
        /// Whether it was on.
        was_on: bool,
    },
}

/// Why a host is waited for.
#[derive(Debug, Clone, Copy, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(super) enum Waits {
    /// The relay has no connection to it.
    Offline,
    /// There is no connection to the relay yet.
    Connecting,
}

/// A host that this computer is paired with.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct HostLine<'a> {
    /// Its id.
    #[cfg_attr(test, schemars(with = "String"))]
    pub(super) host_id: HostId,
    /// What people call it.
    pub(super) host_name: &'a str,
    /// `online`, `offline`, `paused`, `refused` or `unreachable`.
    pub(super) state: &'static str,
    /// Since when it is offline, where that is known.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(super) since: Option<Timestamp>,
    /// Why it is not online.
    pub(super) reason: Option<&'a str>,
    /// How Codex is there, where the host says so: as `state` of `codex`.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(super) codex: Option<CodexWord>,
    /// Its version.
    pub(super) codex_version: Option<&'a str>,
    /// Why it failed.
    pub(super) codex_reason: Option<&'a str>,
    /// What this computer may do there: `view`, `steer`, `approve` or `admin`.
    #[cfg_attr(test, schemars(with = "String"))]
    pub(super) scope: Scope,
    /// Where its relay is.
    pub(super) relay_url: &'a str,
    /// This computer's id there.
    #[cfg_attr(test, schemars(with = "String"))]
    pub(super) device_id: DeviceId,
}

/// A device, as it is now.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct DeviceLine<'a> {
    /// Its id.
    #[cfg_attr(test, schemars(with = "String"))]
    pub(super) device_id: DeviceId,
    /// In a list `connected`, `disconnected` or `paused`; after a change `scope_changed` or `revoked`.
    pub(super) state: &'a str,
    /// What people call it.
    pub(super) name: &'a str,
    /// What it says it is.
    pub(super) platform: &'a str,
    /// What it may do: `view`, `steer`, `approve` or `admin`.
    #[cfg_attr(test, schemars(with = "String"))]
    pub(super) scope: Scope,
    /// Whether it is kept out.
    pub(super) paused: bool,
    /// Whether that is because it was not seen for 90 days.
    pub(super) expired: bool,
    /// Whether that is because the relay remembers that it was revoked, and this host's list does not.
    pub(super) revoked_at_relay: bool,
    /// When it was paired.
    #[cfg_attr(test, schemars(with = "String"))]
    pub(super) added_at: Timestamp,
    /// When it was here last.
    #[cfg_attr(test, schemars(with = "String"))]
    pub(super) last_seen: Timestamp,
}

/// How the host is; what only a running agent knows is `null` without one.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct StatusLine {
    /// Whether an agent runs.
    pub(super) running: bool,
    /// Its `REACHBACK_HOME`.
    pub(super) home: String,
    /// The version of the agent.
    pub(super) version: Option<String>,
    /// Its process.
    pub(super) pid: Option<u32>,
    /// When it was started.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(super) started_at: Option<Timestamp>,
    /// The host's id.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(super) host_id: Option<HostId>,
    /// What people call it.
    pub(super) host_name: Option<String>,
    /// Where its relay is.
    pub(super) relay_url: Option<String>,
    /// The relay's id.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(super) fingerprint: Option<RelayId>,
    /// How many devices are paired.
    pub(super) devices: usize,
    /// How many of them are connected.
    pub(super) connected: Option<usize>,
    /// Whether all of them are kept out.
    pub(super) paused: bool,
    /// What the relay took to answer just now, in microseconds.
    pub(super) round_trip_us: Option<u64>,
    /// What Codex does: how many threads are in a turn, and how many of those wait for a person.
    pub(super) threads: Option<Threads>,
    /// What went wrong lately, the last five.
    pub(super) last_errors: Vec<Past>,
    /// How many texts of Codex's that devices were not told `status --withheld` prints.
    pub(super) withheld: Option<usize>,
}

#[cfg(test)]
mod table;
