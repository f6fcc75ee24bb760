//! Text in the XML files that other systems' service managers read.

/// `text` between tags; characters that XML has no way to say are left out.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' | '\n' => escaped.push(c),
            c if c.is_control() => {}
            c => escaped.push(c),
        }
    }
    escaped
}

/// Panics unless every tag is closed by its own, in order, and no text has a character of markup in it.
#[cfg(test)]
pub(super) fn check_form(xml: &str) {
    let mut open: Vec<&str> = Vec::new();
    for piece in xml.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').expect("a tag ends");
        assert!(!text.contains('>'), "markup in the text {text:?}");
        for reference in text.split('&').skip(1) {
            assert!(["amp;", "lt;", "gt;", "quot;"].iter().any(|known| reference.starts_with(known)), "{text:?}");
        }
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closed in another order");
        } else if !tag.starts_with(['?', '!']) && !tag.ends_with('/') {
            open.push(tag.split(' ').next().unwrap_or_default());
        }
    }
    assert_eq!(open, [""; 0], "not closed");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_markup_and_says_what_can_be_said() {
        assert_eq!(escaped("a<b>&\"c\"\u{1}\u{7f}"), "a&lt;b&gt;&amp;&quot;c&quot;");
    }

    #[test]
    #[should_panic(expected = "closed in another order")]
    fn what_is_closed_in_another_order_has_no_form() {
        check_form("<a><b></a></b>");
    }
}
