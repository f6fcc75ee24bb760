//! Everything else that Codex asks the vendor's backend for, passed on to where it would have gone.
//!
//! `chatgpt_base_url` moves more than remote control: plugins, settings, the
//! account. Those requests go on to the address that was configured before, with
//! the person's own sign-in in them, which therefore leaves this machine only by
//! TLS. Bodies are streamed both ways and kept nowhere. Nothing is followed,
//! cached or retried here: Codex does that.
//!
//! Each request has a connection of its own. There are few of them, and no
//! connection can outlive what it was for.

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
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use url::{Host, Url};

/// Where Codex goes when nothing is configured.
pub(super) const DEFAULT: &str = "https://chatgpt.com/backend-api";

/// How long a connection may take, with its name and its TLS. What Codex then waits for is its own business: when it
/// hangs up, the request ends here too.
const CONNECT_TIME: Duration = Duration::from_secs(10);
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
    Tls(#[source] rustls::Error),
}

/// Why a request got no answer. It says nothing of what was asked or answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum PassError {
    /// No way there: no network, mostly.
    #[error("can't reach codex's own backend: {0}")]
    Connect(io::ErrorKind),
    /// No connection in time.
    #[error("codex's own backend did not answer within {} s", CONNECT_TIME.as_secs())]
    Slow,
    /// It does not speak HTTP, or broke off.
    #[error("codex's own backend gave no answer")]
    Http,
    /// The path does not fit into an address.
    #[error("what codex asked for has no address")]
    Address,
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
}

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
            "https" => Some(TlsConnector::from(client_config().map_err(UpstreamError::Tls)?)),
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
        Ok(Self { host, port, authority, path, tls })
    }

    /// Whether it is on this machine, at this port.
    pub(super) fn is_at(&self, port: u16) -> bool {
        self.port == port && is_loopback(&self.host)
    }

    /// Passes a request on; its path is below the base. The answer's body comes as it arrives.
    pub(super) async fn pass(&self, request: Request) -> Result<Response, PassError> {
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        head.uri = Uri::try_from(format!("{}{path}", self.path)).map_err(|_| PassError::Address)?;
        strip(&mut head.headers);
        head.headers.insert(header::HOST, self.authority.clone());
        head.extensions.clear();
        head.version = http::Version::HTTP_11;
        let request = Request::from_parts(head, body);

        match timeout(CONNECT_TIME, self.connect()).await.map_err(|_| PassError::Slow)? {
            Ok((stream, Some(tls))) => {
                let name = self.server_name().ok_or(PassError::Address)?;
                let handshake = timeout(CONNECT_TIME, tls.connect(name, stream));
                let stream = handshake.await.map_err(|_| PassError::Slow)?;
                exchange(stream.map_err(|error| PassError::Connect(error.kind()))?, request).await
            }
            Ok((stream, None)) => exchange(stream, request).await,
            Err(error) => Err(PassError::Connect(error.kind())),
        }
    }

    async fn connect(&self) -> io::Result<(TcpStream, Option<&TlsConnector>)> {
        let stream = match &self.host {
            Host::Domain(name) => TcpStream::connect((name.as_str(), self.port)).await?,
            Host::Ipv4(ip) => TcpStream::connect((*ip, self.port)).await?,
            Host::Ipv6(ip) => TcpStream::connect((*ip, self.port)).await?,
        };
        stream.set_nodelay(true)?;
        Ok((stream, self.tls.as_ref()))
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

/// Certificates that the system trusts, and no others.
fn client_config() -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

async fn exchange<S>(stream: S, request: Request) -> Result<Response, PassError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let handshake = http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(|_| PassError::Http)?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        // What breaks it shows in the answer's body.
        let _ended = connection.await;
    }));
    let answer = sender.send_request(request).await.map_err(|_| PassError::Http)?;
    let (mut head, body) = answer.into_parts();
    strip(&mut head.headers);
    head.extensions.clear();
    Ok(Response::from_parts(head, Body::new(Passed { body, _connection: connection })))
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

/// The body of an answer, with the connection that it comes by, which ends with it.
struct Passed {
    body: Incoming,
    _connection: AbortOnDropHandle<()>,
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
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_leaves_this_machine_by_tls_only() {
        for good in [
            DEFAULT,
            "https://chatgpt.com/backend-api/",
            "http://127.0.0.1:9/x",
            "http://[::1]:9",
            "http://localhost:9/",
            "https://10.0.0.1/a/b",
        ] {
            Upstream::new(good).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
        for plain in ["http://chatgpt.com/backend-api", "http://10.0.0.1/", "http://127.0.0.1.example.com/"] {
            assert!(matches!(Upstream::new(plain), Err(UpstreamError::Plain)), "{plain}");
        }
        for bad in [
            "",
            "chatgpt.com",
            "ftp://chatgpt.com/",
            "https://a:b@chatgpt.com/",
            "https://chatgpt.com/?x",
            "https://c/#x",
        ] {
            assert!(matches!(Upstream::new(bad), Err(UpstreamError::Url)), "{bad}");
        }
    }

    #[test]
    fn headers_of_one_connection_stay_on_it() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Once"),
            ("connection", "x-twice"),
            ("x-once", "1"),
            ("x-twice", "2"),
            ("keep-alive", "5"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("proxy-authorization", "x"),
            ("proxy-connection", "x"),
            ("te", "trailers"),
            ("authorization", "Bearer x"),
            ("accept", "text/event-stream"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "authorization"]);
    }
}
