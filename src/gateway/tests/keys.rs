//! Certificates and keys that change while viewers are live.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::support::*;
use crate::auth::fixtures::{EC_PRIVATE, ES_TOKEN, JWK_SET};
use crate::auth::{Algorithm, JwksUrl, Role, SigningKey, sign};
use crate::gateway::config::TlsFiles;
use crate::tasks::Scope;

fn write_pair(dir: &Path) -> CertificateDer<'static> {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(dir.join("cert.pem"), pair.cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), pair.signing_key.serialize_pem()).unwrap();
    CertificateDer::from_pem_slice(pair.cert.pem().as_bytes()).unwrap()
}

async fn connect(world: &World, trusted: &CertificateDer<'static>) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(world.address).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

#[tokio::test]
async fn a_new_certificate_serves_new_connections_and_live_ones_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let first = write_pair(dir.path());
    let mut config = config();
    config.tls =
        Some(TlsFiles { certificate: dir.path().join("cert.pem"), private_key: dir.path().join("key.pem") });
    let world = World::with(config, auth_config()).await;
    let mut live = connect(&world, &first).await.unwrap();
    let request = format!(
        "{}Authorization: Bearer {}\r\n\r\n",
        world.upgrade_head("/websockify"),
        token(Role::Controller)
    );
    live.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(status(&head(&mut live).await), 101);

    std::fs::write(dir.path().join("key.pem"), "broken").unwrap();
    assert!(world.handle.reload(auth_config(), vec![]).await.is_err());
    assert!(connect(&world, &first).await.is_ok(), "a bad pair changes nothing");

    let second = write_pair(dir.path());
    world.handle.reload(auth_config(), vec![]).await.unwrap();
    assert!(connect(&world, &first).await.is_err());
    assert!(connect(&world, &second).await.is_ok());
    live.write_all(b"\x82\x84\0\0\0\0ping").await.unwrap();
    let mut frames = [0; 13];
    tokio::time::timeout(PATIENCE, live.read_exact(&mut frames)).await.unwrap().unwrap();
    assert_eq!(&frames, b"\x82\x05hello\x82\x04ping");
}

#[tokio::test]
async fn a_reload_takes_new_keys_and_a_bad_one_changes_nothing() {
    let world = World::new().await;
    let old = token(Role::Spectator);
    drop(world.viewer(&old).await);
    let mut bad = auth_config();
    bad.keys = vec![crate::auth::KeyConfig::SharedSecret {
        kid: None,
        secret: crate::secret::Secret::new(vec![1; 8]),
    }];
    assert!(world.handle.reload(bad.clone(), vec![]).await.is_err());
    drop(world.viewer(&old).await);
    bad.keys = vec![crate::auth::KeyConfig::SharedSecret {
        kid: None,
        secret: crate::secret::Secret::new(vec![1; 32]),
    }];
    world.handle.reload(bad, vec![]).await.unwrap();
    assert!(world.connect("/sessions/s1/vnc", &old).await.is_err());
}

/// Answers every connection with the current text, and counts.
async fn id_server(answer: Arc<Mutex<String>>, fetches: Arc<AtomicUsize>, listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut buf = [0; 4096];
        if stream.read(&mut buf).await.unwrap_or(0) == 0 {
            continue;
        }
        fetches.fetch_add(1, Ordering::SeqCst);
        let answer = answer.lock().unwrap().clone();
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_fetched_set_lets_its_tokens_in_and_unknown_keys_cause_no_storm() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks", listener.local_addr().unwrap());
    let answer = Arc::new(Mutex::new(ok(JWK_SET)));
    let fetches = Arc::new(AtomicUsize::new(0));
    let mut scope = Scope::new();
    scope.spawn("id", id_server(Arc::clone(&answer), Arc::clone(&fetches), listener));
    let mut auth = auth_config();
    auth.jwks_url = Some(JwksUrl { url, refresh: std::time::Duration::from_secs(3600) });
    let world = World::with(config(), auth.clone()).await;
    drop(world.viewer(ES_TOKEN).await);
    let by = |kid: &str| {
        let key = SigningKey::from_pem(Some(kid.into()), Algorithm::Es256, EC_PRIVATE).unwrap();
        sign(&claims("s1", None, 600), &key).unwrap()
    };
    let rotated = JWK_SET.replace(r#""kid": "es""#, r#""kid": "next""#);
    *answer.lock().unwrap() = ok(&rotated);
    drop(world.viewer(&by("next")).await);
    let after_rotation = fetches.load(Ordering::SeqCst);
    assert_eq!(after_rotation, 2);
    for _ in 0..20 {
        assert!(world.connect("/sessions/s1/vnc", &by("stranger")).await.is_err());
    }
    assert!(world.connect("/sessions/s1/vnc", ES_TOKEN).await.is_err(), "its key is retired");
    assert_eq!(fetches.load(Ordering::SeqCst), after_rotation);
    drop(world.viewer(&by("next")).await);
    *answer.lock().unwrap() = ok("nonsense");
    world.handle.reload(auth, vec![]).await.unwrap();
    drop(world.viewer(&by("next")).await);
}

#[tokio::test]
async fn a_redirect_or_an_endless_set_is_not_followed() {
    let redirect = "HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    for text in [redirect.to_owned(), ok(&" ".repeat(65 * 1024))] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let fetches = Arc::new(AtomicUsize::new(0));
        let mut scope = Scope::new();
        scope.spawn("id", id_server(Arc::new(Mutex::new(text)), Arc::clone(&fetches), listener));
        let mut auth = auth_config();
        auth.jwks_url = Some(JwksUrl { url, refresh: std::time::Duration::from_secs(3600) });
        let world = World::with(config(), auth).await;
        world.metric("valetd_gateway_jwks_fetches_total", "failed", 1.0).await;
        assert_eq!(fetches.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn a_tls_handshake_that_stalls_is_cut_off_at_the_deadline() {
    let dir = tempfile::tempdir().unwrap();
    write_pair(dir.path());
    let mut config = config();
    config.limits.handshake_deadline = std::time::Duration::from_millis(300);
    config.tls =
        Some(TlsFiles { certificate: dir.path().join("cert.pem"), private_key: dir.path().join("key.pem") });
    let world = World::with(config, auth_config()).await;
    let mut stalled = TcpStream::connect(world.address).await.unwrap();
    // The beginning of a record of 512 bytes that never come.
    stalled.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, stalled.read(&mut [0; 64])).await.unwrap();
    assert_eq!(ended.unwrap_or(0), 0);
    world.metric("valetd_gateway_dropped_total", "deadline", 1.0).await;
}
