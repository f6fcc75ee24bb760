//! Leads Codexes that the person starts to this agent, by the one setting in their `config.toml`.
//!
//! The Codex App starts its own Codex, so the address can't be handed to it as it is to one that the agent starts. The owner
//! wishes for it once (`reachback codex use`). While an agent listens, the setting is there; when it ends, whatever the
//! reason, what was there before is put back, before the port is let go. Only an agent that is killed can't: the next one
//! goes on, and `reachback codex restore` puts it back without one.
//!
//! The text is changed in one place ([`setting`]), by a rename, where the file really is if
//! `config.toml` is a link. A value that is not an agent's is never overwritten unremembered, and one that the person
//! changed meanwhile is theirs.

use std::fs::Permissions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reachback_proto::words::{printable, quote, shell_word};
use reachback_relay::files::{TEMP_PREFIX, sync_parent};
use tokio::sync::watch;

use super::enrolment::is_base_url;
use super::setting::{self, Setting, SettingError};
use super::upstream::{self, Upstream, UpstreamError};
use crate::local_api::{CodexUse, Failure};
use crate::platform::files::{self, AccessError};
use crate::state::atomic::FileError;
use crate::state::redirect::{Redirect as Kept, RedirectFile, Written};

/// Largest `config.toml` that is changed, in bytes.
const MAX_CONFIG: u64 = 1 << 20;
/// What the file of before is called, beside it.
const BACKUP: &str = "config.toml.before-reachback";

/// Codex's configuration can't be led here, or not be put back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedirectError {
    /// What the agent notes about it.
    #[error(transparent)]
    Note(#[from] FileError),
    /// It is another user's.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The user has no home folder.
    #[error("there is no home folder, and no CODEX_HOME")]
    NoFolder,
    /// Codex never ran there.
    #[error("codex's own folder {} is not there", quote(home.display()))]
    NoHome {
        /// Where it should be.
        home: PathBuf,
    },
    /// The agent works with another Codex.
    #[error("the agent that runs works with codex's folder {}, not with {}", quote(agents.display()), quote(chosen.display()))]
    OtherHome {
        /// The agent's.
        agents: PathBuf,
        /// The one that was asked for.
        chosen: PathBuf,
    },
    /// A link without a file.
    #[error("{} is a link to nothing", quote(path.display()))]
    Dangling {
        /// The link.
        path: PathBuf,
    },
    /// The system says no.
    #[error("can't {doing} {}", quote(path.display()))]
    Io {
        /// "read" or "write".
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// Not what Codex reads.
    #[error("{}: {}", quote(path.display()), printable(&source.to_string()))]
    Text {
        /// The file.
        path: PathBuf,
        /// Where and what; said above.
        source: TextError,
    },
    /// Two agents can't both have it.
    #[error("{}, line {line}, leads to another agent of Reachback, or to one whose state is gone", quote(path.display()))]
    Another {
        /// The file.
        path: PathBuf,
        /// Where.
        line: usize,
    },
    /// What was there before leads to where nothing may be passed on to.
    #[error("{}: {source}", quote(path.display()))]
    Upstream {
        /// The file.
        path: PathBuf,
        /// Why; said above.
        source: UpstreamError,
    },
}

/// A text that is no configuration.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct TextError(SettingError);

impl RedirectError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    /// What a person can do about it.
    pub fn fix(&self) -> Option<String> {
        Some(match self {
            Self::NoFolder => "say which folder: --codex-home DIR".to_owned(),
            Self::NoHome { .. } => "start codex once, or say where its folder is: --codex-home DIR".to_owned(),
            Self::OtherHome { agents, chosen } => format!(
                "reachback codex use --codex-home {}; or stop that agent, and start it with --codex-home {}",
                printable(&shell_word(agents.to_string_lossy())),
                printable(&shell_word(chosen.to_string_lossy()))
            ),
            Self::Dangling { .. } => "remove the link, or put the file there".to_owned(),
            Self::Text { .. } => "mend that line, and try again: nothing was changed".to_owned(),
            Self::Another { .. } => {
                "end that one (`reachback codex restore` with its REACHBACK_HOME), or take that line out by hand"
                    .to_owned()
            }
            Self::Upstream { .. } => "take that line out, or mend it".to_owned(),
            Self::Note(_) | Self::Access(_) | Self::Io { .. } => return None,
        })
    }

    /// The message with its causes, for people.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Io { source, .. } => format!("{self}: {source}"),
            Self::Note(FileError::Io { source, .. }) | Self::Access(AccessError::Io { source, .. }) => {
                format!("{self}: {source}")
            }
            _ => self.to_string(),
        }
    }

    fn failure(&self) -> Failure {
        let failure = Failure::new("codex_config", self.reason());
        self.fix().into_iter().fold(failure, Failure::fix)
    }
}

impl From<RedirectError> for Failure {
    fn from(error: RedirectError) -> Self {
        error.failure()
    }
}

/// What became of the setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored {
    /// There was nothing to put back.
    Nothing,
    /// It is as it was before.
    Done,
    /// Somebody changed it meanwhile, and it was left as it is.
    Changed,
}

/// How far it is led here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It is not, or not yet.
    Away,
    /// It is.
    Here,
    /// It can't be.
    Failed(Failure),
}

/// The owner's wish, and the setting that follows from it.
pub struct Redirect {
    file: RedirectFile,
    /// `CODEX_HOME` of the Codex that the agent works with.
    codex_home: Option<PathBuf>,
    kept: Mutex<Kept>,
    wanted: watch::Sender<bool>,
    phase: watch::Sender<Phase>,
}

impl std::fmt::Debug for Redirect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not what was there before: it may hold a secret.
        f.debug_struct("Redirect").field("codex_home", &self.codex_home).finish_non_exhaustive()
    }
}

impl Redirect {
    /// What was wished for and done on `home`, for an agent or a command that works with this `CODEX_HOME`.
    pub fn open(home: &Path, codex_home: Option<PathBuf>) -> Result<Self, FileError> {
        let file = RedirectFile::of(home);
        // It is kept beyond this process, which has a current folder of its own.
        let codex_home = codex_home.map(|home| std::path::absolute(&home).unwrap_or(home));
        let kept = file.read()?;
        let wanted = watch::Sender::new(kept.codex_home.is_some());
        Ok(Self { file, codex_home, kept: Mutex::new(kept), wanted, phase: watch::Sender::new(Phase::Away) })
    }

    /// The `CODEX_HOME` that the owner wishes to have led here.
    pub fn wanted_home(&self) -> Option<PathBuf> {
        self.kept().codex_home.clone()
    }

    /// Whether the owner wishes it; the receiver sees every later change too.
    pub fn wanted(&self) -> watch::Receiver<bool> {
        self.wanted.subscribe()
    }

    /// How far it is led here, as it changes.
    pub(crate) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Wishes for it from now on. Refused at once where it could not be.
    pub fn want(&self, chosen: Option<&Path>) -> Result<(), RedirectError> {
        let home = self.codex_home.as_deref().or(chosen).ok_or(RedirectError::NoFolder)?;
        if let Some(chosen) = chosen.filter(|chosen| !is_same(chosen, home)) {
            return Err(RedirectError::OtherHome { agents: home.to_owned(), chosen: chosen.to_owned() });
        }
        let mut kept = self.kept();
        let config = Config::read(home)?;
        config.before(kept.written.as_ref())?;
        let new = Kept { codex_home: Some(home.to_owned()), ..kept.clone() };
        self.file.write(&new)?;
        *kept = new;
        if matches!(*self.phase.borrow(), Phase::Failed(_)) {
            self.phase.send_replace(Phase::Away);
        }
        self.wanted.send_replace(true);
        Ok(())
    }

    /// Ends the wish, and puts back what was there before.
    pub fn restore(&self) -> Result<Restored, RedirectError> {
        {
            let mut kept = self.kept();
            let new = Kept { codex_home: None, ..kept.clone() };
            if *kept != new {
                self.file.write(&new)?;
                *kept = new;
            }
        }
        let restored = self.undo();
        self.wanted.send_replace(false);
        restored
    }

    /// Puts back what was there before; the wish stays.
    pub fn undo(&self) -> Result<Restored, RedirectError> {
        let mut kept = self.kept();
        let Some(written) = kept.written.clone() else { return Ok(Restored::Nothing) };
        let restored = match Config::of_file(&written.file) {
            // The folder went, and the setting with it.
            Err(RedirectError::NoHome { .. }) => Restored::Nothing,
            config => config?.put_back(&written)?,
        };
        let new = Kept { written: None, ..kept.clone() };
        self.file.write(&new)?;
        *kept = new;
        self.phase.send_replace(Phase::Away);
        Ok(restored)
    }

    /// Has the setting lead to `address` until what is returned is dropped.
    pub(super) fn lead(self: &Arc<Self>, address: &str) -> Result<Leading, RedirectError> {
        match self.write(address) {
            Ok(upstream) => {
                self.phase.send_replace(Phase::Here);
                Ok(Leading { redirect: Arc::clone(self), upstream })
            }
            Err(error) => {
                self.phase.send_replace(Phase::Failed(error.failure()));
                Err(error)
            }
        }
    }

    fn write(&self, address: &str) -> Result<Upstream, RedirectError> {
        let mut kept = self.kept();
        let home = kept.codex_home.clone().or_else(|| self.codex_home.clone()).ok_or(RedirectError::NoFolder)?;
        let config = Config::read(&home)?;
        let (before, upstream) = config.before(kept.written.as_ref())?;
        // What an agent that was killed had made is still made.
        let made = config.text.is_none() || kept.written.as_ref().is_some_and(|written| written.made);
        config.back_up(kept.written.is_some())?;
        let written = Written { file: config.path.clone(), before, made };
        let new = Kept { written: Some(written), ..kept.clone() };
        // Noted first: what is written and not noted would be nobody's.
        if *kept != new {
            self.file.write(&new)?;
            *kept = new;
        }
        config.lead_to(address)?;
        Ok(upstream)
    }

    /// Where everything goes that is not remote control: what is configured but for this, else the maker's own.
    pub fn upstream(&self) -> Result<Upstream, RedirectError> {
        let kept = self.kept();
        let configured = self.codex_home.as_deref().and_then(|home| Config::read(home).ok());
        match configured {
            Some(config) => Ok(config.before(kept.written.as_ref())?.1),
            None => Config::nowhere().upstream(None),
        }
    }

    /// How it is, for people and for programs.
    pub fn status(&self) -> CodexUse {
        let kept = self.kept();
        let file = kept.written.as_ref().map(|written| written.file.clone());
        let file = file.or_else(|| Some(kept.codex_home.as_ref()?.join("config.toml")));
        let config = file.as_deref().map(Config::of_file);
        let (leads_here, notes) = match (&config, &kept.written) {
            (Some(Ok(config)), written) => (written.is_some() && config.leads_to_an_agent(), config.notes()),
            _ => (false, Vec::new()),
        };
        let backup = file.as_deref().and_then(backup_of).filter(|backup| backup.exists());
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        CodexUse {
            wanted: kept.codex_home.is_some(),
            config: file.map(text),
            leads_here,
            backup: backup.map(text),
            notes,
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A setting that leads to this agent. Dropped, it is as it was before.
#[derive(Debug)]
pub(super) struct Leading {
    redirect: Arc<Redirect>,
    /// Where it led before.
    pub(super) upstream: Upstream,
}

impl Drop for Leading {
    fn drop(&mut self) {
        match self.redirect.undo() {
            Ok(Restored::Changed) => {
                tracing::warn!("chatgpt_base_url in codex's config.toml was changed meanwhile, and is left as it is");
            }
            Ok(Restored::Nothing | Restored::Done) => {}
            Err(error) => tracing::error!(
                reason = error.reason(),
                "codex's config.toml still leads to this agent; `reachback codex restore` puts it back once that is mended"
            ),
        }
    }
}

/// A `config.toml` as it is.
struct Config {
    /// By the name that Codex knows it by.
    path: PathBuf,
    /// Where it really is.
    target: PathBuf,
    /// `None` where there is none.
    text: Option<String>,
    permissions: Option<Permissions>,
    is_open: bool,
}

impl Config {
    fn read(home: &Path) -> Result<Self, RedirectError> {
        Self::of_file(&home.join("config.toml"))
    }

    fn of_file(path: &Path) -> Result<Self, RedirectError> {
        let home = path.parent().unwrap_or(Path::new("/"));
        if !home.is_dir() {
            return Err(RedirectError::NoHome { home: home.to_owned() });
        }
        files::stat_ours(home)?;
        let target = match path.canonicalize() {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if path.is_symlink() {
                    return Err(RedirectError::Dangling { path: path.to_owned() });
                }
                return Ok(Self { path: path.to_owned(), target: path.to_owned(), ..Self::nowhere() });
            }
            Err(error) => return Err(RedirectError::io("read", path)(error)),
        };
        let folder = files::stat_ours(target.parent().unwrap_or(Path::new("/")))?;
        let metadata = files::stat_ours(&target)?;
        if !metadata.is_file() || metadata.len() > MAX_CONFIG {
            let what = io::Error::other("it is no file, or a very large one");
            return Err(RedirectError::io("read", &target)(what));
        }
        let text = std::fs::read_to_string(&target).map_err(RedirectError::io("read", &target))?;
        let is_open = files::is_readable_by_others(&metadata, &folder);
        Ok(Self { path: path.to_owned(), target, text: Some(text), permissions: Some(metadata.permissions()), is_open })
    }

    fn nowhere() -> Self {
        Self { path: PathBuf::new(), target: PathBuf::new(), text: None, permissions: None, is_open: false }
    }

    fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }

    fn find(&self) -> Result<Option<Setting>, RedirectError> {
        let failed = |error| RedirectError::Text { path: self.path.clone(), source: TextError(error) };
        Setting::find(self.text()).map_err(failed)
    }

    fn leads_to_an_agent(&self) -> bool {
        self.find().is_ok_and(|setting| setting.is_some_and(|setting| is_base_url(&setting.value)))
    }

    /// The value that a person wrote, as it stands or stood there, and where it leads. `written` is what an agent of this home
    /// wrote and did not take back.
    fn before(&self, written: Option<&Written>) -> Result<(Option<String>, Upstream), RedirectError> {
        let written = written.filter(|written| is_same(&written.file, &self.path));
        let before = match self.find()? {
            Some(setting) if is_base_url(&setting.value) => match written {
                Some(written) => written.before.clone(),
                None => return Err(RedirectError::Another { path: self.path.clone(), line: setting.line }),
            },
            Some(setting) => Some(setting.raw(self.text()).to_owned()),
            None => None,
        };
        let upstream = self.upstream(before.as_deref())?;
        Ok((before, upstream))
    }

    fn upstream(&self, before: Option<&str>) -> Result<Upstream, RedirectError> {
        let url = before.and_then(setting::value_of).unwrap_or_else(|| upstream::DEFAULT.to_owned());
        Upstream::new(&url).map_err(|source| RedirectError::Upstream { path: self.path.clone(), source })
    }

    /// Keeps the file as it is, once: a later run would keep what an earlier one wrote. `is_ours` says that one already wrote.
    fn back_up(&self, is_ours: bool) -> Result<(), RedirectError> {
        let (Some(text), Some(backup)) = (&self.text, backup_of(&self.path)) else { return Ok(()) };
        if is_ours || backup.is_symlink() || backup.exists() {
            return Ok(());
        }
        put(&backup, text, None).map_err(RedirectError::io("write", &backup))
    }

    fn lead_to(&self, address: &str) -> Result<(), RedirectError> {
        let raw = setting::quoted(address);
        match self.find()? {
            Some(setting) if setting.value == address => Ok(()),
            Some(setting) => self.write(&setting.replaced(self.text(), &raw)),
            None => self.write(&setting::added(self.text(), &raw)),
        }
    }

    fn put_back(&self, written: &Written) -> Result<Restored, RedirectError> {
        let setting = self.find()?;
        let Some(setting) = setting.filter(|setting| is_base_url(&setting.value)) else {
            let now = self.find()?.map(|setting| setting.raw(self.text()).to_owned());
            // It was noted, and never written.
            return Ok(if now == written.before { Restored::Nothing } else { Restored::Changed });
        };
        let text = match &written.before {
            Some(before) => setting.replaced(self.text(), before),
            None => setting.removed(self.text()),
        };
        match written.made && text.trim().is_empty() {
            true => std::fs::remove_file(&self.path).map_err(RedirectError::io("remove", &self.path))?,
            false => self.write(&text)?,
        }
        Ok(Restored::Done)
    }

    fn write(&self, text: &str) -> Result<(), RedirectError> {
        put(&self.target, text, self.permissions.clone()).map_err(RedirectError::io("write", &self.target))
    }

    /// What a person should know about it.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.target != self.path && self.path.is_symlink() {
            let target = quote(self.target.display()).to_string();
            notes.push(format!(
                "config.toml is a link to {target}: the address that stands there while the agent runs is a secret, so commit \
                 it nowhere"
            ));
        } else if self.is_open {
            notes.push(format!(
                "other users of this machine can read the address in {}: chmod 600 keeps it from them",
                quote(self.target.display())
            ));
        }
        if setting::has_profile(self.text()) {
            notes.push(
                "config.toml chooses a profile (`profile = …`): Codex 0.169.0 then takes none of its settings, and this one \
                 does not count either; take that line out"
                    .to_owned(),
            );
        }
        notes
    }
}

/// Where a file of before is kept.
fn backup_of(config: &Path) -> Option<PathBuf> {
    Some(config.parent()?.join(BACKUP))
}

/// Writes a file whole, with these permissions, or for this user only.
fn put(path: &Path, text: &str, permissions: Option<Permissions>) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(TEMP_PREFIX).tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    if let Some(permissions) = permissions {
        file.as_file().set_permissions(permissions)?;
    }
    file.as_file().sync_all()?;
    file.persist(path)?;
    sync_parent(path)
}

/// Whether both are one file or folder.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path)).ok();
    one == other || real(one).is_some_and(|one| Some(one) == real(other))
}

#[cfg(test)]
mod tests;
