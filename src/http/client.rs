//! Requests to a server on this host: one and its answer, or one that opens a WebSocket.

use std::future::poll_fn;
use std::pin::pin;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// The exchange broke, or was not HTTP.
    #[error("no HTTP answer")]
    Http(#[from] hyper::Error),
    /// The connection ended before the answer.
    #[error("the connection ended early")]
    Ended,
    /// The answer was longer than it may be, or broke off.
    #[error("the answer cannot be read")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The request is none, which would be a bug.
    #[error("cannot make the request")]
    Request(#[source] hyper::http::Error),
    /// A server that answers, and not with success.
    #[error("the answer has status {0}")]
    Status(StatusCode),
}

/// `GET path` over `stream`, which is used up: the body of a successful answer of at most `max_bytes`. The caller sets the
/// deadline; dropping the future drops the connection.
///
/// # Errors
/// See [`GetError`].
pub async fn get<S>(stream: S, host: &str, path: &'static str, max_bytes: usize) -> Result<Bytes, GetError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = Request::get(path).header("Host", host).body(Full::default());
    let response = send(stream, request.map_err(GetError::Request)?, max_bytes).await?;
    let status = response.status();
    if status.is_success() { Ok(response.into_body()) } else { Err(GetError::Status(status)) }
}

/// Any request over `stream`, which is used up, and its answer, whatever its status. The request names its own `Host`. The
/// caller sets the deadline.
///
/// # Errors
/// See [`GetError`]; never [`GetError::Status`].
pub async fn send<S>(
    stream: S,
    request: Request<Full<Bytes>>,
    max_bytes: usize,
) -> Result<Response<Bytes>, GetError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    send_for(stream, request, max_bytes, |_any| true).await
}

/// The same for an answer whose body counts with some statuses alone; with the others it is empty, whatever was sent.
///
/// # Errors
/// See [`send`].
pub async fn send_for<S>(
    stream: S,
    request: Request<Full<Bytes>>,
    max_bytes: usize,
    has_body: impl Fn(StatusCode) -> bool,
) -> Result<Response<Bytes>, GetError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        if !has_body(head.status) {
            return Ok(Response::from_parts(head, Bytes::new()));
        }
        let body = Limited::new(body, max_bytes).collect().await.map_err(GetError::Body)?;
        Ok(Response::from_parts(head, body.to_bytes()))
    };
    // The connection has to be driven for the exchange to go on; it ends with it.
    let mut exchange = pin!(exchange);
    let ended = {
        let connection = pin!(connection);
        tokio::select! {
            biased;
            response = &mut exchange => return response,
            ended = connection => ended,
        }
    };
    ended?;
    // A server that hangs up behind its answer has given one all the same.
    match exchange.await {
        Err(GetError::Http(error)) if error.is_canceled() || error.is_closed() => Err(GetError::Ended),
        response => response,
    }
}

/// Why no WebSocket was opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The exchange broke, or was not HTTP.
    #[error("no HTTP answer")]
    Http(#[from] hyper::Error),
    /// The request is none: the path is not one.
    #[error("cannot ask for this path")]
    Request(#[from] hyper::http::Error),
    /// A server that answers, and opens nothing.
    #[error("the answer has status {0}")]
    Refused(StatusCode),
    /// A server that does not speak WebSocket (RFC 6455 section 4.1).
    #[error("the answer does not fit the request")]
    Mismatch,
}

/// Opens a WebSocket at `path` over `stream` and gives the stream back, behind the answer, with what came after it. Sends no
/// `Origin`: DevTools refuses those it does not know. The caller sets the deadline.
///
/// # Errors
/// See [`OpenError`].
pub async fn open_websocket<S>(stream: S, host: &str, path: &str) -> Result<(S, Bytes), OpenError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, mut connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // No secret hangs on it (section 10.3): it shows caches that this is no plain request.
    let key = STANDARD.encode(super::RequestId::generate().as_str().get(..16).unwrap_or_default());
    let request = Request::get(path)
        .header("Host", host)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, &key)
        .body(Full::<Bytes>::default())?;
    let mut answer = pin!(sender.send_request(request));
    let mut over = false;
    let response = tokio::select! {
        biased;
        response = &mut answer => response?,
        ended = poll_fn(|context| connection.poll_without_shutdown(context)) => {
            ended?;
            over = true;
            // A 101 ends HTTP in the same breath in which it is read.
            answer.await?
        }
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(OpenError::Refused(response.status()));
    }
    let accept = derive_accept_key(key.as_bytes());
    if response.headers().get(SEC_WEBSOCKET_ACCEPT).is_none_or(|given| given.as_bytes() != accept.as_bytes())
    {
        return Err(OpenError::Mismatch);
    }
    if !over {
        poll_fn(|context| connection.poll_without_shutdown(context)).await?;
    }
    let parts = connection.into_parts();
    Ok((parts.io.into_inner(), parts.read_buf))
}
