//! Keeps a `codex remote-control` running that comes to this agent.
//!
//! The address is kept as long as the agent runs; the Codex is started anew when it ends, or stays away. Each time it opens
//! a socket without saying where it goes on, it has just started: another run, which knows no connection of before.
//! Where the owner wishes it ([`super::redirect`]), none is started, and [`visits`] waits for one of somebody else's.

mod visits;

use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::ws::{Message, WebSocket};
use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt, future};
use reachback_proto::words::quote;
use ring::rand::SystemRandom;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::RemoteControlConfig;
use super::callers::Callers;
use super::clients::Clients;
use super::enrolment::{self, Enrolment};
use super::http::{self, Parts, Sockets};
use super::reception::Reception;
use super::redirect::RedirectError;
use super::upstream::Upstream;
use crate::backoff::Backoff;
use crate::codex::config::HomeError;
use crate::codex::ground::Hold;
use crate::codex::process::{Process, SpawnError, install};
use crate::codex::supervision::{HEALTHY, Ledger, RESTARTS, START_DEADLINE, STARTED_ANEW, idle_for_long, reason};
use crate::codex::{Adapter, CodexState, Instance, StartedBy, Text};
use crate::link::way_out::WayOut;
use crate::state::timestamp::Timestamp;

/// A Codex without a socket for so long has been given up by all its clients ([`super::clients::GRACE`]), and is started anew.
const AWAY: Duration = super::clients::GRACE;

/// Why one that has a socket is of no use.
const DOES_NOT_ANSWER: &str = "codex has a connection to the agent, but does not answer";

/// What Codex says of a remote control that can't be: without a sign-in with ChatGPT it ends at once.
const REFUSED: &str = "the connection is errored";

/// Codex could not be started with its remote control.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
enum OpenError {
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error(transparent)]
    Address(#[from] enrolment::OpenError),
    #[error(transparent)]
    Upstream(#[from] RedirectError),
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error("codex did not come to the agent, and did nothing to be seen for {} s", START_DEADLINE.as_secs())]
    Late,
    #[error("codex ended while starting ({status}){}", said.as_ref().map(|s| format!(": {}", quote(s))).unwrap_or_default())]
    Ended { status: ExitStatus, said: Option<String> },
}

impl OpenError {
    /// What a person can do about it.
    fn fix(&self) -> Option<String> {
        match self {
            Self::Home(error) => Some(error.fix()),
            Self::Upstream(error) => error.fix(),
            Self::Spawn(SpawnError::NotFound { .. }) => Some(install()),
            Self::Ended { said: Some(said), .. } if said.contains(REFUSED) => Some(
                "sign in with ChatGPT, which remote control needs: codex login; or leave `--codex remote-control` out"
                    .to_owned(),
            ),
            Self::Ended { .. } => Some("see what it says: codex remote-control --no-daemon".to_owned()),
            _ => None,
        }
    }
}

pub(super) struct Supervisor {
    config: RemoteControlConfig,
    clients: Clients,
    callers: Callers,
    reception: Reception,
    state: watch::Sender<CodexState>,
    /// Which run of Codex has a socket here; `None` before its first.
    run: watch::Sender<Option<Instance>>,
    /// When anything came from it last.
    heard: watch::Sender<tokio::time::Instant>,
    stop: CancellationToken,
    ledger: Ledger,
}

/// A Codex that came.
struct Server {
    process: Process,
    version: Option<String>,
}

impl Supervisor {
    pub(super) fn new(
        config: RemoteControlConfig,
        clients: Clients,
        reception: Reception,
        state: watch::Sender<CodexState>,
        stop: CancellationToken,
    ) -> Self {
        let ledger = Ledger::new(config.codex.note.clone());
        Self {
            config,
            clients,
            callers: Callers::default(),
            reception,
            state,
            run: watch::Sender::new(None),
            heard: watch::Sender::new(tokio::time::Instant::now()),
            stop,
            ledger,
        }
    }

    pub(super) async fn run(self) {
        self.ledger.end_earlier().await;
        let mut backoff = Backoff::new(RESTARTS);
        while !self.stop.is_cancelled() {
            self.state.send_replace(CodexState::Starting);
            let redirect = self.config.redirect.as_ref();
            match (Enrolment::open(&self.config.home).await, redirect) {
                (Ok((enrolment, listener)), Some(redirect)) if *redirect.wanted().borrow() => {
                    self.receive(redirect, enrolment, listener).await;
                }
                (Ok((enrolment, listener)), _) => match redirect.map(|redirect| redirect.upstream()).transpose() {
                    Ok(upstream) => self.have_own(enrolment, listener, upstream).await,
                    Err(error) => {
                        self.failed(&error.into());
                        pause(&self.stop, &mut backoff).await;
                    }
                },
                (Err(error), _) => {
                    self.failed(&error.into());
                    pause(&self.stop, &mut backoff).await;
                }
            }
        }
        self.clients.forget_all();
        self.state.send_replace(CodexState::Stopped);
    }

    /// Has a Codex of the agent's own, until the agent stops or the owner wishes to wait for another.
    async fn have_own(&self, enrolment: Enrolment, listener: TcpListener, upstream: Option<Upstream>) {
        let until = self.stop.child_token();
        let base_url = enrolment.base_url();
        let parts = self.parts(enrolment, upstream);
        let keeping = async {
            match &self.config.redirect {
                Some(redirect) => tokio::select! {
                    () = self.until_wanted(redirect, true) => {}
                    () = until.cancelled() => {}
                },
                None => until.cancelled().await,
            }
            until.cancel();
        };
        // Answers that are on their way at the end are waited for.
        tokio::join!(http::serve(parts, listener, until.clone()), self.keep(&base_url, &until), keeping);
    }

    fn parts(&self, enrolment: Enrolment, upstream: Option<Upstream>) -> Parts {
        let (callers, sockets) = (self.callers.clone(), self.sockets());
        // As a Codex of the agent's own would take it.
        let way_out = WayOut::of(|name| self.config.codex.variable(name));
        Parts {
            enrolment,
            callers,
            host: Arc::new(self.reception.clone()),
            sockets,
            upstream: upstream.map(|upstream| upstream.through(way_out)),
            clock: Arc::new(Timestamp::now),
        }
    }

    /// What is done with a socket that Codex opens.
    fn sockets(&self) -> Sockets {
        let (clients, run, heard) = (self.clients.clone(), self.run.clone(), self.heard.clone());
        Arc::new(move |socket, cursor| {
            let (clients, run, heard) = (clients.clone(), run.clone(), heard.clone());
            async move {
                heard.send_replace(tokio::time::Instant::now());
                if cursor.is_none() || run.borrow().is_none() {
                    clients.forget_all();
                    let Some(instance) = Instance::random(&SystemRandom::new()) else {
                        tracing::error!("codex can't be served: the operating system gave no randomness");
                        return;
                    };
                    run.send_replace(Some(instance));
                }
                clients.serve(texts(socket, heard), cursor.as_ref().map(|cursor| &*cursor.0)).await;
            }
            .boxed()
        })
    }

    /// Keeps a Codex running.
    async fn keep(&self, base_url: &str, until: &CancellationToken) {
        let mut backoff = Backoff::new(RESTARTS);
        while !until.is_cancelled() {
            self.state.send_replace(CodexState::Starting);
            // Dropping a start that is under way kills its child.
            let started = tokio::select! {
                () = until.cancelled() => break,
                started = self.start(base_url) => started,
            };
            match started {
                Ok(server) => {
                    let since = Instant::now();
                    self.watch(server, until).await;
                    if since.elapsed() >= HEALTHY {
                        backoff.reset();
                    }
                }
                Err(error) => {
                    self.callers.nobody();
                    let (reason, fix) = self.config.codex.or_full_disk(reason(&error), error.fix()).await;
                    self.say_failed(reason, fix);
                }
            }
            pause(until, &mut backoff).await;
        }
    }

    fn failed(&self, error: &OpenError) {
        self.say_failed(reason(error), error.fix());
    }

    fn say_failed(&self, reason: String, fix: Option<String>) {
        tracing::info!(reason, fix, "codex is not running");
        self.state.send_replace(CodexState::Failed { reason, fix, code: None });
    }

    /// Starts one, and waits until it has come.
    async fn start(&self, base_url: &str) -> Result<Server, OpenError> {
        let codex = &self.config.codex;
        let home = codex.home_for_start()?;
        let hold = match &codex.ground {
            Some(ground) => ground.hold(codex).await,
            None => Hold::default(),
        };
        self.clients.forget_all();
        self.run.send_replace(None);
        let mut run = self.run.subscribe();
        let came = async { run.wait_for(Option::is_some).await.is_ok() };
        let mut process = Process::remote_control(codex, &hold, base_url)?;
        match process.id() {
            Some(id) => self.callers.started(id),
            None => self.callers.nobody(),
        }
        self.ledger.note(&process, None).await;
        let (_, version) = tokio::select! {
            (came, version) = async { tokio::join!(came, codex.version()) } => (came, version?),
            status = process.ended() => {
                let said = process.last_words().await;
                return Err(status.map_or(OpenError::Late, |status| OpenError::Ended { status, said }));
            }
            () = idle_for_long(&home) => return Err(OpenError::Late),
        };
        Ok(Server { process, version })
    }

    /// Says which run is ready, and returns when the Codex has ended, stays away, or is to end.
    async fn watch(&self, server: Server, until: &CancellationToken) {
        let Server { mut process, version } = server;
        let mut run = self.run.subscribe();
        loop {
            let Some(instance) = *run.borrow_and_update() else { break };
            tracing::info!(adapter = %Adapter::RemoteControl, version, %instance, "codex is ready");
            let started_by = StartedBy::Agent;
            let ready = CodexState::Ready { version: version.clone(), started_by, instance };
            tokio::select! {
                () = until.cancelled() => break,
                () = self.attend(ready) => {
                    tracing::warn!(adapter = %Adapter::RemoteControl, %instance, "codex does not answer: it is ended");
                    break;
                }
                _ = process.ended() => {
                    tracing::warn!(adapter = %Adapter::RemoteControl, %instance, "codex ended");
                    break;
                }
                () = self.stays_away(AWAY) => {
                    tracing::warn!(adapter = %Adapter::RemoteControl, %instance, "codex stays away");
                    break;
                }
                changed = run.changed() => if changed.is_err() { break },
            }
        }
        if !self.stop.is_cancelled() {
            self.state.send_replace(CodexState::Starting);
        }
        self.callers.nobody();
        self.clients.forget_all();
        process.end().await;
        self.ledger.forget();
    }

    /// Says that a Codex is ready, and when it falls silent. Ends when one that the agent started has been silent for too long.
    async fn attend(&self, ready: CodexState) {
        let CodexState::Ready { started_by, .. } = ready else { return };
        let mut heard = self.heard.subscribe();
        loop {
            self.state.send_replace(ready.clone());
            self.falls_silent().await;
            heard.mark_unchanged();
            tracing::warn!(adapter = %Adapter::RemoteControl, %started_by, "codex does not answer");
            let fix = match started_by {
                StartedBy::Agent => STARTED_ANEW,
                StartedBy::Others => {
                    "quit the Codex App and open it again, or restart the codex remote-control that you started"
                }
            };
            let (reason, fix) = (DOES_NOT_ANSWER.to_owned(), Some(fix.to_owned()));
            self.state.send_replace(CodexState::Failed { reason, fix, code: None });
            // The sender lives as long as this does.
            let again = heard.changed();
            if started_by == StartedBy::Others {
                let _ = again.await;
            } else if timeout(self.config.codex.silence.ended_after, again).await.is_err() {
                return;
            }
            tracing::info!(adapter = %Adapter::RemoteControl, "codex answers again");
        }
    }

    /// How long it may say nothing: one that is well pings its socket every 10 s (measured on 0.169.0).
    fn silence(&self) -> Duration {
        let silence = self.config.codex.silence;
        silence.ask_after + silence.told_after
    }

    /// Ends when nothing has come for long from a Codex that has a socket.
    async fn falls_silent(&self) {
        let mut connected = self.clients.connected();
        loop {
            let _ = connected.wait_for(|connected| *connected).await;
            let until = *self.heard.borrow() + self.silence();
            if until <= tokio::time::Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    /// Ends when Codex has had no socket for so long.
    async fn stays_away(&self, long: Duration) {
        let mut connected = self.clients.connected();
        loop {
            // The sender lives as long as the clients do.
            let _ = connected.wait_for(|connected| !connected).await;
            if timeout(long, connected.wait_for(|connected| *connected)).await.is_err() {
                return;
            }
        }
    }
}

/// Waits before the next try.
async fn pause(until: &CancellationToken, backoff: &mut Backoff) {
    tokio::select! {
        () = until.cancelled() => {}
        () = tokio::time::sleep(backoff.delay(&SystemRandom::new(), false)) => {}
    }
}

/// The texts in a socket; anything else in it is left out, and `heard`.
fn texts(
    socket: WebSocket,
    heard: watch::Sender<tokio::time::Instant>,
) -> impl Stream<Item = Result<Text, axum::Error>> + Sink<Text, Error = axum::Error> + Unpin {
    let of_text = |message| match message {
        Ok(Message::Text(text)) => Some(Ok(Text::from(text.as_str()))),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    };
    Box::pin(
        socket
            .filter_map(move |message| {
                heard.send_replace(tokio::time::Instant::now());
                future::ready(of_text(message))
            })
            .with(|text: Text| future::ok::<_, axum::Error>(Message::Text(text.as_str().into()))),
    )
}
