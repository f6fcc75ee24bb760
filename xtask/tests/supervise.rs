//! Tests of the tests: one that hangs is ended and named, and what one leaves behind is found, named and ended.
//!
//! Linux: elsewhere nobody is told of orphans.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

/// So long sleeps who belongs to this test, and nobody else.
fn mark(test: u8) -> String {
    format!("3000.{}{test}", std::process::id())
}

/// A shell script under supervision.
fn start(limit: &str, grace: &str, output: &Path, script: &str) -> Child {
    let mut command = Command::new(XTASK);
    command.args(["supervise", "--limit", limit, "--grace", grace, "--output"]).arg(output);
    command.args(["--", "/bin/sh", "-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().expect("the supervisor starts")
}

/// Runs it; gives what the supervisor said, `None` if all was well.
fn supervise(limit: &str, grace: &str, script: &str) -> Option<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = start(limit, grace, &folder.path().join("output"), script);
    let _open = child.stdin.take();
    let Output { status, stdout, .. } = child.wait_with_output().expect("it ends");
    let said = String::from_utf8(stdout).expect("text");
    let well = said.lines().all(|line| line.starts_with("left by Codex: "));
    assert_eq!(status.success(), well, "{status}: {said}");
    (!said.is_empty()).then_some(said)
}

/// Processes with this on their command line, other than who supervises them.
fn running(mark: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("Linux").flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(mark) && !line.contains("supervise")).collect()
}

/// Waits until `holds`.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(30), "waited in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

#[test]
fn a_program_that_ends_well_is_no_news() {
    assert_eq!(supervise("30", "5", "true"), None);
}

#[test]
fn how_a_program_failed_is_said() {
    assert_eq!(supervise("30", "5", "exit 7").as_deref(), Some("its exit code is 7\n"));
    assert_eq!(supervise("30", "5", "kill -ABRT $$").as_deref(), Some("signal 6 ended it\n"));
}

#[test]
fn a_program_that_does_not_end_is_ended_with_all_that_it_started() {
    let mark = mark(1);
    let begin = Instant::now();
    let said = supervise("0.5", "5", &format!("setsid sleep {mark} & sleep {mark}")).expect("it was ended");
    assert!(begin.elapsed() < Duration::from_secs(20), "it took {:?}", begin.elapsed());
    assert!(said.starts_with("it did not end within 0.5 s, and was ended"), "{said}");
    let ran = said.lines().filter(|line| line.split_whitespace().nth(1) == Some("sleep")).count();
    assert_eq!(ran, 2, "{said}");
    assert_eq!(running(&mark), [""; 0]);
}

#[test]
fn who_is_left_behind_is_named_and_ended_whatever_it_did_to_get_away() {
    let mark = mark(2);
    // An orphan with a session of its own, which takes no notice of being asked to end.
    let away = format!("trap '' TERM HUP; setsid sh -c 'sleep {mark} & exec sleep {mark}' & exit 0");
    let said = supervise("30", "0.5", &away).expect("two are left over");
    let named = |line: &str| line.starts_with("left over: ") && line.ends_with(&format!(" sleep {mark}"));
    assert!(said.lines().all(named) && said.lines().count() == 2, "{said}");
    assert_eq!(running(&mark), [""; 0]);
}

#[test]
fn what_codex_is_known_to_leave_is_counted_apart_and_ended() {
    let mark = mark(5);
    // A process of that name which waits for ever.
    let stuck = format!("exec -a bwrap sh -c 'kill -STOP $$; true' {mark} --codex-run-as-fs-helper");
    let begin = Instant::now();
    let said = supervise("30", "20", &format!("bash -c \"{}\" & exit 0", stuck.replace('$', "\\$")));
    assert!(begin.elapsed() < Duration::from_secs(15), "nothing is won by waiting for it");
    assert_eq!(running(&mark), [""; 0]);
    let said = said.expect("it is left");
    assert!(said.starts_with("left by Codex: "), "{said}");
}

#[test]
fn who_ends_a_little_later_is_not_left_over() {
    assert_eq!(supervise("30", "10", "(sleep 0.3; sleep 0.3) & exit 0"), None);
}

#[test]
fn whoever_is_supervised_ends_with_the_run_that_wanted_it() {
    let mark = mark(3);
    let folder = tempfile::tempdir().unwrap();
    let mut child = start("300", "5", &folder.path().join("output"), &format!("setsid sleep {mark} & sleep {mark}"));
    eventually("both run", || running(&mark).iter().filter(|line| line.starts_with("sleep")).count() == 2);
    // What the end of the run does, whichever end it has.
    drop(child.stdin.take());
    assert!(!child.wait().unwrap().success());
    assert_eq!(running(&mark), [""; 0]);
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "whoever wanted it to run is gone\n");
}

#[test]
fn a_run_with_a_test_that_hangs_and_one_that_leaves_somebody_fails_and_names_both() {
    let mark = mark(4);
    let folder = tempfile::tempdir().unwrap();
    let deps = folder.path().join("target/debug/deps");
    fs::create_dir_all(&deps).unwrap();
    let program = deps.join("fake-1");
    // As a test program lists its tests, and runs one by its name.
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in\n\
         *--list*--ignored*) echo 'is::ignored: test' ;;\n\
         *--list*) printf '%s: test\\n' is::ignored hangs leaves_one fails passes ;;\n\
         *hangs*) echo last words; sleep {mark} ;;\n\
         *leaves_one*) setsid sleep {mark} & ;;\n\
         *fails*) echo why; exit 101 ;;\n\
         esac\n"
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();

    let run = |more: &[&str]| {
        let mut command = Command::new(XTASK);
        let output = command.args(["test", "--limit", "2", "--program"]).arg(&program).args(more).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    };
    let (ok, out, err) = run(&[]);
    assert!(!ok, "{out}{err}");
    for line in ["test hangs ... FAILED", "test leaves_one ... FAILED", "test fails ... FAILED", "test passes ... ok"] {
        assert!(out.contains(line), "no `{line}` in {out}");
    }
    assert!(out.contains("last words\n\nhangs: it did not end within 2 s, and was ended"), "{out}");
    assert!(out.contains("why\n\nfails: its exit code is 101"), "{out}");
    assert!(out.contains("test result: FAILED. 1 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out"), "{out}");
    assert!(err.contains("3 of 4 tests failed: "), "{err}");
    assert!(err.contains("; processes left over: 1"), "{err}");
    assert_eq!(running(&mark), [""; 0]);

    let (ok, out, err) = run(&["--filter", "passes"]);
    assert!(ok, "{out}{err}");
    assert!(out.contains("test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 4 filtered out"), "{out}");
    let (ok, _, err) = run(&["--filter", "no_such_test"]);
    assert!(!ok && err.contains("no test has `no_such_test` in its name"), "{err}");
}
