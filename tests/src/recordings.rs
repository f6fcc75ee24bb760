//! Recordings as Codex writes them, made without it: a long thread, or many.

use std::fs;
use std::path::Path;

use reachback_host::state::timestamp::Timestamp;
use serde_json::{Value, json};

use crate::codex::TestCodex;

/// When the oldest thread begins, in seconds since 1970, and how much later each next one does.
const BEGINNING: u64 = 1_700_000_000;
const STEP: u64 = 200;

/// Writes a thread; gives its id. `number` is one of 0 to 999,999. Each turn has a message of a person and some of the
/// model of `size` bytes.
pub fn write_thread(codex: &TestCodex, number: u64, turns: u64, of_model: u64, size: usize) -> String {
    let at = BEGINNING + number * STEP;
    let thread = format!("018c0000-0000-7000-8000-{number:012}");
    let cwd = codex.home.project();
    let mut recording = Recording { thread: thread.clone(), at: Timestamp::from_unix(at), lines: Vec::new() };
    recording.line(
        "session_meta",
        json!({
            "id": thread, "session_id": thread, "timestamp": recording.at.to_string(), "cwd": cwd,
            "originator": "reachback_e2e", "cli_version": "0.169.0", "source": "vscode", "model_provider": "scripted",
            "base_instructions": { "text": "" }, "history_mode": "paginated",
        }),
    );
    for turn in 0..turns {
        recording.turn(number, turn, of_model, size, at);
    }
    // Such as 2026-11-26T07:33:19Z.
    let time = recording.at.to_string();
    let folder = codex.home.codex_home().join("sessions").join(time[..10].replace('-', "/"));
    fs::create_dir_all(&folder).unwrap();
    let name = format!("rollout-{}-{thread}.jsonl", time[..19].replace(':', "-"));
    fs::write(folder.join(&name), recording.lines.join("\n") + "\n").unwrap();
    set_modified(&folder.join(&name), at);
    thread
}

fn set_modified(file: &Path, at: u64) {
    let file = fs::File::options().write(true).open(file).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(at)).unwrap();
}

struct Recording {
    thread: String,
    at: Timestamp,
    lines: Vec<String>,
}

impl Recording {
    fn line(&mut self, kind: &str, payload: Value) {
        let line = json!({
            "timestamp": self.at.to_string(), "ordinal": self.lines.len(), "type": kind, "payload": payload,
        });
        self.lines.push(line.to_string());
    }

    fn turn(&mut self, number: u64, turn: u64, of_model: u64, size: usize, at: u64) {
        let id = format!("018c0000-0000-7001-8{:03}-{turn:06}{number:06}", turn % 1000);
        self.line(
            "event_msg",
            json!({
                "type": "task_started", "turn_id": id, "root_turn_id": id, "started_at": at,
                "model_context_window": 258_400, "collaboration_mode_kind": "default",
            }),
        );
        let prompt = format!("thread {number}, prompt {turn}");
        let content = json!([{ "type": "text", "text": prompt, "text_elements": [] }]);
        let item = json!({ "type": "UserMessage", "id": format!("user-{turn}"), "content": content });
        self.item(&id, item, at);
        for message in 0..of_model {
            let content = json!([{ "type": "Text", "text": "x".repeat(size) }]);
            let item = json!({ "type": "AgentMessage", "id": format!("agent-{turn}-{message}"), "content": content });
            self.item(&id, item, at);
        }
        let done = json!({
            "type": "task_complete", "turn_id": id, "root_turn_id": id, "last_agent_message": "x",
            "started_at": at, "completed_at": at + 1, "duration_ms": 1000,
        });
        self.line("event_msg", done);
    }

    fn item(&mut self, turn: &str, item: Value, at: u64) {
        let payload = json!({
            "type": "item_completed", "thread_id": self.thread, "turn_id": turn, "item": item,
            "started_at_ms": at * 1000, "completed_at_ms": at * 1000,
        });
        self.line("event_msg", payload);
    }
}
