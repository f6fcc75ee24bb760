//! The firewall's table against what the pinned Codex says that it speaks.
//!
//! Whoever raises the pinned version reads here what is new: each method,
//! parameter, notification, request and field of an answer that the table does
//! not classify, and each that it still names although Codex dropped it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use reachback_host::firewall::responses::SERVER_REQUESTS;
use reachback_host::firewall::table::{Access, METHODS, NOTIFICATIONS, Params, Rule};
use serde_json::Value;

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
