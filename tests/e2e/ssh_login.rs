//! Machines that ask a person for something: a passphrase, a password, a code.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use e2e::process::{Home, Process};
use e2e::tmux::Terminal;
use serde_json::Value;

use crate::ssh_hosts::{ENVIRONMENT, Machine};

pub(crate) const SESAME: &str = "open sesame";

/// A machine that asks for [`SESAME`] through PAM, where one of these `ways` lets one in. `None` for who is not root.
pub(crate) async fn asking(ways: &str) -> Option<(Machine, Pam)> {
    if !is_root() {
        eprintln!("not run: services of PAM are root's to add");
        return None;
    }
    // A name for PAM that is this machine's own.
    static MACHINES: AtomicUsize = AtomicUsize::new(0);
    let number = MACHINES.fetch_add(1, Ordering::Relaxed);
    let name = format!("reachback-e2e-{}-{number}", std::process::id());
    let machine = Machine::asking(&name, ways).await;
    let crypted = std::process::Command::new("openssl").args(["passwd", "-6", SESAME]).output().unwrap().stdout;
    let crypted = String::from_utf8(crypted).unwrap();
    machine.ssh.write("passwords", &format!("{}:{crypted}", machine.ssh.user()));
    let pam = Pam::install(&name, &machine.ssh.at("passwords"));
    Some((machine, pam))
}

/// An owner whose agent runs, and a machine behind a cutter.
struct Scene {
    machine: Machine,
    home: Home,
    up: Process,
}

impl Scene {
    async fn start(machine: Machine) -> Self {
        let home = Home::new();
        let up = up(&home, &machine).await;
        Self { machine, home, up }
    }

    /// A command about the machine, at a terminal.
    fn at_the_terminal(&self, command: &str) -> Terminal {
        self.home.terminal(&["ssh", "--ssh-config", &self.machine.ssh.at("config"), command, "devbox"])
    }

    /// What the agent says of the machine.
    async fn status(&self) -> Value {
        let status = self.home.json(&["status"]).await.ok();
        let lines = status.lines();
        lines.into_iter().find(|line| line["environment"] == ENVIRONMENT).unwrap_or_else(|| panic!("{status:?}"))
    }

    async fn is(&self, state: &str) {
        let waiting = async {
            while self.status().await["state"] != state {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        let waited = tokio::time::timeout(e2e::PATIENCE, waiting).await;
        assert!(waited.is_ok(), "it was never {state}: {}", self.status().await);
    }

    /// Has the agent connect because somebody wants it to; gives why it can't.
    async fn refused(&self) -> Value {
        self.home.json(&["workspace", "add", "--env", ENVIRONMENT, "/"]).await.event("error")
    }

    /// Ends the agent, which wrote nothing down of what was typed.
    async fn stop(mut self) {
        assert_eq!(self.up.stop().await, Some(0));
        let log = std::fs::read_to_string(self.home.folder("logs").join("up")).unwrap();
        assert!(log.contains("devbox") && !log.contains("sesame"), "{log}");
    }
}

/// Starts the agent, which logs to the file `log` of the home.
pub(crate) async fn up(home: &Home, machine: &Machine) -> Process {
    let config = machine.ssh.at("config");
    let mut command =
        home.command(&["up", "--listen", "127.0.0.1:0", "--codex-program", "/nonexistent/codex", "--json"]);
    command.env("REACHBACK_SSH_CONFIG", config).env("REACHBACK_LOG", "trace");
    command.stderr(std::fs::File::options().create(true).append(true).open(home.folder("logs").join("up")).unwrap());
    let mut up = Process::spawn("reachback up", command);
    up.event("ready").await;
    up
}

#[tokio::test]
async fn a_locked_key_is_opened_once_for_the_agent_and_stays_open_in_its_memory() {
    let machine = Machine::prepare().await;
    machine.ssh.key("locked", "ed25519", SESAME);
    machine.ssh.lets_in(&["locked", "one"]);
    let port = machine.link.addr().port();
    let locked = machine.ssh.at("locked");
    let only = format!("Host devbox\n  Port {port}\n  IdentityFile {locked}\n");
    machine.ssh.configure(&only);
    let scene = Scene::start(machine).await;

    // Added at the terminal: what was typed for the check lets the agent in, too.
    let adding = scene.at_the_terminal("add");
    adding.shows("Passphrase of").await;
    adding.type_text(SESAME);
    adding.press(&["Enter"]);
    adding.shows("a key that you opened stays open").await;
    assert_eq!(adding.exit().await, 0);
    assert_eq!(adding.everything().matches("Passphrase of").count(), 1, "{}", adding.everything());
    scene.is("ready").await;

    // It is had back without a word.
    let dials = scene.machine.link.dials().len();
    scene.machine.link.reset();
    e2e::eventually("it is connected anew", || scene.machine.link.dials().len() > dials).await;
    scene.is("ready").await;

    // An agent that starts anew has forgotten it, and says what to do.
    let Scene { machine, home, up: mut before } = scene;
    assert_eq!(before.stop().await, Some(0));
    let scene = Scene { up: up(&home, &machine).await, machine, home };
    let failed = scene.refused().await;
    let fix = failed["fix"].as_str().unwrap();
    let wanted = format!(
        "open the key at this host's terminal: reachback ssh login devbox; or add it to the SSH agent: ssh-add {locked}"
    );
    assert_eq!(fix, wanted, "{failed}");

    // Nobody is asked where nobody sits.
    let refused = scene.home.json(&["ssh", "login", "devbox"]).await;
    assert_eq!(refused.event("ssh_asked")["for"], "passphrase", "{refused:?}");
    assert_eq!(refused.event("error")["code"], "ssh_auth", "{refused:?}");

    // At once, also where it has just been refused.
    let login = scene.at_the_terminal("login");
    login.shows("Passphrase of").await;
    login.type_text("wrong");
    login.press(&["Enter"]);
    login.until("a second question", |screen| screen.matches("Passphrase of").count() == 2).await;
    login.type_text(SESAME);
    login.press(&["Enter"]);
    login.shows("Codex can be reached there").await;
    assert_eq!(login.exit().await, 0);
    scene.is("ready").await;
    scene.machine.configure("");
    scene.machine.stop_server().await;
    scene.stop().await;
}

/// Passwords that PAM knows, for as long as this lives.
pub(crate) struct Pam {
    service: PathBuf,
}

impl Pam {
    /// For servers that are started under this name: those in the file `passwords`, `user:crypted`.
    fn install(name: &str, passwords: &str) -> Self {
        let service = PathBuf::from("/etc/pam.d").join(name);
        let text = format!(
            "auth required pam_pwdfile.so pwdfile={passwords}\naccount required pam_permit.so\n\
             session required pam_permit.so\n"
        );
        std::fs::write(&service, text).expect("the tests of PAM run as root");
        Self { service }
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

impl Drop for Pam {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.service);
    }
}

#[tokio::test]
async fn what_a_machine_asks_through_pam_is_answered_at_the_terminal_and_kept_nowhere() {
    let Some((machine, _pam)) = asking("keyboard-interactive").await else { return };
    let scene = Scene::start(machine).await;
    scene
        .home
        .json(&["ssh", "--ssh-config", &scene.machine.ssh.at("config"), "add", "--unchecked", "devbox"])
        .await
        .ok();

    let failed = scene.refused().await;
    assert!(failed["message"].as_str().unwrap().contains("asks for a password or a code"), "{failed}");
    assert_eq!(failed["fix"], "log in at this host's terminal: reachback ssh login devbox", "{failed}");

    let login = scene.at_the_terminal("login");
    login.shows("devbox” asks: “Password:").await;
    login.type_text("wrong");
    login.press(&["Enter"]);
    login.until("a second question", |screen| screen.matches("asks: “Password:").count() == 2).await;
    login.type_text(SESAME);
    login.press(&["Enter"]);
    login.shows("Codex can be reached there").await;
    assert!(!login.everything().contains("sesame"), "{}", login.everything());
    assert_eq!(login.exit().await, 0);
    scene.is("ready").await;

    // A connection that is lost has to be made by a person again.
    scene.machine.link.reset();
    scene.is("failed").await;
    assert_eq!(scene.status().await["fix"], failed["fix"]);
    let ending = scene.at_the_terminal("stop");
    ending.shows("asks: “Password:").await;
    ending.type_text(SESAME);
    ending.press(&["Enter"]);
    ending.shows("the app-server that Reachback had started").await;
    scene.stop().await;
}

#[tokio::test]
async fn who_has_nobody_asked_is_asked_for_no_password_or_code() {
    let Some((machine, _pam)) = asking("publickey,keyboard-interactive").await else { return };
    machine.configure("  BatchMode yes\n");
    let home = Home::new();
    let check = home.terminal(&["ssh", "--ssh-config", &machine.ssh.at("config"), "check", "devbox"]);
    assert_eq!(check.exit().await, 1);
    let said = check.everything().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("it asks for a password or a code; BatchMode yes has nobody asked"), "{said}");
    assert!(!said.contains("asks: “Password:"), "{said}");
    let fix =
        "set BatchMode no for it in the SSH configuration, and log in at this host's terminal: reachback ssh login";
    assert!(said.contains(fix), "{said}");
    // The machine has nothing to count.
    assert!(!machine.log().contains("keyboard-interactive"), "{}", machine.log());
}
