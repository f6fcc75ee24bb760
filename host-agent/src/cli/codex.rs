//! `reachback codex`: whether Codexes that the person starts come to this agent, and whether OpenAI's own app reaches its Codex.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use reachback_proto::words::quote;

use super::Home;
use super::chatgpt::{self, ChatgptAction};
use super::demo;
use super::output::{self, Output};
use crate::agent::codex_use::changed_meanwhile;
use crate::codex::CodexConfig;
use crate::codex::remote_control::redirect::Redirect;
use crate::local_api::{Client, ClientError, CodexUse, Event, Failure, Request, Response};
use crate::state::demo::HomeKind;
use crate::state::lock::HomeLock;

const EXAMPLES: &str = "Examples, on the host:\n  \
    reachback codex use                      have the Codex App come here\n  \
    reachback host --codex remote-control    the agent that it comes to\n  \
    reachback status                         whether it has come\n  \
    reachback codex restore                  put everything back as it was\n\n\
    OpenAI's own app beside Reachback:\n  \
    reachback codex chatgpt-pair    pair it with Codex, past us\n  \
    reachback codex chatgpt-off     end that";

/// Have the Codex App, or any other Codex that you start yourself, come to this agent; or let OpenAI's own app in beside it.
///
/// The Codex App starts its own Codex, so the agent can't start one in its place and waits for it. What leads it here is
/// one setting in Codex's own config.toml, `chatgpt_base_url`. While an agent runs with `--codex remote-control`, the
/// setting is there; when that agent ends, what was there before is put back.
///
/// Your sign-in with ChatGPT then comes to the agent in each request and is passed on to where it went before; it is not
/// kept. docs/threat-model.md says what that means on a machine with other users.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CodexUseArgs {
    #[command(subcommand)]
    command: CodexCommand,
}

#[derive(Debug, Subcommand)]
enum CodexCommand {
    #[command(flatten)]
    Use(Action),
    #[command(flatten)]
    Chatgpt(ChatgptAction),
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Have Codex's config.toml lead to the agent while it runs, and wait for the Codex App instead of starting a Codex.
    ///
    /// It holds until `reachback codex restore`. An agent that runs takes it up at once; a Codex that it started itself
    /// ends with that, and with it the turns that run there.
    ///
    /// The rest of the file stays as it is, with its comments, and so does its mode; a link is followed. The file as it
    /// was is kept once, as config.toml.before-reachback beside it. Codex reads the setting when it starts: quit the Codex
    /// App and open it again, then turn remote control on there.
    ///
    /// The setting counts for every Codex with this folder, the one in your terminal too. Codex 0.169.0 takes it from the
    /// top of config.toml only: not from `[profiles.…]`, nor from a project's .codex/config.toml; `-c
    /// chatgpt_base_url=…` on a command line wins over it, and a line `profile = …` at the top has Codex ignore all of the
    /// file.
    Use {
        /// Codex's own state, if not `~/.codex`.
        #[arg(long, env = "CODEX_HOME", value_name = "DIR")]
        codex_home: Option<PathBuf>,
    },
    /// End that: put back what was there before. The agent starts its own Codex again.
    ///
    /// Works with and without an agent, also after one that was killed and could not put it back. What you changed there
    /// meanwhile is left as it is. Quit the Codex App and open it again: until then it goes on knocking here.
    Restore,
}

pub(super) async fn run(home: &Home, args: CodexUseArgs, output: Output) -> anyhow::Result<ExitCode> {
    let action = match args.command {
        CodexCommand::Use(action) => action,
        CodexCommand::Chatgpt(action) => return chatgpt::run(home, &action, output).await,
    };
    let uses = matches!(action, Action::Use { .. });
    let request = match &action {
        Action::Use { codex_home } => Request::UseCodex { codex_home: codex_home.clone().map(absolute).transpose()? },
        Action::Restore => Request::RestoreCodex,
    };
    let (response, has_agent) = match Client::open(&home.path, &request).await {
        Ok(client) => (client.finish().await?, true),
        Err(ClientError::NotRunning { .. }) => {
            let elsewhere = demo::elsewhere(home).await;
            let done = without_agent(home, action).map_err(|error| output::with_fix(error, elsewhere));
            (done?, false)
        }
        Err(error) => return Err(error.into()),
    };
    let Response::CodexUse { now, but } = response else { return Err(ClientError::Malformed.into()) };
    output.event(&Event::CodexUse(now.clone()));
    output.say(words(&now, uses, has_agent));
    if let Some(but) = but {
        output.event(&Event::Notice(but.clone()));
        output.say(format_args!("{}{}", but.message, but.fix.map(|fix| format!("\n  {fix}")).unwrap_or_default()));
    }
    Ok(ExitCode::SUCCESS)
}

/// The agent has another current folder, and its requests are text.
fn absolute(folder: PathBuf) -> anyhow::Result<String> {
    let path = std::path::absolute(folder)?.into_os_string().into_string();
    Ok(path.map_err(|path| {
        let message = format!("codex can't use the folder {}: its path is not valid text", quote(path.display()));
        Failure::new("codex_home_not_text", message).fix("give it a name that is valid UTF-8")
    })?)
}

/// The same on the files, under the home's lock, when no agent runs.
fn without_agent(home: &Home, action: Action) -> anyhow::Result<Response> {
    let _lock = HomeLock::acquire(&home.path)?;
    if HomeKind::of(&home.path)? == HomeKind::Demo {
        let failure = Failure::new("demo_home", "this home is a demo's, which leaves your Codex alone");
        return Err(failure.fix("say which home: --home DIR").into());
    }
    let open = |codex_home| Redirect::open(&home.path, codex_home);
    let (redirect, restored) = match action {
        Action::Use { codex_home } => {
            let codex_home = codex_home.map(std::path::absolute).transpose()?;
            let redirect = open(CodexConfig { home: codex_home, ..CodexConfig::default() }.codex_home())?;
            // What an agent left that was killed: nobody listens there now.
            let restored = redirect.undo().map_err(Failure::from)?;
            redirect.want(None).map_err(Failure::from)?;
            (redirect, restored)
        }
        Action::Restore => {
            let redirect = open(None)?;
            let restored = redirect.restore().map_err(Failure::from)?;
            (redirect, restored)
        }
    };
    Ok(Response::CodexUse { now: redirect.status(), but: changed_meanwhile(restored) })
}

/// What a person is told.
fn words(now: &CodexUse, uses: bool, has_agent: bool) -> String {
    let config = now.config.as_ref().map_or("Codex's config.toml".to_owned(), |config| quote(config).to_string());
    let mut lines = Vec::new();
    match (uses, now.leads_here) {
        (true, true) => {
            lines.push(format!("chatgpt_base_url in {config} leads to the agent now."));
            lines.extend(now.backup.as_ref().map(|backup| format!("The file as it was before: {}", quote(backup))));
            lines.push("Quit the Codex App, open it again, and turn remote control on there.".to_owned());
            lines.push("Whether it has come: reachback status".to_owned());
        }
        (true, false) => {
            lines.push(format!(
                "From now on chatgpt_base_url in {config} leads to the agent while it runs with --codex remote-control."
            ));
            if !has_agent {
                lines.push("No agent listens yet. Start it: reachback host --codex remote-control".to_owned());
            }
            lines.push("Then quit the Codex App, open it again, and turn remote control on there.".to_owned());
        }
        (false, true) => lines.push(format!("{config} still leads to an agent.")),
        (false, false) => {
            lines.push("Codex's configuration does not lead to this agent, and will not.".to_owned());
            lines
                .push("A Codex App that is open goes on knocking here until you quit it and open it again.".to_owned());
        }
    }
    lines.extend(now.notes.iter().map(|note| format!("Note: {note}.")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Command};
    use super::*;

    fn action(args: &[&str]) -> Result<Action, clap::Error> {
        match Cli::try_parse_from([&["reachback", "codex"], args].concat())?.command {
            Command::Codex(CodexUseArgs { command: CodexCommand::Use(action) }) => Ok(action),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn use_takes_a_folder_and_restore_takes_nothing() {
        assert!(matches!(action(&["use", "--codex-home", "x"]), Ok(Action::Use { codex_home: Some(_) })));
        assert!(matches!(action(&["restore"]), Ok(Action::Restore)));
        for wrong in [&[][..], &["use", "x"], &["restore", "--codex-home", "x"]] {
            assert_eq!(action(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }

    #[test]
    fn each_outcome_says_what_comes_next() {
        let now = |leads_here| CodexUse {
            wanted: true,
            config: Some("/c/config.toml".into()),
            leads_here,
            backup: leads_here.then(|| "/c/config.toml.before-reachback".into()),
            notes: vec!["a note".into()],
        };
        for (words, wanted) in [
            (words(&now(true), true, true), ["leads to the agent now", "before-reachback”", "Quit the Codex App"]),
            (words(&now(false), true, false), ["while it runs", "host --codex remote-control", "quit the Codex App"]),
            (words(&now(false), false, true), ["does not lead", "quit it and open it again", "Note: a note."]),
        ] {
            wanted.iter().for_each(|wanted| assert!(words.contains(wanted), "no `{wanted}` in\n{words}"));
        }
        assert!(!words(&now(false), true, true).contains("No agent"));
    }
}
