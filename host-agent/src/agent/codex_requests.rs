//! What a Codex asks that pairs and lists devices in ways of its own, as the remote control of its App does.
//!
//! Its pairing becomes one of this host: the code that it shows is one for
//! `reachback join` and the phone. But who asked is not known, and a code that gets
//! into the wrong hands is not worth a host. So a device is let in as everywhere:
//! by a person at the host, who types its digits at `reachback pair --waiting`.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reachback_proto::ids::DeviceId;
use reachback_proto::pairing::{Name, Platform};
use reachback_proto::words::quote;
use tokio::sync::oneshot;
use tokio::time::sleep_until;
use tokio_util::task::AbortOnDropHandle;
use zeroize::Zeroizing;

use super::changes::{DeviceChangeError, DeviceChanges};
use super::pairing::{Offer, OfferEvent, OfferOptions, Pairings};
use crate::codex::remote_control::control::{Client, ClientPage, Host, PairingCode, Unavailable};
use crate::local_api::{Event, Failure};
use crate::state::devices::{ChangeError, Device};
use crate::state::timestamp::Timestamp;

/// Of so many pairings it is told whether a device took them. Codex asks about the one that it shows.
const REMEMBERED: usize = 16;

/// See the module's header.
pub(crate) struct CodexRequests {
    changes: DeviceChanges,
    pairings: Arc<Pairings>,
    /// One at a time is opened: each takes a fifth of a second of computing, and whoever reaches Codex may ask.
    opening: tokio::sync::Mutex<()>,
    opened: Mutex<Opened>,
}

/// The pairings that Codex opened.
#[derive(Default)]
struct Opened {
    standing: Option<Standing>,
    /// The last ones, oldest first.
    remembered: VecDeque<Remembered>,
}

/// One that waits for a device, or for the person.
struct Standing {
    /// Whether a device waits for its digits.
    has_device: Arc<AtomicBool>,
    take: oneshot::Sender<oneshot::Sender<Taken>>,
    /// Takes the offer back when it is dropped.
    watch: AbortOnDropHandle<()>,
}

struct Remembered {
    url: Zeroizing<String>,
    code: Zeroizing<String>,
    claim: Claim,
}

/// A pairing that the person sees through.
pub(crate) struct Taken {
    /// As Codex showed it.
    pub offer: Offer,
    /// A device that waits for its digits already.
    pub waiting: Option<OfferEvent>,
    /// To be told when that has paired.
    pub claim: Claim,
}

/// Whether a device has taken a code.
#[derive(Clone, Default)]
pub(crate) struct Claim(Arc<AtomicBool>);

impl Claim {
    /// One has.
    pub(crate) fn made(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl CodexRequests {
    pub(crate) fn new(changes: DeviceChanges, pairings: Arc<Pairings>) -> Self {
        Self { changes, pairings, opening: tokio::sync::Mutex::default(), opened: Mutex::default() }
    }

    /// The pairing that stands, for the person who sees it through. `None` where none stands.
    pub(crate) async fn take_over(&self) -> Option<Taken> {
        let Standing { take, watch, .. } = self.lock().standing.take()?;
        let (sender, taken) = oneshot::channel();
        take.send(sender).ok()?;
        let taken = taken.await.ok();
        drop(watch);
        taken
    }

    async fn open(&self) -> Result<PairingCode, Unavailable> {
        let _one = self.opening.lock().await;
        self.is_free()?;
        // The relay holds a few for a host, and this one is about to be replaced.
        self.withdraw().await;
        let offer = self.pairings.offer(OfferOptions::default()).await;
        let offer = offer.map_err(|error| Unavailable(format!("This host can't pair: {error}")))?;
        // A device may have come meanwhile to the one that stands.
        self.is_free()?;
        let (url, code) = (offer.url.clone(), offer.code.clone());
        let expires_at = Timestamp::now().after(offer.until.saturating_duration_since(Instant::now()));
        self.changes.events.send(Event::Notice(
            Failure::new("pairing_opened_by_codex", "Codex shows a code that pairs a device with this host")
                .fix("type the device's digits at: reachback pair --waiting"),
        ));
        let claim = Claim::default();
        let remembered = Remembered { url: url.clone(), code: code.clone(), claim: claim.clone() };
        let has_device = Arc::<AtomicBool>::default();
        let (take, taken) = oneshot::channel();
        let watching = self.watch(offer, claim, Arc::clone(&has_device), taken);
        let watch = AbortOnDropHandle::new(tokio::spawn(watching));
        let mut opened = self.lock();
        opened.standing = Some(Standing { has_device, take, watch });
        opened.remembered.push_back(remembered);
        if opened.remembered.len() > REMEMBERED {
            opened.remembered.pop_front();
        }
        Ok(PairingCode { pairing_code: url.to_string(), manual_pairing_code: code.to_string(), expires_at })
    }

    /// Takes back the pairing that stands.
    async fn withdraw(&self) {
        let standing = self.lock().standing.take();
        if let Some(Standing { watch, .. }) = standing {
            watch.abort();
            // It has the offer until it has ended.
            let _ = watch.await;
        }
    }

    /// That no device waits, whose pairing another one would end.
    fn is_free(&self) -> Result<(), Unavailable> {
        let has_device = |standing: &Standing| standing.has_device.load(Ordering::Relaxed);
        if self.lock().standing.as_ref().is_some_and(has_device) {
            let what = "A device waits for its digits: type them on the host, at `reachback pair --waiting`";
            return Err(Unavailable(what.to_owned()));
        }
        Ok(())
    }

    /// Keeps an offer until a person takes it over, and says so when a device has come.
    fn watch(
        &self,
        mut offer: Offer,
        claim: Claim,
        has_device: Arc<AtomicBool>,
        mut taken: oneshot::Receiver<oneshot::Sender<Taken>>,
    ) -> impl Future<Output = ()> + use<> {
        let events = self.changes.events.clone();
        async move {
            let mut waiting = None;
            loop {
                tokio::select! {
                    // Its answer can't be given any more when the device has gone.
                    () = gone(&mut waiting) => {
                        has_device.store(false, Ordering::Relaxed);
                        waiting = None;
                    }
                    event = offer.events.recv(), if waiting.is_none() => match event {
                        Some(OfferEvent::DeviceWaits { name, platform, scope, answer }) => {
                            events.send(Event::Notice(waits(&name, &platform)));
                            has_device.store(true, Ordering::Relaxed);
                            waiting = Some(OfferEvent::DeviceWaits { name, platform, scope, answer });
                        }
                        Some(OfferEvent::Failed { .. }) => {}
                        Some(OfferEvent::Paired(_) | OfferEvent::TooManyFailures) | None => return,
                    },
                    person = &mut taken => {
                        // Who took it over may be gone already: then it is taken back.
                        if let Ok(person) = person {
                            let _ = person.send(Taken { offer, waiting, claim });
                        }
                        return;
                    }
                    () = sleep_until(offer.until.into()) => return,
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host for CodexRequests {
    fn pair(&self) -> BoxFuture<'_, Result<PairingCode, Unavailable>> {
        self.open().boxed()
    }

    fn claimed<'a>(&'a self, code: &'a str) -> BoxFuture<'a, bool> {
        let opened = self.lock();
        let is_it = |known: &&Remembered| *known.code == code || *known.url == code;
        let is_claimed = opened.remembered.iter().find(is_it).is_some_and(|it| it.claim.0.load(Ordering::Relaxed));
        std::future::ready(is_claimed).boxed()
    }

    fn clients<'a>(&'a self, limit: usize, cursor: Option<&'a str>) -> BoxFuture<'a, Result<ClientPage, Unavailable>> {
        let list = self.changes.devices.current();
        let after = cursor.map(|cursor| list.devices.iter().position(|device| device.device_id.to_string() == cursor));
        // One that was revoked meanwhile is not found: from the start then.
        let from = after.flatten().map_or(0, |at| at + 1);
        let items: Vec<_> = list.devices.iter().skip(from).take(limit).map(shown).collect();
        let is_more = from + items.len() < list.devices.len();
        let cursor = items.last().filter(|_| is_more).map(|last| last.client_id.clone());
        std::future::ready(Ok(ClientPage { items, cursor })).boxed()
    }

    fn revoke<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<bool, Unavailable>> {
        async move {
            let Ok(id) = client_id.parse::<DeviceId>() else { return Ok(false) };
            match self.changes.revoke(id, None).await {
                Ok(_) => Ok(true),
                Err(DeviceChangeError::Change(ChangeError::Unknown(_))) => Ok(false),
                Err(error) => Err(Unavailable(format!("It was not revoked for good: {error}"))),
            }
        }
        .boxed()
    }
}

/// Ends when a device that waits has given up.
async fn gone(waiting: &mut Option<OfferEvent>) {
    match waiting {
        Some(OfferEvent::DeviceWaits { answer, .. }) => answer.closed().await,
        _ => pending().await,
    }
}

fn waits(name: &Name, platform: &Platform) -> Failure {
    let (name, platform) = (quote(name.as_str()), quote(platform.as_str()));
    Failure::new("pairing_waits", format!("{name} ({platform}) took the code that Codex shows, and waits"))
        .fix("type the six digits that it shows at: reachback pair --waiting")
}

fn shown(device: &Device) -> Client {
    Client {
        client_id: device.device_id.to_string(),
        display_name: Some(device.name.clone()),
        platform: Some(device.platform.clone()),
        last_seen_at: Some(device.last_seen),
        ..Client::default()
    }
}
