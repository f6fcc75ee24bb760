//! A stand-in for Codex's app-server, on its control socket: it does nothing but answer, so that what is measured is the way to it.
//!
//! One thread a connection. What a client wants of it stands in two members of `fuzzyFileSearch/sessionUpdate`, a request that passes
//! the firewall as it is: `sessionId` says what ([`Wish`]), `query` is the text that comes back.

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, Message, WebSocket};

use super::carrying::Place;

/// What it says that it is: a version that the programs know.
pub(super) const VERSION: &str = "0.169.0";

/// The request that carries what a client wants.
pub(super) const METHOD: &str = "fuzzyFileSearch/sessionUpdate";

/// What a client wants of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// The text back, in one answer.
    Echo,
    /// This many notifications with the text first, and then the answer. Nothing on the way puts them together. Each is written by
    /// itself, as Codex does.
    Notices(u64),
    /// The same, with as many as fit in each write.
    Batches(u64),
    /// This many pieces of one message of Codex first, each written by itself, and then the answer.
    Pieces(u64),
    /// The same, a piece a millisecond.
    Turn(u64),
}

impl Wish {
    /// As `sessionId` carries it.
    pub(super) fn word(self) -> String {
        match self {
            Self::Echo => "echo".to_owned(),
            Self::Notices(count) => format!("notices {count}"),
            Self::Batches(count) => format!("batches {count}"),
            Self::Pieces(count) => format!("pieces {count}"),
            Self::Turn(count) => format!("turn {count}"),
        }
    }

    fn parse(word: &str) -> Option<Self> {
        let Some((what, count)) = word.split_once(' ') else { return (word == "echo").then_some(Self::Echo) };
        let count = count.parse().ok()?;
        match what {
            "notices" => Some(Self::Notices(count)),
            "batches" => Some(Self::Batches(count)),
            "pieces" => Some(Self::Pieces(count)),
            "turn" => Some(Self::Turn(count)),
            _ => None,
        }
    }
}

/// Answer like an app-server on a socket.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to listen: a path, or an address.
    place: Place,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Search<'a> {
    #[serde(borrow)]
    session_id: Cow<'a, str>,
    #[serde(borrow)]
    query: &'a RawValue,
}

#[derive(Serialize)]
struct Answer<'a> {
    id: &'a RawValue,
    result: Echo<'a>,
}

#[derive(Serialize)]
struct Echo<'a> {
    query: &'a RawValue,
}

/// Listens until it is killed; says so with a line.
pub(super) fn serve(args: &Args) -> anyhow::Result<()> {
    match &args.place {
        Place::Path(path) => {
            let listener = bind(path)?;
            println!("listening {}", args.place);
            loop {
                begin(listener.accept()?.0)?;
            }
        }
        Place::Address(address) => {
            let listener = TcpListener::bind(address)?;
            println!("listening {}", listener.local_addr()?);
            loop {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                begin(stream)?;
            }
        }
    }
}

fn begin(stream: impl Read + Write + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().stack_size(256 << 10).spawn(move || converse(stream))?;
    Ok(())
}

/// A listener on a socket that nobody listens on any more.
pub(super) fn bind(socket: &Path) -> anyhow::Result<UnixListener> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error)?,
        _ => {}
    }
    UnixListener::bind(socket).with_context(|| format!("could not listen on {}", socket.display()))
}

/// One connection, to its end.
fn converse(stream: impl Read + Write) {
    // What is not flushed leaves in pieces of this size.
    let config = WebSocketConfig::default().read_buffer_size(16 << 10).write_buffer_size(16 << 10);
    let Ok(mut socket) = tungstenite::accept_with_config(stream, Some(config)) else { return };
    while let Ok(message) = socket.read() {
        let Message::Text(text) = message else { continue };
        match answer(&mut socket, &text) {
            Ok(()) => {}
            Err(error) => {
                eprintln!("stand-in: {error}");
                return;
            }
        }
    }
}

fn answer<S: Read + Write>(socket: &mut WebSocket<S>, text: &str) -> Result<(), Error> {
    let Ok(Request { id, method, params }) = serde_json::from_str(text) else { return Ok(()) };
    let Some(id) = id else { return Ok(()) };
    if method == METHOD
        && let Some(Search { session_id, query }) = params.and_then(|params| serde_json::from_str(params.get()).ok())
        && let Some(wish) = Wish::parse(&session_id)
    {
        let (count, notice) = match wish {
            Wish::Echo => (0, String::new()),
            Wish::Notices(count) | Wish::Batches(count) => (count, notice(query)),
            Wish::Pieces(count) | Wish::Turn(count) => (count, piece(query)),
        };
        let begin = Instant::now();
        for at in 1..=count {
            socket.write(Message::text(&notice))?;
            if !matches!(wish, Wish::Batches(_)) {
                socket.flush()?;
            }
            if matches!(wish, Wish::Turn(_)) {
                until(begin + Duration::from_millis(at));
            }
        }
        let answer = serde_json::to_string(&Answer { id, result: Echo { query } }).unwrap_or_default();
        return socket.send(Message::text(answer));
    }
    let result = match &*method {
        "initialize" => {
            format!(
                r#"{{"userAgent":"codex_cli_rs/{VERSION}","codexHome":"/nowhere","platformFamily":"unix","platformOs":"linux"}}"#
            )
        }
        "thread/loaded/list" | "thread/list" | "model/list" => r#"{"data":[],"nextCursor":null}"#.to_owned(),
        "config/read" => r#"{"config":{},"origins":{}}"#.to_owned(),
        _ => "{}".to_owned(),
    };
    socket.send(Message::text(format!(r#"{{"id":{},"result":{result}}}"#, id.get())))
}

/// Waits for a moment.
fn until(moment: Instant) {
    loop {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::park_timeout(left);
    }
}

/// A notification of a kind that is never put together with others.
fn notice(text: &RawValue) -> String {
    format!(r#"{{"method":"deprecationNotice","params":{{"summary":{}}}}}"#, text.get())
}

/// A piece of a message of Codex, with the members that Codex's have.
fn piece(text: &RawValue) -> String {
    let text = text.get();
    format!(
        r#"{{"method":"item/agentMessage/delta","params":{{"threadId":"01a2169c-4edd-7790-b19e-1081972e3d3d","turnId":"01a2169c-4f1c-7472-962c-43f7630eb530","itemId":"msg_01a2169c4f1c7472962c43f7","delta":{text}}},"emittedAtMs":1795675593160}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_what_its_word_says() {
        for wish in [Wish::Echo, Wish::Notices(3), Wish::Batches(9), Wish::Pieces(5_000), Wish::Turn(1)] {
            assert_eq!(Wish::parse(&wish.word()), Some(wish));
        }
        for word in ["", "echo 3", "notices", "notices x", "notices -1", "others 3"] {
            assert_eq!(Wish::parse(word), None, "{word:?}");
        }
    }
}
