//! `reachback host`: the host agent alone.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use reachback_proto::control::{EnrollKey, MAX_ENROLL_KEY};
use reachback_proto::frame::LOCAL_ENVIRONMENT;
use reachback_proto::pairing::Origin;
use reachback_proto::session::SessionLimits;
use reachback_proto::words::{printable, quote, shell_word};
use reachback_relay::service::notify::Supervisor;
use reachback_relay::vital::Vital;
use ring::rand::SystemRandom;
use tokio::sync::broadcast::error::RecvError;
use zeroize::Zeroizing;

use super::Home;
use super::attach::{self, AttachArgs};
use super::demo::{self, Purpose};
use super::join::own_name;
use super::opening;
use super::output::Output;
use super::pair;
use super::service::{self, ServiceAction};
use super::ssh;
use super::status::keys_line;
use super::transport::{self, TransportArg};
use super::withheld;
use crate::agent::environments::LocalEnvironment;
use crate::agent::outbox::OutboxLimits;
use crate::agent::ssh_hosts::Rest;
use crate::agent::{Agent, AgentConfig};
use crate::backoff::BackoffConfig;
use crate::codex::app_server::AppServer;
use crate::codex::attach::{Attach, AttachConfig};
use crate::codex::ground::Ground;
use crate::codex::permissions::Profiles;
use crate::codex::remote_control::redirect::{Redirect, Restored, is_same};
use crate::codex::remote_control::{RemoteControl, RemoteControlConfig};
use crate::codex::{CodexBackend, CodexConfig};
use crate::demo::home::DemoHome;
use crate::disk::Surroundings;
use crate::firewall::ceiling::Ceiling;
use crate::local_api::events::{CODEX_FAILED, CodexState, TunnelState, TunnelTransport};
use crate::local_api::{Event, Failure, SshAsksDevices};
use crate::platform::signals::{stop_wanted, stop_within};
use crate::platform::{dirs, files};
use crate::ssh::Discovery;
use crate::state::codex::Note;
use crate::state::host::HostState;

/// How long an orderly end may take: sessions' last words, Codex, the relay's links, each with a limit of its own.
pub(super) const STOP_TIME: Duration = Duration::from_secs(20);

/// Start the host agent alone, against a relay that runs elsewhere; or have it run as a service.
///
/// The relay's operator gives a file with a one-time enrolment key; it is needed once. Then pair
/// devices with `reachback pair`. `install` keeps the agent running from then on, after logouts and
/// restarts of the machine, too.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = transport::ENVIRONMENT)]
pub(super) struct HostArgs {
    #[command(subcommand)]
    action: Option<ServiceAction>,
    /// The file with the one-time enrolment key.
    #[arg(long, value_name = "FILE")]
    enroll_file: Option<PathBuf>,
    /// Take a relay at this address that has another key than before.
    #[arg(long)]
    new_relay: bool,
    #[command(flatten)]
    options: HostOptions,
}

/// What holds for every start of an agent.
#[derive(Debug, Args)]
pub(super) struct HostOptions {
    /// The relay. Needed once; later the relay of the last time is taken.
    #[arg(long, value_name = "URL")]
    pub(super) relay: Option<Origin>,
    /// Where your team serves the web app, if not at the relay: QR codes then lead there. The relay has to list it in
    /// `web_origins`.
    #[arg(long, value_name = "URL")]
    pub(super) web_origin: Option<Origin>,
    /// What carries the tunnel.
    #[arg(long, value_enum, default_value_t = TransportArg::Auto)]
    pub(super) transport: TransportArg,
    #[command(flatten)]
    pub(super) codex: CodexArgs,
}

/// What `up` and `host` need to know about this machine and its Codex.
#[derive(Debug, Args)]
pub(super) struct CodexArgs {
    /// What devices call this host. Default: this computer's name.
    #[arg(long)]
    pub(super) name: Option<String>,
    /// By which way Codex is reached.
    #[arg(long = "codex", value_enum, value_name = "WAY", default_value_t = CodexWay::AppServer)]
    pub(super) way: CodexWay,
    #[command(flatten)]
    pub(super) attach: AttachArgs,
    /// The Codex to run. Default: `codex` on the search path.
    #[arg(long, env = "REACHBACK_CODEX_PROGRAM", value_name = "PATH")]
    pub(super) codex_program: Option<PathBuf>,
    /// Codex's own state, if not `~/.codex`.
    #[arg(long, env = "CODEX_HOME", value_name = "DIR")]
    pub(super) codex_home: Option<PathBuf>,
    /// The folder that threads without a folder of their own work in; opened to devices like --workspace. Default: where
    /// this was started, which is opened only if you say so.
    #[arg(long, value_name = "DIR")]
    pub(super) workdir: Option<PathBuf>,
    /// Open a folder to devices, as `reachback workspace add` does. Several times for several.
    #[arg(long = "workspace", value_name = "DIR")]
    pub(super) workspaces: Vec<PathBuf>,
    /// The SSH configuration that names SSH hosts, in place of ~/.ssh/config and the system's, as `ssh -F` takes it.
    #[arg(long, env = "REACHBACK_SSH_CONFIG", value_name = "FILE")]
    pub(super) ssh_config: Option<PathBuf>,
}

/// By which way Codex is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum CodexWay {
    /// The app-server of this machine, which the terminal's `codex` shares: joined if one runs, else started.
    AppServer,
    /// A `codex remote-control`, which is started; needs a sign-in with ChatGPT. Through Reachback, not through the
    /// vendor's relay. After `reachback codex use` none is started, and the Codex App is waited for.
    RemoteControl,
    /// An app-server that somebody else runs on this machine, where --attach-to says. It is never started, ended or looked
    /// for; while it is away it is tried again.
    Attach,
}

impl CodexArgs {
    pub(super) fn name(&self) -> String {
        self.name.clone().unwrap_or_else(own_name)
    }

    /// Takes the `CODEX_HOME` that `reachback codex use` chose; another one is refused, as nothing would come from there.
    pub(super) fn take_wanted_home(&mut self, home: &Home) -> anyhow::Result<()> {
        let redirect = Redirect::open(&home.path, self.config().codex_home())?;
        let Some(wanted) = redirect.wanted_home().filter(|_| self.way == CodexWay::RemoteControl) else {
            return Ok(());
        };
        match &self.codex_home {
            Some(chosen) if !is_same(chosen, &wanted) => {
                let message = format!(
                    "`reachback codex use` chose codex's folder {}, and this agent was told to use {}",
                    quote(wanted.display()),
                    quote(chosen.display())
                );
                let fix = format!(
                    "say --codex-home {}; or choose the other one: reachback codex use --codex-home {}",
                    printable(&shell_word(wanted.to_string_lossy())),
                    printable(&shell_word(chosen.to_string_lossy()))
                );
                Err(Failure::new("codex_home", message).fix(fix).into())
            }
            Some(_) => Ok(()),
            None => {
                self.codex_home = Some(wanted);
                Ok(())
            }
        }
    }

    /// What finds SSH hosts; `None` where there is no `ssh`.
    pub(super) fn discovery(&self, home: &Home) -> anyhow::Result<Option<Arc<Discovery>>> {
        match ssh::discovery(home, self.ssh_config.clone()) {
            Ok(discovery) => Ok(Some(Arc::new(discovery))),
            Err(error) if error.code == ssh::NO_SSH => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Codex's own state, chosen or the user's own; `None` when the user has no home folder.
    pub(super) fn codex_home(&self) -> Option<PathBuf> {
        self.config().codex_home()
    }

    fn config(&self) -> CodexConfig {
        CodexConfig {
            program: self.codex_program.clone().map_or_else(|| "codex".into(), from_here),
            home: self.codex_home.clone().map(absolute),
            ..CodexConfig::default()
        }
    }
}

/// A program as it is meant where this was started: Codex runs in a folder of its own. A name alone is looked for on the search path.
pub(super) fn from_here(program: PathBuf) -> PathBuf {
    if program.components().count() > 1 { absolute(program) } else { program }
}

pub(super) fn absolute(path: PathBuf) -> PathBuf {
    // Only an empty path has none, and where there is no current folder nothing is meant by one.
    std::path::absolute(&path).unwrap_or(path)
}

pub(super) async fn run(home: &Home, log: &str, args: HostArgs, output: Output) -> anyhow::Result<ExitCode> {
    let HostArgs { action, enroll_file, new_relay, options: mut args } = args;
    if let Some(action) = action {
        return service::run(home, log, &action, output).await;
    }
    demo::check(home, Purpose::Real)?;
    let relay = match args.relay {
        Some(relay) => relay,
        None => known_relay(&home.path)?,
    };
    transport::check(args.transport, &relay)?;
    attach::wanted(&args.codex)?;
    let enroll_key = enroll_file.as_deref().map(read_enroll_key).transpose()?;
    // Before anything of another agent on this home is touched.
    let lock = demo::acquire(home, Purpose::Real)?;
    args.codex.take_wanted_home(home)?;
    opening::before_start(home, &args.codex, output).await?;
    let codex = own_codex(home, &args.codex, output).await?;
    let config = AgentConfig {
        runtime: Some(home.places.runtime(&home.path)?),
        home: home.path.clone(),
        name: args.codex.name(),
        relay,
        public_relay: None,
        web_origin: args.web_origin,
        new_relay,
        transports: transport::transports(args.transport),
        enroll_key,
        local: local_environment(home, &args.codex, codex, None)?,
        ssh: args.codex.discovery(home)?,
        ssh_rest: Rest::default(),
        backoff: BackoffConfig::default(),
        session_limits: SessionLimits::default(),
        outbox_limits: OutboxLimits::default(),
    };
    let mut agent = Agent::start_locked(lock, config).await?;
    output.say("Starting; Ctrl-C stops.");
    let events = agent.events_from_start();
    let vital = agent.vital().clone();
    let supervisor = Supervisor::from_env();
    tokio::select! {
        // Signals first: whoever reads that it is ready may stop it at once.
        biased;
        () = stop_wanted() => {}
        _ = vital.failed() => {}
        () = tell(events, output, false, &supervisor) => {}
        () = agent.control().stop_wanted() => {}
        () = supervisor.keep(&vital) => {}
    }
    supervisor.stopping();
    output.say("\nStopping…");
    stop_within(STOP_TIME, agent.shutdown()).await;
    stopped([&vital])
}

/// How a program ends that was stopped: badly, when that was because a vital task was gone, or one broke on the way.
pub(super) fn stopped<'a>(vital: impl IntoIterator<Item = &'a Vital>) -> anyhow::Result<ExitCode> {
    match vital.into_iter().find_map(Vital::failure) {
        None => Ok(ExitCode::SUCCESS),
        Some(gone) => Err(Failure::new("vital_task", gone.to_string())
            .fix("start it again; report this, with what standard error says before it")
            .into()),
    }
}

/// Tells people, programs and whoever supervises this one what happens, for as long as it does.
pub(super) async fn tell(
    mut events: tokio::sync::broadcast::Receiver<Event>,
    output: Output,
    has_own_start: bool,
    supervisor: &Supervisor,
) {
    let mut said = SaidOfCodex::default();
    loop {
        match events.recv().await {
            Ok(event) => {
                service::tell(&event, supervisor);
                output.event(&event);
                let line = match &event {
                    // On a terminal, and not where what is said may end in a file: of a service it is the system's journal.
                    Event::Withheld(text) if output.is_terminal() => Some(withheld::told(text)),
                    event => line(event, has_own_start),
                };
                if let Some(line) = line.filter(|line| said.is_news(&event, line)) {
                    output.say(line);
                }
            }
            Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "events were missed"),
            Err(RecvError::Closed) => return,
        }
    }
}

/// What a person was told last of the Codex of each environment: one that fails is tried again and again, and said once.
#[derive(Debug, Default)]
struct SaidOfCodex(HashMap<String, String>);

impl SaidOfCodex {
    /// Whether this line was not said last already.
    fn is_news(&mut self, event: &Event, line: &str) -> bool {
        let Event::Codex(codex) = event else { return true };
        self.0.insert(codex.environment.clone(), line.to_owned()).is_none_or(|before| before != line)
    }
}

pub(super) fn line(event: &Event, has_own_start: bool) -> Option<String> {
    Some(match event {
        Event::Ready { .. } if has_own_start => return None,
        Event::Ready { relay_url, host_name, fingerprint, .. } => format!(
            "{} is reachable through {relay_url}.\nRelay fingerprint: {fingerprint}\nPair a device: reachback pair",
            quote(host_name)
        ),
        Event::Tunnel(status) => match (status.state, &status.reason) {
            (TunnelState::Connected, _) if has_own_start => return None,
            (TunnelState::Connected, None) => match status.transport {
                Some(TunnelTransport::Quic) => "Connected to the relay, over QUIC.".into(),
                Some(TunnelTransport::Wss) | None => "Connected to the relay.".into(),
            },
            (TunnelState::Connected, Some(reason)) => {
                format!("Connected to the relay, not over QUIC: {}", printable(reason))
            }
            (_, Some(reason)) => format!("Not connected to the relay: {reason}"),
            (_, None) => return None,
        },
        Event::Codex(codex) => {
            let at = match (codex.environment.as_str(), &codex.address) {
                (LOCAL_ENVIRONMENT, None) => String::new(),
                // Where that was the owner's choice.
                (LOCAL_ENVIRONMENT, Some(address)) => format!(" at {}", printable(address)),
                (elsewhere, _) => format!(" at {}", printable(elsewhere)),
            };
            let state = match (codex.state, &codex.version) {
                (CodexState::Ready, Some(version)) => format!("Codex {version} is ready{at}."),
                (CodexState::Ready, None) => format!("Codex is ready{at}."),
                (CodexState::Failed, _) => {
                    let why = codex
                        .reason
                        .as_deref()
                        .map(|reason| format!(": {}", printable(reason)))
                        .unwrap_or_else(|| ".".into());
                    let fix = codex.fix.as_deref().map(|fix| format!("\n  {}", printable(fix))).unwrap_or_default();
                    return Some(format!("Codex is not running{at}{why}{fix}"));
                }
                _ => return None,
            };
            match keys_line(codex) {
                Some(keys) => format!("{state}\n{keys}"),
                None => state,
            }
        }
        Event::Paired { name, scope, device_id } => {
            let hint = pair::to_approve(*device_id, *scope).map(|hint| format!("\n{hint}")).unwrap_or_default();
            format!("Paired: {}, scope {scope}.{hint}", quote(name))
        }
        Event::Device { device_id, state } => {
            let state = serde_json::to_value(state).ok()?;
            format!("Device {}: {}", device_id.short(), state.as_str()?.replace('_', " "))
        }
        Event::WorkEnded { device_id, thread_id, goal, queued, turns, .. } => {
            let what = work_ended(*goal, *queued, *turns);
            format!("Ended what device {} began in thread {}: {what}.", device_id.short(), printable(thread_id))
        }
        Event::Withheld(text) => withheld::hint(text),
        Event::CodexUse(now) if now.leads_here => "Codex's config.toml leads here now.".into(),
        Event::CodexUse(now) if now.wanted => return None,
        Event::CodexUse(_) => "Codex's config.toml does not lead here any more.".into(),
        Event::Awake(status) => super::awake::words(status),
        Event::SshAdded(host) => format!("{} is an environment of this host now.", printable(&host.environment)),
        Event::SshRemoved(host) => format!("{} is no environment of this host any more.", printable(&host.environment)),
        Event::SshAsksDevices(SshAsksDevices { environment, on: true, .. }) => {
            format!("Devices with admin may be asked for the codes of {} now.", printable(environment))
        }
        Event::SshAsksDevices(SshAsksDevices { environment, on: false, .. }) => {
            format!("No device is asked for the codes of {} any more.", printable(environment))
        }
        Event::WorkspaceAdded(workspace) => format!("Opened to devices: {}", printable(&workspace.path)),
        Event::WorkspaceRemoved(workspace) => format!("Closed to devices: {}", printable(&workspace.path)),
        // Said with the state that comes with it.
        Event::Error(failure) if failure.code == CODEX_FAILED => return None,
        Event::Notice(failure) | Event::Error(failure) => match &failure.fix {
            Some(fix) => format!("{}\n  {fix}", failure.message),
            None => failure.message.clone(),
        },
        Event::Pairing { .. }
        | Event::PairingDigitsWanted { .. }
        | Event::SshAsked(_)
        | Event::ChatgptPairing { .. }
        | Event::ChatgptDevice(_)
        | Event::Workspace(_)
        | Event::SshHost(_)
        | Event::SshChecked(_)
        | Event::SshCodex(_)
        | Event::SshInstalling(_)
        | Event::SshInstalled(_)
        | Event::SshSwept(_)
        | Event::SshStopped(_) => return None,
    })
}

/// What was ended of a device's work, in words.
pub(super) fn work_ended(goal: bool, queued: usize, turns: usize) -> String {
    let count = |count, what: &str| match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        _ => Some(format!("{count} {what}s")),
    };
    let what = [goal.then(|| "its goal".to_owned()), count(queued, "queued prompt"), count(turns, "running turn")];
    what.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The host's own environment: its Codex, and where devices may work.
pub(super) fn local_environment(
    home: &Home,
    args: &CodexArgs,
    codex: OwnCodex,
    demo: Option<&DemoHome>,
) -> anyhow::Result<LocalEnvironment> {
    let surroundings = surroundings(home, args, demo)?;
    let OwnCodex { codex, redirect, profiles, ground } = codex;
    let (ceiling, ground) = (Ceiling::default(), Some(ground));
    Ok(LocalEnvironment { codex, redirect, ceiling, profiles, ground, surroundings, open: Vec::new() })
}

/// What there is on this machine besides workspaces.
pub(super) fn surroundings(home: &Home, args: &CodexArgs, demo: Option<&DemoHome>) -> anyhow::Result<Surroundings> {
    let codex_home = match demo {
        Some(demo) => Some(demo.codex_home().to_owned()),
        None => args.config().codex_home(),
    };
    let working_dir = match (demo, &args.workdir) {
        (Some(demo), _) => Some(demo.project().to_owned()),
        (None, Some(folder)) => Some(std::path::absolute(folder)?),
        (None, None) => std::env::current_dir().ok(),
    };
    let mut all = folders_of(home, codex_home)?;
    all.roots.extend(demo.map(|demo| demo.project().to_owned()));
    Ok(Surroundings { working_dir, ..all })
}

/// The folders of a machine whose Codex has this `CODEX_HOME`.
pub(super) fn folders_of(home: &Home, codex_home: Option<PathBuf>) -> anyhow::Result<Surroundings> {
    let user_home = std::env::home_dir();
    let mut state = vec![home.path.clone(), home.places.runtime(&home.path)?.path().to_owned()];
    state.extend(codex_home.clone());
    Ok(Surroundings {
        roots: user_home.iter().cloned().collect(),
        home: user_home,
        state,
        codex_config: codex_home.map(|home| home.join("config.toml")),
        working_dir: None,
    })
}

/// The folders that hold keys. Not all of the home: a demo's `CODEX_HOME` is in it.
fn key_folders(home: &Home) -> Vec<PathBuf> {
    ["host", "controller", "relay"].map(|folder| home.path.join(folder)).to_vec()
}

/// What Codex and its commands are kept from: keys, the socket through which devices are let in, and what holds Codex's git.
fn denied(home: &Home, ground: &Ground) -> anyhow::Result<Vec<PathBuf>> {
    let mut denied = key_folders(home);
    for folder in &denied {
        // Codex's sandbox denies only what is there when it starts.
        files::state_dir(folder)?;
    }
    denied.push(home.places.runtime(&home.path)?.path().to_owned());
    denied.push(ground.git().to_owned());
    // A folder that Codex can't be told of is not denied. Where a link leads counts, too.
    for folder in &denied {
        dirs::text(folder.canonicalize().unwrap_or_else(|_| folder.clone()))?;
    }
    Ok(denied)
}

pub(super) fn known_relay(home: &Path) -> anyhow::Result<Origin> {
    let state = HostState::load(home)?;
    let pin = state.as_ref().and_then(HostState::relay);
    let pin = pin.ok_or_else(|| {
        Failure::new("no_relay", "this host has no relay yet")
            .fix("say which: reachback host --relay URL --enroll-file FILE")
    })?;
    Ok(pin.url.parse()?)
}

fn read_enroll_key(path: &Path) -> anyhow::Result<EnrollKey> {
    let unusable = |what: String| {
        Failure::new("enroll_file", format!("{}: {what}", quote(path.display())))
            .fix("at the relay, `reachback-relay enroll` writes a new one")
    };
    let file = std::fs::File::open(path).map_err(|error| unusable(error.to_string()))?;
    let mut text = Zeroizing::new(String::new());
    let limit = MAX_ENROLL_KEY as u64 + 2;
    file.take(limit).read_to_string(&mut text).map_err(|error| unusable(error.to_string()))?;
    match text.trim() {
        "" => Err(unusable("is empty".into()).into()),
        key if key.len() > MAX_ENROLL_KEY => Err(unusable("is not an enrolment key".into()).into()),
        key => Ok(EnrollKey(key.to_owned())),
    }
}

/// The way to a Codex, with all that it takes.
pub(super) enum Way {
    /// The app-server of this machine.
    AppServer,
    /// A remote control.
    RemoteControl,
    /// An app-server of somebody else's.
    Attach(Box<AttachConfig>),
}

/// A Codex that the agent runs or joins, and the profiles of its threads.
#[derive(Clone)]
pub(super) struct OwnCodex {
    codex: Arc<dyn CodexBackend>,
    redirect: Option<Arc<Redirect>>,
    profiles: Arc<Profiles>,
    ground: Arc<Ground>,
}

impl OwnCodex {
    /// Starts it, kept from the agent's own folders. A demo has no `redirect`.
    pub(super) fn start(
        home: &Home,
        config: CodexConfig,
        way: Way,
        redirect: Option<Arc<Redirect>>,
    ) -> anyhow::Result<Self> {
        let file = config.codex_home().map(|home| home.join("config.toml"));
        let ground = Arc::new(Ground::prepare(&home.path.join("codex"))?);
        let profiles = Arc::new(Profiles::new(&SystemRandom::new(), denied(home, &ground)?, file)?);
        let config = CodexConfig {
            profiles: Some(Arc::clone(&profiles)),
            ground: Some(Arc::clone(&ground)),
            note: Some(Note::of(&home.path)),
            ..config
        };
        let codex: Arc<dyn CodexBackend> = match way {
            Way::AppServer => Arc::new(AppServer::start(config)),
            Way::Attach(config) => Arc::new(Attach::start(*config)),
            Way::RemoteControl => {
                let config = RemoteControlConfig { codex: config, home: home.path.clone(), redirect: redirect.clone() };
                Arc::new(RemoteControl::start(config).context("the operating system gives no randomness")?)
            }
        };
        Ok(Self { codex, redirect, profiles, ground })
    }
}

/// Codex as `--codex-program` and the like say it.
///
/// Without a sign-in with ChatGPT there is no remote control, which is said, and the app-server serves in its place; not where
/// the Codex App is waited for, where that is done.
pub(super) async fn own_codex(home: &Home, args: &CodexArgs, output: Output) -> anyhow::Result<OwnCodex> {
    let config = args.config();
    let redirect = Arc::new(Redirect::open(&home.path, config.codex_home())?);
    let waits = args.way == CodexWay::RemoteControl && *redirect.wanted().borrow();
    if !waits {
        mend(&redirect, output);
    }
    let way = match args.way {
        CodexWay::Attach => {
            let attach = attach::wanted(args)?.context("it was asked for")?;
            return OwnCodex::start(home, config, Way::Attach(Box::new(attach)), Some(redirect));
        }
        // A program that can't be asked says so when it is started.
        CodexWay::RemoteControl if !waits && config.signed_in_with_chatgpt().await == Some(false) => {
            output.say(
                "Codex is not signed in with ChatGPT, which `--codex remote-control` needs (`codex login`):\n                 its app-server serves in place of that.",
            );
            CodexWay::AppServer
        }
        way => way,
    };
    if way == CodexWay::RemoteControl && !waits {
        redirect.upstream().map_err(Failure::from)?;
    }
    let way = if way == CodexWay::RemoteControl { Way::RemoteControl } else { Way::AppServer };
    OwnCodex::start(home, config, way, Some(redirect))
}

/// Takes back what an agent left in Codex's configuration that was killed.
fn mend(redirect: &Redirect, output: Output) {
    match redirect.undo() {
        Ok(Restored::Nothing) => {}
        Ok(Restored::Done) => {
            output.say("Codex's config.toml led to an earlier agent, which was killed: it is as it was before.")
        }
        Ok(Restored::Changed) => {
            output.say("Codex's config.toml led to an earlier agent, which was killed; it was changed since, and is left as it is.");
        }
        Err(error) => {
            let failure = Failure::from(error);
            output.event(&Event::Notice(failure.clone()));
            let fix = failure.fix.map(|fix| format!("\n  {fix}")).unwrap_or_default();
            output
                .say(format_args!("Codex's config.toml may still lead to an earlier agent: {}{fix}", failure.message));
        }
    }
}

#[cfg(test)]
mod tests {
    use reachback_proto::ids::DeviceId;
    use reachback_proto::scope::Scope;

    use super::*;
    use crate::local_api::CodexStatus;

    #[test]
    fn paths_of_codex_mean_what_they_mean_where_this_was_started() {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            codex: CodexArgs,
        }
        let here = std::env::current_dir().unwrap();
        let config = |words: &[&str]| Line::try_parse_from([&["x"], words].concat()).unwrap().codex.config();
        let near = config(&["--codex-program", "./codex", "--codex-home", "state"]);
        assert_eq!((near.program, near.home), (here.join("codex"), Some(here.join("state"))));
        let below = config(&["--codex-program", "bin/codex", "--codex-home", "/codex"]);
        assert_eq!((below.program, below.home), (here.join("bin/codex"), Some("/codex".into())));
        let named = config(&["--codex-program", "codex-next", "--codex-home", "x"]);
        assert_eq!(named.program, PathBuf::from("codex-next"), "a name is looked for on the search path");
    }

    #[test]
    fn a_device_that_typed_its_code_is_told_of_with_what_lets_it_approve() {
        let paired = |scope| {
            let device_id = DeviceId([7; 16]);
            line(&Event::Paired { device_id, name: "Ada's phone".into(), scope }, true).unwrap()
        };
        let said = paired(Scope::Steer);
        assert!(
            said.starts_with("Paired: “Ada's phone”, scope steer.\nTo let it approve what Codex wants to do: "),
            "{said}"
        );
        assert_eq!(paired(Scope::Approve), "Paired: “Ada's phone”, scope approve.");
    }

    #[test]
    fn a_codex_that_fails_is_said_once_until_something_changes_and_with_what_to_do() {
        let codex = |state, reason: &str| {
            Event::Codex(CodexStatus {
                environment: LOCAL_ENVIRONMENT.into(),
                state,
                adapter: "app-server".into(),
                address: None,
                version: None,
                joined: None,
                keys: None,
                keys_reason: None,
                chatgpt_remote: None,
                troubles: Vec::new(),
                reason: Some(reason.into()),
                fix: Some("npm install -g @openai/codex@0.169.0".into()),
            })
        };
        let mut said = SaidOfCodex::default();
        let mut told = |event: Event| line(&event, true).filter(|line| said.is_news(&event, line));
        let failed = || codex(CodexState::Failed, "“codex” was not found");
        let words = told(failed()).unwrap();
        assert_eq!(words, "Codex is not running: “codex” was not found\n  npm install -g @openai/codex@0.169.0");
        assert_eq!([told(codex(CodexState::Starting, "")), told(failed())], [None, None], "it was said again");
        assert!(told(codex(CodexState::Failed, "the disk\nis full")).unwrap().contains("the disk?is full"));
        assert!(told(failed()).is_some(), "what changes is said");
    }

    #[tokio::test]
    async fn a_program_that_lost_a_vital_task_fails_and_says_which() {
        let (sound, broken) = (Vital::default(), Vital::default());
        assert_eq!(stopped([&sound, &broken]).unwrap(), ExitCode::SUCCESS);
        broken.watch("the test's task", async { panic!("no more") }).await;
        let error = stopped([&sound, &broken]).unwrap_err();
        assert!(error.to_string().contains("the test's task panicked, which is a bug: no more"), "{error}");
        assert_ne!(Output::new(false).fail(&error), ExitCode::SUCCESS);
    }
}
