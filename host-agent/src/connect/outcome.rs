//! How it went with the clients of the local socket, for the person who sat before one.
//!
//! A terminal UI shows that its server closed the connection, and not why. What
//! the host refused, and the thread to go on with, are remembered here, and said
//! once the terminal is free again.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reachback_proto::frame::{ByeReason, ChannelCloseReason, MAX_CLOSE_TEXT};
use serde::Deserialize;
use tokio::time::sleep_until;

use reachback_proto::words::printable;

/// Where a message's method stands: clients write it before its parameters.
const HEAD: usize = 256;
/// The terminal UI comes again at once where its last connection got as far as an answer, and so several times a second.
const PAUSE: Duration = Duration::from_secs(3);
/// Longest id of a thread that is remembered; Codex's have 36 characters.
const MAX_THREAD: usize = 64;

/// A channel that the host closed, and not for want of clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub reason: ChannelCloseReason,
    /// The host's words, fit for a terminal.
    pub text: String,
}

impl Refused {
    /// A close that a person should hear about. A gap heals by itself: clients come again and reload.
    pub(super) fn of(reason: ChannelCloseReason, text: &str) -> Option<Self> {
        match reason {
            ChannelCloseReason::Done | ChannelCloseReason::Gap => None,
            _ => {
                let text: String = text.chars().take(MAX_CLOSE_TEXT).collect();
                Some(Self { reason, text: printable(&text) })
            }
        }
    }
}

/// See the module's header.
#[derive(Debug, Default)]
pub struct Outcome(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    refused: Option<Refused>,
    /// Until then a client that comes again waits.
    pause: Option<Instant>,
    thread: Option<String>,
}

impl Outcome {
    /// What the host refused last, and has not made good since.
    pub fn refused(&self) -> Option<Refused> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).refused.clone()
    }

    /// The thread that a client worked in last.
    pub fn thread(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).thread.clone()
    }

    pub(super) fn refuse(&self, refused: Refused, now: Instant) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Without Codex nothing is answered, and clients pause by themselves.
        inner.pause = (refused.reason != ChannelCloseReason::BackendGone).then(|| now + PAUSE);
        inner.refused = Some(refused);
    }

    /// Waits before a client is let in that is likely to be refused again.
    pub(super) async fn pause(&self) {
        let until = self.0.lock().unwrap_or_else(PoisonError::into_inner).pause;
        if let Some(until) = until {
            sleep_until(until.into()).await;
        }
    }

    /// Codex answers again. What was refused for another reason than its absence stays refused.
    pub(super) fn answered(&self) {
        let refused = &mut self.0.lock().unwrap_or_else(PoisonError::into_inner).refused;
        refused.take_if(|refused| refused.reason == ChannelCloseReason::BackendGone);
    }

    /// Things went well for long enough: whatever was refused is no longer.
    pub(super) fn mended(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).refused = None;
    }

    /// Looks at what a client says: in which thread does it work?
    pub(super) fn said(&self, message: &[u8]) {
        if let Some(thread) = thread(message) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).thread = Some(thread);
        }
    }
}

#[derive(Deserialize)]
struct Opens<'a> {
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    params: Thread<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Thread<'a> {
    #[serde(borrow)]
    thread_id: Cow<'a, str>,
    #[serde(default, borrow)]
    client_user_message_id: Option<Cow<'a, str>>,
}

/// The thread of a person's prompt, or one that was resumed. A new one that nobody wrote in can't be gone on with, and nor can
/// those in which the terminal UI asks for a title: what it says there has no id of a person's message.
fn thread(message: &[u8]) -> Option<String> {
    let head = &message[..message.len().min(HEAD)];
    let has = |method: &str| head.windows(method.len()).any(|window| window == method.as_bytes());
    if !["turn/start", "thread/resume"].into_iter().any(has) {
        return None;
    }
    let Opens { method, params } = serde_json::from_slice(message).ok()?;
    let id = params.thread_id;
    let is_plain = (1..=MAX_THREAD).contains(&id.len()) && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let is_persons = match &*method {
        "turn/start" => params.client_user_message_id.is_some(),
        method => method == "thread/resume",
    };
    (is_persons && is_plain).then(|| id.into_owned())
}

/// The host's last word of a session, for a client of it.
pub(super) fn last_word(reason: ByeReason) -> &'static str {
    match reason {
        ByeReason::Revoked => "the host no longer lets this computer in",
        ByeReason::Paused => "the host has paused this computer: it keeps it out for now",
        ByeReason::Limit => "the host ended the session: this computer has too many, or too much waits in them",
        ByeReason::ProtocolError => "the host and this computer don't understand each other",
        _ => "the host ended the session",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_is_the_one_that_was_worked_in_last() {
        let outcome = Outcome::default();
        for (message, thread) in [
            (r#"{"method":"thread/start","id":1,"params":{"cwd":"/turn/start"}}"#, None),
            (r#"{"method":"turn/start","params":{"threadId":"01a-2b","clientUserMessageId":"u"}}"#, Some("01a-2b")),
            (r#"{"method":"turn/start","params":{"threadId":"01a-9z","clientUserMessageId":null}}"#, Some("01a-2b")),
            (r#"{"id":"r","method":"thread/resume","params":{"threadId":"01a-3c","cwd":null}}"#, Some("01a-3c")),
            (
                r#"{"method":"turn/start","id":3,"params":{"threadId":"$(rm ~)","clientUserMessageId":"u"}}"#,
                Some("01a-3c"),
            ),
            (r#"{"method":"turn/interrupt","id":4,"params":{"threadId":"turn/start"}}"#, Some("01a-3c")),
            ("turn/start", Some("01a-3c")),
        ] {
            outcome.said(message.as_bytes());
            assert_eq!(outcome.thread().as_deref(), thread, "{message}");
        }
    }

    #[test]
    fn only_the_absence_of_codex_is_made_good_by_its_answer() {
        let outcome = Outcome::default();
        let refused = |reason| Refused::of(reason, "no\u{1b}[2J").unwrap();
        for (reason, stays) in [
            (ChannelCloseReason::BackendGone, false),
            (ChannelCloseReason::Refused, true),
            (ChannelCloseReason::Other(99), true),
        ] {
            outcome.refuse(refused(reason), Instant::now());
            assert_eq!(outcome.refused().unwrap().text, "no?[2J");
            outcome.answered();
            assert_eq!(outcome.refused().is_some(), stays, "{reason:?}");
            outcome.mended();
            assert_eq!(outcome.refused(), None);
        }
        for passing in [ChannelCloseReason::Done, ChannelCloseReason::Gap] {
            assert_eq!(Refused::of(passing, "the device was behind"), None);
        }
    }
}
