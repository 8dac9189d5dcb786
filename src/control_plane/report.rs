//! Putting reports together from how the host is.

use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::timeout;

use super::payload::{Backlog, Event, Events, Heartbeat, Origin, PROTOCOL, Registration, ReportedSession};
use crate::clock::{unix_ms, unix_seconds};
use crate::health::{HealthNotice, Survey};
use crate::identity::{Announced, Kind};
use crate::links::Links;
use crate::session::Sessions;
use crate::store::{Outbox, Store, Waiting};

/// For the numbers of the outbox: a disk that takes longer must not hold up a heartbeat.
const NUMBERS_DEADLINE: Duration = Duration::from_millis(500);

/// What reports are about.
pub struct Subject {
    /// The sessions that there are.
    pub sessions: Sessions,
    /// What the machine's cloud announces about it.
    pub announced: watch::Receiver<Announced>,
    /// Where events wait.
    pub store: Store,
    /// Where the gateway is.
    pub links: Links,
    /// The port of the host API.
    pub api_port: u16,
    /// The boot.
    pub boot_id: String,
    /// The run of the daemon.
    pub run_id: String,
}

impl Subject {
    fn origin(&self, survey: &Survey) -> Origin {
        Origin {
            host_id: survey.host().map(|host| host.id.clone()),
            boot_id: self.boot_id.clone(),
            run_id: self.run_id.clone(),
        }
    }

    pub(super) async fn registration(&self, survey: &Survey) -> Registration {
        Registration {
            protocol: PROTOCOL,
            origin: self.origin(survey),
            health: survey.health().await,
            api_port: self.api_port,
            sent_at: unix_seconds(SystemTime::now()),
        }
    }

    pub(super) async fn heartbeat(
        &self,
        survey: &Survey,
        sequence: u64,
        skew: Option<f64>,
        events: Backlog,
    ) -> Heartbeat {
        let announced = self.announced.borrow().clone();
        let notices = Kind::ALL.into_iter().filter_map(|kind| announced.notice(kind));
        let mut records: Vec<_> = self.sessions.all().iter().map(crate::session::Session::record).collect();
        records.sort_by(|a, b| a.id.cmp(&b.id));
        Heartbeat {
            protocol: PROTOCOL,
            origin: self.origin(survey),
            sequence,
            clock_skew_seconds: skew.map(|skew| (skew * 1000.0).round() / 1000.0),
            api_port: self.api_port,
            health: survey.health().await,
            notices: notices.map(HealthNotice::from).collect(),
            sessions: records.into_iter().map(|record| ReportedSession::of(record, &self.links)).collect(),
            events,
            sent_at: unix_seconds(SystemTime::now()),
        }
    }

    pub(super) fn events<'w>(
        &self,
        survey: &Survey,
        waiting: impl Iterator<Item = &'w Waiting>,
        outbox: &Outbox,
    ) -> Events {
        Events {
            protocol: PROTOCOL,
            origin: self.origin(survey),
            sent_at: unix_seconds(SystemTime::now()),
            dropped: outbox.dropped,
            events: waiting.map(|waiting| Event::from(&waiting.event)).collect(),
        }
    }

    /// The outbox in numbers; none where the disk does not say in time.
    pub(super) async fn outbox(&self) -> Option<Outbox> {
        match timeout(NUMBERS_DEADLINE, self.store.outbox()).await {
            Ok(Ok(outbox)) => Some(outbox),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    pub(super) fn backlog(outbox: &Outbox) -> Backlog {
        Backlog::of(outbox, unix_ms(SystemTime::now()))
    }
}
