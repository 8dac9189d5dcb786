//! Browser to client: bytes go through as they are, and what we have to say goes between messages.

use std::pin::Pin;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::up::{Own, Shared};
use crate::cdp::frames::{Frames, Heard, Opcode, Step, to_client};
use crate::cdp::{Passing, Screen, Told, Watch};
use crate::errors::chain;
use crate::gateway::close::Close;
use crate::gateway::viewer::Settings;
use crate::http::Io;

/// One read while messages are small, in bytes.
const SMALL_READ: usize = 16 * 1024;
/// One read while they are large, in bytes: a socket's buffer on loopback, about.
const LARGE_READ: usize = 256 * 1024;
/// For the rest of a frame and our close frame to go out, and the client's to come back.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// What does not come from the browser, and what does not go to the client.
pub(super) struct Said {
    /// For the client.
    pub(super) own: mpsc::Receiver<Own>,
    /// For the browser.
    pub(super) let_go: mpsc::Sender<Vec<u8>>,
}

/// The way down. What has been read and not written survives a dropped future.
pub(super) struct Down {
    client: WriteHalf<Io>,
    browser: OwnedReadHalf,
    said: Said,
    settings: Settings,
    frames: Frames,
    watch: Watch,
    /// Used where a connection reaches some browser contexts only.
    screen: Screen,
    buffer: BytesMut,
    /// Of the buffer, what is used up, and behind it, what is to be written now.
    at: usize,
    passing: usize,
    /// A frame of ours that is to be written before that.
    frame: Bytes,
    /// The next ping, or the end of the wait for its answer.
    timer: Pin<Box<Sleep>>,
    awaiting_pong: bool,
}

impl Down {
    pub(super) fn new(
        client: WriteHalf<Io>,
        browser: OwnedReadHalf,
        leftover: &[u8],
        said: Said,
        settings: Settings,
    ) -> Self {
        let timer = Box::pin(sleep_until(Instant::now() + settings.ping_interval));
        Self {
            client,
            browser,
            said,
            settings,
            frames: Frames::default(),
            watch: Watch::default(),
            screen: Screen::default(),
            buffer: BytesMut::from(leftover),
            at: 0,
            passing: 0,
            frame: Bytes::new(),
            timer,
            awaiting_pong: false,
        }
    }

    /// Carries bytes until one side ends.
    pub(super) async fn run(&mut self, shared: &Shared<'_>) -> Close {
        loop {
            if let Err(end) = self.once(shared).await {
                return end;
            }
        }
    }

    async fn once(&mut self, shared: &Shared<'_>) -> Result<(), Close> {
        self.write(shared).await?;
        if self.frames.between_messages()
            && let Ok(own) = self.said.own.try_recv()
        {
            self.say(own);
            return Ok(());
        }
        // With something of ours to say, bytes go out to the end of a message and no further.
        let to_boundary = !self.said.own.is_empty();
        match self.step(to_boundary, shared)? {
            Step::Pass(count) => self.pass(count, shared)?,
            Step::Skip(count) => self.at += count,
            Step::Control(count, opcode, _) => {
                self.at += count;
                // Chromium sends neither pings nor pongs.
                if opcode == Opcode::Close {
                    return Err(Close::BrowserLeft);
                }
            }
            Step::Done => self.wait(shared).await?,
        }
        Ok(())
    }

    fn step(&mut self, to_boundary: bool, shared: &Shared<'_>) -> Result<Step, Close> {
        let Self { frames, watch, screen, buffer, at, .. } = self;
        let screened = shared.contexts.is_some();
        if screened && frames.between_messages() {
            screen.begin();
        }
        let mut hear = |heard: Heard<'_>| {
            if let Some(policy) = shared.policy {
                let mut barred = shared.barred.lock().unwrap_or_else(PoisonError::into_inner);
                watch.hear(heard.bytes, heard.first, heard.last, policy, &mut barred);
            }
            if screened {
                screen.hear(&heard);
            }
        };
        frames.step(buffer.get(*at..).unwrap_or_default(), to_boundary || screened, &mut hear).map_err(|error| {
            tracing::warn!(session = %shared.session.id(), error = %chain(&error), "the browser sent no frames");
            Close::BrowserStuck
        })
    }

    /// Bytes of the browser's are to go to the client, unless they are withheld.
    fn pass(&mut self, count: usize, shared: &Shared<'_>) -> Result<(), Close> {
        let Some(contexts) = &shared.contexts else {
            self.passing = count;
            return Ok(());
        };
        let bytes = self.buffer.get(self.at..self.at + count).unwrap_or_default();
        match self.screen.pass(bytes) {
            Passing::Through(before) => {
                self.frame = before.into();
                self.passing = count;
            }
            Passing::Withheld => self.at += count,
            Passing::Whole(text) => {
                self.at += count;
                let told = contexts.lock().unwrap_or_else(PoisonError::into_inner).hear(text);
                match told {
                    Told::Say(text) => self.frame = to_client(Opcode::Text, &text).into(),
                    Told::Nothing => {}
                    Told::LetGo(messages) => {
                        for message in messages {
                            // The other way waits for this client all the while, or for the browser.
                            self.said.let_go.try_send(message).map_err(|_full| Close::TooSlow)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether the client has got whole frames only.
    fn between_frames(&self, shared: &Shared<'_>) -> bool {
        self.frames.between_frames() || (shared.contexts.is_some() && self.screen.withholds())
    }

    /// Waits for the browser's next bytes, for something of ours, or for the time of a ping. The buffer is used up.
    async fn wait(&mut self, shared: &Shared<'_>) -> Result<(), Close> {
        let (between_frames, between_messages) =
            (self.frames.between_frames(), self.frames.between_messages());
        tokio::select! {
            biased;
            Some(own) = self.said.own.recv(), if between_messages => self.say(own),
            () = self.timer.as_mut(), if between_frames => self.ping(shared)?,
            ready = self.browser.readable() => {
                ready.map_err(|_broken| Close::BrowserLeft)?;
                self.read()?;
            }
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), Close> {
        // The last read tells how much there is to come.
        let wanted = if self.buffer.len() >= SMALL_READ { LARGE_READ } else { SMALL_READ };
        self.buffer.clear();
        self.at = 0;
        if self.buffer.capacity() > 2 * wanted || self.buffer.capacity() < wanted {
            self.buffer = BytesMut::with_capacity(wanted);
        }
        match self.browser.try_read_buf(&mut self.buffer) {
            Ok(0) => Err(Close::BrowserLeft),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
            Err(_) => Err(Close::BrowserLeft),
        }
    }

    fn say(&mut self, own: Own) {
        self.frame = match own {
            Own::Reply(text) => to_client(Opcode::Text, &text),
            Own::Pong(payload) => to_client(Opcode::Pong, &payload),
        }
        .into();
    }

    fn ping(&mut self, shared: &Shared<'_>) -> Result<(), Close> {
        let next = if self.awaiting_pong {
            // Anything that came in meanwhile counts as an answer.
            if !shared.heard.load(Ordering::Relaxed) {
                return Err(Close::NoPong);
            }
            self.settings.ping_interval
        } else {
            shared.heard.store(false, Ordering::Relaxed);
            self.frame = to_client(Opcode::Ping, &[]).into();
            self.settings.pong_deadline
        };
        self.awaiting_pong = !self.awaiting_pong;
        self.timer.as_mut().reset(Instant::now() + next);
        Ok(())
    }

    /// Writes what is to be written now.
    async fn write(&mut self, shared: &Shared<'_>) -> Result<(), Close> {
        let deadline = self.settings.send_deadline;
        while !self.frame.is_empty() || self.passing > 0 {
            let ours = !self.frame.is_empty();
            let bytes = if ours {
                &self.frame[..]
            } else {
                self.buffer.get(self.at..self.at + self.passing).unwrap_or_default()
            };
            let written = match timeout(deadline, self.client.write(bytes)).await {
                Ok(Ok(written)) if written > 0 => written,
                Ok(_) => return Err(Close::Left),
                Err(_) => return Err(Close::TooSlow),
            };
            if ours {
                drop(self.frame.split_to(written));
            } else {
                self.at += written;
                self.passing -= written;
            }
            shared.metrics.sent.inc_by(u64::try_from(written).unwrap_or(u64::MAX));
        }
        // TLS keeps the last record back until it is told to go.
        match timeout(deadline, self.client.flush()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Close::Left),
            Err(_) => Err(Close::TooSlow),
        }
    }

    /// Says why, behind the frame that is on its way, and waits a little for the client to say so too.
    pub(super) async fn close(&mut self, client: &mut ReadHalf<Io>, why: Close, shared: &Shared<'_>) {
        let goodbye = async {
            loop {
                if self.write(shared).await.is_err() {
                    return;
                }
                if self.between_frames(shared) {
                    break;
                }
                match self.step(true, shared) {
                    Ok(Step::Pass(count)) if self.pass(count, shared).is_ok() => {}
                    Ok(Step::Skip(count) | Step::Control(count, ..)) => self.at += count,
                    // A frame of a browser that has gone has no end: then the connection just breaks off.
                    Ok(Step::Done) if self.browser.readable().await.is_err() || self.read().is_err() => {
                        return;
                    }
                    Ok(Step::Done) => {}
                    Ok(Step::Pass(_)) | Err(_) => return,
                }
            }
            let payload = [&why.code().to_be_bytes(), why.reason().as_bytes()].concat();
            self.frame = to_client(Opcode::Close, &payload).into();
            if self.write(shared).await.is_err() || self.client.shutdown().await.is_err() {
                return;
            }
            let mut rest = [0; 1024];
            while matches!(client.read(&mut rest).await, Ok(1..)) {}
        };
        if timeout(CLOSE_DEADLINE, goodbye).await.is_err() {
            tracing::trace!("the client did not take the close frame in time");
        }
    }
}
