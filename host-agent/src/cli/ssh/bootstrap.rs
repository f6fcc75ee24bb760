//! `reachback ssh bootstrap NAME --install`: a Codex for a machine that has none, or one that is too old.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reachback_proto::words::{printable, quote, shell_word};

use super::{connect, failure_there, find_codex, tell_codex, tell_way};
use crate::cli::output::Output;
use crate::local_api::{Event, Failure, SshInstalled, SshInstalling, SshSwept};
use crate::platform::signals::stop_wanted;
use crate::ssh::{BootstrapError, By, CODEX_VERSION, Connection, Discovery, InstallError, Installed, Step, Swept};

/// How wide a bar is, in characters.
const BAR: u64 = 30;
/// How many events say how far the package is.
const EVENTS: u64 = 20;

/// Installs Codex there, where the one that is there can't be used; says which one is there then.
pub(super) async fn install(discovery: &Discovery, name: &str, output: Output) -> anyhow::Result<ExitCode> {
    let connection = connect(discovery, name, &Arc::default(), output).await?;
    tell_way(connection.about().clone(), name, output);
    let done = tokio::select! {
        done = where_needed(&connection, name, output) => done,
        () = stop_wanted() => Err(interrupted(name)),
    };
    connection.close().await;
    done?;
    Ok(ExitCode::SUCCESS)
}

async fn where_needed(connection: &Connection, name: &str, output: Output) -> Result<(), Failure> {
    let found = match find_codex(connection, name).await {
        Err(error) if error.wants_codex() => {
            output.say(format_args!("{}: {error}", quote(name)));
            let shown = Shown {
                name,
                output,
                has_bar: !output.is_json() && std::io::stderr().is_terminal(),
                parts: AtomicU64::default(),
            };
            let installed =
                connection.install(&|step| shown.step(&step)).await.map_err(|error| failure(&error, name))?;
            tell(installed, name, output);
            find_codex(connection, name).await
        }
        found => {
            if found.is_ok() {
                output.say("Nothing to install:");
            }
            found
        }
    };
    tell_codex(found.map_err(|error| failure_there(&error, name))?, output);
    tell_swept(connection.sweep().await, name, output);
    Ok(())
}

/// Says what became of versions that were put there before. What was wanted is done without that, too.
pub(super) fn tell_swept(swept: Result<Swept, BootstrapError>, name: &str, output: Output) {
    let Swept { removed, kept } = match swept {
        Ok(swept) => swept,
        Err(error) => {
            output.remark(format_args!(
                "Whether an older Codex of Reachback's is left on {} is not known: {error}",
                quote(name)
            ));
            return;
        }
    };
    if !removed.is_empty() {
        output.say(format_args!("Removed there, as nothing runs from it any more: Codex {}.", removed.join(", ")));
    }
    for version in &kept {
        let by_hand = format!("rm -rf {}", Swept::folder(version));
        output.say(format_args!(
            "Left there, as something may run from it: Codex {version}. It goes with the next: reachback ssh stop {0}; \
             or by hand: ssh {0} {1}",
            shell_word(name),
            shell_word(&by_hand)
        ));
    }
    if !(removed.is_empty() && kept.is_empty()) {
        output.event(&Event::SshSwept(SshSwept { alias: name.to_owned(), removed, kept }));
    }
}

fn tell(installed: Installed, name: &str, output: Output) {
    let Installed { by, advice } = installed;
    let how = match by {
        By::Npm => "by npm there",
        By::Package => "in ~/.local/share/reachback, with a link in ~/.local/bin",
    };
    output.say(format_args!("Installed: Codex {CODEX_VERSION}, {how}."));
    if let Some(advice) = &advice {
        output.remark(format_args!("Reachback finds it there. For your own shell to find it, {advice}"));
    }
    let (path_file, path_line) = advice.map(|advice| (advice.file, advice.line.to_owned())).unzip();
    let (alias, version, by) = (name.to_owned(), CODEX_VERSION.to_owned(), by.code().to_owned());
    output.event(&Event::SshInstalled(SshInstalled { alias, version, by, path_file, path_line }));
}

fn failure(error: &InstallError, name: &str) -> Failure {
    Failure::new(error.code(), format!("{}: {error}", quote(name))).fix(error.fix(name))
}

fn interrupted(name: &str) -> Failure {
    Failure::new("interrupted", format!("{}: stopped before Codex was installed there", quote(name)))
        .fix("what is left there is no Codex for anybody, and goes with the next try".to_owned())
}

/// How far an install is, as it is shown.
struct Shown<'a> {
    name: &'a str,
    output: Output,
    has_bar: bool,
    /// How many parts of the package were told to be there.
    parts: AtomicU64,
}

impl Shown<'_> {
    fn step(&self, step: &Step<'_>) {
        let output = self.output;
        match step {
            Step::Npm => {
                output.say(format_args!("There: npm install -g @openai/codex@{CODEX_VERSION}"));
                self.event("npm", None);
            }
            Step::NpmSaid { said, helped } => {
                said.lines().for_each(|line| output.say(format_args!("  {}", printable(line))));
                if !helped {
                    output.say("npm there could not do it. This host sends the package.");
                }
            }
            Step::Fetch { package } => {
                output.say(format_args!("Fetching {package} on this computer"));
                self.event("fetch", None);
            }
            Step::Send { done: 0, total } => {
                output.say(format_args!("Sending it there ({} MiB)", total >> 20));
                self.event("send", Some((0, *total)));
            }
            Step::Send { done, total } => self.sent(*done, *total),
            Step::Unpack => {
                output.say("Unpacking it there");
                self.event("unpack", None);
            }
        }
    }

    fn sent(&self, done: u64, total: u64) {
        let all = if self.has_bar { 100 } else { EVENTS };
        let parts = done * all / total.max(1);
        if self.parts.swap(parts, Ordering::Relaxed) >= parts {
            return;
        }
        if self.has_bar {
            // A terminal that is gone is no reason to end.
            let mut err = std::io::stderr().lock();
            let end = if done == total { "\n" } else { "" };
            let _ = write!(err, "\r{}{end}", bar(done, total)).and_then(|()| err.flush());
        } else {
            self.event("send", Some((done, total)));
        }
    }

    fn event(&self, step: &str, sent: Option<(u64, u64)>) {
        let (done, total) = sent.unzip();
        let (alias, step) = (self.name.to_owned(), step.to_owned());
        self.output.event(&Event::SshInstalling(SshInstalling { alias, step, done, total }));
    }
}

/// A line of one width, so that the next one covers it.
fn bar(done: u64, total: u64) -> String {
    let total = total.max(1);
    let full = usize::try_from(done * BAR / total).unwrap_or_default();
    let rest = usize::try_from(BAR).unwrap_or_default().saturating_sub(full);
    format!("  [{}{}] {:>3} %", "#".repeat(full), " ".repeat(rest), done * 100 / total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_has_one_width() {
        assert_eq!(bar(1, 4), "  [#######                       ]  25 %");
        assert_eq!(bar(4, 4), format!("  [{}] 100 %", "#".repeat(30)));
        assert!([0, 1, 3, 4].iter().all(|done| bar(*done, 4).len() == bar(0, 0).len()));
    }
}
