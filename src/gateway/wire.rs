//! The stream under a WebSocket. Pictures go out through it by reference, beside the protocol library, which would copy
//! each into a buffer of its own and keep that buffer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Final fragment, binary (RFC 6455 section 5.2).
const FIN_BINARY: u8 = 0x82;

/// A stream with at most one frame of ours on its way. **Invariant:** once a frame has begun, nothing else is written
/// until it is out, so the library's control frames never land inside it.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    frame: Option<Frame>,
}

#[derive(Debug)]
struct Frame {
    header: [u8; 10],
    header_len: usize,
    header_sent: usize,
    payload: Bytes,
}

impl Frame {
    /// A server's frames are not masked (RFC 6455 section 5.1).
    fn binary(payload: Bytes) -> Self {
        let mut header = [0; 10];
        header[0] = FIN_BINARY;
        let header_len = if let (Ok(len), true) = (u8::try_from(payload.len()), payload.len() < 126) {
            header[1] = len;
            2
        } else if let Ok(len) = u16::try_from(payload.len()) {
            header[1] = 126;
            header[2..4].copy_from_slice(&len.to_be_bytes());
            4
        } else {
            header[1] = 127;
            header[2..10].copy_from_slice(&u64::try_from(payload.len()).unwrap_or(u64::MAX).to_be_bytes());
            10
        };
        Self { header, header_len, header_sent: 0, payload }
    }

    fn begun(&self) -> bool {
        self.header_sent > 0
    }

    fn rest_of_header(&self) -> &[u8] {
        self.header.get(self.header_sent..self.header_len).unwrap_or_default()
    }

    fn advance(&mut self, written: usize) {
        let of_header = written.min(self.header_len - self.header_sent);
        self.header_sent += of_header;
        self.payload.advance((written - of_header).min(self.payload.len()));
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, frame: None }
    }

    /// Takes a message. The one before must be out.
    pub(super) fn start(&mut self, payload: Bytes) {
        debug_assert!(self.frame.is_none(), "a frame is on its way already");
        self.frame = Some(Frame::binary(payload));
    }

    /// Writes the frame that was taken, to its end, and flushes.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(frame) = &mut self.frame {
            let parts = [IoSlice::new(frame.rest_of_header()), IoSlice::new(&frame.payload)];
            match ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &parts))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => frame.advance(written),
            }
            if frame.rest_of_header().is_empty() && frame.payload.is_empty() {
                self.frame = None;
            }
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_finish_begun(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.frame.as_ref().is_some_and(Frame::begun) { self.poll_send(cx) } else { Poll::Ready(Ok(())) }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_finish_begun(cx))?;
        Pin::new(&mut this.stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_finish_begun(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt as _, StreamExt as _};
    use tokio::io::{AsyncWriteExt as _, duplex};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    #[tokio::test]
    async fn frames_of_every_length_reach_another_implementation_through_a_narrow_pipe() {
        let (ours, theirs) = duplex(7);
        let mut wire = Wire::new(ours);
        let mut client = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let payload = Bytes::from(vec![7; len]);
            wire.start(payload.clone());
            let (sent, got) = tokio::join!(std::future::poll_fn(|cx| wire.poll_send(cx)), client.next());
            sent.unwrap();
            assert_eq!(got.unwrap().unwrap(), Message::Binary(payload), "{len} bytes");
        }
    }

    #[tokio::test]
    async fn a_control_frame_waits_for_the_frame_that_has_begun() {
        let (ours, theirs) = duplex(16);
        let mut wire = Wire::new(ours);
        wire.start(Bytes::from(vec![7; 100]));
        let begun = futures_util::poll!(std::future::poll_fn(|cx| wire.poll_send(cx)));
        assert!(begun.is_pending());
        let mut client = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
        let pong = async {
            wire.write_all(&[0x8a, 1, b'p']).await.unwrap();
            wire.flush().await.unwrap();
        };
        let (first, ()) = tokio::join!(client.next(), pong);
        assert_eq!(first.unwrap().unwrap(), Message::Binary(Bytes::from(vec![7; 100])));
        assert_eq!(client.next().await.unwrap().unwrap(), Message::Pong(Bytes::from_static(b"p")));
        client.send(Message::Binary(Bytes::new())).await.unwrap();
    }
}
