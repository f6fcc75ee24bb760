//! Words that somebody else chose, in what a program of ours says: on a line, in a sentence, in a command to type.
//!
//! Every program uses these, for all it prints. What steers a terminal, what can't
//! be seen and what turns text around is shown as a question mark.

use std::fmt::Display;

/// The most characters of somebody else's text in a sentence: a reason with its cause fits.
const MAX_QUOTE: usize = 400;

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
pub fn quote(text: impl Display) -> String {
    let text = text.to_string();
    let mut chars = text.chars();
    let inside: String = chars.by_ref().take(MAX_QUOTE).map(|c| if is_mark(c) { '\'' } else { c }).collect();
    let rest = if chars.next().is_some() { "…" } else { "" };
    format!("“{}{rest}”", printable(&inside))
}

/// A name or a path as an argument of a command that a person is to type or to copy: whatever is in it, a shell of Unix
/// takes it as one word and runs nothing of it.
pub fn shell_word(text: impl Display) -> String {
    let text = text.to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// What stands for a character.
pub fn shown(c: char) -> char {
    if is_unseen(c) { '?' } else { c }
}

/// Whether a terminal or a person would take text with it for something else than it is.
///
/// Control characters, and Unicode's format characters (Cf), separators and tags.
///
/// The list is Unicode 17's; a name with one that is added later shows as a box or as nothing.
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
            | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
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
            assert_eq!(quote(format!("tablet{mark} (ios) wants to pair")), "“tablet' (ios) wants to pair”");
        }
        assert_eq!(quote("a\nb\u{202e}c\u{1b}[2J\u{2028}\u{200b}"), "“a?b?c?[2J??”");
        assert_eq!(quote("ü".repeat(MAX_QUOTE)), format!("“{}”", "ü".repeat(MAX_QUOTE)));
        assert_eq!(quote("ü".repeat(MAX_QUOTE + 1)), format!("“{}…”", "ü".repeat(MAX_QUOTE)));
    }

    #[test]
    fn a_word_for_a_shell_is_one_word() {
        assert_eq!(shell_word("/srv/project-1"), "/srv/project-1");
        assert_eq!(shell_word("/srv/x; rm -r ~"), "'/srv/x; rm -r ~'");
        assert_eq!(shell_word("a'$(id)`id`"), r"'a'\''$(id)`id`'");
        assert_eq!(shell_word(""), "''");
    }
}
