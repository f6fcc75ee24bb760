//! `reachback status`: how the agent of this host is, on one screen.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use reachback_proto::frame::LOCAL_ENVIRONMENT;
use reachback_proto::ids::DeviceId;
use reachback_proto::words::{printable, quote};

use super::lines::{Line, StatusLine};
use super::output::Output;
use super::{Home, awake, demo, devices, withheld, workspace};
use crate::agent::environments::workspaces::OpenedBy;
use crate::codex::Adapter;
use crate::codex::keys::Keys;
use crate::codex::remote_control::redirect::Redirect;
use crate::local_api::events::{ChatgptRemote, CodexState, TunnelState, TunnelTransport};
use crate::local_api::{
    AwakeStatus, Client, ClientError, CodexStatus, CodexUse, Event, Failure, Past, Request, Response, Status, Threads,
    TunnelStatus, WorkspaceStatus,
};
use crate::platform::signals::stop_wanted;
use crate::state::awake::AwakeFile;
use crate::state::host::HostState;

const EXAMPLES: &str = "Examples, on the host:\n  \
    reachback status            for you\n  \
    reachback status --watch    the same, anew each second; Ctrl-C ends that\n  \
    reachback status --withheld what Codex said and devices were not told\n  \
    reachback status --json     for a program: lines of JSON";

/// Between two looks.
const ANEW: Duration = Duration::from_secs(1);

/// Show how this host is: its agent, relay, Codex, keys, devices and workspaces.
///
/// Keys are protected when commands that Codex runs can't read them (unless you choose otherwise for a thread, at this
/// computer): what can read them, can be one of your devices. They are partly protected when that holds for what devices open, and not for other threads; unprotected when the agent can't vouch for it,
/// because you chose to have no sandbox, or because this Codex was running already and was joined.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct StatusArgs {
    /// Show it anew each second, until Ctrl-C.
    #[arg(short, long)]
    watch: bool,
    /// Show what Codex said lately and devices were not told, as it may quote files of this host.
    ///
    /// Errors of files that Codex can't read, and what MCP servers say that don't start. The last 20 are in the running
    /// agent's memory; none is written to a file.
    #[arg(long, conflicts_with = "watch")]
    withheld: bool,
    // As for `workspace`.
    #[arg(long, env = "CODEX_HOME", hide = true, value_name = "DIR")]
    codex_home: Option<PathBuf>,
}

/// All there is to show.
struct Found {
    line: StatusLine,
    tunnel: Option<TunnelStatus>,
    codex: Option<CodexStatus>,
    ssh_hosts: Vec<CodexStatus>,
    codex_use: Option<CodexUse>,
    /// The names of those that are connected.
    here: Vec<String>,
    awake: Option<AwakeStatus>,
    workspaces: Vec<WorkspaceStatus>,
    /// That an agent runs on another home, where none runs on this one.
    elsewhere: Option<String>,
}

pub(super) async fn run(home: &Home, args: StatusArgs, output: Output) -> anyhow::Result<ExitCode> {
    if args.withheld {
        return withheld::show(home, output).await;
    }
    if !args.watch {
        show(&look(home, &args).await?, output);
        return Ok(ExitCode::SUCCESS);
    }
    let showing = async {
        loop {
            match look(home, &args).await {
                Ok(found) => {
                    output.clear();
                    show(&found, output);
                }
                // It ended meanwhile: the next look finds that none runs.
                Err(error) if matches!(error.downcast_ref(), Some(ClientError::Gone)) => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep(ANEW).await;
        }
    };
    tokio::select! {
        () = stop_wanted() => Ok(ExitCode::SUCCESS),
        failed = showing => failed,
    }
}

async fn look(home: &Home, args: &StatusArgs) -> anyhow::Result<Found> {
    match running(home).await {
        Ok(found) => Ok(found),
        Err(ClientError::NotRunning { .. }) => {
            let found = without_agent(home, args.codex_home.clone())?;
            let elsewhere = demo::elsewhere(home).await;
            let elsewhere = elsewhere.map(|words| format!("No agent runs on {}; {words}", quote(home.path.display())));
            Ok(Found { elsewhere, ..found })
        }
        Err(error) => Err(error.into()),
    }
}

fn show(found: &Found, output: Output) {
    found.elsewhere.iter().for_each(|words| output.remark(words));
    output.object(&Line::Status(&found.line));
    found.tunnel.iter().for_each(|tunnel| output.event(&Event::Tunnel(tunnel.clone())));
    found.codex.iter().for_each(|codex| output.event(&Event::Codex(codex.clone())));
    found.ssh_hosts.iter().for_each(|codex| output.event(&Event::Codex(codex.clone())));
    found.codex_use.iter().for_each(|now| output.event(&Event::CodexUse(now.clone())));
    found.awake.iter().for_each(|now| output.event(&Event::Awake(now.clone())));
    found.workspaces.iter().for_each(|workspace| output.event(&Event::Workspace(workspace.clone())));
    output.say(screen(found));
}

/// What a running agent says of Codex; `None` when none runs or it does not say.
pub(super) async fn codex(home: &Home) -> Option<CodexStatus> {
    match Client::open(&home.path, &Request::Status).await.ok()?.finish().await.ok()? {
        Response::Status(status) => status.codex,
        _ => None,
    }
}

/// What these devices call themselves.
async fn names(home: &Home, ids: &[DeviceId]) -> Vec<String> {
    let listed = match Client::open(&home.path, &Request::Devices).await {
        Ok(client) => client.finish().await,
        Err(error) => Err(error),
    };
    let Ok(Response::Devices { devices, .. }) = listed else { return Vec::new() };
    devices.into_iter().filter(|device| ids.contains(&device.device_id)).map(|device| device.name).collect()
}

async fn running(home: &Home) -> Result<Found, ClientError> {
    let Response::Status(status) = Client::open(&home.path, &Request::Status).await?.finish().await? else {
        return Err(ClientError::Malformed);
    };
    let (events, _) = Client::open(&home.path, &Request::Workspaces).await?.collect().await?;
    let Status {
        version,
        pid,
        started_at,
        host_id,
        host_name,
        relay_url,
        fingerprint,
        tunnel,
        codex,
        ssh_hosts,
        codex_use,
        awake,
        ..
    } = *status;
    let line = StatusLine {
        running: true,
        home: home.path.display().to_string(),
        version: Some(version),
        pid: Some(pid),
        started_at: Some(started_at),
        host_id: Some(host_id),
        host_name: Some(host_name),
        relay_url,
        fingerprint,
        devices: status.devices,
        connected: Some(status.connected.len()),
        paused: status.paused,
        round_trip_us: status.round_trip_us,
        threads: Some(status.threads),
        last_errors: status.last_errors,
        withheld: Some(status.withheld),
    };
    let here = match status.connected.is_empty() {
        true => Vec::new(),
        false => names(home, &status.connected).await,
    };
    Ok(Found {
        line,
        tunnel: Some(tunnel),
        codex,
        ssh_hosts,
        codex_use,
        here,
        awake,
        workspaces: workspaces(events),
        elsewhere: None,
    })
}

/// What the files say, when no agent runs.
fn without_agent(home: &Home, codex_home: Option<PathBuf>) -> anyhow::Result<Found> {
    let host = HostState::load(&home.path)?;
    let pin = host.as_ref().and_then(HostState::relay);
    let (devices, paused) = match devices::listed(home)? {
        Response::Devices { paused, devices } => (devices.len(), paused),
        _ => (0, false),
    };
    let (events, _) = workspace::without_agent(home, codex_home, &Request::Workspaces)?;
    let line = StatusLine {
        running: false,
        home: home.path.display().to_string(),
        version: None,
        pid: None,
        started_at: None,
        host_id: host.as_ref().map(HostState::id),
        host_name: host.as_ref().map(|host| host.name().to_owned()),
        relay_url: pin.map(|pin| pin.url.clone()),
        fingerprint: pin.map(|pin| pin.id()),
        devices,
        connected: None,
        paused,
        round_trip_us: None,
        threads: None,
        last_errors: Vec::new(),
        withheld: None,
    };
    let codex_use = Redirect::open(&home.path, None)?.status();
    let codex_use = Some(codex_use).filter(|now| now.wanted || now.leads_here);
    let awake = Some(awake::as_kept(AwakeFile::of(&home.path).read()?)).filter(|now| now.on);
    Ok(Found {
        line,
        tunnel: None,
        codex: None,
        ssh_hosts: Vec::new(),
        codex_use,
        here: Vec::new(),
        awake,
        workspaces: workspaces(events),
        elsewhere: None,
    })
}

fn workspaces(events: Vec<Event>) -> Vec<WorkspaceStatus> {
    let workspace = |event| if let Event::Workspace(workspace) = event { Some(workspace) } else { None };
    events.into_iter().filter_map(workspace).collect()
}

/// What a person sees.
fn screen(found: &Found) -> String {
    let line = &found.line;
    let agent = match (line.pid, &line.started_at) {
        (Some(pid), Some(since)) => format!("running since {since}, process {pid}"),
        _ => "not running; start it: reachback up, or reachback host".to_owned(),
    };
    let host = match (&line.host_name, &line.host_id) {
        (Some(name), Some(id)) => format!("{name} ({})", id.short()),
        _ => "none yet: its keys are made at the first start".to_owned(),
    };
    let mut rows = vec![("Agent", agent), ("Home", printable(&line.home)), ("Host", host), ("Relay", relay(found))];
    if let Some(codex) = &found.codex {
        rows.push(("Codex", codex_words(codex)));
        rows.extend(keys(codex).map(|keys| ("Keys", keys)));
        rows.extend(codex.troubles.iter().map(|trouble| ("Trouble", sentence(trouble))));
        rows.extend(codex.chatgpt_remote.and_then(chatgpt).map(|words| ("ChatGPT", words)));
    }
    let machine = |codex: &CodexStatus| format!("{}: {}", printable(&codex.environment), codex_words(codex));
    let machines = found.ssh_hosts.iter().map(machine).collect::<Vec<_>>();
    if !machines.is_empty() {
        rows.push(("SSH", machines.join(&format!("\n{:9}", ""))));
    }
    rows.extend(found.codex_use.as_ref().map(|now| ("App", app(now, line.running))));
    rows.push(("Devices", paired(line, &found.here)));
    rows.extend(line.threads.and_then(at_work).map(|words| ("Threads", words)));
    rows.extend(found.awake.as_ref().and_then(awake::row).map(|words| ("Awake", words)));
    let folders = found.workspaces.iter().map(folder).collect::<Vec<_>>();
    let folders = match folders.is_empty() {
        true => "none is open to devices; open one: reachback workspace add DIR".to_owned(),
        false => folders.join(&format!("\n{:9}", "")),
    };
    rows.push(("Folders", folders));
    let lately = line.last_errors.iter().map(|Past { at, failure }| format!("{at}  {}", printable(&failure.message)));
    let lately = lately.collect::<Vec<_>>();
    if !lately.is_empty() {
        rows.push(("Lately", lately.join(&format!("\n{:9}", ""))));
    }
    rows.extend(line.withheld.and_then(unsaid).map(|words| ("Withheld", words)));
    rows.iter().map(|(name, words)| format!("{name:9}{words}")).collect::<Vec<_>>().join("\n")
}

/// Where to read what devices were not told. Not the texts: this screen is shown around.
fn unsaid(count: usize) -> Option<String> {
    let texts = match count {
        0 => return None,
        1 => "1 text of Codex's was".to_owned(),
        _ => format!("{count} texts of Codex's were"),
    };
    Some(format!("{texts} kept from devices, which may quote files: reachback status --withheld"))
}

fn relay(found: &Found) -> String {
    let Some(url) = &found.line.relay_url else { return "none yet".to_owned() };
    match &found.tunnel {
        None => url.clone(),
        Some(tunnel) => match (tunnel.state, &tunnel.reason) {
            (TunnelState::Connected, None) => match tunnel.transport {
                Some(TunnelTransport::Quic) => format!("{url}, connected over QUIC{}", away(found.line.round_trip_us)),
                Some(TunnelTransport::Wss) | None => format!("{url}, connected{}", away(found.line.round_trip_us)),
            },
            (TunnelState::Connected, Some(reason)) => {
                format!("{url}, connected{}, not over QUIC: {}", away(found.line.round_trip_us), printable(reason))
            }
            (_, Some(reason)) => format!("{url}, not connected: {}", printable(reason)),
            (_, None) => format!("{url}, not connected"),
        },
    }
}

fn codex_words(codex: &CodexStatus) -> String {
    let version = codex.version.as_ref().map(|version| format!("{version}, ")).unwrap_or_default();
    match (codex.state, codex.joined) {
        (CodexState::Ready, Some(true)) if codex.adapter == Adapter::RemoteControl.to_string() => {
            format!("{version}{}, came by itself: the Codex App's, or another one that was led here", codex.adapter)
        }
        (CodexState::Waiting, _) => {
            "waiting for the Codex App: open it (quit it first, if it was open already), and turn remote control on there"
                .to_owned()
        }
        (CodexState::Ready, Some(true)) if codex.adapter == Adapter::Attach.to_string() => {
            format!("{version}{}{}, somebody else's, and left alone", codex.adapter, at(codex))
        }
        (CodexState::Ready, Some(true)) => format!("{version}{}, running before and joined", codex.adapter),
        (CodexState::Ready, _) => format!("{version}{}, started by the agent", codex.adapter),
        (CodexState::Idle, _) => "not connected".to_owned(),
        (CodexState::Starting, _) => "starting".to_owned(),
        (CodexState::Failed, _) => match &codex.reason {
            Some(reason) => {
                let fix = codex.fix.as_ref().map(|fix| format!("; {}", printable(fix)));
                format!("does not answer: {}{}", printable(reason), fix.unwrap_or_default())
            }
            None => "not running; the agent says why, and tries again".to_owned(),
        },
        (CodexState::Stopped, _) => "stopped".to_owned(),
    }
}

/// Where it listens, where that was the owner's choice.
fn at(codex: &CodexStatus) -> String {
    codex.address.as_ref().map(|address| format!(" to {}", printable(address))).unwrap_or_default()
}

fn sentence(Failure { message, fix, .. }: &Failure) -> String {
    let fix = fix.as_ref().map(|fix| format!("; {}", printable(fix)));
    format!("{}{}", printable(message), fix.unwrap_or_default())
}

/// OpenAI's own remote control, for a person; nothing while it is off.
fn chatgpt(remote: ChatgptRemote) -> Option<String> {
    let how = match remote {
        ChatgptRemote::Disabled => return None,
        ChatgptRemote::Connected => "on",
        ChatgptRemote::Connecting => "on, not connected yet",
        ChatgptRemote::Errored => "on, but Codex does not get through",
    };
    Some(format!(
        "OpenAI's remote control is {how}: what was paired there works past workspaces, scopes and the audit log; \
         reachback codex chatgpt-devices, chatgpt-off"
    ))
}

/// Whether the Codex App is led here, for a person.
fn app(now: &CodexUse, is_running: bool) -> String {
    let config = now.config.as_deref().map(printable).unwrap_or_default();
    match (is_running, now.leads_here) {
        (true, true) => format!("led here by {config}"),
        (true, false) => "not led here: that takes an agent with --codex remote-control".to_owned(),
        (false, true) => format!(
            "still led here by {config}, where nobody listens: reachback codex restore puts back what was there; the next \
             start mends it too"
        ),
        (false, false) => "led here once an agent runs: reachback host --codex remote-control".to_owned(),
    }
}

/// How far the relay is: what it took to answer.
fn away(round_trip_us: Option<u64>) -> String {
    match round_trip_us {
        None => String::new(),
        Some(..1_000) => ", less than 1 ms away".to_owned(),
        Some(time) => format!(", {} ms away", (time + 500) / 1_000),
    }
}

/// What Codex does, for a person; nothing where that is nothing.
fn at_work(Threads { running, waiting }: Threads) -> Option<String> {
    let said = [(running, "running"), (waiting, "waiting for a person")];
    let said = said.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    Some(said.collect::<Vec<_>>().join(", ")).filter(|words| !words.is_empty())
}

fn paired(line: &StatusLine, here: &[String]) -> String {
    let names = here.iter().map(quote).collect::<Vec<_>>().join(", ");
    let names = if names.is_empty() { names } else { format!(" ({names})") };
    let connected = line.connected.map(|count| format!(", {count} connected{names}")).unwrap_or_default();
    let paused = if line.paused { "; all paused: `reachback devices resume` lets them in again" } else { "" };
    match line.devices {
        0 => "none paired; pair one: reachback pair".to_owned(),
        count => format!("{count} paired{connected}{paused}"),
    }
}

fn folder(workspace: &WorkspaceStatus) -> String {
    let by = match workspace.by {
        OpenedBy::Owner => "",
        OpenedBy::Codex => " (Codex's configuration)",
    };
    let not = workspace.reason.as_ref().map(|reason| format!(", not open: {}", printable(reason)));
    let machine = match workspace.environment.as_str() {
        LOCAL_ENVIRONMENT => String::new(),
        other => format!("{} ", printable(other)),
    };
    format!("{machine}{}{by}{}", printable(&workspace.path), not.unwrap_or_default())
}

/// How far the keys are kept from what Codex runs, for a person.
fn keys(codex: &CodexStatus) -> Option<String> {
    let word = match codex.keys? {
        Keys::Protected => "protected",
        Keys::Partly => "partly protected",
        Keys::Unprotected => "not protected",
    };
    Some(match &codex.keys_reason {
        None => format!("{word}: commands that Codex runs can't read them"),
        Some(reason) => format!("{word}: {reason}"),
    })
}

/// The same as a line that says whose keys.
pub(super) fn keys_line(codex: &CodexStatus) -> Option<String> {
    keys(codex).map(|keys| format!("Reachback's keys are {keys}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::timestamp::Timestamp;

    fn codex(keys: Option<Keys>, reason: Option<&str>) -> CodexStatus {
        CodexStatus {
            environment: "local".into(),
            state: if keys.is_some() { CodexState::Ready } else { CodexState::Failed },
            adapter: "app-server".into(),
            address: None,
            version: keys.map(|_| "0.169.0".into()),
            joined: keys.map(|keys| keys == Keys::Unprotected),
            keys,
            keys_reason: reason.map(str::to_owned),
            chatgpt_remote: keys.map(|_| ChatgptRemote::Disabled),
            troubles: Vec::new(),
            reason: None,
            fix: None,
        }
    }

    fn found() -> Found {
        let line = StatusLine {
            running: false,
            home: "/home/me/state".into(),
            version: None,
            pid: None,
            started_at: None,
            host_id: None,
            host_name: None,
            relay_url: None,
            fingerprint: None,
            devices: 0,
            connected: None,
            paused: false,
            round_trip_us: None,
            threads: None,
            last_errors: Vec::new(),
            withheld: None,
        };
        Found {
            line,
            tunnel: None,
            codex: None,
            ssh_hosts: Vec::new(),
            codex_use: None,
            here: Vec::new(),
            awake: None,
            workspaces: Vec::new(),
            elsewhere: None,
        }
    }

    #[test]
    fn a_home_that_was_never_used_says_how_to_begin() {
        let screen = screen(&found());
        for words in ["reachback up", "reachback workspace add DIR", "reachback pair", "Relay    none yet"] {
            assert!(screen.contains(words), "no `{words}` in\n{screen}");
        }
    }

    #[test]
    fn a_screen_names_what_is_not_as_it_should_be() {
        let workspace = |path: &str, by, reason: Option<&str>| WorkspaceStatus {
            environment: "local".into(),
            path: path.into(),
            by,
            open: reason.is_none(),
            reason: reason.map(str::to_owned),
        };
        let found = found();
        let line = StatusLine {
            pid: Some(7),
            started_at: Some(Timestamp::from_unix(0)),
            relay_url: Some("https://r.example".into()),
            devices: 2,
            connected: Some(1),
            paused: true,
            ..found.line
        };
        let tunnel = TunnelStatus { state: TunnelState::Down, transport: None, reason: Some("no network".into()) };
        let workspaces = vec![
            workspace("/srv/a", OpenedBy::Owner, None),
            workspace("/srv/a/b", OpenedBy::Codex, Some("it lies in /srv/a")),
        ];
        let failed = CodexStatus {
            environment: "ssh:devbox".into(),
            state: CodexState::Failed,
            reason: Some("“devbox” can't be reached".into()),
            fix: Some("is it on?".into()),
            ..codex(None, None)
        };
        let idle = CodexStatus { environment: "ssh:tower".into(), state: CodexState::Idle, ..codex(None, None) };
        let (ssh_hosts, codex) = (vec![failed, idle], Some(codex(Some(Keys::Unprotected), Some("it was joined"))));
        let tunnel = Some(tunnel);
        let screen = screen(&Found { line, tunnel, codex, ssh_hosts, workspaces, ..found });
        let lines: Vec<_> = screen.lines().collect();
        assert_eq!(lines[3], "Relay    https://r.example, not connected: no network");
        assert_eq!(lines[4], "Codex    0.169.0, app-server, running before and joined");
        assert_eq!(lines[5], "Keys     not protected: it was joined");
        assert_eq!(lines[6], "SSH      ssh:devbox: does not answer: “devbox” can't be reached; is it on?");
        assert_eq!(lines[7], "         ssh:tower: not connected");
        assert!(lines[8].starts_with("Devices  2 paired, 1 connected; all paused"), "{screen}");
        assert_eq!(lines[9], "Folders  /srv/a");
        assert_eq!(lines[10], "         /srv/a/b (Codex's configuration), not open: it lies in /srv/a");
    }

    #[test]
    fn a_screen_says_how_far_the_relay_is_who_is_there_what_runs_and_what_went_wrong() {
        let found = found();
        let past = |at, words: &str| Past { at: Timestamp::from_unix(at), failure: Failure::new("x", words) };
        let line = StatusLine {
            relay_url: Some("https://r.example".into()),
            devices: 2,
            connected: Some(1),
            round_trip_us: Some(23_400),
            threads: Some(Threads { running: 2, waiting: 1 }),
            last_errors: vec![past(60, "no network"), past(0, "no\u{1b}[2J codex")],
            ..found.line
        };
        let transport = Some(TunnelTransport::Quic);
        let tunnel = Some(TunnelStatus { state: TunnelState::Connected, transport, reason: None });
        let screen = screen(&Found { line, tunnel, here: vec!["Ada's “phone”".into()], ..found });
        for words in [
            "Relay    https://r.example, connected over QUIC, 23 ms away\n",
            "Devices  2 paired, 1 connected (“Ada's 'phone'”)\n",
            "Threads  2 running, 1 waiting for a person\n",
            "Lately   1970-01-01T00:01:00Z  no network\n         1970-01-01T00:00:00Z  no",
        ] {
            assert!(screen.contains(words), "no `{words}` in\n{screen}");
        }
        assert!(!screen.contains('\u{1b}'), "{screen}");
        assert_eq!(away(Some(999)), ", less than 1 ms away");
        assert_eq!(at_work(Threads::default()), None);
    }

    #[test]
    fn a_codex_that_is_attached_to_is_named_with_its_address() {
        let attached = CodexStatus {
            adapter: "attach".into(),
            address: Some("ws://127.0.0.1:4500".into()),
            ..codex(Some(Keys::Unprotected), None)
        };
        let words = "0.169.0, attach to ws://127.0.0.1:4500, somebody else's, and left alone";
        assert_eq!(codex_words(&attached), words);
    }

    #[test]
    fn an_app_that_is_led_to_nobody_is_named_with_the_way_out() {
        let now = |leads_here| CodexUse {
            wanted: true,
            config: Some("/c/config.toml".into()),
            leads_here,
            backup: None,
            notes: Vec::new(),
        };
        assert!(app(&now(true), false).contains("where nobody listens: reachback codex restore"));
        assert!(app(&now(false), false).contains("reachback host --codex remote-control"));
        assert_eq!(app(&now(true), true), "led here by /c/config.toml");
        let found = Found { codex_use: Some(now(true)), ..found() };
        assert!(screen(&found).contains("\nApp      still led here"), "{}", screen(&found));
    }

    #[test]
    fn what_is_wrong_with_a_codex_that_answers_is_named_with_what_helps() {
        let troubles = vec![Failure::new("codex_disk_full", "The disk is full").fix("make room there")];
        let codex = CodexStatus { troubles, ..codex(Some(Keys::Protected), None) };
        let screen = screen(&Found { codex: Some(codex), ..found() });
        assert!(screen.contains("\nTrouble  The disk is full; make room there\n"), "{screen}");
    }

    #[test]
    fn a_computer_that_is_to_be_kept_awake_and_is_not_is_named_with_the_reason() {
        let kept = awake::as_kept(crate::state::awake::Awake { on: true });
        let found = Found { awake: Some(kept), ..found() };
        let words = "\nAwake    not kept awake now: no agent runs; start it: reachback up";
        assert!(screen(&found).contains(words), "{}", screen(&found));
    }

    #[test]
    fn openais_own_remote_control_is_named_while_it_is_on() {
        let on = |remote| {
            let codex = CodexStatus { chatgpt_remote: Some(remote), ..codex(Some(Keys::Protected), None) };
            screen(&Found { codex: Some(codex), ..found() })
        };
        assert!(!on(ChatgptRemote::Disabled).contains("OpenAI"));
        for remote in [ChatgptRemote::Connected, ChatgptRemote::Connecting, ChatgptRemote::Errored] {
            let screen = on(remote);
            assert!(
                screen.contains("\nChatGPT  OpenAI's remote control is on") && screen.contains("chatgpt-off"),
                "{screen}"
            );
        }
    }

    #[test]
    fn nothing_is_said_about_keys_while_codex_does_not_run() {
        assert_eq!(keys_line(&codex(None, None)), None);
        let line = keys_line(&codex(Some(Keys::Protected), None)).unwrap();
        assert_eq!(line, "Reachback's keys are protected: commands that Codex runs can't read them.");
        let line = keys_line(&codex(Some(Keys::Partly), Some("why"))).unwrap();
        assert_eq!(line, "Reachback's keys are partly protected: why.");
    }
}
