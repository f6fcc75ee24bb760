//! The relay's side of TLS.
//!
//! With certificate files, browsers and laptops check them as usual. Without,
//! the relay makes a certificate whose key is its own identity key: a laptop
//! that knows the fingerprint checks that key and needs no authority. It is made
//! again at each start, because only the key in it counts.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ED25519, SanType};
use reachback_proto::crypto::keys::Identity;
use reachback_proto::words::quote;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem};
use rustls::version::{TLS12, TLS13};

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A certificate or key file could not be read.
    #[error("{} could not be read as PEM", quote(path.display()))]
    File {
        /// The file.
        path: PathBuf,
        /// What was wrong with it.
        source: pem::Error,
    },
    /// The certificate file holds no certificate.
    #[error("{} holds no certificate", quote(path.display()))]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key do not fit, or are of a kind that can't be used.
    #[error("certificate and key can't be used together")]
    Rustls(#[from] rustls::Error),
    /// The relay's own certificate could not be made.
    #[error("the relay's own certificate could not be made")]
    Generate(#[from] rcgen::Error),
}

/// TLS with a certificate chain and a key from PEM files.
pub(crate) fn from_files(cert: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let file_error = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::File { path, source }
    };
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect).map_err(file_error(cert))?;
    if Vec::is_empty(&chain) {
        return Err(TlsError::Empty { path: cert.to_owned() });
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(file_error(key))?;
    server(chain, key, &[&TLS13, &TLS12])
}

/// TLS with a certificate for `names` and `addresses` whose key is the relay's identity.
pub(crate) fn from_identity(
    identity: &Identity,
    names: Vec<String>,
    addresses: Vec<IpAddr>,
) -> Result<ServerConfig, TlsError> {
    let pkcs8 = PrivatePkcs8KeyDer::from(identity.pkcs8().to_vec());
    let pair = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_ED25519)?;
    let mut params = CertificateParams::new(names)?;
    params.subject_alt_names.extend(addresses.into_iter().map(SanType::IpAddress));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Reachback relay");
    let certificate = params.self_signed(&pair)?;
    // In TLS 1.2 the client chooses the first 32 bytes that this key signs. In
    // 1.3 what it signs starts with a fixed label, so it can't be mistaken for a
    // welcome that the same key signs.
    server(vec![certificate.into()], PrivateKeyDer::Pkcs8(pkcs8), &[&TLS13])
}

fn server(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use std::fs;

    #[test]
    fn the_own_certificate_carries_the_identity_key() {
        let identity = Identity::generate(&SystemRandom::new()).unwrap();
        let pkcs8 = PrivatePkcs8KeyDer::from(identity.pkcs8().to_vec());
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_ED25519).unwrap();
        assert_eq!(pair.public_key_raw(), identity.public().0);
        let config = from_identity(&identity, vec!["localhost".into()], vec![[127, 0, 0, 1].into()]).unwrap();
        assert_eq!(config.alpn_protocols, [b"http/1.1"]);
    }

    #[test]
    fn a_bad_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let error = from_files(&cert, &key).unwrap_err();
        assert!(matches!(error, TlsError::File { .. }) && error.to_string().contains("cert.pem"), "{error}");
        fs::write(&cert, "nothing").unwrap();
        assert!(matches!(from_files(&cert, &key).unwrap_err(), TlsError::Empty { .. }));
    }
}
