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
use tokio::time::{Instant, interval, sleep_until};
use tracing::Instrument;

use super::circuit::{self, Ends};
use super::ending::{Ending, finish};
use super::greet::{DeviceHello, PairingHello, welcome};
use crate::directory::{DeviceEntry, PairingEntry};
use crate::hub::Claim;
use crate::limits::{Limit, ms};
use crate::link::{Link, Received, ping, send};
use crate::refusal::Refusal;
use crate::state::State;

/// Serves a device from its checked hello on.
pub(super) async fn serve(state: &Arc<State>, mut link: Link, hello: DeviceHello) {
    let span = tracing::debug_span!("device", host = %hello.host.short(), id = %DeviceId::of(&hello.key).short());
    async {
        let entry = match admit(state, &mut link, &hello).await {
            Ok(entry) => entry,
            Err(ending) => return finish(state, &mut link, ending).await,
        };
        let _open = state.metrics.link(if hello.watch_only { "watch" } else { "device" });
        let wait = Wait { host: hello.host, announce: true, attach: !hello.watch_only, until: None };
        attach(state, link, entry, wait, CircuitOrigin::Device { key: hello.key }).await;
    }
    .instrument(span)
    .await;
}

/// Serves a device that wants to pair.
pub(super) async fn serve_pairing(state: &Arc<State>, mut link: Link, hello: PairingHello, from: IpAddr) {
    let (pairing, entry) = match admit_pairing(state, &mut link, &hello, from).await {
        Ok(admitted) => admitted,
        Err(ending) => return finish(state, &mut link, ending).await,
    };
    let _open = state.metrics.link("pairing");
    let until = Some(Instant::now() + ms(state.limits().pairing_attach_ms));
    let wait = Wait { host: pairing.host, announce: false, attach: true, until };
    attach(state, link, entry, wait, CircuitOrigin::Pairing { rendezvous: hello.rendezvous }).await;
}

async fn admit(state: &State, link: &mut Link, hello: &DeviceHello) -> Result<DeviceEntry, Ending> {
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
    hello: &PairingHello,
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
        let mut data = match wait_for_host(state, &mut link, &mut entry, &wait).await {
            Ok(data) => data,
            Err(ending) => return finish(state, &mut link, ending).await,
        };
        let circuit = match state.directory.start_circuit(wait.host, entry.end.clone()).await {
            Ok(circuit) => circuit,
            Err(refusal) => return finish(state, &mut link, refusal.into()).await,
        };
        let start = RelayToPeer::CircuitStart { circuit: circuit.number, origin };
        if send(&mut data, start.encode(), write).await.is_err() {
            // That data connection was dead; the device need not know.
            continue;
        }
        if let Err(error) = send(&mut link, RelayToPeer::Attached { circuit: circuit.number }.encode(), write).await {
            return finish(state, &mut link, error.into()).await;
        }
        let (name, until) = match origin {
            CircuitOrigin::Device { .. } => ("device", None),
            CircuitOrigin::Pairing { .. } => ("pairing", Some(Instant::now() + ms(state.limits().pairing_circuit_ms))),
        };
        let _open = state.metrics.circuit(name);
        return circuit::run(state, link, data, Ends { end: &entry.end, until }).await;
    }
}

async fn wait_for_host(state: &State, link: &mut Link, entry: &mut DeviceEntry, wait: &Wait) -> Result<Link, Ending> {
    let limits = state.limits();
    let mut claim = if wait.attach { Some(state.hub.claim(wait.host).await?) } else { None };
    let mut heard = Instant::now();
    let (mut pinged, mut pings) = (heard, 0);
    let mut reminder = interval(ms(limits.circuit_reminder_ms));
    reminder.reset();
    entry.presence.mark_changed();
    loop {
        let dead = heard + ms(limits.silence_ms);
        tokio::select! {
            // Ends first. Presence before the circuit: a device always hears it.
            biased;
            why = entry.end.ended() => return Err(why.into()),
            () = state.lifecycle.soft().cancelled() => return Err(Ending::Restarting),
            Ok(()) = entry.presence.changed(), if wait.announce => {
                let presence = *entry.presence.borrow_and_update();
                let frame = RelayToPeer::Presence { online: presence.online, since: presence.since };
                send(link, frame.encode(), ms(limits.write_ms)).await?;
            }
            data = claimed(&mut claim) => match data {
                Some(data) => return Ok(data),
                // The data connection ended as it was claimed.
                None => {
                    drop(claim.take());
                    claim = Some(state.hub.claim(wait.host).await?);
                }
            },
            item = link.next() => match item {
                Some(Ok(Received::Alive)) => heard = Instant::now(),
                Some(Ok(Received::Bytes(frame))) if !wait.attach => {
                    heard = Instant::now();
                    watcher_said(link, &frame, ms(limits.write_ms)).await?;
                }
                Some(Ok(Received::Bytes(_))) => {
                    return Err(Refusal::malformed("nothing is sent before Attached").into());
                }
                Some(Ok(Received::Closed)) | None => return Err(Ending::Gone),
                Some(Err(error)) => return Err(error.into()),
            },
            _ = reminder.tick(), if wait.attach => {
                // The first request, or the host's dial, may have been lost.
                state.directory.ask(wait.host).await?;
            }
            () = sleep_until((pinged + ms(limits.idle_ping_ms)).min(dead)) => {
                if Instant::now() >= dead {
                    return Err(Refusal::timeout(Limit::Silence).into());
                }
                pinged = Instant::now();
                pings += 1;
                ping(link, ms(limits.write_ms)).await?;
                send(link, RelayToPeer::Ping { id: pings }.encode(), ms(limits.write_ms)).await?;
            }
            () = sleep_until(wait.until.unwrap_or(dead)), if wait.until.is_some() => {
                state.metrics.limit(Limit::PairingAttach);
                return Err(Refusal::new(CloseCode::PeerGone, "the host that shows this code did not answer").into());
            }
        }
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
