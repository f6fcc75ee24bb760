//! Asking a relay whether it is there, as `reachback-relay health` does for whoever supervises it.
//!
//! One request to `/healthz` over a connection of its own, as the relay's configuration says how: plain or TLS, with a
//! header of the PROXY protocol where the relay waits for one. Whose certificate answers is not checked: the
//! question is whether something answers here, nothing is told to it, and a certificate is for the public name and not
//! for loopback. What the answer says besides its status is not read.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use crate::config::Config;

/// How long connecting, asking and the answer may take together.
const LIMIT: Duration = Duration::from_secs(3);
/// The longest first line of an answer that is read.
const MAX_LINE: u64 = 256;

/// Where a relay is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    url: Url,
    introduced: bool,
}

/// Why a relay does not count as healthy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unhealthy {
    /// The configuration leaves the port to the system.
    #[error("the relay listens on a port that the system chooses: say where it is with --url")]
    NoPort,
    /// An address that can't be asked.
    #[error("{url} can't be asked: give http://HOST[:PORT] or https://HOST[:PORT]")]
    BadUrl {
        /// The address.
        url: Url,
    },
    /// Nothing answers, or not as a web server does.
    #[error("no relay answers at {url}")]
    Silent {
        /// What was asked for.
        url: Url,
        /// What went wrong.
        source: io::Error,
    },
    /// Nothing answered in time.
    #[error("no relay answers at {url} within {} s", LIMIT.as_secs())]
    Slow {
        /// What was asked for.
        url: Url,
    },
    /// Something answers, and not that all is well.
    #[error("{url} answers {status}, not 200")]
    Answer {
        /// What was asked for.
        url: Url,
        /// The status of the answer.
        status: u16,
    },
}

impl Question {
    /// Where the relay of this configuration answers on this machine.
    pub fn of(config: &Config) -> Result<Self, Unhealthy> {
        let ip = match config.listen.ip() {
            ip if !ip.is_unspecified() => ip,
            ip if ip.is_ipv4() => Ipv4Addr::LOCALHOST.into(),
            _ => Ipv6Addr::LOCALHOST.into(),
        };
        if config.listen.port() == 0 {
            return Err(Unhealthy::NoPort);
        }
        let scheme = if config.is_plain() { "http" } else { "https" };
        let mut url = Url::parse(&format!("{scheme}://localhost/healthz")).expect("a URL");
        url.set_ip_host(ip).expect("http and https have hosts");
        url.set_port(Some(config.listen.port())).expect("http and https have ports");
        let introduced = config.proxy_protocol && config.is_trusted_proxy(ip);
        Ok(Self { url, introduced })
    }

    /// The relay at an address.
    pub fn at(url: &Url) -> Result<Self, Unhealthy> {
        let known = ["http", "https"].contains(&url.scheme()) && url.host().is_some();
        let asked = known.then(|| url.join("/healthz").ok()).flatten();
        // A name and a password in it would be printed.
        match asked.filter(|url| url.username().is_empty() && url.password().is_none()) {
            Some(url) => Ok(Self { url, introduced: false }),
            None if known => Err(Unhealthy::BadUrl { url: bare(url) }),
            None => Err(Unhealthy::BadUrl { url: url.clone() }),
        }
    }

    /// What is asked for.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Asks, once.
    pub async fn ask(&self) -> Result<(), Unhealthy> {
        let url = self.url.clone();
        match timeout(LIMIT, self.answer()).await {
            Ok(Ok(200)) => Ok(()),
            Ok(Ok(status)) => Err(Unhealthy::Answer { url, status }),
            Ok(Err(source)) => Err(Unhealthy::Silent { url, source }),
            Err(_) => Err(Unhealthy::Slow { url }),
        }
    }

    /// The status of the answer.
    async fn answer(&self) -> io::Result<u16> {
        let port = self.url.port_or_known_default().ok_or(io::ErrorKind::InvalidInput)?;
        let (mut stream, name) = match self.url.host() {
            Some(Host::Domain(name)) => {
                (TcpStream::connect((name, port)).await?, ServerName::try_from(name.to_owned()))
            }
            Some(Host::Ipv4(ip)) => {
                (TcpStream::connect((ip, port)).await?, Ok(ServerName::from(std::net::IpAddr::from(ip))))
            }
            Some(Host::Ipv6(ip)) => {
                (TcpStream::connect((ip, port)).await?, Ok(ServerName::from(std::net::IpAddr::from(ip))))
            }
            None => return Err(io::ErrorKind::InvalidInput.into()),
        };
        if self.introduced {
            stream.write_all(b"PROXY UNKNOWN\r\n").await?;
        }
        if self.url.scheme() == "http" {
            return self.exchange(stream).await;
        }
        let name = name.map_err(|_invalid| io::ErrorKind::InvalidInput)?;
        self.exchange(connector().connect(name, stream).await?).await
    }

    async fn exchange(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<u16> {
        let authority = &self.url[url::Position::BeforeHost..url::Position::AfterPort];
        let request = format!("GET /healthz HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut line = Vec::new();
        let mut stream = stream.take(MAX_LINE);
        while !line.contains(&b'\n') {
            if stream.read_buf(&mut line).await? == 0 {
                break;
            }
        }
        status(&line).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "what answers there speaks no HTTP"))
    }
}

/// The status in an answer's first line.
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\n').next()?;
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let digits = rest.get(..3).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    // Behind the status comes a space, or the end of the line.
    let ends = rest.get(3).is_none_or(|next| b" \r".contains(next));
    ends.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

/// The address without what a person may have written into it.
fn bare(url: &Url) -> Url {
    let mut url = url.clone();
    // Only a URL without a host refuses that, and this one has one.
    let _done = (url.set_username(""), url.set_password(None));
    url
}

fn connector() -> TlsConnector {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let anyone = Arc::new(AnyCertificate(Arc::clone(&provider)));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the versions that rustls speaks")
        .dangerous()
        .with_custom_certificate_verifier(anyone)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// Takes any certificate, from whoever has its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tls;
    use tokio::net::TcpListener;

    fn asked(listen: &str, tls: Tls) -> String {
        Question::of(&Config { listen: listen.parse().unwrap(), tls, ..Config::default() }).unwrap().url.to_string()
    }

    #[test]
    fn a_relay_is_asked_where_its_configuration_says_that_it_listens() {
        assert_eq!(asked("127.0.0.1:7420", Tls::Auto), "http://127.0.0.1:7420/healthz");
        assert_eq!(asked("0.0.0.0:443", Tls::Auto), "https://127.0.0.1/healthz");
        assert_eq!(asked("[::]:7420", Tls::Generated), "https://[::1]:7420/healthz");
        assert_eq!(asked("192.0.2.7:7420", Tls::Auto), "https://192.0.2.7:7420/healthz");
        let chosen = Config { listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() };
        assert!(matches!(Question::of(&chosen), Err(Unhealthy::NoPort)));
    }

    #[test]
    fn an_address_is_asked_for_its_health_whatever_its_path() {
        let at = |url: &str| Question::at(&url.parse().unwrap()).map(|question| question.url.to_string());
        assert_eq!(at("https://relay.example/there?x#y").unwrap(), "https://relay.example/healthz");
        for bad in ["ftp://relay.example", "data:there"] {
            assert!(matches!(at(bad), Err(Unhealthy::BadUrl { .. })), "{bad}");
        }
        let told = at("https://me:secret@relay.example").unwrap_err().to_string();
        assert!(!told.contains("secret"), "{told}");
    }

    #[test]
    fn only_a_status_line_has_a_status() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 503\r\n"), Some(503));
        for bad in
            [&b""[..], b"HTTP/1.1 2", b"HTTP/1.1 2000 OK", b"HTTP/1.1 +20 OK", b"HTTP/2 200", b"\n200", b"SSH-2.0-x"]
        {
            assert_eq!(status(bad), None, "{bad:?}");
        }
    }

    /// What is found about a program that answers so, and then says nothing more.
    async fn found(answer: &'static [u8]) -> Result<(), Unhealthy> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _request = stream.read(&mut [0; 1024]).await.unwrap();
            stream.write_all(answer).await.unwrap();
        });
        let found = Question::at(&url).unwrap().ask().await;
        serving.await.unwrap();
        found
    }

    #[tokio::test]
    async fn only_the_answer_200_is_healthy() {
        assert!(found(b"HTTP/1.1 200 OK\r\n\r\nok\n").await.is_ok());
        let stopping = found(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").await;
        assert!(matches!(stopping, Err(Unhealthy::Answer { status: 503, .. })), "{stopping:?}");
        assert!(matches!(found(b"HTTP/1.1 404 Not Found\r\n\r\n").await, Err(Unhealthy::Answer { status: 404, .. })));
        assert!(matches!(found(b"SSH-2.0-server\r\n").await, Err(Unhealthy::Silent { .. })));
        assert!(matches!(found(b"").await, Err(Unhealthy::Silent { .. })));
        let endless = found(&[b'x'; 4096]).await;
        assert!(matches!(endless, Err(Unhealthy::Silent { .. })), "{endless:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_relay_that_takes_a_connection_and_is_silent_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let found = Question::at(&url).unwrap().ask().await;
        assert!(matches!(found, Err(Unhealthy::Slow { .. })), "{found:?}");
    }
}
