//! Dialling the relay and being let in.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use reachback_proto::claims::{self, ProofRole};
use reachback_proto::close::CloseCode;
use reachback_proto::control::{CIRCUIT_TLS_BUFFER, EnrollKey, PeerToRelay, RelayToPeer, welcome_transcript};
use reachback_proto::crypto::keys::{self, Identity, KeyError};
use reachback_proto::endpoint::Endpoint;
use reachback_proto::ids::{BootId, HostId, PublicKey, RelayId, RendezvousId};
use reachback_proto::pairing::Origin;
use reachback_proto::version;
use reachback_proto::words::quote;
use ring::rand::SystemRandom;
use rustls::pki_types::ServerName;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::ByteStream;
use super::authorities::AuthorityError;
use super::circuit::{Circuit, RelayCircuit};
use super::dial::{self, DialError};
use super::proxy::ProxyError;
use super::quic::QuicConnection;
use super::tls::{self, TlsSetupError};
use super::transport::{Closed, Received, Transport};
use super::transports::{Plan, TransportChoice, TransportKind, Transports};
use super::ws;

/// Dialling, TLS and the hello together: beyond this a path is as good as dead.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long QUIC is tried alone. On a path of 150 ms each way its two round trips are over then.
const QUIC_HEAD_START: Duration = Duration::from_millis(300);

/// How long the hello may take over QUIC where a WebSocket may be tried instead: there are ways that let the beginning of
/// a connection pass and drop what follows. Together with the handshake it is less than two seconds.
const QUIC_HELLO: Duration = Duration::from_millis(1_500);

/// Which relay is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayTrust {
    /// The one with this key.
    Pinned(RelayId),
    /// One whose fingerprint starts like this, as a pairing URL says.
    Prefix(Vec<u8>),
    /// Any: the caller learns its key and has it confirmed end to end (a typed code), or uses it for the first time
    /// (enrolment).
    Learn,
}

impl RelayTrust {
    /// Whether this relay is accepted.
    pub fn admits(&self, relay: &RelayId) -> bool {
        match self {
            Self::Pinned(pinned) => pinned == relay,
            Self::Prefix(prefix) => relay.starts_with(prefix),
            Self::Learn => true,
        }
    }
}

/// Where the relay is, and which one it has to be.
#[derive(Debug, Clone)]
pub struct RelayAddress {
    /// Scheme, host and port.
    pub origin: Origin,
    /// Which key it must have.
    pub trust: RelayTrust,
    /// What may carry connections to it.
    pub transports: Transports,
}

/// Who is calling.
#[derive(Debug)]
pub enum Caller<'a> {
    /// A host's control connection.
    Host {
        /// The host's identity.
        identity: &'a Identity,
        /// This run of the agent.
        boot: BootId,
        /// The one-time key, until the relay knows the host.
        enroll_key: Option<EnrollKey>,
    },
    /// A host's data connection.
    HostData {
        /// The host's identity.
        identity: &'a Identity,
        /// This run of the agent.
        boot: BootId,
    },
    /// A paired device.
    Device {
        /// The device's identity at this host.
        identity: &'a Identity,
        /// The host.
        host: HostId,
        /// Only to hear about presence.
        watch_only: bool,
    },
    /// A device that wants to pair.
    Pairing {
        /// Derived from the secret.
        rendezvous: RendezvousId,
    },
}

/// The relay could not be reached, or did not let us in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// No connection.
    #[error("cannot reach the relay at {origin}: {source}")]
    Unreachable {
        /// Where it was looked for.
        origin: String,
        /// Why.
        source: DialError,
    },
    /// The proxy that the environment names does not lead there.
    #[error("cannot reach the relay at {origin} through the proxy {proxy}: {source}")]
    Proxy {
        /// Where the relay was looked for.
        origin: String,
        /// Host and port of the proxy.
        proxy: String,
        /// Why, and what to do.
        source: ProxyError,
    },
    /// Nobody whom this computer trusts vouches for the certificate.
    #[error(
        "cannot reach the relay at {0}: its certificate is of an authority that this computer does not trust; if it is one \
         of your own, or of a proxy that may read along, name a file with the authority's certificate in CODEX_CA_CERTIFICATE"
    )]
    Untrusted(String),
    /// A file that names authorities is not to be used.
    #[error("cannot reach the relay at {origin}: {why}")]
    Authorities {
        /// Where it was looked for.
        origin: String,
        /// Which file, and why.
        why: String,
    },
    /// A connection, and no TLS on it.
    #[error("cannot reach the relay at {origin}: {}", quote(source))]
    NoTls {
        /// Where it was looked for.
        origin: String,
        /// Why.
        source: io::Error,
    },
    /// No QUIC, and nothing else was to be tried.
    #[error("cannot reach the relay at {origin} over QUIC: {}", quote(source))]
    NoQuic {
        /// Where it was looked for.
        origin: String,
        /// Why.
        source: DialError,
    },
    /// No QUIC, which goes past the proxy that the environment names.
    #[error(
        "cannot reach the relay at {origin} over QUIC, which goes past the proxy {proxy}: {}; leave out --transport, and \
         it goes through the proxy",
        quote(source)
    )]
    NoQuicPastProxy {
        /// Where the relay was looked for.
        origin: String,
        /// Host and port of the proxy.
        proxy: String,
        /// Why.
        source: DialError,
    },
    /// QUIC towards a relay that has no TLS.
    #[error("there is no QUIC to {origin}, as the relay there has no TLS")]
    PlainQuic {
        /// Where it is.
        origin: String,
    },
    /// Nothing came in time.
    #[error("the relay at {0} does not answer")]
    TimedOut(String),
    /// TLS is not set up.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
    /// The connection failed once it was there.
    #[error("the connection to the relay failed: {}", quote(.0))]
    Connection(#[from] io::Error),
    /// Something that is not this protocol.
    #[error("the relay does not speak this protocol: {0}")]
    Protocol(&'static str),
    /// It has another key than the one pinned.
    #[error("this is not the relay that was paired with: its fingerprint is {0}")]
    WrongRelay(RelayId),
    /// It said no.
    #[error("the relay refused: {message}")]
    Refused {
        /// Why.
        code: CloseCode,
        /// In its own words.
        message: String,
        /// When to try again.
        retry_after: Option<Duration>,
    },
    /// Keys failed.
    #[error("keys failed: {0}")]
    Key(#[from] KeyError),
    /// The proof could not be made.
    #[error("the proof of our key could not be made")]
    Proof(#[from] claims::ProofError),
}

impl RelayError {
    /// When to try again, where the relay said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether nothing came any more, so that it may be the way that fails and not the relay.
    pub(crate) fn is_silence(&self) -> bool {
        match self {
            Self::TimedOut(_) => true,
            Self::Connection(error) => error.kind() == io::ErrorKind::TimedOut,
            _ => false,
        }
    }
}

/// A connection to the relay, let in: frames, and later a circuit.
pub struct RelayConnection {
    transport: Box<dyn Transport>,
    relay_key: PublicKey,
    carrier: Carrier,
}

/// What carries a connection.
#[derive(Debug, Clone)]
pub(crate) enum Carrier {
    /// TCP, all of its own.
    Wss {
        /// Why it is not QUIC, where that was wanted.
        without_quic: Option<String>,
    },
    /// A stream of this.
    Quic(QuicConnection),
}

impl Carrier {
    /// In a word.
    pub(crate) fn kind(&self) -> TransportKind {
        match self {
            Self::Wss { .. } => TransportKind::Wss,
            Self::Quic(_) => TransportKind::Quic,
        }
    }

    /// Why it is not QUIC, where that was wanted.
    pub(crate) fn without_quic(&self) -> Option<&str> {
        match self {
            Self::Wss { without_quic } => without_quic.as_deref(),
            Self::Quic(_) => None,
        }
    }
}

/// The relay, before a link is opened.
enum Reached {
    Quic(QuicConnection),
    Tcp { stream: Box<dyn ByteStream>, without_quic: Option<String> },
}

impl RelayConnection {
    /// Goes on with a connection whose relay has proved its key.
    pub(crate) fn new(transport: Box<dyn Transport>, relay_key: PublicKey, carrier: Carrier) -> Self {
        Self { transport, relay_key, carrier }
    }

    /// What carries it.
    pub(crate) fn carrier(&self) -> &Carrier {
        &self.carrier
    }

    /// The relay's identity key; it has proved it.
    pub fn relay_key(&self) -> PublicKey {
        self.relay_key
    }

    /// Sends one control frame.
    pub async fn send(&mut self, frame: &PeerToRelay) -> Result<(), RelayError> {
        send(&mut *self.transport, frame).await
    }

    /// Receives one control frame. Cancel-safe.
    pub async fn receive(&mut self) -> Result<RelayToPeer, RelayError> {
        receive(&mut *self.transport).await
    }

    /// Receives one control frame, or `None` for a sign of life that is none. Cancel-safe.
    pub async fn receive_or_sign(&mut self) -> Result<Option<RelayToPeer>, RelayError> {
        receive_or_sign(&mut *self.transport).await
    }

    /// The circuit that has started on it: from here on it is bytes.
    pub fn into_circuit(self) -> Box<dyn Circuit> {
        Box::new(RelayCircuit(self.transport))
    }
}

impl RelayAddress {
    /// Dials the relay and is let in.
    pub async fn connect(&self, caller: &Caller<'_>) -> Result<RelayConnection, RelayError> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        match timeout_at(deadline, self.connect_inner(caller, deadline)).await {
            Ok(result) => result,
            Err(_) => Err(RelayError::TimedOut(self.origin.to_string())),
        }
    }

    async fn connect_inner(&self, caller: &Caller<'_>, deadline: Instant) -> Result<RelayConnection, RelayError> {
        let (stream, without_quic) = match self.reach(deadline).await? {
            Reached::Quic(quic) if self.transports.choice() == TransportChoice::Quic => {
                return self.enter_over(&quic, caller).await;
            }
            Reached::Quic(quic) => match timeout(QUIC_HELLO, self.enter_over(&quic, caller)).await {
                Ok(Err(error)) if error.is_silence() => self.without_quic(deadline).await?,
                Ok(entered) => return entered,
                Err(_) => self.without_quic(deadline).await?,
            },
            Reached::Tcp { stream, without_quic } => (stream, without_quic),
        };
        let transport = self.upgrade(stream, caller).await?;
        self.enter(transport, caller, Carrier::Wss { without_quic }).await
    }

    /// The relay over TCP, as a QUIC connection was made and nothing came over it.
    async fn without_quic(&self, deadline: Instant) -> Result<(Box<dyn ByteStream>, Option<String>), RelayError> {
        let stream = self.dial_tcp(deadline).await?;
        let why = "it began and then fell silent".to_owned();
        self.transports.avoid_quic(why.clone());
        Ok((stream, Some(why)))
    }

    /// The same beside a connection that is there already, and carried like it.
    pub(crate) async fn connect_beside(
        &self,
        carrier: &Carrier,
        caller: &Caller<'_>,
    ) -> Result<RelayConnection, RelayError> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let connecting = async {
            match carrier {
                Carrier::Quic(quic) => self.enter_over(quic, caller).await,
                Carrier::Wss { .. } => {
                    let transport = self.upgrade(self.dial_tcp(deadline).await?, caller).await?;
                    self.enter(transport, caller, carrier.clone()).await
                }
            }
        };
        timeout_at(deadline, connecting).await.unwrap_or_else(|_| Err(RelayError::TimedOut(self.origin.to_string())))
    }

    /// A QUIC connection, once there is one after all; for as long as it takes. Never, where none is wanted.
    pub(crate) async fn quic_after_all(&self) -> QuicConnection {
        loop {
            let Some(again) = self.transports.quic_again() else { return std::future::pending().await };
            sleep_until(again).await;
            match self.dial_quic(Instant::now() + CONNECT_TIMEOUT).await {
                Ok(quic) => {
                    self.transports.quic_works();
                    return quic;
                }
                Err(error) => self.transports.avoid_quic(error.to_string()),
            }
        }
    }

    /// The relay, by what gets there.
    ///
    /// QUIC has a start of [`QUIC_HEAD_START`]. It takes two round trips where TCP and TLS take three, so it is there
    /// first, unless it does not get through; and then nobody has waited for long.
    async fn reach(&self, deadline: Instant) -> Result<Reached, RelayError> {
        match self.transports.plan(&self.origin) {
            Plan::Wss { without_quic } => {
                return Ok(Reached::Tcp { stream: self.dial_tcp(deadline).await?, without_quic });
            }
            Plan::Quic => return Ok(Reached::Quic(self.dial_quic(deadline).await?)),
            Plan::Both => {}
        }
        let (mut quic, mut why) = (pin!(self.dial_quic(deadline)), None);
        let mut tcp = pin!(async {
            sleep(QUIC_HEAD_START).await;
            self.dial_tcp(deadline).await
        });
        loop {
            tokio::select! {
                biased;
                dialled = &mut quic, if why.is_none() => match dialled {
                    Ok(connection) => {
                        self.transports.quic_works();
                        return Ok(Reached::Quic(connection));
                    }
                    Err(error) => why = Some(error.to_string()),
                },
                stream = &mut tcp => {
                    let (stream, why) = (stream?, why.unwrap_or_else(|| "nothing answers over UDP".to_owned()));
                    self.transports.avoid_quic(why.clone());
                    return Ok(Reached::Tcp { stream, without_quic: Some(why) });
                }
            }
        }
    }

    /// The relay's name or address, as it is dialled.
    fn host(&self) -> String {
        self.origin.host().trim_start_matches('[').trim_end_matches(']').to_owned()
    }

    async fn dial_quic(&self, deadline: Instant) -> Result<QuicConnection, RelayError> {
        let origin = || self.origin.to_string();
        if !self.origin.is_secure() {
            return Err(RelayError::PlainQuic { origin: origin() });
        }
        let way_out = self.transports.way_out();
        let (host, tls) = (self.host(), tls::client_config(&self.trust, &way_out.authorities)?);
        let dialled = QuicConnection::dial(&host, self.origin.port(), tls, self.transports.tokens(), deadline);
        dialled.await.map_err(|source| match way_out.proxy(&self.origin) {
            Some(proxy) => RelayError::NoQuicPastProxy { origin: origin(), proxy: proxy.name(), source },
            None => RelayError::NoQuic { origin: origin(), source },
        })
    }

    async fn dial_tcp(&self, deadline: Instant) -> Result<Box<dyn ByteStream>, RelayError> {
        let way_out = self.transports.way_out();
        let stream = self.dial_way(deadline).await?;
        if !self.origin.is_secure() {
            return Ok(stream);
        }
        let name = ServerName::try_from(self.host());
        let name = name.map_err(|_| RelayError::Protocol("its name can't be used for TLS"))?;
        let mut config = tls::client_config(&self.trust, &way_out.authorities)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let tls = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let mut tls = tls.map_err(|error| self.no_tls(error))?;
        tls.get_mut().1.set_buffer_limit(Some(CIRCUIT_TLS_BUFFER));
        Ok(Box::new(tls))
    }

    /// Bytes to the relay and back, through the proxy that there is on the way.
    async fn dial_way(&self, deadline: Instant) -> Result<Box<dyn ByteStream>, RelayError> {
        let (way_out, origin) = (self.transports.way_out(), self.origin.to_string());
        match way_out.proxy(&self.origin) {
            Some(proxy) => {
                let opened = proxy.open(&way_out.authorities, deadline).await;
                opened.map_err(|source| RelayError::Proxy { origin, proxy: proxy.name(), source })
            }
            None => match dial::connect(&self.host(), self.origin.port(), deadline).await {
                Ok(stream) => Ok(Box::new(stream)),
                Err(source) => Err(RelayError::Unreachable { origin, source }),
            },
        }
    }

    /// Why there is no TLS. That a certificate is not trusted has a remedy here, and so it is told apart.
    fn no_tls(&self, source: io::Error) -> RelayError {
        let origin = self.origin.to_string();
        match source.get_ref().and_then(|error| error.downcast_ref()) {
            _ if tls::is_untrusted(&source) => RelayError::Untrusted(origin),
            Some(rustls::Error::Other(other)) if other.0.is::<AuthorityError>() => {
                RelayError::Authorities { origin, why: other.0.to_string() }
            }
            _ => RelayError::NoTls { origin, source },
        }
    }

    /// Opens a link over TCP.
    async fn upgrade(
        &self,
        stream: Box<dyn ByteStream>,
        caller: &Caller<'_>,
    ) -> Result<Box<dyn Transport>, RelayError> {
        let scheme = if self.origin.is_secure() { "wss" } else { "ws" };
        let path = caller.endpoint().path();
        let url = format!("{scheme}://{}:{}{path}", self.origin.host(), self.origin.port());
        Ok(ws::open(&url, stream).await?)
    }

    /// Opens a link on a QUIC connection, and is let in.
    async fn enter_over(&self, quic: &QuicConnection, caller: &Caller<'_>) -> Result<RelayConnection, RelayError> {
        let transport = quic.open(caller.endpoint()).await?;
        self.enter(transport, caller, Carrier::Quic(quic.clone())).await
    }

    async fn enter(
        &self,
        mut transport: Box<dyn Transport>,
        caller: &Caller<'_>,
        carrier: Carrier,
    ) -> Result<RelayConnection, RelayError> {
        let relay_key = self.hello(&mut *transport, caller).await?;
        Ok(RelayConnection::new(transport, relay_key, carrier))
    }

    async fn hello(&self, transport: &mut dyn Transport, caller: &Caller<'_>) -> Result<PublicKey, RelayError> {
        let (versions, relay_key, nonce) = match receive(transport).await? {
            RelayToPeer::Challenge { versions, relay_key, nonce } => (versions, relay_key, nonce),
            other => return Err(refusal(other, "no challenge")),
        };
        keys::check_identity(&relay_key)?;
        let relay = RelayId::of(&relay_key);
        if !self.trust.admits(&relay) {
            return Err(RelayError::WrongRelay(relay));
        }
        let version = version::WITH_RELAY.agree(versions).ok_or(RelayError::Protocol("no version in common"))?;
        let peer_nonce = keys::random(&SystemRandom::new())?;
        let (hello, key) = caller.hello(version, relay, &nonce, peer_nonce)?;
        send(transport, &hello).await?;
        match receive(transport).await? {
            RelayToPeer::Welcome { version: chosen, signature } if chosen == version => {
                keys::verify(&relay_key, &welcome_transcript(&nonce, &peer_nonce, &key), &signature)?;
                Ok(relay_key)
            }
            other => Err(refusal(other, "no welcome")),
        }
    }
}

impl Caller<'_> {
    fn endpoint(&self) -> Endpoint {
        match self {
            Self::Host { .. } => Endpoint::Host,
            Self::HostData { .. } => Endpoint::HostData,
            Self::Device { .. } | Self::Pairing { .. } => Endpoint::Device,
        }
    }

    fn hello(
        &self,
        version: u8,
        relay: RelayId,
        nonce: &[u8; 32],
        peer_nonce: [u8; 32],
    ) -> Result<(PeerToRelay, PublicKey), RelayError> {
        let prove = |identity, role, host| claims::prove(identity, relay, nonce, role, host);
        Ok(match self {
            Self::Host { identity, boot, enroll_key } => {
                let (key, proof) = (identity.public(), prove(identity, ProofRole::Host, None)?);
                let (boot, enroll_key) = (*boot, enroll_key.clone());
                (PeerToRelay::HostHello { version, key, peer_nonce, boot, proof, enroll_key }, key)
            }
            Self::HostData { identity, boot } => {
                let (key, proof) = (identity.public(), prove(identity, ProofRole::HostData, None)?);
                (PeerToRelay::HostDataHello { version, key, peer_nonce, boot: *boot, proof }, key)
            }
            Self::Device { identity, host, watch_only } => {
                let (key, proof) = (identity.public(), prove(identity, ProofRole::Device, Some(*host))?);
                let (host, watch_only) = (*host, *watch_only);
                (PeerToRelay::DeviceHello { version, key, peer_nonce, host, watch_only, proof }, key)
            }
            Self::Pairing { rendezvous } => {
                (PeerToRelay::PairHello { version, peer_nonce, rendezvous: *rendezvous }, PublicKey([0; 32]))
            }
        })
    }
}

async fn send(transport: &mut dyn Transport, frame: &PeerToRelay) -> Result<(), RelayError> {
    Ok(transport.send(Bytes::from(frame.encode())).await?)
}

async fn receive(transport: &mut dyn Transport) -> Result<RelayToPeer, RelayError> {
    loop {
        if let Some(frame) = receive_or_sign(transport).await? {
            return Ok(frame);
        }
    }
}

async fn receive_or_sign(transport: &mut dyn Transport) -> Result<Option<RelayToPeer>, RelayError> {
    match transport.next().await {
        Some(Ok(Received::Bytes(bytes))) => {
            RelayToPeer::decode(&bytes).map(Some).map_err(|_| RelayError::Protocol("a frame is malformed"))
        }
        Some(Ok(Received::Alive)) => Ok(None),
        Some(Ok(Received::Closed(how))) => Err(closed(how)),
        None => Err(closed(Closed { code: CloseCode::PeerGone, reconnect_in: None })),
        Some(Err(error)) => Err(error.into()),
    }
}

fn closed(Closed { code, reconnect_in }: Closed) -> RelayError {
    let message = format!("connection closed ({})", code.name());
    RelayError::Refused { code, message, retry_after: reconnect_in }
}

/// The error that a frame stands for, where none was expected.
pub(crate) fn refusal(frame: RelayToPeer, otherwise: &'static str) -> RelayError {
    match frame {
        RelayToPeer::Refused { code, retry_after_ms, message } => RelayError::Refused {
            code: CloseCode::from_number(code),
            message: quote(&message),
            retry_after: (retry_after_ms > 0).then(|| Duration::from_millis(retry_after_ms.into())),
        },
        RelayToPeer::Restarting { reconnect_in_ms } => RelayError::Refused {
            code: CloseCode::Restarting,
            message: "the relay is restarting".into(),
            retry_after: Some(Duration::from_millis(reconnect_in_ms.into())),
        },
        _ => RelayError::Protocol(otherwise),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use rustls::CertificateError;

    use super::super::way_out::WayOut;
    use super::*;

    /// A relay that is dialled as these variables say.
    fn relay(choice: TransportChoice, environment: impl Fn(&str) -> Option<OsString>) -> RelayAddress {
        let origin = "https://relay.invalid".parse().unwrap();
        let transports = Transports::new(choice).through(WayOut::of(environment));
        RelayAddress { origin, trust: RelayTrust::Learn, transports }
    }

    #[tokio::test]
    async fn what_a_proxy_refuses_is_told_with_its_address_and_without_its_password() {
        let environment = |name: &str| (name == "HTTPS_PROXY").then(|| "http://me:secret@127.0.0.1:1".into());
        let rendezvous = RendezvousId([0; 16]);
        let connected = relay(TransportChoice::Auto, environment).connect(&Caller::Pairing { rendezvous }).await;
        let error = connected.err().expect("nobody listens there");
        let told = format!("{error} {error:?}");
        let begins = "cannot reach the relay at https://relay.invalid:443 through the proxy 127.0.0.1:1: ";
        assert!(told.starts_with(begins) && told.contains("; correct HTTPS_PROXY"), "{told}");
        assert!(!told.contains("secret") && !told.contains("me:"), "{told}");
    }

    #[test]
    fn a_certificate_that_nobody_vouches_for_is_told_from_a_file_that_can_not_be_read() {
        let relay = relay(TransportChoice::Wss, |_| None);
        let tls = |error: rustls::Error| relay.no_tls(io::Error::new(io::ErrorKind::InvalidData, error)).to_string();
        let unknown = tls(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer));
        assert!(unknown.contains("name a file with the authority's certificate in CODEX_CA_CERTIFICATE"), "{unknown}");
        let file = AuthorityError::Empty { variable: "SSL_CERT_FILE", path: "/x.pem".into() };
        let file = tls(rustls::Error::Other(rustls::OtherError(Arc::new(file))));
        assert!(file.contains(": SSL_CERT_FILE names “/x.pem”"), "{file}");
        let other = tls(rustls::Error::DecryptError);
        assert_eq!(other, "cannot reach the relay at https://relay.invalid:443: “cannot decrypt peer's message”");
    }

    #[test]
    fn what_a_relay_says_to_refuse_is_quoted_and_can_not_close_the_quotation() {
        let message = "full”.\r\nPaired: \u{1b}[2J\u{202e}`evil`".to_owned();
        let code = CloseCode::NotFound.number();
        let error = refusal(RelayToPeer::Refused { code, retry_after_ms: 0, message }, "");
        assert_eq!(error.to_string(), "the relay refused: “full'.??Paired: ?[2J?'evil'”");
    }

    #[test]
    fn what_a_quic_server_gives_as_a_reason_is_quoted() {
        let source = io::Error::other("aborted by peer: full”.\r\nPaired: \u{1b}[2J");
        let source = DialError::Failed { tried: 1, source };
        let error = RelayError::NoQuic { origin: "https://relay.example".into(), source };
        let told = "cannot reach the relay at https://relay.example over QUIC: “aborted by peer: full'.??Paired: ?[2J”";
        assert_eq!(error.to_string(), told);
    }
}
