//! One-time enrolment keys: how a host becomes known.
//!
//! A key has 256 random bits, works once and for an hour, and is stored as its
//! hash. `reachback up` takes one in process; a relay that runs alone keeps one
//! in `enroll-key` of its data directory until the first host has used it, and
//! `reachback-relay enroll` writes further ones.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::{fs, io};

use reachback_proto::control::EnrollKey;
use reachback_proto::crypto::keys::{KeyError, random};
use reachback_proto::words::quote;
use ring::rand::SystemRandom;
use zeroize::Zeroizing;

use crate::files;
use crate::store::{EnrollHash, Store, StoreError};

/// Why there is no enrolment key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnrollError {
    /// No randomness.
    #[error("no enrolment key could be made")]
    Key(#[from] KeyError),
    /// Its hash could not be stored.
    #[error("the enrolment key could not be stored")]
    Store(#[from] StoreError),
    /// Its file could not be written.
    #[error("enrolment key file {} could not be written", quote(path.display()))]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Makes a key that works until `now` + `lifetime` (seconds).
pub(crate) async fn create(store: &dyn Store, now: u64, lifetime: u64) -> Result<EnrollKey, EnrollError> {
    let bytes = Zeroizing::new(random::<32>(&SystemRandom::new())?);
    let key = EnrollKey(data_encoding::BASE32_NOPAD.encode(&bytes[..]).to_ascii_lowercase());
    store.add_enroll_key(EnrollHash::of(&key.0), now.saturating_add(lifetime)).await?;
    Ok(key)
}

/// Makes a key and writes it to `path`, for this user only.
pub(crate) async fn create_file(store: &dyn Store, path: &Path, now: u64, lifetime: u64) -> Result<(), EnrollError> {
    let key = create(store, now, lifetime).await?;
    let line = Zeroizing::new(format!("{}\n", key.0));
    files::replace(path, line.as_bytes()).map_err(|source| EnrollError::File { path: path.to_owned(), source })
}

/// The key file of a relay that no host has joined yet.
pub(crate) struct Enrollment {
    file: Option<PathBuf>,
    lifetime: u64,
    expires_at: Mutex<u64>,
}

impl Enrollment {
    /// Without a `file`, keys are only made on request.
    pub(crate) fn new(file: Option<PathBuf>, lifetime: u64) -> Self {
        Self { file, lifetime, expires_at: Mutex::new(0) }
    }

    /// How long a key works, in seconds.
    pub(crate) fn lifetime(&self) -> u64 {
        self.lifetime
    }

    /// Makes the file right: gone once a host has enrolled, else holding a key that works at `now`.
    ///
    /// Returns the file while there is one.
    pub(crate) async fn refresh(&self, store: &dyn Store, now: u64) -> Result<Option<PathBuf>, EnrollError> {
        let Some(path) = &self.file else { return Ok(None) };
        if store.has_hosts().await? {
            return match fs::remove_file(path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    Err(EnrollError::File { path: path.clone(), source })
                }
                _ => Ok(None),
            };
        }
        let expired = *self.expires_at.lock().expect("no holder panics") <= now;
        if expired {
            create_file(store, path, now, self.lifetime).await?;
            *self.expires_at.lock().expect("no holder panics") = now.saturating_add(self.lifetime);
        }
        Ok(Some(path.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::store;
    use reachback_proto::ids::PublicKey;

    #[tokio::test]
    async fn the_key_file_is_renewed_when_it_expires_and_gone_once_a_host_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let store = store::open(&Config { data: dir.path().to_owned(), ..Config::default() }).await.unwrap();
        let store = &*store;
        let path = dir.path().join("enroll-key");
        let enrollment = Enrollment::new(Some(path.clone()), 100);
        let read = || fs::read_to_string(&path).unwrap().trim().to_owned();

        assert_eq!(enrollment.refresh(store, 1000).await.unwrap(), Some(path.clone()));
        let first = read();
        enrollment.refresh(store, 1099).await.unwrap();
        assert_eq!(read(), first);
        enrollment.refresh(store, 1100).await.unwrap();
        let second = read();
        assert_ne!(second, first);

        assert!(store.enroll(EnrollHash::of(&second), PublicKey([1; 32]), 1150).await.unwrap());
        assert_eq!(enrollment.refresh(store, 1150).await.unwrap(), None);
        assert!(!path.exists());
        assert_eq!(enrollment.refresh(store, 9999).await.unwrap(), None);
    }
}
