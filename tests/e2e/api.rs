//! The agent's own API, from several devices at once: devices change devices, and look for a folder to work in.

use std::os::unix::fs::symlink;
use std::time::Duration;

use e2e::PATIENCE;
use e2e::codex::TestCodex;
use e2e::rpc::Client;
use e2e::stage::{Stage, Tuning, client};
use reachback_host::connect::remote::RemoteHost;
use reachback_host::local_api::Request;
use reachback_proto::frame::ByeReason;
use reachback_proto::scope::Scope;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::revoke::end;

/// Channel 0 of a session, which says first what the host is.
pub(crate) async fn api(remote: &RemoteHost) -> Client {
    let mut api = Client::raw(remote.api().await.unwrap());
    api.request("host/read", json!({})).await.unwrap();
    api
}

/// Why it was refused, and what the refusal names.
pub(crate) fn reason(answer: Result<Value, Value>) -> (String, Value) {
    let refused = answer.unwrap_err();
    (refused["data"]["reason"].as_str().unwrap().to_owned(), refused["data"]["params"].clone())
}

#[tokio::test]
async fn a_scope_that_another_device_changes_takes_hold_under_an_open_session() {
    let stage = Stage::start().await;
    let (admin, desk, phone) =
        (stage.pair(Scope::Admin).await, stage.pair(Scope::Admin).await, stage.pair(Scope::View).await);
    let (at_admin, at_desk, at_phone) = (admin.connect().await, desk.connect().await, phone.connect().await);
    let (mut admin_api, mut desk_api, mut phone_api) =
        (api(&at_admin).await, api(&at_desk).await, api(&at_phone).await);
    let mut far = client(&at_phone).await;
    let start = json!({ "cwd": stage.codex.home.project() });
    assert_eq!(reason(far.request("thread/start", start.clone()).await).0, "scope");
    // What it may not do, it can't give to itself.
    let (id, raise) = (phone.id().to_string(), json!({ "deviceId": phone.id(), "scope": "admin" }));
    assert_eq!(
        reason(phone_api.request("device/scope", raise).await),
        ("scope".into(), json!({ "method": "device/scope", "needed": "admin", "scope": "view" }))
    );

    for (scope, passes) in [("approve", true), ("view", false)] {
        let changed = admin_api.request("device/scope", json!({ "deviceId": id, "scope": scope })).await.unwrap();
        assert_eq!(changed["device"]["scope"], scope, "{changed}");
        let is_it = |message: &Value| {
            message["method"] == "device/changed"
                && message["params"]["deviceId"] == id
                && message["params"]["device"]["scope"] == scope
        };
        let told = desk_api.until("the other device's new scope", is_it).await;
        assert_eq!(told["params"]["device"]["connected"], true, "{told}");
        let told = |message: &Value| message["method"] == "host/changed" && message["params"]["scope"] == scope;
        phone_api.until("its own new scope", told).await;
        assert_eq!(far.request("thread/start", start.clone()).await.is_ok(), passes, "with {scope}");
    }
    // A device that only views hears of no other.
    assert_eq!(phone_api.take("device/changed"), Vec::<Value>::new());
    stage.stop().await;
}

#[tokio::test]
async fn a_device_that_another_one_revokes_is_out_at_once() {
    let stage = Stage::start().await;
    let (admin, desk, lost) =
        (stage.pair(Scope::Admin).await, stage.pair(Scope::Admin).await, stage.pair(Scope::Admin).await);
    let (at_admin, at_desk, at_lost) = (admin.connect().await, desk.connect().await, lost.connect().await);
    let (mut admin_api, mut desk_api) = (api(&at_admin).await, api(&at_desk).await);
    client(&at_lost).await.echo().await;

    let revoked = admin_api.request("device/revoke", json!({ "deviceId": lost.id() })).await.unwrap();
    assert_eq!(revoked, json!({ "deviceId": lost.id(), "device": null, "allowed": true }));
    assert_eq!(timeout(Duration::from_secs(1), end(&at_lost)).await, Ok(Some(ByeReason::Revoked)));
    let gone = |message: &Value| {
        let params = &message["params"];
        message["method"] == "device/changed" && params["deviceId"] == json!(lost.id()) && params["device"].is_null()
    };
    desk_api.until("the end of the other device", gone).await;

    // Itself, too: the change is made to its end although the session that asked for it is over.
    desk_api.send(&json!({ "id": 77, "method": "device/revoke", "params": { "deviceId": desk.id() } })).await;
    assert_eq!(timeout(PATIENCE, end(&at_desk)).await, Ok(Some(ByeReason::Revoked)));
    let own =
        |message: &Value| message["params"]["deviceId"] == json!(desk.id()) && message["params"]["device"].is_null();
    admin_api.until("the end of the device that revoked itself", own).await;
    let left = admin_api.request("device/list", json!({})).await.unwrap();
    let ids = left["data"].as_array().unwrap().iter().map(|device| device["deviceId"].clone());
    assert_eq!(ids.collect::<Vec<_>>(), [json!(admin.id())]);
    stage.stop().await;
}

#[tokio::test]
async fn devices_that_are_kept_out_from_afar_come_back_by_the_owners_word() {
    let stage = Stage::start().await;
    let (admin, phone) = (stage.pair(Scope::Admin).await, stage.pair(Scope::Approve).await);
    let (at_admin, at_phone) = (admin.connect().await, phone.connect().await);
    let mut admin_api = api(&at_admin).await;
    client(&at_phone).await.echo().await;
    let paused = json!({ "deviceId": phone.id(), "paused": true });
    assert_eq!(admin_api.request("device/pause", paused).await.unwrap()["device"]["paused"], true);
    end(&at_phone).await;
    let resumed = json!({ "deviceId": phone.id(), "paused": false });
    assert_eq!(admin_api.request("device/pause", resumed).await.unwrap()["device"]["paused"], false);
    let at_phone = phone.connect().await;

    // All of them: the one that asked is among them.
    admin_api.send(&json!({ "id": 77, "method": "host/allowDevices", "params": { "allowed": false } })).await;
    tokio::join!(end(&at_admin), end(&at_phone));
    stage.ask(Request::Pause { device: None, on: false }).await;
    let at_admin = admin.connect().await;
    let mut admin_api = api(&at_admin).await;
    assert_eq!(admin_api.request("device/list", json!({})).await.unwrap()["allowed"], true);
    stage.stop().await;
}

#[tokio::test]
async fn a_device_looks_for_a_folder_and_opens_what_it_was_shown() {
    let stage = Stage::start().await;
    let (user, project) = (stage.codex.user_home().to_owned(), stage.codex.home.project().to_owned());
    for folder in ["code/shop", "code/.hidden"] {
        std::fs::create_dir_all(user.join(folder)).unwrap();
    }
    symlink("/etc", user.join("code/outside")).unwrap();
    symlink(stage.codex.home.codex_home(), user.join("code/state")).unwrap();
    let (steerer, approver) = (stage.pair(Scope::Steer).await, stage.pair(Scope::Approve).await);
    let (at_steerer, at_approver) = (steerer.connect().await, approver.connect().await);
    let (mut steers, mut approves) = (api(&at_steerer).await, api(&at_approver).await);

    let local = json!({ "environment": "local" });
    let workspace = json!({ "path": project, "name": "project", "source": "codex" });
    assert_eq!(steers.request("workspace/list", local.clone()).await.unwrap()["data"], json!([workspace]));
    let refused = reason(steers.request("folder/list", local.clone()).await);
    let needed = json!({ "method": "folder/list", "needed": "approve", "scope": "steer" });
    assert_eq!(refused, ("scope".into(), needed));

    let roots = approves.request("folder/list", local).await.unwrap();
    assert_eq!((&roots["data"][0]["path"], &roots["data"][0]["opens"]), (&json!(user), &json!(false)), "{roots}");
    let list = |path: &std::path::Path| json!({ "environment": "local", "path": path });
    let home = approves.request("folder/list", list(&user)).await.unwrap();
    let of = |name: &str| {
        let found = home["data"].as_array().unwrap().iter().find(|folder| folder["name"] == name);
        found.map(|folder| (folder["isWorkspace"] == true, folder["opens"] == true))
    };
    // What holds Codex's own folder is a way, and no choice.
    assert_eq!(
        [of("project"), of("code"), of("home")],
        [Some((true, true)), Some((false, true)), Some((false, false))]
    );
    let code = approves.request("folder/list", list(&user.join("code"))).await.unwrap();
    let shop = json!({ "name": "shop", "path": user.join("code/shop"), "isWorkspace": false, "opens": true });
    assert_eq!(code, json!({ "data": [shop], "more": false }));

    let secret = "unspeakable-name";
    for (path, why) in [
        (user.join("code/.."), "form"),
        (user.join("..").join(secret), "form"),
        ("/etc".into(), "outside"),
        (format!("/{secret}").into(), "outside"),
        (user.join("code/outside"), "outside"),
        (user.join("code/state"), "state"),
        (stage.codex.home.codex_home().to_owned(), "state"),
        (stage.home().to_owned(), "outside"),
        (user.join(secret), "missing"),
    ] {
        let refused = reason(approves.request("folder/list", list(&path)).await);
        assert_eq!(refused, ("folder".into(), json!({ "why": why })), "{}", path.display());
    }
    // Codex's firewall says the same of them.
    let mut far = client(&at_approver).await;
    far.request("thread/start", json!({ "cwd": user.join("code/shop") })).await.unwrap();
    far.request("thread/start", json!({ "cwd": user.join("home") })).await.unwrap_err();
    assert!(!String::from_utf8_lossy(&stage.log.kept()).contains(secret), "a path from the network is in the log");
    stage.stop().await;
}

#[tokio::test]
async fn devices_hear_which_folders_are_open_as_that_changes() {
    let stage = Stage::start().await;
    let phone = stage.pair(Scope::View).await;
    let remote = phone.connect().await;
    let mut api = api(&remote).await;
    let shop = stage.codex.user_home().join("shop");
    std::fs::create_dir(&shop).unwrap();
    let is_open = |open: bool| {
        let path = shop.to_str().unwrap().to_owned();
        move |message: &Value| {
            let list = message["params"]["data"].as_array();
            message["method"] == "workspace/changed" && list.unwrap().iter().any(|one| one["path"] == path) == open
        }
    };
    // The owner's word is told at once.
    let path = shop.to_str().unwrap().to_owned();
    stage.ask(Request::AddWorkspace { environment: None, path: path.clone() }).await;
    let told = api.until("the folder that the owner opened", is_open(true)).await;
    assert_eq!(told["params"]["environment"], "local", "{told}");
    stage.ask(Request::RemoveWorkspace { environment: None, path }).await;
    api.until("that the owner closed it", is_open(false)).await;
    // Codex's configuration changes without a word.
    let trusted = stage.codex.user_home().join("trusted");
    std::fs::create_dir(&trusted).unwrap();
    let config = stage.codex.home.codex_home().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let project = format!("\n[projects.{:?}]\ntrust_level = \"trusted\"\n", trusted.to_str().unwrap());
    std::fs::write(&config, text + &project).unwrap();
    let is_trusted = |message: &Value| {
        let path = trusted.to_str().unwrap();
        let list = message["params"]["data"].as_array();
        message["method"] == "workspace/changed"
            && list.unwrap().iter().any(|one| one["path"] == path && one["source"] == "codex")
    };
    api.until("the folder that Codex's configuration trusts", is_trusted).await;
    stage.stop().await;
}

/// The account in what a device hears of Codex.
fn has_account(state: &'static str) -> impl Fn(&Value) -> bool {
    move |message| message["method"] == "host/changed" && message["params"]["codex"]["account"]["state"] == state
}

/// Codex's account, once the host knows it.
async fn account(api: &mut Client) -> Value {
    loop {
        let host = api.request("host/read", json!({})).await.unwrap();
        if let Some(account) = host["codex"].get("account") {
            return account.clone();
        }
        api.until("Codex's account", |message| message["method"] == "host/changed").await;
    }
}

#[tokio::test]
async fn a_codex_whose_model_needs_no_account_says_so() {
    let stage = Stage::start().await;
    let phone = stage.pair(Scope::View).await;
    let remote = phone.connect().await;
    let mut api = Client::raw(remote.api().await.unwrap());
    assert_eq!(account(&mut api).await, json!({ "state": "notNeeded" }));
    stage.stop().await;
}

#[tokio::test]
async fn devices_hear_whether_codex_is_signed_in() {
    let codex = TestCodex::prepare().await;
    let config = codex.home.codex_home().join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let provider = "[model_providers.scripted]\n";
    assert!(text.contains(provider), "{text}");
    std::fs::write(&config, text.replace(provider, &format!("{provider}requires_openai_auth = true\n"))).unwrap();
    let stage = Stage::on(codex, Tuning::default()).await;
    let phone = stage.pair(Scope::View).await;
    let remote = phone.connect().await;
    let mut api = Client::raw(remote.api().await.unwrap());
    assert_eq!(account(&mut api).await, json!({ "state": "signedOut" }));
    // The owner signs in, at the host.
    let mut owner = Client::connect(&*stage.backend).await;
    owner.request("account/login/start", json!({ "type": "apiKey", "apiKey": "sk-not-a-real-key" })).await.unwrap();
    let told = api.until("that Codex is signed in", has_account("signedIn")).await;
    assert_eq!(told["params"]["codex"]["account"], json!({ "state": "signedIn", "type": "apiKey" }));
    owner.request("account/logout", json!(null)).await.unwrap();
    api.until("that Codex is signed out", has_account("signedOut")).await;
    stage.stop().await;
}
