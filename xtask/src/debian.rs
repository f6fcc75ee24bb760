//! Programs that the tests drive and that neither cargo nor npm brings.
//!
//! They are installed only where nobody minds: as root or in continuous
//! integration, with apt-get. Anywhere else the person gets the line to run.

use std::process::{Command, Stdio};

use anyhow::bail;

use crate::process;

/// A program and the package that has it.
struct Tool {
    program: &'static str,
    /// Has it say something about itself, and end well.
    probe: &'static [&'static str],
    package: &'static str,
}

/// What tests use: tmux plays the person at the terminal, Chromium the one with a phone, OpenSSH both ends of a way to another
/// machine, dbus-daemon the way to a logind, the shells those that somebody logs into there, and tinyproxy what stands between an
/// office and the world, where TLS is spoken with it by stunnel.
const TOOLS: &[Tool] = &[
    Tool { program: "tmux", probe: &["-V"], package: "tmux" },
    Tool { program: "ssh", probe: &["-V"], package: "openssh-client" },
    Tool { program: "/usr/sbin/sshd", probe: &["-V"], package: "openssh-server" },
    Tool { program: "chromium", probe: &["--version"], package: "chromium" },
    Tool { program: "dbus-daemon", probe: &["--version"], package: "dbus-daemon" },
    Tool { program: "zsh", probe: &["--version"], package: "zsh" },
    Tool { program: "fish", probe: &["--version"], package: "fish" },
    Tool { program: "tinyproxy", probe: &["-v"], package: "tinyproxy-bin" },
    Tool { program: "stunnel", probe: &["-version"], package: "stunnel4" },
];

/// What the tests that only root can run use: a module of PAM, whose service such a test adds, and what makes networks.
const OF_ROOT: &[Tool] = &[
    Tool {
        program: "sh",
        probe: &["-c", "ls /usr/lib/*/security/pam_pwdfile.so /usr/lib64/security/pam_pwdfile.so 2>/dev/null | grep ."],
        package: "libpam-pwdfile",
    },
    Tool { program: "ip", probe: &["-V"], package: "iproute2" },
];

/// What the tests of containers use: an engine with networks of its own, what makes a Debian folder to run in one, and what
/// makes a place for a compose program of Python's.
const OF_CONTAINERS: &[Tool] = &[
    Tool { program: "podman", probe: &["--version"], package: "podman" },
    Tool { program: "runc", probe: &["--version"], package: "runc" },
    Tool { program: "/usr/lib/podman/netavark", probe: &["--version"], package: "netavark" },
    Tool { program: "/usr/lib/podman/aardvark-dns", probe: &["--version"], package: "aardvark-dns" },
    Tool { program: "catatonit", probe: &["--version"], package: "catatonit" },
    Tool { program: "iptables", probe: &["--version"], package: "iptables" },
    Tool { program: "mmdebstrap", probe: &["--version"], package: "mmdebstrap" },
    Tool { program: "python3", probe: &["-c", "import venv, ensurepip"], package: "python3-venv" },
];

/// Sees to it that every tool is there; `ci` allows installing without being root.
pub(crate) fn ensure(ci: bool) -> anyhow::Result<()> {
    let System { apt, root } = System::this();
    ensure_all(TOOLS.iter().chain(OF_ROOT.iter().filter(|_| apt && root)).collect(), ci)
}

/// The same for what the tests of containers use.
pub(crate) fn ensure_containers(ci: bool) -> anyhow::Result<()> {
    ensure_all(OF_CONTAINERS.iter().collect(), ci)
}

/// How packages get onto this system.
struct System {
    apt: bool,
    root: bool,
}

impl System {
    fn this() -> Self {
        Self {
            apt: process::answer(Command::new("apt-get").arg("--version")).is_some(),
            root: process::answer(Command::new("id").arg("-u")).as_deref() == Some("0"),
        }
    }
}

fn ensure_all(wanted: Vec<&Tool>, ci: bool) -> anyhow::Result<()> {
    let System { apt, root } = System::this();
    let is_there = |tool: &Tool| process::answer(Command::new(tool.program).args(tool.probe)).is_some();
    let missing: Vec<_> = wanted.iter().filter(|tool| !is_there(tool)).collect();
    if missing.is_empty() {
        let names: Vec<_> = wanted.iter().map(|tool| tool.package).collect();
        eprintln!("{}: there.", names.join(", "));
        return Ok(());
    }
    let packages: Vec<_> = missing.iter().map(|tool| tool.package).collect();

    if !apt || !(root || ci) {
        bail!("the tests need {}. Run:\n\n    {}\n", packages.join(", "), by_hand(apt, &packages));
    }
    process::run(apt_get(root).arg("update"))?;
    process::run(apt_get(root).args(["install", "-y", "--no-install-recommends"]).args(&packages))
}

/// The one line that installs the packages.
fn by_hand(apt: bool, packages: &[&str]) -> String {
    let packages = packages.join(" ");
    match (apt, cfg!(target_os = "macos")) {
        (true, _) => format!("sudo apt-get install -y {packages}"),
        (false, true) => format!("brew install {packages}"),
        (false, false) => format!("(with this system's package manager) install {packages}"),
    }
}

/// `apt-get` that asks nothing, through sudo where needed.
fn apt_get(root: bool) -> Command {
    let mut command = if root {
        Command::new("env")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["--non-interactive", "env"]);
        sudo
    };
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet"]).stdin(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_to_run_names_every_package() {
        assert_eq!(by_hand(true, &["tmux", "openssh-server"]), "sudo apt-get install -y tmux openssh-server");
    }

    #[test]
    fn sudo_never_waits_for_a_password() {
        assert_eq!(
            process::line(apt_get(false).arg("update")),
            "sudo --non-interactive env DEBIAN_FRONTEND=noninteractive apt-get --quiet update"
        );
        assert!(process::line(&apt_get(true)).starts_with("env "));
    }
}
