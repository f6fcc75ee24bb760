//! A client in the place of the first hop: it seals what it says itself, as a device does.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::Message;

use super::ends::Far;
use super::{Inner, Socket, Step, connected};
use crate::linux::carrying::Place;
use crate::linux::client::{Client, Pipe};
use crate::linux::stage::Transport;

/// Where clients begin: on one thread, only while something is waited for, as those of a device do.
pub(crate) struct Clients {
    runtime: Arc<Runtime>,
    far: Far,
}

impl Clients {
    /// Of the second hop, which is there.
    pub(crate) fn new(second: Place, transport: Transport, authority: &Path) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime: Arc::new(runtime), far: Far::new(second, transport, authority)? })
    }

    /// One more, over a connection of its own.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        let socket = self.runtime.block_on(connected(&self.far))?;
        let (up, down) = (Step::new(Inner::Seals)?, Step::new(Inner::Opens)?);
        Client::over(Channel { runtime: Arc::clone(&self.runtime), socket, up, down })
    }
}

struct Channel {
    runtime: Arc<Runtime>,
    socket: Socket,
    up: Step,
    down: Step,
}

impl Pipe for Channel {
    fn send(&mut self, message: String) -> anyhow::Result<()> {
        let sealed = self.up.pass(message.into())?;
        Ok(self.runtime.block_on(self.socket.send(sealed))?)
    }

    fn receive(&mut self) -> anyhow::Result<Bytes> {
        loop {
            let message = self.runtime.block_on(self.socket.next()).context("the second hop is gone")??;
            match message {
                Message::Binary(sealed) => match self.down.pass(sealed)? {
                    Message::Text(text) => return Ok(text.into()),
                    other => bail!("what is open is text, and not {other:?}"),
                },
                Message::Close(why) => bail!("the connection was closed: {why:?}"),
                _ => {}
            }
        }
    }
}
