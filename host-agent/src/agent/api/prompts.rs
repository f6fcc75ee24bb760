//! `prompt/send`, `prompt/read`, `prompt/withdraw`: prompts that run once, whatever is lost on the way.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Call;
use super::error::{Reason, Refusal};
use crate::agent::prompts::{self, Change, Known, Prompt, SendError, Target, WithdrawError};
use crate::state::journal::{Entry, JournalError, PromptId, State};

/// Ids that are asked about at once.
const MAX_IDS: usize = 100;

/// When a prompt runs.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS))]
enum Delivery {
    /// At once; after the turn that runs, if one does.
    #[default]
    Start,
    /// In the turn that runs; at once, if none does.
    Steer,
    /// After the turn that runs, and what waits already; at once, if none runs.
    Queue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(super) struct PromptSendParams {
    /// Made by the client, new for each prompt: letters, digits, `-` and `_`, at most 64. A UUID does.
    #[cfg_attr(test, ts(type = "string"))]
    id: PromptId,
    environment: String,
    /// The thread; or `start`.
    thread_id: Option<String>,
    /// Starts a thread for it: parameters of Codex's `thread/start`.
    #[cfg_attr(test, ts(type = "Record<string, unknown>", optional))]
    start: Option<Box<RawValue>>,
    delivery: Option<Delivery>,
    /// With `steer`: the turn that it is meant for, and no other.
    turn_id: Option<String>,
    /// Codex's input items.
    #[cfg_attr(test, ts(type = "unknown[]"))]
    input: Box<RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct PromptReadParams {
    /// At most 100.
    #[cfg_attr(test, ts(type = "string[]"))]
    ids: Vec<PromptId>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct PromptWithdrawParams {
    #[cfg_attr(test, ts(type = "string"))]
    id: PromptId,
    environment: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct PromptReadResult {
    /// The journal that this is from, as in `host/read`.
    journal: String,
    /// In the order that was asked for.
    data: Vec<Receipt>,
}

/// What became of a prompt.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(crate) struct Receipt {
    #[cfg_attr(test, ts(type = "string"))]
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_id: Option<String>,
    /// When the agent took it, in milliseconds since 1970 by the host's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    taken_at: Option<u64>,
    /// When it came to its state.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed_at: Option<u64>,
    #[serde(flatten)]
    state: ReceiptState,
}

#[derive(Serialize)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS))]
enum ReceiptState {
    /// It never arrived, or more than seven days ago: it may be sent again under its id.
    Never,
    /// The agent has it.
    Taken,
    /// It waits in the thread's queue.
    Queued { queued_id: String },
    /// It stands in the thread.
    Started {
        turn_id: String,
        /// Whether the turn was running before.
        steered: bool,
    },
    /// It was not let through, or Codex did not take it: a stable word, and a sentence.
    Refused { reason: String, message: String },
    /// It was taken back in time, and will not run.
    Withdrawn,
    /// Codex may have it or not. Ask again later; sent again under another id, it may run twice.
    Unknown,
}

impl Receipt {
    fn of(entry: Entry, state: ReceiptState) -> Self {
        Self {
            id: entry.key.id.as_str().to_owned(),
            environment: Some(entry.environment),
            thread_id: entry.thread_id,
            taken_at: Some(entry.taken_at),
            changed_at: Some(entry.changed_at),
            state,
        }
    }

    fn never(id: &PromptId) -> Self {
        let id = id.as_str().to_owned();
        let state = ReceiptState::Never;
        Self { id, environment: None, thread_id: None, taken_at: None, changed_at: None, state }
    }

    /// Something came of a prompt.
    pub(super) fn changed(Change { entry, is_certain }: Change) -> Self {
        let id = entry.key.id.clone();
        Self::known(&id, if is_certain { Known::Entry(entry) } else { Known::Unknown(entry) })
    }

    /// What is known of the prompt with this id.
    pub(super) fn known(id: &PromptId, known: Known) -> Self {
        match known {
            Known::Never => Self::never(id),
            Known::Unknown(entry) => Self::of(entry, ReceiptState::Unknown),
            Known::Entry(entry) => {
                let state = match entry.state.clone() {
                    State::Taken | State::Handed => ReceiptState::Taken,
                    State::Queued { queued_id } => ReceiptState::Queued { queued_id },
                    State::Started { turn_id, steered } => ReceiptState::Started { turn_id, steered },
                    State::Refused { reason, message } => ReceiptState::Refused { reason, message },
                    State::Withdrawn => ReceiptState::Withdrawn,
                };
                Self::of(entry, state)
            }
        }
    }
}

pub(super) async fn send(call: Call, params: PromptSendParams) -> Result<Receipt, Refusal> {
    let PromptSendParams { id, environment, thread_id, start, delivery, turn_id, input } = params;
    let target = match (thread_id, start) {
        (Some(thread), None) => Target::Thread(thread),
        (None, Some(start)) => Target::New(start),
        _ => return Err(Refusal::member("prompt/send", "threadId", "one of `threadId` and `start` is needed")),
    };
    let delivery = match delivery.unwrap_or_default() {
        Delivery::Start => prompts::Delivery::Start,
        Delivery::Steer => prompts::Delivery::Steer,
        Delivery::Queue => prompts::Delivery::Queue,
    };
    let prompt = Prompt { id: id.clone(), environment, target, delivery, turn_id, input };
    let sent = call.context.prompts.send(call.caller.device, prompt).await;
    sent.map(|known| Receipt::known(&id, known)).map_err(|error| {
        let reason = match &error {
            SendError::Environment => Reason::Environment,
            SendError::Conflict => Reason::Conflict,
            SendError::Busy => Reason::Busy,
            SendError::Journal(JournalError::Full) => Reason::Busy,
            SendError::Journal(JournalError::Disk(_)) => Reason::Disk,
        };
        Refusal::because(reason, &error)
    })
}

pub(super) async fn read(call: Call, params: PromptReadParams) -> Result<PromptReadResult, Refusal> {
    if params.ids.len() > MAX_IDS {
        return Err(Refusal::member("prompt/read", "ids", "at most 100 ids are asked about at once"));
    }
    let prompts = &call.context.prompts;
    let mut data = Vec::with_capacity(params.ids.len());
    for id in params.ids {
        let known = prompts.read(call.caller.device, id.clone()).await;
        data.push(Receipt::known(&id, known));
    }
    Ok(PromptReadResult { journal: prompts.journal().to_owned(), data })
}

pub(super) async fn withdraw(call: Call, params: PromptWithdrawParams) -> Result<Receipt, Refusal> {
    let PromptWithdrawParams { id, environment } = params;
    let withdrawn = call.context.prompts.withdraw(call.caller.device, id.clone(), &environment).await;
    withdrawn.map(|entry| Receipt::known(&id, Known::Entry(entry))).map_err(|error| {
        let reason = match &error {
            WithdrawError::TooLate(_) => Reason::TooLate,
            WithdrawError::Codex => Reason::Codex,
            WithdrawError::Journal(JournalError::Full) => Reason::Busy,
            WithdrawError::Journal(JournalError::Disk(_)) => Reason::Disk,
        };
        Refusal::because(reason, &error)
    })
}
