//! How long a start is waited for.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_codex_that_enters_old_recordings_in_its_database_is_waited_for() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("state_5.sqlite-wal");
    let work = async {
        let mut written = Vec::new();
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_secs(20)).await;
            written.push(0);
            std::fs::write(&path, &written).unwrap();
        }
        std::future::pending::<()>().await;
    };
    let start = tokio::time::Instant::now();
    tokio::select! {
        () = work => {}
        () = idle_for_long(home.path()) => {}
    }
    let waited = start.elapsed().as_secs();
    assert!((430..435).contains(&waited), "400 s of work and 30 s of nothing; given up after {waited} s");
}

#[tokio::test(start_paused = true)]
async fn a_codex_that_never_listens_is_given_up_however_much_it_writes() {
    let home = tempfile::tempdir().unwrap();
    let work = async {
        for size in 1.. {
            tokio::time::sleep(Duration::from_secs(5)).await;
            std::fs::write(home.path().join("state_5.sqlite"), vec![0; size]).unwrap();
        }
    };
    let start = tokio::time::Instant::now();
    tokio::select! {
        () = work => {}
        () = idle_for_long(home.path()) => {}
    }
    assert_eq!(start.elapsed(), LONGEST_START);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_the_state_database_is_no_sign_of_work() {
    let home = tempfile::tempdir().unwrap();
    let work = async {
        for size in 1.. {
            tokio::time::sleep(Duration::from_secs(5)).await;
            std::fs::write(home.path().join("logs_2.sqlite"), vec![0; size]).unwrap();
        }
    };
    let start = tokio::time::Instant::now();
    tokio::select! {
        () = work => {}
        () = idle_for_long(home.path()) => {}
    }
    assert_eq!(start.elapsed(), START_DEADLINE);
}
