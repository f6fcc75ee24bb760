//! What of a real Codex goes on to its maker's backend: by TLS, also through a proxy, and no further.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use e2e::codex::{self, TestCodex};
use e2e::eventually;
use e2e::middleman::Middleman;
use e2e::process::{Home, Process};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// A server that keeps the head of each request.
struct Server {
    addr: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    /// Tunnels that have ended.
    ended: Arc<Mutex<usize>>,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    /// Gives every request this answer; a tunnel to whoever asks for one.
    async fn start(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (heads, ended) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<Mutex<usize>>::default());
        let (kept, counted) = (Arc::clone(&heads), Arc::clone(&ended));
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (kept, counted, answer) = (Arc::clone(&kept), Arc::clone(&counted), answer.clone());
                tokio::spawn(async move {
                    let Some(head) = head(&mut stream).await else { return };
                    let tunnel =
                        head.strip_prefix("connect ").and_then(|rest| rest.split(' ').next().map(str::to_owned));
                    kept.lock().unwrap().push(head);
                    match tunnel {
                        Some(to) => {
                            tunnel_to(&to, stream).await;
                            *counted.lock().unwrap() += 1;
                        }
                        None => {
                            let _ = stream.write_all(answer.as_bytes()).await;
                        }
                    }
                });
            }
        });
        Self { addr, heads, ended, _task: AbortOnDropHandle::new(task) }
    }

    /// The heads so far, in small letters.
    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    fn ended(&self) -> usize {
        *self.ended.lock().unwrap()
    }
}

async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap().to_ascii_lowercase())
}

/// Leads to ports of this machine, and refuses the rest as one that has no way there.
async fn tunnel_to(to: &str, mut stream: TcpStream) {
    let port = to.strip_prefix("localhost:").and_then(|port| port.parse::<u16>().ok());
    let server = match port {
        Some(port) => TcpStream::connect(("127.0.0.1", port)).await.ok(),
        None => None,
    };
    let Some(mut server) = server else {
        let _ = stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").await;
        return;
    };
    if stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.is_ok() {
        let _ = copy_bidirectional(&mut stream, &mut server).await;
    }
}

fn answer(status: &str, more: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{more}content-length: 0\r\nconnection: close\r\n\r\n")
}

/// A person whose Codex is signed in, and was configured for this port of `localhost` before.
async fn person(port: u16) -> (TestCodex, Home) {
    let codex = TestCodex::prepare().await;
    codex.home.sign_in().unwrap();
    let file = codex.home.codex_home().join("config.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("chatgpt_base_url = \"https://localhost:{port}/vendor\"\n{config}")).unwrap();
    (codex, Home::new())
}

/// An agent that trusts these authorities, with a Codex of its own, which has come.
async fn up(codex: &TestCodex, home: &Home, roots: &Path, env: &[(&str, &str)]) -> Process {
    let (program, codex_home) = (codex::program(), codex.home.codex_home());
    let mut command = home.command(&["up", "--listen", "127.0.0.1:0", "--codex", "remote-control", "--json"]);
    command.arg("--codex-program").arg(program).arg("--codex-home").arg(codex_home);
    for name in ["NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy", "https_proxy", "http_proxy"] {
        command.env_remove(name);
    }
    command.env("SSL_CERT_FILE", roots).envs(env.iter().copied());
    let mut up = Process::spawn("reachback up", command);
    up.line("a codex that is ready", |line| line["event"] == "codex" && line["state"] == "ready").await;
    up
}

/// The sign-in, as it is in a head.
fn bearer(codex: &TestCodex) -> String {
    let kept = std::fs::read(codex.home.codex_home().join("auth.json")).unwrap();
    let kept: serde_json::Value = serde_json::from_slice(&kept).unwrap();
    format!("authorization: bearer {}\r\n", kept["tokens"]["access_token"].as_str().unwrap().to_ascii_lowercase())
}

#[tokio::test]
async fn the_sign_in_reaches_the_vendor_by_tls_and_a_redirect_takes_it_no_further() {
    let elsewhere = Server::start(answer("404 Not Found", "")).await;
    let location = format!("location: http://localhost:{}/elsewhere\r\n", elsewhere.addr.port());
    let vendor = Server::start(answer("302 Found", &location)).await;
    let middleman = Middleman::start(vendor.addr).await;
    let (codex, home) = person(middleman.addr.port()).await;
    let mut up = up(&codex, &home, &middleman.roots(), &[]).await;

    let bearer = bearer(&codex);
    eventually("the vendor hears who it is", || vendor.heads().iter().any(|head| head.contains(&bearer))).await;
    let host = format!("\r\nhost: localhost:{}\r\n", middleman.addr.port());
    for head in vendor.heads() {
        assert!(head.starts_with("get /vendor/") || head.starts_with("post /vendor/"), "{head}");
        assert!(head.contains(&host), "{head}");
    }
    // It is Codex that follows, and takes its sign-in along to nobody else.
    eventually("codex follows", || !elsewhere.heads().is_empty()).await;
    for head in elsewhere.heads() {
        assert!(head.contains(" /elsewhere "), "{head}");
        assert!(!head.contains("authorization"), "{head}");
    }
    assert_eq!(up.stop().await, Some(0));
}

#[tokio::test]
async fn behind_a_proxy_codex_comes_past_it_and_the_rest_goes_through_it_inside_of_tls() {
    let vendor = Server::start(answer("404 Not Found", "")).await;
    let middleman = Middleman::start(vendor.addr).await;
    let proxy = Server::start(answer("403 Forbidden", "")).await;
    let url = format!("http://{}", proxy.addr);
    let env = [("HTTPS_PROXY", url.as_str()), ("HTTP_PROXY", url.as_str())];
    let (codex, home) = person(middleman.addr.port()).await;
    let mut up = up(&codex, &home, &middleman.roots(), &env).await;
    let bearer = bearer(&codex);
    eventually("the vendor hears who it is", || vendor.heads().iter().any(|head| head.contains(&bearer))).await;
    assert_eq!(up.stop().await, Some(0));
    let through = format!("connect localhost:{} http/1.1\r\n", middleman.addr.port());
    let heads = proxy.heads();
    assert!(heads.iter().any(|head| head.starts_with(&through)), "{heads:?}");
    for head in &heads {
        assert!(head.starts_with("connect ") && !head.starts_with("connect 127.0.0.1"), "the proxy was told {head}");
        assert!(!head.contains("authorization"), "{head}");
    }

    // An authority that is not among those trusted: it may be the proxy's own, and is told nothing.
    let another = Middleman::start(vendor.addr).await;
    let asked = vendor.heads().len();
    let mut up = self::up(&codex, &home, &another.roots(), &env).await;
    eventually("another tunnel ended", || proxy.ended() > heads.len()).await;
    assert_eq!(vendor.heads().len(), asked, "somebody who is not trusted was asked");
    assert_eq!(up.stop().await, Some(0));
}
