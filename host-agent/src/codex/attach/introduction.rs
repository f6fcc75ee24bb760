//! Who listens at an address that a person named: an app-server of Codex that the agent can stand before, or something else.
//!
//! Only an answer to `initialize` says so. It names the agent to the server, as the agent's own connection does right after:
//! to a server that nobody spoke with before, that is the name for all of its traffic with its maker.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::super::overload::is_overloaded;
use super::super::{CodexConnection, parse_plain_version};
use crate::firewall::table::NOTIFICATIONS;

/// As long as for the probe's question.
const PATIENCE: Duration = Duration::from_secs(10);

/// The firewall knows the requests of this version (major, minor), and of no older one.
pub(super) const OLDEST: (u32, u32) = (0, 169);

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    /// `0.169.0`, where it says that in words that are known.
    pub(super) version: Option<String>,
    /// Where it has its state.
    pub(super) home: PathBuf,
}

/// Why a server is not one to attach to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stranger {
    /// It says nothing, or went away.
    Silent,
    /// It has too much to do.
    Overloaded,
    /// It answers otherwise than an app-server.
    NotCodex,
    /// It is one, and older than what the firewall knows.
    TooOld { version: String },
}

/// Asks who it is. The connection is of no use after that.
pub(super) async fn introduce(mut connection: CodexConnection) -> Result<Server, Stranger> {
    let client = json!({ "name": "reachback", "title": "Reachback", "version": env!("CARGO_PKG_VERSION") });
    let capabilities = json!({ "experimentalApi": true, "optOutNotificationMethods": NOTIFICATIONS });
    let params = json!({ "clientInfo": client, "capabilities": capabilities });
    let request = json!({ "id": 0, "method": "initialize", "params": params }).to_string();
    let answered = async {
        connection.sender.send(request).await.ok()?;
        loop {
            let text = connection.receiver.next().await?.ok()?;
            match serde_json::from_str::<Value>(&text) {
                // What it tells everybody may come in between.
                Ok(message) if message.get("method").is_some() => {}
                Ok(message) => return Some(message),
                Err(_) => return Some(Value::Null),
            }
        }
    };
    match timeout(PATIENCE, answered).await {
        Ok(Some(answer)) => judge(&answer),
        Ok(None) | Err(_) => Err(Stranger::Silent),
    }
}

fn judge(answer: &Value) -> Result<Server, Stranger> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Introduced {
        user_agent: String,
        codex_home: Option<PathBuf>,
    }
    if is_overloaded(&answer["error"]) {
        return Err(Stranger::Overloaded);
    }
    let said = answer.get("result").and_then(|result| Introduced::deserialize(result).ok());
    let Introduced { user_agent, codex_home } = said.filter(|_| answer["id"] == 0).ok_or(Stranger::NotCodex)?;
    let version = version(&user_agent);
    let is_old = version.as_deref().and_then(minor).is_some_and(|minor| minor < OLDEST);
    match (codex_home, version) {
        (Some(home), version) if !is_old => Ok(Server { version, home }),
        (_, Some(version)) => Err(Stranger::TooOld { version }),
        (_, None) => Err(Stranger::NotCodex),
    }
}

/// The version in `reachback/0.169.0 (Debian 12.0.0; x86_64) …`, where what is before it is the first client's name.
fn version(user_agent: &str) -> Option<String> {
    let (_, version) = user_agent.split(" (").next()?.rsplit_once('/')?;
    parse_plain_version(version)
}

fn minor(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(user_agent: &str, home: Value) -> Value {
        json!({ "id": 0, "result": { "userAgent": user_agent, "codexHome": home, "platformOs": "linux" } })
    }

    #[test]
    fn an_app_server_says_its_version_and_its_folder() {
        for (user_agent, wanted) in [
            ("reachback/0.169.0 (Debian 12.0.0; x86_64) xterm (reachback; 0.1.0)", Some("0.169.0")),
            ("codex_cli_rs/0.170.0-alpha.2", Some("0.170.0-alpha.2")),
            ("my/own client/1.2.3 (x)", Some("1.2.3")),
            ("reachback/next (x)", None),
        ] {
            let server = judge(&said(user_agent, json!("/c"))).unwrap();
            assert_eq!(server, Server { version: wanted.map(str::to_owned), home: "/c".into() }, "{user_agent}");
        }
    }

    #[test]
    fn what_is_too_old_or_none_is_told_apart() {
        let too_old = |version: &str| Err(Stranger::TooOld { version: version.to_owned() });
        assert_eq!(judge(&said("x/0.168.9 (y)", json!("/c"))), too_old("0.168.9"));
        // Before they said where their state is.
        assert_eq!(judge(&said("x/0.169.0 (y)", Value::Null)), too_old("0.169.0"));
        for other in [
            Value::Null,
            json!({}),
            json!({ "id": 0, "result": {} }),
            json!({ "id": 1, "result": { "userAgent": "x/0.169.0", "codexHome": "/c" } }),
            json!({ "id": 0, "error": { "code": -32601, "message": "no such method" } }),
            said("nothing", Value::Null),
        ] {
            assert_eq!(judge(&other), Err(Stranger::NotCodex), "{other}");
        }
        let busy = json!({ "id": 0, "error": { "code": -32001, "message": "Server overloaded; retry later." } });
        assert_eq!(judge(&busy), Err(Stranger::Overloaded));
    }
}
