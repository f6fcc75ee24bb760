//! `--codex attach`: an app-server of somebody else's, where a person says that it listens.

use std::path::PathBuf;

use clap::Args;

use super::host::{CodexArgs, CodexWay, absolute};
use crate::codex::attach::{Address, AttachConfig, Credential};
use crate::local_api::Failure;

/// What goes with `--codex attach`.
#[derive(Debug, Args)]
pub(super) struct AttachArgs {
    /// With --codex attach: where the app-server listens, ws://127.0.0.1:PORT or unix:///PATH. On this machine: what is on
    /// another one is reached with `reachback ssh`.
    #[arg(long, value_name = "URL", required_if_eq("way", "attach"))]
    pub(super) attach_to: Option<String>,
    /// The file with its capability token, which only you may read: what it has as --ws-token-file.
    #[arg(long, value_name = "FILE", conflicts_with = "attach_secret_file")]
    pub(super) attach_token_file: Option<PathBuf>,
    /// The file with the secret that it checks signed tokens with, which only you may read: what it has as
    /// --ws-shared-secret-file. The secret is not sent; it signs a token that is good for a minute.
    #[arg(long, value_name = "FILE")]
    pub(super) attach_secret_file: Option<PathBuf>,
    /// What it has as --ws-issuer, where it has that.
    #[arg(long, value_name = "NAME", requires = "attach_secret_file", conflicts_with = "attach_token_file")]
    pub(super) attach_issuer: Option<String>,
    /// What it has as --ws-audience, where it has that.
    #[arg(long, value_name = "NAME", requires = "attach_secret_file", conflicts_with = "attach_token_file")]
    pub(super) attach_audience: Option<String>,
}

impl AttachArgs {
    fn is_empty(&self) -> bool {
        let Self { attach_to, attach_token_file, attach_secret_file, attach_issuer, attach_audience } = self;
        let files = attach_token_file.is_none() && attach_secret_file.is_none();
        files && attach_to.is_none() && attach_issuer.is_none() && attach_audience.is_none()
    }

    fn credential(&self) -> Credential {
        match (&self.attach_token_file, &self.attach_secret_file) {
            (Some(file), _) => Credential::Token { file: absolute(file.clone()) },
            (None, Some(file)) => Credential::Signed {
                file: absolute(file.clone()),
                issuer: self.attach_issuer.clone(),
                audience: self.attach_audience.clone(),
            },
            (None, None) => Credential::None,
        }
    }
}

/// Which server to attach to, if that was asked for: checked as far as that goes without it.
pub(super) fn wanted(args: &CodexArgs) -> Result<Option<AttachConfig>, Failure> {
    let attach = &args.attach;
    if args.way != CodexWay::Attach {
        let stray = || {
            Failure::new("attach", "--attach-to and what goes with it are for --codex attach")
                .fix("say --codex attach, too, or leave them out")
        };
        return if attach.is_empty() { Ok(None) } else { Err(stray()) };
    }
    let to = attach.attach_to.as_deref().unwrap_or_default();
    let address: Address =
        to.parse().map_err(|error: crate::codex::attach::AddressError| unusable(error.to_string(), error.fix()))?;
    let credential = attach.credential();
    if address.is_socket() && credential != Credential::None {
        return Err(unusable(
            "a unix socket asks for no token: its file says who may come".to_owned(),
            "leave out --attach-token-file and --attach-secret-file",
        ));
    }
    credential.check().map_err(|error| unusable(reason(&error), &error.fix()))?;
    Ok(Some(AttachConfig::new(address, credential, args.codex_home())))
}

fn unusable(message: String, fix: &str) -> Failure {
    Failure::new("attach", message).fix(fix)
}

/// An error with its causes.
fn reason(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", reason(source)),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        codex: CodexArgs,
    }

    fn line(words: &[&str]) -> Result<CodexArgs, clap::Error> {
        Line::try_parse_from([&["x", "--codex-home", "/c"], words].concat()).map(|line| line.codex)
    }

    fn refused(words: &[&str]) -> Failure {
        wanted(&line(words).unwrap()).unwrap_err()
    }

    #[test]
    fn it_is_attached_to_where_the_person_says_and_nowhere_else() {
        assert!(wanted(&line(&[]).unwrap()).unwrap().is_none());
        let config = wanted(&line(&["--codex", "attach", "--attach-to", "ws://localhost:4500"]).unwrap()).unwrap();
        let config = config.unwrap();
        assert_eq!(config.address.to_string(), "ws://localhost:4500");
        assert_eq!((config.credential, config.codex_home), (Credential::None, Some("/c".into())));
        assert!(line(&["--codex", "attach"]).unwrap_err().to_string().contains("--attach-to <URL>"));
        let stray = refused(&["--attach-to", "ws://localhost:4500"]);
        assert!(stray.fix.unwrap().contains("--codex attach"));
        let elsewhere = refused(&["--codex", "attach", "--attach-to", "ws://devbox:4500"]);
        assert!(elsewhere.fix.unwrap().contains("reachback ssh add"));
    }

    #[test]
    fn what_lets_in_is_one_file_for_an_address_that_asks_for_it() {
        let attach = ["--codex", "attach", "--attach-to", "ws://127.0.0.1:4500"];
        let both = [&attach[..], &["--attach-token-file", "a", "--attach-secret-file", "b"]].concat();
        assert!(line(&both).unwrap_err().to_string().contains("cannot be used with"));
        for name in ["--attach-issuer", "--attach-audience"] {
            let alone = [&attach[..], &[name, "ann"]].concat();
            assert!(line(&alone).unwrap_err().to_string().contains("--attach-secret-file"));
            let other = [&attach[..], &[name, "ann", "--attach-token-file", "a"]].concat();
            assert!(line(&other).unwrap_err().to_string().contains("cannot be used with"));
        }
        let missing = refused(&[&attach[..], &["--attach-token-file", "/no/such/file"]].concat());
        assert!(missing.message.contains("/no/such/file") && missing.fix.unwrap().contains("ls -l /no/such/file"));
        let socket = ["--codex", "attach", "--attach-to", "unix:///run/x", "--attach-token-file", "/no/such/file"];
        assert!(refused(&socket).message.contains("asks for no token"));
    }
}
