//! A local socket that only this user's processes talk over.
//!
//! No password protects it: whoever may open Codex's or the agent's is a shell as
//! this user, and whoever listens there reads what the user types. The directory
//! keeps others out ([`files::private_dir`]); the file's owner and the uid of the
//! peer are checked on top, the latter at both ends, so that a wrong mode or a
//! path chosen by hand does not hand that shell to somebody else.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use reachback_proto::words::quote;

use super::files::{self, AccessError};
use super::imp;

/// A connection between two processes of this user.
pub(crate) type LocalStream = imp::Stream;

/// Why a local socket can't be opened or reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// Nobody listens there.
    #[error("nothing listens on {}", quote(path.display()))]
    NotListening {
        /// The socket.
        path: PathBuf,
    },
    /// Another process listens there.
    #[error("another process listens on {}: end it, or choose another path", quote(path.display()))]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something is there that is not a socket.
    #[error("{} is there already, and is not a socket: choose another path, or move it away", quote(path.display()))]
    Occupied { path: PathBuf },
    /// The process at the other end is another user's.
    #[error("the process behind the socket {} runs as uid {peer}, not as uid {wanted}", quote(path.display()))]
    Peer {
        /// The socket.
        path: PathBuf,
        /// Who it runs as.
        peer: u32,
        /// Who it should.
        wanted: u32,
    },
    /// The socket is another user's, or in the wrong place.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The operating system says no.
    #[error("can't use the socket {}", quote(path.display()))]
    Io {
        /// The socket.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl SocketError {
    /// Who owns the socket, or runs the process behind it, where that is another user.
    pub fn stranger(&self) -> Option<u32> {
        match self {
            Self::Peer { peer, .. } => Some(*peer),
            Self::Access(AccessError::NotOurs { owner, .. }) => Some(*owner),
            _ => None,
        }
    }
}

/// Accepts connections from this user's processes; removes the socket when dropped.
#[derive(Debug)]
pub struct LocalListener {
    inner: imp::Listener,
    path: PathBuf,
    uid: u32,
}

impl LocalListener {
    /// Listens at `path`, in place of a socket that a crash left behind, and of nothing else: a path may be a
    /// person's choice, and what is there may be theirs.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let io = |source| SocketError::Io { path: path.to_owned(), source };
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
            Ok(found) if !imp::is_socket(&found) => return Err(SocketError::Occupied { path: path.to_owned() }),
            Ok(_) if imp::is_answering(path) => return Err(SocketError::InUse { path: path.to_owned() }),
            Ok(_) => fs::remove_file(path).map_err(io)?,
        }
        let inner = imp::bind(path).map_err(io)?;
        files::restrict(path)?;
        Ok(Self { inner, path: path.to_owned(), uid: imp::uid() })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next connection; `Peer` when it was another user's, which is closed and no reason to stop accepting.
    pub async fn accept(&self) -> Result<LocalStream, SocketError> {
        let io = |source| SocketError::Io { path: self.path.clone(), source };
        let stream = imp::accept(&self.inner).await.map_err(io)?;
        check_peer(&self.path, &stream, self.uid)?;
        Ok(stream)
    }
}

impl Drop for LocalListener {
    fn drop(&mut self) {
        // Already gone is as good; a leftover is replaced by the next bind.
        let _ = fs::remove_file(&self.path);
    }
}

/// Connects to a socket of this user, with a process of this user behind it.
///
/// A link is followed first: what it leads to is checked, and only that has to fit into a socket's address, of some 100 bytes.
pub(crate) async fn connect(path: &Path) -> Result<LocalStream, SocketError> {
    connect_as(path, imp::uid()).await
}

async fn connect_as(path: &Path, uid: u32) -> Result<LocalStream, SocketError> {
    let io = |source: io::Error| match source.kind() {
        // A link whose target is gone, and a socket whose listener is gone: what a process leaves behind that was killed.
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            SocketError::NotListening { path: path.to_owned() }
        }
        _ => SocketError::Io { path: path.to_owned(), source },
    };
    let (target, metadata) = look(path).map_err(io)?;
    if !imp::is_socket(&metadata) {
        return Err(io(io::Error::new(io::ErrorKind::InvalidInput, "not a socket")));
    }
    files::check_owner(path, &metadata, uid)?;
    let stream = imp::connect(&target).await.map_err(io)?;
    check_peer(path, &stream, uid)?;
    Ok(stream)
}

/// What is at the end of the links that a path goes by. On the spot: connecting looks the path up on this thread, too, and a visit
/// to a thread that may wait for the disk takes as long as a message's way through the host.
fn look(path: &Path) -> io::Result<(PathBuf, Metadata)> {
    let target = fs::canonicalize(path)?;
    let metadata = fs::symlink_metadata(&target)?;
    Ok((target, metadata))
}

/// Connects to a socket that a person named, of this user or of root, with a process of the same one behind it.
///
/// A link that was named has to be theirs, too: Codex makes one, and whoever owns it says where it leads.
pub(crate) async fn connect_named(path: &Path) -> Result<LocalStream, SocketError> {
    connect_named_as(path, imp::uid()).await
}

async fn connect_named_as(path: &Path, uid: u32) -> Result<LocalStream, SocketError> {
    let owner = |metadata| match files::owner(&metadata) {
        Some(0) => 0,
        _ => uid,
    };
    let (Ok(named), Ok(socket)) = (fs::symlink_metadata(path), fs::metadata(path)) else {
        // It says why not.
        return connect_as(path, uid).await;
    };
    let links_owner = owner(named.clone());
    files::check_owner(path, &named, links_owner)?;
    connect_as(path, owner(socket)).await
}

/// The process at the other end, where the system tells.
pub(crate) fn peer(stream: &LocalStream) -> Option<u32> {
    imp::peer_pid(stream)
}

fn check_peer(path: &Path, stream: &LocalStream, wanted: u32) -> Result<(), SocketError> {
    match imp::peer_uid(stream) {
        Ok(peer) if peer == wanted => Ok(()),
        Ok(peer) => Err(SocketError::Peer { path: path.to_owned(), peer, wanted }),
        Err(source) => Err(SocketError::Io { path: path.to_owned(), source }),
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn processes_of_one_user_meet_and_the_socket_goes_with_its_listener() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("agent.sock");
        let listener = LocalListener::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (accepted, connected) = tokio::join!(listener.accept(), connect(&path));
        accepted.unwrap();
        connected.unwrap();
        drop(listener);
        assert!(!path.exists());
        assert!(matches!(connect(&path).await, Err(SocketError::NotListening { .. })));
    }

    #[tokio::test]
    async fn a_process_of_another_user_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("agent.sock");
        let mut listener = LocalListener::bind(&path).unwrap();
        // We can't become someone else in a test, so the listener does.
        listener.uid += 1;
        let (accepted, _stream) = tokio::join!(listener.accept(), connect(&path));
        assert!(matches!(accepted, Err(SocketError::Peer { .. })), "{accepted:?}");
    }

    #[tokio::test]
    async fn a_file_and_a_socket_that_is_in_use_are_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("notes.txt");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(LocalListener::bind(&path), Err(SocketError::Occupied { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");

        let path = temp.path().join("agent.sock");
        let listener = LocalListener::bind(&path).unwrap();
        assert!(matches!(LocalListener::bind(&path), Err(SocketError::InUse { .. })));
        let (accepted, connected) =
            tokio::join!(async { listener.accept().await.and(listener.accept().await) }, connect(&path));
        assert!(accepted.is_ok() && connected.is_ok(), "the first listener is gone");
    }

    #[tokio::test]
    async fn a_socket_left_by_a_crash_is_replaced() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("agent.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(matches!(connect(&path).await, Err(SocketError::NotListening { .. })));
        let listener = LocalListener::bind(&path).unwrap();
        let (accepted, connected) = tokio::join!(listener.accept(), connect(&path));
        assert!(accepted.is_ok() && connected.is_ok());
    }

    #[tokio::test]
    async fn a_link_to_our_own_socket_opens() {
        let temp = tempfile::tempdir().unwrap();
        let _listener = LocalListener::bind(&temp.path().join("real")).unwrap();
        // Longer than a socket's address.
        let deep = temp.path().join("d".repeat(120));
        fs::create_dir(&deep).unwrap();
        std::os::unix::fs::symlink(temp.path().join("real"), deep.join("link")).unwrap();
        connect(&deep.join("link")).await.unwrap();
        std::os::unix::fs::symlink(temp.path().join("gone"), temp.path().join("dangling")).unwrap();
        let dangling = connect(&temp.path().join("dangling")).await;
        assert!(matches!(dangling, Err(SocketError::NotListening { .. })), "{dangling:?}");
    }

    #[tokio::test]
    async fn a_socket_that_a_person_named_may_be_roots_and_neither_it_nor_a_link_another_users() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("agent.sock");
        let _listener = LocalListener::bind(&path).unwrap();
        let link = temp.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        connect_named(&path).await.unwrap();
        connect_named(&link).await.unwrap();
        let gone = connect_named(&temp.path().join("gone")).await;
        assert!(matches!(gone, Err(SocketError::NotListening { .. })), "{gone:?}");
        // As another user sees them: where the tests run as root, they are root's.
        let is_root = imp::uid() == 0;
        for named in [&path, &link] {
            let seen = connect_named_as(named, imp::uid() + 1).await;
            match seen {
                Ok(_) => assert!(is_root, "a socket of uid {} was taken", imp::uid()),
                Err(error) => assert!(!is_root && error.stranger() == Some(imp::uid()), "{error:?}"),
            }
        }
        // Only who may give something away can show the rest, as tests in containers can.
        if is_root {
            std::os::unix::fs::lchown(&link, Some(65534), None).unwrap();
            assert_eq!(connect_named(&link).await.unwrap_err().stranger(), Some(65534));
            std::os::unix::fs::lchown(&path, Some(65534), None).unwrap();
            assert_eq!(connect_named(&path).await.unwrap_err().stranger(), Some(65534));
        }
    }

    #[tokio::test]
    async fn a_socket_of_another_user_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("agent.sock");
        let _listener = LocalListener::bind(&path).unwrap();
        let refused = connect_as(&path, imp::uid() + 1).await.unwrap_err();
        assert_eq!(refused.stranger(), Some(imp::uid()), "{refused:?}");
        let path = temp.path().join("notes.txt");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(connect(&path).await, Err(SocketError::Io { .. })));
    }
}
