//! What the host's owner lets devices choose at all.
//!
//! By default: nothing but where to work. A device's wish for another sandbox,
//! another approval policy or wider roots is not passed on, so what the host's
//! own Codex configuration says holds. An owner who wants to choose from afar
//! raises the ceiling; a wish at or below it then passes.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

/// When Codex asks before it runs something, most often first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Approval {
    /// Before all but known harmless commands.
    Untrusted,
    /// When the model wants to leave the sandbox.
    OnRequest,
    /// Never. A policy in parts (`granular`) may switch any question off, so it counts as this.
    Never,
}

/// The most that any device may choose, whatever its scope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ceiling {
    /// Directories that devices may work in, and below. Default: none; the agent sets the user's home directory.
    pub roots: Vec<PathBuf>,
    /// Directories that devices never work in, even below a root: the agent's and Codex's own state. Default: none.
    pub closed: Vec<PathBuf>,
    /// The quietest approval policy that a device may choose. Default: `None`, the host's own configuration holds.
    pub approval: Option<Approval>,
    /// Whether devices that may approve may also run commands outside Codex's sandbox and approvals. Default: no.
    pub outside_sandbox: bool,
}

/// Where a path leads once symbolic links are followed.
///
/// The firewall itself does no input or output. An implementation answers for
/// the machine that the channel's app-server runs on, and quickly: it is asked
/// in the middle of a message. `None` means that the path cannot be judged,
/// and it is refused.
pub trait RealPath: fmt::Debug + Send + Sync {
    /// The real path behind `path`, which is absolute and holds no `..`. It need not exist: what exists of it counts.
    fn real(&self, path: &Path) -> Option<PathBuf>;
}

/// Takes paths as they are written: for machines whose disk the agent can't see, and for tests.
#[derive(Debug, Clone, Copy)]
pub struct AsWritten;

impl RealPath for AsWritten {
    fn real(&self, path: &Path) -> Option<PathBuf> {
        Some(path.to_owned())
    }
}

/// Follows the links of this machine's disk.
#[derive(Debug, Clone, Copy)]
pub struct OnThisMachine;

impl RealPath for OnThisMachine {
    fn real(&self, path: &Path) -> Option<PathBuf> {
        for existing in path.ancestors() {
            match existing.canonicalize() {
                Ok(real) => {
                    let rest = path.strip_prefix(existing).ok()?;
                    // Joining an empty path would end the result in a slash.
                    return Some(if rest.as_os_str().is_empty() { real } else { real.join(rest) });
                }
                // A link to nowhere does not exist when followed, yet Codex could create its target.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound && existing.symlink_metadata().is_err() => {}
                Err(_) => return None,
            }
        }
        None
    }
}

impl Ceiling {
    /// The path to pass on for what a device asked for: absolute, without `.` and `..`, below a root. `None` refuses.
    pub fn place(&self, wish: &str, paths: &dyn RealPath) -> Option<PathBuf> {
        let path = normal(Path::new(wish))?;
        let real = paths.real(&path)?;
        // The roots may lie behind links themselves (/home on some machines), so each side is compared in both forms.
        let below = |path: &Path, dirs: &[PathBuf]| {
            dirs.iter().any(|dir| path.starts_with(dir) || paths.real(dir).is_some_and(|dir| path.starts_with(dir)))
        };
        let open = below(&path, &self.roots) && below(&real, &self.roots);
        let closed = below(&path, &self.closed) || below(&real, &self.closed);
        (open && !closed).then_some(path)
    }
}

/// The path without `.` and `..`; `None` when it is relative, climbs above the top or holds a NUL.
fn normal(path: &Path) -> Option<PathBuf> {
    if !path.is_absolute() || path.to_str()?.contains('\0') {
        return None;
    }
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => out.push(part),
            Component::CurDir => {}
            Component::ParentDir => {
                if !out.pop() {
                    return None;
                }
            }
        }
    }
    Some(out)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn ceiling() -> Ceiling {
        Ceiling { roots: vec!["/home/me".into()], closed: vec!["/home/me/.codex".into()], ..Ceiling::default() }
    }

    #[test]
    fn places_are_below_the_roots_after_normalisation() {
        let placed = |wish: &str| ceiling().place(wish, &AsWritten).map(|p| p.to_str().unwrap().to_owned());
        assert_eq!(placed("/home/me").as_deref(), Some("/home/me"));
        assert_eq!(placed("/home/me/./a//b/../c/").as_deref(), Some("/home/me/a/c"));
        for outside in [
            "",
            ".",
            "a",
            "~",
            "/",
            "/home",
            "/home/meow",
            "/home/me/..",
            "/home/me/../you",
            "/../..",
            "/home/me/.codex",
            "/home/me/x/../.codex/y",
            "/home/me/a\0",
        ] {
            assert_eq!(placed(outside), None, "{outside:?} was let in");
        }
    }

    #[test]
    fn links_out_of_the_roots_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        let (inside, outside) = (top.join("in"), top.join("out"));
        std::fs::create_dir_all(inside.join("real")).unwrap();
        std::fs::create_dir_all(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("escape")).unwrap();
        std::os::unix::fs::symlink(top.join("nowhere"), inside.join("dangling")).unwrap();
        std::os::unix::fs::symlink(&inside, top.join("alias")).unwrap();
        let ceiling = Ceiling { roots: vec![inside.clone()], ..Ceiling::default() };
        let placed = |path: PathBuf| ceiling.place(path.to_str().unwrap(), &OnThisMachine).is_some();
        assert!(placed(inside.join("real")));
        assert!(placed(inside.join("real/not/there/yet")));
        assert!(!placed(inside.join("escape")));
        assert!(!placed(inside.join("escape/deeper")));
        assert!(!placed(inside.join("dangling/deeper")));
        assert!(!placed(outside));

        let behind = Ceiling { roots: vec![top.join("alias")], ..Ceiling::default() };
        assert!(behind.place(top.join("alias/real").to_str().unwrap(), &OnThisMachine).is_some());
    }
}
