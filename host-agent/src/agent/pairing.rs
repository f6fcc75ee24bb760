//! Pairing at the host: offers, and devices that take them up.
//!
//! An offer is one QR code and one typed code, each with a rendezvous of its own at the
//! relay; whichever is used first ends both. The relay counts nothing that matters: here the
//! host itself counts tries with a wrong code and ends the offer after [`MAX_FAILURES`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reachback_proto::control::MAX_DEVICES;
use reachback_proto::crypto::keys::{KeyError, StaticKey};
use reachback_proto::ids::{PublicKey, RelayId, RendezvousId};
use reachback_proto::pairing::{
    Fresh, HostSide, Name, Origin, PairingError, PairingResponder, PairingSecret, PairingUrl, PairingUrlError,
    Platform, Refusal, RelayEntry, ResponderEvent, TypedCode, WAITING_INTERVAL,
};
use reachback_proto::scope::Scope;
use ring::rand::SystemRandom;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, sleep_until, timeout, timeout_at};
use zeroize::Zeroizing;

use super::tunnel::Tunnel;
use crate::audit::{AuditError, AuditLog, Entry, What};
use crate::link::handshake::{BlockStream, HANDSHAKE_TIMEOUT, HandshakeFailed};
use crate::state::devices::{ChangeError, Device, DeviceStore};
use crate::state::timestamp::Timestamp;

/// How long an offer stands.
pub(crate) const OFFER_TIME: Duration = Duration::from_secs(300);
/// Tries with a wrong code, after which an offer ends.
pub(crate) const MAX_FAILURES: u32 = 5;
/// How long after its end a pairing may still say that it has ended.
const LAST_WORD: Duration = Duration::from_secs(1);
/// How long the relay may take to put the new device list in force.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the relay may take to open a rendezvous: dialling it again included, should the tunnel be down.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);

/// What an offer's maker wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OfferOptions {
    /// What a device that scanned the QR code may do.
    pub qr_scope: Scope,
    /// What a device that typed the code may do.
    pub code_scope: Scope,
    /// For how long it stands.
    pub time: Duration,
}

impl Default for OfferOptions {
    /// `approve` for who was near enough to scan, `steer` for who typed; five minutes.
    fn default() -> Self {
        Self { qr_scope: Scope::Approve, code_scope: Scope::Steer, time: OFFER_TIME }
    }
}

/// Something that happens to an offer.
#[derive(Debug)]
pub(crate) enum OfferEvent {
    /// A device waits: the person types its digits, or says no. Dropping the answer says no.
    DeviceWaits {
        /// What it calls itself.
        name: Name,
        /// What it runs on.
        platform: Platform,
        /// What it may do, unless the person says otherwise.
        scope: Scope,
        /// For the person's word.
        answer: oneshot::Sender<Confirmation>,
    },
    /// A try failed; the offer still stands.
    Failed {
        /// Why.
        reason: String,
    },
    /// The device is paired; the offer is used up.
    Paired(Box<Device>),
    /// Too many tries with a wrong code: the offer is over.
    TooManyFailures,
}

/// The person's word about a device.
#[derive(Debug)]
pub(crate) enum Confirmation {
    /// The digits.
    Digits {
        /// As typed.
        typed: String,
        /// What the device may do, where the person chose that here.
        scope: Option<Scope>,
    },
    /// Let it in without comparing digits.
    WithoutDigits,
    /// No.
    Decline,
}

/// An offer that stands. Dropping it takes it back.
pub(crate) struct Offer {
    /// The QR code's text. Secret: whoever reads it can pair.
    pub url: Zeroizing<String>,
    /// The code for typing. Secret too.
    pub code: Zeroizing<String>,
    /// When it ends.
    pub until: Instant,
    /// What happens to it.
    pub events: mpsc::Receiver<OfferEvent>,
    _withdraw: Withdraw,
}

/// No offer could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum OfferError {
    /// Not connected, or it does not answer.
    #[error("not connected to the relay, so no device can pair now")]
    NoRelay,
    /// The relay said no.
    #[error("the relay did not open a rendezvous: too many may be open; wait a minute")]
    Refused,
    /// The relay's address can't be in a QR code.
    #[error(transparent)]
    Url(#[from] PairingUrlError),
    /// No randomness.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The list is full.
    #[error("this host has {MAX_DEVICES} devices, the most there can be: revoke one first")]
    Full,
}

/// Everything open for pairing.
pub(crate) struct Pairings {
    host: HostIntroduction,
    tunnel: Arc<Tunnel>,
    devices: Arc<DeviceStore>,
    audit: Arc<AuditLog>,
    open: Mutex<HashMap<RendezvousId, Arc<Rendezvous>>>,
}

/// What a device learns about this host.
#[derive(Debug, Clone)]
pub(crate) struct HostIntroduction {
    /// The host's identity key.
    pub identity: PublicKey,
    /// The host's static key.
    pub static_key: StaticKey,
    /// The host's name.
    pub name: Name,
    /// Where devices reach the relay.
    pub relay: Origin,
    /// Where the web app is, if not at the relay.
    pub web: Option<Origin>,
}

struct Rendezvous {
    secret: PairingSecret,
    scope: Scope,
    until: Instant,
    offer: Arc<OfferShared>,
}

struct OfferShared {
    events: mpsc::Sender<OfferEvent>,
    failures: Mutex<u32>,
    /// One device at a time in front of the person, and none after the first that pairs.
    turn: tokio::sync::Mutex<bool>,
}

struct Withdraw {
    pairings: Arc<Pairings>,
    rendezvous: [RendezvousId; 2],
}

impl Drop for Withdraw {
    fn drop(&mut self) {
        let pairings = Arc::clone(&self.pairings);
        let rendezvous = self.rendezvous;
        rendezvous.iter().for_each(|id| drop(pairings.lock().remove(id)));
        // Only tells the relay; here it is closed already. Without a runtime the relay's own limit ends it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                for id in rendezvous {
                    pairings.tunnel.close_pairing(id).await;
                }
            });
        }
    }
}

impl Pairings {
    /// With nothing open.
    pub(crate) fn new(
        host: HostIntroduction,
        tunnel: Arc<Tunnel>,
        devices: Arc<DeviceStore>,
        audit: Arc<AuditLog>,
    ) -> Arc<Self> {
        Arc::new(Self { host, tunnel, devices, audit, open: Mutex::default() })
    }

    /// Makes an offer and opens it at the relay.
    pub(crate) async fn offer(self: &Arc<Self>, options: OfferOptions) -> Result<Offer, OfferError> {
        if self.devices.current().devices.len() >= MAX_DEVICES {
            return Err(OfferError::Full);
        }
        let relay_key = self.relay_key().await.ok_or(OfferError::NoRelay)?;
        let rng = SystemRandom::new();
        let secret = PairingSecret::generate(&rng)?;
        let code = TypedCode::generate(&rng)?;
        let (relay, web) = (self.host.relay.clone(), self.host.web.clone());
        let url = PairingUrl::new(relay, web, secret.clone(), RelayId::of(&relay_key))?.expose();
        let (typed, origin) = (code.clone(), self.host.relay.clone());
        // A fifth of a second of computing.
        let code_secret = tokio::task::spawn_blocking(move || PairingSecret::from_code(&typed, &origin))
            .await
            .expect("the derivation does not panic");
        let until = Instant::now() + options.time;
        let (events_out, events) = mpsc::channel(8);
        let shared =
            Arc::new(OfferShared { events: events_out, failures: Mutex::new(0), turn: tokio::sync::Mutex::new(false) });
        let rendezvous = [secret.rendezvous(), code_secret.rendezvous()];
        for (secret, scope) in [(secret, options.qr_scope), (code_secret, options.code_scope)] {
            let id = secret.rendezvous();
            let entry = Rendezvous { secret, scope, until, offer: Arc::clone(&shared) };
            self.lock().insert(id, Arc::new(entry));
        }
        let withdraw = Withdraw { pairings: Arc::clone(self), rendezvous };
        for id in rendezvous {
            match timeout(OPEN_TIMEOUT, self.tunnel.open_pairing(id, until)).await {
                Ok(true) => {}
                Ok(false) => return Err(OfferError::Refused),
                Err(_) => return Err(OfferError::NoRelay),
            }
        }
        Ok(Offer { url, code: code.expose(), until, events, _withdraw: withdraw })
    }

    /// Serves a device that came to a rendezvous.
    pub(crate) async fn serve(&self, mut stream: BlockStream, preamble: [u8; 4], rendezvous: RendezvousId) {
        let Some(entry) = self.lock().get(&rendezvous).cloned() else {
            tracing::debug!("a device came to a rendezvous that is not open");
            return;
        };
        // The relay passes one circuit a rendezvous; QR code and typed code may still come together.
        let Ok(mut used) = entry.offer.turn.try_lock() else { return };
        if *used {
            return;
        }
        let deadline = tokio::time::Instant::from(entry.until) + LAST_WORD;
        match timeout_at(deadline, self.exchange(&mut stream, preamble, &entry)).await {
            Ok(Ok(device)) => {
                *used = true;
                self.settle().await;
                let _ = entry.offer.events.send(OfferEvent::Paired(Box::new(device))).await;
            }
            Ok(Err(failed)) => self.failed(&entry, failed).await,
            Err(_) => tracing::debug!("a pairing ran out of time"),
        }
    }

    async fn exchange(
        &self,
        stream: &mut BlockStream,
        preamble: [u8; 4],
        entry: &Rendezvous,
    ) -> Result<Device, ExchangeFailed> {
        let relay_key = self.relay_key().await.ok_or(HandshakeFailed::Closed)?;
        let HostIntroduction { identity, static_key, name, relay, .. } = self.host.clone();
        let relays = vec![RelayEntry { key: relay_key, origin: relay }];
        let own = HostSide { identity, static_key, name, relays, scope: entry.scope };
        let fresh = Fresh::generate(&SystemRandom::new())?;
        let mut responder = PairingResponder::start(entry.secret.clone(), preamble, own, fresh)?;
        loop {
            let block = timeout(HANDSHAKE_TIMEOUT, stream.block()).await.map_err(|_| HandshakeFailed::TimedOut)??;
            let step = responder.receive(&block)?;
            if !step.send.is_empty() {
                stream.write(&step.send).await?;
            }
            match step.event {
                None => {}
                Some(ResponderEvent::DeviceWaits { name, platform, .. }) => {
                    self.confirm(stream, &mut responder, entry, name, platform).await?;
                }
                Some(ResponderEvent::WrongDigits) => return Err(ExchangeFailed::WrongDigits),
                Some(ResponderEvent::Paired(paired)) => {
                    let now = Timestamp::now();
                    let device = Device {
                        device_id: paired.id(),
                        identity: paired.identity,
                        static_key: paired.static_key,
                        psk: paired.psk.clone(),
                        name: paired.name.as_str().to_owned(),
                        platform: paired.platform.as_str().to_owned(),
                        scope: paired.scope,
                        paused: false,
                        expired: false,
                        revoked_at_relay: false,
                        unseen_hours: 0,
                        added_at: now,
                        last_seen: now,
                    };
                    self.add(&device, now)?;
                    return Ok(device);
                }
            }
        }
    }

    /// Puts a device on the list and writes that down; one that can't be written down is taken off again.
    fn add(&self, device: &Device, now: Timestamp) -> Result<(), ExchangeFailed> {
        self.devices.add(device.clone(), now)?;
        let what = What::Paired { scope: device.scope };
        let recorded = self.audit.write(&Entry { at: now, device_id: device.device_id, by: None, what });
        if recorded.is_err() {
            self.devices.remove(device.device_id, now)?;
        }
        Ok(recorded?)
    }

    /// Asks the person, while listening for a device that gives up.
    async fn confirm(
        &self,
        stream: &mut BlockStream,
        responder: &mut PairingResponder,
        entry: &Rendezvous,
        name: Name,
        platform: Platform,
    ) -> Result<(), ExchangeFailed> {
        let until = tokio::time::Instant::from(entry.until);
        loop {
            let (answer, word) = oneshot::channel();
            let (name, platform, scope) = (name.clone(), platform.clone(), entry.scope);
            let waits = OfferEvent::DeviceWaits { name, platform, scope, answer };
            if entry.offer.events.send(waits).await.is_err() {
                return self.refuse(stream, responder, Refusal::Declined).await;
            }
            tokio::pin!(word);
            let word = loop {
                tokio::select! {
                    word = &mut word => match word {
                        Ok(word) => break word,
                        // Who asked the person goes home when the code runs out, perhaps a moment before this does.
                        Err(_) if tokio::time::Instant::now() + LAST_WORD >= until => {
                            return self.refuse(stream, responder, Refusal::Expired).await;
                        }
                        Err(_) => break Confirmation::Decline,
                    },
                    () = sleep_until(until) => return self.refuse(stream, responder, Refusal::Expired).await,
                    // Before the person has spoken the device has nothing to say but that it gives up.
                    block = stream.block() => {
                        if let Ok(block) = block {
                            responder.receive(&block)?;
                        }
                        return Err(ExchangeFailed::GaveUp);
                    }
                    () = sleep(WAITING_INTERVAL) => stream.write(&responder.waiting()?).await?,
                }
            };
            let step = match word {
                Confirmation::Digits { typed, scope } => {
                    // Each time: with what is not six digits a scope may have come, and this time none.
                    responder.grant(scope.unwrap_or(entry.scope))?;
                    match responder.confirm(&typed) {
                        Err(PairingError::NotSixDigits) => continue,
                        step => step?,
                    }
                }
                Confirmation::WithoutDigits => responder.confirm_without_digits()?,
                Confirmation::Decline => return self.refuse(stream, responder, Refusal::Declined).await,
            };
            stream.write(&step.send).await?;
            return match step.event {
                Some(ResponderEvent::WrongDigits) => Err(ExchangeFailed::WrongDigits),
                _ => Ok(()),
            };
        }
    }

    async fn refuse(
        &self,
        stream: &mut BlockStream,
        responder: &mut PairingResponder,
        refusal: Refusal,
    ) -> Result<(), ExchangeFailed> {
        if let Some(bytes) = responder.refuse(refusal) {
            let _ = stream.write(&bytes).await;
        }
        Err(ExchangeFailed::Refused(refusal))
    }

    async fn failed(&self, entry: &Rendezvous, failed: ExchangeFailed) {
        tracing::info!(error = %failed, "a pairing failed");
        let counts = matches!(failed, ExchangeFailed::Pairing(PairingError::WrongSecret) | ExchangeFailed::WrongDigits);
        let over = {
            let mut failures = entry.offer.failures.lock().unwrap_or_else(PoisonError::into_inner);
            *failures += u32::from(counts);
            *failures >= MAX_FAILURES
        };
        let event = if over { OfferEvent::TooManyFailures } else { OfferEvent::Failed { reason: failed.to_string() } };
        if over {
            self.lock().retain(|_, other| !Arc::ptr_eq(&other.offer, &entry.offer));
        }
        let _ = entry.offer.events.send(event).await;
    }

    /// Waits until the relay knows the new device, so that its first connection is let in.
    async fn settle(&self) {
        let version = self.devices.current().version;
        let mut stored = self.tunnel.stored();
        let _ = timeout(SETTLE_TIMEOUT, stored.wait_for(|stored| *stored >= version)).await;
    }

    async fn relay_key(&self) -> Option<PublicKey> {
        let mut key = self.tunnel.relay_key();
        let known = timeout(HANDSHAKE_TIMEOUT, key.wait_for(Option::is_some)).await.ok()?.ok()?;
        *known
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<RendezvousId, Arc<Rendezvous>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why the host refused a device, in words for the person at the host.
fn refused(refusal: Refusal) -> String {
    match refusal {
        Refusal::Declined => "it was declined here".to_owned(),
        other => other.to_string(),
    }
}

#[derive(Debug, thiserror::Error)]
enum ExchangeFailed {
    #[error(transparent)]
    Link(#[from] HandshakeFailed),
    #[error(transparent)]
    Pairing(#[from] PairingError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("the device gave up")]
    GaveUp,
    #[error("the digits typed here are not the ones on the device")]
    WrongDigits,
    #[error("{}", refused(*.0))]
    Refused(Refusal),
    #[error(transparent)]
    Store(#[from] ChangeError),
    #[error(transparent)]
    Audit(#[from] AuditError),
}

#[cfg(test)]
mod tests {
    use reachback_proto::crypto::keys::Identity;

    use super::*;
    use crate::audit;

    /// Of a home that no relay is connected to.
    fn pairings(home: &std::path::Path) -> Arc<Pairings> {
        let rng = SystemRandom::new();
        let devices = Arc::new(DeviceStore::open(home, Timestamp::now()).unwrap());
        let identity = Identity::generate(&rng).unwrap().public();
        let host = HostIntroduction {
            identity,
            static_key: StaticKey::generate(&rng).unwrap(),
            name: Name::new("host").unwrap(),
            relay: "https://relay.example:443".parse().unwrap(),
            web: None,
        };
        let audit = Arc::new(AuditLog::open(home).unwrap());
        Pairings::new(host, Arc::new(Tunnel::deaf(identity)), devices, audit)
    }

    #[tokio::test]
    async fn a_device_is_written_down_once_it_is_on_the_list_and_is_not_on_it_without() {
        let home = tempfile::tempdir().unwrap();
        let pairings = pairings(home.path());
        let now = Timestamp::now();
        let [first, second] = ["first", "second"].map(|name| Device::for_test(name, Scope::Approve, now));
        pairings.add(&first, now).unwrap();
        assert!(pairings.add(&first, now).is_err(), "it is there already");
        let (lines, _) = audit::read(home.path()).unwrap();
        let paired = |device: &Device| {
            let what = What::Paired { scope: Scope::Approve };
            audit::Line::Device(Entry { at: now, device_id: device.device_id, by: None, what })
        };
        assert_eq!(lines, [paired(&first)]);

        let owner = home.path().join("host/audit/owner.jsonl");
        std::fs::remove_file(&owner).unwrap();
        std::fs::create_dir(&owner).unwrap();
        assert!(pairings.add(&second, now).is_err(), "nobody can read that it was paired");
        let list = pairings.devices.current();
        assert_eq!(list.devices.iter().map(|device| device.device_id).collect::<Vec<_>>(), [first.device_id]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_relay_that_opens_nothing_is_not_waited_for() {
        let home = tempfile::tempdir().unwrap();
        let pairings = pairings(home.path());
        let offer = timeout(OFFER_TIME, pairings.offer(OfferOptions::default())).await;
        assert!(matches!(offer, Ok(Err(OfferError::NoRelay))), "the person waits in front of nothing");
        assert!(pairings.lock().is_empty(), "a code that nobody was shown is open");
    }
}
