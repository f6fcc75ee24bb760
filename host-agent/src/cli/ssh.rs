//! `reachback ssh`: the machines that this one reaches over SSH.

mod bootstrap;
mod login;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use reachback_proto::words::{printable, quote, shell_word};

use self::login::Terminal;
use super::Home;
use super::demo;
use super::output::{self, Output};
use crate::agent::environments::workspaces::Workspaces;
use crate::agent::ssh_hosts::{self, SshHostChanges, unknown};
use crate::disk::UnknownDisk;
use crate::local_api::{
    Client, ClientError, Event, Failure, Request, Response, SshAsksDevices, SshChecked, SshCodex, SshEnvironment,
    SshHost, SshStopped,
};
use crate::ssh::{
    About, BootstrapError, Connection, Discovery, DiscoveryError, Found, Nobody, Person, Reach, Settings, Stopped,
};
use crate::state::lock::HomeLock;
use crate::state::ssh_hosts::{SshHostList, SshHostStore};
use crate::state::timestamp::Timestamp;
use crate::state::workspaces::WorkspaceStore;

const EXAMPLES: &str = "Examples, on the host:\n  \
    reachback ssh list                          the machines of ~/.ssh/config\n  \
    reachback ssh check devbox                  as `ssh devbox`; name its Codex\n  \
    reachback ssh add devbox                    let devices see its Codex\n  \
    reachback ssh login devbox                  type its password or code\n  \
    reachback ssh ask-devices devbox on         devices with admin type the code\n  \
    reachback ssh bootstrap devbox --install    install Codex there, or update it\n  \
    reachback ssh remove devbox                 take it back from devices\n  \
    reachback ssh stop devbox                   end the Codex started there\n  \
    reachback ssh list --json                   for programs, one machine a line\n  \
    reachback ssh list --ssh-config FILE        of another file, as `ssh -F`";

/// The machines that this host reaches over SSH, by the names that you gave them.
///
/// A name counts when a `Host` line of ~/.ssh/config, or of a file that it includes, gives it in full. Patterns
/// (`*.lab`) describe machines, they name none. What a name means is OpenSSH's to say (`ssh -G`): user, port,
/// `ProxyJump`, `Match` and all the rest are the same as in your terminal.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct SshArgs {
    #[command(subcommand)]
    action: Action,
    /// Read this file alone, in place of ~/.ssh/config and the system's, as `ssh -F` does.
    #[arg(long, env = "REACHBACK_SSH_CONFIG", global = true, value_name = "FILE")]
    ssh_config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the machines that your SSH configuration names. It connects to none of them.
    ///
    /// For each name OpenSSH is asked what it means, which runs what `Match exec` names there.
    List,
    /// Connect to a machine once, and say which Codex is there.
    ///
    /// It goes the way that `ssh NAME` goes, with the same keys and the same known_hosts. At a terminal you are asked whether
    /// to trust a machine that nobody knows yet, and for passphrases and passwords. A machine whose key has changed is
    /// refused, whatever `StrictHostKeyChecking` says.
    ///
    /// There your login shell is asked for `codex`: its version, whether it is signed in, and whether an app-server of it
    /// runs. Nothing is started or changed.
    Check {
        /// The machine, as your SSH configuration names it.
        name: String,
    },
    /// Say which Codex is on a machine, as `ssh check` does; with --install also put one there.
    ///
    /// Nothing is started: the agent starts an app-server there once a device wants it.
    Bootstrap {
        /// The machine, as your SSH configuration names it.
        name: String,
        /// Where Codex is missing or too old, install the version that this Reachback was tested with, for your user there.
        ///
        /// By `npm install -g`, where your login shell there finds npm. Else npm on this computer fetches Codex's package (160 MB),
        /// which is checked to the bit and copied there over SFTP: into ~/.local/share/reachback, with a link to it in
        /// ~/.local/bin. Nothing that you put there is replaced.
        #[arg(long)]
        install: bool,
    },
    /// End the app-server of Codex that Reachback started on a machine.
    ///
    /// It outlives the link on purpose, so that turns go on while this host is away; what was started is recorded there, in
    /// `reachback` below Codex's home. Turns that run in it are interrupted. An app-server that somebody else started, such
    /// as your own terminal's there, is left alone.
    Stop {
        /// The machine, as your SSH configuration names it.
        name: String,
    },
    /// Make a machine an environment of this host, which your devices see.
    ///
    /// It is checked first, as `check` does. From then on your devices find it beside this host's own environment, as
    /// `ssh:NAME`. The agent connects when one of them wants something there, with the keys and the ssh-agent that it
    /// has; nobody is asked then, see `reachback ssh login`. Where no app-server of Codex runs, it starts one, which goes
    /// on when the link ends; `reachback ssh stop NAME` ends it.
    ///
    /// Devices watch what Codex does there; they work in the folders that you open: reachback workspace add --env ssh:NAME DIR
    Add {
        /// The machine, as your SSH configuration names it.
        name: String,
        /// Add it without connecting to it, as when it is off.
        #[arg(long)]
        unchecked: bool,
    },
    /// Connect the agent to a machine now, and answer at this terminal what is asked on the way.
    ///
    /// For machines that ask for a password or a code, and for keys with a passphrase. A key that you open here stays open
    /// in the agent's memory until the agent ends, so it is asked for once; passwords and codes are not kept: a
    /// machine that asks for one has to be logged in to again when its connection is lost, or has rested for ten minutes.
    Login {
        /// The machine, as it was added.
        name: String,
    },
    /// Say whether your devices may be asked for the codes of a machine, in place of this terminal.
    ///
    /// For a machine that takes a key and then asks for a code (its SSH server's `publickey,keyboard-interactive`). With `on`, a
    /// device with scope `admin` can have the agent log in there, and is shown what the machine asks, in the machine's own words;
    /// after a code that was wrong it waits for half a minute, and longer each time. It is off until you say otherwise, and
    /// no device can turn it on. Passwords, passphrases and machines that nobody knows yet stay at this terminal: `ssh login`.
    AskDevices {
        /// The machine, as it was added.
        name: String,
        /// Whether they may be asked.
        switch: Switch,
    },
    /// Take a machine back from your devices. What runs there goes on.
    Remove {
        /// The machine, as it was added.
        name: String,
    },
}

/// Whether it is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

pub(super) async fn run(home: &Home, args: SshArgs, output: Output) -> anyhow::Result<ExitCode> {
    let SshArgs { action, ssh_config } = args;
    let discovery = discovery(home, ssh_config);
    match action {
        Action::List => list(home, &discovery?, output).await,
        Action::Check { name } | Action::Bootstrap { name, install: false } => {
            check(&discovery?, &name, &Arc::default(), output).await
        }
        Action::Bootstrap { name, install: true } => bootstrap::install(&discovery?, &name, output).await,
        Action::Login { name } => login::run(home, name, output).await,
        Action::Stop { name } => stop(&discovery?, &name, output).await,
        Action::Add { name, unchecked } => {
            let discovery = discovery?;
            if !discovery.names(&name) {
                return Err(unknown(&discovery, &name).into());
            }
            let terminal = Arc::new(Terminal::default());
            if !unchecked {
                check(&discovery, &name, &terminal, output).await?;
            }
            let added = change(home, name.clone(), Change::Add, output).await?;
            if terminal.was_asked() {
                login::again(home, name, terminal, output).await?;
            }
            Ok(added)
        }
        // Also a machine that is named no more.
        Action::AskDevices { name, switch } => {
            change(home, name, Change::AskDevices(switch == Switch::On), output).await
        }
        Action::Remove { name } => change(home, name, Change::Remove, output).await,
    }
}

/// What becomes of a machine.
#[derive(Debug, Clone, Copy)]
enum Change {
    Add,
    AskDevices(bool),
    Remove,
}

/// The code of the failure that there is no `ssh`.
pub(super) const NO_SSH: &str = "ssh_missing";

/// What finds the machines of an SSH configuration: this user's, the demo's own in its home, or another one.
pub(super) fn discovery(home: &Home, config: Option<PathBuf>) -> Result<Discovery, Failure> {
    let config = match config {
        Some(config) => Some(std::path::absolute(&config).unwrap_or(config)),
        None => demo::ssh_config(home)?,
    };
    Discovery::new(home.places.home.clone(), config).map_err(failure)
}

fn failure(error: DiscoveryError) -> Failure {
    let fix = error.fix();
    let code = if matches!(error, DiscoveryError::NoSsh) { NO_SSH } else { "ssh_config" };
    Failure::new(code, format!("{:#}", anyhow::Error::from(error))).fix(fix)
}

/// Adds a machine, takes it back or says who is asked: by the running agent, or else in its files.
async fn change(home: &Home, alias: String, change: Change, output: Output) -> anyhow::Result<ExitCode> {
    let request = match change {
        Change::Add => Request::AddSshHost { alias: alias.clone() },
        Change::AskDevices(on) => Request::AskDevices { alias: alias.clone(), on },
        Change::Remove => Request::RemoveSshHost { alias: alias.clone() },
    };
    let response = match Client::open(&home.path, &request).await {
        Ok(client) => client.collect().await?.1,
        Err(ClientError::NotRunning { .. }) => {
            let elsewhere = demo::elsewhere(home).await;
            match (without_agent(home, &alias, change), elsewhere) {
                (Ok(done), Some(elsewhere)) => {
                    output.remark(format_args!("No agent runs on {}; {elsewhere}", quote(home.path.display())));
                    done
                }
                (done, elsewhere) => done.map_err(|error| output::with_fix(error, elsewhere))?,
            }
        }
        Err(error) => return Err(error.into()),
    };
    match (response, change) {
        (Response::SshAsksDevices(said), _) => tell_who_is_asked(said, output),
        (Response::SshHost(host), Change::Remove) => tell_removed(host, output),
        (Response::SshHost(host), _) => tell_added(host, output),
        _ => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn tell_who_is_asked(said: SshAsksDevices, output: Output) {
    let environment = printable(&said.environment);
    if said.on {
        output.say(format_args!(
            "Devices with admin may be asked for the codes of {environment} from now on, in words of the machine's own, \
             which may say anything."
        ));
    } else {
        output.say(format_args!(
            "No device is asked for the codes of {environment}; they are typed here: reachback ssh login {}",
            printable(&shell_word(&said.alias))
        ));
    }
    output.event(&Event::SshAsksDevices(said));
}

fn tell_added(host: SshEnvironment, output: Output) {
    let environment = printable(&host.environment);
    output.say(format_args!(
        "Your devices see {environment} from now on, and what Codex does there. Open a folder there to work in: \
         reachback workspace add --env {environment} DIR"
    ));
    output.event(&Event::SshAdded(host));
}

fn tell_removed(host: SshEnvironment, output: Output) {
    output.say(format_args!(
        "Taken back from your devices: {}. What runs there goes on; to end an app-server that Reachback started there: \
         reachback ssh stop {}",
        printable(&host.environment),
        printable(&shell_word(&host.alias))
    ));
    output.event(&Event::SshRemoved(host));
}

/// The same on the files, under the home's lock, when no agent runs.
fn without_agent(home: &Home, alias: &str, change: Change) -> anyhow::Result<Response> {
    let _lock = HomeLock::acquire(&home.path)?;
    let (store, audit) = (SshHostStore::open(&home.path)?, home.audit_log()?);
    let changes = SshHostChanges { store: &store, audit: &audit };
    let changed = match change {
        Change::Add => changes.add(alias, None, Timestamp::now()),
        Change::AskDevices(on) => {
            let said = changes.ask_devices(alias, on, Timestamp::now()).map_err(Failure::from)?;
            return Ok(Response::SshAsksDevices(said));
        }
        Change::Remove => changes.remove(alias, None, Timestamp::now()),
    };
    let changed = changed.map_err(Failure::from)?;
    if matches!(change, Change::Remove) {
        let folders = Arc::new(WorkspaceStore::open(&home.path)?);
        Workspaces::new(&changed.environment, folders, Arc::new(UnknownDisk)).forget()?;
    }
    Ok(Response::SshHost(changed))
}

async fn list(home: &Home, discovery: &Discovery, output: Output) -> anyhow::Result<ExitCode> {
    let listing = discovery.list().await.map_err(failure)?;
    for unread in &listing.unread {
        output.remark(format_args!("Not read: {unread}"));
        let fix = "make the file readable for this user, or leave it out of the SSH configuration";
        let words = format!("machines may be missing: an included file was not read: {unread}");
        output.event(&Event::Notice(Failure::new("ssh_config_unread", words).fix(fix)));
    }
    let added = if home.path.is_dir() { SshHostStore::open(&home.path)?.current() } else { Arc::default() };
    let hosts: Vec<SshHost> = listing.found.iter().map(|found| told(found, &added)).collect();
    if hosts.is_empty() {
        let config = printable(&discovery.config().display().to_string());
        output.say(format_args!(
            "{config} names no machine. Name one there:\n  Host devbox\n    HostName 192.0.2.7\n    User me"
        ));
    } else {
        output.list(&["NAME", "MACHINE", "BY WAY OF", "NAMED IN", "ADDED"], &hosts.iter().map(row).collect::<Vec<_>>());
    }
    hosts.into_iter().for_each(|host| output.event(&Event::SshHost(host)));
    Ok(ExitCode::SUCCESS)
}

/// A connection to a machine, with whoever sits at the terminal to be asked.
async fn connect(
    discovery: &Discovery,
    name: &str,
    terminal: &Arc<Terminal>,
    output: Output,
) -> anyhow::Result<Connection> {
    let person: Arc<dyn Person> = if has_person(output) { Arc::clone(terminal) as _ } else { Arc::new(Nobody) };
    Ok(ssh_hosts::connect(discovery, name, &person).await?)
}

/// Whether somebody sits at a terminal here, who can be asked.
fn has_person(output: Output) -> bool {
    !output.is_json() && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Says that a machine was reached.
fn reached(checked: SshChecked, output: Output) {
    let SshChecked { alias, user, fingerprint, by } = &checked;
    output.say(format_args!("{alias} lets {user} in, by {by}"));
    output.say(format_args!("Its own key: {}", fingerprint.as_deref().unwrap_or("none")));
    output.event(&Event::SshChecked(checked));
}

/// How a machine was reached.
fn tell_way(about: About, name: &str, output: Output) {
    let About { user, fingerprint, by } = about;
    reached(SshChecked { alias: name.to_owned(), user, fingerprint, by }, output);
}

async fn check(
    discovery: &Discovery,
    name: &str,
    terminal: &Arc<Terminal>,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let connection = connect(discovery, name, terminal, output).await?;
    tell_way(connection.about().clone(), name, output);
    let found = find_codex(&connection, name).await;
    connection.close().await;
    tell_codex(found.map_err(|error| failure_there(&error, name))?, output);
    Ok(ExitCode::SUCCESS)
}

/// Which Codex is there.
fn tell_codex(codex: SshCodex, output: Output) {
    let version = codex.version.as_deref().unwrap_or("of an unknown version");
    output.say(format_args!("Codex {version} is there: {} ({})", quote(&codex.program), printable(&codex.system)));
    let starter = if codex.started_here { "Reachback" } else { "somebody else" };
    match codex.reached_by.as_deref() {
        None => output.say("No app-server of it runs."),
        Some("proxy") => {
            output.say(format_args!("An app-server runs that {starter} started, reached by `codex app-server proxy`."))
        }
        Some(_) => output.say(format_args!("An app-server runs that {starter} started, reached by its socket.")),
    }
    let notice = (codex.signed_in == Some(false)).then(|| failure_there(&BootstrapError::SignedOut, &codex.alias));
    output.event(&Event::SshCodex(codex));
    if let Some(notice) = notice {
        let fix = notice.fix.as_deref().unwrap_or_default();
        output.remark(format_args!(
            "{}, which only a model provider of its own can do without.\n  {fix}",
            notice.message
        ));
        output.event(&Event::Notice(notice));
    }
}

async fn stop(discovery: &Discovery, name: &str, output: Output) -> anyhow::Result<ExitCode> {
    let connection = connect(discovery, name, &Arc::default(), output).await?;
    let stopped = connection.stop().await;
    let swept = if stopped.is_ok() { Some(connection.sweep().await) } else { None };
    connection.close().await;
    let Stopped { pid, others } = stopped.map_err(|error| failure_there(&error, name))?;
    match pid {
        Some(pid) => {
            output.say(format_args!("Ended on {name}: the app-server that Reachback had started (process {pid})"))
        }
        None => output.say(format_args!("Nothing that Reachback started runs on {name}.")),
    }
    if others {
        output.say("An app-server that somebody else started runs there, and is left alone.");
    }
    output.event(&Event::SshStopped(SshStopped { alias: name.to_owned(), pid, others }));
    if let Some(swept) = swept {
        bootstrap::tell_swept(swept, name, output);
    }
    Ok(ExitCode::SUCCESS)
}

fn failure_there(error: &BootstrapError, name: &str) -> Failure {
    Failure::new(error.code(), format!("{}: {error}", quote(name))).fix(error.fix(name))
}

async fn find_codex(connection: &Connection, name: &str) -> Result<SshCodex, BootstrapError> {
    let found = connection.inspect().await?;
    let started_here = found.is_ours();
    let reached = if found.is_listening { Some(connection.open_server(&found).await?.1) } else { None };
    Ok(SshCodex {
        alias: name.to_owned(),
        program: found.program,
        version: found.version,
        codex_home: found.codex_home,
        system: found.system,
        signed_in: found.is_signed_in,
        running: found.is_listening,
        started_here,
        reached_by: reached.map(|reach| Reach::code(reach).to_owned()),
    })
}

/// What is told of a machine.
fn told(found: &Found, added: &SshHostList) -> SshHost {
    let settings = found.settings.as_ref().ok();
    let text = |value: fn(&Settings) -> &str| settings.map(|settings| value(settings).to_owned());
    SshHost {
        alias: found.alias.name.clone(),
        user: text(Settings::user),
        host_name: text(Settings::host_name),
        port: settings.and_then(Settings::port),
        jumps: settings.map(|settings| settings.jumps().into_iter().map(str::to_owned).collect()).unwrap_or_default(),
        proxy_command: settings.and_then(Settings::proxy_command).is_some(),
        file: found.alias.file.display().to_string(),
        line: found.alias.line,
        error: found.settings.as_ref().err().map(ToString::to_string),
        added: added.has(&found.alias.name),
        asks_devices: added.asks_devices(&found.alias.name),
    }
}

fn row(host: &SshHost) -> Vec<String> {
    let machine = match (&host.error, &host.user, &host.host_name, host.port) {
        (Some(error), ..) => error.clone(),
        (None, Some(user), Some(name), Some(port)) => {
            let name = if name.contains(':') { format!("[{name}]") } else { name.clone() };
            let port = if port == 22 { String::new() } else { format!(":{port}") };
            format!("{user}@{name}{port}")
        }
        _ => String::new(),
    };
    let way = match (&host.jumps[..], host.proxy_command) {
        ([], false) => "-".to_owned(),
        ([], true) => "a command of yours".to_owned(),
        (jumps, _) => jumps.join(", "),
    };
    let named = format!("{}:{}", host.file, host.line);
    let added = match (host.added, host.asks_devices) {
        (true, true) => "yes, asks devices",
        (true, false) => "yes",
        (false, _) => "-",
    };
    let added = added.to_owned();
    [&host.alias, &machine, &way, &named, &added].map(|cell| printable(cell)).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> SshHost {
        SshHost {
            alias: "devbox".into(),
            user: Some("ada".into()),
            host_name: Some("192.0.2.7".into()),
            port: Some(22),
            jumps: vec![],
            proxy_command: false,
            file: "/home/ada/.ssh/config".into(),
            line: 3,
            error: None,
            added: false,
            asks_devices: false,
        }
    }

    #[test]
    fn a_row_says_which_machine_and_how_it_is_reached() {
        assert_eq!(row(&host()), ["devbox", "ada@192.0.2.7", "-", "/home/ada/.ssh/config:3", "-"]);
        let far = SshHost {
            host_name: Some("fe80::1".into()),
            port: Some(2222),
            jumps: vec!["one".into(), "two:22".into()],
            ..host()
        };
        assert_eq!(row(&far)[1..3], ["ada@[fe80::1]:2222", "one, two:22"]);
        assert_eq!(row(&SshHost { proxy_command: true, ..host() })[2], "a command of yours");
        assert_eq!(row(&SshHost { added: true, asks_devices: true, ..host() })[4], "yes, asks devices");
    }

    #[test]
    fn a_row_of_a_name_that_ssh_does_not_take_says_why() {
        let wrong = SshHost {
            user: None,
            host_name: None,
            port: None,
            error: Some("ssh does not take it: \u{1b}no".into()),
            ..host()
        };
        assert_eq!(row(&wrong)[1], "ssh does not take it: ?no");
    }
}
