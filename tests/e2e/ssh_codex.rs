//! Codex on machines that a host reaches over SSH: real servers, login shells and Codexes.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use e2e::process::{Finished, Home, processes_with};
use e2e::sshd::{Account, NOISE, Ssh, Sshd, is_private};
use e2e::{PATIENCE, eventually};
use reachback_host::ssh::{
    BootstrapError, Connection, Discovery, FarStream, Nobody, Person as Asked, Reach, RunError, SocketError,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::time::timeout;

/// A machine called `devbox`, and somebody who reaches it.
struct Devbox {
    home: Home,
    ssh: Ssh,
    account: Account,
    _server: Sshd,
}

impl Devbox {
    /// With this login shell, which does `first` before all else, and more lines for its server.
    async fn prepare(shell: &str, first: &str, more: &str) -> Self {
        let (home, ssh) = (Home::new(), Ssh::prepare());
        let account = Account::prepare(home.folder("far"), shell, first);
        let server = ssh.server(&format!("{more}\n{}", account.sessions())).await;
        ssh.knows(&[&server]);
        ssh.configure(&format!("Host devbox\n  Port {}\n  IdentityFile {}\n", server.port, ssh.at("one")));
        Self { home, ssh, account, _server: server }
    }

    async fn check(&self) -> Finished {
        self.home.json(&["ssh", "--ssh-config", &self.ssh.at("config"), "check", "devbox"]).await
    }

    /// What is said of having ended what was started.
    async fn stop(&self) -> Value {
        let stopped = self.home.json(&["ssh", "--ssh-config", &self.ssh.at("config"), "stop", "devbox"]).await;
        stopped.ok().event("ssh_stopped")
    }

    /// What is said of a Codex that can't be used; the connection itself is good.
    async fn refused(&self) -> (String, String, String) {
        let refused = self.check().await;
        assert_eq!(refused.code, 1, "{refused:?}");
        assert_eq!(refused.event("ssh_checked")["user"], self.ssh.user());
        let error = refused.event("error");
        let text = |member: &str| error[member].as_str().unwrap().to_owned();
        (text("code"), text("message"), text("fix"))
    }

    async fn connect(&self) -> Connection {
        let discovery = Discovery::new(None, Some(self.ssh.path("config"))).unwrap();
        let nobody: Arc<dyn Asked> = Arc::new(Nobody);
        discovery.connect("devbox", &nobody).await.unwrap().expect("it is named")
    }

    fn far(&self, name: &str) -> String {
        self.account.home.join(name).to_str().unwrap().to_owned()
    }
}

/// Codex's own answer to a WebSocket, over what leads to it.
async fn answer(mut stream: FarStream) -> String {
    let hello = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(hello.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"\r\n\r\n") {
        said.push(timeout(PATIENCE, stream.read_u8()).await.expect("codex answers").unwrap());
    }
    String::from_utf8(said).unwrap()
}

#[tokio::test]
async fn codex_is_found_through_every_login_shell_and_whatever_that_says() {
    for (shell, first) in [
        ("bash", ""),
        ("zsh", ""),
        ("fish", ""),
        ("bash", NOISE),
        ("zsh", NOISE),
        ("fish", "echo Welcome; echo full >&2; read answer; printf 'bye, or not'"),
    ] {
        let devbox = Devbox::prepare(shell, first, "").await;
        let found = devbox.check().await.ok();
        let codex = found.event("ssh_codex");
        let program = devbox.far("bin/codex");
        assert_eq!((&codex["alias"], &codex["program"]), (&json!("devbox"), &json!(program)), "{shell}: {codex}");
        assert_eq!(codex["version"], "0.169.0", "{shell}: {codex}");
        assert_eq!(codex["codex_home"], devbox.far(".codex"), "{shell}: {codex}");
        assert_eq!((&codex["running"], &codex["reached_by"]), (&json!(false), &Value::Null), "{shell}: {codex}");
        assert_eq!(codex["signed_in"], false, "{shell}: {codex}");
        let notice = found.event("notice");
        assert_eq!(notice["code"], "codex_signed_out", "{notice}");
        assert_eq!(notice["fix"], r#"ssh -t devbox 'exec "$SHELL" -lc "codex login --device-auth"'"#);
    }
}

#[tokio::test]
async fn a_codex_that_is_signed_in_is_said_to_be() {
    let devbox = Devbox::prepare("bash", "", "").await;
    let mut login = devbox.account.codex(&["login", "--with-api-key"]);
    let mut login = login.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    login.stdin.take().unwrap().write_all(b"sk-test\n").await.unwrap();
    assert!(login.wait().await.unwrap().success());
    let found = devbox.check().await.ok();
    assert_eq!(found.event("ssh_codex")["signed_in"], true, "{found:?}");
    assert!(!found.out.contains("notice"), "{found:?}");
}

#[tokio::test]
async fn each_codex_that_can_not_be_used_is_told_from_the_others_with_what_helps() {
    let devbox = Devbox::prepare("bash", "", "").await;
    let there = |command: &str| format!(r#"ssh -t devbox 'exec "$SHELL" -lc "{command}"'"#);

    devbox.account.replace_codex(Some("#!/bin/sh\n[ \"$1\" != app-server ] || exit 2\necho codex-cli 0.40.0\n"));
    let (code, message, fix) = devbox.refused().await;
    assert!(code == "codex_too_old" && message.contains("codex 0.40.0 there is too old"), "{code}: {message}");
    let installs = format!(
        "install one there: reachback ssh bootstrap devbox --install; or by yourself: {}",
        there("npm install -g @openai/codex@0.169.0")
    );
    assert_eq!(fix, installs);

    devbox.account.replace_codex(Some("#!/bin/sh\necho >&2\nprintf '\\033[31mno \\377 model\\n' >&2\nexit 3\n"));
    let (code, message, fix) = devbox.refused().await;
    assert!(code == "codex_broken" && message.contains("says “?[31mno"), "{code}: {message}");
    assert!(fix.ends_with(&there("codex --version")), "{fix}");

    devbox.account.replace_codex(Some("#!/no/such/interpreter\n"));
    let (code, message, _) = devbox.refused().await;
    assert!(code == "codex_broken" && message.contains("not found"), "{code}: {message}");

    devbox.account.set_mode("bin/codex", 0o644);
    let (code, message, fix) = devbox.refused().await;
    assert!(code == "codex_not_executable" && message.contains(&devbox.far("bin/codex")), "{code}: {message}");
    assert_eq!(fix, format!("ssh devbox 'chmod u+x {}'", devbox.far("bin/codex")));

    devbox.account.replace_codex(None);
    let (code, message, fix) = devbox.refused().await;
    assert!(code == "codex_missing" && message.contains(devbox.far("").trim_end_matches('/')), "{code}: {message}");
    assert_eq!(fix, installs);
}

#[tokio::test]
async fn a_folder_whose_name_is_no_text_is_refused_by_what_it_is_for() {
    let devbox = Devbox::prepare("bash", "export CODEX_HOME=\"$(printf '/tmp/\\377')\"", "").await;
    let (code, message, _) = devbox.refused().await;
    assert!(code == "ssh_unclear" && message.contains("“codex_home” is not UTF-8"), "{code}: {message}");
}

#[tokio::test]
async fn who_never_ran_codex_gets_its_folder_and_one_that_is_named_and_missing_is_said_to_be() {
    let devbox = Devbox::prepare("bash", "", "").await;
    let own = PathBuf::from(devbox.far(".codex"));
    std::fs::remove_dir_all(&own).unwrap();
    let connection = devbox.connect().await;
    let found = connection.inspect().await.unwrap();
    let started = connection.start(&found, &settings()).await.unwrap();
    assert!(started.is_new && is_private(&own), "{started:?}");
    devbox.stop().await;

    let devbox = Devbox::prepare("bash", "export CODEX_HOME=\"$HOME/it's gone\"", "").await;
    let (code, message, fix) = devbox.refused().await;
    assert!(code == "codex_no_home" && message.contains("it's gone”, which is no folder"), "{code}: {message}");
    let made = std::process::Command::new("sh").args(["-c", &fix.replace("ssh devbox", "eval")]).status().unwrap();
    assert!(made.success() && PathBuf::from(devbox.far("it's gone")).is_dir(), "{fix}");
    assert_eq!(devbox.check().await.ok().event("ssh_codex")["codex_home"], devbox.far("it's gone"));
}

#[tokio::test]
async fn a_server_that_runs_something_else_is_told_by_its_last_line() {
    let devbox = Devbox::prepare("bash", "", "").await;
    for (enter, said) in [
        ("#!/bin/sh\necho; echo 'Only git here: \"push\" or pull'; echo\n", "Only git here: 'push' or pull"),
        ("#!/bin/sh\necho \"$SSH_ORIGINAL_COMMAND\"\necho 'no shell' >&2\n", "fact end 1"),
        ("#!/bin/sh\necho 'This account is currently not available.' >&2\nexit 1\n", "currently not available"),
    ] {
        std::fs::write(devbox.far("enter"), enter).unwrap();
        let (code, message, fix) = devbox.refused().await;
        assert!(code == "ssh_shell" && message.contains(said), "{code}: {message}");
        assert!(fix.starts_with("see what it answers: ssh devbox echo hello"), "{fix}");
    }
    std::fs::write(devbox.far("enter"), "#!/bin/sh\nyes without end\n").unwrap();
    let (code, message, _) = devbox.refused().await;
    assert!(code == "ssh_run" && message.contains("more than 64 KiB"), "{code}: {message}");
}

#[tokio::test]
async fn a_running_server_is_reached_by_its_socket_or_by_codex_where_the_ssh_server_leads_to_none() {
    for (more, reach) in [("", Reach::Socket), ("AllowStreamLocalForwarding no", Reach::Proxy)] {
        let devbox = Devbox::prepare("bash", "", more).await;
        let mut server = devbox.account.codex(&["app-server", "--listen", "unix://"]).spawn().unwrap();
        let socket = PathBuf::from(devbox.far(".codex/app-server-control/app-server-control.sock"));
        eventually("codex listens", || socket.exists()).await;
        let codex = devbox.check().await.ok().event("ssh_codex");
        assert_eq!((&codex["running"], &codex["reached_by"]), (&json!(true), &json!(reach.code())), "{codex}");
        assert_eq!(codex["started_here"], false, "{codex}");

        let connection = devbox.connect().await;
        let found = connection.inspect().await.unwrap();
        let (stream, reached) = connection.open_server(&found).await.unwrap();
        assert_eq!(reached, reach);
        assert!(answer(stream).await.starts_with("HTTP/1.1 101 "));

        // The package's script passes it on.
        let pid = server.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        timeout(PATIENCE, server.wait()).await.unwrap().unwrap();
        if reach == Reach::Socket {
            let ended = connection.open_server(&found).await.map(|(_, reach)| reach);
            assert!(matches!(ended, Err(BootstrapError::Ended)), "{ended:?}");
        }
        assert!(!connection.inspect().await.unwrap().is_listening);
    }
}

#[tokio::test]
async fn a_socket_of_another_user_in_the_place_of_codexs_is_not_used() {
    let devbox = Devbox::prepare("bash", "", "").await;
    let theirs = tempfile::tempdir().unwrap();
    let socket = theirs.path().join("a0");
    let _listener = UnixListener::bind(&socket).unwrap();
    let link = PathBuf::from(devbox.far(".codex/app-server-control/app-server-control.sock"));
    std::fs::create_dir_all(link.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&socket, link).unwrap();
    let give = std::process::Command::new("chown").arg("nobody").arg(theirs.path()).output().unwrap();
    if !give.status.success() {
        eprintln!("not root: nothing can be given to another user");
        return;
    }
    let (code, message, _) = devbox.refused().await;
    assert!(code == "codex_socket" && message.contains(socket.to_str().unwrap()), "{code}: {message}");
}

#[tokio::test]
async fn a_socket_that_nobody_listens_on_is_told_from_one_that_the_server_leads_nobody_to() {
    for (more, leads) in [("", true), ("AllowStreamLocalForwarding no", false)] {
        let devbox = Devbox::prepare("fish", "", more).await;
        let dir = tempfile::Builder::new().prefix("it's \\ ").tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let _listener = UnixListener::bind(path("listening")).unwrap();
        std::os::unix::fs::symlink(path("listening"), path("link")).unwrap();
        drop(UnixListener::bind(path("dead")).unwrap());
        let connection = devbox.connect().await;
        for name in ["listening", "link"] {
            let opened = connection.open_socket(&path(name)).await.map(drop);
            let is_as_it_is =
                if leads { opened.is_ok() } else { matches!(opened, Err(SocketError::NotForwarded { .. })) };
            assert!(is_as_it_is, "{more} {name}: {opened:?}");
        }
        for name in ["dead", "none"] {
            let opened = connection.open_socket(&path(name)).await.map(drop);
            assert!(matches!(opened, Err(SocketError::NotListening { .. })), "{more} {name}: {opened:?}");
        }
    }
}

#[tokio::test]
async fn what_runs_there_gets_no_variable_and_no_agent_of_this_machine() {
    let devbox = Devbox::prepare("bash", "", "AcceptEnv *\nAllowAgentForwarding yes").await;
    devbox.account.replace_codex(Some("#!/bin/sh\nenv >\"$HOME/seen-$1\"\necho codex-cli 0.169.0\n"));
    let config = devbox.ssh.at("config");
    let options = format!("{}\nHost *\n  ForwardAgent yes\n  SendEnv *\n", devbox.ssh.text("config"));
    devbox.ssh.write("config", &options);
    let agent = devbox.ssh.agent("one").await;
    let mut check = devbox.home.command(&["ssh", "--ssh-config", &config, "check", "devbox"]);
    check.env("SECRET_OF_THE_HOST", "swordfish").env("SSH_AUTH_SOCK", &agent.socket);
    assert!(check.output().await.unwrap().status.success());
    for word in ["--version", "login", "app-server"] {
        let seen = std::fs::read_to_string(devbox.far(&format!("seen-{word}"))).unwrap();
        assert!(seen.contains("SSH_CONNECTION="), "{seen}");
        assert!(!seen.contains("swordfish") && !seen.contains("SSH_AUTH_SOCK"), "{seen}");
    }
}

#[tokio::test]
async fn a_script_is_read_by_sh_and_says_how_it_ended() {
    let devbox = Devbox::prepare("fish", "", "").await;
    let connection = devbox.connect().await;
    let ran = connection.run("printf '%s' \"it's \\\\ x\"; echo no >&2; cat; exit 7").await.unwrap();
    assert_eq!((ran.status, &ran.stdout[..], &ran.stderr[..]), (Some(7), &b"it's \\ x"[..], &b"no\n"[..]));
    assert_eq!(connection.run("kill -9 $$").await.unwrap().status, None);
    let endless = connection.run("while :; do echo more; done").await;
    assert!(matches!(endless, Err(RunError::TooMuch)), "{endless:?}");
    let noisy = connection.run("while [ ${#x} -lt 5000 ]; do x=x$x; echo $x >&2; done; echo last >&2").await.unwrap();
    assert!(noisy.stderr.len() <= 2048 && noisy.stderr.ends_with(b"last\n"), "{noisy:?}");

    let mut echo = connection.stream("exec cat").await.unwrap();
    echo.write_all(b"to and fro").await.unwrap();
    let mut back = [0; 10];
    timeout(PATIENCE, echo.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(&back, b"to and fro");

    // It kills the server's own process.
    assert!(!connection.is_closed());
    let ended = connection.run("kill -9 $PPID; exit").await;
    assert!(matches!(ended, Err(RunError::Ended)), "{ended:?}");
    timeout(PATIENCE, connection.closed()).await.expect("the end is noticed");
    assert!(connection.is_closed());
    let late = connection.run("true").await;
    assert!(matches!(late, Err(RunError::Ended)), "{late:?}");
}

/// Processes of Codex's server in this account, without the package's script.
fn servers(devbox: &Devbox) -> Vec<u32> {
    let all = processes_with(&devbox.account.home).into_iter();
    let servers =
        all.filter(|(_, line)| line.contains("app-server") && line.contains("unix://") && line.contains("/vendor/"));
    servers.map(|(pid, _)| pid).collect()
}

fn kill(signal: &str, pids: &[u32]) {
    let pids = pids.iter().map(u32::to_string);
    let status = std::process::Command::new("kill").arg(signal).args(pids).status().unwrap();
    assert!(status.success(), "kill {signal}: {status}");
}

/// Settings with everything that a shell could trip over.
fn settings() -> Vec<String> {
    vec![
        r#"model="it's \\ $(id) `id` ünï !x * %s""#.to_owned(),
        "model_provider=\"mock\"".to_owned(),
        PROVIDER.to_owned(),
    ]
}

const PROVIDER: &str = r#"model_providers.mock={name="mock",base_url="http://127.0.0.1:9/v1",wire_api="responses",requires_openai_auth=false}"#;

#[tokio::test]
async fn a_started_server_outlives_its_link_is_found_by_the_next_one_and_ended_when_asked() {
    let devbox = Devbox::prepare("zsh", NOISE, "").await;
    let connection = devbox.connect().await;
    let found = connection.inspect().await.unwrap();
    let started = connection.start(&found, &settings()).await.unwrap();
    assert!(started.is_new && started.found.is_ours() && started.found.runs_with(&settings()), "{started:?}");
    assert!(!started.found.runs_with(&settings()[1..]));
    let (stream, _) = connection.open_server(&started.found).await.unwrap();
    assert!(answer(stream).await.starts_with("HTTP/1.1 101 "));
    let one = servers(&devbox);
    assert_eq!(one.len(), 1);
    let line = std::fs::read(format!("/proc/{}/cmdline", one[0])).unwrap();
    let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    assert!(settings().iter().all(|setting| words.iter().any(|word| word == setting)), "{words:?}");

    // The server's own process is killed, and with it the link.
    assert!(matches!(connection.run("kill -9 $PPID").await, Err(RunError::Ended)));
    timeout(PATIENCE, connection.closed()).await.unwrap();
    let connection = devbox.connect().await;
    let found = connection.inspect().await.unwrap();
    assert!(found.runs_with(&settings()), "{found:?}");
    assert_eq!((&found.record, &found.socket), (&started.found.record, &started.found.socket));
    let again = connection.start(&found, &settings()).await.unwrap();
    assert!(!again.is_new && again.found.record == started.found.record, "{again:?}");
    let other = connection.start(&found, &[]).await.unwrap();
    assert!(!other.is_new && !other.found.runs_with(&[]), "{other:?}");
    assert_eq!(servers(&devbox), one);
    let codex = devbox.check().await.ok().event("ssh_codex");
    assert_eq!((&codex["running"], &codex["started_here"]), (&json!(true), &json!(true)), "{codex}");
    for name in ["", "app-server", "app-server.log", "empty"] {
        assert!(is_private(&PathBuf::from(devbox.far(".codex/reachback")).join(name)), "{name}");
    }

    let pid = started.found.record.unwrap().pid;
    let stopped = devbox.stop().await;
    assert_eq!(stopped, json!({"event": "ssh_stopped", "alias": "devbox", "pid": pid, "others": false}));
    assert_eq!(servers(&devbox), [0; 0]);
    assert_eq!(devbox.stop().await["pid"], Value::Null);
    let found = connection.inspect().await.unwrap();
    assert_eq!((found.record, found.is_listening), (None, false));
}

#[tokio::test]
async fn a_server_of_somebody_elses_is_used_and_left_alone() {
    let devbox = Devbox::prepare("bash", "", "").await;
    let mut server = devbox.account.codex(&["app-server", "--listen", "unix://"]).spawn().unwrap();
    let socket = PathBuf::from(devbox.far(".codex/app-server-control/app-server-control.sock"));
    eventually("codex listens", || socket.exists()).await;
    let connection = devbox.connect().await;
    let started = connection.start(&connection.inspect().await.unwrap(), &[]).await.unwrap();
    assert!(!started.is_new && !started.found.is_ours(), "{started:?}");
    assert_eq!(devbox.stop().await, json!({"event": "ssh_stopped", "alias": "devbox", "pid": null, "others": true}));

    // A record that somebody's number has got into: it was born at another time.
    let record = |born: &str| format!("pid={}\nborn={born}\nsettings=x\n", server.id().unwrap());
    for born in ["", "Mon Nov  2 10:00:00 2026", "0 0"] {
        std::fs::write(devbox.far(".codex/reachback/app-server"), record(born)).unwrap();
        assert!(!connection.inspect().await.unwrap().is_ours());
        assert_eq!(devbox.stop().await["pid"], Value::Null);
    }
    assert!(server.try_wait().unwrap().is_none(), "it was ended");
    kill("-TERM", &[server.id().unwrap()]);
    timeout(PATIENCE, server.wait()).await.unwrap().unwrap();
}

#[tokio::test]
async fn two_links_that_start_at_once_start_one_server() {
    let devbox = Devbox::prepare("bash", "", "").await;
    // What a link left that was killed while it started one.
    std::fs::create_dir_all(devbox.far(".codex/reachback/lock")).unwrap();
    std::fs::write(devbox.far(".codex/reachback/lock/by"), "1 long ago").unwrap();
    let (one, two) = (devbox.connect().await, devbox.connect().await);
    let found = one.inspect().await.unwrap();
    let (first, second) = (settings(), settings());
    let (first, second) = tokio::join!(one.start(&found, &first), two.start(&found, &second));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(first.is_new != second.is_new, "{first:?} {second:?}");
    assert_eq!(first.found, second.found);
    assert_eq!(servers(&devbox).len(), 1);
    assert!(!std::fs::exists(devbox.far(".codex/reachback/lock")).unwrap(), "the lock is left");
    assert_eq!(one.stop().await.unwrap().pid, first.found.record.map(|record| record.pid));
}

#[tokio::test]
async fn a_server_that_does_not_start_is_told_in_codexs_words_and_not_recorded() {
    let devbox = Devbox::prepare("fish", "", "").await;
    let connection = devbox.connect().await;
    let found = connection.inspect().await.unwrap();
    let failed = connection.start(&found, &["sandbox_mode=nonsense".to_owned()]).await;
    let Err(BootstrapError::NotStarted { said: Some(said) }) = &failed else { panic!("{failed:?}") };
    assert!(said.starts_with("Error: unknown variant `nonsense`"), "{said}");
    assert_eq!(connection.inspect().await.unwrap().record, None);
    let long = connection.start(&found, &["x".repeat(200_000)]).await;
    assert!(matches!(long, Err(BootstrapError::Run(RunError::TooLong { .. }))), "{long:?}");

    std::fs::remove_dir_all(devbox.far(".codex/reachback")).unwrap();
    std::fs::write(devbox.far(".codex/reachback"), "").unwrap();
    let closed = connection.start(&found, &[]).await;
    assert!(matches!(closed, Err(BootstrapError::ClosedFolder { .. })), "{closed:?}");
    assert_eq!(servers(&devbox), [0; 0]);
}

#[tokio::test]
async fn a_server_that_does_not_end_is_killed_with_what_it_started() {
    let devbox = Devbox::prepare("bash", "", "").await;
    let connection = devbox.connect().await;
    let started = connection.start(&connection.inspect().await.unwrap(), &[]).await.unwrap();
    let record = started.found.record.unwrap();
    kill("-STOP", &[servers(&devbox), vec![record.pid]].concat());
    assert_eq!(connection.stop().await.unwrap().pid, Some(record.pid));
    eventually("both are gone", || servers(&devbox).is_empty()).await;
}
