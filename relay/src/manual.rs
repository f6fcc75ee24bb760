//! `completions` and `man` of both programs: made from the same words as `--help`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Command, Subcommand};
use clap_complete::Shell;
use clap_mangen::Man;

const COMPLETIONS_EXAMPLES: &str = "Examples; in PowerShell it is a line of $PROFILE:\n  \
    PROGRAM completions bash > ~/.local/share/bash-completion/completions/PROGRAM\n  \
    PROGRAM completions fish > ~/.config/fish/completions/PROGRAM.fish\n  \
    PROGRAM completions zsh > \"${fpath[1]}/_PROGRAM\"\n  \
    PROGRAM completions powershell | Out-String | Invoke-Expression";

const MAN_EXAMPLES: &str = "Examples:\n  \
    PROGRAM man | man -l -                       read it\n  \
    PROGRAM man --dir ~/.local/share/man/man1    install all of them";

/// What a program can say of itself.
#[derive(Debug, Subcommand)]
pub enum Manual {
    /// Print a script with which a shell completes commands and options.
    ///
    /// Put it where your shell looks, and open another terminal. Below, PROGRAM is the program that you typed.
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page, or write one for every command.
    #[command(after_help = MAN_EXAMPLES)]
    Man {
        /// Write the pages into this folder, which is made if it is not there, and print their paths.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

impl Manual {
    /// What is asked for, of this program: bytes for standard output.
    ///
    /// # Errors
    /// The folder for the pages can't be made or written.
    pub fn text(&self, program: Command) -> io::Result<Vec<u8>> {
        match self {
            Self::Completions { shell } => Ok(completions(program, *shell)),
            Self::Man { dir: None } => {
                let mut page = Vec::new();
                Man::new(program).render(&mut page)?;
                Ok(page)
            }
            Self::Man { dir: Some(dir) } => {
                let mut paths = Vec::new();
                for path in write_pages(program, dir)? {
                    writeln!(paths, "{}", path.display())?;
                }
                Ok(paths)
            }
        }
    }
}

fn completions(mut program: Command, shell: Shell) -> Vec<u8> {
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program, name, &mut script);
    script
}

/// Writes a page for the program and for each of its commands, `NAME.1` and `NAME-COMMAND.1`; gives their paths, in order.
fn write_pages(program: Command, dir: &Path) -> io::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(dir)?;
    let mut program = program.disable_help_subcommand(true);
    // Gives commands the names that their pages have.
    program.build();
    let mut left = vec![program];
    let mut written = Vec::new();
    while let Some(command) = left.pop() {
        left.extend(command.get_subcommands().filter(|command| !command.is_hide_set()).cloned());
        written.push(Man::new(command).generate_to(dir)?);
    }
    written.sort();
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser, ValueEnum};

    /// A program.
    #[derive(Debug, Parser)]
    #[command(name = "said")]
    struct Said {
        #[command(subcommand)]
        command: Of,
    }

    #[derive(Debug, Subcommand)]
    enum Of {
        /// Does nothing.
        Nothing,
        #[command(flatten)]
        Manual(Manual),
    }

    fn said(manual: &Manual) -> String {
        String::from_utf8(manual.text(Said::command()).unwrap()).unwrap()
    }

    #[test]
    fn every_shell_has_a_script_that_knows_the_commands() {
        for shell in Shell::value_variants() {
            let script = said(&Manual::Completions { shell: *shell });
            assert!(script.contains("nothing"), "{shell}: {script}");
        }
    }

    #[test]
    fn every_command_has_a_page() {
        assert!(said(&Manual::Man { dir: None }).contains("A program"));
        let dir = tempfile::tempdir().unwrap();
        let man1 = dir.path().join("man").join("man1");
        let listed = said(&Manual::Man { dir: Some(man1.clone()) });
        let names = ["said-completions.1", "said-man.1", "said-nothing.1", "said.1"];
        let expected: String = names.iter().map(|name| format!("{}\n", man1.join(name).display())).collect();
        assert_eq!(listed, expected);
        assert!(std::fs::read_to_string(man1.join("said-nothing.1")).unwrap().contains("Does nothing"));
    }

    #[test]
    fn a_folder_that_is_none_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(Manual::Man { dir: Some(file) }.text(Said::command()).is_err());
    }
}
