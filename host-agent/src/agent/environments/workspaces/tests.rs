use std::os::unix::fs::symlink;

use super::*;
use crate::disk::{LocalDisk, Surroundings};

const NOW: Timestamp = Timestamp::EPOCH;
const NONE: [PathBuf; 0] = [];

/// A machine: `home/` with `.codex` and `state` in it, and `srv/` beside it.
struct Machine {
    _dir: tempfile::TempDir,
    top: PathBuf,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        for folder in ["home/.codex/x", "home/state/host", "home/one/sub", "home/two", "home/plain", "srv/repo"] {
            std::fs::create_dir_all(top.join(folder)).unwrap();
        }
        Self { _dir: dir, top }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.top.join(path)
    }

    fn trust(&self, folders: &[&str]) {
        let project = |folder: &&str| format!("[projects.{:?}]\ntrust_level = \"trusted\"\n", self.path(folder));
        let text = folders.iter().map(project).collect::<String>();
        std::fs::write(self.path("home/.codex/config.toml"), text).unwrap();
    }

    fn workspaces(&self) -> Workspaces {
        let store = Arc::new(WorkspaceStore::open(&self.path("home/state")).unwrap());
        let surroundings = Surroundings {
            home: Some(self.path("home")),
            state: vec![self.path("home/.codex"), self.path("home/state")],
            roots: vec![self.path("home")],
            codex_config: Some(self.path("home/.codex/config.toml")),
            working_dir: Some(self.path("home/two")),
        };
        Workspaces::new("local", store, Arc::new(LocalDisk::new(surroundings)))
    }

    /// What a device gets that names this folder.
    fn place(&self, folder: &str) -> Result<Place, NoPlace> {
        self.workspaces().place(self.path(folder).to_str().unwrap())
    }

    fn refuses(&self, folder: &str) -> NotOpen {
        match self.workspaces().add(&self.path(folder), NOW) {
            Err(ChangeError::NotOpen { not, .. }) => not,
            other => panic!("{folder} was not refused: {other:?}"),
        }
    }
}

#[test]
fn what_the_owner_lists_and_what_codex_trusts_is_a_workspace() {
    let machine = Machine::new();
    machine.trust(&["srv/repo"]);
    machine.workspaces().add(&machine.path("home/one"), NOW).unwrap();
    assert_eq!(machine.workspaces().workspaces(), [machine.path("home/one"), machine.path("srv/repo")]);
    assert_eq!(machine.place("home/one"), Ok(Place::Workspace(machine.path("home/one"))));
    assert_eq!(machine.place("srv/repo"), Ok(Place::Workspace(machine.path("srv/repo"))));
    // Below the roots, and below a workspace outside of them.
    std::fs::create_dir(machine.path("srv/repo/sub")).unwrap();
    for below in ["home/plain", "home/one/sub", "srv/repo/sub"] {
        assert_eq!(machine.place(below), Ok(Place::Below(machine.path(below))));
    }
    assert_eq!(machine.place("srv"), Err(NoPlace::Outside));
}

#[test]
fn the_home_and_the_state_are_never_open_whoever_trusts_them() {
    let machine = Machine::new();
    machine.trust(&["", "home", "home/.codex", "home/.codex/x", "home/state"]);
    assert_eq!(machine.workspaces().workspaces(), NONE);
    for (folder, why) in [
        ("", NoPlace::Home),
        ("home", NoPlace::Home),
        ("home/.codex", NoPlace::State),
        ("home/.codex/x", NoPlace::State),
        ("home/state", NoPlace::State),
        ("home/state/host", NoPlace::State),
    ] {
        assert_eq!(machine.place(folder), Err(why.clone()), "{folder:?}");
        assert_eq!(machine.refuses(folder), NotOpen::Place(why), "{folder:?}");
    }
    assert_eq!(machine.workspaces().place("/"), Err(NoPlace::Home));
}

#[test]
fn a_folder_that_contains_the_state_is_not_open_either() {
    let machine = Machine::new();
    let store = Arc::new(WorkspaceStore::open(&machine.path("srv/repo/state")).unwrap());
    let surroundings = Surroundings { state: vec![machine.path("srv/repo/state")], ..Surroundings::default() };
    let workspaces = Workspaces::new("local", store, Arc::new(LocalDisk::new(surroundings)));
    let added = workspaces.add(&machine.path("srv/repo"), NOW);
    assert!(matches!(added, Err(ChangeError::NotOpen { not: NotOpen::Place(NoPlace::State), .. })), "{added:?}");
}

#[test]
fn workspaces_do_not_nest() {
    let machine = Machine::new();
    machine.workspaces().add(&machine.path("home/one"), NOW).unwrap();
    assert_eq!(machine.refuses("home/one/sub"), NotOpen::Inside { outer: machine.path("home/one") });
    assert_eq!(machine.refuses("home/one"), NotOpen::Already);
    machine.workspaces().add(&machine.path("srv/repo"), NOW).unwrap();
    assert_eq!(machine.refuses("srv"), NotOpen::Contains { inner: machine.path("srv/repo") });

    // Of nested trusted folders only the outermost counts; the home does not count at all.
    machine.trust(&["home", "home/one/sub", "home/two", "home/plain"]);
    std::fs::create_dir(machine.path("home/two/inner")).unwrap();
    machine.trust(&["home", "home/one/sub", "home/two/inner", "home/two"]);
    let open = ["home/one", "home/two", "srv/repo"].map(|folder| machine.path(folder));
    assert_eq!(machine.workspaces().workspaces(), open);
    assert_eq!(machine.place("home/two/inner"), Ok(Place::Below(machine.path("home/two/inner"))));
    assert_eq!(machine.refuses("home/two/inner"), NotOpen::Inside { outer: machine.path("home/two") });
}

#[test]
fn a_folder_whose_name_begins_like_a_workspace_does_not_lie_in_it() {
    let machine = Machine::new();
    std::fs::create_dir(machine.path("srv/repo-2")).unwrap();
    std::fs::create_dir(machine.path("srv/repo/in")).unwrap();
    machine.trust(&["srv/repo", "srv/repo-2", "srv/repo/in"]);
    let open = ["srv/repo", "srv/repo-2"].map(|folder| machine.path(folder));
    assert_eq!(machine.workspaces().workspaces(), open);
}

#[test]
fn what_is_removed_stays_closed_also_when_codex_trusts_it() {
    let machine = Machine::new();
    std::fs::create_dir(machine.path("home/two/inner")).unwrap();
    machine.trust(&["home/two", "home/two/inner"]);
    machine.workspaces().add(&machine.path("home/one"), NOW).unwrap();
    for folder in ["home/one", "home/two"] {
        machine.workspaces().remove(&machine.path(folder), NOW).unwrap();
    }
    // What lies in it does not come to light in its place.
    assert_eq!(machine.workspaces().workspaces(), NONE);
    let twice = machine.workspaces().remove(&machine.path("home/one"), NOW);
    assert!(matches!(twice, Err(ChangeError::Unknown { .. })), "{twice:?}");
    // Nor when the owner opens that alone.
    machine.workspaces().add(&machine.path("home/two/inner"), NOW).unwrap();
    assert_eq!(machine.workspaces().workspaces(), [machine.path("home/two/inner")]);
    machine.workspaces().remove(&machine.path("home/two/inner"), NOW).unwrap();
    assert_eq!(machine.workspaces().workspaces(), NONE);
    machine.workspaces().add(&machine.path("home/two"), NOW).unwrap();
    assert_eq!(machine.workspaces().workspaces(), [machine.path("home/two")]);
}

#[test]
fn a_link_where_a_workspace_was_opens_nothing() {
    let machine = Machine::new();
    machine.workspaces().add(&machine.path("srv/repo"), NOW).unwrap();
    std::fs::rename(machine.path("srv/repo"), machine.path("srv/away")).unwrap();
    symlink(machine.path("home/plain"), machine.path("srv/repo")).unwrap();
    assert_eq!(machine.workspaces().workspaces(), NONE);
    let listed = machine.workspaces().list();
    assert_eq!(listed[0].not, Some(NotOpen::Link { real: machine.path("home/plain") }));
    // A folder that is trusted by the name of a link is not what the name said when it was trusted.
    std::fs::create_dir(machine.path("home/real")).unwrap();
    symlink(machine.path("home/real"), machine.path("home/alias")).unwrap();
    machine.trust(&["home/alias"]);
    assert_eq!(machine.place("home/alias"), Ok(Place::Below(machine.path("home/real"))));
}

#[test]
fn a_device_is_told_the_real_folder_and_links_lead_nowhere_else() {
    let machine = Machine::new();
    machine.workspaces().add(&machine.path("srv/repo"), NOW).unwrap();
    symlink(machine.path("srv/repo"), machine.path("home/alias")).unwrap();
    symlink(machine.path("home/.codex"), machine.path("srv/repo/escape")).unwrap();
    symlink("/etc", machine.path("home/etc")).unwrap();
    assert_eq!(machine.place("home/alias"), Ok(Place::Workspace(machine.path("srv/repo"))));
    assert_eq!(machine.place("srv/repo/escape"), Err(NoPlace::State));
    assert_eq!(machine.place("home/etc"), Err(NoPlace::Outside));
    assert_eq!(machine.place("home/nowhere"), Err(NoPlace::Missing));
    for wish in ["", ".", "home/one", "~", "/home/../etc"] {
        assert_eq!(machine.workspaces().place(wish), Err(NoPlace::Form), "{wish:?}");
    }
}

#[test]
fn a_thread_that_names_no_folder_gets_the_one_that_is_meant() {
    let machine = Machine::new();
    assert_eq!(machine.workspaces().unnamed(), Err(NoPlace::Unnamed(Unnamed::None)));
    machine.workspaces().add(&machine.path("home/one"), NOW).unwrap();
    assert_eq!(machine.workspaces().unnamed(), Ok(machine.path("home/one")));
    machine.workspaces().add(&machine.path("srv/repo"), NOW).unwrap();
    assert_eq!(machine.workspaces().unnamed(), Err(NoPlace::Unnamed(Unnamed::Several)));
    // The folder that the agent works in.
    machine.workspaces().add(&machine.path("home/two"), NOW).unwrap();
    assert_eq!(machine.workspaces().unnamed(), Ok(machine.path("home/two")));
}

#[test]
fn git_is_told_of_every_change() {
    let machine = Machine::new();
    let ground = Arc::new(Ground::prepare(&machine.path("home/state/codex")).unwrap());
    let told = || {
        let list = std::fs::read_to_string(ground.git().join("workspaces")).unwrap();
        let folder =
            |line: &str| line.trim().strip_prefix("directory = ").map(|quoted| quoted.trim_matches('"').into());
        list.lines().filter_map(folder).collect::<Vec<PathBuf>>()
    };
    let workspaces = machine.workspaces().telling(Some(Arc::clone(&ground)));
    assert_eq!(told(), NONE);
    workspaces.add(&machine.path("home/one"), NOW).unwrap();
    assert_eq!(told(), [machine.path("home/one")]);
    // Codex's configuration changes without a word: it counts when a device works somewhere.
    machine.trust(&["srv/repo"]);
    assert_eq!(workspaces.place(machine.path("srv/repo").to_str().unwrap()).unwrap().path(), machine.path("srv/repo"));
    assert_eq!(told(), [machine.path("home/one"), machine.path("srv/repo")]);
    workspaces.remove(&machine.path("srv/repo"), NOW).unwrap();
    workspaces.remove(&machine.path("home/one"), NOW).unwrap();
    assert_eq!(told(), NONE);
}
