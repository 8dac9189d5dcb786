//! One viewer on an RFB server, x11vnc of ours or an external one. RFB ends on both sides here: each gets a handshake of its own, the server's
//! bytes then flow to the viewer untouched, and the viewer's are parsed, judged and encoded anew.
//!
//! **Clipboard of the display.** What the server says about its clipboard reaches spectators too, since nothing is cut
//! out of its stream; only the extended clipboard, which must be asked for, is kept from them.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::time::timeout;
use tracing::debug;

use super::activity::Activity;
use super::config::RfbAddress;
use super::pump::{Down, Pump, Up};
use super::upstream::{self, Upstream};
pub use super::upstream::{UpstreamError, probe};
use crate::errors::chain;
use crate::rfb::server_handshake::ServerHandshakeError;
use crate::rfb::viewer_handshake::{GREETING, ViewerHandshake, ViewerHandshakeError};
use crate::rfb::{Access, DecodeError, ServerInit, Skimmer, ViewerFilter, server_message};

/// The longest wait for the server to take note that a viewer let go of its keys.
const RELEASE_DEADLINE: Duration = Duration::from_secs(1);

/// How to serve a viewer.
#[derive(Debug, Clone)]
pub struct RelayOptions {
    /// What the viewer may do.
    pub access: Access,
    /// The desktop's name that the viewer sees; the server's own is not passed on.
    pub desktop_name: String,
    /// For the viewer's whole handshake.
    pub handshake_deadline: Duration,
    /// For the viewer to take one chunk of at most 64 KiB.
    pub send_deadline: Duration,
    /// For the server's whole handshake, and for it to take what a viewer sends.
    pub upstream_deadline: Duration,
}

/// Why a relay ended.
#[derive(Debug)]
pub enum RelayEnd {
    /// The viewer closed, or its connection broke.
    ViewerLeft,
    /// It broke the protocol.
    ViewerMisbehaved(Misbehaviour),
    /// It did not finish the handshake or take a chunk in time.
    ViewerTooSlow,
    /// The server could not be reached, or stopped reading.
    UpstreamUnreachable(UpstreamError),
    /// The server closed.
    UpstreamEnded,
    /// The server is not one that we can use.
    UpstreamProtocol(ServerHandshakeError),
}

/// How a viewer broke the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misbehaviour {
    /// Before ClientInit.
    #[error("bad handshake")]
    Handshake(#[source] ViewerHandshakeError),
    /// After it.
    #[error("bad message")]
    Message(#[source] DecodeError),
}

/// Serves one viewer until either side ends. `tx` and `rx` carry the payloads of its binary messages; they stay the
/// caller's, so that it can close them with a code that fits the end.
///
/// Whatever the end, keys and buttons that the viewer held are released at the server before this returns. To end it
/// from outside, let `rx` end (`rx.take_until(..)`): a dropped future releases nothing.
pub async fn run<Tx, Rx, E>(
    tx: &mut Tx,
    rx: &mut Rx,
    address: &RfbAddress,
    options: &RelayOptions,
    activity: &Activity,
) -> RelayEnd
where
    Tx: Sink<Bytes, Error = E> + Unpin + Send,
    Rx: Stream<Item = Result<Bytes, E>> + Unpin + Send,
    E: Error + Send,
{
    let (mut upstream, init, early) = match timeout(options.upstream_deadline, upstream::open(address)).await
    {
        Ok(Ok(opened)) => opened,
        Ok(Err(UpstreamError::Handshake(error))) => return RelayEnd::UpstreamProtocol(error),
        Ok(Err(error)) => return RelayEnd::UpstreamUnreachable(error),
        Err(_) => return RelayEnd::UpstreamUnreachable(UpstreamError::Timeout(options.upstream_deadline)),
    };
    let greeted = timeout(options.handshake_deadline, greet(tx, rx, &init, &options.desktop_name)).await;
    let input = match greeted {
        Ok(Ok(input)) => input,
        Ok(Err(end)) => return end,
        Err(_) => return RelayEnd::ViewerTooSlow,
    };
    let mut pump = Pump {
        upstream: &mut upstream,
        activity,
        send_deadline: options.send_deadline,
        upstream_deadline: options.upstream_deadline,
        skimmer: Skimmer::new(&init),
        up: Up::new(ViewerFilter::new(options.access), input),
        down: Down::new(early),
    };
    let end = pump.run(tx, rx).await;
    let farewell = pump.up.farewell(&pump.skimmer);
    let_go(upstream, &farewell, options.upstream_deadline.min(RELEASE_DEADLINE)).await;
    end
}

/// The viewer's handshake up to and with ServerInit; gives what the viewer sent behind it.
pub(super) async fn greet<Tx, Rx, E>(
    tx: &mut Tx,
    rx: &mut Rx,
    init: &ServerInit,
    name: &str,
) -> Result<Bytes, RelayEnd>
where
    Tx: Sink<Bytes, Error = E> + Unpin + Send,
    Rx: Stream<Item = Result<Bytes, E>> + Unpin + Send,
    E: Error + Send,
{
    send(tx, Bytes::from_static(&GREETING)).await?;
    let mut handshake = ViewerHandshake::new();
    loop {
        let received = match rx.next().await {
            Some(Ok(received)) => received,
            Some(Err(error)) => return Err(broken(&error)),
            None => return Err(RelayEnd::ViewerLeft),
        };
        let (mut input, mut out) = (&received[..], Vec::new());
        let done = handshake.handle_input(&mut input, &mut out);
        if matches!(done, Ok(true)) {
            out.extend(server_message::server_init(init, name));
        }
        if !out.is_empty() {
            send(tx, out.into()).await?;
        }
        match done {
            Ok(true) => return Ok(received.slice_ref(input)),
            Ok(false) => {}
            Err(error) => return Err(RelayEnd::ViewerMisbehaved(Misbehaviour::Handshake(error))),
        }
    }
}

async fn send<Tx, E>(tx: &mut Tx, bytes: Bytes) -> Result<(), RelayEnd>
where
    Tx: Sink<Bytes, Error = E> + Unpin + Send,
    E: Error + Send,
{
    tx.send(bytes).await.map_err(|error| broken(&error))
}

fn broken(error: &dyn Error) -> RelayEnd {
    debug!(error = %chain(error), "the viewer's connection broke");
    RelayEnd::ViewerLeft
}

async fn let_go(upstream: Upstream, farewell: &[u8], deadline: Duration) {
    if farewell.is_empty() {
        return;
    }
    if let Err(error) = upstream.finish(farewell, deadline).await {
        debug!(error = %chain(&error), "a viewer's keys may not have been released");
    }
}
