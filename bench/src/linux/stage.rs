//! What is measured: ways from a client to the same stand-in, each through processes of its own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tempfile::TempDir;

use super::client::{self, Client};
use super::device::Device;
use super::process::Process;

/// A way from the client to the stand-in.
pub(super) struct Way {
    /// What a table calls it.
    pub(super) name: &'static str,
    /// The way that has as many processes, which only copy.
    pub(super) floor: Option<&'static str>,
    /// Where clients begin.
    pub(super) entrance: Entrance,
    /// The processes between the client and the stand-in.
    pub(super) processes: Vec<Rc<Process>>,
}

/// Where clients begin.
pub(super) enum Entrance {
    /// Here: one client at the first, many at each in turn.
    Sockets(Vec<PathBuf>),
    /// At a device in this process, which speaks the protocol.
    Device(Device),
}

impl Way {
    /// A client of it.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        match &self.entrance {
            Entrance::Sockets(sockets) => Client::over(client::socket(&sockets[0])?),
            Entrance::Device(device) => device.client(),
        }
    }

    /// Where clients connect that are not in this process's one thread.
    pub(super) fn sockets(&self) -> &[PathBuf] {
        match &self.entrance {
            Entrance::Sockets(sockets) => sockets,
            Entrance::Device(_) => &[],
        }
    }
}

/// All ways, to one stand-in.
pub(super) struct Stage {
    /// Direct first, then what the others are compared with.
    pub(super) ways: Vec<Way>,
    /// What two of them lead through.
    pub(super) reachback: Reachback,
    stand_in: Process,
    _folder: TempDir,
}

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

        let (two, three) = copies(root, &socket)?;
        let direct = Entrance::Sockets(vec![socket]);
        let direct = Way { name: "direct", floor: None, entrance: direct, processes: Vec::new() };
        let reachback = Reachback::start(root, &codex_home)?;
        let (device, laptop) = (reachback.device()?, reachback.laptop()?);
        let ways = vec![direct, two, device, three, laptop];
        Ok(Self { ways, reachback, stand_in, _folder: folder })
    }

    /// Lets all of it, and this process, run on these processors only.
    pub(super) fn pin(&self, cpus: &[usize]) -> anyhow::Result<()> {
        super::process::pin_self(cpus)?;
        let between = self.ways.iter().flat_map(|way| &way.processes);
        between.map(Rc::as_ref).chain([&self.stand_in]).try_for_each(|process| process.pin(cpus))
    }
}

/// Processes that only copy: as many as there are between a device and Codex, the relay and the host's agent, and as many as there are
/// with a laptop's agent before them.
fn copies(root: &Path, to: &Path) -> anyhow::Result<(Way, Way)> {
    let (mut to, mut entrances, mut processes) = (to.to_owned(), Vec::new(), Vec::new());
    for name in ["last copy", "second copy", "first copy"] {
        let from = root.join(name).with_extension("sock");
        processes.push(Rc::new(this(name, "hop", &[&from, &to])?));
        entrances.push(from.clone());
        to = from;
    }
    let way = |name, copies: usize| {
        let processes = processes[..copies].iter().rev().cloned().collect();
        Way { name, floor: None, entrance: Entrance::Sockets(vec![entrances[copies - 1].clone()]), processes }
    };
    Ok((way(TWO, 2), way(THREE, 3)))
}

const TWO: &str = "two copies";
const THREE: &str = "three copies";

/// Two, as a session of a device has no more than 32 channels. The second one only has a part where there are many connections.
const LAPTOPS: [&str; 2] = ["laptop", "second laptop"];

/// Relay and host, as people run them, over WebSocket with TLS.
pub(super) struct Reachback {
    root: PathBuf,
    host_home: PathBuf,
    codex_home: PathBuf,
    relay: Rc<Process>,
    host: Rc<Process>,
}

impl Reachback {
    fn start(root: &Path, codex_home: &Path) -> anyhow::Result<Self> {
        let [data, host_home, work] = ["relay", "host", "work"].map(|name| root.join(name));
        std::fs::create_dir(&work)?;
        // All of a measurement comes from one address, as often as it likes.
        let config = root.join("relay.toml");
        std::fs::write(&config, "[limits]\naccepts_burst = 1000000\nattempts_burst = 1000000\n")?;
        let mut command = beside("reachback-relay")?;
        command.args(["serve", "--json", "--log", "warn", "--tls", "generated", "--listen", &free_address()?]);
        command.arg("--config").arg(config).arg("--data").arg(data);
        let mut relay = Process::start("relay", command)?;
        let ready = relay.event("ready", |_| true)?;
        let of =
            |member: &str| ready[member].as_str().with_context(|| format!("a relay that is ready names its {member}"));
        let (url, enroll) = (of("url")?, of("enroll_file")?);

        let mut command = reachback_at(&host_home, root)?;
        command.args(["host", "--relay", url, "--enroll-file", enroll, "--name", "tower", "--workspace"]).arg(work);
        command.arg("--codex-home").arg(codex_home).arg("--codex-program").arg(std::env::current_exe()?);
        let mut host = Process::start("host agent", command)?;
        host.event("codex", |line| line["state"] == "ready")?;
        let (root, codex_home) = (root.to_owned(), codex_home.to_owned());
        Ok(Self { root, host_home, codex_home, relay: Rc::new(relay), host: Rc::new(host) })
    }

    /// A device that is paired with the host: its home.
    fn pair(&self, name: &str) -> anyhow::Result<PathBuf> {
        let home = self.root.join(name);
        let mut command = reachback_at(&self.host_home, &self.root)?;
        command.args(["pair", "--yes"]);
        let mut pair = Process::start("pair", command)?;
        let link = pair.event("pairing", |_| true)?["url"].as_str().context("a pairing has a link")?.to_owned();
        let mut command = reachback_at(&home, &self.root)?;
        command.args(["join", &link, "--name", name]);
        Process::start("join", command)?.event("joined", |_| true)?;
        pair.event("paired", |_| true)?;
        Ok(home)
    }

    fn laptop(&self) -> anyhow::Result<Way> {
        let (mut sockets, mut processes) = (Vec::new(), vec![Rc::clone(&self.relay), Rc::clone(&self.host)]);
        for name in LAPTOPS {
            let home = self.pair(name)?;
            let socket = home.with_extension("sock");
            let mut command = reachback_at(&home, &self.root)?;
            command.args(["connect", "--socket"]).arg(&socket);
            let mut laptop = Process::start(name, command)?;
            laptop.event("socket", |_| true)?;
            processes.push(Rc::new(laptop));
            sockets.push(socket);
        }
        Ok(Way { name: "laptop, wss", floor: Some(THREE), entrance: Entrance::Sockets(sockets), processes })
    }

    fn device(&self) -> anyhow::Result<Way> {
        let device = Device::connect(&self.pair("device")?, false)?;
        let processes = vec![Rc::clone(&self.relay), Rc::clone(&self.host)];
        Ok(Way { name: DEVICE, floor: Some(TWO), entrance: Entrance::Device(device), processes })
    }

    /// Another device, whose link can be cut and counts its bytes.
    pub(super) fn frail_device(&self) -> anyhow::Result<Device> {
        Device::connect(&self.pair("frail device")?, true)
    }

    /// `reachback up` until it shows the code to pair with, in a home that is new or not.
    pub(super) fn up(&self, home: &Path) -> anyhow::Result<Duration> {
        let mut command = reachback_at(home, &self.root)?;
        command.args(["up", "--listen", &free_address()?, "--workdir"]).arg(self.root.join("work"));
        command.arg("--codex-home").arg(&self.codex_home).arg("--codex-program").arg(std::env::current_exe()?);
        let begin = Instant::now();
        let mut up = Process::start("up", command)?;
        up.event("pairing", |_| true)?;
        Ok(begin.elapsed())
    }

    /// A folder for homes.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }
}

/// What a table calls a device that speaks the protocol itself.
pub(super) const DEVICE: &str = "device, wss";

/// Taken and given back.
fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
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
