//! The firewall as a whole: each refusal, what the stock client needs, and
//! arbitrary messages.

use proptest::prelude::*;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::LazyLock;

use super::ceiling::Approval;
use super::folders::{NoPlace, Unnamed};
use super::kept::Kept;
use super::table::METHODS;
use super::threads::Thread;
use super::*;
use crate::codex::permissions::Profile;

const THREAD: &str = "0198f000-0000-7000-8000-000000000001";
const OTHER: &str = "0198f000-0000-7000-8000-000000000002";
const CHILD: &str = "0198f000-0000-7000-8000-00000000000a";

/// `/home/me/project` and `/srv/repo` are workspaces; below `/home/me` is open from `approve` on.
#[derive(Debug)]
struct SomeFolders;

impl Folders for SomeFolders {
    fn place(&self, wish: &str) -> Result<Place, NoPlace> {
        let path = folders::plain(wish).ok_or(NoPlace::Form)?;
        match path.to_str() {
            Some("/home/me/project" | "/srv/repo") => Ok(Place::Workspace(path)),
            Some("/" | "/home" | "/home/me") => Err(NoPlace::Home),
            _ if path.starts_with("/home/me/.codex") => Err(NoPlace::State),
            _ if path.starts_with("/home/me") || path.starts_with("/srv/repo") => Ok(Place::Below(path)),
            _ => Err(NoPlace::Outside),
        }
    }

    fn unnamed(&self) -> Result<PathBuf, NoPlace> {
        Ok(PROJECT.into())
    }

    fn workspaces(&self) -> Vec<PathBuf> {
        vec![PROJECT.into(), "/srv/repo".into()]
    }

    fn named(&self) -> Vec<PathBuf> {
        vec![PROJECT.into(), INNER.into(), "/srv/repo".into(), KEYS.into()]
    }
}

const PROJECT: &str = "/home/me/project";
/// Trusted by Codex's configuration, and no workspace: it lies in one.
const INNER: &str = "/home/me/project/inner";
const KEYS: &str = "/home/me/.local/state/reachback/host";

static PROFILES: LazyLock<Arc<Profiles>> =
    LazyLock::new(|| Arc::new(Profiles::new(&ring::rand::SystemRandom::new(), vec![KEYS.into()], None).unwrap()));

/// The agent follows [`THREAD`].
fn following() -> Arc<Kept> {
    let kept = Arc::new(Kept::default());
    kept.insert(THREAD.to_owned());
    kept
}

/// The owner configured the provider `p`.
fn configured() -> Arc<Providers> {
    let providers = Providers::default();
    providers.learn(&json!({ "config": { "model_provider": "p", "model": "m" } }).to_string());
    providers.learn_models(&json!({ "data": [{ "model": "listed" }], "nextCursor": null }).to_string());
    Arc::new(providers)
}

/// The profile of threads in a workspace.
fn writing() -> Value {
    json!(PROFILES.writing().unwrap().id)
}

/// The profile of all other threads.
fn reading() -> Value {
    json!(PROFILES.reading().id)
}

fn policy(scope: Scope) -> Policy {
    Policy {
        scope,
        lasting_grants: false,
        ceiling: Arc::new(Ceiling::default()),
        folders: Arc::new(SomeFolders),
        profiles: Arc::clone(&PROFILES),
        kept: following(),
        providers: configured(),
        is_own_codex: true,
    }
}

/// A channel on which `initialize` has passed.
fn firewall(policy: Policy) -> Firewall {
    let mut firewall = Firewall::new(policy);
    let hello = json!({"id": 0, "method": "initialize", "params": {"clientInfo": {"name": "t", "version": "1"}}});
    assert!(send(&mut firewall, &hello).to_codex.is_some());
    let thread = Thread { folder: Some(PROJECT.into()), profile: writing().as_str().map(str::to_owned), model: None };
    firewall.threads.remember(THREAD.to_owned(), thread);
    firewall
}

fn with_scope(scope: Scope) -> Firewall {
    firewall(policy(scope))
}

fn send(firewall: &mut Firewall, message: &Value) -> DeviceVerdict {
    send_bytes(firewall, message.to_string().as_bytes())
}

/// Sends a message; Codex, if it is asked, says that the thread works in the project and is loaded.
fn send_bytes(firewall: &mut Firewall, message: &[u8]) -> DeviceVerdict {
    match firewall.from_device(message) {
        FromDevice::Verdict(verdict) => verdict,
        FromDevice::Ask(question) => {
            let answer = recorded(&question, PROJECT, "idle");
            firewall.answered(*question, Some(&answer))
        }
    }
}

/// What Codex says about a thread that the agent asks for.
fn recorded(question: &Question, cwd: &str, status: &str) -> Vec<u8> {
    let ask: Value = serde_json::from_slice(&question.to_codex).unwrap();
    assert_eq!(ask["method"], "thread/read");
    let thread = json!({"id": ask["params"]["threadId"], "cwd": cwd, "status": {"type": status}, "environments": null});
    json!({"id": ask["id"], "result": {"thread": thread}}).to_string().into()
}

/// A request about a thread that was recorded in this folder and has this status.
fn about(firewall: &mut Firewall, method: &str, params: Value, cwd: &str, status: &str) -> DeviceVerdict {
    let message = json!({"id": 7, "method": method, "params": params}).to_string();
    match firewall.from_device(message.as_bytes()) {
        FromDevice::Verdict(verdict) => verdict,
        FromDevice::Ask(question) => {
            let answer = recorded(&question, cwd, status);
            firewall.answered(*question, Some(&answer))
        }
    }
}

/// The parameters that reached Codex, without what the agent adds to a request that opens a thread.
fn kept(verdict: &DeviceVerdict) -> Value {
    let mut params = forwarded(verdict);
    let object = params.as_object_mut().unwrap();
    for added in ["runtimeWorkspaceRoots", "permissions", "cwd"] {
        object.remove(added);
    }
    let config = object["config"].as_object_mut().expect("the agent's configuration");
    for added in ["projects", "permissions", "default_permissions", "project_root_markers"] {
        config.remove(added);
    }
    if config.is_empty() {
        object.remove("config");
    }
    params
}

fn call(firewall: &mut Firewall, method: &str, params: Value) -> DeviceVerdict {
    send(firewall, &json!({"id": 7, "method": method, "params": params}))
}

fn parsed<'a>(bytes: impl IntoIterator<Item = &'a Bytes>) -> Value {
    let mut bytes = bytes.into_iter();
    let message = serde_json::from_slice(bytes.next().expect("a message")).expect("JSON");
    assert_eq!(bytes.next(), None, "one message");
    message
}

/// The parameters that reached Codex.
fn forwarded(verdict: &DeviceVerdict) -> Value {
    parsed(&verdict.to_codex)["params"].clone()
}

/// The reason of the refusal that went back to the device; nothing reached Codex.
fn refusal(verdict: &DeviceVerdict) -> Value {
    assert_eq!(verdict.to_codex, None, "a refused message reached Codex");
    let reply = parsed(&verdict.to_device);
    assert_eq!(reply["error"]["code"], REFUSED);
    reply["error"]["data"].clone()
}

fn ask(firewall: &mut Firewall, id: i64, method: &str, params: Value) -> CodexVerdict {
    firewall.from_codex(json!({"method": method, "id": id, "params": params}).to_string().into())
}

fn command_params() -> Value {
    json!({
        "kind": "command", "threadId": THREAD, "turnId": "t", "itemId": "i", "startedAtMs": 1, "command": "touch x",
        "proposedExecpolicyAmendment": ["touch"],
        "availableDecisions": ["accept", {"acceptWithExecpolicyAmendment": {"execpolicy_amendment": ["touch"]}}, "acceptForSession", "cancel"],
    })
}

const COMMAND: &str = "item/commandExecution/requestApproval";
const FILES: &str = "item/fileChange/requestApproval";
const QUESTION: &str = "item/tool/requestUserInput";
const FORM: &str = "mcpServer/elicitation/request";
const PERMISSIONS: &str = "item/permissions/requestApproval";

/// Asks, answers, and returns the verdict on the answer.
fn answered(firewall: &mut Firewall, method: &str, params: Value, result: Value) -> DeviceVerdict {
    ask(firewall, 3, method, params);
    send(firewall, &json!({"id": 3, "result": result}))
}

fn result(verdict: &DeviceVerdict) -> Value {
    parsed(&verdict.to_codex)["result"].clone()
}

// Requests

#[test]
fn nothing_passes_before_initialize() {
    let mut firewall = Firewall::new(policy(Scope::Admin));
    assert_eq!(refusal(&call(&mut firewall, "thread/list", json!({})))["reason"], "malformed");
    assert_eq!(send(&mut firewall, &json!({"method": "initialized"})).to_codex, None);
    let hello =
        json!({"id": "initialize", "method": "initialize", "params": {"clientInfo": {"name": "t", "version": "1"}}});
    assert!(send(&mut firewall, &hello).to_codex.is_some());
    let initialized = send(&mut firewall, &json!({"method": "initialized", "params": {"smuggled": 1}}));
    assert_eq!(parsed(&initialized.to_codex), json!({"method": "initialized"}));
    assert!(call(&mut firewall, "thread/list", json!({})).to_codex.is_some());
}

#[test]
fn initialize_loses_what_a_device_must_not_have() {
    let capabilities = json!({
        "experimentalApi": true, "requestAttestation": true, "explicitGatewayOauth": true, "requiredHumanApproval": true,
        "optOutNotificationMethods": [
            "serverRequest/resolved", "thread/settings/updated", "thread/closed", "item/completed", "thread/started",
        ],
    });
    let hello = json!({"clientInfo": {"name": "t", "version": "1", "title": null}, "capabilities": capabilities});
    let passed = forwarded(&call(&mut Firewall::new(policy(Scope::Approve)), "initialize", hello.clone()));
    assert_eq!(passed["clientInfo"], hello["clientInfo"]);
    let kept = json!({"experimentalApi": true, "requiredHumanApproval": true, "optOutNotificationMethods": ["thread/started"]});
    assert_eq!(passed["capabilities"], kept);
    let lower = forwarded(&call(&mut Firewall::new(policy(Scope::Steer)), "initialize", hello));
    assert_eq!(lower["capabilities"]["requiredHumanApproval"], Value::Null);
}

#[test]
fn a_connection_may_use_what_the_agent_adds_whatever_its_client_asks_for() {
    for capabilities in [json!(null), json!({}), json!({"experimentalApi": false})] {
        let hello = json!({"clientInfo": {"name": "t", "version": "1"}, "capabilities": capabilities});
        let passed = forwarded(&call(&mut Firewall::new(policy(Scope::View)), "initialize", hello));
        assert_eq!(passed["capabilities"], json!({"experimentalApi": true}));
    }
    let passed = forwarded(&call(&mut Firewall::new(policy(Scope::View)), "initialize", json!({})));
    assert_eq!(passed["capabilities"], json!({"experimentalApi": true}));
}

#[test]
fn a_scope_refusal_names_both_scopes() {
    let verdict = call(&mut with_scope(Scope::View), "turn/start", json!({"threadId": THREAD, "input": []}));
    let error = parsed(&verdict.to_device);
    assert_eq!(error["id"], 7);
    assert_eq!(error["error"]["message"], "this needs scope `steer`; this device has `view`");
    let data = json!({"reason": "scope", "method": "turn/start", "needed": "steer", "scope": "view"});
    assert_eq!(refusal(&verdict), data);
    assert_eq!(verdict.audit.decision, Decision::Refused(Reason::Scope));
    assert!(verdict.audit.changing);
}

#[test]
fn every_method_needs_what_the_table_says() {
    for method in METHODS.iter().filter(|method| method.name != "initialize" && method.name != "initialized") {
        for scope in Scope::ALL {
            let params = match method.thread {
                ThreadUse::Any | ThreadUse::Starts | ThreadUse::Runs => Value::Null,
                _ => json!({"threadId": THREAD}),
            };
            let verdict = call(&mut with_scope(scope), method.name, params);
            let expected = match method.access {
                Access::From(needed) if scope >= needed => None,
                Access::From(_) => Some("scope"),
                Access::Outside | Access::Never => Some("method"),
            };
            match expected {
                None => assert!(verdict.to_codex.is_some(), "{} was refused to {scope}", method.name),
                Some(reason) => assert_eq!(refusal(&verdict)["reason"], reason, "{} for {scope}", method.name),
            }
        }
    }
}

#[test]
fn refused_from_afar_whatever_the_scope() {
    for method in [
        "thread/shellCommand",
        "command/exec/write",
        "process/spawn",
        "process/kill",
        "fs/readFile",
        "fs/writeFile",
        "fs/watch",
        "environment/add",
        "mcpServer/tool/call",
        "config/value/write",
        "config/batchWrite",
        "plugin/install",
        "marketplace/add",
        "skills/config/write",
        "externalAgentConfig/import",
        "remoteControl/enable",
        "remoteControl/status/read",
        "getAuthStatus",
        "account/login/start",
        "account/logout",
        "feedback/upload",
        "no/such/method",
        "Thread/list",
        "thread/list ",
        "",
    ] {
        let data = refusal(&call(&mut with_scope(Scope::Admin), method, json!({})));
        assert_eq!((&data["reason"], &data["method"]), (&json!("method"), &json!(method)));
    }
}

#[test]
fn the_ceiling_opens_what_runs_outside_for_approvers_only() {
    let open = |scope| {
        let ceiling = Arc::new(Ceiling { outside_sandbox: true, ..Ceiling::default() });
        firewall(Policy { ceiling, ..policy(scope) })
    };
    let shell = json!({"threadId": THREAD, "command": "ls"});
    assert_eq!(forwarded(&call(&mut open(Scope::Approve), "thread/shellCommand", shell.clone())), shell);
    assert_eq!(refusal(&call(&mut open(Scope::Steer), "thread/shellCommand", shell))["reason"], "scope");
    let exec = json!({"command": ["rm", "-rf", "x"], "tty": true});
    let mut held = exec.clone();
    held["sandboxPolicy"] = json!({"type": "readOnly", "networkAccess": false});
    assert_eq!(forwarded(&call(&mut open(Scope::Approve), "command/exec", exec)), held);
    assert_eq!(
        refusal(&call(&mut open(Scope::Admin), "fs/readFile", json!({"path": "/home/me/x"})))["reason"],
        "method"
    );
}

#[test]
fn a_prompt_keeps_its_words_and_loses_its_overrides() {
    let params = json!({
        "threadId": THREAD, "input": [{"type": "text", "text": "hello \u{1f600}\n", "text_elements": []}], "turnTrigger": "user",
        "cwd": "/home/me/project", "runtimeWorkspaceRoots": ["/"], "approvalPolicy": "never", "approvalsReviewer": "auto_review",
        "sandboxPolicy": {"type": "dangerFullAccess"}, "permissions": ":danger-full-access", "effort": null, "newParameter": {"a": 1},
    });
    let verdict = call(&mut with_scope(Scope::Steer), "turn/start", params.clone());
    let passed = forwarded(&verdict);
    let kept = json!({
        "threadId": THREAD, "input": params["input"], "turnTrigger": "user", "cwd": "/home/me/project", "effort": null,
        "permissions": writing(),
    });
    assert_eq!(passed, kept);
    assert_eq!(verdict.audit.thread.as_deref(), Some(THREAD));
    let Decision::Trimmed { mut dropped, unknown } = verdict.audit.decision else { panic!("it was trimmed") };
    dropped.sort_unstable();
    assert_eq!(
        dropped,
        ["approvalPolicy", "approvalsReviewer", "permissions", "runtimeWorkspaceRoots", "sandboxPolicy"]
    );
    assert_eq!(unknown, 1);
}

#[test]
fn what_forges_or_unguards_a_turn_needs_approve() {
    for (method, name) in [
        ("turn/start", "toolOutput"),
        ("turn/start", "disabledPluginIds"),
        ("thread/settings/update", "disabledPluginIds"),
    ] {
        let params = json!({"threadId": THREAD, name: ["x"]});
        let passed = |scope| {
            let mut passed = forwarded(&call(&mut with_scope(scope), method, params.clone()));
            passed.as_object_mut().unwrap().remove("permissions");
            passed
        };
        assert_eq!(passed(Scope::Steer), json!({"threadId": THREAD}));
        assert_eq!(passed(Scope::Approve), params);
    }
}

#[test]
fn a_prompt_for_a_thread_elsewhere_stays_there() {
    for elsewhere in ["/srv/project", "/home/me/x", "/home/me", "/srv/repo/sub"] {
        let params = json!({"threadId": THREAD, "input": [], "cwd": elsewhere});
        let verdict = call(&mut with_scope(Scope::Admin), "turn/start", params);
        assert_eq!(forwarded(&verdict), json!({"threadId": THREAD, "input": [], "permissions": writing()}));
    }
}

/// What is said about every folder that somebody named, workspace or not.
fn named() -> Value {
    let no = json!({"trust_level": "untrusted"});
    json!({PROJECT: no, INNER: no, "/srv/repo": no, KEYS: no})
}

/// The configuration for a thread in a workspace.
fn trusted(folder: &str) -> Value {
    let Profile { id, mut definition } = PROFILES.writing().unwrap();
    // Other workspaces are not for its commands to write, and what is denied stays denied.
    let elsewhere = if folder == PROJECT { "/srv/repo" } else { PROJECT };
    definition["filesystem"][elsewhere] = json!("read");
    let mut projects = named();
    if folder != PROJECT {
        definition["filesystem"][INNER] = json!("read");
    }
    projects[folder] = json!({"trust_level": "trusted"});
    json!({"projects": projects, "permissions": {&id: definition}, "default_permissions": id})
}

/// The configuration for a thread in any other folder.
fn untrusted(folder: &str) -> Value {
    let Profile { id, definition } = PROFILES.reading();
    let mut projects = named();
    for folder in ["/", folder] {
        projects[folder] = json!({"trust_level": "untrusted"});
    }
    json!({
        "projects": projects, "project_root_markers": ["proc/self/exe"],
        "permissions": {&id: definition}, "default_permissions": id,
    })
}

#[test]
fn below_approve_a_thread_starts_in_a_workspace_or_not_at_all() {
    let mut firewall = with_scope(Scope::Steer);
    let start = |firewall: &mut Firewall, cwd: &str| call(firewall, "thread/start", json!({"cwd": cwd}));
    let verdict = start(&mut firewall, "/srv/repo/.");
    assert_eq!(verdict.audit.folder.as_deref(), Some("/srv/repo"));
    let passed = forwarded(&verdict);
    let wanted = json!({
        "cwd": "/srv/repo", "runtimeWorkspaceRoots": ["/srv/repo"], "permissions": writing(), "config": trusted("/srv/repo"),
    });
    assert_eq!(passed, wanted);
    for elsewhere in [
        "/",
        "/etc",
        "/home",
        "/home/me",
        "/home/me/x",
        "/srv/repo/sub",
        "/home/me/.codex",
        "/srv/../srv/repo",
        "x",
        "",
    ] {
        let verdict = start(&mut firewall, elsewhere);
        assert_eq!(refusal(&verdict)["reason"], "params", "{elsewhere:?} passed");
        assert_eq!(verdict.audit.folder, None, "what a device wrote is no folder yet");
        let said = parsed(&verdict.to_device)["error"]["message"].to_string();
        assert!(
            said.contains("cwd") && !said.contains("/etc"),
            "{said} should name the parameter, not repeat its value"
        );
    }
    let outside = parsed(&start(&mut firewall, "/home/me/x").to_device)["error"]["message"].to_string();
    assert!(outside.contains("reachback workspace add"), "no next step in {outside}");
    assert_eq!(refusal(&call(&mut firewall, "thread/start", json!({"cwd": ["/home/me"]})))["reason"], "params");
}

#[test]
fn from_approve_on_it_may_be_a_folder_below_the_roots_in_which_nothing_runs() {
    let start = |policy: Policy, cwd: &str| call(&mut firewall(policy), "thread/start", json!({"cwd": cwd}));
    for below in ["/home/me/x", "/srv/repo/sub"] {
        let passed = forwarded(&start(policy(Scope::Approve), below));
        let wanted = json!({
            "cwd": below, "runtimeWorkspaceRoots": [below], "permissions": reading(), "config": untrusted(below),
        });
        assert_eq!(passed, wanted);
        // A server that the agent did not start lacks some of what keeps a folder quiet.
        let joined = |scope| Policy { is_own_codex: false, ..policy(scope) };
        assert_eq!(refusal(&start(joined(Scope::Approve), below))["reason"], "params", "{below} in a joined server");
        assert_eq!(forwarded(&start(joined(Scope::Admin), below)), wanted);
    }
    for never in ["/", "/home/me", "/home/me/.codex/x", "/etc"] {
        assert_eq!(refusal(&start(policy(Scope::Admin), never))["reason"], "params", "{never} passed");
    }
}

#[test]
fn a_thread_that_names_no_folder_gets_one_all_the_same() {
    for params in [json!({}), json!(null), json!({"cwd": null})] {
        let passed = forwarded(&call(&mut with_scope(Scope::Steer), "thread/start", params));
        assert_eq!((&passed["cwd"], &passed["config"]), (&json!(PROJECT), &trusted(PROJECT)));
    }
    let bare = send(&mut with_scope(Scope::Steer), &json!({"id": 1, "method": "thread/start"}));
    assert_eq!(forwarded(&bare)["cwd"], PROJECT);

    #[derive(Debug)]
    struct Several;
    impl Folders for Several {
        fn place(&self, wish: &str) -> Result<Place, NoPlace> {
            SomeFolders.place(wish)
        }
        fn unnamed(&self) -> Result<PathBuf, NoPlace> {
            Err(NoPlace::Unnamed(Unnamed::Several))
        }
        fn workspaces(&self) -> Vec<PathBuf> {
            SomeFolders.workspaces()
        }
        fn named(&self) -> Vec<PathBuf> {
            SomeFolders.named()
        }
    }
    let policy = Policy { folders: Arc::new(Several), ..policy(Scope::Admin) };
    let verdict = call(&mut firewall(policy), "thread/start", json!({}));
    assert_eq!(refusal(&verdict)["reason"], "params");
    assert!(parsed(&verdict.to_device)["error"]["message"].to_string().contains("several workspaces"));
}

#[test]
fn environments_and_projects_are_workspaces_whatever_the_scope() {
    for (method, name, value) in [
        ("thread/start", "environments", json!([{"environmentId": "local", "cwd": "/home/me/x"}])),
        ("turn/start", "environments", json!([{"environmentId": "local", "cwd": "/home/me/x"}])),
        ("thread/settings/update", "environments", json!([{"environmentId": "local", "cwd": "/srv/repo/sub"}])),
        ("turn/settings/update", "environments", json!([{"environmentId": "local", "cwd": "/etc"}])),
        ("thread/settings/update", "cwd", json!("/home/me/x")),
        ("project/create", "roots", json!([{"path": "/home/me/x"}])),
        ("project/update", "roots", json!([{"path": "/srv/repo"}, {"path": "/home/me"}])),
        ("command/exec", "cwd", json!("/home/me/x")),
        ("plugin/read", "marketplacePath", json!("/home/me/x")),
    ] {
        let verdict = call(&mut with_scope(Scope::Admin), method, json!({"threadId": THREAD, name: value}));
        assert_eq!(refusal(&verdict)["reason"], "params", "{method} {name} passed");
    }
    // Lists that a client asks for by itself go on without the folder.
    for (method, name) in [
        ("skills/list", "cwds"),
        ("hooks/list", "cwds"),
        ("plugin/list", "cwds"),
        ("plugin/installed", "cwds"),
        ("plugin/search", "cwds"),
    ] {
        let passed = forwarded(&call(&mut with_scope(Scope::Admin), method, json!({name: ["/home/me/x", PROJECT]})));
        assert_eq!(passed.get(name), None, "{method}");
        let passed = forwarded(&call(&mut with_scope(Scope::View), method, json!({name: [PROJECT]})));
        assert_eq!(passed[name], json!([PROJECT]), "{method}");
    }
    for (method, name) in [("permissionProfile/list", "cwd"), ("config/read", "cwd")] {
        let passed = forwarded(&call(&mut with_scope(Scope::Admin), method, json!({name: "/home/me/x"})));
        assert_eq!(passed.get(name), None, "{method}");
    }
}

#[test]
fn a_client_may_repeat_the_folder_that_its_thread_is_in() {
    let mut firewall = with_scope(Scope::Approve);
    let own = Thread { folder: Some("/home/me/x".into()), profile: reading().as_str().map(str::to_owned), model: None };
    firewall.threads.remember(OTHER.to_owned(), own);
    let params = json!({"threadId": OTHER, "cwd": "/home/me/x", "model": "m"});
    let passed = forwarded(&call(&mut firewall, "thread/settings/update", params));
    assert_eq!(passed, json!({"threadId": OTHER, "model": "m"}));
    let params = json!({"threadId": OTHER, "cwd": "/srv/repo"});
    assert_eq!(forwarded(&call(&mut firewall, "thread/settings/update", params.clone())), params);
    let params = json!({"threadId": OTHER, "cwd": "/home/me/y"});
    assert_eq!(refusal(&call(&mut firewall, "thread/settings/update", params))["reason"], "params");
}

#[test]
fn a_thread_that_is_not_loaded_is_opened_where_a_new_one_could_start() {
    let resume = |policy: Policy, cwd: &str| {
        about(
            &mut firewall(policy),
            "thread/resume",
            json!({"threadId": THREAD, "excludeTurns": true}),
            cwd,
            "notLoaded",
        )
    };
    let verdict = resume(policy(Scope::Steer), PROJECT);
    let wanted = json!({
        "threadId": THREAD, "excludeTurns": true, "cwd": PROJECT, "runtimeWorkspaceRoots": [PROJECT],
        "permissions": writing(), "config": trusted(PROJECT),
    });
    assert_eq!(forwarded(&verdict), wanted);
    assert!(verdict.audit.changing, "loading a thread is written down");
    let verdict = resume(policy(Scope::View), PROJECT);
    assert_eq!(refusal(&verdict)["reason"], "scope");
    assert_eq!(refusal(&verdict)["needed"], "steer");

    let verdict = resume(policy(Scope::Steer), "/home/me/x");
    assert_eq!(refusal(&verdict)["reason"], "params");
    let said = parsed(&verdict.to_device)["error"]["message"].to_string();
    assert!(said.contains("reachback workspace add /home/me/x"), "no next step in {said}");
    assert_eq!(forwarded(&resume(policy(Scope::Approve), "/home/me/x"))["config"], untrusted("/home/me/x"));
    for never in ["/home/me", "/home/me/.codex", "/etc", "", "relative"] {
        assert_eq!(refusal(&resume(policy(Scope::Admin), never))["reason"], "params", "{never} passed");
    }
}

#[test]
fn a_search_for_files_is_written_down_when_it_begins_and_not_with_each_letter() {
    let search = |method: &str, params: Value| {
        let asked = json!({ "id": 1, "method": method, "params": params }).to_string();
        let FromDevice::Verdict(verdict) = with_scope(Scope::Steer).from_device(asked.as_bytes()) else {
            panic!("{method} asks Codex first")
        };
        assert!(verdict.to_codex.is_some(), "{method} does not pass");
        verdict.audit.changing
    };
    assert!(search("fuzzyFileSearch/sessionStart", json!({ "sessionId": "s", "roots": [PROJECT] })));
    assert!(search("fuzzyFileSearch", json!({ "roots": [PROJECT], "query": "main" })));
    assert!(!search("fuzzyFileSearch/sessionUpdate", json!({ "sessionId": "s", "query": "m" })));
    assert!(!search("fuzzyFileSearch/sessionStop", json!({ "sessionId": "s" })));
}

#[test]
fn a_thread_that_is_loaded_may_be_watched_by_all_wherever_it_works() {
    for (scope, cwd) in [
        (Scope::View, PROJECT),
        (Scope::View, "/etc"),
        (Scope::Steer, "/etc"),
        (Scope::Steer, "/home/me/x"),
        (Scope::Admin, "/"),
    ] {
        let verdict = about(&mut with_scope(scope), "thread/resume", json!({"threadId": THREAD}), cwd, "active");
        let passed = forwarded(&verdict);
        // Were it unloaded in the meantime, nothing of its folder would run.
        assert_eq!((&passed["permissions"], &passed["config"]), (&reading(), &untrusted(cwd)), "{scope} {cwd}");
        assert!(!verdict.audit.changing, "watching changes nothing");
    }
    let verdict = about(&mut with_scope(Scope::Steer), "thread/resume", json!({"threadId": THREAD}), PROJECT, "idle");
    assert_eq!(forwarded(&verdict)["config"], trusted(PROJECT));
}

#[test]
fn a_loaded_thread_that_nobody_is_known_to_follow_is_opened_like_one_that_is_not() {
    let resume = |scope, cwd: &str, status: &str| {
        let mut firewall = firewall(Policy { kept: Arc::default(), ..policy(scope) });
        about(&mut firewall, "thread/resume", json!({"threadId": THREAD}), cwd, status)
    };
    assert_eq!(refusal(&resume(Scope::View, PROJECT, "idle"))["needed"], "steer");
    assert!(resume(Scope::View, PROJECT, "active").to_codex.is_some());
    assert_eq!(refusal(&resume(Scope::Steer, "/home/me/x", "idle"))["reason"], "params");
    let verdict = resume(Scope::Steer, PROJECT, "idle");
    assert_eq!(forwarded(&verdict)["permissions"], writing());
    assert!(verdict.audit.changing, "what may load a thread is written down");
}

#[test]
fn a_fork_works_where_a_new_thread_could() {
    let fork = |scope, params: Value, cwd: &str| about(&mut with_scope(scope), "thread/fork", params, cwd, "idle");
    let passed = forwarded(&fork(Scope::Steer, json!({"threadId": THREAD}), PROJECT));
    assert_eq!(
        (&passed["cwd"], &passed["config"], &passed["permissions"]),
        (&json!(PROJECT), &trusted(PROJECT), &writing())
    );
    let passed = forwarded(&fork(Scope::Steer, json!({"threadId": THREAD, "cwd": "/srv/repo"}), "/etc"));
    assert_eq!(passed["config"], trusted("/srv/repo"));
    for scope in [Scope::Steer, Scope::Approve] {
        let verdict = fork(scope, json!({"threadId": THREAD}), "/etc");
        assert_eq!(refusal(&verdict)["reason"], "params", "{scope}");
    }
    assert_eq!(refusal(&fork(Scope::View, json!({"threadId": THREAD}), PROJECT))["reason"], "scope");
    assert_eq!(refusal(&fork(Scope::Steer, json!({}), PROJECT))["reason"], "params");
}

#[test]
fn a_question_to_codex_that_fails_refuses_the_request() {
    let ask = |firewall: &mut Firewall| {
        let message = json!({"id": 7, "method": "thread/resume", "params": {"threadId": THREAD}}).to_string();
        match firewall.from_device(message.as_bytes()) {
            FromDevice::Ask(question) => question,
            FromDevice::Verdict(verdict) => panic!("{verdict:?} without a question"),
        }
    };
    let mut firewall = with_scope(Scope::Admin);
    for answer in [
        None,
        Some(&b"garbage"[..]),
        Some(br#"{"id":7,"result":{"thread":{"cwd":"/srv/repo","status":{"type":"idle"}}}}"#),
    ] {
        let question = ask(&mut firewall);
        assert_eq!(refusal(&firewall.answered(*question, answer))["reason"], "params");
    }
    let question = ask(&mut firewall);
    let id: Value = serde_json::from_slice::<Value>(&question.to_codex).unwrap()["id"].clone();
    let unknown = json!({"id": id, "error": {"code": -32600, "message": "/home/me/secret: line 3"}}).to_string();
    let verdict = firewall.answered(*question, Some(unknown.as_bytes()));
    assert_eq!(refusal(&verdict)["reason"], "params");
    assert!(!parsed(&verdict.to_device).to_string().contains("secret"));
    // The answer to an earlier one is not taken for this one's.
    let (first, second) = (ask(&mut firewall), ask(&mut firewall));
    let late = recorded(&first, PROJECT, "idle");
    assert!(first.is_answered_by(&late) && !second.is_answered_by(&late));
    assert_eq!(refusal(&firewall.answered(*second, Some(&late)))["reason"], "params");
}

#[test]
fn the_agents_own_ids_are_not_for_devices_and_its_answers_not_either() {
    let mut firewall = with_scope(Scope::Admin);
    let verdict = send(&mut firewall, &json!({"id": "reachback:1", "method": "thread/list", "params": {}}));
    assert_eq!(refusal(&verdict)["reason"], "malformed");
    let answer = r#"{"id":"reachback:1","result":{}}"#;
    assert_eq!(firewall.from_codex(answer.into()), CodexVerdict::Own(answer.into()));
}

/// Lets Codex answer what the agent waits for, and gives what the device sees of it.
fn answer(firewall: &mut Firewall, name: &str, value: Value) -> Value {
    let number = *firewall.awaited.keys().max().expect("an answer is waited for");
    let answer = json!({"id": format!("reachback:{number}"), name: value}).to_string();
    let CodexVerdict::Forward(seen) = firewall.from_codex(answer.into()) else {
        panic!("the answer is for the device")
    };
    let seen = parsed([&seen]);
    assert_eq!(seen["id"], 7);
    seen[name].clone()
}

/// Lets Codex answer what opened a thread with this profile.
fn opened(firewall: &mut Firewall, thread: &str, profile: Value) {
    let result = json!({"thread": {"id": thread, "turns": []}, "cwd": PROJECT, "activePermissionProfile": profile});
    assert_eq!(answer(firewall, "result", result.clone()), result);
}

/// What lets the model act.
fn prompts() -> impl Iterator<Item = &'static str> {
    let prompting = |method: &&Method| matches!(method.thread, ThreadUse::Prompts | ThreadUse::PromptsUnder);
    METHODS.iter().filter(prompting).filter(|method| matches!(method.access, Access::From(_))).map(|method| method.name)
}

#[test]
fn a_thread_under_another_profile_is_for_watching_below_approve() {
    assert!(prompts().count() > 15);
    for profile in [json!({"id": ":workspace", "extends": null}), json!(null), json!({"id": "reachback"})] {
        for method in prompts() {
            let mut steering = with_scope(Scope::Steer);
            about(&mut steering, "thread/resume", json!({"threadId": THREAD}), PROJECT, "idle");
            opened(&mut steering, THREAD, profile.clone());
            let verdict = call(&mut steering, method, json!({"threadId": THREAD}));
            assert_eq!(refusal(&verdict)["reason"], "scope", "{method} under {profile}");

            let mut approving = with_scope(Scope::Admin);
            about(&mut approving, "thread/resume", json!({"threadId": THREAD}), PROJECT, "idle");
            opened(&mut approving, THREAD, profile.clone());
            let verdict = call(&mut approving, method, json!({"threadId": THREAD}));
            assert_eq!(forwarded(&verdict).get("permissions"), None, "{method} under {profile}");
            assert!(verdict.audit.unguarded && verdict.audit.changing, "{method} under {profile}");
        }
    }
}

#[test]
fn a_thread_that_this_connection_did_not_open_is_opened_before_it_is_prompted() {
    for method in prompts().filter(|method| table::method(method).unwrap().access == Access::From(Scope::Steer)) {
        let verdict = call(&mut with_scope(Scope::Steer), method, json!({"threadId": OTHER}));
        assert_eq!(refusal(&verdict)["reason"], "scope", "{method}");
        assert!(call(&mut with_scope(Scope::Approve), method, json!({"threadId": OTHER})).audit.unguarded);
    }
}

#[test]
fn a_thread_has_one_name_and_what_prompts_needs_it() {
    let plain = THREAD.replace('-', "");
    let methods = METHODS.iter().filter(|method| matches!(method.access, Access::From(_)));
    for method in methods.filter(|method| table::rule_for(method.params, "threadId").is_some()) {
        for spelled in
            [&format!("{{{THREAD}}}"), &format!("urn:uuid:{THREAD}"), &THREAD.to_uppercase(), &plain, "x", ""]
        {
            let verdict = call(&mut with_scope(Scope::Admin), method.name, json!({"threadId": spelled}));
            assert_eq!(verdict.to_codex, None, "{} passed with {spelled}", method.name);
        }
    }
    for method in prompts() {
        for params in [json!({}), json!({"threadId": null})] {
            let verdict = call(&mut with_scope(Scope::Steer), method, params);
            assert_eq!(verdict.to_codex, None, "{method} passed without a thread");
        }
    }
}

#[test]
fn what_codex_says_in_an_unknown_way_leaves_no_thread_guarded() {
    for method in ["thread/settings/updated", "thread/closed"] {
        let mut firewall = with_scope(Scope::Steer);
        firewall.from_codex(json!({"method": method, "params": {"newShape": THREAD}}).to_string().into());
        let verdict = call(&mut firewall, "turn/start", json!({"threadId": THREAD, "input": []}));
        assert_eq!(refusal(&verdict)["reason"], "scope", "{method}");
    }
}

#[test]
fn a_prompt_goes_under_the_profile_that_the_thread_was_opened_with() {
    let mut firewall = with_scope(Scope::Approve);
    call(&mut firewall, "thread/start", json!({"cwd": "/home/me/x"}));
    opened(&mut firewall, OTHER, json!({"id": reading(), "extends": ":read-only"}));
    let verdict = call(&mut firewall, "turn/start", json!({"threadId": OTHER, "input": [], "permissions": writing()}));
    assert_eq!(forwarded(&verdict)["permissions"], reading());
    assert!(!verdict.audit.unguarded);
    // Only an answer to what opens a thread says so.
    let claim = json!({"thread": {"id": CHILD}, "activePermissionProfile": {"id": writing()}});
    firewall.from_codex(json!({"id": 7, "result": claim}).to_string().into());
    assert!(call(&mut firewall, "turn/start", json!({"threadId": CHILD, "input": []})).audit.unguarded);
}

#[test]
fn what_codex_says_about_a_threads_profile_is_followed() {
    let mut firewall = with_scope(Scope::Steer);
    let mut may_prompt = |method: &str, params: Value, thread: &str| {
        firewall.from_codex(json!({"method": method, "params": params}).to_string().into());
        call(&mut firewall, "turn/start", json!({"threadId": thread, "input": []})).to_codex.is_some()
    };
    let settings =
        |id: Value| json!({"threadId": THREAD, "threadSettings": {"activePermissionProfile": id, "cwd": PROJECT}});
    let (updated, completed) = ("thread/settings/updated", "item/completed");
    let spawned = |parent: &str, child: &str| {
        json!({"threadId": parent, "item": {
            "id": "i", "type": "collabAgentToolCall", "tool": "spawnAgent", "senderThreadId": parent, "receiverThreadIds": [child],
        }})
    };
    assert!(!may_prompt(updated, settings(json!({"id": ":danger-full-access"})), THREAD));
    assert!(!may_prompt(updated, settings(json!(null)), THREAD));
    assert!(may_prompt(updated, settings(json!({"id": writing()})), THREAD));
    // A sub-agent is under its parent's; a thread that somebody else starts is not.
    assert!(may_prompt(completed, spawned(THREAD, CHILD), CHILD));
    assert!(!may_prompt(completed, spawned("unknown", OTHER), OTHER));
    assert!(!may_prompt(completed, json!({"threadId": THREAD, "item": {"id": "i", "type": "agentMessage"}}), OTHER));
    assert!(!may_prompt("thread/closed", json!({"threadId": THREAD}), THREAD));
}

#[test]
fn without_a_sandbox_there_is_no_profile_to_be_under() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.toml");
    std::fs::write(&config, "sandbox_mode = 'danger-full-access'").unwrap();
    let profiles = Profiles::new(&ring::rand::SystemRandom::new(), vec![KEYS.into()], Some(config)).unwrap();
    let mut firewall = firewall(Policy { profiles: Arc::new(profiles), ..policy(Scope::Steer) });
    let passed = forwarded(&call(&mut firewall, "thread/start", json!({})));
    assert_eq!((passed.get("permissions"), &passed["config"]["permissions"]), (None, &Value::Null));
    opened(&mut firewall, OTHER, json!(null));
    let verdict = call(&mut firewall, "turn/start", json!({"threadId": OTHER, "input": []}));
    assert_eq!(forwarded(&verdict), json!({"threadId": OTHER, "input": []}));
}

#[test]
fn overrides_of_a_new_thread_are_the_hosts() {
    let params = json!({
        "cwd": null, "sandbox": "workspace-write", "approvalPolicy": "never", "approvalsReviewer": "user", "permissions": "own-profile",
        "config": {"model_reasoning_effort": "low", "mcp_servers": {"x": {"command": "sh"}}, "sandbox_mode": "danger-full-access", "notify": ["sh"]},
        "selectedCapabilityRoots": [{"id": "x", "location": {"type": "environment", "environmentId": "local", "path": "/tmp"}}],
        "dynamicTools": [], "ephemeral": true,
    });
    let passed = kept(&call(&mut with_scope(Scope::Admin), "thread/start", params));
    let wanted = json!({
        "approvalsReviewer": "user", "config": {"model_reasoning_effort": "low"}, "dynamicTools": [], "ephemeral": true,
    });
    assert_eq!(passed, wanted);
}

/// What the stock client sends to find a title; without its `config` the thread would have tools.
fn title_thread() -> Value {
    let off = [
        "features.code_mode_only",
        "features.current_time_reminder",
        "tools.update_plan.enabled",
        "features.tool_suggest",
        "features.unified_exec",
        "features.deferred_executor",
        "features.apps",
        "features.multi_agent",
        "features.plugins",
        "features.shell_snapshot",
        "features.context_management",
        "features.request_permissions_tool",
        "features.view_image",
        "features.token_budget",
        "cloud.skills.enabled",
        "features.code_mode",
        "features.hooks",
        "features.memories",
        "features.shell_tool",
        "features.enable_fanout",
        "features.goals",
        "features.image_generation",
        "features.standalone_web_search",
        "tools.experimental_request_user_input.enabled",
        "skills.include_instructions",
        "features.multi_agent_v2",
    ];
    let mut config: Map<String, Value> = off.into_iter().map(|key| (key.to_owned(), json!(false))).collect();
    config.insert("mcp_servers".to_owned(), json!({}));
    config.insert("default_permissions".to_owned(), json!(":read-only"));
    config.insert("web_search".to_owned(), json!("disabled"));
    json!({
        "model": "m", "modelProvider": "p", "cwd": PROJECT, "sandbox": "read-only", "config": config, "ephemeral": true,
        "threadSource": "thread_title", "environments": [], "dynamicTools": [],
    })
}

#[test]
fn the_stock_clients_title_thread_has_no_tools() {
    let mut params = title_thread();
    let verdict = call(&mut with_scope(Scope::Steer), "thread/start", params.clone());
    for theirs in ["sandbox", "cwd"] {
        params.as_object_mut().unwrap().remove(theirs);
    }
    params["config"].as_object_mut().unwrap().remove("default_permissions");
    assert_eq!(kept(&verdict), params);
    // Without tools, but kept from the keys: a fork of it has tools again.
    let passed = forwarded(&verdict);
    assert_eq!((&passed["permissions"], &passed["config"]["default_permissions"]), (&reading(), &reading()));
    assert_eq!(verdict.audit.decision, Decision::Trimmed { dropped: vec!["sandbox"], unknown: 0 });
}

#[test]
fn prompts_go_to_providers_that_the_owner_configured_and_nowhere_else() {
    let asked = |scope, method: &str, provider: &str, policy_of: fn(Policy) -> Policy| {
        let params = json!({ "threadId": THREAD, "modelProvider": provider });
        let verdict = call(&mut firewall(policy_of(policy(scope))), method, params);
        (forwarded(&verdict).get("modelProvider").cloned(), verdict.audit.decision)
    };
    for method in ["thread/start", "thread/resume", "thread/fork"] {
        assert_eq!(asked(Scope::Steer, method, "p", |policy| policy).0, Some(json!("p")), "{method}");
        for elsewhere in ["ollama", "openai", "P", ""] {
            let (passed, decision) = asked(Scope::Admin, method, elsewhere, |policy| policy);
            assert_eq!(passed, None, "{method} with {elsewhere:?}");
            let Decision::Trimmed { dropped, .. } = decision else { panic!("{method} is not recorded: {decision:?}") };
            assert!(dropped.contains(&"modelProvider"), "{method}: {dropped:?}");
        }
        let unknown = |policy| Policy { providers: Arc::default(), ..policy };
        assert_eq!(asked(Scope::Admin, method, "p", unknown).0, None, "{method} before Codex said what is configured");
    }
    assert_eq!(asked(Scope::View, "thread/resume", "p", |policy| policy).0, None);
}

#[test]
fn prompts_go_to_models_that_the_host_lists_or_uses_and_to_no_others() {
    let passed = |firewall: &mut Firewall, method: &str, model: &str| {
        let params = json!({ "threadId": THREAD, "turnId": "u", "input": [], "model": model });
        let verdict = call(firewall, method, params);
        (forwarded(&verdict).get("model").cloned(), verdict.audit.decision)
    };
    let methods = [
        "thread/start",
        "thread/resume",
        "thread/fork",
        "turn/start",
        "thread/settings/update",
        "turn/settings/update",
        "thread/realtime/start",
    ];
    for method in methods {
        for known in ["m", "listed"] {
            assert_eq!(passed(&mut with_scope(Scope::Steer), method, known).0, Some(json!(known)), "{method}");
        }
        for other in ["dearer", "M", ""] {
            let (model, decision) = passed(&mut with_scope(Scope::Admin), method, other);
            assert_eq!(model, None, "{method} with {other:?}");
            let Decision::Trimmed { dropped, .. } = decision else { panic!("{method} is not recorded: {decision:?}") };
            assert!(dropped.contains(&"model"), "{method}: {dropped:?}");
        }
    }
    assert_eq!(passed(&mut with_scope(Scope::View), "thread/resume", "m").0, None);
}

#[test]
fn a_thread_of_the_hosts_goes_on_with_its_own_model_also_where_that_is_listed_no_more() {
    let mut firewall = with_scope(Scope::Steer);
    let opened = json!({ "thread": { "id": THREAD }, "cwd": PROJECT, "model": "old",
        "activePermissionProfile": { "id": writing() } });
    let (id, thread) = threads::opened(&opened.to_string()).unwrap();
    firewall.threads.remember(id, thread);
    let prompt = |model: &str| {
        let settings = json!({ "model": model, "reasoning_effort": null, "developer_instructions": null });
        json!({ "threadId": THREAD, "input": [], "collaborationMode": { "mode": "default", "settings": settings } })
    };
    let model = |verdict: &DeviceVerdict| forwarded(verdict)["collaborationMode"]["settings"]["model"].clone();
    for known in ["old", "listed"] {
        assert_eq!(model(&call(&mut firewall, "turn/start", prompt(known))), known);
    }
    let verdict = call(&mut firewall, "turn/start", prompt("dearer"));
    assert_eq!(model(&verdict), "old", "Codex insists on a model there");
    assert!(matches!(verdict.audit.decision, Decision::Trimmed { .. }));
    let settings = json!({ "threadId": THREAD, "threadSettings": { "model": "newer", "cwd": PROJECT,
        "activePermissionProfile": { "id": writing() } } });
    let updated = json!({ "method": "thread/settings/updated", "params": settings });
    firewall.from_codex(updated.to_string().into());
    assert_eq!(model(&call(&mut firewall, "turn/start", prompt("newer"))), "newer");
}

#[test]
fn a_sandbox_of_the_devices_own_would_open_what_the_hosts_profile_denies() {
    for sandbox in ["read-only", "workspace-write", "danger-full-access"] {
        for (method, params) in [
            ("thread/start", json!({"sandbox": sandbox, "ephemeral": false})),
            ("thread/fork", json!({"sandbox": sandbox, "threadId": THREAD})),
        ] {
            let passed = forwarded(&call(&mut with_scope(Scope::Admin), method, params));
            assert_eq!(passed.get("sandbox"), None, "{method} with {sandbox}");
        }
    }
}

#[test]
fn hooks_are_not_switched_off_where_something_can_run() {
    for missing in ["features.shell_tool", "features.unified_exec", "mcp_servers", "default_permissions", "web_search"]
    {
        let mut params = title_thread();
        params["config"].as_object_mut().unwrap().remove(missing);
        let passed = forwarded(&call(&mut with_scope(Scope::Admin), "thread/start", params));
        assert_eq!(passed["config"], trusted(PROJECT), "without {missing}");
    }
    let mut params = title_thread();
    params["config"]["features.hooks"] = json!(true);
    params["config"]["notify"] = json!(["sh"]);
    let config = &forwarded(&call(&mut with_scope(Scope::Admin), "thread/start", params))["config"];
    assert_eq!((&config["features.hooks"], &config["notify"]), (&Value::Null, &Value::Null));
}

#[test]
fn a_setting_that_a_person_chose_is_refused_aloud() {
    for (name, value) in [
        ("approvalPolicy", json!("never")),
        ("approvalPolicy", json!({"granular": {}})),
        ("approvalsReviewer", json!("auto_review")),
        ("permissions", json!(":read-only")),
        ("sandboxPolicy", json!({"type": "readOnly"})),
        ("cwd", json!("/etc")),
    ] {
        let params = json!({"threadId": THREAD, name: value});
        let verdict = call(&mut with_scope(Scope::Admin), "thread/settings/update", params);
        assert_eq!(refusal(&verdict)["reason"], "params", "{name} passed");
    }
    let model = json!({
        "threadId": THREAD, "model": "m", "effort": "low", "approvalPolicy": null, "serviceTier": null,
        "collaborationMode": {"mode": "plan", "settings": {"model": "m", "reasoning_effort": null, "developer_instructions": "d"}},
    });
    assert_eq!(forwarded(&call(&mut with_scope(Scope::Steer), "thread/settings/update", model.clone())), model);
}

#[test]
fn an_owner_can_raise_the_ceiling_and_wishes_below_it_pass() {
    let raised = Arc::new(Ceiling { approval: Some(Approval::OnRequest), ..Ceiling::default() });
    let mut firewall = firewall(Policy { ceiling: raised, ..policy(Scope::Steer) });
    let mut wish = |name: &str, value: Value| {
        call(&mut firewall, "thread/settings/update", json!({"threadId": THREAD, name: value})).to_codex.is_some()
    };
    assert!(wish("approvalPolicy", json!("untrusted")) && wish("approvalPolicy", json!("on-request")));
    assert!(!wish("approvalPolicy", json!("never")) && !wish("approvalPolicy", json!({"granular": {"rules": false}})));
    assert!(!wish("approvalsReviewer", json!("guardian_subagent")));
    // Profiles and sandboxes are the agent's, however high the ceiling.
    for profile in [":workspace", ":read-only", ":danger-full-access", "own"] {
        assert!(!wish("permissions", json!(profile)), "{profile} passed");
    }
    for policy in [json!({"type": "readOnly"}), json!({"type": "workspaceWrite", "writableRoots": []}), json!("x")] {
        assert!(!wish("sandboxPolicy", policy.clone()), "{policy} passed");
    }
}

#[test]
fn a_viewer_resumes_without_choosing_anything() {
    let params = json!({"threadId": THREAD, "excludeTurns": true, "model": "m", "developerInstructions": "d", "sandbox": "read-only", "cwd": "/home/me"});
    let passed = kept(&call(&mut with_scope(Scope::View), "thread/resume", params.clone()));
    assert_eq!(passed, json!({"threadId": THREAD, "excludeTurns": true}));
    let passed = forwarded(&call(&mut with_scope(Scope::Steer), "thread/resume", params));
    assert_eq!(passed["model"], "m");
    for (name, value) in [("history", json!([])), ("path", json!("/home/me/rollout.jsonl"))] {
        let data =
            refusal(&call(&mut with_scope(Scope::Admin), "thread/resume", json!({"threadId": THREAD, name: value})));
        assert_eq!(data["reason"], "params");
    }
}

#[test]
fn what_is_attached_comes_along_and_codex_opens_no_file_for_a_device() {
    let mut firewall = with_scope(Scope::Admin);
    let mut prompt = |item: Value| call(&mut firewall, "turn/start", json!({"threadId": THREAD, "input": [item]}));
    let (png, wav) = ("data:image/png;base64,AAAA", "data:audio/wav;base64,AAAA");
    let image = forwarded(&prompt(json!({"type": "image", "url": png, "detail": null, "secret": 1})));
    assert_eq!(image["input"], json!([{"type": "image", "url": png, "detail": null}]));
    assert!(prompt(json!({"type": "audio", "url": wav})).to_codex.is_some());
    for refused in [
        json!({"type": "localImage", "path": "/home/me/project/a.png"}),
        json!({"type": "localAudio", "path": "/home/me/project/a.wav"}),
        json!({"type": "image", "url": "file:///home/me/project/a.png"}),
        json!({"type": "image", "url": "/home/me/project/a.png"}),
        json!({"type": "image", "url": "https://example.com/a.png"}),
        json!({"type": "image", "url": wav}),
        json!({"type": "audio", "url": png}),
        json!({"type": "image", "url": [png]}),
        json!({"type": "image", "fileId": "file-1"}),
        json!({"type": "audio", "fileId": "file-1"}),
        json!({"type": "new", "path": "/home/me/a"}),
        json!({"path": "/home/me/a"}),
        json!("text"),
        json!([]),
    ] {
        assert_eq!(refusal(&prompt(refused.clone()))["reason"], "params", "{refused} passed");
    }
    for method in ["turn/steer", "thread/queue/add", "thread/queue/update"] {
        let params = json!({"threadId": THREAD, "input": [{"type": "localImage", "path": "/etc/shadow"}]});
        assert_eq!(refusal(&call(&mut with_scope(Scope::Admin), method, params))["reason"], "params", "{method}");
    }
    let plan = json!({"threadId": THREAD, "markdown": "x", "attachmentPath": "/home/me/project/plan.md"});
    assert_eq!(refusal(&call(&mut with_scope(Scope::Admin), "thread/prepareApprovedPlan", plan))["reason"], "params");
}

#[test]
fn the_bytes_of_what_was_attached_do_not_come_back() {
    let mut firewall = with_scope(Scope::View);
    let item = |url: &str| json!({"type": "userMessage", "content": [{"type": "image", "url": url}]});
    let (whole, left) = (item("data:image/png;base64,QUJDRA=="), item("data:image/png;base64,"));
    let mut seen = |message: Value| {
        let CodexVerdict::Forward(seen) = firewall.from_codex(message.to_string().into()) else { panic!("it passes") };
        parsed([&seen])
    };
    let started = |item: &Value| json!({"method": "item/started", "params": {"threadId": THREAD, "item": item}});
    assert_eq!(seen(started(&whole)), started(&left));
    let read = |item: &Value| json!({"id": 3, "result": {"thread": {"turns": [{"items": [item]}]}}});
    assert_eq!(seen(read(&whole)), read(&left));
    about(&mut firewall, "thread/resume", json!({"threadId": THREAD}), PROJECT, "idle");
    let resumed = |item: &Value| json!({"thread": {"id": THREAD, "turns": [{"items": [item]}]}, "cwd": PROJECT});
    assert_eq!(answer(&mut firewall, "result", resumed(&whole)), resumed(&left));
}

#[test]
fn what_codex_says_about_files_quotes_none_of_them() {
    let quoting = METHODS.iter().filter(|method| method.answer == table::AnswerContent::Quotes);
    let mut count = 0;
    for method in quoting {
        count += 1;
        let mut firewall = with_scope(Scope::Admin);
        let params = json!({"threadId": THREAD, "marketplacePath": PROJECT});
        assert!(call(&mut firewall, method.name, params).to_codex.is_some(), "{}", method.name);
        let said = "failed to load configuration: Error parsing project config file /w/config.toml: at line 2, column 3\n2 | SECRET";
        let seen = answer(&mut firewall, "error", json!({"code": -32600, "message": said, "data": {"line": "SECRET"}}));
        assert_eq!(seen["code"], -32600);
        let words = seen["message"].as_str().unwrap();
        assert!(words.starts_with("failed to load configuration in /w/config.toml at line 2, column 3 ("), "{words}");
        assert!(!seen.to_string().contains("SECRET"), "{}: {seen}", method.name);
        let kept = told_the_owner(&mut firewall);
        assert_eq!((kept.method, kept.texts.as_slice()), (method.name, [said.into()].as_slice()));
    }
    assert!(count >= 13, "{count} methods");
    for method in ["skills/list", "hooks/list", "plugin/list", "plugin/installed", "mcpServerStatus/list"] {
        let mut firewall = with_scope(Scope::View);
        call(&mut firewall, method, json!({}));
        let error = json!({"path": "/w/.codex/config.toml", "message": "invalid type: string \"SECRET\""});
        let result = json!({
            "data": [{"errors": [error], "warnings": ["invalid matcher \"SECRET\""], "toolsError": "x: SECRET", "name": "n"}],
            "marketplaceLoadErrors": [error],
        });
        let seen = answer(&mut firewall, "result", result);
        assert_eq!(seen["data"][0]["name"], "n");
        assert!(seen["data"][0]["errors"][0]["message"].as_str().unwrap().starts_with("invalid type ("), "{seen}");
        assert!(!seen.to_string().contains("SECRET"), "{method}: {seen}");
        let kept = told_the_owner(&mut firewall);
        let heads = kept.texts.iter().map(|text| text.head.as_str()).collect::<HashSet<_>>();
        let (error, warning) = ("invalid type: string \"SECRET\"", "invalid matcher \"SECRET\"");
        assert_eq!((kept.method, heads), (method, HashSet::from([error, warning, "x: SECRET"])));
    }
}

#[test]
fn what_codex_says_about_files_by_itself_quotes_none_of_them() {
    let mut firewall = with_scope(Scope::View);
    for (method, params, thread, texts) in [
        (
            "configWarning",
            json!({"summary": "unknown key `SECRET`", "details": "x.rules: \n1 | SECRET", "path": "/w/x.rules"}),
            None,
            vec!["unknown key `SECRET`", "x.rules: \n1 | SECRET"],
        ),
        (
            "warning",
            json!({"threadId": THREAD, "message": "invalid matcher \"SECRET\" in /w/.codex/hooks.json"}),
            Some(THREAD),
            vec!["invalid matcher \"SECRET\" in /w/.codex/hooks.json"],
        ),
        (
            "mcpServer/startupStatus/updated",
            json!({"threadId": THREAD, "name": "n", "status": "failed", "error": "the server said SECRET"}),
            Some(THREAD),
            vec!["n: the server said SECRET"],
        ),
    ] {
        let message = json!({"method": method, "params": params}).to_string();
        let CodexVerdict::Forward(seen) = firewall.from_codex(message.into()) else { panic!("{method} passes") };
        assert!(!parsed([&seen]).to_string().contains("SECRET"), "{method}");
        let kept = told_the_owner(&mut firewall);
        assert_eq!((kept.method, kept.thread.as_deref()), (method, thread));
        assert_eq!(kept.texts, texts.into_iter().map(Into::into).collect::<Vec<_>>());
    }
    let summary = "No sandbox: see https://example.com";
    let plain = json!({"method": "configWarning", "params": {"summary": summary, "details": null}});
    let CodexVerdict::Forward(seen) = firewall.from_codex(plain.to_string().into()) else { panic!("it passes") };
    assert_eq!(parsed([&seen]), plain);
    let warning =
        json!({"method": "warning", "params": {"threadId": THREAD, "message": "Heads up: \"long\" threads cost"}});
    assert_eq!(firewall.from_codex(warning.to_string().into()), CodexVerdict::Forward(warning.to_string().into()));
    assert_eq!(firewall.withheld(), None, "nothing was kept");
}

/// What the owner is told of the last message, once.
fn told_the_owner(firewall: &mut Firewall) -> Withheld {
    let kept = firewall.withheld().expect("the owner is told");
    assert_eq!(firewall.withheld(), None, "told twice");
    kept
}

#[test]
fn an_id_used_twice_brings_no_answer_past_the_firewall() {
    let mut firewall = with_scope(Scope::View);
    let plain = call(&mut firewall, "thread/list", json!({}));
    let looked_at = call(&mut firewall, "config/read", json!({}));
    assert_eq!(parsed(&plain.to_codex)["id"], 7);
    assert_eq!(parsed(&looked_at.to_codex)["id"], "reachback:1");
    firewall.from_codex(json!({"id": 7, "result": {}}).to_string().into());
    let seen = answer(&mut firewall, "result", json!({"config": {"mcp_servers": {"a": "SECRET"}}}));
    assert!(!seen.to_string().contains("SECRET"), "{seen}");
    // What is waited for is bounded, and answered once.
    for _ in 0..super::MAX_AWAITED {
        assert!(call(&mut firewall, "config/read", json!({})).to_codex.is_some());
    }
    assert_eq!(refusal(&call(&mut firewall, "config/read", json!({})))["reason"], "params");
    answer(&mut firewall, "result", json!({}));
    assert!(call(&mut firewall, "config/read", json!({})).to_codex.is_some());
}

#[test]
fn a_viewers_configuration_holds_no_tokens() {
    let result = json!({
        "config": {"model": "m", "mcp_servers": {"a": {"env": {"TOKEN": "SECRET"}}}, "model_providers": {"p": {"http_headers": "SECRET"}}},
        "layers": [{"config": "SECRET"}], "origins": {"model": "SECRET"},
    });
    let read = |scope| {
        let mut firewall = with_scope(scope);
        assert!(call(&mut firewall, "config/read", json!({"includeLayers": true})).to_codex.is_some());
        answer(&mut firewall, "result", result.clone())
    };
    assert_eq!(read(Scope::View), json!({"config": {"model": "m"}, "layers": null, "origins": {}}));
    assert_eq!(read(Scope::Steer), result);
}

#[test]
fn a_client_is_told_that_its_folder_is_known() {
    for (folder, level) in
        [(PROJECT, "trusted"), ("/home/me/x", "untrusted"), (".", "untrusted"), ("/home/me/project/", "trusted")]
    {
        let mut firewall = with_scope(Scope::Approve);
        let passed = forwarded(&call(&mut firewall, "config/read", json!({"cwd": folder, "includeLayers": true})));
        assert_eq!(passed.get("cwd").is_some(), level == "trusted", "{folder}");
        let seen = answer(&mut firewall, "result", json!({"config": {"projects": {"/a": {"trust_level": "trusted"}}}}));
        assert_eq!(seen["config"]["projects"][folder], json!({"trust_level": level}), "{folder}");
        assert_eq!(seen["config"]["projects"]["/a"], json!({"trust_level": "trusted"}));
    }
}

#[test]
fn git_that_only_reads_passes_for_diff_and_nothing_else_runs() {
    let quiet =
        ["git", "-c", "safe.bareRepository=explicit", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"];
    let diff = ["diff", "--no-textconv", "--no-ext-diff", "--submodule=short", "--ignore-submodules=dirty", "--color"];
    let exec = |words: &[&[&str]]| {
        let params =
            json!({"command": words.concat(), "cwd": PROJECT, "timeoutMs": 1, "env": {"GIT_DIR": "/x"}, "size": null});
        call(&mut with_scope(Scope::Approve), "command/exec", params)
    };
    for reads in [
        &[&quiet[..], &["rev-parse", "--is-inside-work-tree"]][..],
        &[&quiet[..3], &["config", "--null", "--get", "core.fsmonitor"]],
        &[&quiet[..], &diff],
        &[&quiet[..], &diff, &["--no-index", "--", "/dev/null", "new/file.txt"]],
    ] {
        let passed = forwarded(&exec(reads));
        assert_eq!(passed["command"], json!(reads.concat()));
        assert_eq!(passed["env"], Value::Null, "the environment is not a device's to choose");
    }
    for runs in [
        &[&["sh", "-c", "id"][..]][..],
        &[&["git", "push"]],
        &[&quiet[..], &["config", "core.pager", "sh"]],
        &[&quiet[..], &["-c", "core.pager=sh"], &diff],
        &[&quiet[..], &diff, &["--output=/home/me/.bashrc"]],
        &[&quiet[..], &diff, &["--no-index", "--", "/dev/null", "/etc/shadow"]],
        &[&quiet[..], &diff, &["--no-index", "--", "/dev/null", "../x"]],
        &[&quiet[..], &diff, &["--no-index", "--", "/dev/null", "a", "b"]],
        &[],
    ] {
        assert_eq!(refusal(&exec(runs))["reason"], "method", "{runs:?} ran");
    }
    let elsewhere = json!({"command": ([&quiet[..], &diff].concat()), "cwd": "/etc"});
    assert_eq!(refusal(&call(&mut with_scope(Scope::Approve), "command/exec", elsewhere))["reason"], "params");
}

#[test]
fn a_command_outside_of_threads_runs_under_the_agents_profile_whatever_a_device_names() {
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(config.path(), "sandbox_mode = 'danger-full-access'").unwrap();
    let profiles = Profiles::new(&ring::rand::SystemRandom::new(), vec![], Some(config.path().to_owned())).unwrap();
    profiles.for_process();
    let own = Arc::new(profiles);
    let ceiling = Arc::new(Ceiling { outside_sandbox: true, ..Ceiling::default() });
    let asked = json!({
        "command": ["git", "status"], "cwd": PROJECT, "env": {"GIT_CONFIG_COUNT": "0"},
        "sandboxPolicy": {"type": "dangerFullAccess"}, "permissionProfile": ":danger-full-access",
    });
    let policy = |is_own_codex| Policy {
        is_own_codex,
        profiles: Arc::clone(&own),
        ceiling: Arc::clone(&ceiling),
        ..policy(Scope::Admin)
    };
    let passed = forwarded(&call(&mut firewall(policy(true)), "command/exec", asked.clone()));
    let held = json!({"command": ["git", "status"], "cwd": PROJECT, "permissionProfile": own.reading().id});
    assert_eq!(passed, held);
    // A server that was there before knows of no profile.
    assert_eq!(refusal(&call(&mut firewall(policy(false)), "command/exec", asked))["reason"], "params");
    let bare = forwarded(&call(&mut firewall(policy(true)), "command/exec", Value::Null));
    assert_eq!(bare, json!({"permissionProfile": own.reading().id}));
}

#[test]
fn no_device_is_asked_to_install_what_a_skill_needs() {
    let asked = json!({"id": 7, "method": "item/tool/requestUserInput", "params": {
        "threadId": THREAD, "turnId": "t", "itemId": "mcp-deps-t", "isBlocking": true, "autoResolutionMs": null,
        "questions": [
            {"id": "other", "header": "h", "question": "q", "options": []},
            {"id": "skill_mcp_dependency_install", "header": "h", "question": "q", "options": []},
        ],
    }});
    let answers = json!({"answers": {"skill_mcp_dependency_install": {"answers": ["Install"]}}});
    for scope in [Scope::View, Scope::Steer, Scope::Approve, Scope::Admin] {
        for is_own_codex in [true, false] {
            let mut firewall = firewall(Policy { is_own_codex, lasting_grants: true, ..policy(scope) });
            let CodexVerdict::Instead(words, audit) = firewall.from_codex(asked.to_string().into()) else {
                panic!("{scope} was asked")
            };
            let words: Value = serde_json::from_slice(&words).unwrap();
            assert_eq!((&words["method"], &words["params"]["threadId"]), (&json!("warning"), &json!(THREAD)));
            assert_eq!((audit.decision, audit.thread.as_deref()), (Decision::Withheld, Some(THREAD)));
            let answer = send(&mut firewall, &json!({"id": 7, "result": answers}));
            assert_eq!((answer.to_codex, answer.audit.decision), (None, Decision::Refused(Reason::NotOpen)));
        }
    }
}

#[test]
fn malformed_parameters_are_refused_with_the_requests_number() {
    for params in
        ["[]", "1", "\"x\"", "true", r#"{"threadId":"a","threadId":"b"}"#, r#"{"threadId":"a","thread\u0049d":"b"}"#]
    {
        let message = format!(r#"{{"id":"x","method":"thread/read","params":{params}}}"#);
        let verdict = send_bytes(&mut with_scope(Scope::Admin), message.as_bytes());
        assert_eq!(refusal(&verdict)["reason"], "malformed", "{params}");
        assert_eq!(parsed(&verdict.to_device)["id"], "x");
    }
    // Also where the value would not have been passed on.
    for hidden in ["config", "runtimeWorkspaceRoots", "unknownParameter", "dynamicTools"] {
        let message = format!(r#"{{"id":1,"method":"thread/start","params":{{"{hidden}":[[{{"a":1,"a":2}}]]}}}}"#);
        let verdict = send_bytes(&mut with_scope(Scope::Admin), message.as_bytes());
        assert_ne!(refusal(&verdict)["reason"], Value::Null, "{hidden}");
    }
    let verdict = send_bytes(&mut with_scope(Scope::Admin), br#"{"id":1,"method":"thread/read""#);
    assert_eq!((verdict.to_codex, verdict.to_device), (None, vec![]));
    assert_eq!(verdict.audit.decision, Decision::Refused(Reason::Malformed));
}

#[test]
fn a_request_that_can_not_be_parsed_is_answered_by_its_id_and_written_down_without_it() {
    let id = "i".repeat(1000);
    for (method, known) in [("thread/read", Some("thread/read")), ("no/such", None)] {
        let message = json!({"id": id, "method": method, "params": {}}).to_string();
        let verdict = send_bytes(&mut with_scope(Scope::Admin), message.as_bytes());
        assert_eq!((parsed(&verdict.to_device)["id"].as_str(), verdict.audit.method), (Some(id.as_str()), known));
        assert_eq!((&refusal(&verdict)["reason"], &refusal(&verdict)["method"]), (&json!("malformed"), &json!(method)));
        assert!(!format!("{:?}", verdict.audit).contains("iii"));
    }
    // It ends at an error to this one, so it hears of it in another way.
    let unknown = json!({"id": 1, "method": "turn/interrupt", "params": {}, "newMember": true});
    let verdict = send(&mut stock(Scope::Admin), &unknown);
    let reply: Value = serde_json::from_slice(&verdict.to_device[0]).unwrap();
    assert_eq!((reply["result"].is_object(), verdict.to_device.len()), (true, 2));

    let batch =
        json!([{"id": 1, "method": "turn/start"}, {"id": "b", "method": "thread/read"}, {"method": "initialized"}]);
    let verdict = send(&mut with_scope(Scope::Admin), &batch);
    let ids = verdict.to_device.iter().map(|reply| serde_json::from_slice::<Value>(reply).unwrap()["id"].clone());
    assert_eq!((ids.collect::<Vec<_>>(), verdict.to_codex), (vec![json!(1), json!("b")], None));
    assert_eq!((verdict.audit.method, verdict.audit.decision), (None, Decision::Refused(Reason::Malformed)));
}

#[test]
fn what_is_no_message_at_all_is_told_from_one_that_is_refused() {
    let garbage: [&[u8]; 9] = [
        b"",
        b"\xff\xfe",
        b"noise",
        b"17",
        b"[]",
        b"{}",
        br#"{"id":1}"#,
        br#"{"id":1,"method":"thread/read""#,
        br#"{"id":1,"result":{}} {}"#,
    ];
    for bytes in garbage {
        let verdict = send_bytes(&mut with_scope(Scope::Admin), bytes);
        assert!(verdict.is_garbage, "{}", String::from_utf8_lossy(bytes));
        assert_eq!((verdict.to_codex, verdict.to_device), (None, vec![]));
        assert_eq!(verdict.audit.decision, Decision::Refused(Reason::Malformed));
    }
    for message in [
        r#"{"id":1,"method":"no/such"}"#,
        r#"{"id":1,"method":"thread/read","newMember":1}"#,
        r#"{"method":"no/such","newMember":1}"#,
        r#"{"id":1,"result":{},"result":{}}"#,
        r#"{"id":1,"error":3}"#,
        r#"[{"id":1,"method":"thread/read"}]"#,
    ] {
        let verdict = send_bytes(&mut with_scope(Scope::Admin), message.as_bytes());
        assert!(verdict.to_codex.is_none() && !verdict.is_garbage, "{message}");
    }
}

#[test]
fn devices_send_no_notifications_but_one() {
    for method in ["warning", "thread/started", "exit", "thread/read", "turn/interrupt"] {
        let verdict = send(&mut with_scope(Scope::Admin), &json!({"method": method, "params": {}}));
        assert_eq!((verdict.to_codex, verdict.audit.decision), (None, Decision::Refused(Reason::Method)), "{method}");
    }
    assert_eq!(refusal(&call(&mut with_scope(Scope::Admin), "initialized", json!({})))["reason"], "malformed");
}

/// A channel of a client that calls itself by the stock client's name.
fn stock(scope: Scope) -> Firewall {
    let mut firewall = Firewall::new(policy(scope));
    let hello = json!({"clientInfo": {"name": "codex-tui", "version": "0.169.0", "title": null}});
    assert!(call(&mut firewall, "initialize", hello).to_codex.is_some());
    firewall
}

#[test]
fn the_stock_client_hears_of_a_refusal_without_ending_at_it() {
    let method = |bytes: &Bytes| serde_json::from_slice::<Value>(bytes).unwrap()["method"].clone();
    for name in super::stock::fatal() {
        let verdict = call(&mut stock(Scope::View), name, json!({"threadId": THREAD, "command": "ls", "name": "n"}));
        assert_eq!(verdict.to_codex, None);
        let [result, notice] = &verdict.to_device[..] else { panic!("{name}: a result, then a notice") };
        assert_eq!(parsed([result]), json!({"id": 7, "result": {}}));
        let notice = parsed([notice]);
        assert_eq!((&notice["method"], &notice["params"]["threadId"]), (&json!("error"), &json!(THREAD)));
        assert!(notice["params"]["error"]["message"].as_str().unwrap().starts_with("Reachback: this "));
        assert!(matches!(verdict.audit.decision, Decision::Refused(_)));
    }
    let verdict = call(&mut stock(Scope::View), "turn/start", json!({"threadId": THREAD, "input": []}));
    let [words, error] = &verdict.to_device[..] else { panic!("a warning, then the error") };
    assert_eq!((method(words), &parsed([error])["error"]["code"]), (json!("warning"), &json!(REFUSED)));
    for quiet in ["thread/readState/update", "no/such/method"] {
        assert_eq!(call(&mut stock(Scope::View), quiet, json!({})).to_device.len(), 1, "{quiet}");
    }
    // Another client hears the same refusal as what it is.
    assert_eq!(refusal(&call(&mut with_scope(Scope::View), "thread/name/set", json!({})))["reason"], "scope");
}

// Answers

#[test]
fn an_approval_passes_once_for_a_device_that_may_approve() {
    let mut firewall = with_scope(Scope::Approve);
    assert!(matches!(
        ask(&mut firewall, 3, FILES, json!({"threadId": THREAD, "grantRoot": null})),
        CodexVerdict::Request(_, RequestId::Number(3))
    ));
    let verdict = send(&mut firewall, &json!({"jsonrpc": "2.0", "id": 3, "result": {"decision": "accept"}}));
    assert_eq!(parsed(&verdict.to_codex), json!({"id": 3, "result": {"decision": "accept"}}));
    assert_eq!(
        verdict.audit,
        Audit {
            method: Some(FILES),
            thread: Some(THREAD.to_owned()),
            decision: Decision::Passed,
            changing: true,
            unguarded: false,
            answer: Some(Choice::Accept),
            folder: None,
        }
    );
    let again = send(&mut firewall, &json!({"id": 3, "result": {"decision": "accept"}}));
    assert_eq!((again.to_codex, again.to_device), (None, vec![]));
    assert_eq!(again.audit.decision, Decision::Refused(Reason::NotOpen));
}

#[test]
fn answers_to_what_is_not_open_here_go_nowhere() {
    let mut firewall = with_scope(Scope::Admin);
    ask(&mut firewall, 3, COMMAND, command_params());
    for id in [json!(2), json!(-3), json!("3")] {
        let verdict = send(&mut firewall, &json!({"id": id, "result": {"decision": "accept"}}));
        assert_eq!((verdict.to_codex, verdict.audit.decision), (None, Decision::Refused(Reason::NotOpen)), "{id}");
        let verdict = send(&mut firewall, &json!({"id": id, "error": {"code": 1, "message": "m"}}));
        assert_eq!((verdict.to_codex, verdict.audit.decision), (None, Decision::Refused(Reason::NotOpen)), "{id}");
    }
    let resolved =
        json!({"method": "serverRequest/resolved", "params": {"threadId": THREAD, "requestId": 3}, "emittedAtMs": 1});
    assert!(matches!(firewall.from_codex(resolved.to_string().into()), CodexVerdict::Forward(_)));
    let late = send(&mut firewall, &json!({"id": 3, "result": {"decision": "accept"}}));
    assert_eq!(late.audit.decision, Decision::Refused(Reason::NotOpen));
    assert_eq!(firewall.open.len(), 0);
}

#[test]
fn approvals_need_the_scope_and_the_device_is_told_what_waits() {
    for scope in [Scope::View, Scope::Steer] {
        let mut firewall = with_scope(scope);
        for (id, method, params) in [(3, COMMAND, command_params()), (4, FILES, json!({"threadId": THREAD}))] {
            let CodexVerdict::Instead(notice, audit) = ask(&mut firewall, id, method, params) else {
                panic!("{method} reached a device with {scope}");
            };
            let notice: Value = serde_json::from_slice(&notice).unwrap();
            assert_eq!((&notice["method"], &notice["params"]["threadId"]), (&json!("warning"), &json!(THREAD)));
            assert!(notice["params"]["message"].as_str().unwrap().contains("`approve`"));
            assert_eq!(audit.decision, Decision::Withheld);
            for answer in [
                json!({"id": id, "result": {"decision": "accept"}}),
                json!({"id": id, "error": {"code": 1, "message": "m"}}),
            ] {
                let verdict = send(&mut firewall, &answer);
                assert_eq!((verdict.to_codex, verdict.audit.decision), (None, Decision::Refused(Reason::Scope)));
                assert_eq!(verdict.to_device.len(), 1, "the person is told");
            }
        }
    }
}

#[test]
fn a_scope_that_changes_counts_from_the_next_answer() {
    let mut firewall = with_scope(Scope::Approve);
    ask(&mut firewall, 3, FILES, json!({"threadId": THREAD}));
    firewall.set_scope(Scope::Steer);
    let accept = json!({"id": 3, "result": {"decision": "accept"}});
    assert_eq!(send(&mut firewall, &accept).audit.decision, Decision::Refused(Reason::Scope));
    firewall.set_policy(policy(Scope::Approve));
    assert_eq!(firewall.policy().scope, Scope::Approve);
    assert!(send(&mut firewall, &accept).to_codex.is_some());
}

#[test]
fn an_answer_that_does_not_fit_leaves_the_request_open() {
    let mut firewall = with_scope(Scope::Approve);
    ask(&mut firewall, 3, COMMAND, command_params());
    for unfit in [
        json!(null),
        json!({}),
        json!({"decision": null}),
        json!({"decision": "approved"}),
        json!({"decision": "accept", "extra": 1}),
        json!({"decision": {"accept": {}}}),
        json!({"decision": {"acceptWithExecpolicyAmendment": {"execpolicy_amendment": ["sh"]}}}),
        json!({"decision": {"acceptWithExecpolicyAmendment": {"execpolicy_amendment": ["touch"], "x": 1}}}),
        json!({"decision": {"applyNetworkPolicyAmendment": {"network_policy_amendment": {"action": "allow", "host": "evil"}}}}),
    ] {
        let verdict = send(&mut firewall, &json!({"id": 3, "result": unfit}));
        assert_eq!((verdict.to_codex, verdict.audit.decision), (None, Decision::Refused(Reason::Params)), "{unfit}");
        assert_eq!(verdict.to_device.len(), 1);
    }
    let twice = send_bytes(&mut firewall, br#"{"id":3,"result":{"decision":"decline","decision":"accept"}}"#);
    assert_eq!((twice.to_codex, twice.audit.decision), (None, Decision::Refused(Reason::Malformed)));
    let odd = send(&mut firewall, &json!({"id": 3, "error": {"code": "x"}}));
    assert_eq!(odd.audit.decision, Decision::Refused(Reason::Params));
    assert_eq!(
        result(&send(&mut firewall, &json!({"id": 3, "result": {"decision": "cancel"}}))),
        json!({"decision": "cancel"})
    );
}

#[test]
fn an_error_ends_a_request_and_is_written_anew() {
    let mut firewall = with_scope(Scope::Approve);
    ask(&mut firewall, 3, COMMAND, command_params());
    let verdict = send(&mut firewall, &json!({"id": 3, "error": {"code": -32601, "message": "no", "data": {"a": 1}}}));
    assert_eq!(
        parsed(&verdict.to_codex),
        json!({"id": 3, "error": {"code": -32601, "message": "no", "data": {"a": 1}}})
    );
    assert_eq!(firewall.open.len(), 0);
}

#[test]
fn lasting_choices_are_not_offered_and_count_once() {
    let mut firewall = with_scope(Scope::Approve);
    let CodexVerdict::Request(shown, _) = ask(&mut firewall, 3, COMMAND, command_params()) else {
        panic!("it is shown")
    };
    let shown: Value = serde_json::from_slice(&shown).unwrap();
    assert_eq!(shown["params"]["availableDecisions"], json!(["accept", "cancel"]));
    assert_eq!(shown["params"]["proposedExecpolicyAmendment"], Value::Null);
    assert_eq!((&shown["params"]["command"], &shown["id"]), (&json!("touch x"), &json!(3)));
    for lasting in
        [json!("acceptForSession"), json!({"acceptWithExecpolicyAmendment": {"execpolicy_amendment": ["touch"]}})]
    {
        let verdict = answered(&mut firewall, COMMAND, command_params(), json!({"decision": lasting}));
        assert_eq!(result(&verdict), json!({"decision": "accept"}));
        assert_eq!(verdict.audit.decision, Decision::Lessened);
        assert_eq!(parsed(&verdict.to_device)["method"], "warning");
    }
    let verdict = answered(&mut firewall, FILES, json!({"threadId": THREAD}), json!({"decision": "acceptForSession"}));
    assert_eq!(result(&verdict), json!({"decision": "accept"}));
    let root = json!({"threadId": THREAD, "grantRoot": "/home/me"});
    assert_eq!(
        result(&answered(&mut firewall, FILES, root, json!({"decision": "accept"}))),
        json!({"decision": "decline"})
    );
    let old = answered(
        &mut firewall,
        "execCommandApproval",
        json!({"conversationId": THREAD}),
        json!({"decision": "approved_for_session"}),
    );
    assert_eq!((result(&old), old.audit.thread.as_deref()), (json!({"decision": "approved"}), Some(THREAD)));
    let patch = json!({"conversationId": THREAD, "grantRoot": "/home/me"});
    let old = answered(&mut firewall, "applyPatchApproval", patch, json!({"decision": "approved"}));
    assert!(result(&old)["decision"]["denied"].is_object());
    let old =
        answered(&mut firewall, "applyPatchApproval", json!({}), json!({"decision": "approved_mcp_policy_amendment"}));
    assert_eq!(old.audit.decision, Decision::Refused(Reason::Params));
}

#[test]
fn network_rules_count_once() {
    let params = json!({"threadId": THREAD, "proposedNetworkPolicyAmendments": [{"action": "allow", "host": "a"}, {"action": "deny", "host": "a"}]});
    let rule = |action: &str| json!({"decision": {"applyNetworkPolicyAmendment": {"network_policy_amendment": {"action": action, "host": "a"}}}});
    let mut firewall = with_scope(Scope::Approve);
    assert_eq!(result(&answered(&mut firewall, COMMAND, params.clone(), rule("allow"))), json!({"decision": "accept"}));
    assert_eq!(result(&answered(&mut firewall, COMMAND, params, rule("deny"))), json!({"decision": "decline"}));
}

#[test]
fn with_the_flag_lasting_choices_pass_as_proposed() {
    let lasting = Policy { lasting_grants: true, ..policy(Scope::Approve) };
    let mut firewall = firewall(lasting);
    let CodexVerdict::Request(shown, _) = ask(&mut firewall, 3, COMMAND, command_params()) else {
        panic!("it is shown")
    };
    assert_eq!(serde_json::from_slice::<Value>(&shown).unwrap()["params"], command_params());
    let amendment =
        |words: Value| json!({"decision": {"acceptWithExecpolicyAmendment": {"execpolicy_amendment": words}}});
    let other = answered(&mut firewall, COMMAND, command_params(), amendment(json!(["touch", "--all"])));
    assert_eq!(other.audit.decision, Decision::Refused(Reason::Params));
    let proposed = answered(&mut firewall, COMMAND, command_params(), amendment(json!(["touch"])));
    assert_eq!(result(&proposed), amendment(json!(["touch"])));
    let human = json!({"threadId": THREAD, "kind": "humanCommand"});
    let session = answered(&mut firewall, COMMAND, human, json!({"decision": "acceptForSession"}));
    assert_eq!(
        session.audit.decision,
        Decision::Refused(Reason::Params),
        "a person's checkpoint takes no lasting answer"
    );
}

#[test]
fn permissions_are_granted_only_with_the_flag_and_only_as_asked() {
    let params = json!({"threadId": THREAD, "cwd": "/", "permissions": {"network": {"enabled": true}, "fileSystem": {"write": ["/home/me/x"]}}});
    let grant = |permissions: Value, scope: &str| json!({"permissions": permissions, "scope": scope});
    let mut without = with_scope(Scope::Approve);
    let verdict = answered(&mut without, PERMISSIONS, params.clone(), grant(params["permissions"].clone(), "session"));
    assert_eq!(result(&verdict), json!({"permissions": {}, "scope": "turn"}));
    assert_eq!(verdict.audit.decision, Decision::Lessened);
    let verdict = answered(&mut without, PERMISSIONS, params.clone(), grant(json!({}), "turn"));
    assert_eq!(verdict.audit.decision, Decision::Passed);

    let mut with = firewall(Policy { lasting_grants: true, ..policy(Scope::Approve) });
    for (permissions, fits) in [
        (params["permissions"].clone(), true),
        (json!({"network": {"enabled": true}}), true),
        (json!({"fileSystem": {"write": ["/home/me/x"]}}), true),
        (json!({"fileSystem": {"write": ["/home/me"]}}), false),
        (json!({"fileSystem": {"read": ["/home/me/x"]}}), false),
        (
            json!({"fileSystem": {"entries": [{"path": {"type": "special", "value": {"kind": "root"}}, "access": "write"}]}}),
            false,
        ),
        (json!({"more": true}), false),
    ] {
        let verdict = answered(&mut with, PERMISSIONS, params.clone(), grant(permissions.clone(), "session"));
        assert_eq!(verdict.to_codex.is_some(), fits, "{permissions}");
    }
    let entry = |access: &str| json!({"path": {"type": "path", "path": "/home/me"}, "access": access});
    let asked = json!({"permissions": {"fileSystem": {"entries": [entry("write"), entry("deny")]}}});
    let wider =
        answered(&mut with, PERMISSIONS, asked, grant(json!({"fileSystem": {"entries": [entry("write")]}}), "turn"));
    assert_eq!(wider.to_codex, None, "what denies may not be left out");
}

#[test]
fn questions_need_steer_and_only_what_was_asked_is_answered() {
    let params = json!({"threadId": THREAD, "questions": [{"id": "q1", "header": "h", "question": "?"}]});
    let answer = |id: &str| json!({"answers": {id: {"answers": ["yes"]}}});
    assert_eq!(result(&answered(&mut with_scope(Scope::Steer), QUESTION, params.clone(), answer("q1"))), answer("q1"));
    let other = answered(&mut with_scope(Scope::Steer), QUESTION, params.clone(), answer("q2"));
    assert_eq!(other.audit.decision, Decision::Refused(Reason::Params));
    assert!(matches!(ask(&mut with_scope(Scope::View), 3, QUESTION, params), CodexVerdict::Instead(..)));
}

#[test]
fn consent_in_the_shape_of_a_question_is_an_approval() {
    let id = "mcp_tool_call_approval_call_1";
    let params = json!({"threadId": THREAD, "questions": [{"id": id, "header": "h", "question": "?"}]});
    assert!(matches!(ask(&mut with_scope(Scope::Steer), 3, QUESTION, params.clone()), CodexVerdict::Instead(..)));
    let mut firewall = with_scope(Scope::Approve);
    let mut say =
        |words: &str| answered(&mut firewall, QUESTION, params.clone(), json!({"answers": {id: {"answers": [words]}}}));
    assert_eq!(result(&say("Allow"))["answers"][id]["answers"], json!(["Allow"]));
    for lasting in ["Allow for this session", "Allow and don't ask me again"] {
        let verdict = say(lasting);
        assert_eq!(result(&verdict)["answers"][id]["answers"], json!(["Allow"]));
        assert_eq!(verdict.audit.decision, Decision::Lessened);
    }
    assert_eq!(result(&say("Approve this Session"))["answers"][id]["answers"], json!(["Approve Once"]));
    assert_eq!(say("Always allow everything").to_codex, None);
}

#[test]
fn forms_need_steer_and_consent_needs_approve() {
    let form = |properties: Value, meta: Value| {
        json!({"threadId": THREAD, "serverName": "s", "mode": "form", "message": "m", "_meta": meta,
            "requestedSchema": {"type": "object", "properties": properties}})
    };
    let field = json!({"name": {"type": "string"}});
    let filled = json!({"action": "accept", "content": {"name": "n"}});
    let plain = form(field.clone(), json!(null));
    assert_eq!(result(&answered(&mut with_scope(Scope::Steer), FORM, plain.clone(), filled.clone())), filled);
    let unfit = answered(&mut with_scope(Scope::Steer), FORM, plain, json!({"action": "allow"}));
    assert_eq!(unfit.audit.decision, Decision::Refused(Reason::Params));
    let consents = [
        form(json!({}), json!(null)),
        form(field.clone(), json!({"codex_approval_kind": "mcp_tool_call"})),
        form(field, json!({"persist": ["session", "always"]})),
        json!({"threadId": THREAD, "serverName": "s", "mode": "url", "url": "https://x", "message": "m", "elicitationId": "e"}),
        json!({"threadId": THREAD, "serverName": "s", "mode": "openai/userVerification", "challenge": "c"}),
        json!({"threadId": THREAD, "serverName": "s", "mode": "new"}),
    ];
    for consent in consents {
        assert!(
            matches!(ask(&mut with_scope(Scope::Steer), 3, FORM, consent.clone()), CodexVerdict::Instead(..)),
            "{consent}"
        );
        let accept = json!({"action": "accept", "_meta": {"persist": "always"}});
        let verdict = answered(&mut with_scope(Scope::Approve), FORM, consent, accept);
        assert_eq!(result(&verdict), json!({"action": "accept"}));
        assert_eq!(verdict.audit.decision, Decision::Lessened);
    }
}

#[test]
fn tools_of_a_client_are_answered_from_steer_on() {
    let params = json!({"threadId": THREAD, "turnId": "t", "callId": "c", "tool": "list_threads", "arguments": {}});
    let output = json!({"success": true, "contentItems": [{"type": "inputText", "text": "x"}, {"type": "inputImage", "imageUrl": "data:"}]});
    assert_eq!(
        result(&answered(&mut with_scope(Scope::Steer), "item/tool/call", params.clone(), output.clone())),
        output
    );
    assert!(matches!(
        ask(&mut with_scope(Scope::View), 3, "item/tool/call", params.clone()),
        CodexVerdict::Instead(..)
    ));
    let odd = answered(
        &mut with_scope(Scope::Steer),
        "item/tool/call",
        params,
        json!({"success": true, "contentItems": [{"type": "x"}]}),
    );
    assert_eq!(odd.to_codex, None);
}

// From Codex

#[test]
fn what_must_never_reach_a_device_does_not() {
    let mut firewall = with_scope(Scope::Admin);
    for method in ["account/chatgptAuthTokens/refresh", "attestation/generate", "new/request"] {
        assert!(matches!(ask(&mut firewall, 3, method, json!({})), CodexVerdict::Drop(_)), "{method}");
        let verdict = send(&mut firewall, &json!({"id": 3, "result": {"accessToken": "x", "token": "x"}}));
        assert_eq!(verdict.audit.decision, Decision::Refused(Reason::NotOpen));
    }
    let CodexVerdict::AnswerInAgent(answer, _) = ask(&mut firewall, 4, "currentTime/read", json!({"threadId": THREAD}))
    else {
        panic!("the agent answers");
    };
    assert_eq!(parsed([&answer.message(1_800_000_000)]), json!({"id": 4, "result": {"currentTimeAt": 1_800_000_000}}));
}

#[test]
fn notifications_and_responses_pass_as_they_came() {
    let mut firewall = with_scope(Scope::View);
    for message in [
        r#"{"method":"item/agentMessage/delta","params":{"threadId":"t","delta":"x","a":1},"emittedAtMs":5}"#,
        r#"{"id":"initialize","result":{"userAgent":"x"}}"#,
        r#"{"id":1,"error":{"code":-32600,"message":"x"}}"#,
        r#"{ "meth\u006fd" : "turn/completed", "params" : {} }"#,
    ] {
        assert_eq!(firewall.from_codex(message.into()), CodexVerdict::Forward(message.into()));
    }
    for message in [
        r#"{"method":"new/notification","params":{}}"#,
        r#"{"method":"serverRequest/resolved","params":{}}"#,
        r#"{"method":"item/started","method":"item/completed"}"#,
        r#"{"id":{},"method":"item/fileChange/requestApproval","params":{}}"#,
        r#"{"id":1,"method":"item/fileChange/requestApproval","params":[]}"#,
        "{}",
        "[]",
        "",
        "\u{0}",
    ] {
        assert!(matches!(firewall.from_codex(message.into()), CodexVerdict::Drop(_)), "{message}");
    }
    assert!(matches!(firewall.from_codex(Bytes::from_static(b"\xff")), CodexVerdict::Drop(_)));
}

#[test]
fn open_requests_are_bounded() {
    let mut firewall = with_scope(Scope::Approve);
    for id in 0..2000 {
        ask(&mut firewall, id, FILES, json!({"threadId": THREAD}));
    }
    assert_eq!(firewall.open.len(), 1024);
    // One that is sent again, as after a resume, still comes through.
    assert!(matches!(ask(&mut firewall, 5, FILES, json!({"threadId": THREAD})), CodexVerdict::Request(..)));
}

// Arbitrary messages

/// Whether a message that reached Codex is one that the table lets this scope send.
fn allowed(bytes: &Bytes, scope: Scope) -> Result<(), TestCaseError> {
    let message: Value = serde_json::from_slice(bytes).map_err(|e| TestCaseError::fail(e.to_string()))?;
    let object = message.as_object().ok_or_else(|| TestCaseError::fail("not an object"))?;
    prop_assert!(object.keys().all(|key| ["id", "method", "params"].contains(&key.as_str())), "{message}");
    let name = object.get("method").and_then(Value::as_str).unwrap_or_default();
    let method = table::method(name).ok_or_else(|| TestCaseError::fail(format!("{name} is not in the table")))?;
    let Access::From(needed) = method.access else { return Err(TestCaseError::fail(format!("{name} passed"))) };
    prop_assert!(scope >= needed, "{name} passed for {scope}");
    let added = |key: &String| match method.thread {
        ThreadUse::Starts | ThreadUse::Resumes | ThreadUse::Forks => {
            ["config", "cwd", "permissions", "runtimeWorkspaceRoots"].contains(&key.as_str())
        }
        ThreadUse::PromptsUnder => key == "permissions",
        _ => false,
    };
    let params = object.get("params").and_then(Value::as_object);
    for key in params.into_iter().flat_map(|params| params.keys()).filter(|key| !added(key)) {
        prop_assert!(table::rule_for(method.params, key).is_some(), "{name} passed {key}");
    }
    prop_assert_eq!(parse::parse(bytes).is_ok(), true, "what passes is itself well formed");
    Ok(())
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|f| json!(f)),
        ".{0,12}".prop_map(Value::from),
        prop_oneof![Just("/etc"), Just("/home/me/x"), Just("never"), Just("danger-full-access"), Just("sh")]
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map("[a-zA-Z_]{1,8}", inner, 0..5).prop_map(|map| Value::from(Map::from_iter(map))),
        ]
    })
}

/// A request of the table's, each of its parameters maybe there with any value.
fn known_request() -> impl Strategy<Value = Value> {
    (0..METHODS.len(), prop::collection::vec(json_value(), 1..8), any::<u64>()).prop_map(|(index, values, present)| {
        let method = &METHODS[index];
        let names = method.params.iter().flat_map(|(_, names)| names.iter());
        let params: Map<String, Value> = names
            .enumerate()
            .filter(|(i, _)| present >> (i % 64) & 1 == 1)
            .map(|(i, name)| ((*name).to_owned(), values[i % values.len()].clone()))
            .collect();
        json!({"id": 1, "method": method.name, "params": params})
    })
}

fn any_scope() -> impl Strategy<Value = Scope> {
    (0..Scope::ALL.len()).prop_map(|i| Scope::ALL[i])
}

/// A top-level member: those of JSON-RPC, and others.
fn envelope_key() -> impl Strategy<Value = String> {
    let known = ["id", "method", "params", "result", "error", "trace", "jsonrpc"];
    prop_oneof![prop::sample::select(known.to_vec()).prop_map(str::to_owned), "[a-zA-Z\u{0}é]{0,8}"]
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_pass_what_the_table_refuses(bytes in prop::collection::vec(any::<u8>(), 0..200), scope in any_scope()) {
        let mut firewall = with_scope(scope);
        if let Some(passed) = send_bytes(&mut firewall, &bytes).to_codex {
            allowed(&passed, scope)?;
        }
        firewall.from_codex(bytes.into());
    }

    #[test]
    fn arbitrary_json_never_passes_what_the_table_refuses(value in json_value(), scope in any_scope()) {
        let mut firewall = with_scope(scope);
        if let Some(passed) = send(&mut firewall, &value).to_codex {
            allowed(&passed, scope)?;
        }
        firewall.from_codex(value.to_string().into());
    }

    #[test]
    fn known_methods_with_any_parameters_pass_only_what_the_table_names(request in known_request(), scope in any_scope()) {
        let mut firewall = with_scope(scope);
        let verdict = send(&mut firewall, &request);
        if let Some(passed) = verdict.to_codex {
            allowed(&passed, scope)?;
            let message: Value = serde_json::from_slice(&passed).unwrap();
            for path in ["cwd", "path"] {
                let place = message["params"].get(path).and_then(Value::as_str);
                let filter = message["method"] == "thread/list";
                let open = |place: &str| place == PROJECT || place == "/srv/repo" || scope >= Scope::Approve && place.starts_with("/home/me/");
                prop_assert!(filter || place.is_none_or(open), "{}", message);
            }
            // The agent's own, for a command outside of any thread.
            let reading = json!({ "type": "readOnly", "networkAccess": false });
            let own = |kept: &str| message["method"] == "command/exec" && message["params"][kept] == reading;
            for kept in ["approvalPolicy", "sandboxPolicy", "history"] {
                prop_assert!(message["params"].get(kept).is_none_or(Value::is_null) || own(kept), "{}", message);
            }
            let profile = &message["params"]["permissions"];
            prop_assert!(profile.as_str().is_none_or(|id| PROFILES.guards(id)), "{}", message);
        } else {
            prop_assert_eq!(verdict.to_device.len(), 1, "a refusal is said");
        }
    }

    #[test]
    fn damaged_messages_never_pass_what_the_table_refuses(
        request in known_request(), scope in any_scope(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        let mut bytes = request.to_string().into_bytes();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        if let Some(passed) = send_bytes(&mut with_scope(scope), &bytes).to_codex {
            allowed(&passed, scope)?;
        }
    }

    #[test]
    fn a_second_copy_of_a_member_never_passes(request in known_request(), escaped in any::<bool>(), scope in any_scope()) {
        let text = request.to_string();
        let again = if escaped { r#","\u006dethod":"process/spawn"}"# } else { r#","method":"process/spawn"}"# };
        let doubled = format!("{}{again}", &text[..text.len() - 1]);
        prop_assert_eq!(send_bytes(&mut with_scope(scope), doubled.as_bytes()).to_codex, None);
    }

    #[test]
    fn arbitrary_answers_never_pass_below_approve(result in json_value(), id in 0i64..6, scope in any_scope()) {
        let mut firewall = with_scope(scope);
        ask(&mut firewall, 1, COMMAND, command_params());
        ask(&mut firewall, 2, FILES, json!({"threadId": THREAD}));
        ask(&mut firewall, 3, PERMISSIONS, json!({"permissions": {}}));
        let verdict = send(&mut firewall, &json!({"id": id, "result": result}));
        prop_assert!(scope >= Scope::Approve || verdict.to_codex.is_none());
        let accept = send(&mut firewall, &json!({"id": id, "result": {"decision": "accept"}}));
        prop_assert!(accept.to_codex.is_none() || (scope >= Scope::Approve && (id == 1 || id == 2)));
    }

    #[test]
    fn whatever_has_an_id_and_a_method_is_answered_or_passed_once(
        members in prop::collection::vec((envelope_key(), json_value()), 0..4),
        id in json_value(), method in prop_oneof![json_value(), known_request().prop_map(|request| request["method"].clone())],
        order in any::<u64>(), scope in any_scope(), is_stock in any::<bool>(),
    ) {
        let mut members: Vec<(String, Value)> = members;
        members.insert(order as usize % (members.len() + 1), ("id".to_owned(), id));
        members.insert((order >> 32) as usize % (members.len() + 1), ("method".to_owned(), method));
        let text: Vec<String> = members.iter().map(|(key, value)| format!("{}:{value}", json!(key))).collect();
        let message = format!("{{{}}}", text.join(","));
        let mut firewall = if is_stock { stock(scope) } else { with_scope(scope) };
        let verdict = send_bytes(&mut firewall, message.as_bytes());
        let replies = verdict.to_device.iter().map(|reply| serde_json::from_slice::<Look<'_>>(reply).unwrap());
        let answers: Vec<Look<'_>> = replies.filter(|reply| reply.method.is_none()).collect();
        prop_assert_eq!(answers.len() + usize::from(verdict.to_codex.is_some()), 1, "{}", message);
        let ids: Vec<&Value> = members.iter().filter(|(key, _)| key == "id").map(|(_, id)| id).collect();
        if let ([Look { id: answered, .. }], [id]) = (&answers[..], &ids[..]) {
            let can_return = id.is_string() || id.is_number();
            let wanted = if can_return { id.to_string() } else { "null".to_owned() };
            // An absent id and `null` read the same here.
            prop_assert_eq!(answered.map_or("null", RawValue::get), wanted, "{}", message);
        }
    }
}
