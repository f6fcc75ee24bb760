//! What a Codex that the agent starts stands on: where it runs, what its own git enters, what commands from afar may do.

use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::codex::{TestCodex, ready};
use e2e::rpc::Client;
use e2e::stage::{self, Stage};
use reachback_host::codex::CodexBackend;
use reachback_proto::scope::Scope;
use serde_json::{Value, json};
use tokio::net::UnixStream;

fn git(folder: &Path, args: &[&str]) {
    const SETTINGS: [&str; 4] =
        ["user.name=t", "user.email=t@example.org", "init.defaultBranch=trunk", "commit.gpgSign=false"];
    let settings = SETTINGS.iter().flat_map(|setting| ["-c", setting]);
    let output = Command::new("git").arg("-C").arg(folder).args(settings).args(args).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A repository with a file that looks changed, so that git runs the filter, which leaves `mark`.
fn repository(folder: &Path, mark: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    git(folder, &["init", "-q"]);
    std::fs::write(folder.join(".gitattributes"), "filtered filter=marks\n").unwrap();
    std::fs::write(folder.join("filtered"), "one\n").unwrap();
    git(folder, &["add", "."]);
    git(folder, &["commit", "-q", "-m", "first"]);
    git(folder, &["config", "filter.marks.clean", &format!("touch '{}'; cat", mark.display())]);
    // Another time of change and the same length: git has to look inside.
    std::fs::write(folder.join("filtered"), "two\n").unwrap();
    let file = std::fs::File::options().write(true).open(folder.join("filtered")).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
}

async fn thread_in(client: &mut Client, folder: &Path) -> String {
    let started = client.request("thread/start", json!({ "cwd": folder })).await.unwrap();
    started["thread"]["id"].as_str().unwrap().to_owned()
}

async fn turn(client: &mut Client, thread: &str, text: &str) {
    client.prompt(thread, text).await;
    let done = client.event("turn/completed").await;
    assert_eq!(done["params"]["turn"]["status"], "completed", "{done}");
}

async fn git_info(client: &mut Client, thread: &str) -> Value {
    client.request("thread/read", json!({ "threadId": thread })).await.unwrap()["thread"]["gitInfo"].clone()
}

#[tokio::test]
async fn codex_runs_in_an_empty_folder_of_the_agents() {
    let test = TestCodex::prepare().await;
    let backend = test.backend();
    ready(&backend).await;
    let link = test.config().control_socket().unwrap();
    let stream = UnixStream::connect(link.canonicalize().unwrap()).await.unwrap();
    let pid = stream.peer_cred().unwrap().pid().unwrap();
    let folder = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
    assert_eq!(folder, test.ground.empty());
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
    backend.stop().await;
}

#[tokio::test]
async fn a_filter_of_a_repository_in_a_workspace_does_not_run_with_a_turn() {
    let test = TestCodex::prepare().await;
    let (inner, mark) = (test.home.project().join("inner"), test.home.codex_home().join("mark"));
    repository(&inner, &mark);
    let backend = test.backend();
    let mut client = Client::connect(&backend).await;
    let thread = thread_in(&mut client, &inner).await;
    turn(&mut client, &thread, "@text N=1").await;
    let forked = client.request("thread/fork", json!({ "threadId": thread })).await.unwrap();
    turn(&mut client, forked["thread"]["id"].as_str().unwrap(), "@text N=1").await;
    backend.stop().await;
    assert!(!mark.exists(), "the filter of {} ran outside the sandbox", inner.display());
}

#[tokio::test]
async fn codex_still_knows_the_branch_of_a_workspace_and_of_one_that_is_opened_later() {
    let test = TestCodex::prepare().await;
    let (project, later) = (test.home.project().to_owned(), test.home.project().with_file_name("later"));
    for folder in [&project, &later] {
        repository(folder, &test.home.codex_home().join("mark"));
    }
    let backend = test.backend();
    let mut client = Client::connect(&backend).await;
    for (folder, open, knows) in [
        (&project, vec![project.clone()], true),
        (&later, vec![project.clone()], false),
        (&later, vec![project.clone(), later.clone()], true),
    ] {
        test.ground.list(&open);
        let thread = thread_in(&mut client, folder).await;
        turn(&mut client, &thread, "@text N=1").await;
        let info = git_info(&mut client, &thread).await;
        assert_eq!(info["branch"] == "trunk", knows, "{}: {info}", folder.display());
    }
    backend.stop().await;
}

#[tokio::test]
async fn git_in_a_command_of_the_model_works_as_usual() {
    let test = TestCodex::prepare().await;
    let inner = test.home.project().join("inner");
    repository(&inner, &test.home.codex_home().join("mark"));
    git(&inner, &["config", "--remove-section", "filter.marks"]);
    let backend = test.backend();
    let mut client = Client::connect(&backend).await;
    let thread = client.thread(&test).await;
    turn(&mut client, &thread, "@shell cd inner && git status --short && git rev-parse --show-toplevel").await;
    let items = client.take("item/completed");
    let is_command = |item: &&Value| item["params"]["item"]["type"] == "commandExecution";
    let item = &items.iter().find(is_command).expect("no command ran")["params"]["item"];
    let output = item["aggregatedOutput"].as_str().unwrap_or_default();
    assert!(output.contains(" M filtered") && output.contains(inner.to_str().unwrap()), "{item}");
    backend.stop().await;
}

#[tokio::test]
async fn what_a_skill_needs_is_not_offered_for_installation() {
    let test = TestCodex::prepare().await;
    let backend = test.backend();
    let mut client = Client::connect(&backend).await;
    let read = client.request("config/read", json!({})).await.unwrap();
    assert_eq!(read["config"]["features"]["skill_mcp_dependency_install"], false, "{read}");
    backend.stop().await;
}

/// What `/diff` runs in the project.
async fn exec(client: &mut Client, folder: &Path, words: &[&str]) -> Result<Value, Value> {
    const QUIET: [&str; 7] =
        ["git", "-c", "safe.bareRepository=explicit", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"];
    let command = [&QUIET[..], words].concat();
    client.request("command/exec", json!({ "command": command, "cwd": folder })).await
}

#[tokio::test]
async fn a_diff_from_afar_reads_the_workspace_writes_nothing_and_sees_no_keys() {
    const DIFF: [&str; 6] =
        ["diff", "--no-textconv", "--no-ext-diff", "--submodule=short", "--ignore-submodules=dirty", "--color"];
    let stage = Stage::start().await;
    let project: PathBuf = stage.codex.home.project().into();
    let mark = project.join("mark");
    repository(&project, &mark);
    std::fs::write(stage.home.path().join("key"), "SECRET").unwrap();
    std::os::unix::fs::symlink(stage.home.path(), project.join("link")).unwrap();
    std::fs::write(project.join("new"), "fresh").unwrap();
    let device = stage.pair(Scope::Approve).await;
    let remote = device.connect().await;
    let mut client = stage::client(&remote).await;

    let diff = exec(&mut client, &project, &DIFF).await.unwrap();
    assert!(diff["stdout"].as_str().unwrap().contains("two"), "{diff}");
    assert!(!mark.exists(), "the filter could write into the workspace");
    let untracked = |file| [&DIFF[..], &["--no-index", "--", "/dev/null", file]].concat();
    let fresh = exec(&mut client, &project, &untracked("new")).await.unwrap();
    assert!(fresh["stdout"].as_str().unwrap().contains("fresh"), "{fresh}");
    let key = exec(&mut client, &project, &untracked("link/key")).await.unwrap();
    assert!(!key.to_string().contains("SECRET"), "{key}");
    assert!(key["stderr"].as_str().unwrap().contains("Could not access"), "{key}");
    drop(client);
    remote.end().await;
    stage.stop().await;
}
