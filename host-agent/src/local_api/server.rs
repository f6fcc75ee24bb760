//! The agent's end of the local socket.
//!
//! [`serve`] owns every connection's task: they end when it is told to stop, or
//! when its future is dropped. The work of a request is a future inside its
//! connection's task, so a client that hangs up ends the work at its next await.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use reachback_relay::accepting::Accepting;
use reachback_relay::vital;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec, LinesCodecError};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, debug_span, warn};

use super::{Answer, Event, Failure, MAX_REQUEST, Reply, Request, Response};
use crate::platform::socket::{LocalListener, LocalStream, SocketError};

/// Connections at a time. A person has a handful of terminals; a script in a loop waits here.
const MAX_CONNECTIONS: usize = 32;
/// How long a command may take to say what it wants.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// How long a command may take to read a line.
const WRITE_TIME: Duration = Duration::from_secs(10);
/// How long requests go on after a stop, so that "stop" itself gets its answer.
const GRACE: Duration = Duration::from_secs(2);

/// Does what commands ask for.
///
/// `handle` is called once per connection. Its future is dropped when the
/// command goes away, so what must be undone then (an open rendezvous) belongs
/// in a guard.
pub trait Handler: Send + Sync + 'static {
    /// Does `request`, telling events and hearing answers through `exchange` meanwhile.
    fn handle(&self, request: Request, exchange: Exchange) -> impl Future<Output = Result<Response, Failure>> + Send;
}

/// The two ways between a running request and its command.
#[derive(Debug)]
pub struct Exchange {
    /// What happens, told to the command in this order and before the response. Waits while the command reads slowly.
    pub events: mpsc::Sender<Event>,
    /// What the command says. Never ends while the request runs.
    pub answers: mpsc::Receiver<Answer>,
}

/// Why a connection ended without an answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServeError {
    /// It never asked for anything.
    #[error("the command sent no request in time")]
    Silent,
    /// It does not read what it asked for.
    #[error("the command reads too slowly")]
    Slow,
    /// It went away.
    #[error("the connection broke")]
    Line(#[from] LinesCodecError),
}

/// Answers commands until `stop`, then lets running requests end for two seconds.
pub async fn serve<H: Handler>(listener: LocalListener, handler: Arc<H>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    let mut accepting = Accepting::new("local commands");
    loop {
        let free = connections.len() < MAX_CONNECTIONS;
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => vital::raise(ended),
            stream = next_connection(&listener, &mut accepting), if free => {
                let handler = handler.clone();
                let connection = async move {
                    if let Err(error) = converse(stream, &*handler).await {
                        debug!(%error, "local connection ended");
                    }
                };
                connections.spawn(connection.instrument(debug_span!("local")));
            }
        }
    }
    drop(listener);
    let ending = async {
        while let Some(ended) = connections.join_next().await {
            vital::raise(ended);
        }
    };
    // Those that are left are aborted with the set.
    let _ = timeout(GRACE, ending).await;
}

/// The next connection of a process of this user's. Others are turned away, and nothing ends the wait. Cancel-safe.
pub(crate) async fn next_connection(listener: &LocalListener, accepting: &mut Accepting) -> LocalStream {
    loop {
        // Of the errors, only that one came with a connection.
        let accepted = accepting.next(|| async {
            match listener.accept().await {
                Err(stranger @ SocketError::Peer { .. }) => Ok(Err(stranger)),
                accepted => accepted.map(Ok),
            }
        });
        match accepted.await {
            Ok(stream) => return stream,
            Err(error) => warn!(%error, "local connection refused"),
        }
    }
}

/// One connection, from its request to its answer.
pub(super) async fn converse<S, H>(stream: S, handler: &H) -> Result<(), ServeError>
where
    S: AsyncRead + AsyncWrite,
    H: Handler,
{
    let (read, write) = tokio::io::split(stream);
    let mut lines = FramedRead::new(read, LinesCodec::new_with_max_length(MAX_REQUEST));
    let mut out = Out(FramedWrite::new(write, LinesCodec::new()));

    let first = timeout(REQUEST_TIME, lines.next()).await.map_err(|_| ServeError::Silent)?;
    let Some(line) = first else { return Ok(()) };
    let request = match parse::<Request>(line) {
        Ok(request) => request,
        Err(failure) => return out.send(Reply::Failed(failure)).await,
    };
    let (events, mut happened) = mpsc::channel(64);
    // A person types one answer at a time; more than a few unread ones are a mistake.
    let (answer, answers) = mpsc::channel(4);
    let mut work = pin!(handler.handle(request, Exchange { events, answers }));
    loop {
        tokio::select! {
            // Events first: they come before the response that follows from them.
            biased;
            Some(event) = happened.recv() => out.send(Reply::Event(event)).await?,
            result = &mut work => {
                while let Ok(event) = happened.try_recv() {
                    out.send(Reply::Event(event)).await?;
                }
                return out.send(result.map_or_else(Reply::Failed, Reply::Done)).await;
            }
            line = lines.next() => {
                let Some(line) = line else { return Ok(()) };
                let taken = parse(line).and_then(|said| answer.try_send(said).map_err(|_| unasked()));
                if let Err(failure) = taken {
                    return out.send(Reply::Failed(failure)).await;
                }
            }
        }
    }
}

fn parse<T: DeserializeOwned>(line: Result<String, LinesCodecError>) -> Result<T, Failure> {
    let line = line.map_err(|error| match error {
        LinesCodecError::MaxLineLengthExceeded => {
            Failure::new("too_large", format!("a line is at most {MAX_REQUEST} bytes"))
        }
        LinesCodecError::Io(_) => Failure::new("malformed", "a line is UTF-8"),
    })?;
    // serde's message may repeat what it read; where it stopped is enough.
    serde_json::from_str(&line).map_err(|error| {
        Failure::new("malformed", format!("the agent does not understand this (column {})", error.column()))
            .fix("use the `reachback` command of the same version as the agent")
    })
}

fn unasked() -> Failure {
    Failure::new("malformed", "nothing was asked for")
}

struct Out<S>(FramedWrite<WriteHalf<S>, LinesCodec>);

impl<S: AsyncWrite> Out<S> {
    async fn send(&mut self, reply: Reply) -> Result<(), ServeError> {
        let line = serde_json::to_string(&reply).map_err(std::io::Error::other).map_err(LinesCodecError::Io)?;
        timeout(WRITE_TIME, self.0.send(line)).await.map_err(|_| ServeError::Slow)??;
        Ok(())
    }
}
