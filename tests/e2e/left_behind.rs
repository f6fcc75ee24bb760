//! A Codex whose agent was killed: the next agent of the home ends it, and nothing else.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};

use e2e::process::{Home, Process, free_port, processes_with};
use e2e::{codex, eventually};
use serde_json::{Value, json};

/// A demo that ends without dumping its core, whatever it is told; what it says beside its lines is kept.
struct Demo {
    home: Home,
    args: Vec<String>,
}

impl Demo {
    fn new() -> Self {
        let (addr, codex) = (free_port().to_string(), codex::program());
        let args =
            ["up", "--demo", "--listen", &addr, "--codex-program", codex.to_str().unwrap()].map(str::to_owned).to_vec();
        Self { home: Home::new(), args }
    }

    /// Starts it; gives it with what it told about its Codex.
    async fn start(&self) -> (Process, Value) {
        let first = format!("ulimit -c 0; exec 2>'{}'", self.errors().display());
        let args: Vec<_> = self.args.iter().map(String::as_str).collect();
        let mut up = self.home.start_after(&first, &args);
        up.event("ready").await;
        let ready = up.line("codex ready", |line| line["event"] == "codex" && line["state"] == "ready").await;
        (up, ready)
    }

    fn errors(&self) -> PathBuf {
        self.home.folder("errors").join("log")
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.errors()).unwrap()
    }

    /// Its app-server: npm's script, and the program.
    fn codex(&self) -> Vec<u32> {
        let servers = processes_with(&self.home.path()).into_iter().filter(|(_, line)| line.contains(" app-server "));
        servers.map(|(pid, _)| pid).collect()
    }

    fn note(&self) -> PathBuf {
        self.home.path().join("host/codex.json")
    }

    /// Starts it and kills it; gives the Codex that is left.
    async fn killed(&self, signal: &str) -> Vec<u32> {
        let (mut up, _) = self.start().await;
        up.signal(signal);
        assert_eq!(up.exit().await, None, "{signal} has an agent end in order: there is nothing left to test");
        // The wrapper and the server: a process that the server is just starting looks like it, for a moment.
        let note: Value = serde_json::from_slice(&std::fs::read(self.note()).unwrap()).unwrap();
        let noted = note["processes"].as_array().unwrap().iter().map(|process| process["pid"].as_u64().unwrap() as u32);
        let (noted, running): (Vec<_>, _) = (noted.collect(), self.codex());
        let left: Vec<_> = noted.into_iter().filter(|pid| running.contains(pid)).collect();
        assert!(!left.is_empty(), "Codex ended with its agent: there is nothing left to test");
        left
    }

    /// Nothing is left of it once it has stopped in order.
    async fn stop(&self, mut up: Process) {
        assert_eq!(up.stop().await, Some(0));
        eventually("no Codex runs after its agent has stopped", || self.codex().is_empty()).await;
    }

    /// What it has joined goes on after it has stopped in order.
    async fn stop_joined(&self, mut up: Process, left: &[u32]) {
        assert_eq!(up.stop().await, Some(0));
        let running = self.codex();
        assert!(
            left.iter().all(|pid| running.contains(pid)),
            "what was joined ended with the agent: {left:?}, {running:?}"
        );
    }
}

/// A process that somebody else started.
struct Bystander(Child);

impl Bystander {
    fn new() -> Self {
        Self(Command::new("sleep").arg("1000").process_group(0).spawn().unwrap())
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test]
async fn the_codex_of_an_agent_that_was_killed_is_ended_by_the_next_one_which_starts_its_own() {
    for signal in ["-KILL", "-QUIT"] {
        let demo = Demo::new();
        let left = demo.killed(signal).await;
        let (up, codex) = demo.start().await;
        assert_eq!(codex["joined"], false, "{signal}: {codex}");
        let now = demo.codex();
        assert!(
            !now.is_empty() && left.iter().all(|pid| !now.contains(pid)),
            "{signal}: {now:?} runs, {left:?} was left"
        );
        assert!(demo.said().contains("ending the codex of an earlier agent"), "{}", demo.said());
        demo.stop(up).await;
        assert!(!demo.note().exists(), "what has ended is still noted");
    }
}

#[tokio::test]
async fn a_codex_whose_wrapper_was_killed_with_the_agent_is_ended_too() {
    let demo = Demo::new();
    let (mut up, _) = demo.start().await;
    let noted: Value = serde_json::from_slice(&std::fs::read(demo.note()).unwrap()).unwrap();
    up.kill().await;
    let wrapper = noted["group"].to_string();
    assert!(Command::new("kill").args(["-KILL", &wrapper]).status().unwrap().success());
    eventually("the wrapper has ended", || !demo.codex().iter().any(|pid| pid.to_string() == wrapper)).await;
    let left = demo.codex();
    assert!(!left.is_empty(), "the server ended with its wrapper: there is nothing left to test");

    let (up, codex) = demo.start().await;
    assert_eq!(codex["joined"], false, "{codex}");
    assert!(left.iter().all(|pid| !demo.codex().contains(pid)), "{left:?} still runs");
    demo.stop(up).await;
}

#[tokio::test]
async fn a_note_whose_process_is_another_one_by_now_ends_nothing() {
    let demo = Demo::new();
    let left = demo.killed("-KILL").await;
    let mut bystander = Bystander::new();
    let mut note: Value = serde_json::from_slice(&std::fs::read(demo.note()).unwrap()).unwrap();
    let started = note["processes"][0]["started"].clone();
    // The start of what was started then, with the id of what has it now.
    note["group"] = json!(bystander.0.id());
    note["processes"] = json!([{ "pid": bystander.0.id(), "started": started }]);
    std::fs::write(demo.note(), note.to_string()).unwrap();

    let (up, codex) = demo.start().await;
    assert!(bystander.lives(), "somebody else's process was ended");
    assert_eq!(codex["joined"], true, "{codex}");
    demo.stop_joined(up, &left).await;
    assert!(bystander.lives(), "somebody else's process was ended");
}

#[tokio::test]
async fn a_note_that_is_broken_is_named_and_keeps_no_agent_from_starting() {
    let demo = Demo::new();
    let left = demo.killed("-KILL").await;
    for content in ["", "not JSON", r#"{"version":1,"group":1,"processes":[]}"#, r#"{"version":2}"#] {
        std::fs::write(demo.note(), content).unwrap();
        let (mut up, codex) = demo.start().await;
        assert_eq!(codex["joined"], true, "{content}: {codex}");
        let said = demo.said();
        assert!(said.contains(demo.note().to_str().unwrap()) && said.contains("joined"), "{content}: {said}");
        assert_eq!(std::fs::read_to_string(demo.note()).unwrap(), content, "it was replaced, and nothing new is known");
        assert_eq!(up.stop().await, Some(0));
    }
    let server = |pid: &u32| Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success();
    assert!(left.iter().all(server), "{left:?} does not run any more");
    eventually("the old Codex has ended", || demo.codex().is_empty()).await;

    let (up, codex) = demo.start().await;
    assert_eq!(codex["joined"], false, "{codex}");
    let noted: Value = serde_json::from_slice(&std::fs::read(demo.note()).unwrap()).expect("it was not replaced");
    assert_eq!(noted["processes"].as_array().unwrap().len(), 2, "the wrapper and the server: {noted}");
    demo.stop(up).await;
}
