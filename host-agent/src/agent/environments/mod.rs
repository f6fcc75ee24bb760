//! Where devices work: each environment is a Codex on some machine, and the folders there.
//!
//! A channel names its environment when it is opened; what a device may do in
//! it is decided with that environment's own ceiling, workspaces and profiles.
//! `local` is the host itself; SSH hosts will be more of them.

pub mod account;
pub mod changes;
pub mod chatgpt_remote;
pub mod folders;
pub(crate) mod keeper;
pub(crate) mod live_text;
pub mod troubles;
pub mod workspaces;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reachback_proto::frame::LOCAL_ENVIRONMENT;
use reachback_proto::scope::Scope;
use tokio::sync::{broadcast, watch};
use tokio::time::timeout;

use super::attention::{self, Attention};
use super::requests::{self, Change, Requests};
use crate::codex::ground::Ground;
use crate::codex::permissions::Profiles;
use crate::codex::remote_control::redirect::Redirect;
use crate::codex::{Allowance, CodexBackend, CodexConnection, CodexState, ConnectError, Instance, StartedBy};
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
use workspaces::{Surroundings, Workspaces};

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
    /// What it asks.
    pub requests: Arc<Requests>,
    /// Which of its threads run, want somebody, or have ended since.
    pub attention: Arc<Attention>,
    /// The text so far of what is being written there.
    pub(crate) live_text: Arc<LiveText>,
    /// The run of its server that knows the agent by name.
    introduced: watch::Sender<Option<Instance>>,
}

impl Environment {
    /// A new connection for a device. The server is called by the name of its first client: the agent goes first.
    pub async fn connect(&self, allowance: Allowance) -> Result<CodexConnection, ConnectError> {
        let connection = self.codex.connect(allowance).await?;
        let mut introduced = self.introduced.subscribe();
        let is_first = introduced.wait_for(|instance| *instance == Some(connection.instance));
        if timeout(INTRODUCTION, is_first).await.is_err() {
            tracing::warn!(
                environment = self.name,
                "codex may be called by a device's name: the agent could not go first"
            );
        }
        Ok(connection)
    }
}

impl Environment {
    /// What a device with this scope may do here.
    pub fn policy(&self, scope: Scope) -> Policy {
        let state = self.codex.state();
        let is_own_codex = matches!(&*state.borrow(), CodexState::Ready { started_by: StartedBy::Agent, .. });
        Policy {
            scope,
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
        f.debug_list().entries(self.all.iter().map(|environment| &environment.name)).finish()
    }
}

/// All environments of a host.
pub struct Environments {
    all: Vec<Arc<Environment>>,
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
        let workspaces = Workspaces::new(LOCAL_ENVIRONMENT, Arc::clone(store), surroundings).telling(ground);
        let environment = Environment {
            name: LOCAL_ENVIRONMENT.to_owned(),
            codex,
            redirect,
            ceiling: Arc::new(ceiling),
            workspaces: Arc::new(workspaces),
            profiles,
            kept: Arc::default(),
            providers: Arc::default(),
            account: CodexAccount::default(),
            chatgpt_remote: CodexChatgptRemote::default(),
            troubles: Troubles::default(),
            work,
            requests: Arc::new(Requests::new(LOCAL_ENVIRONMENT, requests::changes())),
            attention: Arc::new(Attention::new(LOCAL_ENVIRONMENT, attention::changes())),
            live_text: Arc::default(),
            introduced: watch::Sender::new(None),
        };
        Self { all: vec![Arc::new(environment)] }
    }

    /// The environment of this name.
    pub fn find(&self, name: &str) -> Option<&Arc<Environment>> {
        self.all.iter().find(|environment| environment.name == name)
    }

    /// What is asked in all of them, as it changes.
    pub fn requests(&self) -> broadcast::Receiver<Change> {
        self.own().requests.changes()
    }

    /// Which threads run, want somebody, or have ended since, as it changes.
    pub fn attention(&self) -> broadcast::Receiver<attention::Change> {
        self.own().attention.changes()
    }

    /// All of them; the host's own comes first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Environment>> {
        self.all.iter()
    }

    /// The host's own.
    pub fn own(&self) -> &Arc<Environment> {
        self.all.first().expect("made with the host's own environment")
    }

    /// Ends every Codex that was started here, and waits until they are gone.
    pub async fn stop(&self) {
        futures_util::future::join_all(self.all.iter().map(|environment| environment.codex.stop())).await;
    }
}
