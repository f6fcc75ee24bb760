//! The HTTP proxy on the way out that the environment names.
//!
//! `HTTPS_PROXY`, else `ALL_PROXY`, say which, and `NO_PROXY` for what none is taken; in capitals first, as Codex itself
//! reads them. Only what is inside of TLS goes through: the proxy is asked for a tunnel (`CONNECT`), learns name and
//! port of what is reached, and nothing of what is said there.
//!
//! A proxy that is named and can't be used is an error and never gone around: whoever names one may have reasons for it.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Method, Request, StatusCode, Uri, header, uri::Scheme};
use hyper::client::conn::http1;
use hyper::upgrade;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use reachback_proto::words::quote;
use rustls::pki_types::ServerName;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use url::Host;

use super::ByteStream;
use super::authorities::{Authorities, AuthorityError};
use super::dial::{self, DialError};
use super::tls;

/// Largest head of a proxy's answer. Those with an explanation for people in headers stay far below.
const MAX_HEAD: usize = 16 * 1024;
/// A proxy that took a connection and does not answer may be waiting for what is behind it. So much before the end of the
/// time that there is, it is given up, and named.
const MARGIN: Duration = Duration::from_millis(500);

/// Why a proxy does not lead further. Nothing of what it says is in here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// Another kind of proxy than those that are spoken with here.
    #[error(
        "{variable} names a {scheme}:// proxy, and only http:// and https:// ones can be used: name such a one there, or the relay in NO_PROXY"
    )]
    Kind {
        /// Which variable names it.
        variable: &'static str,
        /// What it begins with, one of four words.
        scheme: String,
    },
    /// What is named is no address. It is not repeated, as a password may be in it.
    #[error(
        "what {0} says is no proxy's address: write http://HOST:PORT, or http://NAME:PASSWORD@HOST:PORT with %40 for an @ in the password and so on"
    )]
    Unreadable(&'static str),
    /// It can't be connected to.
    #[error("{source}; correct {variable}, or name the relay in NO_PROXY")]
    Unreachable {
        /// Which variable names it.
        variable: &'static str,
        /// Why.
        source: DialError,
    },
    /// A connection, and no TLS on it, where `https://` is named.
    #[error(
        "there is no TLS with it ({}): check its name and port in {variable}, or write http:// there",
        quote(source)
    )]
    NoTls {
        /// Which variable names it.
        variable: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Nobody whom this computer trusts vouches for its certificate, where `https://` is named.
    #[error(
        "its certificate is of an authority that this computer does not trust: name a file with the authority's certificate in \
         CODEX_CA_CERTIFICATE"
    )]
    Untrusted,
    /// A file that names authorities is not to be used.
    #[error(transparent)]
    Authorities(#[from] AuthorityError),
    /// It wants to know who asks.
    #[error("it wants a name and a password: write them into {0}, as http://NAME:PASSWORD@HOST:PORT")]
    PasswordWanted(&'static str),
    /// It was told who asks, and does not take that.
    #[error(
        "it does not take the name and the password in {0}: correct them there; characters such as @ : / are written as %40 %3A %2F"
    )]
    PasswordWrong(&'static str),
    /// It does not lead there.
    #[error("it does not allow connections there ({}): its administrator can, for CONNECT to that name and port", .0.as_u16())]
    Forbidden(StatusCode),
    /// It does not get there either.
    #[error("it can't reach the relay itself ({}): check the relay's address, and that it runs", .0.as_u16())]
    NoWay(StatusCode),
    /// Anything else than a tunnel.
    #[error("it answers {}, and not with a tunnel", .0.as_u16())]
    Refused(StatusCode),
    /// It does not speak HTTP, or broke off.
    #[error("it does not answer as an HTTP proxy does: check its port in {0}")]
    Http(&'static str),
    /// Nothing comes.
    #[error("it takes the connection, and does not say in time whether it leads there")]
    TimedOut,
    /// What is behind it has no address.
    #[error("the address does not fit into a request to it")]
    Address,
}

/// Which proxy leads where.
#[derive(Clone, Default)]
pub struct Proxies(Option<Arc<Named>>);

/// What the environment names.
struct Named {
    /// The variable that names it.
    variable: &'static str,
    /// `None` where that is no address.
    proxy: Option<Intercept>,
    /// For whom it is not, and at which port where one is said.
    except: Vec<(String, Option<u16>)>,
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Addresses of proxies can have passwords in them.
        f.write_str("Proxies(…)")
    }
}

/// A proxy that is to lead to one place.
#[derive(Clone)]
pub(crate) struct Proxy {
    named: Arc<Named>,
    /// Host and port of that place.
    to: String,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({})", self.name())
    }
}

impl Proxies {
    /// Those that these variables of the environment name. Empty ones count as none.
    pub fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let said = |names: [&'static str; 2]| {
            let said = |name| Some((name, variable(name).filter(|value| !value.is_empty())?));
            names.into_iter().find_map(said)
        };
        let named = said(["HTTPS_PROXY", "https_proxy"]).or_else(|| said(["ALL_PROXY", "all_proxy"]));
        let Some((variable, value)) = named else { return Self::default() };
        let proxy = value.to_str().and_then(named_by);
        let except = said(["NO_PROXY", "no_proxy"]).map(|(_, list)| list.to_string_lossy().into_owned());
        let except = except.iter().flat_map(|list| list.split([',', ' ', '\t'])).filter_map(exception).collect();
        Self(Some(Arc::new(Named { variable, proxy, except })))
    }

    /// The one on the way to what is reached by TLS.
    pub(crate) fn on_the_way_to(&self, host: &Host, port: u16) -> Option<Proxy> {
        let named = self.0.as_ref()?;
        let is_except = named.is_except(host, port);
        (!is_except).then(|| Proxy { named: Arc::clone(named), to: format!("{host}:{port}") })
    }
}

/// The proxy at this address, if it is one: a password with a slash in it, as it is, would else be taken for a host.
fn named_by(address: &str) -> Option<Intercept> {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#']) {
        return None;
    }
    let matcher = Matcher::builder().https(address).build();
    let found = matcher.intercept(&Uri::from_static("https://anywhere.invalid/"))?;
    let authority = found.uri().authority()?;
    (authority.port_u16().is_some() || authority.as_str() == authority.host()).then_some(found)
}

/// An entry of `NO_PROXY`: a name and all below it, an address, a network, or `*`, with a port or without.
fn exception(entry: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match entry.rsplit_once(':') {
        // Not within an IPv6 address that has no brackets.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (entry, None),
        },
        _ => (entry, None),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let host = host.strip_prefix("*.").unwrap_or(host).to_ascii_lowercase();
    (!host.is_empty()).then_some((host, port))
}

impl Named {
    fn is_except(&self, host: &Host, port: u16) -> bool {
        let here = self.except.iter().filter(|(_, at)| at.is_none_or(|at| at == port));
        let hosts: Vec<&str> = here.map(|(host, _)| host.as_str()).collect();
        let matcher = Matcher::builder().https("http://proxy.invalid").no(hosts.join(",")).build();
        let host = host.to_string().to_ascii_lowercase();
        Uri::try_from(format!("https://{host}/")).is_ok_and(|uri| matcher.intercept(&uri).is_none())
    }
}

impl Proxy {
    /// Where it listens, as host and port and nothing more.
    pub(crate) fn name(&self) -> String {
        match self.address() {
            Ok((host, port)) => format!("{host}:{port}"),
            Err(_) => format!("that {} names", self.named.variable),
        }
    }

    fn found(&self) -> Result<&Intercept, ProxyError> {
        self.named.proxy.as_ref().ok_or(ProxyError::Unreadable(self.named.variable))
    }

    fn address(&self) -> Result<(Host, u16), ProxyError> {
        let uri = self.found()?.uri();
        let usual = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => 80,
            Some(scheme) if *scheme == Scheme::HTTPS => 443,
            other => {
                let scheme = other.map(Scheme::as_str).unwrap_or_default().to_owned();
                return Err(ProxyError::Kind { variable: self.named.variable, scheme });
            }
        };
        let host = uri.host().and_then(|host| Host::parse(host).ok());
        Ok((host.ok_or(ProxyError::Unreadable(self.named.variable))?, uri.port_u16().unwrap_or(usual)))
    }

    /// A stream to the other end, through the proxy, before `deadline`; `authorities` say which certificate an `https://`
    /// proxy may have.
    pub(crate) async fn open(
        &self,
        authorities: &Authorities,
        deadline: Instant,
    ) -> Result<Box<dyn ByteStream>, ProxyError> {
        let (host, port) = self.address()?;
        let host = match host {
            Host::Domain(name) => name,
            Host::Ipv4(ip) => ip.to_string(),
            Host::Ipv6(ip) => ip.to_string(),
        };
        let variable = self.named.variable;
        let stream = dial::connect(&host, port, deadline).await;
        let stream = stream.map_err(|source| ProxyError::Unreachable { variable, source })?;
        let by = deadline.checked_sub(MARGIN).unwrap_or(deadline);
        let leading = async {
            if self.found()?.uri().scheme() != Some(&Scheme::HTTPS) {
                return self.tunnel(stream).await;
            }
            let name = ServerName::try_from(host).map_err(|_| ProxyError::Unreadable(variable))?;
            let tls = TlsConnector::from(Arc::new(authorities.client_config()?));
            // One that waits for the end of a line of HTTP says nothing to the beginning of TLS.
            let tls =
                timeout_at(by, tls.connect(name, stream)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            let tls = tls.map_err(|source| match tls::is_untrusted(&source) {
                true => ProxyError::Untrusted,
                false => ProxyError::NoTls { variable, source },
            });
            self.tunnel(tls?).await
        };
        timeout_at(by, leading).await.unwrap_or(Err(ProxyError::TimedOut))
    }

    /// What `stream`, which ends at the proxy, leads to.
    async fn tunnel(&self, stream: impl ByteStream + 'static) -> Result<Box<dyn ByteStream>, ProxyError> {
        let (variable, password) = (self.named.variable, self.found()?.basic_auth());
        let http = |_: hyper::Error| ProxyError::Http(variable);
        let mut request = Request::builder().method(Method::CONNECT).uri(&self.to).header(header::HOST, &self.to);
        if let Some(password) = password {
            request = request.header(header::PROXY_AUTHORIZATION, password);
        }
        let request = request.body(Body::empty()).map_err(|_| ProxyError::Address)?;
        let handshake = http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(http)?;
        let _connection = AbortOnDropHandle::new(tokio::spawn(async move {
            // What breaks it shows in the tunnel.
            let _ended = connection.with_upgrades().await;
        }));
        let answer = sender.send_request(request).await.map_err(http)?;
        match answer.status() {
            status if status.is_success() => {}
            // By the letter it is the first. tinyproxy says the second of a password that is wrong.
            StatusCode::PROXY_AUTHENTICATION_REQUIRED | StatusCode::UNAUTHORIZED => {
                return Err(match password {
                    Some(_) => ProxyError::PasswordWrong(variable),
                    None => ProxyError::PasswordWanted(variable),
                });
            }
            status @ (StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED) => {
                return Err(ProxyError::Forbidden(status));
            }
            // What proxies say of a name that leads nowhere, and of what does not answer them.
            status @ (StatusCode::NOT_FOUND
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT) => return Err(ProxyError::NoWay(status)),
            status => return Err(ProxyError::Refused(status)),
        }
        Ok(Box::new(TokioIo::new(upgrade::on(answer).await.map_err(http)?)))
    }
}

#[cfg(test)]
mod tests;
