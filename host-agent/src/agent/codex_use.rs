//! `reachback codex use` and `restore`, on a running agent.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::AgentEvents;
use super::environments::Environment;
use crate::codex::Adapter;
use crate::codex::remote_control::redirect::{Phase, Redirect, Restored};
use crate::local_api::{Event, Failure, Response};

/// How long it takes at most until the setting is there: a Codex of the agent's own ends first, which has seven seconds.
const LEADING: Duration = Duration::from_secs(15);

/// Where the setting of a host's own environment is changed.
pub(super) struct CodexChanges<'a> {
    pub(super) environment: &'a Arc<Environment>,
    pub(super) events: &'a AgentEvents,
}

impl CodexChanges<'_> {
    fn redirect(&self) -> Result<&Arc<Redirect>, Failure> {
        self.environment.redirect.as_ref().ok_or_else(|| {
            Failure::new("demo_home", "this agent is a demo's, which leaves your Codex alone")
                .fix("say which home: reachback codex use --home DIR")
        })
    }

    /// Has Codex's configuration lead here, and waits until it does.
    pub(super) async fn lead_here(&self, codex_home: Option<&str>) -> Result<Response, Failure> {
        let redirect = self.redirect()?;
        redirect.want(codex_home.map(Path::new))?;
        let but = match self.environment.codex.adapter() {
            Adapter::RemoteControl => {
                let mut phase = redirect.phase();
                let settled = timeout(LEADING, phase.wait_for(|phase| *phase != Phase::Away)).await;
                match settled.map(|phase| phase.map(|phase| phase.clone())) {
                    Ok(Ok(Phase::Failed(failure))) => return Err(failure),
                    Ok(_) => None,
                    Err(_) => Some(
                        Failure::new("codex_use_late", "the agent does not listen for Codex yet")
                            .fix("`reachback status` says how it is"),
                    ),
                }
            }
            Adapter::AppServer | Adapter::Attach | Adapter::Ssh => Some(
                Failure::new("codex_way", "the agent that runs reaches Codex by its app-server, so nothing leads to it yet")
                    .fix("stop it, and start it so: reachback host --codex remote-control (or reachback up --codex remote-control)"),
            ),
        };
        Ok(self.told(redirect, but))
    }

    /// Puts back what was there before.
    pub(super) fn restore(&self) -> Result<Response, Failure> {
        let redirect = self.redirect()?;
        let restored = redirect.restore()?;
        Ok(self.told(redirect, changed_meanwhile(restored)))
    }

    fn told(&self, redirect: &Redirect, but: Option<Failure>) -> Response {
        let now = redirect.status();
        self.events.send(Event::CodexUse(now.clone()));
        Response::CodexUse { now, but }
    }
}

/// What to say where what was there before was not put back.
pub(crate) fn changed_meanwhile(restored: Restored) -> Option<Failure> {
    let changed = || {
        Failure::new("codex_config_changed", "chatgpt_base_url was changed meanwhile, and is left as it is")
            .fix("look whether it is what you want")
    };
    (restored == Restored::Changed).then(changed)
}
