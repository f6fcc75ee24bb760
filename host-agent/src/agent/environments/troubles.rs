//! What is wrong with an environment's Codex although it answers: its disk is full, or another version was installed.
//!
//! Codex goes on in both cases (measured on 0.169.0). On a full disk it answers and works, and what it does there is lost
//! at its end. While a package is replaced, commands fail; after that the old server runs with the new program's helpers.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use reachback_proto::words::quote;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::Environment;
use crate::codex::{CodexConfig, FULL_DISK, parse_plain_version};
use crate::local_api::Failure;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(30);
/// It was full until there is so much again: else every file that comes and goes would be news.
const ROOMY: u64 = 2 * FULL_DISK;

/// Something that its owner should see to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Trouble {
    /// Which one.
    pub code: TroubleCode,
    /// What it is, a sentence for a person.
    pub message: String,
    /// What the owner does about it.
    pub fix: String,
}

/// What kind of trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub enum TroubleCode {
    /// The disk with Codex's state is full.
    DiskFull,
    /// Another version is installed than the one that runs.
    Upgraded,
}

/// In the words of the public format of events.
impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        let code = match trouble.code {
            TroubleCode::DiskFull => "codex_disk_full",
            TroubleCode::Upgraded => "codex_upgraded",
        };
        Self::new(code, trouble.message).fix(trouble.fix)
    }
}

/// The troubles of an environment, as they come and go.
#[derive(Debug)]
pub struct Troubles {
    now: watch::Sender<Vec<Trouble>>,
    /// The version of the server that runs, by its own word.
    runs: Mutex<Option<String>>,
}

impl Default for Troubles {
    fn default() -> Self {
        Self { now: watch::Sender::new(Vec::new()), runs: Mutex::default() }
    }
}

impl Troubles {
    /// As they are, and to be told of changes.
    pub fn subscribe(&self) -> watch::Receiver<Vec<Trouble>> {
        self.now.subscribe()
    }

    /// As they are.
    pub fn current(&self) -> Vec<Trouble> {
        self.now.borrow().clone()
    }

    /// What a server answered to `initialize`.
    pub(super) fn introduced(&self, result: Option<&RawValue>) {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Introduced {
            user_agent: String,
        }
        let said = result.and_then(|result| serde_json::from_str(result.get()).ok());
        *self.runs.lock().unwrap_or_else(PoisonError::into_inner) =
            said.and_then(|Introduced { user_agent }| version(&user_agent));
    }

    /// It has ended.
    pub(super) fn clear(&self) {
        *self.runs.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn runs(&self) -> Option<String> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, found: Vec<Trouble>) {
        self.now.send_if_modified(|known| std::mem::replace(known, found.clone()) != found);
    }
}

/// The version in `reachback/0.169.0 (Debian 12.0.0; x86_64) …`, where the first word is the first client's name.
fn version(user_agent: &str) -> Option<String> {
    let (_, rest) = user_agent.split_once('/')?;
    parse_plain_version(rest.split(' ').next()?)
}

/// Looks after an environment's Codex for ever. Where it is not on this machine there is nothing to look at.
pub(crate) async fn look_after(environment: Arc<Environment>) {
    let mut program = Program::default();
    let mut is_full = false;
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let Some(codex) = environment.codex.config() else { return };
        let home = codex.codex_home();
        if let Some(room) = codex.room().await {
            is_full = room < if is_full { ROOMY } else { FULL_DISK };
        }
        let runs = environment.troubles.runs();
        let installed = match &runs {
            Some(_) => program.version(codex).await,
            None => None,
        };
        let disk = home.filter(|_| is_full).map(|home| disk_full(&home));
        let upgraded = runs.zip(installed).filter(|(runs, installed)| runs != installed);
        environment
            .troubles
            .set(disk.into_iter().chain(upgraded.map(|(runs, new)| upgraded_to(&runs, &new))).collect());
    }
}

/// The installed program, asked again only when it is another file.
#[derive(Default)]
struct Program {
    seen: Option<(PathBuf, Option<SystemTime>, u64)>,
    version: Option<String>,
}

impl Program {
    async fn version(&mut self, codex: &CodexConfig) -> Option<String> {
        let seen = codex.program_file().and_then(|path| {
            let metadata = path.metadata().ok()?;
            Some((path, metadata.modified().ok(), metadata.len()))
        });
        if seen != self.seen || self.version.is_none() {
            // While it is replaced it says nothing, and is asked again.
            self.version = codex.version().await.ok().flatten();
            self.seen = seen;
        }
        self.version.clone()
    }
}

fn disk_full(home: &Path) -> Trouble {
    Trouble {
        code: TroubleCode::DiskFull,
        message: format!("The disk with {} is full: Codex answers, and loses what it does", quote(home.display())),
        fix: "make room there".to_owned(),
    }
}

fn upgraded_to(runs: &str, installed: &str) -> Trouble {
    Trouble {
        code: TroubleCode::Upgraded,
        message: format!("Codex {installed} is installed, and {runs} still runs"),
        fix: "when no turn runs, end the Codex that runs: stop the agent and start it again, or, where the agent joined it, \
              codex app-server daemon restart"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_server_says_its_own_version() {
        for (user_agent, wanted) in [
            ("reachback/0.169.0 (Debian 12.0.0; x86_64) xterm (reachback; 0.1.0)", Some("0.169.0")),
            ("codex_cli_rs/0.170.0-alpha.2", Some("0.170.0-alpha.2")),
            ("reachback", None),
            ("reachback/\u{1b}[2J x", None),
        ] {
            let troubles = Troubles::default();
            let result = serde_json::value::to_raw_value(&json!({ "userAgent": user_agent })).unwrap();
            troubles.introduced(Some(&result));
            assert_eq!(troubles.runs().as_deref(), wanted, "{user_agent}");
            troubles.clear();
            assert_eq!(troubles.runs(), None);
        }
    }

    #[test]
    fn troubles_are_told_when_they_change() {
        let troubles = Troubles::default();
        let mut told = troubles.subscribe();
        troubles.set(Vec::new());
        assert!(!told.has_changed().unwrap());
        troubles.set(vec![upgraded_to("1", "2")]);
        assert!(told.has_changed().unwrap());
        told.mark_unchanged();
        troubles.set(vec![upgraded_to("1", "2")]);
        assert!(!told.has_changed().unwrap());
        assert_eq!(troubles.current()[0].message, "Codex 2 is installed, and 1 still runs");
    }
}
