//! Both directions of one viewer's relay, in one task and without a lock: each call of a half does one thing, and
//! either half goes on while the other waits.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::time::{Sleep, sleep};
use tracing::debug;

use super::activity::Activity;
use super::relay::{Misbehaviour, RelayEnd};
use super::upstream::{Upstream, UpstreamError};
use crate::errors::chain;
use crate::rfb::{Effect, Skimmer, ViewerFilter, server_message};

/// Bytes of one read from the server, and so of one chunk to the viewer: with its frame's head of 4 bytes just one segment
/// on loopback, where 64 KiB would be a full one and one of a few bytes.
const CHUNK: usize = 65_479;
/// Parsing of the viewer's bytes pauses when this much waits for the server.
const UPSTREAM_HIGH: usize = 16 * 1024;
/// A buffer above this is given back when it is empty.
const KEPT_CAPACITY: usize = 1024;
/// Answers of ours that may wait for a boundary; a viewer that asks for more is not answered.
const MAX_ANSWERS: u8 = 8;
/// Steps before the task lets others run.
const STEPS: usize = 64;

/// What the two directions need.
pub(super) struct Pump<'a> {
    pub(super) upstream: &'a mut Upstream,
    pub(super) activity: &'a Activity,
    pub(super) send_deadline: Duration,
    pub(super) upstream_deadline: Duration,
    pub(super) skimmer: Skimmer,
    pub(super) up: Up,
    pub(super) down: Down,
}

/// Viewer to server.
pub(super) struct Up {
    pub(super) filter: ViewerFilter,
    pub(super) input: Bytes,
    pub(super) out: Vec<u8>,
    written: usize,
    stalled: Option<Pin<Box<Sleep>>>,
}

/// Server to viewer.
pub(super) struct Down {
    rest: Bytes,
    buffer: BytesMut,
    answers: u8,
    flushing: bool,
    lost_said: bool,
    stalled: Option<Pin<Box<Sleep>>>,
}

/// What a half did.
enum Step {
    Done,
    Waiting,
    End(RelayEnd),
}

impl Up {
    pub(super) fn new(filter: ViewerFilter, input: Bytes) -> Self {
        Self { filter, input, out: Vec::new(), written: 0, stalled: None }
    }

    /// What the server was to get and has not got, and the release of all that the viewer holds. Empty when the
    /// viewer holds nothing.
    pub(super) fn farewell(mut self, skimmer: &Skimmer) -> Vec<u8> {
        let before = self.out.len();
        self.filter.release(skimmer, &mut self.out);
        if self.out.len() == before { Vec::new() } else { self.out.split_off(self.written) }
    }
}

impl Down {
    pub(super) fn new(rest: Bytes) -> Self {
        Self { rest, buffer: BytesMut::new(), answers: 0, flushing: false, lost_said: false, stalled: None }
    }
}

impl Pump<'_> {
    /// Carries bytes until one side ends.
    pub(super) async fn run<Tx, Rx, E>(&mut self, tx: &mut Tx, rx: &mut Rx) -> RelayEnd
    where
        Tx: Sink<Bytes, Error = E> + Unpin + Send,
        Rx: Stream<Item = Result<Bytes, E>> + Unpin + Send,
        E: Error + Send,
    {
        poll_fn(|context| {
            for _ in 0..STEPS {
                let up = match self.step_up(context, rx) {
                    Step::End(end) => return Poll::Ready(end),
                    step => step,
                };
                match (up, self.step_down(context, tx)) {
                    (_, Step::End(end)) => return Poll::Ready(end),
                    (Step::Waiting, Step::Waiting) => return Poll::Pending,
                    _ => {}
                }
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }

    fn step_up<Rx, E>(&mut self, context: &mut Context<'_>, rx: &mut Rx) -> Step
    where
        Rx: Stream<Item = Result<Bytes, E>> + Unpin + Send,
        E: Error + Send,
    {
        if self.up.written < self.up.out.len() {
            return self.write_upstream(context);
        }
        if !self.up.input.is_empty() {
            return match self.filter_input() {
                Ok(()) => Step::Done,
                Err(end) => Step::End(end),
            };
        }
        match rx.poll_next_unpin(context) {
            Poll::Pending => Step::Waiting,
            Poll::Ready(None) => Step::End(RelayEnd::ViewerLeft),
            Poll::Ready(Some(Ok(bytes))) => {
                self.up.input = bytes;
                Step::Done
            }
            Poll::Ready(Some(Err(error))) => {
                debug!(error = %chain(&error), "the viewer's connection broke");
                Step::End(RelayEnd::ViewerLeft)
            }
        }
    }

    fn write_upstream(&mut self, context: &mut Context<'_>) -> Step {
        match self.upstream.poll_write_ready(context) {
            Poll::Pending => {
                if overdue(&mut self.up.stalled, self.upstream_deadline, context) {
                    let error = UpstreamError::Timeout(self.upstream_deadline);
                    return Step::End(RelayEnd::UpstreamUnreachable(error));
                }
                return Step::Waiting;
            }
            Poll::Ready(Err(error)) => return upstream_broke(&error),
            Poll::Ready(Ok(())) => {}
        }
        match self.upstream.try_write(self.up.out.get(self.up.written..).unwrap_or_default()) {
            Ok(count) => self.up.written += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Step::Done,
            Err(error) => return upstream_broke(&error),
        }
        if self.up.written >= self.up.out.len() {
            self.up.written = 0;
            self.up.out.clear();
            self.up.out.shrink_to(KEPT_CAPACITY);
            self.up.stalled = None;
        }
        Step::Done
    }

    fn filter_input(&mut self) -> Result<(), RelayEnd> {
        let Up { filter, input, out, .. } = &mut self.up;
        let mut rest = &input[..];
        let mut acted = false;
        while !rest.is_empty() && out.len() < UPSTREAM_HIGH {
            match filter.next(&mut rest, &mut self.skimmer, out) {
                Ok(Some(Effect::Input)) => acted = true,
                Ok(Some(Effect::RefuseResize)) => {
                    self.down.answers = (self.down.answers + 1).min(MAX_ANSWERS)
                }
                Ok(Some(Effect::None) | None) => {}
                Err(error) => return Err(RelayEnd::ViewerMisbehaved(Misbehaviour::Message(error))),
            }
        }
        let left = rest.len();
        input.advance(input.len() - left);
        if left == 0 {
            *input = Bytes::new();
        }
        if acted {
            self.activity.touch(Instant::now());
        }
        Ok(())
    }

    fn step_down<Tx, E>(&mut self, context: &mut Context<'_>, tx: &mut Tx) -> Step
    where
        Tx: Sink<Bytes, Error = E> + Unpin + Send,
        E: Error + Send,
    {
        if self.down.flushing {
            let flushed = tx.poll_flush_unpin(context);
            return self.sent(flushed, context, |pump| {
                pump.down.flushing = false;
                pump.down.stalled = None;
                Ok(())
            });
        }
        if self.down.rest.is_empty() && !self.answer_is_due() {
            return self.read_upstream(context);
        }
        let ready = tx.poll_ready_unpin(context);
        self.sent(ready, context, |pump| {
            let chunk = pump.next_chunk();
            pump.down.flushing = true;
            tx.start_send_unpin(chunk)
        })
    }

    /// Goes on with `next` once the viewer's connection is ready; ends where it broke or is late.
    fn sent<E: Error>(
        &mut self,
        state: Poll<Result<(), E>>,
        context: &mut Context<'_>,
        next: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Step {
        let done = match state {
            Poll::Pending if overdue(&mut self.down.stalled, self.send_deadline, context) => {
                return Step::End(RelayEnd::ViewerTooSlow);
            }
            Poll::Pending => return Step::Waiting,
            Poll::Ready(Ok(())) => next(self),
            Poll::Ready(Err(error)) => Err(error),
        };
        match done {
            Ok(()) => Step::Done,
            Err(error) => {
                debug!(error = %chain(&error), "the viewer's connection broke");
                Step::End(RelayEnd::ViewerLeft)
            }
        }
    }

    fn answer_is_due(&self) -> bool {
        self.down.answers > 0 && self.skimmer.at_boundary()
    }

    /// An answer of ours where one may go out, else the server's bytes up to where one may.
    fn next_chunk(&mut self) -> Bytes {
        if self.answer_is_due() {
            self.down.answers -= 1;
            return server_message::resize_prohibited(self.skimmer.screen()).into();
        }
        let length = self.skimmer.advance(&self.down.rest, self.down.answers > 0);
        if let Some(reason) = self.skimmer.lost().filter(|_| !self.down.lost_said) {
            self.down.lost_said = true;
            debug!(
                reason,
                "cannot follow the server's stream: it flows on, requests to resize go unanswered"
            );
        }
        if length == self.down.rest.len() {
            return std::mem::take(&mut self.down.rest);
        }
        self.down.rest.split_to(length)
    }

    fn read_upstream(&mut self, context: &mut Context<'_>) -> Step {
        // Asked first, so that a viewer to whom nothing happens needs no buffer.
        let read = match self.upstream.poll_read_ready(context) {
            Poll::Ready(Ok(())) => {
                self.down.buffer.reserve(CHUNK);
                self.upstream.poll_read(context, &mut self.down.buffer)
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        };
        match read {
            Poll::Pending => {
                self.down.buffer = BytesMut::new();
                Step::Waiting
            }
            Poll::Ready(Ok(0)) => Step::End(RelayEnd::UpstreamEnded),
            Poll::Ready(Ok(_)) => {
                self.down.rest = self.down.buffer.split().freeze();
                Step::Done
            }
            Poll::Ready(Err(error)) => upstream_broke(&error),
        }
    }
}

fn upstream_broke(error: &io::Error) -> Step {
    debug!(error = %chain(error), "the RFB server's connection broke");
    Step::End(RelayEnd::UpstreamEnded)
}

/// Whether something has been pending for `limit`; counts from the first call since `stalled` was cleared.
fn overdue(stalled: &mut Option<Pin<Box<Sleep>>>, limit: Duration, context: &mut Context<'_>) -> bool {
    stalled.get_or_insert_with(|| Box::pin(sleep(limit))).as_mut().poll(context).is_ready()
}
