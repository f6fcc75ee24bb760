//! `reachback codex use` and `restore`: a Codex that the person starts comes to the agent.
//!
//! The stand-in for the Codex App is an unmodified `codex remote-control`, started with nothing but its `CODEX_HOME`: what leads
//! it to the agent is `config.toml` alone. The App itself was not run.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use e2e::codex::{self, TestCodex};
use e2e::process::{Home, Process};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::walk::{client, socket};

/// A person with a Codex that is signed in, and a home for an agent.
pub(crate) struct Person {
    pub(crate) codex: TestCodex,
    pub(crate) home: Home,
}

impl Person {
    pub(crate) async fn prepare() -> Self {
        let codex = TestCodex::prepare().await;
        codex.home.sign_in().unwrap();
        Self { codex, home: Home::new() }
    }

    pub(crate) fn codex_home(&self) -> &str {
        self.codex.home.codex_home().to_str().unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.codex.home.codex_home().join(name)
    }

    fn config(&self) -> String {
        std::fs::read_to_string(self.file("config.toml")).unwrap()
    }

    /// Starts an agent that reaches Codex in this way.
    pub(crate) fn up(&self, way: &str) -> Process {
        self.up_at(&self.home, way)
    }

    /// The same on another home.
    pub(crate) fn up_at(&self, home: &Home, way: &str) -> Process {
        let program = codex::program();
        let program = program.to_str().unwrap();
        let more = ["--codex-program", program, "--codex-home", self.codex_home()];
        home.start(&[&["up", "--listen", "127.0.0.1:0", "--codex", way][..], &more].concat())
    }

    /// `codex use`, as far as it succeeds.
    pub(crate) async fn uses(&self) -> Vec<Value> {
        self.home.json(&["codex", "use", "--codex-home", self.codex_home()]).await.ok().lines()
    }

    async fn restores(&self) -> Vec<Value> {
        self.home.json(&["codex", "restore"]).await.ok().lines()
    }

    /// Starts what stands in for the App.
    fn app(&self) -> App {
        let mut command = Command::new(codex::program());
        command.args(["remote-control", "--no-daemon", "--json"]).env("CODEX_HOME", self.codex_home());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        App(command.spawn().unwrap())
    }
}

/// A Codex that the agent did not start. Killed when dropped, with the program below npm's script.
struct App(Child);

impl App {
    fn signal(&self, name: &str) {
        if let Some(pid) = self.0.id() {
            let _ = std::process::Command::new("kill").args([name, "--", &format!("-{pid}")]).output();
        }
    }

    /// Ends it as a person does.
    async fn quit(mut self) {
        self.signal("-INT");
        let ended = tokio::time::timeout(e2e::PATIENCE, self.0.wait()).await;
        ended.expect("the stand-in for the App does not end").unwrap();
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.signal("-KILL");
    }
}

/// The next `codex` line with this state.
pub(crate) async fn codex_is(up: &mut Process, state: &str) -> Value {
    up.line(&format!("codex {state}"), |line| line["event"] == "codex" && line["state"] == state).await
}

/// The value that leads to an agent.
fn leads(config: &str) -> bool {
    config.starts_with("chatgpt_base_url = \"http://127.0.0.1:")
}

#[track_caller]
fn told<'a>(lines: &'a [Value], event: &str) -> &'a Value {
    lines.iter().find(|line| line["event"] == event).unwrap_or_else(|| panic!("no `{event}` in {lines:?}"))
}

#[tokio::test]
async fn a_codex_that_the_person_starts_comes_and_goes_and_the_configuration_is_theirs_again() {
    let person = Person::prepare().await;
    let before = person.config();
    let wish = person.uses().await;
    assert_eq!(told(&wish, "codex_use")["leads_here"], false, "{wish:?}");
    assert_eq!(person.config(), before, "it leads to where nobody listens");
    let status = person.home.run(&["status"]).await.ok().out;
    assert!(status.contains("reachback host --codex remote-control"), "{status}");

    let mut up = person.up("remote-control");
    codex_is(&mut up, "waiting").await;
    let notice = up.line("what to do", |line| line["code"] == "waiting_for_codex").await;
    assert!(notice["fix"].as_str().unwrap().contains("turn remote control on"), "{notice}");
    assert!(leads(&person.config()) && person.config().ends_with(&before), "{}", person.config());
    let status = person.home.run(&["status"]).await.ok().out;
    assert!(
        status.contains("Codex    waiting for the Codex App: open it") && status.contains("led here by"),
        "{status}"
    );

    let app = person.app();
    let ready = codex_is(&mut up, "ready").await;
    assert_eq!((&ready["adapter"], &ready["joined"]), (&json!("remote-control"), &json!(true)), "{ready}");
    assert!(ready["keys_reason"].as_str().unwrap().contains("reachback codex restore"), "{ready}");
    let device = Home::new();
    let url = up.event("pairing").await["url"].clone();
    device.json(&["join", url.as_str().unwrap(), "--name", "laptop"]).await.ok();
    let (mut connect, _folder, path) = socket(&device).await;
    let mut listing = client(&path).await;
    let listed = listing.request("thread/list", json!({})).await.unwrap();
    assert!(listed["data"].is_array(), "{listed}");

    app.quit().await;
    codex_is(&mut up, "waiting").await;
    let host = device.json(&["hosts"]).await.ok().event("host");
    assert_eq!(host["codex_reason"], "waiting for the Codex App", "{host}");
    let app = person.app();
    codex_is(&mut up, "ready").await;
    connect.stop().await;
    app.quit().await;
    assert_eq!(up.stop().await, Some(0));
    assert_eq!(person.config(), before);
    assert_eq!(std::fs::read_to_string(person.file("config.toml.before-reachback")).unwrap(), before);
}

#[tokio::test]
async fn an_agent_that_runs_takes_the_wish_up_and_gives_it_up_without_a_restart() {
    let person = Person::prepare().await;
    let before = person.config();
    let mut up = person.up("remote-control");
    assert_eq!(codex_is(&mut up, "ready").await["joined"], false);
    for _ in 0..2 {
        let wish = person.uses().await;
        let now = told(&wish, "codex_use");
        assert_eq!((&now["wanted"], &now["leads_here"]), (&json!(true), &json!(true)), "{wish:?}");
    }
    let config = person.config();
    assert!(leads(&config) && config.matches("chatgpt_base_url").count() == 1, "{config}");
    codex_is(&mut up, "waiting").await;
    let app = person.app();
    assert_eq!(codex_is(&mut up, "ready").await["joined"], true);

    let restored = person.restores().await;
    assert_eq!(told(&restored, "codex_use")["wanted"], false, "{restored:?}");
    assert_eq!(person.config(), before);
    // The App goes on knocking until it is quit, and is not let in in the place of the agent's own.
    assert_eq!(codex_is(&mut up, "ready").await["joined"], false);
    app.quit().await;
    assert_eq!(up.stop().await, Some(0));
    assert_eq!(person.config(), before);
}

#[tokio::test]
async fn what_a_killed_agent_left_in_the_configuration_is_said_and_mended() {
    let person = Person::prepare().await;
    let before = person.config();
    person.uses().await;
    let killed = || async {
        let mut up = person.up("remote-control");
        codex_is(&mut up, "waiting").await;
        up.kill().await;
        assert!(leads(&person.config()));
    };
    killed().await;
    let status = person.home.run(&["status"]).await.ok().out;
    assert!(status.contains("where nobody listens: reachback codex restore"), "{status}");
    // Another way to Codex needs no setting.
    let mut up = person.up("app-server");
    codex_is(&mut up, "ready").await;
    assert_eq!(person.config(), before);
    assert_eq!(up.stop().await, Some(0));

    killed().await;
    let mut up = person.up("remote-control");
    codex_is(&mut up, "waiting").await;
    assert!(leads(&person.config()));
    up.signal("-HUP");
    assert_eq!(up.exit().await, Some(0));
    assert_eq!(person.config(), before);

    killed().await;
    person.restores().await;
    assert_eq!(person.config(), before);
}

#[tokio::test]
async fn a_wish_that_nothing_can_follow_from_says_what_to_do() {
    let person = Person::prepare().await;
    let mut up = person.up("app-server");
    codex_is(&mut up, "ready").await;
    let wish = person.uses().await;
    let but = told(&wish, "notice");
    assert!(but["fix"].as_str().unwrap().contains("reachback host --codex remote-control"), "{but}");
    assert!(!leads(&person.config()));
    // Another Codex than the agent's.
    let other = person.home.run(&["codex", "use"]).await;
    assert_eq!(other.code, 1, "{other:?}");
    assert!(other.err.contains("--codex-home"), "{other:?}");

    person.restores().await;
    let broken = format!("{}\nbroken = \n", person.config());
    std::fs::write(person.file("config.toml"), &broken).unwrap();
    let refused = person.home.run(&["codex", "use", "--codex-home", person.codex_home()]).await;
    let line = format!("line {}", broken.lines().count());
    assert!(
        refused.code == 1 && refused.err.contains(&line) && refused.err.contains("nothing was changed"),
        "{refused:?}"
    );
    assert_eq!(person.config(), broken);
    assert_eq!(up.stop().await, Some(0));
    not_there(&person.file("config.toml.before-reachback"));
}

#[track_caller]
fn not_there(path: &Path) {
    assert!(!path.exists(), "{} is there", path.display());
}
