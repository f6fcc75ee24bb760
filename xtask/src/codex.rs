//! The real Codex at one exact version, for the demo and for the end-to-end
//! tests. `tests/codex/package.json` names the version, its lock file the
//! hashes; npm fetches it into `tests/codex/node_modules`, which git ignores.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::process;

/// The program, installed at the pinned version; fetches it if it is not.
pub(crate) fn ensure(repository: &Path) -> anyhow::Result<PathBuf> {
    let folder = repository.join("tests").join("codex");
    let manifest = folder.join("package.json");
    let text = fs::read_to_string(&manifest).with_context(|| format!("could not read {}", manifest.display()))?;
    let wanted =
        pinned(&text).with_context(|| format!("no exact version of @openai/codex in {}", manifest.display()))?;

    let program = folder.join("node_modules").join(".bin").join(if cfg!(windows) { "codex.cmd" } else { "codex" });
    if is_complete(&folder, wanted) && program.exists() {
        eprintln!("Codex {wanted} is there.");
        return Ok(program);
    }

    let npm = if cfg!(windows) { "npm.cmd" } else { "npm" };
    if process::answer(Command::new(npm).arg("--version")).is_none() {
        bail!(
            "npm is needed to fetch Codex {wanted}, and is not on PATH: install Node.js 20 or newer from \
             https://nodejs.org (Debian, Ubuntu: `sudo apt-get install -y nodejs npm`; macOS: `brew install node`)"
        );
    }
    eprintln!("Fetching Codex {wanted} into {} (400 MB on disk, once) …", folder.display());
    // Scripts of packages do not run: nothing in this one needs them.
    process::run(Command::new(npm).current_dir(&folder).args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]))?;

    match installed(&program) {
        Some(version) if version == wanted => Ok(program),
        Some(version) => {
            bail!("npm installed Codex {version}, not {wanted}: run `npm install` in {}", folder.display())
        }
        None => bail!(
            "npm installed Codex {wanted}, but {} does not run here: delete {} and try again, or look whether \
             there is a build for this platform",
            program.display(),
            folder.join("node_modules").display()
        ),
    }
}

/// Whether npm installed this version to the end. Its own list of what it installed is the last thing that npm writes,
/// and `npm ci` begins with removing everything: an interrupted download leaves a package folder that looks complete,
/// and may even run, but no list.
fn is_complete(folder: &Path, wanted: &str) -> bool {
    let list = fs::read_to_string(folder.join("node_modules").join(".package-lock.json"));
    let package = |list: &str| {
        let (_, after) = list.split_once("\"node_modules/@openai/codex\"")?;
        let (_, after) = after.split_once("\"version\"")?;
        Some(after.split('"').nth(1)? == wanted)
    };
    list.ok().and_then(|list| package(&list)).unwrap_or(false)
}

/// The version that runs, asked of the program itself.
fn installed(program: &Path) -> Option<String> {
    let answer = process::answer(Command::new(program).arg("--version"))?;
    Some(answer.strip_prefix("codex-cli ")?.to_owned())
}

/// The exact version in a package manifest. A range is not a pin.
fn pinned(manifest: &str) -> Option<&str> {
    let (_, after) = manifest.split_once("\"@openai/codex\"")?;
    let version = after.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?.split('"').next()?;
    version.starts_with(|c: char| c.is_ascii_digit()).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_of_this_repository_pins_a_version() {
        let manifest = include_str!("../../tests/codex/package.json");
        let version = pinned(manifest).expect("an exact version in tests/codex/package.json");
        let lock = include_str!("../../tests/codex/package-lock.json");
        assert!(lock.contains(&format!("\"version\": \"{version}\"")), "package-lock.json locks another version");
    }

    #[test]
    fn the_lock_file_names_no_registry() {
        let lock = include_str!("../../tests/codex/package-lock.json");
        assert!(!lock.contains("\"resolved\""), "run npm in tests/codex, where .npmrc leaves the registry out");
    }

    #[test]
    fn a_range_is_not_a_pin() {
        assert_eq!(pinned(r#"{"dependencies": {"@openai/codex": "^0.169.0"}}"#), None);
        assert_eq!(pinned(r#"{"dependencies": {"@openai/codex": "latest"}}"#), None);
        assert_eq!(pinned("{}"), None);
    }

    #[test]
    fn what_npm_finished_is_complete_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let modules = folder.path().join("node_modules");
        // As a download leaves it that was interrupted: everything is there but npm's list.
        fs::create_dir_all(modules.join("@openai/codex")).unwrap();
        fs::write(modules.join("@openai/codex/package.json"), r#"{"version": "0.169.0"}"#).unwrap();
        assert!(!is_complete(folder.path(), "0.169.0"));

        let package = r#"{"version": "0.169.0", "integrity": "sha512-0"}"#;
        let list = format!(r#"{{"name": "x", "packages": {{"node_modules/@openai/codex": {package}}}}}"#);
        fs::write(modules.join(".package-lock.json"), &list).unwrap();
        assert!(is_complete(folder.path(), "0.169.0"));
        assert!(!is_complete(folder.path(), "0.170.0"));
        fs::write(modules.join(".package-lock.json"), &list[..30]).unwrap();
        assert!(!is_complete(folder.path(), "0.169.0"));
    }

    #[test]
    fn a_program_that_is_not_there_is_not_installed() {
        assert_eq!(installed(Path::new("no-such-folder/codex")), None);
    }
}
