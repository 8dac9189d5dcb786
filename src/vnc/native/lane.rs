//! What is on its way to a viewer's connection.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::{Sink, SinkExt as _};
use tokio::time::Instant;

/// Bytes of one message: a viewer does something for each message, and can begin before the last one has come.
const CHUNK: usize = 64 << 10;

/// Bytes in order. Bounded by whoever fills it: an update at a time.
#[derive(Debug, Default)]
pub(super) struct Lane {
    chunks: VecDeque<Bytes>,
    is_flushing: bool,
    /// Since when the next message has waited to be taken.
    waiting_since: Option<Instant>,
}

impl Lane {
    /// Whether everything was handed on.
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty() && !self.is_flushing
    }

    /// Since when nothing of it was taken, while there is something.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.waiting_since.filter(|_| !self.is_empty())
    }

    /// Queues `parts` behind what is there, put together into messages.
    pub(super) fn put(&mut self, parts: impl IntoIterator<Item = Bytes>) {
        if self.is_empty() {
            self.waiting_since = Some(Instant::now());
        }
        let mut chunk = BytesMut::new();
        for mut part in parts {
            while !part.is_empty() {
                let room = CHUNK - chunk.len();
                let taken = part.split_to(room.min(part.len()));
                // What fills a message by itself is not copied.
                if chunk.is_empty() && taken.len() == CHUNK {
                    self.chunks.push_back(taken);
                    continue;
                }
                chunk.extend_from_slice(&taken);
                if chunk.len() == CHUNK {
                    self.chunks.push_back(chunk.split().freeze());
                }
            }
        }
        if !chunk.is_empty() {
            self.chunks.push_back(chunk.freeze());
        }
    }

    /// Hands on until nothing is left. Cancel safe: what was not handed on is still here.
    pub(super) async fn drive<Tx, E>(&mut self, tx: &mut Tx) -> Result<(), E>
    where
        Tx: Sink<Bytes, Error = E> + Unpin,
    {
        poll_fn(|context| self.poll(context, tx)).await
    }

    fn poll<Tx, E>(&mut self, context: &mut Context<'_>, tx: &mut Tx) -> Poll<Result<(), E>>
    where
        Tx: Sink<Bytes, Error = E> + Unpin,
    {
        while !self.chunks.is_empty() {
            match tx.poll_ready_unpin(context) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
            if let Some(chunk) = self.chunks.pop_front() {
                tx.start_send_unpin(chunk)?;
                self.is_flushing = true;
                self.waiting_since = Some(Instant::now());
            }
        }
        let flushed = tx.poll_flush_unpin(context);
        self.is_flushing = flushed.is_pending();
        flushed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn small_parts_travel_together_and_large_ones_in_messages_of_a_bounded_size() {
        let mut lane = Lane::default();
        let large = Bytes::from(vec![7; CHUNK + 10]);
        lane.put([Bytes::from_static(b"ab"), Bytes::from_static(b"c"), large.clone()]);
        let mut sent: Vec<Bytes> = Vec::new();
        // A vector is a sink that takes everything.
        lane.drive(&mut sent).await.unwrap();
        assert!(lane.is_empty());
        assert_eq!(sent.iter().map(Bytes::len).collect::<Vec<_>>(), [CHUNK, 13]);
        assert_eq!(&sent[0][..3], b"abc");
    }
}
