//! TLS towards the relay.
//!
//! A relay with a certificate of its own making signs it with its identity key,
//! so the key that is pinned *is* the certificate's. Any other certificate must
//! be of one of the [authorities](super::authorities) that count here. Either way the relay then proves its identity
//! key in its welcome, which outlives certificate renewals.

use std::io;
use std::sync::{Arc, OnceLock};

use reachback_proto::ids::{PublicKey, RelayId};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, SignatureScheme};

use super::authorities::{Authorities, AuthorityError};
use super::relay::RelayTrust;

/// DER of a SubjectPublicKeyInfo for Ed25519, up to the 32 bytes of the key (RFC 8410 §4).
const ED25519_SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// TLS could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be set up: {0}")]
pub struct TlsSetupError(#[from] Error);

/// Whether there is no TLS because nobody whom this computer trusts vouches for the certificate. That has a remedy.
pub(super) fn is_untrusted(error: &io::Error) -> bool {
    let why = error.get_ref().and_then(|error| error.downcast_ref());
    matches!(why, Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)))
}

/// A client configuration that takes certificates as `trust` says, else those of `authorities`.
pub(crate) fn client_config(trust: &RelayTrust, authorities: &Authorities) -> Result<ClientConfig, TlsSetupError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = RelayCertVerifier::new(trust.clone(), authorities.clone(), Arc::clone(&provider));
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// What takes certificates of `authorities`; `None` where there are none.
fn verifier(
    authorities: &Authorities,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<WebPkiServerVerifier>>, AuthorityError> {
    let roots = Arc::new(authorities.roots()?);
    Ok(WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider)).build().ok())
}

#[derive(Debug)]
struct RelayCertVerifier {
    trust: RelayTrust,
    authorities: Authorities,
    /// Looked for where a certificate needs it: the system has more than a hundred roots, and a relay that signed its own
    /// certificate needs none of them, however often it is dialled.
    looked_up: OnceLock<Result<Option<Arc<WebPkiServerVerifier>>, Arc<AuthorityError>>>,
    provider: Arc<CryptoProvider>,
}

impl RelayCertVerifier {
    fn new(trust: RelayTrust, authorities: Authorities, provider: Arc<CryptoProvider>) -> Self {
        Self { trust, authorities, looked_up: OnceLock::new(), provider }
    }

    fn is_own_certificate(&self, cert: &CertificateDer<'_>) -> Result<bool, Error> {
        let spki = ParsedCertificate::try_from(cert)?.subject_public_key_info();
        let key = spki.as_ref().strip_prefix(&ED25519_SPKI).and_then(|key| key.try_into().ok());
        Ok(key.is_some_and(|key| self.trust.admits(&RelayId::of(&PublicKey(key)))))
    }
}

impl ServerCertVerifier for RelayCertVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.is_own_certificate(end_entity)? {
            return Ok(ServerCertVerified::assertion());
        }
        match self.looked_up.get_or_init(|| verifier(&self.authorities, &self.provider).map_err(Arc::new)) {
            Ok(Some(found)) => found.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
            Ok(None) => Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
            Err(error) => Err(Error::Other(OtherError(Arc::clone(error) as _))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};

    use super::*;

    #[test]
    fn the_systems_roots_are_read_only_for_a_certificate_that_is_not_the_relays_own() {
        let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&pair).unwrap();
        let relay = RelayId::of(&PublicKey(pair.public_key_raw().try_into().unwrap()));
        let verify = |trust| {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let verifier = RelayCertVerifier::new(trust, Authorities::default(), provider);
            let name = ServerName::try_from("localhost").unwrap();
            let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
            let verified = verifier.verify_server_cert(certificate.der(), &[], &name, &[], now);
            (verified.is_ok(), verifier.looked_up.get().is_some())
        };
        assert_eq!(verify(RelayTrust::Pinned(relay)), (true, false));
        assert_eq!(verify(RelayTrust::Pinned(RelayId([7; 32]))), (false, true));
    }
}
