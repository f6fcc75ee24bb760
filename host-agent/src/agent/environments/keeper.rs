//! The agent's own connection to an environment's Codex: it follows what is opened there.
//!
//! - A thread that the agent follows stays loaded, so devices that may not load anything can join it, see
//!   [`Kept`]; and what runs in its background outlives a phone that looks away for a minute.
//! - It is the first connection to a server that the agent starts, so the server is called by the agent's name
//!   and not by that of the first device (Codex uses the first client's name for all its traffic).
//!
//! - It hears what Codex asks in those threads, and hands on what devices answer through the agent's API, see [`Requests`].
//!
//! - It asks whether Codex is signed in, see [`CodexAccount`], and which model providers are configured, see [`Providers`].
//!
//! - It asks whether OpenAI's own remote control is on, see [`CodexChatgptRemote`].
//!
//! - It hears which threads run, wait and end, of all that are loaded, see [`Attention`].
//!
//! It follows a thread when Codex says that one was started or loaded, while the connection that did so is there.
//! A thread without a turn can't be followed: it has no recording yet. Codex says to everybody when the first one begins, and
//! mostly has a recording then (80 times of 80, on 0.169.0); but nothing once it has one that came later. So the agent
//! asks again while the turn runs, and soon: what is written before it follows is lost for
//! [`LiveText`](super::live_text::LiveText).
//!
//! What was loaded and idle before the agent came is left alone: following that could load it anew. It answers nothing by
//! itself, and lets idle threads go: all but the last few, and those after a while. Of notifications it asks for those about
//! threads and requests, and for what [`LiveText`](super::live_text::LiveText) is made of.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::rand::SystemRandom;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, interval, sleep, sleep_until};

use super::account::CodexAccount;
use super::chatgpt_remote::CodexChatgptRemote;
use super::live_text::ABOUT_ITEMS;
use super::troubles::Troubles;
use super::{Environment, Met};
use crate::agent::attention::{Attention, SETTLING};
use crate::agent::outbox::adds_to_text;
use crate::agent::requests::Requests;
use crate::codex::overload::{Retries, says_overloaded};
use crate::codex::permissions::Profiles;
use crate::codex::{Adapter, Allowance, CodexConnection, CodexState, Text};
use crate::firewall::folders::Folders;
use crate::firewall::kept::Kept;
use crate::firewall::providers::Providers;
use crate::firewall::table::NOTIFICATIONS;
use crate::firewall::threads::{self, Opening};

/// Idle threads that are kept loaded: each may have MCP servers of its own.
const MAX_IDLE: usize = 8;
/// How long an idle thread is kept loaded.
const MAX_IDLE_TIME: Duration = Duration::from_secs(30 * 60);
/// Between saying that a thread is not kept and letting it go: longer than the firewall waits for an answer about it.
const NOTICE: Duration = Duration::from_secs(30);
/// Between two looks at what has been idle for long.
const LOOK: Duration = Duration::from_secs(10);
/// Before a connection that ended is made again.
const PAUSE: Duration = Duration::from_secs(1);
/// Before the agent tries again to follow a thread in its first turn. Each wait is half as long again as the one before, so
/// that all of them together are six seconds and a half: where a recording takes longer, the next turn is followed.
const FIRST_TRY: Duration = Duration::from_millis(5);
const MOST_TRIES: u32 = 16;
/// Threads that are remembered. Over this, the oldest idle ones are forgotten, and can be joined while they are active.
const MAX_KNOWN: usize = 1024;
/// Pages of the list of models that are read.
const MOST_PAGES: u32 = 64;
/// Threads that were loaded before, looked at in one list.
const PAGE: usize = 100;

/// Codex says it to everybody, and to who comes.
const CHATGPT_CHANGED: &str = "remoteControl/status/changed";

/// What notifications the connection is for.
const WANTED: [&str; 12] = [
    "account/updated",
    "item/fileChange/patchUpdated",
    "item/started",
    CHATGPT_CHANGED,
    "serverRequest/resolved",
    "thread/closed",
    "thread/name/updated",
    "thread/settings/updated",
    "thread/started",
    "thread/status/changed",
    "turn/completed",
    "turn/started",
];

/// Follows the threads of an environment until its Codex has stopped for good.
pub(crate) async fn run(environment: Arc<Environment>) {
    let mut state = environment.codex.state();
    loop {
        let known = state.wait_for(|state| matches!(state, CodexState::Ready { .. } | CodexState::Stopped)).await;
        match known.map(|state| matches!(*state, CodexState::Ready { .. })) {
            Ok(true) => {}
            Ok(false) | Err(_) => return,
        }
        match environment.codex.connect(Allowance::default()).await {
            Ok(connection) => follow(connection, &environment).await,
            Err(error) => tracing::debug!(%error, "the agent's own connection to codex failed"),
        }
        environment.kept.clear();
        environment.account.clear();
        environment.chatgpt_remote.clear();
        environment.troubles.clear();
        environment.providers.clear();
        environment.requests.disconnected();
        environment.attention.disconnected(now_ms());
        environment.live_text.clear();
        sleep(PAUSE).await;
    }
}

async fn follow(connection: CodexConnection, environment: &Environment) {
    let CodexConnection { sender: mut to_codex, receiver: mut from_codex, instance } = connection;
    let Environment { kept, requests, attention, workspaces, profiles, .. } = environment;
    let mut keeper = Keeper::new(kept, About::of(environment), requests, attention, &**workspaces, profiles);
    let mut answers = environment.requests.connected(instance);
    let mut looks = interval(LOOK);
    let mut settled = None;
    let mut config = environment.workspaces.disk().codex_config_mark();
    // What it opens names them all.
    environment.workspaces.look_at([]).await;
    keeper.initialize();
    loop {
        settled = environment.attention.is_settling().then(|| settled.unwrap_or_else(|| Instant::now() + SETTLING));
        let (settles, tries) = (settled, keeper.due());
        for message in std::mem::take(&mut keeper.out) {
            if to_codex.send(message.to_string()).await.is_err() {
                return;
            }
        }
        tokio::select! {
            message = from_codex.next() => match message {
                Some(Ok(text)) => {
                    environment.live_text.hear(&text);
                    keeper.hear(&text, Instant::now());
                    let now = keeper.is_known.then(|| Met { instance, has_looked: keeper.has_looked() });
                    environment.met.send_if_modified(|met| {
                        let is_news = now.is_some() && !met.is_some_and(|met| met.instance == instance && met.has_looked) && *met != now;
                        if is_news {
                            *met = now;
                        }
                        is_news
                    });
                }
                Some(Err(_)) | None => return,
            },
            Some(answer) = answers.recv() => {
                // It was parsed, so it is text.
                let Ok(text) = Text::try_from(answer) else { continue };
                if to_codex.send(text).await.is_err() {
                    return;
                }
            }
            Some(()) = at(tries) => keeper.try_again(Instant::now()),
            _ = looks.tick() => {
                keeper.let_go(Instant::now());
                let now = environment.workspaces.disk().codex_config_mark();
                if now != config {
                    config = now;
                    keeper.read_config();
                }
                environment.attention.look(now_ms());
            }
            Some(()) = at(settles) => {
                environment.attention.look(now_ms());
                settled = None;
            }
        }
    }
}

/// Waits for a moment, where there is one.
async fn at(moment: Option<Instant>) -> Option<()> {
    sleep_until(moment?).await;
    Some(())
}

/// What a request of the keeper is about.
#[derive(Debug)]
enum Asked {
    Initialize,
    /// Whether Codex is signed in.
    Account,
    /// Whether OpenAI's own remote control is on.
    ChatgptRemote,
    /// How Codex is configured.
    Config,
    /// Which models it has; so many pages were asked for.
    Models {
        pages: u32,
    },
    /// What was loaded before.
    Loaded,
    /// How a thread is. It is followed if somebody opened it just now, or if it is in a turn.
    Read {
        thread: String,
        is_fresh: bool,
    },
    Resume {
        thread: String,
        /// How often Codex has refused so far, in this turn.
        refused: u32,
    },
    /// What is to be changed, of which a request came before the agent followed its thread.
    Changes {
        thread: String,
    },
    Unsubscribe,
}

/// A request whose answer is not there yet.
#[derive(Debug)]
struct Open {
    asked: Asked,
    method: &'static str,
    params: Value,
    retries: Retries,
}

/// A loaded thread.
#[derive(Debug)]
struct Known {
    /// The folder that it was recorded with.
    cwd: String,
    is_active: bool,
    /// When it last changed.
    since: Instant,
    follows: Follows,
}

/// Whether the agent follows a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follows {
    No,
    /// It tries again at this moment, after so many refusals.
    Soon {
        at: Instant,
        refused: u32,
    },
    Yes,
    /// Yes, and nobody relies on it any more.
    Until(Instant),
}

/// What Codex says of itself.
struct About<'a> {
    account: &'a CodexAccount,
    providers: &'a Providers,
    /// `None` where its remote control leads to the agent.
    chatgpt_remote: Option<&'a CodexChatgptRemote>,
    troubles: &'a Troubles,
}

impl<'a> About<'a> {
    fn of(environment: &'a Environment) -> Self {
        let Environment { codex, account, providers, chatgpt_remote, troubles, .. } = environment;
        let chatgpt_remote = (codex.adapter() != Adapter::RemoteControl).then_some(chatgpt_remote);
        Self { account, providers, chatgpt_remote, troubles }
    }
}

/// What is known, and what is to be said next.
struct Keeper<'a> {
    kept: &'a Kept,
    about: About<'a>,
    requests: &'a Requests,
    attention: &'a Attention,
    folders: &'a dyn Folders,
    profiles: &'a Profiles,
    known: HashMap<String, Known>,
    asked: HashMap<u64, Open>,
    /// What Codex had too much to do for, and when it is asked again.
    later: Vec<(Instant, Open)>,
    last: u64,
    out: Vec<Value>,
    /// Whether Codex knows the agent's name.
    is_known: bool,
}

/// A message of Codex, as far as it is looked at.
#[derive(Deserialize)]
struct Heard<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(default)]
    method: Option<String>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Started {
    thread: Id,
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Changed {
    thread_id: String,
    status: Status,
}

#[derive(Deserialize)]
struct Status {
    r#type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Closed {
    thread_id: String,
}

#[derive(Deserialize)]
struct Loaded {
    data: Vec<String>,
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Before the next try, after so many refusals.
fn wait(refused: u32) -> Duration {
    FIRST_TRY.mul_f64(1.5_f64.powi(refused.cast_signed()))
}

fn read<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

impl<'a> Keeper<'a> {
    fn new(
        kept: &'a Kept,
        about: About<'a>,
        requests: &'a Requests,
        attention: &'a Attention,
        folders: &'a dyn Folders,
        profiles: &'a Profiles,
    ) -> Self {
        Self {
            kept,
            about,
            requests,
            attention,
            folders,
            profiles,
            known: HashMap::new(),
            asked: HashMap::new(),
            later: Vec::new(),
            last: 0,
            out: Vec::new(),
            is_known: false,
        }
    }

    fn initialize(&mut self) {
        let is_wanted = |name: &str| WANTED.contains(&name) || ABOUT_ITEMS.contains(&name) || adds_to_text(name);
        let unwanted: Vec<_> = NOTIFICATIONS.iter().filter(|name| !is_wanted(name)).collect();
        let params = json!({
            "clientInfo": { "name": "reachback", "title": "Reachback", "version": env!("CARGO_PKG_VERSION") },
            "capabilities": { "experimentalApi": true, "optOutNotificationMethods": unwanted },
        });
        self.ask(Asked::Initialize, "initialize", params);
    }

    /// Whether nothing is open any more about what was loaded before.
    fn has_looked(&self) -> bool {
        let is_look = |asked: &Asked| matches!(asked, Asked::Loaded | Asked::Read { .. } | Asked::Resume { .. });
        let later = self.later.iter().map(|(_, open)| open);
        !self.asked.values().chain(later).any(|open| is_look(&open.asked))
    }

    fn ask(&mut self, asked: Asked, method: &'static str, params: Value) {
        self.put(Open { asked, method, params, retries: Retries::default() });
    }

    fn put(&mut self, open: Open) {
        self.last += 1;
        self.out.push(json!({ "id": self.last, "method": open.method, "params": open.params }));
        self.asked.insert(self.last, open);
    }

    /// Codex had too much to do for it.
    fn put_off(&mut self, mut open: Open, now: Instant) {
        match open.retries.pause(&SystemRandom::new()) {
            Some(pause) => self.later.push((now + pause, open)),
            None => self.answered(open.asked, None, now),
        }
    }

    fn hear(&mut self, text: &str, now: Instant) {
        let Ok(Heard { id, method, params, result }) = serde_json::from_str(text) else { return };
        match (method.as_deref(), id) {
            (Some(name), None) => self.notified(name, params, now),
            (None, Some(id)) => match id.get().parse().ok().and_then(|id| self.asked.remove(&id)) {
                Some(open) if result.is_none() && says_overloaded(text.as_bytes()) => self.put_off(open, now),
                Some(open) => self.answered(open.asked, result, now),
                None => {}
            },
            // What Codex asks is for those who can answer.
            (Some(name), Some(id)) => {
                let late = self.requests.asked(id, name, params, now_ms());
                self.attention.asked(self.requests.list(), now_ms());
                if let Some(thread) = late
                    && let Some(Known { cwd, .. }) = self.known.get(&thread)
                {
                    // Codex shows what is pending here alone (measured on 0.169.0), and only where all of a turn is asked for.
                    let page = json!({ "limit": 1, "sortDirection": "desc", "itemsView": "full" });
                    let mut params = self.resuming(&thread, cwd);
                    params.insert("initialTurnsPage".to_owned(), page);
                    self.ask(Asked::Changes { thread }, "thread/resume", params.into());
                }
            }
            (None, None) => {}
        }
    }

    fn resuming(&self, thread: &str, cwd: &str) -> Map<String, Value> {
        let opening = Opening::watching(cwd, self.profiles);
        let mut params = opening.params(Map::new(), self.folders);
        params.insert("threadId".to_owned(), json!(thread));
        params.insert("excludeTurns".to_owned(), json!(true));
        params
    }

    fn notified(&mut self, name: &str, params: Option<&RawValue>, now: Instant) {
        self.attention.notified(name, params, now_ms());
        match name {
            "account/updated" => self.ask(Asked::Account, "account/read", json!({})),
            CHATGPT_CHANGED => self.chatgpt_remote(params),
            "thread/started" => {
                let Some(Started { thread }) = read(params) else { return };
                self.look_at(thread.id, true);
            }
            "thread/status/changed" => {
                let Some(Changed { thread_id, status }) = read(params) else { return };
                if status.r#type == "notLoaded" {
                    self.forget(&thread_id);
                    return;
                }
                let is_active = status.r#type == "active";
                if !is_active {
                    self.requests.idle(&thread_id);
                }
                match self.known.get_mut(&thread_id) {
                    Some(known) => {
                        known.is_active = is_active;
                        known.since = now;
                        if is_active && known.follows == Follows::No {
                            self.look_at(thread_id, false);
                        }
                    }
                    // Somebody loaded it.
                    None => self.look_at(thread_id, true),
                }
            }
            "thread/closed" => {
                if let Some(Closed { thread_id }) = read(params) {
                    self.forget(&thread_id);
                }
            }
            "serverRequest/resolved" => {
                self.requests.notified(name, params);
                self.attention.asked(self.requests.list(), now_ms());
            }
            _ => self.requests.notified(name, params),
        }
    }

    fn answered(&mut self, asked: Asked, result: Option<&RawValue>, now: Instant) {
        match asked {
            Asked::Initialize => {
                self.about.troubles.introduced(result);
                self.is_known = true;
                self.out.push(json!({ "method": "initialized" }));
                self.ask(Asked::Account, "account/read", json!({}));
                if self.about.chatgpt_remote.is_some() {
                    self.ask(Asked::ChatgptRemote, "remoteControl/status/read", Value::Null);
                }
                self.read_config();
                self.ask(Asked::Loaded, "thread/loaded/list", json!({ "limit": PAGE }));
            }
            Asked::Account => self.about.account.answered(result),
            Asked::ChatgptRemote => self.chatgpt_remote(result),
            Asked::Config => {
                if let Some(result) = result {
                    self.about.providers.learn(result.get());
                }
                self.ask(Asked::Models { pages: 1 }, "model/list", json!({ "includeHidden": true }));
            }
            Asked::Models { pages } => {
                let next = result.and_then(|result| self.about.providers.learn_models(result.get()));
                if let Some(cursor) = next.filter(|_| pages < MOST_PAGES) {
                    let params = json!({ "includeHidden": true, "cursor": cursor });
                    self.ask(Asked::Models { pages: pages + 1 }, "model/list", params);
                }
            }
            Asked::Loaded => {
                for thread in read(result).map(|Loaded { data }| data).unwrap_or_default() {
                    self.look_at(thread, false);
                }
            }
            Asked::Read { thread, is_fresh } => {
                if let Some(result) = result {
                    self.attention.recorded(result, now_ms());
                }
                let Some(recorded) = result.and_then(|result| threads::recorded(result.get())) else { return };
                if !recorded.is_loaded || self.known.len() >= MAX_KNOWN {
                    return;
                }
                let (cwd, is_active) = (recorded.cwd.clone(), recorded.is_active);
                let known = Known { cwd, is_active, since: now, follows: Follows::No };
                self.known.entry(thread.clone()).or_insert(known);
                if is_fresh || recorded.is_active {
                    self.resume(thread, &recorded.cwd, 0);
                }
            }
            Asked::Resume { thread, refused } => {
                let Some(known) = self.known.get_mut(&thread) else { return };
                if let Some(result) = result {
                    self.requests.resumed(&thread, result);
                    known.follows = Follows::Yes;
                    self.kept.insert(thread);
                    self.let_go(now);
                } else if known.follows == Follows::No && known.is_active && refused < MOST_TRIES {
                    // One without a turn is brought here again by its first.
                    known.follows = Follows::Soon { at: now + wait(refused), refused: refused + 1 };
                }
            }
            Asked::Changes { thread } => {
                if let Some(result) = result {
                    self.requests.resumed(&thread, result);
                }
            }
            Asked::Unsubscribe => {}
        }
    }

    fn chatgpt_remote(&self, said: Option<&RawValue>) {
        if let Some(known) = self.about.chatgpt_remote {
            known.said(said);
        }
    }

    fn read_config(&mut self) {
        self.ask(Asked::Config, "config/read", json!({ "includeLayers": false }));
    }

    fn look_at(&mut self, thread: String, is_fresh: bool) {
        let params = json!({ "threadId": thread, "includeTurns": false });
        self.ask(Asked::Read { thread, is_fresh }, "thread/read", params);
    }

    fn resume(&mut self, thread: String, cwd: &str, refused: u32) {
        let params = self.resuming(&thread, cwd);
        self.ask(Asked::Resume { thread, refused }, "thread/resume", params.into());
    }

    /// When there is something to try again.
    fn due(&self) -> Option<Instant> {
        let due = self.known.values().filter_map(|known| match known.follows {
            Follows::Soon { at, .. } => Some(at),
            _ => None,
        });
        due.chain(self.later.iter().map(|(at, _)| *at)).min()
    }

    /// Asks again what Codex had too much to do for, and follows what could not be followed yet.
    fn try_again(&mut self, now: Instant) {
        for (_, open) in self.later.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>() {
            self.put(open);
        }
        let mut due = Vec::new();
        for (thread, known) in &mut self.known {
            if let Follows::Soon { at, refused } = known.follows
                && at <= now
            {
                known.follows = Follows::No;
                due.push((thread.clone(), known.cwd.clone(), refused));
            }
        }
        for (thread, cwd, refused) in due {
            self.resume(thread, &cwd, refused);
        }
    }

    fn forget(&mut self, thread: &str) {
        self.known.remove(thread);
        self.kept.remove(thread);
        self.requests.forget(thread);
    }

    /// Lets go of what has been idle for long, and of what is too much.
    fn let_go(&mut self, now: Instant) {
        let mut idle: Vec<_> =
            self.known.iter_mut().filter(|(_, known)| !known.is_active && known.follows == Follows::Yes).collect();
        idle.sort_by_key(|(_, known)| std::cmp::Reverse(known.since));
        for (place, (thread, known)) in idle.into_iter().enumerate() {
            if place >= MAX_IDLE || now.duration_since(known.since) >= MAX_IDLE_TIME {
                known.follows = Follows::Until(now + NOTICE);
                self.kept.remove(thread);
            }
        }
        let mut gone = Vec::new();
        for (thread, known) in &mut self.known {
            match known.follows {
                // Somebody uses it again.
                Follows::Until(_) if known.is_active => {
                    known.follows = Follows::Yes;
                    self.kept.insert(thread.clone());
                }
                Follows::Until(when) if when <= now => {
                    known.follows = Follows::No;
                    gone.push(thread.clone());
                }
                _ => {}
            }
        }
        for thread in gone {
            let params = json!({ "threadId": thread });
            self.ask(Asked::Unsubscribe, "thread/unsubscribe", params);
        }
    }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;

    use super::*;
    use crate::agent::{attention, requests};
    use crate::codex::Instance;
    use crate::firewall::folders::NoFolders;

    /// A keeper whose Codex a test plays: what it asks is answered as the real one does (measured on 0.169.0).
    struct Play<'a> {
        keeper: Keeper<'a>,
        now: Instant,
        /// Whether threads can't be followed yet.
        refuses: bool,
    }

    /// A method, and the thread that it was about.
    type Seen = (String, String);

    impl Play<'_> {
        fn hear(&mut self, message: &Value) {
            self.keeper.hear(&message.to_string(), self.now);
        }

        fn asked(&mut self) -> Vec<Value> {
            std::mem::take(&mut self.keeper.out)
        }

        /// Answers until nothing more is asked.
        fn settle(&mut self, status: &str) -> Vec<Seen> {
            let mut seen = Vec::new();
            loop {
                let asked = self.asked();
                if asked.is_empty() {
                    return seen;
                }
                for request in asked {
                    let method = request["method"].as_str().unwrap().to_owned();
                    let result = match &*method {
                        "thread/read" => json!({ "thread": { "cwd": "/w", "status": { "type": status } } }),
                        "thread/loaded/list" => json!({ "data": ["before"] }),
                        _ => json!({}),
                    };
                    seen.push((method.clone(), request["params"]["threadId"].as_str().unwrap_or_default().to_owned()));
                    if let Some(id) = request.get("id") {
                        let is_refused = self.refuses && method == "thread/resume";
                        let (kind, outcome) =
                            if is_refused { ("error", json!({ "code": -32601 })) } else { ("result", result) };
                        self.hear(&json!({ "id": id, kind: outcome }));
                    }
                }
            }
        }

        fn status(&mut self, thread: &str, status: &str) -> Vec<Seen> {
            let params = json!({ "threadId": thread, "status": { "type": status } });
            self.hear(&json!({ "method": "thread/status/changed", "params": params }));
            self.settle(status)
        }

        fn started(&mut self, thread: &str) -> Vec<Seen> {
            self.hear(&json!({ "method": "thread/started", "params": { "thread": { "id": thread } } }));
            self.settle("idle")
        }
    }

    fn play(test: impl FnOnce(Play<'_>, &Kept)) {
        let (account, providers, remote) =
            (CodexAccount::default(), Providers::default(), CodexChatgptRemote::default());
        let troubles = Troubles::default();
        let about =
            About { account: &account, providers: &providers, chatgpt_remote: Some(&remote), troubles: &troubles };
        let (kept, profiles) = (Kept::default(), Profiles::new(&SystemRandom::new(), Vec::new(), None).unwrap());
        let requests = Requests::new("local", requests::changes());
        let attention = Attention::new("local", attention::changes());
        let _answers = requests.connected(Instance::random(&SystemRandom::new()).unwrap());
        let mut keeper = Keeper::new(&kept, about, &requests, &attention, &NoFolders, &profiles);
        keeper.initialize();
        test(Play { keeper, now: Instant::now(), refuses: false }, &kept);
    }

    fn asks(method: &str, thread: &str) -> Seen {
        (method.to_owned(), thread.to_owned())
    }

    #[test]
    fn what_is_opened_is_followed_and_what_was_idle_before_is_not() {
        play(|mut play, kept| {
            let seen = play.settle("idle");
            assert!(seen.contains(&asks("thread/read", "before")), "{seen:?}");
            assert!(!seen.contains(&asks("thread/resume", "before")), "{seen:?}");
            assert!(play.started("new").contains(&asks("thread/resume", "new")));
            assert!(play.status("loaded", "idle").contains(&asks("thread/resume", "loaded")));
            assert!(kept.holds("new") && kept.holds("loaded") && !kept.holds("before"));
            // The end of a turn is no sign that somebody is there; a turn is.
            assert!(play.status("before", "idle").is_empty());
            assert!(play.status("before", "active").contains(&asks("thread/resume", "before")));
            assert!(kept.holds("before"));
            play.hear(&json!({ "method": "thread/closed", "params": { "threadId": "new" } }));
            assert!(play.status("loaded", "notLoaded").is_empty());
            assert!(!kept.holds("new") && !kept.holds("loaded"));
        });
    }

    #[test]
    fn a_first_turn_is_followed_once_codex_has_recorded_its_prompt_and_not_tried_for_ever() {
        play(|mut play, kept| {
            play.settle("idle");
            play.refuses = true;
            assert!(play.started("new").contains(&asks("thread/resume", "new")));
            assert_eq!(play.keeper.due(), None, "nothing is tried before there is a turn");
            let begin = play.now;
            assert!(play.status("new", "active").contains(&asks("thread/resume", "new")));
            let mut tries = 0;
            while let Some(due) = play.keeper.due() {
                play.keeper.try_again(due - Duration::from_millis(1));
                assert!(play.asked().is_empty(), "it is tried too early");
                play.now = due;
                play.keeper.try_again(due);
                assert_eq!(play.settle("active"), [asks("thread/resume", "new")]);
                tries += 1;
            }
            let took = play.now.duration_since(begin);
            assert_eq!(tries, MOST_TRIES);
            assert!(took > Duration::from_secs(5) && took < Duration::from_secs(15), "{took:?}");
            assert!(!kept.holds("new"));

            // The next turn is another chance; that it ends meanwhile is no reason to leave the thread alone.
            play.status("new", "idle");
            assert!(play.status("new", "active").contains(&asks("thread/resume", "new")));
            assert!(play.status("new", "idle").is_empty());
            play.refuses = false;
            play.keeper.try_again(play.keeper.due().unwrap());
            assert_eq!(play.settle("idle"), [asks("thread/resume", "new")]);
            assert!(kept.holds("new"));
            assert_eq!(play.keeper.due(), None);
        });
    }

    #[test]
    fn what_codex_has_too_much_to_do_for_is_asked_again_later_and_not_for_ever() {
        let busy = |request: &Value| json!({ "id": request["id"], "error": { "code": -32001, "message": "Server overloaded; retry later." } });
        play(|mut play, kept| {
            play.settle("idle");
            play.hear(&json!({ "method": "thread/started", "params": { "thread": { "id": "new" } } }));
            // It is refused once, and answered then, as if nothing had been.
            let refused = play.asked().remove(0);
            play.hear(&busy(&refused));
            assert!(play.asked().is_empty() && !play.keeper.has_looked());
            let due = play.keeper.due().unwrap();
            assert!(due > play.now, "it is asked again at once");
            play.keeper.try_again(due);
            assert_eq!(play.settle("idle"), [asks("thread/read", "new"), asks("thread/resume", "new")]);
            assert!(kept.holds("new") && play.keeper.has_looked());
            assert_eq!(play.keeper.due(), None);

            // One that stays refused is given up, and then it is as if Codex had said no.
            play.hear(&json!({ "method": "thread/started", "params": { "thread": { "id": "other" } } }));
            let mut tries = 0;
            let mut asked = play.asked();
            while let [request] = &asked[..] {
                assert_eq!(request["method"], "thread/read");
                play.hear(&busy(request));
                tries += 1;
                let Some(due) = play.keeper.due() else { break };
                play.now = due;
                play.keeper.try_again(due);
                asked = play.asked();
            }
            assert!((2..20).contains(&tries), "{tries} tries");
            assert!(!kept.holds("other") && play.keeper.has_looked());
        });
    }

    #[test]
    fn it_follows_as_one_who_only_reads() {
        play(|mut play, _| {
            play.settle("idle");
            play.hear(&json!({ "method": "thread/started", "params": { "thread": { "id": "new" } } }));
            let read = play.asked().remove(0);
            let result = json!({ "thread": { "cwd": "/w", "status": { "type": "idle" } } });
            play.hear(&json!({ "id": read["id"], "result": result }));
            let resume = play.asked().remove(0);
            assert_eq!(resume["params"]["permissions"], json!(play.keeper.profiles.reading().id));
            assert_eq!(resume["params"]["config"]["projects"]["/w"], json!({ "trust_level": "untrusted" }));
        });
    }

    #[test]
    fn what_is_to_be_changed_is_looked_up_when_its_item_came_before_the_agent_followed() {
        play(|mut play, _| {
            play.started("t");
            let params = json!({ "threadId": "t", "turnId": "u", "itemId": "i", "startedAtMs": 5 });
            play.hear(&json!({ "id": 0, "method": "item/fileChange/requestApproval", "params": params }));
            let asked = play.keeper.requests.list();
            assert_eq!(asked[0].choices.iter().map(|choice| choice.name()).collect::<Vec<_>>(), ["decline", "cancel"]);
            let resume = play.asked().remove(0);
            assert_eq!(resume["params"]["initialTurnsPage"]["itemsView"], "full", "{resume}");
            let change = json!({ "path": "/w/a", "kind": { "type": "add" }, "diff": "x" });
            let item = json!({ "type": "fileChange", "id": "i", "changes": [change] });
            let page = json!({ "data": [{ "items": [{ "type": "userMessage", "id": "m" }, item] }] });
            let sandbox = json!({ "type": "readOnly" });
            play.hear(&json!({ "id": resume["id"], "result": { "sandbox": sandbox, "initialTurnsPage": page } }));
            let known = play.keeper.requests.list();
            assert_ne!(known[0].digest, asked[0].digest);
            assert_eq!(known[0].choices.len(), 3);
            assert!(known[0].reach.is_some());
            play.status("t", "notLoaded");
            assert!(play.keeper.requests.list().is_empty());
        });
    }

    #[test]
    fn idle_threads_are_let_go_when_they_are_many_or_old_and_not_before_it_was_said() {
        play(|mut play, kept| {
            play.settle("idle");
            for number in 0..=MAX_IDLE {
                play.now += Duration::from_secs(1);
                play.started(&format!("t{number}"));
            }
            assert!(!kept.holds("t0") && (1..=MAX_IDLE).all(|number| kept.holds(&format!("t{number}"))));
            play.keeper.let_go(play.now);
            assert!(play.asked().is_empty(), "somebody may have been told that it is kept");
            play.now += NOTICE;
            play.keeper.let_go(play.now);
            assert_eq!(play.settle("idle"), [asks("thread/unsubscribe", "t0")]);

            play.status("t1", "active");
            play.now += MAX_IDLE_TIME;
            play.keeper.let_go(play.now);
            assert!(kept.holds("t1") && !kept.holds("t2"), "only what is idle is let go");
            // A turn in time keeps it.
            play.status("t2", "active");
            play.now += NOTICE;
            play.keeper.let_go(play.now);
            assert!(kept.holds("t2"));
            assert!(!play.settle("idle").contains(&asks("thread/unsubscribe", "t2")));
        });
    }
}
