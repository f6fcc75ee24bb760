//! The machines that the person's SSH configuration names, and what each name means.
//!
//! What `ssh -G` said is kept until a file of the configuration changes: `Match
//! exec` runs commands each time, and fifty names are fifty processes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use futures_util::{StreamExt, stream};
use reachback_proto::words::quote;

use super::aliases::{self, Alias, Places};
use super::connection::{ConnectError, Connection};
use super::identities::Own;
use super::keyring::Keyring;
use super::person::Person;
use super::settings::{PATIENCE, Settings, SettingsError, Ssh};
use super::way::{self, Jump};
use crate::platform::programs;

/// `ssh -G` at once. Each is a process of some milliseconds; more of them would take the machine from who uses it.
const AT_ONCE: usize = 2;

/// The system's own file, which `ssh` reads too. Names in it describe machines of the network, not of the person.
const SYSTEM_CONFIG: &str = "/etc/ssh/ssh_config";

/// There is no way to ask.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// No such program.
    #[error("ssh was not found: it says what the names in an SSH configuration mean")]
    NoSsh,
    /// Nobody says where the configuration is.
    #[error("no home folder, so no SSH configuration")]
    NoHome,
    /// The configuration is there, and can't be read.
    #[error("can't read {}", quote(path.display()))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

impl DiscoveryError {
    /// What a person can do about it.
    pub fn fix(&self) -> &'static str {
        match self {
            Self::NoSsh => "install OpenSSH's client (Debian: apt install openssh-client), or put it on PATH",
            Self::NoHome => "set HOME, or name the file: --ssh-config FILE",
            Self::Unreadable { .. } => "make the file readable for this user, or name another one: --ssh-config FILE",
        }
    }
}

/// A machine that the configuration names.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its name, and where that stands.
    pub alias: Alias,
    /// What the name means.
    pub settings: Result<Settings, SettingsError>,
}

/// All machines that the configuration names.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// In the order of the files.
    pub found: Vec<Found>,
    /// Included files that could not be read, and why.
    pub unread: Vec<String>,
}

/// Looks for machines, and remembers what it found.
#[derive(Debug)]
pub struct Discovery {
    ssh: Ssh,
    config: PathBuf,
    places: Places,
    known: Mutex<Option<Known>>,
    keys: Keyring,
}

/// What was found when the files were like this.
#[derive(Debug)]
struct Known {
    stamps: Vec<Stamp>,
    listing: Arc<Listing>,
}

/// A file or folder as it was; without the rest where it was not there.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    path: PathBuf,
    is: Option<(Option<SystemTime>, u64)>,
}

impl Stamp {
    fn of(path: PathBuf) -> Self {
        let is = path.metadata().ok().map(|file| (file.modified().ok(), file.len()));
        Self { path, is }
    }
}

impl Discovery {
    /// For the configuration of this user, or of `config` alone, as `ssh -F` has it.
    pub fn new(home: Option<PathBuf>, config: Option<PathBuf>) -> Result<Self, DiscoveryError> {
        let program = programs::find("ssh").ok_or(DiscoveryError::NoSsh)?;
        let ssh = Ssh { program, config, patience: PATIENCE };
        let file = match (&ssh.config, &home) {
            (Some(config), _) => config.clone(),
            (None, Some(home)) => home.join(".ssh").join("config"),
            (None, None) => return Err(DiscoveryError::NoHome),
        };
        // Also for a file of `-F`, relative paths begin there (ssh_config(5), Include).
        let base = home.as_ref().map(|home| home.join(".ssh")).unwrap_or_default();
        Ok(Self { ssh, config: file, places: Places { home, base }, known: Mutex::default(), keys: Keyring::default() })
    }

    /// The file that is read first.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Whether the configuration names this machine.
    pub fn names(&self, name: &str) -> bool {
        aliases::read(&self.config, &self.places).aliases.iter().any(|alias| alias.name == name)
    }

    /// Connects to a machine that the configuration names, and to no other: a name from elsewhere could be anything.
    /// Keys that were opened for a connection before are open.
    pub async fn connect(&self, name: &str, person: &Arc<dyn Person>) -> Result<Option<Connection>, ConnectError> {
        if !self.names(name) {
            return Ok(None);
        }
        let way = way::to(&self.ssh, name).await?;
        let own = Own { home: self.places.home.as_ref(), person, keys: &self.keys };
        Connection::open(&way, own).await.map(Some)
    }

    /// All machines, each with what its name means now.
    pub async fn list(&self) -> Result<Arc<Listing>, DiscoveryError> {
        let names = aliases::read(&self.config, &self.places);
        let (own, unread): (Vec<_>, Vec<_>) = names.unread.into_iter().partition(|(path, _)| *path == self.config);
        if let Some((path, source)) = own.into_iter().next() {
            return Err(DiscoveryError::Unreadable { path, source });
        }
        let mut read = names.read;
        if self.ssh.config.is_none() {
            let places = Places { home: None, base: PathBuf::from("/etc/ssh") };
            read.extend(aliases::read(Path::new(SYSTEM_CONFIG), &places).read);
        }
        let stamps: Vec<Stamp> = read.into_iter().map(Stamp::of).collect();
        if let Some(known) = &*self.known.lock().unwrap_or_else(PoisonError::into_inner)
            && known.stamps == stamps
        {
            return Ok(Arc::clone(&known.listing));
        }
        let ask = |alias: Alias| async {
            let name = Jump { user: None, host: alias.name.clone(), port: None };
            let settings = Settings::of(&self.ssh, &name).await;
            Found { alias, settings }
        };
        let found = stream::iter(names.aliases).map(ask).buffered(AT_ONCE).collect().await;
        let unread = unread.iter().map(|(path, error)| format!("{}: {error}", quote(path.display()))).collect();
        let listing = Arc::new(Listing { found, unread });
        let known = Known { stamps, listing: Arc::clone(&listing) };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
        Ok(listing)
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn home(config: &str) -> (tempfile::TempDir, Discovery) {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".ssh")).unwrap();
        let file = home.path().join(".ssh/config");
        std::fs::write(&file, config).unwrap();
        let discovery = Discovery::new(Some(home.path().to_owned()), Some(file)).unwrap();
        (home, discovery)
    }

    #[tokio::test]
    async fn openssh_says_what_a_name_means() {
        let (_home, discovery) = home(
            "Host devbox\n  HostName 192.0.2.7\n  Port 2222\n  ProxyJump me@one:2200,two\nHost plain *.lab\n\
             Host *\n  User ada\nHost plain\n  User nobody\n",
        );
        let listing = discovery.list().await.unwrap();
        let [devbox, plain] = &listing.found[..] else { panic!("{listing:?}") };
        let settings = devbox.settings.as_ref().unwrap();
        assert_eq!((settings.user(), settings.host_name(), settings.port()), ("ada", "192.0.2.7", Some(2222)));
        assert_eq!(settings.jumps(), ["me@one:2200", "two"]);
        let settings = plain.settings.as_ref().unwrap();
        assert_eq!((settings.user(), settings.host_name(), settings.port()), ("ada", "plain", Some(22)));
    }

    #[tokio::test]
    async fn a_way_has_every_jump_in_order_and_is_no_circle() {
        let (_home, discovery) = home(
            "Host far\n  ProxyJump one,me@two:2200\nHost one\n  ProxyJump zero\nHost two\n  ProxyJump nowhere\n\
             Host here\n  ProxyJump there\nHost there\n  ProxyJump here\nHost odd\n  ProxyJump one,-oX\n",
        );
        let way = way::to(&discovery.ssh, "far").await.unwrap();
        let hops: Vec<_> = way.iter().map(|hop| (hop.name.as_str(), hop.settings.port())).collect();
        assert_eq!(hops, [("zero", Some(22)), ("one", Some(22)), ("two", Some(2200)), ("far", Some(22))]);
        assert_eq!(way[2].settings.user(), "me");
        assert!(matches!(way::to(&discovery.ssh, "here").await, Err(way::WayError::Circle)));
        assert!(way::to(&discovery.ssh, "odd").await.is_err());
    }

    #[tokio::test]
    async fn what_openssh_refuses_is_told_in_its_words() {
        let (_home, discovery) = home("Host one\n  Port nonsense\n");
        let listing = discovery.list().await.unwrap();
        let error = listing.found[0].settings.as_ref().unwrap_err().to_string();
        assert!(error.starts_with("ssh does not take it: ") && error.contains("nonsense"), "{error}");
    }

    #[tokio::test]
    async fn a_command_of_the_configuration_runs_again_only_when_a_file_has_changed() {
        let runs = tempfile::NamedTempFile::new().unwrap();
        let count = || std::fs::read_to_string(runs.path()).unwrap().lines().count();
        let text = format!("Match exec \"echo >> {}\"\n  User x\nHost one\n", runs.path().display());
        let (home, discovery) = home(&text);
        discovery.list().await.unwrap();
        assert_eq!(count(), 1);
        discovery.list().await.unwrap();
        assert_eq!(count(), 1);
        std::fs::write(
            home.path().join(".ssh/config"),
            format!("Include {}/.ssh/more/*\n{text}", home.path().display()),
        )
        .unwrap();
        discovery.list().await.unwrap();
        assert_eq!(count(), 2);
        std::fs::create_dir(home.path().join(".ssh/more")).unwrap();
        std::fs::write(home.path().join(".ssh/more/two"), "Host two\n").unwrap();
        // Both names are asked for anew.
        assert_eq!(discovery.list().await.unwrap().found.len(), 2);
        assert_eq!(count(), 4);
    }

    #[tokio::test]
    async fn a_command_that_waits_does_not_hold_up_the_list_for_ever() {
        let pid = tempfile::NamedTempFile::new().unwrap();
        let text = format!("Match exec \"echo $$ > {}; exec sleep 1000\"\nHost one\n", pid.path().display());
        let (_home, mut discovery) = home(&text);
        // Enough for a shell to begin, on a machine that is busy.
        discovery.ssh.patience = Duration::from_secs(3);
        let listing = discovery.list().await.unwrap();
        assert!(matches!(listing.found[0].settings, Err(SettingsError::TimedOut { .. })), "{listing:?}");
        let pid: u32 = std::fs::read_to_string(pid.path()).unwrap().trim().parse().unwrap();
        let gone = async {
            while crate::platform::processes::Process::with_id(pid).await.is_some() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), gone).await.expect("the command ends with ssh");
    }

    #[tokio::test]
    async fn a_configuration_that_is_not_there_names_nothing_and_one_that_can_not_be_read_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        let discovery = |config: PathBuf| Discovery::new(None, Some(config)).unwrap();
        assert!(discovery(home.path().join("none")).list().await.unwrap().found.is_empty());
        let error = discovery(home.path().to_owned()).list().await.unwrap_err();
        assert!(matches!(error, DiscoveryError::Unreadable { .. }), "{error:?}");
    }
}
