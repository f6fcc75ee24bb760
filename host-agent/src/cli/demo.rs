//! A demo is a demo: which home it takes, which homes it and the real Codex refuse, how the other commands find it.
//!
//! No list of devices is ever shared between a demo and the real Codex. A demo
//! has a home of its own, beside the usual one unless another was chosen, and
//! marks it ([`crate::state::demo`]); whoever starts an agent asks for the mark.

use std::io::Write;
use std::path::{Path, PathBuf};

use reachback_proto::words::{quote, shell_word};

use super::Home;
use crate::demo::machine::{self, quoted};
use crate::local_api::{Client, Failure, Request};
use crate::platform::dirs::beside;
use crate::state::demo::HomeKind;
use crate::state::lock::HomeLock;

/// What an agent is started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Trying things out.
    Demo,
    /// The real Codex.
    Real,
}

/// The home of a demo: the one that was chosen, else one beside the usual one.
pub(super) fn home_of_demo(home: &Home) -> anyhow::Result<Home> {
    if home.is_chosen {
        return Ok(home.clone());
    }
    Ok(Home { path: home.places.demo_state()?, ..home.clone() })
}

/// The lock of a home that serves this purpose. One that does not is neither changed nor locked.
pub(super) fn acquire(home: &Home, purpose: Purpose) -> anyhow::Result<HomeLock> {
    check(home, purpose)?;
    let lock = HomeLock::acquire(&home.path)?;
    // Another agent may have been here between the look and the lock.
    check(home, purpose)?;
    Ok(lock)
}

/// Refuses a home that does not serve this purpose.
pub(super) fn check(home: &Home, purpose: Purpose) -> anyhow::Result<()> {
    match (purpose, HomeKind::of(&home.path)?) {
        (Purpose::Demo, HomeKind::Real) => Err(not_a_demo_home(home).into()),
        (Purpose::Real, HomeKind::Demo) => Err(demo_home(home).into()),
        (Purpose::Demo | Purpose::Real, _) => Ok(()),
    }
}

fn not_a_demo_home(home: &Home) -> Failure {
    let path = &home.path;
    let other = home.places.demo_state().ok().filter(|demo| demo != path).unwrap_or_else(|| beside(path, "-demo"));
    let message =
        format!("{} is the home of a real host, and a demo's devices must not get in there", quote(path.display()));
    Failure::new("not_a_demo_home", message).fix(format!("reachback up --demo --home {}", shell_word(other.display())))
}

fn demo_home(home: &Home) -> Failure {
    let path = &home.path;
    let message = format!("{} is a demo's home, and its devices must not reach the real Codex", quote(path.display()));
    let other = match home.places.state(None) {
        Ok(usual) if usual != *path => usual,
        _ => beside(path, "-real"),
    };
    Failure::new("demo_home", message).fix(format!(
        "use another home: --home {} (or REACHBACK_HOME); for the demo itself: reachback up --demo --home {}",
        shell_word(other.display()),
        shell_word(path.display())
    ))
}

/// The line that points the other commands at this home; `None` where they look by themselves.
pub(super) fn pointer(home: &Home) -> Option<String> {
    (home.usual.as_ref() != Some(&home.path)).then(|| export(&home.path))
}

fn export(home: &Path) -> String {
    format!("export REACHBACK_HOME={}", shell_word(home.display()))
}

/// What to do for who looks for a demo's agent here: where it runs, while no agent runs on this home.
pub(super) async fn elsewhere(home: &Home) -> Option<String> {
    let demo = home.places.demo_state().ok().filter(|demo| *demo != home.path)?;
    let is_demo = HomeKind::of(&demo).is_ok_and(|kind| kind == HomeKind::Demo);
    if !is_demo || runs(&home.path).await || !runs(&demo).await {
        return None;
    }
    Some(format!("a demo runs on another home; to use that: {}", export(&demo)))
}

async fn runs(home: &Path) -> bool {
    Client::open(home, &Request::Status).await.is_ok()
}

/// Where a demo notes which Codex it runs.
pub(super) fn codex_file(home: &Path) -> PathBuf {
    home.join("demo").join("codex-program")
}

/// Codex's own state in a demo's home.
pub(super) fn codex_home(home: &Path) -> PathBuf {
    home.join("demo").join("codex-home")
}

/// The SSH configuration of a demo, which names no machine by itself: a demo's devices must not get to the person's.
/// `None` in the home of a real host.
pub(super) fn ssh_config(home: &Home) -> Result<Option<PathBuf>, Failure> {
    let kind = HomeKind::of(&home.path).map_err(|error| Failure::new("home", error.to_string()))?;
    Ok((kind == HomeKind::Demo).then(|| ssh_config_in(&home.path)))
}

fn ssh_config_in(home: &Path) -> PathBuf {
    home.join("demo").join("ssh-config")
}

/// Makes that file, unless it is there.
pub(super) fn make_ssh_config(home: &Path) -> std::io::Result<()> {
    // A file that is not there is passed over.
    let text = format!(
        "# SSH hosts of the demo, in the form of ~/.ssh/config, which the demo does not read.\nInclude {}\n",
        quoted(&machine::config_in(home))
    );
    match std::fs::File::create_new(ssh_config_in(home)) {
        Ok(mut file) => file.write_all(text.as_bytes()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// The Codex that a demo runs, for `connect` on the same computer: this home's, else that of the demo's usual home.
pub(super) fn codex(home: &Home) -> Option<PathBuf> {
    let homes = [Some(home.path.clone()), home.places.demo_state().ok()];
    homes.into_iter().flatten().find_map(|home| {
        let path = PathBuf::from(std::fs::read_to_string(codex_file(&home)).ok()?);
        path.is_file().then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::dirs::Places;
    use crate::state::demo::mark;
    use crate::state::timestamp::Timestamp;

    /// The homes of one person whose state is in `folder`; `variable` is their REACHBACK_HOME, `flag` their `--home`.
    fn home(folder: &Path, variable: Option<&Path>, flag: Option<&Path>) -> Home {
        let places = Places { home: Some(folder.into()), xdg_state_home: Some(folder.into()), ..Places::default() };
        Home::find(places, flag.or(variable), variable).unwrap()
    }

    fn make_real(path: &Path) {
        std::fs::create_dir_all(path.join("host")).unwrap();
        std::fs::write(path.join("host/host.json"), "{}").unwrap();
    }

    fn make_demo(path: &Path) {
        mark(&HomeLock::acquire(path).unwrap(), Timestamp::from_unix(0)).unwrap();
    }

    fn refusal(home: &Home, purpose: Purpose) -> Failure {
        acquire(home, purpose).unwrap_err().downcast().unwrap()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_demo_takes_the_home_that_was_chosen_or_one_beside_the_usual() {
        let folder = Path::new("/state");
        let usual = home(folder, None, None);
        assert_eq!(usual.path, Path::new("/state/reachback"));
        assert_eq!(home_of_demo(&usual).unwrap().path, Path::new("/state/reachback-demo"));
        // An empty variable chooses nothing.
        let empty = home(folder, Some(Path::new("")), None);
        assert_eq!(home_of_demo(&empty).unwrap().path, Path::new("/state/reachback-demo"));
        let by_variable = home(folder, Some(Path::new("/mine")), None);
        assert_eq!(home_of_demo(&by_variable).unwrap().path, Path::new("/mine"));
        let by_flag = home(folder, Some(Path::new("/mine")), Some(Path::new("/other")));
        assert_eq!(home_of_demo(&by_flag).unwrap().path, Path::new("/other"));
        // Even the usual one, if someone says so.
        let insisted = home(folder, None, Some(&usual.path));
        assert_eq!(home_of_demo(&insisted).unwrap().path, usual.path);
    }

    #[test]
    fn new_homes_serve_both_and_others_only_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let chosen = |name: &str| home(folder.path(), Some(&folder.path().join(name)), None);
        for purpose in [Purpose::Demo, Purpose::Real] {
            // Taking the lock decides nothing.
            acquire(&chosen("new"), purpose).unwrap();
        }
        make_real(&chosen("real").path);
        make_demo(&chosen("demo").path);
        acquire(&chosen("real"), Purpose::Real).unwrap();
        acquire(&chosen("demo"), Purpose::Demo).unwrap();
        assert_eq!(refusal(&chosen("real"), Purpose::Demo).code, "not_a_demo_home");
        assert_eq!(refusal(&chosen("demo"), Purpose::Real).code, "demo_home");
        // A mark outweighs the host that the demo made.
        make_real(&chosen("demo").path);
        acquire(&chosen("demo"), Purpose::Demo).unwrap();
        assert_eq!(refusal(&chosen("demo"), Purpose::Real).code, "demo_home");
    }

    #[test]
    fn a_refused_home_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let real = home(folder.path(), Some(&folder.path().join("real")), None);
        make_real(&real.path);
        refusal(&real, Purpose::Demo);
        let found: Vec<_> = std::fs::read_dir(&real.path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(found, ["host"]);
        assert!(!folder.path().join("real-project").exists());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_refusal_names_a_home_to_use() {
        let folder = tempfile::tempdir().unwrap();
        let demo = folder.path().join("reachback-demo").display().to_string();
        let fix = |home: &Home, purpose| {
            match purpose {
                Purpose::Demo => make_real(&home.path),
                Purpose::Real => make_demo(&home.path),
            }
            refusal(home, purpose).fix.unwrap()
        };
        let mine = home(folder.path(), Some(&folder.path().join("mine")), None);
        assert_eq!(fix(&mine, Purpose::Demo), format!("reachback up --demo --home {demo}"));
        // Someone keeps a real host where demos go.
        let taken = home_of_demo(&home(folder.path(), None, None)).unwrap();
        assert_eq!(fix(&taken, Purpose::Demo), format!("reachback up --demo --home {demo}-demo"));

        let other = home(folder.path(), Some(&folder.path().join("other one")), None);
        let usual = folder.path().join("reachback").display().to_string();
        assert!(fix(&other, Purpose::Real).contains(&format!("--home {usual} (")));
        // Someone insisted on a demo in the usual one.
        let insisted = home(folder.path(), None, None);
        assert!(fix(&insisted, Purpose::Real).contains(&format!("--home {usual}-real (")));
    }

    #[test]
    fn the_pointer_is_given_where_other_commands_would_look_elsewhere() {
        let folder = Path::new("/state");
        assert_eq!(pointer(&home(folder, Some(Path::new("/mine")), None)), None);
        let by_flag = home(folder, Some(Path::new("/mine")), Some(Path::new("/a 'b'")));
        assert_eq!(pointer(&by_flag).unwrap(), r"export REACHBACK_HOME='/a '\''b'\'''");
        let own = home_of_demo(&home(folder, None, None)).unwrap();
        let line = pointer(&own).unwrap();
        assert_eq!(line, format!("export REACHBACK_HOME={}", own.path.display()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn connect_finds_the_codex_of_its_own_home_and_then_of_the_usual_demo() {
        let folder = tempfile::tempdir().unwrap();
        let laptop = home(folder.path(), Some(&folder.path().join("laptop")), None);
        assert_eq!(codex(&laptop), None);
        let demo = home_of_demo(&home(folder.path(), None, None)).unwrap();
        for (home, name) in [(&demo, "one"), (&laptop, "two")] {
            let program = folder.path().join(name);
            std::fs::write(&program, "").unwrap();
            std::fs::create_dir_all(home.path.join("demo")).unwrap();
            std::fs::write(codex_file(&home.path), program.to_str().unwrap()).unwrap();
            assert_eq!(codex(&laptop), Some(program));
        }
    }
}
