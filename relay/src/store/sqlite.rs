//! The store in one SQLite file.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use reachback_proto::ids::{HostId, PublicKey};
use reachback_proto::words::quote;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Row, SqliteConnection, SqlitePool};

use super::{EnrollHash, ListOutcome, REVOKED_PER_HOST, SentList, Store, StoreError, Stored};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Connections to the file: SQLite writes one at a time anyway, a few more let reads go on beside.
const CONNECTIONS: u32 = 4;

const LISTED: &str = "SELECT identity_key FROM devices WHERE host_id = ?";
const REVOKED: &str = "SELECT identity_key FROM revoked_devices WHERE host_id = ?";

/// How long a statement waits for another process (`reachback-relay enroll`) to finish writing.
const BUSY: Duration = Duration::from_secs(5);

/// Why the database could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file can't be opened, or is not a database.
    #[error(
        "database {} could not be opened, and was left as it is: if it is damaged, restore it from a backup, or move \
         it away and enrol every host again",
        quote(path.display())
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: sqlx::Error,
    },
    /// Its tables can't be brought to this version.
    #[error("database {} could not be brought up to date; was it written by a newer relay?", quote(path.display()))]
    Migrate {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: MigrateError,
    },
}

/// A store in a SQLite file.
pub(crate) struct SqliteStore {
    pool: SqlitePool,
    /// Hosts that were seen, and when, until that is written.
    seen: Mutex<HashMap<HostId, u64>>,
    /// Held by the one that writes them.
    writing_seen: tokio::sync::Mutex<()>,
}

impl SqliteStore {
    /// Opens the file, making it and its tables as needed.
    pub(crate) async fn open(path: &Path) -> Result<Self, OpenError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // In WAL mode NORMAL may lose the last commits in a power cut, and a
            // revocation that is lost lets the device in again. Writes are rare here.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY);
        let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS).connect_with(options).await;
        let pool = pool.map_err(|source| OpenError::Open { path: path.to_owned(), source })?;
        MIGRATIONS.run(&pool).await.map_err(|source| OpenError::Migrate { path: path.to_owned(), source })?;
        Ok(Self { pool, seen: Mutex::default(), writing_seen: tokio::sync::Mutex::default() })
    }

    /// When many hosts are seen at once, as after a restart, whoever writes does so for all that wait: a commit waits for the
    /// disk, and one for each host would be the longest part of their coming back.
    async fn saw_host_now(&self, host: HostId, now: u64) -> Result<(), StoreError> {
        self.pending().insert(host, now);
        let _turn = self.writing_seen.lock().await;
        // Kept until it is written: when this fails, or is dropped meanwhile, the next one in turn writes it.
        let all: Vec<_> = self.pending().iter().map(|(host, seen)| (*host, *seen)).collect();
        if !all.iter().any(|(pending, _)| *pending == host) {
            return Ok(());
        }
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        for (host, seen) in &all {
            sqlx::query("UPDATE hosts SET last_seen = ? WHERE id = ?")
                .bind(seconds(*seen))
                .bind(&host.0[..])
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        let mut pending = self.pending();
        for (host, seen) in all {
            if pending.get(&host) == Some(&seen) {
                pending.remove(&host);
            }
        }
        Ok(())
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<HostId, u64>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn enroll_now(&self, hash: EnrollHash, host_key: PublicKey, now: u64) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let used =
            sqlx::query("UPDATE enroll_keys SET used_at = ?2 WHERE hash = ?1 AND used_at IS NULL AND expires_at > ?2")
                .bind(&hash.0[..])
                .bind(seconds(now))
                .execute(&mut *transaction)
                .await?;
        if used.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query(
            "INSERT INTO hosts (id, identity_key, enrolled_at, last_seen) VALUES (?1, ?2, ?3, ?3) ON CONFLICT DO NOTHING",
        )
        .bind(&HostId::of(&host_key).0[..])
        .bind(&host_key.0[..])
        .bind(seconds(now))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(true)
    }

    async fn put_devices_now(&self, host: HostId, version: u64, keys: Vec<PublicKey>) -> Result<SentList, StoreError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let stored: i64 = sqlx::query("SELECT device_version FROM hosts WHERE id = ?")
            .bind(&host.0[..])
            .fetch_one(&mut *transaction)
            .await?
            .try_get(0)?;
        let version = seconds(version);
        let dead = keys_of(&mut transaction, REVOKED, host).await?;
        let (revoked, wanted): (BTreeSet<_>, BTreeSet<_>) = keys.into_iter().partition(|key| dead.contains(key));
        let sent = |outcome| SentList { outcome, revoked: revoked.into_iter().collect() };
        if version < stored {
            return Ok(sent(ListOutcome::Older { stored: stored.unsigned_abs() }));
        }
        let there = keys_of(&mut transaction, LISTED, host).await?;
        if version == stored && wanted == there {
            return Ok(sent(ListOutcome::Stored));
        }
        sqlx::query("DELETE FROM devices WHERE host_id = ?").bind(&host.0[..]).execute(&mut *transaction).await?;
        for key in &wanted {
            sqlx::query("INSERT INTO devices (host_id, identity_key) VALUES (?, ?)")
                .bind(&host.0[..])
                .bind(&key.0[..])
                .execute(&mut *transaction)
                .await?;
        }
        for key in there.difference(&wanted) {
            sqlx::query("INSERT INTO revoked_devices (host_id, identity_key) VALUES (?, ?)")
                .bind(&host.0[..])
                .bind(&key.0[..])
                .execute(&mut *transaction)
                .await?;
        }
        sqlx::query(
            "DELETE FROM revoked_devices WHERE host_id = ?1 AND number NOT IN \
             (SELECT number FROM revoked_devices WHERE host_id = ?1 ORDER BY number DESC LIMIT ?2)",
        )
        .bind(&host.0[..])
        .bind(REVOKED_PER_HOST)
        .execute(&mut *transaction)
        .await?;
        sqlx::query("UPDATE hosts SET device_version = ? WHERE id = ?")
            .bind(version)
            .bind(&host.0[..])
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(sent(ListOutcome::Stored))
    }
}

/// The keys that a query finds for a host.
async fn keys_of(
    transaction: &mut SqliteConnection,
    query: &'static str,
    host: HostId,
) -> Result<BTreeSet<PublicKey>, StoreError> {
    let rows = sqlx::query(query).bind(&host.0[..]).fetch_all(transaction).await?;
    let keys = rows.iter().map(|row| {
        let key = row.try_get::<Vec<u8>, _>(0)?;
        // The table checks the length.
        Ok(PublicKey(key.try_into().map_err(|_| sqlx::Error::Protocol("a key does not have 32 bytes".into()))?))
    });
    keys.collect()
}

/// SQLite's integers are signed. Beyond 2^63 a version or a time from the network stays the largest one.
fn seconds(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Store for SqliteStore {
    fn check(&self) -> Stored<'_, ()> {
        Box::pin(async {
            sqlx::query("SELECT 1 FROM hosts LIMIT 1").fetch_optional(&self.pool).await?;
            Ok(())
        })
    }

    fn add_enroll_key(&self, hash: EnrollHash, expires_at: u64) -> Stored<'_, ()> {
        Box::pin(async move {
            sqlx::query("INSERT INTO enroll_keys (hash, expires_at) VALUES (?, ?)")
                .bind(&hash.0[..])
                .bind(seconds(expires_at))
                .execute(&self.pool)
                .await?;
            Ok(())
        })
    }

    fn enroll(&self, hash: EnrollHash, host_key: PublicKey, now: u64) -> Stored<'_, bool> {
        Box::pin(self.enroll_now(hash, host_key, now))
    }

    fn last_seen(&self, host: HostId) -> Stored<'_, Option<u64>> {
        Box::pin(async move {
            let row = sqlx::query("SELECT last_seen FROM hosts WHERE id = ?")
                .bind(&host.0[..])
                .fetch_optional(&self.pool)
                .await?;
            Ok(row.map(|row| row.try_get::<i64, _>(0)).transpose()?.map(i64::unsigned_abs))
        })
    }

    fn saw_host(&self, host: HostId, now: u64) -> Stored<'_, ()> {
        Box::pin(self.saw_host_now(host, now))
    }

    fn has_hosts(&self) -> Stored<'_, bool> {
        Box::pin(async { Ok(sqlx::query("SELECT 1 FROM hosts LIMIT 1").fetch_optional(&self.pool).await?.is_some()) })
    }

    fn put_devices(&self, host: HostId, version: u64, keys: Vec<PublicKey>) -> Stored<'_, SentList> {
        Box::pin(self.put_devices_now(host, version, keys))
    }

    fn lists_device(&self, host: HostId, device: PublicKey) -> Stored<'_, bool> {
        Box::pin(async move {
            let row = sqlx::query("SELECT 1 FROM devices WHERE host_id = ? AND identity_key = ?")
                .bind(&host.0[..])
                .bind(&device.0[..])
                .fetch_optional(&self.pool)
                .await?;
            Ok(row.is_some())
        })
    }

    fn prune(&self, now: u64) -> Stored<'_, ()> {
        Box::pin(async move {
            sqlx::query("DELETE FROM enroll_keys WHERE used_at IS NOT NULL OR expires_at <= ?")
                .bind(seconds(now))
                .execute(&self.pool)
                .await?;
            Ok(())
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.pool.close())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::store::contract;

    #[tokio::test]
    async fn sqlite_keeps_the_contract() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&dir.path().join("relay.db")).await.unwrap();
        contract::all(&store).await;
    }

    #[tokio::test]
    async fn what_was_stored_is_there_after_a_reopen_without_a_close() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.db");
        let (host, device) = (PublicKey([1; 32]), PublicKey([2; 32]));
        let store = SqliteStore::open(&path).await.unwrap();
        store.add_enroll_key(EnrollHash::of("k"), 10).await.unwrap();
        assert!(store.enroll(EnrollHash::of("k"), host, 5).await.unwrap());
        store.put_devices(HostId::of(&host), 1, vec![device]).await.unwrap();
        // Neither dropped nor closed: what a killed process leaves behind.
        let second = SqliteStore::open(&path).await.unwrap();
        assert!(second.lists_device(HostId::of(&host), device).await.unwrap());
        assert!(!second.enroll(EnrollHash::of("k"), PublicKey([3; 32]), 5).await.unwrap());
        drop(store);
    }

    #[tokio::test]
    async fn everybody_who_waits_for_one_write_hears_that_it_failed() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&dir.path().join("relay.db")).await.unwrap();
        store.pool.close().await;
        let turn = store.writing_seen.lock().await;
        let mut seen: Vec<_> = (0..8).map(|number| store.saw_host(HostId::of(&PublicKey([number; 32])), 1)).collect();
        assert!(seen.iter_mut().all(|waiting| waiting.now_or_never().is_none()), "they wait for their turn");
        drop(turn);
        for stored in futures_util::future::join_all(seen).await {
            assert!(stored.is_err());
        }
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.db");
        std::fs::write(&path, "not a database, but long enough to be looked at as one".repeat(20)).unwrap();
        let error = SqliteStore::open(&path).await.err().unwrap();
        assert!(error.to_string().contains("relay.db"), "{error}");
    }
}
