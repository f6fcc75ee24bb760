//! Whether OpenAI's own remote control is on in an environment's Codex: a way in that does not lead past Reachback.
//!
//! Codex keeps that in its own state, by account: an app-server that the agent starts may be reached from there at once,
//! without anybody's word (measured on 0.169.0). Codex is asked on the agent's own connection, and says when it changes.
//! Where Codex comes to the agent by its remote control, it is the agent that it is connected to, and nothing is asked.

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::watch;

use crate::local_api::events::ChatgptRemote;

/// What Codex answers and notifies about its remote control, as far as it is looked at.
#[derive(Deserialize)]
struct Said {
    status: ChatgptRemote,
}

/// How it is, as it changes; nothing while it is not known.
#[derive(Debug)]
pub struct CodexChatgptRemote(watch::Sender<Option<ChatgptRemote>>);

impl Default for CodexChatgptRemote {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl CodexChatgptRemote {
    /// As it is, and to be told of changes.
    pub fn subscribe(&self) -> watch::Receiver<Option<ChatgptRemote>> {
        self.0.subscribe()
    }

    /// As it is.
    pub fn current(&self) -> Option<ChatgptRemote> {
        *self.0.borrow()
    }

    /// Codex said how it is.
    pub(super) fn said(&self, said: Option<&RawValue>) {
        if let Some(Said { status }) = said.and_then(|said| serde_json::from_str(said.get()).ok()) {
            self.set(Some(status));
        }
    }

    /// Codex is not there to be asked.
    pub(super) fn clear(&self) {
        self.set(None);
    }

    fn set(&self, now: Option<ChatgptRemote>) {
        self.0.send_if_modified(|known| std::mem::replace(known, now) != now);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_codex_says_is_kept_and_what_is_something_else_changes_nothing() {
        let remote = CodexChatgptRemote::default();
        let mut changes = remote.subscribe();
        let mut said = |status: &str| {
            let status = json!({ "status": status, "serverName": "vm", "environmentId": null });
            remote.said(Some(&serde_json::value::to_raw_value(&status).unwrap()));
            (
                remote.current(),
                changes.has_changed().unwrap() && {
                    changes.mark_unchanged();
                    true
                },
            )
        };
        assert_eq!(said("connected"), (Some(ChatgptRemote::Connected), true));
        assert_eq!(said("connected"), (Some(ChatgptRemote::Connected), false));
        assert_eq!(said("rebooting"), (Some(ChatgptRemote::Connected), false));
        assert_eq!(said("disabled"), (Some(ChatgptRemote::Disabled), true));
        remote.clear();
        assert_eq!(remote.current(), None);
    }
}
