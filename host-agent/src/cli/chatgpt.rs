//! `reachback codex chatgpt-…`: OpenAI's own app beside Reachback, at the Codex of this host.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use reachback_proto::words::quote;

use super::lines::Line;
use super::output::{Output, with_fix};
use super::pair::read_line;
use super::{Home, demo};
use crate::local_api::{ChatgptDevice, Client, ClientError, Event, Failure, Reply, Request, Response, Shown};
use crate::platform::terminal::forget_typed;
use crate::qr::{Paint, Qr};

/// Waits this long for a device unless told otherwise: an hour, codes being renewed when they expire.
const DEFAULT_WAIT: u32 = 3600;

/// What it means, before it is done.
const CONSENT: &str = "\
This turns on OpenAI's own remote control at this host's Codex, and pairs a device with it there, not with Reachback.
  - What that device does goes over OpenAI's servers, which can read it.
  - It reaches every thread, and every folder that Codex does: Reachback's workspaces, scopes, audit log and
    `devices revoke` do not hold there.
  - Codex keeps it on, after a restart too, for every app-server with its folder and account, until you turn it off:
      reachback codex chatgpt-off
Reachback's own devices stay as they are, and reach the same threads.";

#[derive(Debug, Subcommand)]
pub(super) enum ChatgptAction {
    /// Pair OpenAI's own app with the Codex of this host, which stays at OpenAI's relay for that.
    ///
    /// Turns on OpenAI's remote control in the Codex that the agent runs or has joined, and shows the code that its app
    /// asks for; a QR code too, where Codex's pairing is a link. Your paired devices go on as before: both reach the
    /// same threads. What the app does goes past Reachback's workspaces, scopes, audit log and revocation, so you are
    /// asked first. If no device comes, it is turned off again.
    ///
    /// It takes an agent with `--codex app-server` (which is what you get unless you say otherwise) and a sign-in with
    /// ChatGPT.
    #[command(name = "chatgpt-pair")]
    Pair(PairArgs),
    /// Show the devices that were paired with OpenAI's remote control, or revoke one there.
    #[command(name = "chatgpt-devices")]
    Devices {
        /// Revoke this one: its id, its name, or the start of its id.
        #[arg(long, value_name = "DEVICE")]
        revoke: Option<String>,
    },
    /// Turn OpenAI's remote control off at the Codex of this host, for good. Reachback's devices stay.
    #[command(name = "chatgpt-off")]
    Off,
}

#[derive(Debug, Args)]
pub(super) struct PairArgs {
    /// Don't ask first. For programs.
    #[arg(long)]
    yes: bool,
    /// How long to wait for a device, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_WAIT)]
    wait: u32,
}

pub(super) async fn run(home: &Home, action: &ChatgptAction, output: Output) -> anyhow::Result<ExitCode> {
    let request = match action {
        ChatgptAction::Pair(args) => {
            if !args.yes && !consents(output).await? {
                output.say("Nothing was changed.");
                return Ok(ExitCode::FAILURE);
            }
            output.say("Turning it on …");
            Request::ChatgptPair { ttl_seconds: args.wait }
        }
        ChatgptAction::Devices { revoke: None } => Request::ChatgptDevices,
        ChatgptAction::Devices { revoke: Some(device) } => Request::ChatgptRevoke { device: device.clone() },
        ChatgptAction::Off => Request::ChatgptOff,
    };
    match drive(home, &request, output).await {
        Err(error) if matches!(error.downcast_ref(), Some(ClientError::NotRunning { .. })) => {
            Err(with_fix(error, demo::elsewhere(home).await))
        }
        other => other.map(|()| ExitCode::SUCCESS),
    }
}

/// Asks the person, who must be there.
async fn consents(output: Output) -> anyhow::Result<bool> {
    if output.is_json() || !std::io::stdin().is_terminal() {
        let failure = Failure::new("no_terminal", "there is no terminal to ask you at whether to let OpenAI's app in");
        return Err(failure
            .fix("read `reachback codex chatgpt-pair --help`, and add --yes if that is what you want")
            .into());
    }
    output.say(CONSENT);
    forget_typed();
    output.say("\nTurn it on? Type yes, or just Enter to leave things as they are:");
    Ok(matches!(read_line().await?.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

async fn drive(home: &Home, request: &Request, output: Output) -> anyhow::Result<()> {
    let mut client = Client::open(&home.path, request).await?;
    let mut devices = Vec::new();
    loop {
        match client.next().await? {
            Reply::Event(event) => {
                output.event(&event);
                match event {
                    Event::ChatgptPairing { code, url, .. } => show(code.as_ref(), url.as_ref(), output),
                    Event::ChatgptDevice(device) => devices.push(device),
                    _ => {}
                }
            }
            Reply::Done(Response::ChatgptPaired) => {
                output.object(&Line::ChatgptPaired);
                output.say("Paired. It reaches this host's Codex from now on.");
                output.say("Which devices do: reachback codex chatgpt-devices");
                output.say("To end that for all of them: reachback codex chatgpt-off");
                return Ok(());
            }
            Reply::Done(Response::ChatgptRevoked(device)) => {
                output.event(&Event::ChatgptDevice(device.clone()));
                output.say(format_args!("Revoked at OpenAI's remote control: {}.", named(&device)));
                return Ok(());
            }
            Reply::Done(Response::ChatgptOff { was_on }) => {
                output.object(&Line::ChatgptOff { was_on });
                output.say(match was_on {
                    true => "OpenAI's remote control is off: nothing reaches this host's Codex from there. Reachback's devices do.",
                    false => "OpenAI's remote control was off already.",
                });
                return Ok(());
            }
            Reply::Done(_) => {
                list(&devices, output);
                return Ok(());
            }
            Reply::Failed(failure) => return Err(failure.into()),
        }
    }
}

fn show(code: Option<&Shown>, url: Option<&Shown>, output: Output) {
    if output.is_json() {
        return;
    }
    if let Some(url) = url {
        if let Ok(qr) = Qr::new(&url.0) {
            let paint = if output.is_terminal() { Paint::Colour } else { Paint::Plain };
            output.draw(&format!("\n{}", qr.render(paint)));
        }
        output.say(format_args!("\nIn OpenAI's app, scan the code above, or open:\n  {}", url.0));
    }
    if let Some(code) = code {
        output.say(format_args!(
            "\nIn OpenAI's app, where it asks for the pairing code of a computer, type   {}",
            code.0
        ));
    }
    output.say("\nRenewed while this runs. Ctrl-C ends it, and turns off again what this turned on.");
}

fn named(device: &ChatgptDevice) -> String {
    device.name.as_ref().map_or_else(|| quote(&device.id), quote)
}

fn list(devices: &[ChatgptDevice], output: Output) {
    match devices {
        [] => output.say("No device is paired with OpenAI's remote control of this host's Codex."),
        _ => output.list(&["NAME", "PLATFORM", "LAST SEEN", "ID"], &devices.iter().map(row).collect::<Vec<_>>()),
    }
}

fn row(device: &ChatgptDevice) -> Vec<String> {
    let or_none = |word: Option<String>| word.unwrap_or_else(|| "-".to_owned());
    let last_seen = or_none(device.last_seen.map(|seen| seen.to_string()));
    vec![or_none(device.name.clone()), or_none(device.platform.clone()), last_seen, device.id.clone()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_shows_what_is_known_of_each_device() {
        let device = |name: Option<&str>| ChatgptDevice {
            id: "cl-1".into(),
            name: name.map(str::to_owned),
            platform: None,
            last_seen: None,
        };
        assert_eq!(row(&device(Some("my phone"))), ["my phone", "-", "-", "cl-1"]);
        assert_eq!(row(&device(None)), ["-", "-", "-", "cl-1"]);
        assert_eq!((named(&device(Some("p"))), named(&device(None))), ("“p”".to_owned(), "“cl-1”".to_owned()));
    }

    #[test]
    fn consent_names_what_does_not_hold_and_the_way_back() {
        for words in ["workspaces", "scopes", "audit log", "can read it", "reachback codex chatgpt-off"] {
            assert!(CONSENT.contains(words), "{words}");
        }
    }
}
