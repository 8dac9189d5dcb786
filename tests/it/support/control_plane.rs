//! A control plane for a daemon under test: the stand-in on a thread of its own, what else is between the two, and chance.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use valetd::control_plane::stand_in::StandIn;

use super::tokens::now;

/// The stand-in, serving.
pub(crate) struct Receiver {
    pub(crate) stand_in: StandIn,
    pub(crate) address: SocketAddr,
    over: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    pub(crate) fn start(stand_in: StandIn) -> Self {
        Self::on("127.0.0.1:0".parse().unwrap(), stand_in)
    }

    pub(crate) fn on(address: SocketAddr, stand_in: StandIn) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let (address, over) = (listener.local_addr().unwrap(), CancellationToken::new());
        let (server, stop) = (stand_in.clone(), over.clone());
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { server.serve(listener, stop).unwrap().await });
        };
        let thread = Builder::new().name("stand-in".into()).spawn(serve).unwrap();
        Self { stand_in, address, over, thread: Some(thread) }
    }

    /// The section that leads a daemon here, with the credential in a file in `dir`.
    pub(crate) fn config(&self, dir: &Path, credential: &str) -> String {
        let file = write_secret(dir, "control_plane_token", credential.as_bytes());
        format!(
            "[control_plane]\nurl = \"http://{}\"\ncredential = \"{file}\"\nheartbeat = \"1s\"\n",
            self.address
        )
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.over.cancel();
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// Writes a file that only its owner can read; its path.
pub(crate) fn write_secret(dir: &Path, name: &str, content: &[u8]) -> String {
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Fly's machine API: hands out tokens that are good for `life` seconds, and has the stand-in want the last.
pub(crate) struct FlyApi {
    pub(crate) granted: Arc<AtomicU64>,
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
}

impl FlyApi {
    /// Serves until the test ends.
    pub(crate) fn start(socket: &Path, life: u64, stand_in: StandIn) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let (granted, asked) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (count, bodies) = (Arc::clone(&granted), Arc::clone(&asked));
        let serve = move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let (mut request, mut buffer) = (String::new(), [0; 4096]);
                while !request.ends_with('}') {
                    let read = stream.read(&mut buffer).unwrap();
                    request.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
                }
                bodies.lock().unwrap().push(request);
                let number = count.fetch_add(1, Ordering::Relaxed) + 1;
                let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
                let claims = part(json!({ "exp": now() + life, "jti": number }));
                let token = format!("{}.{claims}.c2lnbmVk", part(json!({ "alg": "RS256" })));
                stand_in.want(Some(token.clone()));
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{token}", token.len()).unwrap();
            }
        };
        Builder::new().name("fly api".into()).spawn(serve).unwrap();
        Self { granted, asked }
    }
}

/// TLS in front of a stand-in, for clients with a certificate of its CA alone.
pub(crate) struct Tls {
    pub(crate) address: SocketAddr,
    pub(crate) ca: String,
    /// A client's certificate and key.
    pub(crate) client: (String, String),
}

impl Tls {
    /// Serves until the test ends.
    pub(crate) fn start(behind: SocketAddr) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let signed = |names: &[&str]| {
            let key = KeyPair::generate().unwrap();
            let params =
                CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
                    .unwrap();
            (params.signed_by(&key, &ca).unwrap().pem(), key.serialize_pem())
        };
        let (server, client) = (signed(&["127.0.0.1", "control.test"]), signed(&["host-7"]));
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(server.0.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(server.1.as_bytes()).unwrap(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(forward(listener, config, behind));
        };
        Builder::new().name("tls".into()).spawn(serve).unwrap();
        Self { address, ca: ca.pem(), client }
    }
}

async fn forward(listener: TcpListener, config: ServerConfig, behind: SocketAddr) {
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let acceptor = acceptor.clone();
        connections.spawn(async move {
            // Who has no certificate gets no further.
            let Ok(mut tls) = acceptor.accept(stream).await else { return };
            let mut plain = tokio::net::TcpStream::connect(behind).await.unwrap();
            let _ended = tokio::io::copy_bidirectional(&mut tls, &mut plain).await;
        });
    }
}

/// Chance that can be had again: xorshift64*.
#[derive(Clone)]
pub(crate) struct Chance(Arc<Mutex<u64>>);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed.max(1))))
    }

    /// Below `bound`.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }

    pub(crate) fn millis(&self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}
