//! The session's task, over links in memory.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reachback_proto::frame::{ByeReason, Frame};
use reachback_proto::ids::SessionId;
use reachback_proto::session::{ACK_DELAY, Session, SessionLimits};
use reachback_proto::wire::Reader;
use tokio::time::timeout;

use super::{Incoming, SessionState, StartedSession, start};
use crate::link::SecureLink;
use crate::link::testing::links;

const PATIENCE: Duration = Duration::from_secs(30);

fn host() -> StartedSession {
    start(Session::host(SessionId([1; 16]), SessionLimits::default(), Instant::now()))
}

async fn say(link: &mut SecureLink, frame: &Frame<'_>) {
    let mut record = Vec::new();
    frame.encode(&mut record);
    link.start_send(&mut record).unwrap();
    link.flush().await.unwrap();
}

/// A host's session on a link that a test holds the other end of.
async fn opened() -> (StartedSession, SecureLink) {
    let session = host();
    let (mut device, mut host) = links().await;
    say(&mut device, &Frame::Open).await;
    let record = host.record().await.unwrap();
    session.handle.attach(host, Some(record)).await.unwrap();
    assert_eq!(*session.handle.state().borrow(), SessionState::Up);
    (session, device)
}

/// Reads until the link ends; the last word, if there was one.
async fn last_word(mut link: SecureLink) -> Option<ByeReason> {
    let reading = async {
        while let Ok(record) = link.record().await {
            let mut frames = Reader::new(&record);
            while let Some(frame) = Frame::decode(&mut frames).unwrap() {
                if let Frame::Bye { reason, .. } = frame {
                    return Some(reason);
                }
            }
        }
        None
    };
    timeout(PATIENCE, reading).await.expect("the link neither speaks nor ends")
}

#[tokio::test]
async fn who_breaks_the_protocol_hears_so() {
    let (session, mut device) = opened().await;
    say(&mut device, &Frame::Ack { channel: 0, next: 1000 }).await;
    assert_eq!(last_word(device).await, Some(ByeReason::ProtocolError));
    let ended = SessionState::Ended { reason: Some(ByeReason::ProtocolError) };
    let mut state = session.handle.state();
    timeout(PATIENCE, state.wait_for(|state| *state == ended)).await.expect("the session goes on").unwrap();
}

#[tokio::test]
async fn the_last_word_gets_through_a_link_that_is_full() {
    let (session, device) = opened().await;
    // More than the pipe and a batch hold, and nobody reads.
    for _ in 0..8 {
        session.api.sender.send(Bytes::from(vec![b'.'; 100_000])).await.unwrap();
    }
    let end = session.handle.end(ByeReason::Revoked);
    let ((), word) = tokio::join!(end, last_word(device));
    assert_eq!(word, Some(ByeReason::Revoked));
}

#[tokio::test]
async fn attaching_returns_when_the_link_is_the_sessions() {
    let session = host();
    let (device, host) = links().await;
    drop(device);
    let mut state = session.handle.state();
    state.borrow_and_update();
    session.handle.attach(host, None).await.unwrap();
    assert!(state.has_changed().unwrap(), "the state is still that of before");
}

#[tokio::test]
async fn who_waits_for_room_hears_that_the_session_is_gone() {
    let StartedSession { handle, api, task, .. } = host();
    api.sender.send(Bytes::from(vec![b'.'; 1000])).await.unwrap();
    let full = async {
        while timeout(Duration::ZERO, api.sender.writable(1)).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, full).await.expect("the message is not counted");
    let waiting = tokio::spawn(async move { api.sender.writable(1).await });
    tokio::task::yield_now().await;
    drop((handle, task));
    timeout(PATIENCE, waiting).await.expect("it waits for ever").unwrap();
}

#[tokio::test]
async fn a_link_that_ends_with_the_record_that_opens_it_leaves_the_session_down() {
    let session = host();
    let (mut device, mut link) = links().await;
    say(&mut device, &Frame::Open).await;
    let record = link.record().await.unwrap();
    // Its end is there to be read together with what opened it.
    drop(device);
    session.handle.attach(link, Some(record)).await.unwrap();
    let mut state = session.handle.state();
    let down = state.wait_for(|state| matches!(state, SessionState::Down { .. }));
    timeout(PATIENCE, down).await.expect("the session says it is up, and has no link").unwrap();
    // Whatever was still to be told must not bring it up again.
    session.api.sender.send(Bytes::from_static(b"{}")).await.unwrap();
    session.api.sender.handled(0).unwrap();
    tokio::task::yield_now().await;
    assert!(matches!(*session.handle.state().borrow(), SessionState::Down { .. }));
}

#[tokio::test]
async fn a_last_word_that_has_arrived_is_heard_though_nothing_can_be_written_any_more() {
    for _ in 0..20 {
        let (session, mut device) = opened().await;
        // The session's task has not run since when it finds all three: something to write, a last word, no other end.
        session.api.sender.send(Bytes::from_static(b"{}")).await.unwrap();
        say(&mut device, &Frame::Bye { reason: ByeReason::Normal, reconnect_in_ms: 0 }).await;
        drop(device);
        let mut state = session.handle.state();
        let over = state.wait_for(|state| !matches!(state, SessionState::Up));
        let state = timeout(PATIENCE, over).await.expect("the session does not notice").unwrap().clone();
        assert!(matches!(state, SessionState::Ended { .. }), "{state:?}");
    }
}

#[tokio::test]
async fn a_last_word_stays_the_last_when_its_link_ends_behind_it() {
    let (session, mut device) = opened().await;
    say(&mut device, &Frame::Bye { reason: ByeReason::Revoked, reconnect_in_ms: 0 }).await;
    let mut state = session.handle.state();
    let ended = state.wait_for(|state| matches!(state, SessionState::Ended { .. }));
    timeout(PATIENCE, ended).await.expect("the session goes on").unwrap();
    // Who follows the session may look only now.
    drop(device);
    let later = timeout(PATIENCE, state.changed()).await.expect("the session's task goes on");
    assert!(later.is_err(), "after its end the session is {:?}", *state.borrow());
    let reason = Some(ByeReason::Revoked);
    assert_eq!(*session.handle.state().borrow(), SessionState::Ended { reason });
}

#[tokio::test]
async fn a_message_is_acknowledged_in_time_whenever_it_was_handled_and_whatever_else_happens() {
    let (mut session, mut device) = opened().await;
    // While the session looks for it, after it has looked in vain, and where more waits than it looks for.
    for (seq, (length, pause)) in (0..).zip([(1, Duration::ZERO), (1, 3 * ACK_DELAY), (200_000, Duration::ZERO)]) {
        let bytes = vec![b'.'; length];
        let mut rest = bytes.chunks(10_000);
        let count = rest.len() as u64;
        let before = if seq == 2 { count - 1 } else { 0 };
        let mut first = Some(length as u64);
        for at in 0..count {
            let bytes = rest.next().unwrap();
            let last = at + 1 == count;
            say(&mut device, &Frame::Data { channel: 0, seq: seq + at, first: first.take(), last, bytes }).await;
        }
        let message = timeout(PATIENCE, session.api.incoming.recv()).await.expect("nothing comes");
        let Some(Incoming::Message { seq: number, .. }) = message else { panic!("got {message:?}") };
        assert_eq!(number, seq + before);
        tokio::time::sleep(pause).await;
        session.api.sender.handled(number).unwrap();
        let acknowledged = async {
            loop {
                let record = device.record().await.unwrap();
                let mut frames = Reader::new(&record);
                while let Some(frame) = Frame::decode(&mut frames).unwrap() {
                    if matches!(frame, Frame::Ack { channel: 0, next } if next == number + 1) {
                        return;
                    }
                }
            }
        };
        timeout(PATIENCE, acknowledged).await.unwrap_or_else(|_| panic!("message {number} is not acknowledged"));
    }
}
