//! Putting a unit in its place, and taking it away again.
//!
//! Everything that changes the machine is a [`Step`], told right after it was done, or
//! in place of doing it (`--dry-run`). Installing again is no harm: a file that says
//! what it should is not written, and a service that runs on it goes on running. A file
//! of the same name that was not written here is somebody's, and nothing is done then.
//!
//! A user's services end with the last login and start with the first, unless the user
//! *lingers*. So that is asked for as well, and where an administrator has to allow it,
//! the words to say are told.

use std::ffi::OsString;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;
use std::{fs, io};

use reachback_proto::words::{printable, quote, shell_word};
use serde::Serialize;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use super::unit::is_ours;

/// How long one command may take. A service gets this long to become ready, too; it may take longer, and is not waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// How soon a user's manager is there that did not run before.
const MANAGER_START: Duration = Duration::from_secs(10);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(200);

/// Whose systemd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manager {
    /// The one of this user.
    User {
        /// The user.
        uid: u32,
    },
    /// The machine's, which root speaks to.
    System,
}

/// Something that was done, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "did", rename_all = "snake_case")]
pub enum Step {
    /// A file was written.
    Wrote {
        /// Which.
        path: PathBuf,
    },
    /// A file says what it should already, or is not there as it should not be.
    Kept {
        /// Which.
        path: PathBuf,
    },
    /// A file was removed.
    Removed {
        /// Which.
        path: PathBuf,
    },
    /// A command was run.
    Ran {
        /// Its words.
        command: Vec<String>,
    },
    /// Nothing was done, and here is what to know.
    Noted {
        /// A sentence.
        note: String,
    },
}

impl Step {
    /// For a person; `planned` is what would be done.
    pub fn line(&self, planned: bool) -> String {
        let verb = |plan: &'static str, past: &'static str| if planned { plan } else { past };
        match self {
            Self::Wrote { path } => format!("{} {}", verb("would write", "wrote"), quote(path.display())),
            Self::Removed { path } => format!("{} {}", verb("would remove", "removed"), quote(path.display())),
            Self::Kept { path } => format!("{} is as it should be", quote(path.display())),
            Self::Ran { command } => {
                let words = command.iter().map(|word| printable(&shell_word(word))).collect::<Vec<_>>().join(" ");
                format!("{} {words}", verb("would run", "ran"))
            }
            Self::Noted { note } => note.clone(),
        }
    }
}

/// Why a service can't be installed or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// There is no systemd.
    #[error("no systemd runs this machine: {said}")]
    NoSystemd {
        /// What was said when it was asked.
        said: String,
    },
    /// There is one, and this user has none of their own.
    #[error("systemd does not answer to this user: {said}")]
    NoUserBus {
        /// What was said when it was asked.
        said: String,
    },
    /// A file of that name is somebody else's.
    #[error("{} was not written by this command, and is left alone", quote(path.display()))]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// A command failed.
    #[error("`{command}` failed: {said}")]
    Failed {
        /// The command.
        command: String,
        /// What it said.
        said: String,
    },
    /// A file can't be read, written or removed.
    #[error("{} can't be used", quote(path.display()))]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was asked for can't work as a service.
    #[error("{message}")]
    Unfit {
        /// Why.
        message: String,
        /// What to do.
        fix: String,
    },
}

impl ServiceError {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoSystemd { .. } => "no_systemd",
            Self::NoUserBus { .. } => "no_user_bus",
            Self::NotOurs { .. } => "not_ours",
            Self::Failed { .. } => "service_failed",
            Self::File { .. } => "service_file",
            Self::Unfit { .. } => "service_unfit",
        }
    }

    /// The next step.
    pub fn fix(&self) -> String {
        match self {
            Self::NoSystemd { .. } => {
                "start the program by whatever starts services here: the samples in deploy/ show with which words, and \
                 `reachback host install --print launchd` or `task-scheduler` prints what those take"
                    .into()
            }
            Self::NoUserBus { .. } => {
                "have an administrator say `sudo loginctl enable-linger` with your user name after it, or \
                log in as this user over SSH or at the console (su and sudo begin no login), and say it again"
                    .into()
            }
            Self::NotOurs { path } => {
                format!("keep it and look after it by hand, or move it away and say it again: {}", shown(path))
            }
            Self::Failed { .. } => {
                "its log says more: `reachback host logs`, or `journalctl -u reachback-relay` for a relay".into()
            }
            Self::File { path, .. } => format!("look at who may write there: ls -ld {}", shown(path)),
            Self::Unfit { fix, .. } => fix.clone(),
        }
    }
}

fn shown(path: &Path) -> String {
    printable(&shell_word(path.display()))
}

/// One unit at its place.
#[derive(Debug, Clone)]
pub struct Service {
    /// Whose it is.
    pub manager: Manager,
    /// The folder of unit files.
    pub folder: PathBuf,
    /// The unit, with its ending.
    pub name: &'static str,
    /// Whether nothing is to be changed.
    pub dry_run: bool,
}

impl Service {
    /// A unit of this user's, in the folder that the environment (`lookup`) says.
    ///
    /// # Errors
    ///
    /// When this is no Linux, or nothing says where this user's folders are.
    pub fn of_user(
        name: &'static str,
        lookup: impl Fn(&str) -> Option<OsString>,
        dry_run: bool,
    ) -> Result<Self, ServiceError> {
        let uid = uid().ok_or_else(|| ServiceError::NoSystemd { said: "this is no Linux".into() })?;
        let folder = |name| lookup(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let config = folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")));
        let config = config.filter(|path| path.to_str().is_some()).ok_or_else(|| ServiceError::Unfit {
            message: "nothing says, in valid text (UTF-8), where this user's units are".into(),
            fix: "set HOME, or XDG_CONFIG_HOME".into(),
        })?;
        Ok(Self { manager: Manager::User { uid }, folder: config.join("systemd/user"), name, dry_run })
    }

    /// A unit of the machine's.
    pub fn of_system(name: &'static str, dry_run: bool) -> Self {
        Self { manager: Manager::System, folder: "/etc/systemd/system".into(), name, dry_run }
    }

    /// The unit's file.
    pub fn path(&self) -> PathBuf {
        self.folder.join(self.name)
    }

    /// Writes the unit, has it start with the machine, and starts it, or starts it anew where its text has changed.
    ///
    /// `account` is a system user that is made when it is not there. Each step is told.
    ///
    /// # Errors
    ///
    /// When systemd does not answer, the file is somebody's, or a step fails; steps that were told are done.
    pub async fn install(&self, text: &str, account: Option<&str>, tell: &impl Fn(&Step)) -> Result<(), ServiceError> {
        let before = self.current()?;
        self.prepare(tell).await?;
        if let Some(account) = account {
            self.make_account(account, tell).await?;
        }
        let is_new = before.as_deref() != Some(text);
        if is_new {
            self.write(text)?;
            tell(&Step::Wrote { path: self.path() });
            self.act(&["daemon-reload"], tell).await?;
        } else {
            tell(&Step::Kept { path: self.path() });
        }
        self.act(&["enable", self.name], tell).await?;
        self.start(if is_new { "restart" } else { "start" }, tell).await
    }

    /// Stops the service and removes the unit. Data and keys stay. Each step is told.
    ///
    /// # Errors
    ///
    /// When systemd does not answer, the file is somebody's, or a step fails; steps that were told are done.
    pub async fn uninstall(&self, tell: &impl Fn(&Step)) -> Result<(), ServiceError> {
        if self.current()?.is_none() {
            tell(&Step::Noted { note: format!("{} is not there: nothing to remove", quote(self.path().display())) });
            return Ok(());
        }
        self.answers(false).await?;
        self.act(&["disable", "--now", self.name], tell).await?;
        if !self.dry_run {
            fs::remove_file(self.path()).map_err(|source| self.file_error(source))?;
        }
        tell(&Step::Removed { path: self.path() });
        self.act(&["daemon-reload"], tell).await
    }

    /// What the unit says now; `None` where there is none.
    fn current(&self) -> Result<Option<String>, ServiceError> {
        match fs::read_to_string(self.path()) {
            Ok(text) if is_ours(&text) => Ok(Some(text)),
            Ok(_) => Err(ServiceError::NotOurs { path: self.path() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // Ours is text.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(ServiceError::NotOurs { path: self.path() })
            }
            Err(source) => Err(self.file_error(source)),
        }
    }

    fn file_error(&self, source: io::Error) -> ServiceError {
        ServiceError::File { path: self.path(), source }
    }

    /// Writes the file as a whole or not at all.
    fn write(&self, text: &str) -> Result<(), ServiceError> {
        if self.dry_run {
            return Ok(());
        }
        let write = || {
            fs::create_dir_all(&self.folder)?;
            let half = self.folder.join(format!(".{}.{}", self.name, std::process::id()));
            fs::write(&half, text)?;
            fs::rename(&half, self.path()).inspect_err(|_| drop(fs::remove_file(&half)))
        };
        write().map_err(|source| self.file_error(source))
    }

    /// Sees to it that there is a manager, now and while nobody is logged in.
    async fn prepare(&self, tell: &impl Fn(&Step)) -> Result<(), ServiceError> {
        let answered = self.answers(false).await;
        let has_none = matches!(answered, Err(ServiceError::NoUserBus { .. }));
        if answered.is_ok() || has_none {
            let is_new = self.linger(tell).await;
            // Who lingers has a manager without a login.
            if has_none && is_new {
                return self.answers(true).await;
            }
        }
        answered
    }

    /// Sees to it that a user's services run while nobody is logged in. True when that was turned on just now.
    async fn linger(&self, tell: &impl Fn(&Step)) -> bool {
        let Manager::User { uid } = self.manager else { return false };
        let asked = self.run("loginctl", &["show-user", &uid.to_string(), "--property=Linger", "--value"]).await;
        // Where nothing is known of the user there is no login and no lingering.
        if asked.as_ref().is_ok_and(|told| stdout(told) == "yes") {
            return false;
        }
        let words = ["--no-ask-password", "enable-linger"];
        let step = Step::Ran { command: line("loginctl", &words) };
        if self.dry_run {
            tell(&step);
            return false;
        }
        match self.run("loginctl", &words).await {
            Ok(done) if done.status.success() => {
                tell(&step);
                true
            }
            other => {
                let said = other.map_or_else(|error| error.to_string(), |done| stderr(&done));
                let note = format!(
                    "it will end when you log out, and not start with the machine, until an administrator says: \
                     sudo loginctl enable-linger USER ({said})"
                );
                tell(&Step::Noted { note });
                false
            }
        }
    }

    /// Whether systemd answers; one that has only just been started gets a moment.
    async fn answers(&self, just_started: bool) -> Result<(), ServiceError> {
        let until = Instant::now() + if just_started { MANAGER_START } else { Duration::ZERO };
        loop {
            let said = match self.systemctl(&["show", "--property=Version"]).await {
                Ok(told) if told.status.success() => return Ok(()),
                Ok(told) => stderr(&told),
                Err(error) => return Err(ServiceError::NoSystemd { said: error.to_string() }),
            };
            if said.contains("not been booted with systemd") || self.manager == Manager::System {
                return Err(ServiceError::NoSystemd { said });
            }
            if Instant::now() >= until {
                return Err(ServiceError::NoUserBus { said });
            }
            sleep(LOOK).await;
        }
    }

    async fn make_account(&self, account: &str, tell: &impl Fn(&Step)) -> Result<(), ServiceError> {
        if self.run("id", &["-u", account]).await.is_ok_and(|told| told.status.success()) {
            return Ok(());
        }
        let words = ["--system", "--no-create-home", "--shell", "/usr/sbin/nologin", account];
        self.done("useradd", &words, tell).await
    }

    async fn start(&self, verb: &str, tell: &impl Fn(&Step)) -> Result<(), ServiceError> {
        match self.act(&[verb, self.name], tell).await {
            Err(ServiceError::Failed { said, .. }) if said == TOO_LONG => {
                let note = "it has been started, and is not ready yet: its log says what it waits for";
                tell(&Step::Noted { note: note.into() });
                Ok(())
            }
            other => other,
        }
    }

    /// Runs `systemctl` and tells it, unless nothing is to be changed.
    async fn act(&self, words: &[&str], tell: &impl Fn(&Step)) -> Result<(), ServiceError> {
        self.done("systemctl", &self.to_manager(words), tell).await
    }

    /// Runs a command that changes something, and tells it, unless nothing is to be changed.
    async fn done(&self, program: &str, words: &[&str], tell: &impl Fn(&Step)) -> Result<(), ServiceError> {
        let command = line(program, words);
        if !self.dry_run {
            let failed = |said: String| ServiceError::Failed { command: command.join(" "), said };
            let done = self.run(program, words).await.map_err(|error| failed(error.to_string()))?;
            if !done.status.success() {
                return Err(failed(stderr(&done)));
            }
        }
        tell(&Step::Ran { command });
        Ok(())
    }

    async fn systemctl(&self, words: &[&str]) -> io::Result<Output> {
        self.run("systemctl", &self.to_manager(words)).await
    }

    fn to_manager<'a>(&self, words: &[&'a str]) -> Vec<&'a str> {
        let user = matches!(self.manager, Manager::User { .. }).then_some("--user");
        user.into_iter().chain(words.iter().copied()).collect()
    }

    async fn run(&self, program: &str, words: &[&str]) -> io::Result<Output> {
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::null()).kill_on_drop(true);
        // Without a login, as after `su`, nothing says where the user's manager is; it is always there.
        if let Manager::User { uid } = self.manager
            && std::env::var_os("XDG_RUNTIME_DIR").is_none()
        {
            command.env("XDG_RUNTIME_DIR", format!("/run/user/{uid}"));
        }
        timeout(PATIENCE, command.output())
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, TOO_LONG)))
    }
}

/// The user that this program acts as; `None` where there is no systemd.
#[cfg(target_os = "linux")]
pub fn uid() -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").ok().map(|this| this.uid())
}

/// The user that this program acts as; `None` where there is no systemd.
#[cfg(not(target_os = "linux"))]
pub fn uid() -> Option<u32> {
    None
}

/// What is said of a command that did not end.
const TOO_LONG: &str = "no end after 30 s";

fn line(program: &str, words: &[&str]) -> Vec<String> {
    std::iter::once(program).chain(words.iter().copied()).map(str::to_owned).collect()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// What a command said that failed: in one line, and its exit code when it said nothing.
fn stderr(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    match said.trim() {
        "" => output.status.to_string(),
        said => printable(&said.split_whitespace().collect::<Vec<_>>().join(" ")),
    }
}

/// A step with the words that every line of `--json` has.
#[derive(Debug, Serialize)]
pub struct Told<'a> {
    event: &'static str,
    unit: &'a str,
    dry_run: bool,
    #[serde(flatten)]
    step: &'a Step,
}

impl Service {
    /// A step as `--json` prints it.
    pub fn told<'a>(&'a self, step: &'a Step) -> Told<'a> {
        Told { event: "service", unit: self.name, dry_run: self.dry_run, step }
    }
}

impl Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.step.line(self.dry_run))
    }
}
