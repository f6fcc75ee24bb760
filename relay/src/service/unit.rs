//! The text of a unit: a sample of `deploy/` with what belongs to this machine in it.
//!
//! So what a person reads there is what is written, line by line, but for the lines
//! that a caller sets or leaves out. The first line of what is written says by which
//! command, and is how that command knows its own file again.

/// `deploy/reachback-host.service`.
pub const HOST: &str = include_str!("../../../deploy/reachback-host.service");
/// `deploy/reachback-relay.service`.
pub const RELAY: &str = include_str!("../../../deploy/reachback-relay.service");

/// What the first line of our units begins with.
const MARK: &str = "# Written by `";

/// A unit in the making.
#[derive(Debug, Clone)]
pub struct Draft {
    lines: Vec<String>,
}

impl Draft {
    /// A sample as `command` writes it: in place of the comment in front, it says who wrote it.
    pub fn of(sample: &str, command: &str) -> Self {
        let mark = format!(
            "{MARK}{command} install`: the next one writes it anew, and `{command} uninstall` removes it. Changes of your own \
             go to a drop-in (systemctl edit)."
        );
        let body = sample.lines().skip_while(|line| line.starts_with('#')).map(str::to_owned);
        Self { lines: std::iter::once(mark).chain(body).collect() }
    }

    /// Gives a line of the sample another value, or puts one to use that is commented out there.
    ///
    /// # Panics
    ///
    /// When the sample has no such line: the code and the sample belong together.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        let is_it = |line: &&mut String| {
            line.trim_start_matches('#').strip_prefix(key).is_some_and(|rest| rest.starts_with('='))
        };
        let line = self.lines.iter_mut().find(is_it).unwrap_or_else(|| panic!("the sample has a line {key}="));
        *line = format!("{key}={value}");
        self
    }

    /// The same without lines of these keys, and without the comments right above them.
    #[must_use]
    pub fn without(self, keys: &[&str]) -> Self {
        let mut lines: Vec<String> = Vec::new();
        for line in self.lines {
            let key = line.trim_start_matches('#').split('=').next().unwrap_or_default();
            if !keys.contains(&key) {
                lines.push(line);
                continue;
            }
            // The first line is our mark.
            while lines.len() > 1 && lines.last().is_some_and(|above| above.starts_with("# ")) {
                lines.pop();
            }
        }
        Self { lines }
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let mut text = self.lines.join("\n");
        text.push('\n');
        text
    }
}

/// Whether this is the text of a unit that `install` wrote.
pub fn is_ours(text: &str) -> bool {
    text.starts_with(MARK)
}

/// A command line as `ExecStart` takes it: each word comes to the program as it is here.
pub fn command_line<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(word).collect::<Vec<_>>().join(" ")
}

/// A variable as `Environment` takes it.
pub fn assignment(name: &str, value: &str) -> String {
    quoted(&format!("{name}={value}"))
}

/// One word of a command line. A dollar is no variable there.
fn word(text: &str) -> String {
    quoted(&text.replace('$', "$$"))
}

/// A word of a unit, in quotes where systemd would else read something into it.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+[]@".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '%' => quoted.push_str("%%"),
            c if c.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> Vec<&str> {
        text.lines().skip_while(|line| line.starts_with('#')).collect()
    }

    #[test]
    fn a_unit_is_its_sample_but_for_the_first_lines_and_those_that_are_set() {
        for (sample, command) in [(HOST, "reachback host"), (RELAY, "reachback-relay")] {
            let draft = Draft::of(sample, command);
            assert_eq!(body(&draft.text()), body(sample));
            assert!(is_ours(&draft.text()) && !is_ours(sample), "a sample put there by hand is its owner's");
            let set = draft.set("ExecStart", "/usr/bin/true").text();
            let changed: Vec<_> =
                body(&set).into_iter().zip(body(sample)).filter(|(ours, theirs)| ours != theirs).collect();
            assert!(matches!(changed[..], [("ExecStart=/usr/bin/true", _)]), "{changed:?}");
        }
    }

    #[test]
    fn what_is_commented_out_is_put_to_use_and_what_is_left_out_takes_its_comment_along() {
        let draft =
            Draft::of("# Sample\n[Service]\n# Why.\n#Ambient=no\nUser=x\n# Because.\n# Of that.\nLimit=1\nA=b\n", "x");
        let text = draft.set("Ambient", "yes").without(&["Limit", "User"]).text();
        assert_eq!(body(&text), ["[Service]", "# Why.", "Ambient=yes", "A=b"]);
    }

    #[test]
    fn words_come_to_the_program_as_they_are() {
        assert_eq!(command_line(["/usr/bin/x", "--listen", "[::]:443"]), "/usr/bin/x --listen [::]:443");
        assert_eq!(word(""), r#""""#);
        assert_eq!(word("my files/100%"), r#""my files/100%%""#);
        assert_eq!(word("$HOME"), r#""$$HOME""#);
        assert_eq!(word(r#"a"b\c"#), r#""a\"b\\c""#);
        assert_eq!(word("a\nb"), r#""a\x0ab""#);
        assert_eq!(word(";"), r#"";""#);
        assert_eq!(assignment("PATH", "/a b:/$c"), r#""PATH=/a b:/$c""#);
    }
}
