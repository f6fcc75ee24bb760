//! How soon a device sees the threads of an SSH host that it picks, and the names of fifty machines.
//!
//! A real `sshd` on the loopback and the real Codex behind it: keys, a login shell and the start of an app-server take
//! most of the time, and no stand-in has them.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::codex::TestCodex;
use e2e::sshd::{Account, Ssh, Sshd};
use serde::Deserialize;
use tokio::runtime::Runtime;

use super::client::Client;
use super::figures::{Figures, Key, Unit};
use super::measure::{Effort, timed};
use super::stage::{Reachback, Transport};

/// Machines that the configuration names.
const NAMES: usize = 50;

/// The one of them that is there.
const DEVBOX: &str = r#"{"alias":"devbox"}"#;
const ITS_THREADS: &str = r#"{"environment":"ssh:devbox"}"#;

/// All rounds, of a device with `admin` over WebSocket.
pub(super) fn measure(reachback: &Reachback, effort: Effort, figures: &mut Figures) -> anyhow::Result<()> {
    let far = Far::start(reachback)?;
    let device = reachback.admin()?;
    let mut api = device.api()?;
    let mut note = |what: &str, took: Duration| {
        figures.one(Key::new(what, Unit::Milliseconds), Transport::Wss.device(), took.as_secs_f64() * 1e3);
    };
    for round in 0..effort.rounds {
        eprintln!("round {} of {}: Ssh", round + 1, effort.rounds);
        // What OpenSSH said of the names is known until a file changes.
        far.name_machines(round)?;
        note("fifty SSH machines listed, after a change", timed(|| list(&mut api))?);
        note("fifty SSH machines listed, again", timed(|| list(&mut api))?);
        for before in ["nothing runs there", "Codex runs there", "Codex runs there"] {
            // A machine that is added anew is not connected.
            api.call("ssh/add", DEVBOX)?;
            let mut threads = || timed(|| api.call("thread/list", ITS_THREADS));
            note(&format!("SSH host picked until its threads, {before}"), threads()?);
            note("SSH host picked until its threads, connected", threads()?);
            api.call("ssh/remove", DEVBOX)?;
        }
        far.stop()?;
    }
    Ok(())
}

/// Has the machines listed, all of them.
fn list(api: &mut Client) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Answer {
        result: List,
    }
    #[derive(Deserialize)]
    struct List {
        data: Vec<Machine>,
    }
    #[derive(Deserialize)]
    struct Machine {
        port: Option<u16>,
    }
    let (_, answer) = api.answer("ssh/list", "{}")?;
    let Answer { result: List { data } } = serde_json::from_slice(&answer)?;
    let known = data.iter().filter(|machine| machine.port.is_some()).count();
    ensure!((data.len(), known) == (NAMES, NAMES), "{} of {} machines are known, of {NAMES}", known, data.len());
    Ok(())
}

/// A machine with an SSH server and Codex, which a host knows by its SSH configuration.
struct Far<'a> {
    reachback: &'a Reachback,
    ssh: Ssh,
    server: Sshd,
    _codex: TestCodex,
    /// Whose server and model run on it, and end with it.
    _runtime: Runtime,
}

impl<'a> Far<'a> {
    fn start(reachback: &'a Reachback) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let ssh = Ssh::prepare();
        let (codex, server) = runtime.block_on(async {
            let codex = TestCodex::prepare().await;
            let first = format!("export CODEX_HOME='{}'", codex.home.codex_home().display());
            let account = Account::prepare(codex.user_home().join("account"), "bash", &first);
            let server = ssh.server(&format!("{}\nSubsystem sftp $HOME/bin/files", account.sessions())).await;
            (codex, server)
        });
        ssh.knows(&[&server]);
        Ok(Self { reachback, ssh, server, _codex: codex, _runtime: runtime })
    }

    /// Writes the host's SSH configuration, in each round another one.
    fn name_machines(&self, round: usize) -> anyhow::Result<()> {
        let others: String =
            (1..NAMES).map(|number| format!("Host box-{number}\n  Port {}\n", 2_000 + number)).collect();
        let devbox = format!("Host devbox\n  Port {}\n  IdentityFile {}\n", self.server.port, self.ssh.at("one"));
        let written = self.ssh.configure(&format!("# Round {round}\n{devbox}{others}"));
        std::fs::copy(written, self.reachback.ssh_config()).context("the SSH configuration can't be written")?;
        Ok(())
    }

    /// Ends Codex there.
    fn stop(&self) -> anyhow::Result<()> {
        let mut stop: Command = self.reachback.at_a_host()?;
        let done = stop.args(["ssh", "stop", "devbox"]).output().context("`ssh stop` does not start")?;
        ensure!(done.status.success(), "Codex there does not end: {}", String::from_utf8_lossy(&done.stdout));
        Ok(())
    }
}

impl Drop for Far<'_> {
    fn drop(&mut self) {
        // It outlives the link by design. Where it can't be ended, a measurement has failed, and says why.
        let _ = self.stop();
    }
}
