//! A client that speaks the protocol itself, as a phone does: no agent of a laptop between it and the relay.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use e2e::cutter::Cutter;
use reachback_host::connect::join;
use reachback_host::connect::remote::{RemoteConfig, RemoteHost};
use reachback_host::link::transports::TransportChoice;
use reachback_host::session::{ChannelHandle, Incoming};
use reachback_host::state::paired_hosts::PairedHostStore;
use reachback_proto::frame::ChannelCloseReason;
use tokio::runtime::Runtime;

use super::client::{Client, Pipe};
use super::stage::Transport;

/// Longest wait for a session.
const PATIENCE: Duration = Duration::from_secs(30);

/// A paired device and its session with the host, on a thread of its own only while something is waited for.
pub(super) struct Device {
    runtime: Arc<Runtime>,
    remote: RemoteHost,
    /// What its link runs through, where that can be cut and counts its bytes.
    pub(super) link: Option<Cutter>,
}

impl Device {
    /// The device that was paired in this home; its link runs through a [`Cutter`] where `is_cut`.
    pub(super) fn connect(home: &Path, transport: Transport, is_cut: bool) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut hosts = PairedHostStore::new(home).list()?.hosts;
        let host = hosts.pop().context("the device is not paired")?;
        let mut relay = join::relay_of(&host, TransportChoice::from(transport))?;
        let mut link = None;
        if is_cut {
            let target = SocketAddr::from((Ipv4Addr::LOCALHOST, relay.origin.port()));
            let cutter = runtime.block_on(Cutter::start(target));
            relay.origin = format!("https://{}", cutter.addr()).parse()?;
            link = Some(cutter);
        }
        let config = RemoteConfig {
            relay,
            host: host.host_id(),
            host_static: host.host_static,
            identity: host.identity,
            static_key: host.static_key,
            psk: host.psk,
            backoff: Default::default(),
        };
        let remote = runtime.block_on(async {
            let remote = RemoteHost::start(config);
            match tokio::time::timeout(PATIENCE, remote.up()).await {
                Ok(Ok(())) => Ok(remote),
                _ => bail!("no session with the host: {:?}", *remote.state().borrow()),
            }
        })?;
        Ok(Self { runtime: Arc::new(runtime), remote, link })
    }

    /// A client on a new channel to Codex.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        let channel = self.runtime.block_on(self.remote.open_channel("local"))?;
        Client::over(Channel { runtime: Arc::clone(&self.runtime), channel })
    }

    /// A client of the agent's own API.
    pub(super) fn api(&self) -> anyhow::Result<Client> {
        let channel = self.runtime.block_on(self.remote.api()).context("somebody else has the channel of the API")?;
        Ok(Client::known(Channel { runtime: Arc::clone(&self.runtime), channel }))
    }
}

struct Channel {
    runtime: Arc<Runtime>,
    channel: ChannelHandle,
}

impl Drop for Channel {
    fn drop(&mut self) {
        // A session that has ended has closed it.
        let _ = self.runtime.block_on(self.channel.sender.close(ChannelCloseReason::Done, ""));
    }
}

impl Pipe for Channel {
    fn send(&mut self, message: String) -> anyhow::Result<()> {
        Ok(self.runtime.block_on(self.channel.sender.send(Bytes::from(message)))?)
    }

    fn receive(&mut self) -> anyhow::Result<Bytes> {
        let channel = &mut self.channel;
        self.runtime.block_on(async {
            match channel.incoming.recv().await.context("the session ended")? {
                Incoming::Message { seq, bytes } => {
                    channel.sender.handled(seq)?;
                    Ok(bytes)
                }
                Incoming::Closed { reason, .. } => bail!("the channel was closed: {reason:?}"),
            }
        })
    }
}
