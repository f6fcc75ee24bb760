//! `--help` of every command of both programs: prose fills the width that there is, and what is laid out fits a terminal.

use e2e::process::{binary, finished};
use tokio::process::Command;

/// What clap takes where there is no terminal, in columns.
const WIDTH: usize = 100;
/// What is typed or laid out in columns has to fit, in columns: it can't be broken.
const NARROW: usize = 80;

async fn help(program: &str, command: &[String]) -> String {
    let mut asked = Command::new(binary(program));
    asked.args(command).arg("--help").env("COLUMNS", WIDTH.to_string());
    finished(asked, "").await.ok().out
}

/// The commands that this help lists.
fn listed(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Whether the line is prose: not a heading, an option, a value, an example or a list.
fn is_prose(line: &str) -> bool {
    let text = line.trim_start();
    matches!(indentation(line), 0 | 10) && !text.is_empty() && !text.starts_with(['-', '[']) && !text.ends_with(':')
}

/// What is wrong with it.
fn faults(help: &str) -> Vec<String> {
    let lines: Vec<_> = help.lines().collect();
    let broken = lines.windows(2).filter(|pair| {
        let [line, next] = [pair[0], pair[1]];
        let first = next.split_whitespace().next().unwrap_or_default();
        let is_one = is_prose(line) && is_prose(next) && indentation(line) == indentation(next);
        is_one && line.chars().count() + 1 + first.chars().count() <= WIDTH
    });
    let broken = broken.map(|pair| format!("broken by hand: {}", pair[0]));
    let of_commands = lines.iter().skip_while(|line| **line != "Commands:").take_while(|line| !line.is_empty()).count();
    let begin = lines.iter().position(|line| *line == "Commands:").unwrap_or_default();
    let laid_out = lines.iter().enumerate().filter(|(at, line)| {
        let is_option = line.trim_start().starts_with('-');
        let is_laid_out = (1..10).contains(&indentation(line)) && !is_option;
        is_laid_out && !(begin..begin + of_commands).contains(at) && line.chars().count() > NARROW
    });
    broken.chain(laid_out.map(|(_, line)| format!("too wide: {line}"))).collect()
}

#[tokio::test]
async fn prose_fills_the_terminal_and_what_is_laid_out_fits_it() {
    let mut all = vec![];
    for program in ["reachback", "reachback-relay"] {
        let mut open = vec![vec![]];
        let mut seen = 0;
        while let Some(command) = open.pop() {
            let help = help(program, &command).await;
            all.extend(faults(&help).into_iter().map(|fault| format!("{program} {}: {fault}", command.join(" "))));
            open.extend(listed(&help).into_iter().map(|name| [command.clone(), vec![name]].concat()));
            seen += 1;
        }
        assert!(seen > 8, "{program}: {seen} commands were found");
    }
    assert!(all.is_empty(), "{all:#?}");
}
