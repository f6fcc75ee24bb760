//! The lock of systemd-logind (or elogind) that keeps a Linux machine awake: `systemd-inhibit` takes the same one.
//!
//! logind gives an open file, and the lock is there until every copy of it is closed. The program `systemd-inhibit` would
//! do as well, but does not come with elogind, and nothing would say when the machine is about to sleep.

use std::time::Duration;

use tokio::time::timeout;
use zbus::connection::Builder;
use zbus::fdo::Error as BusError;
use zbus::{Connection, OwnedFd};

use super::{AwakeError, Reach};

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
        let bus = bus.map_or_else(Builder::system, Builder::address).build().await.map_err(no_logind)?;
        match (inhibit(&bus, "sleep").await, inhibit(&bus, "idle").await) {
            (Ok(sleep), idle) => Ok(Lock { reach: Reach::Whole, _files: idle.into_iter().chain([sleep]).collect() }),
            (Err(AwakeError::Denied(_)), Ok(idle)) => Ok(Lock { reach: Reach::IdleOnly, _files: vec![idle] }),
            (Err(error), _) => Err(error),
        }
    };
    let late = |_| AwakeError::NoLock(format!("it did not answer within {} s", ANSWER.as_secs()));
    timeout(ANSWER, asking).await.map_err(late)?
}

async fn inhibit(bus: &Connection, what: &str) -> Result<OwnedFd, AwakeError> {
    let (path, interface) = ("/org/freedesktop/login1", "org.freedesktop.login1.Manager");
    let words = (what, WHO, WHY, "block");
    let answer = bus.call_method(Some("org.freedesktop.login1"), path, Some(interface), "Inhibit", &words).await;
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
}
