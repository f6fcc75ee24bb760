//! The arguments of both programs.

use std::ffi::OsString;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use clap::Parser;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use reachback_proto::words::{printable, printable_lines};
use serde::Serialize;

use crate::DEFAULT_LISTEN;

/// The `code` of the `error` line for programs that asked wrongly.
const USAGE: &str = "usage";

/// What was typed. Where that can't be, it says so and ends the program: a link or a name in it may be somebody else's, so
/// unlike clap's own way of saying it this steers no terminal and shows each argument on one line. A program that typed
/// `--json` gets a line of that, as for all other errors.
pub fn parse<P: Parser>() -> P {
    P::try_parse().unwrap_or_else(|mut error| {
        if error.use_stderr() {
            clean(&mut error);
            // Nothing is left to do when even that is gone.
            let _closed = if is_json(std::env::args_os()) {
                writeln!(std::io::stdout(), "{}", for_programs(&error))
            } else {
                write!(std::io::stderr(), "{}", printable_lines(&error.to_string()))
            };
            std::process::exit(error.exit_code());
        }
        // Help and version are our own words.
        error.exit()
    })
}

fn clean(error: &mut Error) {
    let typed = |(kind, value): (_, &ContextValue)| match value {
        ContextValue::String(text) => Some((kind, ContextValue::String(printable(text)))),
        ContextValue::Strings(texts) => {
            Some((kind, ContextValue::Strings(texts.iter().map(|text| printable(text)).collect())))
        }
        _ => None,
    };
    let cleaned: Vec<_> = error.context().filter_map(typed).collect();
    for (kind, value) in cleaned {
        error.insert(kind, value);
    }
}

/// Whether `--json` is among the options: what stands behind `--` is somebody else's.
fn is_json(mut typed: impl Iterator<Item = OsString>) -> bool {
    typed.by_ref().take_while(|word| word != "--").any(|word| word == "--json")
}

/// The line for programs, of the form that README.md gives for `error`.
fn for_programs(error: &Error) -> String {
    #[derive(Serialize)]
    struct Line {
        event: &'static str,
        code: &'static str,
        message: String,
        fix: Option<String>,
    }
    let text = error.to_string();
    // The first paragraph says what is wrong; a tip, usage and where help is follow it.
    let message = match error.kind() {
        // That is a page of help.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "a command is missing".to_owned(),
        _ => text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ").trim().to_owned(),
    };
    let usage = error.get(ContextKind::Usage).map(|usage| usage.to_string().trim().to_owned());
    let fix = usage.filter(|usage| !usage.is_empty());
    serde_json::to_string(&Line { event: "error", code: USAGE, message, fix }).expect("a line has string keys")
}

/// An address to listen on, for `--listen`: `ADDRESS:PORT`, or an address alone, for the usual port (7420).
///
/// # Errors
/// What a person can type, where it is neither.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(listen) = text.parse() {
        return Ok(listen);
    }
    bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DEFAULT_LISTEN.port())).map_err(|_| {
        "give an IP address, and a port if it is not 7420: 127.0.0.1:0 (a free port), 0.0.0.0:443, [::]:443".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[derive(Debug, Parser)]
    #[command(name = "asked", subcommand_required = true)]
    struct Asked {
        #[arg(long, value_parser = listen_address)]
        listen: Option<SocketAddr>,
        #[command(subcommand)]
        command: Option<Only>,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Only {
        Here,
    }

    fn line(typed: &[&str]) -> serde_json::Value {
        let mut error = Asked::try_parse_from([&["asked"], typed].concat()).unwrap_err();
        clean(&mut error);
        serde_json::from_str(&for_programs(&error)).unwrap()
    }

    #[test]
    fn a_program_that_asks_wrongly_gets_a_line() {
        let said = line(&["--listne", "x"]);
        assert_eq!(said["event"], "error");
        assert_eq!(said["code"], "usage");
        assert_eq!(said["message"], "unexpected argument '--listne' found");
        assert!(said["fix"].as_str().unwrap().starts_with("Usage: asked"), "{said}");
        let said = line(&["--listen", "n\u{1b}[2Jowhere"]);
        let message = said["message"].as_str().unwrap();
        assert!(message.contains("127.0.0.1:0") && !message.contains('\u{1b}'), "{said}");
        assert!(line(&[])["message"].as_str().unwrap().contains("requires a subcommand"));
        Asked::command().debug_assert();
    }

    #[test]
    fn what_stands_behind_two_dashes_asks_for_nothing() {
        let typed = |words: &[&str]| is_json(words.iter().map(OsString::from));
        assert!(typed(&["reachback", "hosts", "--json"]));
        assert!(!typed(&["reachback", "connect", "tower", "--", "--json"]));
    }

    #[test]
    fn an_address_alone_is_one_with_the_usual_port() {
        let read = |text| listen_address(text).map(|listen| listen.to_string());
        assert_eq!(read("127.0.0.1").unwrap(), "127.0.0.1:7420");
        assert_eq!(read(" 0.0.0.0:443").unwrap(), "0.0.0.0:443");
        assert_eq!(read("::").unwrap(), "[::]:7420");
        assert_eq!(read("[::1]").unwrap(), "[::1]:7420");
        assert_eq!(read("[::1]:0").unwrap(), "[::1]:0");
        for wrong in ["", "localhost", "127.0.0.1:", ":443", "127.0.0.1:70000", "https://relay.example"] {
            assert!(read(wrong).unwrap_err().contains("[::]:443"), "{wrong}");
        }
    }
}
