//! `reachback audit`: who did what from afar.

mod sentences;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use reachback_proto::ids::DeviceId;
use reachback_proto::words::quote;

use super::Home;
use super::demo;
use super::output::Output;
use crate::audit::{self, Line};
use crate::local_api::Failure;
use crate::state::devices::DeviceStore;
use crate::state::timestamp::Timestamp;
use sentences::sentence;

/// Show what devices did, and who changed what they may do, and where.
///
/// Every changing action from afar is written here before it passes to Codex, and every refusal; the same refusal again within
/// a minute is counted, and told up to two minutes later.
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// Only what happened since then: a time (2026-11-23T06:00:00Z), or how long ago (90s, 15m, 12h, 7d).
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// Only what this device did, and what became of it: its name, its id, or the start of its id.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
}

pub(super) async fn run(home: &Home, args: &AuditArgs, output: Output) -> anyhow::Result<ExitCode> {
    let now = Timestamp::now();
    let since = args.since.as_deref().map(|text| moment(text, now)).transpose()?;
    let (lines, skipped) = audit::read(&home.path)?;
    // Names of devices that are still there; a revoked one is known by its id.
    let names = DeviceStore::open(&home.path, now)?.current();
    let name = |id: DeviceId| names.device(id).map_or_else(String::new, |device| device.name.clone());
    let is_meant = |query: &str, device: DeviceId| {
        device.to_string().starts_with(&query.to_ascii_lowercase()) || name(device) == *query
    };
    let wanted = |line: &&Line| {
        let by_device = match (&args.device, line) {
            (None, _) => true,
            (Some(query), Line::Device(entry)) => {
                is_meant(query, entry.device_id) || entry.by.is_some_and(|by| is_meant(query, by))
            }
            (Some(query), Line::Awake(entry)) => entry.by.is_some_and(|by| is_meant(query, by)),
            (Some(_), Line::Folder(_) | Line::Codex(_)) => false,
        };
        by_device && since.is_none_or(|since| line.at() >= since)
    };
    let lines: Vec<&Line> = lines.iter().filter(wanted).collect();
    for line in &lines {
        match line {
            Line::Device(entry) => output.object(entry),
            Line::Folder(entry) => output.object(entry),
            Line::Codex(entry) => output.object(entry),
            Line::Awake(entry) => output.object(entry),
        }
    }
    if skipped > 0 {
        output.remark(format_args!("{skipped} lines could not be read."));
    }
    if let Some(elsewhere) = demo::elsewhere(home).await {
        output.remark(format_args!("No agent runs on {}; {elsewhere}", quote(home.path.display())));
    }
    if lines.is_empty() {
        output.say("Nothing, so far.");
        return Ok(ExitCode::SUCCESS);
    }
    let name = |id: DeviceId| names.device(id).map(|device| device.name.clone());
    output.say(lines.iter().map(|line| sentence(line, name)).collect::<Vec<_>>().join("\n"));
    Ok(ExitCode::SUCCESS)
}

fn moment(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    if let Ok(moment) = text.parse() {
        return Ok(moment);
    }
    let wrong = || {
        Failure::new("since", format!("{} is neither a time nor how long ago", quote(text)))
            .fix("like --since 2026-11-23T06:00:00Z, or --since 12h")
    };
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong().into()),
    };
    let ago: u64 = number.parse().map_err(|_| wrong())?;
    let ago = Duration::from_secs(ago.saturating_mul(seconds));
    Ok(Timestamp::from_unix(now.unix().saturating_sub(ago.as_secs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_or_how_long_ago() {
        let now = Timestamp::from_unix(1_000_000);
        assert_eq!(moment("90s", now).unwrap().unix(), 999_910);
        assert_eq!(moment("2h", now).unwrap().unix(), 992_800);
        assert_eq!(moment("99999999d", now).unwrap().unix(), 0);
        assert_eq!(moment("1970-01-02T00:00:00Z", now).unwrap().unix(), 86_400);
        for wrong in ["", "h", "12", "12y", "-1h", "yesterday", "1ü"] {
            assert!(moment(wrong, now).is_err(), "{wrong}");
        }
    }
}
