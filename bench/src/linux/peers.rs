//! Tunnels of others, where their programs are on `PATH`, each to a stand-in of theirs on TCP.
//!
//! rathole and wstunnel seal the leg between their server and their client, two processes as a relay and a host's agent are: the
//! server reads what it carries. iroh's relay reads nothing, as ours, and has an end on each side, three processes; the ends
//! are `bench/iroh`, since iroh is a library. None of them knows of messages.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::carrying::Place;
use super::client::{self, Client};
use super::process::Process;
use super::stage::{Entrance, THREE, TWO, Way, free_address};

/// How long one may take until it carries.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// A tunnel from one address to another.
struct Peer {
    /// All of them have to be there.
    programs: &'static [&'static str],
    /// What a table calls the way.
    name: &'static str,
    /// The way that has as many processes, which only copy.
    floor: &'static str,
    /// Starts it: a folder of its own, where clients will begin, and where it is to lead.
    start: fn(&Path, &str, &str) -> anyhow::Result<Vec<Process>>,
}

const IROH_ENDS: &str = "reachback-bench-iroh";

const PEERS: [Peer; 3] = [
    Peer { programs: &["rathole"], name: "rathole, noise", floor: TWO, start: rathole },
    Peer { programs: &["wstunnel"], name: "wstunnel, wss", floor: TWO, start: wstunnel },
    Peer { programs: &["iroh-relay", IROH_ENDS], name: "iroh, relayed", floor: THREE, start: iroh },
];

/// The ways of those that are there, and carry; says which do not. `stand_in` starts what they lead to, and says at which address.
pub(super) fn ways(root: &Path, stand_in: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<Vec<Way>> {
    let mut there = Vec::new();
    for peer in &PEERS {
        let found = peer.programs.iter().map(|program| is_there(program)).collect::<anyhow::Result<Vec<_>>>()?;
        if found.into_iter().all(|is_there| is_there) {
            there.push(peer);
        }
    }
    if there.is_empty() {
        return Ok(Vec::new());
    }
    let stand_in = stand_in()?;
    let mut ways = Vec::new();
    for peer in there {
        // One of another version than these lines were written for, or another program of that name, is no reason to measure nothing.
        match way(peer, root, &stand_in) {
            Ok(way) => ways.push(way),
            Err(error) => eprintln!("{} is left out: {error:#}", peer.name),
        }
    }
    Ok(ways)
}

fn is_there(program: &str) -> anyhow::Result<bool> {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.status() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("{program} does not start")),
    }
}

fn way(peer: &Peer, root: &Path, stand_in: &str) -> anyhow::Result<Way> {
    let folder = root.join(peer.name);
    fs::create_dir(&folder)?;
    let entrance = free_address()?;
    let processes = (peer.start)(&folder, &entrance, stand_in)?.into_iter().map(Rc::new).collect();
    let place = Place::Address(entrance.parse()?);
    carries(&place)?;
    Ok(Way { name: peer.name, floor: Some(peer.floor), entrance: Entrance::Sockets(vec![place]), processes })
}

/// Waits until it does.
fn carries(place: &Place) -> anyhow::Result<()> {
    let begin = Instant::now();
    loop {
        match client::socket(place).and_then(Client::over) {
            Ok(_) => return Ok(()),
            Err(error) if begin.elapsed() > PATIENCE => return Err(error).context("it does not carry"),
            Err(_) => std::thread::park_timeout(PAUSE),
        }
    }
}

fn start<'a>(name: &'static str, program: &str, words: impl IntoIterator<Item = &'a str>) -> anyhow::Result<Process> {
    let mut command = Command::new(program);
    // What it writes is not read.
    command.args(words).env("RUST_LOG", "off").stderr(Stdio::null());
    Process::start(name, command)
}

/// Noise on the leg between both; with what it offers against waiting for more, which its defaults are not.
fn rathole(folder: &Path, entrance: &str, stand_in: &str) -> anyhow::Result<Vec<Process>> {
    let printed = Command::new("rathole").arg("--genkey").output()?.stdout;
    let (private, public) = keypair(str::from_utf8(&printed)?)?;
    let address = free_address()?;
    let server = format!(
        "[server]\nbind_addr = \"{address}\"\ndefault_token = \"bench\"\n\
         [server.transport]\ntype = \"noise\"\n[server.transport.tcp]\nnodelay = true\n\
         [server.transport.noise]\nlocal_private_key = \"{private}\"\n\
         [server.services.codex]\nbind_addr = \"{entrance}\"\nnodelay = true\n"
    );
    let client = format!(
        "[client]\nremote_addr = \"{address}\"\ndefault_token = \"bench\"\n\
         [client.transport]\ntype = \"noise\"\n[client.transport.tcp]\nnodelay = true\n\
         [client.transport.noise]\nremote_public_key = \"{public}\"\n\
         [client.services.codex]\nlocal_addr = \"{stand_in}\"\nnodelay = true\n"
    );
    let run = |name, role: &str, config: String| {
        let file = folder.join(role).with_extension("toml");
        fs::write(&file, config)?;
        let file = file.to_str().context("the folder for a while has a name of text")?;
        start(name, "rathole", [&*format!("--{role}"), file])
    };
    Ok(vec![run("rathole server", "server", server)?, run("rathole client", "client", client)?])
}

/// The private and the public key that `rathole --genkey` prints, each on the line behind its name.
fn keypair(printed: &str) -> anyhow::Result<(&str, &str)> {
    let after = |name: &str| printed.lines().skip_while(|line| *line != name).nth(1).filter(|key| !key.is_empty());
    match (after("Private Key:"), after("Public Key:")) {
        (Some(private), Some(public)) => Ok((private, public)),
        _ => bail!("`rathole --genkey` prints no pair of keys"),
    }
}

/// WebSockets over TLS between both; its client takes any certificate. By wstunnel's documentation (10.x): it is in none of the
/// registries that the others came from, and was never run here.
fn wstunnel(_: &Path, entrance: &str, stand_in: &str) -> anyhow::Result<Vec<Process>> {
    let url = format!("wss://{}", free_address()?);
    let tunnel = format!("tcp://{entrance}:{stand_in}");
    let server = start("wstunnel server", "wstunnel", ["--log-lvl", "OFF", "server", &url])?;
    let client = start("wstunnel client", "wstunnel", ["--log-lvl", "OFF", "client", "-R", &tunnel, &url])?;
    Ok(vec![server, client])
}

/// Both ends at a relay of their own, over HTTP: what they say to each other is sealed between them.
fn iroh(folder: &Path, entrance: &str, stand_in: &str) -> anyhow::Result<Vec<Process>> {
    let address = free_address()?;
    let config = folder.join("relay.toml");
    fs::write(&config, format!("http_bind_addr = \"{address}\"\nenable_metrics = false\n"))?;
    let config = config.to_str().context("the folder for a while has a name of text")?;
    let relay = start("iroh relay", "iroh-relay", ["--dev", "--config-path", config])?;
    let url = format!("http://{address}");
    let mut host = start("iroh end", IROH_ENDS, ["listen", &url, stand_in])?;
    let id = host.says_within(PATIENCE, "listening")?;
    let mut device = start("second iroh end", IROH_ENDS, ["connect", &url, &id, entrance])?;
    device.says_within(PATIENCE, "listening")?;
    Ok(vec![relay, host, device])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_of_keys_is_read_as_it_is_printed() {
        let printed = "Private Key:\nc2VjcmV0\n\nPublic Key:\ncHVibGlj\n";
        assert_eq!(keypair(printed).unwrap(), ("c2VjcmV0", "cHVibGlj"));
        for wrong in ["", "Private Key:\nc2VjcmV0\n", "Public Key:\n\nPrivate Key:\n"] {
            assert!(keypair(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_left_out() {
        assert!(!is_there("no-such-program-anywhere").unwrap());
    }
}
