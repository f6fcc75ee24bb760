//! Patterns as OpenSSH writes them: `*` for any text, `?` for one character, `!` in front of what shall not match.
//!
//! ssh_config(5), PATTERNS; `match_pattern` and `match_pattern_list` of OpenSSH's `match.c`.

/// Whether the text is what the pattern describes. Both are compared as bytes, as OpenSSH does.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go on when what followed the last `*` did not match: it takes one byte more. One place is enough, as the
    // last `*` may take whatever an earlier one could.
    let mut again: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                again = Some((p, t));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match &mut again {
                Some((star, taken)) => {
                    *taken += 1;
                    (p, t) = (*star + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Whether one of the patterns matches and none that is negated does.
pub(super) fn list_matches<'a>(patterns: impl IntoIterator<Item = &'a str>, text: &str) -> bool {
    let mut positive = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(not) if matches(not, text) => return false,
            Some(_) => {}
            None => positive |= matches(pattern, text),
        }
    }
    positive
}

/// Whether this is a pattern, and not simply a name.
pub(super) fn is_pattern(word: &str) -> bool {
    word.starts_with('!') || word.contains(['*', '?'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_match_as_in_openssh() {
        for (pattern, text) in [
            ("", ""),
            ("*", ""),
            ("*", "x"),
            ("a*", "a"),
            ("*.example.com", "a.b.example.com"),
            ("?", "x"),
            ("a?c*", "abcd"),
            ("**b", "aab"),
            ("*ab", "aaab"),
            ("10.0.?.*", "10.0.1.22"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "x"),
            ("?", ""),
            ("?", "xy"),
            ("a", "A"),
            ("*.example.com", "example.com"),
            ("a*b", "abc"),
            ("a?", "a"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_negated_pattern_takes_back_and_alone_gives_nothing() {
        assert!(list_matches(["*.example.com", "!old.example.com"], "new.example.com"));
        assert!(!list_matches(["*.example.com", "!old.example.com"], "old.example.com"));
        assert!(!list_matches(["!old.example.com", "*"], "old.example.com"));
        assert!(!list_matches(["!old"], "new"));
        assert!(!list_matches([], "new"));
    }

    #[test]
    fn a_pattern_of_many_stars_is_decided() {
        // With a place kept for every star this would take longer than the machine lasts.
        assert!(!matches(&format!("{}c", "a*".repeat(500)), &"a".repeat(2000)));
    }
}
