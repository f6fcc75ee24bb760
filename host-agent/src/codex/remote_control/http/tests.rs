use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::{Bytes, to_bytes};
use futures_util::{FutureExt, SinkExt, Stream, StreamExt, stream};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_util::task::AbortOnDropHandle;

use super::super::control::{Client, ClientPage, PairingCode, Unavailable};
use super::*;

/// The person's sign-in: must not be found anywhere but at the upstream.
const SIGN_IN: &str = "the-persons-own-sign-in";
const INSTALLATION: &str = "7c3b2f6e-0000-4000-8000-000000000001";
const DEADLINE: Duration = Duration::from_secs(20);

/// A host in memory: devices, and the codes that were claimed.
struct Memory(Mutex<Vec<Client>>);

impl Host for Memory {
    fn pair(&self) -> BoxFuture<'_, Result<PairingCode, Unavailable>> {
        let code = PairingCode {
            pairing_code: "long".into(),
            manual_pairing_code: "LAB4-2345".into(),
            expires_at: Timestamp::from_unix(600),
        };
        async { Ok(code) }.boxed()
    }

    fn claimed<'a>(&'a self, code: &'a str) -> BoxFuture<'a, bool> {
        async move { code == "LAB4-2345" }.boxed()
    }

    fn clients<'a>(&'a self, limit: usize, cursor: Option<&'a str>) -> BoxFuture<'a, Result<ClientPage, Unavailable>> {
        let all = self.0.lock().unwrap();
        let from = cursor.map_or(0, |cursor| cursor.parse().unwrap());
        let items: Vec<_> = all.iter().skip(from).take(limit).cloned().collect();
        let next = from + items.len();
        let cursor = (next < all.len()).then(|| next.to_string());
        async { Ok(ClientPage { items, cursor }) }.boxed()
    }

    fn revoke<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<bool, Unavailable>> {
        if client_id == "stuck" {
            return async { Err(Unavailable("the list can't be written".into())) }.boxed();
        }
        let mut all = self.0.lock().unwrap();
        let before = all.len();
        all.retain(|client| client.client_id != client_id);
        let is_gone = all.len() < before;
        async move { Ok(is_gone) }.boxed()
    }
}

/// A server, and what a Codex knows of it.
struct Served {
    home: Arc<TempDir>,
    port: u16,
    /// With the secret, up to `backend-api`.
    base: String,
    now: Arc<AtomicU64>,
    /// The cursor of each socket that was opened.
    sockets: mpsc::Receiver<Option<Cursor>>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Served {
    async fn new() -> Self {
        Self::at(Arc::new(tempfile::tempdir().unwrap()), None).await
    }

    async fn before(upstream: &str) -> Self {
        Self::at(Arc::new(tempfile::tempdir().unwrap()), Some(Upstream::new(upstream).unwrap())).await
    }

    async fn at(home: Arc<TempDir>, upstream: Option<Upstream>) -> Self {
        let (enrolment, listener) = Enrolment::open(home.path()).await.unwrap();
        let (port, url) = (enrolment.port(), enrolment.base_url());
        let base = url.strip_prefix(&format!("http://127.0.0.1:{port}")).unwrap().to_owned();
        let clients = (0..5).map(|n| Client { client_id: format!("phone-{n}"), ..Client::default() }).collect();
        let (opened, sockets) = mpsc::channel(8);
        let now = Arc::new(AtomicU64::new(1_000_000));
        let clock = Arc::clone(&now);
        let callers = Callers::default();
        callers.user();
        let parts = Parts {
            enrolment,
            callers,
            host: Arc::new(Memory(Mutex::new(clients))),
            sockets: Arc::new(move |socket, cursor| echo(socket, cursor, opened.clone()).boxed()),
            upstream,
            clock: Arc::new(move || Timestamp::from_unix(clock.load(Ordering::SeqCst))),
        };
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(parts, listener, stop.clone()));
        Self { home, port, base, now, sockets, stop, serving }
    }

    async fn end(self) -> Arc<TempDir> {
        self.stop.cancel();
        timeout(DEADLINE, self.serving).await.expect("it ends").unwrap();
        self.home
    }

    fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> http::request::Builder {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", format!("127.0.0.1:{}", self.port));
        }
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    }

    /// What comes back from below the base.
    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Value) -> (StatusCode, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = self.request(method, &format!("{}{path}", self.base), headers);
        let (status, _, body) = whole(send(self.port, request.body(Body::from(body)).unwrap()).await).await;
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn control(&self, method: &str, path: &str, bearer: &str, body: Value) -> (StatusCode, Value) {
        let bearer = format!("Bearer {bearer}");
        let path = format!("/wham/remote/control/{path}");
        self.ask(method, &path, &[("authorization", &bearer), ("chatgpt-account-id", "acct-1")], body).await
    }

    async fn enroll(&self) -> Value {
        let body = json!({"name": "vm", "os": "linux", "arch": "x86_64", "app_server_version": "0.169.0",
            "installation_id": INSTALLATION});
        let (status, grant) = self.control("POST", "server/enroll", SIGN_IN, body).await;
        assert_eq!(status, StatusCode::OK, "{grant}");
        grant
    }

    fn upgrade(&self, grant: &Value, changes: &[(&str, &str)]) -> Request<()> {
        let bearer = format!("Bearer {}", grant["remote_control_token"].as_str().unwrap());
        let headers = [
            ("authorization", bearer.as_str()),
            ("x-codex-server-id", grant["server_id"].as_str().unwrap()),
            ("x-codex-protocol-version", "3"),
            ("x-codex-name", "dm0="),
            ("x-codex-installation-id", INSTALLATION),
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let kept = headers.iter().filter(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
        let all: Vec<_> = kept.chain(changes.iter().filter(|(_, value)| !value.is_empty())).copied().collect();
        let path = format!("{}/wham/remote/control/server", self.base);
        let request = self.request("GET", &path, &all).body(()).unwrap();
        let (mut head, ()) = request.into_parts();
        head.uri = format!("ws://127.0.0.1:{}{path}", self.port).parse().unwrap();
        Request::from_parts(head, ())
    }

    async fn open(&self, request: Request<()>) -> Result<WebSocketStream<TcpStream>, (StatusCode, Value)> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        match timeout(DEADLINE, tokio_tungstenite::client_async(request, stream)).await.expect("an answer") {
            Ok((socket, _)) => Ok(socket),
            Err(tungstenite::Error::Http(response)) => {
                let body = response.body().as_deref().unwrap_or_default();
                Err((response.status(), serde_json::from_slice(body).unwrap_or_default()))
            }
            Err(error) => panic!("{error}"),
        }
    }

    async fn refused(&self, request: Request<()>) -> (StatusCode, Value) {
        self.open(request).await.expect_err("it was let in")
    }
}

/// Says that it is open, and gives back what it gets.
async fn echo(mut socket: WebSocket, cursor: Option<Cursor>, opened: mpsc::Sender<Option<Cursor>>) {
    opened.send(cursor).await.unwrap();
    while let Some(Ok(message)) = socket.recv().await {
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

/// An answer whose body is still coming, and the connection that it comes by.
async fn send(port: u16, request: Request) -> (hyper::Response<Incoming>, AbortOnDropHandle<()>) {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        let _ended = connection.await;
    }));
    (timeout(DEADLINE, sender.send_request(request)).await.expect("an answer").unwrap(), connection)
}

async fn whole(
    (answer, _connection): (hyper::Response<Incoming>, AbortOnDropHandle<()>),
) -> (StatusCode, HeaderMap, Bytes) {
    let (head, body) = answer.into_parts();
    let body = timeout(DEADLINE, to_bytes(Body::new(body), 1 << 20)).await.expect("a whole body").unwrap();
    (head.status, head.headers, body)
}

/// A body of what is sent into the other end.
fn body_of(pieces: mpsc::Receiver<Bytes>) -> Body {
    let pieces: std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, Infallible>> + Send>> =
        Box::pin(stream::unfold(pieces, async |mut pieces| pieces.recv().await.map(|piece| (Ok(piece), pieces))));
    Body::from_stream(pieces)
}

async fn next(body: &mut (impl Stream<Item = Result<Bytes, axum::Error>> + Unpin)) -> Bytes {
    timeout(DEADLINE, body.next()).await.expect("a piece").expect("more").unwrap()
}

/// The vendor's backend: hands each request to the test, which says what to answer.
struct Vendor {
    url: String,
    asked: mpsc::Receiver<(Request, tokio::sync::oneshot::Sender<Response>)>,
    _serving: AbortOnDropHandle<()>,
}

impl Vendor {
    async fn new() -> Self {
        let (ask, asked) = mpsc::channel(8);
        let router = Router::new().fallback(move |request: Request| async move {
            let (answer, answered) = tokio::sync::oneshot::channel();
            ask.send((request, answer)).await.unwrap();
            answered.await.unwrap()
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/vendor/api/", listener.local_addr().unwrap());
        let serving = async move { axum::serve(listener, router).await.unwrap() };
        Self { url, asked, _serving: AbortOnDropHandle::new(tokio::spawn(serving)) }
    }

    async fn next(&mut self) -> (Request, tokio::sync::oneshot::Sender<Response>) {
        timeout(DEADLINE, self.asked.recv()).await.expect("a request at the vendor's").unwrap()
    }
}

#[tokio::test]
async fn codex_enrols_refreshes_and_opens_its_socket() {
    let mut served = Served::new().await;
    let first = served.enroll().await;
    assert_eq!(first["expires_at"], Timestamp::from_unix(1_003_600).to_string());
    let ids = json!({"server_id": first["server_id"], "installation_id": INSTALLATION});
    let (status, second) = served.control("POST", "server/refresh", SIGN_IN, ids).await;
    assert_eq!(status, StatusCode::OK);
    for id in ["server_id", "environment_id"] {
        assert_eq!(first[id], second[id], "{id} changed");
    }
    assert_ne!(first["remote_control_token"], second["remote_control_token"]);

    for (grant, cursor) in [(&first, None), (&second, Some("17"))] {
        let changes = cursor.map(|cursor| ("x-codex-subscribe-cursor", cursor));
        let mut socket = served.open(served.upgrade(grant, changes.as_slice())).await.unwrap();
        let opened = timeout(DEADLINE, served.sockets.recv()).await.expect("a socket").unwrap();
        assert_eq!(opened, cursor.map(|cursor| Cursor(cursor.into())));
        socket.send(Message::text("there and back")).await.unwrap();
        let back = timeout(DEADLINE, socket.next()).await.expect("an echo").unwrap().unwrap();
        assert_eq!(back, Message::text("there and back"));
    }
}

#[tokio::test]
async fn a_restart_of_the_agent_costs_codex_one_refresh() {
    let served = Served::new().await;
    let grant = served.enroll().await;
    let (port, base) = (served.port, served.base.clone());
    let home = served.end().await;

    let served = Served::at(home, None).await;
    assert_eq!((served.port, &served.base), (port, &base));
    assert_eq!(served.refused(served.upgrade(&grant, &[])).await.0, StatusCode::UNAUTHORIZED);
    let ids = json!({"server_id": grant["server_id"], "installation_id": INSTALLATION});
    let (status, again) = served.control("POST", "server/refresh", SIGN_IN, ids).await;
    assert_eq!((status, &again["server_id"]), (StatusCode::OK, &grant["server_id"]));
    served.open(served.upgrade(&again, &[])).await.unwrap();
}

#[tokio::test]
async fn a_socket_is_refused_to_a_wrong_or_expired_token_to_another_server_and_to_another_version() {
    let served = Served::new().await;
    let grant = served.enroll().await;
    let unauthorized = (StatusCode::UNAUTHORIZED, json!({"detail": "Unauthorized"}));
    for bearer in ["", "Bearer ", "Bearer x", &format!("Bearer {SIGN_IN}"), "Basic x"] {
        assert_eq!(served.refused(served.upgrade(&grant, &[("authorization", bearer)])).await, unauthorized);
    }
    let unknown = (StatusCode::NOT_FOUND, json!({"detail": "Remote app server not found"}));
    for server in ["", "srv-of-another"] {
        assert_eq!(served.refused(served.upgrade(&grant, &[("x-codex-server-id", server)])).await, unknown);
    }
    for version in ["", "2", "4", "3, 4"] {
        let (status, body) = served.refused(served.upgrade(&grant, &[("x-codex-protocol-version", version)])).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{version}");
        assert!(body["detail"].as_str().unwrap().contains("version 3"), "{body}");
    }
    let long = "x".repeat(1000);
    let (status, _) = served.refused(served.upgrade(&grant, &[("x-codex-subscribe-cursor", &long)])).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);

    served.now.fetch_add(3599, Ordering::SeqCst);
    served.open(served.upgrade(&grant, &[])).await.unwrap();
    served.now.fetch_add(1, Ordering::SeqCst);
    assert_eq!(served.refused(served.upgrade(&grant, &[])).await, unauthorized);
}

#[tokio::test]
async fn what_is_no_websocket_handshake_opens_no_socket() {
    let served = Served::new().await;
    let grant = served.enroll().await;
    let (parts, ()) = served.upgrade(&grant, &[]).into_parts();
    let keep = |name: &str| parts.headers[name].to_str().unwrap().to_owned();
    let headers = ["authorization", "x-codex-server-id", "x-codex-protocol-version"].map(|name| (name, keep(name)));
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let (status, _) = served.ask("GET", "/wham/remote/control/server", &headers, Value::Null).await;
    assert_eq!(status, StatusCode::UPGRADE_REQUIRED);
}

#[tokio::test]
async fn a_stop_ends_sockets_and_opens_no_more() {
    let served = Served::new().await;
    let grant = served.enroll().await;
    let mut socket = served.open(served.upgrade(&grant, &[])).await.unwrap();
    // Connected before the stop, asks after it.
    let mut late = TcpStream::connect(("127.0.0.1", served.port)).await.unwrap();
    let request = served.upgrade(&grant, &[]);
    let mut text = format!("GET {} HTTP/1.1\r\n", request.uri().path());
    for (name, value) in request.headers() {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    late.write_all(text.as_bytes()).await.unwrap();
    // Connections are taken in turn: that one is taken once the next is answered.
    served.control("POST", "server/pair", "x", Value::Null).await;
    let Served { stop, serving, .. } = served;
    stop.cancel();
    late.write_all(b"\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, late.read_to_string(&mut answer)).await.expect("an answer").unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let ended = timeout(DEADLINE, socket.next()).await.expect("the socket ends");
    assert!(!matches!(ended, Some(Ok(Message::Text(_)))), "{ended:?}");
    timeout(DEADLINE, serving).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn who_does_not_know_the_secret_path_learns_nothing() {
    let served = Served::new().await;
    served.enroll().await;
    let secret = served.base.split('/').nth(1).unwrap();
    let rest = "/backend-api/wham/remote/control/server/enroll";
    for path in [
        "/".to_owned(),
        rest.to_owned(),
        format!("/{}{rest}", "a".repeat(52)),
        format!("/{}{rest}", secret.to_uppercase()),
        format!("/{}{rest}", &secret[1..]),
        format!("//{secret}{rest}"),
        format!("/{secret}"),
        format!("/{secret}/"),
        format!("/{secret}/backend-api"),
        format!("/{secret}/backend-apis/x"),
        format!("/x/../{secret}{rest}"),
        format!("/?/{secret}{rest}"),
    ] {
        for method in ["GET", "POST", "OPTIONS"] {
            let request = served.request(method, &path, &[("authorization", "Bearer x")]).body(Body::empty()).unwrap();
            let (status, headers, body) = whole(send(served.port, request).await).await;
            assert_eq!((status, body.len()), (StatusCode::NOT_FOUND, 0), "{method} {path}");
            let names: Vec<_> = headers.keys().map(|name| name.as_str()).collect();
            assert!(names.iter().all(|name| ["connection", "content-length", "date"].contains(name)), "{names:?}");
        }
    }
}

#[tokio::test]
async fn pages_and_other_names_for_this_address_are_turned_away_with_the_secret_too() {
    let served = Served::new().await;
    let port = served.port;
    let path = format!("{}/wham/remote/control/server/enroll", served.base);
    let mut cases: Vec<Vec<(&str, String)>> = [
        ("origin", "https://example.com".to_owned()),
        ("origin", "null".to_owned()),
        ("origin", format!("http://127.0.0.1:{port}")),
        ("sec-fetch-site", "same-origin".to_owned()),
        ("Sec-Fetch-Mode", "navigate".to_owned()),
    ]
    .map(|case| vec![case])
    .into();
    let names = ["example.com".to_owned(), format!("example.com:{port}"), format!("localhost:{port}")];
    let numbers = ["127.0.0.1".to_owned(), format!("127.0.0.2:{port}"), format!("[::1]:{port}"), String::new()];
    cases.extend(names.into_iter().chain(numbers).map(|host| vec![("host", host)]));
    cases.push(vec![("host", format!("127.0.0.1:{port}")), ("host", "example.com".to_owned())]);
    for case in cases {
        let mut headers: Vec<_> = case.iter().map(|(name, value)| (*name, value.as_str())).collect();
        headers.push(("authorization", "Bearer x"));
        let body = Body::from(json!({"installation_id": INSTALLATION}).to_string());
        let request = served.request("POST", &path, &headers).body(body).unwrap();
        let (status, _, body) = whole(send(port, request).await).await;
        assert_eq!((status, body.len()), (StatusCode::FORBIDDEN, 0), "{case:?}");
    }
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let absolute = format!("POST http://example.com{path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n");
    stream.write_all(absolute.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer)).await.expect("an answer").unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}

#[tokio::test]
async fn what_is_too_large_or_makes_no_sense_is_refused_and_not_quoted() {
    let served = Served::new().await;
    let large = json!({"installation_id": "x".repeat(MAX_BODY)});
    let (status, _) = served.control("POST", "server/enroll", SIGN_IN, large).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    for body in [
        Value::Null,
        json!([]),
        json!({}),
        json!({"installation_id": 7}),
        json!({"installation_id": ""}),
        json!({"installation_id": "quoted/../me"}),
        json!({"installation_id": "q".repeat(200)}),
    ] {
        let (status, answer) = served.control("POST", "server/enroll", SIGN_IN, body.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(!answer.to_string().contains("quoted"), "{answer}");
    }
    for path in ["server/enroll", "server/refresh"] {
        let (status, _) =
            served.ask("POST", &format!("/wham/remote/control/{path}"), &[], json!({"installation_id": "x"})).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
    }
    let grant = served.enroll().await;
    for ids in [
        json!({"server_id": "srv-x", "installation_id": INSTALLATION}),
        json!({"server_id": grant["server_id"], "installation_id": "another"}),
    ] {
        let refused = served.control("POST", "server/refresh", SIGN_IN, ids).await;
        assert_eq!(refused, (StatusCode::NOT_FOUND, json!({"detail": "Remote app server not found"})));
    }
    let head = "x".repeat(2 * MAX_HEAD);
    let request = served.request("GET", &served.base, &[("x-large", &head)]).body(Body::empty()).unwrap();
    let (status, ..) = whole(send(served.port, request).await).await;
    assert_eq!(status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[tokio::test]
async fn pairing_takes_a_token_of_this_agents() {
    let served = Served::new().await;
    let grant = served.enroll().await;
    let token = grant["remote_control_token"].as_str().unwrap();
    let (status, code) = served.control("POST", "server/pair", token, json!({"manual_code": true})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        code,
        json!({"pairing_code": "long", "manual_pairing_code": "LAB4-2345", "expires_at": "1970-01-01T00:10:00Z",
            "server_id": grant["server_id"], "environment_id": grant["environment_id"]})
    );
    for (code, claimed) in [("LAB4-2345", true), ("LAB4-2346", false)] {
        for name in ["manual_pairing_code", "pairing_code"] {
            let answer = served.control("POST", "server/pair/status", token, json!({ name: code })).await;
            assert_eq!(answer, (StatusCode::OK, json!({ "claimed": claimed })), "{name}");
        }
    }
    for path in ["server/pair", "server/pair/status"] {
        let (status, _) = served.control("POST", path, SIGN_IN, json!({"manual_pairing_code": "LAB4-2345"})).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[tokio::test]
async fn clients_are_listed_in_pages_and_revoked() {
    let served = Served::new().await;
    let grant = served.enroll().await;
    let clients = format!("environments/{}/clients", grant["environment_id"].as_str().unwrap());
    let (mut seen, mut query, mut pages) = (Vec::new(), "?limit=2".to_owned(), 0);
    loop {
        let (status, page) = served.control("GET", &format!("{clients}{query}"), SIGN_IN, Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        pages += 1;
        seen.extend(
            page["items"].as_array().unwrap().iter().map(|item| item["client_id"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = page["cursor"].as_str() else { break };
        query = format!("?limit=2&cursor={cursor}");
    }
    assert_eq!((pages, seen), (3, (0..5).map(|n| format!("phone-{n}")).collect()));

    let (status, _) = served.control("DELETE", &format!("{clients}/phone-3"), SIGN_IN, Value::Null).await;
    assert!(status.is_success());
    let (status, _) = served.control("DELETE", &format!("{clients}/phone-3"), SIGN_IN, Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let stuck = served.control("DELETE", &format!("{clients}/stuck"), SIGN_IN, Value::Null).await;
    assert_eq!(stuck, (StatusCode::SERVICE_UNAVAILABLE, json!({"detail": "the list can't be written"})));
    let (_, rest) = served.control("GET", &clients, SIGN_IN, Value::Null).await;
    assert_eq!((rest["items"].as_array().unwrap().len(), &rest["cursor"]), (4, &Value::Null));

    for wrong in ["?limit=x", "?limit=-1", &format!("?cursor={}", "x".repeat(200))] {
        let (status, _) = served.control("GET", &format!("{clients}{wrong}"), SIGN_IN, Value::Null).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    for (method, path) in [("GET", "environments/env-x/clients"), ("DELETE", "environments/env-x/clients/phone-1")] {
        let (status, _) = served.control(method, path, SIGN_IN, Value::Null).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        let (status, _) = served.ask(method, &format!("/wham/remote/control/{path}"), &[], Value::Null).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[tokio::test]
async fn the_rest_goes_to_the_vendor_and_comes_back_as_it_is() {
    let mut vendor = Vendor::new().await;
    let served = Served::before(&vendor.url).await;
    let bearer = format!("Bearer {SIGN_IN}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("accept-encoding", "gzip"),
        ("connection", "x-once"),
        ("x-once", "1"),
        ("proxy-authorization", "x"),
    ];
    let request = served.request("PUT", &format!("{}/ps/plugins/a%2Fb?x=1&y=%20", served.base), &headers);
    let answer = tokio::spawn(send(served.port, request.body(Body::from("question")).unwrap()));
    let (asked, answering) = vendor.next().await;
    assert_eq!(
        (asked.method().as_str(), asked.uri().to_string()),
        ("PUT", "/vendor/api/ps/plugins/a%2Fb?x=1&y=%20".into())
    );
    let vendors = vendor.url.split('/').nth(2).unwrap();
    for (name, value) in [("host", vendors), ("authorization", bearer.as_str()), ("accept-encoding", "gzip")] {
        assert_eq!(asked.headers()[name], value);
    }
    for name in ["x-once", "proxy-authorization", "connection"] {
        assert!(!asked.headers().contains_key(name), "{name} went on");
    }
    assert_eq!(to_bytes(asked.into_body(), 100).await.unwrap(), "question");
    let moved = Response::builder()
        .status(StatusCode::FOUND)
        .header("location", "https://chatgpt.com/elsewhere")
        .header("set-cookie", "a=1")
        .header("set-cookie", "b=2");
    answering.send(moved.body(Body::from("answer")).unwrap()).unwrap();
    let (status, headers, body) = whole(answer.await.unwrap()).await;
    assert_eq!((status, body.as_ref()), (StatusCode::FOUND, b"answer".as_slice()), "a redirect is Codex's to follow");
    assert_eq!(headers["location"], "https://chatgpt.com/elsewhere");
    assert_eq!(headers.get_all("set-cookie").iter().count(), 2);
}

#[tokio::test]
async fn what_is_passed_on_streams_both_ways_piece_by_piece() {
    let mut vendor = Vendor::new().await;
    let served = Served::before(&vendor.url).await;
    let (up, upload) = mpsc::channel(1);
    let request = served.request("POST", &format!("{}/ps/mcp", served.base), &[]).body(body_of(upload)).unwrap();
    let answer = tokio::spawn(send(served.port, request));
    up.send(Bytes::from("up 1")).await.unwrap();
    let (asked, answering) = vendor.next().await;
    let mut received = asked.into_body().into_data_stream();
    assert_eq!(next(&mut received).await, "up 1");
    up.send(Bytes::from("up 2")).await.unwrap();
    assert_eq!(next(&mut received).await, "up 2");
    drop(up);

    let (down, download) = mpsc::channel(1);
    let events = Response::builder().header("content-type", "text/event-stream").body(body_of(download)).unwrap();
    answering.send(events).unwrap();
    let (answer, connection) = answer.await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut body = Body::new(answer.into_body()).into_data_stream();
    for piece in ["data: 1\n\n", "data: 2\n\n"] {
        down.send(Bytes::from(piece)).await.unwrap();
        assert_eq!(next(&mut body).await, piece);
    }
    drop((body, connection));
    // Codex hung up: the vendor hears of it.
    timeout(DEADLINE, down.closed()).await.expect("the vendor's end is closed");
}

#[tokio::test]
async fn with_nobody_to_pass_on_to_there_is_nothing_here() {
    let nothing = (StatusCode::NOT_FOUND, json!({"detail": "Not Found"}));
    let off = Served::new().await;
    assert_eq!(off.ask("GET", "/wham/settings/user", &[], Value::Null).await, nothing);

    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", closed.local_addr().unwrap());
    drop(closed);
    let offline = Served::before(&url).await;
    assert_eq!(offline.ask("GET", "/wham/settings/user", &[], Value::Null).await, nothing);

    // The address that was configured before is the agent's own: Codex was already pointed here.
    let home = offline.end().await;
    let before = Enrolment::open(home.path()).await.unwrap().0.base_url();
    let around = Served::at(home, Some(Upstream::new(&before).unwrap())).await;
    assert_eq!(around.ask("GET", "/wham/settings/user", &[], Value::Null).await, nothing);
}

#[tokio::test]
async fn remote_control_is_never_passed_on_however_it_is_spelled() {
    let mut vendor = Vendor::new().await;
    let served = Served::before(&vendor.url).await;
    for path in [
        "/wham/remote/control",
        "/wham/remote/control/",
        "/wham/remote/control/server/other",
        "/wham/remote/control/server/enroll/",
        "/WHAM/Remote/control/server/enroll",
        "/wham//remote/control/server/enroll",
        "//wham/remote/control/server/enroll",
        "/wham/./remote/control/server/enroll",
        "/x/../wham/remote/control/server/enroll",
        "/x/%2e%2E/wham/remote/control/server/enroll",
        "/wham/remot%65/control/server/enroll",
        "/wham/remote%2fcontrol/server/enroll",
        "/x%2f../wham/remote/control/server/enroll",
        "/x/y/z/..%2F..%2f..%5cwham/remote/control/server/enroll",
    ] {
        let headers = [("authorization", "Bearer x")];
        let (status, _) = served.ask("POST", path, &headers, json!({"installation_id": "x"})).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
    }
    let (status, _) = served.ask("PUT", "/wham/remote/control/server/enroll", &[], Value::Null).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(vendor.asked.try_recv().is_err(), "the vendor was asked");
    for path in ["/wham/remote/controls", "/wham/settings/user", "/ps/plugins/installed/"] {
        let asking = served.request("GET", &format!("{}{path}", served.base), &[]).body(Body::empty()).unwrap();
        let answer = tokio::spawn(send(served.port, asking));
        let (asked, answering) = vendor.next().await;
        assert_eq!(asked.uri().path(), format!("/vendor/api{path}"));
        answering.send(StatusCode::NO_CONTENT.into_response()).unwrap();
        assert_eq!(answer.await.unwrap().0.status(), StatusCode::NO_CONTENT);
    }
}

#[tokio::test]
async fn connections_that_say_nothing_end_and_others_wait_for_their_place() {
    let served = Served::new().await;
    let mut silent = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        silent.push(TcpStream::connect(("127.0.0.1", served.port)).await.unwrap());
    }
    // Behind all of them, and answered once their time for a head is over.
    served.enroll().await;
    for mut stream in silent {
        let mut left = Vec::new();
        timeout(DEADLINE, stream.read_to_end(&mut left)).await.expect("it was closed").unwrap();
        assert!(left.is_empty() || left.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&left));
    }
}

#[tokio::test]
async fn what_the_vendor_is_slow_with_leaves_room_for_enrolling_and_has_an_end_itself() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let served = Served::before(&format!("http://{}/", listener.local_addr().unwrap())).await;
    let path = format!("{}/ps/mcp", served.base);
    let request = || served.request("POST", &path, &[]).body(Body::empty()).unwrap();
    let (mut asking, mut vendors) = (Vec::new(), Vec::new());
    for _ in 0..MAX_PASSED {
        asking.push(AbortOnDropHandle::new(tokio::spawn(send(served.port, request()))));
        vendors.push(timeout(DEADLINE, listener.accept()).await.expect("a request at the vendor's").unwrap().0);
    }
    for _ in 0..MAX_CONNECTIONS {
        let (status, headers, body) = whole(send(served.port, request()).await).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            (&headers["retry-after"], body.as_ref()),
            (&AGAIN, br#"{"detail":"Service Unavailable"}"#.as_slice())
        );
    }
    served.enroll().await;

    // Codex gave up on one, so there is a place.
    drop(asking.pop());
    let mut silent = vendors.pop().unwrap();
    let mut asked = Vec::new();
    timeout(DEADLINE, silent.read_to_end(&mut asked)).await.expect("the vendor's end is closed").unwrap();
    let next = tokio::spawn(send(served.port, request()));
    let (mut vendor, _) = timeout(DEADLINE, listener.accept()).await.expect("a request at the vendor's").unwrap();
    // A place is held until the whole answer has come.
    vendor.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n1").await.unwrap();
    let answer = next.await.unwrap();
    assert_eq!(whole(send(served.port, request()).await).await.0, StatusCode::SERVICE_UNAVAILABLE);
    vendor.write_all(b"2").await.unwrap();
    assert_eq!(whole(answer).await.2, "12");
}

#[tokio::test]
async fn a_vendor_that_answers_rubbish_is_told_from_one_that_is_not_there() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let served = Served::before(&format!("http://{}/", listener.local_addr().unwrap())).await;
    let vendor = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"SSH-2.0-OpenSSH\r\n").await.unwrap();
        stream
    });
    let answer = served.ask("GET", "/wham/settings/user", &[], Value::Null).await;
    assert_eq!(answer, (StatusCode::BAD_GATEWAY, json!({"detail": "Bad Gateway"})));
    drop(vendor);
}

/// All that is logged in a test's thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Every file below `folder`, with its content.
fn files(folder: &std::path::Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![(path.clone(), std::fs::read(&path).unwrap())] })
        .collect()
}

#[tokio::test]
async fn the_persons_sign_in_and_the_secrets_are_in_no_log_no_file_and_no_debug_output() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing::Level::TRACE);
    let _kept = tracing::subscriber::set_default(subscriber.with_writer(move || writer.clone()).finish());
    tracing::debug!("the log is kept");

    let served = Served::before("http://127.0.0.1:9/").await;
    let grant = served.enroll().await;
    let token = grant["remote_control_token"].as_str().unwrap().to_owned();
    let secret = served.base.split('/').nth(1).unwrap().to_owned();
    // A place in the code that another test's thread logs from for the first time, in the moment in which this log begins, may
    // have missed that.
    tracing::callsite::rebuild_interest_cache();
    let mut answers = Vec::new();
    let bearer = format!("Bearer {SIGN_IN}");
    let headers = [("authorization", bearer.as_str()), ("chatgpt-account-id", "acct-1")];
    answers.push(served.ask("GET", "/wham/settings/user?q=asked", &headers, Value::Null).await);
    answers.push(served.control("POST", "server/enroll", SIGN_IN, json!({"installation_id": SIGN_IN.repeat(9)})).await);
    answers.push(served.control("POST", "server/enroll", SIGN_IN, json!({"installation_id": "another"})).await);
    answers.push(served.control("POST", "server/pair", SIGN_IN, Value::Null).await);
    answers.push(served.refused(served.upgrade(&grant, &[])).await);
    // Again until it is in the log: see above.
    let broken = async {
        while !String::from_utf8_lossy(&log.0.lock().unwrap()).contains("broke off") {
            tracing::callsite::rebuild_interest_cache();
            let mut broken = TcpStream::connect(("127.0.0.1", served.port)).await.unwrap();
            let request = format!("GET /{secret} HTTP/9\r\nauthorization: {bearer}\r\n\r\n");
            broken.write_all(request.as_bytes()).await.unwrap();
            broken.read_to_end(&mut Vec::new()).await.unwrap();
        }
    };
    timeout(DEADLINE, broken).await.expect("a line about a connection that broke off");
    let home = served.end().await;

    for (path, content) in files(home.path()) {
        let text = String::from_utf8_lossy(&content);
        for word in [SIGN_IN, "acct-1", &token] {
            assert!(!text.contains(word), "{word} is in {}", path.display());
        }
        assert_eq!(text.contains(&secret), path.ends_with("host/remote_control.json"), "{}", path.display());
    }
    for (status, answer) in answers {
        let text = answer.to_string();
        assert!(![SIGN_IN, &secret].iter().any(|word| text.contains(*word)), "{status} {text}");
    }
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for line in ["the log is kept", "another installation", "was not passed on", "broke off"] {
        assert!(logged.contains(line), "no `{line}` in {logged}");
    }
    for word in [SIGN_IN, &secret, &token, "acct-1", "asked"] {
        assert!(!logged.contains(word), "{word} is in the log: {logged}");
    }

    let (enrolment, _listener) = Enrolment::open(home.path()).await.unwrap();
    let granted = enrolment.enroll(INSTALLATION, Timestamp::EPOCH).unwrap();
    let shown = format!("{enrolment:?} {granted:?} {:?}", Memory(Mutex::default()).pair().await);
    assert!(shown.contains("Token(…)"), "{shown}");
    for word in [&secret, granted.token.expose(), "LAB4-2345"] {
        assert!(!shown.contains(word), "{shown}");
    }
}
