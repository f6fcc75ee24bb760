//! `reachback up`: relay and host agent in one process, and a code to pair with.

use std::error::Error as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use reachback_proto::pairing::Origin;
use reachback_proto::session::SessionLimits;
use reachback_proto::words::{printable, shell_word};
use reachback_relay::arguments::listen_address;
use reachback_relay::service::notify::Supervisor;
use reachback_relay::{Config as RelayConfig, DEFAULT_LISTEN, Relay, StartError, Tls};
use url::Url;

use super::Home;
use super::attach;
use super::demo::{self, Purpose};
use super::host::{CodexArgs, CodexWay, OwnCodex, STOP_TIME, Way, local_environment, own_codex, stopped, tell};
use super::opening;
use super::output::Output;
use super::pair::{self, Codes};
use super::transport;
use crate::agent::outbox::OutboxLimits;
use crate::agent::ssh_hosts::{Rest, SshHostChanges};
use crate::agent::{Agent, AgentConfig};
use crate::backoff::BackoffConfig;
use crate::demo::home::{DemoHome, project_beside};
use crate::demo::machine::{self, DemoMachine, MachineError};
use crate::demo::model::ScriptedModel;
use crate::link::transports::{TransportChoice, Transports};
use crate::local_api::{Confirm, Event, Failure, Request};
use crate::platform::programs;
use crate::platform::signals::{stop_wanted, stop_within};
use crate::ssh::{CODEX_VERSION, Nobody, Person};
use crate::state::demo::mark;
use crate::state::lock::HomeLock;
use crate::state::ssh_hosts::SshHostStore;
use crate::state::timestamp::Timestamp;

/// Codes are shown for this long, renewed every five minutes.
const PAIRING_WAIT: u32 = 24 * 3600;

/// Start a relay and a host agent in one process, and show a code to pair with.
///
/// Without --listen the relay is for this computer only. With --demo a real Codex talks to a scripted
/// model that runs here: no account, no network, and nothing of yours is touched. The demo has a home of its
/// own, so that no device paired with it reaches your Codex.
#[derive(Debug, Args)]
pub(super) struct UpArgs {
    /// Use a scripted model and a private Codex, to try things out.
    #[arg(long, conflicts_with = "workspaces")]
    demo: bool,
    /// With --demo: a machine that is reached over SSH, too, with a Codex and a project of its own. Needs OpenSSH's server
    /// on this computer; it listens nowhere.
    #[arg(long, requires = "demo")]
    ssh: bool,
    /// Where the relay listens, with a port if it is not 7420. A network address gets TLS with a certificate that laptops
    /// pin.
    #[arg(long, value_name = "ADDR", default_value_t = DEFAULT_LISTEN, value_parser = listen_address)]
    listen: SocketAddr,
    /// The address that devices use, when it is not the one listened on.
    #[arg(long, value_name = "URL")]
    public_url: Option<Url>,
    /// A TLS certificate chain, for phones; with --tls-key.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Where your team serves the web app, if not at this relay: QR codes then lead there, and its pages may connect here.
    #[arg(long, value_name = "URL")]
    web_origin: Option<Origin>,
    #[command(flatten)]
    codex: CodexArgs,
}

pub(super) async fn run(home: &Home, mut args: UpArgs, output: Output) -> anyhow::Result<ExitCode> {
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(cert), Some(key)) => Tls::Files { cert: cert.clone(), key: key.clone() },
        _ => Tls::Auto,
    };
    // What a phone's browser accepts without a warning: plain HTTP on loopback, or a certificate someone vouches for.
    let codes = if args.listen.ip().is_loopback() || args.tls_cert.is_some() { Codes::Qr } else { Codes::NoQr };
    let (home, purpose) = match args.demo {
        true => (&demo::home_of_demo(home)?, Purpose::Demo),
        false => (home, Purpose::Real),
    };
    // Before anything of another agent on this home is touched.
    let lock = demo::acquire(home, purpose)?;
    if args.demo && args.codex.way == CodexWay::Attach {
        return Err(Failure::new("attach", "a demo runs a Codex of its own, and attaches to none")
            .fix("leave out --demo, or --codex attach")
            .into());
    }
    attach::wanted(&args.codex)?;
    if !args.demo {
        args.codex.take_wanted_home(home)?;
        opening::before_start(home, &args.codex, output).await?;
    }
    let demo = if args.demo { Some(Demo::start(home, &lock, &args).await?) } else { None };
    let codex = match &demo {
        Some(demo) => demo.codex.clone(),
        None => own_codex(home, &args.codex, output).await?,
    };
    let relay = Relay::start(RelayConfig {
        data: home.path.join("relay"),
        listen: args.listen,
        public_url: args.public_url.clone(),
        tls,
        web_origins: args.web_origin.iter().map(|origin| origin.to_string().parse()).collect::<Result<_, _>>()?,
        ..RelayConfig::default()
    })
    .await
    .map_err(|error| not_started(&error))?;
    let public: Origin = relay.url().to_string().parse().context("the relay's address")?;
    let mut agent = Agent::start_locked(
        lock,
        AgentConfig {
            runtime: Some(home.places.runtime(&home.path)?),
            home: home.path.clone(),
            name: args.codex.name(),
            relay: direct(&args, &relay).context("the relay's own address")?,
            public_relay: Some(public.clone()),
            web_origin: args.web_origin.clone(),
            // It is the relay of this process and this home, whatever address it had before.
            new_relay: true,
            // Of this very process: nothing is lost on the way, and no address changes.
            // And no proxy leads here; but its certificate may be of an authority that the environment names.
            transports: Transports::new(TransportChoice::Wss).through(transport::way_out().without_proxies()),
            enroll_key: Some(relay.create_enroll_key().await?),
            local: local_environment(home, &args.codex, codex, demo.as_ref().map(|demo| &demo.home))?,
            ssh: args.codex.discovery(home)?,
            ssh_rest: Rest::default(),
            backoff: BackoffConfig::default(),
            session_limits: SessionLimits::default(),
            outbox_limits: OutboxLimits::default(),
        },
    )
    .await?;
    let events = agent.events_from_start();
    let vital = agent.vital().clone();
    greet(home, &args, &public, output);
    if let Some(machine) = demo.as_ref().and_then(|demo| demo.machine.as_ref()) {
        let (project, name) = (machine.project(), args.codex.name());
        output.say(format_args!(
            "  SSH    ssh:{}, a machine of the demo's own, with the project {}\n         \
             from a laptop: reachback connect {} --env ssh:{} -C {}",
            machine::ALIAS,
            printable(&project.to_string_lossy()),
            printable(&shell_word(name)),
            machine::ALIAS,
            printable(&shell_word(project.display())),
        ));
    }
    let supervisor = Supervisor::from_env();
    tokio::select! {
        // Signals first: whoever reads that it is ready may stop it at once.
        biased;
        () = stop_wanted() => {}
        _ = vital.failed() => {}
        _ = relay.vital().failed() => {}
        () = tell(events, output, true, &supervisor) => {}
        result = offer(home, &agent, codes, output) => result?,
        () = agent.control().stop_wanted() => {}
        // Of this process's two: the select ends with the relay's.
        () = supervisor.keep(&vital) => {}
    }
    supervisor.stopping();
    output.say("\nStopping…");
    stop_within(STOP_TIME, async {
        agent.shutdown().await;
        relay.shutdown().await;
        if let Some(demo) = &demo {
            demo.stop(home, &args.codex).await;
        }
    })
    .await;
    stopped([relay.vital(), &vital])
}

/// Why there is no relay, with what a person can do about it.
fn not_started(error: &StartError) -> Failure {
    let why = match (error, error.source()) {
        // The fix says what is behind the system's words.
        (StartError::Bind { .. }, _) | (_, None) => error.to_string(),
        (_, Some(source)) => format!("{error}: {source}"),
    };
    let failure = Failure::new("relay", format!("the relay does not start: {why}"));
    match error.fix() {
        Some(fix) => failure.fix(fix),
        None => failure,
    }
}

/// Shows codes until the first device is paired; later ones take `reachback pair`. Then waits for ever.
async fn offer(home: &Home, agent: &Agent, codes: Codes, output: Output) -> anyhow::Result<()> {
    let paired = agent.control().device_count();
    if paired > 0 && !output.is_json() {
        output.say(format_args!("{paired} device(s) paired. Add one: reachback pair"));
    } else {
        // There is no terminal behind --json: whoever reads the code from it is let in, once.
        let confirm = if output.is_json() { Confirm::None } else { Confirm::Digits };
        let request = Request::Pair { scope: None, confirm, ttl_seconds: PAIRING_WAIT };
        // The agent's own events tell who paired; twice would be two devices to a program.
        let tell = |event: &Event| {
            if !matches!(event, Event::Paired { .. }) {
                output.event(event)
            }
        };
        match pair::drive(home, &request, codes, tell, output).await {
            Ok(_) => output.say("Add another device: reachback pair"),
            Err(error) => drop(output.fail(&error)),
        }
    }
    std::future::pending().await
}

/// How this process reaches its own relay: not through whatever is in front of the public address, which may be a
/// proxy, or a router that lets nobody in from the inside. A certificate from files is for the public name only.
fn direct(args: &UpArgs, relay: &Relay) -> anyhow::Result<Origin> {
    if args.tls_cert.is_some() {
        return Ok(relay.url().to_string().parse()?);
    }
    let mut addr = relay.local_addr();
    if addr.ip().is_unspecified() {
        addr.set_ip(if addr.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    let scheme = if args.listen.ip().is_loopback() { "http" } else { "https" };
    Ok(format!("{scheme}://{addr}").parse()?)
}

fn greet(home: &Home, args: &UpArgs, relay: &Origin, output: Output) {
    let reach = if args.listen.ip().is_loopback() && args.public_url.is_none() {
        " (this computer only; for others: --listen ADDRESS:7420)"
    } else {
        ""
    };
    output.say(format_args!(
        "Reachback is up. Ctrl-C stops it.\n\n  Host   {}\n  Relay  {relay}{reach}",
        args.codex.name()
    ));
    if args.demo {
        output.say("  Codex  the real one, with a scripted model that runs here (--demo)");
        if let Some(pointer) = demo::pointer(home) {
            output.say(format_args!(
                "\nFor `reachback devices`, `audit` and `pair` in another terminal, first:\n  {pointer}"
            ));
        }
    }
    if !args.listen.ip().is_loopback() && args.tls_cert.is_none() {
        output.say(
            "\nLaptops pin this relay's own certificate. A phone's browser would warn about it, so there is no QR code:\n\
             give --tls-cert and --tls-key for a name of yours, or put it behind a proxy with --public-url.",
        );
    }
}

struct Demo {
    home: DemoHome,
    codex: OwnCodex,
    machine: Option<DemoMachine>,
    _model: ScriptedModel,
}

impl Demo {
    async fn start(home: &Home, lock: &HomeLock, args: &UpArgs) -> anyhow::Result<Self> {
        let with_machine = args.ssh;
        let args = &args.codex;
        let program = args.codex_program.clone().or_else(|| programs::find("codex")).ok_or_else(|| {
            Failure::new("no_codex", "the demo needs a real Codex, and there is no `codex` on the search path").fix(
                format!(
                    "install it: npm install -g @openai/codex@{CODEX_VERSION}; or in a checkout: cargo xtask up --demo"
                ),
            )
        })?;
        let program = std::path::absolute(program)?;
        let model = ScriptedModel::start().await.context("the scripted model does not start")?;
        // Before there is anything of the demo in it, and not before a demo is possible here.
        mark(lock, Timestamp::now())?;
        let folders = DemoHome::prepare(&home.path, &project_beside(&home.path), model.addr())?;
        if args.way == CodexWay::RemoteControl {
            folders.sign_in()?;
        }
        demo::make_ssh_config(&home.path).context("the demo's SSH configuration can't be made")?;
        std::fs::write(demo::codex_file(&home.path), program.as_os_str().as_encoded_bytes())?;
        let machine = match with_machine {
            true => Some(DemoMachine::prepare(&home.path, &program, model.addr()).await.map_err(no_machine)?),
            false => None,
        };
        if machine.is_none() {
            machine::hide(&home.path).context("the demo's machine can't be hidden")?;
        }
        list_machine(home, machine.is_some())?;
        let way = if args.way == CodexWay::RemoteControl { Way::RemoteControl } else { Way::AppServer };
        let codex = OwnCodex::start(home, folders.codex(program), way, None)?;
        let demo = Self { home: folders, codex, machine, _model: model };
        // One that an earlier demo could not end has another model.
        demo.stop(home, args).await;
        Ok(demo)
    }

    /// Ends the Codex that runs on the machine.
    async fn stop(&self, home: &Home, args: &CodexArgs) {
        if self.machine.is_none() {
            return;
        }
        let Ok(Some(discovery)) = args.discovery(home) else { return };
        let nobody: Arc<dyn Person> = Arc::new(Nobody);
        match discovery.connect(machine::ALIAS, &nobody).await {
            Ok(Some(there)) => {
                if let Err(error) = there.stop().await {
                    tracing::debug!(%error, "nothing to end on the demo's machine");
                }
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the demo's machine can't be reached"),
        }
    }
}

fn no_machine(error: MachineError) -> anyhow::Error {
    match &error {
        MachineError::Missing(_) => Failure::new("no_sshd", error.to_string())
            .fix("install it (Debian: apt install openssh-server), or leave out --ssh")
            .into(),
        _ => error.into(),
    }
}

/// Has devices see the machine, or not.
fn list_machine(home: &Home, is_there: bool) -> anyhow::Result<()> {
    let store = SshHostStore::open(&home.path)?;
    let is_listed = store.current().has(machine::ALIAS);
    let audit = home.audit_log()?;
    let changes = SshHostChanges { store: &store, audit: &audit };
    let changed = match (is_there, is_listed) {
        (true, false) => changes.add(machine::ALIAS, None, Timestamp::now()),
        (false, true) => changes.remove(machine::ALIAS, None, Timestamp::now()),
        _ => return Ok(()),
    };
    changed.map(drop).map_err(|error| Failure::from(error).into())
}
