//! Programs that keep a machine awake as long as they run, where there is no system call for it without `unsafe`.

use std::process::Stdio;

use tokio::process::Child;

use super::AwakeError;
use crate::platform::programs;

/// What Windows is asked for: that it does not sleep by itself, until this is taken back (`ES_CONTINUOUS`,
/// `ES_SYSTEM_REQUIRED`). The screen may be turned off.
const SCRIPT: &str = r#"
$call = '[DllImport("kernel32.dll")] public static extern uint SetThreadExecutionState(uint flags);'
$power = Add-Type -MemberDefinition $call -Name Power -Namespace Reachback -PassThru
Add-Type -AssemblyName System.Windows.Forms
$continuous = [uint32]2147483648
$end = [Console]::In.ReadToEndAsync()
do {
  $unplugged = [System.Windows.Forms.SystemInformation]::PowerStatus.PowerLineStatus -eq 'Offline'
  [void]$power::SetThreadExecutionState($continuous + [uint32]$(if ($unplugged) { 0 } else { 1 }))
} until ($end.Wait(30000))
"#;

/// The words for macOS: on mains (`-s`), until the process `pid` has ended (`-w`).
pub(super) fn caffeinate(pid: u32) -> Vec<String> {
    ["/usr/bin/caffeinate", "-s", "-w", &pid.to_string()].map(str::to_owned).to_vec()
}

/// The words for Windows.
pub(super) fn powershell() -> Vec<String> {
    ["powershell.exe", "-NoLogo", "-NoProfile", "-NonInteractive", "-Command", SCRIPT].map(str::to_owned).to_vec()
}

/// One that runs. It ends when this is dropped; and when this process ends, as its input does then.
#[derive(Debug)]
pub(super) struct Program(Child);

impl Program {
    /// Runs `words`.
    pub(super) fn start(words: &[String]) -> Result<Self, AwakeError> {
        let (program, arguments) = words.split_first().expect("a command has a program");
        let started = programs::command(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        started.map(Self).map_err(|source| AwakeError::Program { program: program.clone(), source })
    }

    /// Whether it still does.
    pub(super) fn runs(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::platform::processes::Process;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[tokio::test]
    async fn a_program_runs_until_it_is_let_go_of_and_one_that_ended_is_known() {
        let mut program = Program::start(&words(&["cat"])).unwrap();
        let pid = program.0.id().unwrap();
        assert!(program.runs() && Process::with_id(pid).await.is_some());
        drop(program);
        let gone = async {
            while Process::with_id(pid).await.is_some() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, gone).await.expect("it goes on");

        let mut program = Program::start(&words(&["true"])).unwrap();
        let ended = async {
            while program.runs() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, ended).await.expect("it counts as running");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let error = Program::start(&words(&["/nowhere/caffeinate"])).unwrap_err();
        assert!(error.to_string().contains("/nowhere/caffeinate can't be started"), "{error}");
    }

    #[test]
    fn the_words_are_those_of_the_manuals() {
        assert_eq!(caffeinate(77), words(&["/usr/bin/caffeinate", "-s", "-w", "77"]));
        let script = powershell().pop().unwrap();
        for needed in
            ["SetThreadExecutionState", "PowerLineStatus -eq 'Offline'", "[uint32]2147483648", "ReadToEndAsync"]
        {
            assert!(script.contains(needed), "{script}");
        }
        for (open, close) in [('{', '}'), ('(', ')'), ('[', ']')] {
            assert_eq!(script.matches(open).count(), script.matches(close).count(), "{open}");
        }
    }
}
