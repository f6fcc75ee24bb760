//! Which programs may speak at the agent's loopback address.
//!
//! The secret path is known to more than Codex: it stands in its state, which the
//! commands that it runs can read, and in its arguments, which all users can. So
//! where the system tells who holds a connection, only Codex itself is let in.
//!
//! Which process that is shows its first connection: the started program may be a
//! script, and the Codex below it. At that moment it has run no command yet, as it
//! gets every request by a connection to here; later ones are of that same process.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::platform::loopback::{self, Holder, Opener, Socket};
use crate::platform::processes::Process;

/// Shared by those who start Codex and those who listen for it.
#[derive(Debug, Clone, Default)]
pub(super) struct Callers(Arc<Mutex<Admitted>>);

#[derive(Debug, Clone, Default)]
enum Admitted {
    #[default]
    Nobody,
    /// Any program of this user.
    User,
    /// The first process to come of this one and those below it.
    Below(u32),
    /// One process.
    Only(Process),
}

/// Whose connection is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(super) enum Stranger {
    /// Another user's, or nobody's any more.
    #[error("another user's program")]
    User,
    /// This user's.
    #[error("a program that is not the expected codex")]
    Program,
}

impl Callers {
    /// Nobody may, from now on.
    pub(super) fn nobody(&self) {
        *self.lock() = Admitted::Nobody;
    }

    /// Any program of this user may: whose connections Codex's are is not known.
    pub(super) fn user(&self) {
        *self.lock() = Admitted::User;
    }

    /// Only the process that comes first may, of `root` and those below it. To be called before it can have come.
    pub(super) fn started(&self, root: u32) {
        *self.lock() = Admitted::Below(root);
    }

    /// Whether a connection `from` a program on this machine `to` the agent is served.
    pub(super) async fn admit(&self, from: SocketAddr, to: SocketAddr) -> Result<(), Stranger> {
        let (SocketAddr::V4(from), SocketAddr::V4(to)) = (from, to) else { return Err(Stranger::User) };
        match loopback::opener(from, to) {
            Opener::Ours(socket) => self.admit_ours(socket).await,
            Opener::Unknown => Ok(()),
            Opener::Stranger => Err(Stranger::User),
        }
    }

    async fn admit_ours(&self, socket: Socket) -> Result<(), Stranger> {
        let admitted = self.lock().clone();
        let is_let_in = match admitted {
            Admitted::Nobody => false,
            Admitted::User => true,
            Admitted::Below(root) => self.learn(root, socket).await,
            Admitted::Only(process) => is_held_by(socket, &process).await,
        };
        is_let_in.then_some(()).ok_or(Stranger::Program)
    }

    /// Notes which process comes first.
    async fn learn(&self, root: u32, socket: Socket) -> bool {
        let pid = match socket.holder_below(root) {
            Holder::Process(pid) => pid,
            Holder::Nobody => return false,
            Holder::Unknown => {
                tracing::warn!("the system does not tell which process is codex: any of this user's is let in");
                return true;
            }
        };
        let Some(process) = Process::with_id(pid).await else { return false };
        // Another may have come meanwhile, and then it is that one.
        let first = {
            let mut admitted = self.lock();
            match &*admitted {
                Admitted::Below(of) if *of == root => {
                    *admitted = Admitted::Only(process);
                    return true;
                }
                Admitted::Only(first) => first.clone(),
                _ => return false,
            }
        };
        is_held_by(socket, &first).await
    }

    fn lock(&self) -> MutexGuard<'_, Admitted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether this run of a process holds a socket.
async fn is_held_by(socket: Socket, process: &Process) -> bool {
    socket.is_held_by(process.pid).unwrap_or(true) && Process::with_id(process.pid).await.as_ref() == Some(process)
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::process::Stdio;

    use tokio::net::{TcpListener, TcpStream};
    use tokio::process::{Child, Command};

    use super::*;

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let to = listener.local_addr().unwrap();
        (listener, to)
    }

    /// A program that connects there, and again for each line it is sent.
    fn program(to: SocketAddr) -> Child {
        let connect = format!("exec {{fd}}<>/dev/tcp/127.0.0.1/{}", to.port());
        let script = format!("{connect}; while read line; do {connect}; done");
        Command::new("bash").args(["-c", &script]).stdin(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
    }

    async fn again(program: &mut Child) {
        use tokio::io::AsyncWriteExt;
        program.stdin.as_mut().unwrap().write_all(b"again\n").await.unwrap();
    }

    #[tokio::test]
    async fn only_the_process_that_came_first_is_let_in() {
        let (listener, to) = listener().await;
        let callers = Callers::default();
        let mut codex = program(to);
        let (first, from) = listener.accept().await.unwrap();
        assert_eq!(callers.admit(from, to).await, Err(Stranger::Program), "nobody is expected yet");

        callers.started(codex.id().unwrap());
        // A program of this user that knows everything, before Codex comes and after.
        let ours = TcpStream::connect(to).await.unwrap();
        let (_ours, other) = listener.accept().await.unwrap();
        assert_eq!(callers.admit(other, to).await, Err(Stranger::Program));
        assert_eq!(callers.admit(from, to).await, Ok(()));
        assert_eq!(callers.admit(other, to).await, Err(Stranger::Program));
        again(&mut codex).await;
        let (_second, from) = listener.accept().await.unwrap();
        assert_eq!(callers.admit(from, to).await, Ok(()), "the same process once more");

        // The next run is another process.
        let next = program(to);
        let (_third, later) = listener.accept().await.unwrap();
        assert_eq!(callers.admit(later, to).await, Err(Stranger::Program));
        callers.started(next.id().unwrap());
        assert_eq!(callers.admit(later, to).await, Ok(()));
        assert_eq!(callers.admit(from, to).await, Err(Stranger::Program), "the one before is over");
        callers.nobody();
        assert_eq!(callers.admit(later, to).await, Err(Stranger::Program));
        drop((first, ours));
    }

    /// What Codex runs is below it, and may know the secret.
    #[tokio::test]
    async fn what_the_process_starts_is_not_let_in() {
        let (listener, to) = listener().await;
        let callers = Callers::default();
        let port = to.port();
        let script = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{port}; read line; bash -c 'exec 4<>/dev/tcp/127.0.0.1/{port}; read line'; true"
        );
        let mut codex =
            Command::new("bash").args(["-c", &script]).stdin(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let (_first, from) = listener.accept().await.unwrap();
        callers.started(codex.id().unwrap());
        assert_eq!(callers.admit(from, to).await, Ok(()));
        again(&mut codex).await;
        let (_command, from) = listener.accept().await.unwrap();
        assert_eq!(callers.admit(from, to).await, Err(Stranger::Program));
    }

    #[tokio::test]
    async fn where_codex_is_not_started_here_this_user_is_let_in() {
        let (listener, to) = listener().await;
        let callers = Callers::default();
        callers.user();
        let _ours = TcpStream::connect(to).await.unwrap();
        let (_stream, from) = listener.accept().await.unwrap();
        assert_eq!(callers.admit(from, to).await, Ok(()));
    }
}
