//! State files are whole at every moment, and a broken one is reported and left as it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::PATIENCE;
use e2e::codex::{self, TestCodex};
use e2e::dice::Dice;
use e2e::process::{Finished, Home, Process, Up, binary, finished, free_port};
use serde_json::Value;
use tokio::process::Command;

/// Kills and restarts. Many, as one kill seldom meets a write.
const ROUNDS: u64 = 20;

/// Every file of state below `folder` that is JSON, by its path; what is half-written does not parse.
fn documents(folder: &Path) -> BTreeMap<PathBuf, Value> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            // The demo is Codex's own.
            if path.is_dir() && !path.ends_with("demo") {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "json") {
                let text = std::fs::read_to_string(&path).unwrap();
                let value = serde_json::from_str(&text);
                let value =
                    value.unwrap_or_else(|error| panic!("{} is half-written ({error}): {text}", path.display()));
                found.insert(path, value);
            }
        }
    }
    found
}

/// A moment from now, at most this many milliseconds away.
fn moment(dice: &mut Dice, within: u64) -> Duration {
    Duration::from_micros(dice.roll(within * 1000))
}

/// Kills `process` in the middle of `work`, after `moment`.
async fn kill_during<T>(process: &mut Process, moment: Duration, work: impl Future<Output = T>) -> T {
    let kill = async {
        tokio::time::sleep(moment).await;
        process.kill().await;
    };
    tokio::join!(kill, work).1
}

/// A command was refused because of a broken file: its path is named, and what to do.
#[track_caller]
fn refused(finished: &Finished, file: &Path) {
    assert_eq!(finished.code, 1, "{finished:?}");
    let told = &finished.err;
    assert!(told.contains(file.to_str().unwrap()), "{} is not named: {told}", file.display());
    assert!(told.contains("restore it from a backup") || told.contains("move it away"), "no next step: {told}");
}

/// Breaks `file` in several ways; `run` has to refuse each with the file's path, and leave the file alone.
async fn broken<F: Future<Output = Finished>>(file: &Path, run: impl Fn() -> F) {
    let whole = std::fs::read(file).unwrap();
    let half = whole[..whole.len() / 2].to_vec();
    for content in [half, Vec::new(), b"{}\n".to_vec(), b"not JSON".to_vec()] {
        std::fs::write(file, &content).unwrap();
        refused(&run().await, file);
        assert_eq!(std::fs::read(file).unwrap(), content, "{} was replaced", file.display());
    }
    std::fs::write(file, whole).unwrap();
}

fn up_args(listen: &str) -> Vec<String> {
    let codex = codex::program();
    ["up", "--demo", "--listen", listen, "--codex-program", codex.to_str().unwrap()].map(str::to_owned).to_vec()
}

#[tokio::test]
async fn up_that_is_killed_at_any_moment_has_whole_files_and_the_devices_it_confirmed() {
    let mut up = Up::start().await;
    let kept = up.device("kept").await;
    let host_id = up.ready["host_id"].clone();
    let mut dice = Dice::new(Dice::seed());
    for round in 0..ROUNDS {
        let (process, home) = (&mut up.process, &up.home);
        let scope = ["view", "steer", "approve"][round as usize % 3];
        let name = format!("new {round}");
        // Half of the rounds change scopes as fast as they can, half pair.
        let work = async {
            if round % 2 == 0 {
                let (change, pause) = (["devices", "scope", "kept", scope], ["devices", "pause", "kept"]);
                let (changed, paused) = tokio::join!(home.run(&change), home.run(&pause));
                return vec![changed, paused, home.run(&["devices", "resume", "kept"]).await];
            }
            let mut pair = home.start(&["pair", "--yes"]);
            let Some(pairing) = pair.try_event("pairing").await else { return vec![] };
            let device = Home::new();
            vec![device.json(&["join", pairing["url"].as_str().unwrap(), "--name", &name]).await]
        };
        let done = kill_during(process, moment(&mut dice, if round % 2 == 0 { 40 } else { 600 }), work).await;
        documents(&home.path());
        up.restart().await;
        assert_eq!(up.ready["host_id"], host_id, "round {round}: the host is another one");
        let list = up.home.json(&["devices"]).await.ok().lines();
        let named = |name: &str| list.iter().find(|device| device["name"] == name);
        assert!(named("kept").is_some(), "round {round}: a device was lost: {list:?}");
        // A change that was confirmed is there, unless a later one of the same round undid it.
        if let [scoped, ..] = &done[..]
            && round % 2 == 0
            && scoped.code == 0
        {
            assert_eq!(named("kept").unwrap()["scope"], scope, "round {round}: a confirmed change was lost");
        }
        let leftovers =
            std::fs::read_dir(up.home.path().join("host")).unwrap().flatten().map(|entry| entry.file_name());
        let leftovers: Vec<_> = leftovers.filter(|name| name.to_string_lossy().contains("tmp")).collect();
        assert!(leftovers.is_empty(), "round {round}: {leftovers:?} may hold keys, and stays");
    }
    up.home.run(&["devices", "resume"]).await.ok();
    up.home.run(&["devices", "resume", "kept"]).await.ok();
    assert_eq!(kept.json(&["hosts"]).await.ok().event("host")["state"], "online", "the first device is still let in");
    up.stop().await;
}

#[tokio::test]
async fn a_relay_and_a_host_that_are_killed_while_enrolling_and_pairing_come_back_whole() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("relay");
    let listen = free_port().to_string();
    let serve = ["serve", "--json", "--data", data.to_str().unwrap(), "--listen", &listen];
    let (home, codex) = (Home::new(), TestCodex::prepare().await);
    let config = codex.config();
    let folders = [config.program, config.home.unwrap(), codex.home.project().into()];
    let [program, codex_home, workdir] = folders.each_ref().map(|path| path.to_str().unwrap().to_owned());
    let (mut fingerprint, mut host_id) = (None, None);
    let mut has_paired = false;
    let mut dice = Dice::new(Dice::seed());
    for round in 0..ROUNDS {
        let mut relay = Process::start("reachback-relay", &serve, &[]);
        if round < ROUNDS / 4 {
            // Some die before they are ready.
            tokio::time::sleep(moment(&mut dice, 60)).await;
            relay.kill().await;
            documents(&data);
            relay = Process::start("reachback-relay", &serve, &[]);
        }
        let ready = relay.event("ready").await;
        let known = fingerprint.get_or_insert_with(|| ready["fingerprint"].clone());
        assert_eq!(ready["fingerprint"], *known, "round {round}: the relay is another one");
        let url = ready["url"].as_str().unwrap().to_owned();
        let mut args = vec!["host", "--codex-program", &program, "--codex-home", &codex_home, "--workdir", &workdir];
        args.extend(["--relay", &url]);
        let enroll_file = ready["enroll_file"].as_str().map(str::to_owned);
        if let Some(file) = &enroll_file {
            args.extend(["--enroll-file", file]);
        }
        let mut host = home.start(&args);
        let mut work = async || {
            let up = host.event("ready").await;
            let mut pair = home.start(&["pair", "--yes"]);
            let pairing = pair.event("pairing").await;
            let device = Home::new();
            let joined = device.json(&["join", pairing["url"].as_str().unwrap(), "--name", "device"]).await;
            (up["host_id"].clone(), joined.code == 0)
        };
        // The relay dies in most rounds, before the pairing is through in many; what follows waits in vain then.
        let last = round + 1 == ROUNDS;
        let alive = if last { PATIENCE } else { moment(&mut dice, 1500) };
        if let Ok((id, paired)) = tokio::time::timeout(alive, work()).await {
            assert_eq!(id, *host_id.get_or_insert_with(|| id.clone()), "round {round}: the host is another one");
            has_paired |= paired;
        }
        relay.kill().await;
        host.kill().await;
        documents(&data);
        documents(&home.path());
    }
    assert!(has_paired, "not even the last pairing came about");
}

#[tokio::test]
async fn a_broken_file_of_up_is_named_and_not_replaced() {
    let mut up = Up::start().await;
    let device = up.device("laptop").await;
    let home = {
        let Up { mut process, home, .. } = up;
        assert_eq!(process.stop().await, Some(0));
        home
    };
    let args = up_args("127.0.0.1:0");
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    for file in ["host/host.json", "host/devices.json", "relay/identity.json"] {
        broken(&home.path().join(file), || home.run(&args)).await;
    }
    broken(&home.path().join("host/devices.json"), || home.run(&["devices"])).await;
    let json = {
        let file = home.path().join("host/host.json");
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, "{").unwrap();
        let told = home.json(&args).await;
        std::fs::write(&file, whole).unwrap();
        told
    };
    assert!(json.code == 1 && json.event("error")["message"].as_str().unwrap().contains("host.json"), "{json:?}");

    let database = home.path().join("relay/relay.db");
    let whole = std::fs::read(&database).unwrap();
    for content in [
        b"not a database, and longer than the header of one would be, so that it is no empty file".repeat(30),
        vec![0; 4096],
    ] {
        // SQLite may repair a database from what it wrote ahead.
        let _ = std::fs::remove_file(database.with_extension("db-wal"));
        std::fs::write(&database, &content).unwrap();
        refused(&home.run(&args).await, &database);
        assert_eq!(std::fs::read(&database).unwrap(), content, "the database was replaced");
    }
    std::fs::write(&database, whole).unwrap();

    let hosts = device.path().join("controller/hosts");
    let file = std::fs::read_dir(&hosts).unwrap().next().unwrap().unwrap().path();
    broken(&file, || device.run(&["connect"])).await;
    std::fs::write(&file, "{").unwrap();
    let listed = device.run(&["hosts"]).await;
    refused(&listed, &file);
}

#[tokio::test]
async fn a_broken_file_of_a_relay_is_named_and_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("relay");
    let serve = || {
        let mut command = Command::new(binary("reachback-relay"));
        command.args(["serve", "--json", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()]);
        command
    };
    let mut relay = Process::spawn("reachback-relay", serve());
    relay.event("ready").await;
    assert_eq!(relay.stop().await, Some(0));
    broken(&data.join("identity.json"), || finished(serve(), "")).await;
    let database = data.join("relay.db");
    let content = b"not a database".repeat(100);
    std::fs::write(&database, &content).unwrap();
    refused(&finished(serve(), "").await, &database);
    assert_eq!(std::fs::read(&database).unwrap(), content, "the database was replaced");
}
