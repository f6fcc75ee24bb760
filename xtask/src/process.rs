//! Running other programs, with their output where a person sees it.

use std::io;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// Prints the command, runs it to its end, and fails if it fails.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let line = line(command);
    eprintln!("$ {line}");
    let status = command.status().with_context(|| format!("could not run `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// What the program prints when asked about itself, or `None` if it is not
/// installed or fails.
pub(crate) fn answer(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Becomes this program: Ctrl-C, signals and the exit code are then its own
/// business. Returns only if it could not start.
#[cfg(unix)]
pub(crate) fn become_program(command: &mut Command) -> io::Error {
    use std::os::unix::process::CommandExt;

    command.exec()
}

/// Runs this program and exits with its code. Returns only if it could not
/// start. A console's Ctrl-C reaches both: it ends this one at once, and the
/// program in its own time.
#[cfg(not(unix))]
pub(crate) fn become_program(command: &mut Command) -> io::Error {
    match command.status() {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(error) => error,
    }
}

/// The command as a person would type it; for reading, not for a shell.
pub(crate) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_reads_as_it_is_typed() {
        assert_eq!(line(Command::new("cargo").args(["test", "--workspace"])), "cargo test --workspace");
    }

    #[test]
    fn a_program_that_is_missing_has_no_answer() {
        assert_eq!(answer(&mut Command::new("reachback-no-such-program")), None);
    }

    #[test]
    fn a_program_that_fails_has_no_answer_and_names_itself() {
        assert_eq!(answer(Command::new("cargo").arg("no-such-subcommand")), None);
        let error = run(Command::new("cargo").arg("no-such-subcommand").stderr(Stdio::null())).unwrap_err();
        assert!(error.to_string().starts_with("`cargo no-such-subcommand` failed"), "{error}");
    }
}
