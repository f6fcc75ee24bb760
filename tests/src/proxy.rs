//! An office network's proxy: tinyproxy, which wants a name and a password.
//!
//! What is behind it has a name that leads nowhere from here, so that nothing gets there by another way. A second proxy,
//! of the test's own, stands in for the names of the world outside: tinyproxy passes on to it. Where TLS is to be spoken with
//! the proxy itself, stunnel is before it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio_util::task::AbortOnDropHandle;

use crate::authority::Authority;
use crate::eventually;
use crate::process::free_port;

/// Who may go through, and how that is proved.
pub const NAME: &str = "ann";
/// See [`NAME`].
pub const PASSWORD: &str = "opensesame";

/// See the module's header. Ended when dropped.
pub struct Proxy {
    /// Where it listens.
    pub addr: SocketAddr,
    folder: TempDir,
    _tinyproxy: Child,
    _outside: AbortOnDropHandle<()>,
}

impl Proxy {
    /// Leads to `target` where it is asked for `name`.
    pub async fn start(name: &str, target: SocketAddr) -> Self {
        let outside = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (folder, addr) = (tempfile::tempdir().unwrap(), free_port());
        let config = format!(
            "Port {}\nListen 127.0.0.1\nTimeout 600\nMaxClients 100\nLogFile \"{}\"\nLogLevel Connect\n\
             BasicAuth {NAME} {PASSWORD}\nUpstream http {} \"{name}\"\n",
            addr.port(),
            folder.path().join(LOG).display(),
            outside.local_addr().unwrap(),
        );
        let file = folder.path().join("tinyproxy.conf");
        std::fs::write(&file, config).unwrap();
        let tinyproxy = run(&file);
        let outside = AbortOnDropHandle::new(tokio::spawn(lead(outside, target)));
        eventually("tinyproxy listens", || std::net::TcpStream::connect(addr).is_ok()).await;
        Self { addr, folder, _tinyproxy: tinyproxy, _outside: outside }
    }

    /// What is written into `HTTPS_PROXY`, with this password.
    pub fn url(&self, password: &str) -> String {
        format!("http://{NAME}:{password}@{}", self.addr)
    }

    /// What it was asked for, a line each.
    pub fn asked(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.log_file()).unwrap_or_default();
        log.lines()
            .filter_map(|line| Some(line.split_once("CONNECT ")?.1.split_once("CONNECT ")?.1.to_owned()))
            .collect()
    }

    /// What leads to it with TLS: stunnel, with a certificate of the authority's for `localhost`.
    pub async fn behind_tls(&self, authority: &Authority) -> TlsProxy {
        let (addr, (certificate, key)) = (free_port(), authority.vouch("localhost"));
        let config = format!(
            "foreground = yes\npid =\n[proxy]\naccept = {addr}\nconnect = {}\ncert = {}\nkey = {}\n",
            self.addr,
            certificate.display(),
            key.display(),
        );
        let file = self.folder.path().join("stunnel.conf");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new("stunnel");
        command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let stunnel = command.spawn().expect("stunnel, of the Debian package stunnel4, has to be there");
        eventually("stunnel listens", || std::net::TcpStream::connect(addr).is_ok()).await;
        TlsProxy { addr, _stunnel: stunnel }
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join(LOG)
    }
}

/// A [`Proxy`] with which TLS is spoken. Ended when dropped.
pub struct TlsProxy {
    /// Where it listens.
    pub addr: SocketAddr,
    _stunnel: Child,
}

impl TlsProxy {
    /// What is written into `HTTPS_PROXY`, with this password.
    pub fn url(&self, password: &str) -> String {
        format!("https://{NAME}:{password}@localhost:{}", self.addr.port())
    }
}

const LOG: &str = "tinyproxy.log";

fn run(config: &Path) -> Child {
    let mut command = Command::new("tinyproxy");
    command.arg("-d").arg("-c").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    command.spawn().expect("tinyproxy, of the Debian package tinyproxy-bin, has to be there")
}

/// Leads each connection to `target`, whatever it asks for, and says 502 where nobody is there.
async fn lead(listener: TcpListener, target: SocketAddr) {
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = client.read_u8().await else { return };
                head.push(byte);
            }
            let Ok(mut server) = TcpStream::connect(target).await else {
                let _ = client.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").await;
                return;
            };
            if client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.is_ok() {
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}
