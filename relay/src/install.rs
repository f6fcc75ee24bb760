//! `reachback-relay install` and `uninstall`: the relay as a service.
//!
//! Root gets a unit of the machine's, with an account of its own and everything shut off
//! that a relay does not need; anybody else a unit of theirs. What the command was told,
//! by options or by the environment, is in the unit's `ExecStart` from then on.

use std::path::{Path, PathBuf};

use reachback_proto::words::{printable, printable_lines, quote, shell_word};
use reachback_relay::service::journal::{Journal, NoJournal, Of};
use reachback_relay::service::systemd::{Manager, Service, ServiceError, Step, uid};
use reachback_relay::service::unit::{Draft, RELAY, command_line};
use reachback_relay::{Config, Tls};

use crate::cli::{How, Options};
use crate::say;

/// The unit.
const UNIT: &str = "reachback-relay.service";
/// The account of the machine's relay, and the name of its folder below [`STATE`].
const ACCOUNT: &str = "reachback";
/// Where services of the machine keep what they keep.
const STATE: &str = "/var/lib";
/// Where the unit of the machine can't look: `ProtectHome` and `PrivateTmp` hide them.
const HIDDEN: [&str; 5] = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];
/// What only the machine's systemd can do for a service, or a user's has nothing of.
const SYSTEM_ONLY: [&str; 15] = [
    "After",
    "Wants",
    "User",
    "Group",
    "StateDirectory",
    "StateDirectoryMode",
    "AmbientCapabilities",
    "CapabilityBoundingSet",
    "ProtectSystem",
    "ProtectHome",
    "PrivateTmp",
    "PrivateDevices",
    "ProtectKernelTunables",
    "ProtectKernelModules",
    "ProtectControlGroups",
];

/// Installs the relay that `options` describe, and that `config` is with its file.
pub(crate) async fn install(options: &Options, config: &Config, log: &str, how: How) -> anyhow::Result<()> {
    let service = service(how.dry_run).map_err(explained)?;
    let unit = std::env::current_exe()
        .map_err(|source| ServiceError::File { path: "this program".into(), source })
        .and_then(|program| Unit::new(&service, options, config, (&program, log)))
        .map_err(explained)?;
    let account = (service.manager == Manager::System).then_some(ACCOUNT);
    let tell = teller(&service, how);
    service.install(&unit.text, account, &tell).await.map_err(explained)?;
    let user = account.map(|account| format!("sudo -u {account} ")).unwrap_or_default();
    let (program, data) = (word(&unit.program), word(&unit.data));
    tell(&Step::Noted { note: format!("a key for one more host: {user}{program} enroll --data {data}") });
    Ok(())
}

/// Takes the relay's service away.
pub(crate) async fn uninstall(how: How) -> anyhow::Result<()> {
    let service = service(how.dry_run).map_err(explained)?;
    service.uninstall(&teller(&service, how)).await.map_err(explained)
}

/// Shows what the relay's service said.
pub(crate) async fn logs(journal: &Journal) -> anyhow::Result<()> {
    let of = if uid() == Some(0) { Of::System(UNIT) } else { Of::User(UNIT) };
    let ended = journal.show(of, false).await.map_err(|error| anyhow::anyhow!("{error}\n  {}", NoJournal::FIX))?;
    anyhow::ensure!(ended.success(), "journalctl ended with {ended}");
    Ok(())
}

fn service(dry_run: bool) -> Result<Service, ServiceError> {
    match uid() {
        Some(0) => Ok(Service::of_system(UNIT, dry_run)),
        _ => Service::of_user(UNIT, |name| std::env::var_os(name), dry_run),
    }
}

fn teller(service: &Service, how: How) -> impl Fn(&Step) + '_ {
    move |step| {
        let told = service.told(step);
        let line = if how.json {
            serde_json::to_string(&told).expect("a step has string keys, and paths that were read as text")
        } else {
            printable_lines(&told.to_string())
        };
        // Whoever does not read any more does not keep the rest from being done.
        let _closed = say(&line);
    }
}

/// The failure as this program says it: with the next step on a line of its own.
fn explained(error: ServiceError) -> anyhow::Error {
    let fix = error.fix();
    match std::error::Error::source(&error) {
        Some(source) => anyhow::anyhow!("{error}: {source}\n  {fix}"),
        None => anyhow::anyhow!("{error}\n  {fix}"),
    }
}

fn word(path: &Path) -> String {
    printable(&shell_word(path.display()))
}

/// The unit's text, and what it names.
#[derive(Debug)]
struct Unit {
    text: String,
    program: PathBuf,
    data: PathBuf,
}

impl Unit {
    fn new(
        service: &Service,
        options: &Options,
        config: &Config,
        (program, log): (&Path, &str),
    ) -> Result<Self, ServiceError> {
        let is_systems = service.manager == Manager::System;
        let data = data(is_systems, config)?;
        let files = files(options, config)?;
        for path in files.iter().map(PathBuf::as_path).chain([program]) {
            text(path)?;
            if is_systems {
                visible(path)?;
            }
        }
        let mut words = vec![text(program)?.to_owned()];
        if log != "info" {
            words.extend(["--log".into(), log.into()]);
        }
        words.push("serve".into());
        words.extend(options.words(text(&data)?));
        let line = command_line(words.iter().map(String::as_str));
        let draft = Draft::of(RELAY, "reachback-relay").set("ExecStart", &line);
        let draft = if is_systems {
            let name = data.strip_prefix(STATE).map_err(|_| elsewhere(&data))?;
            let draft = draft.set("StateDirectory", text(name)?);
            match config.listen.port() {
                1..1024 => draft.set("AmbientCapabilities", "CAP_NET_BIND_SERVICE"),
                _ => draft,
            }
        } else {
            draft.without(&SYSTEM_ONLY).set("WantedBy", "default.target")
        };
        Ok(Self { text: draft.text(), program: program.to_owned(), data })
    }
}

/// Where the relay keeps what it keeps, whatever folder it is started in.
fn data(is_systems: bool, config: &Config) -> Result<PathBuf, ServiceError> {
    let said = (config.data != Config::default().data).then(|| absolute(&config.data)).transpose()?;
    if is_systems {
        let data = said.unwrap_or_else(|| Path::new(STATE).join("reachback-relay"));
        let name = data.strip_prefix(STATE).ok().and_then(Path::to_str).unwrap_or_default();
        // `StateDirectory` takes a list, and reads percent signs.
        let is_plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
        return if is_plain && !name.contains("..") { Ok(data) } else { Err(elsewhere(&data)) };
    }
    let state = || {
        let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        folder("XDG_STATE_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/state")))
    };
    said.or_else(|| state().map(|state| state.join("reachback-relay"))).ok_or_else(|| ServiceError::Unfit {
        message: "nothing says where the relay may keep its data".into(),
        fix: "say it: --data DIR".into(),
    })
}

fn elsewhere(data: &Path) -> ServiceError {
    ServiceError::Unfit {
        message: format!("a relay of the machine's keeps its data below {STATE}, and {} is not", quote(data.display())),
        fix: format!("say --data {STATE}/NAME, and move the data there; or write a unit from deploy/{UNIT}"),
    }
}

/// The files that the relay reads when it starts.
fn files(options: &Options, config: &Config) -> Result<Vec<PathBuf>, ServiceError> {
    let mut files: Vec<PathBuf> = options.config.iter().map(|path| absolute(path)).collect::<Result<_, _>>()?;
    if let Tls::Files { cert, key } = &config.tls {
        for path in [cert, key] {
            // An option is made absolute where it was typed; what a file says, it says to every start.
            if path.is_relative() && options.tls_cert.is_none() {
                return Err(ServiceError::Unfit {
                    message: format!(
                        "{} is no path for a service, which has no folder to begin at",
                        quote(path.display())
                    ),
                    fix: "give the whole path in the configuration file".into(),
                });
            }
            files.push(absolute(path)?);
        }
    }
    Ok(files)
}

/// Refuses what a unit of the machine's can't see.
fn visible(path: &Path) -> Result<(), ServiceError> {
    if !HIDDEN.iter().any(|hidden| path.starts_with(hidden)) {
        return Ok(());
    }
    let is_program = std::env::current_exe().is_ok_and(|program| program == path);
    let fix = match is_program {
        true => format!(
            "put it where everybody may run it, and use that one: install -m 755 {} /usr/local/bin/",
            word(path)
        ),
        false => format!("move it below /etc/reachback, readable for the account {ACCOUNT}, and name it there"),
    };
    let message = format!(
        "{} can't be read by a service of the machine's: homes and temporary folders are hidden from it",
        quote(path.display())
    );
    Err(ServiceError::Unfit { message, fix })
}

pub(crate) fn absolute(path: &Path) -> Result<PathBuf, ServiceError> {
    std::path::absolute(path).map_err(|source| ServiceError::File { path: path.to_owned(), source })
}

fn text(path: &Path) -> Result<&str, ServiceError> {
    path.to_str().ok_or_else(|| ServiceError::Unfit {
        message: format!("the path {} is not valid text (UTF-8), which a unit has to be", quote(path.display())),
        fix: "use another folder".into(),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn unit(manager: Manager, args: &[&str]) -> Result<Unit, ServiceError> {
        let cli = Cli::try_parse_from([&["reachback-relay", "install"], args].concat()).unwrap();
        let config = cli.config().unwrap();
        let Command::Install { options, .. } = &cli.command else { panic!("it is another command") };
        let service = Service { manager, folder: "/nowhere".into(), name: UNIT, dry_run: true };
        Unit::new(&service, options, &config, (Path::new("/usr/local/bin/reachback-relay"), &cli.log))
    }

    fn lines<'a>(unit: &'a Unit, key: &str) -> Vec<&'a str> {
        unit.text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
    }

    #[test]
    fn what_was_told_is_in_the_unit_of_the_machine() {
        let args = ["--listen", "0.0.0.0:443", "--public-url", "https://relay.example", "--tls-cert", "/etc/r/c.pem"];
        let unit =
            unit(Manager::System, &[&args[..], &["--tls-key", "/etc/r/k.pem", "--quic", "off"]].concat()).unwrap();
        let expected = "/usr/local/bin/reachback-relay serve --data /var/lib/reachback-relay --listen 0.0.0.0:443 \
                        --public-url https://relay.example/ --tls-cert /etc/r/c.pem --tls-key /etc/r/k.pem --quic off";
        assert_eq!(lines(&unit, "ExecStart"), [expected]);
        assert_eq!(lines(&unit, "StateDirectory"), ["reachback-relay"]);
        assert_eq!(lines(&unit, "AmbientCapabilities"), ["CAP_NET_BIND_SERVICE"], "443 is not for everybody");
        assert_eq!(lines(&unit, "ProtectSystem"), ["strict"]);
    }

    #[test]
    fn a_users_unit_asks_nothing_that_a_users_systemd_can_not_do() {
        let unit = unit(Manager::User { uid: 1000 }, &["--data", "/srv/my relay", "--tls", "generated"]).unwrap();
        let expected = r#"/usr/local/bin/reachback-relay serve --data "/srv/my relay" --tls generated"#;
        assert_eq!(lines(&unit, "ExecStart"), [expected]);
        for key in SYSTEM_ONLY {
            assert_eq!(lines(&unit, key), [""; 0], "{key}");
        }
        assert_eq!(lines(&unit, "WantedBy"), ["default.target"]);
        assert_eq!(lines(&unit, "Type"), ["notify"]);
    }

    #[test]
    fn what_the_machines_unit_could_not_reach_is_refused_with_what_to_do() {
        let cert = ["--tls-cert", "/root/c.pem", "--tls-key", "/etc/k.pem"];
        for (args, fix) in [(&["--data", "/srv/relay"][..], "--data /var/lib/NAME"), (&cert, "/etc/reachback")] {
            let error = unit(Manager::System, args).unwrap_err();
            assert!(error.fix().contains(fix), "{error}: {}", error.fix());
            assert!(unit(Manager::User { uid: 1000 }, args).is_ok(), "a user's unit sees what the user sees");
        }
        for data in ["/var/lib", "/var/lib/../../srv", "/var/lib/a b", "/var/lib/100%"] {
            assert!(unit(Manager::System, &["--data", data]).is_err(), "{data}");
        }
    }

    #[test]
    fn a_file_that_a_service_would_look_for_in_another_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.toml");
        std::fs::write(&path, "tls_cert = 'cert.pem'\ntls_key = 'key.pem'\n").unwrap();
        let error = unit(Manager::User { uid: 1000 }, &["--config", path.to_str().unwrap()]).unwrap_err();
        assert!(error.fix().contains("whole path"), "{error}");
    }
}
