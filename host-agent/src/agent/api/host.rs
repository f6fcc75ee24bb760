//! `host/read`: who the host is, and what can be asked of it.

use std::sync::atomic::Ordering;

use reachback_proto::ids::{DeviceId, HostId, PublicKey};
use reachback_proto::scope::Scope;
use reachback_proto::session::{MAX_MESSAGE_TO_DEVICE, MAX_MESSAGE_TO_HOST, SessionLimits};
use serde::{Deserialize, Serialize};

use super::environments::CodexInfo;
use super::error::Refusal;
use super::{ApiContext, Call, Caller, MAX_PROMPT, MAX_REQUEST};
use crate::agent::prompts;
use crate::agent::sessions::{DETACHED_LIMIT, MAX_PER_DEVICE};

/// Of what stands here. It grows when something that is here means something else, and then both are served for a while.
const API_VERSION: u32 = 1;
/// What a client may ask for beside `host/read`, by name. A name never changes its meaning.
const FEATURES: &[&str] = &[
    "account",
    "answers",
    "attention",
    "devices",
    "environments",
    "folders",
    "largestMessage",
    "leanTurns",
    "liveText",
    "manageDevices",
    "manageSshHosts",
    "mergedText",
    "prompts",
    "requests",
    "shortItems",
    "shortText",
    "threadLists",
    "threadPages",
    "sshHosts",
    "sshLogin",
    "workspaceChanges",
    "workspaces",
];
/// The same, where the host's computer can be kept awake.
const KEEP_AWAKE: &str = "keepAwake";
/// The least that a client may say it takes, in bytes: what Codex's smaller answers and any error need.
const LEAST_MESSAGE: usize = 1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(super) struct HostReadParams {
    /// The largest message that the client takes on this session, in bytes; larger answers of Codex are refused in
    /// words from then on.
    largest_message: Option<u64>,
    /// Whether pieces of an item's text are put together on this session, as they are before anything is said; else each
    /// comes as Codex sends it.
    merged_text: Option<bool>,
    /// Whether the end of a turn comes without the turn's items on this session. Nothing else is left out: each item has
    /// come when it was complete.
    lean_turns: Option<bool>,
    /// Whether text of an item that goes on comes on this session with the number of a lane, in place of what is around it.
    short_text: Option<bool>,
    /// Whether an item that is complete comes on this session without its text, where that has come with the number of a
    /// lane, all of it.
    short_items: Option<bool>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) struct HostInfo {
    api_version: u32,
    /// What may be asked for, by name.
    features: Vec<&'static str>,
    limits: Limits,
    /// Milliseconds since 1970, by the host's clock.
    now: u64,
    #[cfg_attr(test, ts(type = "string"))]
    host_id: HostId,
    host_name: String,
    /// Best first.
    relays: Vec<RelayInfo>,
    agent_version: &'static str,
    /// The device that asked.
    #[cfg_attr(test, ts(type = "string"))]
    device_id: DeviceId,
    /// What it may do.
    #[cfg_attr(test, ts(type = "Scope"))]
    scope: Scope,
    /// Codex on the host itself.
    codex: CodexInfo,
    /// The id of the journal that receipts of prompts are from.
    journal: String,
}

/// Bytes, counts and seconds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS))]
struct Limits {
    /// A message of a device, in bytes.
    message_to_host: usize,
    /// A message to this device on this session, in bytes.
    message_to_device: usize,
    /// A request of this API, in bytes.
    request: usize,
    /// A request with a prompt, in bytes.
    prompt: usize,
    /// Open channels of a session.
    channels: usize,
    /// Sessions of a device.
    sessions: usize,
    /// For so long a session waits for its device, in seconds.
    detached_seconds: u64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct RelayInfo {
    url: String,
    #[cfg_attr(test, ts(type = "string"))]
    key: PublicKey,
}

pub(super) async fn read(call: Call, params: HostReadParams) -> Result<HostInfo, Refusal> {
    let Call { context, caller, scope, .. } = call;
    if let Some(bytes) = params.largest_message {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        caller.largest.store(bytes.clamp(LEAST_MESSAGE, MAX_MESSAGE_TO_DEVICE), Ordering::Relaxed);
    }
    if let Some(merged) = params.merged_text {
        caller.wishes.merged_text.store(merged, Ordering::Relaxed);
    }
    if let Some(lean) = params.lean_turns {
        caller.wishes.lean_turns.store(lean, Ordering::Relaxed);
    }
    if let Some(short) = params.short_text {
        caller.wishes.short_text.store(short, Ordering::Relaxed);
    }
    if let Some(short) = params.short_items {
        caller.wishes.short_items.store(short, Ordering::Relaxed);
    }
    Ok(context.host(&caller, scope))
}

impl ApiContext {
    pub(super) fn host(&self, caller: &Caller, scope: Scope) -> HostInfo {
        let keep_awake = self.awake.offered().borrow().then_some(KEEP_AWAKE);
        let relay = |key: PublicKey| RelayInfo { url: self.relay_url.clone(), key };
        HostInfo {
            api_version: API_VERSION,
            features: FEATURES.iter().copied().chain(keep_awake).collect(),
            limits: Limits {
                message_to_host: MAX_MESSAGE_TO_HOST,
                message_to_device: caller.largest.load(Ordering::Relaxed),
                request: MAX_REQUEST,
                prompt: MAX_PROMPT,
                channels: SessionLimits::default().channels,
                sessions: MAX_PER_DEVICE,
                detached_seconds: DETACHED_LIMIT.as_secs(),
            },
            now: prompts::now_ms(),
            host_id: self.host,
            host_name: self.name.clone(),
            relays: self.relay_key.borrow().map(relay).into_iter().collect(),
            agent_version: env!("CARGO_PKG_VERSION"),
            device_id: caller.device,
            scope,
            codex: CodexInfo::of(self.environments.own()),
            journal: self.prompts.journal().to_owned(),
        }
    }
}
