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

/// The most characters of somebody else's text in a sentence.
const MAX_QUOTE: usize = 200;

/// Forgets what was typed at the terminal and not read yet: it was no answer to a question that comes now.
pub fn forget_typed() {
    imp::forget_typed();
}

/// Text of somebody else's for a terminal: what that would obey, what can't be seen and what turns text around is shown as
/// a question mark.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if is_unseen(c) { '?' } else { c }).collect()
}

/// The same of a text of several lines: it keeps its line ends.
pub fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// Somebody else's text within a sentence of ours: in quotation marks that it can't close, as each mark in it that looks like
/// one is shown as an apostrophe. It is one line, printable, and bounded.
pub fn quote(text: &str) -> String {
    let mut chars = text.chars();
    let shown: String = chars.by_ref().take(MAX_QUOTE).map(|c| if is_mark(c) { '\'' } else { c }).collect();
    let rest = if chars.next().is_some() { "…" } else { "" };
    format!("“{}{rest}”", printable(&shown))
}

/// Whether a person could take it for the start or the end of a quotation.
fn is_mark(c: char) -> bool {
    matches!(
        c,
        '`' | '´'
            | '"'
            | '“'
            | '”'
            | '„'
            | '‟'
            | '«'
            | '»'
            | '″'
            | '‶'
            | '〝'
            | '〞'
            | '〟'
            | '❝'
            | '❞'
            | '＂'
            | '｀'
    )
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
        assert_eq!(printable_lines("one\r\ntwo\u{1b}[A\n"), "one?\ntwo?[A\n");
    }

    #[test]
    fn a_text_in_a_sentence_can_not_end_its_own_quotation() {
        assert_eq!(quote("Ada's laptop"), "“Ada's laptop”");
        for mark in "`´\"“”„«»″＂".chars() {
            assert_eq!(quote(&format!("tablet{mark} (ios) wants to pair")), "“tablet' (ios) wants to pair”");
        }
        assert_eq!(quote("a\nb\u{202e}c\u{1b}[2J\u{2028}\u{200b}"), "“a?b?c?[2J??”");
        assert_eq!(quote(&"ü".repeat(MAX_QUOTE)), format!("“{}”", "ü".repeat(MAX_QUOTE)));
        assert_eq!(quote(&"ü".repeat(MAX_QUOTE + 1)), format!("“{}…”", "ü".repeat(MAX_QUOTE)));
    }
}
