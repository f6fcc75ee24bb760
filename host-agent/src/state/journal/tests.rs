use std::fs;
use std::path::PathBuf;

use reachback_proto::ids::PublicKey;
use ring::rand::SystemRandom;

use super::*;
use crate::platform::files;

const NOW: u64 = 1_795_413_540_000;

fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    files::private_dir(&super::super::host_dir(home.path())).unwrap();
    home
}

fn open(home: &tempfile::TempDir, now: u64) -> Arc<Journal> {
    Arc::new(Journal::open(home.path(), &SystemRandom::new(), now).unwrap())
}

fn path(home: &tempfile::TempDir) -> PathBuf {
    super::super::host_dir(home.path()).join(FILE)
}

fn key(device: u8, id: &str) -> Key {
    Key { device_id: DeviceId::of(&PublicKey([device; 32])), id: PromptId::try_from(id.to_owned()).unwrap() }
}

fn entry(device: u8, id: &str) -> Entry {
    Entry {
        key: key(device, id),
        environment: "local".into(),
        thread_id: Some("t".into()),
        digest: "d".into(),
        taken_at: NOW,
        changed_at: NOW,
        state: State::Taken,
    }
}

async fn becomes(journal: &Arc<Journal>, key: Key, state: State) {
    let changed = journal.change(key, NOW + 1, move |entry| {
        entry.state = state;
        true
    });
    assert!(changed.await.unwrap().is_some());
}

#[tokio::test]
async fn what_was_handed_over_is_known_after_a_restart_and_what_was_only_taken_is_not() {
    let home = home();
    let journal = open(&home, NOW);
    for id in ["only-taken", "handed", "started"] {
        assert!(matches!(journal.take(entry(1, id)).await.unwrap(), Taken::New(_)));
    }
    becomes(&journal, key(1, "handed"), State::Handed).await;
    becomes(&journal, key(1, "started"), State::Handed).await;
    let started = State::Started { turn_id: "u".into(), steered: false };
    becomes(&journal, key(1, "started"), started.clone()).await;
    let again = journal.take(entry(1, "started")).await.unwrap();
    assert!(matches!(&again, Taken::Known(known) if known.state == started), "{again:?}");
    assert!(matches!(journal.take(entry(2, "started")).await.unwrap(), Taken::New(_)), "another device's id");

    let next = open(&home, NOW);
    assert_eq!(next.id(), journal.id());
    assert_eq!(next.get(&key(1, "only-taken")), None);
    assert_eq!(next.get(&key(1, "handed")).unwrap().state, State::Handed);
    assert_eq!(next.get(&key(1, "started")).unwrap().state, started);
}

#[tokio::test]
async fn a_line_that_was_cut_off_is_as_if_it_had_not_been_written() {
    let home = home();
    let journal = open(&home, NOW);
    journal.take(entry(1, "a")).await.unwrap();
    becomes(&journal, key(1, "a"), State::Handed).await;
    let whole = fs::read(path(&home)).unwrap();
    becomes(&journal, key(1, "a"), State::Withdrawn).await;
    let longer = fs::read(path(&home)).unwrap();
    for end in whole.len()..longer.len() - 1 {
        fs::write(path(&home), &longer[..end]).unwrap();
        let read = open(&home, NOW);
        assert_eq!(read.get(&key(1, "a")).unwrap().state, State::Handed, "cut at {end}");
        assert_eq!(read.id(), journal.id());
    }
}

#[tokio::test]
async fn what_is_damaged_is_kept_beside_a_new_one_with_another_id() {
    for damaged in ["", "nonsense", "{\"version\":1,\"journal\":\"x\"}\nnonsense\n{}\n"] {
        let home = home();
        let before = open(&home, NOW).id().to_owned();
        fs::write(path(&home), damaged).unwrap();
        assert_ne!(open(&home, NOW).id(), before, "{damaged}");
        assert_eq!(fs::read_to_string(path(&home).with_extension("damaged")).unwrap(), damaged);
    }
    let home = home();
    open(&home, NOW);
    let newer = "{\"version\":2,\"journal\":\"x\"}\n";
    fs::write(path(&home), newer).unwrap();
    let error = Journal::open(home.path(), &SystemRandom::new(), NOW).unwrap_err();
    assert!(matches!(error, FileError::Version { found: 2, .. }), "{error}");
    assert_eq!(fs::read_to_string(path(&home)).unwrap(), newer);
}

#[tokio::test]
async fn ids_are_forgotten_after_seven_days_and_one_device_has_so_many() {
    let home = home();
    let journal = open(&home, NOW);
    journal.take(entry(1, "old")).await.unwrap();
    becomes(&journal, key(1, "old"), State::Withdrawn).await;
    assert!(open(&home, NOW + KEEP_MS - 1).get(&key(1, "old")).is_some());
    assert!(open(&home, NOW + KEEP_MS).get(&key(1, "old")).is_none());

    let journal = open(&home, NOW);
    let many = (0..MAX_PER_DEVICE).map(|n| entry(1, &n.to_string())).map(|entry| (entry.key.clone(), entry));
    journal.entries().extend(many);
    assert!(matches!(journal.take(entry(1, "more")).await, Err(JournalError::Full)));
    assert!(matches!(journal.take(entry(2, "more")).await, Ok(Taken::New(_))));
    let later = Entry { taken_at: NOW + KEEP_MS + 1, ..entry(1, "more") };
    assert!(matches!(journal.take(later).await, Ok(Taken::New(_))), "room is made by the week that is over");
}

#[tokio::test]
async fn it_does_not_grow_for_ever() {
    let home = home();
    let journal = open(&home, NOW);
    journal.take(entry(1, "a")).await.unwrap();
    journal.file().has_grown();
    becomes(&journal, key(1, "a"), State::Handed).await;
    assert!(fs::metadata(path(&home)).unwrap().len() < 1024);
    becomes(&journal, key(1, "a"), State::Withdrawn).await;
    assert_eq!(open(&home, NOW).get(&key(1, "a")).unwrap().state, State::Withdrawn);
}

#[tokio::test]
async fn what_can_t_be_written_did_not_happen() {
    let home = home();
    let journal = open(&home, NOW);
    journal.take(entry(1, "a")).await.unwrap();
    journal.file().is_full();
    assert!(matches!(journal.take(entry(1, "b")).await, Err(JournalError::Disk(_))));
    assert_eq!(journal.get(&key(1, "b")), None);
    let changed = journal.change(key(1, "a"), NOW, |entry| {
        entry.state = State::Handed;
        true
    });
    assert!(matches!(changed.await, Err(JournalError::Disk(_))));
    assert_eq!(journal.get(&key(1, "a")).unwrap().state, State::Taken);
}

#[test]
fn ids_are_plain() {
    for good in ["a", "0198f000-0000-7000-8000-000000000001", &"x".repeat(MAX_ID)] {
        assert!(PromptId::try_from(good.to_owned()).is_ok(), "{good}");
    }
    for bad in ["", "a b", "a\n", "é", "a/b", &"x".repeat(MAX_ID + 1)] {
        assert!(PromptId::try_from(bad.to_owned()).is_err(), "{bad}");
    }
}
