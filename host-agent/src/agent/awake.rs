//! Keeping this machine awake while devices may come: a setting of the owner's, off until they turn it on.
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
use super::tunnel::TunnelState;
use crate::local_api::events::{AwakeState, AwakeStatus, Event};
use crate::platform::awake::{IDLE_ONLY, Lock, Machine, Power, Reach};
use crate::state::atomic::FileError;
use crate::state::awake::{Awake, AwakeFile};
use crate::state::devices::DeviceList;

/// Between two looks at what the machine gets its power from. Nothing is lost in that time: no machine sleeps by itself so soon
/// after it was plugged in.
const LOOKS: Duration = Duration::from_secs(30);
/// How long who turns it on or off waits for what comes of that: longer than logind is given.
const SETTLING: Duration = Duration::from_secs(10);

/// See the module's header.
#[derive(Debug)]
pub(crate) struct KeepAwake {
    file: Mutex<AwakeFile>,
    machine: Machine,
    looks: Duration,
    wish: watch::Sender<Wish>,
    seen: watch::Sender<Seen>,
}

/// What the owner wants.
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

/// Why it is not kept awake although the owner wants it, and what to do about that.
struct Bar {
    state: AwakeState,
    reason: String,
    fix: Option<String>,
}

impl KeepAwake {
    /// Reads what the owner said last in `home`.
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
        })
    }

    /// How it was at the last look.
    pub(crate) fn last_seen(&self) -> AwakeStatus {
        self.seen.borrow().status.clone()
    }

    /// How it is now.
    pub(crate) async fn look(&self) -> AwakeStatus {
        self.wish.send_modify(|wish| wish.asked += 1);
        self.settled().await
    }

    /// Turns it on or off, and says what came of that. Turned off it is at once, also where that can't be kept.
    pub(crate) async fn set(&self, on: bool) -> Result<AwakeStatus, FileError> {
        let written = {
            let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            let written = file.write(Awake { on });
            if written.is_ok() || !on {
                self.wish.send_modify(|wish| *wish = Wish { on, asked: wish.asked + 1 });
            }
            written
        };
        let status = self.settled().await;
        written.map(|()| status)
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
                let (reason, fix) = (error.to_string(), Some(error.fix()));
                return Some(Bar { state: AwakeState::Failed, reason, fix });
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
