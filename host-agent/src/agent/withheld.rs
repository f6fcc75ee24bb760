//! What the firewall kept from devices, for the owner: on the agent's terminal, for programs, and for who asks later.
//!
//! A device chooses what Codex reads, and may have it fail as often as it likes; a prompt may do the same. So what is told
//! is bounded: a text that a device was not told is told the owner once in [`AGAIN`], and [`MOST_TOLD`] of all in each
//! [`SPAN`]; of the others the number. The last [`MOST_KEPT`] stay in memory, also those that were not told, and no device
//! pushes out those of another that has fewer. Nothing of it is written to a file or a log, or goes to a device.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reachback_proto::ids::DeviceId;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::AgentEvents;
use crate::firewall::withheld::{Text, Withheld};
use crate::local_api::events::{Shown, WithheldText};
use crate::local_api::{Event, Failure};
use crate::state::timestamp::Timestamp;

/// What is the same is told again after so long. A client tries again within seconds, and each of its connections hears what
/// Codex says to all; who mends a file and looks again some time later wants to know.
const AGAIN: Duration = Duration::from_secs(60);
/// In which so many are told.
const SPAN: Duration = Duration::from_secs(60);
/// Three servers that don't start, told to three devices.
const MOST_TOLD: usize = 10;
/// Texts that are remembered: under 50 KiB.
const MOST_KEPT: usize = 20;

/// See the module's header.
#[derive(Debug, Default)]
pub(crate) struct WithheldTexts {
    state: Mutex<State>,
    changed: Notify,
}

/// A text, and when the owner was told.
#[derive(Debug)]
struct Kept {
    text: WithheldText,
    told: Option<Instant>,
}

#[derive(Debug, Default)]
struct State {
    /// The newest last.
    kept: VecDeque<Kept>,
    /// What is to be told now: never more than a few, as each counts in its span.
    due: Vec<WithheldText>,
    /// When the span began.
    since: Option<Instant>,
    /// How many were told in it.
    told: usize,
    /// How many were not.
    left_out: usize,
}

impl WithheldTexts {
    /// A device was not told this.
    pub(super) fn add(&self, device: DeviceId, environment: &str, withheld: Withheld) {
        let Withheld { method, thread, texts, more } = withheld;
        let (at, now) = (Timestamp::now(), Instant::now());
        let mut state = self.state();
        for Text { head, cut } in texts {
            let text = WithheldText {
                at,
                device_id: device,
                environment: environment.to_owned(),
                method: method.to_owned(),
                thread_id: thread.clone(),
                text: Shown(head),
                cut,
            };
            state.add(text, now);
        }
        state.left_out += more;
        drop(state);
        self.changed.notify_one();
    }

    /// The last ones, the newest first.
    pub(super) fn last(&self) -> Vec<WithheldText> {
        self.state().kept.iter().rev().map(|kept| kept.text.clone()).collect()
    }

    /// How many those are.
    pub(super) fn count(&self) -> usize {
        self.state().kept.len()
    }

    /// Tells the owner, for ever.
    pub(super) async fn tell(&self, events: AgentEvents) {
        loop {
            let (due, until) = self.state().due(Instant::now());
            due.into_iter().for_each(|event| events.send(event));
            let span_ends = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = span_ends => {}
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, text: WithheldText, now: Instant) {
        let of = |text: &WithheldText| (text.device_id, text.environment.clone(), text.text.clone(), text.cut);
        let is_same = |kept: &Kept| of(&kept.text) == of(&text);
        let before = self.kept.iter().position(is_same).and_then(|place| self.kept.remove(place));
        let told = before.and_then(|kept| kept.told).filter(|told| now - *told < AGAIN);
        let told = told.or_else(|| self.tells(&text, now).then_some(now));
        if self.kept.len() >= MOST_KEPT {
            self.make_room();
        }
        self.kept.push_back(Kept { text, told });
    }

    /// Whether this one is told. It is counted if not.
    fn tells(&mut self, text: &WithheldText, now: Instant) -> bool {
        // What was left out in a span that is over is told before another one begins.
        if self.left_out == 0 && self.since.is_none_or(|since| now - since >= SPAN) {
            (self.since, self.told) = (Some(now), 0);
        }
        if self.told >= MOST_TOLD {
            self.left_out += 1;
            return false;
        }
        self.told += 1;
        self.due.push(text.clone());
        true
    }

    /// Forgets the oldest of the device that has most: one that makes many makes room among its own.
    fn make_room(&mut self) {
        let of = |device| self.kept.iter().filter(|kept| kept.text.device_id == device).count();
        let most = self.kept.iter().map(|kept| of(kept.text.device_id)).max();
        let oldest = self.kept.iter().position(|kept| Some(of(kept.text.device_id)) == most);
        oldest.and_then(|place| self.kept.remove(place));
    }

    /// What is to be told now, and when to look again where something was left out.
    fn due(&mut self, now: Instant) -> (Vec<Event>, Option<Instant>) {
        let mut due: Vec<_> = self.due.drain(..).map(Event::Withheld).collect();
        if self.left_out == 0 {
            return (due, None);
        }
        let until = self.since.map_or(now, |since| since + SPAN);
        if now < until {
            return (due, Some(until));
        }
        due.push(Event::Notice(left_out(std::mem::take(&mut self.left_out))));
        // Else a flood of which nothing is new would have its number told each time.
        (self.since, self.told) = (Some(now), 0);
        (due, None)
    }
}

/// How many texts were not told.
fn left_out(count: usize) -> Failure {
    let texts = if count == 1 { "1 more text of Codex's was" } else { &format!("{count} more texts of Codex's were") };
    Failure::new("withheld_left_out", format!("{texts} kept from devices, and not shown here: too many at once"))
        .fix("what was kept last: reachback status --withheld")
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast;
    use tokio::time::{advance, timeout};

    use super::*;

    const PHONE: DeviceId = DeviceId([1; 16]);
    const LAPTOP: DeviceId = DeviceId([2; 16]);

    fn said(texts: &[&str]) -> Withheld {
        let texts = texts.iter().map(|text| (*text).into()).collect();
        Withheld { method: "config/read", thread: None, texts, more: 0 }
    }

    /// What is told now, in short.
    fn told(withheld: &WithheldTexts) -> Vec<String> {
        let (due, _) = withheld.state().due(Instant::now());
        let words = |event| match event {
            Event::Withheld(text) => text.text.0,
            Event::Notice(failure) => failure.message,
            other => panic!("{other:?}"),
        };
        due.into_iter().map(words).collect()
    }

    fn kept(withheld: &WithheldTexts) -> Vec<(DeviceId, String)> {
        withheld.last().into_iter().map(|text| (text.device_id, text.text.0)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_for_the_same_device_is_told_once_a_minute() {
        let withheld = WithheldTexts::default();
        withheld.add(PHONE, "local", said(&["a", "b", "a"]));
        assert_eq!(told(&withheld), ["a", "b"]);
        advance(AGAIN - Duration::from_secs(1)).await;
        withheld.add(PHONE, "local", said(&["a"]));
        assert_eq!(told(&withheld), [""; 0], "told again too soon");
        withheld.add(LAPTOP, "local", said(&["a"]));
        assert_eq!(told(&withheld), ["a"], "another device's was taken for the same");
        advance(Duration::from_secs(1)).await;
        withheld.add(PHONE, "local", said(&["a"]));
        assert_eq!(told(&withheld), ["a"], "a minute is over since it was told");
        let kept = kept(&withheld);
        assert_eq!(kept, [(PHONE, "a".into()), (LAPTOP, "a".into()), (PHONE, "b".into())]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_counted_and_its_number_told_when_the_minute_is_over() {
        let withheld = WithheldTexts::default();
        let (events, mut heard) = broadcast::channel(64);
        let flood = async {
            for n in 0..1000 {
                withheld.add(PHONE, "local", said(&[&n.to_string()]));
            }
            withheld.add(PHONE, "local", Withheld { more: 5, ..said(&["last"]) });
            for n in 0..MOST_TOLD {
                let event = heard.recv().await.unwrap();
                assert!(matches!(&event, Event::Withheld(text) if text.text.0 == n.to_string()), "{event:?}");
            }
            let began = Instant::now();
            let Event::Notice(notice) = heard.recv().await.unwrap() else { panic!("no number") };
            assert!(notice.message.starts_with("996 more texts "), "{notice:?}");
            assert!(began.elapsed() >= SPAN - Duration::from_secs(1), "after {:?}", began.elapsed());
            withheld.add(PHONE, "local", said(&["new"]));
            let event = heard.recv().await.unwrap();
            assert!(matches!(&event, Event::Withheld(text) if text.text.0 == "new"), "{event:?}");
        };
        let telling = withheld.tell(AgentEvents::from(events));
        tokio::select! {
            () = telling => panic!("it ended"),
            flooded = timeout(10 * SPAN, flood) => flooded.expect("it is told"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_that_makes_many_pushes_out_its_own() {
        let withheld = WithheldTexts::default();
        withheld.add(LAPTOP, "local", said(&["mine"]));
        for n in 0..100 {
            withheld.add(PHONE, "local", said(&[&n.to_string()]));
        }
        let kept = kept(&withheld);
        assert_eq!((kept.len(), withheld.count()), (MOST_KEPT, MOST_KEPT));
        assert_eq!(kept.first(), Some(&(PHONE, "99".into())));
        assert_eq!(kept.last(), Some(&(LAPTOP, "mine".into())));
        assert!(!format!("{withheld:?}").contains("mine"), "it would stand in a log");
    }
}
