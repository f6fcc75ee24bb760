//! Where an SSH agent listens: a socket of this user's, or on Windows a named pipe. Windows has not been tried.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use russh::keys::agent::client::{AgentClient, AgentStream};

/// A client of an agent, whatever carries it.
pub(crate) type Agent = AgentClient<Box<dyn AgentStream + Send + Unpin>>;

/// Where the agent of Windows' own OpenSSH listens.
const PIPE: &str = r"\\.\pipe\openssh-ssh-agent";

/// Where the agent listens of who names none; `None` where there is none.
pub(crate) fn usual() -> Option<PathBuf> {
    usual_of(std::env::var_os("SSH_AUTH_SOCK"), cfg!(windows))
}

fn usual_of(named: Option<OsString>, is_windows: bool) -> Option<PathBuf> {
    named.or_else(|| is_windows.then(|| PIPE.into())).map(PathBuf::from)
}

/// The agent that listens there.
#[cfg(unix)]
pub(crate) async fn connect(at: &Path) -> Option<Agent> {
    Some(AgentClient::connect_uds(at).await.ok()?.dynamic())
}

/// The agent that listens there.
#[cfg(windows)]
pub(crate) async fn connect(at: &Path) -> Option<Agent> {
    Some(AgentClient::connect_named_pipe(at).await.ok()?.dynamic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_has_an_agent_that_nobody_has_to_name() {
        assert_eq!(usual_of(None, false), None);
        assert_eq!(usual_of(None, true), Some(PIPE.into()));
        for is_windows in [false, true] {
            assert_eq!(usual_of(Some("/run/agent".into()), is_windows), Some("/run/agent".into()));
        }
    }
}
