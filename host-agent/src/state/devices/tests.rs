use super::*;

fn at(day: u64) -> Timestamp {
    Timestamp::from_unix(1_795_413_540 + day * 24 * 3600)
}

fn device(name: &str, scope: Scope) -> Device {
    Device::for_test(name, scope, at(0))
}

fn open(home: &Path) -> DeviceStore {
    DeviceStore::open(home, at(0)).unwrap()
}

/// Makes every write fail, for root too: a directory takes the file's place.
fn break_disk(home: &Path) {
    std::fs::remove_file(path(home)).unwrap();
    std::fs::create_dir_all(path(home).join("in the way")).unwrap();
}

fn mend_disk(home: &Path) {
    std::fs::remove_dir_all(path(home)).unwrap();
}

#[test]
fn devices_survive_a_restart_and_versions_grow() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let first = store.current().version;
    let phone = device("phone", Scope::Approve);
    store.add(phone.clone(), at(0)).unwrap();
    assert_eq!(store.current().keys(), [phone.identity]);

    let again = open(temp.path());
    assert_eq!(again.current().devices, std::slice::from_ref(&phone));
    assert_eq!(again.admit(&phone.static_key), Ok(phone.clone()));
    assert!(store.current().version > first && again.current().version > store.current().version);
    assert_eq!(again.current().find("PHONE").map(|d| d.device_id), Ok(phone.device_id));
}

#[test]
fn versions_grow_past_a_lost_file() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    store.add(device("phone", Scope::View), at(0)).unwrap();
    let had = store.current().version;
    std::fs::remove_file(path(temp.path())).unwrap();
    assert!(DeviceStore::open(temp.path(), at(1)).unwrap().current().version > had);
}

#[test]
fn a_revoked_or_paused_device_is_not_admitted() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let phone = device("phone", Scope::Steer);
    let (id, key) = (phone.device_id, phone.static_key);
    store.add(phone, at(0)).unwrap();

    store.set_paused(Some(id), true, at(0)).unwrap();
    assert_eq!(store.admit(&key), Err(AdmitError::Paused));
    assert_eq!(store.current().keys().len(), 1, "a pause is no revocation");
    store.set_paused(Some(id), false, at(0)).unwrap();
    store.set_paused(None, true, at(0)).unwrap();
    assert_eq!(open(temp.path()).admit(&key), Err(AdmitError::Paused));
    store.set_paused(None, false, at(0)).unwrap();
    assert!(store.admit(&key).is_ok());

    assert_eq!(store.remove(id, at(0)).unwrap().device_id, id);
    assert_eq!(store.admit(&key), Err(AdmitError::Unknown));
    assert!(matches!(store.remove(id, at(0)), Err(ChangeError::Unknown(_))));
    assert!(matches!(store.set_scope(id, Scope::Admin, at(0)), Err(ChangeError::Unknown(_))));
    assert!(matches!(store.set_paused(Some(id), true, at(0)), Err(ChangeError::Unknown(_))));
    assert_eq!(open(temp.path()).admit(&key), Err(AdmitError::Unknown));
}

#[test]
fn known_keys_weak_keys_and_wrong_ids_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let phone = device("phone", Scope::Steer);
    store.add(phone.clone(), at(0)).unwrap();
    assert!(matches!(store.add(phone.clone(), at(0)), Err(ChangeError::Duplicate { .. })));
    let borrowed = Device { static_key: phone.static_key, ..device("thief", Scope::Steer) };
    assert!(matches!(store.add(borrowed, at(0)), Err(ChangeError::Duplicate { .. })));
    let weak = Device { static_key: PublicKey([0; 32]), ..device("weak", Scope::Steer) };
    assert!(matches!(store.add(weak, at(0)), Err(ChangeError::Invalid(_))));
    let renamed = Device { device_id: phone.device_id, ..device("liar", Scope::Steer) };
    assert!(matches!(store.add(renamed, at(0)), Err(ChangeError::Invalid(_))));
    assert_eq!(store.current().devices.len(), 1);
}

#[test]
fn the_257th_device_is_refused_and_256_fit_a_file() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::create_dir(temp.path().join("host")).unwrap();
    let full = DeviceList {
        version: 1,
        paused: false,
        devices: (0..MAX_DEVICES).map(|_| device(&"\u{10ffff}".repeat(16), Scope::Approve)).collect(),
    };
    atomic::save(&path(temp.path()), &full).unwrap();
    let store = open(temp.path());
    assert!(matches!(store.add(device("more", Scope::View), at(0)), Err(ChangeError::Full)));
    assert_eq!(store.current().devices.len(), MAX_DEVICES);
}

#[test]
fn subscribers_hear_of_changes_and_not_of_sightings() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let phone = device("phone", Scope::Approve);
    let id = phone.device_id;
    let mut changes = store.subscribe();
    store.add(phone, at(0)).unwrap();
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();

    store.touch(id, at(3));
    assert!(!changes.has_changed().unwrap());
    assert_eq!(store.current().device(id).unwrap().last_seen, at(3));
    store.set_scope(id, Scope::View, at(3)).unwrap();
    assert_eq!(changes.borrow_and_update().device(id).unwrap().scope, Scope::View);
}

#[test]
fn sightings_reach_the_disk_with_a_flush_or_the_next_change() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let phone = device("phone", Scope::Approve);
    let id = phone.device_id;
    store.add(phone, at(0)).unwrap();
    let on_disk = || open(temp.path()).current().device(id).unwrap().last_seen;
    store.touch(id, at(3));
    assert_eq!(on_disk(), at(0));
    store.flush().unwrap();
    assert_eq!(on_disk(), at(3));
    store.touch(id, at(5));
    store.touch(id, at(4));
    store.add(device("tablet", Scope::View), at(5)).unwrap();
    assert_eq!(on_disk(), at(5));
}

#[test]
fn hours_unseen_are_counted_on_the_disk_and_started_anew_by_a_sighting_or_a_resumption() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let [old, new, out] = ["old", "new", "out"].map(|name| device(name, Scope::Approve));
    let ids = [&old, &new, &out].map(|device| device.device_id);
    for device in [old, new, out] {
        store.add(device, at(0)).unwrap();
    }
    store.set_paused(Some(ids[2]), true, at(0)).unwrap();
    let hours = |store: &DeviceStore| ids.map(|id| store.current().device(id).unwrap().unseen_hours);
    for _ in 1..UNSEEN_LIMIT {
        assert!(store.hour_passed(|id| id == ids[1], at(1)).is_empty());
    }
    store.flush().unwrap();
    let store = open(temp.path());
    assert_eq!(hours(&store), [UNSEEN_LIMIT - 1, 0, 0]);

    let expired = store.hour_passed(|_| false, at(1));
    assert_eq!(expired.iter().map(|device| device.device_id).collect::<Vec<_>>(), [ids[0]]);
    store.set_expired(ids[0], at(1)).unwrap();
    assert!(store.hour_passed(|_| false, at(1)).is_empty(), "it expires once");
    assert_eq!(store.admit(&store.current().devices[0].static_key), Err(AdmitError::Paused));
    let on_disk = open(temp.path()).current();
    assert!(on_disk.devices[0].paused && on_disk.devices[0].expired);
    assert_eq!(on_disk.keys().len(), 3, "it is not revoked at the relay");

    store.set_paused(Some(ids[0]), false, at(2)).unwrap();
    store.touch(ids[1], at(2));
    let list = store.current();
    assert!(!list.devices[0].paused && !list.devices[0].expired);
    assert_eq!(hours(&store), [0, 0, 0]);
    assert!(store.hour_passed(|_| false, at(2)).is_empty());
    // With the switch off nobody can be seen.
    store.set_paused(None, true, at(3)).unwrap();
    store.hour_passed(|_| false, at(3));
    assert_eq!(hours(&store), [1, 1, 0]);
}

#[test]
fn without_a_disk_rights_are_taken_away_and_none_are_given() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let (phone, tablet) = (device("phone", Scope::Approve), device("tablet", Scope::Steer));
    let (phone_key, tablet_id) = (phone.static_key, tablet.device_id);
    store.add(phone.clone(), at(0)).unwrap();
    store.add(tablet, at(0)).unwrap();
    let scope = || store.current().device(tablet_id).unwrap().scope;

    break_disk(temp.path());
    assert!(matches!(store.add(device("new", Scope::View), at(0)), Err(ChangeError::File(_))));
    assert_eq!(store.current().devices.len(), 2);
    assert!(store.set_scope(tablet_id, Scope::Admin, at(0)).is_err());
    assert_eq!(scope(), Scope::Steer);
    assert!(store.set_scope(tablet_id, Scope::View, at(0)).is_err());
    assert_eq!(scope(), Scope::View);
    let mut changes = store.subscribe();
    assert!(store.remove(phone.device_id, at(0)).is_err());
    assert_eq!(store.admit(&phone_key), Err(AdmitError::Unknown));
    assert!(changes.borrow_and_update().device(phone.device_id).is_none());
    assert!(store.flush().is_err());

    mend_disk(temp.path());
    store.flush().unwrap();
    assert_eq!(open(temp.path()).admit(&phone_key), Err(AdmitError::Unknown));
}

#[test]
fn a_damaged_list_is_reported_and_kept() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let phone = device("phone", Scope::Approve);
    store.add(phone.clone(), at(0)).unwrap();
    let good = std::fs::read_to_string(path(temp.path())).unwrap();
    let other = device("other", Scope::View).device_id.to_string();
    for bad in [
        good[..good.len() - 9].to_owned(),
        good.replace(&phone.device_id.to_string(), &other),
        good.replace("\"approve\"", "\"root\""),
    ] {
        std::fs::write(path(temp.path()), &bad).unwrap();
        let error = DeviceStore::open(temp.path(), at(0)).unwrap_err();
        assert!(error.to_string().contains("devices.json"), "{error}");
        assert_eq!(std::fs::read_to_string(path(temp.path())).unwrap(), bad);
    }
    let twice = DeviceList { devices: vec![phone.clone(), phone], ..(*store.current()).clone() };
    atomic::save(&path(temp.path()), &twice).unwrap();
    assert!(matches!(DeviceStore::open(temp.path(), at(0)), Err(FileError::Inconsistent { .. })));
}

#[test]
fn a_list_that_the_relay_would_ignore_outgrows_what_it_holds() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let seen = store.current().version + 1000;
    let mut changes = store.subscribe();
    changes.borrow_and_update();
    store.outgrow(seen, at(0)).unwrap();
    assert!(store.current().version > seen);
    assert!(changes.has_changed().unwrap(), "the tunnel is not told to send it again");
    let version = store.current().version;
    store.outgrow(version, at(0)).unwrap();
    assert_eq!(store.current().version, version);
}

#[test]
fn who_is_revoked_at_the_relay_is_kept_out_once_and_until_the_owner_says_so() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let [a, b, c] = ["a", "b", "c"].map(|name| Device::for_test(name, Scope::Approve, at(0)));
    for device in [&a, &b, &c] {
        store.add(device.clone(), at(0)).unwrap();
    }
    store.set_paused(Some(b.device_id), true, at(0)).unwrap();
    let stranger = Device::for_test("d", Scope::View, at(0));
    let keys = [a.identity, b.identity, stranger.identity];
    let news = store.set_revoked_at_relay(&keys, at(1)).unwrap();
    assert_eq!(news.iter().map(|device| device.device_id).collect::<Vec<_>>(), [a.device_id, b.device_id]);
    assert_eq!(store.admit(&a.static_key), Err(AdmitError::Paused));
    assert!(store.admit(&c.static_key).is_ok());
    // Said again it changes nothing: a new version would be sent, and be answered with the same.
    let version = store.current().version;
    assert_eq!(store.set_revoked_at_relay(&keys, at(2)).unwrap(), []);
    assert_eq!(store.current().version, version);
    // It outlives the agent, and ends by the owner's word.
    let store = open(temp.path());
    assert!(store.current().device(a.device_id).unwrap().revoked_at_relay);
    store.set_paused(Some(a.device_id), false, at(3)).unwrap();
    assert!(store.admit(&a.static_key).is_ok());
    assert!(!store.current().device(a.device_id).unwrap().revoked_at_relay);
}

#[test]
fn a_version_that_no_host_can_have_had_is_not_outgrown() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let version = store.current().version;
    for seen in [u64::MAX, u64::MAX - 1, MAX_SEEN + 1] {
        store.outgrow(seen, at(0)).unwrap();
        assert_eq!(store.current().version, version, "{seen}");
    }
    store.outgrow(MAX_SEEN, at(0)).unwrap();
    assert_eq!(store.current().version, MAX_SEEN + 1);
}
