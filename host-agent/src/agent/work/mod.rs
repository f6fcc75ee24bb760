//! Ends what a device began at Codex, once the device may begin nothing any more: revoked, paused, or lowered to `view`.
//!
//! ```text
//!   device ── bridge, desk ──▶ WorkStore ──▶ Codex        what is begun is written down first
//!   device list ── changed ──▶ Ender ── goal, queue, turn, terminals, sub-agents ──▶ Codex
//! ```
//!
//! In this order, as a goal begins turn after turn, and a queue the next one. Goals are paused and not cleared: the owner can see
//! what was wanted. A turn is a device's if it began it, and nobody else has said anything in it since ([`whose`]); else it goes
//! on, and the owner is told. Once everybody who said something in it may begin nothing any more, it ends. What a device began
//! stands in a file, so an agent that was not there when a device was revoked, or had no Codex then, ends it later.

mod began;
mod whose;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use reachback_proto::ids::DeviceId;
use reachback_proto::scope::Scope;
use reachback_proto::words::{quote, shell_word};
use serde_json::{Value, json};
use tokio::time::sleep;
use whose::{Party, Whose, whose};

use super::AgentEvents;
use super::environments::Environment;
use super::errand::{Errand, ErrandError};
use super::prompts::now_ms;
use crate::audit::{AuditLog, Entry, What};
use crate::codex::CodexState;
use crate::local_api::Event;
use crate::local_api::events::Failure;
use crate::state::devices::{DeviceList, DeviceStore};
use crate::state::timestamp::Timestamp;
use crate::state::work::{Place, Work, WorkError, WorkStore};

/// The code of the notice that something goes on.
pub(super) const WORK_GOES_ON: &str = "work_goes_on";
/// Between two looks at a thread in which something was ended, or may be about to show.
const AGAIN: Duration = Duration::from_millis(500);
/// What Codex took is in the thread or its queue so long after, in milliseconds: it comes within some 50.
const SHOWN: u64 = 3000;
/// Between two tries while Codex does not answer.
const PAUSE: Duration = Duration::from_secs(2);
/// Entries of a queue, and loaded threads, in one answer.
const PAGE: usize = 100;
/// Pages that are read of either.
const PAGES: usize = 100;

/// Writes down what a message that is about to go to Codex begins.
pub(super) fn note(
    store: &WorkStore,
    device: DeviceId,
    environment: &str,
    method: Option<&str>,
    to_codex: &[u8],
) -> Result<(), WorkError> {
    let Some((place, began)) = method.and_then(|method| began::read(environment, method, to_codex)) else {
        return Ok(());
    };
    store.begins(device, place, began, now_ms())
}

/// What was ended of a device's work in a thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ended {
    goal: bool,
    queued: usize,
    turns: usize,
    /// A turn with something of the device's in it goes on, as it is not the device's alone.
    goes_on: bool,
}

impl Ended {
    fn is_nothing(self) -> bool {
        !self.goal && self.queued == 0 && self.turns == 0
    }
}

/// See the module's header.
pub(super) struct Ender {
    pub(super) environment: Arc<Environment>,
    pub(super) devices: Arc<DeviceStore>,
    pub(super) audit: Arc<AuditLog>,
    pub(super) events: AgentEvents,
}

impl Ender {
    /// Until Codex has stopped for good.
    pub(super) async fn run(self) {
        let mut state = self.environment.codex.state();
        let mut list = self.devices.subscribe();
        loop {
            let known = state.wait_for(|state| matches!(state, CodexState::Ready { .. } | CodexState::Stopped)).await;
            if !known.is_ok_and(|state| matches!(*state, CodexState::Ready { .. })) {
                return;
            }
            let now = Arc::clone(&list.borrow_and_update());
            let again = match self.round(&now).await {
                Ok(true) => None,
                Ok(false) => Some(AGAIN),
                Err(error) => {
                    tracing::warn!(%error, "what a device began could not be ended yet");
                    Some(PAUSE)
                }
            };
            let pause = async {
                match again {
                    Some(pause) => sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = pause => {}
                changed = list.changed() => if changed.is_err() { return },
                changed = state.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Looks at everything that is to be ended once. Whether nothing remains.
    async fn round(&self, list: &DeviceList) -> Result<bool, ErrandError> {
        let store = &self.environment.work;
        let mut overdue = store.of(&self.environment.name, |device| !may_work(list, device));
        if overdue.is_empty() {
            return Ok(true);
        }
        let mut errand = Errand::open(&self.environment).await?;
        let children = children(&mut errand).await?;
        let mut is_done = true;
        // Who is new here comes first: a turn that others shared with it is then ended in its name.
        overdue.sort_by_key(|(_, _, work)| work.is_shared);
        for (device, place, work) in overdue {
            let ended = self.end(&mut errand, &children, list, (device, &place, &work)).await?;
            if !ended.is_nothing() {
                self.tell(device, &place, ended);
            }
            if !ended.is_nothing() || work.changed_at.saturating_add(SHOWN) >= now_ms() {
                is_done = false;
            } else if !ended.goes_on {
                store.ended(device, &place);
            } else if !work.is_shared {
                self.tell_of_rest(list, device, &place);
                store.shares(device, &place);
            }
        }
        Ok(is_done)
    }

    /// Ends what is to be seen of a device's work in a thread now.
    async fn end(
        &self,
        errand: &mut Errand,
        children: &Children,
        list: &DeviceList,
        (device, place, work): (DeviceId, &Place, &Work),
    ) -> Result<Ended, ErrandError> {
        let store = &self.environment.work;
        let mut ended = Ended::default();
        let of_thread = json!({ "threadId": place.thread });
        let goal = optional(errand.call("thread/goal/get", &of_thread).await)?;
        let goal = &goal["goal"];
        let mut own = Party::new(store, place, |id| id == device);
        let mut ending = Party::new(store, place, |id| !may_work(list, id));
        if let Some(objective) = goal["objective"].as_str() {
            let is_active = goal["status"] == "active";
            for party in [&mut own, &mut ending] {
                let is_theirs = party.devices().any(|device| store.has_goal(device, place, objective));
                party.goal = (is_theirs || is_active).then_some(is_theirs);
            }
            if own.goal == Some(true) && is_active {
                let paused = json!({ "threadId": place.thread, "status": "paused" });
                ended.goal = !optional(errand.call("thread/goal/set", &paused).await)?.is_null();
            }
        }
        ended.queued = unqueue(errand, place, work).await?;

        let newest = json!({ "threadId": place.thread, "limit": 1, "sortDirection": "desc", "itemsView": "full" });
        let turns = optional(errand.call("thread/turns/list", &newest).await)?;
        let turn = &turns["data"][0];
        let is_running = turn["status"] == "inProgress";
        match whose(turn, &own, &ending, &Party::new(store, place, |id| may_work(list, id))) {
            _ if turn.is_null() => {}
            Whose::Theirs => {
                if is_running && interrupt(errand, &place.thread, turn).await? {
                    ended.turns += 1;
                    // What it left running in the background goes with it.
                    optional(errand.call("thread/backgroundTerminals/clean", &of_thread).await)?;
                }
                ended.turns += interrupt_children(errand, children, &place.thread).await?;
            }
            Whose::Shared => ended.goes_on = is_running,
            Whose::Others => {}
        }
        Ok(ended)
    }

    fn tell(&self, device: DeviceId, place: &Place, ended: Ended) {
        let Ended { goal, queued, turns, .. } = ended;
        tracing::info!(device = %device.short(), thread = place.thread, goal, queued, turns, "ended what a device began");
        let Place { environment, thread } = place.clone();
        let what = What::WorkEnded { environment: environment.clone(), thread: thread.clone(), goal, queued, turns };
        if let Err(error) = self.audit.write(&Entry { at: Timestamp::now(), device_id: device, by: None, what }) {
            tracing::error!(%error, "what was ended was not recorded");
        }
        self.events.send(Event::WorkEnded { device_id: device, environment, thread_id: thread, goal, queued, turns });
    }

    fn tell_of_rest(&self, list: &DeviceList, device: DeviceId, place: &Place) {
        let name = list.device(device).map_or_else(|| device.short(), |device| device.name.clone());
        let message = format!("a turn that {} had a part in goes on, as others take part in it too", quote(&name));
        let notice = Failure::new(WORK_GOES_ON, message)
            .fix(format!("to look at it, and to stop it with Esc: codex resume {}", shell_word(&place.thread)));
        self.events.send(Event::Notice(notice));
    }
}

/// Whether what a device began may go on.
fn may_work(list: &DeviceList, device: DeviceId) -> bool {
    !list.paused && list.device(device).is_some_and(|device| !device.paused && device.scope >= Scope::Steer)
}

/// An answer; null where Codex refuses, for there is no such thing then.
fn optional(answer: Result<Value, ErrandError>) -> Result<Value, ErrandError> {
    match answer {
        Err(ErrandError::Refused(_)) => Ok(Value::Null),
        other => other,
    }
}

/// Takes a device's prompts out of a thread's queue.
async fn unqueue(errand: &mut Errand, place: &Place, work: &Work) -> Result<usize, ErrandError> {
    let mut theirs = Vec::new();
    let mut cursor = Value::Null;
    for _ in 0..PAGES {
        let params = json!({ "threadId": place.thread, "limit": PAGE, "cursor": cursor });
        let page = optional(errand.call("thread/queue/list", &params).await)?;
        for queued in page["data"].as_array().into_iter().flatten() {
            let is_theirs = |id: &Value| id.as_str().is_some_and(|id| work.has_prompt(id, None));
            if is_theirs(&queued["clientUserMessageId"]) || is_theirs(&queued["id"]) {
                theirs.push(queued["id"].clone());
            }
        }
        cursor = page["nextCursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    let mut gone = 0;
    for id in theirs {
        let params = json!({ "threadId": place.thread, "queuedSubmissionId": id });
        let deleted = optional(errand.call("thread/queue/delete", &params).await)?;
        gone += usize::from(!deleted.is_null() && deleted["deleted"] != false);
    }
    Ok(gone)
}

/// Interrupts a turn. Whether it was running.
async fn interrupt(errand: &mut Errand, thread: &str, turn: &Value) -> Result<bool, ErrandError> {
    let params = json!({ "threadId": thread, "turnId": turn["id"] });
    Ok(!optional(errand.call("turn/interrupt", &params).await)?.is_null())
}

/// The sub-agents of each loaded thread.
type Children = HashMap<String, Vec<String>>;

async fn children(errand: &mut Errand) -> Result<Children, ErrandError> {
    let mut children = Children::new();
    let mut cursor = Value::Null;
    for _ in 0..PAGES {
        let page = optional(errand.call("thread/loaded/list", &json!({ "limit": PAGE, "cursor": cursor })).await)?;
        for id in page["data"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let read = json!({ "threadId": id, "includeTurns": false });
            let read = optional(errand.call("thread/read", &read).await)?;
            if let Some(parent) = read["thread"]["parentThreadId"].as_str() {
                children.entry(parent.to_owned()).or_default().push(id.to_owned());
            }
        }
        cursor = page["nextCursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    Ok(children)
}

/// Interrupts the turns of a thread's sub-agents, and of theirs: they outlive the turn that began them.
async fn interrupt_children(errand: &mut Errand, children: &Children, thread: &str) -> Result<usize, ErrandError> {
    let (mut interrupted, mut seen, mut open) = (0, HashSet::new(), vec![thread.to_owned()]);
    while let Some(parent) = open.pop() {
        for child in children.get(&parent).into_iter().flatten().filter(|child| seen.insert((*child).clone())) {
            let newest = json!({ "threadId": child, "limit": 1, "sortDirection": "desc" });
            let turns = optional(errand.call("thread/turns/list", &newest).await)?;
            let turn = &turns["data"][0];
            if turn["status"] == "inProgress" && interrupt(errand, child, turn).await? {
                interrupted += 1;
            }
            open.push(child.clone());
        }
    }
    Ok(interrupted)
}

#[cfg(test)]
mod tests;
