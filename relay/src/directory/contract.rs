//! What every directory must do. Each implementation's tests call [`all`] with an empty directory as two processes have it.
//!
//! What was done at one process is waited for at the other: a message may be on its way.

use std::time::Duration;

use reachback_proto::close::CloseCode;
use reachback_proto::ids::{BootId, HostId, PublicKey, RendezvousId};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::{Command, Directory, Entered, Occupied, Opening, Presence, Registered, Registration};
use crate::limits::{Limit, Limits};
use crate::refusal::{End, Refusal};

const A: BootId = BootId([1; 16]);
const B: BootId = BootId([2; 16]);
const MINUTE: Duration = Duration::from_secs(60);
/// How long a message between processes may take.
const SOON: Duration = Duration::from_secs(10);

/// The limits that the directory under test must have.
pub(crate) fn limits() -> Limits {
    Limits { circuits_per_host: 3, links_per_device: 2, pairings_per_host: 2, ..Limits::default() }
}

/// The time that it must have.
pub(crate) fn unix_now() -> u64 {
    1000
}

/// Runs the whole contract. `here` and `there` are one directory; that of a single process is both.
pub(crate) async fn all(here: &dyn Directory, there: &dyn Directory) {
    a_host_is_online_while_it_is_registered_wherever_that_is(here, there).await;
    a_newer_connection_of_a_run_takes_the_place(here, there).await;
    another_run_keeps_the_place_unless_it_does_not_answer(here, there).await;
    a_host_is_asked_for_what_devices_want(here, there).await;
    data_connections_stand_by_while_their_run_is_registered(here, there).await;
    circuits_end_with_another_run_only(here, there).await;
    devices_that_are_not_listed_are_put_out(here, there).await;
    limits_hold_for_what_is_entered_and_not_for_what_left(here, there).await;
    a_rendezvous_takes_one_device_at_a_time_until_it_expires(here, there).await;
    a_late_device_does_not_free_a_rendezvous_that_was_opened_again(here, there).await;
    hosts_hold_a_few_rendezvous_and_not_each_others(here, there).await;
    a_rendezvous_ends_with_its_run_and_outlives_a_connection(here, there).await;
}

async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    timeout(SOON, wait).await.unwrap_or_else(|_| panic!("it never came: {what}"))
}

fn host(byte: u8) -> HostId {
    HostId([byte; 16])
}

fn rendezvous(byte: u8) -> RendezvousId {
    RendezvousId([byte; 16])
}

async fn registered(directory: &dyn Directory, host: HostId, boot: BootId, dead: Option<u64>) -> Registration {
    match directory.register(host, boot, dead).await.unwrap() {
        Registered::Here(registration) => registration,
        Registered::Occupied(_) => panic!("another run has the place"),
    }
}

async fn occupied(directory: &dyn Directory, host: HostId, boot: BootId) -> Occupied {
    match directory.register(host, boot, None).await.unwrap() {
        Registered::Occupied(occupied) => occupied,
        Registered::Here(_) => panic!("it took the place of a run that is alive"),
    }
}

async fn presence(of: &mut watch::Receiver<Presence>, online: bool) -> u64 {
    soon("presence", of.wait_for(|presence| presence.online == online)).await.unwrap().since
}

async fn why(end: &End) -> CloseCode {
    soon("the end", end.ended()).await.code
}

async fn is_asked(registration: &mut Registration) {
    let command = soon("a command", registration.commands.recv()).await;
    assert!(matches!(command, Some(Command::CircuitWanted)), "{command:?}");
}

fn refusal<T>(result: Result<T, Refusal>) -> Refusal {
    result.err().expect("it was not refused")
}

async fn a_host_is_online_while_it_is_registered_wherever_that_is(here: &dyn Directory, there: &dyn Directory) {
    let mut early = there.join(host(1), Some(PublicKey([1; 32])), 55).await.unwrap();
    assert_eq!(*early.presence.borrow(), Presence { online: false, since: 55 });
    let registration = registered(here, host(1), A, None).await;
    assert_eq!(presence(&mut early.presence, true).await, unix_now());
    let mut late = there.join(host(1), Some(PublicKey([1; 32])), 0).await.unwrap();
    presence(&mut late.presence, true).await;
    drop(registration);
    presence(&mut early.presence, false).await;
    presence(&mut late.presence, false).await;
    assert!(!early.end.is_over() && !late.end.is_over(), "a device waits for its host");
}

async fn a_newer_connection_of_a_run_takes_the_place(here: &dyn Directory, there: &dyn Directory) {
    let old = registered(here, host(2), A, None).await;
    let spare = here.stand_by(host(2), A).await.unwrap();
    let mut watch = here.join(host(2), None, 0).await.unwrap();
    let mut new = registered(there, host(2), A, None).await;
    assert_eq!(why(&old.end).await, CloseCode::Replaced);
    // That late one takes nobody out.
    drop(old);
    presence(&mut watch.presence, true).await;
    here.ask(host(2)).await.unwrap();
    is_asked(&mut new).await;
    assert!(!spare.end.is_over() && !new.end.is_over() && watch.presence.borrow().online);
}

async fn another_run_keeps_the_place_unless_it_does_not_answer(here: &dyn Directory, there: &dyn Directory) {
    let mut first = registered(here, host(3), A, None).await;
    let found = occupied(there, host(3), B).await;
    let (reply, answered) = tokio::sync::oneshot::channel();
    found.commands.send(Command::Probe(reply)).await.unwrap();
    let Some(Command::Probe(reply)) = soon("a probe", first.commands.recv()).await else { panic!("it is no probe") };
    reply.send(()).unwrap();
    soon("the answer", answered).await.unwrap();
    found.commands.send(Command::Conflict).await.unwrap();
    assert!(matches!(soon("the conflict", first.commands.recv()).await, Some(Command::Conflict)));
    assert!(!first.end.is_over());
    // The one that was dead is not the one that came meanwhile.
    drop(first);
    let second = registered(here, host(3), A, None).await;
    assert_ne!(occupied(there, host(3), B).await.number, found.number);
    let third = registered(there, host(3), B, Some(occupied(there, host(3), B).await.number)).await;
    assert_eq!(why(&second.end).await, CloseCode::Replaced);
    assert!(!third.end.is_over());
}

async fn a_host_is_asked_for_what_devices_want(here: &dyn Directory, there: &dyn Directory) {
    here.ask(host(4)).await.unwrap();
    let wants = [there.want(host(4)).await.unwrap(), here.want(host(4)).await.unwrap()];
    drop(there.want(host(4)).await.unwrap());
    let mut registration = registered(here, host(4), A, None).await;
    is_asked(&mut registration).await;
    is_asked(&mut registration).await;
    there.ask(host(4)).await.unwrap();
    is_asked(&mut registration).await;
    assert!(registration.commands.try_recv().is_err(), "it was asked for one that nobody wants");
    drop(wants);
    // Whoever asks does not wait for a host that does not listen.
    for _ in 0..1000 {
        soon("room in the queue", there.ask(host(4))).await.unwrap();
    }
    assert!(!registration.end.is_over());
}

async fn data_connections_stand_by_while_their_run_is_registered(here: &dyn Directory, there: &dyn Directory) {
    assert_eq!(refusal(there.stand_by(host(5), A).await).code, CloseCode::PeerGone);
    let registration = registered(here, host(5), A, None).await;
    assert_eq!(refusal(there.stand_by(host(5), B).await).code, CloseCode::PeerGone, "that is another run's");
    let [spare, gone] = [there.stand_by(host(5), A).await.unwrap(), there.stand_by(host(5), A).await.unwrap()];
    let gone_end = gone.end.clone();
    drop(gone);
    drop(registration);
    assert_eq!(why(&spare.end).await, CloseCode::PeerGone);
    assert!(!gone_end.is_over(), "what left is none of the directory's");
    assert_eq!(refusal(there.stand_by(host(5), A).await).code, CloseCode::PeerGone);

    let first = registered(here, host(5), A, None).await;
    let spare = there.stand_by(host(5), A).await.unwrap();
    let number = occupied(there, host(5), B).await.number;
    let _second = registered(there, host(5), B, Some(number)).await;
    assert_eq!(why(&spare.end).await, CloseCode::PeerGone);
    drop(first);
}

async fn circuits_end_with_another_run_only(here: &dyn Directory, there: &dyn Directory) {
    let [before, during, left] = [End::default(), End::default(), End::default()];
    let early = there.start_circuit(host(6), before.clone()).await.unwrap();
    let first = registered(here, host(6), A, None).await;
    let circuit = there.start_circuit(host(6), during.clone()).await.unwrap();
    drop(there.start_circuit(host(6), left.clone()).await.unwrap());
    assert_ne!(early.number, circuit.number);
    drop(first);
    let again = registered(here, host(6), A, None).await;
    assert!(!during.is_over(), "the run is the same");
    drop(again);
    let _other = registered(here, host(6), B, None).await;
    assert_eq!(why(&during).await, CloseCode::PeerGone);
    assert!(!before.is_over() && !left.is_over());
}

async fn devices_that_are_not_listed_are_put_out(here: &dyn Directory, there: &dyn Directory) {
    let [listed, revoked] = [1, 2].map(|byte| PublicKey([byte; 32]));
    let kept = there.join(host(7), Some(listed), 0).await.unwrap();
    let pairing = there.join(host(7), None, 0).await.unwrap();
    let other_host = there.join(host(8), Some(revoked), 0).await.unwrap();
    let out =
        [there.join(host(7), Some(revoked), 0).await.unwrap(), here.join(host(7), Some(revoked), 0).await.unwrap()];
    here.enforce(host(7), vec![listed]).await.unwrap();
    for entry in &out {
        assert_eq!(why(&entry.end).await, CloseCode::Revoked);
    }
    assert!(![&kept, &pairing, &other_host].iter().any(|entry| entry.end.is_over()));
}

async fn limits_hold_for_what_is_entered_and_not_for_what_left(here: &dyn Directory, there: &dyn Directory) {
    let key = Some(PublicKey([9; 32]));
    let links = [here.join(host(9), key, 0).await.unwrap(), there.join(host(9), key, 0).await.unwrap()];
    assert_eq!(refusal(here.join(host(9), key, 0).await).limit, Some(Limit::LinksPerDevice));
    assert!(here.join(host(9), Some(PublicKey([8; 32])), 0).await.is_ok() && here.join(host(9), None, 0).await.is_ok());
    drop(links);
    assert!(here.join(host(9), key, 0).await.is_ok());

    let wants: [Entered; 2] = [here.want(host(9)).await.unwrap(), there.want(host(9)).await.unwrap()];
    let circuit = there.start_circuit(host(9), End::default()).await.unwrap();
    assert_eq!(refusal(here.want(host(9)).await).limit, Some(Limit::CircuitsPerHost));
    drop(circuit);
    assert!(here.want(host(9)).await.is_ok());
    drop(wants);
}

async fn a_rendezvous_takes_one_device_at_a_time_until_it_expires(here: &dyn Directory, there: &dyn Directory) {
    let (id, now) = (host(10), Instant::now());
    assert_eq!(here.open_pairing((id, A), rendezvous(1), MINUTE, now).await.unwrap(), Opening::Open);
    let entry = there.enter_pairing(rendezvous(1), now).await.unwrap();
    assert_eq!(entry.host, id);
    assert_eq!(refusal(here.enter_pairing(rendezvous(1), now).await).code, CloseCode::Limited);
    drop(entry);
    assert!(there.enter_pairing(rendezvous(1), now).await.is_ok(), "connecting used the rendezvous up");
    assert_eq!(refusal(there.enter_pairing(rendezvous(1), now + MINUTE).await).code, CloseCode::NotFound);
    assert_eq!(here.next_expiry(id), Some(now + MINUTE));
    assert_eq!(here.expired_pairings(id, now).await.unwrap(), []);
    assert_eq!(here.expired_pairings(id, now + MINUTE).await.unwrap(), [rendezvous(1)]);
    assert_eq!(here.next_expiry(id), None);
}

async fn a_late_device_does_not_free_a_rendezvous_that_was_opened_again(here: &dyn Directory, there: &dyn Directory) {
    let (id, now) = (host(11), Instant::now());
    here.open_pairing((id, A), rendezvous(2), MINUTE, now).await.unwrap();
    let late = there.enter_pairing(rendezvous(2), now).await.unwrap();
    here.close_pairing(id, rendezvous(2)).await.unwrap();
    assert_eq!(refusal(there.enter_pairing(rendezvous(2), now).await).code, CloseCode::NotFound);
    here.open_pairing((id, A), rendezvous(2), MINUTE, now).await.unwrap();
    let _current = there.enter_pairing(rendezvous(2), now).await.unwrap();
    drop(late);
    assert_eq!(refusal(there.enter_pairing(rendezvous(2), now).await).code, CloseCode::Limited);
}

async fn hosts_hold_a_few_rendezvous_and_not_each_others(here: &dyn Directory, there: &dyn Directory) {
    let ([a, b], now) = ([(host(12), A), (host(13), A)], Instant::now());
    here.open_pairing(a, rendezvous(3), MINUTE, now).await.unwrap();
    here.open_pairing(a, rendezvous(4), MINUTE, now).await.unwrap();
    assert_eq!(here.open_pairing(a, rendezvous(5), MINUTE, now).await.unwrap(), Opening::TooMany);
    let longer = here.open_pairing(a, rendezvous(3), MINUTE * 2, now).await.unwrap();
    assert_eq!(longer, Opening::Open, "more time was refused");
    assert_eq!(there.open_pairing(b, rendezvous(3), MINUTE, now).await.unwrap(), Opening::Taken);
    there.close_pairing(b.0, rendezvous(3)).await.unwrap();
    assert!(there.enter_pairing(rendezvous(3), now).await.is_ok(), "another host closed it");
    here.prune_pairings(now + MINUTE).await.unwrap();
    assert_eq!(here.next_expiry(a.0), Some(now + MINUTE * 2));
}

async fn a_rendezvous_ends_with_its_run_and_outlives_a_connection(here: &dyn Directory, there: &dyn Directory) {
    let (id, now) = (host(14), Instant::now());
    let first = registered(here, id, A, None).await;
    here.open_pairing((id, A), rendezvous(6), MINUTE, now).await.unwrap();
    // Whoever is online hears that it is over.
    there.prune_pairings(now + MINUTE).await.unwrap();
    assert_eq!(here.next_expiry(id), Some(now + MINUTE));
    drop(first);
    let again = registered(here, id, A, None).await;
    assert!(there.enter_pairing(rendezvous(6), now).await.is_ok(), "it ended with a connection");
    drop(again);
    let _other = registered(here, id, B, None).await;
    assert_eq!(refusal(there.enter_pairing(rendezvous(6), now).await).code, CloseCode::NotFound);
    assert_eq!(here.next_expiry(id), None);
}
