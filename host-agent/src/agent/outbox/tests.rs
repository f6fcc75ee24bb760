use futures_util::FutureExt;
use proptest::prelude::*;
use tokio::task::JoinHandle;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

fn small() -> OutboxLimits {
    OutboxLimits { session: 0, memory: 2_000, device_memory: 3_000, disk: 100_000, device_disk: 150_000, segment: 500 }
}

fn outbox(limits: OutboxLimits) -> (Arc<Share>, Outbox, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let share = Arc::new(Share::new(limits, folder.path().into()));
    (Arc::clone(&share), Outbox::new(share), folder)
}

fn message(n: usize, length: usize) -> Bytes {
    format!("{n}:{}", "x".repeat(length)).into()
}

async fn next(outbox: &Outbox) -> Option<Bytes> {
    timeout(PATIENCE, outbox.pop()).await.expect("nothing comes").unwrap()
}

#[derive(Debug, Clone)]
enum Step {
    Push(usize),
    Pop,
}

proptest! {
    #[test]
    fn order_is_kept_through_memory_and_disk(
        steps in prop::collection::vec(prop_oneof![3 => (0usize..900).prop_map(Step::Push), 2 => Just(Step::Pop)], 0..200)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (share, outbox, folder) = outbox(OutboxLimits { disk: u64::MAX, device_disk: u64::MAX, ..small() });
            let (mut pushed, mut popped) = (0, 0);
            let mut lengths = VecDeque::new();
            for step in steps {
                match step {
                    Step::Push(length) => {
                        outbox.push(message(pushed, length)).await.unwrap();
                        lengths.push_back(length);
                        pushed += 1;
                    }
                    Step::Pop if popped == pushed => assert!(outbox.is_idle() || popped > 0),
                    Step::Pop => {
                        assert_eq!(outbox.pop().await.unwrap(), lengths.pop_front().map(|length| message(popped, length)));
                        popped += 1;
                    }
                }
                let (memory, _) = share.held();
                // What may wait, a segment that is being filled, one that was read, and the messages that crossed a line.
                assert!(memory <= 2_000 + 2 * (500 + 910), "{memory} bytes in memory");
                assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a file has a name");
            }
            outbox.finish();
            for length in lengths {
                assert_eq!(outbox.pop().await.unwrap(), Some(message(popped, length)));
                popped += 1;
            }
            assert_eq!(outbox.pop().await.unwrap(), None);
            assert_eq!(share.held(), (0, 0), "something is still counted");
        });
    }
}

#[tokio::test]
async fn one_task_pushes_while_another_takes() {
    let (share, outbox, _folder) = outbox(small());
    let outbox = Arc::new(outbox);
    let taker: JoinHandle<usize> = tokio::spawn({
        let outbox = Arc::clone(&outbox);
        async move {
            let mut taken = 0;
            while let Some(bytes) = next(&outbox).await {
                assert_eq!(bytes, message(taken, taken % 300));
                taken += 1;
            }
            taken
        }
    });
    for n in 0..2_000 {
        while share.held().1 > 50_000 {
            tokio::task::yield_now().await;
        }
        outbox.push(message(n, n % 300)).await.unwrap();
    }
    outbox.finish();
    assert_eq!(timeout(PATIENCE, taker).await.expect("it hangs").unwrap(), 2_000);
}

#[tokio::test]
async fn what_memory_holds_does_not_go_to_the_disk_while_a_message_is_on_its_way_to_the_session() {
    let (share, outbox, _folder) = outbox(small());
    outbox.push(message(0, 100)).await.unwrap();
    assert_eq!(next(&outbox).await, Some(message(0, 100)));
    for n in 1..15 {
        outbox.push(message(n, 100)).await.unwrap();
    }
    assert!(!outbox.is_idle(), "the next would go past what is on its way");
    assert_eq!(share.held().1, 0, "something is on the disk");
    outbox.finish();
    for n in 1..15 {
        assert_eq!(next(&outbox).await, Some(message(n, 100)));
    }
    assert_eq!(next(&outbox).await, None);
}

#[tokio::test]
async fn beyond_the_disk_it_is_full_and_says_how_far_behind_the_device_is() {
    let (share, outbox, _folder) = outbox(small());
    let mut pushed = 0;
    let full = loop {
        match outbox.push(message(pushed, 100)).await {
            Ok(()) => pushed += 1,
            Err(full) => break full,
        }
        assert!(pushed < 2_000, "it is never full");
    };
    assert!(matches!(full, Full::Limit { limit: 100_000 }), "{full:?}");
    let (memory, disk) = share.held();
    assert!(memory <= 3_000 && disk > 90_000 && disk <= 101_000, "{memory} in memory, {disk} on disk");
    drop(outbox);
    assert_eq!(share.held(), (0, 0), "something is still counted");
}

#[tokio::test]
async fn a_channel_that_ends_while_it_is_written_for_leaves_nothing_counted() {
    let (share, outbox, _folder) = outbox(small());
    let mut pushed = 0;
    // The first that has to be written waits for a thread.
    while outbox.push(message(pushed, 100)).now_or_never().is_some() {
        pushed += 1;
        assert!(pushed < 2_000, "nothing is written");
    }
    drop(outbox);
    let nothing = async {
        while share.held() != (0, 0) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, nothing).await.unwrap_or_else(|_| panic!("still counted: {:?}", share.held()));
}

#[tokio::test]
async fn channels_of_one_device_share_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let boxes = Outboxes::new(small(), folder.path().into());
    let (device, other) = (reachback_proto::ids::DeviceId([1; 16]), reachback_proto::ids::DeviceId([2; 16]));
    let filled = async |outbox: &Outbox| {
        let mut n = 0;
        while outbox.push(message(n, 100)).await.is_ok() {
            n += 1;
        }
        n
    };
    let (first, second, others) =
        (Outbox::new(boxes.share(device)), Outbox::new(boxes.share(device)), Outbox::new(boxes.share(other)));
    let (alone, beside, elsewhere) = (filled(&first).await, filled(&second).await, filled(&others).await);
    assert!(beside < alone * 2 / 3, "the second took {beside}, the first {alone}");
    assert!(elsewhere.abs_diff(alone) < 10, "another device has {elsewhere}, this one had {alone}");
}

#[tokio::test]
async fn a_folder_that_takes_no_file_is_said_in_words() {
    let (_, outbox, folder) = outbox(small());
    drop(folder);
    let full = loop {
        if let Err(full) = outbox.push(message(0, 400)).await {
            break full;
        }
    };
    assert!(matches!(full, Full::Disk(_)), "{full:?}");
}

#[tokio::test]
async fn large_messages_take_turns_until_they_are_acknowledged() {
    let (share, outbox, _folder) = outbox(OutboxLimits::default());
    let large = Bytes::from(vec![b'x'; 100 << 20]);
    outbox.push(large.clone()).await.unwrap();
    outbox.push(large.clone()).await.unwrap();
    let first = next(&outbox).await.unwrap();
    assert!(first == large, "it is another message");
    let part = first.slice(1000..2000);
    drop(first);
    let second = outbox.pop();
    tokio::pin!(second);
    let waits = timeout(Duration::from_millis(50), &mut second).await;
    assert!(waits.is_err(), "two large messages are with the sessions, {:?}", share.held());
    drop(part);
    let second = timeout(PATIENCE, second).await.expect("its turn never comes").unwrap();
    assert!(second == Some(large), "it is another message");
}

const WINDOW: Duration = Duration::from_millis(20);

/// A piece of an item's text.
fn piece(item: usize, delta: &str) -> Text {
    let params = format!(r#"{{"threadId":"t","itemId":"{item}","delta":"{delta}"}}"#);
    Text::read(format!(r#"{{"method":"item/agentMessage/delta","params":{params}}}"#).as_bytes()).unwrap()
}

/// The text that a message adds; none where it is no piece.
fn delta(message: &[u8]) -> Option<String> {
    let message: serde_json::Value = serde_json::from_slice(message).ok()?;
    Some(message["params"]["delta"].as_str()?.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_piece_waits_for_those_that_follow_and_not_longer_than_the_window() {
    let (share, outbox, _folder) = outbox(OutboxLimits::default());
    for (item, texts) in [(1, &["a"][..]), (2, &["b", "c", "d"])] {
        let begin = Instant::now();
        let more = async {
            for text in texts {
                outbox.hold(piece(item, text), WINDOW).await.unwrap();
                assert!(!outbox.is_idle(), "something may go past what waits");
                tokio::time::sleep(WINDOW / 4).await;
            }
        };
        let (message, ()) = tokio::join!(async { (next(&outbox).await, begin.elapsed()) }, more);
        assert_eq!(delta(&message.0.unwrap()), Some(texts.concat()));
        // Timers have milliseconds.
        assert!(message.1 >= WINDOW && message.1 <= WINDOW + Duration::from_millis(1), "{:?}", message.1);
    }
    assert!(outbox.pop().now_or_never().is_none());
    assert!(outbox.is_idle());
    assert_eq!(share.held(), (0, 0), "something is still counted");
}

#[tokio::test(start_paused = true)]
async fn whatever_is_no_piece_goes_behind_the_text_before_it_and_does_not_wait() {
    let (_, outbox, _folder) = outbox(OutboxLimits::default());
    let begin = Instant::now();
    for (item, text) in [(1, "a"), (2, "x"), (1, "b"), (2, "y")] {
        outbox.hold(piece(item, text), WINDOW).await.unwrap();
    }
    outbox.push(message(0, 10)).await.unwrap();
    outbox.hold(piece(1, "c"), WINDOW).await.unwrap();
    for wanted in ["ab", "xy"] {
        assert_eq!(delta(&next(&outbox).await.unwrap()).as_deref(), Some(wanted));
    }
    assert_eq!(next(&outbox).await, Some(message(0, 10)));
    assert_eq!(begin.elapsed(), Duration::ZERO);
    // The end does not wait either.
    outbox.finish();
    assert_eq!(next(&outbox).await.as_deref().and_then(delta).as_deref(), Some("c"));
    assert_eq!(next(&outbox).await, None);
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_ends_gives_the_text_that_waits_unless_something_waits_before_it() {
    let (share, outbox, _folder) = outbox(OutboxLimits::default());
    outbox.hold(piece(1, "a"), WINDOW).await.unwrap();
    let rest: Vec<_> = outbox.rest().iter().filter_map(|text| delta(text)).collect();
    assert_eq!((rest, share.held()), (vec!["a".to_owned()], (0, 0)));
    outbox.push(message(0, 10)).await.unwrap();
    outbox.hold(piece(1, "b"), WINDOW).await.unwrap();
    assert!(outbox.rest().is_empty(), "the text overtook a message");
}

#[tokio::test(start_paused = true)]
async fn text_for_a_device_that_is_behind_is_put_together_however_long_it_takes() {
    let (_, outbox, _folder) = outbox(OutboxLimits::default());
    for n in 0..1000 {
        outbox.hold(piece(1, &(n % 10).to_string()), WINDOW).await.unwrap();
        tokio::time::advance(WINDOW * 10).await;
    }
    outbox.finish();
    assert_eq!(next(&outbox).await.as_deref().and_then(delta), Some("0123456789".repeat(100)));
    assert_eq!(next(&outbox).await, None);
}

#[derive(Debug, Clone)]
enum Told {
    Piece { item: usize, length: usize },
    Other(usize),
    Pop,
}

fn told() -> impl Strategy<Value = Told> {
    prop_oneof![
        6 => (0usize..10, 0usize..200).prop_map(|(item, length)| Told::Piece { item, length }),
        2 => (0usize..900).prop_map(Told::Other),
        2 => Just(Told::Pop),
    ]
}

proptest! {
    #[test]
    fn no_message_overtakes_a_piece_and_no_piece_another_of_its_item(steps in prop::collection::vec(told(), 0..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (share, outbox, _folder) = outbox(OutboxLimits { disk: u64::MAX, device_disk: u64::MAX, ..small() });
            let (mut wanted, mut came): (Vec<String>, Vec<Bytes>) = Default::default();
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Told::Piece { item, length } => {
                        let text = format!("{item}:{n}{},", "x".repeat(length));
                        outbox.hold(piece(item, &text), Duration::ZERO).await.unwrap();
                        wanted.push(text);
                    }
                    Told::Other(length) => {
                        outbox.push(message(n, length)).await.unwrap();
                        wanted.push(format!("{n}:"));
                    }
                    Told::Pop if share.held() == (0, 0) => {}
                    Told::Pop => came.extend(next(&outbox).await),
                }
            }
            outbox.finish();
            while let Some(bytes) = next(&outbox).await {
                came.push(bytes);
            }
            // Between two other messages pieces stand in some order; those of one item in theirs.
            let is_other = |text: &String| text.ends_with(':');
            let texts = |bytes: &Bytes| match delta(bytes) {
                Some(delta) => delta.split_inclusive(',').map(str::to_owned).collect(),
                None => vec![String::from_utf8_lossy(bytes).split_inclusive(':').next().unwrap().to_owned()],
            };
            let came: Vec<String> = came.iter().flat_map(texts).collect();
            prop_assert_eq!(came.len(), wanted.len());
            for (came, wanted) in came.split(is_other).zip(wanted.split(is_other)) {
                let by_item = |texts: &[String]| {
                    let mut texts = texts.to_vec();
                    texts.sort_by_key(|text| text.split(':').next().map(str::to_owned));
                    texts
                };
                prop_assert_eq!(by_item(came), by_item(wanted));
            }
            prop_assert_eq!(share.held(), (0, 0), "something is still counted");
            Ok(())
        })?;
    }
}
