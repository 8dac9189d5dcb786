//! The pool by example.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::ids::{ProfileName, UserId};
use crate::store::{ProfileRow, ProfileRows, SessionKey};

const MINUTE_MS: i64 = 60_000;

pub(super) fn settings() -> Settings {
    Settings {
        per_user: 2,
        cooldown: Duration::from_secs(30 * 60),
        quarantine_after: 3,
        proxies: Vec::new(),
        rotation: Rotation::Off,
        quota: None,
    }
}

pub(super) fn at(ms: i64) -> Moment {
    Moment { boot_id: "boot".into(), boottime_ms: ms, wall_ms: 1_700_000_000_000 + ms }
}

pub(super) fn pool(settings: Settings) -> Pool {
    Pool::restore(settings, ProfileRows::default(), &at(0)).0
}

pub(super) fn session(id: &str) -> SessionKey {
    SessionKey { id: id.parse().unwrap(), created_ms: 1 }
}

fn user(name: &str) -> UserId {
    name.parse().unwrap()
}

fn take(pool: &mut Pool, of: &str, holder: &str, now: &Moment) -> Result<Lease, Unavailable> {
    let wanted = Wanted { user: &user(of), kind: Kind::Chromium, name: None };
    pool.take(&wanted, session(holder), now)
}

fn take_named(pool: &mut Pool, of: &str, name: &ProfileName, now: &Moment) -> Result<Lease, Unavailable> {
    let wanted = Wanted { user: &user(of), kind: Kind::Chromium, name: Some(name) };
    pool.take(&wanted, session("named"), now)
}

fn back(pool: &mut Pool, lease: &Lease, outcome: Outcome, now: &Moment) {
    pool.give_back(&lease.profile, lease.fence, outcome, 0.0, now).unwrap();
}

fn new_profile(of: &str, external: Option<&str>) -> NewProfile {
    let kind = if external.is_some() { Kind::AdsPower } else { Kind::Chromium };
    let external = external.map(|name| name.parse().unwrap());
    NewProfile { user: user(of), kind, external, proxy: None, fingerprint: None }
}

fn rows(pool: &Pool) -> ProfileRows {
    ProfileRows { profiles: pool.all().map(Profile::row).collect(), fence: 0 }
}

#[test]
fn profiles_are_made_as_they_are_wanted_and_then_rotate() {
    let mut pool = pool(settings());
    let first = take(&mut pool, "u", "a", &at(0)).unwrap();
    let second = take(&mut pool, "u", "b", &at(1)).unwrap();
    assert_ne!(first.profile, second.profile);
    assert!(second.fence > first.fence);
    assert_eq!(take(&mut pool, "u", "c", &at(2)), Err(Unavailable::InUse { of: 2 }));
    // Another user has their own.
    let other = take(&mut pool, "other", "d", &at(2)).unwrap();
    assert!(![&first.profile, &second.profile].contains(&&other.profile));
    back(&mut pool, &second, Outcome::Fine, &at(3));
    back(&mut pool, &first, Outcome::Fine, &at(4));
    let cooling = Unavailable::Cooling { of: 2, left: Duration::from_millis(29 * 60_000 + 59_999) };
    assert_eq!(take(&mut pool, "u", "c", &at(4)), Err(cooling));
    // The one that was lent longest ago, not the one that came back first.
    let third = take(&mut pool, "u", "c", &at(4 + 30 * MINUTE_MS)).unwrap();
    assert_eq!(third.profile, first.profile);
}

#[test]
fn a_name_tells_nothing_and_is_the_same_when_everything_was_lost() {
    let names: Vec<_> = (0..2)
        .map(|_| take(&mut pool(settings()), "jane@example.org", "a", &at(0)).unwrap().profile)
        .collect();
    assert_eq!(names[0], names[1]);
    assert!(names[0].as_str().starts_with("pool-") && names[0].as_str().len() == 21, "{}", names[0]);
}

#[test]
fn a_profile_that_is_named_obeys_the_pool() {
    let mut pool = pool(settings());
    let lease = take(&mut pool, "u", "a", &at(0)).unwrap();
    let name = &lease.profile;
    let busy = Unavailable::Busy { profile: name.clone(), holder: "a".parse().unwrap() };
    assert_eq!(take_named(&mut pool, "u", name, &at(0)), Err(busy));
    // Somebody else's is told of like one that is not there.
    assert_eq!(take_named(&mut pool, "v", name, &at(0)), Err(Unavailable::Unknown(name.clone())));
    let nobody: ProfileName = "pool-0123456789abcdef".parse().unwrap();
    assert_eq!(take_named(&mut pool, "v", &nobody, &at(0)), Err(Unavailable::Unknown(nobody.clone())));
    back(&mut pool, &lease, Outcome::Fine, &at(0));
    let cooling = Unavailable::Cooling { of: 1, left: Duration::from_secs(29 * 60) };
    assert_eq!(cooling.to_string(), "the profile cools down for another 1740 s");
    assert_eq!(take_named(&mut pool, "u", name, &at(MINUTE_MS)), Err(cooling));
    pool.quarantine(name, "looked at", &at(MINUTE_MS)).unwrap();
    let refusal = take_named(&mut pool, "u", name, &at(MINUTE_MS)).unwrap_err();
    assert_eq!(refusal.to_string(), "the profile is quarantined: looked at");
    pool.release(name).unwrap();
    assert!(take_named(&mut pool, "u", name, &at(MINUTE_MS)).unwrap().fence > lease.fence);
    assert!(pool.governs(&nobody, Kind::Chromium));
    assert!(!pool.governs(&"mine".parse().unwrap(), Kind::Chromium));
}

#[test]
fn sessions_that_fail_in_a_row_quarantine_it_and_one_that_goes_well_begins_anew() {
    let mut pool = pool(Settings { cooldown: Duration::ZERO, per_user: 1, ..settings() });
    let failed = || Outcome::Failed("start_failed\nat 7".to_owned());
    for outcome in [failed(), failed(), Outcome::Cut, Outcome::Fine, failed(), failed(), Outcome::Unused] {
        let lease = take(&mut pool, "u", "a", &at(0)).unwrap();
        back(&mut pool, &lease, outcome, &at(1));
    }
    let lease = take(&mut pool, "u", "a", &at(2)).unwrap();
    back(&mut pool, &lease, failed(), &at(3));
    let reason = "3 sessions in a row failed with it: start_failed at 7".to_owned();
    let profile = pool.get(&lease.profile).unwrap();
    assert_eq!(profile.state, State::Quarantined { reason: reason.clone(), since_ms: at(3).wall_ms });
    assert_eq!((profile.failures, profile.uses), (3, 7), "one was never used");
    assert_eq!(take(&mut pool, "u", "b", &at(4)), Err(Unavailable::Quarantined { of: 1, reason }));
    assert_eq!(pool.release(&lease.profile).unwrap().failures, 0);
    assert!(take(&mut pool, "u", "b", &at(4)).is_ok());
}

#[test]
fn one_that_is_in_use_is_quarantined_when_it_comes_back_unless_somebody_changes_their_mind() {
    let mut pool = pool(settings());
    let lease = take(&mut pool, "u", "a", &at(0)).unwrap();
    let name = &lease.profile;
    assert_eq!(pool.quarantine(name, "odd", &at(1)).unwrap().state.word(), StateWord::Active);
    assert_eq!(pool.remove(name), Err(ChangeError::InUse("a".parse().unwrap())));
    // Also over a restart.
    let mut pool = Pool::restore(settings(), rows(&pool), &at(2)).0;
    back(&mut pool, &lease, Outcome::Fine, &at(3));
    assert_eq!(pool.get(name).unwrap().state.word(), StateWord::Quarantined);
    pool.release(name).unwrap();
    let lease = take(&mut pool, "u", "a", &at(4)).unwrap();
    pool.quarantine(name, "odd", &at(5)).unwrap();
    pool.release(name).unwrap();
    back(&mut pool, &lease, Outcome::Fine, &at(6));
    assert_eq!(pool.get(name).unwrap().state.word(), StateWord::Cooldown);
}

#[test]
fn a_lease_that_nobody_renews_ends_unless_its_holder_still_has_a_place() {
    let mut pool = pool(settings());
    let lease = take(&mut pool, "u", "a", &at(0)).unwrap();
    let (name, fence) = (&lease.profile, lease.fence);
    assert_eq!(pool.expire(|_| false, 0.0, &at(59_999)), []);
    pool.renew(name, fence, &at(59_999)).unwrap();
    assert_eq!(pool.expire(|_| false, 0.0, &at(119_998)), []);
    // What survives SIGKILL has a place, and its profile with it.
    assert_eq!(pool.expire(|key| *key == session("a"), 0.0, &at(500_000)), []);
    assert_eq!(pool.expire(|_| false, 0.0, &at(500_000)), vec![name.clone()]);
    assert_eq!(pool.get(name).unwrap().state.word(), StateWord::Cooldown);
    assert_eq!(pool.renew(name, fence, &at(500_001)), Err(Stale));
    assert_eq!(pool.give_back(name, fence, Outcome::Unused, 0.0, &at(500_001)), Err(Stale));
    assert_eq!(pool.get(name).unwrap().state.word(), StateWord::Cooldown);
}

#[test]
fn f43_leases_of_sessions_that_died_with_the_daemon_end_with_a_fresh_cooldown() {
    let mut pool = pool(settings());
    let lease = take(&mut pool, "u", "a", &at(0)).unwrap();
    let now = at(100 * MINUTE_MS);
    let (mut pool, bad) = Pool::restore(settings(), rows(&pool), &now);
    assert_eq!(bad, []);
    assert_eq!(pool.get(&lease.profile).unwrap().state.word(), StateWord::Active);
    assert_eq!(pool.expire(|_| false, 1.0, &now), vec![lease.profile.clone()]);
    assert_eq!(pool.next_idle(&now), Some(Duration::from_secs(36 * 60)), "with all of its jitter");
    assert_eq!(pool.get(&lease.profile).unwrap().failures, 0);
}

#[test]
fn a_lease_whose_row_was_lost_is_not_numbered_again() {
    let mut lost = pool(settings());
    let fence = take(&mut lost, "u", "a", &at(0)).unwrap().fence;
    // Killed before anything was written, and back in a second.
    let mut next = Pool::restore(settings(), ProfileRows::default(), &at(1_000)).0;
    assert!(take(&mut next, "u", "a", &at(1_000)).unwrap().fence > fence);
    // Where it was written, a clock that went back does not matter.
    let now = Moment { wall_ms: 0, ..at(1_000) };
    let mut next = Pool::restore(settings(), rows(&lost), &now).0;
    assert!(take(&mut next, "v", "a", &now).unwrap().fence > fence);
    assert!(fence < 1 << 53, "{fence}");
}

#[test]
fn adspower_profiles_are_added_by_their_own_name_once_and_lent_like_others() {
    let mut pool = pool(settings());
    let wanted = Wanted { user: &user("u"), kind: Kind::AdsPower, name: None };
    assert_eq!(pool.take(&wanted, session("a"), &at(0)), Err(Unavailable::None(Kind::AdsPower)));
    let fingerprint = Fingerprint::try_from(json!({ "ua": "x" })).unwrap();
    let new = NewProfile { fingerprint: Some(fingerprint.clone()), ..new_profile("u", Some("k1abc")) };
    let name = pool.add(new, &at(0)).unwrap().name;
    assert_eq!(pool.add(new_profile("v", Some("k1abc")), &at(0)), Err(ChangeError::Taken(name.clone())));
    let external: ProfileName = "k1abc".parse().unwrap();
    assert!(pool.governs(&external, Kind::AdsPower) && !pool.governs(&external, Kind::Chromium));
    // By AdsPower's name as well, so that nobody gets past the pool.
    let by_external = Wanted { name: Some(&external), ..wanted };
    let lease = pool.take(&by_external, session("a"), &at(0)).unwrap();
    assert_eq!(
        (&lease.profile, &lease.external, &lease.fingerprint),
        (&name, &Some(external), &Some(fingerprint))
    );
    pool.add(new_profile("u", Some("k2")), &at(0)).unwrap();
    assert_eq!(pool.add(new_profile("u", Some("k3")), &at(0)), Err(ChangeError::Limit(2)));
    let second = pool.take(&wanted, session("b"), &at(0)).unwrap();
    assert_ne!(second.profile, name);
}

#[test]
fn a_fingerprint_is_an_object_of_a_bounded_size() {
    assert!(Fingerprint::try_from(json!(["ua"])).is_err());
    let of = |length| Fingerprint::try_from(json!({ "ua": "x".repeat(length) }));
    assert!(of(MAX_FINGERPRINT_BYTES - 9).is_ok() && of(MAX_FINGERPRINT_BYTES - 8).is_err());
}

#[test]
fn proxies_go_to_the_profiles_that_need_one_or_round_the_sessions() {
    let proxies: Vec<_> = ["http://a:1", "http://b:1"].map(|text| text.parse().unwrap()).into();
    let with = |rotation| Settings { proxies: proxies.clone(), rotation, per_user: 3, ..settings() };
    let shown = |lease: Lease| lease.proxy.map(|proxy| proxy.to_string()).unwrap_or_default();

    let mut each = pool(with(Rotation::Profile));
    let own = NewProfile { proxy: Some(proxies[0].clone()), ..new_profile("u", None) };
    each.add(own, &at(0)).unwrap();
    let names: Vec<_> = (0..3).map(|_| shown(take(&mut each, "u", "s", &at(0)).unwrap())).collect();
    // The one that was added has its own; the other proxy is used less; then they are even.
    assert_eq!(names, ["http://a:1", "http://b:1", "http://a:1"]);
    // It stays, also when another list is in force.
    let mut later = Pool::restore(settings(), rows(&each), &at(0)).0;
    later.expire(|_| false, 0.0, &at(0));
    later.settle(&at(40 * MINUTE_MS));
    assert_eq!(shown(take(&mut later, "u", "s", &at(40 * MINUTE_MS)).unwrap()), "http://a:1");

    // AdsPower's have theirs there.
    let ads = |pool: &mut Pool| {
        pool.add(new_profile("u", Some("k1")), &at(0)).unwrap();
        let user = user("u");
        let wanted = Wanted { user: &user, kind: Kind::AdsPower, name: None };
        shown(pool.take(&wanted, session("ads"), &at(0)).unwrap())
    };
    assert_eq!(ads(&mut pool(with(Rotation::Profile))), "");

    let mut round = pool(with(Rotation::Session));
    assert_eq!(ads(&mut round), "", "and takes no turn");
    let names: Vec<_> = (0..3).map(|_| shown(take(&mut round, "u", "s", &at(0)).unwrap())).collect();
    assert_eq!(names, ["http://a:1", "http://b:1", "http://a:1"]);
    let mut off = pool(with(Rotation::Off));
    assert_eq!(shown(take(&mut off, "u", "s", &at(0)).unwrap()), "");
}

#[test]
fn what_has_changed_is_told_once_and_what_is_gone_as_well() {
    let mut pool = pool(settings());
    let lease = take(&mut pool, "u", "a", &at(0)).unwrap();
    let changes = pool.changes();
    let [Change::Put(row)] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((row.state.as_str(), row.holder.as_ref()), ("active", Some(&session("a"))));
    assert_eq!(pool.changes(), []);
    pool.renew(&lease.profile, lease.fence, &at(1)).unwrap();
    assert_eq!(pool.changes(), [], "a renewal is not worth a write");
    back(&mut pool, &lease, Outcome::Fine, &at(2));
    pool.remove(&lease.profile).unwrap();
    let fence = i64::try_from(lease.fence).unwrap();
    assert_eq!(pool.changes(), [Change::Gone(lease.profile.clone()), Change::Fence(fence)]);
    assert_eq!(pool.remove(&lease.profile), Err(ChangeError::Unknown));
}

#[test]
fn rows_that_make_no_sense_are_left_out_and_the_others_kept() {
    let mut pool = pool(settings());
    let lease = take(&mut pool, "u", "a", &at(0)).unwrap();
    back(&mut pool, &lease, Outcome::Fine, &at(0));
    let good = rows(&pool).profiles.remove(0);
    let bad = |change: &dyn Fn(&mut ProfileRow)| {
        let mut row = good.clone();
        change(&mut row);
        Pool::restore(settings(), ProfileRows { profiles: vec![row], fence: 0 }, &at(1))
            .1
            .first()
            .map(|bad| bad.what)
    };
    assert_eq!(bad(&|_| {}), None);
    assert_eq!(bad(&|row| row.kind = "firefox".into()), Some("kind"));
    assert_eq!(bad(&|row| row.state = "asleep".into()), Some("state"));
    assert_eq!(bad(&|row| row.state = "active".into()), Some("holder"));
    assert_eq!(bad(&|row| row.state = "quarantined".into()), Some("reason"));
    assert_eq!(bad(&|row| row.length_ms = Some(-1)), Some("length"));
    assert_eq!(bad(&|row| row.boot_id = None), Some("boot"));
    assert_eq!(bad(&|row| row.fence = -1), Some("fence"));
    assert_eq!(bad(&|row| row.proxy = Some("ftp://x".into())), Some("proxy"));
    assert_eq!(bad(&|row| row.fingerprint = Some("[]".into())), Some("fingerprint"));
    assert_eq!(bad(&|row| row.external = Some("k1".into())), Some("external name"));
    let spoilt = ProfileRow { state: "?".into(), name: "pool-x".parse().unwrap(), ..good.clone() };
    let (pool, bad) =
        Pool::restore(settings(), ProfileRows { profiles: vec![spoilt, good], fence: 0 }, &at(1));
    assert_eq!((pool.all().count(), bad.len()), (1, 1));
}

#[test]
fn a_host_has_a_bounded_number_of_profiles() {
    let mut pool = pool(Settings { per_user: 10_000, ..settings() });
    for number in 0..pool::MOST_PROFILES {
        pool.add(new_profile(&number.to_string(), None), &at(0)).unwrap();
    }
    assert_eq!(pool.add(new_profile("one more", None), &at(0)), Err(ChangeError::Full));
    assert_eq!(take(&mut pool, "one more", "s", &at(0)), Err(Unavailable::Full));
    assert!(take(&mut pool, "7", "s", &at(0)).is_ok());
}
