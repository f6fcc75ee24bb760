//! Someone on the network who ends TLS with a certificate of an authority of their own, and passes on what is inside.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

/// See the module's header.
pub struct Middleman {
    /// The address that it answers at, as `localhost`.
    pub addr: SocketAddr,
    target: watch::Sender<SocketAddr>,
    folder: TempDir,
    _task: AbortOnDropHandle<()>,
}

impl Middleman {
    /// Passes on to `target`, which speaks without TLS.
    pub async fn start(target: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        std::fs::write(folder.path().join(ROOTS), params.self_signed(&authority).unwrap().pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::new(params, authority);
        let certificate = CertificateParams::new(vec!["localhost".into()]).unwrap().signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_no_client_auth().with_single_cert(vec![certificate.into()], key).unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (target, leads_to) = watch::channel(target);
        let task = tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(tls)), leads_to));
        Self { addr, target, folder, _task: AbortOnDropHandle::new(task) }
    }

    /// The file with its authority's certificate. Programs that find it in `SSL_CERT_FILE` trust the middleman.
    pub fn roots(&self) -> PathBuf {
        self.folder.path().join(ROOTS)
    }

    /// Passes new connections on to another address, and cuts those that there are.
    pub fn lead_to(&self, target: SocketAddr) {
        self.target.send_replace(target);
    }
}

const ROOTS: &str = "authority.pem";

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, mut leads_to: watch::Receiver<SocketAddr>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let (acceptor, target) = (acceptor.clone(), *leads_to.borrow_and_update());
        let mut moved = leads_to.clone();
        tokio::spawn(async move {
            let passing = async {
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let Ok(mut server) = TcpStream::connect(target).await else { return };
                let _ = copy_bidirectional(&mut client, &mut server).await;
            };
            tokio::select! {
                () = passing => {}
                _ = moved.changed() => {}
            }
        });
    }
}
