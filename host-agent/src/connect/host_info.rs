//! What a host says of itself: its name, its relays, what this machine may do, and how Codex is there.
//!
//! Names and places change after pairing, and are kept in this machine's file of
//! the host. The host's word comes end to end, over a session with the key that
//! was paired, so no relay can move a device elsewhere; and what the host says is
//! about itself only. How Codex is there is kept as long as the session, in a
//! [`HostReport`]; its texts are somebody else's, and made fit for a terminal here.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use reachback_proto::ids::{DeviceId, HostId};
use reachback_proto::pairing::{MAX_RELAYS, Name, Origin};
use reachback_proto::scope::Scope;
use reachback_proto::words::printable;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tokio::sync::watch;

use super::remote::RemoteHost;
use crate::session::{ChannelHandle, ChannelSender, Incoming, SessionEnded};
use crate::state::atomic::FileError;
use crate::state::host::RelayPin;
use crate::state::paired_hosts::PairedHostStore;

/// More than any `host/changed` has, in bytes; nothing larger is parsed.
const MAX_ANSWER: usize = 64 * 1024;
/// Characters that are kept of a text: a reason is a sentence or two.
const MAX_TEXT: usize = 400;

/// Answers have the number of their request.
const READ: u64 = 1;
const LIST: u64 = 2;

/// Of `host/read` and `host/changed`, what is kept. Members of newer hosts are left alone.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HostInfo {
    host_name: String,
    relays: Vec<RelayPin>,
    scope: Scope,
}

impl HostInfo {
    fn is_usable(&self) -> bool {
        let is_usable = |relay: &RelayPin| {
            let is_safe = |origin: Origin| origin.is_secure() || origin.is_loopback();
            relay.check().is_ok() && relay.url.parse().is_ok_and(is_safe)
        };
        let has_relays = (1..=MAX_RELAYS).contains(&self.relays.len()) && self.relays.iter().all(is_usable);
        has_relays && Name::new(&self.host_name).is_ok()
    }
}

/// What a host has said in its session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostReport {
    /// What this machine may do there.
    pub scope: Option<Scope>,
    /// Where it may work; empty where the host does not say.
    pub environments: Option<Vec<EnvironmentReport>>,
}

impl HostReport {
    /// Whether the host has said all there is.
    pub fn is_complete(&self) -> bool {
        self.scope.is_some() && self.environments.is_some()
    }

    /// What this machine may do in the environment of this name.
    pub fn scope_in(&self, environment: &str) -> Option<Scope> {
        let bound = self.environment(environment).and_then(|found| found.max_scope);
        self.scope.map(|scope| bound.map_or(scope, |bound| scope.min(bound)))
    }

    /// The environment of this name.
    pub fn environment(&self, name: &str) -> Option<&EnvironmentReport> {
        self.environments.iter().flatten().find(|environment| environment.name == name)
    }
}

/// How Codex is in one environment of a host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentReport {
    /// What a channel names to be opened there.
    #[serde(deserialize_with = "text")]
    pub name: String,
    /// How it is.
    pub state: CodexWord,
    /// The most that any device may do there; `None` where there is no such bound, or a newer host has another word for it.
    #[serde(default, deserialize_with = "known_scope")]
    pub max_scope: Option<Scope>,
    /// Why there is one.
    #[serde(default, deserialize_with = "optional_text")]
    pub max_scope_reason: Option<String>,
    /// While it is ready, where it is known.
    #[serde(default, deserialize_with = "optional_text")]
    pub version: Option<String>,
    /// Why it failed, or had failed before it was tried again.
    #[serde(default, deserialize_with = "optional_text")]
    pub reason: Option<String>,
    /// What the owner does about it.
    #[serde(default, deserialize_with = "optional_text")]
    pub fix: Option<String>,
    /// Whether it has the account that its model needs, once it has said so.
    #[serde(default)]
    pub account: Option<AccountReport>,
}

/// What a host says of Codex's account there. Whose it is stays with the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct AccountReport {
    /// How it is.
    pub state: AccountWord,
}

/// How Codex's account is, in the words of the host's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AccountWord {
    /// There is one.
    SignedIn,
    /// There is none, and the model needs one.
    SignedOut,
    /// The model needs none.
    NotNeeded,
    /// A word of a newer host.
    #[serde(other)]
    Unknown,
}

/// How Codex is, in the words of the host's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CodexWord {
    /// It is on a machine that is not connected: it is when somebody wants to work there.
    Idle,
    /// It is looked for, or started.
    Starting,
    /// It answers.
    Ready,
    /// It does not.
    Failed,
    /// It has ended, with the agent.
    Stopped,
    /// A word of a newer host.
    #[serde(other)]
    Unknown,
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = Cow::<str>::deserialize(deserializer)?;
    Ok(printable(&text.chars().take(MAX_TEXT).collect::<String>()))
}

fn optional_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<Cow<str>>::deserialize(deserializer)?;
    Ok(text.map(|text| printable(&text.chars().take(MAX_TEXT).collect::<String>())))
}

fn known_scope<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Scope>, D::Error> {
    let word = Option::<Cow<str>>::deserialize(deserializer)?;
    Ok(word.and_then(|word| word.parse().ok()))
}

#[derive(Deserialize)]
struct EnvironmentList {
    data: Vec<EnvironmentReport>,
}

#[derive(Deserialize)]
struct Message<'a> {
    id: Option<u64>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// Something that is of use here.
#[derive(Debug)]
enum Said {
    Host(HostInfo),
    Environments(Vec<EnvironmentReport>),
    Environment(EnvironmentReport),
    Missed,
}

impl Said {
    fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_ANSWER {
            return None;
        }
        let Message { id, method, result, params } = serde_json::from_slice(bytes).ok()?;
        match (id, method.as_deref()) {
            (Some(READ), None) => Self::host(result?),
            // One that is too old for the question answers with an error.
            (Some(LIST), None) => {
                let list = result.and_then(|result| serde_json::from_str::<EnvironmentList>(result.get()).ok());
                Some(Self::Environments(list.map(|list| list.data).unwrap_or_default()))
            }
            (None, Some("host/changed")) => Self::host(params?),
            (None, Some("environment/changed")) => serde_json::from_str(params?.get()).ok().map(Self::Environment),
            (None, Some("environment/removed")) => Some(Self::Missed),
            (None, Some("notices/missed")) => Some(Self::Missed),
            _ => None,
        }
    }

    fn host(value: &RawValue) -> Option<Self> {
        let info: HostInfo = serde_json::from_str(value.get()).ok()?;
        info.is_usable().then_some(Self::Host(info))
    }
}

/// Listens on the API channel of each session with a host, until there is no more, and reports to `report`.
///
/// `device` is this machine as it was paired: where it was paired anew meanwhile, its file is another's.
pub async fn follow(
    remote: Arc<RemoteHost>,
    store: PairedHostStore,
    host: HostId,
    device: DeviceId,
    report: watch::Sender<HostReport>,
) {
    while let Some(ChannelHandle { sender, mut incoming }) = remote.api().await {
        if ask(&sender).await.is_err() {
            continue;
        }
        while let Some(Incoming::Message { seq, bytes }) = incoming.recv().await {
            let taken = match Said::parse(&bytes) {
                Some(Said::Host(info)) => {
                    report.send_modify(|report| report.scope = Some(info.scope));
                    if let Err(error) = keep(&store, host, device, info) {
                        tracing::warn!(%error, "what the host says of itself could not be kept");
                    }
                    Ok(())
                }
                Some(Said::Environments(list)) => {
                    report.send_modify(|report| report.environments = Some(list));
                    Ok(())
                }
                Some(Said::Environment(changed)) => {
                    let is_known = report.borrow().environment(&changed.name).is_some();
                    report.send_modify(|report| change(report, changed));
                    if is_known { Ok(()) } else { ask(&sender).await }
                }
                Some(Said::Missed) => ask(&sender).await,
                None => Ok(()),
            };
            if taken.is_err() || sender.handled(seq).is_err() {
                break;
            }
        }
    }
}

/// Asks for everything; answers and notifications tell a state each, and the last one holds.
async fn ask(sender: &ChannelSender) -> Result<(), SessionEnded> {
    for (id, method) in [(READ, "host/read"), (LIST, "environment/list")] {
        sender.send(Bytes::from(format!(r#"{{"id":{id},"method":"{method}"}}"#))).await?;
    }
    Ok(())
}

fn change(report: &mut HostReport, mut changed: EnvironmentReport) {
    let known = report.environments.iter_mut().flatten().find(|known| known.name == changed.name);
    // Of one that is not listed, the list that was asked for says more.
    let Some(known) = known else { return };
    // It is tried again: why it failed before is all that is known.
    if changed.state == CodexWord::Starting && changed.reason.is_none() {
        (changed.reason, changed.fix) = (known.reason.take(), known.fix.take());
    }
    *known = changed;
}

fn keep(store: &PairedHostStore, host: HostId, device: DeviceId, info: HostInfo) -> Result<(), FileError> {
    let Some(mut known) = store.load(host)?.filter(|known| known.device_id() == device) else { return Ok(()) };
    let HostInfo { host_name, relays, scope } = info;
    if (&known.name, &known.relays, known.scope) == (&host_name, &relays, scope) {
        return Ok(());
    }
    tracing::info!(name = host_name, "the host has another name, relay or scope for this device");
    (known.name, known.relays, known.scope) = (host_name, relays, scope);
    store.save(&known)
}

#[cfg(test)]
mod tests {
    use reachback_proto::crypto::keys::{Identity, Secret};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_is_of_a_newer_host_is_left_alone_and_what_is_wrong_is_not_kept() {
        let key = serde_json::to_value(Identity::from_seed(Secret::new([1; 32])).public()).unwrap();
        let relay = json!({ "url": "https://relay.example:443", "key": key, "weight": 3 });
        let good = json!({ "hostName": "tower", "relays": [relay], "scope": "approve", "apiVersion": 9 });
        let parse = |info: &Value| {
            let said = Said::parse(json!({ "method": "host/changed", "params": info }).to_string().as_bytes())?;
            let Said::Host(info) = said else { panic!("{said:?}") };
            Some(info)
        };
        assert_eq!(parse(&good).unwrap().host_name, "tower");
        let answer = json!({ "id": 1, "result": good }).to_string();
        assert!(Said::parse(answer.as_bytes()).is_some());
        let bad: [(&str, Value); 7] = [
            ("hostName", "\u{1b}[2J".into()),
            ("hostName", "".into()),
            ("scope", "root".into()),
            ("relays", json!([])),
            ("relays", json!([relay, relay, relay, relay, relay])),
            ("relays", json!([{ "url": "http://relay.example", "key": key }])),
            (
                "relays",
                json!([{ "url": "https://relay.example", "key": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" }]),
            ),
        ];
        for (member, value) in bad {
            let mut info = good.clone();
            info[member] = value;
            assert!(parse(&info).is_none(), "{info}");
        }
        let long = format!(r#"{{"id":1,"result":{good},"x":"{}"}}"#, "x".repeat(MAX_ANSWER));
        assert!(Said::parse(long.as_bytes()).is_none());
    }

    fn environments(said: &Value) -> Vec<EnvironmentReport> {
        match Said::parse(said.to_string().as_bytes()) {
            Some(Said::Environments(list)) => list,
            other => panic!("{said}: {other:?}"),
        }
    }

    #[test]
    fn what_is_said_of_codex_is_fit_for_a_terminal_and_bounded() {
        let reason = format!("no\u{1b}[2J\u{202e}{}", "x".repeat(1000));
        let failed = json!({ "name": "local", "state": "failed", "reason": reason, "fix": null, "weight": 3 });
        let list = environments(&json!({ "id": 2, "result": { "data": [failed] } }));
        let [EnvironmentReport { state: CodexWord::Failed, reason: Some(reason), fix: None, .. }] = &list[..] else {
            panic!("{list:?}")
        };
        assert!(reason.starts_with("no?[2J?xxx") && reason.chars().count() == MAX_TEXT, "{reason}");

        let strange =
            json!({ "name": "a", "state": "asleep", "account": { "state": "lent", "type": "x" }, "maxScope": "watch" });
        let newer = environments(&json!({ "id": 2, "result": { "data": [strange] } }));
        assert_eq!(newer[0].state, CodexWord::Unknown);
        assert_eq!(newer[0].account, Some(AccountReport { state: AccountWord::Unknown }));
        assert_eq!(newer[0].max_scope, None);
        for old in [json!({ "id": 2, "error": { "code": -32601, "message": "?" } }), json!({ "id": 2, "result": 3 })] {
            assert_eq!(environments(&old), [], "a host that does not say holds nobody up");
        }
    }

    #[test]
    fn a_change_takes_the_place_of_what_was_said_before() {
        let ready = json!({ "name": "local", "state": "ready", "version": "0.169.0" });
        let mut report = HostReport {
            scope: None,
            environments: Some(environments(&json!({ "id": 2, "result": { "data": [ready] } }))),
        };
        assert_eq!(report.environment("local").unwrap().version.as_deref(), Some("0.169.0"));
        let changed = |name, state, reason: Option<&str>| {
            let params = json!({ "name": name, "state": state, "reason": reason });
            match Said::parse(json!({ "method": "environment/changed", "params": params }).to_string().as_bytes()) {
                Some(Said::Environment(changed)) => changed,
                other => panic!("{other:?}"),
            }
        };
        change(&mut report, changed("ssh:devbox", "starting", None));
        assert_eq!(report.environments.as_ref().unwrap().len(), 1);
        for (state, said, reason) in [
            ("starting", None, None),
            ("failed", Some("no disk"), Some("no disk")),
            ("starting", None, Some("no disk")),
            ("ready", None, None),
        ] {
            change(&mut report, changed("local", state, said));
            let local = report.environment("local").unwrap();
            assert_eq!((local.reason.as_deref(), local.version.as_deref()), (reason, None), "{state}");
        }
    }
}
