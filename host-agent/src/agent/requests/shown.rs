//! What is asked, as texts for a person: pairs of a label and a text, in one list.
//!
//! The list is what a device shows and what its answer's digest is made of, so everything that makes a difference to
//! the answer is in it, and nothing is changed: hidden characters stay what they are. Members that this version does
//! not know are in it as JSON. What is too large is not in it but for its size and digest, and can't be accepted.

use std::borrow::Cow;

use data_encoding::HEXLOWER;
use reachback_proto::shown;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Bytes of the list as JSON. A device may take messages of 1 MiB only, and there is more in one.
const MAX_SHOWN: usize = 768 << 10;

/// Members that name what is asked about, or offer answers: they are elsewhere, or for the host alone.
const ELSEWHERE: [&str; 14] = [
    "approvalId",
    "autoResolutionMs",
    "availableDecisions",
    "callId",
    "commandActions",
    "conversationId",
    "isBlocking",
    "itemId",
    "parsedCmd",
    "proposedExecpolicyAmendment",
    "proposedNetworkPolicyAmendments",
    "startedAtMs",
    "threadId",
    "turnId",
];
/// Members and their labels, in this order; what has to be read to its end comes last.
const LABELS: [(&str, &str); 16] = [
    ("kind", "kind"),
    ("reason", "claim"),
    ("cwd", "folder"),
    ("environmentId", "environment"),
    ("grantRoot", "grantRoot"),
    ("networkApprovalContext", "network"),
    ("additionalPermissions", "permissions"),
    ("permissions", "permissions"),
    ("serverName", "server"),
    ("mode", "mode"),
    ("title", "title"),
    ("message", "message"),
    ("description", "description"),
    ("requestedSchema", "form"),
    ("url", "link"),
    ("command", "command"),
];

/// The list, and whether it holds all that is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) texts: Vec<String>,
    pub(super) is_whole: bool,
}

/// The files that a change is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Changes {
    Whole(Vec<String>),
    TooLarge { bytes: usize, digest: String },
}

#[derive(Deserialize)]
struct Change<'a> {
    #[serde(borrow)]
    path: Cow<'a, str>,
    kind: ChangeKind,
    #[serde(borrow)]
    diff: Cow<'a, str>,
}

#[derive(Deserialize)]
struct ChangeKind {
    r#type: String,
    #[serde(default)]
    move_path: Option<String>,
}

impl Change<'_> {
    fn texts(&self) -> impl Iterator<Item = &str> {
        let head = ["file", &self.path, "change", &self.kind.r#type];
        let moved = self.kind.move_path.iter().flat_map(|path| ["movedTo", path]);
        head.into_iter().chain(moved).chain(["diff", &self.diff])
    }
}

impl Changes {
    /// Reads the changes of a `fileChange` item; `None` when they are not what this version understands.
    pub(super) fn read(changes: &RawValue) -> Option<Self> {
        let changes: Vec<Change<'_>> = serde_json::from_str(changes.get()).ok()?;
        let texts = || changes.iter().flat_map(Change::texts);
        if json_length(texts()) <= MAX_SHOWN {
            return Some(Self::Whole(texts().map(str::to_owned).collect()));
        }
        Some(Self::TooLarge { bytes: texts().map(str::len).sum(), digest: HEXLOWER.encode(&shown::digest(texts())) })
    }

    /// Bytes that are kept of it.
    pub(super) fn kept(&self) -> usize {
        match self {
            Self::Whole(texts) => texts.iter().map(String::len).sum(),
            Self::TooLarge { digest, .. } => digest.len(),
        }
    }
}

impl Shown {
    /// What is asked; the files of a change to files are in another message of Codex, and may not be known.
    pub(super) fn of(method: &str, params: &Map<String, Value>, changes: Option<&Changes>) -> Self {
        let mut list = List { texts: vec!["request".to_owned(), method.to_owned()] };
        for (member, label) in LABELS {
            if let Some(value) = params.get(member).filter(|value| !value.is_null()) {
                list.add(label, value);
            }
        }
        for question in params.get("questions").and_then(Value::as_array).into_iter().flatten() {
            list.question(question);
        }
        for (member, value) in params {
            let is_known = ELSEWHERE.contains(&&**member) || LABELS.iter().any(|(name, _)| name == member);
            if !is_known && member != "questions" && !value.is_null() {
                list.add("other", &serde_json::json!({ member: value }));
            }
        }
        let mut is_whole = true;
        if method == "item/fileChange/requestApproval" {
            match changes {
                Some(Changes::Whole(texts)) => list.texts.extend_from_slice(texts),
                Some(Changes::TooLarge { bytes, digest }) => {
                    list.missing(&format!(
                        "the changes are too large to be shown here: {bytes} bytes, SHA-256 {digest}. Open it on the host"
                    ));
                    is_whole = false;
                }
                None => {
                    list.missing("what would be changed is not known here. Open it on the host");
                    is_whole = false;
                }
            }
        }
        list.bounded(method, is_whole)
    }
}

struct List {
    texts: Vec<String>,
}

impl List {
    fn add(&mut self, label: &str, value: &Value) {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        self.texts.extend([label.to_owned(), text]);
    }

    fn missing(&mut self, words: &str) {
        self.texts.extend(["missing".to_owned(), words.to_owned()]);
    }

    fn question(&mut self, question: &Value) {
        for (member, label) in [("id", "questionId"), ("header", "header"), ("question", "question")] {
            self.add(label, &question[member]);
        }
        for option in question["options"].as_array().into_iter().flatten() {
            self.add("option", &option["label"]);
            self.add("explanation", &option["description"]);
        }
        for (member, value) in question.as_object().into_iter().flatten() {
            if !["id", "header", "question", "options"].contains(&&**member) && !value.is_null() {
                self.add("other", &serde_json::json!({ member: value }));
            }
        }
    }

    fn bounded(self, method: &str, is_whole: bool) -> Shown {
        let Self { texts } = self;
        if json_length(texts.iter().map(String::as_str)) <= MAX_SHOWN {
            return Shown { texts, is_whole };
        }
        let bytes = texts.iter().map(String::len).sum::<usize>();
        let digest = HEXLOWER.encode(&shown::digest(&texts));
        let mut list = Self { texts: vec!["request".to_owned(), method.to_owned()] };
        list.missing(&format!(
            "it is too large to be shown here: {bytes} bytes, SHA-256 {digest}. Open it on the host"
        ));
        Shown { texts: list.texts, is_whole: false }
    }
}

/// Bytes of these texts in JSON.
fn json_length<'a>(texts: impl Iterator<Item = &'a str>) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    texts.map(|text| text.bytes().map(escaped).sum::<usize>() + 3).sum()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(method: &str, params: Value, changes: Option<&Changes>) -> Shown {
        Shown::of(method, params.as_object().unwrap(), changes)
    }

    fn changes(changes: &Value) -> Changes {
        Changes::read(&serde_json::value::to_raw_value(changes).unwrap()).unwrap()
    }

    #[test]
    fn a_command_is_shown_with_all_that_makes_a_difference_and_every_hidden_character() {
        let command = "/bin/bash -lc 'rm\u{a0}-rf \u{202e}x\u{200b}\u{0}'";
        let asked = shown(
            "item/commandExecution/requestApproval",
            json!({
                "kind": "command", "threadId": "t", "turnId": "u", "itemId": "i", "startedAtMs": 1, "environmentId": "local",
                "reason": "it is harmless", "command": command, "cwd": "/w", "commandActions": [], "proposedExecpolicyAmendment": ["rm"],
                "networkApprovalContext": { "host": "example.com", "protocol": "https" }, "newerThanThis": { "root": true },
            }),
            None,
        );
        let wanted = [
            ("request", "item/commandExecution/requestApproval"),
            ("kind", "command"),
            ("claim", "it is harmless"),
            ("folder", "/w"),
            ("environment", "local"),
            ("network", r#"{"host":"example.com","protocol":"https"}"#),
            ("command", command),
            ("other", r#"{"newerThanThis":{"root":true}}"#),
        ];
        assert_eq!(asked.texts, wanted.map(|(label, text)| [label, text]).concat());
        assert!(asked.is_whole);
    }

    #[test]
    fn a_question_is_shown_with_its_options_and_a_form_with_its_server() {
        let questions = json!([{
            "id": "q", "header": "H", "question": "Which?", "isSecret": false,
            "options": [{ "label": "A", "description": "first" }],
        }]);
        let asked = shown("item/tool/requestUserInput", json!({ "threadId": "t", "questions": questions }), None);
        let wanted = [
            ["questionId", "q"],
            ["header", "H"],
            ["question", "Which?"],
            ["option", "A"],
            ["explanation", "first"],
            ["other", r#"{"isSecret":false}"#],
        ];
        assert_eq!(asked.texts[2..], wanted.concat());
        let form =
            json!({ "serverName": "s", "mode": "form", "message": "Who?", "requestedSchema": { "type": "object" } });
        let asked = shown("mcpServer/elicitation/request", form, None);
        assert_eq!(
            asked.texts[2..],
            ["server", "s", "mode", "form", "message", "Who?", "form", r#"{"type":"object"}"#]
        );
    }

    #[test]
    fn a_change_to_files_is_shown_with_its_diff_or_can_not_be_accepted() {
        const FILES: &str = "item/fileChange/requestApproval";
        let known = changes(&json!([
            { "path": "/w/a", "kind": { "type": "add" }, "diff": "one\n" },
            { "path": "/w/b", "kind": { "type": "update", "move_path": "/w/c" }, "diff": "-x\n+y\n" },
        ]));
        let asked = shown(FILES, json!({ "threadId": "t", "reason": null, "grantRoot": "/" }), Some(&known));
        let wanted = [
            ["grantRoot", "/"],
            ["file", "/w/a"],
            ["change", "add"],
            ["diff", "one\n"],
            ["file", "/w/b"],
            ["change", "update"],
            ["movedTo", "/w/c"],
            ["diff", "-x\n+y\n"],
        ];
        assert_eq!(asked.texts[2..], wanted.concat());
        assert!(asked.is_whole);
        assert!(!shown(FILES, json!({}), None).is_whole);

        let large =
            |letter: &str| json!([{ "path": "/w/a", "kind": { "type": "add" }, "diff": letter.repeat(MAX_SHOWN) }]);
        let [one, other] = [changes(&large("a")), changes(&large("b"))];
        assert!(one.kept() < 100 && one != other);
        let asked = shown(FILES, json!({}), Some(&one));
        assert!(!asked.is_whole && asked.texts[3].contains("786"), "{asked:?}");
        assert_ne!(asked, shown(FILES, json!({}), Some(&other)), "the digest is of what is not shown, too");
    }

    #[test]
    fn what_is_too_large_to_be_shown_can_not_be_accepted() {
        // Each takes six bytes as JSON.
        let command = "\u{1}".repeat(MAX_SHOWN / 5);
        let asked = shown("item/commandExecution/requestApproval", json!({ "command": command }), None);
        assert!(!asked.is_whole && asked.texts.concat().len() < 1000);
        assert!(
            shown("item/commandExecution/requestApproval", json!({ "command": &command[1..MAX_SHOWN / 8] }), None)
                .is_whole
        );
    }

    #[test]
    fn the_length_is_that_of_the_json() {
        let texts = ["", "a\"b\\c\n\r\t\u{8}\u{c}\u{1}\u{7f}é\u{202e}😀"];
        assert_eq!(json_length(texts.into_iter()) + 1, serde_json::to_string(&texts).unwrap().len());
    }
}
