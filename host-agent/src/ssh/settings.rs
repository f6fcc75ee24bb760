//! What a name means to OpenSSH: the answer of `ssh -G`.
//!
//! `ssh` is asked for names that [`super::aliases`] found, and for nothing else: a
//! name from elsewhere could be an option, and `Match exec` runs commands.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use reachback_proto::words::{printable, quote};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::way::Jump;
use crate::platform::processes::Group;
use crate::platform::programs;

/// `ssh -G` reads files, which takes milliseconds, and runs what `Match exec` names.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// What is read of an answer, in bytes; OpenSSH 9.2 says some 4 KiB.
const MAX_ANSWER: u64 = 1 << 20;
/// What is kept of an error, in bytes.
const MAX_SAID: u64 = 4096;

/// How `ssh` is run.
#[derive(Debug, Clone)]
pub(super) struct Ssh {
    /// The program.
    pub program: PathBuf,
    /// `-F`: the one file that it reads, in place of the user's and the system's.
    pub config: Option<PathBuf>,
    /// How long an answer may take.
    pub patience: Duration,
}

/// `ssh -G` gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// It could not be run.
    #[error("could not run {}: {reason}", quote(program.display()))]
    Run {
        /// The program.
        program: PathBuf,
        /// Why not.
        reason: String,
    },
    /// It refused, in its own words.
    #[error("ssh does not take it: {said}")]
    Refused {
        /// The last line that it wrote and that says something.
        said: String,
    },
    /// It took too long.
    #[error("ssh -G did not answer within {} s: a command of `Match exec` may be waiting", after.as_secs())]
    TimedOut {
        /// How long.
        after: Duration,
    },
    /// What it said is no answer.
    #[error("ssh -G gave no host name and port")]
    Unclear,
}

/// What OpenSSH would do for a name: keywords of ssh_config(5) in lower case, with their values in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    values: HashMap<String, Vec<String>>,
}

impl Settings {
    /// Asks OpenSSH.
    pub(super) async fn of(ssh: &Ssh, name: &Jump) -> Result<Self, SettingsError> {
        let mut command = programs::command(&ssh.program);
        command.args(ssh.config.iter().flat_map(|file| [OsString::from("-F"), file.into()]));
        command.arg("-G");
        command.args(name.user.iter().flat_map(|user| ["-l", user]));
        command.args(name.port.iter().flat_map(|port| ["-p".to_owned(), port.to_string()]));
        command.args(["--", &name.host]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        // What `Match exec` runs ends with it.
        Group::own(&mut command);
        let failed =
            |error: std::io::Error| SettingsError::Run { program: ssh.program.clone(), reason: error.to_string() };
        let mut child = command.spawn().map_err(failed)?;
        let group = child.id().and_then(Group::led_by);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (mut answer, mut said) = (Vec::new(), Vec::new());
        let talk = async {
            let stdout = async {
                match stdout {
                    Some(stdout) => stdout.take(MAX_ANSWER).read_to_end(&mut answer).await,
                    None => Ok(0),
                }
            };
            let stderr = async {
                match stderr {
                    Some(stderr) => stderr.take(MAX_SAID).read_to_end(&mut said).await,
                    None => Ok(0),
                }
            };
            tokio::try_join!(stdout, stderr)?;
            child.wait().await
        };
        let status = match timeout(ssh.patience, talk).await {
            Ok(status) => status.map_err(failed)?,
            Err(_) => {
                if let Some(group) = group {
                    group.kill();
                }
                return Err(SettingsError::TimedOut { after: ssh.patience });
            }
        };
        if !status.success() {
            let said = String::from_utf8_lossy(&said);
            // The last line of an error in a file only counts how many there were.
            let says = |line: &&str| !line.trim().is_empty() && !line.contains("bad configuration options");
            let line = said.lines().rev().find(says).unwrap_or("it says nothing");
            return Err(SettingsError::Refused { said: printable(line.trim()) });
        }
        let settings = Self::parse(&String::from_utf8_lossy(&answer));
        if settings.first("hostname").is_none() || settings.port().is_none() {
            return Err(SettingsError::Unclear);
        }
        Ok(settings)
    }

    /// What OpenSSH does where no file says anything.
    pub(super) async fn usual(ssh: &Ssh) -> Result<Self, SettingsError> {
        let nothing = Ssh { config: Some(PathBuf::from("none")), ..ssh.clone() };
        Self::of(&nothing, &Jump { user: None, host: "localhost".to_owned(), port: None }).await
    }

    /// Leaves out what these keywords have from nobody: their values are the usual ones.
    pub(super) fn without_usual(mut self, usual: &Self, keywords: &[&str]) -> Self {
        let is_said = |keyword: &str, values: &Vec<String>| usual.values.get(keyword) != Some(values);
        self.values.retain(|keyword, values| !keywords.contains(&&**keyword) || is_said(keyword, values));
        self
    }

    /// Reads lines of `keyword value`.
    pub(super) fn parse(answer: &str) -> Self {
        let mut values: HashMap<String, Vec<String>> = HashMap::new();
        for line in answer.lines() {
            if let Some((keyword, value)) = line.split_once(' ') {
                values.entry(keyword.to_owned()).or_default().push(value.trim().to_owned());
            }
        }
        Self { values }
    }

    /// The value of a keyword as it is written.
    pub(super) fn first(&self, keyword: &str) -> Option<&str> {
        self.values.get(keyword)?.first().map(String::as_str)
    }

    /// The value of a keyword; nothing for `none`, which OpenSSH says where nothing is set.
    pub(super) fn one(&self, keyword: &str) -> Option<&str> {
        self.first(keyword).filter(|value| !value.eq_ignore_ascii_case("none"))
    }

    /// All values of a keyword that may be there several times.
    pub(super) fn all(&self, keyword: &str) -> impl Iterator<Item = &str> {
        self.values
            .get(keyword)
            .into_iter()
            .flatten()
            .map(String::as_str)
            .filter(|value| !value.eq_ignore_ascii_case("none"))
    }

    /// Names that stand in one line, parted by commas; `None` where there is no such line.
    pub(super) fn names(&self, keyword: &str) -> Option<Vec<&str>> {
        Some(self.first(keyword)?.split(',').collect())
    }

    /// Whether a keyword is on.
    pub(super) fn is_on(&self, keyword: &str) -> bool {
        matches!(self.first(keyword), Some("yes" | "true" | "unbound" | "host-bound"))
    }

    /// A time that is set; nothing for zero, which switches it off.
    pub(super) fn seconds(&self, keyword: &str) -> Option<Duration> {
        self.one(keyword)?.parse().ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
    }

    /// Paths that stand in one line, parted by blanks. One may hold blanks itself: each begins at the root or at home.
    pub(super) fn paths(&self, keyword: &str) -> Vec<String> {
        let mut paths: Vec<String> = Vec::new();
        for word in self.one(keyword).unwrap_or_default().split(' ') {
            match paths.last_mut() {
                Some(path) if !word.starts_with(['/', '~', '%', '$']) => {
                    path.push(' ');
                    path.push_str(word);
                }
                _ => paths.push(word.to_owned()),
            }
        }
        paths.retain(|path| !path.is_empty());
        paths
    }

    /// What the machine is called where its key is looked up.
    pub fn host_key_alias(&self) -> Option<&str> {
        self.one("hostkeyalias")
    }

    /// The machine's name or address in the network.
    pub fn host_name(&self) -> &str {
        self.first("hostname").unwrap_or_default()
    }

    /// Its port.
    pub fn port(&self) -> Option<u16> {
        self.first("port")?.parse().ok()
    }

    /// Who one is there.
    pub fn user(&self) -> &str {
        self.first("user").unwrap_or_default()
    }

    /// The machines on the way there, `[user@]host[:port]`, as `ProxyJump` has them, the first one first.
    pub fn jumps(&self) -> Vec<&str> {
        self.one("proxyjump").into_iter().flat_map(|jumps| jumps.split(',')).map(str::trim).collect()
    }

    /// The command that carries the connection in place of the network; it is the user's own.
    pub fn proxy_command(&self) -> Option<&str> {
        self.one("proxycommand")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_openssh_writes_them() {
        let settings = Settings::parse(
            "host devbox\nuser me\nhostname 10.0.0.1\nport 2222\nproxyjump a@one:22,two\nidentityfile ~/.ssh/a\nidentityfile ~/.ssh/b\nproxycommand none\nodd\n",
        );
        assert_eq!((settings.user(), settings.host_name(), settings.port()), ("me", "10.0.0.1", Some(2222)));
        assert_eq!(settings.jumps(), ["a@one:22", "two"]);
        assert_eq!(settings.proxy_command(), None);
        let paths = Settings::parse("userknownhostsfile /home/a/.ssh/kh /tmp/k h ~/x\nglobalknownhostsfile none\n");
        assert_eq!(paths.paths("userknownhostsfile"), ["/home/a/.ssh/kh", "/tmp/k h", "~/x"]);
        assert!(paths.paths("globalknownhostsfile").is_empty());
        let none = Settings::parse("proxyjump none\nport 70000\n");
        assert!(none.jumps().is_empty());
        assert_eq!(none.port(), None);
    }
}
