//! Live viewers and how they end.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::support::*;
use crate::auth::Role;
use crate::gateway::ViewerCounts;
use crate::session::ViewerEnd;

#[tokio::test]
async fn bytes_go_both_ways_and_viewers_are_counted_by_role() {
    let world = World::new().await;
    let mut controller = world.viewer(&token(Role::Controller)).await;
    let _spectator = world.viewer(&token(Role::Spectator)).await;
    controller.send(Message::Binary("input".into())).await.unwrap();
    assert_eq!(next(&mut controller).await, Message::Binary("input".into()));
    assert_eq!(world.handle.viewers(), ViewerCounts { spectators: 1, controllers: 1 });
    world.metric("valetd_gateway_viewers", "controller", 1.0).await;
    world.metric("valetd_gateway_sent_bytes_total", "", 15.0).await;
    controller.close(None).await.unwrap();
    world.metric("valetd_gateway_closes_total", "left", 1.0).await;
    assert_eq!(world.handle.viewers(), ViewerCounts { spectators: 1, controllers: 0 });
}

#[tokio::test]
async fn what_a_viewer_may_not_send_closes_it_with_the_right_code() {
    let world = World::new().await;
    let cases = [
        (Role::Controller, Message::Text("x".into()), 1003),
        (Role::Controller, Message::Binary("misbehave".into()), 1008),
        (Role::Spectator, Message::Binary(vec![0; 4097].into()), 1008),
        (Role::Controller, Message::Binary(vec![0; 1024 * 1024 + 65].into()), 1008),
    ];
    for (role, message, code) in cases {
        let mut client = world.viewer(&token(role)).await;
        // The far end may close before it has taken all of it.
        let _closed_early = client.send(message).await;
        assert_eq!(close_code(&mut client).await, code);
    }
}

#[tokio::test]
async fn an_unmasked_frame_ends_the_viewer() {
    let world = World::new().await;
    let mut client = world.viewer(&token(Role::Controller)).await;
    client.get_mut().write_all(b"\x82\x01x").await.unwrap();
    assert_eq!(close_code(&mut client).await, 1008);
}

#[tokio::test]
async fn each_end_of_a_session_has_its_code() {
    for (end, code) in [
        (ViewerEnd::SessionEnded, 4410),
        (ViewerEnd::DisplayLost, 1011),
        (ViewerEnd::DisplayRestarting, 1012),
        (ViewerEnd::TooSlow, 1008),
    ] {
        let world = World::new().await;
        let mut client = world.viewer(&token(Role::Controller)).await;
        world.end.send_replace(Some(end));
        assert_eq!(close_code(&mut client).await, code);
    }
}

#[tokio::test]
async fn a_drain_tells_viewers_1001_and_ends_the_gateway() {
    let mut world = World::new().await;
    let mut client = world.viewer(&token(Role::Spectator)).await;
    world.drain.cancel();
    assert_eq!(close_code(&mut client).await, 1001);
    let finished = timeout(PATIENCE, world.scope.join_next()).await.unwrap().unwrap();
    assert_eq!(finished.name, "gateway");
}

#[tokio::test]
async fn a_token_that_expires_closes_within_a_second_with_4401() {
    let world = World::new().await;
    let claims = claims("s1", None, 2);
    let mut client = world.viewer(&signed(&claims)).await;
    assert_eq!(close_code(&mut client).await, 4401);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let expired = Duration::from_secs(claims.exp);
    assert!(now >= expired && now < expired + Duration::from_secs(1), "{now:?} for {expired:?}");
}

#[tokio::test]
async fn a_viewer_that_does_nothing_is_closed_with_4408() {
    let mut config = config();
    config.limits.idle_timeout = Some(Duration::from_millis(300));
    let world = World::with(config, auth_config()).await;
    let mut client = world.viewer(&token(Role::Controller)).await;
    assert_eq!(close_code(&mut client).await, 4408);
}

#[tokio::test]
async fn pings_are_sent_and_a_viewer_that_does_not_answer_is_closed() {
    let mut config = config();
    config.limits.ping_interval = Duration::from_millis(100);
    config.limits.pong_deadline = Duration::from_millis(400);
    let world = World::with(config, auth_config()).await;
    let mut polite = world.viewer(&token(Role::Controller)).await;
    for _ in 0..8 {
        assert!(matches!(next(&mut polite).await, Message::Ping(_)));
    }
    // A client that is not read answers no ping.
    let mut silent = world.viewer(&token(Role::Spectator)).await;
    let metric = world.metric("valetd_gateway_closes_total", "no_pong", 1.0);
    let polite_goes_on = async { while polite.next().await.is_some() {} };
    tokio::select! {
        () = metric => {}
        () = polite_goes_on => panic!("the polite viewer was closed"),
    }
    assert_eq!(close_code(&mut silent).await, 1008);
}

#[tokio::test]
async fn a_viewer_that_does_not_read_is_evicted_and_the_others_go_on() {
    let mut config = config();
    config.limits.send_deadline = Duration::from_millis(300);
    let world = World::with(config, auth_config()).await;
    let mut slow = world.viewer(&token(Role::Controller)).await;
    let mut other = world.viewer(&token(Role::Controller)).await;
    slow.send(Message::Binary("flood".into())).await.unwrap();
    world.metric("valetd_gateway_closes_total", "too_slow", 1.0).await;
    other.send(Message::Binary("still here".into())).await.unwrap();
    assert_eq!(next(&mut other).await, Message::Binary("still here".into()));
}

#[tokio::test]
async fn a_slow_viewer_that_reads_again_in_time_learns_why() {
    let mut config = config();
    config.limits.send_deadline = Duration::from_millis(300);
    let world = World::with(config, auth_config()).await;
    let mut slow = world.viewer(&token(Role::Controller)).await;
    slow.send(Message::Binary("flood".into())).await.unwrap();
    let sent = || {
        let families = world.registry.gather();
        let family = families.iter().find(|one| one.name() == "valetd_gateway_sent_bytes_total").unwrap();
        family.get_metric()[0].get_counter().get_value()
    };
    // Its buffers are full once nothing more goes out; the deadline runs from there.
    let (mut before, mut since) = (sent(), Instant::now());
    while before < 100_000.0 || since.elapsed() < Duration::from_millis(600) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = sent();
        if (now - before).abs() > 0.5 {
            (before, since) = (now, Instant::now());
        }
    }
    assert_eq!(close_code(&mut slow).await, 1008);
}

#[tokio::test]
async fn a_lost_connection_gives_the_seat_back() {
    let world = World::new().await;
    let client = world.viewer(&token(Role::Controller)).await;
    let stream: TcpStream = client.into_inner();
    drop(stream);
    world.metric("valetd_gateway_closes_total", "left", 1.0).await;
    assert_eq!(world.handle.viewers(), ViewerCounts::default());
}
