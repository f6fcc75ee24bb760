//! The hosts that this machine may control, one file each.
//!
//! Each host has its own file and its own pair of keys, so that hosts can't
//! tell that they are controlled from one machine, and one damaged file takes
//! away one host. Several `reachback` commands may run at once: there is no
//! lock, a file is written whole, and who writes last is right.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use reachback_proto::crypto::keys::{Identity, KeyError, Secret, StaticKey, check_identity, check_static};
use reachback_proto::ids::{DeviceId, HostId, PublicKey};
use reachback_proto::scope::Scope;
use reachback_relay::files::sync_parent;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::atomic::{self, Document, FileError};
use super::find::{self, FindError};
use super::host::{RelayPin, relay_to_list};
use super::timestamp::Timestamp;
use super::{clean_name, secret_text};
use crate::platform::files;

/// How old a temporary file is before another process can't still be writing it.
const LEFTOVER_AGE: Duration = Duration::from_secs(3600);

/// A host that this machine is a device of.
#[derive(Debug)]
pub struct PairedHost {
    /// What people call it.
    pub name: String,
    /// Its identity key, which its id is derived from.
    pub host_identity: PublicKey,
    /// Its static key.
    pub host_static: PublicKey,
    /// Proves this machine to the host's relay.
    pub identity: Identity,
    /// Proves this machine to the host.
    pub static_key: StaticKey,
    /// Shared with the host since pairing.
    pub psk: Secret,
    /// The relays that the host is reached through, best first. Never empty.
    pub relays: Vec<RelayPin>,
    /// What this machine may do there, as of pairing; the host's word counts.
    pub scope: Scope,
    /// When it was paired.
    pub paired_at: Timestamp,
}

impl PairedHost {
    /// The host's id.
    pub fn host_id(&self) -> HostId {
        HostId::of(&self.host_identity)
    }

    /// The relay to dial.
    pub fn relay(&self) -> &RelayPin {
        &self.relays[0]
    }

    /// The id that the host knows this machine by.
    pub fn device_id(&self) -> DeviceId {
        DeviceId::of(&self.identity.public())
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct HostFile {
    host_id: HostId,
    name: String,
    host_identity: PublicKey,
    host_static: PublicKey,
    #[serde(with = "secret_text")]
    identity_seed: Secret,
    #[serde(with = "secret_text")]
    static_private: Secret,
    #[serde(with = "secret_text")]
    psk: Secret,
    relays: Vec<RelayPin>,
    scope: Scope,
    paired_at: Timestamp,
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

/// All hosts, and the files that hold none.
#[derive(Debug, Default)]
pub struct PairedHosts {
    /// By name.
    pub hosts: Vec<PairedHost>,
    /// Files that can't be used, to be shown and not to stop the others.
    pub broken: Vec<FileError>,
}

/// Why no one host was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindHostError {
    /// None or several fit.
    #[error(transparent)]
    Find(#[from] FindError),
    /// None fits, and this file may be the one.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The folder of hosts that this machine controls.
#[derive(Debug, Clone)]
pub struct PairedHostStore {
    dir: PathBuf,
}

impl PairedHostStore {
    /// The folder in `home`; nothing is made until a host is saved.
    pub fn new(home: &Path) -> Self {
        Self { dir: home.join("controller").join("hosts") }
    }

    /// Keeps a host, in place of what was known about it, whichever build wrote that: it was paired anew, and the keys are others.
    pub fn save(&self, host: &PairedHost) -> Result<(), FileError> {
        if let Some(home) = self.dir.ancestors().nth(2) {
            files::state_dir(home)?;
        }
        files::state_dir(&self.dir)?;
        atomic::sweep(&self.dir, LEFTOVER_AGE, SystemTime::now());
        let file = HostFile {
            host_id: host.host_id(),
            name: clean_name(&host.name),
            host_identity: host.host_identity,
            host_static: host.host_static,
            identity_seed: host.identity.seed().clone(),
            static_private: host.static_key.private().clone(),
            psk: host.psk.clone(),
            relays: host.relays.clone(),
            scope: host.scope,
            paired_at: host.paired_at,
        };
        atomic::save(&self.path(host.host_id()), &file)
    }

    /// The host with this id; `None` where there is none.
    pub fn load(&self, id: HostId) -> Result<Option<PairedHost>, FileError> {
        let path = self.path(id);
        let Some(file) = atomic::load::<HostFile>(&path)? else { return Ok(None) };
        let wrong = |what: String| FileError::Inconsistent { path: path.clone(), what };
        let weak = |name: &'static str| move |error: KeyError| wrong(format!("{name}: {error}"));
        if file.host_id != id || HostId::of(&file.host_identity) != id {
            return Err(wrong("its name, its host id and its key don't belong together".into()));
        }
        check_identity(&file.host_identity).map_err(weak("host's identity key"))?;
        if file.relays.is_empty() {
            return Err(wrong("it names no relay".into()));
        }
        for relay in &file.relays {
            relay.check().map_err(weak("relay's key"))?;
        }
        check_static(&file.host_static).map_err(weak("host's static key"))?;
        let static_key = StaticKey::from_private(file.static_private).map_err(weak("own static key"))?;
        Ok(Some(PairedHost {
            name: clean_name(&file.name),
            host_identity: file.host_identity,
            host_static: file.host_static,
            identity: Identity::from_seed(file.identity_seed),
            static_key,
            psk: file.psk,
            relays: file.relays,
            scope: file.scope,
            paired_at: file.paired_at,
        }))
    }

    /// Every host, and every file that should be one and is not.
    pub fn list(&self) -> Result<PairedHosts, FileError> {
        let mut found = PairedHosts::default();
        let entries = match std::fs::read_dir(&self.dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
            other => other.map_err(FileError::io("read", &self.dir))?,
        };
        for entry in entries {
            let entry = entry.map_err(FileError::io("read", &self.dir))?;
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".json")).and_then(|id| id.parse().ok());
            // Whatever else lies here, leftovers of a crash or a person's notes, is not ours to judge.
            let Some(id) = id else { continue };
            match self.load(id) {
                Ok(host) => found.hosts.extend(host),
                Err(error) => found.broken.push(error),
            }
        }
        found.hosts.sort_by_cached_key(|host| (host.name.to_lowercase(), host.host_id()));
        Ok(found)
    }

    /// The host that a person means by a name, an id, or the start of an id.
    pub fn find(&self, query: &str) -> Result<PairedHost, FindHostError> {
        let PairedHosts { mut hosts, broken } = self.list()?;
        let id =
            find::find("host", query, &hosts, |host| (host.host_id().to_string(), &host.name)).map(PairedHost::host_id);
        match id {
            Ok(id) => {
                let at = hosts.iter().position(|host| host.host_id() == id);
                at.map(|at| hosts.swap_remove(at)).ok_or_else(|| FindError::Empty { kind: "host" }.into())
            }
            // The name asked for may stand in a file that can't be read.
            Err(error) if !matches!(error, FindError::Ambiguous { .. }) => {
                Err(broken.into_iter().next().map_or(FindHostError::Find(error), FindHostError::File))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Forgets a host and this machine's keys for it; says whether there was one.
    pub fn remove(&self, id: HostId) -> Result<bool, FileError> {
        let path = self.path(id);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            other => other.map_err(FileError::io("remove", &path))?,
        }
        sync_parent(&path).map_err(FileError::io("remove", &path))?;
        Ok(true)
    }

    fn path(&self, id: HostId) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;

    use super::*;

    fn host(name: &str) -> PairedHost {
        let rng = SystemRandom::new();
        let identity = || Identity::generate(&rng).unwrap();
        PairedHost {
            name: name.into(),
            host_identity: identity().public(),
            host_static: StaticKey::generate(&rng).unwrap().public(),
            identity: identity(),
            static_key: StaticKey::generate(&rng).unwrap(),
            psk: Secret::random(&rng).unwrap(),
            relays: vec![RelayPin { url: "https://relay.example".into(), key: identity().public() }],
            scope: Scope::Approve,
            paired_at: Timestamp::from_unix(1_795_413_540),
        }
    }

    #[test]
    fn hosts_are_kept_listed_found_and_forgotten() {
        let temp = tempfile::tempdir().unwrap();
        let store = PairedHostStore::new(&temp.path().join("home"));
        assert!(store.list().unwrap().hosts.is_empty());
        assert!(matches!(store.find("tower"), Err(FindHostError::Find(FindError::Empty { .. }))));
        let (tower, attic) = (host("tower"), host("Attic"));
        store.save(&tower).unwrap();
        store.save(&attic).unwrap();

        let names: Vec<_> = store.list().unwrap().hosts.into_iter().map(|host| host.name).collect();
        assert_eq!(names, ["Attic", "tower"]);
        let loaded = store.find("TOWER").unwrap();
        assert_eq!((loaded.host_id(), loaded.device_id()), (tower.host_id(), tower.device_id()));
        assert_eq!(loaded.static_key.public(), tower.static_key.public());
        assert_eq!((loaded.psk, loaded.relays), (tower.psk.clone(), tower.relays.clone()));
        assert_eq!(store.find(&attic.host_id().short()).unwrap().host_id(), attic.host_id());
        assert!(matches!(store.find("cellar"), Err(FindHostError::Find(FindError::Unknown { .. }))));

        assert!(store.remove(tower.host_id()).unwrap());
        assert!(!store.remove(tower.host_id()).unwrap());
        assert!(store.load(tower.host_id()).unwrap().is_none());
    }

    #[test]
    fn two_hosts_with_one_name_are_told_apart_by_id() {
        let temp = tempfile::tempdir().unwrap();
        let store = PairedHostStore::new(temp.path());
        let (one, two) = (host("tower"), host("tower"));
        store.save(&one).unwrap();
        store.save(&two).unwrap();
        let error = store.find("tower").unwrap_err().to_string();
        assert!(error.contains(&one.host_id().short()) && error.contains(&two.host_id().short()), "{error}");
        assert_eq!(store.find(&two.host_id().to_string()).unwrap().host_id(), two.host_id());
    }

    #[test]
    fn one_damaged_file_is_reported_kept_and_does_not_hide_the_others() {
        let temp = tempfile::tempdir().unwrap();
        let store = PairedHostStore::new(temp.path());
        let (good, bad) = (host("good"), host("bad"));
        store.save(&good).unwrap();
        store.save(&bad).unwrap();
        std::fs::write(store.dir.join(".reachback-tmp-x"), "half").unwrap();
        std::fs::write(store.dir.join("notes.txt"), "mine").unwrap();
        std::fs::write(store.path(bad.host_id()), "{").unwrap();

        let listed = store.list().unwrap();
        assert_eq!((listed.hosts.len(), listed.broken.len()), (1, 1));
        assert_eq!(store.find("good").unwrap().host_id(), good.host_id());
        assert!(matches!(store.find("bad"), Err(FindHostError::File(FileError::Damaged { .. }))));
        assert_eq!(std::fs::read_to_string(store.path(bad.host_id())).unwrap(), "{");
    }

    #[test]
    fn a_file_under_another_hosts_name_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let store = PairedHostStore::new(temp.path());
        let (one, two) = (host("one"), host("two"));
        store.save(&one).unwrap();
        std::fs::rename(store.path(one.host_id()), store.path(two.host_id())).unwrap();
        assert!(matches!(store.load(two.host_id()), Err(FileError::Inconsistent { .. })));
    }
}
