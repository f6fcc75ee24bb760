//! What a QR code holds: where the relay is, the secret, and who the relay must be.
//!
//! ```text
//!   HTTPS://RELAY.EXAMPLE.COM:443/#AEAQ…      85 characters after the #
//! ```
//!
//! Everything is upper case, which a QR code stores at 5.5 bits per character.
//! The fragment never leaves the browser that opens the URL.

use data_encoding::BASE32_NOPAD;
use zeroize::Zeroizing;

use super::{Origin, OriginError, PairingSecret};
use crate::crypto::keys::Secret;
use crate::ids::RelayId;
use crate::wire::Reader;

/// Longest URL, in characters: its QR code still fits a terminal of 24 rows.
const MAX_URL: usize = 150;
/// The version in front of the fragment's fields.
const VERSION: u8 = 1;
/// Characters of the fragment: version 1, secret 32, fingerprint 20, in base32.
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
    #[error("the link has {found} characters after the #, a pairing code has {FRAGMENT}: copy the whole link")]
    Length {
        /// How many there were.
        found: usize,
    },
    /// Not base32.
    #[error("the link's pairing code is damaged: copy or scan it again")]
    Damaged,
    /// Made by a newer host.
    #[error("the link is of version {found}, this program knows version {VERSION}: update it")]
    Version {
        /// The version in the code.
        found: u8,
    },
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
    /// The pairing secret.
    pub secret: PairingSecret,
    /// The start of the relay's fingerprint.
    pub fingerprint: [u8; RelayId::PREFIX_LEN],
}

impl PairingUrl {
    /// The URL for a pairing at this relay.
    pub fn new(relay: Origin, secret: PairingSecret, id: RelayId) -> Result<Self, PairingUrlError> {
        let mut fingerprint = [0; RelayId::PREFIX_LEN];
        fingerprint.copy_from_slice(&id.0[..RelayId::PREFIX_LEN]);
        let url = Self { relay, secret, fingerprint };
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
        let fields = Zeroizing::new([&[VERSION], &self.secret.expose()[..], &self.fingerprint].concat());
        let fragment = Zeroizing::new(BASE32_NOPAD.encode(&fields));
        Zeroizing::new(format!("{}/#{}", self.relay.to_string().to_ascii_uppercase(), fragment.as_str()))
    }

    /// The URL in `text`; its case does not matter.
    pub fn parse(text: &str) -> Result<Self, PairingUrlError> {
        let (address, fragment) = text.trim().split_once('#').ok_or(PairingUrlError::NoFragment)?;
        let relay: Origin = address.parse()?;
        if fragment.is_empty() {
            return Err(PairingUrlError::NoFragment);
        }
        let found = fragment.chars().count();
        if found != FRAGMENT {
            return Err(PairingUrlError::Length { found });
        }
        let upper = Zeroizing::new(fragment.to_ascii_uppercase());
        let fields = BASE32_NOPAD.decode(upper.as_bytes()).map(Zeroizing::new);
        let fields = fields.map_err(|_| PairingUrlError::Damaged)?;
        let mut reader = Reader::new(&fields);
        let damaged = |_| PairingUrlError::Damaged;
        let version = reader.u8().map_err(damaged)?;
        if version != VERSION {
            return Err(PairingUrlError::Version { found: version });
        }
        let secret = PairingSecret::new(Secret::new(reader.array().map_err(damaged)?));
        let fingerprint = reader.array().map_err(damaged)?;
        Ok(Self { relay, secret, fingerprint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(relay: &str) -> Result<PairingUrl, PairingUrlError> {
        PairingUrl::new(relay.parse().unwrap(), PairingSecret::new(Secret::new([7; 32])), RelayId([9; 32]))
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
        assert_eq!(refused(&text.replace("#AE", "#AI")), PairingUrlError::Version { found: 2 });
    }

    #[test]
    fn a_url_too_long_for_a_qr_code_is_refused() {
        let name = |length: usize| format!("https://{}.example:65535", "a".repeat(length - 8));
        assert_eq!(url(&name(49)).unwrap().expose().len(), MAX_URL);
        assert_eq!(url(&name(51)), Err(PairingUrlError::TooLong { excess: 2 }));
    }
}
