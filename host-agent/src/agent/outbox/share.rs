//! What the channels of one device have together.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use reachback_proto::ids::DeviceId;
use reachback_proto::session::MAX_MESSAGE_TO_DEVICE;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::codex::Allowance;

/// Bounds of what waits for devices; all in bytes.
#[derive(Debug, Clone)]
pub struct OutboxLimits {
    /// Handed to the session at once, for one channel: more than it ever has in flight (4 MiB). Default 6 MiB.
    pub session: usize,
    /// In memory, for one channel. Default 64 MiB.
    pub memory: usize,
    /// In memory, for all channels of a device. Default 96 MiB.
    pub device_memory: usize,
    /// On disk, for one channel. Default 512 MiB.
    pub disk: u64,
    /// On disk, for all channels of a device. Default 1 GiB.
    pub device_disk: u64,
    /// What is written, and read again, at once; in memory as well, for each channel that has spilled. Default 8 MiB.
    pub segment: usize,
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self {
            session: 6 << 20,
            memory: 64 << 20,
            device_memory: 96 << 20,
            disk: 512 << 20,
            device_disk: 1 << 30,
            segment: 8 << 20,
        }
    }
}

/// The shares of all devices.
#[derive(Debug)]
pub struct Outboxes {
    limits: OutboxLimits,
    folder: PathBuf,
    devices: Mutex<HashMap<DeviceId, Weak<Share>>>,
}

impl Outboxes {
    /// What memory may not hold goes to files without a name in `folder`.
    pub fn new(limits: OutboxLimits, folder: PathBuf) -> Self {
        Self { limits, folder, devices: Mutex::default() }
    }

    /// The share of a device: one for all of its sessions.
    pub fn share(&self, device: DeviceId) -> Arc<Share> {
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        devices.retain(|_, share| share.strong_count() > 0);
        if let Some(share) = devices.get(&device).and_then(Weak::upgrade) {
            return share;
        }
        let share = Arc::new(Share::new(self.limits.clone(), self.folder.clone()));
        devices.insert(device, Arc::downgrade(&share));
        share
    }
}

/// See the module's header.
#[derive(Debug)]
pub struct Share {
    limits: OutboxLimits,
    folder: PathBuf,
    memory: AtomicUsize,
    disk: AtomicU64,
    /// KiB of large messages that sessions hold. They take turns, so that no answer is too large beside another.
    sending: Arc<Semaphore>,
    /// What Codex's connections have in hand of large messages.
    room: Arc<Semaphore>,
}

/// The unit of [`Share::sending`], in bytes.
const UNIT: usize = 1024;

impl Share {
    pub(super) fn new(limits: OutboxLimits, folder: PathBuf) -> Self {
        let sending = Arc::new(Semaphore::new(MAX_MESSAGE_TO_DEVICE / UNIT));
        let (memory, disk) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self { limits, folder, memory, disk, sending, room: Allowance::default().room }
    }

    /// What a connection to Codex for this device lets through, up to `largest` bytes; large messages share their room.
    pub fn allowance(&self, largest: Arc<AtomicUsize>) -> Allowance {
        Allowance { largest, room: Arc::clone(&self.room) }
    }

    /// What it is bounded by.
    pub fn limits(&self) -> &OutboxLimits {
        &self.limits
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the device's channels may hold so many bytes more.
    pub(super) fn fits(&self, more: usize) -> bool {
        self.memory.load(Ordering::Relaxed) + more <= self.limits.device_memory
    }

    /// A channel that held `before` bytes holds `after`.
    pub(super) fn hold(&self, before: usize, after: usize) {
        self.memory.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }

    pub(super) fn fits_on_disk(&self, more: u64) -> bool {
        self.disk.load(Ordering::Relaxed) + more <= self.limits.device_disk
    }

    pub(super) fn hold_on_disk(&self, before: u64, after: u64) {
        self.disk.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }

    /// A large message's turn in the device's sessions; `None` only when nobody counts any more.
    pub(super) async fn turn(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = bytes.div_ceil(UNIT).min(MAX_MESSAGE_TO_DEVICE / UNIT);
        Arc::clone(&self.sending).acquire_many_owned(u32::try_from(units).ok()?).await.ok()
    }

    /// Bytes in memory and on disk.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, u64) {
        (self.memory.load(Ordering::Relaxed), self.disk.load(Ordering::Relaxed))
    }
}
