//! What a service said: the journal of systemd.

use std::process::ExitStatus;

use clap::Args;
use tokio::process::Command;

/// How much of the journal is shown.
#[derive(Debug, Clone, Args)]
pub struct Journal {
    /// Go on with what is logged from now on.
    #[arg(short, long)]
    follow: bool,
    /// How many lines.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 200)]
    lines: u32,
}

/// Whose journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of<'a> {
    /// A unit of the machine's.
    System(&'a str),
    /// A unit of this user's.
    User(&'a str),
}

/// There is no journal to show.
#[derive(Debug, thiserror::Error)]
#[error("journalctl does not run: {0}")]
pub struct NoJournal(#[source] std::io::Error);

impl NoJournal {
    /// What a person can do about it.
    pub const FIX: &'static str = "where there is no systemd, the log is what the program writes to standard error";
}

impl Journal {
    /// Shows it on standard output, as `journalctl` does; `json` as its JSON. It shares the terminal, so that Ctrl-C
    /// reaches it.
    ///
    /// # Errors
    /// It can't be run.
    pub async fn show(&self, of: Of<'_>, json: bool) -> Result<ExitStatus, NoJournal> {
        let mut command = Command::new("journalctl");
        command.args(self.arguments(of, json)).kill_on_drop(true).status().await.map_err(NoJournal)
    }

    fn arguments(&self, of: Of<'_>, json: bool) -> Vec<String> {
        let unit = match of {
            Of::System(unit) => format!("--unit={unit}"),
            Of::User(unit) => format!("--user-unit={unit}"),
        };
        let mut arguments = vec!["--no-pager".to_owned(), format!("--lines={}", self.lines), unit];
        arguments.extend(self.follow.then(|| "--follow".to_owned()));
        arguments.extend(json.then(|| "--output=json".to_owned()));
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_the_unit() {
        let journal = Journal { follow: true, lines: 7 };
        let words = |of, json| journal.arguments(of, json).join(" ");
        assert_eq!(words(Of::System("a.service"), false), "--no-pager --lines=7 --unit=a.service --follow");
        assert_eq!(
            words(Of::User("a.service"), true),
            "--no-pager --lines=7 --user-unit=a.service --follow --output=json"
        );
    }
}
