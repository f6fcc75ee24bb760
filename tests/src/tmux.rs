//! A terminal that a test types into and reads: a tmux server of its own.
//!
//! The server's socket is private to the test, and the server ends with the
//! [`Terminal`]; whoever else uses tmux on this machine is left alone.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{interval, timeout};

use crate::PATIENCE;

/// Columns and rows of a terminal: the stock terminal UI is comfortable in it.
pub const SIZE: (u16, u16) = (110, 36);

/// Between two looks at the screen; each starts a process.
const LOOK: Duration = Duration::from_millis(50);

/// Runs a command, prints its exit code, and keeps what was printed on the screen. tmux can do that itself, but its
/// server has been seen to spin over a pane whose command had ended.
const STAY: &str = r#"trap : INT; "$@"; printf '\n[exit code %s]\n' $?; exec cat"#;

/// How long a key may take to show.
const RETRY: Duration = Duration::from_secs(2);

/// One command in a terminal. Ends with it when dropped.
pub struct Terminal {
    folder: TempDir,
}

impl Terminal {
    /// Runs `program` in a terminal of the usual size. What it needs of the environment is in `env`.
    pub fn start(program: &Path, args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::sized(SIZE, program, args, env)
    }

    /// Runs `program` in a terminal of this many columns and rows.
    pub fn sized(size: (u16, u16), program: &Path, args: &[&str], env: &[(&str, &str)]) -> Self {
        let terminal = Self { folder: tempfile::tempdir().unwrap() };
        let (columns, rows) = (size.0.to_string(), size.1.to_string());
        let mut command = terminal.tmux(&["new-session", "-d", "-x", &columns, "-y", &rows]);
        for (name, value) in env {
            command.arg("-e").arg(format!("{name}={value}"));
        }
        command.args(["--", "sh", "-c", STAY, "sh"]).arg(program).args(args);
        let output = command.output().expect("tmux is not installed; run: apt-get install tmux");
        assert!(output.status.success(), "tmux: {}", String::from_utf8_lossy(&output.stderr));
        terminal
    }

    /// Presses keys, in tmux's words: `Enter`, `Escape`, `C-c`, `y`.
    pub fn press(&self, keys: &[&str]) {
        self.run(&[&["send-keys"], keys].concat());
    }

    /// Types text, letter for letter.
    pub fn type_text(&self, text: &str) {
        self.run(&["send-keys", "-l", text]);
    }

    /// Types a prompt into the stock terminal UI and enters it with `key`.
    ///
    /// It takes letters that come fast for a paste, and an Enter right behind them for a part of it: so the text has to
    /// be seen first, and the key is pressed again as long as the text stands where it was typed.
    pub async fn prompt(&self, text: &str, key: &str) {
        let stands = || {
            let screen = self.screen();
            screen.lines().rfind(|line| line.starts_with('\u{203a}')).is_some_and(|line| line.contains(text))
        };
        self.type_text(text);
        self.until(&format!("`{text}` stands at the prompt"), |_| stands()).await;
        let entering = async {
            while stands() {
                self.press(&[key]);
                let _ = timeout(RETRY, async {
                    let mut looks = interval(LOOK);
                    while stands() {
                        looks.tick().await;
                    }
                })
                .await;
            }
        };
        let entered = timeout(PATIENCE, entering).await.is_ok();
        assert!(entered, "the prompt was not taken:\n{}", self.screen());
    }

    /// What is on the screen.
    pub fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"])
    }

    /// What is on the screen, colours included.
    pub fn coloured(&self) -> String {
        self.run(&["capture-pane", "-e", "-p"])
    }

    /// What is on the screen and what scrolled off it; lines that the terminal wrapped are whole.
    pub fn everything(&self) -> String {
        self.run(&["capture-pane", "-p", "-J", "-S", "-"])
    }

    /// Waits until the screen shows `text`.
    pub async fn shows(&self, text: &str) {
        self.until(&format!("the screen shows `{text}`"), |screen| screen.contains(text)).await;
    }

    /// Waits until the screen is as wanted; shows it when it never is.
    pub async fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) {
        self.within(PATIENCE, what, wanted).await;
    }

    /// The same, with patience of its own.
    pub async fn within(&self, patience: Duration, what: &str, wanted: impl Fn(&str) -> bool) {
        let waiting = async {
            let mut looks = interval(LOOK);
            while !wanted(&self.screen()) {
                looks.tick().await;
            }
        };
        let seen = timeout(patience, waiting).await.is_ok();
        assert!(seen, "waited in vain until {what}; the terminal has:\n{}", self.everything());
    }

    /// Waits until the command has ended, and gives its exit code.
    pub async fn exit(&self) -> i32 {
        let code = |screen: &str| screen.rsplit_once("[exit code ")?.1.split_once(']')?.0.parse().ok();
        self.until("the command in it ends", |screen| code(screen).is_some()).await;
        code(&self.screen()).unwrap()
    }

    fn run(&self, args: &[&str]) -> String {
        let output = self.tmux(args).output().unwrap();
        assert!(output.status.success(), "tmux {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn tmux(&self, args: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        // No configuration of the user's, and UTF-8 whatever the locale of a build machine.
        command.args(["-u", "-f", "/dev/null", "-S"]).arg(self.folder.path().join("tmux")).args(args);
        command.env_remove("TMUX");
        command
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A closed terminal: its command gets a hang-up.
        let _ = self.tmux(&["kill-server"]).output();
    }
}
