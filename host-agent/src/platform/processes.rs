//! Other processes of this user: telling one from a later one with the same id, and ending groups of them.
//!
//! Ids are used again, so an id that was written down means a process only
//! together with the moment at which that process started. Linux tells it in
//! `/proc`, other Unix systems through `ps`. Elsewhere it is not told, and then
//! nothing that was written down is ever ended; nor is it needed there yet, as
//! Codex's control socket is a Unix socket.
//!
//! `process-wrap` and its like hold on to a child that this process made. Here
//! the groups to be ended are also those of a run before this one, which crashed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::imp;

/// Between two looks at a group that is ending; nothing tells us when its last member has gone.
const POLL: Duration = Duration::from_millis(20);

/// One run of a program: no other process of this machine equals it, now or later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// When it started, in the words of the system that it runs on; only for comparison.
    pub started: String,
}

impl Process {
    /// The process that has this id now. `None` when there is none, when it has ended and nobody has asked how yet, or
    /// when the system does not tell.
    pub async fn with_id(pid: u32) -> Option<Self> {
        imp::started(pid).await.map(|started| Self { pid, started })
    }

    /// Whether it still runs, as a member of this group.
    pub async fn is_in(&self, group: Group) -> bool {
        Self::with_id(self.pid).await.as_ref() == Some(self) && Group::of(self.pid) == Some(group)
    }
}

/// A process group, by the id of the process that it was made for. It may outlive that process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Group(u32);

impl TryFrom<u32> for Group {
    type Error = &'static str;

    fn try_from(id: u32) -> Result<Self, Self::Error> {
        Self::led_by(id).ok_or("no process can lead this group")
    }
}

impl From<Group> for u32 {
    fn from(group: Group) -> Self {
        group.0
    }
}

impl Group {
    /// The group that was made for this process, as [`Self::own`] does. `None` for ids that stand for more than one
    /// group where signals are sent.
    pub fn led_by(pid: u32) -> Option<Self> {
        (pid > 1 && i32::try_from(pid).is_ok()).then_some(Self(pid))
    }

    /// The group that this process is in now.
    pub fn of(pid: u32) -> Option<Self> {
        imp::group_of(pid).and_then(Self::led_by)
    }

    /// Has `command` start in a group that is made for it.
    pub fn own(command: &mut tokio::process::Command) {
        imp::own_group(command);
    }

    pub fn id(self) -> u32 {
        self.0
    }

    /// Asks all of it to end.
    pub fn terminate(self) {
        imp::terminate_group(self.0);
    }

    /// Ends all of it.
    pub fn kill(self) {
        imp::kill_group(self.0);
    }

    /// Waits until none of it runs any more. Safe to cancel.
    pub async fn gone(self) {
        while imp::group_runs(self.0) {
            tokio::time::sleep(POLL).await;
        }
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn sleeper() -> Child {
        use std::os::unix::process::CommandExt;
        Command::new("sleep").arg("1000").stdin(Stdio::null()).process_group(0).spawn().unwrap()
    }

    #[tokio::test]
    async fn a_process_is_itself_until_it_ends() {
        let mut child = sleeper();
        let (pid, group) = (child.id(), Group::led_by(child.id()).unwrap());
        let process = Process::with_id(pid).await.unwrap();
        assert_eq!(Process::with_id(pid).await, Some(process.clone()));
        assert!(process.is_in(group).await);
        assert!(!process.is_in(Group::of(std::process::id()).unwrap()).await, "it is in a group of its own");
        let other = Process { started: format!("{} later", process.started), pid };
        assert!(!other.is_in(group).await);

        group.kill();
        // Not reaped yet, but it does not run any more.
        tokio::time::timeout(PATIENCE, async {
            while Process::with_id(pid).await.is_some() {
                tokio::time::sleep(POLL).await;
            }
        })
        .await
        .expect("a process that was killed still counts as running");
        child.wait().unwrap();
        assert_eq!(Process::with_id(pid).await, None);
    }

    #[tokio::test]
    async fn a_group_that_ends_when_asked_is_gone() {
        let mut child = sleeper();
        let group = Group::led_by(child.id()).unwrap();
        assert!(tokio::time::timeout(POLL, group.gone()).await.is_err(), "it runs");
        group.terminate();
        // Elsewhere one that is not reaped still counts.
        #[cfg(not(target_os = "linux"))]
        child.wait().unwrap();
        tokio::time::timeout(PATIENCE, group.gone()).await.expect("a group that has ended still runs");
        #[cfg(target_os = "linux")]
        child.wait().unwrap();
    }

    #[test]
    fn ids_that_mean_everybody_are_no_group() {
        // `kill` takes 0 for the caller's own group, and a group 1 for all processes.
        for pid in [0_u32, 1, 1 << 31, u32::MAX] {
            assert_eq!(Group::led_by(pid), None, "{pid}");
            assert!(serde_json::from_value::<Group>(pid.into()).is_err(), "{pid}");
        }
    }
}
