//! Who is asked while a connection is made.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reachback_proto::words::printable;
use zeroize::Zeroizing;

/// What a person types in answer, gone from memory after use.
pub type Secret = Zeroizing<String>;

/// A machine whose key nobody knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownKey {
    /// The machine, as `known_hosts` spells it.
    pub host: String,
    /// The kind of its key, `ssh-ed25519`.
    pub kind: String,
    /// SHA-256 of it, as `ssh-keygen -l` shows it.
    pub fingerprint: String,
    /// Where the machine is known by a key of another kind.
    pub other: Option<String>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// What opens a key.
    Passphrase {
        /// The key's file.
        file: String,
    },
    /// A password of the machine's user.
    Password {
        /// `user@machine`.
        at: String,
    },
    /// What the machine wants to know, in its own words.
    Server {
        /// `user@machine`.
        at: String,
        /// Its words, which may say anything.
        words: String,
        /// Whether the answer may be seen while it is typed.
        echo: bool,
    },
}

/// What a machine asks at once. Everything that is its own may say anything; it is printable, and bounded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Round {
    /// `user@machine`.
    pub at: String,
    /// Whether the machine has taken a key before: what it asks for is a second proof then.
    pub after_a_key: bool,
    /// What it calls this; its own word.
    pub name: String,
    /// What it says about it, in its own words, of several lines maybe.
    pub instruction: String,
    /// What it wants to know.
    pub prompts: Vec<Prompt>,
}

/// One thing of those.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prompt {
    /// The machine's own words.
    pub words: String,
    /// Whether the answer may be seen while it is typed.
    pub echo: bool,
}

/// How often what is typed may be wrong (`NumberOfPasswordPrompts`).
const TRIES: usize = 3;
/// What is shown of a question in one line, in characters.
const MAX_QUESTION: usize = 400;

/// Somebody who can be asked.
pub trait Person: Send + Sync {
    /// Whether a machine with this key is the one that is meant.
    fn trusts(&self, key: UnknownKey) -> BoxFuture<'_, bool>;

    /// An answer; `None` where there is none.
    fn answers(&self, question: Question) -> BoxFuture<'_, Option<Secret>>;

    /// An answer to each prompt of a round; `None` where one is missing. They are asked one after the other, unless somebody sees
    /// them all at once.
    fn answers_all(&self, round: Round) -> BoxFuture<'_, Option<Vec<Secret>>> {
        async move {
            let mut answers = Vec::new();
            for Prompt { words, echo } in round.prompts {
                let words = [&*round.instruction, &words].join(" ");
                let words = printable(words.trim()).chars().take(MAX_QUESTION).collect();
                answers.push(self.answers(Question::Server { at: round.at.clone(), words, echo }).await?);
            }
            Some(answers)
        }
        .boxed()
    }

    /// How often what is typed may be wrong on one connection.
    fn tries(&self) -> usize {
        TRIES
    }
}

/// Nobody, who trusts nothing and knows nothing.
#[derive(Debug, Clone, Copy)]
pub struct Nobody;

impl Person for Nobody {
    fn trusts(&self, _: UnknownKey) -> BoxFuture<'_, bool> {
        async { false }.boxed()
    }

    fn answers(&self, _: Question) -> BoxFuture<'_, Option<Secret>> {
        async { None }.boxed()
    }
}
