//! One device's session at the host: its channels, its scope, its end.
//!
//! A channel to an environment is a connection to that environment's
//! app-server, through a firewall of its own ([`super::bridge`]); channel 0 is
//! the agent's API ([`super::api`]). Tasks of channels end with the session.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use reachback_proto::frame::{ByeReason, ChannelCloseReason};
use reachback_proto::ids::{DeviceId, SessionId};
use reachback_proto::scope::Scope;
use reachback_proto::session::MAX_MESSAGE_TO_DEVICE;
use reachback_proto::words::quote;
use reachback_relay::vital;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::api::{self, ApiContext, Caller};
use super::bridge::{self, Wishes};
use super::environments::Environments;
use super::outbox::Outboxes;
use super::sessions::Sessions;
use super::tunnel::Tunnel;
use crate::audit::AuditLog;
use crate::local_api::events::{DeviceState, Event};
use crate::session::{ChannelHandle, SessionEvent, SessionState, StartedSession};
use crate::state::devices::{DeviceList, DeviceStore};

use super::AgentEvents;

/// A session's task, to be run by whoever owns it.
pub(crate) type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What sessions work with.
#[derive(Clone)]
pub(crate) struct SessionContext {
    /// All sessions.
    pub sessions: Arc<Sessions>,
    /// The devices accepted.
    pub devices: Arc<DeviceStore>,
    /// Where devices work.
    pub environments: Arc<Environments>,
    /// What waits for devices.
    pub outboxes: Arc<Outboxes>,
    /// What devices do is written here.
    pub audit: Arc<AuditLog>,
    /// What the API tells.
    pub api: Arc<ApiContext>,
    /// The way to the relay.
    pub tunnel: Arc<Tunnel>,
    /// Who is told about devices coming and going.
    pub events: AgentEvents,
}

/// What a device may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Scope(Scope),
    Out(ByeReason),
}

impl Standing {
    fn of(list: &DeviceList, device: DeviceId) -> Self {
        match list.device(device) {
            Some(device) if !device.paused && !list.paused => Self::Scope(device.scope),
            Some(_) => Self::Out(ByeReason::Paused),
            None => Self::Out(ByeReason::Revoked),
        }
    }
}

/// Runs one session until it ends.
pub(crate) async fn run(context: SessionContext, device: DeviceId, id: SessionId, session: StartedSession) {
    let StartedSession { handle, api, mut events, mut task } = session;
    let mut state = handle.state();
    let mut list = context.devices.subscribe();
    let mut channels = JoinSet::new();
    let standing = Standing::of(&list.borrow_and_update(), device);
    let scope = match standing {
        Standing::Scope(scope) => scope,
        Standing::Out(reason) => {
            handle.end(reason).await;
            context.sessions.remove(device, id);
            return;
        }
    };
    let (scope_out, scope) = watch::channel(scope);
    let largest = Arc::new(AtomicUsize::new(MAX_MESSAGE_TO_DEVICE));
    let wishes = Arc::<Wishes>::default();
    let caller = Caller { device, largest: Arc::clone(&largest), wishes: Arc::clone(&wishes) };
    channels.spawn(api::serve(Arc::clone(&context.api), caller, scope.clone(), api));
    let mut was_up = false;
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(SessionEvent::ChannelOpened { channel, environment }) => {
                    let (context, scope) = (context.clone(), scope.clone());
                    let (largest, wishes) = (Arc::clone(&largest), Arc::clone(&wishes));
                    channels.spawn(async move {
                        open(&context, device, scope, largest, wishes, channel, &environment).await;
                    });
                }
                Some(SessionEvent::Lost { .. }) => {}
                None => {
                    // Its task is over; if that was a panic, it is ours.
                    vital::raise((&mut task).await);
                    break;
                }
            },
            changed = state.changed() => {
                let now = state.borrow_and_update().clone();
                if changed.is_err() || matches!(now, SessionState::Ended { .. }) {
                    break;
                }
                context.sessions.note(device, id, &now, Instant::now());
                let is_up = now == SessionState::Up;
                if is_up != was_up {
                    was_up = is_up;
                    if !is_up {
                        context.tunnel.probe();
                    }
                    announce(&context, device, is_up);
                }
            }
            changed = list.changed() => {
                if changed.is_err() {
                    break;
                }
                let standing = Standing::of(&list.borrow_and_update(), device);
                match standing {
                    Standing::Scope(scope) => { scope_out.send_if_modified(|old| std::mem::replace(old, scope) != scope); }
                    Standing::Out(reason) => {
                        tracing::info!(device = %device.short(), ?reason, "a device is kept out: its session ends");
                        handle.end(reason).await;
                        break;
                    }
                }
            }
            Some(ended) = channels.join_next() => vital::raise(ended),
        }
    }
    context.sessions.remove(device, id);
    if was_up {
        announce(&context, device, false);
    }
}

fn announce(context: &SessionContext, device: DeviceId, is_up: bool) {
    let state = if is_up { DeviceState::Connected } else { DeviceState::Disconnected };
    context.events.send(Event::Device { device_id: device, state });
}

async fn open(
    context: &SessionContext,
    device: DeviceId,
    scope: watch::Receiver<Scope>,
    largest: Arc<AtomicUsize>,
    wishes: Arc<Wishes>,
    channel: ChannelHandle,
    environment: &str,
) {
    let number = channel.sender.number();
    let Some(environment) = context.environments.find(environment) else {
        let names: Vec<_> = context.environments.all().iter().map(|environment| quote(&environment.name)).collect();
        let text = format!("this host has no such environment; it has: {}", names.join(", "));
        let _ = channel.sender.close(ChannelCloseReason::Refused, &text).await;
        return;
    };
    let share = context.outboxes.share(device);
    match environment.connect(share.allowance(largest)).await {
        Ok(connection) => {
            tracing::debug!(device = %device.short(), number, environment = environment.name, "channel opened");
            let policy = environment.policy(*scope.borrow());
            let recorder = bridge::Recorder {
                device,
                environment: environment.name.clone(),
                log: Arc::clone(&context.audit),
                work: Arc::clone(&environment.work),
                withheld: Arc::clone(&environment.withheld),
            };
            let party = bridge::Party {
                wishes,
                name: context.devices.current().device(device).map(|device| device.name.clone()).unwrap_or_default(),
                requests: Arc::clone(&environment.requests),
                live_text: Arc::clone(&environment.live_text),
                max_scope: environment.max_scope(),
            };
            bridge::run(channel, connection, scope, policy, recorder, share, party).await;
        }
        Err(error) => {
            tracing::warn!(%error, environment = environment.name, "a channel was opened while Codex is not there");
            let _ = channel.sender.close(ChannelCloseReason::BackendGone, &error.for_devices()).await;
        }
    }
}
