//! Why a host does not let this computer work there, and what to do about it.

use reachback_proto::frame::{ByeReason, ChannelCloseReason, LOCAL_ENVIRONMENT};
use reachback_proto::ids::DeviceId;
use reachback_proto::scope::Scope;
use reachback_proto::words::{quote, shell_word};

use crate::agent::environments::SSH;
use crate::connect::bridge::{End, EndKind, HOLD};
use crate::connect::host_info::{EnvironmentReport, HostReport};
use crate::connect::outcome::Refused;
use crate::local_api::Failure;
use crate::ssh::BootstrapError;

/// The host ended the session of this computer, which is `device` there, with this last word.
pub(super) fn ended(name: &str, device: DeviceId, reason: Option<ByeReason>) -> Failure {
    let host = quote(name);
    match reason {
        Some(ByeReason::Revoked) => Failure::new("revoked", format!("{host} no longer lets this computer in"))
            .fix("if that is a mistake: `reachback pair` there, `reachback join URL` here"),
        Some(ByeReason::Paused) => Failure::new(
            "paused",
            format!("{host} has paused this computer: it is still paired, and kept out for now"),
        )
        .fix(format!(
            "at {host}: `reachback devices resume {}` (where all devices are paused: `reachback devices resume`), \
                     then connect again",
            device.short()
        )),
        Some(ByeReason::Limit) => {
            Failure::new("limit", format!("{host} ended the session: there are too many from this computer"))
                .fix("close another `reachback connect`")
        }
        Some(ByeReason::ProtocolError) => {
            Failure::new("protocol", format!("{host} and this computer don't understand each other"))
                .fix("use the same version of Reachback on both")
        }
        _ => Failure::new("ended", format!("{host} ended the session")).fix("connect again"),
    }
}

/// The host closed a channel. `again` is the command that tries again.
pub(super) fn refused(
    (name, again): (&str, &str),
    refused: &Refused,
    environment: Option<&EnvironmentReport>,
) -> Failure {
    let host = quote(name);
    match (refused.reason, environment) {
        (ChannelCloseReason::BackendGone, Some(environment)) if environment.reason.is_some() => {
            codex_failed(name, environment)
        }
        (ChannelCloseReason::BackendGone, _) => {
            Failure::new("codex_gone", format!("Codex on {host} went away: {}", quote(&refused.text)))
                .fix(format!("the thread is there; when Codex is back: {again}"))
        }
        _ => Failure::new("refused", format!("{host} refused: {}", quote(&refused.text)))
            .fix(format!("when that is mended at {host}: {again}")),
    }
}

/// The one client on standard input and output was let go, and not because the host refused. `again` is the command that tries again.
pub(super) fn let_go((name, again): (&str, &str), end: &End) -> Failure {
    let host = quote(name);
    match end.kind {
        EndKind::OutOfReach => {
            Failure::new("out_of_reach", format!("{host} was out of reach for {} s", HOLD.as_secs()))
                .fix(format!("what it had not received was taken back; this waits until it is there: {again}"))
        }
        EndKind::Closed { .. } => Failure::new("closed", format!("{host} ended the connection: {}", quote(&end.why)))
            .fix(format!("the threads are there, for `thread/resume`; to go on: {again}")),
        EndKind::Gone | EndKind::Broken | EndKind::Ended => {
            Failure::new("stdio", end.why.clone()).fix(format!("when that is mended: {again}"))
        }
    }
}

/// What this computer may do is less than it was when it began.
pub(super) fn lowered(name: &str, before: Scope, now: Scope) -> Failure {
    let host = quote(name);
    let message =
        format!("{host} lets this computer do less than before: its scope is `{now}` now, and was `{before}`");
    Failure::new("scope", message).fix(format!("at {host}, `reachback devices scope` changes it"))
}

/// What who may prompt and not approve is told before anything is asked; nothing to whoever may, or only looks.
pub(super) fn approves_nothing(
    name: &str,
    device: DeviceId,
    (environment, report): (&str, &HostReport),
) -> Option<String> {
    if report.scope_in(environment) != Some(Scope::Steer) {
        return None;
    }
    let host = quote(name);
    // More than the environment's own limit can't be given.
    let more = match report.scope {
        Some(Scope::Steer) => format!(" For more, at {host}: reachback devices scope {} approve", device.short()),
        _ => String::new(),
    };
    Some(format!(
        "On {host} this computer may prompt and not approve (scope `steer`): where Codex asks, it waits for somebody else, \
         and shows nothing here.{more}"
    ))
}

/// The command that tries again.
pub(super) fn again(name: &str, environment: &str) -> String {
    let env = match environment {
        LOCAL_ENVIRONMENT => String::new(),
        other => format!(" --env {}", shell_word(other)),
    };
    format!("reachback connect {}{env}", shell_word(name))
}

/// Where Codex runs, or should.
fn place(name: &str, environment: &str) -> String {
    match environment {
        LOCAL_ENVIRONMENT => quote(name),
        other => format!("{} of {}", quote(other), quote(name)),
    }
}

/// Codex runs, and has no account: the terminal UI would ask for a sign-in here, which no device may begin there.
pub(super) fn signed_out(name: &str, environment: &str) -> Failure {
    let login = match environment.strip_prefix(SSH) {
        Some(alias) => BootstrapError::SignedOut.fix(alias),
        None => "`codex login`".to_owned(),
    };
    let place = place(name, environment);
    Failure::new("signed_out", format!("Codex on {place} is not signed in, and its model needs an account"))
        .fix(format!("at {}: {login}; then: {}", quote(name), again(name, environment)))
}

/// Codex does not run in an environment.
pub(super) fn codex_failed(name: &str, environment: &EnvironmentReport) -> Failure {
    let host = quote(name);
    let why = environment.reason.as_deref().map_or_else(|| "the host does not say why".to_owned(), quote);
    let place = place(name, &environment.name);
    let words = match environment.name.starts_with(SSH) {
        true => format!("Codex is out of reach on {place}: {why}"),
        false => format!("Codex is not running on {place}: {why}"),
    };
    let failure = Failure::new("codex_failed", words);
    match &environment.fix {
        Some(fix) => failure.fix(format!("at {host}: {fix}")),
        None => failure.fix(format!("at {host}, `reachback status` says more; it is tried again from time to time")),
    }
}
