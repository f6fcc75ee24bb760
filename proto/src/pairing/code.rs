//! Codes that a person types: 16 characters of Crockford's base32, 80 bits.
//!
//! Its alphabet has no I, L, O and U: the first three are read as the digits
//! they look like, the last is never written.

use ring::rand::SecureRandom;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::typed::typed;
use crate::crypto::keys::{KeyError, random};
use crate::words::quote;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Text that is not a typed code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodeError {
    /// A character that no code contains.
    #[error("{} is in no code: type the 16 letters and digits that the host shows", quote(.found))]
    Character {
        /// The character.
        found: char,
    },
    /// Too few or too many characters.
    #[error("a code has {} letters and digits, this has {found}: type all that the host shows", TypedCode::LEN)]
    Length {
        /// How many there were, dashes and spaces apart.
        found: usize,
    },
}

/// A code that a person types, in its one spelling. It is a secret: `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct TypedCode([u8; Self::LEN]);

impl TypedCode {
    /// Characters of a code.
    pub const LEN: usize = 16;

    /// A new code.
    pub fn generate(rng: &dyn SecureRandom) -> Result<Self, KeyError> {
        // 256 is a multiple of 32, so each of the 32 characters is equally likely.
        let bytes = Zeroizing::new(random::<{ Self::LEN }>(rng)?);
        Ok(Self(bytes.map(|byte| ALPHABET[usize::from(byte % 32)])))
    }

    /// What a person typed: dashes, spaces, case, width and what can't be seen don't matter, nor do I, L and O for the
    /// digits they look like.
    pub fn parse(text: &str) -> Result<Self, CodeError> {
        let mut code = Self([0; Self::LEN]);
        let mut found = 0;
        for c in typed(text) {
            let letter = match c.to_ascii_uppercase() {
                'I' | 'L' => '1',
                'O' => '0',
                other => other,
            };
            let known = u8::try_from(letter).ok().filter(|byte| ALPHABET.contains(byte));
            let byte = known.ok_or(CodeError::Character { found: c })?;
            if let Some(place) = code.0.get_mut(found) {
                *place = byte;
            }
            found += 1;
        }
        if found == Self::LEN { Ok(code) } else { Err(CodeError::Length { found }) }
    }

    /// `XXXX-XXXX-XXXX-XXXX`, for the person who types it; never for a log.
    pub fn expose(&self) -> Zeroizing<String> {
        let groups: Vec<_> = self.text().as_bytes().chunks(4).map(String::from_utf8_lossy).collect();
        Zeroizing::new(groups.join("-"))
    }

    /// The characters alone, as they enter the key derivation.
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.0).expect("the alphabet is ASCII")
    }
}

impl std::fmt::Debug for TypedCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TypedCode(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;

    #[test]
    fn a_code_survives_paper_and_a_careless_typist() {
        let code = TypedCode::generate(&SystemRandom::new()).unwrap();
        let shown = code.expose();
        assert_eq!((shown.len(), shown.matches('-').count()), (19, 3), "four groups of four");
        assert_eq!(TypedCode::parse(&shown), Ok(code));
        let wanted = TypedCode::parse("0123-4567-89AB-1101").unwrap();
        for typed in ["0123456789ab1101", " o123 4567 89ab iLO1 ", "O123-4567-89AB-ILo1\n", "01-23-45-67-89-AB-II-OL"] {
            assert_eq!(TypedCode::parse(typed), Ok(wanted.clone()), "{typed}");
        }
        assert_eq!(wanted.text(), "0123456789AB1101");
        assert_eq!(format!("{wanted:?}"), "TypedCode(…)");
    }

    #[test]
    fn what_is_not_a_code_is_refused_with_its_reason() {
        for (text, found) in [("", 0), ("0123-4567-89AB-110", 15), ("0123-4567-89AB-11012", 17)] {
            assert_eq!(TypedCode::parse(text), Err(CodeError::Length { found }), "{text}");
        }
        for found in ['U', 'u', '!', '\u{e9}', '\u{130}', '_', '\0'] {
            assert_eq!(TypedCode::parse(&format!("0123-4567-89AB-110{found}")), Err(CodeError::Character { found }));
        }
    }

    #[test]
    fn codes_differ() {
        let rng = SystemRandom::new();
        assert_ne!(TypedCode::generate(&rng), TypedCode::generate(&rng));
    }
}
