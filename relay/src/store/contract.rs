//! What every store must do. Each backend's tests call [`all`] with an empty store.

use reachback_proto::ids::{HostId, PublicKey};

use super::{EnrollHash, ListOutcome, REVOKED_PER_HOST, SentList, Store};

/// Runs the whole contract.
pub(crate) async fn all(store: &dyn Store) {
    store.check().await.unwrap();
    an_enrolment_key_works_once_and_until_it_expires(store).await;
    one_of_many_with_the_same_key_enrols(store).await;
    device_lists_only_grow_in_version(store).await;
    what_is_revoked_stays_revoked(store).await;
    so_many_revoked_devices_are_remembered(store).await;
    hosts_are_remembered(store).await;
    hosts_that_are_seen_at_once_are_all_remembered(store).await;
    pruning_keeps_keys_that_still_work(store).await;
}

fn host(byte: u8) -> (PublicKey, HostId) {
    let key = PublicKey([byte; 32]);
    (key, HostId::of(&key))
}

async fn enrol(store: &dyn Store, byte: u8) -> HostId {
    let hash = EnrollHash([byte; 32]);
    store.add_enroll_key(hash, 100).await.unwrap();
    assert!(store.enroll(hash, host(byte).0, 10).await.unwrap());
    host(byte).1
}

async fn an_enrolment_key_works_once_and_until_it_expires(store: &dyn Store) {
    assert!(!store.has_hosts().await.unwrap());
    let hash = EnrollHash::of("once");
    assert!(!store.enroll(hash, host(1).0, 10).await.unwrap(), "an unknown key enrolled a host");
    store.add_enroll_key(hash, 100).await.unwrap();
    assert!(!store.enroll(hash, host(1).0, 100).await.unwrap(), "an expired key enrolled a host");
    assert_eq!(store.last_seen(host(1).1).await.unwrap(), None);
    assert!(store.enroll(hash, host(1).0, 99).await.unwrap());
    assert!(!store.enroll(hash, host(2).0, 99).await.unwrap(), "a used key enrolled a second host");
    assert_eq!(store.last_seen(host(1).1).await.unwrap(), Some(99));
    assert_eq!(store.last_seen(host(2).1).await.unwrap(), None);
    assert!(store.has_hosts().await.unwrap());
}

async fn one_of_many_with_the_same_key_enrols(store: &dyn Store) {
    let hash = EnrollHash::of("race");
    store.add_enroll_key(hash, 100).await.unwrap();
    let tries = (10..18).map(|byte| store.enroll(hash, host(byte).0, 1));
    let won = futures_util::future::join_all(tries).await.into_iter().filter(|r| *r.as_ref().unwrap()).count();
    assert_eq!(won, 1);
}

fn sent(outcome: ListOutcome, revoked: &[PublicKey]) -> SentList {
    SentList { outcome, revoked: revoked.to_vec() }
}

async fn device_lists_only_grow_in_version(store: &dyn Store) {
    let (a, b) = (PublicKey([1; 32]), PublicKey([2; 32]));
    let id = enrol(store, 30).await;
    assert!(!store.lists_device(id, a).await.unwrap());
    assert_eq!(store.put_devices(id, 0, vec![a, b, b]).await.unwrap(), sent(ListOutcome::Stored, &[]));
    assert_eq!(store.put_devices(id, 0, vec![b, a]).await.unwrap(), sent(ListOutcome::Stored, &[]));
    assert!(store.lists_device(id, a).await.unwrap());
    assert_eq!(store.put_devices(id, 7, vec![b]).await.unwrap(), sent(ListOutcome::Stored, &[]));
    assert!(!store.lists_device(id, a).await.unwrap());
    assert_eq!(store.put_devices(id, 6, vec![b]).await.unwrap(), sent(ListOutcome::Older { stored: 7 }, &[]));
    assert!(store.lists_device(id, b).await.unwrap());

    let other = enrol(store, 31).await;
    assert!(!store.lists_device(other, b).await.unwrap(), "a device of one host was listed for another");
}

async fn what_is_revoked_stays_revoked(store: &dyn Store) {
    let [lost, kept, new] = [3, 4, 5].map(|byte| PublicKey([byte; 32]));
    let (id, other) = (enrol(store, 32).await, enrol(store, 33).await);
    store.put_devices(id, 1, vec![lost, kept]).await.unwrap();
    store.put_devices(id, 5, vec![kept]).await.unwrap();
    // From a backup, as it was, and under the version of the day on which it was restored.
    assert_eq!(
        store.put_devices(id, 1, vec![lost, kept]).await.unwrap(),
        sent(ListOutcome::Older { stored: 5 }, &[lost])
    );
    assert_eq!(store.put_devices(id, 9, vec![lost, kept, new]).await.unwrap(), sent(ListOutcome::Stored, &[lost]));
    assert!(!store.lists_device(id, lost).await.unwrap());
    assert!(store.lists_device(id, kept).await.unwrap() && store.lists_device(id, new).await.unwrap());
    // The list in force is the one without it, and the host need not raise the version again.
    assert_eq!(store.put_devices(id, 9, vec![new, lost, kept]).await.unwrap(), sent(ListOutcome::Stored, &[lost]));
    // A backup whose version happens to be the stored one's takes away what it lacks, and brings nothing back.
    assert_eq!(store.put_devices(id, 9, vec![new, lost]).await.unwrap(), sent(ListOutcome::Stored, &[lost]));
    assert!(!store.lists_device(id, kept).await.unwrap() && store.lists_device(id, new).await.unwrap());
    assert_eq!(store.put_devices(id, 9, vec![new, kept]).await.unwrap(), sent(ListOutcome::Stored, &[kept]));
    // It is this host's device that is revoked.
    assert_eq!(store.put_devices(other, 1, vec![lost]).await.unwrap(), sent(ListOutcome::Stored, &[]));
    assert!(store.lists_device(other, lost).await.unwrap());
}

async fn so_many_revoked_devices_are_remembered(store: &dyn Store) {
    let key = |number: u64| PublicKey(std::array::from_fn(|at| number.to_be_bytes()[at % 8]));
    let id = enrol(store, 34).await;
    let (size, most) = (256, REVOKED_PER_HOST.unsigned_abs());
    let lists = most / size + 2;
    for list in 0..lists {
        let keys = (list * size..(list + 1) * size).map(key).collect();
        store.put_devices(id, list, keys).await.unwrap();
    }
    let first = store.put_devices(id, lists, (0..size).map(key).collect()).await.unwrap();
    assert_eq!(first, sent(ListOutcome::Stored, &[]), "more than {most} are remembered");
    let newer = store.put_devices(id, lists + 1, (3 * size..4 * size).map(key).collect()).await.unwrap();
    assert_eq!(newer.revoked.len() as u64, size, "fewer than {most} are remembered");
}

async fn hosts_are_remembered(store: &dyn Store) {
    let id = enrol(store, 40).await;
    store.saw_host(id, 55).await.unwrap();
    assert_eq!(store.last_seen(id).await.unwrap(), Some(55));
}

async fn hosts_that_are_seen_at_once_are_all_remembered(store: &dyn Store) {
    let mut hosts = Vec::new();
    for number in 60..90 {
        hosts.push(enrol(store, number).await);
    }
    let seen = hosts.iter().enumerate().map(|(at, id)| store.saw_host(*id, 1_000 + at as u64));
    for stored in futures_util::future::join_all(seen).await {
        stored.unwrap();
    }
    for (at, id) in hosts.iter().enumerate() {
        assert_eq!(store.last_seen(*id).await.unwrap(), Some(1_000 + at as u64));
    }
}

async fn pruning_keeps_keys_that_still_work(store: &dyn Store) {
    let (old, live) = (EnrollHash::of("old"), EnrollHash::of("live"));
    store.add_enroll_key(old, 100).await.unwrap();
    store.add_enroll_key(live, 200).await.unwrap();
    store.prune(150).await.unwrap();
    assert!(!store.enroll(old, host(50).0, 1).await.unwrap());
    assert!(store.enroll(live, host(51).0, 150).await.unwrap());
}
