//! How far Reachback's own keys are kept from what Codex runs, and why no further.
//!
//! What can read the keys can pair itself a device. Threads that devices open run
//! under [`Profiles`], which deny them; others run under what their opener and
//! `config.toml` say, of which the agent knows only the part that it wrote.

use super::permissions::Profiles;
use super::{Adapter, StartedBy};

/// How far keys are kept from what Codex runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Keys {
    /// From every thread that chooses nothing else for itself.
    Protected,
    /// From the threads that devices open.
    Partly,
    /// The agent can't vouch for it.
    Unprotected,
}

impl Keys {
    /// How far keys are kept from a running Codex, and why no further.
    pub fn of(profiles: &Profiles, adapter: Adapter, started_by: StartedBy) -> (Self, Option<&'static str>) {
        if profiles.writing().is_none() {
            return (Self::Unprotected, Some(NO_SANDBOX));
        }
        match started_by {
            StartedBy::Others if adapter == Adapter::RemoteControl => (Self::Unprotected, Some(CAME)),
            StartedBy::Others if adapter == Adapter::Attach => (Self::Unprotected, Some(ATTACHED)),
            StartedBy::Others => (Self::Unprotected, Some(JOINED)),
            StartedBy::Agent if profiles.for_process().is_empty() => (Self::Partly, Some(NOTHING_CHOSEN)),
            StartedBy::Agent => (Self::Protected, None),
        }
    }
}

const NO_SANDBOX: &str = "Codex's configuration chooses danger-full-access, so all that Codex runs can read them; \
     sandbox_mode = \"workspace-write\" in its config.toml keeps it from that";

const JOINED: &str = "this Codex was running already and was joined: what devices open there can't read them, but other \
     threads may; to have them protected, end that Codex, and the agent starts its own";

const CAME: &str = "the Codex App, or whoever started this Codex, chose its settings: what devices open there can't read them, \
     but other threads may; to have them protected, `reachback codex restore`, and the agent starts its own";

const ATTACHED: &str = "whoever started this Codex chose its settings: what devices open there can't read them, but other \
     threads may; to have them protected, have the agent start one: --codex app-server";

const NOTHING_CHOSEN: &str = "what devices open can't read them, but Codex's configuration chooses no sandbox for other \
     threads; write sandbox_mode = \"workspace-write\" into its config.toml, and restart the agent";

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;

    use super::*;

    #[test]
    fn no_sandbox_or_a_codex_of_somebody_else_leaves_the_keys_unprotected() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.toml");
        for (text, started, attached) in [
            ("sandbox_mode = 'workspace-write'", Keys::Protected, Keys::Unprotected),
            ("sandbox_mode = 'read-only'", Keys::Protected, Keys::Unprotected),
            ("", Keys::Partly, Keys::Unprotected),
            ("sandbox_mode = 'danger-full-access'", Keys::Unprotected, Keys::Unprotected),
            ("default_permissions = ':danger-full-access'", Keys::Unprotected, Keys::Unprotected),
        ] {
            std::fs::write(&config, text).unwrap();
            let profiles = Profiles::new(&SystemRandom::new(), vec!["/keys".into()], Some(config.clone())).unwrap();
            for (started_by, want) in [(StartedBy::Agent, started), (StartedBy::Others, attached)] {
                for adapter in [Adapter::AppServer, Adapter::RemoteControl, Adapter::Attach] {
                    let (keys, why) = Keys::of(&profiles, adapter, started_by);
                    assert_eq!(keys, want, "{text:?}, {adapter}, {started_by}");
                    assert_eq!(why.is_none(), keys == Keys::Protected, "{text:?}, {adapter}, {started_by}: {why:?}");
                }
            }
        }
    }
}
