//! Names that one side gives itself and the other shows to a person.
//!
//! They end up in terminals and in questions like "let `Phone` in?", so they
//! can't hold what moves a cursor, starts an escape sequence, or makes text
//! read differently from what it is.

use std::fmt;

use crate::words::is_unseen;

/// A name of a host or a device.
pub type Name = Label<64>;
/// What a device runs on, in its own words.
pub type Platform = Label<32>;

/// Text that may not be shown as a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LabelError {
    /// No visible character.
    #[error("a name is empty")]
    Empty,
    /// Over the limit.
    #[error("a name of {length} bytes, the limit is {limit}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A control character, one that changes the direction of text, or one that can't be seen.
    #[error("a name contains the character U+{:04X}, which is not shown as it is", u32::from(*.found))]
    Character {
        /// The character.
        found: char,
    },
}

/// At most `MAX` bytes of UTF-8, not empty, without control and format characters, without space around.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label<const MAX: usize>(String);

impl<const MAX: usize> Label<MAX> {
    /// The most bytes it may have.
    pub const MAX: usize = MAX;

    /// `text` as it is, or why it can't be a name.
    pub fn new(text: &str) -> Result<Self, LabelError> {
        if text.len() > MAX {
            return Err(LabelError::TooLong { length: text.len(), limit: MAX });
        }
        if let Some(found) = text.chars().find(|c| is_unseen(*c)) {
            return Err(LabelError::Character { found });
        }
        match text.trim() {
            "" => Err(LabelError::Empty),
            trimmed => Ok(Self(trimmed.to_owned())),
        }
    }

    /// The nearest name to `text`, such as this computer's own; `None` if nothing visible is left.
    pub fn cleaned(text: &str) -> Option<Self> {
        let mut out = String::new();
        for c in text.trim().chars().filter(|c| !is_unseen(*c)) {
            if out.len() + c.len_utf8() > MAX {
                break;
            }
            out.push(c);
        }
        Self::new(&out).ok()
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> fmt::Display for Label<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<const MAX: usize> fmt::Debug for Label<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl<const MAX: usize> TryFrom<String> for Label<MAX> {
    type Error = LabelError;

    fn try_from(text: String) -> Result<Self, LabelError> {
        Self::new(&text)
    }
}

impl<const MAX: usize> From<Label<MAX>> for String {
    fn from(label: Label<MAX>) -> Self {
        label.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_as_they_are() {
        for text in ["Phone", "Ana's phone", "Büro 2", "开发机", "📱", "a".repeat(64).as_str()] {
            let name = Name::new(text).unwrap();
            assert_eq!((name.as_str(), Name::cleaned(text)), (text, Some(name.clone())));
        }
        assert_eq!(Name::new("  Phone ").unwrap().as_str(), "Phone");
        assert_eq!(format!("{:>6}|", Name::new("Pad").unwrap()), "   Pad|");
    }

    #[test]
    fn what_a_terminal_would_not_show_as_it_is_is_refused() {
        for found in
            ['\u{1b}', '\n', '\0', '\u{7f}', '\u{9b}', '\u{202e}', '\u{2066}', '\u{200b}', '\u{feff}', '\u{e0041}']
        {
            assert_eq!(Name::new(&format!("Pho{found}ne")), Err(LabelError::Character { found }), "{found:?}");
            assert_eq!(Name::cleaned(&format!("Pho{found}ne")), Some(Name::new("Phone").unwrap()), "{found:?}");
        }
        for text in ["", "   ", "\u{a0}"] {
            assert_eq!(Name::new(text), Err(LabelError::Empty));
            assert_eq!(Name::cleaned(text), None);
        }
        assert_eq!(Name::cleaned("\u{1b}\u{202e}"), None);
    }

    #[test]
    fn names_are_bounded_and_cut_between_characters() {
        assert_eq!(Name::new(&"a".repeat(65)), Err(LabelError::TooLong { length: 65, limit: 64 }));
        assert_eq!(Platform::new(&"a".repeat(33)), Err(LabelError::TooLong { length: 33, limit: 32 }));
        assert_eq!(Name::cleaned(&"€".repeat(40)).unwrap().as_str(), "€".repeat(21));
    }

    #[test]
    fn names_from_a_file_are_checked_too() {
        assert_eq!(serde_json::to_string(&Name::new("Phone").unwrap()).unwrap(), r#""Phone""#);
        assert!(serde_json::from_str::<Name>(r#""Pho\u001bne""#).is_err());
    }
}
