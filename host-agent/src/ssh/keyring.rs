//! Keys that a person has opened, kept in memory until this process ends.
//!
//! What is kept is the key, as the SSH agent would, and never the passphrase, which may open other things too.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ring::digest::{SHA256, digest};
use russh::keys::PrivateKey;

/// Keys of files that are locked.
#[derive(Default)]
pub(super) struct Keyring {
    opened: Mutex<HashMap<PathBuf, Opened>>,
}

struct Opened {
    /// Of the file as it was then.
    digest: [u8; 32],
    key: Arc<PrivateKey>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyring(…)")
    }
}

impl Keyring {
    /// The key of this file, which holds `text` now, if it was opened as it is.
    pub(super) fn key(&self, file: &Path, text: &str) -> Option<Arc<PrivateKey>> {
        let mut opened = self.opened();
        let known = opened.get(file)?;
        if known.digest != of(text) {
            opened.remove(file);
            return None;
        }
        Some(Arc::clone(&known.key))
    }

    /// Keeps a key that `text`, what this file holds, was opened to.
    pub(super) fn keep(&self, file: &Path, text: &str, key: Arc<PrivateKey>) {
        self.opened().insert(file.to_owned(), Opened { digest: of(text), key });
    }

    fn opened(&self) -> MutexGuard<'_, HashMap<PathBuf, Opened>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of(text: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_files_as_long_as_that_is_the_same() {
        let key = PrivateKey::new(
            russh::keys::ssh_key::private::KeypairData::from(russh::keys::ssh_key::private::Ed25519Keypair::from_seed(
                &[7; 32],
            )),
            "",
        );
        let (keys, key, file) = (Keyring::default(), Arc::new(key.unwrap()), Path::new("/home/ada/.ssh/id"));
        assert!(keys.key(file, "locked").is_none());
        keys.keep(file, "locked", Arc::clone(&key));
        assert!(keys.key(file, "locked").is_some_and(|kept| Arc::ptr_eq(&kept, &key)));
        assert!(keys.key(Path::new("/home/ada/.ssh/other"), "locked").is_none());
        assert!(keys.key(file, "another").is_none());
        assert!(keys.key(file, "locked").is_none(), "it was replaced meanwhile");
        assert_eq!(format!("{keys:?}"), "Keyring(…)");
    }
}
