//! Both programs as services: what they tell the systemd that started them, and how they are installed.
//!
//! There is no systemd here. A socket of the test's stands in for the one that hears, and scripts on the search path for the
//! commands that change a machine: they write down how they were called.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use e2e::PATIENCE;
use e2e::process::{Finished, Home, Process, after, binary, finished, free_port};
use serde_json::Value;
use tokio::net::UnixDatagram;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// What hears of a service.
struct Systemd {
    path: PathBuf,
    words: mpsc::UnboundedReceiver<String>,
}

impl Systemd {
    /// Hears all the time, as who speaks waits until there is room.
    fn listen(folder: &Path) -> Self {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let (heard, words) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let length = socket.recv(&mut buffer).await.unwrap();
                let word = String::from_utf8(buffer[..length].to_vec()).unwrap();
                if heard.send(word.trim().to_owned()).is_err() {
                    return;
                }
            }
        });
        Self { path, words }
    }

    /// A command as systemd would start it: it knows where to speak, and that it has to, ten times a second.
    fn starts(&self, mut command: Command) -> Command {
        command.env("NOTIFY_SOCKET", &self.path).env("WATCHDOG_USEC", "300000");
        after("export WATCHDOG_PID=$$", command)
    }

    /// What is said until `wanted`, with that.
    async fn hear_until(&mut self, wanted: &str) -> Vec<String> {
        let mut said: Vec<String> = Vec::new();
        let hearing = async {
            while !said.last().is_some_and(|last| last.starts_with(wanted)) {
                said.push(self.words.recv().await.unwrap());
            }
        };
        if timeout(PATIENCE, hearing).await.is_err() {
            panic!("nobody says {wanted}; what was said: {said:?}");
        }
        said
    }
}

fn relay(data: &Path, listen: &str) -> Command {
    let mut command = Command::new(binary("reachback-relay"));
    command.args(["serve", "--json", "--listen", listen, "--data"]).arg(data);
    command
}

fn private(folder: PathBuf) -> PathBuf {
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o700)).unwrap();
    folder
}

#[tokio::test]
async fn a_relay_tells_systemd_that_it_is_ready_that_it_lives_and_that_it_stops() {
    let home = Home::new();
    let mut systemd = Systemd::listen(&home.folder("systemd"));
    let data = private(home.folder("relay"));
    let mut relay = Process::spawn("relay", systemd.starts(relay(&data, "127.0.0.1:0")));
    assert_eq!(systemd.hear_until("READY=1").await, ["READY=1"], "nothing comes before");
    relay.event("ready").await;
    for _ in 0..3 {
        systemd.hear_until("WATCHDOG=1").await;
    }
    relay.signal("-TERM");
    systemd.hear_until("STOPPING=1").await;
    assert_eq!(relay.exit().await, Some(0));
}

#[tokio::test]
async fn an_agent_is_ready_for_systemd_once_it_is_reachable() {
    let home = Home::new();
    let mut systemd = Systemd::listen(&home.folder("systemd"));
    let (data, listen) = (private(home.folder("relay")), free_port().to_string());
    let mut tower = Process::spawn("relay", relay(&data, &listen));
    let ready = tower.event("ready").await;
    assert_eq!(tower.stop().await, Some(0));

    let key = ready["enroll_file"].as_str().unwrap();
    let args = ["host", "--json", "--relay", &format!("http://{listen}"), "--enroll-file", key];
    // What is started as Codex tells what it was given.
    let (codex, told) = (home.folder("codex").join("codex"), home.folder("codex").join("environment"));
    std::fs::write(&codex, format!("#!/bin/sh\nenv > {0}.half && mv {0}.half {0}\nexit 1\n", told.display())).unwrap();
    std::fs::set_permissions(&codex, PermissionsExt::from_mode(0o755)).unwrap();
    let command = home.command(&[&args[..], &["--codex-program", codex.to_str().unwrap()]].concat());
    let mut host = Process::spawn("host", systemd.starts(command));
    let before = systemd.hear_until("STATUS=not connected to the relay").await;
    assert!(!before.iter().any(|word| word == "READY=1"), "nobody can reach it: {before:?}");

    let mut tower = Process::spawn("relay", relay(&data, &listen));
    tower.event("ready").await;
    systemd.hear_until("READY=1").await;
    systemd.hear_until("STATUS=reachable through").await;
    systemd.hear_until("WATCHDOG=1").await;
    host.event("ready").await;
    e2e::eventually("Codex to be started", || told.exists()).await;
    let given = std::fs::read_to_string(&told).unwrap();
    let names: Vec<_> = given.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert!(names.contains(&"PATH"), "{names:?}");
    let ours = |name: &&&str| ["NOTIFY_", "WATCHDOG_", "REACHBACK_"].iter().any(|prefix| name.starts_with(prefix));
    assert_eq!(names.iter().find(ours), None, "it may speak for the service, or reads what is the agent's");
    host.signal("-TERM");
    systemd.hear_until("STOPPING=1").await;
    assert_eq!(host.exit().await, Some(0));
    assert_eq!(tower.stop().await, Some(0));
}

/// Commands that stand in for those of a machine, and what they were asked.
struct Machine {
    home: Home,
    programs: PathBuf,
}

/// Answers as systemd does, unless the file `deaf` beside it has what it says in place of that.
const SYSTEMCTL: &str = r#"case "$*" in *show*) if [ -f "$here/deaf" ]; then cat "$here/deaf" >&2; exit 1; fi ;; esac"#;
/// Knows a user who does not linger until that is asked for, and refuses it where there is a file `forbidden`.
const LOGINCTL: &str = r#"case "$*" in
*show-user*) cat "$here/lingers" 2>/dev/null || echo no ;;
*enable-linger) if [ -f "$here/forbidden" ]; then echo 'Could not enable linger: Access denied' >&2; exit 1; fi; echo yes > "$here/lingers" ;;
esac"#;

impl Machine {
    fn new() -> Self {
        let home = Home::new();
        let programs = home.folder("programs");
        for (name, body) in
            [("systemctl", SYSTEMCTL), ("loginctl", LOGINCTL), ("journalctl", "echo a line"), ("useradd", "")]
        {
            let path = programs.join(name);
            let script =
                format!("#!/bin/sh\nhere={}\necho \"{name} $*\" >> \"$here/asked\"\n{body}\n", programs.display());
            std::fs::write(&path, script).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        }
        Self { home, programs }
    }

    /// One whose host has been let in by a relay.
    async fn enrolled() -> Self {
        let machine = Self::new();
        let data = private(machine.home.folder("relay"));
        let mut tower = Process::spawn("relay", relay(&data, "127.0.0.1:0"));
        let ready = tower.event("ready").await;
        let (url, key) = (ready["url"].as_str().unwrap(), ready["enroll_file"].as_str().unwrap());
        let args = ["host", "--relay", url, "--enroll-file", key, "--codex-program", "no-such-codex"];
        let mut host = machine.home.start(&args);
        host.event("ready").await;
        assert_eq!(host.stop().await, Some(0));
        assert_eq!(tower.stop().await, Some(0));
        machine
    }

    fn unit(&self) -> PathBuf {
        self.home.folder("config").join("systemd/user/reachback-host.service")
    }

    fn tell(&self, file: &str, text: &str) {
        std::fs::write(self.programs.join(file), text).unwrap();
    }

    /// What was asked of the machine since the last time.
    fn asked(&self) -> Vec<String> {
        let asked = std::fs::read_to_string(self.programs.join("asked")).unwrap_or_default();
        let _ = std::fs::remove_file(self.programs.join("asked"));
        asked.lines().map(str::to_owned).collect()
    }

    async fn host(&self, args: &[&str]) -> Finished {
        self.host_with(&format!("{}:/usr/bin:/bin", self.programs.display()), args).await
    }

    async fn host_with(&self, path: &str, args: &[&str]) -> Finished {
        let mut command = self.home.command(&[&["host"], args, &["--json"]].concat());
        command.env("PATH", path).env("XDG_CONFIG_HOME", self.home.folder("config"));
        finished(command, "").await
    }

    /// What a command says that it did, in few words.
    async fn did(&self, args: &[&str]) -> Vec<String> {
        let lines = self.host(args).await.ok().lines();
        lines.iter().map(did).collect()
    }
}

fn did(line: &Value) -> String {
    let words = |command: &Value| {
        let words: Vec<&str> = command.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        words.join(" ")
    };
    assert_eq!(line["event"], "service", "{line}");
    match line["did"].as_str().unwrap() {
        "ran" => words(&line["command"]),
        "noted" => line["note"].as_str().unwrap().to_owned(),
        other => other.to_owned(),
    }
}

const UNIT: &str = "reachback-host.service";

#[tokio::test]
async fn an_agent_is_installed_once_changed_in_place_and_removed() {
    let machine = Machine::enrolled().await;
    let shop = machine.home.folder("my shop");
    let install = ["install", "--codex-program", "/opt/codex", "--workspace", shop.to_str().unwrap()];
    let enable = format!("systemctl --user enable {UNIT}");
    let first = ["loginctl --no-ask-password enable-linger", "wrote", "systemctl --user daemon-reload", &enable];
    let restart = format!("systemctl --user restart {UNIT}");

    let planned = machine.did(&[&install[..], &["--dry-run"]].concat()).await;
    assert_eq!(planned, [&first[..], &[&restart]].concat());
    assert!(!machine.unit().exists(), "a dry run writes nothing");
    let asked = machine.asked();
    assert!(asked.iter().all(|line| line.contains(" show")), "it asks, and changes nothing: {asked:?}");

    assert_eq!(machine.did(&install).await, planned, "what was planned is done");
    let asked = machine.asked();
    for step in planned.iter().filter(|step| *step != "wrote") {
        assert!(asked.contains(step), "{step} was told and not run: {asked:?}");
    }
    let text = std::fs::read_to_string(machine.unit()).unwrap();
    let program = binary("reachback").canonicalize().unwrap();
    let start = format!("ExecStart={} host --log info --home {}", program.display(), machine.home.path().display());
    let workspace = format!("--codex-program /opt/codex --codex-home {}", machine.home.codex_home().display());
    let workspace = format!("{workspace} --workspace \"{}\"", shop.display());
    for line in [&start, &workspace, "Type=notify", "WatchdogSec=60"] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    assert!(text.contains(&format!("PATH={}:/usr/bin:/bin", machine.programs.display())), "{text}");

    let again = machine.did(&install).await;
    assert_eq!(again, ["kept", &enable, &format!("systemctl --user start {UNIT}")], "and goes on running");
    let other = machine.did(&["install", "--codex-program", "/opt/newer"]).await;
    assert_eq!(other, ["wrote", "systemctl --user daemon-reload", &enable, &restart]);
    assert!(std::fs::read_to_string(machine.unit()).unwrap().contains("--codex-program /opt/newer"));

    let removed = machine.did(&["uninstall"]).await;
    let disable = format!("systemctl --user disable --now {UNIT}");
    assert_eq!(removed, [&disable, "removed", "systemctl --user daemon-reload"]);
    assert!(!machine.unit().exists());
    let nothing = machine.did(&["uninstall"]).await;
    assert!(nothing.len() == 1 && nothing[0].contains("nothing to remove"), "{nothing:?}");
}

#[tokio::test]
async fn what_can_not_become_a_service_is_refused_and_changes_nothing() {
    let machine = Machine::new();
    let refused = |finished: Finished, code: &str, next: &str| {
        assert_eq!(finished.code, 1, "{finished:?}");
        let error = finished.event("error");
        assert_eq!(error["code"], code, "{error}");
        assert!(error["fix"].as_str().unwrap().contains(next), "{error}");
    };
    refused(machine.host(&["install"]).await, "no_relay", "--enroll-file");
    assert_eq!(machine.asked(), [""; 0]);

    let machine = Machine::enrolled().await;
    machine.tell("lingers", "yes\n");
    let nowhere = machine.home.folder("nothing here");
    refused(machine.host_with(nowhere.to_str().unwrap(), &["install"]).await, "no_systemd", "deploy/");
    machine.tell("deaf", "System has not been booted with systemd as init system (PID 1). Can't operate.\n");
    refused(machine.host(&["install"]).await, "no_systemd", "deploy/");
    machine.tell("deaf", "Failed to connect to bus: No medium found\n");
    refused(machine.host(&["install"]).await, "no_user_bus", "loginctl enable-linger");
    assert!(!machine.unit().exists(), "nothing is written where nobody reads it");
    // One that may linger gets a manager by that.
    std::fs::remove_file(machine.programs.join("lingers")).unwrap();
    let planned = machine.host(&["install", "--dry-run"]).await;
    assert!(planned.out.contains("enable-linger"), "{planned:?}");
    refused(planned, "no_user_bus", "loginctl enable-linger");
    std::fs::remove_file(machine.programs.join("deaf")).unwrap();

    let mut by_hand = machine.home.start(&["host", "--codex-program", "no-such-codex"]);
    by_hand.event("tunnel").await;
    let held = machine.host(&["install"]).await;
    assert!(held.code == 1 && held.out.contains(&by_hand.pid().to_string()), "two agents on one home: {held:?}");
    assert!(!machine.unit().exists(), "it would be started again and again");
    assert_eq!(by_hand.stop().await, Some(0));

    let mut command = machine.home.command(&["host", "install", "--json"]);
    command
        .env("XDG_CONFIG_HOME", machine.home.folder("config"))
        .env("HTTPS_PROXY", "http://me:opensesame@127.0.0.1:1");
    let with_password = finished(command, "").await;
    assert!(!format!("{with_password:?}").contains("opensesame"), "{with_password:?}");
    refused(with_password, "proxy_password", "EnvironmentFile=");
    assert!(!machine.unit().exists(), "a password would be in it");

    std::fs::create_dir_all(machine.unit().parent().unwrap()).unwrap();
    std::fs::write(machine.unit(), "[Service]\nExecStart=/bin/true\n").unwrap();
    machine.asked();
    for command in ["install", "uninstall"] {
        refused(machine.host(&[command]).await, "not_ours", machine.unit().to_str().unwrap());
    }
    assert_eq!(std::fs::read_to_string(machine.unit()).unwrap(), "[Service]\nExecStart=/bin/true\n");
    assert_eq!(machine.asked(), [""; 0], "nobody is asked to do anything");
}

#[tokio::test]
async fn where_lingering_is_not_allowed_the_words_for_an_administrator_are_told() {
    let machine = Machine::enrolled().await;
    machine.tell("forbidden", "");
    let steps = machine.did(&["install"]).await;
    assert!(steps[0].contains("sudo loginctl enable-linger") && steps[0].contains("Access denied"), "{steps:?}");
    assert_eq!(steps.last().unwrap(), &format!("systemctl --user restart {UNIT}"), "it runs all the same");
}

#[tokio::test]
async fn the_log_of_the_service_is_its_journal() {
    let machine = Machine::new();
    let shown = machine.host(&["logs", "-f", "-n", "5"]).await.ok();
    assert_eq!(shown.out, "a line\n");
    let expected = format!("journalctl --no-pager --lines=5 --user-unit={UNIT} --follow --output=json");
    assert_eq!(machine.asked(), [expected]);
    let none = machine.host_with(machine.home.folder("empty").to_str().unwrap(), &["logs"]).await;
    assert_eq!((none.code, &none.event("error")["code"]), (1, &Value::from("no_journal")));
}

#[tokio::test]
async fn a_relay_says_what_its_installation_would_do() {
    let machine = Machine::new();
    let mut command = Command::new(binary("reachback-relay"));
    command.args(["install", "--dry-run", "--json", "--listen", "127.0.0.1:7999"]);
    command
        .env("PATH", format!("{}:/usr/bin:/bin", machine.programs.display()))
        .env("HOME", machine.home.folder("user"));
    command.env_remove("XDG_CONFIG_HOME").env_remove("XDG_STATE_HOME");
    let planned = finished(command, "").await;
    // As root it is the machine's, which does not see a build below /root or /home.
    if planned.code == 1 {
        assert!(planned.err.contains("install -m 755"), "{planned:?}");
        return;
    }
    let steps: Vec<String> = planned.ok().lines().iter().map(did).collect();
    assert!(steps.iter().any(|step| step == "wrote"), "{steps:?}");
    assert!(steps.iter().any(|step| step.ends_with("enable reachback-relay.service")), "{steps:?}");
    assert!(steps.last().unwrap().contains("enroll --data"), "{steps:?}");
    let asked = machine.asked();
    assert!(asked.iter().all(|line| line.contains(" show")), "it asks, and changes nothing: {asked:?}");
    assert!(!machine.home.folder("user").join(".config").exists(), "a dry run writes nothing");
}

/// Starts what the host's container of docker-compose.yml starts, with its project elsewhere.
fn container(home: &Home, relay: &str) -> Process {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/compose/host.sh");
    let script = std::fs::read_to_string(script).unwrap().replace("/work", home.folder("work").to_str().unwrap());
    let programs = binary("reachback").parent().unwrap().to_owned();
    let path = std::env::split_paths(&std::env::var_os("PATH").unwrap()).collect::<Vec<_>>();
    let mut command = Command::new("sh");
    command.args(["-c", &script, "host.sh", "--codex-program", "no-such-codex", "--json"]);
    command.envs(home.command(&[]).as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("REACHBACK_RELAY", relay);
    command.env("PATH", std::env::join_paths([programs].into_iter().chain(path)).unwrap());
    Process::spawn("host.sh", command)
}

#[tokio::test]
async fn the_hosts_container_holds_on_to_its_relay_and_gives_up_its_key_once_it_knows_one() {
    let data = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary("reachback-relay"));
    command.args(["serve", "--json", "--listen", &free_port().to_string(), "--data"]).arg(data.path().join("data"));
    let mut relay = Process::spawn("reachback-relay", command);
    let ready = relay.event("ready").await;
    let (home, url) = (Home::new(), ready["url"].as_str().unwrap());
    std::fs::create_dir(home.path()).unwrap();
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let key = home.path().join("enroll-key");
    std::fs::copy(ready["enroll_file"].as_str().unwrap(), &key).unwrap();
    let mut host = container(&home, url);
    let first = host.event("ready").await;
    assert_eq!(host.stop().await, Some(0));
    assert!(key.exists(), "it may have to try again with it");
    let mut host = container(&home, url);
    assert_eq!(host.event("ready").await["host_id"], first["host_id"], "another host");
    assert!(!key.exists(), "with a key the agent takes whatever relay is at a new address");
    assert_eq!(host.stop().await, Some(0));
    assert_eq!(relay.stop().await, Some(0));
}
