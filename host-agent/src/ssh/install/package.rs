//! Codex's packages: for which machines there are some, and fetching one on this computer.
//!
//! npm fetches, from wherever it is set up to: it knows the person's mirror, proxy and cache. What it brings counts
//! only when it is, to the bit, the package that this version of Reachback was tested with.

use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use data_encoding::BASE64;
use ring::digest::{Context, SHA512};
use tempfile::TempDir;

use super::InstallError;
use crate::platform::programs;
use crate::ssh::bootstrap::last_line;

/// The Codex that is installed: the one that this version of Reachback was tested with.
pub const CODEX_VERSION: &str = "0.169.0";

/// A slow line takes so long for 160 MB.
const PATIENCE: Duration = Duration::from_secs(3600);

/// A package of Codex for one kind of machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Package {
    /// How its version ends.
    name: &'static str,
    /// The folder in it that holds the programs.
    pub(super) target: &'static str,
    /// SHA-512 of it, as npm writes it.
    sha512: &'static str,
}

const LINUX_X64: Package = Package {
    name: "linux-x64",
    target: "x86_64-unknown-linux-musl",
    sha512: "o05NyAOCDygSPRo1yinzxvkRSdmsZyBD9E7mbpmjRanSfM8lypqWtQgEo4XfNkwhuCR2aFu8mlGOsQGFXVbVww==",
};
const LINUX_ARM64: Package = Package {
    name: "linux-arm64",
    target: "aarch64-unknown-linux-musl",
    sha512: "NZ/DaQUpcQmxmqee7Z9uC1rzw3GhSbooawcaTe1LN5Yk+WlinUKGdTXJgClRT/9ogQEEM9TWxYzvxPfj5G/xFg==",
};
const DARWIN_X64: Package = Package {
    name: "darwin-x64",
    target: "x86_64-apple-darwin",
    sha512: "K1FKSsSLl9v3z5TeagBQXyQRDBIGB5Jncy5dxsRxwT3aaTqN3AI8VrCfoxBxKMOOU9O2QX1vg7WkBwNVth/s9A==",
};
const DARWIN_ARM64: Package = Package {
    name: "darwin-arm64",
    target: "aarch64-apple-darwin",
    sha512: "5WsWFBbVP78D+6FvNo1MMVxLPZdmcoQlqVJFrF4qx/TmvneLnMQKtLyXkUo54XOTDfoYKpNouTJ/F7gTVA8FnQ==",
};

/// A package that was fetched and is the right one.
#[derive(Debug)]
pub(super) struct Fetched {
    /// The file, at its beginning. It is the one whose bytes were looked at.
    pub(super) file: std::fs::File,
    /// How long it is.
    pub(super) size: u64,
    _folder: TempDir,
}

impl Package {
    /// The one for a machine, by what `uname -s` and `uname -m` say there.
    pub(super) fn of(system: &str, machine: &str) -> Option<Self> {
        match (system, machine) {
            ("Linux", "x86_64" | "amd64") => Some(LINUX_X64),
            ("Linux", "aarch64" | "arm64") => Some(LINUX_ARM64),
            ("Darwin", "x86_64") => Some(DARWIN_X64),
            ("Darwin", "arm64") => Some(DARWIN_ARM64),
            _ => None,
        }
    }

    /// What npm calls it.
    pub(super) fn spec(self) -> String {
        format!("@openai/codex@{CODEX_VERSION}-{}", self.name)
    }

    /// Fetches it into a folder of its own, which goes with it. Dropping this ends npm.
    pub(super) async fn fetch(self) -> Result<Fetched, InstallError> {
        let npm = programs::find("npm").ok_or(InstallError::NoNpm)?;
        let folder = tempfile::Builder::new().prefix("reachback-codex-").tempdir().map_err(InstallError::Here)?;
        self.pack(&npm, folder.path()).await?;
        let file = only_package(folder.path()).map_err(InstallError::Here)?.ok_or(InstallError::OtherPackage)?;
        let looking = tokio::task::spawn_blocking(move || look(&file));
        let (file, size, sha512) =
            looking.await.map_err(std::io::Error::other).flatten().map_err(InstallError::Here)?;
        if sha512 != self.sha512 {
            return Err(InstallError::OtherPackage);
        }
        Ok(Fetched { file, size, _folder: folder })
    }

    /// Has npm put it into a folder. A registry's package runs nothing when it is packed.
    async fn pack(self, npm: &Path, folder: &Path) -> Result<(), InstallError> {
        let log = folder.join("npm.log");
        let errors = std::fs::File::create(&log).map_err(InstallError::Here)?;
        let mut command = programs::command(npm);
        command.args(["pack", "--ignore-scripts", "--prefer-offline", "--loglevel=error", "--pack-destination"]);
        command.arg(folder).arg(self.spec()).current_dir(folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).kill_on_drop(true);
        let done = tokio::time::timeout(PATIENCE, command.status()).await;
        match done.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
            Ok(status) if status.success() => Ok(()),
            Ok(_) => Err(InstallError::NotFetched { said: why(&std::fs::read(&log).unwrap_or_default()) }),
            Err(error) => Err(InstallError::NotFetched { said: Some(error.to_string()) }),
        }
    }
}

/// npm's own reason: where its log lies comes last, and helps less.
fn why(said: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(said);
    let reason = text.lines().find(|line| line.starts_with("npm error") && !line.starts_with("npm error code"));
    reason.map_or_else(|| last_line(said), |line| last_line(line.as_bytes()))
}

/// The one package in a folder.
fn only_package(folder: &Path) -> std::io::Result<Option<PathBuf>> {
    let mut packages = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        packages.push(entry?.path());
    }
    packages.retain(|path| path.extension().is_some_and(|ending| ending == "tgz"));
    Ok(packages.pop().filter(|_| packages.is_empty()))
}

/// A file, how long it is, and its SHA-512.
fn look(path: &Path) -> std::io::Result<(std::fs::File, u64, String)> {
    let mut file = std::fs::File::open(path)?;
    let mut hash = Hash(Context::new(&SHA512));
    let size = std::io::copy(&mut file, &mut hash)?;
    file.seek(SeekFrom::Start(0))?;
    Ok((file, size, BASE64.encode(hash.0.finish().as_ref())))
}

/// What is written into it is hashed.
struct Hash(Context);

impl std::io::Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packages_are_those_of_the_codex_that_the_tests_run() {
        let lock = include_str!("../../../../tests/codex/package-lock.json");
        let lock: serde_json::Value = serde_json::from_str(lock).unwrap();
        let packages = &lock["packages"];
        assert_eq!(packages["node_modules/@openai/codex"]["version"], CODEX_VERSION);
        for package in [LINUX_X64, LINUX_ARM64, DARWIN_X64, DARWIN_ARM64] {
            let locked = &packages[format!("node_modules/@openai/codex-{}", package.name)];
            assert_eq!(locked["integrity"], format!("sha512-{}", package.sha512), "{package:?}");
            assert_eq!(package.spec(), format!("@openai/codex@{}", locked["version"].as_str().unwrap()));
        }
    }

    #[test]
    fn a_machine_without_a_package_gets_none() {
        assert_eq!(Package::of("Linux", "x86_64"), Some(LINUX_X64));
        assert_eq!(Package::of("Darwin", "arm64"), Some(DARWIN_ARM64));
        for (system, machine) in [
            ("Linux", "riscv64"),
            ("Linux", ""),
            ("FreeBSD", "amd64"),
            ("MINGW64_NT-10.0", "x86_64"),
            ("Windows_NT", "AMD64"),
        ] {
            assert_eq!(Package::of(system, machine), None, "{system} {machine}");
        }
    }

    #[test]
    fn a_file_is_told_by_its_bytes_and_is_read_from_its_beginning() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(only_package(folder.path()).unwrap(), None);
        let path = folder.path().join("one.tgz");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(only_package(folder.path()).unwrap().as_ref(), Some(&path));
        let (mut file, size, sha512) = look(&path).unwrap();
        let abc = "3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw==";
        assert_eq!((size, &*sha512), (3, abc));
        assert_eq!(std::io::read_to_string(&mut file).unwrap(), "abc");
        std::fs::write(folder.path().join("two.tgz"), "").unwrap();
        assert_eq!(only_package(folder.path()).unwrap(), None);
    }

    #[test]
    fn npms_reason_is_what_it_says_after_its_code() {
        let said = b"npm error code E404\nnpm error 404 Not Found\nnpm error A complete log is in x\n";
        assert_eq!(why(said).as_deref(), Some("npm error 404 Not Found"));
        assert_eq!(why(b"no\nnode here\n").as_deref(), Some("node here"));
        assert_eq!(why(b""), None);
    }
}
