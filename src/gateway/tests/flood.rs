//! What happens before anybody has shown a credential.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::support::*;
use crate::auth::Role;

#[tokio::test]
async fn a_head_that_does_not_end_is_cut_off_at_the_deadline() {
    let mut config = config();
    config.limits.handshake_deadline = Duration::from_millis(400);
    let world = World::with(config, auth_config()).await;
    let since = Instant::now();
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    let drip = async {
        while stream.write_all(b"X-A: b\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, drip).await.unwrap();
    assert!(since.elapsed() >= Duration::from_millis(400));
    let mut silent = TcpStream::connect(world.address).await.unwrap();
    assert_eq!(timeout(PATIENCE, silent.read(&mut [0; 1])).await.unwrap().unwrap_or(0), 0);
}

#[tokio::test]
async fn a_head_that_is_too_large_or_has_too_many_lines_is_refused() {
    let world = World::new().await;
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX-A: {}\r\n\r\n", "a".repeat(17 * 1024));
    assert_eq!(status(&world.raw(&long).await), 431);
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-A: b\r\n".repeat(70));
    assert_eq!(status(&world.raw(&many).await), 431);
    let long_token = format!("Authorization: Bearer {}\r\n", "a".repeat(9000));
    assert_eq!(world.upgrade("/sessions/s1/vnc", &long_token).await.0, 401);
}

#[tokio::test]
async fn one_address_has_its_share_and_is_told_when_to_come_again() {
    let mut config = config();
    config.limits.max_connections_per_address = 2;
    let world = World::with(config, auth_config()).await;
    let _one = world.viewer(&token(Role::Spectator)).await;
    let two = world.viewer(&token(Role::Spectator)).await;
    let (status, head) = world.request("GET", "/", "").await;
    assert_eq!((status, head.contains("\r\nretry-after: 5\r\n")), (429, true), "{head}");
    drop(two);
    world.metric("valetd_gateway_connections", "", 1.0).await;
    assert_eq!(world.request("GET", "/", "").await.0, 200);
}

#[tokio::test]
async fn a_full_host_says_so() {
    let mut config = config();
    config.limits.max_connections = 1;
    let world = World::with(config, auth_config()).await;
    let _one = world.viewer(&token(Role::Spectator)).await;
    let (status, head) = world.request("GET", "/", "").await;
    assert_eq!((status, head.contains("\r\nretry-after: 5\r\n")), (503, true), "{head}");
}

#[tokio::test]
async fn a_thousand_half_open_connections_do_not_keep_a_viewer_out() {
    let mut config = config();
    config.limits.max_unauthenticated = 64;
    config.limits.handshake_deadline = Duration::from_secs(60);
    let world = World::with(config, auth_config()).await;
    let mut live = world.viewer(&token(Role::Spectator)).await;
    let mut half_open = Vec::new();
    for _ in 0..1000 {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        // Those pushed out earlier cannot be written to; later ones can.
        let _evicted = stream.write_all(b"GET / HTTP/1.1\r\n").await;
        half_open.push(stream);
    }
    let _viewer = world.viewer(&token(Role::Controller)).await;
    world.metric("valetd_gateway_connections", "", 66.0 - 1.0).await;
    assert_eq!(world.handle.viewers().spectators, 1, "who has shown a credential is not pushed out");
    futures_util::SinkExt::send(&mut live, tokio_tungstenite::tungstenite::Message::Ping("x".into()))
        .await
        .unwrap();
    assert!(matches!(next(&mut live).await, tokio_tungstenite::tungstenite::Message::Pong(_)));
}
