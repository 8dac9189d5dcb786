//! Random things done to a pool of several users, by a model that knows what was lent and when, and believes nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::tests::settings;
use super::*;
use crate::ids::{ProfileName, UserId};
use crate::store::{ProfileRow, ProfileRows, SessionKey};

const PER_USER: usize = 3;
const COOLDOWN_MS: i64 = 30 * 60_000;
/// With all of its jitter.
const LONGEST: Duration = Duration::from_secs(36 * 60);

#[derive(Debug, Clone)]
enum Op {
    Take {
        user: usize,
        kind: Kind,
    },
    TakeNamed {
        user: usize,
        profile: usize,
    },
    GiveBack {
        lease: usize,
        outcome: Outcome,
        random: f64,
    },
    Renew {
        lease: usize,
    },
    /// The lease of a session that is over for the pool already.
    UseOld {
        lease: usize,
    },
    LosePlace {
        lease: usize,
    },
    Expire,
    Settle,
    Add {
        user: usize,
        kind: Kind,
    },
    Quarantine {
        profile: usize,
    },
    Release {
        profile: usize,
    },
    Remove {
        profile: usize,
    },
    Pass {
        ms: i64,
    },
    /// Somebody sets the wall clock.
    Step {
        ms: i64,
    },
    /// Rows out, rows in.
    Restart,
    /// The same after a boot, whose clock may be behind.
    Reboot {
        behind_ms: i64,
    },
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => Just(Outcome::Fine),
        2 => Just(Outcome::Failed("why".into())),
        1 => Just(Outcome::Cut),
        1 => Just(Outcome::Unused),
        1 => Just(Outcome::Unfit("too big".into())),
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![4 => Just(Kind::Chromium), 1 => Just(Kind::AdsPower)]
}

fn op() -> impl Strategy<Value = Op> {
    let index = 0..64_usize;
    prop_oneof![
        8 => (0..3_usize, kind()).prop_map(|(user, kind)| Op::Take { user, kind }),
        3 => (0..3_usize, index.clone()).prop_map(|(user, profile)| Op::TakeNamed { user, profile }),
        6 => (index.clone(), outcome(), 0.0..1.0).prop_map(|(lease, outcome, random)| Op::GiveBack { lease, outcome, random }),
        2 => index.clone().prop_map(|lease| Op::Renew { lease }),
        2 => index.clone().prop_map(|lease| Op::UseOld { lease }),
        1 => index.clone().prop_map(|lease| Op::LosePlace { lease }),
        1 => Just(Op::Expire),
        1 => Just(Op::Settle),
        1 => (0..3_usize, kind()).prop_map(|(user, kind)| Op::Add { user, kind }),
        1 => index.clone().prop_map(|profile| Op::Quarantine { profile }),
        2 => index.clone().prop_map(|profile| Op::Release { profile }),
        1 => index.prop_map(|profile| Op::Remove { profile }),
        5 => (0..40 * 60_000_i64).prop_map(|ms| Op::Pass { ms }),
        1 => (-1_000_000_000..1_000_000_000_i64).prop_map(|ms| Op::Step { ms }),
        1 => Just(Op::Restart),
        1 => (0..1_000_000_000_i64).prop_map(|behind_ms| Op::Reboot { behind_ms }),
    ]
}

#[derive(Debug, Clone)]
struct Held {
    lease: Lease,
    holder: SessionKey,
    has_place: bool,
}

struct Model {
    pool: Pool,
    users: [UserId; 3],
    /// Since the beginning, by a clock that nobody has.
    true_ms: i64,
    boot: usize,
    booted_ms: i64,
    /// Of the wall clock, and the lowest that it ever was.
    offset_ms: i64,
    lowest_ms: i64,
    /// As the store would have it by now.
    written: BTreeMap<ProfileName, ProfileRow>,
    fence: i64,
    held: Vec<Held>,
    old: Vec<Lease>,
    /// When each may be lent again, by the clock that nobody has.
    free_at: BTreeMap<ProfileName, i64>,
    /// The order in which profiles were lent.
    lent: Vec<ProfileName>,
    sessions: usize,
    highest: u64,
}

impl Model {
    fn new() -> Self {
        let pool = Pool::restore(
            Settings { per_user: PER_USER, ..settings() },
            ProfileRows::default(),
            &Moment { boot_id: "0".into(), boottime_ms: 0, wall_ms: 0 },
        );
        Self {
            pool: pool.0,
            users: ["a", "b", "c"].map(|name| name.parse().unwrap()),
            true_ms: 0,
            boot: 0,
            booted_ms: 0,
            offset_ms: 2_000_000_000,
            lowest_ms: 2_000_000_000,
            written: BTreeMap::new(),
            fence: 0,
            held: Vec::new(),
            old: Vec::new(),
            free_at: BTreeMap::new(),
            lent: Vec::new(),
            sessions: 0,
            highest: 0,
        }
    }

    fn now(&self) -> Moment {
        Moment {
            boot_id: self.boot.to_string().into(),
            boottime_ms: self.true_ms - self.booted_ms,
            wall_ms: self.true_ms + self.offset_ms,
        }
    }

    fn rows(&self) -> Vec<ProfileRow> {
        self.pool.all().map(Profile::row).collect()
    }

    fn name(&self, index: usize) -> Option<ProfileName> {
        let names: Vec<_> = self.pool.all().map(|profile| profile.name.clone()).collect();
        names.get(index.checked_rem(names.len())?).cloned()
    }

    fn is_free(&self, profile: &Profile) -> bool {
        let now = self.now();
        match &profile.state {
            State::Idle => true,
            State::Cooldown(rest) => rest.left(&now).is_zero(),
            _ => false,
        }
    }

    fn take(&mut self, user: usize, kind: Kind, name: Option<ProfileName>) {
        let now = self.now();
        let user = self.users[user].clone();
        self.sessions += 1;
        let holder =
            SessionKey { id: format!("s{}", self.sessions).parse().unwrap(), created_ms: now.wall_ms };
        let own: Vec<Profile> =
            self.pool.all().filter(|profile| profile.user == user && profile.kind == kind).cloned().collect();
        let free: Vec<&Profile> = own.iter().filter(|profile| self.is_free(profile)).collect();
        let age = |name: &ProfileName| self.lent.iter().rposition(|lent| lent == name);
        let oldest = free.iter().map(|profile| age(&profile.name)).min();
        let before = self.rows();
        let wanted = Wanted { user: &user, kind, name: name.as_ref() };
        let could = self.pool.check(&wanted, &now);
        match self.pool.take(&wanted, holder.clone(), &now) {
            Ok(lease) => {
                assert!(could.is_ok());
                let taken = &lease.profile;
                assert!(self.held.iter().all(|held| held.lease.profile != *taken), "two sessions on {taken}");
                assert!(self.free_at.get(taken).is_none_or(|at| *at <= self.true_ms), "{taken} is resting");
                assert!(lease.fence > self.highest, "{} after {}", lease.fence, self.highest);
                assert_eq!(self.pool.get(taken).map(|profile| &profile.user), Some(&user));
                match (&name, oldest) {
                    (Some(name), _) => assert_eq!(taken, name),
                    (None, Some(oldest)) => {
                        assert_eq!(age(taken), oldest, "not the one that was lent longest ago")
                    }
                    (None, None) => assert!(own.len() < PER_USER && kind == Kind::Chromium),
                }
                self.highest = lease.fence;
                self.lent.push(taken.clone());
                self.held.push(Held { lease, holder, has_place: true });
            }
            Err(refusal) => {
                assert_eq!(could, Err(refusal.clone()));
                assert_eq!(self.rows(), before, "a refusal changes nothing");
                if name.is_none() {
                    assert!(free.is_empty(), "{refusal:?} although there are {free:?}");
                    assert!(kind == Kind::AdsPower || own.len() >= PER_USER, "{refusal:?}");
                }
                if let Unavailable::Cooling { left, .. } = refusal {
                    assert!(!left.is_zero() && left <= LONGEST, "{left:?}");
                }
            }
        }
    }

    fn given_back(&mut self, lease: Lease, rests: bool) {
        if rests {
            self.free_at.insert(lease.profile.clone(), self.true_ms + COOLDOWN_MS);
        }
        self.old.push(lease);
    }

    fn apply(&mut self, op: Op) {
        let now = self.now();
        match op {
            Op::Take { user, kind } => self.take(user, kind, None),
            Op::TakeNamed { user, profile } => {
                if let Some(name) = self.name(profile) {
                    let kind = self.pool.get(&name).unwrap().kind;
                    self.take(user, kind, Some(name));
                }
            }
            Op::GiveBack { lease, outcome, random } if !self.held.is_empty() => {
                let held = self.held.remove(lease % self.held.len());
                let (name, fence) = (&held.lease.profile, held.lease.fence);
                let rests = outcome != Outcome::Unused;
                self.pool.give_back(name, fence, outcome, random, &now).unwrap();
                self.given_back(held.lease, rests);
            }
            Op::Renew { lease } if !self.held.is_empty() => {
                let Lease { profile, fence, .. } = &self.held[lease % self.held.len()].lease;
                self.pool.renew(profile, *fence, &now).unwrap();
            }
            Op::UseOld { lease } if !self.old.is_empty() => {
                let Lease { profile, fence, .. } = &self.old[lease % self.old.len()];
                let before: Vec<Profile> = self.pool.all().cloned().collect();
                assert_eq!(self.pool.renew(profile, *fence, &now), Err(Stale));
                assert_eq!(self.pool.give_back(profile, *fence, Outcome::Fine, 0.5, &now), Err(Stale));
                assert!(self.pool.all().eq(&before), "an old lease changed something");
            }
            Op::LosePlace { lease } if !self.held.is_empty() => {
                let at = lease % self.held.len();
                self.held[at].has_place = false;
            }
            Op::GiveBack { .. } | Op::Renew { .. } | Op::UseOld { .. } | Op::LosePlace { .. } => {}
            Op::Expire => {
                let with_place: BTreeSet<SessionKey> =
                    self.held.iter().filter(|held| held.has_place).map(|held| held.holder.clone()).collect();
                let expired = self.pool.expire(|key| with_place.contains(key), 0.0, &now);
                for name in expired {
                    let at = self.held.iter().position(|held| held.lease.profile == name).unwrap();
                    let held = self.held.remove(at);
                    assert!(!held.has_place, "the session of {name} is still there");
                    self.given_back(held.lease, true);
                }
            }
            Op::Settle => self.pool.settle(&now),
            other => self.operate(other, &now),
        }
        self.lowest_ms = self.lowest_ms.min(self.offset_ms);
    }

    /// What operators do, and what time does.
    fn operate(&mut self, op: Op, now: &Moment) {
        match op {
            Op::Add { user, kind } => {
                self.sessions += 1;
                let external = format!("k{}", self.sessions).parse().ok();
                let new = NewProfile {
                    user: self.users[user].clone(),
                    kind,
                    external: external.filter(|_| kind == Kind::AdsPower),
                    proxy: None,
                    fingerprint: None,
                };
                let before = self.pool.all().count();
                let is_added = self.pool.add(new, now).is_ok();
                assert_eq!(self.pool.all().count(), before + usize::from(is_added));
            }
            Op::Quarantine { profile } => {
                if let Some(name) = self.name(profile) {
                    self.pool.quarantine(&name, "because", now).unwrap();
                }
            }
            Op::Release { profile } => {
                if let Some(name) = self.name(profile) {
                    self.pool.release(&name).unwrap();
                    self.free_at.remove(&name);
                }
            }
            Op::Remove { profile } => {
                if let Some(name) = self.name(profile) {
                    let is_held = self.held.iter().any(|held| held.lease.profile == name);
                    assert_eq!(self.pool.remove(&name).is_err(), is_held);
                    if !is_held {
                        self.free_at.remove(&name);
                        self.lent.retain(|lent| *lent != name);
                    }
                }
            }
            Op::Pass { ms } => self.true_ms += ms,
            Op::Step { ms } => {
                self.offset_ms += ms;
            }
            Op::Restart => self.restart(),
            Op::Reboot { behind_ms } => {
                // A clock that is ahead ends a rest early, which nobody can help; it may be behind as far as it likes.
                self.offset_ms = self.offset_ms.min(self.lowest_ms) - behind_ms;
                self.boot += 1;
                self.booted_ms = self.true_ms - 10_000;
                self.restart();
            }
            other => panic!("{other:?}"),
        }
    }

    fn restart(&mut self) {
        let now = self.now();
        let before: Vec<Profile> = self.pool.all().cloned().collect();
        let settings = self.pool.settings.clone();
        let profiles = self.written.values().cloned().collect();
        let (pool, bad) = Pool::restore(settings, ProfileRows { profiles, fence: self.fence }, &now);
        assert_eq!(bad, []);
        assert_eq!(pool.all().count(), before.len());
        for (after, before) in pool.all().zip(&before) {
            let state = match (&after.state, &before.state) {
                (State::Cooldown(after), State::Cooldown(before)) => {
                    assert_eq!(after.left(&now), before.left(&now));
                    State::Cooldown(before.clone())
                }
                (State::Active { holder, condemned, .. }, State::Active { until_ms, .. }) => State::Active {
                    holder: holder.clone(),
                    until_ms: *until_ms,
                    condemned: condemned.clone(),
                },
                (after, _) => after.clone(),
            };
            assert_eq!(Profile { state, ..after.clone() }, *before);
        }
        self.pool = pool;
    }

    fn write(&mut self) {
        for change in self.pool.changes() {
            match change {
                Change::Put(row) => drop(self.written.insert(row.name.clone(), *row)),
                Change::Gone(name) => drop(self.written.remove(&name)),
                Change::Fence(fence) => self.fence = fence,
            }
        }
        assert!(self.written.values().eq(&self.rows()), "what has changed was not told");
    }

    fn check(&self) {
        let now = self.now();
        for user in &self.users {
            for kind in Kind::ALL {
                assert!(self.pool.of(user, kind).count() <= PER_USER);
            }
        }
        for profile in self.pool.all() {
            let held = self.held.iter().find(|held| held.lease.profile == profile.name);
            match &profile.state {
                State::Active { holder, .. } => {
                    let held = held.unwrap();
                    assert_eq!((holder, profile.fence), (&held.holder, held.lease.fence));
                }
                _ => assert!(held.is_none(), "{profile:?} although it is held"),
            }
            if let State::Cooldown(rest) = &profile.state {
                assert!(rest.left(&now) <= LONGEST);
            }
            assert!(
                profile.failures <= 3 || matches!(profile.state, State::Quarantined { .. }),
                "{profile:?}"
            );
        }
        let counted: usize = self.pool.counts().iter().sum();
        assert_eq!(counted, self.pool.all().count());
    }

    /// From whatever state, each profile comes back to idle by what there is to be done.
    fn every_state_is_left(&mut self) {
        for held in std::mem::take(&mut self.held) {
            let Lease { profile, fence, .. } = held.lease;
            self.pool.give_back(&profile, fence, Outcome::Fine, 0.0, &self.now()).unwrap();
            assert_ne!(self.pool.get(&profile).unwrap().state.word(), StateWord::Active);
        }
        let quarantined: Vec<_> = self
            .pool
            .all()
            .filter(|profile| profile.state.word() == StateWord::Quarantined)
            .cloned()
            .collect();
        for profile in quarantined {
            self.pool.release(&profile.name).unwrap();
        }
        let longest = i64::try_from(LONGEST.as_millis()).unwrap();
        self.true_ms += longest;
        let now = self.now();
        self.pool.settle(&now);
        assert!(self.pool.all().all(|profile| profile.state == State::Idle), "{:?}", self.pool);
        assert_eq!(self.pool.next_idle(&now), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_a_profile_has_one_holder_rests_between_two_and_obeys_its_newest_lease(
        ops in prop::collection::vec(op(), 1..120)
    ) {
        let mut model = Model::new();
        for op in ops {
            model.apply(op);
            model.write();
            model.check();
        }
        model.every_state_is_left();
    }
}
