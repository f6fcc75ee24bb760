//! What commands print, for people and for programs.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use reachback_proto::words::printable_lines;
use serde::Serialize;
use terminal_size::{Width, terminal_size};

use crate::audit::AuditError;
use crate::local_api::{ClientError, Event, Failure};

/// Where a command's words go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    json: bool,
    is_terminal: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json, is_terminal: std::io::stdout().is_terminal() }
    }

    pub(super) fn is_json(self) -> bool {
        self.json
    }

    /// Whether colours and drawings make sense.
    pub(super) fn is_terminal(self) -> bool {
        self.is_terminal && !self.json
    }

    /// A line for people; nothing for programs. Whatever it holds of others' words does not steer the terminal.
    pub(super) fn say(self, line: impl Display) {
        if !self.json {
            print(&printable_lines(&line.to_string()));
        }
    }

    /// A list for people: in columns where the terminal has room for them, and otherwise entry after entry.
    pub(super) fn list(self, header: &[&str], rows: &[Vec<String>]) {
        let table = table(header, rows);
        let has_room = |columns| table.lines().all(|line| line.chars().count() <= columns);
        match self.columns() {
            Some(columns) if !has_room(columns) => self.say(entries(header, rows)),
            _ => self.say(table),
        }
    }

    /// How wide the terminal is, where there is one.
    fn columns(self) -> Option<usize> {
        let (Width(columns), _) = terminal_size().filter(|_| self.is_terminal())?;
        Some(columns.into())
    }

    /// A drawing of our own for people, with its colours; nothing for programs.
    pub(super) fn draw(self, drawing: &str) {
        if !self.json {
            print(drawing);
        }
    }

    /// Empties the screen, where there is one.
    pub(super) fn clear(self) {
        if self.is_terminal() {
            let mut out = std::io::stdout().lock();
            let _ = write!(out, "\x1b[H\x1b[2J").and_then(|()| out.flush());
        }
    }

    /// A passing remark for people, beside what a command prints.
    pub(super) fn remark(self, line: impl Display) {
        if !self.json {
            print_aside(&line.to_string());
        }
    }

    /// An object for programs; nothing for people.
    pub(super) fn object(self, object: &impl Serialize) {
        if self.json {
            print(&serde_json::to_string(object).expect("what commands print has string keys"));
        }
    }

    /// An event for programs; nothing for people.
    pub(super) fn event(self, event: &Event) {
        if self.json {
            print(&event.to_line());
        }
    }

    /// A failure, and the exit code that goes with it.
    pub(super) fn fail(self, error: &anyhow::Error) -> ExitCode {
        let failure = failure(error);
        if self.json {
            self.event(&Event::Error(failure));
        } else {
            print_aside(&format!("reachback: {}", failure.message));
            if let Some(fix) = failure.fix {
                print_aside(&format!("  {fix}"));
            }
        }
        ExitCode::FAILURE
    }
}

/// Says of what a command took away that the audit log does not have it.
pub(super) fn not_recorded(error: &AuditError) {
    print_aside(&format!("This is not recorded: {error}"));
}

/// Prints a line. A reader that went away (`| head`, a terminal that was closed) is no reason to end here and now: an
/// agent would leave its Codex behind.
fn print(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// What whoever asked reads by a program of theirs, whether they said `--json` or not: a script, a page.
pub(super) fn raw(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

/// A line for people beside what a command prints, fit for a terminal; unlike `eprintln`, it does not panic.
fn print_aside(line: &str) {
    let mut out = std::io::stderr().lock();
    let _ = writeln!(out, "{}", printable_lines(line));
}

fn failure(error: &anyhow::Error) -> Failure {
    match error.downcast_ref::<Failure>().or_else(|| match error.downcast_ref::<ClientError>() {
        Some(ClientError::Failed(failure)) => Some(failure),
        _ => None,
    }) {
        Some(failure) => failure.clone(),
        None => {
            let chain: Vec<_> = error.chain().map(ToString::to_string).collect();
            // thiserror's transparent variants repeat their source's words.
            let mut words: Vec<String> = Vec::new();
            for link in chain {
                if words.last().is_none_or(|last| !last.contains(&link)) {
                    words.push(link);
                }
            }
            Failure::new("failed", words.join(": "))
        }
    }
}

/// The same failure, with one more thing to do about it.
pub(super) fn with_fix(error: anyhow::Error, another: Option<String>) -> anyhow::Error {
    let Some(another) = another else { return error };
    let failure = failure(&error);
    let fix = match &failure.fix {
        Some(fix) => format!("{fix}; {another}"),
        None => another,
    };
    failure.fix(fix).into()
}

/// Columns of text, for a list.
fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(header.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

/// A list whose entries stand below each other, each cell on a line behind its header; empty ones are left out.
fn entries(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = header.iter().map(|name| name.chars().count()).max().unwrap_or_default();
    let entry = |row: &Vec<String>| {
        let cells = header.iter().zip(row).filter(|(_, cell)| !cell.is_empty());
        cells.map(|(name, cell)| format!("{name:<width$}  {cell}")).collect::<Vec<_>>().join("\n")
    };
    rows.iter().map(entry).collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["a".into(), "long cell".into()], vec!["bcd".into(), "x".into()]];
        assert_eq!(table(&["N", "WHAT"], &rows), "N    WHAT\na    long cell\nbcd  x");
    }

    #[test]
    fn where_columns_have_no_room_each_cell_has_its_line() {
        let rows = vec![vec!["a".into(), String::new(), "x".into()], vec!["b".into(), "long cell".into(), "y".into()]];
        assert_eq!(entries(&["N", "WHAT", ""], &rows), "N     a\n      x\n\nN     b\nWHAT  long cell\n      y");
    }

    #[test]
    fn a_failure_keeps_its_code_and_fix() {
        let error = anyhow::Error::from(Failure::new("x", "message").fix("do this"));
        assert_eq!(failure(&error), Failure::new("x", "message").fix("do this"));
        let error = anyhow::anyhow!("inner").context("outer");
        assert_eq!(failure(&error), Failure::new("failed", "outer: inner"));
        let error = with_fix(with_fix(error, None), Some("do this".into()));
        assert_eq!(failure(&error), Failure::new("failed", "outer: inner").fix("do this"));
        let error = with_fix(error, Some("or that".into()));
        assert_eq!(failure(&error).fix.as_deref(), Some("do this; or that"));
    }
}
