//! `reachback awake`: whether this computer is kept awake while devices may come.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use reachback_proto::words::{printable, quote};

use super::Home;
use super::demo;
use super::output::{self, Output};
use crate::agent::awake::AwakeChanges;
use crate::audit::AuditLog;
use crate::local_api::{AwakeState, AwakeStatus, Client, ClientError, Event, Failure, Request, Response};
use crate::state::awake::{Awake, AwakeFile};
use crate::state::lock::HomeLock;

const EXAMPLES: &str = "Examples, on the host:\n  \
    reachback awake        how it is, and why it is not kept awake\n  \
    reachback awake on     keep it awake from now on, while it is plugged in\n  \
    reachback awake off    let it sleep again";

/// Keep this computer awake while it is plugged in and devices may connect, so that they find it when you are away.
///
/// It is off until you turn it on, or a device with scope `admin` does, and then stays on, also after a restart. The computer is
/// kept from sleeping by itself, no more: close its lid, or have it sleep, and it does. It may sleep while it runs on its
/// battery, while no device may connect (`reachback devices pause`), and when the agent has ended, however that ended. The
/// screen may go dark.
///
/// On Linux the lock is systemd-logind's: `systemd-inhibit --list` shows it. macOS and Windows are asked by `caffeinate` and
/// PowerShell, which has not been tried.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct AwakeArgs {
    /// Without it: say how it is.
    #[arg(value_enum, value_name = "on|off", hide_possible_values = true)]
    switch: Option<Switch>,
}

/// Whether it is to be kept awake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

pub(super) async fn run(home: &Home, args: AwakeArgs, output: Output) -> anyhow::Result<ExitCode> {
    let on = args.switch.map(|switch| switch == Switch::On);
    let status = match Client::open(&home.path, &Request::Awake { on }).await {
        Ok(client) => match client.finish().await? {
            Response::Awake(status) => status,
            _ => return Err(ClientError::Malformed.into()),
        },
        Err(ClientError::NotRunning { .. }) => {
            let elsewhere = demo::elsewhere(home).await;
            match (without_agent(home, on), elsewhere) {
                (Ok(status), Some(elsewhere)) => {
                    output.remark(format_args!("No agent runs on {}; {elsewhere}", quote(home.path.display())));
                    status
                }
                (done, elsewhere) => done.map_err(|error| output::with_fix(error, elsewhere))?,
            }
        }
        Err(error) => return Err(error.into()),
    };
    output.event(&Event::Awake(status.clone()));
    output.say(words(&status));
    Ok(ExitCode::SUCCESS)
}

/// The same on the file, under the home's lock, when no agent runs.
fn without_agent(home: &Home, on: Option<bool>) -> anyhow::Result<AwakeStatus> {
    let file = AwakeFile::of(&home.path);
    if let Some(on) = on {
        let _lock = HomeLock::acquire(&home.path)?;
        let audit = AuditLog::open(&home.path)?;
        AwakeChanges { file: &file, audit: &audit }.set(file.read()?.on, on, None).map_err(Failure::from)?;
    }
    Ok(as_kept(file.read()?))
}

/// How it is while no agent runs.
pub(super) fn as_kept(Awake { on }: Awake) -> AwakeStatus {
    match on {
        false => AwakeStatus { on, state: AwakeState::Off, reason: None, fix: None },
        true => AwakeStatus {
            on,
            state: AwakeState::NoAgent,
            reason: Some("no agent runs".into()),
            fix: Some("start it: reachback up, or reachback host".into()),
        },
    }
}

/// How it is, for a person.
pub(super) fn words(status: &AwakeStatus) -> String {
    match row(status) {
        None => "This computer may sleep. Keep it awake while it is plugged in: reachback awake on".to_owned(),
        Some(row) => format!("This computer is {row}."),
    }
}

/// The same where it is said what it is about; `None` where nobody wants it to be kept awake.
pub(super) fn row(AwakeStatus { state, reason, fix, .. }: &AwakeStatus) -> Option<String> {
    let reason = reason.as_deref().map(printable).unwrap_or_default();
    let fix = fix.as_deref().map(|fix| format!("; {}", printable(fix))).unwrap_or_default();
    Some(match state {
        AwakeState::Off => return None,
        AwakeState::Held => "kept awake while it is plugged in and devices may connect".to_owned(),
        AwakeState::Partly => format!("kept awake, as far as that goes: {reason}{fix}"),
        AwakeState::OnBattery
        | AwakeState::NoAccess
        | AwakeState::NotOffered
        | AwakeState::Failed
        | AwakeState::NoAgent => format!("not kept awake now: {reason}{fix}"),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Command};
    use super::*;
    use crate::audit::{AwakeChange, AwakeEntry, Line};
    use crate::platform::dirs::Places;

    fn switch(args: &[&str]) -> Result<Option<Switch>, clap::Error> {
        match Cli::try_parse_from([&["reachback", "awake"], args].concat())?.command {
            Command::Awake(AwakeArgs { switch }) => Ok(switch),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn it_is_asked_for_turned_on_or_turned_off() {
        assert_eq!(switch(&[]).unwrap(), None);
        assert_eq!(switch(&["on"]).unwrap(), Some(Switch::On));
        assert_eq!(switch(&["off"]).unwrap(), Some(Switch::Off));
        for wrong in [&["maybe"][..], &["on", "off"]] {
            assert_eq!(switch(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }

    #[test]
    fn without_an_agent_the_wish_is_kept_and_asking_makes_no_home() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("home");
        let home = Home::find(Places::default(), Some(&path), None).unwrap();
        assert_eq!(without_agent(&home, None).unwrap().state, AwakeState::Off);
        assert!(!path.exists());
        let on = without_agent(&home, Some(true)).unwrap();
        assert_eq!((on.on, on.state), (true, AwakeState::NoAgent));
        assert_eq!(without_agent(&home, None).unwrap(), on);
        assert!(words(&on).ends_with("no agent runs; start it: reachback up, or reachback host."), "{}", words(&on));
        assert_eq!(without_agent(&home, Some(true)).unwrap(), on, "it was on before");
        assert_eq!(without_agent(&home, Some(false)).unwrap().state, AwakeState::Off);
        let (lines, _) = crate::audit::read(&path).unwrap();
        let wanted = [AwakeChange::KeepAwakeOn, AwakeChange::KeepAwakeOff];
        let of_it = |line: &Line| match line {
            Line::Awake(AwakeEntry { event, by: None, .. }) => *event,
            other => panic!("{other:?}"),
        };
        assert_eq!(lines.iter().map(of_it).collect::<Vec<_>>(), wanted);
        let lock = HomeLock::acquire(&path).unwrap();
        assert!(without_agent(&home, Some(true)).is_err(), "an agent has the home, and is not asked");
        drop(lock);
    }

    #[test]
    fn what_is_in_the_way_is_named_with_what_helps() {
        let status = AwakeStatus {
            on: true,
            state: AwakeState::OnBattery,
            reason: Some("it runs on its battery".into()),
            fix: Some("plug it in".into()),
        };
        assert_eq!(words(&status), "This computer is not kept awake now: it runs on its battery; plug it in.");
        let off = AwakeStatus { on: false, state: AwakeState::Off, reason: None, fix: None };
        assert!(row(&off).is_none() && words(&off).ends_with("reachback awake on"));
    }
}
