//! Which Codex to run, and with which settings.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reachback_proto::words::{quote, shell_word};

use super::ground::Ground;
use super::permissions::Profiles;
use crate::platform::files;
use crate::state::codex::Note;

/// A skill in a folder can make Codex ask whether to install an MCP server, and "Install" writes a command into the owner's
/// `config.toml`, which every later thread runs.
const NO_INSTALL: &str = "features.skill_mcp_dependency_install=false";

/// Which Codex to run, and how. Paths are taken as they are; the environment was read by the caller.
#[derive(Debug, Clone)]
pub struct CodexConfig {
    /// A path, or a name on the search path. Default: `codex`.
    pub program: PathBuf,
    /// `CODEX_HOME`. Default: `None`, the user's own `~/.codex`.
    pub home: Option<PathBuf>,
    /// More environment for Codex. Default: none. `REACHBACK_*` is never passed on.
    pub env: Vec<(OsString, OsString)>,
    /// Where it runs, and what holds its own git. Default: `None`, where the agent does, and nothing. A server that was
    /// already running is where it is.
    pub ground: Option<Arc<Ground>>,
    /// Settings that win over `config.toml`, as `key=value` (`codex -c`). Default: none. A server that was
    /// already running does not have them.
    pub overrides: Vec<String>,
    /// What threads may do that choose nothing. Default: `None`, what `config.toml` says. A server that was already
    /// running does not know of them.
    pub profiles: Option<Arc<Profiles>>,
    /// How long it may be silent.
    pub silence: Silence,
    /// Where it is noted what was started, so that the next agent ends what this one could not. Default: `None`, nowhere.
    pub note: Option<Note>,
}

impl Default for CodexConfig {
    fn default() -> Self {
        Self {
            program: "codex".into(),
            home: None,
            env: Vec::new(),
            ground: None,
            overrides: Vec::new(),
            profiles: None,
            silence: Silence::default(),
            note: None,
        }
    }
}

/// How it is noticed that a Codex runs and does nothing: stopped, or stuck. A question that it refuses in milliseconds,
/// however busy its threads are, is put to it now and then.
#[derive(Debug, Clone, Copy)]
pub struct Silence {
    /// Between an answer and the next question.
    pub ask_after: Duration,
    /// Without an answer for so long, people are told.
    pub told_after: Duration,
    /// And so long after that, one that the agent started is ended and started anew.
    pub ended_after: Duration,
}

/// Minutes for a disk that is woken, or a machine that swaps. The clock stands still while the machine sleeps.
impl Default for Silence {
    fn default() -> Self {
        Self {
            ask_after: Duration::from_secs(10),
            told_after: Duration::from_secs(15),
            ended_after: Duration::from_secs(100),
        }
    }
}

/// How long a disk may take to say how full it is.
const DISK_PATIENCE: Duration = Duration::from_secs(10);

/// A disk with less than this is full, in bytes: one turn with large outputs writes some megabytes.
pub(crate) const FULL_DISK: u64 = 16 << 20;

impl CodexConfig {
    /// How many bytes there is room for where Codex has its state; `None` where that is not known.
    pub(crate) async fn room(&self) -> Option<u64> {
        let home = self.codex_home()?;
        let asking = tokio::task::spawn_blocking(move || files::room(&home));
        tokio::time::timeout(DISK_PATIENCE, asking).await.ok()?.ok()?
    }

    /// Why a start failed and what helps, where that is a full disk: what Codex says then does not name it.
    pub(super) async fn or_full_disk(&self, reason: String, fix: Option<String>) -> (String, Option<String>) {
        match (self.room().await, self.codex_home()) {
            (Some(room), Some(home)) if room < FULL_DISK => {
                let reason = format!("{reason}; the disk with {} is full", quote(home.display()));
                (reason, Some("make room there".to_owned()))
            }
            _ => (reason, fix),
        }
    }

    /// Where the app-server of this home listens; `None` when the user has no home folder.
    pub fn control_socket(&self) -> Option<PathBuf> {
        self.codex_home().map(|home| control_socket(&home))
    }

    /// `CODEX_HOME`, chosen or the user's own; `None` when the user has no home folder.
    pub fn codex_home(&self) -> Option<PathBuf> {
        self.home.clone().or_else(|| Some(std::env::home_dir()?.join(".codex")))
    }

    /// The same, where Codex can use it.
    pub(super) fn usable_home(&self) -> Result<PathBuf, HomeError> {
        let home = self.codex_home().ok_or(HomeError::None)?;
        if home.to_str().is_none() {
            // It would read the variable with other characters in place of those, and look in another folder.
            return Err(HomeError::NotText { home });
        }
        Ok(home)
    }

    /// The same, and it is there, for a Codex that is about to be started.
    ///
    /// Codex never makes one that somebody chose. Its default it makes by itself, but for a server in a home below the temporary
    /// folder, and others may look into it (measured with 0.169.0).
    pub(super) fn home_for_start(&self) -> Result<PathBuf, HomeError> {
        let home = self.usable_home()?;
        // Where there is no Codex either, that is what is missing.
        if home.is_dir() || (self.home.is_none() && self.program_file().is_none()) {
            return Ok(home);
        }
        if self.home.is_some() {
            return Err(HomeError::Missing { home });
        }
        match files::create_dir(&home) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => Err(HomeError::NotMade { home, source }),
            _ => Ok(home),
        }
    }

    /// All settings for a server that we start.
    pub(crate) fn settings(&self) -> Vec<String> {
        let mut settings = self.overrides.clone();
        settings.push(NO_INSTALL.to_owned());
        settings.extend(self.profiles.iter().flat_map(|profiles| profiles.for_process()));
        settings
    }
}

/// There is no folder that Codex can use for its own.
#[derive(Debug, thiserror::Error)]
pub(super) enum HomeError {
    #[error("there is no home folder, and no CODEX_HOME")]
    None,
    #[error("codex's own folder {} has a path that is not valid text (UTF-8), which codex can't use", quote(home.display()))]
    NotText { home: PathBuf },
    #[error("there is no folder {}, which CODEX_HOME or --codex-home names, and codex makes none that is named", quote(home.display()))]
    Missing { home: PathBuf },
    #[error("codex's own folder {} can't be made", quote(home.display()))]
    NotMade { home: PathBuf, source: io::Error },
}

impl HomeError {
    /// What a person can do about it.
    pub(super) fn fix(&self) -> String {
        match self {
            Self::None => "set CODEX_HOME".to_owned(),
            Self::NotText { .. } => "set CODEX_HOME, or --codex-home, to another folder".to_owned(),
            Self::Missing { home } => format!("make it: mkdir -p {}; or name another one", shell_word(home.display())),
            Self::NotMade { home, .. } => format!("see what is in the way: mkdir {}", shell_word(home.display())),
        }
    }
}

/// Where an app-server with this home listens by default.
///
/// Codex puts the socket in a short temporary path and a link to it in `CODEX_HOME`.
pub(super) fn control_socket(codex_home: &Path) -> PathBuf {
    codex_home.join("app-server-control").join("app-server-control.sock")
}
