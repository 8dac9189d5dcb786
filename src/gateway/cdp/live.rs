//! A live CDP connection, from its 101 to its close frame.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::connect::{Upstream, ask};
use super::down::{Down, Said};
use super::held::Held;
use super::metrics::Metrics;
use super::up::{MAX_MESSAGE, Shared, Up};
use crate::auth::Grant;
use crate::browser::Endpoint;
use crate::cdp::inbound::Inbound;
use crate::cdp::{Barred, Policy};
use crate::clock;
use crate::gateway::close::Close;
use crate::gateway::gate::Seat;
use crate::gateway::routes::Target;
use crate::gateway::viewer::{Counted, Settings};
use crate::http::{RequestId, Upgraded};
use crate::session::{BrowserEnd, Session};

/// Answers of ours that may wait for the end of the browser's message; then the client is not read.
const OWN_QUEUE: usize = 16;

/// Messages that let go of targets, each a few hundred bytes, while the browser does not take any.
const LET_GO_QUEUE: usize = 1024;

/// For telling a closed target from a browser that is going.
const LOOK_DEADLINE: Duration = Duration::from_secs(1);

/// What a connection has got before its 101.
pub(in crate::gateway) struct Live {
    pub(in crate::gateway) grant: Grant,
    pub(in crate::gateway) session: Session,
    pub(in crate::gateway) upstream: Upstream,
    /// `None` for a role that is not filtered.
    pub(in crate::gateway) policy: Option<Policy>,
    pub(in crate::gateway) seat: Seat,
    pub(in crate::gateway) settings: Settings,
    pub(in crate::gateway) metrics: Metrics,
    pub(in crate::gateway) clock_steps: watch::Receiver<u64>,
    pub(in crate::gateway) request_id: RequestId,
}

/// Serves one connection until something ends it, and says what.
pub(in crate::gateway) async fn run(upgraded: Upgraded, live: Live) {
    let Live { grant, session, upstream, policy, seat, settings, metrics, mut clock_steps, request_id } =
        live;
    let Upgraded { io, leftover, peer, drain } = upgraded;
    let Upstream { stream, leftover: begun, endpoint, target, contexts } = upstream;
    // Short, for people who follow one connection through the log.
    let connection = request_id.as_str().get(..8).unwrap_or_default();
    let gauge = Counted::new(metrics.connections.clone());
    let counted = session.count_automation();
    let kind = target.kind();
    tracing::info!(session = %grant.session, connection, role = %grant.role, user = %grant.user, kind, %request_id, "automation connected");
    let (client_read, client_write) = tokio::io::split(io);
    let (browser_read, browser_write) = stream.into_split();
    let (own, said) = mpsc::channel(OWN_QUEUE);
    let (let_go, to_let_go) = mpsc::channel(LET_GO_QUEUE);
    let inbound = Inbound::new(MAX_MESSAGE, &leftover);
    drop(leftover);
    let mut up = Up {
        client: client_read,
        browser: browser_write,
        inbound,
        own,
        to_let_go,
        handoffs: session.handoffs(),
        held: Held::default(),
    };
    let mut down = Down::new(client_write, browser_read, &begun, Said { own: said, let_go }, settings);
    let shared = Shared {
        session: &session,
        connection,
        policy: policy.as_ref(),
        barred: Mutex::new(Barred::default()),
        contexts: contexts.map(Mutex::new),
        heard: AtomicBool::new(false),
        metrics: &metrics,
    };
    let ended = tokio::select! {
        biased;
        () = drain.cancelled() => Close::Draining,
        () = clock::reached(grant.expires_at, &mut clock_steps) => Close::Expired,
        end = session.browser_left(endpoint) => end.into(),
        end = up.run(&shared) => end,
        end = down.run(&shared) => end,
    };
    let why = match ended {
        Close::BrowserLeft => what_left(&session, endpoint, &target).await,
        other => other,
    };
    Box::pin(down.close(&mut up.client, why, &shared)).await;
    metrics.closed(why);
    drop((gauge, counted, seat, peer));
    tracing::info!(session = %grant.session, connection, role = %grant.role, user = %grant.user, why = why.label(), "automation left");
}

impl From<BrowserEnd> for Close {
    fn from(end: BrowserEnd) -> Self {
        match end {
            BrowserEnd::Restarting => Self::BrowserRestarting,
            BrowserEnd::SessionEnded => Self::SessionEnded,
        }
    }
}

/// What ended when the browser ended a connection: it often does so before its supervisor knows.
async fn what_left(session: &Session, endpoint: Endpoint, target: &Target) -> Close {
    if session.is_over() {
        return Close::SessionEnded;
    }
    if session.devtools() != Some(endpoint) || *target == Target::Browser {
        return Close::BrowserRestarting;
    }
    let answers = timeout(LOOK_DEADLINE, ask(session, hyper::Method::GET, "/json/version")).await;
    if matches!(answers, Ok(Ok(_))) { Close::TargetClosed } else { Close::BrowserRestarting }
}
