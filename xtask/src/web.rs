//! The checks of the web app: lint, types and unit tests, which read the same
//! `proto/vectors/*.json` as cargo's. `web/package-lock.json` holds the hashes
//! of what they need; npm fetches it into `web/node_modules`, once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::process;

/// The oldest Node.js whose WebCrypto has what a browser has (X25519, Ed25519) and that the tools run on.
const OLDEST_NODE: (u32, u32) = (20, 19);
/// A copy of the lock file that npm installed from. `npm ci` removes it first, with everything else.
const STAMP: &str = "node_modules/.installed-from.json";

/// Runs `npm run check`.
pub(crate) fn check(repository: &Path) -> anyhow::Result<()> {
    let folder = installed(repository)?;
    process::run(npm(&folder).args(["run", "--silent", "check"]))
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

/// Whether this version of Node.js, as it says it itself, will do.
fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split('.').map_while(|number| number.parse().ok());
    numbers.next().zip(numbers.next()).is_some_and(|found| found >= OLDEST_NODE)
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_lock_file_names_no_registry_and_the_manifest_no_range() {
        let lock = include_str!("../../web/package-lock.json");
        assert!(!lock.contains("\"resolved\""), "run npm in web, where .npmrc leaves the registry out");
        let manifest = include_str!("../../web/package.json");
        let (_, dependencies) = manifest.split_once("ependencies\"").expect("web has dependencies");
        assert!(!dependencies.contains(['^', '~', '*']), "web/package.json has a range, which is no pin");
    }
}
