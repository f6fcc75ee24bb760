//! Everything else that Codex asks the vendor's backend for, passed on to where it would have gone.
//!
//! `chatgpt_base_url` moves more than remote control: plugins, settings, the
//! account. Those requests go on to the address that was configured before, with
//! the person's own sign-in in them, which therefore leaves this machine only by
//! TLS. Bodies are streamed both ways and kept nowhere. Nothing is followed,
//! cached or retried here: Codex does that.
//!
//! Each request has a connection of its own, through the [proxy](crate::link::proxy)
//! that the environment names. There are few of them, and no connection can outlive what
//! it was for, or be [silent](super::silence) for ever.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::response::Response;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::task::AbortOnDropHandle;
use url::{Host, Url};

use super::silence::Heard;
use crate::link::authorities::{Authorities, AuthorityError};
use crate::link::dial::DialError;
use crate::link::proxy::ProxyError;
use crate::link::way_out::WayOut;

/// Where Codex goes when nothing is configured.
pub(super) const DEFAULT: &str = "https://chatgpt.com/backend-api";

/// How long a connection may take, with its name, the proxy on the way and TLS.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// How long nothing at all may come or go on a connection. Codex's own longest waits are five minutes, for a tool's answer
/// and for the next event of a stream: it has given up long before this, and then the request ends here too.
const SILENCE: Duration = Duration::from_secs(10 * 60);
/// Largest head of an answer: the vendor's have long cookies and policies.
const MAX_HEAD: usize = 128 * 1024;

/// Headers that are about one connection, and those that this end writes itself.
const OF_ONE_CONNECTION: [HeaderName; 9] = [
    header::CONNECTION,
    header::EXPECT,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// An address that nothing can be passed on to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// No URL with a host, or one with more than a path.
    #[error("codex's `chatgpt_base_url` has to be like {DEFAULT}: https, a host and a path, and nothing else")]
    Url,
    /// It would send the sign-in in the clear.
    #[error("codex's `chatgpt_base_url` has to be https: its sign-in would leave this machine unprotected")]
    Plain,
    /// TLS can't be had.
    #[error("TLS cannot be set up")]
    Tls(#[source] AuthorityError),
}

/// Why a request got no answer. It says nothing of what was asked or answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum PassError {
    /// No way there: no network, mostly.
    #[error("can't reach codex's own backend: {0}")]
    Offline(io::ErrorKind),
    /// The path does not fit into an address.
    #[error("what codex asked for has no address")]
    Address,
    /// The proxy on the way does not let it through.
    #[error("can't reach codex's own backend through the proxy")]
    Proxy(#[source] ProxyError),
    /// Whoever is there is not trusted, or speaks no TLS.
    #[error("no TLS with codex's own backend: {0}")]
    Tls(io::ErrorKind),
    /// It does not speak HTTP, or broke off.
    #[error("codex's own backend gave no answer")]
    Http,
    /// It is there, and says nothing.
    #[error("codex's own backend did not answer in time")]
    Slow,
}

impl PassError {
    /// What Codex is told: that there is nothing, where it is offline, and whose fault it is otherwise.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Offline(_) | Self::Address => StatusCode::NOT_FOUND,
            Self::Proxy(_) | Self::Tls(_) | Self::Http => StatusCode::BAD_GATEWAY,
            Self::Slow => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

/// The backend that Codex had before.
#[derive(Clone)]
pub struct Upstream {
    host: Host,
    port: u16,
    /// What the `Host` header says.
    authority: HeaderValue,
    /// Without a slash at its end.
    path: String,
    tls: Option<TlsConnector>,
    way_out: WayOut,
    silence: Duration,
}

/// What an exchange goes over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not its path: where another proxy was configured before, a secret can be in it.
        write!(f, "Upstream({})", self.host)
    }
}

impl Upstream {
    /// `url` is the base that was configured before. Only on loopback it may be without TLS.
    pub fn new(url: &str) -> Result<Self, UpstreamError> {
        let url = Url::parse(url).map_err(|_| UpstreamError::Url)?;
        let has_more = !url.username().is_empty() || url.password().is_some();
        if has_more || url.query().is_some() || url.fragment().is_some() {
            return Err(UpstreamError::Url);
        }
        let host = url.host().ok_or(UpstreamError::Url)?.to_owned();
        let tls = match url.scheme() {
            "https" => Some(connector(&Authorities::default()).map_err(UpstreamError::Tls)?),
            "http" if is_loopback(&host) => None,
            "http" => return Err(UpstreamError::Plain),
            _ => return Err(UpstreamError::Url),
        };
        let port = url.port_or_known_default().ok_or(UpstreamError::Url)?;
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_string(),
        };
        let authority = HeaderValue::try_from(authority).map_err(|_| UpstreamError::Url)?;
        let path = url.path().trim_end_matches('/').to_owned();
        Ok(Self { host, port, authority, path, tls, way_out: WayOut::default(), silence: SILENCE })
    }

    /// The same backend, by this way. What goes without TLS stays on this machine, and goes through no proxy.
    pub(super) fn through(self, way_out: WayOut) -> Self {
        let tls = self.tls.map(|system| {
            connector(&way_out.authorities).unwrap_or_else(|error| {
                tracing::warn!(%error, "what codex asks its own backend for goes on with the system's authorities");
                system
            })
        });
        Self { tls, way_out, ..self }
    }

    /// Whether it is on this machine, at this port.
    pub(super) fn is_at(&self, port: u16) -> bool {
        self.port == port && is_loopback(&self.host)
    }

    /// Passes a request on; its path is below the base. The answer's body comes as it arrives, and holds `place` until it ends.
    pub(super) async fn pass(&self, request: Request, place: OwnedSemaphorePermit) -> Result<Response, PassError> {
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        head.uri = Uri::try_from(format!("{}{path}", self.path)).map_err(|_| PassError::Address)?;
        strip(&mut head.headers);
        head.headers.insert(header::HOST, self.authority.clone());
        head.extensions.clear();
        head.version = http::Version::HTTP_11;
        let stream = self.connect().await?;
        exchange(Heard::new(stream, self.silence), Request::from_parts(head, body), place).await
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, PassError> {
        let by = Instant::now() + CONNECT_TIME;
        let Some(tls) = &self.tls else { return Ok(Box::new(dial(&self.host, self.port, by).await?)) };
        let name = self.server_name().ok_or(PassError::Address)?;
        match self.way_out.proxies.on_the_way_to(&self.host, self.port) {
            Some(proxy) => {
                let stream = proxy.open(&self.way_out.authorities, by).await?;
                Ok(Box::new(secure(tls, name, stream, by).await?))
            }
            None => Ok(Box::new(secure(tls, name, dial(&self.host, self.port, by).await?, by).await?)),
        }
    }

    fn server_name(&self) -> Option<ServerName<'static>> {
        match &self.host {
            Host::Domain(name) => ServerName::try_from(name.clone()).ok(),
            Host::Ipv4(ip) => Some(ServerName::from(IpAddr::V4(*ip))),
            Host::Ipv6(ip) => Some(ServerName::from(IpAddr::V6(*ip))),
        }
    }
}

fn is_loopback(host: &Host) -> bool {
    match host {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
    }
}

impl From<ProxyError> for PassError {
    fn from(error: ProxyError) -> Self {
        match error {
            ProxyError::TimedOut => Self::Slow,
            // No network, mostly.
            ProxyError::Unreachable { source, .. } => Self::Offline(match source {
                DialError::Lookup(error) | DialError::Failed { source: error, .. } => error.kind(),
                DialError::NoAddress => io::ErrorKind::NotFound,
                DialError::TimedOut { .. } => io::ErrorKind::TimedOut,
            }),
            other => Self::Proxy(other),
        }
    }
}

/// Takes certificates of these, and no others.
fn connector(authorities: &Authorities) -> Result<TlsConnector, AuthorityError> {
    Ok(TlsConnector::from(Arc::new(authorities.client_config()?)))
}

/// Whoever does not even accept in time is nowhere to be found.
async fn dial(host: &Host, port: u16, by: Instant) -> Result<TcpStream, PassError> {
    let connecting = async {
        let stream = match host {
            Host::Domain(name) => TcpStream::connect((name.as_str(), port)).await?,
            Host::Ipv4(ip) => TcpStream::connect((*ip, port)).await?,
            Host::Ipv6(ip) => TcpStream::connect((*ip, port)).await?,
        };
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    let connected = timeout_at(by, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    connected.map_err(|error: io::Error| PassError::Offline(error.kind()))
}

async fn secure<S: Stream>(
    tls: &TlsConnector,
    name: ServerName<'static>,
    stream: S,
    by: Instant,
) -> Result<TlsStream<S>, PassError> {
    let stream = timeout_at(by, tls.connect(name, stream)).await.map_err(|_| PassError::Slow)?;
    stream.map_err(|error| PassError::Tls(error.kind()))
}

async fn exchange<S>(stream: S, request: Request, place: OwnedSemaphorePermit) -> Result<Response, PassError>
where
    S: Stream + 'static,
{
    let handshake = http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(|_| PassError::Http)?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        // What breaks it shows in the answer's body.
        let _ended = connection.await;
    }));
    let answer = sender.send_request(request).await.map_err(|error| match is_of_silence(&error) {
        true => PassError::Slow,
        false => PassError::Http,
    })?;
    let (mut head, body) = answer.into_parts();
    strip(&mut head.headers);
    head.extensions.clear();
    Ok(Response::from_parts(head, Body::new(Passed { body, _connection: connection, _place: place })))
}

fn is_of_silence(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|source| source.kind() == io::ErrorKind::TimedOut)
}

/// Takes away what is about one connection, and what its `Connection` header names.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in named.iter().chain(&OF_ONE_CONNECTION) {
        headers.remove(name);
    }
    headers.remove("proxy-connection");
}

/// The body of an answer, with the connection that it comes by and its place among those passed on, which end with it.
struct Passed {
    body: Incoming,
    _connection: AbortOnDropHandle<()>,
    _place: OwnedSemaphorePermit,
}

impl HttpBody for Passed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
