//! The relay's origin: scheme, host and port, in one spelling.
//!
//! It is the salt of typed codes, so a terminal and a browser have to spell it
//! alike. The `url` crate implements what browsers do (WHATWG URL).

use std::fmt;
use std::str::FromStr;

use ::url::{Host, Url};

/// Longest origin, in bytes: what `HostIntro` has room for. QR codes hold far less.
pub(super) const MAX_ORIGIN: usize = 200;

/// Text that is not the address of a relay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OriginError {
    /// Not a URL.
    #[error("not the address of a relay: write it like https://relay.example.com")]
    NotAUrl,
    /// A scheme that relays don't have.
    #[error("a relay's address starts with https:// (or http:// on this computer)")]
    Scheme,
    /// A user name or password.
    #[error("a relay's address has no user name or password: leave out what is before the @")]
    UserInfo,
    /// A path, a query or a fragment.
    #[error("a relay's address ends after the port: leave out the rest")]
    Rest,
    /// Longer than any relay's.
    #[error("a relay's address has at most {MAX_ORIGIN} characters")]
    TooLong,
}

/// `scheme://host:port`, lower case, the port always there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    secure: bool,
    host: Host,
    port: u16,
}

impl Origin {
    /// Whether the scheme is https.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The host's name or address; IPv6 in brackets.
    pub fn host(&self) -> String {
        self.host.to_string()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it is this computer itself, where plain http is a secure context.
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        }
    }

    /// The origin of a URL that has nothing else to say.
    pub(super) fn of(url: &Url) -> Result<Self, OriginError> {
        let secure = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(OriginError::Scheme),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(OriginError::UserInfo);
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(OriginError::Rest);
        }
        let host = url.host().ok_or(OriginError::NotAUrl)?.to_owned();
        let port = url.port_or_known_default().ok_or(OriginError::NotAUrl)?;
        let origin = Self { secure, host, port };
        if origin.to_string().len() > MAX_ORIGIN { Err(OriginError::TooLong) } else { Ok(origin) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        // The parser skips what it does not like; a person who pasted half a page hears of it instead.
        let text = text.trim();
        if text.len() > MAX_ORIGIN + 1 {
            return Err(OriginError::TooLong);
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err(OriginError::NotAUrl);
        }
        let (scheme, rest) = text.split_once("://").ok_or(OriginError::NotAUrl)?;
        if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
            return Err(OriginError::Scheme);
        }
        if rest.starts_with('/') {
            return Err(OriginError::NotAUrl);
        }
        Self::of(&Url::parse(text).map_err(|_| OriginError::NotAUrl)?)
    }
}

impl serde::Serialize for Origin {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Origin {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Result<String, OriginError> {
        text.parse::<Origin>().map(|origin| origin.to_string())
    }

    #[test]
    fn an_origin_has_one_spelling() {
        for (text, spelled) in [
            ("https://relay.example.com", "https://relay.example.com:443"),
            ("HTTPS://Relay.Example.COM:443/", "https://relay.example.com:443"),
            ("http://localhost", "http://localhost:80"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("https://[2001:DB8:0::1]:8443/", "https://[2001:db8::1]:8443"),
            ("https://[::1]", "https://[::1]:443"),
            (" https://b\u{fc}cher.example ", "https://xn--bcher-kva.example:443"),
        ] {
            assert_eq!(origin(text).as_deref(), Ok(spelled), "{text}");
            assert_eq!(origin(spelled).as_deref(), Ok(spelled));
        }
        let json = serde_json::to_string(&"https://a.b".parse::<Origin>().unwrap()).unwrap();
        assert_eq!(json, r#""https://a.b:443""#);
        assert_eq!(serde_json::from_str::<Origin>(&json).unwrap().to_string(), "https://a.b:443");
    }

    #[test]
    fn what_is_not_an_origin_is_refused_with_its_reason() {
        for (text, err) in [
            ("", OriginError::NotAUrl),
            ("relay.example.com", OriginError::NotAUrl),
            ("relay.example.com:443", OriginError::NotAUrl),
            ("https://", OriginError::NotAUrl),
            ("https:///relay.example.com", OriginError::NotAUrl),
            ("https://relay .example", OriginError::NotAUrl),
            ("https://relay\\example", OriginError::NotAUrl),
            ("https://relay.example:99999", OriginError::NotAUrl),
            ("wss://relay.example.com", OriginError::Scheme),
            ("javascript://relay.example.com", OriginError::Scheme),
            ("https://me@relay.example.com", OriginError::UserInfo),
            ("https://:pw@relay.example.com", OriginError::UserInfo),
            ("https://relay.example.com/path", OriginError::Rest),
            ("https://relay.example.com/?q", OriginError::Rest),
            ("https://relay.example.com/#x", OriginError::Rest),
        ] {
            assert_eq!(origin(text), Err(err), "{text}");
        }
        assert_eq!(origin(&format!("https://{}example", "a.".repeat(120))), Err(OriginError::TooLong));
    }

    #[test]
    fn loopback_is_this_computer() {
        for (text, loopback) in [
            ("http://localhost:1", true),
            ("http://127.3.2.1", true),
            ("http://[::1]", true),
            ("http://192.168.0.1", false),
            ("https://localhost.example", false),
        ] {
            let origin: Origin = text.parse().unwrap();
            assert_eq!(origin.is_loopback(), loopback, "{text}");
            assert_eq!(origin.is_secure(), text.starts_with("https"));
        }
    }
}
