//! `docker-compose.yml` as somebody brings it up who runs a relay: images, profiles, restart, upgrade, with podman.
//!
//! The images are built from `deploy/Dockerfile`, from the stages on that only copy what is built: no registry of images is
//! asked, and the base is a Debian made here. Caddy and Prometheus are Debian's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::codex::TestCodex;
use e2e::containers::{Engine, Project};
use e2e::process::{Home, binary, finished};
use serde_json::{Value, json};
use tokio::process::Command;

use super::{engine, reachback, reachback_to_its_end};
use crate::walk::client;

/// What the relay is reached by, in the engine's network.
const URL: &str = "https://localhost:7420";

/// The image that stands for everything that is pulled elsewhere: the programs in it are Debian's.
const DEBIAN: &str = "localhost/debian-here:latest";

/// The same, started as the published image of Prometheus starts.
const PROMETHEUS: &str = "localhost/prometheus-here:latest";

pub(super) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Builds the relay's image as the compose file does, but from programs that are built already.
async fn build_relay(engine: &Engine, image: &str, revision: &str) {
    let (repository, label) = (repository(), format!("org.opencontainers.image.revision={revision}"));
    let dockerfile = repository.join("deploy/Dockerfile");
    let base = format!("RUNTIME_IMAGE={DEBIAN}");
    let args = ["build", "--quiet", "--format", "docker", "--target", "relay", "--tag", image, "--label", &label];
    let from = ["--build-arg", &base, "--build-context", "build=container-image://localhost/programs:latest"];
    let place = ["--file", dockerfile.to_str().unwrap(), repository.to_str().unwrap()];
    engine.podman(&[&args[..], &from, &place].concat()).await;
}

/// Settings as `.env` has them, with this image of the relay.
fn settings(relay: &str) -> Vec<(&'static str, String)> {
    vec![
        ("REACHBACK_NAME", "localhost".into()),
        ("REACHBACK_PORT", "7420".into()),
        ("REACHBACK_RELAY_PORT", "127.0.0.1:7420".into()),
        ("REACHBACK_RELAY_IMAGE", relay.into()),
        ("REACHBACK_CADDY_IMAGE", DEBIAN.into()),
        ("REACHBACK_PROMETHEUS_IMAGE", PROMETHEUS.into()),
    ]
}

fn set(project: &Project<'_>, settings: &[(&'static str, String)]) {
    project.set(&settings.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>());
}

/// Waits until the engine finds the service healthy by the image's own check.
pub(super) async fn healthy(engine: &Engine, project: &Project<'_>, service: &str) {
    let container = project.container(service);
    let mut last = None;
    for _ in 0..240 {
        let checked = finished(engine.command("podman", &["healthcheck", "run", &container]), "").await;
        if checked.code == 0 {
            return;
        }
        last = Some(checked);
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let log = project.run(&["logs", service]).await;
    panic!("{service} does not become healthy: {last:?}; its log: {}{}", log.out, log.err);
}

/// What an address in the engine's network answers to a GET: status and body. Certificates are not looked at.
async fn get(engine: &Engine, url: &str) -> (u64, String) {
    let program = "import json, ssl, sys, urllib.error, urllib.request\n\
        context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE\n\
        try:\n\x20   answer = urllib.request.urlopen(sys.argv[1], context=context, timeout=10)\n\
        except urllib.error.HTTPError as error:\n\x20   answer = error\n\
        except OSError as error:\n\x20   print(json.dumps([0, str(error)])); sys.exit()\n\
        print(json.dumps([answer.status, answer.read().decode()]))";
    let mut command = Command::new("python3");
    command.args(["-c", program, url]);
    let answer: Value = serde_json::from_str(&finished(engine.inside(&command), "").await.ok().out).unwrap();
    (answer[0].as_u64().unwrap(), answer[1].as_str().unwrap().to_owned())
}

/// Asks an address until it answers like this.
async fn answers(engine: &Engine, url: &str, like: impl Fn(u64, &str) -> bool) {
    let mut last = (0, String::new());
    for _ in 0..240 {
        last = get(engine, url).await;
        if like(last.0, &last.1) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    panic!("{url} answers {last:?}");
}

#[tokio::test]
#[ignore = "soak"]
async fn a_relay_by_compose_is_restarted_and_upgraded_and_loses_nothing() {
    let Some(engine) = engine().await else { return };
    let packages = ["ca-certificates", "caddy", "prometheus"];
    engine.debian(DEBIAN, &packages, &[]).await;
    engine.debian(PROMETHEUS, &packages, &["ENTRYPOINT [\"/usr/bin/prometheus\"]"]).await;
    engine.image("localhost/programs:latest", "scratch", &[binary("reachback-relay"), binary("reachback")]).await;
    build_relay(&engine, "localhost/relay:old", "old").await;

    let compose = repository().join("docker-compose.yml");
    let project = engine.project(&compose, "soak", &[]).await;
    set(&project, &settings("localhost/relay:old"));
    project.run(&["up", "--detach", "--no-build"]).await;
    healthy(&engine, &project, "relay").await;

    // As docs/operations.md says it.
    let key = project.run(&["exec", "-T", "relay", "sh", "-c", "cat \"$(reachback-relay enroll)\""]).await.out;
    let (home, codex) = (Home::new(), TestCodex::prepare().await);
    let key_file = home.folder("keys").join("enroll-key");
    std::fs::write(&key_file, key).unwrap();
    let config = codex.config();
    let folders = [config.program, config.home.unwrap(), codex.home.project().into(), key_file];
    let [program, codex_home, workdir, key_file] = folders.each_ref().map(|path| path.to_str().unwrap());
    let args = ["host", "--codex-program", program, "--codex-home", codex_home, "--workdir", workdir];
    let mut host = reachback(&engine, &home, &[&args[..], &["--relay", URL, "--enroll-file", key_file]].concat());
    let ready = host.event("ready").await;
    host.line("codex ready", |line| line["event"] == "codex" && line["state"] == "ready").await;

    let mut pair = reachback(&engine, &home, &["pair", "--yes", "--scope", "view"]);
    let pairing = pair.event("pairing").await;
    let device = Home::new();
    let code = pairing["url"].as_str().unwrap();
    assert!(code.to_lowercase().starts_with(URL), "the code leads to the relay: {code}");
    reachback_to_its_end(&engine, &device, &["join", code, "--name", "watcher"]).await.ok();
    pair.event("paired").await;
    assert_eq!(pair.exit().await, Some(0));
    let folder = home.folder("socket");
    let path = folder.join("codex.sock");
    let mut connect = reachback(&engine, &device, &["connect", "--socket", path.to_str().unwrap()]);
    connect.event("socket").await;
    let mut rpc = client(&path).await;
    rpc.request("thread/list", json!({})).await.unwrap();

    // Restarted, and then made anew from another image: the session goes on, with the same relay.
    project.run(&["restart", "relay"]).await;
    healthy(&engine, &project, "relay").await;
    rpc.request("thread/list", json!({})).await.unwrap();
    build_relay(&engine, "localhost/relay:new", "new").await;
    set(&project, &settings("localhost/relay:new"));
    project.run(&["up", "--detach", "--no-build"]).await;
    healthy(&engine, &project, "relay").await;
    let inspected = engine.podman(&["inspect", "--format", "{{.ImageName}}", &project.container("relay")]).await;
    assert_eq!(inspected.out.trim(), "localhost/relay:new");
    rpc.request("thread/list", json!({})).await.unwrap();
    let after = reachback_to_its_end(&engine, &home, &["status"]).await.ok().event("status");
    assert_eq!(after["fingerprint"], ready["fingerprint"], "{after}");

    connect.signal_and_wait("-INT", 0).await;
    assert_eq!(host.stop().await, Some(0));

    // The profiles, with the lines of .env.example: Caddy has the port now.
    let mut with_caddy = settings("localhost/relay:new");
    with_caddy.retain(|(name, _)| *name != "REACHBACK_RELAY_PORT");
    with_caddy.extend([("REACHBACK_RELAY_PORT", "127.0.0.1:7421".into()), ("REACHBACK_QUIC", "off".into())]);
    set(&project, &with_caddy);
    let profiles = ["--profile", "proxy", "--profile", "metrics"];
    let up = ["up", "--detach", "--no-build", "relay", "proxy", "prometheus"];
    project.run(&[&profiles[..], &up].concat()).await;
    healthy(&engine, &project, "relay").await;
    answers(&engine, &format!("{URL}/healthz"), |status, _| status == 200).await;
    answers(&engine, &format!("{URL}/metrics"), |status, _| status == 404).await;
    let targets = "http://172.30.74.4:9090/api/v1/targets";
    answers(&engine, targets, |status, body| status == 200 && body.contains(r#""health":"up""#)).await;
    project.run(&[&profiles[..], &["down", "--volumes"]].concat()).await;
}
