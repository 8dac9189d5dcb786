//! Towards what is wanted: who may start, and who has to go.

use std::time::Instant;

use super::group::Machine;
use super::service::{Actual, Cause};
use super::vocabulary::{RunId, Todo};

impl Machine {
    /// Whether it will not stay up: not wanted, to be restarted, or resting on one of which that is true.
    fn leaves(&self, index: usize) -> bool {
        let service = &self.services[index];
        !service.wanted || service.restart_asked || self.rests_on_sand(index)
    }

    fn rests_on_sand(&self, index: usize) -> bool {
        self.services[index].requires.iter().any(|&other| !self.services[other].is_up() || self.leaves(other))
    }

    /// Brings each service one step towards what is wanted, until none can be.
    pub(super) fn settle(&mut self, now: Instant) {
        while (0..self.services.len()).any(|index| self.settle_one(index, now)) {}
    }

    fn settle_one(&mut self, index: usize, now: Instant) -> bool {
        let service = &self.services[index];
        let (wanted, restart_asked) = (service.wanted, service.restart_asked);
        match service.actual {
            Actual::Stopped if wanted => self.become_idle(index, Actual::Waiting),
            Actual::Waiting | Actual::BackingOff { .. } if !wanted => {
                self.become_idle(index, Actual::Stopped)
            }
            Actual::BackingOff { .. } if restart_asked => self.become_idle(index, Actual::Waiting),
            Actual::Waiting => {
                let mut requires = service.requires.iter();
                if !requires.all(|&other| self.services[other].answers() && !self.leaves(other)) {
                    return false;
                }
                self.launch(index);
                true
            }
            Actual::Starting { .. } | Actual::Up { .. } => self.stop_if_due(index, now),
            // It is new as it is.
            Actual::Launching { .. } if restart_asked => {
                self.services[index].restart_asked = false;
                true
            }
            _ => false,
        }
    }

    fn become_idle(&mut self, index: usize, actual: Actual) -> bool {
        let service = &mut self.services[index];
        service.restart_asked = false;
        if actual == Actual::Stopped {
            service.healthy();
            service.failed_at = None;
        }
        service.actual = actual;
        true
    }

    fn launch(&mut self, index: usize) {
        let run = RunId(self.next_run);
        self.next_run += 1;
        let service = &mut self.services[index];
        let attempt = service.starts;
        service.starts = service.starts.saturating_add(1);
        service.restart_asked = false;
        service.actual = Actual::Launching { run };
        self.act(index, run, Todo::Launch { attempt });
    }

    fn stop_if_due(&mut self, index: usize, now: Instant) -> bool {
        if !self.leaves(index) {
            return false;
        }
        let service = &self.services[index];
        let lost = service.requires.iter().find(|&&other| !self.services[other].is_up());
        let lost = lost.map(|&other| self.services[other].node.name);
        let rested_on = service.required_by.iter().any(|&other| self.services[other].run().is_some());
        // With its requirement gone there is nothing to keep up for the others.
        if rested_on && lost.is_none() {
            return false;
        }
        let cause = match (service.wanted, service.restart_asked) {
            (false, _) => Cause::Unwanted,
            (true, true) => Cause::Restart,
            (true, false) => Cause::RequirementLost,
        };
        if let Some(lost) = lost.filter(|_| service.wanted) {
            self.services[index].reason = Some(format!("{lost} went away"));
        }
        self.begin_stop(index, cause, lost.is_none(), now);
        true
    }
}
