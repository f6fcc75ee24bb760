//! The firewall as a whole: each refusal, what the stock client needs, and
//! arbitrary messages.

use proptest::prelude::*;

use super::ceiling::{Approval, AsWritten, Sandbox};
use super::table::METHODS;
use super::*;

const THREAD: &str = "0198f000-0000-7000-8000-000000000001";

fn ceiling() -> Ceiling {
    Ceiling { roots: vec!["/home/me".into()], closed: vec!["/home/me/.codex".into()], ..Ceiling::default() }
}

fn policy(scope: Scope) -> Policy {
    Policy { scope, lasting_grants: false, ceiling: Arc::new(ceiling()), paths: Arc::new(AsWritten) }
}

/// A channel on which `initialize` has passed.
fn firewall(policy: Policy) -> Firewall {
    let mut firewall = Firewall::new(policy);
    let hello = json!({"id": 0, "method": "initialize", "params": {"clientInfo": {"name": "t", "version": "1"}}});
    assert!(send(&mut firewall, &hello).to_codex.is_some());
    firewall
}

fn with_scope(scope: Scope) -> Firewall {
    firewall(policy(scope))
}

fn send(firewall: &mut Firewall, message: &Value) -> DeviceVerdict {
    firewall.from_device(message.to_string().as_bytes())
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
        "optOutNotificationMethods": ["serverRequest/resolved", "thread/started"],
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
            let verdict = send(&mut with_scope(scope), &json!({"id": 7, "method": method.name}));
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
        let ceiling = Arc::new(Ceiling { outside_sandbox: true, ..ceiling() });
        firewall(Policy { ceiling, ..policy(scope) })
    };
    let shell = json!({"threadId": THREAD, "command": "ls"});
    assert_eq!(forwarded(&call(&mut open(Scope::Approve), "thread/shellCommand", shell.clone())), shell);
    assert_eq!(refusal(&call(&mut open(Scope::Steer), "thread/shellCommand", shell))["reason"], "scope");
    let exec = json!({"command": ["rm", "-rf", "x"], "tty": true});
    assert_eq!(forwarded(&call(&mut open(Scope::Approve), "command/exec", exec.clone())), exec);
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
        assert_eq!(
            forwarded(&call(&mut with_scope(Scope::Steer), method, params.clone())),
            json!({"threadId": THREAD})
        );
        assert_eq!(forwarded(&call(&mut with_scope(Scope::Approve), method, params.clone())), params);
    }
}

#[test]
fn a_prompt_for_a_thread_elsewhere_stays_there() {
    let params = json!({"threadId": THREAD, "input": [], "cwd": "/srv/project"});
    let verdict = call(&mut with_scope(Scope::Steer), "turn/start", params);
    assert_eq!(forwarded(&verdict), json!({"threadId": THREAD, "input": []}));
}

#[test]
fn a_new_thread_starts_below_the_roots_or_not_at_all() {
    let mut firewall = with_scope(Scope::Approve);
    let start = |firewall: &mut Firewall, cwd: &str| call(firewall, "thread/start", json!({"cwd": cwd}));
    assert_eq!(forwarded(&start(&mut firewall, "/home/me/a/../b/."))["cwd"], "/home/me/b");
    for outside in ["/", "/etc", "/home/me/../you", "/home/me/.codex", "relative", ""] {
        let verdict = start(&mut firewall, outside);
        assert_eq!(refusal(&verdict)["reason"], "params", "{outside:?} passed");
        let said = parsed(&verdict.to_device)["error"]["message"].to_string();
        assert!(
            said.contains("cwd") && !said.contains("/etc"),
            "{said} should name the parameter, and not repeat its value"
        );
    }
    assert_eq!(refusal(&call(&mut firewall, "thread/start", json!({"cwd": ["/home/me"]})))["reason"], "params");
    let environments = json!({"environments": [{"environmentId": "local", "cwd": "/etc"}]});
    assert_eq!(refusal(&call(&mut firewall, "thread/start", environments))["reason"], "params");
}

#[test]
fn overrides_of_a_new_thread_are_the_hosts() {
    let params = json!({
        "cwd": null, "sandbox": "workspace-write", "approvalPolicy": "never", "approvalsReviewer": "user", "permissions": "own-profile",
        "config": {"model_reasoning_effort": "low", "mcp_servers": {"x": {"command": "sh"}}, "sandbox_mode": "danger-full-access", "notify": ["sh"]},
        "selectedCapabilityRoots": [{"id": "x", "location": {"type": "environment", "environmentId": "local", "path": "/tmp"}}],
        "dynamicTools": [], "ephemeral": true,
    });
    let passed = forwarded(&call(&mut with_scope(Scope::Admin), "thread/start", params));
    let kept = json!({
        "cwd": null, "approvalsReviewer": "user", "config": {"model_reasoning_effort": "low"}, "dynamicTools": [], "ephemeral": true,
    });
    assert_eq!(passed, kept);
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
        "model": "m", "modelProvider": "p", "cwd": "/home/me/x", "sandbox": "read-only", "config": config, "ephemeral": true,
        "threadSource": "thread_title", "environments": [], "dynamicTools": [],
    })
}

#[test]
fn the_stock_clients_title_thread_has_no_tools() {
    let mut params = title_thread();
    let verdict = call(&mut with_scope(Scope::Steer), "thread/start", params.clone());
    params.as_object_mut().unwrap().remove("sandbox");
    assert_eq!(forwarded(&verdict), params);
    assert_eq!(verdict.audit.decision, Decision::Trimmed { dropped: vec!["sandbox"], unknown: 0 });
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
        assert_eq!(passed["config"], Value::Null, "without {missing}");
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
    let raised =
        Arc::new(Ceiling { sandbox: Some(Sandbox::WorkspaceWrite), approval: Some(Approval::OnRequest), ..ceiling() });
    let mut firewall = firewall(Policy { ceiling: raised, ..policy(Scope::Steer) });
    let mut wish = |name: &str, value: Value| {
        call(&mut firewall, "thread/settings/update", json!({"threadId": THREAD, name: value})).to_codex.is_some()
    };
    assert!(wish("approvalPolicy", json!("untrusted")) && wish("approvalPolicy", json!("on-request")));
    assert!(!wish("approvalPolicy", json!("never")) && !wish("approvalPolicy", json!({"granular": {"rules": false}})));
    assert!(!wish("approvalsReviewer", json!("guardian_subagent")));
    assert!(wish("permissions", json!(":workspace")) && wish("permissions", json!(":read-only")));
    assert!(!wish("permissions", json!(":danger-full-access")) && !wish("permissions", json!("own")));
    assert!(wish(
        "sandboxPolicy",
        json!({"type": "workspaceWrite", "writableRoots": ["/home/me/x"], "excludeSlashTmp": true})
    ));
    for wide in [
        json!({"type": "dangerFullAccess"}),
        json!({"type": "externalSandbox"}),
        json!({"type": "readOnly", "networkAccess": true}),
        json!({"type": "workspaceWrite", "networkAccess": true}),
        json!({"type": "workspaceWrite", "writableRoots": ["/"]}),
        json!({"type": "workspaceWrite", "writableRoots": ["/home/me/../you"]}),
        json!({"type": "workspaceWrite", "new": 1}),
        json!("workspaceWrite"),
    ] {
        assert!(!wish("sandboxPolicy", wide.clone()), "{wide} passed");
    }
}

#[test]
fn a_viewer_resumes_without_choosing_anything() {
    let params = json!({"threadId": THREAD, "excludeTurns": true, "model": "m", "developerInstructions": "d", "sandbox": "read-only", "cwd": "/home/me"});
    let passed = forwarded(&call(&mut with_scope(Scope::View), "thread/resume", params.clone()));
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
fn what_is_attached_lies_below_the_roots() {
    let mut firewall = with_scope(Scope::Steer);
    let mut prompt = |item: Value| call(&mut firewall, "turn/start", json!({"threadId": THREAD, "input": [item]}));
    let image = forwarded(&prompt(json!({"type": "localImage", "path": "/home/me/a.png", "secret": 1})));
    assert_eq!(image["input"], json!([{"type": "localImage", "path": "/home/me/a.png"}]));
    for refused in [
        json!({"type": "localImage", "path": "/etc/shadow"}),
        json!({"type": "localAudio", "path": "/home/me/.codex/auth.json"}),
        json!({"type": "new", "path": "/home/me/a"}),
        json!({"path": "/home/me/a"}),
        json!("text"),
        json!([]),
    ] {
        assert_eq!(refusal(&prompt(refused.clone()))["reason"], "params", "{refused} passed");
    }
}

#[test]
fn git_that_only_reads_passes_for_diff_and_nothing_else_runs() {
    let quiet =
        ["git", "-c", "safe.bareRepository=explicit", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"];
    let diff = ["diff", "--no-textconv", "--no-ext-diff", "--submodule=short", "--ignore-submodules=dirty", "--color"];
    let exec = |words: &[&[&str]]| {
        let params = json!({"command": words.concat(), "cwd": "/home/me/p", "timeoutMs": 1, "env": {"GIT_DIR": "/x"}, "size": null});
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
fn malformed_parameters_are_refused_with_the_requests_number() {
    for params in
        ["[]", "1", "\"x\"", "true", r#"{"threadId":"a","threadId":"b"}"#, r#"{"threadId":"a","thread\u0049d":"b"}"#]
    {
        let message = format!(r#"{{"id":"x","method":"thread/read","params":{params}}}"#);
        let verdict = with_scope(Scope::Admin).from_device(message.as_bytes());
        assert_eq!(refusal(&verdict)["reason"], "malformed", "{params}");
        assert_eq!(parsed(&verdict.to_device)["id"], "x");
    }
    // Also where the value would not have been passed on.
    for hidden in ["config", "runtimeWorkspaceRoots", "unknownParameter", "dynamicTools"] {
        let message = format!(r#"{{"id":1,"method":"thread/start","params":{{"{hidden}":[[{{"a":1,"a":2}}]]}}}}"#);
        let verdict = with_scope(Scope::Admin).from_device(message.as_bytes());
        assert_ne!(refusal(&verdict)["reason"], Value::Null, "{hidden}");
    }
    let verdict = with_scope(Scope::Admin).from_device(br#"{"id":1,"method":"thread/read""#);
    assert_eq!((verdict.to_codex, verdict.to_device), (None, vec![]));
    assert_eq!(verdict.audit.decision, Decision::Refused(Reason::Malformed));
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
    for quiet in ["config/read", "thread/readState/update", "no/such/method"] {
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
        CodexVerdict::Forward(_)
    ));
    let verdict = send(&mut firewall, &json!({"jsonrpc": "2.0", "id": 3, "result": {"decision": "accept"}}));
    assert_eq!(parsed(&verdict.to_codex), json!({"id": 3, "result": {"decision": "accept"}}));
    assert_eq!(
        verdict.audit,
        Audit { method: Some(FILES), thread: Some(THREAD.to_owned()), decision: Decision::Passed, changing: true }
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
    let twice = firewall.from_device(br#"{"id":3,"result":{"decision":"decline","decision":"accept"}}"#);
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
    let CodexVerdict::Forward(shown) = ask(&mut firewall, 3, COMMAND, command_params()) else { panic!("it is shown") };
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
    let CodexVerdict::Forward(shown) = ask(&mut firewall, 3, COMMAND, command_params()) else { panic!("it is shown") };
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
    assert!(matches!(ask(&mut firewall, 5, FILES, json!({"threadId": THREAD})), CodexVerdict::Forward(_)));
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
    for key in object.get("params").and_then(Value::as_object).into_iter().flat_map(|params| params.keys()) {
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

proptest! {
    #[test]
    fn arbitrary_bytes_never_pass_what_the_table_refuses(bytes in prop::collection::vec(any::<u8>(), 0..200), scope in any_scope()) {
        let mut firewall = with_scope(scope);
        if let Some(passed) = firewall.from_device(&bytes).to_codex {
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
                prop_assert!(filter || place.is_none_or(|place| place.starts_with("/home/me")), "{}", message);
            }
            for kept in ["approvalPolicy", "permissions", "sandboxPolicy", "runtimeWorkspaceRoots", "history"] {
                prop_assert!(message["params"].get(kept).is_none_or(Value::is_null), "{}", message);
            }
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
        if let Some(passed) = with_scope(scope).from_device(&bytes).to_codex {
            allowed(&passed, scope)?;
        }
    }

    #[test]
    fn a_second_copy_of_a_member_never_passes(request in known_request(), escaped in any::<bool>(), scope in any_scope()) {
        let text = request.to_string();
        let again = if escaped { r#","\u006dethod":"process/spawn"}"# } else { r#","method":"process/spawn"}"# };
        let doubled = format!("{}{again}", &text[..text.len() - 1]);
        prop_assert_eq!(with_scope(scope).from_device(doubled.as_bytes()).to_codex, None);
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
}
