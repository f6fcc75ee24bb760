//! Whether a Codex that runs still answers.

use std::future;

use tokio::time::{Instant, sleep_until};

use super::config::Silence;
use super::supervision::QUESTION;
use super::{CodexConnection, StartedBy};

/// What a server gives to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// It has not answered for long.
    Silent,
    /// It answers again.
    Answers,
    /// It is gone.
    Gone,
    /// One that the agent started has been silent for so long that it is to be ended.
    Dead,
}

/// Asks a server now and then, over a connection on which nothing else is said.
#[derive(Debug)]
pub(crate) struct Pulse {
    silence: Silence,
    started_by: StartedBy,
    asking: Asking,
}

#[derive(Debug, Clone, Copy)]
enum Asking {
    /// At this moment, for the next time.
    Next(Instant),
    /// It was asked, and people are told at this moment.
    Asked(Instant),
    /// They were told; it is ended at this moment, if it is the agent's.
    Told(Instant),
}

impl Pulse {
    /// Of a server that has just answered.
    pub(crate) fn new(silence: Silence, started_by: StartedBy) -> Self {
        Self { silence, started_by, asking: Asking::Next(Instant::now() + silence.ask_after) }
    }

    /// Waits until there is something to tell. Not safe to cancel, but for good.
    pub(crate) async fn sign(&mut self, probe: &mut CodexConnection) -> Sign {
        let silence = self.silence;
        loop {
            let moment = match self.asking {
                Asking::Next(at) | Asking::Asked(at) => Some(at),
                Asking::Told(at) => (self.started_by == StartedBy::Agent).then_some(at),
            };
            let due = async {
                match moment {
                    Some(at) => sleep_until(at).await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                // An uninitialized client hears nothing but its answers.
                heard = probe.receiver.next() => {
                    if !matches!(heard, Some(Ok(_))) {
                        return Sign::Gone;
                    }
                    let was_told = matches!(self.asking, Asking::Told(_));
                    self.asking = Asking::Next(Instant::now() + silence.ask_after);
                    if was_told {
                        return Sign::Answers;
                    }
                }
                () = due => match self.asking {
                    Asking::Next(_) => {
                        if probe.sender.send(QUESTION).await.is_err() {
                            return Sign::Gone;
                        }
                        self.asking = Asking::Asked(Instant::now() + silence.told_after);
                    }
                    Asking::Asked(_) => {
                        self.asking = Asking::Told(Instant::now() + silence.ended_after);
                        return Sign::Silent;
                    }
                    Asking::Told(_) => return Sign::Dead,
                },
            }
        }
    }
}
