//! What `reachback pair`, `devices` and the like ask of the running agent.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reachback_proto::ids::{DeviceId, HostId, RelayId};
use reachback_proto::scope::Scope;
use reachback_proto::words::quote;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::{Mutex, broadcast, mpsc};
use tokio::time::{sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::attention::State;
use super::awake::KeepAwake;
use super::changes::{DeviceChangeError, DeviceChanges};
use super::chatgpt::ChatgptChanges;
use super::codex_requests::{CodexRequests, Taken};
use super::codex_use::CodexChanges;
use super::environments::changes::{Changes, failure, told};
use super::environments::workspaces::Workspaces;
use super::environments::{Environment, Environments};
use super::pairing::{Confirmation, Offer, OfferEvent, OfferOptions, Pairings};
use super::prompts::now_ms;
use super::ssh_hosts::SshHosts;
use super::tunnel::Tunnel;
use super::work::WORK_GOES_ON;
use super::{codex_status, tunnel_status, without_workspace};
use crate::codex::ConnectError;
use crate::firewall::folders::Folders as _;
use crate::local_api::events::Shown;
use crate::local_api::{
    Answer, Confirm, DeviceInfo, Event, Exchange, Failure, Handler, Request, Response, SshAsked, Status, Threads,
};
use crate::ssh::{Person, Question, Secret, UnknownKey};
use crate::state::devices::Device;
use crate::state::timestamp::Timestamp;

/// How long who revokes or pauses a device waits until what it began has ended: Codex takes some milliseconds a thread, and
/// each is looked at until nothing new shows for three seconds.
const ENDING: Duration = Duration::from_secs(10);
/// For so long the relay's answer is waited for, where somebody asks how the agent is.
const ROUND_TRIP: Duration = Duration::from_secs(1);
/// Between two looks at whether it has.
const LOOK: Duration = Duration::from_millis(50);

/// See the module's header.
pub struct OwnerRequests {
    pub(super) host: HostId,
    pub(super) name: String,
    pub(super) relay_url: String,
    pub(super) started_at: Timestamp,
    pub(super) changes: DeviceChanges,
    pub(super) pairings: Arc<Pairings>,
    pub(super) for_codex: Arc<CodexRequests>,
    pub(super) tunnel: Arc<Tunnel>,
    pub(super) environments: Arc<Environments>,
    pub(super) ssh_hosts: Arc<SshHosts>,
    pub(super) awake: Arc<KeepAwake>,
    pub(super) stop_wanted: CancellationToken,
}

/// What a pairing is to be like.
#[derive(Debug, Clone, Copy)]
pub struct PairOptions {
    /// What the device may do; without it, `approve` for the QR code and `steer` for the typed one.
    pub scope: Option<Scope>,
    /// How the person confirms it.
    pub confirm: Confirm,
    /// How long to wait for a device; codes are renewed meanwhile.
    pub patience: Duration,
}

impl OwnerRequests {
    /// Someone asked the agent to stop.
    pub async fn stop_wanted(&self) {
        self.stop_wanted.cancelled().await;
    }

    /// How many devices are paired.
    pub fn device_count(&self) -> usize {
        self.changes.devices.current().devices.len()
    }

    /// Pairs one device, telling events and hearing answers meanwhile.
    pub async fn pair(&self, options: PairOptions, mut exchange: Exchange) -> Result<Device, Failure> {
        let end = Instant::now() + options.patience;
        let defaults = OfferOptions::default();
        loop {
            let offer = self
                .pairings
                .offer(OfferOptions {
                    qr_scope: options.scope.unwrap_or(defaults.qr_scope),
                    code_scope: options.scope.unwrap_or(defaults.code_scope),
                    time: defaults.time.min(end.saturating_duration_since(Instant::now())),
                })
                .await
                .map_err(|error| {
                    Failure::new("pairing_unavailable", error.to_string())
                        .fix("see what the agent says about its relay, and run `reachback pair` again")
                })?;
            if let Some(device) = self.take(offer, options.confirm, &mut exchange).await? {
                return Ok(device);
            }
            if Instant::now() >= end {
                return Err(Failure::new("pairing_expired", "no device came in time").fix("run `reachback pair` again"));
            }
        }
    }

    /// Pairs the device that takes the code that Codex shows.
    async fn pair_waiting(&self, mut exchange: Exchange) -> Result<Device, Failure> {
        let Some(taken) = self.for_codex.take_over().await else {
            return Err(Failure::new("no_pairing_waits", "Codex shows no code that a device could take")
                .fix("have Codex pair, or run `reachback pair` for a code of this host's own"));
        };
        let Taken { offer, waiting, claim } = taken;
        let device = self.see_through(offer, waiting, Confirm::Digits, &mut exchange).await?;
        let device = device
            .ok_or_else(|| Failure::new("pairing_expired", "no device came in time").fix("have Codex pair again"))?;
        claim.made();
        Ok(device)
    }

    /// Shows one offer and sees it through; `None` when it ran out and another one is due.
    async fn take(&self, offer: Offer, confirm: Confirm, exchange: &mut Exchange) -> Result<Option<Device>, Failure> {
        let left = offer.until.saturating_duration_since(Instant::now());
        let shown = Event::Pairing {
            url: Shown(offer.url.to_string()),
            code: Shown(offer.code.to_string()),
            expires_at: Timestamp::now().after(left),
        };
        tell(&exchange.events, shown).await?;
        self.see_through(offer, None, confirm, exchange).await
    }

    /// Sees an offer through that somebody shows, of which `first` has happened; `None` when it ran out.
    async fn see_through(
        &self,
        mut offer: Offer,
        mut first: Option<OfferEvent>,
        confirm: Confirm,
        exchange: &mut Exchange,
    ) -> Result<Option<Device>, Failure> {
        let until = offer.until;
        loop {
            let event = match first.take() {
                Some(first) => Some(first),
                None => tokio::select! {
                    event = offer.events.recv() => event,
                    () = sleep_until(until.into()) => return Ok(None),
                },
            };
            match event {
                Some(OfferEvent::DeviceWaits { name, platform, scope, mut answer }) => {
                    let word = match confirm {
                        Confirm::None => Confirmation::WithoutDigits,
                        Confirm::Digits => {
                            let wanted = Event::PairingDigitsWanted {
                                name: name.as_str().to_owned(),
                                platform: platform.as_str().to_owned(),
                                scope,
                            };
                            // What was said of a device that gave up meanwhile.
                            while exchange.answers.try_recv().is_ok() {}
                            tell(&exchange.events, wanted).await?;
                            tokio::select! {
                                said = timeout_at(until.into(), exchange.answers.recv()) => match said {
                                    Ok(Some(Answer::Digits { digits, scope })) => {
                                        Confirmation::Digits { typed: digits.0, scope }
                                    }
                                    Ok(_) => Confirmation::Decline,
                                    Err(_) => return Ok(None),
                                },
                                // It gave up: what comes next says so.
                                () = answer.closed() => continue,
                            }
                        }
                    };
                    let _ = answer.send(word);
                }
                Some(OfferEvent::Failed { reason }) => {
                    let failure =
                        Failure::new("pairing_failed", reason).fix("the code still works: try again on the device");
                    tell(&exchange.events, Event::Error(failure)).await?;
                }
                Some(OfferEvent::Paired(device)) => {
                    let (device_id, name, scope) = (device.device_id, device.name.clone(), device.scope);
                    let paired = Event::Paired { device_id, name, scope };
                    self.changes.events.send(paired.clone());
                    tell(&exchange.events, paired).await?;
                    return Ok(Some(*device));
                }
                Some(OfferEvent::TooManyFailures) | None => {
                    return Err(Failure::new(
                        "pairing_closed",
                        "too many tries with a wrong code: someone may be guessing",
                    )
                    .fix("run `reachback pair` again when you are ready"));
                }
            }
        }
    }

    fn device(&self, query: &str) -> Result<Device, Failure> {
        let list = self.changes.devices.current();
        let found = list.find(query).cloned();
        found.map_err(|error| Failure::new("no_such_device", error.to_string()).fix("`reachback devices` lists them"))
    }

    async fn revoke(&self, query: &str, exchange: &Exchange) -> Result<Response, Failure> {
        let id = self.device(query)?.device_id;
        let heard = self.changes.events.subscribe();
        let device = self.changes.revoke(id, None).await?;
        self.work_ends(|device| device == id, heard, exchange).await;
        Ok(Response::Device(DeviceInfo::new(&device, false)))
    }

    /// Tells what is ended of what devices began, until nothing of it is left, or Codex takes too long.
    async fn work_ends(
        &self,
        is_meant: impl Fn(DeviceId) -> bool,
        mut heard: broadcast::Receiver<Event>,
        exchange: &Exchange,
    ) {
        let has_work = || {
            let ids = self
                .environments
                .all()
                .into_iter()
                .flat_map(|environment| environment.work.of(&environment.name, &is_meant));
            ids.count() > 0
        };
        let end = Instant::now() + ENDING;
        loop {
            // Looked at first: what is ended is told before it is forgotten.
            let is_over = !has_work();
            let event = match heard.try_recv() {
                Ok(event) => event,
                Err(TryRecvError::Lagged(_)) => continue,
                Err(TryRecvError::Closed) => return,
                Err(TryRecvError::Empty) if is_over => return,
                Err(TryRecvError::Empty) if Instant::now() < end => {
                    sleep(LOOK).await;
                    continue;
                }
                Err(TryRecvError::Empty) => {
                    let notice = Failure::new("work_not_ended", "what was begun from there could not all be ended yet")
                        .fix("the agent goes on trying, also after a restart; `reachback audit` says what it ended");
                    let _ = exchange.events.send(Event::Notice(notice)).await;
                    return;
                }
            };
            let is_about_it = match &event {
                Event::WorkEnded { device_id, .. } => is_meant(*device_id),
                Event::Notice(failure) => failure.code == WORK_GOES_ON,
                _ => false,
            };
            // Who asked may be gone: it is done all the same.
            if is_about_it && exchange.events.send(event).await.is_err() {
                return;
            }
        }
    }

    fn set_scope(&self, query: &str, scope: Scope) -> Result<Response, Failure> {
        let device = self.changes.set_scope(self.device(query)?.device_id, scope, None)?;
        Ok(Response::Device(DeviceInfo::new(&device, self.is_connected(device.device_id))))
    }

    async fn pause(&self, query: Option<&str>, on: bool, exchange: &Exchange) -> Result<Response, Failure> {
        let id = query.map(|query| self.device(query).map(|device| device.device_id)).transpose()?;
        let heard = self.changes.events.subscribe();
        self.changes.pause(id, on, None).await?;
        if on {
            self.work_ends(|device| id.is_none_or(|id| id == device), heard, exchange).await;
        }
        Ok(Response::Done)
    }

    fn list(&self) -> Response {
        let list = self.changes.devices.current();
        let devices = list.devices.iter().map(|device| DeviceInfo::new(device, self.is_connected(device.device_id)));
        Response::Devices { paused: list.paused, devices: devices.collect() }
    }

    async fn status(&self) -> Response {
        let round_trip = self.tunnel.round_trip(ROUND_TRIP).await;
        let own = self.environments.own();
        let list = self.changes.devices.current();
        let connected = self.changes.sessions.presence().into_iter().filter(|(_, up)| *up).map(|(id, _)| id).collect();
        Response::Status(Box::new(Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            started_at: self.started_at,
            host_id: self.host,
            host_name: self.name.clone(),
            relay_url: Some(self.relay_url.clone()),
            fingerprint: self.tunnel.relay_key().borrow().as_ref().map(RelayId::of),
            tunnel: tunnel_status(&self.tunnel.state().borrow()),
            codex: Some(codex_status(own, &own.codex.state().borrow())),
            ssh_hosts: self
                .environments
                .all()
                .iter()
                .skip(1)
                .map(|environment| codex_status(environment, &environment.codex.state().borrow()))
                .collect(),
            codex_use: own
                .redirect
                .as_ref()
                .map(|redirect| redirect.status())
                .filter(|now| now.wanted || now.leads_here),
            awake: Some(self.awake.last_seen()).filter(|now| now.on),
            devices: list.devices.len(),
            connected,
            paused: list.paused,
            round_trip_us: round_trip.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
            threads: self.threads(),
            last_errors: self.changes.events.past(),
            withheld: self.environments.withheld().count(),
        }))
    }

    /// What Codex does, in all environments.
    fn threads(&self) -> Threads {
        let mut threads = Threads::default();
        for environment in self.environments.all() {
            for entry in environment.attention.list(now_ms()) {
                match entry.state {
                    State::Running => threads.running += 1,
                    State::WaitingOnApproval | State::WaitingOnAnswer => threads.waiting += 1,
                    State::Done | State::Failed | State::Interrupted => {}
                }
            }
        }
        threads
    }

    async fn withheld(&self, exchange: &Exchange) -> Result<Response, Failure> {
        for text in self.environments.withheld().last() {
            tell(&exchange.events, Event::Withheld(text)).await?;
        }
        Ok(Response::Done)
    }

    async fn workspaces(&self, exchange: &Exchange) -> Result<Response, Failure> {
        for environment in self.environments.all() {
            environment.workspaces.look_at([]).await;
            for workspace in told(&environment.workspaces) {
                tell(&exchange.events, Event::Workspace(workspace)).await?;
            }
        }
        Ok(Response::Done)
    }

    async fn add_workspace(&self, environment: Option<&str>, path: &str) -> Result<Response, Failure> {
        let environment = self.environment(environment)?;
        let workspaces = &environment.workspaces;
        workspaces.disk().reach().await.map_err(|error| unreached(&environment, &error))?;
        let path = self.named(workspaces, path).await;
        let opened = self.folder_changes(workspaces).open(&path, Timestamp::now());
        let opened = opened.map_err(|error| failure(error, &workspaces.option()))?;
        self.changes.events.send(Event::WorkspaceAdded(opened.clone()));
        Ok(Response::Workspace(opened))
    }

    async fn remove_workspace(&self, environment: Option<&str>, path: &str) -> Result<Response, Failure> {
        let environment = self.environment(environment)?;
        let workspaces = &environment.workspaces;
        // Closed also where the machine can't be reached.
        let path = self.named(workspaces, path).await;
        let closed = self.folder_changes(workspaces).close(&path, Timestamp::now());
        let closed = closed.map_err(|error| failure(error, &workspaces.option()))?;
        self.changes.events.send(Event::WorkspaceRemoved(closed.clone()));
        if let Some(notice) = without_workspace(&self.environments) {
            self.changes.events.send(notice);
        }
        Ok(Response::Workspace(closed))
    }

    fn environment(&self, name: Option<&str>) -> Result<Arc<Environment>, Failure> {
        let Some(name) = name else { return Ok(Arc::clone(self.environments.own())) };
        self.environments.find(name).ok_or_else(|| {
            let names: Vec<_> = self.environments.all().iter().map(|environment| quote(&environment.name)).collect();
            let message = format!("this host has no environment {}; it has: {}", quote(name), names.join(", "));
            Failure::new("no_such_environment", message).fix("add an SSH host: reachback ssh add NAME")
        })
    }

    /// What a path means that the owner typed, looked at: on another machine it may be one below the home folder there.
    async fn named(&self, workspaces: &Workspaces, path: &str) -> PathBuf {
        workspaces.look_at([]).await;
        let home = workspaces.disk().surroundings().ok().and_then(|surroundings| surroundings.home.clone());
        let below = match path {
            "~" => "",
            path => path.strip_prefix("~/").unwrap_or(path),
        };
        let path = home.map_or_else(|| PathBuf::from(path), |home| home.join(below));
        workspaces.look_at([path.clone()]).await;
        if let Some(real) = workspaces.disk().real(&path) {
            workspaces.look_at([real.path]).await;
        }
        path
    }

    fn folder_changes<'a>(&'a self, workspaces: &'a Workspaces) -> Changes<'a> {
        Changes { workspaces, audit: &self.changes.audit }
    }

    fn codex_changes(&self) -> CodexChanges<'_> {
        CodexChanges { environment: self.environments.own(), events: &self.changes.events }
    }

    fn chatgpt(&self) -> ChatgptChanges<'_> {
        ChatgptChanges { environment: self.environments.own(), audit: &self.changes.audit }
    }

    async fn awake(&self, on: Option<bool>) -> Result<Response, Failure> {
        let Some(on) = on else { return Ok(Response::Awake(self.awake.look().await)) };
        Ok(Response::Awake(self.awake.set(on, None, &self.changes.audit).await?))
    }

    fn is_connected(&self, device: DeviceId) -> bool {
        self.changes.sessions.presence().get(&device).copied().unwrap_or(false)
    }
}

/// Whoever runs a command that hears what is asked.
struct AtTheCommand(Mutex<Exchange>);

impl AtTheCommand {
    async fn ask(&self, asked: SshAsked) -> Option<Answer> {
        let mut exchange = self.0.lock().await;
        tell(&exchange.events, Event::SshAsked(asked)).await.ok()?;
        exchange.answers.recv().await
    }
}

impl Person for AtTheCommand {
    fn trusts(&self, key: UnknownKey) -> BoxFuture<'_, bool> {
        let UnknownKey { host, kind, fingerprint, other } = key;
        let asked = SshAsked::Trust { host, kind, fingerprint, other };
        async move { self.ask(asked).await == Some(Answer::Trusted) }.boxed()
    }

    fn answers(&self, question: Question) -> BoxFuture<'_, Option<Secret>> {
        let asked = match question {
            Question::Passphrase { file } => SshAsked::Passphrase { file },
            Question::Password { at } => SshAsked::Password { at },
            Question::Server { at, words, echo } => SshAsked::Answer { at, words, echo },
        };
        async move {
            match self.ask(asked).await? {
                Answer::Typed { text } => Some(Secret::new(text.0)),
                _ => None,
            }
        }
        .boxed()
    }
}

impl Handler for OwnerRequests {
    async fn handle(&self, request: Request, exchange: Exchange) -> Result<Response, Failure> {
        match request {
            Request::Status => Ok(self.status().await),
            Request::Withheld => self.withheld(&exchange).await,
            Request::Devices => Ok(self.list()),
            Request::Revoke { device } => self.revoke(&device, &exchange).await,
            Request::SetScope { device, scope } => self.set_scope(&device, scope),
            Request::Pause { device, on } => self.pause(device.as_deref(), on, &exchange).await,
            Request::Workspaces => self.workspaces(&exchange).await,
            Request::AddWorkspace { environment, path } => self.add_workspace(environment.as_deref(), &path).await,
            Request::RemoveWorkspace { environment, path } => {
                self.remove_workspace(environment.as_deref(), &path).await
            }
            Request::AddSshHost { alias } => Ok(Response::SshHost(self.ssh_hosts.add(&alias, None).await?)),
            Request::RemoveSshHost { alias } => Ok(Response::SshHost(self.ssh_hosts.remove(&alias, None).await?)),
            Request::AskDevices { alias, on } => {
                Ok(Response::SshAsksDevices(self.ssh_hosts.ask_devices(&alias, on).await?))
            }
            Request::LoginSshHost { alias } => {
                let person = Arc::new(AtTheCommand(Mutex::new(exchange)));
                Ok(Response::SshConnected(self.ssh_hosts.log_in(&alias, person).await?))
            }
            Request::Pair { scope, confirm, ttl_seconds } => {
                let patience = Duration::from_secs(ttl_seconds.into());
                let device = self.pair(PairOptions { scope, confirm, patience }, exchange).await?;
                Ok(Response::Device(DeviceInfo::new(&device, false)))
            }
            Request::UseCodex { codex_home } => self.codex_changes().lead_here(codex_home.as_deref()).await,
            Request::RestoreCodex => self.codex_changes().restore(),
            Request::ChatgptPair { ttl_seconds } => {
                self.chatgpt().pair(Duration::from_secs(ttl_seconds.into()), &exchange).await
            }
            Request::ChatgptDevices => self.chatgpt().devices(&exchange).await,
            Request::ChatgptRevoke { device } => self.chatgpt().revoke(&device).await,
            Request::ChatgptOff => self.chatgpt().turn_off().await,
            Request::Awake { on } => self.awake(on).await,
            Request::PairWaiting => {
                let device = self.pair_waiting(exchange).await?;
                Ok(Response::Device(DeviceInfo::new(&device, false)))
            }
            Request::Stop => {
                self.stop_wanted.cancel();
                Ok(Response::Done)
            }
        }
    }
}

/// Why the folders of an environment can't be looked at.
fn unreached(environment: &Environment, error: &ConnectError) -> Failure {
    let message = format!("{} can't be looked at: {error}", quote(&environment.name));
    let failure = Failure::new("workspace_unseen", message);
    match error {
        ConnectError::Failed { fix: Some(fix), .. } => failure.fix(fix.clone()),
        _ => failure.fix("try again in a moment"),
    }
}

async fn tell(events: &mpsc::Sender<Event>, event: Event) -> Result<(), Failure> {
    events.send(event).await.map_err(|_| Failure::new("gone", "whoever asked is gone"))
}

impl From<DeviceChangeError> for Failure {
    fn from(error: DeviceChangeError) -> Self {
        let message = error.to_string();
        match error {
            DeviceChangeError::Audit(_) => {
                Self::new("audit", message).fix("make room on the disk: nothing is given without a trace")
            }
            DeviceChangeError::Change(_) => Self::new("not_changed", message),
        }
    }
}
