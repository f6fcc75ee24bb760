use std::collections::BTreeMap;
use std::convert::Infallible;

use data_encoding::BASE64;
use futures_util::FutureExt;
use proptest::prelude::*;
use ring::rand::SystemRandom;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, PollSender};

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// As many envelopes Codex sends without an acknowledgement.
const WINDOW: usize = 128;

/// Our end of a socket, in memory.
struct Socket {
    envelopes: mpsc::Receiver<Text>,
    sink: PollSender<Text>,
    cut: CancellationToken,
}

impl Stream for Socket {
    type Item = Result<Text, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.cut.is_cancelled() {
            return Poll::Ready(None);
        }
        self.envelopes.poll_recv(cx).map(|envelope| envelope.map(Ok))
    }
}

impl Sink<Text> for Socket {
    type Error = ();

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        self.sink.poll_ready_unpin(cx).map_err(|_| ())
    }
    fn start_send(mut self: Pin<&mut Self>, envelope: Text) -> Result<(), ()> {
        self.sink.start_send_unpin(envelope).map_err(|_| ())
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        self.sink.poll_flush_unpin(cx).map_err(|_| ())
    }
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        self.sink.poll_close_unpin(cx).map_err(|_| ())
    }
}

/// Codex's end of it.
struct Link {
    to_agent: mpsc::Sender<Text>,
    from_agent: mpsc::Receiver<Text>,
    cut: CancellationToken,
    serving: JoinHandle<()>,
}

type Key = (String, String);

/// What Codex knows of one connection.
#[derive(Debug, Default)]
struct Known {
    last_seq: u64,
    messages: Vec<Value>,
}

/// Plays Codex's part by the rules that were measured on the real one.
struct Codex {
    clients: Clients,
    link: Option<Link>,
    /// Envelopes that fit in the socket, each way.
    room: usize,
    cursor: Option<String>,
    known: BTreeMap<Key, Known>,
    ended: Vec<Key>,
    pieces: BTreeMap<String, (Key, u64, Vec<u8>)>,
    next_seq: BTreeMap<Key, u64>,
    to_say: VecDeque<(Key, Value)>,
    /// Of one stream and number, each piece by itself.
    unacked: Vec<(Key, u64, Option<u64>, Text)>,
    pings: Vec<(Key, Instant)>,
    /// The envelopes that wait for the socket.
    leaving: VecDeque<Text>,
}

fn member(envelope: &Value, name: &str) -> String {
    envelope[name].as_str().unwrap_or_else(|| panic!("{name} of {envelope}")).to_owned()
}

impl Codex {
    fn new() -> Self {
        Self {
            clients: Clients::new(&SystemRandom::new()).unwrap(),
            link: None,
            room: 16,
            cursor: None,
            known: BTreeMap::new(),
            ended: Vec::new(),
            pieces: BTreeMap::new(),
            next_seq: BTreeMap::new(),
            to_say: VecDeque::new(),
            unacked: Vec::new(),
            pings: Vec::new(),
            leaving: VecDeque::new(),
        }
    }

    /// One with an open socket.
    fn connected() -> Self {
        let mut codex = Self::new();
        codex.connect();
        codex
    }

    /// Opens a new socket, and sends again on it what was not acknowledged.
    fn connect(&mut self) {
        let (to_agent, envelopes) = mpsc::channel(self.room);
        let (sink, from_agent) = mpsc::channel(self.room);
        let cut = CancellationToken::new();
        let socket = Socket { envelopes, sink: PollSender::new(sink), cut: cut.clone() };
        let (clients, cursor) = (self.clients.clone(), self.cursor.clone());
        let serving = tokio::spawn(async move { clients.serve(socket, cursor.as_deref()).await });
        self.leaving = self.unacked.iter().map(|(.., envelope)| envelope.clone()).collect();
        self.link = Some(Link { to_agent, from_agent, cut, serving });
    }

    /// Cuts the socket, with all that is in it.
    fn cut(&mut self) {
        if let Some(link) = self.link.take() {
            link.cut.cancel();
        }
    }

    /// What a Codex that was started anew knows.
    fn restart(&mut self) {
        self.cut();
        *self = Self { clients: self.clients.clone(), ..Self::new() };
    }

    fn open(&self, client: &str) -> CodexConnection {
        self.open_with(client, Allowance::default())
    }

    fn open_with(&self, client: &str, allowance: Allowance) -> CodexConnection {
        self.clients.open(client, allowance, Instance::random(&SystemRandom::new()).unwrap())
    }

    /// A connection that has begun, and where Codex has it.
    async fn begun(&mut self, client: &str) -> (CodexConnection, Key) {
        self.begun_with(client, Allowance::default()).await
    }

    async fn begun_with(&mut self, client: &str, allowance: Allowance) -> (CodexConnection, Key) {
        let mut connection = self.open_with(client, allowance);
        let before: Vec<Key> = self.known.keys().cloned().collect();
        connection.sender.send(r#"{"id":1,"method":"initialize"}"#).await.unwrap();
        self.until(|codex| codex.known.len() > before.len()).await;
        let key = self.known.keys().find(|key| !before.contains(key)).unwrap().clone();
        self.say(&key, json!({ "id": 1, "result": {} }));
        let answer = self.while_running(connection.receiver.next()).await.unwrap().unwrap();
        assert_eq!(answer, r#"{"id":1,"result":{}}"#);
        (connection, key)
    }

    fn say(&mut self, key: &Key, message: Value) {
        self.to_say.push_back((key.clone(), message));
    }

    fn envelope(key: &Key, seq: u64, members: Value) -> Text {
        let mut envelope = json!({ "client_id": key.0, "stream_id": key.1, "seq_id": seq });
        envelope.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        envelope.to_string().into()
    }

    fn send(&mut self, key: &Key, members: Vec<Value>) {
        let next = self.next_seq.entry(key.clone()).or_insert(1);
        for members in members {
            let envelope = Self::envelope(key, *next, members.clone());
            self.unacked.push((key.clone(), *next, members["segment_id"].as_u64(), envelope.clone()));
            self.leaving.push_back(envelope);
        }
        *next += 1;
    }

    /// Sends what the window allows.
    fn fill(&mut self) {
        while self.unacked.len() < WINDOW {
            let Some((key, message)) = self.to_say.pop_front() else { return };
            if !self.known.contains_key(&key) {
                continue;
            }
            let text = message.to_string();
            let cut = 100 << 10;
            if text.len() <= cut {
                self.send(&key, vec![json!({ "type": "server_message", "message": message })]);
                continue;
            }
            let pieces: Vec<_> = text.as_bytes().chunks(cut).collect();
            let members = pieces.iter().enumerate().map(|(segment, piece)| {
                json!({ "type": "server_message_chunk", "segment_id": segment, "segment_count": pieces.len(),
                    "message_size_bytes": text.len(), "message_chunk_base64": BASE64.encode(piece) })
            });
            self.send(&key, members.collect());
        }
    }

    fn hear(&mut self, envelope: &str) {
        assert!(envelope.len() <= envelope::MAX_ENVELOPE, "an envelope of {} bytes", envelope.len());
        let envelope: Value = serde_json::from_str(envelope).unwrap();
        let key = (member(&envelope, "client_id"), member(&envelope, "stream_id"));
        let seq = envelope["seq_id"].as_u64();
        match &*member(&envelope, "type") {
            "ack" => {
                let upto = (seq.unwrap(), envelope["segment_id"].as_u64().unwrap_or(u64::MAX));
                self.unacked.retain(|(k, seq, segment, _)| (*seq, segment.unwrap_or(0)) > upto || *k != key);
            }
            "ping" => {
                self.pings.push((key.clone(), Instant::now()));
                let status = if self.known.contains_key(&key) { "active" } else { "unknown" };
                self.send(&key, vec![json!({ "type": "pong", "status": status })]);
            }
            "client_closed" => {
                self.known.remove(&key);
                self.ended.push(key);
            }
            "client_message" => self.hear_message(key, seq.unwrap(), &envelope["cursor"], envelope["message"].clone()),
            "client_message_chunk" => self.hear_piece(key, seq.unwrap(), &envelope),
            other => panic!("an envelope of type {other}"),
        }
    }

    fn hear_piece(&mut self, key: Key, seq: u64, envelope: &Value) {
        if self.known.get(&key).is_some_and(|known| known.last_seq >= seq) {
            return;
        }
        let bytes = BASE64.decode(member(envelope, "message_chunk_base64").as_bytes()).unwrap();
        let segment = envelope["segment_id"].as_u64().unwrap();
        let piece = (96 << 10) as u64;
        let so_far = self.pieces.entry(key.0.clone()).or_insert((key.clone(), seq, Vec::new()));
        if (&so_far.0, so_far.1) != (&key, seq) {
            *so_far = (key.clone(), seq, Vec::new());
        }
        let have = so_far.2.len() as u64 / piece;
        if segment < have {
            return;
        }
        assert_eq!(segment, have, "a piece is left out");
        so_far.2.extend(bytes);
        if segment + 1 == envelope["segment_count"].as_u64().unwrap() {
            let (.., whole) = self.pieces.remove(&key.0).unwrap();
            assert_eq!(whole.len() as u64, envelope["message_size_bytes"].as_u64().unwrap());
            self.hear_message(key, seq, &envelope["cursor"], serde_json::from_slice(&whole).unwrap());
        }
    }

    fn hear_message(&mut self, key: Key, seq: u64, cursor: &Value, message: Value) {
        if message["method"] == "initialize" {
            if self.known.remove(&key).is_some() {
                self.ended.push(key.clone());
            }
            self.known.insert(key.clone(), Known::default());
        }
        if let Some(known) = self.known.get_mut(&key)
            && known.last_seq < seq
        {
            known.last_seq = seq;
            known.messages.push(message);
        }
        self.cursor = cursor.as_str().map(str::to_owned);
    }

    /// Does one thing that can be done at once or comes next.
    async fn step(&mut self) {
        self.fill();
        let Some(link) = &mut self.link else { return std::future::pending().await };
        let heard = tokio::select! {
            permit = link.to_agent.reserve(), if !self.leaving.is_empty() => match permit {
                Ok(permit) => return permit.send(self.leaving.pop_front().unwrap()),
                Err(_) => None,
            },
            envelope = link.from_agent.recv() => envelope,
        };
        match heard {
            Some(envelope) => self.hear(&envelope),
            None => self.link = None,
        }
    }

    async fn until(&mut self, is_so: impl Fn(&Self) -> bool) {
        let run = async {
            while !is_so(self) {
                self.step().await;
            }
        };
        tokio::time::timeout(PATIENCE, run).await.expect("it never comes to that");
    }

    async fn while_running<T>(&mut self, what: impl Future<Output = T>) -> T {
        tokio::pin!(what);
        let run = async {
            loop {
                tokio::select! {
                    biased;
                    done = &mut what => return done,
                    () = self.step() => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, run).await.expect("it never comes to that")
    }

    /// Runs for a time, which costs none with the clock paused.
    async fn run_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            tokio::select! {
                biased;
                () = self.step() => {}
                () = tokio::time::sleep_until(end) => return,
            }
        }
    }
}

fn is_gap(next: Option<Result<Text, ReceiveError>>) -> bool {
    matches!(next, Some(Err(ReceiveError::Gap)))
}

#[tokio::test]
async fn messages_pass_both_ways_on_streams_of_their_own() {
    let mut codex = Codex::connected();
    let (mut first, a) = codex.begun("phone").await;
    let (mut second, b) = codex.begun("phone").await;
    assert_ne!(a.1, b.1);
    for n in 0..300 {
        first.sender.send(json!({ "id": n }).to_string()).await.unwrap();
        second.sender.send(json!({ "other": n }).to_string()).await.unwrap();
        codex.say(&a, json!({ "id": n, "result": n }));
    }
    for n in 0..300 {
        let answer = codex.while_running(first.receiver.next()).await.unwrap().unwrap();
        assert_eq!(answer, json!({ "id": n, "result": n }).to_string());
    }
    codex.until(|codex| codex.known[&b].messages.len() == 301).await;
    for (key, name) in [(&a, "id"), (&b, "other")] {
        let got: Vec<_> =
            codex.known[key].messages[1..].iter().map(|message| message[name].as_u64().unwrap()).collect();
        assert_eq!(got, (0..300).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_connection_from_which_nobody_takes_stops_no_other() {
    let mut codex = Codex::connected();
    let (mut idle, a) = codex.begun("idle").await;
    let (mut busy, b) = codex.begun("busy").await;
    for n in 0..3000 {
        codex.say(&a, json!({ "delta": n }));
    }
    codex.say(&b, json!({ "last": true }));
    assert_eq!(codex.while_running(busy.receiver.next()).await.unwrap().unwrap(), r#"{"last":true}"#);
    for n in 0..3000 {
        let delta = idle.receiver.next().now_or_never().expect("all have arrived").unwrap().unwrap();
        assert_eq!(delta, json!({ "delta": n }).to_string());
    }
}

#[tokio::test]
async fn a_connection_too_far_behind_ends_with_a_gap_and_the_others_go_on() {
    let mut codex = Codex::connected();
    let (mut idle, a) = codex.begun("idle").await;
    let (mut busy, b) = codex.begun("busy").await;
    for _ in 0..32_200 {
        codex.say(&a, json!({}));
    }
    codex.say(&b, json!({ "last": true }));
    assert_eq!(codex.while_running(busy.receiver.next()).await.unwrap().unwrap(), r#"{"last":true}"#);
    codex.until(|codex| codex.ended == [a.clone()]).await;
    assert!(is_gap(idle.receiver.next().await));
    assert!(idle.receiver.next().await.is_none());
    assert!(matches!(idle.sender.send("{}").await, Err(SendError::Closed)));
    codex.until(|codex| codex.unacked.is_empty()).await;
}

#[tokio::test]
async fn large_messages_pass_both_ways_in_pieces() {
    let mut codex = Codex::connected();
    let (mut large, a) = codex.begun("large").await;
    let text = format!(r#"{{"id":1,"result":"{}"}}"#, "ü".repeat(1_500_000));
    codex.say(&a, serde_json::from_str(&text).unwrap());
    codex.say(&a, json!({ "next": 1 }));
    assert!(codex.while_running(large.receiver.next()).await.unwrap().unwrap() == text);
    assert_eq!(codex.while_running(large.receiver.next()).await.unwrap().unwrap(), r#"{"next":1}"#);
    codex.while_running(large.sender.send(text.clone())).await.unwrap();
    codex.while_running(large.sender.send(r#"{"next":1}"#)).await.unwrap();
    codex.until(|codex| codex.known[&a].messages.len() == 3).await;
    assert!(codex.known[&a].messages[1] == serde_json::from_str::<Value>(&text).unwrap());
}

#[tokio::test]
async fn an_answer_over_the_allowance_is_an_error_under_its_id() {
    let mut codex = Codex::connected();
    let (mut small, a) = codex.begun_with("small", Allowance::new(1000)).await;
    for length in [2000, 500_000] {
        codex.say(&a, json!({ "id": 7, "result": "x".repeat(length) }));
        let error = codex.while_running(small.receiver.next()).await.unwrap().unwrap();
        let error: Value = serde_json::from_str(&error).unwrap();
        assert_eq!((&error["id"], &error["error"]["code"]), (&json!(7), &json!(-32011)));
    }
    codex.say(&a, json!({ "method": "x".repeat(2000) }));
    assert!(matches!(codex.while_running(small.receiver.next()).await, Some(Err(ReceiveError::TooLong))));
    codex.until(|codex| codex.ended == [a.clone()]).await;
}

#[tokio::test]
async fn a_sender_waits_where_codex_does_not_take_and_is_woken() {
    let mut codex = Codex::new();
    let mut connection = codex.open("phone");
    let long = format!("\"{}\"", "x".repeat(700_000));
    connection.sender.send(r#"{"method":"initialize"}"#).await.unwrap();
    for _ in 0..2 {
        connection.sender.send(long.clone()).now_or_never().expect("there is room").unwrap();
    }
    let mut sending = Box::pin(connection.sender.send(long.clone()));
    assert!(sending.as_mut().now_or_never().is_none(), "a third one is over the bound");
    codex.connect();
    codex.while_running(sending).await.unwrap();
    codex.until(|codex| codex.known.values().any(|known| known.messages.len() == 4)).await;
}

#[tokio::test]
async fn what_codex_would_not_take_is_refused_or_dropped() {
    let mut codex = Codex::connected();
    let (mut connection, a) = codex.begun("phone").await;
    let refused = connection.sender.send("x".repeat(MAX_MESSAGE + 1)).await;
    assert!(matches!(refused, Err(SendError::TooLong { limit: MAX_MESSAGE, .. })), "{refused:?}");
    // Neither may break out of its envelope.
    connection.sender.send(r#"{},"client_id":"other""#).await.unwrap();
    connection.sender.send("not json").await.unwrap();
    connection.sender.send(r#"{"last":1}"#).await.unwrap();
    codex.until(|codex| codex.known[&a].messages.len() == 2).await;
    assert_eq!(codex.known[&a].messages[1], json!({ "last": 1 }));
}

#[tokio::test]
async fn a_connection_that_is_dropped_is_ended_in_codex_once_both_halves_are_gone() {
    let mut codex = Codex::connected();
    let (CodexConnection { mut sender, receiver, .. }, a) = codex.begun("phone").await;
    drop(receiver);
    sender.send("{}").await.unwrap();
    codex.until(|codex| codex.known[&a].messages.len() == 2).await;
    drop(sender);
    codex.until(|codex| codex.ended == [a.clone()]).await;
    // What comes from it all the same is acknowledged, and ended no more.
    codex.send(&a, vec![json!({ "type": "server_message", "message": {} })]);
    codex.until(|codex| codex.unacked.is_empty()).await;
    let (_other, _) = codex.begun("other").await;
    assert_eq!(codex.ended, [a]);
}

#[tokio::test]
async fn a_stream_that_nobody_has_is_ended_in_codex() {
    let mut codex = Codex::connected();
    let stranger = ("of an earlier agent".to_owned(), "s".to_owned());
    for _ in 0..5 {
        codex.send(&stranger, vec![json!({ "type": "server_message", "message": {} })]);
    }
    codex.until(|codex| codex.unacked.is_empty() && !codex.ended.is_empty()).await;
    assert_eq!(codex.ended, [stranger]);
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_or_broken_on_one_connection_ends_that_one() {
    let mut codex = Codex::connected();
    let (mut good, b) = codex.begun("good").await;
    let piece = |segment: u32, count: u32, bytes: &[u8]| {
        json!({ "type": "server_message_chunk", "segment_id": segment, "segment_count": count,
            "message_size_bytes": 6, "message_chunk_base64": BASE64.encode(bytes) })
    };
    let message = || json!({ "type": "server_message", "message": {} });
    for (name, envelopes) in [
        ("a number is left out", vec![(1, message())]),
        ("a piece is left out", vec![(0, piece(1, 2, b"abc"))]),
        ("a piece is out of order", vec![(0, piece(0, 3, b"ab")), (0, piece(2, 3, b"ab"))]),
        ("a message between pieces", vec![(0, piece(0, 2, b"abc")), (1, message())]),
        ("too many bytes", vec![(0, piece(0, 2, b"abc")), (0, piece(1, 2, b"abcd"))]),
        ("too many pieces", vec![(0, piece(0, 5000, b"abc"))]),
        ("no message", vec![(0, json!({ "type": "server_message" }))]),
    ] {
        let (mut bad, a) = codex.begun(name).await;
        let next = codex.next_seq[&a];
        for (ahead, members) in envelopes {
            codex.leaving.push_back(Codex::envelope(&a, next + ahead, members));
        }
        let next = codex.while_running(bad.receiver.next()).await;
        assert!(matches!(next, Some(Err(ReceiveError::Gap | ReceiveError::Protocol))), "{name}: {next:?}");
        codex.until(|codex| codex.ended.contains(&a)).await;
    }
    codex.leaving.push_back("not an envelope".into());
    codex.leaving.push_back(r#"{"type":"server_message","seq_id":1}"#.into());
    codex.say(&b, json!({ "last": 1 }));
    assert_eq!(codex.while_running(good.receiver.next()).await.unwrap().unwrap(), r#"{"last":1}"#);
}

/// When the connection was pinged, in seconds after `since`.
fn pings(codex: &mut Codex, key: &Key, since: Instant) -> Vec<u64> {
    let pings = std::mem::take(&mut codex.pings);
    assert!(pings.iter().all(|(pinged, _)| pinged == key), "{pings:?}");
    pings.iter().map(|(_, at)| (*at - since).as_secs()).collect()
}

#[tokio::test(start_paused = true)]
async fn each_connection_is_pinged_from_its_begin_on_and_on_every_new_socket() {
    let mut codex = Codex::connected();
    let _not_begun = codex.open("not begun");
    codex.run_for(Duration::from_secs(100)).await;
    let (_phone, a) = codex.begun("phone").await;
    let begun = Instant::now();
    codex.run_for(Duration::from_secs(59)).await;
    // Soon after the last word, then less and less often.
    assert_eq!(pings(&mut codex, &a, begun), [1, 3, 7, 15, 30, 45]);
    codex.cut();
    codex.connect();
    let connected = Instant::now();
    codex.run_for(PING_EVERY).await;
    assert_eq!(pings(&mut codex, &a, connected), [0, 2, 6, 14]);
}

#[tokio::test(start_paused = true)]
async fn a_silence_is_asked_about_once_and_one_that_talks_all_the_time_now_and_then() {
    let mut codex = Codex::connected();
    let (mut phone, a) = codex.begun("phone").await;
    codex.run_for(Duration::from_secs(100)).await;
    codex.pings.clear();

    // A word, and one more before a second is over.
    codex.say(&a, json!({ "delta": 1 }));
    let since = Instant::now();
    codex.run_for(FIRST_PING / 2).await;
    codex.say(&a, json!({ "delta": 2 }));
    codex.run_for(FIRST_PING * 3 / 4).await;
    assert_eq!(pings(&mut codex, &a, since), [] as [u64; 0]);
    codex.run_for(FIRST_PING).await;
    assert_eq!(pings(&mut codex, &a, since), [1]);

    // The person says something into a silence.
    codex.run_for(Duration::from_secs(100)).await;
    codex.pings.clear();
    phone.sender.send(r#"{"id":2,"method":"turn/start"}"#).await.unwrap();
    let since = Instant::now();
    codex.run_for(Duration::from_secs(4)).await;
    assert_eq!(pings(&mut codex, &a, since), [1, 3]);

    // Not a second without a word, for a minute.
    let since = Instant::now();
    for n in 0..120 {
        codex.say(&a, json!({ "delta": n }));
        codex.run_for(FIRST_PING / 2).await;
    }
    let times = pings(&mut codex, &a, since);
    assert!((3..=4).contains(&times.len()), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_codex_dropped_ends_with_a_gap() {
    let mut codex = Codex::connected();
    let (mut idle, a) = codex.begun("idle").await;
    let (mut asking, b) = codex.begun("asking").await;
    let (mut running, c) = codex.begun("running").await;
    let (mut kept, d) = codex.begun("kept").await;
    codex.run_for(Duration::from_secs(100)).await;
    let since = Instant::now();

    // Whoever waits for something hears of it at once: for an answer, or for the next word of a turn.
    codex.known.remove(&b);
    asking.sender.send(r#"{"id":2,"method":"thread/read"}"#).await.unwrap();
    assert!(is_gap(codex.while_running(asking.receiver.next()).await));
    assert!(since.elapsed() <= FIRST_PING + Duration::from_millis(10), "after {:?}", since.elapsed());
    codex.say(&c, json!({ "delta": 1 }));
    assert_eq!(codex.while_running(running.receiver.next()).await.unwrap().unwrap(), r#"{"delta":1}"#);
    codex.known.remove(&c);
    assert!(is_gap(codex.while_running(running.receiver.next()).await));
    assert!(since.elapsed() <= 2 * FIRST_PING + Duration::from_millis(10), "after {:?}", since.elapsed());

    codex.known.remove(&a);
    assert!(is_gap(codex.while_running(idle.receiver.next()).await));
    assert!(since.elapsed() <= 2 * FIRST_PING + PING_EVERY, "after {:?}", since.elapsed());
    for dropped in [&mut idle, &mut asking, &mut running] {
        assert!(dropped.receiver.next().await.is_none());
    }
    codex.say(&d, json!({ "last": 1 }));
    assert_eq!(codex.while_running(kept.receiver.next()).await.unwrap().unwrap(), r#"{"last":1}"#);
}

#[tokio::test(start_paused = true)]
async fn connections_of_a_codex_that_was_restarted_end_at_its_first_answer() {
    let mut codex = Codex::connected();
    let (mut connection, _) = codex.begun("phone").await;
    codex.restart();
    codex.connect();
    let before = Instant::now();
    assert!(is_gap(codex.while_running(connection.receiver.next()).await));
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn connections_outlive_their_socket_for_a_grace() {
    let mut codex = Codex::connected();
    let (mut connection, a) = codex.begun("phone").await;
    codex.cut();
    connection.sender.send(r#"{"late":1}"#).await.unwrap();
    codex.run_for(GRACE - Duration::from_secs(1)).await;
    codex.connect();
    codex.until(|codex| codex.known[&a].messages.len() == 2).await;
    // The grace of the socket before is over.
    codex.run_for(Duration::from_secs(5)).await;
    codex.say(&a, json!({ "last": 1 }));
    assert_eq!(codex.while_running(connection.receiver.next()).await.unwrap().unwrap(), r#"{"last":1}"#);

    let connected = codex.clients.connected();
    assert!(*connected.borrow());
    codex.cut();
    codex.run_for(GRACE - Duration::from_secs(1)).await;
    assert!(!*connected.borrow());
    assert!(connection.receiver.next().now_or_never().is_none());
    codex.run_for(Duration::from_secs(2)).await;
    assert!(connection.receiver.next().now_or_never().expect("it has ended").is_none());
}

#[tokio::test]
async fn all_connections_can_be_forgotten() {
    let mut codex = Codex::connected();
    let (mut connection, _) = codex.begun("phone").await;
    let mut waiting = codex.open("waiting");
    codex.clients.forget_all();
    assert!(connection.receiver.next().await.is_none());
    assert!(waiting.receiver.next().await.is_none());
    assert!(matches!(connection.sender.send("{}").await, Err(SendError::Closed)));
    let (_next, _) = codex.begun("next").await;
}

#[tokio::test]
async fn a_newer_socket_takes_the_place_of_an_older_one() {
    let mut codex = Codex::connected();
    let (mut connection, a) = codex.begun("phone").await;
    let older = codex.link.take().unwrap();
    codex.connect();
    tokio::time::timeout(PATIENCE, older.serving).await.expect("it is left").unwrap();
    codex.say(&a, json!({ "last": 1 }));
    assert_eq!(codex.while_running(connection.receiver.next()).await.unwrap().unwrap(), r#"{"last":1}"#);
    connection.sender.send("{}").await.unwrap();
    codex.until(|codex| codex.known[&a].messages.len() == 2).await;
}

#[tokio::test]
async fn a_socket_whose_server_is_dropped_is_not_there_any_more() {
    let mut codex = Codex::connected();
    let _begun = codex.begun("phone").await;
    let connected = codex.clients.connected();
    assert!(*connected.borrow());
    let Link { serving, .. } = codex.link.take().unwrap();
    serving.abort();
    assert!(serving.await.unwrap_err().is_cancelled());
    assert!(!*connected.borrow());
}

#[derive(Debug, Clone)]
enum Act {
    Say { client: usize, length: usize },
    Send { client: usize, length: usize },
    Steps(usize),
    Cut,
    Connect,
}

fn act() -> impl Strategy<Value = Act> {
    let length = || prop_oneof![8 => 0..200_usize, 1 => 90_000..250_000_usize];
    prop_oneof![
        6 => (0..3_usize, length()).prop_map(|(client, length)| Act::Say { client, length }),
        6 => (0..3_usize, length()).prop_map(|(client, length)| Act::Send { client, length }),
        8 => (0..40_usize).prop_map(Act::Steps),
        2 => Just(Act::Cut),
        3 => Just(Act::Connect),
    ]
}

fn body(n: usize, length: usize) -> Value {
    json!({ "n": n, "text": "x".repeat(length) })
}

async fn cut_at_random(room: usize, acts: Vec<Act>) {
    let mut codex = Codex::new();
    codex.room = room;
    codex.connect();
    let mut connections = Vec::new();
    for client in 0..3 {
        connections.push(codex.begun(&format!("c{client}")).await);
    }
    let (mut said, mut sent) = ([const { Vec::new() }; 3], [const { Vec::new() }; 3]);
    for (n, act) in acts.into_iter().enumerate() {
        match act {
            Act::Say { client, length } => {
                said[client].push(n);
                codex.say(&connections[client].1, body(n, length));
            }
            Act::Send { client, length } => {
                let message = body(n, length).to_string();
                if let Some(done) = connections[client].0.sender.send(message).now_or_never() {
                    done.unwrap();
                    sent[client].push(n);
                }
            }
            Act::Steps(steps) => {
                for _ in 0..steps {
                    let _ = tokio::time::timeout(Duration::from_millis(1), codex.step()).await;
                }
            }
            Act::Cut => codex.cut(),
            Act::Connect => codex.connect(),
        }
    }
    codex.connect();
    for client in 0..3 {
        let (connection, key) = &mut connections[client];
        codex.until(|codex| codex.known[key].messages.len() > sent[client].len()).await;
        for n in &said[client] {
            let next = codex.while_running(connection.receiver.next()).await.unwrap().unwrap();
            assert_eq!(serde_json::from_str::<Value>(&next).unwrap()["n"], *n);
        }
        assert!(connection.receiver.next().now_or_never().is_none(), "there is more than was said");
        let got: Vec<_> =
            codex.known[key].messages[1..].iter().map(|message| message["n"].as_u64().unwrap() as usize).collect();
        assert_eq!(got, sent[client]);
    }
    codex.until(|codex| codex.unacked.is_empty()).await;
    assert!(codex.ended.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn however_the_socket_is_cut_nothing_is_lost_nothing_comes_twice_and_order_is_kept(
        room in prop::sample::select(vec![1, 3, 64]),
        acts in proptest::collection::vec(act(), 0..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(cut_at_random(room, acts));
    }
}
