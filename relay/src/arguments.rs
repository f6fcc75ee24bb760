//! The arguments of both programs.

use std::io::Write;

use clap::Parser;
use clap::error::{ContextValue, Error};
use reachback_proto::words::{printable, printable_lines};

/// What was typed. Where that can't be, it says so and ends the program: a link or a name in it may be somebody else's, so
/// unlike clap's own way of saying it this steers no terminal and shows each argument on one line.
pub fn parse<P: Parser>() -> P {
    P::try_parse().unwrap_or_else(|mut error| {
        if error.use_stderr() {
            clean(&mut error);
            // Nothing is left to do when even stderr is gone.
            let _closed = write!(std::io::stderr(), "{}", printable_lines(&error.to_string()));
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
