//! How the host shows a Codex that somebody else started that it knows the secret of that Codex.
//!
//! `codex app-server --ws-auth signed-bearer-token` takes a JWT that is signed with HS256 by a secret of its
//! file, and wants `exp` in it; `iss` and `aud` where it was started with `--ws-issuer` and `--ws-audience`.
//! A token is good for a minute: it is looked at while a connection opens, and never again.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use zeroize::Zeroizing;

use crate::claims::install_provider;

/// How long a token is good, in seconds. Both ends have one clock, that of their machine.
const LIFETIME: u64 = 60;

/// The shortest secret that Codex takes, in bytes.
pub const MIN_SECRET: usize = 32;

/// Why there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BearerError {
    /// Codex takes no such secret.
    #[error("the secret has {length} bytes, and codex takes none below {MIN_SECRET}")]
    ShortSecret {
        /// Its length, in bytes.
        length: usize,
    },
    /// The library does not sign.
    #[error("the token can't be signed")]
    NotSigned,
}

#[derive(serde::Serialize)]
struct Claims<'a> {
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
}

/// A token for a Codex with this secret, good from `now` on, in seconds since 1970, for a minute.
pub fn sign(
    secret: &[u8],
    now: u64,
    issuer: Option<&str>,
    audience: Option<&str>,
) -> Result<Zeroizing<String>, BearerError> {
    if secret.len() < MIN_SECRET {
        return Err(BearerError::ShortSecret { length: secret.len() });
    }
    install_provider().map_err(|_| BearerError::NotSigned)?;
    let claims = Claims { exp: now.saturating_add(LIFETIME), iss: issuer, aud: audience };
    let key = EncodingKey::from_secret(secret);
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key);
    token.map(Zeroizing::new).map_err(|_| BearerError::NotSigned)
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64URL_NOPAD;
    use ring::hmac;
    use serde_json::{Value, json};

    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    /// Header and claims of a token whose signature fits.
    fn read(token: &str) -> [Value; 2] {
        let (message, tag) = token.rsplit_once('.').unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
        hmac::verify(&key, message.as_bytes(), &BASE64URL_NOPAD.decode(tag.as_bytes()).unwrap()).unwrap();
        let (header, claims) = message.split_once('.').unwrap();
        [header, claims].map(|part| serde_json::from_slice(&BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap())
    }

    #[test]
    fn a_token_is_signed_with_the_secret_and_good_for_a_minute() {
        let [header, claims] = read(&sign(SECRET, 1_000, None, None).unwrap());
        assert_eq!(header, json!({ "alg": "HS256", "typ": "JWT" }));
        assert_eq!(claims, json!({ "exp": 1_060 }));
        let [_, claims] = read(&sign(SECRET, 1_000, Some("ann"), Some("codex")).unwrap());
        assert_eq!(claims, json!({ "exp": 1_060, "iss": "ann", "aud": "codex" }));
    }

    #[test]
    fn a_secret_that_codex_would_not_take_signs_nothing() {
        assert_eq!(sign(&SECRET[1..], 0, None, None), Err(BearerError::ShortSecret { length: 31 }));
    }
}
