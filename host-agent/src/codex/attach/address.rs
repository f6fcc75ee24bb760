//! Where an app-server that somebody else started listens, as a person writes it.
//!
//! What is said to it is a shell as its user, in plain text. So it is this machine's loopback or a socket of its file
//! system, and nothing that could leave the machine.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use reachback_proto::words::{printable, quote};
use url::{Host, Url};

/// An app-server's address: `ws://127.0.0.1:4500`, `ws://localhost:4500`, `ws://[::1]:4500`, or `unix:///path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(Place);

/// What is behind an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// The port of this loopback address; where the person wrote `localhost`, of the first that answers.
    Tcp(Vec<SocketAddr>),
    /// This socket.
    Unix(PathBuf),
}

/// Text that is no address of an app-server to attach to. It is quoted only where no secret can be in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Not of the two kinds.
    #[error("it is no address of an app-server: those are ws://127.0.0.1:PORT and unix:///PATH")]
    Kind,
    /// With TLS, which an app-server does not speak.
    #[error("codex's app-server speaks no TLS, and on this machine's own loopback none is needed")]
    Tls,
    /// With a name, a password, a path, or a query.
    #[error(
        "it has more than a host and a port: codex reads nothing else of an address, and secrets do not belong on a command line"
    )]
    More,
    /// Not on this machine's loopback.
    #[error(
        "{} is not this machine's loopback: what is said on the way there would be open to whoever is between",
        quote(host)
    )]
    Elsewhere {
        /// The host that it names.
        host: String,
    },
    /// A socket without its whole path.
    #[error("a socket is named by its whole path: unix:///PATH")]
    Path,
}

impl AddressError {
    /// What a person can do about it.
    pub fn fix(&self) -> &'static str {
        match self {
            Self::Elsewhere { .. } => {
                "for a Codex on another machine: reachback ssh add NAME; or run Reachback on that machine"
            }
            Self::Tls => "write ws:// and the port that the app-server listens on",
            Self::More => {
                "write ws://127.0.0.1:PORT alone; a token goes into a file: --attach-token-file or --attach-secret-file"
            }
            Self::Kind | Self::Path => {
                "write what the app-server was started with: codex app-server --listen ws://127.0.0.1:PORT or unix:///PATH"
            }
        }
    }
}

impl Address {
    pub(super) fn place(&self) -> &Place {
        &self.0
    }

    /// Whether it is a socket of the file system, which asks for no token.
    pub fn is_socket(&self) -> bool {
        matches!(self.0, Place::Unix(_))
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix://") {
            let path = Path::new(path);
            return if path.is_absolute() { Ok(Self(Place::Unix(path.into()))) } else { Err(AddressError::Path) };
        }
        let url = Url::parse(text).map_err(|_| AddressError::Kind)?;
        match url.scheme() {
            "ws" => {}
            "wss" => return Err(AddressError::Tls),
            _ => return Err(AddressError::Kind),
        }
        let is_plain = url.username().is_empty() && url.password().is_none() && matches!(url.path(), "" | "/");
        if !is_plain || url.query().is_some() || url.fragment().is_some() {
            return Err(AddressError::More);
        }
        let port = url.port_or_known_default().ok_or(AddressError::Kind)?;
        let both = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let addresses = match url.host() {
            Some(Host::Ipv4(ip)) if ip.is_loopback() => vec![SocketAddr::from((ip, port))],
            Some(Host::Ipv6(ip)) if ip.is_loopback() => vec![SocketAddr::from((ip, port))],
            // Not looked up: what a name means is for others to say.
            Some(Host::Domain("localhost")) => both.map(|ip| SocketAddr::new(ip, port)).to_vec(),
            Some(host) => return Err(AddressError::Elsewhere { host: host.to_string() }),
            None => return Err(AddressError::Kind),
        };
        Ok(Self(Place::Tcp(addresses)))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Tcp(addresses) => match &addresses[..] {
                [address] => write!(f, "ws://{address}"),
                several => write!(f, "ws://localhost:{}", several.first().map_or(0, SocketAddr::port)),
            },
            Place::Unix(path) => write!(f, "unix://{}", printable(&path.to_string_lossy())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_leave_the_machine_is_an_address() {
        for (text, shown) in [
            ("ws://127.0.0.1:4500", "ws://127.0.0.1:4500"),
            ("ws://127.8.9.1:4500/", "ws://127.8.9.1:4500"),
            ("ws://[::1]:4500", "ws://[::1]:4500"),
            ("WS://LOCALHOST:4500", "ws://localhost:4500"),
            ("ws://127.0.0.1", "ws://127.0.0.1:80"),
            ("unix:///run/codex/app.sock", "unix:///run/codex/app.sock"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse(), Ok(address));
        }
    }

    #[test]
    fn whatever_could_leave_the_machine_is_refused_with_the_way_that_is_meant_for_it() {
        for elsewhere in [
            "ws://10.0.0.7:4500",
            "ws://0.0.0.0:4500",
            "ws://[::]:4500",
            "ws://[::ffff:127.0.0.1]:4500",
            "ws://devbox:1",
        ] {
            let refused = elsewhere.parse::<Address>().unwrap_err();
            assert!(matches!(refused, AddressError::Elsewhere { .. }), "{elsewhere}: {refused:?}");
            assert!(refused.fix().contains("reachback ssh add"));
        }
        for (text, refused) in [
            ("wss://127.0.0.1:4500", AddressError::Tls),
            ("http://127.0.0.1:4500", AddressError::Kind),
            ("127.0.0.1:4500", AddressError::Kind),
            ("stdio://", AddressError::Kind),
            ("", AddressError::Kind),
            ("unix://", AddressError::Path),
            ("unix://codex.sock", AddressError::Path),
        ] {
            assert_eq!(text.parse::<Address>(), Err(refused), "{text}");
        }
    }

    #[test]
    fn a_secret_in_an_address_is_refused_and_not_said_again() {
        for text in [
            "ws://ann:s3cret@127.0.0.1:1",
            "ws://s3cret@127.0.0.1:1",
            "ws://127.0.0.1:1/?token=s3cret",
            "ws://127.0.0.1:1/s3cret",
        ] {
            let refused = text.parse::<Address>().unwrap_err();
            assert_eq!(refused, AddressError::More, "{text}");
            assert!(!format!("{refused} {refused:?} {}", refused.fix()).contains("s3cret"));
        }
        // Nor where it is refused for something else.
        let refused = "ws://s3cret@devbox:1".parse::<Address>().unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains("s3cret"));
    }
}
