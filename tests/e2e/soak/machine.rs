//! A machine that systemd has started: a container, with both programs and Codex in `/usr/local/bin` and a person on it.

use std::path::Path;
use std::time::Duration;

use e2e::containers::Engine;
use e2e::process::{Finished, Home, Process, binary, finished};
use e2e::{codex, rpc};
use serde_json::json;
use tokio::process::Command;
use tokio::time::timeout;

use super::reachback_to_its_end;
use crate::walk::client;

const IMAGE: &str = "localhost/machine:latest";
pub(super) const NAME: &str = "tower";
pub(super) const ADDRESS: &str = "172.30.75.2";

/// How long the machine has for anything.
const PATIENCE: Duration = Duration::from_secs(120);

/// A machine with a person on it who need not be logged in, and both programs in /usr/local/bin.
pub(super) struct Machine<'a>(&'a Engine);

impl<'a> Machine<'a> {
    pub(super) async fn boot(engine: &'a Engine) -> Self {
        // polkitd says for logind who may keep the machine awake.
        let packages = "ca-certificates dbus dbus-user-session libpam-systemd polkitd procps systemd systemd-sysv";
        let packages: Vec<_> = packages.split(' ').collect();
        let base = "localhost/debian-with-systemd:latest";
        engine.debian(base, &packages, &[]).await;
        let codex = native(&codex::program());
        engine.image(IMAGE, base, &[binary("reachback-relay"), binary("reachback"), codex]).await;
        engine.podman(&["network", "create", "--subnet", "172.30.75.0/24", "machines"]).await;
        let place = ["--network", "machines", "--ip", ADDRESS, "--hostname", NAME, "--name", NAME];
        // With what lets root there see the programs of others.
        let run = ["run", "--detach", "--systemd=always", "--cap-add", "SYS_PTRACE"];
        // What it gets its power from is not what the machine below gets it from.
        let run = [&run[..], &["--mount", "type=tmpfs,destination=/sys/class/power_supply"]].concat();
        engine.podman(&[&run, &place[..], &[IMAGE, "/sbin/init"]].concat()).await;
        let machine = Self(engine);
        machine.is_up().await;
        machine.root("useradd --create-home --shell /bin/bash --uid 1000 person").await;
        machine.root("install --mode 755 /out/* /usr/local/bin/").await;
        machine.root("loginctl enable-linger person").await;
        machine.until("the person's systemd is there", "test -S /run/user/1000/bus").await;
        machine
    }

    /// Waits until it is started.
    pub(super) async fn is_up(&self) {
        self.until("systemd has started everything", "systemctl is-system-running | grep -E '^(running|degraded)$'")
            .await;
    }

    /// A shell of root's there, or the person's.
    pub(super) fn shell(&self, user: &str, script: &str) -> Command {
        let person = ["--env", "XDG_RUNTIME_DIR=/run/user/1000", "--env", "HOME=/home/person", "--env", "USER=person"];
        let more = if user == "person" { &person[..] } else { &[] };
        self.0.command("podman", &[&["exec", "--user", user], more, &[NAME, "/bin/bash", "-ec", script]].concat())
    }

    pub(super) async fn root(&self, script: &str) -> Finished {
        finished(self.shell("root", script), "").await.ok()
    }

    pub(super) async fn person(&self, script: &str) -> Finished {
        finished(self.shell("person", script), "").await.ok()
    }

    /// Waits until root's script ends well there.
    pub(super) async fn until(&self, what: &str, script: &str) {
        let mut last = None;
        let waiting = async {
            loop {
                let tried = finished(self.shell("root", script), "").await;
                if tried.code == 0 {
                    return;
                }
                last = Some(tried);
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        };
        if timeout(PATIENCE, waiting).await.is_err() {
            let journal = finished(self.shell("root", "journalctl --no-pager --lines 60"), "").await;
            panic!("waited in vain: {what}; last {last:?}; its journal: {}", journal.out);
        }
    }

    /// What systemd says about the relay and about the agent: the process and how often it was started anew.
    pub(super) async fn services(&self) -> [(String, String); 2] {
        let show = "show --property MainPID,NRestarts --value";
        let relay = self.root(&format!("systemctl {show} reachback-relay")).await;
        let agent = self.person(&format!("systemctl --user {show} reachback-host")).await;
        [relay, agent].map(|shown| {
            let mut lines = shown.out.lines().map(str::to_owned);
            (lines.next().unwrap(), lines.next().unwrap())
        })
    }
}

/// The program that npm's script starts: nothing else is needed to run it.
fn native(script: &Path) -> std::path::PathBuf {
    let packages = script.canonicalize().unwrap();
    let packages = packages.ancestors().find(|path| path.ends_with("node_modules")).unwrap();
    let arch = if cfg!(target_arch = "aarch64") { ("arm64", "aarch64") } else { ("x64", "x86_64") };
    packages.join(format!("@openai/codex-linux-{}/vendor/{}-unknown-linux-musl/bin/codex", arch.0, arch.1))
}

/// Waits until the device reaches Codex on the machine.
pub(super) async fn reaches_codex(machine: &Machine<'_>, socket: &Path, when: &str) {
    let trying = async {
        loop {
            let socket = socket.to_owned();
            let asked = tokio::spawn(async move {
                let mut codex: rpc::Client = client(&socket).await;
                codex.request("thread/list", json!({})).await
            });
            // Who hangs up before it answers makes the client panic.
            if let Ok(Ok(_)) = asked.await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    if timeout(PATIENCE, trying).await.is_err() {
        let journal = finished(machine.shell("root", "journalctl --no-pager --lines 60"), "").await;
        panic!("the device does not reach Codex {when}; the machine's journal: {}", journal.out);
    }
}

/// A device of the machine's, outside of it.
pub(super) async fn paired(engine: &Engine, machine: &Machine<'_>) -> Home {
    let mut pair = Process::spawn("pair", machine.shell("person", "reachback pair --yes --scope view --json"));
    let code = pair.event("pairing").await["url"].as_str().unwrap().to_owned();
    let device = Home::new();
    reachback_to_its_end(engine, &device, &["join", &code, "--name", "watcher"]).await.ok();
    pair.event("paired").await;
    device
}
