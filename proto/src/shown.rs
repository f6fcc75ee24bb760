//! What a person was shown before they answered, as one digest.
//!
//! The host sends an ordered list of texts for each request of Codex; the
//! answer carries [`digest`] of the list that the person saw. So an answer
//! never meets a request that says something else by now: another command,
//! another diff, another folder.
//!
//! ```text
//!   digest = SHA-256( label ‖ for each text: length (8 bytes, big-endian) ‖ UTF-8 )
//! ```
//!
//! The lengths keep texts apart: what moves from the end of one to the start
//! of the next makes another digest.

use ring::digest::{Context, SHA256};

/// What the digest begins with, so that it is never the digest of something else.
pub const LABEL: &str = "reachback shown v1";

/// The digest of these texts, in this order.
pub fn digest<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(LABEL.as_bytes());
    for text in texts {
        let text = text.as_ref().as_bytes();
        context.update(&(text.len() as u64).to_be_bytes());
        context.update(text);
    }
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_moves_or_is_cut_elsewhere_makes_another_digest() {
        let lists: [&[&str]; 8] =
            [&[], &[""], &["", ""], &["ab", "c"], &["a", "bc"], &["abc"], &["c", "ab"], &["abc", ""]];
        for (at, list) in lists.iter().enumerate() {
            assert!(lists[..at].iter().all(|other| digest(*other) != digest(*list)), "{list:?}");
        }
    }
}
