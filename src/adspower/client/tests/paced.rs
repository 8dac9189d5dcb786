//! An API that says that it is asked too often.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::Instant;

use super::stand_in::{
    Reply, StandIn, at_the_documented_pace, browser, counts, done, profile, profiles, quick, refusal, with,
};
use crate::adspower::client::line::Limits;
use crate::adspower::client::{Error, ListQuery, NewProfile, StartOptions};

const TOO_OFTEN: &str = "Too many request per second, please check";

/// The time between the first two requests.
fn gap(server: &StandIn) -> Duration {
    let seen = server.seen();
    seen[1].at - seen[0].at
}

#[tokio::test]
async fn too_often_is_tried_again_more_slowly_even_for_a_new_profile() {
    let server = StandIn::start(|_, number| match number {
        0 => refusal(TOO_OFTEN),
        _ => done(json!({"profile_id": "k1"})),
    })
    .await;
    let (client, registry) = quick(server.port);
    assert_eq!(client.create(&NewProfile::default()).await.unwrap(), profile("k1"));
    assert_eq!(server.lines().len(), 2);
    assert!(gap(&server) >= Duration::from_millis(1100), "{:?}", gap(&server));
    assert!(counts(&registry, "valetd_adspower_too_often_total 1"));
    assert!(counts(&registry, r#"valetd_adspower_calls_total{call="create",outcome="ok"} 1"#));
    assert!(counts(&registry, r#"valetd_adspower_breaker{state="closed"} 1"#));
}

#[tokio::test]
async fn status_429_is_honoured_with_its_retry_after_and_without_one() {
    for (header, least) in [("Retry-After: 2\r\n", 2000), ("", 1100)] {
        let busy = format!("HTTP/1.1 429 Too Many Requests\r\n{header}Content-Length: 6\r\n\r\n<html>");
        let server = StandIn::start(move |_, number| match number {
            0 => Reply::Raw(busy.clone()),
            _ => done(browser()),
        })
        .await;
        let (client, _registry) = quick(server.port);
        client.start(&profile("k1"), &StartOptions::default()).await.unwrap();
        assert!(gap(&server) >= Duration::from_millis(least), "{:?}", gap(&server));
    }
}

#[tokio::test]
async fn a_retry_after_beyond_the_deadline_ends_the_call_and_those_behind_it_at_once() {
    let busy = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3600\r\n\r\n";
    let server = StandIn::start(|_, _| Reply::Raw(busy.to_owned())).await;
    let (client, _registry) = quick(server.port);
    let begun = Instant::now();
    for _ in 0..3 {
        let error = client.stop(&profile("k1")).await.unwrap_err();
        assert!(matches!(error, Error::TooOften) && !error.may_have_happened(), "{error:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(server.lines().len(), 1, "nobody asks while AdsPower wants to be left alone");
}

#[tokio::test]
async fn who_is_always_asked_to_come_later_is_told_so_within_the_deadline() {
    let server = StandIn::start(|_, _| refusal(TOO_OFTEN)).await;
    let limits = Limits { deadline: |_| Duration::from_secs(6), ..Limits::default() };
    let (client, registry) = with(server.port, Duration::from_millis(1), limits);
    let begun = Instant::now();
    let error = client.status().await.unwrap_err();
    assert!(matches!(error, Error::TooOften), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    // At once, after 1.1 s and after 2.2 s more; 4.4 s more would be too late.
    assert_eq!(server.lines().len(), 3);
    assert!(counts(&registry, r#"valetd_adspower_calls_total{call="status",outcome="too_often"} 1"#));
}

#[tokio::test]
async fn f22_at_twice_the_load_1_percent_at_most_is_turned_down() {
    const LIMIT: usize = 20;
    let taken = Mutex::new(VecDeque::new());
    let server = StandIn::start(move |seen, _| {
        let mut taken = taken.lock().unwrap();
        while taken.front().is_some_and(|first| seen.at - *first >= Duration::from_secs(1)) {
            taken.pop_front();
        }
        if taken.len() >= LIMIT {
            return refusal(TOO_OFTEN);
        }
        taken.push_back(seen.at);
        done(json!({}))
    })
    .await;
    // A tenth slower than what is taken, like all rates.
    let (client, registry) = with(server.port, Duration::from_millis(55), Limits::default());
    // Eight callers that come back at once are more than twice of what is taken, and each gets its answer.
    let calls = (0..8).map(|_| {
        let client = client.clone();
        async move {
            for _ in 0..13 {
                client.status().await.unwrap();
            }
        }
    });
    join_all(calls).await;
    assert!((104..=105).contains(&server.lines().len()), "{} requests", server.lines().len());
    assert!(counts(&registry, r#"valetd_adspower_calls_total{call="status",outcome="ok"} 104"#));
}

#[tokio::test]
async fn a_list_of_everything_tells_how_often_adspower_may_be_asked() {
    let server = StandIn::start(|seen, _| match seen.body["page"].as_u64() {
        Some(page @ 1..=2) => done(json!({"list": profiles(page * 100, 100)})),
        Some(_) => done(json!({"list": profiles(300, 50)})),
        None => done(json!({})),
    })
    .await;
    let (client, _registry) = at_the_documented_pace(server.port);
    assert_eq!(client.list(&ListQuery::default()).await.unwrap().len(), 250);
    let begun = Instant::now();
    for _ in 0..20 {
        client.status().await.unwrap();
    }
    // 220 ms each; 22 s would be the pace of an account that nothing is known of, and 11 s that of a small one.
    assert!(begun.elapsed() >= Duration::from_millis(4400), "{:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_millis(10_500), "{:?}", begun.elapsed());
}
