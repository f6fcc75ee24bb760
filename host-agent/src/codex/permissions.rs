//! The permission profiles that threads of devices run under.
//!
//! Codex knows *permission profiles*. The agent makes two of its own: one that
//! may write in the thread's folder, for workspaces, and one that only reads,
//! for everything else. Both extend what the owner's `config.toml` chooses, are
//! never looser than it, and deny the folders with the agent's keys, approved
//! commands included. No device names a profile: the firewall writes these into
//! every request that opens a thread, with their definition, because a thread
//! that is forked or resumed without them falls back to profiles that deny
//! nothing. Their names are random per run, so that no configuration file can
//! have an opinion about them.
//!
//! A server that the agent starts also gets the first one as its default, where
//! the owner chose a sandbox, so that threads of the owner's terminal are kept
//! from the keys too. Where the owner chose to have none (`danger-full-access`)
//! nothing can be denied, see [`Profiles::writing`]. It also knows the second one,
//! for commands outside of threads, which can name a profile but not define it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reachback_proto::crypto::keys::{self, KeyError};
use ring::rand::SecureRandom;
use toml::{Table, Value};

use crate::disk::Disk;

/// The profiles of one run of the agent.
#[derive(Debug, Clone)]
pub struct Profiles {
    run: String,
    deny: Vec<PathBuf>,
    config: Config,
    is_known: Arc<AtomicBool>,
}

/// Where Codex's `config.toml` is.
#[derive(Debug, Clone)]
enum Config {
    None,
    File(PathBuf),
    On(Arc<dyn Disk>),
}

/// A profile, and what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Its name, for `permissions` and in `activePermissionProfile`.
    pub id: String,
    /// Its definition, as a value of `permissions` in Codex's configuration.
    pub definition: serde_json::Value,
}

impl Profiles {
    /// Profiles that deny `deny` (absolute) on top of what `config`, Codex's `config.toml`, chooses.
    pub fn new(rng: &dyn SecureRandom, deny: Vec<PathBuf>, config: Option<PathBuf>) -> Result<Self, KeyError> {
        let run: [u8; 8] = keys::random(rng)?;
        let config = config.map_or(Config::None, Config::File);
        Ok(Self { run: data_encoding::HEXLOWER.encode(&run), deny, config, is_known: Arc::default() })
    }

    /// The same on top of what the `config.toml` on another disk chooses.
    #[must_use]
    pub fn on(self, disk: Arc<dyn Disk>) -> Self {
        Self { config: Config::On(disk), ..self }
    }

    /// For a folder that is trusted. `None` where the owner chose to have no sandbox: that holds for devices, too.
    pub fn writing(&self) -> Option<Profile> {
        let config = self.config();
        let base = match chosen(&config) {
            Chosen::NoSandbox => return None,
            Chosen::Nothing => ":workspace",
            Chosen::Base(base) => base,
        };
        Some(Profile { id: self.writing_id(), definition: json(self.definition(base, &config)) })
    }

    /// For any other folder.
    pub fn reading(&self) -> Profile {
        Profile { id: self.reading_id(), definition: json(self.definition(":read-only", &Table::new())) }
    }

    /// Whether a thread under the profile of this name is kept from the keys.
    pub fn guards(&self, id: &str) -> bool {
        id == self.writing_id() || id == self.reading_id()
    }

    /// What a command outside of threads runs under in a server that the agent started, as members of its parameters: the
    /// one that reads. Where the server was started without it, Codex's own one, which denies nothing.
    pub fn for_command(&self) -> serde_json::Map<String, serde_json::Value> {
        let (name, value) = match self.is_known.load(Ordering::Relaxed) {
            true => ("permissionProfile", self.reading_id().into()),
            false => ("sandboxPolicy", serde_json::json!({ "type": "readOnly", "networkAccess": false })),
        };
        serde_json::Map::from_iter([(name.to_owned(), value)])
    }

    /// Settings (`key=value`) for a server that the agent starts: the default of threads that choose nothing, where the owner
    /// chose a sandbox, and the profile for [`for_command`](Self::for_command).
    ///
    /// Empty where the owner chose nothing at all: then Codex goes by how far each folder is trusted, any default made here
    /// would be looser than that somewhere, and it does not start with profiles of which none is the default.
    pub(crate) fn for_process(&self) -> Vec<String> {
        let config = self.config();
        let chosen = chosen(&config);
        self.is_known.store(chosen != Chosen::Nothing, Ordering::Relaxed);
        let define = |id: &str, definition: Table| format!("permissions.{id}={}", Value::Table(definition));
        let mut settings = Vec::new();
        if chosen != Chosen::Nothing {
            settings.push(define(&self.reading_id(), self.definition(":read-only", &Table::new())));
        }
        if let Chosen::Base(base) = chosen {
            let id = self.writing_id();
            settings.push(format!("default_permissions={}", Value::from(id.as_str())));
            settings.push(define(&id, self.definition(base, &config)));
        }
        settings
    }

    fn writing_id(&self) -> String {
        format!("reachback-{}", self.run)
    }

    fn reading_id(&self) -> String {
        format!("reachback-{}-read", self.run)
    }

    /// What the owner's `config.toml` says now. A file that is not TOML is for Codex to complain about: it does not start then.
    fn config(&self) -> Table {
        let text = match &self.config {
            Config::None => String::new(),
            Config::File(path) => std::fs::read_to_string(path).unwrap_or_default(),
            Config::On(disk) => disk.codex_config(),
        };
        text.parse().unwrap_or_default()
    }

    fn definition(&self, base: &str, config: &Table) -> Table {
        let mut filesystem = Table::new();
        let mut profile = Table::from_iter([("extends".to_owned(), Value::from(base))]);
        if base == ":workspace"
            && let Some(settings) = config.get("sandbox_workspace_write").and_then(Value::as_table)
        {
            carry_over(settings, &mut filesystem, &mut profile);
        }
        // Last, so that a writable folder of the user does not open a denied one.
        filesystem.extend(self.deny.iter().map(|folder| (utf8(folder), Value::from("deny"))));
        profile.insert("filesystem".to_owned(), Value::Table(filesystem));
        profile
    }
}

/// What a `config.toml` says about the sandbox.
#[derive(Debug, PartialEq, Eq)]
enum Chosen<'a> {
    /// Codex decides by how far each folder is trusted.
    Nothing,
    /// There is to be none.
    NoSandbox,
    /// This profile.
    Base(&'a str),
}

fn chosen(config: &Table) -> Chosen<'_> {
    match (text(config, "default_permissions"), text(config, "sandbox_mode")) {
        // The older setting is the one that counts where both are there.
        (_, Some("danger-full-access")) | (Some(":danger-full-access"), None) => Chosen::NoSandbox,
        (_, Some("read-only")) => Chosen::Base(":read-only"),
        (_, Some(_)) => Chosen::Base(":workspace"),
        (None, None) => Chosen::Nothing,
        (Some(chosen), None) => Chosen::Base(chosen),
    }
}

/// What `[sandbox_workspace_write]` says, in the words of a profile.
fn carry_over(settings: &Table, filesystem: &mut Table, profile: &mut Table) {
    let is_set = |name: &str| settings.get(name).and_then(Value::as_bool).unwrap_or(false);
    let roots = settings.get("writable_roots").and_then(Value::as_array).into_iter().flatten();
    filesystem.extend(roots.filter_map(Value::as_str).map(|root| (root.to_owned(), Value::from("write"))));
    for (excluded, folder) in [("exclude_tmpdir_env_var", ":tmpdir"), ("exclude_slash_tmp", ":slash_tmp")] {
        if is_set(excluded) {
            filesystem.insert(folder.to_owned(), Value::from("read"));
        }
    }
    if is_set("network_access") {
        profile
            .insert("network".to_owned(), Value::Table(Table::from_iter([("enabled".to_owned(), Value::from(true))])));
    }
}

fn text<'a>(config: &'a Table, key: &str) -> Option<&'a str> {
    config.get(key).and_then(Value::as_str)
}

fn json(table: Table) -> serde_json::Value {
    serde_json::to_value(table).expect("a table of texts, booleans and tables is JSON")
}

fn utf8(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &str = "/home/me/.rea\"ch back";

    /// Profiles for a `config.toml`, and the folder that it lies in.
    fn profiles(config: &str) -> (tempfile::TempDir, Profiles) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, config).unwrap();
        let profiles = Profiles::new(&ring::rand::SystemRandom::new(), vec![KEYS.into()], Some(path)).unwrap();
        (dir, profiles)
    }

    #[test]
    fn the_owners_own_choice_is_what_is_extended() {
        for (config, base) in [
            ("sandbox_mode = 'workspace-write'", ":workspace"),
            ("sandbox_mode = 'read-only'", ":read-only"),
            ("default_permissions = 'mine'", "mine"),
            ("default_permissions = 'mine'\nsandbox_mode = 'read-only'", ":read-only"),
            ("", ":workspace"),
        ] {
            let (_dir, profiles) = profiles(config);
            let writing = profiles.writing().expect(config);
            assert_eq!(
                (&writing.definition["extends"], &writing.definition["filesystem"][KEYS]),
                (&base.into(), &"deny".into())
            );
            let reading = profiles.reading();
            assert_eq!(reading.definition["extends"], ":read-only", "{config}");
            assert_eq!(reading.definition["filesystem"][KEYS], "deny", "{config}");
            assert!(profiles.guards(&writing.id) && profiles.guards(&reading.id) && writing.id != reading.id);
            assert!(!profiles.guards(":workspace") && !profiles.guards("reachback") && !profiles.guards(""));
        }
    }

    #[test]
    fn a_server_of_the_agents_own_guards_the_terminals_threads_where_a_sandbox_was_chosen() {
        let (_dir, chosen) = profiles("sandbox_mode = 'workspace-write'");
        let read: Table = chosen.for_process().join("\n").parse().expect("the settings are TOML");
        let id = chosen.writing().unwrap().id;
        assert_eq!(read["default_permissions"].as_str(), Some(&*id));
        assert_eq!(read["permissions"][&id]["filesystem"][KEYS].as_str(), Some("deny"));
        assert_eq!(read["permissions"][&chosen.reading().id]["filesystem"][KEYS].as_str(), Some("deny"));
        assert!(profiles("").1.for_process().is_empty(), "looser than Codex's own default in an untrusted folder");
    }

    #[test]
    fn without_a_sandbox_nothing_is_denied_where_one_may_write() {
        for config in ["sandbox_mode = 'danger-full-access'", "default_permissions = ':danger-full-access'"] {
            let (_dir, profiles) = profiles(config);
            assert_eq!(profiles.writing(), None, "{config}");
            let read: Table = profiles.for_process().join("\n").parse().expect("the settings are TOML");
            assert_eq!(read.get("default_permissions"), None, "{config}");
            assert_eq!(read["permissions"].as_table().unwrap().keys().collect::<Vec<_>>(), [&profiles.reading().id]);
        }
    }

    #[test]
    fn a_command_outside_of_threads_runs_under_a_profile_that_the_server_was_started_with() {
        let (dir, profiles) = profiles("sandbox_mode = 'danger-full-access'");
        assert_eq!(profiles.for_command()["sandboxPolicy"]["type"], "readOnly", "nothing was started yet");
        profiles.for_process();
        let named = profiles.for_command();
        assert_eq!(named["permissionProfile"], profiles.reading().id);
        std::fs::write(dir.path().join("config.toml"), "").unwrap();
        assert_eq!(profiles.for_command(), named, "the server is the same");
        profiles.for_process();
        assert_eq!(profiles.for_command()["sandboxPolicy"]["type"], "readOnly");
    }

    #[test]
    fn a_choice_that_changes_counts_from_the_next_thread_on() {
        let (dir, profiles) = profiles("sandbox_mode = 'workspace-write'");
        std::fs::write(dir.path().join("config.toml"), "sandbox_mode = 'read-only'").unwrap();
        assert_eq!(profiles.writing().unwrap().definition["extends"], ":read-only");
    }

    #[test]
    fn no_two_runs_have_the_same_names() {
        assert_ne!(profiles("").1.reading().id, profiles("").1.reading().id);
    }

    #[test]
    fn older_settings_of_the_sandbox_are_kept() {
        let (_dir, profiles) = profiles(
            "sandbox_mode = 'workspace-write'\n[sandbox_workspace_write]\nnetwork_access = true\n\
             writable_roots = ['/data', '/home/me/.rea\"ch back']\nexclude_slash_tmp = true",
        );
        let definition = profiles.writing().unwrap().definition;
        assert_eq!(definition["network"]["enabled"], true);
        assert_eq!(definition["filesystem"]["/data"], "write");
        assert_eq!(definition["filesystem"][":slash_tmp"], "read");
        assert_eq!(definition["filesystem"][KEYS], "deny");
    }
}
