//! OpenAI's own remote control of a host's Codex, for an owner who wants its app beside Reachback.
//!
//! It is Codex's business: the agent asks it to turn that on, to pair and to list. What
//! such a device does there goes past Reachback, so nothing of this is a device's to ask,
//! and turning it on is the owner's word each time. Codex keeps it on after that.

use std::sync::Arc;
use std::time::Duration;

use reachback_proto::words::{printable, quote};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::environments::Environment;
use super::errand::{Errand, ErrandError};
use crate::audit::{AuditError, AuditLog, CodexChange, CodexEntry};
use crate::codex::Adapter;
use crate::local_api::events::{ChatgptDevice, ChatgptRemote};
use crate::local_api::{Event, Exchange, Failure, Response, Shown};
use crate::state::timestamp::Timestamp;

/// How long Codex may take until it is connected there: an enrolment and a WebSocket, tried again after some 10 s.
const CONNECTING: Duration = Duration::from_secs(45);
/// Between two questions whether it is connected.
const LOOK: Duration = Duration::from_millis(250);
/// Between two questions whether a code was taken: each is a request at OpenAI.
const ASK: Duration = Duration::from_secs(2);
/// The longest code that is shown, in bytes: a link with a token fits.
const MAX_CODE: usize = 2048;
/// The most characters that are told of a device's name.
const MAX_NAME: usize = 200;
/// Devices of one page, and pages that are read.
const PAGE: usize = 100;
const PAGES: usize = 20;

/// What an owner does with it.
pub(super) struct ChatgptChanges<'a> {
    pub(super) environment: &'a Arc<Environment>,
    pub(super) audit: &'a Arc<AuditLog>,
}

/// What Codex says of its remote control.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    status: ChatgptRemote,
    environment_id: Option<String>,
}

/// A pairing, in Codex's words.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pairing {
    pairing_code: String,
    manual_pairing_code: Option<String>,
    /// Seconds since 1970.
    expires_at: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Claimed {
    claimed: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Clients {
    data: Vec<Client>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Client {
    client_id: String,
    display_name: Option<String>,
    platform: Option<String>,
    /// Seconds since 1970.
    last_seen_at: Option<u64>,
}

impl ChatgptChanges<'_> {
    /// Turns it on, and pairs a device with it there: an event for each code, then [`Response::ChatgptPaired`].
    ///
    /// Where it was off and no device comes, it is off again, also when whoever asked goes away.
    pub(super) async fn pair(&self, patience: Duration, exchange: &Exchange) -> Result<Response, Failure> {
        let mut codex = self.open().await?;
        let was_off = status(&mut codex).await?.status == ChatgptRemote::Disabled;
        let (environment, audit) = (Arc::clone(self.environment), Arc::clone(self.audit));
        let mut undo = Undo { environment, audit, is_due: false };
        let paired = async {
            if was_off {
                undo.turn_on(&mut codex).await?;
            }
            see_through(&mut codex, patience, exchange).await
        };
        let paired = paired.await;
        match paired {
            Ok(()) => undo.is_due = false,
            Err(_) => undo.now(&mut codex).await,
        }
        paired.map(|()| Response::ChatgptPaired)
    }

    /// Turns it off, for good: Codex keeps that too.
    pub(super) async fn turn_off(&self) -> Result<Response, Failure> {
        let mut codex = self.open().await?;
        let was_on = status(&mut codex).await?.status != ChatgptRemote::Disabled;
        turn_off(&mut codex, self.environment, self.audit).await?;
        Ok(Response::ChatgptOff { was_on })
    }

    /// The devices that were paired there: an event each.
    pub(super) async fn devices(&self, exchange: &Exchange) -> Result<Response, Failure> {
        let mut codex = self.open().await?;
        for device in self.list(&mut codex).await? {
            let event = Event::ChatgptDevice(device);
            exchange.events.send(event).await.map_err(|_| Failure::new("gone", "whoever asked is gone"))?;
        }
        Ok(Response::Done)
    }

    /// Has one that was paired there revoked, by its name, its id, or the start of that.
    pub(super) async fn revoke(&self, query: &str) -> Result<Response, Failure> {
        let mut codex = self.open().await?;
        let all = self.list(&mut codex).await?;
        let is_exact = |device: &&ChatgptDevice| device.id == query || device.name.as_deref() == Some(query);
        let mut found: Vec<_> = all.iter().filter(is_exact).collect();
        if found.is_empty() {
            found = all.iter().filter(|device| device.id.starts_with(query)).collect();
        }
        let [device] = found[..] else {
            let message = match found.is_empty() {
                true => format!("OpenAI's remote control knows no device {}", quote(query)),
                false => format!("{} means more than one device", quote(query)),
            };
            return Err(Failure::new("no_such_device", message).fix("`reachback codex chatgpt-devices` lists them"));
        };
        let Status { environment_id, .. } = status(&mut codex).await?;
        let params = json!({ "environmentId": environment_id, "clientId": device.id });
        call::<Value>(&mut codex, "remoteControl/client/revoke", params).await?;
        Ok(Response::ChatgptRevoked(device.clone()))
    }

    async fn list(&self, codex: &mut Errand) -> Result<Vec<ChatgptDevice>, Failure> {
        // Codex asks there with the account's own sign-in, but knows which host this is only while it is on.
        let Status { environment_id: Some(environment), .. } = status(codex).await? else {
            return Err(Failure::new("chatgpt_remote_off", "OpenAI's remote control is off at this host's Codex")
                .fix("nothing reaches it from there; to turn it on: reachback codex chatgpt-pair"));
        };
        let (mut devices, mut cursor) = (Vec::new(), None::<String>);
        for _ in 0..PAGES {
            let params = json!({ "environmentId": environment, "limit": PAGE, "cursor": cursor });
            let Clients { data, next_cursor } = call(codex, "remoteControl/client/list", params).await?;
            devices.extend(data.into_iter().map(|client| ChatgptDevice {
                id: client.client_id,
                name: client.display_name.map(clipped),
                platform: client.platform.map(clipped),
                last_seen: client.last_seen_at.map(Timestamp::from_unix),
            }));
            cursor = next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        Ok(devices)
    }

    async fn open(&self) -> Result<Errand, Failure> {
        let environment = self.environment;
        if environment.codex.adapter() == Adapter::RemoteControl {
            return Err(Failure::new(
                "codex_way",
                "the agent reaches Codex by its remote control, which can lead to one place only: here, not to OpenAI's",
            )
            .fix("stop the agent, and start it so: reachback host --codex app-server (or reachback up); \
                  the threads of a Codex App that was led here are then out of reach of your devices, and `reachback codex \
                  restore` gives the App back to OpenAI's remote control"));
        }
        Errand::open(environment).await.map_err(|_| {
            Failure::new("codex_not_ready", "the agent's Codex does not answer")
                .fix("`reachback status` says how it is")
        })
    }
}

/// What to know while it is on, whoever turned it on.
pub(super) fn is_on_notice() -> Failure {
    Failure::new(
        "chatgpt_remote_on",
        "OpenAI's remote control is on at this host's Codex: devices that were paired there work past this host's \
         workspaces, scopes and audit log",
    )
    .fix("see them: reachback codex chatgpt-devices; turn it off: reachback codex chatgpt-off")
}

/// Shows codes until a device has taken one.
async fn see_through(codex: &mut Errand, patience: Duration, exchange: &Exchange) -> Result<(), Failure> {
    connected(codex).await?;
    let end = Instant::now() + patience;
    loop {
        let pairing: Pairing = call(codex, "remoteControl/pairing/start", json!({ "manualCode": true })).await?;
        let code = pairing.manual_pairing_code.clone();
        let event = shown(&pairing)?;
        exchange.events.send(event).await.map_err(|_| Failure::new("gone", "whoever asked is gone"))?;
        let asked = match &code {
            Some(code) => json!({ "manualPairingCode": code }),
            None => json!({ "pairingCode": pairing.pairing_code }),
        };
        while Timestamp::now().unix() < pairing.expires_at && Instant::now() < end {
            sleep(ASK).await;
            match codex.call("remoteControl/pairing/status", &asked).await {
                Ok(answer) => {
                    if serde_json::from_value(answer).is_ok_and(|Claimed { claimed }| claimed) {
                        return Ok(());
                    }
                }
                // It may be away for a moment; a code that is over is replaced below.
                Err(ErrandError::Refused(_)) => {}
                Err(ErrandError::Lost) => return Err(lost()),
            }
        }
        if Instant::now() >= end {
            return Err(Failure::new("chatgpt_pairing_expired", "no device came in time")
                .fix("run `reachback codex chatgpt-pair` again"));
        }
        // Codes that are over at once must not become a storm.
        sleep(ASK).await;
    }
}

/// Turns off again what was turned on here, unless a device has come.
struct Undo {
    environment: Arc<Environment>,
    audit: Arc<AuditLog>,
    is_due: bool,
}

impl Undo {
    async fn turn_on(&mut self, codex: &mut Errand) -> Result<(), Failure> {
        // What gives is written first, or not done.
        record(&self.audit, &self.environment, CodexChange::ChatgptRemoteOn).map_err(|error| {
            Failure::new("audit", error.to_string()).fix("make room on the disk: nothing is given without a trace")
        })?;
        self.is_due = true;
        match codex.call("remoteControl/enable", &json!({})).await {
            Ok(_) => Ok(()),
            Err(ErrandError::Refused(reason)) => {
                self.is_due = false;
                self.audit.holds_anyway(record(&self.audit, &self.environment, CodexChange::ChatgptRemoteOff));
                Err(refused(&reason))
            }
            Err(ErrandError::Lost) => Err(lost()),
        }
    }

    async fn now(&mut self, codex: &mut Errand) {
        if self.is_due && turn_off(codex, &self.environment, &self.audit).await.is_ok() {
            self.is_due = false;
        }
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if !self.is_due {
            return;
        }
        let (environment, audit) = (Arc::clone(&self.environment), Arc::clone(&self.audit));
        tokio::spawn(async move {
            let off = async {
                let mut codex = Errand::open(&environment).await.map_err(|_| lost())?;
                turn_off(&mut codex, &environment, &audit).await
            };
            // Codex's own words are not for a log.
            if let Err(Failure { code, .. }) = off.await {
                tracing::warn!(code, "openai's remote control could not be turned off again");
            }
        });
    }
}

async fn turn_off(codex: &mut Errand, environment: &Environment, audit: &AuditLog) -> Result<(), Failure> {
    call::<Value>(codex, "remoteControl/disable", json!({})).await?;
    // What takes away is done first, whether or not it can be written.
    audit.holds_anyway(record(audit, environment, CodexChange::ChatgptRemoteOff));
    Ok(())
}

fn record(audit: &AuditLog, environment: &Environment, event: CodexChange) -> Result<(), AuditError> {
    audit.write_codex(&CodexEntry { at: Timestamp::now(), event, environment: environment.name.clone(), by: None })
}

/// Waits until Codex is connected there.
async fn connected(codex: &mut Errand) -> Result<(), Failure> {
    let mut last = ChatgptRemote::Connecting;
    let connecting = async {
        loop {
            last = status(codex).await?.status;
            match last {
                ChatgptRemote::Connected => return Ok(()),
                ChatgptRemote::Disabled => {
                    return Err(Failure::new("chatgpt_remote_off", "somebody turned it off meanwhile"));
                }
                ChatgptRemote::Connecting | ChatgptRemote::Errored => sleep(LOOK).await,
            }
        }
    };
    match timeout(CONNECTING, connecting).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::new(
            "chatgpt_unreachable",
            format!("Codex does not get through to OpenAI's remote control in {} s", CONNECTING.as_secs()),
        )
        .fix("see whether this host reaches chatgpt.com, and whether Codex is signed in: codex login status")),
    }
}

async fn status(codex: &mut Errand) -> Result<Status, Failure> {
    call(codex, "remoteControl/status/read", Value::Null).await
}

/// Calls a method of Codex's remote control.
async fn call<T: DeserializeOwned>(codex: &mut Errand, method: &str, params: Value) -> Result<T, Failure> {
    match codex.call(method, &params).await {
        Ok(answer) => serde_json::from_value(answer).map_err(|_| {
            Failure::new("codex_malformed", format!("Codex answers {method} in a form that this version does not know"))
                .fix("update Reachback")
        }),
        Err(ErrandError::Refused(reason)) => Err(refused(&reason)),
        Err(ErrandError::Lost) => Err(lost()),
    }
}

fn refused(reason: &str) -> Failure {
    let failure = Failure::new("codex_refuses", format!("Codex refuses: {}", quote(reason)));
    // Its words, on 0.169.0.
    if reason.contains("requires ChatGPT authentication") {
        return failure.fix("OpenAI's remote control takes a sign-in with ChatGPT, not an API key: codex login");
    }
    failure.fix("`codex login status` says how Codex is signed in")
}

fn lost() -> Failure {
    Failure::new("codex_lost", "Codex went away meanwhile")
        .fix("`reachback status` says how it is, and whether OpenAI's remote control is on; then try again")
}

fn clipped(words: String) -> String {
    match words.char_indices().nth(MAX_NAME) {
        Some((end, _)) => words[..end].to_owned(),
        None => words,
    }
}

/// What a person is shown of a pairing.
fn shown(pairing: &Pairing) -> Result<Event, Failure> {
    let Pairing { pairing_code, manual_pairing_code, expires_at } = pairing;
    let longest = manual_pairing_code.as_ref().map_or(0, String::len).max(pairing_code.len());
    if longest > MAX_CODE {
        return Err(Failure::new("codex_malformed", "Codex shows a pairing code that is too long"));
    }
    // What the app's own QR code says is not known: one is drawn only of what is a link by itself.
    let is_link = pairing_code.to_ascii_lowercase().starts_with("https://");
    let code = manual_pairing_code.as_ref().or((!is_link).then_some(pairing_code));
    Ok(Event::ChatgptPairing {
        code: code.map(|code| Shown(printable(code))),
        url: is_link.then(|| Shown(printable(pairing_code))),
        expires_at: Timestamp::from_unix(*expires_at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairing(code: &str, manual: Option<&str>) -> Pairing {
        Pairing { pairing_code: code.into(), manual_pairing_code: manual.map(str::to_owned), expires_at: 7 }
    }

    #[test]
    fn a_code_is_typed_and_only_a_link_is_drawn() {
        let seen = |code: &str, manual: Option<&str>| match shown(&pairing(code, manual)).unwrap() {
            Event::ChatgptPairing { code, url, .. } => (code.map(|code| code.0), url.map(|url| url.0)),
            other => panic!("{other:?}"),
        };
        assert_eq!(seen("pair-1", Some("LAB4-2345")), (Some("LAB4-2345".into()), None));
        assert_eq!(seen("pair-1", None), (Some("pair-1".into()), None));
        assert_eq!(seen("https://x/y", Some("AB")), (Some("AB".into()), Some("https://x/y".into())));
        assert_eq!(seen("https://x/y", None), (None, Some("https://x/y".into())));
        assert_eq!(seen("a\u{1b}[2J", None), (Some("a?[2J".into()), None));
        assert!(shown(&pairing(&"x".repeat(MAX_CODE + 1), None)).is_err());
    }

    #[test]
    fn a_refusal_says_what_kind_of_sign_in_it_takes() {
        let failure = refused("remote control requires ChatGPT authentication");
        assert!(failure.fix.unwrap().contains("codex login"));
    }
}
