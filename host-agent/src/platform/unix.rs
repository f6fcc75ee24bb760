//! Modes, uids and Unix sockets.

use std::fs::{DirBuilder, Metadata, Permissions};
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
pub(super) use tokio::net::{UnixListener as Listener, UnixStream as Stream};

#[cfg(target_os = "linux")]
use super::linux;
use super::loopback::{Acceptor, Holder, Opener, Socket};

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
    // One that has ended is as good.
    let _ = id(child).map(|pid| rustix::process::kill_process(pid, Signal::TERM));
}

/// When a process started, if it runs.
pub(super) async fn started(pid: u32) -> Option<String> {
    #[cfg(target_os = "linux")]
    return linux::started(pid);
    #[cfg(not(target_os = "linux"))]
    return ps::started(pid).await;
}

/// Who opened a connection on loopback.
pub(super) fn opener(from: SocketAddrV4, to: SocketAddrV4) -> Opener {
    #[cfg(target_os = "linux")]
    return linux::opener(from, to);
    #[cfg(not(target_os = "linux"))]
    return {
        let _ = (from, to);
        Opener::Unknown
    };
}

/// Who has the other end of a connection on loopback.
pub(super) fn acceptor(ours: SocketAddr, theirs: SocketAddr) -> Acceptor {
    #[cfg(target_os = "linux")]
    return linux::acceptor(ours, theirs);
    #[cfg(not(target_os = "linux"))]
    return {
        let _ = (ours, theirs);
        Acceptor::Unknown
    };
}

/// Which of `root` and what is below it holds a socket.
pub(super) fn holder_below(root: u32, socket: Socket) -> Holder {
    #[cfg(target_os = "linux")]
    return linux::holder_below(root, socket);
    #[cfg(not(target_os = "linux"))]
    return {
        let _ = (root, socket);
        Holder::Unknown
    };
}

/// Whether a process holds a socket.
pub(super) fn holds(pid: u32, socket: Socket) -> Option<bool> {
    #[cfg(target_os = "linux")]
    return linux::holds(pid, socket);
    #[cfg(not(target_os = "linux"))]
    return {
        let _ = (pid, socket);
        None
    };
}

/// The group that a process is in.
pub(super) fn group_of(pid: u32) -> Option<u32> {
    rustix::process::getpgid(Some(id(pid)?)).ok().and_then(|group| u32::try_from(group.as_raw_nonzero().get()).ok())
}

/// Has `command` start in a group of its own.
pub(super) fn own_group(command: &mut tokio::process::Command) {
    command.process_group(0);
}

/// Asks a group to end.
pub(super) fn terminate_group(group: u32) {
    // It may be gone already, which is what is wanted.
    let _ = id(group).map(|group| kill_process_group(group, Signal::TERM));
}

/// Ends a group.
pub(super) fn kill_group(group: u32) {
    let _ = id(group).map(|group| kill_process_group(group, Signal::KILL));
}

/// Whether any process of a group runs.
pub(super) fn group_runs(group: u32) -> bool {
    let Some(id) = id(group) else { return false };
    if test_kill_process_group(id).is_err() {
        return false;
    }
    // Those that nobody waited for count as members for `kill`, and the first process of some containers waits for nobody.
    #[cfg(target_os = "linux")]
    return linux::has_members(group).unwrap_or(true);
    #[cfg(not(target_os = "linux"))]
    true
}

fn id(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// What `ps` tells about processes, where there is no `/proc`. Tried out on Linux too, by the test below.
#[cfg(any(test, not(target_os = "linux")))]
mod ps {
    use std::process::Stdio;
    use std::time::Duration;

    use tokio::process::Command;

    /// It answers in milliseconds.
    const DEADLINE: Duration = Duration::from_secs(5);

    /// The time of day, to the second. Ids are not used again that soon.
    pub(super) async fn started(pid: u32) -> Option<String> {
        let mut ps = Command::new("/bin/ps");
        ps.args(["-o", "stat=,lstart=", "-p", &pid.to_string()]).env("LC_ALL", "C").env("TZ", "UTC0");
        ps.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let answer = tokio::time::timeout(DEADLINE, ps.output()).await.ok()?.ok()?;
        parse(std::str::from_utf8(&answer.stdout).ok()?)
    }

    /// Of `Ss   Thu Nov 26 02:06:17 2026`, the time.
    fn parse(line: &str) -> Option<String> {
        let mut words = line.split_ascii_whitespace();
        let runs = !words.next()?.starts_with('Z');
        let time: Vec<_> = words.collect();
        (runs && time.len() == 5).then(|| time.join(" "))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[tokio::test]
        async fn ps_tells_when_a_process_started() {
            let ours = started(std::process::id()).await.expect("ps told nothing");
            assert_eq!(started(std::process::id()).await, Some(ours));
            assert_eq!(parse("Z+   Thu Nov 26 02:06:17 2026\n"), None);
            assert_eq!(parse("S    Thu Nov  6 02:06:17 2026\n").as_deref(), Some("Thu Nov 6 02:06:17 2026"));
            assert_eq!(parse(""), None);
        }
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

/// Makes a directory and those that it lies in, as far as they are missing; only this user may enter them.
pub(super) fn create_dirs(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Lets only this user read and write `path`.
pub(super) fn restrict(path: &Path) -> io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(0o600))
}

/// Whether this is a socket, not a link to one.
pub(super) fn room(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    // Some that are no disks say nothing.
    (disk.f_blocks > 0).then(|| disk.f_bavail.saturating_mul(disk.f_frsize))
}

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

/// The process at the other end.
pub(super) fn peer_pid(stream: &Stream) -> Option<u32> {
    u32::try_from(stream.peer_cred().ok()?.pid()?).ok()
}

/// The user at the other end.
pub(super) fn peer_uid(stream: &Stream) -> io::Result<u32> {
    stream.peer_cred().map(|peer| peer.uid())
}

pub(super) fn forget_typed() {
    // Not a terminal: then a program answers, and it may have done so already.
    let _ = rustix::termios::tcflush(std::io::stdin(), rustix::termios::QueueSelector::IFlush);
}

/// Whether there is a line of the terminal to read. Elsewhere than on Linux `poll` may not do for a terminal.
#[cfg(target_os = "linux")]
pub(super) fn has_typed(wait: bool) -> Option<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stdin = io::stdin();
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut [PollFd::new(&stdin, PollFlags::IN)], (!wait).then_some(&at_once)) {
        Ok(ready) => Some(ready > 0),
        // A signal came first: whoever waits asks again.
        Err(rustix::io::Errno::INTR) => Some(false),
        Err(_) => None,
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn has_typed(_: bool) -> Option<bool> {
    None
}
