//! Which folders `up` and `host` open to devices before they start.
//!
//! Those that the command names (`--workspace`, `--workdir`). Else, the first
//! time and in a terminal, they offer the folder that they were started in, and
//! remember the answer. Nothing else is ever opened by starting.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reachback_proto::frame::LOCAL_ENVIRONMENT;
use reachback_proto::words::printable;

use super::Home;
use super::host::{CodexArgs, surroundings};
use super::output::Output;
use super::pair::read_line;
use crate::agent::environments::changes::Changes;
use crate::agent::environments::workspaces::{ChangeError, NotOpen, Workspaces};
use crate::disk::LocalDisk;
use crate::local_api::Failure;
use crate::platform::terminal::forget_typed;
use crate::state::timestamp::Timestamp;
use crate::state::workspaces::WorkspaceStore;

/// Opens what is to be opened, for who holds the home's lock.
pub(super) async fn before_start(home: &Home, args: &CodexArgs, output: Output) -> anyhow::Result<()> {
    let surroundings = surroundings(home, args, None)?;
    let here = surroundings.working_dir.clone();
    let store = Arc::new(WorkspaceStore::open(&home.path)?);
    let workspaces = Workspaces::new(LOCAL_ENVIRONMENT, store, Arc::new(LocalDisk::new(surroundings)));
    let named: Vec<&Path> = args.workspaces.iter().chain(&args.workdir).map(PathBuf::as_path).collect();
    if !named.is_empty() {
        return named.into_iter().try_for_each(|folder| open(home, &workspaces, folder));
    }
    let has_person = output.is_terminal() && std::io::stdin().is_terminal();
    let Some(here) = here.filter(|here| has_person && is_offered(&workspaces, here)) else { return Ok(()) };
    match ask(&here, output).await? {
        Some(true) => open(home, &workspaces, &here),
        Some(false) => Ok(workspaces.decline()?),
        None => Ok(()),
    }
}

/// Whether the owner is asked about a folder: once, and not about one that devices may work in already.
fn is_offered(workspaces: &Workspaces, here: &Path) -> bool {
    let is_open = || workspaces.named(here).is_ok_and(|workspace| workspace.not.is_none());
    workspaces.is_new() && workspaces.could_open(here).is_ok() && !is_open()
}

fn open(home: &Home, workspaces: &Workspaces, folder: &Path) -> anyhow::Result<()> {
    let audit = home.audit_log()?;
    match (Changes { workspaces, audit: &audit }).open(folder, Timestamp::now()) {
        // Said once more.
        Ok(_) | Err(ChangeError::NotOpen { not: NotOpen::Already, .. }) => Ok(()),
        Err(error) => Err(Failure::from(error).into()),
    }
}

/// `None` when standard input ends without an answer.
async fn ask(folder: &Path, output: Output) -> std::io::Result<Option<bool>> {
    output.say("Devices work in folders that you open to them. `reachback workspace --help` says more.\n");
    loop {
        // What was typed before is no answer.
        forget_typed();
        output.say(format_args!("Open {} to your devices? [Y/n]", printable(&folder.to_string_lossy())));
        let line = read_line().await?;
        if line.is_empty() {
            return Ok(None);
        }
        if let Some(answer) = understood(&line) {
            return Ok(Some(answer));
        }
    }
}

fn understood(line: &str) -> Option<bool> {
    match line.trim().to_lowercase().as_str() {
        "" | "y" | "yes" => Some(true),
        "n" | "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enter_is_yes_and_what_is_neither_is_asked_again() {
        for (line, answer) in [
            ("\n", Some(true)),
            ("y\n", Some(true)),
            (" YES \r\n", Some(true)),
            ("n\n", Some(false)),
            ("No\n", Some(false)),
            ("maybe\n", None),
            ("yn\n", None),
        ] {
            assert_eq!(understood(line), answer, "{line:?}");
        }
    }
}
