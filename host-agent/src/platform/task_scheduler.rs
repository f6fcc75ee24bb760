//! The agent for the task scheduler of Windows.
//!
//! Not tried: the agent does not run on Windows yet, as it lacks the local socket there.
//! That it has the form of a task is what tests here say.

use super::xml::escaped;

/// A task for `schtasks /Create /TN Reachback /XML FILE`: runs `words` when the user logs on, again a minute after a failure,
/// without a limit of time, on battery, too, and one at a time.
pub(crate) fn task(words: &[impl AsRef<str>]) -> String {
    let mut words = words.iter().map(AsRef::as_ref);
    let program = escaped(words.next().unwrap_or_default());
    let arguments = escaped(&words.map(argument).collect::<Vec<_>>().join(" "));
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>Reachback host agent</Description>
  </RegistrationInfo>
  <Triggers>
    <LogonTrigger>
      <Enabled>true</Enabled>
    </LogonTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author">
      <LogonType>InteractiveToken</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <RestartOnFailure>
      <Interval>PT1M</Interval>
      <Count>999</Count>
    </RestartOnFailure>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>{program}</Command>
      <Arguments>{arguments}</Arguments>
    </Exec>
  </Actions>
</Task>
"#
    )
}

/// A word as Windows programs take their command line apart: backslashes count only in front of a quotation mark.
fn argument(word: &str) -> String {
    if !word.is_empty() && !word.contains([' ', '\t', '"']) {
        return word.to_owned();
    }
    let mut quoted = String::from('"');
    let mut slashes = 0;
    for c in word.chars() {
        if c == '"' {
            quoted.push_str(&"\\".repeat(slashes + 1));
        }
        slashes = if c == '\\' { slashes + 1 } else { 0 };
        quoted.push(c);
    }
    quoted.push_str(&"\\".repeat(slashes));
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::xml::check_form;

    #[test]
    fn a_task_has_its_program_and_words() {
        let made = task(&[r"C:\Program Files\a&b\reachback.exe", "host", "--workspace", r"D:\my shop\"]);
        check_form(&made);
        assert!(made.contains(r"<Command>C:\Program Files\a&amp;b\reachback.exe</Command>"), "{made}");
        assert!(made.contains(r#"<Arguments>host --workspace &quot;D:\my shop\\&quot;</Arguments>"#), "{made}");
    }

    #[test]
    fn words_are_quoted_as_windows_takes_them_apart() {
        for (word, quoted) in [
            ("plain", "plain"),
            (r"C:\x\", r"C:\x\"),
            ("", r#""""#),
            ("two words", r#""two words""#),
            (r#"say "x""#, r#""say \"x\"""#),
            (r#"a\" b"#, r#""a\\\" b""#),
        ] {
            assert_eq!(argument(word), quoted);
        }
    }
}
