//! `reachback-relay`: the relay alone. Parses, starts, waits for a signal.

mod cli;
mod install;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::CommandFactory;
use reachback_proto::words::printable_lines;
use reachback_relay::health::Question;
use reachback_relay::service::notify::Supervisor;
use reachback_relay::signals::StopSignals;
use reachback_relay::{Config, Relay, arguments, log};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;
use url::Url;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    log::tell_panics();
    let cli: Cli = arguments::parse();
    let filter = EnvFilter::builder().parse_lossy(&cli.log);
    let is_coloured = log::is_coloured(std::io::stderr().is_terminal(), std::env::var_os("NO_COLOR").as_deref());
    log::subscriber(filter, is_coloured, std::io::stderr).init();
    let config = match cli.config() {
        Ok(config) => config,
        Err(error) => return fail(&error, cli.misconfigured()),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = runtime.context("the runtime could not be started").and_then(|runtime| {
        runtime.block_on(async {
            match cli.command {
                Command::Serve { json, .. } => serve(config, json).await,
                Command::Enroll { .. } => enroll(config).await,
                Command::Config { .. } => say(&cli::to_toml(&config)?),
                Command::Health { url, .. } => health(&config, url.as_ref()).await,
                Command::Install { options, how } => install::install(&options, &config, &cli.log, how).await,
                Command::Uninstall { how } => install::uninstall(how).await,
                Command::Logs { journal } => install::logs(&journal).await,
                Command::Manual(manual) => print(&manual.text(Cli::command()).context("pages can't be written")?),
            }
        })
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    // Nothing is left to do when even stderr is gone.
    let _closed = writeln!(std::io::stderr(), "reachback-relay: {}", printable_lines(&format!("{error:#}")));
    ExitCode::from(code)
}

fn say(text: &str) -> anyhow::Result<()> {
    print(format!("{text}\n").as_bytes())
}

fn print(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).context("standard output is closed")
}

async fn serve(config: Config, json: bool) -> anyhow::Result<()> {
    let mut signals = StopSignals::listen().context("signals can't be listened for")?;
    let relay = Relay::start(config).await.map_err(|error| match error.fix() {
        Some(fix) => anyhow::anyhow!("{error}\n  {fix}"),
        None => error.into(),
    })?;
    say(&if json { cli::ready_json(&relay) } else { cli::ready_text(&relay) })?;
    let supervisor = Supervisor::from_env();
    supervisor.ready(&format!("listens on {}, for {}", relay.local_addr(), relay.url()));
    let asked = CancellationToken::new();
    let signalled = async {
        signals.next().await;
        supervisor.stopping();
        asked.cancel();
        signals.next().await;
    };
    tokio::select! {
        _ = relay.run_until(asked.cancelled()) => {}
        // The second signal: `relay` is dropped, which cuts every link.
        () = signalled => tracing::warn!("cut short by a second signal"),
        () = supervisor.keep(relay.vital()) => {}
    }
    relay.vital().failure().map_or(Ok(()), |gone| Err(gone.into()))
}

async fn enroll(config: Config) -> anyhow::Result<()> {
    let path = reachback_relay::write_enroll_key(&config).await?;
    say(&path.display().to_string())
}

async fn health(config: &Config, url: Option<&Url>) -> anyhow::Result<()> {
    let question = url.map_or_else(|| Question::of(config), Question::at)?;
    question.ask().await?;
    say(&format!("{} answers: the relay is there", question.url()))
}
