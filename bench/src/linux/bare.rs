//! A process that carries messages with the libraries that Reachback has for that, and does nothing else.
//!
//! WebSockets over TLS or over streams of QUIC connections between the processes, and each message sealed once more between
//! the first and the last: three of them in a row have what the laptop's agent, the relay and the host's agent have, without
//! a session that outlives its link, a firewall, an audit log and limits. What Reachback costs above them is its own; what
//! they cost above processes that copy and seal is the price of a runtime, of TLS or QUIC and of WebSockets as libraries.

pub(super) mod client;
mod ends;

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;

use anyhow::Context;
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config, client_async_with_config};

use self::ends::{Far, Stream, joined};
pub(super) use self::ends::{NAME, Papers, socket, trusting};
use super::carrying::Place;
use super::sealed::{Seal, WHOLE};
use super::stage::Transport;
use super::stand_in;

/// Carry messages between a WebSocket and another, over TLS or QUIC where one is at an address.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What becomes of a message on its way to the far end; the opposite on its way back
    #[arg(value_enum)]
    inner: Inner,
    /// What carries it from and to an address
    #[arg(value_enum)]
    transport: Transport,
    /// Where to listen: a path, or an address.
    from: Place,
    /// Where to connect to for each connection.
    to: Place,
    #[command(flatten)]
    papers: Papers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Inner {
    Seals,
    Keeps,
    Opens,
}

impl Inner {
    fn back(self) -> Self {
        match self {
            Self::Seals => Self::Opens,
            Self::Keeps => Self::Keeps,
            Self::Opens => Self::Seals,
        }
    }
}

type Socket = WebSocketStream<Box<dyn Stream>>;

/// What becomes of a connection.
struct Onward {
    inner: Inner,
    far: Far,
}

/// Carries until it is killed; says when it listens and where, with a line.
pub(super) fn run(args: Args) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve(args))
}

async fn serve(args: Args) -> anyhow::Result<()> {
    let far = Far::new(args.to, args.transport, &args.papers.authority)?;
    let onward = Arc::new(Onward { inner: args.inner, far });
    match args.from {
        Place::Path(path) => {
            let listener = stand_in::bind(&path)?;
            listener.set_nonblocking(true)?;
            let listener = UnixListener::from_std(listener)?;
            println!("listening {}", path.display());
            loop {
                let (stream, _) = listener.accept().await?;
                tokio::spawn(converse(Arc::clone(&onward), async { Ok(Box::new(stream) as Box<dyn Stream>) }));
            }
        }
        Place::Address(address) if args.transport == Transport::Wss => {
            let (listener, acceptor) = (TcpListener::bind(address).await?, args.papers.acceptor()?);
            println!("listening {}", listener.local_addr()?);
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let accepting = acceptor.accept(stream);
                let near = async { Ok(Box::new(accepting.await?) as Box<dyn Stream>) };
                tokio::spawn(converse(Arc::clone(&onward), near));
            }
        }
        Place::Address(address) => {
            let endpoint = args.papers.endpoint(address)?;
            println!("listening {}", endpoint.local_addr()?);
            while let Some(incoming) = endpoint.accept().await {
                let (connection, onward) = (incoming.await?, Arc::clone(&onward));
                tokio::spawn(async move {
                    while let Ok(streams) = connection.accept_bi().await {
                        tokio::spawn(converse(Arc::clone(&onward), async { Ok(joined(streams)) }));
                    }
                });
            }
            Ok(())
        }
    }
}

/// One connection, to its end.
async fn converse(onward: Arc<Onward>, near: impl Future<Output = io::Result<Box<dyn Stream>>>) {
    if let Err(error) = carry(&onward, near).await {
        eprintln!("bare hop: {error:#}");
    }
}

async fn carry(onward: &Onward, near: impl Future<Output = io::Result<Box<dyn Stream>>>) -> anyhow::Result<()> {
    let near = accept_async_with_config(near.await?, Some(config())).await?;
    let far = connected(&onward.far).await?;
    let ((near_sink, near_stream), (far_sink, far_stream)) = (near.split(), far.split());
    // Two tasks: each is woken for its own direction. With the first of them the connection is over, to both ends.
    let mut ways = JoinSet::new();
    ways.spawn(pump(near_stream, far_sink, Step::new(onward.inner)?));
    ways.spawn(pump(far_stream, near_sink, Step::new(onward.inner.back())?));
    ways.join_next().await.context("there are two")??
}

/// As much as a message of the measurements in one write.
fn config() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(16 << 10).write_buffer_size(64 << 10)
}

async fn connected(far: &Far) -> anyhow::Result<Socket> {
    Ok(client_async_with_config("ws://localhost/", far.connect().await?, Some(config())).await?.0)
}

/// One direction, until either end is gone.
async fn pump(mut from: SplitStream<Socket>, mut to: SplitSink<Socket, Message>, mut step: Step) -> anyhow::Result<()> {
    // An end without a goodbye is one, too: nobody here says goodbye.
    while let Some(Ok(mut message)) = from.next().await {
        // All that is here already goes out before one flush.
        loop {
            match message {
                Message::Text(text) => to.feed(step.pass(text.into())?).await?,
                Message::Binary(bytes) => to.feed(step.pass(bytes)?).await?,
                Message::Close(_) => return Ok(()),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
            match poll_fn(|cx| Poll::Ready(from.poll_next_unpin(cx))).await {
                Poll::Ready(Some(Ok(next))) => message = next,
                Poll::Ready(Some(Err(_)) | None) => return Ok(()),
                Poll::Pending => break,
            }
        }
        to.flush().await?;
    }
    Ok(())
}

/// What becomes of the messages of one direction.
struct Step {
    inner: Inner,
    seal: Seal,
    sealed: Vec<u8>,
}

impl Step {
    fn new(inner: Inner) -> anyhow::Result<Self> {
        Ok(Self { inner, seal: Seal::new(WHOLE)?, sealed: Vec::new() })
    }

    fn pass(&mut self, message: Bytes) -> anyhow::Result<Message> {
        let mut passed = Vec::new();
        match self.inner {
            Inner::Keeps => Ok(Message::Binary(message)),
            Inner::Seals => {
                self.seal.seal(&message, &mut passed)?;
                Ok(Message::Binary(passed.into()))
            }
            Inner::Opens => {
                self.sealed.extend_from_slice(&message);
                self.seal.open(&mut self.sealed, &mut passed)?;
                let text = Utf8Bytes::try_from(Bytes::from(passed)).context("what was sealed was text")?;
                Ok(Message::Text(text))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_seals_its_like_opens_and_nothing_else_does() {
        let text = "a message".repeat(20_000);
        let [mut seals, mut keeps, mut opens] =
            [Inner::Seals, Inner::Keeps, Inner::Seals.back()].map(|inner| Step::new(inner).unwrap());
        for _ in 0..3 {
            let Message::Binary(sealed) = seals.pass(text.clone().into()).unwrap() else { panic!("not sealed") };
            assert!(!sealed.windows(9).any(|part| part == b"a message"));
            let Message::Binary(kept) = keeps.pass(sealed.clone()).unwrap() else { panic!("changed") };
            assert_eq!(kept, sealed);
            assert_eq!(opens.pass(kept).unwrap(), Message::text(text.clone()));
        }
        assert!(opens.pass(text.into()).is_err(), "what nobody sealed");
    }
}
