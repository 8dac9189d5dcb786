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
        let now = Instant::now();
        let capacity = self.capacity;
        let (late, waiting): (VecDeque<_>, _) =
            std::mem::take(&mut self.queue).into_iter().partition(|queued| queued.until <= now);
        self.queue = waiting;
        for queued in late {
            refuse(queued.applicant.reply, Denial::OverCapacity { capacity });
        }
    }

    /// Takes out of the queue whoever has gone, and who waits for what the same request has got meanwhile.
    fn answer_repeats(&mut self) {
        for queued in std::mem::take(&mut self.queue) {
            let Queued { applicant: Applicant { spec, idempotency, mut reply }, until } = queued;
            // Nobody would know of a session whose asker has gone.
            if reply.is_closed() {
                continue;
            }
            match idempotency.map(|key| self.repeats.find(key, Instant::now())) {
                Some(Repeat::Of(id)) => match self.again(&id, reply) {
                    Some(back) => reply = back,
                    None => continue,
                },
                Some(Repeat::Other) => {
                    refuse(reply, Denial::KeyReused);
                    continue;
                }
                Some(Repeat::New) | None => {}
            }
            self.queue.push_back(Queued { applicant: Applicant { spec, idempotency, reply }, until });
        }
    }
}
