//! How a host or a device proves its identity key to the relay.
//!
//! The proof is a JWT that the peer signs with that key, carried in its hello
//! ([`crate::control`]). It names the relay it is for, the key, the role, the
//! host that a device wants, and the nonce of the relay's challenge. The nonce
//! is fresh for each connection and the relay compares all of it, so a proof
//! recorded anywhere is worth nothing on another connection, at another relay,
//! in another role or for another host; that is why it has no expiry.
//!
//! A checker is told what every claim must be: nothing is taken from the token
//! but a signature over what is already known. Header and claims are therefore
//! compared whole. A token with one claim more, another algorithm, or an
//! embedded key is not a proof.

use std::sync::OnceLock;

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error as JwtError, ErrorKind, new_error};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, Header, Validation, signature};
use ring::hmac;
use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};

use crate::control::MAX_PROOF;
use crate::crypto::keys::{Identity, check_identity};
use crate::ids::{HostId, PublicKey, RelayId};

/// What a peer proves its key for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProofRole {
    /// A host's control connection.
    Host,
    /// A host's data connection.
    HostData,
    /// A device that wants a host.
    Device,
}

impl ProofRole {
    /// The word in the `role` claim.
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::HostData => "host-data",
            Self::Device => "device",
        }
    }
}

/// Why a proof could not be made, or does not hold.
///
/// Nothing of the token is kept: it comes from a stranger, and errors end up in logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// Longer than any proof of ours.
    #[error("proof is {length} bytes long, the limit is {MAX_PROOF}")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// Not a JWT with exactly the header and the claims of a proof.
    #[error("proof is not a JWT with exactly the header and claims of a proof")]
    Malformed,
    /// Signed with another algorithm than EdDSA.
    #[error("proof is not signed with EdDSA")]
    Algorithm,
    /// The peer's key is of low order: anyone can make signatures that fit it.
    #[error("the key that the proof is for is zero or of low order")]
    WeakKey,
    /// The signature does not fit the key.
    #[error("signature of the proof does not fit the peer's key")]
    Signature,
    /// A claim says something else than what it must say here.
    #[error("claim `{claim}` of the proof is for something else")]
    Mismatch {
        /// The claim's name.
        claim: &'static str,
    },
    /// Devices name a host in their proof, hosts don't.
    #[error("a proof names a host if, and only if, its role is `device`")]
    HostForRole,
    /// Something else in this process has set up the JWT library with another provider.
    #[error("another crypto provider for JWTs is installed in this process")]
    Provider,
}

/// The claims, in the order they are written.
#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    aud: String,
    sub: String,
    nonce: String,
    role: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<String>,
}

impl Claims {
    fn new(
        key: &PublicKey,
        relay: RelayId,
        nonce: &[u8; 32],
        role: ProofRole,
        host: Option<HostId>,
    ) -> Result<Self, ProofError> {
        if (role == ProofRole::Device) != host.is_some() {
            return Err(ProofError::HostForRole);
        }
        Ok(Self {
            aud: relay.to_string(),
            sub: key.to_string(),
            // The same base32 as ids: the alphabet is one for all texts of the protocol.
            nonce: data_encoding::BASE32_NOPAD.encode(nonce).to_ascii_lowercase(),
            role: role.name().to_owned(),
            host: host.map(|host| host.to_string()),
        })
    }

    fn compare(&self, wanted: &Self) -> Result<(), ProofError> {
        let claims = [
            ("aud", self.aud == wanted.aud),
            ("sub", self.sub == wanted.sub),
            ("nonce", self.nonce == wanted.nonce),
            ("role", self.role == wanted.role),
            ("host", self.host == wanted.host),
        ];
        match claims.into_iter().find(|(_, same)| !same) {
            Some((claim, _)) => Err(ProofError::Mismatch { claim }),
            None => Ok(()),
        }
    }
}

/// The proof that `identity` answers this relay's challenge in this role; for a device, to reach `host`.
pub fn prove(
    identity: &Identity,
    relay: RelayId,
    nonce: &[u8; 32],
    role: ProofRole,
    host: Option<HostId>,
) -> Result<String, ProofError> {
    let claims = Claims::new(&identity.public(), relay, nonce, role, host)?;
    install_provider()?;
    let key = EncodingKey::from_ed_der(&identity.pkcs8());
    jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &key).map_err(|_| ProofError::Malformed)
}

/// Checks that `proof` was made by the holder of `key` for exactly this relay, challenge, role and host.
pub fn check(
    proof: &str,
    key: &PublicKey,
    relay: RelayId,
    nonce: &[u8; 32],
    role: ProofRole,
    host: Option<HostId>,
) -> Result<(), ProofError> {
    if proof.len() > MAX_PROOF {
        return Err(ProofError::TooLong { length: proof.len() });
    }
    check_identity(key).map_err(|_| ProofError::WeakKey)?;
    let wanted = Claims::new(key, relay, nonce, role, host)?;
    install_provider()?;
    let token = jsonwebtoken::decode::<Claims>(proof, &DecodingKey::from_ed_der(&key.0), &validation())
        .map_err(|err| refusal(&err))?;
    if token.header != Header::new(Algorithm::EdDSA) {
        return Err(ProofError::Malformed);
    }
    token.claims.compare(&wanted)
}

/// Leaves only the signature to the library: the claims are compared here, and there are no times in a proof.
fn validation() -> Validation {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation
}

fn refusal(err: &JwtError) -> ProofError {
    match err.kind() {
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => ProofError::Algorithm,
        ErrorKind::InvalidSignature => ProofError::Signature,
        _ => ProofError::Malformed,
    }
}

/// The library asks a process-wide provider for its cryptography; ours is ring. EdDSA is all that it checks; besides, it
/// signs what [`crate::bearer`] makes, which is never checked here.
///
/// Installing it on first use keeps it out of every `main` and test. Should
/// another be there already, that one decides what a signature is, so proofs
/// are refused instead of trusting it.
pub(crate) fn install_provider() -> Result<(), ProofError> {
    static PROVIDER: CryptoProvider = CryptoProvider {
        signer_factory: signer,
        verifier_factory: EdVerifier::boxed,
        key_utils: KeyUtils::new_unimplemented(),
    };
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    if *INSTALLED.get_or_init(|| PROVIDER.install_default().is_ok()) { Ok(()) } else { Err(ProofError::Provider) }
}

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>, JwtError> {
    match algorithm {
        Algorithm::HS256 => MacSigner::boxed(key),
        _ => EdSigner::boxed(algorithm, key),
    }
}

struct EdSigner(Ed25519KeyPair);

impl EdSigner {
    fn boxed(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>, JwtError> {
        only_eddsa(*algorithm, key.family())?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.as_bytes())
            .map_err(|_| new_error(ErrorKind::InvalidEddsaKey))?;
        Ok(Box::new(Self(pair)))
    }
}

impl signature::Signer<Vec<u8>> for EdSigner {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        Ok(self.0.sign(message).as_ref().to_vec())
    }
}

impl JwtSigner for EdSigner {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

struct MacSigner(hmac::Key);

impl MacSigner {
    fn boxed(key: &EncodingKey) -> Result<Box<dyn JwtSigner>, JwtError> {
        if key.family() != AlgorithmFamily::Hmac {
            return Err(new_error(ErrorKind::UnsupportedAlgorithm));
        }
        Ok(Box::new(Self(hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()))))
    }
}

impl signature::Signer<Vec<u8>> for MacSigner {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        Ok(hmac::sign(&self.0, message).as_ref().to_vec())
    }
}

impl JwtSigner for MacSigner {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

struct EdVerifier(UnparsedPublicKey<Vec<u8>>);

impl EdVerifier {
    fn boxed(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, JwtError> {
        only_eddsa(*algorithm, key.family())?;
        Ok(Box::new(Self(UnparsedPublicKey::new(&ED25519, key.try_get_as_bytes()?.to_vec()))))
    }
}

impl signature::Verifier<Vec<u8>> for EdVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        self.0.verify(message, signature).map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for EdVerifier {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

fn only_eddsa(algorithm: Algorithm, family: AlgorithmFamily) -> Result<(), JwtError> {
    if algorithm == Algorithm::EdDSA && family == AlgorithmFamily::Ed {
        Ok(())
    } else {
        Err(new_error(ErrorKind::UnsupportedAlgorithm))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::keys::Secret;
    use data_encoding::BASE64URL_NOPAD;
    use serde_json::json;

    const NONCE: [u8; 32] = [5; 32];

    fn identity() -> Identity {
        Identity::from_seed(Secret::new([1; 32]))
    }

    fn relay() -> RelayId {
        RelayId([2; 32])
    }

    fn host() -> Option<HostId> {
        Some(HostId([3; 16]))
    }

    fn check_device(proof: &str) -> Result<(), ProofError> {
        check(proof, &identity().public(), relay(), &NONCE, ProofRole::Device, host())
    }

    /// A token signed by the right key, whatever it says.
    fn signed(header: &serde_json::Value, claims: &serde_json::Value) -> String {
        let part = |value: &serde_json::Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = identity().sign(message.as_bytes());
        format!("{message}.{}", BASE64URL_NOPAD.encode(&signature))
    }

    fn claims() -> serde_json::Value {
        serde_json::to_value(Claims::new(&identity().public(), relay(), &NONCE, ProofRole::Device, host()).unwrap())
            .unwrap()
    }

    fn header() -> serde_json::Value {
        json!({"alg": "EdDSA", "typ": "JWT"})
    }

    #[test]
    fn a_proof_holds_for_what_it_was_made_for_in_every_role() {
        for (role, host) in [(ProofRole::Host, None), (ProofRole::HostData, None), (ProofRole::Device, host())] {
            let proof = prove(&identity(), relay(), &NONCE, role, host).unwrap();
            assert!(proof.len() < MAX_PROOF / 2, "a proof of {} bytes", proof.len());
            assert_eq!(check(&proof, &identity().public(), relay(), &NONCE, role, host), Ok(()), "{role:?}");
        }
        // A browser writes the header in its own order.
        assert_eq!(check_device(&signed(&header(), &claims())), Ok(()));
    }

    #[test]
    fn a_proof_holds_for_nothing_else() {
        let key = identity().public();
        let proof = prove(&identity(), relay(), &NONCE, ProofRole::Device, host()).unwrap();
        let mismatch = |claim| Err(ProofError::Mismatch { claim });
        let role = ProofRole::Device;
        assert_eq!(check(&proof, &key, RelayId([9; 32]), &NONCE, role, host()), mismatch("aud"));
        assert_eq!(check(&proof, &key, relay(), &[9; 32], role, host()), mismatch("nonce"));
        assert_eq!(check(&proof, &key, relay(), &NONCE, ProofRole::Host, None), mismatch("role"));
        assert_eq!(check(&proof, &key, relay(), &NONCE, role, Some(HostId([9; 16]))), mismatch("host"));
        let other = Identity::from_seed(Secret::new([9; 32])).public();
        assert_eq!(check(&proof, &other, relay(), &NONCE, role, host()), Err(ProofError::Signature));

        let proof = prove(&identity(), relay(), &NONCE, ProofRole::HostData, None).unwrap();
        assert_eq!(check(&proof, &key, relay(), &NONCE, ProofRole::Host, None), mismatch("role"));
        let mut claims = claims();
        claims["sub"] = json!(other.to_string());
        assert_eq!(check_device(&signed(&header(), &claims)), mismatch("sub"));
    }

    #[test]
    fn only_devices_name_a_host() {
        let made = |role, host| prove(&identity(), relay(), &NONCE, role, host).unwrap_err();
        assert_eq!(made(ProofRole::Device, None), ProofError::HostForRole);
        assert_eq!(made(ProofRole::Host, host()), ProofError::HostForRole);
        assert_eq!(made(ProofRole::HostData, host()), ProofError::HostForRole);
        let proof = signed(&header(), &claims());
        let key = identity().public();
        let checked = check(&proof, &key, relay(), &NONCE, ProofRole::Device, None);
        assert_eq!(checked, Err(ProofError::HostForRole));
    }

    #[test]
    fn other_algorithms_are_refused() {
        let of = |alg: &str| json!({"alg": alg, "typ": "JWT"});
        assert_eq!(check_device(&signed(&of("none"), &claims())), Err(ProofError::Malformed));
        assert_eq!(check_device(&signed(&of("eddsa"), &claims())), Err(ProofError::Malformed));
        for alg in ["HS256", "ES256", "RS256", "PS512"] {
            assert_eq!(check_device(&signed(&of(alg), &claims())), Err(ProofError::Algorithm), "{alg}");
        }
        // The classic confusion: an HMAC whose key is the public key.
        let message = signed(&of("HS256"), &claims());
        let message = message.rsplit_once('.').unwrap().0;
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &identity().public().0);
        let tag = ring::hmac::sign(&key, message.as_bytes());
        let forged = format!("{message}.{}", BASE64URL_NOPAD.encode(tag.as_ref()));
        assert_eq!(check_device(&forged), Err(ProofError::Algorithm));
    }

    #[test]
    fn more_or_less_than_a_proof_is_refused() {
        let proof = signed(&header(), &claims());
        let unsigned = proof.rsplit_once('.').unwrap().0;
        for text in ["", ".", "..", "...", "a.b.c", unsigned, &format!("{proof}.x"), &format!(".{proof}")] {
            assert_eq!(check_device(text), Err(ProofError::Malformed), "{text}");
        }
        assert_eq!(check_device(&format!("{unsigned}.")), Err(ProofError::Signature));

        for (name, value) in [("exp", json!(1)), ("iss", json!("x")), ("aud", json!([relay().to_string()]))] {
            let mut more = claims();
            more[name] = value;
            assert_eq!(check_device(&signed(&header(), &more)), Err(ProofError::Malformed), "{name}");
        }
        for name in ["aud", "sub", "nonce", "role"] {
            let mut less = claims();
            less.as_object_mut().unwrap().remove(name);
            assert_eq!(check_device(&signed(&header(), &less)), Err(ProofError::Malformed), "{name}");
        }
        let mut less = claims();
        less.as_object_mut().unwrap().remove("host");
        assert_eq!(check_device(&signed(&header(), &less)), Err(ProofError::Mismatch { claim: "host" }));

        for (name, value) in
            [("crit", json!(["x"])), ("kid", json!("x")), ("jku", json!("https://x")), ("b64", json!(false))]
        {
            let mut more = header();
            more[name] = value;
            assert_eq!(check_device(&signed(&more, &claims())), Err(ProofError::Malformed), "{name}");
        }
        assert_eq!(check_device(&signed(&json!({"alg": "EdDSA"}), &claims())), Err(ProofError::Malformed));
    }

    #[test]
    fn an_altered_or_endless_proof_is_refused() {
        let proof = prove(&identity(), relay(), &NONCE, ProofRole::Device, host()).unwrap();
        for at in 0..proof.len() {
            let mut bytes = proof.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(check_device(std::str::from_utf8(&bytes).unwrap()).is_err(), "byte {at} altered");
        }
        let long = format!("{proof}{}", "A".repeat(MAX_PROOF));
        assert_eq!(check_device(&long), Err(ProofError::TooLong { length: long.len() }));
    }

    #[test]
    fn a_key_of_low_order_proves_nothing() {
        let weak = PublicKey([0; 32]);
        let checked = check("a.b.c", &weak, relay(), &NONCE, ProofRole::Host, None);
        assert_eq!(checked, Err(ProofError::WeakKey));
    }
}
