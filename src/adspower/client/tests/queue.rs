//! Who is next, who is too many, and who goes.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::stand_in::{Reply, SOON, StandIn, browser, counts, done, place, profile, quick, with};
use crate::adspower::client::line::Limits;
use crate::adspower::client::{Call, Client, Error, StartOptions};

const MS: Duration = Duration::from_millis(1);

#[tokio::test]
async fn calls_go_one_after_the_other_in_the_order_in_which_they_came() {
    let server = StandIn::start(|_, _| Reply::After(20 * MS, json!({"code": 0}))).await;
    let (client, _registry) = quick(server.port);
    let ids: Vec<_> = (0..10).map(|number| profile(&format!("k{number}"))).collect();
    let outcomes = join_all(ids.iter().map(|id| client.stop(id))).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(server.most_at_a_time(), 1);
    let order: Vec<_> = server.seen().iter().map(|seen| seen.body["profile_id"].clone()).collect();
    assert_eq!(order, ["k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7", "k8", "k9"]);
}

#[tokio::test]
async fn the_pace_holds_between_calls() {
    let server = StandIn::start(|_, _| done(json!({}))).await;
    let (client, registry) = with(server.port, 300 * MS, Limits::default());
    let outcomes = join_all((0..4).map(|_| client.status())).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    for two in server.seen().windows(2) {
        assert!(two[1].at - two[0].at >= 300 * MS, "{:?}", two[1].at - two[0].at);
    }
    assert!(counts(&registry, "valetd_adspower_wait_seconds_count 4"));
}

/// Calls that are not answered, side by side, until enough of them were made.
async fn unanswered(client: &Client, times: usize) {
    let mut timed_out = 0;
    while timed_out < times {
        let id = profile("k1");
        let ends = join_all((0..7).map(|_| client.stop(&id))).await;
        assert!(ends.iter().all(Result::is_err), "{ends:?}");
        timed_out += ends.iter().filter(|end| matches!(end, Err(Error::TimedOut { .. }))).count();
    }
}

#[tokio::test]
async fn a_browser_that_takes_long_to_open_lets_a_probe_pass_and_timeouts_beside_it_say_nothing() {
    let server = StandIn::start(|seen, _| match seen.line.as_str() {
        "GET /status" => done(json!({})),
        "POST /api/v2/browser-profile/stop" => Reply::Hang,
        _ => Reply::After(Duration::from_secs(9), json!({"code": 0, "data": browser()})),
    })
    .await;
    let deadline = |call| if call == Call::Stop { Duration::from_secs(3) } else { 3 * SOON };
    let limits = Limits { deadline, alone: 50 * MS, telling: MS };
    let (client, registry) = with(server.port, MS, limits);
    let (id, options) = (profile("k1"), StartOptions::default());
    let others = async {
        server.asked(1).await;
        client.status().await.unwrap();
        unanswered(&client, 5).await;
        assert!(counts(&registry, r#"valetd_adspower_breaker{state="closed"} 1"#));
    };
    let (started, ()) = tokio::join!(client.start(&id, &options), others);
    assert_eq!(started.unwrap().debug_port, 9222);
    // Without a start beside them the same timeouts count.
    unanswered(&client, 5).await;
    assert!(counts(&registry, r#"valetd_adspower_breaker{state="open"} 1"#));
}

#[tokio::test]
async fn timeouts_of_calls_that_spent_their_time_in_the_queue_say_nothing_of_the_api() {
    let server = StandIn::start(|_, _| Reply::Hang).await;
    let limits = Limits { deadline: |_| Duration::from_secs(3), alone: 50 * MS, telling: SOON };
    let (client, registry) = with(server.port, MS, limits);
    unanswered(&client, 6).await;
    assert!(counts(&registry, r#"valetd_adspower_breaker{state="closed"} 1"#));
}

#[tokio::test]
async fn a_caller_that_goes_gives_its_turn_and_its_place_back() {
    let server = StandIn::start(|_, number| if number == 0 { Reply::Hang } else { done(json!({})) }).await;
    let (client, registry) = quick(server.port);
    let mut calls: Vec<_> = (0..32).map(|_| Box::pin(client.status())).collect();
    for call in &mut calls {
        assert!(call.now_or_never().is_none());
    }
    assert!(matches!(client.status().await, Err(Error::Busy)));
    let asked = async {
        server.asked(1).await;
    };
    tokio::select! {
        _ = &mut calls[0] => panic!("answered"),
        () = asked => {}
    }
    // The one under way and all that wait but the last, which is next then.
    let last = calls.pop().unwrap();
    drop(calls);
    timeout(SOON, last).await.unwrap().unwrap();
    assert_eq!(server.lines().len(), 2);
    assert!(counts(&registry, r#"valetd_adspower_calls_total{call="status",outcome="cancelled"} 31"#));
    let outcomes = join_all((0..32).map(|_| client.status())).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
}

#[tokio::test]
async fn a_trial_that_is_given_up_leaves_the_trial_to_the_next_caller() {
    let server = StandIn::start(|_, number| match number {
        0..5 => Reply::Raw(String::new()),
        5 => Reply::Hang,
        _ => done(json!({})),
    })
    .await;
    let (client, registry) = quick(server.port);
    for _ in 0..5 {
        client.status().await.unwrap_err();
    }
    // The rest is 10 s; there is no clock to turn beside real sockets.
    let trial = async {
        loop {
            match client.status().await {
                Err(Error::Failing { again_in }) => tokio::time::sleep(again_in).await,
                other => return other,
            }
        }
    };
    tokio::select! {
        outcome = trial => panic!("{outcome:?}"),
        () = server.asked(6) => {}
    }
    assert!(counts(&registry, r#"valetd_adspower_breaker{state="open"} 1"#));
    client.status().await.unwrap();
    assert!(counts(&registry, r#"valetd_adspower_breaker{state="closed"} 1"#));
}

#[tokio::test]
async fn an_app_that_moves_loses_the_call_under_way_and_gets_those_that_wait() {
    let old = StandIn::start(|_, _| Reply::Hang).await;
    let new = StandIn::start(|_, _| done(json!({}))).await;
    let (client, _registry) = quick(old.port);
    let begun = Instant::now();
    let id = profile("k1");
    let (first, second, ()) = tokio::join!(client.stop(&id), client.status(), async {
        old.asked(1).await;
        // Saying the same again moves nothing.
        client.set_place(Some(place(old.port)));
        client.set_place(Some(place(new.port)));
    });
    let error = first.unwrap_err();
    assert!(matches!(error, Error::Lost(_)) && error.may_have_happened(), "{error:?}");
    second.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!((old.lines().len(), new.lines()), (1, vec!["GET /status".to_owned()]));
}

#[tokio::test]
async fn while_the_app_is_down_calls_fail_at_once_also_those_that_wait() {
    let server = StandIn::start(|_, _| Reply::Hang).await;
    let (client, _registry) = with(server.port, MS, Limits::default());
    let begun = Instant::now();
    let (first, second, ()) = tokio::join!(client.status(), client.status(), async {
        server.asked(1).await;
        client.set_place(None);
    });
    assert!(matches!(first, Err(Error::Lost(_))), "{first:?}");
    assert!(matches!(second, Err(Error::Down)), "{second:?}");
    assert!(matches!(client.status().await, Err(Error::Down)));
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn who_waits_for_the_pace_is_told_when_the_app_goes_down() {
    let server = StandIn::start(|_, _| done(json!({}))).await;
    let (client, _registry) = with(server.port, Duration::from_secs(8), Limits::default());
    client.status().await.unwrap();
    let begun = Instant::now();
    let (waiting, ()) = tokio::join!(client.status(), async { client.set_place(None) });
    assert!(matches!(waiting, Err(Error::Down)), "{waiting:?}");
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    assert_eq!(server.lines().len(), 1);
}
