//! Proving to a machine who one is: keys of the SSH agent, keys in files, certificates, and what a person types.
//!
//! In OpenSSH's order (ssh_config(5), IdentityFile): keys of the agent that the
//! configuration names, the agent's others, then files; after that what the
//! machine asks a person for.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reachback_proto::words::{printable, printable_lines, quote, shell_word};
use russh::MethodKind;
use russh::client::{Handle, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::ssh_key::{Algorithm, Certificate, HashAlg, PublicKey};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg};
use russh::{MethodSet, client::AuthResult};
use zeroize::Zeroizing;

use super::algorithms::Demands;
use super::host_key::Guard;
use super::keyring::Keyring;
use super::person::{Person, Prompt, Question, Round};
use super::way::{Hop, expand};
use crate::platform::files;
use crate::platform::ssh_agent::{self, Agent};

/// Largest file with a key, in bytes; an RSA key of 16,384 bits has 13 KB.
const MAX_FILE: u64 = 64 << 10;
/// Keys that are offered. Servers end the connection after six as a rule (`MaxAuthTries`).
const MAX_OFFERS: usize = 20;
/// Rounds of questions of a machine, and questions in one.
const MAX_ROUNDS: usize = 8;
/// What was offered that a person typed.
const TYPED: &str = "what was typed";
/// What is kept of a machine's name for what it asks, of what it says about it, and of each prompt, in characters; and of lines.
const MAX_NAME: usize = 100;
const MAX_TEXT: usize = 1000;
const MAX_LINES: usize = 20;

/// The machine did not let one in.
#[derive(Debug, Clone, Default, thiserror::Error)]
#[error("{}", self.words())]
pub struct AuthError {
    /// `user@machine`.
    pub at: String,
    /// What was offered.
    pub tried: Vec<String>,
    /// Keys that nobody opened.
    pub locked: Vec<PathBuf>,
    /// Keys that are there and were not used, and why.
    pub passed_over: Vec<String>,
    /// Whether it asks for something that is typed, and nobody typed it.
    pub unanswered: bool,
    /// Whether nobody was asked for that, or for what opens a key, because of `BatchMode yes`.
    pub unasked: bool,
    /// Whether it asks for that after it took a key.
    pub second_proof: bool,
    /// How often it said no to something that was offered.
    pub refused: usize,
    /// Whether it ended the connection.
    pub closed: bool,
}

impl AuthError {
    fn words(&self) -> String {
        let mut words = format!("{} does not let this computer in", quote(&self.at));
        if self.tried.is_empty() {
            if !self.unanswered {
                words += ": there was no key to offer";
            }
        } else {
            words += &format!(": it takes none of {}", self.tried.join(", "));
        }
        for file in &self.locked {
            words += &format!("; {} needs its passphrase", quote(file.display()));
        }
        for why in &self.passed_over {
            words += &format!("; {why}");
        }
        if self.unanswered {
            words += if self.tried.is_empty() { ":" } else { ";" };
            words += " it asks for a password or a code";
            words += if self.unasked { "" } else { ", and nothing was typed" };
        }
        if self.unasked {
            words += "; BatchMode yes has nobody asked";
        }
        if self.closed {
            words += "; it ended the connection after these tries";
        }
        words
    }

    /// What a person can do about it.
    ///
    /// `name` is the machine that was wanted.
    pub fn fix(&self, name: &str) -> String {
        let log_in = || format!("at this host's terminal: reachback ssh login {}", shell_word(name));
        if self.closed && self.locked.is_empty() && !self.unanswered {
            return "offer fewer keys: set IdentityFile and IdentitiesOnly yes for it in the SSH configuration"
                .to_owned();
        }
        if self.unasked {
            let asks = "set BatchMode no for it in the SSH configuration, and log in";
            return match self.locked.first() {
                Some(file) => {
                    format!(
                        "add the key to the SSH agent: ssh-add {}; or {asks} {}",
                        shell_word(file.display()),
                        log_in()
                    )
                }
                None => format!("{asks} {}", log_in()),
            };
        }
        match self.locked.first() {
            Some(file) => {
                format!("open the key {}; or add it to the SSH agent: ssh-add {}", log_in(), shell_word(file.display()))
            }
            None if self.unanswered => format!("log in {}", log_in()),
            None => format!("see what ssh says: ssh {}", self.at.split_once('@').map_or("", |(_, host)| host)),
        }
    }
}

/// What this side has: the same for all machines on a way.
#[derive(Clone, Copy)]
pub(super) struct Own<'a> {
    /// The person's home folder.
    pub home: Option<&'a PathBuf>,
    /// Who is asked.
    pub person: &'a Arc<dyn Person>,
    /// What was opened before.
    pub keys: &'a Keyring,
}

/// A way in that worked, in words.
pub(super) async fn authenticate(handle: &mut Handle<Guard>, hop: &Hop, own: Own<'_>) -> Result<String, AuthError> {
    let user = hop.settings.user().to_owned();
    let error = AuthError { at: format!("{user}@{}", hop.name), ..AuthError::default() };
    let (methods, offered) = (MethodSet::empty(), HashSet::new());
    let mut attempt = Attempt { handle, hop, own, user, error, methods, offered, after_a_key: false };
    match attempt.run().await {
        Some(how) => Ok(how),
        None => {
            attempt.error.closed = attempt.handle.is_closed();
            Err(attempt.error)
        }
    }
}

struct Attempt<'a> {
    handle: &'a mut Handle<Guard>,
    hop: &'a Hop,
    own: Own<'a>,
    user: String,
    error: AuthError,
    /// What the machine would take now.
    methods: MethodSet,
    offered: HashSet<Vec<u8>>,
    /// Whether it has taken a key, and wants something else beside it.
    after_a_key: bool,
}

/// As what a key is offered.
#[derive(Debug, Clone, Copy)]
enum Form {
    Bare,
    Certified,
}

/// A key of the configuration.
struct Named {
    path: PathBuf,
    /// Its public half, where that is beside it.
    public: Option<KeyData>,
    certificates: Vec<Certificate>,
}

impl Attempt<'_> {
    async fn run(&mut self) -> Option<String> {
        let none = self.handle.authenticate_none(self.user.clone()).await;
        if self.took(none) {
            return Some("nothing".to_owned());
        }
        // Nothing was offered.
        self.error.refused = 0;
        self.after_a_key = false;
        if self.takes(MethodKind::PublicKey)
            && self.hop.settings.is_on("pubkeyauthentication")
            && self.is_preferred("publickey")
        {
            let named = self.named();
            if let Some(how) = self.agent(&named).await {
                return Some(how);
            }
            for key in &named {
                if !self.takes(MethodKind::PublicKey) {
                    break;
                }
                if let Some(how) = self.file(key).await {
                    return Some(how);
                }
            }
        }
        if self.asks(MethodKind::KeyboardInteractive, "kbdinteractiveauthentication", "keyboard-interactive")
            && let Some(how) = self.keyboard().await
        {
            return Some(how);
        }
        if self.asks(MethodKind::Password, "passwordauthentication", "password") {
            return self.password().await;
        }
        None
    }

    /// Whether the machine may ask a person for something in this way, which has this name and this option; notes where it would.
    fn asks(&mut self, method: MethodKind, option: &str, way: &str) -> bool {
        let asks = self.takes(method) && self.hop.settings.is_on(option) && self.is_preferred(way);
        if asks && self.is_batch() {
            (self.error.unanswered, self.error.unasked) = (true, true);
            return false;
        }
        asks
    }

    /// Whether the configuration has nobody asked for anything.
    fn is_batch(&self) -> bool {
        self.hop.settings.is_on("batchmode")
    }

    /// Whether `PreferredAuthentications` leaves this way open.
    fn is_preferred(&self, way: &str) -> bool {
        self.hop.settings.names("preferredauthentications").is_none_or(|ways| ways.contains(&way))
    }

    /// Whether the configuration lets this key be offered; notes where it does not.
    fn permits(&mut self, key: &KeyData, hash: Option<HashAlg>, by: Form) -> bool {
        let demands = Demands::of(&self.hop.settings);
        let why = match demands.size(key) {
            Err((bits, least)) => format!("a key of {bits} bits is less than the {least} of RequiredRSASize"),
            Ok(()) => {
                let algorithm = with_hash(key, hash);
                let name = match by {
                    Form::Bare => algorithm.as_str().to_owned(),
                    Form::Certified => algorithm.to_certificate_type(),
                };
                if demands.offers(&name) {
                    return true;
                }
                format!("PubkeyAcceptedAlgorithms does not have {name}")
            }
        };
        if !self.error.passed_over.contains(&why) {
            self.error.passed_over.push(why);
        }
        false
    }

    fn takes(&self, method: MethodKind) -> bool {
        !self.handle.is_closed() && self.methods.contains(&method) && self.error.tried.len() < MAX_OFFERS
    }

    /// Whether the machine let one in; notes what it would take otherwise.
    fn took<E>(&mut self, result: Result<AuthResult, E>) -> bool {
        match result {
            Ok(AuthResult::Success) => true,
            Ok(AuthResult::Failure { remaining_methods, partial_success }) => {
                self.methods = remaining_methods;
                self.error.refused += 1;
                self.after_a_key |= partial_success;
                false
            }
            Err(_) => false,
        }
    }

    /// The keys of the configuration, with what lies beside them.
    fn named(&mut self) -> Vec<Named> {
        let settings = &self.hop.settings;
        let paths = |keyword| {
            settings
                .all(keyword)
                .filter_map(|path| expand(path, self.hop, self.own.home))
                .map(PathBuf::from)
                .collect::<Vec<_>>()
        };
        let certificate = |path: &Path| Certificate::from_openssh(read(path)?.trim()).ok();
        let certificates: Vec<Certificate> =
            paths("certificatefile").iter().filter_map(|path| certificate(path)).collect();
        let named = paths("identityfile").into_iter().map(|path| {
            let beside = |ending: &str| PathBuf::from(format!("{}{ending}", path.display()));
            let own = certificate(&beside("-cert.pub"));
            let public = read(&beside(".pub")).and_then(|text| PublicKey::from_openssh(text.trim()).ok());
            let public = public.map(|key| key.key_data().clone()).or_else(|| Some(own.as_ref()?.public_key().clone()));
            let certificates = certificates.iter().cloned().chain(own).collect();
            Named { path, public, certificates }
        });
        named.collect()
    }

    async fn agent(&mut self, named: &[Named]) -> Option<String> {
        let mut agent = connect_agent(self.hop, self.own.home).await?;
        let identities = match agent.request_identities().await {
            Ok(identities) => identities,
            Err(_) => {
                self.error.passed_over.push("the SSH agent does not say which keys it has".to_owned());
                return None;
            }
        };
        let place = |identity: &AgentIdentity| {
            let key = identity.public_key();
            named.iter().position(|named| named.public.as_ref() == Some(key.key_data()))
        };
        let mut ordered: Vec<(Option<usize>, AgentIdentity)> =
            identities.into_iter().map(|identity| (place(&identity), identity)).collect();
        if self.hop.settings.is_on("identitiesonly") {
            ordered.retain(|(place, _)| place.is_some());
        }
        ordered.sort_by_key(|(place, _)| place.unwrap_or(usize::MAX));
        for (place, identity) in ordered {
            if !self.takes(MethodKind::PublicKey) {
                return None;
            }
            let key = identity.public_key().into_owned();
            let Some(hash) = self.hash(&key).await else { continue };
            let said = describe("the agent's", &key);
            let certificates = place.map(|place| named[place].certificates.as_slice()).unwrap_or_default();
            for certificate in certificates.iter().filter(|certificate| certificate.public_key() == key.key_data()) {
                if !self.permits(key.key_data(), hash, Form::Certified) {
                    break;
                }
                let done =
                    self.handle.authenticate_certificate_with(self.user.clone(), certificate.clone(), hash, &mut agent);
                let done = done.await;
                if self.took(done) {
                    return Some(format!("a certificate with {said}"));
                }
            }
            let form = match identity {
                AgentIdentity::Certificate { .. } => Form::Certified,
                AgentIdentity::PublicKey { .. } => Form::Bare,
            };
            if !self.permits(key.key_data(), hash, form) {
                continue;
            }
            let done = match identity {
                AgentIdentity::Certificate { certificate, .. } => {
                    self.handle.authenticate_certificate_with(self.user.clone(), certificate, hash, &mut agent).await
                }
                AgentIdentity::PublicKey { key, .. } => {
                    self.handle.authenticate_publickey_with(self.user.clone(), key, hash, &mut agent).await
                }
            };
            self.offered.insert(key.to_bytes().unwrap_or_default());
            self.error.tried.push(said.clone());
            if self.took(done) {
                return Some(said);
            }
        }
        None
    }

    async fn file(&mut self, named: &Named) -> Option<String> {
        let is_offered =
            |key: &KeyData| PublicKey::from(key.clone()).to_bytes().is_ok_and(|bytes| self.offered.contains(&bytes));
        if !named.path.is_file() || named.public.as_ref().is_some_and(is_offered) {
            return None;
        }
        let key = self.open(&named.path).await?;
        let public = key.public_key().clone();
        let hash = self.hash(&public).await?;
        let said = describe(&named.path.display().to_string(), &public);
        for certificate in named.certificates.iter().filter(|certificate| certificate.public_key() == public.key_data())
        {
            if !self.permits(public.key_data(), hash, Form::Certified) {
                break;
            }
            let done =
                self.handle.authenticate_openssh_cert(self.user.clone(), Arc::clone(&key), certificate.clone()).await;
            self.error.tried.push(format!("a certificate with {said}"));
            if self.took(done) {
                return Some(format!("a certificate with {said}"));
            }
        }
        if !self.permits(public.key_data(), hash, Form::Bare) {
            return None;
        }
        let done = self.handle.authenticate_publickey(self.user.clone(), PrivateKeyWithHashAlg::new(key, hash)).await;
        self.error.tried.push(said.clone());
        self.took(done).then_some(said)
    }

    /// The key in a file, opened with what a person types where it is locked.
    async fn open(&mut self, path: &Path) -> Option<Arc<PrivateKey>> {
        let text = match secret(path) {
            Ok(text) => text,
            Err(why) => {
                self.error.passed_over.push(format!("{}: {why}", quote(path.display())));
                return None;
            }
        };
        match russh::keys::decode_secret_key(&text, None) {
            Ok(key) => return Some(Arc::new(key)),
            Err(russh::keys::Error::KeyIsEncrypted) => {}
            Err(error) => {
                self.error.passed_over.push(format!(
                    "{} can't be read: {}",
                    quote(path.display()),
                    printable(&error.to_string())
                ));
                return None;
            }
        }
        if let Some(key) = self.own.keys.key(path, &text) {
            return Some(key);
        }
        let tries = if self.is_batch() { 0 } else { self.own.person.tries() };
        self.error.unasked |= self.is_batch();
        for _ in 0..tries {
            let question = Question::Passphrase { file: path.display().to_string() };
            let Some(passphrase) = self.own.person.answers(question).await else { break };
            let opened = tokio::task::spawn_blocking({
                let (text, passphrase) = (text.clone(), passphrase.clone());
                move || russh::keys::decode_secret_key(&text, Some(&passphrase)).ok()
            });
            if let Ok(Some(key)) = opened.await {
                let key = Arc::new(key);
                self.own.keys.keep(path, &text, Arc::clone(&key));
                return Some(key);
            }
        }
        self.error.locked.push(path.to_owned());
        None
    }

    /// The hash that an RSA key signs with; `None` where the machine takes SHA-1 only, which is not used.
    async fn hash(&mut self, key: &PublicKey) -> Option<Option<HashAlg>> {
        if !key.algorithm().is_rsa() {
            return Some(None);
        }
        match self.handle.best_supported_rsa_hash().await {
            Ok(Some(Some(hash))) => Some(Some(hash)),
            // It does not say.
            Ok(None) => Some(Some(HashAlg::Sha512)),
            Ok(Some(None)) => {
                self.error.passed_over.push("it takes RSA keys with SHA-1 only, which is not used".to_owned());
                None
            }
            Err(_) => None,
        }
    }

    async fn keyboard(&mut self) -> Option<String> {
        for _ in 0..self.own.person.tries() {
            let mut step = self.handle.authenticate_keyboard_interactive_start(self.user.clone(), None::<String>).await;
            let mut was_asked = false;
            for _ in 0..MAX_ROUNDS {
                match step {
                    Ok(KeyboardInteractiveAuthResponse::Success) => return Some("answers to what it asked".to_owned()),
                    Ok(KeyboardInteractiveAuthResponse::InfoRequest { name, instructions, prompts }) => {
                        if prompts.len() > MAX_ROUNDS {
                            return None;
                        }
                        let mut answers = Vec::new();
                        if !prompts.is_empty() {
                            was_asked = true;
                            let prompt = |asked: russh::client::Prompt| Prompt {
                                words: bounded(&asked.prompt, MAX_TEXT),
                                echo: asked.echo,
                            };
                            let round = Round {
                                at: self.error.at.clone(),
                                after_a_key: self.after_a_key,
                                name: printable(&bounded(&name, MAX_NAME)),
                                instruction: bounded(&instructions, MAX_TEXT),
                                prompts: prompts.into_iter().map(prompt).collect(),
                            };
                            let typed = self.own.person.answers_all(round).await;
                            self.error.second_proof = typed.is_none() && self.after_a_key;
                            answers.extend(self.note(typed)?.iter().map(|answer| answer.to_string()));
                        }
                        step = self.handle.authenticate_keyboard_interactive_respond(answers).await;
                    }
                    Ok(KeyboardInteractiveAuthResponse::Failure { remaining_methods, .. }) => {
                        self.methods = remaining_methods;
                        self.error.refused += 1;
                        break;
                    }
                    Err(_) => return None,
                }
            }
            // A server may say no before it has asked for anything.
            if !was_asked || !self.takes(MethodKind::KeyboardInteractive) {
                return None;
            }
        }
        None
    }

    /// Notes whether a person typed something in answer to the machine.
    fn note<T>(&mut self, typed: Option<T>) -> Option<T> {
        self.error.unanswered = typed.is_none();
        if typed.is_some() && self.error.tried.last().is_none_or(|last| last != TYPED) {
            self.error.tried.push(TYPED.to_owned());
        }
        typed
    }

    async fn password(&mut self) -> Option<String> {
        for _ in 0..self.own.person.tries() {
            let question = Question::Password { at: self.error.at.clone() };
            let typed = self.own.person.answers(question).await;
            let password = self.note(typed)?;
            let done = self.handle.authenticate_password(self.user.clone(), password.to_string()).await;
            if self.took(done) {
                return Some("a password".to_owned());
            }
            if !self.takes(MethodKind::Password) {
                return None;
            }
        }
        None
    }
}

/// What a key is signed with.
fn with_hash(key: &KeyData, hash: Option<HashAlg>) -> Algorithm {
    match key.algorithm() {
        Algorithm::Rsa { .. } => Algorithm::Rsa { hash },
        other => other,
    }
}

/// A machine's own words: some lines that are printable, each as far as a person could be asked to read it.
fn bounded(words: &str, most: usize) -> String {
    let kept: String = words.replace("\r\n", "\n").trim().chars().take(most).collect();
    printable_lines(&kept.lines().take(MAX_LINES).collect::<Vec<_>>().join("\n"))
}

fn describe(whose: &str, key: &PublicKey) -> String {
    printable(&format!("{whose} {} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256)))
}

/// What a small file holds.
fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_FILE).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The same of a file that nobody else may read.
fn secret(path: &Path) -> Result<Zeroizing<String>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    files::check_secret_file(&file, path).map_err(|error| error.to_string())?;
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_FILE).read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

/// The agent that the configuration names, or the environment's. `None` where there is none.
async fn connect_agent(hop: &Hop, home: Option<&PathBuf>) -> Option<Agent> {
    let path = match hop.settings.one("identityagent") {
        Some(none) if none.eq_ignore_ascii_case("none") => return None,
        None | Some("SSH_AUTH_SOCK") => ssh_agent::usual()?,
        Some(named) => match named.strip_prefix('$').filter(|name| !name.starts_with('{')) {
            Some(variable) => std::env::var_os(variable)?.into(),
            None => PathBuf::from(expand(named, hop, home)?),
        },
    };
    ssh_agent::connect(&path).await
}
