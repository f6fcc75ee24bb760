//! Paths that are not valid text, which the operating system takes: each is used, or refused by name; nothing panics.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use e2e::codex;
use e2e::process::{Home, Up, binary, free_port};
use e2e::tmux::Terminal;
use tokio::process::Command;

/// A folder in `home` whose name is Latin-1.
fn odd(home: &Home) -> PathBuf {
    let folder = home.folder("odd").join(OsStr::from_bytes(b"caf\xe9"));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Whether it names the folder, as far as text can; JSON escapes the backslash.
fn names(text: &str) -> bool {
    [r"caf\xE9", r"caf\\xE9", "caf\u{fffd}"].iter().any(|name| text.contains(name))
}

/// Runs a command to its end. It must not panic.
async fn output(mut command: Command) -> (Output, String) {
    command.stdin(std::process::Stdio::null()).kill_on_drop(true);
    let what = format!("{:?}", command.as_std());
    let output = tokio::time::timeout(e2e::PATIENCE, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{what} does not end")).unwrap();
    let said = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
    assert!(output.status.code().is_some_and(|code| code != 101) && !said.contains("panicked"), "{what}: {said}");
    (output, said)
}

/// The command is refused, and says which path is to blame.
async fn refused(command: Command) {
    let what = format!("{:?}", command.as_std());
    let (output, said) = output(command).await;
    assert!(!output.status.success() && names(&said), "{what}: {said}");
    assert!(!said.contains("damaged"), "{what}: {said}");
}

/// `reachback` on this home.
fn reachback<S: AsRef<OsStr>>(home: &Home, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = home.command(&[]);
    command.args(args);
    command
}

const STATE: [&[&str]; 13] = [
    &["status"],
    &["devices"],
    &["devices", "revoke", "x"],
    &["workspace", "list"],
    &["audit"],
    &["codex", "use"],
    &["codex", "restore"],
    &["hosts"],
    &["connect"],
    &["join", "http://127.0.0.1:9"],
    &["pair", "--yes"],
    &["host", "--relay", "http://127.0.0.1:9"],
    &["up", "--listen", "127.0.0.1:0"],
];

#[tokio::test]
async fn a_home_that_is_not_text_is_refused_by_every_command() {
    let home = Home::new();
    let odd = odd(&home);
    for args in STATE {
        let mut by_variable = reachback(&home, args);
        by_variable.env("REACHBACK_HOME", odd.join("state"));
        refused(by_variable).await;
        let mut by_flag = reachback(&home, args);
        by_flag.arg("--home").arg(&odd).arg("--json");
        refused(by_flag).await;
        let mut of_the_user = reachback(&home, args);
        of_the_user.env("HOME", &odd).env_remove("REACHBACK_HOME").env_remove("XDG_STATE_HOME");
        refused(of_the_user).await;
        let mut relative = reachback(&home, args);
        relative.args(["--home", "state"]).current_dir(&odd);
        refused(relative).await;
    }
    let mut demo = reachback(&home, ["up", "--demo"]);
    demo.env("HOME", &odd).env_remove("REACHBACK_HOME").env_remove("XDG_STATE_HOME");
    refused(demo).await;
    assert_eq!(std::fs::read_dir(&odd).unwrap().count(), 0, "something was made in a folder that was refused");
}

#[tokio::test]
async fn a_home_behind_a_link_that_codex_could_not_be_told_of_is_refused() {
    let home = Home::new();
    let link = home.folder("links").join("home");
    std::os::unix::fs::symlink(odd(&home), &link).unwrap();
    std::fs::set_permissions(odd(&home), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let mut command = reachback(&home, ["host", "--relay", "http://127.0.0.1:9"]);
    command.env("REACHBACK_HOME", link);
    refused(command).await;
}

#[tokio::test]
async fn other_arguments_that_are_not_text_are_refused_by_name_or_used() {
    let home = Home::new();
    let odd = odd(&home);
    let host =
        ["host", "--relay", "http://127.0.0.1:9", "--codex-program", "no-such-codex"].map(OsString::from).to_vec();
    let with = |more: &[&OsStr]| reachback(&home, host.iter().map(OsString::as_os_str).chain(more.iter().copied()));
    for flag in ["--workdir", "--workspace", "--enroll-file"] {
        refused(with(&[flag.as_ref(), odd.as_os_str()])).await;
    }
    for args in [["workspace", "add"], ["workspace", "remove"]] {
        let mut command = reachback(&home, args);
        command.arg(&odd);
        refused(command).await;
        let mut here = reachback(&home, args);
        here.arg(".").current_dir(&odd);
        refused(here).await;
    }
    let mut tls = reachback(&home, ["up", "--listen", "127.0.0.1:0", "--codex-program", "no-such-codex", "--tls-cert"]);
    tls.arg(odd.join("cert")).arg("--tls-key").arg(odd.join("key"));
    refused(tls).await;
    let mut socket = reachback(&home, ["connect", "--socket"]);
    socket.arg(odd.join("socket"));
    refused(socket).await;

    // Not paths: refused as text that is none, or as a word that is not known.
    let word = OsStr::from_bytes(b"caf\xe9");
    for args in [
        &["status", "--log"][..],
        &["host", "--relay"],
        &["host", "--name"],
        &["join", "--name"],
        &["join"],
        &["connect"],
        &["pair"],
        &["devices", "revoke"],
        &["devices", "scope", "x"],
        &["audit", "--device"],
        &[],
    ] {
        let mut command = reachback(&home, args);
        command.arg(word);
        let (output, said) = output(command).await;
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
    }
    for name in ["REACHBACK_LOG", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "TMPDIR", "PATH", "LANG", "TERM", "HOSTNAME"] {
        let mut command = reachback(&home, ["status"]);
        command.env(name, &odd);
        output(command).await;
    }
}

#[tokio::test]
async fn a_folder_of_codex_that_is_not_text_is_named_as_what_keeps_codex_from_running() {
    let home = Home::new();
    let odd = odd(&home);
    for (flag, name) in [(Some("--codex-home"), "IRRELEVANT"), (None, "CODEX_HOME"), (None, "HOME")] {
        let program = codex::program();
        let mut command = reachback(&home, ["host", "--relay", "http://127.0.0.1:9", "--json", "--codex-program"]);
        command.arg(program).env(name, &odd);
        if name == "HOME" {
            command.env_remove("CODEX_HOME");
        }
        if let Some(flag) = flag {
            command.arg(flag).arg(&odd);
        }
        let mut host = e2e::process::Process::spawn("reachback host", command);
        let error = host.event("error").await;
        let message = error["message"].as_str().unwrap();
        assert!(error["code"] == "codex_failed" && names(message), "{error}");
        assert!(error["fix"].as_str().unwrap().contains("CODEX_HOME"), "{error}");
        assert_eq!(host.stop().await, Some(0));
    }
}

#[tokio::test]
async fn an_agent_runs_in_a_folder_and_with_a_codex_whose_paths_are_not_text() {
    let home = Home::new();
    let odd = odd(&home);
    // Not a link to npm's script: node finds none there.
    let program = odd.join("codex");
    std::fs::write(&program, format!("#!/bin/sh\nexec '{}' \"$@\"\n", codex::program().display())).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let mut command =
        reachback(&home, ["up", "--demo", "--json", "--listen", &free_port().to_string(), "--codex-program"]);
    // Sockets go elsewhere then: Codex could not be kept from that folder.
    command.arg(&program).current_dir(&odd).env("XDG_RUNTIME_DIR", &odd).env("TMPDIR", home.folder("tmp"));
    let mut up = e2e::process::Process::spawn("reachback up", command);
    up.event("ready").await;
    up.line("codex ready", |line| line["event"] == "codex" && line["state"] == "ready").await;
    assert_eq!(home.json(&["status"]).await.ok().event("status")["running"], true);
    assert_eq!(up.stop().await, Some(0));
    assert!(!odd.join("reachback").exists(), "sockets are in a folder that Codex can't be told of");
}

#[tokio::test]
async fn connect_takes_a_folder_and_arguments_that_are_not_text() {
    let mut up = Up::start().await;
    let device = up.device("laptop").await;
    let odd = odd(&device);
    // A Codex that writes down what it was given.
    let (program, given) = (odd.join("codex"), device.folder("given").join("arguments"));
    std::fs::write(&program, format!("#!/bin/sh\nprintf '%s\\n' \"$@\" > '{}'\n", given.display())).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let mut command = reachback(&device, ["connect"]);
    command.arg("--codex-program").arg(&program).arg("-C").arg(&odd).arg("--").arg(OsStr::from_bytes(b"w\xf6rd"));
    let terminal = in_terminal(&device, &command);
    assert_eq!(terminal.exit().await, 0, "{}", terminal.everything());
    let given = std::fs::read(&given).unwrap();
    let has = |bytes: &[u8]| given.split(|&byte| byte == b'\n').any(|line| line == bytes);
    let said = String::from_utf8_lossy(&given);
    assert!(has(odd.as_os_str().as_bytes()) && has(b"w\xf6rd"), "{said}");
    up.stop().await;
}

/// Runs a command in a terminal, which itself takes text only: a script has its arguments.
fn in_terminal(home: &Home, command: &Command) -> Terminal {
    let quoted = |word: &OsStr| {
        let word = word.as_bytes().iter().flat_map(|byte| match byte {
            b'\'' => b"'\\''".as_slice(),
            byte => std::slice::from_ref(byte),
        });
        [b"'".to_vec(), word.copied().collect(), b"' ".to_vec()].concat()
    };
    let command = command.as_std();
    let mut script = Vec::new();
    for (name, value) in command.get_envs() {
        let name = name.as_bytes();
        match value {
            Some(value) => script.extend([b"export ", name, b"=", &quoted(value), b"\n"].concat()),
            None => script.extend([b"unset ", name, b"\n"].concat()),
        }
    }
    script.extend([b"exec ".to_vec(), quoted(command.get_program())].concat());
    command.get_args().for_each(|arg| script.extend(quoted(arg)));
    let path = home.folder("scripts").join("command");
    std::fs::write(&path, script).unwrap();
    Terminal::start(Path::new("sh"), &[path.to_str().unwrap()], &[])
}

fn relay(args: &[&str], flag: &str, path: &Path) -> Command {
    let mut command = Command::new(binary("reachback-relay"));
    command.args(args).arg(flag).arg(path);
    command
}

#[tokio::test]
async fn paths_of_a_relay_that_are_not_text_are_refused_by_name() {
    let home = Home::new();
    let odd = odd(&home);
    for args in [
        ["serve", "--listen", "127.0.0.1:0"],
        ["enroll", "--listen", "127.0.0.1:0"],
        ["config", "--listen", "127.0.0.1:0"],
    ] {
        for flag in ["--data", "--config"] {
            refused(relay(&args, flag, &odd.join("x"))).await;
        }
        let mut certificate = relay(&args, "--tls-cert", &odd.join("cert"));
        certificate.arg("--tls-key").arg(odd.join("key"));
        refused(certificate).await;
        for name in ["DATA", "CONFIG"] {
            let mut command = relay(&args, "--log", Path::new("info"));
            command.env(format!("REACHBACK_RELAY_{name}"), odd.join("x"));
            refused(command).await;
        }
        for name in ["LOG", "PUBLIC_URL", "TLS"] {
            let mut command = Command::new(binary("reachback-relay"));
            command.args(args).env(format!("REACHBACK_RELAY_{name}"), &odd);
            let (output, said) = output(command).await;
            assert_eq!(output.status.code(), Some(2), "{name}: {said}");
        }
    }
    assert_eq!(std::fs::read_dir(&odd).unwrap().count(), 0, "something was made in a folder that was refused");
}
