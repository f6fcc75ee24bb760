//! What devices were not told of what Codex said, in words: on the agent's terminal, and for `reachback status --withheld`.
//!
//! It may quote any file of this host. So it is printed on a terminal as it happens, and to who asks for it; a service's
//! journal hears only that there is something.

use std::process::ExitCode;

use reachback_proto::words::{printable, quote};

use super::Home;
use super::output::Output;
use crate::local_api::{Client, ClientError, DeviceInfo, Event, Request, Response, WithheldText};

/// For the agent's own terminal.
pub(super) fn told(text: &WithheldText) -> String {
    format!("Kept from device {}, as it may quote files ({}):\n{}", text.device_id.short(), about(text), quoted(text))
}

/// For what is no terminal.
pub(super) fn hint(text: &WithheldText) -> String {
    let (device, about) = (text.device_id.short(), about(text));
    format!(
        "Kept something from device {device}, as it may quote files ({about}): reachback status --withheld shows it."
    )
}

/// What a running agent remembers of it.
pub(super) async fn show(home: &Home, output: Output) -> anyhow::Result<ExitCode> {
    let (events, _) = Client::open(&home.path, &Request::Withheld).await?.collect().await?;
    let devices = devices(home).await?;
    events.iter().for_each(|event| output.event(event));
    let texts: Vec<_> = events.iter().filter_map(|event| listed(event, &devices)).collect();
    match texts.is_empty() {
        true => output.say("Nothing that Codex said was kept from a device since the agent was started."),
        false => output.say(texts.join("\n\n")),
    }
    Ok(ExitCode::SUCCESS)
}

async fn devices(home: &Home) -> Result<Vec<DeviceInfo>, ClientError> {
    let response = Client::open(&home.path, &Request::Devices).await?.finish().await?;
    Ok(if let Response::Devices { devices, .. } = response { devices } else { Vec::new() })
}

fn listed(event: &Event, devices: &[DeviceInfo]) -> Option<String> {
    let Event::Withheld(text) = event else { return None };
    let device = devices.iter().find(|device| device.device_id == text.device_id);
    // It may have been taken off the list since.
    let device = device.map_or_else(|| text.device_id.short().to_string(), |device| quote(&device.name));
    Some(format!("{}, kept from device {device} ({}):\n{}", text.at, about(text), quoted(text)))
}

/// What Codex was asked or told of, and where.
fn about(text: &WithheldText) -> String {
    let thread = text.thread_id.iter().map(|thread| format!(", thread {}", printable(thread))).collect::<String>();
    format!("{}, {}{thread}", printable(&text.environment), printable(&text.method))
}

/// Each line behind a mark: none of it can look like a line of Reachback's own.
fn quoted(text: &WithheldText) -> String {
    let lines = text.text.0.lines().map(|line| format!("  | {}", printable(line)));
    let cut = (text.cut > 0).then(|| format!("  … and {} more characters", text.cut));
    lines.chain(cut).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use reachback_proto::ids::DeviceId;

    use super::*;
    use crate::local_api::Shown;
    use crate::state::timestamp::Timestamp;

    fn text() -> WithheldText {
        WithheldText {
            at: Timestamp::from_unix(1_795_413_540),
            device_id: DeviceId([7; 16]),
            environment: "local".into(),
            method: "thread/start".into(),
            thread_id: Some("0198f000-0000-7000-8000-000000000001".into()),
            text: Shown("at line 2\nPaired: \u{1b}[2J“x”.\r".into()),
            cut: 7,
        }
    }

    #[test]
    fn no_line_of_a_text_looks_like_one_of_reachbacks_own() {
        let device = text().device_id.short();
        let wanted = format!(
            "Kept from device {device}, as it may quote files (local, thread/start, thread 0198f000-0000-7000-8000-000000000001):\n  \
             | at line 2\n  | Paired: ?[2J“x”.?\n  … and 7 more characters"
        );
        assert_eq!(told(&text()), wanted);
    }

    #[test]
    fn what_may_end_in_a_file_has_nothing_of_the_text() {
        let hint = hint(&text());
        assert!(hint.contains("reachback status --withheld"), "{hint}");
        assert!(!hint.contains("line 2") && !hint.contains("Paired"), "{hint}");
    }
}
