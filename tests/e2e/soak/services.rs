//! Both programs as services of a machine that systemd starts, as docs/operations.md puts them there: killed, replaced, the
//! machine started anew, removed.
//!
//! The machine is a container whose first process is systemd. The device that controls it is outside.

use serde_json::{Value, json};

use super::machine::{Machine, NAME, paired, reaches_codex};
use super::{engine, reachback};

const URL: &str = "https://172.30.75.2:7420";

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
