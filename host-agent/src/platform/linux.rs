//! What Linux tells about processes and their sockets in `/proc`.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::{fs, io};

use super::loopback::{Acceptor, Holder, Opener, Socket};

/// What is needed of `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    runs: bool,
    parent: u32,
    group: u32,
    /// In ticks of the clock since the machine started, which is not changed when the time of day is.
    started: u64,
}

/// The ticks since the machine started, with the id of that start.
pub(super) fn started(pid: u32) -> Option<String> {
    let stat = stat_of(pid).filter(|stat| stat.runs)?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(format!("{}/{}", boot.trim(), stat.started))
}

/// The state of a connection that is open both ways.
const ESTABLISHED: &str = "01";

/// Whose the socket is whose own address is `from`, in the list that `proc_net_tcp(5)` describes.
pub(super) fn opener(from: SocketAddrV4, to: SocketAddrV4) -> Opener {
    let Ok(list) = fs::read_to_string("/proc/net/tcp") else { return Opener::Unknown };
    let (from, to) = (written(from), written(to));
    let found = list.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let is_it = fields.next() == Some(&*from) && fields.next() == Some(&*to);
        // Of one that is being closed there is no owner any more: it says 0.
        let is_open = is_it && fields.next() == Some(ESTABLISHED);
        is_open.then(|| Some((fields.nth(3)?.parse::<u32>().ok()?, fields.nth(1)?.parse::<u64>().ok()?))).flatten()
    });
    match found {
        Some((owner, socket)) if owner == rustix::process::geteuid().as_raw() => Opener::Ours(Socket(socket)),
        _ => Opener::Stranger,
    }
}

/// Who has the other end of the connection from `ours` to `theirs`, both on this machine. It may be listed among those of
/// IPv6 where the program listens on all addresses.
pub(super) fn acceptor(ours: SocketAddr, theirs: SocketAddr) -> Acceptor {
    let mapped = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::from((ip.to_ipv6_mapped(), address.port())),
        IpAddr::V6(_) => address,
    };
    let lists = [
        ("/proc/net/tcp", written_any(theirs), written_any(ours)),
        ("/proc/net/tcp6", written_any(mapped(theirs)), written_any(mapped(ours))),
    ];
    let mut all_told = true;
    for (list, local, remote) in lists {
        let Ok(list) = fs::read_to_string(list) else {
            all_told = false;
            continue;
        };
        let found = list.lines().find_map(|line| {
            let mut fields = line.split_ascii_whitespace().skip(1);
            let is_it = fields.next() == Some(&*local) && fields.next() == Some(&*remote);
            let is_open = is_it && fields.next() == Some(ESTABLISHED);
            is_open.then(|| Some((fields.nth(3)?.parse::<u32>().ok()?, fields.nth(1)?.parse::<u64>().ok()?))).flatten()
        });
        match found {
            // It has no program yet.
            Some((_, 0)) => return Acceptor::Nobody,
            Some((uid, _)) => return Acceptor::User(uid),
            None => {}
        }
    }
    if all_told { Acceptor::Nobody } else { Acceptor::Unknown }
}

fn written_any(address: SocketAddr) -> String {
    let words = match address.ip() {
        IpAddr::V4(ip) => format!("{:08X}", u32::from_ne_bytes(ip.octets())),
        IpAddr::V6(ip) => {
            let word = |four: &[u8]| u32::from_ne_bytes(four.try_into().expect("four bytes"));
            ip.octets().chunks_exact(4).map(|four| format!("{:08X}", word(four))).collect()
        }
    };
    format!("{words}:{:04X}", address.port())
}

/// Which of `root` and what is below it holds a socket.
pub(super) fn holder_below(root: u32, socket: Socket) -> Holder {
    let parents: Vec<(u32, u32)> = processes().filter_map(|pid| Some((pid, stat_of(pid)?.parent))).collect();
    let mut below = vec![root];
    let mut all_told = true;
    while let Some(pid) = below.pop() {
        match holds(pid, socket) {
            Some(true) => return Holder::Process(pid),
            Some(false) => {}
            None => all_told = false,
        }
        below.extend(parents.iter().filter(|(_, parent)| *parent == pid).map(|(child, _)| *child));
    }
    if all_told { Holder::Nobody } else { Holder::Unknown }
}

/// Whether a process holds a socket. `None` when the system keeps that to itself: a program can ask for that.
pub(super) fn holds(pid: u32, socket: Socket) -> Option<bool> {
    let entries = match fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return None,
        // It has ended.
        Err(_) => return Some(false),
    };
    let name = format!("socket:[{}]", socket.0);
    Some(entries.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == &*name)))
}

/// An address as the kernel writes it: the four bytes as one number of this machine.
fn written(address: SocketAddrV4) -> String {
    format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
}

/// Whether a process of this group runs. `None` when the system does not tell.
pub(super) fn has_members(group: u32) -> Option<bool> {
    let mut processes = processes().peekable();
    processes.peek()?;
    Some(processes.filter_map(stat_of).any(|stat| stat.group == group && stat.runs))
}

/// The ids of all processes that are shown to this one.
fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn stat_of(pid: u32) -> Option<Stat> {
    stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn stat(line: &str) -> Option<Stat> {
    // The second field is the program's name, in brackets, and may hold anything, brackets too.
    let (_, rest) = line.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Stat {
        runs: !["Z", "X", "x"].contains(fields.first()?),
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_confuse_the_fields() {
        let line = |state: &str| {
            format!(
                "77 (a) Z 1 (b) {state} 1 76 75 0 -1 4194560 9 0 0 0 1 2 0 0 20 0 1 0 4711 10 20 18446744073709551615 1\n"
            )
        };
        assert_eq!(stat(&line("S")), Some(Stat { runs: true, parent: 1, group: 76, started: 4711 }));
        assert_eq!(stat(&line("Z")), Some(Stat { runs: false, parent: 1, group: 76, started: 4711 }));
        for other in [
            "",
            "77 (a",
            "77 (a) S x 76 75 0 -1 4194560 9 0 0 0 1 2 0 0 20 0 1 0 4711 10 20",
            "77 (a) S 1 76",
            "77 (a) S 1 x 75 0 -1 4194560 9 0 0 0 1 2 0 0 20 0 1 0 y",
        ] {
            assert_eq!(stat(other), None, "{other}");
        }
    }
}
