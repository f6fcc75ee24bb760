//! The text so far of items that are being written, for who opens their thread in mid-turn.
//!
//! Codex sends such a client the pieces from then on, and neither the item's beginning nor the text until then (measured
//! on 0.169.0). The agent's own connection follows every thread that is active, so it has both: the notification that began
//! an item, and its text. Who joins gets them, and from then on the pieces that the agent's connection gets, in place of
//! those of its own: two connections of Codex are not at the same place at the same time, so a seam between them would lose
//! pieces or repeat some. The item's end comes on the own connection again, with the whole text.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::agent::outbox::{Text, adds_to_text};

/// What is kept of one item, in bytes. Of a longer one, who joins gets the pieces from then on, as from Codex.
const MAX_ITEM: usize = 1 << 20;
/// What is kept of all items, in bytes.
const MAX_ALL: usize = 32 << 20;
/// Items that ended a moment ago, and may not have ended yet on another connection.
const ENDED: usize = 256;

/// Pieces that wait for a connection's task, which hands them on at once.
const PIECES: usize = 4096;

/// Notifications that the text is made of, beside its pieces.
pub(crate) const ABOUT_ITEMS: [&str; 3] = ["item/completed", "item/started", "turn/completed"];

/// One item: ids of items begin anew with every turn.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    thread: String,
    turn: String,
    item: String,
}

/// What a notification of Codex means for the text of items.
#[derive(Debug, PartialEq, Eq)]
enum About {
    /// It begins.
    Started(Key),
    /// It goes on.
    Piece(Key),
    /// It is complete.
    Completed(Key),
    /// All of a turn is.
    TurnCompleted { thread: String, turn: String },
}

impl About {
    /// What a message means; `None` for all others.
    fn read(message: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Message<'a> {
            #[serde(borrow)]
            method: &'a str,
            params: Params,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Params {
            thread_id: String,
            #[serde(default)]
            turn_id: String,
            #[serde(default)]
            item_id: String,
            #[serde(default)]
            item: Id,
            #[serde(default)]
            turn: Id,
        }
        #[derive(Default, Deserialize)]
        struct Id {
            id: String,
        }
        let Message { method, params } = serde_json::from_str(message).ok()?;
        let Params { thread_id: thread, turn_id: turn, item_id, item, turn: whole } = params;
        match method {
            "item/started" => Some(Self::Started(Key { thread, turn, item: item.id })),
            "item/completed" => Some(Self::Completed(Key { thread, turn, item: item.id })),
            "turn/completed" => Some(Self::TurnCompleted { thread, turn: whole.id }),
            _ if adds_to_text(method) => Some(Self::Piece(Key { thread, turn, item: item_id })),
            _ => None,
        }
    }
}

/// An item that is being written.
#[derive(Debug)]
struct Item {
    key: Key,
    /// What to tell who joins: what began it, then its text. `None` once that is too long.
    so_far: Option<Vec<Part>>,
    /// Of `so_far`.
    bytes: usize,
}

#[derive(Debug)]
enum Part {
    /// A message as it came.
    Whole(Bytes),
    /// Text that may still grow.
    Text(Text),
}

impl Part {
    fn message(&self) -> Bytes {
        match self {
            Self::Whole(message) => message.clone(),
            Self::Text(text) => text.message(),
        }
    }
}

/// Who has joined.
#[derive(Debug)]
struct Listener {
    items: HashSet<Key>,
    out: mpsc::Sender<(Key, Bytes)>,
}

/// The items that the answer to a `thread/resume` tells: their turns and ids.
fn in_answer(answer: &[u8]) -> HashSet<(String, String)> {
    #[derive(Deserialize)]
    struct ResumeAnswer {
        result: Resumed,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Resumed {
        thread: Thread,
        #[serde(default)]
        initial_turns_page: Option<Page>,
    }
    #[derive(Deserialize)]
    struct Thread {
        #[serde(default)]
        turns: Vec<Turn>,
    }
    #[derive(Deserialize)]
    struct Page {
        data: Vec<Turn>,
    }
    #[derive(Deserialize)]
    struct Turn {
        id: String,
        #[serde(default)]
        items: Vec<Id>,
    }
    #[derive(Deserialize)]
    struct Id {
        id: String,
    }
    let Ok(ResumeAnswer { result }) = serde_json::from_slice(answer) else { return HashSet::new() };
    let turns = result.thread.turns.into_iter().chain(result.initial_turns_page.into_iter().flat_map(|page| page.data));
    turns.flat_map(|turn| turn.items.into_iter().map(move |item| (turn.id.clone(), item.id))).collect()
}

/// The items of one environment.
#[derive(Debug, Default)]
pub(crate) struct LiveText(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// In the order in which they began.
    items: Vec<Item>,
    bytes: usize,
    ended: VecDeque<Key>,
    listeners: Vec<Listener>,
}

/// What is different for a connection that joined threads in mid-turn.
#[derive(Debug)]
pub(crate) struct Joining {
    live_text: Arc<LiveText>,
    /// Items whose pieces come from the agent's connection.
    items: HashSet<Key>,
    /// Items that are complete, though this connection may not have heard so yet: what it still hears of them is from the
    /// middle of a text whose beginning it never had.
    ended: HashSet<Key>,
    /// Notifications that are not for this connection.
    unwanted: Vec<String>,
    pieces_out: mpsc::Sender<(Key, Bytes)>,
    pieces: mpsc::Receiver<(Key, Bytes)>,
}

impl Joining {
    pub(crate) fn new(live_text: Arc<LiveText>) -> Self {
        let (pieces_out, pieces) = mpsc::channel(PIECES);
        Self { live_text, items: HashSet::new(), ended: HashSet::new(), unwanted: Vec::new(), pieces_out, pieces }
    }

    /// The connection has joined a thread: for each item that is being written there, what began it and its text so far.
    /// `answer` is what Codex said to that; a command that runs stands in it, without its output (measured on 0.169.0), and
    /// does not begin again. `unwanted` are the notifications that the connection did not ask for.
    pub(crate) fn join(&mut self, thread: &str, answer: &[u8], unwanted: &[String]) -> Vec<Bytes> {
        let (mut so_far, items, ended) = self.live_text.join(thread, &self.pieces_out);
        self.items.extend(items);
        self.ended.extend(ended);
        self.unwanted = unwanted.to_vec();
        let told = if so_far.is_empty() { HashSet::new() } else { in_answer(answer) };
        so_far.retain(|message| {
            let about = std::str::from_utf8(message).ok().and_then(About::read);
            let is_told = match about {
                Some(About::Started(Key { turn, item, .. })) => told.contains(&(turn, item)),
                _ => false,
            };
            !is_told && self.is_wanted(message)
        });
        so_far
    }

    fn is_wanted(&self, message: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct Name<'a> {
            #[serde(borrow)]
            method: &'a str,
        }
        let name = serde_json::from_slice(message).map(|Name { method }| method);
        self.unwanted.is_empty() || name.is_ok_and(|name| !self.unwanted.iter().any(|unwanted| unwanted == name))
    }

    /// Whether what this connection hears is for its device.
    pub(crate) fn passes(&mut self, message: &[u8]) -> bool {
        if self.items.is_empty() && self.ended.is_empty() {
            return true;
        }
        match std::str::from_utf8(message).ok().and_then(About::read) {
            Some(About::Piece(key)) => !self.items.contains(&key) && !self.ended.contains(&key),
            // It began after this connection had joined: either that was told, or all of it comes here.
            Some(About::Started(key)) => {
                self.ended.remove(&key);
                !self.items.contains(&key)
            }
            Some(About::Completed(key)) => {
                self.items.remove(&key);
                self.ended.remove(&key);
                true
            }
            Some(About::TurnCompleted { thread, turn }) => {
                let goes_on = |key: &Key| key.thread != thread || key.turn != turn;
                self.items.retain(goes_on);
                self.ended.retain(goes_on);
                true
            }
            None => true,
        }
    }

    /// The next piece from the agent's connection. Safe to cancel.
    pub(crate) async fn next(&mut self) -> Bytes {
        loop {
            let Some((key, piece)) = self.pieces.recv().await else { return std::future::pending().await };
            if self.items.contains(&key) && self.is_wanted(&piece) {
                return piece;
            }
        }
    }
}

impl LiveText {
    /// Follows what the agent's own connection hears.
    pub(crate) fn hear(&self, message: &str) {
        let Some(about) = About::read(message) else { return };
        let mut inner = self.lock();
        match about {
            About::Started(key) => inner.start(key, message),
            About::Piece(key) => inner.add(&key, message),
            About::Completed(key) => inner.end(|known| *known == key),
            About::TurnCompleted { thread, turn } => inner.end(|known| known.thread == thread && known.turn == turn),
        }
    }

    /// Forgets everything: the connection has ended, or the thread is closed.
    pub(crate) fn clear(&self) {
        *self.lock() = Inner::default();
    }

    /// What to tell who joins a thread, the items that are being written, and those that have just ended. Pieces go to `out`
    /// from then on; whoever does not take them in time gets no more.
    fn join(&self, thread: &str, out: &mpsc::Sender<(Key, Bytes)>) -> (Vec<Bytes>, HashSet<Key>, HashSet<Key>) {
        let mut inner = self.lock();
        let (mut so_far, mut keys) = (Vec::new(), HashSet::new());
        for item in inner.items.iter().filter(|item| item.key.thread == thread) {
            let Some(parts) = &item.so_far else { continue };
            so_far.extend(parts.iter().map(Part::message));
            keys.insert(item.key.clone());
        }
        let ended = inner.ended.iter().filter(|key| key.thread == thread).cloned().collect();
        if !keys.is_empty() {
            inner.listeners.push(Listener { items: keys.clone(), out: out.clone() });
        }
        (so_far, keys, ended)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn start(&mut self, key: Key, message: &str) {
        self.end(|known| *known == key);
        self.ended.retain(|ended| *ended != key);
        self.items.push(Item { key, so_far: Some(Vec::new()), bytes: 0 });
        let last = self.items.len() - 1;
        self.keep(last, Part::Whole(Bytes::copy_from_slice(message.as_bytes())), message.len());
    }

    fn add(&mut self, key: &Key, message: &str) {
        let Some(at) = self.items.iter().position(|item| item.key == *key) else { return };
        let whole = || Bytes::copy_from_slice(message.as_bytes());
        match Text::read(message.as_bytes()) {
            Some(text) => {
                let more = text.len();
                self.keep(at, Part::Text(text), more);
            }
            None => self.keep(at, Part::Whole(whole()), message.len()),
        }
        self.listeners
            .retain(|listener| !listener.items.contains(key) || listener.out.try_send((key.clone(), whole())).is_ok());
    }

    /// Keeps what an item is told with, if it is not too much.
    fn keep(&mut self, at: usize, part: Part, more: usize) {
        let item = &mut self.items[at];
        let Some(parts) = &mut item.so_far else { return };
        if item.bytes + more > MAX_ITEM || self.bytes + more > MAX_ALL {
            self.bytes -= item.bytes;
            (item.so_far, item.bytes) = (None, 0);
            return;
        }
        item.bytes += more;
        self.bytes += more;
        match (parts.last_mut(), part) {
            (Some(Part::Text(last)), Part::Text(text)) => {
                if let Err(text) = last.add(text) {
                    parts.push(Part::Text(text));
                }
            }
            (_, part) => parts.push(part),
        }
    }

    fn end(&mut self, is_over: impl Fn(&Key) -> bool) {
        let over: HashMap<_, _> =
            self.items.extract_if(.., |item| is_over(&item.key)).map(|item| (item.key, item.bytes)).collect();
        for (key, bytes) in over {
            self.bytes -= bytes;
            self.listeners.retain_mut(|listener| {
                listener.items.remove(&key);
                !listener.items.is_empty()
            });
            if self.ended.len() >= ENDED {
                self.ended.pop_front();
            }
            self.ended.push_back(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// To a `thread/resume` without turns.
    const ANSWER: &[u8] = br#"{"id":1,"result":{"thread":{"id":"t","turns":[]}}}"#;

    fn about(method: &str, item: &str, more: Value) -> String {
        let mut params = json!({ "threadId": "t", "turnId": "u" });
        match method {
            "item/started" | "item/completed" => {
                params["item"] = json!({ "id": item, "type": "agentMessage", "text": more })
            }
            "turn/completed" => params["turn"] = json!({ "id": item }),
            _ => (params["itemId"], params["delta"]) = (json!(item), more),
        }
        json!({ "method": method, "params": params }).to_string()
    }

    fn piece(item: &str, text: &str) -> String {
        about("item/agentMessage/delta", item, json!(text))
    }

    fn started(item: &str) -> String {
        about("item/started", item, json!(""))
    }

    /// The methods of messages, and all their text.
    fn told(messages: &[Bytes]) -> (Vec<String>, String) {
        let messages: Vec<Value> = messages.iter().map(|bytes| serde_json::from_slice(bytes).unwrap()).collect();
        let methods = messages.iter().map(|message| message["method"].as_str().unwrap().to_owned()).collect();
        let texts = messages.iter().filter_map(|message| message["params"]["delta"].as_str());
        (methods, texts.collect())
    }

    fn live() -> (Arc<LiveText>, Joining) {
        let live = Arc::new(LiveText::default());
        (Arc::clone(&live), Joining::new(live))
    }

    #[tokio::test]
    async fn who_joins_gets_the_text_so_far_and_then_each_piece_once() {
        let (live, mut joining) = live();
        live.hear(&started("i"));
        for text in ["a", "b", "c"] {
            live.hear(&piece("i", text));
        }
        assert!(joining.join("another", ANSWER, &[]).is_empty());
        let so_far = joining.join("t", ANSWER, &[]);
        let (methods, text) = told(&so_far);
        assert_eq!((methods.len(), methods[0].as_str(), text.as_str()), (2, "item/started", "abc"));

        // The own connection is a little behind, and says "c" and "d" as well.
        for text in ["c", "d"] {
            assert!(!joining.passes(piece("i", text).as_bytes()));
        }
        live.hear(&piece("i", "d"));
        assert_eq!(told(&[joining.next().await]).1, "d");
        // Its end is told by the own connection; what the other has left then says nothing new.
        live.hear(&piece("i", "e"));
        assert!(joining.passes(about("item/completed", "i", json!("abcde")).as_bytes()));
        live.hear(&about("item/completed", "i", json!("abcde")));
        let more = tokio::time::timeout(std::time::Duration::from_millis(1), joining.next()).await;
        assert!(more.is_err(), "{more:?}");
        assert!(joining.passes(piece("i", "x").as_bytes()), "an id is used again in another item");
    }

    #[test]
    fn what_has_ended_here_goes_on_nowhere_in_the_middle_and_begins_everywhere() {
        let (live, mut joining) = live();
        live.hear(&started("i"));
        live.hear(&about("item/completed", "i", json!("all")));
        assert!(joining.join("t", ANSWER, &[]).is_empty());
        assert!(!joining.passes(piece("i", "the end").as_bytes()), "its beginning was never told");
        assert!(joining.passes(started("i").as_bytes()));
        assert!(joining.passes(piece("i", "a beginning").as_bytes()), "this connection has all of it");
        assert!(joining.passes(b"{\"id\":1,\"result\":{}}"));
    }

    #[test]
    fn an_item_that_begins_while_a_connection_joins_begins_once() {
        let (live, mut joining) = live();
        live.hear(&started("i"));
        assert_eq!(joining.join("t", ANSWER, &[]).len(), 1);
        assert!(!joining.passes(started("i").as_bytes()), "it was told");
        assert!(!joining.passes(piece("i", "a").as_bytes()));
        assert!(joining.passes(about("turn/completed", "u", Value::Null).as_bytes()));
        assert!(joining.passes(piece("i", "a").as_bytes()), "the turn is over");
    }

    #[test]
    fn an_item_that_the_answer_tells_does_not_begin_again() {
        let (live, mut joining) = live();
        for item in ["i", "j"] {
            live.hear(&started(item));
            live.hear(&piece(item, item));
        }
        let turn = json!({ "id": "u", "items": [{ "id": "i", "type": "commandExecution" }] });
        for (turns, page) in [(json!([turn]), Value::Null), (json!([]), json!({ "data": [turn] }))] {
            let answer = json!({ "id": 1, "result": { "thread": { "turns": turns }, "initialTurnsPage": page } });
            let so_far = joining.join("t", answer.to_string().as_bytes(), &[]);
            let delta = "item/agentMessage/delta";
            assert_eq!(told(&so_far), (vec![delta.into(), "item/started".into(), delta.into()], "ij".into()));
        }
    }

    #[test]
    fn what_a_connection_does_not_want_it_does_not_get() {
        let (live, mut joining) = live();
        live.hear(&started("i"));
        live.hear(&piece("i", "a"));
        let unwanted = ["item/agentMessage/delta".to_owned()];
        assert_eq!(told(&joining.join("t", ANSWER, &unwanted)).0, ["item/started"]);
    }

    #[test]
    fn a_text_that_is_too_long_is_left_to_codex_and_nothing_is_kept_of_what_ended() {
        let (live, mut joining) = live();
        live.hear(&started("long"));
        let large = "x".repeat(MAX_ITEM / 8);
        for _ in 0..9 {
            live.hear(&piece("long", &large));
        }
        assert!(joining.join("t", ANSWER, &[]).is_empty());
        assert!(joining.passes(piece("long", "more").as_bytes()));
        assert_eq!(live.lock().bytes, 0);

        for item in 0..64 {
            live.hear(&started(&item.to_string()));
            live.hear(&piece(&item.to_string(), &large));
        }
        live.hear(&about("turn/completed", "u", Value::Null));
        let inner = live.lock();
        assert_eq!((inner.bytes, inner.items.len(), inner.listeners.len()), (0, 0, 0));
        assert!(inner.ended.len() <= ENDED);
    }

    #[test]
    fn who_does_not_take_the_pieces_gets_no_more() {
        let (live, mut joining) = live();
        live.hear(&started("i"));
        joining.join("t", ANSWER, &[]);
        for _ in 0..=PIECES {
            live.hear(&piece("i", "a"));
        }
        assert!(live.lock().listeners.is_empty());
    }
}
