//! Channel 0: the agent's own JSON-RPC API, for devices. `docs/api.md` is its reference.
//!
//! A method is a line of [`METHODS`]: its name, the scope that it needs, and a
//! function from [`Call`] and its parameters to its result. Such a function may
//! wait; what blocks (a slow disk) belongs on the blocking pool. Requests of one
//! session are answered as they are done, at most [`MAX_IN_FLIGHT`] at a time.
//!
//! An answer that waits for nothing goes out before any notification that is
//! newer than what it tells: all of a session's functions run in its one task.

mod asking;
mod attention;
mod awake;
mod devices;
mod environments;
mod error;
mod folders;
mod host;
mod notices;
mod pages;
mod prompts;
mod requests;
mod ssh;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod types;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use reachback_proto::ids::{DeviceId, HostId, PublicKey};
use reachback_proto::scope::Scope;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use asking::Asking;
pub(crate) use environments::{EnvironmentInfo, EnvironmentRemoved};
use error::Refusal;
pub(crate) use folders::Disk;
pub(crate) use folders::tell_of_workspaces;
pub(crate) use notices::{Notice, Notices};
use prompts::Receipt;

use super::awake::KeepAwake;
use super::bridge::Wishes;
use super::changes::DeviceChanges;
use super::environments::Environments;
use super::pages::Readers;
use super::prompts::Prompts;
use super::ssh_hosts::SshHosts;
use crate::firewall::unread;
use crate::session::{ChannelHandle, ChannelSender, Incoming};
use crate::state::answers::Answers;

/// A request of the API is small; nothing larger is parsed, except a prompt.
const MAX_REQUEST: usize = 64 * 1024;
/// A request with a prompt, in bytes: pictures of a phone, or one of the 8 MiB that the firewall lets through.
const MAX_PROMPT: usize = 16 << 20;
/// The method whose requests may be that large.
const LARGE_METHOD: &str = "prompt/send";
/// Of an id that is a text, in bytes.
const MAX_ID: usize = 128;
/// Requests of one session that are being answered: more than any screen asks for at once.
const MAX_IN_FLIGHT: usize = 32;
/// Notifications are left out while so many bytes wait for a device: it reads anew what it shows then.
const BEHIND: usize = 1 << 20;

/// What the API tells.
pub(crate) struct ApiContext {
    pub host: HostId,
    /// What people call it.
    pub name: String,
    /// Where devices reach its relay.
    pub relay_url: String,
    /// The relay's identity key, once it is known.
    pub relay_key: watch::Receiver<Option<PublicKey>>,
    /// Where devices work.
    pub environments: Arc<Environments>,
    /// The devices accepted, their sessions, and how they are changed.
    pub changes: DeviceChanges,
    /// Who may read folders.
    pub disk: Disk,
    /// What keeps the host's computer awake.
    pub awake: Arc<KeepAwake>,
    /// Machines that are reached over SSH.
    pub ssh_hosts: Arc<SshHosts>,
    /// What all of them are told.
    pub notices: Notices,
    /// What devices answered.
    pub answers: Arc<Answers>,
    /// What takes prompts.
    pub prompts: Arc<Prompts>,
    /// What reads pages.
    pub readers: Readers,
}

/// One device's session, as the API knows it.
#[derive(Clone)]
pub(crate) struct Caller {
    pub device: DeviceId,
    /// The largest message that it takes on this session, in bytes.
    pub largest: Arc<AtomicUsize>,
    /// How it wants to be told on this session what Codex says.
    pub wishes: Arc<Wishes>,
}

/// A request that may be made.
#[derive(Clone)]
struct Call {
    context: Arc<ApiContext>,
    caller: Caller,
    scope: Scope,
    asking: Arc<Asking>,
}

/// A method's parameters, as they came: an object.
type Params<'a> = Option<&'a RawValue>;
/// A method's result, as it goes.
type Outcome = Result<Box<RawValue>, Refusal>;

struct Method {
    name: &'static str,
    needed: Scope,
    run: fn(Call, Params<'_>) -> BoxFuture<'static, Outcome>,
}

/// Makes the table, and for tests the types in it.
macro_rules! methods {
    ($($name:literal $needed:ident $function:path;)*) => {
        const METHODS: &[Method] = &[$(Method {
            name: $name,
            needed: Scope::$needed,
            run: |call, params| {
                let params = read($name, params);
                Box::pin(async move { written(&$function(call, params?).await?) })
            },
        }),*];

        #[cfg(test)]
        fn describe(types: &mut types::Types) {
            $(types.method($name, Scope::$needed, $function);)*
        }
    };
}

methods! {
    "host/read" View host::read;
    "environment/list" View environments::list;
    "workspace/list" View folders::workspaces;
    "folder/list" Approve folders::list;
    "ssh/list" Admin ssh::list;
    "ssh/add" Admin ssh::add;
    "ssh/remove" Admin ssh::remove;
    "ssh/login" Admin ssh::login;
    "ssh/answer" Admin ssh::answer;
    "device/list" Admin devices::list;
    "device/scope" Admin devices::scope;
    "device/pause" Admin devices::pause;
    "device/revoke" Admin devices::revoke;
    "host/allowDevices" Admin devices::allow;
    "host/keepAwake" Admin awake::keep_awake;
    "thread/list" View pages::list;
    "thread/page" View pages::page;
    "prompt/send" Steer prompts::send;
    "prompt/read" View prompts::read;
    "prompt/withdraw" Steer prompts::withdraw;
    "request/list" View requests::list;
    "answer/send" Steer requests::answer;
    "attention/list" View attention::list;
}

/// The parameters of a method that takes none; what a newer client sends along is left alone.
#[derive(Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct NoParams {}

/// It was done.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
struct Done {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request<'a> {
    id: Value,
    method: String,
    #[serde(borrow, default)]
    params: Params<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum RpcAnswer {
    Result { id: Value, result: Box<RawValue> },
    Error { id: Value, error: Refusal },
}

/// Answers a device until its session ends.
pub(crate) async fn serve(
    context: Arc<ApiContext>,
    caller: Caller,
    scope: watch::Receiver<Scope>,
    channel: ChannelHandle,
) {
    serve_methods(METHODS, context, caller, scope, channel).await;
}

/// What to do with something that all devices could be told.
enum Due<T> {
    /// This device is told now.
    Now(T),
    /// It is not for this device, or it will hear that it missed something.
    Not,
    /// Nobody tells anything any more.
    Over,
}

impl<T> Due<T> {
    fn goes_on(&self) -> bool {
        !matches!(self, Self::Over)
    }
}

/// A device that reads too slowly misses what is told, and hears so once.
fn due<T>(
    heard: Result<T, RecvError>,
    sender: &ChannelSender,
    missed: &mut bool,
    is_for_it: impl FnOnce(&T) -> bool,
) -> Due<T> {
    match heard {
        Ok(what) if !is_for_it(&what) => Due::Not,
        Ok(what) => {
            *missed |= !sender.is_writable(BEHIND);
            if *missed { Due::Not } else { Due::Now(what) }
        }
        Err(RecvError::Lagged(_)) => {
            *missed = true;
            Due::Not
        }
        Err(RecvError::Closed) => Due::Over,
    }
}

async fn serve_methods(
    methods: &'static [Method],
    context: Arc<ApiContext>,
    caller: Caller,
    mut scope: watch::Receiver<Scope>,
    channel: ChannelHandle,
) {
    let ChannelHandle { sender, mut incoming } = channel;
    let mut codex = context.environments.own().codex.state();
    let mut account = context.environments.own().account.subscribe();
    let mut relay = context.relay_key.clone();
    let mut offered = context.awake.offered();
    let mut notices = context.notices.subscribe();
    let mut prompts = context.prompts.changes();
    let mut requests = context.environments.requests();
    let mut attention = context.environments.attention();
    let (asking, mut asked) = Asking::new();
    let mut missed = false;
    let mut running = FuturesUnordered::new();
    loop {
        let sent = tokio::select! {
            message = incoming.recv() => match message {
                Some(Incoming::Message { seq, bytes }) => {
                    let is_busy = running.len() >= MAX_IN_FLIGHT;
                    let (context, caller, asking) = (Arc::clone(&context), caller.clone(), Arc::clone(&asking));
                    let call = Call { context, caller, scope: *scope.borrow(), asking };
                    running.push(answer(methods, call, bytes, is_busy));
                    sender.handled(seq).is_ok()
                }
                Some(Incoming::Closed { .. }) | None => false,
            },
            Some(answer) = running.next() => send(&sender, &answer).await,
            changed = async {
                tokio::select! {
                    changed = codex.changed() => changed.is_ok(),
                    changed = account.changed() => changed.is_ok(),
                    changed = relay.changed() => changed.is_ok(),
                    changed = offered.changed() => changed.is_ok(),
                }
            } => {
                let now = *scope.borrow();
                changed && context.tell(&sender, &caller, now).await
            }
            changed = scope.changed() => {
                let now = *scope.borrow_and_update();
                if now < Scope::Admin {
                    asking.withdraw();
                }
                changed.is_ok() && context.tell(&sender, &caller, now).await
            }
            Some(asked) = asked.recv() => {
                let may = *scope.borrow() >= Scope::Admin;
                !may || send(&sender, &Notice::SshAsked(Box::new(asked))).await
            }
            notice = notices.recv() => {
                let now = *scope.borrow();
                match due(notice, &sender, &mut missed, |notice| now >= notice.needed()) {
                    Due::Now(notice) => send(&sender, &*notice).await,
                    other => other.goes_on(),
                }
            }
            changed = prompts.recv() => {
                match due(changed, &sender, &mut missed, |change| change.entry.key.device_id == caller.device) {
                    Due::Now(change) => send(&sender, &Notice::PromptChanged(Receipt::changed(change))).await,
                    other => other.goes_on(),
                }
            }
            changed = requests.recv() => match due(changed, &sender, &mut missed, |_| true) {
                Due::Now(change) => {
                    let now = *scope.borrow();
                    match context.about_request(change, &caller, now) {
                        Some(notice) => send(&sender, &notice).await,
                        None => true,
                    }
                }
                other => other.goes_on(),
            },
            changed = attention.recv() => match due(changed, &sender, &mut missed, |_| true) {
                Due::Now(change) => send(&sender, &attention::about(change)).await,
                other => other.goes_on(),
            },
            () = sender.writable(BEHIND), if missed => {
                missed = false;
                send(&sender, &Notice::Missed {}).await
            }
        };
        if !sent {
            return;
        }
    }
}

async fn send(sender: &ChannelSender, message: &impl Serialize) -> bool {
    let bytes = serde_json::to_vec(message).expect("what the API says is JSON");
    sender.send(Bytes::from(bytes)).await.is_ok()
}

/// The answer to a message, whatever it is.
async fn answer(methods: &[Method], call: Call, bytes: Bytes, is_busy: bool) -> RpcAnswer {
    let Request { id, method, params } = match Request::parse(&bytes) {
        Ok(request) => request,
        Err((id, error)) => return RpcAnswer::Error { id, error },
    };
    let outcome = match methods.iter().find(|known| known.name == method) {
        _ if is_busy => Err(Refusal::busy()),
        None => Err(Refusal::method()),
        Some(method) if call.scope < method.needed => Err(Refusal::scope(method.name, method.needed, call.scope)),
        Some(method) => (method.run)(call, params).await,
    };
    match outcome {
        Ok(result) => RpcAnswer::Result { id, result },
        Err(error) => RpcAnswer::Error { id, error },
    }
}

fn read<T: DeserializeOwned>(method: &'static str, params: Params<'_>) -> Result<T, Refusal> {
    let text = params.map_or("{}", RawValue::get);
    let mut reader = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| Refusal::params(method, &error))
}

fn written(result: &impl Serialize) -> Outcome {
    Ok(serde_json::value::to_raw_value(result).expect("a result is JSON"))
}

impl<'a> Request<'a> {
    /// The request, or what to answer under which id.
    fn parse(bytes: &'a [u8]) -> Result<Self, (Value, Refusal)> {
        if bytes.len() > MAX_PROMPT {
            return Err((Value::Null, Refusal::too_long(MAX_PROMPT)));
        }
        let is_readable = |request: &Self| request.params.is_none_or(|params| params.get().starts_with('{'));
        let Some(request) = serde_json::from_slice::<Self>(bytes).ok().filter(is_readable) else {
            let unread = unread::requests(bytes).into_iter().next();
            let id = unread.as_ref().and_then(|unread| serde_json::from_str(unread.id.get()).ok());
            let fault = unread.and_then(|unread| unread.fault);
            let words = fault.unwrap_or_else(|| "not a request of this API".to_owned());
            return Err((id.unwrap_or_default(), Refusal::malformed(words)));
        };
        if !request.id.is_u64() && request.id.as_str().is_none_or(|id| id.len() > MAX_ID) {
            let words = format!("an id is a number or a text of at most {MAX_ID} bytes");
            return Err((request.id, Refusal::malformed(words)));
        }
        if bytes.len() > MAX_REQUEST && request.method != LARGE_METHOD {
            return Err((request.id, Refusal::too_long(MAX_REQUEST)));
        }
        Ok(request)
    }
}

impl ApiContext {
    async fn tell(&self, sender: &ChannelSender, caller: &Caller, scope: Scope) -> bool {
        send(sender, &Notice::HostChanged(Box::new(self.host(caller, scope)))).await
    }
}
