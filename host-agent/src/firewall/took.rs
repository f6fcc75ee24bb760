//! Which prompts of a device Codex took, and into which turn.
//!
//! Codex says so in its answer, and shows it to nobody else before the prompt stands in the turn. That may be minutes later: while a
//! command runs or the model writes, a prompt waits inside Codex, in no list (measured on 0.169.0).

use serde::Deserialize;
use serde_json::value::RawValue;

use super::params;

/// A prompt that Codex took into a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Took {
    /// Codex's id of the thread.
    pub thread: String,
    /// The id that the device gave the prompt, if it did.
    pub prompt: Option<String>,
    /// Codex's id of the turn.
    pub turn: String,
}

/// A request that brings a prompt into a turn.
#[derive(Debug)]
pub(super) struct Asking {
    thread: String,
    prompt: Option<String>,
}

impl Asking {
    /// `None` where the method does no such thing. One without a thread is refused elsewhere.
    pub(super) fn read(method: &str, raw: &RawValue) -> Option<Self> {
        // `turn/start` joins the turn that runs, if one does.
        if !matches!(method, "turn/start" | "turn/steer") {
            return None;
        }
        Some(Self { thread: params::thread(raw)?, prompt: params::prompt_id(raw) })
    }

    /// What Codex's result says about it.
    pub(super) fn answered(&self, result: &RawValue) -> Option<Took> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Result {
            turn: Option<Turn>,
            turn_id: Option<String>,
        }
        #[derive(Deserialize)]
        struct Turn {
            id: String,
        }
        let Result { turn, turn_id } = serde_json::from_str(result.get()).ok()?;
        let turn = turn_id.or_else(|| turn.map(|turn| turn.id))?;
        Some(Took { thread: self.thread.clone(), prompt: self.prompt.clone(), turn })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use serde_json::value::to_raw_value;

    use super::*;

    fn took(method: &str, params: &serde_json::Value, result: &serde_json::Value) -> Option<Took> {
        Asking::read(method, &to_raw_value(params).unwrap())?.answered(&to_raw_value(result).unwrap())
    }

    #[test]
    fn both_ways_into_a_turn_say_which_one_it_is() {
        let thread = "019a0000-0000-7000-8000-000000000001";
        let took_it = |prompt: Option<&str>| {
            Some(Took { thread: thread.to_owned(), prompt: prompt.map(str::to_owned), turn: "t".to_owned() })
        };
        let params = json!({ "threadId": thread, "clientUserMessageId": "p", "input": [] });
        assert_eq!(
            took("turn/start", &params, &json!({ "turn": { "id": "t", "status": "inProgress" } })),
            took_it(Some("p"))
        );
        assert_eq!(took("turn/steer", &params, &json!({ "turnId": "t" })), took_it(Some("p")));
        let unnamed = json!({ "threadId": thread, "clientUserMessageId": null });
        assert_eq!(took("turn/start", &unnamed, &json!({ "turn": { "id": "t" } })), took_it(None));
        assert_eq!(took("thread/queue/add", &params, &json!({ "turnId": "t" })), None);
        for result in [json!(null), json!({}), json!({ "turn": {} }), json!({ "turnId": 7 }), json!([])] {
            assert_eq!(took("turn/steer", &params, &result), None, "{result}");
        }
    }
}
