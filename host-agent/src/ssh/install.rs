//! Installing Codex on a machine, when its owner asks for it at the host.
//!
//! ```text
//! npm there ── npm install -g ──────────────────────────────────── the login shell finds it
//!     └ else: npm here ── the package, to the bit ── SFTP ── ~/.local/share/reachback/
//!                                                              incoming/RANDOM/   what is under way
//!                                                              codex-VERSION/     what is whole, and ran once
//!                                                            ~/.local/bin/codex   a link to the program
//! ```
//!
//! A name that Codex is looked for by comes last, and at once: whatever ends before
//! leaves a folder that the next try removes. What is not Reachback's in the place
//! of the link stays.

mod package;
mod sweep;

use std::time::Duration;

use data_encoding::HEXLOWER;
use reachback_proto::words::{quote, shell_word};
use ring::rand::SystemRandom;

use super::bootstrap::{BootstrapError, last_line};
use super::connection::Connection;
use super::marker::Facts;
use super::sftp::SftpError;
use super::shell::{RunError, word};
use package::Package;

pub use package::CODEX_VERSION;
pub use sweep::Swept;

/// What a look at a machine may take.
const LOOK_PATIENCE: Duration = Duration::from_secs(30);
/// What npm may take there.
const NPM_PATIENCE: Duration = Duration::from_secs(900);
/// What unpacking may take: 430 MB, on a disk that may be slow.
const UNPACK_PATIENCE: Duration = Duration::from_secs(600);
/// What the package and its contents take together on a disk there, in bytes: 0.6 GB, and some to go on with.
const ROOM: u64 = 700 << 20;
/// What is kept of the name of a system, in characters.
const MAX_NAME: usize = 60;

/// Codex was not installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// What is asked there has no answer.
    #[error(transparent)]
    There(#[from] BootstrapError),
    /// There is no package for such a machine.
    #[error("there is no package of Codex for {}", quote(system))]
    Unsupported {
        /// Its system and processor.
        system: String,
    },
    /// What unpacks a package is missing.
    #[error("{} is missing there, which unpacks the package", quote(program))]
    NoProgram {
        /// The program.
        program: String,
    },
    /// Something of somebody else's stands where the link would.
    #[error("{} is there, and was not put there by Reachback", quote(path))]
    Taken {
        /// Its path.
        path: String,
    },
    /// The login shell would still find another one.
    #[error("the login shell there finds {} before what is in ~/.local/bin", quote(program))]
    Hidden {
        /// The program that it finds.
        program: String,
        /// What would have it look into `~/.local/bin` first.
        advice: Advice,
    },
    /// A folder can't be made or written.
    #[error("{} can't be made or written there", quote(folder))]
    Closed {
        /// The folder.
        folder: String,
    },
    /// The disk has too little room.
    #[error("Codex takes {} MiB there, and the disk with {} has {}", ROOM >> 20, quote(folder), room >> 20)]
    NoRoom {
        /// The folder.
        folder: String,
        /// What there is, in bytes.
        room: u64,
    },
    /// npm is at neither end, or did not do it there.
    #[error("npm, which fetches Codex, is not on this computer's search path, and not there or of no use")]
    NoNpm,
    /// npm here does not bring the package.
    #[error("npm on this computer does not fetch Codex{}", says(said))]
    NotFetched {
        /// What it says.
        said: Option<String>,
    },
    /// What npm brought is something else.
    #[error("what npm on this computer fetched is not the package of Codex {CODEX_VERSION} that Reachback knows")]
    OtherPackage,
    /// A file of this computer can't be read or written.
    #[error("Codex can't be kept on this computer on its way: {0}")]
    Here(std::io::Error),
    /// The package does not get there.
    #[error(transparent)]
    Sftp(#[from] SftpError),
    /// It was put there and is gone: another install began meanwhile.
    #[error("what was sent there is gone: another install began, or its SFTP shows other folders than its shell does")]
    Gone,
    /// It does not unpack.
    #[error("the package does not unpack there{}", says(said))]
    NotUnpacked {
        /// What is said of it.
        said: Option<String>,
    },
    /// It was unpacked, and does not run.
    #[error("the Codex that was sent there does not run{}", says(said))]
    NotRunning {
        /// What it says.
        said: Option<String>,
    },
}

fn says(said: &Option<String>) -> String {
    said.as_ref().map(|said| format!("; it says {}", quote(said))).unwrap_or_default()
}

impl InstallError {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::There(error) => error.code(),
            Self::Unsupported { .. } => "install_unsupported",
            Self::NoProgram { .. } => "install_program_missing",
            Self::Taken { .. } => "install_taken",
            Self::Hidden { .. } => "install_hidden",
            Self::Closed { .. } => "install_folder",
            Self::NoRoom { .. } => "install_disk_full",
            Self::NoNpm => "npm_missing",
            Self::NotFetched { .. } => "npm_failed",
            Self::OtherPackage => "install_other_package",
            Self::Here(_) => "install_here",
            Self::Sftp(_) => "install_sftp",
            Self::Gone => "install_gone",
            Self::NotUnpacked { .. } => "install_unpack",
            Self::NotRunning { .. } => "install_not_running",
        }
    }

    /// What a person can do about it; `name` is the machine's in the SSH configuration.
    pub fn fix(&self, name: &str) -> String {
        let there = |command: &str| format!("ssh {} {}", shell_word(name), shell_word(command));
        let again = format!("reachback ssh bootstrap {} --install", shell_word(name));
        match self {
            Self::There(error) => error.fix(name),
            Self::Unsupported { .. } => {
                "Codex is made for Linux and macOS on x86-64 and ARM64; build it there yourself, as ~/.local/bin/codex"
                    .to_owned()
            }
            Self::NoProgram { program } => format!("install {} there, then: {again}", quote(program)),
            Self::Taken { path } => format!(
                "bring it up to date the way it was installed; or, if nobody needs it: {}, then: {again}",
                there(&format!("rm {}", shell_word(path)))
            ),
            Self::Hidden { advice, .. } => {
                format!("bring that one up to date the way it was installed; or {advice}, then: {again}")
            }
            Self::Closed { folder } => format!("see whose it is: {}", there(&format!("ls -ld {}", shell_word(folder)))),
            Self::NoRoom { folder, .. } => {
                format!("make room there: {}", there(&format!("df -h {}", shell_word(folder))))
            }
            Self::NoNpm => format!("install npm on this computer (https://nodejs.org) or there, then: {again}"),
            Self::NotFetched { .. } => format!("see what it says: npm view @openai/codex@{CODEX_VERSION}"),
            Self::OtherPackage => {
                "ask whoever runs the registry that npm is set up for: npm config get registry".to_owned()
            }
            Self::Here(_) => "see how full the disk with the temporary folder is".to_owned(),
            Self::Sftp(SftpError::None) => {
                "have the machine's sshd_config offer it: Subsystem sftp internal-sftp; or install npm there".to_owned()
            }
            Self::Sftp(_) | Self::Gone | Self::NotUnpacked { .. } => format!("try again: {again}"),
            Self::NotRunning { .. } => {
                format!("see whether programs may run from the disk there: {}", there("mount; df ~/.local/share"))
            }
        }
    }
}

/// What has a login shell look into `~/.local/bin` first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// The line.
    pub line: &'static str,
    /// The file that it belongs into, there.
    pub file: String,
}

impl std::fmt::Display for Advice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "put this line at the end of {} there: {}", quote(&self.file), self.line)
    }
}

/// Who installed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// npm there.
    Npm,
    /// This host, which sent the package.
    Package,
}

impl By {
    /// A stable word for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Package => "package",
        }
    }
}

/// A Codex that was installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// How.
    pub by: By,
    /// What a person does to have it in their own shell there, where that does not find it yet.
    pub advice: Option<Advice>,
}

/// What is being done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<'a> {
    /// npm installs there.
    Npm,
    /// What it said there.
    NpmSaid {
        /// Its words.
        said: &'a str,
        /// Whether a Codex that can be used is there now.
        helped: bool,
    },
    /// npm fetches a package here.
    Fetch {
        /// What it calls it.
        package: &'a str,
    },
    /// The package is on its way there.
    Send {
        /// How much of it is there, in bytes.
        done: u64,
        /// How much it is.
        total: u64,
    },
    /// It is unpacked there.
    Unpack,
}

/// Hears what is being done.
type Hears<'a> = &'a (dyn Fn(Step<'_>) + Send + Sync);

impl Connection {
    /// Installs Codex [`CODEX_VERSION`] there, for the user that one is there.
    ///
    /// Dropped before its end it leaves nothing that is taken for a Codex; the next one removes what is left.
    pub async fn install(&self, hears: Hears<'_>) -> Result<Installed, InstallError> {
        let look = Look::read(&self.facts_at_login(LOOK, LOOK_PATIENCE).await?)?;
        if look.has_npm && self.install_by_npm(hears).await? {
            return Ok(Installed { by: By::Npm, advice: None });
        }
        let unsupported = || InstallError::Unsupported { system: format!("{} {}", look.system, look.machine) };
        let package = Package::of(&look.system, &look.machine).ok_or_else(unsupported)?;
        if let Some(program) = look.missing {
            return Err(InstallError::NoProgram { program });
        }
        let id = random()?;
        let place = format!("{}{PLACE}", variables(package, &id));
        refused(&self.facts_at_login(&format!("{place}{FOLDERS}"), LOOK_PATIENCE).await?)?;
        let ready = self.facts_at_login(&format!("{place}{PREPARE}"), LOOK_PATIENCE).await?;
        refused(&ready)?;
        if ready.number("linked") != Some(1) {
            let folder = ready.path("incoming").map_err(BootstrapError::from)?;
            if let Some(room) = room(&ready).filter(|room| *room < ROOM) {
                self.forget(&place).await;
                return Err(InstallError::NoRoom { folder, room });
            }
            let put = self.put(package, &folder, &place, hears).await;
            if put.is_err() {
                self.forget(&place).await;
            }
            put?;
        }
        let advice = (ready.number("on_path") != Some(1)).then(|| advice(&ready)).transpose()?;
        Ok(Installed { by: By::Package, advice })
    }

    /// Whether npm there could do it: it may have no right to write its folder, or one that the login shell does not look into.
    async fn install_by_npm(&self, hears: Hears<'_>) -> Result<bool, InstallError> {
        hears(Step::Npm);
        let script = format!("version={CODEX_VERSION}\n{NPM}");
        let facts = self.facts_at_login(&script, NPM_PATIENCE).await?;
        let said = String::from_utf8_lossy(facts.said("said"));
        let helped = facts.number("status") == Some(0)
            && match self.inspect().await {
                Err(error) if error.wants_codex() => false,
                Err(BootstrapError::Broken { .. } | BootstrapError::NotExecutable { .. }) => false,
                Err(error @ (BootstrapError::Run(_) | BootstrapError::NoAnswer { .. })) => return Err(error.into()),
                _ => true,
            };
        hears(Step::NpmSaid { said: said.trim(), helped });
        Ok(helped)
    }

    /// Fetches the package, and has it unpacked there.
    async fn put(&self, package: Package, folder: &str, place: &str, hears: Hears<'_>) -> Result<(), InstallError> {
        hears(Step::Fetch { package: &package.spec() });
        let fetched = package.fetch().await?;
        let total = fetched.size;
        let file = fetched.file.try_clone().map_err(InstallError::Here)?;
        hears(Step::Send { done: 0, total });
        let sftp = self.sftp().await?;
        let from = tokio::io::BufReader::with_capacity(1 << 20, tokio::fs::File::from_std(file));
        sftp.upload(from, &format!("{folder}/codex.tgz"), |done| hears(Step::Send { done, total })).await?;
        hears(Step::Unpack);
        let facts = self.facts_at_login(&format!("{place}{UNPACK}"), UNPACK_PATIENCE).await?;
        refused(&facts)?;
        match facts.number("linked") {
            Some(1) => Ok(()),
            _ => Err(InstallError::Gone),
        }
    }

    /// Removes what is on its way. Where that does not work, the next install does it.
    async fn forget(&self, place: &str) {
        let _ = self.facts_at_login(&format!("{place}clean\nfact end 1"), LOOK_PATIENCE).await;
    }
}

/// What a machine has.
struct Look {
    system: String,
    machine: String,
    has_npm: bool,
    /// What unpacks, and is not there.
    missing: Option<String>,
}

impl Look {
    fn read(facts: &Facts) -> Result<Self, BootstrapError> {
        let text = |name| facts.text(name).map(|text| text.unwrap_or_default().chars().take(MAX_NAME).collect());
        Ok(Self {
            system: text("system")?,
            machine: text("machine")?,
            has_npm: facts.number("npm") == Some(1),
            missing: facts.text("missing")?.map(str::to_owned),
        })
    }
}

/// What keeps a machine from getting a Codex.
fn refused(facts: &Facts) -> Result<(), InstallError> {
    let path = |name| facts.some_path(name).map_err(BootstrapError::from);
    if let Some(path) = path("taken")? {
        return Err(InstallError::Taken { path });
    }
    if let Some(program) = path("hidden")? {
        return Err(InstallError::Hidden { program, advice: advice(facts)? });
    }
    if let Some(folder) = path("closed")? {
        return Err(InstallError::Closed { folder });
    }
    match facts.number("failed") {
        None => Ok(()),
        Some(1) => Err(InstallError::NotUnpacked { said: last_line(facts.said("said")) }),
        Some(2) => Err(InstallError::NotRunning { said: last_line(facts.said("said")) }),
        Some(_) => Err(InstallError::Gone),
    }
}

fn room(facts: &Facts) -> Option<u64> {
    facts.number("room_kib").and_then(|kib| kib.checked_mul(1024))
}

fn advice(facts: &Facts) -> Result<Advice, BootstrapError> {
    let file = facts.path("profile")?;
    let is_fish = file.ends_with(".fish");
    Ok(Advice {
        line: if is_fish { "set -gx PATH ~/.local/bin $PATH" } else { "export PATH=\"$HOME/.local/bin:$PATH\"" },
        file,
    })
}

fn random() -> Result<String, BootstrapError> {
    let random: Option<[u8; 8]> = reachback_proto::crypto::keys::random(&SystemRandom::new()).ok();
    let random = random.ok_or_else(|| RunError::NoSession { reason: "no randomness".to_owned() })?;
    Ok(HEXLOWER.encode(&random))
}

/// What the scripts below are about.
fn variables(package: Package, id: &str) -> String {
    format!("version={CODEX_VERSION}\ntarget={}\nid={}\n", word(package.target), word(id))
}

/// POSIX, as the others.
const LOOK: &str = r#"fact system "$(uname -s)"
fact machine "$(uname -m)"
if command -v npm >/dev/null 2>&1; then fact npm 1; fi
for c in tar gzip; do command -v "$c" >/dev/null 2>&1 || fact missing "$c"; done
fact end 1"#;

/// npm puts a new package beside the old one, and links it last.
const NPM: &str = r#"w=$(npm install -g --no-fund --no-audit "@openai/codex@$version" </dev/null 2>&1)
fact status "$?"
fact said "$(printf '%s\n' "$w" | tail -n 20 | cut -c 1-400 | tail -c 4000)"
fact end 1"#;

/// Where all lies: the folder (`$d`), what is under way in it (`$i`), the program (`$p`), and the link to it (`$l`).
///
/// A link of ours leads into the folder; where it is, `ln` would put a second one beside the program.
const PLACE: &str = r#"set -f
umask 077
d=$HOME/.local/share/reachback
i=$d/incoming/$id
p=$d/codex-$version/vendor/$target/bin/codex
l=$HOME/.local/bin/codex
is_ours() { [ -L "$l" ] && case $(readlink "$l") in "$d"/codex-*) ;; *) false ;; esac; }
is_taken() { { [ -e "$l" ] || [ -L "$l" ]; } && ! is_ours; }
runs() { said=$("$1" --version 2>&1); [ "$(printf '%s\n' "$said" | tail -n 1)" = "codex-cli $version" ]; }
clean() { cd / && rm -rf "$i" && rmdir "$d/incoming" 2>/dev/null; }
finish() { fact end 1; exit 0; }
link() {
  if is_taken; then fact taken "$l"; finish; fi
  if is_ours; then ln -s "$p" "$i/codex" && mv -f "$i/codex" "$l"; else ln -s "$p" "$l"; fi || { fact closed "${l%/*}"; finish; }
  fact linked 1
}
"#;

/// By themselves: the next login shell may look into `~/.local/bin` because it is there.
const FOLDERS: &str = r#"if is_taken; then fact taken "$l"; finish; fi
for f in "$d" "${l%/*}"; do mkdir -p "$f" && [ -w "$f" ] || { fact closed "$f"; finish; }; done
finish"#;

/// What stands in the way is told before anything is fetched. What an install left that was cut goes.
const PREPARE: &str = r#"case ${SHELL##*/} in
  zsh) fact profile "$HOME/.zprofile" ;;
  fish) fact profile "$HOME/.config/fish/config.fish" ;;
  bash) for f in .bash_profile .bash_login .profile; do if [ -f "$HOME/$f" ]; then break; fi; done; fact profile "$HOME/$f" ;;
  *) fact profile "$HOME/.profile" ;;
esac
c=$(command -v codex)
case $c in /*) ;; *) c= ;; esac
IFS=:
for f in $PATH; do
  if [ "${f%/}" = "${l%/*}" ]; then fact on_path 1; break; fi
  if [ -n "$c" ] && [ "$f/codex" = "$c" ]; then fact hidden "$c"; finish; fi
done
unset IFS
rm -rf "$d/incoming"
mkdir -p "$i" || { fact closed "$d"; finish; }
if runs "$p"; then link; clean; finish; fi
fact incoming "$i"
fact room_kib "$(df -Pk "$i" 2>/dev/null | sed -n '2s/.* \([0-9][0-9]*\)  *[0-9][0-9]*% .*/\1/p')"
finish"#;

/// What is whole and ran gets its name in one step.
const UNPACK: &str = r#"cd "$i" && [ -f codex.tgz ] || { fact failed 3; finish; }
trap clean EXIT
fail() { fact said "$(printf '%s\n' "$2" | tail -n 5 | tail -c 2000)"; fact failed "$1"; finish; }
w=$(tar -xzof codex.tgz 2>&1) || fail 1 "$w"
rm -f codex.tgz
runs "./package/vendor/$target/bin/codex" || fail 2 "$said"
if [ -e "$d/codex-$version" ]; then mv "$d/codex-$version" old; fi
mv package "$d/codex-$version" || { fact closed "$d"; finish; }
link
finish"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fix_is_a_command_whatever_is_in_the_names() {
        let path = "/home/it's $(id)/codex".to_owned();
        let fix = InstallError::Taken { path }.fix("dev; box");
        assert!(fix.contains(r"ssh 'dev; box' 'rm '\''/home/it'\''\'\'''\''s $(id)/codex'\'''"), "{fix}");
        assert!(fix.ends_with("reachback ssh bootstrap 'dev; box' --install"), "{fix}");
    }

    #[test]
    fn what_a_machine_says_stands_in_quotation_marks() {
        let said = Some("no\u{1b}[2J” really".to_owned());
        let told = InstallError::NotRunning { said }.to_string();
        assert!(told.ends_with('”') && told.matches('”').count() == 1 && !told.contains('\u{1b}'), "{told}");
        let system = "Plan\n9 \u{202e}mips".to_owned();
        let told = InstallError::Unsupported { system }.to_string();
        assert!(!told.contains(['\n', '\u{202e}']), "{told}");
    }
}
