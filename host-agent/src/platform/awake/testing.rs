//! A stand-in for systemd-logind on a bus of its own, which a real `dbus-daemon` serves: what there is of logind in a
//! test needs no machine that could sleep. The real one is asked in `tests/e2e/soak/services.rs`.

use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use futures_util::StreamExt;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use zbus::connection::Builder;
use zbus::message::Type;
use zbus::{Connection, Fd, Message, MessageStream};

const PATIENCE: Duration = Duration::from_secs(30);
const DENIED: &str = "org.freedesktop.DBus.Error.AccessDenied";

/// Whom it lets do what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rules {
    Everything,
    IdleOnly,
    Nothing,
    /// It fails.
    Broken,
}

/// What somebody asked for: what from, who, why, and how.
type Inhibitor = (String, String, String, String);

/// See the module's header.
pub(crate) struct Logind {
    address: String,
    held: watch::Receiver<Vec<Inhibitor>>,
    bus: Option<Connection>,
    _serves: Option<AbortOnDropHandle<()>>,
    _daemon: Child,
    _folder: TempDir,
}

impl Logind {
    /// One that is there.
    pub(crate) async fn start(rules: Rules) -> Self {
        let mut logind = Self::only_a_bus().await;
        logind.appears(rules).await;
        logind
    }

    /// It comes to a bus on which it was not.
    pub(crate) async fn appears(&mut self, rules: Rules) {
        let bus = Builder::address(&*self.address).build().await.expect("the bus is there");
        // Hears what is asked as soon as it has the name.
        let calls = MessageStream::from(&bus);
        bus.request_name("org.freedesktop.login1").await.expect("nobody has the name");
        let (held_out, held) = watch::channel(Vec::new());
        self.held = held;
        self.bus = Some(bus.clone());
        self._serves = Some(AbortOnDropHandle::new(tokio::spawn(serve(bus, calls, rules, held_out))));
    }

    /// A bus without one.
    pub(crate) async fn only_a_bus() -> Self {
        let folder = tempfile::tempdir().expect("there is room");
        let place = format!("--address=unix:dir={}", folder.path().display());
        let mut daemon = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--nopidfile", "--print-address=1", &place])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // It complains where it may not raise its limits.
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("dbus-daemon runs");
        let mut lines = BufReader::new(daemon.stdout.take().expect("it was asked for")).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.expect("the bus does not say where it is");
        let address = line.expect("it can be read").expect("the bus ended");
        let (_, held) = watch::channel(Vec::new());
        Self { address, held, bus: None, _serves: None, _daemon: daemon, _folder: folder }
    }

    /// Where it is asked.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The locks that are held now.
    pub(crate) async fn held(&self) -> Vec<Inhibitor> {
        self.held.borrow().clone()
    }

    /// Says that the machine is about to sleep, or is awake.
    pub(crate) async fn says(&self, sleeps: bool) {
        prepare(self.bus.as_ref().expect("it is there"), None, sleeps).await;
    }

    /// Somebody else says so, to each program on the bus by itself.
    pub(crate) async fn stranger_says(&self, sleeps: bool) {
        let stranger = Builder::address(&*self.address).build().await.expect("the bus is there");
        let bus = Some("org.freedesktop.DBus");
        let names = stranger.call_method(bus, "/org/freedesktop/DBus", bus, "ListNames", &()).await;
        let names: Vec<String> = names.expect("it is a bus").body().deserialize().expect("names");
        for name in names.iter().filter(|name| name.starts_with(':')) {
            prepare(&stranger, Some(name), sleeps).await;
        }
        stranger.close().await.expect("the bus is there");
    }

    /// Waits until so many are held.
    pub(crate) async fn holds(&self, count: usize) {
        let mut held = self.held.clone();
        let waited = timeout(PATIENCE, held.wait_for(|held| held.len() == count)).await;
        if waited.is_err() {
            panic!("{count} locks were waited for; held are {:?}", self.held.borrow());
        }
    }
}

async fn prepare(bus: &Connection, to: Option<&str>, sleeps: bool) {
    let interface = "org.freedesktop.login1.Manager";
    let said = bus.emit_signal(to, "/org/freedesktop/login1", interface, "PrepareForSleep", &sleeps).await;
    said.expect("the bus is there");
}

async fn serve(bus: Connection, mut calls: MessageStream, rules: Rules, held: watch::Sender<Vec<Inhibitor>>) {
    let mut locks = JoinSet::new();
    loop {
        tokio::select! {
            Some(message) = calls.next() => {
                let message = message.expect("the bus is there");
                if let Some((wanted, file)) = answer(&bus, &message, rules).await {
                    held.send_modify(|held| held.push(wanted.clone()));
                    locks.spawn(closed(wanted, file));
                }
            }
            Some(closed) = locks.join_next() => {
                let given_up = closed.expect("it only reads");
                held.send_modify(|held| {
                    let at = held.iter().position(|held| *held == given_up);
                    held.remove(at.expect("it was held"));
                });
            }
        }
    }
}

/// Returns once every copy of the other end was closed.
async fn closed(wanted: Inhibitor, mut file: Receiver) -> Inhibitor {
    let mut nothing = Vec::new();
    file.read_to_end(&mut nothing).await.expect("a pipe can be read");
    wanted
}

/// Answers who asks for a lock.
async fn answer(bus: &Connection, message: &Message, rules: Rules) -> Option<(Inhibitor, Receiver)> {
    let call = message.header();
    if message.message_type() != Type::MethodCall || call.member()?.as_str() != "Inhibit" {
        return None;
    }
    let wanted: Inhibitor = message.body().deserialize().expect("four words");
    let refused = match rules {
        Rules::Everything => None,
        Rules::IdleOnly => (wanted.0 != "idle").then_some((DENIED, "not you")),
        Rules::Nothing => Some((DENIED, "not you")),
        Rules::Broken => Some(("org.freedesktop.DBus.Error.Failed", "out of order")),
    };
    if let Some((name, words)) = refused {
        bus.reply_error(&call, name, &words).await.expect("the bus is there");
        return None;
    }
    let (ours, theirs) = std::io::pipe().expect("there are files left");
    let ours = Receiver::from_owned_fd(OwnedFd::from(ours)).expect("it is a pipe");
    bus.reply(&call, &Fd::from(OwnedFd::from(theirs))).await.expect("the bus is there");
    Some((wanted, ours))
}
