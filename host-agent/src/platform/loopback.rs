//! Whose program is at the other end of a connection on loopback.
//!
//! Every user of a machine reaches its loopback addresses. Linux tells in
//! `/proc/net/tcp` who opened a connection, and in `/proc/PID/fd` which process
//! holds it. Elsewhere it takes more rights than an agent has, or a walk over
//! all processes; there it is not known.

use std::net::{SocketAddr, SocketAddrV4};

use super::imp;

/// Who opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opener {
    /// A program of this user, which holds this end.
    Ours(Socket),
    /// One of another user, or one that is gone already.
    Stranger,
    /// The system does not tell.
    Unknown,
}

/// The other end of a connection, as the system counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Socket(pub(super) u64);

/// Which process holds a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// The one of this id.
    Process(u32),
    /// None of those that were looked at.
    Nobody,
    /// The system does not tell.
    Unknown,
}

impl Socket {
    /// The one that holds it of `root` and the processes below that; the upper one where several do.
    pub(crate) fn holder_below(self, root: u32) -> Holder {
        imp::holder_below(root, self)
    }

    /// Whether a process holds it. `None` when the system does not tell.
    pub(crate) fn is_held_by(self, pid: u32) -> Option<bool> {
        imp::holds(pid, self)
    }
}

/// Who has the other end of a connection that was made from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acceptor {
    /// A program of this user.
    User(u32),
    /// No program has taken it yet, or none of this machine ever does.
    Nobody,
    /// The system does not tell.
    Unknown,
}

/// Whether a program of this user, or of root, has the other end of the connection from `ours` to `theirs`; `Err` with who else
/// does. `None` while nobody has it, and where the system does not tell that is taken for a yes.
pub(crate) fn is_trusted(ours: SocketAddr, theirs: SocketAddr) -> Option<Result<(), u32>> {
    match imp::acceptor(ours, theirs) {
        Acceptor::Nobody => None,
        Acceptor::User(uid) if uid != 0 && uid != imp::uid() => Some(Err(uid)),
        Acceptor::User(_) | Acceptor::Unknown => Some(Ok(())),
    }
}

/// Who opened the connection from `from` to `to`, of which `to` is this process's end.
pub(crate) fn opener(from: SocketAddrV4, to: SocketAddrV4) -> Opener {
    imp::opener(from, to)
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use super::*;

    fn v4(address: SocketAddr) -> SocketAddrV4 {
        match address {
            SocketAddr::V4(address) => address,
            SocketAddr::V6(address) => panic!("{address} is none of IPv4"),
        }
    }

    #[test]
    fn a_connection_of_this_user_is_ours_and_one_that_is_not_there_is_nobodys() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = v4(listener.local_addr().unwrap());
        let stream = TcpStream::connect(to).unwrap();
        let from = v4(stream.local_addr().unwrap());
        let Opener::Ours(socket) = opener(from, to) else { panic!("it is this user's") };
        assert_eq!(socket.is_held_by(std::process::id()), Some(true));
        assert_eq!(opener(from, SocketAddrV4::new(*to.ip(), 1)), Opener::Stranger, "nobody is connected there");
        drop(stream);
        assert_eq!(opener(from, to), Opener::Stranger, "what is gone was nobody's");
    }

    #[test]
    fn the_process_that_holds_a_connection_is_found_among_those_below_another_and_only_there() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = v4(listener.local_addr().unwrap());
        let connect = format!("bash -c 'exec 3<>/dev/tcp/127.0.0.1/{} && read -u 3'; true", to.port());
        let mut above = Command::new("bash").args(["-c", &connect]).spawn().unwrap();
        let (stream, from) = listener.accept().unwrap();
        let Opener::Ours(socket) = opener(v4(from), to) else { panic!("it is this user's") };
        let Holder::Process(pid) = socket.holder_below(above.id()) else { panic!("nobody holds it") };
        assert_ne!(pid, above.id(), "the one above only waits");
        assert_eq!(socket.is_held_by(pid), Some(true));
        assert_eq!(socket.is_held_by(above.id()), Some(false));
        assert_eq!(socket.holder_below(pid), Holder::Process(pid), "a process is its own root");

        let mut beside = Command::new("sleep").arg("1000").spawn().unwrap();
        assert_eq!(socket.holder_below(beside.id()), Holder::Nobody, "it is not below that one");
        drop(stream);
        above.wait().unwrap();
        assert_eq!(socket.holder_below(above.id()), Holder::Nobody, "who has ended holds nothing");
        beside.kill().unwrap();
        beside.wait().unwrap();
    }

    #[test]
    fn a_connection_is_nobodys_until_a_program_takes_it_and_then_that_ones() {
        for listening in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(listening) else { continue };
            let mut to = listener.local_addr().unwrap();
            if to.ip().is_unspecified() {
                to.set_ip(Ipv4Addr::LOCALHOST.into());
            }
            let stream = TcpStream::connect(to).unwrap();
            let from = stream.local_addr().unwrap();
            assert_eq!(is_trusted(from, to), None, "{listening}: nobody has taken it");
            let (taken, _) = listener.accept().unwrap();
            assert_eq!(is_trusted(from, to), Some(Ok(())), "{listening}");
            drop(taken);
        }
    }

    /// Only who may give something away can show this, as tests in containers can.
    #[test]
    fn a_connection_that_another_users_program_took_is_theirs() {
        const NOBODY: u32 = 65534;
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = listener.local_addr().unwrap();
        let stream = TcpStream::connect(to).unwrap();
        let (taken, _) = listener.accept().unwrap();
        std::os::unix::fs::fchown(&taken, Some(NOBODY), None).unwrap();
        assert_eq!(is_trusted(stream.local_addr().unwrap(), to), Some(Err(NOBODY)));
    }

    /// Only who may act for another user can show this, as tests in containers can.
    #[test]
    fn a_connection_of_another_user_is_a_strangers() {
        const NOBODY: u32 = 65534;
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = v4(listener.local_addr().unwrap());
        let connect = format!("exec 3<>/dev/tcp/127.0.0.1/{} && read -u 3", to.port());
        let mut other = Command::new("bash").args(["-c", &connect]).uid(NOBODY).spawn().unwrap();
        let (stream, from) = listener.accept().unwrap();
        assert_eq!(opener(v4(from), to), Opener::Stranger);
        drop(stream);
        other.wait().unwrap();
    }
}
