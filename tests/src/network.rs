//! A network of its own, with a link to ours whose addresses can change: a network namespace of Linux.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::process::Command;

/// Numbers this process' networks.
static NEXT: AtomicU8 = AtomicU8::new(0);

/// A namespace and a link to it. Both go when this is dropped.
#[derive(Debug)]
pub struct Network {
    name: String,
    /// Our end of the link.
    link: String,
    /// First three numbers of the addresses of both ends.
    prefix: [u8; 3],
}

impl Network {
    /// Makes one, or says why this process may not.
    pub async fn make() -> Result<Self, String> {
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        // Of the addresses that are for tests of networks (RFC 2544).
        let prefix = [198, 18 + (process & 1) as u8, (process >> 1) as u8 ^ number];
        let name = format!("rb{process}-{number}");
        ip(&["netns", "add", &name]).await?;
        let network = Self { link: format!("{name}o"), name, prefix };
        let (ours, theirs) = (network.link.clone(), format!("{}i", network.name));
        ip(&["link", "add", &ours, "type", "veth", "peer", "name", &theirs, "netns", &network.name]).await?;
        ip(&["addr", "add", &network.with_length(1), "dev", &ours]).await?;
        ip(&["link", "set", &ours, "up"]).await?;
        for args in [
            &["addr", "add", &network.with_length(2), "dev", &theirs][..],
            &["link", "set", &theirs, "up"],
            &["link", "set", "lo", "up"],
        ] {
            ip(&[&["-n", &network.name], args].concat()).await?;
        }
        Ok(network)
    }

    /// Where a program in the namespace listens.
    pub fn there(&self) -> SocketAddr {
        // The namespace has this port for itself.
        SocketAddr::new(self.address(2), 7420)
    }

    /// A program in the namespace. It is the process that is started, not a child of it.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// From now on our end has the address that ends with `to`, and no more the one that ends with `from`.
    pub async fn move_us(&self, from: u8, to: u8) {
        // In this order, as the second address of a network goes with the first. In between there is no way at all.
        ip(&["addr", "del", &self.with_length(from), "dev", &self.link]).await.unwrap();
        ip(&["addr", "add", &self.with_length(to), "dev", &self.link]).await.unwrap();
    }

    fn address(&self, last: u8) -> IpAddr {
        let [a, b, c] = self.prefix;
        IpAddr::from([a, b, c, last])
    }

    fn with_length(&self, last: u8) -> String {
        format!("{}/24", self.address(last))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The link goes with it, once no program is left there.
        for args in [&["link", "del", &self.link][..], &["netns", "del", &self.name]] {
            let _gone = std::process::Command::new("ip").args(args).stderr(Stdio::null()).status();
        }
    }
}

async fn ip(args: &[&str]) -> Result<(), String> {
    let done = Command::new("ip").args(args).output().await.map_err(|error| format!("no `ip`: {error}"))?;
    match done.status.success() {
        true => Ok(()),
        false => Err(format!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&done.stderr).trim())),
    }
}
