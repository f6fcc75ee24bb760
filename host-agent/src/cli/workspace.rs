//! `reachback workspace`: which folders devices may work in.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use reachback_proto::frame::LOCAL_ENVIRONMENT;
use reachback_proto::words::{printable, quote, shell_word};

use super::Home;
use super::demo;
use super::host::folders_of;
use super::output::{self, Output};
use crate::agent::environments::changes::{Changes, failure, told};
use crate::agent::environments::workspaces::{OpenedBy, Workspaces};
use crate::codex::CodexConfig;
use crate::disk::{LocalDisk, UnknownDisk};
use crate::firewall::folders::Folders as _;
use crate::local_api::{Client, ClientError, Event, Failure, Request, Response, WorkspaceStatus};
use crate::state::demo::HomeKind;
use crate::state::lock::HomeLock;
use crate::state::timestamp::Timestamp;
use crate::state::workspaces::WorkspaceStore;

const EXAMPLES: &str = "Examples, on the host:\n  \
    cd ~/src/shop && reachback workspace add    open the folder you are in\n  \
    reachback workspace add /srv/site           open another one\n  \
    reachback workspace list                    which are open, and by whom\n  \
    reachback workspace remove /srv/site        close it, trusted or not\n  \
    reachback workspace add --env ssh:devbox src/shop\n  \
    \u{20}                                           one of an SSH host, in your home";

/// Which folders of this host devices may work in: add, list, remove.
///
/// A workspace is a folder that you add here, or one that Codex's own config.toml trusts (you said yes when Codex
/// asked whether you trust it). A device that may steer starts threads in workspaces only: what is in such a folder is
/// configuration that runs on this host, so it is for you to say which.
///
/// Workspaces do not nest: whoever writes in the outer one writes the inner one's configuration, too. Your home folder
/// itself, Codex's folder and Reachback's are never workspaces, nor what contains them.
///
/// Folders of an SSH host (reachback ssh add) are opened with --env ssh:NAME; they lie on that machine, and its own
/// config.toml says what Codex trusts there.
///
/// Devices with scope approve may also start threads in other folders below your home and in folders of a workspace;
/// what is configured there does not run. Scope admin is no wider in this.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct WorkspaceArgs {
    #[command(subcommand)]
    action: Action,
    // Where Codex says what it trusts, for when no agent runs; `up` and `host` have it as an option.
    #[arg(long, env = "CODEX_HOME", hide = true, value_name = "DIR")]
    codex_home: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Open a folder to devices. It takes hold at once, also in a running agent.
    ///
    /// The folder must be there. It can't be your home folder, Codex's or Reachback's, nor contain or lie in another
    /// workspace. One that Codex's config.toml trusts is a workspace already; added here, it stays one when Codex
    /// forgets it.
    Add {
        /// The folder. Default: the one that you are in. Of an SSH host: one that is named from your home folder there.
        dir: Option<PathBuf>,
        #[command(flatten)]
        place: Where,
    },
    /// Show all workspaces, who opened them, and why some do not count.
    ///
    /// A folder that was added or trusted does not count while it is gone, is a link, lies in another workspace, or is
    /// one that is never open to devices.
    List,
    /// Close a folder to devices. What runs there goes on; new threads do not start there.
    ///
    /// Also one that Codex's config.toml trusts: it stays closed, with all that lies in it, until it is added again.
    Remove {
        /// The folder.
        dir: PathBuf,
        #[command(flatten)]
        place: Where,
    },
}

/// Which machine a folder is on.
#[derive(Debug, Args)]
struct Where {
    /// The environment: `ssh:NAME` for an SSH host. Default: this host.
    #[arg(long = "env", value_name = "NAME")]
    environment: Option<String>,
}

impl Where {
    /// The environment, where it is another machine's.
    fn elsewhere(&self) -> Option<String> {
        self.environment.clone().filter(|name| name != LOCAL_ENVIRONMENT)
    }
}

pub(super) async fn run(home: &Home, args: WorkspaceArgs, output: Output) -> anyhow::Result<ExitCode> {
    let request = match &args.action {
        Action::List => Request::Workspaces,
        Action::Add { dir, place } => {
            let environment = place.elsewhere();
            Request::AddWorkspace { path: path(dir.as_deref(), environment.as_deref())?, environment }
        }
        Action::Remove { dir, place } => {
            let environment = place.elsewhere();
            Request::RemoveWorkspace { path: path(Some(dir), environment.as_deref())?, environment }
        }
    };
    let (events, response) = match Client::open(&home.path, &request).await {
        Ok(client) => client.collect().await?,
        Err(ClientError::NotRunning { .. }) => {
            let elsewhere = demo::elsewhere(home).await;
            match (without_agent(home, args.codex_home, &request), elsewhere) {
                (Ok(done), Some(elsewhere)) => {
                    output.remark(format_args!("No agent runs on {}; {elsewhere}", quote(home.path.display())));
                    done
                }
                (done, elsewhere) => done.map_err(|error| output::with_fix(error, elsewhere))?,
            }
        }
        Err(error) => return Err(error.into()),
    };
    match (request, response) {
        (Request::AddWorkspace { .. }, Response::Workspace(workspace)) => {
            output.say(format_args!("Opened to devices: {}", printable(&workspace.path)));
            output.event(&Event::WorkspaceAdded(workspace));
        }
        (_, Response::Workspace(workspace)) => {
            output.say(closed(&workspace));
            output.event(&Event::WorkspaceRemoved(workspace));
        }
        _ => list(&events, output),
    }
    Ok(ExitCode::SUCCESS)
}

/// A folder as the agent is told of it. What it means on another machine is found out there.
fn path(dir: Option<&Path>, elsewhere: Option<&str>) -> anyhow::Result<String> {
    let Some(environment) = elsewhere else { return absolute(dir.unwrap_or(Path::new("."))) };
    let message = format!("which folder of {}?", quote(environment));
    let unnamed = || {
        let fix = format!(
            "name one, from your home folder there: reachback workspace add --env {} DIR",
            shell_word(environment)
        );
        Failure::new("workspace_unnamed", message).fix(fix)
    };
    let dir = dir.ok_or_else(unnamed)?;
    dir.to_str().map(str::to_owned).ok_or_else(|| not_text(dir).into())
}

/// The agent has another current folder, and its requests are text.
fn absolute(dir: &Path) -> anyhow::Result<String> {
    let path = std::path::absolute(dir)?;
    Ok(path.to_str().map(str::to_owned).ok_or_else(|| not_text(&path))?)
}

fn not_text(path: &Path) -> Failure {
    let message = format!("{} can't be a workspace: its path is not valid text", quote(path.display()));
    Failure::new("workspace_not_text", message).fix("give it a name that is valid UTF-8")
}

/// What `list` prints of the events of a request.
fn list(events: &[Event], output: Output) {
    let workspaces: Vec<&WorkspaceStatus> = events
        .iter()
        .filter_map(|event| if let Event::Workspace(workspace) = event { Some(workspace) } else { None })
        .collect();
    events.iter().for_each(|event| output.event(event));
    if workspaces.is_empty() {
        output.say("No folder is open to devices. Open one: reachback workspace add DIR");
        return;
    }
    let mut head = vec!["FOLDER", "OPENED BY", "STATE"];
    let mut rows: Vec<_> = workspaces.iter().map(|workspace| row(workspace)).collect();
    if workspaces.iter().any(|workspace| workspace.environment != LOCAL_ENVIRONMENT) {
        head.insert(0, "ENVIRONMENT");
        for (row, workspace) in rows.iter_mut().zip(&workspaces) {
            row.insert(0, printable(&workspace.environment));
        }
    }
    output.list(&head, &rows);
}

fn row(workspace: &WorkspaceStatus) -> Vec<String> {
    let by = match workspace.by {
        OpenedBy::Owner => "owner",
        OpenedBy::Codex => "Codex's configuration",
    };
    let state = match &workspace.reason {
        None => "open".to_owned(),
        Some(reason) => format!("not open: {}", printable(reason)),
    };
    vec![printable(&workspace.path), by.to_owned(), state]
}

/// What names an environment in a command, with a space before it.
fn option(environment: &str) -> String {
    match environment {
        LOCAL_ENVIRONMENT => String::new(),
        other => format!(" --env {}", printable(&shell_word(other))),
    }
}

fn closed(workspace: &WorkspaceStatus) -> String {
    let path = printable(&workspace.path);
    match workspace.reason {
        None => format!("Closed to devices: {path}"),
        Some(_) => format!(
            "Closed to devices: {path}\nCodex's own configuration still trusts it. To open it again: reachback workspace add{} {}",
            option(&workspace.environment),
            printable(&shell_word(&workspace.path))
        ),
    }
}

/// The same on the files, under the home's lock, when no agent runs.
pub(super) fn without_agent(
    home: &Home,
    codex_home: Option<PathBuf>,
    request: &Request,
) -> anyhow::Result<(Vec<Event>, Response)> {
    let _lock = HomeLock::acquire(&home.path)?;
    let codex_home = match HomeKind::of(&home.path)? {
        HomeKind::Demo => Some(demo::codex_home(&home.path)),
        HomeKind::New | HomeKind::Real => CodexConfig { home: codex_home, ..CodexConfig::default() }.codex_home(),
    };
    let store = Arc::new(WorkspaceStore::open(&home.path)?);
    let disk = Arc::new(LocalDisk::new(folders_of(home, codex_home)?));
    let here = Workspaces::new(LOCAL_ENVIRONMENT, Arc::clone(&store), disk);
    let others = store.current().environments();
    let others = others.into_iter().filter(|name| name != LOCAL_ENVIRONMENT);
    let there = |name: &str| Workspaces::new(name, Arc::clone(&store), Arc::new(UnknownDisk));
    let (environment, path, opens) = match request {
        Request::AddWorkspace { environment, path } => (environment, path, true),
        Request::RemoveWorkspace { environment, path } => (environment, path, false),
        _ => {
            let all = std::iter::once(here).chain(others.map(|name| there(&name)));
            return Ok((
                all.flat_map(|workspaces| told(&workspaces).collect::<Vec<_>>()).map(Event::Workspace).collect(),
                Response::Done,
            ));
        }
    };
    let workspaces = match environment {
        None => here,
        Some(name) if opens => {
            let message = format!("the folders of {} can't be looked at while no agent runs", quote(name));
            return Err(Failure::new("workspace_unseen", message)
                .fix("start it, and try again: reachback host")
                .into());
        }
        Some(name) => there(name),
    };
    let audit = home.audit_log()?;
    let changes = Changes { workspaces: &workspaces, audit: &audit };
    let change = if opens { Changes::open } else { Changes::close };
    let changed = change(changes, Path::new(path), Timestamp::now());
    let changed = changed.map_err(|error| failure(error, &workspaces.option()))?;
    Ok((Vec::new(), Response::Workspace(changed)))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Command};
    use super::*;

    fn action(args: &[&str]) -> Result<Action, clap::Error> {
        match Cli::try_parse_from([&["reachback", "workspace"], args].concat())?.command {
            Command::Workspace(WorkspaceArgs { action, .. }) => Ok(action),
            other => panic!("{other:?}"),
        }
    }

    fn workspace(by: OpenedBy, reason: Option<&str>) -> WorkspaceStatus {
        WorkspaceStatus {
            environment: "local".into(),
            path: "/srv/my project".into(),
            by,
            open: reason.is_none(),
            reason: reason.map(str::to_owned),
        }
    }

    #[test]
    fn add_means_the_current_folder_and_remove_names_one() {
        assert!(matches!(action(&["add"]), Ok(Action::Add { dir: None, .. })));
        assert!(matches!(action(&["add", "x"]), Ok(Action::Add { dir: Some(_), .. })));
        assert!(matches!(action(&["list"]), Ok(Action::List)));
        for wrong in [&[][..], &["remove"], &["add", "x", "y"]] {
            assert_eq!(action(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
        let here = absolute(Path::new(".")).unwrap();
        assert_eq!(Path::new(&here), std::env::current_dir().unwrap());
    }

    #[test]
    fn a_row_says_who_opened_it_and_why_it_does_not_count() {
        assert_eq!(row(&workspace(OpenedBy::Owner, None)), ["/srv/my project", "owner", "open"]);
        let row = row(&workspace(OpenedBy::Codex, Some("it lies in /srv")));
        assert_eq!(row[1..], ["Codex's configuration", "not open: it lies in /srv"]);
    }

    #[test]
    fn what_codex_trusts_still_is_named_with_the_way_back() {
        assert_eq!(closed(&workspace(OpenedBy::Owner, None)), "Closed to devices: /srv/my project");
        let words = closed(&workspace(OpenedBy::Codex, Some("the host's owner closed this folder to devices")));
        assert!(words.ends_with("reachback workspace add '/srv/my project'"), "{words}");
    }
}
