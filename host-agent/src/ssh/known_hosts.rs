//! Which keys machines are known by: `known_hosts`, as sshd(8) describes it and OpenSSH's `hostfile.c` reads it.
//!
//! The matcher of the SSH library knows names, hashed ones and ports; not
//! patterns, negation, `@cert-authority` and `@revoked`. And to it a file that
//! can't be read knows no keys. Here that is an error: what is not read may say
//! that a key was revoked.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use data_encoding::BASE64;
use reachback_proto::words::quote;
use ring::hmac;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::ssh_key::{Algorithm, Certificate, HashAlg, PublicKey};

use super::pattern;

/// Largest file that is read, in bytes. A line has some 200 to 700.
const MAX_FILE: u64 = 16 << 20;
/// The port whose number is not written.
const USUAL_PORT: u16 = 22;

/// What a machine is called where its key is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName {
    name: String,
    port: u16,
}

impl HostName {
    /// A machine by its name or address in the network.
    pub fn new(name: &str, port: u16) -> Self {
        Self { name: name.to_ascii_lowercase(), port }
    }

    /// A machine by the name that `HostKeyAlias` gave it, whatever its port.
    pub fn alias(alias: &str) -> Self {
        Self::new(alias, USUAL_PORT)
    }

    /// How it is written: `name`, or `[name]:port`.
    pub fn spelled(&self) -> String {
        match self.port {
            USUAL_PORT => self.name.clone(),
            port => format!("[{}]:{port}", self.name),
        }
    }
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Arc<Path>,
    /// The line, from 1.
    pub line: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {} of {}", self.line, quote(self.file.display()))
    }
}

/// What a line says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    /// It is the machine's.
    Key,
    /// It signs certificates of machines.
    Authority,
    /// It counts no more.
    Revoked,
}

#[derive(Debug)]
struct Line {
    place: Place,
    says: Says,
    hosts: Hosts,
    key: KeyData,
}

/// Whom a line is about.
#[derive(Debug)]
enum Hosts {
    Patterns(Vec<String>),
    /// HMAC-SHA1 of the name, with a salt for key.
    Hashed {
        salt: Vec<u8>,
        hash: Vec<u8>,
    },
}

impl Hosts {
    fn parse(field: &str) -> Option<Self> {
        let Some(hashed) = field.strip_prefix('|') else {
            return Some(Self::Patterns(field.split(',').map(str::to_ascii_lowercase).collect()));
        };
        let (salt, hash) = hashed.strip_prefix("1|")?.split_once('|')?;
        let decode = |text: &str| BASE64.decode(text.as_bytes()).ok();
        Some(Self::Hashed { salt: decode(salt)?, hash: decode(hash)? })
    }

    /// `name` is in lower case, and spelled with its port.
    fn are(&self, name: &str) -> bool {
        match self {
            Self::Patterns(patterns) => pattern::list_matches(patterns.iter().map(String::as_str), name),
            Self::Hashed { salt, hash } => hmac::verify(&key(salt), name.as_bytes(), hash).is_ok(),
        }
    }
}

fn key(salt: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt)
}

/// A file could not be read, so nobody knows what it says.
#[derive(Debug, thiserror::Error)]
#[error("can't read {}, which may say whose keys are revoked", quote(path.display()))]
pub struct KnownHostsError {
    /// The file.
    pub path: PathBuf,
    /// Why not.
    #[source]
    pub source: io::Error,
}

/// What is known of a machine's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The machine is known by it.
    Known,
    /// Nothing is known of the machine by a key of this kind.
    Unknown {
        /// Where it is known by a key of another kind.
        other: Option<Place>,
    },
    /// The machine is known by another key of this kind.
    Changed {
        /// Where.
        known: Place,
    },
    /// The key counts no more.
    Revoked {
        /// Where it says so.
        by: Place,
    },
}

/// A machine's certificate does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Nobody who is known signed it.
    #[error("no authority that is known for {} signed its certificate ({fingerprint})", quote(name))]
    Authority {
        /// The machine.
        name: String,
        /// SHA-256 of the key that signed it.
        fingerprint: String,
    },
    /// Its key, or the one that signed it, counts no more.
    #[error("its key, or that of the authority that signed it, is revoked ({by})")]
    Revoked {
        /// Where it says so.
        by: Place,
    },
    /// It is for something else.
    #[error("its certificate is one of a user, not of a host")]
    Kind,
    /// It names other machines.
    #[error("its certificate is not for {}", quote(name))]
    Principal {
        /// The machine.
        name: String,
    },
    /// Now is before or after.
    #[error("its certificate is not valid at this time")]
    Time,
    /// It holds a condition that is not known here.
    #[error("its certificate has a condition that is not known here")]
    Option,
    /// The signature is wrong, or of a kind that is not taken.
    #[error("its certificate is not signed as it should be")]
    Signature,
}

/// All that the files say.
#[derive(Debug, Default)]
pub struct KnownHosts {
    lines: Vec<Line>,
}

impl KnownHosts {
    /// Reads the files in order; one that is not there says nothing.
    pub fn read(files: &[PathBuf]) -> Result<Self, KnownHostsError> {
        let mut known = Self::default();
        for path in files {
            match text(path) {
                Ok(text) => known.parse(&Arc::from(path.as_path()), &text),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(KnownHostsError { path: path.clone(), source }),
            }
        }
        Ok(known)
    }

    /// Lines that are none are passed over, as OpenSSH does: with a key that can't be read here no machine gets in.
    fn parse(&mut self, file: &Arc<Path>, text: &str) {
        for (number, line) in text.lines().enumerate() {
            let place = Place { file: Arc::clone(file), line: number + 1 };
            self.lines.extend(line_of(line, place));
        }
    }

    /// What is known of the machine's key.
    pub fn judge(&self, host: &HostName, key: &PublicKey) -> Verdict {
        let (key, name) = (key.key_data(), host.spelled());
        if let Some(by) = self.revoked(host, key) {
            return Verdict::Revoked { by };
        }
        let lines = || self.about(&name).filter(|line| line.says == Says::Key);
        if lines().any(|line| line.key == *key) {
            return Verdict::Known;
        }
        if let Some(line) = lines().find(|line| kind(&line.key) == kind(key)) {
            return Verdict::Changed { known: line.place.clone() };
        }
        // One that is written without the port counts as well, as in OpenSSH; it is never "the other key".
        if self.about(&host.name).any(|line| line.says == Says::Key && line.key == *key) {
            return Verdict::Known;
        }
        Verdict::Unknown { other: lines().next().map(|line| line.place.clone()) }
    }

    /// Whether the machine's certificate counts, at this time.
    pub fn judge_certificate(
        &self,
        host: &HostName,
        certificate: &Certificate,
        now: SystemTime,
    ) -> Result<(), CertificateError> {
        let authority = certificate.signature_key();
        for key in [certificate.public_key(), authority] {
            if let Some(by) = self.revoked(host, key) {
                return Err(CertificateError::Revoked { by });
            }
        }
        let authorities = || self.both(host).filter(|line| line.says == Says::Authority);
        let fingerprint = authority.fingerprint(HashAlg::Sha256);
        if !authorities().any(|line| line.key == *authority) {
            return Err(CertificateError::Authority { name: host.spelled(), fingerprint: fingerprint.to_string() });
        }
        // SHA-1 is not taken from an authority either (`CASignatureAlgorithms` of OpenSSH 8.2 and later).
        if matches!(certificate.signature().algorithm(), Algorithm::Rsa { hash: None } | Algorithm::Dsa) {
            return Err(CertificateError::Signature);
        }
        certificate.verify_signature().map_err(|_| CertificateError::Signature)?;
        if certificate.cert_type() != CertType::Host {
            return Err(CertificateError::Kind);
        }
        let now = now.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| CertificateError::Time)?;
        if certificate.validate_at(now.as_secs(), [&fingerprint]).is_err() {
            return Err(CertificateError::Time);
        }
        if !certificate.critical_options().is_empty() {
            return Err(CertificateError::Option);
        }
        // A certificate without names is taken for no machine, where OpenSSH takes it for all.
        let names = certificate.valid_principals();
        if !names.iter().any(|principal| pattern::matches(&principal.to_ascii_lowercase(), &host.name)) {
            return Err(CertificateError::Principal { name: host.name.clone() });
        }
        Ok(())
    }

    /// The kinds of keys by which the machine is known, so that it is asked for those first.
    pub fn kinds(&self, host: &HostName) -> Vec<Algorithm> {
        let mut kinds: Vec<Algorithm> = Vec::new();
        for line in self.both(host).filter(|line| line.says == Says::Key) {
            let kind = kind(&line.key);
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        kinds
    }

    /// Whether there is an authority whose certificates the machine may show.
    pub fn has_authority(&self, host: &HostName) -> bool {
        self.both(host).any(|line| line.says == Says::Authority)
    }

    fn revoked(&self, host: &HostName, key: &KeyData) -> Option<Place> {
        let line = self.both(host).find(|line| line.says == Says::Revoked && line.key == *key)?;
        Some(line.place.clone())
    }

    fn about<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |line| line.hosts.are(name))
    }

    /// Lines about the machine, written with its port or without.
    fn both(&self, host: &HostName) -> impl Iterator<Item = &Line> {
        let spelled = host.spelled();
        self.lines.iter().filter(move |line| line.hosts.are(&spelled) || line.hosts.are(&host.name))
    }
}

/// The kind of a key; the hash that a signature is made with is none of its own.
fn kind(key: &KeyData) -> Algorithm {
    match key.algorithm() {
        Algorithm::Rsa { .. } => Algorithm::Rsa { hash: None },
        other => other,
    }
}

/// Fields are parted by any number of blanks. `None` for what is no line with a key.
fn line_of(line: &str, place: Place) -> Option<Line> {
    let mut fields = line.split([' ', '\t', '\r']).filter(|field| !field.is_empty());
    let mut field = fields.next()?;
    let says = match field {
        "@cert-authority" => Says::Authority,
        "@revoked" => Says::Revoked,
        _ => Says::Key,
    };
    if says != Says::Key {
        field = fields.next()?;
    }
    // A comment, or a marker of a later OpenSSH.
    if field.starts_with(['#', '@']) {
        return None;
    }
    let hosts = Hosts::parse(field)?;
    let (kind, base64) = (fields.next()?, fields.next()?);
    let key = PublicKey::from_openssh(&format!("{kind} {base64}")).ok()?.key_data().clone();
    Some(Line { place, says, hosts, key })
}

fn text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {MAX_FILE} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(unix)]
#[cfg(test)]
mod tests;
