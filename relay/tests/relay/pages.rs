//! The HTTP side.

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::common::{TestRelay, within};

const UPGRADE: &str =
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";

/// Headers of a WebSocket handshake; `Connection` is there already, and names the upgrade too.
fn handshake(origin: &str) -> String {
    format!("{UPGRADE}Connection: Upgrade\r\nOrigin: {origin}\r\n")
}

/// The files that a page loads by this attribute, in its order.
fn named<'a>(page: &'a str, attribute: &str, ending: &str) -> Vec<&'a str> {
    let values = page.split(attribute).skip(1).filter_map(|rest| rest.split('"').next());
    values.filter(|value| value.starts_with('/') && value.ends_with(ending)).collect()
}

// What these say of the page is so with the app built into the relay, and with the page that says that it is not.

#[tokio::test]
async fn the_page_is_strict_and_holds_who_this_relay_is() {
    let relay = TestRelay::start().await;
    let (status, head, body) = relay.request("/", "").await;
    assert_eq!(status, 200);
    assert!(
        head.contains("content-security-policy: default-src 'none'; style-src 'self'; script-src 'self'"),
        "{head}"
    );
    // A page may talk to this relay, and to nothing else; no text becomes a script.
    assert!(head.contains("; connect-src 'self';") && head.contains("; require-trusted-types-for 'script';"), "{head}");
    assert!(head.contains("; trusted-types svelte-trusted-html reachback-worker\r\n"), "{head}");
    assert!(head.contains("referrer-policy: no-referrer") && head.contains("nosniff"), "{head}");
    assert!(head.contains("cross-origin-opener-policy: same-origin"), "{head}");
    assert!(head.contains("cross-origin-resource-policy: same-origin"), "{head}");
    assert!(head.contains("camera=(self)") && head.contains("microphone=()"), "{head}");
    assert!(head.contains("cache-control: no-cache"), "{head}");
    assert!(body.contains(&format!("http://{}", relay.relay.local_addr())), "{body}");
    assert!(body.contains(&relay.relay.fingerprint().to_string()) && !body.contains("{{"), "{body}");
    assert!(!body.contains("<style") && !body.contains("style=") && !body.contains("onclick"), "{body}");
    assert_eq!(body.matches("<script").count(), body.matches("></script>").count(), "a script in the page: {body}");
}

#[tokio::test]
async fn the_first_script_clears_the_fragment() {
    let relay = TestRelay::start().await;
    let (_, body) = relay.get("/").await;
    let scripts = named(&body, " src=\"", ".js");
    assert_eq!((scripts.len(), body.matches("<script").count()), (1, 1), "{body}");
    assert!(body.find("<script") < body.find("stylesheet"), "something loads before the script: {body}");
    let (status, head, script) = relay.request(scripts[0], "").await;
    assert_eq!(status, 200);
    assert!(head.contains("text/javascript"), "{head}");
    assert!(script.contains("history.replaceState") || script.contains(".replaceState(null,"), "{script}");
    assert!(!script.contains("fetch(") && !script.contains("Storage"), "{script}");
}

#[tokio::test]
async fn what_the_program_holds_is_served_as_what_it_is_and_nothing_else_is() {
    let relay = TestRelay::start().await;
    let (_, body) = relay.get("/").await;
    let styles = named(&body, " href=\"", ".css");
    let path = styles.first().expect("a style sheet");
    let (status, head, css) = relay.request(path, "").await;
    assert_eq!(status, 200);
    assert!(head.contains("text/css") && head.contains("nosniff") && !css.is_empty(), "{head}");
    let kept = if path.starts_with("/assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    assert!(head.contains(&format!("cache-control: {kept}")), "{head}");
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).expect("a tag");
    let (status, _, body) = relay.request(path, &format!("If-None-Match: {tag}\r\n")).await;
    assert_eq!((status, body.as_str()), (304, ""), "what the browser has is not sent again");
    let others =
        [format!("{path}/"), format!("/{path}"), path.to_uppercase(), format!("{path}.br"), format!("{path}.gz")];
    for path in ["/index.html", "/../Cargo.toml", "/%2e%2e/Cargo.toml"].map(str::to_owned).iter().chain(&others) {
        assert_eq!(relay.request(path, "").await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn requests_for_other_names_are_misdirected() {
    let relay = TestRelay::with(|config| config.names = vec!["relay.example".into()]).await;
    for path in ["/", "/v1/device", "/metrics", "/nothing"] {
        let (status, _, _) = relay.request(path, "Host: evil.example\r\n").await;
        assert_eq!(status, 421, "{path}");
    }
    assert_eq!(relay.request("/", "Host: relay.example:1\r\n").await.0, 200);
    assert_eq!(relay.request("/", "Host: localhost\r\n").await.0, 200);
    assert_eq!(
        relay.request("/healthz", "Host: 10.0.0.9\r\n").await.0,
        200,
        "probes use addresses that nobody configured"
    );
}

#[tokio::test]
async fn pages_of_other_origins_cannot_open_links() {
    let relay = TestRelay::start().await;
    let address = relay.relay.local_addr();
    for path in ["/v1/host", "/v1/host/data", "/v1/device"] {
        for origin in ["https://evil.example", "null", "http://localhost:1"] {
            assert_eq!(relay.request(path, &handshake(origin)).await.0, 403, "{path} {origin}");
        }
    }
    assert_eq!(relay.request("/healthz", "").await.0, 200);
    let listed = TestRelay::with(|config| config.web_origins = vec!["https://app.example".parse().unwrap()]).await;
    assert_eq!(upgrade_status(&listed, &handshake("https://app.example")).await, "HTTP/1.1 101");
    assert_eq!(listed.request("/v1/device", &handshake("https://evil.example")).await.0, 403);
    let own = upgrade_status(&relay, &handshake(&format!("http://{address}"))).await;
    assert_eq!(own, "HTTP/1.1 101");
}

/// The start of the answer to a handshake whose connection stays open.
async fn upgrade_status(relay: &TestRelay, headers: &str) -> String {
    use tokio::io::AsyncWriteExt;
    let address = relay.relay.local_addr();
    let mut stream = TcpStream::connect(address).await.expect("the relay accepts");
    let request = format!("GET /v1/device HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.expect("the relay reads");
    let mut start = [0; 12];
    within("an answer", stream.read_exact(&mut start)).await.expect("an answer");
    String::from_utf8_lossy(&start).into_owned()
}

#[tokio::test]
async fn what_is_no_handshake_and_no_page_is_refused() {
    let relay = TestRelay::start().await;
    let (status, head, _) = relay.request("/v1/device", "").await;
    assert_eq!(status, 426);
    assert!(head.contains("upgrade: websocket"), "{head}");
    assert_eq!(relay.get("/nothing").await.0, 404);
}

#[tokio::test]
async fn health_and_metrics_answer() {
    let relay = TestRelay::start().await;
    assert_eq!(relay.get("/healthz").await.0, 200);
    assert_eq!(relay.get("/readyz").await.0, 200);
    let (_host, _control) = relay.host().await;
    let (status, text) = relay.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains("reachback_relay_links_opened_total{role=\"host\"} 1"), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[tokio::test]
async fn metrics_are_not_for_those_behind_a_proxy_unless_configured() {
    let relay = TestRelay::with(|config| config.metrics_from = vec!["127.0.0.0/8".parse().unwrap()]).await;
    for header in ["X-Forwarded-For: 192.0.2.1\r\n", "Forwarded: for=192.0.2.1\r\n", "Via: 1.1 proxy\r\n"] {
        assert_eq!(relay.request("/metrics", header).await.0, 403, "{header}");
    }
    let relay = TestRelay::with(|config| config.public_metrics = true).await;
    assert_eq!(relay.request("/metrics", "Via: 1.1 proxy\r\n").await.0, 200);
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let relay = TestRelay::with(|config| config.limits.http_head_ms = 100).await;
    let mut stream = TcpStream::connect(relay.relay.local_addr()).await.unwrap();
    // What it says before it closes does not matter.
    let mut said = Vec::new();
    within("the relay to close", stream.read_to_end(&mut said)).await.unwrap();
    relay.metric_reaches("reachback_relay_connections_closed_total", 1).await;
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_and_room_is_reused() {
    let relay = TestRelay::with(|config| config.limits.connections = 1).await;
    // It has proved its key, and makes room for nobody.
    let (_host, control) = relay.host().await;
    let mut over = TcpStream::connect(relay.relay.local_addr()).await.unwrap();
    let mut said = Vec::new();
    // A reset is as good as an end here.
    let _reset = within("the relay to close", over.read_to_end(&mut said)).await;
    assert_eq!(said, b"");
    drop(control);
    within("room", async {
        loop {
            let mut stream = TcpStream::connect(relay.relay.local_addr()).await.unwrap();
            let mut start = [0; 8];
            let request = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", relay.relay.local_addr());
            if tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.is_ok()
                && stream.read_exact(&mut start).await.is_ok()
            {
                return;
            }
        }
    })
    .await;
}
