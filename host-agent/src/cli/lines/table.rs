//! The table in README.md of what `--json` prints, made of the types and of what stands above their members.
//!
//! `cargo xtask gen` writes it with the ignored test below; the other one fails while it is out of date.

use std::path::PathBuf;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::Line;
use crate::local_api::Event;

/// What stands around the table.
const BEGIN: &str = "<!-- `cargo xtask gen` writes this table from host-agent/src/local_api/events.rs and host-agent/src/cli/lines.rs. -->\n";
const END: &str = "<!-- The end of that table. -->\n";

/// Who prints an event.
const EVENTS: &[(&str, &str)] = &[
    ("ready", "`up`, `host`"),
    ("pairing", "`up`, `pair`"),
    ("pairing_digits_wanted", "`up`, `pair`"),
    ("paired", "`up`, `host`, `pair`"),
    ("tunnel", "`up`, `host`, `status`"),
    ("device", "`up`, `host`"),
    ("work_ended", "`up`, `host`; `devices revoke`, `pause`"),
    ("withheld", "`up`, `host`; `status --withheld`"),
    ("codex", "`up`, `host`, `status`"),
    ("codex_use", "`codex use`, `restore`, `status`; `up`, `host`"),
    ("awake", "`awake`; `up`, `host`; `status`, where it is on"),
    ("chatgpt_pairing", "`codex chatgpt-pair`"),
    ("chatgpt_device", "`codex chatgpt-devices`"),
    ("workspace", "`workspace list`, `status`"),
    ("workspace_added", "`workspace add`; `up`, `host`"),
    ("workspace_removed", "`workspace remove`; `up`, `host`"),
    ("ssh_host", "`ssh list`"),
    ("ssh_checked", "`ssh check`, `bootstrap`, `add`, `login`"),
    ("ssh_asked", "`ssh login`"),
    ("ssh_codex", "`ssh check`, `bootstrap`"),
    ("ssh_installing", "`ssh bootstrap`"),
    ("ssh_installed", "`ssh bootstrap`"),
    ("ssh_swept", "`ssh bootstrap`, `stop`"),
    ("ssh_stopped", "`ssh stop`"),
    ("ssh_added", "`ssh add`; `up`, `host`"),
    ("ssh_removed", "`ssh remove`; `up`, `host`"),
    ("ssh_asks_devices", "`ssh ask-devices`; `up`, `host`"),
    ("notice", "`up`, `host`; `devices revoke`, `pause`; `codex use`, `restore`; `ssh list`, `check`, `bootstrap`"),
    ("error", "all"),
];

/// Who prints a line of its own.
const LINES: &[(&str, &str)] = &[
    ("digits", "`join`"),
    ("joined", "`join`"),
    ("host", "`hosts`"),
    ("forgotten", "`hosts forget`"),
    ("waiting", "`connect`"),
    ("socket", "`connect --socket PATH`"),
    ("device", "`devices`"),
    ("paused", "`devices pause`, `resume`"),
    ("stopped", "`stop`"),
    ("status", "`status`"),
    ("chatgpt_paired", "`codex chatgpt-pair`"),
    ("chatgpt_off", "`codex chatgpt-off`"),
];

fn readme() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../README.md")
}

/// README.md, what stands in the place of the table, and as it should be.
fn written() -> (String, String) {
    let before = std::fs::read_to_string(readme()).unwrap();
    let (head, rest) = before.split_once(BEGIN).expect("the table's beginning");
    let (_, tail) = rest.split_once(END).expect("the table's end");
    let rows = [rows::<Event>(EVENTS), rows::<Line<'_>>(LINES)].concat().concat();
    let after = format!("{head}{BEGIN}| event | from | what it says |\n|---|---|---|\n{rows}{END}{tail}");
    (before, after)
}

/// A row for each line of a type.
fn rows<T: JsonSchema>(printed_by: &[(&str, &str)]) -> Vec<String> {
    let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| settings.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    let lines = schema["oneOf"].as_array().expect("one of several lines");
    let names: Vec<_> = lines.iter().map(|line| line["properties"]["event"]["const"].as_str().unwrap()).collect();
    let known: Vec<_> = printed_by.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, known, "say who prints each line, in the order of the type");
    let row = |(line, (name, from)): (&Value, &(&str, &str))| {
        let what = line["description"].as_str().unwrap_or_else(|| panic!("`{name}` has no words"));
        let members = members(line);
        let members = if members.is_empty() { members } else { format!(" {members}") };
        format!("| `{name}` | {from} | {}{members} |\n", one_line(what).replace('|', "\\|"))
    };
    lines.iter().zip(printed_by).map(row).collect()
}

/// The members of an object, each with what it says; of one that has several shapes, of each.
fn members(object: &Value) -> String {
    let own = order(object).into_iter().filter(|name| name != "event").map(|name| {
        let member = &object["properties"][&name];
        let words = member["description"].as_str().unwrap_or_else(|| panic!("`{name}` has no words: {object}"));
        let inside = [words_of(member), names(member)].into_iter().find(|list| !list.is_empty());
        let inside = inside.map(|list| format!(" ({})", list.join(", "))).unwrap_or_default();
        // What an optional member is may stand beside null.
        format!("`{name}`: {}{inside}", lower(words))
    });
    let shapes = object["oneOf"].as_array().into_iter().flatten().map(|shape| {
        let tag = order(shape).into_iter().find(|name| shape["properties"][name]["const"].is_string()).unwrap();
        let word = shape["properties"][&tag]["const"].as_str().unwrap();
        let rest = order(shape).into_iter().filter(|name| *name != tag).map(|name| {
            let words = shape["properties"][&name]["description"].as_str().unwrap();
            format!("`{name}`: {}", lower(words))
        });
        format!("with `{tag}` `{word}` {}", rest.collect::<Vec<_>>().join(", "))
    });
    let all: Vec<_> = own.chain(shapes).collect();
    if all.is_empty() { String::new() } else { format!("{}.", all.join("; ")) }
}

/// The names of an object's members, as the type has them.
fn order(object: &Value) -> Vec<String> {
    let required = object["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut names: Vec<_> = required.map(str::to_owned).collect();
    let others = object["properties"].as_object().into_iter().flat_map(|all| all.keys());
    let others: Vec<_> = others.filter(|name| !names.contains(name)).cloned().collect();
    names.extend(others);
    names
}

/// The words that a member may be.
fn words_of(member: &Value) -> Vec<String> {
    let listed = member["enum"].as_array().into_iter().flatten().chain(member.get("const"));
    let mut words: Vec<_> = listed.filter_map(Value::as_str).map(|word| format!("`{word}`")).collect();
    words.extend(alternatives(member).flat_map(words_of));
    words
}

/// The names of what is in a member that is an object, or a list of objects.
fn names(member: &Value) -> Vec<String> {
    let mut names: Vec<_> = order(member).iter().map(|name| format!("`{name}`")).collect();
    names.extend(member.get("items").into_iter().chain(alternatives(member)).flat_map(names_of_one));
    names
}

fn names_of_one(member: &Value) -> Vec<String> {
    names(member)
}

fn alternatives(member: &Value) -> impl Iterator<Item = &Value> {
    ["oneOf", "anyOf"].into_iter().filter_map(|key| member[key].as_array()).flatten()
}

fn one_line(words: &str) -> String {
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A sentence as a part of another one.
fn lower(words: &str) -> String {
    let words = one_line(words).trim_end_matches('.').replace('|', "\\|");
    let first = words.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    let is_name =
        ["Codex", "OpenAI", "Reachback", "QR"].contains(&first) || first.chars().skip(1).any(char::is_uppercase);
    let mut letters = words.chars();
    match letters.next() {
        Some(letter) if !is_name => format!("{}{}", letter.to_lowercase(), letters.as_str()),
        _ => words,
    }
}

#[test]
fn readme_has_the_lines_as_they_are() {
    let (before, after) = written();
    assert!(before == after, "the table in README.md is not what the lines are now: run `cargo xtask gen`");
}

#[test]
#[ignore = "writes README.md; `cargo xtask gen` runs it"]
fn write_the_table_of_lines() {
    std::fs::write(readme(), written().1).unwrap();
}
