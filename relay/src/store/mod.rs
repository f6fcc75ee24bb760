//! What the relay remembers across restarts: hosts, their device lists, enrolment keys.
//!
//! Presence, circuits and rendezvous live in memory only ([`crate::directory`]). The
//! trait is small so that a second database is one file; [`open`] says which one
//! a configuration means, and `contract.rs` holds the tests that each one must
//! pass. Times are seconds since 1970 and come from the caller.

#[cfg(test)]
mod contract;
mod sqlite;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use reachback_proto::ids::{HostId, PublicKey};
use ring::digest::{SHA256, digest};

use crate::config::Config;
use sqlite::SqliteStore;

pub use sqlite::OpenError;

/// The store that a relay with this configuration has, made as needed: one SQLite file in its data directory.
pub(crate) async fn open(config: &Config) -> Result<Arc<dyn Store>, OpenError> {
    Ok(Arc::new(SqliteStore::open(&file(&config.data)).await?))
}

/// Whether a relay with this configuration has made its store already.
pub(crate) fn is_there(config: &Config) -> bool {
    file(&config.data).exists()
}

fn file(data: &Path) -> PathBuf {
    data.join("relay.db")
}

/// The store did not answer.
#[derive(Debug, thiserror::Error)]
#[error("the relay's database failed")]
pub struct StoreError(#[from] sqlx::Error);

/// SHA-256 of an enrolment key: the only form in which one is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EnrollHash(pub(crate) [u8; 32]);

impl EnrollHash {
    /// The hash of a key. Plain SHA-256 is enough: keys have 256 random bits.
    pub(crate) fn of(key: &str) -> Self {
        let mut out = [0; 32];
        out.copy_from_slice(digest(&SHA256, key.as_bytes()).as_ref());
        Self(out)
    }
}

/// What became of a device list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListOutcome {
    /// It is stored and in force, now or since before.
    Stored,
    /// The stored one is newer and stays in force.
    Older {
        /// Its version.
        stored: u64,
    },
}

/// A device list that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SentList {
    /// What became of it.
    pub(crate) outcome: ListOutcome,
    /// Keys of it that are revoked, and so are not in force, whatever became of the list.
    pub(crate) revoked: Vec<PublicKey>,
}

/// Revoked devices that are remembered for one host: the newest. A host has at most 256 devices, so this is each of them
/// paired anew sixteen times.
pub(crate) const REVOKED_PER_HOST: i64 = 4096;

/// The result of a store operation.
pub(crate) type Stored<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Storage of the relay. Every operation is atomic, and durable when it returns.
pub(crate) trait Store: Send + Sync {
    /// Whether the store answers.
    fn check(&self) -> Stored<'_, ()>;

    /// Keeps an enrolment key's hash until `expires_at`.
    fn add_enroll_key(&self, hash: EnrollHash, expires_at: u64) -> Stored<'_, ()>;

    /// Uses up an enrolment key to make the host with this identity key known.
    ///
    /// False, with nothing changed, when the key is unknown, used, or expired at
    /// `now`. Of several callers with one key, one gets true.
    fn enroll(&self, hash: EnrollHash, host_key: PublicKey, now: u64) -> Stored<'_, bool>;

    /// When the host was last seen; `None` when it never enrolled.
    fn last_seen(&self, host: HostId) -> Stored<'_, Option<u64>>;

    /// Records that the host was seen.
    fn saw_host(&self, host: HostId, now: u64) -> Stored<'_, ()>;

    /// Whether any host enrolled.
    fn has_hosts(&self) -> Stored<'_, bool>;

    /// Replaces the device list of an enrolled host, unless `version` is older than the stored one's.
    ///
    /// What the stored one held and this one does not is revoked for good: no list brings it back, however new. So a
    /// list of the same version may have other keys, as after a restored backup: it can only take away.
    fn put_devices(&self, host: HostId, version: u64, keys: Vec<PublicKey>) -> Stored<'_, SentList>;

    /// Whether the host's device list holds this key.
    fn lists_device(&self, host: HostId, device: PublicKey) -> Stored<'_, bool>;

    /// Forgets enrolment keys that are used or expired at `now`.
    fn prune(&self, now: u64) -> Stored<'_, ()>;

    /// Closes the store; nothing is called after it.
    fn close(&self) -> BoxFuture<'_, ()>;
}
