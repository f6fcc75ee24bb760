//! The loop of a process that stands on a way: what connects to it is connected onward, and carried both ways.
//!
//! One thread, plain sockets: a Unix socket, or TCP where the place is an address, as it is between machines.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Events, Interest, Poll, Registry, Token};

use super::stand_in;

/// Where a process listens, or connects to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A Unix socket.
    Path(PathBuf),
    /// TCP. With port 0 it listens on one that is free, and says on which.
    Address(SocketAddr),
}

impl FromStr for Place {
    type Err = std::convert::Infallible;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Ok(word.parse().map_or_else(|_| Self::Path(word.into()), Self::Address))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl Place {
    fn connect(&self) -> io::Result<Box<dyn Socket>> {
        Ok(match self {
            Self::Path(path) => Box::new(UnixStream::connect(path)?),
            Self::Address(address) => {
                // Connected before it waits for anything: on the loopback that takes no time.
                let stream = std::net::TcpStream::connect(address)?;
                stream.set_nonblocking(true)?;
                tcp(TcpStream::from_std(stream))?
            }
        })
    }
}

/// One end of a connection.
pub(super) trait Socket: Read + Write + Source {
    /// Nothing more is written.
    fn end(&self) -> io::Result<()>;
}

impl Socket for UnixStream {
    fn end(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Socket for TcpStream {
    fn end(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// As the programs have it: nothing waits for more.
fn tcp(stream: TcpStream) -> io::Result<Box<dyn Socket>> {
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    fn bind(place: &Place) -> anyhow::Result<Self> {
        Ok(match place {
            Place::Path(path) => {
                let listener = stand_in::bind(path)?;
                listener.set_nonblocking(true)?;
                Self::Unix(UnixListener::from_std(listener))
            }
            Place::Address(address) => Self::Tcp(TcpListener::bind(*address)?),
        })
    }

    /// Where it listens, which `wanted` may have left open.
    fn place(&self, wanted: &Place) -> io::Result<Place> {
        Ok(match self {
            Self::Unix(_) => wanted.clone(),
            Self::Tcp(listener) => Place::Address(listener.local_addr()?),
        })
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Unix(listener) => listener,
            Self::Tcp(listener) => listener,
        }
    }

    fn accept(&self) -> io::Result<Box<dyn Socket>> {
        Ok(match self {
            Self::Unix(listener) => Box::new(listener.accept()?.0),
            Self::Tcp(listener) => tcp(listener.accept()?.0)?,
        })
    }
}

/// Both ways of a connection.
pub(super) trait Carry {
    /// Carries what there is until it would wait; `true` when both ways are over.
    fn carry(&mut self, near: &mut dyn Socket, far: &mut dyn Socket) -> anyhow::Result<bool>;
}

struct Connection<C> {
    near: Box<dyn Socket>,
    far: Box<dyn Socket>,
    ways: C,
}

const LISTENER: Token = Token(0);

/// Carries until it is killed; says when it listens and where, with a line.
pub(super) fn serve<C: Carry>(from: &Place, to: &Place, ways: impl Fn() -> anyhow::Result<C>) -> anyhow::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = Listener::bind(from)?;
    poll.registry().register(listener.source(), LISTENER, Interest::READABLE)?;
    println!("listening {}", listener.place(from)?);

    let mut connections = HashMap::new();
    let mut next = 1;
    let mut events = Events::with_capacity(256);
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok(near) = listener.accept() {
                    connections.insert(next, open(poll.registry(), near, to.connect()?, next, ways()?)?);
                    next += 1;
                }
                continue;
            }
            // Two tokens a connection: one an end.
            let number = event.token().0 / 2;
            let Some(Connection { near, far, ways }) = connections.get_mut(&number) else { continue };
            if ways.carry(&mut **near, &mut **far).unwrap_or(true) {
                connections.remove(&number);
            }
        }
    }
}

fn open<C>(
    registry: &Registry,
    mut near: Box<dyn Socket>,
    mut far: Box<dyn Socket>,
    number: usize,
    ways: C,
) -> io::Result<Connection<C>> {
    let both = Interest::READABLE | Interest::WRITABLE;
    registry.register(&mut *near, Token(2 * number), both)?;
    registry.register(&mut *far, Token(2 * number + 1), both)?;
    Ok(Connection { near, far, ways })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_or_else_a_path() {
        for word in ["127.0.0.1:0", "[::1]:80", "/tmp/a.sock", "127.0.0.1", "a:b"] {
            let place: Place = word.parse().unwrap();
            assert_eq!(place.to_string(), word);
            assert_eq!(matches!(place, Place::Address(_)), word.ends_with(":0") || word.ends_with(":80"), "{word}");
        }
    }
}
