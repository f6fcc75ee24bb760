//! Whose a turn is, by the prompts that stand in it, and by those that Codex took into it and has not put there yet.

use reachback_proto::ids::DeviceId;
use serde_json::Value;

use crate::state::work::{Place, Work, WorkStore, mark};

/// Whose a turn is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// The device's, and of nobody who may go on.
    Theirs,
    /// Somebody's who may go on, too.
    Shared,
    /// Nothing in it is the device's.
    Others,
}

/// Some devices, with what they began in a thread.
pub(super) struct Party {
    works: Vec<(DeviceId, Work)>,
    /// Whether the goal is theirs, where there is one that begins turns.
    pub(super) goal: Option<bool>,
    /// Whether who last began something without an id is one of them, where anybody did.
    unnamed: Option<bool>,
}

impl Party {
    /// The devices for which `is_meant` holds, and which began something there.
    pub(super) fn new(store: &WorkStore, place: &Place, is_meant: impl Fn(DeviceId) -> bool) -> Self {
        let unnamed = store.last_unnamed(place).map(&is_meant);
        Self { works: store.at(place, is_meant), goal: None, unnamed }
    }

    pub(super) fn devices(&self) -> impl Iterator<Item = DeviceId> {
        self.works.iter().map(|(device, _)| *device)
    }

    fn said(&self, prompt: &Value) -> bool {
        match prompt["clientId"].as_str() {
            Some(id) => self.works.iter().any(|(_, work)| work.has_prompt(id, prompt["startedAtMs"].as_u64())),
            None => self.unnamed == Some(true),
        }
    }

    /// Whether Codex took a prompt of theirs into the turn that does not stand there.
    fn has_pending(&self, turn: &Value, prompts: &[&Value]) -> bool {
        let turn = mark(turn["id"].as_str().unwrap_or_default());
        let stands =
            |id: Option<&str>| prompts.iter().any(|prompt| prompt["clientId"].as_str().map(mark).as_deref() == id);
        self.works.iter().any(|(_, work)| work.took(&turn).any(|id| !stands(id)))
    }

    /// Whether they begin turns without a prompt: by the goal, or by something that has no id, as a review.
    fn begins_without_prompt(&self) -> bool {
        self.goal == Some(true) || self.unnamed == Some(true)
    }
}

/// Whose a turn is, from the point of view of `own`, which is one device. `ending` are it and all others that may begin nothing
/// any more, `others` those that may.
pub(super) fn whose(turn: &Value, own: &Party, ending: &Party, others: &Party) -> Whose {
    let items = turn["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_prompt = |item: &&Value| item["type"] == "userMessage";
    let prompts: Vec<&Value> = items.iter().filter(is_prompt).collect();
    let begins_with_prompt = items.first().is_some_and(|item| is_prompt(&item));
    let may_have_begun = match (begins_with_prompt, prompts.is_empty()) {
        (true, _) => true,
        (false, true) => ending.begins_without_prompt(),
        (false, false) => ending.goal != Some(false) && ending.unnamed != Some(false),
    };
    let is_ending =
        may_have_begun && prompts.iter().all(|prompt| ending.said(prompt)) && !others.has_pending(turn, &prompts);
    let has_said = prompts.iter().any(|prompt| own.said(prompt)) || own.has_pending(turn, &prompts);
    if is_ending && (has_said || !begins_with_prompt && own.begins_without_prompt()) {
        Whose::Theirs
    } else if has_said {
        Whose::Shared
    } else {
        Whose::Others
    }
}
