//! Homes that earlier builds left, in `tests/homes`: today's programs read them, go on with them, and refuse newer ones.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use e2e::codex;
use e2e::process::{Finished, Home, Process, binary, finished, free_port};
use reachback_proto::ids::RelayId;
use serde_json::{Value, json};
use tokio::process::Command;

/// The address of the relay in the homes.
const RELAY: &str = "127.0.0.1:27183";

/// The id of `tower`, by the version of its home.
const TOWERS: [(&str, &str); 2] = [("v1", "bkbfsg2omnezquaflw43wnevv4"), ("v2", "mqm2ab7gu34axk3bjbuigrc2mu")];

/// The controller's file of this host.
fn paired(host: &str) -> String {
    format!("controller/hosts/{host}.json")
}

/// Modes that git does not keep: for the owner alone.
fn restrict(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A home as an earlier build left it, such as `v1/tower`.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("homes").join(name)
}

/// All files below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// A copy of such a home, with `new` for `old` in its texts.
fn copy(name: &str, replace: &[(&str, &str)]) -> Home {
    let (home, from) = (Home::new(), fixture(name));
    for file in files(&from) {
        let to = home.path().join(file.strip_prefix(&from).unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        let content = match String::from_utf8(std::fs::read(&file).unwrap()) {
            Ok(text) => replace.iter().fold(text, |text, (old, new)| text.replace(old, new)).into_bytes(),
            Err(binary) => binary.into_bytes(),
        };
        std::fs::write(&to, content).unwrap();
        restrict(&to, 0o600);
        to.ancestors().skip(1).take_while(|folder| folder.starts_with(home.path())).for_each(|f| restrict(f, 0o700));
    }
    home
}

fn document(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The lines of such a home's audit log, as they are told today: an action of before there were environments was `local`.
fn audit_of(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(fixture(name).join("host/audit/audit.jsonl")).unwrap();
    let line = |line| {
        let mut value: Value = serde_json::from_str(line).unwrap();
        if value["event"] == "action" {
            value["environment"] = json!("local");
        }
        value
    };
    text.lines().map(line).collect()
}

/// `found` has all members that `wanted` has, with the same values.
#[track_caller]
fn has(found: &Value, wanted: &Value) {
    for (member, value) in wanted.as_object().unwrap() {
        assert_eq!(&found[member], value, "`{member}` of {found}");
    }
}

/// The devices are those of the home, but for when they were last seen.
#[track_caller]
fn lists_devices(tower: &str, found: &[Value]) {
    let wanted = document(&fixture(tower).join("host/devices.json"));
    let wanted = wanted["devices"].as_array().unwrap();
    assert_eq!((found.len(), wanted.len()), (2, 2), "{found:?}");
    for (found, wanted) in found.iter().zip(wanted) {
        for member in ["device_id", "name", "platform", "scope", "paused", "added_at"] {
            assert_eq!(found[member], wanted[member], "`{member}` of {found}");
        }
    }
}

/// The two devices have these values, in the list's order.
#[track_caller]
fn lists_devices_with(found: &[Value], wanted: &[(&str, Value)]) {
    for (member, values) in wanted {
        let found: Vec<&Value> = found.iter().map(|device| &device[member]).collect();
        assert_eq!(&json!(found), values, "`{member}`");
    }
}

/// What lasts in a home; the agent's lock and its note come and go.
fn contents(home: &Home) -> Vec<(PathBuf, Vec<u8>)> {
    let lasting = files(&home.path())
        .into_iter()
        .filter(|path| !path.file_name().unwrap().as_encoded_bytes().starts_with(b"agent."));
    lasting.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

#[tokio::test]
async fn homes_of_every_version_are_read_whole_and_reading_changes_nothing() {
    for (version, host_id) in TOWERS {
        read_whole(version, host_id).await;
    }
}

async fn read_whole(version: &str, host_id: &str) {
    let [tower_of, laptop_of] = ["tower", "laptop"].map(|name| format!("{version}/{name}"));
    let closed = free_port().to_string();
    let replace = [(RELAY, &*closed)];
    let (tower, laptop) = (copy(&tower_of, &replace), copy(&laptop_of, &replace));
    let before = [contents(&tower), contents(&laptop)];

    let devices = tower.json(&["devices"]).await.ok().lines();
    lists_devices(&tower_of, &devices);
    let old = document(&fixture(&tower_of).join("host/devices.json"));
    assert_eq!(
        [&devices[0], &devices[1]].map(|device| &device["last_seen"]),
        [0, 1].map(|n| &old["devices"][n]["last_seen"])
    );
    assert_eq!([&devices[0], &devices[1]].map(|device| &device["state"]), ["disconnected", "paused"]);
    assert_eq!(tower.json(&["audit"]).await.ok().lines(), audit_of(&tower_of));
    let relay = document(&fixture(&tower_of).join("host/host.json"));
    let key = relay["relay"]["key"].as_str().or(relay["relays"][0]["key"].as_str()).unwrap();
    let fingerprint = RelayId::of(&serde_json::from_value(json!(key)).unwrap()).to_string();
    let status = tower.json(&["status"]).await.ok().event("status");
    has(
        &status,
        &json!({
            "running": false, "host_id": host_id, "host_name": "tower", "devices": 2, "paused": false,
            "relay_url": format!("http://{closed}"),
            "fingerprint": fingerprint,
        }),
    );
    assert_eq!(tower.json(&["workspace", "list"]).await.ok().lines(), [] as [Value; 0]);

    let old = document(&fixture(&laptop_of).join(paired(host_id)));
    let hosts = laptop.json(&["hosts"]).await;
    has(
        &hosts.event("host"),
        &json!({
            "host_id": old["host_id"], "host_name": old["name"], "scope": old["scope"], "state": "unreachable",
            "device_id": devices[0]["device_id"], "relay_url": format!("http://{closed}"),
        }),
    );
    assert_eq!(before, [contents(&tower), contents(&laptop)]);
}

#[tokio::test]
async fn relay_host_and_controller_of_every_version_go_on_together() {
    for (version, host_id) in TOWERS {
        go_on_together(version, host_id).await;
    }
}

async fn go_on_together(version: &str, host_id: &str) {
    let [tower_of, laptop_of] = ["tower", "laptop"].map(|name| format!("{version}/{name}"));
    let listen = free_port().to_string();
    let replace = [(RELAY, &*listen)];
    let (tower, laptop) = (copy(&tower_of, &replace), copy(&laptop_of, &replace));
    let data = tower.path().join("relay");
    let serve = ["serve", "--json", "--data", data.to_str().unwrap(), "--listen", &listen];
    let mut relay = Process::start("reachback-relay", &serve, &[]);
    let ready = relay.event("ready").await;
    // No enrolment key: the relay knows the host, and the host knows the relay.
    let codex = codex::program();
    let mut host =
        tower.start(&["host", "--codex-program", codex.to_str().unwrap(), "--relay", &format!("http://{listen}")]);
    has(
        &host.event("ready").await,
        &json!({ "host_id": host_id, "host_name": "tower", "fingerprint": ready["fingerprint"] }),
    );
    host.line("codex ready", |line| line["event"] == "codex" && line["state"] == "ready").await;

    assert_eq!(laptop.json(&["hosts"]).await.ok().event("host")["state"], "online");
    let sockets = tempfile::tempdir().unwrap();
    let socket = sockets.path().join("codex.sock");
    let mut connect = laptop.start(&["connect", "--socket", socket.to_str().unwrap()]);
    assert_eq!(connect.event("socket").await["host_name"], "tower");
    let devices = tower.json(&["devices"]).await.ok().lines();
    lists_devices(&tower_of, &devices);
    assert_eq!([&devices[0], &devices[1]].map(|device| &device["state"]), ["connected", "paused"]);
    connect.stop().await;

    // A change writes the file anew; all else in it stays.
    tower.json(&["devices", "resume", "phone"]).await.ok();
    assert_eq!(host.stop().await, Some(0));
    let (old, new) =
        (document(&fixture(&tower_of).join("host/devices.json")), document(&tower.path().join("host/devices.json")));
    assert!(new["list_version"].as_u64() > old["list_version"].as_u64(), "{new}");
    assert_eq!(new["devices"][1]["paused"], false);
    for (n, member) in [(0, "psk"), (1, "psk"), (0, "identity"), (1, "identity"), (0, "static_key"), (1, "static_key")]
    {
        assert_eq!(new["devices"][n][member], old["devices"][n][member], "`{member}` of {new}");
    }
    let (audit, old) = (tower.json(&["audit"]).await.ok().lines(), audit_of(&tower_of));
    assert_eq!(audit[..old.len()], old, "old lines of the audit log");
    assert!(audit[old.len()..].iter().any(|line| line["event"] == "resumed"), "{audit:?}");
    assert_eq!(relay.stop().await, Some(0));
}

#[tokio::test]
async fn what_an_earlier_build_wrote_in_codexs_configuration_is_put_back() {
    let home = copy("v1/redirected", &[]);
    let (note, config) = (home.path().join("host/redirect.json"), home.codex_home().join("config.toml"));
    let text = std::fs::read_to_string(&note).unwrap().replace("/srv/codex", home.codex_home().to_str().unwrap());
    std::fs::write(&note, text).unwrap();
    let led = format!("chatgpt_base_url = \"http://127.0.0.1:1/{}/backend-api\" # mine\n", "a".repeat(52));
    std::fs::write(&config, led).unwrap();
    assert_eq!(home.json(&["status"]).await.ok().event("codex_use")["leads_here"], true);
    home.json(&["codex", "restore"]).await.ok();
    let before = "chatgpt_base_url = 'https://chatgpt.com/backend-api' # mine\n";
    assert_eq!(std::fs::read_to_string(&config).unwrap(), before);
    assert_eq!(document(&note), json!({ "version": 1, "codex_home": null, "written": null }));
}

#[tokio::test]
async fn a_device_that_has_expired_is_named_as_such_and_can_be_let_in_again() {
    let home = copy("v1/unseen", &[]);
    let before = contents(&home);
    let devices = home.json(&["devices"]).await.ok().lines();
    lists_devices_with(&devices, &[("paused", json!([true, true])), ("expired", json!([true, false]))]);
    let shown = home.run(&["devices"]).await;
    assert!(shown.out.contains("paused (expired)") && shown.out.contains("devices resume NAME"), "{shown:?}");
    let audit = home.json(&["audit"]).await.ok().lines();
    has(audit.last().unwrap(), &json!({ "event": "paused", "reason": "expired" }));
    assert_eq!(before, contents(&home));

    home.json(&["devices", "resume", "laptop"]).await.ok();
    let devices = home.json(&["devices"]).await.ok().lines();
    lists_devices_with(&devices, &[("paused", json!([false, true])), ("expired", json!([false, false]))]);
}

#[tokio::test]
async fn workspaces_of_version_1_are_open_and_closed_as_they_were() {
    let place = Home::new();
    let folders = ["shop", "notes", "attic"].map(|name| place.folder("work").join(name));
    folders.iter().for_each(|folder| std::fs::create_dir(folder).unwrap());
    let work = place.folder("work");
    let home = copy("v1/folders", &[("/srv/reachback", work.to_str().unwrap())]);
    let [shop, notes, attic] = folders.each_ref().map(|folder| folder.to_str().unwrap());
    std::fs::write(home.codex_home().join("config.toml"), format!("[projects.{attic:?}]\ntrust_level = \"trusted\"\n"))
        .unwrap();
    let before = contents(&home);
    let mut listed = home.json(&["workspace", "list"]).await.ok().lines();
    listed.sort_by_key(|line| line["path"].to_string());
    let line = |path, by, open: bool| {
        let reason = if open { Value::Null } else { json!("the host's owner closed this folder to devices") };
        json!({ "event": "workspace", "environment": "local", "path": path, "by": by, "open": open, "reason": reason })
    };
    assert_eq!(listed, [line(attic, "codex", false), line(notes, "owner", true), line(shop, "owner", true)]);
    let audit = home.json(&["audit"]).await.ok().lines();
    assert_eq!(
        audit.iter().map(|line| &line["event"]).collect::<Vec<_>>(),
        ["workspace_added", "workspace_added", "workspace_removed"]
    );
    assert_eq!(before, contents(&home));
}

#[tokio::test]
async fn the_mark_of_a_demo_of_version_1_keeps_the_real_codex_away() {
    let home = copy("v1/demo", &[]);
    let refused = home.run(&["up", "--listen", "127.0.0.1:0"]).await;
    assert!(refused.code == 1 && refused.err.contains("demo"), "{refused:?}");
}

/// Gives `file` a version that is to come; what `run` starts has to refuse it with the file's path, both versions and what to do, and leave it alone.
async fn newer(file: &Path, run: impl Future<Output = Finished>) {
    let new = json!({ "version": 99, "of": "a later time" }).to_string();
    std::fs::write(file, &new).unwrap();
    let refused = run.await;
    assert_eq!(refused.code, 1, "{refused:?}");
    for words in [file.to_str().unwrap(), "version 99", "versions up to ", "update this one"] {
        assert!(refused.err.contains(words), "no `{words}` in {}", refused.err);
    }
    assert_eq!(std::fs::read_to_string(file).unwrap(), new, "{} was replaced", file.display());
}

#[tokio::test]
async fn files_of_a_newer_build_are_refused_and_left_alone() {
    let codex = codex::program();
    let up = ["up", "--listen", "127.0.0.1:0", "--codex-program", codex.to_str().unwrap()];
    let up_demo = [&up[..], &["--demo"]].concat();
    let paired = paired(TOWERS[0].1);
    for (name, file, args) in [
        ("tower", "host/host.json", &up[..]),
        ("tower", "host/devices.json", &up),
        ("tower", "host/devices.json", &["devices", "revoke", "phone"]),
        ("tower", "relay/identity.json", &up),
        ("folders", "host/workspaces.json", &up),
        ("folders", "host/workspaces.json", &["workspace", "list"]),
        ("demo", "demo.json", &up),
        ("demo", "demo.json", &up_demo),
        ("laptop", &paired, &["hosts"]),
        ("laptop", &paired, &["connect"]),
    ] {
        // A home each: a Codex that an agent was just starting may hold the home's lock a moment longer.
        let home = copy(&format!("v1/{name}"), &[]);
        newer(&home.path().join(file), home.run(args)).await;
    }
    let tower = copy("v1/tower", &[]);
    let data = tower.path().join("relay");
    let mut serve = Command::new(binary("reachback-relay"));
    serve.args(["serve", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()]);
    newer(&data.join("identity.json"), finished(serve, "")).await;
}

#[tokio::test]
async fn a_demo_knows_none_of_the_persons_machines() {
    let home = Home::new();
    // `HOME` is the folder that the state lies in.
    let user = home.path().parent().unwrap().to_owned();
    std::fs::create_dir_all(user.join(".ssh")).unwrap();
    std::fs::write(user.join(".ssh/config"), "Host mine\n  HostName 127.0.0.1\n").unwrap();
    let names = async |list: &[&str]| -> Vec<Value> {
        let listed = home.json(list).await.ok();
        listed
            .lines()
            .into_iter()
            .filter(|line| line["event"] == "ssh_host")
            .map(|line| line["alias"].clone())
            .collect()
    };
    assert_eq!(names(&["ssh", "list"]).await, ["mine"], "a real host knows it, or this shows nothing");

    let codex = codex::program();
    let mut up = home.start(&["up", "--demo", "--listen", "127.0.0.1:0", "--codex-program", codex.to_str().unwrap()]);
    up.event("ready").await;
    assert_eq!(names(&["ssh", "list"]).await, [] as [Value; 0]);
    let refused = home.json(&["ssh", "add", "--unchecked", "mine"]).await;
    assert_eq!(refused.event("error")["code"], "ssh_unknown_name", "{refused:?}");
    assert_eq!(up.stop().await, Some(0));
}
