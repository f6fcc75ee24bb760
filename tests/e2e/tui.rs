//! The stock Codex terminal UI on a host, through the relay: real keys, a real screen, and a link that breaks.

use std::time::Duration;

use e2e::codex;
use e2e::cutter::Cutter;
use e2e::eventually;
use e2e::process::{Home, Up, free_port};
use e2e::tmux::Terminal;
use tokio::time::{Instant, sleep_until};

/// What the terminal UI shows when it has lost its server.
const RECONNECTING: &str = "Reconnecting";

/// `reachback connect` in a terminal, at its prompt. `args` go to Codex.
async fn connect(device: &Home, args: &[&str]) -> Terminal {
    let codex = codex::program();
    let mut line = vec!["connect", "--codex-program", codex.to_str().unwrap()];
    if !args.is_empty() {
        line.push("--");
        line.extend(args);
    }
    let terminal = device.terminal(&line);
    terminal.shows("Scripted demo").await;
    terminal
}

/// The answer to `@text N=count`, as [`on_one_line`] has it.
fn numbers(count: usize) -> String {
    (0..count).map(|n| format!("{:x>3}", n)).collect()
}

/// A screen without the spaces and line ends that the terminal UI puts in where it wraps.
fn on_one_line(screen: &str) -> String {
    screen.split_whitespace().collect()
}

/// An `up` whose devices come through a cutter.
async fn up_behind_a_cutter() -> (Up, Cutter) {
    let addr = free_port();
    let cutter = Cutter::start(addr).await;
    let public = format!("http://{}", cutter.addr());
    let up = Up::start_at(addr, &["--public-url", &public]).await;
    assert_eq!(up.ready["relay_url"], public);
    (up, cutter)
}

#[tokio::test]
async fn keys_do_a_turn_an_approval_and_an_interrupt() {
    let mut up = Up::start().await;
    let device = up.device("laptop").await;
    let terminal = connect(&device, &[]).await;

    terminal.prompt("hello", "Enter").await;
    terminal.shows("With a real model you would now simply say what you want done.").await;

    let file = up.home.project().join("made-by-codex");
    terminal.prompt("run touch made-by-codex", "Enter").await;
    terminal.shows("Would you like to run the following command?").await;
    assert!(!file.exists(), "it ran before it was approved");
    terminal.press(&["y"]);
    terminal.shows("Done. The tool said:").await;
    // The answer may come while the command still runs.
    eventually("the approved command makes its file", || file.exists()).await;

    terminal.prompt("long", "Enter").await;
    terminal.shows("I count until you interrupt me: 2, 3, 4,").await;
    terminal.press(&["Escape"]);
    terminal.shows("Conversation interrupted").await;

    terminal.prompt("/quit", "Enter").await;
    assert_eq!(terminal.exit().await, 0, "the exit code of reachback connect");
    up.stop().await;
}

#[tokio::test]
async fn a_thread_is_resumed_from_another_device() {
    let mut up = Up::start().await;
    let (laptop, desktop) = (up.device("laptop").await, up.device("desktop").await);
    let first = connect(&laptop, &[]).await;
    first.prompt("@text N=12 size=7", "Enter").await;
    first.shows("xxxx11").await;

    let last = connect(&desktop, &["resume", "--last"]).await;
    last.shows("@text N=12 size=7").await;
    last.shows("xxxx11").await;

    // Both are in the thread now: what one types, the other sees.
    last.prompt("@text N=12 size=8", "Enter").await;
    last.shows("xxxxx11").await;
    first.shows("@text N=12 size=8").await;
    first.shows("xxxxx11").await;

    let picked = connect(&desktop, &[]).await;
    picked.prompt("/resume", "Enter").await;
    picked.shows("@text N=12 size=7").await;
    picked.press(&["Enter"]);
    picked.shows("xxxxx11").await;
    up.stop().await;
}

#[tokio::test]
async fn a_folder_that_codex_does_not_know_opens_without_a_question_and_nothing_is_written() {
    let mut up = Up::start().await;
    let config = up.home.path().join("demo/codex-home/config.toml");
    let before = std::fs::read_to_string(&config).unwrap();
    let device = up.device("laptop").await;
    let folder = up.home.folder("elsewhere");
    let codex = codex::program();
    let terminal =
        device.terminal(&["connect", "--codex-program", codex.to_str().unwrap(), "-C", folder.to_str().unwrap()]);
    terminal.shows("Scripted demo default").await;
    terminal.prompt("@text N=3 size=9", "Enter").await;
    terminal.shows("xxxxxxx2").await;
    let screen = terminal.everything();
    assert!(screen.contains("elsewhere"), "it works in another folder:\n{screen}");
    assert!(!screen.contains("Trust"), "a device is asked whether to trust a folder of the host:\n{screen}");
    assert_eq!(std::fs::read_to_string(&config).unwrap(), before, "the owner's configuration was written");
    up.stop().await;
}

#[tokio::test]
async fn a_device_that_may_view_joins_what_is_open_and_is_told_what_needs_more() {
    let mut up = Up::start().await;
    let (laptop, phone) = (up.device("laptop").await, up.device("phone").await);
    let first = connect(&laptop, &[]).await;
    first.prompt("@text N=12 size=7", "Enter").await;
    first.shows("xxxx11").await;
    up.home.run(&["devices", "scope", "phone", "view"]).await.ok();

    let viewer = connect(&phone, &["resume", "--last"]).await;
    viewer.shows("xxxx11").await;
    first.prompt("@text N=12 size=8", "Enter").await;
    viewer.shows("xxxxx11").await;
    viewer.prompt("/fork", "Enter").await;
    viewer.shows("this needs scope `steer`").await;
    viewer.prompt("/status", "Enter").await;
    viewer.shows("Profile reachback-").await;
    viewer.prompt("/quit", "Enter").await;
    assert_eq!(viewer.exit().await, 0, "the exit code of reachback connect");
    up.stop().await;
}

#[tokio::test]
async fn a_turn_goes_on_through_a_hole_of_20_s_and_nothing_is_noticed() {
    let (mut up, cutter) = up_behind_a_cutter().await;
    let device = up.device("laptop").await;
    let terminal = connect(&device, &[]).await;
    terminal.prompt("@text N=300 ms=100", "Enter").await;
    terminal.until("a third of the first line is there", |screen| on_one_line(screen).contains(&numbers(12))).await;

    let healed = Instant::now() + Duration::from_secs(20);
    cutter.hole();
    watch(&terminal, healed).await;
    cutter.heal();
    let whole = numbers(300);
    terminal
        .until("the whole text is there", |screen| {
            assert!(!screen.contains(RECONNECTING), "the cut was noticed:\n{screen}");
            on_one_line(screen).contains(&whole)
        })
        .await;
    up.stop().await;
}

#[tokio::test]
async fn a_prompt_typed_into_a_hole_of_20_s_is_delivered_once() {
    let (mut up, cutter) = up_behind_a_cutter().await;
    let device = up.device("laptop").await;
    let terminal = connect(&device, &[]).await;
    terminal.prompt("@text N=3", "Enter").await;
    terminal.shows("xx2").await;
    terminal.shows("Worked for").await;

    let healed = Instant::now() + Duration::from_secs(20);
    cutter.hole();
    terminal.prompt("@text N=9 size=9", "Enter").await;
    watch(&terminal, healed).await;
    assert!(!terminal.screen().contains("xxxxxxx8"), "the hole lets through");
    cutter.heal();
    terminal.shows("xxxxxxx8").await;
    // A second delivery would be a turn of its own, or an input to this one, and come before the answer to the next.
    terminal.prompt("@text N=4", "Enter").await;
    terminal.shows("xx3").await;
    let everything = terminal.everything();
    assert_eq!(everything.matches("\u{203a} @text N=9 size=9").count(), 1, "{everything}");
    assert_eq!(everything.matches("xxxxxxx8").count(), 1, "{everything}");
    assert!(!everything.contains(RECONNECTING), "{everything}");
    up.stop().await;
}

#[tokio::test]
async fn a_cut_of_40_s_is_shown_and_the_thread_comes_back_whole() {
    let (mut up, cutter) = up_behind_a_cutter().await;
    let device = up.device("laptop").await;
    let terminal = connect(&device, &[]).await;
    terminal.prompt("@text N=300 ms=100", "Enter").await;
    terminal.until("a third of the first line is there", |screen| on_one_line(screen).contains(&numbers(12))).await;

    let start = Instant::now();
    // Both ends know at once: how long a silent hole takes to be found out is not what is measured.
    cutter.offline();
    let patience = Duration::from_secs(40);
    terminal.within(patience, "it says that it reconnects", |screen| screen.contains(RECONNECTING)).await;
    let noticed = start.elapsed();
    assert!(noticed >= Duration::from_secs(29), "it was told after {noticed:?}, and a cut of 30 s is to go unnoticed");
    sleep_until(start + Duration::from_secs(40)).await;
    cutter.heal();
    let whole = numbers(300);
    terminal.until("the whole text is there", |screen| on_one_line(screen).contains(&whole)).await;
    terminal.prompt("@text N=5 size=9", "Enter").await;
    terminal.shows("xxxxxxx4").await;
    up.stop().await;
}

#[tokio::test]
async fn when_the_host_stops_the_terminal_ui_is_told_and_comes_back_with_it() {
    let mut up = Up::start().await;
    let device = up.device("laptop").await;
    let terminal = connect(&device, &[]).await;
    terminal.prompt("@text N=12 size=7", "Enter").await;
    terminal.shows("xxxx11").await;

    let stopped = Instant::now();
    up.process.signal("-TERM");
    assert_eq!(up.process.exit().await, Some(0), "the exit code of reachback up");
    terminal.shows(RECONNECTING).await;
    let told = stopped.elapsed();
    assert!(told < Duration::from_secs(15), "whoever types was left in the dark for {told:?}");

    up.restart().await;
    terminal.until("it is back", |screen| !screen.contains(RECONNECTING)).await;
    terminal.prompt("@text N=12 size=8", "Enter").await;
    terminal.shows("xxxxx11").await;
    assert!(terminal.screen().contains("xxxx11"), "the thread lost its past:\n{}", terminal.screen());
    up.stop().await;
}

#[tokio::test]
async fn a_revoked_device_is_told_so() {
    let mut up = Up::start().await;
    let device = up.device("laptop").await;
    let terminal = connect(&device, &[]).await;
    up.home.run(&["devices", "revoke", "laptop"]).await.ok();
    assert_eq!(terminal.exit().await, 1, "the exit code of reachback connect");
    terminal.shows("no longer lets this computer in").await;
    let screen = terminal.screen();
    let told = screen.lines().find(|line| line.contains("no longer lets")).unwrap();
    assert!(
        told.starts_with("reachback: ") && !screen.contains("Scripted demo"),
        "the screen was left untidy:\n{screen}"
    );
    up.stop().await;
}

/// Looks at the screen until `end`: at no moment may it say that anything is wrong.
async fn watch(terminal: &Terminal, end: Instant) {
    let mut looks = tokio::time::interval(Duration::from_millis(250));
    while Instant::now() < end {
        let screen = terminal.screen().to_lowercase();
        assert!(!screen.contains("reconnecting") && !screen.contains("disconnected"), "the cut was noticed:\n{screen}");
        looks.tick().await;
    }
}
