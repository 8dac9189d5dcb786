//! A server on loopback that answers as a test says, and remembers what it was asked.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus::Registry;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, interval, sleep, timeout};

use crate::adspower::ProfileId;
use crate::adspower::client::line::Limits;
use crate::adspower::client::{Client, Metrics, Params, Place};
use crate::metrics::render;
use crate::secret::Secret;
use crate::sys::listener;
use crate::tasks::Scope;

/// The key that clients of the tests show.
pub(super) const KEY: &str = "canary-key-0123456789";

/// The DevTools address of the browsers that the tests' AdsPower opens.
pub(super) const DEVTOOLS: &str = "ws://127.0.0.1:9222/devtools/browser/8c2d1b5e-0d0a-4f5e-9c65-0f6d2a3b4c5d";

/// For what must happen, on a machine that is busy.
pub(super) const SOON: Duration = Duration::from_secs(20);

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Method, path and query.
    pub(super) line: String,
    pub(super) authorization: Option<String>,
    pub(super) body: Value,
    pub(super) at: Instant,
}

/// What is done with it.
pub(super) enum Reply {
    /// Status 200.
    Json(Value),
    /// The same, after a while.
    After(Duration, Value),
    /// Status 200.
    Text(String),
    /// Bytes as they are, and the end of the connection.
    Raw(String),
    /// Nothing, ever.
    Hang,
    /// A body that never ends, a byte at a time.
    Drip,
    /// 100 MB, announced or not.
    Flood(bool),
}

type Answer = dyn Fn(&Seen, usize) -> Reply + Send + Sync;

/// The server.
pub(super) struct StandIn {
    pub(super) port: u16,
    shared: Arc<Shared>,
    _scope: Scope,
}

struct Shared {
    seen: watch::Sender<Vec<Seen>>,
    under_way: AtomicUsize,
    most: AtomicUsize,
    flooded: Mutex<Option<usize>>,
    answer: Box<Answer>,
}

impl StandIn {
    /// `answer` gets a request and how many came before it.
    pub(super) async fn start(answer: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            seen: watch::Sender::new(Vec::new()),
            under_way: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            flooded: Mutex::new(None),
            answer: Box::new(answer),
        });
        let mut scope = Scope::new();
        let server = Arc::clone(&shared);
        scope.spawn("stand-in", async move {
            let mut connections = Scope::new();
            while let Ok((stream, _)) = listener.accept().await {
                let server = Arc::clone(&server);
                connections.spawn("connection", async move {
                    // A client that went is what some tests are about.
                    let _gone = server.serve(stream).await;
                });
            }
        });
        Self { port, shared, _scope: scope }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.borrow().clone()
    }

    /// First lines of the requests so far.
    pub(super) fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }

    /// Waits until so many requests came.
    pub(super) async fn asked(&self, times: usize) {
        let mut seen = self.shared.seen.subscribe();
        let enough = seen.wait_for(|seen| seen.len() >= times);
        drop(timeout(SOON, enough).await.expect("a request").unwrap());
    }

    /// The most requests that it had to answer at a time.
    pub(super) fn most_at_a_time(&self) -> usize {
        self.shared.most.load(Ordering::SeqCst)
    }

    /// How much of a flood got away.
    pub(super) fn flooded(&self) -> Option<usize> {
        *self.shared.flooded.lock().unwrap()
    }
}

impl Shared {
    async fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let seen = read(&mut stream).await?;
        let number = self.seen.borrow().len();
        self.seen.send_modify(|all| all.push(seen.clone()));
        let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let outcome = self.reply(&mut stream, (self.answer)(&seen, number)).await;
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        outcome
    }

    async fn reply(&self, stream: &mut TcpStream, reply: Reply) -> io::Result<()> {
        let ok = |length: usize, rest: &str| {
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{rest}")
        };
        match reply {
            Reply::Json(value) => {
                let text = value.to_string();
                stream.write_all(ok(text.len(), &text).as_bytes()).await
            }
            Reply::After(wait, value) => {
                sleep(wait).await;
                let text = value.to_string();
                stream.write_all(ok(text.len(), &text).as_bytes()).await
            }
            Reply::Text(text) => stream.write_all(ok(text.len(), &text).as_bytes()).await,
            Reply::Raw(bytes) => stream.write_all(bytes.as_bytes()).await,
            Reply::Hang => {
                // Until the client goes.
                stream.read(&mut [0]).await.map(drop)
            }
            Reply::Drip => {
                stream.write_all(ok(1_000_000, "").as_bytes()).await?;
                let mut pace = interval(Duration::from_millis(50));
                loop {
                    pace.tick().await;
                    stream.write_all(b" ").await?;
                }
            }
            Reply::Flood(announced) => {
                let head = if announced { ok(100_000_000, "") } else { "HTTP/1.1 200 OK\r\n\r\n".to_owned() };
                stream.write_all(head.as_bytes()).await?;
                let piece = vec![b' '; 100_000];
                for number in 0..1000 {
                    *self.flooded.lock().unwrap() = Some(number * piece.len());
                    stream.write_all(&piece).await?;
                }
                *self.flooded.lock().unwrap() = Some(1000 * piece.len());
                Ok(())
            }
        }
    }
}

async fn read(stream: &mut TcpStream) -> io::Result<Seen> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let header = |name: &str| {
        text.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    };
    let length: usize = header("content-length").map_or(0, |length| length.parse().unwrap());
    while bytes.len() < head + 4 + length {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Seen {
        line: text.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned(),
        authorization: header("authorization"),
        body: serde_json::from_slice(&bytes[head + 4..]).unwrap_or_default(),
        at: Instant::now(),
    })
}

/// An answer of success.
pub(super) fn done(data: Value) -> Reply {
    Reply::Json(json!({"code": 0, "msg": "success", "data": data}))
}

/// An answer of anything else.
pub(super) fn refusal(message: &str) -> Reply {
    Reply::Json(json!({"code": -1, "msg": message, "data": {}}))
}

/// A browser, as AdsPower tells of it.
pub(super) fn browser() -> Value {
    json!({"ws": {"selenium": "127.0.0.1:9222", "puppeteer": DEVTOOLS}, "debug_port": "9222", "webdriver": "/x"})
}

/// A client that asks as fast as it can, and its metrics.
pub(super) fn quick(port: u16) -> (Client, Registry) {
    with(port, Duration::from_millis(1), Limits::default())
}

/// A client as it is without a pace in the configuration.
pub(super) fn at_the_documented_pace(port: u16) -> (Client, Registry) {
    made(port, None, Limits::default())
}

/// A client with a pace and limits of its own.
pub(super) fn with(port: u16, pace: Duration, limits: Limits) -> (Client, Registry) {
    made(port, Some(pace), limits)
}

fn made(port: u16, pace: Option<Duration>, limits: Limits) -> (Client, Registry) {
    let registry = Registry::new();
    let api_key = Some(Secret::new(KEY.to_owned()));
    let params = Params { api_key, pace, metrics: Metrics::register(&registry).unwrap() };
    let client = Client::with_limits(params, limits).unwrap();
    client.set_place(Some(place(port)));
    (client, registry)
}

/// Whoever listens there now.
pub(super) fn place(port: u16) -> Place {
    Place::new(port, listener(port).unwrap().unwrap())
}

/// Whether a line stands among the metrics.
pub(super) fn counts(registry: &Registry, line: &str) -> bool {
    render(registry).unwrap().lines().any(|other| other == line)
}

/// A profile.
pub(super) fn profile(id: &str) -> ProfileId {
    id.parse().unwrap()
}

/// Some profiles as a list.
pub(super) fn profiles(first: u64, count: u64) -> Value {
    let profile =
        |number: u64| json!({"profile_id": format!("k{number}"), "serial_number": number.to_string()});
    (first..first + count).map(profile).collect()
}
