//! Two links spliced: bytes in, bytes out, and nothing understood.
//!
//! Each direction holds at most one message and one small write buffer, and
//! reads the next only when the last was taken: a slow reader slows its sender
//! down (TCP does the rest) and costs nobody else anything. An end that closes in
//! order gets its last bytes delivered before the close is passed on.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use prometheus_client::metrics::counter::Counter;
use reachback_proto::close::CloseCode;
use tokio::time::{Instant, sleep_until, timeout};

use crate::limits::{Limit, ms};
use crate::link::{Link, LinkError, Received, Sent, close};
use crate::link_waker::LinkWaker;
use crate::refusal::{End, Refusal};
use crate::state::State;

/// How long the other direction may still run once one end has closed in order.
const HALF_CLOSED: Duration = Duration::from_secs(5);

/// How long the close of a circuit may take to write; an end that is stuck does not get more.
const CLOSE: Duration = Duration::from_secs(2);

/// How long a circuit runs on when its device was put out. The host's own last word is under way then, and a device
/// believes nobody else that it was revoked; whatever the device still says meets a host that has ended its session.
const LAST_WORD: Duration = Duration::from_millis(250);

/// What ends a circuit from outside.
pub(super) struct Ends<'a> {
    /// The device's link is put out.
    pub(super) end: &'a End,
    /// The circuit's time is over.
    pub(super) until: Option<Instant>,
}

/// Which end of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Device,
    Host,
}

/// Why a circuit ended.
enum Outcome {
    /// One end closed in order.
    Closed,
    /// One end is to blame.
    Failed(Side, LinkError),
    /// The device was put out.
    PutOut(Refusal),
    /// A limit of the relay was met.
    Over(Limit),
    /// The relay stops.
    Restarting,
}

/// Splices the two until they end, and closes both.
pub(super) async fn run(state: &Arc<State>, device: Link, host: Link, ends: Ends<'_>) {
    let (mut device_tx, mut device_rx) = device.split();
    let (mut host_tx, mut host_rx) = host.split();
    let outcome = splice(state, (&mut device_tx, &mut device_rx), (&mut host_tx, &mut host_rx), ends).await;
    let (for_device, for_host) = codes(state, outcome);
    let halves = "both halves are of this link";
    let device = device_rx.reunite(device_tx).expect(halves);
    let host = host_rx.reunite(host_tx).expect(halves);
    tokio::join!(say_goodbye(device, for_device), say_goodbye(host, for_host));
}

type Halves<'a> = (&'a mut SplitSink<Link, Sent>, &'a mut SplitStream<Link>);

async fn splice(state: &State, device: Halves<'_>, host: Halves<'_>, ends: Ends<'_>) -> Outcome {
    let limits = state.limits();
    let pump = Pump { activity: Activity::start(), write: ms(limits.write_ms) };
    let to_host = pump.run((Side::Device, device.1), (Side::Host, host.0), state.metrics.bytes("to_host"));
    let to_device = pump.run((Side::Host, host.1), (Side::Device, device.0), state.metrics.bytes("to_device"));
    let both = async {
        tokio::pin!(to_host, to_device);
        tokio::select! {
            ended = &mut to_host => rest(ended, to_device).await,
            ended = &mut to_device => rest(ended, to_host).await,
        }
    };
    tokio::pin!(both);
    tokio::select! {
        // A revocation comes first, whatever else is ready.
        biased;
        why = ends.end.ended() => {
            let _ended = timeout(LAST_WORD, &mut both).await;
            Outcome::PutOut(why)
        }
        () = state.lifecycle.soft().cancelled() => Outcome::Restarting,
        outcome = &mut both => outcome,
        () = pump.activity.idle(ms(limits.circuit_idle_ms)) => Outcome::Over(Limit::CircuitIdle),
        () = sleep_until(ends.until.unwrap_or_else(Instant::now)), if ends.until.is_some() => {
            Outcome::Over(Limit::PairingCircuit)
        }
    }
}

/// One direction ended: after an orderly close the other one gets a moment to finish.
async fn rest(ended: Result<(), (Side, LinkError)>, other: impl Future) -> Outcome {
    match ended {
        Ok(()) => {
            let _late = timeout(HALF_CLOSED, other).await;
            Outcome::Closed
        }
        Err((side, error)) => Outcome::Failed(side, error),
    }
}

struct Pump {
    activity: Activity,
    write: Duration,
}

impl Pump {
    /// Moves one direction's bytes until its source closes in order, which is passed on.
    async fn run(
        &self,
        (source, from): (Side, &mut SplitStream<Link>),
        (sink, to): (Side, &mut SplitSink<Link, Sent>),
        bytes: Counter,
    ) -> Result<(), (Side, LinkError)> {
        let failed = |error| (sink, error);
        // Both directions are polled when either is woken.
        let source_waker = LinkWaker::default();
        loop {
            source_waker.woken().await;
            // All that is here already goes out before one flush, so that small messages share packets.
            let ended = loop {
                let next = from.poll_next_unpin(&mut Context::from_waker(source_waker.waker()));
                match next {
                    Poll::Ready(Some(Ok(Received::Bytes(chunk)))) => {
                        self.activity.touch();
                        bytes.inc_by(chunk.len() as u64);
                        self.in_time(|cx| to.poll_ready_unpin(cx)).await.map_err(failed)?;
                        to.start_send_unpin(Sent::Bytes(chunk)).map_err(failed)?;
                    }
                    Poll::Ready(Some(Ok(Received::Alive))) => {}
                    Poll::Ready(Some(Ok(Received::Closed))) => break Some(Ok(())),
                    Poll::Ready(Some(Err(error))) => break Some(Err((source, error))),
                    Poll::Ready(None) => break Some(Err((source, LinkError::Gone))),
                    Poll::Pending => break None,
                }
            };
            self.in_time(|cx| to.poll_flush_unpin(cx)).await.map_err(failed)?;
            match ended {
                None => {}
                Some(Ok(())) => {
                    let close = Sent::Close { code: CloseCode::Normal, reason: String::new() };
                    // The sink's end may have closed as well.
                    let _closed = timeout(CLOSE, to.send(close)).await;
                    return Ok(());
                }
                Some(Err(error)) => return Err(error),
            }
        }
    }

    /// Waits for the sink, as long as it may take.
    async fn in_time(
        &self,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<Result<(), LinkError>>,
    ) -> Result<(), LinkError> {
        // Mostly it takes something at once; then there is no time to be kept.
        match poll_fn(|cx| Poll::Ready(poll(cx))).await {
            Poll::Ready(done) => done,
            Poll::Pending => timeout(self.write, poll_fn(poll)).await.unwrap_or(Err(LinkError::Stalled)),
        }
    }
}

/// When a byte last went either way.
struct Activity {
    start: Instant,
    last_ms: AtomicU64,
}

impl Activity {
    fn start() -> Self {
        Self { start: Instant::now(), last_ms: AtomicU64::new(0) }
    }

    fn touch(&self) {
        let since = self.start.elapsed().as_millis();
        self.last_ms.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Returns once nothing went for `limit`.
    async fn idle(&self, limit: Duration) {
        loop {
            let over = self.start + ms(self.last_ms.load(Ordering::Relaxed)) + limit;
            if Instant::now() >= over {
                return;
            }
            sleep_until(over).await;
        }
    }
}

/// What each end is told: its close code and reason.
type Goodbye = (CloseCode, String);

fn codes(state: &State, outcome: Outcome) -> (Goodbye, Goodbye) {
    let named = |code: CloseCode| (code, code.name().to_owned());
    match outcome {
        Outcome::Closed => (named(CloseCode::Normal), named(CloseCode::Normal)),
        Outcome::Failed(side, error) => {
            let blamed = match error {
                LinkError::Gone => CloseCode::PeerGone,
                LinkError::TooLarge => CloseCode::TooLarge,
                LinkError::Malformed => CloseCode::Malformed,
                LinkError::Stalled => {
                    state.metrics.limit(Limit::Write);
                    CloseCode::Timeout
                }
            };
            if blamed != CloseCode::PeerGone {
                state.metrics.refused(blamed);
            }
            match side {
                Side::Device => (named(blamed), named(CloseCode::PeerGone)),
                Side::Host => (named(CloseCode::PeerGone), named(blamed)),
            }
        }
        Outcome::PutOut(refusal) => {
            super::ending::count(state, &refusal);
            (named(refusal.code), named(CloseCode::PeerGone))
        }
        Outcome::Over(limit) => {
            state.metrics.limit(limit);
            (named(CloseCode::Timeout), named(CloseCode::Timeout))
        }
        Outcome::Restarting => {
            let goodbye = || (CloseCode::Restarting, state.restart_delay().as_millis().to_string());
            (goodbye(), goodbye())
        }
    }
}

async fn say_goodbye(mut link: Link, (code, reason): Goodbye) {
    // An end that closed first has nothing to hear.
    if close(&mut link, None, code, reason, CLOSE).await.is_ok() {
        link.linger().await;
    }
}
