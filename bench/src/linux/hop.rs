//! A process that only copies bytes: the floor of what a hop costs, whatever it does with them.
//!
//! One thread, plain sockets, two reads, two writes and two waits a round trip. As many of them in a row as Reachback has processes on
//! the way are what it is compared with.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::path::PathBuf;

use mio::net::{UnixListener, UnixStream};
use mio::{Events, Interest, Poll, Registry, Token};

use super::stand_in;

/// Copy bytes between a socket and another.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The socket to listen on.
    from: PathBuf,
    /// The socket to connect to for each connection.
    to: PathBuf,
}

const LISTENER: Token = Token(0);

/// As large as a message of the measurements.
const BUFFER: usize = 64 << 10;

/// One way of a connection: what was read and is not written yet.
struct Way {
    buffer: Box<[u8]>,
    held: std::ops::Range<usize>,
    is_over: bool,
}

impl Way {
    fn new() -> Self {
        Self { buffer: vec![0; BUFFER].into(), held: 0..0, is_over: false }
    }

    /// Copies until one of the two would wait.
    fn copy(&mut self, mut from: &UnixStream, mut to: &UnixStream) -> io::Result<()> {
        loop {
            while !self.held.is_empty() {
                match to.write(&self.buffer[self.held.clone()]) {
                    Ok(written) => self.held.start += written,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            if self.is_over {
                return Ok(());
            }
            match from.read(&mut self.buffer) {
                Ok(0) => {
                    self.is_over = true;
                    return to.shutdown(Shutdown::Write);
                }
                Ok(read) => self.held = 0..read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

struct Connection {
    near: UnixStream,
    far: UnixStream,
    up: Way,
    down: Way,
}

impl Connection {
    /// Copies what there is in both directions; `true` when both are over.
    fn copy(&mut self) -> io::Result<bool> {
        self.up.copy(&self.near, &self.far)?;
        self.down.copy(&self.far, &self.near)?;
        Ok(self.up.is_over && self.down.is_over)
    }
}

/// Copies until it is killed; says when it listens, with a line.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let mut poll = Poll::new()?;
    let listener = stand_in::bind(&args.from)?;
    listener.set_nonblocking(true)?;
    let mut listener = UnixListener::from_std(listener);
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("listening");

    let mut connections = HashMap::new();
    let mut next = 1;
    let mut events = Events::with_capacity(256);
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((near, _)) = listener.accept() {
                    connections.insert(next, open(poll.registry(), near, args, next)?);
                    next += 1;
                }
                continue;
            }
            // Two tokens a connection: one an end.
            let number = event.token().0 / 2;
            let Some(connection) = connections.get_mut(&number) else { continue };
            if connection.copy().unwrap_or(true) {
                connections.remove(&number);
            }
        }
    }
}

fn open(registry: &Registry, mut near: UnixStream, args: &Args, number: usize) -> io::Result<Connection> {
    let mut far = UnixStream::connect(&args.to)?;
    let both = Interest::READABLE | Interest::WRITABLE;
    registry.register(&mut near, Token(2 * number), both)?;
    registry.register(&mut far, Token(2 * number + 1), both)?;
    Ok(Connection { near, far, up: Way::new(), down: Way::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_carries_all_that_was_written_and_the_end() {
        let (mut source, near) = std::os::unix::net::UnixStream::pair().unwrap();
        let (far, mut sink) = std::os::unix::net::UnixStream::pair().unwrap();
        let [near, far] = [near, far].map(|stream| {
            stream.set_nonblocking(true).unwrap();
            UnixStream::from_std(stream)
        });
        let sent: Vec<u8> = (0..3 * BUFFER).map(|at| at as u8).collect();
        let expected = sent.clone();
        let writer = std::thread::spawn(move || {
            source.write_all(&sent).unwrap();
        });
        let reader = std::thread::spawn(move || {
            let mut read = Vec::new();
            sink.read_to_end(&mut read).unwrap();
            read
        });
        let mut way = Way::new();
        while !(way.is_over && way.held.is_empty()) {
            way.copy(&near, &far).unwrap();
            std::thread::yield_now();
        }
        writer.join().unwrap();
        assert_eq!(reader.join().unwrap(), expected);
    }
}
