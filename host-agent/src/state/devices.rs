//! The devices that may connect, and what each may do.
//!
//! One list in a file and in memory; every change makes a new version of it.
//! The relay is told the list and its version, and connected sessions watch it,
//! so a device taken off the list loses its link at once.
//!
//! - What **gives** (add, a higher scope, going on after a pause) holds once it is on the disk.
//! - What **takes away** holds at once, also when the disk is full: the caller gets the error, the device does not get in.
//! - When a device was **last seen** is written with the next change or [`DeviceStore::flush`], and is no change.
//! - For how long it was **not** seen is counted, not computed: a device that a wrong clock calls old is not.
//!
//! Versions only grow, also past a lost or restored file: a new one is at least
//! the time in seconds. A relay that once had a newer list would ignore this one.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use reachback_proto::control::MAX_DEVICES;
use reachback_proto::crypto::keys::{Secret, check_identity, check_static};
use reachback_proto::ids::{DeviceId, PublicKey};
use reachback_proto::scope::Scope;
use reachback_proto::words::quote;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::atomic::{self, Document, FileError};
use super::find::{self, FindError};
use super::timestamp::Timestamp;
use super::{clean_name, secret_text};
use crate::platform::files;

/// A device that was not seen for so many hours, in which it could have been, is paused: 90 days.
pub const UNSEEN_LIMIT: u32 = 90 * 24;
/// The reason of such a pause, in the audit log and for people.
pub const EXPIRED: &str = "expired";
/// The reason of a pause because the relay knows the device as revoked, in the audit log and for people.
pub const REVOKED_AT_RELAY: &str = "revoked_at_relay";

/// A device of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Derived from its identity key.
    pub device_id: DeviceId,
    /// Proves it to the relay.
    pub identity: PublicKey,
    /// Proves it to this host.
    pub static_key: PublicKey,
    /// Shared with it since pairing.
    #[serde(with = "secret_text")]
    pub psk: Secret,
    /// What people call it.
    pub name: String,
    /// What it said it is, such as "iPhone, Safari".
    pub platform: String,
    /// What it may do.
    pub scope: Scope,
    /// Kept out until this is taken back.
    #[serde(default)]
    pub paused: bool,
    /// Whether it is paused because it was not seen for [`UNSEEN_LIMIT`].
    #[serde(default)]
    pub expired: bool,
    /// Whether it is paused because the relay knows it as revoked: this list is older than that, a backup for instance.
    /// An older build forgets why, and keeps it out all the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revoked_at_relay: bool,
    /// Hours in which it could have been seen, and was not.
    #[serde(default)]
    pub unseen_hours: u32,
    /// When it was paired.
    pub added_at: Timestamp,
    /// When it was last connected.
    pub last_seen: Timestamp,
}

/// The highest version that a relay may say it holds. Versions are seconds since 1970, or one more than the one before:
/// this is the year 36,000, and leaves all the numbers above it for changes to come.
const MAX_SEEN: u64 = 1 << 40;

/// A version of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceList {
    /// Grows with every change.
    #[serde(rename = "list_version")]
    pub version: u64,
    /// All devices are kept out until this is taken back.
    #[serde(default)]
    pub paused: bool,
    /// The devices, oldest first.
    pub devices: Vec<Device>,
}

impl Document for DeviceList {
    const VERSION: u32 = 1;
}

impl DeviceList {
    /// The identity keys of all devices, for the relay. Those that are paused are among them: they are kept out here, and are not revoked.
    pub fn keys(&self) -> Vec<PublicKey> {
        self.devices.iter().map(|device| device.identity).collect()
    }

    /// The device with this id.
    pub fn device(&self, id: DeviceId) -> Option<&Device> {
        self.devices.iter().find(|device| device.device_id == id)
    }

    /// The device that a handshake's static key belongs to, if it may come in.
    pub fn admit(&self, static_key: &PublicKey) -> Result<&Device, AdmitError> {
        let device = self.devices.iter().find(|device| device.static_key == *static_key);
        let device = device.ok_or(AdmitError::Unknown)?;
        if self.paused || device.paused { Err(AdmitError::Paused) } else { Ok(device) }
    }

    /// The device that a person means by a name, an id, or the start of an id.
    pub fn find(&self, query: &str) -> Result<&Device, FindError> {
        find::find("device", query, &self.devices, |device| (device.device_id.to_string(), &device.name))
    }

    fn check(&self) -> Result<(), String> {
        if self.devices.len() > MAX_DEVICES {
            return Err(format!("more than {MAX_DEVICES} devices"));
        }
        for (n, device) in self.devices.iter().enumerate() {
            device.check()?;
            if self.devices[..n].iter().any(|other| device.collides(other)) {
                return Err(format!("device {} shares a key with another", device.device_id.short()));
            }
        }
        Ok(())
    }
}

impl Device {
    /// A clock that was set back changes nothing.
    fn seen(&mut self, now: Timestamp) {
        self.last_seen = self.last_seen.max(now);
        self.unseen_hours = 0;
    }

    fn check(&self) -> Result<(), String> {
        let id = self.device_id.short();
        if self.device_id != DeviceId::of(&self.identity) {
            return Err(format!("the id of device {id} does not belong to its key"));
        }
        check_identity(&self.identity).map_err(|error| format!("identity key of device {id}: {error}"))?;
        check_static(&self.static_key).map_err(|error| format!("static key of device {id}: {error}"))
    }

    fn collides(&self, other: &Self) -> bool {
        self.identity == other.identity || self.static_key == other.static_key
    }
}

/// Why a device is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    /// It was never paired, or was revoked.
    #[error("no such device")]
    Unknown,
    /// It is on the list, and kept out for now.
    #[error("the device is paused")]
    Paused,
}

/// Why the list was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The list is full.
    #[error("this host has {MAX_DEVICES} devices, the most there can be: revoke one first")]
    Full,
    /// A device with one of these keys is there.
    #[error("this device is paired already as {}: revoke that first", quote(name))]
    Duplicate {
        /// The one that is there.
        name: String,
    },
    /// The device can't be used.
    #[error("{0}")]
    Invalid(String),
    /// No device has this id.
    #[error("no device has the id {0}")]
    Unknown(DeviceId),
    /// The disk did not take it. What takes away holds nevertheless, and the next flush tries to write it again.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The list, shared by everything in the process.
///
/// Methods that change it write to the disk before they return; call them
/// where a few milliseconds don't hurt. Reading never waits for the disk.
#[derive(Debug)]
pub struct DeviceStore {
    path: PathBuf,
    /// Held while a change is made and written, so that changes follow each other.
    writing: Mutex<()>,
    list: watch::Sender<Arc<DeviceList>>,
    /// Memory is ahead of the disk: somebody was seen, or a write failed.
    unsaved: AtomicBool,
}

impl DeviceStore {
    /// Reads the list in `home`; an absent file is an empty list.
    pub fn open(home: &Path, now: Timestamp) -> Result<Self, FileError> {
        let path = path(home);
        files::state_dir(home)?;
        files::state_dir(&super::host_dir(home))?;
        let mut list = match atomic::load::<DeviceList>(&path)? {
            Some(list) => list,
            None => DeviceList { version: 0, paused: false, devices: Vec::new() },
        };
        list.check().map_err(|what| FileError::Inconsistent { path: path.clone(), what })?;
        list.version = next_version(list.version, now);
        let list = watch::Sender::new(Arc::new(list));
        Ok(Self { path, writing: Mutex::new(()), list, unsaved: AtomicBool::new(false) })
    }

    /// The list as it is.
    pub fn current(&self) -> Arc<DeviceList> {
        self.list.borrow().clone()
    }

    /// The list, and a wake-up at each new version.
    pub fn subscribe(&self) -> watch::Receiver<Arc<DeviceList>> {
        self.list.subscribe()
    }

    /// The device that a handshake's static key belongs to, if it may come in.
    pub fn admit(&self, static_key: &PublicKey) -> Result<Device, AdmitError> {
        self.current().admit(static_key).cloned()
    }

    /// Adds a device that was just paired.
    pub fn add(&self, mut device: Device, now: Timestamp) -> Result<(), ChangeError> {
        device.name = clean_name(&device.name);
        device.platform = clean_name(&device.platform);
        device.check().map_err(ChangeError::Invalid)?;
        self.change(now, |list| {
            if let Some(other) = list.devices.iter().find(|other| device.collides(other)) {
                return Err(ChangeError::Duplicate { name: other.name.clone() });
            }
            if list.devices.len() >= MAX_DEVICES {
                return Err(ChangeError::Full);
            }
            list.devices.push(device);
            Ok(Effect::Gives)
        })
    }

    /// Takes a device off the list.
    pub fn remove(&self, id: DeviceId, now: Timestamp) -> Result<Device, ChangeError> {
        let mut removed = None;
        self.change(now, |list| {
            let at = list.devices.iter().position(|device| device.device_id == id).ok_or(ChangeError::Unknown(id))?;
            removed = Some(list.devices.remove(at));
            Ok(Effect::TakesAway)
        })?;
        removed.ok_or(ChangeError::Unknown(id))
    }

    /// Changes what a device may do.
    pub fn set_scope(&self, id: DeviceId, scope: Scope, now: Timestamp) -> Result<(), ChangeError> {
        self.change(now, |list| {
            let device = device_mut(list, id)?;
            let before = std::mem::replace(&mut device.scope, scope);
            Ok(if scope > before { Effect::Gives } else { Effect::TakesAway })
        })
    }

    /// Keeps one device out, or lets it in again, also one that has expired; without an id, all of them.
    pub fn set_paused(&self, id: Option<DeviceId>, paused: bool, now: Timestamp) -> Result<(), ChangeError> {
        self.change(now, |list| {
            match id {
                Some(id) => {
                    let device = device_mut(list, id)?;
                    (device.paused, device.expired, device.unseen_hours) = (paused, false, 0);
                    device.revoked_at_relay = false;
                }
                None => list.paused = paused,
            }
            Ok(if paused { Effect::TakesAway } else { Effect::Gives })
        })
    }

    /// Counts an hour in which all devices could be seen, and says who was not for [`UNSEEN_LIMIT`]: those are for
    /// [`Self::set_expired`]. Written later. `now` is for people to read, and decides nothing.
    pub fn hour_passed(&self, is_connected: impl Fn(DeviceId) -> bool, now: Timestamp) -> Vec<Device> {
        let mut expired = Vec::new();
        self.list.send_if_modified(|list| {
            let all_paused = list.paused;
            for device in &mut Arc::make_mut(list).devices {
                self.unsaved.store(true, Ordering::Relaxed);
                if is_connected(device.device_id) {
                    device.seen(now);
                } else if !all_paused && !device.paused {
                    // Who is kept out can't be seen.
                    device.unseen_hours = device.unseen_hours.saturating_add(1);
                }
                if !device.paused && device.unseen_hours >= UNSEEN_LIMIT {
                    expired.push(device.clone());
                }
            }
            false // no new version, so nobody is woken
        });
        expired
    }

    /// Keeps out a device that was not seen for [`UNSEEN_LIMIT`].
    pub fn set_expired(&self, id: DeviceId, now: Timestamp) -> Result<(), ChangeError> {
        self.change(now, |list| {
            let device = device_mut(list, id)?;
            (device.paused, device.expired) = (true, true);
            Ok(Effect::TakesAway)
        })
    }

    /// Keeps out those of the devices whom the relay knows as revoked, and gives those that were not kept out for that
    /// reason before. They stay on the list: whether they belong there is for the owner to say.
    pub fn set_revoked_at_relay(&self, keys: &[PublicKey], now: Timestamp) -> Result<Vec<Device>, ChangeError> {
        let is_news = |device: &Device| !device.revoked_at_relay && keys.contains(&device.identity);
        let news: Vec<_> = self.current().devices.iter().filter(|device| is_news(device)).cloned().collect();
        if !news.is_empty() {
            self.change(now, |list| {
                for device in list.devices.iter_mut().filter(|device| is_news(device)) {
                    (device.paused, device.revoked_at_relay) = (true, true);
                }
                Ok(Effect::TakesAway)
            })?;
        }
        Ok(news)
    }

    /// Makes a version beyond `seen`, which the relay holds: with a clock set back or a restored file, this list would be ignored.
    ///
    /// One beyond [`MAX_SEEN`] is a lie, and is not followed: after the last number there is none for the next change.
    pub fn outgrow(&self, seen: u64, now: Timestamp) -> Result<(), ChangeError> {
        if seen <= self.current().version || seen > MAX_SEEN {
            return Ok(());
        }
        self.change(now, |list| {
            list.version = seen;
            Ok(Effect::TakesAway)
        })
    }

    /// Notes that a device is connected now; written later.
    pub fn touch(&self, id: DeviceId, now: Timestamp) {
        self.list.send_if_modified(|list| {
            if let Ok(device) = device_mut(Arc::make_mut(list), id) {
                device.seen(now);
                self.unsaved.store(true, Ordering::Relaxed);
            }
            false // no new version, so nobody is woken
        });
    }

    /// Writes what is not on the disk yet: when devices were last seen, and changes that failed. Call it now and then, and before the agent stops.
    pub fn flush(&self) -> Result<(), FileError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.unsaved.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        atomic::save(&self.path, &*self.current()).inspect_err(|_| self.unsaved.store(true, Ordering::Relaxed))
    }

    fn change(
        &self,
        now: Timestamp,
        edit: impl FnOnce(&mut DeviceList) -> Result<Effect, ChangeError>,
    ) -> Result<(), ChangeError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = DeviceList::clone(&self.current());
        let effect = edit(&mut list)?;
        list.version = next_version(list.version, now);
        let written = atomic::save(&self.path, &list);
        if written.is_ok() || effect == Effect::TakesAway {
            self.put(list);
        }
        if written.is_err() && effect == Effect::TakesAway {
            self.unsaved.store(true, Ordering::Relaxed); // the next flush tries again
        }
        Ok(written?)
    }

    /// Publishes a new version, with what was seen while it was written.
    fn put(&self, mut list: DeviceList) {
        self.list.send_modify(|current| {
            for device in &mut list.devices {
                if let Some(seen) = current.device(device.device_id) {
                    device.last_seen = device.last_seen.max(seen.last_seen);
                    device.unseen_hours = device.unseen_hours.min(seen.unseen_hours);
                }
            }
            *current = Arc::new(list);
        });
    }
}

/// What a change does when the disk does not take it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Nothing.
    Gives,
    /// It holds in memory.
    TakesAway,
}

fn device_mut(list: &mut DeviceList, id: DeviceId) -> Result<&mut Device, ChangeError> {
    list.devices.iter_mut().find(|device| device.device_id == id).ok_or(ChangeError::Unknown(id))
}

fn next_version(version: u64, now: Timestamp) -> u64 {
    version.saturating_add(1).max(now.unix())
}

/// Where the list of a home is.
pub(super) fn path(home: &Path) -> PathBuf {
    super::host_dir(home).join("devices.json")
}

#[cfg(test)]
impl Device {
    /// A device with keys of its own.
    pub(crate) fn for_test(name: &str, scope: Scope, at: Timestamp) -> Self {
        use reachback_proto::crypto::keys::{Identity, StaticKey};
        let rng = ring::rand::SystemRandom::new();
        let identity = Identity::generate(&rng).unwrap().public();
        Self {
            device_id: DeviceId::of(&identity),
            identity,
            static_key: StaticKey::generate(&rng).unwrap().public(),
            psk: Secret::random(&rng).unwrap(),
            name: name.into(),
            platform: "test".into(),
            scope,
            paused: false,
            expired: false,
            revoked_at_relay: false,
            unseen_hours: 0,
            added_at: at,
            last_seen: at,
        }
    }
}

#[cfg(test)]
mod tests;
