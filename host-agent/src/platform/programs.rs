//! Finding programs on the search path, and what is typed to run them.

use std::path::{Path, PathBuf};

/// The first `name` on the search path that is a file.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    find_in(&std::env::var_os("PATH")?, name)
}

/// The search path, where it is text.
pub(crate) fn search_path() -> Option<String> {
    std::env::var_os("PATH")?.into_string().ok()
}

fn find_in(path: &std::ffi::OsStr, name: &str) -> Option<PathBuf> {
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
