//! The images of `deploy/Dockerfile` from the first stage on, as the compose file builds them, and its profile `host`, whose image
//! is built from programs that are built already: to compile them for a release takes ten minutes.
//!
//! What stands for the published images that they begin with is made here: Debian, with the compiler, or with the Node.js,
//! of this machine. Everything else comes from where it comes from for everybody: crates.io, npm, Debian.

use std::path::Path;
use std::process::Stdio;

use e2e::codex::TestCodex;
use e2e::containers::{Engine, Project};
use e2e::process::{Finished, Home, Process, binary, finished};
use serde_json::json;
use tokio::net::{TcpStream, UnixListener};
use tokio::process::{Child, Command};

use super::compose::{healthy, repository};
use super::{engine, reachback, reachback_to_its_end};
use crate::walk::client;

/// The machine's address in the engine's network (RFC 5737, "for documentation"): containers reach what it publishes by it,
/// as they would by a name, and `localhost` leads nowhere from inside of one.
const ADDRESS: &str = "198.51.100.7";

/// What the first lines of the Dockerfile name.
const RUST: &str = "docker.io/library/rust:1.95-bookworm";
const NODE: &str = "docker.io/library/node:22-bookworm-slim";
const DEBIAN: &str = "docker.io/library/debian:bookworm-slim";

/// What a program of this machine prints, without the line's end.
async fn printed(program: &str, args: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(args);
    finished(command, "").await.ok().out.trim().to_owned()
}

/// What this machine trusts, here and in an image: registries are reached as they are from here, whoever vouches for them.
const TRUSTED: (&str, &str) = ("etc/ssl/certs/ca-certificates.crt", "opt/authorities.pem");

/// Has what is in a folder of an image be found, and a program there trust what this machine trusts.
fn variables(folder: &str, variable: &str) -> [String; 2] {
    let path = format!("ENV PATH={folder}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    [path, format!("ENV {variable}=/{}", TRUSTED.1)]
}

async fn rust(engine: &Engine) {
    let toolchain = printed("rustc", &["--print", "sysroot"]).await;
    let parts = ["bin", "lib"].map(|part| (format!("{}/{part}", &toolchain[1..]), format!("opt/rust/{part}")));
    let parts = parts.each_ref().map(|(here, there)| (here.as_str(), there.as_str()));
    let packages = ["ca-certificates", "gcc", "libc6-dev", "make"];
    let [path, authorities] = variables("/opt/rust", "CARGO_HTTP_CAINFO");
    engine.debian_with(RUST, &packages, &[&path, &authorities], &[&parts[..], &[TRUSTED]].concat()).await;
}

async fn node(engine: &Engine) {
    let node = printed("node", &["--print", "process.execPath"]).await;
    let npm = printed("npm", &["root", "--global"]).await + "/npm";
    let with = [(&node[1..], "opt/node/bin/node"), (&npm[1..], "opt/npm"), TRUSTED];
    let [path, authorities] = variables("/opt/node", "NODE_EXTRA_CA_CERTS");
    engine.debian_with("localhost/node-alone", &["ca-certificates"], &[&path, &authorities], &with).await;
    // The published image has this user.
    let more = "RUN useradd --create-home --uid 1000 node && ln -s /opt/npm/bin/npm-cli.js /opt/node/bin/npm\n";
    engine.build(NODE, &format!("FROM localhost/node-alone\n{more}")).await;
}

/// Lets containers reach a server on this process' loopback at [`ADDRESS`], on the same port. Ends with what it returns.
async fn publish(engine: &Engine, folder: &Path, port: u16) -> (Child, tokio::task::JoinHandle<()>) {
    let path = folder.join("model.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let passing = tokio::spawn(async move {
        while let Ok((mut inside, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut outside = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                tokio::io::copy_bidirectional(&mut inside, &mut outside).await.ok();
            });
        }
    });
    let program = "import asyncio, sys\n\
        async def pipe(reader, writer):\n\x20   while data := await reader.read(65536):\n\x20       writer.write(data)\n\x20   writer.write_eof()\n\
        async def serve(reader, writer):\n\x20   far = await asyncio.open_unix_connection(sys.argv[3])\n\
        \x20   await asyncio.gather(pipe(reader, far[1]), pipe(far[0], writer))\n\
        async def main():\n\x20   await (await asyncio.start_server(serve, sys.argv[1], sys.argv[2])).serve_forever()\n\
        asyncio.run(main())";
    let mut command = Command::new("python3");
    command.args(["-c", program, ADDRESS, &port.to_string(), path.to_str().unwrap()]);
    let server = engine.inside(&command).kill_on_drop(true).stdin(Stdio::null()).spawn().unwrap();
    (server, passing)
}

/// A command of the compose program with the profile.
async fn run(project: &Project<'_>, args: &[&str], input: &str) -> Finished {
    finished(project.command(&[&["--profile", "host"], args].concat()), input).await.ok()
}

/// Puts a file into the volume of the host that does not run yet, as docs/operations.md does with the key.
async fn put(project: &Project<'_>, file: &str, text: &str) {
    let script = format!("umask 077; cat > \"{file}\"");
    run(project, &["run", "--rm", "-T", "--entrypoint", "sh", "host", "-c", &script], text).await;
}

/// A command in the host's container.
async fn there(project: &Project<'_>, args: &[&str]) -> String {
    run(project, &[&["exec", "-T", "host"], args].concat(), "").await.out.trim().to_owned()
}

#[tokio::test]
#[ignore = "soak"]
async fn both_images_are_built_from_the_first_stage_on() {
    let Some(engine) = engine().await else { return };
    engine.debian(DEBIAN, &["ca-certificates"], &[]).await;
    rust(&engine).await;
    node(&engine).await;
    let project = engine.project(&repository().join("docker-compose.yml"), "built", &[]).await;
    // One after the other: the second finds compiled what the first compiled.
    for (service, program) in [("relay", "reachback-relay"), ("host", "reachback")] {
        project.build(&["--profile", "host"], service, "").await;
        let run =
            ["--profile", "host", "run", "--rm", "-T", "--no-deps", "--entrypoint", program, service, "--version"];
        let said = project.run(&run).await;
        assert!(said.out.contains(&format!("{program} {}", env!("CARGO_PKG_VERSION"))), "{said:?}");
    }
}

#[tokio::test]
#[ignore = "soak"]
async fn a_host_by_compose_is_enrolled_works_and_is_started_anew() {
    let Some(engine) = engine().await else { return };
    engine.debian(DEBIAN, &["ca-certificates"], &[]).await;
    node(&engine).await;
    engine.image("localhost/programs:latest", "scratch", &[binary("reachback-relay"), binary("reachback")]).await;
    engine.machine_address(ADDRESS.parse().unwrap()).await;

    // The project is the person's, uid 1000.
    let (home, codex) = (Home::new(), TestCodex::prepare().await);
    let project_folder = home.folder("work");
    std::os::unix::fs::chown(&project_folder, Some(1000), Some(1000)).unwrap();
    let settings = [
        ("REACHBACK_NAME", ADDRESS),
        ("REACHBACK_PORT", "7420"),
        ("REACHBACK_RELAY_PORT", "7420"),
        ("REACHBACK_PROJECT", project_folder.to_str().unwrap()),
        ("REACHBACK_HOST_NAME", "build-server"),
    ];
    let project = engine.project(&repository().join("docker-compose.yml"), "images", &settings).await;
    for service in ["relay", "host"] {
        let built = "--build-context=build=container-image://localhost/programs:latest";
        project.build(&["--profile", "host"], service, built).await;
    }
    project.run(&["up", "--detach", "--no-build"]).await;
    healthy(&engine, &project, "relay").await;

    // The model is here, and Codex there. What a sign-in would write, the test writes.
    let model = codex.model.addr();
    let _published = publish(&engine, &home.folder("model"), model.port()).await;
    let folder = codex.home.codex_home().to_str().unwrap().to_owned();
    let config = std::fs::read_to_string(codex.home.codex_home().join("config.toml")).unwrap();
    let config = config
        .replace(&model.to_string(), &format!("{ADDRESS}:{}", model.port()))
        .replace(&folder, "/state/codex")
        .replace(codex.home.project().to_str().unwrap(), "/work");
    put(&project, "$CODEX_HOME/config.toml", &config).await;
    let catalog = std::fs::read_to_string(codex.home.codex_home().join("models.json")).unwrap();
    put(&project, "$CODEX_HOME/models.json", &catalog).await;

    // As docs/operations.md says it.
    let key = project.run(&["exec", "-T", "relay", "sh", "-c", "cat \"$(reachback-relay enroll)\""]).await.out;
    put(&project, "$REACHBACK_HOME/enroll-key", &key).await;
    run(&project, &["up", "--detach", "--no-build"], "").await;
    healthy(&engine, &project, "host").await;
    assert_eq!(there(&project, &["id", "-u"]).await, "1000");
    assert_eq!(
        there(&project, &["codex", "--version"]).await,
        printed(codex.config().program.to_str().unwrap(), &["--version"]).await
    );

    let pair = ["--profile", "host", "exec", "-T", "host", "reachback", "pair", "--yes", "--json"];
    let mut pair = Process::spawn("pair", project.command(&pair));
    let pairing = pair.event("pairing").await;
    let device = Home::new();
    let code = pairing["url"].as_str().unwrap();
    reachback_to_its_end(&engine, &device, &["join", code, "--name", "laptop"]).await.ok();
    pair.event("paired").await;
    let path = home.folder("socket").join("codex.sock");
    let mut connect = reachback(&engine, &device, &["connect", "--socket", path.to_str().unwrap()]);
    connect.event("socket").await;
    let mut rpc = client(&path).await;
    let started = rpc.request("thread/start", json!({ "cwd": "/work" })).await.unwrap();
    let thread = started["thread"]["id"].as_str().unwrap().to_owned();
    rpc.turn(&thread, "@esc id -u > who").await;
    assert_eq!(std::fs::read_to_string(project_folder.join("who")).unwrap().trim(), "1000", "what Codex wrote");

    // Started anew, and made anew from the same volume: the key is gone, the host is the same, and so is the thread.
    for again in [&["restart", "host"][..], &["up", "--detach", "--no-build", "--force-recreate", "host"]] {
        run(&project, again, "").await;
        healthy(&engine, &project, "host").await;
        let status = run(&project, &["exec", "-T", "host", "reachback", "status", "--json"], "").await.event("status");
        assert_eq!(status["host_name"], "build-server", "{status}");
        assert_eq!(there(&project, &["sh", "-c", "ls $REACHBACK_HOME | grep -c enroll-key || true"]).await, "0");
        let mut rpc = client(&path).await;
        rpc.resume(&thread).await;
        rpc.turn(&thread, &format!("@say after {again:?}")).await;
    }
    connect.signal_and_wait("-INT", 0).await;
    run(&project, &["down", "--volumes"], "").await;
}
