//! Both programs as services of a machine that systemd starts, as docs/operations.md puts them there: killed, replaced, the
//! machine started anew, removed.
//!
//! The machine is a container whose first process is systemd. The device that controls it is outside.

use std::path::Path;
use std::time::Duration;

use e2e::containers::Engine;
use e2e::process::{Finished, Home, Process, binary, finished};
use e2e::{codex, rpc};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use super::{engine, reachback, reachback_to_its_end};
use crate::walk::client;

const IMAGE: &str = "localhost/machine:latest";
const NAME: &str = "tower";
const ADDRESS: &str = "172.30.75.2";
const URL: &str = "https://172.30.75.2:7420";

/// How long the machine has for anything.
const PATIENCE: Duration = Duration::from_secs(120);

/// A machine with a person on it who need not be logged in, and both programs in /usr/local/bin.
struct Machine<'a>(&'a Engine);

impl<'a> Machine<'a> {
    async fn boot(engine: &'a Engine) -> Self {
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
    async fn is_up(&self) {
        self.until("systemd has started everything", "systemctl is-system-running | grep -E '^(running|degraded)$'")
            .await;
    }

    /// A shell of root's there, or the person's.
    fn shell(&self, user: &str, script: &str) -> Command {
        let person = ["--env", "XDG_RUNTIME_DIR=/run/user/1000", "--env", "HOME=/home/person", "--env", "USER=person"];
        let more = if user == "person" { &person[..] } else { &[] };
        self.0.command("podman", &[&["exec", "--user", user], more, &[NAME, "/bin/bash", "-ec", script]].concat())
    }

    async fn root(&self, script: &str) -> Finished {
        finished(self.shell("root", script), "").await.ok()
    }

    async fn person(&self, script: &str) -> Finished {
        finished(self.shell("person", script), "").await.ok()
    }

    /// Waits until root's script ends well there.
    async fn until(&self, what: &str, script: &str) {
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
    async fn services(&self) -> [(String, String); 2] {
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
async fn reaches_codex(machine: &Machine<'_>, socket: &Path, when: &str) {
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
async fn paired(engine: &Engine, machine: &Machine<'_>) -> Home {
    let mut pair = Process::spawn("pair", machine.shell("person", "reachback pair --yes --scope view --json"));
    let code = pair.event("pairing").await["url"].as_str().unwrap().to_owned();
    let device = Home::new();
    reachback_to_its_end(engine, &device, &["join", &code, "--name", "watcher"]).await.ok();
    pair.event("paired").await;
    device
}

/// Root puts the relay there, the person the agent, which is let in by it.
async fn install(machine: &Machine<'_>) {
    machine.root(&format!("reachback-relay install --listen 0.0.0.0:7420 --public-url {URL}")).await;
    machine.until("the relay runs", "systemctl is-active reachback-relay").await;
    let data = "/var/lib/reachback-relay";
    machine.root(&format!("install --owner person --mode 600 \"$(runuser -u reachback -- reachback-relay enroll --data {data})\" /home/person/key")).await;
    machine
        .person(
            "mkdir -p ~/.codex ~/shop && echo 'check_for_update_on_startup = false' > ~/.codex/config.toml\n\
             printf '[analytics]\\nenabled = false\\n' >> ~/.codex/config.toml",
        )
        .await;
    let first =
        format!("timeout --signal=INT --preserve-status 10 reachback host --json --relay {URL} --enroll-file ~/key");
    let first = machine.person(&first).await;
    assert!(first.lines().iter().any(|line| line["event"] == "ready"), "{first:?}");
    let steps = machine.person("reachback host install --json --workspace ~/shop").await.lines();
    assert!(steps.iter().any(|step| step["did"] == "wrote"), "{steps:?}");
}

#[tokio::test]
#[ignore = "soak"]
async fn both_services_live_through_kills_upgrades_and_a_new_start_of_the_machine() {
    let Some(engine) = engine().await else { return };
    let machine = Machine::boot(&engine).await;
    install(&machine).await;

    let device = paired(&engine, &machine).await;
    let socket = device.folder("socket").join("codex.sock");
    let mut connect = reachback(&engine, &device, &["connect", "--socket", socket.to_str().unwrap()]);
    connect.event("socket").await;
    reaches_codex(&machine, &socket, "at first").await;

    // Killed, each comes back by itself.
    let before = machine.services().await;
    machine.root("systemctl kill --signal KILL reachback-relay").await;
    machine.person("systemctl --user kill --signal KILL --kill-whom main reachback-host").await;
    reaches_codex(&machine, &socket, "after both were killed").await;
    let after = machine.services().await;
    for (before, after) in before.iter().zip(&after) {
        assert_ne!(before.0, after.0, "another process");
        assert_eq!((before.1.as_str(), after.1.as_str()), ("0", "1"), "systemd started it anew, once");
    }

    // Replaced at their places, as an upgrade does.
    machine.root("install --mode 755 /out/reachback-relay /out/reachback /usr/local/bin/").await;
    machine.root("systemctl restart reachback-relay").await;
    machine.person("systemctl --user restart reachback-host").await;
    reaches_codex(&machine, &socket, "after an upgrade").await;
    let [relay, agent] = machine.services().await;
    for (process, program) in [(relay.0, "reachback-relay"), (agent.0, "reachback")] {
        machine.root(&format!("test /proc/{process}/exe -ef /usr/local/bin/{program}")).await;
    }

    // Nobody logs in after the machine is started anew.
    engine.podman(&["restart", NAME]).await;
    machine.is_up().await;
    reaches_codex(&machine, &socket, "after the machine was started anew").await;
    let logged: Value = machine.person("reachback host logs -n 1 --json").await.lines().remove(0);
    assert!(logged["MESSAGE"].is_string(), "{logged}");

    connect.signal_and_wait("-INT", 0).await;
    machine.person("reachback host uninstall").await;
    machine.root("reachback-relay uninstall").await;
    machine.root("! systemctl is-active reachback-relay && ! pgrep --exact 'reachback|reachback-relay|codex'").await;
    machine
        .root("! ls /etc/systemd/system/reachback-relay.service ~person/.config/systemd/user/reachback-host.service")
        .await;
    machine.person("test -s ~/.local/state/reachback/host/host.json").await;
    machine.root("test -s /var/lib/reachback-relay/identity.json").await;
}

/// Waits until the agent, asked by the person, says that it is kept awake like this, and logind lists these locks of its.
async fn is_awake(machine: &Machine<'_>, state: &str, locks: &[&str]) {
    let person = "runuser -u person -- env XDG_RUNTIME_DIR=/run/user/1000";
    let asks = format!("{person} reachback awake --json | grep '\"state\":\"{state}\"'");
    machine.until(&format!("it says {state}"), &asks).await;
    let listed = "systemd-inhibit --list --no-pager --no-legend | awk '$1 == \"Reachback\" && $3 == \"person\" && \
                  $5 == \"reachback\" && $NF == \"block\" { print $6 }' | sort | xargs";
    let lists = format!("test \"$({listed})\" = '{}'", locks.join(" "));
    machine.until(&format!("logind has its locks: {locks:?}"), &lists).await;
}

#[tokio::test]
#[ignore = "soak"]
async fn logind_keeps_a_machine_awake_until_it_is_unplugged_or_the_agent_ends_however_it_ends() {
    let Some(engine) = engine().await else { return };
    let machine = Machine::boot(&engine).await;
    install(&machine).await;
    let status = machine.person("reachback awake on --json").await.lines().remove(0);
    assert_eq!((&status["event"], &status["state"]), (&json!("awake"), &json!("no_access")), "{status}");
    let _device = paired(&engine, &machine).await;

    // The person is not logged in, and logind asks polkit, which then allows that much.
    is_awake(&machine, "partly", &["idle"]).await;
    machine
        .root(
            "cat > /etc/polkit-1/rules.d/50-reachback.rules <<'END'\n\
             polkit.addRule(function (action, subject) {\n\
                 if (action.id == 'org.freedesktop.login1.inhibit-block-sleep' && subject.user == 'person') {\n\
                     return polkit.Result.YES;\n\
                 }\n\
             });\n\
             END",
        )
        .await;
    is_awake(&machine, "held", &["idle", "sleep"]).await;

    // A laptop that is unplugged and plugged in again.
    let supply = |online: &str, battery: &str| {
        format!(
            "cd /sys/class/power_supply && mkdir -p AC BAT0 && echo Mains > AC/type && echo {online} > AC/online && \
             echo Battery > BAT0/type && echo {battery} > BAT0/status"
        )
    };
    machine.root(&supply("0", "Discharging")).await;
    is_awake(&machine, "on_battery", &[]).await;
    machine.root(&supply("1", "Charging")).await;
    is_awake(&machine, "held", &["idle", "sleep"]).await;

    machine.person("reachback devices pause").await;
    is_awake(&machine, "no_access", &[]).await;
    machine.person("reachback devices resume").await;
    is_awake(&machine, "held", &["idle", "sleep"]).await;

    // Killed, it holds nothing any more; the one that systemd starts anew does by itself.
    let [_, (killed, _)] = machine.services().await;
    machine.person("systemctl --user kill --signal KILL --kill-whom main reachback-host").await;
    let gone = format!("! systemd-inhibit --list --no-pager --no-legend | grep ' {killed} reachback '");
    machine.until("the lock of the one that was killed is gone", &gone).await;
    is_awake(&machine, "held", &["idle", "sleep"]).await;

    machine.person("systemctl --user stop reachback-host").await;
    is_awake(&machine, "no_agent", &[]).await;
    let status = machine.person("reachback awake off --json").await.lines().remove(0);
    assert_eq!(status["state"], "off", "{status}");
}
