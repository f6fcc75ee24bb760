//! Text that comes in pieces is put together on its way to a device: fewer bytes, and nobody sees the length of a token.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use e2e::cutter::Cutter;
use e2e::dice::Dice;
use e2e::rpc::{Client, End, Pipe};
use e2e::stage::{Stage, client};
use futures_util::future::BoxFuture;
use reachback_host::connect::remote::RemoteHost;
use reachback_host::session::ChannelHandle;
use reachback_proto::frame::LOCAL_ENVIRONMENT;
use reachback_proto::scope::Scope;
use serde_json::{Value, json};

use super::links::{first_difference, story};

/// Pieces of one item that streams are not sent more often.
const WAIT: Duration = Duration::from_millis(60);

/// What a turn costs a device beside its text, which Codex says three times: in pieces, in the item that is complete, and
/// in the turn that is. Bytes around a message on the link, padding included; and messages that add no text.
const AROUND: u64 = 500;
const OTHERS: u64 = 30;

/// What a turn costs a device at most whose client needs no text in the turn's end, in so many pieces; and each piece more,
/// when a busy machine makes it a longer turn: what is around it, and padding to 1 KiB.
const LEAN: (u64, usize) = (60_000, 12);
const LATE: u64 = 1300;

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

/// A channel of a device that takes text in short.
struct Short {
    channel: ChannelHandle,
    /// What began each lane, and the text that it has carried.
    lanes: HashMap<u64, (Value, String)>,
    counts: Arc<Counts>,
}

/// What a channel in short has got.
#[derive(Default)]
struct Counts {
    /// Messages that named a lane and nothing else.
    pieces: AtomicUsize,
    /// Bytes of text that was left out of items.
    omitted: AtomicUsize,
}

impl Short {
    /// `items`: whether what is complete may come without its text.
    async fn client(remote: &RemoteHost, items: bool) -> (Client, Arc<Counts>) {
        let mut api = Client::raw(remote.api().await.unwrap());
        api.request("host/read", json!({ "shortText": true, "shortItems": items })).await.unwrap();
        let counts = Arc::<Counts>::default();
        let channel = remote.open_channel(LOCAL_ENVIRONMENT).await.unwrap();
        let short = Self { channel, lanes: HashMap::new(), counts: Arc::clone(&counts) };
        (Client::over(short).await, counts)
    }

    /// With the text that was left out of it.
    fn complete(&mut self, mut message: Value, omitted: &Value) -> Value {
        let (begun, said) = self.lanes.get_mut(&omitted["lane"].as_u64().unwrap()).expect("no such lane");
        assert_eq!(omitted["bytes"], said.len());
        assert_eq!(message["params"]["item"]["id"], begun["params"]["itemId"]);
        self.counts.omitted.fetch_add(said.len(), Ordering::Relaxed);
        message["params"]["item"]["text"] = std::mem::take(said).into();
        message
    }
}

impl Pipe for Short {
    fn send(&mut self, message: String) -> BoxFuture<'_, ()> {
        Pipe::send(&mut self.channel, message)
    }
    fn next(&mut self) -> BoxFuture<'_, Result<Value, End>> {
        Box::pin(async move {
            let mut message = self.channel.next().await?;
            if let Some(omitted) = message.as_object_mut().unwrap().remove("omitted") {
                return Ok(self.complete(message, &omitted));
            }
            let Some(lane) = message.as_object_mut().unwrap().remove("lane") else { return Ok(message) };
            let lane = lane.as_u64().filter(|lane| *lane < 8).expect("a lane that no client keeps");
            if message["method"].is_string() {
                let said = message["params"]["delta"].as_str().unwrap().to_owned();
                self.lanes.insert(lane, (message.clone(), said));
                return Ok(message);
            }
            self.counts.pieces.fetch_add(1, Ordering::Relaxed);
            let (begun, said) = self.lanes.get_mut(&lane).unwrap();
            *said += message["delta"].as_str().unwrap();
            let mut whole = begun.clone();
            whole["params"]["delta"] = message["delta"].take();
            Ok(whole)
        })
    }
}

/// Pieces of text all at one moment: those in short have that of the first.
fn without_moments(mut story: Vec<Value>) -> Vec<Value> {
    for piece in story.iter_mut().filter(|message| message["method"] == PIECE) {
        piece["emittedAtMs"] = json!(0);
    }
    story
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

/// One turn of 5,000 pieces, as a device and a client at the host are told of it.
struct Turn {
    near: Vec<Value>,
    far: Vec<Value>,
    /// To the device, on its link.
    bytes: u64,
    pieces: usize,
    took: Duration,
}

async fn turn(stage: &Stage, thread: &str, near: &mut Client, far: &mut Client) -> Turn {
    turn_of(stage, thread, near, far, "@text N=5000").await
}

async fn turn_of(stage: &Stage, thread: &str, near: &mut Client, far: &mut Client, text: &str) -> Turn {
    near.take_thread(thread);
    far.take_thread(thread);
    let (before, begin) = (stage.device_side.passed().1, Instant::now());
    far.prompt(thread, text).await;
    let end = far.event("turn/completed").await;
    let (bytes, took) = (stage.device_side.passed().1 - before, begin.elapsed());
    let mut far = story(far, thread);
    far.push(end);
    let end = near.event("turn/completed").await;
    let mut near = story(near, thread);
    near.push(end);
    let pieces = pieces(&far);
    println!("{bytes} bytes to the device, {pieces} pieces of text in {took:?}");
    Turn { near, far, bytes, pieces, took }
}

#[tokio::test]
async fn a_turn_of_five_thousand_pieces_costs_a_device_little_beside_its_text() {
    let stage = Stage::start().await;
    let remote = stage.pair(Scope::Approve).await.connect().await;
    let mut far = client(&remote).await.patient(Duration::from_secs(60));
    let mut near = Client::connect(&*stage.backend).await.patient(Duration::from_secs(60));
    let thread = far.thread(&stage.codex).await;
    far.turn(&thread, "@text N=1").await;
    near.resume(&thread).await;

    // As any client gets it: all that Codex says.
    let Turn { near: here, far: there, bytes, pieces, took } = turn(&stage, &thread, &mut near, &mut far).await;
    let (pieced, complete) = texts(&there);
    assert_eq!(pieced, complete);
    let text = complete.len() as u64;
    assert!(pieces as u128 <= took.as_millis() / WAIT.as_millis() + 3, "{pieces} pieces in {took:?}");
    assert!(bytes < 3 * text + (pieces as u64 + OTHERS) * AROUND, "{bytes} bytes, in {pieces} pieces");
    let (here, there) = (told(here), told(there));
    assert!(here == there, "{}", first_difference(&here, &there));

    // As a client gets it that needs no item a second time.
    let mut api = Client::raw(remote.api().await.unwrap());
    api.request("host/read", json!({ "leanTurns": true })).await.unwrap();
    let Turn { near: mut here, far: there, bytes, pieces, took } = turn(&stage, &thread, &mut near, &mut far).await;
    let late = pieces.saturating_sub(LEAN.1) as u64;
    assert!(bytes <= LEAN.0 + late * LATE, "{bytes} bytes, in {pieces} pieces and {took:?}");
    let end = here.last_mut().unwrap();
    let items = end["params"]["turn"]["items"].take();
    end["params"]["turn"]["items"] = json!([]);
    end["params"]["turn"]["itemsView"] = json!("notLoaded");
    let completed = there.iter().filter(|message| message["method"] == "item/completed");
    let completed: Vec<_> = completed.map(|message| &message["params"]["item"]).collect();
    let items = items.as_array().unwrap();
    assert!(!items.is_empty() && items.iter().all(|item| completed.contains(&item)), "{items:?} was told nowhere else");
    let (here, there) = (told(here), told(there));
    assert!(here == there, "{}", first_difference(&here, &there));

    api.request("host/read", json!({ "mergedText": false, "leanTurns": false })).await.unwrap();
    let Turn { near: here, far: there, bytes, pieces, .. } = turn(&stage, &thread, &mut near, &mut far).await;
    assert_eq!(pieces, 5000);
    assert!(bytes > 1_000_000, "{bytes} bytes");
    assert!(here == there, "{}", first_difference(&here, &there));
    stage.stop().await;
}

#[tokio::test]
async fn in_short_a_text_that_streams_costs_a_device_less() {
    const SLOW: &str = "@text N=500 ms=10";
    let stage = Stage::start().await;
    let remote = stage.pair(Scope::Approve).await.connect().await;
    let mut far = client(&remote).await.patient(Duration::from_secs(60));
    let mut near = Client::connect(&*stage.backend).await.patient(Duration::from_secs(60));
    let thread = far.thread(&stage.codex).await;
    far.turn(&thread, "@text N=1").await;
    near.resume(&thread).await;
    let Turn { bytes: long, pieces, .. } = turn_of(&stage, &thread, &mut near, &mut far, SLOW).await;
    // Else its channel would have the text as well.
    far.request("thread/unsubscribe", json!({ "threadId": thread })).await.unwrap();

    let (mut short, counts) = Short::client(&remote, false).await;
    short.resume(&thread).await;
    let Turn { near: here, far: there, bytes, pieces: in_short, .. } =
        turn_of(&stage, &thread, &mut near, &mut short, SLOW).await;
    assert_eq!(counts.pieces.load(Ordering::Relaxed), in_short - 1, "only the first says everything");
    assert_eq!(counts.omitted.load(Ordering::Relaxed), 0, "nobody asked for less");
    // A record with a short piece has 128 bytes, and at least 256 with all that is around it.
    let saved = 128 * in_short.min(pieces) as u64;
    assert!(bytes + saved * 3 / 4 < long, "{bytes} bytes in {in_short} pieces, and {long} in {pieces}");
    let (here, there) = (told(without_moments(here)), told(without_moments(there)));
    assert!(here == there, "{}", first_difference(&here, &there));
    stage.stop().await;
}

#[tokio::test]
async fn an_item_comes_without_the_text_that_was_carried_in_short_and_is_what_codex_said_over_a_link_that_is_cut() {
    let seed = Dice::seed();
    let stage = Stage::start().await;
    let remote = stage.pair(Scope::Approve).await.connect().await;
    let patience = Duration::from_secs(60);
    let mut near = Client::connect(&*stage.backend).await.patient(patience);
    let thread = near.thread(&stage.codex).await;
    near.turn(&thread, "@text N=1").await;
    let (short, counts) = Short::client(&remote, true).await;
    let mut short = short.patient(patience);
    short.resume(&thread).await;

    let Turn { near: here, far: there, bytes, pieces, .. } =
        turn_of(&stage, &thread, &mut near, &mut short, "@text N=5000 ms=1").await;
    let (pieced, complete) = texts(&there);
    assert_eq!(pieced, complete);
    assert_eq!(counts.omitted.swap(0, Ordering::Relaxed), complete.len(), "the whole text, and it once");
    let around = (pieces as u64 + OTHERS) * AROUND;
    // The text comes in the pieces, and in the turn's end.
    assert!(bytes < 2 * complete.len() as u64 + around, "{bytes} bytes, in {pieces} pieces");
    let (here, there) = (told(without_moments(here)), told(without_moments(there)));
    assert!(here == there, "{}", first_difference(&here, &there));

    // The same over a link that is cut.
    let mut dice = Dice::new(seed);
    short.prompt(&thread, "@text N=5000 ms=1").await;
    let over = |message: &Value| message["method"] == "turn/completed";
    tokio::select! {
        _ = async { tokio::join!(near.until("its end", over), short.until("its end", over)) } => {}
        () = cut(&stage.device_side, &mut dice) => {}
    }
    let (near, short) = (story(&mut near, &thread), story(&mut short, &thread));
    let (_, whole) = texts(&near);
    assert_eq!(texts(&short), (whole.clone(), whole.clone()), "seed {seed}");
    assert_eq!(counts.omitted.load(Ordering::Relaxed), whole.len(), "seed {seed}");
    stage.stop().await;
}
