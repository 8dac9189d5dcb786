//! What an event of a run does to its service.

use std::time::Instant;

use super::group::{Machine, illegal, nobody};
use super::service::{Actual, Cause, KILL_AGAIN, Live, Phase, ProbeClock, START_PROBE_INTERVAL, Step};
use super::vocabulary::{Illegal, Report, RunEvent, RunId, Todo};

/// Said once, and shown until it is over.
const SURVIVES: &str = "processes survive SIGKILL";

impl Machine {
    pub(super) fn run_event(
        &mut self,
        index: usize,
        run: RunId,
        what: RunEvent,
        now: Instant,
        random: f64,
    ) -> Result<(), Illegal> {
        let service = self.services.get(index).ok_or_else(|| nobody(index))?;
        if service.run() != Some(run) {
            // Answers may come late; facts about a run that is over may not.
            return match what {
                RunEvent::Probed(_)
                | RunEvent::NotProbed(_)
                | RunEvent::Asked(_)
                | RunEvent::ReadyLine(_) => Ok(()),
                what => Err(illegal(service, &what)),
            };
        }
        match what {
            RunEvent::Spawned { pid, says_when_ready } => self.spawned(index, pid, says_when_ready, now),
            RunEvent::SpawnFailed(reason) => self.spawn_failed(index, reason, now, random),
            RunEvent::ReadyLine(outcome) => self.ready_line(index, outcome, now, random),
            RunEvent::Probed(outcome) => self.probed(index, outcome, now, random),
            RunEvent::NotProbed(reason) => self.not_probed(index, reason, now, random),
            RunEvent::Asked(did) => self.asked(index, did, now),
            RunEvent::Exited { exit, last_line, others_left } => {
                let reason = match last_line {
                    Some(line) => format!("{exit}: {line}"),
                    None => exit.to_string(),
                };
                self.exited(index, reason, others_left, now, random)
            }
            RunEvent::Emptied => self.emptied(index),
            RunEvent::NotEmptied => self.not_emptied(index, now),
            RunEvent::CleanedUp => self.cleaned_up(index, now),
        }
    }

    fn spawned(
        &mut self,
        index: usize,
        pid: u32,
        says_when_ready: bool,
        now: Instant,
    ) -> Result<(), Illegal> {
        let service = &mut self.services[index];
        let Actual::Launching { run } = service.actual else { return Err(illegal(service, "Spawned")) };
        let phase = if says_when_ready { Phase::Line } else { Phase::Probing(ProbeClock::InFlight) };
        let deadline = now + service.node.timing.start_deadline;
        service.actual =
            Actual::Starting { live: Live { run, pid, spawned: now, orphaned: false }, phase, deadline };
        if !says_when_ready {
            self.act(index, run, Todo::Probe);
        }
        Ok(())
    }

    fn spawn_failed(
        &mut self,
        index: usize,
        reason: String,
        now: Instant,
        random: f64,
    ) -> Result<(), Illegal> {
        let Actual::Launching { run } = self.services[index].actual else {
            return Err(illegal(&self.services[index], "SpawnFailed"));
        };
        let retry_in = self.count_failure(index, run, reason, now, random);
        self.services[index].actual = Actual::BackingOff { until: now + retry_in };
        Ok(())
    }

    fn ready_line(
        &mut self,
        index: usize,
        outcome: Result<(), String>,
        now: Instant,
        random: f64,
    ) -> Result<(), Illegal> {
        let service = &mut self.services[index];
        match (&mut service.actual, outcome) {
            (Actual::Starting { live, phase: phase @ Phase::Line, .. }, Ok(())) => {
                *phase = Phase::Probing(ProbeClock::InFlight);
                let run = live.run;
                self.act(index, run, Todo::Probe);
                Ok(())
            }
            (Actual::Starting { phase: Phase::Line, .. }, Err(reason)) => {
                self.fail(index, reason, now, random);
                Ok(())
            }
            (Actual::Ending { .. }, _) => Ok(()),
            _ => Err(illegal(service, "ReadyLine")),
        }
    }

    fn probed(
        &mut self,
        index: usize,
        outcome: Result<(), String>,
        now: Instant,
        random: f64,
    ) -> Result<(), Illegal> {
        let service = &mut self.services[index];
        let timing = service.node.timing;
        let next = ProbeClock::At(now + timing.probe_interval);
        match (&mut service.actual, outcome) {
            (Actual::Starting { live, phase: Phase::Probing(ProbeClock::InFlight), .. }, Ok(())) => {
                let live = *live;
                service.actual = Actual::Up { live, since: now, misses: 0, probe: next };
                service.reason = None;
                let took = now.duration_since(live.spawned);
                let report = if live.orphaned { Report::Readopted } else { Report::Up { took } };
                self.act(index, live.run, Todo::Report(report));
            }
            (Actual::Starting { phase: Phase::Probing(clock @ ProbeClock::InFlight), .. }, Err(reason)) => {
                *clock = ProbeClock::At(now + START_PROBE_INTERVAL.min(timing.probe_interval));
                service.reason = Some(reason);
            }
            (Actual::Up { misses, probe: probe @ ProbeClock::InFlight, .. }, Ok(())) => {
                (*misses, *probe) = (0, next);
                service.reason = None;
            }
            (Actual::Up { misses, probe: probe @ ProbeClock::InFlight, .. }, Err(reason)) => {
                *misses += 1;
                *probe = next;
                let misses = *misses;
                service.reason = Some(reason);
                if misses >= timing.probe_failures {
                    self.fail(index, format!("did not answer {misses} probes"), now, random);
                }
            }
            (Actual::Ending { .. }, _) => {}
            _ => return Err(illegal(service, "Probed")),
        }
        Ok(())
    }

    /// One that is up is neither better nor worse for it.
    fn not_probed(&mut self, index: usize, reason: String, now: Instant, random: f64) -> Result<(), Illegal> {
        let service = &mut self.services[index];
        let next = ProbeClock::At(now + service.node.timing.probe_interval);
        match &mut service.actual {
            Actual::Up { probe: probe @ ProbeClock::InFlight, .. } => {
                *probe = next;
                Ok(())
            }
            _ => self.probed(index, Err(reason), now, random),
        }
    }

    fn asked(&mut self, index: usize, did: bool, now: Instant) -> Result<(), Illegal> {
        match &self.services[index].actual {
            Actual::Ending { step: Step::Asking { .. }, .. } => {
                if !did {
                    self.terminate(index, now);
                }
                Ok(())
            }
            Actual::Ending { .. } => Ok(()),
            _ => Err(illegal(&self.services[index], "Asked")),
        }
    }

    fn exited(
        &mut self,
        index: usize,
        reason: String,
        others_left: bool,
        now: Instant,
        random: f64,
    ) -> Result<(), Illegal> {
        let service = &mut self.services[index];
        match &mut service.actual {
            Actual::Starting { live, .. } | Actual::Up { live, .. } if live.orphaned => {
                Err(illegal(service, "Exited"))
            }
            Actual::Starting { .. } | Actual::Up { .. } => {
                if others_left && service.wanted && self.orphan(index, &reason, now) {
                    return Ok(());
                }
                let service = &self.services[index];
                if service.wanted {
                    self.fail(index, reason, now, random);
                } else {
                    self.kill(index, Cause::Unwanted);
                }
                self.note_exit(index);
                Ok(())
            }
            Actual::Ending { step: Step::Asking { .. } | Step::Terminating { .. }, cause, .. } => {
                let cause = *cause;
                self.kill(index, cause);
                self.note_exit(index);
                Ok(())
            }
            Actual::Ending { step: Step::Killing { exited: false, .. }, .. } => {
                self.note_exit(index);
                Ok(())
            }
            _ => Err(illegal(service, "Exited")),
        }
    }

    /// Waits for the rest of a run to carry it on, where its policy is to. Whether it does.
    fn orphan(&mut self, index: usize, reason: &str, now: Instant) -> bool {
        let service = &mut self.services[index];
        let Some(within) = service.node.restart.readopt_within else { return false };
        let (mut live, phase, deadline) = match service.actual {
            Actual::Starting { live, phase, deadline } => (live, phase, deadline.min(now + within)),
            // The answer to an open probe is still to come.
            Actual::Up { live, probe: ProbeClock::InFlight, .. } => {
                (live, Phase::Probing(ProbeClock::InFlight), now + within)
            }
            Actual::Up { live, .. } => (live, Phase::Probing(ProbeClock::At(now)), now + within),
            _ => return false,
        };
        live.orphaned = true;
        let reason = format!("the main process {reason}");
        service.actual = Actual::Starting { live, phase, deadline };
        service.reason = Some(reason.clone());
        self.act(index, live.run, Todo::Report(Report::Orphaned { reason }));
        true
    }

    fn note_exit(&mut self, index: usize) {
        if let Actual::Ending { step: Step::Killing { exited, .. }, .. } = &mut self.services[index].actual {
            *exited = true;
        }
        self.clean_up_if_over(index);
    }

    fn emptied(&mut self, index: usize) -> Result<(), Illegal> {
        match &mut self.services[index].actual {
            Actual::Ending { step: Step::Killing { emptied: emptied @ false, .. }, .. } => *emptied = true,
            _ => return Err(illegal(&self.services[index], "Emptied")),
        }
        self.clean_up_if_over(index);
        Ok(())
    }

    fn not_emptied(&mut self, index: usize, now: Instant) -> Result<(), Illegal> {
        match &mut self.services[index].actual {
            Actual::Ending { live, step: Step::Killing { emptied: false, again, .. }, .. } => {
                *again = Some(now + KILL_AGAIN);
                let run = live.run;
                let told = self.services[index].reason.as_deref() == Some(SURVIVES);
                if !told {
                    self.services[index].reason = Some(SURVIVES.to_owned());
                    self.act(index, run, Todo::Report(Report::Stuck));
                }
                Ok(())
            }
            _ => Err(illegal(&self.services[index], "NotEmptied")),
        }
    }

    fn clean_up_if_over(&mut self, index: usize) {
        if let Actual::Ending { live, step, .. } = &mut self.services[index].actual
            && matches!(step, Step::Killing { exited: true, emptied: true, .. })
        {
            *step = Step::CleaningUp;
            let run = live.run;
            self.act(index, run, Todo::CleanUp);
        }
    }

    fn cleaned_up(&mut self, index: usize, now: Instant) -> Result<(), Illegal> {
        let service = &mut self.services[index];
        let Actual::Ending { step: Step::CleaningUp, cause, .. } = service.actual else {
            return Err(illegal(service, "CleanedUp"));
        };
        service.actual = match cause {
            Cause::Failure { retry_in } => Actual::BackingOff { until: now + retry_in },
            // What is wanted may have changed since; settling sees to it.
            Cause::Unwanted | Cause::RequirementLost | Cause::Restart => Actual::Waiting,
        };
        Ok(())
    }
}
