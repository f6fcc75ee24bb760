//! What the supervisors of all backends do alike: wait for a start, note what was started, begin again.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::process::{self, Process};
use super::{CodexConnection, CodexState, ConnectError, Instance};
use crate::backoff::BackoffConfig;
use crate::platform::processes;
use crate::state::codex::{Note, StartedCodex};

/// A cold start reads 300 MB; after this without a sign of work the child is given up and started again.
pub(super) const START_DEADLINE: Duration = Duration::from_secs(30);

/// Codex enters recordings that it does not know yet in its state database before it listens, and is waited for while it
/// writes there, up to this. Version 0.169.0 took 19 s for 30,000 recordings and up to 147 s for 70,000 on two cores.
const LONGEST_START: Duration = Duration::from_secs(15 * 60);

/// Between two looks at the state database.
const WORK_POLL: Duration = Duration::from_secs(1);

/// A child that dies at once should not burn a core; a missing program or a broken configuration is repaired by a person,
/// for whom half a minute is soon enough.
pub(super) const RESTARTS: BackoffConfig =
    BackoffConfig { first: Duration::from_millis(250), max: Duration::from_secs(30) };

/// A server that ran this long was healthy: the next failure is a first one.
pub(super) const HEALTHY: Duration = Duration::from_secs(60);

/// What helps with a Codex of the agent's own that does not answer.
pub(crate) const STARTED_ANEW: &str =
    "wait: if it stays so for two minutes it is started anew, which ends the turns that run there";

/// A failure with its causes, for people.
pub(super) fn reason(error: &dyn Error) -> String {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        reason = format!("{reason}: {cause}");
        source = cause.source();
    }
    reason
}

/// Ends when a server that is starting has done nothing for [`START_DEADLINE`], or has worked for [`LONGEST_START`].
pub(super) async fn idle_for_long(home: &Path) {
    let start = tokio::time::Instant::now();
    let (mut at_work, mut written) = (start, state_written(home));
    while at_work.elapsed() < START_DEADLINE && start.elapsed() < LONGEST_START {
        tokio::time::sleep(WORK_POLL).await;
        let now = state_written(home);
        if now != written {
            (at_work, written) = (tokio::time::Instant::now(), now);
        }
    }
}

/// When Codex's state database was written last, and its size in bytes with its log's: another value is a sign of work.
fn state_written(home: &Path) -> (Option<SystemTime>, u64) {
    let files = std::fs::read_dir(home).into_iter().flatten().flatten();
    // Such as `state_5.sqlite`, `state_5.sqlite-wal`.
    let of_state = files.filter(|file| {
        let name = file.file_name();
        name.to_str().is_some_and(|name| name.starts_with("state_") && name.contains(".sqlite"))
    });
    let of_state = of_state.filter_map(|file| file.metadata().ok());
    of_state.fold((None, 0), |(last, size), file| (last.max(file.modified().ok()), size.wrapping_add(file.len())))
}

/// What a server is asked: refused, as the probe is not initialized, but answered.
pub(super) const QUESTION: &str = r#"{"id":0,"method":"thread/loaded/list","params":{}}"#;

/// A running server answers a request in milliseconds; over a slow link, in seconds.
const PROBE_DEADLINE: Duration = Duration::from_secs(10);

/// Whether a server answers on a connection on which nothing was said yet.
pub(crate) async fn is_answered(probe: &mut CodexConnection) -> bool {
    let answered = async {
        probe.sender.send(QUESTION).await.ok()?;
        probe.receiver.next().await?.ok()
    };
    matches!(tokio::time::timeout(PROBE_DEADLINE, answered).await, Ok(Some(_)))
}

/// Waits out a start, and gives the run that is ready.
pub(crate) async fn ready(state: &mut watch::Receiver<CodexState>) -> Result<Instance, ConnectError> {
    loop {
        match &*state.borrow_and_update() {
            CodexState::Ready { instance, .. } => return Ok(*instance),
            CodexState::Failed { reason, fix, .. } => {
                return Err(ConnectError::Failed { reason: reason.clone(), fix: fix.clone() });
            }
            CodexState::Waiting { reason, fix } => {
                return Err(ConnectError::Failed { reason: reason.clone(), fix: Some(fix.clone()) });
            }
            CodexState::Stopped => return Err(ConnectError::Stopped),
            CodexState::Idle | CodexState::Starting => {}
        }
        state.changed().await.map_err(|_| ConnectError::Stopped)?;
    }
}

/// Has a supervisor stop, and waits until it and its child have ended.
pub(super) async fn stopped(stop: &CancellationToken, state: &watch::Receiver<CodexState>) {
    stop.cancel();
    // An error says that the supervisor is gone, and then so is its child.
    let _ = state.clone().wait_for(|state| matches!(state, CodexState::Stopped)).await;
}

/// Notes what was started, so that the next agent ends what this one could not.
#[derive(Debug, Clone)]
pub(super) struct Ledger(Option<Note>);

impl Ledger {
    /// In this note; `None` notes nothing.
    pub(super) fn new(note: Option<Note>) -> Self {
        Self(note)
    }

    /// Ends what an earlier agent was killed too fast to end: it would be joined for ever, and never be ended.
    pub(super) async fn end_earlier(&self) {
        let Some(note) = &self.0 else { return };
        let earlier = match note.read() {
            Ok(Some(earlier)) => earlier,
            Ok(None) => return,
            Err(error) => {
                // Nothing in it is worth refusing a start for. The next Codex that is started replaces it.
                tracing::warn!(
                    %error,
                    "what an earlier agent started is not known: if its codex still runs, it is joined now and does not end \
                     with this agent"
                );
                return;
            }
        };
        if let Some(group) = earlier.running().await {
            tracing::warn!(group = group.id(), "ending the codex of an earlier agent, which was killed");
            if !process::end_group(group, std::future::ready(())).await {
                tracing::warn!(group = group.id(), "the codex of an earlier agent could not be ended");
                return;
            }
        }
        self.forget();
    }

    /// Notes what was started, for the next agent if this one is killed; `server` is the process that listens.
    pub(super) async fn note(&self, process: &Process, server: Option<u32>) {
        let (Some(note), Some(group)) = (&self.0, process.group()) else { return };
        let mut processes = Vec::new();
        for pid in [Some(group.id()), server].into_iter().flatten() {
            if let Some(process) = processes::Process::with_id(pid).await
                && !processes.contains(&process)
                && process.is_in(group).await
            {
                processes.push(process);
            }
        }
        if !processes.is_empty()
            && let Err(error) = note.write(&StartedCodex { group, processes })
        {
            tracing::warn!(%error, "the codex that was started can't be noted: it goes on if this agent is killed");
        }
    }

    /// Takes the note back.
    pub(super) fn forget(&self) {
        if let Some(note) = &self.0
            && let Err(error) = note.remove()
        {
            tracing::warn!(%error, "the note of a codex that has ended stays; it does no harm");
        }
    }
}

#[cfg(test)]
mod tests;
