//! Finding programs on the search path, and what of this process's environment they get.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use tokio::process::Command;

/// A program that is run from here. It has this process's environment without what is ours alone.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_ours(name)) {
        command.env_remove(name);
    }
    command
}

/// Whether a variable is for this process and no other: ours may hold an enrolment key, and whoever has systemd's
/// (`sd_notify(3)`, `sd_listen_fds(3)`) takes itself for the service. Podman, for one, then waits for its container.
fn is_ours(name: &OsStr) -> bool {
    const OF_SYSTEMD: [&str; 6] =
        ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];
    name.as_encoded_bytes().starts_with(b"REACHBACK_") || OF_SYSTEMD.iter().any(|known| name == *known)
}

/// The first `name` on the search path that is a file.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    find_in(&std::env::var_os("PATH")?, name)
}

/// The search path, where it is text.
pub(crate) fn search_path() -> Option<String> {
    std::env::var_os("PATH")?.into_string().ok()
}

fn find_in(path: &OsStr, name: &str) -> Option<PathBuf> {
    std::env::split_paths(path).filter(|folder| folder.is_absolute()).find_map(|folder| candidate(&folder, name))
}

/// On Windows npm installs `codex.cmd` beside a shell script of the bare name, which does not run there.
fn candidate(folder: &Path, name: &str) -> Option<PathBuf> {
    let endings: &[&str] = if cfg!(windows) { &[".exe", ".cmd", ".bat"] } else { &[""] };
    endings.iter().map(|ending| folder.join(format!("{name}{ending}"))).find(|path| path.is_file())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_told_from_what_is_everybodys() {
        for ours in ["REACHBACK_ENROLL_KEY", "REACHBACK_HOME", "NOTIFY_SOCKET", "WATCHDOG_PID", "LISTEN_FDS"] {
            assert!(is_ours(OsStr::new(ours)), "{ours}");
        }
        for shared in ["PATH", "HOME", "CODEX_HOME", "XREACHBACK_HOME", "NOTIFY_SOCKETS", "INVOCATION_ID"] {
            assert!(!is_ours(OsStr::new(shared)), "{shared}");
        }
    }

    #[test]
    fn the_first_folder_wins_and_relative_folders_are_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let (first, second) = (root.path().join("first"), root.path().join("second"));
        for folder in [&first, &second] {
            std::fs::create_dir(folder).unwrap();
        }
        std::fs::write(second.join("codex"), "").unwrap();
        let path = std::env::join_paths([Path::new("."), &first, &second]).unwrap();
        assert_eq!(find_in(&path, "codex"), Some(second.join("codex")));
        std::fs::write(first.join("codex"), "").unwrap();
        assert_eq!(find_in(&path, "codex"), Some(first.join("codex")));
        assert_eq!(find_in(&path, "nothing"), None);
    }
}
