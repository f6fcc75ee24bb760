//! The disk of a machine that is reached over SSH, as far as it was looked at.
//!
//! What is known is a second old at most when a message is judged: it is [looked](Disk::look) at anew before each. What could
//! not be looked at is forgotten, so nothing is open there.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, try_join, try_join_all};
use tokio::time::{Instant, timeout};

use super::backend::{Link, Shared};
use super::sftp::{Sftp, SftpError};
use crate::codex::{ConnectError, Instance};
use crate::disk::{Disk, Entries, MAX_CONFIG, Real, Surroundings, mark, trusted};
use crate::firewall::folders::{Unseen, plain};

/// What is known for so long is looked at anew.
const FRESH: Duration = Duration::from_secs(1);
/// What was not looked at for so long is forgotten: twice as long as a look may take.
const KEPT: Duration = Duration::from_secs(10);
/// After a look that failed, those who waited for it have its answer, and so has who comes this soon.
const FAILED: Duration = Duration::from_secs(1);
/// How long a look may take; a person waits for it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Paths that are known at once; a large folder has some thousand.
const MAX_KNOWN: usize = 16_384;
/// Folders that Codex's configuration trusts and that are looked at; who has more opens them by hand.
const MAX_TRUSTED: usize = 512;
/// Entries of a folder that are read: some hundred come with each answer of the server.
const MAX_ENTRIES: usize = 10_000;
/// Links in a folder that are followed.
const MAX_LINKS: usize = 512;
/// Folders whose entries are known at once.
const MAX_FOLDERS: usize = 16;
/// Why nothing is known in the end.
const NOT_CONNECTED: &str = "it is not connected";
/// Where Reachback has its own folders in a home, on Linux and macOS; see `cli::Home`.
const OWN: [&str; 2] = [".local/state/reachback", "Library/Application Support/Reachback"];

/// See the module's header.
#[derive(Debug)]
pub struct SshDisk {
    shared: Arc<Shared>,
    known: Mutex<Known>,
    /// One look at a time: the next one finds what it found.
    looking: tokio::sync::Mutex<()>,
}

/// What was found, over the connection of this instance.
#[derive(Debug, Default)]
struct Known {
    instance: Option<Instance>,
    surroundings: Option<Arc<Surroundings>>,
    why_not: Option<Unseen>,
    /// When a look failed last.
    failed: Option<Instant>,
    /// Why nothing will be known as long as it is this connection.
    closed: Option<Unseen>,
    config: Option<(Instant, Arc<str>)>,
    paths: HashMap<PathBuf, (Instant, Option<Real>)>,
    entries: HashMap<PathBuf, (Instant, Entries)>,
}

impl SshDisk {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, known: Mutex::default(), looking: tokio::sync::Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection, with what is known over it; nothing where there is no use in a look.
    fn link(&self) -> Option<Arc<Link>> {
        let link = self.shared.link();
        let mut known = self.known();
        let Some(link) = link else {
            known.forget(Unseen::new(NOT_CONNECTED));
            return None;
        };
        known.begin(link.instance);
        let has_failed = known.failed.is_some_and(|at| at.elapsed() < FAILED);
        (!has_failed).then_some(link)
    }

    /// Lets a look take its time, and forgets what is known where it fails.
    async fn patiently(&self, link: &Link, looking: impl Future<Output = Result<(), SftpError>>) {
        let Err(error) = timeout(PATIENCE, looking).await.unwrap_or(Err(SftpError::TimedOut)) else { return };
        link.end_sftp().await;
        tracing::warn!(alias = self.shared.alias(), %error, "the folders of an SSH host can't be looked at");
        let why = Unseen::new(&error.to_string());
        let mut known = self.known();
        known.closed = error.stays().then(|| why.clone());
        known.failed = Some(Instant::now());
        known.forget(why);
    }

    /// Looks at what is not known for sure any more.
    async fn see(&self, link: &Link, sftp: &Sftp, mut wanted: Vec<PathBuf>) -> Result<(), SftpError> {
        let codex_home = plain(&link.found.codex_home).ok_or(SftpError::Closed)?;
        let home = plain(&link.found.home).ok_or(SftpError::Closed)?;
        let config = codex_home.join("config.toml");
        let own: Vec<PathBuf> =
            [home.clone(), codex_home].into_iter().chain(OWN.iter().map(|own| home.join(own))).collect();
        wanted.extend(own.iter().cloned());
        let is_fresh = {
            let known = self.known();
            wanted.extend(known.trusted());
            known.config.as_ref().is_some_and(|(at, _)| at.elapsed() < FRESH)
        };
        if is_fresh {
            self.find(sftp, wanted).await?;
            return self.known().settle(&own);
        }
        let began = Instant::now();
        let most = usize::try_from(MAX_CONFIG).unwrap_or(usize::MAX);
        let (text, ()) = try_join(sftp.read(&config, most), self.find(sftp, wanted)).await?;
        let text: Arc<str> = String::from_utf8(text.unwrap_or_default()).map_err(|_| SftpError::Closed)?.into();
        self.known().config = Some((began, text));
        // Those that were not trusted before.
        let trusted = self.known().trusted();
        self.find(sftp, trusted).await?;
        self.known().settle(&own)
    }

    /// Finds out what paths lead to.
    async fn find(&self, sftp: &Sftp, paths: Vec<PathBuf>) -> Result<(), SftpError> {
        let paths = self.known().stale(paths);
        let now = Instant::now();
        let found = try_join_all(paths.iter().map(|path| sftp.real(path))).await?;
        self.known().paths.extend(paths.into_iter().zip(found).map(|(path, real)| (path, (now, real))));
        Ok(())
    }

    async fn see_into(&self, sftp: &Sftp, path: PathBuf) -> Result<(), SftpError> {
        self.find(sftp, vec![path.clone()]).await?;
        let real = self.known().real(&path).filter(|real| real.is_dir);
        let Some(Real { path: folder, .. }) = real else { return Ok(()) };
        let Some((mut entries, mut links)) = sftp.entries(&folder, MAX_ENTRIES).await? else {
            self.known().entries.remove(&folder);
            return Ok(());
        };
        entries.more |= links.len() > MAX_LINKS;
        links.truncate(MAX_LINKS);
        let is_link: HashSet<&String> = links.iter().collect();
        let now = Instant::now();
        {
            let mut known = self.known();
            let folders = entries.names.iter().filter(|name| !is_link.contains(name)).map(|name| folder.join(name));
            known.paths.extend(folders.map(|path| (path.clone(), (now, Some(Real { path, is_dir: true })))));
        }
        self.find(sftp, links.iter().map(|name| folder.join(name)).collect()).await?;
        self.known().entries.insert(folder, (now, entries));
        Ok(())
    }
}

impl Known {
    /// What is known over another connection is about another machine, for all one knows.
    fn begin(&mut self, instance: Instance) {
        if self.instance != Some(instance) {
            *self = Self { instance: Some(instance), ..Self::default() };
        }
        self.paths.retain(|_, (at, _)| at.elapsed() < KEPT);
        if self.paths.len() > MAX_KNOWN {
            self.paths.clear();
        }
        self.entries.retain(|_, (at, _)| at.elapsed() < KEPT);
        if self.entries.len() > MAX_FOLDERS {
            self.entries.clear();
        }
    }

    /// Leaves the configuration: what it chose is no looser than what is not known.
    fn forget(&mut self, why: Unseen) {
        self.surroundings = None;
        self.why_not = Some(why);
        self.paths.clear();
        self.entries.clear();
    }

    /// Of these paths those that are to be looked at, each once.
    fn stale(&self, mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
        paths.sort_unstable();
        paths.dedup();
        paths.retain(|path| self.paths.get(path).is_none_or(|(at, _)| at.elapsed() >= FRESH));
        paths
    }

    fn real(&self, path: &Path) -> Option<Real> {
        let (at, real) = self.paths.get(path)?;
        real.clone().filter(|_| at.elapsed() < KEPT)
    }

    fn trusted(&self) -> Vec<PathBuf> {
        let mut trusted = self.config.as_ref().map(|(_, text)| trusted(text)).unwrap_or_default();
        trusted.truncate(MAX_TRUSTED);
        trusted
    }

    /// Puts down what there is besides workspaces. `own` begins with the home and Codex's folder.
    fn settle(&mut self, own: &[PathBuf]) -> Result<(), SftpError> {
        let mut real = own.iter().map(|path| (path, self.real(path)));
        // What the shell calls so has to be a folder to SFTP, too: it may be led into a part of the disk.
        let mut folder = || real.next()?.1.filter(|real| real.is_dir).map(|real| real.path);
        let (Some(home), Some(codex_home)) = (folder(), folder()) else { return Err(SftpError::OtherFolders) };
        let others = real.map(|(path, real)| real.map_or_else(|| path.clone(), |real| real.path));
        let surroundings = Surroundings {
            state: std::iter::once(codex_home.clone()).chain(others).collect(),
            roots: vec![home.clone()],
            home: Some(home),
            codex_config: Some(codex_home.join("config.toml")),
            working_dir: None,
        };
        self.surroundings = Some(Arc::new(surroundings));
        (self.why_not, self.closed) = (None, None);
        Ok(())
    }
}

impl Disk for SshDisk {
    fn surroundings(&self) -> Result<Arc<Surroundings>, Unseen> {
        let now = self.shared.link().map(|link| link.instance);
        let known = self.known();
        let is_this = known.instance.is_some() && known.instance == now;
        let surroundings = known.surroundings.clone().filter(|_| is_this);
        surroundings
            .ok_or_else(|| known.why_not.clone().filter(|_| is_this).unwrap_or_else(|| Unseen::new(NOT_CONNECTED)))
    }

    fn real(&self, path: &Path) -> Option<Real> {
        self.known().real(path)
    }

    fn entries(&self, real: &Path, most: usize) -> Option<Entries> {
        let mut entries = self.known().entries.get(real).map(|(_, entries)| entries.clone())?;
        entries.more |= entries.names.len() > most;
        entries.names.truncate(most);
        Some(entries)
    }

    fn codex_config(&self) -> String {
        self.known().config.as_ref().map(|(_, text)| text.as_ref().to_owned()).unwrap_or_default()
    }

    fn codex_config_mark(&self) -> Option<u64> {
        self.known().config.as_ref().filter(|(_, text)| !text.is_empty()).map(|(_, text)| mark(text))
    }

    fn is_here(&self) -> bool {
        false
    }

    fn closed(&self) -> Option<Unseen> {
        self.known().closed.clone()
    }

    fn reach(&self) -> BoxFuture<'_, Result<(), ConnectError>> {
        self.shared.reach().boxed()
    }

    fn look(&self, paths: Vec<PathBuf>) -> BoxFuture<'_, ()> {
        async {
            let _one = self.looking.lock().await;
            let Some(link) = self.link() else { return };
            self.patiently(&link, async { self.see(&link, &*link.sftp().await?, paths).await }).await;
        }
        .boxed()
    }

    fn look_into(&self, path: PathBuf) -> BoxFuture<'_, ()> {
        async {
            let _one = self.looking.lock().await;
            let Some(link) = self.link() else { return };
            self.patiently(&link, async { self.see_into(&*link.sftp().await?, path).await }).await;
        }
        .boxed()
    }
}
