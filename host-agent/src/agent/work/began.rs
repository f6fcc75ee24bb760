//! What a message to Codex begins, if anything.

use std::borrow::Cow;

use serde::Deserialize;

use crate::firewall::table::{self, ThreadUse};
use crate::state::work::{Began, Place, digest_of, mark};

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    params: Params<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Params<'a> {
    #[serde(borrow)]
    thread_id: Cow<'a, str>,
    #[serde(borrow, default)]
    client_user_message_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    queued_submission_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    objective: Option<Cow<'a, str>>,
}

/// What a request that the firewall lets through begins, and where.
pub(super) fn read(environment: &str, method: &str, to_codex: &[u8]) -> Option<(Place, Began)> {
    let method = table::method(method)?;
    if !matches!(method.thread, ThreadUse::Prompts | ThreadUse::PromptsUnder) {
        return None;
    }
    let params = || serde_json::from_slice::<Message<'_>>(to_codex).ok().map(|message| message.params);
    let named = |id: Option<Cow<'_, str>>| id.map_or(Began::Unnamed, |id| Began::Prompt { id: mark(&id) });
    let (params, began) = match method.name {
        // These change how the model acts, ask it something without a turn, or begin what somebody put into the queue before.
        "thread/prediction/request" | "thread/queue/start" | "turn/settings/update" => return None,
        "thread/goal/set" => {
            let params = params()?;
            let objective = params.objective.as_deref().map(digest_of);
            (params, Began::Goal { objective })
        }
        // Who says what a prompt says answers for it.
        "thread/queue/update" => {
            let mut params = params()?;
            let id = params.queued_submission_id.take();
            (params, named(id))
        }
        _ => {
            let mut params = params()?;
            let id = params.client_user_message_id.take();
            (params, named(id))
        }
    };
    let place = Place { environment: environment.to_owned(), thread: params.thread_id.into_owned() };
    Some((place, began))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::firewall::table::METHODS;

    fn begins(method: &str, params: Value) -> Option<Began> {
        let message = json!({ "id": 1, "method": method, "params": params }).to_string();
        let (place, began) = read("local", method, message.as_bytes())?;
        assert_eq!((&*place.environment, &*place.thread), ("local", "t"));
        Some(began)
    }

    #[test]
    fn prompts_have_their_ids_and_goals_their_words() {
        let prompt = |id: &str| Some(Began::Prompt { id: id.to_owned() });
        let input =
            json!({ "threadId": "t", "clientUserMessageId": "m\n", "input": [{ "type": "text", "text": "x" }] });
        for method in ["turn/start", "turn/steer", "thread/queue/add"] {
            assert_eq!(begins(method, input.clone()), prompt("m\n"), "{method}");
        }
        assert_eq!(begins("turn/start", json!({ "threadId": "t", "clientUserMessageId": null })), Some(Began::Unnamed));
        assert_eq!(begins("review/start", json!({ "threadId": "t" })), Some(Began::Unnamed));
        let update = json!({ "threadId": "t", "queuedSubmissionId": "q" });
        assert_eq!(begins("thread/queue/update", update), prompt("q"));
        let goal = |objective: Option<&str>| Some(Began::Goal { objective: objective.map(digest_of) });
        let set = json!({ "threadId": "t", "objective": "all of it" });
        assert_eq!(begins("thread/goal/set", set), goal(Some("all of it")));
        assert_eq!(begins("thread/goal/set", json!({ "threadId": "t", "status": "active" })), goal(None));
        assert_eq!(begins("thread/goal/clear", json!({ "threadId": "t" })), None);
    }

    #[test]
    fn whatever_lets_the_model_act_is_work() {
        let none: Vec<_> = METHODS
            .iter()
            .filter(|method| matches!(method.thread, ThreadUse::Prompts | ThreadUse::PromptsUnder))
            .filter(|method| begins(method.name, json!({ "threadId": "t" })).is_none())
            .map(|method| method.name)
            .collect();
        assert_eq!(none, ["thread/prediction/request", "thread/queue/start", "turn/settings/update"]);
    }
}
