//! What makes this machine a host: its keys, its name, its relay.

use std::path::{Path, PathBuf};

use reachback_proto::crypto::keys::{Identity, KeyError, Secret, StaticKey, check_identity};
use reachback_proto::ids::{HostId, PublicKey, RelayId};
use reachback_proto::pairing::RelayEntry;
use reachback_proto::words::quote;
use ring::rand::SecureRandom;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::atomic::{self, Document, FileError};
use super::timestamp::Timestamp;
use super::{clean_name, devices, secret_text};
use crate::platform::files;

/// Why the host's state could not be loaded or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostStateError {
    /// The file is in the way, or can't be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// No key could be made.
    #[error("can't make the host's keys")]
    Key(#[from] KeyError),
    /// Devices are paired with keys that are gone.
    #[error(
        "{} is missing, though devices are paired: restore it from a backup, or remove devices.json beside it and pair them again",
        quote(path.display())
    )]
    KeysLost {
        /// The file.
        path: PathBuf,
    },
}

/// The relay that a host or a device connects to, and the key that it has to prove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayPin {
    /// Where it is.
    pub url: String,
    /// Its identity key.
    pub key: PublicKey,
}

impl RelayPin {
    /// Whether its key can be one.
    pub(crate) fn check(&self) -> Result<(), KeyError> {
        check_identity(&self.key)
    }

    /// Its id, shown as its fingerprint.
    pub fn id(&self) -> RelayId {
        RelayId::of(&self.key)
    }
}

impl From<&RelayEntry> for RelayPin {
    fn from(relay: &RelayEntry) -> Self {
        Self { url: relay.origin.to_string(), key: relay.key }
    }
}

/// This machine as a host. There is one in a process, under the home's lock.
#[derive(Debug)]
pub(crate) struct HostState {
    path: PathBuf,
    identity: Identity,
    static_key: StaticKey,
    created: Timestamp,
    name: String,
    relay: Option<RelayPin>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct HostFile {
    name: String,
    created: Timestamp,
    #[serde(with = "secret_text")]
    identity_seed: Secret,
    #[serde(with = "secret_text")]
    static_private: Secret,
    /// At most one so far. A list, because a host that has more should need no new file.
    relays: Vec<RelayPin>,
}

impl Document for HostFile {
    const VERSION: u32 = 2;

    fn migrate(from: u32, value: Value) -> Result<Value, String> {
        match from {
            1 => relay_to_list(value),
            other => Err(format!("there never was a version {other} of it")),
        }
    }
}

/// What version 1 had as `relay`, one or none, as `relays`.
pub(super) fn relay_to_list(mut value: Value) -> Result<Value, String> {
    let members = value.as_object_mut().ok_or("it is no object")?;
    let relay = members.remove("relay").ok_or("it names no relay, nor that there is none")?;
    let relays = if relay.is_null() { Vec::new() } else { vec![relay] };
    members.insert("relays".to_owned(), relays.into());
    Ok(value)
}

impl HostState {
    /// The host in `home`; `None` where there is none yet.
    pub(crate) fn load(home: &Path) -> Result<Option<Self>, HostStateError> {
        let path = host_path(home);
        let Some(file) = atomic::load::<HostFile>(&path)? else { return Ok(None) };
        let weak = |what: &str, error: KeyError| FileError::Inconsistent {
            path: path.clone(),
            what: format!("{what}: {error}"),
        };
        let static_key = StaticKey::from_private(file.static_private).map_err(|e| weak("static key", e))?;
        for relay in &file.relays {
            relay.check().map_err(|e| weak("relay key", e))?;
        }
        let identity = Identity::from_seed(file.identity_seed);
        let (created, name, relay) = (file.created, clean_name(&file.name), file.relays.into_iter().next());
        Ok(Some(Self { path, identity, static_key, created, name, relay }))
    }

    /// The host in `home`, made with new keys and this name where there is none yet.
    pub(crate) fn load_or_create(
        home: &Path,
        rng: &dyn SecureRandom,
        name: &str,
        now: Timestamp,
    ) -> Result<Self, HostStateError> {
        if let Some(state) = Self::load(home)? {
            return Ok(state);
        }
        let path = host_path(home);
        // New keys would make every paired device fail without a word why.
        if devices::path(home).exists() {
            return Err(HostStateError::KeysLost { path });
        }
        files::state_dir(home).map_err(FileError::from)?;
        files::state_dir(&super::host_dir(home)).map_err(FileError::from)?;
        let state = Self {
            path,
            identity: Identity::generate(rng)?,
            static_key: StaticKey::generate(rng)?,
            created: now,
            name: clean_name(name),
            relay: None,
        };
        state.save()?;
        Ok(state)
    }

    /// The id that devices know this host by.
    pub(crate) fn id(&self) -> HostId {
        HostId::of(&self.identity.public())
    }

    /// Proves this host to relays.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Proves this host to devices.
    pub(crate) fn static_key(&self) -> &StaticKey {
        &self.static_key
    }

    /// What people call it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The relay it is enrolled at.
    pub(crate) fn relay(&self) -> Option<&RelayPin> {
        self.relay.as_ref()
    }

    /// Remembers another relay, or none.
    pub(crate) fn set_relay(&mut self, relay: Option<RelayPin>) -> Result<(), FileError> {
        let old = std::mem::replace(&mut self.relay, relay);
        self.save().inspect_err(|_| self.relay = old)
    }

    fn save(&self) -> Result<(), FileError> {
        let file = HostFile {
            name: self.name.clone(),
            created: self.created,
            identity_seed: self.identity.seed().clone(),
            static_private: self.static_key.private().clone(),
            relays: self.relay.iter().cloned().collect(),
        };
        atomic::save(&self.path, &file)
    }
}

fn host_path(home: &Path) -> PathBuf {
    super::host_dir(home).join("host.json")
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;

    use super::*;

    const NOW: u64 = 1_795_413_540;

    fn make(home: &Path, name: &str) -> Result<HostState, HostStateError> {
        HostState::load_or_create(home, &SystemRandom::new(), name, Timestamp::from_unix(NOW))
    }

    #[test]
    fn a_host_keeps_its_keys_name_and_relay() {
        let temp = tempfile::tempdir().unwrap();
        let home = temp.path().join("home");
        assert!(HostState::load(&home).unwrap().is_none());
        let mut first = make(&home, "tower\n").unwrap();
        let key = Identity::generate(&SystemRandom::new()).unwrap().public();
        let relay = RelayPin { url: "https://relay.example".into(), key };
        first.set_relay(Some(relay.clone())).unwrap();

        let second = make(&home, "another name").unwrap();
        assert_eq!(second.id(), first.id());
        assert_eq!(second.static_key().public(), first.static_key().public());
        assert_eq!((second.name(), second.created.unix()), ("tower", NOW));
        assert_eq!(second.relay(), Some(&relay));
        assert_eq!(HostState::load(&home).unwrap().unwrap().name(), "tower");
    }

    #[test]
    fn a_damaged_host_file_is_reported_and_kept() {
        let temp = tempfile::tempdir().unwrap();
        make(temp.path(), "tower").unwrap();
        let path = crate::state::host_dir(temp.path()).join("host.json");
        let good = std::fs::read_to_string(&path).unwrap();
        let weak = serde_json::to_string(&PublicKey([0; 32])).unwrap();
        for bad in [
            good[..good.len() / 2].to_owned(),
            good.replace("\"relays\": []", &format!("\"relays\": [{{\"url\": \"x\", \"key\": {weak}}}]")),
        ] {
            std::fs::write(&path, &bad).unwrap();
            let error = make(temp.path(), "tower").unwrap_err();
            assert!(error.to_string().contains("host.json"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), bad);
        }
    }

    #[test]
    fn new_keys_are_not_made_while_devices_are_paired_with_the_old() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(crate::state::host_dir(temp.path())).unwrap();
        std::fs::write(crate::state::host_dir(temp.path()).join("devices.json"), "{}").unwrap();
        assert!(matches!(make(temp.path(), "tower"), Err(HostStateError::KeysLost { .. })));
        assert!(!crate::state::host_dir(temp.path()).join("host.json").exists());
    }

    #[test]
    fn secrets_do_not_print() {
        let temp = tempfile::tempdir().unwrap();
        let state = make(temp.path(), "tower").unwrap();
        let json = std::fs::read_to_string(crate::state::host_dir(temp.path()).join("host.json")).unwrap();
        let file: serde_json::Value = serde_json::from_str(&json).unwrap();
        for field in ["identity_seed", "static_private"] {
            let secret = file[field].as_str().unwrap();
            assert!(!format!("{state:?}").contains(secret));
        }
    }
}
