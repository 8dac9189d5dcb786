//! The server.

use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use flate2::read::GzDecoder;
use futures_util::stream;
use hyper::body::Incoming;
use hyper::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, HOST, HeaderMap, HeaderValue,
    REFERRER_POLICY, RETRY_AFTER, X_FRAME_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};
use prometheus::Registry;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::book::{Book, Conduct, Taken};
use super::page;
use crate::http::body::{self, uncached};
use crate::http::{Limits, Listener, Metrics, Reply, Server, serve};
use crate::secret::Secret;

/// For a few hosts and people who look.
const LIMITS: Limits = Limits {
    max_connections: 256,
    max_per_address: 256,
    max_unauthenticated: 256,
    max_header_bytes: 16_384,
    handshake_deadline: Duration::from_secs(5),
    connection_lifetime: Duration::from_secs(3600),
};
/// A report, as it comes and unpacked.
const MAX_BODY_BYTES: usize = 16 << 20;
const BODY_DEADLINE: Duration = Duration::from_secs(10);
const DRAIN_BUDGET: Duration = Duration::from_millis(200);
/// Its own style alone; no script at all, no frame around it, no form.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// Why there is no stand-in.
#[derive(Debug, thiserror::Error)]
pub enum StandInError {
    /// Its address cannot be had.
    #[error("cannot listen")]
    Listen(#[from] std::io::Error),
    /// A metric was registered twice, which would be a bug.
    #[error("cannot set up metrics")]
    Metrics(#[from] prometheus::Error),
}

/// Decides how a report is met.
type Decide = Box<dyn Fn(&Taken) -> Conduct + Send + Sync>;

/// The stand-in. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct StandIn {
    shared: Arc<Shared>,
}

struct Shared {
    /// A lock, since tests and connections look from threads of their own; held for one look or one report.
    book: Mutex<Book>,
    credential: Mutex<Option<Secret<String>>>,
    decide: Decide,
}

impl StandIn {
    /// One that takes everything from whoever shows `credential`, or from anybody where there is none.
    pub fn new(credential: Option<String>) -> Self {
        Self::failing(credential, |_| Conduct::Well)
    }

    /// One that meets reports as `decide` says, which is asked about each.
    pub fn failing(
        credential: Option<String>,
        decide: impl Fn(&Taken) -> Conduct + Send + Sync + 'static,
    ) -> Self {
        let credential = Mutex::new(credential.map(Secret::new));
        Self { shared: Arc::new(Shared { book: Mutex::default(), credential, decide: Box::new(decide) }) }
    }

    /// What was reported so far.
    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.shared.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wants another credential from now on.
    pub fn want(&self, credential: Option<String>) {
        *self.shared.credential.lock().unwrap_or_else(PoisonError::into_inner) = credential.map(Secret::new);
    }

    /// Serves on a listener that is bound, until `over`.
    ///
    /// # Errors
    /// See [`StandInError`].
    pub fn serve(
        &self,
        listener: std::net::TcpListener,
        over: CancellationToken,
    ) -> Result<impl Future<Output = ()> + Send + use<>, StandInError> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = TcpListener::from_std(listener)?;
        let metrics = Metrics::register(&Registry::new(), "stand_in")?;
        let shared = Arc::clone(&self.shared);
        let handler = move |request, _peer| answer(Arc::clone(&shared), request, address);
        let server = Server {
            listener: Listener::Tcp(listener),
            tls: None,
            limits: LIMITS,
            metrics,
            drain_budget: DRAIN_BUDGET,
            handler,
        };
        Ok(async move {
            // A report that is cut off comes again.
            let _cut_off = serve(server, over).await;
        })
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>, address: SocketAddr) -> Reply {
    let (head, body) = request.into_parts();
    // A page elsewhere whose name leads here must not read what is shown.
    let is_here = |host: &HeaderValue| {
        let named = host.to_str().ok().and_then(|host| host.parse::<SocketAddr>().ok());
        named.is_some_and(|named| named.ip().is_loopback())
    };
    let mut hosts = head.headers.get_all(HOST).iter();
    let named_here = hosts.next().is_some_and(is_here) && hosts.next().is_none();
    if address.ip().is_loopback() && !named_here {
        return plain(StatusCode::MISDIRECTED_REQUEST, "This is another host.");
    }
    let report = match (&head.method, head.uri.path()) {
        (&Method::GET, "/") => return page::page(&shared.look(), SystemTime::now()).map_or_else(oops, shown),
        (&Method::GET, "/page.css") => return shown(("text/css; charset=utf-8", page::STYLE.to_owned())),
        (&Method::GET, "/reports") => return shown(("application/json", shared.look().json().to_string())),
        (&Method::POST, "/v1/hosts/register") => "register",
        (&Method::POST, "/v1/hosts/heartbeat") => "heartbeat",
        (&Method::POST, "/v1/hosts/events") => "events",
        _ => return plain(StatusCode::NOT_FOUND, "There is nothing here."),
    };
    let compressed = head.headers.get(CONTENT_ENCODING).is_some();
    let Ok(bytes) = body::read(body, MAX_BODY_BYTES, BODY_DEADLINE).await else {
        return plain(StatusCode::BAD_REQUEST, "The body cannot be read.");
    };
    let bytes = if compressed { unpacked(&bytes) } else { Some(bytes.to_vec()) };
    let Some(body) = bytes.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok()) else {
        return plain(StatusCode::BAD_REQUEST, "The body is no JSON.");
    };
    shared.meet(Taken { report, body, compressed, at: SystemTime::now() }, &head.headers).await
}

impl Shared {
    fn look(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_known(&self, headers: &HeaderMap) -> bool {
        let wanted = self.credential.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        wanted.as_ref().is_none_or(|wanted| {
            let wanted = format!("Bearer {}", wanted.expose());
            shown.is_some_and(|shown| {
                aws_lc_rs::constant_time::verify_slices_are_equal(shown, wanted.as_bytes()).is_ok()
            })
        })
    }

    async fn meet(&self, taken: Taken, headers: &HeaderMap) -> Reply {
        if !self.is_known(headers) {
            self.look().strangers += 1;
            return problem(401, "credential-invalid").into();
        }
        let is_events = taken.report == "events";
        let receipt = |count: usize| if is_events { json!({ "accepted": count }) } else { json!({}) };
        match (self.decide)(&taken) {
            Conduct::Well => {
                let count = self.look().take(taken);
                uncached(StatusCode::OK, "application/json", receipt(count).to_string()).into()
            }
            Conduct::Status(status, name) => problem(status, name).into(),
            Conduct::Later(status, seconds) => {
                let mut response = problem(status, "later");
                response.headers_mut().insert(RETRY_AFTER, seconds.into());
                response.into()
            }
            Conduct::Hang => std::future::pending().await,
            Conduct::TakeAndBreak => {
                self.look().take(taken);
                broken()
            }
            Conduct::Break => broken(),
            Conduct::Nonsense => uncached(StatusCode::OK, "text/html", "<p>Welcome").into(),
        }
    }
}

fn unpacked(bytes: &[u8]) -> Option<Vec<u8>> {
    let most = u64::try_from(MAX_BODY_BYTES).ok()?;
    let mut text = Vec::new();
    GzDecoder::new(bytes).take(most).read_to_end(&mut text).ok()?;
    Some(text)
}

fn problem(status: u16, name: &str) -> Response<http_body_util::Full<Bytes>> {
    let body =
        json!({ "type": format!("urn:valetd:problem:{name}"), "title": "On purpose.", "status": status });
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    uncached(status, "application/problem+json", body.to_string())
}

/// An answer that says it has more than it has: the connection ends with it.
fn broken() -> Reply {
    let chunk = Bytes::from_static(b"{\"acc");
    let mut response = Response::new(body::streamed(stream::iter([chunk])));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("1000"));
    response.into()
}

fn plain(status: StatusCode, text: &'static str) -> Reply {
    uncached(status, "text/plain; charset=utf-8", text).into()
}

fn oops(_error: std::fmt::Error) -> Reply {
    plain(StatusCode::INTERNAL_SERVER_ERROR, "The page cannot be written.")
}

fn shown((content_type, text): (&'static str, String)) -> Reply {
    let mut response = uncached(StatusCode::OK, content_type, text);
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response.into()
}
