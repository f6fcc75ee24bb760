//! What is measured: ways from a client to the same stand-in, each through processes of its own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use tempfile::TempDir;

use super::process::Process;

/// A way from the client to the stand-in.
pub(super) struct Way {
    /// What a table calls it.
    pub(super) name: &'static str,
    /// Where the client connects: to the first one, and many clients to each in turn.
    pub(super) sockets: Vec<PathBuf>,
    /// The processes between the client and the stand-in.
    pub(super) processes: Vec<Process>,
}

impl Way {
    /// Where one client connects.
    pub(super) fn first(&self) -> &Path {
        &self.sockets[0]
    }
}

/// All ways, to one stand-in.
pub(super) struct Stage {
    /// Direct first, then what the others are compared with.
    pub(super) ways: Vec<Way>,
    stand_in: Process,
    _folder: TempDir,
}

/// As many processes as there are between a laptop's client and Codex: the laptop's agent, the relay, the host's agent.
const HOPS: [&str; 3] = ["first copy", "second copy", "third copy"];

/// Two, as a session of a device has no more than 32 channels. The second one only has a part where there are many connections.
const LAPTOPS: [&str; 2] = ["laptop", "second laptop"];

impl Stage {
    /// Starts everything, and waits until it can be used.
    pub(super) fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let root = folder.path();
        // Where the host's agent looks for Codex: it joins what listens there.
        let codex_home = root.join("codex");
        let control = codex_home.join("app-server-control");
        std::fs::create_dir_all(&control)?;
        let socket = control.join("app-server-control.sock");
        let stand_in = this("stand-in", "stand-in", &[socket.as_path()])?;

        let direct = Way { name: "direct", sockets: vec![socket.clone()], processes: Vec::new() };
        let floor = floor(root, &socket)?;
        let wss = reachback(root, &codex_home)?;
        Ok(Self { ways: vec![direct, floor, wss], stand_in, _folder: folder })
    }

    /// Lets all of it, and this process, run on these processors only.
    pub(super) fn pin(&self, cpus: &[usize]) -> anyhow::Result<()> {
        super::process::pin_self(cpus)?;
        let between = self.ways.iter().flat_map(|way| &way.processes);
        between.chain([&self.stand_in]).try_for_each(|process| process.pin(cpus))
    }
}

/// As many processes as there are hops, that only copy.
fn floor(root: &Path, to: &Path) -> anyhow::Result<Way> {
    let (mut to, mut processes) = (to.to_owned(), Vec::new());
    for name in HOPS {
        let from = root.join(name).with_extension("sock");
        processes.push(this(name, "hop", &[&from, &to])?);
        to = from;
    }
    Ok(Way { name: "floor", sockets: vec![to], processes })
}

/// Relay, host and laptop, as people run them, over WebSocket with TLS.
fn reachback(root: &Path, codex_home: &Path) -> anyhow::Result<Way> {
    let [data, host_home, work] = ["relay", "host", "work"].map(|name| root.join(name));
    std::fs::create_dir(&work)?;
    // All of a measurement comes from one address, as often as it likes.
    let config = root.join("relay.toml");
    std::fs::write(&config, "[limits]\naccepts_burst = 1000000\nattempts_burst = 1000000\n")?;
    // Taken and given back.
    let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let mut command = beside("reachback-relay")?;
    command
        .args(["serve", "--json", "--log", "warn", "--tls", "generated", "--listen", &addr])
        .arg("--config")
        .arg(config);
    command.arg("--data").arg(data);
    let mut relay = Process::start("relay", command)?;
    let ready = relay.event("ready", |_| true)?;
    let of = |member: &str| ready[member].as_str().with_context(|| format!("a relay that is ready names its {member}"));
    let (url, enroll) = (of("url")?, of("enroll_file")?);

    let mut command = reachback_at(&host_home, root)?;
    command.args(["host", "--relay", url, "--enroll-file", enroll, "--name", "tower", "--workspace"]).arg(work);
    command.arg("--codex-home").arg(codex_home).arg("--codex-program").arg(std::env::current_exe()?);
    let mut host = Process::start("host agent", command)?;
    host.event("codex", |line| line["state"] == "ready")?;

    let (mut sockets, mut processes) = (Vec::new(), vec![relay, host]);
    for laptop in LAPTOPS {
        let (socket, process) = pair(root, &host_home, laptop)?;
        sockets.push(socket);
        processes.push(process);
    }
    Ok(Way { name: "wss", sockets, processes })
}

/// A laptop that is paired with the host, its agent, and the socket that it gives its clients.
fn pair(root: &Path, host_home: &Path, laptop: &'static str) -> anyhow::Result<(PathBuf, Process)> {
    let home = root.join(laptop);
    let mut command = reachback_at(host_home, root)?;
    command.args(["pair", "--yes"]);
    let mut pair = Process::start("pair", command)?;
    let link = pair.event("pairing", |_| true)?["url"].as_str().context("a pairing has a link")?.to_owned();
    let mut command = reachback_at(&home, root)?;
    command.args(["join", &link, "--name", laptop]);
    Process::start("join", command)?.event("joined", |_| true)?;
    pair.event("paired", |_| true)?;

    let socket = home.with_extension("sock");
    let mut command = reachback_at(&home, root)?;
    command.args(["connect", "--socket"]).arg(&socket);
    let mut process = Process::start(laptop, command)?;
    process.event("socket", |_| true)?;
    Ok((socket, process))
}

/// The program with a home of its own.
fn reachback_at(home: &Path, root: &Path) -> anyhow::Result<Command> {
    let mut command = beside("reachback")?;
    command.arg("--json").env("REACHBACK_HOME", home).env("HOME", root.join("home")).env("XDG_RUNTIME_DIR", root);
    Ok(command)
}

/// This program, as another process.
fn this(name: &'static str, word: &str, sockets: &[&Path]) -> anyhow::Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(word).args(sockets);
    let mut process = Process::start(name, command)?;
    process.says("listening")?;
    Ok(process)
}

/// A program of the same build.
fn beside(name: &str) -> anyhow::Result<Command> {
    let path = std::env::current_exe()?.with_file_name(name);
    anyhow::ensure!(path.exists(), "{} is not built; `cargo xtask bench` builds it", path.display());
    Ok(Command::new(path))
}
