//! What is measured: ways from a client to the same stand-in, each through processes of its own.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use e2e::authority::Authority;
use reachback_host::link::transports::TransportChoice;
use tempfile::TempDir;

use super::bare;
use super::carrying::Place;
use super::client::{self, Client};
use super::device::Device;
use super::peers;
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
    Sockets(Vec<Place>),
    /// At a device in this process, which speaks the protocol.
    Device(Device),
    /// In this process, in the place of the first of bare hops.
    Bare(bare::client::Clients),
}

impl Way {
    /// A client of it.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        match &self.entrance {
            Entrance::Sockets(sockets) => Client::over(client::socket(&sockets[0])?),
            Entrance::Device(device) => device.client(),
            Entrance::Bare(clients) => clients.client(),
        }
    }

    /// Where clients connect that are not in this process's one thread.
    pub(super) fn sockets(&self) -> &[Place] {
        match &self.entrance {
            Entrance::Sockets(sockets) => sockets,
            Entrance::Device(_) | Entrance::Bare(_) => &[],
        }
    }
}

/// All ways, to one stand-in.
pub(super) struct Stage {
    /// Direct first, then what the others are compared with.
    pub(super) ways: Vec<Way>,
    /// What two of them lead through.
    pub(super) reachback: Reachback,
    stand_ins: Vec<Process>,
    _folder: TempDir,
    /// Vouches for the bare hops.
    _authority: Authority,
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
        let (stand_in, _) = this("stand-in", "stand-in", [&socket])?;

        let (two, three) = copies(root, &socket)?;
        let sealed = sealed_copies(root, &socket)?;
        let authority = Authority::new();
        let bare = bare_hops(root, &socket, &authority)?;
        let mut stand_ins = vec![stand_in];
        let peers = peers::ways(root, || {
            let (stand_in, address) = this("stand-in", "stand-in", ["127.0.0.1:0"])?;
            stand_ins.push(stand_in);
            Ok(address)
        })?;
        let direct = Entrance::Sockets(vec![Place::Path(socket)]);
        let direct = Way { name: "direct", floor: None, entrance: direct, processes: Vec::new() };
        let reachback = Reachback::start(root, &codex_home)?;
        let mut ways = vec![direct, two, three, sealed];
        ways.extend(bare);
        for host in &reachback.hosts {
            ways.extend([reachback.device(host)?, reachback.laptop(host)?]);
        }
        ways.extend(peers);
        Ok(Self { ways, reachback, stand_ins, _folder: folder, _authority: authority })
    }

    /// Lets all of it, and this process, run on these processors only.
    pub(super) fn pin(&self, cpus: &[usize]) -> anyhow::Result<()> {
        super::process::pin_self(cpus)?;
        let between = self.ways.iter().flat_map(|way| &way.processes);
        between.map(Rc::as_ref).chain(&self.stand_ins).try_for_each(|process| process.pin(cpus))
    }
}

/// Processes that only copy: as many as there are between a device and Codex, the relay and the host's agent, and as many as there are
/// with a laptop's agent before them.
fn copies(root: &Path, to: &Path) -> anyhow::Result<(Way, Way)> {
    let (mut to, mut entrances, mut processes) = (to.to_owned(), Vec::new(), Vec::new());
    for name in ["last copy", "second copy", "first copy"] {
        let from = root.join(name).with_extension("sock");
        processes.push(Rc::new(this(name, "hop", [&from, &to])?.0));
        entrances.push(from.clone());
        to = from;
    }
    let way = |name, copies: usize| {
        let processes = processes[..copies].iter().rev().cloned().collect();
        Way {
            name,
            floor: None,
            entrance: Entrance::Sockets(vec![Place::Path(entrances[copies - 1].clone())]),
            processes,
        }
    };
    Ok((way(TWO, 2), way(THREE, 3)))
}

/// As many as there are with a laptop's agent, which seal as it, the relay and the host's agent do: twice, anew, not at all. The
/// first is connected to the second by TCP, and that to the last one, as the agents are to the relay.
fn sealed_copies(root: &Path, to: &Path) -> anyhow::Result<Way> {
    let entrance = root.join("sealed.sock");
    let (entrance, tcp) = (entrance.as_os_str(), OsStr::new("127.0.0.1:0"));
    let (mut to, mut processes) = (to.as_os_str().to_owned(), Vec::new());
    let copies =
        [("last sealed", "2", "0", tcp), ("second sealed", "1", "1", tcp), ("first sealed", "0", "2", entrance)];
    for (name, near, far, from) in copies {
        let (process, place) = this(name, "sealed", [OsStr::new(near), OsStr::new(far), from, &to])?;
        processes.push(Rc::new(process));
        to = place.into();
    }
    Ok(Way {
        name: "three sealed copies",
        floor: Some(THREE),
        entrance: Entrance::Sockets(vec![Place::Path(to.into())]),
        processes,
    })
}

/// As many, with the libraries that Reachback is made of, over each transport: WebSockets over TLS or QUIC, and each message sealed
/// between the first and the last. A client that seals is the first one itself, as a device is.
fn bare_hops(root: &Path, to: &Path, authority: &Authority) -> anyhow::Result<Vec<Way>> {
    let (certificate, key) = authority.vouch(bare::NAME);
    let roots = authority.roots();
    let mut ways = Vec::new();
    for transport in [Transport::Wss, Transport::Quic] {
        let hop = |name, inner: &str, from: &OsStr, to: &OsStr| {
            let files = [&roots, &certificate, &key].map(|file| file.as_os_str());
            let words = [OsStr::new(inner), OsStr::new(transport.word()), from, to].into_iter().chain(files);
            this(name, "bare", words).map(|(process, place)| (Rc::new(process), place))
        };
        let (entrance, any) = (root.join("bare").with_extension(transport.word()), OsStr::new("127.0.0.1:0"));
        let (last, place) = hop("last hop", "opens", any, to.as_os_str())?;
        let (second, place) = hop("second hop", "keeps", any, place.as_ref())?;
        let (first, _) = hop("first hop", "seals", entrance.as_os_str(), place.as_ref())?;
        let [two, three] = transport.bare_hops();
        let second_at = Place::Address(place.parse()?);
        ways.push(Way {
            name: two,
            floor: Some(TWO),
            entrance: Entrance::Bare(bare::client::Clients::new(second_at, transport, &roots)?),
            processes: vec![Rc::clone(&second), Rc::clone(&last)],
        });
        let entrance = Entrance::Sockets(vec![Place::Path(entrance)]);
        ways.push(Way { name: three, floor: Some(THREE), entrance, processes: vec![first, second, last] });
    }
    Ok(ways)
}

pub(super) const TWO: &str = "two copies";
pub(super) const THREE: &str = "three copies";

/// Two, as a session of a device has no more than 32 channels. The second one only has a part where there are many connections.
const LAPTOPS: [&str; 2] = ["laptop", "second laptop"];

/// What carries a host's tunnel, and the links of its devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Transport {
    /// WebSockets over TLS.
    Wss,
    /// Streams of QUIC connections.
    Quic,
}

impl From<Transport> for TransportChoice {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Wss => Self::Wss,
            Transport::Quic => Self::Quic,
        }
    }
}

impl Transport {
    /// As `--transport` takes it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Wss => "wss",
            Self::Quic => "quic",
        }
    }

    /// What a table calls a device that speaks the protocol itself.
    pub(super) fn device(self) -> &'static str {
        match self {
            Self::Wss => "device, wss",
            Self::Quic => "device, quic",
        }
    }

    /// What a table calls two and three processes with the same libraries and nothing else.
    fn bare_hops(self) -> [&'static str; 2] {
        match self {
            Self::Wss => ["two bare hops, wss", "three bare hops, wss"],
            Self::Quic => ["two bare hops, quic", "three bare hops, quic"],
        }
    }

    fn laptop(self) -> &'static str {
        match self {
            Self::Wss => "laptop, wss",
            Self::Quic => "laptop, quic",
        }
    }
}

/// A relay and hosts, as people run them, with TLS.
pub(super) struct Reachback {
    root: PathBuf,
    codex_home: PathBuf,
    relay: Rc<Process>,
    /// One for each transport.
    hosts: Vec<Host>,
}

struct Host {
    transport: Transport,
    home: PathBuf,
    agent: Rc<Process>,
}

impl Reachback {
    fn start(root: &Path, codex_home: &Path) -> anyhow::Result<Self> {
        let data = root.join("relay");
        std::fs::create_dir(root.join("work"))?;
        // All of a measurement comes from one address, as often as it likes.
        let config = root.join("relay.toml");
        std::fs::write(&config, "[limits]\naccepts_burst = 1000000\nattempts_burst = 1000000\n")?;
        let mut command = beside("reachback-relay")?;
        command.args(["serve", "--json", "--log", "warn", "--tls", "generated", "--listen", &free_address()?]);
        command.arg("--config").arg(config).arg("--data").arg(&data);
        let mut relay = Process::start("relay", command)?;
        let ready = relay.event("ready", |_| true)?;
        let url = ready["url"].as_str().context("a relay that is ready names its url")?;
        let (root, codex_home) = (root.to_owned(), codex_home.to_owned());
        let mut reachback = Self { root, codex_home, relay: Rc::new(relay), hosts: Vec::new() };
        for transport in [Transport::Wss, Transport::Quic] {
            let mut command = beside("reachback-relay")?;
            command.arg("enroll").arg("--data").arg(&data);
            let key = command.output().context("no key to enrol with")?;
            let key = PathBuf::from(String::from_utf8(key.stdout)?.trim());
            reachback.hosts.push(reachback.host(transport, url, &key)?);
        }
        Ok(reachback)
    }

    fn host(&self, transport: Transport, relay: &str, enroll_file: &Path) -> anyhow::Result<Host> {
        let home = self.root.join("host").with_extension(transport.word());
        let mut command = reachback_at(&home, &self.root)?;
        command.args(["host", "--relay", relay, "--transport", transport.word(), "--name", "tower", "--workspace"]);
        command.arg(self.root.join("work")).arg("--enroll-file").arg(enroll_file);
        command.arg("--codex-home").arg(&self.codex_home).arg("--codex-program").arg(std::env::current_exe()?);
        let mut agent = Process::start("host agent", command)?;
        agent.event("codex", |line| line["state"] == "ready")?;
        Ok(Host { transport, home, agent: Rc::new(agent) })
    }

    /// A device that is paired with a host: its home.
    fn pair(&self, host: &Host, name: &str, more: &[&str]) -> anyhow::Result<PathBuf> {
        let home = self.root.join(name).with_extension(host.transport.word());
        let mut command = reachback_at(&host.home, &self.root)?;
        command.args(["pair", "--yes"]).args(more);
        let mut pair = Process::start("pair", command)?;
        let link = pair.event("pairing", |_| true)?["url"].as_str().context("a pairing has a link")?.to_owned();
        let mut command = reachback_at(&home, &self.root)?;
        command.args(["join", &link, "--name", name]);
        Process::start("join", command)?.event("joined", |_| true)?;
        pair.event("paired", |_| true)?;
        Ok(home)
    }

    fn laptop(&self, host: &Host) -> anyhow::Result<Way> {
        let (mut sockets, mut processes) = (Vec::new(), vec![Rc::clone(&self.relay), Rc::clone(&host.agent)]);
        for name in LAPTOPS {
            let home = self.pair(host, name, &[])?;
            let socket = home.join("codex.sock");
            let mut command = reachback_at(&home, &self.root)?;
            command.args(["connect", "--transport", host.transport.word(), "--socket"]).arg(&socket);
            let mut laptop = Process::start(name, command)?;
            laptop.event("socket", |_| true)?;
            processes.push(Rc::new(laptop));
            sockets.push(Place::Path(socket));
        }
        Ok(Way { name: host.transport.laptop(), floor: Some(THREE), entrance: Entrance::Sockets(sockets), processes })
    }

    fn device(&self, host: &Host) -> anyhow::Result<Way> {
        let device = Device::connect(&self.pair(host, "device", &[])?, host.transport, false)?;
        let processes = vec![Rc::clone(&self.relay), Rc::clone(&host.agent)];
        Ok(Way { name: host.transport.device(), floor: Some(TWO), entrance: Entrance::Device(device), processes })
    }

    /// Another device over WebSockets, whose link can be cut and counts its bytes.
    pub(super) fn frail_device(&self) -> anyhow::Result<Device> {
        let host = self.hosts.first().context("there is no host")?;
        Device::connect(&self.pair(host, "frail device", &[])?, Transport::Wss, true)
    }

    /// Another one over WebSockets, which may do everything.
    pub(super) fn admin(&self) -> anyhow::Result<Device> {
        let host = self.hosts.first().context("there is no host")?;
        Device::connect(&self.pair(host, "admin", &["--scope", "admin"])?, Transport::Wss, false)
    }

    /// `reachback` in the home of the host that [`Self::admin`] is paired with.
    pub(super) fn at_a_host(&self) -> anyhow::Result<Command> {
        reachback_at(&self.hosts.first().context("there is no host")?.home, &self.root)
    }

    /// The SSH configuration of all hosts; nobody has written it yet.
    pub(super) fn ssh_config(&self) -> PathBuf {
        ssh_config(&self.root)
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

/// Taken and given back.
pub(super) fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// The program with a home of its own.
fn reachback_at(home: &Path, root: &Path) -> anyhow::Result<Command> {
    let mut command = beside("reachback")?;
    command.arg("--json").env("REACHBACK_HOME", home).env("HOME", root.join("home")).env("XDG_RUNTIME_DIR", root);
    command.env("REACHBACK_SSH_CONFIG", ssh_config(root));
    Ok(command)
}

fn ssh_config(root: &Path) -> PathBuf {
    root.join("ssh_config")
}

/// This program, as another process, and where it listens.
pub(super) fn this<W: AsRef<OsStr>>(
    name: &'static str,
    part: &str,
    words: impl IntoIterator<Item = W>,
) -> anyhow::Result<(Process, String)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(part).args(words);
    let mut process = Process::start(name, command)?;
    let place = process.says("listening")?;
    Ok((process, place))
}

/// A program of the same build.
pub(super) fn beside(name: &str) -> anyhow::Result<Command> {
    let path = std::env::current_exe()?.with_file_name(name);
    anyhow::ensure!(path.exists(), "{} is not built; `cargo xtask bench` builds it", path.display());
    Ok(Command::new(path))
}
