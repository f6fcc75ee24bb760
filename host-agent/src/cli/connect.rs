//! `reachback connect`: the stock Codex terminal UI, on a host.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{IsTerminal, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use reachback_proto::crypto::keys::Identity;
use reachback_proto::frame::{ByeReason, LOCAL_ENVIRONMENT};
use reachback_proto::ids::{DeviceId, HostId};
use reachback_proto::scope::Scope;
use reachback_proto::words::{quote, shell_word};
use reachback_relay::vital;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::Home;
use super::host::stopped;
use super::lines::{Line, Waits};
use super::output::Output;
use super::preflight::{self, PATIENCE};
use super::reasons;
use super::transport::{self, TransportArg};
use crate::backoff::BackoffConfig;
use crate::connect::bridge::{End, EndKind};
use crate::connect::host_info::HostReport;
use crate::connect::local_socket::{self, remote_url};
use crate::connect::outcome::Outcome;
use crate::connect::remote::{RemoteConfig, RemoteHost, RemoteState};
use crate::connect::{host_info, join, stdio};
use crate::link::transports::TransportChoice;
use crate::local_api::Failure;
use crate::platform::programs;
use crate::platform::signals::stop_wanted;
use crate::platform::socket::LocalListener;
use crate::platform::terminal::Found;
use crate::state::find::FindError;
use crate::state::paired_hosts::{FindHostError, PairedHost, PairedHostStore, PairedHosts};
use crate::state::timestamp::Timestamp;

/// Use Codex on a host: the stock terminal UI, or a socket or JSON lines for other clients.
///
/// Starts `codex --remote` on a private socket that leads to the host. Interruptions of the network of
/// up to 30 seconds go unnoticed; after longer ones the terminal UI reconnects by itself.
#[derive(Debug, Args)]
#[command(after_help = format!("{STDIO_HELP}\n\n{}", transport::ENVIRONMENT))]
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
    /// Speak JSON lines on standard input and output, as `codex app-server` does, and start nothing.
    #[arg(long, conflicts_with_all = ["socket", "cd", "any_codex", "codex_args", "json"])]
    stdio: bool,
    /// What carries the connection to the relay.
    #[arg(long, value_enum, default_value_t = TransportArg::Auto)]
    transport: TransportArg,
    /// The Codex to run. Default: `codex` on the search path.
    #[arg(long, env = "REACHBACK_CODEX_PROGRAM", value_name = "PATH")]
    codex_program: Option<PathBuf>,
    /// Start this computer's Codex even where it is older than the host's.
    #[arg(long, conflicts_with = "socket")]
    any_codex: bool,
    /// What to pass on to Codex, such as `resume --last`.
    #[arg(last = true, value_name = "CODEX ARGS")]
    codex_args: Vec<OsString>,
}

/// How an editor comes to use it.
const STDIO_HELP: &str = "In the place of `codex app-server`, for an editor or a script that speaks JSON lines:
  reachback connect HOST --stdio
Only messages are on standard output. It ends with its input; what was sent is \
delivered, and what runs on the host goes on.";

/// For whom the host's app-server is.
enum For {
    /// The terminal UI of this Codex.
    TerminalUi(PathBuf),
    /// Clients of this socket.
    Socket(PathBuf),
    /// Who started this program.
    Stdio,
}

impl For {
    fn of(home: &Home, args: &ConnectArgs, name: &str) -> anyhow::Result<Self> {
        if let Some(path) = &args.socket {
            return Ok(Self::Socket(path.clone()));
        }
        if args.stdio {
            return Ok(Self::Stdio);
        }
        let program = codex_program(home, args.codex_program.clone())?;
        match stdin().is_terminal() && stdout().is_terminal() {
            true => Ok(Self::TerminalUi(program)),
            false => Err(no_terminal(name).into()),
        }
    }
}

pub(super) async fn run(home: &Home, args: ConnectArgs, output: Output) -> anyhow::Result<ExitCode> {
    if args.stdio && output.is_json() {
        // In front of the command's name clap does not see that it stands against an option of the command.
        let message = "the argument '--stdio' cannot be used with '--json'";
        output.fail(&Failure::new("usage", message).fix("leave --json out: all that --stdio prints is JSON").into());
        return Ok(ExitCode::from(2));
    }
    if let Some(path) = args.socket.as_deref().filter(|path| path.to_str().is_none()) {
        // Clients are told of it in a URL and in JSON.
        let message =
            format!("there can be no socket at {}: its path is not valid text (UTF-8)", quote(path.display()));
        return Err(Failure::new("socket_not_text", message).fix("choose another path").into());
    }
    let host = find(&PairedHostStore::new(&home.path), args.host.as_deref())?;
    let whom = For::of(home, &args, &host.name)?;
    let (name, id, device) = (host.name.clone(), host.host_id(), host.device_id());
    let config = remote_config(&host, args.transport)?;
    transport::check(args.transport, &config.relay.origin)?;
    let remote = Arc::new(RemoteHost::start(config));
    let (report_out, report) = watch::channel(HostReport::default());
    let info = host_info::follow(Arc::clone(&remote), PairedHostStore::new(&home.path), id, device, report_out);
    let _info = AbortOnDropHandle::new(tokio::spawn(info));
    let progress = progress(remote.state(), (id, name.clone()), output);
    let up = tokio::select! {
        up = remote.up() => up,
        () = progress => unreachable!("reporting does not end before the host is up"),
    };
    if let Err(RemoteState::Ended { reason }) = up {
        stopped([remote.vital()])?;
        return Err(reasons::ended(&name, device, reason).into());
    }
    let connected = Connected { name, device, remote, report, outcome: Arc::default(), output };
    let code = match &whom {
        For::TerminalUi(program) => {
            let path = home.places.runtime(&home.path)?.socket(&format!("connect-{}.sock", std::process::id()))?;
            connected.terminal_ui(program, &path, &args).await
        }
        For::Socket(path) => connected.expose(path, &args.env).await,
        For::Stdio => connected.stdio(&args.env).await,
    };
    connected.remote.end().await;
    stopped([connected.remote.vital()])?;
    let (code, scope) = code?;
    // Whatever the terminal UI made of it.
    if let RemoteState::Ended { reason: Some(reason) } = &*connected.remote.state().borrow()
        && *reason != ByeReason::Normal
    {
        return Err(reasons::ended(&connected.name, device, Some(*reason)).into());
    }
    if matches!(whom, For::TerminalUi(_)) {
        connected.tell(&args.env, scope);
    }
    Ok(code)
}

/// A host, with a session that is up.
struct Connected {
    name: String,
    /// This computer, as the host knows it.
    device: DeviceId,
    remote: Arc<RemoteHost>,
    report: watch::Receiver<HostReport>,
    outcome: Arc<Outcome>,
    output: Output,
}

impl Connected {
    /// Runs the terminal UI, if it can work there; gives its exit code, and the scope that it began with.
    async fn terminal_ui(&self, program: &Path, path: &Path, args: &ConnectArgs) -> anyhow::Result<Ran> {
        let mut state = self.remote.state();
        let ended = state.wait_for(|state| matches!(state, RemoteState::Ended { .. }));
        let scope = tokio::select! {
            ready = self.preflight(program, args) => ready?,
            // Why is said at the end.
            _ = ended => return Ok((ExitCode::FAILURE, None)),
            Ok(()) = tokio::signal::ctrl_c() => return Ok((ExitCode::from(INTERRUPTED), None)),
        };
        self.warn(&args.env);
        let serving = self.serve(path, &args.env)?;
        let mut command = programs::command(program);
        command.arg("--remote").arg(remote_url(path)).kill_on_drop(true);
        if let Some(cd) = &args.cd {
            command.arg("-C").arg(cd);
        }
        command.args(&args.codex_args);
        let terminal = Found::now();
        // Somebody looks at the terminal, whether its client is attached or tries again.
        let _waits = self.remote.waits();
        let mut child = command.spawn().map_err(|error| {
            Failure::new("codex", format!("{} does not start: {error}", quote(program.display()))).fix(INSTALL)
        })?;
        let code = tokio::select! {
            status = child.wait() => exit_code(status?),
            () = serving => {
                // The host ended it. The terminal UI would try to reconnect for ever, and nobody hear why it can't.
                terminal.end(&mut child).await;
                ExitCode::FAILURE
            }
            // The terminal UI has the terminal, and gets the same signal: it ends by itself.
            () = ignore_interrupts() => unreachable!("never ends"),
        };
        Ok((code, scope))
    }

    /// Says what would otherwise look like a hang: what Codex asks for is not shown to who may not approve.
    fn warn(&self, environment: &str) {
        let report = self.report.borrow();
        if let Some(words) = reasons::approves_nothing(&self.name, self.device, (environment, &report)) {
            self.output.remark(words);
        }
    }

    async fn preflight(&self, program: &Path, args: &ConnectArgs) -> Result<Option<Scope>, Failure> {
        let version = preflight::ready((&self.name, &self.remote), &args.env, self.report.clone(), self.output).await?;
        if !args.any_codex {
            preflight::compare(&self.name, program, version.as_ref()).await?;
        }
        let report = self.report.borrow();
        preflight::may_begin(&self.name, &args.env, &report, &args.codex_args)?;
        Ok(report.scope)
    }

    /// Leaves it to other clients.
    async fn expose(&self, path: &Path, environment: &str) -> anyhow::Result<Ran> {
        let Self { name, output, .. } = self;
        let serving = self.serve(path, environment)?;
        let serving = async {
            output.object(&Line::Socket { path: path.display().to_string(), host_name: name });
            output.say(format_args!(
                "{} is at {}: codex --remote {}",
                quote(name),
                quote(path.display()),
                shell_word(remote_url(path))
            ));
            output.say("Ctrl-C ends it.");
            serving.await;
        };
        let code = tokio::select! {
            // Signals first: whoever reads that it is ready may end it at once.
            biased;
            () = stop_wanted() => ExitCode::SUCCESS,
            () = serving => ExitCode::FAILURE,
        };
        Ok((code, None))
    }

    /// Speaks with who started this program. Standard output is theirs alone.
    async fn stdio(&self, environment: &str) -> anyhow::Result<Ran> {
        let Self { name, device, remote, output, .. } = self;
        if stdin().is_terminal() {
            output.remark(format_args!("{} is here, one JSON-RPC message a line. Ctrl-D ends it.", quote(name)));
        }
        let end = tokio::select! {
            biased;
            () = stop_wanted() => return Ok((ExitCode::SUCCESS, None)),
            end = stdio::serve(remote, environment, &self.outcome) => end,
        };
        let failure = match end {
            Some(End { kind: EndKind::Gone, .. }) => return Ok((ExitCode::SUCCESS, None)),
            None | Some(End { kind: EndKind::Ended, .. }) => {
                let reason = match &*remote.state().borrow() {
                    RemoteState::Ended { reason } => *reason,
                    _ => None,
                };
                reasons::ended(name, *device, reason)
            }
            Some(end) => {
                let again = format!("{} --stdio", reasons::again(name, environment));
                let is_refused = matches!(end.kind, EndKind::Closed { is_refused: true, .. });
                match self.outcome.refused().filter(|_| is_refused) {
                    Some(refused) => {
                        let report = self.report.borrow();
                        reasons::refused((name, &again), &refused, report.environment(environment))
                    }
                    None => reasons::let_go((name, &again), &end),
                }
            }
        };
        Err(failure.into())
    }

    fn serve(&self, path: &Path, environment: &str) -> anyhow::Result<impl Future<Output = ()>> {
        let listener = LocalListener::bind(path)?;
        let (remote, outcome, environment) =
            (Arc::clone(&self.remote), Arc::clone(&self.outcome), environment.to_owned());
        // On a worker: from the main thread each client would have to cross over to one.
        let mut serving = JoinSet::new();
        serving.spawn(async move { local_socket::serve(listener, remote, &environment, outcome).await });
        let served = async move { serving.join_next().await.map_or((), vital::raise) };
        Ok(self.remote.vital().watch_finite("the local socket", served))
    }

    /// Says what the terminal UI could not, now that the terminal is free again.
    fn tell(&self, environment: &str, before: Option<Scope>) {
        let Self { name, output, .. } = self;
        let report = self.report.borrow();
        let (refused, again) = (self.outcome.refused(), reasons::again(name, environment));
        if let Some(refused) = &refused {
            output.fail(&reasons::refused((name, &again), refused, report.environment(environment)).into());
        }
        if let (Some(before), Some(now)) = (before, report.scope)
            && now < before
        {
            output.fail(&reasons::lowered(name, before, now).into());
        }
        if let Some(thread) = self.outcome.thread() {
            output.remark(format_args!("To go on: {again} -- resume {thread}"));
        } else if refused.is_none() && before.is_some() {
            // Codex's own last line names a socket that is gone by now.
            output.remark(format_args!("To connect again: {again}"));
        }
    }
}

/// How it ran: its exit code, and what this computer could do when it began.
type Ran = (ExitCode, Option<Scope>);

/// The exit code of a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

fn no_terminal(name: &str) -> Failure {
    Failure::new("no_terminal", "`connect` runs Codex's terminal UI, and this is no terminal").fix(format!(
        "for programs: reachback connect {0} --stdio in the place of `codex app-server`, or reachback connect {0} --socket PATH, \
         and a client of Codex's app-server there (`codex exec` is none)",
        shell_word(name)
    ))
}

/// The newest: one that is older than the host's would not do.
const INSTALL: &str = "install it: npm install -g @openai/codex";

fn find(store: &PairedHostStore, query: Option<&str>) -> anyhow::Result<PairedHost> {
    if let Some(query) = query {
        return match store.find(query) {
            Err(FindHostError::Find(error @ FindError::Empty { .. })) => {
                Err(Failure::new("no_hosts", error.to_string()).fix(PAIR).into())
            }
            Err(FindHostError::Find(error)) => {
                Err(Failure::new("no_such_host", error.to_string()).fix("`reachback hosts` says how they are").into())
            }
            found => Ok(found?),
        };
    }
    let PairedHosts { hosts: mut found, mut broken } = store.list()?;
    match (found.pop(), found.is_empty()) {
        (Some(host), true) => Ok(host),
        (None, _) if !broken.is_empty() => Err(broken.swap_remove(0).into()),
        (None, _) => Err(Failure::new("no_hosts", "this computer is not paired with a host yet").fix(PAIR).into()),
        (Some(last), false) => {
            let hosts = found.iter().chain([&last]);
            let names: Vec<_> =
                hosts.map(|host| format!("{} ({})", quote(&host.name), host.host_id().short())).collect();
            let message = format!("this computer is paired with several hosts: {}", names.join(", "));
            Err(Failure::new("which_host", message).fix("say which: reachback connect HOST").into())
        }
    }
}

/// How a computer gets to have a host.
const PAIR: &str = "at the host: reachback up (or `reachback pair`); here: reachback join URL";

/// How a host is reached.
pub(super) fn remote_config(host: &PairedHost, transport: impl Into<TransportChoice>) -> anyhow::Result<RemoteConfig> {
    Ok(RemoteConfig {
        relay: join::relay_of(host, transport::transports(transport))?,
        host: host.host_id(),
        host_static: host.host_static,
        identity: Identity::from_seed(host.identity.seed().clone()),
        static_key: host.static_key.clone(),
        psk: host.psk.clone(),
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
async fn progress(mut state: watch::Receiver<RemoteState>, (id, name): (HostId, String), output: Output) {
    let (started, host) = (Instant::now(), quote(&name));
    sleep(PATIENCE).await;
    let mut told = Told::default();
    loop {
        let waiting = |state, since, reason| Line::Waiting { host_id: id, host_name: &name, state, since, reason };
        let now = state.borrow_and_update().clone();
        let line = match &now {
            RemoteState::HostOffline { last_seen: 0, .. } => {
                Some((format!("{host} is offline; waiting for it."), waiting(Waits::Offline, None, None)))
            }
            RemoteState::HostOffline { last_seen, .. } => {
                let since = Timestamp::from_unix(*last_seen);
                let words = format!("{host} is offline since {since}; waiting for it.");
                Some((words, waiting(Waits::Offline, Some(since), None)))
            }
            RemoteState::Connecting { reason, .. } if reason.is_empty() => {
                Some((format!("Connecting to {host}…"), waiting(Waits::Connecting, None, None)))
            }
            RemoteState::Connecting { reason, .. } => Some((
                format!("Not connected to {host}: {reason}. Trying again."),
                waiting(Waits::Connecting, None, Some(reason)),
            )),
            RemoteState::Up | RemoteState::Ended { .. } => None,
        };
        if let Some((line, object)) = line.filter(|(line, _)| told.is_news(line, Instant::now())) {
            output.object(&object);
            match started.elapsed().as_secs() / 60 {
                0 => output.remark(&line),
                minutes => output.remark(format_args!("{line} ({minutes} min)")),
            }
        }
        if state.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// What was said of a wait: each try can fail for the same reason, and they come every second.
#[derive(Default)]
struct Told(HashMap<String, Instant>);

impl Told {
    /// How long the same words are not said again.
    const AGAIN: Duration = Duration::from_secs(60);

    fn is_news(&mut self, line: &str, now: Instant) -> bool {
        self.0.retain(|_, said| now.duration_since(*said) < Self::AGAIN);
        if self.0.contains_key(line) {
            return false;
        }
        self.0.insert(line.to_owned(), now);
        true
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_words_are_said_once_a_minute_however_often_it_is_tried() {
        let (mut told, start) = (Told::default(), Instant::now());
        let said = (0..180).flat_map(|second| [(second, "offline"), (second, "refused")]);
        let said: Vec<_> =
            said.filter(|(second, line)| told.is_news(line, start + Duration::from_secs(*second))).collect();
        let wanted: Vec<_> =
            [0, 60, 120].into_iter().flat_map(|second| [(second, "offline"), (second, "refused")]).collect();
        assert_eq!(said, wanted);
        assert!(told.is_news("something else", start));
    }
}
