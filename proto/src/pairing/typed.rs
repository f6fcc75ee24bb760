//! What a person typed or pasted, without what only looks like something or came along.

/// The characters that are meant: without white space, dashes of any kind and what nobody can see, and with full-width
/// letters and digits as the ASCII ones that they are. For codes and digits, in which nothing else has a meaning.
pub(super) fn typed(text: &str) -> impl Iterator<Item = char> {
    copied(text).filter(|c| !is_dash(*c)).map(narrow)
}

/// An address as it was before it was copied: without white space, line breaks of a narrow terminal among it, and what
/// nobody can see. No address has any of that.
pub(super) fn copied(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|c| !c.is_whitespace() && !is_invisible(*c))
}

/// Hyphens, dashes and the minus sign, as keyboards and chat programs put them for one another.
fn is_dash(c: char) -> bool {
    matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}')
}

/// Soft hyphen, spaces without width, marks of direction, joiners and the byte order mark.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}'
        | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A full-width form (U+FF01 to U+FF5E) as the ASCII character that it is the form of.
fn narrow(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_is_left() {
        let meant = |text| typed(text).collect::<String>();
        assert_eq!(meant(" 1\u{200b}2–3\u{2212}4\n\u{feff}"), "1234");
        assert_eq!(meant("０１ａＺ－"), "01aZ");
        assert_eq!(meant("é!_"), "é!_", "what may mean something is kept, and refused by whoever reads it");
        assert_eq!(copied("https://a-b\r\n  c\u{202e}/#x\u{ad}").collect::<String>(), "https://a-bc/#x");
    }
}
