//! Where there are no modes and uids: folders inherit the access list of the user's profile.

use std::fs::Metadata;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::Path;

use super::loopback::{Acceptor, Holder, Opener, Socket};

/// A stream that can't be made here.
pub(super) type Stream = tokio::io::DuplexStream;

/// A listener that can't be made here.
#[derive(Debug)]
pub(super) enum Listener {}

/// There is one user as far as this process can tell.
pub(super) fn uid() -> u32 {
    0
}

/// Consoles reset their modes themselves.
pub(super) enum TerminalModes {}

/// Nothing to note.
pub(super) fn terminal_modes() -> Option<TerminalModes> {
    None
}

/// Can't happen: there are none.
pub(super) fn set_terminal_modes(modes: &TerminalModes) {
    match *modes {}
}

/// There is no asking: the caller ends it after its grace.
pub(super) fn ask_to_end(_: u32) {}

/// Not told.
pub(super) fn opener(_: SocketAddrV4, _: SocketAddrV4) -> Opener {
    Opener::Unknown
}

/// Not told.
pub(super) fn acceptor(_: SocketAddr, _: SocketAddr) -> Acceptor {
    Acceptor::Unknown
}

/// Not told.
pub(super) fn holder_below(_: u32, _: Socket) -> Holder {
    Holder::Unknown
}

/// Not told.
pub(super) fn holds(_: u32, _: Socket) -> Option<bool> {
    None
}

/// Not told.
pub(super) async fn started(_: u32) -> Option<String> {
    None
}

/// There are no groups: `kill_on_drop` ends the program itself.
pub(super) fn group_of(_: u32) -> Option<u32> {
    None
}

/// Nothing to do.
pub(super) fn own_group(_: &mut tokio::process::Command) {}

/// Nothing to do.
pub(super) fn terminate_group(_: u32) {}

/// Nothing to do.
pub(super) fn kill_group(_: u32) {}

/// There are none.
pub(super) fn group_runs(_: u32) -> bool {
    false
}

/// Nothing to check.
pub(super) fn owner_and_mode(_: &Metadata) -> Option<(u32, u32)> {
    None
}

/// Makes a directory; its access list is inherited.
pub(super) fn create_dir(path: &Path) -> io::Result<()> {
    std::fs::create_dir(path)
}

/// Makes a directory and those that it lies in, as far as they are missing.
pub(super) fn create_dirs(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)
}

/// Nothing to do: the access list is inherited.
pub(super) fn restrict(_: &Path) -> io::Result<()> {
    Ok(())
}

/// There are no sockets in folders here.
pub(super) fn room(_: &Path) -> Option<u64> {
    None
}

pub(super) fn is_socket(_: &Metadata) -> bool {
    false
}

/// Nobody can listen there.
pub(super) fn is_answering(_: &Path) -> bool {
    false
}

/// Refused.
pub(super) fn bind(_: &Path) -> io::Result<Listener> {
    Err(unsupported())
}

/// Can't happen: there is no listener.
pub(super) async fn accept(listener: &Listener) -> io::Result<Stream> {
    match *listener {}
}

/// Refused.
pub(super) async fn connect(_: &Path) -> io::Result<Stream> {
    Err(unsupported())
}

/// Can't be told.
pub(super) fn peer_pid(_: &Stream) -> Option<u32> {
    None
}

/// Can't be told.
pub(super) fn peer_uid(_: &Stream) -> io::Result<u32> {
    Err(unsupported())
}

fn unsupported() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "the agent's local socket needs a Unix system")
}

pub(super) fn forget_typed() {}

/// Can't be told.
pub(super) fn has_typed(_: bool) -> Option<bool> {
    None
}
