//! What every adapter does alike: a table of cases against [`CodexBackend`], run over each with the real Codex.
//!
//! Another adapter is one more line in [`Adapter`] and one below `adapters`. What an adapter can't do stands with the
//! case, which then shows the opposite. `docs/adapters.md` holds the same table, written by `cargo xtask gen`.

mod asking;
mod cases;
mod guards;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use e2e::codex::{TestCodex, ready};
use e2e::foreign::{Foreign, secret_file};
use e2e::process::{free_port, parent, started};
use e2e::rpc::Client;
use e2e::stage::{Stage, Tuning};
use reachback_host::codex::app_server::AppServer;
use reachback_host::codex::attach::{Attach, AttachConfig, Credential};
use reachback_host::codex::permissions::Profiles;
use reachback_host::codex::remote_control::{RemoteControl, RemoteControlConfig};
use reachback_host::codex::{CodexBackend, CodexConfig, CodexState, Instance, Silence};
use tempfile::TempDir;

/// A way to Codex, as a person knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Adapter {
    /// An app-server that the agent started.
    Started,
    /// An app-server that was there before.
    Joined,
    /// A `codex remote-control` that the agent started.
    RemoteControl,
    /// An app-server at a port of loopback, with a token, that the agent was told of.
    AttachPort,
    /// The same at a unix socket.
    AttachSocket,
}

impl Adapter {
    const ALL: [Self; 5] = [Self::Started, Self::Joined, Self::RemoteControl, Self::AttachPort, Self::AttachSocket];

    /// The head of its column.
    fn title(self) -> &'static str {
        match self {
            Self::Started => "`app-server`, started",
            Self::Joined => "`app-server`, joined",
            Self::RemoteControl => "`remote-control`",
            Self::AttachPort => "`attach`, `ws://`",
            Self::AttachSocket => "`attach`, `unix://`",
        }
    }
}

/// A row of the table.
struct Case {
    name: &'static str,
    /// What it shows, for the page.
    shows: &'static str,
    /// What of Codex's settings it needs, at most one text.
    settings: &'static [&'static str],
    /// Which adapters can't, and why.
    except: &'static [(Adapter, &'static str)],
}

/// A Codex, and a backend to it.
pub(super) struct Place {
    adapter: Adapter,
    case: &'static Case,
    codex: TestCodex,
    /// A folder that the agent's settings close.
    closed: PathBuf,
    backend: Arc<dyn CodexBackend>,
    /// Who started the server, if not the agent.
    owner: Option<Owner>,
    profiles: Arc<Profiles>,
    /// The agent's home.
    agent: TempDir,
}

/// Who started a server that is not the agent's, and starts it again.
enum Owner {
    /// Another agent.
    Agent(AppServer),
    /// A person.
    Person(Foreign),
}

impl Owner {
    async fn stop(self) {
        match self {
            Self::Agent(owner) => owner.stop().await,
            Self::Person(server) => server.stop().await,
        }
    }
}

/// The same with an agent before it.
struct Guarded {
    stage: Stage,
    owner: Option<Owner>,
}

impl Guarded {
    async fn stop(self) {
        self.stage.stop().await;
        if let Some(owner) = self.owner {
            owner.stop().await;
        }
    }
}

impl Place {
    async fn prepare(adapter: Adapter, name: &str) -> Self {
        let case = CASES.iter().find(|case| case.name == name).expect("a case of the table");
        let codex = TestCodex::prepare().await;
        codex.set(&case.settings.concat());
        let closed = codex.user_home().join("closed");
        std::fs::create_dir(&closed).unwrap();
        let (address, credential, args) = listening(&codex, adapter, case);
        let owner = match adapter {
            Adapter::Joined => Some(Owner::Agent(codex.backend())),
            Adapter::Started | Adapter::RemoteControl => None,
            Adapter::AttachPort | Adapter::AttachSocket => {
                let args = args.iter().map(String::as_str).collect::<Vec<_>>();
                Some(Owner::Person(Foreign::start(&codex, &args)))
            }
        };
        if let Some(Owner::Agent(owner)) = &owner {
            ready(owner).await;
        }
        let agent = tempfile::tempdir().unwrap();
        let profiles = codex.profiles(vec![closed.clone(), agent.path().to_owned()]);
        let config = CodexConfig { profiles: Some(Arc::clone(&profiles)), silence: silence(case), ..codex.config() };
        let backend: Arc<dyn CodexBackend> = match adapter {
            Adapter::Started | Adapter::Joined => Arc::new(AppServer::start(config)),
            Adapter::RemoteControl => {
                codex.home.sign_in().unwrap();
                let home = agent.path().to_owned();
                let config = RemoteControlConfig { codex: config, home, redirect: None };
                Arc::new(RemoteControl::start(config).unwrap())
            }
            Adapter::AttachPort | Adapter::AttachSocket => {
                let config = AttachConfig::new(address.parse().unwrap(), credential, config.home);
                Arc::new(Attach::start(AttachConfig { silence: silence(case), ..config }))
            }
        };
        ready(&*backend).await;
        Self { adapter, case, codex, closed, backend, owner, profiles, agent }
    }

    /// Whether the table says that this adapter can.
    fn can(&self) -> bool {
        !self.case.except.iter().any(|(adapter, _)| *adapter == self.adapter)
    }

    /// A client with all of Codex's API.
    async fn client(&self) -> Client {
        Client::connect(&*self.backend).await
    }

    fn project(&self) -> PathBuf {
        self.codex.home.project().to_owned()
    }

    /// Which run of Codex it is now.
    async fn instance(&self) -> Instance {
        match ready(&*self.backend).await {
            CodexState::Ready { instance, .. } => instance,
            other => panic!("wanted a Codex that is ready, got {other:?}"),
        }
    }

    /// The process that serves.
    async fn server(&self) -> i32 {
        match &self.owner {
            Some(Owner::Person(server)) => server.server().await,
            _ if self.adapter == Adapter::RemoteControl => {
                processes_of(self.codex.home.codex_home()).pop().expect("a codex remote-control")
            }
            _ => self.codex.server().await,
        }
    }

    /// Has an agent stand before it.
    async fn behind_an_agent(self) -> Guarded {
        let Self { codex, backend, owner, profiles, agent, .. } = self;
        Guarded { stage: Stage::around(codex, backend, profiles, agent, Tuning::default()).await, owner }
    }

    /// Ends it all, in the order in which it would end.
    async fn stop(self) {
        self.backend.stop().await;
        if let Some(owner) = self.owner {
            owner.stop().await;
        }
    }
}

/// Where somebody else's server listens, what lets the agent in there, and what it is started with. At a port the two kinds of
/// tokens take turns from case to case: they differ in how a connection opens, and in nothing after that.
fn listening(codex: &TestCodex, adapter: Adapter, case: &Case) -> (String, Credential, Vec<String>) {
    if adapter != Adapter::AttachPort {
        let address = format!("unix://{}", codex.user_home().join("theirs.sock").display());
        return (address.clone(), Credential::None, vec!["--listen".to_owned(), address]);
    }
    let address = format!("ws://{}", free_port());
    let file = secret_file(codex.user_home(), "secret", "a-secret-of-the-test-of-more-than-32-bytes");
    let is_even = CASES.iter().position(|other| other.name == case.name).is_some_and(|at| at % 2 == 0);
    let (mode, option, credential) = match is_even {
        true => ("capability-token", "--ws-token-file", Credential::Token { file: file.clone() }),
        false => {
            let signed = Credential::Signed { file: file.clone(), issuer: None, audience: None };
            ("signed-bearer-token", "--ws-shared-secret-file", signed)
        }
    };
    let args = ["--listen", &address, "--ws-auth", mode, option, file.to_str().unwrap()].map(str::to_owned);
    (address, credential, args.into())
}

/// Shorter than a person has, and longer than a machine that runs tests needs: Codex's remote control says something every
/// 10 s.
///
/// Nothing is ended but where that is what is to be seen. A Codex that goes on after it was stopped takes as long as it likes
/// to be heard again, and longer where it makes a new connection on a busy machine: ended meanwhile it would be another one.
fn silence(case: &Case) -> Silence {
    let (ask_after, told_after) = (Duration::from_secs(3), Duration::from_secs(15));
    let ended_after = match case.name {
        "a_codex_that_hangs_for_good_is_started_anew" => Duration::from_secs(20),
        _ => Duration::from_secs(600),
    };
    Silence { ask_after, told_after, ended_after }
}

/// The `codex remote-control` of this home, the package's script before the program itself.
pub(super) fn processes_of(codex_home: &Path) -> Vec<i32> {
    let pids =
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let has = |pid: i32, file: &str, part: &[u8]| {
        std::fs::read(format!("/proc/{pid}/{file}")).is_ok_and(|text| text.split(|b| *b == 0).any(|word| word == part))
    };
    let home = [b"CODEX_HOME=", codex_home.as_os_str().as_encoded_bytes()].concat();
    let mut found: Vec<i32> =
        pids.filter(|pid| has(*pid, "cmdline", b"remote-control") && has(*pid, "environ", &home)).collect();
    // What the program starts looks like itself until it has become what it is to be.
    let (all, program) = (found.clone(), |pid: i32| std::fs::read_link(format!("/proc/{pid}/exe")).ok());
    found.retain(|pid| parent(*pid).is_none_or(|parent| !all.contains(&parent) || program(parent) != program(*pid)));
    found.sort_by_key(|pid| (started(*pid), *pid));
    found
}

macro_rules! suite {
    (adapters { $($module:ident: $adapter:ident,)+ } $($file:ident $cases:tt)+) => {
        suite!(@table $($cases)+);
        suite!(@adapters { $($module: $adapter,)+ } { $($file $cases)+ });
    };
    (@table $({ $($name:ident: $shows:literal $(with $settings:ident)? $(, except $adapter:ident: $why:literal)*;)+ })+) => {
        const CASES: &[Case] = &[$($(Case {
            name: stringify!($name),
            shows: $shows,
            settings: &[$(asking::$settings)?],
            except: &[$((Adapter::$adapter, $why)),*],
        }),+),+];
    };
    (@adapters { $($module:ident: $adapter:ident,)+ } $files:tt) => {
        $(suite!(@tests $module $adapter $files);)+
    };
    (@tests $module:ident $way:ident { $($file:ident { $($name:ident: $shows:literal $(with $settings:ident)? $(, except $adapter:ident: $why:literal)*;)+ })+ }) => {
        mod $module {
            use super::{Adapter, Place, asking, cases, guards};
            $($(#[tokio::test]
            async fn $name() {
                $file::$name(Place::prepare(Adapter::$way, stringify!($name)).await).await;
            })+)+
        }
    };
}

suite! {
    adapters {
        started: Started,
        joined: Joined,
        remote_control: RemoteControl,
        attach_port: AttachPort,
        attach_socket: AttachSocket,
    }
    cases {
        nothing_is_answered_before_initialize: "A client introduces itself first, and hears Codex's version";
        threads_are_started_named_listed_and_archived: "Threads: start, name, list, read, archive";
        every_delta_of_a_long_turn_arrives_in_order: "5,000 pieces of text at full speed, none lost, in order",
            except RemoteControl: "At some 900 pieces a second none is lost. At several thousand Codex may drop the \
                connection by itself: the channel then ends with a gap, and who opens another finds the whole text";
        a_command_is_approved_or_cancelled: "A command waits for approval, runs or does not";
        a_file_change_is_approved_or_declined: "A change of files waits for approval, is written or is not";
        a_running_turn_is_steered: "Steering a running turn";
        a_running_turn_is_interrupted: "Interrupting a running turn";
        several_clients_share_a_thread: "Several devices in one thread: one answers, all hear it";
        a_client_that_drops_in_mid_turn_leaves_the_turn_running: "A device that is gone in mid-turn: the turn goes on, another sees its end";
        an_open_question_waits_for_the_next_client: "An approval that nobody answered is asked again of who comes next";
        a_failed_turn_leaves_the_connection_whole: "A model that fails ends the turn, and nothing else";
        a_message_of_60_mib_passes: "A message of 60 MiB";
        a_message_over_the_limit_is_refused_and_nothing_else: "A message over 64 MiB is refused before it is sent";
        a_killed_codex_comes_back_and_remembers: "Codex is killed: it comes back by itself, with its threads";
        a_codex_that_hangs_is_told_and_is_well_again_once_it_goes_on: "Codex hangs: it is said, and it is well again once it goes on";
        a_codex_that_hangs_for_good_is_started_anew: "Codex hangs for good: it is ended, and started anew",
            except Joined: "It is somebody else's, and is left alone",
            except AttachPort: "It is somebody else's, and is left alone",
            except AttachSocket: "It is somebody else's, and is left alone";
        the_agents_settings_hold: "Folders that the agent closes are closed to every thread by the process's own settings",
            except Joined: "Not the agent's process: the profile travels in each request of a device",
            except AttachPort: "Not the agent's process: the profile travels in each request of a device",
            except AttachSocket: "Not the agent's process: the profile travels in each request of a device";
        codex_ends_with_the_agent: "Codex ends with the agent",
            except Joined: "It is somebody else's, and is left alone",
            except AttachPort: "It is somebody else's, and is left alone",
            except AttachSocket: "It is somebody else's, and is left alone";
    }
    asking {
        a_question_is_answered_or_refused: "Codex puts questions to the user, in plan mode: answered, or not";
        a_form_of_an_mcp_server_is_filled_in_or_declined: "A form of an MCP server is filled in, or declined" with ASKER;
        a_link_of_an_mcp_server_is_accepted_or_declined: "A link of an MCP server is consented to, or declined" with ASKER;
        a_call_of_an_mcp_tool_is_consented_to_once_or_declined: "A call of an MCP server's tool is consented to, for this once, or declined" with ASKER;
        a_command_with_more_permissions_is_approved_or_declined: "A command that wants more than the sandbox gives waits for approval, and gets that or does not run" with PERMISSIONS;
        permissions_are_granted_at_the_host_only: "Permissions for the turn or for longer: a device may decline them, the host grants them" with PERMISSIONS;
        a_tool_of_the_client_is_called_and_answers: "A tool that a device brings along is called there, and answers";
        the_time_is_asked_of_the_only_client: "Codex is told the time from outside (`clock_source`) by the only client of a thread; next to the agent it fails the turn, and says why" with CLOCK;
        a_sign_in_is_asked_of_who_signed_in: "Fresh tokens and attestation are asked of the client that signed in, and of no device" with ACCOUNT,
            except RemoteControl: "A client that signs in takes the account away under which remote control is reached. Attestation alone is \
                asked of the client that declares it, as elsewhere";
    }
    guards {
        a_scope_holds_for_every_request: "A device's scope holds for every request, and for its answers";
        a_device_works_in_workspaces_under_the_agents_profile: "A device works in workspaces only, under the agent's profile, and its keys stay closed";
        a_prompt_of_one_id_runs_once: "A prompt that is sent twice with one id runs once";
        a_revoked_device_is_out_and_its_turn_ends: "A revoked device is out, its turn ends, and the audit log says so";
    }
}

/// Where the table is.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/adapters.md");
const BEGIN: &str = "<!-- The table is written by `cargo xtask gen` from tests/e2e/conformance. -->\n";
const END: &str = "<!-- End of the table. -->\n";

/// The page with the table as it is now.
fn page(old: &str) -> String {
    let (before, rest) = old.split_once(BEGIN).expect("the mark before the table");
    let (_, after) = rest.split_once(END).expect("the mark behind the table");
    let mut notes: Vec<&str> = Vec::new();
    let mut table = format!("| | {} |\n|---|", Adapter::ALL.map(Adapter::title).join(" | "));
    table.push_str(&"---|".repeat(Adapter::ALL.len()));
    for case in CASES {
        let cells = Adapter::ALL.map(|adapter| match case.except.iter().find(|(except, _)| *except == adapter) {
            None => "yes".to_owned(),
            Some((_, why)) => {
                let at = notes.iter().position(|note| note == why).unwrap_or(notes.len());
                if at == notes.len() {
                    notes.push(why);
                }
                format!("no ({})", at + 1)
            }
        });
        table.push_str(&format!("\n| {} | {} |", case.shows, cells.join(" | ")));
    }
    table.push_str("\n\n");
    for (at, note) in notes.iter().enumerate() {
        table.push_str(&format!("{}. {note}.\n", at + 1));
    }
    format!("{before}{BEGIN}\n{table}\n{END}{after}")
}

#[test]
fn the_page_of_adapters_shows_the_table_of_cases() {
    let old = std::fs::read_to_string(PAGE).unwrap();
    assert_eq!(page(&old), old, "docs/adapters.md is not what the suite says: run `cargo xtask gen`");
}

#[test]
#[ignore = "writes; `cargo xtask gen` runs it"]
fn write_the_table_of_adapters() {
    let old = std::fs::read_to_string(PAGE).unwrap();
    std::fs::write(PAGE, page(&old)).unwrap();
}
