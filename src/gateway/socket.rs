//! A viewer's WebSocket as a stream and a sink of bytes, which is all that a session sees of it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::close::Close;
use super::wire::Wire;

/// For our close frame to go out and the viewer's to come back.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// Eagerly allocated; input is small.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// Control frames only: pictures do not pass through the library's buffer.
const MAX_WRITE_BUFFER_BYTES: usize = 8 * 1024;

/// Why reading or writing ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    /// Only binary messages are RFB.
    #[error("a text message")]
    NotBinary,
    /// Silence after a ping.
    #[error("no answer to a ping")]
    NoPong,
    /// The protocol library's.
    #[error("the WebSocket failed")]
    Protocol(#[source] WsError),
    /// The stream's.
    #[error("the connection failed")]
    Io(#[source] std::io::Error),
}

/// What a viewer's socket may do.
#[derive(Debug, Clone)]
pub(super) struct SocketLimits {
    /// Largest message and frame, in bytes.
    pub(super) max_message: usize,
    /// Between our pings.
    pub(super) ping_interval: Duration,
    /// For anything to come back.
    pub(super) pong_deadline: Duration,
}

/// Bytes both ways, with our pings in between. Anything that comes in counts as an answer.
pub(super) struct ViewerSocket<S> {
    socket: WebSocketStream<Wire<S>>,
    limits: SocketLimits,
    /// The next ping, or the end of the wait for its answer. Allocated once.
    timer: Pin<Box<Sleep>>,
    awaiting_pong: bool,
    unflushed: bool,
    fault: Option<Close>,
    received: IntCounter,
    sent: IntCounter,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ViewerSocket<S> {
    /// Takes the stream over after the 101; `leftover` came with the request.
    pub(super) async fn new(
        stream: S,
        leftover: Bytes,
        limits: SocketLimits,
        received: IntCounter,
        sent: IntCounter,
    ) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES)
            .max_message_size(Some(limits.max_message))
            .max_frame_size(Some(limits.max_message))
            .accept_unmasked_frames(false);
        let wire = Wire::new(stream);
        let socket =
            WebSocketStream::from_partially_read(wire, leftover.into(), Role::Server, Some(config)).await;
        let timer = Box::pin(sleep_until(Instant::now() + limits.ping_interval));
        Self { socket, limits, timer, awaiting_pong: false, unflushed: false, fault: None, received, sent }
    }

    /// What the viewer did wrong on this level, if anything.
    pub(super) fn fault(&self) -> Option<Close> {
        self.fault
    }

    /// Says why and waits a little for the viewer to say so too.
    pub(super) async fn close(mut self, why: Close) {
        let frame = CloseFrame { code: why.code().into(), reason: why.reason().into() };
        let goodbye = async {
            // What is half sent must end before the close frame can begin.
            if self.socket.send(Message::Close(Some(frame))).await.is_ok() {
                while let Some(Ok(_)) = self.socket.next().await {}
            }
            // The far end may be gone already, which is what we wanted.
            let _gone = tokio::io::AsyncWriteExt::shutdown(self.socket.get_mut()).await;
        };
        if timeout(CLOSE_DEADLINE, goodbye).await.is_err() {
            tracing::trace!("the viewer did not take the close frame in time");
        }
    }

    fn fail(&mut self, fault: Close, error: SocketError) -> Poll<Option<Result<Bytes, SocketError>>> {
        self.fault = Some(fault);
        Poll::Ready(Some(Err(error)))
    }

    /// Sends a ping when one is due. True when the last one was not answered in time.
    fn poll_ping(&mut self, cx: &mut Context<'_>) -> Result<bool, WsError> {
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.awaiting_pong {
                return Ok(true);
            }
            // Behind a frame that is on its way the ping waits in the library's buffer.
            Pin::new(&mut self.socket).start_send(Message::Ping(Bytes::new()))?;
            self.awaiting_pong = true;
            self.unflushed = true;
            let deadline = Instant::now() + self.limits.pong_deadline;
            self.timer.as_mut().reset(deadline);
        }
        if self.unflushed
            && let Poll::Ready(flushed) = Pin::new(&mut self.socket).poll_flush(cx)
        {
            flushed?;
            self.unflushed = false;
        }
        Ok(false)
    }

    fn heard(&mut self) {
        if self.awaiting_pong {
            self.awaiting_pong = false;
            let next = Instant::now() + self.limits.ping_interval;
            self.timer.as_mut().reset(next);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for ViewerSocket<S> {
    type Item = Result<Bytes, SocketError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            let message = Pin::new(&mut this.socket).poll_next(cx);
            if let Poll::Ready(Some(Ok(_))) = &message {
                this.heard();
            }
            match message {
                Poll::Ready(Some(Ok(Message::Binary(bytes)))) => {
                    this.received.inc_by(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Poll::Ready(Some(Ok(Message::Text(_)))) => {
                    return this.fail(Close::NotBinary, SocketError::NotBinary);
                }
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => {
                    let fault = match &error {
                        WsError::Io(_) => Close::Left,
                        // No goodbye, just the end of the stream: a closed tab or a lost network.
                        WsError::Protocol(
                            tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
                        ) => Close::Left,
                        _ => Close::Misbehaved,
                    };
                    return this.fail(fault, SocketError::Protocol(error));
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    return match this.poll_ping(cx) {
                        Ok(false) => Poll::Pending,
                        Ok(true) => this.fail(Close::NoPong, SocketError::NoPong),
                        Err(error) => this.fail(Close::Left, SocketError::Protocol(error)),
                    };
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Bytes> for ViewerSocket<S> {
    type Error = SocketError;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        self.poll_flush(cx)
    }

    fn start_send(self: Pin<&mut Self>, bytes: Bytes) -> Result<(), SocketError> {
        let this = self.get_mut();
        this.sent.inc_by(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        this.socket.get_mut().start(bytes);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        let this = self.get_mut();
        // The library's frames first, to their end; then ours may begin.
        ready!(Pin::new(&mut this.socket).poll_flush(cx)).map_err(SocketError::Protocol)?;
        this.unflushed = false;
        this.socket.get_mut().poll_send(cx).map_err(SocketError::Io)
    }

    /// Flushes only: the close frame is ours to send, with its code.
    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        self.poll_flush(cx)
    }
}
