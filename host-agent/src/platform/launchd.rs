//! The agent for launchd, which starts programs on macOS.
//!
//! Not tried: Reachback is tested on Linux only. That it has the form of a property
//! list, and that the sample in `deploy/` is what this makes, is what tests here say.

use super::xml::escaped;

/// The name that launchd knows it by; the file is called the same, with `.plist`.
const LABEL: &str = "com.reachback.host";

/// A property list for `~/Library/LaunchAgents`: runs `words` at each login, again after a failure, with `environment`;
/// `home` is the user's folder.
pub(crate) fn agent(words: &[impl AsRef<str>], environment: &[(&str, String)], home: &str) -> String {
    let words: String =
        words.iter().map(|word| format!("        <string>{}</string>\n", escaped(word.as_ref()))).collect();
    let variable = |(name, value): &(&str, String)| {
        format!("        <key>{name}</key>\n        <string>{}</string>\n", escaped(value))
    };
    let environment: String = environment.iter().map(variable).collect();
    let home = escaped(home);
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
    <key>Label</key>
    <string>{LABEL}</string>
    <key>ProgramArguments</key>
    <array>
{words}    </array>
    <key>EnvironmentVariables</key>
    <dict>
{environment}    </dict>
    <key>WorkingDirectory</key>
    <string>{home}</string>
    <key>RunAtLoad</key>
    <true/>
    <key>KeepAlive</key>
    <dict>
        <key>SuccessfulExit</key>
        <false/>
    </dict>
    <key>ExitTimeOut</key>
    <integer>30</integer>
    <key>StandardErrorPath</key>
    <string>{home}/Library/Logs/reachback-host.log</string>
</dict>
</plist>
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::xml::check_form;

    #[test]
    fn the_sample_for_launchd_is_what_is_made() {
        let sample = include_str!("../../../deploy/com.reachback.host.plist");
        let (head, rest) = sample.split_once("<!-- ").unwrap();
        let (_, body) = rest.split_once("-->\n").unwrap();
        let words = ["/usr/local/bin/reachback", "host", "--log", "info"];
        let made = agent(&words, &[("PATH", "/opt/homebrew/bin:/usr/local/bin:/usr/bin:/bin".into())], "/Users/NAME");
        assert_eq!(made, format!("{head}{body}"));
    }

    #[test]
    fn names_that_look_like_markup_stay_names() {
        let made = agent(&["/Users/a&b/<x>", "--name", "\"Ann's\""], &[("PATH", "/bin".into())], "/Users/a&b");
        check_form(&made);
        assert!(made.contains("<string>/Users/a&amp;b/&lt;x&gt;</string>"), "{made}");
    }
}
