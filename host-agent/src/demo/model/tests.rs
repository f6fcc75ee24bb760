use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

fn body(prompt: &str) -> Value {
    json!({
        "model": "reachback-demo",
        "tools": [{ "type": "function", "name": "exec_command" }],
        "input": [
            { "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "<environment_context>" }] },
            { "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "earlier" }] },
            { "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": "yes" }] },
            { "type": "message", "role": "user", "content": [{ "type": "input_text", "text": prompt }] },
            { "type": "message", "role": "user", "content": "<reminder>not typed</reminder>" },
        ],
    })
}

fn ask(body: &Value) -> Scene {
    answer(&Request::read(body))
}

/// `prompt` after tools have answered `outputs`.
fn after(prompt: &str, outputs: &[&str]) -> Scene {
    let mut body = body(prompt);
    let outputs = outputs.iter().map(|said| json!({ "type": "function_call_output", "output": said }));
    body["input"].as_array_mut().unwrap().extend(outputs);
    ask(&body)
}

fn said(answer: Scene) -> String {
    match answer {
        Scene::Text { pieces, .. } => pieces.concat(),
        other => panic!("wanted text, got {other:?}"),
    }
}

fn command(answer: Scene) -> (String, bool) {
    match answer {
        Scene::Run { command, why } => (command, why.is_some()),
        other => panic!("wanted a command, got {other:?}"),
    }
}

#[test]
fn anything_else_is_the_tour_word_by_word() {
    for prompt in ["hello", "run", "@nothing", ""] {
        let Scene::Text { pieces, pause, .. } = ask(&body(prompt)) else { panic!("{prompt}") };
        assert_eq!((pieces.concat().as_str(), pause), (TOUR, WORD_PAUSE), "{prompt}");
        assert!(pieces.len() > 40);
    }
    for next in ["run ls", "edit", "long"] {
        assert!(TOUR.contains(&format!("`{next}`")), "the tour does not name {next}");
    }
}

#[test]
fn people_type_words_and_tests_type_commands() {
    assert_eq!(command(ask(&body("run ls -la"))), ("ls -la".into(), true));
    assert_eq!(command(ask(&body("Run ls"))), ("ls".into(), true));
    assert_eq!(command(ask(&body("@esc touch x; echo y"))), ("touch x; echo y".into(), true));
    assert_eq!(command(ask(&body("@shell pwd"))), ("pwd".into(), false));
    let (patch, asks) = command(ask(&body("edit")));
    assert!(patch.contains("*** Add File: hello.md\n+Hello!\n") && !asks, "{patch}");
    let (patch, _) = command(ask(&body("@patch a.txt")));
    assert!(patch.contains("*** Add File: a.txt\n+first line\n+second line\n*** End Patch"), "{patch}");
    assert_eq!(ask(&body("@hang")), Scene::Hang);
    assert!(said(ask(&body("long"))).ends_with("1500. You let me finish!"));
}

#[test]
fn a_patch_cannot_leave_its_line() {
    let (patch, _) = command(ask(&body("@patch a\nEOF\nrm -rf /")));
    assert!(!patch.contains("rm -rf"), "{patch}");
}

#[test]
fn failures_are_error_statuses() {
    assert_eq!(ask(&body("@fail 429")), Scene::Fail(StatusCode::TOO_MANY_REQUESTS));
    for odd in ["@fail", "@fail 200", "@fail 99999", "@fail x"] {
        assert_eq!(ask(&body(odd)), Scene::Fail(StatusCode::BAD_GATEWAY), "{odd}");
    }
}

#[test]
fn text_has_the_size_and_number_asked_for() {
    let Scene::Text { pieces, pause, silence } = ask(&body("@text N=5000 ms=2 size=6 after=9")) else { panic!() };
    assert_eq!((pieces.len(), pause, silence), (5000, Duration::from_millis(2), Duration::from_millis(9)));
    assert!(pieces.iter().all(|piece| piece.len() == 6));
    assert_eq!((pieces[7].as_str(), pieces[4999].as_str()), ("xxxx7 ", "x4999 "));
    assert_eq!(said(ask(&body("@text"))).len(), 400);
}

#[test]
fn what_is_to_be_said_comes_as_it_is_in_pieces() {
    let Scene::Text { pieces, .. } = ask(&body("@say # é\n\n- **a** `b`\n")) else { panic!() };
    assert_eq!(pieces, ["# é\n\n-", " **a**", " `b`"]);
}

#[test]
fn absurd_sizes_are_bounded() {
    for prompt in ["@text N=99999999999999 size=4", "@text N=10 size=99999999999999", "@text N=1 size=0", "@text N=-1"]
    {
        assert!(said(ask(&body(prompt))).len() <= MAX_TEXT, "{prompt}");
    }
}

#[test]
fn a_tools_answer_is_quoted_once_and_only_its_beginning() {
    let quoted = said(after("run ls", &["Chunk ID: 1\nWall time: 0 s\nOutput:\nREADME.md"]));
    assert!(quoted.contains("README.md") && !quoted.contains("Chunk"), "{quoted}");
    let long = "é".repeat(5000);
    assert!(said(after("run ls", &[&long])).chars().filter(|c| *c == 'é').count() == MAX_QUOTE);
}

#[test]
fn several_calls_come_one_after_the_other() {
    assert_eq!(command(after("@multi 3 date", &["1", "2"])), ("date".into(), false));
    assert!(said(after("@multi 3 date", &["1", "2", "third"])).contains("third"));
}

#[test]
fn a_sub_agent_is_asked_for_once() {
    let spawn = json!({ "message": "@text N=1" });
    assert_eq!(ask(&body("@spawn @text N=1")), Scene::call("multi_agent_v1/spawn_agent", spawn));
    assert!(said(after("@spawn @text N=1", &["its id"])).contains("its id"));
}

#[test]
fn any_tool_can_be_called_with_any_arguments() {
    let arguments = json!({ "key": "a b" });
    let called = |tool: &str, space: Option<&str>, arguments: &Value| Scene::Call {
        tool: tool.into(),
        namespace: space.map(str::to_owned),
        arguments: arguments.clone(),
    };
    assert_eq!(ask(&body(r#"@call look {"key": "a b"}"#)), called("look", None, &arguments));
    assert_eq!(ask(&body(r#"@call mcp__a/look {"key":"a b"}"#)), called("look", Some("mcp__a"), &arguments));
    assert_eq!(ask(&body("@call look")), called("look", None, &json!({})));
    assert!(said(after("@call look", &["seen"])).contains("seen"));
}

#[test]
fn without_tools_it_says_so() {
    let mut body = body("run ls");
    body["tools"] = json!([]);
    assert!(said(ask(&body)).contains("did not offer"));
}

#[test]
fn a_title_is_json_that_fits_its_schema() {
    let mut body =
        body("Generate a title.\n\nUser prompt:\nplease find the bug in the extraordinarily long parser\nnow");
    body["text"] = json!({ "format": { "type": "json_schema", "schema": { "properties": { "title": {} } } } });
    let title: Value = serde_json::from_str(&said(ask(&body))).unwrap();
    assert_eq!(title, json!({ "title": "please find the bug in" }));
}

#[test]
fn odd_requests_get_the_tour() {
    for odd in [json!(null), json!([]), json!({ "input": 3 }), json!({ "input": [null, { "role": "user" }, "x"] })] {
        assert_eq!(said(ask(&odd)), TOUR, "{odd}");
    }
}

/// Sends one request and reads until the server ends the answer, or `enough` is in it.
async fn http(addr: SocketAddr, request: &str, enough: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    let reading = async {
        loop {
            let mut chunk = [0; 4096];
            match stream.read(&mut chunk).await.unwrap() {
                0 => break,
                n => got.extend_from_slice(&chunk[..n]),
            }
            if String::from_utf8_lossy(&got).contains(enough) {
                break;
            }
        }
    };
    let done = tokio::time::timeout(PATIENCE, reading).await;
    let got = String::from_utf8_lossy(&got).into_owned();
    assert!(done.is_ok(), "waited for {enough:?}, got {got}");
    got
}

fn post_to(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn over_http_the_events_come_in_the_order_codex_wants() {
    let model = ScriptedModel::start().await.unwrap();
    let got = http(model.addr(), &post_to("/v1/responses", &body("@text N=2").to_string()), "\u{0}").await;
    assert!(got.starts_with("HTTP/1.1 200") && got.contains("text/event-stream"), "{got}");
    let kinds: Vec<_> = got.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(
        kinds,
        [
            "response.created",
            "response.output_item.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_item.done",
            "response.completed"
        ]
    );
    let data: Vec<Value> =
        got.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect();
    assert_eq!(data[2]["delta"], "xx0 ");
    assert_eq!(data[4]["item"]["content"][0]["text"], "xx0 xx1 ");
    assert_eq!(data[0]["response"]["id"], data[5]["response"]["id"]);
}

#[tokio::test]
async fn over_http_errors_are_errors() {
    let model = ScriptedModel::start().await.unwrap();
    let failed = http(model.addr(), &post_to("/v1/responses", &body("@fail 503").to_string()), "\u{0}").await;
    assert!(failed.starts_with("HTTP/1.1 503"), "{failed}");
    let malformed = http(model.addr(), &post_to("/v1/responses", "{"), "\u{0}").await;
    assert!(malformed.starts_with("HTTP/1.1 400"), "{malformed}");
    let elsewhere = http(model.addr(), &post_to("/v1/files", "{}"), "\u{0}").await;
    assert!(elsewhere.starts_with("HTTP/1.1 404"), "{elsewhere}");
}

#[tokio::test]
async fn dropping_the_model_ends_an_answer_that_hangs() {
    let model = ScriptedModel::start().await.unwrap();
    let addr = model.addr();
    let mut hanging = TcpStream::connect(addr).await.unwrap();
    hanging.write_all(post_to("/v1/responses", &body("@hang").to_string()).as_bytes()).await.unwrap();
    let mut got = Vec::new();
    while !String::from_utf8_lossy(&got).contains("response.created") {
        let mut chunk = [0; 4096];
        let n = tokio::time::timeout(PATIENCE, hanging.read(&mut chunk)).await.expect("nothing came").unwrap();
        assert_ne!(n, 0, "the answer ended at once: {}", String::from_utf8_lossy(&got));
        got.extend_from_slice(&chunk[..n]);
    }
    drop(model);
    let rest = tokio::time::timeout(PATIENCE, hanging.read_to_end(&mut got)).await;
    rest.expect("the answer outlived the model").unwrap();
    assert!(TcpStream::connect(addr).await.is_err(), "the port is still open");
}

#[tokio::test]
async fn an_answer_that_waits_goes_on_once_for_each_word_whichever_came_first() {
    let model = ScriptedModel::start().await.unwrap();
    let asked = |prompt: &str| post_to("/v1/responses", &body(prompt).to_string());
    let (waits, goes, end) = (asked("@wait"), asked("@go"), "response.completed");
    http(model.addr(), &goes, end).await;
    let first = http(model.addr(), &waits, end).await;
    assert!(first.contains(WAITED[0]) && first.contains(WAITED[1]), "{first}");
    // That word is used up.
    let begun = http(model.addr(), &waits, WAITED[0].trim()).await;
    assert!(!begun.contains(WAITED[1]), "{begun}");
    let (second, _) = tokio::join!(http(model.addr(), &waits, end), http(model.addr(), &goes, end));
    assert!(second.contains(WAITED[1]), "{second}");
}

#[test]
fn what_came_with_a_prompt_is_told_apart_by_its_bytes() {
    let mut body = body("@seen");
    assert_eq!(said(ask(&body)), "Pictures: 0\n\n");
    let parts = body["input"][3]["content"].as_array_mut().unwrap();
    parts.push(json!({ "type": "input_image", "image_url": "data:image/png;base64,AAAA" }));
    parts.push(json!({ "type": "input_image", "image_url": "https://example.com/a.png" }));
    let told = said(ask(&body));
    let digest = ring::digest::digest(&ring::digest::SHA256, b"data:image/png;base64,AAAA");
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(told.starts_with(&format!("Pictures: 2\n\n- image/png 26 {hex}\n- no data 25 ")), "{told}");
}
