//! A command's end of the agent's local socket.

use std::io;
use std::path::{Path, PathBuf};

use futures_util::{SinkExt, StreamExt};
use reachback_proto::words::quote;
use serde::Serialize;
use tokio::io::{ReadHalf, WriteHalf};
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec, LinesCodecError};

use super::{Answer, Event, Failure, MAX_REPLY, Reply, Request, Response};
use crate::platform::socket::{self, LocalStream, SocketError};
use crate::state::atomic::FileError;
use crate::state::lock::HomeLock;

/// Why the agent could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No agent runs on this home.
    #[error("no agent runs on {}: start one with `reachback up` or `reachback host`", quote(home.display()))]
    NotRunning {
        /// The home.
        home: PathBuf,
    },
    /// What the agent wrote about itself can't be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its socket can't be used.
    #[error("can't reach the agent")]
    Socket(#[from] SocketError),
    /// It went away in the middle.
    #[error("the agent went away before it answered: see its log, and try again")]
    Gone,
    /// The connection broke.
    #[error("the connection to the agent broke")]
    Io(#[from] io::Error),
    /// It said something else than this build expects.
    #[error("the agent answered in a way this command does not understand: restart it, so that both have one version")]
    Malformed,
    /// It could not do it.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// One request to the agent.
#[derive(Debug)]
pub struct Client {
    lines: FramedRead<ReadHalf<LocalStream>, LinesCodec>,
    out: FramedWrite<WriteHalf<LocalStream>, LinesCodec>,
}

impl Client {
    /// Asks the agent of `home`, which has written down where it listens.
    pub async fn open(home: &Path, request: &Request) -> Result<Self, ClientError> {
        let not_running = || ClientError::NotRunning { home: home.to_owned() };
        let holder = HomeLock::holder(home)?.ok_or_else(not_running)?;
        let socket = holder.socket.ok_or_else(not_running)?;
        match Self::connect(&socket, request).await {
            // What a crashed agent left behind.
            Err(ClientError::Socket(SocketError::NotListening { .. })) => Err(not_running()),
            other => other,
        }
    }

    /// Asks the agent that listens on `socket`.
    pub async fn connect(socket: &Path, request: &Request) -> Result<Self, ClientError> {
        let (read, write) = tokio::io::split(socket::connect(socket).await?);
        let mut client = Self {
            lines: FramedRead::new(read, LinesCodec::new_with_max_length(MAX_REPLY)),
            out: FramedWrite::new(write, LinesCodec::new()),
        };
        client.say(request).await?;
        Ok(client)
    }

    /// Says something while the request runs.
    pub async fn answer(&mut self, answer: &Answer) -> Result<(), ClientError> {
        self.say(answer).await
    }

    /// The next thing the agent says. May be dropped and called again without losing anything.
    pub async fn next(&mut self) -> Result<Reply, ClientError> {
        match self.lines.next().await {
            None => Err(ClientError::Gone),
            Some(Ok(line)) => serde_json::from_str(&line).map_err(|_| ClientError::Malformed),
            Some(Err(LinesCodecError::MaxLineLengthExceeded)) => Err(ClientError::Malformed),
            Some(Err(LinesCodecError::Io(error))) => Err(gone_or(error)),
        }
    }

    /// The agent's response, for a request that has no events worth showing.
    pub async fn finish(self) -> Result<Response, ClientError> {
        self.collect().await.map(|(_, response)| response)
    }

    /// The agent's events and its response, for a request that is answered at once.
    pub async fn collect(mut self) -> Result<(Vec<Event>, Response), ClientError> {
        let mut events = Vec::new();
        loop {
            match self.next().await? {
                Reply::Event(event) => events.push(event),
                Reply::Done(response) => return Ok((events, response)),
                Reply::Failed(failure) => return Err(failure.into()),
            }
        }
    }

    async fn say(&mut self, what: &impl Serialize) -> Result<(), ClientError> {
        let line = serde_json::to_string(what).map_err(io::Error::other)?;
        self.out.send(line).await.map_err(|error| match error {
            LinesCodecError::Io(error) => gone_or(error),
            LinesCodecError::MaxLineLengthExceeded => ClientError::Malformed,
        })
    }
}

fn gone_or(error: io::Error) -> ClientError {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => ClientError::Gone,
        _ => ClientError::Io(error),
    }
}
