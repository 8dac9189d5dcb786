//! The manager before it runs, and its start.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{mpsc, oneshot, watch};

use super::super::config::{Config, HostConfig, Rules};
use super::super::directory::{Directory, Occupancy, Sessions};
use super::super::events::EventLog;
use super::super::handle::{Desk, ManagerHandle};
use super::super::ledger::{Ledger, Recovered};
use super::super::life;
use super::super::places;
use super::super::repeats::Repeats;
use super::super::slots::Slots;
use super::super::spares::Shelf;
use super::super::spec::Spec;
use super::super::telling::Teller;
use super::actor::Actor;
use super::dismiss::REMEMBERED;
use super::place::Waiting;
use super::profiles::restore_pool;
use crate::adspower::AdsPower;
use crate::browser::Ports;
use crate::display::Reservation;
use crate::profile::{self, Doubt};
use crate::sys::Host;
use crate::tasks::Scope;
use crate::vnc::native::{self, Encoders};

/// Requests that may wait for the manager. They are few and short; a full queue means that it hangs.
const QUEUE: usize = 16;
/// Notes of sessions that may wait; a session's task waits with what is more.
const NOTES: usize = 64;

/// What the manager works with.
pub struct Params {
    /// What the host gives to sessions.
    pub host: HostConfig,
    /// How many there may be, and what each may do.
    pub rules: Rules,
    /// What they are made of.
    pub template: Config,
    /// How profiles rotate.
    pub profiles: profile::Settings,
    /// Memory of the host, in bytes.
    pub memory_bytes: u64,
    /// AdsPower, where the host has it.
    pub adspower: Option<AdsPower>,
    /// Where it is counted what serving displays comes to.
    pub native: native::Metrics,
}

/// The manager before it runs.
pub struct Manager {
    host: Arc<HostConfig>,
    rules: Rules,
    template: Config,
    profiles: profile::Settings,
    capacity: usize,
    adspower: Option<AdsPower>,
    native: native::Metrics,
    directory: watch::Sender<Directory>,
    events: EventLog,
}

impl Manager {
    /// A manager without sessions.
    pub fn new(params: Params) -> Self {
        let Params { host, rules, template, profiles, memory_bytes, adspower, native } = params;
        let mut capacity = rules.capacity.resolve(memory_bytes);
        if nix::unistd::geteuid().is_root() {
            // Each place has a uid, and so has for a moment a spare that gives way.
            let spares = rules.spare_displays + rules.spare_browsers;
            let uids = usize::try_from(host.uid_count).unwrap_or(usize::MAX).saturating_sub(spares).max(1);
            if uids < capacity {
                tracing::warn!(
                    capacity,
                    uids,
                    "fewer uids than sessions that fit into memory: no more sessions than those"
                );
                capacity = uids;
            }
        }
        let occupancy = Occupancy { capacity, ..Occupancy::default() };
        let directory = watch::Sender::new(Directory { occupancy, ..Directory::default() });
        let events = EventLog::default();
        Self {
            host: Arc::new(host),
            rules,
            template,
            profiles,
            capacity,
            adspower,
            native,
            directory,
            events,
        }
    }

    /// The sessions, for those who serve them.
    pub fn sessions(&self) -> Sessions {
        Sessions { directory: self.directory.subscribe(), events: self.events.listen() }
    }

    /// Starts the manager's task in `scope`. Where the configuration has a session of its own, that is ordered at once.
    ///
    /// # Errors
    /// When what sessions of an earlier run left cannot be taken back from their uids.
    pub async fn spawn(
        self,
        scope: &mut Scope,
        system: &Host,
        ledger: Ledger,
    ) -> Result<(ManagerHandle, Autostart), places::Error> {
        // What an earlier run left is ended before its uids are given to anybody.
        let processes = ledger.processes().await;
        let Recovered { history, is_whole } = ledger.recover(REMEMBERED).await;
        let pool = restore_pool(self.profiles.clone(), &ledger, &processes).await;
        places::clear_leftovers(&self.host)?;
        let displays = Reservation::clear_stale();
        if displays > 0 {
            tracing::info!(count = displays, "removed the marks of displays whose owner is gone");
        }
        self.directory.send_modify(|directory| directory.ended = history.into_iter().map(Arc::new).collect());
        let (requests, inbox) = mpsc::channel(QUEUE);
        let (notes, news) = mpsc::channel(NOTES);
        let (autostarted, begun) = oneshot::channel();
        let mut created = SystemTime::UNIX_EPOCH;
        let queue_deadline = self.rules.queue_deadline;
        let Self { host, rules, template, profiles: _, capacity, adspower, native, directory, events } = self;
        let uids = if nix::unistd::geteuid().is_root() { host.uid_count } else { u32::MAX };
        let mut actor = Actor {
            scope: Scope::new(),
            slots: Slots::new(uids),
            shelf: Shelf::new(rules.spare_displays, rules.spare_browsers),
            repeats: Repeats::default(),
            places: BTreeMap::new(),
            queue: VecDeque::new(),
            draining: false,
            refusing: false,
            stopping: None,
            system: system.clone(),
            devtools_ports: Ports::new(host.isolation.devtools_ports.clone()),
            encoders: Encoders::default(),
            adspower,
            native,
            host,
            rules,
            template,
            capacity,
            directory,
            teller: Teller::new(events),
            ledger: ledger.clone(),
            pool,
            doubt: Doubt::default(),
            renew_at_ms: 0,
            leaving: BTreeSet::new(),
            tended: BTreeMap::new(),
            notes,
            desk: Desk::at(&requests, &ledger),
        };
        if !is_whole {
            actor.scope.spawn("late recovery", ledger.clone().recover_late());
        }
        if actor.template.autostart {
            let spec = Spec::fixed(&actor.template, &actor.rules);
            created = spec.created;
            actor.order(spec, Waiting::Autostart(autostarted));
        } else {
            // Nobody waits for a session that there is not to be.
            let _unheard = autostarted.send(Ok(()));
        }
        scope.spawn("session manager", actor.run(inbox, news));
        Ok((ManagerHandle { requests, ledger, queue_deadline }, Autostart { begun, created }))
    }
}

/// The configuration's own session, where it has one.
pub struct Autostart {
    /// Tells whether it could be put together; at once where there is none.
    pub begun: oneshot::Receiver<Result<(), life::Error>>,
    /// When it was ordered, which tells it from earlier ones of its id.
    pub created: SystemTime,
}
