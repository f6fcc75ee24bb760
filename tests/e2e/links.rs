//! Links that break: what a device sees is what happened, in order, or it is told of a gap.

use std::time::{Duration, Instant};

use e2e::cutter::Cutter;
use e2e::dice::Dice;
use e2e::eventually;
use e2e::rpc::{Client, End};
use e2e::stage::{FAST, Stage, Tuning, client, every_piece, little_waits};
use reachback_host::backoff::BackoffConfig;
use reachback_host::connect::remote::{RemoteConfig, RemoteHost};
use reachback_proto::frame::ChannelCloseReason;
use reachback_proto::scope::Scope;
use serde_json::{Value, json};

/// What a client saw of a thread, from the moment on at which both were there.
pub(crate) fn story(client: &mut Client, thread: &str) -> Vec<Value> {
    let seen = client.take_thread(thread).into_iter();
    seen.skip_while(|message| message["method"] != "turn/started").collect()
}

pub(crate) fn first_difference(here: &[Value], there: &[Value]) -> String {
    let at = here.iter().zip(there).position(|(a, b)| a != b);
    let at = at.unwrap_or(here.len().min(there.len()));
    format!("message {at} of {} and {}: {:?} and {:?}", here.len(), there.len(), here.get(at), there.get(at))
}

#[tokio::test]
async fn fifty_cuts_a_side_and_two_killed_relays_lose_nothing() {
    let seed = Dice::seed();
    let mut stage = Stage::start().await;
    let device = stage.pair(Scope::Approve).await;
    let remote = device.connect().await;
    every_piece(&remote).await;
    let patience = Duration::from_secs(180);
    let mut far = client(&remote).await.patient(patience);
    let mut near = Client::connect(&*stage.backend).await.patient(patience);
    let thread = near.thread(&stage.codex).await;
    near.prompt(&thread, "@text N=1").await;
    near.event("turn/completed").await;
    far.resume(&thread).await;
    near.take_thread(&thread);
    far.take_thread(&thread);

    far.prompt(&thread, "@text N=5000 ms=11").await;
    let (mut dice, mut other_dice) = (Dice::new(seed), Dice::new(seed + 1));
    let kills = async {
        for pause in [13, 22] {
            tokio::time::sleep(Duration::from_secs(pause)).await;
            stage.relay.kill().await;
            stage.relay.restart().await;
        }
    };
    let completed = async {
        let (here, there) = (near.event("turn/completed"), far.event("turn/completed"));
        tokio::join!(here, there)
    };
    let ((here, there), ..) = tokio::join!(
        completed,
        kills,
        stage.device_side.trouble(&mut dice, 50, 2),
        stage.host_side.trouble(&mut other_dice, 50, 2),
    );
    assert_eq!(here, there);
    let (near, far) = (story(&mut near, &thread), story(&mut far, &thread));
    assert!(near == far, "seed {seed}: {}", first_difference(&near, &far));
    let deltas = far.iter().filter(|message| message["method"] == "item/agentMessage/delta").count();
    assert_eq!(deltas, 5000, "seed {seed}");
    stage.stop().await;
}

/// Longer nobody is left without a try while a device waits.
const NEVER_WITHOUT_A_TRY: Duration = Duration::from_secs(2);

/// The longest time from a cut to the next try, of cuts that are older than `most` at the end.
fn longest_pause(cuts: &[Instant], dials: &[Instant], most: Duration) -> Duration {
    let end = Instant::now();
    let settled = cuts.iter().filter(|cut| end - **cut > most);
    let pause = |cut: &Instant| dials.iter().find(|dial| *dial > cut).map_or(end - *cut, |dial| *dial - *cut);
    settled.map(pause).max().unwrap_or_default()
}

#[tokio::test]
async fn on_a_train_for_a_minute_the_terminal_stays_and_nobody_stops_trying() {
    let seed = Dice::seed();
    // As people have it: with delays between tries that can grow.
    let backoff = BackoffConfig::default();
    let stage = Stage::with(Tuning { backoff, ..Tuning::default() }).await;
    let device = stage.pair(Scope::Approve).await;
    let remote = RemoteHost::start(RemoteConfig { backoff, ..device.config() });
    let _waits = remote.waits();
    remote.up().await.unwrap();
    every_piece(&remote).await;
    let patience = Duration::from_secs(120);
    let mut far = client(&remote).await.patient(patience);
    let mut near = Client::connect(&*stage.backend).await.patient(patience);
    let thread = near.thread(&stage.codex).await;
    near.prompt(&thread, "@text N=1").await;
    near.event("turn/completed").await;
    far.resume(&thread).await;
    near.take_thread(&thread);
    far.take_thread(&thread);

    let (mut dice, mut other_dice) = (Dice::new(seed), Dice::new(seed + 1));
    let start = Instant::now();
    // For a minute, no link lives longer than two seconds.
    let ride = async |side: &Cutter, dice: &mut Dice| {
        let mut cuts = Vec::new();
        while start.elapsed() < Duration::from_secs(60) {
            tokio::time::sleep(dice.between(200, 2000)).await;
            cuts.push(Instant::now());
            side.reset();
        }
        cuts
    };
    let prompts = async {
        for round in 0..6 {
            far.prompt(&thread, &format!("@text N={} ms=10", 500 + round)).await;
            let (here, there) = tokio::join!(near.event("turn/completed"), far.event("turn/completed"));
            assert_eq!(here, there, "seed {seed}");
        }
    };
    let (at_device, at_host, ()) =
        tokio::join!(ride(&stage.device_side, &mut dice), ride(&stage.host_side, &mut other_dice), prompts);
    for (side, cuts, cutter) in [("device", at_device, &stage.device_side), ("host", at_host, &stage.host_side)] {
        let pause = longest_pause(&cuts, &cutter.dials(), NEVER_WITHOUT_A_TRY);
        assert!(pause < NEVER_WITHOUT_A_TRY, "seed {seed}: the {side} did not try for {pause:?} after a cut");
    }
    let (near, far) = (story(&mut near, &thread), story(&mut far, &thread));
    assert!(near == far, "seed {seed}: {}", first_difference(&near, &far));
    let ran = far.iter().filter(|message| message["method"] == "turn/started").count();
    assert_eq!(ran, 6, "seed {seed}: each prompt runs once");
    stage.stop().await;
}

#[tokio::test]
async fn a_cut_link_is_taken_up_and_another_device_goes_on_with_the_thread() {
    let stage = Stage::start().await;
    let (first, second) = (stage.pair(Scope::Approve).await, stage.pair(Scope::Approve).await);
    let (first, second) = (first.connect().await, second.connect().await);
    let (mut here, mut there) = (client(&first).await, client(&second).await);
    let thread = here.thread(&stage.codex).await;
    here.prompt(&thread, "@text N=3").await;
    here.event("turn/completed").await;

    for _ in 0..3 {
        stage.device_side.reset();
        here.echo().await;
        stage.host_side.reset();
        there.echo().await;
    }

    let resumed = there.resume(&thread).await;
    assert_eq!(resumed["thread"]["turns"][0]["status"], "completed", "{resumed}");
    there.prompt(&thread, "@text N=3").await;
    assert_eq!(here.event("turn/completed").await, there.event("turn/completed").await);
    stage.stop().await;
}

#[tokio::test]
async fn a_storm_of_cuts_leaves_nobody_waiting() {
    let mut dice = Dice::new(Dice::seed());
    let stage = Stage::start().await;
    let (first, second) = (stage.pair(Scope::Approve).await, stage.pair(Scope::Approve).await);
    let (first, second) = (first.connect().await, second.connect().await);
    let (mut here, mut there) = (client(&first).await, client(&second).await);
    // Short enough to hit links in every state between dialled and up.
    for _ in 0..100 {
        let side = if dice.roll(3) == 0 { &stage.host_side } else { &stage.device_side };
        side.reset();
        tokio::time::sleep(dice.between(1, 60)).await;
    }
    here.echo().await;
    there.echo().await;
    stage.stop().await;
}

#[tokio::test]
async fn a_host_that_lost_its_connections_is_back_soon() {
    let stage = Stage::start().await;
    let device = stage.pair(Scope::Approve).await;
    let remote = device.connect().await;
    let mut far = client(&remote).await;
    let lost = Instant::now();
    stage.host_side.lose();
    far.echo().await;
    // 10 s to notice the link, 10 s in which the relay hands out a data connection that is lost as well; the
    // control connection alone would be noticed after 45 s.
    assert!(lost.elapsed() < Duration::from_secs(30), "the host was away for {:?}", lost.elapsed());
    stage.stop().await;
}

#[tokio::test]
async fn an_idle_host_keeps_its_connections() {
    let stage = Stage::start().await;
    stage.pair(Scope::Approve).await;
    let before = Instant::now();
    // Longer than the heartbeat, after which each end may speak.
    tokio::time::sleep(Duration::from_secs(18)).await;
    let dials = stage.host_side.dials();
    // The spare that takes the place of the pairing's circuit may be late.
    let settled = before + Duration::from_secs(5);
    assert_eq!(dials.iter().filter(|at| **at > settled).count(), 0, "a host with nothing to do dials");
    stage.stop().await;
}

#[tokio::test]
async fn an_approval_asked_while_the_device_is_away_waits_and_is_answered_once() {
    let stage = Stage::start().await;
    let device = stage.pair(Scope::Approve).await;
    let remote = device.connect().await;
    let mut far = client(&remote).await;
    let mut near = Client::connect(&*stage.backend).await;
    let thread = far.thread(&stage.codex).await;
    far.prompt(&thread, "@text N=1").await;
    far.event("turn/completed").await;
    near.resume(&thread).await;

    stage.device_side.offline();
    near.prompt(&thread, "@esc echo once >> answers").await;
    near.event("item/commandExecution/requestApproval").await;
    stage.device_side.online();
    let asked = far.event("item/commandExecution/requestApproval").await;
    far.decide(&asked, "accept").await;
    far.decide(&asked, "accept").await;
    far.event("turn/completed").await;
    far.echo().await;
    assert_eq!(std::fs::read_to_string(stage.codex.home.project().join("answers")).unwrap(), "once\n");
    stage.stop().await;
}

#[tokio::test]
async fn a_restarted_agent_says_gap_and_a_new_channel_works() {
    let stage = Stage::start().await;
    let device = stage.pair(Scope::Approve).await;
    let remote = device.connect().await;
    let api = remote.api().await.unwrap();
    let mut far = client(&remote).await;
    let thread = far.thread(&stage.codex).await;
    far.prompt(&thread, "@text N=3").await;
    far.event("turn/completed").await;

    let stage = stage.restart_agent().await;
    assert_eq!(far.ended().await.1, End::Closed(ChannelCloseReason::Gap));
    assert_eq!(Client::raw(api).ended().await.1, End::Closed(ChannelCloseReason::Gap));
    let mut far = client(&remote).await;
    let resumed = far.resume(&thread).await;
    assert_eq!(resumed["thread"]["turns"][0]["status"], "completed", "{resumed}");
    let mut api = Client::raw(remote.api().await.unwrap());
    let host = api.request("host/read", json!({})).await.unwrap();
    assert_eq!(host["scope"], "approve", "{host}");
    stage.stop().await;
}

#[tokio::test]
async fn a_relay_that_restarts_is_given_its_time_and_the_session_goes_on() {
    let mut stage = Stage::start().await;
    let device = stage.pair(Scope::Approve).await;
    let remote = device.connect().await;
    let mut far = client(&remote).await;
    // The host dials no data connection any more: one that it dials by itself just now would look like a return. That one waits
    // does not say so, as the host may have dialled one for the device, and another to have one that waits.
    let since = Instant::now();
    let newest = || stage.host_side.dials().into_iter().fold(since, Instant::max);
    eventually("the host dials no more", || newest().elapsed() > 2 * FAST.max).await;
    let before = Instant::now();
    assert_eq!(stage.relay.process.stop().await, Some(0), "the relay's exit code");
    stage.relay.restart().await;
    far.echo().await;
    let took = before.elapsed();
    assert!(took < Duration::from_secs(8), "the session took {took:?} to go on");
    // What the relays of the harness ask for; its peers wait no longer than half a second.
    let asked_for = Duration::from_millis(400);
    for (name, side) in [("device", &stage.device_side), ("host", &stage.host_side)] {
        let early = side.dials().into_iter().filter(|at| *at > before && *at < before + asked_for).count();
        assert_eq!(early, 0, "the {name} came back {early} times before the relay wanted it");
    }
    stage.stop().await;
}

#[tokio::test]
async fn a_device_that_stays_away_costs_a_bounded_queue_and_then_hears_of_the_gap() {
    let queue = 256 * 1024;
    let stage = Stage::with(little_waits(queue / 2)).await;
    let device = stage.pair(Scope::Approve).await;
    let remote = device.connect().await;
    every_piece(&remote).await;
    let mut far = client(&remote).await;
    let mut near = Client::connect(&*stage.backend).await;
    let thread = far.thread(&stage.codex).await;
    far.prompt(&thread, "@text N=1").await;
    far.event("turn/completed").await;
    near.resume(&thread).await;

    stage.device_side.offline();
    near.prompt(&thread, "@text N=5000").await;
    near.event("turn/completed").await;
    assert_eq!(near.take("item/agentMessage/delta").len(), 5000, "a device that is away cost another client deltas");
    stage.device_side.online();
    let (kept, end) = far.ended().await;
    assert_eq!(end, End::Closed(ChannelCloseReason::Gap));
    let kept: usize = kept.iter().map(|message| message.to_string().len()).sum();
    assert!(kept < 2 * queue, "{kept} bytes were kept for a device that was away");

    let mut far = client(&remote).await;
    let resumed = far.resume(&thread).await;
    assert_eq!(resumed["thread"]["turns"][1]["status"], "completed", "{resumed}");
    stage.stop().await;
}

#[tokio::test]
async fn sixty_megabytes_delay_nobody_and_survive_a_cut() {
    let stage = Stage::start().await;
    let device = stage.pair(Scope::Approve).await;
    let remote = device.connect().await;
    let (mut large, mut small) = (client(&remote).await, client(&remote).await);
    // Refused by the firewall: it costs Codex nothing.
    let large = large.request("process/spawn", json!({ "padding": "x".repeat(60 << 20) }));
    tokio::pin!(large);
    let small = async {
        for round in 0..6 {
            let begin = Instant::now();
            small.echo().await;
            let took = begin.elapsed();
            assert!(took < Duration::from_secs(2), "a small request took {took:?} beside a large one");
            if round % 2 == 1 {
                stage.device_side.reset();
            }
        }
    };
    tokio::select! {
        biased;
        answer = &mut large => panic!("the large message was too quick to be in anyone's way: {answer:?}"),
        () = small => {}
    }
    let refused = large.await.unwrap_err();
    assert_eq!(refused["code"], -32010, "{refused}");
    stage.stop().await;
}
