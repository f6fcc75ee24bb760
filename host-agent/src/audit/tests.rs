use reachback_proto::ids::{DeviceId, PublicKey};
use reachback_proto::scope::Scope;

use super::line::local;
use super::*;
use crate::state::timestamp::Timestamp;

fn entry(second: u64) -> Entry {
    Entry {
        at: Timestamp::from_unix(second),
        device_id: DeviceId::of(&PublicKey([7; 32])),
        by: None,
        what: What::Action {
            environment: local(),
            method: Some("turn/start".into()),
            thread: Some("t1".into()),
            decision: "passed".into(),
            reason: None,
            answer: None,
            scope: Scope::Approve,
        },
    }
}

fn line(second: u64) -> Line {
    Line::Device(entry(second))
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
fn folders_stand_among_devices_and_every_older_line_is_still_read() {
    let home = tempfile::tempdir().unwrap();
    let log = AuditLog::open(home.path()).unwrap();
    let device = DeviceId::of(&PublicKey([7; 32]));
    // As earlier builds wrote them.
    let older = [
        format!(r#"{{"at":"1970-01-01T00:00:00Z","device_id":"{device}","event":"paired","scope":"steer"}}"#),
        format!(r#"{{"at":"1970-01-01T00:00:00Z","device_id":"{device}","event":"revoked"}}"#),
        format!(
            r#"{{"at":"1970-01-01T00:00:00Z","device_id":"{device}","event":"action","method":"turn/start","decision":"passed","scope":"approve"}}"#
        ),
    ];
    fs::write(file(&folder(home.path()), 0), older.map(|line| line + "\n").concat()).unwrap();
    let opened = FolderEntry {
        at: Timestamp::from_unix(1),
        event: FolderChange::WorkspaceAdded,
        environment: local(),
        path: "/srv/project".into(),
    };
    log.write_folder(&opened).unwrap();
    let (lines, skipped) = read(home.path()).unwrap();
    assert_eq!((lines.len(), skipped), (4, 0));
    assert!(lines[..3].iter().all(|line| matches!(line, Line::Device(_))), "{lines:?}");
    assert_eq!(lines[3], Line::Folder(opened.clone()));
    let want = r#"{"at":"1970-01-01T00:00:01Z","event":"workspace_added","environment":"local","path":"/srv/project"}"#;
    assert_eq!(serde_json::to_string(&opened).unwrap(), want);
}

#[test]
fn a_line_is_the_format_that_programs_rely_on() {
    let line = serde_json::to_value(entry(0)).unwrap();
    let device = DeviceId::of(&PublicKey([7; 32])).to_string();
    let want = serde_json::json!({
        "at": "1970-01-01T00:00:00Z", "device_id": device, "event": "action", "environment": "local", "method": "turn/start",
        "thread": "t1", "decision": "passed", "scope": "approve",
    });
    assert_eq!(line, want);
}

#[test]
fn files_rotate_and_the_oldest_go() {
    let home = tempfile::tempdir().unwrap();
    let log = AuditLog::open_with(home.path(), 1000).unwrap();
    (0..200).for_each(|second| log.write(&entry(second)).unwrap());
    let (entries, skipped) = read(home.path()).unwrap();
    assert_eq!(skipped, 0);
    assert_eq!(entries.last(), Some(&line(199)));
    assert!(entries.len() < 200, "nothing was dropped");
    assert!(entries.windows(2).all(|pair| pair[0].at() < pair[1].at()), "out of order");
    let files = fs::read_dir(folder(home.path())).unwrap().count();
    assert_eq!(files, KEEP as usize + 1);
}

#[test]
fn half_a_line_of_a_crash_costs_that_line_only() {
    let home = tempfile::tempdir().unwrap();
    AuditLog::open(home.path()).unwrap().write(&entry(0)).unwrap();
    let path = file(&folder(home.path()), 0);
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
    AuditLog::open(home.path()).unwrap();
    let mode = fs::metadata(file(&folder(home.path()), 0)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[cfg(target_os = "linux")]
#[test]
fn a_log_that_cannot_be_written_says_so() {
    let home = tempfile::tempdir().unwrap();
    let log = AuditLog::open(home.path()).unwrap();
    log.current.lock().unwrap().file = OpenOptions::new().append(true).open("/dev/full").unwrap();
    let error = log.write(&entry(0)).unwrap_err();
    assert!(error.to_string().contains("audit.jsonl"), "{error}");
}
