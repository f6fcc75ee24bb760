//! OpenAI's own remote control beside Reachback: `reachback codex chatgpt-pair`, `chatgpt-devices` and `chatgpt-off`.
//!
//! What Codex is paired with there runs nowhere but at OpenAI. In its place stands another home of Reachback, which serves the
//! same protocol: Codex is led to it by its configuration, as the App would be. OpenAI's service and its app were not run.

use e2e::process::{Home, Process};
use serde_json::{Value, json};

use super::codex_use::{Person, codex_is};

/// A Codex that is signed in, with what stands in for OpenAI's remote control, and an agent that is not it.
struct Beside {
    person: Person,
    openai: Process,
    home: Home,
}

impl Beside {
    async fn prepare() -> Self {
        let person = Person::prepare().await;
        person.uses().await;
        let mut openai = person.up("remote-control");
        codex_is(&mut openai, "waiting").await;
        Self { person, openai, home: Home::new() }
    }

    /// Starts the agent, until it knows how the remote control is.
    async fn host(&self, remote: &str) -> Process {
        let mut host = self.person.up_at(&self.home, "app-server");
        remote_is(&mut host, remote).await;
        host
    }

    async fn status(&self) -> String {
        self.home.run(&["status"]).await.ok().out
    }
}

async fn remote_is(host: &mut Process, remote: &str) {
    host.line(&format!("a remote control that is {remote}"), |line| line["chatgpt_remote"] == remote).await;
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

#[tokio::test]
async fn openais_app_is_paired_listed_revoked_and_turned_off_beside_reachback() {
    let mut beside = Beside::prepare().await;
    let mut host = beside.host("disabled").await;
    assert!(!beside.status().await.contains("OpenAI"));

    let mut pairing = beside.home.start(&["codex", "chatgpt-pair", "--yes"]);
    let shown = pairing.event("chatgpt_pairing").await;
    codex_is(&mut beside.openai, "ready").await;
    remote_is(&mut host, "connected").await;
    let app = Home::new();
    assert_eq!(shown["url"], Value::Null, "this stand-in's link is not one of https: {shown}");
    let relay = beside.openai.event("pairing").await["url"].clone();
    let relay = text(&relay).split("/#").next().unwrap().to_ascii_lowercase();
    let mut joining = app.start(&["join", &relay, "--name", "openais-app"]);
    joining.type_line(text(&shown["code"])).await;
    let digits = text(&joining.event("digits").await["digits"]).to_owned();
    let letting_in = beside.person.home.terminal(&["pair", "--waiting"]);
    letting_in.shows("wants to pair").await;
    letting_in.type_text(&digits);
    letting_in.press(&["Enter"]);
    assert_eq!((letting_in.exit().await, joining.exit().await), (0, Some(0)));
    pairing.event("chatgpt_paired").await;
    assert_eq!(pairing.exit().await, Some(0));

    // It stays on, and the next agent says so without being asked.
    assert_eq!(host.stop().await, Some(0));
    let mut host = beside.host("connected").await;
    let notice = host.line("that it is on", |line| line["code"] == "chatgpt_remote_on").await;
    assert!(text(&notice["fix"]).contains("chatgpt-off"), "{notice}");
    let status = beside.status().await;
    assert!(status.contains("ChatGPT  OpenAI's remote control is on: "), "{status}");

    let device = beside.home.json(&["codex", "chatgpt-devices"]).await.ok().event("chatgpt_device");
    assert_eq!(device["name"], "openais-app", "{device}");
    let unknown = beside.home.run(&["codex", "chatgpt-devices", "--revoke", "nobody"]).await;
    assert!(unknown.code == 1 && unknown.err.contains("chatgpt-devices` lists them"), "{unknown:?}");
    let revoked = beside.home.run(&["codex", "chatgpt-devices", "--revoke", "openais-app"]).await.ok().out;
    assert!(revoked.contains("“openais-app”"), "{revoked}");
    let listed = beside.home.run(&["codex", "chatgpt-devices"]).await.ok().out;
    assert!(listed.contains("No device is paired"), "{listed}");

    let off = beside.home.json(&["codex", "chatgpt-off"]).await.ok().event("chatgpt_off");
    assert_eq!(off["was_on"], true, "{off}");
    remote_is(&mut host, "disabled").await;
    let again = beside.home.run(&["codex", "chatgpt-off"]).await.ok().out;
    assert!(again.contains("off already"), "{again}");
    let audit = beside.home.run(&["audit"]).await.ok().out;
    let (on, off) = (audit.find("was turned on."), audit.find("was turned off."));
    assert!(on.is_some() && on < off, "{audit}");
    let none = beside.home.run(&["codex", "chatgpt-devices"]).await;
    assert!(none.code == 1 && none.err.contains("is off"), "{none:?}");
    for mut process in [host, beside.openai] {
        assert_eq!(process.stop().await, Some(0));
    }
}

#[tokio::test]
async fn what_a_pairing_turned_on_is_off_again_when_nobody_comes_or_it_is_left() {
    let mut beside = Beside::prepare().await;
    let mut host = beside.host("disabled").await;

    let mut pairing = beside.home.start(&["codex", "chatgpt-pair", "--yes"]);
    pairing.event("chatgpt_pairing").await;
    remote_is(&mut host, "connected").await;
    pairing.kill().await;
    remote_is(&mut host, "disabled").await;

    let late = beside.home.json(&["codex", "chatgpt-pair", "--yes", "--wait", "1"]).await;
    assert_eq!((late.code, &late.event("error")["code"]), (1, &json!("chatgpt_pairing_expired")), "{late:?}");
    remote_is(&mut host, "connected").await;
    remote_is(&mut host, "disabled").await;

    // A person is asked, and just Enter is a no.
    let unasked = beside.home.run(&["codex", "chatgpt-pair"]).await;
    assert!(unasked.code == 1 && unasked.err.contains("--yes"), "{unasked:?}");
    let asked = beside.home.sized_terminal((130, 30), &["codex", "chatgpt-pair"]);
    asked.shows("Turn it on? Type yes").await;
    assert!(asked.screen().contains("reachback codex chatgpt-off"), "{}", asked.screen());
    asked.press(&["Enter"]);
    asked.shows("Nothing was changed.").await;
    assert_eq!(asked.exit().await, 1);
    // Or a yes, and Ctrl-C.
    let asked = beside.home.sized_terminal((130, 60), &["codex", "chatgpt-pair"]);
    asked.shows("Turn it on? Type yes").await;
    asked.type_text("yes");
    asked.press(&["Enter"]);
    asked.shows("where it asks for the pairing code of a computer, type").await;
    remote_is(&mut host, "connected").await;
    asked.press(&["C-c"]);
    remote_is(&mut host, "disabled").await;
    for process in [&mut host, &mut beside.openai] {
        assert_eq!(process.stop().await, Some(0));
    }
}

#[tokio::test]
async fn openais_app_takes_a_sign_in_with_chatgpt_and_a_codex_that_does_not_lead_here() {
    let mut beside = Beside::prepare().await;
    let failure = |finished: e2e::process::Finished| {
        assert_eq!(finished.code, 1, "{finished:?}");
        finished.event("error")
    };
    let pair = ["codex", "chatgpt-pair", "--yes"];
    // Where Codex's remote control leads to the agent itself.
    let led_here = failure(beside.person.home.json(&pair).await);
    assert_eq!(led_here["code"], "codex_way", "{led_here}");
    assert!(text(&led_here["fix"]).contains("--codex app-server"), "{led_here}");
    let without = failure(beside.home.json(&pair).await);
    assert!(text(&without["message"]).contains("no agent"), "{without}");

    std::fs::remove_file(beside.person.codex.home.codex_home().join("auth.json")).unwrap();
    let mut host = beside.host("disabled").await;
    let signed_out = failure(beside.home.json(&pair).await);
    assert_eq!(signed_out["code"], "codex_refuses", "{signed_out}");
    assert!(text(&signed_out["fix"]).contains("codex login"), "{signed_out}");
    let status = beside.home.json(&["status"]).await.ok().event("codex");
    assert_eq!(status["chatgpt_remote"], "disabled", "it was turned on all the same: {status}");
    assert!(beside.home.run(&["audit"]).await.ok().out.contains("turned off"), "what was begun is not taken back");
    for process in [&mut host, &mut beside.openai] {
        assert_eq!(process.stop().await, Some(0));
    }
}
