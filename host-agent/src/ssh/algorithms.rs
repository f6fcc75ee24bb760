//! Which algorithms a connection has: modern ones, of which the configuration may leave some out and add none.

use std::borrow::Cow;

use russh::keys::ssh_key::public::KeyData;
use russh::keys::ssh_key::{Algorithm, EcdsaCurve, HashAlg};
use russh::{Preferred, kex, mac};

use super::options::Refusal;
use super::settings::Settings;

/// Lists of names. OpenSSH's own say what that version of it has, and nobody's decision: with an old `ssh` here, the
/// newer algorithms of the SSH library would be left out for nothing.
pub(super) const LISTS: &[&str] =
    &["kexalgorithms", "ciphers", "macs", "hostkeyalgorithms", "casignaturealgorithms", "pubkeyacceptedalgorithms"];

/// Smallest RSA key, in bits, where the configuration does not say (`RequiredRSASize`).
const RSA_BITS: u32 = 1024;

/// Kinds of keys, and the hashes of RSA signatures: no SHA-1, no DSA.
const KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// Key exchanges of OpenSSH's own defaults that the library has.
const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::ECDH_SHA2_NISTP256,
    kex::ECDH_SHA2_NISTP384,
    kex::ECDH_SHA2_NISTP521,
    kex::DH_GEX_SHA256,
    kex::DH_G16_SHA512,
    kex::DH_G18_SHA512,
    kex::DH_G14_SHA256,
];

/// The names by which both sides say what else they know.
const EXTENSIONS: &[kex::Name] = &[kex::EXTENSION_SUPPORT_AS_CLIENT, kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT];

/// For ciphers that need one. No SHA-1.
const MAC: &[mac::Name] = &[mac::HMAC_SHA512_ETM, mac::HMAC_SHA256_ETM, mac::HMAC_SHA512, mac::HMAC_SHA256];

/// What is offered to a machine that is known by keys of these kinds: those kinds first, and certificates where an
/// `authority` is known for it.
pub(super) fn preferred(settings: &Settings, known: &[Algorithm], authority: bool) -> Result<Preferred, Refusal> {
    let has = |keyword, name: &str| settings.names(keyword).is_none_or(|names| names.contains(&name));
    let mut kex: Vec<_> = KEX.iter().copied().filter(|name| has("kexalgorithms", name.as_ref())).collect();
    let cipher: Vec<_> =
        Preferred::DEFAULT.cipher.iter().copied().filter(|name| has("ciphers", name.as_ref())).collect();
    let mac: Vec<_> = MAC.iter().copied().filter(|name| has("macs", name.as_ref())).collect();
    let mut keys = KEYS.to_vec();
    keys.retain(|key| has("hostkeyalgorithms", key.as_str()));
    let mut certificates = if authority { KEYS.to_vec() } else { Vec::new() };
    certificates.retain(|key| has("hostkeyalgorithms", &key.to_certificate_type()));
    for (option, is_empty) in [
        ("KexAlgorithms", kex.is_empty()),
        ("Ciphers", cipher.is_empty()),
        ("MACs", mac.is_empty()),
        ("HostKeyAlgorithms", keys.is_empty() && certificates.is_empty()),
    ] {
        if is_empty {
            return Err(none_of(option));
        }
    }
    kex.extend(EXTENSIONS);
    let is_known = |key: &Algorithm| match key {
        Algorithm::Rsa { .. } => known.iter().any(|kind| matches!(kind, Algorithm::Rsa { .. })),
        key => known.contains(key),
    };
    keys.sort_by_key(|key| !is_known(key));
    Ok(Preferred {
        kex: Cow::Owned(kex),
        key: Cow::Owned(keys),
        host_key_certificates: Cow::Owned(certificates),
        cipher: Cow::Owned(cipher),
        mac: Cow::Owned(mac),
        ..Preferred::DEFAULT
    })
}

fn none_of(option: &'static str) -> Refusal {
    Refusal {
        option,
        why: "none of which Reachback has: it takes modern ones only",
        fix: "add one that OpenSSH itself has by default, or leave the option out for this machine",
    }
}

/// What the configuration demands of keys and signatures.
#[derive(Debug)]
pub(super) struct Demands {
    /// By which algorithms one's own keys may be offered, and authorities may sign; all where nobody says.
    offered: Option<Vec<String>>,
    authorities: Option<Vec<String>>,
    /// The smallest RSA key, in bits.
    bits: u32,
}

impl Demands {
    pub(super) fn of(settings: &Settings) -> Self {
        let names = |keyword| Some(settings.names(keyword)?.into_iter().map(str::to_owned).collect());
        Self {
            offered: names("pubkeyacceptedalgorithms"),
            authorities: names("casignaturealgorithms"),
            bits: settings.one("requiredrsasize").and_then(|bits| bits.parse().ok()).unwrap_or(RSA_BITS),
        }
    }

    /// Refuses a small RSA key: how many bits it has, and how many it should have.
    pub(super) fn size(&self, key: &KeyData) -> Result<(), (u32, u32)> {
        match key.rsa().map(|key| key.key_size()) {
            Some(bits) if bits < self.bits => Err((bits, self.bits)),
            _ => Ok(()),
        }
    }

    /// Whether one's own key may be offered by the algorithm of this name.
    pub(super) fn offers(&self, name: &str) -> bool {
        self.offered.as_ref().is_none_or(|names| names.iter().any(|known| known == name))
    }

    /// Whether an authority may sign a certificate so.
    pub(super) fn takes_from_authority(&self, algorithm: &Algorithm) -> bool {
        self.authorities.as_ref().is_none_or(|names| names.iter().any(|known| known == algorithm.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(settings: &str, authority: bool) -> Result<[Vec<String>; 5], &'static str> {
        let preferred = preferred(&Settings::parse(settings), &[Algorithm::Rsa { hash: None }], authority);
        let preferred = preferred.map_err(|refusal| refusal.option)?;
        let owned = |name: &str| name.to_owned();
        Ok([
            preferred.kex.iter().map(|name| owned(name.as_ref())).collect(),
            preferred.cipher.iter().map(|name| owned(name.as_ref())).collect(),
            preferred.mac.iter().map(|name| owned(name.as_ref())).collect(),
            preferred.key.iter().map(|key| owned(key.as_str())).collect(),
            preferred.host_key_certificates.iter().map(Algorithm::to_certificate_type).collect(),
        ])
    }

    #[test]
    fn a_list_of_the_configuration_leaves_algorithms_out_and_adds_none() {
        let [kex, ciphers, macs, keys, certificates] = offered("", false).unwrap();
        assert!(kex.len() == KEX.len() + EXTENSIONS.len() && kex[0].starts_with("mlkem768"), "{kex:?}");
        assert!(ciphers.len() > 1 && macs.len() == MAC.len() && certificates.is_empty());
        assert_eq!((keys.len(), &*keys[0]), (KEYS.len(), "rsa-sha2-512"), "the kind that is known comes first");

        let narrow = "kexalgorithms diffie-hellman-group1-sha1,curve25519-sha256\nciphers aes256-gcm@openssh.com,3des-cbc\n\
                      macs hmac-sha1,hmac-sha2-256\nhostkeyalgorithms ssh-rsa,ssh-ed25519,ssh-ed25519-cert-v01@openssh.com\n";
        let [kex, ciphers, macs, keys, certificates] = offered(narrow, true).unwrap();
        assert_eq!(kex[..kex.len() - EXTENSIONS.len()], ["curve25519-sha256"]);
        assert_eq!((ciphers, macs), (vec!["aes256-gcm@openssh.com".into()], vec!["hmac-sha2-256".into()]));
        assert_eq!((keys, certificates), (vec!["ssh-ed25519".into()], vec!["ssh-ed25519-cert-v01@openssh.com".into()]));
    }

    #[test]
    fn a_list_without_a_modern_algorithm_is_refused_by_its_name() {
        for (line, option) in [
            ("kexalgorithms diffie-hellman-group1-sha1", "KexAlgorithms"),
            ("ciphers aes128-cbc,3des-cbc", "Ciphers"),
            ("macs hmac-sha1", "MACs"),
            ("hostkeyalgorithms ssh-rsa,ssh-dss", "HostKeyAlgorithms"),
            ("hostkeyalgorithms ssh-ed25519-cert-v01@openssh.com", "HostKeyAlgorithms"),
        ] {
            assert_eq!(offered(line, false).unwrap_err(), option, "{line}");
        }
        assert!(offered("hostkeyalgorithms ssh-ed25519-cert-v01@openssh.com", true).is_ok());
    }
}
