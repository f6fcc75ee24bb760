//! Codex is installed on machines that a host reaches over SSH: the real packages, npm and servers.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use e2e::process::{Finished, Home, Process};
use e2e::sshd::{Account, Ssh, Sshd, is_private};
use reachback_host::ssh::{CODEX_VERSION, Discovery, Nobody, Person};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

/// What is needed of a machine, and is in a folder of its own there, so that nothing else is found.
const TOOLS: [&str; 28] = [
    "awk", "cat", "chmod", "cut", "df", "env", "grep", "gzip", "head", "id", "ln", "mkdir", "mv", "nohup", "od", "ps",
    "readlink", "rm", "rmdir", "sed", "sh", "sleep", "tail", "tar", "touch", "tr", "uname", "which",
];

/// A machine called `devbox` without Codex and npm, and somebody who reaches it.
struct Devbox {
    home: Home,
    ssh: Ssh,
    account: Account,
    _server: Sshd,
}

impl Devbox {
    async fn prepare() -> Self {
        let (home, ssh) = (Home::new(), Ssh::prepare());
        let account = Account::prepare(home.folder("far"), "bash", "");
        account.replace_codex(None);
        let server = ssh.server(&format!("{}\nSubsystem sftp $HOME/bin/files", account.sessions())).await;
        ssh.knows(&[&server]);
        ssh.configure(&format!("Host devbox\n  Port {}\n  IdentityFile {}\n", server.port, ssh.at("one")));
        let devbox = Self { home, ssh, account, _server: server };
        std::fs::create_dir(devbox.far("tools")).unwrap();
        TOOLS.iter().for_each(|tool| devbox.link(tool));
        copy_npm_cache(&devbox.npm_cache());
        devbox.finds("$HOME/bin:$HOME/tools");
        devbox
    }

    fn far(&self, name: &str) -> PathBuf {
        self.account.home.join(name)
    }

    /// Where the login shell looks for programs.
    fn finds(&self, path: &str) {
        std::fs::write(self.far(".bash_profile"), format!("export PATH=\"{path}\"\n")).unwrap();
    }

    /// Has a program of this machine there.
    fn link(&self, tool: &str) {
        let path = std::env::var_os("PATH").unwrap();
        let mut found = std::env::split_paths(&path).map(|folder| folder.join(tool)).filter(|path| path.is_file());
        let found = found.next().unwrap_or_else(|| panic!("there is no {tool} here"));
        symlink(found, self.far("tools").join(tool)).unwrap();
    }

    /// Has a script there in the place of a program.
    fn script(&self, tool: &str, script: &str) {
        let _ = std::fs::remove_file(self.far("tools").join(tool));
        std::fs::write(self.far("tools").join(tool), script).unwrap();
        self.account.set_mode(&format!("tools/{tool}"), 0o755);
    }

    /// Has the tool itself there again.
    fn restore(&self, tool: &str) {
        std::fs::remove_file(self.far("tools").join(tool)).unwrap();
        self.link(tool);
    }

    fn command(&self, args: &[&str]) -> Command {
        let config = self.ssh.at("config");
        let mut command = self.home.command(&[&["ssh", "--ssh-config", &config], args].concat());
        command.env("npm_config_cache", self.npm_cache());
        command
    }

    /// The packages that the tests fetched are in it.
    fn npm_cache(&self) -> PathBuf {
        self.home.folder("npm-cache")
    }

    async fn install(&self) -> Finished {
        finished(self.command(&["bootstrap", "devbox", "--install", "--json"])).await
    }

    /// The code, the words and the way on, of what is not installed.
    async fn refused(&self) -> (String, String, String) {
        let refused = self.install().await;
        assert_eq!(refused.code, 1, "{refused:?}");
        let error = refused.event("error");
        let text = |member: &str| error[member].as_str().unwrap().to_owned();
        (text("code"), text("message"), text("fix"))
    }

    async fn found(&self) -> Value {
        finished(self.command(&["check", "devbox", "--json"])).await.ok().event("ssh_codex")
    }

    /// Nothing there is taken for a Codex.
    async fn has_no_codex(&self) {
        let checked = finished(self.command(&["check", "devbox", "--json"])).await;
        assert_eq!(checked.event("error")["code"], "codex_missing", "{checked:?}");
        assert!(self.far(".local/bin/codex").symlink_metadata().is_err(), "a link is there");
        assert!(!self.far(KEPT).join(format!("codex-{CODEX_VERSION}")).exists(), "a folder is there");
    }

    /// An npm for this host that has the package at hand.
    async fn npm_at_hand(&self) -> PathBuf {
        let folder = self.home.folder("at-hand");
        let mut pack = Command::new("npm");
        pack.args(["pack", "--prefer-offline", &format!("@openai/codex@{CODEX_VERSION}-linux-x64")]);
        let packed = finished({
            pack.current_dir(&folder).env("npm_config_cache", self.npm_cache());
            pack
        });
        let packed = packed.await.ok();
        npm_in(&folder, &format!("#!/bin/sh\ncp '{}' .\n", folder.join(packed.out.trim()).display()));
        folder
    }
}

/// What a package of 160 MB may take on a busy machine, from npm to the program.
const LONG: Duration = Duration::from_secs(150);

/// Runs a command to its end.
async fn finished(mut command: Command) -> Finished {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = timeout(LONG, command.output()).await.expect("it ends").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Finished { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// Where Reachback puts a Codex, below the home there.
const KEPT: &str = ".local/share/reachback";

/// What npm here is set up for; `null` for nothing.
fn npm_setting(name: &str) -> String {
    let asked = std::process::Command::new("npm").args(["config", "get", name]).output().unwrap();
    String::from_utf8(asked.stdout).unwrap().trim().to_owned()
}

/// A copy of the cache that the tests' own packages were fetched into. Of several npm that fill one at the same time, one
/// may take out what another has just noted there, and then all that come after fail.
fn copy_npm_cache(to: &Path) {
    let own = Path::new(&npm_setting("cache")).join("_cacache");
    std::fs::create_dir_all(to.join("_cacache")).unwrap();
    let copy = |how: &str, part: &str| {
        let mut copy = std::process::Command::new("cp");
        copy.arg(how).args([own.join(part), to.join("_cacache").join(part)]).status().unwrap().success()
    };
    assert!(copy("-a", "index-v5"), "there is no cache of npm at {}", own.display());
    // What is in there never changes; on another disk it has to be copied.
    assert!(copy("-al", "content-v2") || copy("-a", "content-v2"), "{} can't be copied", own.display());
}

fn npm_in(folder: &Path, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(folder.join("npm"), script).unwrap();
    std::fs::set_permissions(folder.join("npm"), std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A search path of this host that begins with a folder.
fn path_with(folder: &Path) -> std::ffi::OsString {
    let paths = std::env::var_os("PATH").unwrap();
    std::env::join_paths(std::iter::once(folder.to_owned()).chain(std::env::split_paths(&paths))).unwrap()
}

/// The steps of an install, each once.
fn steps(finished: &Finished) -> Vec<String> {
    let events = finished.lines().into_iter().filter(|line| line["event"] == "ssh_installing");
    let mut steps: Vec<_> = events.map(|line| line["step"].as_str().unwrap().to_owned()).collect();
    steps.dedup();
    steps
}

#[tokio::test]
async fn codex_is_sent_to_a_machine_that_has_neither_it_nor_npm() {
    let devbox = Devbox::prepare().await;
    let told = finished(devbox.command(&["bootstrap", "devbox", "--json"])).await;
    let told = told.event("error");
    assert_eq!(told["code"], "codex_missing", "{told}");
    assert!(told["fix"].as_str().unwrap().contains("reachback ssh bootstrap devbox --install"), "{told}");
    assert!(!devbox.far(".local").exists(), "something was put there unasked");

    let installed = devbox.install().await.ok();
    assert_eq!(steps(&installed), ["fetch", "send", "unpack"], "{installed:?}");
    let sent: Vec<_> = installed.lines().into_iter().filter(|line| line["step"] == "send").collect();
    assert!((10..=21).contains(&sent.len()), "{sent:?}");
    assert_eq!(sent.last().unwrap()["done"], sent[0]["total"], "{sent:?}");
    let event = installed.event("ssh_installed");
    assert_eq!((&event["by"], &event["version"]), (&json!("package"), &json!(CODEX_VERSION)), "{event}");
    assert_eq!(event["path_file"], devbox.far(".bash_profile").to_str().unwrap(), "{event}");
    assert!(event["path_line"].as_str().unwrap().contains(".local/bin"), "{event}");

    let codex = devbox.found().await;
    assert_eq!(codex, installed.event("ssh_codex"));
    let link = devbox.far(".local/bin/codex");
    assert_eq!((&codex["program"], &codex["version"]), (&json!(link), &json!(CODEX_VERSION)), "{codex}");
    let kept = devbox.far(KEPT);
    let names: Vec<_> = std::fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [format!("codex-{CODEX_VERSION}").as_str()]);
    assert!(is_private(&kept) && is_private(&kept.join(&names[0])));

    // It is a Codex that works: a server of it starts and ends.
    let nobody: Arc<dyn Person> = Arc::new(Nobody);
    let discovery = Discovery::new(None, Some(devbox.ssh.path("config"))).unwrap();
    let connection = discovery.connect("devbox", &nobody).await.unwrap().unwrap();
    let started = connection.start(&connection.inspect().await.unwrap(), &[]).await.unwrap();
    assert!(started.is_new && connection.inspect().await.unwrap().is_listening, "{started:?}");
    assert!(connection.stop().await.unwrap().pid.is_some());

    let again = devbox.install().await.ok();
    assert!(steps(&again).is_empty() && !again.out.contains("ssh_installed"), "{again:?}");

    // A link that is gone comes back without another package.
    std::fs::remove_file(&link).unwrap();
    devbox.finds("$HOME/.local/bin:$HOME/tools");
    let again = devbox.install().await.ok();
    assert!(steps(&again).is_empty(), "{again:?}");
    assert_eq!(again.event("ssh_installed")["path_line"], Value::Null);
    assert_eq!(devbox.found().await["program"], json!(link));
}

#[tokio::test]
async fn npm_there_installs_codex_where_it_can() {
    let devbox = Devbox::prepare().await;
    ["npm", "node"].iter().for_each(|tool| devbox.link(tool));
    devbox.finds("$HOME/npm/bin:$HOME/tools");
    let (prefix, cache) = (devbox.far("npm"), devbox.npm_cache());
    let mut npmrc = format!("prefix={}\ncache={}\nprefer-offline=true\n", prefix.display(), cache.display());
    // Where the way to the registry has an authority of its own, that machine's npm has to know it, too.
    for setting in ["registry", "cafile"] {
        let value = npm_setting(setting);
        if value != "null" {
            npmrc.push_str(&format!("{setting}={value}\n"));
        }
    }
    std::fs::write(devbox.far(".npmrc"), npmrc).unwrap();
    let installed = devbox.install().await.ok();
    assert_eq!(steps(&installed), ["npm"], "{installed:?}");
    assert_eq!(installed.event("ssh_installed")["by"], "npm");
    let codex = devbox.found().await;
    assert_eq!(codex["program"], json!(devbox.far("npm/bin/codex")), "{codex}");
    assert_eq!(codex["version"], CODEX_VERSION, "{codex}");
    assert!(!devbox.far(".local").exists());
}

#[tokio::test]
async fn an_install_that_is_cut_leaves_nothing_that_is_taken_for_a_codex_and_the_next_one_succeeds() {
    let devbox = Devbox::prepare().await;
    let npm = devbox.npm_at_hand().await;
    let install = || {
        let mut command = devbox.command(&["bootstrap", "devbox", "--install", "--json"]);
        command.env("PATH", path_with(&npm));
        command
    };
    let is_half = |line: &Value| line["step"] == "send" && line["done"].as_u64() > Some(0);

    // Whoever asked for it stops it.
    let mut stopped = Process::spawn("reachback ssh", install());
    stopped.line("a part is there", is_half).await;
    stopped.signal("-TERM");
    assert_eq!(stopped.event("error").await["code"], "interrupted");
    assert_eq!(stopped.exit().await, Some(1));
    assert!(devbox.far(KEPT).join("incoming").is_dir());
    devbox.has_no_codex().await;

    // Its SSH server's own process is killed.
    let mut cut = Process::spawn("reachback ssh", install());
    cut.line("a part is there", is_half).await;
    let files = std::fs::read_to_string(devbox.far("sftp.pid")).unwrap();
    let parent = format!("kill -9 $(ps -o ppid= -p {})", files.trim());
    assert!(std::process::Command::new("sh").args(["-c", &parent]).status().unwrap().success());
    assert_eq!(cut.event("error").await["code"], "install_sftp");
    assert_eq!(cut.exit().await, Some(1));
    devbox.has_no_codex().await;

    // Its disk takes 10 MiB, and no more.
    let files = std::fs::read_to_string(devbox.far("bin/files")).unwrap();
    let full = files.replace("#!/bin/sh\n", "#!/bin/sh\ntrap '' XFSZ\nulimit -f 20480\n");
    std::fs::write(devbox.far("bin/files"), full).unwrap();
    let refused = finished(install()).await;
    assert!(refused.lines().iter().any(is_half), "{refused:?}");
    let error = refused.event("error");
    assert!(error["message"].as_str().unwrap().contains("does not take a file; it says"), "{error}");
    assert!(!devbox.far(KEPT).join("incoming").exists(), "something is left");
    std::fs::write(devbox.far("bin/files"), files).unwrap();

    // It does not unpack, and what it unpacks to does not run.
    for (tar, code, said) in [
        ("#!/bin/sh\necho 'tar: no \\033[31mroom' >&2\nexit 2\n".to_owned(), "install_unpack", "tar: no"),
        (fake_tar("echo killed; exit 9"), "install_not_running", "killed"),
    ] {
        devbox.script("tar", &tar);
        let refused = finished(install()).await.event("error");
        assert_eq!(refused["code"], code, "{refused}");
        assert!(refused["message"].as_str().unwrap().contains(said), "{refused}");
        assert!(!devbox.far(KEPT).join("incoming").exists(), "{code}: something is left");
        devbox.has_no_codex().await;
    }
    devbox.restore("tar");

    // A Codex of ours that was damaged counts for none.
    let kept = devbox.far(KEPT).join(format!("codex-{CODEX_VERSION}"));
    std::fs::create_dir_all(kept.join("vendor")).unwrap();
    let installed = finished(install()).await.ok();
    assert_eq!(installed.event("ssh_codex")["version"], CODEX_VERSION);
    assert!(!devbox.far(KEPT).join("incoming").exists());
}

/// A `tar` that unpacks a Codex of its own.
fn fake_tar(codex: &str) -> String {
    format!(
        "#!/bin/sh\nd=package/vendor/x86_64-unknown-linux-musl/bin\nmkdir -p $d && printf '%s\\n' '#!/bin/sh' '{codex}' >$d/codex && \
         chmod +x $d/codex\n"
    )
}

#[tokio::test]
async fn a_machine_that_can_not_have_codex_is_told_why_before_anything_is_fetched() {
    let devbox = Devbox::prepare().await;
    let refusals = [
        (
            "uname",
            "#!/bin/sh\ncase $1 in -s) echo Linux ;; *) echo riscv64 ;; esac\n",
            "install_unsupported",
            "Linux riscv64",
        ),
        ("uname", "#!/bin/sh\necho MINGW64_NT\n", "install_unsupported", "MINGW64_NT MINGW64_NT"),
        ("df", "#!/bin/sh\necho Filesystem; echo '/dev/sda 99 9 409600 1% /'\n", "install_disk_full", "has 400"),
    ];
    for (tool, script, code, said) in refusals {
        devbox.script(tool, script);
        let (told, message, _) = devbox.refused().await;
        assert!(told == code && message.contains(said), "{told}: {message}");
        devbox.restore(tool);
    }
    for tool in ["tar", "gzip"] {
        std::fs::remove_file(devbox.far("tools").join(tool)).unwrap();
        let (code, message, fix) = devbox.refused().await;
        assert!(code == "install_program_missing" && message.contains(tool), "{code}: {message}");
        assert!(fix.contains("reachback ssh bootstrap devbox --install"), "{fix}");
        devbox.link(tool);
    }

    // npm there may not write: its words are shown, and the host goes on by itself, to what is in the way then.
    devbox.script("npm", "#!/bin/sh\nprintf 'npm error code EACCES\\n\\033[31mno\\n' >&2\nexit 243\n");
    devbox.script("df", "#!/bin/sh\necho Filesystem; echo '/dev/sda 99 9 1 1% /'\n");
    let shown = finished(devbox.command(&["bootstrap", "devbox", "--install"])).await;
    assert!(shown.out.contains("  npm error code EACCES\n  ?[31mno\n") && shown.err.contains("MiB"), "{shown:?}");
    ["npm", "df"].iter().for_each(|tool| std::fs::remove_file(devbox.far("tools").join(tool)).unwrap());
    devbox.link("df");

    std::fs::remove_dir_all(devbox.far(".local")).unwrap();
    std::fs::write(devbox.far(".local"), "").unwrap();
    let (code, message, _) = devbox.refused().await;
    assert!(code == "install_folder" && message.contains(".local/share/reachback"), "{code}: {message}");
    std::fs::remove_file(devbox.far(".local")).unwrap();
    devbox.has_no_codex().await;
}

#[tokio::test]
async fn a_codex_of_somebody_elses_is_never_replaced() {
    let devbox = Devbox::prepare().await;
    let link = devbox.far(".local/bin/codex");
    std::fs::create_dir_all(link.parent().unwrap()).unwrap();
    std::fs::write(&link, "theirs").unwrap();
    let (code, message, fix) = devbox.refused().await;
    assert!(code == "install_taken" && message.contains(link.to_str().unwrap()), "{code}: {message}");
    assert!(fix.contains(&format!("ssh devbox 'rm {}'", link.display())), "{fix}");
    assert_eq!(std::fs::read_to_string(&link).unwrap(), "theirs");
    std::fs::remove_file(&link).unwrap();
    for to in ["/nowhere/codex", "codex-else", &format!("{}x/codex-1/codex", devbox.far(KEPT).display())] {
        symlink(to, &link).unwrap();
        assert_eq!(devbox.refused().await.0, "install_taken", "{to}");
        assert_eq!(std::fs::read_link(&link).unwrap(), Path::new(to));
        std::fs::remove_file(&link).unwrap();
    }

    // An old one that is found first would be found afterwards, too.
    let old = devbox.far("bin/codex");
    std::fs::write(&old, "#!/bin/sh\n[ \"$1\" != app-server ] || exit 2\necho codex-cli 0.40.0\n").unwrap();
    devbox.account.set_mode("bin/codex", 0o755);
    let (code, message, fix) = devbox.refused().await;
    assert!(code == "install_hidden" && message.contains(old.to_str().unwrap()), "{code}: {message}");
    let line = format!("{}” there: export PATH=\"$HOME/.local/bin:$PATH\"", devbox.far(".bash_profile").display());
    assert!(fix.contains(&line), "{fix}");
    assert!(!devbox.far(KEPT).join("incoming").exists());
}

#[tokio::test]
async fn only_the_package_that_is_known_to_the_bit_is_sent() {
    let devbox = Devbox::prepare().await;
    let npm = devbox.home.folder("other");
    for (script, code, said) in [
        ("#!/bin/sh\necho other >codex.tgz\n", "install_other_package", "is not the package"),
        ("#!/bin/sh\n", "install_other_package", "is not the package"),
        (
            "#!/bin/sh\nprintf 'npm error code E404\\nnpm error \\033[31mNot Found\\n' >&2\nexit 1\n",
            "npm_failed",
            "“npm error ?[31mNot Found”",
        ),
    ] {
        npm_in(&npm, script);
        let mut command = devbox.command(&["bootstrap", "devbox", "--install", "--json"]);
        command.env("PATH", path_with(&npm));
        let refused = finished(command).await;
        assert!(refused.code == 1 && steps(&refused) == ["fetch"], "{refused:?}");
        let error = refused.event("error");
        assert_eq!(error["code"], code, "{error}");
        assert!(error["message"].as_str().unwrap().contains(said), "{error}");
        devbox.has_no_codex().await;
    }
    // Without npm at either end nobody fetches it.
    std::fs::remove_file(npm.join("npm")).unwrap();
    symlink(["/usr/bin/ssh", "/bin/ssh"].iter().find(|ssh| Path::new(ssh).is_file()).unwrap(), npm.join("ssh"))
        .unwrap();
    let mut command = devbox.command(&["bootstrap", "devbox", "--install", "--json"]);
    command.env("PATH", &npm);
    let refused = finished(command).await.event("error");
    assert_eq!(refused["code"], "npm_missing", "{refused}");
    devbox.has_no_codex().await;
}

#[tokio::test]
async fn what_an_older_install_left_goes_once_nothing_runs_from_it() {
    let devbox = Devbox::prepare().await;
    devbox.finds("$HOME/.local/bin:$HOME/tools");
    devbox.link("node");
    let kept = devbox.far(KEPT);
    let old = |version: &str| kept.join(format!("codex-{version}"));
    let place = |version: &str| {
        let folder = old(version).join("vendor/x86_64-unknown-linux-musl/bin");
        std::fs::create_dir_all(&folder).unwrap();
        folder
    };
    // The version of this Reachback is there, without its link; the link is still the one of a version before.
    symlink(e2e::codex::program(), place(CODEX_VERSION).join("codex")).unwrap();
    let too_old = place("0.40.0").join("codex");
    std::fs::write(&too_old, "#!/bin/sh\n[ \"$1\" != app-server ] || exit 2\necho codex-cli 0.40.0\n").unwrap();
    std::fs::set_permissions(&too_old, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::create_dir_all(devbox.far(".local/bin")).unwrap();
    let link = devbox.far(".local/bin/codex");
    symlink(&too_old, &link).unwrap();
    // Something runs from that one, and nothing from another. What is not Reachback's has another name, or is no folder.
    let tool = place("0.40.0").join("tool");
    std::fs::copy("/bin/sleep", &tool).unwrap();
    let mut running = Command::new(&tool).arg("1000").kill_on_drop(true).spawn().unwrap();
    place("0.39.0");
    std::fs::create_dir_all(kept.join("codex-mine")).unwrap();
    symlink(devbox.far("bin"), old("0.1.0")).unwrap();

    // Where nobody says what runs, nothing goes.
    let swept = |finished: &Finished| finished.lines().into_iter().find(|line| line["event"] == "ssh_swept");
    let installed = devbox.install().await.ok();
    assert_eq!(installed.event("ssh_installed")["version"], CODEX_VERSION, "{installed:?}");
    let told = swept(&installed).unwrap();
    assert_eq!((&told["removed"], &told["kept"]), (&json!([]), &json!(["0.39.0", "0.40.0"])), "{told}");
    devbox.link("ls");
    let again = devbox.install().await.ok();
    assert!(!again.out.contains("ssh_installed"), "{again:?}");
    let told = swept(&again).unwrap();
    assert_eq!((&told["removed"], &told["kept"]), (&json!(["0.39.0"]), &json!(["0.40.0"])), "{told}");
    assert!(!old("0.39.0").exists() && too_old.exists());
    let shown = finished(devbox.command(&["stop", "devbox"])).await.ok();
    let by_hand = "Codex 0.40.0. It goes with the next: reachback ssh stop devbox; or by hand: ssh devbox 'rm -rf \
                   ~/.local/share/reachback/codex-0.40.0'";
    assert!(shown.out.contains(by_hand), "{shown:?}");

    running.kill().await.unwrap();
    let stopped = finished(devbox.command(&["stop", "devbox", "--json"])).await.ok();
    assert_eq!(swept(&stopped).unwrap()["removed"], json!(["0.40.0"]), "{stopped:?}");
    assert!(!old("0.40.0").exists());
    for stays in [old(CODEX_VERSION), kept.join("codex-mine"), old("0.1.0").join("files")] {
        assert!(stays.exists(), "{} is gone", stays.display());
    }
    // Nor does the version that another host has the link lead to, nor anything while an install is under way.
    let newer = place("9.0.0").join("codex");
    std::fs::remove_file(&link).unwrap();
    symlink(&newer, &link).unwrap();
    place("0.38.0");
    std::fs::create_dir_all(kept.join("incoming")).unwrap();
    let stopped = finished(devbox.command(&["stop", "devbox", "--json"])).await.ok();
    assert_eq!(swept(&stopped), None, "{stopped:?}");
    std::fs::remove_dir_all(kept.join("incoming")).unwrap();
    let stopped = finished(devbox.command(&["stop", "devbox", "--json"])).await.ok();
    assert_eq!(swept(&stopped).unwrap()["removed"], json!(["0.38.0"]), "{stopped:?}");
    assert!(newer.parent().unwrap().exists());
}
