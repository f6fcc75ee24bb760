//! The terminal: a program that has it, ended from outside, and what was typed too early.
//!
//! The stock terminal UI puts the terminal into a mode of its own and, when it
//! is ended by a signal, leaves it there: no line ends, no echo.

use std::io::{IsTerminal, Write, stdout};
use std::time::Duration;

use reachback_proto::pairing::is_unseen;
use tokio::process::Child;
use tokio::time::timeout;

use super::imp;

/// How long a program may take to end when asked.
const GRACE: Duration = Duration::from_secs(3);

/// Ends enhanced keys, bracketed paste and focus reports, shows the cursor, and clears what stood below it.
const PLAIN: &str = "\x1b[<u\x1b[?2004l\x1b[?1004l\x1b[?25h\x1b[0m\r\n\x1b[J";

/// Forgets what was typed at the terminal and not read yet: it was no answer to a question that comes now.
pub fn forget_typed() {
    imp::forget_typed();
}

/// Text of somebody else's for a terminal: what that would obey, what can't be seen and what turns text around is shown as
/// a question mark.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if is_unseen(c) { '?' } else { c }).collect()
}

/// How the terminal was found.
pub struct Found(Option<imp::TerminalModes>);

impl Found {
    /// Notes how the terminal is now; there may be none.
    pub fn now() -> Self {
        Self(imp::terminal_modes())
    }

    /// Ends `child`, which has the terminal, and leaves the terminal as it was found.
    pub async fn end(&self, child: &mut Child) {
        if let Some(id) = child.id() {
            imp::ask_to_end(id);
        }
        if timeout(GRACE, child.wait()).await.is_err() {
            let _ = child.kill().await;
        }
        if let Some(modes) = &self.0 {
            imp::set_terminal_modes(modes);
        }
        if stdout().is_terminal() {
            let _ = stdout().write_all(PLAIN.as_bytes()).and_then(|()| stdout().flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_does_not_steer_the_terminal_or_read_as_something_else() {
        assert_eq!(printable("/srv/\u{1b}[2Jproject\n"), "/srv/?[2Jproject?");
        assert_eq!(printable("disk \u{202e}lluf\u{2066} Grün 📱"), "disk ?lluf? Grün 📱");
    }
}
