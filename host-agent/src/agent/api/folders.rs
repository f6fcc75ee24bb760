//! `workspace/list` and `folder/list`: where to work.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Call;
use super::error::Refusal;
use super::notices::{Notice, Notices};
use crate::agent::environments::Environment;
use crate::agent::environments::folders::{Folder, Listing};
use crate::agent::environments::workspaces::{OpenedBy, Workspace, Workspaces};
use crate::firewall::folders::Unseen;

/// How long a device waits for the host's disk.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at what Codex's configuration trusts, and at whether the folders are there.
const LOOK: Duration = Duration::from_secs(10);
/// Threads that read folders, for all devices together: a disk that hangs holds no more of them.
const READERS: usize = 4;

/// Who may read folders now.
pub(crate) struct Disk {
    places: Arc<Semaphore>,
    patience: Duration,
}

impl Default for Disk {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(READERS)), patience: PATIENCE }
    }
}

impl Disk {
    /// Runs what asks the disk, off the tasks, for a while. What takes longer ends by itself, and keeps its place until then.
    async fn ask<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
        let places = Arc::clone(&self.places);
        let asking = async move {
            let place = places.acquire_owned().await.expect("nobody closes it");
            let done = tokio::task::spawn_blocking(move || {
                let result = work();
                drop(place);
                result
            });
            done.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
        };
        timeout(self.patience, asking).await.map_err(|_| Refusal::slow(self.patience))
    }
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct WorkspaceListParams {
    /// Its name, from `environment/list`.
    environment: String,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct WorkspaceListResult {
    /// Sorted by path.
    data: Vec<WorkspaceInfo>,
}

/// The folders of one environment that are open now.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) struct WorkspacesChanged {
    environment: String,
    /// Sorted by path.
    data: Vec<WorkspaceInfo>,
}

#[derive(Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct WorkspaceInfo {
    path: String,
    /// The last part of the path.
    name: String,
    source: OpenedBy,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(super) struct FolderListParams {
    /// Its name, from `environment/list`.
    environment: String,
    /// The folder; without it, the roots.
    path: Option<String>,
    /// Whether folders whose name begins with a dot are listed, too.
    hidden: Option<bool>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct FolderListResult {
    /// Sorted by name.
    data: Vec<FolderInfo>,
    /// Whether there are others that were left out.
    more: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS))]
struct FolderInfo {
    name: String,
    /// Its real path.
    path: String,
    is_workspace: bool,
    /// Whether a device with scope `approve` may work in it.
    opens: bool,
}

pub(super) async fn workspaces(call: Call, params: WorkspaceListParams) -> Result<WorkspaceListResult, Refusal> {
    let environment = environment(&call, &params.environment)?;
    reach(&environment).await?;
    environment.workspaces.look_at([]).await;
    let data = call.context.disk.ask(move || open(&environment.workspaces)).await?;
    Ok(WorkspaceListResult { data })
}

fn open(workspaces: &Workspaces) -> Vec<WorkspaceInfo> {
    let list = workspaces.list().into_iter().filter(|workspace| workspace.not.is_none());
    let info = |workspace: Workspace| {
        let name = workspace.path.file_name()?.to_str()?.to_owned();
        Some(WorkspaceInfo { path: workspace.path.to_str()?.to_owned(), name, source: workspace.by })
    };
    list.filter_map(info).collect()
}

/// Tells devices when other folders of an environment are open than before, until the agent ends.
///
/// The owner's own changes are told at once; Codex's configuration and the disk change without a word, and are looked at.
pub(crate) async fn tell_of_workspaces(environment: Arc<Environment>, notices: Notices) {
    let mut changes = environment.workspaces.changes();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = None;
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            changed = changes.changed() => if changed.is_err() { return },
        }
        environment.workspaces.look_at([]).await;
        // Of a machine that is not connected nothing is known, which is no news.
        if environment.workspaces.disk().surroundings().is_err() {
            continue;
        }
        let looking = Arc::clone(&environment);
        // A disk that hangs is waited for: nothing is known until it answers.
        let Ok(now) = tokio::task::spawn_blocking(move || open(&looking.workspaces)).await else { continue };
        if let Some(known) = &known
            && *known != now
        {
            let environment = environment.name.clone();
            notices.tell(Notice::WorkspacesChanged(WorkspacesChanged { environment, data: now.clone() }));
        }
        known = Some(now);
    }
}

pub(super) async fn list(call: Call, params: FolderListParams) -> Result<FolderListResult, Refusal> {
    let FolderListParams { environment: name, path, hidden } = params;
    let environment = environment(&call, &name)?;
    let hidden = hidden.unwrap_or(false);
    reach(&environment).await?;
    environment.workspaces.look_into(path.as_deref()).await;
    let Listing { folders, more } = call
        .context
        .disk
        .ask(move || environment.workspaces.folders(path.as_deref(), hidden))
        .await?
        .map_err(Refusal::folder)?;
    let info = |Folder { name, path, is_workspace, opens }| FolderInfo { name, path, is_workspace, opens };
    Ok(FolderListResult { data: folders.into_iter().map(info).collect(), more })
}

/// Connects to the environment's machine, where that is needed.
async fn reach(environment: &Environment) -> Result<(), Refusal> {
    let reached = environment.workspaces.disk().reach().await;
    reached.map_err(|error| Refusal::folder(Unseen::new(&error.for_devices()).into()))
}

fn environment(call: &Call, name: &str) -> Result<Arc<Environment>, Refusal> {
    call.context.environments.find(name).ok_or_else(Refusal::environment)
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    #[tokio::test]
    async fn a_disk_that_hangs_is_said_to_be_slow_and_holds_few_threads() {
        let disk = Disk { patience: Duration::from_millis(20), ..Disk::default() };
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        // Two more than there are readers: those never start.
        for _ in 0..READERS + 2 {
            let held = Arc::clone(&held);
            let asked = disk.ask(move || drop(held.lock().map(|held| held.recv()))).await;
            assert_eq!(asked, Err(Refusal::slow(disk.patience)));
        }
        assert_eq!((disk.places.available_permits(), Arc::strong_count(&held)), (0, READERS + 1));
        drop(release);
        let patient = Disk { patience: PATIENCE, ..disk };
        assert_eq!(patient.ask(|| 7).await, Ok(7), "a disk that answers again is asked again");
    }
}
