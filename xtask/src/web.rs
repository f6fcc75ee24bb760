//! The web app: building it into `web/dist`, which becomes part of the relay
//! that is compiled next, and its checks: lint, types and unit tests, which
//! read the same `proto/vectors/*.json` as cargo's. `web/package-lock.json`
//! holds the hashes of what they need; npm fetches it into `web/node_modules`,
//! once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;
use std::{fs, io};

use anyhow::{Context, bail};

use crate::process;

/// Build the web app, or work on it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, clap::Subcommand)]
enum Chore {
    /// Build it into web/dist, if anything has changed; the relay that is compiled next holds it.
    Build,
    /// Serve it as it is being changed, with a running relay behind it.
    Dev {
        /// The relay, such as that of `cargo xtask up`.
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7420")]
        relay: String,
    },
}

/// The oldest Node.js whose WebCrypto has what a browser has (X25519, Ed25519) and that the tools run on.
const OLDEST_NODE: (u32, u32) = (20, 19);
/// A copy of the lock file that npm installed from. `npm ci` removes it first, with everything else.
const STAMP: &str = "node_modules/.installed-from.json";

/// What the app is built from, besides the packages.
const SOURCES: [&str; 6] = ["src", "public", "index.html", "vite.config.ts", "svelte.config.js", "package-lock.json"];
/// The page of the built app, which is written last.
const BUILT: &str = "dist/index.html";

/// Does what was asked for.
pub(crate) fn web(repository: &Path, args: &Args) -> anyhow::Result<()> {
    match &args.chore {
        Chore::Build => build(repository),
        Chore::Dev { relay } => {
            let folder = installed(repository)?;
            Err(process::become_program(&mut dev(&folder, relay))).context("could not start npm")
        }
    }
}

/// Serves the app as it is being changed; `web/test/app/dev.test.ts` runs the same in a copy.
fn dev(folder: &Path, relay: &str) -> Command {
    let mut command = npm(folder);
    command.args(["run", "--silent", "dev"]).env("RELAY", relay);
    command
}

/// Builds the app, unless it is built from what is there.
pub(crate) fn build(repository: &Path) -> anyhow::Result<()> {
    let folder = installed(repository)?;
    if is_built(&folder).context("could not look through the web app's files")? {
        eprintln!("The web app in web/dist: built.");
        return Ok(());
    }
    process::run(npm(&folder).args(["run", "--silent", "build"]))
}

/// Runs `npm run check`.
pub(crate) fn check(repository: &Path) -> anyhow::Result<()> {
    let folder = installed(repository)?;
    process::run(npm(&folder).args(["run", "--silent", "check"]))
}

/// Runs the app's tests in Chromium, with the programs that cargo built beside this one.
pub(crate) fn test_app(repository: &Path) -> anyhow::Result<()> {
    process::run(&mut in_chromium(repository, "test:app")?)
}

/// Measures the app in Chromium, with the programs that cargo built beside this one; these variables are set.
pub(crate) fn bench_app(repository: &Path, variables: impl Iterator<Item = &'static str>) -> anyhow::Result<()> {
    process::run(in_chromium(repository, "bench")?.envs(variables.map(|name| (name, "1"))))
}

/// This script of web/package.json, which starts the programs and a browser.
fn in_chromium(repository: &Path, script: &str) -> anyhow::Result<Command> {
    let folder = installed(repository)?;
    let this = std::env::current_exe().context("could not find the folder of the built programs")?;
    let program = |name: &str| this.with_file_name(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let mut command = npm(&folder);
    command.args(["run", "--silent", script]);
    command.env("REACHBACK", program("reachback")).env("REACHBACK_RELAY", program("reachback-relay"));
    Ok(command)
}

/// Lays a file of the web app out as `npm run check` wants it.
pub(crate) fn format(repository: &Path, file: &str) -> anyhow::Result<()> {
    let folder = installed(repository)?;
    process::run(npm(&folder).args(["exec", "--no", "--", "prettier", "--write", "--log-level", "warn", file]))
}

/// The web app's folder, once what its lock file names is there.
fn installed(repository: &Path) -> anyhow::Result<PathBuf> {
    let folder = repository.join("web");
    let version = process::answer(Command::new("node").arg("--version"));
    if !version.as_deref().is_some_and(is_new_enough) {
        let (major, minor) = OLDEST_NODE;
        bail!(
            "the web app's tests need Node.js {major}.{minor} or newer, for X25519 in its WebCrypto; here is {}. Install it \
             from https://nodejs.org (Debian 13: `sudo apt-get install -y nodejs npm`; macOS: `brew install node`)",
            version.as_deref().unwrap_or("none on PATH")
        );
    }
    if is_installed(&folder) {
        eprintln!("Packages of web/package-lock.json: there.");
    } else {
        // Scripts of packages do not run: nothing in these needs them.
        let words = ["ci", "--no-audit", "--no-fund", "--ignore-scripts"];
        process::run(npm(&folder).args(words))?;
        fs::copy(folder.join("package-lock.json"), folder.join(STAMP)).context("could not note what npm installed")?;
    }
    Ok(folder)
}

fn npm(folder: &Path) -> Command {
    let mut command = Command::new(if cfg!(windows) { "npm.cmd" } else { "npm" });
    command.current_dir(folder);
    command
}

/// Whether npm installed, to the end, what the lock file names now.
fn is_installed(folder: &Path) -> bool {
    let lock = fs::read(folder.join("package-lock.json")).ok();
    lock.is_some() && lock == fs::read(folder.join(STAMP)).ok()
}

/// Whether the app is built, and newer than all that it is built from.
fn is_built(folder: &Path) -> io::Result<bool> {
    let Ok(built) = fs::metadata(folder.join(BUILT)) else {
        return Ok(false);
    };
    let changed = SOURCES.iter().map(|source| changed(&folder.join(source))).collect::<io::Result<Vec<_>>>()?;
    Ok(changed.into_iter().max() < Some(built.modified()?))
}

/// When a file, or anything below a folder, last changed; that something is gone shows in its folder.
fn changed(path: &Path) -> io::Result<SystemTime> {
    let about = fs::metadata(path)?;
    let mut last = about.modified()?;
    if about.is_dir() {
        for entry in fs::read_dir(path)? {
            last = last.max(changed(&entry?.path())?);
        }
    }
    Ok(last)
}

/// Whether this version of Node.js, as it says it itself, will do.
fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split('.').map_while(|number| number.parse().ok());
    numbers.next().zip(numbers.next()).is_some_and(|found| found >= OLDEST_NODE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_app_is_served_with_the_relay_that_was_named_behind_it() {
        let command = dev(Path::new("web"), "http://127.0.0.1:7");
        assert!(process::line(&command).ends_with("run --silent dev"), "{command:?}");
        let relay = command.get_envs().find(|(name, _)| *name == "RELAY").and_then(|(_, value)| value);
        assert_eq!(relay, Some("http://127.0.0.1:7".as_ref()));
        assert_eq!(command.get_current_dir(), Some(Path::new("web")));
    }

    #[test]
    fn an_old_node_is_told_from_a_new_one() {
        for (version, enough) in [("v18.20.4", false), ("v20.18.9", false), ("v20.19.0", true), ("v24.0.1", true)] {
            assert_eq!(is_new_enough(version), enough, "{version}");
        }
        assert!(!is_new_enough("") && !is_new_enough("node"));
    }

    #[test]
    fn another_lock_file_is_installed_again() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("package-lock.json");
        fs::write(&lock, "{}").unwrap();
        // As an interrupted `npm ci` leaves it.
        fs::create_dir(folder.path().join("node_modules")).unwrap();
        assert!(!is_installed(folder.path()));
        fs::copy(&lock, folder.path().join(STAMP)).unwrap();
        assert!(is_installed(folder.path()));
        fs::write(&lock, "{ }").unwrap();
        assert!(!is_installed(folder.path()));
    }

    #[test]
    fn the_app_is_built_again_when_a_file_of_it_is_newer_or_gone() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        let set = |path: &str, seconds: u64| {
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            fs::File::open(at(path)).unwrap().set_modified(time).unwrap();
        };
        for path in ["src/views", "public", "dist"] {
            fs::create_dir_all(at(path)).unwrap();
        }
        for path in SOURCES.iter().skip(2).chain(&["src/views/App.svelte"]) {
            fs::write(at(path), "").unwrap();
        }
        for path in SOURCES.iter().chain(&["src/views/App.svelte", "src/views"]) {
            set(path, 10);
        }
        assert!(!is_built(folder.path()).unwrap());
        fs::write(at(BUILT), "").unwrap();
        set(BUILT, 11);
        assert!(is_built(folder.path()).unwrap());
        set("src/views/App.svelte", 12);
        assert!(!is_built(folder.path()).unwrap());
        set("src/views/App.svelte", 10);
        set("src/views", 12);
        assert!(!is_built(folder.path()).unwrap());
    }

    #[test]
    fn the_lock_file_names_no_registry_and_the_manifest_no_range() {
        let lock = include_str!("../../web/package-lock.json");
        assert!(!lock.contains("\"resolved\""), "run npm in web, where .npmrc leaves the registry out");
        let manifest = include_str!("../../web/package.json");
        let (_, dependencies) = manifest.split_once("ependencies\"").expect("web has dependencies");
        assert!(!dependencies.contains(['^', '~', '*']), "web/package.json has a range, which is no pin");
    }
}
