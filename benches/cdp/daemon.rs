//! The daemon as it is measured here: with a browser, reached through its gateway and past it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use serde_json::Value;

use crate::Outcome;
use crate::client::Client;
use crate::support::daemon::{self, address, get};
use crate::token::token;

/// No pings: nobody reads a way while it is not its turn.
const CONFIGURATION: &str = r#"
    [session]
    id = "s1"
    [gateway.limits]
    ping_interval = "5m"
    [log]
    level = "info"
"#;

/// A running daemon, with one session.
pub(crate) struct Daemon {
    gateway: SocketAddr,
    port: u16,
    _running: daemon::Daemon,
}

impl Daemon {
    /// Starts it and waits until its browser is up. `own_contexts_only`: with the setting of that name.
    pub(crate) fn start(own_contexts_only: bool) -> Outcome<Self> {
        let contexts = format!("[cdp]\nown_contexts_only = {own_contexts_only}");
        let mut running = daemon::Daemon::start(&format!("{CONFIGURATION}{contexts}"))?;
        let gateway = address(&running.listening("gateway")?)?;
        let port = port(&get(address(&running.listening("api")?)?, "/health")?)?;
        Ok(Self { gateway, port, _running: running })
    }

    /// Straight to the browser.
    pub(crate) fn direct(&self) -> Outcome<Client> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let answer = get(address, "/json/version")?;
        let body = answer.split_once("\r\n\r\n").ok_or("no answer from DevTools")?.1;
        let version: Value = serde_json::from_str(body)?;
        let url = version["webSocketDebuggerUrl"].as_str().ok_or("no address")?;
        let path = url.find("/devtools").and_then(|at| url.get(at..)).ok_or("no path")?;
        Client::connect(address, path, None)
    }

    /// Through the gateway.
    pub(crate) fn proxied(&self, role: &str) -> Outcome<Client> {
        Client::connect(self.gateway, "/sessions/s1/cdp", Some(&token("s1", role)?))
    }
}

/// The port on the command line, which Chromium writes anew with blanks, of the browser that `/health` names.
fn port(health: &str) -> Outcome<u16> {
    let body = health.split_once("\r\n\r\n").ok_or("no health")?.1;
    let health: Value = serde_json::from_str(body)?;
    let components = health["components"].as_array().ok_or("no components")?;
    let browser = components.iter().find(|part| part["name"] == "browser").ok_or("no browser")?;
    let line = fs::read_to_string(format!("/proc/{}/cmdline", browser["pid"]))?;
    let port = line.split(['\0', ' ']).find_map(|arg| arg.strip_prefix("--remote-debugging-port="));
    Ok(port.ok_or("the browser has no port")?.parse()?)
}
