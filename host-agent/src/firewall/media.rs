//! Images and sound: inline on their way to Codex, left out on their way back.
//!
//! Codex never opens a file that a device names: a sandboxed command could swap
//! it for a link between a check here and Codex's own, unsandboxed open. So what
//! is attached comes along as a `data:` URL, and Codex takes nothing else from a
//! URL (it passes other texts on to the model as they are; measured on 0.169.0).
//!
//! Codex repeats such a URL in full in every item, list and notification that
//! shows the prompt. Nobody needs the bytes back, and a phone on a train pays
//! for them twice, so they are left out of what goes to devices.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem;

/// Longest `data:` URL that a device may send, in bytes. Codex itself has no limit below its 64 MiB for a message.
pub(super) const MAX_DATA_URL: usize = 8 << 20;

/// Longest media type that is recognised; `audio/vnd.dolby.heaac.1` has 24.
const MAX_TYPE: usize = 64;

/// Where a text may begin that is such a URL. Made once: it is looked for in every message.
static URL: LazyLock<memmem::Finder<'_>> = LazyLock::new(|| memmem::Finder::new(b"\"data:"));

const BASE64: &[u8] = b";base64,";

/// Whether this is a `data:` URL that holds an image of a kind that Codex decodes.
pub(super) fn is_image(url: &str) -> bool {
    inline(url).is_some_and(|media| matches!(media, "image/png" | "image/jpeg" | "image/gif" | "image/webp"))
}

/// Whether this is a `data:` URL that holds sound.
pub(super) fn is_audio(url: &str) -> bool {
    inline(url).and_then(|media| media.strip_prefix("audio/")).is_some_and(|kind| !kind.is_empty())
}

/// The media type of a `data:` URL in base64 that is not too long.
fn inline(url: &str) -> Option<&str> {
    let (media, data) = url.strip_prefix("data:")?.split_once(";base64,")?;
    (url.len() <= MAX_DATA_URL && media.bytes().all(is_type) && data.bytes().all(is_base64)).then_some(media)
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

/// Whether a byte may be in a media type without parameters.
fn is_type(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'+' | b'-')
}

/// A message of Codex without the bytes of its `data:` URLs for images and sound: what is left of each ends at the comma.
///
/// Works on the text as it is. Where a quote is not escaped and `data:` follows, a string begins there: after one that ends a
/// string comes a comma, a colon, a bracket or a brace.
pub(super) fn without_bytes(message: Bytes) -> Bytes {
    let mut out = Vec::new();
    let mut done = 0;
    for quote in URL.find_iter(&message) {
        if quote < done || is_escaped(&message, quote) {
            continue;
        }
        let Some(start) = payload(&message, quote + 1) else { continue };
        let Some(length) = message[start..].iter().position(|byte| !is_base64(*byte)) else { break };
        let end = start + length;
        if end > start {
            out.extend_from_slice(&message[done..start]);
            done = end;
        }
    }
    if done == 0 {
        return message;
    }
    out.extend_from_slice(&message[done..]);
    out.into()
}

/// Where the data begin in a `data:` URL for an image or sound that begins at `start`.
fn payload(message: &[u8], start: usize) -> Option<usize> {
    let media = &message[start + "data:".len()..];
    if !media.starts_with(b"image/") && !media.starts_with(b"audio/") {
        return None;
    }
    let length = media.iter().take(MAX_TYPE).position(|byte| !is_type(*byte))?;
    media[length..].starts_with(BASE64).then_some(start + "data:".len() + length + BASE64.len())
}

/// Whether the quote at this place is inside a string.
fn is_escaped(message: &[u8], quote: usize) -> bool {
    message[..quote].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn images_and_sound_come_inline_and_as_nothing_else() {
        for url in [
            "data:image/png;base64,AA==",
            "data:image/jpeg;base64,",
            "data:image/webp;base64,+/9",
            "data:image/gif;base64,A",
        ] {
            assert!(is_image(url) && !is_audio(url), "{url}");
        }
        assert!(is_audio("data:audio/wav;base64,AA==") && !is_image("data:audio/wav;base64,AA=="));
        for url in [
            "",
            "data:",
            "data:,",
            "file:///etc/shadow",
            "/etc/shadow",
            "https://example.com/a.png",
            " data:image/png;base64,AA==",
            "DATA:image/png;base64,AA==",
            "data:image/png,AA",
            "data:image/svg+xml;base64,AA==",
            "data:image/png;x=y;base64,AA==",
            "data:text/plain;base64,AA==",
            "data:;base64,AA==",
            "data:image/png;base64,A A",
            "data:image/png;base64,A\n",
            "data:image/png;base64,\u{e9}",
            "data:audio/;base64,AA==",
            "data:audio;base64,AA==",
        ] {
            assert!(!is_image(url) && !is_audio(url), "{url:?} passed");
        }
        let long =
            |length: usize| format!("data:image/png;base64,{}", "A".repeat(length - "data:image/png;base64,".len()));
        assert!(is_image(&long(MAX_DATA_URL)) && !is_image(&long(MAX_DATA_URL + 1)));
    }

    fn left(message: &Value) -> Value {
        serde_json::from_slice(&without_bytes(message.to_string().into())).expect("it is still JSON")
    }

    #[test]
    fn the_bytes_of_what_was_attached_do_not_come_back() {
        let shown = json!({"a": ["data:image/png;base64,AAAA", {"url": "data:audio/wav;base64,BBBB="}], "b": "data:image/x;base64,"});
        let wanted =
            json!({"a": ["data:image/png;base64,", {"url": "data:audio/wav;base64,"}], "b": "data:image/x;base64,"});
        assert_eq!(left(&shown), wanted);
        for whole in [
            json!({"text": "\"data:image/png;base64,AAAA\""}),
            json!({"text": "\\\"data:image/png;base64,AAAA"}),
            json!({"text": "see data:image/png;base64,AAAA"}),
            json!({"text": "data:text/plain;base64,AAAA"}),
            json!({"text": "data:image/png,AAAA", "data:": 1}),
        ] {
            assert_eq!(left(&whole), whole);
        }
        assert_eq!(
            left(&json!(["data:image/png;base64,AAAA\" and more"])),
            json!(["data:image/png;base64,\" and more"])
        );
        // A backslash that ends the string before is not one that escapes the quote.
        assert_eq!(left(&json!(["\\", "data:image/png;base64,AAAA"])), json!(["\\", "data:image/png;base64,"]));
    }

    #[test]
    fn half_a_message_is_left_alone() {
        for half in ["\"data:image/png;base64,AAAA", "\"data:image/", "\"data:image/png;base64", "\"data:"] {
            assert_eq!(&without_bytes(Bytes::from(half))[..], half.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn nothing_else_changes(texts in proptest::collection::vec("[a-z\"\\\\:/;,]{0,12}|data:image/png;base64,[A-Z]{0,6}", 0..8)) {
            let wanted: Vec<String> = texts
                .iter()
                .map(|text| if text.starts_with("data:image/png;base64,") { "data:image/png;base64,".to_owned() } else { text.clone() })
                .collect();
            prop_assert_eq!(left(&json!(texts)), json!(wanted));
        }
    }
}
