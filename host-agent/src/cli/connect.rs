//! `reachback connect`: the stock Codex terminal UI, on a host.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use reachback_proto::frame::{ByeReason, LOCAL_ENVIRONMENT};
use serde_json::json;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::Home;
use super::host::stopped;
use super::output::Output;
use crate::backoff::BackoffConfig;
use crate::connect::local_socket::{self, remote_url};
use crate::connect::remote::{RemoteConfig, RemoteHost, RemoteState};
use crate::connect::{host_info, join};
use crate::local_api::Failure;
use crate::platform::signals::stop_wanted;
use crate::platform::socket::LocalListener;
use crate::platform::terminal::Found;
use crate::state::controller::{ControllerStore, PairedHost, PairedHosts};
use crate::state::timestamp::Timestamp;

/// Say what takes so long after this.
const PATIENCE: Duration = Duration::from_secs(1);

/// Use Codex on a host: the stock terminal UI, or a socket for other clients.
///
/// Starts `codex --remote` on a private socket that leads to the host. Interruptions of the network of
/// up to 30 seconds go unnoticed; after longer ones the terminal UI reconnects by itself.
#[derive(Debug, Args)]
pub(super) struct ConnectArgs {
    /// The host: its name, its id, or the start of its id. Without it, the only one there is.
    host: Option<String>,
    /// Where on the host: `local` is the host itself.
    #[arg(long, value_name = "NAME", default_value = LOCAL_ENVIRONMENT)]
    env: String,
    /// The folder on the host to work in.
    #[arg(short = 'C', long = "cd", value_name = "DIR")]
    cd: Option<PathBuf>,
    /// Only expose a local socket for app-server clients, here, and start nothing.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["cd", "codex_args"])]
    socket: Option<PathBuf>,
    /// The Codex to run.
    #[arg(long, env = "REACHBACK_CODEX", value_name = "PATH")]
    codex: Option<PathBuf>,
    /// What to pass on to Codex, such as `resume --last`.
    #[arg(last = true, value_name = "CODEX ARGS")]
    codex_args: Vec<OsString>,
}

pub(super) async fn run(home: &Home, args: ConnectArgs, output: Output) -> anyhow::Result<ExitCode> {
    if let Some(path) = args.socket.as_deref().filter(|path| path.to_str().is_none()) {
        // Clients are told of it in a URL and in JSON.
        let message = format!("there can be no socket at {path:?}: its path is not valid text (UTF-8)");
        return Err(Failure::new("socket_not_text", message).fix("choose another path").into());
    }
    let host = find(&ControllerStore::new(&home.path), args.host.as_deref())?;
    let codex = match &args.socket {
        Some(_) => None,
        None => Some(codex_program(home, args.codex.clone())?),
    };
    let (name, id, device) = (host.name.clone(), host.host_id(), host.device_id());
    let remote = Arc::new(RemoteHost::start(remote_config(host)?));
    let info = host_info::follow(Arc::clone(&remote), ControllerStore::new(&home.path), id, device);
    let _info = AbortOnDropHandle::new(tokio::spawn(info));
    let mut state = remote.state();
    let progress = report(remote.state(), name.clone(), output);
    let up = tokio::select! {
        up = remote.up() => up,
        () = progress => unreachable!("reporting does not end before the host is up"),
    };
    if let Err(RemoteState::Ended { reason }) = up {
        stopped([remote.vital()])?;
        return Err(ended(&name, reason).into());
    }
    let runtime = home.places.runtime(&home.path)?;
    let path = match &args.socket {
        Some(path) => path.clone(),
        None => runtime.socket(&format!("connect-{}.sock", std::process::id()))?,
    };
    let listener = LocalListener::bind(&path)?;
    let serving = local_socket::serve(listener, Arc::clone(&remote), &args.env);
    let serving = remote.vital().watch_finite("the local socket", serving);
    let code = match codex {
        Some(program) => {
            let mut command = Command::new(&program);
            command.arg("--remote").arg(remote_url(&path)).kill_on_drop(true);
            if let Some(cd) = &args.cd {
                command.arg("-C").arg(cd);
            }
            command.args(&args.codex_args);
            let terminal = Found::now();
            // Somebody looks at the terminal, whether its client is attached or tries again.
            let _waits = remote.waits();
            let mut child = command.spawn().map_err(|error| {
                Failure::new("codex", format!("{} does not start: {error}", program.display())).fix(INSTALL)
            })?;
            tokio::select! {
                status = child.wait() => exit_code(status?),
                () = serving => {
                    // The host ended it. The terminal UI would try to reconnect for ever, and nobody hear why it can't.
                    terminal.end(&mut child).await;
                    ExitCode::FAILURE
                }
                // The terminal UI has the terminal, and gets the same signal: it ends by itself.
                () = ignore_interrupts() => unreachable!("never ends"),
            }
        }
        None => {
            let serving = async {
                output.object(&json!({ "event": "socket", "path": path, "host_name": name }));
                output.say(format_args!("{name} is at {}: codex --remote {}", path.display(), remote_url(&path)));
                output.say("Ctrl-C ends it.");
                serving.await
            };
            tokio::select! {
                // Signals first: whoever reads that it is ready may end it at once.
                biased;
                () = stop_wanted() => ExitCode::SUCCESS,
                () = serving => ExitCode::FAILURE,
            }
        }
    };
    remote.end().await;
    stopped([remote.vital()])?;
    // Whatever the terminal UI made of it.
    if let RemoteState::Ended { reason: Some(reason) } = &*state.borrow_and_update()
        && *reason != ByeReason::Normal
    {
        return Err(ended(&name, Some(*reason)).into());
    }
    Ok(code)
}

const INSTALL: &str = "install it: npm install -g @openai/codex";

fn find(store: &ControllerStore, query: Option<&str>) -> anyhow::Result<PairedHost> {
    if let Some(query) = query {
        return Ok(store.find(query)?);
    }
    let PairedHosts { hosts: mut found, mut broken } = store.list()?;
    match (found.pop(), found.is_empty()) {
        (Some(host), true) => Ok(host),
        (None, _) if !broken.is_empty() => Err(broken.swap_remove(0).into()),
        (None, _) => Err(Failure::new("no_hosts", "this computer is not paired with a host yet")
            .fix("at the host: reachback up (or `reachback pair`); here: reachback join URL")
            .into()),
        (Some(_), false) => Err(Failure::new("which_host", "this computer is paired with several hosts")
            .fix("say which: `reachback hosts` lists them")
            .into()),
    }
}

fn remote_config(host: PairedHost) -> anyhow::Result<RemoteConfig> {
    Ok(RemoteConfig {
        relay: join::relay_of(&host)?,
        host: host.host_id(),
        host_static: host.host_static,
        identity: host.identity,
        static_key: host.static_key,
        psk: host.psk,
        backoff: BackoffConfig::default(),
    })
}

/// The Codex that was named, else the one on the search path, else a demo's.
fn codex_program(home: &Home, named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(named) = named {
        return Ok(named);
    }
    if let Some(found) = crate::platform::programs::find("codex") {
        return Ok(found);
    }
    match super::demo::codex(home) {
        Some(demo) => Ok(demo),
        None => Err(Failure::new("no_codex", "there is no `codex` on this computer's search path").fix(INSTALL).into()),
    }
}

/// Tells what is being waited for, once it takes longer than a moment.
async fn report(mut state: watch::Receiver<RemoteState>, name: String, output: Output) {
    let started = Instant::now();
    sleep(PATIENCE).await;
    let mut last = String::new();
    loop {
        let line = match &*state.borrow_and_update() {
            RemoteState::HostOffline { last_seen: 0, .. } => format!("{name} is offline; waiting for it."),
            RemoteState::HostOffline { last_seen, .. } => {
                format!("{name} is offline since {}; waiting for it.", Timestamp::from_unix(*last_seen))
            }
            RemoteState::Connecting { reason, .. } if reason.is_empty() => format!("Connecting to {name}…"),
            RemoteState::Connecting { reason, .. } => {
                format!("Not connected to {name} for {} s: {reason}. Trying again.", started.elapsed().as_secs())
            }
            RemoteState::Up | RemoteState::Ended { .. } => String::new(),
        };
        if !line.is_empty() && line != last {
            output.remark(&line);
            last = line;
        }
        if state.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn ended(name: &str, reason: Option<ByeReason>) -> Failure {
    match reason {
        Some(ByeReason::Revoked) => Failure::new("revoked", format!("{name} no longer lets this computer in"))
            .fix("if that is a mistake: `reachback pair` there, `reachback join URL` here"),
        Some(ByeReason::Limit) => {
            Failure::new("limit", format!("{name} ended the session: there are too many from this computer"))
                .fix("close another `reachback connect`")
        }
        Some(ByeReason::ProtocolError) => {
            Failure::new("protocol", format!("{name} and this computer don't understand each other"))
                .fix("use the same version of Reachback on both")
        }
        _ => Failure::new("ended", format!("{name} ended the session")).fix("connect again"),
    }
}

fn exit_code(status: std::process::ExitStatus) -> ExitCode {
    match status.code().and_then(|code| u8::try_from(code).ok()) {
        Some(code) => ExitCode::from(code),
        None => ExitCode::FAILURE,
    }
}

async fn ignore_interrupts() {
    while tokio::signal::ctrl_c().await.is_ok() {}
    std::future::pending::<()>().await;
}
