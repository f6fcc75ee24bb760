//! The owner opens folders to devices and closes them, with and without a running agent, and is asked at the first start.

use std::path::{Path, PathBuf};

use e2e::process::{Finished, Home, Process, finished};
use e2e::stage::{Stage, TestRelay, client};
use e2e::tmux::Terminal;
use reachback_host::local_api::Request;
use reachback_proto::scope::Scope;
use serde_json::{Value, json};

/// An agent with a relay, without Codex: folders are the owner's business alone.
const UP: [&str; 5] = ["up", "--listen", "127.0.0.1:0", "--codex-program", "/nonexistent/codex"];

/// What `up` asks.
const QUESTION: &str = "to your devices? [Y/n]";

/// A person with a home folder and projects.
struct Owner {
    home: Home,
    user: PathBuf,
}

impl Owner {
    fn new() -> Self {
        let home = Home::new();
        let user = home.folder("user");
        Self { home, user }
    }

    fn project(&self, name: &str) -> PathBuf {
        self.home.folder(&format!("user/{name}"))
    }

    /// Starts `up`, from a folder that can't be offered, and waits until it is ready.
    async fn up(&self, more: &[&str]) -> Process {
        let mut command = self.home.command(&[&UP[..], more, &["--json"]].concat());
        command.current_dir("/").env("HOME", &self.user);
        let mut up = Process::spawn("reachback up", command);
        up.event("ready").await;
        up
    }

    async fn run_in(&self, folder: &Path, args: &[&str]) -> Finished {
        let mut command = self.home.command(args);
        command.current_dir(folder).env("HOME", &self.user);
        finished(command, "").await
    }

    async fn workspace(&self, args: &[&str]) -> Finished {
        self.run_in(&self.user, &[&["workspace"], args, &["--json"]].concat()).await
    }

    /// What `workspace list` says, each as path, who opened it, and whether it counts.
    async fn list(&self) -> Vec<(String, String, bool)> {
        let lines = self.workspace(&["list"]).await.ok().lines();
        let word = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
        lines.iter().map(|line| (word(line, "path"), word(line, "by"), line["open"].as_bool().unwrap())).collect()
    }

    fn trust(&self, folder: &Path) {
        let path = self.home.codex_home().join("config.toml");
        let config = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("{config}[projects.{folder:?}]\ntrust_level = \"trusted\"\n")).unwrap();
    }

    /// What was recorded about folders.
    async fn audit(&self) -> Vec<(String, String)> {
        let lines = self.home.json(&["audit"]).await.ok().lines();
        let pair = |line: &Value| [&line["event"], &line["path"]].map(|word| word.as_str().unwrap_or("").to_owned());
        lines.iter().map(pair).map(|[event, path]| (event, path)).collect()
    }
}

fn str(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn open(path: &Path, by: &str) -> (String, String, bool) {
    (str(path).to_owned(), by.to_owned(), true)
}

fn event(name: &str, path: &Path, by: &str, open: bool, reason: Option<&str>) -> Value {
    json!({ "event": name, "environment": "local", "path": str(path), "by": by, "open": open, "reason": reason })
}

#[tokio::test]
async fn workspaces_are_added_listed_and_removed_while_no_agent_runs() {
    let owner = Owner::new();
    let (shop, site) = (owner.project("shop"), owner.project("site"));
    assert_eq!(owner.list().await, []);
    let none = owner.run_in(&shop, &["workspace", "list"]).await.ok();
    assert!(none.out.contains("No folder is open to devices. Open one: reachback workspace add DIR"), "{none:?}");

    // The current folder, for a person; another, for a program.
    let added = owner.run_in(&shop, &["workspace", "add"]).await.ok();
    assert_eq!(added.out, format!("Opened to devices: {}\n", shop.display()));
    let added = owner.workspace(&["add", "site"]).await.ok().lines();
    assert_eq!(added, [event("workspace_added", &site, "owner", true, None)]);
    let listed = owner.workspace(&["list"]).await.ok().lines();
    assert_eq!(listed, [&shop, &site].map(|path| event("workspace", path, "owner", true, None)));
    let table = owner.run_in(&shop, &["workspace", "list"]).await.ok();
    assert!(table.out.starts_with("FOLDER") && table.out.contains("owner"), "{table:?}");

    let removed = owner.workspace(&["remove", str(&site)]).await.ok().lines();
    assert_eq!(removed, [event("workspace_removed", &site, "owner", false, None)]);
    // One whose folder is gone is still known by its name.
    std::fs::remove_dir(&shop).unwrap();
    assert_eq!(owner.list().await, [(str(&shop).to_owned(), "owner".to_owned(), false)]);
    owner.workspace(&["remove", str(&shop)]).await.ok();
    assert_eq!(owner.list().await, []);

    let recorded = [("added", &shop), ("added", &site), ("removed", &site), ("removed", &shop)];
    let recorded = recorded.map(|(what, path)| (format!("workspace_{what}"), str(path).to_owned()));
    assert_eq!(owner.audit().await, recorded);
    let table = owner.home.run(&["audit"]).await.ok();
    assert!(table.out.contains(&format!("{} was opened to devices.", shop.display())), "{table:?}");
}

#[tokio::test]
async fn a_running_agent_takes_a_change_at_once_and_says_when_no_folder_is_left() {
    let owner = Owner::new();
    let shop = owner.project("shop");
    let mut up = owner.up(&[]).await;
    let notice = up.event("notice").await;
    assert_eq!(
        (&notice["code"], &notice["fix"]),
        (&json!("no_workspace"), &json!("open one: reachback workspace add DIR"))
    );

    owner.workspace(&["add", "shop"]).await.ok();
    assert_eq!(up.event("workspace_added").await, event("workspace_added", &shop, "owner", true, None));
    assert_eq!(owner.list().await, [open(&shop, "owner")]);
    owner.workspace(&["remove", "shop"]).await.ok();
    assert_eq!(up.event("workspace_removed").await, event("workspace_removed", &shop, "owner", false, None));
    assert_eq!(up.event("notice").await["code"], "no_workspace");
    owner.workspace(&["add", "shop"]).await.ok();
    assert_eq!(up.stop().await, Some(0));

    // What the agent took is there without it, and after a restart.
    assert_eq!(owner.list().await, [open(&shop, "owner")]);
    let mut up = owner.up(&[]).await;
    assert_eq!(owner.list().await, [open(&shop, "owner")]);
    assert_eq!(up.stop().await, Some(0));
    let changes: Vec<_> = owner.audit().await.into_iter().map(|(event, _)| event).collect();
    assert_eq!(changes, ["workspace_added", "workspace_removed", "workspace_added"]);
}

#[tokio::test]
async fn a_folder_that_codex_trusts_is_a_workspace_until_the_owner_closes_it() {
    let owner = Owner::new();
    let shop = owner.project("shop");
    owner.trust(&shop);
    for is_running in [false, true] {
        let up = if is_running { Some(owner.up(&[]).await) } else { None };
        assert_eq!(owner.list().await, [open(&shop, "codex")], "running: {is_running}");
        let removed = owner.workspace(&["remove", "shop"]).await.ok().event("workspace_removed");
        assert_eq!((&removed["open"], &removed["by"]), (&json!(false), &json!("codex")), "{removed}");
        assert!(removed["reason"].is_string(), "it does not say that it is remembered as closed: {removed}");
        let words = owner.run_in(&owner.user, &["workspace", "list"]).await.ok();
        assert!(words.out.contains("Codex's configuration  not open: "), "{words:?}");
        if let Some(mut up) = up {
            assert_eq!(up.stop().await, Some(0));
        }
        assert_eq!(owner.list().await, [(str(&shop).to_owned(), "codex".to_owned(), false)], "it did not stay closed");
        // The owner's word opens it again, and closes it again.
        owner.workspace(&["add", "shop"]).await.ok();
        assert_eq!(owner.list().await, [open(&shop, "owner")]);
        owner.workspace(&["remove", "shop"]).await.ok();
        assert_eq!(owner.list().await, [(str(&shop).to_owned(), "codex".to_owned(), false)]);
        // As if nothing had been said yet.
        std::fs::remove_file(owner.home.path().join("host/workspaces.json")).unwrap();
    }
}

#[tokio::test]
async fn what_can_be_no_workspace_is_refused_with_the_reason_and_the_next_step() {
    let owner = Owner::new();
    let shop = owner.project("shop");
    let (inner, outer) = (owner.project("shop/inner"), owner.project("outer"));
    let nested = owner.project("outer/nested");
    let state = owner.home.path();
    std::fs::write(owner.user.join("file"), "").unwrap();
    std::os::unix::fs::symlink(&state, owner.user.join("link")).unwrap();
    for folder in [&shop, &nested] {
        owner.workspace(&["add", str(folder)]).await.ok();
    }
    let in_state = state.join("host");
    let (codex, in_codex) = (owner.home.codex_home(), owner.home.folder("codex/sessions"));
    let cases = [
        (owner.user.clone(), "workspace_home", "the home folder"),
        (PathBuf::from("/"), "workspace_home", "the home folder"),
        (state.clone(), "workspace_state", "Reachback's"),
        (in_state, "workspace_state", "Reachback's"),
        (owner.user.join("link"), "workspace_state", "Reachback's"),
        (codex, "workspace_state", "Codex's"),
        (in_codex, "workspace_state", "Codex's"),
        (inner, "workspace_nested", "shop”, which is a workspace already"),
        (outer, "workspace_nested", "nested” lies in it"),
        (shop.clone(), "workspace_already", "already"),
        (owner.user.join("file"), "workspace_missing", "no such folder"),
        (owner.user.join("nothing"), "workspace_missing", "no such folder"),
    ];
    let before = owner.list().await;
    for is_running in [false, true] {
        let up = if is_running { Some(owner.up(&[]).await) } else { None };
        for (path, code, reason) in &cases {
            let refused = owner.workspace(&["add", str(path)]).await;
            let error = refused.event("error");
            let message = error["message"].as_str().unwrap();
            assert_eq!((refused.code, error["code"].as_str()), (1, Some(*code)), "{path:?}: {error}");
            assert!(message.contains(reason), "{path:?}: `{reason}` is not in {message}");
            assert!(error["fix"].as_str().unwrap().contains("reachback workspace "), "no next step: {error}");
        }
        let unknown = owner.workspace(&["remove", "nothing"]).await;
        assert_eq!((unknown.code, &unknown.event("error")["code"]), (1, &json!("no_such_workspace")));
        if let Some(mut up) = up {
            assert_eq!(up.stop().await, Some(0));
        }
        assert_eq!(owner.list().await, before, "a refusal changed something");
    }
    // What is refused to `workspace add` is refused to a start.
    let start = [&UP[..], &["--workspace", str(&state), "--json"]].concat();
    let refused = owner.run_in(&owner.user, &start).await;
    assert_eq!((refused.code, &refused.event("error")["code"]), (1, &json!("workspace_state")));
}

#[tokio::test]
async fn folders_that_a_start_names_are_opened_and_without_a_terminal_nothing_else_is() {
    let owner = Owner::new();
    let [shop, site, desk] = ["shop", "site", "desk"].map(|name| owner.project(name));
    // A service's folder may be any; it is not opened by starting there.
    let mut command = owner.home.command(&[&UP[..], &["--json"]].concat());
    command.current_dir(&shop).env("HOME", &owner.user);
    let mut up = Process::spawn("reachback up", command);
    assert_eq!(up.event("notice").await["code"], "no_workspace");
    assert_eq!(up.stop().await, Some(0));
    assert_eq!(owner.list().await, []);

    let named = ["--workspace", str(&shop), "--workspace", str(&site), "--workdir", str(&desk)];
    for _ in 0..2 {
        let mut up = owner.up(&named).await;
        let all = [&desk, &shop, &site].map(|path| open(path, "owner"));
        assert_eq!(owner.list().await, all, "while it runs");
        assert_eq!(up.stop().await, Some(0));
    }
    // Once each, though they were named twice.
    assert_eq!(owner.audit().await.len(), 3);
}

/// Waits until `up` is up.
async fn is_up(terminal: &Terminal) {
    terminal.shows("Reachback is up.").await;
}

async fn end(terminal: &Terminal) {
    terminal.press(&["C-c"]);
    assert_eq!(terminal.exit().await, 0);
}

#[tokio::test]
async fn the_first_start_in_a_terminal_offers_the_folder_and_opens_it_on_a_yes() {
    let owner = Owner::new();
    let shop = owner.project("shop");
    // Interrupted, it asks again.
    let terminal = owner.home.terminal_in(&shop, &UP);
    terminal.shows(QUESTION).await;
    terminal.press(&["C-c"]);
    assert_ne!(terminal.exit().await, 0);
    assert_eq!(owner.list().await, []);

    let terminal = owner.home.terminal_in(&shop, &UP);
    terminal.shows(QUESTION).await;
    assert!(
        terminal.everything().contains(&format!("Open {} {QUESTION}", shop.display())),
        "{}",
        terminal.everything()
    );
    terminal.type_text("perhaps");
    terminal.press(&["Enter"]);
    terminal.until("it asks again", |screen| screen.matches("[Y/n]").count() == 2).await;
    terminal.press(&["Enter"]);
    is_up(&terminal).await;
    assert_eq!(owner.list().await, [open(&shop, "owner")]);
    assert!(!terminal.everything().contains("no folder of this host"), "{}", terminal.everything());
    end(&terminal).await;

    // Once is enough, also elsewhere.
    let terminal = owner.home.terminal_in(&owner.project("site"), &UP);
    is_up(&terminal).await;
    assert!(!terminal.everything().contains("[Y/n]"), "{}", terminal.everything());
    end(&terminal).await;
    assert_eq!(owner.audit().await, [("workspace_added".to_owned(), str(&shop).to_owned())]);
}

#[tokio::test]
async fn a_host_of_a_relay_elsewhere_offers_the_folder_too() {
    let owner = Owner::new();
    let shop = owner.project("shop");
    let relay = TestRelay::start().await;
    let (url, key) = (format!("http://{}", relay.addr), relay.ready["enroll_file"].as_str().unwrap());
    let host = ["host", "--relay", &url, "--enroll-file", key, "--codex-program", "/nonexistent/codex"];
    let terminal = owner.home.terminal_in(&shop, &host);
    terminal.shows(QUESTION).await;
    terminal.type_text("y");
    terminal.press(&["Enter"]);
    terminal.shows("Connected to the relay.").await;
    assert_eq!(owner.list().await, [open(&shop, "owner")]);
    end(&terminal).await;
}

#[tokio::test]
async fn a_no_is_remembered_and_a_folder_that_can_not_be_opened_is_not_offered() {
    let owner = Owner::new();
    let shop = owner.project("shop");
    // As of a service: it says how to add one.
    let terminal = owner.home.terminal_in(Path::new("/"), &UP);
    terminal.shows("reachback workspace add DIR").await;
    is_up(&terminal).await;
    assert!(!terminal.everything().contains("[Y/n]"), "{}", terminal.everything());
    end(&terminal).await;

    let terminal = owner.home.terminal_in(&shop, &UP);
    terminal.shows(QUESTION).await;
    terminal.type_text("n");
    terminal.press(&["Enter"]);
    terminal.shows("no folder of this host is open to devices").await;
    end(&terminal).await;
    let terminal = owner.home.terminal_in(&shop, &UP);
    terminal.shows("no folder of this host is open to devices").await;
    assert!(!terminal.everything().contains("[Y/n]"), "{}", terminal.everything());
    end(&terminal).await;
    assert_eq!(owner.list().await, []);
}

#[tokio::test]
async fn a_device_below_approve_works_in_a_folder_from_the_moment_it_is_opened_until_it_is_closed() {
    let stage = Stage::start().await;
    let owner = Home::new();
    let folder = owner.folder("shop");
    let path = str(&folder).to_owned();
    let remote = stage.pair(Scope::Steer).await.connect().await;
    let mut device = client(&remote).await;
    let wish = json!({ "cwd": path });
    let refused = device.request("thread/start", wish.clone()).await.unwrap_err();
    assert!(refused["message"].as_str().unwrap().contains("reachback workspace add"), "no next step: {refused}");
    stage.ask(Request::AddWorkspace { environment: None, path: path.clone() }).await;
    device.request("thread/start", wish.clone()).await.unwrap();
    stage.ask(Request::RemoveWorkspace { environment: None, path }).await;
    let refused = device.request("thread/start", wish).await.unwrap_err();
    assert_eq!(refused["code"], -32010, "{refused}");
    stage.stop().await;
}
