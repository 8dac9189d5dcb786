//! One request to a server on this host, and its answer.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

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
    #[error("cannot ask for {path}")]
    Request {
        /// The path.
        path: &'static str,
        /// Why not.
        #[source]
        source: hyper::http::Error,
    },
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
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path).header("Host", host).body(Empty::<Bytes>::new());
    let request = request.map_err(|source| GetError::Request { path, source })?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        if !status.is_success() {
            return Err(GetError::Status(status));
        }
        let body = Limited::new(response.into_body(), max_bytes).collect().await.map_err(GetError::Body)?;
        Ok(body.to_bytes())
    };
    // The connection has to be driven for the exchange to go on; it ends with it.
    tokio::select! {
        body = exchange => body,
        ended = connection => {
            ended?;
            Err(GetError::Ended)
        }
    }
}
