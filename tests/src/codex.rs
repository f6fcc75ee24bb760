//! The real Codex, pinned in `tests/codex`, with the scripted model and a home of its own.
//!
//! Homes are below `target/e2e`: Codex warns about homes in the temporary folder, and does less there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use reachback_host::codex::app_server::AppServer;
use reachback_host::codex::ground::Ground;
use reachback_host::codex::permissions::Profiles;
use reachback_host::codex::{CodexBackend, CodexConfig, CodexState};
use reachback_host::demo::{DemoHome, ScriptedModel};
use ring::rand::SystemRandom;
use tempfile::TempDir;

use crate::PATIENCE;

/// The pinned Codex. Panics with the command that installs it.
pub fn program() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("codex");
    let program = folder.join("node_modules/.bin/codex");
    assert!(program.exists(), "no Codex to test with; run: npm ci --prefix {}", folder.display());
    program
}

/// A home, a project and a model for one test's Codex. Removed when dropped.
pub struct TestCodex {
    /// Its folders.
    pub home: DemoHome,
    /// Where it runs.
    pub ground: Arc<Ground>,
    pub model: ScriptedModel,
    folder: PathBuf,
    _folder: TempDir,
}

impl TestCodex {
    /// Prepares everything; nothing runs yet but the model.
    pub async fn prepare() -> Self {
        let e2e = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/e2e");
        std::fs::create_dir_all(&e2e).unwrap();
        let _folder = tempfile::Builder::new().prefix("codex-").tempdir_in(e2e).unwrap();
        let folder = _folder.path().canonicalize().unwrap();
        let model = ScriptedModel::start().await.unwrap();
        let home = DemoHome::prepare(&folder.join("home"), &folder.join("project"), model.addr()).unwrap();
        let ground = Arc::new(Ground::prepare(&folder.join("home/codex")).unwrap());
        ground.list(&[home.project().into()]);
        Self { home, ground, model, folder, _folder }
    }

    /// Adds tables to its configuration, before it runs. `MODEL` in them stands for the model's address.
    pub fn set(&self, tables: &str) {
        let config = self.home.codex_home().join("config.toml");
        let before = std::fs::read_to_string(&config).unwrap();
        std::fs::write(config, format!("{before}\n{}", tables.replace("MODEL", &self.model.addr().to_string())))
            .unwrap();
    }

    /// The user's home: project and `CODEX_HOME` are in it.
    pub fn user_home(&self) -> &Path {
        &self.folder
    }

    /// The process that listens on the control socket.
    pub async fn server(&self) -> i32 {
        let link = self.config().control_socket().unwrap();
        let stream = tokio::net::UnixStream::connect(link.canonicalize().unwrap()).await.unwrap();
        stream.peer_cred().unwrap().pid().unwrap()
    }

    /// How to run it.
    pub fn config(&self) -> CodexConfig {
        // Codex runs commands in a login shell: what the user's profile does, and how long it takes, is kept out.
        let home = ("HOME".into(), self.folder.clone().into());
        CodexConfig { env: vec![home], ground: Some(Arc::clone(&self.ground)), ..self.home.codex(program()) }
    }

    /// Profiles for its threads that deny these folders.
    pub fn profiles(&self, deny: Vec<PathBuf>) -> Arc<Profiles> {
        let config = self.home.codex_home().join("config.toml");
        Arc::new(Profiles::new(&SystemRandom::new(), deny, Some(config)).unwrap())
    }

    /// A backend on it; wait with [`ready`]. Stop it at the end of the test.
    pub fn backend(&self) -> AppServer {
        AppServer::start(self.config())
    }
}

/// Waits until `backend` is ready, and gives that state.
pub async fn ready(backend: &dyn CodexBackend) -> CodexState {
    until(backend, "ready", |state| matches!(state, CodexState::Ready { .. })).await
}

/// Waits for a state.
pub async fn until(backend: &dyn CodexBackend, what: &str, wanted: impl FnMut(&CodexState) -> bool) -> CodexState {
    let mut state = backend.state();
    let seen = tokio::time::timeout(PATIENCE, state.wait_for(wanted)).await;
    let last = || backend.state().borrow().clone();
    seen.unwrap_or_else(|_| panic!("Codex was never {what}; it is {:?}", last())).unwrap().clone()
}
