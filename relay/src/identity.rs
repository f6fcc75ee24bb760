//! The relay's own key: what hosts and devices pin, whatever certificate it shows.
//!
//! It is made once and kept in `identity.json` of the data directory. A file
//! that cannot be read as an identity stops the relay: replacing it would turn
//! every paired device and enrolled host away.

use std::path::{Path, PathBuf};
use std::{fs, io};

use reachback_proto::crypto::keys::{Identity, KeyError, Secret};
use reachback_proto::words::quote;
use ring::rand::SystemRandom;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::files;

/// Why the relay has no identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The file is there but can't be read, or can't be written.
    #[error("identity file {} could not be used", quote(path.display()))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is there but is no identity.
    #[error(
        "identity file {} is damaged: restore it from a backup; if there is none, move it away and start again, \
         then enrol every host and pair every device again",
        quote(path.display())
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A newer relay wrote it.
    #[error(
        "identity file {} has version {found}, and this relay knows versions up to {VERSION}: a newer one wrote it, so \
         update this one; the file was left as it is",
        quote(path.display())
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version in it.
        found: u32,
    },
    /// No key could be made.
    #[error("no identity key could be made")]
    Key(#[from] KeyError),
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    seed: String,
}

/// Read before the rest, which another version may hold differently.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

const VERSION: u32 = 1;

/// The identity in `path`, made and stored there the first time.
pub(crate) fn load_or_create(path: &Path) -> Result<Identity, IdentityError> {
    let io_error = |source| IdentityError::Io { path: path.to_owned(), source };
    match fs::read(path) {
        Ok(content) => return parse(&Zeroizing::new(content), path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_error(error)),
    }
    let identity = Identity::generate(&SystemRandom::new())?;
    let mut seed = data_encoding::BASE32_NOPAD.encode(identity.seed().expose());
    seed.make_ascii_lowercase();
    let content = serde_json::to_vec(&Stored { version: VERSION, seed }).map(Zeroizing::new);
    files::create_new(path, &content.map_err(|e| io_error(e.into()))?).map_err(io_error)?;
    Ok(identity)
}

fn parse(content: &[u8], path: &Path) -> Result<Identity, IdentityError> {
    let damaged = || IdentityError::Damaged { path: path.to_owned() };
    match serde_json::from_slice(content) {
        Ok(Head { version: VERSION }) => seed(content).map(Identity::from_seed).ok_or_else(damaged),
        Ok(Head { version: found }) if found > VERSION => Err(IdentityError::Newer { path: path.to_owned(), found }),
        Ok(_) | Err(_) => Err(damaged()),
    }
}

fn seed(content: &[u8]) -> Option<Secret> {
    let stored: Stored = serde_json::from_slice(content).ok()?;
    let upper = Zeroizing::new(stored.seed.to_ascii_uppercase());
    let bytes = Zeroizing::new(data_encoding::BASE32_NOPAD.decode(upper.as_bytes()).ok()?);
    Some(Secret::new(bytes.as_slice().try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_stays_the_same_and_a_damaged_file_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity.json");
        let first = load_or_create(&path).unwrap().public();
        assert_eq!(load_or_create(&path).unwrap().public(), first);

        for broken in [&b""[..], b"{", br#"{"version":0,"seed":"aaaa"}"#, br#"{"version":1,"seed":"aaaa"}"#] {
            fs::write(&path, broken).unwrap();
            let error = load_or_create(&path).unwrap_err();
            assert!(matches!(error, IdentityError::Damaged { .. }), "{error:?}");
            assert!(error.to_string().contains("identity.json"), "{error}");
            assert_eq!(fs::read(&path).unwrap(), broken);
        }
        let newer = br#"{"version":2,"sealed":true}"#;
        fs::write(&path, newer).unwrap();
        let error = load_or_create(&path).unwrap_err();
        assert!(matches!(error, IdentityError::Newer { found: 2, .. }), "{error:?}");
        assert!(error.to_string().contains("update this one"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), newer);
    }
}
