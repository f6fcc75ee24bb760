//! Words that somebody else chose, on a terminal of ours: in a sentence, in a line, in the log.
//!
//! Both programs use this, for all they print. What steers a terminal, what can't
//! be seen and what turns text around is shown as a question mark.

use std::fmt;

use reachback_proto::pairing::is_unseen;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{DefaultFields, FormatFields, Writer};
use tracing_subscriber::fmt::writer::MakeWriter;

/// The most characters of somebody else's text in a sentence: a reason with its cause fits.
const MAX_QUOTE: usize = 400;

/// The most characters that one event has in the log, or the fields of one span.
const MAX_EVENT: usize = 4000;

/// Text of somebody else's for a terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(shown).collect()
}

/// The same of a text of several lines: it keeps its line ends.
pub fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// Somebody else's text within a sentence of ours: in quotation marks that it can't close, as each mark in it that looks like
/// one is shown as an apostrophe. It is one line, printable, and bounded.
pub fn quote(text: &str) -> String {
    let mut chars = text.chars();
    let inside: String = chars.by_ref().take(MAX_QUOTE).map(|c| if is_mark(c) { '\'' } else { c }).collect();
    let rest = if chars.next().is_some() { "…" } else { "" };
    format!("“{}{rest}”", printable(&inside))
}

/// The log of both programs: an event is one line, bounded, and steers no terminal, whoever chose the words in it.
pub fn log<W>(filter: EnvFilter, is_coloured: bool, writer: W) -> impl Subscriber + Send + Sync + 'static
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // A terminal that was closed takes no log, and no complaint about that either.
    let format = tracing_subscriber::fmt().with_writer(writer).log_internal_errors(false);
    format.with_ansi(is_coloured).fmt_fields(OneLine).with_env_filter(filter).finish()
}

/// How the fields of events and spans are written, the message among them: all that others can have a word in.
#[derive(Debug)]
struct OneLine;

impl<'w> FormatFields<'w> for OneLine {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut text = String::new();
        DefaultFields::new().format_fields(Writer::new(&mut text), fields)?;
        let mut chars = text.chars();
        for c in chars.by_ref().take(MAX_EVENT) {
            writer.write_char(shown(c))?;
        }
        if chars.next().is_some() { writer.write_char('…') } else { Ok(()) }
    }
}

/// What stands for a character.
fn shown(c: char) -> char {
    if is_unseen(c) { '?' } else { c }
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

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

    /// What is logged.
    #[derive(Default, Clone)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Everything that is logged meanwhile.
    fn logged(is_coloured: bool, act: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = log(EnvFilter::new("trace"), is_coloured, move || writer.clone());
        tracing::subscriber::with_default(subscriber, act);
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn no_words_in_the_log_steer_a_terminal_or_make_a_second_line() {
        const HOSTILE: &str = "x\r\nERROR forged\u{1b}[2J\u{9b}2J\u{202e}\u{2028}\u{200b}";
        let log_all = || {
            let _span = tracing::info_span!("peer", host = %HOSTILE, name = HOSTILE).entered();
            tracing::warn!(error = %HOSTILE, reason = HOSTILE, why = ?HOSTILE, "said {HOSTILE}");
            tracing::error!(error = &io::Error::other(HOSTILE) as &dyn std::error::Error, "{HOSTILE}");
        };
        let plain = logged(false, log_all);
        assert_eq!(plain.lines().count(), 2, "{plain:?}");
        assert!(!plain.contains(|c| c != '\n' && is_unseen(c)), "{plain:?}");
        assert_eq!(plain.matches("ERROR forged").count(), 10, "the words are there: {plain:?}");

        // Colours are the log's own: none begins within the words.
        let coloured = logged(true, log_all);
        assert_eq!(coloured.lines().count(), 2, "{coloured:?}");
        assert!(!coloured.contains(|c| !matches!(c, '\n' | '\u{1b}') && is_unseen(c)), "{coloured:?}");
        let colours = coloured.match_indices('\u{1b}').map(|(at, _)| &coloured[at..]);
        for colour in colours {
            let end = colour.find(|c: char| c.is_ascii_alphabetic()).unwrap();
            assert_eq!(&colour[end..=end], "m", "{colour:?}");
        }
    }

    #[test]
    fn an_event_is_bounded_in_the_log() {
        let long = logged(false, || tracing::warn!(error = %"ü".repeat(100_000), "long"));
        assert!(long.chars().count() < MAX_EVENT + 200 && long.ends_with("…\n"), "{}", long.len());
    }
}
