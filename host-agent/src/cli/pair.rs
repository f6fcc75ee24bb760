//! `reachback pair`: shows codes, asks for digits, tells who paired.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Args;
use reachback_proto::pairing::Origin;
use reachback_proto::scope::Scope;
use reachback_proto::words::quote;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::Home;
use super::demo;
use super::output::{Output, with_fix};
use crate::local_api::{
    Answer, Client, ClientError, Confirm, DeviceInfo, Event, Failure, Reply, Request, Response, Shown,
};
use crate::platform::terminal::forget_typed;
use crate::qr::{Paint, Qr};

/// Waits this long for a device unless told otherwise: an hour, codes being renewed every five minutes.
const DEFAULT_WAIT: u32 = 3600;

/// Show a QR code and a typed code, and pair one device with this host.
///
/// Scan the QR code with a phone, or run `reachback join` on another computer. The
/// device then shows six digits; type them here. Codes work once and for five minutes,
/// and are renewed while this runs.
#[derive(Debug, Args)]
pub(super) struct PairArgs {
    /// What the device may do: view, steer, approve or admin. Without it `approve` for the QR code or its URL,
    /// and `steer` for the typed code.
    #[arg(long)]
    scope: Option<Scope>,
    /// Let the device in without comparing digits. For programs: whoever has the code is let in.
    #[arg(long)]
    yes: bool,
    /// How long to wait for a device, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_WAIT)]
    wait: u32,
    /// Show no codes: let in the device that takes the code that Codex shows, with `--codex remote-control`.
    #[arg(long, conflicts_with_all = ["scope", "yes", "wait"])]
    waiting: bool,
}

pub(super) async fn run(home: &Home, args: PairArgs, output: Output) -> anyhow::Result<ExitCode> {
    if !args.yes && (output.is_json() || !std::io::stdin().is_terminal()) {
        let failure = Failure::new("no_terminal", "there is no terminal to type the device's digits at");
        return Err(failure
            .fix("run `reachback pair` in a terminal, or add --yes to let in whoever has the code")
            .into());
    }
    let confirm = if args.yes { Confirm::None } else { Confirm::Digits };
    let request = match args.waiting {
        true => Request::PairWaiting,
        false => Request::Pair { scope: args.scope, confirm, ttl_seconds: args.wait },
    };
    if args.waiting {
        output.say("Lets in the device that takes the code that Codex shows, by the digits that it shows then.");
    }
    let device = match drive(home, &request, Codes::Qr, |event| output.event(event), output).await {
        Err(error) if matches!(error.downcast_ref(), Some(ClientError::NotRunning { .. })) => {
            return Err(with_fix(error, demo::elsewhere(home).await));
        }
        other => other?,
    };
    output.say(format_args!("Paired: {} ({}), scope {}.", quote(&device.name), device.device_id.short(), device.scope));
    if device.scope < Scope::Approve {
        let hint = format!("reachback devices scope {} approve", device.device_id.short());
        output.say(format_args!("To let it approve what Codex wants to do: {hint}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Which codes help a person here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codes {
    /// The QR code, its URL and the typed code.
    Qr,
    /// No QR code: what a phone's browser would open ends in a warning page.
    NoQr,
}

/// Pairs one device through the running agent, as `request` says; `tell` hears each of its events.
pub(super) async fn drive(
    home: &Home,
    request: &Request,
    codes: Codes,
    tell: impl Fn(&Event),
    output: Output,
) -> anyhow::Result<DeviceInfo> {
    let mut client = Client::open(&home.path, request).await?;
    loop {
        match client.next().await? {
            Reply::Event(event) => {
                tell(&event);
                match event {
                    Event::Pairing { url, code, .. } => show(&url, &code, codes, output),
                    Event::PairingDigitsWanted { name, platform } => {
                        let answer = ask(&name, &platform, output).await?;
                        client.answer(&answer).await?;
                    }
                    Event::Error(failure) => {
                        output.say(format_args!("{}", failure.message));
                        if let Some(fix) = failure.fix {
                            output.say(format_args!("  {fix}"));
                        }
                    }
                    _ => {}
                }
            }
            Reply::Done(Response::Device(device)) => return Ok(device),
            Reply::Done(_) => return Err(Failure::new("malformed", "the agent answered something else").into()),
            Reply::Failed(failure) => return Err(failure.into()),
        }
    }
}

fn show(url: &Shown, code: &Shown, codes: Codes, output: Output) {
    if output.is_json() {
        return;
    }
    let relay = url.0.split("/#").next().unwrap_or_default().to_ascii_lowercase();
    if codes == Codes::Qr
        && let Ok(qr) = Qr::new(&url.0)
    {
        let paint = if output.is_terminal() { Paint::Colour } else { Paint::Plain };
        output.draw(&format!("\n{}", qr.render(paint)));
    }
    let is_loopback = relay.parse::<Origin>().is_ok_and(|relay| relay.is_loopback());
    let place = if is_loopback { "In another terminal of this computer" } else { "On the other computer" };
    output.say(format_args!("\n{place}:"));
    output.say(format_args!("  reachback join '{}'", url.0));
    output.say(format_args!("or without copying:"));
    output.say(format_args!("  reachback join {relay}     and type   {}", code.0));
    output.say("\nWorks once, for five minutes; renewed while this runs.");
}

async fn ask(name: &str, platform: &str, output: Output) -> anyhow::Result<Answer> {
    // An Enter from before would refuse this device, and digits from before would be another one's.
    forget_typed();
    output.say(question(name, platform));
    let line = read_line().await?;
    Ok(if line.trim().is_empty() { Answer::Decline } else { Answer::Digits { digits: Shown(line.trim().to_owned()) } })
}

/// The question for a device's digits. Its name and its platform are the device's own words.
fn question(name: &str, platform: &str) -> String {
    let (name, platform) = (quote(name), quote(platform));
    format!("\n{name} ({platform}) wants to pair. Type the six digits that it shows, or just Enter to refuse:")
}

/// A line of standard input; empty at its end.
pub(super) async fn read_line() -> std::io::Result<String> {
    let mut line = String::new();
    BufReader::with_capacity(1, tokio::io::stdin()).read_line(&mut line).await?;
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_can_not_forge_the_question_by_its_name() {
        let name = "laptop` (linux) wants to pair. Type the digits 123456”:";
        let asked = question(name, "mac`”\n\u{202e}");
        assert_eq!(
            asked,
            "\n“laptop' (linux) wants to pair. Type the digits 123456':” (“mac''??”) wants to pair. \
             Type the six digits that it shows, or just Enter to refuse:"
        );
    }
}
