//! What Reachback started on a machine: a record of it there, so that a later link knows it again.
//!
//! ```text
//! CODEX_HOME/reachback/            0700
//!   app-server                     pid, birth and settings of the server that was started
//!   app-server.log                 what it says
//!   empty/                         the folder that it runs in
//!   lock/                          there while a link starts or stops one
//! ```
//!
//! A process is the recorded one when it has its number and its birth: numbers are
//! given to others after a while.

use data_encoding::HEXLOWER;
use ring::digest::{Context, SHA256};

use crate::ssh::marker::{Facts, Unclear};

/// An app-server that Reachback started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its process there.
    pub pid: u32,
    /// SHA-256 of its settings.
    pub settings: String,
    /// Whether it still runs.
    pub is_alive: bool,
}

impl Record {
    pub(super) fn read(facts: &Facts) -> Result<Option<Self>, Unclear> {
        let Some(pid) = facts.number("record_pid").and_then(|pid| pid.try_into().ok()) else { return Ok(None) };
        let settings = facts.text("record_settings")?.unwrap_or_default().to_owned();
        Ok(Some(Self { pid, settings, is_alive: facts.number("record_alive") == Some(1) }))
    }
}

/// SHA-256 of settings, each with its length before it, so that no two lists have the same.
pub(super) fn digest(settings: &[String]) -> String {
    let mut context = Context::new(&SHA256);
    for setting in settings {
        context.update(&(setting.len() as u64).to_be_bytes());
        context.update(setting.as_bytes());
    }
    HEXLOWER.encode(context.finish().as_ref())
}

/// Where Codex has its state (`$h`), its socket (`$s`), the record's folder (`$r`), and what is recorded.
///
/// Linux says when a process began to the hundredth of a second since its own start; of `ps` elsewhere the second counts.
/// Codex (`$c`) is the one on the search path, else the one in `~/.local/bin`, where [`crate::ssh::install`] puts it.
/// Codex's socket is a link into a folder that any user can make after a restart of the machine, so folder and socket
/// have to be this user's. A zombie has ended, and nobody may ever wait for it.
pub(super) const FOLDERS: &str = r#"set -f
h=${CODEX_HOME:-$HOME/.codex}
r=$h/reachback
birth() {
  if [ -r /proc/sys/kernel/random/boot_id ]; then
    b=$(sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null)
    case $b in ''|Z*) ;; *) printf '%s %s' "$(cat /proc/sys/kernel/random/boot_id)" "$(printf '%s\n' "$b" | cut -d ' ' -f 20)" ;; esac
  else
    case $(ps -o stat= -p "$1" 2>/dev/null) in ''|Z*) ;; *) LC_ALL=C TZ=UTC0 ps -o lstart= -p "$1" ;; esac
  fi
}
is_alive() { [ -n "$1" ] && [ -n "$2" ] && [ "$(birth "$1")" = "$2" ]; }
recorded() {
  pid= born= settings=
  [ -f "$r/app-server" ] || return 1
  while IFS='=' read -r k v; do
    case $k in pid) pid=$v ;; born) born=$v ;; settings) settings=$v ;; esac
  done <"$r/app-server"
  case $pid in ''|*[!0-9]*) return 1 ;; esac
}
tell_record() {
  recorded || return 0
  fact record_pid "$pid"
  fact record_settings "$settings"
  if is_alive "$pid" "$born"; then fact record_alive 1; fi
}
find_codex() {
  c=$(command -v codex)
  case $c in /*) ;; *) c= ;; esac
  if [ -z "$c" ] && [ -f "$HOME/.local/bin/codex" ] && [ -x "$HOME/.local/bin/codex" ]; then c=$HOME/.local/bin/codex; fi
}
find_socket() {
  l=$h/app-server-control/app-server-control.sock
  s=$l
  if [ -L "$l" ]; then s=$(readlink "$l"); case $s in /*) ;; *) s=${l%/*}/$s ;; esac; fi
}
tell_socket() {
  find_socket
  if [ -S "$s" ]; then
    if [ -O "$s" ] && [ -O "${s%/*}" ]; then fact socket "$s"; else fact foreign "$s"; s=/dev/null; fi
  fi
}
"#;

/// One link at a time starts and stops: `take_lock`. It is a folder with the number and the birth of who has it.
///
/// A lock of a process that is gone is taken over by whoever moves its paper away. Should two have it after all, Codex itself
/// listens only once on a socket.
pub(super) const LOCK: &str = r#"umask 077
nap() { sleep 0.1 2>/dev/null || sleep 1; }
take_lock() {
  mkdir -p "$r" && chmod 700 "$r" || { fact closed_folder "$r"; fact end 1; exit 0; }
  n=0 empty=0
  until mkdir "$r/lock" 2>/dev/null; do
    o=$(cat "$r/lock/by" 2>/dev/null)
    if [ -z "$o" ]; then
      empty=$((empty + 1))
      if [ "$empty" -gt 30 ]; then break; fi
    elif ! is_alive "${o%% *}" "${o#* }"; then
      if mv "$r/lock/by" "$r/by.$$" 2>/dev/null; then
        if [ "$(cat "$r/by.$$")" = "$o" ]; then rm -f "$r/by.$$"; break; fi
        mv "$r/by.$$" "$r/lock/by"
      fi
    else
      empty=0
    fi
    n=$((n + 1))
    if [ "$n" -gt 400 ]; then fact busy "${o%% *}"; fact end 1; exit 0; fi
    nap
  done
  trap 'rm -f "$r/lock/by"; rmdir "$r/lock" 2>/dev/null' EXIT
  trap 'exit 1' HUP INT TERM PIPE
  mkdir "$r/lock" 2>/dev/null
  printf '%s %s' "$$" "$(birth "$$")" >"$r/lock/by"
}
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_settings_have_another_digest() {
        let list = |settings: &[&str]| digest(&settings.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!(list(&["a=1", "b=2"]), list(&["a=1", "b=2"]));
        let lists = [list(&[]), list(&[""]), list(&["a=1b=2"]), list(&["a=1", "b=2"]), list(&["b=2", "a=1"])];
        for (at, one) in lists.iter().enumerate() {
            assert_eq!(one.len(), 64);
            assert!(!lists[..at].contains(one), "{at}");
        }
    }
}
