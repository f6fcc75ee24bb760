//! The client whose times are taken: one channel to an app-server, whatever carries its messages.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use anyhow::{Context, bail};
use bytes::Bytes;
use serde_json::json;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, WebSocket};

use super::carrying::Place;
use super::stand_in::{METHOD, Wish};

/// What carries one message each way.
pub(super) trait Pipe: Send {
    /// Sends one message.
    fn send(&mut self, message: String) -> anyhow::Result<()>;
    /// Waits for the next message.
    fn receive(&mut self) -> anyhow::Result<Bytes>;
}

/// A stream of bytes to an app-server, or to what leads to one.
trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// A socket of an app-server, or of what leads to one.
pub(super) fn socket(place: &Place) -> anyhow::Result<impl Pipe + use<>> {
    let stream = connect(place).with_context(|| format!("nobody listens on {place}"))?;
    let config = WebSocketConfig::default().read_buffer_size(64 << 10);
    match tungstenite::client::client_with_config("ws://localhost/", stream, Some(config)) {
        Ok((socket, _)) => Ok(socket),
        Err(error) => bail!("no WebSocket on {place}: {error}"),
    }
}

fn connect(place: &Place) -> std::io::Result<Box<dyn Stream>> {
    Ok(match place {
        Place::Path(path) => Box::new(UnixStream::connect(path)?),
        Place::Address(address) => {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
    })
}

impl Pipe for WebSocket<Box<dyn Stream>> {
    fn send(&mut self, message: String) -> anyhow::Result<()> {
        if let Err(error) = WebSocket::send(self, Message::text(message)) {
            // Who closed it may have said why.
            while !self.receive()?.is_empty() {}
            return Err(error.into());
        }
        Ok(())
    }

    fn receive(&mut self) -> anyhow::Result<Bytes> {
        loop {
            match self.read()? {
                Message::Text(text) => return Ok(text.into()),
                Message::Close(why) => bail!("the connection was closed: {why:?}"),
                _ => {}
            }
        }
    }
}

/// See the module's header.
pub(super) struct Client {
    pipe: Box<dyn Pipe>,
    next: u64,
}

impl Client {
    /// Initializes, as every client of Codex does: after that it can be used.
    pub(super) fn over(pipe: impl Pipe + 'static) -> anyhow::Result<Self> {
        let mut client = Self { pipe: Box::new(pipe), next: 0 };
        let capabilities = json!({ "experimentalApi": true });
        let params =
            json!({ "clientInfo": { "name": "reachback_bench", "version": "0" }, "capabilities": capabilities });
        client.call("initialize", &params.to_string())?;
        client.pipe.send(r#"{"method":"initialized"}"#.to_owned())?;
        Ok(client)
    }

    /// One that the server needs no introduction of.
    pub(super) fn known(pipe: impl Pipe + 'static) -> Self {
        Self { pipe: Box::new(pipe), next: 0 }
    }

    /// Has a wish granted; how many messages came before its answer.
    pub(super) fn wish(&mut self, wish: &Prepared) -> anyhow::Result<u64> {
        self.call(METHOD, &wish.params)
    }

    /// Waits for the answer to a request; how many messages came before it.
    pub(super) fn call(&mut self, method: &str, params: &str) -> anyhow::Result<u64> {
        self.answer(method, params).map(|(before, _)| before)
    }

    /// The same, with the answer.
    pub(super) fn answer(&mut self, method: &str, params: &str) -> anyhow::Result<(u64, Bytes)> {
        self.next += 1;
        let id = self.next;
        self.pipe.send(format!(r#"{{"id":{id},"method":"{method}","params":{params}}}"#))?;
        let mut before = 0;
        loop {
            let message = self.pipe.receive()?;
            if is_answer(&message, id) {
                if !contains(&message, b"\"result\"") {
                    bail!("refused: {}", String::from_utf8_lossy(&message));
                }
                return Ok((before, message));
            }
            before += 1;
        }
    }
}

/// A wish with its text, written once.
pub(super) struct Prepared {
    params: String,
}

impl Prepared {
    /// A wish whose request is so many bytes long, where that is possible.
    pub(super) fn new(wish: Wish, bytes: usize) -> Self {
        let bare = format!(r#"{{"id":100000,"method":"{METHOD}","params":{}}}"#, params(wish, "")).len();
        Self { params: params(wish, &"x".repeat(bytes.saturating_sub(bare))) }
    }

    /// A wish with a text of so many bytes.
    pub(super) fn with_text(wish: Wish, bytes: usize) -> Self {
        Self { params: params(wish, &"x".repeat(bytes)) }
    }
}

fn params(wish: Wish, query: &str) -> String {
    format!(r#"{{"sessionId":"{}","query":"{query}"}}"#, wish.word())
}

/// Answers have their number at the start or not far from it, and notifications have none.
fn is_answer(message: &[u8], id: u64) -> bool {
    #[derive(serde::Deserialize)]
    struct Numbered {
        id: Option<u64>,
    }
    if message.starts_with(b"{\"method\"") {
        return false;
    }
    if message.starts_with(format!("{{\"id\":{id},").as_bytes()) {
        return true;
    }
    serde_json::from_slice::<Numbered>(message).is_ok_and(|numbered| numbered.id == Some(id))
}

/// Only near its start, where a result begins.
fn contains(message: &[u8], word: &[u8]) -> bool {
    message[..message.len().min(100)].windows(word.len()).any(|window| window == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_as_long_as_it_is_to_be() {
        for bytes in [200, 2 << 10, 64 << 10] {
            let params = Prepared::new(Wish::Echo, bytes).params;
            let request = format!(r#"{{"id":100000,"method":"{METHOD}","params":{params}}}"#);
            assert_eq!(request.len(), bytes);
        }
    }

    #[test]
    fn an_answer_is_known_wherever_its_number_stands() {
        assert!(is_answer(br#"{"id":7,"result":{}}"#, 7));
        assert!(is_answer(br#"{"result":{},"id":7}"#, 7));
        assert!(!is_answer(br#"{"id":71,"result":{}}"#, 7));
        assert!(!is_answer(br#"{"method":"x","params":{"id":7}}"#, 7));
    }
}
