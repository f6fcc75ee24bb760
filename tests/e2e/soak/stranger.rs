//! "From nothing to always on" of docs/operations.md, typed as it stands there.
//!
//! Where a person would look or wait, the test does: it brings the key to the host, ends the first start, reads the code from
//! `pair`, and uses the terminal's socket.

use std::path::PathBuf;

use e2e::containers::Engine;
use e2e::process::{Home, Process};

use super::machine::{ADDRESS, Machine, NAME, reaches_codex};
use super::{engine, reachback, reachback_to_its_end};

/// A block of the section: who types, and what.
struct Block {
    who: String,
    lines: Vec<String>,
}

/// What the section has somebody type, with the machine's address in it.
fn blocks() -> Vec<Block> {
    let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    let section = manual.split("\n## ").find(|section| section.starts_with("From nothing to always on\n"));
    let section = section.expect("docs/operations.md has the section").replace("relay.example", ADDRESS);
    let blocks = section.split("```sh\n# ").skip(1).map(|rest| rest.split("\n```").next().unwrap_or_default());
    let block = |block: &str| {
        let mut lines = block.lines().map(str::to_owned);
        Block { who: lines.next().unwrap_or_default(), lines: lines.collect() }
    };
    blocks.map(block).collect()
}

/// The devices' end of the walk, and what a person carries from one place to another.
struct Stranger<'a> {
    engine: &'a Engine,
    machine: &'a Machine<'a>,
    device: Home,
    socket: PathBuf,
    pair: Option<Process>,
    connect: Option<Process>,
}

impl Stranger<'_> {
    async fn types(&mut self, who: &str, line: &str) {
        match who {
            "the server, as root" if line == "reboot" => {
                self.engine.podman(&["restart", NAME]).await;
                self.machine.is_up().await;
            }
            "the server, as root" => {
                let said = self.machine.root(line).await.out;
                if line.contains(" enroll ") {
                    let bring = format!("install --owner person --mode 644 '{}' /home/person/enroll-key", said.trim());
                    self.machine.root(&bring).await;
                } else if line.contains(" install ") {
                    self.machine.until("the relay runs", "systemctl is-active reachback-relay").await;
                }
            }
            "the host, as you" if line.starts_with("reachback host --relay ") => {
                let first = format!("cd && timeout --signal=INT --preserve-status 10 {line} --json");
                let first = self.machine.person(&first).await;
                assert!(first.lines().iter().any(|line| line["event"] == "ready"), "{first:?}");
            }
            "the host, as you" if line == "reachback pair" => {
                let pair = format!("{line} --yes --scope view --json");
                self.pair = Some(Process::spawn("pair", self.machine.shell("person", &pair)));
            }
            "the host, as you" => {
                self.machine.person(&format!("cd && {line}")).await;
            }
            "the laptop" if line.starts_with("reachback join ") => {
                let mut pair = self.pair.take().expect("`pair` comes before `join`");
                let code = pair.event("pairing").await["url"].as_str().unwrap().to_owned();
                let (start, _) = line.trim_start_matches("reachback join '").split_once('…').unwrap();
                assert!(code.to_lowercase().starts_with(start), "{code} is not what stands there: {line}");
                reachback_to_its_end(self.engine, &self.device, &["join", &code]).await.ok();
                pair.event("paired").await;
            }
            "the laptop" if line == "reachback connect" => {
                let args = ["connect", "--socket", self.socket.to_str().unwrap()];
                let mut connect = reachback(self.engine, &self.device, &args);
                connect.event("socket").await;
                self.connect = Some(connect);
            }
            _ => panic!("who is that, and how is it typed: {who}: {line}"),
        }
    }
}

#[tokio::test]
#[ignore = "soak"]
async fn a_stranger_gets_from_nothing_to_always_on_by_what_is_written() {
    let Some(engine) = engine().await else { return };
    let blocks = blocks();
    assert!(blocks.iter().any(|block| block.lines.iter().any(|line| line == "reboot")), "the walk has its end");
    let machine = Machine::boot(&engine).await;
    machine
        .person(
            "mkdir -p ~/.codex ~/shop && echo 'check_for_update_on_startup = false' > ~/.codex/config.toml\n\
             printf '[analytics]\\nenabled = false\\n' >> ~/.codex/config.toml",
        )
        .await;
    let device = Home::new();
    let socket = device.folder("socket").join("codex.sock");
    let mut stranger = Stranger { engine: &engine, machine: &machine, device, socket, pair: None, connect: None };
    for Block { who, lines } in &blocks {
        for line in lines {
            stranger.types(who, line).await;
        }
        if stranger.connect.is_some() {
            reaches_codex(&machine, &stranger.socket, &format!("after {who} typed {lines:?}")).await;
        }
    }
    stranger.connect.take().expect("the walk connects").signal_and_wait("-INT", 0).await;
}
