//! Texts of Codex's that a device was not told since they may quote files, for the owner of those files.
//!
//! `answers` writes a shorter text in their place, which says where they are. They are whatever Codex read or heard, and may
//! be large: each is cut and made fit for a terminal at once. They hold what a log must not, so their `Debug` says nothing.

use std::fmt;

use reachback_proto::words::printable_lines;

/// Characters of a text that are kept: the error of a file with its line and place, or the last words of a program.
const LONGEST: usize = 500;
/// Texts of one message that are kept; a list of what Codex could not read may have any number.
const MOST: usize = 20;

/// The texts that one message of Codex's had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Withheld {
    /// The method that was answered, or the notification.
    pub(crate) method: &'static str,
    /// The thread that it is about, where it is about one.
    pub(crate) thread: Option<String>,
    /// The texts.
    pub(crate) texts: Vec<Text>,
    /// How many more there were.
    pub(crate) more: usize,
}

/// A text, printable and cut.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Text {
    /// How it begins.
    pub(crate) head: String,
    /// How many more characters it had.
    pub(crate) cut: usize,
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        let end = text.char_indices().nth(LONGEST).map_or(text.len(), |(end, _)| end);
        Self { head: printable_lines(&text[..end]), cut: text[end..].chars().count() }
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Text(…)")
    }
}

/// Collects the texts of one message.
#[derive(Debug, Default)]
pub(super) struct Texts {
    texts: Vec<Text>,
    more: usize,
}

impl Texts {
    /// This one is not told to the device.
    pub(super) fn add(&mut self, text: &str) {
        if self.texts.len() < MOST {
            self.texts.push(text.into());
        } else {
            self.more += 1;
        }
    }

    /// All of them; `None` where the device was told everything, as of most messages: only else is `thread` asked for.
    pub(super) fn of(self, method: &'static str, thread: impl FnOnce() -> Option<String>) -> Option<Withheld> {
        let Self { texts, more } = self;
        (!texts.is_empty()).then(|| Withheld { method, thread: thread(), texts, more })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_and_made_printable_and_says_how_much_is_missing() {
        let text = Text::from("é\u{1b}[2J\u{202e}\nx");
        assert_eq!((text.head.as_str(), text.cut), ("é?[2J?\nx", 0));
        let whole = Text::from("é".repeat(LONGEST).as_str());
        assert_eq!((whole.head.chars().count(), whole.cut), (LONGEST, 0));
        let long = Text::from("é".repeat(LONGEST + 7).as_str());
        assert_eq!((long.head, long.cut), (whole.head, 7));
    }

    #[test]
    fn of_a_message_with_very_many_texts_some_are_kept_and_the_rest_is_counted() {
        let mut texts = Texts::default();
        (0..MOST + 3).for_each(|_| texts.add("SECRET"));
        let withheld = texts.of("config/read", || None).unwrap();
        assert_eq!((withheld.texts.len(), withheld.more), (MOST, 3));
        assert!(!format!("{withheld:?}").contains("SECRET"), "it would stand in a log");
        assert_eq!(Texts::default().of("config/read", || unreachable!("nothing was withheld")), None);
    }
}
