//! The log of both programs, and what is printed of a panic: whoever chose the words in a line, they steer no terminal and
//! make no second line.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::ffi::OsStr;
use std::fmt;
use std::io::Write as _;

use reachback_proto::words::{printable, shown};
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{DefaultFields, FormatFields, Writer};
use tracing_subscriber::fmt::writer::MakeWriter;

/// The most characters that one event has in the log, or the fields of one span.
const MAX_EVENT: usize = 4000;

/// The log of both programs: an event is one line, bounded, and steers no terminal, whoever chose the words in it.
pub fn subscriber<W>(filter: EnvFilter, is_coloured: bool, writer: W) -> impl Subscriber + Send + Sync + 'static
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // A terminal that was closed takes no log, and no complaint about that either.
    let format = tracing_subscriber::fmt().with_writer(writer).log_internal_errors(false);
    format.with_ansi(is_coloured).fmt_fields(OneLine).with_env_filter(filter).finish()
}

/// Whether lines of the log are coloured: at a terminal, unless `no_color`, the environment's `NO_COLOR`, has a word in it.
pub fn is_coloured(is_terminal: bool, no_color: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty)
}

/// From now on a panic is told as a line on standard error like any other: what panicked may have said somebody else's words.
pub fn tell_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let line = panic_line(thread.name().unwrap_or("without a name"), &panic.to_string());
        let mut err = std::io::stderr().lock();
        // Whoever closed standard error does not want to know.
        let _ = writeln!(err, "{line}");
        // The names of this program's own functions and files, where RUST_BACKTRACE asks for them.
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            let _ = writeln!(err, "{trace}");
        }
    }));
}

fn panic_line(thread: &str, told: &str) -> String {
    let told: String = told.chars().take(MAX_EVENT).collect();
    printable(&format!("thread {thread} {}", told.replace('\n', " ")))
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::process::Command;
    use std::sync::{Arc, Mutex};

    use reachback_proto::words::is_unseen;

    use super::*;

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
        let subscriber = subscriber(EnvFilter::new("trace"), is_coloured, move || writer.clone());
        tracing::subscriber::with_default(subscriber, act);
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn lines_are_coloured_at_a_terminal_of_somebody_who_wants_no_less() {
        let no_color = |word: &'static str| Some(OsStr::new(word));
        assert!(is_coloured(true, None) && is_coloured(true, no_color("")));
        assert!(!is_coloured(false, None) && !is_coloured(true, no_color("1")) && !is_coloured(true, no_color("0")));
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

    const PANIC: &str = "gone\u{1b}[2J\r\nERROR forged\u{202e}";

    #[test]
    #[ignore = "it panics in a process of its own, which the test below starts"]
    fn panics_with_hostile_words() {
        tell_panics();
        panic!("{PANIC}");
    }

    #[test]
    fn a_panic_is_one_line_and_steers_no_terminal() {
        let mut this = Command::new(std::env::current_exe().unwrap());
        let args = ["--exact", "log::tests::panics_with_hostile_words", "--ignored", "--nocapture"];
        let ended = this.args(args).env("RUST_BACKTRACE", "0").output().unwrap();
        let told = String::from_utf8(ended.stderr).unwrap();
        let forged: Vec<_> = told.lines().filter(|line| line.contains("forged")).collect();
        assert_eq!(forged.len(), 1, "{told:?}");
        assert!(forged[0].contains("relay/src/log.rs") && forged[0].contains("gone?[2J? ERROR"), "{told:?}");
        assert!(!told.contains(|c| c != '\n' && is_unseen(c)), "{told:?}");
        assert!(panic_line("main", &"ü".repeat(100_000)).chars().count() < MAX_EVENT + 100);
    }
}
