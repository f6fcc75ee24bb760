//! Pages of a Codex that is a list in memory, and counts what it is asked.

use super::items::Cursor;
use super::*;

const THREAD: &str = "thread";

/// A thread of which Codex gives items, newest first, as the real one does.
#[derive(Default)]
struct Fake {
    /// Their turns and themselves, the oldest first.
    items: Vec<(String, Value)>,
    threads: Vec<Value>,
    /// Recorded by an older Codex.
    is_old: bool,
    /// Answers of more bytes than this are an error.
    largest: Option<usize>,
    /// Methods and limits.
    asked: Vec<(String, usize)>,
    /// Items that come as soon as so many calls were answered.
    coming: Vec<(usize, (String, Value))>,
}

impl Fake {
    fn with(sizes: impl IntoIterator<Item = usize>) -> Self {
        let mut fake = Self::default();
        for size in sizes {
            fake.add(size);
        }
        fake
    }

    /// Three items make a turn.
    fn add(&mut self, size: usize) {
        let number = self.items.len();
        self.items.push(item(number, number / 3, size));
    }

    /// Where a cursor leads: the place in a list that has the newest first, counted from the oldest on.
    fn slice<T: Clone>(all: &[T], params: &Value) -> (Vec<T>, Value, Value) {
        let most = usize::try_from(params["limit"].as_u64().unwrap()).unwrap();
        assert!((1..=MOST).contains(&most), "{params}");
        let cursor = params["cursor"].as_str();
        let end = cursor.map_or(all.len(), |cursor| cursor.parse().unwrap());
        let from = end.saturating_sub(most);
        let page: Vec<T> = all[from..end].iter().rev().cloned().collect();
        let next = if from == 0 { Value::Null } else { json!(from.to_string()) };
        (page, next, json!(end.to_string()))
    }

    fn answer(&self, method: &str, params: &Value) -> Result<Value, CallError> {
        let refused = |words: &str| Err(CallError::Codex(words.to_owned()));
        let data;
        let (next, start);
        match method {
            "thread/items/list" if self.is_old => return refused("not supported yet"),
            "thread/items/list" => {
                let (page, on, back) = Self::slice(&self.items, params);
                data = page.into_iter().map(|(turn, item)| json!({ "turnId": turn, "item": item })).collect::<Vec<_>>();
                (next, start) = (on, back);
            }
            "thread/turns/list" => {
                let mut turns: Vec<(String, Vec<Value>)> = Vec::new();
                for (turn, item) in &self.items {
                    match turns.last_mut().filter(|(last, _)| last == turn) {
                        Some((_, items)) => items.push(item.clone()),
                        None => turns.push((turn.clone(), vec![item.clone()])),
                    }
                }
                let is_full = params["itemsView"] == "full";
                let (page, on, back) = Self::slice(&turns, params);
                let turn = |(id, items): (String, Vec<Value>)| {
                    let items = if is_full { items } else { Vec::new() };
                    json!({ "id": id, "items": items, "status": "completed", "startedAt": 7, "completedAt": null })
                };
                data = page.into_iter().map(turn).collect();
                (next, start) = (on, back);
            }
            "thread/list" => {
                let threads = if params["useStateDbOnly"] == true { &self.threads[..] } else { &[] };
                (data, next, start) = Self::slice(threads, params);
            }
            _ => panic!("{method} was asked for"),
        }
        let answer = json!({ "data": data, "nextCursor": next, "backwardsCursor": start });
        if self.largest.is_some_and(|largest| length(&answer) > largest) {
            return refused("too large");
        }
        Ok(answer)
    }

    async fn page(&mut self, cursor: Option<String>, bytes: usize) -> Value {
        let query = ItemQuery { thread: THREAD.into(), cursor, bytes, defer_output: true };
        serde_json::to_value(items::page(self, query).await.unwrap()).unwrap()
    }

    /// All pages, the first one first, while `between` happens.
    async fn pages(&mut self, bytes: usize, mut between: impl FnMut(&mut Self)) -> Vec<Value> {
        let (mut pages, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.page(cursor, bytes).await;
            cursor = page["nextCursor"].as_str().map(str::to_owned);
            pages.push(page);
            if cursor.is_none() {
                return pages;
            }
            assert!(pages.len() < 10_000, "it has no end");
            between(self);
        }
    }
}

impl Codex for Fake {
    async fn call(&mut self, method: &str, params: &Value) -> Result<Value, CallError> {
        self.asked.push((method.to_owned(), usize::try_from(params["limit"].as_u64().unwrap()).unwrap()));
        let answer = self.answer(method, params);
        let calls = self.asked.len();
        while let Some(at) = self.coming.iter().position(|(at, _)| *at <= calls) {
            let (_, item) = self.coming.remove(at);
            self.items.push(item);
        }
        answer
    }
}

fn item(number: usize, turn: usize, size: usize) -> (String, Value) {
    let text = "x".repeat(size);
    (format!("turn-{turn}"), json!({ "id": format!("item-{number}"), "type": "agentMessage", "text": text }))
}

/// The ids of the items of these pages, in order.
fn ids(pages: &[Value]) -> Vec<String> {
    let items = pages.iter().flat_map(|page| page["items"].as_array().unwrap());
    items.map(|item| item["item"]["id"].as_str().unwrap().to_owned()).collect()
}

/// The ids of the first `count` items, newest first.
fn newest_first(count: usize) -> Vec<String> {
    (0..count).rev().map(|number| format!("item-{number}")).collect()
}

/// Sizes that differ from 1 to 3,000 bytes.
fn uneven(count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(|number| 1 + number * 7919 % 3000)
}

#[tokio::test]
async fn pages_are_as_large_as_is_wanted_and_hold_everything_once_and_in_order() {
    for is_old in [false, true] {
        for bytes in [4096, 20_000, 64 << 10, 4 << 20] {
            let mut fake = Fake { is_old, ..Fake::with(uneven(300)) };
            let pages = fake.pages(bytes, |_| {}).await;
            assert_eq!(ids(&pages), newest_first(300), "{bytes} bytes, old: {is_old}");
            for (at, page) in pages.iter().enumerate() {
                let size = length(page);
                // Beside the entries a page has a cursor.
                assert!(size <= bytes + 300, "page {at} has {size} bytes in place of {bytes}, old: {is_old}");
                let is_last = at + 1 == pages.len();
                // What is around items is reckoned high, and a turn of an older thread goes whole into one page.
                let missing = 3500 + bytes / 5 + if is_old { 10_000 } else { 0 };
                assert!(is_last || size + missing > bytes, "page {at} has {size} bytes of {bytes}, old: {is_old}");
            }
        }
    }
}

#[tokio::test]
async fn every_page_says_which_turns_its_items_are_of_and_asks_for_no_others() {
    let mut fake = Fake::with(uneven(300));
    let pages = fake.pages(20_000, |_| {}).await;
    for page in &pages {
        let items = page["items"].as_array().unwrap();
        let mut wanted: Vec<_> = items.iter().map(|item| &item["turnId"]).collect();
        wanted.dedup();
        let turns: Vec<_> = page["turns"].as_array().unwrap().iter().map(|turn| &turn["id"]).collect();
        assert_eq!(turns, wanted);
        assert_eq!(page["turns"][0], json!({ "id": wanted[0], "status": "completed", "startedAt": 7000 }));
    }
    let of_turns = fake.asked.iter().filter(|(method, _)| method == "thread/turns/list").count();
    assert!(of_turns <= 3 * pages.len(), "{of_turns} for {} pages", pages.len());
}

#[tokio::test]
async fn what_comes_on_top_meanwhile_changes_no_page() {
    for is_old in [false, true] {
        let mut fake = Fake { is_old, ..Fake::with(uneven(100)) };
        // In the middle of the first page, and between all of them.
        fake.coming = (1..4).map(|at| (at, item(100 + at, 40, 500))).collect();
        let pages = fake.pages(8192, |fake| fake.add(10)).await;
        let seen: Vec<_> = ids(&pages);
        let from = seen.iter().position(|id| id == "item-99").expect("the items that were there");
        assert_eq!(seen[from..], newest_first(100), "old: {is_old}");
        assert!(from <= 3, "{seen:?}");
    }
}

#[tokio::test]
async fn the_first_page_of_a_long_thread_asks_for_little() {
    let mut fake = Fake::with([500; 2000]);
    let page = fake.page(None, 64 << 10).await;
    let count = page["items"].as_array().unwrap().len();
    let limits: usize = fake.asked.iter().map(|(_, limit)| limit).sum();
    assert!((80..120).contains(&count) && fake.asked.len() <= 5, "{count} items, {:?}", fake.asked);
    assert!(limits < 4 * count, "{:?}", fake.asked);
    assert_eq!(fake.asked[0], ("thread/items/list".into(), FIRST));
}

#[tokio::test]
async fn an_item_larger_than_a_page_comes_as_a_stub() {
    for is_old in [false, true] {
        let mut fake = Fake { is_old, ..Fake::with([10, 10, 10]) };
        fake.items.insert(1, item(9, 0, 1 << 20));
        fake.items[1].1["text"] = json!("\"ä\n\u{1}".repeat(1 << 18));
        let pages = fake.pages(4096, |_| {}).await;
        assert_eq!(ids(&pages), ["item-2", "item-1", "item-9", "item-0"], "old: {is_old}");
        let of_page = |page: &Value| page["items"].as_array().unwrap().clone();
        let stub = pages.iter().flat_map(of_page).find(|item| item["item"]["id"] == "item-9").unwrap();
        assert_eq!(stub["size"], length(&fake.items[1].1), "old: {is_old}");
        assert_eq!(stub["item"]["type"], "agentMessage");
        let (whole, part) = (fake.items[1].1["text"].as_str().unwrap(), stub["item"]["text"].as_str().unwrap());
        assert!(whole.starts_with(part), "{part}");
        assert!((3000..=4096).contains(&length(&stub)), "{} bytes", length(&stub));
        assert!(pages.iter().all(|page| length(page) <= 4096 + 300));
    }
}

#[tokio::test]
async fn items_that_are_too_large_together_are_asked_for_one_by_one() {
    let mut fake = Fake { largest: Some(100_000), ..Fake::with([50_000; 30]) };
    let pages = fake.pages(4 << 20, |_| {}).await;
    assert_eq!(ids(&pages), newest_first(30));
}

#[tokio::test]
async fn output_is_left_out_where_it_can_be_read_later() {
    let command = |status: &str, code: i32| {
        json!({
            "id": "c", "type": "commandExecution", "status": status, "exitCode": code, "aggregatedOutput": "much",
        })
    };
    for (item, is_old, deferred) in [
        (command("completed", 0), false, true),
        (command("completed", 0), true, false),
        (command("completed", 1), false, false),
        (command("inProgress", 0), false, false),
    ] {
        let mut fake = Fake { is_old, items: vec![("t".into(), item.clone())], ..Fake::default() };
        let page = fake.page(None, 4096).await;
        let seen = &page["items"][0];
        assert_eq!(seen["outputDeferred"] == true, deferred, "{item}");
        assert_eq!(seen["item"]["aggregatedOutput"].is_null(), deferred, "{item}");
    }
}

#[tokio::test]
async fn a_cursor_that_is_none_is_refused_and_no_thread_has_codexs_words() {
    let mut fake = Fake::with([1]);
    for cursor in ["", "zz", "e30", "eyJpdGVtIjp7fX0", "\u{e4}"] {
        let query = ItemQuery { thread: THREAD.into(), cursor: Some(cursor.into()), bytes: 4096, defer_output: false };
        assert!(matches!(items::page(&mut fake, query).await, Err(NotRead::Cursor)), "{cursor}");
    }
    assert_eq!(fake.asked, [], "Codex is not asked");
    let query = ItemQuery { thread: THREAD.into(), cursor: None, bytes: 4096, defer_output: false };
    fake.largest = Some(0);
    assert!(matches!(items::page(&mut fake, query).await, Err(NotRead::Refused(words)) if words == "too large"));
    let of_turn = Cursor::Turn { next: "3".into(), after: Some("item-1".into()) };
    assert_eq!(serde_json::to_value(of_turn).unwrap(), json!({ "turn": { "next": "3", "after": "item-1" } }));
}

fn thread(number: usize) -> Value {
    json!({
        "id": format!("thread-{number}"), "preview": "long ".repeat(number * 31 % 500), "name": null, "cwd": "/home/me/shop",
        "status": { "type": "active", "activeFlags": ["waitingOnApproval"] }, "createdAt": 5, "updatedAt": 6,
        "recencyAt": number, "gitInfo": { "branch": "main" }, "source": { "custom": "web" }, "turns": [],
    })
}

async fn list(fake: &mut Fake, cursor: Option<String>, bytes: usize) -> Value {
    let query = ThreadQuery { cursor, bytes, archived: false, search: None, folder: None };
    serde_json::to_value(threads::page(fake, query).await.unwrap()).unwrap()
}

#[tokio::test]
async fn threads_come_slim_and_newest_first_in_pages() {
    let mut fake = Fake { threads: (0..1000).map(thread).collect(), ..Fake::default() };
    fake.threads[999]["name"] = json!("named");
    let (mut cursor, mut seen) = (None, Vec::new());
    loop {
        let page = list(&mut fake, cursor, 16 << 10).await;
        assert!(length(&page) <= (16 << 10) + 300, "{}", length(&page));
        seen.extend(page["data"].as_array().unwrap().clone());
        cursor = page["nextCursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
        assert!(length(&page) > 12 << 10, "{}", length(&page));
    }
    let ids: Vec<_> = seen.iter().map(|thread| thread["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, (0..1000).rev().map(|number| format!("thread-{number}")).collect::<Vec<_>>());
    assert_eq!(
        seen[0],
        json!({
            "id": "thread-999", "title": "named", "isNamed": true, "folder": "/home/me/shop", "status": "active",
            "waitingOn": ["waitingOnApproval"], "createdAt": 5000, "changedAt": 999_000, "branch": "main",
            "source": "custom", "archived": false,
        })
    );
    let titles = seen.iter().map(|thread| thread["title"].as_str().unwrap().chars().count());
    assert_eq!(titles.max(), Some(200));
    assert!(fake.asked.len() < 120, "{}", fake.asked.len());
}

#[tokio::test]
async fn codex_looks_further_than_its_database_only_where_that_has_nothing() {
    let mut fake = Fake::default();
    list(&mut fake, None, 4096).await;
    assert_eq!(fake.asked.len(), 2);
    let query = ThreadQuery { cursor: None, bytes: 4096, archived: false, search: Some("words".into()), folder: None };
    threads::page(&mut fake, query).await.unwrap();
    assert_eq!(fake.asked.len(), 3, "a search that finds nothing is no reason");
}
