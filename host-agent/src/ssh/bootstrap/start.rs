//! Starting an app-server on a machine, so that it outlives the link; and ending it.

use std::time::Duration;

use super::record::{FOLDERS, LOCK, Record, digest};
use super::{BootstrapError, Inspection, last_line};
use crate::codex::plain;
use crate::ssh::connection::Connection;
use crate::ssh::marker::Facts;
use crate::ssh::shell::word;

/// The scripts give up before this: 40 s for another link that does the same, 40 s for Codex to listen.
const PATIENCE: Duration = Duration::from_secs(100);

/// The app-server of a machine, as it is after a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// The machine as it is now: the server listens.
    pub found: Inspection,
    /// Whether it was started now. One that ran already may have other settings: [`Inspection::runs_with`].
    pub is_new: bool,
}

/// What was ended on a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// The process that Reachback had started and that runs no more; `None` where none ran.
    pub pid: Option<u32>,
    /// Whether an app-server listens there that Reachback did not start.
    pub others: bool,
}

impl Connection {
    /// Starts an app-server on the default socket with these settings (`codex -c`), unless one listens there.
    ///
    /// It outlives the link. When this is dropped the start goes on there.
    pub async fn start(&self, found: &Inspection, settings: &[String]) -> Result<Started, BootstrapError> {
        let arguments: String = settings.iter().map(|setting| format!(" -c {}", word(setting))).collect();
        let facts = self
            .facts_at_login(
                &format!(
                "{FOLDERS}{LOCK}c={}\ndigest={}\nlaunch() {{ exec nohup \"$c\"{arguments} app-server --listen unix://; }}\n{START}",
                word(&found.program),
                digest(settings),
            ), PATIENCE)
            .await?;
        refused(&facts)?;
        if let Some(socket) = facts.some_path("foreign")? {
            return Err(BootstrapError::NotTheirs { socket });
        }
        match (facts.some_path("socket")?, facts.text("outcome")?) {
            (Some(socket), Some(outcome @ ("started" | "ran"))) => {
                let found = Inspection {
                    socket: Some(socket),
                    is_listening: true,
                    record: Record::read(&facts)?,
                    ..found.clone()
                };
                Ok(Started { found, is_new: outcome == "started" })
            }
            (_, Some("slow")) => Err(BootstrapError::Slow),
            _ => Err(BootstrapError::NotStarted { said: reason(facts.said("log")) }),
        }
    }

    /// Ends the app-server that Reachback started there, and no other.
    pub async fn stop(&self) -> Result<Stopped, BootstrapError> {
        let facts = self.facts_at_login(&format!("{FOLDERS}{LOCK}{STOP}"), PATIENCE).await?;
        refused(&facts)?;
        let pid = facts.number("ended").and_then(|pid| pid.try_into().ok());
        if let Some(pid) = facts.number("still") {
            return Err(BootstrapError::NotEnded { pid });
        }
        Ok(Stopped { pid, others: facts.number("others") == Some(1) })
    }
}

/// What keeps a link from starting or ending anything.
fn refused(facts: &Facts) -> Result<(), BootstrapError> {
    if let Some(folder) = facts.some_path("closed_folder")? {
        return Err(BootstrapError::ClosedFolder { folder });
    }
    match facts.number("busy") {
        Some(pid) => Err(BootstrapError::Busy { pid }),
        None => Ok(()),
    }
}

/// Why Codex ended, from the end of its log: its error, after which a backtrace may come; else the last line.
fn reason(log: &[u8]) -> Option<String> {
    let lines = || log.split(|byte| *byte == b'\n').rev().map(plain);
    let error = lines().find(|line| line.starts_with("Error:") || line.starts_with("error:"));
    error.or_else(|| lines().find(|line| !line.is_empty())).and_then(|line| last_line(line.as_bytes()))
}

/// What listens already is left as it is. The process is this script's child until it listens, and then nobody's.
const START: &str = r#"take_lock
listens() { tell_socket >/dev/null; [ -S "$s" ] && "$c" app-server proxy --sock "$s" </dev/null >/dev/null 2>&1; }
finish() { tell_socket; tell_record; fact outcome "$1"; fact end 1; exit 0; }
if listens; then finish ran; fi
mkdir -p "$r/empty" && cd "$r/empty" || { fact closed_folder "$r"; fact end 1; exit 0; }
launch </dev/null >"$r/app-server.log" 2>&1 &
p=$!
{ printf 'pid=%s\nborn=%s\nsettings=%s\n' "$p" "$(birth "$p")" "$digest" >"$r/app-server.$$" && mv -f "$r/app-server.$$" "$r/app-server"; } || {
  kill "$p"
  fact closed_folder "$r"; fact end 1; exit 0
}
n=0
while [ -n "$(birth "$p")" ]; do
  find_socket
  if [ -S "$s" ] && listens; then finish started; fi
  n=$((n + 1))
  if [ "$n" -gt 400 ]; then finish slow; fi
  nap
done
rm -f "$r/app-server"
if listens; then finish ran; fi
fact log "$(tail -c 4000 "$r/app-server.log")"
finish ended"#;

/// The package's `codex` is a script that passes on what it is asked, and can't pass on that it is killed: so is its child.
const STOP: &str = r#"if [ -d "$r" ]; then
  take_lock
  if recorded && is_alive "$pid" "$born"; then
    children=$(ps -A -o pid= -o ppid= | awk -v p="$pid" '$2 == p { print $1 }')
    kill -TERM "$pid" 2>/dev/null
    n=0
    while is_alive "$pid" "$born" && [ "$n" -lt 50 ]; do n=$((n + 1)); nap; done
    if is_alive "$pid" "$born"; then
      kill -KILL $children "$pid" 2>/dev/null
      n=0
      while is_alive "$pid" "$born" && [ "$n" -lt 20 ]; do n=$((n + 1)); nap; done
    fi
    if is_alive "$pid" "$born"; then fact still "$pid"; fact end 1; exit 0; fi
    fact ended "$pid"
  fi
  rm -f "$r/app-server"
fi
find_socket
if [ -S "$s" ]; then
  find_codex
  if [ -z "$c" ] || "$c" app-server proxy --sock "$s" </dev/null >/dev/null 2>&1; then fact others 1; fi
fi
fact end 1"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_codex_ended_is_its_error_or_else_its_last_line() {
        let backtrace = b"a warning\nError: no such model\nin `model`\n\nStack backtrace:\n   0: <unknown>\n";
        assert_eq!(reason(backtrace).as_deref(), Some("Error: no such model"));
        assert_eq!(reason(b"\x1b[31mone\x1b[0m\n two\xff \n\n").as_deref(), Some("two\u{fffd}"));
        assert_eq!(reason(b"\n \n"), None);
        assert_eq!(reason(&b"x".repeat(4000)).map(|said| said.len()), Some(400));
    }
}
