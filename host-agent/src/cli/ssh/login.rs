//! What a person at this terminal is asked on the way to a machine.

use std::collections::HashMap;
use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reachback_proto::words::{printable_lines, quote, shell_word};

use super::{has_person, reached};
use crate::cli::Home;
use crate::cli::demo;
use crate::cli::output::{Output, with_fix};
use crate::cli::pair::read_line;
use crate::local_api::events::Shown;
use crate::local_api::{Answer, Client, ClientError, Event, Reply, Request, Response, SshAsked, SshChecked};
use crate::ssh::{Nobody, Person, Question, Secret, UnknownKey};

/// Has the running agent connect to a machine, and answers what is asked on the way.
pub(super) async fn run(home: &Home, name: String, output: Output) -> anyhow::Result<ExitCode> {
    let person: Arc<dyn Person> = if has_person(output) { Arc::<Terminal>::default() } else { Arc::new(Nobody) };
    match log_in(home, &name, &*person, output).await {
        Ok(checked) => {
            reached(checked, output);
            output.say("The agent is connected to it, and Codex can be reached there.");
            Ok(ExitCode::SUCCESS)
        }
        Err(error @ ClientError::NotRunning { .. }) => Err(with_fix(error.into(), demo::elsewhere(home).await)),
        Err(error) => Err(error.into()),
    }
}

/// The same for a machine that was just let in by `terminal`, where an agent runs; nothing is asked for again that was typed.
pub(super) async fn again(home: &Home, name: String, terminal: Arc<Terminal>, output: Output) -> anyhow::Result<()> {
    match log_in(home, &name, &Again(terminal), output).await {
        Ok(_) => output.say("The agent is connected to it; a key that you opened stays open as long as it runs."),
        Err(ClientError::NotRunning { .. }) => output
            .remark(format_args!("When the agent runs, let it in as well: reachback ssh login {}", shell_word(&name))),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

async fn log_in(home: &Home, name: &str, person: &dyn Person, output: Output) -> Result<SshChecked, ClientError> {
    let mut client = Client::open(&home.path, &Request::LoginSshHost { alias: name.to_owned() }).await?;
    loop {
        match client.next().await? {
            Reply::Event(Event::SshAsked(asked)) => {
                output.event(&Event::SshAsked(asked.clone()));
                client.answer(&answer(person, asked).await).await?;
            }
            Reply::Event(_) => {}
            Reply::Done(Response::SshConnected(checked)) => return Ok(checked),
            Reply::Done(_) => return Err(ClientError::Malformed),
            Reply::Failed(failure) => return Err(failure.into()),
        }
    }
}

async fn answer(person: &dyn Person, asked: SshAsked) -> Answer {
    let question = match asked {
        SshAsked::Trust { host, kind, fingerprint, other } => {
            let is_trusted = person.trusts(UnknownKey { host, kind, fingerprint, other }).await;
            return if is_trusted { Answer::Trusted } else { Answer::Decline };
        }
        SshAsked::Passphrase { file } => Question::Passphrase { file },
        SshAsked::Password { at } => Question::Password { at },
        SshAsked::Answer { at, words, echo } => Question::Server { at, words, echo },
    };
    match person.answers(question).await {
        Some(typed) => Answer::Typed { text: Shown(typed.to_string()) },
        None => Answer::Decline,
    }
}

/// Whoever sits at this terminal.
#[derive(Default)]
pub(super) struct Terminal {
    /// What was typed last for a key or a machine.
    typed: Mutex<HashMap<String, Secret>>,
    was_asked: AtomicBool,
}

impl Terminal {
    /// Whether somebody had to type something.
    pub(super) fn was_asked(&self) -> bool {
        self.was_asked.load(Ordering::Relaxed)
    }

    fn typed(&self) -> MutexGuard<'_, HashMap<String, Secret>> {
        self.typed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For what an answer may be given again.
fn lasting(question: &Question) -> Option<&str> {
    match question {
        Question::Passphrase { file } => Some(file),
        Question::Password { at } => Some(at),
        // A code may be good once.
        Question::Server { .. } => None,
    }
}

impl Person for Terminal {
    fn trusts(&self, key: UnknownKey) -> BoxFuture<'_, bool> {
        async move {
            let UnknownKey { host, kind, fingerprint, other } = key;
            let mut words = format!("Nobody knows {} yet. It shows this key:\n  {kind} {fingerprint}", quote(host));
            if let Some(other) = other {
                words += &format!("\nIt is known by a key of another kind: {other}");
            }
            ask_aside(&format!(
                "{words}\nCompare it with the machine's own (ssh-keygen -lf /etc/ssh/ssh_host_…_key.pub).\n\
                 Trust it from now on? Type yes: "
            ));
            read_line().await.is_ok_and(|line| line.trim() == "yes")
        }
        .boxed()
    }

    fn answers(&self, question: Question) -> BoxFuture<'_, Option<Secret>> {
        async move {
            self.was_asked.store(true, Ordering::Relaxed);
            let (words, echo) = match &question {
                Question::Passphrase { file } => (format!("Passphrase of {}: ", quote(file)), false),
                Question::Password { at } => (format!("Password of {}: ", quote(at)), false),
                Question::Server { at, words, echo } => (format!("{} asks: {} ", quote(at), quote(words)), *echo),
            };
            let typed = if echo {
                ask_aside(&words);
                read_line().await.ok().map(|line| Secret::new(line.trim_end().to_owned()))
            } else {
                let typed = tokio::task::spawn_blocking(move || rpassword::prompt_password(words));
                typed.await.ok()?.ok().map(Secret::new)
            };
            let typed = typed.filter(|typed| echo || !typed.is_empty())?;
            if let Some(what) = lasting(&question) {
                self.typed().insert(what.to_owned(), typed.clone());
            }
            Some(typed)
        }
        .boxed()
    }
}

/// The same, who has typed once what lets them in.
struct Again(Arc<Terminal>);

impl Person for Again {
    fn trusts(&self, key: UnknownKey) -> BoxFuture<'_, bool> {
        self.0.trusts(key)
    }

    fn answers(&self, question: Question) -> BoxFuture<'_, Option<Secret>> {
        let typed = lasting(&question).and_then(|what| self.0.typed().remove(what));
        async move {
            match typed {
                Some(typed) => Some(typed),
                None => self.0.answers(question).await,
            }
        }
        .boxed()
    }
}

/// A question at the terminal, beside what the command prints.
fn ask_aside(words: &str) {
    let mut err = std::io::stderr().lock();
    let _ = write!(err, "{}", printable_lines(words)).and_then(|()| err.flush());
}
