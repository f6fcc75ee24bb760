//! The lock of systemd-logind (or elogind) that keeps a Linux machine awake: `systemd-inhibit` takes the same one; and what
//! logind says when the machine sleeps.
//!
//! logind gives an open file, and the lock is there until every copy of it is closed. The program `systemd-inhibit` would
//! do as well, but does not come with elogind, and nothing would say when the machine is about to sleep.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use zbus::connection::Builder;
use zbus::fdo::Error as BusError;
use zbus::message::Type;
use zbus::{Connection, MatchRule, MessageStream, OwnedFd};

use super::{AwakeError, Reach, Sleep};

/// Where logind is on a bus, and what it does.
const SERVICE: &str = "org.freedesktop.login1";
const PATH: &str = "/org/freedesktop/login1";
const INTERFACE: &str = "org.freedesktop.login1.Manager";
/// The bus itself.
const BUS: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";

/// How long logind may take; it answers in milliseconds, and in vain it is asked again.
const ANSWER: Duration = Duration::from_secs(5);
/// Who keeps it awake, and why, for `systemd-inhibit --list` and who is asked whether the machine should sleep all the same.
const WHO: &str = "Reachback";
const WHY: &str = "Devices may connect, and this computer is plugged in";

/// See the module's header.
#[derive(Debug)]
pub(super) struct Lock {
    reach: Reach,
    /// Open for as long as the lock is wanted.
    _files: Vec<OwnedFd>,
}

impl Lock {
    pub(super) fn reach(&self) -> Reach {
        self.reach
    }
}

/// Takes the lock, on the system's bus or on the one at `bus`.
///
/// It is two locks to logind: who asks for both in one is judged by the rule for the switch of a lid. Whoever is not logged
/// in at the machine itself, such as an agent that runs as a service, may by the usual rules keep it only from what logind
/// does when nobody is there (`idle`). That is all that could happen to a machine without a desktop.
pub(super) async fn lock(bus: Option<&str>) -> Result<Lock, AwakeError> {
    let asking = async {
        let bus = connect(bus).await?;
        let block = |what| inhibit(&bus, (what, WHO, WHY, "block"));
        match (block("sleep").await, block("idle").await) {
            (Ok(sleep), idle) => Ok(Lock { reach: Reach::Whole, _files: idle.into_iter().chain([sleep]).collect() }),
            (Err(AwakeError::Denied(_)), Ok(idle)) => Ok(Lock { reach: Reach::IdleOnly, _files: vec![idle] }),
            (Err(error), _) => Err(error),
        }
    };
    timeout(ANSWER, asking).await.map_err(late)?
}

/// Whether there is a logind on the system's bus, or on the one at `bus`; one that the bus starts when it is needed is there.
pub(super) async fn is_there(bus: Option<&str>) -> bool {
    let asking = async {
        let Ok(bus) = connect(bus).await else { return false };
        // A bus starts only what it has a file for, also of what runs.
        let starts = bus.call_method(Some(BUS), BUS_PATH, Some(BUS), "StartServiceByName", &(SERVICE, 0_u32));
        owner(&bus).await.is_some() || starts.await.is_ok()
    };
    timeout(ANSWER, asking).await.unwrap_or(false)
}

/// Tells when this machine sleeps, and has it wait for what is to be done before.
pub(crate) struct SleepWatch {
    bus: Connection,
    signals: MessageStream,
    /// logind waits with the sleep while this is open, five seconds at most (`InhibitDelayMaxSec`). `None` where it does not.
    delay: Option<OwnedFd>,
}

impl SleepWatch {
    /// Listens on the system's bus, or on the one at `bus`.
    pub(super) async fn start(bus: Option<&str>) -> Result<Self, AwakeError> {
        let starting = async {
            let bus = connect(bus).await?;
            let heard = listen(&bus).await;
            let signals = heard.map_err(|error| AwakeError::NoLock(error.to_string()))?;
            let delay = match delay(&bus).await {
                Err(error @ AwakeError::NoLogind(_)) => return Err(error),
                given => said(given),
            };
            Ok(Self { bus, signals, delay })
        };
        timeout(ANSWER, starting).await.map_err(late)?
    }

    /// What happens next; `None` once the bus is gone.
    pub(crate) async fn next(&mut self) -> Option<Sleep> {
        loop {
            let signal = self.signals.next().await?.ok()?;
            // Everybody on a bus may send everybody a signal.
            let sender = signal.header().sender().map(ToString::to_string);
            if sender.is_none() || owner(&self.bus).await != sender {
                tracing::warn!("somebody who is not logind says that this machine sleeps");
                continue;
            }
            let sleeps: zbus::Result<bool> = signal.body().deserialize();
            match sleeps {
                Ok(true) => return Some(Sleep::Begins),
                Ok(false) => {
                    self.delay = said(delay(&self.bus).await);
                    return Some(Sleep::Ends);
                }
                Err(_) => {}
            }
        }
    }

    /// All is done that was to be done before the machine sleeps.
    pub(crate) fn ready(&mut self) {
        self.delay = None;
    }
}

async fn listen(bus: &Connection) -> zbus::Result<MessageStream> {
    let rule = MatchRule::builder().msg_type(Type::Signal).sender(SERVICE).path(PATH).interface(INTERFACE);
    MessageStream::for_match_rule(rule.member("PrepareForSleep").build()?, bus, None).await
}

async fn delay(bus: &Connection) -> Result<OwnedFd, AwakeError> {
    inhibit(bus, ("sleep", WHO, "Devices are told that this computer sleeps", "delay")).await
}

/// The lock; without it there is no time to tell devices.
fn said(given: Result<OwnedFd, AwakeError>) -> Option<OwnedFd> {
    given.inspect_err(|error| tracing::debug!(%error, "logind will not wait until devices know that it sleeps")).ok()
}

/// Who logind is on this bus now.
async fn owner(bus: &Connection) -> Option<String> {
    let asked = bus.call_method(Some(BUS), BUS_PATH, Some(BUS), "GetNameOwner", &(SERVICE,));
    timeout(ANSWER, asked).await.ok()?.ok()?.body().deserialize().ok()
}

async fn connect(bus: Option<&str>) -> Result<Connection, AwakeError> {
    bus.map_or_else(Builder::system, Builder::address).build().await.map_err(no_logind)
}

/// Asks for a lock: against what, for whom, why, and how strong.
async fn inhibit(bus: &Connection, words: (&str, &str, &str, &str)) -> Result<OwnedFd, AwakeError> {
    let answer = bus.call_method(Some(SERVICE), PATH, Some(INTERFACE), "Inhibit", &words).await;
    let answer = answer.map_err(|error| match error {
        zbus::Error::FDO(error) => match *error {
            BusError::AccessDenied(why) | BusError::InteractiveAuthorizationRequired(why) => AwakeError::Denied(why),
            error @ (BusError::ServiceUnknown(_) | BusError::NameHasNoOwner(_)) => no_logind(error.into()),
            error => AwakeError::NoLock(error.to_string()),
        },
        error => AwakeError::NoLock(error.to_string()),
    })?;
    answer.body().deserialize().map_err(|error| AwakeError::NoLock(error.to_string()))
}

fn late(_: Elapsed) -> AwakeError {
    AwakeError::NoLock(format!("it did not answer within {} s", ANSWER.as_secs()))
}

fn no_logind(error: zbus::Error) -> AwakeError {
    AwakeError::NoLogind(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Logind, Rules};
    use super::*;

    #[tokio::test]
    async fn the_lock_is_there_until_it_is_dropped() {
        let logind = Logind::start(Rules::Everything).await;
        let lock = lock(Some(logind.address())).await.unwrap();
        assert_eq!(lock.reach(), Reach::Whole);
        let held = logind.held().await;
        let wanted = |what: &str| (what.to_owned(), WHO.to_owned(), WHY.to_owned(), "block".to_owned());
        assert_eq!(held, [wanted("sleep"), wanted("idle")]);
        drop(lock);
        logind.holds(0).await;
    }

    #[tokio::test]
    async fn who_may_not_keep_a_machine_from_sleep_keeps_it_from_what_logind_does() {
        let logind = Logind::start(Rules::IdleOnly).await;
        let lock = lock(Some(logind.address())).await.unwrap();
        assert_eq!(lock.reach(), Reach::IdleOnly);
        let held = logind.held().await;
        assert_eq!((held.len(), &*held[0].0), (1, "idle"));
    }

    #[tokio::test]
    async fn refusals_and_a_logind_that_is_not_there_are_told_apart() {
        let logind = Logind::start(Rules::Nothing).await;
        let error = lock(Some(logind.address())).await.unwrap_err();
        assert!(matches!(&error, AwakeError::Denied(why) if why.contains("not you")), "{error:?}");
        assert!(error.fix().contains("Keep awake"));
        logind.holds(0).await;

        let logind = Logind::start(Rules::Broken).await;
        let error = lock(Some(logind.address())).await.unwrap_err();
        assert!(matches!(&error, AwakeError::NoLock(_)), "{error:?}");

        let bus = Logind::only_a_bus().await;
        let error = lock(Some(bus.address())).await.unwrap_err();
        assert!(matches!(&error, AwakeError::NoLogind(_)), "{error:?}");
        let error = lock(Some("unix:path=/nowhere/bus")).await.unwrap_err();
        assert!(matches!(&error, AwakeError::NoLogind(_)), "{error:?}");
    }

    #[tokio::test]
    async fn a_logind_is_there_whatever_it_allows_and_a_bus_alone_is_none() {
        for rules in [Rules::Everything, Rules::Nothing] {
            let logind = Logind::start(rules).await;
            assert!(is_there(Some(logind.address())).await, "{rules:?}");
            logind.holds(0).await;
        }
        assert!(!is_there(Some(Logind::only_a_bus().await.address())).await);
        assert!(!is_there(Some("unix:path=/nowhere/bus")).await);
    }

    #[tokio::test]
    async fn logind_is_heard_and_waits_and_nobody_else_is_believed() {
        let logind = Logind::start(Rules::Everything).await;
        let mut watch = SleepWatch::start(Some(logind.address())).await.unwrap();
        let held = logind.held().await;
        assert_eq!((held.len(), &*held[0].0, &*held[0].3), (1, "sleep", "delay"));
        for _ in 0..2 {
            logind.stranger_says(true).await;
            logind.says(true).await;
            assert_eq!(watch.next().await, Some(Sleep::Begins));
            logind.holds(1).await;
            watch.ready();
            logind.holds(0).await;
            logind.stranger_says(true).await;
            logind.says(false).await;
            assert_eq!(watch.next().await, Some(Sleep::Ends), "a stranger was believed");
            logind.holds(1).await;
        }
        drop(logind);
        assert_eq!(watch.next().await, None);
    }

    #[tokio::test]
    async fn a_logind_that_does_not_wait_is_heard_all_the_same() {
        let logind = Logind::start(Rules::Nothing).await;
        let mut watch = SleepWatch::start(Some(logind.address())).await.unwrap();
        logind.says(true).await;
        assert_eq!(watch.next().await, Some(Sleep::Begins));
        let bus = Logind::only_a_bus().await;
        let missing = SleepWatch::start(Some(bus.address())).await.err().unwrap();
        assert!(matches!(missing, AwakeError::NoLogind(_)), "{missing:?}");
    }
}
