//! The host's app-server on standard input and output, in the place of a `codex app-server`.
//!
//! A line is a JSON-RPC message, each way, as that speaks it: blank lines count for nothing, and the last one needs no
//! end. There is one client, and the session ends with it. At the end of its input what it said is delivered first;
//! answers are not waited for, as Codex doesn't either. A client that is let go finds both closed, and may start the
//! program again. Nothing but the host's messages is ever written to standard output.

use std::{io, mem};

use bytes::{Bytes, BytesMut};
use reachback_proto::session::MAX_MESSAGE_TO_HOST;
use serde::de::IgnoredAny;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};

use super::bridge::{End, FromClient, ToClient, bridge};
use super::outcome::Outcome;
use super::remote::RemoteHost;
use crate::codex::Text;

/// Bytes of standard input that are read at once.
const READ_BUFFER: usize = 64 << 10;

/// Serves the one client until its end, or the channel's; `None` when the session ends before there is one.
/// `environment` is what it reaches.
///
/// A read of standard input may still be waiting when this returns: the runtime must not wait for that.
pub async fn serve(remote: &RemoteHost, environment: &str, outcome: &Outcome) -> Option<End> {
    let _waits = remote.waits();
    let channel = remote.open_channel(environment).await.ok()?;
    let client = (Lines::new(tokio::io::stdin(), MAX_MESSAGE_TO_HOST), ToLines::new(tokio::io::stdout()));
    Some(bridge(client, channel, remote.state(), outcome).await)
}

/// What the client says, a message a line.
struct Lines<R> {
    input: BufReader<R>,
    /// The most bytes that a line may have.
    limit: usize,
}

/// Why there is no next line.
#[derive(Debug, thiserror::Error)]
enum LineError {
    #[error("a line of standard input has more than {limit} bytes, and no message may")]
    TooLong { limit: usize },
    #[error("standard input can't be read: {0}")]
    Read(#[from] io::Error),
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(input: R, limit: usize) -> Self {
        Self { input: BufReader::with_capacity(READ_BUFFER, input), limit }
    }

    /// The next line, without white space around it; `None` at the end of the input. What is too long is not kept.
    async fn line(&mut self) -> Result<Option<Bytes>, LineError> {
        let mut line = BytesMut::new();
        loop {
            let read = self.input.fill_buf().await?;
            let (piece, used, is_over) = match read.iter().position(|byte| *byte == b'\n') {
                Some(at) => (&read[..at], at + 1, true),
                None => (read, read.len(), read.is_empty()),
            };
            if line.len() + piece.len() > self.limit {
                return Err(LineError::TooLong { limit: self.limit });
            }
            line.extend_from_slice(piece);
            self.input.consume(used);
            if is_over {
                let line = line.freeze();
                return Ok((used > 0 || !line.is_empty()).then(|| line.slice_ref(line.trim_ascii())));
            }
        }
    }
}

impl<R: AsyncRead + Send + Unpin> FromClient for Lines<R> {
    const IS_ALONE: bool = true;

    async fn next(&mut self) -> Result<Bytes, End> {
        loop {
            match self.line().await {
                Ok(Some(line)) if line.is_empty() => {}
                // A text frame of a socket would not come either. Whether it is a message is the host's to say.
                Ok(Some(line)) if std::str::from_utf8(&line).is_err() => {
                    return Err(End::broken("a line of standard input is not valid text (UTF-8)"));
                }
                Ok(Some(line)) => return Ok(line),
                Ok(None) => return Err(End::gone("standard input ended")),
                Err(error) => return Err(End::broken(error.to_string())),
            }
        }
    }
}

/// What it hears, a message a line.
struct ToLines<W> {
    output: W,
    /// Not written yet.
    lines: Vec<u8>,
}

impl<W> ToLines<W> {
    fn new(output: W) -> Self {
        Self { output, lines: Vec::new() }
    }
}

impl<W: AsyncWrite + Send + Unpin> ToClient for ToLines<W> {
    async fn feed(&mut self, text: Text) -> Result<(), End> {
        if serde_json::from_str::<IgnoredAny>(&text).is_err() {
            return Err(End::broken("the host sent something that is not JSON"));
        }
        self.lines.reserve(text.len() + 1);
        // Between the words of JSON a line's end is a blank; within them there is none.
        self.lines.extend(text.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
        self.lines.push(b'\n');
        Ok(())
    }

    /// Once it is flushed the host hears that it was taken: who reads slowly slows the host, and fills nothing here.
    async fn flush(&mut self) -> Result<(), End> {
        let lines = mem::take(&mut self.lines);
        let written = async {
            self.output.write_all(&lines).await?;
            self.output.flush().await
        };
        written.await.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => End::gone("standard output is closed"),
            _ => End::broken(format!("standard output can't be written: {error}")),
        })
    }

    /// Why is said by the program, on standard error.
    async fn goodbye(self, _: &End, _: bool) {}
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, DuplexStream, duplex};
    use tokio::sync::watch;
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::super::bridge::EndKind;
    use super::super::remote::RemoteState;
    use super::*;
    use crate::session::{ChannelHandle, Incoming, StartedSession, testing};

    const PATIENCE: Duration = Duration::from_secs(60);
    const LIMIT: usize = 64;

    /// What is said until there is no more, and how that ends.
    async fn said(input: &[u8]) -> (Vec<Bytes>, End) {
        let mut lines = Lines::new(input, LIMIT);
        let mut said = Vec::new();
        loop {
            match lines.next().await {
                Ok(line) => said.push(line),
                Err(end) => return (said, end),
            }
        }
    }

    #[tokio::test]
    async fn a_line_is_a_message_and_blank_ones_are_none() {
        for (input, wanted) in [
            ("", &[][..]),
            ("{}", &["{}"]),
            ("{}\n", &["{}"]),
            ("\n\r\n  \n{\"a\":1}\r\n\n [2] \n{}", &["{\"a\":1}", "[2]", "{}"]),
        ] {
            let (said, end) = said(input.as_bytes()).await;
            assert_eq!(said, wanted, "{input:?}");
            assert_eq!(end.kind, EndKind::Gone, "{input:?}");
        }
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_or_no_text_ends_it_behind_what_was_said_before() {
        let longest = "x".repeat(LIMIT);
        let (heard, end) = said(format!("{longest}\n{longest}x\n{{}}\n").as_bytes()).await;
        assert_eq!((heard, end.kind), (vec![Bytes::from(longest)], EndKind::Broken));
        assert_eq!(end.why, "a line of standard input has more than 64 bytes, and no message may");
        let (heard, end) = said(b"{}\n\"\xff\"\n{}\n").await;
        assert_eq!((heard, end.kind), (vec![Bytes::from("{}")], EndKind::Broken));
        assert_eq!(end.why, "a line of standard input is not valid text (UTF-8)");
    }

    #[tokio::test]
    async fn what_has_no_end_is_not_kept() {
        let mut lines = Lines::new(tokio::io::repeat(b'x'), 3 * READ_BUFFER);
        let endless = timeout(PATIENCE, lines.next()).await.expect("it reads on for ever").unwrap_err();
        assert!(endless.why.contains("more than 196608 bytes"), "{endless:?}");
    }

    #[tokio::test]
    async fn each_message_is_one_line_and_only_messages_are_written() {
        let mut out = ToLines::new(Vec::new());
        for message in ["{\n  \"a\": \"\\n\"\r\n}", "[]"] {
            out.feed(Text::from(message)).await.unwrap();
        }
        assert!(out.output.is_empty(), "written before it is flushed");
        out.flush().await.unwrap();
        for wrong in ["", "{", "hello", "{} {}", "{}\nhello", "\"a\nb\""] {
            let end = out.feed(Text::from(wrong)).await.unwrap_err();
            assert_eq!((&*end.why, end.kind), ("the host sent something that is not JSON", EndKind::Broken), "{wrong}");
        }
        out.flush().await.unwrap();
        assert_eq!(String::from_utf8(out.output).unwrap(), "{   \"a\": \"\\n\"  }\n[]\n");
    }

    #[tokio::test]
    async fn a_reader_that_went_away_is_no_failure_and_a_full_disk_is_one() {
        struct Fails(io::ErrorKind);
        impl AsyncWrite for Fails {
            fn poll_write(
                self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
                _: &[u8],
            ) -> std::task::Poll<io::Result<usize>> {
                std::task::Poll::Ready(Err(self.0.into()))
            }
            fn poll_flush(
                self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<io::Result<()>> {
                std::task::Poll::Ready(Ok(()))
            }
            fn poll_shutdown(
                self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<io::Result<()>> {
                std::task::Poll::Ready(Ok(()))
            }
        }
        for (error, wanted) in [
            (io::ErrorKind::BrokenPipe, EndKind::Gone),
            (io::ErrorKind::ConnectionReset, EndKind::Gone),
            (io::ErrorKind::StorageFull, EndKind::Broken),
        ] {
            let mut out = ToLines::new(Fails(error));
            out.feed(Text::from("{}")).await.unwrap();
            let end = out.flush().await.unwrap_err();
            assert_eq!(end.kind, wanted, "{end:?}");
        }
    }

    /// A client with pipes of this many bytes.
    struct Client {
        input: DuplexStream,
        output: DuplexStream,
        bridge: JoinHandle<End>,
    }

    async fn client(pipe: usize) -> (Client, ChannelHandle, [StartedSession; 2]) {
        let (channel, far, sessions) = testing::channel().await;
        let ((input, from_client), (output, to_client)) = (duplex(pipe), duplex(pipe));
        let bridge = tokio::spawn(async move {
            let state = watch::Sender::new(RemoteState::Up).subscribe();
            let client = (Lines::new(from_client, MAX_MESSAGE_TO_HOST), ToLines::new(to_client));
            bridge(client, channel, state, &Outcome::default()).await
        });
        (Client { input, output, bridge }, far, sessions)
    }

    async fn ended(bridge: JoinHandle<End>) -> End {
        timeout(PATIENCE, bridge).await.expect("it does not end").unwrap()
    }

    #[tokio::test]
    async fn at_the_end_of_input_what_was_said_is_delivered_and_what_comes_meanwhile_is_heard() {
        let (Client { mut input, mut output, bridge }, mut far, _sessions) = client(1 << 10).await;
        input.write_all(b"[1]\n[2]").await.unwrap();
        drop(input);
        for (wanted, answer) in [("[1]", "[-1]"), ("[2]", "[-2]")] {
            let heard = timeout(PATIENCE, far.incoming.recv()).await.expect("nothing comes").unwrap();
            let Incoming::Message { seq, bytes } = heard else { panic!("{heard:?} before {wanted}") };
            assert_eq!(bytes, wanted);
            assert!(!bridge.is_finished(), "it ended although {wanted} was not taken");
            far.sender.send(Bytes::from(answer)).await.unwrap();
            let mut line = [0; 5];
            timeout(PATIENCE, output.read_exact(&mut line)).await.expect("no answer").unwrap();
            assert_eq!(line.trim_ascii(), answer.as_bytes());
            far.sender.handled(seq).unwrap();
        }
        assert_eq!(ended(bridge).await.kind, EndKind::Gone);
    }

    #[tokio::test]
    async fn who_does_not_read_keeps_the_host_waiting_and_nothing_is_lost() {
        const COUNT: usize = 64;
        let (Client { mut output, bridge, input }, far, sessions) = client(16).await;
        for n in 0..COUNT {
            far.sender.send(Bytes::from(format!("[\"{n:03}\",\"{}\"]", "x".repeat(1 << 10)))).await.unwrap();
        }
        let mut lines = String::new();
        for n in 0..COUNT {
            assert!(!far.sender.is_writable(1), "the host was told that all is taken when {n} were read");
            let mut line = vec![0; (1 << 10) + 11];
            timeout(PATIENCE, output.read_exact(&mut line)).await.expect("nothing comes").unwrap();
            lines.push_str(std::str::from_utf8(&line).unwrap());
        }
        let numbers: Vec<_> = lines.lines().map(|line| line[2..5].parse::<usize>().unwrap()).collect();
        assert_eq!(numbers, Vec::from_iter(0..COUNT));
        timeout(PATIENCE, far.sender.writable(1)).await.expect("the host is not told that all is taken");
        drop(input);
        ended(bridge).await;
        drop(sessions);
    }

    #[tokio::test]
    async fn a_host_that_takes_nothing_keeps_the_client_waiting() {
        let (Client { mut input, bridge, output }, far, [device, _host]) = client(1 << 10).await;
        let line = format!("\"{}\"\n", "x".repeat(1 << 20));
        let mut written = 0;
        // 4 MiB wait in the session, and one more line was read in part.
        while timeout(Duration::from_secs(1), input.write_all(line.as_bytes())).await.is_ok() {
            written += line.len();
            assert!(written < 8 << 20, "it reads on for ever");
        }
        assert!(device.handle.held_bytes() < 6 << 20, "{} bytes wait", device.handle.held_bytes());
        drop((far, input, output));
        bridge.abort();
    }
}
