//! Whether Codex is signed in to where its model is: what the owner has to see to before anything runs there.
//!
//! Codex is asked on the agent's own connection, and again whenever it says that this changed. What names
//! a person (address, workspace) is left out.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::watch;

/// More than any kind of account or plan has, in bytes.
const MAX_WORD: usize = 64;

/// How Codex's account is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(optional_fields, rename = "Account"))]
pub struct Account {
    state: AccountState,
    /// While it is signed in: `chatgpt`, `apiKey` or another word of Codex.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// The plan of a ChatGPT account, in Codex's word, such as `pro`.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(ts_rs::TS))]
enum AccountState {
    SignedIn,
    /// The model needs an account, and there is none: prompts fail.
    SignedOut,
    /// Codex is configured to use a model that needs none of OpenAI's accounts.
    NotNeeded,
}

/// The result of Codex's `account/read`, as far as it is looked at.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Read {
    account: Option<Kind>,
    requires_openai_auth: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    r#type: String,
    #[serde(default)]
    plan_type: Option<String>,
}

impl Account {
    /// From the result of `account/read`; `None` when it is something else.
    fn read(result: &RawValue) -> Option<Self> {
        let Read { account, requires_openai_auth } = serde_json::from_str(result.get()).ok()?;
        let is_word =
            |word: &String| word.len() <= MAX_WORD && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        Some(match account {
            Some(Kind { r#type, plan_type }) => Self {
                state: AccountState::SignedIn,
                kind: Some(r#type).filter(is_word),
                plan: plan_type.filter(is_word),
            },
            None if requires_openai_auth => Self { state: AccountState::SignedOut, kind: None, plan: None },
            None => Self { state: AccountState::NotNeeded, kind: None, plan: None },
        })
    }
}

/// The account of an environment's Codex, as it changes; nothing while it is not known.
#[derive(Debug)]
pub struct CodexAccount(watch::Sender<Option<Account>>);

impl Default for CodexAccount {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl CodexAccount {
    /// As it is, and to be told of changes.
    pub fn subscribe(&self) -> watch::Receiver<Option<Account>> {
        self.0.subscribe()
    }

    /// As it is.
    pub fn current(&self) -> Option<Account> {
        self.0.borrow().clone()
    }

    /// Codex said how it is.
    pub(super) fn answered(&self, result: Option<&RawValue>) {
        if let Some(account) = result.and_then(Account::read) {
            self.set(Some(account));
        }
    }

    /// Codex is not there to be asked.
    pub(super) fn clear(&self) {
        self.set(None);
    }

    fn set(&self, account: Option<Account>) {
        self.0.send_if_modified(|known| {
            *known != account && {
                *known = account;
                true
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn said(result: &Value) -> Value {
        let account = CodexAccount::default();
        account.answered(Some(&serde_json::value::to_raw_value(result).unwrap()));
        serde_json::to_value(account.current()).unwrap()
    }

    #[test]
    fn an_account_is_told_without_what_names_a_person() {
        let signed_in = json!({
            "account": { "type": "chatgpt", "email": "me@example.com", "planType": "pro", "workspaceName": "Ours" },
            "userId": "user-1", "requiresOpenaiAuth": true, "workspaceRouting": null,
        });
        assert_eq!(said(&signed_in), json!({ "state": "signedIn", "type": "chatgpt", "plan": "pro" }));
        let with_key = json!({ "account": { "type": "apiKey" }, "requiresOpenaiAuth": true });
        assert_eq!(said(&with_key), json!({ "state": "signedIn", "type": "apiKey" }));
    }

    #[test]
    fn no_account_is_a_fault_only_where_one_is_needed() {
        assert_eq!(said(&json!({ "account": null, "requiresOpenaiAuth": true })), json!({ "state": "signedOut" }));
        assert_eq!(said(&json!({ "account": null, "requiresOpenaiAuth": false })), json!({ "state": "notNeeded" }));
    }

    #[test]
    fn what_is_no_account_says_nothing_and_words_are_bounded() {
        assert_eq!(said(&json!({ "error": "?" })), Value::Null);
        let long =
            json!({ "account": { "type": "x".repeat(65), "planType": "a\u{1b}[1m" }, "requiresOpenaiAuth": true });
        assert_eq!(said(&long), json!({ "state": "signedIn" }));
    }
}
