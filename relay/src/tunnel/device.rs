//! A device: waits for its host, hears whether it is there, gets a circuit. Or pairs.
//!
//! A device that wants a circuit sends nothing before `Attached`: what it sent
//! would be the circuit's, and the relay could not tell. So the relay asks such
//! links for signs of life in the transport, with WebSocket pings. A page in a
//! browser sees none of those, so `Ping` goes with each: it tells that the relay
//! is there, and has no answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use reachback_proto::close::CloseCode;
use reachback_proto::control::{CircuitOrigin, PeerToRelay, RelayToPeer};
use reachback_proto::ids::{DeviceId, HostId};
use tokio::time::{Instant, sleep_until};
use tracing::Instrument;

use super::circuit::{self, Ends};
use super::ending::{Ending, finish};
use super::greet::{DeviceHello, PairingHello, welcome};
use crate::directory::{DeviceEntry, PairingEntry};
use crate::hub::Claim;
use crate::limits::{Limit, Limits, ms};
use crate::link::{Link, Received, ping, send};
use crate::refusal::Refusal;
use crate::state::State;

/// Serves a device from its checked hello on.
pub(super) async fn serve(state: &Arc<State>, mut link: Link, hello: Box<DeviceHello>) {
    let DeviceHello { key, host, watch_only, .. } = *hello;
    let span = tracing::debug_span!("device", host = %host.short(), id = %DeviceId::of(&key).short());
    async {
        let entry = match Box::pin(admit(state, &mut link, hello)).await {
            Ok(entry) => entry,
            Err(ending) => return finish(state, link, ending).await,
        };
        let _open = state.metrics.link(if watch_only { "watch" } else { "device" });
        let wait = Wait { host, announce: true, attach: !watch_only, until: None };
        attach(state, link, entry, wait, CircuitOrigin::Device { key }).await;
    }
    .instrument(span)
    .await;
}

/// Serves a device that wants to pair.
pub(super) async fn serve_pairing(state: &Arc<State>, mut link: Link, hello: Box<PairingHello>, from: IpAddr) {
    let rendezvous = hello.rendezvous;
    let (pairing, entry) = match Box::pin(admit_pairing(state, &mut link, hello, from)).await {
        Ok(admitted) => admitted,
        Err(ending) => return finish(state, link, ending).await,
    };
    let _open = state.metrics.link("pairing");
    let until = Some(Instant::now() + ms(state.limits().pairing_attach_ms));
    let wait = Wait { host: pairing.host, announce: false, attach: true, until };
    attach(state, link, entry, wait, CircuitOrigin::Pairing { rendezvous }).await;
}

async fn admit(state: &State, link: &mut Link, hello: Box<DeviceHello>) -> Result<DeviceEntry, Ending> {
    // A host that never enrolled has no list: to a stranger the two look the same.
    let seen = state.store.last_seen(hello.host).await.map_err(Refusal::from)?.unwrap_or(0);
    let entry = state.directory.join(hello.host, Some(hello.key), seen).await?;
    if !state.store.lists_device(hello.host, hello.key).await.map_err(Refusal::from)? {
        let what = "this host does not list this device: pair again";
        return Err(Refusal::new(CloseCode::Unauthorized, what).into());
    }
    welcome(state, link, &hello.greeting).await?;
    Ok(entry)
}

async fn admit_pairing(
    state: &State,
    link: &mut Link,
    hello: Box<PairingHello>,
    from: IpAddr,
) -> Result<(PairingEntry, DeviceEntry), Ending> {
    state.attempts.pairing(from).map_err(|wait| {
        Refusal::limited(Limit::PairingAttempts, "too many pairing attempts from this address").retry_after(wait)
    })?;
    let pairing = state.directory.enter_pairing(hello.rendezvous, Instant::now()).await?;
    let entry = state.directory.join(pairing.host, None, 0).await?;
    welcome(state, link, &hello.greeting).await?;
    Ok((pairing, entry))
}

/// What a link waits for.
struct Wait {
    host: HostId,
    /// Tell it whether the host is here.
    announce: bool,
    /// Get it a circuit; otherwise it only hears about presence.
    attach: bool,
    /// Give up then.
    until: Option<Instant>,
}

/// Gets the link a data connection of its host, and splices the two until they end.
async fn attach(state: &Arc<State>, mut link: Link, mut entry: DeviceEntry, wait: Wait, origin: CircuitOrigin) {
    let write = ms(state.limits().write_ms);
    loop {
        // On the heap, as the circuit is, so that who only waits has no room for the other.
        let mut data = match Box::pin(wait_for_host(state, &mut link, &mut entry, &wait)).await {
            Ok(data) => data,
            Err(ending) => return finish(state, link, ending).await,
        };
        let circuit = match state.directory.start_circuit(wait.host, entry.end.clone()).await {
            Ok(circuit) => circuit,
            Err(refusal) => return finish(state, link, refusal.into()).await,
        };
        let start = RelayToPeer::CircuitStart { circuit: circuit.number, origin };
        if Box::pin(send(&mut data, start.encode(), write)).await.is_err() {
            // That data connection was dead; the device need not know.
            continue;
        }
        let attached = RelayToPeer::Attached { circuit: circuit.number }.encode();
        if let Err(error) = Box::pin(send(&mut link, attached, write)).await {
            return finish(state, link, error.into()).await;
        }
        let (name, until) = match origin {
            CircuitOrigin::Device { .. } => ("device", None),
            CircuitOrigin::Pairing { .. } => ("pairing", Some(Instant::now() + ms(state.limits().pairing_circuit_ms))),
        };
        let _open = state.metrics.circuit(name);
        return Box::pin(circuit::run(state, link, data, Ends { end: &entry.end, until })).await;
    }
}

// Whatever takes a while is on the heap for as long as it takes: most of a device's time goes by in the `select!`.
async fn wait_for_host(state: &State, link: &mut Link, entry: &mut DeviceEntry, wait: &Wait) -> Result<Link, Ending> {
    let write = ms(state.limits().write_ms);
    let mut claim = if wait.attach { Some(Box::pin(state.hub.claim(wait.host)).await?) } else { None };
    let mut clock = Clock::start();
    entry.presence.mark_changed();
    loop {
        tokio::select! {
            // Ends first. Presence before the circuit: a device always hears it.
            biased;
            why = entry.end.ended() => return Err(why.into()),
            () = state.lifecycle.soft().cancelled() => return Err(Ending::Restarting),
            Ok(()) = entry.presence.changed(), if wait.announce => {
                let presence = *entry.presence.borrow_and_update();
                let frame = RelayToPeer::Presence { online: presence.online, since: presence.since };
                Box::pin(send(link, frame.encode(), write)).await?;
            }
            data = claimed(&mut claim) => match data {
                Some(data) => return Ok(data),
                // The data connection ended as it was claimed.
                None => {
                    drop(claim.take());
                    claim = Some(Box::pin(state.hub.claim(wait.host)).await?);
                }
            },
            item = link.next() => match item {
                Some(Ok(Received::Alive)) => clock.heard = Instant::now(),
                Some(Ok(Received::Bytes(frame))) if !wait.attach => {
                    clock.heard = Instant::now();
                    Box::pin(watcher_said(link, &frame, write)).await?;
                }
                Some(Ok(Received::Bytes(_))) => {
                    return Err(Refusal::malformed("nothing is sent before Attached").into());
                }
                Some(Ok(Received::Closed)) | None => return Err(Ending::Gone),
                Some(Err(error)) => return Err(error.into()),
            },
            () = sleep_until(clock.next(state.limits(), wait)) => Box::pin(clock.strike(state, link, wait)).await?,
        }
    }
}

/// What a link that waits has to do in time.
struct Clock {
    /// When its peer was last heard.
    heard: Instant,
    /// When it was last asked for a sign of life, and how often that was.
    pinged: Instant,
    pings: u64,
    /// When its host was last asked for a data connection.
    asked: Instant,
}

impl Clock {
    fn start() -> Self {
        let now = Instant::now();
        Self { heard: now, pinged: now, pings: 0, asked: now }
    }

    /// When there is something to do next.
    fn next(&self, limits: &Limits, wait: &Wait) -> Instant {
        let next = (self.heard + ms(limits.silence_ms)).min(self.pinged + ms(limits.idle_ping_ms));
        let ask = wait.attach.then(|| self.asked + ms(limits.circuit_reminder_ms));
        [ask, wait.until].into_iter().flatten().fold(next, Instant::min)
    }

    /// Does what is due.
    async fn strike(&mut self, state: &State, link: &mut Link, wait: &Wait) -> Result<(), Ending> {
        let (limits, now) = (state.limits(), Instant::now());
        if now >= self.heard + ms(limits.silence_ms) {
            return Err(Refusal::timeout(Limit::Silence).into());
        }
        if wait.until.is_some_and(|until| now >= until) {
            state.metrics.limit(Limit::PairingAttach);
            return Err(Refusal::new(CloseCode::PeerGone, "the host that shows this code did not answer").into());
        }
        if wait.attach && now >= self.asked + ms(limits.circuit_reminder_ms) {
            self.asked = now;
            // The first request, or the host's dial, may have been lost.
            state.directory.ask(wait.host).await?;
        }
        if now >= self.pinged + ms(limits.idle_ping_ms) {
            self.pinged = now;
            self.pings += 1;
            let write = ms(limits.write_ms);
            ping(link, write).await?;
            send(link, RelayToPeer::Ping { id: self.pings }.encode(), write).await?;
        }
        Ok(())
    }
}

/// The link that was claimed; never for a watcher; `None` when it broke meanwhile.
async fn claimed(claim: &mut Option<Claim>) -> Option<Link> {
    match claim {
        Some(claim) => claim.link().await,
        None => std::future::pending().await,
    }
}

/// A watcher never gets a circuit, so it may speak in frames.
async fn watcher_said(link: &mut Link, frame: &[u8], write: Duration) -> Result<(), Ending> {
    match PeerToRelay::decode(frame).map_err(Refusal::from)? {
        PeerToRelay::Ping { id } => Ok(send(link, RelayToPeer::Pong { id }.encode(), write).await?),
        PeerToRelay::Pong { .. } => Ok(()),
        _ => Err(Refusal::malformed("a watcher sends pings only").into()),
    }
}
