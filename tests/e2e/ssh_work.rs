//! What people do on an SSH host: the stock terminal UI there, and pictures from a device.

use std::path::PathBuf;

use e2e::codex;
use e2e::eventually;
use e2e::process::Home;
use e2e::rpc::Client;
use e2e::stage::{HOST_NAME, Stage};
use reachback_proto::scope::Scope;
use serde_json::{Value, json};

use crate::ssh_folders::open;
use crate::ssh_hosts::{ENVIRONMENT, Machine, add, api, channel};

/// A picture of one point.
const PICTURE: &str = "data:image/png;base64,\
    iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// A machine whose Codex the host has started, and a folder there that the owner opened.
struct Shop {
    machine: Machine,
    stage: Stage,
    folder: PathBuf,
}

impl Shop {
    async fn start() -> Self {
        let machine = Machine::prepare().await;
        let folder = machine.account().home.canonicalize().unwrap().join("src/shop");
        std::fs::create_dir_all(&folder).unwrap();
        let stage = machine.host().await;
        add(&stage).await;
        open(&stage, "src/shop").await.unwrap();
        Self { machine, stage, folder }
    }

    /// Threads of an environment, as a device lists them.
    async fn threads(api: &mut Client, environment: &str) -> Vec<Value> {
        let page = api.request("thread/list", json!({ "environment": environment })).await.unwrap();
        page["data"].as_array().unwrap().clone()
    }

    async fn stop(self) {
        self.stage.stop().await;
        self.machine.stop_server().await;
    }
}

#[tokio::test]
async fn the_stock_terminal_ui_works_in_a_folder_of_the_machine_and_its_commands_run_there() {
    let shop = Shop::start().await;
    let ((url, _), laptop) = (shop.stage.offer(Scope::Approve).await, Home::new());
    laptop.json(&["join", &url.expose(), "--name", "laptop"]).await.ok();
    let (codex, folder) = (codex::program(), shop.folder.to_str().unwrap());
    let program = ["--codex-program", codex.to_str().unwrap()];
    let connect = ["connect", HOST_NAME, "--env", ENVIRONMENT, "-C", folder];
    let terminal = laptop.terminal(&[&connect[..], &program].concat());
    terminal.shows("Scripted demo").await;

    terminal.prompt("@text N=12 size=7", "Enter").await;
    terminal.shows("xxxx11").await;
    // The home folder is that of the account there; here it is another one.
    let told = shop.machine.account().home.join("where");
    terminal.prompt(r#"@esc pwd >"$HOME/where""#, "Enter").await;
    terminal.shows("Would you like to run the following command?").await;
    assert!(!told.exists(), "it ran before it was approved");
    terminal.press(&["y"]);
    terminal.shows("Done. The tool said:").await;
    eventually("the command says where it runs", || std::fs::read_to_string(&told).is_ok_and(|text| !text.is_empty()))
        .await;
    assert_eq!(std::fs::read_to_string(&told).unwrap().trim(), folder);

    terminal.prompt("/quit", "Enter").await;
    assert_eq!(terminal.exit().await, 0, "the exit code of reachback connect");
    // What was done there is one of the machine's threads, and none of the host's.
    let viewer = shop.stage.pair(Scope::View).await.connect().await;
    let mut api = api(&viewer).await;
    let there = Shop::threads(&mut api, ENVIRONMENT).await;
    assert_eq!(there.len(), 1, "{there:?}");
    assert_eq!(there[0]["folder"], folder, "{there:?}");
    assert_eq!(Shop::threads(&mut api, "local").await, [] as [Value; 0]);
    assert_eq!(shop.machine.link.dials().len(), 1, "one connection carries all of it");
    shop.stop().await;
}

/// What the model says to `@seen` when it was sent this.
fn seen(picture: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, picture.as_bytes());
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("- image/png {} {hex}", picture.len())
}

#[tokio::test]
async fn a_picture_travels_in_the_prompt_to_the_machine_and_no_path_is_opened_there_for_a_device() {
    let shop = Shop::start().await;
    let remote = shop.stage.pair(Scope::Steer).await.connect().await;
    let mut api = api(&remote).await;
    let input = json!([{ "type": "text", "text": "@seen" }, { "type": "image", "url": PICTURE }]);
    let start = json!({ "cwd": shop.folder });
    let sent = json!({ "id": "picture", "environment": ENVIRONMENT, "start": start, "input": input });
    api.request("prompt/send", sent).await.unwrap();
    let becomes = |id: &'static str, state: &'static str| {
        move |message: &Value| {
            let receipt = &message["params"];
            message["method"] == "prompt/changed" && receipt["id"] == id && receipt["state"] == state
        }
    };
    let started = api.until("the prompt started", becomes("picture", "started")).await;
    let thread = started["params"]["threadId"].as_str().unwrap().to_owned();
    let mut client = channel(&remote).await;
    let read = client.read_completed(&thread).await;
    let items = read["thread"]["turns"][0]["items"].as_array().unwrap();
    let answer = items.iter().find(|item| item["type"] == "agentMessage").unwrap()["text"].as_str().unwrap();
    assert!(answer.contains(&seen(PICTURE)), "the model got another picture: {answer}");

    client.resume(&thread).await;
    // One that lies there, where devices may work, and one of the host's.
    let (there, here) = (shop.folder.join("picture.png"), shop.stage.codex.home.project().join("picture.png"));
    for path in [&there, &here] {
        std::fs::write(path, "no picture").unwrap();
    }
    let refused = [
        ("there", json!({ "type": "localImage", "path": there })),
        ("here", json!({ "type": "localImage", "path": here })),
        ("sound", json!({ "type": "localAudio", "path": there })),
        ("address", json!({ "type": "image", "url": format!("file://{}", there.display()) })),
        ("bare", json!({ "type": "image", "url": there })),
    ];
    for (id, item) in refused {
        let input = json!([{ "type": "text", "text": "@seen" }, item]);
        let turn = json!({ "threadId": thread, "input": input });
        let error = client.request("turn/start", turn).await.unwrap_err();
        assert!(error["message"].as_str().unwrap().contains("`data:` URL"), "{id}: {error}");
        let sent = json!({ "id": id, "environment": ENVIRONMENT, "threadId": thread, "input": input });
        api.request("prompt/send", sent).await.unwrap();
        let told = api.until(id, becomes(id, "refused")).await;
        assert_eq!(told["params"]["reason"], "params", "{told}");
    }
    let after = client.read_completed(&thread).await;
    assert_eq!(after["thread"]["turns"].as_array().unwrap().len(), 1, "{after}");
    shop.stop().await;
}
