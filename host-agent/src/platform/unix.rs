//! Modes, uids and Unix sockets.

use std::fs::{DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

pub(super) use tokio::net::{UnixListener as Listener, UnixStream as Stream};

/// The user that this process acts as.
pub(super) fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// How a terminal treats lines, echo and signals.
pub(super) type TerminalModes = rustix::termios::Termios;

/// The modes of the terminal on standard input, if it is one.
pub(super) fn terminal_modes() -> Option<TerminalModes> {
    rustix::termios::tcgetattr(std::io::stdin()).ok()
}

/// Sets them.
pub(super) fn set_terminal_modes(modes: &TerminalModes) {
    // A terminal that is gone needs no modes.
    let _ = rustix::termios::tcsetattr(std::io::stdin(), rustix::termios::OptionalActions::Now, modes);
}

/// Asks a child, not waited for yet, to end.
pub(super) fn ask_to_end(child: u32) {
    if let Some(pid) = i32::try_from(child).ok().and_then(rustix::process::Pid::from_raw) {
        // One that has ended is as good.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

/// Owner and permission bits.
pub(super) fn owner_and_mode(metadata: &Metadata) -> Option<(u32, u32)> {
    Some((metadata.uid(), metadata.mode() & 0o7777))
}

/// Makes a directory that only this user may enter.
pub(super) fn create_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Lets only this user read and write `path`.
pub(super) fn restrict(path: &Path) -> io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(0o600))
}

/// Makes a rename in this directory survive a power cut.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Whether this is a socket, not a link to one.
pub(super) fn is_socket(metadata: &Metadata) -> bool {
    metadata.file_type().is_socket()
}

/// Whether a process listens at `path`. A connection to a socket of this machine takes no time.
pub(super) fn is_answering(path: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(path).is_ok()
}

/// A listening socket at `path`.
pub(super) fn bind(path: &Path) -> io::Result<Listener> {
    Listener::bind(path)
}

/// The next connection.
pub(super) async fn accept(listener: &Listener) -> io::Result<Stream> {
    listener.accept().await.map(|(stream, _)| stream)
}

/// A connection to the socket at `path`.
pub(super) async fn connect(path: &Path) -> io::Result<Stream> {
    Stream::connect(path).await
}

/// The user at the other end.
pub(super) fn peer_uid(stream: &Stream) -> io::Result<u32> {
    stream.peer_cred().map(|peer| peer.uid())
}

pub(super) fn forget_typed() {
    // Not a terminal: then a program answers, and it may have done so already.
    let _ = rustix::termios::tcflush(std::io::stdin(), rustix::termios::QueueSelector::IFlush);
}
