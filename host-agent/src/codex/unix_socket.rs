//! The one place that knows unix sockets: where Codex's is, whose it is, opening it.
//!
//! The socket has no password: whoever may open it is a shell as this user, and
//! whoever listens on it reads what the user types. So the file's owner is
//! checked before connecting and the listener's identity after, by the kernel.
//!
//! Codex puts the socket in a short temporary path and a symlink to it in
//! `CODEX_HOME`, as socket addresses hold about 100 bytes; the link is therefore resolved here.

use std::io;
use std::path::{Path, PathBuf};

use reachback_proto::words::quote;

/// An open stream to Codex's socket.
#[cfg(unix)]
pub(super) type Stream = tokio::net::UnixStream;
/// An open stream to Codex's socket; there are none on this platform.
#[cfg(not(unix))]
pub(super) type Stream = tokio::io::DuplexStream;

/// Codex's socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    /// No socket, or one that nobody listens on any more.
    #[error("nobody listens on codex's control socket")]
    Nobody,
    /// The file or the listener belongs to another user.
    #[error("codex's control socket {} belongs to user {owner}, not to this one", quote(path.display()))]
    Foreign { path: PathBuf, owner: u32 },
    /// Anything else.
    #[error("could not open codex's control socket {}", quote(path.display()))]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Not on this platform.
    #[cfg(not(unix))]
    #[error("codex's control socket is a unix socket, which this platform does not have")]
    Unsupported,
}

/// Where an app-server with this home listens by default.
pub(super) fn control_socket(codex_home: &Path) -> PathBuf {
    codex_home.join("app-server-control").join("app-server-control.sock")
}

/// Opens the socket at `path` if this user owns it and listens on it.
#[cfg(unix)]
pub(super) async fn open(path: &Path) -> Result<Stream, SocketError> {
    open_as(path, rustix::process::geteuid().as_raw()).await
}

/// Unix sockets are not there.
#[cfg(not(unix))]
pub(super) async fn open(_path: &Path) -> Result<Stream, SocketError> {
    Err(SocketError::Unsupported)
}

/// The process that listens at the other end, where the system tells.
pub(super) fn listener(stream: &Stream) -> Option<u32> {
    #[cfg(unix)]
    return u32::try_from(stream.peer_cred().ok()?.pid()?).ok();
    #[cfg(not(unix))]
    {
        let _ = stream;
        None
    }
}

#[cfg(unix)]
async fn open_as(path: &Path, user: u32) -> Result<Stream, SocketError> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let failed = |source: io::Error| match source.kind() {
        // A link whose target is gone, and a file whose listener is gone: what a killed Codex leaves behind.
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => SocketError::Nobody,
        _ => SocketError::Io { path: path.to_owned(), source },
    };
    let foreign = |owner| SocketError::Foreign { path: path.to_owned(), owner };
    let target = tokio::fs::canonicalize(path).await.map_err(failed)?;
    let file = tokio::fs::symlink_metadata(&target).await.map_err(failed)?;
    if !file.file_type().is_socket() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "not a socket")));
    }
    if file.uid() != user {
        return Err(foreign(file.uid()));
    }
    let stream = Stream::connect(&target).await.map_err(failed)?;
    match stream.peer_cred().map_err(failed)?.uid() {
        owner if owner == user => Ok(stream),
        owner => Err(foreign(owner)),
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    fn me() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    #[tokio::test]
    async fn a_link_to_our_own_socket_opens() {
        let dir = tempfile::tempdir().unwrap();
        let _listener = UnixListener::bind(dir.path().join("real")).unwrap();
        // Longer than a socket address: only the link's target has to fit.
        let deep = dir.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        std::os::unix::fs::symlink(dir.path().join("real"), deep.join("link")).unwrap();
        open(&deep.join("link")).await.unwrap();
    }

    #[tokio::test]
    async fn missing_dangling_and_stale_sockets_are_nobody() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(open(&dir.path().join("none")).await, Err(SocketError::Nobody)));

        std::os::unix::fs::symlink(dir.path().join("gone"), dir.path().join("dangling")).unwrap();
        assert!(matches!(open(&dir.path().join("dangling")).await, Err(SocketError::Nobody)));

        drop(UnixListener::bind(dir.path().join("stale")).unwrap());
        assert!(matches!(open(&dir.path().join("stale")).await, Err(SocketError::Nobody)));
    }

    #[tokio::test]
    async fn a_socket_of_another_user_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let _listener = UnixListener::bind(&path).unwrap();
        let refused = open_as(&path, me() + 1).await;
        assert!(matches!(refused, Err(SocketError::Foreign { owner, .. }) if owner == me()), "{refused:?}");
    }

    #[tokio::test]
    async fn a_plain_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "").unwrap();
        assert!(matches!(open(&path).await, Err(SocketError::Io { .. })));
    }
}
