//! Real SSH servers, agents and keys of one person, on loopback.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// What a login shell of an account's says and does before it is any use.
pub const NOISE: &str =
    "echo 'Welcome to devbox'\necho 'disk is 91 %% full' >&2\nread -r answer\nprintf 'bye, or not'\n";

/// Where Debian has it; it has to be started by its whole path.
const SSHD: &str = "/usr/sbin/sshd";

/// A folder with keys, a configuration, and what is known of machines.
pub struct Ssh {
    dir: TempDir,
    user: String,
}

/// A server that runs until it is dropped.
pub struct Sshd {
    _child: Child,
    /// Where it listens on 127.0.0.1.
    pub port: u16,
}

/// Somebody's home on the machine that a server stands for, with a login shell and Codex on the path of that alone.
pub struct Account {
    /// Their home.
    pub home: PathBuf,
}

impl Account {
    /// With this login shell (`bash`, `zsh`, `fish`), in an empty folder. `first` is what its configuration does first.
    pub fn prepare(home: PathBuf, shell: &str, first: &str) -> Self {
        let write = |name: &str, text: &str| {
            let path = home.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let bin = home.join("bin");
        let path = format!("{}:/usr/bin:/bin", bin.display());
        let exported = format!("{first}\nexport PATH='{path}'\n");
        write(".bash_profile", &exported);
        write(".zprofile", &exported);
        write(".config/fish/config.fish", &format!("{first}\nset -gx PATH {}\n", path.replace(':', " ")));
        // As sshd does it for whoever has this shell.
        let variables = format!("HOME='{}' SHELL=/usr/bin/{shell} PATH=/usr/bin:/bin", home.display());
        let enter = format!("#!/bin/sh\nexec env {variables} /usr/bin/{shell} -c \"$SSH_ORIGINAL_COMMAND\"\n");
        write("enter", &enter);
        // A file server says who it is, and can be held up.
        let files = "#!/bin/sh\necho $$ >\"$HOME/sftp.pid\"\nif [ -e \"$HOME/sftp.held\" ]; then exec sleep 1000; fi\n\
                     exec /usr/lib/openssh/sftp-server\n";
        write("bin/files", files);
        write(".codex/config.toml", "check_for_update_on_startup = false\n");
        std::os::unix::fs::symlink(crate::codex::program(), bin.join("codex")).unwrap();
        let account = Self { home };
        account.set_mode("enter", 0o755);
        account.set_mode("bin/files", 0o755);
        account
    }

    /// What a server's configuration says so that sessions are theirs.
    pub fn sessions(&self) -> String {
        format!("ForceCommand {}", self.home.join("enter").display())
    }

    /// The same Codex, run by the test.
    pub fn codex(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.home.join("bin/codex"));
        command.args(args).env_remove("CODEX_HOME").env("HOME", &self.home).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// A program in the place of Codex, or nothing.
    pub fn replace_codex(&self, with: Option<&str>) {
        std::fs::remove_file(self.home.join("bin/codex")).unwrap();
        if let Some(script) = with {
            std::fs::write(self.home.join("bin/codex"), script).unwrap();
            self.set_mode("bin/codex", 0o755);
        }
    }

    /// Who may do what with a file.
    pub fn set_mode(&self, name: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(self.home.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// An agent that runs until it is dropped.
pub struct SshAgent {
    _child: Child,
    /// Its socket.
    pub socket: PathBuf,
}

impl Ssh {
    /// With `one` (ed25519), `two` (ecdsa), `three` (rsa), which servers let in, and the key `host` of servers.
    pub fn prepare() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let user = std::process::Command::new("id").arg("-un").output().unwrap().stdout;
        let ssh = Self { dir, user: String::from_utf8(user).unwrap().trim().to_owned() };
        for (name, kind) in [("one", "ed25519"), ("two", "ecdsa"), ("three", "rsa"), ("host", "ed25519")] {
            ssh.key(name, kind, "");
        }
        ssh.lets_in(&["one", "two", "three"]);
        ssh
    }

    /// Whose user the servers' sessions are.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// A file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its path, for a configuration.
    pub fn at(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// What a file holds.
    pub fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Writes a file.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Runs `ssh-keygen`.
    pub fn keygen(&self, args: &[&str]) -> String {
        let mut command = std::process::Command::new("ssh-keygen");
        let done = command.args(args).current_dir(self.dir.path()).stdin(Stdio::null()).output().unwrap();
        assert!(done.status.success(), "ssh-keygen {args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    /// Makes a key; its public half, `kind base64`.
    pub fn key(&self, name: &str, kind: &str, passphrase: &str) -> String {
        self.keygen(&["-q", "-t", kind, "-N", passphrase, "-C", "", "-f", name]);
        self.public(name)
    }

    /// A key's public half.
    pub fn public(&self, name: &str) -> String {
        self.text(&format!("{name}.pub")).trim().to_owned()
    }

    /// SHA-256 of a key, as `ssh-keygen -l` says it.
    pub fn fingerprint(&self, name: &str) -> String {
        let said = self.keygen(&["-l", "-f", &format!("{name}.pub")]);
        said.split(' ').nth(1).unwrap().to_owned()
    }

    /// Who is let in by every server.
    pub fn lets_in(&self, names: &[&str]) {
        let keys: String = names.iter().map(|name| format!("{}\n", self.public(name))).collect();
        self.write("authorized_keys", &keys);
    }

    /// Starts a server with the key `host`, and more lines of configuration.
    pub async fn server(&self, more: &str) -> Sshd {
        self.server_called(Path::new(SSHD), more).await
    }

    /// The same under another name, which is its service's for PAM.
    pub async fn server_under(&self, name: &str, more: &str) -> Sshd {
        let program = self.path(name);
        std::os::unix::fs::symlink(SSHD, &program).unwrap();
        self.server_called(&program, more).await
    }

    async fn server_called(&self, program: &Path, more: &str) -> Sshd {
        let port = free_port();
        // Of a keyword that comes twice, the first counts.
        let config = format!(
            "{more}\nPort {port}\nListenAddress 127.0.0.1\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nHostKey {}\n",
            self.at("authorized_keys"),
            self.at("host"),
        );
        let file = format!("sshd-{port}");
        self.write(&file, &config);
        // Of Debian's sshd, when it is root; its service makes it.
        let _ = std::fs::create_dir("/run/sshd");
        let log = std::fs::File::create(self.path(&format!("{file}.log"))).unwrap();
        let mut command = Command::new(program);
        command.arg("-D").arg("-e").arg("-f").arg(self.path(&file));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{SSHD}: {error} (Debian: apt install openssh-server)"));
        let waiting = async {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
                assert!(child.try_wait().unwrap().is_none(), "sshd: {}", self.text(&format!("{file}.log")));
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(crate::PATIENCE, waiting).await.expect("sshd listens");
        Sshd { _child: child, port }
    }

    /// Starts an agent that has this key.
    pub async fn agent(&self, key: &str) -> SshAgent {
        let socket = self.path("agent.sock");
        let mut command = Command::new("ssh-agent");
        command.arg("-D").arg("-a").arg(&socket).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().unwrap();
        // The socket is there before anybody listens on it.
        let is_listening = || std::os::unix::net::UnixStream::connect(&socket).is_ok();
        crate::eventually("the agent listens", is_listening).await;
        let added = std::process::Command::new("ssh-add").arg(self.path(key)).env("SSH_AUTH_SOCK", &socket).output();
        assert!(added.unwrap().status.success(), "ssh-add {key}");
        SshAgent { _child: child, socket }
    }

    /// Has the server's key known.
    pub fn knows(&self, servers: &[&Sshd]) {
        let key = self.public("host");
        let lines: String = servers.iter().map(|server| format!("[127.0.0.1]:{} {key}\n", server.port)).collect();
        self.write("known_hosts", &lines);
    }

    /// Writes the configuration: `hosts`, and what holds for all of them.
    pub fn configure(&self, hosts: &str) -> PathBuf {
        let all = format!(
            "{hosts}\nHost *\n  HostName 127.0.0.1\n  User {}\n  UserKnownHostsFile {}\n  GlobalKnownHostsFile none\n  \
             IdentityAgent none\n  IdentityFile {}\n",
            self.user,
            self.at("known_hosts"),
            self.at("none"),
        );
        self.write("config", &all);
        self.path("config")
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Whether the file can be read by its user alone.
pub fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().unwrap().permissions().mode() & 0o077 == 0
}
