//! Host and laptop in an office network: the only way out is a proxy, and the relay's certificate is of a private authority.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use e2e::authority::Authority;
use e2e::codex;
use e2e::process::{Finished, Home, Process, binary, finished, free_port};
use e2e::proxy::{PASSWORD, Proxy};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

use crate::walk;

/// A name that leads nowhere (RFC 2606), but for those who ask the proxy.
const RELAY: &str = "relay.test";
/// Nobody listens there.
const DEAD: &str = "http://127.0.0.1:1";

/// A relay behind a proxy, and one host.
struct Office {
    authority: Authority,
    relay: Process,
    proxy: Proxy,
    url: String,
    enroll: String,
    _folder: TempDir,
}

impl Office {
    async fn start() -> Self {
        let (authority, folder, addr) = (Authority::new(), tempfile::tempdir().unwrap(), free_port());
        let url = format!("https://{RELAY}:{}", addr.port());
        let mut relay = serve(&authority, folder.path(), addr, &url);
        let ready = relay.event("ready").await;
        let enroll = ready["enroll_file"].as_str().unwrap().to_owned();
        let proxy = Proxy::start(RELAY, addr).await;
        Self { authority, relay, proxy, url, enroll, _folder: folder }
    }

    /// The environment of those who can get out, with a proxy for the rest that leads nowhere.
    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("HTTPS_PROXY", self.proxy.url(PASSWORD)),
            ("CODEX_CA_CERTIFICATE", self.roots()),
            ("HTTP_PROXY", DEAD.into()),
            ("ALL_PROXY", DEAD.into()),
        ]
    }

    fn roots(&self) -> String {
        self.authority.roots().to_str().unwrap().to_owned()
    }

    /// Runs a command of `home` where the environment says this, and nothing else of proxies and authorities.
    async fn run(&self, home: &Home, environment: &[(&str, String)], args: &[&str]) -> Finished {
        let run = finished(command(home, environment, args), "").await;
        assert!(!format!("{run:?}").contains(PASSWORD), "a password is told: {run:?}");
        run
    }

    /// Starts a host there, which has Codex or not.
    fn host(&self, home: &Home, environment: &[(&str, String)], codex: &str) -> Process {
        let args = ["host", "--relay", &self.url, "--enroll-file", &self.enroll, "--codex-program", codex];
        Process::spawn("reachback host", command(home, environment, &args))
    }
}

fn serve(authority: &Authority, folder: &Path, addr: SocketAddr, url: &str) -> Process {
    let (certificate, key) = authority.vouch(RELAY);
    let mut command = Command::new(binary("reachback-relay"));
    command.args(["serve", "--json", "--listen", &addr.to_string(), "--public-url", url, "--quic", "on"]);
    command.arg("--data").arg(folder.join("data")).arg("--tls-cert").arg(certificate).arg("--tls-key").arg(key);
    Process::spawn("reachback-relay", command)
}

fn command(home: &Home, environment: &[(&str, String)], args: &[&str]) -> Command {
    let mut command = home.command(args);
    command.arg("--json");
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "CODEX_CA_CERTIFICATE", "SSL_CERT_FILE"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command
}

#[tokio::test]
async fn host_and_laptop_find_each_other_and_codex_through_the_proxy_that_is_the_only_way() {
    let office = Office::start().await;
    let (host, laptop, env) = (Home::new(), Home::new(), office.environment());
    let mut agent = office.host(&host, &env, codex::program().to_str().unwrap());
    let tunnel = agent.line("the tunnel", |line| line["event"] == "tunnel" && line["state"] == "connected").await;
    assert_eq!(tunnel["transport"], "wss", "{tunnel}");
    assert_eq!(tunnel["reason"], format!("through the proxy {}", office.proxy.addr), "QUIC was not tried: {tunnel}");
    agent.line("codex ready", |line| line["event"] == "codex" && line["state"] == "ready").await;
    let status = office.run(&host, &[], &["status"]).await.ok();
    assert!(status.out.contains(&format!("through the proxy {}", office.proxy.addr)), "{status:?}");

    let mut pair = host.start(&["pair", "--yes"]);
    let code = pair.event("pairing").await["url"].as_str().unwrap().to_owned();
    office.run(&laptop, &env, &["join", &code, "--name", "laptop"]).await.ok();
    assert_eq!(pair.exit().await, Some(0));
    let hosts = office.run(&laptop, &env, &["hosts"]).await.ok();
    assert_eq!(hosts.event("host")["state"], "online", "{hosts:?}");

    let (folder, path) = socket_path();
    let mut connect =
        Process::spawn("reachback connect", command(&laptop, &env, &["connect", "--socket", path.to_str().unwrap()]));
    connect.event("socket").await;
    walk::client(&path).await.echo().await;
    // Codex itself asks for others.
    let asked = office.proxy.asked();
    let wanted = format!("{RELAY}:{}", office.url.rsplit(':').next().unwrap());
    assert!(asked.iter().filter(|line| line.starts_with(&wanted)).count() >= 5, "{asked:?}");
    assert_eq!(connect.stop().await, Some(0));
    drop(folder);

    // The way of each: what is wrong is told, with what to do.
    let with = |name: &'static str, value: &str| {
        let mut env = env.clone();
        env.retain(|(known, _)| *known != name && !(name == "SSL_CERT_FILE" && *known == "CODEX_CA_CERTIFICATE"));
        env.push((name, value.to_owned()));
        env
    };
    let bare = format!("http://{}", office.proxy.addr);
    let proxy = format!("through the proxy {}: ", office.proxy.addr);
    for (env, told) in [
        (with("HTTPS_PROXY", &bare), format!("{proxy}it wants a name and a password: write them into HTTPS_PROXY")),
        (with("HTTPS_PROXY", &office.proxy.url("wrong")), format!("{proxy}it does not take the name and the password")),
        (with("HTTPS_PROXY", DEAD), "; correct HTTPS_PROXY, or name the relay in NO_PROXY".into()),
        (with("HTTPS_PROXY", "socks5://127.0.0.1:1"), "only http:// and https:// ones can be used".into()),
        (
            with("CODEX_CA_CERTIFICATE", ""),
            "name a file with the authority's certificate in CODEX_CA_CERTIFICATE".into(),
        ),
        (
            with("CODEX_CA_CERTIFICATE", "/no/such.pem"),
            "CODEX_CA_CERTIFICATE names “/no/such.pem”, which can't be read".into(),
        ),
    ] {
        let hosts = office.run(&laptop, &env, &["hosts"]).await;
        let row = hosts.event("host");
        let reason = row["reason"].as_str().unwrap_or_default();
        assert!(row["state"] == "unreachable" && reason.contains(&told), "wanted `{told}`: {row}");
    }
    let hosts = office.run(&laptop, &with("SSL_CERT_FILE", &office.roots()), &["hosts"]).await;
    assert_eq!(hosts.event("host")["state"], "online", "{hosts:?}");
    assert_eq!(agent.stop().await, Some(0));
    let before = office.proxy.asked().len();
    let hosts = office.run(&laptop, &with("NO_PROXY", RELAY), &["hosts"]).await;
    let row = hosts.event("host");
    assert!(row["reason"].as_str().unwrap().contains("its name leads nowhere"), "{row}");
    assert_eq!(office.proxy.asked().len(), before, "the proxy was asked although NO_PROXY names the relay");
}

#[tokio::test]
async fn tls_is_spoken_with_a_proxy_that_wants_it_and_has_a_certificate_that_counts() {
    let office = Office::start().await;
    let proxy = office.proxy.behind_tls(&office.authority).await;
    let (host, laptop) = (Home::new(), Home::new());
    let with = |named: &str, roots: &str| {
        let mut env = office.environment();
        env[..2].clone_from_slice(&[("HTTPS_PROXY", named.into()), ("CODEX_CA_CERTIFICATE", roots.into())]);
        env
    };
    let env = with(&proxy.url(PASSWORD), &office.roots());
    let mut agent = office.host(&host, &env, "no-such-codex");
    let tunnel = agent.line("the tunnel", |line| line["event"] == "tunnel" && line["state"] == "connected").await;
    assert_eq!(tunnel["reason"], format!("through the proxy localhost:{}", proxy.addr.port()), "{tunnel}");
    let mut pair = host.start(&["pair", "--yes"]);
    let code = pair.event("pairing").await["url"].as_str().unwrap().to_owned();
    office.run(&laptop, &env, &["join", &code]).await.ok();
    assert_eq!(pair.exit().await, Some(0));
    let hosts = office.run(&laptop, &env, &["hosts"]).await.ok();
    assert_eq!(hosts.event("host")["state"], "online", "{hosts:?}");

    let (roots, plain) = (office.roots(), office.proxy.addr);
    for (named, roots, told) in [
        (proxy.url(PASSWORD), "", "its certificate is of an authority that this computer does not trust: name a file"),
        (proxy.url(PASSWORD), "/no/such.pem", "CODEX_CA_CERTIFICATE names “/no/such.pem”, which can't be read"),
        (proxy.url(PASSWORD).replace("localhost", "127.0.0.1"), &roots, "check its name and port in HTTPS_PROXY"),
        (format!("https://ann:{PASSWORD}@{plain}"), &roots, "or write http:// there"),
        (proxy.url(PASSWORD).replace("https:", "http:"), &roots, "check its port in HTTPS_PROXY"),
        (proxy.url("wrong"), &roots, "it does not take the name and the password in HTTPS_PROXY"),
    ] {
        let hosts = office.run(&laptop, &with(&named, roots), &["hosts"]).await;
        let row = hosts.event("host");
        let reason = row["reason"].as_str().unwrap_or_default();
        let told_of = reason.contains("through the proxy ") && reason.contains(told);
        assert!(row["state"] == "unreachable" && told_of, "wanted `{told}`: {row}");
    }
    assert_eq!(agent.stop().await, Some(0));
}

#[tokio::test]
async fn a_host_and_a_join_say_what_their_proxy_refuses_and_that_the_relay_is_gone() {
    let mut office = Office::start().await;
    let (host, laptop) = (Home::new(), Home::new());
    let mut env = office.environment();
    env[0].1 = office.proxy.url("wrong");
    let mut agent = office.host(&host, &env, "no-such-codex");
    let tunnel = agent.line("no tunnel", |line| line["event"] == "tunnel" && !line["reason"].is_null()).await;
    let reason = tunnel["reason"].as_str().unwrap();
    assert!(reason.contains("it does not take the name and the password in HTTPS_PROXY"), "{tunnel}");
    let status = office.run(&host, &[], &["status"]).await.ok();
    assert!(status.out.contains("it does not take the name and the password in HTTPS_PROXY"), "{status:?}");
    assert_eq!(agent.stop().await, Some(0));

    let right = office.environment();
    let mut agent = office.host(&host, &right, "no-such-codex");
    agent.event("ready").await;
    let mut pair = host.start(&["pair", "--yes"]);
    let code = pair.event("pairing").await["url"].as_str().unwrap().to_owned();
    let refused = office.run(&laptop, &env, &["join", &code]).await;
    let error = refused.event("error");
    assert_eq!((refused.code, &error["code"]), (1, &"proxy".into()), "{refused:?}");
    assert!(error["message"].as_str().unwrap().contains("does not take the name and the password"), "{error}");
    office.run(&laptop, &right, &["join", &code]).await.ok();
    assert_eq!(pair.exit().await, Some(0));

    office.relay.kill().await;
    let hosts = office.run(&laptop, &right, &["hosts"]).await;
    let row = hosts.event("host");
    assert!(row["reason"].as_str().unwrap().contains("it can't reach the relay itself (502)"), "{row}");
    assert_eq!(agent.stop().await, Some(0));
}

#[tokio::test]
async fn what_is_on_this_computer_is_reached_past_a_proxy_that_is_dead() {
    let dead = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
    let dead = dead.map(|name| (name, DEAD.to_owned()));
    let (host, laptop, listen, codex) = (Home::new(), Home::new(), free_port().to_string(), codex::program());
    let args = ["up", "--demo", "--listen", &listen, "--codex-program", codex.to_str().unwrap()];
    let mut up = Process::spawn("reachback up", command(&host, &dead, &args));
    let code = up.event("pairing").await["url"].as_str().unwrap().to_owned();
    finished(command(&laptop, &dead, &["join", &code]), "").await.ok();
    let (folder, path) = socket_path();
    let args = ["connect", "--socket", path.to_str().unwrap()];
    let mut connect = Process::spawn("reachback connect", command(&laptop, &dead, &args));
    connect.event("socket").await;
    let mut far = walk::client(&path).await;
    let started = far.request("thread/start", json!({})).await.unwrap();
    let thread = started["thread"]["id"].as_str().unwrap();
    let prompt = json!({ "threadId": thread, "input": [{ "type": "text", "text": "@text N=3" }] });
    far.request("turn/start", prompt).await.unwrap();
    let ended = far.event("turn/completed").await;
    assert_eq!(ended["params"]["turn"]["status"], "completed", "the model is out of reach: {ended}");
    assert_eq!(connect.stop().await, Some(0));
    drop(folder);
    assert_eq!(up.stop().await, Some(0));
}

fn socket_path() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("codex.sock");
    (folder, path)
}
