//! Whose program is at the other end of a connection on loopback.
//!
//! Every user of a machine reaches its loopback addresses. Linux tells in
//! `/proc/net/tcp` who opened a connection. Elsewhere it takes more rights than
//! an agent has, or a walk over all processes; there it is not known.

use std::net::SocketAddrV4;

use super::imp;

/// Who opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opener {
    /// A program of this user.
    Ours,
    /// One of another user, or one that is gone already.
    Stranger,
    /// The system does not tell.
    Unknown,
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
        assert_eq!(opener(from, to), Opener::Ours);
        assert_eq!(opener(from, SocketAddrV4::new(*to.ip(), 1)), Opener::Stranger, "nobody is connected there");
        drop(stream);
        assert_eq!(opener(from, to), Opener::Stranger, "what is gone was nobody's");
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
