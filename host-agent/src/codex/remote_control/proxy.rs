//! The HTTP proxy on the way out that the environment names, as Codex itself would take it.
//!
//! Codex reads `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in capitals first, and so does
//! this. Only what is inside of TLS goes through: the proxy learns the name of the
//! backend, and nothing of what is asked there.

use std::ffi::OsString;
use std::fmt;
use std::sync::Arc;

use axum::body::Body;
use http::{Method, Request, StatusCode, Uri, header, uri::Scheme};
use hyper::client::conn::http1;
use hyper::upgrade::{self, Upgraded};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use tokio_util::task::AbortOnDropHandle;
use url::Host;

use super::upstream::Stream;

/// Largest head of a proxy's answer.
const MAX_HEAD: usize = 16 * 1024;
/// Where a proxy listens that names no port.
const DEFAULT_PORT: u16 = 80;

/// Why a proxy does not lead further.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum TunnelError {
    /// Another kind of proxy than those that are spoken with here.
    #[error("the proxy is not an `http://` one")]
    Kind,
    /// It answers with something else than a tunnel.
    #[error("the proxy answers {0}")]
    Refused(StatusCode),
    /// It does not speak HTTP, or broke off.
    #[error("the proxy gave no answer")]
    Http(#[source] hyper::Error),
    /// What is behind it has no address.
    #[error("the address does not fit into a request")]
    Address,
}

/// Which proxy leads where.
#[derive(Clone, Default)]
pub(super) struct Proxies(Option<Arc<Matcher>>);

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Addresses of proxies can have passwords in them.
        f.write_str("Proxies(…)")
    }
}

/// A proxy that is to lead to one place.
pub(super) struct Proxy {
    found: Intercept,
    /// Host and port of that place.
    to: String,
}

impl Proxies {
    /// Those that these variables of the environment name.
    pub(super) fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let said = |names: [&str; 2]| names.into_iter().find_map(|name| variable(name)?.into_string().ok());
        let said = |capitals, small| said([capitals, small]).unwrap_or_default();
        let matcher = Matcher::builder()
            .all(said("ALL_PROXY", "all_proxy"))
            .https(said("HTTPS_PROXY", "https_proxy"))
            .no(said("NO_PROXY", "no_proxy"));
        Self(Some(Arc::new(matcher.build())))
    }

    /// The one on the way to what is reached by TLS.
    pub(super) fn on_the_way_to(&self, host: &Host, port: u16) -> Option<Proxy> {
        let to = format!("{host}:{port}");
        let uri = Uri::try_from(format!("https://{to}/")).ok()?;
        let found = self.0.as_ref()?.intercept(&uri)?;
        Some(Proxy { found, to })
    }
}

impl Proxy {
    /// Where it listens.
    pub(super) fn address(&self) -> Result<(Host, u16), TunnelError> {
        let uri = self.found.uri();
        if uri.scheme() != Some(&Scheme::HTTP) {
            return Err(TunnelError::Kind);
        }
        let host = uri.host().and_then(|host| Host::parse(host).ok()).ok_or(TunnelError::Address)?;
        Ok((host, uri.port_u16().unwrap_or(DEFAULT_PORT)))
    }

    /// What `stream`, which ends at the proxy, leads to.
    pub(super) async fn tunnel(&self, stream: impl Stream + 'static) -> Result<TokioIo<Upgraded>, TunnelError> {
        let mut request = Request::builder().method(Method::CONNECT).uri(&self.to).header(header::HOST, &self.to);
        if let Some(password) = self.found.basic_auth() {
            request = request.header(header::PROXY_AUTHORIZATION, password);
        }
        let request = request.body(Body::empty()).map_err(|_| TunnelError::Address)?;
        let handshake = http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(TunnelError::Http)?;
        let _connection = AbortOnDropHandle::new(tokio::spawn(async move {
            // What breaks it shows in the tunnel.
            let _ended = connection.with_upgrades().await;
        }));
        let answer = sender.send_request(request).await.map_err(TunnelError::Http)?;
        if !answer.status().is_success() {
            return Err(TunnelError::Refused(answer.status()));
        }
        upgrade::on(answer).await.map(TokioIo::new).map_err(TunnelError::Http)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(environment: &[(&str, &str)]) -> Proxies {
        Proxies::of(|name| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()))
    }

    /// Where the way to this host leads, and the password there.
    fn way(environment: &[(&str, &str)], host: &str) -> Option<(String, Option<String>)> {
        let proxy = proxies(environment).on_the_way_to(&Host::parse(host).unwrap(), 443)?;
        let (host, port) = proxy.address().unwrap();
        let password = proxy.found.basic_auth().map(|password| password.to_str().unwrap().to_owned());
        Some((format!("{host}:{port} to {}", proxy.to), password))
    }

    #[test]
    fn the_environment_names_the_proxy_in_capitals_or_not_and_whom_it_is_not_for() {
        let through = |way: &str| Some((way.to_owned(), None));
        assert_eq!(way(&[], "chatgpt.com"), None);
        assert_eq!(way(&[("HTTP_PROXY", "http://p:1")], "chatgpt.com"), None, "it is for what goes without TLS");
        for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            assert_eq!(way(&[(name, "http://p:1")], "chatgpt.com"), through("p:1 to chatgpt.com:443"), "{name}");
            assert_eq!(way(&[(name, "p")], "chatgpt.com"), through("p:80 to chatgpt.com:443"), "{name}");
            for except in ["chatgpt.com", ".com", "*", "x, chatgpt.com"] {
                for no in ["NO_PROXY", "no_proxy"] {
                    assert_eq!(way(&[(name, "p:1"), (no, except)], "chatgpt.com"), None, "{name} but {no}={except}");
                }
            }
        }
        let both = [("https_proxy", "small:1"), ("HTTPS_PROXY", "capitals:2"), ("ALL_PROXY", "all:3")];
        assert_eq!(way(&both, "[::1]"), through("capitals:2 to [::1]:443"));
        assert_eq!(way(&[("HTTPS_PROXY", "http://[::1]:3"), ("NO_PROXY", "10.0.0.0/8")], "10.1.2.3"), None);
        let (_, password) = way(&[("HTTPS_PROXY", "http://Aladdin:opensesame@p")], "chatgpt.com").unwrap();
        assert_eq!(password.unwrap(), "Basic QWxhZGRpbjpvcGVuc2VzYW1l");
    }

    #[test]
    fn a_proxy_of_another_kind_is_not_gone_around() {
        for other in ["socks5://p:1", "https://p:1"] {
            let proxy = proxies(&[("ALL_PROXY", other)]).on_the_way_to(&Host::parse("chatgpt.com").unwrap(), 443);
            assert!(matches!(proxy.expect("a way").address(), Err(TunnelError::Kind)), "{other}");
        }
    }

    #[test]
    fn passwords_of_proxies_are_not_shown() {
        let shown = format!("{:?}", proxies(&[("HTTPS_PROXY", "http://me:secret@p")]));
        assert!(!shown.contains("secret") && !shown.contains("me"), "{shown}");
    }
}
