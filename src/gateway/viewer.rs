//! A live viewer, from its 101 to its close frame.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::close::Close;
use super::gate::VncGrant;
use super::metrics::Metrics;
use super::socket::{SocketLimits, ViewerSocket};
use crate::clock;
use crate::http::{RequestId, Upgraded};
use crate::rfb::Access;
use crate::session::ViewerEnd;
use crate::vnc::Activity;

/// A spectator has next to nothing to say.
const SPECTATOR_MESSAGE_BYTES: usize = 4 * 1024;

/// A controller pastes up to a MiB; the rest is room for the message around it.
const CONTROLLER_MESSAGE_BYTES: usize = 1024 * 1024 + 64;

/// For the session to release a viewer's keys when the viewer is ended from outside.
const RELEASE_BUDGET: Duration = Duration::from_millis(500);

/// What all viewers have in common.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) ping_interval: Duration,
    pub(super) pong_deadline: Duration,
    pub(super) send_deadline: Duration,
    pub(super) idle_timeout: Option<Duration>,
}

/// Serves one viewer until something ends it, and says what.
pub(super) async fn run(
    upgraded: Upgraded,
    proof: VncGrant,
    settings: Settings,
    metrics: Metrics,
    mut clock_steps: watch::Receiver<u64>,
    request_id: RequestId,
) {
    let VncGrant { grant, access, ticket, seat, .. } = proof;
    let Upgraded { io, leftover, peer, drain } = upgraded;
    // Short, for people who follow one viewer through the log.
    let viewer = request_id.as_str().get(..8).unwrap_or_default().to_owned();
    let gauge = Counted::new(metrics.viewers(grant.role));
    tracing::info!(session = %grant.session, viewer, role = %grant.role, user = %grant.user, %request_id, "viewer connected");
    let max_message = match access {
        Access::ViewOnly => SPECTATOR_MESSAGE_BYTES,
        Access::Full => CONTROLLER_MESSAGE_BYTES,
    };
    let limits = SocketLimits {
        max_message,
        ping_interval: settings.ping_interval,
        pong_deadline: settings.pong_deadline,
    };
    let socket =
        ViewerSocket::new(io, leftover, limits, metrics.received.clone(), metrics.sent.clone()).await;
    let (mut tx, mut rx) = socket.split();
    let activity = Activity::new(Instant::now());
    let over = CancellationToken::new();
    let mut until_over = (&mut rx).take_until(Box::pin(over.cancelled()));
    let ticket = ticket.named(&viewer);
    let mut served = Box::pin(ticket.serve(&mut tx, &mut until_over, settings.send_deadline, &activity));
    let ended = tokio::select! {
        biased;
        why = outside(&drain, grant.expires_at, &mut clock_steps, &activity, settings.idle_timeout) => {
            // With its stream at an end, the session lets go of the keys that the viewer holds.
            over.cancel();
            if timeout(RELEASE_BUDGET, &mut served).await.is_err() {
                tracing::debug!(session = %grant.session, viewer, "the session did not let go in time");
            }
            why
        }
        end = &mut served => {
            if let ViewerEnd::Misbehaved(reason) = &end {
                tracing::debug!(session = %grant.session, viewer, reason, "viewer misbehaved");
            }
            end.into()
        }
    };
    drop(served);
    drop(until_over);
    let mut why = ended;
    if let Ok(socket) = rx.reunite(tx) {
        // What the session takes for the end of the stream, the socket may know better.
        if matches!(ended, Close::Left | Close::Misbehaved) {
            why = socket.fault().unwrap_or(ended);
        }
        Box::pin(socket.close(why)).await;
    }
    metrics.closed(why);
    drop((gauge, seat, peer));
    tracing::info!(session = %grant.session, viewer, role = %grant.role, user = %grant.user, why = why.label(), "viewer left");
}

/// Waits for what ends a viewer who has done nothing wrong.
async fn outside(
    drain: &CancellationToken,
    expires_at: u64,
    clock_steps: &mut watch::Receiver<u64>,
    activity: &Activity,
    idle_timeout: Option<Duration>,
) -> Close {
    tokio::select! {
        biased;
        () = drain.cancelled() => Close::Draining,
        () = clock::reached(expires_at, clock_steps) => Close::Expired,
        () = activity.idle(idle_timeout) => Close::Idle,
    }
}

/// A gauge that goes down again whatever happens.
pub(super) struct Counted(prometheus::IntGauge);

impl Counted {
    pub(super) fn new(gauge: prometheus::IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
