//! By what an app-server that somebody else started knows that this agent may come in.
//!
//! Either a *capability token*, which is sent as it is, or a *shared secret*, which is never sent: it signs a token that is good
//! for a minute. Both are in a file of the person's that nobody else can read. It is read for each connection and wiped after,
//! so that a new one holds from the next connection on, and what was taken out of the file is in no memory.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use http::HeaderValue;
use reachback_proto::bearer::{self, BearerError};
use reachback_proto::words::{quote, shell_word};
use zeroize::Zeroizing;

use crate::platform::files::{self, AccessError};
use crate::state::timestamp::Timestamp;

/// The longest token or secret, in bytes. Codex names no limit; its HTTP heads have one of 64 KiB or less.
const LONGEST: usize = 4096;

/// What lets the agent in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// Nothing is asked for.
    None,
    /// The capability token in this file (`--ws-auth capability-token`).
    Token {
        /// The file.
        file: PathBuf,
    },
    /// A token signed with the secret in this file (`--ws-auth signed-bearer-token`).
    Signed {
        /// The file.
        file: PathBuf,
        /// What the server was told to expect as `iss`.
        issuer: Option<String>,
        /// And as `aud`.
        audience: Option<String>,
    },
}

/// Why there is nothing to come in with. Nothing of a file's content is in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// It can't be read.
    #[error("can't read {}", quote(path.display()))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A link, a folder, a pipe.
    #[error("{} is no plain file", quote(path.display()))]
    NotAFile {
        /// What is there.
        path: PathBuf,
    },
    /// Others can get at it.
    #[error("other users can get at {} (mode {mode:04o}), and may know what is in it", quote(path.display()))]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another user's.
    #[error(transparent)]
    Access(AccessError),
    /// There is nothing in it that could be one.
    #[error("{} holds no {what}: that is one line of printable characters without spaces, up to {LONGEST}", quote(path.display()))]
    Unusable {
        /// The file.
        path: PathBuf,
        /// "capability token" or "shared secret".
        what: &'static str,
    },
    /// It signs nothing that Codex takes.
    #[error("{} holds no shared secret of an app-server", quote(path.display()))]
    Signing {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: BearerError,
    },
}

impl CredentialError {
    /// What a person can do about it.
    pub fn fix(&self) -> String {
        match self {
            Self::Unreadable { path, .. } => format!("see what is there: ls -l {}", shell_word(path.display())),
            Self::NotAFile { .. } => "name the file itself, where it lies".to_owned(),
            Self::Exposed { path, .. } => format!(
                "write a new one into it, which the app-server has to be started with, and: chmod 0600 {}",
                shell_word(path.display())
            ),
            Self::Access(_) => "copy what is in it into a file of your own, with mode 0600, and name that".to_owned(),
            Self::Unusable { .. } | Self::Signing { .. } => {
                "name the file that the app-server was started with (--ws-token-file or --ws-shared-secret-file), or a copy of it"
                    .to_owned()
            }
        }
    }
}

/// The value of an `Authorization` header. Not printed, and no part of any message.
pub(super) struct Bearer(Zeroizing<String>);

impl Bearer {
    /// The header's value, which is marked as a secret.
    pub(super) fn header(&self) -> HeaderValue {
        let text = Zeroizing::new(format!("Bearer {}", *self.0));
        let mut value = HeaderValue::from_str(&text).expect("it was seen to be printable");
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(…)")
    }
}

impl Credential {
    /// What is said to the server now; `None` where nothing is asked for.
    pub(super) fn bearer(&self, now: Timestamp) -> Result<Option<Bearer>, CredentialError> {
        Ok(Some(match self {
            Self::None => return Ok(None),
            Self::Token { file } => Bearer(read(file, "capability token")?),
            Self::Signed { file, issuer, audience } => {
                let secret = read(file, "shared secret")?;
                let token = bearer::sign(secret.as_bytes(), now.unix(), issuer.as_deref(), audience.as_deref());
                Bearer(token.map_err(|source| CredentialError::Signing { path: file.clone(), source })?)
            }
        }))
    }

    /// Whether there is something to come in with.
    pub fn check(&self) -> Result<(), CredentialError> {
        self.bearer(Timestamp::from_unix(0)).map(drop)
    }
}

/// The one line of a secret file, without what is around it: Codex takes it so, too.
fn read(path: &Path, what: &'static str) -> Result<Zeroizing<String>, CredentialError> {
    let unreadable = |source| CredentialError::Unreadable { path: path.to_owned(), source };
    // Before it is opened: opening a pipe would wait for ever.
    if !std::fs::symlink_metadata(path).map_err(unreadable)?.is_file() {
        return Err(CredentialError::NotAFile { path: path.to_owned() });
    }
    let file = File::open(path).map_err(unreadable)?;
    files::check_secret_file(&file, path).map_err(|error| match error {
        AccessError::Exposed { path, mode, .. } => CredentialError::Exposed { path, mode },
        error => CredentialError::Access(error),
    })?;
    let mut text = Zeroizing::new(Vec::with_capacity(LONGEST + 3));
    // A line's end may stand behind it.
    file.take(LONGEST as u64 + 2).read_to_end(&mut text).map_err(unreadable)?;
    let line = text.trim_ascii();
    if line.is_empty() || line.len() > LONGEST || !line.iter().all(u8::is_ascii_graphic) {
        return Err(CredentialError::Unusable { path: path.to_owned(), what });
    }
    Ok(Zeroizing::new(str::from_utf8(line).expect("ASCII is UTF-8").to_owned()))
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn file(text: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("the token");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    fn token(file: &Path) -> Result<String, CredentialError> {
        let bearer = Credential::Token { file: file.into() }.bearer(Timestamp::from_unix(0))?;
        Ok(bearer.unwrap().header().to_str().unwrap().to_owned())
    }

    #[test]
    fn a_token_is_the_one_line_of_its_file_and_is_printed_by_nothing() {
        let (_dir, path) = file(b"  s3cret-token\r\n", 0o600);
        assert_eq!(token(&path).unwrap(), "Bearer s3cret-token");
        let bearer = Credential::Token { file: path }.bearer(Timestamp::from_unix(0)).unwrap().unwrap();
        assert!(!format!("{bearer:?} {:?}", bearer.header()).contains("s3cret"));
        assert!(Credential::None.bearer(Timestamp::from_unix(0)).unwrap().is_none());
    }

    #[test]
    fn a_shared_secret_signs_and_is_not_sent() {
        let (_dir, path) = file(&[b'k'; 32], 0o600);
        let signed = Credential::Signed { file: path, issuer: None, audience: None };
        let header = signed.bearer(Timestamp::from_unix(7)).unwrap().unwrap().header();
        let header = header.to_str().unwrap();
        assert!(header.starts_with("Bearer eyJ") && !header.contains("kkkk"), "{header}");
    }

    #[test]
    fn a_file_that_others_can_read_or_that_is_none_is_refused_with_what_to_do() {
        for mode in [0o644, 0o640, 0o602] {
            let (_dir, path) = file(b"s3cret", mode);
            let refused = token(&path).unwrap_err();
            assert!(matches!(refused, CredentialError::Exposed { .. }), "{refused:?}");
            assert!(refused.fix().contains("chmod 0600 '"), "{}", refused.fix());
        }
        let (dir, path) = file(b"s3cret", 0o600);
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        for other in [link.as_path(), dir.path()] {
            let refused = token(other).unwrap_err();
            assert!(matches!(refused, CredentialError::NotAFile { .. }), "{refused:?}");
        }
        assert!(matches!(token(&dir.path().join("gone")), Err(CredentialError::Unreadable { .. })));
        // Only who may give something away can show this, as tests in containers can.
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
            assert!(matches!(token(&path), Err(CredentialError::Access(AccessError::NotOurs { .. }))));
        }
    }

    #[test]
    fn what_could_be_no_token_is_refused_and_not_quoted() {
        let long = [b'a'; LONGEST + 1];
        for text in [&b""[..], b" \n", b"two s3cret", b"s3cret\nmore", b"s3cr\xc3\xa9t", b"s3cret\0", &long] {
            let (_dir, path) = file(text, 0o600);
            let refused = token(&path).unwrap_err();
            assert!(matches!(refused, CredentialError::Unusable { .. }), "{refused:?}");
            assert!(!format!("{refused} {refused:?} {}", refused.fix()).contains("s3cr"));
        }
        let (_dir, path) = file(b"s3cret-but-short", 0o600);
        let refused = Credential::Signed { file: path, issuer: None, audience: None }.check().unwrap_err();
        assert!(matches!(&refused, CredentialError::Signing { .. }), "{refused:?}");
        assert!(!format!("{refused:?}").contains("s3cret"));
    }
}
