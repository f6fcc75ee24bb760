//! Text that comes in pieces is put together on its way to a device: fewer bytes, and nobody sees the length of a token.

use std::time::{Duration, Instant};

use e2e::cutter::Cutter;
use e2e::dice::Dice;
use e2e::rpc::Client;
use e2e::stage::{Stage, client, every_piece};
use reachback_proto::scope::Scope;
use serde_json::Value;

use super::links::{first_difference, story};

/// Pieces of one item are not sent more often.
const SHORTEST_WAIT: Duration = Duration::from_millis(20);

/// What a turn costs a device beside its text, which Codex says three times: in pieces, in the item that is complete, and
/// in the turn that is. Bytes around a message on the link, padding included; and messages that add no text.
const AROUND: u64 = 500;
const OTHERS: u64 = 30;

const PIECE: &str = "item/agentMessage/delta";

/// What a client was told, whatever the pieces were that text came in.
fn told(story: Vec<Value>) -> Vec<Value> {
    let mut told: Vec<Value> = Vec::new();
    for mut message in story {
        if let (Some(last), Some(delta)) = (told.last_mut(), message["params"]["delta"].as_str()) {
            let text = last["params"]["delta"].as_str().map(|text| format!("{text}{delta}"));
            // The moment is that of the last piece.
            let mut before = last.clone();
            before["params"]["delta"] = message["params"]["delta"].clone();
            before["emittedAtMs"] = message["emittedAtMs"].clone();
            if let Some(text) = text.filter(|_| before == message) {
                message["params"]["delta"] = text.into();
                *last = message;
                continue;
            }
        }
        told.push(message);
    }
    told
}

fn pieces(story: &[Value]) -> usize {
    story.iter().filter(|message| message["method"] == PIECE).count()
}

/// The text of a client's only item: as it came, and as it is in the item that is complete.
fn texts(story: &[Value]) -> (String, String) {
    let pieces = story.iter().filter(|message| message["method"] == PIECE);
    let complete = story
        .iter()
        .find(|message| message["method"] == "item/completed" && message["params"]["item"]["type"] == "agentMessage");
    let complete = &complete.expect("no item is complete")["params"]["item"]["text"];
    (pieces.map(|piece| piece["params"]["delta"].as_str().unwrap()).collect(), complete.as_str().unwrap().to_owned())
}

/// Cuts a link now and then, without end.
async fn cut(side: &Cutter, dice: &mut Dice) {
    loop {
        tokio::time::sleep(dice.between(50, 500)).await;
        side.reset();
    }
}

#[tokio::test]
async fn over_a_link_that_is_cut_text_is_what_codex_said_and_nothing_overtakes_it() {
    let seed = Dice::seed();
    let stage = Stage::start().await;
    let remote = stage.pair(Scope::Approve).await.connect().await;
    let patience = Duration::from_secs(120);
    let mut far = client(&remote).await.patient(patience);
    let mut near = Client::connect(&*stage.backend).await.patient(patience);
    let mut threads = Vec::new();
    // Two at once, so that pieces of both come by turns.
    for _ in 0..2 {
        let thread = near.thread(&stage.codex).await;
        near.turn(&thread, "@text N=1").await;
        far.resume(&thread).await;
        near.take_thread(&thread);
        far.take_thread(&thread);
        threads.push(thread);
    }
    near.take("turn/completed");
    far.take("turn/completed");
    for thread in &threads {
        near.prompt(thread, "@text N=5000 ms=1").await;
    }
    let completed = async {
        for thread in &threads {
            let over =
                |message: &Value| message["method"] == "turn/completed" && message["params"]["threadId"] == **thread;
            let (here, there) = tokio::join!(near.until("the turn's end", over), far.until("the turn's end", over));
            assert_eq!(here, there, "seed {seed}");
        }
    };
    let mut dice = Dice::new(seed);
    tokio::select! {
        () = completed => {}
        () = cut(&stage.device_side, &mut dice) => {}
    }
    for thread in &threads {
        let (near, far) = (story(&mut near, thread), story(&mut far, thread));
        let (here, there) = (texts(&near), texts(&far));
        assert_eq!(here.0, here.1);
        assert_eq!(here, there, "seed {seed}");
        assert_eq!(pieces(&near), 5000);
        assert!(pieces(&far) < 2500, "seed {seed}: {} pieces", pieces(&far));
        let (near, far) = (told(near), told(far));
        assert!(near == far, "seed {seed}: {}", first_difference(&near, &far));
    }
    stage.stop().await;
}

#[tokio::test]
async fn a_turn_of_five_thousand_pieces_costs_a_device_little_beside_its_text() {
    let stage = Stage::start().await;
    let remote = stage.pair(Scope::Approve).await.connect().await;
    let mut far = client(&remote).await.patient(Duration::from_secs(60));
    let thread = far.thread(&stage.codex).await;
    far.turn(&thread, "@text N=1").await;
    let mut turn = async |what: &str| {
        far.take_thread(&thread);
        let (before, begin) = (stage.device_side.passed(), Instant::now());
        far.prompt(&thread, "@text N=5000").await;
        far.event("turn/completed").await;
        let (after, took) = (stage.device_side.passed(), begin.elapsed());
        let (up, down) = (after.0 - before.0, after.1 - before.1);
        let story = far.take_thread(&thread);
        let pieces = pieces(&story);
        println!("{what}: {down} bytes to the device and {up} from it, {pieces} pieces of text in {took:?}");
        let (pieced, complete) = texts(&story);
        assert_eq!(pieced, complete);
        (down, complete.len() as u64, pieces, took)
    };
    let (bytes, text, pieces, took) = turn("put together").await;
    assert!(pieces as u128 <= took.as_millis() / SHORTEST_WAIT.as_millis() + 1, "{pieces} pieces in {took:?}");
    assert!(bytes < 3 * text + (pieces as u64 + OTHERS) * AROUND, "{bytes} bytes, in {pieces} pieces");
    every_piece(&remote).await;
    let (bytes, _, pieces, _) = turn("every piece").await;
    assert_eq!(pieces, 5000);
    assert!(bytes > 1_000_000, "{bytes} bytes");
    stage.stop().await;
}
