//! The supervisor against stand-ins for an app-server of somebody else's. The real one is in the end-to-end tests.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// Short enough for a test, and growing still.
const SOON: BackoffConfig = BackoffConfig { first: Duration::from_millis(5), max: Duration::from_millis(40) };

/// What a stand-in is like.
#[derive(Clone)]
struct Play {
    /// What it lets in, as `Authorization` says it; `None` lets everybody in.
    wants: Option<String>,
    /// What it answers to `initialize`; others are answered with `{}`.
    says: Value,
    /// What was said to it in `Authorization`.
    heard: Arc<Mutex<Vec<Option<String>>>>,
}

impl Play {
    fn of(home: &Path) -> Self {
        let says = json!({ "result": { "userAgent": "x/0.169.0 (y)", "codexHome": home } });
        Self { wants: None, says, heard: Arc::default() }
    }

    fn wanting(self, token: &str) -> Self {
        Self { wants: Some(format!("Bearer {token}")), ..self }
    }

    fn heard(&self) -> Vec<Option<String>> {
        self.heard.lock().unwrap().clone()
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        #[expect(clippy::result_large_err, reason = "the library's own type")]
        let look = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
            let said = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
            self.heard.lock().unwrap().push(said.clone());
            match self.wants.is_none() || self.wants == said {
                true => Ok(response),
                false => Err(Response::builder().status(401).body(said).unwrap()),
            }
        };
        let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, look).await else { return };
        while let Some(Ok(Message::Text(text))) = socket.next().await {
            let mut answer = json!({});
            let asked: Value = serde_json::from_str(&text).unwrap_or_default();
            if asked["method"] == "initialize" {
                answer = self.says.clone();
                answer["id"] = asked["id"].clone();
                let told = json!({ "method": "remoteControl/status/changed", "params": {} });
                let _ = socket.send(Message::text(told.to_string())).await;
            }
            if socket.send(Message::text(answer.to_string())).await.is_err() {
                return;
            }
        }
    }

    fn on(self, listener: TcpListener) -> AbortOnDropHandle<()> {
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                clients.spawn(self.clone().serve(stream));
            }
        }))
    }
}

async fn listener() -> (TcpListener, Address) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("ws://{}", listener.local_addr().unwrap()).parse().unwrap();
    (listener, address)
}

fn attach(address: &Address, credential: Credential, home: &Path) -> Attach {
    let config = AttachConfig::new(address.clone(), credential, Some(home.into()));
    Attach::start(AttachConfig { retries: SOON, ..config })
}

fn secret_file(dir: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

async fn until(server: &Attach, what: &str, wanted: impl FnMut(&CodexState) -> bool) -> CodexState {
    let mut state = server.state();
    let seen = timeout(PATIENCE, state.wait_for(wanted)).await;
    seen.unwrap_or_else(|_| panic!("codex never was {what}; it is {:?}", server.state().borrow())).unwrap().clone()
}

async fn instance(server: &Attach) -> Instance {
    match until(server, "ready", |state| matches!(state, CodexState::Ready { .. })).await {
        CodexState::Ready { instance, started_by, version } => {
            assert_eq!((started_by, version.as_deref()), (StartedBy::Others, Some("0.169.0")));
            instance
        }
        other => panic!("waited for readiness, got {other:?}"),
    }
}

/// The first failure with these words, and what helps.
async fn failure(server: &Attach, words: &str) -> String {
    let is_it = |state: &CodexState| matches!(state, CodexState::Failed { reason, .. } if reason.contains(words));
    match until(server, &format!("failed with `{words}`"), is_it).await {
        CodexState::Failed { fix, .. } => fix.expect("it says what to do"),
        other => panic!("waited for a failure, got {other:?}"),
    }
}

#[tokio::test]
async fn a_server_that_goes_away_is_said_to_be_and_is_attached_to_again_when_it_is_back() {
    let home = tempfile::tempdir().unwrap();
    let (listening, address) = listener().await;
    let addr = listening.local_addr().unwrap();
    let running = Play::of(home.path()).on(listening);
    let server = attach(&address, Credential::None, home.path());
    let first = instance(&server).await;
    assert_eq!(server.address().as_deref(), Some(&*address.to_string()));
    let mut client = server.connect(Allowance::default()).await.unwrap();
    assert_eq!(client.instance, first);
    client.sender.send("hello").await.unwrap();
    assert_eq!(client.receiver.next().await.unwrap().unwrap(), "{}");

    drop(running);
    let fix = failure(&server, "nobody listens on ws://127.0.0.1:").await;
    assert!(fix.contains(&format!("codex app-server --listen {address}")), "{fix}");
    assert!(client.receiver.next().await.is_none(), "the channel outlived the server");
    let refused = server.connect(Allowance::default()).await;
    assert!(matches!(refused, Err(ConnectError::Failed { fix: Some(_), .. })), "{refused:?}");

    let _running = Play::of(home.path()).on(TcpListener::bind(addr).await.unwrap());
    assert_ne!(instance(&server).await, first, "another run is another instance");
    server.connect(Allowance::default()).await.unwrap();
    server.stop().await;
    assert!(matches!(server.connect(Allowance::default()).await, Err(ConnectError::Stopped)));
}

#[tokio::test]
async fn a_token_lets_in_and_another_or_none_is_refused_in_words_that_name_the_option() {
    let home = tempfile::tempdir().unwrap();
    let file = secret_file(&home, "token", "s3cret\n");
    let (listening, address) = listener().await;
    let play = Play::of(home.path()).wanting("s3cret");
    let _running = play.clone().on(listening);
    let server = attach(&address, Credential::Token { file: file.clone() }, home.path());
    instance(&server).await;
    server.connect(Allowance::default()).await.unwrap();
    server.stop().await;
    assert!(play.heard().iter().all(|said| said.as_deref() == Some("Bearer s3cret")), "{:?}", play.heard());

    // Another one, and the right one as soon as it is in the file.
    secret_file(&home, "token", "an0ther");
    let server = attach(&address, Credential::Token { file: file.clone() }, home.path());
    let fix = failure(&server, "does not let the agent in (HTTP status 401): it takes another").await;
    assert!(fix.contains("--attach-token-file"), "{fix}");
    let told = format!("{:?}", server.state().borrow());
    assert!(!told.contains("an0ther"), "{told}");
    secret_file(&home, "token", "s3cret");
    instance(&server).await;
    server.stop().await;

    let server = attach(&address, Credential::None, home.path());
    let fix = failure(&server, "(HTTP status 401): it wants a token").await;
    assert!(fix.contains("--attach-token-file FILE or --attach-secret-file FILE"), "{fix}");
    server.stop().await;

    // A file that others may read meanwhile says nothing.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let before = play.heard().len();
    let server = attach(&address, Credential::Token { file }, home.path());
    let fix = failure(&server, "other users can get at").await;
    assert!(fix.contains("chmod 0600"), "{fix}");
    assert_eq!(play.heard().len(), before, "it was said all the same");
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_app_server_or_an_old_one_is_refused_in_words_of_its_own() {
    let home = tempfile::tempdir().unwrap();
    let said = |says: Value| Play { says, ..Play::of(home.path()) };
    let other = tempfile::tempdir().unwrap();
    for (play, words, fix) in [
        (
            said(json!({ "error": { "code": -32601, "message": "what?" } })),
            "is no app-server of codex",
            "codex app-server --listen",
        ),
        (said(json!({ "result": {} })), "is no app-server of codex", "codex app-server --listen"),
        (
            said(json!({ "result": { "userAgent": "x/0.150.2 (y)", "codexHome": home.path() } })),
            "is version 0.150.2, older than",
            "npm install -g @openai/codex@",
        ),
        (said(json!({ "error": { "code": -32001, "message": "busy" } })), "has too much to do", "tried again"),
        (Play::of(other.path()), "has its state in", "--codex-home"),
    ] {
        let (listening, address) = listener().await;
        let _running = play.on(listening);
        let server = attach(&address, Credential::None, home.path());
        let told = failure(&server, words).await;
        assert!(told.contains(fix), "{words}: {told}");
        server.stop().await;
    }
    // Something that speaks HTTP and no WebSocket, and something that speaks neither.
    for answer in ["HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n\r\n"] {
        let (listening, address) = listener().await;
        let _running = AbortOnDropHandle::new(tokio::spawn(async move {
            while let Ok((mut stream, _)) = listening.accept().await {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }));
        let server = attach(&address, Credential::None, home.path());
        failure(&server, "is no app-server of codex").await;
        server.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_told_and_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let (listening, address) = listener().await;
    let (answers, answered) = watch::channel(true);
    let play = Play::of(home.path());
    let _running = AbortOnDropHandle::new(tokio::spawn(async move {
        let mut clients = JoinSet::new();
        for number in 0.. {
            let Ok((stream, _)) = listening.accept().await else { return };
            // The first one asks who it is.
            match number {
                0 => clients.spawn(play.clone().serve(stream)),
                _ => clients.spawn(ws::testing::answer_while(stream, answered.clone())),
            };
        }
    }));
    let silence = Silence {
        ask_after: Duration::from_millis(10),
        told_after: Duration::from_millis(200),
        ended_after: Duration::from_millis(10),
    };
    let config = AttachConfig::new(address, Credential::None, Some(home.path().into()));
    let server = Attach::start(AttachConfig { silence, retries: SOON, ..config });
    let first = instance(&server).await;
    for _ in 0..2 {
        answers.send_replace(false);
        assert!(failure(&server, "does not answer").await.contains("restart the codex"));
        answers.send_replace(true);
        assert_eq!(instance(&server).await, first, "it is the same run");
    }
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_said_to_another_users_program_that_took_the_port() {
    let home = tempfile::tempdir().unwrap();
    let file = secret_file(&home, "token", "s3cret");
    let (listening, address) = listener().await;
    let said = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&said);
    let _running = AbortOnDropHandle::new(tokio::spawn(async move {
        while let Ok((mut stream, _)) = listening.accept().await {
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes).await;
            heard.lock().unwrap().push(bytes);
        }
    }));
    let config = AttachConfig::new(address, Credential::Token { file }, Some(home.path().into()));
    // A test can't become somebody else; what the system says of one is tried in `platform::loopback`.
    let server = Attach::start_trusting(AttachConfig { retries: SOON, ..config }, |_, _| Some(Err(65534)));
    let fix = failure(&server, "runs as uid 65534, not as this user: nothing was said to it").await;
    assert!(fix.contains("unix socket"), "{fix}");
    let is_over = async {
        while said.lock().unwrap().is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, is_over).await.expect("it came to nobody");
    server.stop().await;
    assert!(said.lock().unwrap().iter().all(Vec::is_empty), "{:?}", said.lock().unwrap());
}

#[tokio::test]
async fn a_socket_is_attached_to_without_a_word_of_a_token() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("app.sock");
    let listening = UnixListener::bind(&path).unwrap();
    let play = Play::of(home.path());
    let heard = play.clone();
    let _running = AbortOnDropHandle::new(tokio::spawn(async move {
        let mut clients = JoinSet::new();
        while let Ok((stream, _)) = listening.accept().await {
            clients.spawn(play.clone().serve(stream));
        }
    }));
    let address: Address = format!("unix://{}", path.display()).parse().unwrap();
    let server = attach(&address, Credential::None, home.path());
    instance(&server).await;
    assert!(heard.heard().iter().all(Option::is_none));
    server.stop().await;

    let gone: Address = format!("unix://{}/gone.sock", home.path().display()).parse().unwrap();
    let server = attach(&gone, Credential::None, home.path());
    let fix = failure(&server, "nothing listens on").await;
    assert!(fix.contains(&format!("codex app-server --listen {gone}")), "{fix}");
    server.stop().await;
}
