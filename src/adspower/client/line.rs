//! The queue that every call goes through. Callers come in their order and are told at once when there are too many, when
//! the app is down, and when it is left alone after failures.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::answer::{self, Answer};
use super::breaker::{Admitted, Breaker, Verdict};
use super::call::Call;
use super::data::Odd;
use super::error::Error;
use super::metrics::{CANCELLED, Metrics, OK};
use super::pace::Pace;
use super::place::Place;
use super::request::{Request, Ways};
use super::wire::{Heard, Wire};
use crate::errors::is_out_of_files;

/// Calls at a time, those that wait and those that are made. At the slowest usual pace nine have their turn before the
/// deadline of a tenth.
const MAX_CALLS: usize = 32;
/// A call has the line to itself so long; then others are made beside it, at the same pace.
const ALONE: Duration = Duration::from_secs(3);
/// A call that cannot be listened to for this long is not made.
const MIN_LISTEN: Duration = Duration::from_millis(500);
/// No answer within less says nothing of the API: the caller's time was spent in the queue.
const TELLING: Duration = Duration::from_secs(3);

/// What a test has shorter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) deadline: fn(Call) -> Duration,
    pub(super) alone: Duration,
    pub(super) telling: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { deadline: Call::deadline, alone: ALONE, telling: TELLING }
    }
}

#[derive(Debug)]
struct State {
    pace: Pace,
    breaker: Breaker,
    /// Calls under way that may take AdsPower long.
    patient: u32,
    /// Calls that the app knows in their older version alone.
    old: HashSet<Call>,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Line {
    wire: Wire,
    limits: Limits,
    metrics: Metrics,
    place: watch::Sender<Option<Place>>,
    places: Semaphore,
    /// Fair: who waits longest is next. A caller that goes gives it back.
    turn: Semaphore,
    /// A lock, since whoever has the turn decides and goes on in one step, and a caller that goes has to settle from a
    /// destructor; held for a few comparisons, never while anybody waits.
    state: Mutex<State>,
}

/// One caller's way through the line.
struct Trip<'a> {
    call: Call,
    asked: Instant,
    deadline: Instant,
    turn: Option<SemaphorePermit<'a>>,
    /// The app that its last request went to.
    place: Option<Place>,
    /// Whether AdsPower turned it down for coming too often.
    turned_down: bool,
}

impl Line {
    pub(super) fn new(wire: Wire, pace: Option<Duration>, metrics: Metrics, limits: Limits) -> Self {
        let state = State { pace: Pace::new(pace), breaker: Breaker::new(), patient: 0, old: HashSet::new() };
        Self {
            wire,
            limits,
            metrics,
            place: watch::Sender::new(None),
            places: Semaphore::new(MAX_CALLS),
            turn: Semaphore::new(1),
            state: Mutex::new(state),
        }
    }

    /// Another socket is another app: what was learnt of the last one is forgotten, but for the pace, which is the account's.
    pub(super) fn set_place(&self, place: Option<Place>) {
        let mut state = self.state();
        // Inside the lock, so that no call is admitted by the old app's breaker for the new one.
        let moved = self.place.send_if_modified(|current| std::mem::replace(current, place) != place);
        if moved {
            state.breaker.reset();
            state.old.clear();
            self.metrics.breaker(state.breaker.position());
        }
    }

    /// The account has so many profiles, or so many at least.
    pub(super) fn known(&self, profiles: usize, whole: bool) {
        let Ok(profiles) = u64::try_from(profiles) else { return };
        let mut state = self.state();
        if whole { state.pace.known(profiles) } else { state.pace.known_at_least(profiles) }
    }

    /// Makes a call and reads what it is about.
    pub(super) async fn call<T>(
        &self,
        call: Call,
        ways: &Ways,
        read: impl FnOnce(&Value) -> Result<T, Odd>,
    ) -> Result<T, Error> {
        let mut counted = Counted { metrics: &self.metrics, call, outcome: CANCELLED };
        let outcome = match self.run(call, ways).await {
            Ok(data) => read(&data).map_err(Error::Odd),
            Err(error) => Err(error),
        };
        counted.outcome = outcome.as_ref().err().map_or(OK, Error::as_str);
        outcome
    }

    async fn run(&self, call: Call, ways: &Ways) -> Result<Value, Error> {
        let asked = Instant::now();
        let deadline = asked + (self.limits.deadline)(call);
        self.look(asked)?;
        let _place = self.places.try_acquire().map_err(|_| Error::Busy)?;
        let mut trip = Trip { call, asked, deadline, turn: None, place: None, turned_down: false };
        let mut old = ways.older.as_ref().filter(|_| self.state().old.contains(&call));
        let mut unknown_to = None;
        loop {
            let answer = self.attempt(&mut trip, old.unwrap_or(&ways.first)).await?;
            let answered = !matches!(answer, Answer::TooOften | Answer::Unknown);
            // Both by the same app.
            if answered && unknown_to.is_some() && unknown_to == trip.place {
                self.state().old.insert(call);
            }
            match answer {
                Answer::Data(data) => return Ok(data),
                // It did nothing, so that it can be asked again, whatever the call is. The pace is slower now.
                Answer::TooOften => trip.turned_down = true,
                Answer::Unknown if old.is_none() && ways.older.is_some() => {
                    (old, unknown_to) = (ways.older.as_ref(), trip.place);
                }
                Answer::Unknown => {
                    self.state().old.remove(&call);
                    return Err(Error::Unsupported(call));
                }
                Answer::ApiKey => return Err(Error::ApiKey),
                Answer::Refused(refusal) => return Err(Error::Refused(refusal)),
            }
        }
    }

    /// Whether there is any point in waiting.
    fn look(&self, now: Instant) -> Result<(), Error> {
        if self.place.borrow().is_none() {
            return Err(Error::Down);
        }
        let rests = self.state().breaker.rests(now.into_std());
        rests.map_or(Ok(()), |again_in| Err(Error::Failing { again_in }))
    }

    async fn attempt<'a>(&'a self, trip: &mut Trip<'a>, request: &Request) -> Result<Answer, Error> {
        if trip.turn.is_none() {
            trip.turn = Some(self.turn(trip).await?);
        }
        self.wait_for_pace(trip).await?;
        let sent = self.send(trip)?;
        let heard = self.listen(trip, &sent, request).await;
        let retry_after = heard.as_ref().ok().and_then(|heard| heard.retry_after);
        let answer = heard.and_then(|heard| Ok(answer::read(heard.status, &heard.body, self.wire.key())?));
        sent.settle(&answer);
        if matches!(answer, Ok(Answer::TooOften)) {
            self.metrics.too_often();
            self.state().pace.refused(Instant::now().into_std(), retry_after);
        }
        answer
    }

    /// While the app is down those ahead go at once, so that the turn comes at once.
    async fn turn(&self, trip: &Trip<'_>) -> Result<SemaphorePermit<'_>, Error> {
        match timeout_at(trip.deadline, self.turn.acquire()).await {
            // Nobody closes it.
            Ok(permit) => permit.map_err(|_closed| Error::Down),
            Err(_elapsed) => Err(trip.late()),
        }
    }

    /// Waits, with the turn, until a call may be made.
    async fn wait_for_pace(&self, trip: &Trip<'_>) -> Result<(), Error> {
        loop {
            let now = Instant::now();
            let (next, slowed) = {
                let mut state = self.state();
                (Instant::from_std(state.pace.next(now.into_std())), state.pace.is_slowed(now.into_std()))
            };
            if next.max(now) + MIN_LISTEN > trip.deadline {
                return Err(if slowed { Error::TooOften } else { trip.late() });
            }
            if next <= now {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = self.down() => return Err(Error::Down),
                () = sleep_until(next) => {}
            }
        }
    }

    fn send<'a>(&'a self, trip: &mut Trip<'_>) -> Result<Sent<'a>, Error> {
        let now = Instant::now();
        let mut state = self.state();
        // The place and the breaker's word are of one moment.
        let place = self.place.borrow().ok_or(Error::Down)?;
        let admitted = state.breaker.admit(now.into_std()).map_err(|again_in| Error::Failing { again_in })?;
        state.pace.sent(now.into_std());
        state.patient += u32::from(trip.call.is_patient());
        self.metrics.breaker(state.breaker.position());
        if trip.place.replace(place).is_none() {
            self.metrics.waited(now - trip.asked);
        }
        Ok(Sent { line: self, call: trip.call, at: now, place, admitted, settled: false })
    }

    /// The exchange. A slow one gives its turn to the next.
    async fn listen(&self, trip: &mut Trip<'_>, sent: &Sent<'_>, request: &Request) -> Result<Heard, Error> {
        let call = trip.call;
        let mut exchange = Box::pin(self.wire.exchange(sent.place, call, request));
        let mut moved = self.place.subscribe();
        let mut gone = pin!(moved.wait_for(|place| *place != Some(sent.place)));
        let mut alone = pin!(sleep(self.limits.alone));
        loop {
            tokio::select! {
                biased;
                heard = &mut exchange => return heard,
                _ = &mut gone => return Err(Error::Lost(call)),
                () = sleep_until(trip.deadline) => {
                    return Err(Error::TimedOut { call, deadline: trip.deadline - trip.asked });
                }
                () = &mut alone, if trip.turn.is_some() => trip.turn = None,
            }
        }
    }

    async fn down(&self) {
        let mut place = self.place.subscribe();
        // The sender is ours, so that the wait ends by what it waits for.
        let _down = place.wait_for(Option::is_none).await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trip<'_> {
    /// Time is over, and there is no request under way.
    fn late(&self) -> Error {
        if self.turned_down { Error::TooOften } else { Error::Late(self.call) }
    }
}

/// A request that is under way. One that nobody settles, since its caller went, shows nothing.
struct Sent<'a> {
    line: &'a Line,
    call: Call,
    at: Instant,
    place: Place,
    admitted: Admitted,
    settled: bool,
}

impl Sent<'_> {
    fn settle(mut self, answer: &Result<Answer, Error>) {
        self.settled = true;
        let now = Instant::now();
        let mut state = self.line.state();
        let verdict = match answer {
            Ok(_) => Verdict::Answers,
            Err(error) => self.verdict(error, &state, now),
        };
        state.pace.answered(now.into_std());
        state.breaker.settle(self.admitted, verdict, now.into_std());
    }

    fn verdict(&self, error: &Error, state: &State, now: Instant) -> Verdict {
        let telling = match error {
            Error::TimedOut { .. } => {
                // It may be busy with something that takes long.
                let beside = state.patient > u32::from(self.call.is_patient());
                now - self.at >= self.line.limits.telling && (self.call.is_patient() || !beside)
            }
            Error::Lost(_) => false,
            // A want of descriptors is this process's own.
            error => !is_out_of_files(error),
        };
        if telling { Verdict::Fails } else { Verdict::Nothing }
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut state = self.line.state();
        state.patient -= u32::from(self.call.is_patient());
        if !self.settled {
            state.breaker.settle(self.admitted, Verdict::Nothing, now.into_std());
        }
        self.line.metrics.breaker(state.breaker.position());
    }
}

/// Counts a call once, also one whose caller goes.
struct Counted<'a> {
    metrics: &'a Metrics,
    call: Call,
    outcome: &'static str,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.metrics.call(self.call, self.outcome);
    }
}
