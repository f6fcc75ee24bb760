//! What is there: one script in the environment of the person's login shell, and what it found.

use std::time::Duration;

use super::record::{FOLDERS, Record, digest};
use super::{BootstrapError, last_line};
use crate::codex::{FULL_DISK, parse_plain_version};
use crate::ssh::connection::Connection;
use crate::ssh::marker::{Facts, Marker};

/// Three starts of Codex at once, each of some 0.3 s; a cold disk and a machine that swaps take longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What clap ends with when it does not know a word of the command line.
const UNKNOWN_WORD: u64 = 2;

/// What was found on a machine: a Codex that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The file of Codex's program.
    pub program: String,
    /// Its version, `0.169.0`.
    pub version: Option<String>,
    /// Whether somebody has signed in; `None` when it does not say. A provider of one's own needs no sign-in.
    pub is_signed_in: Option<bool>,
    /// The search path of the login shell.
    pub path: String,
    /// The home folder of whoever one is there.
    pub home: String,
    /// Where Codex has its state.
    pub codex_home: String,
    /// Whose the processes are.
    pub uid: u32,
    /// The system and its processor, `Linux x86_64`.
    pub system: String,
    /// The socket of Codex's app-server, links followed, where there is one and it is this user's.
    pub socket: Option<String>,
    /// Whether an app-server listens on it.
    pub is_listening: bool,
    /// The app-server that Reachback started there last, running or not.
    pub record: Option<Record>,
    /// Bytes that are left where Codex has its state, where that is known.
    pub room: Option<u64>,
}

impl Connection {
    /// Finds out which Codex is there, and whether it can be used.
    pub async fn inspect(&self) -> Result<Inspection, BootstrapError> {
        let facts = self.facts_at_login(&format!("{FOLDERS}{SCRIPT}"), PATIENCE).await?;
        Inspection::read(&facts)
    }

    /// Whether all is there as it was found before: the same user and folders, their socket in its place, the same record.
    ///
    /// It starts no Codex, and takes a small part of the time of [`inspect`](Self::inspect). Whether somebody listens is
    /// found out by who connects.
    pub(in crate::ssh) async fn is_as_before(&self, found: &Inspection) -> bool {
        let Some(marker) = Marker::random() else { return false };
        let ran = self.run_at_login(&format!("{}{FOLDERS}{GLANCE}", marker.script()), PATIENCE).await;
        let facts = ran.ok().and_then(|ran| marker.facts(&ran.stdout)?.ok());
        facts.is_some_and(|facts| found.fits(&facts))
    }
}

impl Inspection {
    /// Whether the app-server that listens was started by Reachback, by whichever host's.
    pub fn is_ours(&self) -> bool {
        self.is_listening && self.record.as_ref().is_some_and(|record| record.is_alive)
    }

    /// Whether it was started so, with these settings.
    pub fn runs_with(&self, settings: &[String]) -> bool {
        self.is_ours() && self.record.as_ref().is_some_and(|record| record.settings == digest(settings))
    }

    /// Whether these facts are those of this one.
    fn fits(&self, facts: &Facts) -> bool {
        let is = |name: &str, path: &str| facts.path(name).is_ok_and(|now| now == path);
        let socket = facts.some_path("socket").ok().flatten();
        is("home", &self.home)
            && is("codex_home", &self.codex_home)
            && facts.number("uid") == Some(self.uid.into())
            && socket.is_some()
            && socket == self.socket
            && Record::read(facts).is_ok_and(|record| record == self.record)
    }

    fn read(facts: &Facts) -> Result<Self, BootstrapError> {
        let home = facts.path("home")?;
        let Some(program) = facts.some_path("codex")? else {
            return Err(match facts.some_path("closed")? {
                Some(program) => BootstrapError::NotExecutable { program },
                None => BootstrapError::Missing { home },
            });
        };
        if facts.number("version_status") != Some(0) {
            return Err(BootstrapError::Broken { program, said: last_line(facts.said("version")) });
        }
        let version = facts.text("version").ok().flatten().and_then(|said| said.trim().strip_prefix("codex-cli "));
        let version = version.and_then(parse_plain_version);
        if facts.number("proxy") == Some(UNKNOWN_WORD) {
            return Err(BootstrapError::TooOld { version });
        }
        if let Some(socket) = facts.some_path("foreign")? {
            return Err(BootstrapError::NotTheirs { socket });
        }
        let socket = facts.some_path("socket")?;
        let codex_home = facts.path("codex_home")?;
        if facts.number("no_home") == Some(1) {
            return Err(BootstrapError::NoHome { folder: codex_home });
        }
        let room = facts.number("room_kib").and_then(|kib| kib.checked_mul(1024));
        if let Some(room) = room.filter(|room| *room < FULL_DISK) {
            return Err(BootstrapError::NoRoom { folder: codex_home, room });
        }
        let unclear = |what: &str| BootstrapError::Unclear { what: what.to_owned(), why: "is no number" };
        Ok(Self {
            program,
            version,
            is_signed_in: match facts.number("login") {
                Some(0) => Some(true),
                Some(1) => Some(false),
                _ => None,
            },
            path: facts.text("path")?.unwrap_or_default().to_owned(),
            home,
            codex_home,
            uid: facts.number("uid").and_then(|uid| uid.try_into().ok()).ok_or_else(|| unclear("uid"))?,
            system: facts.text("system")?.unwrap_or_default().to_owned(),
            is_listening: socket.is_some() && facts.number("proxy") == Some(0),
            socket,
            record: Record::read(facts)?,
            room,
        })
    }
}

/// POSIX. Codex makes its default folder whatever it is asked, one that is named never; others need not look into it. `proxy` ends with 0 where something listens, with 1 where nothing does, and with 2 in a Codex that has none; with a server that listens and does nothing it stays, and is ended after 8 s.
const SCRIPT: &str = r#"umask 077
nap() { sleep 0.1 2>/dev/null || sleep 1; }
fact system "$(uname -sm)"
fact uid "$(id -u)"
fact home "$HOME"
fact codex_home "$h"
fact path "$PATH"
d=$h
while [ ! -d "$d" ]; do case $d in */*) d=${d%/*} ;; *) d=/ ;; esac; d=${d:-/}; done
fact room_kib "$(df -Pk "$d" 2>/dev/null | sed -n '2s/.* \([0-9][0-9]*\)  *[0-9][0-9]*% .*/\1/p')"
find_codex
if [ -z "$c" ]; then
  IFS=:
  for d in $PATH; do
    if [ -f "$d/codex" ]; then fact closed "$d/codex"; break; fi
  done
  fact end 1
  exit
fi
fact codex "$c"
if [ -n "$CODEX_HOME" ] && [ ! -d "$h" ]; then fact no_home 1; fi
tell_socket
tell_record
(
  w=$("$c" --version 2>/dev/null); r=$?
  [ "$r" = 0 ] || w=$("$c" --version 2>&1)
  fact version_status "$r"
  fact version "$(printf '%s\n' "$w" | tail -n 1 | cut -c 1-400)"
) &
("$c" login status >/dev/null 2>&1; fact login "$?") &
"$c" app-server proxy --sock "$s" </dev/null >/dev/null 2>&1 &
q=$!
{
  n=0
  while kill -0 "$q" && [ "$n" -lt 80 ]; do n=$((n + 1)); nap; done
  kill "$q"
} >/dev/null 2>&1 &
w=$!
wait "$q"
r=$?
kill "$w" 2>/dev/null
if [ "$r" -ge 128 ]; then r=0; fi
fact proxy "$r"
wait
fact end 1"#;

/// What says whether another look is needed.
const GLANCE: &str = r#"fact uid "$(id -u)"
fact home "$HOME"
fact codex_home "$h"
tell_socket
tell_record
fact end 1"#;

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    const GOOD: [(&str, &str); 11] = [
        ("system", "Linux x86_64"),
        ("uid", "1000"),
        ("home", "/home/ada"),
        ("codex_home", "/home/ada/.codex"),
        ("path", "/usr/bin:/bin"),
        ("room_kib", "20480"),
        ("codex", "/usr/bin/codex"),
        ("version_status", "0"),
        ("version", "codex-cli 0.169.0"),
        ("login", "1"),
        ("proxy", "1"),
    ];

    /// What is made of the good facts with these in place of some.
    fn inspect(with: &[(&str, &str)]) -> Result<Inspection, BootstrapError> {
        let marker = Marker::random().unwrap();
        let facts = GOOD.iter().chain(with).chain(&[("end", "1")]);
        let said: String =
            facts.map(|(name, value)| format!("{marker} {name} {}\n", HEXLOWER.encode(value.as_bytes()))).collect();
        Inspection::read(&marker.facts(said.as_bytes()).unwrap().unwrap())
    }

    fn code(with: &[(&str, &str)]) -> &'static str {
        inspect(with).unwrap_err().code()
    }

    #[test]
    fn a_server_counts_where_codex_says_that_it_listens() {
        let found = inspect(&[]).unwrap();
        assert_eq!((found.uid, found.version.as_deref(), found.is_signed_in), (1000, Some("0.169.0"), Some(false)));
        assert_eq!((found.room, found.socket, found.is_listening), (Some(20 << 20), None, false));
        let socket = ("socket", "/tmp/codex-daemon-1000/a0");
        assert!(!inspect(&[socket]).unwrap().is_listening);
        assert!(inspect(&[socket, ("proxy", "0")]).unwrap().is_listening);
        assert!(!inspect(&[("proxy", "0")]).unwrap().is_listening);
    }

    #[test]
    fn what_is_as_before_has_the_same_user_folders_socket_and_record() {
        let socket = ("socket", "/tmp/codex-daemon-1000/a0");
        let record = [("record_pid", "7"), ("record_settings", "ab"), ("record_alive", "1")];
        let before = inspect(&[&[socket, ("proxy", "0")][..], &record].concat()).unwrap();
        let now = |with: &[(&str, &str)]| {
            let marker = Marker::random().unwrap();
            let all = [("uid", "1000"), ("home", "/home/ada"), ("codex_home", "/home/ada/.codex"), socket];
            let facts = all.iter().chain(&record).chain(with).chain(&[("end", "1")]);
            let said: String =
                facts.map(|(name, value)| format!("{marker} {name} {}\n", HEXLOWER.encode(value.as_bytes()))).collect();
            before.fits(&marker.facts(said.as_bytes()).unwrap().unwrap())
        };
        assert!(now(&[]));
        for other in [
            ("uid", "1001"),
            ("home", "/home/bob"),
            ("codex_home", "/srv/codex"),
            ("socket", "/tmp/codex-daemon-1000/a1"),
            ("socket", ""),
            ("record_pid", "8"),
            ("record_alive", "0"),
        ] {
            assert!(!now(&[other]), "{other:?}");
        }
    }

    #[test]
    fn what_can_not_be_used_is_refused() {
        assert_eq!(code(&[("codex", "")]), "codex_missing");
        assert_eq!(code(&[("codex", ""), ("closed", "/opt/codex")]), "codex_not_executable");
        assert_eq!(code(&[("version_status", "126")]), "codex_broken");
        assert_eq!(code(&[("proxy", "2")]), "codex_too_old");
        assert_eq!(code(&[("room_kib", "16383")]), "codex_disk_full");
        assert_eq!(code(&[("foreign", "/tmp/x")]), "codex_socket");
        assert_eq!(code(&[("no_home", "1")]), "codex_no_home");
        for wrong in [("home", "x"), ("codex_home", ""), ("codex", "codex"), ("socket", "s"), ("uid", "-1")] {
            assert_eq!(code(&[wrong]), "ssh_unclear", "{wrong:?}");
        }
        // What is only for people may be missing, and no number overflows.
        let odd = inspect(&[("version", "codex-cli x\u{1b}"), ("login", "9"), ("room_kib", &u64::MAX.to_string())]);
        let odd = odd.unwrap();
        assert_eq!((odd.version, odd.is_signed_in, odd.room), (None, None, None));
    }
}
