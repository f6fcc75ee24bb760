//! [`Secret`] as lower-case base32 in a 0600 file: `#[serde(with = "secret_text")]`.
//!
//! The type itself does not serialise, so that a secret reaches a file only
//! through a field that says so. Errors never repeat the text.

use data_encoding::BASE32_NOPAD;
use reachback_proto::crypto::keys::Secret;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};
use zeroize::{Zeroize, Zeroizing};

pub(super) fn serialize<S: Serializer>(secret: &Secret, s: S) -> Result<S::Ok, S::Error> {
    let mut text = Zeroizing::new(BASE32_NOPAD.encode(secret.expose()));
    text.make_ascii_lowercase();
    s.serialize_str(&text)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Secret, D::Error> {
    let mut text = Zeroizing::new(String::deserialize(d)?);
    text.make_ascii_uppercase();
    let bytes = BASE32_NOPAD.decode(text.as_bytes()).map(Zeroizing::new).ok();
    let mut key: [u8; 32] = bytes
        .and_then(|bytes| bytes.as_slice().try_into().ok())
        .ok_or_else(|| D::Error::custom("a key here is not 52 base32 characters"))?;
    let secret = Secret::new(key);
    key.zeroize();
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Serialize, serde::Deserialize)]
    struct File {
        #[serde(with = "super")]
        key: Secret,
    }

    #[test]
    fn secrets_survive_text_and_errors_do_not_repeat_them() {
        let json = serde_json::to_string(&File { key: Secret::new([7; 32]) }).unwrap();
        assert_eq!(serde_json::from_str::<File>(&json).unwrap().key.expose(), &[7; 32]);
        for bad in [r#"{"key":"a7dqoby"}"#, r#"{"key":"!!a7dqoby"}"#] {
            let Err(error) = serde_json::from_str::<File>(bad) else { panic!("{bad} was taken for a key") };
            assert!(!error.to_string().contains("a7dqoby"), "{error}");
        }
    }
}
