//! An app-server of somebody else's: started by a test as a person starts one, and started again by them when it ends.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::codex::TestCodex;
use crate::process::parent;
use crate::{PATIENCE, eventually};

/// How long a Codex has to end after it was told to.
const GRACE: Duration = Duration::from_secs(5);

/// See the module's header. Killed when dropped; [`Foreign::stop`] ends it in order.
pub struct Foreign {
    stop: CancellationToken,
    /// The package's script, before the program itself.
    script: watch::Receiver<Option<i32>>,
    keeping: Option<JoinHandle<()>>,
}

impl Foreign {
    /// Runs `codex app-server` with these arguments on the home of that Codex, until it is stopped.
    pub fn start(codex: &TestCodex, args: &[&str]) -> Self {
        let config = codex.config();
        let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
        let command = move || {
            let mut command = Command::new(&config.program);
            command.arg("app-server").args(&args).envs(config.env.clone());
            command.env("CODEX_HOME", config.home.clone().expect("a test's Codex has a home"));
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
            command.kill_on_drop(true);
            command
        };
        let stop = CancellationToken::new();
        let (told, script) = watch::channel(None);
        let stopping = stop.clone();
        let keeping = tokio::spawn(async move {
            while !stopping.is_cancelled() {
                let mut child = command().spawn().expect("codex starts");
                let group = Group(child.id().expect("it runs") as i32);
                told.send_replace(Some(group.0));
                tokio::select! {
                    _ = child.wait() => {}
                    () = stopping.cancelled() => end(&mut child, &group).await,
                }
                told.send_replace(None);
            }
        });
        Self { stop, script, keeping: Some(keeping) }
    }

    /// The process that serves.
    pub async fn server(&self) -> i32 {
        let mut script = self.script.clone();
        let script = timeout(PATIENCE, script.wait_for(Option::is_some)).await.expect("codex was not started");
        let script = script.expect("it is kept").expect("it is there");
        let mut found = None;
        eventually("the script starts the program", || {
            let pids = std::fs::read_dir("/proc").unwrap().flatten();
            let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
            found = pids.find(|pid| parent(*pid) == Some(script));
            found.is_some()
        })
        .await;
        found.expect("it was found")
    }

    /// Ends it, and waits until it is gone.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(keeping) = self.keeping.take() {
            timeout(PATIENCE, keeping).await.expect("codex does not end").expect("what keeps it");
        }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if let Some(keeping) = &self.keeping {
            keeping.abort();
        }
    }
}

/// A script and what it started. Killed when dropped.
struct Group(i32);

impl Group {
    fn signal(&self, name: &str) {
        let _ = std::process::Command::new("kill").args([name, "--", &format!("-{}", self.0)]).output();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal("-KILL");
    }
}

async fn end(child: &mut Child, group: &Group) {
    // One that is told the first time waits for turns that still run, for as long as they do.
    for signal in ["-TERM", "-TERM", "-KILL"] {
        group.signal(signal);
        // One that was stopped has to go on to hear it.
        group.signal("-CONT");
        if timeout(GRACE, child.wait()).await.is_ok() {
            return;
        }
    }
}

/// Writes a file that only this user may read.
pub fn secret_file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}
