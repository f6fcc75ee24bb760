//! SSH hosts: machines of this host's SSH configuration that are environments of it.
//!
//! The owner adds them by their names. Devices then see each as an environment `ssh:NAME`, beside the host's own; it is
//! connected when one of them wants to work there, and let go when nobody has for a while and nothing runs there that the agent
//! would hear of. Where a machine asks a person for something, the owner logs in at the host, or has devices asked ([`logins`]).

pub(crate) mod logins;

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use reachback_proto::frame::MAX_ENVIRONMENT;
use reachback_proto::ids::DeviceId;
use reachback_proto::words::{quote, shell_word};
use reachback_relay::vital::Vital;
use ring::rand::SystemRandom;
use tokio::sync::{Mutex, watch};
use tokio::time::{MissedTickBehavior, interval};

use self::logins::Logins;
use super::Shared;
use super::api::{EnvironmentInfo, EnvironmentRemoved, Notice, Notices};
#[cfg(test)]
use super::changes::DeviceChanges;
#[cfg(test)]
use super::environments::Environments;
use super::environments::{Environment, SSH};
use super::prompts::now_ms;
use super::tunnel::TunnelState;
use crate::audit::{AuditError, AuditLog, CodexChange, CodexEntry};
use crate::codex::permissions::Profiles;
use crate::codex::{CodexConfig, ConnectError, Silence};
use crate::local_api::{Event, Failure, SshAsksDevices, SshChecked, SshEnvironment};
use crate::ssh::{About, Connection, Discovery, Listing, Person, SshBackend};
use crate::state::ssh_hosts::{SshHostError, SshHostStore};
use crate::state::timestamp::Timestamp;

/// When a machine that nobody needs is let go: its connection ends, and what runs there goes on.
#[derive(Debug, Clone, Copy)]
pub struct Rest {
    /// Nobody wanted it for so long.
    pub after: Duration,
    /// Between two looks at whether that is so.
    pub look: Duration,
}

impl Default for Rest {
    /// Ten minutes, and a look each 15 s.
    fn default() -> Self {
        Self { after: Duration::from_secs(10 * 60), look: Duration::from_secs(15) }
    }
}

/// The agent's own connection, see [`super::environments::keeper`].
const OWN: usize = 1;

/// What `reachback ssh add`, `ask-devices` and `remove` do with the list: recorded, and told in the words of the public format.
///
/// The running agent does it, and publishes what is on the list; without an agent the command does the same on the files, under
/// the home's lock.
#[derive(Debug, Clone, Copy)]
pub struct SshHostChanges<'a> {
    /// The list.
    pub store: &'a SshHostStore,
    /// Where changes are recorded.
    pub audit: &'a AuditLog,
}

/// The list was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SshChangeError {
    /// There is one already.
    #[error("{} is an SSH host of this host already", quote(alias))]
    Already {
        /// The machine.
        alias: String,
    },
    /// There is none.
    #[error("{} is no SSH host of this host", quote(alias))]
    Unknown {
        /// The machine.
        alias: String,
    },
    /// Its name is too long to be said to devices.
    #[error("a name of more than {} bytes can't be said to devices", MAX_ENVIRONMENT - SSH.len())]
    TooLong,
    /// It could not be recorded.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The list could not be changed, or not be written.
    #[error(transparent)]
    Store(#[from] SshHostError),
}

impl SshHostChanges<'_> {
    /// Makes a machine an environment of this host.
    pub fn add(self, alias: &str, by: Option<DeviceId>, now: Timestamp) -> Result<SshEnvironment, SshChangeError> {
        if SSH.len() + alias.len() > MAX_ENVIRONMENT {
            return Err(SshChangeError::TooLong);
        }
        if self.store.current().has(alias) {
            return Err(SshChangeError::Already { alias: alias.to_owned() });
        }
        let told = told(alias);
        // What gives is written first, or not done.
        self.audit.write_codex(&entry(&told, CodexChange::SshHostAdded, by, now))?;
        self.store.add(alias, now)?;
        Ok(told)
    }

    /// Has devices asked what a machine asks for beside a key, or not. Only the owner says so.
    pub fn ask_devices(self, alias: &str, on: bool, now: Timestamp) -> Result<SshAsksDevices, SshChangeError> {
        if !self.store.current().has(alias) {
            return Err(SshChangeError::Unknown { alias: alias.to_owned() });
        }
        let SshEnvironment { alias, environment } = told(alias);
        let event = if on { CodexChange::SshCodesOn } else { CodexChange::SshCodesOff };
        let entry = CodexEntry { at: now, event, environment: environment.clone(), by: None };
        if on {
            self.audit.write_codex(&entry)?;
            self.store.set_asks_devices(&alias, on)?;
        } else {
            let taken = self.store.set_asks_devices(&alias, on);
            self.audit.holds_anyway(self.audit.write_codex(&entry));
            taken?;
        }
        Ok(SshAsksDevices { alias, environment, on })
    }

    /// Takes a machine back.
    pub fn remove(self, alias: &str, by: Option<DeviceId>, now: Timestamp) -> Result<SshEnvironment, SshChangeError> {
        if !self.store.current().has(alias) {
            return Err(SshChangeError::Unknown { alias: alias.to_owned() });
        }
        let told = told(alias);
        // What takes away is done first, whether or not it can be written.
        let removed = self.store.remove(alias);
        self.audit.holds_anyway(self.audit.write_codex(&entry(&told, CodexChange::SshHostRemoved, by, now)));
        removed?;
        Ok(told)
    }
}

fn told(alias: &str) -> SshEnvironment {
    SshEnvironment { alias: alias.to_owned(), environment: format!("{SSH}{alias}") }
}

fn entry(told: &SshEnvironment, event: CodexChange, by: Option<DeviceId>, at: Timestamp) -> CodexEntry {
    CodexEntry { at, event, environment: told.environment.clone(), by }
}

impl From<SshChangeError> for Failure {
    fn from(error: SshChangeError) -> Self {
        let message = error.to_string();
        let list = "`reachback ssh list` shows which are".to_owned();
        let (code, fix) = match error {
            SshChangeError::Already { alias } => {
                ("ssh_already", format!("nothing to do; to take it back: reachback ssh remove {}", shell_word(alias)))
            }
            SshChangeError::Unknown { .. } => ("ssh_unknown_name", list),
            SshChangeError::TooLong => {
                ("ssh_name_too_long", "give it a shorter name in the SSH configuration".to_owned())
            }
            SshChangeError::Audit(_) => ("audit", "make room on the disk: nothing is given without a trace".to_owned()),
            SshChangeError::Store(SshHostError::Full) => {
                ("ssh_too_many", "take one back: reachback ssh remove NAME".to_owned())
            }
            SshChangeError::Store(SshHostError::File(_)) => {
                ("not_changed", "see to that file, and try again".to_owned())
            }
        };
        Self::new(code, message).fix(fix)
    }
}

/// See the module's header.
pub(crate) struct SshHosts {
    /// `None` where there is no `ssh` that could say what names mean.
    discovery: Option<Arc<Discovery>>,
    rest: Rest,
    store: SshHostStore,
    shared: Shared,
    vital: Vital,
    notices: Notices,
    /// What reaches each of them.
    backends: std::sync::Mutex<HashMap<String, Weak<SshBackend>>>,
    /// One change at a time.
    changing: Mutex<()>,
    logins: Logins,
}

impl SshHosts {
    /// Publishes the machines of the list.
    pub(super) fn start(
        (discovery, rest): (Option<Arc<Discovery>>, Rest),
        store: SshHostStore,
        shared: Shared,
        vital: Vital,
        notices: Notices,
    ) -> Self {
        let (backends, changing, logins) = Default::default();
        let hosts = Self { discovery, rest, store, shared, vital, notices, backends, changing, logins };
        for host in &hosts.store.current().hosts {
            if let Err(failure) = hosts.publish(&host.alias) {
                hosts.shared.events.send(Event::Error(failure));
            }
        }
        hosts
    }

    /// None, on a host without `ssh`.
    #[cfg(test)]
    pub(crate) fn none(home: &std::path::Path, environments: &Arc<Environments>, changes: &DeviceChanges) -> Arc<Self> {
        use super::awake::KeepAwake;
        use crate::platform::awake::Machine;
        let DeviceChanges { devices, sessions, audit, events } = changes;
        let shared = Shared {
            devices: Arc::clone(devices),
            audit: Arc::clone(audit),
            environments: Arc::clone(environments),
            sessions: Arc::clone(sessions),
            awake: Arc::new(KeepAwake::open(home, Machine::this()).unwrap()),
            events: events.clone(),
        };
        let store = SshHostStore::open(home).unwrap();
        Arc::new(Self::start((None, Rest::default()), store, shared, Vital::default(), Notices::default()))
    }

    /// All machines that the configuration names.
    pub(super) async fn listing(&self) -> Result<Arc<Listing>, Failure> {
        let listing = self.discovery()?.list().await;
        listing.map_err(|error| {
            let fix = error.fix();
            // With the system's reason.
            Failure::new("ssh_config", format!("{:#}", anyhow::Error::from(error))).fix(fix)
        })
    }

    /// The environment that a machine is, where it was added.
    pub(super) fn added(&self, alias: &str) -> Option<String> {
        self.store.current().has(alias).then(|| told(alias).environment)
    }

    /// Makes a machine an environment of this host, from now on; by a device, or the owner at the host.
    pub(super) async fn add(&self, alias: &str, by: Option<DeviceId>) -> Result<SshEnvironment, Failure> {
        let _changing = self.changing.lock().await;
        let discovery = self.discovery()?;
        if !discovery.names(alias) {
            return Err(unknown(discovery, alias));
        }
        let added = self.changes().add(alias, by, Timestamp::now())?;
        self.publish(alias)?;
        self.shared.events.send(Event::SshAdded(added.clone()));
        Ok(added)
    }

    /// Takes a machine back: what devices have open there ends, what runs there goes on.
    pub(super) async fn remove(&self, alias: &str, by: Option<DeviceId>) -> Result<SshEnvironment, Failure> {
        let _changing = self.changing.lock().await;
        let removed = self.changes().remove(alias, by, Timestamp::now());
        self.logins.withdraw(alias);
        // Also where it could not be written.
        if !self.store.current().has(alias)
            && let Some(environment) = self.shared.environments.withdraw(&format!("{SSH}{alias}")).await
        {
            // Whoever adds it again may mean another machine.
            if let Err(error) = environment.workspaces.forget() {
                tracing::error!(%error, "the folders of an SSH host that was taken back are still on the disk's list");
            }
            let name = environment.name.clone();
            self.notices.tell(Notice::EnvironmentRemoved(EnvironmentRemoved { name }));
        }
        let removed = removed?;
        self.shared.events.send(Event::SshRemoved(removed.clone()));
        Ok(removed)
    }

    /// Has devices asked what a machine asks for, or not; by the owner's word alone.
    pub(super) async fn ask_devices(&self, alias: &str, on: bool) -> Result<SshAsksDevices, Failure> {
        let _changing = self.changing.lock().await;
        let said = self.changes().ask_devices(alias, on, Timestamp::now());
        if !self.asks_devices(alias) {
            self.logins.withdraw(alias);
        }
        let said = said?;
        self.shared.events.send(Event::SshAsksDevices(said.clone()));
        Ok(said)
    }

    /// Connects to a machine with somebody who is asked, and goes on with that connection; waits until Codex can be reached there.
    pub(super) async fn log_in(&self, alias: &str, person: Arc<dyn Person>) -> Result<SshChecked, Failure> {
        let discovery = self.discovery()?;
        let backend = self.backends().get(alias).and_then(Weak::upgrade);
        let Some(backend) = backend.filter(|_| self.store.current().has(alias)) else {
            let message = SshChangeError::Unknown { alias: alias.to_owned() }.to_string();
            let fix = format!("make it one: reachback ssh add {}", shell_word(alias));
            return Err(Failure::new("ssh_unknown_name", message).fix(fix));
        };
        let connection = connect(discovery, alias, &person).await?;
        let About { user, fingerprint, by } = connection.about().clone();
        backend.take(connection).await.map_err(|error| not_there(alias, error))?;
        Ok(SshChecked { alias: alias.to_owned(), user, fingerprint, by })
    }

    /// Probes them each time the tunnel is there: a way to the relay that had to be made anew is no sign that theirs are good.
    /// Ends with the tunnel.
    pub(super) async fn probe_with(self: Arc<Self>, mut tunnel: watch::Receiver<TunnelState>) {
        while tunnel.changed().await.is_ok() {
            if matches!(*tunnel.borrow_and_update(), TunnelState::Connected { .. }) {
                self.probe();
            }
        }
    }

    /// The way to each of them may be gone, and nobody has said so: this machine slept, or its network is another one.
    pub(super) fn probe(&self) {
        self.backends().values().filter_map(Weak::upgrade).for_each(|backend| backend.probe());
    }

    fn backends(&self) -> MutexGuard<'_, HashMap<String, Weak<SshBackend>>> {
        self.backends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changes(&self) -> SshHostChanges<'_> {
        SshHostChanges { store: &self.store, audit: &self.shared.audit }
    }

    fn discovery(&self) -> Result<&Arc<Discovery>, Failure> {
        self.discovery.as_ref().ok_or_else(|| {
            let message =
                "there is no `ssh` on this computer's search path, which says what the names of machines mean";
            Failure::new("ssh_missing", message).fix("install the OpenSSH client, and start the agent again")
        })
    }

    fn publish(&self, alias: &str) -> Result<(), Failure> {
        let settings = CodexConfig::default().settings();
        let backend = SshBackend::new(Arc::clone(self.discovery()?), alias, settings, Silence::default());
        let backend = Arc::new(backend);
        self.backends().insert(alias.to_owned(), Arc::downgrade(&backend));
        let profiles = Profiles::new(&SystemRandom::new(), Vec::new(), None)
            .map_err(|error| Failure::new("randomness", error.to_string()))?;
        let environment =
            Arc::new(self.shared.environments.over_ssh(alias, Arc::clone(&backend) as _, backend.disk(), profiles));
        let mut watchers: Vec<_> =
            self.shared.watch_environment(&self.vital, &environment, &self.notices).into_iter().collect();
        let resting = rest_when_idle(Arc::clone(&environment), backend, self.rest);
        watchers.push(self.vital.spawn("what lets SSH hosts go that nobody needs", resting));
        if self.shared.environments.publish(Arc::clone(&environment), watchers) {
            self.notices.tell(Notice::EnvironmentChanged(EnvironmentInfo::of(&environment)));
        }
        Ok(())
    }
}

/// A connection to a machine, with somebody who can be asked.
pub async fn connect(discovery: &Discovery, alias: &str, person: &Arc<dyn Person>) -> Result<Connection, Failure> {
    let connected = discovery.connect(alias, person).await;
    let connected = connected.map_err(|error| Failure::new(error.code(), error.to_string()).fix(error.fix(alias)))?;
    connected.ok_or_else(|| unknown(discovery, alias))
}

/// Why Codex can't be reached on a machine that let one in.
fn not_there(alias: &str, error: ConnectError) -> Failure {
    let told = |reason: String, fix: Option<String>| {
        let failure = Failure::new("codex_unavailable", format!("{} let this computer in, but {reason}", quote(alias)));
        Failure { fix, ..failure }
    };
    match error {
        ConnectError::Failed { reason, fix } => told(reason, fix),
        other => told(other.to_string(), Some(format!("see how it is: reachback ssh check {}", shell_word(alias)))),
    }
}

/// A name that the configuration does not have.
pub fn unknown(discovery: &Discovery, alias: &str) -> Failure {
    let message = format!("{} is no machine that {} names", quote(alias), quote(discovery.config().display()));
    Failure::new("ssh_unknown_name", message).fix("see which it names: reachback ssh list")
}

/// Lets a machine go that nobody has wanted for a while, and where nothing runs or waits.
async fn rest_when_idle(environment: Arc<Environment>, backend: Arc<SshBackend>, rest: Rest) {
    let mut looks = interval(rest.look);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let is_needed = backend.clients() > OWN
            || backend.unwanted_for() < rest.after
            || environment.attention.list(now_ms()).iter().any(|entry| !entry.state.is_end());
        if !is_needed {
            backend.rest();
        }
    }
}
