//! What is wrong with a Codex that answers, and with one that does not for want of room.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use e2e::codex;
use e2e::process::{Home, Process};
use serde_json::Value;
use tokio::process::Command;

/// A program that says to be this version of Codex, and is the pinned one.
fn says_to_be(path: &Path, version: &str) {
    let real = codex::program();
    let says = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && echo codex-cli {version} && exit\nexec {} \"$@\"\n",
        real.display()
    );
    // As packages are replaced: by another file.
    let new = path.with_extension("new");
    std::fs::write(&new, says).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(new, path).unwrap();
}

async fn codex_is(up: &mut Process, state: &str) -> Value {
    up.line(&format!("codex {state}"), |line| line["event"] == "codex" && line["state"] == state).await
}

async fn told(up: &mut Process, code: &str) -> String {
    let notice = up.line(code, |line| line["event"] == "notice" && line["code"] == code).await;
    notice["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn another_version_that_is_installed_under_a_running_codex_is_told() {
    let home = Home::new();
    let program = home.folder("bin").join("codex");
    says_to_be(&program, "0.169.0");
    let mut up = home.start(&["up", "--listen", "127.0.0.1:0", "--codex-program", program.to_str().unwrap()]);
    codex_is(&mut up, "ready").await;
    assert!(!home.run(&["status"]).await.ok().out.contains("Trouble"));
    says_to_be(&program, "0.170.1");
    let message = told(&mut up, "codex_upgraded").await;
    assert_eq!(message, "Codex 0.170.1 is installed, and 0.169.0 still runs");
    let status = home.run(&["status"]).await.ok().out;
    assert!(status.contains("\nTrouble  Codex 0.170.1 is installed"), "{status}");
    says_to_be(&program, "0.169.0");
    up.line("no trouble", |line| line["event"] == "codex" && line["troubles"].as_array().is_some_and(Vec::is_empty))
        .await;
    assert_eq!(up.stop().await, Some(0));
}

/// `up` on a home whose `CODEX_HOME` is a small disk of its own, which nobody else sees.
fn up_on_a_small_disk(home: &Home, kibibytes: u32) -> Process {
    let program = codex::program();
    let up = home.command(&["up", "--listen", "127.0.0.1:0", "--json", "--codex-program", program.to_str().unwrap()]);
    let up = up.as_std();
    let mounts = format!("mount -t tmpfs -o size={kibibytes}k none \"$CODEX_HOME\" && exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &mounts, "sh"]);
    command.arg(up.get_program()).args(up.get_args());
    for (name, value) in up.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Process::spawn("reachback up on a small disk", command)
}

#[tokio::test]
async fn a_full_disk_is_told_while_codex_answers_and_when_it_can_not_start() {
    let home = Home::new();
    let mut up = up_on_a_small_disk(&home, 40 << 10);
    codex_is(&mut up, "ready").await;
    let fill = Path::new("/proc").join(up.pid().to_string()).join("root");
    let fill = fill.join(home.codex_home().strip_prefix("/").unwrap()).join("fill");
    std::fs::write(&fill, vec![0; 30 << 20]).unwrap();
    let message = told(&mut up, "codex_disk_full").await;
    assert!(message.contains("codex” is full"), "{message}");
    let status = home.run(&["status"]).await.ok().out;
    assert!(status.contains("\nTrouble  The disk with ") && status.contains("make room there"), "{status}");
    std::fs::remove_file(&fill).unwrap();
    up.line("no trouble", |line| line["event"] == "codex" && line["troubles"].as_array().is_some_and(Vec::is_empty))
        .await;
    assert_eq!(up.stop().await, Some(0));

    // Less than its state takes.
    let mut up = up_on_a_small_disk(&home, 64);
    let error = up.line("why", |line| line["event"] == "error" && line["code"] == "codex_failed").await;
    assert!(
        error["message"].as_str().unwrap().contains("the disk with ") && error["fix"] == "make room there",
        "{error}"
    );
    assert_eq!(up.stop().await, Some(0));
}
