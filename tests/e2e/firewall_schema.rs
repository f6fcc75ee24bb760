//! The firewall's table against what the pinned Codex says that it speaks.
//!
//! Whoever raises the pinned version reads here what is new: each method,
//! parameter, notification, request and field of an answer that the table does
//! not classify, and each that it still names although Codex dropped it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use reachback_host::firewall::responses::SERVER_REQUESTS;
use reachback_host::firewall::table::{Access, METHODS, NOTIFICATIONS, Params, Rule, ThreadUse, rule_for};
use reachback_proto::scope::Scope;
use serde_json::{Value, json};

type Names = BTreeSet<String>;

/// The parameters of each request from Codex that somebody looked at: what of them lasts, what makes it an approval.
const REQUEST_PARAMS: &[(&str, &[&str])] = &[
    (
        "item/commandExecution/requestApproval",
        &[
            "additionalPermissions",
            "approvalId",
            "availableDecisions",
            "command",
            "commandActions",
            "cwd",
            "environmentId",
            "itemId",
            "kind",
            "networkApprovalContext",
            "proposedExecpolicyAmendment",
            "proposedNetworkPolicyAmendments",
            "reason",
            "startedAtMs",
            "threadId",
            "turnId",
        ],
    ),
    ("item/fileChange/requestApproval", &["grantRoot", "itemId", "reason", "startedAtMs", "threadId", "turnId"]),
    ("item/tool/requestUserInput", &["autoResolutionMs", "isBlocking", "itemId", "questions", "threadId", "turnId"]),
    (
        "mcpServer/elicitation/request",
        &[
            "_meta",
            "challenge",
            "description",
            "elicitationId",
            "message",
            "mode",
            "requestedSchema",
            "serverName",
            "threadId",
            "title",
            "turnId",
            "url",
        ],
    ),
    (
        "item/permissions/requestApproval",
        &["cwd", "environmentId", "itemId", "permissions", "reason", "startedAtMs", "threadId", "turnId"],
    ),
    ("item/tool/call", &["arguments", "callId", "namespace", "threadId", "tool", "turnId"]),
    ("account/chatgptAuthTokens/refresh", &["previousAccountId", "reason"]),
    ("attestation/generate", &[]),
    ("currentTime/read", &["threadId"]),
    ("applyPatchApproval", &["callId", "conversationId", "fileChanges", "grantRoot", "reason"]),
    ("execCommandApproval", &["approvalId", "callId", "command", "conversationId", "cwd", "parsedCmd", "reason"]),
];

/// The values that an answer may choose from, by the name of their type. The old names' decisions in parts are refused.
const CHOICES: &[(&str, &str, &[&str])] = &[
    (
        "CommandExecutionRequestApprovalResponse",
        "CommandExecutionApprovalDecision",
        &[
            "accept",
            "acceptForSession",
            "acceptWithExecpolicyAmendment",
            "applyNetworkPolicyAmendment",
            "cancel",
            "decline",
        ],
    ),
    (
        "FileChangeRequestApprovalResponse",
        "FileChangeApprovalDecision",
        &["accept", "acceptForSession", "cancel", "decline"],
    ),
    ("McpServerElicitationRequestResponse", "McpServerElicitationAction", &["accept", "cancel", "decline"]),
    ("PermissionsRequestApprovalResponse", "PermissionGrantScope", &["session", "turn"]),
    (
        "ExecCommandApprovalResponse",
        "ReviewDecision",
        &[
            "abort",
            "approved",
            "approved_execpolicy_amendment",
            "approved_for_session",
            "approved_mcp_policy_amendment",
            "denied",
            "network_policy_amendment",
            "timed_out",
        ],
    ),
];

/// Parameters that pass as they are although they look like a place or a permission, or may hold anything; and why that is
/// no way into a folder, a file or another profile.
const LOOKED_AT: &[(&str, &str)] = &[
    ("initialize.capabilities.extensions{}", "what a client can show"),
    ("mcpServer/resource/read._meta{}", "for the MCP server, which the owner chose"),
    ("mcpServer/resource/read.uri", "names a resource of the MCP server, which the owner chose; from `approve` on"),
    ("thread/approveGuardianDeniedAction.event", "an approval; from `approve` on"),
    ("thread/attachment/add.payload", "kept for lists, and opened by nobody"),
    ("thread/inject_items.items[]", "what the model remembers; nothing in it is opened; from `approve` on"),
    ("thread/list.cwd", "a filter"),
    ("thread/metadata/update.gitInfo.originUrl", "shown in lists"),
    ("thread/queue/add.input[](mention).path", "a name for the model; Codex opens nothing for it"),
    ("thread/queue/add.input[](skill).path", "compared with the skills that Codex loaded itself"),
    ("thread/queue/update.input[](mention).path", "a name for the model; Codex opens nothing for it"),
    ("thread/queue/update.input[](skill).path", "compared with the skills that Codex loaded itself"),
    ("thread/start.dynamicTools[].inputSchema", "describes a tool to the model"),
    ("thread/start.dynamicTools[].tools[].inputSchema", "describes a tool to the model"),
    ("turn/start.input[](mention).path", "a name for the model; Codex opens nothing for it"),
    ("turn/start.input[](skill).path", "compared with the skills that Codex loaded itself"),
    ("turn/start.outputSchema", "describes the answer to the model"),
    ("turn/start.rootTurnId", "a turn's id"),
    ("turn/start.toolOutput.output[].audio_url", "goes to the model as it is, and is not opened; from `approve` on"),
    ("turn/start.toolOutput.output[].file_id", "goes to the model as it is, and is not opened; from `approve` on"),
    ("turn/start.toolOutput.output[].image_url", "goes to the model as it is, and is not opened; from `approve` on"),
    ("turn/steer.input[](mention).path", "a name for the model; Codex opens nothing for it"),
    ("turn/steer.input[](skill).path", "compared with the skills that Codex loaded itself"),
];

/// Methods that change something about a thread, whatever profile holds there, and why the model does not act in it by that.
const NO_PROMPTS: &[(&str, &str)] = &[
    ("mcpServer/event/stream/start", "outside of turns and sandbox; only where the ceiling opens that"),
    ("mcpServer/resource/read", "reads from an MCP server, which the owner chose"),
    ("mcpServer/tool/call", "outside of turns and sandbox; only where the ceiling opens that"),
    ("thread/archive", "tidies"),
    ("thread/attachment/add", "what lists show"),
    ("thread/attachment/remove", "what lists show"),
    ("thread/backgroundTerminals/clean", "ends work"),
    ("thread/backgroundTerminals/terminate", "ends work"),
    ("thread/decrement_elicitation", "holds timeouts"),
    ("thread/delete", "tidies, for good"),
    ("thread/goal/clear", "ends work"),
    ("thread/increment_elicitation", "holds timeouts"),
    ("thread/memoryMode/set", "whether a thread is remembered"),
    ("thread/metadata/update", "what lists show; a project moves no thread"),
    ("thread/name/set", "what lists show"),
    ("thread/queue/delete", "ends work"),
    ("thread/queue/reorder", "the order of prompts that passed"),
    ("thread/readState/update", "what lists show"),
    ("thread/realtime/stop", "ends work"),
    ("thread/revert", "forgets turns"),
    ("thread/section/move", "what lists show"),
    ("thread/unarchive", "tidies"),
    ("turn/interrupt", "ends work"),
];

#[test]
fn no_rule_lets_a_place_or_a_permission_pass_unseen() {
    let schema = Schema::generate();
    let root = schema.read("ClientRequest");
    let described = schema.methods("ClientRequest");
    let old = schema.typescript_methods("ClientRequest");
    let mut unseen = Names::new();
    for method in METHODS.iter().filter(|method| matches!(method.access, Access::From(_))) {
        match (described.get(method.name), old.get(method.name)) {
            (Some(params), _) => unseen_in(&root, method.name, method.params, params, &mut unseen),
            (None, Some(params)) => {
                let type_of = |name: &String| (name.clone(), json!({ "type": "string" }));
                let fields: serde_json::Map<_, _> =
                    fields_of_type(&schema.typescript(params)).iter().map(type_of).collect();
                unseen_in(&root, method.name, method.params, &json!({ "properties": fields }), &mut unseen);
            }
            (None, None) => {}
        }
    }
    let mut wrong = Vec::new();
    compare("a place or a permission that passes unseen:", &unseen, &reviewed(LOOKED_AT), &mut wrong);
    assert!(
        wrong.is_empty(),
        "give it a rule of its own in host-agent/src/firewall/table.rs, or say in LOOKED_AT why it needs none:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn what_changes_a_thread_says_whether_the_model_acts() {
    let takes_a_thread = |params: &'static Params| rule_for(params, "threadId").is_some();
    let changing = METHODS.iter().filter(|method| !matches!(method.access, Access::From(Scope::View) | Access::Never));
    let free = changing.filter(|method| method.thread == ThreadUse::Any && takes_a_thread(method.params));
    let mut wrong = Vec::new();
    compare(
        "method that changes a thread",
        &free.map(|m| m.name.to_owned()).collect(),
        &reviewed(NO_PROMPTS),
        &mut wrong,
    );
    assert!(
        wrong.is_empty(),
        "give it a ThreadUse in host-agent/src/firewall/table.rs, or say in NO_PROMPTS why it needs none:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn a_new_place_or_permission_does_not_pass_unseen() {
    static INNER: &Params = &[(Rule::Pass, &["path", "note"]), (Rule::Drop, &["folder"])];
    static EACH: Rule = Rule::Object(INNER);
    static RULES: &Params = &[
        (Rule::Pass, &["threadId", "workingDir", "target", "extra", "profileName", "nested", "note"]),
        (Rule::From(Scope::Admin), &["sandboxPolicy"]),
        (Rule::Opens, &["cwd"]),
        (Rule::Each(&EACH), &["list"]),
        (Rule::ByType(&[("file", &[(Rule::Pass, &["type", "url"])])]), &["item"]),
    ];
    let root = json!({ "definitions": {
        "AbsolutePathBuf": { "type": "string" },
        "Nested": { "properties": { "again": { "$ref": "#/definitions/Nested" }, "save_to": { "anyOf": [
            { "$ref": "#/definitions/AbsolutePathBuf" }, { "type": "null" },
        ] } } },
    } });
    let text = json!({ "type": "string" });
    let schema = json!({ "properties": {
        "threadId": text, "note": text, "cwd": text, "workingDir": text, "profileName": text, "sandboxPolicy": text,
        "target": { "type": "array", "items": { "$ref": "#/definitions/AbsolutePathBuf" } },
        "extra": true,
        "nested": { "$ref": "#/definitions/Nested" },
        "list": { "items": { "properties": { "path": text, "note": text, "folder": text } } },
        "item": { "oneOf": [{ "properties": { "type": { "enum": ["file"] }, "url": text } }] },
        "unknown": { "$ref": "#/definitions/AbsolutePathBuf" },
    } });
    let mut unseen = Names::new();
    unseen_in(&root, "m", RULES, &schema, &mut unseen);
    let wanted = [
        "extra",
        "item(file).url",
        "list[].path",
        "nested.save_to",
        "profileName",
        "sandboxPolicy",
        "target[]",
        "workingDir",
    ];
    assert_eq!(unseen, wanted.map(|name| format!("m.{name}")).into());
}

#[test]
fn the_table_knows_all_that_the_pinned_codex_speaks_and_nothing_else() {
    let schema = Schema::generate();
    let mut wrong = Vec::new();
    schema.check_methods(&mut wrong);
    schema.check_params(&mut wrong);
    schema.check_notifications(&mut wrong);
    schema.check_requests(&mut wrong);
    schema.check_envelopes(&mut wrong);
    assert!(
        wrong.is_empty(),
        "host-agent/src/firewall/{{table,responses}}.rs and the pinned Codex differ in {} places:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// The schema that the pinned Codex generates: JSON, and TypeScript for the few old methods that its JSON leaves out.
struct Schema {
    json: tempfile::TempDir,
    types: tempfile::TempDir,
}

impl Schema {
    fn generate() -> Self {
        let codex = Path::new(env!("CARGO_MANIFEST_DIR")).join("codex/node_modules/.bin/codex");
        assert!(codex.exists(), "{} is not there: run `npm ci` in tests/codex", codex.display());
        let schema = Self { json: tempfile::tempdir().unwrap(), types: tempfile::tempdir().unwrap() };
        for (command, dir) in [("generate-json-schema", &schema.json), ("generate-ts", &schema.types)] {
            let home = tempfile::tempdir().unwrap();
            let output = Command::new(&codex)
                .args(["app-server", command, "--experimental", "--out"])
                .arg(dir.path())
                .env("CODEX_HOME", home.path())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "codex app-server {command}: {}\n{said}", output.status);
        }
        schema
    }

    fn read(&self, name: &str) -> Value {
        let path = self.json.path().join(name).with_extension("json");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        serde_json::from_str(&text).unwrap()
    }

    fn typescript(&self, name: &str) -> String {
        let path = self.types.path().join(PathBuf::from(name)).with_extension("ts");
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// Methods of a union of messages, each with the schema of its parameters.
    fn methods(&self, union: &str) -> BTreeMap<String, Value> {
        let root = self.read(union);
        let messages = root["oneOf"].as_array().expect("a union of messages");
        let entry = |message: &Value| {
            let name = message["properties"]["method"]["enum"][0].as_str().expect("a method's name").to_owned();
            (name, message["properties"]["params"].clone())
        };
        messages.iter().map(entry).collect()
    }

    /// The same from TypeScript, where each parameter type is only named.
    fn typescript_methods(&self, union: &str) -> BTreeMap<String, String> {
        let text = self.typescript(union);
        let entry = |part: &str| {
            let (name, rest) = part.split_once('"').expect("a quoted name");
            let params = rest.split_once("params: ").map_or("", |(_, params)| params);
            let end = params.find(|c: char| !c.is_alphanumeric()).unwrap_or(params.len());
            (name.to_owned(), params[..end].to_owned())
        };
        text.split("\"method\": \"").skip(1).map(entry).collect()
    }

    fn check_methods(&self, wrong: &mut Vec<String>) {
        let mut spoken: Names = self.methods("ClientRequest").into_keys().collect();
        spoken.extend(self.typescript_methods("ClientRequest").into_keys());
        spoken.extend(self.methods("ClientNotification").into_keys());
        compare("method", &spoken, &METHODS.iter().map(|m| m.name.to_owned()).collect(), wrong);
        // The firewall lets devices send this notification and no other.
        let notifications: Names = self.methods("ClientNotification").into_keys().collect();
        compare("client notification", &notifications, &Names::from(["initialized".to_owned()]), wrong);
    }

    fn check_params(&self, wrong: &mut Vec<String>) {
        let root = self.read("ClientRequest");
        let described = self.methods("ClientRequest");
        let old = self.typescript_methods("ClientRequest");
        for method in METHODS.iter().filter(|m| m.access != Access::Never && m.name != "initialized") {
            match (described.get(method.name), old.get(method.name)) {
                (Some(params), _) => check_object(&root, method.name, method.params, params, wrong),
                (None, Some(params)) => compare(
                    &format!("{}: parameter", method.name),
                    &fields_of_type(&self.typescript(params)),
                    &names(method.params),
                    wrong,
                ),
                (None, None) => {}
            }
        }
    }

    fn check_notifications(&self, wrong: &mut Vec<String>) {
        let mut spoken: Names = self.methods("ServerNotification").into_keys().collect();
        spoken.extend(self.typescript_methods("ServerNotification").into_keys());
        compare("notification", &spoken, &NOTIFICATIONS.iter().map(|n| (*n).to_owned()).collect(), wrong);
    }

    fn check_requests(&self, wrong: &mut Vec<String>) {
        let root = self.read("ServerRequest");
        let spoken = self.methods("ServerRequest");
        let known = SERVER_REQUESTS.iter().map(|r| r.name.to_owned()).collect();
        compare("request from Codex", &spoken.keys().cloned().collect(), &known, wrong);
        for request in SERVER_REQUESTS {
            let Some(params) = spoken.get(request.name) else { continue };
            let looked_at = REQUEST_PARAMS.iter().find(|(name, _)| *name == request.name).map(|(_, params)| *params);
            let looked_at = looked_at.unwrap_or_default().iter().map(|p| (*p).to_owned()).collect();
            compare(&format!("{}: parameter from Codex", request.name), &fields(&root, params), &looked_at, wrong);

            let reference = params["$ref"].as_str().expect("a named type");
            let answer = reference.rsplit('/').next().expect("a name").replace("Params", "Response");
            let answer = self.read(&answer);
            let fitting = request.result.iter().map(|f| (*f).to_owned()).collect();
            compare(&format!("{}: field of the answer", request.name), &fields(&answer, &answer), &fitting, wrong);
        }
        for (answer, choice, known) in CHOICES {
            let answer = self.read(answer);
            let known = known.iter().map(|c| (*c).to_owned()).collect();
            compare(&format!("{choice}: choice"), &choices(&answer["definitions"][choice]), &known, wrong);
        }
    }

    fn check_envelopes(&self, wrong: &mut Vec<String>) {
        for (kind, known) in [
            ("JSONRPCRequest", &["id", "method", "params", "trace"][..]),
            ("JSONRPCNotification", &["method", "params"]),
            ("JSONRPCResponse", &["id", "result"]),
            ("JSONRPCError", &["error", "id"]),
            ("JSONRPCErrorError", &["code", "data", "message"]),
        ] {
            let envelope = self.read(kind);
            let known = known.iter().map(|m| (*m).to_owned()).collect();
            compare(&format!("{kind}: member"), &fields(&envelope, &envelope), &known, wrong);
        }
    }
}

/// Compares the members of one object with its rules, and those inside where the rules go inside.
fn check_object(root: &Value, place: &str, rules: &'static Params, schema: &Value, wrong: &mut Vec<String>) {
    compare(&format!("{place}: parameter"), &fields(root, schema), &names(rules), wrong);
    for (rule, names) in rules {
        for name in *names {
            if let Some(inside) = field(root, schema, name) {
                check_rule(root, &format!("{place}.{name}"), *rule, inside, wrong);
            }
        }
    }
}

fn check_rule(root: &Value, place: &str, rule: Rule, schema: &Value, wrong: &mut Vec<String>) {
    match rule {
        Rule::Object(rules) => check_object(root, place, rules, schema, wrong),
        Rule::Each(rule) => {
            let item = parts(root, schema).into_iter().find_map(|part| part.get("items"));
            check_rule(root, &format!("{place}[]"), *rule, item.expect("a list"), wrong);
        }
        Rule::ByType(types) => {
            let tag = |part: &Value| part["properties"]["type"]["enum"][0].as_str().map(str::to_owned);
            let variants: BTreeMap<String, &Value> =
                parts(root, schema).into_iter().filter_map(|part| tag(part).map(|tag| (tag, part))).collect();
            let known = types.iter().map(|(name, _)| (*name).to_owned()).collect();
            compare(&format!("{place}: type"), &variants.keys().cloned().collect(), &known, wrong);
            for (name, rules) in types {
                if let Some(variant) = variants.get(*name) {
                    check_object(root, &format!("{place}({name})"), rules, variant, wrong);
                }
            }
        }
        _ => {}
    }
}

/// Words that name a place or a permission, in names of parameters and of types.
const TELLING: [&str; 29] = [
    "cwd",
    "cwds",
    "dir",
    "dirs",
    "directory",
    "directories",
    "file",
    "files",
    "folder",
    "folders",
    "location",
    "locations",
    "path",
    "paths",
    "permission",
    "permissions",
    "profile",
    "profiles",
    "root",
    "roots",
    "sandbox",
    "uri",
    "uris",
    "url",
    "urls",
    "worktree",
    "worktrees",
    "repo",
    "repository",
];

/// Whether one of the words in a name is telling: `workingDir`, `image_url`, `AbsolutePathBuf`.
fn is_telling(name: &str) -> bool {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() {
            words.push('_');
        }
        words.extend(letter.to_lowercase());
    }
    words.split(['_', '-', '/']).any(|word| TELLING.contains(&word))
}

/// Finds what passes as it is in one object, by its rules, although it is telling or may hold anything.
fn unseen_in(root: &Value, place: &str, rules: &'static Params, schema: &Value, unseen: &mut Names) {
    for name in fields(root, schema) {
        // What the table does not name is not passed on.
        let Some((rule, _)) = rule_for(rules, &name) else { continue };
        for part in parts(root, schema) {
            if let Some(inside) = part["properties"].get(&name) {
                unseen_under(root, &format!("{place}.{name}"), &name, rule, inside, unseen);
            }
        }
    }
}

fn unseen_under(root: &Value, place: &str, name: &str, rule: Rule, schema: &Value, unseen: &mut Names) {
    match rule {
        Rule::Object(rules) => unseen_in(root, place, rules, schema, unseen),
        Rule::Each(rule) => {
            for items in parts(root, schema).into_iter().filter_map(|part| part.get("items")) {
                unseen_under(root, &format!("{place}[]"), name, *rule, items, unseen);
            }
        }
        Rule::ByType(types) => {
            for (tag, rules) in types {
                let is_it = |part: &&Value| part["properties"]["type"]["enum"][0] == *tag;
                for variant in parts(root, schema).into_iter().filter(is_it) {
                    unseen_in(root, &format!("{place}({tag})"), rules, variant, unseen);
                }
            }
        }
        Rule::Pass | Rule::From(_) | Rule::OptOut | Rule::ReadOnlyGit => {
            passing(root, place, name, schema, &[], unseen)
        }
        // Left out, refused, or looked at for what they are.
        Rule::Drop | Rule::Refuse | Rule::Outside | Rule::Config => {}
        Rule::Opens | Rule::Workspace(_) | Rule::Workspaces(_) | Rule::Moves | Rule::Folders(_) => {}
        Rule::Provider
        | Rule::Model(_)
        | Rule::File
        | Rule::Image
        | Rule::Audio
        | Rule::Approval(_)
        | Rule::Reviewer(_) => {}
    }
}

/// Finds what is telling in a value that passes as it is; `types` are those that it lies in.
fn passing<'a>(root: &'a Value, place: &str, name: &str, schema: &'a Value, types: &[&'a str], unseen: &mut Names) {
    if is_telling(name) || may_hold_anything(schema) {
        unseen.insert(place.to_owned());
    }
    for choice in ["oneOf", "anyOf", "allOf"] {
        for part in schema[choice].as_array().into_iter().flatten() {
            passing(root, place, name, part, types, unseen);
        }
    }
    if let Some(kind) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        if is_telling(kind) {
            unseen.insert(place.to_owned());
        }
        if !types.contains(&kind) {
            passing(root, place, name, &root["definitions"][kind], &[types, &[kind]].concat(), unseen);
        }
    }
    for (inside, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(schema) = schema.get(inside).filter(|schema| **schema != Value::Bool(false)) {
            passing(root, &format!("{place}{mark}"), "", schema, types, unseen);
        }
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        passing(root, &format!("{place}.{name}"), name, schema, types, unseen);
    }
}

/// Whether a schema says nothing about its values.
fn may_hold_anything(schema: &Value) -> bool {
    const SAYING: [&str; 7] = ["type", "$ref", "oneOf", "anyOf", "allOf", "enum", "properties"];
    *schema == Value::Bool(true) || schema.is_object() && SAYING.iter().all(|member| schema.get(member).is_none())
}

fn reviewed(list: &[(&str, &str)]) -> Names {
    list.iter().map(|(name, _)| (*name).to_owned()).collect()
}

/// A schema and all that it is made of: what it refers to and what it chooses between.
fn parts<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    let mut parts = vec![schema];
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().expect("a name");
        parts.extend(self::parts(root, &root["definitions"][name]));
    }
    for choice in ["oneOf", "anyOf", "allOf"] {
        for part in schema[choice].as_array().into_iter().flatten() {
            parts.extend(self::parts(root, part));
        }
    }
    parts
}

fn fields(root: &Value, schema: &Value) -> Names {
    let properties = |part: &Value| part["properties"].as_object().map(|p| p.keys().cloned().collect::<Vec<_>>());
    parts(root, schema).into_iter().filter_map(properties).flatten().collect()
}

fn field<'a>(root: &'a Value, schema: &'a Value, name: &str) -> Option<&'a Value> {
    parts(root, schema).into_iter().find_map(|part| part["properties"].get(name))
}

/// What a choice may be: words, and objects with one member.
fn choices(schema: &Value) -> Names {
    let direct = schema["enum"].as_array().into_iter().flatten().map(|word| word.as_str().expect("a word").to_owned());
    let inside = schema["oneOf"].as_array().into_iter().flatten().flat_map(choices);
    let member = schema["properties"].as_object().into_iter().flat_map(|p| p.keys().cloned());
    direct.chain(inside).chain(member).collect()
}

fn names(params: &Params) -> Names {
    params.iter().flat_map(|(_, names)| names.iter().map(|name| (*name).to_owned())).collect()
}

/// The fields of a flat TypeScript type.
fn fields_of_type(text: &str) -> Names {
    let body = text.split_once(" = ").expect("a type").1;
    let field = |part: &str| part.split_once(": ").map(|(name, _)| name.trim().trim_end_matches('?').to_owned());
    body.split(['{', ',', '}', '|']).filter_map(field).collect()
}

fn compare(what: &str, spoken: &Names, known: &Names, wrong: &mut Vec<String>) {
    wrong.extend(spoken.difference(known).map(|name| format!("- {what} `{name}` is not classified")));
    wrong.extend(known.difference(spoken).map(|name| format!("- {what} `{name}` does not exist any more")));
}
