//! An API that hangs, floods, breaks off or answers with something else.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use super::stand_in::{KEY, Reply, StandIn, browser, counts, done, place, profile, quick, refusal};
use crate::adspower::client::{Error, Garbage, ListQuery, NewProfile, StartOptions, Unread};
use crate::errors::chain;

/// For a loaded machine, on top of the deadline.
const SLACK: Duration = Duration::from_secs(4);

#[tokio::test]
async fn f21_nobody_waits_longer_than_10_s_for_an_api_that_hangs_or_drips_however_many_wait() {
    let hanging = StandIn::start(|_, _| Reply::Hang).await;
    let dripping = StandIn::start(|_, _| Reply::Drip).await;
    let (first, registry) = quick(hanging.port);
    let (second, _registry) = quick(dripping.port);
    let begun = Instant::now();
    let calls = (0..40).map(|number| {
        let client = if number < 33 { first.clone() } else { second.clone() };
        async move { (client.status().await.unwrap_err(), begun.elapsed()) }
    });
    let ends = join_all(calls).await;
    let longest = ends.iter().map(|(_, after)| *after).max().unwrap();
    assert!(longest < Duration::from_secs(10) + SLACK, "{longest:?}");
    let count = |word: fn(&Error) -> bool| ends.iter().filter(|(error, _)| word(error)).count();
    // One beside another after 3 s each, at both; the others were never sent.
    let timed_out = count(|error| matches!(error, Error::TimedOut { .. }));
    assert!((2..=8).contains(&timed_out), "{ends:?}");
    assert_eq!(count(|error| matches!(error, Error::Busy)), 1, "{ends:?}");
    assert_eq!(count(|error| matches!(error, Error::Late(_))), 39 - timed_out, "{ends:?}");
    let busy = ends.iter().find(|(error, _)| matches!(error, Error::Busy)).unwrap();
    assert!(busy.1 < Duration::from_secs(5), "one too many is told at once: {:?}", busy.1);
    assert!(counts(&registry, r#"valetd_adspower_calls_total{call="status",outcome="busy"} 1"#));
    let text = ends[0].0.to_string();
    assert_eq!(text, "AdsPower did not answer `status` within 10 s");
}

#[tokio::test]
async fn f23_a_flood_is_left_at_a_megabyte_or_at_its_announcement() {
    for announced in [true, false] {
        let server = StandIn::start(move |_, _| Reply::Flood(announced)).await;
        let (client, _registry) = quick(server.port);
        let error = client.list(&ListQuery::default()).await.unwrap_err();
        let large = matches!(error, Error::Unreadable { source: Unread::TooLarge(1_048_576), .. });
        assert!(large, "{error:?}");
        // What is more than the limit is what fits into the sockets' buffers.
        assert!(server.flooded().unwrap_or_default() < 50_000_000, "{:?}", server.flooded());
    }
}

#[tokio::test]
async fn f23_each_kind_of_wrong_answer_is_an_error_of_its_own() {
    let not_json: fn(&Error) -> bool = |error| matches!(error, Error::Garbage(Garbage::NotJson));
    let no_http: fn(&Error) -> bool = |error| matches!(error, Error::Unreachable { .. });
    let cases = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n<html>no</html>", not_json),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"code\":0", not_json),
        ("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"code\":NaN}", not_json),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", |error| {
            matches!(error, Error::Garbage(Garbage::NoCode))
        }),
        ("HTTP/1.1 500 No\r\nContent-Length: 6\r\n\r\n<html>", |error| {
            matches!(error, Error::Garbage(Garbage::Status(500)))
        }),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"code\":0", |error| {
            matches!(error, Error::Unreadable { source: Unread::Broken(_), .. })
        }),
        ("SSH-2.0-OpenSSH_9.2\r\n", no_http),
        ("", no_http),
    ];
    for (text, expected) in cases {
        let server = StandIn::start(|_, _| Reply::Raw(text.to_owned())).await;
        let (client, _registry) = quick(server.port);
        let error = client.start(&profile("k1"), &StartOptions::default()).await.unwrap_err();
        assert!(expected(&error), "{text:?}: {error:?}");
        assert!(error.may_have_happened());
    }
    let server = StandIn::start(|_, _| done(json!({"ws": {"puppeteer": 5}, "debug_port": {}}))).await;
    let (client, registry) = quick(server.port);
    let error = client.start(&profile("k1"), &StartOptions::default()).await.unwrap_err();
    assert!(matches!(error, Error::Odd(_)), "{error:?}");
    assert!(counts(&registry, r#"valetd_adspower_calls_total{call="start",outcome="odd"} 1"#));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = StandIn::start(|_, _| done(json!({}))).await;
    let to = format!("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{}/status\r\n\r\n", elsewhere.port);
    let server = StandIn::start(move |_, _| Reply::Raw(to.clone())).await;
    let error = quick(server.port).0.status().await.unwrap_err();
    assert!(matches!(error, Error::Garbage(Garbage::Status(302))), "{error:?}");
    assert!(elsewhere.lines().is_empty());
}

#[tokio::test]
async fn a_profile_is_not_created_twice_when_its_answer_is_lost() {
    let server = StandIn::start(|_, _| Reply::Raw(String::new())).await;
    let (client, _registry) = quick(server.port);
    let error = client.create(&NewProfile::default()).await.unwrap_err();
    assert!(error.may_have_happened(), "{error:?}");
    assert_eq!(server.lines(), ["POST /api/v2/browser-profile/create"]);
}

#[tokio::test]
async fn the_key_is_shown_with_every_call_and_to_nobody_else_even_when_adspower_repeats_it() {
    let message = format!("bad key {KEY}");
    let server = StandIn::start(move |_, _| refusal(&message)).await;
    let (client, _registry) = quick(server.port);
    let errors = [
        client.status().await.unwrap_err(),
        client.start(&profile("k1"), &StartOptions::default()).await.unwrap_err(),
        client.kernels().await.unwrap_err(),
    ];
    for seen in server.seen() {
        assert_eq!(seen.authorization.as_deref(), Some(format!("Bearer {KEY}").as_str()), "{}", seen.line);
    }
    for error in errors {
        assert_eq!(chain(&error), "AdsPower says “bad key <redacted>” (code -1)");
        assert!(!error.may_have_happened());
        assert!(!format!("{error:?} {client:?}").contains("canary"), "{error:?} {client:?}");
    }
    let refusing = StandIn::start(|_, _| refusal("require api-key")).await;
    let error = quick(refusing.port).0.status().await.unwrap_err();
    assert!(matches!(error, Error::ApiKey), "{error:?}");
}

#[tokio::test]
async fn f19_the_key_is_not_shown_to_whoever_listens_on_the_port_after_adspower() {
    let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = app.local_addr().unwrap();
    let (client, _registry) = quick(address.port());
    drop(app);
    let stranger = std::net::TcpListener::bind(address).unwrap();
    stranger.set_nonblocking(true).unwrap();
    let error = client.create(&NewProfile::default()).await.unwrap_err();
    assert!(chain(&error).contains("changed hands") && !error.may_have_happened(), "{error:?}");
    let connected = stranger.accept().unwrap_err();
    assert_eq!(connected.kind(), std::io::ErrorKind::WouldBlock, "a stranger was connected to");
    // Control: it is asked where it is AdsPower itself.
    let server = StandIn::start(|_, _| done(browser())).await;
    client.set_place(Some(place(server.port)));
    client.status().await.unwrap();
}

#[tokio::test]
async fn an_error_names_no_url_since_arguments_stand_in_one() {
    for broken in ["", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"] {
        let server = StandIn::start(move |seen, _| match seen.line.contains("/v2/") {
            true => refusal("Not found"),
            false => Reply::Raw(broken.to_owned()),
        })
        .await;
        let (client, _registry) = quick(server.port);
        let options = StartOptions { launch_args: vec!["--canary".to_owned()], ..StartOptions::default() };
        let error = client.start(&profile("k1"), &options).await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. } | Error::Unreadable { .. }), "{error:?}");
        assert!(server.lines()[1].contains("canary"), "{:?}", server.lines());
        assert!(!format!("{error:?} {}", chain(&error)).contains("canary"), "{error:?}");
    }
}

#[tokio::test]
async fn f21_an_app_that_does_not_even_accept_is_left_after_3_s() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    // Those that nobody accepts, until there is no room for more.
    let mut waiting = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(500), TcpStream::connect(address)).await {
        waiting.push(stream.unwrap());
    }
    let (client, _registry) = quick(address.port());
    let begun = Instant::now();
    let error = client.create(&NewProfile::default()).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }) && !error.may_have_happened(), "{error:?}");
    assert!(
        (3.0..3.0 + SLACK.as_secs_f64()).contains(&begun.elapsed().as_secs_f64()),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn after_five_failures_nobody_is_asked_until_another_app_is_there() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, registry) = quick(gone.local_addr().unwrap().port());
    drop(gone);
    for _ in 0..5 {
        let error = client.status().await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }) && !error.may_have_happened(), "{error:?}");
    }
    assert!(counts(&registry, r#"valetd_adspower_breaker{state="open"} 1"#));
    let error = client.status().await.unwrap_err();
    let Error::Failing { again_in } = error else { panic!("{error:?}") };
    assert!(again_in <= Duration::from_secs(10), "{again_in:?}");
    let server = StandIn::start(|_, _| done(browser())).await;
    client.set_place(Some(place(server.port)));
    assert!(counts(&registry, r#"valetd_adspower_breaker{state="closed"} 1"#));
    client.status().await.unwrap();
    assert!(counts(&registry, r#"valetd_adspower_calls_total{call="status",outcome="ok"} 1"#));
    assert!(counts(&registry, r#"valetd_adspower_calls_total{call="status",outcome="failing"} 1"#));
}

#[tokio::test]
async fn refusals_are_answers_and_open_nothing() {
    let server = StandIn::start(|_, _| refusal("no such profile")).await;
    let (client, registry) = quick(server.port);
    for _ in 0..8 {
        let error = client.stop(&profile("k1")).await.unwrap_err();
        assert!(
            matches!(&error, Error::Refused(refusal) if refusal.message == "no such profile"),
            "{error:?}"
        );
    }
    assert!(counts(&registry, r#"valetd_adspower_breaker{state="closed"} 1"#));
}
