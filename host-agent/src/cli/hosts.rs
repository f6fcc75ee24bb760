//! `reachback hosts`: what this computer may control.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;
use tokio::task::JoinSet;

use super::Home;
use super::output::{Output, table};
use crate::connect::{join, presence};
use crate::link::relay::RelayError;
use crate::state::controller::{ControllerStore, PairedHost};
use crate::state::timestamp::Timestamp;

/// List the hosts that this computer may control, and whether they are online.
#[derive(Debug, Args)]
pub(super) struct HostsArgs {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Forget a host: its keys are deleted here. At the host, `reachback devices revoke` does the rest.
    Forget {
        /// A name, an id, or the start of an id.
        host: String,
    },
}

struct Row {
    host: PairedHost,
    state: &'static str,
    since: Option<Timestamp>,
    reason: Option<String>,
}

pub(super) async fn run(home: &Home, args: HostsArgs, output: Output) -> anyhow::Result<ExitCode> {
    let store = ControllerStore::new(&home.path);
    if let Some(Action::Forget { host }) = args.action {
        let host = store.find(&host)?;
        store.remove(host.host_id())?;
        output.object(&json!({ "event": "forgotten", "host_id": host.host_id(), "host_name": host.name }));
        output.say(format_args!("Forgot {} ({}).", host.name, host.host_id().short()));
        return Ok(ExitCode::SUCCESS);
    }
    let found = store.list()?;
    // The others are listed all the same.
    let code = if found.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    let is_empty = found.hosts.is_empty() && found.broken.is_empty();
    for broken in found.broken {
        output.fail(&broken.into());
    }
    let mut asking = JoinSet::new();
    let count = found.hosts.len();
    found.hosts.into_iter().enumerate().for_each(|(n, host)| {
        asking.spawn(async move { (n, ask(host).await) });
    });
    let mut rows = asking.join_all().await;
    rows.sort_by_key(|(n, _)| *n);
    for (_, row) in &rows {
        output.object(&json!({
            "event": "host",
            "host_id": row.host.host_id(),
            "host_name": row.host.name,
            "state": row.state,
            "since": row.since,
            "reason": row.reason,
            "scope": row.host.scope,
            "relay_url": row.host.relay().url,
            "device_id": row.host.device_id(),
        }));
    }
    if is_empty {
        output.say("No hosts yet. At the host: reachback up (or `reachback pair`); here: reachback join URL");
    } else if count > 0 {
        let cells = rows.iter().map(|(_, row)| {
            let detail = row.reason.clone().or(row.since.map(|since| format!("since {since}"))).unwrap_or_default();
            vec![
                row.host.host_id().short(),
                row.host.name.clone(),
                row.state.to_owned(),
                row.host.scope.to_string(),
                row.host.relay().url.clone(),
                detail,
            ]
        });
        output.say(table(&["ID", "NAME", "STATE", "SCOPE", "RELAY", ""], &cells.collect::<Vec<_>>()));
    }
    Ok(code)
}

async fn ask(host: PairedHost) -> Row {
    let asked = match join::relay_of(&host) {
        Ok(relay) => presence::ask(&relay, &host.identity, host.host_id()).await.map_err(|error| match error {
            // The relay's word alone: the host may still list this device.
            RelayError::Refused { .. } => ("refused", error.to_string()),
            _ => ("unreachable", error.to_string()),
        }),
        Err(error) => Err(("unreachable", error.to_string())),
    };
    match asked {
        Ok(presence) => {
            let since = (presence.since > 0).then(|| Timestamp::from_unix(presence.since));
            Row { host, state: if presence.online { "online" } else { "offline" }, since, reason: None }
        }
        Err((state, reason)) => Row { host, state, since: None, reason: Some(reason) },
    }
}
