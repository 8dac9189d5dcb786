//! For tests of those who serve sessions: a session without processes, whose display is a plain TCP server.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::cdp::CdpPaths;
use super::directory::{Directory, Sessions};
use super::events::EventLog;
use super::handle::Desk;
use super::handoff::Handoffs;
use super::record::Warmth;
use super::request::Kind;
use super::status::{SessionState, SessionStatus};
use super::viewer::{About, Backend, Counts, Facts, Inner, Session, Terms, ViewerEnd};
use crate::browser::Endpoint;
use crate::rfb::Access;
use crate::vnc::Activity;

/// A chunk of the display's stream.
const CHUNK_BYTES: usize = 64 * 1024;

/// Carries bytes both ways and understands none of them.
#[derive(Clone)]
pub(crate) struct Splice {
    /// The display.
    pub(crate) upstream: SocketAddr,
    /// Ends all viewers with what is put there.
    pub(crate) end: watch::Receiver<Option<ViewerEnd>>,
}

/// These sessions and no others.
pub(crate) fn sessions(sessions: impl IntoIterator<Item = Session>) -> Sessions {
    let live = sessions.into_iter().map(|session| (session.id().clone(), session)).collect();
    let directory = watch::Sender::new(Directory { live, ..Directory::default() }).subscribe();
    Sessions { directory, events: EventLog::default().listen() }
}

/// A session that is ready, or (without a display) still starting.
pub(crate) fn session(
    id: &str,
    user: Option<&str>,
    splice: Option<Splice>,
    end: &watch::Receiver<Option<ViewerEnd>>,
) -> Session {
    let state = if splice.is_some() { SessionState::Ready } else { SessionState::Starting };
    let components = if splice.is_some() { vec![] } else { vec![super::external::unknown()] };
    let status = watch::Sender::new(SessionStatus { state, ready: None, end: None, components });
    let splice = splice.unwrap_or(Splice { upstream: nowhere(), end: end.clone() });
    stand_in(id, user, splice, status.subscribe(), Facts::default())
}

/// A ready session with a browser at `devtools`, and no picture.
pub(crate) fn session_with_browser(
    id: &str,
    devtools: watch::Receiver<Option<Endpoint>>,
    status: watch::Receiver<SessionStatus>,
) -> Session {
    let splice = Splice { upstream: nowhere(), end: watch::Sender::new(None).subscribe() };
    let cdp_paths =
        CdpPaths { downloads: "/s/home/Downloads".into(), home: "/s/home".into(), tmp: "/s/tmp".into() };
    let facts = Facts { devtools: Some(devtools), cdp_paths: Some(cdp_paths), ..Facts::default() };
    stand_in(id, None, splice, status, facts)
}

fn nowhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9))
}

fn stand_in(
    id: &str,
    user: Option<&str>,
    splice: Splice,
    status: watch::Receiver<SessionStatus>,
    facts: Facts,
) -> Session {
    let about = About {
        id: id.parse().unwrap(),
        user: user.map(|user| user.parse().unwrap()),
        kind: Kind::Chromium,
        profile: None,
        created: std::time::SystemTime::now(),
        warmth: Warmth::Cold,
    };
    Session {
        inner: Arc::new(Inner {
            about,
            backend: Backend::Splice(splice),
            supervisor: None,
            status,
            terms: watch::Sender::new(Terms::default()).subscribe(),
            handoffs: watch::Sender::new(Handoffs::default()).subscribe(),
            desk: Desk::nowhere(),
            facts,
            counts: Counts::default(),
            activity: Arc::new(Activity::new(Instant::now())),
            culprit: OnceLock::new(),
        }),
    }
}

impl Splice {
    pub(super) async fn serve<Tx, Rx, E>(
        &self,
        access: Access,
        tx: &mut Tx,
        rx: &mut Rx,
        send_deadline: Duration,
        activity: &Activity,
    ) -> ViewerEnd
    where
        Tx: Sink<Bytes, Error = E> + Unpin + Send,
        Rx: Stream<Item = Result<Bytes, E>> + Unpin + Send,
        E: std::error::Error + Send,
    {
        let Ok(mut upstream) = TcpStream::connect(self.upstream).await else {
            return ViewerEnd::DisplayLost;
        };
        let (mut from, mut to) = upstream.split();
        let up = async {
            loop {
                match rx.next().await {
                    Some(Ok(bytes)) => {
                        activity.touch(Instant::now());
                        if bytes.as_ref() == b"misbehave" {
                            return ViewerEnd::Misbehaved("asked for it".into());
                        }
                        if access == Access::Full && to.write_all(&bytes).await.is_err() {
                            return ViewerEnd::DisplayLost;
                        }
                    }
                    Some(Err(error)) => return ViewerEnd::Misbehaved(error.to_string()),
                    None => return ViewerEnd::Left,
                }
            }
        };
        let down = async {
            loop {
                let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
                match from.read_buf(&mut chunk).await {
                    Ok(read) if read > 0 => {}
                    _ => return ViewerEnd::DisplayRestarting,
                }
                match timeout(send_deadline, tx.send(chunk.freeze())).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return ViewerEnd::Left,
                    Err(_) => return ViewerEnd::TooSlow,
                }
            }
        };
        let mut end = self.end.clone();
        let ended = async {
            let end = end.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
            match end {
                Some(end) => end,
                None => std::future::pending().await,
            }
        };
        tokio::select! { end = up => end, end = down => end, end = ended => end }
    }
}
