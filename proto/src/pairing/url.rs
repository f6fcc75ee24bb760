//! What a QR code holds: where the relay is, the secret, and who the relay must be.
//!
//! ```text
//!   HTTPS://RELAY.EXAMPLE.COM:443/#AEAQ…      85 characters after the #
//! ```
//!
//! Where a team serves the web app from an origin of its own, the address is that
//! one, and the fragment (version 2) ends with the relay's `host:port`.
//!
//! Everything is upper case, which a QR code stores at 5.5 bits per character.
//! The fragment never leaves the browser that opens the URL.

use data_encoding::BASE32_NOPAD;
use zeroize::Zeroizing;

use super::typed::copied;
use super::{Origin, OriginError, PairingSecret};
use crate::crypto::keys::Secret;
use crate::ids::RelayId;
use crate::wire::Reader;

/// Longest URL, in characters: its QR code still fits a terminal of 24 rows.
const MAX_URL: usize = 150;
/// The version in front of the fragment's fields, where the address is the relay's.
const AT_RELAY: u8 = 1;
/// The same where it is the web app's; the relay's `host:port` ends the fields, and its scheme is `https`.
const ELSEWHERE: u8 = 2;
/// Characters of the fragment, or the least of version 2: version 1, secret 32, fingerprint 20, in base32.
const FRAGMENT: usize = ((1 + 32 + RelayId::PREFIX_LEN) * 8).div_ceil(5);

/// Text that is not a pairing URL, or one that would be too long.
///
/// Nothing of the text is kept: it may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PairingUrlError {
    /// What is before the `#` is no relay.
    #[error("the code's address is not usable: {0}")]
    Origin(#[from] OriginError),
    /// Nothing after a `#`.
    #[error("the link has no pairing code after a #: copy the whole link that `reachback pair` shows")]
    NoFragment,
    /// Cut off, or more than a code.
    #[error("the link has {found} characters after the #, which is no whole pairing code: copy the whole link")]
    Length {
        /// How many there were.
        found: usize,
    },
    /// Not base32.
    #[error("the link's pairing code is damaged: copy or scan it again")]
    Damaged,
    /// Made by a newer host.
    #[error("the link is of version {found}, this program knows versions {AT_RELAY} and {ELSEWHERE}: update it")]
    Version {
        /// The version in the code.
        found: u8,
    },
    /// A page elsewhere can only reach a relay with TLS.
    #[error("a web app at an origin of its own needs a relay with https://, this one has http://")]
    PlainRelay,
    /// The relay's name is too long for a QR code.
    #[error("the relay's address is {excess} characters too long for a QR code: pair with a typed code")]
    TooLong {
        /// By how many.
        excess: usize,
    },
}

/// A pairing URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairingUrl {
    /// The relay's address.
    pub relay: Origin,
    /// Where the web app is, if not there.
    pub web: Option<Origin>,
    /// The pairing secret.
    pub secret: PairingSecret,
    /// The start of the relay's fingerprint.
    pub fingerprint: [u8; RelayId::PREFIX_LEN],
}

impl PairingUrl {
    /// The URL for a pairing at this relay.
    ///
    /// `web` is where the web app is served, if not by the relay; the relay's scheme is then `https`.
    pub fn new(
        relay: Origin,
        web: Option<Origin>,
        secret: PairingSecret,
        id: RelayId,
    ) -> Result<Self, PairingUrlError> {
        if web.is_some() && !relay.is_secure() {
            return Err(PairingUrlError::PlainRelay);
        }
        let mut fingerprint = [0; RelayId::PREFIX_LEN];
        fingerprint.copy_from_slice(&id.0[..RelayId::PREFIX_LEN]);
        let url = Self { relay, web, secret, fingerprint };
        match url.expose().len().checked_sub(MAX_URL) {
            None | Some(0) => Ok(url),
            Some(excess) => Err(PairingUrlError::TooLong { excess }),
        }
    }

    /// Whether a relay is the one that the code was made for.
    pub fn is_for(&self, id: RelayId) -> bool {
        id.starts_with(&self.fingerprint)
    }

    /// The text of the QR code; never for a log.
    pub fn expose(&self) -> Zeroizing<String> {
        let (address, version, relay) = match &self.web {
            None => (&self.relay, AT_RELAY, String::new()),
            Some(web) => (web, ELSEWHERE, format!("{}:{}", self.relay.host(), self.relay.port())),
        };
        let fields = [&[version], &self.secret.expose()[..], &self.fingerprint, relay.as_bytes()].concat();
        let fragment = Zeroizing::new(BASE32_NOPAD.encode(&Zeroizing::new(fields)));
        Zeroizing::new(format!("{}/#{}", address.to_string().to_ascii_uppercase(), fragment.as_str()))
    }

    /// The URL in `text`; its case does not matter, nor do white space and what can't be seen.
    pub fn parse(text: &str) -> Result<Self, PairingUrlError> {
        // With room for all of it: one that grew would leave pieces of the secret behind.
        let mut whole = Zeroizing::new(String::with_capacity(text.len()));
        whole.extend(copied(text));
        let (address, fragment) = whole.split_once('#').ok_or(PairingUrlError::NoFragment)?;
        let address: Origin = address.parse()?;
        if fragment.is_empty() {
            return Err(PairingUrlError::NoFragment);
        }
        let found = fragment.chars().count();
        let length = Err(PairingUrlError::Length { found });
        if found < FRAGMENT {
            return length;
        }
        let upper = Zeroizing::new(fragment.to_ascii_uppercase());
        let fields = BASE32_NOPAD.decode(upper.as_bytes()).map(Zeroizing::new);
        let fields = match fields {
            Ok(fields) => fields,
            Err(_) if found != FRAGMENT => return length,
            Err(_) => return Err(PairingUrlError::Damaged),
        };
        let mut reader = Reader::new(&fields);
        let damaged = |_| PairingUrlError::Damaged;
        let version = reader.u8().map_err(damaged)?;
        let secret = PairingSecret::new(Secret::new(reader.array().map_err(damaged)?));
        let fingerprint = reader.array().map_err(damaged)?;
        match (version, reader.rest()) {
            (AT_RELAY, []) => Ok(Self { relay: address, web: None, secret, fingerprint }),
            (AT_RELAY, _) => length,
            (ELSEWHERE, relay) => {
                let relay = str::from_utf8(relay).map_err(|_| PairingUrlError::Damaged)?;
                let relay = format!("https://{relay}").parse().map_err(|_| PairingUrlError::Damaged)?;
                Ok(Self { relay, web: Some(address), secret, fingerprint })
            }
            (found, _) => Err(PairingUrlError::Version { found }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(relay: &str) -> Result<PairingUrl, PairingUrlError> {
        PairingUrl::new(relay.parse().unwrap(), None, PairingSecret::new(Secret::new([7; 32])), RelayId([9; 32]))
    }

    #[test]
    fn a_url_survives_a_qr_code_and_a_careless_typist() {
        let made = url("https://relay.example.com").unwrap();
        let text = made.expose();
        assert!(text.starts_with("HTTPS://RELAY.EXAMPLE.COM:443/#"), "{}", text.as_str());
        assert_eq!((text.split_once('#').unwrap().1.len(), text.to_ascii_uppercase()), (85, text.to_string()));
        for typed in [text.to_string(), text.to_ascii_lowercase(), format!(" {}\n", text.as_str())] {
            assert_eq!(PairingUrl::parse(&typed), Ok(made.clone()));
        }
        // The port that goes without saying may be left out, and the slash too.
        assert_eq!(PairingUrl::parse(&text.replace(":443/", "")), Ok(made.clone()));
        assert!(made.is_for(RelayId([9; 32])) && !made.is_for(RelayId([8; 32])));
        assert!(url("http://127.0.0.1:8080").unwrap().expose().starts_with("HTTP://127.0.0.1:8080/#"));
        assert!(url("https://[::1]:8443").unwrap().expose().starts_with("HTTPS://[::1]:8443/#"));
        assert!(!format!("{made:?}").contains("7, 7"), "a secret in {made:?}");
    }

    #[test]
    fn what_is_not_a_pairing_url_is_refused_with_its_reason() {
        let text = url("https://relay.example.com").unwrap().expose().to_string();
        let refused = |text: &str| PairingUrl::parse(text).unwrap_err();
        assert_eq!(refused(""), PairingUrlError::NoFragment);
        assert_eq!(refused("https://relay.example.com/"), PairingUrlError::NoFragment);
        assert_eq!(refused("https://relay.example.com/#"), PairingUrlError::NoFragment);
        assert_eq!(refused(&text[..text.len() - 1]), PairingUrlError::Length { found: 84 });
        assert_eq!(refused(&format!("{text}A")), PairingUrlError::Length { found: 86 });
        assert_eq!(refused(&text.replace("HTTPS", "FTP")), PairingUrlError::Origin(OriginError::Scheme));
        assert_eq!(refused(&text.replace("/#", "/X#")), PairingUrlError::Origin(OriginError::Rest));
        assert_eq!(refused(&text.replace("#A", "#1")), PairingUrlError::Damaged);
        assert_eq!(refused(&text.replace("#A", "#\u{e9}")), PairingUrlError::Damaged);
        // The last character has one bit to spare; only its one spelling counts.
        assert_eq!(refused(&format!("{}B", &text[..text.len() - 1])), PairingUrlError::Damaged);
        assert_eq!(refused(&text.replace("#AE", "#AM")), PairingUrlError::Version { found: 3 });
    }

    #[test]
    fn a_code_for_a_web_app_elsewhere_names_the_relay() {
        let made = |relay: &str, web: &str| {
            let secret = PairingSecret::new(Secret::new([7; 32]));
            PairingUrl::new(relay.parse().unwrap(), Some(web.parse().unwrap()), secret, RelayId([9; 32]))
        };
        let url = made("https://relay.example.com:8443", "https://app.example.com").unwrap();
        let text = url.expose();
        assert!(text.starts_with("HTTPS://APP.EXAMPLE.COM:443/#AI"), "{}", text.as_str());
        assert!(text.len() <= MAX_URL && *text == text.to_ascii_uppercase(), "{}", text.as_str());
        for typed in [text.to_string(), text.to_ascii_lowercase(), text.replace(":443/", "")] {
            assert_eq!(PairingUrl::parse(&typed), Ok(url.clone()));
        }
        let other = made("https://[::1]:8443", "https://app.example.com").unwrap();
        assert_eq!(PairingUrl::parse(&other.expose()), Ok(other));
        let plain = made("http://127.0.0.1:8080", "https://app.example.com");
        assert_eq!(plain, Err(PairingUrlError::PlainRelay));

        let with = |relay: &[u8]| {
            let fields = [&[ELSEWHERE][..], &[7; 32], &[9; RelayId::PREFIX_LEN], relay].concat();
            PairingUrl::parse(&format!("https://app.example.com/#{}", BASE32_NOPAD.encode(&fields)))
        };
        assert!(with(b"relay.example.com:443").is_ok());
        for relay in [&b""[..], b"\xff", b"relay.example/x", b"user@relay.example", b"relay.example:99999"] {
            assert_eq!(with(relay), Err(PairingUrlError::Damaged), "{relay:?}");
        }
    }

    #[test]
    fn a_url_too_long_for_a_qr_code_is_refused() {
        let name = |length: usize| format!("https://{}.example:65535", "a".repeat(length - 8));
        assert_eq!(url(&name(49)).unwrap().expose().len(), MAX_URL);
        assert_eq!(url(&name(51)), Err(PairingUrlError::TooLong { excess: 2 }));
    }
}
