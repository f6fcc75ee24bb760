use std::os::unix::fs::symlink;
use std::sync::Arc;

use super::*;
use crate::disk::{LocalDisk, Surroundings};
use crate::state::timestamp::Timestamp;
use crate::state::workspaces::WorkspaceStore;

/// A machine: `home/` with Codex's and Reachback's folders in it, and `srv/` beside it.
struct Machine {
    _dir: tempfile::TempDir,
    top: PathBuf,
    workspaces: Workspaces,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        for folder in ["home/.codex/x", "home/keep/state/host", "home/one/sub", "home/two", "home/.dot", "srv/repo/in"]
        {
            std::fs::create_dir_all(top.join(folder)).unwrap();
        }
        std::fs::write(top.join("home/file"), "").unwrap();
        let store = Arc::new(WorkspaceStore::open(&top.join("home/keep/state")).unwrap());
        let surroundings = Surroundings {
            home: Some(top.join("home")),
            state: vec![top.join("home/.codex"), top.join("home/keep/state")],
            roots: vec![top.join("home")],
            ..Surroundings::default()
        };
        Self { workspaces: Workspaces::new("local", store, Arc::new(LocalDisk::new(surroundings))), _dir: dir, top }
    }

    fn open(&self, path: &str) {
        self.workspaces.add(&self.top.join(path), Timestamp::EPOCH).unwrap();
    }

    /// Names, each with whether it is a workspace, and whether it opens.
    fn list(&self, path: &str, hidden: bool) -> Result<Vec<(String, bool, bool)>, NotListed> {
        let listing = self.workspaces.folders(Some(self.top.join(path).to_str().unwrap()), hidden)?;
        Ok(listing.folders.into_iter().map(|folder| (folder.name, folder.is_workspace, folder.opens)).collect())
    }
}

fn folder(name: &str, is_workspace: bool, opens: bool) -> (String, bool, bool) {
    (name.to_owned(), is_workspace, opens)
}

#[test]
fn folders_are_listed_below_the_home_and_in_workspaces_and_what_must_not_open_says_so() {
    let machine = Machine::new();
    machine.open("home/one");
    machine.open("srv/repo");
    let roots = machine.workspaces.folders(None, false).unwrap().folders;
    let roots = roots.into_iter().map(|folder| (folder.name, folder.is_workspace, folder.opens)).collect::<Vec<_>>();
    assert_eq!(roots, [folder("home", false, false), folder("repo", true, true)]);
    // What holds Reachback's own folder is a way to others, and no choice itself.
    let home = [folder("keep", false, false), folder("one", true, true), folder("two", false, true)];
    assert_eq!(machine.list("home", false).unwrap(), home);
    let hidden: Vec<_> = [folder(".dot", false, true)].into_iter().chain(home).collect();
    assert_eq!(machine.list("home", true).unwrap(), hidden);
    assert_eq!(machine.list("home/keep", false).unwrap(), []);
    assert_eq!(machine.list("srv/repo", false).unwrap(), [folder("in", false, true)]);
}

#[test]
fn a_folder_listing_never_leaves_the_roots_or_enters_state() {
    let machine = Machine::new();
    symlink("/etc", machine.top.join("home/etc")).unwrap();
    symlink(machine.top.join("home/.codex"), machine.top.join("home/codex")).unwrap();
    symlink(machine.top.join("home/two"), machine.top.join("home/alias")).unwrap();
    for (path, wanted) in [
        ("home/..", NotListed::Form),
        ("home/one/../../srv", NotListed::Form),
        ("srv", NotListed::Outside),
        ("srv/nowhere", NotListed::Outside),
        ("home/etc", NotListed::Outside),
        ("home/.codex", NotListed::State),
        ("home/.codex/x", NotListed::State),
        ("home/codex", NotListed::State),
        ("home/keep/state/host", NotListed::State),
        ("home/file", NotListed::Missing),
        ("home/nowhere", NotListed::Missing),
    ] {
        assert_eq!(machine.list(path, true), Err(wanted), "{path}");
    }
    for path in ["", ".", "home", "~"] {
        assert_eq!(machine.workspaces.folders(Some(path), false), Err(NotListed::Form), "{path:?}");
    }
    let names = machine.workspaces.folders(machine.top.join("home").to_str(), false).unwrap().folders;
    let alias = names.iter().find(|folder| folder.name == "alias").unwrap();
    assert_eq!(Path::new(&alias.path), machine.top.join("home/two"), "a link is shown as what it leads to");
    assert!(names.iter().all(|folder| folder.name != "etc" && folder.name != "codex"), "{names:?}");
}

#[test]
fn a_folder_listing_is_sorted_and_bounded() {
    let machine = Machine::new();
    for n in (0..=MAX_LISTED).rev() {
        std::fs::create_dir(machine.top.join(format!("home/one/sub/{n:04}"))).unwrap();
    }
    let listing = machine.workspaces.folders(machine.top.join("home/one/sub").to_str(), false).unwrap();
    assert_eq!((listing.folders.len(), listing.more), (MAX_LISTED, true));
    assert!(listing.folders.is_sorted_by(|one, other| one.name < other.name));
    std::fs::remove_dir(machine.top.join("home/one/sub/0000")).unwrap();
    assert!(!machine.workspaces.folders(machine.top.join("home/one/sub").to_str(), false).unwrap().more);
}
