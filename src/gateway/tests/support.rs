//! A gateway on loopback before a server that greets and echoes, and clients for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use prometheus::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use tokio_util::sync::CancellationToken;

use super::browser::Browser;
use crate::auth::fixtures::SECRET;
use crate::auth::{self, Claims, KeyConfig, Role, SigningKey, sign};
use crate::clock;
use crate::gateway::config::Limits;
use crate::gateway::{Config, Gateway, GatewayHandle};
use crate::secret::Secret;
use crate::session::ViewerEnd;
use crate::session::stand_in::{Splice, session, session_with_browser, sessions};
use crate::tasks::Scope;

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) type Client = WebSocketStream<TcpStream>;

pub(super) struct World {
    pub(super) address: SocketAddr,
    pub(super) handle: GatewayHandle,
    pub(super) registry: Registry,
    pub(super) drain: CancellationToken,
    /// Connections that reached the display.
    pub(super) upstream_connections: Arc<AtomicUsize>,
    /// Bytes that reached the display.
    pub(super) upstream_bytes: Arc<AtomicUsize>,
    pub(super) end: watch::Sender<Option<ViewerEnd>>,
    /// That of session `cdp`.
    pub(super) browser: Browser,
    pub(super) scope: Scope,
}

pub(super) fn limits() -> Limits {
    Limits {
        max_connections: 2000,
        max_connections_per_address: 2000,
        max_unauthenticated: 256,
        max_viewers_per_session: 3,
        max_cdp_connections_per_session: 2,
        max_header_bytes: 16 * 1024,
        handshake_deadline: Duration::from_secs(5),
        ping_interval: Duration::from_secs(20),
        pong_deadline: Duration::from_secs(10),
        send_deadline: Duration::from_secs(20),
        idle_timeout: None,
    }
}

pub(super) fn auth_config() -> auth::Config {
    auth::Config {
        keys: vec![KeyConfig::SharedSecret { kid: None, secret: Secret::new(SECRET.to_vec()) }],
        jwks_url: None,
        issuer: None,
        audience: None,
        leeway: Duration::from_secs(5),
        default_role: Role::Controller,
        single_use: false,
        allow_query_token: false,
    }
}

pub(super) fn config() -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        public_url: None,
        tls: None,
        allowed_origins: vec![],
        trusted_proxies: vec![],
        static_dir: None,
        limits: limits(),
        cdp: crate::cdp::Settings::default(),
    }
}

pub(super) fn claims(session: &str, role: Option<Role>, ttl: u64) -> Claims {
    Claims {
        session_id: session.parse().unwrap(),
        user_id: "u1".parse().unwrap(),
        exp: clock::unix_now() + ttl,
        role,
        iss: None,
        aud: None,
        nbf: None,
        iat: None,
        jti: None,
    }
}

pub(super) fn signed(claims: &Claims) -> String {
    sign(claims, &SigningKey::from_secret(None, SECRET).unwrap()).unwrap()
}

pub(super) fn token(role: Role) -> String {
    signed(&claims("s1", Some(role), 600))
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(config(), auth_config()).await
    }

    pub(super) async fn with(config: Config, auth: auth::Config) -> Self {
        let mut scope = Scope::new();
        let upstream_connections = Arc::new(AtomicUsize::new(0));
        let upstream_bytes = Arc::new(AtomicUsize::new(0));
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream_address = upstream.local_addr().unwrap();
        scope.spawn(
            "display",
            display(upstream, Arc::clone(&upstream_connections), Arc::clone(&upstream_bytes)),
        );
        let (end, ended) = watch::channel(None);
        let splice = || Some(Splice { upstream: upstream_address, end: ended.clone() });
        let browser = Browser::start(&mut scope).await;
        let sessions = sessions([
            session_with_browser("cdp", browser.devtools.subscribe(), browser.status.subscribe()),
            session("s1", Some("u1"), splice(), &ended),
            session("starting", None, None, &ended),
            session("foreign", Some("u2"), splice(), &ended),
        ]);
        let registry = Registry::new();
        let gateway = Gateway::bind(config, None, auth, sessions, &registry).await.unwrap();
        let (address, handle) = (gateway.local_addr(), gateway.handle());
        let drain = CancellationToken::new();
        scope.spawn("gateway", gateway.serve(drain.clone()));
        Self { address, handle, registry, drain, upstream_connections, upstream_bytes, end, browser, scope }
    }

    /// Sends bytes and gives the answer's head, lower-cased.
    pub(super) async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        head(&mut stream).await
    }

    /// A request with the given header lines; gives status and head.
    pub(super) async fn request(&self, method: &str, path: &str, headers: &str) -> (u16, String) {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}Connection: close\r\n\r\n",
            self.address
        );
        let head = self.raw(&request).await;
        (status(&head), head)
    }

    /// An upgrade with the given header lines; gives the answer's head and what follows.
    pub(super) async fn upgrade(&self, path: &str, headers: &str) -> (u16, String) {
        let request = format!("{}{headers}\r\n", self.upgrade_head(path));
        let head = self.raw(&request).await;
        (status(&head), head)
    }

    pub(super) fn upgrade_head(&self, path: &str) -> String {
        format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            self.address
        )
    }

    /// A viewer with a token, past the greeting.
    pub(super) async fn viewer(&self, token: &str) -> Client {
        let mut client = self.connect("/sessions/s1/vnc", token).await.unwrap();
        assert_eq!(next(&mut client).await, Message::Binary("hello".into()));
        client
    }

    pub(super) async fn connect(&self, path: &str, token: &str) -> Result<Client, WsError> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let mut request = format!("ws://{}{path}", self.address).into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        client_async(request, stream).await.map(|(client, _)| client)
    }

    pub(super) async fn ticket(&self, token: &str) -> String {
        self.ticket_for("s1", token).await
    }

    pub(super) async fn ticket_for(&self, session: &str, token: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!(
            "POST /sessions/{session}/ticket HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n",
            self.address
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["expires_in"], 15);
        body["ticket"].as_str().unwrap().to_owned()
    }

    /// Waits until a counter or gauge with this name and label value has the given value.
    pub(super) async fn metric(&self, name: &str, label: &str, value: f64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.registry.gather().iter().any(|family| {
                family.name() == name
                    && family.get_metric().iter().any(|metric| {
                        let labelled =
                            label.is_empty() || metric.get_label().iter().any(|l| l.value() == label);
                        let now = metric.get_counter().get_value() + metric.get_gauge().get_value();
                        labelled && (now - value).abs() < 0.5
                    })
            });
            if found {
                return;
            }
            assert!(Instant::now() < deadline, "{name} {label} did not become {value}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn display(listener: TcpListener, connections: Arc<AtomicUsize>, bytes: Arc<AtomicUsize>) {
    let mut scope = Scope::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        connections.fetch_add(1, Ordering::SeqCst);
        let bytes = Arc::clone(&bytes);
        scope.spawn("display connection", async move {
            let mut buf = vec![0; 64 * 1024];
            stream.write_all(b"hello").await.unwrap();
            while let Ok(n) = stream.read(&mut buf).await {
                bytes.fetch_add(n, Ordering::SeqCst);
                match &buf[..n] {
                    b"" | b"quit" => return,
                    b"flood" => {
                        let noise = vec![7; 64 * 1024];
                        while stream.write_all(&noise).await.is_ok() {}
                    }
                    echo => stream.write_all(echo).await.unwrap(),
                }
            }
        });
    }
}

pub(super) async fn next(client: &mut Client) -> Message {
    timeout(PATIENCE, client.next()).await.unwrap().unwrap().unwrap()
}

/// Reads on to the close frame and gives its code.
pub(super) async fn close_code(client: &mut Client) -> u16 {
    loop {
        match timeout(PATIENCE, client.next()).await.unwrap() {
            Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
            Some(Ok(_)) => {}
            other => panic!("no close frame but {other:?}"),
        }
    }
}

pub(super) async fn head(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match timeout(PATIENCE, stream.read_u8()).await.unwrap() {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}

pub(super) fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap_or("0").parse().unwrap()
}
