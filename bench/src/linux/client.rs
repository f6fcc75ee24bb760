//! The client whose times are taken: one connection to an app-server's socket, or to what leads to one.

use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::json;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, Utf8Bytes, WebSocket};

use super::stand_in::{METHOD, Wish};

/// See the module's header.
pub(super) struct Client {
    socket: WebSocket<UnixStream>,
    next: u64,
}

impl Client {
    /// Connects and initializes, as every client of Codex does: after that it can be used.
    pub(super) fn connect(path: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(path).with_context(|| format!("nobody listens on {}", path.display()))?;
        let config = WebSocketConfig::default().read_buffer_size(64 << 10);
        let (socket, _) = tungstenite::client::client_with_config("ws://localhost/", stream, Some(config))
            .map_err(|error| anyhow::anyhow!("no WebSocket on {}: {error}", path.display()))?;
        let mut client = Self { socket, next: 0 };
        let capabilities = json!({ "experimentalApi": true });
        let params =
            json!({ "clientInfo": { "name": "reachback_bench", "version": "0" }, "capabilities": capabilities });
        let answer = client.call("initialize", &params.to_string())?;
        if !answer.contains("\"result\"") {
            bail!("initialize was refused: {answer}");
        }
        client.socket.send(Message::text(r#"{"method":"initialized"}"#))?;
        Ok(client)
    }

    /// Has a wish granted; how many messages came before its answer.
    pub(super) fn wish(&mut self, wish: &Prepared) -> anyhow::Result<u64> {
        let id = self.ask(METHOD, &wish.params)?;
        let mut before = 0;
        loop {
            let message = self.next()?;
            if is_answer(&message, id) {
                if !message.contains("\"result\"") {
                    bail!("refused: {message}");
                }
                return Ok(before);
            }
            before += 1;
        }
    }

    fn call(&mut self, method: &str, params: &str) -> anyhow::Result<Utf8Bytes> {
        let id = self.ask(method, params)?;
        loop {
            let message = self.next()?;
            if is_answer(&message, id) {
                return Ok(message);
            }
        }
    }

    fn ask(&mut self, method: &str, params: &str) -> anyhow::Result<u64> {
        self.next += 1;
        let id = self.next;
        let request = format!(r#"{{"id":{id},"method":"{method}","params":{params}}}"#);
        if let Err(error) = self.socket.send(Message::text(request)) {
            // Who closed it may have said why.
            while self.next()?.is_empty() {}
            return Err(error.into());
        }
        Ok(id)
    }

    fn next(&mut self) -> anyhow::Result<Utf8Bytes> {
        loop {
            match self.socket.read()? {
                Message::Text(text) => return Ok(text),
                Message::Close(why) => bail!("the connection was closed: {why:?}"),
                _ => {}
            }
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
fn is_answer(message: &str, id: u64) -> bool {
    #[derive(serde::Deserialize)]
    struct Numbered {
        id: Option<u64>,
    }
    if message.starts_with("{\"method\"") {
        return false;
    }
    if message.starts_with(&format!("{{\"id\":{id},")) {
        return true;
    }
    serde_json::from_str::<Numbered>(message).is_ok_and(|numbered| numbered.id == Some(id))
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
        assert!(is_answer(r#"{"id":7,"result":{}}"#, 7));
        assert!(is_answer(r#"{"result":{},"id":7}"#, 7));
        assert!(!is_answer(r#"{"id":71,"result":{}}"#, 7));
        assert!(!is_answer(r#"{"method":"x","params":{"id":7}}"#, 7));
    }
}
