//! The supervisor against stand-ins for Codex: shell scripts, and a WebSocket on the control socket.
//! The real one is in the end-to-end tests.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;
use tokio::net::UnixListener;

use super::*;
use crate::codex::Silence;
use crate::platform::processes;
use crate::state::codex::{Note, StartedCodex};

const PATIENCE: Duration = Duration::from_secs(30);

/// A home with a program in it that does what `script` says.
fn home(script: &str) -> (TempDir, CodexConfig) {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("codex");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    let config = CodexConfig { program, home: Some(dir.path().to_owned()), ..CodexConfig::default() };
    (dir, config)
}

async fn until(server: &AppServer, what: &str, wanted: impl FnMut(&CodexState) -> bool) -> CodexState {
    let mut state = server.state();
    let seen = tokio::time::timeout(PATIENCE, state.wait_for(wanted)).await;
    seen.unwrap_or_else(|_| panic!("codex never was {what}; it is {:?}", server.state().borrow())).unwrap().clone()
}

async fn failure(server: &AppServer) -> (String, Option<String>) {
    match until(server, "failed", |state| matches!(state, CodexState::Failed { .. })).await {
        CodexState::Failed { reason, fix, .. } => (reason, fix),
        other => panic!("waited for a failure, got {other:?}"),
    }
}

async fn instance(server: &AppServer) -> (Instance, StartedBy, Option<String>) {
    match until(server, "ready", |state| matches!(state, CodexState::Ready { .. })).await {
        CodexState::Ready { instance, started_by, version } => (instance, started_by, version),
        other => panic!("waited for readiness, got {other:?}"),
    }
}

fn listen(home: &Path) -> UnixListener {
    let path = config::control_socket(home);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let _ = std::fs::remove_file(&path);
    UnixListener::bind(path).unwrap()
}

/// Answers every message of every client with `{}` until it is dropped, which cuts all clients.
fn answering(listener: UnixListener) -> AbortOnDropHandle<()> {
    answering_while(listener, watch::channel(true).1)
}

#[tokio::test]
async fn without_codex_the_fix_is_how_to_install_it() {
    let (_home, config) = home("");
    let config = CodexConfig { program: "no-such-codex".into(), ..config };
    let server = AppServer::start(config);
    let (reason, fix) = failure(&server).await;
    assert!(reason.contains("“no-such-codex” was not found"), "{reason}");
    assert_eq!(fix.as_deref(), Some(&*install()));
    let refused = server.connect(Allowance::default()).await;
    assert!(matches!(refused, Err(ConnectError::Failed { fix: Some(_), .. })), "{refused:?}");
    server.stop().await;
    assert!(matches!(server.connect(Allowance::default()).await, Err(ConnectError::Stopped)));
}

#[tokio::test]
async fn a_chosen_folder_that_is_not_there_is_named_and_not_made() {
    let (dir, config) = home("touch \"$0.ran\"; sleep 1000");
    let missing = dir.path().join("it's gone");
    let server = AppServer::start(CodexConfig { home: Some(missing.clone()), ..config });
    let (reason, fix) = failure(&server).await;
    assert!(reason.contains(&format!("there is no folder {}", quote(missing.display()))), "{reason}");
    assert!(fix.unwrap().starts_with("make it: mkdir -p '/"));
    assert!(!missing.exists() && !dir.path().join("codex.ran").exists());
    server.stop().await;
}

#[tokio::test]
async fn what_codex_says_when_it_ends_at_once_is_in_the_reason() {
    let backtrace = "echo 'Error: bad config.toml at line 3' >&2; echo '   0: <unknown>' >&2; exit 7";
    for script in ["echo 'bad config.toml at line 3' >&2; exit 7", backtrace] {
        let (_home, config) = home(script);
        let server = AppServer::start(config);
        let (reason, fix) = failure(&server).await;
        assert!(reason.contains("bad config.toml at line 3") && reason.contains('7'), "{reason}");
        assert!(fix.is_some());
        server.stop().await;
    }
}

#[tokio::test]
async fn a_running_server_is_joined_and_left_alone() {
    let (home, config) = home("echo codex-cli 1.2.3");
    let _running = answering(listen(home.path()));
    let server = AppServer::start(config);
    let (ready, started_by, version) = instance(&server).await;
    assert_eq!((started_by, version.as_deref()), (StartedBy::Others, Some("1.2.3")));

    let mut client = server.connect(Allowance::default()).await.unwrap();
    assert_eq!(client.instance, ready);
    client.sender.send("hello").await.unwrap();
    assert_eq!(client.receiver.next().await.unwrap().unwrap(), "{}");

    server.stop().await;
    client.sender.send("still there").await.unwrap();
    assert_eq!(client.receiver.next().await.unwrap().unwrap(), "{}");
}

#[tokio::test]
async fn a_server_that_comes_back_is_another_instance() {
    let (home, config) = home("exit 1");
    let running = answering(listen(home.path()));
    let server = AppServer::start(config);
    let (first, ..) = instance(&server).await;
    drop(running);
    until(&server, "seen to end", |state| !matches!(state, CodexState::Ready { .. })).await;
    let _running = answering(listen(home.path()));
    let (second, ..) = instance(&server).await;
    assert_ne!(first, second);
    server.stop().await;
}

/// What is noticed soon, and said soon.
const SHORT: Silence = Silence {
    ask_after: Duration::from_millis(10),
    told_after: Duration::from_millis(200),
    ended_after: Duration::from_millis(10),
};

/// As [`answering`], while `answers` says so.
fn answering_while(listener: UnixListener, answers: watch::Receiver<bool>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut clients = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            clients.spawn(ws::testing::answer_while(stream, answers.clone()));
        }
    }))
}

#[tokio::test]
async fn a_server_that_runs_and_does_nothing_is_a_failure_until_it_answers_again() {
    let (home, mut config) = home("echo codex-cli 1.2.3");
    config.silence = SHORT;
    let (answers, answered) = watch::channel(true);
    let _running = answering_while(listen(home.path()), answered);
    let server = AppServer::start(config);
    let first = instance(&server).await;
    for _ in 0..2 {
        answers.send_replace(false);
        let (reason, fix) = failure(&server).await;
        assert!(reason.contains("does not answer") && fix.as_deref() == Some(RESTART), "{reason} {fix:?}");
        assert!(matches!(server.connect(Allowance::default()).await, Err(ConnectError::Failed { .. })));
        answers.send_replace(true);
        assert_eq!(instance(&server).await, first, "it is the same run: somebody else's is never ended");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_server_of_the_agents_own_that_stays_silent_is_started_anew() {
    let (home, mut config) = home("echo started >> \"$CODEX_HOME/starts\"; [ \"$1\" = --version ] || sleep 1000");
    config.silence = SHORT;
    let (answers, answered) = watch::channel(true);
    let server = AppServer::start(config);
    let starts = || std::fs::read_to_string(home.path().join("starts")).unwrap_or_default();
    // Once it runs: one that listens before is joined.
    eventually(|| !starts().is_empty()).await;
    let _running = answering_while(listen(home.path()), answered);
    let (first, started_by, _) = instance(&server).await;
    assert_eq!(started_by, StartedBy::Agent);
    answers.send_replace(false);
    let (_, fix) = failure(&server).await;
    assert!(fix.unwrap().contains("started anew"));
    until(&server, "started anew", |state| *state == CodexState::Starting).await;
    // The stand-in goes on listening, so what comes next is joined.
    answers.send_replace(true);
    let (second, started_by, _) = instance(&server).await;
    assert_ne!(first, second);
    assert_eq!(started_by, StartedBy::Others);
    server.stop().await;
}

async fn eventually(is: impl Fn() -> bool) {
    let waiting = async {
        while !is() {
            tokio::time::sleep(START_POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("waited in vain");
}

#[tokio::test]
async fn a_listener_that_speaks_something_else_is_a_failure() {
    let (home, config) = home("echo codex-cli 1.2.3");
    let listener = listen(home.path());
    let _other = AbortOnDropHandle::new(tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"220 smtp\r\n\r\n").await;
        }
    }));
    let server = AppServer::start(config);
    let (reason, _) = failure(&server).await;
    assert!(reason.contains("does not speak websocket"), "{reason}");
    server.stop().await;
}

#[tokio::test]
async fn stopping_ends_the_whole_group() {
    // Like npm's wrapper: the program is a child, and ignores what only its parent is told.
    let (home, config) = home("sleep 1000 & echo $! > \"$CODEX_HOME/child\"; wait");
    let server = AppServer::start(config);
    let pid_file = home.path().join("child");
    let pid = tokio::time::timeout(PATIENCE, async {
        loop {
            match std::fs::read_to_string(&pid_file).ok().and_then(|text| text.trim().parse::<i32>().ok()) {
                Some(pid) => return rustix::process::Pid::from_raw(pid).unwrap(),
                None => tokio::time::sleep(START_POLL).await,
            }
        }
    })
    .await
    .expect("the script never started its child");
    server.stop().await;
    let gone = async {
        // A zombie that nobody reaps yet is gone enough.
        while std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))
            .is_ok_and(|stat| !stat.contains(") Z "))
        {
            tokio::time::sleep(START_POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the child of the program outlived it");
}

#[tokio::test]
async fn our_own_settings_are_not_in_its_environment() {
    let (home, mut config) = home("env > \"$CODEX_HOME/env.part\"; mv \"$CODEX_HOME/env.part\" \"$CODEX_HOME/env\"");
    config.env.push(("CODEX_EXTRA".into(), "yes".into()));
    config.version().await.unwrap();
    let env = std::fs::read_to_string(home.path().join("env")).unwrap();
    assert!(env.contains("CODEX_EXTRA=yes") && env.contains("CODEX_HOME="), "{env}");
    assert!(!env.contains("REACHBACK_"), "{env}");
}

#[tokio::test]
async fn what_an_earlier_agent_left_is_ended_before_anything_is_joined_or_started() {
    let (home, mut config) = home("echo codex-cli 1.2.3");
    let _running = answering(listen(home.path()));
    let agent = tempfile::tempdir().unwrap();
    crate::platform::files::state_dir(&agent.path().join("host")).unwrap();
    let note = Note::of(agent.path());
    let mut left =
        tokio::process::Command::new("sleep").arg("1000").process_group(0).kill_on_drop(true).spawn().unwrap();
    let process = processes::Process::with_id(left.id().unwrap()).await.unwrap();
    let group = processes::Group::led_by(process.pid).unwrap();
    note.write(&StartedCodex { group, processes: vec![process] }).unwrap();
    config.note = Some(note.clone());

    let server = AppServer::start(config);
    let mut states = server.state();
    let ended = tokio::time::timeout(PATIENCE, left.wait()).await.expect("it was not ended").unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(rustix::process::Signal::TERM.as_raw()));
    let seen = states.wait_for(|state| *state != CodexState::Starting).await.unwrap().clone();
    assert!(matches!(seen, CodexState::Ready { started_by: StartedBy::Others, .. }), "{seen:?}");
    assert_eq!(note.read().unwrap(), None, "what was joined is not for the next agent to end");
    server.stop().await;
}

#[tokio::test]
async fn what_runs_is_noted_and_taken_back_when_it_has_ended() {
    let (home, mut config) = home("sleep 1000");
    let agent = tempfile::tempdir().unwrap();
    crate::platform::files::state_dir(&agent.path().join("host")).unwrap();
    let note = Note::of(agent.path());
    config.note = Some(note.clone());
    let server = AppServer::start(config);
    let noted = async {
        loop {
            match note.read().unwrap() {
                Some(noted) => return noted,
                None => tokio::time::sleep(START_POLL).await,
            }
        }
    };
    let noted = tokio::time::timeout(PATIENCE, noted).await.expect("it was not noted");
    assert_eq!(noted.running().await, Some(noted.group));
    let _listening = answering(listen(home.path()));
    instance(&server).await;
    server.stop().await;
    assert_eq!(note.read().unwrap(), None);
    assert_eq!(noted.running().await, None);
}
