//! The commands that a person types.
//!
//! One module a command. All of them print for people on a terminal and, with
//! `--json`, one JSON object a line; failures name the next step. Exit codes: 0
//! done, 1 failed, 2 asked wrongly.

mod attach;
mod audit;
mod awake;
mod chatgpt;
mod codex;
mod connect;
mod demo;
mod devices;
mod host;
mod hosts;
mod join;
mod lines;
mod opening;
mod output;
mod pair;
mod preflight;
mod reasons;
mod service;
mod ssh;
mod status;
mod stop;
mod transport;
mod up;
mod withheld;
mod workspace;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand};
use reachback_proto::words::quote;
use reachback_relay::log;
use reachback_relay::manual::Manual;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::audit::{AuditError, AuditLog};
use crate::platform::dirs::{DirsError, Places};
use output::Output;

/// Use Codex on a machine you trust from your other computers and your phone, through a relay of your own that can read nothing.
#[derive(Debug, Parser)]
#[command(
    name = "reachback",
    version,
    after_help = "Start here, on the machine where Codex lives:\n  reachback up            relay and host in one process, and a code to pair with\nand on another computer:\n  reachback join URL      pair with that host\n  reachback connect HOST  the Codex terminal UI, on that host\n\nExit codes: 0 done, 1 failed, 2 asked wrongly."
)]
pub struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// Above what every command takes, so that it does not stand between what one does.
const EVERYWHERE: &str = "Options of every command";

/// What every command takes.
#[derive(Debug, Args)]
struct Common {
    /// Where all state is kept (keys, devices, hosts).
    #[arg(long, env = "REACHBACK_HOME", global = true, value_name = "DIR", help_heading = EVERYWHERE)]
    home: Option<PathBuf>,
    /// Print one JSON object a line, for programs.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    json: bool,
    /// What to log to standard error, such as `info` or `reachback_host=debug`.
    #[arg(long, env = "REACHBACK_LOG", global = true, value_name = "FILTER", default_value = "warn", help_heading = EVERYWHERE)]
    log: String,
}

/// Each one's help is in its arguments: said here too, it would hide what is said there.
#[derive(Debug, Subcommand)]
enum Command {
    Up(up::UpArgs),
    Host(host::HostArgs),
    Status(status::StatusArgs),
    Stop(stop::StopArgs),
    Pair(pair::PairArgs),
    Devices(devices::DevicesArgs),
    Workspace(workspace::WorkspaceArgs),
    Awake(awake::AwakeArgs),
    Codex(codex::CodexUseArgs),
    Ssh(ssh::SshArgs),
    Audit(audit::AuditArgs),
    Join(join::JoinArgs),
    Hosts(hosts::HostsArgs),
    Connect(connect::ConnectArgs),
    #[command(flatten)]
    Manual(Manual),
}

/// Where this invocation's state is.
#[derive(Debug, Clone)]
struct Home {
    path: PathBuf,
    places: Places,
    /// Whether it was chosen: by `--home` or by the environment.
    is_chosen: bool,
    /// Where commands look that are given no `--home`.
    usual: Option<PathBuf>,
}

impl Home {
    /// The home that was `chosen`, else the system's; `variable` is what the environment chooses.
    fn find(places: Places, chosen: Option<&Path>, variable: Option<&Path>) -> Result<Self, DirsError> {
        Ok(Self {
            path: places.state(chosen)?,
            is_chosen: chosen.is_some_and(|path| !path.as_os_str().is_empty()),
            usual: places.state(variable).ok(),
            places,
        })
    }

    /// The audit log, while no agent runs that would tell what could not be recorded.
    fn audit_log(&self) -> Result<AuditLog, AuditError> {
        Ok(AuditLog::open(&self.path)?.telling(output::not_recorded))
    }
}

/// Runs one command.
pub async fn run(cli: Cli) -> ExitCode {
    let Cli { common, command } = cli;
    let output = Output::new(common.json);
    if let Err(error) = init_logging(&common.log) {
        return output.fail(&error);
    }
    let home = match find_home(common.home.as_deref()) {
        Ok(home) => home,
        Err(error) => return output.fail(&error.into()),
    };
    let done = match command {
        Command::Up(args) => up::run(&home, args, output).await,
        Command::Host(args) => host::run(&home, &common.log, args, output).await,
        Command::Status(args) => status::run(&home, args, output).await,
        Command::Stop(args) => stop::run(&home, args, output).await,
        Command::Pair(args) => pair::run(&home, args, output).await,
        Command::Devices(args) => devices::run(&home, args, output).await,
        Command::Workspace(args) => workspace::run(&home, args, output).await,
        Command::Awake(args) => awake::run(&home, args, output).await,
        Command::Codex(args) => codex::run(&home, args, output).await,
        Command::Ssh(args) => ssh::run(&home, args, output).await,
        Command::Audit(args) => audit::run(&home, &args, output).await,
        Command::Join(args) => join::run(&home, args, output).await,
        Command::Hosts(args) => hosts::run(&home, args, output).await,
        Command::Connect(args) => connect::run(&home, args, output).await,
        Command::Manual(manual) => manual.text(Cli::command()).context("pages can't be written").map(|text| {
            output::raw(&text);
            ExitCode::SUCCESS
        }),
    };
    done.unwrap_or_else(|error| output.fail(&error))
}

fn init_logging(filter: &str) -> anyhow::Result<()> {
    let parsed = EnvFilter::try_new(filter).map_err(|error| anyhow::anyhow!("--log {}: {error}", quote(filter)))?;
    let is_coloured = log::is_coloured(std::io::stderr().is_terminal(), std::env::var_os("NO_COLOR").as_deref());
    log::subscriber(parsed, is_coloured, std::io::stderr).init();
    Ok(())
}

fn find_home(chosen: Option<&Path>) -> Result<Home, DirsError> {
    let places = Places::from_env(|name| std::env::var_os(name));
    let variable = std::env::var_os("REACHBACK_HOME").map(PathBuf::from);
    Home::find(places, chosen, variable.as_deref())
}
