//! Where links meet: spare data connections of hosts, and devices in line for one, at this process.
//!
//! Links move between tasks. The task of a spare keeps reading it, to notice
//! its end, until a device's task claims it: the device leaves the sending half
//! of a one-shot, and the spare's task sends the link through it. When no spare
//! is there the device's half stands in line, and the next data connection's
//! task takes it from there. A link that nobody takes comes back to its task.
//!
//! Who is online, and so whose data connections may stand by, is known to the
//! [`directory`](crate::directory), which also asks a host to dial one. The hub
//! is one table in memory behind one lock, held for look-ups only.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use reachback_proto::ids::{BootId, HostId};
use tokio::sync::oneshot;

use crate::directory::{Directory, Entered, StandBy};
use crate::limits::{Limit, Limits};
use crate::link::Link;
use crate::refusal::{End, Refusal};

/// Where a claimed link is sent.
pub(crate) type Delivery = oneshot::Sender<Link>;

/// The table. Shared through an `Arc`, which its guards hold too.
pub(crate) struct Hub {
    directory: Arc<dyn Directory>,
    spares_per_host: usize,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    lines: HashMap<HostId, Line>,
    last_number: u64,
}

/// Those of one host.
#[derive(Default)]
struct Line {
    spares: VecDeque<SpareEntry>,
    waiters: VecDeque<Delivery>,
}

struct SpareEntry {
    number: u64,
    claim: oneshot::Sender<Delivery>,
    end: End,
}

/// What to do with a new data connection.
pub(crate) enum Offer {
    /// A device is in line: send it the link.
    Deliver(Delivery),
    /// Wait as a spare.
    Wait(Spare),
}

/// A spare in the hub; leaves it when dropped.
pub(crate) struct Spare {
    hub: Arc<Hub>,
    host: HostId,
    number: u64,
    /// A device that wants the link.
    pub(crate) claim: oneshot::Receiver<Delivery>,
    /// When the spare must end.
    pub(crate) stand_by: StandBy,
}

/// A device's claim on a data connection. Dropped, it leaves the line.
pub(crate) struct Claim {
    hub: Arc<Hub>,
    host: HostId,
    link: oneshot::Receiver<Link>,
    /// For as long as it stands in line.
    want: Option<Entered>,
}

impl Hub {
    pub(crate) fn new(directory: Arc<dyn Directory>, limits: &Limits) -> Self {
        Self { directory, spares_per_host: limits.spares_per_host, table: Mutex::default() }
    }

    /// Offers a data connection of a host's running agent.
    pub(crate) async fn offer(self: &Arc<Self>, host: HostId, boot: BootId) -> Result<Offer, Refusal> {
        let stand_by = self.directory.stand_by(host, boot).await?;
        let mut table = self.table();
        let number = table.number();
        let line = table.lines.entry(host).or_default();
        while let Some(waiter) = line.waiters.pop_front() {
            if !waiter.is_closed() {
                table.tidy(host);
                return Ok(Offer::Deliver(waiter));
            }
        }
        line.spares.retain(|spare| !spare.end.is_over());
        if line.spares.len() >= self.spares_per_host {
            table.tidy(host);
            return Err(Refusal::limited(Limit::SparesPerHost, "enough idle data connections of this host are here"));
        }
        let (sender, claim) = oneshot::channel();
        line.spares.push_back(SpareEntry { number, claim: sender, end: stand_by.end.clone() });
        drop(table);
        Ok(Offer::Wait(Spare { hub: self.clone(), host, number, claim, stand_by }))
    }

    /// Claims a data connection of the host, now or when it dials one.
    pub(crate) async fn claim(self: &Arc<Self>, host: HostId) -> Result<Claim, Refusal> {
        let want = self.directory.want(host).await?;
        let (delivery, link) = oneshot::channel();
        let mut claim = Claim { hub: self.clone(), host, link, want: Some(want) };
        if self.stand_in_line(host, delivery) {
            self.directory.ask(host).await?;
        } else {
            drop(claim.want.take());
        }
        Ok(claim)
    }

    /// Asks a spare for its link; where there is none, stands in line, and this is true.
    fn stand_in_line(&self, host: HostId, mut delivery: Delivery) -> bool {
        let mut table = self.table();
        let line = table.lines.entry(host).or_default();
        // Newest first: the older a spare, the likelier a middlebox has forgotten it.
        while let Some(spare) = line.spares.pop_back() {
            if spare.end.is_over() {
                continue;
            }
            match spare.claim.send(delivery) {
                Ok(()) => {
                    table.tidy(host);
                    return false;
                }
                Err(unused) => delivery = unused,
            }
        }
        line.waiters.push_back(delivery);
        true
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no code that holds the table panics")
    }
}

impl Claim {
    /// The link; `None` when it broke as it was claimed. Cancel-safe.
    pub(crate) async fn link(&mut self) -> Option<Link> {
        (&mut self.link).await.ok()
    }
}

impl Table {
    /// A number that is never used twice.
    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Removes the host's line when nobody stands in it.
    fn tidy(&mut self, host: HostId) {
        if self.lines.get(&host).is_some_and(|line| line.spares.is_empty() && line.waiters.is_empty()) {
            self.lines.remove(&host);
        }
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        let mut table = self.hub.table();
        if let Some(line) = table.lines.get_mut(&self.host) {
            line.spares.retain(|spare| spare.number != self.number);
            table.tidy(self.host);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.link.close();
        let mut table = self.hub.table();
        if let Some(line) = table.lines.get_mut(&self.host) {
            line.waiters.retain(|waiter| !waiter.is_closed());
            table.tidy(self.host);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use futures_util::future::BoxFuture;
    use futures_util::{FutureExt, Sink, Stream};
    use reachback_proto::close::CloseCode;

    use super::*;
    use crate::directory::{InMemory, Registered, Registration};
    use crate::link::{LinkError, Received, Sent, Transport};

    const HOST: HostId = HostId([1; 16]);
    const BOOT: BootId = BootId([1; 16]);

    /// A link on which nothing happens.
    struct Quiet;

    impl Stream for Quiet {
        type Item = Result<Received, LinkError>;

        fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Poll::Pending
        }
    }

    impl Sink<Sent> for Quiet {
        type Error = LinkError;

        fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
            Poll::Ready(Ok(()))
        }

        fn start_send(self: Pin<&mut Self>, _: Sent) -> Result<(), LinkError> {
            Ok(())
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
            Poll::Ready(Ok(()))
        }
    }

    impl Transport for Quiet {
        fn welcome(&mut self) {}

        fn linger(&mut self) -> BoxFuture<'_, ()> {
            Box::pin(std::future::ready(()))
        }
    }

    async fn hub() -> (Arc<Hub>, Registration) {
        let limits = Limits { circuits_per_host: 2, spares_per_host: 2, ..Limits::default() };
        let directory = Arc::new(InMemory::new(limits.clone(), || 0));
        let Registered::Here(registration) = directory.register(HOST, BOOT, None).await.unwrap() else {
            panic!("nobody else is there")
        };
        (Arc::new(Hub::new(directory, &limits)), registration)
    }

    async fn spare(hub: &Arc<Hub>) -> Spare {
        match hub.offer(HOST, BOOT).await.unwrap() {
            Offer::Wait(spare) => spare,
            Offer::Deliver(_) => panic!("nobody is in line"),
        }
    }

    #[tokio::test]
    async fn who_stands_in_line_gets_the_next_data_connection_and_who_left_does_not() {
        let (hub, mut registration) = hub().await;
        let left = hub.claim(HOST).await.unwrap();
        let mut claim = hub.claim(HOST).await.unwrap();
        for _ in 0..2 {
            assert!(registration.commands.recv().now_or_never().is_some(), "the host was not asked");
        }
        drop(left);
        let Offer::Deliver(delivery) = hub.offer(HOST, BOOT).await.unwrap() else { panic!("somebody is in line") };
        assert!(delivery.send(Box::new(Quiet)).is_ok());
        assert!(claim.link().await.is_some());
        drop(claim);
        assert!(hub.table().lines.is_empty(), "a line is remembered in which nobody stands");
    }

    #[tokio::test]
    async fn the_newest_spare_is_claimed_and_none_that_is_to_end() {
        let (hub, registration) = hub().await;
        let (mut old, mut new) = (spare(&hub).await, spare(&hub).await);
        assert_eq!(hub.offer(HOST, BOOT).await.err().unwrap().limit, Some(Limit::SparesPerHost));
        let mut claim = hub.claim(HOST).await.unwrap();
        let delivery = (&mut new.claim).now_or_never().expect("the newest is claimed").unwrap();
        assert!((&mut old.claim).now_or_never().is_none());
        assert!(delivery.send(Box::new(Quiet)).is_ok());
        assert!(claim.link().await.is_some());
        drop((claim, new));

        // Their tasks may not have heard of it yet.
        drop(registration);
        assert!(old.stand_by.end.is_over());
        assert_eq!(hub.offer(HOST, BOOT).await.err().unwrap().code, CloseCode::PeerGone);
        let mut waiting = hub.claim(HOST).await.unwrap();
        assert!((&mut old.claim).now_or_never().is_none_or(|claimed| claimed.is_err()), "a dead one is claimed");
        assert!(waiting.link().now_or_never().is_none(), "it does not stand in line");
        drop((old, waiting));
        assert!(hub.table().lines.is_empty());
    }

    #[tokio::test]
    async fn a_spares_claim_does_not_count_as_standing_in_line() {
        let (hub, _registration) = hub().await;
        let _spares = (spare(&hub).await, spare(&hub).await);
        let _claims = (hub.claim(HOST).await.unwrap(), hub.claim(HOST).await.unwrap());
        let _in_line = (hub.claim(HOST).await.unwrap(), hub.claim(HOST).await.unwrap());
        assert_eq!(hub.claim(HOST).await.err().unwrap().limit, Some(Limit::CircuitsPerHost));
    }

    #[tokio::test]
    async fn a_spare_whose_task_has_ended_is_passed_over() {
        let (hub, mut registration) = hub().await;
        let mut gone = spare(&hub).await;
        gone.claim.close();
        let _claim = hub.claim(HOST).await.unwrap();
        assert!(registration.commands.recv().now_or_never().is_some(), "the host was not asked");
    }
}
