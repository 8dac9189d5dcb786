//! Watching an RFB server that somebody else runs.

use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::status::{Component, ComponentStatus};
use crate::vnc::{RfbAddress, relay};

/// As for services of our own: a fault shows within 2 s.
const INTERVAL: Duration = Duration::from_millis(1000);
const DEADLINE: Duration = Duration::from_millis(900);

/// The component as it is before the first probe.
pub(super) fn unknown() -> Component {
    Component {
        name: "rfb",
        status: ComponentStatus::Starting,
        since: SystemTime::now(),
        reason: None,
        pid: None,
        starts: 0,
    }
}

/// Probes `address` until `over`, and publishes what it finds.
pub(super) async fn watch_server(
    address: RfbAddress,
    state: watch::Sender<Component>,
    over: CancellationToken,
) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _tick = ticks.tick() => {}
            () = over.cancelled() => break,
        }
        let (status, reason) = match timeout(DEADLINE, relay::probe(&address)).await {
            Ok(Ok(())) => (ComponentStatus::Ok, None),
            // What is behind the colon is for operators.
            Ok(Err(error)) => (
                ComponentStatus::Failing,
                Some(format!("no RFB handshake: {}", crate::errors::chain(&error))),
            ),
            Err(_elapsed) => {
                (ComponentStatus::Failing, Some(format!("no RFB handshake within {DEADLINE:?}: {address}")))
            }
        };
        state.send_if_modified(|component| {
            let changed = component.status != status;
            if changed {
                component.since = SystemTime::now();
            }
            let told = component.reason != reason;
            component.status = status;
            component.reason = reason;
            changed || told
        });
    }
    state.send_modify(|component| component.status = ComponentStatus::Stopped);
}
