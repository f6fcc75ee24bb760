//! `reachback hosts`: what this computer may control.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use reachback_proto::frame::{ByeReason, LOCAL_ENVIRONMENT};
use reachback_proto::words::{printable, quote};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::lines::{HostLine, Line};
use super::output::Output;
use super::{Home, connect, transport};
use crate::connect::host_info::{CodexWord, EnvironmentReport, HostReport};
use crate::connect::remote::{RemoteHost, RemoteState};
use crate::connect::{host_info, join, presence};
use crate::link::relay::RelayError;
use crate::link::transports::TransportChoice;
use crate::state::paired_hosts::{PairedHost, PairedHostStore};
use crate::state::timestamp::Timestamp;

/// List the hosts that this computer may control, whether they are online, and how Codex is there.
#[derive(Debug, Args)]
#[command(after_help = transport::ENVIRONMENT)]
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

/// What the relay is given to say whether a host is online; it takes its own time, and may have none.
const RELAY_PATIENCE: Duration = Duration::from_secs(10);
/// What a host that is online is given to say more.
const HOST_PATIENCE: Duration = Duration::from_secs(5);

struct Row {
    host: PairedHost,
    state: &'static str,
    since: Option<Timestamp>,
    reason: Option<String>,
    codex: Option<EnvironmentReport>,
}

pub(super) async fn run(home: &Home, args: HostsArgs, output: Output) -> anyhow::Result<ExitCode> {
    let store = PairedHostStore::new(&home.path);
    if let Some(Action::Forget { host }) = args.action {
        let host = store.find(&host)?;
        store.remove(host.host_id())?;
        output.object(&Line::Forgotten { host_id: host.host_id(), host_name: &host.name });
        output.say(format_args!("Forgot {} ({}).", quote(&host.name), host.host_id().short()));
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
        let store = store.clone();
        asking.spawn(async move { (n, ask(host, store).await) });
    });
    let mut rows = asking.join_all().await;
    rows.sort_by_key(|(n, _)| *n);
    for (_, row) in &rows {
        output.object(&Line::Host(HostLine {
            host_id: row.host.host_id(),
            host_name: &row.host.name,
            state: row.state,
            since: row.since,
            reason: row.reason.as_deref(),
            codex: row.codex.as_ref().map(|codex| codex.state),
            codex_version: row.codex.as_ref().and_then(|codex| codex.version.as_deref()),
            codex_reason: row.codex.as_ref().and_then(|codex| codex.reason.as_deref()),
            scope: row.host.scope,
            relay_url: &row.host.relay().url,
            device_id: row.host.device_id(),
        }));
    }
    if is_empty {
        output.say("No hosts yet. At the host: reachback up (or `reachback pair`); here: reachback join URL");
    } else if count > 0 {
        let cells = rows.iter().map(|(_, row)| {
            vec![
                row.host.host_id().short(),
                row.host.name.clone(),
                row.state.to_owned(),
                row.host.scope.to_string(),
                row.host.relay().url.clone(),
                detail(row),
            ]
        });
        output.list(&["ID", "NAME", "STATE", "SCOPE", "RELAY", ""], &cells.collect::<Vec<_>>());
    }
    Ok(code)
}

fn detail(row: &Row) -> String {
    let since = row.since.map(|since| format!("since {since}"));
    let codex = row.codex.as_ref().map(|codex| match (codex.state, &codex.reason, &codex.version) {
        (CodexWord::Failed, Some(reason), _) => format!("Codex failed: {}", quote(reason)),
        (CodexWord::Failed, None, _) => "Codex failed".to_owned(),
        (CodexWord::Ready, _, Some(version)) => format!("Codex {version}"),
        (CodexWord::Ready, _, None) => "Codex is ready".to_owned(),
        (CodexWord::Idle, ..) => "Codex is not connected".to_owned(),
        (CodexWord::Starting, ..) => "Codex is starting".to_owned(),
        (CodexWord::Stopped | CodexWord::Unknown, ..) => "Codex is not ready".to_owned(),
    });
    [since, row.reason.clone(), codex].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

async fn ask(host: PairedHost, store: PairedHostStore) -> Row {
    let row = |host, state, reason| Row { host, state, since: None, reason, codex: None };
    let relay = match join::relay_of(&host, transport::transports(TransportChoice::Wss)) {
        Ok(relay) => relay,
        Err(error) => return row(host, "unreachable", Some(error.to_string())),
    };
    let asked = timeout(RELAY_PATIENCE, presence::ask(&relay, &host.identity, host.host_id())).await;
    match asked.unwrap_or_else(|_| Err(RelayError::TimedOut(relay.origin.to_string()))) {
        Ok(presence) => {
            let since = (presence.since > 0).then(|| Timestamp::from_unix(presence.since));
            let row = if presence.online { ask_host(host, store).await } else { row(host, "offline", None) };
            Row { since, ..row }
        }
        // The relay's word alone: the host may still list this device.
        Err(error @ RelayError::Refused { .. }) => row(host, "refused", Some(printable(&error.to_string()))),
        Err(error) => row(host, "unreachable", Some(printable(&error.to_string()))),
    }
}

/// Asks a host that is online itself, in a session that ends at once.
async fn ask_host(host: PairedHost, store: PairedHostStore) -> Row {
    let (id, device) = (host.host_id(), host.device_id());
    let config = match connect::remote_config(&host, TransportChoice::Wss) {
        Ok(config) => config,
        Err(error) => return Row { host, state: "online", since: None, reason: Some(error.to_string()), codex: None },
    };
    let remote = Arc::new(RemoteHost::start(config));
    let (report_out, mut report) = watch::channel(HostReport::default());
    let follow = host_info::follow(Arc::clone(&remote), store.clone(), id, device, report_out);
    let following = AbortOnDropHandle::new(tokio::spawn(follow));
    let mut state = remote.state();
    let _waits = remote.waits();
    let answer = async {
        tokio::select! {
            Ok(_) = report.wait_for(has_said) => None,
            ended = state.wait_for(|state| matches!(state, RemoteState::Ended { .. })) => match ended.as_deref() {
                Ok(RemoteState::Ended { reason }) => Some(*reason),
                _ => None,
            },
        }
    };
    let answered = timeout(HOST_PATIENCE, answer).await;
    let (state, reason) = match answered {
        Ok(Some(Some(ByeReason::Paused))) => ("paused", Some("it keeps this computer out for now".to_owned())),
        Ok(Some(Some(ByeReason::Revoked))) => ("refused", Some("it no longer lets this computer in".to_owned())),
        Ok(Some(_)) => ("online", Some("it ends the session".to_owned())),
        Ok(None) => ("online", None),
        Err(_) if report.borrow().is_complete() => ("online", None),
        Err(_) => ("online", Some(silent(&remote.state().borrow()))),
    };
    remote.end().await;
    drop(following);
    let report = report.borrow().clone();
    // What it said of itself has been kept.
    let mut host = store.load(id).ok().flatten().unwrap_or(host);
    host.scope = report.scope.unwrap_or(host.scope);
    Row { host, state, since: None, reason, codex: report.environment(LOCAL_ENVIRONMENT).cloned() }
}

/// Whether there is nothing to wait for. One that has failed is tried again now and then, and is then starting for a moment.
fn has_said(report: &HostReport) -> bool {
    let is_starting = |found: &EnvironmentReport| found.state == CodexWord::Starting;
    report.is_complete() && !report.environment(LOCAL_ENVIRONMENT).is_some_and(is_starting)
}

fn silent(state: &RemoteState) -> String {
    match state {
        RemoteState::Connecting { reason, .. } if !reason.is_empty() => printable(reason),
        _ => "it does not say more".to_owned(),
    }
}
