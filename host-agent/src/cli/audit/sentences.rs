//! Lines of the audit log as sentences.

use reachback_proto::frame::LOCAL_ENVIRONMENT;
use reachback_proto::ids::DeviceId;
use reachback_proto::words::{printable, quote};

use crate::audit::{AwakeChange, AwakeEntry, CodexChange, CodexEntry, Entry, FolderChange, FolderEntry, Line, What};
use crate::cli::host::work_ended;
use crate::state::devices::{EXPIRED, REVOKED_AT_RELAY};

/// When it was, and what happened. `name` is that of a device that is still there; another is known by its id.
pub(super) fn sentence(line: &Line, name: impl Fn(DeviceId) -> Option<String>) -> String {
    let device = |id: DeviceId| match name(id) {
        Some(name) => format!("{} ({})", quote(&name), id.short()),
        None => format!("device {}", id.short()),
    };
    let by_whom = |by: Option<DeviceId>| by.map(|by| format!(", by {}", device(by))).unwrap_or_default();
    let words = match line {
        Line::Device(Entry { device_id, by, what, .. }) => {
            let by = by.map(|by| if by == *device_id { "itself".to_owned() } else { device(by) });
            let by = by.map_or_else(String::new, |by| format!(", by {by}"));
            format!("{} {}{by}.", device(*device_id), happened(what))
        }
        Line::Folder(FolderEntry { event, environment, path, .. }) => {
            let became = match event {
                FolderChange::WorkspaceAdded => "opened",
                FolderChange::WorkspaceRemoved => "closed",
            };
            format!("{} was {became} to devices{}.", printable(path), elsewhere(environment))
        }
        Line::Codex(CodexEntry { event, environment, by, .. }) => match event {
            CodexChange::ChatgptRemoteOn => {
                format!("OpenAI's remote control of Codex was turned on{}.", elsewhere(environment))
            }
            CodexChange::ChatgptRemoteOff => {
                format!("OpenAI's remote control of Codex was turned off{}.", elsewhere(environment))
            }
            CodexChange::SshHostAdded => format!("{} was added for devices{}.", printable(environment), by_whom(*by)),
            CodexChange::SshHostRemoved => {
                format!("{} was taken back from devices{}.", printable(environment), by_whom(*by))
            }
            CodexChange::SshCodesOn => {
                format!("Devices may be asked for the codes of {} from then on.", printable(environment))
            }
            CodexChange::SshCodesOff => {
                format!("No device is asked for the codes of {} any more.", printable(environment))
            }
        },
        Line::Awake(AwakeEntry { event, by, .. }) => match event {
            AwakeChange::KeepAwakeOn => {
                format!("This computer is kept awake for devices from then on{}.", by_whom(*by))
            }
            AwakeChange::KeepAwakeOff => {
                format!("This computer is not kept awake for devices any more{}.", by_whom(*by))
            }
        },
    };
    format!("{}  {words}", line.at())
}

/// What a device did, or what became of it.
fn happened(what: &What) -> String {
    match what {
        What::Action { .. } => action(what),
        What::Paired { scope } => format!("was paired, scope {scope}"),
        What::ScopeChanged { scope } => format!("has scope {scope} from then on"),
        What::Revoked => "was revoked".to_owned(),
        What::Paused { reason: None } => "was paused".to_owned(),
        What::Paused { reason: Some(reason) } if reason == EXPIRED => {
            "was paused: not seen for long (expired)".to_owned()
        }
        What::Paused { reason: Some(reason) } if reason == REVOKED_AT_RELAY => {
            "was paused: the relay knows it as revoked".to_owned()
        }
        What::Paused { reason: Some(reason) } => format!("was paused: {}", printable(reason)),
        What::Resumed => "was let in again".to_owned(),
        What::WorkEnded { environment, thread, goal, queued, turns } => {
            let ended = work_ended(*goal, *queued, *turns);
            format!("may work no more, and lost in thread {}{}: {ended}", printable(thread), elsewhere(environment))
        }
    }
}

fn action(what: &What) -> String {
    let What::Action { environment, method, thread, decision, reason, answer, folder, scope, count, until } = what
    else {
        return String::new();
    };
    let method = method.as_deref().map(printable);
    let (is_refused, about) = (matches!(&**decision, "refused" | "withheld"), method.as_deref());
    let mut words = match (answer.as_deref(), about, is_refused) {
        (Some(answer), about, _) => format!("{} {}", answered(answer), about.unwrap_or("a request")),
        (None, Some(method), true) => format!("was refused {method}"),
        (None, None, true) => "was refused a message".to_owned(),
        (None, method, false) => did(method.unwrap_or_default()),
    };
    if let Some(thread) = thread {
        words += &format!(" in thread {}", printable(thread));
    }
    if let Some(folder) = folder {
        words += &format!(", folder {}", printable(folder));
    }
    words += &elsewhere(environment);
    match (&**decision, reason.as_deref()) {
        ("refused" | "withheld", Some(reason)) => words += &format!(": {}", because(reason, scope.name())),
        (_, Some("unguarded")) => words += ", under another permission profile than the agent's (unguarded)",
        ("trimmed", _) => words += ", without some of what it chose (trimmed)",
        ("lessened", _) => words += ", for less than it said (lessened)",
        _ => {}
    }
    match (count, until) {
        (Some(1), _) => words += "; once more",
        (Some(count), Some(until)) => words += &format!("; {count} times more until {until}"),
        _ => {}
    }
    words
}

/// What a person would call the method, with its name.
fn did(method: &str) -> String {
    let words = match method {
        "turn/start" => "sent a prompt",
        "thread/queue/add" => "queued a prompt",
        "turn/steer" => "steered a turn",
        "turn/interrupt" => "interrupted a turn",
        "thread/start" => "started a thread",
        "thread/resume" => "opened a thread",
        "thread/fork" => "forked a thread",
        "thread/archive" => "archived a thread",
        "thread/shellCommand" | "command/exec" => "ran a command",
        "review/start" => "started a review",
        "ssh/login" => "had the host log in",
        "ssh/asked" => "was asked for a code",
        "ssh/answer" => "answered with a code",
        "ssh/declined" => "had a login end without a code",
        "" => return "sent something that passed".to_owned(),
        method => return format!("called {method}"),
    };
    format!("{words} ({method})")
}

fn answered(answer: &str) -> String {
    match answer {
        "accept" => "accepted".to_owned(),
        "acceptForLonger" => "accepted for longer".to_owned(),
        "decline" => "declined".to_owned(),
        "cancel" => "cancelled".to_owned(),
        "answer" => "answered".to_owned(),
        other => format!("answered ({})", printable(other)),
    }
}

fn because(reason: &str, scope: &str) -> String {
    match reason {
        "scope" => format!("it has scope {scope}"),
        "method" => "no device may call that here (method)".to_owned(),
        "params" => "what it chose is not for devices to choose (params)".to_owned(),
        "malformed" => "not well formed (malformed)".to_owned(),
        "not_open" => "nothing there waits for an answer (not_open)".to_owned(),
        "digest" => "the answer was to something else (digest)".to_owned(),
        "age" => "the answer was held for too long (age)".to_owned(),
        "at_the_host" => "that is done at the host (at_the_host)".to_owned(),
        "login" => "the machine did not let it in (login)".to_owned(),
        "busy" => "too soon after another one (busy)".to_owned(),
        "other" => "of many kinds at once, counted together (other)".to_owned(),
        reason => printable(reason),
    }
}

fn elsewhere(environment: &str) -> String {
    match environment {
        LOCAL_ENVIRONMENT => String::new(),
        elsewhere => format!(" at {}", printable(elsewhere)),
    }
}

#[cfg(test)]
mod tests {
    use reachback_proto::ids::PublicKey;

    use super::*;

    /// Of a line without its moment and its device, as it is in the file.
    fn said(rest: &str) -> String {
        let device = DeviceId::of(&PublicKey([7; 32]));
        let rest = rest.replace("OTHER", &DeviceId::of(&PublicKey([8; 32])).to_string());
        let line = format!(r#"{{"at":"1970-01-01T00:00:00Z","device_id":"{device}",{rest}}}"#);
        let line = serde_json::from_str(&line).unwrap();
        let words = sentence(&line, |id| (id == device).then(|| "laptop".to_owned()));
        words.strip_prefix(&format!("1970-01-01T00:00:00Z  “laptop” ({}) ", device.short())).unwrap().to_owned()
    }

    #[test]
    fn lines_read_like_sentences() {
        let other = DeviceId::of(&PublicKey([8; 32])).short();
        for (line, words) in [
            (r#""event":"paired","scope":"approve""#, "was paired, scope approve.".to_owned()),
            (r#""event":"paused","reason":"expired""#, "was paused: not seen for long (expired).".to_owned()),
            (
                r#""event":"paused","reason":"revoked_at_relay""#,
                "was paused: the relay knows it as revoked.".to_owned(),
            ),
            (r#""by":"OTHER","event":"revoked""#, format!("was revoked, by device {other}.")),
            (
                r#""event":"action","method":"thread/start","decision":"passed","folder":"/srv/p","scope":"steer""#,
                "started a thread (thread/start), folder /srv/p.".to_owned(),
            ),
            (
                r#""event":"action","environment":"ssh:x","method":"item/fileChange/requestApproval","thread":"t","decision":"passed","answer":"decline","scope":"approve""#,
                "declined item/fileChange/requestApproval in thread t at ssh:x.".to_owned(),
            ),
            (
                r#""event":"action","method":"turn/start","thread":"t","decision":"refused","reason":"scope","scope":"view","count":12,"until":"1970-01-01T00:00:50Z""#,
                "was refused turn/start in thread t: it has scope view; 12 times more until 1970-01-01T00:00:50Z."
                    .to_owned(),
            ),
            (
                r#""event":"action","environment":"ssh:x","method":"ssh/login","decision":"refused","reason":"login","scope":"admin""#,
                "was refused ssh/login at ssh:x: the machine did not let it in (login).".to_owned(),
            ),
            (
                r#""event":"action","environment":"ssh:x","method":"ssh/answer","decision":"passed","scope":"admin""#,
                "answered with a code (ssh/answer) at ssh:x.".to_owned(),
            ),
            (
                r#""event":"action","environment":"ssh:x","method":"ssh/declined","decision":"passed","scope":"admin""#,
                "had a login end without a code (ssh/declined) at ssh:x.".to_owned(),
            ),
            (
                r#""event":"work_ended","environment":"local","thread":"t","goal":true,"queued":2,"turns":0"#,
                "may work no more, and lost in thread t: its goal, 2 queued prompts.".to_owned(),
            ),
        ] {
            assert_eq!(said(line), words);
        }
    }

    #[test]
    fn a_folder_is_told_where_it_is() {
        let line = r#"{"at":"1970-01-01T00:00:01Z","event":"workspace_removed","environment":"local","path":"/srv/p"}"#;
        let words = sentence(&serde_json::from_str(line).unwrap(), |_| None);
        assert_eq!(words, "1970-01-01T00:00:01Z  /srv/p was closed to devices.");
    }
}
