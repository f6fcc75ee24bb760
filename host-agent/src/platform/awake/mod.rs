//! Keeping this machine awake, whether it is plugged in, and when it sleeps.
//!
//! | system | what keeps it awake | who looks whether it is plugged in |
//! |---|---|---|
//! | Linux | a lock of systemd-logind's: an open file ([`logind`]) | the agent, in `/sys/class/power_supply` ([`power`]) |
//! | macOS | `caffeinate -s`, which runs as long as the agent ([`programs`]) | macOS: what it asks for counts on mains only |
//! | Windows | a script of PowerShell's that calls `SetThreadExecutionState` ([`programs`]) | the script |
//!
//! None of them outlives the agent, however that ends: the kernel closes the file of a process that was killed,
//! `caffeinate` waits for the process, and the script for the end of what it reads. Closing the lid and a person who
//! has the machine sleep are not kept from it.
//!
//! What is there for macOS and Windows has never run: Reachback is tested on Linux only. Tests here say that such a program
//! runs until it is let go of, and that the words for it are those of its manual.

#[cfg(target_os = "linux")]
mod logind;
mod power;
mod programs;
#[cfg(all(test, target_os = "linux"))]
pub(crate) mod testing;

use std::io;
use std::path::PathBuf;

#[cfg(target_os = "linux")]
pub(crate) use logind::SleepWatch;
use programs::Program;

/// Where Linux lists what a machine gets its power from.
const POWER: &str = "/sys/class/power_supply";
/// Where it is said what to do where logind allows less than is wanted.
const HELP: &str = "docs/operations.md, \"Keep awake\", has the rule that allows it";

/// This machine, as far as its sleep is concerned.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    power: PathBuf,
    /// The address of the bus on which logind is, if not the system's.
    bus: Option<String>,
}

/// What a machine gets its power from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Power {
    /// Mains, or it has no battery.
    PluggedIn,
    /// Its battery.
    Battery,
    /// What keeps this machine awake looks at that by itself, and counts only while it is plugged in.
    NotLookedAt,
}

/// Keeps the machine awake until it is dropped, or this process ends.
#[derive(Debug)]
pub(crate) struct Lock(Kind);

#[derive(Debug)]
enum Kind {
    #[cfg(target_os = "linux")]
    Logind(logind::Lock),
    Program(Program),
}

/// What a lock keeps a machine from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// From sleeping while nobody is at it, whoever thinks that it should.
    Whole,
    /// Only from what logind does by itself when nobody is at it (`IdleAction`); a desktop may have it sleep all the same.
    IdleOnly,
}

/// What becomes of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sleep {
    /// It is about to sleep.
    Begins,
    /// It is awake again, or did not sleep after all.
    Ends,
}

/// Tells when this machine sleeps, and has it wait for what is to be done before. Nobody does, on this system.
#[cfg(not(target_os = "linux"))]
pub(crate) enum SleepWatch {}

#[cfg(not(target_os = "linux"))]
impl SleepWatch {
    /// What happens next.
    pub(crate) async fn next(&mut self) -> Option<Sleep> {
        match *self {}
    }

    /// All is done that was to be done before the machine sleeps.
    pub(crate) fn ready(&mut self) {
        match *self {}
    }
}

/// The machine is not kept awake.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum AwakeError {
    /// Who would have to be asked is not there.
    #[error("there is no systemd-logind that could be asked: {0}")]
    NoLogind(String),
    /// By the system's rules this user may not.
    #[error("systemd-logind does not let this user keep the computer awake: {0}")]
    Denied(String),
    /// It was asked, in vain.
    #[error("systemd-logind gave no lock: {0}")]
    NoLock(String),
    /// The program that would do it.
    #[error("{program} can't be started: {source}")]
    Program {
        /// Its name.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody has said how.
    #[cfg(not(target_os = "linux"))]
    #[error("on this system nothing keeps a computer awake for a program")]
    NoWay,
}

impl AwakeError {
    /// Whether nobody on this system does such a thing.
    pub(crate) fn is_not_offered(&self) -> bool {
        match self {
            Self::NoLogind(_) => true,
            Self::Denied(_) | Self::NoLock(_) | Self::Program { .. } => false,
            #[cfg(not(target_os = "linux"))]
            Self::NoWay => true,
        }
    }

    /// What a person does about it.
    pub(crate) fn fix(&self) -> String {
        match self {
            Self::NoLogind(_) => "Reachback keeps a Linux computer awake with systemd-logind, or elogind, only".into(),
            Self::Denied(_) => HELP.into(),
            Self::NoLock(_) | Self::Program { .. } => "it is tried again by itself".into(),
            #[cfg(not(target_os = "linux"))]
            Self::NoWay => "see in its settings that it does not sleep".into(),
        }
    }
}

impl Machine {
    /// The one that this runs on.
    pub(crate) fn this() -> Self {
        Self { power: POWER.into(), bus: None }
    }

    /// One whose power supplies are in this folder, and whose logind is on the bus with this address.
    #[cfg(all(test, target_os = "linux"))]
    pub(crate) fn of(power: &std::path::Path, bus: &str) -> Self {
        Self { power: power.to_owned(), bus: Some(bus.to_owned()) }
    }

    /// Whether there is something on it that would be asked to keep it awake.
    pub(crate) async fn offers(&self) -> bool {
        match () {
            () if cfg!(any(target_os = "macos", windows)) => true,
            () => self.has_logind().await,
        }
    }

    /// What it gets its power from now.
    pub(crate) async fn power(&self) -> Power {
        if !cfg!(target_os = "linux") {
            return Power::NotLookedAt;
        }
        let folder = self.power.clone();
        // A battery may take its time to answer.
        let looked = tokio::task::spawn_blocking(move || power::is_plugged_in(&folder)).await;
        match looked.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())) {
            true => Power::PluggedIn,
            false => Power::Battery,
        }
    }

    /// Keeps it awake.
    pub(crate) async fn keep_awake(&self) -> Result<Lock, AwakeError> {
        let program = match () {
            () if cfg!(target_os = "macos") => programs::caffeinate(std::process::id()),
            () if cfg!(windows) => programs::powershell(),
            () => return self.ask_logind().await,
        };
        Program::start(&program).map(|program| Lock(Kind::Program(program)))
    }

    /// Whoever tells when it sleeps.
    #[cfg(target_os = "linux")]
    pub(crate) async fn watch_sleep(&self) -> Result<SleepWatch, AwakeError> {
        SleepWatch::start(self.bus.as_deref()).await
    }

    /// Nobody tells it here.
    #[cfg(not(target_os = "linux"))]
    pub(crate) async fn watch_sleep(&self) -> Result<SleepWatch, AwakeError> {
        Err(AwakeError::NoWay)
    }

    #[cfg(target_os = "linux")]
    async fn ask_logind(&self) -> Result<Lock, AwakeError> {
        logind::lock(self.bus.as_deref()).await.map(|lock| Lock(Kind::Logind(lock)))
    }

    #[cfg(target_os = "linux")]
    async fn has_logind(&self) -> bool {
        logind::is_there(self.bus.as_deref()).await
    }

    #[cfg(not(target_os = "linux"))]
    async fn has_logind(&self) -> bool {
        false
    }

    #[cfg(not(target_os = "linux"))]
    async fn ask_logind(&self) -> Result<Lock, AwakeError> {
        Err(AwakeError::NoWay)
    }
}

impl Lock {
    /// Whether it holds still; what keeps it may have been ended by somebody.
    pub(crate) fn holds(&mut self) -> bool {
        match &mut self.0 {
            #[cfg(target_os = "linux")]
            Kind::Logind(_) => true,
            Kind::Program(program) => program.runs(),
        }
    }

    /// What it keeps the machine from.
    pub(crate) fn reach(&self) -> Reach {
        match &self.0 {
            #[cfg(target_os = "linux")]
            Kind::Logind(lock) => lock.reach(),
            Kind::Program(_) => Reach::Whole,
        }
    }
}

/// Why a lock reaches no further, and what a person does about it.
pub(crate) const IDLE_ONLY: (&str, &str) =
    ("systemd-logind lets this user keep it only from what logind itself does when nobody is at it", HELP);
