//! A server of the SSH library's own, for what no honest one does.

use russh::server::{self, Auth, Session};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::super::{Discovery, Nobody, Person};
use super::*;

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
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at("host")).status().await;
    assert!(made.unwrap().success());
    let text = |name: &str| std::fs::read_to_string(at(name)).unwrap();
    let key = russh::keys::decode_secret_key(&text("host"), None).unwrap();
    let config = Arc::new(server::Config { keys: vec![key], ..server::Config::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    std::fs::write(at("known_hosts"), format!("[127.0.0.1]:{port} {}", text("host.pub"))).unwrap();
    let known = at("known_hosts").display().to_string();
    let named = format!("Host greedy\n  HostName 127.0.0.1\n  Port {port}\n  UserKnownHostsFile {known}\n");
    std::fs::write(at("config"), named).unwrap();

    let (tell, mut told) = mpsc::unbounded_channel();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        server::run_stream(config, stream, Greedy { tell }).await.unwrap().await
    });
    let discovery = Discovery::new(None, Some(at("config"))).unwrap();
    let nobody: Arc<dyn Person> = Arc::new(Nobody);
    let connection = discovery.connect("greedy", &nobody).await.unwrap().expect("it is named");
    for _ in 0..7 {
        let (kind, opened) = told.recv().await.expect("the server tries each");
        assert!(!opened, "a channel of kind {kind} was opened");
    }
    connection.close().await;
    serving.abort();
}
