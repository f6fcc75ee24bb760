//! What is changed in Codex's answers before a device sees them.
//!
//! Codex explains a file that it cannot read by quoting it: the line of a
//! `config.toml` that does not parse, the value that has the wrong type, all
//! that an MCP server wrote (measured on 0.169.0). A device chooses which file
//! that is, by naming a folder. So of such a text only what stands before the
//! first quotation goes out, with the file and the place in it. The whole text is for the owner (`withheld`).
//!
//! The owner's configuration holds tokens. A device below `steer`, which cannot
//! read files by itself, gets the members that a client needs to start. Every
//! device is told that its folder is known: the stock client would otherwise
//! ask its person whether to trust it, and write the answer into the owner's
//! file, which no device may.

use std::borrow::Cow;

use bytes::Bytes;
use reachback_proto::scope::Scope;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::Policy;
use super::folders::Place;
use super::parse::RequestId;
use super::table::{AnswerContent, Method};
use super::threads::is_thread_id;
use super::took::Asking;
use super::withheld::Texts;

/// An answer that is waited for.
#[derive(Debug)]
pub(super) struct Awaited {
    /// The device's own id of the request.
    pub(super) id: RequestId,
    /// What was asked.
    pub(super) method: &'static Method,
    /// The thread that it is about.
    pub(super) thread: Option<String>,
    /// The folder that it is about, as the device wrote it.
    pub(super) folder: Option<String>,
    /// Where it may bring a prompt into a turn.
    pub(super) asking: Option<Asking>,
}

/// What stands in place of a text that quotes. Whoever is at the host may have no terminal of the agent's, which may be a service.
const KEPT: &str = "what follows stays on the host, since it may quote files: `reachback status --withheld` there shows what was kept last";
/// What stands in place of all that the start of an MCP server says.
const NOT_STARTED: &str = "it did not start. Why stays on the host, since it may quote files: `reachback status --withheld` there shows what was kept last";

/// Of the configuration, what no token belongs in.
const HARMLESS: [&str; 18] = [
    "approval_policy",
    "approvals_reviewer",
    "default_permissions",
    "features",
    "model",
    "model_auto_compact_token_limit",
    "model_context_window",
    "model_provider",
    "model_reasoning_effort",
    "model_reasoning_summary",
    "model_verbosity",
    "personality",
    "projects",
    "review_model",
    "sandbox_mode",
    "service_tier",
    "tui",
    "web_search",
];

/// A result as the device may have it; `None` for one that is not JSON.
pub(super) fn result(awaited: &Awaited, raw: &RawValue, policy: &Policy, withheld: &mut Texts) -> Option<Bytes> {
    // Threads are large, and quote nothing that the device may not see.
    if awaited.method.answer == AnswerContent::Plain || awaited.method.thread.opens() {
        return answer(&awaited.id, "result", &raw);
    }
    let mut result = serde_json::from_str(raw.get()).ok()?;
    match awaited.method.answer {
        AnswerContent::Plain => {}
        AnswerContent::Quotes => clean_lists(&mut result, withheld),
        AnswerContent::Configuration => configuration(&mut result, awaited.folder.as_deref(), policy),
    }
    answer(&awaited.id, "result", &result)
}

/// An error as the device may have it; `None` for one that is not JSON.
pub(super) fn error(awaited: &Awaited, raw: &RawValue, withheld: &mut Texts) -> Option<Bytes> {
    if awaited.method.answer == AnswerContent::Plain {
        return answer(&awaited.id, "error", &raw);
    }
    let mut error: Map<String, Value> = serde_json::from_str(raw.get()).ok()?;
    error.remove("data");
    clean(error.get_mut("message"), withheld);
    answer(&awaited.id, "error", &error)
}

fn answer(id: &RequestId, name: &str, value: &impl Serialize) -> Option<Bytes> {
    let mut out = br#"{"id":"#.to_vec();
    serde_json::to_writer(&mut out, id).ok()?;
    out.extend_from_slice(format!(r#","{name}":"#).as_bytes());
    serde_json::to_writer(&mut out, value).ok()?;
    out.push(b'}');
    Some(out.into())
}

/// A notification as a device may have it, where it can quote a file.
pub(super) fn notification(method: &str, bytes: &Bytes, withheld: &mut Texts) -> Option<Bytes> {
    if !matches!(method, "configWarning" | "warning" | "mcpServer/startupStatus/updated") {
        return None;
    }
    let mut message: Map<String, Value> = serde_json::from_slice(bytes).ok()?;
    let params = message.get_mut("params")?.as_object_mut()?;
    match method {
        "warning" => match params.get_mut("message") {
            // Others are Codex's own words for people.
            Some(text) if text.as_str().is_some_and(is_about_a_file) => clean(Some(text), withheld),
            _ => return None,
        },
        "configWarning" => {
            // Codex's own words, but for the names of keys.
            if params
                .get("summary")
                .and_then(Value::as_str)
                .is_some_and(|summary| summary.contains(['"', '`', '\n', '|']))
            {
                clean(params.get_mut("summary"), withheld);
            }
            clean(params.get_mut("details"), withheld);
        }
        _ => {
            let server = params.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            let Some(Value::String(error)) = params.get_mut("error") else { return None };
            withheld.add(&format!("{server}: {error}"));
            NOT_STARTED.clone_into(error);
        }
    }
    Some(Value::Object(message).to_string().into())
}

fn is_about_a_file(text: &str) -> bool {
    let text = text.to_lowercase();
    ["config", "hook", "matcher", "pars", ".toml", ".json", ".md", ".rules", ".yaml"]
        .iter()
        .any(|sign| text.contains(sign))
}

/// The lists in which Codex says what it could not read.
fn clean_lists(result: &mut Value, withheld: &mut Texts) {
    match result {
        Value::Array(items) => items.iter_mut().for_each(|item| clean_lists(item, withheld)),
        Value::Object(members) => {
            for (name, value) in members {
                match (name.as_str(), value) {
                    ("errors" | "marketplaceLoadErrors", Value::Array(errors)) => {
                        errors.iter_mut().for_each(|error| clean(error.get_mut("message"), withheld));
                    }
                    ("warnings", Value::Array(warnings)) => {
                        warnings.iter_mut().for_each(|warning| clean(Some(warning), withheld));
                    }
                    ("toolsError", error) => clean(Some(error), withheld),
                    (_, value) => clean_lists(value, withheld),
                }
            }
        }
        _ => {}
    }
}

fn clean(text: Option<&mut Value>, withheld: &mut Texts) {
    if let Some(Value::String(text)) = text
        && let Cow::Owned(shorter) = without_quotations(text)
    {
        withheld.add(text);
        *text = shorter;
    }
}

/// What stands before the first thing that may come from a file, with the file and the place.
fn without_quotations(text: &str) -> Cow<'_, str> {
    const SIGNS: [char; 6] = [':', '"', '\'', '`', '\n', '|'];
    let Some(cut) = text.find(SIGNS) else { return text.into() };
    let rest = text[cut..].strip_prefix(": ").unwrap_or_default();
    // What a device wrote itself, and what it asked about.
    if text.starts_with("Invalid request: ") || is_thread_id(rest) {
        return text.into();
    }
    let first = text.lines().next().unwrap_or_default();
    let plain = &first[..first.find(['"', '\'', '`', '|']).unwrap_or(first.len())];
    let file = plain.split(' ').map(|part| part.trim_end_matches([':', ','])).find(|part| is_config_file(part));
    let place = plain.split_once(" at line ").and_then(|(_, place)| position(place));
    let said = text[..cut].trim_end();
    let of = file.filter(|file| !said.contains(file)).map(|file| format!(" in {file}")).unwrap_or_default();
    let at = place.map(|(line, column)| format!(" at line {line}, column {column}")).unwrap_or_default();
    format!("{said}{of}{at} ({KEPT})").into()
}

/// A path that ends with the name of a file that Codex reads.
fn is_config_file(part: &str) -> bool {
    const FILES: [&str; 5] = ["/config.toml", "/hooks.json", "/marketplace.json", "/plugin.json", "/SKILL.md"];
    part.starts_with('/') && (part.ends_with(".rules") || FILES.iter().any(|file| part.ends_with(file)))
}

/// `2, column 34` or `2 column 34`.
fn position(text: &str) -> Option<(u32, u32)> {
    let (line, rest) = text.split_once([',', ' '])?;
    let column = rest.trim_start().strip_prefix("column ")?;
    let column = column.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((line.parse().ok()?, column.parse().ok()?))
}

fn configuration(result: &mut Value, folder: Option<&str>, policy: &Policy) {
    let Some(result) = result.as_object_mut() else { return };
    if policy.scope < Scope::Steer {
        result.insert("layers".to_owned(), Value::Null);
        result.insert("origins".to_owned(), json!({}));
    }
    let Some(config) = result.get_mut("config").and_then(Value::as_object_mut) else { return };
    if policy.scope < Scope::Steer {
        config.retain(|name, _| HARMLESS.contains(&name.as_str()));
    }
    if let Some(folder) = folder {
        let is_workspace = matches!(policy.folders.place(folder), Ok(Place::Workspace(_)));
        let level = if is_workspace { "trusted" } else { "untrusted" };
        let projects = config.entry("projects").or_insert_with(|| json!({}));
        if !projects.is_object() {
            *projects = json!({});
        }
        projects[folder] = json!({ "trust_level": level });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_quotes_a_file_the_place_is_left() {
        for (text, left) in [
            (
                "failed to load configuration: Error parsing project config file /w/.codex/config.toml: TOML parse error at line 2, column 34\n                   |\n2 | api_key = \"sk-SECRET\" oops SECRET\n  |   ^\n",
                "failed to load configuration in /w/.codex/config.toml at line 2, column 34",
            ),
            ("invalid type: integer `5SECRET`, expected a string", "invalid type"),
            ("unknown variant `SECRET`", "unknown variant"),
            (
                "failed to parse hooks config /w/hooks.json: expected `,` or `}` at line 1 column 61",
                "failed to parse hooks config /w/hooks.json",
            ),
            (
                "invalid matcher \"(SECRET\" in /w/.codex/hooks.json: regex parse error:\n    (SECRET\n",
                "invalid matcher",
            ),
            ("server said: SECRET SECRET", "server said"),
            ("server said: sk-SECRET", "server said"),
        ] {
            let said = without_quotations(text);
            assert_eq!(said.strip_suffix(&format!(" ({KEPT})")), Some(left), "{text}");
        }
        for whole in [
            "",
            "no rollout found for thread id 0198f000-0000-7000-8000-000000000001",
            "thread not loaded: 0198f000-0000-7000-8000-000000000001",
            "Invalid request: missing field `threadId`",
        ] {
            assert_eq!(without_quotations(whole), whole);
        }
    }
}
