//! Every device's sessions at this host.
//!
//! A session belongs to the device whose key opened it; another key that names
//! it hears what an unknown id hears. A device has at most [`MAX_PER_DEVICE`]:
//! one more ends the one that has been without a link for longest. Together they
//! hold at most [`MAX_BYTES_PER_DEVICE`], give or take what a link carries
//! between two looks. Sessions without a link end after [`DETACHED_LIMIT`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reachback_proto::frame::ByeReason;
use reachback_proto::ids::{DeviceId, SessionId};
use reachback_relay::vital;
use tokio::sync::Notify;

use crate::session::{SessionHandle, SessionState};

/// Sessions of one device.
pub(crate) const MAX_PER_DEVICE: usize = 8;
/// Bytes that one device's sessions hold together: one full session (`SessionLimits`). What waits in outboxes counts there.
pub(crate) const MAX_BYTES_PER_DEVICE: usize = 384 << 20;
/// For so long after its link was lost a device is likely to be trying to come back.
const AWAITED_FOR: Duration = Duration::from_secs(10 * 60);
/// A session without a link ends after this long.
pub(crate) const DETACHED_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// See the module's header.
#[derive(Debug, Default)]
pub struct Sessions {
    devices: Mutex<HashMap<DeviceId, Vec<Entry>>>,
    /// A session was forgotten.
    removed: Notify,
}

#[derive(Debug)]
struct Entry {
    id: SessionId,
    handle: SessionHandle,
    detached_since: Option<Instant>,
}

impl Sessions {
    /// The session with this id, if it is this device's.
    pub(crate) fn find(&self, device: DeviceId, id: SessionId) -> Option<SessionHandle> {
        let devices = self.lock();
        let entry = devices.get(&device)?.iter().find(|entry| entry.id == id)?;
        Some(entry.handle.clone())
    }

    /// Adds a session; the one that has to make room for it, if any, is for the caller to end.
    pub(crate) fn insert(&self, device: DeviceId, id: SessionId, handle: SessionHandle) -> Option<SessionHandle> {
        let mut devices = self.lock();
        let entries = devices.entry(device).or_default();
        entries.push(Entry { id, handle, detached_since: None });
        if entries.len() <= MAX_PER_DEVICE {
            return None;
        }
        // Detached longest first; the oldest where all have links. Never the new one.
        let oldest = entries[..entries.len() - 1]
            .iter()
            .enumerate()
            .min_by_key(|(n, entry)| (entry.detached_since.is_none(), entry.detached_since, *n))
            .map(|(n, _)| n)?;
        Some(entries.remove(oldest).handle)
    }

    /// Forgets a session that has ended.
    pub(crate) fn remove(&self, device: DeviceId, id: SessionId) {
        let mut devices = self.lock();
        if let Some(entries) = devices.get_mut(&device) {
            entries.retain(|entry| entry.id != id);
            if entries.is_empty() {
                devices.remove(&device);
            }
        }
        drop(devices);
        self.removed.notify_waiters();
    }

    /// Returns once only devices have sessions for which `stays` says so: the others' last words are out then.
    pub(crate) async fn only(&self, stays: impl Fn(DeviceId) -> bool) {
        loop {
            // Made before the look, so that no end between the two is missed.
            let removed = self.removed.notified();
            if self.lock().keys().all(|device| stays(*device)) {
                return;
            }
            removed.await;
        }
    }

    /// Notes a session's state, for [`Self::expired`] and for who makes room.
    pub(crate) fn note(&self, device: DeviceId, id: SessionId, state: &SessionState, now: Instant) {
        if let Some(entry) = self.lock().get_mut(&device).and_then(|entries| entries.iter_mut().find(|e| e.id == id)) {
            entry.detached_since = match state {
                SessionState::Up | SessionState::Attaching => None,
                _ => entry.detached_since.or(Some(now)),
            };
        }
    }

    /// Sessions that have been without a link for too long.
    pub(crate) fn expired(&self, now: Instant) -> Vec<SessionHandle> {
        let too_long = |since: Instant| now.saturating_duration_since(since) >= DETACHED_LIMIT;
        let devices = self.lock();
        let entries = devices.values().flatten().filter(|entry| entry.detached_since.is_some_and(too_long));
        entries.map(|entry| entry.handle.clone()).collect()
    }

    /// Sessions that have to end so that what their device holds is within [`MAX_BYTES_PER_DEVICE`].
    pub(crate) fn over_bytes(&self) -> Vec<SessionHandle> {
        let devices = self.lock();
        let mut over = Vec::new();
        for entries in devices.values() {
            let mut held: Vec<_> = entries.iter().map(|entry| (entry, entry.handle.held_bytes())).collect();
            let mut sum = held.iter().map(|(_, bytes)| bytes).sum::<usize>();
            // Those that nobody looks at go first, then the largest.
            held.sort_unstable_by_key(|(entry, bytes)| (entry.detached_since.is_some(), *bytes));
            while sum > MAX_BYTES_PER_DEVICE
                && let Some((entry, bytes)) = held.pop()
            {
                sum -= bytes;
                over.push(entry.handle.clone());
            }
        }
        over
    }

    /// Ends every session of the devices for which `wanted` says so.
    pub(crate) async fn end(&self, wanted: impl Fn(DeviceId) -> bool, reason: ByeReason) {
        let handles: Vec<_> = {
            let devices = self.lock();
            let wanted = devices.iter().filter(|(device, _)| wanted(**device));
            wanted.flat_map(|(_, entries)| entries.iter().map(|entry| entry.handle.clone())).collect()
        };
        // Together: one peer that does not read must not delay the others' end.
        let mut ending = tokio::task::JoinSet::new();
        for handle in handles {
            ending.spawn(async move { handle.end(reason).await });
        }
        while let Some(ended) = ending.join_next().await {
            vital::raise(ended);
        }
    }

    /// Ends every link, and keeps the sessions.
    pub(crate) async fn part(&self) {
        let handles: Vec<_> = self.lock().values().flatten().map(|entry| entry.handle.clone()).collect();
        let mut parting = tokio::task::JoinSet::new();
        for handle in handles {
            parting.spawn(async move { handle.part().await });
        }
        while let Some(parted) = parting.join_next().await {
            vital::raise(parted);
        }
    }

    /// Whether some device has a link, or lost its last one so recently that it is likely to be trying.
    pub(crate) fn are_awaited(&self, now: Instant) -> bool {
        let is_near = |since: Instant| now.saturating_duration_since(since) < AWAITED_FOR;
        self.lock().values().flatten().any(|entry| entry.detached_since.is_none_or(is_near))
    }

    /// How many sessions each device has, and whether one of them has a link.
    pub(crate) fn presence(&self) -> HashMap<DeviceId, bool> {
        let devices = self.lock();
        devices.iter().map(|(id, entries)| (*id, entries.iter().any(|e| e.detached_since.is_none()))).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<DeviceId, Vec<Entry>>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use reachback_proto::session::{Session, SessionLimits};
    use tokio::time::timeout;

    use super::*;
    use crate::session::{StartedSession, start};

    const DEVICE: DeviceId = DeviceId([1; 16]);

    /// A session without a link that holds so many bytes.
    async fn holding(sessions: &Sessions, n: u8, device: DeviceId, bytes: usize) -> StartedSession {
        let session = start(Session::host(SessionId([n; 16]), SessionLimits::default(), Instant::now()));
        sessions.insert(device, SessionId([n; 16]), session.handle.clone());
        session.api.sender.send(Bytes::from(vec![0; bytes])).await.unwrap();
        let held = async {
            while session.handle.held_bytes() < bytes {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(30), held).await.expect("the session does not say what it holds");
        session
    }

    #[tokio::test]
    async fn a_device_that_holds_too_much_loses_first_what_nobody_looks_at() {
        const SIZE: usize = 60 << 20;
        let sessions = Sessions::default();
        let mut kept = Vec::new();
        for n in 0..6 {
            kept.push(holding(&sessions, n, DEVICE, SIZE).await);
            kept.push(holding(&sessions, 10 + n, DeviceId([2; 16]), 1000).await);
        }
        assert!(sessions.over_bytes().is_empty(), "within the bound nobody ends");
        kept.push(holding(&sessions, 6, DEVICE, SIZE).await);
        let down = SessionState::Down { reconnect_in: None, carried: true, silent: false };
        sessions.note(DEVICE, SessionId([2; 16]), &down, Instant::now());
        for over in sessions.over_bytes() {
            over.end(ByeReason::Limit).await;
            sessions.remove(DEVICE, SessionId([2; 16]));
        }
        assert!(sessions.find(DEVICE, SessionId([0; 16])).is_some() && sessions.over_bytes().is_empty());
        let ended = |state: &SessionState| matches!(state, SessionState::Ended { .. });
        let over: Vec<_> = kept.iter().filter(|session| ended(&session.handle.state().borrow())).collect();
        assert_eq!(over.len(), 1, "one is enough, and no other device pays");
        assert!(ended(&kept[4].handle.state().borrow()), "the one without a link");
    }

    #[tokio::test]
    async fn a_device_has_eight_sessions_and_one_more_takes_the_place_of_the_longest_left_alone() {
        let sessions = Sessions::default();
        let other = holding(&sessions, 100, DeviceId([2; 16]), 1).await;
        let mut kept = Vec::new();
        for n in 0..MAX_PER_DEVICE as u8 {
            kept.push(holding(&sessions, n, DEVICE, 1).await);
        }
        let down = SessionState::Down { reconnect_in: None, carried: true, silent: false };
        let now = Instant::now();
        sessions.note(DEVICE, SessionId([5; 16]), &down, now);
        sessions.note(DEVICE, SessionId([3; 16]), &down, now + Duration::from_secs(1));
        // Without a link first, then the oldest; never the new one.
        for (n, gone) in [(20, 5), (21, 3), (22, 0), (23, 1)] {
            let session = start(Session::host(SessionId([n; 16]), SessionLimits::default(), Instant::now()));
            let over = sessions.insert(DEVICE, SessionId([n; 16]), session.handle.clone());
            over.expect("the device has more than eight").end(ByeReason::Limit).await;
            let ended = matches!(*kept[gone].handle.state().borrow(), SessionState::Ended { .. });
            assert!(ended, "session {gone} goes on");
            assert!(sessions.find(DEVICE, SessionId([gone as u8; 16])).is_none());
            assert!(sessions.find(DEVICE, SessionId([n; 16])).is_some());
            kept.push(session);
        }
        assert!(sessions.find(DeviceId([2; 16]), SessionId([100; 16])).is_some(), "another device pays");
        drop(other);
    }
}
