//! `reachback ssh`: the machines that this one reaches over SSH.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use reachback_proto::words::printable;

use super::Home;
use super::output::{Output, table};
use crate::local_api::{Event, Failure, SshHost};
use crate::ssh::{Discovery, DiscoveryError, Found, Settings};

const EXAMPLES: &str = "Examples, on the host:\n  \
    reachback ssh list                          which machines ~/.ssh/config names, and what each name means\n  \
    reachback ssh list --json                   the same for programs, one machine a line\n  \
    reachback ssh list --ssh-config work.conf   of another file, as `ssh -F` takes it";

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
}

pub(super) async fn run(home: &Home, args: SshArgs, output: Output) -> anyhow::Result<ExitCode> {
    let SshArgs { action: Action::List, ssh_config } = args;
    let failure = |error: DiscoveryError| {
        let fix = error.fix();
        let code = if matches!(error, DiscoveryError::NoSsh) { "ssh_missing" } else { "ssh_config" };
        Failure::new(code, format!("{:#}", anyhow::Error::from(error))).fix(fix)
    };
    let config = ssh_config.map(std::path::absolute).transpose()?;
    let discovery = Discovery::new(home.places.home.clone(), config).map_err(failure)?;
    let listing = discovery.list().await.map_err(failure)?;
    for unread in &listing.unread {
        output.remark(format_args!("Not read: {unread}"));
    }
    let hosts: Vec<SshHost> = listing.found.iter().map(told).collect();
    if hosts.is_empty() {
        let config = printable(&discovery.config().display().to_string());
        output.say(format_args!(
            "{config} names no machine. Name one there:\n  Host devbox\n    HostName 192.0.2.7\n    User me"
        ));
    } else {
        output.say(table(&["NAME", "MACHINE", "BY WAY OF", "NAMED IN"], &hosts.iter().map(row).collect::<Vec<_>>()));
    }
    hosts.into_iter().for_each(|host| output.event(&Event::SshHost(host)));
    Ok(ExitCode::SUCCESS)
}

/// What is told of a machine.
fn told(found: &Found) -> SshHost {
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
    [&host.alias, &machine, &way, &named].map(|cell| printable(cell)).to_vec()
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
        }
    }

    #[test]
    fn a_row_says_which_machine_and_how_it_is_reached() {
        assert_eq!(row(&host()), ["devbox", "ada@192.0.2.7", "-", "/home/ada/.ssh/config:3"]);
        let far = SshHost {
            host_name: Some("fe80::1".into()),
            port: Some(2222),
            jumps: vec!["one".into(), "two:22".into()],
            ..host()
        };
        assert_eq!(row(&far)[1..3], ["ada@[fe80::1]:2222", "one, two:22"]);
        assert_eq!(row(&SshHost { proxy_command: true, ..host() })[2], "a command of yours");
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
