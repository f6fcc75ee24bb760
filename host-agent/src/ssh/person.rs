//! Who is asked while a connection is made.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
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

/// Somebody who can be asked.
pub trait Person: Send + Sync {
    /// Whether a machine with this key is the one that is meant.
    fn trusts(&self, key: UnknownKey) -> BoxFuture<'_, bool>;

    /// An answer; `None` where there is none.
    fn answers(&self, question: Question) -> BoxFuture<'_, Option<Secret>>;
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
