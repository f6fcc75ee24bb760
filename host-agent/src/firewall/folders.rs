//! What a folder is to a device.
//!
//! A folder is a program: it chooses the project's configuration, the MCP
//! servers that Codex starts outside its sandbox, git filters, trust and what is
//! writable. So a device never works in a folder that the host's owner did not
//! open. The firewall itself does no input or output: it asks [`Folders`], which
//! answers for the machine that the channel's app-server runs on.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A folder that a device may be given, canonical.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// One that the owner opened: what it configures runs.
    Workspace(PathBuf),
    /// One below the allowed roots: from scope `approve` on, and only so that nothing in it runs.
    Below(PathBuf),
}

impl Place {
    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            Self::Workspace(path) | Self::Below(path) => path,
        }
    }
}

/// Why a folder is not for devices, in words for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// Not an absolute path in plain form.
    #[error("a folder is named by its absolute path, without `..`")]
    Form,
    /// Nothing is there, or something else than a folder.
    #[error("there is no such folder")]
    Missing,
    /// The user's home folder, or one that contains it.
    #[error("the home folder, and what contains it, is never open to devices: a project in it is")]
    Home,
    /// Reachback's or Codex's own state, or a folder that contains or lies in it.
    #[error("Reachback's and Codex's own folders, and what contains or lies in them, are never open to devices")]
    State,
    /// The owner closed it, although Codex trusts it.
    #[error("the host's owner closed this folder to devices")]
    Closed,
    /// Nobody opened it.
    #[error("this folder is not a workspace of this host")]
    Outside,
    /// It is on a machine whose folders can't be looked at.
    #[error("the folders of that machine can't be looked at: {0}")]
    Unseen(#[from] Unseen),
    /// No folder was named, and the host has none that it could take.
    #[error("no folder was named, and this host has {0}: name one of its workspaces")]
    Unnamed(Unnamed),
}

/// Why nothing is known of a machine's folders, in words for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unseen(Arc<str>);

impl Unseen {
    /// For this reason.
    pub fn new(why: &str) -> Self {
        Self(why.into())
    }
}

/// Why there is no folder for a thread that names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unnamed {
    /// No workspace.
    None,
    /// More than one.
    Several,
}

impl fmt::Display for Unnamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "no workspace",
            Self::Several => "several workspaces",
        })
    }
}

/// Which folders devices may be given on one machine.
///
/// Implementations answer quickly: they are asked in the middle of a message.
pub trait Folders: fmt::Debug + Send + Sync {
    /// What the folder is that a device named.
    fn place(&self, wish: &str) -> Result<Place, NoPlace>;

    /// The workspace for a thread that names no folder.
    fn unnamed(&self) -> Result<PathBuf, NoPlace>;

    /// All workspaces, in order.
    fn workspaces(&self) -> Vec<PathBuf>;

    /// All folders that somebody opened or that Codex trusts, workspaces or not, in order.
    fn named(&self) -> Vec<PathBuf>;

    /// What `reachback workspace` has to be told so that it is about this machine: nothing, or words that begin with a space.
    fn option(&self) -> String {
        String::new()
    }

    /// Looks at what a message names, right before it is judged. Where the disk itself is asked, there is nothing to do.
    fn look<'a>(&'a self, _: &'a [u8]) -> BoxFuture<'a, ()> {
        async {}.boxed()
    }
}

/// A machine on which no folder is open, for tests.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct NoFolders;

#[cfg(test)]
impl Folders for NoFolders {
    fn place(&self, _: &str) -> Result<Place, NoPlace> {
        Err(NoPlace::Outside)
    }

    fn unnamed(&self) -> Result<PathBuf, NoPlace> {
        Err(NoPlace::Unnamed(Unnamed::None))
    }

    fn workspaces(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    fn named(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

/// The path without `.`; `None` when it is relative, has a `..` or holds a NUL.
///
/// A `..` is refused rather than resolved: behind a link it leads elsewhere than it looks.
pub(crate) fn plain(path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    if !path.is_absolute() || path.to_str()?.contains('\0') {
        return None;
    }
    let parts = path.components();
    let plain = parts.clone().all(|part| !matches!(part, Component::ParentDir));
    plain.then(|| parts.filter(|part| !matches!(part, Component::CurDir)).collect())
}

/// Paths of one message that are looked at: a request names one folder, or a few to list what they configure.
const MAX_PATHS: usize = 64;
/// The longest path that is looked at, in bytes: Linux's own `PATH_MAX`.
const MAX_PATH: usize = 4096;

/// The texts of a message that could be paths to be judged, in plain form; bounded. None of what is no JSON.
pub(crate) fn paths_in(message: &[u8]) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let mut reader = serde_json::Deserializer::from_slice(message);
    // What stands before the fault is looked at in vain.
    let _ = Texts { paths: &mut paths }.deserialize(&mut reader);
    paths
}

/// Goes through a value and keeps what could be paths.
struct Texts<'a> {
    paths: &'a mut Vec<PathBuf>,
}

impl<'de> DeserializeSeed<'de> for Texts<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Texts<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if self.paths.len() < MAX_PATHS
            && text.len() <= MAX_PATH
            && let Some(path) = plain(text)
            && !self.paths.contains(&path)
        {
            self.paths.push(path);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Texts { paths: self.paths })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while members.next_key::<IgnoredAny>()?.is_some() {
            members.next_value_seed(Texts { paths: self.paths })?;
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_a_path_is_found_wherever_it_stands_and_bounded() {
        let message = br#"{"id":1,"method":"x","params":{"/key":null,"cwd":"/home/me/./a","cwds":["/srv","\u002fsrv\/b","/home/me/a"],
            "n":[1,-1,1.5,true],"text":"see /etc","up":"/a/../b","more":{"deep":[["/d"]]}}}"#;
        let found = ["/home/me/a", "/srv", "/srv/b", "/d"].map(PathBuf::from);
        assert_eq!(paths_in(message), found);
        assert_eq!(paths_in(br#"{"cwd":"/a","b":"#), [PathBuf::from("/a")]);
        for nothing in ["", "\u{0}", "[[[[", "\"/a", "[".repeat(100_000).as_str()] {
            assert_eq!(paths_in(nothing.as_bytes()), [] as [PathBuf; 0], "{nothing:.20}");
        }
        let many: Vec<String> =
            (0..1000).map(|n| format!("/{n}")).chain([format!("/{}", "x".repeat(MAX_PATH))]).collect();
        assert_eq!(paths_in(&serde_json::to_vec(&many).unwrap()).len(), MAX_PATHS);
        assert_eq!(paths_in(&serde_json::to_vec(&many[1000..]).unwrap()).len(), 0, "one that is too long");
    }

    #[test]
    fn plain_paths_are_absolute_and_do_not_climb() {
        assert_eq!(plain("/home/me/./a//b/").as_deref(), Some(Path::new("/home/me/a/b")));
        for wish in ["", ".", "a", "~", "~/x", "/home/me/..", "/a/../b", "/..", "/a\0"] {
            assert_eq!(plain(wish), None, "{wish:?} passed");
        }
    }
}
