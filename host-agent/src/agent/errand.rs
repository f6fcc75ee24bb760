//! A connection of the agent's own to Codex, for a few questions: it follows no thread, and is asked nothing.

use std::time::Duration;

use reachback_proto::words::printable;
use ring::rand::SystemRandom;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::environments::Environment;
use crate::codex::overload::{Retries, is_overloaded};
use crate::codex::{Allowance, CodexConnection, CodexReceiver, CodexSender};
use crate::firewall::table::NOTIFICATIONS;

/// How long Codex may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum ErrandError {
    /// Codex refused, in its own words.
    #[error("codex refuses: {}", printable(.0))]
    Refused(String),
    /// It is gone, or silent.
    #[error("codex does not answer")]
    Lost,
}

/// See the module's header.
pub(super) struct Errand {
    to_codex: CodexSender,
    from_codex: CodexReceiver,
    last: u64,
}

impl Errand {
    /// A new connection.
    pub(super) async fn open(environment: &Environment) -> Result<Self, ErrandError> {
        let connecting = environment.connect(Allowance::default()).await;
        let CodexConnection { sender: to_codex, receiver: from_codex, .. } =
            connecting.map_err(|_| ErrandError::Lost)?;
        let mut errand = Self { to_codex, from_codex, last: 0 };
        let client = json!({ "name": "reachback", "title": "Reachback", "version": env!("CARGO_PKG_VERSION") });
        let capabilities = json!({ "experimentalApi": true, "optOutNotificationMethods": NOTIFICATIONS });
        errand.call("initialize", &json!({ "clientInfo": client, "capabilities": capabilities })).await?;
        let initialized = errand.to_codex.send(json!({ "method": "initialized" }).to_string());
        initialized.await.map_err(|_| ErrandError::Lost)?;
        Ok(errand)
    }

    /// Calls a method, again and again where Codex has too much to do.
    pub(super) async fn call(&mut self, method: &str, params: &impl Serialize) -> Result<Value, ErrandError> {
        let mut retries = Retries::default();
        timeout(PATIENCE, async {
            loop {
                let answer = self.ask(method, params).await?;
                let Some(error) = answer.get("error") else {
                    return Ok(answer.get("result").cloned().unwrap_or_default());
                };
                match retries.pause(&SystemRandom::new()).filter(|_| is_overloaded(error)) {
                    Some(pause) => sleep(pause).await,
                    None => return Err(ErrandError::Refused(error["message"].as_str().unwrap_or_default().to_owned())),
                }
            }
        })
        .await
        .unwrap_or(Err(ErrandError::Lost))
    }

    /// Asks once; the whole answer.
    async fn ask(&mut self, method: &str, params: &impl Serialize) -> Result<Value, ErrandError> {
        self.last += 1;
        let id = self.last;
        let request = json!({ "id": id, "method": method, "params": params }).to_string();
        self.to_codex.send(request).await.map_err(|_| ErrandError::Lost)?;
        loop {
            let message = self.from_codex.next().await.and_then(Result::ok).ok_or(ErrandError::Lost)?;
            let Ok(message) = serde_json::from_str::<Value>(&message) else { continue };
            if message["id"] == id && message.get("method").is_none() {
                return Ok(message);
            }
        }
    }
}
