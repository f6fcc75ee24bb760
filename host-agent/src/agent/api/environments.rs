//! `environment/list`: where devices work, and how Codex is there.

use reachback_proto::scope::Scope;
use serde::Serialize;

use super::error::Refusal;
use super::{Call, NoParams};
use crate::agent::environments::Environment;
use crate::agent::environments::account::Account;
use crate::agent::environments::troubles::Trouble;
use crate::codex::{CodexState, FailureCode, StartedBy};

#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(super) struct EnvironmentList {
    /// The host's own first.
    data: Vec<EnvironmentInfo>,
}

/// One place where devices work.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) struct EnvironmentInfo {
    /// What a channel names to be opened there.
    name: String,
    /// The most that any device may do there, whatever its own scope; absent where there is no such bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(type = "Scope", optional))]
    max_scope: Option<Scope>,
    /// Why there is one, for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    max_scope_reason: Option<String>,
    #[serde(flatten)]
    codex: CodexInfo,
}

/// How Codex is.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields))]
pub(super) struct CodexInfo {
    state: CodexWord,
    /// While it is ready, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// While it is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    adapter: Option<AdapterWord>,
    /// Whether it is signed in; while it is ready, once it has said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<Account>,
    /// What is wrong with it although it answers; absent where nothing is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, ts(as = "Option<Vec<Trouble>>", optional))]
    troubles: Vec<Trouble>,
    /// Why it failed, for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What the owner does about it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
    /// What a program can do about it, where it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<FailureCode>,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "CodexState"))]
enum CodexWord {
    Idle,
    Starting,
    Ready,
    Failed,
    Stopped,
}

// Says who started it, by the name of `adapter`: clients know it so. How it is reached has no member.
/// Whose app-server a backend speaks to.
#[derive(Debug, Clone, Copy, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "CodexAdapter"))]
#[serde(rename_all = "lowercase")]
enum AdapterWord {
    Attached,
    Started,
}

impl From<StartedBy> for AdapterWord {
    fn from(started_by: StartedBy) -> Self {
        match started_by {
            StartedBy::Agent => Self::Started,
            StartedBy::Others => Self::Attached,
        }
    }
}

impl CodexInfo {
    pub(super) fn of(environment: &Environment) -> Self {
        Self::new(&environment.codex.state().borrow(), environment)
    }

    fn new(state: &CodexState, environment: &Environment) -> Self {
        let troubles = environment.troubles.current();
        let (reason, fix, code) = (None, None, None);
        let is = |state| Self { state, version: None, adapter: None, account: None, troubles, reason, fix, code };
        match state {
            CodexState::Idle => is(CodexWord::Idle),
            CodexState::Starting => is(CodexWord::Starting),
            CodexState::Ready { version, started_by, .. } => {
                let account = environment.account.current();
                Self { version: version.clone(), adapter: Some((*started_by).into()), account, ..is(CodexWord::Ready) }
            }
            CodexState::Failed { reason, fix, code } => {
                Self { reason: Some(reason.clone()), fix: fix.clone(), code: *code, ..is(CodexWord::Failed) }
            }
            // To a device it is one that does not answer, with what helps: it can neither wait nor start it.
            CodexState::Waiting { reason, fix } => {
                Self { reason: Some(reason.clone()), fix: Some(fix.clone()), ..is(CodexWord::Failed) }
            }
            CodexState::Stopped => is(CodexWord::Stopped),
        }
    }
}

impl EnvironmentInfo {
    /// An environment as it is.
    pub(crate) fn of(environment: &Environment) -> Self {
        Self::new(environment, &environment.codex.state().borrow())
    }

    /// An environment whose Codex is in this state.
    pub(super) fn new(environment: &Environment, state: &CodexState) -> Self {
        Self {
            name: environment.name.clone(),
            max_scope: Some(environment.max_scope()).filter(|max| *max < Scope::Admin),
            max_scope_reason: environment.workspaces.disk().closed().map(|why| why.to_string()),
            codex: CodexInfo::new(state, environment),
        }
    }
}

/// An environment that is not there any more.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) struct EnvironmentRemoved {
    /// What it was called.
    pub(crate) name: String,
}

pub(super) async fn list(call: Call, _: NoParams) -> Result<EnvironmentList, Refusal> {
    let environments = call.context.environments.all();
    Ok(EnvironmentList { data: environments.iter().map(|environment| EnvironmentInfo::of(environment)).collect() })
}
