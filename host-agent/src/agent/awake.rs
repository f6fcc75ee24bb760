//! Keeping this machine awake while devices may come: a setting, off until the owner or a device with scope `admin` turns it on.
//!
//! It is kept awake while all of this holds, and let go as soon as one ends: the setting is on, the machine is plugged in,
//! at least one device may connect, and no relay has refused this host for good. A relay that is away for a while is no reason
//! to let it go: logind would have a machine sleep at once that nobody has touched for hours, and then nobody could reach it
//! when the relay is back.
//!
//! What holds the machine awake ends with this process, however that ends ([`crate::platform::awake`]).

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::AgentEvents;
use super::changes::By;
use super::tunnel::TunnelState;
use crate::audit::{AuditError, AuditLog, AwakeChange, AwakeEntry};
use crate::local_api::Failure;
use crate::local_api::events::{AwakeState, AwakeStatus, Event};
use crate::platform::awake::{IDLE_ONLY, Lock, Machine, Power, Reach};
use crate::state::atomic::FileError;
use crate::state::awake::{Awake, AwakeFile};
use crate::state::devices::DeviceList;
use crate::state::timestamp::Timestamp;

/// Between two looks at what the machine gets its power from. Nothing is lost in that time: no machine sleeps by itself so soon
/// after it was plugged in.
const LOOKS: Duration = Duration::from_secs(30);
/// How long who turns it on or off waits for what comes of that: longer than logind is given, to be found and to answer.
const SETTLING: Duration = Duration::from_secs(15);

/// See the module's header.
#[derive(Debug)]
pub(crate) struct KeepAwake {
    file: Mutex<AwakeFile>,
    machine: Machine,
    looks: Duration,
    wish: watch::Sender<Wish>,
    seen: watch::Sender<Seen>,
    offered: watch::Sender<bool>,
}

/// Writes down whether this machine is to be kept awake.
///
/// The running agent does it, and acts on it; without an agent the command does, under the home's lock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AwakeChanges<'a> {
    /// What was said last.
    pub file: &'a AwakeFile,
    /// Where changes are recorded.
    pub audit: &'a AuditLog,
}

/// It was not written down.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum AwakeChangeError {
    /// It could not be recorded, and so was not turned on.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// It may be forgotten when the agent ends.
    #[error(transparent)]
    File(#[from] FileError),
}

impl AwakeChanges<'_> {
    /// Turns it on or off, by a device's word or the owner's; `was` is how it is now, and who leaves that as it is changes nothing.
    pub(crate) fn set(self, was: bool, on: bool, by: By) -> Result<(), AwakeChangeError> {
        let event = if on { AwakeChange::KeepAwakeOn } else { AwakeChange::KeepAwakeOff };
        let record = || match was == on {
            true => Ok(()),
            false => self.audit.write_awake(&AwakeEntry { at: Timestamp::now(), event, by }),
        };
        if on {
            // What gives is written first, or not done.
            record()?;
            self.file.write(Awake { on })?;
        } else {
            let written = self.file.write(Awake { on });
            if let Err(error) = record() {
                tracing::error!(%error, "a change was not recorded");
            }
            written?;
        }
        Ok(())
    }
}

impl From<AwakeChangeError> for Failure {
    fn from(error: AwakeChangeError) -> Self {
        let message = error.to_string();
        match error {
            AwakeChangeError::Audit(_) => {
                Self::new("audit", message).fix("make room on the disk: nothing is given without a trace")
            }
            AwakeChangeError::File(_) => Self::new("not_changed", message).fix("see to that file, and try again"),
        }
    }
}

/// What is wanted.
#[derive(Debug, Clone, Copy)]
struct Wish {
    on: bool,
    /// How often somebody asked how it is.
    asked: u64,
}

/// How it was at the last look.
#[derive(Debug, Clone)]
struct Seen {
    /// The number of the wish that was looked at.
    asked: u64,
    status: AwakeStatus,
}

/// Why it is not kept awake although it is to be, and what to do about that.
struct Bar {
    state: AwakeState,
    reason: String,
    fix: Option<String>,
}

impl KeepAwake {
    /// Reads what was said last in `home`.
    pub(crate) fn open(home: &Path, machine: Machine) -> Result<Self, FileError> {
        let file = AwakeFile::of(home);
        let on = file.read()?.on;
        let status = AwakeStatus { on, state: AwakeState::Off, reason: None, fix: None };
        Ok(Self {
            file: Mutex::new(file),
            machine,
            looks: LOOKS,
            wish: watch::Sender::new(Wish { on, asked: 1 }),
            seen: watch::Sender::new(Seen { asked: 0, status }),
            offered: watch::Sender::new(false),
        })
    }

    /// How it was at the last look.
    pub(crate) fn last_seen(&self) -> AwakeStatus {
        self.seen.borrow().status.clone()
    }

    /// Whether anything on this machine would keep it awake, as far as that was found out; from then on it is.
    pub(crate) fn offered(&self) -> watch::Receiver<bool> {
        self.offered.subscribe()
    }

    /// How it is now.
    pub(crate) async fn look(&self) -> AwakeStatus {
        self.wish.send_modify(|wish| wish.asked += 1);
        self.settled().await
    }

    /// Turns it on or off, by a device's word or the owner's, and says what came of that. Turned off it is at once, also where
    /// that can't be kept. It is done before anything is waited for: who asked may be gone.
    pub(crate) async fn set(&self, on: bool, by: By, audit: &AuditLog) -> Result<AwakeStatus, AwakeChangeError> {
        let set = {
            let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            let was = self.wish.borrow().on;
            let set = AwakeChanges { file: &file, audit }.set(was, on, by);
            if set.is_ok() || !on {
                self.wish.send_modify(|wish| *wish = Wish { on, asked: wish.asked + 1 });
            }
            set
        };
        let status = self.settled().await;
        set.map(|()| status)
    }

    /// How it is once what was asked last has been looked at.
    async fn settled(&self) -> AwakeStatus {
        let asked = self.wish.borrow().asked;
        let mut seen = self.seen.subscribe();
        let waited = timeout(SETTLING, seen.wait_for(|seen| seen.asked >= asked)).await;
        if waited.is_err() {
            tracing::warn!("what keeps this machine awake takes long to be seen");
        }
        self.last_seen()
    }

    /// Keeps the machine awake when it is to be, until the tunnel ends.
    pub(crate) async fn run(
        self: Arc<Self>,
        mut devices: watch::Receiver<Arc<DeviceList>>,
        mut tunnel: watch::Receiver<TunnelState>,
        events: AgentEvents,
    ) {
        let mut wish = self.wish.subscribe();
        let mut lock = None;
        loop {
            let now = *wish.borrow_and_update();
            let bar = no_access(&devices.borrow_and_update(), &tunnel.borrow_and_update());
            let status = self.keep(now.on, bar, &mut lock).await;
            let known = lock.is_some() || *self.offered.borrow();
            let found = known || self.machine.offers().await;
            self.offered.send_if_modified(|offered| std::mem::replace(offered, found) != found);
            let before = self.seen.send_replace(Seen { asked: now.asked, status: status.clone() }).status;
            if before != status {
                tracing::info!(state = ?status.state, reason = status.reason, "keeping this machine awake");
                events.send(Event::Awake(status));
            }
            tokio::select! {
                changed = wish.changed() => changed.expect("it is held here"),
                changed = devices.changed() => if changed.is_err() { return },
                changed = tunnel.changed() => if changed.is_err() { return },
                () = sleep(self.looks), if now.on => {}
            }
        }
    }

    /// Takes the lock, or lets go of it, as it is now.
    async fn keep(&self, on: bool, bar: Option<Bar>, lock: &mut Option<Lock>) -> AwakeStatus {
        let bar = match bar {
            None if on => self.hold(lock).await,
            bar => bar,
        };
        let is = |state, reason, fix| AwakeStatus { on, state, reason, fix };
        let words = |text: &str| Some(text.to_owned());
        match (on, bar, &lock) {
            (true, None, Some(held)) => match held.reach() {
                Reach::Whole => is(AwakeState::Held, None, None),
                Reach::IdleOnly => is(AwakeState::Partly, words(IDLE_ONLY.0), words(IDLE_ONLY.1)),
            },
            (true, Some(Bar { state, reason, fix }), _) => {
                *lock = None;
                is(state, Some(reason), fix)
            }
            (true, None, None) | (false, ..) => {
                *lock = None;
                is(AwakeState::Off, None, None)
            }
        }
    }

    /// Sees to it that there is a lock while the machine is plugged in; or why there is none.
    async fn hold(&self, lock: &mut Option<Lock>) -> Option<Bar> {
        if self.machine.power().await == Power::Battery {
            let reason = "it runs on its battery".to_owned();
            return Some(Bar { state: AwakeState::OnBattery, reason, fix: Some("plug it in".into()) });
        }
        // Who has logged in meanwhile may be allowed more.
        if lock.as_mut().is_some_and(|lock| lock.holds() && lock.reach() == Reach::Whole) {
            return None;
        }
        match self.machine.keep_awake().await {
            // The new one is there before the old one goes.
            Ok(new) => *lock = Some(new),
            // One that reaches less far is better than none.
            Err(_) if lock.as_mut().is_some_and(Lock::holds) => {}
            Err(error) => {
                let state = if error.is_not_offered() { AwakeState::NotOffered } else { AwakeState::Failed };
                return Some(Bar { state, reason: error.to_string(), fix: Some(error.fix()) });
            }
        }
        None
    }
}

/// Why no device could come, where that is so.
fn no_access(devices: &DeviceList, tunnel: &TunnelState) -> Option<Bar> {
    let bar = |reason: &str, fix: &str| {
        Some(Bar { state: AwakeState::NoAccess, reason: reason.to_owned(), fix: Some(fix.to_owned()) })
    };
    if devices.devices.is_empty() {
        return bar("no device is paired", "pair one: reachback pair");
    }
    if devices.paused {
        return bar("all devices are paused", "let them in again: reachback devices resume");
    }
    if devices.devices.iter().all(|device| device.paused) {
        return bar("every device is paused", "let one in again: reachback devices resume NAME");
    }
    match tunnel {
        TunnelState::Down { reason, fix } => bar(&format!("the relay refuses this host: {reason}"), fix),
        TunnelState::Connected { .. } | TunnelState::Reconnecting { .. } => None,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
