//! Letting sessions in: from a request to a place, at once or after a wait, and spares for those to come.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{oneshot, watch};

use super::super::admission::{Admission, Denial, Situation, judge};
use super::super::handle::{Create, CreateError, Created, Unresponsive};
use super::super::handoff::Handoffs;
use super::super::launch::Site;
use super::super::life::{self, Birth, Life, Order};
use super::super::record::End;
use super::super::repeats::Repeat;
use super::super::spares::Spare;
use super::super::spec::{Parts, Spec};
use super::super::status::SessionState;
use super::super::viewer::{Expiry, Session, Terms};
use super::actor::Actor;
use super::place::{Applicant, Controls, Phase, Place, Queued, Reply, Waiting, answer, fail, refuse};
use crate::hex;
use crate::ids::SessionId;
use crate::store::SessionKey;
use crate::supervise::Identity;

impl Actor {
    pub(super) fn create(&mut self, create: Create) {
        let Create { request, idempotency, recalled, reply } = create;
        if let Some(idempotency) = idempotency {
            let known = match (self.repeats.find(idempotency, Instant::now()), recalled) {
                (Repeat::New, Some((fingerprint, session))) if fingerprint == idempotency.fingerprint => {
                    Repeat::Of(session)
                }
                (Repeat::New, Some(_)) => Repeat::Other,
                (known, _) => known,
            };
            match known {
                Repeat::New => {}
                Repeat::Other => return refuse(reply, Denial::KeyReused),
                Repeat::Of(session) => return self.again(&session, reply),
            }
        }
        let id = match request.id.clone().map_or_else(new_id, Ok) {
            Ok(id) => id,
            Err(error) => return answer(reply, Err(CreateError::Failed(error))),
        };
        match Spec::requested(request, id, &self.template, &self.rules, self.adspower.is_some()) {
            Ok(spec) => self.admit(Applicant { spec, idempotency, reply }),
            Err(denial) => refuse(reply, denial),
        }
    }

    pub(super) fn admit(&mut self, mut applicant: Applicant) {
        let Spec { id, profile, kind, .. } = &applicant.spec;
        let no_profile = self.pool_refusal(&applicant.spec);
        let unpooled = profile.as_ref().filter(|profile| !self.pool.governs(profile, *kind));
        let holder = unpooled.and_then(|profile| {
            // One of AdsPower's may be called like one of ours.
            let has_it =
                |place: &&Place| place.phase.profile() == Some(profile) && place.phase.kind() == Some(*kind);
            self.places.values().find(has_it)?.phase.id()
        });
        let situation = Situation {
            draining: self.draining,
            refusing: self.refusing,
            alone: self.template.exit_when_ended.then_some(&self.template.id),
            capacity: self.capacity,
            occupied: self.occupied(),
            queued: self.queue.len(),
            queue_length: self.rules.queue_length,
            id_in_use: self.place_of(id).is_some(),
            profile_holder: holder,
            no_profile: no_profile.as_ref(),
        };
        match judge(profile.as_ref(), &situation) {
            Admission::Accepted => {
                if let Err(refusal) = self.lend(&mut applicant.spec) {
                    return refuse(applicant.reply, refusal.into());
                }
                let Applicant { spec, idempotency, reply } = applicant;
                if let Some(idempotency) = idempotency {
                    self.repeats.remember(idempotency, spec.key(), Instant::now());
                }
                self.order(spec, Waiting::Requests { replies: vec![reply], idempotency });
            }
            Admission::Queued => {
                let until = Instant::now() + self.rules.queue_deadline;
                self.queue.push_back(Queued { applicant, until });
            }
            Admission::Denied(denial) => refuse(applicant.reply, denial),
        }
    }

    /// The same request again: answers with its session, whatever that has become. Never with a later one of the same id,
    /// which may be somebody else's.
    pub(super) fn again(&mut self, session: &SessionKey, reply: Reply) {
        let place = self.places.values_mut().find(|place| place.phase.key().as_ref() == Some(session));
        match place.map(|place| &mut place.phase) {
            Some(Phase::Live { session, .. }) => {
                answer(reply, Ok(Created { session: session.clone(), fresh: false }));
            }
            Some(Phase::Reserved { waiting: Waiting::Requests { replies, .. }, .. }) => replies.push(reply),
            Some(Phase::Spare | Phase::Reserved { .. }) | None => {
                answer(reply, Err(CreateError::Over(session.id.clone())));
            }
        }
    }

    /// Gives a session that was admitted to a spare, or starts it from nothing.
    pub(super) fn order(&mut self, spec: Spec, waiting: Waiting) {
        let terms = Terms {
            expires: spec.max_duration.map(Expiry::after),
            idle_timeout: spec.idle_timeout,
            labels: spec.labels.clone(),
        };
        let controls =
            Controls { terms: watch::Sender::new(terms), handoffs: watch::Sender::new(Handoffs::default()) };
        let spec = Arc::new(spec);
        let mut order = Order {
            spec: Arc::clone(&spec),
            terms: controls.terms.subscribe(),
            handoffs: controls.handoffs.subscribe(),
        };
        let template = Parts::of(&self.template);
        if order.spec.fits_display_of(&template, self.rules.limits) {
            let with_browser = order.spec.fits_browser_of(&template);
            while let Some((slot, assign)) = self.shelf.take(with_browser) {
                match (assign.send(order), self.places.get_mut(&slot)) {
                    (Ok(()), Some(place)) => {
                        place.phase = Phase::Reserved { spec, controls, waiting };
                        return;
                    }
                    // It is ending by itself; the next one may do.
                    (Err(back), _) => order = back,
                    // Its end would have taken it off the shelf.
                    (Ok(()), None) => {
                        tracing::error!(slot, "a spare has no place");
                        return self.not_born(&spec, None, waiting, CreateError::Unresponsive(Unresponsive));
                    }
                }
            }
        }
        // A spare more than there is room for beside this one gives way to it.
        if self.places.len() >= self.capacity
            && let Some(slot) = self.shelf.give_up()
        {
            tracing::debug!(slot, "a spare gives way");
        }
        let Some(slot) = self.slots.take() else {
            let denial = Denial::OverCapacity { capacity: self.capacity };
            self.unlend(&spec);
            return self.not_born(&spec, None, waiting, denial.into());
        };
        self.bear(slot, Birth::Ordered(order), Phase::Reserved { spec, controls, waiting });
    }

    pub(super) fn bear(&mut self, slot: u32, birth: Birth, phase: Phase) {
        let ending = watch::Sender::new(None);
        let is_root = nix::unistd::geteuid().is_root();
        let uid = self.uid_of(slot);
        let identity = is_root.then_some(Identity { uid, gid: uid });
        let life = Life {
            site: Site {
                host: Arc::clone(&self.host),
                slot,
                identity,
                devtools_ports: Arc::clone(&self.devtools_ports),
                adspower: self.adspower.clone(),
                native: self.native.clone(),
                encoders: self.encoders.clone(),
            },
            system: self.system.clone(),
            template: Parts::of(&self.template),
            limits: self.rules.limits,
            teller: self.teller.clone(),
            ledger: self.ledger.clone(),
            notes: self.notes.clone(),
            desk: self.desk.clone(),
            ending: ending.subscribe(),
        };
        let lease = match &phase {
            Phase::Reserved { spec, .. } => spec.profile_lease.clone(),
            Phase::Spare | Phase::Live { .. } => None,
        };
        self.places.insert(slot, Place { phase, ending, lease });
        self.scope.spawn("session", life.run(birth));
    }

    pub(super) fn born(&mut self, slot: u32, session: Session) {
        let Some(place) = self.places.get_mut(&slot) else { return };
        let Phase::Reserved { spec, controls, waiting } = std::mem::replace(&mut place.phase, Phase::Spare)
        else {
            tracing::error!(slot, "a session that nobody ordered");
            return;
        };
        place.phase = Phase::Live { session: session.clone(), controls };
        self.directory.send_modify(|directory| {
            directory.live.insert(session.id().clone(), session.clone());
        });
        match waiting {
            Waiting::Autostart(reply) => {
                let _unheard = reply.send(Ok(()));
            }
            Waiting::Requests { replies, idempotency } => {
                if let Some(idempotency) = idempotency {
                    self.ledger.remember(idempotency, &spec.key());
                }
                for (index, reply) in replies.into_iter().enumerate() {
                    answer(reply, Ok(Created { session: session.clone(), fresh: index == 0 }));
                }
            }
        }
    }

    /// A session that was admitted did not come to be: whoever asked for it may try again. Not so where somebody had it end
    /// before: then it is over, and the same request does not bring it back.
    pub(super) fn not_born(&mut self, spec: &Spec, end: Option<End>, waiting: Waiting, error: CreateError) {
        let key = match &waiting {
            Waiting::Requests { idempotency, .. } => *idempotency,
            Waiting::Autostart(_) => None,
        };
        let Some(end) = end else {
            if let Some(key) = key {
                self.repeats.forget(key);
            }
            return fail(waiting, error);
        };
        if let Some(key) = key {
            self.repeats.remember(key, spec.key(), Instant::now());
            self.ledger.remember(key, &spec.key());
        }
        self.bury(None, spec.record(SessionState::Stopped, end));
        fail(waiting, CreateError::Cancelled(spec.id.clone()));
    }

    /// Keeps as many spares as are wanted and fit beside the sessions.
    pub(super) fn stock_up(&mut self) {
        while !self.draining
            && self.places.len() < self.capacity
            && let Some(warmth) = self.shelf.wants(Instant::now())
            && let Some(slot) = self.slots.take()
        {
            let (assign, assigned) = oneshot::channel();
            self.shelf.add(Spare { slot, warmth, assign });
            self.bear(slot, Birth::Spare(warmth, assigned), Phase::Spare);
        }
    }
}

/// An id that nobody else has: 80 random bits.
fn new_id() -> Result<SessionId, life::Error> {
    let mut random = [0; 10];
    aws_lc_rs::rand::fill(&mut random).map_err(life::Error::Random)?;
    SessionId::try_from(format!("s-{}", hex::encode(&random))).map_err(life::Error::Id)
}
