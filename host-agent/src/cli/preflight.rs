//! What `connect` asks the host before it starts Codex here: can it work there at all?
//!
//! Once the terminal UI has the terminal, nobody can tell its person anything. So an SSH host that is not connected is first:
//! a channel there has the host do it, and how Codex is there is known then.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use reachback_proto::frame::ChannelCloseReason;
use reachback_proto::scope::Scope;
use reachback_proto::words::{quote, shell_word};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::output::Output;
use super::reasons;
use crate::agent::environments::SSH;
use crate::codex::CodexConfig;
use crate::connect::host_info::{AccountReport, AccountWord, CodexWord, HostReport};
use crate::connect::remote::RemoteHost;
use crate::local_api::Failure;
use crate::session::{ChannelHandle, Incoming, SessionEnded};

/// Say what takes so long after this.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// A host answers within a round trip, over a link that may have to be made anew.
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);
/// A start on the host may take a quarter of an hour where Codex reads old recordings first; then the host gives it up.
const START_PATIENCE: Duration = Duration::from_secs(16 * 60);

/// Waits until Codex is ready in `environment` of the host called `name`, and gives its version where that is known.
pub(super) async fn ready(
    (name, remote): (&str, &RemoteHost),
    environment: &str,
    report: watch::Receiver<HostReport>,
    output: Output,
) -> Result<Option<Version>, Failure> {
    let mut waking = Waking { remote, knock: Knock::default() };
    let version = wait(name, environment, report, output, &mut waking).await;
    waking.end().await;
    version
}

async fn wait(
    name: &str,
    environment: &str,
    mut report: watch::Receiver<HostReport>,
    output: Output,
    waking: &mut Waking<'_>,
) -> Result<Option<Version>, Failure> {
    let host = quote(name);
    let by = Instant::now() + START_PATIENCE;
    match timeout(ANSWER_PATIENCE, report.wait_for(HostReport::is_complete)).await {
        Ok(Ok(_)) => {}
        Ok(Err(_)) => return session_over().await,
        Err(_) => {
            output.remark(format_args!("{host} does not say how Codex is there; trying all the same."));
            return Ok(None);
        }
    }
    let mut say_by = Some(Instant::now() + PATIENCE);
    let mut awaited_account = false;
    loop {
        let known = report.borrow_and_update().clone();
        let listed = known.environments.iter().flatten();
        match known.environment(environment) {
            Some(found) => match found.state {
                // It has only just started, and says so within moments.
                CodexWord::Ready if found.account.is_none() && !awaited_account => {
                    awaited_account = true;
                    if let Ok(Err(_)) =
                        timeout(PATIENCE, report.wait_for(|now| has_account_word(now, environment))).await
                    {
                        return session_over().await;
                    }
                    continue;
                }
                CodexWord::Ready => match found.account {
                    Some(AccountReport { state: AccountWord::SignedOut }) => {
                        return Err(reasons::signed_out(name, environment));
                    }
                    _ => return Ok(found.version.as_deref().and_then(Version::parse)),
                },
                // Its host connects it for whoever opens a channel there, and closes that if it can't.
                CodexWord::Idle | CodexWord::Failed if environment.starts_with(SSH) => match waking.knock {
                    Knock::Not => waking.knock(environment).await,
                    Knock::Open(_) => {}
                    Knock::Answered(ChannelCloseReason::BackendGone) if found.state == CodexWord::Failed => {
                        return Err(reasons::codex_failed(name, found));
                    }
                    // That it has failed is about to be said.
                    Knock::Answered(ChannelCloseReason::BackendGone) => {}
                    // Too many channels, say: the next one is told why.
                    Knock::Answered(_) => return Ok(None),
                },
                CodexWord::Idle => return Ok(None),
                CodexWord::Failed => return Err(reasons::codex_failed(name, found)),
                CodexWord::Stopped => return Err(stopping(name)),
                CodexWord::Unknown => return Ok(None),
                CodexWord::Starting => {}
            },
            // A host that lists none is too old to say.
            None if listed.clone().next().is_none() => return Ok(None),
            None => {
                let names: Vec<_> = listed.map(|environment| quote(&environment.name)).collect();
                let asked = quote(environment);
                let message = format!("{host} has no environment {asked}; it has: {}", names.join(", "));
                return Err(Failure::new("environment", message).fix("choose one of those: --env NAME"));
            }
        }
        tokio::select! {
            changed = report.changed() => if changed.is_err() { return session_over().await },
            () = waking.answered() => {}
            () = sleep_until(say_by.unwrap_or(by)) => match say_by.take() {
                Some(_) => output.remark(format_args!("Codex on {host} is starting; waiting for it. Ctrl-C ends the wait.")),
                None => return Err(too_long(name)),
            },
        }
    }
}

/// Has an SSH host connected.
struct Waking<'a> {
    remote: &'a RemoteHost,
    knock: Knock,
}

#[derive(Default)]
enum Knock {
    /// Nobody asked yet.
    #[default]
    Not,
    /// A channel there, open while the host sees to it.
    Open(ChannelHandle),
    /// The host has closed it.
    Answered(ChannelCloseReason),
}

impl Waking<'_> {
    async fn knock(&mut self, environment: &str) {
        match self.remote.open_channel(environment).await {
            Ok(channel) => self.knock = Knock::Open(channel),
            Err(SessionEnded) => session_over().await,
        }
    }

    /// Waits until the host closes the channel. Safe to cancel.
    async fn answered(&mut self) {
        let Knock::Open(channel) = &mut self.knock else { return std::future::pending().await };
        loop {
            match channel.incoming.recv().await {
                Some(Incoming::Message { seq, .. }) => drop(channel.sender.handled(seq)),
                Some(Incoming::Closed { reason, .. }) => break self.knock = Knock::Answered(reason),
                None => return session_over().await,
            }
        }
    }

    async fn end(self) {
        if let Knock::Open(channel) = self.knock {
            // The session may have ended.
            let _ = channel.sender.close(ChannelCloseReason::Done, "").await;
        }
    }
}

/// Whether it says how its account is, or does not run any more.
fn has_account_word(report: &HostReport, environment: &str) -> bool {
    let found = report.environment(environment);
    found.is_none_or(|found| found.state != CodexWord::Ready || found.account.is_some())
}

/// Nobody reports any more. Why is for whoever follows the session to say.
async fn session_over<T>() -> T {
    std::future::pending().await
}

fn stopping(name: &str) -> Failure {
    let host = quote(name);
    Failure::new("codex_stopped", format!("Codex on {host} has ended, with the agent there"))
        .fix(format!("when that runs again: reachback connect {}", shell_word(name)))
}

fn too_long(name: &str) -> Failure {
    let host = quote(name);
    let message = format!("Codex on {host} has been starting for {} minutes", START_PATIENCE.as_secs() / 60);
    Failure::new("codex_starting", message).fix(format!("at {host}, `reachback status` says more"))
}

/// A device that may only look joins what is there: the terminal UI ends where it can't begin a thread.
pub(super) fn may_begin(
    name: &str,
    environment: &str,
    report: &HostReport,
    codex_args: &[OsString],
) -> Result<(), Failure> {
    if report.scope_in(environment) != Some(Scope::View) || codex_args.iter().any(|arg| arg == "resume") {
        return Ok(());
    }
    let (host, again) = (quote(name), reasons::again(name, environment));
    let join = format!("look at one that is there: {again} -- resume");
    if report.scope == Some(Scope::View) {
        let message =
            format!("on {host} this computer may only look (scope `view`), and beginning a thread needs `steer`");
        return Err(Failure::new("scope", message).fix(format!("{join}; for more, at {host}: reachback devices scope")));
    }
    // Whatever this computer's own scope is.
    let why = report.environment(environment).and_then(|found| found.max_scope_reason.as_deref());
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    let message = format!("in {} on {host} devices may only look{why}", quote(environment));
    Err(Failure::new("scope", message).fix(join))
}

/// An older Codex than the host's is not started: it may ask for a sign-in of its own, and end there.
pub(super) async fn compare(name: &str, program: &Path, hosts: Option<&Version>) -> Result<(), Failure> {
    let host = quote(name);
    let Some(hosts) = hosts else { return Ok(()) };
    let config = CodexConfig { program: program.into(), ..CodexConfig::default() };
    // One that does not say, or does not run, is found out about when it is started.
    let own = config.version().await.ok().flatten();
    match own.as_deref().and_then(Version::parse) {
        Some(own) if own.minor < hosts.minor => {
            let message = format!(
                "Codex on this computer is {own}, older than {hosts} on {host}: it may ask for a sign-in of its own, and end there"
            );
            Err(Failure::new("codex_older", message).fix(format!(
                "npm install -g @openai/codex@{hosts}; or go on with this one: reachback connect {} --any-codex",
                shell_word(name)
            )))
        }
        _ => Ok(()),
    }
}

/// A version of Codex that can stand in a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    text: String,
    /// Major and minor number: what differs further down speaks the same protocol.
    minor: (u32, u32),
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let is_plain = text.len() <= 64 && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c));
        let mut numbers = text.split('.');
        let minor = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
        (is_plain && numbers.next().is_some()).then(|| Self { text: text.to_owned(), minor })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_may_only_be_looked_at_is_said_before_a_thread_is_begun() {
        let bounded = json!({
            "name": "ssh:devbox", "state": "ready", "maxScope": "view", "maxScopeReason": "it has no SFTP",
        });
        let environments = [json!({ "name": "local", "state": "ready" }), bounded];
        let environments = environments.map(|found| serde_json::from_value(found).unwrap()).to_vec();
        let report = |scope| HostReport { scope: Some(scope), environments: Some(environments.clone()) };
        let refused = |environment, scope, words: &[&str]| {
            let words: Vec<_> = words.iter().map(OsString::from).collect();
            may_begin("tower", environment, &report(scope), &words).err()
        };
        assert!(refused("local", Scope::Steer, &[]).is_none());
        assert!(refused("ssh:devbox", Scope::Approve, &["resume"]).is_none());
        let everywhere = refused("local", Scope::View, &[]).unwrap();
        assert!(everywhere.message.contains("this computer may only look"), "{everywhere:?}");
        let there = refused("ssh:devbox", Scope::Admin, &[]).unwrap();
        assert!(there.message.ends_with("devices may only look: it has no SFTP"), "{there:?}");
        assert!(there.fix.as_deref().unwrap().ends_with("reachback connect tower --env ssh:devbox -- resume"));
    }

    #[test]
    fn a_version_is_one_that_can_stand_in_a_command() {
        let minor = |text| Version::parse(text).map(|version| version.minor);
        assert_eq!(minor("0.169.0"), Some((0, 169)));
        assert_eq!(minor("1.2.0-alpha.3"), Some((1, 2)));
        for other in ["", "0.169", "latest", "0.x.1", "0.169.0; rm -r ~", "0.169.0`id`", "+0.169.0 ", "0.169.0\n"] {
            assert_eq!(minor(other), None, "{other:?}");
        }
        assert!(minor("0.99.9") < minor("0.100.0"), "numbers are compared as numbers");
    }
}
