//! Who may come in at the agent's loopback address, and as whom.
//!
//! Whoever knows the secret path may enrol. What enrolled has a token for an hour,
//! which opens the WebSocket; it comes back for the next one with the same ids.
//! Tokens live in memory: after a restart Codex is refused once, and refreshes.
//!
//! ```text
//!   no ids ── enroll ──▶ ids + token ── upgrade ──▶ socket
//!                          ▲    │ an hour, or a restart of the agent
//!                          └────┘ refresh: the ids stay
//! ```

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use data_encoding::BASE32_NOPAD;
use reachback_proto::crypto::keys::{self, KeyError, Secret};
use reachback_proto::words::quote;
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use zeroize::Zeroizing;

use crate::state::atomic::FileError;
use crate::state::remote_control::{RemoteControl, RemoteControlFile};
use crate::state::timestamp::Timestamp;

/// Bytes of a secret.
const SECRET: usize = 32;
/// How long a token opens the socket.
pub(super) const TOKEN_LIFE: Duration = Duration::from_secs(3600);
/// Tokens that are good at a time: the last one, and the one before it, which may be on its way in a request.
const MAX_TOKENS: usize = 2;
/// The first port is one of so many, from here: below those that systems give to outgoing connections, one of which
/// could be in the way when the agent starts again.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 12_768;
/// Ports that are tried before giving up; few machines have even one of these in use.
const PORT_TRIES: usize = 16;

/// 256 secret bits as text: the path, or a token. Neither printed nor serialised by itself.
pub(super) struct Token(Zeroizing<String>);

impl Token {
    fn of(secret: &Secret) -> Self {
        let mut text = Zeroizing::new(BASE32_NOPAD.encode(secret.expose()));
        text.make_ascii_lowercase();
        Self(text)
    }

    /// The text itself, for the answer to Codex or for its configuration; never for a log.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }

    /// Whether that is it, in a time that does not depend on where it differs.
    pub(super) fn is(&self, text: &str) -> bool {
        self.0.as_bytes().ct_eq(text.as_bytes()).into()
    }
}

/// Whether that is an address like those that agents make for themselves.
pub(super) fn is_base_url(text: &str) -> bool {
    let secret = || {
        let (port, path) = text.strip_prefix("http://127.0.0.1:")?.split_once('/')?;
        port.parse::<u16>().ok()?;
        path.strip_suffix("/backend-api")
    };
    let is_secret = |secret: &str| {
        let upper = Zeroizing::new(secret.to_ascii_uppercase());
        BASE32_NOPAD.decode(upper.as_bytes()).is_ok_and(|bytes| Zeroizing::new(bytes).len() == SECRET)
    };
    secret().is_some_and(is_secret)
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What Codex gets for enrolling and for refreshing.
#[derive(Debug)]
pub(super) struct Grant {
    /// Stays for ever.
    pub server_id: String,
    /// Stays for ever.
    pub environment_id: String,
    /// Opens the socket.
    pub token: Token,
    /// Until then.
    pub expires_at: Timestamp,
}

/// Why the agent can't be at its loopback address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum OpenError {
    /// The file says no.
    #[error(transparent)]
    File(#[from] FileError),
    /// No randomness.
    #[error("can't make a secret address for codex")]
    Random(#[from] KeyError),
    /// Something else is at the kept address.
    #[error(
        "port {port} of 127.0.0.1 is in use by another program, and codex has its enrolment at that port: \
         end that program (`ss -ltnp 'sport = :{port}'` names it when it is yours) and start again; \
         or move {} away, start again, and give codex the new address", quote(path.display())
    )]
    Taken {
        /// The port.
        port: u16,
        /// Where it is kept.
        path: PathBuf,
    },
    /// The system says no.
    #[error("can't listen on 127.0.0.1 for codex")]
    Listen(#[source] io::Error),
}

/// Why nothing was granted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum GrantError {
    /// The ids are not those that were given, or of another installation.
    #[error("this agent enrolled no such server")]
    Unknown,
    /// The file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// No randomness.
    #[error("can't make a token")]
    Random(#[from] KeyError),
}

#[derive(Debug)]
struct Issued {
    token: Token,
    expires_at: Timestamp,
}

/// The agent's address on loopback, and what it gave to Codex there.
#[derive(Debug)]
pub(super) struct Enrolment {
    file: RemoteControlFile,
    prefix: Token,
    kept: Mutex<RemoteControl>,
    /// Newest last, at most [`MAX_TOKENS`].
    tokens: Mutex<Vec<Issued>>,
}

impl Enrolment {
    /// Listens at the kept address; where there is none yet, at a new one, which is kept from now on.
    pub(super) async fn open(home: &Path) -> Result<(Self, TcpListener), OpenError> {
        let file = RemoteControlFile::of(home)?;
        let (kept, listener) = match file.read()? {
            Some(kept) => {
                let taken = |error: io::Error| match error.kind() {
                    io::ErrorKind::AddrInUse => OpenError::Taken { port: kept.port, path: file.path().to_owned() },
                    _ => OpenError::Listen(error),
                };
                let listener = listen(kept.port).await.map_err(taken)?;
                (kept, listener)
            }
            None => {
                let rng = SystemRandom::new();
                let (port, listener) = listen_anywhere(&rng).await?;
                let (prefix, installation_id) = (Secret::random(&rng)?, None);
                let (server_id, environment_id) = (id("srv", &rng)?, id("env", &rng)?);
                let kept = RemoteControl { port, prefix, server_id, environment_id, installation_id };
                file.write(&kept)?;
                (kept, listener)
            }
        };
        let prefix = Token::of(&kept.prefix);
        Ok((Self { file, prefix, kept: Mutex::new(kept), tokens: Mutex::default() }, listener))
    }

    /// The port on 127.0.0.1.
    pub(super) fn port(&self) -> u16 {
        self.kept().port
    }

    /// What `chatgpt_base_url` has to be. It holds the secret: for a private file, not for a command line or a log.
    pub(super) fn base_url(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("http://127.0.0.1:{}/{}/backend-api", self.port(), self.prefix.expose()))
    }

    /// Whether that is the secret part of the path.
    pub(super) fn is_prefix(&self, segment: &str) -> bool {
        self.prefix.is(segment)
    }

    /// Whether that is the server that was enrolled here.
    pub(super) fn is_server(&self, id: &str) -> bool {
        self.kept().server_id == id
    }

    /// Whether that is this machine.
    pub(super) fn is_environment(&self, id: &str) -> bool {
        self.kept().environment_id == id
    }

    /// The ids: of the server, and of the environment.
    pub(super) fn ids(&self) -> (String, String) {
        let kept = self.kept();
        (kept.server_id.clone(), kept.environment_id.clone())
    }

    /// Enrols this installation of Codex. Another one takes the place of the one before, whose tokens end with that.
    pub(super) fn enroll(&self, installation: &str, now: Timestamp) -> Result<Grant, GrantError> {
        let mut kept = self.kept();
        if kept.installation_id.as_deref() != Some(installation) {
            if kept.installation_id.is_some() {
                tracing::warn!("another installation of codex enrolled for remote control, in the place of the last");
            }
            let new = RemoteControl { installation_id: Some(installation.to_owned()), ..kept.clone() };
            self.file.write(&new)?;
            *kept = new;
            self.tokens().clear();
        }
        self.grant(&kept, now)
    }

    /// The next token for an installation that is enrolled.
    pub(super) fn refresh(&self, server_id: &str, installation: &str, now: Timestamp) -> Result<Grant, GrantError> {
        let kept = self.kept();
        if kept.server_id != server_id || kept.installation_id.as_deref() != Some(installation) {
            return Err(GrantError::Unknown);
        }
        self.grant(&kept, now)
    }

    fn grant(&self, kept: &RemoteControl, now: Timestamp) -> Result<Grant, GrantError> {
        let secret = Secret::random(&SystemRandom::new())?;
        let expires_at = now.after(TOKEN_LIFE);
        let mut tokens = self.tokens();
        tokens.push(Issued { token: Token::of(&secret), expires_at });
        let over = tokens.len().saturating_sub(MAX_TOKENS);
        tokens.drain(..over);
        let (server_id, environment_id) = (kept.server_id.clone(), kept.environment_id.clone());
        Ok(Grant { server_id, environment_id, token: Token::of(&secret), expires_at })
    }

    /// Whether this is a token of ours that has not expired.
    pub(super) fn admits(&self, token: &str, now: Timestamp) -> bool {
        // All of them, so that the time does not say which one it was like.
        self.tokens().iter().fold(false, |found, issued| found | (issued.token.is(token) & (now < issued.expires_at)))
    }

    fn kept(&self) -> MutexGuard<'_, RemoteControl> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tokens(&self) -> MutexGuard<'_, Vec<Issued>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await
}

async fn listen_anywhere(rng: &SystemRandom) -> Result<(u16, TcpListener), OpenError> {
    let mut refused = io::ErrorKind::AddrInUse.into();
    for _ in 0..PORT_TRIES {
        let port = FIRST_PORT + u16::from_be_bytes(keys::random(rng)?) % PORTS;
        match listen(port).await {
            Ok(listener) => return Ok((port, listener)),
            Err(error) => refused = error,
        }
    }
    Err(OpenError::Listen(refused))
}

fn id(kind: &str, rng: &dyn SecureRandom) -> Result<String, KeyError> {
    let random: [u8; 16] = keys::random(rng)?;
    Ok(format!("{kind}-{}", data_encoding::HEXLOWER.encode(&random)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::EPOCH;

    fn later(seconds: u64) -> Timestamp {
        NOW.after(Duration::from_secs(seconds))
    }

    #[tokio::test]
    async fn a_restart_keeps_the_address_and_the_ids_and_refresh_does_too() {
        let home = tempfile::tempdir().unwrap();
        let (first, listener) = Enrolment::open(home.path()).await.unwrap();
        let granted = first.enroll("installation", NOW).unwrap();
        let address = first.base_url();
        drop((first, listener));

        let (again, _listener) = Enrolment::open(home.path()).await.unwrap();
        assert_eq!(again.base_url(), address);
        assert!(!again.admits(granted.token.expose(), NOW), "tokens end with the agent");
        let refreshed = again.refresh(&granted.server_id, "installation", NOW).unwrap();
        assert_eq!(
            (refreshed.server_id, refreshed.environment_id),
            (granted.server_id.clone(), granted.environment_id),
            "the ids changed"
        );
        assert!(again.admits(refreshed.token.expose(), NOW));
        for (server, installation) in [("srv-other", "installation"), (granted.server_id.as_str(), "another")] {
            assert!(matches!(again.refresh(server, installation, NOW), Err(GrantError::Unknown)));
        }
    }

    #[tokio::test]
    async fn another_home_has_another_address() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (one, _kept) = Enrolment::open(one.path()).await.unwrap();
        let (other, _kept) = Enrolment::open(other.path()).await.unwrap();
        assert_ne!(one.base_url(), other.base_url());
        assert!(is_base_url(&one.base_url()) && is_base_url(&other.base_url()));
        for another in
            ["https://chatgpt.com/backend-api", "http://127.0.0.1:8080/backend-api", "http://127.0.0.1:1/x/backend-api"]
        {
            assert!(!is_base_url(another), "{another}");
        }
        assert!(!one.is_prefix(other.prefix.expose()) && one.is_prefix(one.prefix.expose()));
        assert_ne!(one.ids(), other.ids());
        // 52 characters of 32: 256 bits.
        assert_eq!(one.prefix.expose().len(), 52);
    }

    #[tokio::test]
    async fn a_kept_port_that_is_taken_is_named_and_no_other_is_used() {
        let home = tempfile::tempdir().unwrap();
        let (first, listener) = Enrolment::open(home.path()).await.unwrap();
        let refused = Enrolment::open(home.path()).await.unwrap_err();
        let told = refused.to_string();
        for word in [&first.port().to_string(), "remote_control.json", "start again"] {
            assert!(told.contains(word), "no `{word}` in {told}");
        }
        assert!(!told.contains(first.prefix.expose()), "{told}");
        drop(listener);
        assert_eq!(Enrolment::open(home.path()).await.unwrap().0.port(), first.port());
    }

    #[tokio::test]
    async fn a_token_is_good_for_an_hour_and_only_the_last_two_are() {
        let home = tempfile::tempdir().unwrap();
        let (enrolment, _listener) = Enrolment::open(home.path()).await.unwrap();
        let tokens: Vec<_> = (0..3).map(|at| enrolment.enroll("installation", later(at)).unwrap().token).collect();
        let good = |at| tokens.iter().map(|token| enrolment.admits(token.expose(), later(at))).collect::<Vec<_>>();
        assert_eq!(good(3), [false, true, true]);
        assert_eq!(good(3601), [false, false, true]);
        assert_eq!(good(3602), [false, false, false]);
        for wrong in ["", "x", &tokens[2].expose()[1..]] {
            assert!(!enrolment.admits(wrong, later(3)), "{wrong}");
        }
    }

    #[tokio::test]
    async fn another_installation_ends_the_tokens_of_the_one_before() {
        let home = tempfile::tempdir().unwrap();
        let (enrolment, _listener) = Enrolment::open(home.path()).await.unwrap();
        let first = enrolment.enroll("one", NOW).unwrap();
        let second = enrolment.enroll("two", NOW).unwrap();
        assert!(!enrolment.admits(first.token.expose(), NOW));
        assert!(enrolment.admits(second.token.expose(), NOW));
        assert!(matches!(enrolment.refresh(&first.server_id, "one", NOW), Err(GrantError::Unknown)));
    }
}
