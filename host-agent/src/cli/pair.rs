//! `reachback pair`: shows codes, asks for digits, tells who paired.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clap::Args;
use reachback_proto::ids::DeviceId;
use reachback_proto::pairing::{Origin, PairingUrl};
use reachback_proto::scope::Scope;
use reachback_proto::words::quote;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;

use super::Home;
use super::demo;
use super::output::{Output, with_fix};
use crate::local_api::{
    Answer, Client, ClientError, Confirm, DeviceInfo, Event, Failure, Reply, Request, Response, Shown,
};
use crate::platform::terminal::{forget_typed, has_typed};
use crate::qr::{Paint, Qr};

/// Waits this long for a device unless told otherwise: an hour, codes being renewed every five minutes.
const DEFAULT_WAIT: u32 = 3600;

/// Show a QR code and a typed code, and pair one device with this host.
///
/// Scan the QR code with a phone, or run `reachback join` on another computer. The
/// device then shows six digits; type them here. Another scope goes behind them, as in
/// `482913 view`. Codes work once and for five minutes, and are renewed while this runs.
#[derive(Debug, Args)]
pub(super) struct PairArgs {
    /// What the device may do: view, steer, approve or admin. Without it `approve` for the QR code or its URL,
    /// and `steer` for the typed code.
    #[arg(long)]
    scope: Option<Scope>,
    /// Let the device in without comparing digits. For programs: whoever has the code is let in.
    #[arg(long)]
    yes: bool,
    /// How long to wait for a device, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_WAIT)]
    wait: u32,
    /// Show no codes: let in the device that takes the code that Codex shows, with `--codex remote-control`.
    #[arg(long, conflicts_with_all = ["scope", "yes", "wait"])]
    waiting: bool,
}

pub(super) async fn run(home: &Home, args: PairArgs, output: Output) -> anyhow::Result<ExitCode> {
    if !args.yes && (output.is_json() || !std::io::stdin().is_terminal()) {
        let failure = Failure::new("no_terminal", "there is no terminal to type the device's digits at");
        return Err(failure
            .fix("run `reachback pair` in a terminal, or add --yes to let in whoever has the code")
            .into());
    }
    let confirm = if args.yes { Confirm::None } else { Confirm::Digits };
    let request = match args.waiting {
        true => Request::PairWaiting,
        false => Request::Pair { scope: args.scope, confirm, ttl_seconds: args.wait },
    };
    if args.waiting {
        output.say("Lets in the device that takes the code that Codex shows, by the digits that it shows then.");
    }
    let device = match drive(home, &request, Codes::Qr, |event| output.event(event), output).await {
        Err(error) if matches!(error.downcast_ref(), Some(ClientError::NotRunning { .. })) => {
            return Err(with_fix(error, demo::elsewhere(home).await));
        }
        other => other?,
    };
    output.say(format_args!("Paired: {} ({}), scope {}.", quote(&device.name), device.device_id.short(), device.scope));
    if let Some(hint) = to_approve(device.device_id, device.scope) {
        output.say(hint);
    }
    Ok(ExitCode::SUCCESS)
}

/// What is said of a device that may not approve: one that typed its code gets scope `steer`, and would wait in vain.
pub(super) fn to_approve(device: DeviceId, scope: Scope) -> Option<String> {
    let hint =
        || format!("To let it approve what Codex wants to do: reachback devices scope {} approve", device.short());
    (scope < Scope::Approve).then(hint)
}

/// Which codes help a person here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codes {
    /// The QR code, its URL and the typed code.
    Qr,
    /// No QR code: what a phone's browser would open ends in a warning page.
    NoQr,
}

/// Pairs one device through the running agent, as `request` says; `tell` hears each of its events.
pub(super) async fn drive(
    home: &Home,
    request: &Request,
    codes: Codes,
    tell: impl Fn(&Event),
    output: Output,
) -> anyhow::Result<DeviceInfo> {
    let mut client = Client::open(&home.path, request).await?;
    let mut typed = Typed::default();
    // Whether a device waits for its digits.
    let mut asked = false;
    loop {
        let reply = tokio::select! {
            reply = client.next() => reply?,
            line = typed.line(), if asked => {
                match answer(&line?) {
                    Ok(answer) => {
                        asked = false;
                        client.answer(&answer).await?;
                    }
                    Err(unknown) => output.say(unknown),
                }
                continue;
            }
        };
        match reply {
            Reply::Event(event) => {
                tell(&event);
                match event {
                    Event::Pairing { url, code, .. } => show(&url, &code, codes, output),
                    Event::PairingDigitsWanted { name, platform, scope } => {
                        // An Enter from before would refuse this device, and digits from before would be another one's.
                        typed.forget();
                        output.say(question(&name, &platform, scope));
                        asked = true;
                    }
                    Event::Error(failure) => {
                        // The device is gone that was asked about, if there was one.
                        asked = false;
                        output.say(format_args!("{}", failure.message));
                        if let Some(fix) = failure.fix {
                            output.say(format_args!("  {fix}"));
                        }
                    }
                    _ => {}
                }
            }
            Reply::Done(Response::Device(device)) => return Ok(device),
            Reply::Done(_) => return Err(Failure::new("malformed", "the agent answered something else").into()),
            Reply::Failed(failure) => return Err(failure.into()),
        }
    }
}

fn show(url: &Shown, code: &Shown, codes: Codes, output: Output) {
    if output.is_json() {
        return;
    }
    let relay = relay_of(&url.0);
    if codes == Codes::Qr
        && let Ok(qr) = Qr::new(&url.0)
    {
        let paint = if output.is_terminal() { Paint::Colour } else { Paint::Plain };
        output.draw(&format!("\n{}", qr.render(paint)));
    }
    let is_loopback = relay.parse::<Origin>().is_ok_and(|relay| relay.is_loopback());
    let place = match is_loopback {
        true => "In a browser of this computer, open the link in quotes; or in another terminal",
        false => "On the other computer",
    };
    output.say(format_args!("\n{place}:"));
    output.say(format_args!("  reachback join '{}'", url.0));
    output.say(format_args!("or without copying:"));
    output.say(format_args!("  reachback join {relay}"));
    output.say(format_args!("and type:\n  {}", code.0));
    output.say("\nWorks once, for five minutes; renewed while this runs.");
}

/// The relay that a pairing URL leads to, which is not where its page is when the web app has an origin of its own.
fn relay_of(url: &str) -> String {
    PairingUrl::parse(url).map(|url| url.relay.to_string()).unwrap_or_default()
}

/// What was typed about a device: its digits, perhaps with a scope behind them, or nothing. Else what is said of the word
/// that is no scope.
fn answer(line: &str) -> Result<Answer, String> {
    let line = line.trim();
    if line.is_empty() {
        return Ok(Answer::Decline);
    }
    let word = line.rsplit_once(char::is_whitespace).filter(|(_, word)| word.starts_with(char::is_alphabetic));
    let Some((digits, word)) = word else { return Ok(Answer::Digits { digits: Shown(line.to_owned()), scope: None }) };
    match word.to_lowercase().parse() {
        Ok(scope) => Ok(Answer::Digits { digits: Shown(digits.to_owned()), scope: Some(scope) }),
        Err(_) => Err(format!(
            "There is no scope {}. Type the digits again, with {} behind them; just Enter refuses:",
            quote(word),
            scopes_but(None)
        )),
    }
}

/// The scopes, but for this one, as they are chosen from.
fn scopes_but(one: Option<Scope>) -> String {
    let others: Vec<_> = Scope::ALL.iter().filter(|scope| Some(**scope) != one).map(Scope::to_string).collect();
    match others.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        _ => others.join(""),
    }
}

/// Lines of standard input, for questions that may end before they are answered: the line that is waited for then is the
/// next one's.
#[derive(Debug, Default)]
struct Typed {
    reader: Option<Reader>,
    /// Whether a line is being waited for.
    waits: bool,
}

#[derive(Debug)]
struct Reader {
    wanted: std::sync::mpsc::SyncSender<()>,
    lines: mpsc::Receiver<std::io::Result<String>>,
    /// Held while a line is on its way from the terminal to `lines`: it is either there or here for who forgets.
    taking: Arc<Mutex<()>>,
}

impl Reader {
    /// On a thread of its own: nothing ends a read of a terminal. It goes with the process.
    fn start() -> Self {
        let (wanted, asked) = std::sync::mpsc::sync_channel(1);
        let (read, lines) = mpsc::channel(1);
        let taking = Arc::default();
        let is_taking = Arc::clone(&taking);
        std::thread::spawn(move || {
            while asked.recv().is_ok() {
                let (line, _taking) = line_of(&is_taking);
                if read.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        Self { wanted, lines, taking }
    }
}

/// Waits for a line; a terminal's is read while nobody forgets.
fn line_of(taking: &Mutex<()>) -> (std::io::Result<String>, Option<MutexGuard<'_, ()>>) {
    let taken = loop {
        if has_typed(true).is_none() {
            break None;
        }
        let taken = lock(taking);
        // It may just have been forgotten.
        if has_typed(false) != Some(false) {
            break Some(taken);
        }
    };
    let mut line = String::new();
    (std::io::stdin().read_line(&mut line).map(|_| line), taken)
}

fn lock(taking: &Mutex<()>) -> MutexGuard<'_, ()> {
    taking.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Typed {
    /// Forgets what a person typed before they were asked. What a program wrote is its answer, whenever it did.
    fn forget(&mut self) {
        let reader = self.reader.as_mut().filter(|_| std::io::stdin().is_terminal());
        let taking = reader.as_ref().map(|reader| Arc::clone(&reader.taking));
        let _taking = taking.as_deref().map(lock);
        forget_typed();
        if let Some(reader) = reader {
            while reader.lines.try_recv().is_ok() {
                self.waits = false;
            }
        }
    }

    /// The next line; empty at the end. May be dropped and called again without losing one.
    async fn line(&mut self) -> std::io::Result<String> {
        let reader = self.reader.get_or_insert_with(Reader::start);
        if !self.waits {
            self.waits = reader.wanted.try_send(()).is_ok();
        }
        let line = reader.lines.recv().await;
        self.waits = false;
        line.unwrap_or_else(|| Ok(String::new()))
    }
}

/// The question for a device's digits. Its name and its platform are the device's own words.
fn question(name: &str, platform: &str, scope: Scope) -> String {
    let (name, platform, others) = (quote(name), quote(platform), scopes_but(Some(scope)));
    format!(
        "\n{name} ({platform}) wants to pair, with scope {scope}.\nType the six digits that it shows; for another scope \
         also {others}, behind them. Just Enter refuses:"
    )
}

/// A line of standard input; empty at its end.
pub(super) async fn read_line() -> std::io::Result<String> {
    let mut line = String::new();
    BufReader::with_capacity(1, tokio::io::stdin()).read_line(&mut line).await?;
    Ok(line)
}

#[cfg(test)]
mod tests {
    use reachback_proto::crypto::keys::Secret;
    use reachback_proto::ids::RelayId;
    use reachback_proto::pairing::PairingSecret;

    use super::*;

    #[test]
    fn a_device_that_may_not_approve_is_told_of_with_what_lets_it() {
        let device = DeviceId([7; 16]);
        for scope in [Scope::View, Scope::Steer] {
            let hint = to_approve(device, scope).unwrap();
            assert!(hint.ends_with(&format!("reachback devices scope {} approve", device.short())), "{hint}");
        }
        assert_eq!((to_approve(device, Scope::Approve), to_approve(device, Scope::Admin)), (None, None));
    }

    #[test]
    fn the_address_to_join_is_the_relay_s_where_the_web_app_is_elsewhere() {
        let secret = PairingSecret::new(Secret::new([7; 32]));
        let relay: Origin = "https://relay.example:8443".parse().unwrap();
        for web in [None, Some("https://app.example".parse().unwrap())] {
            let url = PairingUrl::new(relay.clone(), web, secret.clone(), RelayId([1; 32])).unwrap();
            assert_eq!(relay_of(&url.expose()), "https://relay.example:8443");
        }
    }

    #[test]
    fn digits_are_an_answer_and_just_enter_refuses() {
        let digits = |typed: &str, scope| Ok(Answer::Digits { digits: Shown(typed.into()), scope });
        assert_eq!(
            (answer("12 34-56\r\n"), answer(" \n"), answer("")),
            (digits("12 34-56", None), Ok(Answer::Decline), Ok(Answer::Decline))
        );
        assert_eq!(answer("123 456  View \n"), digits("123 456 ", Some(Scope::View)));
        assert_eq!(answer("approve"), digits("approve", None), "these are not six: it is asked again");
        let unknown = answer("123456 everyth\u{1b}ing").unwrap_err();
        assert!(unknown.starts_with("There is no scope “everyth?ing”."), "{unknown}");
        assert!(unknown.contains("with view, steer, approve or admin behind them"), "{unknown}");
    }

    #[test]
    fn a_device_can_not_forge_the_question_by_its_name() {
        let name = "laptop` (linux) wants to pair. Type the digits 123456”:";
        let asked = question(name, "mac`”\n\u{202e}", Scope::Steer);
        assert_eq!(
            asked,
            "\n“laptop' (linux) wants to pair. Type the digits 123456':” (“mac''??”) wants to pair, with scope \
             steer.\nType the six digits that it shows; for another scope also view, approve or admin, behind them. Just Enter \
             refuses:"
        );
    }
}
