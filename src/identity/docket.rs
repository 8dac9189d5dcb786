//! Keeps what EC2 announces, and decides what follows from it. Pure: observations and times come in, a call comes out.

use std::time::{Duration, SystemTime};

use super::notices::{Announced, Call, Interruption, Kind, Notice};

/// A machine that is still there so long after its time was not taken: it slept, and is back.
const SURVIVED: Duration = Duration::from_secs(60);
/// The time of an interruption that does not say when: what EC2 promises.
const UNSAID: Duration = Duration::from_secs(120);
/// Observations in a row that must agree before a machine that was given up is wanted again: a minute of them.
const CALM_ROUNDS: u32 = 12;

/// What one item said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Seen<T> {
    /// Nothing, or nothing that makes sense: what was known stays.
    #[default]
    Unknown,
    /// There is no such thing.
    Absent,
    /// This.
    There(T),
}

/// What was seen in one round.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Observation {
    pub(super) spot: Seen<Interruption>,
    /// Where the machine's group wants it to be.
    pub(super) group: Seen<String>,
    /// When it was recommended to move away, where that is said.
    pub(super) rebalance: Seen<Option<SystemTime>>,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    Given(Notice),
    Withdrawn(Notice),
    Wanted,
}

/// Keeps what was announced, and decides.
#[derive(Debug)]
pub(super) struct Docket {
    announced: Announced,
    drain_on_rebalance: bool,
    calm: u32,
}

impl Docket {
    pub(super) fn new(drain_on_rebalance: bool) -> Self {
        Self { announced: Announced::default(), drain_on_rebalance, calm: 0 }
    }

    pub(super) fn announced(&self) -> &Announced {
        &self.announced
    }

    /// Takes one round's observation, and tells what is new.
    pub(super) fn observe(&mut self, seen: &Observation, now: SystemTime) -> Vec<News> {
        let spot = notice(&seen.spot, Kind::SpotInterruption, |said| {
            Some((Some(said.action.clone()), said.at, now))
        });
        let group = notice(&seen.group, Kind::LeavingGroup, |target| {
            leaves(target).then(|| (Some(target.clone()), None, now))
        });
        let rebalance =
            notice(&seen.rebalance, Kind::Rebalance, |given| Some((None, None, given.unwrap_or(now))));
        let mut news = Vec::new();
        update(&mut self.announced.spot, spot, &mut news);
        update(&mut self.announced.group, group, &mut news);
        update(&mut self.announced.rebalance, rebalance, &mut news);
        let next = match &self.announced.call {
            Call::Serve => self.reason_to_go().map(Call::Drain),
            Call::Drain(cause) if self.is_calm(cause, seen, now) => {
                self.calm += 1;
                (self.calm >= CALM_ROUNDS).then_some(Call::Return)
            }
            Call::Drain(cause) => {
                self.calm = 0;
                // Whoever drains has to know of a time that was announced meanwhile.
                self.reason_to_go()
                    .filter(|other| other.at.is_some() && other.at != cause.at)
                    .map(Call::Drain)
            }
            Call::Return => None,
        };
        if let Some(next) = next {
            if next == Call::Return {
                news.push(News::Wanted);
            }
            self.announced.call = next;
        }
        news
    }

    fn reason_to_go(&self) -> Option<Notice> {
        let followed = |kind| kind != Kind::Rebalance || self.drain_on_rebalance;
        Kind::ALL
            .into_iter()
            .filter(|kind| followed(*kind))
            .find_map(|kind| self.announced.notice(kind).cloned())
    }

    /// Whether this observation speaks for a machine that is wanted again. That something is not said any more is enough
    /// only after the time of an interruption: a machine that its group has let go of is in no group, and nobody's.
    fn is_calm(&self, cause: &Notice, seen: &Observation, now: SystemTime) -> bool {
        let in_service = seen.group == Seen::There("InService".to_owned());
        let nothing_stands = self.announced.spot.is_none() && self.announced.group.is_none();
        nothing_stands
            && match cause.kind {
                Kind::SpotInterruption => {
                    let gone = cause.at.unwrap_or(cause.since + UNSAID) + SURVIVED;
                    seen.spot == Seen::Absent && now > gone
                }
                Kind::LeavingGroup => in_service && seen.spot == Seen::Absent,
                Kind::Rebalance => false,
            }
    }
}

type Said = (Option<String>, Option<SystemTime>, SystemTime);

fn notice<T>(seen: &Seen<T>, kind: Kind, says: impl Fn(&T) -> Option<Said>) -> Seen<Notice> {
    match seen {
        Seen::Unknown => Seen::Unknown,
        Seen::Absent => Seen::Absent,
        Seen::There(item) => match says(item) {
            Some((what, at, since)) => Seen::There(Notice { kind, what, at, since }),
            None => Seen::Absent,
        },
    }
}

fn update(known: &mut Option<Notice>, seen: Seen<Notice>, news: &mut Vec<News>) {
    match seen {
        Seen::Unknown => {}
        Seen::Absent => news.extend(known.take().map(News::Withdrawn)),
        Seen::There(notice) => {
            // When it was first seen stays, and is no difference.
            let same = known.as_ref().is_some_and(|old| (&old.what, old.at) == (&notice.what, notice.at));
            if !same {
                *known = Some(notice.clone());
                news.push(News::Given(notice));
            }
        }
    }
}

/// Whether a machine that its group wants in that state serves no more. In a warm pool it waits, stopped or not; `Standby`
/// keeps it, and whoever asked for that sends nobody there.
fn leaves(target: &str) -> bool {
    matches!(target, "Terminated" | "Detached") || target.starts_with("Warmed:")
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_631_518 + seconds)
    }

    fn quiet() -> Observation {
        Observation { spot: Seen::Absent, group: Seen::Absent, rebalance: Seen::Absent }
    }

    fn spot(action: &str, when: Option<u64>) -> Observation {
        let said = Interruption { action: action.to_owned(), at: when.map(at) };
        Observation { spot: Seen::There(said), ..quiet() }
    }

    fn group(target: &str) -> Observation {
        Observation { group: Seen::There(target.to_owned()), ..quiet() }
    }

    fn cause(docket: &Docket) -> Option<(Kind, Option<SystemTime>)> {
        match &docket.announced().call {
            Call::Drain(notice) => Some((notice.kind, notice.at)),
            Call::Serve | Call::Return => None,
        }
    }

    #[test]
    fn an_interruption_is_said_once_and_drains() {
        let mut docket = Docket::new(false);
        assert_eq!(docket.observe(&quiet(), at(0)), []);
        let news = docket.observe(&spot("terminate", Some(120)), at(5));
        let [News::Given(notice)] = &news[..] else { panic!("{news:?}") };
        assert_eq!(
            (notice.what.as_deref(), notice.at, notice.since),
            (Some("terminate"), Some(at(120)), at(5))
        );
        assert_eq!(docket.observe(&spot("terminate", Some(120)), at(10)), []);
        assert_eq!(cause(&docket), Some((Kind::SpotInterruption, Some(at(120)))));
        assert_eq!(docket.announced().gravest().map(|notice| notice.since), Some(at(5)));
    }

    #[test]
    fn what_cannot_be_seen_takes_nothing_back() {
        let mut docket = Docket::new(false);
        docket.observe(&spot("terminate", Some(120)), at(0));
        assert_eq!(docket.observe(&Observation::default(), at(300)), []);
        assert!(docket.announced().notice(Kind::SpotInterruption).is_some());
    }

    #[test]
    fn a_group_that_lets_go_drains_and_one_that_keeps_does_not() {
        for target in ["Terminated", "Detached", "Warmed:Stopped", "Warmed:Running", "Warmed:Hibernated"] {
            let mut docket = Docket::new(false);
            docket.observe(&group(target), at(0));
            assert_eq!(cause(&docket), Some((Kind::LeavingGroup, None)), "{target}");
        }
        for target in ["InService", "Standby", "terminated", "Whatever"] {
            let mut docket = Docket::new(true);
            assert_eq!(docket.observe(&group(target), at(0)), [], "{target}");
            assert_eq!(docket.announced(), &Announced::default(), "{target}");
        }
    }

    #[test]
    fn a_recommendation_is_told_and_followed_only_where_that_is_wanted() {
        let seen = Observation { rebalance: Seen::There(Some(at(1))), ..quiet() };
        let mut docket = Docket::new(false);
        assert_eq!(docket.observe(&seen, at(5)).len(), 1);
        assert_eq!(
            (cause(&docket), docket.announced().gravest().map(|notice| notice.since)),
            (None, Some(at(1)))
        );
        let mut docket = Docket::new(true);
        docket.observe(&seen, at(5));
        assert_eq!(cause(&docket), Some((Kind::Rebalance, None)));
    }

    #[test]
    fn an_interruption_after_its_groups_word_brings_its_time_along() {
        let mut docket = Docket::new(false);
        docket.observe(&group("Terminated"), at(0));
        let both = Observation { group: Seen::There("Terminated".into()), ..spot("terminate", Some(120)) };
        docket.observe(&both, at(5));
        assert_eq!(cause(&docket), Some((Kind::SpotInterruption, Some(at(120)))));
    }

    #[test]
    fn a_machine_that_its_group_calls_back_serves_again_after_a_calm_minute() {
        let mut docket = Docket::new(false);
        docket.observe(&group("Warmed:Running"), at(0));
        for round in 1..CALM_ROUNDS {
            docket.observe(&group("InService"), at(u64::from(round) * 5));
        }
        // Not being told is not being told to come back.
        docket.observe(&quiet(), at(60));
        assert_eq!(cause(&docket), Some((Kind::LeavingGroup, None)));
        let news: Vec<_> = (0..CALM_ROUNDS)
            .flat_map(|round| docket.observe(&group("InService"), at(65 + u64::from(round))))
            .collect();
        assert_eq!((news, &docket.announced().call), (vec![News::Wanted], &Call::Return));
    }

    #[test]
    fn a_machine_that_hibernated_serves_again_and_one_that_is_late_does_not() {
        let mut docket = Docket::new(false);
        docket.observe(&spot("hibernate", Some(120)), at(0));
        for round in 0..100 {
            docket.observe(&quiet(), at(125 + round / 2));
        }
        assert!(cause(&docket).is_some(), "less than a minute after its time");
        for round in 0..u64::from(CALM_ROUNDS) {
            docket.observe(&quiet(), at(9_000 + round * 5));
        }
        assert_eq!(docket.announced().call, Call::Return);
    }

    fn observations() -> impl Strategy<Value = Observation> {
        let spots = prop_oneof![
            Just(Seen::Unknown),
            Just(Seen::Absent),
            (0_u64..500)
                .prop_map(|when| Seen::There(Interruption { action: "stop".into(), at: Some(at(when)) })),
        ];
        let groups = prop_oneof![
            Just(Seen::Unknown),
            Just(Seen::Absent),
            prop_oneof!["InService", "Standby", "Terminated", "Warmed:Stopped"].prop_map(Seen::There),
        ];
        let rebalances = prop_oneof![Just(Seen::Unknown), Just(Seen::Absent), Just(Seen::There(None))];
        (spots, groups, rebalances).prop_map(|(spot, group, rebalance)| Observation {
            spot,
            group,
            rebalance,
        })
    }

    proptest! {
        #[test]
        fn whatever_is_seen_a_call_never_goes_backwards(seen in prop::collection::vec(observations(), 0..60)) {
            let stage = |call: &Call| match call {
                Call::Serve => 0,
                Call::Drain(_) => 1,
                Call::Return => 2,
            };
            let mut docket = Docket::new(false);
            let mut before = 0;
            for (round, seen) in (0..).zip(&seen) {
                docket.observe(seen, at(round * 5));
                let now = stage(&docket.announced().call);
                prop_assert!(now >= before && now <= before + 1);
                let standing = [Kind::SpotInterruption, Kind::LeavingGroup].map(|kind| docket.announced().notice(kind));
                prop_assert!(now > 0 || standing.iter().all(Option::is_none));
                before = now;
            }
        }
    }
}
