//! Whether a machine is the one that is meant, and what it may ask of this one: nothing.

use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use data_encoding::BASE64;
use reachback_proto::words::quote;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use russh::client::{self, ChannelOpenHandle, DisconnectReason, Msg, Session};
use russh::keys::PublicKeyOrCertificate;
use russh::keys::ssh_key::{HashAlg, PublicKey};
use russh::{Channel, Names};
use tokio_util::sync::DropGuard;

use super::algorithms::Demands;
use super::known_hosts::{CertificateError, HostName, KnownHosts, Place, Verdict};
use super::person::{Person, UnknownKey};
use crate::platform::files;

/// What is kept of a machine's last words, in bytes.
const MAX_WORDS: usize = 400;

/// A machine is not let in.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum HostKeyError {
    /// Nobody knows its key.
    #[error("its key is not known: {} {}{}", key.kind, key.fingerprint, other(key))]
    Unknown {
        /// The key.
        key: UnknownKey,
    },
    /// Nobody knows its key, and the configuration has nobody asked.
    #[error("its key is not known: {} {}{}; and {by} has nobody asked", key.kind, key.fingerprint, other(key))]
    Unasked {
        /// The key.
        key: UnknownKey,
        /// The option, with its value.
        by: &'static str,
    },
    /// Its key, or the one that signed its certificate, is a small one of RSA.
    #[error("its key has {bits} bits, and RequiredRSASize of the SSH configuration asks for {least}")]
    Small {
        /// How many bits it has.
        bits: u32,
        /// How many it should have.
        least: u32,
    },
    /// It is known by another one.
    #[error(
        "its key is another one than it is known by ({known}): it shows {kind} {fingerprint}. Somebody may have put a machine in its place"
    )]
    Changed {
        /// Where it is known.
        known: Place,
        /// The kind of the key that it shows.
        kind: String,
        /// SHA-256 of it.
        fingerprint: String,
        /// How `known_hosts` spells the machine.
        host: String,
    },
    /// It counts no more.
    #[error("its key is revoked ({by})")]
    Revoked {
        /// Where it says so.
        by: Place,
    },
    /// Its certificate does not count.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The key was accepted, and could not be written down.
    #[error("its key could not be added to {}: {reason}", quote(file.display()))]
    NotKept {
        /// The file.
        file: PathBuf,
        /// Why not.
        reason: String,
    },
}

impl HostKeyError {
    /// Whether nothing is the matter but that nobody knows the key.
    pub(super) fn is_of_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::Unasked { .. })
    }
}

fn other(key: &UnknownKey) -> String {
    key.other.as_ref().map(|place| format!(" (it is known by a key of another kind: {place})")).unwrap_or_default()
}

/// What came of the machine's key, and what the machine said when it ended.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub refused: Option<HostKeyError>,
    pub fingerprint: Option<String>,
    pub last_words: Option<String>,
    /// Whether it is Windows, as the version that its server tells first says: `SSH-2.0-OpenSSH_for_Windows_9.5`.
    pub is_windows: bool,
}

/// The rules for one machine.
pub(super) struct Guard {
    pub host: HostName,
    pub known: KnownHosts,
    /// Where a key goes that a person accepts, and whether names are hashed there.
    pub keep_in: Option<PathBuf>,
    pub hashed: bool,
    /// The option by which nobody is asked.
    pub unasked: Option<&'static str>,
    /// What keys and signatures have to be.
    pub demands: Demands,
    pub person: Arc<dyn Person>,
    pub outcome: Arc<Mutex<Outcome>>,
    /// Whether the person is being asked.
    pub asking: Arc<Mutex<bool>>,
    /// Tells that the connection has ended: the library drops its guard then.
    pub _ended: DropGuard,
}

/// A connection ended with this.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct GuardError(#[from] pub russh::Error);

impl Guard {
    async fn judge(&self, shown: &PublicKeyOrCertificate) -> Result<(), HostKeyError> {
        let authority = shown.certificate().map(|certificate| certificate.signature_key().clone());
        for key in authority.iter().chain([shown.public_key().key_data()]) {
            self.demands.size(key).map_err(|(bits, least)| HostKeyError::Small { bits, least })?;
        }
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else {
            let certificate = shown.certificate().expect("it is no bare key");
            if !self.demands.takes_from_authority(&certificate.signature().algorithm()) {
                return Err(CertificateError::Signature.into());
            }
            return Ok(self.known.judge_certificate(&self.host, certificate, SystemTime::now())?);
        };
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        let kind = key.algorithm().to_string();
        let host = self.host.spelled();
        match self.known.judge(&self.host, key) {
            Verdict::Known => Ok(()),
            Verdict::Revoked { by } => Err(HostKeyError::Revoked { by }),
            Verdict::Changed { known } => Err(HostKeyError::Changed { known, kind, fingerprint, host }),
            Verdict::Unknown { other } => {
                let other = other.map(|place| place.to_string());
                let unknown = UnknownKey { host, kind, fingerprint, other };
                let Some(file) = self.keep_in.clone() else { return Err(HostKeyError::Unknown { key: unknown }) };
                if let Some(by) = self.unasked {
                    return Err(HostKeyError::Unasked { key: unknown, by });
                }
                *self.asking.lock().unwrap_or_else(PoisonError::into_inner) = true;
                if !self.person.trusts(unknown.clone()).await {
                    return Err(HostKeyError::Unknown { key: unknown });
                }
                let kept = keep(&file, &self.host, key, self.hashed);
                kept.map_err(|error| HostKeyError::NotKept { file, reason: error.to_string() })
            }
        }
    }

    fn note(&self, note: impl FnOnce(&mut Outcome)) {
        note(&mut self.outcome.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Whether a server that tells this version first runs on Windows: Microsoft's build of OpenSSH says so.
fn is_windows(version: &[u8]) -> bool {
    const WORDS: &[u8] = b"OpenSSH_for_Windows";
    version.windows(WORDS.len()).any(|words| words == WORDS)
}

/// Adds a line for the machine's key.
fn keep(file: &Path, host: &HostName, key: &PublicKey, hashed: bool) -> io::Result<()> {
    if let Some(folder) = file.parent().filter(|folder| !folder.exists()) {
        files::private_dir(folder).map_err(io::Error::other)?;
    }
    let name = if hashed { hash(&host.spelled())? } else { host.spelled() };
    let key = PublicKey::new(key.key_data().clone(), "").to_openssh().map_err(io::Error::other)?;
    let mut line = format!("{name} {}\n", key.trim_end());
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(file)?;
    if file.seek(SeekFrom::End(0))? > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            line.insert(0, '\n');
        }
    }
    file.write_all(line.as_bytes())?;
    file.sync_all()
}

/// The name as `HashKnownHosts` writes it.
fn hash(name: &str) -> io::Result<String> {
    let mut salt = [0; 20];
    SystemRandom::new().fill(&mut salt).map_err(|_| io::Error::other("the operating system gave no randomness"))?;
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
    Ok(format!("|1|{}|{}", BASE64.encode(&salt), BASE64.encode(hmac::sign(&key, name.as_bytes()).as_ref())))
}

impl client::Handler for Guard {
    type Error = GuardError;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let fingerprint = shown.public_key().fingerprint(HashAlg::Sha256).to_string();
        let refused = self.judge(shown).await.err();
        let is_trusted = refused.is_none();
        self.note(|outcome| {
            outcome.fingerprint = Some(fingerprint);
            outcome.refused = refused;
        });
        Ok(is_trusted)
    }

    async fn kex_done(&mut self, _: Option<&[u8]>, _: &Names, session: &mut Session) -> Result<(), Self::Error> {
        let is_windows = is_windows(session.remote_sshid());
        self.note(|outcome| outcome.is_windows = is_windows);
        Ok(())
    }

    // A machine opens nothing here. The library would let it: dropping `reply` refuses.

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        drop(reply);
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        drop(reply);
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        drop(reply);
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        drop(reply);
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        drop(reply);
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        drop(reply);
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        drop(reply);
        Ok(())
    }

    async fn openssh_ext_host_keys_announced(&mut self, _: Vec<PublicKey>, _: &mut Session) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Self::Error>) -> Result<(), Self::Error> {
        match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                let words = info.message.chars().take(MAX_WORDS).collect();
                self.note(|outcome| outcome.last_words = Some(words));
                Ok(())
            }
            DisconnectReason::Error(error) => Err(error),
        }
    }
}
