//! The listener over real sockets, with a handler that has no manners.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use prometheus::Registry;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Limits, Listener, Metrics, Peer, PeerAddress, Reply, RequestId, Server, Tls, serve};
use crate::tasks::Scope;

const PATIENCE: Duration = Duration::from_secs(20);

fn limits() -> Limits {
    Limits {
        max_connections: 16,
        max_per_address: 16,
        max_unauthenticated: 16,
        max_header_bytes: 8192,
        handshake_deadline: Duration::from_secs(5),
        connection_lifetime: Duration::from_secs(60),
    }
}

async fn handler(request: Request<Incoming>, peer: Arc<Peer>) -> Reply {
    assert_ne!(request.uri().path(), "/panic", "asked to");
    if request.uri().path() == "/slow" {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let who = match peer.address {
        PeerAddress::Ip(address) => address.ip().to_string(),
        PeerAddress::Unix { uid, .. } => format!("uid {uid}"),
    };
    let id = request.extensions().get::<RequestId>().unwrap();
    Response::new(Full::new(Bytes::from(format!("{who} {id}")))).into()
}

fn start(listener: Listener, limits: Limits) -> (Scope, Metrics, CancellationToken) {
    let mut scope = Scope::new();
    let metrics = Metrics::register(&Registry::new(), "test").unwrap();
    let drain = CancellationToken::new();
    let server = Server {
        listener,
        tls: None,
        limits,
        metrics: metrics.clone(),
        drain_budget: Duration::from_secs(5),
        handler,
    };
    let stop = drain.clone();
    scope.spawn("server", async move {
        assert_eq!(serve(server, stop).await, Vec::<&str>::new());
    });
    (scope, metrics, drain)
}

async fn get(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str, headers: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // A connection that is dropped may end in a reset.
    let _ended = timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn a_panic_ends_one_connection_and_is_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_scope, metrics, _drain) = start(Listener::Tcp(listener), limits());
    let connect = async || TcpStream::connect(address).await.unwrap();
    let (slow, panicked) =
        tokio::join!(get(connect().await, "/slow", ""), get(connect().await, "/panic", ""));
    assert_eq!(panicked, "");
    assert!(slow.starts_with("HTTP/1.1 200 OK\r\n"), "{slow}");
    assert!(get(connect().await, "/", "").await.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(metrics.panics.get(), 1);
}

#[tokio::test]
async fn a_request_id_is_ours_whatever_the_client_brings() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_scope, _metrics, _drain) = start(Listener::Tcp(listener), limits());
    let answer = get(TcpStream::connect(address).await.unwrap(), "/", "X-Request-Id: mine\r\n").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let id = body.strip_prefix("127.0.0.1 ").unwrap();
    assert_eq!(id.len(), 32);
    assert!(head.contains(&format!("x-request-id: {id}")), "{head}");
    assert!(!answer.contains("mine"));
}

#[tokio::test]
async fn peers_of_a_unix_socket_are_known_by_uid() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let (_scope, _metrics, _drain) = start(Listener::Unix(UnixListener::bind(&path).unwrap()), limits());
    let answer = get(UnixStream::connect(&path).await.unwrap(), "/", "").await;
    let uid = nix::unistd::geteuid();
    assert!(answer.contains(&format!("\r\n\r\nuid {uid} ")), "{answer}");
}

#[tokio::test]
async fn a_drain_lets_a_running_request_finish_and_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (mut scope, metrics, drain) = start(Listener::Tcp(listener), limits());
    let mut idle = TcpStream::connect(address).await.unwrap();
    let running = get(TcpStream::connect(address).await.unwrap(), "/slow", "");
    let stop = async {
        while metrics.handshake.get_sample_count() == 0 {
            tokio::task::yield_now().await;
        }
        drain.cancel();
    };
    let (answer, ()) = tokio::join!(running, stop);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(timeout(PATIENCE, idle.read(&mut [0; 1])).await.unwrap().unwrap_or(0), 0);
    assert_eq!(timeout(PATIENCE, scope.join_next()).await.unwrap().unwrap().name, "server");
    assert_eq!(metrics.connections.get(), 0);
}

#[tokio::test]
async fn a_connection_that_is_not_upgraded_has_an_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = Limits { connection_lifetime: Duration::from_millis(300), ..limits() };
    let limits = Limits { handshake_deadline: Duration::from_millis(200), ..limits };
    let (_scope, _metrics, _drain) = start(Listener::Tcp(listener), limits);
    let mut stream = TcpStream::connect(address).await.unwrap();
    let chatter = async {
        let mut buf = [0; 1024];
        loop {
            if stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.is_err() {
                return;
            }
            match stream.read(&mut buf).await {
                Ok(n) if n > 0 => tokio::time::sleep(Duration::from_millis(20)).await,
                _ => return,
            }
        }
    };
    timeout(PATIENCE, chatter).await.unwrap();
}

#[tokio::test]
async fn a_changed_certificate_is_found_without_being_told() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let write = || {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
        std::fs::write(&certificate, pair.cert.pem()).unwrap();
    };
    write();
    let tls = Arc::new(Tls::load(&certificate, &key).await.unwrap());
    let before = tls.current_certificate();
    let mut scope = Scope::new();
    let (watched, stop) = (Arc::clone(&tls), scope.token());
    scope.spawn("watch", async move { watched.watch(stop).await });
    write();
    let changed = async {
        while tls.current_certificate() == before {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, changed).await.unwrap();
}
