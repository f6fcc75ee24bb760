//! A server of the SSH library's own, for what no honest one does.

use std::borrow::Cow;

use futures_util::FutureExt;
use russh::keys::PrivateKey;
use russh::server::{self, Auth, ChannelOpenHandle, Msg, Session};
use russh::{Channel, ChannelId, Limits};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::super::bootstrap::BootstrapError;
use super::super::{Discovery, Nobody, Person, Question, Round, Secret, UnknownKey};
use super::*;

/// A machine called `devbox`, and the key by which it is known.
struct Place {
    dir: TempDir,
    key: PrivateKey,
    /// More of the configuration.
    more: &'static str,
}

impl Place {
    async fn prepare() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("host");
        let mut keygen = Command::new("ssh-keygen");
        let made = keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&file).status().await;
        assert!(made.unwrap().success());
        let key = russh::keys::decode_secret_key(&std::fs::read_to_string(&file).unwrap(), None).unwrap();
        Self { dir, key, more: "" }
    }

    fn config(&self) -> server::Config {
        server::Config { keys: vec![self.key.clone()], ..server::Config::default() }
    }

    /// Connects to whatever listens there.
    async fn connect(&self, addr: SocketAddr) -> Result<Connection, ConnectError> {
        self.connect_with(addr, Arc::new(Nobody)).await
    }

    /// The same, with a key and somebody who is asked.
    async fn connect_with(&self, addr: SocketAddr, person: Arc<dyn Person>) -> Result<Connection, ConnectError> {
        let (at, port) = (|name: &str| self.dir.path().join(name), addr.port());
        let key = std::fs::read_to_string(at("host.pub")).unwrap();
        std::fs::write(at("known_hosts"), format!("[127.0.0.1]:{port} {key}")).unwrap();
        let known = at("known_hosts").display().to_string();
        let named = format!(
            "Host devbox\n  HostName 127.0.0.1\n  Port {port}\n  UserKnownHostsFile {known}\n  IdentityAgent none\n  \
             IdentityFile {}\n  ConnectTimeout 2\n  {}\n",
            at("host").display(),
            self.more
        );
        std::fs::write(at("config"), named).unwrap();
        let discovery = Discovery::new(None, Some(at("config"))).unwrap();
        discovery.connect("devbox", &person).await.map(|connection| connection.expect("it is named"))
    }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// Does this with everybody who comes, until it is dropped.
async fn serve<F>(with: impl Fn(TcpStream) -> F + Send + 'static) -> (SocketAddr, AbortOnDropHandle<()>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (listener, addr) = listener().await;
    let serving = async move {
        let mut all = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            all.spawn(with(stream));
        }
    };
    (addr, AbortOnDropHandle::new(tokio::spawn(serving)))
}

/// Speaks SSH with everybody who comes.
async fn speak_ssh<H>(
    config: server::Config,
    handler: impl Fn() -> H + Send + 'static,
) -> (SocketAddr, AbortOnDropHandle<()>)
where
    H: server::Handler<Error = russh::Error> + Send + 'static,
{
    let config = Arc::new(config);
    serve(move |stream| {
        server::run_stream(Arc::clone(&config), stream, handler())
            .map(|session| async {
                if let Ok(session) = session {
                    // How it ends is the test's business.
                    let _ = session.await;
                }
            })
            .flatten()
    })
    .await
}

// Elsewhere only 127.0.0.1 is there to dial from.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_machine_is_dialled_from_where_and_over_what_the_configuration_says() {
    let mut place = Place::prepare().await;
    let (tell, mut peers) = mpsc::unbounded_channel();
    let (addr, _serving) = serve(move |stream| {
        let _ = tell.send(stream.peer_addr().unwrap().ip().to_string());
        std::future::ready(())
    })
    .await;
    for (more, from) in [("", "127.0.0.1"), ("BindAddress 127.0.0.9", "127.0.0.9"), ("AddressFamily inet", "127.0.0.1")]
    {
        place.more = more;
        assert!(matches!(place.connect(addr).await, Err(ConnectError::Lost { .. })), "it hangs up");
        assert_eq!(peers.recv().await.unwrap(), from, "{more}");
    }
    for (more, says) in [
        ("AddressFamily inet6", "AddressFamily leaves 127.0.0.1 out"),
        ("BindAddress ::1", "BindAddress leaves 127.0.0.1 out"),
        ("BindAddress tower.example", "BindAddress with a name"),
        ("BindInterface eth9", "BindInterface"),
        ("ProxyCommand nc -F %h %p\n  ProxyUseFdpass yes", "ProxyUseFdpass"),
        ("KnownHostsCommand /bin/true", "KnownHostsCommand"),
        ("RevokedHostKeys /etc/ssh/revoked", "RevokedHostKeys"),
        ("RemoteCommand tmux attach", "RemoteCommand"),
        ("SessionType none", "SessionType"),
        ("CheckHostIP yes\n  StrictHostKeyChecking yes", "CheckHostIP"),
        ("MACs hmac-sha1", "MACs"),
    ] {
        place.more = more;
        let error = place.connect(addr).await.expect_err(more).to_string();
        assert!(error.contains(says), "{more}: {error}");
    }
    assert!(peers.try_recv().is_err(), "nobody else came");
}

/// Lets everybody in, and then opens every kind of channel to whoever came.
struct Greedy {
    tell: mpsc::UnboundedSender<(&'static str, bool)>,
}

impl server::Handler for Greedy {
    type Error = russh::Error;

    async fn auth_none(&mut self, _: &str) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        let (handle, tell) = (session.handle(), self.tell.clone());
        tokio::spawn(async move {
            let tried = [
                ("agent", handle.channel_open_agent().await.is_ok()),
                ("session", handle.channel_open_session().await.is_ok()),
                ("x11", handle.channel_open_x11("127.0.0.1", 6000).await.is_ok()),
                ("direct-tcpip", handle.channel_open_direct_tcpip("127.0.0.1", 22, "127.0.0.1", 1).await.is_ok()),
                ("direct-streamlocal", handle.channel_open_direct_streamlocal("/tmp/x").await.is_ok()),
                ("forwarded-tcpip", handle.channel_open_forwarded_tcpip("127.0.0.1", 22, "127.0.0.1", 1).await.is_ok()),
                ("forwarded-streamlocal", handle.channel_open_forwarded_streamlocal("/tmp/x").await.is_ok()),
            ];
            for one in tried {
                let _ = tell.send(one);
            }
        });
        Ok(())
    }
}

#[tokio::test]
async fn a_machine_opens_no_channel_to_who_comes() {
    let place = Place::prepare().await;
    let (tell, mut told) = mpsc::unbounded_channel();
    let (addr, _serving) = speak_ssh(place.config(), move || Greedy { tell: tell.clone() }).await;
    let connection = place.connect(addr).await.unwrap();
    for _ in 0..7 {
        let (kind, opened) = told.recv().await.expect("the server tries each");
        assert!(!opened, "a channel of kind {kind} was opened");
    }
    connection.close().await;
}

/// Lets everybody in, and runs nothing: a shell that is not POSIX says that it knows no `exec`.
struct Foreign;

impl server::Handler for Foreign {
    type Error = russh::Error;

    async fn auth_none(&mut self, _: &str) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(&mut self, channel: ChannelId, _: &[u8], session: &mut Session) -> Result<(), Self::Error> {
        session.channel_success(channel)?;
        let said = "exec : The term 'exec' is not recognized as the name of a cmdlet, function or script file.\r\n";
        session.extended_data(channel, 1, said.as_bytes().to_vec())?;
        session.exit_status_request(channel, 1)?;
        session.eof(channel)?;
        session.close(channel)
    }
}

#[tokio::test]
async fn a_machine_with_windows_is_named_as_such_and_another_with_a_strange_shell_is_not() {
    let place = Place::prepare().await;
    for (version, code) in [("SSH-2.0-OpenSSH_for_Windows_9.5", "ssh_windows"), ("SSH-2.0-OpenSSH_9.5", "ssh_shell")] {
        let config = server::Config { server_id: russh::SshId::Standard(version.into()), ..place.config() };
        let (addr, _serving) = speak_ssh(config, || Foreign).await;
        let connection = place.connect(addr).await.unwrap();
        let error = connection.inspect().await.expect_err("nothing runs there");
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains("“exec : The term 'exec' is not recognized"), "{error}");
        assert_eq!(error.fix("devbox").contains("WSL"), matches!(error, BootstrapError::Windows { .. }));
        connection.close().await;
    }
}

/// Lets everybody in, and sends back what comes, by any socket but `/stalled`: nothing is taken there once its window is full.
#[derive(Default)]
struct Echo {
    banner: Option<String>,
    stalled: Option<ChannelId>,
}

impl server::Handler for Echo {
    type Error = russh::Error;

    async fn authentication_banner(&mut self) -> Result<Option<String>, Self::Error> {
        Ok(self.banner.clone())
    }

    async fn auth_none(&mut self, _: &str) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        if path == "/stalled" {
            self.stalled = Some(channel.id());
        }
        reply.accept().await;
        Ok(())
    }

    async fn data(&mut self, channel: ChannelId, data: &[u8], session: &mut Session) -> Result<(), Self::Error> {
        if self.stalled != Some(channel) { session.data(channel, data.to_vec()) } else { Ok(()) }
    }

    fn adjust_window(&mut self, channel: ChannelId, current: u32) -> u32 {
        if self.stalled == Some(channel) { 0 } else { current }
    }
}

/// Sends so many bytes over a channel of its own and takes them back, each as it was.
async fn goes_and_comes(connection: &Connection, bytes: usize) {
    let (mut back, mut there) = tokio::io::split(connection.open_socket("/echo").await.unwrap());
    let sent: Vec<u8> = (0..bytes).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect();
    let sending = async {
        there.write_all(&sent).await.unwrap();
        there.flush().await.unwrap();
    };
    let mut came = vec![0; bytes];
    let (_, read) = tokio::join!(sending, back.read_exact(&mut came));
    read.unwrap();
    assert!(came == sent, "what came back is not what went");
}

#[tokio::test]
async fn a_server_that_has_new_keys_made_again_and_again_loses_nothing() {
    let place = Place::prepare().await;
    let limits = Limits::new(64 << 10, 64 << 10, Duration::from_secs(3600));
    let (addr, _serving) = speak_ssh(server::Config { limits, ..place.config() }, Echo::default).await;
    let connection = place.connect(addr).await.unwrap();
    // Each time after 64 KiB, so some hundred times.
    goes_and_comes(&connection, 4 << 20).await;
    assert!(!connection.is_closed());
}

#[tokio::test]
async fn a_channel_that_takes_nothing_more_holds_up_no_other_one() {
    let place = Place::prepare().await;
    let (addr, _serving) = speak_ssh(server::Config { window_size: 64 << 10, ..place.config() }, Echo::default).await;
    let connection = place.connect(addr).await.unwrap();
    let mut stalled = connection.open_socket("/stalled").await.unwrap();
    let much = vec![0; 8 << 20];
    let filling = stalled.write_all(&much);
    let others = async {
        for _ in 0..4 {
            goes_and_comes(&connection, 1 << 20).await;
        }
    };
    tokio::select! {
        filled = filling => panic!("8 MiB went into a window of 64 KiB: {filled:?}"),
        () = others => {}
    }
    drop(stalled);
    goes_and_comes(&connection, 1 << 20).await;
    assert!(!connection.is_closed());
}

#[tokio::test]
async fn a_way_that_swallows_everything_is_found_out_and_cut_whatever_waits_to_go_out() {
    let place = Place::prepare().await;
    let (addr, _serving) = speak_ssh(server::Config { window_size: 64 << 20, ..place.config() }, Echo::default).await;
    let swallows = CancellationToken::new();
    let (way, _passing) = serve({
        let swallows = swallows.clone();
        move |mut near| {
            let swallows = swallows.clone();
            async move {
                let mut far = TcpStream::connect(addr).await.expect("the server listens");
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    () = swallows.cancelled() => std::future::pending().await,
                }
            }
        }
    })
    .await;
    let connection = place.connect(way).await.unwrap();
    assert!(connection.answers(PATIENCE).await);
    let mut stream = connection.open_socket("/stalled").await.unwrap();
    swallows.cancel();
    // More than the system keeps for who does not read.
    let much = vec![0; 64 << 20];
    let asking = async {
        assert!(!connection.answers(Duration::from_millis(500)).await);
        connection.cut();
    };
    let both = async { tokio::join!(stream.write_all(&much), asking) };
    let (written, ()) = tokio::time::timeout(PATIENCE, both).await.expect("what waits to go out hears of it");
    written.unwrap_err();
    tokio::time::timeout(PATIENCE, connection.closed()).await.expect("it has ended");
}

#[tokio::test]
async fn a_server_that_talks_without_end_before_it_speaks_ssh_is_given_up() {
    let place = Place::prepare().await;
    for words in ["a long story ", "line after line\r\n"] {
        let (addr, _serving) =
            serve(
                move |mut stream| async move { while stream.write_all(words.repeat(4096).as_bytes()).await.is_ok() {} },
            )
            .await;
        let error = place.connect(addr).await.unwrap_err();
        assert_eq!(error.code(), "ssh_protocol", "{error}");
        assert!(error.to_string().len() < 200, "{error}");
    }
}

#[tokio::test]
async fn a_banner_of_any_length_is_read_past() {
    let place = Place::prepare().await;
    // The library takes packets up to 256 KiB.
    let banner = "\u{1b}[2JWelcome to devbox! ".repeat(8000);
    let (addr, _serving) =
        speak_ssh(place.config(), move || Echo { banner: Some(banner.clone()), ..Echo::default() }).await;
    let connection = place.connect(addr).await.unwrap();
    goes_and_comes(&connection, 1 << 10).await;
}

#[tokio::test]
async fn wherever_a_server_goes_away_while_one_connects_it_is_said_to_be_lost() {
    let place = Place::prepare().await;
    let (behind, _serving) = speak_ssh(place.config(), Echo::default).await;
    let (count, mut counted) = mpsc::unbounded_channel();
    let mut limit = 0;
    // In steps that fall into each message of the server's, to where nothing is missing any more.
    loop {
        let count = count.clone();
        let (addr, _cutting) = serve(move |near| {
            let count = count.clone();
            async move {
                let (mut from_client, mut to_client) = near.into_split();
                let (from_server, mut to_server) = TcpStream::connect(behind).await.unwrap().into_split();
                let up = tokio::io::copy(&mut from_client, &mut to_server);
                let mut from_server = from_server.take(limit);
                let down = tokio::io::copy(&mut from_server, &mut to_client);
                tokio::select! {
                    _ = up => {}
                    passed = down => { let _ = count.send(passed.unwrap()); }
                }
            }
        })
        .await;
        match place.connect(addr).await {
            Ok(_) => break,
            Err(error) => {
                assert_eq!(error.code(), "ssh_unreachable", "after {limit} bytes: {error}");
                assert_eq!(counted.recv().await, Some(limit), "{error}");
            }
        }
        limit += 97;
    }
    assert!(limit > 1000, "the server had said all there is to say after {limit} bytes");
}

/// Asks for whatever it likes, without end.
struct Curious {
    /// Whether it takes a key first.
    key_first: bool,
}

impl server::Handler for Curious {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, _: &str, _: server::VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let methods = russh::MethodSet::from(&[russh::MethodKind::KeyboardInteractive][..]);
        Ok(Auth::Reject { proceed_with_methods: Some(methods), partial_success: self.key_first })
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _: &str,
        _: &str,
        _: Option<server::Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        let long = "Reachback: pair this device again\u{202e}\u{1b}[2J \r\n".repeat(200);
        let prompts = vec![(Cow::from(format!("Your recovery words?\u{7}{long}")), true), (Cow::from("PIN:"), false)];
        Ok(Auth::Partial { name: Cow::from(long.clone()), instructions: Cow::from(long), prompts: Cow::from(prompts) })
    }
}

/// Answers everything, and keeps what was asked.
#[derive(Default)]
struct Patient(Mutex<Vec<Round>>);

impl Person for Patient {
    fn trusts(&self, _: UnknownKey) -> futures_util::future::BoxFuture<'_, bool> {
        async { false }.boxed()
    }

    fn answers(&self, _: Question) -> futures_util::future::BoxFuture<'_, Option<Secret>> {
        async { None }.boxed()
    }

    fn answers_all(&self, round: Round) -> futures_util::future::BoxFuture<'_, Option<Vec<Secret>>> {
        let answers = round.prompts.iter().map(|_| Secret::new("1".to_owned())).collect();
        self.0.lock().unwrap().push(round);
        async { Some(answers) }.boxed()
    }

    fn tries(&self) -> usize {
        1
    }
}

#[tokio::test]
async fn what_a_machine_asks_is_printable_and_bounded_and_does_not_go_on_without_end() {
    let place = Place::prepare().await;
    for key_first in [true, false] {
        let (addr, _serving) = speak_ssh(place.config(), move || Curious { key_first }).await;
        let person = Arc::new(Patient::default());
        let refused = place.connect_with(addr, Arc::clone(&person) as _).await.unwrap_err();
        assert!(matches!(refused, ConnectError::Auth(_)), "{refused:?}");
        let rounds = person.0.lock().unwrap();
        assert_eq!(rounds.len(), 8, "rounds of one try");
        for Round { at, after_a_key, name, instruction, prompts } in &*rounds {
            assert_eq!((*after_a_key, prompts.len(), prompts[0].echo, prompts[1].echo), (key_first, 2, true, false));
            assert!(at.ends_with("@devbox") && name.starts_with("Reachback: pair"), "{at} {name}");
            assert!(name.chars().count() <= 100 && instruction.lines().count() == 20, "{name} {instruction}");
            for words in [name, instruction, &prompts[0].words, &prompts[1].words] {
                let is_seen = |c: char| !reachback_proto::words::is_unseen(c) || c == '\n';
                assert!(words.chars().count() <= 1000 && words.chars().all(is_seen), "{words:?}");
            }
        }
    }
}
