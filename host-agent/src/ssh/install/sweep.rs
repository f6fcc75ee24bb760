//! What older installs left on a machine: a folder for each version, which may be in use for as long as something runs from it.

use std::time::Duration;

use super::super::bootstrap::BootstrapError;
use super::super::connection::Connection;
use super::CODEX_VERSION;

/// What looking at it, and removing it, may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is kept of the versions that a machine names, in number and in characters of each.
const MAX_VERSIONS: usize = 20;
const MAX_VERSION: usize = 60;

/// Versions of Codex that Reachback had put there, before another one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Those that are gone now.
    pub removed: Vec<String>,
    /// Those that are still there: something runs from them, or nobody can say whether it does.
    pub kept: Vec<String>,
}

impl Swept {
    /// Where a version lies, for a shell there.
    pub fn folder(version: &str) -> String {
        format!("~/.local/share/reachback/codex-{version}")
    }
}

impl Connection {
    /// Removes the versions that Reachback put there before, but for those that something runs from.
    pub async fn sweep(&self) -> Result<Swept, BootstrapError> {
        let facts = self.facts_at_login(&format!("version={CODEX_VERSION}\n{SWEEP}"), PATIENCE).await?;
        let versions = |name| -> Result<Vec<String>, BootstrapError> {
            let words = facts.text(name)?.unwrap_or_default().split(' ').filter(|word| is_version(word));
            Ok(words.take(MAX_VERSIONS).map(str::to_owned).collect())
        };
        Ok(Swept { removed: versions("removed")?, kept: versions("kept")? })
    }
}

/// As the script takes it for one.
fn is_version(word: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    word.starts_with(|c: char| c.is_ascii_digit()) && word.chars().all(is_plain) && word.len() <= MAX_VERSION
}

/// POSIX, as the others. The version of this Reachback and the one that the link leads to stay: another host may be newer.
/// Nothing is removed while an install is under way, nor where no list shows what runs.
const SWEEP: &str = r#"cd "$HOME/.local/share/reachback" 2>/dev/null || { fact end 1; exit 0; }
at=$(pwd -P)
used=$(readlink "$HOME/.local/bin/codex")
runs=$(ls -l /proc/[0-9]*/exe 2>/dev/null)
removed= kept=
for f in codex-[0-9]*; do
  v=${f#codex-}
  [ -d "$f" ] && [ ! -L "$f" ] && [ ! -d incoming ] && [ "$v" != "$version" ] || continue
  case $v in *[!0-9A-Za-z.-]*) continue ;; esac
  case $used in */"$f"/*) continue ;; esac
  case $runs in
    *" -> $at/$f/"*) ;;
    *" -> "*) rm -rf "./$f" 2>/dev/null ;;
  esac
  if [ -d "$f" ]; then kept="$kept $v"; else removed="$removed $v"; fi
done
fact removed "${removed# }"
fact kept "${kept# }"
fact end 1"#;

#[cfg(test)]
mod tests {
    use super::is_version;

    #[test]
    fn what_a_machine_calls_a_version_is_one_word() {
        assert!(is_version("0.168.0") && is_version("0.170.0-alpha.1"));
        for word in ["", "-rf", "../x", "1;id", "1/x", "1\u{1b}[2J", &"1".repeat(61)] {
            assert!(!is_version(word), "{word:?}");
        }
    }
}
