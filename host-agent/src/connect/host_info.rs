//! What a host says of itself, kept in this machine's file of it: its name, its relays, what this machine may do.
//!
//! Names and places change after pairing. The host's word comes end to end, over
//! a session with the key that was paired, so no relay can move a device
//! elsewhere; and what the host says is about itself only.

use std::sync::Arc;

use bytes::Bytes;
use reachback_proto::ids::{DeviceId, HostId};
use reachback_proto::pairing::{MAX_RELAYS, Name, Origin};
use reachback_proto::scope::Scope;
use serde::Deserialize;

use super::remote::RemoteHost;
use crate::session::{ChannelHandle, Incoming};
use crate::state::atomic::FileError;
use crate::state::controller::ControllerStore;
use crate::state::host::RelayPin;

/// More than any `host/changed` has, in bytes; nothing larger is parsed.
const MAX_MESSAGE: usize = 64 * 1024;

const READ: &[u8] = br#"{"id":1,"method":"host/read"}"#;

/// Of `host/read` and `host/changed`, what is kept. Members of newer hosts are left alone.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HostInfo {
    host_name: String,
    relays: Vec<RelayPin>,
    scope: Scope,
}

#[derive(Debug, Deserialize)]
struct Message {
    #[serde(alias = "params")]
    result: HostInfo,
}

impl HostInfo {
    fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_MESSAGE {
            return None;
        }
        let info = serde_json::from_slice::<Message>(bytes).ok()?.result;
        let is_usable = |relay: &RelayPin| {
            let is_safe = |origin: Origin| origin.is_secure() || origin.is_loopback();
            relay.check().is_ok() && relay.url.parse().is_ok_and(is_safe)
        };
        let has_relays = (1..=MAX_RELAYS).contains(&info.relays.len()) && info.relays.iter().all(is_usable);
        (has_relays && Name::new(&info.host_name).is_ok()).then_some(info)
    }
}

/// Listens on the API channel of each session with a host, until there is no more.
///
/// `device` is this machine as it was paired: where it was paired anew meanwhile, its file is another's.
pub async fn follow(remote: Arc<RemoteHost>, store: ControllerStore, host: HostId, device: DeviceId) {
    while let Some(ChannelHandle { sender, mut incoming }) = remote.api().await {
        if sender.send(Bytes::from_static(READ)).await.is_err() {
            continue;
        }
        while let Some(Incoming::Message { seq, bytes }) = incoming.recv().await {
            if let Some(info) = HostInfo::parse(&bytes)
                && let Err(error) = keep(&store, host, device, info)
            {
                tracing::warn!(%error, "what the host says of itself could not be kept");
            }
            if sender.handled(seq).await.is_err() {
                break;
            }
        }
    }
}

fn keep(store: &ControllerStore, host: HostId, device: DeviceId, info: HostInfo) -> Result<(), FileError> {
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
        let parse =
            |info: &Value| HostInfo::parse(json!({ "method": "host/changed", "params": info }).to_string().as_bytes());
        assert_eq!(parse(&good).unwrap().host_name, "tower");
        let answer = json!({ "id": 1, "result": good }).to_string();
        assert!(HostInfo::parse(answer.as_bytes()).is_some());
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
        let long = format!(r#"{{"id":1,"result":{good},"x":"{}"}}"#, "x".repeat(MAX_MESSAGE));
        assert!(HostInfo::parse(long.as_bytes()).is_none());
    }
}
