use std::fs::{self, OpenOptions};
use std::io::Write;

use reachback_proto::ids::PublicKey;
use reachback_proto::scope::Scope;

use super::files::{FORMER, Size, folder};
use super::line::local;
use super::repeats::{KINDS, OTHER};
use super::*;

/// Some 25 lines of a kind.
const SMALL: Sizes = {
    let size = Size { rotate_at: 1000, keep: 4 };
    Sizes { owner: size, changes: size, actions: size, refusals: size }
};

fn device(number: u8) -> DeviceId {
    DeviceId::of(&PublicKey([number; 32]))
}

fn entry(second: u64) -> Entry {
    Entry { at: Timestamp::from_unix(second), device_id: device(7), by: None, what: action("passed", None, "t1") }
}

fn action(decision: &str, reason: Option<&str>, thread: &str) -> What {
    What::Action {
        environment: local(),
        method: Some("turn/start".into()),
        thread: Some(thread.into()),
        decision: decision.into(),
        reason: reason.map(str::to_owned),
        answer: None,
        folder: None,
        scope: Scope::Approve,
        count: None,
        until: None,
    }
}

/// A refusal to a device, about a thread.
fn refusal(number: u8, second: u64, thread: &str) -> Entry {
    let what = action("refused", Some("scope"), thread);
    Entry { at: Timestamp::from_unix(second), device_id: device(number), by: None, what }
}

/// What the owner did with a device.
fn owned(number: u8, second: u64, what: What) -> Entry {
    Entry { at: Timestamp::from_unix(second), device_id: device(number), by: None, what }
}

fn line(second: u64) -> Line {
    Line::Device(entry(second))
}

fn lines(home: &tempfile::TempDir) -> Vec<Entry> {
    let (lines, skipped) = read(home.path()).unwrap();
    assert_eq!(skipped, 0);
    let entry = |line| match line {
        Line::Device(entry) => entry,
        other => panic!("{other:?}"),
    };
    lines.into_iter().map(entry).collect()
}

/// How often the refusals of lines came, and until when.
fn counts(lines: &[Entry]) -> Vec<(u64, Option<u64>, Option<u64>)> {
    let count = |entry: &Entry| match &entry.what {
        What::Action { count, until, .. } => (entry.at.unix(), *count, until.map(Timestamp::unix)),
        other => panic!("{other:?}"),
    };
    lines.iter().map(count).collect()
}

/// The owner does this and that, and another device works; then `flood` writes as much as it likes. All of that is still there.
fn survives(flood: impl Fn(&AuditLog)) {
    let home = tempfile::tempdir().unwrap();
    let log = AuditLog::open_with(home.path(), SMALL).unwrap();
    let before = [
        owned(7, 1, What::Paired { scope: Scope::Admin }),
        owned(8, 2, What::Paired { scope: Scope::Steer }),
        owned(9, 3, What::Revoked),
        Entry { device_id: device(8), ..entry(4) },
        refusal(8, 5, "t1"),
    ];
    before.iter().for_each(|entry| log.write(entry).unwrap());
    flood(&log);
    log.flush_all().unwrap();
    let after = owned(7, 1_000_000, What::Revoked);
    log.write(&after).unwrap();
    let found = lines(&home);
    for entry in before.iter().chain([&after]) {
        assert!(found.contains(entry), "{entry:?} was pushed out");
    }
    assert!(found.len() < 200, "{} lines of a flood were kept", found.len());
}

#[test]
fn a_device_that_is_refused_without_end_pushes_out_only_its_own_refusals() {
    survives(|log| (10..2000).for_each(|n| log.write(&refusal(7, n * 7, &format!("t{n}"))).unwrap()));
}

#[test]
fn a_device_that_acts_without_end_pushes_out_only_its_own_actions() {
    survives(|log| (10..2000).for_each(|n| log.write(&entry(n)).unwrap()));
}

#[test]
fn a_device_that_changes_devices_without_end_pushes_out_no_word_of_the_owners() {
    survives(|log| {
        for n in 10..2000 {
            for what in [What::Paused { reason: None }, What::Resumed] {
                log.write(&Entry { by: Some(device(7)), ..owned(8, n, what) }).unwrap();
            }
            let (environment, thread) = (local(), "t1".to_owned());
            let ended = What::WorkEnded { environment, thread, goal: true, queued: 0, turns: 1 };
            log.write(&owned(8, n, ended)).unwrap();
        }
    });
}

#[test]
fn the_same_refusal_again_is_counted_and_what_passes_never_is() {
    let home = tempfile::tempdir().unwrap();
    let log = AuditLog::open(home.path()).unwrap();
    (100..140).for_each(|second| log.write(&refusal(7, second, "t1")).unwrap());
    log.write(&refusal(7, 139, "t2")).unwrap();
    log.write(&refusal(8, 139, "t1")).unwrap();
    log.flush(Timestamp::from_unix(150)).unwrap();
    assert_eq!(counts(&lines(&home)), [(100, None, None), (139, None, None), (139, None, None)]);
    log.flush(Timestamp::from_unix(160)).unwrap();
    let so_far = [(100, None, None), (101, Some(39), Some(139)), (139, None, None), (139, None, None)];
    assert_eq!(counts(&lines(&home)), so_far);
    // A minute is over: the first is written at once again, also where nobody looked in between.
    for second in [160, 161, 220] {
        log.write(&refusal(7, second, "t1")).unwrap();
    }
    let later = [(160, None, None), (161, Some(1), Some(161)), (220, None, None)];
    assert_eq!(counts(&lines(&home)), [&so_far[..], &later].concat());

    let home = tempfile::tempdir().unwrap();
    let log = AuditLog::open(home.path()).unwrap();
    (0..50).for_each(|_| log.write(&entry(1)).unwrap());
    assert_eq!(lines(&home), vec![entry(1); 50]);
}

#[test]
fn a_device_that_varies_what_is_refused_has_so_many_lines_a_minute_and_takes_no_others() {
    let home = tempfile::tempdir().unwrap();
    let log = AuditLog::open(home.path()).unwrap();
    let many = KINDS * 10;
    (0..many).for_each(|n| log.write(&refusal(7, 100, &format!("t{n}"))).unwrap());
    log.write(&refusal(8, 101, "t1")).unwrap();
    log.write(&refusal(8, 101, "t1")).unwrap();
    log.flush_all().unwrap();
    let found = lines(&home);
    let (theirs, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|entry| entry.device_id == device(7));
    assert_eq!(theirs.len(), KINDS + 2);
    let What::Action { method: None, thread: None, reason, count, .. } = &theirs[KINDS + 1].what else {
        panic!("{theirs:?}")
    };
    assert_eq!((reason.as_deref(), *count), (Some(OTHER), Some((many - KINDS - 1) as u64)));
    assert_eq!(counts(&others), [(101, None, None), (101, Some(1), Some(101))]);
}

#[test]
fn a_count_that_can_not_be_written_is_written_later() {
    let home = tempfile::tempdir().unwrap();
    let log = AuditLog::open(home.path()).unwrap();
    (100..103).for_each(|second| log.write(&refusal(7, second, "t1")).unwrap());
    // Now another file is the open one.
    log.write(&entry(103)).unwrap();
    let (path, aside) = (Book::Refusals(device(7)).file(&folder(home.path()), 0), home.path().join("aside"));
    fs::rename(&path, &aside).unwrap();
    fs::create_dir(&path).unwrap();
    let error = log.flush(Timestamp::from_unix(200)).unwrap_err();
    assert!(error.to_string().contains("refusals."), "{error}");
    fs::remove_dir(&path).unwrap();
    fs::rename(&aside, &path).unwrap();
    log.flush(Timestamp::from_unix(200)).unwrap();
    assert_eq!(counts(&lines(&home)), [(100, None, None), (101, Some(2), Some(102)), (103, None, None)]);
}

#[test]
fn lines_are_read_back_in_order_across_restarts() {
    let home = tempfile::tempdir().unwrap();
    for second in 0..3 {
        AuditLog::open(home.path()).unwrap().write(&entry(second)).unwrap();
    }
    assert_eq!(read(home.path()).unwrap(), ((0..3).map(line).collect(), 0));
}

#[test]
fn files_come_together_by_time_and_each_keeps_its_order_under_a_clock_that_is_set_back() {
    let home = tempfile::tempdir().unwrap();
    let log = AuditLog::open(home.path()).unwrap();
    let written = [
        owned(7, 1, What::Paired { scope: Scope::Admin }),
        entry(2),
        refusal(7, 2, "t1"),
        Entry { by: Some(device(7)), ..owned(8, 3, What::Revoked) },
        entry(4),
    ];
    written.iter().for_each(|entry| log.write(entry).unwrap());
    assert_eq!(lines(&home), written);
    log.write(&entry(0)).unwrap();
    assert_eq!(lines(&home), [&written[..], &[entry(0)]].concat());
}

#[test]
fn folders_stand_among_devices_and_every_older_line_is_read_first_and_left_as_it_is() {
    let home = tempfile::tempdir().unwrap();
    let log = AuditLog::open(home.path()).unwrap();
    let device = device(7);
    // As earlier builds wrote them.
    let older = [
        format!(r#"{{"at":"1970-01-01T00:00:00Z","device_id":"{device}","event":"paired","scope":"steer"}}"#),
        format!(r#"{{"at":"1970-01-01T00:00:09Z","device_id":"{device}","event":"revoked"}}"#),
        format!(
            r#"{{"at":"1970-01-01T00:00:00Z","device_id":"{device}","event":"action","method":"turn/start","decision":"passed","scope":"approve"}}"#
        ),
    ];
    let old = [(Book::Old.file(&folder(home.path()), 1), older[..1].concat() + "\n"), {
        (Book::Old.file(&folder(home.path()), 0), older[1..].iter().map(|line| format!("{line}\n")).collect())
    }];
    old.iter().for_each(|(path, text)| fs::write(path, text).unwrap());
    let opened = FolderEntry {
        at: Timestamp::from_unix(1),
        event: FolderChange::WorkspaceAdded,
        environment: local(),
        path: "/srv/project".into(),
    };
    log.write_folder(&opened).unwrap();
    let (lines, skipped) = read(home.path()).unwrap();
    assert_eq!((lines.len(), skipped), (4, 0));
    let moments: Vec<_> = lines.iter().map(|line| line.at().unix()).collect();
    assert_eq!(moments, [0, 9, 0, 1]);
    assert_eq!(lines[3], Line::Folder(opened.clone()));
    old.iter().for_each(|(path, text)| assert_eq!(fs::read_to_string(path).unwrap(), *text));
    let want = r#"{"at":"1970-01-01T00:00:01Z","event":"workspace_added","environment":"local","path":"/srv/project"}"#;
    assert_eq!(serde_json::to_string(&opened).unwrap(), want);
    let at = Timestamp::from_unix(2);
    let turned_on = CodexEntry { at, event: CodexChange::ChatgptRemoteOn, environment: local(), by: None };
    log.write_codex(&turned_on).unwrap();
    assert_eq!(read(home.path()).unwrap().0[4], Line::Codex(turned_on.clone()));
    let want = r#"{"at":"1970-01-01T00:00:02Z","event":"chatgpt_remote_on","environment":"local"}"#;
    assert_eq!(serde_json::to_string(&turned_on).unwrap(), want);
}

#[test]
fn a_line_is_the_format_that_programs_rely_on() {
    let mut line = entry(0);
    let device = device(7).to_string();
    let mut want = serde_json::json!({
        "at": "1970-01-01T00:00:00Z", "device_id": device, "event": "action", "environment": "local", "method": "turn/start",
        "thread": "t1", "decision": "passed", "scope": "approve",
    });
    assert_eq!(serde_json::to_value(&line).unwrap(), want);
    if let What::Action { folder, count, until, .. } = &mut line.what {
        (*folder, *count, *until) = (Some("/srv/project".to_owned()), Some(3), Some(Timestamp::from_unix(9)));
    }
    for (member, value) in [
        ("folder", serde_json::json!("/srv/project")),
        ("count", serde_json::json!(3)),
        ("until", serde_json::json!("1970-01-01T00:00:09Z")),
    ] {
        want[member] = value;
    }
    assert_eq!(serde_json::to_value(line).unwrap(), want);
}

#[test]
fn files_rotate_and_the_oldest_go() {
    let home = tempfile::tempdir().unwrap();
    let log = AuditLog::open_with(home.path(), SMALL).unwrap();
    (0..200).for_each(|second| log.write(&entry(second)).unwrap());
    let (entries, skipped) = read(home.path()).unwrap();
    assert_eq!(skipped, 0);
    assert_eq!(entries.last(), Some(&line(199)));
    assert!(entries.len() < 200, "nothing was dropped");
    assert!(entries.windows(2).all(|pair| pair[0].at() < pair[1].at()), "out of order");
    // The owner's file is there from the start.
    let files = fs::read_dir(folder(home.path())).unwrap().count();
    assert_eq!(files, SMALL.actions.keep as usize + 2);
}

#[test]
fn of_devices_that_are_gone_the_newest_files_are_kept_and_of_listed_ones_all() {
    let home = tempfile::tempdir().unwrap();
    let log = AuditLog::open(home.path()).unwrap();
    let number = |n: usize| u8::try_from(n).unwrap();
    // The first is the oldest, and the only one that is still listed.
    for n in 0..FORMER + 4 {
        log.write(&Entry { device_id: device(number(n)), ..entry(1) }).unwrap();
        log.write(&refusal(number(n), 1, "t1")).unwrap();
        for book in Book::all_of(device(number(n))) {
            let Ok(file) = OpenOptions::new().append(true).open(book.file(&folder(home.path()), 0)) else { continue };
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(n as u64)).unwrap();
        }
    }
    log.write(&owned(1, 1, What::Revoked)).unwrap();
    log.forget_former(|id| id == device(0)).unwrap();
    let of = |n: usize| lines(&home).iter().filter(|entry| entry.device_id == device(number(n))).count();
    assert_eq!([0, 1, 2, 3, 4, FORMER + 3].map(of), [2, 1, 0, 0, 2, 2]);
}

#[tokio::test]
async fn a_file_that_was_taken_away_is_made_anew() {
    let home = tempfile::tempdir().unwrap();
    let log = AuditLog::open(home.path()).unwrap();
    log.write(&entry(0)).unwrap();
    fs::remove_file(Book::Actions(device(7)).file(&folder(home.path()), 0)).unwrap();
    let begun = std::time::Instant::now();
    while lines(&home).is_empty() {
        assert!(begun.elapsed().as_secs() < 60, "lines go to a file that is gone");
        // So few that the file does not rotate.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        log.write(&entry(1)).unwrap();
    }
}

#[test]
fn half_a_line_of_a_crash_costs_that_line_only() {
    let home = tempfile::tempdir().unwrap();
    AuditLog::open(home.path()).unwrap().write(&entry(0)).unwrap();
    let path = Book::Actions(device(7)).file(&folder(home.path()), 0);
    let mut half = OpenOptions::new().append(true).open(&path).unwrap();
    half.write_all(br#"{"at":"1970-01-01T00:00:01Z","dev"#).unwrap();
    AuditLog::open(home.path()).unwrap().write(&entry(2)).unwrap();
    assert_eq!(read(home.path()).unwrap(), (vec![line(0), line(2)], 1));
}

#[cfg(unix)]
#[test]
fn the_log_is_for_this_user_only() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let log = AuditLog::open(home.path()).unwrap();
    log.write(&entry(0)).unwrap();
    for book in [Book::Owner, Book::Actions(device(7))] {
        let mode = fs::metadata(book.file(&folder(home.path()), 0)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn a_log_that_cannot_be_written_says_so() {
    let home = tempfile::tempdir().unwrap();
    let log = AuditLog::open(home.path()).unwrap();
    fs::create_dir(Book::Actions(device(7)).file(&folder(home.path()), 0)).unwrap();
    let error = log.write(&entry(0)).unwrap_err();
    assert!(error.to_string().contains("actions."), "{error}");
}
