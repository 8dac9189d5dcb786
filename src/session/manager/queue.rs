//! Requests that wait for a place.

use std::collections::VecDeque;
use std::time::Instant;

use super::super::admission::Denial;
use super::super::repeats::Repeat;
use super::actor::Actor;
use super::place::{Applicant, Queued, refuse};

impl Actor {
    /// Lets in who waits, in order, and sends away who has waited long enough.
    pub(super) fn serve_queue(&mut self) {
        loop {
            self.answer_repeats();
            if self.occupied() >= self.capacity {
                break;
            }
            let Some(queued) = self.queue.pop_front() else { break };
            // The world may have changed while it waited: it is judged anew, as if nobody waited.
            let rest = std::mem::take(&mut self.queue);
            self.admit(queued.applicant);
            self.queue.extend(rest);
        }
        let (now, capacity) = (Instant::now(), self.capacity);
        for late in self.leave_queue(|queued| queued.until <= now) {
            refuse(late.reply, Denial::OverCapacity { capacity });
        }
    }

    /// Takes those out of the queue for whom `chosen` holds.
    pub(super) fn leave_queue(&mut self, chosen: impl Fn(&Queued) -> bool) -> Vec<Applicant> {
        let (gone, rest): (VecDeque<_>, _) = std::mem::take(&mut self.queue).into_iter().partition(chosen);
        self.queue = rest;
        gone.into_iter().map(|queued| queued.applicant).collect()
    }

    /// Takes out of the queue whoever has gone, and who waits for what the same request has got meanwhile.
    fn answer_repeats(&mut self) {
        for queued in std::mem::take(&mut self.queue) {
            let Queued { applicant: Applicant { spec, idempotency, reply }, until } = queued;
            // Nobody would know of a session whose asker has gone.
            if reply.is_closed() {
                continue;
            }
            match idempotency.map(|key| self.repeats.find(key, Instant::now())) {
                Some(Repeat::Of(session)) => self.again(&session, reply),
                Some(Repeat::Other) => refuse(reply, Denial::KeyReused),
                Some(Repeat::New) | None => {
                    let applicant = Applicant { spec, idempotency, reply };
                    self.queue.push_back(Queued { applicant, until });
                }
            }
        }
    }
}
