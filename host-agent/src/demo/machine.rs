//! A machine for the demo that is reached over SSH: another account, in a folder of its own, behind a real SSH server.
//!
//! The server speaks on the pipes of a `ProxyCommand` (`sshd -i`), so it listens nowhere and ends with its connection. It lets
//! in one key that is made for it, and runs everything as this user in the account's folder, with a `CODEX_HOME` and a project
//! that are not the host's.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use reachback_proto::words::{quote, shell_word};
use reachback_relay::files::replace;
use tokio::process::Command;

use super::home::{DemoHome, PrepareError};
use crate::platform::dirs::beside;
use crate::platform::{files, programs};

/// What the demo's SSH configuration calls it.
pub const ALIAS: &str = "devbox";

/// Where systems have the server, which is rarely on a person's search path.
const SERVERS: [&str; 3] = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/opt/homebrew/sbin/sshd"];
/// Where they have the one for files.
const FILE_SERVERS: [&str; 4] = [
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/lib/ssh/sftp-server",
];

/// The machine could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// A program is not there.
    #[error("there is no `{0}` on this computer, which the demo's machine needs")]
    Missing(&'static str),
    /// It did not make a key.
    #[error("ssh-keygen made no key: {0}")]
    NoKey(String),
    /// Codex's folders there could not be made.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// A file could not be written.
    #[error("could not write {}", quote(path.display()))]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// See the module's header.
#[derive(Debug)]
pub struct DemoMachine {
    home: DemoHome,
}

/// Where the machine's SSH configuration is, in the home of a demo.
pub fn config_in(home: &Path) -> PathBuf {
    folder_in(home).join("config")
}

fn folder_in(home: &Path) -> PathBuf {
    home.join("demo").join("machine")
}

impl DemoMachine {
    /// Makes it, or renews it, for a Codex whose model is at `model`.
    pub async fn prepare(home: &Path, codex: &Path, model: SocketAddr) -> Result<Self, MachineError> {
        let server = program("sshd", &SERVERS)?;
        let file_server = program("sftp-server", &FILE_SERVERS)?;
        let keygen = programs::find("ssh-keygen").ok_or(MachineError::Missing("ssh-keygen"))?;
        let (folder, account) = (folder_in(home), beside(home, "-machine"));
        for path in [&folder, &account, &account.join("bin")] {
            files::private_dir(path).map_err(|error| failed(path)(io::Error::other(error)))?;
        }
        let codex_home = DemoHome::prepare(&folder, &account.join("project"), model)?;
        for key in ["host_key", "key"] {
            make_key(&keygen, &folder.join(key)).await?;
        }
        let write = |path: PathBuf, text: String| replace(&path, text.as_bytes()).map_err(failed(&path));
        let link = account.join("bin").join("codex");
        let _ = std::fs::remove_file(&link);
        link_to(codex, &link).map_err(failed(&link))?;
        // After what the system's own profile makes of it.
        let path = programs::search_path().unwrap_or_default();
        write(account.join(".profile"), profile(&account, codex_home.codex_home(), &path))?;
        write(folder.join("enter"), enter(&account))?;
        write(folder.join("sshd_config"), server_config(&folder, &file_server))?;
        let public =
            std::fs::read_to_string(folder.join("host_key.pub")).map_err(failed(&folder.join("host_key.pub")))?;
        write(folder.join("known_hosts"), format!("{ALIAS} {public}"))?;
        write(config_in(home), client_config(&folder, &server))?;
        // Of a server that runs as root; its service makes it elsewhere.
        let _ = std::fs::create_dir("/run/sshd");
        Ok(Self { home: codex_home })
    }

    /// The folder to work in there.
    pub fn project(&self) -> &Path {
        self.home.project()
    }
}

/// Takes the machine's name out of the demo's SSH configuration: whoever starts the demo without it does not see it.
pub fn hide(home: &Path) -> io::Result<()> {
    match std::fs::remove_file(config_in(home)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> MachineError + use<> {
    let path = path.to_owned();
    move |source| MachineError::Write { path, source }
}

fn program(name: &'static str, places: &[&str]) -> Result<PathBuf, MachineError> {
    let known = places.iter().map(PathBuf::from).find(|path| path.is_file());
    known.or_else(|| programs::find(name)).ok_or(MachineError::Missing(name))
}

/// Makes a key without a passphrase, unless it is there.
async fn make_key(keygen: &Path, key: &Path) -> Result<(), MachineError> {
    if key.is_file() {
        return Ok(());
    }
    let mut command = Command::new(keygen);
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", "reachback-demo", "-f"]).arg(key);
    let made = command.stdin(Stdio::null()).output().await.map_err(|error| MachineError::NoKey(error.to_string()))?;
    match made.status.success() {
        true => Ok(()),
        false => Err(MachineError::NoKey(String::from_utf8_lossy(&made.stderr).trim().to_owned())),
    }
}

#[cfg(unix)]
fn link_to(program: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(program, link)
}

#[cfg(not(unix))]
fn link_to(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// What the login shell there does first.
fn profile(account: &Path, codex_home: &Path, path: &str) -> String {
    let path = format!("{}:{path}", account.join("bin").display());
    format!("PATH={}\nCODEX_HOME={}\nexport PATH CODEX_HOME\n", shell_word(path), shell_word(codex_home.display()))
}

/// What the server runs in place of whatever is asked for: the same, as the account, without this one's environment.
fn enter(account: &Path) -> String {
    let home = shell_word(account.display());
    format!(
        "cd {home} || exit 1\n\
         exec env -i HOME={home} SHELL=/bin/sh PATH=/usr/bin:/bin LANG=C.UTF-8 /bin/sh -c \"$SSH_ORIGINAL_COMMAND\"\n"
    )
}

fn server_config(folder: &Path, file_server: &Path) -> String {
    let at = |name: &str| quoted(&folder.join(name));
    format!(
        "HostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nAllowTcpForwarding local\nX11Forwarding no\nAllowAgentForwarding no\n\
         Subsystem sftp {}\nForceCommand /bin/sh {}\n",
        at("host_key"),
        at("key.pub"),
        file_server.display(),
        shell_word(folder.join("enter").display()),
    )
}

fn client_config(folder: &Path, server: &Path) -> String {
    let at = |name: &str| quoted(&folder.join(name)).replace('%', "%%");
    let command =
        format!("{} -i -e -f {}", shell_word(server.display()), shell_word(folder.join("sshd_config").display()));
    format!(
        "# Made anew by each `reachback up --demo --ssh`.\nHost {ALIAS}\n  HostName {ALIAS}\n  ProxyCommand {}\n  \
         IdentityFile {}\n  IdentitiesOnly yes\n  UserKnownHostsFile {}\n  GlobalKnownHostsFile none\n",
        command.replace('%', "%%"),
        at("key"),
        at("known_hosts"),
    )
}

/// A path as one word of OpenSSH's files.
pub(crate) fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('\\', "\\\\").replace('"', "\\\""))
}
