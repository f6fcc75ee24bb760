//! A process that only copies bytes: the floor of what a hop costs, whatever it does with them.
//!
//! One thread, plain sockets, two reads, two writes and two waits a round trip. As many of them in a row as Reachback has processes on
//! the way are what it is compared with.

use std::io;

use super::carrying::{self, Carry, Place, Socket};

/// Copy bytes between a socket and another.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to listen: a path, or an address.
    from: Place,
    /// Where to connect to for each connection.
    to: Place,
}

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
    fn copy(&mut self, from: &mut dyn Socket, to: &mut dyn Socket) -> io::Result<()> {
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
                    return to.end();
                }
                Ok(read) => self.held = 0..read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

struct Ways {
    up: Way,
    down: Way,
}

impl Carry for Ways {
    fn carry(&mut self, near: &mut dyn Socket, far: &mut dyn Socket) -> anyhow::Result<bool> {
        self.up.copy(near, far)?;
        self.down.copy(far, near)?;
        Ok(self.up.is_over && self.down.is_over)
    }
}

/// Copies until it is killed; says when it listens, with a line.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    carrying::serve(&args.from, &args.to, || Ok(Ways { up: Way::new(), down: Way::new() }))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use mio::net::UnixStream;

    use super::*;

    #[test]
    fn a_way_carries_all_that_was_written_and_the_end() {
        let (mut source, near) = std::os::unix::net::UnixStream::pair().unwrap();
        let (far, mut sink) = std::os::unix::net::UnixStream::pair().unwrap();
        let [mut near, mut far] = [near, far].map(|stream| {
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
            way.copy(&mut near, &mut far).unwrap();
            std::thread::yield_now();
        }
        writer.join().unwrap();
        assert_eq!(reader.join().unwrap(), expected);
    }
}
