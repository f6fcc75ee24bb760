//! `reachback devices`: who may connect, and taking it away.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use reachback_proto::scope::Scope;
use reachback_proto::words::{printable, quote, shell_word};

use super::Home;
use super::demo;
use super::lines::{DeviceLine, Line};
use super::output::{self, Output};
use super::status;
use crate::agent::changes::DeviceChanges;
use crate::local_api::{Client, ClientError, DeviceInfo, Failure, Request, Response};
use crate::state::devices::{DeviceStore, EXPIRED};
use crate::state::lock::HomeLock;
use crate::state::timestamp::Timestamp;

/// List this host's devices, or revoke, pause or change one.
///
/// A device is named by its name, its id, or the start of its id. Without a running agent the list
/// itself is read and changed; the agent tells the relay when it starts.
#[derive(Debug, Args)]
pub(super) struct DevicesArgs {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Take a device off the list. Its live session ends at once.
    Revoke {
        /// A name, an id, or the start of an id.
        device: String,
    },
    /// Change what a device may do.
    Scope {
        /// A name, an id, or the start of an id.
        device: String,
        /// view, steer, approve or admin.
        scope: Scope,
    },
    /// Keep one device out for now, or all of them: the switch "allow other devices to connect".
    Pause {
        /// A name, an id, or the start of an id. Without it: all devices.
        device: Option<String>,
    },
    /// Let a paused device in again, or all of them.
    Resume {
        /// A name, an id, or the start of an id. Without it: all devices.
        device: Option<String>,
    },
}

pub(super) async fn run(home: &Home, args: DevicesArgs, output: Output) -> anyhow::Result<ExitCode> {
    let request = match args.action {
        None => Request::Devices,
        Some(Action::Revoke { device }) => Request::Revoke { device },
        Some(Action::Scope { device, scope }) => Request::SetScope { device, scope },
        Some(Action::Pause { device }) => Request::Pause { device, on: true },
        Some(Action::Resume { device }) => Request::Pause { device, on: false },
    };
    let mut ended = Vec::new();
    let response = match Client::open(&home.path, &request).await {
        Ok(client) => {
            let (events, response) = client.collect().await?;
            for event in &events {
                output.object(event);
            }
            ended = events;
            response
        }
        Err(ClientError::NotRunning { .. }) => {
            let elsewhere = demo::elsewhere(home).await;
            match (without_agent(home, &request, output).await, elsewhere) {
                (Ok(response), Some(elsewhere)) => {
                    output.remark(format_args!("No agent runs on {}; {elsewhere}", quote(home.path.display())));
                    response
                }
                (done, elsewhere) => done.map_err(|error| output::with_fix(error, elsewhere))?,
            }
        }
        Err(error) => return Err(error.into()),
    };
    match (&request, response) {
        (_, Response::Devices { paused, devices }) => {
            list(&devices, paused, output);
            if let Some(keys) = status::codex(home).await.as_ref().and_then(status::keys_line) {
                output.say(format_args!("\n{keys}"));
            }
        }
        (Request::Revoke { .. }, Response::Device(device)) => {
            tell(&device, "revoked", output);
            output.say(format_args!("Revoked: {} ({}).", quote(&device.name), device.device_id.short()));
        }
        (_, Response::Device(device)) => {
            tell(&device, "scope_changed", output);
            output.say(format_args!(
                "{} ({}) may now {}.",
                quote(&device.name),
                device.device_id.short(),
                device.scope
            ));
        }
        (Request::Pause { device, on }, _) => {
            output.object(&Line::Paused { on: *on, device: device.as_deref() });
            output.say(match (device, on) {
                (None, true) => "All devices are kept out until `reachback devices resume`.".to_owned(),
                (None, false) => "Devices are let in again, but for those that were paused by name.".to_owned(),
                (Some(device), true) => {
                    let word = printable(&shell_word(device));
                    format!("{} is kept out until `reachback devices resume {word}`.", quote(device))
                }
                (Some(device), false) if all_are_paused(home).await => format!(
                    "{} is let in again when all are: `reachback devices resume` ends the pause of all.",
                    quote(device)
                ),
                (Some(device), false) => format!("{} is let in again.", quote(device)),
            });
        }
        (_, _) => {}
    }
    for words in ended.iter().filter_map(|event| super::host::line(event, true)) {
        output.say(words);
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether devices are kept out, whichever they are.
async fn all_are_paused(home: &Home) -> bool {
    let response = match Client::open(&home.path, &Request::Devices).await {
        Ok(client) => client.finish().await.ok(),
        Err(_) => listed(home).ok(),
    };
    matches!(response, Some(Response::Devices { paused: true, .. }))
}

fn tell(device: &DeviceInfo, state: &str, output: Output) {
    let DeviceInfo { device_id, name, platform, scope, paused, expired, revoked_at_relay, added_at, last_seen, .. } =
        device;
    output.object(&Line::Device(DeviceLine {
        device_id: *device_id,
        state,
        name,
        platform,
        scope: *scope,
        paused: *paused,
        expired: *expired,
        revoked_at_relay: *revoked_at_relay,
        added_at: *added_at,
        last_seen: *last_seen,
    }));
}

fn list(devices: &[DeviceInfo], all_paused: bool, output: Output) {
    let state = |device: &DeviceInfo| match () {
        () if device.paused || all_paused => "paused",
        () if device.connected => "connected",
        () => "disconnected",
    };
    devices.iter().for_each(|device| tell(device, state(device), output));
    if devices.is_empty() {
        output.say("No devices. Pair one: reachback pair");
        return;
    }
    let rows: Vec<_> = devices
        .iter()
        .map(|device| {
            vec![
                device.device_id.short(),
                device.name.clone(),
                device.platform.clone(),
                device.scope.to_string(),
                match () {
                    () if device.revoked_at_relay => "paused (revoked at the relay)".to_owned(),
                    () if device.expired => format!("paused ({EXPIRED})"),
                    () if all_paused && !device.paused => "paused (as all are)".to_owned(),
                    () => state(device).to_owned(),
                },
                device.last_seen.to_string(),
            ]
        })
        .collect();
    output.list(&["ID", "NAME", "PLATFORM", "SCOPE", "STATE", "LAST SEEN"], &rows);
    if devices.iter().any(|device| device.expired) {
        output.say(
            "\nExpired: not seen in 90 days in which this host was reachable. `reachback devices resume NAME` lets one in again.",
        );
    }
    if devices.iter().any(|device| device.revoked_at_relay) {
        output.say(
            "\nRevoked at the relay: by a later list of this host than the one that it has now, which may come from a backup. \
             `reachback devices revoke NAME` takes one off. One that should come in is paired anew: the relay lets that key in no more.",
        );
    }
    if all_paused {
        output.say("\nAll devices are paused: `reachback devices resume` lets them in again.");
    }
}

/// The list itself, where no agent runs.
pub(super) fn listed(home: &Home) -> anyhow::Result<Response> {
    let _lock = HomeLock::acquire(&home.path)?;
    let list = DeviceStore::open(&home.path, Timestamp::now())?.current();
    let devices = list.devices.iter().map(|device| DeviceInfo::new(device, false)).collect();
    Ok(Response::Devices { paused: list.paused, devices })
}

/// What the agent would do, on the list itself and in the audit log, under the home's lock.
async fn without_agent(home: &Home, request: &Request, output: Output) -> anyhow::Result<Response> {
    if *request == Request::Devices {
        return listed(home);
    }
    let _lock = HomeLock::acquire(&home.path)?;
    let store = DeviceStore::open(&home.path, Timestamp::now())?;
    let list = store.current();
    let find = |query: &String| {
        let found = list.find(query).map(|device| device.device_id);
        found.map_err(|error| Failure::new("no_such_device", error.to_string()).fix("`reachback devices` lists them"))
    };
    let audit = match (home.audit_log(), request) {
        (Ok(audit), _) => audit,
        // As with an agent: what takes away is done whether or not it can be recorded.
        (Err(error), Request::Revoke { device }) => {
            output.remark(format_args!("This is not recorded: {error}"));
            return Ok(Response::Device(DeviceInfo::new(&store.remove(find(device)?, Timestamp::now())?, false)));
        }
        (Err(error), Request::Pause { device, on: true }) => {
            output.remark(format_args!("This is not recorded: {error}"));
            store.set_paused(device.as_ref().map(find).transpose()?, true, Timestamp::now())?;
            return Ok(Response::Done);
        }
        (Err(error), _) => return Err(error.into()),
    };
    let changes = DeviceChanges::without_agent(store, audit);
    let failure = |error| anyhow::Error::from(Failure::from(error));
    Ok(match request {
        Request::Revoke { device } => {
            let device = changes.revoke(find(device)?, None).await.map_err(failure)?;
            Response::Device(DeviceInfo::new(&device, false))
        }
        Request::SetScope { device, scope } => {
            let device = changes.set_scope(find(device)?, *scope, None).map_err(failure)?;
            Response::Device(DeviceInfo::new(&device, false))
        }
        Request::Pause { device, on } => {
            let id = device.as_ref().map(find).transpose()?;
            changes.pause(id, *on, None).await.map_err(failure)?;
            Response::Done
        }
        _ => {
            return Err(Failure::new("not_running", "that is not done without an agent")
                .fix("start it: reachback up, or reachback host")
                .into());
        }
    })
}
