//! Where devices work: each environment is a Codex on some machine, and the folders there.
//!
//! A channel names its environment when it is opened; what a device may do in
//! it is decided with that environment's own ceiling, workspaces and profiles.
//! `local` is the host itself; `ssh:devbox` is a machine that it reaches over SSH.

pub mod account;
pub mod changes;
pub mod chatgpt_remote;
pub mod folders;
pub(crate) mod keeper;
pub(crate) mod live_text;
pub mod troubles;
pub mod workspaces;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reachback_proto::frame::LOCAL_ENVIRONMENT;
use reachback_proto::scope::Scope;
use tokio::sync::{broadcast, watch};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::attention::{self, Attention};
use super::requests::{self, Change, Requests};
use super::withheld::WithheldTexts;
use crate::codex::ground::Ground;
use crate::codex::permissions::Profiles;
use crate::codex::remote_control::redirect::Redirect;
use crate::codex::{Adapter, Allowance, CodexBackend, CodexConnection, CodexState, ConnectError, Instance, StartedBy};
use crate::disk::{Disk, LocalDisk, Surroundings};
use crate::firewall::Policy;
use crate::firewall::ceiling::Ceiling;
use crate::firewall::kept::Kept;
use crate::firewall::providers::Providers;
use crate::state::work::WorkStore;
use crate::state::workspaces::WorkspaceStore;
use account::CodexAccount;
use chatgpt_remote::CodexChatgptRemote;
use live_text::LiveText;
use troubles::Troubles;
use workspaces::Workspaces;

/// How the names of environments on machines begin that are reached over SSH; the rest is the machine's in the SSH configuration.
pub const SSH: &str = "ssh:";

/// How long a device waits for the agent to have been there first; an `initialize` takes milliseconds.
const INTRODUCTION: Duration = Duration::from_secs(5);

/// One Codex, and what devices may choose there.
pub struct Environment {
    /// What channels, events and the audit log call it.
    pub name: String,
    /// Its Codex.
    pub codex: Arc<dyn CodexBackend>,
    /// Whether Codex's configuration leads to the agent; `None` where it never does.
    pub redirect: Option<Arc<Redirect>>,
    /// What the owner lets devices choose.
    pub ceiling: Arc<Ceiling>,
    /// Where devices may work.
    pub workspaces: Arc<Workspaces>,
    /// What their threads may read and write there.
    pub profiles: Arc<Profiles>,
    /// Threads that stay loaded there.
    pub kept: Arc<Kept>,
    /// Where prompts of devices may go there.
    pub providers: Arc<Providers>,
    /// Whether it is signed in.
    pub account: CodexAccount,
    /// Whether OpenAI's remote control is on there.
    pub chatgpt_remote: CodexChatgptRemote,
    /// What is wrong with it although it answers.
    pub troubles: Troubles,
    /// What devices began there.
    pub work: Arc<WorkStore>,
    /// What devices were not told, here and elsewhere.
    pub(crate) withheld: Arc<WithheldTexts>,
    /// What it asks.
    pub requests: Arc<Requests>,
    /// Which of its threads run, want somebody, or have ended since.
    pub attention: Arc<Attention>,
    /// The text so far of what is being written there.
    pub(crate) live_text: Arc<LiveText>,
    /// How far the agent is with the run of its server.
    met: watch::Sender<Option<Met>>,
}

/// A run of a server that knows the agent by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Met {
    instance: Instance,
    /// Whether the agent follows what was in a turn already, so that devices that may not load anything can.
    has_looked: bool,
}

/// What devices may do in an environment, and have done.
struct Rules {
    ceiling: Arc<Ceiling>,
    workspaces: Arc<Workspaces>,
    profiles: Arc<Profiles>,
    work: Arc<WorkStore>,
    withheld: Arc<WithheldTexts>,
}

impl Environment {
    fn new(
        name: &str,
        codex: Arc<dyn CodexBackend>,
        rules: Rules,
        (requests, attention): (broadcast::Sender<Change>, broadcast::Sender<attention::Change>),
    ) -> Self {
        let Rules { ceiling, workspaces, profiles, work, withheld } = rules;
        Self {
            name: name.to_owned(),
            codex,
            redirect: None,
            ceiling,
            workspaces,
            profiles,
            kept: Arc::default(),
            providers: Arc::default(),
            account: CodexAccount::default(),
            chatgpt_remote: CodexChatgptRemote::default(),
            troubles: Troubles::default(),
            work,
            withheld,
            requests: Arc::new(Requests::new(name, requests)),
            attention: Arc::new(Attention::new(name, attention)),
            live_text: Arc::default(),
            met: watch::Sender::new(None),
        }
    }

    /// A new connection for a device. The server is called by the name of its first client: the agent goes first, and looks what
    /// runs there.
    pub async fn connect(&self, allowance: Allowance) -> Result<CodexConnection, ConnectError> {
        let connection = self.codex.connect(allowance).await?;
        let mut met = self.met.subscribe();
        let is_known = |met: &Met| met.instance == connection.instance;
        let has_looked = met.wait_for(|met| met.is_some_and(|met| is_known(&met) && met.has_looked));
        if timeout(INTRODUCTION, has_looked).await.is_err() && !self.met.borrow().as_ref().is_some_and(is_known) {
            tracing::warn!(
                environment = self.name,
                "codex may be called by a device's name: the agent could not go first"
            );
        }
        Ok(connection)
    }
}

impl Environment {
    /// What a device with this scope has here.
    pub fn scope(&self, scope: Scope) -> Scope {
        scope.min(self.max_scope())
    }

    /// The most that any device may do here, whatever its own scope: where folders can't be looked at, devices only look on.
    pub fn max_scope(&self) -> Scope {
        if self.workspaces.disk().closed().is_some() { Scope::View } else { Scope::Admin }
    }

    /// What a device with this scope may do here.
    pub fn policy(&self, scope: Scope) -> Policy {
        let state = self.codex.state();
        // What keeps folders from running things is on this machine alone.
        let is_here = self.codex.adapter() != Adapter::Ssh;
        let is_own_codex =
            is_here && matches!(&*state.borrow(), CodexState::Ready { started_by: StartedBy::Agent, .. });
        Policy {
            scope: self.scope(scope),
            lasting_grants: false,
            ceiling: Arc::clone(&self.ceiling),
            folders: Arc::clone(&self.workspaces) as _,
            profiles: Arc::clone(&self.profiles),
            kept: Arc::clone(&self.kept),
            providers: Arc::clone(&self.providers),
            is_own_codex,
        }
    }
}

impl std::fmt::Debug for Environments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.all().iter().map(|environment| &environment.name)).finish()
    }
}

/// All environments of a host: its own, and others that come and go.
pub struct Environments {
    own: Arc<Environment>,
    /// In the order of their names.
    others: Mutex<Vec<Published>>,
    requests: broadcast::Sender<Change>,
    attention: broadcast::Sender<attention::Change>,
}

/// An environment that devices see, and what looks after it until it is taken back.
struct Published {
    environment: Arc<Environment>,
    _watchers: Vec<AbortOnDropHandle<()>>,
}

/// What the agent needs to know about the host's own environment.
pub struct LocalEnvironment {
    /// Codex on this machine.
    pub codex: Arc<dyn CodexBackend>,
    /// Whether Codex's configuration leads to the agent; `None` where it never does.
    pub redirect: Option<Arc<Redirect>>,
    /// What the owner lets devices choose.
    pub ceiling: Ceiling,
    /// What threads of devices may read and write; a server that the agent starts has to know the same ones.
    pub profiles: Arc<Profiles>,
    /// What holds the git of a server that the agent starts, to be told of the workspaces.
    pub ground: Option<Arc<Ground>>,
    /// The machine's folders.
    pub surroundings: Surroundings,
    /// Folders to open to devices, as `reachback workspace add` does.
    pub open: Vec<PathBuf>,
}

impl Environments {
    /// The host's own environment alone.
    pub fn local(local: LocalEnvironment, store: &Arc<WorkspaceStore>, work: Arc<WorkStore>) -> Self {
        let LocalEnvironment { codex, redirect, ceiling, profiles, ground, surroundings, open: _ } = local;
        let disk = Arc::new(LocalDisk::new(surroundings));
        let workspaces = Workspaces::new(LOCAL_ENVIRONMENT, Arc::clone(store), disk).telling(ground);
        let (ceiling, workspaces) = (Arc::new(ceiling), Arc::new(workspaces));
        let rules = Rules { ceiling, workspaces, profiles, work, withheld: Arc::default() };
        let (requests, attention) = (requests::changes(), attention::changes());
        let own = Environment {
            redirect,
            ..Environment::new(LOCAL_ENVIRONMENT, codex, rules, (requests.clone(), attention.clone()))
        };
        Self { own: Arc::new(own), others: Mutex::default(), requests, attention }
    }

    /// One for a machine that is reached over SSH, with its disk; it is not published yet.
    pub fn over_ssh(
        &self,
        alias: &str,
        codex: Arc<dyn CodexBackend>,
        disk: Arc<dyn Disk>,
        profiles: Profiles,
    ) -> Environment {
        let name = format!("{SSH}{alias}");
        let own = &self.own;
        let rules = Rules {
            ceiling: Arc::clone(&own.ceiling),
            workspaces: Arc::new(own.workspaces.elsewhere(&name, Arc::clone(&disk))),
            profiles: Arc::new(profiles.on(disk)),
            work: Arc::clone(&own.work),
            withheld: Arc::clone(&own.withheld),
        };
        let changes = (self.requests.clone(), self.attention.clone());
        Environment::new(&name, codex, rules, changes)
    }

    /// The environment of this name.
    pub fn find(&self, name: &str) -> Option<Arc<Environment>> {
        self.all().into_iter().find(|environment| environment.name == name)
    }

    /// What is asked in all of them, as it changes.
    pub fn requests(&self) -> broadcast::Receiver<Change> {
        self.requests.subscribe()
    }

    /// Which threads run, want somebody, or have ended since, as it changes.
    pub fn attention(&self) -> broadcast::Receiver<attention::Change> {
        self.attention.subscribe()
    }

    /// All of them as they are now; the host's own comes first.
    pub fn all(&self) -> Vec<Arc<Environment>> {
        let others = self.others();
        let others = others.iter().map(|other| Arc::clone(&other.environment));
        std::iter::once(Arc::clone(&self.own)).chain(others).collect()
    }

    /// What devices were not told, in all of them.
    pub(crate) fn withheld(&self) -> &Arc<WithheldTexts> {
        &self.own.withheld
    }

    /// The host's own.
    pub fn own(&self) -> &Arc<Environment> {
        &self.own
    }

    /// Shows devices one more, which `watchers` look after. `false` where there is one of this name, which stays.
    pub fn publish(&self, environment: Arc<Environment>, watchers: Vec<AbortOnDropHandle<()>>) -> bool {
        let mut others = self.others();
        let name = &environment.name;
        let place = others.binary_search_by(|other| other.environment.name.cmp(name));
        match place {
            Err(place) if *name != self.own.name => {
                others.insert(place, Published { environment, _watchers: watchers });
                true
            }
            _ => false,
        }
    }

    /// Takes one back that is not the host's own, and ends its Codex here. What it began elsewhere may go on there.
    pub async fn withdraw(&self, name: &str) -> Option<Arc<Environment>> {
        let published = {
            let mut others = self.others();
            let place = others.iter().position(|other| other.environment.name == name)?;
            others.remove(place)
        };
        published.environment.codex.stop().await;
        Some(published.environment)
    }

    fn others(&self) -> MutexGuard<'_, Vec<Published>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends every Codex that was started here, and waits until they are gone.
    pub async fn stop(&self) {
        let all = self.all();
        futures_util::future::join_all(all.iter().map(|environment| environment.codex.stop())).await;
    }
}
