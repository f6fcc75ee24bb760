//! The blind relay of Reachback.
//!
//! Hosts dial out to it and stay connected; devices come, and the relay splices
//! the two. What it forwards is encrypted between host and device, so it knows
//! who talks to whom, when, and about how much, and nothing else.
//!
//! ```text
//!   listener ─▶ http (page, health, metrics) ─▶ tunnel: greet ─▶ host | data | device
//!                                                        │              │
//!                                            store, directory ◀──── hub ┴─▶ circuit
//! ```
//!
//! - [`Config`] says everything; [`Relay::start`] is the one way to run a relay,
//!   for the `reachback-relay` program, for `reachback up`, and for tests.
//! - `tunnel` owns links, `directory` knows who is online, in `hub` links meet,
//!   `store` remembers hosts, device lists and enrolment keys. A host is let in by its key, which it made
//!   known once with an [`EnrollKey`]; a device, when its host lists it.
//! - Every task is owned by the relay's lifecycle and ends with it.

pub mod accepting;
pub mod arguments;
mod attempts;
pub mod bursts;
mod config;
mod directory;
mod door;
mod enroll;
pub mod files;
pub mod health;
mod http;
mod hub;
mod identity;
mod lifecycle;
mod limits;
mod link;
pub mod link_waker;
mod listener;
pub mod log;
pub mod manual;
mod metrics;
mod names;
mod peer;
mod proxy_protocol;
mod quic;
mod refusal;
pub mod service;
pub mod signals;
mod state;
mod store;
mod tls;
mod tunnel;
pub mod vital;

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reachback_proto::ids::RelayId;
use reachback_proto::words::quote;
use ring::rand::SystemRandom;
use tokio::net::TcpListener;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsAcceptor;
use url::Url;

pub use config::{Config, ConfigError, DEFAULT_LISTEN, Limits, Quic, Tls};
pub use enroll::EnrollError;
pub use identity::IdentityError;
pub use quic::QuicError;
pub use reachback_proto::control::EnrollKey;
pub use store::{OpenError, StoreError};
pub use tls::TlsError;

use crate::attempts::Attempts;
use crate::directory::{Directory, InMemory};
use crate::door::Door;
use crate::enroll::Enrollment;
use crate::http::Page;
use crate::hub::Hub;
use crate::lifecycle::Lifecycle;
use crate::limits::ms;
use crate::metrics::Metrics;
use crate::names::Names;
use crate::state::{State, unix_now};
use crate::vital::{Gone, Vital};

/// How often the relay tidies up: expired keys and rendezvous, full token buckets.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// How long the last packets of QUIC connections may take when the relay stops.
const QUIC_GOODBYE: Duration = Duration::from_millis(500);

/// Why a relay did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration can't be used.
    #[error("the configuration can't be used")]
    Config(#[from] ConfigError),
    /// The data directory can't be used.
    #[error("data directory {} can't be used", quote(path.display()))]
    Data {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another relay uses the data directory.
    #[error("another relay runs on data directory {}: stop it, or choose another directory", quote(path.display()))]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// There is no identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// There is no database.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// TLS can't be used as configured.
    #[error("TLS can't be used as configured")]
    Tls(#[from] TlsError),
    /// QUIC can't be offered, and was asked for.
    #[error("QUIC can't be offered: use --quic auto to go on without it")]
    Quic(#[from] QuicError),
    /// The address can't be listened on.
    #[error("can't listen on {listen}")]
    Bind {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The first enrolment key could not be made.
    #[error(transparent)]
    Enroll(#[from] EnrollError),
}

impl StartError {
    /// What a person can do about it, where that is known.
    pub fn fix(&self) -> Option<String> {
        let Self::Bind { listen, source } = self else { return None };
        let at = |port| SocketAddr::new(listen.ip(), port);
        match source.kind() {
            io::ErrorKind::AddrInUse => Some(format!(
                "another program is there already, perhaps another relay: end it, or listen elsewhere; --listen {} takes a \
                 free port",
                at(0)
            )),
            io::ErrorKind::PermissionDenied => Some(format!(
                "ports below 1024 are for root, and for services that are allowed to: take --listen {}, or install it as a \
                 service (`reachback-relay install`)",
                at(DEFAULT_LISTEN.port())
            )),
            io::ErrorKind::AddrNotAvailable => Some(format!(
                "this computer has no such address: --listen {} listens on all that it has",
                SocketAddr::new(unspecified(listen), listen.port())
            )),
            _ => None,
        }
    }
}

/// All addresses, of the family of this one.
fn unspecified(listen: &SocketAddr) -> IpAddr {
    if listen.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

/// A relay that runs. Dropping it cuts every link; [`Relay::shutdown`] ends them in order.
pub struct Relay {
    state: Arc<State>,
    local_addr: SocketAddr,
    url: Url,
    quic: Option<quinn::Endpoint>,
    enroll_file: Option<PathBuf>,
    /// Held for as long as the relay runs.
    _lock: File,
}

impl Relay {
    /// Starts a relay; when this returns it answers.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        config.validate()?;
        let data_error = |source| StartError::Data { path: config.data.clone(), source };
        files::private_dir(&config.data).map_err(data_error)?;
        let lock = lock(&config.data)?;
        let identity = identity::load_or_create(&config.data.join("identity.json"))?;
        let store = store::open(&config).await?;
        let names = Names::new(&config);
        let tls = tls_config(&config, &identity, &names)?;

        let listen = config.listen;
        let bind_error = |source| StartError::Bind { listen, source };
        let listener = TcpListener::bind(listen).await.map_err(bind_error)?;
        let local_addr = listener.local_addr().map_err(bind_error)?;
        let quic = quic_endpoint(&config, local_addr, &identity, tls.clone())?;
        let tls = tls.map(|tls| TlsAcceptor::from(Arc::new(tls)));
        let url = url(&config, local_addr);

        let file = config.enroll_file.then(|| config.data.join("enroll-key"));
        let enrollment = Enrollment::new(file, config.limits.enroll_key_ms / 1000);
        let enroll_file = enrollment.refresh(&*store, unix_now()).await?;
        let directory: Arc<dyn Directory> = Arc::new(InMemory::new(config.limits.clone(), unix_now));
        let state = Arc::new(State {
            relay_id: RelayId::of(&identity.public()),
            identity,
            store,
            hub: Arc::new(Hub::new(directory.clone(), &config.limits)),
            directory,
            metrics: Arc::new(Metrics::new()),
            lifecycle: Lifecycle::default(),
            attempts: Attempts::new(&config.limits),
            names,
            enrollment,
            rng: SystemRandom::new(),
            at_restart: OnceLock::new(),
            config,
        });
        let router = http::router(state.clone(), Page::new(&url, &state.relay_id));
        let door = Door::new(state.limits(), state.metrics.clone());
        let accepting = listener::accept(state.clone(), door.clone(), listener, tls, router);
        state.lifecycle.spawn_vital("the relay's listener", accepting);
        if let Some(endpoint) = quic.clone() {
            state.lifecycle.spawn_vital("the relay's QUIC listener", quic::accept(state.clone(), door, endpoint));
        }
        state.lifecycle.spawn_vital("the relay's housekeeping", keep_house(state.clone()));
        tracing::info!(%url, fingerprint = %state.relay_id, quic = quic.is_some(), "relay started");
        Ok(Self { state, local_addr, url, quic, enroll_file, _lock: lock })
    }

    /// The address that is listened on, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The address that hosts and devices use.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// What peers pin.
    pub fn fingerprint(&self) -> RelayId {
        self.state.relay_id
    }

    /// The file with an enrolment key, if [`Config::enroll_file`] asks for one and no host has enrolled yet.
    pub fn enroll_file(&self) -> Option<&Path> {
        self.enroll_file.as_deref()
    }

    /// A key with which one host can enrol, for an hour.
    pub async fn create_enroll_key(&self) -> Result<EnrollKey, EnrollError> {
        enroll::create(&*self.state.store, unix_now(), self.state.enrollment.lifetime()).await
    }

    /// The tasks without which it is no relay. End it when one is gone.
    pub fn vital(&self) -> &Vital {
        self.state.lifecycle.vital()
    }

    /// Runs until `stop`, or until a vital task is gone, and ends in order; the task, if one was gone then.
    pub async fn run_until(&self, stop: impl Future<Output = ()>) -> Result<(), Gone> {
        tokio::select! {
            // What is asked for is no failure, whatever falls with it.
            biased;
            () = stop => {}
            _ = self.vital().failed() => {}
        }
        self.shutdown().await;
        self.vital().failure().map_or(Ok(()), Err)
    }

    /// Ends in order: tells every peer when to come back, closes, and after the grace period cuts what is left.
    pub async fn shutdown(&self) {
        tracing::info!("relay stops");
        self.state.lifecycle.shutdown(ms(self.state.limits().shutdown_grace_ms)).await;
        if let Some(quic) = &self.quic {
            // What was not closed is, and the packets that say so leave.
            quic.close(quinn::VarInt::from_u32(0), b"");
            let _late = timeout(QUIC_GOODBYE, quic.wait_idle()).await;
        }
        self.state.store.close().await;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.state.lifecycle.abort();
    }
}

/// Writes a new enrolment key into the data directory of a relay, which may be running. Returns the file.
pub async fn write_enroll_key(config: &Config) -> Result<PathBuf, StartError> {
    let data = &config.data;
    if !store::is_there(config) {
        let source = io::Error::new(io::ErrorKind::NotFound, "no relay has been started on it");
        return Err(StartError::Data { path: data.clone(), source });
    }
    let store = store::open(config).await?;
    let now = unix_now();
    let path = data.join(format!("enroll-key-{now}-{}", std::process::id()));
    enroll::create_file(&*store, &path, now, config.limits.enroll_key_ms / 1000).await?;
    store.close().await;
    Ok(path)
}

/// Two relays on one directory would each know half of who is online.
fn lock(data: &Path) -> Result<File, StartError> {
    let data_error = |source| StartError::Data { path: data.to_owned(), source };
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).open(data.join("lock")).map_err(data_error)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StartError::Locked { path: data.to_owned() }),
        Err(TryLockError::Error(source)) => Err(data_error(source)),
    }
}

fn tls_config(
    config: &Config,
    identity: &reachback_proto::crypto::keys::Identity,
    names: &Names,
) -> Result<Option<rustls::ServerConfig>, TlsError> {
    Ok(Some(match &config.tls {
        _ if config.is_plain() => return Ok(None),
        Tls::Files { cert, key } => tls::from_files(cert, key)?,
        Tls::Auto | Tls::Generated | Tls::Off => {
            let (names, addresses) = names.subjects();
            tls::from_identity(identity, names, addresses)?
        }
    }))
}

/// The QUIC socket beside the listener's, if there is to be one and it can be had.
fn quic_endpoint(
    config: &Config,
    address: SocketAddr,
    identity: &reachback_proto::crypto::keys::Identity,
    tls: Option<rustls::ServerConfig>,
) -> Result<Option<quinn::Endpoint>, StartError> {
    let Some(tls) = tls.filter(|_| config.offers_quic()) else { return Ok(None) };
    match quic::bind(address, identity, tls, &config.limits) {
        Ok(endpoint) => Ok(Some(endpoint)),
        Err(error) if config.quic == Quic::On => Err(StartError::Quic(error)),
        Err(error) => {
            tracing::warn!(%error, "no QUIC; hosts and devices use WebSockets");
            Ok(None)
        }
    }
}

fn url(config: &Config, local_addr: SocketAddr) -> Url {
    let scheme = if config.is_plain() { "http" } else { "https" };
    config
        .public_url
        .clone()
        .unwrap_or_else(|| format!("{scheme}://{local_addr}").parse().expect("a scheme and a socket address are a URL"))
}

async fn keep_house(state: Arc<State>) {
    let mut rounds = interval(HOUSEKEEPING);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = rounds.tick() => {}
            () = state.lifecycle.soft().cancelled() => return,
        }
        state.attempts.prune();
        if state.directory.prune_pairings(Instant::now()).await.is_err() {
            tracing::error!("rendezvous that are over could not be forgotten");
        }
        if let Err(error) = state.store.prune(unix_now()).await {
            tracing::error!(%error, "expired enrolment keys could not be forgotten");
        }
        if let Err(error) = state.enrollment.refresh(&*state.store, unix_now()).await {
            tracing::error!(%error, "the enrolment key file could not be renewed");
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_relay_without_a_vital_task_ends_in_order_and_says_which() {
        let folder = tempfile::tempdir().unwrap();
        let config =
            Config { data: folder.path().join("data"), listen: ([127, 0, 0, 1], 0).into(), ..Config::default() };
        let relay = Relay::start(config.clone()).await.unwrap();
        relay.state.lifecycle.spawn_vital("the test's task", async { panic!("no more") });
        let ended = timeout(Duration::from_secs(60), relay.run_until(std::future::pending())).await;
        let gone = ended.expect("it goes on as if nothing were missing").unwrap_err();
        assert_eq!(gone.to_string(), "the test's task panicked, which is a bug: no more");
        assert!(relay.state.lifecycle.soft().is_cancelled(), "it stops");
        drop(relay);

        let relay = Relay::start(config).await.unwrap();
        relay.run_until(std::future::ready(())).await.expect("what is asked for is no failure");
    }
}
