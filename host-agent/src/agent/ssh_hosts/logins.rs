//! Logins to SSH hosts that devices want: where a machine asks for a code beside a key, and the owner said that devices may be
//! asked for it.
//!
//! What a device can't answer stays at the host's terminal: whether a machine is the one that is meant, what opens a key, a
//! password. A code that was wrong is a login that was refused, and after one of those a device waits ([`LoginAttempt`]), so
//! that it can't try them all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reachback_proto::words::{quote, shell_word};
use tokio_util::sync::CancellationToken;

use super::{SshChangeError, SshHosts, not_there, unknown};
use crate::codex::ConnectError as NoCodex;
use crate::local_api::Failure;
use crate::ssh::{AuthError, ConnectError, LoginAttempt, Person, Question, Round, Secret, SshBackend, UnknownKey};

/// Why a device did not have the host log in.
#[derive(Debug)]
pub(crate) enum NotLoggedIn {
    /// There is no such machine here.
    Unknown(Failure),
    /// Only a person at the host can.
    AtTheHost(Failure),
    /// Another login there is under way.
    UnderWay,
    /// The last one failed a moment ago.
    TooSoon {
        /// How long it takes until there may be another.
        left: Duration,
    },
    /// It could not be recorded.
    Unrecorded,
    /// The owner took it back meanwhile.
    Withdrawn,
    /// The machine was not reached, or did not let this host in.
    Refused {
        /// Why.
        failure: Failure,
        /// How long it takes until there may be another.
        left: Option<Duration>,
    },
    /// It did, and has no Codex that can be reached.
    NoCodex(Failure),
}

/// Somebody at a device who is asked what a machine asks for.
pub(crate) trait AtADevice: Person {
    /// Records that it begins, or it does not.
    fn begins(&self) -> bool;

    /// Whether anything was asked.
    fn was_asked(&self) -> bool;
}

/// The logins that are under way, by the names of the machines; each can be ended.
#[derive(Debug, Default)]
pub(super) struct Logins(Mutex<HashMap<String, CancellationToken>>);

impl Logins {
    /// One more; `None` where there is one already.
    fn begin(&self, alias: &str) -> Option<UnderWay<'_>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.contains_key(alias) {
            return None;
        }
        let withdrawn = CancellationToken::new();
        all.insert(alias.to_owned(), withdrawn.clone());
        Some(UnderWay { logins: self, alias: alias.to_owned(), withdrawn })
    }

    /// Ends the one to this machine.
    pub(super) fn withdraw(&self, alias: &str) {
        if let Some(login) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(alias) {
            login.cancel();
        }
    }
}

struct UnderWay<'a> {
    logins: &'a Logins,
    alias: String,
    withdrawn: CancellationToken,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.logins.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.alias);
    }
}

impl SshHosts {
    /// Whether devices may be asked what a machine asks for.
    pub(crate) fn asks_devices(&self, alias: &str) -> bool {
        self.store.current().asks_devices(alias)
    }

    /// Has the host log in to a machine, which asks `person`; waits until Codex can be reached there. Whoever drops this ends it.
    pub(crate) async fn log_in_for(
        &self,
        alias: &str,
        person: Arc<impl AtADevice + 'static>,
    ) -> Result<(), NotLoggedIn> {
        let backend = self.backends().get(alias).and_then(Weak::upgrade);
        let Some(backend) = backend.filter(|_| self.store.current().has(alias)) else {
            return Err(NotLoggedIn::Unknown(SshChangeError::Unknown { alias: alias.to_owned() }.into()));
        };
        if !self.asks_devices(alias) {
            return Err(NotLoggedIn::AtTheHost(not_asked(alias)));
        }
        if backend.is_connected() {
            return Ok(());
        }
        let under_way = self.logins.begin(alias).ok_or(NotLoggedIn::UnderWay)?;
        let attempt = backend.begin_login().map_err(|left| NotLoggedIn::TooSoon { left })?;
        if !person.begins() {
            return Err(NotLoggedIn::Unrecorded);
        }
        tokio::select! {
            () = under_way.withdrawn.cancelled() => Err(NotLoggedIn::Withdrawn),
            done = self.reach(alias, &backend, person, attempt) => done,
        }
    }

    async fn reach(
        &self,
        alias: &str,
        backend: &SshBackend,
        at_a_device: Arc<impl AtADevice + 'static>,
        attempt: LoginAttempt,
    ) -> Result<(), NotLoggedIn> {
        let discovery = self.discovery().map_err(NotLoggedIn::Unknown)?;
        let person: Arc<dyn Person> = Arc::new(Meanwhile(Arc::downgrade(&at_a_device)));
        let connection = match discovery.connect(alias, &person).await {
            Ok(Some(connection)) => connection,
            Ok(None) => return Err(NotLoggedIn::Unknown(unknown(discovery, alias))),
            Err(error) => {
                let was_asked = at_a_device.was_asked();
                // Who was asked has answered wrongly, or not at all: that counts, however the machine ended it.
                if was_asked {
                    drop(attempt);
                } else {
                    attempt.failed(&error);
                }
                return Err(refused(alias, &error, was_asked, backend.login_waits()));
            }
        };
        attempt.succeeded();
        let taken: Result<(), NoCodex> = backend.take(connection).await;
        taken.map_err(|error| NotLoggedIn::NoCodex(not_there(alias, error)))
    }
}

/// Whoever is asked for as long as the login takes: a connection keeps who was asked while it was made.
struct Meanwhile<P>(Weak<P>);

impl<P: AtADevice> Person for Meanwhile<P> {
    fn trusts(&self, key: UnknownKey) -> BoxFuture<'_, bool> {
        let person = self.0.upgrade();
        async move {
            match person {
                Some(person) => person.trusts(key).await,
                None => false,
            }
        }
        .boxed()
    }

    fn answers(&self, question: Question) -> BoxFuture<'_, Option<Secret>> {
        let person = self.0.upgrade();
        async move { person?.answers(question).await }.boxed()
    }

    fn answers_all(&self, round: Round) -> BoxFuture<'_, Option<Vec<Secret>>> {
        let person = self.0.upgrade();
        async move { person?.answers_all(round).await }.boxed()
    }

    fn tries(&self) -> usize {
        self.0.upgrade().map_or(0, |person| person.tries())
    }
}

/// The owner has not turned it on.
fn not_asked(alias: &str) -> Failure {
    let message = format!("this host asks no device for what {} asks for", quote(alias));
    let alias = shell_word(alias);
    Failure::new("ssh_devices_not_asked", message).fix(format!(
        "log in at this host's terminal: reachback ssh login {alias}; or have devices asked from now on: reachback ssh ask-devices {alias} on"
    ))
}

fn refused(alias: &str, error: &ConnectError, was_asked: bool, left: Option<Duration>) -> NotLoggedIn {
    let failure = Failure::new(error.code(), error.to_string()).fix(error.fix(alias));
    match error {
        // A machine that is not known, or a key that is locked: no device answers for these.
        ConnectError::HostKey { .. } => NotLoggedIn::AtTheHost(failure),
        ConnectError::Auth(AuthError { locked, unanswered, .. })
            if !was_asked && (*unanswered || !locked.is_empty()) =>
        {
            NotLoggedIn::AtTheHost(failure)
        }
        _ => NotLoggedIn::Refused { failure, left },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_login_to_a_machine_is_under_way_until_it_ends_and_can_be_withdrawn() {
        let logins = Logins::default();
        let one = logins.begin("devbox").unwrap();
        assert!(logins.begin("devbox").is_none());
        let other = logins.begin("other").unwrap();
        logins.withdraw("devbox");
        assert!(one.withdrawn.is_cancelled() && !other.withdrawn.is_cancelled());
        drop(one);
        assert!(!logins.begin("devbox").unwrap().withdrawn.is_cancelled());
    }
}
