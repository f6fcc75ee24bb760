//! The terminal: a program that has it, ended from outside, and what was typed too early.
//!
//! The stock terminal UI puts the terminal into a mode of its own and, when it
//! is ended by a signal, leaves it there: no line ends, no echo.

use std::io::{IsTerminal, Write, stdin, stdout};
use std::time::Duration;

use tokio::process::Child;
use tokio::time::timeout;

use super::imp;

/// How long a program may take to end when asked.
const GRACE: Duration = Duration::from_secs(3);

/// Ends enhanced keys, bracketed paste and focus reports, shows the cursor, and clears what stood below it.
const PLAIN: &str = "\x1b[<u\x1b[?2004l\x1b[?1004l\x1b[?25h\x1b[0m\r\n\x1b[J";

/// Forgets what was typed at the terminal and not read yet: it was no answer to a question that comes now.
pub(crate) fn forget_typed() {
    imp::forget_typed();
}

/// Whether a line was typed at the terminal on standard input, or it has ended: then it can be read at once. With `wait` it
/// is waited for. `None` where that can't be told.
pub(crate) fn has_typed(wait: bool) -> Option<bool> {
    if stdin().is_terminal() { imp::has_typed(wait) } else { None }
}

/// How the terminal was found.
pub(crate) struct Found(Option<imp::TerminalModes>);

impl Found {
    /// Notes how the terminal is now; there may be none.
    pub(crate) fn now() -> Self {
        Self(imp::terminal_modes())
    }

    /// Ends `child`, which has the terminal, and leaves the terminal as it was found.
    pub(crate) async fn end(&self, child: &mut Child) {
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
