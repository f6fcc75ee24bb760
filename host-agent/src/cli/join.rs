//! `reachback join`: this computer becomes a device of a host.

use std::process::ExitCode;

use clap::Args;
use reachback_proto::close::CloseCode;
use reachback_proto::pairing::{Name, Origin, PairingUrl, Platform, TypedCode};
use reachback_proto::words::{quote, shell_word};

use super::Home;
use super::lines::Line;
use super::output::Output;
use super::pair::read_line;
use super::transport;
use crate::connect::join::{self, Invitation, JoinError};
use crate::link::relay::RelayError;
use crate::local_api::Failure;
use crate::state::paired_hosts::PairedHostStore;

/// Make this computer a device of a host.
///
/// With the URL that `reachback up` or `reachback pair` shows, it takes one command. With the relay's
/// address alone, or nothing, it asks for the typed code. Either way this computer then shows six
/// digits, to be typed at the host.
#[derive(Debug, Args)]
#[command(after_help = transport::ENVIRONMENT)]
pub(super) struct JoinArgs {
    /// The pairing URL, or the relay's address.
    url: Option<String>,
    /// What the host calls this computer. Default: its own name.
    #[arg(long)]
    name: Option<String>,
}

pub(super) async fn run(home: &Home, args: JoinArgs, output: Output) -> anyhow::Result<ExitCode> {
    let name = args.name.unwrap_or_else(own_name);
    let name =
        Name::new(&name).map_err(|error| Failure::new("name", error.to_string()).fix("choose another: --name"))?;
    let platform = Platform::cleaned(&format!("{} {}", std::env::consts::OS, std::env::consts::ARCH))
        .ok_or_else(|| Failure::new("platform", "this platform has no name"))?;
    let invitation = invitation(args.url, output).await?;
    let store = PairedHostStore::new(&home.path);
    output.remark("Pairing…");
    let host = join::join(&invitation, transport::way_out(), name, platform, &store, |digits| {
        output.object(&Line::Digits { digits: digits.to_string() });
        output.say(format_args!("\nType these digits at the host:\n\n    {digits}\n"));
    })
    .await
    .map_err(explained)?;
    output.object(&Line::Joined {
        host_id: host.host_id(),
        host_name: &host.name,
        device_id: host.device_id(),
        scope: host.scope,
        relay_url: &host.relay().url,
    });
    output.say(format_args!("Paired with {} ({}), scope {}.", quote(&host.name), host.host_id().short(), host.scope));
    output.say(format_args!("Use Codex there: reachback connect {}", shell_word(&host.name)));
    Ok(ExitCode::SUCCESS)
}

/// A failed pairing, with what to do next.
fn explained(error: JoinError) -> Failure {
    const AGAIN: &str = "at the host, `reachback pair` shows a new code; then `reachback join` here";
    let (code, fix) = match &error {
        JoinError::Relay(RelayError::Refused { code: CloseCode::NotFound, .. }) => ("pairing_code", AGAIN),
        JoinError::Relay(RelayError::WrongRelay(_)) => (
            "wrong_relay",
            "someone may be in between: copy the URL from the host's screen again, or use another network",
        ),
        // They name the next step themselves.
        JoinError::Relay(RelayError::Proxy { .. }) => return Failure::new("proxy", error.to_string()),
        JoinError::Relay(RelayError::Untrusted(_) | RelayError::Authorities { .. }) => {
            return Failure::new("authority", error.to_string());
        }
        JoinError::Relay(_) => ("relay", "check the relay's address, and whether this computer reaches it"),
        JoinError::NoHost | JoinError::NotConfirmed | JoinError::Link(_) | JoinError::Pairing(_) => {
            ("pairing_failed", AGAIN)
        }
        _ => return Failure::new("failed", error.to_string()),
    };
    Failure::new(code, error.to_string()).fix(fix)
}

async fn invitation(url: Option<String>, output: Output) -> anyhow::Result<Invitation> {
    let relay = match url {
        Some(url) if url.contains('#') => {
            let url = PairingUrl::parse(&url).map_err(|error| {
                Failure::new("pairing_url", error.to_string())
                    .fix("copy all of it, in quotes: reachback join 'HTTPS://…/#…'")
            })?;
            return Ok(Invitation::Url(url));
        }
        Some(relay) => relay,
        None => {
            output.remark("The relay's address, as the host shows it (such as https://relay.example:443):");
            read_line().await?
        }
    };
    let relay: Origin = relay.trim().parse().map_err(|error: reachback_proto::pairing::OriginError| {
        Failure::new("relay_address", error.to_string()).fix("the host shows it beside the code")
    })?;
    output.remark("The code that the host shows (16 characters):");
    let code = TypedCode::parse(&read_line().await?).map_err(|error| {
        Failure::new("typed_code", error.to_string()).fix("the host shows it; dashes and case don't matter")
    })?;
    Ok(Invitation::Code { relay, code })
}

/// This computer's own name, as far as it can be shown.
pub(super) fn own_name() -> String {
    let name = hostname::get().ok().and_then(|name| Name::cleaned(&name.to_string_lossy()));
    name.map_or_else(|| "this computer".to_owned(), |name| name.as_str().to_owned())
}
