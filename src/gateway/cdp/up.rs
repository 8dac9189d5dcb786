//! Client to browser: each message is read whole, judged, and sent on from where it lies.

use std::io::IoSlice;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::held::Held;
use super::metrics::Metrics;
use super::survey::{keep_a_page, survey};
use crate::cdp::frames::{Header, MAX_HEADER, Opcode};
use crate::cdp::inbound::{Inbound, Item};
use crate::cdp::{Barred, Contexts, Denial, Fence, Input, Policy, Reach, Survey, Verdict};
use crate::errors::chain;
use crate::gateway::close::Close;
use crate::http::Io;
use crate::session::{Handoffs, Session};

/// Chromium's own limit for what it receives (`kReceiveBufferSizeForDevTools`), in bytes.
pub(super) const MAX_MESSAGE: usize = 100 * 1024 * 1024;

/// For the browser to take some bytes: its network thread is never busy for long.
const BROWSER_DEADLINE: Duration = Duration::from_secs(30);

/// What the client is to get from us rather than from the browser.
pub(super) enum Own {
    /// The answer to a message that was not sent on.
    Reply(Vec<u8>),
    /// The answer to a ping.
    Pong(Bytes),
}

/// The way up.
pub(super) struct Up {
    pub(super) client: ReadHalf<Io>,
    pub(super) browser: OwnedWriteHalf,
    pub(super) inbound: Inbound,
    pub(super) own: mpsc::Sender<Own>,
    /// What the other way has to say to the browser.
    pub(super) to_let_go: mpsc::Receiver<Vec<u8>>,
    /// The session's requests for a human.
    pub(super) handoffs: watch::Receiver<Handoffs>,
    /// Input that waits for the end of those.
    pub(super) held: Held,
}

/// What both ways share.
pub(super) struct Shared<'a> {
    pub(super) session: &'a Session,
    pub(super) connection: &'a str,
    /// `None` for a role that is not filtered.
    pub(super) policy: Option<&'a Policy>,
    /// Held for a look-up, never across an await.
    pub(super) barred: Mutex<Barred>,
    /// For a connection that reaches some browser contexts only. Held as shortly.
    pub(super) contexts: Option<Mutex<Contexts>>,
    /// Set whenever bytes come from the client.
    pub(super) heard: AtomicBool,
    pub(super) metrics: &'a Metrics,
}

impl Up {
    /// Carries messages until one side ends.
    pub(super) async fn run(&mut self, shared: &Shared<'_>) -> Close {
        loop {
            loop {
                let item = match self.inbound.item() {
                    Ok(Some(item)) => item,
                    Ok(None) => break,
                    Err(error) => {
                        let session = shared.session.id();
                        tracing::debug!(%session, connection = shared.connection, error = %chain(&error), "client misbehaved");
                        return Close::Misbehaved;
                    }
                };
                if let Err(end) = self.handle(item, shared).await {
                    return end;
                }
            }
            let read = tokio::select! {
                biased;
                // A session that is over has none any more, and its connections end.
                true = free(&mut self.handoffs), if !self.held.is_empty() => {
                    if let Err(end) = self.release().await {
                        return end;
                    }
                    continue;
                }
                Some(message) = self.to_let_go.recv() => {
                    if let Err(end) = self.send(message.into()).await {
                        return end;
                    }
                    continue;
                }
                read = self.client.read_buf(self.inbound.buffer()) => read,
            };
            match read {
                Ok(0) | Err(_) => return Close::Left,
                Ok(_) => shared.heard.store(true, Ordering::Relaxed),
            }
        }
    }

    async fn handle(&mut self, item: Item, shared: &Shared<'_>) -> Result<(), Close> {
        let message = match item {
            Item::Message(message) => message,
            Item::Ping(payload) => return self.answer(Own::Pong(payload)).await,
            Item::Pong => return Ok(()),
            Item::Close => return Err(Close::Left),
        };
        self.release().await?;
        shared.session.touch();
        shared.metrics.received.inc_by(u64::try_from(message.len()).unwrap_or(u64::MAX));
        let verdict = match shared.policy {
            Some(policy) => {
                let barred = shared.barred.lock().unwrap_or_else(PoisonError::into_inner);
                policy.judge(&message, &barred)
            }
            None => Verdict::Pass,
        };
        let (message, closing) = match verdict {
            Verdict::Pass => (message, None),
            Verdict::Replace(with) => (with.into(), None),
            Verdict::Close(target) => (message, Some(target)),
            Verdict::Deny(denial) => return self.deny(denial, shared).await,
        };
        let message = match &shared.contexts {
            Some(contexts) => match reach(contexts, &message, shared.session).await {
                Reach::Replace(with) => with.into(),
                Reach::Deny(denial) => return self.deny(denial, shared).await,
                Reach::Pass | Reach::Survey => message,
            },
            None => message,
        };
        if let Some(policy) = shared.policy
            && policy.fence() != Fence::Open
            // What waits goes first, also where nobody is wanted any more since a moment ago.
            && (!self.held.is_empty() || self.human_is_wanted())
            && let Some(Input { denial, is_release }) = policy.input(&message)
            // Of what was pressed before, or it would be held down for the human.
            && !(is_release && self.held.is_empty())
        {
            if policy.fence() == Fence::Wait && self.held.push(&message) {
                return Ok(());
            }
            return self.deny(denial, shared).await;
        }
        if let Some(target) = closing {
            // Where nobody can say what is open, the browser will answer this one no better.
            let _asked = keep_a_page(shared.session, target.as_deref()).await;
        }
        self.send(message).await
    }

    fn human_is_wanted(&self) -> bool {
        self.handoffs.borrow().wants_human()
    }

    /// Sends on what has waited, once no human is wanted any more.
    async fn release(&mut self) -> Result<(), Close> {
        while !self.held.is_empty() && !self.human_is_wanted() {
            if let Some(message) = self.held.pop() {
                self.send(message).await?;
            }
        }
        Ok(())
    }

    async fn deny(&mut self, denial: Denial, shared: &Shared<'_>) -> Result<(), Close> {
        shared.metrics.denied(denial.reason);
        let method = denial.method.as_deref().unwrap_or("unknown");
        let (session, reason) = (shared.session.id(), denial.reason.label());
        tracing::debug!(%session, connection = shared.connection, method, reason, "command denied");
        self.answer(Own::Reply(denial.reply)).await
    }

    /// Waits where the client does not take its answers: it is not read any further then.
    async fn answer(&mut self, own: Own) -> Result<(), Close> {
        // The other way ends first only when all of it ends.
        self.own.send(own).await.map_err(|_ended| Close::Left)
    }

    async fn send(&mut self, mut payload: Bytes) -> Result<(), Close> {
        let mut header = Vec::with_capacity(MAX_HEADER);
        let length = u64::try_from(payload.len()).unwrap_or(u64::MAX);
        // A client's frames must be masked, with a key of its choice (RFC 6455 section 5.3). With zeros the payload goes out
        // as it is: masks protect old proxies in between, and here is nothing in between.
        Header { fin: true, opcode: Opcode::Text, mask: Some([0; 4]), length }.write(&mut header);
        let mut header = Bytes::from(header);
        while header.has_remaining() || payload.has_remaining() {
            let parts = [IoSlice::new(&header), IoSlice::new(&payload)];
            let written = match timeout(BROWSER_DEADLINE, self.browser.write_vectored(&parts)).await {
                Ok(Ok(written)) if written > 0 => written,
                // It went: the other way learns so too, and what became of it.
                Ok(_) => return std::future::pending().await,
                Err(_) => return Err(Close::BrowserStuck),
            };
            let of_header = written.min(header.len());
            header.advance(of_header);
            payload.advance((written - of_header).min(payload.len()));
        }
        Ok(())
    }
}

/// Waits until no human is wanted; `false` where nobody will say so any more.
async fn free(handoffs: &mut watch::Receiver<Handoffs>) -> bool {
    handoffs.wait_for(|handoffs| !handoffs.wants_human()).await.is_ok()
}

/// Judges what a message names, and asks the browser about targets that nobody has heard of.
async fn reach(contexts: &Mutex<Contexts>, message: &[u8], session: &Session) -> Reach {
    let judge = |seen: Option<Option<Survey>>| {
        let mut contexts = contexts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = seen {
            contexts.learn(seen.as_ref());
        }
        contexts.judge(message)
    };
    match judge(None) {
        Reach::Survey => judge(Some(survey(session).await.ok())),
        known => known,
    }
}
