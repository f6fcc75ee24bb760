//! `reachback host install`, `uninstall` and `logs`: the agent as a service of this user.
//!
//! The unit is the sample of `deploy/` with this machine's paths; what it does to the
//! system is in `reachback_relay::service`, which both programs use. What the command
//! was told, by options or by the environment, is in the unit's `ExecStart` from then on,
//! and the search path of the terminal is the service's: Codex is found there. So are the
//! proxies and the authorities that its environment names; but no password, as others can read a unit.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use reachback_proto::words::quote;
use reachback_relay::service::journal::{Journal, NoJournal, Of};
use reachback_relay::service::notify::Supervisor;
use reachback_relay::service::systemd::{Service, ServiceError, Step};
use reachback_relay::service::unit::{Draft, HOST, assignment, command_line};

use super::Home;
use super::attach;
use super::demo::{self, Purpose};
use super::host::{CodexWay, HostOptions, absolute, from_here, known_relay};
use super::output::Output;
use super::transport::{self, TransportArg};
use crate::local_api::events::TunnelState;
use crate::local_api::{Event, Failure};
use crate::platform::{launchd, programs, task_scheduler};
use crate::state::awake::AwakeFile;

/// The unit.
const UNIT: &str = "reachback-host.service";
/// What is logged unless something is said: a journal has room.
const LOG: &str = "info";
/// What every command logs unless something is said.
const USUAL_LOG: &str = "warn";

/// The agent as a service.
const INSTALL_EXAMPLES: &str = "Examples:\n  \
    reachback host install --workspace ~/src/shop\n  \
    reachback host install --codex-program /opt/codex/bin/codex --dry-run\n  \
    reachback host install --print launchd";

const LOGS_EXAMPLES: &str = "Examples:\n  \
    reachback host logs -f         follow it; Ctrl-C ends that\n  \
    reachback host logs -n 1000";

#[derive(Debug, Subcommand)]
pub(super) enum ServiceAction {
    /// Run the agent as a service of yours (Linux with systemd): from now on, and after each start of the machine.
    ///
    /// First let relay and host know each other, once: `reachback host --relay URL --enroll-file FILE`, and Ctrl-C. Then say
    /// here what you would say to `reachback host`; it is kept in the unit, ~/.config/systemd/user/reachback-host.service,
    /// with the search path of this terminal. Folders of --workspace are opened at every start; those of `reachback
    /// workspace add` need not be said. Say it again with other options, or by a newer program at another place, and the
    /// agent starts anew with those. Every file and command is told.
    #[command(after_help = INSTALL_EXAMPLES)]
    Install(Box<InstallArgs>),
    /// Stop the service that `install` made, and remove its unit. Keys, devices and workspaces stay.
    Uninstall {
        #[command(flatten)]
        how: How,
    },
    /// Show the journal of the service, the newest lines last. With --json, as journalctl's JSON.
    #[command(after_help = LOGS_EXAMPLES)]
    Logs {
        #[command(flatten)]
        journal: Journal,
    },
}

#[derive(Debug, Args)]
pub(super) struct InstallArgs {
    #[command(flatten)]
    options: HostOptions,
    /// Print what a service manager would be given, and change nothing: to look at, or for systems that Reachback was not
    /// tried on.
    #[arg(long, value_enum, value_name = "MANAGER", conflicts_with = "dry_run")]
    print: Option<ManagerArg>,
    #[command(flatten)]
    how: How,
}

/// What starts programs on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ManagerArg {
    /// The unit of `install`.
    Systemd,
    /// A property list for macOS, ~/Library/LaunchAgents/com.reachback.host.plist. Not tried.
    Launchd,
    /// A task for `schtasks /Create /TN Reachback /XML FILE` on Windows. Not tried.
    TaskScheduler,
}

/// How a change of the machine is done.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct How {
    /// Say what would be done, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(home: &Home, log: &str, action: &ServiceAction, output: Output) -> anyhow::Result<ExitCode> {
    match action {
        ServiceAction::Install(args) => install(home, log, args, output).await,
        ServiceAction::Uninstall { how } => {
            let service = service(*how)?;
            service.uninstall(&|step: &Step| told(&service, step, output)).await.map_err(failure)?;
            Ok(ExitCode::SUCCESS)
        }
        ServiceAction::Logs { journal } => logs(journal, output).await,
    }
}

async fn install(home: &Home, log: &str, args: &InstallArgs, output: Output) -> anyhow::Result<ExitCode> {
    demo::check(home, Purpose::Real)?;
    let program = std::env::current_exe().context("where this program is can't be found out")?;
    if let Some(manager) = args.print {
        let text = printed(manager, &program, home, log, &args.options)?;
        output.object(&serde_json::json!({"event": "service", "did": "printed", "text": text}));
        output.draw(text.trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    // A service has nobody who could give it a key: it has to have been let in by a relay.
    let known = known_relay(&home.path).map_err(|_| {
        Failure::new("no_relay", "this host has no relay yet, and a service can't be asked for a key")
            .fix("once, by hand: reachback host --relay URL --enroll-file FILE; Ctrl-C when it is connected, then this again")
    })?;
    transport::check(args.options.transport, args.options.relay.as_ref().unwrap_or(&known))?;
    attach::wanted(&args.options.codex)?;
    let text = unit(&program, home, log, &args.options, &carried(|name| std::env::var_os(name))?)?;
    let service = service(args.how)?;
    if !args.how.dry_run && !service.path().exists() {
        // Two agents can't have one home: this one would be started again and again.
        drop(demo::acquire(home, Purpose::Real)?);
    }
    service.install(&text, None, &|step: &Step| told(&service, step, output)).await.map_err(failure)?;
    if !args.how.dry_run {
        output.say("How it is: reachback status. What it says: reachback host logs -f");
        if !AwakeFile::of(&home.path).read()?.on {
            output.say("If this computer sleeps by itself, keep it awake while it is plugged in: reachback awake on");
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn logs(journal: &Journal, output: Output) -> anyhow::Result<ExitCode> {
    let shown = journal.show(Of::User(UNIT), output.is_json()).await;
    let ended = shown.map_err(|error| Failure::new("no_journal", error.to_string()).fix(NoJournal::FIX))?;
    Ok(if ended.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn service(how: How) -> anyhow::Result<Service> {
    Ok(Service::of_user(UNIT, |name| std::env::var_os(name), how.dry_run).map_err(failure)?)
}

fn told(service: &Service, step: &Step, output: Output) {
    let told = service.told(step);
    output.object(&told);
    output.say(told);
}

fn failure(error: ServiceError) -> Failure {
    let message = match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    Failure::new(error.code(), message).fix(error.fix())
}

/// Variables with their values.
type Environment = [(&'static str, String)];

/// The unit's text; `carried` is what the service finds in its environment.
fn unit(
    program: &Path,
    home: &Home,
    log: &str,
    options: &HostOptions,
    carried: &Environment,
) -> Result<String, Failure> {
    let words = words(program, home, log, options)?;
    let draft = Draft::of(HOST, "reachback host").set("ExecStart", &command_line(words.iter().map(String::as_str)));
    let assignments: Vec<_> = carried.iter().map(|(name, value)| assignment(name, value)).collect();
    let draft = if carried.is_empty() { draft } else { draft.set("Environment", &assignments.join(" ")) };
    Ok(draft.text())
}

/// What says how others are reached. Codex, which the agent starts, reads the same.
const PROXIES: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"];
/// Whom no proxy is for.
const EXCEPT: [&str; 2] = ["NO_PROXY", "no_proxy"];
/// Files and folders with authorities.
const AUTHORITIES: [&str; 3] = ["CODEX_CA_CERTIFICATE", "SSL_CERT_FILE", "SSL_CERT_DIR"];

/// What the service has of this terminal's environment: where programs are, and how others are reached.
fn carried(variable: impl Fn(&str) -> Option<OsString>) -> Result<Vec<(&'static str, String)>, Failure> {
    let path = Some(search_path()).filter(|path| !path.is_empty());
    let mut carried: Vec<_> = path.map(|path| ("PATH", path)).into_iter().collect();
    for name in PROXIES.into_iter().chain(EXCEPT).chain(AUTHORITIES) {
        let Some(value) = variable(name).filter(|value| !value.is_empty()) else { continue };
        let value = if AUTHORITIES.contains(&name) { absolute(value.into()).into_os_string() } else { value };
        let value = value.into_string().map_err(|_| {
            let message = format!("{name} is not valid text (UTF-8), which what a service is told has to be");
            Failure::new("not_text", message).fix(format!("unset it, or correct it: {name}"))
        })?;
        if PROXIES.contains(&name) && value.contains('@') {
            let message =
                format!("{name} has a password in it, and others on this machine could read it in a service's file");
            return Err(Failure::new("proxy_password", message).fix(format!(
                "install without it (env -u {name} reachback host install …); then write the line {name}=… into a file that \
                 only you can read (chmod 600), and name that: `systemctl --user edit {UNIT}`, with the two lines [Service] \
                 and EnvironmentFile=/path/of/the/file"
            )));
        }
        carried.push((name, value));
    }
    Ok(carried)
}

/// This terminal's search path, without folders that depend on where one is.
fn search_path() -> String {
    let path = programs::search_path().unwrap_or_default();
    path.split(':').filter(|folder| folder.starts_with('/')).collect::<Vec<_>>().join(":")
}

/// What is given to a service manager.
fn printed(
    manager: ManagerArg,
    program: &Path,
    home: &Home,
    log: &str,
    options: &HostOptions,
) -> Result<String, Failure> {
    let (words, carried) = (words(program, home, log, options)?, carried(|name| std::env::var_os(name))?);
    Ok(match manager {
        ManagerArg::Systemd => unit(program, home, log, options, &carried)?,
        ManagerArg::Launchd => {
            let user = std::env::home_dir().unwrap_or_default();
            launchd::agent(&words, &carried, &user.to_string_lossy())
        }
        ManagerArg::TaskScheduler => task_scheduler::task(&words),
    })
}

/// The command line of the service.
fn words(program: &Path, home: &Home, log: &str, options: &HostOptions) -> Result<Vec<String>, Failure> {
    let mut words: Vec<OsString> = vec![program.into(), "host".into(), "--log".into()];
    words.push(if log == USUAL_LOG { LOG } else { log }.into());
    if home.is_chosen {
        words.extend(["--home".into(), home.path.clone().into_os_string()]);
    }
    words.extend(said(options));
    let text = |word: OsString| {
        word.into_string().map_err(|word| {
            let message =
                format!("{} is not valid text (UTF-8), which a service's words have to be", quote(word.display()));
            Failure::new("not_text", message).fix("use another path")
        })
    };
    words.into_iter().map(text).collect()
}

/// The options as one types them, with whole paths.
fn said(options: &HostOptions) -> Vec<OsString> {
    let HostOptions { relay, web_origin, transport, codex } = options;
    let named = |value: Option<clap::builder::PossibleValue>| value.map(|value| value.get_name().into());
    let file = |path: &Option<PathBuf>| path.clone().map(|path| absolute(path).into_os_string());
    let attach = &codex.attach;
    let text = |text: &Option<String>| text.as_ref().map(Into::into);
    let once: [(&str, Option<OsString>); 14] = [
        ("--relay", relay.as_ref().map(|relay| relay.to_string().into())),
        ("--web-origin", web_origin.as_ref().map(|origin| origin.to_string().into())),
        ("--transport", named(transport.to_possible_value()).filter(|_| *transport != TransportArg::Auto)),
        ("--name", codex.name.as_ref().map(Into::into)),
        ("--codex", named(codex.way.to_possible_value()).filter(|_| codex.way != CodexWay::AppServer)),
        ("--attach-to", text(&attach.attach_to)),
        ("--attach-token-file", file(&attach.attach_token_file)),
        ("--attach-secret-file", file(&attach.attach_secret_file)),
        ("--attach-issuer", text(&attach.attach_issuer)),
        ("--attach-audience", text(&attach.attach_audience)),
        ("--codex-program", codex.codex_program.clone().map(|program| from_here(program).into_os_string())),
        ("--codex-home", file(&codex.codex_home)),
        ("--workdir", file(&codex.workdir)),
        ("--ssh-config", file(&codex.ssh_config)),
    ];
    let each = codex.workspaces.iter().map(|folder| ("--workspace", Some(absolute(folder.clone()).into_os_string())));
    let said = once.into_iter().chain(each).filter_map(|(name, value)| Some([name.into(), value?]));
    said.flatten().collect()
}

/// Tells systemd, if that started this program, what concerns it: `systemctl --user status` shows it.
///
/// The agent is ready when it is enrolled and reachable, which is said once.
pub(super) fn tell(event: &Event, supervisor: &Supervisor) {
    match event {
        Event::Ready { relay_url, .. } => supervisor.ready(&format!("reachable through {relay_url}")),
        Event::Tunnel(tunnel) => match (tunnel.state, &tunnel.reason) {
            (TunnelState::Connected, _) => supervisor.status("connected to the relay"),
            (_, Some(reason)) => supervisor.status(&format!("not connected to the relay: {reason}")),
            (_, None) => {}
        },
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::platform::dirs::Places;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: HostOptions,
    }

    fn home(chosen: Option<&str>) -> Home {
        let places = Places { home: Some("/home/ann".into()), ..Places::default() };
        Home::find(places, chosen.map(Path::new), None).unwrap()
    }

    fn exec_start(chosen: Option<&str>, log: &str, args: &[&str]) -> String {
        let line = Line::try_parse_from([&["x", "--codex-home", "/c"], args].concat()).unwrap();
        let unit = unit(Path::new("/opt/my bin/reachback"), &home(chosen), log, &line.options, &[]).unwrap();
        unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap().to_owned()
    }

    #[test]
    fn what_was_told_is_in_the_unit() {
        let here = std::env::current_dir().unwrap();
        let args = ["--relay", "https://relay.example", "--codex-program", "/opt/codex", "--workspace", "shop"];
        let args = [&args[..], &["--workspace", "/srv/100%", "--name", "Ann's"]].concat();
        let expected = [
            r#""/opt/my bin/reachback" host --log info --home /srv/state --relay https://relay.example:443"#,
            r#"--name "Ann's" --codex-program /opt/codex --codex-home /c"#,
            &format!(r#"--workspace {} --workspace "/srv/100%%""#, here.join("shop").display()),
        ];
        assert_eq!(exec_start(Some("/srv/state"), "warn", &args), expected.join(" "));
        assert_eq!(
            exec_start(
                None,
                "debug",
                &["--codex", "remote-control", "--transport", "wss", "--codex-program", "codex-next"]
            ),
            r#""/opt/my bin/reachback" host --log debug --transport wss --codex remote-control --codex-program codex-next --codex-home /c"#
        );
    }

    #[test]
    fn a_service_attaches_as_it_was_told_by_whole_paths() {
        let here = std::env::current_dir().unwrap();
        let args = ["--codex", "attach", "--attach-to", "ws://127.0.0.1:4500", "--attach-secret-file", "secret"];
        let args = [&args[..], &["--attach-issuer", "ann", "--attach-audience", "codex"]].concat();
        let expected = format!(
            "--codex attach --attach-to ws://127.0.0.1:4500 --attach-secret-file {} --attach-issuer ann --attach-audience codex \
             --codex-home /c",
            here.join("secret").display()
        );
        assert!(exec_start(None, "warn", &args).ends_with(&expected), "{}", exec_start(None, "warn", &args));
        let token = ["--codex", "attach", "--attach-to", "ws://[::1]:1", "--attach-token-file", "/t"];
        assert!(exec_start(None, "warn", &token).contains("--attach-token-file /t"));
    }

    #[test]
    fn every_manager_is_given_the_same_words() {
        let line =
            Line::try_parse_from(["x", "--codex-home", "/c", "--codex-program", "codex", "--name", "R&D"]).unwrap();
        let print =
            |manager| printed(manager, Path::new("/opt/reachback"), &home(None), "warn", &line.options).unwrap();
        assert!(print(ManagerArg::Systemd).contains(
            "ExecStart=/opt/reachback host --log info --name \"R&D\" --codex-program codex --codex-home /c\n"
        ));
        assert!(
            print(ManagerArg::Launchd).contains("<string>R&amp;D</string>\n        <string>--codex-program</string>")
        );
        assert!(
            print(ManagerArg::TaskScheduler).contains(
                "<Arguments>host --log info --name R&amp;D --codex-program codex --codex-home /c</Arguments>"
            )
        );
    }

    fn carried_of(environment: &[(&str, &str)]) -> Result<Vec<(&'static str, String)>, Failure> {
        carried(|name| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn a_service_goes_through_the_proxy_of_the_terminal_that_installs_it() {
        let environment = [
            ("https_proxy", "http://proxy.corp:3128"),
            ("NO_PROXY", "localhost, .corp"),
            ("CODEX_CA_CERTIFICATE", "/etc/ca/100%.pem"),
            ("SSL_CERT_FILE", ""),
            ("AWS_SECRET", "x"),
        ];
        let carried = carried_of(&environment).unwrap();
        let names: Vec<_> = carried.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["PATH", "https_proxy", "NO_PROXY", "CODEX_CA_CERTIFICATE"]);
        let line = Line::try_parse_from(["x"]).unwrap();
        let unit = unit(Path::new("/opt/reachback"), &home(None), "warn", &line.options, &carried).unwrap();
        let said = unit.lines().find_map(|line| line.strip_prefix("Environment=")).unwrap();
        let expected = r#" https_proxy=http://proxy.corp:3128 "NO_PROXY=localhost, .corp" "CODEX_CA_CERTIFICATE=/etc/ca/100%%.pem""#;
        assert!(said.ends_with(expected), "{said}");
        let here = std::env::current_dir().unwrap().join("ca.pem");
        let relative = carried_of(&[("SSL_CERT_FILE", "ca.pem")]).unwrap();
        assert_eq!(relative.last().unwrap(), &("SSL_CERT_FILE", here.to_str().unwrap().to_owned()));
    }

    #[test]
    fn a_proxys_password_is_written_into_no_service() {
        for name in PROXIES {
            let refused = carried_of(&[(name, "http://me:secret@p:1")]).unwrap_err();
            let told = format!("{refused:?}");
            assert_eq!(refused.code, "proxy_password");
            assert!(told.contains(name) && told.contains("EnvironmentFile=") && !told.contains("secret"), "{told}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_path_that_is_no_text_is_refused() {
        use std::os::unix::ffi::OsStrExt;
        let mut line = Line::try_parse_from(["x"]).unwrap();
        line.options.codex.workdir = Some(std::ffi::OsStr::from_bytes(b"/srv/\xff").into());
        let carried = carried(|name| (name == "NO_PROXY").then(|| std::ffi::OsStr::from_bytes(b"\xff").into()));
        assert_eq!(carried.unwrap_err().code, "not_text");
        let refused = unit(Path::new("/opt/reachback"), &home(None), "warn", &line.options, &[]).unwrap_err();
        assert_eq!((refused.code.as_str(), refused.fix.is_some()), ("not_text", true));
    }
}
