//! What a relay is told before it starts.
//!
//! `reachback-relay` merges file, environment and flags into one [`Config`]
//! (`cli.rs`); `reachback up` and tests build it literally. Nothing else of the
//! relay reads the environment.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::ValueEnum;
use ipnet::IpNet;
use reachback_proto::words::quote;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

pub use crate::limits::Limits;

/// Where a relay listens when nothing is said.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7420);

/// A relay's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Directory of the database and the identity, for this user only. Default `reachback-relay`.
    pub data: PathBuf,
    /// Address to listen on; port 0 takes a free one. Default 127.0.0.1:7420.
    pub listen: SocketAddr,
    /// The address that hosts and devices use, when it is another than `listen` (a name, a proxy). Default none.
    pub public_url: Option<Url>,
    /// How connections are protected. Default [`Tls::Auto`].
    pub tls: Tls,
    /// Whether QUIC is offered beside TLS, on the same port. Default [`Quic::Auto`].
    pub quic: Quic,
    /// More names that requests may be addressed to, beside `public_url`, `listen` and loopback. Default none.
    pub names: Vec<String>,
    /// Other origins whose pages may open links: where a team serves the web app from a server of its own. Default none.
    pub web_origins: Vec<Url>,
    /// Addresses of proxies in front of the relay. The limits of connections per address do not hold for them: all who come
    /// through one have its address. Default none.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether those proxies put a header of the PROXY protocol in front of each connection. Default false.
    pub proxy_protocol: bool,
    /// Whether `/metrics` answers everybody, not only loopback. Default false.
    pub public_metrics: bool,
    /// Addresses, besides loopback, that `/metrics` answers when they ask themselves and not through a proxy. Default none.
    pub metrics_from: Vec<IpNet>,
    /// Whether `enroll-key` in the data directory holds an enrolment key until a host has enrolled. Default false.
    pub enroll_file: bool,
    /// The limits.
    pub limits: Limits,
}

/// How connections are protected.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Tls {
    /// Plain on loopback, [`Tls::Generated`] elsewhere.
    #[default]
    Auto,
    /// Plain HTTP; only on loopback.
    Off,
    /// A certificate whose key is the relay's identity: for peers that pin the fingerprint.
    Generated,
    /// Certificate chain and key from PEM files.
    Files {
        /// The chain, leaf first.
        cert: PathBuf,
        /// The private key.
        key: PathBuf,
    },
}

/// Whether QUIC is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quic {
    /// Where the relay speaks TLS itself, and the UDP port can be had.
    #[default]
    Auto,
    /// It has to be.
    On,
    /// No.
    Off,
}

/// A configuration that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Plain HTTP on an address that others reach.
    #[error(
        "plain HTTP on {listen} would show sign-ins and traffic to the network: listen on 127.0.0.1 (behind a TLS proxy \
         or for this machine only), give --tls-cert and --tls-key, or use --tls generated"
    )]
    PlainOnNetwork {
        /// The address.
        listen: SocketAddr,
    },
    /// A public URL that would make browsers speak plain HTTP over a network.
    #[error("public URL {url} is plain HTTP: use https://; http:// is for loopback only")]
    PlainPublicUrl {
        /// The URL.
        url: Url,
    },
    /// A public URL that is not just scheme, host and port.
    #[error("public URL {url} can't be used: give scheme, host and port only, such as https://relay.example:7420")]
    BadPublicUrl {
        /// The URL.
        url: Url,
    },
    /// An origin for pages that is not one, or whose pages anybody on the way could change.
    #[error("web origin {url} can't be used: give https://HOST or https://HOST:PORT")]
    BadWebOrigin {
        /// The URL.
        url: Url,
    },
    /// Every address is listened on, and none is known that peers can use.
    #[error(
        "{listen} stands for every address of this machine: say which one peers use with --public-url https://HOST:PORT"
    )]
    NoAddress {
        /// The address.
        listen: SocketAddr,
    },
    /// QUIC from a relay that has no TLS.
    #[error(
        "QUIC is always encrypted, and this relay is to speak plain HTTP on {listen}: give --tls-cert and --tls-key, or use \
         --tls generated, or leave --quic on out"
    )]
    PlainQuic {
        /// The address.
        listen: SocketAddr,
    },
    /// A path that is not valid text. The operating system takes it, the database and the printed configuration don't.
    #[error("{name} {} is not valid text (UTF-8): choose another path", quote(path.display()))]
    NotText {
        /// The setting.
        name: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// Headers of the PROXY protocol from nobody.
    #[error("proxy_protocol without trusted_proxies has no effect: name the proxies that say it")]
    NoProxies,
    /// A limit that would let nobody in.
    #[error("limit {name} is {value}: it must be at least {least}")]
    LimitTooSmall {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: u64,
        /// The least that works.
        least: u64,
    },
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "reachback-relay".into(),
            listen: DEFAULT_LISTEN,
            public_url: None,
            tls: Tls::Auto,
            quic: Quic::Auto,
            names: Vec::new(),
            web_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            public_metrics: false,
            metrics_from: Vec::new(),
            enroll_file: false,
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// Refuses what can't work or would not be safe. [`Relay::start`](crate::Relay::start) does it too.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let listen = self.listen;
        if self.tls == Tls::Off && !listen.ip().is_loopback() {
            return Err(ConfigError::PlainOnNetwork { listen });
        }
        if self.quic == Quic::On && self.is_plain() {
            return Err(ConfigError::PlainQuic { listen });
        }
        match &self.public_url {
            None if listen.ip().is_unspecified() => return Err(ConfigError::NoAddress { listen }),
            None => {}
            Some(url) => check_public_url(url)?,
        }
        if let Some(url) = self.web_origins.iter().find(|url| url.scheme() == "http" || check_public_url(url).is_err())
        {
            return Err(ConfigError::BadWebOrigin { url: url.clone() });
        }
        if self.proxy_protocol && self.trusted_proxies.is_empty() {
            return Err(ConfigError::NoProxies);
        }
        let paths = match &self.tls {
            Tls::Files { cert, key } => vec![("data", &self.data), ("tls_cert", cert), ("tls_key", key)],
            Tls::Auto | Tls::Off | Tls::Generated => vec![("data", &self.data)],
        };
        if let Some((name, path)) = paths.into_iter().find(|(_, path)| path.to_str().is_none()) {
            return Err(ConfigError::NotText { name, path: path.clone() });
        }
        let limits = &self.limits;
        for (name, value, least) in [
            ("connections", limits.connections as u64, 1),
            ("unproven", limits.unproven as u64, 1),
            ("unproven_per_address", limits.unproven_per_address as u64, 1),
            ("unproven_ms", limits.unproven_ms, 1),
            ("hello_ms", limits.hello_ms, 1),
            ("hello_bytes", limits.hello_bytes as u64, 1024),
            ("control_ping_ms", limits.control_ping_ms, 1),
            ("idle_ping_ms", limits.idle_ping_ms, 1),
            ("circuit_reminder_ms", limits.circuit_reminder_ms, 1),
            ("circuit_idle_ms", limits.circuit_idle_ms, 1),
            ("write_ms", limits.write_ms, 1),
            ("circuits_per_host", limits.circuits_per_host as u64, 1),
            ("links_per_device", limits.links_per_device as u64, 1),
        ] {
            if value < least {
                return Err(ConfigError::LimitTooSmall { name, value, least });
            }
        }
        Ok(())
    }

    /// Whether connections from this address are those of a proxy.
    pub(crate) fn is_trusted_proxy(&self, from: IpAddr) -> bool {
        let from = from.to_canonical();
        self.trusted_proxies.iter().any(|proxies| proxies.contains(&from))
    }

    /// Whether `/metrics` answers who asks from this address without a proxy between.
    pub(crate) fn shows_metrics_to(&self, from: IpAddr) -> bool {
        let from = from.to_canonical();
        from.is_loopback() || self.metrics_from.iter().any(|watchers| watchers.contains(&from))
    }

    /// Whether QUIC is offered, if it can be.
    pub(crate) fn offers_quic(&self) -> bool {
        self.quic != Quic::Off && !self.is_plain()
    }

    /// Whether the listener itself speaks plain HTTP.
    pub(crate) fn is_plain(&self) -> bool {
        match self.tls {
            Tls::Off => true,
            Tls::Auto => self.listen.ip().is_loopback(),
            Tls::Generated | Tls::Files { .. } => false,
        }
    }
}

fn check_public_url(url: &Url) -> Result<(), ConfigError> {
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let anonymous = url.username().is_empty() && url.password().is_none();
    match url.scheme() {
        "https" | "http" if !bare || !anonymous => Err(ConfigError::BadPublicUrl { url: url.clone() }),
        "https" => Ok(()),
        "http" if is_loopback(url) => Ok(()),
        "http" => Err(ConfigError::PlainPublicUrl { url: url.clone() }),
        _ => Err(ConfigError::BadPublicUrl { url: url.clone() }),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(listen: &str, tls: Tls, public_url: Option<&str>) -> Result<(), ConfigError> {
        let public_url = public_url.map(|url| url.parse().unwrap());
        Config { listen: listen.parse().unwrap(), tls, public_url, ..Config::default() }.validate()
    }

    #[test]
    fn plain_http_is_for_loopback_only() {
        assert_eq!(on("127.0.0.1:0", Tls::Off, None), Ok(()));
        assert_eq!(on("[::1]:0", Tls::Auto, None), Ok(()));
        assert_eq!(on("192.0.2.1:443", Tls::Auto, None), Ok(()));
        let refused = on("192.0.2.1:80", Tls::Off, None).unwrap_err();
        assert!(refused.to_string().contains("--tls-cert"), "{refused}");
        assert!(matches!(
            on("127.0.0.1:0", Tls::Off, Some("http://relay.example")),
            Err(ConfigError::PlainPublicUrl { .. })
        ));
        assert_eq!(on("127.0.0.1:0", Tls::Off, Some("https://relay.example")), Ok(()), "a TLS proxy stands in front");
    }

    #[test]
    fn a_public_url_is_an_origin_and_needed_when_listening_everywhere() {
        assert!(matches!(on("0.0.0.0:443", Tls::Auto, None), Err(ConfigError::NoAddress { .. })));
        assert_eq!(on("0.0.0.0:443", Tls::Auto, Some("https://relay.example:8443")), Ok(()));
        for bad in ["https://relay.example/path", "https://me@relay.example", "ftp://relay.example", "https://a/#b"] {
            assert!(matches!(on("127.0.0.1:0", Tls::Auto, Some(bad)), Err(ConfigError::BadPublicUrl { .. })), "{bad}");
        }
    }

    #[test]
    fn limits_that_let_nobody_in_are_refused() {
        let limits = Limits { hello_bytes: 10, ..Limits::default() };
        let refused = Config { limits, ..Config::default() }.validate();
        assert_eq!(refused, Err(ConfigError::LimitTooSmall { name: "hello_bytes", value: 10, least: 1024 }));
    }

    #[test]
    fn introductions_from_no_proxy_are_a_mistake() {
        let config = Config { proxy_protocol: true, ..Config::default() };
        assert_eq!(config.validate(), Err(ConfigError::NoProxies));
        let trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
        let config = Config { trusted_proxies, ..config };
        assert_eq!(config.validate(), Ok(()));
        assert!(config.is_trusted_proxy("::ffff:10.9.9.9".parse().unwrap()));
        assert!(!config.is_trusted_proxy("11.0.0.1".parse().unwrap()));
    }

    #[test]
    fn metrics_are_for_this_machine_and_for_those_that_are_named() {
        let metrics_from = vec!["172.30.74.4/32".parse().unwrap()];
        let config = Config { metrics_from, ..Config::default() };
        for (address, is_shown) in [("127.0.0.1", true), ("::1", true), ("172.30.74.4", true), ("172.30.74.5", false)] {
            assert_eq!(config.shows_metrics_to(address.parse().unwrap()), is_shown, "{address}");
        }
        assert!(config.shows_metrics_to("::ffff:172.30.74.4".parse().unwrap()));
    }
}
