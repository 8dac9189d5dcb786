//! The task: requests and notes in, and what follows from them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::super::config::{Config, HostConfig, Rules};
use super::super::directory::{Directory, Occupancy};
use super::super::handle::{Desk, Request};
use super::super::ledger::Ledger;
use super::super::life::{Note, Notes};
use super::super::record::Warmth;
use super::super::repeats::Repeats;
use super::super::slots::Slots;
use super::super::spares::Shelf;
use super::super::telling::Teller;
use super::super::viewer::Session;
use super::place::{Phase, Place, Queued};
use super::upkeep::Tended;
use crate::adspower::AdsPower;
use crate::browser::Ports;
use crate::clock;
use crate::ids::{ProfileName, SessionId};
use crate::profile::{Doubt, Pool};
use crate::sys::Host;
use crate::tasks::{Outcome, Scope};
use crate::vnc::native::{self, Encoders};

/// For a supervisor to answer a ping.
const PING_DEADLINE: Duration = Duration::from_secs(1);

/// Who is to be told when nothing is left.
pub(super) struct Stopping {
    pub(super) done: oneshot::Sender<()>,
    /// Whether the task ends then.
    pub(super) last: bool,
}

/// The task's state.
pub(super) struct Actor {
    /// The sessions' tasks.
    pub(super) scope: Scope,
    pub(super) slots: Slots,
    pub(super) shelf: Shelf,
    pub(super) repeats: Repeats,
    pub(super) places: BTreeMap<u32, Place>,
    pub(super) queue: VecDeque<Queued>,
    /// Whether all sessions end, and no more are taken.
    pub(super) draining: bool,
    /// Whether no more are taken, since the control plane does not know this host.
    pub(super) refusing: bool,
    pub(super) stopping: Option<Stopping>,
    pub(super) system: Host,
    pub(super) host: Arc<HostConfig>,
    /// For the browsers of all sessions.
    pub(super) devtools_ports: Arc<Ports>,
    pub(super) encoders: Encoders,
    /// Where the host has it.
    pub(super) adspower: Option<AdsPower>,
    pub(super) native: native::Metrics,
    pub(super) rules: Rules,
    pub(super) template: Config,
    pub(super) capacity: usize,
    pub(super) directory: watch::Sender<Directory>,
    pub(super) teller: Teller,
    pub(super) ledger: Ledger,
    pub(super) pool: Pool,
    /// Whether browsers start on this host at all.
    pub(super) doubt: Doubt,
    /// When leases of profiles are renewed next, in milliseconds of this boot.
    pub(super) renew_at_ms: i64,
    /// Profiles whose directories are being removed.
    pub(super) leaving: BTreeSet<ProfileName>,
    /// Profiles that are looked after before they are given back.
    pub(super) tended: BTreeMap<ProfileName, Tended>,
    pub(super) notes: Notes,
    /// To this very task, for sessions that are asked what it decides.
    pub(super) desk: Desk,
}

impl Actor {
    pub(super) async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Request>,
        mut news: mpsc::Receiver<(u32, Note)>,
    ) {
        loop {
            self.expire_handoffs();
            self.serve_queue();
            self.tend_profiles();
            self.stock_up();
            self.publish();
            if self.places.is_empty()
                && let Some(Stopping { done, last }) = self.stopping.take()
            {
                if last {
                    self.stop_tending();
                }
                // Whoever asked may have stopped waiting.
                let _unheard = done.send(());
                if last {
                    return;
                }
            }
            let due = self.due();
            tokio::select! {
                request = inbox.recv() => match request {
                    Some(request) => self.request(request),
                    None => return,
                },
                Some((slot, note)) = news.recv() => self.hear(slot, note),
                Some(finished) = self.scope.join_next() => match finished.outcome {
                    Outcome::Panicked(error) => {
                        tracing::error!(task = finished.name, error, "a session's task panicked");
                    }
                    outcome => tracing::trace!(task = finished.name, ?outcome, "a session's task ended"),
                },
                () = clock::until(due) => {}
            }
        }
    }

    /// When somebody has waited long enough for a place or for a human, or a spare may be tried again.
    fn due(&self) -> Option<Instant> {
        let waits = self.queue.iter().map(|queued| queued.until);
        let shelf = self.shelf.next_try(Instant::now());
        waits.chain(shelf).chain(self.next_handoff_expiry()).chain(self.next_profile_care()).min()
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Ping(answer) => self.ping(answer),
            Request::Close(answer) => {
                self.close();
                let _gave_up = answer.send(());
            }
            Request::Intake(open, answer) => {
                self.set_intake(open);
                let _gave_up = answer.send(());
            }
            Request::Create(create) => self.create(*create),
            Request::Stop { id, reason, reply } => {
                let record = self.stop(&id, reason);
                let _gave_up = reply.send(record);
            }
            Request::Amend { id, amendment, reply } => {
                let _gave_up = reply.send(self.amend(&id, amendment));
            }
            Request::AskForHuman { id, new, reply } => {
                let _gave_up = reply.send(self.ask_for_human(&id, new));
            }
            Request::Answer { session, handoff, answer, reply } => {
                let _gave_up = reply.send(self.answer_handoff(&session, &handoff, answer));
            }
            Request::Profiles(request) => self.profile_request(request),
            Request::StopAll { budget, last, done } => self.stop_all(budget, Stopping { done, last }),
        }
    }

    /// Answers when every supervisor has; one that does not keeps the answer back.
    fn ping(&mut self, answer: oneshot::Sender<()>) {
        let group_of = |session: &Session| Some((session.id().clone(), session.inner.supervisor.clone()?));
        let groups: Vec<_> = self.sessions().filter_map(group_of).collect();
        self.scope.spawn("ping", async move {
            for (id, group) in groups {
                // One whose session has just ended is nobody's fault.
                if !group.is_over() && !group.ping(PING_DEADLINE).await && !group.is_over() {
                    tracing::error!(session = %id, "the supervisor does not answer");
                    return;
                }
            }
            // Whoever asked may have stopped waiting.
            let _unheard = answer.send(());
        });
    }

    fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.places.values().filter_map(|place| match &place.phase {
            Phase::Live { session, .. } => Some(session),
            Phase::Spare | Phase::Reserved { .. } => None,
        })
    }

    fn hear(&mut self, slot: u32, note: Note) {
        match note {
            Note::SpareReady => self.shelf.ready(slot),
            Note::Born(session) => self.born(slot, session),
            Note::Stuck => {
                if let Some(Place { phase: Phase::Live { session, .. }, .. }) = self.places.get(&slot) {
                    tracing::error!(session = %session.id(), slot, "the session cannot be ended");
                }
            }
            Note::Ending(ending, heard) => self.ending(slot, ending, heard),
            Note::Late(error) => self.late(slot, error),
            Note::Over(outcome) => self.over(slot, outcome),
        }
    }

    /// What the session in this place runs as.
    pub(super) fn uid_of(&self, slot: u32) -> u32 {
        let own = nix::unistd::geteuid();
        if own.is_root() { self.host.first_uid.saturating_add(slot) } else { own.as_raw() }
    }

    pub(super) fn occupied(&self) -> usize {
        self.places.values().filter(|place| !matches!(place.phase, Phase::Spare)).count()
    }

    pub(super) fn place_of(&self, id: &SessionId) -> Option<u32> {
        self.places.iter().find(|(_slot, place)| place.phase.id() == Some(id)).map(|(slot, _place)| *slot)
    }

    fn publish(&self) {
        let count = |warmth| self.shelf.ready_count(warmth);
        let occupancy = Occupancy {
            capacity: self.capacity,
            occupied: self.occupied(),
            queued: self.queue.len(),
            spare_displays: count(Warmth::Display),
            spare_browsers: count(Warmth::Browser),
            refusing: self.refusing,
        };
        let profiles = self.pool.counts();
        self.directory.send_if_modified(|directory| {
            let changed = (directory.occupancy, directory.profiles) != (occupancy, profiles);
            (directory.occupancy, directory.profiles) = (occupancy, profiles);
            changed
        });
    }
}
