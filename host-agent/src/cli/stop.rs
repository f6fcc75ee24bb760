//! `reachback stop`: ends the agent of this host.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use reachback_proto::words::quote;
use tokio::time::{Instant, sleep};

use super::Home;
use super::demo;
use super::host::STOP_TIME;
use super::lines::Line;
use super::output::Output;
use crate::local_api::{Client, ClientError, Failure, Request, Response};
use crate::state::lock::{HomeLock, LockError};

/// How much longer than an agent gives itself it is waited for.
const GRACE: Duration = Duration::from_secs(5);
/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(50);

const EXAMPLES: &str = "Examples, on the host:\n  \
    reachback stop    and to go on: reachback up, or reachback host\n  \
    systemctl --user start reachback-host\n  \
    \u{20}                 to go on, where it is a service";

/// Stop the agent of this host, with the Codex that it started, and the relay of `reachback up`.
///
/// Devices are told, and come back by themselves when the agent runs again; what Codex was doing ends. An agent that is a
/// service is started again at the next start of the machine: `reachback host uninstall` ends that. To keep devices out and
/// Codex running, pause them: `reachback devices pause`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct StopArgs {}

pub(super) async fn run(home: &Home, _: StopArgs, output: Output) -> anyhow::Result<ExitCode> {
    let pid = match pid(home).await {
        Ok(pid) => pid,
        Err(ClientError::NotRunning { .. }) => {
            tell(None, output);
            let here = format!("No agent runs on {}", quote(home.path.display()));
            match demo::elsewhere(home).await {
                Some(elsewhere) => output.say(format_args!("{here}; {elsewhere}")),
                None => output.say(format_args!("{here}.")),
            }
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Err(error.into()),
    };
    Client::open(&home.path, &Request::Stop).await?.finish().await?;
    output.remark("Stopping…");
    let end = Instant::now() + STOP_TIME + GRACE;
    // It lets go of its home as the last thing it does.
    while let Err(error) = HomeLock::acquire(&home.path) {
        if !matches!(error, LockError::Held { .. }) {
            return Err(error.into());
        }
        if Instant::now() >= end {
            return Err(Failure::new("not_stopped", format!("the agent (process {pid}) is still there"))
                .fix(format!("wait a little, or end it: kill {pid}"))
                .into());
        }
        sleep(LOOK).await;
    }
    tell(Some(pid), output);
    output.say(format_args!("The agent has stopped (it was process {pid})."));
    Ok(ExitCode::SUCCESS)
}

/// The process of the agent that runs.
async fn pid(home: &Home) -> Result<u32, ClientError> {
    match Client::open(&home.path, &Request::Status).await?.finish().await? {
        Response::Status(status) => Ok(status.pid),
        _ => Err(ClientError::Malformed),
    }
}

fn tell(pid: Option<u32>, output: Output) {
    output.object(&Line::Stopped { pid });
}
