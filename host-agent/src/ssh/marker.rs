//! Words by which an answer of ours is found in whatever else a machine says.
//!
//! ```text
//! Welcome to devbox!                      ← the login shell
//! reachback-3f… codex 2f7573722f62…       ← a fact: its name, its value in hexadecimal
//! reachback-3f… end 31
//! ```
//!
//! A value may hold anything, line ends and the marker among them, and is still one.

use std::collections::HashMap;
use std::fmt;

use data_encoding::HEXLOWER;
use ring::rand::SystemRandom;

/// The longest value, in bytes: a path of Linux.
const MAX_VALUE: usize = 4096;

/// A word that nobody else says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marker([u8; 16]);

impl Marker {
    /// A new one; `None` when the operating system gives no randomness.
    pub(super) fn random() -> Option<Self> {
        reachback_proto::crypto::keys::random(&SystemRandom::new()).ok().map(Self)
    }

    /// Lines of a script that define `fact NAME VALUE`.
    pub(super) fn script(self) -> String {
        format!(
            "m={self}\nfact() {{ v=$(printf %s \"$2\" | od -An -v -tx1 | tr -d ' \\n'); printf '\\n%s %s %s\\n' \"$m\" \"$1\" \"$v\"; }}\n"
        )
    }

    /// The facts in what was said; `None` where the last one, `end`, is not among them.
    pub(super) fn facts(self, said: &[u8]) -> Option<Result<Facts, Unclear>> {
        let marker = format!("{self} ");
        let mut facts = HashMap::new();
        for line in said.split(|byte| *byte == b'\n') {
            let Some(fact) = line.strip_prefix(marker.as_bytes()) else { continue };
            match read(fact) {
                Ok((name, value)) => drop(facts.insert(name, value)),
                Err(unclear) => return Some(Err(unclear)),
            }
        }
        facts.remove("end").map(|_| Ok(Facts(facts)))
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reachback-{}", HEXLOWER.encode(&self.0))
    }
}

/// A fact that can't be read: its name, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unclear(pub String, pub &'static str);

/// What a machine says of itself.
#[derive(Debug, Default)]
pub(super) struct Facts(HashMap<String, Vec<u8>>);

impl Facts {
    /// One of them, where it is there and says something.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Unclear> {
        let Some(value) = self.0.get(name).filter(|value| !value.is_empty()) else { return Ok(None) };
        let text = str::from_utf8(value);
        text.map(Some).map_err(|_| unclear(name, "is not UTF-8"))
    }

    /// The same as a number; `None` when it is none.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.text(name).ok()??.parse().ok()
    }

    /// An absolute path, where it says one.
    pub(super) fn some_path(&self, name: &str) -> Result<Option<String>, Unclear> {
        match self.text(name)? {
            Some(path) if !path.starts_with('/') => Err(unclear(name, "is no absolute path")),
            path => Ok(path.map(str::to_owned)),
        }
    }

    /// An absolute path.
    pub(super) fn path(&self, name: &str) -> Result<String, Unclear> {
        self.some_path(name)?.ok_or_else(|| unclear(name, "is missing"))
    }

    /// What a program said, which may be anything.
    pub(super) fn said(&self, name: &str) -> &[u8] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }
}

fn unclear(name: &str, why: &'static str) -> Unclear {
    Unclear(name.chars().take(40).collect(), why)
}

/// `NAME HEX`.
fn read(fact: &[u8]) -> Result<(String, Vec<u8>), Unclear> {
    let fact = str::from_utf8(fact).map_err(|_| unclear("a fact", "is no text"))?;
    let (name, value) = fact.split_once(' ').ok_or_else(|| unclear(fact, "has no value"))?;
    if value.len() > 2 * MAX_VALUE {
        return Err(unclear(name, "is too long"));
    }
    let value = HEXLOWER.decode(value.as_bytes()).map_err(|_| unclear(name, "is not hexadecimal"))?;
    Ok((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn said(script: &str) -> (Marker, Vec<u8>) {
        let marker = Marker::random().unwrap();
        let script = format!("{}{script}", marker.script());
        (marker, Command::new("sh").arg("-c").arg(&script).output().unwrap().stdout)
    }

    #[test]
    fn facts_are_found_among_whatever_else_is_said() {
        let (marker, said) = said(
            r#"printf 'Welcome! 50%% off'; fact one "$(printf 'a\nb %s c\033[2J' "$m")"; echo "x $m one 41"
               fact none ''; fact far "it's \ üñ"; printf noise; fact end 1; echo bye"#,
        );
        let facts = marker.facts(&said).unwrap().unwrap();
        assert_eq!(facts.text("one"), Ok(Some(&*format!("a\nb {marker} c\u{1b}[2J"))));
        assert_eq!((facts.text("far"), facts.text("none")), (Ok(Some(r"it's \ üñ")), Ok(None)));
    }

    #[test]
    fn what_can_not_be_read_is_refused_by_name() {
        let (marker, cut) = said("fact one 1");
        assert!(marker.facts(&cut).is_none());
        assert!(Marker::random().unwrap().facts(&cut).is_none(), "facts of another marker were taken");
        for (script, why) in [
            (r#"echo; echo "$m home 2f6""#, Unclear("home".into(), "is not hexadecimal")),
            (r#"echo; echo "$m home 2F""#, Unclear("home".into(), "is not hexadecimal")),
            (r#"echo; echo "$m home""#, Unclear("home".into(), "has no value")),
            (r#"fact home "$(printf '%05000d' 1)""#, Unclear("home".into(), "is too long")),
            (r#"echo; printf '%s \377\n' "$m""#, Unclear("a fact".into(), "is no text")),
        ] {
            let (marker, said) = said(&format!("{script}; fact end 1"));
            assert_eq!(marker.facts(&said).unwrap().unwrap_err(), why, "{script}");
        }
        let (marker, said) = said(r#"fact home ./x; fact far "$(printf '/\377')"; fact end 1"#);
        let facts = marker.facts(&said).unwrap().unwrap();
        assert_eq!(facts.path("home"), Err(Unclear("home".into(), "is no absolute path")));
        assert_eq!(facts.path("far"), Err(Unclear("far".into(), "is not UTF-8")));
        assert_eq!((facts.said("far"), facts.said("none")), (&b"/\xff"[..], &b""[..]));
        assert_eq!(facts.path("codex"), Err(Unclear("codex".into(), "is missing")));
    }

    #[test]
    fn arbitrary_answers_never_panic() {
        let marker = Marker([7; 16]);
        for tail in [&b""[..], b" ", b"  ", b" a", b" a ", b" a b c", b" end ", b" \xff\xfe 00", b" end zz\n"] {
            let said = [marker.to_string().as_bytes(), tail, b"\n"].concat();
            let _ = marker.facts(&said).map(|facts| facts.map(|facts| facts.number("a")));
        }
    }
}
