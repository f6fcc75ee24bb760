//! What a Codex that the agent starts stands on: the folder it runs in, and what its own git may enter.
//!
//! `command/exec` may write in the folder that the process runs in, whatever
//! folder the command itself works in. So that one is private and empty.
//!
//! Codex runs git by itself, outside its sandbox, in the folders of threads, and
//! git runs what a repository configures (filters). A prompt can make such a
//! repository anywhere below a workspace. So that git gets an environment in
//! which it takes every repository for somebody else's and refuses it, unless
//! the repository is on a list, which holds the workspaces. Commands of the
//! model get git's usual view of things back; they run in the sandbox.
//!
//! Taking a repository for somebody else's is a hook of git's own tests, so it
//! is tried out at each start. Where it does nothing, Codex's git is sent to
//! a repository that does not exist, and then says nothing about any folder.
//!
//! Not used, although it would keep an untrusted folder's configuration out of
//! threads that are opened without the firewall: `projects={"/"=untrusted}` as a
//! setting of the process. With it the owner's own terminal offers nothing but
//! "Open restricted" for a folder that is new to Codex: they could not trust one
//! any more (measured with 0.169.0).

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use reachback_relay::files::replace;
use toml::{Table, Value};

use super::CodexConfig;
use crate::platform::files::{self, AccessError};

/// Git's test hook; git itself reads it.
const FOREIGN: &str = "GIT_TEST_ASSUME_DIFFERENT_OWNER";

/// How git is given settings by environment: how many there are, then `_KEY_n` and `_VALUE_n`.
const COUNT: &str = "GIT_CONFIG_COUNT";

/// Git looks at a new repository in milliseconds.
const GIT_DEADLINE: Duration = Duration::from_secs(10);

/// What git ends with when it refuses a repository.
const FATAL: i32 = 128;

/// The folders, in the agent's home.
#[derive(Debug)]
pub struct Ground {
    empty: PathBuf,
    git: PathBuf,
    listed: Mutex<Option<Vec<PathBuf>>>,
    told: Once,
}

/// How Codex's own git is held, and the model's is not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hold {
    /// For the process.
    pub(super) env: Vec<(String, OsString)>,
    /// Settings, `key=value`.
    pub(super) settings: Vec<String>,
}

impl Ground {
    /// Makes or checks the folders below `folder`, which lies where no device may work.
    pub fn prepare(folder: &Path) -> Result<Self, AccessError> {
        files::state_dir(folder)?;
        // Git compares real paths.
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let (empty, git) = (folder.join("empty"), folder.join("git"));
        files::private_dir(&empty)?;
        files::private_dir(&git)?;
        Ok(Self { empty, git, listed: Mutex::default(), told: Once::new() })
    }

    /// The folder that Codex runs in.
    pub fn empty(&self) -> &Path {
        &self.empty
    }

    /// The folder with the list, which is not for commands to change.
    pub fn git(&self) -> &Path {
        &self.git
    }

    /// Lets Codex's own git into the repositories whose top these folders are, and no others, from its next run on.
    pub fn list(&self, workspaces: &[PathBuf]) {
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        if listed.as_deref() == Some(workspaces) {
            return;
        }
        let file = self.file();
        match replace(&file, safe_directories(workspaces).as_bytes()) {
            Ok(()) => *listed = Some(workspaces.to_owned()),
            Err(error) => {
                tracing::warn!(%error, "could not write which repositories Codex's own git may enter; it enters none");
                // What an older list opens may be closed now. Without one, git refuses all.
                let _ = std::fs::remove_file(&file);
                *listed = None;
            }
        }
    }

    fn file(&self) -> PathBuf {
        self.git.join("workspaces")
    }

    /// Tries out what holds git on this machine.
    pub(super) async fn hold(&self, config: &CodexConfig) -> Hold {
        let open = |name: &str| config.variable(name);
        let error = match self.probe(config).await {
            Ok(true) => return listing(open, &self.file()),
            // One that is installed later finds it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return listing(open, &self.file()),
            Ok(false) => None,
            Err(error) => Some(error.to_string()),
        };
        let hold = nowhere(config);
        let is_held = self.refuses(config, &hold, &self.empty).await.unwrap_or(false);
        self.told.call_once(|| {
            tracing::warn!(
                error,
                is_held,
                "git does not refuse repositories as it should: Codex's own git is kept from all of them, and shows no branches"
            );
        });
        hold
    }

    /// Whether git refuses a repository unless it is listed, in the environment that Codex's gets.
    async fn probe(&self, config: &CodexConfig) -> io::Result<bool> {
        let folder = tempfile::Builder::new().prefix("probe-").tempdir_in(&self.git)?;
        let (repository, list) = (folder.path().join("repository"), folder.path().join("list"));
        let init = git(config, &Hold::default(), &["init".as_ref(), "-q".as_ref(), repository.as_ref()]).await?;
        if init != Some(0) {
            return Err(io::Error::other("git could not make a repository"));
        }
        let hold = listing(|name| config.variable(name), &list);
        replace(&list, b"")?;
        let is_refused = self.refuses(config, &hold, &repository).await?;
        replace(&list, safe_directories(std::slice::from_ref(&repository)).as_bytes())?;
        Ok(is_refused && !self.refuses(config, &hold, &repository).await?)
    }

    /// Whether git does not work in a folder; any other failure than a refusal is an error.
    async fn refuses(&self, config: &CodexConfig, hold: &Hold, folder: &Path) -> io::Result<bool> {
        let look = ["-C".as_ref(), folder.as_os_str(), "rev-parse".as_ref(), "--git-dir".as_ref()];
        match git(config, hold, &look).await? {
            Some(0) => Ok(false),
            Some(FATAL) => Ok(true),
            other => Err(io::Error::other(format!("git ended with {other:?}"))),
        }
    }
}

/// Runs git as Codex would; how it ended.
async fn git(config: &CodexConfig, hold: &Hold, args: &[&std::ffi::OsStr]) -> io::Result<Option<i32>> {
    let mut command = config.run(Path::new("git"));
    command.envs(hold.env.iter().map(|(name, value)| (name, value))).args(args);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let ended = tokio::time::timeout(GIT_DEADLINE, command.status()).await;
    Ok(ended.map_err(|_| io::ErrorKind::TimedOut)??.code())
}

/// All repositories are somebody else's, but for those in `list`. What the user's environment tells git otherwise stays.
fn listing(variable: impl Fn(&str) -> Option<OsString>, list: &Path) -> Hold {
    let own = variable(COUNT).and_then(|count| count.to_str()?.parse::<u32>().ok()).unwrap_or(0);
    // The empty one takes back what the user's own configuration allows.
    let ours: [(&str, OsString); 2] = [("safe.directory", OsString::new()), ("include.path", list.into())];
    let mut env = vec![(FOREIGN.to_owned(), "1".into())];
    let mut count = own;
    for (key, value) in ours {
        env.push((format!("GIT_CONFIG_KEY_{count}"), key.into()));
        env.push((format!("GIT_CONFIG_VALUE_{count}"), value));
        count = count.saturating_add(1);
    }
    env.push((COUNT.to_owned(), count.to_string().into()));
    let set = |name, value: String| format!("shell_environment_policy.set.{name}={}", Value::from(value));
    Hold { env, settings: vec![set(FOREIGN, "0".to_owned()), set(COUNT, own.to_string())] }
}

/// There is no repository anywhere. Commands of the model do not hear of it.
fn nowhere(config: &CodexConfig) -> Hold {
    const GIT_DIR: &str = "GIT_DIR";
    let file = config.codex_home().map(|home| home.join("config.toml"));
    let text = file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    // A file that is not TOML is for Codex to complain about: it does not start then.
    let theirs: Table = text.parse().unwrap_or_default();
    let theirs = theirs.get("shell_environment_policy").and_then(|policy| policy.get("exclude")?.as_array());
    // A setting takes the place of the whole list.
    let exclude: Vec<Value> = theirs.into_iter().flatten().cloned().chain([Value::from(GIT_DIR)]).collect();
    Hold {
        env: vec![(GIT_DIR.to_owned(), "/dev/null".into())],
        settings: vec![format!("shell_environment_policy.exclude={}", Value::Array(exclude))],
    }
}

/// A configuration for git that allows these folders.
fn safe_directories(folders: &[PathBuf]) -> String {
    let mut text = "# Written by Reachback: the repositories that Codex's own git may enter.\n[safe]\n".to_owned();
    for folder in folders {
        // A star at the end would stand for all that lies beside it, and a line holds no line break.
        match folder.to_str().filter(|folder| !folder.ends_with('*') && !folder.contains(['\n', '\r', '\0'])) {
            Some(folder) => {
                let quoted = folder.replace('\\', "\\\\").replace('"', "\\\"");
                text.push_str(&format!("\tdirectory = \"{quoted}\"\n"));
            }
            None => tracing::warn!("the name of a workspace can't be told to git, which stays out of it"),
        }
    }
    text
}

#[cfg(unix)]
#[cfg(test)]
mod tests;
