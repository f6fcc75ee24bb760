//! Folders of an SSH host: what devices may name there is looked at over SFTP, and judged as on the host itself.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use e2e::rpc::Client;
use reachback_host::audit;
use reachback_host::disk::Real;
use reachback_host::local_api::{Event, Failure, Request, Response};
use reachback_host::ssh::{Connection, Nobody, Person, SftpError};
use reachback_proto::scope::Scope;
use serde_json::{Value, json};

use crate::ssh_hosts::{Devbox, ENVIRONMENT, Machine, add, api, channel, listed};

/// The owner opens a folder of the machine, or not.
pub(crate) async fn open(stage: &e2e::stage::Stage, path: &str) -> Result<String, Failure> {
    let request = Request::AddWorkspace { environment: Some(ENVIRONMENT.into()), path: path.to_owned() };
    match stage.try_ask(request).await? {
        Response::Workspace(workspace) => {
            assert_eq!((&*workspace.environment, workspace.open), (ENVIRONMENT, true), "{workspace:?}");
            Ok(workspace.path)
        }
        other => panic!("{other:?}"),
    }
}

/// Why a folder is refused to a device; `None` where a thread starts there.
async fn why_not(client: &mut Client, folder: &Path) -> Option<String> {
    let started = client.request("thread/start", json!({ "cwd": folder })).await;
    started.err().map(|error| error["message"].as_str().unwrap_or_default().to_owned())
}

/// Asks until the folder is refused.
async fn refused(client: &mut Client, folder: &Path) -> String {
    let asking = async {
        loop {
            if let Some(why) = why_not(client, folder).await {
                return why;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(e2e::PATIENCE, asking).await.expect("the folder is refused in the end")
}

#[tokio::test]
async fn a_device_works_in_a_folder_that_the_owner_opened_on_the_machine() {
    let machine = Machine::prepare().await;
    let home = machine.account().home.canonicalize().unwrap();
    let shop = home.join("src/shop");
    std::fs::create_dir_all(&shop).unwrap();
    std::fs::create_dir_all(home.join("src/other")).unwrap();
    let stage = machine.host().await;
    let remote = stage.pair(Scope::Approve).await.connect().await;
    add(&stage).await;
    let mut api = api(&remote).await;

    // One that the owner names from the home folder there, which connects it.
    assert_eq!(open(&stage, "src/shop").await.unwrap(), shop.to_str().unwrap());
    let again = open(&stage, "~/src/shop").await.unwrap_err();
    assert_eq!(again.code, "workspace_already", "{again:?}");
    let missing = open(&stage, "src/none").await.unwrap_err();
    assert!(missing.fix.as_ref().unwrap().ends_with("reachback workspace add --env ssh:devbox DIR"), "{missing:?}");

    let list = api.request("workspace/list", json!({ "environment": ENVIRONMENT })).await.unwrap();
    let sources: Vec<_> = list["data"].as_array().unwrap().iter().map(|one| (&one["name"], &one["source"])).collect();
    assert_eq!(sources, [(&json!("shop"), &json!("owner")), (&json!("project"), &json!("codex"))], "{list}");
    let local = api.request("workspace/list", json!({ "environment": "local" })).await.unwrap();
    assert_ne!(list, local);

    let mut client = channel(&remote).await;
    let started = client.request("thread/start", json!({ "cwd": shop })).await.unwrap();
    let thread = started["thread"]["id"].as_str().unwrap().to_owned();
    assert_eq!(started["sandbox"]["type"], "workspaceWrite", "{started}");
    client.prompt(&thread, "@esc touch made-there").await;
    let asked = client.event("item/commandExecution/requestApproval").await;
    client.decide(&asked, "accept").await;
    client.event("turn/completed").await;
    assert!(shop.join("made-there").exists());

    // Where the owner trusts nothing, nothing starts in a server that runs without the agent's guards.
    let why = why_not(&mut client, &home.join("src/other")).await.unwrap();
    assert!(why.contains("reachback workspace add --env ssh:devbox"), "{why}");
    let entries = audit::read(stage.home()).unwrap();
    let text = format!("{entries:?}");
    assert!(text.contains(ENVIRONMENT) && text.contains(shop.to_str().unwrap()), "{text}");

    // What was opened is closed with the machine.
    stage.ask(Request::RemoveSshHost { alias: "devbox".into() }).await;
    add(&stage).await;
    let events = stage.ask_for_events(Request::Workspaces).await;
    let there = events.iter().filter(|event| matches!(event, Event::Workspace(one) if one.environment == ENVIRONMENT));
    assert_eq!(there.count(), 0, "{events:?}");
    stage.stop().await;
    machine.stop_server().await;
}

#[tokio::test]
async fn what_never_opens_here_does_not_open_there_and_a_link_in_the_place_of_a_folder_opens_nothing() {
    let devbox = Devbox::start().await;
    let home = devbox.account().home.canonicalize().unwrap();
    let (shop, hidden) = (home.join("shop"), home.join("hidden"));
    for folder in [&shop, &hidden, &home.join(".local/state/reachback/host")] {
        std::fs::create_dir_all(folder).unwrap();
    }
    let stage = devbox.host().await;
    let remote = stage.pair(Scope::Admin).await.connect().await;
    add(&stage).await;
    open(&stage, "shop").await.unwrap();
    symlink(&shop, home.join("link")).unwrap();

    for (path, code) in [
        ("~", "workspace_home"),
        ("/", "workspace_home"),
        (devbox.codex.home.codex_home().to_str().unwrap(), "workspace_state"),
        (".local/state/reachback/host", "workspace_state"),
        ("shop/../..", "workspace_home"),
        ("link", "workspace_already"),
    ] {
        let failure = open(&stage, path).await.unwrap_err();
        assert_eq!(failure.code, code, "{path}: {failure:?}");
    }

    let mut client = channel(&remote).await;
    assert_eq!(why_not(&mut client, &shop).await, None);
    assert_eq!(why_not(&mut client, &home.join("link")).await, None, "a link to a workspace is that workspace");
    for (folder, word) in [
        (home.clone(), "home folder"),
        (devbox.codex.home.codex_home().to_owned(), "Codex's own folders"),
        (home.join(".local/state/reachback"), "Reachback's"),
        ("/etc".into(), "is not a workspace"),
        (home.join("none"), "no such folder"),
        (home.join("shop/../hidden"), "without `..`"),
        // One of this host, and of no other.
        (stage.codex.home.project().to_owned(), "is not a workspace"),
    ] {
        let why = why_not(&mut client, &folder).await.unwrap_or_default();
        assert!(why.contains(word), "{}: {why}", folder.display());
    }

    // Something there puts a link in the place of the workspace.
    std::fs::rename(&shop, home.join("shop-before")).unwrap();
    symlink("/etc", &shop).unwrap();
    let why = refused(&mut client, &shop).await;
    assert!(why.contains("is not a workspace"), "{why}");
    let events = stage.ask_for_events(Request::Workspaces).await;
    let closed = events.iter().any(|event| {
        matches!(event, Event::Workspace(one) if one.path == shop.to_str().unwrap()
            && one.reason.as_deref().is_some_and(|why| why.contains("it is a link")))
    });
    assert!(closed, "{events:?}");
    stage.stop().await;
    devbox.stop().await;
}

#[tokio::test]
async fn folders_to_choose_from_are_the_machines_own() {
    let machine = Machine::prepare().await;
    let home = machine.account().home.canonicalize().unwrap();
    for folder in ["code/shop", "code/.hidden", "code/many"] {
        std::fs::create_dir_all(home.join(folder)).unwrap();
    }
    std::fs::write(home.join("code/file"), "").unwrap();
    let _socket = UnixListener::bind(home.join("code/socket")).unwrap();
    std::fs::create_dir(home.join("code").join(std::ffi::OsStr::from_bytes(b"not\xfftext"))).unwrap();
    symlink("/etc", home.join("code/out")).unwrap();
    symlink(home.join("code/shop"), home.join("code/again")).unwrap();
    for n in 0..1200 {
        std::fs::create_dir(home.join(format!("code/many/{n:04}"))).unwrap();
    }
    let stage = machine.host().await;
    let remote = stage.pair(Scope::Approve).await.connect().await;
    add(&stage).await;
    let mut api = api(&remote).await;
    let mut list = async |path: Option<&Path>| {
        api.request("folder/list", json!({ "environment": ENVIRONMENT, "path": path })).await
    };
    let names = |listing: &Value| -> Vec<String> {
        listing["data"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };

    let roots = list(None).await.unwrap();
    assert_eq!(roots["data"][0]["path"], json!(home), "{roots}");
    let code = list(Some(&home.join("code"))).await.unwrap();
    assert_eq!(names(&code), ["again", "many", "shop"], "{code}");
    assert_eq!(code["data"][0]["path"], json!(home.join("code/shop")), "a link is listed by what it leads to");
    let many = list(Some(&home.join("code/many"))).await.unwrap();
    assert_eq!((names(&many).len(), &many["more"]), (1000, &json!(true)));
    for (path, why) in [
        (PathBuf::from("/etc"), "outside"),
        (home.join("code/out"), "outside"),
        (home.join("code/none"), "missing"),
        (home.join("code/file"), "missing"),
        (home.join(".local/state/reachback"), "missing"),
        (home.join("code/.."), "form"),
        (stage.codex.home.project().to_owned(), "outside"),
    ] {
        let refused = list(Some(&path)).await.unwrap_err();
        assert_eq!(refused["data"]["params"]["why"], why, "{}: {refused}", path.display());
    }
    stage.stop().await;
    machine.stop_server().await;
}

#[tokio::test]
async fn the_configuration_that_counts_is_the_machines() {
    let devbox = Devbox::start().await;
    let config = devbox.codex.home.codex_home().join("config.toml");
    let before = std::fs::read_to_string(&config).unwrap();
    let stage = devbox.host().await;
    let remote = stage.pair(Scope::Steer).await.connect().await;
    add(&stage).await;
    let mut client = channel(&remote).await;
    let project = devbox.codex.home.project().to_owned();
    let mut sandbox = async || {
        let started = client.request("thread/start", json!({ "cwd": project })).await;
        started.map(|started| started["sandbox"]["type"].as_str().unwrap().to_owned())
    };
    assert_eq!(sandbox().await.unwrap(), "workspaceWrite");

    let mut is_in_the_end = async |wanted: Result<&str, &str>| {
        let mut last = None;
        let asking = async {
            loop {
                let now = sandbox().await;
                last = Some(now.clone());
                let is_so = match (&now, wanted) {
                    (Ok(now), Ok(wanted)) => now == wanted,
                    (Err(error), Err(wanted)) => error["message"].as_str().unwrap().contains(wanted),
                    _ => false,
                };
                if is_so {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(e2e::PATIENCE, asking)
            .await
            .is_err()
            .then(|| panic!("it never was {wanted:?}, but {last:?}"));
    };
    let read_only = before.replace("workspace-write", "read-only");
    assert_ne!(read_only, before, "the demo's configuration chooses a sandbox: {before}");
    std::fs::write(&config, &read_only).unwrap();
    is_in_the_end(Ok("readOnly")).await;
    // A folder that is trusted no more is no workspace any more.
    std::fs::write(&config, before.replace("\"trusted\"", "\"untrusted\"")).unwrap();
    is_in_the_end(Err("is not a workspace")).await;
    // One that can't be read may choose anything.
    std::fs::write(&config, format!("# {}\n{before}", "x".repeat(1 << 20))).unwrap();
    is_in_the_end(Err("can't be read, or is too large")).await;
    std::fs::write(&config, &before).unwrap();
    is_in_the_end(Ok("workspaceWrite")).await;
    stage.stop().await;
    devbox.stop().await;
}

#[tokio::test]
async fn without_sftp_devices_look_on_and_hear_why() {
    let machine = Machine::with_files("/usr/bin/false").await;
    let stage = machine.host().await;
    let remote = stage.pair(Scope::Admin).await.connect().await;
    add(&stage).await;
    let mut api = api(&remote).await;
    let mut client = channel(&remote).await;
    let refused = client.request("thread/start", json!({ "cwd": "/" })).await.unwrap_err();
    assert_eq!((&refused["data"]["reason"], &refused["data"]["scope"]), (&json!("scope"), &json!("view")), "{refused}");
    let info = listed(&mut api).await.unwrap();
    assert_eq!(info["maxScope"], "view", "{info}");
    assert!(info["maxScopeReason"].as_str().unwrap().contains("no SFTP"), "{info}");
    let refused = api.request("folder/list", json!({ "environment": ENVIRONMENT })).await.unwrap_err();
    assert_eq!(refused["data"]["params"]["why"], "unseen", "{refused}");
    let failure = open(&stage, "shop").await.unwrap_err();
    assert!(failure.code == "workspace_unseen" && failure.message.contains("no SFTP"), "{failure:?}");
    stage.stop().await;
    machine.stop_server().await;
}

#[tokio::test]
async fn a_file_server_that_hangs_opens_nothing_and_one_that_ends_is_begun_anew() {
    let devbox = Devbox::start().await;
    let stage = devbox.host().await;
    let remote = stage.pair(Scope::Steer).await.connect().await;
    add(&stage).await;
    let mut client = channel(&remote).await;
    let project = devbox.codex.home.project().to_owned();
    assert_eq!(why_not(&mut client, &project).await, None);

    let (pid, held) = (devbox.account().home.join("sftp.pid"), devbox.account().home.join("sftp.held"));
    let signal = |name: &str| {
        let pid = std::fs::read_to_string(&pid).unwrap();
        let status = std::process::Command::new("kill").args([name, pid.trim()]).status().unwrap();
        assert!(status.success(), "kill {name} {pid}");
    };
    let first = std::fs::read_to_string(&pid).unwrap();
    signal("-KILL");
    let answered = async {
        while why_not(&mut client, &project).await.is_some() || std::fs::read_to_string(&pid).unwrap() == first {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(e2e::PATIENCE, answered).await.expect("another one is begun");

    signal("-STOP");
    std::fs::write(&held, "").unwrap();
    let why = refused(&mut client, &project).await;
    assert!(why.contains("can't be looked at"), "{why}");
    signal("-KILL");
    std::fs::remove_file(&held).unwrap();
    let answered = async {
        while why_not(&mut client, &project).await.is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(e2e::PATIENCE, answered).await.expect("it is looked at again");
    assert_eq!(devbox.link.dials().len(), 1, "the connection is the same");
    stage.stop().await;
    devbox.stop().await;
}

async fn connection(machine: &Machine) -> Connection {
    let nobody: Arc<dyn Person> = Arc::new(Nobody);
    machine.discovery().connect("devbox", &nobody).await.unwrap().unwrap()
}

#[tokio::test]
async fn paths_files_and_folders_are_what_they_are_there() {
    let machine = Machine::prepare().await;
    let home = machine.account().home.canonicalize().unwrap();
    let at = |name: &str| home.join(name);
    std::fs::create_dir(at("folder")).unwrap();
    std::fs::write(at("file"), "x".repeat(100_000)).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    for (to, link) in [("folder", "to-folder"), ("none", "to-none"), ("loop", "loop")] {
        symlink(to, at(link)).unwrap();
    }
    let sftp = connection(&machine).await.sftp().await.unwrap();
    let dir = |name: &str, is_dir| Some(Real { path: at(name), is_dir });
    for (name, real) in [
        ("folder", dir("folder", true)),
        ("to-folder", dir("folder", true)),
        ("file", dir("file", false)),
        ("socket", dir("socket", false)),
        ("none", None),
        ("to-none", None),
        ("loop", None),
        ("file/x", None),
    ] {
        assert_eq!(sftp.real(&at(name)).await.unwrap(), real, "{name}");
    }
    assert_eq!(sftp.read(&at("file"), 100_000).await.unwrap().unwrap().len(), 100_000);
    assert!(matches!(sftp.read(&at("file"), 99_999).await, Err(SftpError::Closed)));
    assert!(matches!(sftp.read(&at("folder"), 10).await, Err(SftpError::Closed)));
    assert_eq!(sftp.read(&at("none"), 10).await.unwrap(), None);
    assert_eq!(sftp.entries(&at("none"), 10).await.unwrap(), None);
    let (few, _) = sftp.entries(&home, 3).await.unwrap().unwrap();
    assert!(few.more && few.names.len() <= 3, "{few:?}");
}
