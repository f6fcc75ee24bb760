//! The one setting in a text of Codex's `config.toml`, found and changed without touching anything else.
//!
//! The text is parsed to find where the setting stands, and is then edited as text: what a
//! person wrote stays byte for byte, with its order, comments and line ends.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// What names the service that Codex talks to.
const KEY: &str = "chatgpt_base_url";

/// What Codex's older versions chose one of their `[profiles]` by, and 0.169.0 takes for no configuration at all.
const PROFILE: &str = "profile";

/// What stands behind a setting that was added.
const WHY: &str = "# by Reachback, while it runs; `reachback codex restore` takes it away";

/// A text that can't be changed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SettingError {
    #[error("line {line} is no TOML: {what}")]
    NotToml { line: usize, what: String },
    #[error("line {line}: {KEY} is no text")]
    NotText { line: usize },
}

/// The setting, in a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// What it says.
    pub(super) value: String,
    /// In which line it stands, from 1.
    pub(super) line: usize,
    /// Where its value stands, with its quotation marks.
    raw: Range<usize>,
    /// Where its line stands, with its end.
    whole: Range<usize>,
}

impl Setting {
    /// The setting in this text; `None` where there is none.
    pub(super) fn find(text: &str) -> Result<Option<Self>, SettingError> {
        let root = parse(text)?;
        let Some((key, value)) = root.iter().find(|(key, _)| key.get_ref() == KEY) else { return Ok(None) };
        let (key, raw) = (key.span(), value.span());
        let line = line_of(text, key.start);
        let DeValue::String(said) = value.get_ref() else { return Err(SettingError::NotText { line }) };
        let start = text[..key.start].rfind('\n').map_or(bom(text), |at| at + 1);
        let end = text[raw.end..].find('\n').map_or(text.len(), |at| raw.end + at + 1);
        Ok(Some(Self { value: said.to_string(), line, raw, whole: start..end }))
    }

    /// The value as it stands in the text.
    pub(super) fn raw<'a>(&self, text: &'a str) -> &'a str {
        &text[self.raw.clone()]
    }

    /// The text with another value, as it is to stand there.
    pub(super) fn replaced(&self, text: &str, raw: &str) -> String {
        [&text[..self.raw.start], raw, &text[self.raw.end..]].concat()
    }

    /// The text without the setting.
    pub(super) fn removed(&self, text: &str) -> String {
        [&text[..self.whole.start], &text[self.whole.end..]].concat()
    }
}

/// The text with the setting in front, where no table has begun.
pub(super) fn added(text: &str, raw: &str) -> String {
    let (mark, rest) = text.split_at(bom(text));
    let first = rest.split_inclusive('\n').next();
    let end = if first.is_some_and(|line| line.ends_with("\r\n")) { "\r\n" } else { "\n" };
    format!("{mark}{KEY} = {raw} {WHY}{end}{rest}")
}

/// A value as it stands in a text, for one that needs no escapes.
pub(super) fn quoted(value: &str) -> String {
    format!("{value:?}")
}

/// What a value says that stood in a text.
pub(super) fn value_of(raw: &str) -> Option<String> {
    Setting::find(&format!("{KEY} = {raw}")).ok()?.map(|setting| setting.value)
}

/// Whether the text chooses one of its profiles, as Codex's older versions let it.
pub(super) fn has_profile(text: &str) -> bool {
    parse(text).is_ok_and(|root| root.iter().any(|(key, _)| key.get_ref() == PROFILE))
}

fn parse(text: &str) -> Result<DeTable<'_>, SettingError> {
    DeTable::parse(text).map(toml::Spanned::into_inner).map_err(|error| SettingError::NotToml {
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        what: error.message().to_owned(),
    })
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}

/// How long the mark is that some editors put in front of a text.
fn bom(text: &str) -> usize {
    if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "http://127.0.0.1:1/x/backend-api";

    fn found(text: &str) -> Setting {
        Setting::find(text).unwrap().unwrap_or_else(|| panic!("nothing in {text:?}"))
    }

    #[test]
    fn a_setting_that_was_added_is_the_first_and_leaves_nothing_when_it_goes() {
        for text in [
            "",
            "\n",
            "# mine\n\nmodel = 'x' # the best\n\n[projects.\"/a\"]\ntrust_level = \"trusted\"\n",
            "model = 'x'",
            "[a]\nchatgpt_base_url = 'of a table'\n",
            "[profiles.x]\r\nchatgpt_base_url = 'https://p'\r\n",
            "\u{feff}model = 'x'\r\n",
            "\u{feff}",
        ] {
            let with = added(text, &quoted(URL));
            let setting = found(&with);
            assert_eq!((setting.value.as_str(), setting.line), (URL, 1), "{with:?}");
            assert_eq!(setting.removed(&with), text, "{with:?}");
            assert_eq!(with.matches("\r\n").count(), text.matches("\r\n").count() + usize::from(text.contains('\r')));
        }
    }

    #[test]
    fn a_value_that_was_there_comes_back_as_it_was_written() {
        for text in [
            "a = 1\nchatgpt_base_url='https://x/y'   # why\nb = 2\n",
            "\"chatgpt_base_url\"   =   \"https://x/y\"",
            "'chatgpt_base_url' = \"https:\\u002f/x/y\"\r\n[t]\r\n",
            "  chatgpt_base_url = '''https://x/y'''\n",
        ] {
            let setting = found(text);
            assert_eq!(setting.value, "https://x/y", "{text:?}");
            let before = setting.raw(text).to_owned();
            assert_eq!(value_of(&before).as_deref(), Some("https://x/y"));
            let ours = setting.replaced(text, &quoted(URL));
            assert_eq!(found(&ours).value, URL, "{ours:?}");
            assert_eq!(found(&ours).replaced(&ours, &before), text);
        }
    }

    #[test]
    fn what_is_no_toml_is_refused_with_its_line() {
        for (text, line) in [("a = 1\nb = \n", 2), ("a = 1\n\na = 2\n", 3), ("[t\n", 1)] {
            let refused = Setting::find(text).unwrap_err();
            assert!(matches!(refused, SettingError::NotToml { line: at, .. } if at == line), "{text:?}: {refused}");
        }
        assert_eq!(Setting::find("\n\nchatgpt_base_url = 7\n"), Err(SettingError::NotText { line: 3 }));
    }

    #[test]
    fn a_chosen_profile_is_seen_and_one_that_is_only_there_is_not() {
        assert!(has_profile("profile = 'x'\n[profiles.x]\n"));
        assert!(!has_profile("[profiles.x]\nprofile = 'y'\n"));
    }
}
