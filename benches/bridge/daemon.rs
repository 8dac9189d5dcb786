//! The daemon as it is measured here, with one session.

use std::net::SocketAddr;

use crate::Outcome;
use crate::client::Door;
use crate::procstat::Tree;
use crate::support::daemon::{self, Daemon};
use crate::token::token;

const SESSION: &str = "s1";

/// Where the picture comes from.
pub(crate) enum Picture {
    /// The bench's own server.
    External(SocketAddr),
    /// A display of the daemon's own, without a browser.
    X11vnc,
}

/// Starts it and waits until it says that it is ready.
pub(crate) fn start(picture: &Picture) -> Outcome<Daemon> {
    Daemon::start(&configuration(picture))
}

/// How a viewer with a good token gets in.
pub(crate) fn door(daemon: &mut Daemon) -> Outcome<Door> {
    Ok(Door::WebSocket {
        address: daemon::address(&daemon.listening("gateway")?)?,
        path: format!("/sessions/{SESSION}/vnc"),
        protocols: format!("binary, jwt.{}", token(SESSION, "controller")?),
    })
}

pub(crate) fn tree(daemon: &Daemon) -> Tree {
    Tree { root: daemon.process.pid() }
}

/// The limits are out of the way: 50 viewers from one address would be refused otherwise.
fn configuration(picture: &Picture) -> String {
    let rfb = match picture {
        Picture::External(address) => format!(r#"{{ address = "tcp:{address}" }}"#),
        Picture::X11vnc => "\"x11vnc\"".to_owned(),
    };
    format!(
        r#"
        [session]
        id = "{SESSION}"
        [display]
        rfb = {rfb}
        [browser]
        enabled = false
        [gateway.limits]
        max_connections = 8192
        max_connections_per_address = 8192
        max_unauthenticated = 8192
        max_viewers_per_session = 1000
        [log]
        level = "info"
        "#
    )
}
