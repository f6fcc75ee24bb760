//! `--codex attach`: the agent goes to an app-server that somebody else runs, where its owner says. What devices may do there is in
//! `conformance`.

use std::path::Path;
use std::sync::Arc;

use e2e::busy::Busy;
use e2e::codex::{TestCodex, ready, until};
use e2e::foreign::{Foreign, secret_file};
use e2e::process::{Finished, Home, Process, free_port};
use e2e::rpc::Client;
use e2e::stage::{Stage, Tuning, client};
use reachback_host::audit::{self, Line, What};
use reachback_host::codex::attach::{Attach, AttachConfig, Credential};
use reachback_host::codex::{CodexBackend, CodexState};
use reachback_proto::scope::Scope;
use serde_json::{Value, json};

const TOKEN: &str = "a-capability-token-of-the-test";
const SECRET: &str = "a-shared-secret-of-the-test-of-more-than-32-bytes";

/// An agent that attaches to `address` with these options.
fn start(home: &Home, codex: &TestCodex, address: &str, more: &[&str]) -> Process {
    home.start(&[&words(codex, address)[..], more].concat())
}

fn words<'a>(codex: &'a TestCodex, address: &'a str) -> [&'a str; 9] {
    let codex_home = codex.home.codex_home().to_str().unwrap();
    ["up", "--listen", "127.0.0.1:0", "--codex", "attach", "--codex-home", codex_home, "--attach-to", address]
}

async fn is_ready(up: &mut Process) -> Value {
    up.line("codex ready", |line| line["event"] == "codex" && line["state"] == "ready").await
}

/// The next failure of Codex with these words, and what helps.
async fn fails(up: &mut Process, words: &str) -> String {
    let is_it = |line: &Value| {
        line["event"] == "error" && line["message"].as_str().is_some_and(|message| message.contains(words))
    };
    let error = up.line(words, is_it).await;
    assert_eq!(error["code"], "codex_failed", "{error}");
    error["fix"].as_str().unwrap_or_else(|| panic!("no way out in {error}")).to_owned()
}

/// Every file below a folder that is a plain one.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if kind.is_file() {
            found.push((entry.path().display().to_string(), std::fs::read(entry.path()).unwrap()));
        }
    }
    found
}

fn holds(bytes: &[u8], secret: &str) -> bool {
    bytes.windows(secret.len()).any(|part| part == secret.as_bytes())
}

#[tokio::test]
async fn a_codex_of_somebody_elses_is_attached_to_in_each_way_said_to_be_and_left_alone() {
    let codex = TestCodex::prepare().await;
    let token = secret_file(codex.user_home(), "token", TOKEN);
    let secret = secret_file(codex.user_home(), "secret", SECRET);
    let (token, secret) = (token.to_str().unwrap(), secret.to_str().unwrap());
    let port = format!("ws://{}", free_port());
    let socket = format!("unix://{}", codex.user_home().join("theirs.sock").display());
    let capability = ["--ws-auth", "capability-token", "--ws-token-file", token];
    let signed = ["--ws-auth", "signed-bearer-token", "--ws-shared-secret-file", secret];
    let named = [&signed[..], &["--ws-issuer", "ann", "--ws-audience", "codex"]].concat();
    let names = ["--attach-secret-file", secret, "--attach-issuer", "ann", "--attach-audience", "codex"];
    for (address, theirs, ours) in [
        (&port, &capability[..], &["--attach-token-file", token][..]),
        (&port, &signed[..], &["--attach-secret-file", secret][..]),
        (&port, &named[..], &names[..]),
        (&port, &[][..], &[][..]),
        (&socket, &[][..], &[][..]),
    ] {
        let server = Foreign::start(&codex, &[&["--listen", address][..], theirs].concat());
        let home = Home::new();
        let mut up = start(&home, &codex, address, &[&["--log", "trace"][..], ours].concat());
        let line = is_ready(&mut up).await;
        assert_eq!((&line["adapter"], &line["address"]), (&json!("attach"), &json!(address)), "{line}");
        assert_eq!((&line["version"], &line["joined"]), (&json!("0.169.0"), &json!(true)), "{line}");
        assert_eq!(line["keys"], "unprotected", "{line}");
        let status = home.run(&["status"]).await.ok().out;
        let words = format!("0.169.0, attach to {address}, somebody else's, and left alone");
        assert!(status.contains(&words), "no `{words}` in\n{status}");

        let command = std::fs::read(format!("/proc/{}/cmdline", up.pid())).unwrap();
        let written = files(&home.path());
        for secret in [TOKEN, SECRET] {
            assert!(!holds(&command, secret), "a secret is on the command line");
            let leaked: Vec<_> =
                written.iter().filter(|(_, bytes)| holds(bytes, secret)).map(|(name, _)| name).collect();
            assert!(leaked.is_empty(), "a secret is in {leaked:?}");
        }
        let pid = server.server().await;
        assert_eq!(up.stop().await, Some(0));
        assert_eq!(server.server().await, pid, "the agent took somebody else's Codex along");
        assert!(Path::new(&format!("/proc/{pid}")).exists(), "the agent ended somebody else's Codex");
        server.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_is_away_or_wants_another_token_is_said_to_be_and_is_attached_to_when_it_is_right() {
    let codex = TestCodex::prepare().await;
    let token = secret_file(codex.user_home(), "token", TOKEN);
    let token = token.to_str().unwrap();
    let address = format!("ws://{}", free_port());
    let home = Home::new();
    let mut up = start(&home, &codex, &address, &["--attach-token-file", token]);
    let fix = fails(&mut up, &format!("nobody listens on {address}")).await;
    assert!(fix.contains(&format!("codex app-server --listen {address}")), "{fix}");
    let status = home.run(&["status"]).await.ok().out;
    assert!(status.contains(&format!("does not answer: nobody listens on {address}; start it: ")), "{status}");

    // It was started with another token.
    let theirs = secret_file(codex.user_home(), "theirs", "another-token-of-the-test");
    let wants = ["--listen", &*address, "--ws-auth", "capability-token", "--ws-token-file"];
    let server = Foreign::start(&codex, &[&wants[..], &[theirs.to_str().unwrap()]].concat());
    let fix = fails(&mut up, "does not let the agent in (HTTP status 401)").await;
    assert!(fix.contains("--ws-token-file goes with --attach-token-file"), "{fix}");
    // Its owner gives the agent theirs.
    std::fs::write(token, "another-token-of-the-test").unwrap();
    is_ready(&mut up).await;
    server.stop().await;
    fails(&mut up, &format!("nobody listens on {address}")).await;
    assert_eq!(up.stop().await, Some(0));
}

#[tokio::test]
async fn a_signed_token_of_another_secret_issuer_or_audience_is_refused_as_one() {
    let codex = TestCodex::prepare().await;
    let secret = secret_file(codex.user_home(), "secret", SECRET);
    let other = secret_file(codex.user_home(), "other", &"x".repeat(40));
    let address = format!("ws://{}", free_port());
    let signed = ["--ws-auth", "signed-bearer-token", "--ws-shared-secret-file", secret.to_str().unwrap()];
    let names = ["--ws-issuer", "ann", "--ws-audience", "codex"];
    let server = Foreign::start(&codex, &[&["--listen", &*address][..], &signed, &names].concat());
    let named = |file: &Path, issuer: &str, audience: &str| {
        let text = |text: &str| Some(text.to_owned());
        Credential::Signed { file: file.into(), issuer: text(issuer), audience: text(audience) }
    };
    for (credential, lets_in) in [
        (named(&secret, "ann", "codex"), true),
        (named(&other, "ann", "codex"), false),
        (named(&secret, "bob", "codex"), false),
        (named(&secret, "ann", "shell"), false),
        (Credential::Signed { file: secret.clone(), issuer: None, audience: None }, false),
        (Credential::Token { file: secret.clone() }, false),
        (Credential::None, false),
    ] {
        let home = Some(codex.home.codex_home().to_owned());
        let backend = Attach::start(AttachConfig::new(address.parse().unwrap(), credential.clone(), home));
        if lets_in {
            ready(&backend).await;
            Client::connect(&backend).await.echo().await;
        } else {
            let refused = |state: &CodexState| matches!(state, CodexState::Failed { reason, fix: Some(_), .. } if reason.contains("(HTTP status 401)"));
            until(&backend, &format!("refused with {credential:?}"), refused).await;
        }
        backend.stop().await;
    }
    server.stop().await;
}

#[tokio::test]
async fn what_can_not_be_attached_to_is_refused_before_anything_starts() {
    let codex = TestCodex::prepare().await;
    let home = Home::new();
    let exposed = secret_file(codex.user_home(), "exposed", TOKEN);
    std::fs::set_permissions(&exposed, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let token = secret_file(codex.user_home(), "token", TOKEN);
    let link = codex.user_home().join("link");
    std::os::unix::fs::symlink(&token, &link).unwrap();
    let short = secret_file(codex.user_home(), "short", "too-short-s3cret");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let port = "ws://127.0.0.1:4500";
    for (address, more, message, fix) in [
        ("ws://10.0.0.7:4500", vec![], "not this machine's loopback", "reachback ssh add"),
        ("ws://devbox:4500", vec![], "“devbox” is not this machine's loopback", "reachback ssh add"),
        ("wss://127.0.0.1:4500", vec![], "speaks no TLS", "write ws://"),
        ("ws://127.0.0.1:4500/?token=s3cret", vec![], "secrets do not belong on a command line", "--attach-token-file"),
        ("unix://theirs.sock", vec![], "its whole path", "unix:///PATH"),
        (port, vec!["--attach-token-file".to_owned(), text(&exposed)], "other users can get at", "chmod 0600"),
        (port, vec!["--attach-token-file".to_owned(), text(&link)], "is no plain file", "the file itself"),
        (port, vec!["--attach-secret-file".to_owned(), text(&short)], "16 bytes", "--ws-shared-secret-file"),
        ("unix:///x", vec!["--attach-token-file".to_owned(), text(&token)], "asks for no token", "leave out"),
    ] {
        let more: Vec<_> = more.iter().map(String::as_str).collect();
        let refused = home.json(&[&words(&codex, address)[..], &more].concat()).await;
        let Finished { code, out, err } = &refused;
        let error = refused.event("error");
        assert_eq!((*code, &error["code"]), (1, &json!("attach")), "{refused:?}");
        assert!(error["message"].as_str().unwrap().contains(message), "{error}");
        assert!(error["fix"].as_str().unwrap().contains(fix), "{error}");
        assert!(!out.contains("s3cret") && !err.contains("s3cret") && !out.contains(TOKEN), "{refused:?}");
    }
    let demo = home.json(&["up", "--demo", "--codex", "attach", "--attach-to", port]).await;
    assert!(demo.event("error")["fix"].as_str().unwrap().contains("leave out --demo"), "{demo:?}");
    let stray = home.json(&["up", "--attach-to", port]).await;
    assert!(stray.event("error")["fix"].as_str().unwrap().contains("--codex attach"), "{stray:?}");
    assert_eq!(home.run(&["up", "--codex", "attach"]).await.code, 2, "asked wrongly");
}

#[tokio::test]
async fn a_codex_with_its_state_elsewhere_is_not_attached_to() {
    let codex = TestCodex::prepare().await;
    let address = format!("unix://{}", codex.user_home().join("theirs.sock").display());
    let server = Foreign::start(&codex, &["--listen", &address]);
    // Its own is another one, in which devices could then work.
    let home = Home::new();
    let mut up = home.start(&["up", "--listen", "127.0.0.1:0", "--codex", "attach", "--attach-to", &address]);
    let fix = fails(&mut up, "which is not the folder that devices are kept away from").await;
    assert!(fix.contains(&format!("--codex-home {}", codex.home.codex_home().display())), "{fix}");
    assert_eq!(up.stop().await, Some(0));
    server.stop().await;
}

#[tokio::test]
async fn a_codex_with_too_much_to_do_is_asked_again_by_the_agent_and_told_of_to_devices() {
    let codex = TestCodex::prepare().await;
    let owner = codex.backend();
    ready(&owner).await;
    let busy = Busy::before(codex.config().control_socket().unwrap()).await;
    let agent = tempfile::tempdir().unwrap();
    let profiles = codex.profiles(vec![agent.path().to_owned()]);
    let address = format!("ws://{}", busy.addr()).parse().unwrap();
    let codex_home = Some(codex.home.codex_home().to_owned());
    busy.refuse("initialize", 1);
    let backend = Arc::new(Attach::start(AttachConfig::new(address, Credential::None, codex_home)));
    let is_busy = |state: &CodexState| matches!(state, CodexState::Failed { reason, .. } if reason.contains("has too much to do"));
    until(&*backend, "too busy to say who it is", is_busy).await;
    ready(&*backend).await;
    let codex_backend = Arc::clone(&backend) as Arc<dyn CodexBackend>;
    let stage = Stage::around(codex, codex_backend, profiles, agent, Tuning::default()).await;

    // Who follows threads, and who acts for a device: the prompt runs, once, and is one action in the log.
    let writer = stage.pair(Scope::Approve).await;
    let remote = writer.connect().await;
    let mut api = Client::raw(remote.api().await.unwrap());
    for method in ["initialize", "thread/start", "turn/start"] {
        busy.refuse(method, 2);
    }
    let start = json!({ "cwd": stage.codex.home.project() });
    let prompt = json!({ "id": "one", "environment": "local", "start": start, "input": [{ "type": "text", "text": "@text N=2" }] });
    api.request("prompt/send", prompt).await.unwrap();
    let is_started = |message: &Value| message["method"] == "prompt/changed" && message["params"]["state"] == "started";
    let started = api.until("the prompt runs", is_started).await;
    let thread = started["params"]["threadId"].as_str().unwrap().to_owned();
    for method in ["initialize", "thread/start", "turn/start"] {
        assert_eq!(busy.refused(method), 2, "{method} was never too much");
    }
    let lines = audit::read(stage.home()).unwrap().0;
    let actions = |wanted: &str| {
        let is_it = |line: &&Line| match line {
            Line::Device(entry) => {
                matches!(&entry.what, What::Action { method, .. } if method.as_deref() == Some(wanted))
            }
            _ => false,
        };
        lines.iter().filter(is_it).count()
    };
    assert_eq!((actions("thread/start"), actions("turn/start")), (1, 1), "{lines:?}");

    // What the firewall asks before it lets a device open a thread.
    let mut far = client(&remote).await;
    busy.refuse("thread/read", 2);
    let resumed = far.request("thread/resume", json!({ "threadId": thread })).await.unwrap();
    assert_eq!(resumed["thread"]["turns"].as_array().unwrap().len(), 1, "one prompt ran twice: {resumed}");
    assert_eq!(busy.refused("thread/read"), 2);

    // What a device asks is its own to ask again.
    busy.refuse("thread/list", 1);
    let refused = far.request("thread/list", json!({})).await.unwrap_err();
    assert_eq!(refused["code"], -32001, "{refused}");
    far.request("thread/list", json!({})).await.unwrap();
    stage.stop().await;
    owner.stop().await;
}
