//! Where state and sockets live.
//!
//! State is in REACHBACK_HOME, else in the system's folder for it. Sockets are
//! in a runtime directory of their own: a socket's path has to fit about 100
//! bytes, which a home folder may not. Each home has its own runtime
//! directory, named after a hash of its path, so two agents of one user don't
//! meet there.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use reachback_proto::words::quote;
use ring::digest::{SHA256, digest};

use super::files::{self, AccessError};
use super::imp;

/// Longest path of a socket, in bytes: macOS has room for 104, Linux for 108, the closing zero included.
pub(crate) const MAX_SOCKET_PATH: usize = 103;
/// Room that a runtime directory leaves for a slash and a socket's name.
const NAME_ROOM: usize = 25;

/// Why there is no place for state or sockets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirsError {
    /// No variable says where this user's folders are.
    #[error("no home folder: set REACHBACK_HOME, or {variable}")]
    NoHome {
        /// The variable that usually says it.
        variable: &'static str,
    },
    /// The working directory is gone, so a relative path means nothing.
    #[error("can't make {} absolute", quote(path.display()))]
    Relative {
        /// The path given.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A path that is not valid text. The operating system takes it; Codex, which is told in JSON and TOML what to keep
    /// its commands from, and the relay's database don't.
    #[error(
        "the path {} is not valid text (UTF-8), so nothing can be kept in it: set REACHBACK_HOME, or --home, to another folder",
        quote(path.display())
    )]
    NotText { path: PathBuf },
    /// A path that a socket can't have.
    #[error("{} is too long for a socket (at most {MAX_SOCKET_PATH} bytes): set XDG_RUNTIME_DIR or TMPDIR to a shorter folder", quote(path.display()))]
    TooLong { path: PathBuf },
    /// The directory can't be used.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// What the environment says about folders; read once, where the configuration is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    pub home: Option<PathBuf>,
    pub xdg_state_home: Option<PathBuf>,
    pub xdg_runtime_dir: Option<PathBuf>,
    /// `LOCALAPPDATA`.
    pub local_app_data: Option<PathBuf>,
    /// `TMPDIR`.
    pub temp: Option<PathBuf>,
}

/// Families of operating systems that keep state in different folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Os {
    Linux,
    Mac,
    Windows,
}

const OS: Os = if cfg!(windows) {
    Os::Windows
} else if cfg!(target_os = "macos") {
    Os::Mac
} else {
    Os::Linux
};

impl Places {
    /// Reads the variables through `lookup`; empty and relative ones count as unset, as XDG asks.
    pub(crate) fn from_env(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let folder = |name| lookup(name).map(PathBuf::from).filter(|path| path.is_absolute());
        Self {
            home: folder("HOME"),
            xdg_state_home: folder("XDG_STATE_HOME"),
            xdg_runtime_dir: folder("XDG_RUNTIME_DIR"),
            local_app_data: folder("LOCALAPPDATA"),
            temp: folder("TMPDIR"),
        }
    }

    /// The folder for state: `chosen` (REACHBACK_HOME or a flag), else the system's. Nothing is made yet.
    pub(crate) fn state(&self, chosen: Option<&Path>) -> Result<PathBuf, DirsError> {
        match chosen {
            Some(path) if !path.as_os_str().is_empty() => text(absolute(path)?),
            _ => text(self.default_state(OS)?),
        }
    }

    /// The folder for a demo's state unless one is chosen: beside the usual one. Nothing is made yet.
    pub(crate) fn demo_state(&self) -> Result<PathBuf, DirsError> {
        text(beside(&self.default_state(OS)?, "-demo"))
    }

    fn default_state(&self, os: Os) -> Result<PathBuf, DirsError> {
        let (folder, variable) = match os {
            Os::Linux => {
                let state = self.xdg_state_home.clone().or_else(|| Some(self.home.as_ref()?.join(".local/state")));
                (state.map(|path| path.join("reachback")), "HOME")
            }
            Os::Mac => (self.home.as_ref().map(|path| path.join("Library/Application Support/Reachback")), "HOME"),
            Os::Windows => (self.local_app_data.as_ref().map(|path| path.join("Reachback")), "LOCALAPPDATA"),
        };
        folder.ok_or(DirsError::NoHome { variable })
    }

    /// Makes or checks the runtime directory that belongs to the state in `home`.
    ///
    /// A temp folder is shared, so another user may have made our directory
    /// there first; the owner check refuses it.
    pub(crate) fn runtime(&self, home: &Path) -> Result<RuntimeDir, DirsError> {
        let tag = home_tag(home)?;
        let temp = self.temp.clone().unwrap_or_else(|| "/tmp".into());
        let per_user = format!("reachback-{}", imp::uid());
        let candidates = match OS {
            Os::Windows => vec![home.join("run")],
            _ => {
                let xdg = self.xdg_runtime_dir.as_ref().map(|path| path.join("reachback"));
                xdg.into_iter().chain([temp.join(&per_user), Path::new("/tmp").join(&per_user)]).collect()
            }
        };
        // Codex has to be told to keep its commands from it.
        let fits = |path: &&PathBuf| {
            path.to_str().is_some() && path.join(&tag).as_os_str().len() + NAME_ROOM <= MAX_SOCKET_PATH
        };
        // A runtime folder that vanished (no login session) is no reason to stop; one that is wrong is.
        let usable = |path: &&PathBuf| path.parent().is_some_and(Path::is_dir);
        let Some(parent) = candidates.iter().filter(fits).find(usable) else {
            let path = candidates.into_iter().next().unwrap_or_default();
            return Err(DirsError::TooLong { path });
        };
        files::private_dir(parent)?;
        let path = parent.join(&tag);
        files::private_dir(&path)?;
        Ok(RuntimeDir { path })
    }
}

/// A directory for sockets that only this user enters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeDir {
    path: PathBuf,
}

impl RuntimeDir {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the socket with this name.
    pub fn socket(&self, name: &str) -> Result<PathBuf, DirsError> {
        let path = self.path.join(name);
        if path.as_os_str().len() > MAX_SOCKET_PATH {
            return Err(DirsError::TooLong { path });
        }
        Ok(path)
    }
}

/// The sibling of `path` that is called the same with `ending` after it.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

/// Eight hex characters that stand for a home, however its path is written.
fn home_tag(home: &Path) -> Result<String, DirsError> {
    let path = match home.canonicalize() {
        Ok(path) => path,
        Err(_) => absolute(home)?,
    };
    let hash = digest(&SHA256, path.as_os_str().as_encoded_bytes());
    Ok(HEXLOWER.encode(&hash.as_ref()[..4]))
}

/// The same path, if it is text.
pub(crate) fn text(path: PathBuf) -> Result<PathBuf, DirsError> {
    if path.to_str().is_some() { Ok(path) } else { Err(DirsError::NotText { path }) }
}

fn absolute(path: &Path) -> Result<PathBuf, DirsError> {
    std::path::absolute(path).map_err(|source| DirsError::Relative { path: path.to_owned(), source })
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn places() -> Places {
        Places::from_env(|name| match name {
            "HOME" => Some("/home/ada".into()),
            "LOCALAPPDATA" => Some("/appdata".into()),
            "XDG_STATE_HOME" => Some("relative/is/ignored".into()),
            _ => Some("".into()),
        })
    }

    #[test]
    fn state_is_where_the_system_keeps_it_unless_chosen() {
        let places = places();
        let default = |os| places.default_state(os).unwrap();
        assert_eq!(default(Os::Linux), Path::new("/home/ada/.local/state/reachback"));
        assert_eq!(default(Os::Mac), Path::new("/home/ada/Library/Application Support/Reachback"));
        assert_eq!(default(Os::Windows), Path::new("/appdata/Reachback"));

        let xdg = Places { xdg_state_home: Some("/var/state".into()), ..places.clone() };
        assert_eq!(xdg.default_state(Os::Linux).unwrap(), Path::new("/var/state/reachback"));

        assert_eq!(places.state(Some(Path::new("/srv/rb"))).unwrap(), Path::new("/srv/rb"));
        assert!(places.state(Some(Path::new("rb"))).unwrap().is_absolute());
        assert_eq!(places.state(Some(Path::new(""))).unwrap(), places.state(None).unwrap());
    }

    #[test]
    fn a_demos_state_lies_beside_the_usual() {
        let demo = places().demo_state().unwrap();
        assert_eq!(demo, beside(&places().state(None).unwrap(), "-demo"));
        assert!(Places::default().demo_state().is_err());
        for (path, sibling) in
            [("/srv/rb", "/srv/rb-demo"), ("/srv/rb/", "/srv/rb-demo"), ("/srv/r.b", "/srv/r.b-demo")]
        {
            assert_eq!(beside(Path::new(path), "-demo"), Path::new(sibling));
        }
    }

    #[test]
    fn no_home_says_which_variable_to_set() {
        let error = Places::default().default_state(Os::Linux).unwrap_err();
        assert!(error.to_string().contains("REACHBACK_HOME"), "{error}");
        assert!(Places::default().default_state(Os::Windows).unwrap_err().to_string().contains("LOCALAPPDATA"));
    }

    #[test]
    fn each_home_has_a_private_runtime_dir_of_its_own() {
        let temp = tempfile::tempdir().unwrap();
        let places = Places { xdg_runtime_dir: Some(temp.path().into()), ..Places::default() };
        let one = places.runtime(Path::new("/srv/one")).unwrap();
        let two = places.runtime(Path::new("/srv/two")).unwrap();
        assert_ne!(one, two);
        assert_eq!(one, places.runtime(Path::new("/srv/one")).unwrap());
        assert_eq!(std::fs::metadata(one.path()).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(one.socket("agent.sock").unwrap().starts_with(temp.path()));
        assert!(matches!(one.socket(&"x".repeat(120)), Err(DirsError::TooLong { .. })));
    }

    #[test]
    fn a_home_through_a_link_has_the_same_runtime_dir() {
        let temp = tempfile::tempdir().unwrap();
        let home = temp.path().join("home");
        std::fs::create_dir(&home).unwrap();
        std::os::unix::fs::symlink(&home, temp.path().join("link")).unwrap();
        assert_eq!(home_tag(&home).unwrap(), home_tag(&temp.path().join("link")).unwrap());
    }

    #[test]
    fn a_long_or_missing_runtime_folder_is_passed_over_for_the_temp_folder() {
        let temp = tempfile::tempdir().unwrap();
        let long = temp.path().join("x".repeat(80));
        std::fs::create_dir(&long).unwrap();
        for xdg in [long, temp.path().join("missing")] {
            let places = Places { xdg_runtime_dir: Some(xdg), temp: Some(temp.path().into()), ..Places::default() };
            let runtime = places.runtime(Path::new("/srv/one")).unwrap();
            assert!(runtime.path().starts_with(temp.path().join(format!("reachback-{}", imp::uid()))));
        }
    }

    #[test]
    fn a_runtime_dir_that_others_can_enter_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let places = Places { xdg_runtime_dir: Some(temp.path().into()), ..Places::default() };
        let runtime = places.runtime(Path::new("/srv/one")).unwrap();
        std::fs::set_permissions(runtime.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let again = places.runtime(Path::new("/srv/one"));
        assert!(matches!(again, Err(DirsError::Access(AccessError::Exposed { .. }))), "{again:?}");
    }
}
